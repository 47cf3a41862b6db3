"""Standard errors and confidence intervals of a fitted mixture, from its second derivatives.

Letters in shapes: N samples, K components, D dimensions, V entries of the vector of
`gmm_np.parametrizations.Cholesky`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray, check_choice
from gmm_np.covariance import FAMILIES
from gmm_np.hessian import Information
from gmm_np.linalg.triangles import diagonal_of
from gmm_np.parameters import Parameters
from gmm_np.parametrizations import Cholesky
from gmm_np.solvers import CollapseError, fit_em
from gmm_np.solvers.results import Data

__all__ = ["Intervals", "StandardErrors", "standard_errors"]

KINDS: Final = ("hessian", "opg", "sandwich", "bootstrap")
# A point that Newton's method would leave by more than this many standard errors is no optimum.
FAR: Final = 0.1


class Intervals(NamedTuple):
    """Confidence intervals: the last axis has the lower end and the upper one.

    Attributes
    ----------
    weights : ndarray, shape [K, 2]
        Symmetric on the logit scale, so that they stay between 0 and 1.
    means : ndarray, shape [K, D, 2]
    variances : ndarray, shape [K, D, 2]
        Symmetric on the log scale, so that they stay positive; what columns or components share
        stands at each of them.
    correlations : ndarray, shape [K, D, D, 2], or None
        Symmetric on the scale of the inverse hyperbolic tangent; NaN on the diagonal. None for
        families without any.
    """

    weights: FloatArray
    means: FloatArray
    variances: FloatArray
    correlations: FloatArray | None


@dataclass(frozen=True, eq=False)
class StandardErrors:
    """Standard errors of a mixture's parameters, each in the shape of what it is the error of.

    A component that is off has NaN.

    Attributes
    ----------
    kind : str
    parameters : Parameters
        Of which.
    weights : ndarray, shape [K]
    means : ndarray, shape [K, D]
    covariances : ndarray
        Of the covariances, or variances, in the family's shape; zero for "constant".
    correlations : ndarray, shape [K, D, D] or [D, D], or None
        For families with covariances between columns.
    scale : ndarray
        Of Cholesky factors or standard deviations, in the family's shape.
    deviations : ndarray, shape [K, D]
        Of the standard deviation of each column.
    covariance : ndarray, shape [V, V]
        Of the estimates, in the order of ``gmm_np.parametrizations.Cholesky``; that of logits
        whose sum stays what it is.
    """

    kind: str
    parameters: Parameters
    weights: FloatArray
    means: FloatArray
    covariances: FloatArray
    correlations: FloatArray | None
    scale: FloatArray
    deviations: FloatArray
    covariance: FloatArray

    def intervals(self, level: float = 0.95) -> Intervals:
        """Return confidence intervals of this level, by the normal distribution.

        Parameters
        ----------
        level : float
            Between 0 and 1.

        Raises
        ------
        ValueError
            If the level is not.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, as 0.95; got {level!r}.")
        from scipy.special import ndtri

        z = float(ndtri(0.5 + 0.5 * level)) * np.array([-1.0, 1.0])
        p, pi = self.parameters, self.parameters.weights()
        with np.errstate(all="ignore"):
            odds = np.log(pi / (1 - pi))
            share = odds[:, None] + z * (self.weights / (pi * (1 - pi)))[:, None]
            weights = 1 / (1 + np.exp(-share))
            weights[pi == 1.0] = 1.0
            means = p.means.astype(np.float64)[..., None] + z * self.means[..., None]
            matrices = p.covariances()
            variances = diagonal_of(matrices).copy()
            # log of a variance is twice that of its root
            relative = 2 * self.deviations / np.sqrt(variances)
            found = variances[..., None] * np.exp(z * relative[..., None])
            correlations = None
            if self.correlations is not None:
                errors = np.broadcast_to(self.correlations, matrices.shape)
                size = np.sqrt(variances)
                rho = matrices / (size[:, :, None] * size[:, None, :])
                middle, spread = np.arctanh(rho), errors / (1 - rho**2)
                correlations = np.tanh(middle[..., None] + z * spread[..., None])
                correlations[:, np.eye(p.n_features, dtype=bool)] = np.nan
        return Intervals(weights, means, found, correlations)


