# ruff: noqa: D102  (a step is documented where `Plain` has it)
"""Mutants that lose digits, where the plain form keeps them.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import Plain


class SinglePrecision(Plain):
    """Inputs are rounded to single precision."""

    name = "single_precision"

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        x, logits, means, chol, weight = super().check(x, logits, means, chol, weight)
        rounded = (a.astype(np.float32).astype(np.float64) for a in (x, logits, means, chol))
        return (*rounded, weight)


class ClampedVariance(Plain):
    """Standard deviations are clamped at 1e-5."""

    name = "clamped_variance"
    least = 1e-5

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        x, logits, means, chol, weight = super().check(x, logits, means, chol, weight)
        chol = chol.copy()
        i = np.arange(chol.shape[1])
        chol[:, i, i] = np.maximum(chol[:, i, i], self.least)
        return x, logits, means, chol, weight


class TinyVariance(ClampedVariance):
    """Standard deviations are clamped at 1e-100."""

    name = "tiny_variance"
    least = 1e-100


class AddedVariance(Plain):
    """1e-6 is added to the diagonal of each covariance, as regularised fits do."""

    name = "added_variance"

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        x, logits, means, chol, weight = super().check(x, logits, means, chol, weight)
        covariance = chol @ chol.transpose(0, 2, 1) + 1e-6 * np.eye(chol.shape[1])
        return x, logits, means, np.linalg.cholesky(covariance), weight


class CovarianceFormed(Plain):
    """The covariance is formed and factored again, which squares the condition number."""

    name = "covariance_formed"
    by_rounding = True

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        x, logits, means, chol, weight = super().check(x, logits, means, chol, weight)
        return x, logits, means, np.linalg.cholesky(chol @ chol.transpose(0, 2, 1)), weight


class CovarianceInverted(Plain):
    """The quadratic form is taken with an explicit inverse of the covariance."""

    name = "covariance_inverted"
    by_rounding = True

    def quadratic(
        self, x: FloatArray, mean: FloatArray, factor: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        residual = self.residual(x, mean)
        _, z = super().quadratic(x, mean, factor)
        return np.einsum(
            "ni,ij,nj->n", residual, np.linalg.inv(factor @ factor.T), residual, optimize=True
        ), z


class ExpandedSquare(Plain):
    """The square of a distance is expanded: |x|^2 - 2 x mu + |mu|^2, whitened; offsets cancel."""

    name = "expanded_square"
    by_rounding = True

    def quadratic(
        self, x: FloatArray, mean: FloatArray, factor: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        both = np.vstack([x, mean[None]])
        white = solve_triangular(factor, both.T, lower=True, check_finite=False).T
        rows, centre = white[:-1], white[-1]
        square = np.einsum("nd,nd->n", rows, rows) - 2.0 * rows @ centre + centre @ centre
        return square, rows - centre


class ThroughMoments(Plain):
    """The gradient is tril(Sigma^-1 S Sigma^-1 L) as it stands: L cancels what the solves did."""

    name = "through_moments"
    by_rounding = True

    def quadratic_backward(
        self,
        d_quadratic: FloatArray,
        x: FloatArray,
        mean: FloatArray,
        factor: FloatArray,
        z: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        d_mean, _ = super().quadratic_backward(d_quadratic, x, mean, factor, z)
        residual = self.residual(x, mean)
        precision = np.linalg.inv(factor @ factor.T)
        scatter = (d_quadratic[:, None] * residual).T @ residual
        return d_mean, -2.0 * precision @ scatter @ precision @ factor


class FlushedSubnormals(Plain):
    """Subnormal inputs are flushed to zero."""

    name = "flushed_subnormals"

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        x, logits, means, chol, weight = super().check(x, logits, means, chol, weight)
        flushed = (
            np.where(np.abs(a) < np.finfo(np.float64).tiny, 0.0, a)
            for a in (x, logits, means, chol)
        )
        return (*flushed, weight)
