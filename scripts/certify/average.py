"""Families of the average level: what real data and unfinished fits do."""

from __future__ import annotations

import math
from dataclasses import replace

from certify.document import Case, Family
from certify.draw import Draw, diagonal, placed
from certify.lower import drawn
from certify.problem import Problem


def families() -> list[Family]:
    """All families of this level."""
    return [
        far_samples(),
        large_logits(),
        component_off(),
        duplicates(),
        ties(),
        saturated(),
        small_shares(),
        conditioned(),
        many_dimensions(),
        many_components(),
        many_samples(),
        offset(),
        weights(),
    ]


def far_samples() -> Family:
    """Far from all components."""
    cases: list[Case] = []
    for level, sigmas, n, k, d in [
        ("average", 50, 1, 1, 1),
        ("average", 50, 3, 2, 2),
        ("average", 50, 4, 3, 3),
        ("average", 200, 3, 3, 2),
        ("average", 1e4, 1, 2, 1),
        ("average", 1e4, 3, 2, 2),
        ("average", 1e4, 2, 3, 4),
        ("higher", 1e8, 2, 2, 2),
    ]:
        draw = Draw(300 + len(cases))
        problem = drawn(310 + len(cases), n, k, d)
        x = [[round(sigmas * v, 3) for v in draw.vector(d)] for _ in range(n)]
        text = f"About {sigmas:g} sigma away, N = {n}, K = {k}, D = {d}."
        cases.append(Case(level, text, replace(problem, x=x), ("Far",)))
    # Far, and still undecided between two components: the squares nearly cancel.
    for sigmas in (50.0, 1e4):
        problem = Problem(
            [0.25, -0.5],
            [[-0.5 / sigmas], [0.5 / sigmas]],
            [[[1.0]], [[1.0]]],
            [[sigmas], [-sigmas]],
        )
        cases.append(
            Case(
                "average",
                f"{sigmas:g} sigma from two components that both have a share.",
                problem,
                ("Far",),
            )
        )
    comment = "Densities that underflow: log(0) without a maximum taken out, 0/0 in the gradient."
    return Family("far_samples", comment, cases)


def large_logits() -> Family:
    """Logits of 1e3 and 1e4."""
    cases: list[Case] = []
    for logits in [
        [1e3, -1e3],
        [-1e3, 1e3],
        [1e4, -1e4],
        [1e4, 9999.0, 9998.5],
        [-1e4, -10001.0, -9999.25],
        [1e3, 0.0, -1e3],
        [-1e4, 1e4, 1e4],
        [750.0, -750.0, 749.0],
    ]:
        problem = drawn(330 + len(cases), 4, len(logits), 2)
        text = f"Logits {', '.join(f'{a:g}' for a in logits)}."
        cases.append(Case("average", text, replace(problem, logits=logits), ("LargeLogits",)))
    for gap, weight in [(100.0, -2000.0), (60.0, -800.0)]:
        problem = Problem(
            [0.0, weight],
            [[0.0, 0.5], [gap, -0.5]],
            [diagonal([1.0, 1.25]), diagonal([0.75, 1.0])],
            [[0.5, 0.25], [gap + 0.5, 0.25], [gap - 0.25, -1.5]],
        )
        text = (
            f"A weight of exp({weight:g}), which is zero in doubles: its samples are near it alone."
        )
        cases.append(Case("average", text, problem, ("LargeLogits",)))
    comment = (
        "A softmax whose exponentials overflow; components whose weight is exp(-2000) and less."
    )
    return Family("large_logits", comment, cases)


def component_off() -> Family:
    """Logits of -inf."""
    off = -math.inf
    cases: list[Case] = []
    for level, logits, text in [
        ("average", [0.5, off], "The last of two is off."),
        ("average", [off, 0.5], "The first of two is off."),
        ("average", [0.25, off, -0.5], "The one in the middle is off."),
        ("average", [off, 0.75, off], "All but one are off."),
        ("average", [off, 0.0, 1.5, off, -1.0], "The first and another of five are off."),
    ]:
        problem = replace(drawn(350 + len(cases), 4, len(logits), 2), logits=logits)
        cases.append(Case(level, text, problem, ("ComponentOff", "ZeroProbability")))
    base = drawn(356, 3, 2, 2)
    near = replace(base, logits=[off, 0.0], x=[base.means[0], base.means[0], base.means[1]])
    cases.append(
        Case(
            "average",
            "Samples on the mean of the component that is off.",
            near,
            ("ComponentOff", "ZeroProbability"),
        )
    )
    far = replace(base, logits=[0.0, off], x=[[60.0, -60.0], [0.5, 0.25], [-45.0, 70.0]])
    cases.append(
        Case(
            "average",
            "Samples far from the component that is on.",
            far,
            ("ComponentOff", "ZeroProbability", "Far"),
        )
    )
    comment = "-inf + inf and 0 * inf: NaN in a value or in a gradient that has to be zero."
    return Family("component_off", comment, cases)


