"""Wrong implementations that the vectors must kill, so that a wrong answer can be told by name.

Each is `Plain` with a step or two replaced, and says in one line what is wrong. Some stand for
published errors, some for slips that only show at K >= 3, at D >= 3, in the last row or at small
responsibilities; some answer well where numbers are benign and lose all digits elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmm_np.conformance.mutants import checks, density, factor, precision, samples
from gmm_np.conformance.plain import Plain

__all__ = ["MUTANTS", "describe"]

#: Mutants by parametrization and name, each a function of the adapters' signature. "plain" itself
#: is among them: it fails where a square leaves the range of a double.
MUTANTS: dict[str, dict[str, Callable[..., tuple[Any, ...]]]] = {
    "cholesky": {
        mutant.name: mutant
        for mutant in (
            Plain(),
            *checks.MUTANTS,
            *density.MUTANTS,
            *factor.MUTANTS,
            *samples.MUTANTS,
        )
    },
    "precision": {mutant.name: mutant for mutant in precision.MUTANTS},
}


def describe(name: str) -> str:
    """Say in one line what is wrong with a mutant."""
    for mutants in MUTANTS.values():
        if name in mutants:
            return str(type(mutants[name]).__doc__).strip().splitlines()[0]
    raise KeyError(name)
