"""Families of covariances with a scale of their own: diagonal, tied and spherical.

A scale stands for full factors, so that both routes and the allowances are those of full factors,
added up: over the components of a tied factor, over the diagonal of a spherical one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import mpmath as mp

from certify import multiple
from certify.document import Case, Family
from certify.draw import Draw
from certify.lower import drawn
from certify.multiple import Blocks
from certify.problem import Matrix, Problem, Vector, rows_of


@dataclass(frozen=True)
class FamilyProblem:
    """Inputs of one test in a family of covariances."""

    parametrization: str  # "diag", "tied" or "spherical"
    logits: Vector  # [K]
    means: Matrix  # [K][D]
    scale: Any  # [K][D] deviations, [D][D] a factor, [K] deviations
    x: Matrix
    count: list[int] | None = None
    weights: Vector | None = None
    dtype: str = "binary64"
    reduction: str = "mean"

    function = "value_and_gradient"

    @property
    def arrays(self) -> dict[str, Any]:
        """Inputs by the names and in the order of the files."""
        named: dict[str, Any] = {"logits": self.logits, "means": self.means, "scale": self.scale}
        return named | rows_of(self)

    @property
    def multiplicity(self) -> list[int]:
        """How often each row stands in the data."""
        return self.count or [1] * len(self.x)

    @property
    def full(self) -> Problem:
        """The same with full factors."""
        k, d = len(self.means), range(len(self.means[0]))
        if self.parametrization == "tied":
            chol = [self.scale] * k
        else:
            rows = (
                self.scale if self.parametrization == "diag" else [[s] * len(d) for s in self.scale]
            )
            chol = [[[row[i] if i == j else 0.0 for j in d] for i in d] for row in rows]
        return Problem(
            self.logits,
            self.means,
            chol,
            self.x,
            self.count,
            self.weights,
            self.dtype,
            self.reduction,
        )


def reduced(problem: FamilyProblem, blocks: Blocks) -> Blocks:
    """Return outputs with the gradient of the scale for that of full factors."""
    n_dims = len(problem.means[0])
    packed = [(i, j) for i in range(n_dims) for j in range(i + 1)]
    full, size = blocks["chol"], len(packed)
    factors = [full[at : at + size] for at in range(0, len(full), size)]
    diagonals = [[v for v, (i, j) in zip(f, packed, strict=True) if i == j] for f in factors]
    gradient = {
        "diag": lambda: [v for diagonal in diagonals for v in diagonal],
        "tied": lambda: [sum(column[1:], column[0]) for column in zip(*factors, strict=True)],
        "spherical": lambda: [sum(diagonal[1:], diagonal[0]) for diagonal in diagonals],
    }[problem.parametrization]()
    return {name: blocks[name] for name in ("nll", "logits", "means")} | {"scale": gradient}


def by_multiple(problem: FamilyProblem, digits: int) -> Blocks:
    """Value and gradients in multiple precision."""
    found = multiple.evaluate(problem.full, digits)
    with mp.workdps(digits):
        return reduced(problem, found)


# --- the cases ----------------------------------------------------------------------------------

# What a scale is: deviations of each component and column, a factor, a deviation each.
DRAWN: dict[str, Callable[[Draw, int, int], Any]] = {
    "diag": lambda draw, k, d: [[draw.uniform(0.4, 1.9) for _ in range(d)] for _ in range(k)],
    "tied": lambda draw, k, d: draw.factor(d),  # noqa: ARG005
    "spherical": lambda draw, k, d: [draw.uniform(0.4, 1.9) for _ in range(k)],  # noqa: ARG005
}
WORDS = {
    "diag": "Standard deviations of each component and column, [K, D]: variances for deviations, "
    "columns and components mixed up.",
    "tied": "One lower Cholesky factor for all components, [D, D]: a gradient that is a mean over "
    "them, or that of one of them, in place of their sum.",
    "spherical": "One standard deviation a component, [K]: a gradient that is a mean over the "
    "axes, log sigma for D log sigma.",
}


def families() -> list[Family]:
    """All families of covariances."""
    return [family_of(name, 860 + 20 * i) for i, name in enumerate(DRAWN)]


def problem_of(name: str, seed: int, n: int, k: int, d: int) -> FamilyProblem:
    """Draw a problem without anything special about it."""
    full = drawn(seed, n, k, d)
    return FamilyProblem(
        name, full.logits, full.means, DRAWN[name](Draw(seed + 1000), k, d), full.x
    )


def resized(value: Any, by: float) -> Any:
    """Return nested lists of numbers times a number."""
    return [resized(v, by) for v in value] if isinstance(value, list) else value * by


def family_of(name: str, seed: int) -> Family:
    """One family of covariances."""
    flag = "CovarianceFamily"
    cases = [
        Case("lower", f"N = {n}, K = {k}, D = {d}.", problem_of(name, seed + i, n, k, d), (flag,))
        for i, (n, k, d) in enumerate(
            [(1, 1, 1), (3, 1, 3), (4, 2, 2), (5, 3, 3), (6, 4, 2), (2, 2, 4)]
        )
    ]
    base = problem_of(name, seed + 8, 4, 3, 2)
    far = replace(base, x=[base.x[0], [50.0, -40.0], *base.x[2:]])
    moved = replace(
        base,
        means=[[round(v + 1e4, 3) for v in row] for row in base.means],
        x=[[round(v + 1e4, 3) for v in row] for row in base.x],
    )
    off = replace(base, logits=[0.25, -math.inf, -0.5])
    narrow = replace(base, scale=resized(base.scale, 2.0**-27), x=[*base.x[:3], base.means[1]])
    zero, nan, short = (_damaged(base, how) for how in ("zero", "nan", "short"))
    items = [
        ("lower", "As a sum.", replace(base, reduction="sum"), "Reduction", "valid"),
        (
            "average",
            "With weights.",
            replace(base, weights=[0.5, 2.0, 1.25, 0.0]),
            "Weights",
            "valid",
        ),
        ("average", "A sample 50 away.", far, "Far", "valid"),
        ("average", "1e4 from the origin.", moved, "Offset", "valid"),
        ("average", "A component that is off.", off, "ComponentOff", "valid"),
        ("higher", "Deviations of about 1e-8, a sample on a mean.", narrow, "Collapsed", "valid"),
        ("higher", "A deviation of zero.", zero, "ZeroDiagonal", "invalid"),
        ("higher", "NaN in the scale.", nan, "NotFinite", "invalid"),
        ("higher", "A scale that is too short.", short, "BadShape", "invalid"),
    ]
    cases += [
        Case(level, text, problem, (flag, other), result)
        for level, text, problem, other, result in items
    ]
    return Family(f"family_{name}", WORDS[name], cases)


def _damaged(problem: FamilyProblem, how: str) -> FamilyProblem:
    if how == "short":
        return replace(problem, scale=problem.scale[:-1])
    bad, last = {"zero": 0.0, "nan": math.nan}[how], problem.scale[-1]
    last = [*last[:-1], bad] if isinstance(last, list) else bad
    return replace(problem, scale=[*problem.scale[:-1], last])
