"""Covariances, precisions and variances as inputs, and the gradients in them.

The gradient G in a symmetric matrix is itself symmetric: df = sum_ij G_ij dSigma_ij for every
symmetric dSigma. So an entry off the diagonal is half of what f moves by where it and its mirror
image move together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import mpmath as mp

from certify.covariances import resized
from certify.document import Case, Family
from certify.draw import Draw
from certify.lower import drawn
from certify.multiple import Blocks, Factor, Mixture, shares_of
from certify.problem import Matrix, Problem, Vector, rows_of, to_binary32

FORMS = ("covariances", "precisions", "diag_variances", "spherical_variances")


@dataclass(frozen=True)
class CovarianceProblem:
    """Inputs of one test by covariances or precisions [K][D][D], or variances [K][D] or [K]."""

    parametrization: str  # one of FORMS
    logits: Vector
    means: Matrix
    scale: Any
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
    def matrices(self) -> list[Matrix]:
        """Full symmetric matrices; of those in the file the lower triangles."""
        axes = range(len(self.means[0]))
        if self.parametrization == "diag_variances":
            return [[[v[i] if i == j else 0.0 for j in axes] for i in axes] for v in self.scale]
        if self.parametrization == "spherical_variances":
            return [[[v if i == j else 0.0 for j in axes] for i in axes] for v in self.scale]
        return [[[m[max(i, j)][min(i, j)] for j in axes] for i in axes] for m in self.scale]


def by_multiple(problem: CovarianceProblem, digits: int) -> Blocks:
    """Value and gradients in multiple precision: by Cholesky factors, row after row."""
    with mp.workdps(digits):
        return _by_factors(problem)


def full(problem: CovarianceProblem) -> Problem:
    """Return the same by Cholesky factors of the covariances, in mpmath's working precision."""
    matrices = problem.matrices
    if problem.parametrization == "precisions":
        matrices = [inverse_of(Factor(factored(m))) for m in matrices]
    chol = [factored(m) for m in matrices]
    return Problem(
        problem.logits,
        problem.means,
        chol,
        problem.x,
        None,
        problem.weights,
        problem.dtype,
        problem.reduction,
    )


def factored(matrix: Any) -> Any:
    """Return the lower Cholesky factor."""
    size = len(matrix)
    lower = [[mp.mpf(0)] * size for _ in matrix]
    for i in range(size):
        for j in range(i + 1):
            rest = mp.mpf(matrix[i][j]) - mp.fdot(lower[i][:j], lower[j][:j])
            lower[i][j] = mp.sqrt(rest) if i == j else rest / lower[j][j]
    return lower


def inverse_of(factor: Factor) -> Any:
    """Return the inverse of L L^T, column by column."""
    axes = range(len(factor.diagonal))
    units = [[mp.mpf(i == j) for i in axes] for j in axes]
    return [factor.solve_transposed(factor.solve(unit)) for unit in units]


def reduced(problem: CovarianceProblem, gradients: list[Any]) -> list[Any]:
    """Return the gradient of the scale from those of full matrices [K][D][D]."""
    axes = range(len(problem.means[0]))
    if problem.parametrization == "diag_variances":
        return [g[i][i] for g in gradients for i in axes]
    if problem.parametrization == "spherical_variances":
        return [sum((g[i][i] for i in axes[1:]), g[0][0]) for g in gradients]
    return [v for g in gradients for row in g for v in row]


def _by_factors(problem: CovarianceProblem) -> Blocks:
    mixture = Mixture(full(problem))
    axes, components = range(len(problem.means[0])), range(len(problem.logits))
    inverse = {k: inverse_of(mixture.factors[k]) for k in mixture.on}
    matrices = problem.matrices
    if problem.parametrization == "precisions":  # the covariances
        matrices = [inverse_of(Factor(factored(m))) for m in matrices]
    nll = mp.mpf(0)
    d_logits = [mp.mpf(0) for _ in components]
    d_means = [[mp.mpf(0)] * len(axes) for _ in components]
    d_scale = [[[mp.mpf(0)] * len(axes) for _ in axes] for _ in components]
    for row, c in zip(problem.x, shares_of(problem), strict=True):
        z, resp, log_likelihood = mixture.at(row)
        nll -= c * log_likelihood
        for k in mixture.on:
            share = c * resp[k]
            d_logits[k] += c * mixture.pi[k] - share
            y = mixture.factors[k].solve_transposed(z[k])
            e = [mp.mpf(a) - mp.mpf(b) for a, b in zip(row, problem.means[k], strict=True)]
            for i in axes:
                d_means[k][i] -= share * y[i]
                for j in axes:
                    if problem.parametrization == "precisions":
                        bracket = e[i] * e[j] - matrices[k][i][j]
                    else:
                        bracket = inverse[k][i][j] - y[i] * y[j]
                    d_scale[k][i][j] += share * bracket / 2
    return {
        "nll": [nll],
        "logits": d_logits,
        "means": [v for row in d_means for v in row],
        "scale": reduced(problem, d_scale),
    }


# --- the cases ----------------------------------------------------------------------------------


def symmetric(draw: Draw, size: int) -> Matrix:
    """Draw a definite matrix, rounded to few decimals."""
    factor = draw.factor(size)
    return [
        [round(sum(a * b for a, b in zip(p, q, strict=True)), 4) for q in factor] for p in factor
    ]


