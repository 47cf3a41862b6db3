"""The objective of ADBench and GradBench: factors of precisions, with a Wishart prior on them.

    f = sum_n logsumexp_k t_nk + sum_k log W(Q_k^T Q_k),    z = Q_k (x_n - mu_k),
    t_nk = log pi_k + sum_i q_ki - |z|^2 / 2 - (D / 2) log 2 pi,
    log W = m sum_i q_ki - (gamma^2 / 2) |Q_k|^2 + n D log(gamma / sqrt 2) - log Gamma_D(n / 2),

with n = D + m + 1. Both ways of computing it stand here, and what may be asked of doubles.
"""

from __future__ import annotations

from typing import Any

import flint
import mpmath as mp
from flint import arb, arb_mat

from certify.agreement import Blocks
from certify.allowance import written
from certify.differences import spread
from certify.multiple import logsumexp
from certify.problem import FLUSHED, HALF_ULP, SMALLEST, PrecisionProblem
from certify.terms import columns, dot, log_softmax, smaller

# The inputs that the spread moves; m is a whole number, and exact.
MOVED = ("alpha", "means", "icf", "x", "gamma")


def places(size: int) -> list[tuple[int, int]]:
    """Return row and column of each entry of icf: the diagonal, then the rest by columns."""
    below = [(i, j) for j in range(size) for i in range(j + 1, size)]
    return [(i, i) for i in range(size)] + below


def multiple(problem: Any, digits: int) -> Blocks:
    """Value and gradients with mpmath, by the chain rule."""
    with mp.workdps(digits):
        return _multiple(problem)


def _multiple(problem: Any) -> Blocks:
    n_dims, n_components = len(problem.means[0]), len(problem.alpha)
    components = range(n_components)
    at = places(n_dims)
    icf = [[mp.mpf(v) for v in row] for row in problem.icf]
    gamma = mp.mpf(problem.gamma)
    factors = []
    for row in icf:
        factor = mp.zeros(n_dims)
        for value, (i, j) in zip(row, at, strict=True):
            factor[i, j] = mp.exp(value) if i == j else value
        factors.append(factor)
    alpha = [mp.mpf(a) for a in problem.alpha]
    log_pi = [a - logsumexp(alpha) for a in alpha]
    log_det = [mp.fsum(row[:n_dims]) for row in icf]
    value = mp.mpf(0)
    d_alpha = [mp.mpf(0)] * n_components
    d_means = [[mp.mpf(0)] * n_dims for _ in components]
    d_icf = [[mp.mpf(0)] * len(at) for _ in components]
    for row, times in zip(problem.x, problem.multiplicity, strict=True):
        joint, residual, whitened = [], [], []
        for k in components:
            e = [mp.mpf(a) - mp.mpf(b) for a, b in zip(row, problem.means[k], strict=True)]
            z = [mp.fsum(factors[k][i, j] * e[j] for j in range(i + 1)) for i in range(n_dims)]
            quadratic = mp.fdot(z, z)
            joint.append(log_pi[k] + log_det[k] - quadratic / 2 - n_dims * mp.log(2 * mp.pi) / 2)
            residual.append(e)
            whitened.append(z)
        log_likelihood = logsumexp(joint)
        value += times * log_likelihood
        for k in components:
            share = times * mp.exp(joint[k] - log_likelihood)
            e, z = residual[k], whitened[k]
            d_alpha[k] += share - times * mp.exp(log_pi[k])
            for j in range(n_dims):
                d_means[k][j] += share * mp.fsum(factors[k][i, j] * z[i] for i in range(j, n_dims))
            for p, (i, j) in enumerate(at):
                slope = -z[i] * e[j]
                d_icf[k][p] += share * (1 + slope * factors[k][i, i] if i == j else slope)
    freedom = n_dims + problem.m + 1
    constant = freedom * n_dims * mp.log(gamma / mp.sqrt(2)) - log_multigamma(freedom, n_dims)
    for k in components:
        square = mp.fsum(factors[k][i, j] ** 2 for i, j in at)
        value += problem.m * log_det[k] - gamma**2 * square / 2 + constant
        for p, (i, j) in enumerate(at):
            entry = factors[k][i, j]
            d_icf[k][p] += problem.m - (gamma * entry) ** 2 if i == j else -(gamma**2) * entry
    return {
        "objective": [value],
        "alpha": d_alpha,
        "means": [v for row in d_means for v in row],
        "icf": [v for row in d_icf for v in row],
    }


