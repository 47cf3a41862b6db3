"""Covariance families: what the library has to know of a covariance.

A `Family` is a `Structure` (full, diagonal or spherical), shared by all components or not, learned
or not. The work that grows with the data is the structure's; a structure that costs less than a
full covariance saves it there, and nothing else changes.
"""

from typing import Final

from gmm_np.covariance.diagonal import DIAGONAL
from gmm_np.covariance.family import Family
from gmm_np.covariance.full import FULL
from gmm_np.covariance.spherical import SPHERICAL

__all__ = ["FAMILIES", "PLAIN", "Family"]

FAMILIES: Final[dict[str, Family]] = {
    family.name: family
    for family in (
        Family("full", FULL),
        Family("tied", FULL, shared=True),
        Family("diag", DIAGONAL),
        Family("tied_diag", DIAGONAL, shared=True),
        Family("spherical", SPHERICAL),
        Family("shared_spherical", SPHERICAL, shared=True),
        Family("constant", FULL, learned=False),
    )
}

# For gradients in the inverse factors, which are products with sums of plain residuals: from
# whitened ones they would come by the factors, at the price of the digits that those are
# ill-conditioned by.
PLAIN: Final = Family("full", FULL, whitened=False)
