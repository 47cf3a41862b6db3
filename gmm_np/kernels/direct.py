"""The kernel that is accurate whatever the offset or the separation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from gmm_np import triangles
from gmm_np.checks import FloatArray
from gmm_np.families.family import Sums
from gmm_np.kernels import blocks
from gmm_np.kernels.blocks import block_size, carve
from gmm_np.kernels.frame import UNIT_ROUNDOFF
from gmm_np.kernels.mixture import Mixture, OutOfRangeError
from gmm_np.kernels.whitened import Residuals, Significance, WhitenedSums

# Up to this share of a component's residuals in a block it pays to copy those that count.
LARGEST_SHARE: Final = 0.5
# Which count is asked of blocks with more coordinates than this, and, where it did not pay, again
# so many blocks later.
SMALLEST_ASKED: Final = 2**17
BLOCKS_TO_WAIT: Final = 8


class Direct:
    """Residuals first, then whitening: z = W_k (x - mu_k)."""

    def __init__(
        self, mixture: Mixture, n_samples: int = blocks.LARGEST_BLOCK, *, central: bool = False
    ) -> None:
        self.mixture = mixture
        k, d = mixture.n_components, mixture.n_dims
        self.block = block_size(blocks.DIRECT_BLOCK_BYTES, k * (d + 2), d, n_samples)
        self.significant, self.wait = Significance(k), 0
        self.whitened = WhitenedSums(mixture, central=central)
        self._z, self._spare = np.empty(k * d * self.block), np.empty(d * self.block)
        self._quadratic, self._terms = np.empty(k * self.block), np.empty(k * self.block)

    def start(self, x: FloatArray) -> None:
        """Take a block of samples x [D, B].

        Raises
        ------
        OutOfRangeError
            If the square of a distance is not finite.
        """
        m, b = self.mixture, x.shape[1]
        self.z = carve(self._z, (m.n_components, m.n_dims, b))
        self.quadratic = carve(self._quadratic, (m.n_components, b))
        spare = carve(self._spare, x.shape)
        for k in range(m.n_components):
            m.family.whiten(m.inverse, k, x, m.means[k], out=self.z[k], spare=spare)  # (6)
            np.einsum("db,db->b", self.z[k], self.z[k], out=self.quadratic[k])  # (7)
        if not math.isfinite(self.quadratic.max()):
            raise OutOfRangeError

    def log_joint(self, shift: float) -> FloatArray:
        """Return log_joint - shift of the block, [K, B]."""
        terms = carve(self._terms, self.quadratic.shape)
        np.multiply(self.quadratic, -0.5, out=terms)
        terms += (self.mixture.constant - shift)[:, None]  # (9)
        return terms

    def add(
        self,
        exponentials: FloatArray,
        factor: FloatArray,
        weight: FloatArray | None = None,  # noqa: ARG002  of samples, for kernels that need their sum
    ) -> None:
        """Add the block's moments, weighted by exponentials [K, B] times factor [B]."""
        exponentials *= factor
        mass = exponentials.sum(axis=1)
        self.whitened.add(mass, self._parts(exponentials, mass))

    def sums(self) -> list[Sums]:
        """Return the sums of all blocks, if there were any."""
        return self.whitened.sums()

    def _parts(self, weights: FloatArray, mass: FloatArray) -> Iterator[Residuals]:
        """Yield the residuals of each component that has any, weighted by weights [K, B]."""
        n_rows, chosen = weights.shape[1], None
        if self.mixture.n_dims > triangles.SMALL and self.z.size > SMALLEST_ASKED:
            self.wait -= 1
            if self.wait <= 0:
                reach = max(float(self.quadratic.max()), 1.0)
                chosen = self.significant(weights, mass, UNIT_ROUNDOFF**2 / reach)
                self.wait = BLOCKS_TO_WAIT
        roots = np.sqrt(weights, out=self.quadratic)
        for k in np.flatnonzero(mass > 0).tolist():
            if chosen is not None and np.count_nonzero(chosen[k]) <= LARGEST_SHARE * n_rows:
                few = np.flatnonzero(chosen[k])
                self.wait = 0
                if len(few) > 0:
                    yield Residuals(k, self.z[k].take(few, axis=1), weights[k, few], roots[k, few])
            else:
                yield Residuals(k, self.z[k], weights[k], roots[k])
