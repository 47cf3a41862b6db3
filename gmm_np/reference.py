"""The loss of a Gaussian mixture and its gradient, by the chain rule. Read it from top to bottom.

    forward:   x, pi_logits, means, scale_tril -> value, and a cache of what the backward needs
    backward:  cache, d_value -> gradients

Each step is a forward with its backward right below it. A backward takes d_<output>, the gradient
of the loss with respect to an output, and returns d_<input>. Each line that computes says what it
makes: the shape, the equation of docs/derivation.md, and the formula. N samples, K components, D
dimensions; all in float64 and in nats. Nothing is shared with the engine, so that each can be
checked against the other.

The text checks no arguments, and knows no end of the range of a double. `nll_forward` and
`nll_backward`, below it, see to both: by checks.py, and by extended_range.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_solve, solve_triangular

from gmm_np import extended_range
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

Pair = tuple[FloatArray, FloatArray]
Triple = tuple[FloatArray, FloatArray, FloatArray]
LOG_2_PI = math.log(2 * math.pi)  # (9)


# --- 1. log_pi = log_softmax(pi_logits) ---------------------------------------------------------


def log_softmax_forward(pi_logits: FloatArray) -> Pair:
    """Logarithms of the weights [K], equation (4). Keeps the weights [K]."""
    shifted = pi_logits - pi_logits.max()  # [K]  (4)  a_k; up to a shift that cancels
    total, pi = logsumexp_forward(shifted)  # scalar, [K]
    return shifted - total, pi  # [K]  (4)  log pi_k = a_k - logsumexp(a)


def log_softmax_backward(d_log_pi: FloatArray, pi: FloatArray) -> FloatArray:
    """Gradient in the logits [K]: each is used by its own weight, and by the sum: (16)."""
    # [K]  (16)  d_a_k = d_log pi_k - pi_k sum_j d_log pi_j
    return np.asarray(d_log_pi - pi * d_log_pi.sum())


# --- 2. quadratic = |z|^2, where L z = x - mean -------------------------------------------------


def quadratic_form_forward(x: FloatArray, mean: FloatArray, factor: FloatArray) -> Pair:
    """Squared Mahalanobis distances [N], equations (6) and (7). Keeps z [N, D]."""
    residual = x - mean  # [N, D]  (6)  e_nk = x_n - mu_k
    # [N, D]  (6)  L_k z_nk = e_nk
    z = solve_triangular(factor, residual.T, lower=True, check_finite=False).T
    return np.einsum("nd,nd->n", z, z), z  # [N]  (7)  q_nk = |z_nk|^2


def quadratic_form_backward(
    d_quadratic: FloatArray, x: FloatArray, mean: FloatArray, factor: FloatArray, z: FloatArray
) -> Triple:
    """Gradients in x [N, D], the mean [D] and the factor [D, D]: (18), (19) and (20)."""
    # [N, D]  (18)  y_nk = Sigma_k^-1 e_nk
    y = cho_solve((factor, True), (x - mean).T, check_finite=False).T
    d_residual = 2.0 * d_quadratic[:, None] * y  # [N, D]  (18)  d_e_nk = 2 d_q_nk y_nk
    d_mean = -sum_over_samples(d_residual)  # [D]  (19)  d_mu_k = -sum_n d_e_nk
    # [D, D]  (20)  d_L_k <- -tril(sum_n d_e_nk z_nk^T)
    d_factor = -np.tril(sum_of_products(d_residual, z))  # Sigma^-1 S Sigma^-1 L would lose digits
    return d_residual, d_mean, d_factor


# --- 3. log_density = -quadratic / 2 - half_log_det - (D/2) log 2 pi ----------------------------


def half_log_det_forward(factor: FloatArray) -> tuple[float, FloatArray]:
    """Half the log-determinant of a covariance, equation (8). Keeps the factor's diagonal [D]."""
    diagonal = np.diagonal(factor).copy()  # [D]
    return float(np.log(diagonal).sum()), diagonal  # scalar  (8)  h_k = sum_i log L_k,ii


def half_log_det_backward(d_half_log_det: float, diagonal: FloatArray) -> FloatArray:
    """Gradient in the factor [D, D], equation (21)."""
    # [D, D]  (21)  d_L_k <- diag(d_h_k / L_k,11, ..., d_h_k / L_k,DD)
    return np.diag(d_half_log_det / diagonal)


def log_density_forward(x: FloatArray, mean: FloatArray, factor: FloatArray) -> Pair:
    """Log density [N] of one Gaussian (1): equation (9) without the weight. Keeps z [N, D]."""
    quadratic, z = quadratic_form_forward(x, mean, factor)  # [N], [N, D]
    half_log_det, _ = half_log_det_forward(factor)  # scalar
    # [N]  (9)  t_nk = log pi_k - 1/2 q_nk - h_k - D/2 log 2pi
    return -0.5 * quadratic - (half_log_det + 0.5 * mean.size * LOG_2_PI), z