def log_multigamma(freedom: int, n_dims: int) -> Any:
    """Logarithm of the multivariate gamma function at freedom / 2."""
    logs = [mp.loggamma(mp.mpf(freedom - i) / 2) for i in range(n_dims)]
    return n_dims * (n_dims - 1) * mp.log(mp.pi) / 4 + mp.fsum(logs)


def balls(problem: PrecisionProblem, bits: int) -> Blocks:
    """Value and gradients in balls, by precision matrices and their inverses."""
    with flint.ctx.workprec(bits):
        return _balls(problem)


def factor_of(problem: PrecisionProblem, k: int) -> arb_mat:
    """Q_k in balls."""
    n_dims = len(problem.means[0])
    factor = arb_mat(n_dims, n_dims)
    for value, (i, j) in zip(problem.icf[k], places(n_dims), strict=True):
        factor[i, j] = arb(value).exp() if i == j else arb(value)
    return factor


def _balls(problem: PrecisionProblem) -> Blocks:
    n_dims, components = len(problem.means[0]), range(len(problem.alpha))
    at = places(n_dims)
    factor = [factor_of(problem, k) for k in components]
    precision = [f.transpose() * f for f in factor]
    determinant = [p.det() for p in precision]
    share = [(arb(a) - arb(max(problem.alpha))).exp() for a in problem.alpha]
    pi = [s / sum(share, arb(0)) for s in share]
    gamma, m = arb(problem.gamma), problem.m
    freedom = n_dims + m + 1
    value = arb(0)
    d_alpha = [arb(0) for _ in components]
    mass = [arb(0) for _ in components]
    first = [arb_mat(n_dims, 1) for _ in components]
    second = [arb_mat(n_dims, n_dims) for _ in components]
    for row, times in zip(problem.x, problem.multiplicity, strict=True):
        e = [
            arb_mat([[arb(a) - arb(b)] for a, b in zip(row, mean, strict=True)])
            for mean in problem.means
        ]
        half = [(e[k].transpose() * precision[k] * e[k])[0, 0] / 2 for k in components]
        shift = min(half, key=lambda ball: ball.mid()).mid()
        phi = [
            (determinant[k] / (2 * arb.pi()) ** n_dims).sqrt() * (shift - half[k]).exp()
            for k in components
        ]
        density = dot(pi, phi)
        value += times * (density.log() - shift)
        for k in components:
            others = sum((pi[j] * (phi[k] - phi[j]) for j in components if j != k), arb(0))
            d_alpha[k] += times * pi[k] * others / density
            resp = times * pi[k] * phi[k] / density
            mass[k] += resp
            first[k] += e[k] * resp
            second[k] += e[k] * e[k].transpose() * resp
    gamma_d = arb.pi() ** (arb(n_dims * (n_dims - 1)) / 4)
    for i in range(n_dims):
        gamma_d *= (arb(freedom - i) / 2).gamma()
    d_means, d_icf = [], []
    for k in components:
        trace = sum((precision[k][i, i] for i in range(n_dims)), arb(0))
        # the Wishart density itself: |V|^(-n/2) |P|^(m/2) exp(-tr(V^-1 P) / 2) / (2^(nD/2) Gamma_D)
        value += (
            determinant[k] ** (arb(m) / 2)
            * gamma ** (freedom * n_dims)
            / (arb(2) ** (arb(freedom * n_dims) / 2) * gamma_d)
        ).log() - gamma**2 * trace / 2
        pull = precision[k] * first[k]
        d_means += [pull[i, 0] for i in range(n_dims)]
        bracket = precision[k].inv() * (mass[k] + m) - second[k]
        for i in range(n_dims):
            bracket[i, i] -= gamma**2
        gradient = factor[k] * bracket
        d_icf += [gradient[i, j] * (factor[k][i, i] if i == j else 1) for i, j in at]
    return {"objective": [value], "alpha": d_alpha, "means": d_means, "icf": d_icf}


def allowance(problem: PrecisionProblem, bits: int) -> dict[str, dict[str, list[str]]]:
    """Return spread, scale and floor of each block of outputs."""
    del bits
    with flint.ctx.workprec(512):
        blocks = {"spread": spread(multiple, problem, MOVED)} | dict(
            zip(("scale", "floor"), scale_and_floor(problem), strict=True)
        )
        return written(blocks, problem.dtype)