def duplicates() -> Family:
    """Equal components."""
    cases: list[Case] = []
    for k, d, logits in [
        (2, 1, [0.0, 0.0]),
        (2, 2, [0.5, 0.5]),
        (3, 2, [0.25, 0.25, 0.25]),
        (2, 3, [0.5, -1.5]),
        (4, 2, [0.0, 1.0, 0.0, 1.0]),
    ]:
        draw = Draw(360 + len(cases))
        mean, factor = draw.vector(d), draw.factor(d)
        problem = Problem(logits, [mean] * k, [factor] * k, draw.around([mean], 4))
        text = f"{k} equal components, D = {d}, logits {logits}."
        cases.append(Case("average", text, problem, ("Duplicates",)))
    base = drawn(366, 5, 3, 2)
    problem = replace(
        base,
        means=[base.means[0], base.means[1], base.means[0]],
        chol=[base.chol[0], base.chol[1], base.chol[0]],
    )
    cases.append(
        Case("average", "The first and the last of three are equal.", problem, ("Duplicates",))
    )
    comment = "A maximum whose gradient goes to one of the tied components alone."
    return Family("duplicates", comment, cases)


def ties() -> Family:
    """Between components."""
    mirrored = Problem([0.0, 0.0], [[-1.0], [1.0]], [[[0.75]], [[0.75]]], [[0.0]])
    cases = [
        Case(
            "average",
            "One sample between two: gradients of the logits cancel to zero.",
            mirrored,
            ("Ties",),
        ),
        Case(
            "average",
            "The same 40 sigma away.",
            replace(mirrored, means=[[-30.0], [30.0]]),
            ("Ties", "Far"),
        ),
        Case(
            "average",
            "Samples on both sides of the tie.",
            replace(mirrored, x=[[0.0], [0.5], [-0.5]]),
            ("Ties",),
        ),
        Case(
            "average",
            "Four components at the corners of a square, the sample in its centre.",
            Problem(
                [0.5] * 4,
                [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]],
                [diagonal([0.5, 0.5])] * 4,
                [[0.0, 0.0]],
            ),
            ("Ties",),
        ),
        Case(
            "average",
            "A tie of the exponents, with weights that differ.",
            replace(mirrored, logits=[1.0, -1.0]),
            ("Ties",),
        ),
        Case(
            "average",
            "A tie between components of different widths.",
            Problem([0.0, math.log(2.0)], [[0.0], [0.0]], [[[1.0]], [[2.0]]], [[0.0], [0.25]]),
            ("Ties",),
        ),
    ]
    comment = "Gradients that have to cancel, and a maximum that is reached twice."
    return Family("ties", comment, cases)


def saturated() -> Family:
    """Responsibilities within rounding of one."""
    cases: list[Case] = []
    for gap, n, k, d in [
        (12.0, 4, 2, 1),
        (9.0, 4, 2, 2),
        (20.0, 6, 3, 2),
        (15.0, 5, 3, 3),
        (40.0, 4, 2, 2),
        (30.0, 6, 4, 3),
    ]:
        draw = Draw(380 + len(cases))
        means = [[round(gap * j + v, 3) for v in draw.vector(d, 0.3)] for j in range(k)]
        problem = Problem(
            draw.vector(k), means, draw.factors(k, d, low=0.7, high=1.4), draw.around(means, n, 0.9)
        )
        text = f"Means {gap:g} apart, N = {n}, K = {k}, D = {d}."
        cases.append(Case("average", text, problem, ("Saturated",)))
    comment = "A share taken as one less the others; gradients of the rest that are lost beside it."
    return Family("saturated", comment, cases)


def small_shares() -> Family:
    """Small factors of a component's whole gradient."""
    cases: list[Case] = []
    for distance in (4.0, 8.0, 12.0, 20.0, 30.0, 36.0):
        draw = Draw(390 + len(cases))
        means = [[0.0, 0.25], [distance, -0.5]]
        problem = Problem(
            [0.25, -0.25],
            means,
            draw.factors(2, 2, low=0.8, high=1.3, off=0.2),
            draw.around(means[:1], 3, 0.5),
        )
        text = f"No sample nearer than about {distance:g} sigma to the second component."
        cases.append(Case("average", text, problem, ("SmallShares",)))
    for logit in (-20.0, -200.0, -640.0):
        problem = replace(drawn(397 + len(cases), 4, 3, 2), logits=[0.5, logit, 0.0])
        cases.append(Case("average", f"A logit of {logit:g}.", problem, ("SmallShares",)))
    comment = "Responsibilities that are clamped, thresholded, or computed as a difference."
    return Family("small_shares", comment, cases)


