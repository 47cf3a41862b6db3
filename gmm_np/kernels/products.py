"""Two products with the features of a block, in tiles that are small products (see `tiles`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.kernels.blocks import carve
from gmm_np.tiles import LARGEST_PRODUCT, LONGEST_SUM, spans

# Components of a tile, at most, and samples of one of the first product, where there are many
# features.
TILE_COMPONENTS: Final = 40
# So many or more are worth rounding to a multiple of what the processor's registers take at a time.
ROUNDED_COMPONENTS: Final = 20
REGISTER: Final = 4
TILE_SAMPLES: Final = 64
# Doubles that are added to the sums at a time, while they are in a cache. With fewer there are more
# calls, between which lanes wait for each other.
CACHED: Final = 2**17


class Coefficients:
    """Coefficients [K, P] of features, in tiles; and of one more feature, which is 1 for each."""

    def __init__(self, theta: FloatArray) -> None:
        self.n_components, self.n_features = theta.shape
        # K in groups of the same size, P in parts of the same size; what is left over is zero.
        self.group = _group(self.n_components)
        self.n_groups = -(-self.n_components // self.group)
        most = max(LARGEST_PRODUCT // (self.group * TILE_SAMPLES), 1)
        self.n_parts = -(-(self.n_features + 1) // most)
        self.part = -(-(self.n_features + 1) // self.n_parts)
        self.tiles = np.zeros((self.n_parts, self.n_groups * self.group, self.part))
        for i, tile in enumerate(self.tiles):
            columns = theta[:, i * self.part :][:, : self.part]
            tile[: self.n_components, : columns.shape[1]] = columns
        self.tiles[-1, : self.n_components, self.n_features - self.n_parts * self.part] = 1.0


def _group(n_components: int) -> int:
    """Return how many components a tile has: the least left over, then full registers."""
    n_groups = -(-n_components // TILE_COMPONENTS)
    sizes = [-(-n_components // n_groups)]
    if n_components >= ROUNDED_COMPONENTS:
        sizes += range(ROUNDED_COMPONENTS, TILE_COMPONENTS + 1, REGISTER)
    return min(sizes, key=lambda size: (-(-n_components // size) * size, size % REGISTER > 0))


class Products:
    """Products of coefficients with features, and of features with weights.

    Parameters
    ----------
    coefficients : Coefficients
    n_summed : int
        How many features, from the first, the second product takes.
    block : int
        Samples of a block, at most.
    """

    def __init__(self, coefficients: Coefficients, n_summed: int, block: int) -> None:
        c = self.coefficients = coefficients
        self.n_components, self.n_features, self.n_summed = c.n_components, c.n_features, n_summed
        self.n_rows = c.n_parts * c.part
        self.tile = max(LARGEST_PRODUCT // (c.group * c.part), 1)
        k = c.n_groups * c.group
        self._features, self._terms = np.empty(self.n_rows * block), np.empty(k * block)
        self._partial = np.empty(c.n_parts * k * block if c.n_parts > 1 else 0)
        # [K, P] as a whole; the rows of each group of components hold its sums as [P, group].
        self._sums: FloatArray | None = None

    @property
    def begun(self) -> bool:
        """Whether anything was added."""
        return self._sums is not None

    def features(self, n_samples: int) -> FloatArray:
        """Return memory for the features of a block, [P, B]."""
        self._rows = carve(self._features, (self.n_rows, n_samples))
        self._rows[self.n_features :] = 0.0
        return self._rows[: self.n_features]

    def log_joint(self, shift: float) -> FloatArray:
        """Return coefficients times features, less a shift, [K, B]."""
        c, n_samples = self.coefficients, self._rows.shape[1]
        self._rows[self.n_features] = -shift
        terms = carve(self._terms, (c.n_groups * c.group, n_samples))
        out = terms[None]
        if c.n_parts > 1:
            out = carve(self._partial, (c.n_parts, *terms.shape))
        for samples, size in spans(n_samples, self.tile):
            self._multiply(out, samples, size)
        if c.n_parts > 1:
            np.add.reduce(out, axis=0, out=terms)
        return terms[: self.n_components]

    def add(self, weights: FloatArray) -> None:
        """Add features times weights [K, B]."""
        if self._sums is None:
            self._sums = np.zeros((self.n_components, self.n_summed))
        rows = self._rows[: self.n_summed]
        for samples, size in spans(weights.shape[1], LONGEST_SUM):
            for components, total in self._grouped(self._sums):
                _add(total, rows[:, samples], weights[components, samples], size)

    def sums(self) -> FloatArray | None:
        """Return what was added, [K, n_summed], if anything was."""
        if self._sums is None:
            return None
        sums = np.empty(self._sums.shape)
        for components, total in self._grouped(self._sums):
            by_component = total.transpose(0, 2, 1)
            sums[components].reshape(by_component.shape)[...] = by_component
        return sums

    def absorb(self, other: Products) -> None:
        """Add what the other one added."""
        if self._sums is None:
            self._sums = other._sums
        elif other._sums is not None:
            self._sums += other._sums

    def _grouped(self, sums: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
        """Yield slices of components, and their sums by groups: [groups, P, group]."""
        for components, group in spans(self.n_components, TILE_COMPONENTS):
            yield components, sums[components].reshape(-1, self.n_summed, group)

    def _multiply(self, out: FloatArray, samples: slice, size: int) -> None:
        """Write products of samples in tiles of this size to out [parts, K, B]."""
        # [parts, groups, tiles, rows, columns]
        c = self.coefficients
        rows = self._rows.reshape(c.n_parts, 1, c.part, -1)[..., samples]
        right = rows.reshape(c.n_parts, 1, c.part, -1, size).transpose(0, 1, 3, 2, 4)
        terms = out[..., samples].reshape(c.n_parts, c.n_groups, c.group, -1, size)
        left = c.tiles.reshape(c.n_parts, c.n_groups, 1, c.group, c.part)
        np.matmul(left, right, out=terms.transpose(0, 1, 3, 2, 4))


def _add(total: FloatArray, rows: FloatArray, weights: FloatArray, size: int) -> None:
    """Add features [P, B] times weights [K, B], in sums of this size, to [groups, P, group]."""
    n_groups, n_rows, group = total.shape
    # [sums, groups, tiles, rows, columns]
    right = weights.reshape(n_groups, group, -1, size).transpose(2, 0, 3, 1)[:, :, None]
    rows = rows.reshape(n_rows, 1, -1, size).transpose(2, 1, 0, 3)  # [sums, 1, P, size]
    most = max(LARGEST_PRODUCT // (size * group), 1)
    step = max(CACHED // (most * len(weights) * len(rows)), 1) * most
    for start in range(0, n_rows, step):
        some, so_far = rows[:, :, start : start + step], total[:, start : start + step]
        for part, height in spans(some.shape[2], most):
            left = some[:, :, part].reshape(len(rows), 1, -1, height, size)
            added = np.matmul(left, right)
            summed = added[0] if len(added) == 1 else added.sum(axis=0)
            so_far[:, part] += summed.reshape(n_groups, -1, group)
