"""A mixture for each row: the outputs of single rows, with their shares of the loss.

The problem of one row is one of full factors or of a family of covariances, so that both routes and
the allowances are those of such problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import mpmath as mp

from certify import covariances, multiple
from certify.covariances import FamilyProblem, resized
from certify.document import Case, Family
from certify.draw import Draw
from certify.lower import drawn
from certify.multiple import Blocks
from certify.problem import Matrix, Problem, Vector, rows_of, to_binary32

# The parametrization of the problem of one row.
FORMS = {
    "rowwise_full": "cholesky",
    "rowwise_diag": "diag",
    "rowwise_spherical": "spherical",
}


@dataclass(frozen=True)
class RowwiseProblem:
    """Inputs of one test with parameters of their own for each row."""

    parametrization: str  # a key of FORMS
    logits: Matrix  # [N][K]
    means: list[Matrix]  # [N][K][D]
    scale: Any  # [N][K][D][D] factors, or deviations [N][K][D] or [N][K]
    x: Matrix
    weights: Vector | None = None
    dtype: str = "binary64"
    reduction: str = "mean"

    function = "value_and_gradient"
    count = None

    @property
    def arrays(self) -> dict[str, Any]:
        """Inputs by the names and in the order of the files."""
        named: dict[str, Any] = {"logits": self.logits, "means": self.means, "scale": self.scale}
        return named | rows_of(self)

    @property
    def multiplicity(self) -> list[int]:
        """How often each row stands in the data."""
        return [1] * len(self.x)

    @property
    def rows(self) -> list[Any]:
        """The problem of each row by itself."""
        full, found = self.parametrization == "rowwise_full", list[Any]()
        for a, m, s, x in zip(self.logits, self.means, self.scale, self.x, strict=True):
            options: dict[str, Any] = {"dtype": self.dtype, "reduction": "sum"}
            if full:
                found.append(Problem(a, m, s, [x], **options))
            else:
                found.append(FamilyProblem(FORMS[self.parametrization], a, m, s, [x], **options))
        return found


def gathered(shares: list[Any], rows: list[Blocks]) -> Blocks:
    """Return the outputs of all rows from those of each by itself, and its share of the loss."""
    nll = [share * row["nll"][0] for share, row in zip(shares, rows, strict=True)]
    found: Blocks = {"nll": [sum(nll[1:], nll[0])]}
    for name, last in (("logits", "logits"), ("means", "means"), ("scale", scale_of(rows))):
        found[name] = [c * v for c, row in zip(shares, rows, strict=True) for v in row[last]]
    return found


def scale_of(rows: list[Blocks]) -> str:
    """Return the name of the scale in the outputs of a row."""
    return "chol" if "chol" in rows[0] else "scale"


def by_multiple(problem: RowwiseProblem, digits: int) -> Blocks:
    """Value and gradients in multiple precision."""
    with mp.workdps(digits):
        route: Any = (
            multiple.evaluate
            if problem.parametrization == "rowwise_full"
            else covariances.by_multiple
        )
        return gathered(multiple.shares_of(problem), [route(p, digits) for p in problem.rows])


# --- the cases ----------------------------------------------------------------------------------

# A scale of one row.
DRAWN: dict[str, Callable[[Draw, int, int], Any]] = {
    "rowwise_full": lambda draw, k, d: draw.factors(k, d),
    "rowwise_diag": covariances.DRAWN["diag"],
    "rowwise_spherical": covariances.DRAWN["spherical"],
}
WORDS = {
    "rowwise_full": "A mixture for each row, by factors [N, K, D, D]: the softmax over the wrong "
    "axis, the parameters of another row.",
    "rowwise_diag": "A mixture for each row, by standard deviations [N, K, D], as mixture density "
    "networks have them: a mean of logarithms for the logarithm of a mean.",
    "rowwise_spherical": "A mixture for each row, by standard deviations [N, K]: axes of rows and "
    "of components mixed up where both are equally long.",
}


def families() -> list[Family]:
    """All families of mixtures for each row."""
    return [family_of(name, 900 + 20 * i) for i, name in enumerate(FORMS)]


def problem_of(name: str, seed: int, n: int, k: int, d: int) -> RowwiseProblem:
    """Draw a problem without anything special about it."""
    rows = [drawn(1000 * seed + i, 1, k, d) for i in range(n)]
    scale = [DRAWN[name](Draw(1000 * seed + 500 + i), k, d) for i in range(n)]
    return RowwiseProblem(
        name, [r.logits for r in rows], [r.means for r in rows], scale, [r.x[0] for r in rows]
    )


def single(problem: RowwiseProblem) -> RowwiseProblem:
    """Return the problem rounded to binary32."""

    def rounded(value: Any) -> Any:
        return [rounded(v) for v in value] if isinstance(value, list) else to_binary32(value)

    named: dict[str, Any] = {n: rounded(v) for n, v in problem.arrays.items()}
    return replace(problem, **named, dtype="binary32")


def with_row(problem: RowwiseProblem, n: int, **changes: Any) -> RowwiseProblem:
    """Return the problem with other parameters in a row; a function is applied to what there is."""
    found: dict[str, Any] = {}
    for name, change in changes.items():
        value = list(getattr(problem, name))
        value[n] = change(value[n]) if callable(change) else change
        found[name] = value
    return replace(problem, **found)


def family_of(name: str, seed: int) -> Family:
    """One family of mixtures for each row."""
    flag = "Rowwise"
    sizes = [(1, 1, 1), (2, 1, 2), (3, 2, 1), (2, 2, 2), (3, 3, 2), (4, 3, 3), (5, 2, 4)]
    cases = [
        Case("lower", f"N = {n}, K = {k}, D = {d}.", problem_of(name, seed + i, n, k, d), (flag,))
        for i, (n, k, d) in enumerate(sizes)
    ]
    base = problem_of(name, seed + 10, 4, 3, 2)
    square = problem_of(name, seed + 11, 3, 3, 2)

    def times(by: float) -> Callable[[Any], Any]:
        return lambda value: resized(value, by)

    far = with_row(base, 1, x=[50.0, -40.0])
    moved = with_row(
        with_row(base, 2, x=lambda row: [round(v + 1e4, 3) for v in row]),
        2,
        means=lambda rows: [[round(v + 1e4, 3) for v in row] for row in rows],
    )
    off = with_row(base, 0, logits=[0.25, -math.inf, -0.5])
    large = with_row(with_row(base, 1, logits=[1e3, -1e3, 999.0]), 2, logits=[700.0] * 3)
    narrow = with_row(with_row(base, 3, scale=times(2.0**-27)), 3, x=base.means[3][1])
    mixed = base
    for n, by in ((1, 2.0**-500), (2, 2.0**500)):
        mixed = with_row(mixed, n, scale=times(by), means=times(by), x=times(by))
    items = [
        ("lower", "As a sum.", replace(square, reduction="sum"), "Reduction"),
        ("lower", "As a mean.", square, "Reduction"),
        ("lower", "In binary32.", single(square), "Binary32"),
        ("average", "With weights.", replace(base, weights=[0.5, 2.0, 1.25, 0.75]), "Weights"),
        (
            "average",
            "As a weighted sum, a row of weight zero.",
            replace(base, weights=[0.5, 0.0, 1.25, 2.0], reduction="sum"),
            "Weights",
        ),
        ("average", "A sample 50 away from its row's components.", far, "Far"),
        ("average", "One row 1e4 from the origin.", moved, "Offset"),
        ("average", "A component that is off in one row alone.", off, "ComponentOff"),
        ("average", "Logits of 1e3 in one row, of 700 in another.", large, "LargeLogits"),
        ("higher", "Deviations of about 1e-8 in one row.", narrow, "Collapsed"),
        ("higher", "Rows of scales 3e-151 and 3e150 beside others.", mixed, "ExtremeScales"),
    ]
    damaged = [
        ("NaN in the logits of one row.", with_row(base, 2, logits=[0.0, math.nan, 1.0])),
        ("All components are off in one row.", with_row(base, 1, logits=[-math.inf] * 3)),
        ("A scale of zeros in one row.", with_row(base, 3, scale=times(0.0))),
        ("Parameters of three rows for four.", replace(base, means=base.means[:3])),
        ("Logits of one row for all, which would broadcast.", replace(base, logits=[[0.0] * 3])),
    ]
    flags = ("NotFinite", "AllOff", "ZeroDiagonal", "BadShape", "BadShape")
    cases += [Case(level, text, problem, (flag, other)) for level, text, problem, other in items]
    cases += [
        Case("higher", text, problem, (flag, other), "invalid")
        for (text, problem), other in zip(damaged, flags, strict=True)
    ]
    return Family(name, WORDS[name], cases)
