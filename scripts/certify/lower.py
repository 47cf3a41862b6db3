"""Families of the lower level: small benign numbers that every correct implementation passes.

Each family is there for the faults that its comment names. Its seeds are its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from certify.document import Case, Family
from certify.draw import Draw, diagonal, identity
from certify.problem import Problem, to_binary32


def families() -> list[Family]:
    """All families of this level."""
    return [
        single_number(),
        one_component(),
        one_dimension(),
        one_correlated(),
        dense(),
        diagonal_factors(),
        both_sides_of_one(),
        one_sample(),
        shifted_logits(),
        mean_and_sum(),
        factor_not_covariance(),
        covariance_not_precision(),
        packing(),
        transposed(),
        last_row(),
        binary32(),
    ]


def drawn(seed: int, n: int, k: int, d: int, **options: float) -> Problem:
    """Draw a problem without anything special about it."""
    draw = Draw(seed)
    means = draw.matrix(k, d, spread=1.5)
    factors = draw.factors(k, d, **options)
    return Problem(draw.vector(k, 0.8), means, factors, draw.around(means, n))


def single_number() -> Family:
    """N = K = D = 1."""
    inputs = [
        ("At the mode of the standard Gaussian: the value is (1/2) log(2 pi).", 0.0, 0.0, 1.0, 0.0),
        ("One standard deviation away, where the gradient of sigma is zero.", 0.0, 0.0, 1.0, 1.0),
        ("Sigma = 2 and a logit that is not zero.", 0.75, 0.5, 2.0, 2.25),
        ("Sigma = 1/2: its logarithm is negative.", -1.5, 0.5, 0.5, -0.25),
        ("Numbers that binary fractions do not hold.", 0.3, -1.7, 0.7, 0.1),
        ("A wide Gaussian, sigma = 30.", 0.0, 12.5, 30.0, -47.3),
        ("A tight Gaussian, sigma = 0.01.", 2.0, 3.14, 0.01, 3.147),
        ("A negative sample and a positive mean.", -0.1, 0.9, 1.3, -2.7),
    ]
    cases = [
        Case("lower", comment, Problem([a], [[m]], [[[s]]], [[x]]), ("Smallest",))
        for comment, a, m, s, x in inputs
    ]
    comment = (
        "The Gaussian itself: its constant (D/2) log(2 pi), the sign of log sigma, the factor 1/2."
    )
    return Family("single_number", comment, cases)


def one_component() -> Family:
    """K = 1."""
    cases = [
        Case(
            "lower",
            f"K = 1, N = {n}, D = {d}: the logit's gradient is zero.",
            drawn(100 + i, n, 1, d),
            ("OneComponent",),
        )
        for i, (n, d) in enumerate([(3, 1), (4, 2), (5, 3), (2, 4), (12, 2), (7, 5)])
    ]
    problem = drawn(110, 4, 1, 2)
    cases.append(
        Case(
            "lower",
            "A logit of 7.5 makes no difference.",
            replace(problem, logits=[7.5]),
            ("OneComponent",),
        )
    )
    comment = "A single Gaussian, where no mixture hides it; a logit's gradient that is not zero."
    return Family("one_component", comment, cases)


def one_dimension() -> Family:
    """D = 1."""
    cases = [
        Case("lower", f"D = 1, K = {k}, N = {n}.", drawn(120 + i, n, k, 1), ("OneDimension",))
        for i, (n, k) in enumerate([(1, 2), (2, 2), (5, 3), (1, 5), (9, 4), (3, 6), (20, 3)])
    ]
    comment = "Axes of length one; the sum over components, without the matrices."
    return Family("one_dimension", comment, cases)


def one_correlated() -> Family:
    """One component, correlated."""
    cases: list[Case] = []
    for comment, factor, x in [
        ("Correlated and nothing else: L = [[1, 0], [0.5, 1]].", [[1.0, 0.0], [0.5, 1.0]], 2),
        ("A negative correlation.", [[1.5, 0.0], [-1.25, 0.75]], 3),
        ("A correlation of 0.96.", [[1.0, 0.0], [0.96, 0.28]], 2),
        (
            "D = 3, only the entry at the lower left.",
            [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.75, 0.0, 1.0]],
            3,
        ),
        (
            "D = 3, all entries.",
            [[0.8, 0.0, 0.0], [-0.6, 1.1, 0.0], [0.3, 0.9, 1.4]],
            4,
        ),
    ]:
        draw = Draw(130 + len(cases))
        mean = draw.vector(len(factor))
        problem = Problem([0.0], [mean], [factor], draw.around([mean], x))
        cases.append(Case("lower", comment, problem, ("Correlated", "AutogradSign")))
    comment = "Entries off the diagonal that are dropped, halved, doubled, or have the wrong sign."
    return Family("one_correlated", comment, cases)


def dense() -> Family:
    """Nothing special: several of everything."""
    sizes = [
        (5, 3, 2),
        (8, 3, 2),
        (3, 2, 2),
        (6, 3, 3),
        (10, 4, 3),
        (7, 5, 4),
        (4, 3, 5),
        (9, 7, 2),
    ]
    cases = [
        Case("lower", f"N = {n}, K = {k}, D = {d}, dense.", drawn(140 + i, n, k, d), ("Dense",))
        for i, (n, k, d) in enumerate(sizes)
    ]
    comment = "The whole computation; a component, a row or a pair of axes that gets lost from "
    return Family("dense", comment + "K = 3 or D = 3 on.", cases)


def diagonal_factors() -> Family:
    """Diagonal factors."""
    cases: list[Case] = []
    for i, (n, k, d) in enumerate([(4, 1, 2), (4, 2, 2), (5, 2, 3), (6, 3, 4), (3, 2, 5)]):
        draw = Draw(160 + i)
        means = draw.matrix(k, d, 1.5)
        factors = [diagonal([draw.uniform(0.3, 2.5) for _ in range(d)]) for _ in range(k)]
        problem = Problem(draw.vector(k), means, factors, draw.around(means, n))
        text = f"N = {n}, K = {k}, D = {d}; gradients off the diagonal are not zero."
        cases.append(Case("lower", text, problem, ("Diagonal",)))
    comment = "Gradients off the diagonal of a diagonal factor, which are seldom zero."
    return Family("diagonal", comment, cases)


def both_sides_of_one() -> Family:
    """Widths on both sides of one."""
    cases: list[Case] = []
    for i, deviations in enumerate(
        [[0.5], [0.2, 3.0], [0.1, 0.4], [4.0, 0.25, 1.0], [0.6, 0.7, 0.8], [0.05, 20.0]]
    ):
        draw = Draw(170 + i)
        d = len(deviations)
        means = draw.matrix(2, d)
        factors = [diagonal(deviations), diagonal(deviations[::-1])]
        for factor in factors:
            for row in range(1, d):
                factor[row][row - 1] = draw.uniform(-0.3, 0.3)
        problem = Problem(draw.vector(2), means, factors, draw.around(means, 3, 0.5))
        text = f"Standard deviations {', '.join(map(str, deviations))}."
        cases.append(Case("lower", text, problem, ("BothSidesOfOne",)))
    comment = "|log sigma| for log sigma: it takes a standard deviation below one to see it."
    return Family("both_sides_of_one", comment, cases)


def one_sample() -> Family:
    """N = 1."""
    cases = [
        Case("lower", f"N = 1, K = {k}, D = {d}.", drawn(180 + i, 1, k, d), ("OneSample",))
        for i, (k, d) in enumerate([(1, 2), (2, 2), (3, 3), (1, 5), (4, 2), (2, 4)])
    ]
    comment = "A single sample with several dimensions: axes that broadcast, N - 1 in a divisor."
    return Family("one_sample", comment, cases)


def shifted_logits() -> Family:
    """Logits with a constant added to all."""
    cases: list[Case] = []
    problem = Problem(
        [0.25, -0.5, 1.125],
        [[0.5, -1.0], [-1.5, 0.25], [2.0, 1.5]],
        [[[1.25, 0.0], [0.5, 0.75]], [[0.5, 0.0], [-0.25, 1.5]], [[1.0, 0.0], [0.125, 2.0]]],
        [[0.75, -0.25], [-1.25, 0.5], [1.5, 2.25], [0.0, 0.5]],
    )
    for level, shift in [
        ("lower", 0.0),
        ("lower", 1.0),
        ("lower", -2.5),
        ("lower", 12.0),
        ("average", 700.0),
        ("average", -800.0),
        ("average", 65536.0),
        ("average", -1048576.0),
    ]:
        text = f"The logits plus {shift:g}: all outputs are the same, digit by digit."
        moved = replace(problem, logits=[a + shift for a in problem.logits])
        flags = ("ShiftedLogits", "UnnormalisedLogits")
        cases.append(Case(level, text, moved, flags))
    comment = "Logits that are taken for log weights as they are; a softmax that loses the shift."
    return Family("shifted_logits", comment, cases)


def mean_and_sum() -> Family:
    """Both reductions."""
    cases: list[Case] = []
    for i, (n, k, d) in enumerate([(2, 1, 1), (3, 2, 2), (5, 2, 3), (8, 3, 2)]):
        problem = drawn(190 + i, n, k, d)
        for reduction in ("mean", "sum"):
            text = f"N = {n}, K = {k}, D = {d}, as a {reduction}."
            reduced = replace(problem, reduction=reduction)
            cases.append(Case("lower", text, reduced, ("Reduction",)))
    comment = "Mean for sum and sum for mean, in the value, in the gradients, or in one of them."
    return Family("mean_and_sum", comment, cases)


def factor_not_covariance() -> Family:
    """L is not Sigma."""
    cases: list[Case] = []
    hidden = Problem(
        [0.0, 0.5],
        [[0.0, 0.0], [1.0, -1.0]],
        [identity(2), identity(2)],
        [[0.5, 0.25], [-1.0, 0.75], [1.5, -0.5]],
    )
    text = "Sigma = I, where L, Sigma and their inverses are the same: this one hides the fault."
    cases.append(Case("lower", text, hidden, ("FactorNotCovariance", "GmmScratchInverse")))
    for i, (size, text) in enumerate(
        [
            (0.5, "L = I / 2, so that Sigma = I / 4."),
            (2.0, "L = 2 I, so that Sigma = 4 I."),
        ]
    ):
        del i
        factor = diagonal([size, size])
        problem = replace(hidden, chol=[factor, factor])
        cases.append(Case("lower", text, problem, ("FactorNotCovariance", "GmmScratchInverse")))
    for i, (n, k, d) in enumerate([(3, 1, 2), (4, 2, 3), (5, 3, 2)]):
        problem = drawn(200 + i, n, k, d, low=0.3, high=0.6, off=0.3)
        text = f"N = {n}, K = {k}, D = {d}, factors well below their covariances' roots of one."
        cases.append(Case("lower", text, problem, ("FactorNotCovariance", "GmmScratchInverse")))
    comment = (
        "The factor taken for the covariance or the covariance for the factor, which Sigma = I "
        "hides."
    )
    return Family("factor_not_covariance", comment, cases)


def covariance_not_precision() -> Family:
    """L is not its own inverse."""
    cases: list[Case] = []
    for i, (n, k, d, low, high) in enumerate(
        [(3, 1, 1, 2.0, 3.0), (3, 2, 2, 2.0, 4.0), (4, 2, 3, 0.2, 0.5), (5, 3, 2, 3.0, 5.0)]
    ):
        problem = drawn(210 + i, n, k, d, low=low, high=high, off=0.8)
        text = f"N = {n}, K = {k}, D = {d}, diagonals between {low:g} and {high:g}."
        cases.append(Case("lower", text, problem, ("CovarianceNotPrecision",)))
    comment = "Sigma taken for its inverse; the log-determinant with the opposite sign."
    return Family("covariance_not_precision", comment, cases)


def packing() -> Family:
    """Order of the gradient's entries."""
    cases: list[Case] = []
    for i, (n, k, d) in enumerate([(1, 1, 3), (3, 1, 3), (4, 2, 3), (3, 2, 4), (5, 1, 6)]):
        problem = drawn(220 + i, n, k, d, off=0.9)
        text = f"N = {n}, K = {k}, D = {d}: every entry of the gradient differs from the others."
        cases.append(Case("lower", text, problem, ("Packing",)))
    comment = "Rows for columns in the packed triangle, and what stands above it: D = 3 is where "
    return Family("packing", comment + "they begin to differ.", cases)


