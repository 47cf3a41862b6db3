"""The kernel "direct": accurate whatever the offset or the separation."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gmm_np import tuning
from gmm_np.checks import FloatArray
from gmm_np.covariance.sums import Sums
from gmm_np.estep.prepared_mixture import UNIT_ROUNDOFF, PreparedMixture
from gmm_np.estep.residual_sums import Residuals, ResidualSums, Significance


class OutOfRangeError(ArithmeticError):
    """A distance has no finite square. The reference knows what to do."""


class ResidualKernel:
    """Residuals first, then whitening: z = W_k (x - mu_k)."""

    def __init__(
        self, mixture: PreparedMixture, block: int | None = None, *, central: bool = False
    ) -> None:
        t, k, d = tuning.active, mixture.n_components, mixture.n_dims
        self.mixture = mixture
        self.block = t.largest_block if block is None else block
        self.group = min(max(t.residual_group_bytes // (8 * d * self.block), 1), k)
        self.significant, self.wait = Significance(k), 0
        self.residuals = ResidualSums(mixture, central=central)
        self._z = np.empty(k * d * self.block)
        self._memory = np.empty(self.group * d * self.block)
        self._quadratic, self._terms = np.empty(k * self.block), np.empty(k * self.block)

    def start(self, x: FloatArray) -> None:
        """Take a block of samples x [D, B].

        Raises
        ------
        OutOfRangeError
            If the square of a distance is not finite.
        """
        m, b, self.x = self.mixture, x.shape[1], x
        self.z = _view(self._z, (m.n_components, m.n_dims, b))
        self.quadratic = _view(self._quadratic, (m.n_components, b))
        for part in self.groups():
            z = self.z[part]
            spare = self.spare(z.shape)
            m.family.whiten(m.inverse, part, x, m.means[part], out=z, spare=spare)  # (6)
            np.einsum("kdb,kdb->kb", z, z, out=self.quadratic[part])  # (7)
        if not math.isfinite(self.quadratic.max()):
            raise OutOfRangeError

    def log_joint(self, shift: float) -> FloatArray:
        """Return log_joint - shift of the block, [K, B]."""
        terms = _view(self._terms, self.quadratic.shape)
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
        self.residuals.add(mass, self._parts(exponentials, mass))

    def lifted(self) -> FloatArray:
        """Return the residuals z of the block [K, D, B], those expected where not all is seen."""
        return self.z

    @property
    def hidden(self) -> FloatArray | None:
        """Second moments of what the samples leave open of these, if they do: [G or 1, ...]."""
        return None

    def merge(self, other: ResidualKernel) -> None:
        """Add what another kernel for the same mixture added."""
        self.residuals.merge(other.residuals)

    def sums(self) -> list[Sums]:
        """Return the sums of all blocks, if there were any."""
        return self.residuals.sums()

    def groups(self) -> Iterator[slice]:
        """Yield slices of components whose residuals stay in a cache."""
        k = self.mixture.n_components
        for start in range(0, k, self.group):
            yield slice(start, min(start + self.group, k))

    def spare(self, shape: tuple[int, ...]) -> FloatArray:
        """Return memory for as much as the residuals of one of the `groups`."""
        return _view(self._memory, shape)

    def _parts(self, weights: FloatArray, mass: FloatArray) -> Iterator[Residuals]:
        """Yield residuals, weighted by weights [K, B]: all of them, or those that count."""
        n_rows, chosen = weights.shape[1], None
        m = self.mixture
        t = tuning.active
        if m.family.whitened and m.n_dims > t.copied_dims and self.z.size > t.smallest_asked:
            self.wait -= 1
            if self.wait <= 0:
                reach = max(float(self.quadratic.max()), 1.0)
                chosen = self.significant(weights, mass, UNIT_ROUNDOFF**2 / reach)
                self.wait = t.blocks_to_wait
        for part in self.groups():
            z = self.z[part]
            if not m.family.whitened:
                np.subtract(self.x, m.means[part][:, :, None], out=z)
            every = Residuals(part, z, weights[part], self.spare(z.shape))
            if chosen is None:
                yield every
                continue
            for one, counts in zip(every.split(), chosen[part], strict=True):
                if np.count_nonzero(counts) > t.copied_share * n_rows:
                    yield one
                    continue
                few = np.flatnonzero(counts)
                self.wait = 0
                if len(few) > 0:
                    z_few = one.z.take(few, axis=2)
                    weight = one.weight[:, few]
                    yield Residuals(one.components, z_few, weight, np.empty_like(z_few))


def _view(memory: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return the start of `memory` as a contiguous array of this shape."""
    return memory[: math.prod(shape)].reshape(shape)
