"""Weighted sums over samples, in whitened coordinates, and what is added to them in an M-step.

Everything about a component is held in its own whitened coordinates z = W_k (x - mu_k), where
spreads are about one: the first moment is v = sum w r z [K, D], the second M = sum w r z z^T, of
which a family keeps what it needs.

Letters in shapes: K components, D dimensions, P features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmm_np import extended_range
from gmm_np.checks import FloatArray

if TYPE_CHECKING:
    from gmm_np.covariance.family import Family

Bools: TypeAlias = NDArray[np.bool_]

# A variance no more than the square of this times D, relative to the second moment that it was
# computed from, or an eigenvalue of a correlation matrix no more than this times D, is rounding.
ROUNDING: Final = 64 * float(np.finfo(np.float64).eps)
# A component's second moment in a block is taken about the block's mean where a variance is less
# than this part of it: more than three digits would cancel.
SMALLEST_VARIANCE: Final = 1e-3


class Sums(NamedTuple):
    """Weighted sums over samples: n [K], v [K, D], and second moments in the family's shape.

    Second moments are about the components' means (z = 0), or central: about v / n.
    """

    mass: FloatArray
    first: FloatArray
    second: FloatArray

    def centre(self, family: Family) -> Sums:
        """Return the same with central second moments.

        Where the difference leaves the range of a double, moments stay about z = 0.
        """
        return self._shifted(family, -1.0)

    def about_means(self, family: Family) -> Sums:
        """Return the same with second moments about z = 0, from those that `centre` gives."""
        return self._shifted(family, 1.0)

    def _shifted(self, family: Family, sign: float) -> Sums:
        with np.errstate(all="ignore"):
            outer = sign * family.outer(inverse_or_zero(self.mass), self.first)
            second = np.where(np.isfinite(outer), self.second + outer, self.second)
        return Sums(self.mass, self.first, second)


def merge(family: Family, left: Sums, right: Sums) -> Sums:
    """Add sums with central second moments, without the cancellation that raw ones have."""
    with np.errstate(all="ignore"):
        step = left.first * inverse_or_zero(left.mass)[:, None]
        step -= right.first * inverse_or_zero(right.mass)[:, None]
        mass = left.mass + right.mass
        share = left.mass * right.mass * inverse_or_zero(mass)
        between = family.outer(share, np.where(share[:, None] > 0, step, 0.0))
        second = np.asarray(left.second + right.second + between)
    if np.isnan(second).any():  # infinities of both signs
        second = extended_range.add(extended_range.add(left.second, right.second), between)
    return Sums(mass, left.first + right.first, second)


def inverse_or_zero(mass: FloatArray) -> FloatArray:
    """1 / mass, and 0 where there is none."""
    return np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)


class Update(NamedTuple):
    """What the M-step adds to a learned covariance: (scatter + s I) / (mass + f) + ridge.

    The ridge is a diagonal: one variance a column [D], or one for all.
    """

    scatter: float
    freedom: float
    ridge: FloatArray

    @property
    def regularises(self) -> bool:
        """Whether a singular covariance becomes regular."""
        return self.scatter > 0 or bool(self.ridge.any())

    def times(self, n: int) -> Update:
        """Return the same for n directions that share one variance."""
        return Update(n * self.scatter, n * self.freedom, self.ridge)

    def says(self, mass: FloatArray) -> Bools:
        """Whether samples of this mass, or a prior, say anything of a covariance."""
        return (mass + self.freedom > 0) & ((mass > 0) | (self.scatter > 0))
