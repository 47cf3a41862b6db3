"""Covariances that are a multiple of the identity.

Letters in shapes: K components, D dimensions; `...` as in `Structure`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray
from gmm_np.covariance.deviations import Deviations
from gmm_np.covariance.structure import Split


class Spherical(Deviations):
    """Spherical covariances by their standard deviations, [...]."""

    places = ()
    letters = ""
    by_column = False
    frames = (False,)

    def n_equal(self, n_dims: int) -> int:
        return n_dims

    def deviations(self, scale: FloatArray) -> FloatArray:
        return scale[..., None]

    def split(self, scale: FloatArray, columns: NDArray[np.intp], n_first: int) -> Split:
        return Split(scale, scale, None)

    def reduce(self, dense: FloatArray) -> FloatArray:
        return np.asarray(np.trace(dense, axis1=1, axis2=2))

    def half_log_det(self, scale: FloatArray, n_dims: int) -> FloatArray:
        return np.asarray(n_dims * np.log(scale))

    def trace(self, relative: FloatArray, n_dims: int) -> FloatArray:
        return n_dims * relative

    def scale_scores(self, scale: FloatArray, z: FloatArray, pulled: FloatArray) -> FloatArray:
        square = np.einsum("kdb,kdb->kb", z, z)
        return np.asarray(((square - z.shape[1]) / scale[..., None])[:, None])

    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        return inverse

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return np.asarray(mass * np.einsum("kd,kd->k", vectors, vectors))

    def outer_twice(self, left: FloatArray, right: FloatArray) -> FloatArray:
        return np.asarray(2.0 * np.einsum("kd,kd->k", left, right))

    def n_features(self, n_dims: int) -> int:
        return n_dims + 2  # 1, y_i, |y|^2

    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        out[0] = 1.0
        out[1:-1] = y
        np.einsum("db,db->b", y, y, out=out[-1])

    def natural_parameters(
        self, constant: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> FloatArray:
        precision = np.broadcast_to(inverse, len(means)) ** 2
        offset = constant - 0.5 * precision * np.einsum("kd,kd->k", means, means)
        return np.hstack([offset[:, None], precision[:, None] * means, -0.5 * precision[:, None]])

    def feature_moments(
        self, sums: FloatArray, means: FloatArray, first: FloatArray, inverse: FloatArray | None
    ) -> FloatArray:
        # as for `Diagonal`
        second: FloatArray = sums[:, -1] - np.einsum("kd,kd->k", means, sums[:, 1:-1] + first)
        return second if inverse is None else inverse**2 * second

    def pool(self, covariances: FloatArray) -> FloatArray:
        return np.asarray(covariances.mean(axis=-1))


SPHERICAL: Final = Spherical()
