# ruff: noqa: ARG005  (a step takes all arguments, and may use a few)
"""Mutants of the terms and of their sum over components, and some that lose digits in them.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from scipy.linalg import solve_triangular

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import (
    LOG_2_PI,
    Answer,
    Plain,
    Step,
    checked_then,
    factors_then,
    mutant,
)

# --- the sum over components, and the responsibilities ------------------------------------------

_WITHOUT_LOG_DET: Final = mutant(
    "without_log_det",
    "The log-determinants are left out.",
    half_log_det=lambda m, factor: 0.0,
    half_log_det_backward=lambda m, factor: np.zeros_like(factor),
)


def _log_det_outside(m: Plain, *arguments: Any) -> Answer:
    *inputs, reduction = arguments
    x, logits, means, chol, weight = m.check(*inputs)
    total = m.coefficient(np.ones(len(x)) if weight is None else weight, reduction).sum()
    value, d_logits, d_means, d_chol = _WITHOUT_LOG_DET.answer(
        x, logits, means, chol, weight, reduction
    )
    value += total * sum(m.half_log_det(factor) for factor in chol)
    outside = np.stack([m.half_log_det_backward(factor) for factor in chol])
    return value, d_logits, d_means, d_chol + total * outside


def _plain_exp(m: Plain, terms: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: ARG001
    exponentials = np.exp(terms)
    total = exponentials.sum(axis=1, keepdims=True)
    return np.log(total)[:, 0], exponentials / total


def _resp_then(change: Callable[[FloatArray, FloatArray], FloatArray]) -> Step:
    """Return a step `logsumexp` that changes the responsibilities; `change` gets the terms, too."""

    def logsumexp(m: Plain, terms: FloatArray) -> tuple[FloatArray, FloatArray]:
        log_likelihood, resp = Plain.logsumexp(m, terms)
        return log_likelihood, change(resp, terms)

    return logsumexp


def _tied_to_first(resp: FloatArray, terms: FloatArray) -> FloatArray:
    tied = terms == terms.max(axis=1, keepdims=True)
    several = tied.sum(axis=1) > 1
    first = np.zeros_like(resp)
    first[np.arange(len(terms)), terms.argmax(axis=1)] = np.where(tied, resp, 0.0).sum(axis=1)
    resp[several] = np.where(tied, first, resp)[several]
    return resp


def _first_of_alike(m: Any, *arguments: Any) -> tuple[Any, ...]:
    checked = Plain.check(m, *arguments)
    rows = np.hstack([checked[2], checked[3].reshape(len(checked[2]), -1)])
    m.first = (rows[:, None] == rows[None]).all(axis=2).argmax(axis=1)  # [K]
    return checked


def _merged(m: Any, terms: FloatArray) -> tuple[FloatArray, FloatArray]:
    log_likelihood, resp = Plain.logsumexp(m, terms)
    merged = np.zeros_like(resp)
    for k, first in enumerate(m.first):
        merged[:, first] += resp[:, k]
    return log_likelihood, merged


def _hard(resp: FloatArray, terms: FloatArray) -> FloatArray:
    hard = np.zeros_like(resp)
    hard[np.arange(len(terms)), terms.argmax(axis=1)] = 1.0
    return hard


def _last_by_difference(resp: FloatArray, terms: FloatArray) -> FloatArray:  # noqa: ARG001
    resp[:, -1] = 1.0 - resp[:, :-1].sum(axis=1)
    return resp


def _after_sixteenth(m: Plain, coefficient: FloatArray, resp: FloatArray) -> FloatArray:
    d_terms = Plain.d_terms(m, coefficient, resp)
    d_terms[:, 16:] = 0.0
    return d_terms


# --- digits -------------------------------------------------------------------------------------


def _rounded(*checked: Any) -> tuple[Any, ...]:
    *arrays, weight = checked
    return (*(a.astype(np.float32).astype(np.float64) for a in arrays), weight)


def _flushed(*checked: Any) -> tuple[Any, ...]:
    *arrays, weight = checked
    tiny = np.finfo(np.float64).tiny
    return (*(np.where(np.abs(a) < tiny, 0.0, a) for a in arrays), weight)


def _clamped(least: float) -> Step:
    def clamp(chol: FloatArray) -> FloatArray:
        return np.where(np.eye(chol.shape[1], dtype=bool), np.maximum(chol, least), chol)

    return factors_then(clamp)


def _covariances(chol: FloatArray) -> FloatArray:
    return np.asarray(chol @ chol.transpose(0, 2, 1))


def _by_inverse(m: Plain, x: FloatArray, mean: FloatArray, factor: FloatArray) -> Any:
    residual, (_, z) = m.residual(x, mean), Plain.quadratic(m, x, mean, factor)
    inverse = np.linalg.inv(factor @ factor.T)
    return np.einsum("ni,ij,nj->n", residual, inverse, residual, optimize=True), z


def _expanded(m: Plain, x: FloatArray, mean: FloatArray, factor: FloatArray) -> Any:  # noqa: ARG001
    both = np.vstack([x, mean[None]])
    white = solve_triangular(factor, both.T, lower=True, check_finite=False).T
    rows, centre = white[:-1], white[-1]
    square = np.einsum("nd,nd->n", rows, rows) - 2.0 * rows @ centre + centre @ centre
    return square, rows - centre


def _through_moments(
    m: Plain, d_quadratic: FloatArray, x: FloatArray, mean: FloatArray, factor: FloatArray, z: Any
) -> tuple[FloatArray, FloatArray]:
    d_mean, _ = Plain.quadratic_backward(m, d_quadratic, x, mean, factor, z)
    residual = m.residual(x, mean)
    precision = np.linalg.inv(factor @ factor.T)
    scatter = (d_quadratic[:, None] * residual).T @ residual
    return d_mean, -2.0 * precision @ scatter @ precision @ factor


def _times_dims(m: Plain, x: FloatArray, *others: Any) -> tuple[FloatArray, FloatArray]:
    quadratic, z = Plain.quadratic(m, x, *others)
    return quadratic * x.shape[1], z


def _diagonal(function: Callable[[FloatArray], Any]) -> Step:
    """Return a step that is a function of a factor's diagonal."""
    return lambda m, factor: function(np.diagonal(factor))


