"""Wrong implementations that the vectors must kill, so that a wrong answer can be told by name.

Each is `Plain` with a step or two replaced, and says in one line what is wrong. Some stand for
published errors, some for slips that only show at K >= 3, at D >= 3, in the last row or at small
responsibilities; some answer well where numbers are benign and lose all digits elsewhere.
"""

from __future__ import annotations

from typing import Any

from gmm_np.conformance.cases import BY_COVARIANCE, ROWWISE, VALUE, Case
from gmm_np.conformance.mutants import (
    by_covariance,
    checks,
    covariances,
    density,
    factor,
    faults,
    outputs,
    precision,
    rowwise,
    samples,
    second,
)
from gmm_np.conformance.plain import Plain

__all__ = ["MUTANTS", "describe", "kind_of", "mutants_of"]

#: Mutants by what they are wrong in and by name, each an adapter: of the value and the gradients in
#: a parametrization, or in several that differ in a scale, or of what else may be asked for.
#: "plain" itself is among them: it fails where a square leaves the range of a double.
MUTANTS: dict[str, dict[str, Any]] = {
    "cholesky": {
        mutant.name: mutant
        for mutant in (
            Plain(),
            *checks.MUTANTS,
            *density.MUTANTS,
            *factor.MUTANTS,
            *samples.MUTANTS,
            *faults.MUTANTS,
        )
    },
    "precision": {mutant.name: mutant for mutant in precision.MUTANTS},
    "hvp": {mutant.name: mutant for mutant in second.HVP},
    "scores": {mutant.name: mutant for mutant in second.SCORES},
    "diag": {mutant.name: mutant for mutant in covariances.DIAG},
    "tied": {mutant.name: mutant for mutant in covariances.TIED},
    "spherical": {mutant.name: mutant for mutant in covariances.SPHERICAL},
    "rowwise": {mutant.name: mutant for mutant in rowwise.ROWWISE},
    "by_covariance": {mutant.name: mutant for mutant in by_covariance.BY_COVARIANCE},
    "log_prob": {mutant.name: mutant for mutant in outputs.LOG_PROB},
    "responsibilities": {mutant.name: mutant for mutant in outputs.RESPONSIBILITIES},
    "d_x": {mutant.name: mutant for mutant in outputs.D_X},
    "em_step": {mutant.name: mutant for mutant in outputs.EM_STEP},
    "marginal": {mutant.name: mutant for mutant in outputs.MARGINAL},
}


def mutants_of(case: Case) -> dict[str, Any]:
    """Return the mutants that a case can tell from what is right."""
    return MUTANTS[kind_of(case)]


def kind_of(case: Case) -> str:
    """Return what the mutants of a case are wrong in."""
    if case.parametrization in ROWWISE:
        return "rowwise"
    if case.parametrization in BY_COVARIANCE:
        return "by_covariance"
    return case.parametrization if case.function == VALUE else case.function


def describe(name: str) -> str:
    """Say in one line what is wrong with a mutant."""
    for mutants in MUTANTS.values():
        if name in mutants:
            return str(type(mutants[name]).__doc__).strip().splitlines()[0]
    raise KeyError(name)
