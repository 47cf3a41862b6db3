# ruff: noqa: ARG005 (a wrong form takes all arguments, and often forgets one)
"""Wrong forms of the exercises, as people write them, each with the kind of its mistake.

A wrong form gives what one output of a function would be with that mistake, from the arguments of
the function. Which of them an answer equals is decided in `gmm_np.lesson.grading`.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np import reference
from gmm_np.checks import FloatArray

__all__ = ["KNOWN", "Mistake", "general"]

SIGN: Final = "a sign"
TRANSPOSE: Final = "a transpose"
MISSING: Final = "a missing term"
REDUCTION: Final = "a wrong reduction"
TWO: Final = "a factor of two"
TRIANGLE: Final = "an upper triangle"


class Mistake(NamedTuple):
    """A kind of mistake, what it is in words, and what it gives."""

    kind: str
    what: str
    wrong: Callable[..., Any]


def general(right: Any) -> Iterator[Mistake]:
    """Yield mistakes that any output can have, from the right one."""
    out = np.asarray(right, dtype=np.float64)
    yield Mistake(SIGN, "all of it has the opposite sign", lambda *_: -out)
    yield Mistake(TWO, "it is twice what it should be", lambda *_: 2 * out)
    yield Mistake(TWO, "it is half of what it should be", lambda *_: 0.5 * out)
    if out.ndim >= 2 and out.shape[-1] == out.shape[-2]:
        flipped = np.swapaxes(out, -1, -2)
        yield Mistake(TRANSPOSE, "it is the transpose of what it should be", lambda *_: flipped)


# --- the formulas that they bend ----------------------------------------------------------------


def _lse(terms: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.exp(terms).sum(axis=-1)))


def _solve(factor: FloatArray, x: FloatArray, mean: FloatArray) -> FloatArray:
    """Return z = L^-1 e, a row a sample."""
    return np.asarray(np.linalg.solve(factor, (x - mean).T).T)


def _square(rows: FloatArray) -> FloatArray:
    return np.asarray((rows**2).sum(axis=1))


def _back(d: FloatArray, cache: Any) -> tuple[FloatArray, FloatArray]:
    """Return d_e = 2 d y, and z."""
    _, _, factor, whitened = cache
    return 2 * d[:, None] * np.linalg.solve(factor.T, whitened.T).T, whitened


def _inside(factor: FloatArray, S: FloatArray) -> FloatArray:
    """Sigma^-1 S Sigma^-1 L, that is L^-T M."""
    inverse = np.linalg.inv(factor)
    return np.asarray(inverse.T @ inverse @ S @ inverse.T)


def _density(x: FloatArray, mean: FloatArray, s: FloatArray) -> tuple[FloatArray, float, float]:
    """Quadratic form [N], sum of logarithms, and (D/2) log(2 pi)."""
    return _square((x - mean) / s), float(np.log(s).sum()), 0.5 * s.size * math.log(2 * math.pi)


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
            [_square(_solve(L[k], x, means[k])) for k in range(len(L))], axis=1
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
        return -float(_lse(terms - constant * self.constant).mean())

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
            -(self.resp[:, k, None] * _solve(L, self.x, self.means[k])).mean(axis=0)
            for k, L in enumerate(self.factors)
        ]
        return np.stack(rows)


# --- the wrong forms ----------------------------------------------------------------------------

_OVER_SAMPLES: Final = "over the samples, not over the components"

KNOWN: Final[dict[str, list[Mistake]]] = {
    "logsumexp_forward.value": [
        Mistake(
            MISSING,
            "the largest term, which was taken out, is not put back",
            lambda t: _lse(t) - t.max(axis=-1),
        ),
        Mistake(MISSING, "only the largest term is there", lambda t: t.max(axis=-1)),
        Mistake(MISSING, "the logarithm", lambda t: np.exp(t).sum(axis=-1)),
        Mistake(
            REDUCTION,
            "a mean over the components, not a sum",
            lambda t: _lse(t) - math.log(t.shape[-1]),
        ),
        Mistake(REDUCTION, _OVER_SAMPLES, lambda t: _lse(t.T)),
        Mistake(REDUCTION, "over everything at once", lambda t: _lse(t.ravel())),
    ],
    "logsumexp_forward.softmax": [
        Mistake(
            MISSING, "it is not normalised", lambda t: np.exp(t - t.max(axis=-1, keepdims=True))
        ),
        Mistake(MISSING, "it is not normalised", np.exp),
        Mistake(
            MISSING, "the exponential: this is its logarithm", lambda t: t - _lse(t)[..., None]
        ),
        Mistake(
            REDUCTION, f"normalised {_OVER_SAMPLES}", lambda t: np.exp(t) / np.exp(t).sum(axis=0)
        ),
        Mistake(
            REDUCTION, "normalised over everything at once", lambda t: np.exp(t) / np.exp(t).sum()
        ),
    ],
    "logsumexp_backward.d_terms": [
        Mistake(MISSING, "d_value does not enter", lambda _, s: s),
        Mistake(MISSING, "the softmax does not enter", lambda d, s: d[:, None] + 0 * s),
        Mistake(REDUCTION, "d_value is summed over the samples", lambda d, s: d.sum() * s),
        Mistake(REDUCTION, "d_value is averaged over the samples", lambda d, s: d.mean() * s),
        Mistake(
            REDUCTION,
            "divided by the number of components",
            lambda d, s: d[:, None] * s / s.shape[1],
        ),
        Mistake(
            MISSING,
            "this is the backward of log_softmax: the logsumexp has no term of its own",
            lambda d, s: d[:, None] * (1 - s),
        ),
    ],
    "log_softmax_forward.log_pi": [
        Mistake(MISSING, "the logsumexp: only the largest is taken off", lambda a: a - a.max()),
        Mistake(MISSING, "the logarithm of the sum", lambda a: a - np.exp(a).sum()),
        Mistake(MISSING, "the logarithm: this is the softmax", lambda a: np.exp(a - _lse(a))),
        Mistake(SIGN, "the logsumexp is added, not subtracted", lambda a: a + _lse(a)),
        Mistake(
            REDUCTION, "a mean of exponentials, not a sum", lambda a: a - np.log(np.exp(a).mean())
        ),
    ],
    "log_softmax_forward.pi": [
        Mistake(MISSING, "it is not normalised", np.exp),
        Mistake(MISSING, "it is not normalised", lambda a: np.exp(a - a.max())),
        Mistake(MISSING, "the exponential: this is its logarithm", lambda a: a - _lse(a)),
    ],
    "log_softmax_backward.d_pi_logits": [
        Mistake(MISSING, "the second term, through the logsumexp", lambda d, _: d),
        Mistake(MISSING, "the first term, directly", lambda d, p: -p * d.sum()),
        Mistake(MISSING, "the weight pi before the sum", lambda d, _: d - d.sum()),
        Mistake(SIGN, "the second term is added", lambda d, p: d + p * d.sum()),
        Mistake(REDUCTION, "the second term is not summed", lambda d, p: d - p * d),
        Mistake(REDUCTION, "a mean in the second term", lambda d, p: d - p * d.mean()),
        Mistake(
            REDUCTION, "pi is inside the sum, as for a softmax", lambda d, p: d - (p * d).sum()
        ),
        Mistake(
            MISSING,
            "this is the backward of a softmax, not of its logarithm",
            lambda d, p: p * (d - (p * d).sum()),
        ),
    ],
    "quadratic_form_forward.quadratic": [
        Mistake(
            TRANSPOSE,
            "solved with L^T, not with L",
            lambda x, m, L: _square(_solve(L.T, x, m)),
        ),
        Mistake(MISSING, "nothing is solved: |e|^2", lambda x, m, L: _square(x - m)),
        Mistake(
            MISSING, "the mean is not subtracted", lambda x, m, L: _square(_solve(L, x, 0 * m))
        ),
        Mistake(
            MISSING,
            "one solve of two: e^T L^-1 e takes L for the covariance",
            lambda x, m, L: ((x - m) * _solve(L, x, m)).sum(axis=1),
        ),
        Mistake(
            TWO,
            "the square is missing: a length, not a squared length",
            lambda x, m, L: np.sqrt(_square(_solve(L, x, m))),
        ),
        Mistake(
            MISSING,
            "multiplied by L, not solved with it",
            lambda x, m, L: _square((x - m) @ L.T),
        ),
        Mistake(
            REDUCTION,
            "summed over the samples as well",
            lambda x, m, L: _square(_solve(L, x, m)).sum(),
        ),
        Mistake(
            REDUCTION,
            "a mean over the dimensions, not a sum",
            lambda x, m, L: _square(_solve(L, x, m)) / len(m),
        ),
        Mistake(
            REDUCTION,
            "summed over the samples, not over the dimensions",
            lambda x, m, L: (_solve(L, x, m) ** 2).sum(axis=0),
        ),
    ],
    "quadratic_form_forward.whitened": [
        Mistake(TRANSPOSE, "solved with L^T, not with L", lambda x, m, L: _solve(L.T, x, m)),
        Mistake(TRANSPOSE, "samples stand in columns", lambda x, m, L: _solve(L, x, m).T),
        Mistake(MISSING, "nothing is solved", lambda x, m, L: x - m),
        Mistake(MISSING, "the mean is not subtracted", lambda x, m, L: _solve(L, x, 0 * m)),
        Mistake(MISSING, "multiplied by L, not solved", lambda x, m, L: (x - m) @ L.T),
        Mistake(MISSING, "solved once too often: this is y", lambda x, m, L: _solve(L @ L.T, x, m)),
    ],
    "quadratic_form_backward.d_x": [
        Mistake(MISSING, "the second solve: z in place of y", lambda d, c: 2 * d[:, None] * c[3]),
        Mistake(MISSING, "both solves", lambda d, c: 2 * d[:, None] * (c[0] - c[1])),
        Mistake(MISSING, "d_quadratic does not enter", lambda d, c: _back(1 + 0 * d, c)[0]),
        Mistake(
            TRANSPOSE,
            "solved with L where L^T belongs",
            lambda d, c: 2 * d[:, None] * np.linalg.solve(c[2], c[3].T).T,
        ),
        Mistake(REDUCTION, "summed over the samples", lambda d, c: _back(d, c)[0].sum(axis=0)),
    ],
    "quadratic_form_backward.d_mean": [
        Mistake(
            REDUCTION,
            "a mean over the samples, not a sum",
            lambda d, c: -_back(d, c)[0].mean(axis=0),
        ),
        Mistake(REDUCTION, "not summed over the samples", lambda d, c: -_back(d, c)[0]),
        Mistake(
            REDUCTION,
            "summed over the dimensions, not over the samples",
            lambda d, c: -_back(d, c)[0].sum(axis=1),
        ),
        Mistake(
            MISSING,
            "the second solve: z in place of y",
            lambda d, c: -(2 * d[:, None] * c[3]).sum(axis=0),
        ),
        Mistake(
            MISSING,
            "d_quadratic does not enter",
            lambda d, c: -_back(1 + 0 * d, c)[0].sum(axis=0),
        ),
    ],
    "quadratic_form_backward.d_factor": [
        Mistake(
            TRIANGLE,
            "entries above the diagonal are not parameters: keep the lower triangle",
            lambda d, c: -(_back(d, c)[0].T @ c[3]),
        ),
        Mistake(
            TRIANGLE,
            "this keeps the upper triangle, not the lower",
            lambda d, c: -np.triu(_back(d, c)[0].T @ c[3]),
        ),
        Mistake(
            TRANSPOSE,
            "z d_e^T in place of d_e z^T",
            lambda d, c: -np.tril(c[3].T @ _back(d, c)[0]),
        ),
        Mistake(
            REDUCTION,
            "a mean over the samples, not a sum",
            lambda d, c: -np.tril(_back(d, c)[0].T @ c[3]) / len(d),
        ),
        Mistake(
            MISSING,
            "a solve: z z^T in place of y z^T",
            lambda d, c: -np.tril((2 * d[:, None] * c[3]).T @ c[3]),
        ),
        Mistake(
            MISSING,
            "the residual in place of z: y e^T is the gradient of another thing",
            lambda d, c: -np.tril(_back(d, c)[0].T @ (c[0] - c[1])),
        ),
        Mistake(
            MISSING,
            "the diagonal: tril was told to start below it",
            lambda d, c: -np.tril(_back(d, c)[0].T @ c[3], -1),
        ),
    ],
    "half_log_det_forward.half_log_det": [
        Mistake(MISSING, "the logarithm: a product", lambda L: np.prod(np.diag(L))),
        Mistake(MISSING, "the logarithm: a sum", lambda L: np.diag(L).sum()),
        Mistake(
            SIGN,
            "absolute values of the logarithms: those below 1 are negative",
            lambda L: np.abs(np.log(np.diag(L))).sum(),
        ),
        Mistake(
            REDUCTION, "a mean over the diagonal, not a sum", lambda L: np.log(np.diag(L)).mean()
        ),
        Mistake(REDUCTION, "not summed over the diagonal", lambda L: np.log(np.diag(L))),
        Mistake(
            REDUCTION,
            "the logarithm of the sum, not the sum of the logarithms",
            lambda L: np.log(np.diag(L).sum()),
        ),
    ],
    "half_log_det_backward.d_factor": [
        Mistake(
            TRIANGLE,
            "rows or columns are filled: only the diagonal enters the value",
            lambda d, g: d / g + np.zeros((len(g), len(g))),
        ),
        Mistake(
            TRIANGLE,
            "rows or columns are filled: only the diagonal enters the value",
            lambda d, g: (d / g)[:, None] + np.zeros((len(g), len(g))),
        ),
        Mistake(REDUCTION, "only the diagonal of the matrix, as a vector", lambda d, g: d / g),
        Mistake(MISSING, "d_half_log_det does not enter", lambda _, g: np.diag(1 / g)),
        Mistake(MISSING, "the division: multiplied by L_ii", lambda d, g: np.diag(d * g)),
        Mistake(MISSING, "the division by L_ii", lambda d, g: d * np.eye(len(g))),
        Mistake(REDUCTION, "divided by D, as a mean", lambda d, g: np.diag(d / g) / len(g)),
    ],
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
    KNOWN.setdefault(f"nll.{_name}", []).append(
        Mistake(
            REDUCTION,
            "a sum over the samples, not a mean",
            lambda *a, _name=_name: len(a[0]) * getattr(_Whole(*a), _name),
        )
    )
