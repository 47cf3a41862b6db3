# ruff: noqa: ARG001, ARG002, ARG005  (a step takes all arguments, and may use a few)
"""Families of covariances by their full factors, and their mutants.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import Answer, Plain, mutant

_PLAIN: Final = Plain()


class PlainDiag:
    """Standard deviations [K, D]: full factors that are diagonal, and the diagonals of gradients.

    Called with x [N, D], logits [K], means [K, D] and the scale; an attribute of its family's name
    is the call itself.
    """

    name = "plain_diag"
    by_rounding = False
    refuses = False

    def __call__(
        self,
        x: Any,
        logits: Any,
        means: Any,
        scale: Any,
        *,
        sample_weight: Any = None,
        reduction: str = "mean",
    ) -> Answer:
        """Value, and gradients of logits [K], means [K, D] and the scale."""
        scale, shape = np.asarray(scale, dtype=np.float64), np.shape(means)
        if scale.shape != self.shape(*shape):
            raise ValueError("scale has another shape.")
        with np.errstate(all="ignore"):
            value, d_logits, d_means, d_chol = self.answer(
                x, logits, means, self.expand(scale, *shape), sample_weight, reduction
            )
            return value, d_logits, d_means, self.reduce(d_chol, scale)

    diag = tied = spherical = __call__

    def answer(self, *arguments: Any) -> Answer:
        """Value and gradients by full factors."""
        return _PLAIN.answer(*arguments)

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        """Shape of the scale."""
        return k, d

    def expand(self, scale: FloatArray, k: int, d: int) -> FloatArray:
        """Full factors [K, D, D]."""
        return scale[:, :, None] * np.eye(d)

    def reduce(self, d_chol: FloatArray, scale: FloatArray) -> FloatArray:
        """Gradient of the scale from that of full factors."""
        return np.array(np.diagonal(d_chol, axis1=1, axis2=2))


class PlainTied(PlainDiag):
    """One factor [D, D] for all components: the sum of their gradients."""

    name = "plain_tied"

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        """Shape of the scale."""
        return d, d

    def expand(self, scale: FloatArray, k: int, d: int) -> FloatArray:
        """Full factors [K, D, D]."""
        return np.tile(scale, (k, 1, 1))

    def reduce(self, d_chol: FloatArray, scale: FloatArray) -> FloatArray:
        """Gradient of the scale from that of full factors."""
        return np.asarray(d_chol.sum(axis=0))


class PlainSpherical(PlainDiag):
    """One standard deviation a component [K]: the trace of its gradient."""

    name = "plain_spherical"

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        """Shape of the scale."""
        return (k,)

    def expand(self, scale: FloatArray, k: int, d: int) -> FloatArray:
        """Full factors [K, D, D]."""
        return scale[:, None, None] * np.eye(d)

    def reduce(self, d_chol: FloatArray, scale: FloatArray) -> FloatArray:
        """Gradient of the scale from that of full factors."""
        return np.asarray(np.trace(d_chol, axis1=1, axis2=2))


def _of_variance(base: type[PlainDiag]) -> dict[str, Any]:
    """Return steps that take the scale for a variance."""
    return {
        "expand": lambda m, scale, k, d: base.expand(m, np.sqrt(scale), k, d),
        "reduce": lambda m, d_chol, scale: base.reduce(m, d_chol, scale) * 0.5 / np.sqrt(scale),
    }


def _log_det_once(m: Any, x: Any, logits: Any, means: Any, chol: FloatArray, *rest: Any) -> Answer:
    once = mutant(
        "once",
        "The logarithm of a deviation is counted once, not D times.",
        half_log_det=lambda m, factor: float(np.log(factor[0, 0])),
        half_log_det_backward=lambda m, factor: np.diag(1.0 / np.diagonal(factor) / len(factor)),
    )
    answer: Answer = once.answer(x, logits, means, chol, *rest)
    return answer


_diag: Final = partial(mutant, base=PlainDiag)
_tied: Final = partial(mutant, base=PlainTied)
_spherical: Final = partial(mutant, base=PlainSpherical)
# fmt: off
DIAG: Final = (
    _diag("diag_of_variances", "Variances are taken for standard deviations, column by column.",
          **_of_variance(PlainDiag)),
    _diag("diag_of_first", "All components have the deviations of the first.",
          expand=lambda m, scale, k, d: PlainDiag.expand(m, np.tile(scale[:1], (k, 1)), k, d)),
    _diag("diag_mean_of_columns", "The gradient of each deviation is the mean over the columns.",
          reduce=lambda m, d_chol, scale: np.tile(
              PlainDiag.reduce(m, d_chol, scale).mean(axis=1, keepdims=True), scale.shape[1])),
    _diag("diag_gradient_of_log",
          "The gradient is that of the logarithm of a deviation, column by column.",
          reduce=lambda m, d_chol, scale: scale * PlainDiag.reduce(m, d_chol, scale)),
)
TIED: Final = (
    _tied("tied_mean_of_components",
          "The gradient of the shared factor is the mean over the components, not their sum.",
          reduce=lambda m, d_chol, scale: d_chol.mean(axis=0)),
    _tied("tied_gradient_of_first", "The gradient of the shared factor is that of the first "
          "component.", reduce=lambda m, d_chol, scale: d_chol[0]),
    _tied("tied_transposed", "The shared factor is taken transposed: Sigma = L^T L.",
          expand=lambda m, scale, k, d: np.tile(np.linalg.cholesky(scale.T @ scale), (k, 1, 1))),
    _tied("tied_symmetric", "The gradient of the shared factor is mirrored above its diagonal.",
          reduce=lambda m, d_chol, scale: (
              d_chol.sum(axis=0) + np.tril(d_chol.sum(axis=0), -1).T)),
)
SPHERICAL: Final = (
    _spherical("spherical_of_variances",
               "Variances are taken for standard deviations, component by component.",
               **_of_variance(PlainSpherical)),
    _spherical("spherical_mean_of_axes",
               "The gradient of a deviation is the mean over the axes, not their sum.",
               reduce=lambda m, d_chol, scale: (
                   np.trace(d_chol, axis1=1, axis2=2) / d_chol.shape[-1])),
    _spherical("spherical_log_det_once",
               "The log-determinant is the logarithm of the deviation, not D times that.",
               answer=_log_det_once),
    _spherical("spherical_gradient_of_log",
               "The gradient is that of the logarithm of a deviation, component by component.",
               reduce=lambda m, d_chol, scale: scale * np.trace(d_chol, axis1=1, axis2=2)),
)
