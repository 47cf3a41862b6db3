"""What spread, scale and floor are made of: the addends of each row and component.

The letters are those of `allowance.py`. Arb is used for its range of exponents alone.
"""

from __future__ import annotations

import math
from typing import Any

from flint import arb, arb_mat

from certify.problem import HALF_ULP, Problem


class Component:
    """What one component contributes at each row."""

    def __init__(self, problem: Problem, k: int) -> None:
        n = len(problem.means[k])
        self.lower = arb_mat(problem.factors[k])
        self.inverse = self.lower.inv()  # P
        self.precision = self.inverse.transpose() * self.inverse
        residual = arb_mat(n, len(problem.x))
        for i, row in enumerate(problem.x):
            for j, value in enumerate(row):
                residual[j, i] = arb(value) - arb(problem.means[k][j])
        whitened = self.inverse * residual
        pull = self.inverse.transpose() * whitened
        self.z = columns(whitened)  # [rows][D]
        self.y = columns(pull)
        self.packed = [(i, j) for i in range(n) for j in range(i + 1)]
        self.theta = [arb(v) for v in problem.means[k]]
        self.theta += [arb(problem.factors[k][i][j]) for i, j in self.packed]
        # dt/dtheta at each row: the means, then the factor packed by rows
        self.slope = [
            [*y, *(y[i] * z[j] - (1 / self.lower[i, i] if i == j else 0) for i, j in self.packed)]
            for y, z in zip(self.y, self.z, strict=True)
        ]
        p, q, s = absolute(self.inverse), absolute(self.lower), absolute(self.precision)
        z, y = absolute(whitened), absolute(pull)
        self.z_bar = columns(p * q * z)
        self.y_bar = columns(s * q * z + p.transpose() * q.transpose() * y)
        self.condition = [dot(map(abs, a), b) for a, b in zip(self.y, columns(q * z), strict=True)]
        self.half_square = [dot(a, a) / 2 for a in self.z]
        logs = [abs(self.lower[i, i]).log() for i in range(n)]
        constant = n * (2 * arb.pi()).log() / 2
        self.log_norm = sum(logs, constant)
        self.size_norm = sum(map(abs, logs), constant)


class Terms:
    """Weights, responsibilities and the addends of t_nk, for each row and component that is on."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.u = arb(HALF_ULP[problem.dtype])
        self.on = [k for k, a in enumerate(problem.logits) if a != -math.inf]
        self.rows = range(len(problem.x))
        weight = [arb(w) for w in problem.weights or [1.0] * len(problem.x)]
        weight = [w * c for w, c in zip(weight, problem.multiplicity, strict=True)]
        total = sum(weight, arb(0)) if problem.reduction == "mean" else arb(1)
        self.c = [w / total for w in weight]
        self.log_pi = dict(
            zip(self.on, log_softmax([problem.logits[k] for k in self.on])[0], strict=True)
        )
        self.pi = {k: v.exp() for k, v in self.log_pi.items()}
        self.component = {k: Component(problem, k) for k in self.on}
        self.size: list[dict[int, arb]] = []  # T_nk
        self.resp: list[dict[int, arb]] = []
        self.log_likelihood: list[arb] = []
        for n in self.rows:
            joint, size = [], {}
            for k in self.on:
                own = self.component[k]
                joint.append(self.log_pi[k] - own.half_square[n] - own.log_norm)
                size[k] = abs(self.log_pi[k]) + own.size_norm + own.condition[n]
            log_resp, total = log_softmax(joint)
            self.resp.append({k: v.exp() for k, v in zip(self.on, log_resp, strict=True)})
            self.size.append(size)
            self.log_likelihood.append(total)

    def lost(self, n: int, k: int) -> arb:
        """E_nk: how many half ulps rounding may take from a responsibility, relative to it."""
        r, size = self.resp[n], self.size[n]
        rest = [arb(0)] + [r[j] for j in self.on if j != k]
        top = max(self.on, key=lambda j: r[j].mid())
        others = sum((r[j] for j in self.on if j != top), arb(0))
        log_sum = smaller(abs(self.log_likelihood[n]), others / self.u)
        return (
            sum(rest) * size[k]
            + dot([r[j] for j in self.on if j != k], [size[j] for j in self.on if j != k])
            + log_sum
        )


def log_softmax(terms: list[Any]) -> tuple[list[arb], arb]:
    """Return the terms less the logarithm of the sum of their exponentials, and that logarithm."""
    balls = [arb(t) for t in terms]
    top = max(balls, key=lambda ball: ball.mid()).mid()
    log_sum = sum(((b - top).exp() for b in balls), arb(0)).log()
    return [(b - top) - log_sum for b in balls], top + log_sum


def columns(matrix: arb_mat) -> list[list[arb]]:
    """Return the columns as lists."""
    return list(matrix.transpose().tolist())


def absolute(matrix: arb_mat) -> arb_mat:
    """Return the matrix of absolute values."""
    return arb_mat([[abs(v) for v in row] for row in matrix.tolist()])


def dot(a: Any, b: Any) -> arb:
    """Sum of products."""
    return sum((p * q for p, q in zip(a, b, strict=True)), arb(0))


def smaller(a: arb, b: arb) -> arb:
    """Return the smaller of two."""
    return a if a.mid() < b.mid() else b
