"""The loss of a Gaussian mixture and its derivatives, first and second, by the chain rule.

    forward:   x, pi_logits, means, scale_tril -> value, and a cache of what the backward needs
    backward:  cache, d_value -> gradients

Read it from top to bottom, and at first without what stands under "chapter two": functions whose
names end in "tangent", which nothing outside them needs but `nll_hvp`.

Each step is a forward with its backward right below it. A backward takes d_<output>, the gradient
of the loss with respect to an output, and returns d_<input>. Each line that computes says what it
makes: the shape, the equation of docs/derivation.md, and the formula. N samples, K components, D
dimensions; all in float64 and in nats. Nothing is shared with the engine, so that each can be
checked against the other.

Chapter two differentiates both once more, along a direction in which all arguments move:

    tangent:           cache, dot_<arguments> -> dot_value, and tangents of what the cache holds
    backward tangent:  cache, tangents -> dot_d_<arguments>, the Hessian times the direction

Below each backward stand the tangent of its forward, which takes dot_<input>, the rate of an input
along the direction, to dot_<output>; and the tangent of the backward itself, which takes
dot_d_<output> to dot_d_<input>.

The text checks no arguments, and knows no end of the range of a double. `nll_forward`,
`nll_backward` and `nll_hvp`, below it, see to both: by checks.py, and by extended_range.py.
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
    as_scalar_reduction,
    check_d_value,
    check_sample_weight,
    check_x,
    first_of,
    unit_weights,
)
from gmm_np.parameters import (
    Gradients,
    cast_gradient,
    check_direction,
    check_mixture,
    gradient_dtype,
)

__all__ = ["Cache", "nll_backward", "nll_forward", "nll_hvp"]

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


# - - - chapter two - - -


def log_softmax_tangent(dot_pi_logits: FloatArray, pi: FloatArray) -> Pair:
    """Tangents of the logarithms of the weights [K] and of the weights [K], equation (50)."""
    dot_total, dot_pi = logsumexp_tangent(dot_pi_logits, pi)  # scalar, [K]
    # [K]  (50)  dot_log pi_k = dot_a_k - sum_j pi_j dot_a_j
    return dot_pi_logits - dot_total, dot_pi


def log_softmax_backward_tangent(
    dot_d_log_pi: FloatArray, d_log_pi: FloatArray, pi: FloatArray, dot_pi: FloatArray
) -> FloatArray:
    """Tangent of the gradient in the logits [K], equation (59): pi is a factor, and moves."""
    total, dot_total = d_log_pi.sum(), dot_d_log_pi.sum()  # scalar  (59)  sum_j d_log pi_j
    # [K]  (59)  dot_d_a_k = dot_d_log pi_k - dot_pi_k sum_j d_log pi_j - pi_k sum_j dot_d_log pi_j
    return np.asarray(dot_d_log_pi - dot_pi * total - pi * dot_total)


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


# - - - chapter two - - -


def quadratic_form_tangent(
    dot_x: FloatArray, dot_mean: FloatArray, dot_factor: FloatArray, factor: FloatArray,
    z: FloatArray,
) -> Pair:  # fmt: skip
    """Tangents of the squared distances [N] and of z [N, D], equations (51) and (52)."""
    dot_residual = dot_x - dot_mean  # [N, D]  (51)  dot_e_nk = dot_x_n - dot_mu_k
    right = dot_residual - z @ dot_factor.T  # [N, D]  (51)  dot_e_nk - dot_L_k z_nk
    # [N, D]  (51)  L_k dot_z_nk = dot_e_nk - dot_L_k z_nk
    dot_z = solve_triangular(factor, right.T, lower=True, check_finite=False).T
    # [N]  (52)  dot_q_nk = 2 z_nk^T dot_z_nk
    return 2.0 * np.einsum("nd,nd->n", z, dot_z), dot_z


def quadratic_form_backward_tangent(
    dot_d_quadratic: FloatArray, d_quadratic: FloatArray, factor: FloatArray,
    dot_factor: FloatArray, z: FloatArray, dot_z: FloatArray,
) -> Triple:  # fmt: skip
    """Tangents of the gradients in x, mean and factor: (61) with y of (18), (62) and (63)."""
    # [N, D]  (18)  y_nk = L_k^-T z_nk
    y = solve_triangular(factor, z.T, lower=True, trans="T", check_finite=False).T
    right = dot_z - y @ dot_factor  # [N, D]  (61)  dot_z_nk - dot_L_k^T y_nk
    # [N, D]  (61)  L_k^T dot_y_nk = dot_z_nk - dot_L_k^T y_nk
    dot_y = solve_triangular(factor, right.T, lower=True, trans="T", check_finite=False).T
    d_residual = 2.0 * d_quadratic[:, None] * y  # [N, D]  (18)  d_e_nk = 2 d_q_nk y_nk
    # [N, D]  (61)  dot_d_e_nk = 2 dot_d_q_nk y_nk + 2 d_q_nk dot_y_nk
    dot_d_residual = 2.0 * (dot_d_quadratic[:, None] * y + d_quadratic[:, None] * dot_y)
    dot_d_mean = -sum_over_samples(dot_d_residual)  # [D]  (62)  dot_d_mu_k = -sum_n dot_d_e_nk
    # [D, D]  (63)  sum_n (dot_d_e_nk z_nk^T + d_e_nk dot_z_nk^T)
    products = sum_of_products(dot_d_residual, z) + sum_of_products(d_residual, dot_z)
    # [D, D]  (63)  dot_d_L_k <- -tril(sum_n (dot_d_e_nk z_nk^T + d_e_nk dot_z_nk^T))
    return dot_d_residual, dot_d_mean, -np.tril(products)


# --- 3. log_density = -quadratic / 2 - half_log_det - (D/2) log 2 pi ----------------------------


def half_log_det_forward(factor: FloatArray) -> tuple[float, FloatArray]:
    """Half the log-determinant of a covariance, equation (8). Keeps the factor's diagonal [D]."""
    diagonal = np.diagonal(factor).copy()  # [D]
    return float(np.log(diagonal).sum()), diagonal  # scalar  (8)  h_k = sum_i log L_k,ii


