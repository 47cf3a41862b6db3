"""Families of covariances in ball arithmetic, and what may be asked of doubles."""

from __future__ import annotations

import flint

from certify import balls
from certify.agreement import Blocks
from certify.allowance import floor, scale, written
from certify.covariances import FamilyProblem, by_multiple, reduced
from certify.differences import spread
from certify.terms import Terms

MOVED = ("logits", "means", "scale", "x")


def by_balls(problem: FamilyProblem, bits: int) -> Blocks:
    """Balls around value and gradients."""
    found = balls.evaluate(problem.full, bits)
    with flint.ctx.workprec(bits):
        return reduced(problem, found)


def allowance(problem: FamilyProblem, bits: int) -> dict[str, dict[str, list[str]]]:
    """Return spread, scale and floor of each block of outputs, rounded up to three digits."""
    with flint.ctx.workprec(max(bits, 512)):
        return written(numbers(problem), problem.dtype)


def numbers(problem: FamilyProblem) -> dict[str, Blocks]:
    """Return spread, scale and floor of each block of outputs."""
    names = (*MOVED, *(["weights"] if problem.weights is not None else []))
    terms = Terms(problem.full)
    return {
        "spread": spread(by_multiple, problem, names),
        "scale": reduced(problem, scale(terms)),
        "floor": reduced(problem, floor(terms)),
    }