# fmt: off
MUTANTS: Final = (
    mutant("log_det_outside_sum", "The log-determinants stand outside the sum over components.",
           answer=_log_det_outside),
    mutant("plain_exp",
           "The logarithm of a sum of exponentials, without taking out the largest term.",
           logsumexp=_plain_exp),
    mutant("clipped_terms",
           "Log densities are clipped at -1e6, as a mask that should be -inf often is.",
           logsumexp=lambda m, terms: Plain.logsumexp(m, np.maximum(terms, -1e6))),
    mutant("tie_to_first",
           "Where terms tie for the largest, the first takes the share of them all.",
           logsumexp=_resp_then(_tied_to_first)),
    mutant("duplicates_merged",
           "Of components that are alike, the first takes the share of them all.",
           check=_first_of_alike, logsumexp=_merged),
    mutant("tiny_resp_dropped", "Responsibilities below 1e-200 are set to zero.",
           logsumexp=_resp_then(lambda resp, terms: np.where(resp < 1e-200, 0.0, resp))),
    mutant("hard_assignment",
           "Responsibilities are one for the likeliest component and zero for the others.",
           logsumexp=_resp_then(_hard)),
    mutant("small_resp_dropped", "Responsibilities below 1e-10 are set to zero.",
           logsumexp=_resp_then(lambda resp, terms: np.where(resp < 1e-10, 0.0, resp))),
    mutant("last_by_difference", "The last responsibility is one minus the others, and has no "
           "digits where it is small.", logsumexp=_resp_then(_last_by_difference)),
    mutant("sixteen_components",
           "Responsibilities of the components after the sixteenth are left at zero.",
           d_terms=_after_sixteenth),
    mutant("third_component", "Components from the third on use the factor of the second.",
           check=factors_then(lambda chol: chol[np.minimum(np.arange(len(chol)), 1)])),
    mutant("no_log_2pi", "The constant (D/2) log 2 pi is left out.",
           constant=lambda m, n_dims: 0.0),
    mutant("univariate_log_2pi", "The constant is (1/2) log 2 pi whatever D is.",
           constant=lambda m, n_dims: 0.5 * LOG_2_PI),
    mutant("abs_log_sigma",
           "|log sigma| stands for log sigma: wrong where a standard deviation is below 1.",
           half_log_det=_diagonal(lambda sigma: float(np.abs(np.log(sigma)).sum())),
           half_log_det_backward=_diagonal(
               lambda sigma: np.diag(np.sign(np.log(sigma)) / sigma))),
    mutant("log_of_product", "The log-determinant is the logarithm of a product, which leaves the "
           "range at large D.", half_log_det=_diagonal(lambda sigma: float(np.log(sigma.prod())))),
    mutant("misplaced_parenthesis",
           "-(log 2 pi + q) D / 2: the quadratic form is multiplied by D as well.",
           quadratic=_times_dims,
           quadratic_backward=lambda m, d_quadratic, x, *others: (
               Plain.quadratic_backward(m, d_quadratic * x.shape[1], x, *others))),
    mutant("single_precision", "Inputs are rounded to single precision.",
           check=checked_then(_rounded)),
    mutant("clamped_variance", "Standard deviations are clamped at 1e-5.", check=_clamped(1e-5)),
    mutant("tiny_variance", "Standard deviations are clamped at 1e-100.", check=_clamped(1e-100)),
    mutant("added_variance",
           "1e-6 is added to the diagonal of each covariance, as regularised fits do.",
           check=factors_then(lambda chol: np.linalg.cholesky(
               _covariances(chol) + 1e-6 * np.eye(chol.shape[1])))),
    mutant("covariance_formed",
           "The covariance is formed and factored again, which squares the condition number.",
           by_rounding=True,
           check=factors_then(lambda chol: np.linalg.cholesky(_covariances(chol)))),
    mutant("covariance_inverted",
           "The quadratic form is taken with an explicit inverse of the covariance.",
           by_rounding=True, quadratic=_by_inverse),
    mutant("expanded_square", "The square of a distance is expanded: |x|^2 - 2 x mu + |mu|^2, "
           "whitened; offsets cancel.", by_rounding=True, quadratic=_expanded),
    mutant("through_moments", "The gradient is tril(Sigma^-1 S Sigma^-1 L) as it stands: L cancels "
           "what the solves did.", by_rounding=True, quadratic_backward=_through_moments),
    mutant("flushed_subnormals", "Subnormal inputs are flushed to zero.",
           check=checked_then(_flushed)),
)
