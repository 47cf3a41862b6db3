"""The kernel whose work is two matrix products with the features of a block."""

from __future__ import annotations

import numpy as np
from scipy.linalg.blas import dgemm

from gmm_np import triangles
from gmm_np.checks import FloatArray
from gmm_np.families.family import ROUNDING, Sums
from gmm_np.kernels import blocks
from gmm_np.kernels.blocks import block_size, carve
from gmm_np.kernels.frame import Frame
from gmm_np.kernels.mixture import Mixture


class Moments:
    """Two products with the features of a block: log_joint, and its weighted sums."""

    holds_moments = False

    def __init__(
        self,
        mixture: Mixture,
        frame: Frame,
        n_samples: int = blocks.LARGEST_BLOCK,
        *,
        central: bool = False,
    ) -> None:
        self.mixture, self.frame, self.central = mixture, frame, central
        family, k, d, p = mixture.family, *mixture.means.shape, mixture.n_features
        self.block = block_size(blocks.BLOCK_BYTES, p + k, d, n_samples)
        self.theta = family.natural_parameters(
            mixture.constant, frame.means, frame.inverse
        )  # [K, P]
        self.constant = self.theta[:, 0].copy()
        self.summed = family.n_sums(d)
        self._sums, self._cross = np.zeros((k, self.summed)), family.cross_moment(d)
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
        self.holds_moments = True
        features = self.features[: self.summed]
        smaller = min(features, exponentials, key=len)
        smaller *= factor
        # sums += exponentials features^T, as one addition a block: BLAS would make many
        self._sums += dgemm(1.0, features.T, exponentials.T, trans_a=1).T
        if self._cross is not None:
            weighted = self.y if weight is None else self.y * np.sqrt(weight)
            triangles.add_square(self._cross, np.ascontiguousarray(weighted))

    def sums(self) -> Sums:
        """Return n [K], v [K, D] and second moments, central ones if asked for, of all blocks."""
        family, frame = self.mixture.family, self.frame
        sums = Sums(*family.whitened_moments(self._sums, frame.means, frame.inverse, self._cross))
        if not self.central:
            return sums
        central = sums.centre(family)
        # What is left where all digits cancelled is no variance.
        variance, square = family.diagonal(central.second), family.diagonal(sums.second)
        variance[variance <= ROUNDING * self.mixture.n_dims * square] = 0.0
        return central
