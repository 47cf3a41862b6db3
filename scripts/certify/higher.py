"""Families of the higher level: the ends of the range, where sound programs begin to differ."""

from __future__ import annotations

import math
from dataclasses import replace

from certify.document import Case, Family
from certify.draw import Draw, diagonal, placed, scaled
from certify.lower import drawn
from certify.problem import Problem


def families() -> list[Family]:
    """All families of this level."""
    return [
        collapsed(),
        extreme_scales(),
        subnormal(),
        beyond_range(),
        stationary(),
        determinants(),
        negative_diagonal(),
        above_diagonal(),
    ]


def collapsed() -> Family:
    """Components of width 1e-8 on a sample."""
    cases: list[Case] = []
    for d in (1, 2, 3):
        base = drawn(500 + d, 4, 2, d)
        tight = scaled(Draw(505 + d).factor(d, low=0.8, high=1.2, off=0.3), 1e-8)
        on = replace(base, chol=[base.chol[0], tight], means=[base.means[0], base.x[1]])
        cases.append(
            Case("higher", f"sigma = 1e-8 on one of the samples, D = {d}.", on, ("Collapsed",))
        )
        beside = replace(on, x=[*base.x[:3], [v + 2e-8 for v in base.x[1]]])
        cases.append(
            Case(
                "higher",
                f"And a sample two of its sigmas beside it, D = {d}.",
                beside,
                ("Collapsed",),
            )
        )
    base = drawn(510, 4, 3, 2)
    both = replace(
        base,
        chol=[base.chol[0], *[diagonal([1e-8, 1e-8])] * 2],
        means=[base.means[0], base.x[1], base.x[2]],
    )
    cases.append(Case("higher", "Two collapsed components, on two samples.", both, ("Collapsed",)))
    flat = replace(
        base,
        chol=[base.chol[0], diagonal([1e-8, 1.5]), base.chol[2]],
        means=[base.means[0], base.x[1], base.means[2]],
    )
    cases.append(Case("higher", "Collapsed in one direction alone.", flat, ("Collapsed",)))
    comment = "Variances clamped at an epsilon, or an epsilon added to the diagonal."
    return Family("collapsed", comment, cases)


def extreme_scales() -> Family:
    """Widths of 1e-150 and 1e150."""
    cases: list[Case] = []
    for size in (1e-100, 1e100, 1e-150, 1e150):
        for k, d in [(1, 1), (2, 2)]:
            base = drawn(520 + len(cases), 3, k, d)
            problem = replace(
                base,
                means=[[v * size for v in row] for row in base.means],
                chol=[scaled(factor, size) for factor in base.chol],
                x=[[v * size for v in row] for row in base.x],
            )
            text = f"Everything {size:g} times as large, K = {k}, D = {d}."
            cases.append(Case("higher", text, problem, ("ExtremeScales",)))
    for n, means, x, text in [
        (2, [[0.0, 0.5], [0.0, 0.0]], [[0.5e-150, 1.5e150], [2.0, -0.5]], "two components"),
        (1, [[1e-150, 2e150], [0.0, 1e150]], [[2e-150, 1.5e150]], "a sample of both scales"),
    ]:
        del n
        factors = [diagonal([1e-150, 1e150]), diagonal([1.0, 2e150])]
        cases.append(
            Case(
                "higher",
                f"1e-150 and 1e150 in one model, {text}.",
                Problem([0.0, 0.5], means, factors, x),
                ("ExtremeScales",),
            )
        )
    correlated = [[1e150, 0.0], [0.5e150, 1e-150]]
    problem = Problem(
        [0.0], [[0.0, 0.0]], [correlated], [placed([0.0, 0.0], correlated, [0.5, 0.0])]
    )
    cases.append(
        Case("higher", "1e-150 and 1e150 in one factor, correlated.", problem, ("ExtremeScales",))
    )
    wide = Problem([0.0, 0.0], [[0.0], [1e150]], [[[1e150]], [[1e-150]]], [[1e150], [3e149]])
    cases.append(
        Case(
            "higher",
            "A component of 1e-150 on a sample, beside one of 1e150.",
            wide,
            ("ExtremeScales", "Collapsed"),
        )
    )
    comment = "Covariances, whose entries are squares, where the factors are well within the range."
    return Family("extreme_scales", comment, cases)


