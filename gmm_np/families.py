"""The covariance families, one class each.

A family that costs less than a full covariance saves it here, and nothing else changes. `Family`
says what each method does; arrays that a family has once for all components stand alone.

Letters in shapes: B samples of a block, K components, D dimensions, P features.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from gmm_np import triangles
from gmm_np.checks import FloatArray
from gmm_np.family import ROUNDING, Bools, Family, Sums, Update


class Full(Family):
    """Full covariances by their lower Cholesky factors, ``scale`` [K, D, D]."""

    name = "full"
    frames: tuple[bool, ...] = (False, True)

    def expand(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return scale

    def reduce(self, dense: FloatArray) -> FloatArray:
        return dense

    def densify(self, second: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return second

    def half_log_det(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.asarray(np.log(np.diagonal(scale, axis1=1, axis2=2)).sum(axis=1))

    def inverse(self, scale: FloatArray) -> FloatArray:
        return triangles.inverses(scale)

    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        return triangles.inverse_norms(inverse)

    def into_frame(self, scale: FloatArray) -> FloatArray:
        return np.asarray(triangles.inverses(triangles.common_factor(scale)[None])[0])

    def in_frame(self, inverse: FloatArray, into: FloatArray, scale: FloatArray) -> FloatArray:
        factor = triangles.common_factor(scale)
        return triangles.products(inverse, factor)

    def whiten(
        self,
        inverse: FloatArray,
        k: int,
        x: FloatArray,
        mean: FloatArray,
        out: FloatArray,
        spare: FloatArray,
    ) -> None:
        triangles.multiply_difference(inverse[k], x, mean, out, spare)

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros((n_components, n_dims, n_dims))

    def add_second_moment(self, total: FloatArray, k: int, weighted: FloatArray) -> None:
        triangles.add_square(total[k], weighted)

    def complete(self, second: FloatArray) -> FloatArray:
        return triangles.complete(second)

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return (mass[:, None] * vectors)[:, :, None] * vectors[:, None, :]

    def diagonal(self, second: FloatArray) -> FloatArray:
        return np.asarray(np.einsum("...ii->...i", second))

    def n_features(self, n_dims: int) -> int:
        return (n_dims + 1) * (n_dims + 2) // 2  # 1, y_i, and y_i y_j for i <= j

    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        n_dims = len(y)
        out[0] = 1.0
        out[1 : n_dims + 1] = y
        start = n_dims + 1
        for i in range(n_dims):
            stop = start + n_dims - i
            np.multiply(y[i], y[i:], out=out[start:stop])
            start = stop

    def natural_parameters(
        self, constant: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> FloatArray:
        n_components, n_dims = means.shape
        whitened = triangles.apply(inverse, means)  # [K, D]
        precision = triangles.transposed_times(inverse, inverse)  # [K, D, D]
        theta = np.empty((n_components, self.n_features(n_dims)))
        theta[:, 0] = constant - 0.5 * np.einsum("kd,kd->k", whitened, whitened)
        theta[:, 1 : n_dims + 1] = triangles.apply(inverse.transpose(0, 2, 1), whitened)
        start = n_dims + 1
        for i in range(n_dims):
            stop = start + n_dims - i
            np.negative(precision[:, i, i:], out=theta[:, start:stop])
            theta[:, start] *= 0.5
            start = stop
        return theta

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        n_components, n_dims = means.shape
        mass, first = _about_means(sums, means)
        # sum (y - mu)(y - mu)^T = sum y y^T - a mu^T - mu a^T with a = first + mass mu / 2
        half = first + 0.5 * mass[:, None] * means  # [K, D]
        second = np.zeros((n_components, n_dims, n_dims))
        start = n_dims + 1
        for i in range(n_dims):  # the upper triangles
            stop = start + n_dims - i
            second[:, i, i:] = sums[:, start:stop]
            second[:, i, i:] -= half[:, i, None] * means[:, i:] + means[:, i, None] * half[:, i:]
            start = stop
        v_k = triangles.apply(inverse, first)
        return Sums(mass, v_k, triangles.congruences(inverse, second))

    def unwhiten_first(self, scale: FloatArray, first: FloatArray) -> FloatArray:
        return triangles.apply(scale, first)

    def pull(self, inverse: FloatArray, first: FloatArray) -> FloatArray:
        return triangles.apply(inverse.swapaxes(-2, -1), first)

    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray:
        return np.asarray(np.matmul(np.matmul(scale, second), scale.swapaxes(-2, -1)))

    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        # tril(Sigma^-1 S Sigma^-1 L) = tril(L^-T M), which has no cancellation in it.
        gradient = triangles.transposed_times(inverse, second)
        np.negative(gradient, out=gradient)
        for i in range(n_dims - 1):
            gradient[:, i, i + 1 :] = 0.0
        self.diagonal(gradient)[...] += mass[:, None] / self.diagonal(scale)
        return gradient

    def em_update(
        self, scale: FloatArray, sums: Sums, lost: FloatArray, add: Update
    ) -> tuple[FloatArray, Bools]:
        mass, _, central = sums
        updated, collapsed = scale.copy(), np.zeros(len(mass), dtype=bool)
        for k in np.flatnonzero(_has_update(mass, add)):
            try:
                updated[k] = _maximising_factor(scale[k], mass[k], central[k], lost[k].max(), add)
            except np.linalg.LinAlgError:
                collapsed[k] = True
        return updated, collapsed


class Constant(Full):
    """Full covariances that are not learned: no gradient, no update, no second moments."""

    name = "constant"

    def reduce(self, dense: FloatArray) -> FloatArray:
        return np.zeros(0)

    def densify(self, second: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros((n_components, n_dims, n_dims))

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros(0)

    def add_second_moment(self, total: FloatArray, k: int, weighted: FloatArray) -> None:
        pass

    def complete(self, second: FloatArray) -> FloatArray:
        return second

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return np.zeros(0)

    def diagonal(self, second: FloatArray) -> FloatArray:
        return second

    def n_sums(self, n_dims: int) -> int:
        return n_dims + 1

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        mass, first = _about_means(sums, means)
        return Sums(mass, triangles.apply(inverse, first), np.zeros(0))

    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray:
        return second

    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        return np.zeros(0)

    def em_update(
        self, scale: FloatArray, sums: Sums, lost: FloatArray, add: Update
    ) -> tuple[FloatArray, Bools]:
        return scale, np.zeros(len(sums.mass), dtype=bool)


class Tied(Full):
    """One full covariance for all components by its lower Cholesky factor, ``scale`` [D, D]."""

    name = "tied"
    per_component = False
    frames: tuple[bool, ...] = (True,)  # in which it is the identity

    def expand(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.broadcast_to(scale, (n_components, n_dims, n_dims))

    def reduce(self, dense: FloatArray) -> FloatArray:
        return np.asarray(dense.sum(axis=0))

    def densify(self, second: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.broadcast_to(second / n_components, (n_components, n_dims, n_dims))

    def half_log_det(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.full(n_components, np.log(np.diagonal(scale)).sum())

    def inverse(self, scale: FloatArray) -> FloatArray:
        return np.asarray(triangles.inverses(scale[None])[0])

    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        return np.asarray(triangles.inverse_norms(inverse[None])[0])

    def into_frame(self, scale: FloatArray) -> FloatArray:
        return self.inverse(scale)

    def in_frame(self, inverse: FloatArray, into: FloatArray, scale: FloatArray) -> FloatArray:
        return np.eye(len(inverse))

    def whiten(
        self,
        inverse: FloatArray,
        k: int,
        x: FloatArray,
        mean: FloatArray,
        out: FloatArray,
        spare: FloatArray,
    ) -> None:
        triangles.multiply_difference(inverse, x, mean, out, spare)

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros((n_dims, n_dims))

    def add_second_moment(self, total: FloatArray, k: int, weighted: FloatArray) -> None:
        triangles.add_square(total, weighted)

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return triangles.gram(mass[:, None] * vectors, vectors)

    def n_features(self, n_dims: int) -> int:
        return n_dims + 2  # 1, y_i, |y|^2

    def n_sums(self, n_dims: int) -> int:
        return n_dims + 1

    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        _write_isotropic_features(y, out)

    def natural_parameters(
        self, constant: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> FloatArray:
        return _isotropic_parameters(constant, means, np.ones(len(means)))

    def cross_moment(self, n_dims: int) -> FloatArray | None:
        return np.zeros((n_dims, n_dims))

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        mass, first = _about_means(sums, means)
        half = first + 0.5 * mass[:, None] * means  # as for "full"
        product = triangles.gram(half, means)
        assert cross is not None
        second = triangles.complete(cross.copy()) - product - product.T
        return Sums(mass, first, second)

    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        total = np.atleast_1d(mass.sum())
        return np.asarray(
            super().gradient(scale[None], inverse[None], total, second[None], n_dims)[0]
        )

    def em_update(
        self, scale: FloatArray, sums: Sums, lost: FloatArray, add: Update
    ) -> tuple[FloatArray, Bools]:
        all_sums = Sums(np.atleast_1d(sums.mass.sum()), sums.first, sums.second[None])
        updated, collapsed = super().em_update(scale[None], all_sums, lost[None], add)
        return updated[0], np.full(len(sums.mass), collapsed[0])


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
        k: int,
        x: FloatArray,
        mean: FloatArray,
        out: FloatArray,
        spare: FloatArray,
    ) -> None:
        np.subtract(x, mean[:, None], out=out)
        out *= inverse[k, :, None]

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros((n_components, n_dims))

    def add_second_moment(self, total: FloatArray, k: int, weighted: FloatArray) -> None:
        total[k] += np.einsum("db,db->d", weighted, weighted)

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
        mass, first = _about_means(sums, means)
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
        k: int,
        x: FloatArray,
        mean: FloatArray,
        out: FloatArray,
        spare: FloatArray,
    ) -> None:
        np.subtract(x, mean[:, None], out=out)
        out *= inverse[k]

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros(n_components)

    def add_second_moment(self, total: FloatArray, k: int, weighted: FloatArray) -> None:
        total[k] += np.einsum("db,db->", weighted, weighted)

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return np.asarray(mass * np.einsum("kd,kd->k", vectors, vectors))

    def diagonal(self, second: FloatArray) -> FloatArray:
        return second

    def n_features(self, n_dims: int) -> int:
        return n_dims + 2  # 1, y_i, |y|^2

    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        _write_isotropic_features(y, out)

    def natural_parameters(
        self, constant: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> FloatArray:
        return _isotropic_parameters(constant, means, np.broadcast_to(inverse, len(means)))

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        mass, first = _about_means(sums, means)
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

    def add_second_moment(self, total: FloatArray, k: int, weighted: FloatArray) -> None:
        total += np.einsum("db,db->", weighted, weighted)

    def whiten(
        self,
        inverse: FloatArray,
        k: int,
        x: FloatArray,
        mean: FloatArray,
        out: FloatArray,
        spare: FloatArray,
    ) -> None:
        np.subtract(x, mean[:, None], out=out)
        out *= inverse

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return np.asarray(super().outer(mass, vectors).sum())

    def _gather(self, values: FloatArray) -> FloatArray:
        return np.asarray(values.sum())


def _about_means(sums: FloatArray, means: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Masses [K] and first moments about the means [K, D] from sums of 1 and y [K, P]."""
    mass = sums[:, 0].copy()
    return mass, sums[:, 1 : means.shape[1] + 1] - mass[:, None] * means


