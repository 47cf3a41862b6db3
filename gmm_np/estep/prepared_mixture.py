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
from gmm_np.estep.standardization import Standardization
from gmm_np.parameters import Parameters

LOG_2_PI: Final = math.log(2 * math.pi)


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
        self.n_features = family.n_features(self.n_dims)
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
            inverse = family.inverse(scale)
        half_log_det = family.half_log_det(scale, *means.shape)
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

    @cached_property
    def scale(self) -> FloatArray:
        """The scale, in the family's shape."""
        return self.family.inverse(self.inverse) if self._scale is None else self._scale

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
