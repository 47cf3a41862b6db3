"""Spread, scale and floor of each output: what arithmetic in the problem's dtype can be asked for.

With c_n = w_n / W, r_nk the responsibilities, z = L^-1 e, y = L^-T z, t_nk the logarithm of term k of
the density, Lambda = Sigma^-1, P = L^-1, and |.| taken entry by entry:

spread   u sum_j |theta_j df_i/dtheta_j| over all inputs: for a gradient, a row of the Hessian.
scale    the sum of the absolute addends, and what rounding has done to their factors:
         T_nk = |log pi_k| + sum_i |log L_ii| + (D/2) log 2 pi + |y|^T |L| |z|      addends of t_nk
         E_nk = (1 - r_nk) T_nk + sum_(j != k) r_nj T_nj + min(|l_n|, (1 - max r) / u)  through r_nk
         Zbar = |P| |L| |z|,   Ybar = |Lambda| |L| |z| + |P^T| |L^T| |y|      by backward-stable solves
         nll       sum_n c_n (|l_n| + sum_k r_nk T_nk)
         logits    sum_n c_n (pi_k (1 + |log pi_k| + sum_j pi_j |log pi_j|) + r_nk (1 + E_nk))
         means     sum_n c_n r_nk (|y| (1 + E_nk) + Ybar)
         chol      sum_n c_n r_nk ((1/L_ii + |y_i z_j|) (1 + E_nk) + Ybar_i |z_j| + |y_i| Zbar_j)
floor    the same addends with min(r_nk, 1e-290) in place of r_nk, and subnormal rounding.

In Arb for its range of exponents alone; nothing here is a proof.
"""

from __future__ import annotations

import math
from typing import Any

import flint
from flint import arb, arb_mat

from certify.agreement import Blocks, _exact, scientific
from certify.problem import FLUSHED, HALF_ULP, SMALLEST, Problem

# Below this share of u * scale, a spread or a floor makes no difference and is written as 0.
NEGLIGIBLE = 1e-6
KINDS = ("spread", "scale", "floor")


def allowance(problem: Problem, bits: int) -> dict[str, dict[str, list[str]]]:
    """Return spread, scale and floor of each block of outputs, rounded up to three digits."""
    while True:
        with flint.ctx.workprec(bits):
            terms = Terms(problem)
            blocks = {"spread": spread(terms), "scale": scale(terms), "floor": floor(terms)}
            if _accurate(blocks, problem.dtype):
                return written(blocks, problem.dtype)
        bits *= 2


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
                else scientific(_exact(ball.abs_upper()), 3, up=True)
                for ball, size in zip(blocks[kind][name], blocks["scale"][name], strict=True)
            ]
            for kind in KINDS
        }
        for name in blocks["scale"]
    }


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
        self.log_pi = dict(zip(self.on, log_softmax([problem.logits[k] for k in self.on])[0]))
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
        return sum(rest) * size[k] + dot([r[j] for j in self.on if j != k],
                                         [size[j] for j in self.on if j != k]) + log_sum


