"""What comes out for each sample, one step of EM, and marginal densities: the cases.

One list of problems serves every function, so that what is special about the inputs is asked of
all of them; a step of EM needs more rows than dimensions, and no component without any.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from certify.document import Case, Family
from certify.draw import Draw, diagonal, placed, scaled
from certify.lower import drawn, single
from certify.problem import Problem

# Functions of a sample, and of all of them.
FUNCTIONS = ("log_prob", "responsibilities", "d_x", "em_step", "marginal")
FLAGS = {
    "log_prob": "LogDensity",
    "responsibilities": "Responsibilities",
    "d_x": "GradientInX",
    "em_step": "EMStep",
    "marginal": "Marginal",
}
WORDS = {
    "log_prob": "log p(x_n) of each sample: the loss for its negative, a constant, densities that "
    "underflow, the likeliest component for all of them.",
    "responsibilities": "The posterior of each component for each sample: joint densities that are "
    "not normalised, or normalised over the wrong axis; NaN where all underflow.",
    "d_x": "The gradient of the loss in x: its sign, its share of the mean, components that are "
    "not weighted by their responsibilities.",
    "em_step": "Weights, means and covariances after one step of EM: moments about the old mean or "
    "about the origin, the wrong divisor, floors.",
    "marginal": "The density of chosen columns: a block of the factor, or of the precision, for "
    "the block of the covariance.",
}
Item = tuple[str, str, Problem, str]


def families() -> list[Family]:
    """All families of what comes out for samples."""
    return [family_of(name, 1100 + 50 * i) for i, name in enumerate(FUNCTIONS)]


def family_of(function: str, seed: int) -> Family:
    """One function of the samples."""

    def draw(at: int, n: int, k: int, d: int) -> Problem:
        return drawn(seed + at, max(n, 2 * d + 3) if function == "em_step" else n, k, d)

    items = [*_plain(draw), *_special(draw)]
    items += _clustered(seed) if function == "em_step" else _far_and_narrow(draw)
    items += {"d_x": _weighted, "em_step": _weighted}.get(function, lambda _: [])(draw)
    ask = _asking(function)
    cases = [
        Case(level, text, ask(problem), (FLAGS[function], flag))
        for level, text, problem, flag in items
    ]
    cases += [
        Case("higher", text, ask(problem), (FLAGS[function], flag), "invalid")
        for text, problem, flag in _damaged(draw)
    ]
    if function == "marginal":
        cases += _of_columns(draw)
    return Family(function, WORDS[function], cases)


def _asking(function: str) -> Callable[[Problem], Problem]:
    """Return what asks a problem for a function; of the density of all columns but the first."""

    def marginal(problem: Problem) -> Problem:
        columns = list(range(len(problem.means[0]) if problem.means else 1))
        columns = columns[1:][::-1] or columns
        x = [[row[c] for c in columns] if len(row) > max(columns) else row for row in problem.x]
        return replace(problem, function="marginal", columns=columns, x=x)

    return marginal if function == "marginal" else lambda p: replace(p, function=function)


Drawn = Callable[[int, int, int, int], Problem]


def _plain(draw: Drawn) -> list[Item]:
    sizes = [(1, 1, 1), (1, 1, 2), (3, 1, 3), (2, 2, 1), (4, 2, 2), (3, 3, 2), (3, 3, 3), (2, 2, 4)]
    items = [
        ("lower", f"N = {len(p.x)}, K = {k}, D = {d}.", p, "Dense")
        for i, (n, k, d) in enumerate(sizes)
        for p in [draw(i, n, k, d)]
    ]
    base = draw(10, 3, 3, 2)
    return [
        *items,
        ("lower", "In binary32.", single(base), "Binary32"),
        ("lower", "In binary32, D = 3.", single(draw(11, 3, 2, 3)), "Binary32"),
        (
            "lower",
            "The logits plus 700.",
            replace(base, logits=[a + 700.0 for a in base.logits]),
            "ShiftedLogits",
        ),
        (
            "lower",
            "Diagonal factors, with deviations on both sides of one.",
            replace(base, chol=[diagonal([0.25, 3.0]), diagonal([1.5, 0.5]), diagonal([2.0, 0.7])]),
            "BothSidesOfOne",
        ),
    ]


def _special(draw: Drawn) -> list[Item]:
    base, wide = draw(20, 4, 3, 2), draw(21, 3, 2, 9)
    twins = replace(
        base,
        logits=[0.5, 0.5, -0.25],
        means=[base.means[0], base.means[0], base.means[2]],
        chol=[base.chol[0], base.chol[0], base.chol[2]],
    )

    def moved(far: float) -> Problem:
        return replace(
            base,
            means=[[round(v + far, 3) for v in row] for row in base.means],
            x=[[round(v + far, 3) for v in row] for row in base.x],
        )

    def resized(by: float) -> Problem:
        return replace(
            base,
            means=[[v * by for v in row] for row in base.means],
            chol=[scaled(factor, by) for factor in base.chol],
            x=[[v * by for v in row] for row in base.x],
        )

    def thin(number: float) -> Problem:
        factor = [[1.0, 0.0], [0.7, number]]
        # Enough of them for the covariances of a step of EM.
        rows = Draw(77).matrix(24 if len(base.x) > 4 else 4, 2)
        around = [placed(base.means[n % 3], factor, z) for n, z in enumerate(rows)]
        return replace(base, chol=[factor] * 3, x=around)

    return [
        ("average", "D = 9.", wide, "ManyDimensions"),
        ("average", "K = 9.", draw(22, 5, 9, 2), "ManyComponents"),
        ("average", "1e4 from the origin.", moved(1e4), "Offset"),
        ("average", "Two components that are alike.", twins, "Duplicates"),
        (
            "average",
            "Weights of about exp(-10).",
            replace(base, logits=[0.0, -10.0, 0.5]),
            "SmallShares",
        ),
        ("average", "Condition numbers of about 1e4.", thin(1e-2), "IllConditioned"),
        ("higher", "1e8 from the origin.", moved(1e8), "Offset"),
        ("higher", "Everything 2^-500 times as large.", resized(2.0**-500), "ExtremeScales"),
        ("higher", "Everything 2^500 times as large.", resized(2.0**500), "ExtremeScales"),
        ("higher", "Condition numbers of about 1e8.", thin(1e-4), "IllConditioned"),
    ]


def _far_and_narrow(draw: Drawn) -> list[Item]:
    base = draw(30, 4, 3, 2)

    def far(row: list[float]) -> Problem:
        return replace(base, x=[base.x[0], row, *base.x[2:]])

    apart = replace(base, means=[[0.0, 0.0], [9.0, -4.0], [-8.0, 7.0]])
    narrow = replace(base, chol=[scaled(f, 2.0**-27) for f in base.chol], x=[*base.means, [0.5, 0]])
    return [
        ("average", "A sample 50 away from every component.", far([50.0, -40.0]), "Far"),
        ("average", "A sample 1e4 away from every component.", far([1e4, -5e3]), "Far"),
        ("average", "Responsibilities within rounding of zero and one.", apart, "Saturated"),
        (
            "average",
            "A component that is off.",
            replace(base, logits=[0.25, -math.inf, -0.5]),
            "ComponentOff",
        ),
        ("average", "Logits of 1e3.", replace(base, logits=[1e3, 999.0, 0.0]), "LargeLogits"),
        (
            "average",
            "A component with a weight of about exp(-600).",
            replace(base, logits=[0.0, -600.0, 0.5]),
            "SmallShares",
        ),
        ("higher", "Deviations of about 1e-8, samples on the means.", narrow, "Collapsed"),
    ]


def _weighted(draw: Drawn) -> list[Item]:
    base = draw(40, 7, 3, 2)
    weights = [0.5, 2.0, 1.25, 0.125, 3.0, 0.75, 1.5]
    return [
        ("average", "With weights.", replace(base, weights=weights), "Weights"),
        (
            "average",
            "A weight of zero drops its row.",
            replace(base, weights=[*weights[:6], 0.0]),
            "Weights",
        ),
        ("average", "All weights are 8.", replace(base, weights=[8.0] * 7), "Weights"),
    ]


def _clustered(seed: int) -> list[Item]:
    """Return samples in clusters, so that each component has enough of them."""

    def clusters(at: int, means: list[list[float]], width: float, each: int = 7) -> Problem:
        source = Draw(seed + at)
        rows = [
            [m + width * e for m, e in zip(mean, source.vector(len(mean)), strict=True)]
            for _ in range(each)
            for mean in means
        ]
        chol = [scaled(f, width) for f in source.factors(len(means), len(means[0]))]
        return Problem(source.vector(len(means)), means, chol, rows)

    apart = [[0.0, 0.0], [9.0, -4.0], [-8.0, 7.0]]
    far = clusters(31, apart, 1.0)
    stale = replace(far, means=[[0.5, 0.5], [7.0, -3.0], [-7.0, 6.0]])
    return [
        ("average", "Clusters apart.", far, "Saturated"),
        ("average", "Clusters apart, means beside them.", stale, "Saturated"),
        ("average", "Clusters of width 1/1000.", clusters(32, apart, 2.0**-10), "Collapsed"),
        ("higher", "Clusters of width 1e-6.", clusters(33, apart, 2.0**-20), "Collapsed"),
        (
            "average",
            "N = 1000, by repeated rows.",
            replace(clusters(34, apart[:2], 2.0, 4), count=[250, 3, 141, 90, 1, 300, 115, 100]),
            "ManySamples",
        ),
    ]


def _damaged(draw: Drawn) -> list[tuple[str, Problem, str]]:
    base = draw(45, 7, 2, 2)
    return [
        ("NaN in x.", replace(base, x=[[math.nan] * 2, *base.x[1:]]), "NotFinite"),
        ("All logits are -inf.", replace(base, logits=[-math.inf] * 2), "AllOff"),
        (
            "A zero on a factor's diagonal.",
            replace(base, chol=[base.chol[0], [[1.0, 0.0], [0.5, 0.0]]]),
            "ZeroDiagonal",
        ),
        ("A single mean for two components.", replace(base, means=base.means[:1]), "BadShape"),
    ]


def _of_columns(draw: Drawn) -> list[Case]:
    """Return marginal densities of columns in several orders, and of what are no columns."""
    base = draw(46, 3, 2, 4)
    cases = [
        Case(
            "lower" if len(columns) < 4 else "average",
            f"Columns {', '.join(map(str, columns))} of four.",
            replace(
                base,
                function="marginal",
                columns=columns,
                x=[[r[c] for c in columns] for r in base.x],
            ),
            ("Marginal", "Columns"),
        )
        for columns in ([0], [3], [1, 2], [2, 0], [3, 0, 1], [2, 3, 0, 1])
    ]
    bad: list[tuple[str, Any, int]] = [
        ("A column twice.", [1, 1], 2),
        ("A column that there is not.", [0, 4], 2),
        ("Fewer columns than x has.", [0, 1], 3),
    ]
    return cases + [
        Case(
            "higher",
            text,
            replace(base, function="marginal", columns=columns, x=[r[:n] for r in base.x]),
            ("Marginal", "BadShape"),
            "invalid",
        )
        for text, columns, n in bad
    ]
