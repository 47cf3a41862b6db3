"""Families that reproduce faults seen in published code, and the objective of ADBench."""

from __future__ import annotations

import math

import mpmath as mp

from certify.document import Case, Family
from certify.draw import Draw, diagonal, identity
from certify.problem import Matrix, PrecisionProblem, Problem


def families() -> list[Family]:
    """All families of this kind."""
    return [published_faults(), recent_faults(), wishart_objective()]


def cholesky(covariance: Matrix) -> Matrix:
    """Factor a covariance with 60 digits, and round the factor to doubles."""
    size = len(covariance)
    with mp.workdps(60):
        factor = mp.cholesky(mp.matrix(covariance))
        return [[float(factor[i, j]) if j <= i else 0.0 for j in range(size)] for i in range(size)]


def recent_faults() -> Family:
    """Show what was reported from 2021 to 2026, by inputs of our own."""
    apart = [[0.0], [1.0], [2.0]]
    ones = [[[1.0]]] * 3
    far = [[-14.75], [15.25]]
    twins = Problem([0.25, -0.5], [[0.5, 1.0]] * 2, [[[1.5, 0.0], [0.5, 0.75]]] * 2, [[1.0, 0.25]])
    full = [[[1.25, 0.0], [0.5, 0.75]], [[0.5, 0.0], [-0.25, 1.5]]]
    pair = [[0.0, 0.5], [1.0, -0.75]]
    rows = [[0.25, 0.5], [1.5, -1.0], [-0.5, 0.75]]
    items = [
        (
            "lower",
            "Three components: the diagonal of the softmax's Jacobian does not do.",
            Problem([0.5, -0.25, 0.125], apart, ones, [[0.3], [1.8]]),
            "SoftmaxChain",
        ),
        (
            "lower",
            "Two components, where it does.",
            Problem([0.5, -0.25], apart[:2], ones[:2], [[0.3], [1.8]]),
            "SoftmaxChain",
        ),
        (
            "lower",
            "Components that are alike, where square roots may be mixed for densities.",
            twins,
            "SquareRootMixture",
        ),
        (
            "lower",
            "Components that are not.",
            Problem([0.25, -0.5], pair, full, rows),
            "SquareRootMixture",
        ),
        (
            "average",
            "A weight of exactly zero, three Gaussians of unit variance.",
            Problem([-math.inf, 0.0, 0.0], apart, ones, [[0.3]]),
            "ZeroWeight",
        ),
        (
            "average",
            "A weight of exactly zero, and samples with weights, one of them zero.",
            Problem(
                [-math.inf, 0.0, 0.5], apart, ones, [[0.3], [1.25], [-2.0]], weights=[1.0, 0.0, 2.5]
            ),
            "ZeroWeight",
        ),
        (
            "average",
            "Densities of about exp(-110), which single precision has no numbers for.",
            Problem([0.0, 0.25, -0.5], apart, ones, far),
            "LinearBackward",
        ),
        (
            "average",
            "The same in binary32.",
            Problem([0.0, 0.25, -0.5], apart, ones, far, dtype="binary32"),
            "LinearBackward",
        ),
        (
            "lower",
            "Components apart, where the mean of logarithms is far from the logarithm of the mean.",
            Problem([0.0, 0.0], [[-3.0], [3.0]], ones[:2], [[-3.25], [2.5]]),
            "MeanOfLogs",
        ),
        (
            "lower",
            "Two correlated components in two dimensions: as many factors as rows of one.",
            Problem([0.0, 0.0], pair, full, rows),
            "BatchedDiagonal",
        ),
        (
            "lower",
            "One sample and one mean for two factors of two dimensions.",
            Problem([0.0, 0.0], [pair[0]] * 2, full, [pair[1]]),
            "BatchedDiagonal",
        ),
        (
            "average",
            "Logits near 1000, whose exponentials are beyond the range.",
            Problem([1000.25, 999.5, 998.0], apart, ones, [[0.3], [1.8]]),
            "LargeLogits",
        ),
        (
            "average",
            "Logits near -1000, whose exponentials vanish.",
            Problem([-1000.25, -999.5, -998.0], apart, ones, [[0.3], [1.8]]),
            "LargeLogits",
        ),
        (
            "lower",
            "D = 4: four times the error of a constant.",
            Problem([0.0], [[0.0] * 4], [identity(4)], [[0.5, -0.25, 0.75, 0.125]]),
            "TruncatedConstant",
        ),
        (
            "average",
            "Deviations of 1/1000 in four dimensions: a determinant of 1e-24.",
            Problem([0.0], [[0.0] * 4], [diagonal([1e-3] * 4)], [[1e-3, 0.0, -5e-4, 2e-3]]),
            "FlooredDeterminant",
        ),
        (
            "average",
            "A component with a weight of 1e-11 that a sample is at.",
            Problem([0.0, -25.0], [[-8.0], [8.0]], ones[:2], [[8.25], [-7.5]]),
            "FlooredWeight",
        ),
        (
            "higher",
            "A component with a weight of 1e-30 that a sample is at.",
            Problem([0.0, -69.0], [[-8.0], [8.0]], ones[:2], [[8.25], [-7.5]]),
            "FlooredWeight",
        ),
    ]
    cases = [Case(level, text, problem, (flag,)) for level, text, problem, flag in items]
    comment = (
        "Faults reported lately, each at inputs that show it, and where there are such, at inputs "
        "that hide it."
    )
    return Family("recent_faults", comment, cases)


