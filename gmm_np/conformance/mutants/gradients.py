# ruff: noqa: D102  (a step is documented where `Plain` has it)
"""Mutants of the gradients of means and factors: the value is right."""

from __future__ import annotations

from typing import Any

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import Answer, Plain


class NoTril(Plain):
    """The gradient of the factor is left full above the diagonal."""

    name = "no_tril"

    def triangle(self, d_factor: FloatArray) -> FloatArray:
        return d_factor


class PackedByColumns(Plain):
    """The lower triangle is read column by column and written row by row: wrong from D = 3."""

    name = "packed_by_columns"

    def triangle(self, d_factor: FloatArray) -> FloatArray:
        rows, columns = np.tril_indices(len(d_factor))
        packed = np.zeros_like(d_factor)
        above = np.triu_indices(len(d_factor))
        packed[rows, columns] = d_factor.T[above]
        return packed


class SixteenDimensions(Plain):
    """Rows of a factor after the sixteenth are left out of its gradient."""

    name = "sixteen_dimensions"

    def triangle(self, d_factor: FloatArray) -> FloatArray:
        d_factor = super().triangle(d_factor)
        d_factor[16:] = 0.0
        return d_factor


class CholGradientSign(Plain):
    """The gradient of the factor has the opposite sign."""

    name = "chol_gradient_sign"

    def triangle(self, d_factor: FloatArray) -> FloatArray:
        return -super().triangle(d_factor)


class CholGradientHalved(Plain):
    """Off the diagonal the gradient is half, as if it were that of a symmetric matrix."""

    name = "chol_gradient_halved"

    def triangle(self, d_factor: FloatArray) -> FloatArray:
        return 0.5 * (np.tril(d_factor) + np.diag(np.diagonal(d_factor)))


class CholGradientDiagonal(Plain):
    """The gradient of the factor is zero off the diagonal."""

    name = "chol_gradient_diagonal"

    def triangle(self, d_factor: FloatArray) -> FloatArray:
        return np.diag(np.diagonal(d_factor))


class LogDetGradientDropped(Plain):
    """The gradient of the factor lacks the part of the log-determinant."""

    name = "log_det_gradient_dropped"

    def half_log_det_backward(self, factor: FloatArray) -> FloatArray:
        return np.zeros_like(factor)


class MeanGradientSign(Plain):
    """The gradient of the means has the opposite sign: it is that of x."""

    name = "mean_gradient_sign"

    def quadratic_backward(
        self,
        d_quadratic: FloatArray,
        x: FloatArray,
        mean: FloatArray,
        factor: FloatArray,
        z: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        d_mean, d_factor = super().quadratic_backward(d_quadratic, x, mean, factor, z)
        return -d_mean, d_factor


class WhitenedMeanGradient(Plain):
    """The gradient of a mean is L^-1 e for Sigma^-1 e: equal where the factor is I."""

    name = "whitened_mean_gradient"

    def quadratic_backward(
        self,
        d_quadratic: FloatArray,
        x: FloatArray,
        mean: FloatArray,
        factor: FloatArray,
        z: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        _, d_factor = super().quadratic_backward(d_quadratic, x, mean, factor, z)
        return -self.add(2.0 * d_quadratic[:, None] * z), d_factor


class ClippedGradient(Plain):
    """Gradients are clipped at 1e300: one beyond the range of a double is not infinite."""

    name = "clipped_gradient"

    def answer(self, *arguments: Any) -> Answer:
        value, d_logits, d_means, d_chol = super().answer(*arguments)
        return value, d_logits, np.clip(d_means, -1e300, 1e300), np.clip(d_chol, -1e300, 1e300)
