"""Linear algebra on stacks of lower triangles, through BLAS and without a batch's overhead.

NumPy's arrays are handed to Fortran as they lie in memory, which Fortran reads transposed: each
call here says which transposes that makes. Functions in this module check nothing.

Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.linalg.blas import dgemm, dsymm, dsyrk, dtrmm, dtrsm

from gmm_np.checks import FloatArray

# Up to this D a loop over components costs more than the arithmetic that a triangle saves, and
# routines for triangles would start threads for next to no work.
SMALL: Final = 12


def inverses(factors: FloatArray) -> FloatArray:
    """Inverses W_k = L_k^-1 of factors [K, D, D], so that whitening is a product.

    Solved from the right, W L = I, because that leaves W L - I small: then W e is as accurate as
    the solve L z = e. Solved from the left it is L W - I that is small, which says nothing about
    W e where L is ill-conditioned.
    """
    n_dims = factors.shape[1]
    if n_dims <= SMALL:
        inverse = np.zeros(factors.shape)
        for j in range(n_dims - 1, -1, -1):
            column = -np.matmul(inverse[:, :, j + 1 :], factors[:, j + 1 :, j, None])[:, :, 0]
            column[:, j] += 1.0
            inverse[:, :, j] = column / factors[:, j, j, None]
        return inverse
    inverse = np.empty(factors.shape)
    identity = np.eye(n_dims)
    for k, factor in enumerate(factors):
        # Fortran sees L^T, upper: it solves L^T W^T = I for W^T.
        inverse[k] = dtrsm(1.0, factor.T, identity.T, side=0, lower=0).T
    return inverse


def inverse_norms(inverse: FloatArray) -> FloatArray:
    """Upper bounds [K] of the spectral norms of matrices [K, D, D]."""
    # The root of the product of the largest absolute column and row sums.
    size = np.abs(inverse)
    return np.asarray(np.sqrt(size.sum(axis=1).max(axis=1) * size.sum(axis=2).max(axis=1)))


def common_factor(factors: FloatArray) -> FloatArray:
    """Cholesky factor [D, D] of the mean of the covariances of factors [K, D, D]."""
    # R of all factors on top of each other: no square loses digits or leaves the range.
    stacked = factors.transpose(0, 2, 1).reshape(-1, factors.shape[2])
    upper = np.linalg.qr(stacked, mode="r") / np.sqrt(len(factors))
    return np.asarray((upper * np.sign(np.diagonal(upper))[:, None]).T, order="C")


def transposed_times(triangles: FloatArray, matrices: FloatArray) -> FloatArray:
    """Products [K, D, D] of a transposed lower triangle with a matrix each."""
    if triangles.shape[1] <= SMALL:
        return np.asarray(np.matmul(triangles.transpose(0, 2, 1), matrices))
    out: FloatArray = matrices.copy()
    for k, factor in enumerate(triangles):
        # Fortran sees every array transposed: matrix^T triangle, in place.
        dtrmm(1.0, factor.T, out[k].T, side=1, trans_a=1, lower=0, overwrite_b=1)
    return out


def congruences(triangles: FloatArray, upper: FloatArray) -> FloatArray:
    """Products W S W^T [K, D, D] of lower triangles W and symmetric S, of which the upper is read.

    `upper` may be written to.
    """
    if triangles.shape[1] <= SMALL:
        whole = np.triu(upper) + np.triu(upper, 1).transpose(0, 2, 1)
        return np.asarray(np.matmul(triangles, np.matmul(whole, triangles.transpose(0, 2, 1))))
    for k, triangle in enumerate(upper):
        # Fortran sees every array transposed: S W^T, then W (S W^T), which is symmetric.
        product = dsymm(1.0, triangle.T, triangles[k].T, lower=1)
        upper[k] = dtrmm(1.0, triangles[k].T, product, trans_a=1, overwrite_b=1)
    return upper


def multiply(triangle: FloatArray, columns: FloatArray, out: FloatArray) -> None:
    """Write the product of a lower triangle [D, D] with columns [D, B] to `out` [D, B]."""
    # Fortran sees every array transposed: columns^T triangle^T.
    if len(triangle) <= SMALL:
        dgemm(1.0, columns.T, triangle.T, c=out.T, overwrite_c=1)
    else:
        out[...] = columns
        dtrmm(1.0, triangle.T, out.T, side=1, lower=0, overwrite_b=1)


def add_square(total: FloatArray, columns: FloatArray) -> None:
    """Add columns columns^T of columns [D, B] to (at least) the lower triangle of total [D, D]."""
    # Fortran sees the upper triangle of a symmetric matrix.
    if len(total) <= SMALL:
        dgemm(1.0, columns.T, columns.T, trans_a=1, beta=1.0, c=total.T, overwrite_c=1)
    else:
        dsyrk(1.0, columns.T, beta=1.0, c=total.T, trans=1, lower=0, overwrite_c=1)


def complete(lower: FloatArray) -> FloatArray:
    """Fill the upper triangles of [..., D, D] from the lower ones, in place; return the array."""
    rows, columns = np.tril_indices(lower.shape[-1], -1)
    lower[..., columns, rows] = lower[..., rows, columns]
    return lower


def divide(second: FloatArray, inverse: FloatArray) -> FloatArray:
    """Return sums of r z e^T [K, D, D] from those of r z z^T: M_k W_k^-T, since e = W^-1 z."""
    divided = np.empty_like(second)
    for k, factor in enumerate(inverse):
        # Fortran sees W^T, upper, and M^T: W^-1 M^T, which is the transpose.
        divided[k] = dtrsm(1.0, factor.T, second[k].T, trans_a=1, lower=0).T
    return divided