def half_log_det_backward(d_half_log_det: float, diagonal: FloatArray) -> FloatArray:
    """Gradient in the factor [D, D], equation (21)."""
    # [D, D]  (21)  d_L_k <- diag(d_h_k / L_k,11, ..., d_h_k / L_k,DD)
    return np.diag(d_half_log_det / diagonal)


# - - - chapter two - - -


def half_log_det_tangent(dot_factor: FloatArray, diagonal: FloatArray) -> float:
    """Tangent of half the log-determinant, equation (53)."""
    # scalar  (53)  dot_h_k = sum_i dot_L_k,ii / L_k,ii
    return float((np.diagonal(dot_factor) / diagonal).sum())


def half_log_det_backward_tangent(
    dot_d_half_log_det: float, d_half_log_det: float, dot_factor: FloatArray, diagonal: FloatArray
) -> FloatArray:
    """Tangent of the gradient in the factor [D, D], equation (64)."""
    rate = np.diagonal(dot_factor) / diagonal  # [D]  (64)  dot_L_k,ii / L_k,ii
    # [D, D]  (64)  dot_d_L_k,ii <- (dot_d_h_k - d_h_k dot_L_k,ii / L_k,ii) / L_k,ii
    return np.diag((dot_d_half_log_det - d_half_log_det * rate) / diagonal)


# - - - the log density, from both - - -


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


# - - - chapter two - - -


