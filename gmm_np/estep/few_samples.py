"""The loss of few samples and its gradient, all at once: what takes time there is calls.

The formulae of the residual kernel on the Cholesky factors of any family, without blocks, threads
or a choice. What leaves the range of a double is left to the kernels.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np import tuning
from gmm_np.checks import FloatArray, is_finite, not_finite
from gmm_np.covariance import FAMILIES
from gmm_np.estep.prepared_mixture import LOG_2_PI
from gmm_np.linalg import triangles
from gmm_np.parameters import Gradients, Parameters


class Forward(NamedTuple):
    """A softmax over components, and what it was made of.

    Attributes
    ----------
    log_likelihood : ndarray, shape [N]
    exponentials, total : ndarray, shapes [K, N] and [N]
        Responsibilities are exponentials / total.
    z : ndarray, shape [K, D, N]
        Whitened residuals.
    factors, inverse : ndarray, shape [K, D, D]
    weights : ndarray, shape [K]
        Of the components.
    """

    log_likelihood: FloatArray
    exponentials: FloatArray
    total: FloatArray
    z: FloatArray
    factors: FloatArray
    inverse: FloatArray
    weights: FloatArray


def are_few(n_samples: int, parameters: Parameters, method: str) -> bool:
    """Whether samples are so few that calls take most of the time."""
    k, d = parameters.means.shape
    most = tuning.active.little_work
    return n_samples * k * d <= most and k * d * d <= most and method != "moments"


def forward(x: NDArray[Any], parameters: Parameters) -> Forward | None:
    """Return the log-likelihoods of samples x [N, D], equations (3) to (10).

    None where something leaves the range of a double.

    Raises
    ------
    ValueError
        If a value of x is not finite.
    """
    samples = np.ascontiguousarray(x.T, np.float64)
    if not is_finite(samples):
        raise not_finite(x)
    means = parameters.means.astype(np.float64, copy=False)
    scale = parameters.scale.astype(np.float64, copy=False)
    factors = FAMILIES[parameters.family].expand(scale, *means.shape)
    logits = parameters.pi_logits.astype(np.float64, copy=False)
    with np.errstate(all="ignore"):
        inverse = triangles.inverses(factors)
        z = np.matmul(inverse, samples - means[:, :, None])  # (6)
        log_pi = logits - np.maximum.reduce(logits)
        weights = np.exp(log_pi)
        sum_of_weights = np.add.reduce(weights)
        constant = log_pi - math.log(sum_of_weights)  # (4)
        constant -= np.add.reduce(np.log(triangles.diagonal_of(factors)), axis=1)  # (8)
        constant -= 0.5 * means.shape[1] * LOG_2_PI
        terms = np.einsum("kdn,kdn->kn", z, z)
        terms *= -0.5
        terms += constant[:, None]  # (9)
        largest = np.maximum.reduce(terms, axis=0)
        terms -= largest
        exponentials = np.exp(terms, out=terms)
        total = np.add.reduce(exponentials, axis=0)
        log_likelihood = largest + np.log(total)  # (10)
    if not is_finite(log_likelihood):
        return None
    weights /= sum_of_weights
    return Forward(log_likelihood, exponentials, total, z, factors, inverse, weights)


def value_and_grad(
    x: NDArray[Any], parameters: Parameters, weight: FloatArray | None, *, mean: bool
) -> tuple[float, Gradients] | None:
    """Return the weighted sum, or mean, of the loss, and its gradient: (12) to (23).

    None where something leaves the range of a double.

    Raises
    ------
    ValueError
        If a value of x is not finite.
    """
    found = forward(x, parameters)
    if found is None:
        return None
    log_likelihood, r, total, z, factors, inverse, weights = found
    with np.errstate(all="ignore"):
        if weight is None:
            each = 1.0 / len(x) if mean else 1.0
            value = -each * float(log_likelihood.sum())
            r *= each / total
        else:
            share = weight / weight.sum() if mean else weight
            value = -float(share @ log_likelihood)
            r *= share / total  # (14)
        mass = np.add.reduce(r, axis=1)
        weighted = r[:, None] * z
        first = np.add.reduce(weighted, axis=2)
        d_means = np.matmul(first[:, None], inverse)[:, 0]
        np.negative(d_means, out=d_means)  # (22)
        second = np.matmul(weighted, z.transpose(0, 2, 1))
        d_factors = np.matmul(inverse.transpose(0, 2, 1), second)
        np.negative(d_factors, out=d_factors)
        triangles.clear_above(d_factors)  # (23)
        triangles.diagonal_of(d_factors)[...] += mass[:, None] / triangles.diagonal_of(factors)
        # The mass, not the weight that it equals: then rounding leaves K = 1 an exact zero.
        d_logits = np.add.reduce(mass) * weights - mass  # (16)
        d_scale = FAMILIES[parameters.family].reduce(d_factors)
        if not math.isfinite(value + d_scale.sum() + d_means.sum()):
            return None
    return value, parameters.as_gradients(d_logits, d_means, d_scale)
