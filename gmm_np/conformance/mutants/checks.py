# ruff: noqa: ARG005  (a step takes all arguments, and may use a few)
"""Mutants that refuse what is valid, or answer what has to be refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import Answer, Plain, Step, checked_then, mutant


def _refusing(bad: Callable[[FloatArray, FloatArray], bool], message: str) -> Step:
    """Return a step `check` that refuses some logits and factors."""

    def refuse(*checked: Any) -> tuple[Any, ...]:
        if bad(checked[1], checked[3]):
            raise ValueError(message)
        return checked

    return checked_then(refuse)


def _is_singular(logits: FloatArray, chol: FloatArray) -> bool:  # noqa: ARG001
    diagonal = np.diagonal(chol, axis1=1, axis2=2)
    return bool((diagonal.max(axis=1) > 1e5 * diagonal.min(axis=1)).any())


def _unchecked(m: Plain, *arguments: Any) -> tuple[Any, ...]:  # noqa: ARG001
    return tuple(None if a is None else np.asarray(a, dtype=np.float64) for a in arguments)


def _masked(m: Plain, *arguments: Any) -> Answer:
    x, logits, means, chol = map(np.nan_to_num, arguments[:4])
    answers = Plain.answer(m, x, logits, means, chol, *arguments[4:])
    value, d_logits, d_means, d_chol = map(np.nan_to_num, answers)
    return value, d_logits, d_means, d_chol


def _upper_kept(m: Plain, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> Any:
    x, logits, means, _, weight = Plain.check(m, x, logits, means, np.tril(chol), weight)
    return x, logits, means, np.asarray(chol, dtype=np.float64), weight


def _solved(m: Plain, x: FloatArray, mean: FloatArray, factor: FloatArray) -> Any:
    z = np.linalg.solve(factor, m.residual(x, mean).T).T
    return np.einsum("nd,nd->n", z, z), z


def _solved_backward(
    m: Plain, d_quadratic: FloatArray, _x: Any, _mean: Any, factor: FloatArray, z: FloatArray
) -> tuple[FloatArray, FloatArray]:
    d_residual = 2.0 * d_quadratic[:, None] * np.linalg.solve(factor.T, z.T).T
    return -m.add(d_residual), -(d_residual.T @ z)


def _mending(mend: Callable[..., tuple[Any, ...]]) -> Step:
    """Return a step `check` that first makes one kind of what has to be refused valid."""

    def check(m: Plain, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> Any:
        arrays = (np.asarray(a, np.float64) for a in (x, logits, means, chol))
        return Plain.check(m, *mend(*arrays, weight))

    return check


def _diagonal_raised(bad: Callable[[FloatArray], Any]) -> Step:
    def mend(x: Any, logits: Any, means: Any, chol: FloatArray, weight: Any) -> tuple[Any, ...]:
        on_diagonal = np.eye(chol.shape[-1], dtype=bool)
        return x, logits, means, np.where(on_diagonal & bad(chol), 1e-6, chol), weight

    return _mending(mend)


def _replaced(x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
    x, means, chol = (np.nan_to_num(a, posinf=1e6, neginf=-1e6) for a in (x, means, chol))
    return x, logits, means, chol, weight


def _resized(x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
    k, d = max(1, len(logits)), max(1, means.shape[-1])
    x = np.resize(x, (max(1, len(x)), d))
    return x, logits, np.resize(means, (k, d)), np.resize(chol, (k, d, d)), weight


def _weighted(x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
    if weight is not None:
        weight = np.resize(np.asarray(weight, dtype=np.float64), len(x))
        weight = np.where(np.isfinite(weight) & (weight > 0), weight, 0.0)
        weight = weight if weight.any() else np.ones(len(x))
    return x, logits, means, chol, weight


# fmt: off
MUTANTS: Final = (
    mutant("singular_rejected", "Factors whose diagonal spans more than five orders of magnitude "
           "are refused as singular.", refuses=True,
           check=_refusing(_is_singular, "chol is singular.")),
    mutant("nothing_checked", "Nothing is checked: whatever comes out is returned.",
           check=_unchecked),
    mutant("abs_diagonal",
           "Negative entries on a factor's diagonal are taken by their absolute value.",
           check=_unchecked,
           half_log_det=lambda m, factor: float(np.log(np.abs(np.diagonal(factor))).sum())),
    mutant("nan_masked",
           "What is not finite is replaced by a number, with nan_to_num, before and after.",
           check=_unchecked, answer=_masked),
    mutant("upper_triangle_read",
           "What stands above the diagonal of a factor is taken for a part of it.",
           check=_upper_kept, quadratic=_solved, quadratic_backward=_solved_backward),
    mutant("negative_diagonal_clamped",
           "Negative entries on a factor's diagonal are clamped at 1e-6.",
           check=_diagonal_raised(lambda chol: (chol < 0) & (chol > -np.inf))),
    mutant("zero_diagonal_floored", "Zeros on a factor's diagonal are replaced by 1e-6.",
           check=_diagonal_raised(lambda chol: chol == 0)),
    mutant("not_finite_replaced",
           "NaN and infinities in x, means and factors are replaced by numbers.",
           check=_mending(_replaced)),
    mutant("all_off_uniform", "Logits of nothing but -inf are taken for equal ones.",
           check=_mending(lambda x, logits, *others: (
               x, np.zeros_like(logits) if np.isneginf(logits).all() else logits, *others))),
    mutant("shapes_resized",
           "Arrays of other shapes than they should have are repeated or cut until they fit.",
           check=_mending(_resized)),
    mutant("weights_mended",
           "Weights that are negative or not finite count as zero, and all zeros as all ones.",
           check=_mending(_weighted)),
    mutant("off_component_refused", "A logit of -inf is refused, though other components are on.",
           refuses=True, check=_refusing(lambda logits, chol: bool(np.isneginf(logits).any()),
                           "logits must be finite.")),
)
