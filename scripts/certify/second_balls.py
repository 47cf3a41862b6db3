"""Hessian-vector products and scores in ball arithmetic, with Arb.

The gradients of `balls.py` as functions of covariances, differentiated; shares nothing with
`second_multiple.py`: no triangular solve, no logarithm of a sum, and responsibilities that move by
differences of pairs:

    Lambda' = -Lambda Sigma' Lambda,   Sigma' = L' L^T + L L'^T,
    h_k = sum_j pi_j (a'_k - a'_j) - tr(Lambda_k Sigma'_k) / 2 + e^T Lambda_k mu'_k
          - e^T Lambda'_k e / 2,                        r'_nk = r_nk sum_j r_nj (h_nk - h_nj),
    (Lambda m)' and tril((n Lambda - Lambda S Lambda) L)' by the product rule.
"""

from __future__ import annotations

import math

import flint
from flint import arb, arb_mat

from certify import balls
from certify.balls import Blocks
from certify.problem import Problem
from certify.second_multiple import scores


def evaluate(problem: Problem, bits: int) -> Blocks:
    """Balls around the product or the scores, with `bits` bits of working precision."""
    with flint.ctx.workprec(bits):
        if problem.function == "scores":
            return scores(problem, lambda one: balls.evaluate(one, bits))
        return _hvp(problem)


def _hvp(problem: Problem) -> Blocks:
    assert problem.v_logits
    assert problem.v_means
    n_dims, n_components = len(problem.means[0]), len(problem.logits)
    on = [k for k, a in enumerate(problem.logits) if a != -math.inf]
    highest = max(problem.logits)
    share = {k: (arb(problem.logits[k]) - arb(highest)).exp() for k in on}
    total_share = sum(share.values(), arb(0))
    pi = {k: share[k] / total_share for k in on}
    v_logits = {k: arb(problem.v_logits[k]) for k in on}
    log_pi_tangent = {
        k: sum((pi[j] * (v_logits[k] - v_logits[j]) for j in on if j != k), arb(0)) for k in on
    }
    factor = {k: arb_mat(problem.factors[k]) for k in on}
    v_factor = {k: arb_mat(problem.v_factors[k]) for k in on}
    v_mean = {k: arb_mat([[v] for v in problem.v_means[k]]) for k in on}
    covariance = {k: factor[k] * factor[k].transpose() for k in on}
    inverse = {k: covariance[k].inv() for k in on}
    inverse_tangent, stretch = {}, {}
    for k in on:
        half = v_factor[k] * factor[k].transpose()
        turned = inverse[k] * (half + half.transpose())
        inverse_tangent[k] = -(turned * inverse[k])
        stretch[k] = sum((turned[i, i] for i in range(n_dims)), arb(0)) / 2
    normaliser = {k: covariance[k].det().sqrt() for k in on}
    weight = [arb(w) for w in problem.weights or [1.0] * len(problem.x)]
    weight = [w * c for w, c in zip(weight, problem.multiplicity, strict=True)]
    divisor = sum(weight, arb(0)) if problem.reduction == "mean" else arb(1)

    d_logits = [arb(0)] * n_components
    n_k, n_tangent = dict.fromkeys(on, arb(0)), dict.fromkeys(on, arb(0))
    first, first_tangent = ({k: arb_mat(n_dims, 1) for k in on} for _ in range(2))
    second, second_tangent = ({k: arb_mat(n_dims, n_dims) for k in on} for _ in range(2))
    for row, w in zip(problem.x, weight, strict=True):
        x = arb_mat([[value] for value in row])
        e = {k: x - arb_mat([[value] for value in problem.means[k]]) for k in on}
        half_square = {k: (e[k].transpose() * inverse[k] * e[k])[0, 0] / 2 for k in on}
        # A common exact factor, so that no exponential leaves even this arithmetic's range.
        shift = min((half_square[k] for k in on), key=lambda ball: ball.mid()).mid()
        part = {k: pi[k] * (shift - half_square[k]).exp() / normaliser[k] for k in on}
        density = sum(part.values(), arb(0))
        resp = {k: part[k] / density for k in on}
        rate = {}
        for k in on:
            towards = (e[k].transpose() * inverse[k] * v_mean[k])[0, 0]
            wider = (e[k].transpose() * inverse_tangent[k] * e[k])[0, 0] / 2
            rate[k] = log_pi_tangent[k] - stretch[k] + towards - wider
        for k in on:
            moved = sum((resp[j] * (rate[k] - rate[j]) for j in on if j != k), arb(0))
            r, r_tangent = w * resp[k], w * resp[k] * moved
            d_logits[k] += w * pi[k] * log_pi_tangent[k] - r_tangent
            square, crossed = e[k] * e[k].transpose(), v_mean[k] * e[k].transpose()
            n_k[k] += r
            n_tangent[k] += r_tangent
            first[k] += e[k] * r
            first_tangent[k] += e[k] * r_tangent - v_mean[k] * r
            second[k] += square * r
            second_tangent[k] += square * r_tangent - (crossed + crossed.transpose()) * r

    d_means, d_chol = [], []
    for k in range(n_components):
        if k not in n_k:
            d_means += [arb(0)] * n_dims
            d_chol += [arb(0)] * (n_dims * (n_dims + 1) // 2)
            continue
        a, a_tangent = inverse[k], inverse_tangent[k]
        pull = a_tangent * first[k] + a * first_tangent[k]
        d_means += [-pull[i, 0] / divisor for i in range(n_dims)]
        bracket = a * n_k[k] - a * second[k] * a
        moved = a * n_tangent[k] + a_tangent * n_k[k] - a * second_tangent[k] * a
        moved -= a_tangent * second[k] * a + a * second[k] * a_tangent
        gradient = moved * factor[k] + bracket * v_factor[k]
        d_chol += [gradient[i, j] / divisor for i in range(n_dims) for j in range(i + 1)]
    return {"logits": [value / divisor for value in d_logits], "means": d_means, "chol": d_chol}
