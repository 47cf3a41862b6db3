"""A mixture as the kernels want it."""

from __future__ import annotations

import math
from functools import cached_property
from types import EllipsisType
from typing import Final

import numpy as np

from gmm_np.checks import FloatArray, is_finite
from gmm_np.covariance import FAMILIES
from gmm_np.covariance.family import Bools, Family, Sums
from gmm_np.parameters import Parameters

LOG_2_PI: Final = math.log(2 * math.pi)


class OutOfRangeError(ArithmeticError):
    """A distance has no finite square. The reference knows what to do."""


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
        self.n_features = self.family.n_features(self.n_dims)
        # log_joint = constant - |z|^2 / 2, equation (9)
        self.constant = self.log_pi - half_log_det[chosen] - 0.5 * self.n_dims * LOG_2_PI
        self._scale = None if scale is None else scale[own]
        # A subnormal factor has no inverse. Then all is left to the reference: what a BLAS makes of
        # infinities times zero is its own affair.
        self.in_range = is_finite(self.inverse)

    @classmethod
    def of(cls, parameters: Parameters) -> PreparedMixture:
        """Prepare parameters."""
        family = FAMILIES[parameters.family]
        logits, means, scale = (
            a.astype(np.float64, copy=False)
            for a in (parameters.pi_logits, parameters.means, parameters.scale)
        )
        with np.errstate(all="ignore"):
            inverse = family.inverse(scale)
        half_log_det = family.half_log_det(scale, *means.shape)
        return cls(family, logits, means, inverse, half_log_det, scale)

    @cached_property
    def centre(self) -> FloatArray:
        """The mean of the means [D]."""
        return np.asarray((self.means / self.n_components).sum(axis=0))

    @cached_property
    def scale(self) -> FloatArray:
        """The scale, in the family's shape."""
        return self.family.inverse(self.inverse) if self._scale is None else self._scale

    @cached_property
    def factors(self) -> FloatArray:
        """Lower Cholesky factors [K, D, D]."""
        return self.family.expand(self.scale, self.n_components, self.n_dims)

    def spread(self, values: FloatArray) -> FloatArray:
        """Put what belongs to components that are on among zeros for those that are off."""
        if self.all_on:
            return values
        spread = np.zeros((len(self.on), *values.shape[1:]))
        spread[self.on] = values
        return spread

    def to_all_components(self, sums: Sums) -> Sums:
        """Put sums of components that are on among zeros for those that are off."""
        if self.all_on:
            return sums
        mass, first, second = sums
        if second.size and self.family.per_component:
            second = self.spread(second)
        return Sums(self.spread(mass), self.spread(first), second)
