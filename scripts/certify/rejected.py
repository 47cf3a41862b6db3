"""Families of inputs that have no answer and must be rejected."""

from __future__ import annotations

import math
from dataclasses import replace

from certify.document import Case, Family
from certify.lower import drawn
from certify.problem import Problem

NAN, INF = math.nan, math.inf


def families() -> list[Family]:
    """All families of inputs that have to be rejected."""
    return [zero_diagonal(), not_finite(), all_off(), bad_shapes(), bad_weights()]


def rejected(text: str, problem: Problem, *flags: str) -> Case:
    """Return a case without an answer."""
    return Case("higher", text, problem, flags, "invalid")


def zero_diagonal() -> Family:
    """Singular factors."""
    base = drawn(600, 3, 2, 2)
    cases = [
        rejected(
            "sigma = 0 in one dimension, a sample at the mean.",
            Problem([0.0], [[0.5]], [[[0.0]]], [[0.5]]),
            "ZeroDiagonal",
        ),
        rejected(
            "sigma = 0 in one dimension, a sample beside the mean.",
            Problem([0.0], [[0.5]], [[[0.0]]], [[1.5]]),
            "ZeroDiagonal",
        ),
        rejected(
            "The first entry of a factor is zero.",
            replace(base, chol=[base.chol[0], [[0.0, 0.0], [1.0, 1.0]]]),
            "ZeroDiagonal",
        ),
        rejected(
            "The last entry of a factor is zero.",
            replace(base, chol=[[[1.0, 0.0], [1.0, 0.0]], base.chol[1]]),
            "ZeroDiagonal",
        ),
        rejected(
            "Negative zero.",
            replace(base, chol=[[[1.0, 0.0], [1.0, -0.0]], base.chol[1]]),
            "ZeroDiagonal",
        ),
        rejected(
            "A factor of zeros.",
            replace(base, chol=[base.chol[0], [[0.0, 0.0], [0.0, 0.0]]]),
            "ZeroDiagonal",
        ),
    ]
    comment = (
        "A singular covariance. Solvers that call LAPACK raise, so that few mutants "
        "are killed here; other programs divide by zero, and nan_to_num can hide it."
    )
    return Family("zero_diagonal", comment, cases)


def not_finite() -> Family:
    """NaN and infinities."""
    base = drawn(610, 3, 2, 2)
    cases: list[Case] = []
    for value in (NAN, INF, -INF):
        name = str(value)
        for where, problem in [
            ("x", replace(base, x=[base.x[0], [base.x[1][0], value], base.x[2]])),
            ("the means", replace(base, means=[base.means[0], [value, base.means[1][1]]])),
            (
                "the diagonal of a factor",
                replace(base, chol=[base.chol[0], [[1.0, 0.0], [0.5, value]]]),
            ),
            (
                "a factor off its diagonal",
                replace(base, chol=[base.chol[0], [[1.0, 0.0], [value, 1.0]]]),
            ),
            ("the logits", replace(base, logits=[value, 0.5])),
        ]:
            if where == "the logits" and value == -INF:
                continue  # that switches a component off
            cases.append(rejected(f"{name} in {where}.", problem, "NotFinite"))
    cases.append(
        rejected(
            "NaN in the means of a component that is off.",
            replace(base, logits=[0.0, -INF], means=[base.means[0], [NAN, 0.0]]),
            "NotFinite",
        )
    )
    comment = "NaN and infinities that go in and come out, or that a comparison lets through."
    return Family("not_finite", comment, cases)


def all_off() -> Family:
    """No component is on."""
    cases = [
        rejected(
            f"K = {k}, all logits are -inf.",
            replace(drawn(630 + k, 3, k, 2), logits=[-INF] * k),
            "AllOff",
        )
        for k in (1, 2, 3)
    ]
    return Family("all_off", "-inf less -inf.", cases)


def bad_shapes() -> Family:
    """Shapes that disagree."""
    base = drawn(640, 3, 2, 2)
    third = [1.0, 0.5, 0.25]
    items = [
        ("x has a column too many.", replace(base, x=[[*row, 1.0] for row in base.x])),
        ("x has one column, which would broadcast.", replace(base, x=[row[:1] for row in base.x])),
        ("The means have a row too many.", replace(base, means=[*base.means, [0.0, 0.0]])),
        (
            "A single mean for two components, which would broadcast.",
            replace(base, means=base.means[:1]),
        ),
        ("A logit too many.", replace(base, logits=[*base.logits, 0.0])),
        (
            "A single logit for two components, which would broadcast.",
            replace(base, logits=base.logits[:1]),
        ),
        ("A factor too many.", replace(base, chol=[*base.chol, base.chol[0]])),
        (
            "A single factor for two components, which would broadcast.",
            replace(base, chol=base.chol[:1]),
        ),
        (
            "Factors of size 3 for D = 2.",
            replace(
                base, chol=[[[1.0 if i == j else 0.0 for j in range(3)] for i in range(3)]] * 2
            ),
        ),
        (
            "Factors that are not square.",
            replace(base, chol=[[row[:1] for row in f] for f in base.chol]),
        ),
        ("No sample at all.", replace(base, x=[])),
        ("A row of x is longer than the others.", replace(base, x=[*base.x[:2], third])),
    ]
    cases = [rejected(text, problem, "BadShape") for text, problem in items]
    comment = "Arrays that broadcast into an answer to another question."
    return Family("bad_shapes", comment, cases)


def bad_weights() -> Family:
    """Weights that are none."""
    base = drawn(660, 3, 2, 2)
    cases = [
        rejected(text, replace(base, weights=values), "BadWeights")
        for text, values in [
            ("A negative weight.", [1.0, -0.5, 1.0]),
            ("NaN among the weights.", [1.0, NAN, 1.0]),
            ("An infinite weight.", [1.0, INF, 1.0]),
            ("A weight too few.", [1.0, 1.0]),
            ("A weight too many.", [1.0, 1.0, 1.0, 1.0]),
            ("All weights are zero.", [0.0, 0.0, 0.0]),
        ]
    ]
    comment = "Weights that make the value something else than a mean, or divide it by zero."
    return Family("bad_weights", comment, cases)
