"""Coordinates about the middle of a mixture, and what rounding costs in them."""

from __future__ import annotations

import math
from threading import Lock
from typing import Final

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.estep.feature_sums import FeatureCoefficients
from gmm_np.estep.prepared_mixture import PreparedMixture
from gmm_np.linalg import triangles

UNIT_ROUNDOFF: Final = 2.0**-53
# Frames whose unit is further from 1 than this power of two are brought to it.
LARGEST_EXPONENT: Final = 200


class Standardizations:
    """The frames of a mixture, each of them made once, whichever thread asks first."""

    def __init__(self, mixture: PreparedMixture) -> None:
        self.mixture, self.made, self.lock = mixture, dict[bool, Standardization](), Lock()

    def get(self, *, common: bool) -> Standardization:
        """Return the frame with, or without, a common factor."""
        with self.lock:
            if common not in self.made:
                self.made[common] = Standardization(self.mixture, common=common)
            return self.made[common]


class Standardization:
    """Coordinates in which features are written: y = x - centre, or C^-1 (x - centre).

    Multiplying all data by the inverse of one common factor C removes whatever anisotropy the
    components share, and leaves z as it is.
    """

    def __init__(self, mixture: PreparedMixture, *, common: bool) -> None:
        family, self.centre = mixture.family, mixture.centre
        self.means: FloatArray = mixture.means - mixture.centre  # [K, D]
        self.inverse = mixture.inverse
        self.into: FloatArray | None = None
        if common:
            self.into = family.into_frame(mixture.scale)
            columns = np.ascontiguousarray(mixture.means.T)
            self.means = np.ascontiguousarray(self._turn(columns, self.centre).T)
            self.inverse = family.in_frame(mixture.inverse, self.into, mixture.scale)
        # In units so large or small that squares could leave the range, a power of two mends it.
        self.sharpness = family.inverse_norm(self.inverse)  # [K] or []
        exponent = int(np.frexp(self.sharpness.max())[1])
        self.unit = 2.0**exponent if LARGEST_EXPONENT < abs(exponent) < 1000 else 1.0
        if self.unit != 1.0:
            self.means, self.inverse = self.means * self.unit, self.inverse / self.unit
            self.sharpness = self.sharpness / self.unit
        self._coefficients: FeatureCoefficients | None = None
        self._lock = Lock()
        self.reach = np.sqrt(np.einsum("kd,kd->k", self.means, self.means))  # [K]

    def coefficients(self, mixture: PreparedMixture) -> FeatureCoefficients:
        """Return those of the features in log_joint; computed once, for all threads."""
        with self._lock:
            if self._coefficients is None:
                theta = mixture.family.natural_parameters(
                    mixture.constant, self.means, self.inverse
                )
                self._coefficients = FeatureCoefficients(theta)
            return self._coefficients

    def write(self, x: FloatArray) -> FloatArray:
        """Return the samples x [D, B] in this frame."""
        y = self._turn(x, self.centre)
        if self.unit != 1.0:
            y *= self.unit
        return y

    def _turn(self, x: FloatArray, centre: FloatArray) -> FloatArray:
        """Return x - centre [D, B], times C^-1 if there is a common factor."""
        y = np.empty_like(x)
        if self.into is None:
            np.subtract(x, centre[:, None], out=y)
        elif self.into.ndim == 1:
            np.subtract(x, centre[:, None], out=y)
            y *= self.into[:, None]
        else:
            spare = np.empty_like(x)
            triangles.whiten(self.into, x, centre[None], out=y[None], spare=spare[None])
        return y

    def error(self, y: FloatArray) -> float:
        """Bound the relative error of moments on samples y [D, B].

        u max_k |L_k^-1|^2 (max_n |y_n| + |mu_k|)^2, each norm an upper bound: what cancels in
        log_joint is no larger than this over u. (A common factor costs no more than whitening
        does in any case, u times its condition.)
        """
        radius = math.sqrt(float(np.einsum("db,db->b", y, y).max()))
        widest = float((self.sharpness * (self.reach + radius)).max())
        return UNIT_ROUNDOFF * widest * widest
