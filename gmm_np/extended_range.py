"""The chain of reference.py where an intermediate leaves the range of a double.

A double ends at 1.8e308, so a distance of 1e200 standard deviations has no square, a subnormal
standard deviation has no inverse, and infinities that meet give NaN. Here the same equations are
computed with numbers whose exponents are integers of their own, so that a result is infinite only
where it is itself beyond the range, and then has the right sign. Section 8 of docs/derivation.md.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray, Reduction

IntArray = NDArray[np.intc]

# Exponent of a zero: below that of any product of doubles.
_ZERO = np.intc(-(10**6))
# Exponent of an infinity: products with it are still beyond the range of a double.
_INFINITE = np.intc(10**5)
# Shifts beyond this underflow to zero in any case, and ldexp takes no larger ones.
_LOWEST_SHIFT = np.intc(-2000)


@dataclass(frozen=True, eq=False)
class Wide:
    """Numbers mantissa * 2^exponent, with mantissas in [1/2, 1) or zero."""

    mantissa: FloatArray
    exponent: IntArray

    @classmethod
    def of(cls, values: FloatArray, exponent: IntArray | int = 0) -> Wide:
        """Split doubles, times 2^exponent. An infinity is a number larger than all others."""
        mantissa, own = np.frexp(values)
        total = np.where(mantissa == 0, _ZERO, own + np.intc(exponent))
        infinite = np.isinf(mantissa)
        mantissa = np.where(infinite, np.copysign(0.5, mantissa), mantissa)
        return cls(mantissa, np.where(infinite, _INFINITE, total).astype(np.intc))

    def to_double(self) -> FloatArray:
        """Round to doubles: infinite beyond their range."""
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.ldexp(self.mantissa, self.exponent))

    def __getitem__(self, index: Any) -> Wide:
        return Wide(self.mantissa[index], self.exponent[index])

    def times(self, other: Wide) -> Wide:
        """Return the product."""
        return Wide.of(self.mantissa * other.mantissa, self.exponent + other.exponent)

    def over(self, other: Wide) -> Wide:
        """Return the quotient."""
        return Wide.of(self.mantissa / other.mantissa, self.exponent - other.exponent)

    def negative(self) -> Wide:
        """Return the negative."""
        return Wide(-self.mantissa, self.exponent)

    def sum(self, axis: int) -> Wide:
        """Return the sum over an axis, its terms aligned with the largest, equation (44)."""
        top = self.exponent.max(axis=axis, keepdims=True)
        aligned = np.ldexp(self.mantissa, np.maximum(self.exponent - top, _LOWEST_SHIFT))
        return Wide.of(aligned.sum(axis=axis), top.squeeze(axis))


# --- the chain of reference.py, in its order and under its names ---------------------------------


def whiten(x: FloatArray, mean: FloatArray, factor: FloatArray) -> tuple[Wide, Wide]:
    """Return z = L^-1 (x - mean) and y = L^-T z, both [N, D], by substitution: (6) and (18)."""
    with np.errstate(over="ignore"):
        difference = x - mean
    finite = np.isfinite(difference)
    residual, halved = Wide.of(difference), Wide.of(0.5 * x - 0.5 * mean, 1)
    residual = Wide(
        np.where(finite, residual.mantissa, halved.mantissa),
        np.where(finite, residual.exponent, halved.exponent),
    )
    lower = Wide.of(factor)
    z = _substitute(lower, residual, range(len(mean)))
    upper = Wide(lower.mantissa.T, lower.exponent.T)
    return z, _substitute(upper, z, range(len(mean) - 1, -1, -1))


def quadratic_form_forward(
    x: FloatArray, mean: FloatArray, factor: FloatArray
) -> tuple[Wide, FloatArray]:
    """Squared distances [N], equations (6) and (7), and z [N, D] in doubles."""
    z, _ = whiten(x, mean, factor)
    return z.times(z).sum(axis=1), z.to_double()


def log_density_forward(
    x: FloatArray, mean: FloatArray, factor: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Log density [N], equation (9) without the weight, and z [N, D].

    Half a square may be a double where the square is not.
    """
    quadratic, z = quadratic_form_forward(x, mean, factor)
    half_quadratic = Wide(quadratic.mantissa, quadratic.exponent - np.intc(1)).to_double()
    half_log_det = float(np.log(np.diagonal(factor).copy()).sum())  # (8)
    return -half_quadratic - (half_log_det + 0.5 * mean.size * math.log(2 * math.pi)), z