def standard_errors(
    x: ArrayLike | Iterable[ArrayLike],
    parameters: Parameters,
    *,
    kind: str = "hessian",
    sample_weight: ArrayLike | Iterable[ArrayLike] | None = None,
    missing: str = "error",
    n_bootstrap: int = 200,
    random_state: int | np.random.Generator | None = 0,
    callback: Callable[[int, int], object] | None = None,
) -> StandardErrors:
    """Estimate the standard errors of maximum-likelihood estimates.

    Parameters
    ----------
    x : array_like of shape [N, D], or iterable of such blocks of rows, or Data
        The data that the parameters were fitted to.
    parameters : Parameters
        The maximum of the likelihood: fitted without a floor and without priors, up to some digits.
    kind : {"hessian", "opg", "sandwich", "bootstrap"}
        "hessian" is the inverse of the observed information H, "opg" that of the sum J of outer
        products of scores, "sandwich" H^-1 J H^-1, which alone is right where the model is not.
        "bootstrap" fits anew to data with random weights.
    sample_weight : array_like of shape [N], or iterable of arrays, one a block, optional
        How often each row counts: a weight of 2 is as good as the row twice. Weights that are
        shares of something else are to be divided by their mean.
    missing : {"error", "marginal"}
        As for `gmm_np.nll`. The information is then that of what is seen, which is less.
    n_bootstrap : int
        Fits of "bootstrap".
    random_state : int, numpy.random.Generator or None
        Of "bootstrap"; None for another one each time.
    callback : callable, optional
        Called with how many fits of "bootstrap" are done, and how many there are in all.

    Returns
    -------
    StandardErrors

    Raises
    ------
    TypeError, ValueError
        As `gmm_np.statistics` does; if the kind is unknown; or if the information is not positive
        definite, so that the parameters are no maximum, or the data do not determine them.
    OverflowError
        If a second derivative is beyond the range of a double.

    Warns
    -----
    UserWarning
        If the likelihood is higher elsewhere: Newton's method would go there by more than a tenth
        of a standard error.

    Notes
    -----
    All are of the vector of logits, means and factors, and of everything else by the delta method.
    "bootstrap" draws weights from the standard exponential distribution, for each of as many equal
    rows as a row counts (Newton and Raftery 1994), and climbs by EM from the parameters, so that
    components keep their places.

    Examples
    --------
    >>> import numpy as np
    >>> import gmm_np
    >>> x = np.array([[-1.0], [1.0]])
    >>> errors = gmm_np.standard_errors(x, gmm_np.Parameters([0.0], [[0.0]], [[[1.0]]]))
    >>> errors.means.round(6).tolist(), errors.scale.round(6).tolist()
    ([[0.707107]], [[[0.5]]])
    """
    check_choice("kind", kind, KINDS)
    data = Data.of(x, sample_weight, parameters.n_features, missing=missing)
    free = _free(parameters)  # [V, F]
    if kind == "bootstrap":
        covariance = _bootstrap(data, parameters, n_bootstrap, random_state, callback)
    else:
        found = data.information(parameters)
        covariance = free @ _covariance(kind, found, free, parameters) @ free.T
    return _by_delta_method(kind, parameters, covariance, free)


def _free(parameters: Parameters) -> FloatArray:
    """Return orthonormal directions [V, F] along which the likelihood changes.

    Without the one in which all logits move together, and without components that are off.
    """
    k, d = parameters.means.shape
    layout, family = Cholesky.of(parameters), FAMILIES[parameters.family]
    on = parameters.weights() > 0
    n_on = int(on.sum())
    n_scale = family.n_free(1, d)
    learned = np.repeat(on, n_scale) if family.per_component else np.ones(n_scale, dtype=bool)
    own = np.concatenate([np.zeros(k, dtype=bool), np.repeat(on, d), learned])
    logits = np.zeros((layout.size, n_on - 1))
    if n_on > 1:
        # orthogonal to the vector of ones: what a QR factorisation adds to it
        basis = np.linalg.qr(np.hstack([np.ones((n_on, 1)), np.eye(n_on)[:, 1:]]))[0]
        logits[np.flatnonzero(on)] = basis[:, 1:]
    return np.hstack([logits, np.eye(layout.size)[:, own]])


