"""The kernel "moments": its work is two matrix products with the features of a block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gmm_np import tuning
from gmm_np.checks import FloatArray
from gmm_np.covariance.sums import ROUNDING, Sums
from gmm_np.estep.prepared_mixture import (
    UNIT_ROUNDOFF,
    Coefficients,
    PreparedMixture,
    Standardization,
)
from gmm_np.estep.residual_sums import ActivePairs, Residuals, ResidualSums
from gmm_np.linalg.triangles import LONGEST_SUM, equal_slices


class FeatureKernel:
    """Two products with the features of a block: log_joint, and its weighted sums.

    Where few responsibilities count, their residuals are whitened instead of the second product.

    Parameters
    ----------
    mixture : PreparedMixture
    standardization : Standardization
        Of the mixture: the coordinates in which samples come.
    block : int, optional
        Samples of a block, at most.
    central : bool
        As for `EStep`.
    coefficients : Coefficients, optional
        Of the features; those of log_joint by default.
    """

    def __init__(
        self,
        mixture: PreparedMixture,
        standardization: Standardization,
        block: int | None = None,
        *,
        central: bool = False,
        coefficients: Coefficients | None = None,
    ) -> None:
        t = tuning.active
        self.mixture, self.standardization, self.central = mixture, standardization, central
        family, d, p = mixture.family, mixture.n_dims, mixture.n_features
        block = t.largest_block if block is None else block
        self.block, self.n_summed = block, family.n_sums(d)
        c = self.coefficients = coefficients or standardization.coefficients
        self.n_rows, n_terms = c.n_parts * c.part, c.n_groups * c.group
        self.tile = max(t.largest_product // (c.group * c.part), 1)
        self._features, self._terms = np.empty(self.n_rows * block), np.empty(n_terms * block)
        self._partial = np.empty(c.n_parts * n_terms * block if c.n_parts > 1 else 0)
        # Slices of components, and their sums by groups: [groups, P, group].
        self._sums: list[tuple[slice, FloatArray]] | None = None
        self._cross = family.cross_moment(d)
        # Whether second moments are of each component's own, at the price of their features.
        self.dense = family.dense and self.n_summed == p
        # Made when first needed.
        self.active: ActivePairs | None = None
        self.residuals: ResidualSums | None = None

    def start(self, y: FloatArray) -> None:
        """Take a block of samples y [D, B], standardized."""
        self.y, p = y, self.mixture.n_features
        n_samples = y.shape[1]
        self._rows = self._features[: self.n_rows * n_samples].reshape(self.n_rows, n_samples)
        self._rows[p:] = 0.0
        self.mixture.family.features.write_features(y, self._rows[:p])

    def share(self, other: FeatureKernel) -> None:
        """Take the block that another kernel for the same mixture and coordinates has."""
        self.y, self._rows = other.y, other._rows

    def log_joint(self, shift: float) -> FloatArray:
        """Return log_joint - shift of the block, [K, B]: coefficients times features."""
        c, n_samples = self.coefficients, self._rows.shape[1]
        self._rows[c.n_features] = -shift
        n_terms = c.n_groups * c.group
        terms = self._terms[: n_terms * n_samples].reshape(n_terms, n_samples)
        out = terms[None]
        if c.n_parts > 1:
            out = self._partial[: c.n_parts * terms.size].reshape(c.n_parts, *terms.shape)
        left = c.tiles.reshape(c.n_parts, c.n_groups, 1, c.group, c.part)
        for samples, size in equal_slices(n_samples, self.tile):
            # [parts, groups, tiles, rows, columns]
            rows = self._rows.reshape(c.n_parts, 1, c.part, -1)[..., samples]
            right = rows.reshape(c.n_parts, 1, c.part, -1, size).transpose(0, 1, 3, 2, 4)
            tiled = out[..., samples].reshape(c.n_parts, c.n_groups, c.group, -1, size)
            np.matmul(left, right, out=tiled.transpose(0, 1, 3, 2, 4))
        if c.n_parts > 1:
            np.add.reduce(out, axis=0, out=terms)
        return terms[: c.n_components]

    def add(
        self, exponentials: FloatArray, factor: FloatArray, weight: FloatArray | None = None
    ) -> None:
        """Add the block's moments, weighted by exponentials [K, B] times factor [B].

        `weight` [B] is that of the samples, None for ones.
        """
        n_rows = exponentials.shape[1]
        product_cost = self._product_cost(n_rows)
        exponentials *= factor
        if self.dense and product_cost > self._active_cost(1.0):
            if self.active is None:
                self.active = ActivePairs(*self.mixture.means.shape)
                self.residuals = ResidualSums(self.mixture, central=self.central)
            mass = exponentials.sum(axis=1)
            # What is left out is less than what the product below would round off.
            chosen = self.active.significant(exponentials, mass, UNIT_ROUNDOFF)
            if product_cost > self._active_cost(np.count_nonzero(chosen) / len(mass)):
                self.active.add(self.y, exponentials, mass, chosen)
                if self.active.n_pairs >= self.active.enough:
                    self._add_active()
                return
        self.add_products(exponentials)
        if self._cross is not None:  # sum w y y^T
            y = self.y[None]
            structure = self.mixture.family.structure
            structure.add_second_moments(self._cross[None], y if weight is None else y * weight, y)

    def merge(self, other: FeatureKernel) -> None:
        """Add what another kernel for the same mixture and coordinates added."""
        if self.active is None or self.residuals is None:
            self.active, self.residuals = other.active, other.residuals
        elif other.active is not None and other.residuals is not None:
            self.active.merge(other.active)
            self.residuals.merge(other.residuals)
        if self._sums is None:
            self._sums = other._sums
        elif other._sums is not None:
            for (_, total), (_, more) in zip(self._sums, other._sums, strict=True):
                total += more
        if self._cross is not None and other._cross is not None:
            self._cross += other._cross

    def sums(self) -> list[Sums]:
        """Return n [K], v [K, D] and second moments, central ones if asked for, of all blocks.

        In up to two parts: of the products, and of residuals that were whitened.
        """
        by_residuals: list[Sums] = []
        if self.residuals is not None:
            self._add_active()
            by_residuals = self.residuals.sums()
        if self._sums is None:
            return by_residuals
        family, s = self.mixture.family, self.standardization
        products = np.empty((self.mixture.n_components, self.n_summed))
        for components, total in self._sums:
            by_component = total.transpose(0, 2, 1)
            products[components].reshape(by_component.shape)[...] = by_component
        sums = family.whitened_moments(products, s.means, s.inverse, self._cross)
        if self.central:
            # What is left where all digits cancelled is no variance.
            square, sums = family.diagonal(sums.second), sums.centre(family)
            variance = family.diagonal(sums.second)
            variance[variance <= ROUNDING * self.mixture.n_dims * square] = 0.0
        return [sums, *by_residuals]

    def add_products(self, weights: FloatArray) -> None:
        """Add features times weights [K, B], in sums of few samples, and in tiles."""
        t, n_rows = tuning.active, self.n_summed
        if self._sums is None:
            self._sums = [
                (part, np.zeros((-(-len(weights[part]) // group), n_rows, group)))
                for part, group in equal_slices(len(weights), t.tile_components)
            ]
        for samples, size in equal_slices(weights.shape[1], LONGEST_SUM):
            # [sums, groups, tiles, rows, columns]
            rows = self._rows[:n_rows, samples].reshape(n_rows, 1, -1, size).transpose(2, 1, 0, 3)
            for components, total in self._sums:
                n_groups, _, group = total.shape
                own = weights[components, samples]
                right = own.reshape(n_groups, group, -1, size).transpose(2, 0, 3, 1)[:, :, None]
                most = max(t.largest_product // (size * group), 1)
                step = max(t.cached_sums // (most * len(own) * len(rows)), 1) * most
                for start in range(0, n_rows, step):
                    some, so_far = rows[:, :, start : start + step], total[:, start : start + step]
                    for part, height in equal_slices(some.shape[2], most):
                        left = some[:, :, part].reshape(len(rows), 1, -1, height, size)
                        added = np.matmul(left, right)
                        summed = added[0] if len(added) == 1 else added.sum(axis=0)
                        so_far[:, part] += summed.reshape(n_groups, -1, group)

    def _add_active(self) -> None:
        """Add the residuals of the active pairs, if there are any."""
        assert self.active is not None
        assert self.residuals is not None
        if self.active.blocks:
            self.residuals.add(self.active.mass, self._whitened(self.active))

    def _whitened(self, active: ActivePairs) -> Iterator[Residuals]:
        family, s = self.mixture.family, self.standardization
        for k, y, weight in active.give():
            z, spare = np.empty((2, 1, *y.shape))
            part = slice(k, k + 1)
            if family.whitened:
                family.whiten(s.inverse, part, y, s.means[part], out=z, spare=spare)
            else:
                np.subtract(y, s.means[part][:, :, None], out=z)
            yield Residuals(part, z, weight[None], spare)

    # What the ways to add a block cost for a component, in nanoseconds, about.

    def _product_cost(self, n_rows: int) -> float:
        """Return the cost of products, and of turning them into moments if these are the first."""
        t = tuning.active
        first = 0.0 if self._sums is not None else t.product_cube * self.mixture.n_dims**3
        return float(t.product_sample * self.n_summed * n_rows + first)

    def _active_cost(self, n_rows: float) -> float:
        """Return the cost of so many residuals, and their share in that of a component's part."""
        t, d = tuning.active, self.mixture.n_dims
        share, active = 1.0, self.active
        if active is not None and active.begun:
            share = n_rows * self.mixture.n_components / active.enough
        each = n_rows * d * (t.active_coordinate + t.active_triangle * d)
        return float(each + share * (t.active_component + t.active_square * d * d))