def transposed() -> Family:
    """L^T is not L."""
    cases: list[Case] = []
    for i, factor in enumerate(
        [
            [[1.0, 0.0], [2.0, 1.0]],
            [[0.5, 0.0], [-1.5, 2.0]],
            [[1.0, 0.0, 0.0], [1.5, 0.5, 0.0], [-0.5, 2.0, 1.25]],
            [[2.0, 0.0, 0.0], [0.0, 0.5, 0.0], [1.75, -0.75, 1.0]],
        ]
    ):
        draw = Draw(230 + i)
        d = len(factor)
        means = draw.matrix(2, d)
        mirrored = [
            [v if c == r else -v for c, v in enumerate(row)] for r, row in enumerate(factor)
        ]
        problem = Problem(draw.vector(2), means, [factor, mirrored], draw.around(means, 3))
        text = f"D = {d}, entries off the diagonal larger than those on it."
        cases.append(Case("lower", text, problem, ("Transposed",)))
    comment = "L^T L for L L^T: the same determinant, another covariance."
    return Family("transposed", comment, cases)


def last_row() -> Family:
    """Only the last of something matters."""
    base = drawn(240, 5, 4, 4)
    n, k, d = 5, 4, 4
    last_dimension = replace(
        base,
        chol=[
            [[1.0 if i == j else 0.0 for j in range(d)] for i in range(d - 1)]
            + [[0.4 - 0.3 * j for j in range(d - 1)] + [0.7]]
            for _ in range(k)
        ],
    )
    last_component = replace(base, logits=[-3.0] * (k - 1) + [4.0])
    zeros = [[0.0] * d for _ in range(n - 1)]
    last_sample = replace(
        base, means=[[0.0] * d] * k, chol=[identity(d)] * k, x=[*zeros, [1.5, -2.0, 0.5, 3.0]]
    )
    two = drawn(241, 2, 3, 3)
    cases = [
        Case(
            "lower",
            "Only the last row of each factor differs from the identity.",
            last_dimension,
            ("LastRow",),
        ),
        Case(
            "lower",
            "The last component has nearly all of the weight.",
            last_component,
            ("LastRow",),
        ),
        Case(
            "lower",
            "Equal components; every sample but the last lies on the mean.",
            last_sample,
            ("LastRow",),
        ),
        Case(
            "lower",
            "Of two samples the last is 20 away.",
            replace(two, x=[two.x[0], [20.0, -3.0, 5.0]]),
            ("LastRow",),
        ),
        Case(
            "lower",
            "Only the last mean differs from zero.",
            replace(two, means=[[0.0] * 3, [0.0] * 3, [1.0, -2.0, 0.5]]),
            ("LastRow",),
        ),
    ]
    return Family("last_row", "Loops and slices that end one too early.", cases)


