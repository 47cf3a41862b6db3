"""The loss of data that stay, as a function of a mixture: what one's own optimiser minimises.

Letters in shapes: N samples, K components, D dimensions, V length of the vector.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias, overload

from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray, as_float64, as_scalar_reduction, check_choice
from gmm_np.covariance import FAMILIES
from gmm_np.estep import METHODS
from gmm_np.likelihood import checked_value_and_grad
from gmm_np.parameters import Gradients, Parameters
from gmm_np.parametrizations import LogCholesky, Parametrization
from gmm_np.second_order import hvp
from gmm_np.solvers.results import Data
from gmm_np.sufficient_statistics import Statistics, gradients

Point: TypeAlias = "Parameters | ArrayLike"


class Objective:
    """Negative log-likelihood of given data, to be evaluated at many mixtures.

    The data are checked, made float64 and turned once, and must not change from then on. Each
    method takes `Parameters`, or a vector without constraints, equation (29), and answers in kind,
    so that it can be handed to `scipy.optimize.minimize` as it is. A pass over the data gives both
    value and gradient, which are kept until they are asked for at another place.

    Parameters
    ----------
    x : array_like, shape [N, D], or iterable of such blocks of rows
        An iterable must be one that can be read again and again. Dask's data stay where they are.
    family : {"full", "tied", "diag", "tied_diag", "spherical", "shared_spherical", "constant"}
        Covariance family.
    sample_weight : array_like, shape [N], or iterable of arrays, one a block, optional
    reduction : {"mean", "sum"}
        Weighted mean over samples (the default), or weighted sum.
    method : {"auto", "direct", "moments"}
        Kernel, as for `gmm_np.nll`.
    parametrization : Parametrization, or a class of them
        What a vector stands for: logits, means and Cholesky factors with logarithms of their
        diagonals by default. Family "constant" needs one that has its factors.
    missing : {"error", "marginal"}
        What NaN in x is, as for `gmm_np.nll`.

    Attributes
    ----------
    n_features : int
        D.

    Raises
    ------
    TypeError, ValueError
        As `gmm_np.nll` does; for arrays here, and for streams in the first pass.

    See Also
    --------
    gmm_np.solvers.fit_lbfgs, gmm_np.solvers.fit_newton : Fits that are ready made.

    Examples
    --------
    >>> from scipy.optimize import minimize
    >>> import gmm_np
    >>> objective = gmm_np.Objective([[0.0], [1.0], [4.0], [6.0]], family="diag")
    >>> start = objective.pack(gmm_np.Parameters([0.0], [[1.0]], [[1.0]], "diag"))
    >>> found = minimize(objective.value_and_grad, start, jac=True, hessp=objective.hvp,
    ...                  method="trust-ncg")
    >>> objective.unpack(found.x).means.round(6).tolist()
    [[2.75]]
    """

    def __init__(
        self,
        x: ArrayLike | Iterable[Any],
        *,
        family: str = "full",
        sample_weight: ArrayLike | Iterable[Any] | None = None,
        reduction: str = "mean",
        method: str = "auto",
        parametrization: type[Parametrization] | Parametrization = LogCholesky,
        missing: str = "error",
    ) -> None:
        check_choice("family", family, tuple(FAMILIES))
        check_choice("method", method, METHODS)
        self.family, self.method, self.parametrization = family, method, parametrization
        self.mean = as_scalar_reduction(reduction) == "mean"
        self._latest: Parametrization | None = None
        self._evaluated: tuple[Parameters, float, Gradients] | None = None
        self.data = Data(x, sample_weight, missing=missing)
        self.n_features = self.data.n_features()
        if isinstance(parametrization, Parametrization):
            given = (parametrization.family, parametrization.n_features)
            if given != (family, self.n_features):
                raise ValueError(
                    f"parametrization is for family {given[0]!r} and D = {given[1]}, but family "
                    f"is {family!r} and x has D = {self.n_features}. Make it with of(parameters)."
                )
        elif not FAMILIES[family].learned:
            raise ValueError(
                f'family="{family}" has its factors fixed, and not in a vector. Give '
                "parametrization=LogCholesky.of(parameters), which holds them."
            )

    def pack(self, parameters: Parameters) -> FloatArray:
        """Return the vector [V] of parameters.

        Raises
        ------
        ValueError
            As `Parametrization.pack` does.
        """
        self._check(parameters)
        return self._space_of(parameters).pack(parameters)

    def unpack(self, vector: ArrayLike) -> Parameters:
        """Return the parameters of a vector [V]; K is told by its length.

        Raises
        ------
        TypeError, ValueError
            As `Parametrization.unpack` does, or if no K has vectors of this length.
        """
        array = as_float64("vector", vector)
        if self._latest is None or self._latest.size != array.size:
            return self._space(self._n_components(array.size)).unpack(array)
        return self._latest.unpack(array)

    def value(self, at: Point) -> float:
        """Return the loss, equation (11), in nats."""
        return self._evaluate(self._parameters(at))[0]

    __call__ = value

    @overload
    def value_and_grad(self, at: Parameters) -> tuple[float, Gradients]: ...
    @overload
    def value_and_grad(self, at: ArrayLike) -> tuple[float, FloatArray]: ...
    def value_and_grad(self, at: Point) -> tuple[float, Gradients | FloatArray]:
        """Return the loss in nats and its gradient: (3), (16), (22), (23).

        Parameters
        ----------
        at : Parameters, or array_like of shape [V]

        Returns
        -------
        value : float
        gradient : Gradients at Parameters, ndarray [V] at a vector

        Raises
        ------
        TypeError, ValueError
            If `at` can be no such mixture; a vector's message names its entry.
        """
        parameters = self._parameters(at)
        value, found = self._evaluate(parameters)
        if parameters is at:
            return value, found
        return value, self._space_of(parameters).pullback(parameters, found)

    @overload
    def hvp(self, at: Parameters, direction: Gradients) -> Gradients: ...
    @overload
    def hvp(self, at: ArrayLike, direction: ArrayLike) -> FloatArray: ...
    def hvp(self, at: Point, direction: Gradients | ArrayLike) -> Gradients | FloatArray:
        """Return the Hessian's product with a direction, equations (66) and (67).

        Parameters
        ----------
        at : Parameters, or array_like of shape [V]
        direction : Gradients at Parameters, array_like of shape [V] at a vector

        Returns
        -------
        product : Gradients, or ndarray of shape [V]

        Raises
        ------
        TypeError, ValueError
            As `value_and_grad` does, and if the direction has another shape.
        OverflowError
            If the product is beyond the range of a double.
        """
        parameters = self._parameters(at)
        if parameters is at:
            return self._product(parameters, direction)  # type: ignore[arg-type]  # checked there
        space = self._space_of(parameters)
        moved = space.pushforward(parameters, direction)  # type: ignore[arg-type]  # likewise
        product = space.pullback(parameters, self._product(parameters, moved))
        _, gradient = self._evaluate(parameters)
        return product + space.pullback_tangent(parameters, gradient, moved)

    def hessian(self, at: Point) -> FloatArray:
        """Return the Hessian [V, V], equation (65).

        Parameters
        ----------
        at : Parameters, or array_like of shape [V]
            At Parameters it is in the order of `gmm_np.nll_hessian`, at a vector in its entries.

        Raises
        ------
        TypeError, ValueError, OverflowError
            As `hvp` does.
        """
        parameters = self._parameters(at)
        found = self.data.information(parameters)
        matrix = found.hessian / (found.weight if self.mean else 1.0)
        if parameters is at:
            return matrix
        _, gradient = self._evaluate(parameters)
        return self._space_of(parameters).pull_hessian(parameters, gradient, matrix)

    def statistics(self, at: Point) -> Statistics:
        """Return the sufficient statistics, equation (25): of a gradient, and of a step of EM."""
        return self.data.statistics(self._parameters(at), self.method)

    def _evaluate(self, parameters: Parameters) -> tuple[float, Gradients]:
        """Return value and gradient; what is returned may be written to."""
        known = self._evaluated
        if known is None or not known[0].equals(parameters):
            known = self._evaluated = (parameters, *self._pass(parameters))
        _, value, found = known
        scale = None if found.scale is None else found.scale.copy()
        return value, Gradients(found.pi_logits.copy(), found.means.copy(), scale)

    def _pass(self, parameters: Parameters) -> tuple[float, Gradients]:
        data = self.data
        if data.is_array and data.missing == "error":
            return checked_value_and_grad(
                data.x, data.weight, parameters, mean=self.mean, method=self.method, finite=True
            )
        found = data.statistics(parameters, self.method)
        total = found.weight if self.mean else 1.0
        reduction = "mean" if self.mean else "sum"
        return found.loss / total, gradients(parameters, found, reduction=reduction)

    def _product(self, parameters: Parameters, direction: Gradients) -> Gradients:
        found = self.data.tangent_statistics(parameters, direction)
        return hvp(parameters, found, reduction="mean" if self.mean else "sum")

    def _parameters(self, at: Point) -> Parameters:
        if not isinstance(at, Parameters):
            return self.unpack(at)
        self._check(at)
        return at

    def _check(self, parameters: Parameters) -> None:
        found = (parameters.family, parameters.n_features)
        if found != (self.family, self.n_features):
            raise ValueError(
                f"parameters are of family {found[0]!r} with D = {found[1]}, but this objective is "
                f"for family {self.family!r} and D = {self.n_features}."
            )

    def _space_of(self, parameters: Parameters) -> Parametrization:
        """Return what a vector of so many components stands for."""
        return self._space(parameters.n_components)

    def _space(self, n_components: int) -> Parametrization:
        if isinstance(self.parametrization, Parametrization):
            return self.parametrization
        if self._latest is None or self._latest.n_components != n_components:
            self._latest = self.parametrization(n_components, self.n_features, self.family)
        return self._latest

    def _n_components(self, size: int) -> int:
        """Return the K whose vectors have this length."""
        if isinstance(self.parametrization, Parametrization):
            return self.parametrization.n_components
        one, two = (self.parametrization(k, self.n_features, self.family).size for k in (1, 2))
        each = two - one
        n_components, rest = divmod(size - (one - each), each)
        if n_components < 1 or rest:
            raise ValueError(
                f"vector must have {one} + {each} (K - 1) entries for family {self.family!r} and "
                f"D = {self.n_features}; got {size}."
            )
        return n_components
