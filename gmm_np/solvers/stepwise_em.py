"""EM on data that pass by once: what was seen is remembered as the parameters themselves.

Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.covariance import FAMILIES
from gmm_np.parameters import Parameters
from gmm_np.sufficient_statistics import Statistics, as_floor

# How fast old data are forgotten: the t-th block of equal size has the weight t^-FORGETTING in the
# update. At 1 none are forgotten, even though their responsibilities were those of a young model.
FORGETTING: Final = 0.7


def weight_of_memory(seen: float, weight: float) -> float:
    """Return the weight of what was seen beside that of a new block, as the step sizes of [1].

    References
    ----------
    .. [1] Cappe, O. and Moulines, E. (2009). On-line expectation-maximization algorithm for latent
       data models. *J. R. Statist. Soc. B* 71, 593-613.
    """
    step = (1 + seen / weight) ** -FORGETTING
    return float(weight * (1 - step) / step)


def remember(parameters: Parameters, weight: float, reg_covar: ArrayLike = 0.0) -> Statistics:
    """Return statistics of this weight of which an update makes these very parameters.

    About their own maximum the first moments are zero, and the second, in whitened coordinates,
    those of a unit covariance, less the `reg_covar` that an update adds.
    """
    n_k = weight * parameters.weights()  # [K]
    k, d = parameters.means.shape
    family = FAMILIES[parameters.family]
    mass = n_k if family.per_component else np.asarray(weight)
    scale, floor = parameters.scale.astype(np.float64), as_floor(reg_covar, parameters)
    C_k = family.at_maximum(scale, mass, floor, d)
    return Statistics(parameters, 0.0, weight, 0, n_k, np.zeros((k, d)), C_k)
