"""The floor under covariances: how high it stands by each column, and what it holds up.

Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray
from gmm_np.covariance import FAMILIES
from gmm_np.covariance.conversions import covariances_of
from gmm_np.covariance.sums import ROUNDING, Bools
from gmm_np.parameters import Parameters
from gmm_np.sufficient_statistics import Conjugate, as_floor

# Of a column's variance: what a floor that knows the columns adds, and from where on one that does
# not know them is too high. A cluster has a fraction of its column's variance.
RELATIVE: Final = 1e-6
TOO_HIGH: Final = 1e-2
# Where the samples have less than this part of the prior's, it alone holds a component up.
FROM_SAMPLES: Final = 1e-2


def deviations(parameters: Parameters) -> FloatArray:
    """Return the standard deviation of each component along each axis, [K, D]."""
    structure, scale = FAMILIES[parameters.family].structure, parameters.scale.astype(np.float64)
    return np.broadcast_to(structure.deviations(scale), parameters.means.shape)


def relative_floor(variances: FloatArray) -> FloatArray:
    """Return a floor in the units of each column, [D], from their variances.

    A constant column has no unit: it gets the lowest floor of the others, or that of a variance of
    one.
    """
    varies = variances > 0
    lowest = variances[varies].min() if varies.any() else 1.0
    return np.asarray(RELATIVE * np.where(varies, variances, lowest))


def floor_shares(reg_covar: ArrayLike, variances: FloatArray, parameters: Parameters) -> FloatArray:
    """Return the floor over each column's variance, [D]; zero for a constant column.

    Where one variance stands for all columns, it is the mean of theirs that counts.
    """
    floor, varies = as_floor(reg_covar, parameters), variances > 0
    if not FAMILIES[parameters.family].structure.by_column:
        variances = np.full_like(variances, variances.mean())
    return np.divide(floor, variances, out=np.zeros_like(variances), where=varies)


def find_held_up(
    parameters: Parameters,
    n_k: FloatArray,
    reg_covar: ArrayLike = 0.0,
    prior: Conjugate | None = None,
) -> tuple[int, ...]:
    """Return the components that the floor and the prior hold up rather than their samples.

    They are those that in some direction get more than half of their variance from the floor, or
    next to all from the prior, which is meant to weigh; or in which it is no more than rounding.

    Parameters
    ----------
    parameters : Parameters
        As an M-step made them, equation (36).
    n_k : ndarray, shape [K]
        Weight that each component had in it.
    reg_covar, prior
        Of that step.
    """
    p, prior = parameters, Conjugate() if prior is None else prior
    family = FAMILIES[p.family]
    if not family.learned:
        return ()
    mass = n_k if family.per_component else np.full(len(n_k), n_k.sum())
    divisor = mass + prior.freedom
    held = np.divide(prior.scatter, divisor, out=np.zeros_like(mass), where=divisor > 0)
    added = 2 * as_floor(reg_covar, p) + (1 + FROM_SAMPLES) * held[:, None]
    added = np.broadcast_to(added, p.means.shape)  # [K, D]
    if family.has_factors:
        covariances = covariances_of(p.scale.astype(np.float64), p.family)
        covariances = np.broadcast_to(covariances, (*p.means.shape, p.n_features))
        up = [_exceeds(*pair) for pair in zip(added, covariances, strict=True)]
    else:
        up = [bool(flat.any()) for flat in np.square(deviations(p)) < added]
    return tuple(int(k) for k in np.flatnonzero(np.array(up) & np.isfinite(p.pi_logits)))


def find_floored(parameters: Parameters, reg_covar: ArrayLike) -> Bools:
    """Return where the floor is more than half of a component's variance of a column, [K, D]."""
    floor = as_floor(reg_covar, parameters)
    return np.asarray(np.square(deviations(parameters)) < 2 * floor)


def _exceeds(added: FloatArray, covariance: FloatArray) -> bool:
    """Whether added variances [D] and rounding are in some direction all of a covariance [D, D]."""
    rounding = ROUNDING * len(added) * np.diagonal(covariance)
    try:
        np.linalg.cholesky(covariance - np.diag(added + rounding))
    except np.linalg.LinAlgError:
        return True
    return False
