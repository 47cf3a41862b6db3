"""Families of second derivatives: products of the Hessian with a direction, and scores.

Small sizes throughout: what a Hessian is wrong in shows with a few rows, and a score has as many
entries as all gradients together, for each row.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from certify.average import overlapping
from certify.document import Case, Family
from certify.draw import Draw, diagonal, identity, placed, scaled
from certify.lower import drawn, single
from certify.problem import DIRECTION, Matrix, Problem


def families() -> list[Family]:
    """All families of second derivatives."""
    return [
        hvp_dense(),
        hvp_one_argument(),
        hvp_one_entry(),
        hvp_conventions(),
        hvp_range(),
        hvp_conditioning(),
        hvp_rejected(),
        scores_dense(),
        scores_range(),
    ]


def triangle(draw: Draw, size: int) -> Matrix:
    """Draw a lower triangle of either sign."""
    return [[draw.normal() if j <= i else 0.0 for j in range(size)] for i in range(size)]


def along(problem: Problem, seed: int, size: float = 1.0) -> Problem:
    """Ask for the product with a direction that moves everything; means and factors by `size`."""
    draw, (k, d) = Draw(seed), (len(problem.means), len(problem.means[0]))
    return replace(
        problem,
        function="hvp",
        v_logits=draw.vector(k),
        v_means=[[v * size for v in row] for row in draw.matrix(k, d)],
        v_chol=[scaled(triangle(draw, d), size) for _ in range(k)],
    )


def with_array(problem: Problem, name: str, value: Any) -> Problem:
    """Return the problem with one array replaced."""
    changes: dict[str, Any] = {name: value}
    return replace(problem, **changes)


def still(problem: Problem) -> Problem:
    """Ask for the product with a direction of zeros."""
    k, d = len(problem.means), len(problem.means[0])
    zeros = [[0.0] * d for _ in range(k)]
    return replace(
        problem,
        function="hvp",
        v_logits=[0.0] * k,
        v_means=zeros,
        v_chol=[[[0.0] * d for _ in range(d)] for _ in range(k)],
    )


def hvp_dense() -> Family:
    """Everything moves."""
    sizes = [
        (1, 1, 1),
        (3, 1, 1),
        (1, 1, 2),
        (4, 1, 3),
        (1, 2, 1),
        (2, 2, 2),
        (4, 3, 1),
        (5, 3, 2),
        (6, 3, 3),
        (3, 5, 2),
        (8, 4, 2),
        (4, 2, 4),
    ]
    cases = [
        Case(
            "lower",
            f"N = {n}, K = {k}, D = {d}: all arguments move.",
            along(drawn(700 + i, n, k, d), 720 + i),
            ("Curvature",),
        )
        for i, (n, k, d) in enumerate(sizes)
    ]
    comment = "The whole product; a term of it, or of a tangent, that is dropped or counted twice."
    return Family("hvp_dense", comment, cases)


def hvp_one_argument() -> Family:
    """One argument moves, the others stay."""
    names = {"v_logits": "logits", "v_means": "means", "v_chol": "factors"}
    cases: list[Case] = []
    for i, (n, k, d) in enumerate([(3, 2, 2), (5, 3, 2), (4, 3, 3)]):
        problem = drawn(740 + i, n, k, d)
        moving, resting = along(problem, 750 + i), still(problem)
        for name, words in names.items():
            one = with_array(resting, name, getattr(moving, name))
            text = f"N = {n}, K = {k}, D = {d}: the {words} move, and nothing else."
            cases.append(Case("lower", text, one, ("Curvature", "OneArgument")))
    comment = (
        "Blocks of the Hessian by themselves: which argument's tangent is wrong, and for whom."
    )
    return Family("hvp_one_argument", comment, cases)


def hvp_one_entry() -> Family:
    """One entry moves: the product is a column of the Hessian."""
    cases: list[Case] = []
    problem = drawn(760, 4, 3, 3)
    for name, path, text in [
        ("v_logits", (0,), "the first logit"),
        ("v_logits", (2,), "the last logit"),
        ("v_means", (1, 0), "an entry of a mean"),
        ("v_chol", (1, 0, 0), "the first entry on the diagonal of a factor"),
        ("v_chol", (1, 2, 2), "the last entry on the diagonal of a factor"),
        ("v_chol", (0, 1, 0), "an entry below the diagonal of a factor"),
        ("v_chol", (2, 2, 0), "the entry at the lower left of a factor"),
        ("v_chol", (2, 2, 1), "an entry in the last row of a factor"),
    ]:
        one = still(problem)
        row = getattr(one, name)
        for index in path[:-1]:
            row = row[index]
        row[path[-1]] = 1.0
        text = f"K = 3, D = 3: the column of the Hessian of {text}."
        cases.append(Case("lower", text, one, ("Curvature", "OneEntry")))
    comment = (
        "Columns of the Hessian: entries off the diagonal of a factor counted twice or halved."
    )
    return Family("hvp_one_entry", comment, cases)


def hvp_conventions() -> Family:
    """Reductions, weights, repeated rows, single precision, components that are off."""
    base = drawn(770, 4, 2, 2)
    weights = [0.5, 2.0, 1.25, 0.125]
    off = replace(drawn(773, 4, 3, 2), logits=[0.25, -math.inf, -0.5])
    off_still = along(off, 776)
    for name in DIRECTION:  # what is off stays off
        value = list(getattr(off_still, name))
        value[1] = getattr(still(off), name)[1]
        off_still = with_array(off_still, name, value)
    many = replace(overlapping(774, 8, 2, 2), count=[250, 3, 141, 90, 1, 300, 115, 100])
    shifted = replace(base, logits=[a + 700.0 for a in base.logits])
    items = [
        ("lower", "As a sum.", along(replace(base, reduction="sum"), 780), "Reduction"),
        ("lower", "As a mean.", along(base, 780), "Reduction"),
        (
            "average",
            "With weights, as a mean.",
            along(replace(base, weights=weights), 781),
            "Weights",
        ),
        (
            "average",
            "With weights, as a sum.",
            along(replace(base, weights=weights, reduction="sum"), 781),
            "Weights",
        ),
        (
            "average",
            "Weights of zero drop their rows.",
            along(replace(base, weights=[1.0, 0.0, 2.0, 0.0]), 782),
            "Weights",
        ),
        ("average", "N = 1000, by repeated rows.", along(many, 783), "ManySamples"),
        ("average", "The logits plus 700.", along(shifted, 780), "ShiftedLogits"),
        ("average", "A component that is off, and does not move.", off_still, "ComponentOff"),
        ("lower", "In binary32.", single(along(drawn(771, 5, 2, 2), 784)), "Binary32"),
        (
            "lower",
            "In binary32, K = 3, D = 3.",
            single(along(drawn(772, 4, 3, 3), 785)),
            "Binary32",
        ),
    ]
    cases = [
        Case(level, text, problem, ("Curvature", flag)) for level, text, problem, flag in items
    ]
    comment = "Sum for mean, weights that are left out of a tangent, a component that is off."
    return Family("hvp_conventions", comment, cases)


def hvp_range() -> Family:
    """Far samples, small shares, scales away from one."""
    cases: list[Case] = []
    for far in (50.0, 1e4):
        base = drawn(790, 3, 2, 2)
        moved = replace(base, x=[base.x[0], [far, -0.5 * far], base.x[2]])
        text = f"A sample {far:g} away from every component."
        cases.append(Case("average", text, along(moved, 791), ("Curvature", "Far")))
    for share in (10.0, 40.0, 600.0):
        base = drawn(792, 4, 3, 2)
        small = replace(base, logits=[base.logits[0], base.logits[1] - share, base.logits[2]])
        text = f"A component with a weight of about exp(-{share:g})."
        cases.append(Case("average", text, along(small, 793), ("Curvature", "SmallShares")))
    apart = Problem(
        [0.0, 0.25, -0.5],
        [[0.0, 0.0], [9.0, -4.0], [-8.0, 7.0]],
        [identity(2), [[1.25, 0.0], [0.5, 0.75]], [[0.5, 0.0], [-0.25, 1.5]]],
        [[0.5, -0.25], [8.5, -4.5], [-8.5, 6.0], [1.0, 0.5]],
    )
    text = "Components apart, so that responsibilities are within rounding of zero and one."
    cases.append(Case("average", text, along(apart, 794), ("Curvature", "Saturated")))
    for size in (1e-100, 1e-6, 1e6, 1e100):
        base = drawn(795, 3, 2, 2)
        resized = replace(
            base,
            means=[[v * size for v in row] for row in base.means],
            chol=[scaled(factor, size) for factor in base.chol],
            x=[[v * size for v in row] for row in base.x],
        )
        level = "higher" if abs(math.log10(size)) > 50 else "average"
        text = f"Everything {size:g} times as large, the direction as well."
        cases.append(Case(level, text, along(resized, 796, size), ("Curvature", "ExtremeScales")))
    base = drawn(797, 4, 2, 2)
    tight = replace(
        base,
        chol=[base.chol[0], [[1e-8, 0.0], [3e-9, 2e-8]]],
        means=[base.means[0], base.x[1]],
    )
    text = "A component of width 1e-8 on a sample, moved by as little."
    cases.append(Case("higher", text, along(tight, 798, 1e-8), ("Curvature", "Collapsed")))
    comment = (
        "Tangents of responsibilities that are lost where these are near zero or one; squares."
    )
    return Family("hvp_range", comment, cases)


def hvp_conditioning() -> Family:
    """Ill-conditioned factors, offsets, and optima."""
    cases: list[Case] = []
    for level, number in [("average", 1e-2), ("average", 1e-4), ("higher", 1e-6)]:
        base = drawn(800, 4, 2, 3)
        thin = [[1.0, 0.0, 0.0], [0.7, number, 0.0], [-0.4, 0.3, 0.8]]
        rows = [placed(base.means[0], thin, z) for z in Draw(801).matrix(2, 3)]
        problem = replace(base, chol=[thin, base.chol[1]], x=[*rows, *base.x[2:]])
        text = f"A factor with {number:g} on its diagonal, D = 3."
        cases.append(
            Case(level, text, along(problem, 802, number), ("Curvature", "IllConditioned"))
        )
    for level, far in [("average", 1e4), ("higher", 1e8)]:
        base = drawn(803, 5, 2, 2)
        moved = replace(
            base,
            means=[[round(v + far, 3) for v in row] for row in base.means],
            x=[[round(v + far, 3) for v in row] for row in base.x],
        )
        text = f"{far:g} from the origin."
        cases.append(Case(level, text, along(moved, 804), ("Curvature", "Offset")))
    square = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
    best = Problem([0.0], [[0.0, 0.0]], [identity(2)], square)
    text = "At the maximum of one Gaussian, where observed and expected information agree."
    cases.append(Case("average", text, along(best, 805), ("Curvature", "Stationary")))
    skewed = [[1.0, 0.0], [3.0, 0.5]]
    best = replace(best, chol=[skewed], x=[placed([0.0, 0.0], skewed, z) for z in square])
    text = "The same, skewed: L = [[1, 0], [3, 1/2]]."
    cases.append(Case("average", text, along(best, 806), ("Curvature", "Stationary")))
    beside = replace(best, means=[[0.5, 0.5]], chol=[diagonal([1.5, 1.25])])
    text = "Beside it, where they differ."
    cases.append(Case("average", text, along(beside, 807), ("Curvature", "Stationary")))
    comment = "Expected for observed information, which an optimum hides; digits lost in solves."
    return Family("hvp_conditioning", comment, cases)


def hvp_rejected() -> Family:
    """Directions that are none."""
    good = along(drawn(810, 3, 2, 2), 811)
    assert good.v_means
    assert good.v_chol
    nan, inf = math.nan, math.inf
    upper = [good.v_chol[0], [[0.5, 0.25], [0.5, 1.0]]]
    items: list[tuple[str, dict[str, Any], str]] = [
        ("NaN in the logits' direction.", {"v_logits": [nan, 0.5]}, "NotFinite"),
        (
            "An infinity in the means' direction.",
            {"v_means": [[0.0, inf], [0.5, 1.0]]},
            "NotFinite",
        ),
        (
            "NaN in the factors' direction.",
            {"v_chol": [good.v_chol[0], [[0.5, 0.0], [nan, 1.0]]]},
            "NotFinite",
        ),
        ("A logit too few in the direction.", {"v_logits": [0.5]}, "BadShape"),
        ("The direction of one mean for two.", {"v_means": good.v_means[:1]}, "BadShape"),
        ("The direction of one factor for two.", {"v_chol": good.v_chol[:1]}, "BadShape"),
        ("NaN in x.", {"x": [good.x[0], [nan, 0.0], good.x[2]]}, "NotFinite"),
        (
            "A zero on a factor's diagonal.",
            {"chol": [good.chol[0], [[1.0, 0.0], [0.5, 0.0]]]},
            "ZeroDiagonal",
        ),
    ]
    cases = [
        Case("higher", text, replace(good, **changes), ("Curvature", flag), "invalid")
        for text, changes, flag in items
    ]
    text = "A direction with an entry above the diagonal of a factor."
    flags = ("Curvature", "AboveDiagonal")
    cases.append(Case("higher", text, replace(good, v_chol=upper), flags, "either"))
    comment = "Directions that broadcast, or that no change of the parameters has."
    return Family("hvp_rejected", comment, cases)


def scores_of(problem: Problem) -> Problem:
    """Ask for the scores."""
    return replace(problem, function="scores")


def scores_dense() -> Family:
    """Scores of ordinary samples."""
    sizes = [(1, 1, 1), (3, 1, 2), (4, 2, 1), (5, 2, 2), (4, 3, 2), (3, 3, 3), (6, 4, 2), (2, 2, 4)]
    cases = [
        Case(
            "lower",
            f"N = {n}, K = {k}, D = {d}.",
            scores_of(drawn(820 + i, n, k, d)),
            ("Scores",),
        )
        for i, (n, k, d) in enumerate(sizes)
    ]
    text = "In binary32."
    cases.append(
        Case("lower", text, scores_of(single(drawn(830, 3, 2, 2))), ("Scores", "Binary32"))
    )
    comment = "The sign of a score, a share of 1/N, the part of the logits that the weights give."
    return Family("scores_dense", comment, cases)


def scores_range() -> Family:
    """Scores of far samples, of small shares, and away from the origin."""
    base = drawn(840, 3, 3, 2)
    far = replace(base, x=[base.x[0], [1e4, -5e3], [-60.0, 45.0]])
    small = replace(base, logits=[0.0, -40.0, 0.5])
    off = replace(base, logits=[0.25, -math.inf, -0.5])
    thin = replace(base, chol=[[[1.0, 0.0], [0.7, 1e-4]], *base.chol[1:]])
    moved = replace(
        base,
        means=[[round(v + 1e4, 3) for v in row] for row in base.means],
        x=[[round(v + 1e4, 3) for v in row] for row in base.x],
    )
    items = [
        ("average", "Samples far from every component.", far, "Far"),
        ("average", "A component with a weight of about exp(-40).", small, "SmallShares"),
        ("average", "A component that is off.", off, "ComponentOff"),
        ("average", "1e4 from the origin.", moved, "Offset"),
        ("higher", "A condition number of 1e8.", thin, "IllConditioned"),
    ]
    cases = [
        Case(level, text, scores_of(problem), ("Scores", flag))
        for level, text, problem, flag in items
    ]
    for text, problem, flag in [
        ("NaN in x.", replace(base, x=[base.x[0], [math.nan, 0.0], base.x[2]]), "NotFinite"),
        ("x has a column too many.", replace(base, x=[[*row, 1.0] for row in base.x]), "BadShape"),
        ("All logits are -inf.", replace(base, logits=[-math.inf] * 3), "AllOff"),
    ]:
        cases.append(Case("higher", text, scores_of(problem), ("Scores", flag), "invalid"))
    comment = "Scores that are summed, clipped or masked where densities underflow."
    return Family("scores_range", comment, cases)