def log_density_tangent(
    dot_x: FloatArray, dot_mean: FloatArray, dot_factor: FloatArray, factor: FloatArray,
    z: FloatArray,
) -> Pair:  # fmt: skip
    """Tangents of the log density [N], equation (54) without the weight, and of z [N, D]."""
    dot_quadratic, dot_z = quadratic_form_tangent(dot_x, dot_mean, dot_factor, factor, z)
    dot_half_log_det = half_log_det_tangent(dot_factor, np.diagonal(factor))  # scalar
    # [N]  (54)  dot_t_nk = dot_log pi_k - 1/2 dot_q_nk - dot_h_k
    return -0.5 * dot_quadratic - dot_half_log_det, dot_z


def log_density_backward_tangent(
    dot_d_log_density: FloatArray, d_log_density: FloatArray, factor: FloatArray,
    dot_factor: FloatArray, z: FloatArray, dot_z: FloatArray,
) -> Triple:  # fmt: skip
    """Tangents of the gradients in x, mean and factor: (17) and (60), and (12) for the last."""
    d_quadratic = -0.5 * d_log_density  # [N]  (17)  d_q_nk = -1/2 d_t_nk
    d_half_log_det = -float(d_log_density.sum())  # scalar  (17)  d_h_k = -sum_n d_t_nk
    dot_d_quadratic = -0.5 * dot_d_log_density  # [N]  (60)  dot_d_q_nk = -1/2 dot_d_t_nk
    # scalar  (60)  dot_d_h_k = -sum_n dot_d_t_nk
    dot_d_half_log_det = -float(dot_d_log_density.sum())
    dot_d_x, dot_d_mean, dot_d_factor = quadratic_form_backward_tangent(
        dot_d_quadratic, d_quadratic, factor, dot_factor, z, dot_z
    )
    # [D, D]  (12)  it is used twice, so that two gradients add, and their tangents
    dot_d_factor += half_log_det_backward_tangent(
        dot_d_half_log_det, d_half_log_det, dot_factor, np.diagonal(factor)
    )
    return dot_d_x, dot_d_mean, dot_d_factor


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


# - - - chapter two - - -


def logsumexp_tangent(dot_terms: FloatArray, softmax: FloatArray) -> Pair:
    """Tangents of the logsumexp [...] and of the softmax [..., K], equation (55)."""
    dot_value = (softmax * dot_terms).sum(axis=-1)  # [N]  (55)  dot_l_n = sum_k r_nk dot_t_nk
    # [N, K]  (55)  dot_r_nk = r_nk (dot_t_nk - dot_l_n)
    return dot_value, softmax * (dot_terms - dot_value[..., None])


def logsumexp_backward_tangent(
    dot_d_value: FloatArray, d_value: FloatArray, softmax: FloatArray, dot_softmax: FloatArray
) -> FloatArray:
    """Tangent of the gradient in the terms [..., K], equation (58): the shares move."""
    # [N, K]  (58)  dot_d_t_nk = dot_r_nk d_l_n + r_nk dot_d_l_n
    return np.asarray(dot_softmax * d_value[..., None] + softmax * dot_d_value[..., None])


# - - - the loss - - -


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


# - - - chapter two - - -


def reduce_tangent(
    dot_log_likelihood: FloatArray, coefficient: FloatArray, reduction: Reduction
) -> FloatArray:
    """Tangent of the loss, equation (56): scalar, or [N] for "none"."""
    dot_loss = -coefficient * dot_log_likelihood  # [N]  (56)  (w_n / W) dot_l_n
    # scalar  (56)  dot_f = -sum_n (w_n / W) dot_l_n
    return dot_loss if reduction == "none" else dot_loss.sum()


def reduce_backward_tangent(dot_d_value: FloatArray, coefficient: FloatArray) -> FloatArray:
    """Tangent of the gradient in the log-likelihood [N], equation (57): its factor is constant."""
    return np.asarray(-coefficient * dot_d_value)  # [N]  (57)  dot_d_l_n = -(w_n / W) dot_d_f


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


# - - - chapter two - - -