def published_faults() -> Family:
    """Bug reports' inputs, and inputs that show what they report."""
    covariance = [
        [32.00000007, 35.99999993, 8.00000001],
        [35.99999993, 40.50000006, 8.99999998],
        [8.00000001, 8.99999998, 2.00000008],
    ]
    factor = cholesky(covariance)
    zero = [0.0, 0.0, 0.0]
    cases = [
        Case(
            "higher",
            "x = mu = 0: a log-likelihood of 11.185270887.",
            Problem([0.0], [zero], [factor], [zero]),
            ("SklearnPrecision",),
        ),
        Case(
            "higher",
            "The same covariance, samples away from its mean.",
            Problem([0.0], [zero], [factor], [[5.5, 6.0, 1.5], [-4.0, -4.5, -1.0]]),
            ("SklearnPrecision",),
        ),
        Case(
            "lower",
            "x = 3, 4, 5: as a sum, -12 in mu and -47 in sigma.",
            Problem([0.0], [[0.0]], [[[1.0]]], [[3.0], [4.0], [5.0]], reduction="sum"),
            ("FisherVectorSign",),
        ),
        Case(
            "lower",
            "The same as a mean, with a second component.",
            Problem([0.0, 0.0], [[0.0], [4.5]], [[[1.0]], [[1.0]]], [[3.0], [4.0], [5.0]]),
            ("FisherVectorSign",),
        ),
        Case(
            "lower",
            "D = 3, standard deviations 0.5, 2 and 3.",
            Problem(
                [0.0, 0.5],
                [zero, [1.0, -1.0, 0.5]],
                [diagonal([0.5, 2.0, 3.0]), diagonal([3.0, 0.5, 2.0])],
                [[0.25, 1.5, -2.0], [1.0, -0.75, 2.5]],
            ),
            ("MisplacedParenthesis",),
        ),
        Case(
            "lower",
            "Standard deviations of one half: log sigma is negative.",
            Problem(
                [0.0, 0.0],
                [[0.0, 0.0], [1.0, 0.5]],
                [diagonal([0.5, 0.5]), diagonal([0.25, 0.5])],
                [[0.25, 0.5], [0.75, 0.25]],
            ),
            ("BothSidesOfOne",),
        ),
        Case(
            "lower",
            "Sigma = I, where an inverse too many cannot be seen.",
            Problem(
                [0.0, 0.0],
                [[0.0, 0.0], [1.0, 0.5]],
                [identity(2), identity(2)],
                [[0.25, 0.5], [0.75, 0.25]],
            ),
            ("GmmScratchInverse",),
        ),
        Case(
            "lower",
            "Sigma = [[4, 2], [2, 5]], where it can.",
            Problem(
                [0.0, 0.0],
                [[0.0, 0.0], [1.0, 0.5]],
                [[[2.0, 0.0], [1.0, 2.0]], [[2.0, 0.0], [1.0, 2.0]]],
                [[0.25, 0.5], [0.75, 0.25]],
            ),
            ("GmmScratchInverse",),
        ),
        Case(
            "lower",
            "Logits log 2 and log 6, whose exponentials add up to 8.",
            Problem(
                [0.6931471805599453, 1.791759469228055],
                [[0.0], [2.0]],
                [[[1.0]], [[1.5]]],
                [[0.5], [1.75]],
            ),
            ("UnnormalisedLogits",),
        ),
    ]
    comment = (
        "Faults of published code that were found on such inputs; the links say where. A gradient "
        "check finds none of those that are in the objective."
    )
    return Family("published_faults", comment, cases)


def wishart_objective() -> Family:
    """Objective of ADBench and GradBench."""
    cases: list[Case] = []
    for gamma, m, d, k, n in [
        (1.0, 0, 1, 1, 2),
        (1.0, 0, 2, 2, 3),
        (1.3, 2, 2, 2, 4),
        (0.5, 3, 3, 2, 5),
        (2.0, 1, 3, 3, 4),
        (1.0, 5, 4, 2, 3),
        (0.1, 10, 2, 3, 6),
    ]:
        draw = Draw(700 + len(cases))
        means = draw.matrix(k, d, 1.2)
        problem = PrecisionProblem(
            draw.vector(k),
            means,
            [draw.vector(d * (d + 1) // 2, 0.5) for _ in range(k)],
            draw.around(means, n),
            gamma,
            m,
        )
        text = f"gamma = {gamma:g}, m = {m}, N = {n}, K = {k}, D = {d}, all of Q dense."
        cases.append(Case("higher", text, problem, ("WishartPrior",)))
    zero = [0.0, 0.0, 0.0]
    fault = ("WishartPrior", "AdbenchWishartSign")
    cases.append(
        Case(
            "higher",
            "p = 3, m = 2, gamma = 1.3, Q = I: the log prior is -6.745693.",
            PrecisionProblem([0.0], [zero], [[0.0] * 6], [zero], 1.3, 2),
            fault,
        )
    )
    cases.append(
        Case(
            "higher",
            "The same prior with Q dense.",
            PrecisionProblem(
                [0.0],
                [zero],
                [[0.25, -0.5, 0.75, 0.5, -1.0, 1.5]],
                [[0.5, -0.25, 1.0], [1.5, 0.0, -1.0]],
                1.3,
                2,
            ),
            fault,
        )
    )
    draw = Draw(720)
    means = draw.matrix(2, 2)
    cases.append(
        Case(
            "higher",
            "Rows that stand in the data several times.",
            PrecisionProblem(
                [0.5, -0.5],
                means,
                [[0.1, -0.2, 0.7], [-0.3, 0.4, -0.6]],
                draw.around(means, 3),
                1.0,
                1,
                count=[40, 1, 59],
            ),
            ("WishartPrior",),
        )
    )
    comment = (
        "The prior's sign, its constant and its gradient; logarithms on the diagonal; packing by "
        "columns. GradBench's specification lists three faults that ADBench's programs had."
    )
    return Family("wishart_objective", comment, cases)
