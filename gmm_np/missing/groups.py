"""Rows in the order of their patterns of missing values.

Letters in shapes: N samples, D dimensions, S patterns.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray, not_finite
from gmm_np.covariance.sums import Bools

MISSING: Final = ("error", "marginal")


class Groups(NamedTuple):
    """Rows in the order of their patterns: complete ones first, then the most frequent pattern.

    Attributes
    ----------
    x : ndarray, shape [D, N]
        Samples, with zeros where a value is missing.
    order : ndarray of int, shape [N]
        Which row each sample was.
    edges : ndarray of int, shape [S + 1]
        Where each pattern begins.
    seen : ndarray of bool, shape [S, D]
        What there is of each pattern.
    reach : ndarray, shape [2, D]
        The least and the largest value of each column, zero where it has none.
    """

    x: FloatArray
    order: NDArray[np.intp]
    edges: NDArray[np.intp]
    seen: Bools
    reach: FloatArray

    @property
    def n_complete(self) -> int:
        """How many samples, from the first, have no missing value."""
        return int(self.edges[1]) if self.seen[0].all() else 0


def group_rows(rows: NDArray[np.generic]) -> Groups:
    """Group rows [N, D] by which of their values are NaN.

    Raises
    ------
    ValueError
        If a value is infinite.
    """
    values = np.asarray(rows, np.float64)
    missing = np.isnan(values)
    if np.isinf(values).any():
        raise not_finite(rows, missing=True)
    packed = np.packbits(missing, axis=1)
    keys = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), np.uint8)
    keys[:, : packed.shape[1]] = packed
    words = keys.view(np.uint64)
    if words.shape[1] == 1:
        words = words[:, 0]
    _, first, inverse, counts = np.unique(
        words, return_index=True, return_inverse=True, return_counts=True, axis=0
    )
    patterns = missing[first]  # [S, D]
    ranked = np.lexsort((-counts, patterns.any(axis=1)))
    rank = np.empty(len(ranked), np.intp)
    rank[ranked] = np.arange(len(ranked))
    place = rank[inverse.reshape(-1)]
    if len(rank) < 2**16:
        place = place.astype(np.uint16)  # whose sort is the fast one
    order = np.argsort(place, kind="stable")
    x = np.take(values.T, order, axis=1)
    np.copyto(x, 0.0, where=np.isnan(x))
    edges = np.concatenate([[0], np.cumsum(counts[ranked])]).astype(np.intp)
    reach = np.stack([x.min(axis=1), x.max(axis=1)])
    return Groups(x, order, edges, ~patterns[ranked], reach)
