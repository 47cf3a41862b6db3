"""Spread, scale and floor of each output: what arithmetic in the problem's dtype can be asked for.

With c_n = w_n / W, r_nk the responsibilities, z = L^-1 e, y = L^-T z, t_nk the logarithm of term k
of the density, Lambda = Sigma^-1, P = L^-1, and |.| taken entry by entry:

spread   u sum_j |theta_j df_i/dtheta_j| over all inputs: for a gradient, a row of the Hessian.
scale    the sum of the absolute addends, and what rounding has done to their factors:
         T_nk = |log pi_k| + sum_i |log L_ii| + (D/2) log 2 pi + |y|^T |L| |z|      addends of t_nk
         E_nk = (1 - r_nk) T_nk + sum_(j != k) r_nj T_nj + min(|l_n|, (1 - max r) / u)  through r_nk
         Zbar = |P| |L| |z|,  Ybar = |Lambda| |L| |z| + |P^T| |L^T| |y|   by backward-stable solves
         nll       sum_n c_n (|l_n| + sum_k r_nk T_nk)
         logits    sum_n c_n (pi_k (1 + |log pi_k| + sum_j pi_j |log pi_j|) + r_nk (1 + E_nk))
         means     sum_n c_n r_nk (|y| (1 + E_nk) + Ybar)
         chol      sum_n c_n r_nk ((1/L_ii + |y_i z_j|) (1 + E_nk) + Ybar_i |z_j| + |y_i| Zbar_j)
floor    the same addends with min(r_nk, 1e-290) in place of r_nk, and subnormal rounding.

In Arb for its range of exponents alone; nothing here is a proof.
"""

from __future__ import annotations

from typing import Any

import flint
from flint import arb

from certify.agreement import LAST_BITS, Blocks, exact, scientific
from certify.problem import FLUSHED, HALF_ULP, SMALLEST, Problem
from certify.spread import spread
from certify.terms import Terms, dot, smaller

# Below this share of u * scale, a spread or a floor makes no difference and is written as 0.
NEGLIGIBLE = 1e-6
KINDS = ("spread", "scale", "floor")


def allowance(problem: Problem, bits: int) -> dict[str, dict[str, list[str]]]:
    """Return spread, scale and floor of each block of outputs, rounded up to three digits.

    Raises
    ------
    ArithmeticError
        If too much cancels for them to be known.
    """
    while bits <= LAST_BITS:
        with flint.ctx.workprec(bits):
            terms = Terms(problem)
            blocks = {"spread": spread(terms), "scale": scale(terms), "floor": floor(terms)}
            if _accurate(blocks, problem.dtype):
                return written(blocks, problem.dtype)
        bits *= 2
    raise ArithmeticError("the spread stays unknown")


def _accurate(blocks: dict[str, Blocks], dtype: str) -> bool:
    small = NEGLIGIBLE * HALF_ULP[dtype]
    return all(
        ball.rad() <= arb(1e-6) * ball.abs_lower() or ball.abs_upper() <= small * size
        for kind in KINDS
        for name, block in blocks[kind].items()
        for ball, size in zip(block, blocks["scale"][name], strict=True)
    )


def written(blocks: dict[str, Blocks], dtype: str) -> dict[str, dict[str, list[str]]]:
    """Return the numbers as the files hold them."""
    small = NEGLIGIBLE * HALF_ULP[dtype]
    return {
        name: {
            kind: [
                "0"
                if kind != "scale" and ball.abs_upper() <= small * size
                else scientific(exact(ball.abs_upper()), 3, up=True)
                for ball, size in zip(blocks[kind][name], blocks["scale"][name], strict=True)
            ]
            for kind in KINDS
        }
        for name in blocks["scale"]
    }


def scale(terms: Terms) -> Blocks:
    """Add up the absolute addends."""
    nll = arb(0)
    for n in terms.rows:
        carried = dot([terms.resp[n][k] for k in terms.on], [terms.size[n][k] for k in terms.on])
        nll += terms.c[n] * (abs(terms.log_likelihood[n]) + carried)
    entropy = dot([terms.pi[k] for k in terms.on], [abs(terms.log_pi[k]) for k in terms.on])
    mass = sum(terms.c, arb(0))
    prior = {k: mass * terms.pi[k] * (1 + abs(terms.log_pi[k]) + entropy) for k in terms.on}
    blocks = _addends(terms, lambda n, k: (terms.resp[n][k], 1 + terms.lost(n, k), True))
    logits = [prior.get(k, arb(0)) + v for k, v in enumerate(blocks["logits"])]
    return {"nll": [nll]} | blocks | {"logits": logits}


def floor(terms: Terms) -> Blocks:
    """Return what flushed responsibilities and subnormal rounding take."""
    limit = arb(FLUSHED[terms.problem.dtype])
    blocks = _addends(terms, lambda n, k: (smaller(terms.resp[n][k], limit), arb(1), False))
    grid = arb(SMALLEST[terms.problem.dtype]) * (sum(terms.problem.multiplicity) + 1)
    return {"nll": [grid]} | {name: [v + grid for v in block] for name, block in blocks.items()}


def _addends(terms: Terms, factors: Any) -> Blocks:
    """Sum the gradients' addends over rows: share, what multiplies it, errors of the solves."""
    n_dims = len(terms.problem.means[0])
    packed = n_dims * (n_dims + 1) // 2
    logits, means, chol = [], [], []
    for k in range(len(terms.problem.logits)):
        d_logit, d_mean, d_factor = arb(0), [arb(0)] * n_dims, [arb(0)] * packed
        if k in terms.component:
            own = terms.component[k]
            for n in terms.rows:
                resp, lost, solves = factors(n, k)
                share = terms.c[n] * resp
                d_logit += share * lost
                y, z = [abs(v) for v in own.y[n]], [abs(v) for v in own.z[n]]
                y_bar, z_bar = own.y_bar[n], own.z_bar[n]
                for i in range(n_dims):
                    d_mean[i] += share * (y[i] * lost + (y_bar[i] if solves else 0))
                for at, (i, j) in enumerate(own.packed):
                    addend = y[i] * z[j]
                    if i == j:
                        addend += 1 / abs(own.lower[i, i])
                    addend *= lost
                    if solves:
                        addend += y_bar[i] * z[j] + y[i] * z_bar[j]
                    d_factor[at] += share * addend
        logits.append(d_logit)
        means += d_mean
        chol += d_factor
    return {"logits": logits, "means": means, "chol": chol}
