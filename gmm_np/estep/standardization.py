"""Coordinates about the middle of a mixture, and what rounding costs in them."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Final

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.covariance.family import Family
from gmm_np.estep.coefficients import Coefficients
from gmm_np.linalg import triangles

UNIT_ROUNDOFF: Final = 2.0**-53
# Coordinates whose unit is further from 1 than this power of two are brought to it.
LARGEST_EXPONENT: Final = 200


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
        self.sharpness = family.inverse_norm(self.inverse)  # [K] or []
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
        return Coefficients(self.family.natural_parameters(self.constant, self.means, self.inverse))
