"""The families of diagonal covariances: free, a multiple of the identity, and one such for all.

Letters in shapes: B samples of a block, K components, G of them, D dimensions, P features.
"""

from __future__ import annotations

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.covariance.family import (
    Bools,
    Family,
    Sums,
    Update,
    about_means,
    has_update,
    isotropic_parameters,
    write_isotropic_features,
)


class Diagonal(Family):
    """Diagonal covariances by their standard deviations, ``scale`` [K, D]."""

    name = "diag"
    frames: tuple[bool, ...] = (False, True)
    dense = False

    def expand(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.asarray(scale[:, :, None] * np.eye(n_dims))

    def reduce(self, dense: FloatArray) -> FloatArray:
        return np.asarray(np.diagonal(dense, axis1=1, axis2=2).copy())

    def densify(self, second: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return self.expand(second, n_components, n_dims)

    def half_log_det(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.asarray(np.log(scale).sum(axis=1))

    def inverse(self, scale: FloatArray) -> FloatArray:
        return 1.0 / scale

    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        return np.asarray(inverse.max(axis=1))

    def into_frame(self, scale: FloatArray) -> FloatArray:
        # over the geometric means, which neither overflow nor underflow
        return np.asarray(np.exp(-np.log(scale).mean(axis=0)))

    def in_frame(self, inverse: FloatArray, into: FloatArray, scale: FloatArray) -> FloatArray:
        return inverse / into

    def whiten(
        self,
        inverse: FloatArray,
        part: slice,
        x: FloatArray,
        means: FloatArray,
        out: FloatArray,
        spare: FloatArray,
    ) -> None:
        np.subtract(x, means[:, :, None], out=out)
        out *= inverse[part, :, None]

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros((n_components, n_dims))

    def add_second_moments(
        self, total: FloatArray, part: slice, weighted: FloatArray, z: FloatArray
    ) -> None:
        total[part] += np.einsum("kdb,kdb->kd", weighted, z)

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return mass[:, None] * vectors**2

    def diagonal(self, second: FloatArray) -> FloatArray:
        return second

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

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        n_dims = means.shape[1]
        mass, first = about_means(sums, means)
        # sum (y - mu)^2 = sum y^2 - mu (sum y + sum (y - mu))
        second = sums[:, n_dims + 1 :] - means * (sums[:, 1 : n_dims + 1] + first)
        return Sums(mass, inverse * first, inverse**2 * second)

    def unwhiten_first(self, scale: FloatArray, first: FloatArray) -> FloatArray:
        return scale * first

    def posterior_step(
        self,
        scale: FloatArray,
        mass: FloatArray,
        mean: FloatArray,
        centre: FloatArray,
        precision: float,
    ) -> FloatArray:
        length, share = scale, mass[:, None]
        pulled = share * mean + precision * length * centre
        return np.asarray(pulled / (share + precision * length**2))

    def pull(self, inverse: FloatArray, first: FloatArray) -> FloatArray:
        return inverse * first

    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray:
        return scale**2 * second

    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        return (mass[:, None] - second) / scale

    def em_update(
        self, scale: FloatArray, sums: Sums, lost: FloatArray, add: Update
    ) -> tuple[FloatArray, Bools]:
        updated, flat = _maximising_deviation(scale, sums.mass[:, None], sums.second, add)
        collapsed = np.asarray(flat.any(axis=1))
        return np.where(collapsed[:, None], scale, updated), collapsed


class Spherical(Family):
    """Spherical covariances by their standard deviations, ``scale`` [K]."""

    name = "spherical"
    dense = False

    def expand(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.asarray(np.broadcast_to(scale, n_components)[:, None, None] * np.eye(n_dims))

    def reduce(self, dense: FloatArray) -> FloatArray:
        return np.asarray(np.trace(dense, axis1=1, axis2=2))

    def densify(self, second: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        shares = n_dims * (1 if self.per_component else n_components)
        return self.expand(second / shares, n_components, n_dims)

    def half_log_det(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.broadcast_to(n_dims * np.log(scale), n_components)

    def inverse(self, scale: FloatArray) -> FloatArray:
        return 1.0 / scale

    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        return inverse

    def whiten(
        self,
        inverse: FloatArray,
        part: slice,
        x: FloatArray,
        means: FloatArray,
        out: FloatArray,
        spare: FloatArray,
    ) -> None:
        np.subtract(x, means[:, :, None], out=out)
        out *= inverse[part, None, None]

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros(n_components)

    def add_second_moments(
        self, total: FloatArray, part: slice, weighted: FloatArray, z: FloatArray
    ) -> None:
        total[part] += np.einsum("kdb,kdb->k", weighted, z)

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return np.asarray(mass * np.einsum("kd,kd->k", vectors, vectors))

    def diagonal(self, second: FloatArray) -> FloatArray:
        return second

    def n_features(self, n_dims: int) -> int:
        return n_dims + 2  # 1, y_i, |y|^2

    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        write_isotropic_features(y, out)

    def natural_parameters(
        self, constant: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> FloatArray:
        return isotropic_parameters(constant, means, np.broadcast_to(inverse, len(means)))

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        mass, first = about_means(sums, means)
        second = sums[:, -1] - np.einsum("kd,kd->k", means, sums[:, 1:-1] + first)  # as for "diag"
        return Sums(mass, inverse[..., None] * first, self._gather(inverse**2 * second))

    def unwhiten_first(self, scale: FloatArray, first: FloatArray) -> FloatArray:
        return scale[..., None] * first

    def posterior_step(
        self,
        scale: FloatArray,
        mass: FloatArray,
        mean: FloatArray,
        centre: FloatArray,
        precision: float,
    ) -> FloatArray:
        length, share = scale[..., None], mass[:, None]
        pulled = share * mean + precision * length * centre
        return np.asarray(pulled / (share + precision * length**2))

    def pull(self, inverse: FloatArray, first: FloatArray) -> FloatArray:
        return inverse[..., None] * first

    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray:
        return np.asarray(scale**2 * second)

    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        return np.asarray((n_dims * self._gather(mass) - second) / scale)

    def em_update(
        self, scale: FloatArray, sums: Sums, lost: FloatArray, add: Update
    ) -> tuple[FloatArray, Bools]:
        # D directions share one variance: as many times the samples, and the prior as often.
        n_components, n_dims = sums.first.shape
        total, all_add = n_dims * self._gather(sums.mass), add.times(n_dims)
        updated, collapsed = _maximising_deviation(scale, total, sums.second, all_add)
        return updated, np.broadcast_to(collapsed, n_components).copy()

    def _gather(self, values: FloatArray) -> FloatArray:
        return values


class SharedSpherical(Spherical):
    """One spherical covariance for all components by its standard deviation, ``scale`` []."""

    name = "shared_spherical"
    per_component = False

    def reduce(self, dense: FloatArray) -> FloatArray:
        return np.asarray(super().reduce(dense).sum())

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros(())

    def add_second_moments(
        self, total: FloatArray, part: slice, weighted: FloatArray, z: FloatArray
    ) -> None:
        total += np.einsum("kdb,kdb->", weighted, z)

    def whiten(
        self,
        inverse: FloatArray,
        part: slice,
        x: FloatArray,
        means: FloatArray,
        out: FloatArray,
        spare: FloatArray,
    ) -> None:
        np.subtract(x, means[:, :, None], out=out)
        out *= inverse

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return np.asarray(super().outer(mass, vectors).sum())

    def _gather(self, values: FloatArray) -> FloatArray:
        return np.asarray(values.sum())


def _maximising_deviation(
    scale: FloatArray, mass: FloatArray, central: FloatArray, add: Update
) -> tuple[FloatArray, Bools]:
    """Return maximising standard deviations, and which collapsed, in one shape: (27), (36)."""
    # As lengths, which do not leave the range where their squares would.
    divisor = np.where(mass + add.freedom > 0, mass + add.freedom, 1.0)
    length = np.hypot(scale * np.sqrt(np.maximum(central, 0.0)), np.sqrt(add.scatter))
    updated = np.hypot(length / np.sqrt(divisor), np.sqrt(add.ridge))
    kept = ~has_update(mass, add)
    collapsed = ~kept & ~(updated > 0)
    return np.where(kept | collapsed, scale, updated), np.asarray(collapsed)
