"""Wrong implementations that the vectors must kill, so that a wrong answer can be told by name.

Each is `Plain` with one step replaced, and the first line of its docstring says what is wrong.
Some stand for published errors, some for slips that only show at K >= 3, at D >= 3, in the last row
or at small responsibilities; some answer well where numbers are benign and lose all digits
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmm_np.conformance.mutants import (  # noqa: F401  (each defines its mutants)
    checks,
    components,
    density,
    digits,
    factor,
    gradients,
    samples,
    weights,
)
from gmm_np.conformance.mutants.precision import PlainPrecision
from gmm_np.conformance.plain import Plain

__all__ = ["MUTANTS", "describe"]


def _below(kind: type[Any]) -> list[type[Any]]:
    """Classes that derive from `kind` and have a name of their own, at any depth."""
    found: list[type[Any]] = []
    for derived in kind.__subclasses__():
        found += [derived] if "name" in vars(derived) else []
        found += _below(derived)
    return found


#: Mutants by parametrization and name, each a function of the adapters' signature. "plain" itself
#: is among them: it fails where a square leaves the range of a double.
MUTANTS: dict[str, dict[str, Callable[..., tuple[Any, ...]]]] = {
    "cholesky": {Plain.name: Plain(), **{kind.name: kind() for kind in _below(Plain)}},
    "precision": {kind.name: kind() for kind in _below(PlainPrecision)},
}


def describe(name: str) -> str:
    """Say in one line what is wrong with a mutant."""
    for mutants in MUTANTS.values():
        if name in mutants:
            return str(type(mutants[name]).__doc__).strip().splitlines()[0]
    raise KeyError(name)
