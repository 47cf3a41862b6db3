"""The outputs in ball arithmetic: covariances, their inverses and determinants, with Arb.

Every number is a ball that is proven to hold the true value. The route shares nothing with
`multiple.py`: no triangular solve and no logarithm of a sum, but

    p_n = sum_k pi_k det(Sigma_k)^(-1/2) (2 pi)^(-D/2) exp(-e^T Lambda_k e / 2),  Lambda = Sigma^-1,
    df/da_k = (1/W) sum_n w_n pi_k sum_j pi_j (phi_nj - phi_nk) / p_n,
    df/dL_k = (1/W) tril((n_k Lambda_k - Lambda_k S_k Lambda_k) L_k).
"""

from __future__ import annotations

import math
from typing import Any

import flint
from flint import arb, arb_mat

from certify.problem import Problem

Blocks = dict[str, list[Any]]


def evaluate(problem: Problem, bits: int) -> Blocks:
    """Balls around the value and the gradients, with `bits` bits of working precision."""
    with flint.ctx.workprec(bits):
        return _evaluate(problem)


def _evaluate(problem: Problem) -> Blocks:
    n_dims, n_components = len(problem.means[0]), len(problem.logits)
    on = [k for k, a in enumerate(problem.logits) if a != -math.inf]
    highest = max(problem.logits)
    share = {k: (arb(problem.logits[k]) - arb(highest)).exp() for k in on}
    total_share = sum(share.values(), arb(0))
    pi = {k: share[k] / total_share for k in on}
    factor = {k: arb_mat(problem.factors[k]) for k in on}
    covariance = {k: factor[k] * factor[k].transpose() for k in on}
    inverse = {k: covariance[k].inv() for k in on}
    normaliser = {k: ((2 * arb.pi()) ** n_dims * covariance[k].det()).sqrt() for k in on}
    weight = [arb(w) for w in problem.weights or [1.0] * len(problem.x)]
    weight = [w * c for w, c in zip(weight, problem.multiplicity, strict=True)]
    divisor = sum(weight, arb(0)) if problem.reduction == "mean" else arb(1)

    nll = arb(0)
    d_logits = [arb(0)] * n_components
    mass = dict.fromkeys(on, arb(0))
    first = {k: arb_mat(n_dims, 1) for k in on}
    second = {k: arb_mat(n_dims, n_dims) for k in on}
    for row, w in zip(problem.x, weight, strict=True):
        x = arb_mat([[value] for value in row])
        e = {k: x - arb_mat([[value] for value in problem.means[k]]) for k in on}
        half = {k: (e[k].transpose() * inverse[k] * e[k])[0, 0] / 2 for k in on}
        # A common exact factor, so that no exponential leaves even this arithmetic's range.
        shift = min((half[k] for k in on), key=lambda ball: ball.mid()).mid()
        phi = {k: (shift - half[k]).exp() / normaliser[k] for k in on}
        density = sum((pi[k] * phi[k] for k in on), arb(0))
        nll -= w * (density.log() - shift)
        for k in on:
            others = sum((pi[j] * (phi[j] - phi[k]) for j in on if j != k), arb(0))
            d_logits[k] += w * pi[k] * others / density
            resp = w * pi[k] * phi[k] / density
            mass[k] += resp
            first[k] += e[k] * resp
            second[k] += e[k] * e[k].transpose() * resp

    d_means, d_chol = [], []
    for k in range(n_components):
        if k not in mass:
            d_means += [arb(0)] * n_dims
            d_chol += [arb(0)] * (n_dims * (n_dims + 1) // 2)
            continue
        pull = inverse[k] * first[k]
        d_means += [-pull[i, 0] / divisor for i in range(n_dims)]
        bracket = inverse[k] * mass[k] - inverse[k] * second[k] * inverse[k]
        gradient = bracket * factor[k]
        d_chol += [gradient[i, j] / divisor for i in range(n_dims) for j in range(i + 1)]
    return {
        "nll": [nll / divisor],
        "logits": [value / divisor for value in d_logits],
        "means": d_means,
        "chol": d_chol,
    }