def _covariance(
    kind: str, found: Information, free: FloatArray, parameters: Parameters
) -> FloatArray:
    """Return the covariance of the estimates along the free directions, [F, F]."""
    hessian, outer = free.T @ found.hessian @ free, free.T @ found.outer @ free
    score = free.T @ found.score
    chosen = outer if kind == "opg" else hessian
    size = np.sqrt(np.abs(np.diagonal(chosen)))
    size[size == 0] = 1.0
    values, vectors = np.linalg.eigh(chosen / np.outer(size, size))
    if not values[0] > len(values) * np.finfo(np.float64).eps * values[-1]:
        vector = free @ (vectors[:, 0] / size)
        raise ValueError(_singular(kind, float(values[0]), vector, free, parameters, found))
    root = vectors / np.sqrt(values) / size[:, None]
    inverse = root @ root.T
    # In standard errors: how far the maximum of the local parabola is.
    distance = float(np.linalg.norm(root.T @ score))
    if distance > FAR:
        warnings.warn(
            "the parameters are not where the likelihood of these data is largest: Newton's method "
            f"would move them by {distance:.2g} standard errors, so that those reported are of "
            "another point. Fit with a smaller tol, without a floor (reg_covar) or prior, to the "
            "same rows; gmm_np.solvers.fit_newton goes to the last digit.",
            UserWarning,
            stacklevel=4,
        )
    return np.asarray(inverse @ outer @ inverse if kind == "sandwich" else inverse)


def _singular(
    kind: str,
    value: float,
    vector: FloatArray,
    free: FloatArray,
    parameters: Parameters,
    found: Information,
) -> str:
    """Say that information is not positive definite, and along what."""
    moved, n_free = Cholesky.of(parameters).pushforward(parameters, vector), free.shape[1]
    entries = [("logit", np.abs(moved.pi_logits)[:, None]), ("mean", np.abs(moved.means))]
    if moved.scale is not None and FAMILIES[parameters.family].per_component:
        entries.append(("scale", np.abs(moved.scale).reshape(len(moved.pi_logits), -1)))
    name, most = max(entries, key=lambda entry: float(entry[1].max()))
    k = int(most.max(axis=1).argmax())
    if kind == "opg":
        return (
            f"the sum of outer products of scores is not positive definite (least eigenvalue "
            f"{value:.2g} of its correlations, most of it the {name} of component {k}): "
            f"{found.weight:.6g} samples do not determine {n_free} parameters. Use "
            'kind="hessian", fewer components, or a simpler family.'
        )
    return (
        f"the observed information is not positive definite (least eigenvalue {value:.2g} of its "
        f"correlations, most of it the {name} of component {k}): the parameters are no maximum of "
        "the likelihood, or the data do not determine them. Fit on with a smaller tol, use fewer "
        "components, or a simpler family. Components are counted from 0."
    )


def _bootstrap(
    data: Data,
    parameters: Parameters,
    n_bootstrap: int,
    random_state: int | np.random.Generator | None,
    callback: Callable[[int, int], object] | None,
) -> FloatArray:
    """Return the covariance [V, V] of the vectors of fits to data with random weights."""
    if n_bootstrap < 2:
        raise ValueError(f"n_bootstrap must be at least 2, better 200; got {n_bootstrap!r}.")
    rng = np.random.default_rng(random_state)
    layout = Cholesky.of(parameters)
    on = parameters.weights() > 0
    k = parameters.n_components
    vectors = np.empty((n_bootstrap, layout.size))
    for index in range(n_bootstrap):
        blocks, weights = [], []
        for rows, weight in data.blocks():
            blocks.append(rows)
            # of w equal rows: a sum of w standard exponentials
            shape = np.ones(len(rows)) if weight is None else weight
            weights.append(rng.standard_gamma(shape))
        single = data.is_array
        weighted = Data(
            blocks[0] if single else blocks,
            weights[0] if single else weights,
            finite=data.finite,
            missing=data.missing,
        )
        try:
            fitted = fit_em(weighted, parameters, tol=1e-8).parameters
        except CollapseError as error:
            raise ValueError(
                f"fit {index} of the bootstrap has no maximum: {error} Use kind='sandwich' here."
            ) from None
        vector = layout.pack(
            Parameters(
                np.where(on, fitted.pi_logits, 0.0), fitted.means, fitted.scale, fitted.family
            )
        )
        # shares alone count: logits with a sum of zero
        vector[:k] -= vector[:k][on].mean()
        vectors[index] = vector
        if callback is not None:
            callback(index + 1, n_bootstrap)
    return np.cov(vectors, rowvar=False).reshape(layout.size, layout.size)