def subnormal() -> Family:
    """Numbers below 2.2e-308."""
    tiny = 5e-324
    items = [
        ("A subnormal sample.", Problem([0.0], [[0.0]], [[[1.0]]], [[3e-310]])),
        (
            "The smallest sample, and the smallest mean with the other sign.",
            Problem([0.0, 0.0], [[-tiny], [0.5]], [[[1.0]], [[1.0]]], [[tiny], [1.0]]),
        ),
        (
            "Subnormal entries off the diagonal.",
            Problem([0.0], [[0.0, 0.0]], [[[1.0, 0.0], [4e-320, 1.0]]], [[0.5, -0.25]]),
        ),
        (
            "A subnormal logit is next to zero.",
            Problem([1e-310, 0.0], [[0.0], [1.0]], [[[1.0]], [[1.0]]], [[0.25]]),
        ),
        (
            "A weight of a component of about 1e-310.",
            Problem([0.0, -713.0], [[0.0], [1.0]], [[[1.0]], [[1.5]]], [[0.25], [0.75]]),
        ),
        (
            "A standard deviation of 1e-308 at its mean.",
            Problem([0.0], [[0.0]], [[[1e-308]]], [[0.0]]),
        ),
        (
            "A standard deviation of 1e-305, and a sample half of it away.",
            Problem([0.0], [[0.0]], [[[1e-305]]], [[5e-306]]),
        ),
        (
            "A responsibility of about 1e-300.",
            Problem([0.0, 0.0], [[0.0], [37.2]], [[[1.0]], [[1.0]]], [[0.0], [0.125]]),
        ),
    ]
    cases = [Case("higher", text, problem, ("Subnormal",)) for text, problem in items]
    comment = "Subnormal inputs that are flushed, and inverses that overflow."
    return Family("subnormal", comment, cases)


def beyond_range() -> Family:
    """Beyond the range."""
    items = [
        ("A sample of 1e200: the value is 5e399.", Problem([0.0], [[0.0]], [[[1.0]]], [[1e200]])),
        (
            "The value is 1.1e308 and the gradient of L is beyond the range.",
            Problem([0.0], [[0.0]], [[[1.0]]], [[1.5e154]]),
        ),
        (
            "Gradients of the mean of 1e300 and of L beyond the range.",
            Problem([0.0], [[0.0]], [[[1e-150]]], [[1.0]]),
        ),
        (
            "Two components, one sample at 1e180: the nearer one takes it.",
            Problem([0.0, 1.0], [[0.0], [1.0]], [[[1.0]], [[2.0]]], [[1e180], [0.5]]),
        ),
        (
            "D = 2: one coordinate beyond, the other near.",
            Problem([0.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]], [[1e170, 0.5]]),
        ),
        (
            "Infinite gradients with both signs.",
            Problem([0.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]], [[1e170, -1e170]]),
        ),
    ]
    cases = [Case("higher", text, problem, ("BeyondRange",)) for text, problem in items]
    comment = "NaN where the answer is an infinity, or beside it."
    return Family("beyond_range", comment, cases)


def stationary() -> Family:
    """Parameters at, or next to, a maximum of the likelihood."""
    cases: list[Case] = []
    # One component: the mean and the covariance of the data, in numbers that binary holds.
    x = [[1.0], [-1.0]]
    cases.append(
        Case(
            "higher",
            "N = 2, K = D = 1, exactly at the maximum: all gradients are zero.",
            Problem([0.0], [[0.0]], [[[1.0]]], x),
            ("Stationary",),
        )
    )
    square = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
    cases.append(
        Case(
            "higher",
            "The corners of a square: Sigma = I is the maximum.",
            Problem([0.0], [[0.0, 0.0]], [diagonal([1.0, 1.0])], square),
            ("Stationary",),
        )
    )
    skewed = [placed([0.0, 0.0], [[1.0, 0.0], [3.0, 0.5]], z) for z in square]
    cases.append(
        Case(
            "higher",
            "The same, skewed: L = [[1, 0], [3, 1/2]].",
            Problem([0.0], [[0.0, 0.0]], [[[1.0, 0.0], [3.0, 0.5]]], skewed),
            ("Stationary",),
        )
    )
    thin = [[1.0, 0.0], [1.0, 2.0**-20]]
    cases.append(
        Case(
            "higher",
            "The same with a condition number of 4e12.",
            Problem([0.0], [[0.0, 0.0]], [thin], [placed([0.0, 0.0], thin, z) for z in square]),
            ("Stationary", "IllConditioned"),
        )
    )
    cases.append(
        Case(
            "higher",
            "The maximum, 1e6 from the origin.",
            Problem([0.0], [[1e6]], [[[0.5]]], [[1e6 + 0.5], [1e6 - 0.5]]),
            ("Stationary", "Offset"),
        )
    )
    cases.append(
        Case(
            "higher",
            "Two components on two pairs of samples, 30 apart.",
            Problem(
                [0.0, 0.0], [[0.0], [30.0]], [[[1.0]], [[1.0]]], [[1.0], [-1.0], [29.0], [31.0]]
            ),
            ("Stationary",),
        )
    )
    cases.append(
        Case(
            "higher",
            "One step of 1e-9 beside the maximum.",
            Problem([0.0], [[1e-9]], [[[1.0 + 1e-9]]], x),
            ("Stationary",),
        )
    )
    comment = "Addends that cancel: what is left must be rounding of the addends, and no more."
    return Family("stationary", comment, cases)


