"""Diagonal covariances.

Letters in shapes: K components, D dimensions; `...` as in `Structure`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray
from gmm_np.covariance.deviations import Deviations
from gmm_np.covariance.structure import Split


class Diagonal(Deviations):
    """Diagonal covariances by their standard deviations, [..., D]."""

    places = ("column",)
    letters = "d"

    def deviations(self, scale: FloatArray) -> FloatArray:
        return scale

    def split(self, scale: FloatArray, columns: NDArray[np.intp], n_first: int) -> Split:
        return Split(scale[..., columns[:n_first]], scale[..., columns[n_first:]], None)

    def reduce(self, dense: FloatArray) -> FloatArray:
        return np.asarray(np.diagonal(dense, axis1=1, axis2=2).copy())

    def half_log_det(self, scale: FloatArray, n_dims: int) -> FloatArray:
        return np.asarray(np.log(scale).sum(axis=-1))

    def trace(self, relative: FloatArray, n_dims: int) -> FloatArray:
        return np.asarray(relative.sum(axis=-1))

    def scale_scores(self, scale: FloatArray, z: FloatArray, pulled: FloatArray) -> FloatArray:
        return np.asarray((z**2 - 1.0) / scale[..., None])

    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        return np.asarray(inverse.max(axis=-1))

    def into_frame(self, scale: FloatArray) -> FloatArray:
        # over the geometric means, which neither overflow nor underflow
        return np.asarray(np.exp(-np.log(scale).mean(axis=0)))

    def in_frame(self, inverse: FloatArray, into: FloatArray, scale: FloatArray) -> FloatArray:
        return inverse / into

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return mass[:, None] * vectors**2

    def outer_twice(self, left: FloatArray, right: FloatArray) -> FloatArray:
        return 2.0 * left * right

    def n_features(self, n_dims: int) -> int:
        return 2 * n_dims + 1  # 1, y_i, y_i^2

    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        out[0] = 1.0
        out[1 : len(y) + 1] = y
        np.multiply(y, y, out=out[len(y) + 1 :])

    def natural_parameters(
        self, constant: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> FloatArray:
        whitened = inverse * means  # [K, D]
        first = inverse * whitened
        offset = constant - 0.5 * np.einsum("kd,kd->k", whitened, whitened)
        return np.hstack([offset[:, None], first, -0.5 * inverse**2])

    def feature_moments(
        self, sums: FloatArray, means: FloatArray, first: FloatArray, inverse: FloatArray | None
    ) -> FloatArray:
        n_dims = means.shape[1]
        # sum (y - mu)^2 = sum y^2 - mu (sum y + sum (y - mu))
        second: FloatArray = sums[:, n_dims + 1 :] - means * (sums[:, 1 : n_dims + 1] + first)
        return second if inverse is None else inverse**2 * second

    def pooled_moments(self, cross: FloatArray, means: FloatArray, half: FloatArray) -> FloatArray:
        return np.asarray(cross - 2.0 * np.einsum("kd,kd->d", half, means))


DIAGONAL: Final = Diagonal()
