# ruff: noqa: ARG005 (a wrong form takes all arguments, and often forgets one)
"""Wrong forms of the primitives: logsumexp, log_softmax, quadratic form, log-determinant.

By function and output; each takes the arguments of the function.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.lesson.mistake import MISSING, REDUCTION, SIGN, TRANSPOSE, TRIANGLE, TWO, Mistake


def lse(terms: FloatArray) -> FloatArray:
    """Return the plain logsumexp over the last axis."""
    return np.asarray(np.log(np.exp(terms).sum(axis=-1)))


def solve(factor: FloatArray, x: FloatArray, mean: FloatArray) -> FloatArray:
    """Return z = L^-1 e, a row a sample."""
    return np.asarray(np.linalg.solve(factor, (x - mean).T).T)


def square(rows: FloatArray) -> FloatArray:
    """Return the squared lengths of rows."""
    return np.asarray((rows**2).sum(axis=1))


def _back(d: FloatArray, *c: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return d_e = 2 d y, and z."""
    _, _, factor, z = c
    return 2 * d[:, None] * np.linalg.solve(factor.T, z.T).T, z


_OVER_SAMPLES: Final = "over the samples, not over the components"

PRIMITIVES: Final[dict[str, list[Mistake]]] = {
    "logsumexp_forward.value": [
        Mistake(
            MISSING,
            "the largest term, which was taken out, is not put back",
            lambda t: lse(t) - t.max(axis=-1),
        ),
        Mistake(MISSING, "only the largest term is there", lambda t: t.max(axis=-1)),
        Mistake(MISSING, "the logarithm", lambda t: np.exp(t).sum(axis=-1)),
        Mistake(
            REDUCTION,
            "a mean over the components, not a sum",
            lambda t: lse(t) - math.log(t.shape[-1]),
        ),
        Mistake(REDUCTION, _OVER_SAMPLES, lambda t: lse(t.T)),
        Mistake(REDUCTION, "over everything at once", lambda t: lse(t.ravel())),
    ],
    "logsumexp_forward.softmax": [
        Mistake(
            MISSING, "it is not normalised", lambda t: np.exp(t - t.max(axis=-1, keepdims=True))
        ),
        Mistake(MISSING, "it is not normalised", np.exp),
        Mistake(MISSING, "the exponential: this is its logarithm", lambda t: t - lse(t)[..., None]),
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
        Mistake(MISSING, "the logarithm: this is the softmax", lambda a: np.exp(a - lse(a))),
        Mistake(SIGN, "the logsumexp is added, not subtracted", lambda a: a + lse(a)),
        Mistake(
            REDUCTION, "a mean of exponentials, not a sum", lambda a: a - np.log(np.exp(a).mean())
        ),
    ],
    "log_softmax_forward.pi": [
        Mistake(MISSING, "it is not normalised", np.exp),
        Mistake(MISSING, "it is not normalised", lambda a: np.exp(a - a.max())),
        Mistake(MISSING, "the exponential: this is its logarithm", lambda a: a - lse(a)),
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
            lambda x, m, L: square(solve(L.T, x, m)),
        ),
        Mistake(MISSING, "nothing is solved: |e|^2", lambda x, m, L: square(x - m)),
        Mistake(MISSING, "the mean is not subtracted", lambda x, m, L: square(solve(L, x, 0 * m))),
        Mistake(
            MISSING,
            "one solve of two: e^T L^-1 e takes L for the covariance",
            lambda x, m, L: ((x - m) * solve(L, x, m)).sum(axis=1),
        ),
        Mistake(
            TWO,
            "the square is missing: a length, not a squared length",
            lambda x, m, L: np.sqrt(square(solve(L, x, m))),
        ),
        Mistake(
            MISSING,
            "multiplied by L, not solved with it",
            lambda x, m, L: square((x - m) @ L.T),
        ),
        Mistake(
            REDUCTION,
            "summed over the samples as well",
            lambda x, m, L: square(solve(L, x, m)).sum(),
        ),
        Mistake(
            REDUCTION,
            "a mean over the dimensions, not a sum",
            lambda x, m, L: square(solve(L, x, m)) / len(m),
        ),
        Mistake(
            REDUCTION,
            "summed over the samples, not over the dimensions",
            lambda x, m, L: (solve(L, x, m) ** 2).sum(axis=0),
        ),
    ],
    "quadratic_form_forward.z": [
        Mistake(TRANSPOSE, "solved with L^T, not with L", lambda x, m, L: solve(L.T, x, m)),
        Mistake(TRANSPOSE, "samples stand in columns", lambda x, m, L: solve(L, x, m).T),
        Mistake(MISSING, "nothing is solved", lambda x, m, L: x - m),
        Mistake(MISSING, "the mean is not subtracted", lambda x, m, L: solve(L, x, 0 * m)),
        Mistake(MISSING, "multiplied by L, not solved", lambda x, m, L: (x - m) @ L.T),
        Mistake(MISSING, "solved once too often: this is y", lambda x, m, L: solve(L @ L.T, x, m)),
    ],
    "quadratic_form_backward.d_x": [
        Mistake(MISSING, "the second solve: z in place of y", lambda d, *c: 2 * d[:, None] * c[3]),
        Mistake(MISSING, "both solves", lambda d, *c: 2 * d[:, None] * (c[0] - c[1])),
        Mistake(MISSING, "d_quadratic does not enter", lambda d, *c: _back(1 + 0 * d, *c)[0]),
        Mistake(
            TRANSPOSE,
            "solved with L where L^T belongs",
            lambda d, *c: 2 * d[:, None] * np.linalg.solve(c[2], c[3].T).T,
        ),
        Mistake(REDUCTION, "summed over the samples", lambda d, *c: _back(d, *c)[0].sum(axis=0)),
    ],
    "quadratic_form_backward.d_mean": [
        Mistake(
            REDUCTION,
            "a mean over the samples, not a sum",
            lambda d, *c: -_back(d, *c)[0].mean(axis=0),
        ),
        Mistake(REDUCTION, "not summed over the samples", lambda d, *c: -_back(d, *c)[0]),
        Mistake(
            REDUCTION,
            "summed over the dimensions, not over the samples",
            lambda d, *c: -_back(d, *c)[0].sum(axis=1),
        ),
        Mistake(
            MISSING,
            "the second solve: z in place of y",
            lambda d, *c: -(2 * d[:, None] * c[3]).sum(axis=0),
        ),
        Mistake(
            MISSING,
            "d_quadratic does not enter",
            lambda d, *c: -_back(1 + 0 * d, *c)[0].sum(axis=0),
        ),
    ],
    "quadratic_form_backward.d_factor": [
        Mistake(
            TRIANGLE,
            "entries above the diagonal are not parameters: keep the lower triangle",
            lambda d, *c: -(_back(d, *c)[0].T @ c[3]),
        ),
        Mistake(
            TRIANGLE,
            "this keeps the upper triangle, not the lower",
            lambda d, *c: -np.triu(_back(d, *c)[0].T @ c[3]),
        ),
        Mistake(
            TRANSPOSE,
            "z d_e^T in place of d_e z^T",
            lambda d, *c: -np.tril(c[3].T @ _back(d, *c)[0]),
        ),
        Mistake(
            REDUCTION,
            "a mean over the samples, not a sum",
            lambda d, *c: -np.tril(_back(d, *c)[0].T @ c[3]) / len(d),
        ),
        Mistake(
            MISSING,
            "a solve: z z^T in place of y z^T",
            lambda d, *c: -np.tril((2 * d[:, None] * c[3]).T @ c[3]),
        ),
        Mistake(
            MISSING,
            "the residual in place of z: y e^T is the gradient of another thing",
            lambda d, *c: -np.tril(_back(d, *c)[0].T @ (c[0] - c[1])),
        ),
        Mistake(
            MISSING,
            "the diagonal: tril was told to start below it",
            lambda d, *c: -np.tril(_back(d, *c)[0].T @ c[3], -1),
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
}
