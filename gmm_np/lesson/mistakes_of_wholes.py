# ruff: noqa: ARG005 (a wrong form takes all arguments, and often forgets one)
"""Wrong forms of the whole loss, of a diagonal family, and of a factor's gradient from S.

By function and output; each takes the arguments of the function. Letters in shapes: N samples, K
components, D dimensions.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from gmm_np import reference
from gmm_np.checks import FloatArray
from gmm_np.lesson.mistake import MISSING, REDUCTION, SIGN, TRANSPOSE, TRIANGLE, TWO, Mistake
from gmm_np.lesson.mistakes_of_primitives import lse, solve, square


def _inside(factor: FloatArray, S: FloatArray) -> FloatArray:
    """Sigma^-1 S Sigma^-1 L, that is L^-T M."""
    inverse = np.linalg.inv(factor)
    return np.asarray(inverse.T @ inverse @ S @ inverse.T)


def _density(x: FloatArray, mean: FloatArray, s: FloatArray) -> tuple[FloatArray, float, float]:
    """Quadratic form [N], sum of logarithms, and (D/2) log(2 pi)."""
    return square((x - mean) / s), float(np.log(s).sum()), 0.5 * s.size * math.log(2 * math.pi)


class _Whole:
    """The whole loss and its gradients, with places to bend."""

    def __init__(self, x: FloatArray, logits: FloatArray, means: FloatArray, L: FloatArray) -> None:
        self.value, cache = reference.nll_forward(x, logits, means, L)
        gradients = reference.nll_backward(cache)
        self.d_pi_logits, self.d_means, self.d_x = gradients.pi_logits, gradients.means, gradients.x
        self.d_scale_tril = np.asarray(gradients.scale)
        self.count, self.factors, self.resp, self.pi = len(x), L, cache.resp, cache.pi
        self.x, self.means, self.logits = x, means, logits
        self.half_log_det = np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1)  # [K]
        self.quadratic = np.stack(
            [square(solve(L[k], x, means[k])) for k in range(len(L))], axis=1
        )  # [N, K]
        self.constant = 0.5 * x.shape[1] * math.log(2 * math.pi)

    def loss(
        self,
        log_pi: Any = None,
        quadratic: float = 0.5,
        log_det: float = 1,
        constant: float = 1,
    ) -> float:
        """Return the loss with other factors before its terms."""
        weights = np.log(self.pi) if log_pi is None else log_pi
        terms = weights - quadratic * self.quadratic - log_det * self.half_log_det
        return -float(lse(terms - constant * self.constant).mean())

    def of_determinant(self) -> FloatArray:
        """Return the factors' gradient through the log-determinant alone [K, D, D]."""
        share = self.resp.mean(axis=0)
        return np.stack(
            [n * np.diag(1 / np.diag(L)) for n, L in zip(share, self.factors, strict=True)]
        )

    def dense(self) -> FloatArray:
        """Return the gradient of the factors without tril [K, D, D]."""
        inside = []
        for k, L in enumerate(self.factors):
            e = self.x - self.means[k]
            inside.append(_inside(L, (self.resp[:, k, None] * e).T @ e / self.count))
        return np.asarray(self.of_determinant() - np.stack(inside))

    def mean_by_whitened(self) -> FloatArray:
        """Return the gradient of the means with one solve where two belong [K, D]."""
        rows = [
            -(self.resp[:, k, None] * solve(L, self.x, self.means[k])).mean(axis=0)
            for k, L in enumerate(self.factors)
        ]
        return np.stack(rows)


