"""The kernels of blocks that have a pattern each: residuals of what is seen, and features of it.

Letters in shapes: B samples of a block, K components that are on, G covariances (K, or 1 where all
share it), D dimensions, E blocks of one pattern each, P features.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.covariance.margins import Margins, margins_of
from gmm_np.covariance.sums import ROUNDING, Bools, Sums, inverse_or_zero
from gmm_np.estep import (
    Method,
    OutOfRangeError,
    PreparedMixture,
    ResidualKernel,
)
from gmm_np.estep.prepared_mixture import LARGEST_ERROR, LOG_2_PI, UNIT_ROUNDOFF
from gmm_np.linalg.triangles import multiply


class Coordinates(NamedTuple):
    """Coordinates in which features are written: y = (x - centre) / unit, column by column."""

    centre: FloatArray  # [D]
    unit: FloatArray  # [D], or [1] where all columns share a variance
    means: FloatArray  # [K, D]

    @classmethod
    def of(cls, mixture: PreparedMixture, method: Method, reach: FloatArray) -> Coordinates | None:
        """Return coordinates for samples of this reach, None where digits would be lost."""
        structure = mixture.family.structure
        centre = mixture.means.mean(axis=0)
        deviations = structure.deviations(mixture.scale)
        unit = np.exp(np.log(deviations.reshape(-1, deviations.shape[-1])).mean(axis=0))
        found = cls(centre, unit, (mixture.means - centre) / unit)
        if method == "moments":
            return found
        sharpness = structure.inverse_norm(found.scaled(mixture.inverse))
        radius = np.sqrt(np.square(np.abs(reach - centre).max(axis=0) / unit).sum())
        widest = sharpness * (np.sqrt(np.square(found.means).sum(axis=1)) + radius)
        return found if UNIT_ROUNDOFF * float(widest.max()) ** 2 <= LARGEST_ERROR else None

    def scaled(self, inverse: FloatArray) -> FloatArray:
        """Return inverse factors for data in these coordinates."""
        return inverse * (self.unit if self.unit.size > 1 else self.unit[0])

    def transform(self, x: FloatArray) -> FloatArray:
        """Return samples x [D, B] in these coordinates."""
        y = x - self.centre[:, None]
        y /= self.unit[:, None]
        return y


class BlockSums:
    """Moments of residuals u of blocks, each on its own.

    Parameters
    ----------
    mixture : PreparedMixture
    n_blocks : int
        E.
    central : bool
        Whether second moments are to be about a block's own mean.
    """

    def __init__(self, mixture: PreparedMixture, n_blocks: int, *, central: bool) -> None:
        self.family, self.central = mixture.family, central
        k, d = mixture.means.shape
        self.mass, self.first = np.zeros((n_blocks, k)), np.zeros((n_blocks, k, d))
        self.second = np.zeros((n_blocks, *self.family.second_moments(k, d).shape))

    def add(
        self, index: int, part: slice, u: FloatArray, weights: FloatArray, spare: FloatArray
    ) -> None:
        """Add those of a block's residuals [G, D, B] for some components; weights are [G, B].

        If central, residuals are overwritten.
        """
        np.multiply(u, weights[:, None], out=spare)
        mass, first = weights.sum(axis=1), spare.sum(axis=2)
        self.mass[index, part], self.first[index, part] = mass, first
        if self.central:
            u -= (first * inverse_or_zero(mass)[:, None])[..., None]
            np.multiply(u, weights[:, None], out=spare)
        self.family.add_second_moments(self.second[index, ...], part, spare, u)

    def moments(self) -> Sums:
        """Return mass [E, K], first [E, K, D] and second moments [E, G, ...]."""
        second = self.family.complete(self.second)
        return Sums(self.mass, self.first, second[:, None] if self.family.shared else second)


class MarginalKernel(ResidualKernel):
    """Whitened residuals u of what is seen, of blocks that have a pattern each.

    Parameters
    ----------
    mixture : PreparedMixture
    seen : ndarray of bool, shape [E, D]
    block : int
        Samples of a block, at most.
    central : bool
        As for `EStep`.
    """

    def __init__(self, mixture: PreparedMixture, seen: Bools, block: int, *, central: bool) -> None:
        super().__init__(mixture, block, central=central)
        self.margins: Margins = margins_of(mixture.family, seen, mixture.scale)
        self.own_means = mixture.means * seen[:, None]  # [E, K, D]
        size = 0.5 * LOG_2_PI * seen.sum(axis=1)
        self.constants = mixture.log_pi - self.margins.half_log_det - size[:, None]  # [E, K]
        self.index = 0  # of the block that is taken
        self.block_sums = BlockSums(mixture, len(seen), central=central)

    def start(self, x: FloatArray) -> None:
        """Take a block of samples x [D, B], with zeros where values are missing."""
        m, b, e = self.mixture, x.shape[1], self.index
        self.z = self._z[: m.means.size * b].reshape(*m.means.shape, b)
        self.quadratic = self._quadratic[: m.n_components * b].reshape(-1, b)
        inverse = self.margins.inverse[e]
        for part in self.groups():
            z = self.z[part]
            w = inverse if m.family.shared else inverse[part]
            spare = self.spare(z.shape)
            m.family.structure.whiten(w, x, self.own_means[e, part], z, spare)  # (68)
            np.einsum("kdb,kdb->kb", z, z, out=self.quadratic[part])
        if not math.isfinite(self.quadratic.max()):
            raise OutOfRangeError

    def log_joint(self, shift: float) -> FloatArray:
        """Return log_joint - shift of the block, [K, B]."""
        terms = self._terms[: self.quadratic.size].reshape(self.quadratic.shape)
        np.multiply(self.quadratic, -0.5, out=terms)
        terms += (self.constants[self.index] - shift)[:, None]
        return terms

    def add(
        self,
        exponentials: FloatArray,
        factor: FloatArray,
        weight: FloatArray | None = None,  # noqa: ARG002  as for a `ResidualKernel`
    ) -> None:
        """Add the block's moments, weighted by exponentials [K, B] times factor [B]."""
        exponentials *= factor
        for part in self.groups():
            z = self.z[part]
            self.block_sums.add(self.index, part, z, exponentials[part], self.spare(z.shape))

    def moments(self) -> Sums:
        """Return those of u: mass [E, K], first [E, K, D] and second [E, G, ...]."""
        return self.block_sums.moments()

    def lifted(self) -> FloatArray:
        """Return the expected residuals z of all columns [K, D, B], equation (69)."""
        return self.margins.lift_residuals(self.index, self.z)

    @property
    def hidden(self) -> FloatArray:
        """What stays unknown of their second moments, [G or 1, ...]."""
        hidden: FloatArray = self.margins.hidden[self.index]
        return hidden


