"""Coefficients of the features in log_joint, in tiles whose products are small."""

from __future__ import annotations

import numpy as np

from gmm_np import tuning
from gmm_np.checks import FloatArray


class Coefficients:
    """Coefficients [K, P] of features, in tiles; and of one more feature, which is 1 for each."""

    def __init__(self, theta: FloatArray) -> None:
        t = tuning.current()
        self.n_components, self.n_features = theta.shape
        # K in groups of the same size, P in parts of the same size; what is left over is zero.
        self.group = _group(self.n_components)
        self.n_groups = -(-self.n_components // self.group)
        most = max(t.largest_product // (self.group * t.tile_samples), 1)
        self.n_parts = -(-(self.n_features + 1) // most)
        self.part = -(-(self.n_features + 1) // self.n_parts)
        self.tiles = np.zeros((self.n_parts, self.n_groups * self.group, self.part))
        for i, tile in enumerate(self.tiles):
            columns = theta[:, i * self.part :][:, : self.part]
            tile[: self.n_components, : columns.shape[1]] = columns
        self.tiles[-1, : self.n_components, self.n_features - self.n_parts * self.part] = 1.0


def _group(n_components: int) -> int:
    """Return how many components a tile has: the least left over, then full registers."""
    t = tuning.current()
    n_groups = -(-n_components // t.tile_components)
    best = -(-n_components // n_groups)
    if n_components >= t.rounded_components:
        for size in range(t.rounded_components, t.tile_components + 1, t.register):
            padded, least = -(-n_components // size) * size, -(-n_components // best) * best
            if (padded, size % t.register > 0) < (least, best % t.register > 0):
                best = size
    return best
