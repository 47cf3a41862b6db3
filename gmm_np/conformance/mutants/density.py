# ruff: noqa: D102  (a step is documented where `Plain` has it)
"""Mutants of the density: the constant, the log-determinant, the quadratic form."""

from __future__ import annotations

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import LOG_2_PI, Plain


class NoLog2Pi(Plain):
    """The constant (D/2) log 2 pi is left out."""

    name = "no_log_2pi"

    def constant(self, n_dims: int) -> float:  # noqa: ARG002
        return 0.0


class UnivariateLog2Pi(Plain):
    """The constant is (1/2) log 2 pi whatever D is."""

    name = "univariate_log_2pi"

    def constant(self, n_dims: int) -> float:  # noqa: ARG002
        return 0.5 * LOG_2_PI


class AbsLogSigma(Plain):
    """|log sigma| stands for log sigma: wrong where a standard deviation is below 1."""

    name = "abs_log_sigma"

    def half_log_det(self, factor: FloatArray) -> float:
        return float(np.abs(np.log(np.diagonal(factor))).sum())

    def half_log_det_backward(self, factor: FloatArray) -> FloatArray:
        diagonal = np.diagonal(factor)
        return np.diag(np.sign(np.log(diagonal)) / diagonal)


class LogOfProduct(Plain):
    """The log-determinant is the logarithm of a product, which leaves the range at large D."""

    name = "log_of_product"

    def half_log_det(self, factor: FloatArray) -> float:
        return float(np.log(np.diagonal(factor).prod()))


class MisplacedParenthesis(Plain):
    """-(log 2 pi + q) D / 2: the quadratic form is multiplied by D as well."""

    name = "misplaced_parenthesis"

    def quadratic(
        self, x: FloatArray, mean: FloatArray, factor: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        quadratic, z = super().quadratic(x, mean, factor)
        return quadratic * x.shape[1], z

    def quadratic_backward(
        self,
        d_quadratic: FloatArray,
        x: FloatArray,
        mean: FloatArray,
        factor: FloatArray,
        z: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        return super().quadratic_backward(d_quadratic * x.shape[1], x, mean, factor, z)
