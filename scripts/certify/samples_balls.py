"""What comes out for each sample, a step of EM, and marginal densities, in ball arithmetic.

By densities as such, and by other identities than `samples_multiple.py`: a step of EM by moments
about the old means, S / n - (v / n) (v / n)^T, and marginal densities by the inverse and the
determinant of a block of the covariance.

And what may be asked of doubles, with the letters of `allowance.py`:

    log_prob    |l_n| + sum_k r_nk T_nk
    resp.       r_nk (1 + E_nk)
    d_x         c_n sum_k r_nk (|y| (1 + E_nk) + Ybar)
    em_step     about the old means, in coordinates that are whitened or not: with a = |L| |z|,
                b = |L| Zbar, d the step of a mean, S the new covariance, n_k = sum_n c_n r_nk and
                m_k = sum_n c_n r_nk (1 + E_nk)
                pi          m_k
                means       (sum_n c_n r_nk ((|x| + a) (1 + E_nk) + b) + |mean| m_k) / n_k
                covariances (sum_n c_n r_nk (a_i a_j (1 + E_nk) + a_i b_j + b_i a_j)
                            + (|d_i d_j| + |S_ij|) m_k) / n_k
    marginal    as log_prob, of the block, and sum_k r_nk sum_ij |y_i y_j - Lambda_ij| / 2
                (|A| |A^T|)_ij: the block A A^T is formed, and factored again
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import flint
import mpmath as mp
from flint import arb, arb_mat

from certify import samples_multiple
from certify.agreement import Blocks
from certify.allowance import written
from certify.balls import Densities, of_factors, switched_on, weights_of
from certify.differences import spread
from certify.problem import FLUSHED, SMALLEST, Problem
from certify.terms import Terms, absolute, smaller


def evaluate(problem: Problem, bits: int) -> Blocks:
    """Balls around the outputs, with `bits` bits of working precision."""
    with flint.ctx.workprec(bits):
        if problem.function == "em_step":
            return _em_step(problem)
        densities = _of_columns(problem) if problem.columns else of_factors(problem)
        return _of_samples(problem, densities)


def _of_columns(problem: Problem) -> Densities:
    columns, covariance = problem.columns or [], {}
    for k in switched_on(problem.logits):
        rows = arb_mat([problem.factors[k][c] for c in columns])
        covariance[k] = rows * rows.transpose()
    means = [[row[c] for c in columns] for row in problem.means]
    return Densities.by_covariances(problem.logits, means, covariance)


def _of_samples(problem: Problem, densities: Densities) -> Blocks:
    pi, on = densities.pi, densities.on
    weight, divisor = weights_of(problem)
    found: Blocks = {"log_prob": [], "responsibilities": [], "x": []}
    for row, w in zip(problem.x, weight, strict=True):
        e, phi, density, shift = densities.at(row)
        resp = {k: pi[k] * phi[k] / density for k in on}
        found["log_prob"].append(density.log() - shift)
        found["responsibilities"] += [resp.get(k, arb(0)) for k in range(len(problem.logits))]
        pull = arb_mat(len(row), 1)
        for k in on:
            pull += densities.inverse[k] * e[k] * resp[k]
        found["x"] += [w / divisor * v for v in pull.entries()]
    name = {"d_x": "x", "marginal": "log_prob"}.get(problem.function, problem.function)
    return {name: found[name]}


def _em_step(problem: Problem) -> Blocks:
    densities, n_dims = of_factors(problem), len(problem.means[0])
    on, pi = densities.on, densities.pi
    weight, total = weights_of(problem)
    mass = dict.fromkeys(on, arb(0))
    first = {k: arb_mat(n_dims, 1) for k in on}
    second = {k: arb_mat(n_dims, n_dims) for k in on}
    for row, w in zip(problem.x, weight, strict=True):
        e, phi, density, _ = densities.at(row)
        for k in on:
            resp = w * pi[k] * phi[k] / density
            mass[k] += resp
            first[k] += e[k] * resp
            second[k] += e[k] * e[k].transpose() * resp
    found: Blocks = {"pi": [], "means": [], "covariances": []}
    for k in on:
        step = first[k] / mass[k]
        found["pi"].append(mass[k] / total)
        found["means"] += [
            arb(m) + s for m, s in zip(problem.means[k], step.entries(), strict=True)
        ]
        found["covariances"] += (second[k] / mass[k] - step * step.transpose()).entries()
    return found


# --- what may be asked of doubles ---------------------------------------------------------------


def allowance(problem: Problem, bits: int) -> dict[str, dict[str, list[str]]]:
    """Return spread, scale and floor of each block of outputs, rounded up to three digits."""
    names = ["logits", "means", "chol", "x"]
    if problem.weights is not None and problem.function in ("d_x", "em_step"):
        names.append("weights")
    with flint.ctx.workprec(max(bits, 512)):
        moved = spread(samples_multiple.evaluate, problem, names)
        limit = arb(FLUSHED[problem.dtype])
        grid = arb(SMALLEST[problem.dtype]) * (sum(problem.multiplicity) + 1)
        sizes = {"em_step": _em_sizes}.get(problem.function, _sample_sizes)
        scale, floor = sizes(problem, limit)
        floor = {name: [v + grid for v in block] for name, block in floor.items()}
        return written({"spread": moved, "scale": scale, "floor": floor}, problem.dtype)


def _block(problem: Problem) -> Problem:
    """Return the mixture of the chosen columns, its factors to eighty digits."""
    with mp.workdps(80):
        chosen = samples_multiple.marginal(problem)

        def converted(value: Any) -> Any:
            return (
                [converted(v) for v in value]
                if isinstance(value, list)
                else arb(mp.nstr(value, 80))
            )

        return replace(chosen, chol=converted(chosen.chol))


def _sample_sizes(problem: Problem, limit: arb) -> tuple[Blocks, Blocks]:
    terms = Terms(_block(problem) if problem.columns else problem)
    name = {"d_x": "x", "marginal": "log_prob"}.get(problem.function, problem.function)
    scale: Blocks = {name: []}
    floor: Blocks = {name: []}
    for n in terms.rows:
        resp, lost = terms.resp[n], {k: 1 + terms.lost(n, k) for k in terms.on}
        if name == "log_prob":
            size = abs(terms.log_likelihood[n])
            for k in terms.on:
                size += resp[k] * terms.size[n][k]
                if problem.columns:
                    size += resp[k] * _formed(problem, terms, n, k)
            scale[name].append(size)
            floor[name].append(arb(0))
        elif name == "responsibilities":
            for k in range(len(problem.logits)):
                on = k in lost
                scale[name].append(resp[k] * lost[k] if on else arb(0))
                floor[name].append(smaller(resp[k], limit) if on else arb(0))
        else:
            for i in range(len(problem.means[0])):
                size, gone = arb(0), arb(0)
                for k in terms.on:
                    own = terms.component[k]
                    y = abs(own.y[n][i])
                    size += resp[k] * (y * lost[k] + own.y_bar[n][i])
                    gone += smaller(resp[k], limit) * y
                scale[name].append(terms.c[n] * size)
                floor[name].append(terms.c[n] * gone)
    return scale, floor


def _formed(problem: Problem, terms: Terms, n: int, k: int) -> arb:
    """Return what forming the covariance of the columns, and factoring it again, does to t_nk."""
    rows = absolute(arb_mat([problem.factors[k][c] for c in problem.columns or []]))
    sizes, own, total = rows * rows.transpose(), terms.component[k], arb(0)
    for i, a in enumerate(own.y[n]):
        for j, b in enumerate(own.y[n]):
            total += abs(a * b - own.precision[i, j]) / 2 * sizes[i, j]
    return total


def _em_sizes(problem: Problem, limit: arb) -> tuple[Blocks, Blocks]:
    terms, new, axes = Terms(problem), _em_step(problem), range(len(problem.means[0]))
    scale: Blocks = {"pi": [], "means": [], "covariances": []}
    floor: Blocks = {"pi": [], "means": [], "covariances": []}
    for k in terms.on:
        own = terms.component[k]
        share = [c * r[k] for c, r in zip(terms.c, terms.resp, strict=True)]
        lost = [s * (1 + terms.lost(n, k)) for n, s in enumerate(share)]
        gone = [c * smaller(r[k], limit) for c, r in zip(terms.c, terms.resp, strict=True)]
        mass = sum(share, arb(0))
        mean = new["means"][k * len(axes) : (k + 1) * len(axes)]
        step = [m - arb(old) for m, old in zip(mean, problem.means[k], strict=True)]
        covariance = new["covariances"][k * len(axes) ** 2 : (k + 1) * len(axes) ** 2]
        x = [[abs(arb(v)) for v in row] for row in problem.x]
        lower = absolute(own.lower)
        a = [(lower * absolute(arb_mat([[v] for v in z]))).entries() for z in own.z]
        b = [(lower * arb_mat([[v] for v in z_bar])).entries() for z_bar in own.z_bar]
        # What rounding does to the residuals counts once, whatever the responsibilities lose.
        for sizes, rounded, solved in ((scale, lost, share), (floor, gone, [arb(0)] * len(share))):
            total = sum(rounded, arb(0))
            sizes["pi"].append(total)
            for i in axes:
                size = abs(mean[i]) * total
                for n in terms.rows:
                    size += rounded[n] * (x[n][i] + a[n][i]) + solved[n] * b[n][i]
                sizes["means"].append(size / mass)
            for i in axes:
                for j in axes:
                    size = abs(step[i] * step[j]) + abs(covariance[i * len(axes) + j])
                    size *= total
                    for n in terms.rows:
                        size += rounded[n] * a[n][i] * a[n][j]
                        size += solved[n] * (a[n][i] * b[n][j] + b[n][i] * a[n][j])
                    sizes["covariances"].append(size / mass)
    return scale, floor
