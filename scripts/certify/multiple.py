"""The outputs in multiple precision: residuals, triangular solves, logsumexp, with mpmath.

The same route as a program in double precision would take, in loops. `balls.py` goes another way.
"""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp

from certify.problem import Problem

Blocks = dict[str, list[Any]]


def evaluate(problem: Problem, digits: int) -> Blocks:
    """Value and gradients with `digits` decimal digits of working precision."""
    with mp.workdps(digits):
        return _evaluate(problem)


def logsumexp(terms: list[Any]) -> Any:
    """Logarithm of the sum of the exponentials."""
    largest = max(terms)
    return largest + mp.log(mp.fsum(mp.exp(t - largest) for t in terms))


def shares_of(problem: Any) -> list[Any]:
    """Return c_n = w_n / W of each row, times how often it stands in the data."""
    weight = [mp.mpf(w) for w in problem.weights or [1.0] * len(problem.x)]
    weight = [w * c for w, c in zip(weight, problem.multiplicity, strict=True)]
    divisor = mp.fsum(weight) if problem.reduction == "mean" else mp.mpf(1)
    return [w / divisor for w in weight]


class Mixture:
    """Weights and factors of the components that are on, and what they make of a row."""

    def __init__(self, problem: Problem) -> None:
        self.means = problem.means
        self.on = [k for k, a in enumerate(problem.logits) if a != -math.inf]
        total = logsumexp([mp.mpf(problem.logits[k]) for k in self.on])
        self.log_pi = {k: mp.mpf(problem.logits[k]) - total for k in self.on}
        self.pi = {k: mp.exp(self.log_pi[k]) for k in self.on}
        self.factors = {k: Factor(problem.factors[k]) for k in self.on}
        self.constant = len(problem.means[0]) * mp.log(2 * mp.pi) / 2

    def at(self, row: Any) -> tuple[dict[int, Any], dict[int, Any], Any]:
        """Return whitened residuals, responsibilities and the log-likelihood of a row."""
        z, joint = {}, {}
        for k in self.on:
            factor = self.factors[k]
            residual = [mp.mpf(a) - mp.mpf(b) for a, b in zip(row, self.means[k], strict=True)]
            z[k] = factor.solve(residual)
            joint[k] = (
                self.log_pi[k] - mp.fdot(z[k], z[k]) / 2 - factor.half_log_det - self.constant
            )
        log_likelihood = logsumexp([joint[k] for k in self.on])
        return z, {k: mp.exp(joint[k] - log_likelihood) for k in self.on}, log_likelihood


def _evaluate(problem: Problem) -> Blocks:
    n_dims = len(problem.means[0])
    mixture = Mixture(problem)
    pi, factors = mixture.pi, mixture.factors

    nll = mp.mpf(0)
    d_logits = [mp.mpf(0)] * len(problem.logits)
    d_means = [[mp.mpf(0)] * n_dims for _ in problem.logits]
    d_chol = [[[mp.mpf(0)] * (i + 1) for i in range(n_dims)] for _ in problem.logits]
    for row, c in zip(problem.x, shares_of(problem), strict=True):
        z, resp, log_likelihood = mixture.at(row)
        nll -= c * log_likelihood
        for k in mixture.on:
            d_logits[k] += c * (pi[k] - resp[k])
            pull = factors[k].solve_transposed(z[k])
            share = c * resp[k]
            for i in range(n_dims):
                pulled = share * pull[i]
                d_means[k][i] -= pulled
                for j in range(i + 1):
                    d_chol[k][i][j] -= pulled * z[k][j]
                d_chol[k][i][i] += share / factors[k].diagonal[i]
    return {
        "nll": [nll],
        "logits": d_logits,
        "means": [value for mean in d_means for value in mean],
        "chol": [value for factor in d_chol for row in factor for value in row],
    }


class Factor:
    """A lower triangular matrix, its zeros left out."""

    def __init__(self, rows: list[list[float]]) -> None:
        n = len(rows)
        self.diagonal = [mp.mpf(rows[i][i]) for i in range(n)]
        self.left = [[(j, mp.mpf(rows[i][j])) for j in range(i) if rows[i][j]] for i in range(n)]
        self.below = [
            [(j, mp.mpf(rows[j][i])) for j in range(i + 1, n) if rows[j][i]] for i in range(n)
        ]
        # A negative diagonal has the determinant of its absolute value: det L L^T = (det L)^2.
        self.half_log_det = mp.fsum(mp.log(abs(d)) for d in self.diagonal)

    def solve(self, right: list[Any]) -> list[Any]:
        """Solve L z = right."""
        z: list[Any] = []
        for i, d in enumerate(self.diagonal):
            z.append((right[i] - mp.fsum(v * z[j] for j, v in self.left[i])) / d)
        return z

    def solve_transposed(self, right: list[Any]) -> list[Any]:
        """Solve L^T y = right."""
        y = [mp.mpf(0)] * len(right)
        for i in reversed(range(len(right))):
            y[i] = (right[i] - mp.fsum(v * y[j] for j, v in self.below[i])) / self.diagonal[i]
        return y