def _by_delta_method(
    kind: str, parameters: Parameters, covariance: FloatArray, free: FloatArray
) -> StandardErrors:
    """Return errors of everything that the vector determines."""
    family, (k, d) = FAMILIES[parameters.family], parameters.means.shape
    pi, n_scale = parameters.weights(), family.n_free(1, d)
    scale = parameters.scale.astype(np.float64)
    # d pi = (diag(pi) - pi pi^T) d a
    slope = np.diag(pi) - np.outer(pi, pi)
    weights = _errors(slope, covariance[:k, :k])
    variances = np.diagonal(covariance)
    means = np.sqrt(variances[k : k + k * d]).reshape(k, d)
    factors = family.expand(scale, k, d)
    n_own = (1 if family.shared else k) * (n_scale > 0)
    deviations, matrices = np.zeros((k, d)), np.zeros((k, d, d))
    correlations, scales = np.zeros((k, d, d)), np.zeros(scale.shape)
    layout = Cholesky.of(parameters)
    for owner in range(n_own):
        start = k + k * d + owner * n_scale
        block = covariance[start : start + n_scale, start : start + n_scale]
        units = np.zeros((n_scale, layout.size))
        units[:, start : start + n_scale] = np.eye(n_scale)
        steps = [layout.pushforward(parameters, unit).scale for unit in units]
        moved = np.stack([family.expand(np.asarray(step), k, d)[owner] for step in steps])
        factor = factors[owner]
        product = moved @ factor.T
        d_matrix = product + product.swapaxes(1, 2)  # [S, D, D]
        matrix = factor @ factor.T
        size = np.sqrt(np.diagonal(matrix))
        d_size = np.einsum("sii->si", d_matrix) / (2 * size)
        rate = d_size / size
        rho = matrix / np.outer(size, size)
        d_rho = d_matrix / np.outer(size, size) - rho * (rate[:, :, None] + rate[:, None, :])
        np.einsum("sii->si", d_rho)[...] = 0.0  # and not what rounding leaves
        own: slice | int = slice(None) if family.shared else owner
        matrices[own] = _errors(d_matrix.reshape(n_scale, -1).T, block).reshape(d, d)
        correlations[own] = _errors(d_rho.reshape(n_scale, -1).T, block).reshape(d, d)
        deviations[own] = _errors(d_size.T, block)
        errors = np.sqrt(np.diagonal(block))
        entries = layout.pushforward(parameters, errors @ units).scale
        if family.shared:
            scales = np.asarray(entries)
        else:
            scales[owner] = np.asarray(entries)[owner]
    determined = (free != 0).any(axis=1)
    off = pi == 0
    weights[off], means[off] = np.nan, np.nan
    if family.per_component:
        for array in (matrices, correlations, deviations, scales):
            array[off] = np.nan
    covariances = _in_shape(matrices, parameters) if family.learned else np.zeros(scale.shape)
    found = np.where(np.outer(determined, determined), covariance, np.nan)
    own_correlations = None
    if family.has_factors:
        own_correlations = correlations[0] if family.shared else correlations
    return StandardErrors(
        kind,
        parameters,
        weights,
        means,
        covariances,
        own_correlations,
        scales,
        deviations,
        found,
    )


def _errors(slope: FloatArray, covariance: FloatArray) -> FloatArray:
    """Return standard errors [M] of what has the slopes [M, S] in estimates of this covariance."""
    square = np.einsum("ms,st,mt->m", slope, covariance, slope)
    return np.asarray(np.sqrt(np.maximum(square, 0.0)))


def _in_shape(matrices: FloatArray, parameters: Parameters) -> FloatArray:
    """Return errors of covariances [K, D, D] in the family's shape."""
    family, structure = FAMILIES[parameters.family], FAMILIES[parameters.family].structure
    own = matrices[0] if family.shared else matrices
    if structure.has_factors:
        return own
    variances = np.einsum("...ii->...i", own)
    return np.array(variances if structure.by_column else variances[..., 0])
