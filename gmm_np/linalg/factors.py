"""Lower triangular factors: their entries as vectors, their inverses, and gradients of these.

Letters in shapes: D dimensions; what stands before D x D may be any number of axes, or none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray
from gmm_np.linalg import triangles


def pack_triangles(matrices: FloatArray) -> FloatArray:
    """Return the lower triangles [..., D (D + 1) / 2] of matrices [..., D, D], row by row."""
    rows, columns = triangle_places(matrices.shape[-1])
    return np.asarray(matrices[..., rows, columns])


def unpack_triangles(entries: FloatArray, n_dims: int) -> FloatArray:
    """Return lower triangular matrices [..., D, D] from their entries, row by row."""
    matrices = np.zeros((*entries.shape[:-1], n_dims, n_dims))
    rows, columns = triangle_places(n_dims)
    matrices[..., rows, columns] = entries
    return matrices


@lru_cache(maxsize=16)
def triangle_places(n_dims: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rows and columns of the entries of a lower triangle; shared, so read-only."""
    rows, columns = np.tril_indices(n_dims)
    rows.setflags(write=False)
    columns.setflags(write=False)
    return rows, columns


def invert_factors(factors: FloatArray) -> FloatArray:
    """Return the inverses [..., D, D] of factors, which are lower triangular too."""
    n_dims = factors.shape[-1]
    return triangles.inverses(factors.reshape(-1, n_dims, n_dims)).reshape(factors.shape)


def pull_back_inverse(inverse: FloatArray, d_inverse: FloatArray) -> FloatArray:
    """Return the gradient with respect to a factor A of a function of R = A^-1, equation (39).

    Parameters
    ----------
    inverse, d_inverse : ndarray, shape [..., D, D]
        R, and the gradient with respect to it.
    """
    transposed = np.swapaxes(inverse, -1, -2)
    # R = A^-1, so that dR = -R dA R and d_A = -tril(R^T d_R R^T)
    return np.tril(-(transposed @ d_inverse @ transposed))