DRAWN: dict[str, Callable[[Draw, int, int], Any]] = {
    "covariances": lambda draw, k, d: [symmetric(draw, d) for _ in range(k)],
    "precisions": lambda draw, k, d: [symmetric(draw, d) for _ in range(k)],
    "diag_variances": lambda draw, k, d: [
        [draw.uniform(0.2, 3.5) for _ in range(d)] for _ in range(k)
    ],
    "spherical_variances": lambda draw, k, d: [draw.uniform(0.2, 3.5) for _ in range(k)],  # noqa: ARG005
}
WORDS = {
    "covariances": "Covariances [K, D, D]: entries off the diagonal counted twice or once, one "
    "triangle alone, the gradient in the factor for that in the covariance.",
    "precisions": "Precisions [K, D, D]: covariances for precisions, the sign of the gradient.",
    "diag_variances": "Variances of each component and column, [K, D]: deviations for variances.",
    "spherical_variances": "A variance a component, [K]: a gradient that is a mean over the axes.",
}
FLAG = "ByCovariance"


def families() -> list[Family]:
    """All families by covariances, precisions or variances."""
    return [family_of(name, 1600 + 40 * i) for i, name in enumerate(FORMS)]


def problem_of(name: str, seed: int, n: int, k: int, d: int) -> CovarianceProblem:
    """Draw a problem without anything special about it."""
    base = drawn(seed, n, k, d)
    return CovarianceProblem(
        name, base.logits, base.means, DRAWN[name](Draw(seed + 1000), k, d), base.x
    )


def family_of(name: str, seed: int) -> Family:
    """One form."""
    sizes = [(1, 1, 1), (3, 1, 3), (4, 2, 2), (5, 3, 3), (6, 4, 2), (2, 2, 4)]
    cases = [
        Case("lower", f"N = {n}, K = {k}, D = {d}.", problem_of(name, seed + i, n, k, d), (FLAG,))
        for i, (n, k, d) in enumerate(sizes)
    ]
    base = problem_of(name, seed + 10, 4, 3, 2)
    far = replace(base, x=[base.x[0], [50.0, -40.0], *base.x[2:]])

    def times(by: float) -> CovarianceProblem:
        # Everything so many times as large.
        square = 1 / by**2 if name == "precisions" else by**2
        means, x = resized(base.means, by), resized(base.x, by)
        return replace(base, means=means, x=x, scale=resized(base.scale, square))

    moved = replace(
        base,
        means=[[round(v + 1e4, 3) for v in row] for row in base.means],
        x=[[round(v + 1e4, 3) for v in row] for row in base.x],
    )
    items = [
        ("lower", "As a sum.", replace(base, reduction="sum"), "Reduction"),
        ("lower", "In binary32.", _single(base), "Binary32"),
        ("average", "With weights.", replace(base, weights=[0.5, 2.0, 1.25, 0.0]), "Weights"),
        ("average", "A sample 50 away.", far, "Far"),
        ("average", "1e4 from the origin.", moved, "Offset"),
        (
            "average",
            "A component that is off.",
            replace(base, logits=[0.25, -math.inf, -0.5]),
            "ComponentOff",
        ),
        ("higher", "Everything 2^-200 times as large.", times(2.0**-200), "ExtremeScales"),
        ("higher", "Everything 2^200 times as large.", times(2.0**200), "ExtremeScales"),
    ]
    cases += [Case(level, text, p, (FLAG, flag)) for level, text, p, flag in items]
    if name in ("covariances", "precisions"):
        cases += _of_matrices(base)
    zero = resized(base.scale, 0.0)
    for text, scale, flag in [
        ("Zeros.", [*base.scale[:2], zero[2]], "ZeroDiagonal"),
        ("Of the other sign.", [*base.scale[:2], resized(base.scale, -1.0)[2]], "Indefinite"),
        ("NaN.", [*base.scale[:2], resized(base.scale, math.nan)[2]], "NotFinite"),
        ("One too few.", base.scale[:2], "BadShape"),
    ]:
        cases.append(Case("higher", text, replace(base, scale=scale), (FLAG, flag), "invalid"))
    return Family(name, WORDS[name], cases)


def _single(problem: CovarianceProblem) -> CovarianceProblem:
    def rounded(value: Any) -> Any:
        return [rounded(v) for v in value] if isinstance(value, list) else to_binary32(value)

    named: dict[str, Any] = {n: rounded(v) for n, v in problem.arrays.items()}
    return replace(problem, **named, dtype="binary32")


def _of_matrices(base: CovarianceProblem) -> list[Case]:
    """Return what only full matrices can be."""
    diagonal = [[[0.5, 0.0], [0.0, 0.5]], [[2.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]]

    def thin(number: float) -> CovarianceProblem:
        return replace(base, scale=[[[1.0, 0.75], [0.75, 0.5625 + number]], *base.scale[1:]])

    items = [
        ("lower", "Multiples of the identity.", replace(base, scale=diagonal), "Diagonal", "valid"),
        ("average", "A condition number of about 300.", thin(2.0**-7), "IllConditioned", "valid"),
        ("higher", "A condition number of about 1e6.", thin(2.0**-19), "IllConditioned", "valid"),
        (
            "higher",
            "A matrix that is not symmetric.",
            replace(base, scale=[[[1.0, 0.5], [0.25, 1.0]], *base.scale[1:]]),
            "NotSymmetric",
            "invalid",
        ),
        (
            "higher",
            "A correlation beyond one.",
            replace(base, scale=[[[1.0, 1.25], [1.25, 1.0]], *base.scale[1:]]),
            "Indefinite",
            "invalid",
        ),
    ]
    return [Case(level, text, p, (FLAG, flag), result) for level, text, p, flag, result in items]
