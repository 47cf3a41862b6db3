"""The kernel whose work is two matrix products with the features of a block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg.blas import dgemm

from gmm_np import triangles
from gmm_np.checks import FloatArray
from gmm_np.families.family import ROUNDING, Sums
from gmm_np.kernels import blocks
from gmm_np.kernels.blocks import block_size, carve
from gmm_np.kernels.frame import UNIT_ROUNDOFF, Frame
from gmm_np.kernels.mixture import Mixture
from gmm_np.kernels.whitened import Gathered, Residuals, Significance, WhitenedSums


class Moments:
    """Two products with the features of a block: log_joint, and its weighted sums.

    Where few responsibilities count, their residuals are whitened instead of the second product.
    """

    def __init__(
        self,
        mixture: Mixture,
        frame: Frame,
        n_samples: int = blocks.LARGEST_BLOCK,
        *,
        central: bool = False,
    ) -> None:
        self.mixture, self.frame, self.central = mixture, frame, central
        self.holds_moments = False  # of products
        self.whitened = WhitenedSums(mixture, central=central)
        self.significant = Significance(mixture.n_components)
        self.few = Gathered(mixture.n_components, mixture.n_dims)
        family, k, d, p = mixture.family, *mixture.means.shape, mixture.n_features
        self.block = block_size(blocks.BLOCK_BYTES, p + k, d, n_samples, p * k)
        self.theta = family.natural_parameters(
            mixture.constant, frame.means, frame.inverse
        )  # [K, P]
        self.constant = self.theta[:, 0].copy()
        self.summed = family.n_sums(d)
        self._sums, self._cross = np.zeros((k, self.summed)), family.cross_moment(d)
        # Whether second moments are of each component's own, at the price of their features.
        self.dense = family.dense and self.summed == p
        self._features, self._terms = np.empty(p * self.block), np.empty(k * self.block)

    def start(self, y: FloatArray) -> None:
        """Take a block of samples y [D, B], in the frame."""
        self.y = y
        self.features = carve(self._features, (self.mixture.n_features, y.shape[1]))
        self.mixture.family.write_features(y, self.features)

    def log_joint(self, shift: float) -> FloatArray:
        """Return log_joint - shift of the block, [K, B]."""
        terms = carve(self._terms, (self.mixture.n_components, self.features.shape[1]))
        np.subtract(self.constant, shift, out=self.theta[:, 0])
        # Fortran sees every array transposed: terms^T = features^T theta^T.
        dgemm(1.0, self.features.T, self.theta.T, c=terms.T, overwrite_c=1)
        return terms

    def add(
        self, exponentials: FloatArray, factor: FloatArray, weight: FloatArray | None = None
    ) -> None:
        """Add the block's moments, weighted by exponentials [K, B] times factor [B].

        `weight` [B] is that of the samples, None for ones.
        """
        features = self.features[: self.summed]
        n_rows = exponentials.shape[1]
        product_cost = self._product_cost(n_rows)
        if self.dense and product_cost > self._few_cost(1.0):
            exponentials *= factor
            mass = exponentials.sum(axis=1)
            # What is left out is less than what the product below would round off.
            chosen = self.significant(exponentials, mass, UNIT_ROUNDOFF)
            if product_cost > self._few_cost(np.count_nonzero(chosen) / len(mass)):
                self.few.add(self.y, exponentials, mass, chosen)
                if self.few.n_pairs >= self.few.enough:
                    self._add_few()
                return
        else:
            smaller = min(features, exponentials, key=len)
            smaller *= factor
        self.holds_moments = True
        # sums += exponentials features^T, as one addition a block: BLAS would make many
        self._sums += dgemm(1.0, features.T, exponentials.T, trans_a=1).T
        if self._cross is not None:
            weighted = self.y if weight is None else self.y * np.sqrt(weight)
            triangles.add_square(self._cross, np.ascontiguousarray(weighted))

    def sums(self) -> list[Sums]:
        """Return n [K], v [K, D] and second moments, central ones if asked for, of all blocks.

        In up to two parts: of the products, and of residuals that were whitened.
        """
        if self.few.blocks:
            self._add_few()
        return [*self._product_sums(), *self.whitened.sums()]

    def _product_sums(self) -> list[Sums]:
        if not self.holds_moments:
            return []
        family, frame = self.mixture.family, self.frame
        sums = Sums(*family.whitened_moments(self._sums, frame.means, frame.inverse, self._cross))
        if not self.central:
            return [sums]
        central = sums.centre(family)
        # What is left where all digits cancelled is no variance.
        variance, square = family.diagonal(central.second), family.diagonal(sums.second)
        variance[variance <= ROUNDING * self.mixture.n_dims * square] = 0.0
        return [central]

    def _add_few(self) -> None:
        """Add the residuals that were gathered."""
        self.whitened.add(self.few.mass, self._residuals())

    def _residuals(self) -> Iterator[Residuals]:
        family, frame = self.mixture.family, self.frame
        for k, y, weight in self.few.give():
            z = np.empty(y.shape)
            family.whiten(frame.inverse, k, y, frame.means[k], out=z, spare=np.empty(y.shape))
            yield Residuals(k, z, weight, np.sqrt(weight))

    # What the ways to add a block cost for a component, in nanoseconds, about.

    def _product_cost(self, n_rows: int) -> float:
        """Return the cost of products, and of turning them into moments if these are the first."""
        first = 0.0 if self.holds_moments else 0.05 * self.mixture.n_dims**3
        return float(0.025 * self.summed * n_rows + first)

    def _few_cost(self, n_rows: float) -> float:
        """Return the cost of so many residuals, and their share in that of a component's part."""
        d, few = self.mixture.n_dims, self.few
        begun = few.blocks or self.whitened.near is not None
        share = n_rows * self.mixture.n_components / few.enough if begun else 1.0
        return float(n_rows * d * (9.0 + 0.1 * d) + share * (1.5e4 + 4.0 * d * d))
