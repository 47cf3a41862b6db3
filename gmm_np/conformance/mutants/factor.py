# ruff: noqa: D102  (a step is documented where `Plain` has it)
"""Mutants that take the factor for something else: a covariance, a precision, its transpose."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import Answer, Plain


class _ThroughMatrix(Plain):
    """The quadratic form is taken with a matrix made from the factor, in place of the factor."""

    lower = True

    def matrix(self, factor: FloatArray) -> FloatArray:
        return factor

    def matrix_backward(self, d_matrix: FloatArray, factor: FloatArray) -> FloatArray:
        raise NotImplementedError

    def quadratic(
        self, x: FloatArray, mean: FloatArray, factor: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        residual = self.residual(x, mean)
        z = solve_triangular(self.matrix(factor), residual.T, lower=self.lower, check_finite=False)
        return np.einsum("dn,dn->n", z, z), z.T

    def quadratic_backward(
        self,
        d_quadratic: FloatArray,
        x: FloatArray,  # noqa: ARG002
        mean: FloatArray,  # noqa: ARG002
        factor: FloatArray,
        z: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        matrix = self.matrix(factor)
        pull = solve_triangular(matrix, z.T, lower=self.lower, trans=1, check_finite=False).T
        d_residual = 2.0 * d_quadratic[:, None] * pull
        d_matrix = -(d_residual.T @ z)
        d_matrix = np.tril(d_matrix) if self.lower else np.triu(d_matrix)
        return -self.add(d_residual), self.matrix_backward(d_matrix, factor)


class TransposedFactor(_ThroughMatrix):
    """Sigma = L^T L for Sigma = L L^T."""

    name = "transposed_factor"
    lower = False

    def matrix(self, factor: FloatArray) -> FloatArray:
        return np.asarray(factor.T)

    def matrix_backward(self, d_matrix: FloatArray, factor: FloatArray) -> FloatArray:  # noqa: ARG002
        return np.asarray(d_matrix.T.copy())


class CholeskyInverseOfSigma(_ThroughMatrix):
    """Sigma is handed to cholesky_inverse, which wants its factor; the determinant is right."""

    name = "cholesky_inverse_of_sigma"

    def matrix(self, factor: FloatArray) -> FloatArray:
        return np.tril(factor @ factor.T)

    def matrix_backward(self, d_matrix: FloatArray, factor: FloatArray) -> FloatArray:
        return np.asarray((d_matrix + d_matrix.T) @ factor)


class SigmaForFactor(CholeskyInverseOfSigma):
    """Sigma is taken for its own Cholesky factor, in the quadratic form and the determinant."""

    name = "sigma_for_factor"

    def half_log_det(self, factor: FloatArray) -> float:
        return super().half_log_det(factor @ factor.T)

    def half_log_det_backward(self, factor: FloatArray) -> FloatArray:
        return 2.0 * np.diag(1.0 / np.diagonal(factor @ factor.T)) @ factor


class PrecisionForCovariance(Plain):
    """L is taken for the factor of the precision: q = |L^T e|^2, and the determinant's sign."""

    name = "precision_for_covariance"

    def quadratic(
        self, x: FloatArray, mean: FloatArray, factor: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        z = self.residual(x, mean) @ factor
        return np.einsum("nd,nd->n", z, z), z

    def quadratic_backward(
        self,
        d_quadratic: FloatArray,
        x: FloatArray,
        mean: FloatArray,
        factor: FloatArray,
        z: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        d_z = 2.0 * d_quadratic[:, None] * z
        return -self.add(d_z @ factor.T), self.residual(x, mean).T @ d_z

    def half_log_det(self, factor: FloatArray) -> float:
        return -super().half_log_det(factor)

    def half_log_det_backward(self, factor: FloatArray) -> FloatArray:
        return -super().half_log_det_backward(factor)


class UnivariateVariance(Plain):
    """At D = 1 the factor is taken for the variance."""

    name = "univariate_variance"

    def answer(
        self, x: Any, logits: Any, means: Any, chol: Any, weight: Any, reduction: str
    ) -> Answer:
        x, logits, means, chol, weight = self.check(x, logits, means, chol, weight)
        if x.shape[1] != 1:
            return super().answer(x, logits, means, chol, weight, reduction)
        value, d_logits, d_means, d_root = super().answer(
            x, logits, means, np.sqrt(chol), weight, reduction
        )
        return value, d_logits, d_means, d_root / (2.0 * np.sqrt(chol))