def determinants() -> Family:
    """D = 128, determinants outside the range."""
    cases: list[Case] = []
    for size, k in [(1e-4, 1), (1e4, 1), (1e-4, 2)]:
        d = 128
        draw = Draw(560 + len(cases))
        mean = [round(size * v, 9) for v in draw.vector(d)]
        factors = [
            diagonal([round(size * draw.uniform(0.5, 2.0), 9) for _ in range(d)]) for _ in range(k)
        ]
        if k == 2:
            factors[1] = diagonal([1.0 / size] * d)
        x = [placed(mean, factors[0], draw.vector(d)) for _ in range(2)]
        problem = Problem([0.0] * k, [mean] * k, factors, x)
        text = (
            f"D = 128, sigma near {size:g}: a determinant of about 1e{int(256 * math.log10(size))}"
        )
        cases.append(
            Case(
                "higher",
                text + (" and its inverse." if k == 2 else "."),
                problem,
                ("Determinant", "ManyDimensions"),
            )
        )
    comment = "log(det) in place of a sum of logarithms."
    return Family("determinants", comment, cases)


def negative_diagonal() -> Family:
    """Negative entries on the diagonal."""
    cases: list[Case] = []
    for factor, text in [
        ([[-1.5]], "D = 1, sigma = -1.5."),
        ([[1.0, 0.0], [0.5, -0.75]], "D = 2, the last entry is negative."),
        ([[-1.0, 0.0], [0.5, 0.75]], "D = 2, the first entry is negative."),
        ([[-0.5, 0.0], [1.0, -2.0]], "D = 2, both are: the determinant of L is positive."),
        ([[1.0, 0.0, 0.0], [0.5, -1.0, 0.0], [0.25, 0.5, 2.0]], "D = 3, one in the middle."),
    ]:
        d = len(factor)
        base = drawn(580 + len(cases), 3, 2, d)
        problem = replace(base, chol=[base.chol[0], factor])
        cases.append(Case("higher", text, problem, ("NegativeDiagonal",), "either"))
    comment = "The logarithm of a negative number; a negative scale accepted in silence."
    return Family("negative_diagonal", comment, cases)


def above_diagonal() -> Family:
    """Garbage above the diagonal."""
    cases: list[Case] = []
    for value, d, text in [
        (0.5, 2, "D = 2, 0.5 above the diagonal."),
        (1e10, 2, "D = 2, 1e10 above the diagonal."),
        (1e-3, 2, "D = 2, 0.001 above the diagonal."),
        (-3.0, 3, "D = 3, -3 in the upper right corner."),
        (0.25, 3, "D = 3, a symmetric matrix: a covariance passed for a factor."),
    ]:
        base = drawn(590 + len(cases), 3, 2, d)
        factor = [row[:] for row in base.chol[1]]
        factor[0][d - 1] = value
        if "symmetric" in text:
            factor = [[2.0 if i == j else 0.25 for j in range(d)] for i in range(d)]
        problem = replace(base, chol=[base.chol[0], factor])
        cases.append(Case("higher", text, problem, ("AboveDiagonal",), "either"))
    comment = "Solvers that read the triangle that others ignore."
    return Family("above_diagonal", comment, cases)
