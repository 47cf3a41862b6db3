"""The kernel that is accurate whatever the offset or the separation."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg.blas import dgemv

from gmm_np.checks import FloatArray
from gmm_np.families.family import SMALLEST_VARIANCE, Sums, merge
from gmm_np.kernels import blocks
from gmm_np.kernels.blocks import block_size, carve
from gmm_np.kernels.mixture import Mixture, OutOfRangeError


class Direct:
    """Residuals first, then whitening: z = W_k (x - mu_k)."""

    holds_moments = False

    def __init__(
        self, mixture: Mixture, n_samples: int = blocks.LARGEST_BLOCK, *, central: bool = False
    ) -> None:
        self.mixture, self.central = mixture, central
        k, d = mixture.n_components, mixture.n_dims
        self.block = block_size(blocks.DIRECT_BLOCK_BYTES, k * (d + 2), d, n_samples)
        self.near = self._zeros()
        self.far: Sums | None = None
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
        self.holds_moments = True
        family, far = self.mixture.family, None
        exponentials *= factor
        mass = exponentials.sum(axis=1)
        root = np.sqrt(exponentials, out=self.quadratic)
        for k in np.flatnonzero(mass > 0).tolist():
            z, sums = self.z[k], self.near
            # Fortran sees z^T [B, D].
            first = dgemv(1.0, z.T, exponentials[k], trans=1)
            z *= root[k]
            if self.central:
                square = np.einsum("db,db->d", z, z)
                if (first**2 > (1 - SMALLEST_VARIANCE) * mass[k] * square).any():
                    z -= (first / mass[k])[:, None] * root[k]
                    sums = far = self._zeros() if far is None else far
            sums.mass[k] += mass[k]
            sums.first[k] += first
            family.add_second_moment(sums.second, k, z)
        if far is not None:
            far = Sums(far.mass, far.first, family.complete(far.second))
            self.far = far if self.far is None else merge(family, self.far, far)

    def sums(self) -> Sums:
        """Return n [K], v [K, D] and second moments, central ones if asked for, of all blocks."""
        family = self.mixture.family
        near = Sums(self.near.mass, self.near.first, family.complete(self.near.second))
        if not self.central:
            return near
        near = near.centre(family)
        return near if self.far is None else merge(family, near, self.far)

    def _zeros(self) -> Sums:
        k, d = self.mixture.n_components, self.mixture.n_dims
        return Sums(np.zeros(k), np.zeros((k, d)), self.mixture.family.second_moments(k, d))