def tangent(
    cache: Cache, dot_pi_logits: FloatArray, dot_means: FloatArray, dot_scale_tril: FloatArray,
    dot_x: FloatArray,
) -> tuple[FloatArray, Tangents]:  # fmt: skip
    """Slope of the loss along a direction, and what its backward tangent needs: (54)."""
    dot_log_pi, dot_pi = log_softmax_tangent(dot_pi_logits, cache.pi)  # [K], [K]
    dot_log_joint, dot_z = np.empty_like(cache.log_joint), []  # [N, K], K of [N, D]
    for k in range(len(dot_means)):
        component = (dot_x, dot_means[k], dot_scale_tril[k], cache.scale_tril[k], cache.z[k])
        dot_log_density, dot_z_k = log_density_tangent(*component)  # [N], [N, D]
        # [N]  (54)  dot_t_nk = dot_log pi_k - 1/2 dot_q_nk - dot_h_k
        dot_log_joint[:, k] = dot_log_pi[k] + dot_log_density
        dot_z.append(dot_z_k)
    dot_log_likelihood, dot_resp = logsumexp_tangent(dot_log_joint, cache.resp)  # [N], [N, K]
    dot_value = reduce_tangent(dot_log_likelihood, cache.coefficient, cache.reduction)
    return dot_value, Tangents(dot_scale_tril, dot_pi, dot_z, dot_resp)


def backward_tangent(
    cache: Cache, tangents: Tangents, d_value: FloatArray, dot_d_value: FloatArray
) -> tuple[FloatArray, ...]:
    """Tangents of the gradients in logits, means, factors and x: (16), (59) and (62)."""
    dot_scale_tril, dot_z = tangents.dot_scale_tril, tangents.dot_z
    d_log_likelihood = reduce_backward(d_value, cache.coefficient)  # [N]
    dot_d_log_likelihood = reduce_backward_tangent(dot_d_value, cache.coefficient)  # [N]
    d_log_joint = logsumexp_backward(d_log_likelihood, cache.resp)  # [N, K]
    dot_d_log_joint = logsumexp_backward_tangent(
        dot_d_log_likelihood, d_log_likelihood, cache.resp, tangents.dot_resp
    )
    d_log_pi = sum_over_samples(d_log_joint)  # [K]  (16)  d_log pi_k = sum_n d_t_nk
    dot_d_log_pi = sum_over_samples(dot_d_log_joint)  # [K]  (59)  dot_d_log pi_k = sum_n dot_d_t_nk
    dot_d_pi_logits = log_softmax_backward_tangent(
        dot_d_log_pi, d_log_pi, cache.pi, tangents.dot_pi
    )
    dot_d_x, dot_d_means = np.zeros_like(cache.x), np.empty_like(cache.means)
    dot_d_scale_tril = np.empty_like(cache.scale_tril)
    for k in range(len(dot_d_means)):
        component = (cache.scale_tril[k], dot_scale_tril[k], cache.z[k], dot_z[k])
        dot_d_x_k, dot_d_means[k], dot_d_scale_tril[k] = log_density_backward_tangent(
            dot_d_log_joint[:, k], d_log_joint[:, k], *component
        )
        dot_d_x += dot_d_x_k  # [N, D]  (62)  dot_d_x_n = sum_k dot_d_e_nk
    return dot_d_pi_logits, dot_d_means, dot_d_scale_tril, dot_d_x


# --- the contract: arguments, and the ends of the range -----------------------------------------

# What messages call the places in a product.
_AXES = {
    "pi_logits": ("component",),
    "means": ("component", "column"),
    "scale_tril": ("component", "row", "column"),
    "x": ("row", "column"),
}


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


@dataclass(frozen=True, eq=False)
class Tangents:
    """How fast what a `Cache` holds moves along a direction.

    Attributes
    ----------
    dot_scale_tril : ndarray, shape [K, D, D]
        Lower triangular.
    dot_pi : ndarray, shape [K]
    dot_z : list of ndarray, length K, each of shape [N, D]
    dot_resp : ndarray, shape [N, K]
    """

    dot_scale_tril: FloatArray
    dot_pi: FloatArray
    dot_z: list[FloatArray]
    dot_resp: FloatArray


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


