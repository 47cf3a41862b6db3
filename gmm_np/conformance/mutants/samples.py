# ruff: noqa: ARG005  (a step takes all arguments, and may use a few)
"""Mutants of the sum over samples, and of the mixture weights and their logits.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import Plain, Step, mutant

Pair = tuple[FloatArray, FloatArray]


def _dropping(first_of: Callable[[int], int]) -> Step:
    """Return a step `d_terms` without the rows from `first_of` their number on."""

    def d_terms(m: Plain, coefficient: FloatArray, resp: FloatArray) -> FloatArray:
        d_terms = Plain.d_terms(m, coefficient, resp)
        d_terms[first_of(len(d_terms)) :] = 0.0
        return d_terms

    return d_terms


def _one_by_one(m: Plain, losses: FloatArray, coefficient: FloatArray) -> float:  # noqa: ARG001
    return float(np.cumsum(np.where(coefficient == 0, 0.0, coefficient * losses))[-1])


def _added_one_by_one(m: Plain, rows: FloatArray) -> FloatArray:  # noqa: ARG001
    first = np.zeros((1, *rows.shape[1:]))  # there may be no rows, as of blocks in a short sample
    return np.asarray(np.cumsum(np.concatenate([first, rows]), axis=0)[-1])


def _dims_noted(m: Any, *arguments: Any) -> tuple[Any, ...]:
    checked = Plain.check(m, *arguments)
    m.n_dims = checked[0].shape[1]
    return checked


def _over_dims(m: Any, weight: FloatArray, reduction: str) -> FloatArray:
    coefficient = Plain.coefficient(m, weight, reduction)
    return np.asarray(coefficient / m.n_dims) if len(weight) == 1 else coefficient


def _without_max(m: Plain, logits: FloatArray) -> Pair:  # noqa: ARG001
    exponentials = np.exp(logits)
    pi = exponentials / exponentials.sum()
    return np.log(pi), pi


def _epsilon_in_log(m: Plain, logits: FloatArray) -> Pair:
    _, pi = Plain.log_softmax(m, logits)
    return np.log(pi + 1e-12), pi


def _through_log_of_zero(m: Plain, d_log_pi: FloatArray, pi: FloatArray) -> FloatArray:  # noqa: ARG001
    d_pi = d_log_pi / pi
    return np.asarray(pi * (d_pi - (pi * d_pi).sum()))


# fmt: off
MUTANTS: Final = (
    mutant("mean_for_sum", "The mean is returned where the sum was asked for.",
           coefficient=lambda m, weight, reduction: Plain.coefficient(m, weight, "mean")),
    mutant("sum_for_mean", "The sum is returned where the mean was asked for.",
           coefficient=lambda m, weight, reduction: weight),
    mutant("weights_ignored", "Sample weights are accepted and not used.",
           coefficient=lambda m, weight, reduction: (
               Plain.coefficient(m, np.ones_like(weight), reduction))),
    mutant("weighted_sum_over_n", "A weighted sum is divided by the number of rows, not by the sum "
           "of the weights.", coefficient=lambda m, weight, reduction: (
               weight / len(weight) if reduction == "mean" else weight)),
    mutant("last_row_dropped",
           "The last row has no share in the gradient, if there are others.",
           d_terms=_dropping(lambda n: max(n - 1, 1))),
    mutant("last_block_dropped", "Rows after the last whole block of 256 have no share in the "
           "gradient, if there is one.", d_terms=_dropping(lambda n: n // 256 * 256 or n)),
    mutant("one_by_one",
           "Samples are added one by one in a single number, and rounding adds up with them.",
           total=_one_by_one, add=_added_one_by_one),
    mutant("squeezed_sample", "A single sample is squeezed to [D], and its loss averaged over D.",
           check=_dims_noted, coefficient=_over_dims),
    mutant("logits_not_normalised", "Logits are taken for log weights as they are.",
           log_softmax=lambda m, logits: (logits, np.exp(logits)),
           log_softmax_backward=lambda m, d_log_pi, pi: d_log_pi),
    mutant("sum_over_k_dropped", "The gradient of the logits lacks the sum over components that "
           "the normalisation gives.",
           log_softmax_backward=lambda m, d_log_pi, pi: d_log_pi - pi * d_log_pi),
    mutant("softmax_without_max", "The softmax of the logits does not take out the largest.",
           log_softmax=_without_max),
    mutant("log_of_weights",
           "The logarithm of the softmax: a small weight loses its digits, then all of it.",
           log_softmax=lambda m, logits: _without_max(m, logits - logits.max())),
    mutant("epsilon_in_log", "log(pi + 1e-12) for log pi.", log_softmax=_epsilon_in_log),
    mutant("off_component_nan",
           "A logit of -inf gives a gradient of NaN, as the chain rule through log(0) does.",
           log_softmax_backward=_through_log_of_zero),
)