def single(problem: Problem) -> Problem:
    """Round a problem to binary32."""

    def rounded(value: Any) -> Any:
        if isinstance(value, list):
            return [rounded(item) for item in value]
        return to_binary32(value)

    return replace(
        problem,
        dtype="binary32",
        **{
            name: rounded(value)
            for name, value in problem.arrays.items()
            if name not in ("count", "weights", "columns")
        },
    )


def binary32() -> Family:
    """Single precision."""
    cases = [
        Case(
            "lower",
            f"N = {n}, K = {k}, D = {d} in binary32.",
            single(drawn(250 + i, n, k, d)),
            ("Binary32",),
        )
        for i, (n, k, d) in enumerate([(1, 1, 1), (4, 2, 2), (5, 3, 3), (6, 2, 4), (1, 3, 2)])
    ]
    cases.append(
        Case(
            "lower",
            "As a sum.",
            replace(single(drawn(256, 6, 2, 2)), reduction="sum"),
            ("Binary32",),
        )
    )
    for i, offset in enumerate([100.0, 4096.0]):
        problem = drawn(257 + i, 5, 2, 2)
        moved = replace(
            problem,
            means=[[v + offset for v in row] for row in problem.means],
            x=[[v + offset for v in row] for row in problem.x],
        )
        cases.append(
            Case(
                "average",
                f"Data and means {offset:g} from the origin.",
                single(moved),
                ("Binary32", "Offset"),
            )
        )
    cases.append(
        Case(
            "average",
            "30 sigma away, where exp underflows in single precision.",
            single(replace(drawn(259, 2, 2, 2), x=[[30.0, 1.0], [-2.0, -33.0]])),
            ("Binary32", "Far"),
        )
    )
    cases.append(
        Case(
            "average",
            "Logits of -90 and 90.",
            single(replace(drawn(260, 3, 2, 2), logits=[-90.0, 90.0])),
            ("Binary32", "LargeLogits"),
        )
    )
    comment = "Inputs of single precision that are read as doubles, or answers held in fewer "
    return Family("binary32", comment + "digits than single precision has.", cases)
