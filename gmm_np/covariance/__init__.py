"""Covariance families: what the kernels and the statistics need to know of a covariance.

`Family` says what that is. A family that costs less than a full covariance saves it in its class,
and nothing else changes.
"""

from typing import Final

from gmm_np.covariance.diagonal import Diagonal, SharedSpherical, Spherical
from gmm_np.covariance.family import Family
from gmm_np.covariance.full import Constant, Full, Tied

__all__ = ["FAMILIES", "Family"]

FAMILIES: Final[dict[str, Family]] = {
    family.name: family
    for family in (Full(), Tied(), Diagonal(), Spherical(), SharedSpherical(), Constant())
}