def log_density_backward(
    d_log_density: FloatArray, x: FloatArray, mean: FloatArray, factor: FloatArray, z: FloatArray
) -> Triple:
    """Gradients in x [N, D], the mean [D] and the factor [D, D]: (17), and (12) for the last."""
    d_quadratic = -0.5 * d_log_density  # [N]  (17)  d_q_nk = -1/2 d_t_nk
    d_half_log_det = -float(d_log_density.sum())  # scalar  (17)  d_h_k = -sum_n d_t_nk
    d_x, d_mean, d_factor = quadratic_form_backward(d_quadratic, x, mean, factor, z)
    # [D, D]  (12)  it is used twice, so that two gradients add
    d_factor += half_log_det_backward(d_half_log_det, np.diagonal(factor))
    return d_x, d_mean, d_factor


# --- 4. value = -sum of coefficient * log_likelihood, a logsumexp over the components ------------


def logsumexp_forward(terms: FloatArray) -> Pair:
    """Logarithm of the sum of exponentials over the last axis, (10). Keeps the softmax, (14)."""
    largest = terms.max(axis=-1, keepdims=True)  # [N, 1]  (10)  tau_n = max_k t_nk
    shift = np.where(np.isneginf(largest), 0.0, largest)  # [N, 1]  (10)  tau_n; if finite
    exponentials = np.exp(terms - shift)  # [N, K]  (10)  e^(t_nk - tau_n)
    rest = exponentials.copy()  # without the largest, which is exactly 1
    np.put_along_axis(rest, terms.argmax(axis=-1)[..., None], 0.0, axis=-1)  # [N, K]  (10)  k != k*
    # [N]  (10)  l_n = tau_n + log1p(sum_k!=k* e^(t_nk - tau_n))
    value = largest[..., 0] + np.log1p(rest.sum(axis=-1))
    total = exponentials.sum(axis=-1, keepdims=True)  # [N, 1]  (14)  sum_j e^(t_nj - tau_n)
    # [N, K]  (14)  r_nk = e^(t_nk - tau_n) / sum_j e^(t_nj - tau_n)
    return value, exponentials / np.where(total == 0, 1.0, total)


def logsumexp_backward(d_value: FloatArray, softmax: FloatArray) -> FloatArray:
    """Gradient in the terms [..., K]: each gets its share, equation (15)."""
    return np.asarray(d_value[..., None] * softmax)  # [N, K]  (15)  d_t_nk = r_nk d_l_n


def reduce_forward(log_likelihood: FloatArray, weight: FloatArray, reduction: Reduction) -> Pair:
    """Loss (11): scalar, or [N] for "none". Keeps each sample's coefficient [N], w_n / W in (3)."""
    weight = unit_weights(weight) if reduction == "mean" else weight  # [N]  (3)  w_n
    # [N]  (11)  w_n l_n; 0 for a row of weight 0, even where its likelihood is 0
    loss = np.where(weight == 0, 0.0, -weight * log_likelihood)
    if reduction == "none":
        return loss, weight
    total_weight = weight.sum() if reduction == "mean" else 1.0  # scalar  (3)  W
    # scalar  (11)  f = -(1 / W) sum_n w_n l_n
    return loss.sum() / total_weight, weight / total_weight


def reduce_backward(d_value: FloatArray, coefficient: FloatArray) -> FloatArray:
    """Gradient in the log-likelihood [N] of each sample, equation (13)."""
    return np.asarray(-coefficient * d_value)  # [N]  (13)  d_l_n = -(w_n / W) d_f


# --- the whole ----------------------------------------------------------------------------------


def forward(
    x: FloatArray,
    pi_logits: FloatArray,
    means: FloatArray,
    scale_tril: FloatArray,
    weight: FloatArray,
    reduction: Reduction,
) -> tuple[FloatArray, Cache]:
    """Loss (11) of a mixture (2), from (4), (9) and (10), and what its backward needs."""
    log_pi, pi = log_softmax_forward(pi_logits)  # [K], [K]
    log_joint, z = np.empty((len(x), len(means))), []  # [N, K], K of [N, D]
    for k in range(len(means)):
        log_density, z_k = log_density_forward(x, means[k], scale_tril[k])  # [N], [N, D]
        # [N]  (9)  t_nk = log(pi_k N(x_n; mu_k, Sigma_k))
        log_joint[:, k] = log_pi[k] + log_density
        z.append(z_k)
    log_likelihood, resp = logsumexp_forward(log_joint)  # [N], [N, K]
    value, share = reduce_forward(log_likelihood, weight, reduction)  # scalar or [N], [N]
    return value, Cache(x, means, scale_tril, log_pi, pi, log_joint, z, resp, share, reduction)


