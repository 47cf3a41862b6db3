"""The spread of outputs whose derivatives are too long to write down: by differences.

In multiple precision, so that a central difference with a step of 1e-25 has some fifty digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import mpmath as mp
from flint import arb

from certify.agreement import Blocks
from certify.problem import HALF_ULP

DIGITS, STEP = 80, 25


def spread(evaluate: Callable[[Any, int], Blocks], problem: Any, names: Sequence[str]) -> Blocks:
    """Return u sum_j |theta_j df_i/dtheta_j| over the inputs of these names.

    `evaluate` takes a problem and a number of digits.
    """
    with mp.workdps(DIGITS):
        totals = {name: [mp.mpf(0)] * len(b) for name, b in evaluate(problem, DIGITS).items()}
        for ends in nudged(problem, names):
            up, down = (evaluate(end, DIGITS) for end in ends)
            for name, total in totals.items():
                for i, (a, b) in enumerate(zip(up[name], down[name], strict=True)):
                    total[i] += abs(a - b)
        half = mp.mpf(HALF_ULP[problem.dtype]) / (2 * mp.mpf(10) ** -STEP)
        return {name: [arb(mp.nstr(v * half, 20)) for v in block] for name, block in totals.items()}


def nudged(problem: Any, names: Sequence[str]) -> Iterator[list[Any]]:
    """Yield the problem with one input a little larger and a little smaller, for each input."""
    for name in names:
        value = getattr(problem, name)
        for path in _paths(value):
            steps = (sign * mp.mpf(10) ** -STEP for sign in (1, -1))
            yield [replace(problem, **{name: _nudge(value, path, step)}) for step in steps]


def _paths(value: Any) -> list[tuple[int, ...]]:
    if not isinstance(value, list):
        return [()] if value else []
    return [(i, *path) for i, item in enumerate(value) for path in _paths(item)]


def _nudge(value: Any, path: tuple[int, ...], relative: Any) -> Any:
    if not path:
        return mp.mpf(value) * (1 + relative)
    changed = list(value)
    changed[path[0]] = _nudge(value[path[0]], path[1:], relative)
    return changed
