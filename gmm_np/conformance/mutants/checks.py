# ruff: noqa: D102  (a step is documented where `Plain` has it)
"""Mutants that refuse what is valid, or answer what has to be refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from gmm_np.conformance.plain import Answer, Plain
from gmm_np.parameters import FloatArray


class SingularRejected(Plain):
    """Factors whose diagonal spans more than five orders of magnitude are refused as singular."""

    name = "singular_rejected"

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        checked = super().check(x, logits, means, chol, weight)
        diagonal = np.diagonal(checked[3], axis1=1, axis2=2)
        if (diagonal.max(axis=1) > 1e5 * diagonal.min(axis=1)).any():
            raise ValueError("chol is singular.")
        return checked


class NothingChecked(Plain):
    """Nothing is checked: whatever comes out is returned."""

    name = "nothing_checked"

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        arrays = tuple(np.asarray(a, dtype=np.float64) for a in (x, logits, means, chol))
        return (*arrays, None if weight is None else np.asarray(weight, dtype=np.float64))


class AbsDiagonal(NothingChecked):
    """Negative entries on a factor's diagonal are taken by their absolute value."""

    name = "abs_diagonal"

    def half_log_det(self, factor: FloatArray) -> float:
        return float(np.log(np.abs(np.diagonal(factor))).sum())


class NaNMasked(NothingChecked):
    """What is not finite is replaced by a number, with nan_to_num, before and after."""

    name = "nan_masked"

    def __call__(self, *arguments: Any, **options: Any) -> Answer:
        answers = super().__call__(*(np.nan_to_num(a) for a in arguments), **options)
        value, d_logits, d_means, d_chol = (np.nan_to_num(a) for a in answers)
        return value, d_logits, d_means, d_chol


class UpperTriangleRead(NothingChecked):
    """What stands above the diagonal of a factor is taken for a part of it."""

    name = "upper_triangle_read"

    def quadratic(
        self, x: FloatArray, mean: FloatArray, factor: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        z = np.linalg.solve(factor, self.residual(x, mean).T).T
        return np.einsum("nd,nd->n", z, z), z

    def quadratic_backward(
        self,
        d_quadratic: FloatArray,
        x: FloatArray,  # noqa: ARG002
        mean: FloatArray,  # noqa: ARG002
        factor: FloatArray,
        z: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        d_residual = 2.0 * d_quadratic[:, None] * np.linalg.solve(factor.T, z.T).T
        return -self.add(d_residual), -(d_residual.T @ z)