def logsumexp_forward(log_joint: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log-likelihood [N], equation (10), and the softmax [N, K], equation (14)."""
    largest = log_joint.max(axis=1, keepdims=True)
    exponentials = np.exp(log_joint - np.where(np.isneginf(largest), 0.0, largest))
    others = exponentials.copy()
    np.put_along_axis(others, log_joint.argmax(axis=1)[:, None], 0.0, axis=1)
    total = exponentials.sum(axis=1, keepdims=True)
    value = largest[:, 0] + np.log1p(others.sum(axis=1))
    return value, exponentials / np.where(total == 0, 1.0, total)


def responsibilities(
    x: FloatArray, log_pi: FloatArray, means: FloatArray, factors: FloatArray
) -> FloatArray:
    """Responsibilities [N, K] of rows whose distance to every component has no finite square.

    Any difference between two such squares is decisive, so that the nearest component takes all;
    components exactly as near share by weight and determinant, equation (45), a limit of (14).
    """
    on = np.flatnonzero(log_pi > -np.inf)
    squares = [quadratic_form_forward(x, means[k], factors[k])[0] for k in on]
    mantissa = np.stack([square.mantissa for square in squares], axis=1)  # [N, K]
    exponent = np.stack([square.exponent for square in squares], axis=1)
    lowest = exponent == exponent.min(axis=1, keepdims=True)
    mantissa[~lowest] = np.inf
    nearest = mantissa == mantissa.min(axis=1, keepdims=True)
    density = np.array([log_pi[k] - np.log(np.diagonal(factors[k])).sum() for k in on])
    share = np.where(nearest, density, -np.inf)
    share = np.exp(share - share.max(axis=1, keepdims=True))
    resp = np.zeros((len(x), len(log_pi)))
    resp[:, on] = share / share.sum(axis=1, keepdims=True)
    return resp


def reduce_forward(
    log_likelihood: FloatArray, coefficient: FloatArray, reduction: Reduction
) -> FloatArray:
    """Loss (11), whose terms may be infinities of either sign: scalar, or [N] for "none"."""
    on = coefficient != 0
    loss = Wide.of(coefficient[on]).times(Wide.of(-log_likelihood[on]))
    if reduction != "none":
        return loss.sum(axis=0).to_double()
    value = np.zeros(len(log_likelihood))
    value[on] = loss.to_double()
    return value


def forward(
    x: FloatArray,
    log_pi: FloatArray,
    means: FloatArray,
    scale_tril: FloatArray,
    log_joint: FloatArray,
    z: list[FloatArray],
    coefficient: FloatArray,
    reduction: Reduction,
) -> tuple[FloatArray, list[FloatArray], FloatArray]:
    """Value, z and responsibilities. What is finite in `log_joint` and `z` stays as it is."""
    log_joint, z = log_joint.copy(), list(z)
    for k, (mean, factor) in enumerate(zip(means, scale_tril, strict=True)):
        far = ~np.isfinite(log_joint[:, k])
        if far.any():
            log_density, z_far = log_density_forward(x[far], mean, factor)
            log_joint[far, k] = log_pi[k] + log_density  # (9)
            finite = np.isfinite(z[k][far]).all(axis=1, keepdims=True)
            z[k] = z[k].copy()
            z[k][far] = np.where(finite, z[k][far], z_far)
    log_likelihood, resp = logsumexp_forward(log_joint)
    lost = np.isneginf(log_likelihood)
    if lost.any():  # every distance is beyond a double, and one is still the shortest
        resp[lost] = responsibilities(x[lost], log_pi, means, scale_tril)
    return reduce_forward(log_likelihood, coefficient, reduction), z, resp


def log_density_backward(
    d_log_density: FloatArray, x: FloatArray, mean: FloatArray, factor: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Gradients in the mean [D] and the factor [D, D]: equations (17) to (21)."""
    on = d_log_density != 0  # what has no share adds nothing, however far it is
    if not on.any():
        return np.zeros_like(mean), np.zeros_like(factor)
    z, y = whiten(x[on], mean, factor)
    d = Wide.of(d_log_density[on])
    pull = y.times(d[:, None])  # [N, D]  -d_e in (18)
    d_factor = np.zeros_like(factor)
    mass = d.sum(axis=0)
    for i in range(len(mean)):
        moment = pull[:, i, None].times(z[:, : i + 1]).sum(axis=0)  # [i + 1]  (20)
        d_factor[i, : i + 1] = moment.to_double()
        on_diagonal = mass.over(Wide.of(factor[i, i])).negative()  # (21)
        d_factor[i, i] = _stack([moment[i], on_diagonal]).sum(axis=0).to_double()
    return pull.sum(axis=0).to_double(), d_factor  # (19)


def x_backward(
    d_log_joint: FloatArray, x: FloatArray, means: FloatArray, scale_tril: FloatArray
) -> FloatArray:
    """Gradient in x [N, D], summed over components before it is rounded: (18) and (19)."""
    pulls = [
        whiten(x, mean, factor)[1].times(Wide.of(d)[:, None])
        for d, mean, factor in zip(d_log_joint.T, means, scale_tril, strict=True)
    ]
    return _stack(pulls).sum(axis=0).negative().to_double()


def backward(
    d_log_joint: FloatArray,
    x: FloatArray,
    means: FloatArray,
    scale_tril: FloatArray,
    gradients: tuple[FloatArray, ...],
) -> tuple[FloatArray, ...]:
    """Gradients in the logits, means, factors and x. A component or row that is finite stays."""
    d_pi_logits, d_means, d_scale_tril, d_x = gradients
    for k, d in enumerate(d_log_joint.T):
        if not (np.isfinite(d_means[k]).all() and np.isfinite(d_scale_tril[k]).all()):
            d_means[k], d_scale_tril[k] = log_density_backward(d, x, means[k], scale_tril[k])
    far = ~np.isfinite(d_x).all(axis=1)
    if far.any():
        d_x[far] = x_backward(d_log_joint[far], x[far], means, scale_tril)
    return d_pi_logits, d_means, d_scale_tril, d_x


# --- what the engine needs ----------------------------------------------------------------------


def whitened_moments(
    weight: FloatArray, x: FloatArray, mean: FloatArray, factor: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Sum weight z [D] and weight z z^T [D, D] over samples, equation (25)."""
    on = weight != 0
    if not on.any():
        return np.zeros_like(mean), np.zeros_like(factor)
    whitened, _ = whiten(x[on], mean, factor)
    weighted = whitened.times(Wide.of(weight[on])[:, None])
    second = [
        weighted[:, i, None].times(whitened).sum(axis=0).to_double() for i in range(len(mean))
    ]
    return weighted.sum(axis=0).to_double(), np.stack(second)


def moments_backward(
    mass: float, first: FloatArray, second: FloatArray, factor: FloatArray, total: float
) -> tuple[FloatArray, FloatArray]:
    """Gradients of one component in mean [D] and factor [D, D], over `total`, equation (26)."""
    n_dims, divisor = len(first), Wide.of(np.asarray(total))
    upper = Wide.of(factor.T)
    backwards = range(n_dims - 1, -1, -1)
    pull = _substitute(upper, Wide.of(first[None]), backwards)[0]
    solved = _substitute(upper, Wide.of(second), backwards)  # M is symmetric: row j is L^-T M_j
    d_factor = np.zeros_like(factor)
    for i in range(n_dims):
        d_factor[i, : i + 1] = solved[: i + 1, i].over(divisor).negative().to_double()
        own = Wide.of(np.asarray(mass)).over(upper[i, i])
        on_diagonal = _stack([own, solved[i, i].negative()]).sum(axis=0)
        d_factor[i, i] = on_diagonal.over(divisor).to_double()
    return pull.over(divisor).negative().to_double(), d_factor


def add(left: FloatArray, right: FloatArray) -> FloatArray:
    """Sum of two arrays in which opposite infinities cancel, and do not give NaN."""
    return _stack([Wide.of(left), Wide.of(right)]).sum(axis=0).to_double()


def _substitute(triangle: Wide, right: Wide, order: range) -> Wide:
    """Solve triangle z = right for each row of right [N, D], unknowns in the given order."""
    solved = Wide(np.zeros_like(right.mantissa), np.full_like(right.exponent, _ZERO))
    for i in order:
        # Unknowns that come later are still zero, and add nothing.
        known = triangle[i].times(solved).negative()  # [N, D]
        rest = _stack([right[:, i], known.sum(axis=1)]).sum(axis=0)
        value = rest.over(triangle[i, i])
        solved.mantissa[:, i], solved.exponent[:, i] = value.mantissa, value.exponent
    return solved


def _stack(numbers: Sequence[Wide]) -> Wide:
    return Wide(np.stack([n.mantissa for n in numbers]), np.stack([n.exponent for n in numbers]))
