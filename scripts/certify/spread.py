"""The spread of each output: how far half an ulp in each input moves it.

For the value these are gradients, for a gradient rows of the Hessian, both in closed form:

    dt/dmu = y,  dt/dL_ab = y_a z_b - delta_ab / L_aa,
    d^2 t/dmu_a dmu_b = -Lambda_ab,  d^2 t/dmu_a dL_cd = -Lambda_ac z_d - P_da y_c,
    d^2 t/dL_ab dL_cd = -Lambda_ac z_b z_d - P_da z_b y_c - P_bc y_a z_d [+ 1 / L_aa^2].
"""

from __future__ import annotations

from typing import Any

from flint import arb, arb_mat

from certify.agreement import Blocks
from certify.terms import Component, Terms, dot


def spread(terms: Terms) -> Blocks:
    """Return u sum_j |theta_j df_i/dtheta_j|, with x and the weights among the inputs."""
    problem, on, c, resp = terms.problem, terms.on, terms.c, terms.resp
    n_dims = len(problem.means[0])
    x = [[arb(v) for v in row] for row in problem.x]
    mean_pull = [  # sum_k r_nk y_nk = -dl_n/dx_n
        [
            dot([resp[n][k] for k in on], [terms.component[k].y[n][d] for k in on])
            for d in range(n_dims)
        ]
        for n in terms.rows
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
        nll += sum(
            (abs(a * b) for a, b in zip(terms.component[k].theta, gradient[k], strict=True)), arb(0)
        )
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
            total += abs(
                arb(problem.logits[i])
                * sum(
                    (
                        c[n]
                        * (
                            resp[n][k] * ((i == k) - resp[n][i])
                            - terms.pi[k] * ((i == k) - terms.pi[i])
                        )
                        for n in terms.rows
                    ),
                    arb(0),
                )
            )
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
                        bend = own_second(own, n, i, d, n_dims) - slope * (
                            mean_pull[n][d] - own.y[n][d]
                        )
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
    """Sum |theta_j d^2 f/dtheta_i dtheta_j| over logits, means and factors, for each i of k."""
    own, c, resp, rows = terms.component[k], terms.c, terms.resp, terms.rows
    size = len(own.theta)
    slope = arb_mat([[own.slope[n][i] for n in rows] for i in range(size)])
    totals = [arb(0)] * size
    for j in terms.on:
        other = terms.component[j]
        share = [c[n] * resp[n][k] * ((j == k) - resp[n][j]) for n in rows]
        active = [i for i, theta in enumerate(other.theta) if theta != 0]
        mixed = (
            arb_mat([[share[n] * other.slope[n][i] * other.theta[i] for i in active] for n in rows])
            if active
            else None
        )
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
    z1, y1 = (
        [dot(share, [own.z[n][d] for n in rows]) for d in range(n_dims)],
        [dot(share, [own.y[n][d] for n in rows]) for d in range(n_dims)],
    )
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
