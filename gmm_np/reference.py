"""The oracle and the lesson: the mixture's negative log-likelihood by the chain rule (12).

Each primitive is a forward function with its backward right below it. A forward returns its value
and what its backward needs, and says why; a backward takes the gradient of the loss with respect
to that value, ``d_<value>``, and returns the gradient with respect to each argument. Numbers in
parentheses are the equations of docs/derivation.md. Everything is in float64 and in nats.

This module imports nothing of the engine, so that each can be checked against the other. Letters
in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_solve, solve_triangular

from gmm_np import wide_range
from gmm_np.checks import (
    FloatArray,
    Reduction,
    as_reduction,
    check_d_value,
    check_sample_weight,
    check_x,
    unit_weights,
)
from gmm_np.parameters import Gradients, cast_gradient, check_mixture, gradient_dtype

__all__ = ["Cache", "nll_backward", "nll_forward"]

LOG_2_PI = math.log(2 * math.pi)  # (9)
# Samples that a matrix product adds up at once.
ROWS = 32


# --- logsumexp over components ------------------------------------------------------------------


def logsumexp_forward(terms: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Logarithm of the sum of exponentials over the last axis, equation (10).

    Keeps the softmax, equation (14): its exponentials are at hand, and the backward is a product
    with it. A row of nothing but -inf gives -inf, and a softmax of zeros.
    """
    largest = terms.max(axis=-1, keepdims=True)  # [..., 1]  m in (10)
    shift = np.where(np.isneginf(largest), 0.0, largest)  # (10), where it is finite
    exponentials = np.exp(terms - shift)  # [..., K]  (10); the largest is exactly 1
    others = exponentials.copy()
    # (10) leaves out the largest: log1p of the others keeps what 1 + others would round away.
    np.put_along_axis(others, terms.argmax(axis=-1)[..., None], 0.0, axis=-1)
    value = largest[..., 0] + np.log1p(others.sum(axis=-1))  # [...]  (10)
    total = exponentials.sum(axis=-1, keepdims=True)  # [..., 1]  (14)
    softmax = exponentials / np.where(total == 0, 1.0, total)  # [..., K]  (14)
    return value, softmax


def logsumexp_backward(d_value: FloatArray, softmax: FloatArray) -> FloatArray:
    """Gradient with respect to the terms: each gets its share, equation (15)."""
    # in the forward pass: value = log sum_k exp(terms_k)
    d_terms: FloatArray = d_value[..., None] * softmax  # (15)
    return d_terms


# --- log_softmax of the mixture logits ----------------------------------------------------------


