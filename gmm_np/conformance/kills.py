"""Which mutants a case kills: what stands in the vectors' field `kills`."""

from __future__ import annotations

import json
import re
from typing import Final

from gmm_np.conformance.cases import Case, family_of
from gmm_np.conformance.compare import Comparison, judge
from gmm_np.conformance.function_adapter import FunctionAdapter
from gmm_np.conformance.mutants import MUTANTS
from gmm_np.conformance.mutants.precision import PlainPrecision
from gmm_np.conformance.plain import Plain

__all__ = ["MARGIN", "is_killed", "kills_of", "with_kills"]

#: A mutant counts as killed by at least so many times the allowance, whatever BLAS it runs on.
MARGIN: Final = 10.0


def kills_of(case: Case) -> tuple[str, ...]:
    """Return the names of the mutants that fail a case clearly, in alphabetical order.

    Where the plain form that they are variants of fails itself, it is the only one: that a variant
    of it fails as well says nothing about the variation.
    """
    plain = Plain() if case.parametrization == "cholesky" else PlainPrecision()
    if judge(case, FunctionAdapter(plain).evaluate(case)).status == "wrong":
        return ("plain",) if is_killed(case, "plain") else ()
    return tuple(sorted(name for name in MUTANTS[case.parametrization] if is_killed(case, name)))


def is_killed(case: Case, name: str) -> bool:
    """Whether a mutant fails a case by at least `MARGIN` times the allowance."""
    mutant = MUTANTS[case.parametrization].get(name)
    return mutant is not None and _clearly_wrong(
        judge(case, FunctionAdapter(mutant).evaluate(case))
    )


def _clearly_wrong(comparison: Comparison) -> bool:
    return comparison.status == "wrong" and comparison.share >= MARGIN


def with_kills(text: str) -> str:
    """Return the text of a file of vectors with the `kills` of each case filled in.

    For the script that writes the vectors, one line for each member of a test.
    """
    kills = {case.id: json.dumps(kills_of(case)) for case in family_of(json.loads(text)).cases}
    return re.sub(
        r'^"id": "(.*)",$(?s:(.*?))^"kills": \[.*\],$',
        lambda found: f'"id": "{found[1]}",{found[2]}"kills": {kills[found[1]]},',
        text,
        flags=re.MULTILINE,
    )