def backward(cache: Cache, d_value: FloatArray) -> tuple[FloatArray, ...]:
    """Gradients in the logits, means, factors and x, in the reverse order: (16), (19)."""
    x, means, scale_tril, z = cache.x, cache.means, cache.scale_tril, cache.z
    d_log_joint = logsumexp_backward(reduce_backward(d_value, cache.coefficient), cache.resp)
    d_log_pi = sum_over_samples(d_log_joint)  # [K]  (16)  d_log pi_k = sum_n d_t_nk
    d_pi_logits = log_softmax_backward(d_log_pi, cache.pi)  # [K]
    d_x, d_means, d_scale_tril = np.zeros_like(x), np.empty_like(means), np.empty_like(scale_tril)
    for k in range(len(means)):
        component = (x, means[k], scale_tril[k], z[k])
        d_x_k, d_means[k], d_scale_tril[k] = log_density_backward(d_log_joint[:, k], *component)
        d_x += d_x_k  # [N, D]  (19)  d_x_n = sum_k d_e_nk
    return d_pi_logits, d_means, d_scale_tril, d_x


# --- the contract: arguments, and the ends of the range -----------------------------------------


@dataclass(frozen=True, eq=False)
class Cache:
    """What `nll_backward` needs of `nll_forward`, and the walk through it looks at.

    Attributes
    ----------
    x : ndarray, shape [N, D]
        With the mean, the residuals, which cost less to make than to keep.
    means : ndarray, shape [K, D]
    scale_tril : ndarray, shape [K, D, D]
    log_pi, pi : ndarray, shape [K]
        Mixture weights.
    log_joint : ndarray, shape [N, K]
        Logarithm of each component's share of the density.
    z : list of ndarray, length K, each of shape [N, D]
        Whitened residuals, which the gradient of the factor contains.
    resp : ndarray, shape [N, K]
        Responsibilities.
    coefficient : ndarray, shape [N]
        w_n / W.
    reduction : {"mean", "sum", "none"}
    dtypes : tuple of dtype, length 4
        In which the gradients of logits, means, factors and x go back.
    """

    x: FloatArray
    means: FloatArray
    scale_tril: FloatArray
    log_pi: FloatArray
    pi: FloatArray
    log_joint: FloatArray
    z: list[FloatArray]
    resp: FloatArray
    coefficient: FloatArray
    reduction: Reduction
    dtypes: tuple[np.dtype[np.floating[Any]], ...] = (np.dtype(np.float64),) * 4


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
    data = check_x(x, mu.shape[1])
    weight = check_sample_weight(sample_weight, len(data))
    weight = np.ones(len(data)) if weight is None else weight
    dtypes = tuple(gradient_dtype(argument) for argument in (pi_logits, means, scale_tril, x))
    # Copies, since the caller may write to its own before the backward.
    arguments = (data.copy(), logits, mu.copy(), L.copy(), weight.copy())
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        value, cache = forward(*arguments, reduce)
        on = cache.log_pi > -np.inf
        if not np.isfinite(cache.log_joint[:, on]).all() or np.isnan(value).any():
            value, z, resp = extended_range.forward(
                cache.x, cache.log_pi, cache.means, cache.scale_tril,
                cache.log_joint, cache.z, cache.coefficient, reduce,
            )  # fmt: skip
            cache = replace(cache, z=z, resp=resp)
    cache = replace(cache, dtypes=dtypes)
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
    d_out = check_d_value(d_value, cache.reduction, len(cache.x))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        gradients = backward(cache, d_out)
        if not all(np.isfinite(gradient).all() for gradient in gradients):
            d_log_joint = logsumexp_backward(reduce_backward(d_out, cache.coefficient), cache.resp)
            gradients = extended_range.backward(
                d_log_joint, cache.x, cache.means, cache.scale_tril, gradients
            )
    return Gradients(*(cast_gradient(g, t) for g, t in zip(gradients, cache.dtypes, strict=True)))


# --- sums that keep their digits ----------------------------------------------------------------

# Samples that a matrix product adds up at once.
ROWS = 32


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


if __name__ == "__main__":  # the example of docs/derivation.md
    value, cache = nll_forward([[0.0], [3.0]], [0.0, 0.0], [[0.0], [2.0]], [[[1.0]], [[2.0]]])
    print(f"two samples, two components, one dimension: value {value:.6f} nats")
    for argument, gradient in nll_backward(cache)._asdict().items():
        print(f"gradient in {argument}: {np.round(gradient, 6).tolist()}")
