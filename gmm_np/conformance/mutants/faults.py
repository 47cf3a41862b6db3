# ruff: noqa: ARG001, ARG005  (a step takes all arguments, and may use a few)
"""Mutants after faults that were published lately, floors, and remainders of loops.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.conformance.mutants.rowwise import mean_of_logs
from gmm_np.conformance.plain import Answer, Plain, mutant

Pair = tuple[FloatArray, FloatArray]

# --- published lately ---------------------------------------------------------------------------


def _diagonal_chain(m: Plain, d_log_pi: FloatArray, pi: FloatArray) -> FloatArray:
    """Chain through pi (1 - pi) alone, each slope counted from the last component's."""
    slope = np.where(pi > 0, d_log_pi / np.where(pi > 0, pi, 1.0), 0.0)
    d_logits = pi * (1.0 - pi) * (slope - slope[-1])
    d_logits[-1] = -d_logits[:-1].sum()
    return np.asarray(d_logits)


def _square_roots(m: Plain, terms: FloatArray) -> Pair:
    """Return -2 log sum pi exp(log p / 2), and the responsibilities that this has."""
    half = terms - 0.5 * (terms - m.log_pi)  # type: ignore[attr-defined]
    log_sum, resp = Plain.logsumexp(m, half)
    return 2.0 * log_sum, resp


def _log_pi_noted(m: Any, logits: FloatArray) -> Pair:
    log_pi, pi = Plain.log_softmax(m, logits)
    m.log_pi = np.where(np.isneginf(log_pi), -1e300, log_pi)
    return log_pi, pi


def _linear_binary32(m: Plain, terms: FloatArray) -> Pair:
    log_likelihood, _ = Plain.logsumexp(m, terms)
    densities = np.exp(terms.astype(np.float32))
    resp = densities / densities.sum(axis=1, keepdims=True)
    return log_likelihood, resp.astype(np.float64)


def _mean_of_logs(
    m: Plain, x: Any, logits: Any, means: Any, chol: Any, weight: Any, reduction: str
) -> Answer:
    x, logits, means, chol, weight = m.check(x, logits, means, chol, weight)
    return mean_of_logs(x, logits, means, chol, weight, reduction)


def _factors_noted(m: Any, *arguments: Any) -> tuple[Any, ...]:
    checked = Plain.check(m, *arguments)
    m.chol, m.weighted = checked[3], checked[4] is not None
    return checked


def _diagonal_of_batch(m: Any, factor: FloatArray) -> float:
    """Take the diagonal over the axes of components and rows, not over those of a factor."""
    return float(np.log(np.diagonal(m.chol)).sum()) / len(m.chol)


def _nan_where_weighted(m: Any, d_log_pi: FloatArray, pi: FloatArray) -> FloatArray:
    if not m.weighted:
        return Plain.log_softmax_backward(m, d_log_pi, pi)
    return np.asarray(pi * (d_log_pi / pi - (pi * (d_log_pi / pi)).sum()))


# --- floors -------------------------------------------------------------------------------------


def _floored_determinant(m: Plain, factor: FloatArray) -> float:
    return 0.5 * float(np.log(max(np.prod(np.diagonal(factor)) ** 2, 1e-12)))


def _floored_determinant_backward(m: Plain, factor: FloatArray) -> FloatArray:
    on = float(np.prod(np.diagonal(factor)) ** 2) > 1e-12
    return on * Plain.half_log_det_backward(m, factor)


def _floored_weights(m: Plain, logits: FloatArray) -> Pair:
    _, pi = Plain.log_softmax(m, logits)
    return np.log(np.maximum(pi, 1e-8)), pi


# --- remainders of loops ------------------------------------------------------------------------


def _whole(size: int, block: int) -> int:
    """Return how many there are before the remainder, all if there is no more than one block."""
    return size // block * block if size > block else size


def _tail(axis: str, block: int) -> dict[str, Any]:
    """Return the step that leaves the remainder of an axis out of the gradient."""

    def d_terms(m: Plain, coefficient: FloatArray, resp: FloatArray) -> FloatArray:
        found = Plain.d_terms(m, coefficient, resp)
        if axis == "rows":
            found[_whole(found.shape[0], block) :] = 0.0
        else:
            found[:, _whole(found.shape[1], block) :] = 0.0
        return found

    def quadratic(m: Plain, x: FloatArray, mean: FloatArray, factor: FloatArray) -> Any:
        _, z = Plain.quadratic(m, x, mean, factor)
        square = z[:, : _whole(z.shape[1], block)]
        return np.einsum("nd,nd->n", square, square), z

    return {"quadratic": quadratic} if axis == "features" else {"d_terms": d_terms}


def _tails() -> Iterator[Any]:
    words = {
        "rows": "Samples after the last whole block of {} have no share in the gradient.",
        "components": "Components after the last whole block of {} get no gradient.",
        "features": "Columns after the last whole block of {} are left out of squared distances.",
    }
    for axis, sentence in words.items():
        for block in (8, 4, 16):
            name = f"tail_{axis}" if block == 8 else f"tail_{axis}_of_{block}"
            yield mutant(name, sentence.format(block), **_tail(axis, block))


# fmt: off
MUTANTS: Final = (
    mutant("softmax_chain_diagonal", "The gradient of the logits goes through the diagonal of the "
           "softmax's Jacobian alone: right with two components, wrong from three.",
           log_softmax_backward=_diagonal_chain),
    mutant("square_root_mixture", "Square roots of densities are mixed, and the result doubled: "
           "right with one component, or with components that are alike.",
           log_softmax=_log_pi_noted, logsumexp=_square_roots),
    mutant("minus_two_missing", "The gradient of the logits is that of a log-likelihood beside a "
           "deviance: a factor of -2 is missing.",
           log_softmax_backward=lambda m, d_log_pi, pi: (
               -0.5 * Plain.log_softmax_backward(m, d_log_pi, pi))),
    mutant("linear_backward_binary32", "The backward leaves log space in single precision: the "
           "value is right, and the gradient NaN or without digits.", logsumexp=_linear_binary32),
    mutant("mean_of_logs", "The mean of the log-densities stands for the logarithm of the mean "
           "density.", answer=_mean_of_logs),
    mutant("diagonal_of_batch", "The log-determinants are of a diagonal of the stack of factors, "
           "over components and rows.", check=_factors_noted, half_log_det=_diagonal_of_batch),
    mutant("off_meets_weights_nan", "NaN in the gradient of the logits only where samples have "
           "weights and a component is off.", check=_factors_noted,
           log_softmax_backward=_nan_where_weighted),
    mutant("floored_determinant", "The determinant of a covariance is kept above 1e-12.",
           half_log_det=_floored_determinant, half_log_det_backward=_floored_determinant_backward),
    mutant("floored_weight", "Mixture weights are kept above 1e-8 in their logarithm.",
           log_softmax=_floored_weights),
    mutant("truncated_constant", "0.918938 stands for log(2 pi) / 2 in the loss.",
           constant=lambda m, n_dims: 0.918938 * n_dims),
    *_tails(),
)