def _write_isotropic_features(y: FloatArray, out: FloatArray) -> None:
    """Write 1, y and |y|^2."""
    out[0] = 1.0
    out[1:-1] = y
    np.einsum("db,db->b", y, y, out=out[-1])


def _isotropic_parameters(
    constant: FloatArray, means: FloatArray, inverse: FloatArray
) -> FloatArray:
    """Coefficients [K, D + 2] of 1, y and |y|^2 for inverse deviations [K]."""
    precision = inverse**2
    offset = constant - 0.5 * precision * np.einsum("kd,kd->k", means, means)
    return np.hstack([offset[:, None], precision[:, None] * means, -0.5 * precision[:, None]])


def _maximising_factor(
    factor: FloatArray, mass: float, central: FloatArray, lost: float, add: Update
) -> FloatArray:
    """Return the factor [D, D] of the maximising covariance, equations (27) and (36).

    Raises
    ------
    LinAlgError
        If it is singular.
    """
    n_dims, divisor = len(factor), mass + add.freedom
    if add.regularises:
        upper = np.triu(central / divisor)[None]
        covariance = triangles.congruences(factor[None], upper)[0]
        covariance[np.diag_indices(n_dims)] += add.scatter / divisor + add.ridge
        return triangles.cholesky(covariance)
    # In whitened coordinates no digits are lost to what is ill-conditioned already.
    root = triangles.cholesky(central)
    # Of a singular covariance rounding may leave a root: look at the correlations.
    size = np.sqrt(np.diagonal(central))
    if (np.diagonal(root) / size).min() < 1e-4:
        smallest = np.linalg.eigvalsh(central / np.outer(size, size))[0]
        if smallest <= ROUNDING * n_dims * lost:
            raise np.linalg.LinAlgError
    return np.asarray(triangles.products(factor[None], root / np.sqrt(divisor))[0])


def _maximising_deviation(
    scale: FloatArray, mass: FloatArray, central: FloatArray, add: Update
) -> tuple[FloatArray, Bools]:
    """Return maximising standard deviations, and which collapsed, in one shape: (27), (36)."""
    # As lengths, which do not leave the range where their squares would.
    divisor = np.where(mass + add.freedom > 0, mass + add.freedom, 1.0)
    length = np.hypot(scale * np.sqrt(np.maximum(central, 0.0)), np.sqrt(add.scatter))
    updated = np.hypot(length / np.sqrt(divisor), np.sqrt(add.ridge))
    kept = ~_has_update(mass, add)
    collapsed = ~kept & ~(updated > 0)
    return np.where(kept | collapsed, scale, updated), np.asarray(collapsed)


def _has_update(mass: FloatArray, add: Update) -> Bools:
    """Whether samples or a prior say anything of a covariance."""
    return (mass + add.freedom > 0) & ((mass > 0) | (add.scatter > 0))


FAMILIES: Final[dict[str, Family]] = {
    family.name: family
    for family in (Full(), Tied(), Diagonal(), Spherical(), SharedSpherical(), Constant())
}
