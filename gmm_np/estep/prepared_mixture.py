"""A mixture as the kernels want it, and the coordinates that features are written in."""

from __future__ import annotations

import math
from functools import cached_property
from types import EllipsisType
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np

from gmm_np import tuning
from gmm_np.checks import FloatArray, is_finite
from gmm_np.covariance import FAMILIES, Family
from gmm_np.covariance.sums import Bools, Sums
from gmm_np.linalg import triangles
from gmm_np.parameters import Parameters

Method: TypeAlias = Literal["auto", "direct", "moments"]

LOG_2_PI: Final = math.log(2 * math.pi)
UNIT_ROUNDOFF: Final = 2.0**-53
# The feature kernel is admitted where the bound on its relative error promises ten digits.
LARGEST_ERROR: Final = 1e-10
# Coordinates whose unit is further from 1 than this power of two are brought to it.
LARGEST_EXPONENT: Final = 200


class PreparedMixture:
    """A mixture prepared for the kernels: everything K-sized that does not depend on data.

    Components that are off (a logit of -inf) are left out. Both arguments that describe the
    covariances are those of the family.

    Parameters
    ----------
    family : Family
    pi_logits : ndarray, shape [K]
    means : ndarray, shape [K, D]
    inverse : ndarray
        Inverse factors W_k, in the family's shape.
    half_log_det : ndarray, shape [K]
        Half the log-determinants of the covariances.
    scale : ndarray, optional
        The scale, if it is at hand.
    """

    def __init__(
        self,
        family: Family,
        pi_logits: FloatArray,
        means: FloatArray,
        inverse: FloatArray,
        half_log_det: FloatArray,
        scale: FloatArray | None = None,
    ) -> None:
        self.family = family
        with np.errstate(over="ignore", under="ignore", divide="ignore"):
            shifted = pi_logits - pi_logits.max()
            log_pi = shifted - np.log(np.exp(shifted).sum())  # (4)
        self.on = log_pi > -np.inf
        self.all_on = bool(self.on.all())
        chosen: EllipsisType | Bools = ... if self.all_on else self.on
        own = chosen if family.per_component else ...
        self.log_pi: FloatArray = log_pi[chosen]
        self.all_inverses = inverse
        self.means, self.inverse = means[chosen], inverse[own]
        self.n_components, self.n_dims = self.means.shape
        self.n_features = family.features.n_features(self.n_dims)
        # log_joint = constant - |z|^2 / 2, equation (9)
        self.constant = self.log_pi - half_log_det[chosen] - 0.5 * self.n_dims * LOG_2_PI
        self._scale = None if scale is None else scale[own]
        # A subnormal factor has no inverse. Then all is left to the reference: what a BLAS makes of
        # infinities times zero is its own affair.
        self.in_range = is_finite(self.inverse)
        self._standardizations = dict[bool, Standardization]()

    @classmethod
    def of(cls, parameters: Parameters) -> PreparedMixture:
        """Prepare parameters."""
        family = FAMILIES[parameters.family]
        means = parameters.means.astype(np.float64, copy=False)
        scale = parameters.scale.astype(np.float64, copy=False)
        with np.errstate(all="ignore"):
            inverse = family.structure.inverse(scale)
        n_components, n_dims = means.shape
        # of one covariance, where all components share it
        one = family.structure.half_log_det(scale, n_dims)
        half_log_det = np.broadcast_to(one, n_components)
        logits = parameters.pi_logits.astype(np.float64, copy=False)
        return cls(family, logits, means, inverse, half_log_det, scale)

    def standardization(self, *, common: bool) -> Standardization:
        """Return the coordinates with, or without, a common factor, for all threads."""
        if common not in self._standardizations:  # two threads would make the same
            scale = self.scale if common else None
            self._standardizations[common] = Standardization(
                self.family, self.constant, self.means, self.inverse, scale
            )
        return self._standardizations[common]

    def coordinates(
        self, method: Method, x: FloatArray
    ) -> tuple[Standardization, FloatArray] | None:
        """Return the coordinates that the feature kernel takes, and samples x [D, B] in them.

        None for the residual kernel, which takes them as they are.
        """
        if method == "direct":
            return None
        for common in self.family.frames:
            standardization = self.standardization(common=common)
            if standardization.unit != 1.0 and not self.family.whitened:
                continue  # plain residuals are in the units of the data
            y = standardization.transform(x)
            if method == "moments" or standardization.error_bound(y) <= LARGEST_ERROR:
                return standardization, y
        return None

    @cached_property
    def scale(self) -> FloatArray:
        """The scale, in the family's shape."""
        if self._scale is not None:
            return self._scale
        return self.family.structure.inverse(self.inverse)

    @cached_property
    def factors(self) -> FloatArray:
        """Lower Cholesky factors [K, D, D]."""
        return self.family.expand(self.scale, self.n_components, self.n_dims)

    def to_all_components(self, sums: Sums) -> Sums:
        """Put sums of components that are on among zeros for those that are off."""
        if self.all_on:
            return sums
        mass, first, second = sums
        spread = [np.zeros((len(self.on), *array.shape[1:])) for array in (mass, first)]
        spread[0][self.on], spread[1][self.on] = mass, first
        if second.size and self.family.per_component:
            own, second = second, np.zeros((len(self.on), *second.shape[1:]))
            second[self.on] = own
        return Sums(spread[0], spread[1], second)