def conditioned() -> Family:
    """Covariances with large condition numbers, given by their factor."""
    cases: list[Case] = []
    for level, power in [("average", 4), ("average", 8), ("higher", 12), ("higher", 15)]:
        # [[1, 0], [1, s]] has a covariance with a condition number of about 4 / s^2.
        small = float(f"{2.0 * 10.0 ** (-power / 2):.3g}")
        pair = [[1.0, 0.0], [1.0, small]]
        three = [[0.75, 0.0, 0.0], [0.5, small, 0.0], [-1.25, 0.5, 1.5]]
        last = [[1.5, 0.0, 0.0], [0.5, 1.25, 0.0], [1.0, -0.75, small]]
        for factors, whitened, what in [
            ([pair], [[0.5, -1.25], [-1.0, 0.75]], "one component"),
            ([pair, diagonal([1.0, 1.0])], [[1.5, 0.5], [-0.25, 2.0]], "beside a round one"),
            ([three, last], [[0.5, 1.5, -1.0], [1.0, 0.25, -0.5]], "D = 3"),
        ]:
            draw = Draw(400 + len(cases))
            mean = draw.vector(len(factors[0]), 0.5, 2)
            x = [placed(mean, f, z) for f in factors for z in whitened]
            problem = Problem([0.25] * len(factors), [mean] * len(factors), factors, x)
            text = f"A condition number of about 1e{power}, {what}."
            cases.append(Case(level, text, problem, ("IllConditioned",)))
    comment = (
        "Covariances that are formed, factored and inverted, though their factor is given: they "
        "lose twice the digits."
    )
    return Family("condition_numbers", comment, cases)


def many_dimensions() -> Family:
    """D of 32 and 128."""
    cases: list[Case] = []
    for n, k, d, options in [
        (3, 1, 32, {"off": 0.15}),
        (4, 2, 32, {"off": 0.15}),
        (5, 3, 16, {"off": 0.25}),
        (2, 1, 128, {"band": 2, "off": 0.3}),
        (2, 2, 128, {"band": 1, "off": 0.4}),
    ]:
        problem = drawn(420 + len(cases), n, k, d, **options)
        if d == 128:  # the last row in full: what ends one too early shows
            draw = Draw(429)
            for factor in problem.chol:
                factor[-1][:-1] = draw.vector(d - 1, 0.1)
        text = f"D = {d}, K = {k}, N = {n}" + (", factors with few bands." if d == 128 else ".")
        cases.append(Case("average", text, problem, ("ManyDimensions",)))
    comment = "Determinants as products; errors that grow with D; memory of the order of N K D^2."
    return Family("many_dimensions", comment, cases)


def many_components() -> Family:
    """K of 64."""
    cases: list[Case] = []
    for n, k, d in [(10, 64, 1), (12, 64, 2), (8, 64, 5)]:
        problem = drawn(430 + len(cases), n, k, d)
        logits = [round(3.0 * a, 3) for a in Draw(435 + len(cases)).vector(k)]
        text = f"K = {k}, N = {n}, D = {d}, with weights over many orders of magnitude."
        cases.append(Case("average", text, replace(problem, logits=logits), ("ManyComponents",)))
    comment = "Broadcasting and reductions over the wrong axis at sizes that no other axis has."
    return Family("many_components", comment, cases)


def many_samples() -> Family:
    """N of 1e4 and 1e6, by repeated rows."""
    cases: list[Case] = []
    for level, total, distinct, k, d, reduction in [
        ("average", 10_000, 400, 2, 1, "mean"),
        ("average", 10_000, 400, 3, 2, "mean"),
        ("average", 10_000, 250, 2, 3, "sum"),
        ("average", 10_000, 400, 1, 2, "mean"),
        ("higher", 1_000_000, 400, 3, 1, "mean"),
    ]:
        problem = overlapping(445 + len(cases), distinct, k, d)
        problem = replace(problem, count=shared_out(total, distinct, 440 + len(cases)))
        text = f"N = {total}, K = {k}, D = {d}, as a {reduction}."
        cases.append(Case(level, text, replace(problem, reduction=reduction), ("ManySamples",)))
    # The many small losses are lost if they are added one by one to the few large ones.
    base = overlapping(451, 600, 2, 2)
    flags = ("ManySamples", "MixedMagnitudes")
    few = [[1e3, 3e2], [-4e2, 9e2]]
    # Rows that differ after the few: repetitions of one would all be rounded in one direction.
    rows = replace(
        base,
        x=[*base.x, *few, *base.x[:300]],
        count=[*shared_out(1_000_000 - 302, 600, 452), *[1] * 302],
    )
    text = "N = 1e6: two among a million are 1e3 away, their losses 5e5."
    cases.append(Case("higher", text, rows, flags))
    far = [[3e5, -2e5], [1e6, 5e5], [-2e4, 7e4]]
    x = [*base.x]
    for i in range(300):
        x[2 * i] = [round(v + 0.5 * i, 3) for v in far[i % 3]]
    half = replace(base, x=x, count=shared_out(1_000_000, 600, 452))
    text = "N = 1e6: half of the million are up to 1e6 away."
    cases.append(Case("higher", text, half, flags))
    comment = "Sums that lose digits with each addition; memory that grows with N K D^2."
    return Family("many_samples", comment, cases)


