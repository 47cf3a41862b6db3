"""The families of dense covariances: one for each component, one for all, and constant ones.

Letters in shapes: B samples of a block, K components, G of them, D dimensions, P features.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray
from gmm_np.covariance.family import (
    ROUNDING,
    Bools,
    Family,
    Sums,
    Update,
    about_means,
    has_update,
    isotropic_parameters,
    write_isotropic_features,
)
from gmm_np.linalg import triangles
from gmm_np.linalg.triangles import multiply


class _Pairs(NamedTuple):
    """Where the products y_i y_j stand among features and in matrices; read-only.

    Attributes
    ----------
    packed : ndarray, shape [D (D + 1) / 2]
        Of each product in turn, its place in a lower triangle [D, D].
    share : ndarray, shape [D (D + 1) / 2]
        What an entry of the precision there counts in log_joint: -1/2, off the diagonal twice.
    features : ndarray, shape [D, D]
        Of each entry of a matrix, the feature that is its product.
    """

    packed: NDArray[np.intp]
    share: FloatArray
    features: NDArray[np.intp]


@lru_cache(maxsize=16)
def _pairs(n_dims: int) -> _Pairs:
    """Return the places of D (D + 1) / 2 products; shared, so read-only."""
    # y_i y_j with j at a distance of 0, 1, 2... from i, around the end
    place = np.arange(n_dims * (n_dims + 1) // 2)
    i = place % n_dims
    j = (i + place // n_dims) % n_dims
    features = np.empty((n_dims, n_dims), dtype=np.intp)
    features[i, j] = features[j, i] = n_dims + 1 + place
    pairs = _Pairs(
        np.maximum(i, j) * n_dims + np.minimum(i, j), np.where(i == j, -0.5, -1.0), features
    )
    for array in pairs:
        array.setflags(write=False)
    return pairs


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
        part: slice,
        x: FloatArray,
        means: FloatArray,
        out: FloatArray,
        spare: FloatArray,
    ) -> None:
        triangles.whiten(inverse[part], x, means, out, spare)

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros((n_components, n_dims, n_dims))

    def add_second_moments(
        self, total: FloatArray, part: slice, weighted: FloatArray, z: FloatArray
    ) -> None:
        triangles.add_squares(total[part], weighted, z)

    def complete(self, second: FloatArray) -> FloatArray:
        return triangles.complete(second)

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return (mass[:, None] * vectors)[:, :, None] * vectors[:, None, :]

    def diagonal(self, second: FloatArray) -> FloatArray:
        return np.asarray(np.einsum("...ii->...i", second))

    def n_features(self, n_dims: int) -> int:
        return (n_dims + 1) * (n_dims + 2) // 2  # 1, y_i, and y_i y_j, each once

    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        n_dims = len(y)
        out[0] = 1.0
        out[1 : n_dims + 1] = y
        # y_i y_j by the distance of j from i, around the end: few loops, and long ones
        around = np.concatenate([y, y[: n_dims // 2]])
        n_whole = (n_dims + 1) // 2  # distances of which there are D products
        shape, strides = (n_whole, *y.shape), (around.strides[0], *around.strides)
        others: FloatArray = np.ndarray(shape, buffer=around, strides=strides)
        whole = out[n_dims + 1 :][: n_whole * n_dims]
        np.multiply(y, others, out=whole.reshape(shape))
        n_half = n_dims // 2 * (1 - n_dims % 2)
        np.multiply(y[:n_half], y[n_dims - n_half :], out=out[len(out) - n_half :])

    def natural_parameters(
        self, constant: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> FloatArray:
        n_components, n_dims = means.shape
        whitened = triangles.apply(inverse, means)  # [K, D]
        theta = np.empty((n_components, self.n_features(n_dims)))
        theta[:, 0] = constant - 0.5 * np.einsum("kd,kd->k", whitened, whitened)
        theta[:, 1 : n_dims + 1] = triangles.apply(inverse.transpose(0, 2, 1), whitened)
        pairs = _pairs(n_dims)

        def write(part: slice) -> None:
            precision = np.empty(inverse[part].shape)
            triangles.transposed_times(inverse[part], inverse[part], out=precision)
            entries = precision.reshape(len(precision), -1).take(pairs.packed, axis=1)
            np.multiply(entries, pairs.share, out=theta[part, n_dims + 1 :])

        triangles.each(inverse, write)
        return theta

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        n_components, n_dims = means.shape
        mass, first = about_means(sums, means)
        # sum (y - mu)(y - mu)^T = sum y y^T - a mu^T - mu a^T with a = first + mass mu / 2
        half = first + 0.5 * mass[:, None] * means  # [K, D]
        second, pairs = np.empty((n_components, n_dims, n_dims)), _pairs(n_dims)

        def whiten(part: slice) -> None:
            matrices = second[part]
            products = sums[part].take(pairs.features, axis=1)
            columns = np.stack([half[part], means[part]], axis=2)
            rows = np.stack([means[part], half[part]], axis=1)
            multiply(columns, rows, out=matrices)
            np.subtract(products, matrices, out=matrices)
            if self.whitened:
                triangles.congruences(inverse[part], matrices)

        triangles.each(second, whiten)
        if self.whitened:
            first = triangles.apply(inverse, first)
        return Sums(mass, first, second)

    def unwhiten_first(self, scale: FloatArray, first: FloatArray) -> FloatArray:
        return triangles.apply(scale, first)

    def pull(self, inverse: FloatArray, first: FloatArray) -> FloatArray:
        return triangles.apply(inverse.swapaxes(-2, -1), first)

    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray:
        stack = scale.reshape(-1, *scale.shape[-2:])
        unwhitened = triangles.congruences(stack, np.array(second).reshape(stack.shape))
        return unwhitened.reshape(second.shape)

    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        # tril(Sigma^-1 S Sigma^-1 L) = tril(L^-T M), which has no cancellation in it.
        def write(part: slice) -> None:
            matrices = second[part]
            triangles.transposed_times(inverse[part], matrices, out=matrices)
            np.negative(matrices, out=matrices)
            triangles.clear_above(matrices)

        triangles.each(second, write)
        self.diagonal(second)[...] += mass[:, None] / self.diagonal(scale)
        return second

    def em_update(
        self, scale: FloatArray, sums: Sums, lost: FloatArray, add: Update
    ) -> tuple[FloatArray, Bools]:
        mass, _, central = sums
        some = np.flatnonzero(has_update(mass, add))
        divisor = (mass[some] + add.freedom)[:, None, None]
        matrices = central[some]
        if add.regularises:
            matrices = triangles.congruences(scale[some], matrices / divisor)
            self.diagonal(matrices)[...] += add.scatter / divisor[:, 0] + add.ridge
        collapsed = np.zeros(len(mass), dtype=bool)
        for matrix, k in zip(matrices, some, strict=True):
            try:
                root = triangles.cholesky(matrix)
                if not add.regularises:
                    _check_regular(root, matrix, lost[k].max())
                matrix[...] = root
            except np.linalg.LinAlgError:
                collapsed[k] = True
        if not add.regularises:
            # In whitened coordinates no digits are lost to what is ill-conditioned already.
            matrices = triangles.products(scale[some], matrices / np.sqrt(divisor))
        updated, sound = scale.copy(), ~collapsed[some]
        updated[some[sound]] = matrices[sound]
        return updated, collapsed


class Plain(Full):
    """Full covariances whose sums are of plain residuals, e = x - mu, and not whitened.

    For gradients in the inverse factors, which are products with these: from whitened sums they
    would come by the factors, at the price of the digits that those are ill-conditioned by.
    """

    frames: tuple[bool, ...] = (False,)
    whitened = False


class Constant(Full):
    """Full covariances that are not learned: no gradient, no update, no second moments."""

    name = "constant"

    def reduce(self, dense: FloatArray) -> FloatArray:
        return np.zeros(0)

    def densify(self, second: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros((n_components, n_dims, n_dims))

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros(0)

    def add_second_moments(
        self, total: FloatArray, part: slice, weighted: FloatArray, z: FloatArray
    ) -> None:
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
        mass, first = about_means(sums, means)
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
        part: slice,
        x: FloatArray,
        means: FloatArray,
        out: FloatArray,
        spare: FloatArray,
    ) -> None:
        triangles.whiten(inverse, x, means, out, spare)

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros((n_dims, n_dims))

    def add_second_moments(
        self, total: FloatArray, part: slice, weighted: FloatArray, z: FloatArray
    ) -> None:
        squares = np.zeros((len(z), *total.shape))
        triangles.add_squares(squares, weighted, z)
        total += squares.sum(axis=0)

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return triangles.gram(mass[:, None] * vectors, vectors)

    def n_features(self, n_dims: int) -> int:
        return n_dims + 2  # 1, y_i, |y|^2

    def n_sums(self, n_dims: int) -> int:
        return n_dims + 1

    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        write_isotropic_features(y, out)

    def natural_parameters(
        self, constant: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> FloatArray:
        return isotropic_parameters(constant, means, np.ones(len(means)))

    def cross_moment(self, n_dims: int) -> FloatArray | None:
        return np.zeros((n_dims, n_dims))

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        mass, first = about_means(sums, means)
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


def _check_regular(root: FloatArray, central: FloatArray, lost: float) -> None:
    """Check that the Cholesky factor of a covariance is more than what rounding left of one.

    Raises
    ------
    LinAlgError
        If it is not: the covariance is singular.
    """
    size = np.sqrt(np.diagonal(central))
    if (np.diagonal(root) / size).min() < 1e-4:
        smallest = np.linalg.eigvalsh(central / np.outer(size, size))[0]  # of the correlations
        if smallest <= ROUNDING * len(root) * lost:
            raise np.linalg.LinAlgError
