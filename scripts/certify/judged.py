"""The vectors before implementations: which mutants each test kills, and what the reference uses.

Here doubles are computed with, so that figures near a limit may differ between machines: kills are
kept in the files and computed anew only when asked for. They have a margin that no processor's
rounding crosses.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from gmm_np.conformance.adapters import gmm_np as own
from gmm_np.conformance.cases import DIRECTION, Case, read_family
from gmm_np.conformance.compare import Comparison, Rejected, judge
from gmm_np.conformance.function_adapter import FunctionAdapter, call, offered
from gmm_np.conformance.mutants import mutants_of

# A mutant is listed where it misses by so many times the allowance, on any machine by more than 1.
MARGIN = 10.0
# One that is wrong by rounding alone misses by as much for each of so many neighbours of the
# inputs: where rounding errors may cancel, they do for some, as they do on some processor.
NEIGHBOURS = 200
# Inputs below this are not moved: a unit in the last place is a larger share of subnormal numbers.
SMALLEST = 2.0**-1000
MOVED = ("logits", "alpha", "means", "chol", "icf", "scale", "x", *DIRECTION)


def compared(function: Callable[..., Any], case: Case) -> Comparison:
    """Judge what a function answers."""
    return judge(case, FunctionAdapter(function).evaluate(case))


def kills(path: Path, names: Collection[str] = ()) -> dict[str, list[str]]:
    """Return for each test of a file the mutants that it kills; all but `names` as it lists them.

    A mutant that breaks down on valid inputs is an error: that it gives no answer shows nothing.
    Where "plain", which the others vary, fails itself, it is the only one that is listed: what they
    are wrong in is not what the test shows.
    """
    found = {}
    for case in read_family(path).cases:
        mutants, kept = mutants_of(case), set(case.kills) - set(names) if names else set()
        if names and case.kills == ("plain",):
            mutants = {}
        elif names:
            mutants = {name: mutants[name] for name in names if name in mutants}
        elif "plain" in mutants and _is_killed(mutants["plain"], case):
            mutants = {"plain": mutants["plain"]}
        killed = {name for name in mutants if _is_killed(mutants[name], case)}
        found[case.id] = sorted(kept | killed)
    return found


def _is_killed(mutant: Any, case: Case) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mutants check little
        answer = FunctionAdapter(mutant).evaluate(case)
        if isinstance(answer, Rejected) and case.result == "valid" and not mutant.refuses:
            raise ArithmeticError(f"{case.id}: {mutant.name} breaks down: {answer.message}")
        if not _misses(judge(case, answer)):
            return False
        if not mutant.by_rounding or case.result != "valid":
            return True
        rng = np.random.default_rng(0)
        return all(_misses(_compared_beside(mutant, case, rng)) for _ in range(NEIGHBOURS))


def _misses(comparison: Comparison) -> bool:
    return comparison.status == "wrong" and comparison.share > MARGIN


def _compared_beside(
    function: Callable[..., Any], case: Case, rng: np.random.Generator
) -> Comparison:
    """Judge what a function answers to inputs half of which are off by one in the last place.

    What is right moves with them by two fifths of the allowance at most, which is five times the
    spread of half as much.
    """
    inputs = dict(case.arrays)
    for name, array in inputs.items():
        if name in MOVED:
            moved = (np.abs(array) > SMALLEST) & (rng.random(array.shape) < 0.5)
            inputs[name] = np.where(moved, np.nextafter(array, array.dtype.type(0)), array)
    weight = inputs.pop("weights", None)
    answer = call(function, case.function, case.parametrization, inputs, weight, case.reduction)
    return judge(case, answer)


def calibration(path: Path) -> str:
    """Return the largest shares of the allowance that this library uses in a file of vectors."""
    columns = []
    for name in ("reference", "direct", "auto"):
        found = {}
        for case in read_family(path).cases:
            function = own.precision if case.parametrization == "precision" else getattr(own, name)
            if case.function in offered(function, case.parametrization):
                found[case.id] = compared(function, case)
        if not found:
            columns.append(f"{name}: not offered")
            continue
        worst = max(found, key=lambda identity: found[identity].share)
        wrong = sum(comparison.status == "wrong" for comparison in found.values())
        columns.append(f"{name} {found[worst].share:8.3f} in {worst[-3:]}, {wrong} wrong")
    return f"{path.stem:26s} " + "   ".join(columns)
