"""Which mutant a wrong answer looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np.conformance.cases import Case
from gmm_np.conformance.compare import Answered, Outcome, Rejected, judge
from gmm_np.conformance.function_adapter import FunctionAdapter, ToolError
from gmm_np.conformance.mutants import MUTANTS, describe, mutants_of

__all__ = ["Suspect", "Wrong", "diagnose"]

_MOST_WORK: Final = 2_000_000  # N K D (D + 1) of a case that is looked at
_MOST_CASES: Final = 60
_MOST_SUSPECTS: Final = 3
_ALIKE: Final = 1e-3  # of the distance from the truth
_ROUNDING: Final = 1e-12  # of the largest entry: where an output is right, two are not equal
_TELLING: Final = 1e-9  # of the largest entry: rounding looks like nothing


class Wrong(NamedTuple):
    """A case, and the wrong answer to it."""

    case: Case
    outcome: Outcome


@dataclass(frozen=True)
class Suspect:
    """A mutant that gives the same wrong answers.

    Attributes
    ----------
    name, description : str
    explained, examined : int
        How many of the wrong answers that were looked at it gives as well.
    """

    name: str
    description: str
    explained: int
    examined: int


def diagnose(
    wrong: Sequence[Wrong], passed: Sequence[Case]
) -> tuple[tuple[Suspect, ...], dict[str, tuple[str, ...]]]:
    """Name the mutants that give the same wrong answers, those first that explain the most.

    A mutant that fails a case which the adapter passes explains nothing, nor does one whose wrong
    answers are all explained by others. Refusals of valid inputs are explained by a mutant whose
    mistake it is to refuse, and that refuses half of them or more.

    Parameters
    ----------
    wrong : sequence of Wrong
    passed : sequence of Case
        Those that the adapter passed with all outputs.

    Returns
    -------
    suspects : tuple of Suspect
    named : dict
        The suspects' names for each case that they explain.
    """
    examined = [item for item in wrong if _work(item.case) <= _MOST_WORK and _speaks(item)]
    examined = examined[:_MOST_CASES]
    refused = {item.case.id for item in examined if isinstance(item.outcome, Rejected)}
    alike: dict[str, set[str]] = {}
    for case, outcome in examined:
        for name, mutant in mutants_of(case).items():
            try:
                answer = FunctionAdapter(mutant).evaluate(case)
            except ToolError:
                continue
            if isinstance(answer, Rejected) and not mutant.refuses:
                continue
            if same_mistake(case, outcome, answer) and judge(case, answer).status == "wrong":
                alike.setdefault(name, set()).add(case.id)
    # A refusal has nothing in it to compare: it speaks for what refuses most of the same inputs.
    for same in alike.values():
        if 2 * len(same & refused) < len(refused):
            same -= refused
    refuted = {name for case in passed for name in case.kills}
    order = [name for mutants in MUTANTS.values() for name in mutants]
    passing = [name for name in order if alike.get(name) and name not in refuted]
    suspects: list[Suspect] = []
    named: dict[str, tuple[str, ...]] = {item.case.id: () for item in examined}
    left = {item.case.id for item in examined}
    while left and passing and len(suspects) < _MOST_SUSPECTS:
        best = max(passing, key=lambda name: len(alike[name] & left))
        found = alike[best] & left
        if not found:
            break
        for case_id in alike[best]:
            named[case_id] += (best,)
        suspects.append(Suspect(best, describe(best), len(alike[best]), len(examined)))
        left -= found
        passing.remove(best)
    return tuple(suspects), {case_id: names for case_id, names in named.items() if names}


def same_mistake(case: Case, one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes are much nearer to each other than the first is to the truth."""
    if isinstance(one, Rejected) or isinstance(other, Rejected):
        return isinstance(one, Rejected) and isinstance(other, Rejected)
    if not (isinstance(one, Answered) and isinstance(other, Answered)):
        return False
    compared = [
        _alike(a, b, case.certified(name) if case.outputs else None)
        for name, a, b in zip(case.blocks, one.blocks, other.blocks, strict=True)
        if a is not None
    ]
    return None not in compared and any(compared)


def _alike(one: Any, other: Any, truth: Any) -> bool | None:
    """Return None where an output of two answers differs; else whether both are far from the truth.

    Where both are right, or nearly, that they are alike says nothing.
    """
    try:
        a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    except (ValueError, TypeError, OverflowError):
        return None
    if a.shape != b.shape or (truth is not None and a.shape != truth.shape):
        return None
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(b[finite]).max(initial=0.0)
        difference = np.abs(a[finite] - b[finite]).max(initial=0.0)
        if truth is None:
            return True if difference <= _ROUNDING * size else None
        error = np.abs(a - truth)[finite & np.isfinite(truth)].max(initial=0.0)
    if difference > max(_ALIKE * error, _ROUNDING * size):
        return None
    masked = bool((~finite & np.isfinite(truth)).any())
    return masked or bool(error > _TELLING * size)


def _speaks(item: Wrong) -> bool:
    """Whether an answer can be told from others: NaN in place of everything may be anyone's."""
    if not isinstance(item.outcome, Answered) or item.case.result == "invalid":
        return True
    try:
        blocks = [np.asarray(b, np.float64) for b in item.outcome.blocks if b is not None]
    except (ValueError, TypeError, OverflowError):
        return False
    return any(np.isfinite(block).any() for block in blocks)


def _work(case: Case) -> int:
    return case.n_samples * case.n_components * case.n_features * (case.n_features + 1)
