"""Sums over blocks that have a pattern each, and the error where they leave the range of a double.

Letters in shapes: K components that are on, G covariances (K, or 1 where all share it),
D dimensions, E blocks of one pattern each.
"""

from __future__ import annotations

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.covariance import Family
from gmm_np.covariance.sums import Sums, inverse_or_zero
from gmm_np.estep import (
    PreparedMixture,
)


def out_of_range() -> OverflowError:
    """Return the error for sums over rows with missing values that leave the range of a double."""
    return OverflowError(
        "the square of a distance, in a row with missing values, is beyond the range of a double. "
        "Choose units in which x is of order one, and leave out rows that are far from every "
        "component."
    )


def added(sums: Sums, *, shared: bool) -> Sums:
    """Add up moments [E, ...] of blocks, second ones [E, G, ...] to the family's shape."""
    mass, first, second = (part.sum(axis=0) for part in sums)
    return Sums(mass, first, second[0] if shared else second)


def between(parts: Sums, total: Sums, mixture: PreparedMixture) -> FloatArray:
    """Return the second moments of the parts' means about those of all, as `merge` adds them."""
    family = mixture.family
    means = parts.first * inverse_or_zero(parts.mass)[..., None]
    apart = means - total.first * inverse_or_zero(total.mass)[:, None]
    apart[parts.mass == 0] = 0.0
    found = family.outer(parts.mass.reshape(-1), apart.reshape(-1, mixture.n_dims))
    if not family.learned or family.shared:
        return found
    return np.asarray(found.reshape(*parts.mass.shape, *found.shape[1:]).sum(axis=0))


def plus(*sums: Sums) -> Sums:
    """Add sums of which no second moments are central."""
    return Sums(*(sum(parts[1:], parts[0]) for parts in zip(*sums, strict=True)))


def by_covariance(array: FloatArray, family: Family) -> FloatArray:
    """Return a scale, or what has its shape, as [G, ...]."""
    return array[None] if family.shared else array
