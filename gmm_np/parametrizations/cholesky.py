"""Parametrizations by Cholesky factors: plain, with log diagonal, and of the precision.

Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.linalg.factors import (
    invert_factors,
    pack_triangles,
    pull_back_inverse,
    unpack_triangles,
)
from gmm_np.linalg.triangles import diagonal_of
from gmm_np.parametrizations.base import Parametrization


class Cholesky(Parametrization):
    """Cholesky factors by their entries, or standard deviations, as they are.

    In place of the scale the vector holds the lower triangles of the factors, each row by row;
    or the standard deviations, component by component. There are D (D + 1) / 2 entries a factor,
    and all are free but for the diagonal, which has to stay positive: `unpack` refuses the rest.
    """

    def _size_of_scale(self) -> int:
        return self._form.n_free(self.n_components, self.n_features)

    def _pack_scale(self, scale: FloatArray) -> FloatArray:
        return (pack_triangles(scale) if self._form.has_factors else scale).ravel()

    def _unpack_scale(self, entries: FloatArray) -> FloatArray:
        if self._form.has_factors:
            rows = entries.reshape(*self._scale_shape[:-2], -1)
            return unpack_triangles(rows, self.n_features)
        return entries.reshape(self._scale_shape)

    def _pull_scale(self, scale: FloatArray, d_scale: FloatArray) -> FloatArray:  # noqa: ARG002
        return (pack_triangles(d_scale) if self._form.has_factors else d_scale).ravel()

    def _push_scale(self, scale: FloatArray, entries: FloatArray) -> FloatArray:  # noqa: ARG002
        return Cholesky._unpack_scale(self, entries)

    def _pull_scale_tangent(
        self,
        scale: FloatArray,  # noqa: ARG002
        d_scale: FloatArray,  # noqa: ARG002
        dot_scale: FloatArray,  # noqa: ARG002
    ) -> FloatArray:
        return np.zeros(self._size_of_scale())


class LogCholesky(Cholesky):
    """Cholesky factors with the logarithm of their diagonal, equations (29) and (37).

    In place of the scale the vector holds the lower triangles of the factors, each row by row and
    with the logarithm of its diagonal; or the logarithms of the standard deviations. Every vector
    is a point: this is what solvers without constraints move in. For "full" the vector has
    K (1 + D + D (D + 1) / 2) entries.
    """

    def _pack_scale(self, scale: FloatArray) -> FloatArray:
        return super()._pack_scale(self._on_diagonal(np.log, scale))

    def _unpack_scale(self, entries: FloatArray) -> FloatArray:
        return self._on_diagonal(np.exp, super()._unpack_scale(entries))

    def _pull_scale(self, scale: FloatArray, d_scale: FloatArray) -> FloatArray:
        # in unpack: L_ii = exp(theta_ii), so that d_theta_ii = L_ii d_L_ii, (29) and (37)
        if not self._form.has_factors:
            return super()._pull_scale(scale, scale * d_scale)
        d_theta = d_scale.copy()
        diagonal_of(d_theta)[...] *= diagonal_of(scale)
        return super()._pull_scale(scale, d_theta)

    def _push_scale(self, scale: FloatArray, entries: FloatArray) -> FloatArray:
        dot = super()._push_scale(scale, entries)
        if not self._form.has_factors:
            return scale * dot
        diagonal_of(dot)[...] *= diagonal_of(scale)
        return dot

    def _pull_scale_tangent(
        self, scale: FloatArray, d_scale: FloatArray, dot_scale: FloatArray
    ) -> FloatArray:
        if not self._form.has_factors:
            return (d_scale * dot_scale).ravel()
        moved = np.zeros(scale.shape)
        diagonal_of(moved)[...] = diagonal_of(d_scale) * diagonal_of(dot_scale)
        return pack_triangles(moved).ravel()

    def _on_diagonal(
        self, function: Callable[[FloatArray], FloatArray], scale: FloatArray
    ) -> FloatArray:
        """Return a copy with `function` applied to diagonals, or to all standard deviations."""
        if not self._form.has_factors:
            return np.asarray(function(scale))
        mapped: FloatArray = scale.copy()
        diagonal_of(mapped)[...] = function(diagonal_of(mapped))
        return mapped


class PrecisionFactor(LogCholesky):
    """Factors of the precisions with the logarithm of their diagonal, equations (30) and (39).

    Sigma^-1 = Q^T Q with Q = L^-1, lower triangular. In place of the scale the vector holds the
    lower triangles of Q, each row by row and with the logarithm of its diagonal; for the families
    of standard deviations, the logarithms of their inverses. Every vector is a point.

    The objective of ADBench packs the same factors in an order of its own, see
    `precision_value_and_grad`.
    """

    def _pack_scale(self, scale: FloatArray) -> FloatArray:
        return super()._pack_scale(self._inverse(scale))

    def _unpack_scale(self, entries: FloatArray) -> FloatArray:
        return self._inverse(super()._unpack_scale(entries))

    def _pull_scale(self, scale: FloatArray, d_scale: FloatArray) -> FloatArray:
        # in unpack: scale = Q^-1
        if self._form.has_factors:
            d_precision = pull_back_inverse(scale, d_scale)  # (39)
        else:
            d_precision = -(scale**2) * d_scale
        return super()._pull_scale(self._inverse(scale), d_precision)

    def _push_scale(self, scale: FloatArray, entries: FloatArray) -> FloatArray:
        dot = super()._push_scale(self._inverse(scale), entries)
        return self._moved_inverse(scale, dot)

    def _pull_scale_tangent(
        self, scale: FloatArray, d_scale: FloatArray, dot_scale: FloatArray
    ) -> FloatArray:
        inverse = self._inverse(scale)
        if self._form.has_factors:
            d_precision = pull_back_inverse(scale, d_scale)  # (39)
            half = dot_scale.swapaxes(-1, -2) @ d_scale @ scale.swapaxes(-1, -2)
            other = scale.swapaxes(-1, -2) @ d_scale @ dot_scale.swapaxes(-1, -2)
            dot = -np.tril(half + other)
        else:
            d_precision = -(scale**2) * d_scale
            dot = -2.0 * scale * dot_scale * d_scale
        dot_inverse = self._moved_inverse(inverse, dot_scale)
        moved = super()._pull_scale_tangent(inverse, d_precision, dot_inverse)
        return moved + super()._pull_scale(inverse, dot)

    def _moved_inverse(self, inverse: FloatArray, dot: FloatArray) -> FloatArray:
        """Return the tangent of the inverse of what moves by `dot`."""
        if self._form.has_factors:
            return -(inverse @ dot @ inverse)
        return -(inverse**2) * dot

    def _inverse(self, scale: FloatArray) -> FloatArray:
        return invert_factors(scale) if self._form.has_factors else 1 / scale
