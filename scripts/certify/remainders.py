"""Sizes that are no multiples of 4, 8 or 16, beside everything else that a loop has to get right.

A covering array: every pair of a size and of what is special about the inputs, and of two such, is
met in some case. Faults of one thing alone show in other families; these show where two meet.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

from certify.document import Case, Family
from certify.draw import Draw
from certify.lower import drawn
from certify.problem import Problem

# The sizes leave 1, 2 and 3 after the last four, and are below eight, above it, and above sixteen.
FACTORS: dict[str, tuple[object, ...]] = {
    "N": (3, 9, 18, 23),
    "K": (2, 9, 18),
    "D": (2, 9, 18),
    "weights": ("", "weights", "weights of zero"),
    "off": ("", "a component that is off"),
    "far": ("", "a sample 60 away"),
    "saturated": ("", "components apart"),
    "reduction": ("mean", "sum"),
}
FLAGS = {
    "weights": "Weights",
    "weights of zero": "Weights",
    "a component that is off": "ComponentOff",
    "a sample 60 away": "Far",
    "components apart": "Saturated",
}
AT_LEAST = 30  # cases
Row = tuple[object, ...]


def families() -> list[Family]:
    """Return the one family."""
    cases = []
    for i, row in enumerate(covering()):
        chosen = dict(zip(FACTORS, row, strict=True))
        special = [str(chosen[name]) for name in ("weights", "off", "far", "saturated")]
        special = [text for text in special if text]
        sizes = ", ".join(f"{name} = {chosen[name]}" for name in ("N", "K", "D"))
        text = f"{sizes}, as a {chosen['reduction']}" + "".join(f", {s}" for s in special) + "."
        level = ("lower", "average", "average", "higher", "higher")[len(special)]
        flags = ("Remainder", *sorted({FLAGS[s] for s in special}))
        cases.append(Case(level, text, problem_of(1400 + i, chosen), flags))
    comment = (
        "The remainder of an unrolled loop left out, over samples, components or features; NaN "
        "only where weights meet a component that is off: all pairs of what is special."
    )
    return [Family("remainders", comment, cases)]


def covering() -> list[Row]:
    """Return rows that have every pair of two factors' values, small ones where there is a choice.

    Greedy: each row has the most pairs that are still missing, for as few entries of a factor as
    can be. The first that do are taken, so that the rows are the same everywhere.
    """
    everything = list(itertools.product(*FACTORS.values()))
    places = list(itertools.combinations(range(len(FACTORS)), 2))

    def pairs(row: Row) -> set[tuple[int, int, object, object]]:
        return {(i, j, row[i], row[j]) for i, j in places}

    def size(row: Row) -> int:
        k, d = row[1], row[2]
        assert isinstance(k, int)
        assert isinstance(d, int)
        return k * d * (d + 1)

    missing = set().union(*(pairs(row) for row in everything))
    found: list[Row] = []
    while missing:
        best = max(everything, key=lambda row: (len(pairs(row) & missing), -size(row)))
        found.append(best)
        missing -= pairs(best)
    small = [row for row in everything if size(row) <= 18 * 6 and row not in found]
    step = max(1, len(small) // max(1, AT_LEAST - len(found)))
    return [*found, *small[::step][: max(0, AT_LEAST - len(found))]]


def problem_of(seed: int, chosen: dict[str, object]) -> Problem:
    """Return the problem of a row."""
    n, k, d = (int(str(chosen[name])) for name in ("N", "K", "D"))
    # Small entries off the diagonals, or the factors of 18 dimensions would be singular in doubles.
    problem = drawn(seed, n, k, d, off=0.15)
    draw = Draw(seed + 500)
    if chosen["saturated"]:
        means = [[round(8.0 * v, 3) for v in row] for row in problem.means]
        problem = replace(problem, means=means, x=draw.around(means, n))
    if chosen["far"]:
        rows = [list(row) for row in problem.x]
        rows[-1] = [round(v + 60.0 / math.sqrt(d), 3) for v in rows[-1]]
        problem = replace(problem, x=rows)
    if chosen["off"]:  # the last, which is among those that remain
        problem = replace(problem, logits=[*problem.logits[:-1], -math.inf])
    if chosen["weights"]:
        weights = [draw.uniform(0.1, 2.0) for _ in range(n)]
        if chosen["weights"] == "weights of zero":
            weights = [0.0 if i % 3 == 1 else w for i, w in enumerate(weights)]
        problem = replace(problem, weights=weights)
    return replace(problem, reduction=str(chosen["reduction"]))
