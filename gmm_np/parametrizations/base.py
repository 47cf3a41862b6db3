"""What every parametrization has in common: the layout of the vector, and the checks.

Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray, as_float64, check_choice, check_finite, is_finite
from gmm_np.covariance import FAMILIES, Family
from gmm_np.parameters import Gradients, Parameters

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class Parametrization(ABC):
    """A flat vector in place of the parameters of a mixture.

    The vector holds the logits [K], then the means [K, D] row by row, then what stands for the
    scale, which the subclasses differ in. Family "constant" has nothing there: its factors are
    given once and are not in the vector.

    Parameters
    ----------
    n_components, n_features : int
        K and D.
    family : str
        Covariance family.
    factors : array_like, shape [K, D, D], optional
        The fixed Cholesky factors of family "constant"; for no other.

    Raises
    ------
    TypeError, ValueError
        If the family is unknown, K or D is less than 1, or the factors are missing, not what
        `Parameters` takes, or given to another family.
    """

    n_components: int
    n_features: int
    family: str = "full"
    factors: ArrayLike | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_choice("family", self.family, tuple(FAMILIES))
        if self.n_components < 1 or self.n_features < 1:
            raise ValueError(
                f"n_components and n_features must be at least 1; got {self.n_components} and "
                f"{self.n_features}."
            )
        if self._form.learned:
            if self.factors is not None:
                fixed = [f'"{name}"' for name, form in FAMILIES.items() if not form.learned]
                raise ValueError(
                    f"factors are for family={' or '.join(fixed)}; family={self.family!r} has its "
                    "scale in the vector. Leave them out."
                )
            return
        if self.factors is None:
            raise ValueError(
                f'family="{self.family}" has its factors fixed, and not in the vector. Give them '
                "as factors=, or make the parametrization of existing parameters with "
                "of(parameters)."
            )
        shape = (self.n_components, self.n_features)
        checked = Parameters(np.zeros(shape[0]), np.zeros(shape), self.factors, self.family)
        object.__setattr__(self, "factors", checked.scale)

    @classmethod
    def of(cls, parameters: Parameters) -> Self:
        """Return the parametrization for parameters of this shape and family."""
        k, d = parameters.means.shape
        learned = FAMILIES[parameters.family].learned
        return cls(k, d, parameters.family, None if learned else parameters.scale)

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.n_components * (1 + self.n_features) + self._size_of_scale()

    def pack(self, parameters: Parameters) -> FloatArray:
        """Return the vector [size] of `parameters`.

        Raises
        ------
        ValueError
            If their shape, family or fixed factors are others; if a component is off: a logit of
            -inf is no point of an unconstrained space, leave the component out instead; or if
            what stands for the scale is beyond the range of a double.
        """
        self._check(parameters)
        off = np.flatnonzero(np.isneginf(parameters.pi_logits))
        if len(off):
            raise ValueError(
                f"parameters have a logit of -inf at component {off[0]}, which no finite vector "
                "holds. Leave this component out."
            )
        if self._form.learned:
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                scale = self._pack_scale(parameters.scale.astype(np.float64))
            if not is_finite(scale):
                raise ValueError(
                    "parameters have a scale whose place in the vector is beyond the range of a "
                    "double: its square or its inverse overflows. Rescale the data."
                )
        elif np.array_equal(parameters.scale, np.asarray(self.factors)):
            scale = np.empty(0)
        else:
            raise ValueError(
                "parameters have other factors than the fixed ones of this parametrization, which "
                "the vector does not hold. Make one with of(parameters)."
            )
        return np.concatenate(
            [parameters.pi_logits, parameters.means.ravel(), scale], dtype=np.float64
        )

    def unpack(self, vector: ArrayLike) -> Parameters:
        """Return the parameters of `vector`.

        Parameters
        ----------
        vector : array_like, shape [size]

        Raises
        ------
        TypeError
            If it is not made of real numbers.
        ValueError
            If its length is not `size`, a value is not finite, or the scale that it stands for is
            none: a diagonal that is not positive or leaves the range of a double.
        """
        array = as_float64("vector", vector)
        k, d = self.n_components, self.n_features
        if array.shape != (self.size,):
            raise ValueError(
                f"vector must have shape {(self.size,)} for family {self.family!r}, K = {k} and "
                f"D = {d}; got {array.shape}."
            )
        check_finite("vector", array, "Look at the step that computed it.", ("entry",))
        logits, means, rest = array[:k], array[k : k + k * d].reshape(k, d), array[k + k * d :]
        if not self._form.learned:
            assert self.factors is not None  # checked when it was made
            return Parameters(logits, means, self.factors, self.family)
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            scale = self._unpack_scale(rest)
        return Parameters(logits, means, scale, self.family)

    def pullback(self, parameters: Parameters, gradients: Gradients) -> FloatArray:
        """Return the gradient [size] with respect to the vector of `parameters`.

        Parameters
        ----------
        parameters : Parameters
            Those of the vector, as `unpack` gives them.
        gradients : Gradients
            Of a scalar, with respect to these parameters.

        Raises
        ------
        ValueError
            If the shape or the family of the parameters is another.
        """
        self._check(parameters)
        blocks = [gradients.pi_logits, gradients.means.ravel()]
        if self._form.learned:
            assert gradients.scale is not None  # it is learned
            scale = parameters.scale.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                blocks.append(self._pull_scale(scale, gradients.scale.astype(np.float64)))
        return np.concatenate(blocks, dtype=np.float64)

    def pushforward(self, parameters: Parameters, direction: ArrayLike) -> Gradients:
        """Return how fast the parameters move with the vector: the tangent of `unpack`.

        Parameters
        ----------
        parameters : Parameters
            Those of the vector, as `unpack` gives them.
        direction : array_like, shape [size]
            How fast the vector moves.

        Returns
        -------
        Gradients
            In float64; as `gmm_np.nll_hvp` takes a direction.

        Raises
        ------
        TypeError, ValueError
            If the shape or the family of the parameters is another, or that of the direction.
        """
        self._check(parameters)
        array = as_float64("direction", direction)
        if array.shape != (self.size,):
            raise ValueError(f"direction must have shape {(self.size,)}; got {array.shape}.")
        k, d = self.n_components, self.n_features
        logits, means = array[:k], array[k : k + k * d].reshape(k, d)
        if not self._form.learned:
            return Gradients(logits, means, None)
        scale = parameters.scale.astype(np.float64)
        return Gradients(logits, means, self._push_scale(scale, array[k + k * d :]))

    def pullback_tangent(
        self, parameters: Parameters, gradients: Gradients, direction: Gradients
    ) -> FloatArray:
        """Return the tangent [size] of `pullback` where the parameters move, and gradients do not.

        With the pullback of a Hessian-vector product it makes that in the vector.

        Parameters
        ----------
        parameters : Parameters
        gradients : Gradients
            As for `pullback`.
        direction : Gradients
            From `pushforward`.

        Raises
        ------
        ValueError
            As `pullback` does.
        """
        self._check(parameters)
        moved = np.zeros(self.size)
        if self._form.learned:
            scale = parameters.scale.astype(np.float64)
            d_scale, dot_scale = (np.asarray(g.scale, np.float64) for g in (gradients, direction))
            k, d = self.n_components, self.n_features
            moved[k + k * d :] = self._pull_scale_tangent(scale, d_scale, dot_scale)
        return moved

    def pull_hessian(
        self, parameters: Parameters, gradients: Gradients, hessian: ArrayLike
    ) -> FloatArray:
        """Return the Hessian [size, size] with respect to the vector of `parameters`.

        Parameters
        ----------
        parameters : Parameters
        gradients : Gradients
            As for `pullback`.
        hessian : array_like, shape [V, V]
            Of the same scalar, in the order of `Cholesky`: from `gmm_np.nll_hessian`.

        Raises
        ------
        TypeError, ValueError
            As `pullback` does; or if the Hessian has another shape.
        """
        from gmm_np.parametrizations.cholesky import Cholesky  # which is one of these

        plain = Cholesky.of(parameters)
        matrix = as_float64("hessian", hessian)
        if matrix.shape != (plain.size, plain.size):
            raise ValueError(
                f"hessian must have shape {(plain.size, plain.size)}, as gmm_np.nll_hessian gives "
                f"it at these parameters; got {matrix.shape}."
            )
        directions = [self.pushforward(parameters, unit) for unit in np.eye(self.size)]
        columns = np.stack([plain.pullback(parameters, direction) for direction in directions])
        found = np.empty((self.size, self.size))
        for own, product, direction in zip(found, columns @ matrix, directions, strict=True):
            own[...] = self.pullback(parameters, plain.pushforward(parameters, product))
            own += self.pullback_tangent(parameters, gradients, direction)
        return np.asarray(0.5 * (found + found.T))

    def _check(self, parameters: Parameters) -> None:
        shape = (self.n_components, self.n_features)
        if parameters.means.shape != shape:
            raise ValueError(
                f"parameters have means of shape {parameters.means.shape}; this parametrization "
                f"is for [K, D] = {shape}."
            )
        if parameters.family != self.family:
            raise ValueError(
                f"parameters are of family {parameters.family!r}; this parametrization is for "
                f"{self.family!r}."
            )

    @property
    def _form(self) -> Family:
        return FAMILIES[self.family]

    @property
    def _scale_shape(self) -> tuple[int, ...]:
        return self._form.shape(self.n_components, self.n_features)

    @abstractmethod
    def _size_of_scale(self) -> int:
        """Return how many entries of the vector stand for the scale."""

    @abstractmethod
    def _pack_scale(self, scale: FloatArray) -> FloatArray:
        """Return what stands for `scale` in the vector."""

    @abstractmethod
    def _unpack_scale(self, entries: FloatArray) -> FloatArray:
        """Return the scale from what stands for it, unchecked."""

    @abstractmethod
    def _pull_scale(self, scale: FloatArray, d_scale: FloatArray) -> FloatArray:
        """Return the gradient with respect to what stands for `scale`."""

    @abstractmethod
    def _push_scale(self, scale: FloatArray, entries: FloatArray) -> FloatArray:
        """Return the tangent of `_unpack_scale` at `scale`."""

    @abstractmethod
    def _pull_scale_tangent(
        self, scale: FloatArray, d_scale: FloatArray, dot_scale: FloatArray
    ) -> FloatArray:
        """Return the tangent of `_pull_scale` where `scale` moves, and `d_scale` does not."""
