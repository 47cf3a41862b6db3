"""What comes out for each sample, a step of EM, and marginal densities, with mpmath.

As a program would compute it: responsibilities by logsumexp, means before covariances, and the
covariance of some columns factored again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mpmath as mp

from certify.multiple import Blocks, Mixture, shares_of
from certify.problem import Matrix, Problem


def evaluate(problem: Problem, digits: int) -> Blocks:
    """Return the outputs with `digits` decimal digits of working precision."""
    with mp.workdps(digits):
        if problem.function == "marginal":
            return _log_prob(marginal(problem))
        return {
            "log_prob": _log_prob,
            "responsibilities": _responsibilities,
            "d_x": _d_x,
            "em_step": _em_step,
        }[problem.function](problem)


def _log_prob(problem: Problem) -> Blocks:
    mixture = Mixture(problem)
    return {"log_prob": [mixture.at(row)[2] for row in problem.x]}


def _responsibilities(problem: Problem) -> Blocks:
    mixture, found = Mixture(problem), []
    for row in problem.x:
        resp = mixture.at(row)[1]
        found += [resp.get(k, mp.mpf(0)) for k in range(len(problem.logits))]
    return {"responsibilities": found}


def _d_x(problem: Problem) -> Blocks:
    mixture, found = Mixture(problem), []
    for row, c in zip(problem.x, shares_of(problem), strict=True):
        z, resp, _ = mixture.at(row)
        pulls = {k: mixture.factors[k].solve_transposed(z[k]) for k in mixture.on}
        found += [c * mp.fsum(resp[k] * pulls[k][i] for k in mixture.on) for i in range(len(row))]
    return {"x": found}


def _em_step(problem: Problem) -> Blocks:
    mixture, axes = Mixture(problem), range(len(problem.means[0]))
    shares = shares_of(problem)
    resp = [mixture.at(row)[1] for row in problem.x]
    x = [[mp.mpf(v) for v in row] for row in problem.x]
    pi, means, covariances = [], [], []
    for k in range(len(problem.logits)):
        r = [c * at[k] for c, at in zip(shares, resp, strict=True)]
        pi.append(mp.fsum(r))
        mean = [mp.fsum(a * row[i] for a, row in zip(r, x, strict=True)) / pi[k] for i in axes]
        means += mean
        e = [[row[i] - mean[i] for i in axes] for row in x]
        covariances += [
            mp.fsum(a * row[i] * row[j] for a, row in zip(r, e, strict=True)) / pi[k]
            for i in axes
            for j in axes
        ]
    return {"pi": pi, "means": means, "covariances": covariances}


def marginal(problem: Problem) -> Problem:
    """Return the mixture of the chosen columns, its numbers those of mpmath."""
    columns = problem.columns
    assert columns
    means = [[row[c] for c in columns] for row in problem.means]
    chol = [_factor([factor[c] for c in columns]) for factor in problem.factors]
    return replace(problem, function="log_prob", columns=None, means=means, chol=chol)


def _factor(rows: Matrix) -> Any:
    """Return the Cholesky factor of A A^T for rows A."""
    covariance = [[mp.fdot(a, b) for b in _exact(rows)] for a in _exact(rows)]
    size = len(rows)
    lower = [[mp.mpf(0)] * size for _ in rows]
    for i in range(size):
        for j in range(i + 1):
            rest = covariance[i][j] - mp.fdot(lower[i][:j], lower[j][:j])
            lower[i][j] = mp.sqrt(rest) if i == j else rest / lower[j][j]
    return lower


def _exact(rows: Matrix) -> Any:
    return [[mp.mpf(v) for v in row] for row in rows]
