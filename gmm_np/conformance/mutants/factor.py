# ruff: noqa: ARG005  (a step takes all arguments, and may use a few)
"""Mutants of the factor: taken for something else, or with a wrong gradient, as are the means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from scipy.linalg import solve_triangular

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import Answer, Plain, mutant

Pair = tuple[FloatArray, FloatArray]


def _through_matrix(
    matrix: Callable[[FloatArray], FloatArray],
    backward: Callable[[FloatArray, FloatArray], Any],
    *,
    lower: bool = True,
) -> dict[str, Any]:
    """Return the steps of the quadratic form with a matrix made from the factor in its place.

    `backward` makes the factor's gradient of the matrix's and the factor.
    """

    def quadratic(m: Plain, x: FloatArray, mean: FloatArray, factor: FloatArray) -> Pair:
        residual = m.residual(x, mean)
        z = solve_triangular(matrix(factor), residual.T, lower=lower, check_finite=False)
        return np.einsum("dn,dn->n", z, z), z.T

    def quadratic_backward(
        m: Plain, d_quadratic: FloatArray, _x: Any, _mean: Any, factor: FloatArray, z: FloatArray
    ) -> Pair:
        y = solve_triangular(matrix(factor), z.T, lower=lower, trans=1, check_finite=False).T
        d_residual = 2.0 * d_quadratic[:, None] * y
        d_matrix = (np.tril if lower else np.triu)(-(d_residual.T @ z))
        return -m.add(d_residual), backward(d_matrix, factor)

    return {"quadratic": quadratic, "quadratic_backward": quadratic_backward}


_SIGMA: Final = _through_matrix(
    lambda factor: np.tril(factor @ factor.T),
    lambda d_matrix, factor: np.asarray((d_matrix + d_matrix.T) @ factor),
)


def _by_product(m: Plain, x: FloatArray, mean: FloatArray, factor: FloatArray) -> Pair:
    z = m.residual(x, mean) @ factor
    return np.einsum("nd,nd->n", z, z), z


def _by_product_backward(
    m: Plain, d_quadratic: FloatArray, x: FloatArray, mean: FloatArray, factor: FloatArray, z: Any
) -> Pair:
    d_z = 2.0 * d_quadratic[:, None] * z
    return -m.add(d_z @ factor.T), m.residual(x, mean).T @ d_z


def _univariate(m: Plain, *arguments: Any) -> Answer:
    *inputs, reduction = arguments
    x, logits, means, chol, weight = m.check(*inputs)
    if x.shape[1] != 1:
        return Plain.answer(m, x, logits, means, chol, weight, reduction)
    root = np.sqrt(chol)
    value, d_logits, d_means, d_root = Plain.answer(m, x, logits, means, root, weight, reduction)
    return value, d_logits, d_means, d_root / (2.0 * root)


def _by_columns(m: Plain, d_factor: FloatArray) -> FloatArray:  # noqa: ARG001
    packed = np.zeros_like(d_factor)
    packed[np.tril_indices(len(d_factor))] = d_factor.T[np.triu_indices(len(d_factor))]
    return packed


def _sixteen_rows(m: Plain, d_factor: FloatArray) -> FloatArray:
    d_factor = Plain.triangle(m, d_factor)
    d_factor[16:] = 0.0
    return d_factor


def _negative_mean(m: Plain, *arguments: Any) -> Pair:
    d_mean, d_factor = Plain.quadratic_backward(m, *arguments)
    return -d_mean, d_factor


def _whitened_mean(m: Plain, d_quadratic: FloatArray, *others: Any) -> Pair:
    _, d_factor = Plain.quadratic_backward(m, d_quadratic, *others)
    return -m.add(2.0 * d_quadratic[:, None] * others[-1]), d_factor


def _clipped(m: Plain, *arguments: Any) -> Answer:
    value, d_logits, d_means, d_chol = Plain.answer(m, *arguments)
    return value, d_logits, np.clip(d_means, -1e300, 1e300), np.clip(d_chol, -1e300, 1e300)


# fmt: off
MUTANTS: Final = (
    mutant("transposed_factor", "Sigma = L^T L for Sigma = L L^T.",
           **_through_matrix(lambda factor: np.asarray(factor.T),
                             lambda d_matrix, factor: d_matrix.T.copy(), lower=False)),
    mutant("cholesky_inverse_of_sigma", "Sigma is handed to cholesky_inverse, which wants its "
           "factor; the determinant is right.", **_SIGMA),
    mutant("sigma_for_factor", "Sigma is taken for its own Cholesky factor, in the quadratic form "
           "and the determinant.", **_SIGMA,
           half_log_det=lambda m, factor: Plain.half_log_det(m, factor @ factor.T),
           half_log_det_backward=lambda m, factor: (
               2.0 * np.diag(1.0 / np.diagonal(factor @ factor.T)) @ factor)),
    mutant("precision_for_covariance", "L is taken for the factor of the precision: q = |L^T e|^2, "
           "and the determinant's sign.",
           quadratic=_by_product, quadratic_backward=_by_product_backward,
           half_log_det=lambda m, factor: -Plain.half_log_det(m, factor),
           half_log_det_backward=lambda m, factor: -Plain.half_log_det_backward(m, factor)),
    mutant("univariate_variance", "At D = 1 the factor is taken for the variance.",
           answer=_univariate),
    mutant("no_tril", "The gradient of the factor is left full above the diagonal.",
           triangle=lambda m, d_factor: d_factor),
    mutant("packed_by_columns", "The lower triangle is read column by column and written row by "
           "row: wrong from D = 3.", triangle=_by_columns),
    mutant("sixteen_dimensions",
           "Rows of a factor after the sixteenth are left out of its gradient.",
           triangle=_sixteen_rows),
    mutant("chol_gradient_sign", "The gradient of the factor has the opposite sign.",
           triangle=lambda m, d_factor: -Plain.triangle(m, d_factor)),
    mutant("chol_gradient_halved", "Off the diagonal the gradient is half, as if it were that of a "
           "symmetric matrix.", triangle=lambda m, d_factor: (
               0.5 * (np.tril(d_factor) + np.diag(np.diagonal(d_factor))))),
    mutant("chol_gradient_diagonal", "The gradient of the factor is zero off the diagonal.",
           triangle=lambda m, d_factor: np.diag(np.diagonal(d_factor))),
    mutant("log_det_gradient_dropped",
           "The gradient of the factor lacks the part of the log-determinant.",
           half_log_det_backward=lambda m, factor: np.zeros_like(factor)),
    mutant("mean_gradient_sign",
           "The gradient of the means has the opposite sign: it is that of x.",
           quadratic_backward=_negative_mean),
    mutant("whitened_mean_gradient",
           "The gradient of a mean is L^-1 e for Sigma^-1 e: equal where the factor is I.",
           quadratic_backward=_whitened_mean),
    mutant("clipped_gradient", "Gradients are clipped at 1e300: one beyond the range of a double "
           "is not infinite.", answer=_clipped),
)
