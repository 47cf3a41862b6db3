"""Hessian-vector products and scores in multiple precision, with mpmath.

The chain rule of `multiple.py` differentiated once more along a direction, in loops: a tangent
stands for each value. `second_balls.py` goes another way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import mpmath as mp

from certify import multiple
from certify.multiple import Blocks, Factor, logsumexp
from certify.problem import Problem

GRADIENTS = ("logits", "means", "chol")


def scores(problem: Problem, evaluate: Callable[[Problem], Blocks]) -> Blocks:
    """Return the gradients of log p(x_n), row after row: minus those of each row's own loss."""
    found: Blocks = {name: [] for name in GRADIENTS}
    for row in problem.x:
        blocks = evaluate(replace(problem, x=[row], reduction="sum"))
        for name, values in found.items():
            values += [-value for value in blocks[name]]
    return found


def evaluate(problem: Problem, digits: int) -> Blocks:
    """Return the product or the scores with `digits` decimal digits of working precision."""
    with mp.workdps(digits):
        if problem.function == "scores":
            return scores(problem, lambda one: multiple.evaluate(one, digits))
        return _hvp(problem)


def _hvp(problem: Problem) -> Blocks:
    assert problem.v_logits
    assert problem.v_means
    axes, components = range(len(problem.means[0])), range(len(problem.logits))
    on = [k for k in components if problem.logits[k] != -math.inf]
    total = logsumexp([mp.mpf(problem.logits[k]) for k in on])
    log_pi = {k: mp.mpf(problem.logits[k]) - total for k in on}
    pi = {k: mp.exp(log_pi[k]) for k in on}
    v_logits = {k: mp.mpf(problem.v_logits[k]) for k in on}
    mean_rate = mp.fsum(pi[k] * v_logits[k] for k in on)
    log_pi_tangent = {k: v_logits[k] - mean_rate for k in on}
    v_means = [[mp.mpf(v) for v in row] for row in problem.v_means]
    v_chol = [[[mp.mpf(v) for v in row] for row in rows] for rows in problem.v_factors]
    factors = {k: Factor(problem.factors[k]) for k in on}
    constant = len(axes) * mp.log(2 * mp.pi) / 2
    weight = [mp.mpf(w) for w in problem.weights or [1.0] * len(problem.x)]
    weight = [w * c for w, c in zip(weight, problem.multiplicity, strict=True)]
    divisor = mp.fsum(weight) if problem.reduction == "mean" else mp.mpf(1)

    d_logits = [mp.mpf(0) for _ in components]
    d_means = [[mp.mpf(0)] * len(axes) for _ in components]
    d_chol = [[[mp.mpf(0)] * (i + 1) for i in axes] for _ in components]
    for row, w in zip(problem.x, weight, strict=True):
        c = w / divisor
        z, z_tangent, joint, joint_tangent = {}, {}, {}, {}
        for k in on:
            residual = [mp.mpf(a) - mp.mpf(b) for a, b in zip(row, problem.means[k], strict=True)]
            z[k] = factors[k].solve(residual)
            moved = [-v_means[k][i] - mp.fdot(v_chol[k][i][: i + 1], z[k][: i + 1]) for i in axes]
            z_tangent[k] = factors[k].solve(moved)
            joint[k] = log_pi[k] - mp.fdot(z[k], z[k]) / 2 - factors[k].half_log_det - constant
            stretch = mp.fsum(v_chol[k][i][i] / factors[k].diagonal[i] for i in axes)
            joint_tangent[k] = log_pi_tangent[k] - mp.fdot(z[k], z_tangent[k]) - stretch
        log_likelihood = logsumexp([joint[k] for k in on])
        resp = {k: mp.exp(joint[k] - log_likelihood) for k in on}
        rate = mp.fsum(resp[k] * joint_tangent[k] for k in on)
        for k in on:
            r, r_tangent = c * resp[k], c * resp[k] * (joint_tangent[k] - rate)
            d_logits[k] += c * pi[k] * log_pi_tangent[k] - r_tangent
            y = factors[k].solve_transposed(z[k])
            moved = [
                z_tangent[k][j] - mp.fsum(v_chol[k][i][j] * y[i] for i in axes if i >= j)
                for j in axes
            ]
            y_tangent = factors[k].solve_transposed(moved)
            for i in axes:
                d_means[k][i] -= r_tangent * y[i] + r * y_tangent[i]
                for j in range(i + 1):
                    d_chol[k][i][j] -= r_tangent * y[i] * z[k][j]
                    d_chol[k][i][j] -= r * (y_tangent[i] * z[k][j] + y[i] * z_tangent[k][j])
                diagonal = factors[k].diagonal[i]
                d_chol[k][i][i] += r_tangent / diagonal - r * v_chol[k][i][i] / diagonal**2
    return {
        "logits": d_logits,
        "means": [value for mean in d_means for value in mean],
        "chol": [value for factor in d_chol for row in factor for value in row],
    }
