"""Dense covariances.

Letters in shapes: N rows, K components, D dimensions; `...` as in `Structure`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray
from gmm_np.covariance.structure import Split, Structure
from gmm_np.covariance.sums import ROUNDING, Bools, Update
from gmm_np.linalg import triangles
from gmm_np.linalg.factors import triangle_places
from gmm_np.linalg.triangles import diagonal_of, inverses, multiply


class Pairs(NamedTuple):
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
def pairs_of(n_dims: int) -> Pairs:
    """Return the places of D (D + 1) / 2 products; shared, so read-only."""
    # y_i y_j with j at a distance of 0, 1, 2... from i, around the end
    place = np.arange(n_dims * (n_dims + 1) // 2)
    i = place % n_dims
    j = (i + place // n_dims) % n_dims
    features = np.empty((n_dims, n_dims), dtype=np.intp)
    features[i, j] = features[j, i] = n_dims + 1 + place
    found = Pairs(
        np.maximum(i, j) * n_dims + np.minimum(i, j), np.where(i == j, -0.5, -1.0), features
    )
    for array in found:
        array.setflags(write=False)
    return found


class Full(Structure):
    """Full covariances by their lower Cholesky factors, [..., D, D]."""

    places = ("row", "column")
    nouns = ("D x D Cholesky factor", "D x D covariance matrix")
    has_factors = True

    def expand(self, scale: FloatArray, n_dims: int) -> FloatArray:
        return scale

    def reduce(self, dense: FloatArray) -> FloatArray:
        return dense

    def split(self, scale: FloatArray, columns: NDArray[np.intp], n_first: int) -> Split:
        # Rows in another order are no triangle: QR makes them one, without a covariance.
        upper: FloatArray = np.linalg.qr(scale[..., columns, :].swapaxes(-1, -2))[1]
        lower = np.tril(upper.swapaxes(-1, -2))
        lower *= np.where(diagonal_of(lower) < 0, -1.0, 1.0)[..., None, :]
        known, rest = slice(n_first), slice(n_first, None)
        return Split(lower[..., known, known], lower[..., rest, rest], lower[..., rest, known])

    def half_log_det(self, scale: FloatArray, n_dims: int) -> FloatArray:
        return np.asarray(np.log(np.diagonal(scale, axis1=-2, axis2=-1)).sum(axis=-1))

    def inverse(self, scale: FloatArray) -> FloatArray:
        return inverses(_stack(scale)).reshape(scale.shape)

    def relative(self, inverse: FloatArray, d_scale: FloatArray) -> FloatArray:
        return triangles.products(_stack(inverse), _stack(d_scale)).reshape(d_scale.shape)

    def trace(self, relative: FloatArray, n_dims: int) -> FloatArray:
        return np.asarray(np.trace(relative, axis1=-2, axis2=-1))

    def apply_to_residuals(self, relative: FloatArray, z: FloatArray, out: FloatArray) -> None:
        triangles.times(relative, z, out)

    def pull_residuals(self, inverse: FloatArray, z: FloatArray) -> FloatArray:
        out = np.empty(z.shape)
        multiply(inverse.swapaxes(-1, -2), z, out=out)
        return out

    def total_pull(self, inverse: FloatArray, weighted: FloatArray) -> FloatArray:
        if inverse.ndim == 2:
            weighted, inverse = weighted.sum(axis=0)[None], inverse[None]
        out = np.empty(weighted.shape[1:])
        columns = weighted.reshape(-1, weighted.shape[2])
        multiply(inverse.reshape(len(columns), -1).T, columns, out=out)
        return out

    def scale_scores(self, scale: FloatArray, z: FloatArray, pulled: FloatArray) -> FloatArray:
        rows, columns = triangle_places(z.shape[1])
        scores = pulled[:, rows] * z[:, columns]
        scores[:, rows == columns] -= 1.0 / diagonal_of(scale)[..., None]
        return scores

    def precisions(self, inverse: FloatArray, n_dims: int) -> FloatArray:
        return np.asarray(np.matmul(inverse.swapaxes(-1, -2), inverse))

    def square_coefficients(self, relative: FloatArray, inverse: FloatArray) -> FloatArray:
        # z^T A z = y^T P y with P = W^T (A + A^T) W / 2, of which each feature has both halves.
        symmetric = relative + relative.swapaxes(1, 2)
        product, matrix = np.empty((2, *symmetric.shape))
        multiply(symmetric, inverse, out=product)
        triangles.transposed_times(inverse, product, out=matrix)
        pairs = pairs_of(relative.shape[-1])
        return np.asarray(matrix.reshape(len(matrix), -1).take(pairs.packed, axis=1) * -pairs.share)

    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        return triangles.inverse_norms(_stack(inverse)).reshape(inverse.shape[:-2])

    def deviations(self, scale: FloatArray) -> FloatArray:
        return np.asarray(np.sqrt(np.einsum("...ij,...ij->...i", scale, scale)))

    def apply(self, scale: FloatArray, vectors: FloatArray) -> FloatArray:
        return triangles.apply(scale, vectors)

    def apply_to_rows(
        self, scale: FloatArray, rows: FloatArray, owner: NDArray[np.integer]
    ) -> FloatArray:
        if scale.ndim == 2:
            return np.asarray(rows @ scale.T)
        out = np.empty_like(rows)
        for k, factor in enumerate(scale):
            out[owner == k] = rows[owner == k] @ factor.T
        return out

    def apply_transposed(self, scale: FloatArray, vectors: FloatArray) -> FloatArray:
        return triangles.apply(scale.swapaxes(-2, -1), vectors)

    def into_frame(self, scale: FloatArray) -> FloatArray:
        return self.inverse(triangles.common_factor(scale))

    def in_frame(self, inverse: FloatArray, into: FloatArray, scale: FloatArray) -> FloatArray:
        return triangles.products(inverse, triangles.common_factor(scale))

    def whiten(
        self, w: FloatArray, x: FloatArray, means: FloatArray, out: FloatArray, spare: FloatArray
    ) -> None:
        triangles.whiten(w, x, means, out, spare)

    def add_second_moments(self, total: FloatArray, weighted: FloatArray, z: FloatArray) -> None:
        if total.ndim == 3:
            triangles.add_squares(total, weighted, z)
            return
        squares = np.zeros((len(z), *total.shape))
        triangles.add_squares(squares, weighted, z)
        total += squares.sum(axis=0)

    def complete(self, second: FloatArray) -> FloatArray:
        return triangles.complete(second)

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return (mass[:, None] * vectors)[:, :, None] * vectors[:, None, :]

    def total_outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return triangles.gram(mass[:, None] * vectors, vectors)

    def outer_twice(self, left: FloatArray, right: FloatArray) -> FloatArray:
        product = left[:, :, None] * right[:, None, :]
        return np.asarray(product + product.swapaxes(1, 2))

    def total_outer_twice(self, left: FloatArray, right: FloatArray) -> FloatArray:
        product = triangles.gram(left, right)
        return np.asarray(product + product.T)

    def diagonal(self, second: FloatArray) -> FloatArray:
        return diagonal_of(second)

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
        pairs = pairs_of(n_dims)

        def write(part: slice) -> None:
            precision = np.empty(inverse[part].shape)
            triangles.transposed_times(inverse[part], inverse[part], out=precision)
            entries = precision.reshape(len(precision), -1).take(pairs.packed, axis=1)
            np.multiply(entries, pairs.share, out=theta[part, n_dims + 1 :])

        triangles.each(inverse, write)
        return theta

    def feature_moments(
        self, sums: FloatArray, means: FloatArray, first: FloatArray, inverse: FloatArray | None
    ) -> FloatArray:
        n_components, n_dims = means.shape
        # sum (y - mu)(y - mu)^T = sum y y^T - a mu^T - mu a^T with a = first + mass mu / 2
        half = first + 0.5 * sums[:, :1] * means  # [K, D]
        second, pairs = np.empty((n_components, n_dims, n_dims)), pairs_of(n_dims)

        def write(part: slice) -> None:
            matrices = second[part]
            raw = sums[part].take(pairs.features, axis=1)
            columns = np.stack([half[part], means[part]], axis=2)
            rows = np.stack([means[part], half[part]], axis=1)
            multiply(columns, rows, out=matrices)
            np.subtract(raw, matrices, out=matrices)
            if inverse is not None:
                triangles.congruences(inverse[part], matrices)

        triangles.each(second, write)
        return second

    def pooled_moments(self, cross: FloatArray, means: FloatArray, half: FloatArray) -> FloatArray:
        product = triangles.gram(half, means)
        return np.asarray(triangles.complete(cross.copy()) - product - product.T)

    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray:
        unwhitened = triangles.congruences(_stack(scale), _stack(np.array(second)))
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
        stack, w = _stack(second), _stack(inverse)

        def write(part: slice) -> None:
            matrices = stack[part]
            triangles.transposed_times(w[part], matrices, out=matrices)
            np.negative(matrices, out=matrices)
            triangles.clear_above(matrices)

        triangles.each(stack, write)
        gradient = stack.reshape(second.shape)
        diagonal_of(gradient)[...] += mass[..., None] / diagonal_of(scale)
        return gradient

    def gradient_tangent(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        relative: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        dot_mass: FloatArray,
        dot_second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        # The inside of tril(W^T M) and W^T move: W^T (dM - A M - M A^T - A^T M).
        stack, w, a, m = (_stack(array) for array in (dot_second, inverse, relative, second))
        product, moved = np.empty((2, *m.shape))
        multiply(a, m, out=product)
        moved[...] = stack - product - product.swapaxes(1, 2)
        multiply(a.swapaxes(1, 2), m, out=product)
        moved -= product
        gradient = np.zeros(m.shape)
        triangles.transposed_times(w, moved, out=gradient)
        np.negative(gradient, out=gradient)
        triangles.clear_above(gradient)
        gradient = gradient.reshape(scale.shape)
        own = dot_mass[..., None] - mass[..., None] * diagonal_of(relative)
        diagonal_of(gradient)[...] += own / diagonal_of(scale)
        return gradient

    def posterior_step(
        self,
        scale: FloatArray,
        mass: FloatArray,
        mean: FloatArray,
        centre: FloatArray,
        precision: float,
    ) -> FloatArray:
        n_components, n_dims = mean.shape
        factors = np.broadcast_to(scale, (n_components, n_dims, n_dims))
        transposed = factors.swapaxes(1, 2)
        system = mass[:, None, None] * np.eye(n_dims)
        system = system + precision * np.matmul(transposed, factors)
        right = mass[:, None] * mean
        right = right + precision * np.matmul(transposed, centre[:, :, None])[:, :, 0]
        return np.linalg.solve(system, right[:, :, None])[:, :, 0]

    def em_update(
        self,
        scale: FloatArray,
        mass: FloatArray,
        central: FloatArray,
        lost: FloatArray,
        add: Update,
    ) -> tuple[FloatArray, Bools]:
        some = np.flatnonzero(add.says(mass))
        divisor = (mass[some] + add.freedom)[:, None, None]
        matrices = central[some]
        if add.regularises:
            matrices = triangles.congruences(scale[some], matrices / divisor)
            diagonal_of(matrices)[...] += add.scatter / divisor[:, 0] + add.ridge
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

    def unit_moments(self, scale: FloatArray, floor: FloatArray) -> FloatArray:
        inverse = self.inverse(scale)
        added = np.matmul(inverse * floor, inverse.swapaxes(-1, -2))
        return np.asarray(np.eye(scale.shape[-1]) - added)

    def scatter(self, rows: FloatArray, weights: FloatArray, means: FloatArray) -> FloatArray:
        scatter = np.zeros((*means.shape, means.shape[1]))
        for k, weight in enumerate(weights.T):
            used = np.flatnonzero(weight)
            residual = rows[used] - means[k]
            scatter[k] = (weight[used, None] * residual).T @ residual
        return scatter

    def from_variances(self, variances: FloatArray) -> FloatArray:
        return np.diag(variances)


FULL: Final = Full()


def _stack(matrices: FloatArray) -> FloatArray:
    """Return [..., D, D] as [K, D, D]."""
    return matrices.reshape(-1, *matrices.shape[-2:])


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