class Standardization:
    """Coordinates in which features are written: y = x - centre, or C^-1 (x - centre).

    Multiplying all data by the inverse of one common factor C removes whatever anisotropy the
    components share, and leaves z as it is.

    Parameters
    ----------
    family : Family
    constant : ndarray, shape [K]
        log_joint at the means.
    means : ndarray, shape [K, D]
    inverse : ndarray
        Inverse factors, in the family's shape.
    scale : ndarray, optional
        The factors, for coordinates with a common one; none for those without.
    """

    def __init__(
        self,
        family: Family,
        constant: FloatArray,
        means: FloatArray,
        inverse: FloatArray,
        scale: FloatArray | None,
    ) -> None:
        self.family, self.constant = family, constant
        self.centre = np.asarray((means / len(means)).sum(axis=0))  # [D]
        self.means: FloatArray = means - self.centre  # [K, D]
        self.inverse = inverse
        self.common_inverse: FloatArray | None = None
        self.unit = 1.0
        if scale is not None:
            self.common_inverse = family.into_frame(scale)
            self.means = np.ascontiguousarray(self.transform(np.ascontiguousarray(means.T)).T)
            self.inverse = family.in_frame(inverse, self.common_inverse, scale)
        # In units so large or small that squares could leave the range, a power of two mends it.
        self.sharpness = family.features.inverse_norm(self.inverse)  # [K] or []
        exponent = int(np.frexp(self.sharpness.max())[1])
        if LARGEST_EXPONENT < abs(exponent) < 1000:
            self.unit = 2.0**exponent
            self.means, self.inverse = self.means * self.unit, self.inverse / self.unit
            self.sharpness = self.sharpness / self.unit
        self.reach = np.sqrt(np.einsum("kd,kd->k", self.means, self.means))  # [K]

    def transform(self, x: FloatArray) -> FloatArray:
        """Return samples x [D, B] in these coordinates."""
        y = np.empty_like(x)
        by = self.common_inverse
        if by is None or by.ndim == 1:
            np.subtract(x, self.centre[:, None], out=y)
            if by is not None:
                y *= by[:, None]
        else:
            spare = np.empty_like(x)
            triangles.whiten(by, x, self.centre[None], out=y[None], spare=spare[None])
        if self.unit != 1.0:
            y *= self.unit
        return y

    def error_bound(self, y: FloatArray) -> float:
        """Bound the relative error of the feature kernel on samples y [D, B].

        u max_k |L_k^-1|^2 (max_n |y_n| + |mu_k|)^2, each norm an upper bound: what cancels in
        log_joint is no larger than this over u. (A common factor costs no more than whitening
        does in any case, u times its condition.)
        """
        radius = math.sqrt(float(np.einsum("db,db->b", y, y).max()))
        widest = float((self.sharpness * (self.reach + radius)).max())
        return UNIT_ROUNDOFF * widest * widest

    @cached_property
    def coefficients(self) -> Coefficients:
        """Those of the features in log_joint."""
        theta = self.family.features.natural_parameters(self.constant, self.means, self.inverse)
        return in_tiles(theta)


class Coefficients(NamedTuple):
    """Coefficients [K, P] of features, in tiles; and of one more feature, which is 1 for each.

    K in groups of the same size, P in parts of the same size; what is left over is zero.
    """

    n_components: int
    n_features: int
    n_groups: int
    group: int
    n_parts: int
    part: int
    tiles: FloatArray  # [n_parts, n_groups * group, part]


def in_tiles(theta: FloatArray) -> Coefficients:
    """Divide coefficients [K, P] so that no product of a tile is too large.

    A tile has as many components as leave the least over, then as fill registers.
    """
    t, (k, p) = tuning.active, theta.shape
    group = -(-k // -(-k // t.tile_components))
    if k >= t.rounded_components:
        for size in range(t.rounded_components, t.tile_components + 1, t.register):
            padded, least = -(-k // size) * size, -(-k // group) * group
            if (padded, size % t.register > 0) < (least, group % t.register > 0):
                group = size
    n_groups = -(-k // group)
    n_parts = -(-(p + 1) // max(t.largest_product // (group * t.tile_samples), 1))
    part = -(-(p + 1) // n_parts)
    tiles = np.zeros((n_parts, n_groups * group, part))
    for i, tile in enumerate(tiles):
        columns = theta[:, i * part :][:, :part]
        tile[:k, : columns.shape[1]] = columns
    tiles[-1, :k, p - n_parts * part] = 1.0
    return Coefficients(k, p, n_groups, group, n_parts, part, tiles)
