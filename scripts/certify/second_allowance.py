"""Spread, scale and floor of Hessian-vector products and scores.

The letters are those of `allowance.py`; a prime is a tangent, and P_k = 1 + |log pi_k| +
sum_j pi_j |log pi_j| what rounding does to pi_k. Each line has the absolute addends of a value and
what rounding has done to its factors before:

    Zt = |P| |L| |z'| + |P| (|mu'| + |L'| (|z| + Zbar))                            of z'
    Yt = |P^T| |L^T| |y'| + |P^T| (|z'| + Zt + |L'^T| (|y| + Ybar))                of y'
    Ht_nk = |a'_k| + sum_j pi_j P_j |a'_j| + sum_i |L'_ii / L_ii|
            + Zbar^T |z'| + |z|^T (|z'| + Zt)                                      of t'_nk
    Rt_nk = r_nk ((1 + E_nk) (|t'_nk| + sum_j r_nj |t'_nj|) + Ht_nk
            + sum_j r_nj (Ht_nj + (1 + E_nj) |t'_nj|))                             of r'_nk
    logits  sum_n c_n (pi_k (P_k (|a'_k| + sum_j pi_j |a'_j|) + sum_j pi_j P_j |a'_j|) + Rt_nk
            + pi_k sum_j Rt_nj)                  the last by the chain rule through log pi, a zero
    means   sum_n c_n (Rt |y| + |r'| Ybar + r ((1 + E) |y'| + Yt))
    chol    sum_n c_n (Rt (delta_ij / L_ii + |y_i z_j|) + |r'| (Ybar_i |z_j| + |y_i| Zbar_j)
            + r (1 + E) (delta_ij |L'_ii| / L_ii^2 + |y'_i z_j| + |y_i z'_j|)
            + r (Yt_i |z_j| + |y'_i| Zbar_j + Ybar_i |z'_j| + |y_i| Zt_j))

The floor has the same with flushed responsibilities. A score is a gradient of one sample's loss.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import flint
from flint import arb, arb_mat

from certify import second_multiple
from certify.agreement import Blocks
from certify.allowance import KINDS, allowance, written
from certify.differences import spread
from certify.problem import DIRECTION, FLUSHED, SMALLEST, Problem
from certify.second_multiple import GRADIENTS
from certify.terms import Component, Terms, absolute, dot, smaller


def second_allowance(problem: Problem, bits: int) -> dict[str, dict[str, list[str]]]:
    """Return spread, scale and floor of each block of outputs, rounded up to three digits."""
    if problem.function == "scores":
        return _of_scores(problem, bits)
    names = ["logits", "means", "chol", "x", *DIRECTION]
    names += ["weights"] if problem.weights is not None else []
    with flint.ctx.workprec(max(bits, 512)):
        scale, floor = _scale_and_floor(problem)
        moved = spread(second_multiple.evaluate, problem, names)
        return written({"spread": moved, "scale": scale, "floor": floor}, problem.dtype)


def _of_scores(problem: Problem, bits: int) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {
        name: {kind: [] for kind in KINDS} for name in GRADIENTS
    }
    for row in problem.x:
        blocks = allowance(replace(problem, x=[row], reduction="sum"), bits)
        for name, block in found.items():
            for kind, values in block.items():
                values += blocks[name][kind]
    return found


class _Moving:
    """What one component contributes at each row along a direction."""

    def __init__(self, problem: Problem, own: Component, k: int) -> None:
        assert problem.v_means
        self.own = own
        v_mean, v_factor = column(problem.v_means[k]), arb_mat(problem.v_factors[k])
        inverse, lower = own.inverse, own.lower
        p, q, v = absolute(inverse), absolute(lower), absolute(v_factor)
        self.ratio = [v_factor[i, i] / lower[i, i] for i in range(lower.nrows())]
        stretch = sum(self.ratio, arb(0))
        self.z, self.y, self.z_bar, self.y_bar = [], [], [], []  # tangents, and their errors
        self.rate, self.rate_size = [], []  # t' and Ht, without what comes from log pi
        for z, y, z_bar, y_bar in zip(own.z, own.y, own.z_bar, own.y_bar, strict=True):
            z_tangent = -inverse * (v_mean + v_factor * column(z))
            z_size = p * (
                q * absolute(z_tangent)
                + absolute(v_mean)
                + v * (absolute(column(z)) + column(z_bar))
            )
            y_tangent = inverse.transpose() * (z_tangent - v_factor.transpose() * column(y))
            y_size = p.transpose() * (
                q.transpose() * absolute(y_tangent)
                + absolute(z_tangent)
                + z_size
                + v.transpose() * (absolute(column(y)) + column(y_bar))
            )
            self.z.append(z_tangent.entries())
            self.y.append(y_tangent.entries())
            self.z_bar.append(z_size.entries())
            self.y_bar.append(y_size.entries())
            self.rate.append(-dot(z, self.z[-1]) - stretch)
            sizes = [abs(a) + b for a, b in zip(self.z[-1], self.z_bar[-1], strict=True)]
            self.rate_size.append(
                sum(map(abs, self.ratio), arb(0))
                + dot(z_bar, map(abs, self.z[-1]))
                + dot(map(abs, z), sizes)
            )


def _scale_and_floor(problem: Problem) -> tuple[Blocks, Blocks]:
    terms, logits = Terms(problem), problem.v_logits
    assert logits
    on, pi = terms.on, terms.pi
    moving = {k: _Moving(problem, terms.component[k], k) for k in on}
    entropy = dot([pi[k] for k in on], [abs(terms.log_pi[k]) for k in on])
    lost_pi = {k: 1 + abs(terms.log_pi[k]) + entropy for k in on}
    speed = {k: abs(arb(logits[k])) for k in on}
    plain = sum((pi[k] * speed[k] for k in on), arb(0))
    with_lost = sum((pi[k] * lost_pi[k] * speed[k] for k in on), arb(0))
    mean_rate = sum((pi[k] * arb(logits[k]) for k in on), arb(0))
    total = sum(terms.c, arb(0))
    grid = arb(SMALLEST[problem.dtype]) * (sum(problem.multiplicity) + 1)
    flushed = arb(FLUSHED[problem.dtype])

    scale, floor = (
        {name: [arb(0)] * size for name, size in sizes_of(problem).items()} for _ in range(2)
    )
    for k in on:
        size = lost_pi[k] * (speed[k] + plain) + with_lost
        scale["logits"][k] += total * pi[k] * size
    for n in terms.rows:
        resp, c = terms.resp[n], terms.c[n]
        rate = {k: arb(logits[k]) - mean_rate + moving[k].rate[n] for k in on}
        size = {k: speed[k] + with_lost + moving[k].rate_size[n] for k in on}
        lost = {k: 1 + terms.lost(n, k) for k in on}
        mean = sum((resp[k] * rate[k] for k in on), arb(0))
        fast = sum((resp[k] * abs(rate[k]) for k in on), arb(0))
        carried = sum((resp[k] * (size[k] + lost[k] * abs(rate[k])) for k in on), arb(0))
        below = {k: smaller(resp[k], flushed) for k in on}
        gone = sum((below[k] * abs(rate[k]) for k in on), arb(0))
        rounding = {k: resp[k] * (lost[k] * (abs(rate[k]) + fast) + size[k] + carried) for k in on}
        sum_of_rounding = sum(rounding.values(), arb(0))
        for k in on:
            r, moved, rounded = resp[k], resp[k] * abs(rate[k] - mean), rounding[k]
            scale["logits"][k] += c * pi[k] * sum_of_rounding
            _add(scale, moving[k], n, k, c, (rounded, moved, r * lost[k], r))
            missing = below[k] * (abs(rate[k]) + fast) + r * gone
            _add(floor, moving[k], n, k, c, (missing, arb(0), below[k], arb(0)))
    return scale, {name: [v + grid for v in block] for name, block in floor.items()}


def _add(out: Blocks, moving: _Moving, n: int, k: int, c: arb, shares: Any) -> None:
    """Add one row's addends of one component.

    `shares` are those of r' and of r, each once with what rounding does to it and once for the
    errors of what it multiplies.
    """
    rounded, moved, r_rounded, r = shares
    own, n_dims = moving.own, len(moving.ratio)
    z, y = [abs(v) for v in own.z[n]], [abs(v) for v in own.y[n]]
    dz, dy = [abs(v) for v in moving.z[n]], [abs(v) for v in moving.y[n]]
    z_bar, y_bar, dz_bar, dy_bar = own.z_bar[n], own.y_bar[n], moving.z_bar[n], moving.y_bar[n]
    out["logits"][k] += c * rounded
    for i in range(n_dims):
        out["means"][k * n_dims + i] += c * (
            rounded * y[i] + moved * y_bar[i] + r_rounded * dy[i] + r * dy_bar[i]
        )
    for at, (i, j) in enumerate(own.packed):
        addend, bent = y[i] * z[j], dy[i] * z[j] + y[i] * dz[j]
        if i == j:
            addend += 1 / abs(own.lower[i, i])
            bent += abs(moving.ratio[i] / own.lower[i, i])
        out["chol"][k * len(own.packed) + at] += c * (
            rounded * addend
            + moved * (y_bar[i] * z[j] + y[i] * z_bar[j])
            + r_rounded * bent
            + r * (dy_bar[i] * z[j] + dy[i] * z_bar[j] + y_bar[i] * dz[j] + y[i] * dz_bar[j])
        )


def sizes_of(problem: Problem) -> dict[str, int]:
    """Return how many entries each block has."""
    k, d = len(problem.means), len(problem.means[0])
    return {"logits": k, "means": k * d, "chol": k * (d * (d + 1) // 2)}


def column(values: Any) -> arb_mat:
    """Return a column of numbers."""
    return arb_mat([[v] for v in values])