def overlapping(seed: int, n: int, k: int, d: int) -> Problem:
    """Draw wide components near each other, so that nothing but the sums is in question."""
    draw = Draw(seed)
    means = draw.matrix(k, d, 0.5)
    factors = draw.factors(k, d, low=1.0, high=1.9, off=0.3)
    return Problem(draw.vector(k), means, factors, draw.around(means, n))


def shared_out(total: int, parts: int, seed: int) -> list[int]:
    """Draw counts that differ and add up to `total`."""
    draw = Draw(seed)
    count = [1 + int(draw.uniform(0.0, 2.0 * total / parts - 2.0)) for _ in range(parts)]
    shortage = total - sum(count)
    for i in range(parts):  # evenly, and never below one
        step = max(shortage // (parts - i), 1 - count[i])
        count[i] += step
        shortage -= step
    return count


def offset() -> Family:
    """Far from the origin."""
    cases: list[Case] = []
    for level, far, n, k, d in [
        ("average", 1e4, 4, 1, 1),
        ("average", 1e4, 5, 2, 2),
        ("average", 1e4, 6, 3, 3),
        ("average", -1e4, 4, 2, 4),
        ("higher", 1e8, 4, 1, 1),
        ("higher", 1e8, 5, 2, 2),
        ("higher", 1e8, 6, 3, 3),
        ("higher", -1e8, 4, 2, 4),
    ]:
        problem = drawn(460 + len(cases), n, k, d)
        moved = replace(
            problem,
            means=[[round(v + far, 3) for v in row] for row in problem.means],
            x=[[round(v + far, 3) for v in row] for row in problem.x],
        )
        text = f"{far:g} from the origin, standard deviations near one, N = {n}, K = {k}, D = {d}."
        cases.append(Case(level, text, moved, ("Offset",)))
    comment = "Squares that are expanded, raw moments, and covariances computed from them."
    return Family("offset", comment, cases)


def weights() -> Family:
    """Weights of the samples."""
    base = drawn(480, 4, 2, 2)
    one = [1.0] * 4
    cases: list[Case] = []
    for reduction in ("mean", "sum"):
        for level, values, text in [
            ("lower", one, "Weights of one change nothing."),
            ("average", [0.5, 2.0, 1.25, 0.125], "Weights that differ."),
            ("average", [1.0, 0.0, 2.0, 0.0], "Weights of zero drop their rows."),
            ("average", [1e-3, 7e3, 0.25, 12.0], "Weights over seven orders of magnitude."),
        ]:
            problem = replace(base, weights=values, reduction=reduction)
            cases.append(Case(level, f"{text[:-1]}, as a {reduction}.", problem, ("Weights",)))
    dropped = replace(base, weights=[1.0, 0.0, 1.0, 1.0], x=[base.x[0], [1e5, -1e5], *base.x[2:]])
    cases.append(Case("average", "A dropped row that is 1e5 away.", dropped, ("Weights", "Far")))
    cases.append(
        Case(
            "higher",
            "Weights of 1e300, whose sum is near the end of the range.",
            replace(base, weights=[1e300, 2e300, 5e299, 1e298]),
            ("Weights",),
        )
    )
    cases.append(
        Case(
            "higher",
            "Weights of 1e-300.",
            replace(base, weights=[1e-300, 2e-300, 5e-301, 0.0]),
            ("Weights",),
        )
    )
    tiny = replace(base, count=[3, 1, 2, 5], weights=[0.5, 2.0, 1.25, 0.125])
    cases.append(
        Case("average", "Weights on rows that stand in the data several times.", tiny, ("Weights",))
    )
    cases.append(
        Case(
            "average",
            "K = 3, D = 3, weights of 1 to 5.",
            replace(drawn(485, 5, 3, 3), weights=[1.0, 2.0, 3.0, 4.0, 5.0]),
            ("Weights",),
        )
    )
    comment = "Weights that are ignored, normalised twice, squared, or left out of the divisor."
    return Family("weights", comment, cases)
