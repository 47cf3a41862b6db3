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


def weights_of(problem: Any) -> tuple[list[arb], arb]:
    """Return the weight of each row, times how often it stands in the data, and W."""
    weight = [arb(w) for w in problem.weights or [1.0] * len(problem.x)]
    weight = [w * c for w, c in zip(weight, problem.multiplicity, strict=True)]
    return weight, sum(weight, arb(0)) if problem.reduction == "mean" else arb(1)


def switched_on(logits: list[float]) -> list[int]:
    """Return the components that are on."""
    return [k for k, a in enumerate(logits) if a != -math.inf]


class Densities:
    """Weights and densities by inverses and determinants of the covariances that are on."""

    def __init__(
        self, logits: list[float], means: Any, inverse: dict[int, arb_mat], det: dict[int, arb]
    ) -> None:
        highest, n_dims = max(logits), len(means[0])
        share = {k: (arb(logits[k]) - arb(highest)).exp() for k in inverse}
        total_share = sum(share.values(), arb(0))
        self.on, self.inverse, self.means = list(inverse), inverse, means
        self.pi = {k: share[k] / total_share for k in self.on}
        self.normaliser = {k: ((2 * arb.pi()) ** n_dims * det[k]).sqrt() for k in self.on}

    @classmethod
    def by_covariances(
        cls, logits: list[float], means: Any, covariance: dict[int, arb_mat]
    ) -> Densities:
        """Return those of covariances."""
        inverse = {k: matrix.inv() for k, matrix in covariance.items()}
        return cls(logits, means, inverse, {k: m.det() for k, m in covariance.items()})

    def at(self, row: Any) -> tuple[dict[int, arb_mat], dict[int, arb], arb, arb]:
        """Return residuals, and densities, their sum and its exponent's shift, of a row."""
        x = arb_mat([[value] for value in row])
        e = {k: x - arb_mat([[value] for value in self.means[k]]) for k in self.on}
        half = {k: (e[k].transpose() * self.inverse[k] * e[k])[0, 0] / 2 for k in self.on}
        # A common exact factor, so that no exponential leaves even this arithmetic's range.
        shift = min((half[k] for k in self.on), key=lambda ball: ball.mid()).mid()
        phi = {k: (shift - half[k]).exp() / self.normaliser[k] for k in self.on}
        return e, phi, sum((self.pi[k] * phi[k] for k in self.on), arb(0)), shift


def of_factors(problem: Problem) -> Densities:
    """Return the densities of a problem by factors."""
    factor = {k: arb_mat(problem.factors[k]) for k in switched_on(problem.logits)}
    covariance = {k: f * f.transpose() for k, f in factor.items()}
    return Densities.by_covariances(problem.logits, problem.means, covariance)


def _evaluate(problem: Problem) -> Blocks:
    n_dims, n_components = len(problem.means[0]), len(problem.logits)
    densities = of_factors(problem)
    on, pi, inverse = densities.on, densities.pi, densities.inverse
    factor = {k: arb_mat(problem.factors[k]) for k in on}
    weight, divisor = weights_of(problem)

    nll = arb(0)
    d_logits = [arb(0)] * n_components
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
