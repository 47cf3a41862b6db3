"""From the outputs of a network to the parameters of a mixture for each row, and back.

Letters in shapes: N rows, K components, D dimensions, P outputs of the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from gmm_np.checks import FloatArray, as_float64, check_axes, check_choice, check_finite
from gmm_np.covariance import FAMILIES
from gmm_np.linalg.factors import pack_triangles, triangle_places, unpack_triangles
from gmm_np.mdn.row_mixtures import FAMILIES_OF_ROWS
from gmm_np.parameters import Gradients, RowParameters

__all__ = ["MixtureHead"]

POSITIVE: Final = ("softplus", "exp")


@dataclass(frozen=True)
class MixtureHead:
    """The last layer of a mixture density network: outputs [N, P] become a mixture for each row.

    In the order of the outputs: K logits, K D means component by component, and for each component
    what its scale is made of. That is one number for "spherical", D for "diag", and for "full" the
    lower triangle of the factor row by row, D (D + 1) / 2. Standard deviations, and diagonals of
    factors, go through a function that makes them positive; all else stays as it is.

    Parameters
    ----------
    n_components : int
        K.
    n_features : int
        D.
    family : {"full", "diag", "spherical"}
    positive : {"softplus", "exp"}
        log(1 + e^u), which grows no faster than what it is given, or e^u.
    floor : float
        Added to what is positive: the least standard deviation, in the unit of x. Without one the
        likelihood has no bound where a component may shrink to a sample.

    Raises
    ------
    ValueError
        If a number is too small, or an option is unknown.

    References
    ----------
    .. [1] Bishop, C. M. (1994). Mixture density networks. Technical report NCRG/94/004, Aston
       University. It has "exp" and "spherical".

    Examples
    --------
    >>> import numpy as np
    >>> from gmm_np.mdn import MixtureHead
    >>> head = MixtureHead(2, 1, family="spherical", positive="exp")
    >>> head.n_outputs
    6
    >>> head.forward(np.zeros((1, 6))).scale.tolist()
    [[1.0, 1.0]]
    """

    n_components: int
    n_features: int
    family: str = "full"
    positive: str = "softplus"
    floor: float = 0.0

    def __post_init__(self) -> None:
        check_choice("family", self.family, FAMILIES_OF_ROWS)
        check_choice("positive", self.positive, POSITIVE)
        if self.n_components < 1 or self.n_features < 1 or not 0 <= self.floor < np.inf:
            raise ValueError(
                "MixtureHead needs n_components >= 1, n_features >= 1 and a finite floor >= 0; got "
                f"{self.n_components}, {self.n_features} and {self.floor}."
            )

    @property
    def n_outputs(self) -> int:
        """P, how many numbers a row of outputs has."""
        n_scale = FAMILIES[self.family].n_free(self.n_components, self.n_features)
        return self.n_components * (1 + self.n_features) + n_scale

    def forward(self, outputs: ArrayLike) -> RowParameters:
        """Return the parameters that outputs [N, P] stand for.

        Raises
        ------
        TypeError, ValueError
            If the outputs are not finite numbers of this shape.
        """
        logits, means, raw = self._split(self._check("outputs", outputs))
        if FAMILIES[self.family].has_factors:
            scale = unpack_triangles(raw, self.n_features)  # [N, K, D, D]
            diagonal = np.einsum("nkii->nki", scale)  # a view
            diagonal[...] = self._make_positive(diagonal)
            return RowParameters(logits, means, scale)
        scale = self._make_positive(raw)  # [N, K, D], or [N, K, 1]
        return RowParameters(logits, means, scale.reshape(len(raw), *self._scale_shape))

    def backward(self, outputs: ArrayLike, gradients: Gradients) -> FloatArray:
        """Return the gradient in the outputs [N, P], from those in the parameters.

        Parameters
        ----------
        outputs : array_like, shape [N, P]
            Those of the forward.
        gradients : Gradients
            Of `nll_value_and_grad` at what the forward returned.

        Raises
        ------
        TypeError, ValueError
            If the outputs are not finite numbers of this shape.
        """
        own = self._check("outputs", outputs)
        _, _, raw = self._split(own)
        d_logits, d_means, d_scale, _ = (
            None if g is None else np.asarray(g, np.float64) for g in gradients
        )
        assert d_logits is not None
        assert d_means is not None
        assert d_scale is not None
        if FAMILIES[self.family].has_factors:
            d_raw = pack_triangles(d_scale)  # [N, K, D (D + 1) / 2]
            rows, columns = triangle_places(self.n_features)
            on_diagonal = rows == columns
            d_raw[..., on_diagonal] *= self._slope(raw[..., on_diagonal])
        else:
            d_raw = d_scale.reshape(raw.shape) * self._slope(raw)
        blocks = [d_logits, d_means, d_raw]
        return np.concatenate([block.reshape(len(own), -1) for block in blocks], axis=1)

    def _make_positive(self, raw: FloatArray) -> FloatArray:
        """Return s(u), in the forward of the scale."""
        with np.errstate(over="ignore", under="ignore"):  # the loss says where it is no deviation
            grown = np.exp(raw) if self.positive == "exp" else np.logaddexp(0.0, raw)
        return np.asarray(grown + self.floor)

    def _slope(self, raw: FloatArray) -> FloatArray:
        """Return s'(u), by which the backward multiplies: e^u, or 1 / (1 + e^-u) for softplus."""
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.exp(raw) if self.positive == "exp" else expit(raw))

    @property
    def _scale_shape(self) -> tuple[int, ...]:
        return FAMILIES[self.family].shape(self.n_components, self.n_features)

    def _split(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return logits [N, K], means [N, K, D], and what each scale is made of, [N, K, ...]."""
        k, d = self.n_components, self.n_features
        logits, means, raw = np.split(outputs, [k, k + k * d], axis=1)
        return logits, means.reshape(-1, k, d), raw.reshape(len(raw), k, -1)

    def _check(self, name: str, outputs: ArrayLike) -> FloatArray:
        axes = ("row", "output")
        array = as_float64(name, outputs, axes)
        check_axes(name, array, "[N, P]", "Give one row of outputs for each row of x.")
        if array.shape[1] != self.n_outputs:
            raise ValueError(
                f"{name} must have shape [N, {self.n_outputs}] for {self.n_components} components "
                f'in {self.n_features} dimensions of family "{self.family}"; got {array.shape}. '
                "Give the last layer n_outputs units."
            )
        check_finite(name, array, "Lower the rate of learning, or clip the gradients.", axes)
        return array