class MarginalFeatureKernel(MarginalKernel):
    """The same by two products with the features of a block."""

    def __init__(
        self,
        mixture: PreparedMixture,
        seen: Bools,
        block: int,
        coordinates: Coordinates,
        *,
        central: bool,
    ) -> None:
        super().__init__(mixture, seen, 1, central=central)
        self.central = central
        n_blocks, (k, d), structure = len(seen), mixture.means.shape, mixture.family.structure
        self.coordinates, p = coordinates, structure.n_features(d)
        self.own_means = coordinates.means * seen[:, None]
        inverse = coordinates.scaled(self.margins.inverse)
        self.stack = np.broadcast_to(inverse, (n_blocks, k, *inverse.shape[2:])).reshape(
            n_blocks * k, *inverse.shape[2:]
        )
        self.theta = structure.natural_parameters(
            self.constants.reshape(-1), self.own_means.reshape(-1, d), self.stack
        ).reshape(n_blocks, k, p)
        self.products = np.zeros((n_blocks, k, p))
        self._features, self._log_joint = np.empty(p * block), np.empty(k * block)

    def start(self, x: FloatArray) -> None:
        """Write the features of a block of samples x [D, B]."""
        structure, b = self.mixture.family.structure, x.shape[1]
        y = self.coordinates.transform(x)
        y *= self.margins.seen[self.index][:, None]
        self.features = self._features[: self.theta.shape[2] * b].reshape(-1, b)
        structure.write_features(y, self.features)

    def log_joint(self, shift: float) -> FloatArray:
        """Return log_joint - shift of the block, [K, B]."""
        theta = self.theta[self.index]
        terms = self._log_joint[: len(theta) * self.features.shape[1]].reshape(len(theta), -1)
        multiply(theta, self.features, out=terms)
        terms -= shift
        return terms

    def add(
        self,
        exponentials: FloatArray,
        factor: FloatArray,
        weight: FloatArray | None = None,  # noqa: ARG002
    ) -> None:
        """Add the block's features, weighted by exponentials [K, B] times factor [B]."""
        exponentials *= factor
        multiply(exponentials, self.features.T, out=self.products[self.index])

    def moments(self) -> Sums:
        """Return those of u: mass [E, K], first [E, K, D] and second [E, G, ...]."""
        family, (n_blocks, k, _) = self.mixture.family, self.products.shape
        structure, d = family.structure, self.mixture.n_dims
        products = self.products.reshape(n_blocks * k, -1)
        means, mass = self.own_means.reshape(-1, d), products[:, 0].copy()
        first = products[:, 1 : d + 1] - mass[:, None] * means
        whitened = structure.apply(self.stack, first)
        own = mass.reshape(n_blocks, k), whitened.reshape(n_blocks, k, d)
        if not family.learned:
            return Sums(*own, np.zeros((n_blocks, 0)))
        second = structure.feature_moments(products, means, first, self.stack)
        if self.central:
            square = structure.diagonal(second).copy()
            second = second - structure.outer(inverse_or_zero(mass), whitened)
            # What is left where all digits cancelled is no variance.
            variance = structure.diagonal(second)
            variance[variance <= ROUNDING * d * square] = 0.0
        second = second.reshape(n_blocks, k, *second.shape[1:])
        return Sums(*own, second.sum(axis=1, keepdims=True) if family.shared else second)
