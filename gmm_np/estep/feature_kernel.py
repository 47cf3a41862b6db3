"""The kernel whose work is two matrix products with the features of a block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.covariance.family import ROUNDING, Sums
from gmm_np.estep import workspace
from gmm_np.estep.feature_sums import Products
from gmm_np.estep.prepared_mixture import PreparedMixture
from gmm_np.estep.residual_sums import ActivePairs, Residuals, ResidualSums, Significance
from gmm_np.estep.standardization import UNIT_ROUNDOFF, Standardization
from gmm_np.estep.workspace import block_size
from gmm_np.linalg import triangles


class FeatureKernel:
    """Two products with the features of a block: log_joint, and its weighted sums.

    Where few responsibilities count, their residuals are whitened instead of the second product.
    """

    def __init__(
        self,
        mixture: PreparedMixture,
        frame: Standardization,
        n_samples: int = workspace.LARGEST_BLOCK,
        *,
        central: bool = False,
    ) -> None:
        self.mixture, self.frame, self.central = mixture, frame, central
        self.whitened = ResidualSums(mixture, central=central)
        self.significant = Significance(mixture.n_components)
        self.few = ActivePairs(mixture.n_components, mixture.n_dims)
        family, k, d, p = mixture.family, *mixture.means.shape, mixture.n_features
        self.block = block_size(workspace.MOMENTS_BLOCK_BYTES, p + k, n_samples)
        self.summed = family.n_sums(d)
        self.products = Products(frame.coefficients(mixture), self.summed, self.block)
        self._cross = family.cross_moment(d)
        # Whether second moments are of each component's own, at the price of their features.
        self.dense = family.dense and self.summed == p

    def start(self, y: FloatArray) -> None:
        """Take a block of samples y [D, B], in the frame."""
        self.y = y
        self.mixture.family.write_features(y, self.products.features(y.shape[1]))

    def log_joint(self, shift: float) -> FloatArray:
        """Return log_joint - shift of the block, [K, B]."""
        return self.products.log_joint(shift)

    def add(
        self, exponentials: FloatArray, factor: FloatArray, weight: FloatArray | None = None
    ) -> None:
        """Add the block's moments, weighted by exponentials [K, B] times factor [B].

        `weight` [B] is that of the samples, None for ones.
        """
        n_rows = exponentials.shape[1]
        product_cost = self._product_cost(n_rows)
        exponentials *= factor
        if self.dense and product_cost > self._few_cost(1.0):
            mass = exponentials.sum(axis=1)
            # What is left out is less than what the product below would round off.
            chosen = self.significant(exponentials, mass, UNIT_ROUNDOFF)
            if product_cost > self._few_cost(np.count_nonzero(chosen) / len(mass)):
                self.few.add(self.y, exponentials, mass, chosen)
                if self.few.n_pairs >= self.few.enough:
                    self._add_few()
                return
        self.products.add(exponentials)
        if self._cross is not None:
            self._add_cross(self._cross[None], weight)

    def _add_cross(self, cross: FloatArray, weight: FloatArray | None) -> None:
        """Add sum w y y^T to cross [1, D, D]."""
        y = self.y[None]
        triangles.add_squares(cross, y if weight is None else y * weight, y)

    def merge(self, other: FeatureKernel) -> None:
        """Add what another kernel for the same mixture and frame added."""
        self.few.merge(other.few)
        self.products.merge(other.products)
        if self._cross is not None and other._cross is not None:
            self._cross += other._cross
        self.whitened.merge(other.whitened)

    def sums(self) -> list[Sums]:
        """Return n [K], v [K, D] and second moments, central ones if asked for, of all blocks.

        In up to two parts: of the products, and of residuals that were whitened.
        """
        self._add_few()
        return [*self._product_sums(), *self.whitened.sums()]

    def _product_sums(self) -> list[Sums]:
        family, frame = self.mixture.family, self.frame
        products = self.products.sums()
        if products is None:
            return []
        sums = Sums(*family.whitened_moments(products, frame.means, frame.inverse, self._cross))
        if not self.central:
            return [sums]
        central = sums.centre(family)
        # What is left where all digits cancelled is no variance.
        variance, square = family.diagonal(central.second), family.diagonal(sums.second)
        variance[variance <= ROUNDING * self.mixture.n_dims * square] = 0.0
        return [central]

    def _add_few(self) -> None:
        """Add the residuals that were gathered, if there are any."""
        if self.few.blocks:
            self.whitened.add(self.few.mass, self._residuals())

    def _residuals(self) -> Iterator[Residuals]:
        family, frame = self.mixture.family, self.frame
        for k, y, weight in self.few.give():
            z, spare = np.empty((2, 1, *y.shape))
            part = slice(k, k + 1)
            if family.whitened:
                family.whiten(frame.inverse, part, y, frame.means[part], out=z, spare=spare)
            else:
                np.subtract(y, frame.means[part][:, :, None], out=z)
            yield Residuals(part, z, weight[None], spare)

    # What the ways to add a block cost for a component, in nanoseconds, about.

    def _product_cost(self, n_rows: int) -> float:
        """Return the cost of products, and of turning them into moments if these are the first."""
        first = 0.0 if self.products.begun else 0.15 * self.mixture.n_dims**3
        return float(0.075 * self.summed * n_rows + first)

    def _few_cost(self, n_rows: float) -> float:
        """Return the cost of so many residuals, and their share in that of a component's part."""
        d, few = self.mixture.n_dims, self.few
        begun = few.blocks or self.whitened.near is not None
        share = n_rows * self.mixture.n_components / few.enough if begun else 1.0
        return float(n_rows * d * (18.0 + 0.2 * d) + share * (3e4 + 8.0 * d * d))
