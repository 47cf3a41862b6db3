"""Covariances, precisions and variances in ball arithmetic, and what may be asked of doubles.

By inverses and determinants of the matrices as they come: no factor anywhere. With Lambda and S the
sums of r and of r e e^T,

    df/dSigma = (n Lambda - Lambda S Lambda) / (2 W),    df/dLambda = (S - n Sigma) / (2 W).

Doubles factor what comes in, which moves its entries by u |L| |L^T|: the scale of each output has,
besides the addends of the Cholesky parametrization, how far that moves it. With the letters of
`allowance.py` and B = |Lambda| |L| |L^T| |Lambda|, or |Sigma| |R| |R^T| |Sigma| for a precision
R R^T, the gradient's addends are

    covariances   sum_n c_n r_nk ((|Lambda_ij| + |y_i y_j|) (1 + E_nk)
                                  + Ybar_i |y_j| + |y_i| Ybar_j + B_ij) / 2
    precisions    sum_n c_n r_nk ((|Sigma_ij| + |e_i e_j|) (1 + E_nk) + B_ij) / 2
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import flint
import mpmath as mp
from flint import arb, arb_mat

from certify import allowance as cholesky
from certify.agreement import Blocks
from certify.balls import Densities, switched_on, weights_of
from certify.by_covariance import CovarianceProblem, by_multiple, factored, reduced
from certify.by_covariance import full as by_factors
from certify.differences import DIGITS, spread
from certify.problem import FLUSHED, SMALLEST, Problem
from certify.terms import Terms, absolute, smaller

STEP = 25


def by_balls(problem: CovarianceProblem, bits: int) -> Blocks:
    """Balls around value and gradients."""
    with flint.ctx.workprec(bits):
        return _by_balls(problem)


def _by_balls(problem: CovarianceProblem) -> Blocks:
    n_dims, components = len(problem.means[0]), range(len(problem.logits))
    on = switched_on(problem.logits)
    given = {k: arb_mat(problem.matrices[k]) for k in on}
    other = {k: matrix.inv() for k, matrix in given.items()}
    if problem.parametrization == "precisions":
        det = {k: 1 / matrix.det() for k, matrix in given.items()}
        densities = Densities(problem.logits, problem.means, given, det)
    else:
        det = {k: matrix.det() for k, matrix in given.items()}
        densities = Densities(problem.logits, problem.means, other, det)
    weight, divisor = weights_of(problem)
    pi = densities.pi
    nll, d_logits = arb(0), [arb(0) for _ in components]
    mass = dict.fromkeys(on, arb(0))
    first = {k: arb_mat(n_dims, 1) for k in on}
    second = {k: arb_mat(n_dims, n_dims) for k in on}
    for row, w in zip(problem.x, weight, strict=True):
        e, phi, density, shift = densities.at(row)
        nll -= w * (density.log() - shift)
        for k in on:
            others = sum((pi[j] * (phi[j] - phi[k]) for j in on if j != k), arb(0))
            d_logits[k] += w * pi[k] * others / density
            resp = w * pi[k] * phi[k] / density
            mass[k] += resp
            first[k] += e[k] * resp
            second[k] += e[k] * e[k].transpose() * resp
    d_means, gradients = [], []
    for k in components:
        if k not in mass:
            d_means += [arb(0)] * n_dims
            gradients.append(arb_mat(n_dims, n_dims).tolist())
            continue
        d_means += [-v / divisor for v in (densities.inverse[k] * first[k]).entries()]
        if problem.parametrization == "precisions":
            bracket = second[k] - other[k] * mass[k]
        else:
            bracket = other[k] * mass[k] - other[k] * second[k] * other[k]
        gradients.append((bracket / (2 * divisor)).tolist())
    return {
        "nll": [nll / divisor],
        "logits": [v / divisor for v in d_logits],
        "means": d_means,
        "scale": reduced(problem, gradients),
    }


# --- what may be asked of doubles ---------------------------------------------------------------


def allowance(problem: CovarianceProblem, bits: int) -> dict[str, dict[str, list[str]]]:
    """Return spread, scale and floor of each block of outputs, rounded up to three digits."""
    names = ["logits", "means", "scale", "x"]
    names += ["weights"] if problem.weights is not None else []
    with flint.ctx.workprec(max(bits, 512)):
        terms = Terms(_converted(problem))
        scale, floor = cholesky.scale(terms), cholesky.floor(terms)
        moved = _factoring(problem)
        limit = arb(FLUSHED[problem.dtype])
        grid = arb(SMALLEST[problem.dtype]) * (len(problem.x) + 1)
        gradients, flushed = _gradients(problem, terms, limit)
        scale = {name: scale[name] for name in ("nll", "logits", "means")} | {"scale": gradients}
        floor = {name: floor[name] for name in ("nll", "logits", "means")}
        floor["scale"] = [v + grid for v in flushed]
        scale = {
            name: [a + b for a, b in zip(block, moved[name], strict=True)]
            for name, block in scale.items()
        }
        blocks = {"spread": spread(by_multiple, problem, names), "scale": scale, "floor": floor}
        return cholesky.written(blocks, problem.dtype)


def _converted(problem: CovarianceProblem) -> Problem:
    """Return the problem by factors, to eighty digits, as Arb's numbers."""
    with mp.workdps(DIGITS):
        found = by_factors(problem)
        return replace(found, chol=_balls(found.chol))


