"""Products y_i y_j, each once: the features that a full covariance needs.

Letters in shapes: B samples of a block, D dimensions, P features.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray


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
def pairs(n_dims: int) -> Pairs:
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


def write_features(y: FloatArray, out: FloatArray) -> None:
    """Write 1, y_i and y_i y_j of samples y [D, B] to `out` [P, B]."""
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
