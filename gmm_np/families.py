"""Covariance families: what the kernels and the statistics need to know of a covariance.

One class a family. The kernels ask it for whitening, for features and natural parameters, and
for sums of second moments; the statistics ask it for gradients and updates. A family that costs
less than a full covariance saves it here, and nothing else changes.

Everything about a component is held in its own whitened coordinates z = L^-1 (x - mu), where
spreads are about one: the first moment is v = sum w r z, the second M = sum w r z z^T.

Letters in shapes: B samples of a block, K components, D dimensions, P features.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dgemm, dsymm, dsyrk, dtrmm, dtrsm

from gmm_np.checks import FloatArray

# Up to this D a loop over components costs more than the arithmetic that a triangle saves, and
# routines for triangles would start threads for next to no work.
SMALL: Final = 12


class Full:
    """Full covariances by their lower Cholesky factors, ``scale`` [K, D, D]."""

    name = "full"

    # --- the factors -----------------------------------------------------------------------

    def half_log_det(self, scale: FloatArray) -> FloatArray:
        """Half the log-determinants [K], equation (8)."""
        return np.asarray(np.log(np.diagonal(scale, axis1=1, axis2=2)).sum(axis=1))

    def inverse(self, scale: FloatArray) -> FloatArray:
        """Inverse factors W_k = L_k^-1 [K, D, D], so that whitening is a product.

        Solved from the right, W L = I, because that leaves W L - I small: then W e is as accurate
        as the solve L z = e. Solved from the left it is L W - I that is small, which says nothing
        about W e where L is ill-conditioned.
        """
        n_dims = scale.shape[1]
        if n_dims <= SMALL:
            inverse = np.zeros_like(scale)
            for j in range(n_dims - 1, -1, -1):
                column = -np.matmul(inverse[:, :, j + 1 :], scale[:, j + 1 :, j, None])[:, :, 0]
                column[:, j] += 1.0
                inverse[:, :, j] = column / scale[:, j, j, None]
            return inverse
        inverse = np.empty_like(scale)
        identity = np.eye(n_dims)
        for k, factor in enumerate(scale):
            # Fortran sees L^T, upper: it solves L^T W^T = I for W^T.
            inverse[k] = dtrsm(1.0, factor.T, identity.T, side=0, lower=0).T
        return inverse

    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        """Return upper bounds [K] of the spectral norms of the inverse factors."""
        # The root of the product of the largest absolute column and row sums.
        size = np.abs(inverse)
        return np.asarray(np.sqrt(size.sum(axis=1).max(axis=1) * size.sum(axis=2).max(axis=1)))

    def common_factor(self, scale: FloatArray) -> FloatArray:
        """Cholesky factor [D, D] of the mean covariance."""
        # R of all factors on top of each other: no square loses digits or leaves the range.
        stacked = scale.transpose(0, 2, 1).reshape(-1, scale.shape[2])
        upper = np.linalg.qr(stacked, mode="r") / np.sqrt(len(scale))
        return np.asarray((upper * np.sign(np.diagonal(upper))[:, None]).T, order="C")

    def in_frame(self, inverse: FloatArray, frame: FloatArray) -> FloatArray:
        """Inverse factors of data that were multiplied by the inverse of `frame` [D, D]."""
        return np.asarray(np.matmul(inverse, frame))

    # --- direct ----------------------------------------------------------------------------

    def whiten(self, inverse: FloatArray, residual: FloatArray, out: FloatArray) -> None:
        """Whiten residuals [D, B] of one component, z = W e, equation (6)."""
        # Fortran sees every array transposed: e^T W^T.
        if len(inverse) <= SMALL:
            dgemm(1.0, residual.T, inverse.T, c=out.T, overwrite_c=1)
        else:
            out[...] = residual
            dtrmm(1.0, inverse.T, out.T, side=1, lower=0, overwrite_b=1)

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        """Zeroes to which `add_second_moment` adds, [K, D, D]."""
        return np.zeros((n_components, n_dims, n_dims))

    def add_second_moment(self, total: FloatArray, weighted: FloatArray) -> None:
        """Add the second moment of sqrt(w r) z [D, B] to the lower triangle of `total` [D, D]."""
        # Fortran sees the upper triangle of a symmetric matrix.
        if len(total) <= SMALL:
            dgemm(1.0, weighted.T, weighted.T, trans_a=1, beta=1.0, c=total.T, overwrite_c=1)
        else:
            dsyrk(1.0, weighted.T, beta=1.0, c=total.T, trans=1, lower=0, overwrite_c=1)

    def complete(self, second: FloatArray) -> FloatArray:
        """Fill the upper triangles from the lower ones, in place; return `second` [K, D, D]."""
        rows, columns = np.tril_indices(second.shape[1], -1)
        second[:, columns, rows] = second[:, rows, columns]
        return second

    def divide(self, second: FloatArray, inverse: FloatArray) -> FloatArray:
        """Return sums of r z e^T [K, D, D] from those of r z z^T: M_k W_k^-T, since e = W^-1 z."""
        divided = np.empty_like(second)
        for k, factor in enumerate(inverse):
            # Fortran sees W^T, upper, and M^T: W^-1 M^T, which is the transpose.
            divided[k] = dtrsm(1.0, factor.T, second[k].T, trans_a=1, lower=0).T
        return divided

    # --- moments ---------------------------------------------------------------------------

    def n_features(self, n_dims: int) -> int:
        """P, the number of features of a sample: 1, x_i, and x_i x_j for i <= j."""
        return (n_dims + 1) * (n_dims + 2) // 2

    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        """Write the features of centred samples y [D, B] to `out` [P, B]."""
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
        """Coefficients [K, P] of the features in log_joint, for means about the same centre.

        constant - |W (y - mu)|^2 / 2, written out in 1, y_i and y_i y_j.
        """
        n_components, n_dims = means.shape
        whitened = np.matmul(inverse, means[:, :, None])  # [K, D, 1]
        precision = _times_transposed_triangle(inverse, inverse)  # [K, D, D]
        theta = np.empty((n_components, self.n_features(n_dims)))
        theta[:, 0] = constant - 0.5 * np.einsum("kdi,kdi->k", whitened, whitened)
        theta[:, 1 : n_dims + 1] = np.matmul(inverse.transpose(0, 2, 1), whitened)[:, :, 0]
        start = n_dims + 1
        for i in range(n_dims):
            stop = start + n_dims - i
            np.negative(precision[:, i, i:], out=theta[:, start:stop])
            theta[:, start] *= 0.5
            start = stop
        return theta

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Turn weighted sums of the features [K, P] into n [K], v [K, D] and M [K, D, D].

        `means` and `inverse` are those of the frame in which the features were written.
        """
        n_components, n_dims = means.shape
        mass = sums[:, 0].copy()  # [K]
        first = sums[:, 1 : n_dims + 1] - mass[:, None] * means  # [K, D], about the mean
        # sum (y - mu)(y - mu)^T = sum y y^T - a mu^T - mu a^T with a = first + mass mu / 2
        half = first + 0.5 * mass[:, None] * means  # [K, D]
        second = np.zeros((n_components, n_dims, n_dims))
        start = n_dims + 1
        for i in range(n_dims):  # the upper triangles
            stop = start + n_dims - i
            second[:, i, i:] = sums[:, start:stop]
            second[:, i, i:] -= half[:, i, None] * means[:, i:] + means[:, i, None] * half[:, i:]
            start = stop
        v_k = np.matmul(inverse, first[:, :, None])[:, :, 0]
        if n_dims <= SMALL:
            whole = second + np.triu(second, 1).transpose(0, 2, 1)
            return mass, v_k, np.matmul(inverse, np.matmul(whole, inverse.transpose(0, 2, 1)))
        for k, triangle in enumerate(second):
            # Fortran sees every array transposed: S W^T, then W (S W^T), which is symmetric.
            whitened = dsymm(1.0, triangle.T, inverse[k].T, lower=1)
            second[k] = dtrmm(1.0, inverse[k].T, whitened, trans_a=1, overwrite_b=1)
        return mass, v_k, second

    # --- from statistics -------------------------------------------------------------------

    def unwhiten_first(self, scale: FloatArray, first: FloatArray) -> FloatArray:
        """m_k = L_k v_k, equation (25)."""
        return np.asarray(np.matmul(scale, first[:, :, None])[:, :, 0])

    def pull(self, inverse: FloatArray, first: FloatArray) -> FloatArray:
        """Sigma^-1 m_k = L_k^-T v_k [K, D], equation (26)."""
        return np.asarray(np.matmul(inverse.transpose(0, 2, 1), first[:, :, None])[:, :, 0])

    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray:
        """S_k = L_k M_k L_k^T, equation (25)."""
        return np.asarray(np.matmul(np.matmul(scale, second), scale.transpose(0, 2, 1)))

    def gradient(
        self, scale: FloatArray, inverse: FloatArray, mass: FloatArray, second: FloatArray
    ) -> FloatArray:
        """Gradient [K, D, D] of the summed loss with respect to the factors, equation (26).

        tril(Sigma^-1 S Sigma^-1 L) = tril(L^-T M), which has no cancellation in it.
        """
        n_dims = scale.shape[1]
        gradient = _times_transposed_triangle(inverse, second)
        np.negative(gradient, out=gradient)
        for i in range(n_dims - 1):
            gradient[:, i, i + 1 :] = 0.0
        diagonal = np.arange(n_dims)
        gradient[:, diagonal, diagonal] += mass[:, None] / scale[:, diagonal, diagonal]
        return gradient

    def em_update(
        self, scale: FloatArray, mass: FloatArray, first: FloatArray, second: FloatArray
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Return the factors [K, D, D] that maximise, equation (27), and which collapsed [K].

        A component without mass keeps its factor.
        """
        updated = scale.copy()
        collapsed = np.zeros(len(mass), dtype=bool)
        for k in np.flatnonzero(mass > 0):
            v = first[k] / mass[k]
            spread = second[k] / mass[k] - np.outer(v, v)  # in whitened coordinates
            try:
                factor = np.linalg.cholesky(spread)
            except np.linalg.LinAlgError:
                collapsed[k] = True
                continue
            # Of a singular covariance rounding may leave a factor: look at the correlations.
            size = np.sqrt(np.diagonal(second[k]) / mass[k])
            smallest = np.linalg.eigvalsh(spread / np.outer(size, size))[0]
            collapsed[k] = smallest <= 64 * len(v) * np.finfo(np.float64).eps
            updated[k] = scale[k] @ factor
        return updated, collapsed


def _times_transposed_triangle(triangle: FloatArray, matrix: FloatArray) -> FloatArray:
    """Products [K, D, D] of a transposed lower triangle with a matrix each."""
    if triangle.shape[1] <= SMALL:
        return np.asarray(np.matmul(triangle.transpose(0, 2, 1), matrix))
    out: FloatArray = matrix.copy()
    for k, factor in enumerate(triangle):
        # Fortran sees every array transposed: matrix^T triangle, in place.
        dtrmm(1.0, factor.T, out[k].T, side=1, trans_a=1, lower=0, overwrite_b=1)
    return out


FAMILIES: Final[dict[str, Full]] = {"full": Full()}