def nll_hvp(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale_tril: ArrayLike,
    direction: Gradients,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Gradients:
    """Hessian-vector product of the negative log-likelihood: the rate of its gradient, (49).

    All arguments move together, so that the Hessian has a row and a column for each entry of the
    logits, the means, the factors' lower triangles and x.

    Parameters
    ----------
    x : array_like, shape [N, D]
    pi_logits : array_like, shape [K]
    means : array_like, shape [K, D]
    scale_tril : array_like, shape [K, D, D]
        As for `nll_forward`.
    direction : Gradients
        How fast each entry moves: finite, each array in the shape of its argument, `scale` lower
        triangular. `scale` and `x` may be None, for zero. The logit of a component that is off
        stays at -inf, whatever it says there.
    sample_weight : array_like, shape [N], optional
        Weights w_n, not negative; 1 for each sample by default.
    reduction : {"mean", "sum"}
        Weighted mean over samples (the default), or weighted sum.

    Returns
    -------
    Gradients
        The Hessian times the direction: for the logits [K], the means [K, D], the Cholesky factors
        [K, D, D] (exactly lower triangular) and x [N, D]. Each comes in the dtype of its argument.

    Raises
    ------
    TypeError, ValueError
        As `nll_forward`; or if `direction` is not what it has to be, or the loss is not one number.
    OverflowError
        If the product, or a step on the way to it, is beyond the range of a double.

    Notes
    -----
    Louis' identity (65) gives the same without the chain rule through the logsumexp, by (66) and
    (67). Samples add up in both, so that ``reduction="sum"`` over blocks of rows may be added.

    Examples
    --------
    >>> import numpy as np
    >>> from gmm_np import Gradients
    >>> from gmm_np.reference import nll_hvp
    >>> direction = Gradients(np.zeros(1), np.ones((1, 1)), None)
    >>> nll_hvp([[0.0], [3.0]], [0.0], [[1.0]], [[[2.0]]], direction).means.tolist()
    [[0.25]]
    """
    reduction = as_scalar_reduction(reduction)
    arguments = (x, pi_logits, means, scale_tril)
    _, cache = nll_forward(*arguments, sample_weight=sample_weight, reduction=reduction)
    moves = [
        move.copy() for move in check_direction(direction, cache.means, cache.scale_tril, cache.x)
    ]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        # What has no share adds nothing, however far or narrow it is and however fast it moves.
        without = cache.resp * cache.coefficient[:, None] == 0  # [N, K]
        z = [np.where(without[:, [k]], 0.0, z_k) for k, z_k in enumerate(cache.z)]
        L, idle = cache.scale_tril.copy(), without.all(axis=0)  # [K, D, D], [K]
        L[idle], moves[1][idle], moves[2][idle] = np.eye(L.shape[-1]), 0.0, 0.0
        cache = replace(cache, z=z, scale_tril=L)
        _, tangents = tangent(cache, *moves)
        products = backward_tangent(cache, tangents, np.ones(()), np.zeros(()))
    for (name, axes), product in zip(_AXES.items(), products, strict=True):
        if not np.isfinite(product).all():
            raise OverflowError(
                f"the Hessian-vector product in {name}, or a step to it, is beyond the range of a "
                f"double: {first_of(~np.isfinite(product), axes)}. Choose units in which x is of "
                "order one, or a shorter direction: the product is linear in it."
            )
    return Gradients(*(cast_gradient(g, t) for g, t in zip(products, cache.dtypes, strict=True)))


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
    direction = Gradients(
        *map(np.array, ([1.0, 0.0], [[1.0], [0.0]], [[[0.0]], [[1.0]]], [[1.0], [0.0]]))
    )
    product = nll_hvp(cache.x, [0.0, 0.0], cache.means, cache.scale_tril, direction)
    for argument, rate in product._asdict().items():
        print(f"its rate along the direction: {argument}: {np.round(rate, 6).tolist()}")
