"""Rows with errors of their own: extreme deconvolution (Bovy, Hogg and Roweis 2011).

A row is a draw from the mixture plus normal noise whose covariance S_n is known for that row, so
that its density has Sigma_k + S_n where there is Sigma_k. All that gradients and EM need of the
unknown true values are their conditional moments, which take the place of the rows themselves in
`Statistics` (Fisher's identity): those add, and every solver goes on from there as ever. Equations
(P9) to (P12) are those of docs/parts.md.

Letters in shapes: N rows, B rows of a block, K components, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax

from gmm_np import extended_range, tuning
from gmm_np.checks import (
    FloatArray,
    as_float64,
    as_reduction,
    check_finite,
    check_sample_weight,
    check_x,
    first_of,
)
from gmm_np.covariance import FAMILIES
from gmm_np.covariance.sums import Sums, merge
from gmm_np.likelihood import reduce_loss
from gmm_np.linalg.factors import invert_factors
from gmm_np.parameters import (
    ASYMMETRY,
    Gradients,
    Parameters,
    cast_gradient,
    gradient_dtype,
)
from gmm_np.sufficient_statistics import Statistics, gradients

__all__ = ["check_noise", "log_prob", "nll", "nll_value_and_grad", "statistics"]

LOG_2_PI: Final = math.log(2 * math.pi)
# An eigenvalue of noise may be below zero by so much of the largest entry: rounding.
ROUNDING: Final = 1e-10
_AXES: Final = (("row", "column"), ("row", "row of the covariance", "column"))


# --- a block of rows ----------------------------------------------------------------------------


class Block(NamedTuple):
    """Rows of a block, and what gradients and EM need of them: (P9), (P10).

    Attributes
    ----------
    log_likelihood : ndarray, shape [B]
    resp : ndarray, shape [B, K]
    pulled : ndarray, shape [B, K, D]
        (Sigma_k + S_n)^-1 (x_n - mu_k), the slope of a term in the mean.
    true : ndarray, shape [B, K, D]
        Means of the true values given the row and the component, whitened by the component.
    shrinking : ndarray, shape [B, K, D, D], or [B, K, D]
        H, or its diagonal: H^T H is what the row takes from the component's own unit covariance.
    """

    log_likelihood: FloatArray
    resp: FloatArray
    pulled: FloatArray
    true: FloatArray
    shrinking: FloatArray


class Mixture(NamedTuple):
    """A mixture as the blocks use it; factors [K, D, D], or standard deviations [K, D]."""

    log_pi: FloatArray
    means: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, parameters: Parameters, *, by_column: bool) -> Mixture:
        """Prepare parameters; `by_column` where neither they nor the noise correlate columns."""
        scale, family = parameters.scale.astype(np.float64), FAMILIES[parameters.family]
        if by_column:
            scale = np.broadcast_to(family.structure.deviations(scale), parameters.means.shape)
        else:
            scale = family.expand(scale, *parameters.means.shape)
        logits = parameters.pi_logits.astype(np.float64)
        return cls(log_softmax(logits), parameters.means.astype(np.float64), scale)

    def forward(self, x: FloatArray, noise: FloatArray) -> Block:
        """Log-likelihoods of rows [B, D] with noise [B, D, D] or [B, D], and more."""
        residual = x[:, None] - self.means  # [B, K, D]
        if self.scale.ndim == 2:
            total = np.sqrt(np.square(self.scale) + noise[:, None])  # [B, K, D]
            logs = np.log(total)
            shrinking = self.scale / total
            z = residual / total
            pulled, true = z / total, shrinking * z
        else:
            n_dims = x.shape[1]
            own = self.scale @ self.scale.transpose(0, 2, 1)
            dense = noise[:, :, None] * np.eye(n_dims) if noise.ndim == 2 else noise
            factors = _cholesky(own + dense[:, None])  # [B, K, D, D]  (P9)  F F^T
            logs = np.log(np.diagonal(factors, axis1=2, axis2=3))
            inverse = invert_factors(factors)
            shrinking = inverse @ self.scale  # (P10)  H = F^-1 L
            z = (inverse @ residual[..., None])[..., 0]
            pulled = np.einsum("bkij,bki->bkj", inverse, z)
            true = np.einsum("bkij,bki->bkj", shrinking, z)
        quadratic = np.einsum("bkd,bkd->bk", z, z)
        log_joint = self.log_pi - 0.5 * quadratic - (logs + 0.5 * LOG_2_PI).sum(axis=2)  # (P9)
        log_likelihood, resp = extended_range.logsumexp_forward(log_joint)
        return Block(log_likelihood, resp, pulled, true, shrinking)


def _cholesky(covariances: FloatArray) -> FloatArray:
    try:
        return np.asarray(np.linalg.cholesky(covariances))
    except np.linalg.LinAlgError:
        raise ValueError(
            "noise and a component's covariance do not add up to one that is positive definite in "
            "double precision: beside one of them the other is next to nothing. Give scale a "
            "floor, or noise that is not so nearly singular."
        ) from None


def block_sums(block: Block, weight: FloatArray) -> Sums:
    """Return n [K], v [K, D] and M as matrices [K, D, D] of a block of rows: (P11)."""
    share = weight[:, None] * block.resp  # [B, K]
    mass = share.sum(axis=0)
    first = np.einsum("bk,bkd->kd", share, block.true)
    k, d = first.shape
    if block.shrinking.ndim == 3:
        moved = block.true**2 + (1.0 - block.shrinking**2)
        second = np.einsum("bk,bkd->kd", share, moved)[:, :, None] * np.eye(d)
        return Sums(mass, first, second)
    root = np.sqrt(share)
    true = (root[:, :, None] * block.true).transpose(1, 0, 2)  # [K, B, D]
    taken = (root[:, :, None, None] * block.shrinking).transpose(1, 0, 2, 3)
    taken = taken.reshape(k, -1, d)  # [K, B D, D]
    second = true.swapaxes(1, 2) @ true - taken.swapaxes(1, 2) @ taken
    return Sums(mass, first, second + mass[:, None, None] * np.eye(d))


def _each_block(
    x: FloatArray, noise: FloatArray, parameters: Parameters, use: Callable[[slice, Block], None]
) -> None:
    """Call `use` with each block of rows."""
    by_column = noise.ndim == 2 and not FAMILIES[parameters.family].has_factors
    mixture = Mixture.of(parameters, by_column=by_column)
    size = max(4 * tuning.active.group // (mixture.scale.size), 1)
    with np.errstate(all="ignore"):
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            rows = np.asarray(x[part], np.float64)  # data of a fit may be of another dtype
            use(part, mixture.forward(rows, noise[part]))


# --- the public functions -----------------------------------------------------------------------


def check_noise(noise: ArrayLike, n_samples: int, n_features: int) -> FloatArray:
    """Return covariances of noise as float64, [N, D, D], or variances [N, D].

    Raises
    ------
    TypeError
        If they are not made of real numbers.
    ValueError
        If their shape is another, a value is not finite, or a covariance is not symmetric and
        positive semidefinite.
    """
    shape = (n_samples, n_features)
    places = _AXES[np.ndim(noise) == 3]
    array = as_float64("noise", noise, places)
    if array.shape not in (shape, (*shape, n_features)):
        raise ValueError(
            f"noise must have shape [N, D] = {shape}, a variance for each value of x, or [N, D, D] "
            f"= {(*shape, n_features)}, a covariance for each row; got {array.shape}. Use "
            "np.broadcast_to for what all rows share, and squares of standard deviations."
        )
    check_finite("noise", array, "Give a large variance to what is next to unknown.", places)
    if array.ndim == 2:
        if (array < 0).any():
            raise ValueError(
                f"noise has negative variances: {first_of(array < 0, places, array)}. Use 0 for "
                "what has no noise."
            )
        return array
    for start in range(0, n_samples, 2**14):
        part = array[start : start + 2**14]
        size = np.abs(part).max(axis=(1, 2))
        lopsided = np.abs(part - part.swapaxes(1, 2)).max(axis=(1, 2)) > ASYMMETRY * size
        below = np.linalg.eigvalsh(part)[:, 0] < -ROUNDING * size
        for bad, what in ((lopsided, "symmetric"), (below, "positive semidefinite")):
            if bad.any():
                raise ValueError(
                    f"noise has a covariance that is not {what}, the first in row "
                    f"{start + int(np.argmax(bad))}. Give the covariance of each row's errors."
                )
    return array


def statistics(
    x: ArrayLike,
    noise: ArrayLike,
    parameters: Parameters,
    *,
    sample_weight: ArrayLike | None = None,
) -> Statistics:
    """Sufficient statistics of rows that were measured with errors, equation (P11). They add.

    `gmm_np.gradients` and `gmm_np.em_step` take them as those of `gmm_np.statistics`.

    Parameters
    ----------
    x : array_like, shape [N, D]
    noise : array_like, shape [N, D, D] or [N, D]
        Covariances of each row's errors, or variances of errors that do not correlate, in the
        squared units of the columns; zero where there is none.
    parameters : Parameters
        Of the true values, without noise.
    sample_weight : array_like, shape [N], optional

    Returns
    -------
    Statistics

    Raises
    ------
    TypeError, ValueError
        As `gmm_np.statistics`; or if noise is not what it has to be.
    OverflowError
        If a row's density is beyond the range of a double even as a logarithm.

    Examples
    --------
    One step of EM for a normal distribution of which each value has an error of variance 1:

    >>> import gmm_np
    >>> start = gmm_np.Parameters([0.0], [[0.0]], [[[1.0]]])
    >>> found = gmm_np.noise.statistics([[-2.0], [2.0]], [[1.0], [1.0]], start)
    >>> gmm_np.em_step(start, found).covariances().round(6).tolist()
    [[[1.5]]]
    """
    rows = check_x(x, parameters.n_features)
    errors = check_noise(noise, *rows.shape)
    weight = check_sample_weight(sample_weight, len(rows))
    return checked_statistics(rows, errors, weight, parameters)


def checked_statistics(
    rows: FloatArray,
    noise: FloatArray,
    weight: FloatArray | None,
    parameters: Parameters,
    d_x: FloatArray | None = None,
) -> Statistics:
    """Statistics of rows and noise that were checked; `d_x` [N, D] takes sum_k r_nk pulled_nk."""
    family, own = FAMILIES[parameters.family], np.ones(len(rows)) if weight is None else weight
    k, d = parameters.means.shape
    total = Sums(np.zeros(k), np.zeros((k, d)), family.second_moments(k, d))
    loss = 0.0

    def use(part: slice, block: Block) -> None:
        nonlocal total, loss
        some = own[part] > 0  # what has no weight may be anything
        lost = ~np.isfinite(block.log_likelihood) & some
        if lost.any():
            raise OverflowError(
                "a density is beyond the range of a double even as a logarithm, the first in row "
                f"{part.start + int(np.argmax(lost))} of x. Look at it, or choose units in which x "
                "is of order one."
            )
        loss -= float(own[part][some] @ block.log_likelihood[some])
        if not (some.all() and math.isfinite(block.true.sum() + block.pulled.sum())):
            idle = ~some[:, None] | (block.resp == 0)  # adds nothing, however far it is
            block = block._replace(
                true=np.where(idle[..., None], 0.0, block.true),
                pulled=np.where(idle[..., None], 0.0, block.pulled),
                resp=np.where(some[:, None], block.resp, 0.0),
            )
        mass, first, second = block_sums(block, own[part])
        found = Sums(mass, first, family.reduce(second)).centre(family)
        total = merge(family, total, found)
        if d_x is not None:
            d_x[part] = np.einsum("bk,bkd->bd", block.resp, block.pulled)

    _each_block(rows, noise, parameters, use)
    return Statistics(parameters, loss, float(own.sum()), len(rows), *total)


def log_prob(
    x: ArrayLike,
    noise: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
) -> FloatArray:
    """Log-likelihood of each row with its errors, equation (P9).

    Parameters
    ----------
    x, noise
        As in `statistics`.
    pi_logits, means, scale, family
        As in `gmm_np.nll`, of the true values.

    Returns
    -------
    log_likelihood : ndarray, shape [N]
        In nats; -inf where it is below the range of a double.

    Raises
    ------
    TypeError, ValueError
        As `statistics`.

    Examples
    --------
    >>> import gmm_np
    >>> gmm_np.noise.log_prob([[0.0]], [[3.0]], [0.0], [[0.0]], [[[1.0]]]).round(6).tolist()
    [-1.612086]
    """
    parameters = Parameters(pi_logits, means, scale, family)
    rows = check_x(x, parameters.n_features)
    errors = check_noise(noise, *rows.shape)
    found = np.empty(len(rows))

    def use(part: slice, block: Block) -> None:
        found[part] = block.log_likelihood

    _each_block(rows, errors, parameters, use)
    return found


def nll(
    x: ArrayLike,
    noise: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Any:
    """Negative log-likelihood of rows with errors of their own, equation (P9).

    Parameters
    ----------
    x, noise, pi_logits, means, scale, family
        As in `log_prob`.
    sample_weight : array_like, shape [N], optional
    reduction : {"mean", "sum", "none"}
        As in `gmm_np.nll`.

    Returns
    -------
    value : float, or ndarray of shape [N] for ``reduction="none"``
        In nats.

    Raises
    ------
    TypeError, ValueError
        As `log_prob`.
    """
    reduce = as_reduction(reduction)
    found = log_prob(x, noise, pi_logits, means, scale, family=family)
    weight = check_sample_weight(sample_weight, len(found))
    return reduce_loss(found, np.ones(len(found)) if weight is None else weight, reduce)[0]


def nll_value_and_grad(
    x: ArrayLike,
    noise: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[float, Gradients]:
    """Negative log-likelihood of rows with errors of their own, and its gradients: (P9), (P12).

    Parameters
    ----------
    x, noise, pi_logits, means, scale, family, sample_weight
        As in `nll`.
    reduction : {"mean", "sum"}

    Returns
    -------
    value : float
        In nats.
    gradients : Gradients
        In pi_logits, means, scale (None for "constant") and x [N, D], each in the dtype of its
        argument.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `statistics`; a ValueError for ``reduction="none"``, which has no gradient.

    Examples
    --------
    >>> import gmm_np
    >>> value, gradients = gmm_np.noise.nll_value_and_grad(
    ...     [[2.0]], [[3.0]], [0.0], [[0.0]], [[[1.0]]]
    ... )
    >>> round(value, 6), gradients.means.tolist(), gradients.scale.tolist(), gradients.x.tolist()
    (2.112086, [[-0.5]], [[[0.0]]], [[0.5]])
    """
    parameters = Parameters(pi_logits, means, scale, family)
    rows = check_x(x, parameters.n_features)
    errors = check_noise(noise, *rows.shape)
    weight = check_sample_weight(sample_weight, len(rows))
    d_x = np.empty(rows.shape)
    found = checked_statistics(rows, errors, weight, parameters, d_x)
    d_parameters = gradients(parameters, found, reduction=reduction)
    total = found.weight if reduction == "mean" else 1.0
    d_x *= (np.ones(len(rows)) if weight is None else weight)[:, None] / total
    return found.loss / total, d_parameters._replace(x=cast_gradient(d_x, gradient_dtype(x)))