def spread(terms: Terms) -> Blocks:
    """u sum_j |theta_j df_i/dtheta_j|, the x of each row and the weights among the inputs."""
    problem, on, c, resp = terms.problem, terms.on, terms.c, terms.resp
    n_dims = len(problem.means[0])
    x = [[arb(v) for v in row] for row in problem.x]
    mean_pull = [  # sum_k r_nk y_nk = -dl_n/dx_n
        [dot([resp[n][k] for k in on], [terms.component[k].y[n][d] for k in on])
         for d in range(n_dims)] for n in terms.rows
    ]

    def weighted(values: list[arb]) -> arb:
        """Sum |w_n df/dw_n| of an output that is sum_n c_n values_n."""
        if problem.weights is None:
            return arb(0)
        centre = dot(c, values) if problem.reduction == "mean" else arb(0)
        return sum((abs(a * (v - centre)) for a, v in zip(c, values, strict=True)), arb(0))

    # the value
    nll = weighted(terms.log_likelihood)
    gradient = {}
    for k in on:
        slopes, share = terms.component[k].slope, [c[n] * resp[n][k] for n in terms.rows]
        gradient[k] = [dot(share, [s[i] for s in slopes]) for i in range(len(slopes[0]))]
        nll += sum((abs(a * b) for a, b in zip(terms.component[k].theta, gradient[k])), arb(0))
        a = problem.logits[k]
        nll += abs(a * sum((c[n] * (terms.pi[k] - resp[n][k]) for n in terms.rows), arb(0)))
    for n in terms.rows:
        nll += c[n] * dot(map(abs, x[n]), map(abs, mean_pull[n]))

    d_logits = [arb(0)] * len(problem.logits)
    d_means = [[arb(0)] * n_dims for _ in problem.logits]
    d_chol = [[arb(0)] * (n_dims * (n_dims + 1) // 2) for _ in problem.logits]
    for k in on:
        own, total = terms.component[k], arb(0)
        for i in on:  # logits
            total += abs(arb(problem.logits[i]) * sum(
                (c[n] * (resp[n][k] * ((i == k) - resp[n][i])
                         - terms.pi[k] * ((i == k) - terms.pi[i])) for n in terms.rows), arb(0)))
        for j in on:  # means and factors
            share = [c[n] * resp[n][j] * ((j == k) - resp[n][k]) for n in terms.rows]
            slopes = terms.component[j].slope
            for i, theta in enumerate(terms.component[j].theta):
                if theta != 0:
                    total += abs(theta * dot(share, [s[i] for s in slopes]))
        for n in terms.rows:
            for d in range(n_dims):
                total += abs(x[n][d] * c[n] * resp[n][k] * (mean_pull[n][d] - own.y[n][d]))
        total += weighted([terms.pi[k] - resp[n][k] for n in terms.rows])
        d_logits[k] = total
        rows = hessian_rows(terms, k)
        for i, sum_of_parameters in enumerate(rows):
            total = sum_of_parameters
            for n in terms.rows:
                r, slope = c[n] * resp[n][k], own.slope[n][i]
                for d in range(n_dims):
                    if problem.x[n][d]:
                        bend = own_second(own, n, i, d, n_dims) - slope * (mean_pull[n][d] - own.y[n][d])
                        total += abs(x[n][d] * r * bend)
            total += weighted([resp[n][k] * own.slope[n][i] for n in terms.rows])
            if i < n_dims:
                d_means[k][i] = total
            else:
                d_chol[k][i - n_dims] = total
    u = terms.u
    return {
        "nll": [u * nll],
        "logits": [u * v for v in d_logits],
        "means": [u * v for mean in d_means for v in mean],
        "chol": [u * v for factor in d_chol for v in factor],
    }


def own_second(own: Component, n: int, i: int, d: int, n_dims: int) -> arb:
    """d^2 t / dtheta_i dmu_d at row n."""
    if i < n_dims:
        return -own.precision[i, d]
    a, b = own.packed[i - n_dims]
    return -own.precision[d, a] * own.z[n][b] - own.inverse[b, d] * own.y[n][a]


def hessian_rows(terms: Terms, k: int) -> list[arb]:
    """Sums over logits, means and factors of |theta_j d^2 f/dtheta_i dtheta_j|, for each i of k."""
    own, c, resp, rows = terms.component[k], terms.c, terms.resp, terms.rows
    n_dims, size = len(own.y[0]), len(own.theta)
    slope = arb_mat([[own.slope[n][i] for n in rows] for i in range(size)])
    totals = [arb(0)] * size
    for j in terms.on:
        other = terms.component[j]
        share = [c[n] * resp[n][k] * ((j == k) - resp[n][j]) for n in rows]
        active = [i for i, theta in enumerate(other.theta) if theta != 0]
        mixed = arb_mat([[share[n] * other.slope[n][i] * other.theta[i] for i in active]
                         for n in rows]) if active else None
        logit = arb(terms.problem.logits[j])
        through = slope * arb_mat([[s] for s in share])
        for i in range(size):
            totals[i] += abs(logit * through[i, 0])
        if mixed is None:
            continue
        block = (slope * mixed).entries()
        width = len(active)
        bend = bending(terms, k) if j == k else None
        for i in range(size):
            line = block[i * width : (i + 1) * width]
            if bend is not None:
                line = [v + own.theta[a] * bend(i, a) for v, a in zip(line, active, strict=True)]
            totals[i] += sum(map(abs, line), arb(0))
    del n_dims
    return totals


def bending(terms: Terms, k: int) -> Any:
    """Sum c_n r_nk d^2 t_nk / dtheta_i dtheta_j, as a function of i and j."""
    own, rows = terms.component[k], terms.rows
    n_dims = len(own.y[0])
    share = [terms.c[n] * terms.resp[n][k] for n in rows]
    mass = sum(share, arb(0))
    z = arb_mat([[own.z[n][d] for n in rows] for d in range(n_dims)])
    y = arb_mat([[own.y[n][d] for n in rows] for d in range(n_dims)])
    sz = arb_mat([[share[n] * own.z[n][d] for d in range(n_dims)] for n in rows])
    zz, yz = (z * sz).tolist(), (y * sz).tolist()
    z1, y1 = [dot(share, [own.z[n][d] for n in rows]) for d in range(n_dims)], [
        dot(share, [own.y[n][d] for n in rows]) for d in range(n_dims)]
    precision, inverse = own.precision.tolist(), own.inverse.tolist()
    packed = own.packed

    def second(i: int, j: int) -> arb:
        if i < n_dims and j < n_dims:
            return -precision[i][j] * mass
        if i < n_dims:
            a, b = packed[j - n_dims]
            return -precision[i][a] * z1[b] - inverse[b][i] * y1[a]
        if j < n_dims:
            return second(j, i)
        a, b = packed[i - n_dims]
        p, q = packed[j - n_dims]
        value = precision[a][p] * zz[b][q] + inverse[q][a] * yz[p][b] + inverse[b][p] * yz[a][q]
        if i == j and a == b:
            return mass / own.lower[a, a] ** 2 - value
        return -value

    return second


def scale(terms: Terms) -> Blocks:
    """Sums of absolute addends."""
    nll = arb(0)
    for n in terms.rows:
        carried = dot([terms.resp[n][k] for k in terms.on], [terms.size[n][k] for k in terms.on])
        nll += terms.c[n] * (abs(terms.log_likelihood[n]) + carried)
    entropy = dot([terms.pi[k] for k in terms.on], [abs(terms.log_pi[k]) for k in terms.on])
    mass = sum(terms.c, arb(0))
    prior = {
        k: mass * terms.pi[k] * (1 + abs(terms.log_pi[k]) + entropy) for k in terms.on
    }
    blocks = _addends(terms, lambda n, k: (terms.resp[n][k], 1 + terms.lost(n, k), True))
    logits = [prior.get(k, arb(0)) + v for k, v in enumerate(blocks["logits"])]
    return {"nll": [nll]} | blocks | {"logits": logits}


def floor(terms: Terms) -> Blocks:
    """What flushed responsibilities and subnormal rounding take."""
    limit = arb(FLUSHED[terms.problem.dtype])
    blocks = _addends(terms, lambda n, k: (smaller(terms.resp[n][k], limit), arb(1), False))
    grid = arb(SMALLEST[terms.problem.dtype]) * (sum(terms.problem.multiplicity) + 1)
    return {"nll": [grid]} | {
        name: [v + grid for v in block] for name, block in blocks.items()
    }


def _addends(terms: Terms, factors: Any) -> Blocks:
    """Sum over rows of the gradients' addends: share, what multiplies it, and the solves' errors."""
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


def log_softmax(terms: list[Any]) -> tuple[list[arb], arb]:
    """Return the terms less the logarithm of the sum of their exponentials, and that logarithm."""
    balls = [arb(t) for t in terms]
    top = max(balls, key=lambda ball: ball.mid()).mid()
    log_sum = sum(((b - top).exp() for b in balls), arb(0)).log()
    return [(b - top) - log_sum for b in balls], top + log_sum


def columns(matrix: arb_mat) -> list[list[arb]]:
    """Return the columns as lists."""
    return matrix.transpose().tolist()


def absolute(matrix: arb_mat) -> arb_mat:
    """Return the matrix of absolute values."""
    return arb_mat([[abs(v) for v in row] for row in matrix.tolist()])


def dot(a: Any, b: Any) -> arb:
    """Sum of products."""
    return sum((p * q for p, q in zip(a, b, strict=True)), arb(0))


def smaller(a: arb, b: arb) -> arb:
    """Return the smaller of two."""
    return a if a.mid() < b.mid() else b