WHOLES: Final[dict[str, list[Mistake]]] = {
    "nll.value": [
        Mistake(
            REDUCTION, "a sum over the samples, not a mean", lambda *a: len(a[0]) * _Whole(*a).value
        ),
        Mistake(MISSING, "(D/2) log(2 pi)", lambda *a: _Whole(*a).loss(constant=0)),
        Mistake(MISSING, "the log-determinant", lambda *a: _Whole(*a).loss(log_det=0)),
        Mistake(MISSING, "the logits are not normalised", lambda *a: _Whole(*a).loss(log_pi=a[1])),
        Mistake(MISSING, "the weights of the components", lambda *a: _Whole(*a).loss(log_pi=0.0)),
        Mistake(TWO, "the half before the quadratic form", lambda *a: _Whole(*a).loss(quadratic=1)),
        Mistake(TWO, "the whole log-determinant, not half", lambda *a: _Whole(*a).loss(log_det=2)),
        Mistake(SIGN, "the log-determinant is added", lambda *a: _Whole(*a).loss(log_det=-1)),
        Mistake(SIGN, "the constant is added", lambda *a: _Whole(*a).loss(constant=-1)),
    ],
    "nll.d_pi_logits": [
        Mistake(
            MISSING, "through the normalisation: pi_k", lambda *a: -_Whole(*a).resp.mean(axis=0)
        ),
        Mistake(
            SIGN,
            "the second term is added",
            lambda *a: -_Whole(*a).resp.mean(axis=0) - _Whole(*a).pi,
        ),
    ],
    "nll.d_means": [
        Mistake(
            MISSING, "the second solve: z in place of y", lambda *a: _Whole(*a).mean_by_whitened()
        ),
    ],
    "nll.d_scale_tril": [
        Mistake(
            MISSING,
            "what comes through the log-determinant",
            lambda *a: _Whole(*a).d_scale_tril - _Whole(*a).of_determinant(),
        ),
        Mistake(
            MISSING, "what comes through the quadratic form", lambda *a: _Whole(*a).of_determinant()
        ),
        Mistake(
            SIGN,
            "of what comes through the log-determinant",
            lambda *a: _Whole(*a).d_scale_tril - 2 * _Whole(*a).of_determinant(),
        ),
        Mistake(
            TRIANGLE,
            "entries above the diagonal are not parameters: keep the lower triangle",
            lambda *a: _Whole(*a).dense(),
        ),
    ],
    "diagonal_log_density_forward.log_density": [
        Mistake(MISSING, "(D/2) log(2 pi)", lambda *a: -_density(*a)[0] / 2 - _density(*a)[1]),
        Mistake(MISSING, "the log-determinant", lambda *a: -_density(*a)[0] / 2 - _density(*a)[2]),
        Mistake(
            TWO,
            "the half before the quadratic form",
            lambda *a: -_density(*a)[0] - _density(*a)[1] - _density(*a)[2],
        ),
        Mistake(
            TWO,
            "the whole log-determinant, not half",
            lambda *a: -_density(*a)[0] / 2 - 2 * _density(*a)[1] - _density(*a)[2],
        ),
        Mistake(
            TWO,
            "deviations are taken for variances: divide by s twice",
            lambda x, m, s: -_density(x, m, np.sqrt(s))[0] / 2 - sum(_density(x, m, s)[1:]),
        ),
        Mistake(
            SIGN,
            "the log-determinant is added",
            lambda *a: -_density(*a)[0] / 2 + _density(*a)[1] - _density(*a)[2],
        ),
        Mistake(
            SIGN,
            "absolute values of the logarithms: those below 1 are negative",
            lambda *a: -_density(*a)[0] / 2 - np.abs(np.log(a[2])).sum() - _density(*a)[2],
        ),
        Mistake(
            REDUCTION,
            "summed over the samples",
            lambda *a: (-_density(*a)[0] / 2 - _density(*a)[1] - _density(*a)[2]).sum(),
        ),
    ],
    "diagonal_log_density_backward.d_mean": [
        Mistake(MISSING, "a division by s", lambda d, x, m, s: d @ ((x - m) / s)),
        Mistake(
            REDUCTION,
            "a mean over the samples, not a sum",
            lambda d, x, m, s: d @ ((x - m) / s**2) / len(x),
        ),
        Mistake(
            REDUCTION, "not summed over the samples", lambda d, x, m, s: d[:, None] * (x - m) / s**2
        ),
        Mistake(
            MISSING, "d_log_density does not enter", lambda d, x, m, s: ((x - m) / s**2).sum(axis=0)
        ),
    ],
    "diagonal_log_density_backward.d_deviation": [
        Mistake(
            MISSING,
            "-1/s, through the log-determinant",
            lambda d, x, m, s: d @ ((x - m) ** 2 / s**3),
        ),
        Mistake(MISSING, "through the quadratic form", lambda d, x, m, s: -d.sum() / s),
        Mistake(
            MISSING,
            "a division by s in the first term",
            lambda d, x, m, s: d @ ((x - m) ** 2 / s**2 - 1 / s),
        ),
        Mistake(SIGN, "of 1/s", lambda d, x, m, s: d @ ((x - m) ** 2 / s**3 + 1 / s)),
        Mistake(SIGN, "of the first term", lambda d, x, m, s: d @ (-((x - m) ** 2) / s**3 - 1 / s)),
        Mistake(
            TWO,
            "a half before the first term: the derivative of a square takes it away",
            lambda d, x, m, s: d @ (0.5 * (x - m) ** 2 / s**3 - 1 / s),
        ),
        Mistake(
            REDUCTION,
            "-1/s is there once, not once a sample",
            lambda d, x, m, s: d @ ((x - m) ** 2 / s**3) - 1 / s,
        ),
        Mistake(
            REDUCTION,
            "a mean over the samples, not a sum",
            lambda d, x, m, s: d @ ((x - m) ** 2 / s**3 - 1 / s) / len(x),
        ),
    ],
    "factor_gradient.d_factor": [
        Mistake(MISSING, "n diag(1 / L_ii)", lambda L, n, S: -np.tril(_inside(L, S))),
        Mistake(MISSING, "the term with S", lambda L, n, S: n * np.diag(1 / np.diag(L))),
        Mistake(
            MISSING,
            "n before diag(1 / L_ii)",
            lambda L, n, S: np.diag(1 / np.diag(L)) - np.tril(_inside(L, S)),
        ),
        Mistake(
            MISSING,
            "the last factor L",
            lambda L, n, S: n * np.diag(1 / np.diag(L)) - np.tril(_inside(L, S) @ np.linalg.inv(L)),
        ),
        Mistake(
            SIGN,
            "the term with S is added",
            lambda L, n, S: n * np.diag(1 / np.diag(L)) + np.tril(_inside(L, S)),
        ),
        Mistake(
            TRIANGLE,
            "entries above the diagonal are not parameters: keep the lower triangle",
            lambda L, n, S: n * np.diag(1 / np.diag(L)) - _inside(L, S),
        ),
        Mistake(
            TRIANGLE,
            "this keeps the upper triangle, not the lower",
            lambda L, n, S: n * np.diag(1 / np.diag(L)) - np.triu(_inside(L, S)),
        ),
        Mistake(
            TRANSPOSE,
            "the product in the reverse order",
            lambda L, n, S: n * np.diag(1 / np.diag(L)) - np.tril(_inside(L, S).T),
        ),
        Mistake(
            TRANSPOSE,
            "the last factor is L^T in place of L",
            lambda L, n, S: (
                n * np.diag(1 / np.diag(L)) - np.tril(_inside(L, S) @ np.linalg.inv(L) @ L.T)
            ),
        ),
        Mistake(
            TRANSPOSE,
            "Sigma = L^T L in place of L L^T",
            lambda L, n, S: (
                n * np.diag(1 / np.diag(L))
                - np.tril(np.linalg.solve(L.T @ L, S) @ np.linalg.inv(L.T @ L) @ L)
            ),
        ),
        Mistake(
            TWO,
            "a half before the term with S",
            lambda L, n, S: n * np.diag(1 / np.diag(L)) - 0.5 * np.tril(_inside(L, S)),
        ),
        Mistake(
            TWO,
            "two before the term with S",
            lambda L, n, S: n * np.diag(1 / np.diag(L)) - 2 * np.tril(_inside(L, S)),
        ),
    ],
}

# The whole is a mean: its gradients summed over the samples are N times what they should be.
for _name in ("d_pi_logits", "d_means", "d_scale_tril", "d_x"):
    WHOLES.setdefault(f"nll.{_name}", []).append(
        Mistake(
            REDUCTION,
            "a sum over the samples, not a mean",
            lambda *a, _name=_name: len(a[0]) * getattr(_Whole(*a), _name),
        )
    )