def log_softmax_forward(pi_logits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Logarithms of the mixture weights [K], equation (4).

    Keeps the weights themselves, which are all that its backward needs.
    """
    # (4) does not depend on a shift of all logits; the largest one takes its digits with it.
    shifted = pi_logits - pi_logits.max()
    total, pi = logsumexp_forward(shifted)
    log_pi: FloatArray = shifted - total  # (4)
    return log_pi, pi


def log_softmax_backward(d_log_pi: FloatArray, pi: FloatArray) -> FloatArray:
    """Gradient with respect to the logits [K], equation (16)."""
    # in the forward pass: log_pi = pi_logits - logsumexp(pi_logits); the second term hands
    # the sum of all that comes in back to each logit, by its weight
    d_pi_logits: FloatArray = d_log_pi - pi * d_log_pi.sum()  # (16)
    return d_pi_logits


# --- quadratic form -----------------------------------------------------------------------------


class QuadraticFormCache(NamedTuple):
    """What the backward of one component's quadratic form needs."""

    x: FloatArray  # [N, D]: with the mean, the residuals, which cost less to make than to keep
    mean: FloatArray  # [D]
    factor: FloatArray  # [D, D]
    whitened: FloatArray  # [N, D]: z appears in the gradient of the factor


def quadratic_form_forward(
    x: FloatArray, mean: FloatArray, factor: FloatArray
) -> tuple[FloatArray, QuadraticFormCache]:
    """Squared Mahalanobis distances [N] of the rows of x, equations (6) and (7)."""
    residual = x - mean  # [N, D]  (6)
    whitened = solve_triangular(factor, residual.T, lower=True, check_finite=False).T  # [N, D]  (6)
    quadratic = np.einsum("nd,nd->n", whitened, whitened)  # [N]  (7)
    far = ~np.isfinite(whitened).all(axis=1)
    if far.any():
        quadratic[far], whitened[far] = wide_range.quadratic_form(x[far], mean, factor)
    return quadratic, QuadraticFormCache(x, mean, factor, whitened)


def quadratic_form_backward(
    d_quadratic: FloatArray, cache: QuadraticFormCache
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gradients with respect to x [N, D], the mean [D] and the factor [D, D]: (18), (19), (20)."""
    x, mean, factor, whitened = cache
    # in the forward pass: quadratic = residual^T Sigma^-1 residual
    pull = cho_solve((factor, True), (x - mean).T, check_finite=False).T  # [N, D]  y in (18)
    d_residual = 2.0 * d_quadratic[:, None] * pull  # [N, D]  (18)
    # in the forward pass: residual = x - mean
    d_x = d_residual  # [N, D]  (19): the share of one component
    d_mean = -sum_over_samples(d_residual)  # [D]  (19)
    # in the forward pass: whitened = L^-1 residual. Not tril(Sigma^-1 S Sigma^-1 L), which is
    # equal and loses digits: there L undoes by cancellation what the second solve did.
    d_factor = -np.tril(sum_of_products(d_residual, whitened))  # [D, D]  (20)
    return d_x, d_mean, d_factor


# --- half the log-determinant -------------------------------------------------------------------


def half_log_det_forward(factor: FloatArray) -> tuple[float, FloatArray]:
    """Half the log-determinant of a covariance, from its factor's diagonal, equation (8).

    Keeps the diagonal [D].
    """
    diagonal = np.diagonal(factor).copy()
    half_log_det = float(np.log(diagonal).sum())  # (8)
    return half_log_det, diagonal


def half_log_det_backward(d_half_log_det: float, diagonal: FloatArray) -> FloatArray:
    """Gradient with respect to the factor [D, D], a diagonal matrix, equation (21)."""
    # in the forward pass: half_log_det = sum_i log L_ii
    d_factor: FloatArray = np.diag(d_half_log_det / diagonal)  # [D, D]  (21)
    return d_factor


# --- log density of one component ---------------------------------------------------------------


class LogDensityCache(NamedTuple):
    """What the backward of one component's log density needs."""

    quadratic_form: QuadraticFormCache
    diagonal: FloatArray  # [D]


def log_density_forward(
    x: FloatArray, mean: FloatArray, factor: FloatArray
) -> tuple[FloatArray, LogDensityCache]:
    """Log density [N] of one Gaussian (1) at each row of x, equation (9) without the weight."""
    quadratic, quadratic_form_cache = quadratic_form_forward(x, mean, factor)
    half_log_det, diagonal = half_log_det_forward(factor)
    half_quadratic = 0.5 * quadratic  # [N]  (9)
    far = np.isinf(half_quadratic)
    if far.any():
        half_quadratic[far] = wide_range.half_quadratic_form(x[far], mean, factor)
    log_density = -half_quadratic - (half_log_det + 0.5 * mean.size * LOG_2_PI)  # [N]  (9)
    return log_density, LogDensityCache(quadratic_form_cache, diagonal)


def log_density_backward(
    d_log_density: FloatArray, cache: LogDensityCache
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gradients with respect to x [N, D], the mean [D] and the factor [D, D], equation (17).

    The factor was used twice, so that by equation (12) two gradients add.
    """
    # in the forward pass: log_density = -quadratic / 2 - half_log_det - constant
    d_quadratic = -0.5 * d_log_density  # [N]  (17)
    d_half_log_det = -float(d_log_density.sum())  # (17)
    d_x, d_mean, d_factor = quadratic_form_backward(d_quadratic, cache.quadratic_form)
    d_factor += half_log_det_backward(d_half_log_det, cache.diagonal)  # (12): both its uses
    if all(np.isfinite(gradient).all() for gradient in (d_x, d_mean, d_factor)):
        return d_x, d_mean, d_factor
    # Something left the range of a double on the way. Once more, with exponents carried apart.
    return wide_range.log_density_backward(d_log_density, *cache.quadratic_form[:3])


# --- weighted mean over samples -----------------------------------------------------------------


def reduce_forward(
    log_likelihood: FloatArray, sample_weight: FloatArray | None, reduction: Reduction
) -> tuple[FloatArray, FloatArray]:
    """Loss from the log-likelihood [N] of each sample, equation (11): scalar, or [N] for "none".

    W is that of equation (3). Keeps the coefficient [N] of each sample, w_n / W.
    """
    weight = np.ones(log_likelihood.size) if sample_weight is None else sample_weight
    if reduction == "mean":
        weight = unit_weights(weight)  # (3) does not depend on their unit
    # A row of weight zero is a dropped row, even where its likelihood underflows to zero.
    loss = np.where(weight == 0, 0.0, -weight * log_likelihood)  # [N]  (11)
    if reduction == "none":
        return loss, weight
    total_weight = weight.sum() if reduction == "mean" else 1.0  # W in (3)
    value = loss.sum() / total_weight  # (11)
    if np.isnan(value):
        value = wide_range.weighted_loss(weight, log_likelihood) / total_weight  # (11)
    coefficient = weight / total_weight  # [N]  w_n / W in (11)
    return value, coefficient


def reduce_backward(d_value: FloatArray, coefficient: FloatArray) -> FloatArray:
    """Gradient with respect to the log-likelihood [N] of each sample, equation (13)."""
    # in the forward pass: value = -sum_n coefficient_n log_likelihood_n
    d_log_likelihood: FloatArray = -coefficient * d_value  # (13)
    return d_log_likelihood


# --- the whole ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Cache:
    """What `nll_backward` needs of `nll_forward`.

    Attributes
    ----------
    pi : ndarray, shape [K]
        Mixture weights.
    components : list of LogDensityCache, length K
    resp : ndarray, shape [N, K]
        Responsibilities.
    coefficient : ndarray, shape [N]
        w_n / W.
    reduction : {"mean", "sum", "none"}
    dtypes : tuple of dtype, length 4
        In which the gradients of logits, means, factors and x go back.
    """

    pi: FloatArray
    components: list[LogDensityCache]
    resp: FloatArray
    coefficient: FloatArray
    reduction: Reduction
    dtypes: tuple[np.dtype[np.floating[Any]], ...]


def nll_forward(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale_tril: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[Any, Cache]:
    """Negative log-likelihood of a Gaussian mixture (2) with full covariances, equation (3).

    Parameters
    ----------
    x : array_like, shape [N, D]
        Data, one row a sample.
    pi_logits : array_like, shape [K]
        Mixture logits; a logit of -inf switches its component off.
    means : array_like, shape [K, D]
    scale_tril : array_like, shape [K, D, D]
        Lower Cholesky factors of the covariances, Sigma_k = L_k L_k^T, equation (5).
    sample_weight : array_like, shape [N], optional
        Weights w_n, not negative; 1 for each sample by default.
    reduction : {"mean", "sum", "none"}
        Weighted mean over samples (the default), weighted sum, or one weighted value a sample.

    Returns
    -------
    value : float, or ndarray of shape [N] for ``reduction="none"``
        In nats. Infinite where the likelihood is below what a double can hold even as a
        logarithm; never NaN.
    cache : Cache
        For `nll_backward`. It shares no memory with the arguments.

    Raises
    ------
    TypeError
        If an argument is not made of real numbers.
    ValueError
        If shapes disagree, values are not finite, a factor is not a Cholesky factor, or a
        weight is negative.

    Notes
    -----
    After the derivation of https://github.com/kylesayrs/GMMScratch, with the (D/2) log(2 pi) that
    its code leaves out; docs/derivation.md gives it in full, with an errata section.

    Examples
    --------
    >>> from gmm_np.reference import nll_backward, nll_forward
    >>> value, cache = nll_forward([[0.0], [3.0]], [0.0, 0.0], [[0.0], [3.0]], [[[1.0]], [[1.0]]])
    >>> round(value, 6)
    1.601038
    >>> nll_backward(cache).means.round(6).tolist()
    [[-0.01648], [0.01648]]
    """
    reduce = as_reduction(reduction)
    logits, mu, L = check_mixture(pi_logits, means, scale_tril, "scale_tril")
    data = check_x(x, mu.shape[1]).copy()  # the caller may write to its own before the backward
    dtypes = tuple(gradient_dtype(argument) for argument in (pi_logits, means, scale_tril, x))
    mu, L = mu.copy(), L.copy()
    weight = check_sample_weight(sample_weight, data.shape[0])
    weight = None if weight is None else weight.copy()

    n_components = logits.size
    log_joint = np.empty((data.shape[0], n_components))  # [N, K]
    components = []
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        log_pi, pi = log_softmax_forward(logits)  # [K]
        for k in range(n_components):
            log_density, component = log_density_forward(data, mu[k], L[k])
            log_joint[:, k] = log_pi[k] + log_density  # (9)
            components.append(component)
        log_likelihood, resp = logsumexp_forward(log_joint)  # [N], [N, K]
        lost = np.isneginf(log_likelihood)
        if lost.any():  # every distance is beyond a double, and one is still the shortest
            resp[lost] = wide_range.responsibilities(data[lost], log_pi, mu, L)
        value, coefficient = reduce_forward(log_likelihood, weight, reduce)
    cache = Cache(pi, components, resp, coefficient, reduce, dtypes)
    return (value if reduce == "none" else float(value)), cache


def nll_backward(cache: Cache, d_value: ArrayLike = 1.0) -> Gradients:
    """Gradient of the negative log-likelihood: the vector-Jacobian product with `d_value`.

    Parameters
    ----------
    cache : Cache
        From `nll_forward`; it is not changed, so that it may be used again.
    d_value : array_like, scalar, or shape [N] for ``reduction="none"``
        Gradient of what follows with respect to the value.

    Returns
    -------
    Gradients
        With respect to the logits [K], the means [K, D], the Cholesky factors [K, D, D] (exactly
        lower triangular) and x [N, D]: equations (16), (19), (20) with (21), and (19). Each comes
        in the dtype of its argument. Infinite where it is beyond the range of a double.

    Raises
    ------
    TypeError, ValueError
        If `d_value` is not finite, or not in the shape of the value.
    """
    n_samples, n_components = cache.resp.shape
    d_out = check_d_value(d_value, cache.reduction, n_samples)
    d_means, d_scale_tril = [], []
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        d_log_likelihood = reduce_backward(d_out, cache.coefficient)  # [N]
        d_log_joint = logsumexp_backward(d_log_likelihood, cache.resp)  # [N, K]
        # in the forward pass: log_joint[n, k] = log_pi[k] + log_density[n, k]
        d_log_pi = sum_over_samples(d_log_joint)  # [K]  (16)
        d_pi_logits = log_softmax_backward(d_log_pi, cache.pi)
        d_x = np.zeros_like(cache.components[0].quadratic_form.x)
        for k in range(n_components):
            d_x_k, d_mean, d_factor = log_density_backward(d_log_joint[:, k], cache.components[k])
            d_x += d_x_k  # (19): each component pulls at each sample
            d_means.append(d_mean)
            d_scale_tril.append(d_factor)
        if np.isnan(d_x).any():  # infinities that pull against each other
            d_x = wide_range.x_backward(
                d_log_joint, [c.quadratic_form[:3] for c in cache.components]
            )
    gradients = (d_pi_logits, np.stack(d_means), np.stack(d_scale_tril), d_x)
    return Gradients(*(cast_gradient(g, t) for g, t in zip(gradients, cache.dtypes, strict=True)))


def sum_over_samples(terms: FloatArray) -> FloatArray:
    """Sum over the first axis. NumPy adds pairwise only along contiguous memory, hence the copy."""
    total: FloatArray = np.ascontiguousarray(terms.T).sum(axis=-1)  # as in (19)
    return total


def sum_of_products(left: FloatArray, right: FloatArray) -> FloatArray:
    """Sum over samples of left_n right_n^T [D, D], for left and right [N, D], as in equation (20).

    One product left^T right adds samples one after the other, and loses digits with N. Products
    of few samples, added pairwise, do not: their error stays that of an addend.
    """
    n_dims = left.shape[1]
    rows = max(ROWS, n_dims)  # so that the products hold no more than left does
    whole = len(left) // rows * rows  # samples in full blocks of the sum in (20)
    blocks = (-1, rows, n_dims)
    products = np.matmul(
        left[:whole].reshape(blocks).transpose(0, 2, 1), right[:whole].reshape(blocks)
    )  # [N / rows, D, D]  (20), block by block
    total = sum_over_samples(products.reshape(len(products), n_dims * n_dims))  # (20)
    rest: FloatArray = left[whole:].T @ right[whole:]  # [D, D]  (20)
    return total.reshape(n_dims, n_dims) + rest  # (20)