def _balls(value: Any) -> Any:
    return [_balls(v) for v in value] if isinstance(value, list) else arb(mp.nstr(value, DIGITS))


def _sizes(matrix: Any) -> Any:
    """Return |L| |L^T| of a matrix L L^T, in mpmath."""
    lower = factored(matrix)
    return [[mp.fsum(abs(a * b) for a, b in zip(p, q, strict=True)) for q in lower] for p in lower]


def _factoring(problem: CovarianceProblem) -> Blocks:
    """Return how far |L| |L^T| in the entries that are factored moves each output."""
    with mp.workdps(DIGITS):
        totals = {n: [mp.mpf(0)] * len(b) for n, b in by_multiple(problem, DIGITS).items()}
        if problem.parametrization in ("covariances", "precisions"):
            step = mp.mpf(10) ** -STEP
            for k in switched_on(problem.logits):
                sizes = _sizes(problem.matrices[k])
                for i in range(len(sizes)):
                    for j in range(i + 1):
                        ends = []
                        for sign in (1, -1):
                            scale = [[list(row) for row in m] for m in problem.scale]
                            scale[k][i][j] = mp.mpf(scale[k][i][j]) + sign * step * sizes[i][j]
                            ends.append(by_multiple(replace(problem, scale=scale), DIGITS))
                        for name, total in totals.items():
                            for at, (a, b) in enumerate(
                                zip(*(end[name] for end in ends), strict=True)
                            ):
                                total[at] += abs(a - b) / (2 * step)
        return {n: [arb(mp.nstr(v, 20)) for v in block] for n, block in totals.items()}


def _gradients(problem: CovarianceProblem, terms: Terms, limit: arb) -> tuple[list[arb], list[arb]]:
    """Return the addends of the gradient of the scale, and those of flushed responsibilities."""
    n_dims = len(problem.means[0])
    axes, by_precision = range(n_dims), problem.parametrization == "precisions"
    sizes, flushed = [], []
    for k in range(len(problem.logits)):
        size = [[arb(0)] * n_dims for _ in axes]
        gone = [[arb(0)] * n_dims for _ in axes]
        if k in terms.component:
            own = terms.component[k]
            with mp.workdps(DIGITS):
                formed = arb_mat(_balls(_sizes(problem.matrices[k])))
            covariance = own.lower * own.lower.transpose()
            constant = absolute(covariance if by_precision else own.precision)
            solved = constant * formed * constant
            for n in terms.rows:
                share, lost = terms.c[n] * terms.resp[n][k], 1 + terms.lost(n, k)
                below = terms.c[n] * smaller(terms.resp[n][k], limit)
                row = problem.x[n]
                e = [abs(arb(a) - arb(b)) for a, b in zip(row, problem.means[k], strict=True)]
                v = e if by_precision else [abs(y) for y in own.y[n]]
                bar = [arb(0)] * n_dims if by_precision else own.y_bar[n]
                for i in axes:
                    for j in axes:
                        addend = constant[i, j] + v[i] * v[j]
                        errors = bar[i] * v[j] + v[i] * bar[j] + solved[i, j]
                        size[i][j] += share * (addend * lost + errors) / 2
                        gone[i][j] += below * addend / 2
        sizes.append(size)
        flushed.append(gone)
    return reduced(problem, sizes), reduced(problem, flushed)
