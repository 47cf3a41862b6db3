# ruff: noqa: D102  (a step is documented where `Plain` has it)
"""Mutants that refuse what is valid, or answer what has to be refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import Answer, Plain


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

    def answer(
        self, x: Any, logits: Any, means: Any, chol: Any, weight: Any, reduction: str
    ) -> Answer:
        x, logits, means, chol = (np.nan_to_num(a) for a in (x, logits, means, chol))
        answers = super().answer(x, logits, means, chol, weight, reduction)
        value, d_logits, d_means, d_chol = (np.nan_to_num(a) for a in answers)
        return value, d_logits, d_means, d_chol


class UpperTriangleRead(Plain):
    """What stands above the diagonal of a factor is taken for a part of it."""

    name = "upper_triangle_read"

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        chol = np.asarray(chol, dtype=np.float64)
        x, logits, means, _, weight = super().check(x, logits, means, np.tril(chol), weight)
        return x, logits, means, chol, weight

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


class _Mended(Plain):
    """One kind of what has to be refused is made valid in silence."""

    def mend(
        self, x: FloatArray, logits: FloatArray, means: FloatArray, chol: FloatArray, weight: Any
    ) -> tuple[Any, ...]:
        raise NotImplementedError

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        x, logits, means, chol = (np.asarray(a, np.float64) for a in (x, logits, means, chol))
        return super().check(*self.mend(x, logits, means, chol, weight))


class NegativeDiagonalClamped(_Mended):
    """Negative entries on a factor's diagonal are clamped at 1e-6."""

    name = "negative_diagonal_clamped"

    def mend(
        self, x: FloatArray, logits: FloatArray, means: FloatArray, chol: FloatArray, weight: Any
    ) -> tuple[Any, ...]:
        eye = np.eye(chol.shape[-1], dtype=bool)
        return x, logits, means, np.where(eye & (chol < 0) & (chol > -np.inf), 1e-6, chol), weight


class ZeroDiagonalFloored(_Mended):
    """Zeros on a factor's diagonal are replaced by 1e-6."""

    name = "zero_diagonal_floored"

    def mend(
        self, x: FloatArray, logits: FloatArray, means: FloatArray, chol: FloatArray, weight: Any
    ) -> tuple[Any, ...]:
        eye = np.eye(chol.shape[-1], dtype=bool)
        return x, logits, means, np.where(eye & (chol == 0), 1e-6, chol), weight


class NotFiniteReplaced(_Mended):
    """NaN and infinities in x, means and factors are replaced by numbers."""

    name = "not_finite_replaced"

    def mend(
        self, x: FloatArray, logits: FloatArray, means: FloatArray, chol: FloatArray, weight: Any
    ) -> tuple[Any, ...]:
        x, means, chol = (np.nan_to_num(a, posinf=1e6, neginf=-1e6) for a in (x, means, chol))
        return x, logits, means, chol, weight


class AllOffUniform(_Mended):
    """Logits of nothing but -inf are taken for equal ones."""

    name = "all_off_uniform"

    def mend(
        self, x: FloatArray, logits: FloatArray, means: FloatArray, chol: FloatArray, weight: Any
    ) -> tuple[Any, ...]:
        off = np.isneginf(logits).all()
        return x, np.zeros_like(logits) if off else logits, means, chol, weight


class OffComponentRefused(Plain):
    """A logit of -inf is refused, though other components are on."""

    name = "off_component_refused"

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        checked = super().check(x, logits, means, chol, weight)
        if np.isneginf(checked[1]).any():
            raise ValueError("logits must be finite.")
        return checked


class ShapesResized(_Mended):
    """Arrays of other shapes than they should have are repeated or cut until they fit."""

    name = "shapes_resized"

    def mend(
        self, x: FloatArray, logits: FloatArray, means: FloatArray, chol: FloatArray, weight: Any
    ) -> tuple[Any, ...]:
        k, d = max(1, len(logits)), max(1, means.shape[-1])
        x = np.resize(x, (max(1, len(x)), d))
        return x, logits, np.resize(means, (k, d)), np.resize(chol, (k, d, d)), weight


class WeightsMended(_Mended):
    """Weights that are negative or not finite count as zero, and all zeros as all ones."""

    name = "weights_mended"

    def mend(
        self, x: FloatArray, logits: FloatArray, means: FloatArray, chol: FloatArray, weight: Any
    ) -> tuple[Any, ...]:
        if weight is None:
            return x, logits, means, chol, None
        weight = np.resize(np.asarray(weight, dtype=np.float64), len(x))
        weight = np.where(np.isfinite(weight) & (weight > 0), weight, 0.0)
        return x, logits, means, chol, weight if weight.any() else np.ones(len(x))
