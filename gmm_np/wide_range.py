"""What the reference falls back on where an intermediate leaves the range of a double.

A double ends at 1.8e308, so a distance of 1e200 standard deviations has no square, a subnormal
standard deviation has no inverse, and infinities that meet give NaN. Here each intermediate is a
mantissa times a power of two, kept apart until the end, so that a result is infinite only where it
is itself beyond the range, and then has the right sign. Powers of two cost no rounding. Section 8
of docs/derivation.md.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular

from gmm_np.parameters import FloatArray

IntArray = NDArray[np.integer[Any]]

_NEVER = -(10**6)  # exponent of a zero: below that of any product of doubles


class Whitened(NamedTuple):
    """Whitened residuals and their pulls of one component.

    z = L^-1 (x - mean) = whitened * 2^exponent[:, None], and
    Sigma^-1 (x - mean) = pull * 2^(exponent[:, None] - rows).
    """

    whitened: FloatArray  # [N, D]
    pull: FloatArray  # [N, D]
    exponent: IntArray  # [N]
    rows: IntArray  # [D]
    diagonal: FloatArray  # [D]: L_ii = diagonal_i * 2^rows_i


def split(values: FloatArray) -> tuple[FloatArray, IntArray]:
    """Split into mantissas and exponents; a zero has an exponent below all others."""
    mantissa, exponent = np.frexp(values)
    return mantissa, np.where(mantissa == 0, _NEVER, exponent.astype(np.int64))


def whiten(x: FloatArray, mean: FloatArray, factor: FloatArray) -> Whitened:
    """Whiten the rows of x, equation (6), with each row of the factor scaled to a unit diagonal."""
    residual = x - mean  # [N, D]
    halved = np.isinf(residual)
    residual[halved] = (0.5 * x - 0.5 * mean)[halved]
    mantissa, exponent = split(residual)
    rows = np.frexp(np.diagonal(factor))[1].astype(np.int64)  # [D]
    unit = np.ldexp(factor, -rows[:, None])  # [D, D]
    exponent = exponent + halved - rows  # [N, D]
    largest = exponent.max(axis=1)  # [N]
    scaled = np.ldexp(mantissa, np.maximum(exponent - largest[:, None], -2000))
    whitened = solve_triangular(unit, scaled.T, lower=True, check_finite=False).T
    pull = cho_solve((unit, True), scaled.T, check_finite=False).T
    return Whitened(whitened, pull, largest, rows, np.diagonal(unit))


def quadratic_form(
    x: FloatArray, mean: FloatArray, factor: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Squared distances [N] and whitened residuals [N, D], equations (6) and (7)."""
    near = whiten(x, mean, factor)
    squared = np.einsum("nd,nd->n", near.whitened, near.whitened)
    return np.ldexp(squared, 2 * near.exponent), np.ldexp(near.whitened, near.exponent[:, None])


def responsibilities(
    x: FloatArray, log_pi: FloatArray, means: FloatArray, factors: FloatArray
) -> FloatArray:
    """Responsibilities [N, K] of rows whose distance to every component has no finite square.

    Any difference between two such distances is decisive, so that the nearest component takes
    all; components exactly as near share by weight and determinant, equation (14).
    """
    n_components = len(means)
    distance = np.empty((len(x), n_components))  # [N, K], as a base-2 logarithm
    density = np.empty(n_components)
    for k in range(n_components):
        near = whiten(x, means[k], factors[k])
        with np.errstate(divide="ignore"):
            distance[:, k] = np.log2(np.linalg.norm(near.whitened, axis=1)) + near.exponent
        density[k] = log_pi[k] - np.log(np.diagonal(factors[k])).sum()
    distance[:, np.isneginf(log_pi)] = np.inf
    nearest = distance == distance.min(axis=1, keepdims=True)
    share = np.where(nearest, density, -np.inf)
    share = np.exp(share - share.max(axis=1, keepdims=True))
    return np.asarray(share / share.sum(axis=1, keepdims=True))


def log_density_backward(
    d_log_density: FloatArray, x: FloatArray, mean: FloatArray, factor: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gradients of one component with respect to x, mean and factor: equations (17) to (21)."""
    d_x = np.zeros_like(x)
    on = d_log_density != 0  # what has no share adds nothing, however far it is
    if not on.any():
        return d_x, np.zeros_like(mean), np.zeros_like(factor)
    near = whiten(x[on], mean, factor)
    d, d_exponent = split(d_log_density[on])  # [N]

    exponent = d_exponent + near.exponent  # [N]
    d_x[on] = np.ldexp(-d[:, None] * near.pull, exponent[:, None] - near.rows)  # (18)
    top = exponent.max()
    d_mean = _scale_down(d, exponent - top) @ near.pull  # [D]
    d_mean = np.ldexp(d_mean, top - near.rows)  # (19)

    exponent = d_exponent + 2 * near.exponent  # [N]
    top = max(exponent.max(), d_exponent.max())
    moment = (_scale_down(d, exponent - top)[:, None] * near.pull).T @ near.whitened  # [D, D]
    mass = _scale_down(d, d_exponent - top).sum() / near.diagonal  # [D]
    d_factor = np.ldexp(np.tril(moment) - np.diag(mass), (top - near.rows)[:, None])  # (20), (21)
    return d_x, d_mean, d_factor


def whitened_moments(
    weight: FloatArray, x: FloatArray, mean: FloatArray, factor: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Sum weight z [D] and weight z z^T [D, D] over samples, equation (25)."""
    on = weight != 0
    if not on.any():
        return np.zeros_like(mean), np.zeros_like(factor)
    near = whiten(x[on], mean, factor)
    w, w_exponent = split(weight[on])
    exponent = w_exponent + near.exponent
    top = exponent.max()
    first = np.ldexp(_scale_down(w, exponent - top) @ near.whitened, top)
    exponent = w_exponent + 2 * near.exponent
    top = exponent.max()
    scaled = _scale_down(w, exponent - top)[:, None] * near.whitened
    return first, np.ldexp(scaled.T @ near.whitened, top)


def product(left: FloatArray, right: FloatArray) -> FloatArray:
    """Matrix product; where `right` has infinities, they decide, and never meet a zero."""
    infinite = np.isinf(right)
    if not infinite.any():
        return np.asarray(np.matmul(left, right))
    decisive = np.matmul(left, np.where(infinite, np.sign(right), 0.0))
    finite = np.matmul(left, np.where(infinite, 0.0, right))
    return np.asarray(np.where(decisive != 0, np.copysign(np.inf, decisive), finite))


def x_backward(
    d_log_joint: FloatArray, components: Sequence[tuple[FloatArray, FloatArray, FloatArray]]
) -> FloatArray:
    """Gradient with respect to x [N, D], summed over components before it leaves the range."""
    mantissas, exponents = [], []
    for d_log_density, (x, mean, factor) in zip(d_log_joint.T, components, strict=True):
        near = whiten(x, mean, factor)
        d, d_exponent = split(d_log_density)
        mantissas.append(-d[:, None] * near.pull)  # [N, D]
        exponents.append((d_exponent + near.exponent)[:, None] - near.rows)  # [N, D]
    exponent = np.stack(exponents)  # [K, N, D]
    top = exponent.max(axis=0)  # [N, D]
    total = _scale_down(np.stack(mantissas), exponent - top).sum(axis=0)
    return np.asarray(np.ldexp(total, top))


def _scale_down(mantissa: FloatArray, exponent: IntArray) -> FloatArray:
    """Mantissa times 2^exponent for exponents up to zero; what underflows does not count."""
    return np.asarray(np.ldexp(mantissa, np.maximum(exponent, -2000)))
