"""Mixtures for each row in ball arithmetic, and what may be asked of doubles."""

from __future__ import annotations

from typing import Any

import flint
from flint import arb

from certify import allowance as full
from certify import balls, covariance_balls
from certify.agreement import Blocks
from certify.problem import HALF_ULP, SMALLEST
from certify.rowwise import RowwiseProblem, gathered
from certify.spread import spread
from certify.terms import Terms


def by_balls(problem: RowwiseProblem, bits: int) -> Blocks:
    """Balls around value and gradients."""
    full = problem.parametrization == "rowwise_full"
    route: Any = balls.evaluate if full else covariance_balls.by_balls
    with flint.ctx.workprec(bits):
        return gathered(shares_of(problem), [route(row, bits) for row in problem.rows])


def shares_of(problem: RowwiseProblem) -> list[arb]:
    """Return c_n = w_n / W of each row."""
    weights, divisor = balls.weights_of(problem)
    return [w / divisor for w in weights]


def allowance(problem: RowwiseProblem, bits: int) -> dict[str, dict[str, list[str]]]:
    """Return spread, scale and floor of each block of outputs, rounded up to three digits."""
    with flint.ctx.workprec(max(bits, 512)):
        shares, rows = shares_of(problem), problem.rows
        kinds: dict[str, list[Blocks]] = {"spread": [], "scale": [], "floor": []}
        for row in rows:
            if problem.parametrization == "rowwise_full":
                terms = Terms(row)
                found = {
                    "spread": spread(terms),
                    "scale": full.scale(terms),
                    "floor": full.floor(terms),
                }
            else:
                found = covariance_balls.numbers(row)
            for kind, numbers in found.items():
                kinds[kind].append(numbers)
        blocks = {kind: gathered(shares, rows_of_kind) for kind, rows_of_kind in kinds.items()}
        grid = arb(SMALLEST[problem.dtype]) * (len(rows) + 1)
        blocks["floor"] = {name: [v + grid for v in b] for name, b in blocks["floor"].items()}
        if problem.weights is not None:
            _add_weights(problem, blocks["spread"], by_balls(problem, bits), shares)
        return full.written(blocks, problem.dtype)


def _add_weights(
    problem: RowwiseProblem, spread_: Blocks, outputs: Blocks, shares: list[arb]
) -> None:
    """Add u sum_m |w_m df_i/dw_m|: of w_n / W this is 2 c_n (1 - c_n) for a mean, c_n for a sum."""
    u, mean = arb(HALF_ULP[problem.dtype]), problem.reduction == "mean"
    losses = [by_balls(_alone(problem, n), flint.ctx.prec)["nll"][0] for n in range(len(problem.x))]
    centre = outputs["nll"][0] if mean else arb(0)
    spread_["nll"][0] += u * sum(
        (abs(c * (f - centre)) for c, f in zip(shares, losses, strict=True)), arb(0)
    )
    for name in ("logits", "means", "scale"):
        size = len(outputs[name]) // len(shares)
        for i, value in enumerate(outputs[name]):
            moved = 2 * (1 - shares[i // size]) if mean else arb(1)
            spread_[name][i] += u * moved * abs(value)


def _alone(problem: RowwiseProblem, n: int) -> RowwiseProblem:
    return RowwiseProblem(
        problem.parametrization,
        [problem.logits[n]],
        [problem.means[n]],
        [problem.scale[n]],
        [problem.x[n]],
        dtype=problem.dtype,
    )