def scale_and_floor(problem: PrecisionProblem) -> tuple[Blocks, Blocks]:
    """Add up absolute addends as `allowance.py` does, with z = Q e a product, not a solve."""
    n_dims, n_components = len(problem.means[0]), len(problem.alpha)
    components, at = range(n_components), places(n_dims)
    u, limit = arb(HALF_ULP[problem.dtype]), arb(FLUSHED[problem.dtype])
    log_pi, _ = log_softmax(problem.alpha)
    pi = [v.exp() for v in log_pi]
    entropy = dot(pi, map(abs, log_pi))
    gamma, m = arb(problem.gamma), abs(problem.m)
    constant = n_dims * (2 * arb.pi()).log() / 2
    n = arb(sum(problem.multiplicity))
    value = n_components * _prior_constant(problem)
    alpha = [n * pi[k] * (1 + abs(log_pi[k]) + entropy) for k in components]
    means = [[arb(0)] * n_dims for _ in components]
    icf = [[arb(0)] * len(at) for _ in components]
    grid = arb(SMALLEST[problem.dtype]) * (sum(problem.multiplicity) + 1)
    lost_alpha = [grid for _ in components]
    lost_means = [[grid] * n_dims for _ in components]
    lost_icf = [[grid] * len(at) for _ in components]
    factors = [factor_of(problem, k) for k in components]
    for k in components:
        for p, (i, j) in enumerate(at):
            entry = factors[k][i, j]
            icf[k][p] += m + (gamma * entry) ** 2 if i == j else gamma**2 * abs(entry)
            value += (gamma * entry) ** 2 / 2 + (m * abs(arb(problem.icf[k][i])) if i == j else 0)
    for row, times in zip(problem.x, problem.multiplicity, strict=True):
        joint, size, parts = [], [], []
        for k in components:
            e = arb_mat([[arb(a) - arb(b)] for a, b in zip(row, problem.means[k], strict=True)])
            z, q = factors[k] * e, [arb(v) for v in problem.icf[k][:n_dims]]
            y = factors[k].transpose() * z
            bound = arb_mat([[abs(v) for v in line] for line in factors[k].tolist()])
            z_bar = bound * arb_mat([[abs(v)] for v in columns(e)[0]])
            y_bar = bound.transpose() * (z_bar + arb_mat([[abs(v)] for v in columns(z)[0]]))
            lists = [columns(v)[0] for v in (e, z, y, z_bar, y_bar)]
            condition = dot(map(abs, lists[1]), lists[3])
            joint.append(log_pi[k] + sum(q, arb(0)) - dot(lists[1], lists[1]) / 2 - constant)
            size.append(abs(log_pi[k]) + sum(map(abs, q), arb(0)) + constant + condition)
            parts.append(lists)
        log_resp, total = log_softmax(joint)
        resp = [v.exp() for v in log_resp]
        value += times * (abs(total) + dot(resp, size))
        rest = [sum((resp[j] for j in components if j != k), arb(0)) for k in components]
        log_sum = smaller(abs(total), min(rest, key=lambda ball: ball.mid()) / u)
        for k in components:
            e, z, y, z_bar, y_bar = parts[k]
            carried = sum((resp[j] * size[j] for j in components if j != k), arb(0))
            lost = 1 + rest[k] * size[k] + carried + log_sum
            share, flushed = times * resp[k], times * smaller(resp[k], limit)
            alpha[k] += share * lost
            lost_alpha[k] += flushed
            for j in range(n_dims):
                means[k][j] += share * (abs(y[j]) * lost + y_bar[j])
                lost_means[k][j] += flushed * abs(y[j])
            for p, (i, j) in enumerate(at):
                scale = factors[k][i, i] if i == j else arb(1)
                addend = abs(z[i] * e[j]) * scale + (i == j)
                icf[k][p] += share * (addend * lost + scale * z_bar[i] * abs(e[j]))
                lost_icf[k][p] += flushed * addend
    flat = [[v for line in rows for v in line] for rows in (means, icf, lost_means, lost_icf)]
    return (
        {"objective": [value], "alpha": alpha, "means": flat[0], "icf": flat[1]},
        {"objective": [grid], "alpha": lost_alpha, "means": flat[2], "icf": flat[3]},
    )


def _prior_constant(problem: PrecisionProblem) -> arb:
    n_dims = len(problem.means[0])
    freedom = n_dims + problem.m + 1
    size = freedom * n_dims * abs((arb(problem.gamma) / arb(2).sqrt()).log())
    size += n_dims * (n_dims - 1) * arb.pi().log() / 4
    logs = [abs((arb(freedom - i) / 2).lgamma()) for i in range(n_dims)]
    return size + sum(logs, arb(0))
