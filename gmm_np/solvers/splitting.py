"""Starts of more components than a fit has: the one that fits worst is split in two.

Letters in shapes: M distinct rows, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from scipy.linalg import solve_triangular

from gmm_np.checks import FloatArray
from gmm_np.covariance import FAMILIES
from gmm_np.likelihood import responsibilities
from gmm_np.parameters import Parameters
from gmm_np.solvers.initialization import column_std
from gmm_np.solvers.results import Data, Sample

# Rows that are looked at.
ROWS: Final = 4096
# How far the halves of a component are from their middle, in its standard deviations: as the means
# of the halves of a normal distribution are, sqrt(2 / pi), and then a fourth of that each time. Of
# the last, 8e-7, not even the square is seen in a loss.
DISTANCES: Final = tuple((2 / np.pi) ** 0.5 * 0.25**n for n in range(11))


def split_starts(data: Data, parameters: Parameters, n_components: int) -> Iterator[Parameters]:
    """Yield starts of more components, none of which is worse on the data than `parameters`.

    The first splits the component with the poorest fit along its longest axis, once or as often as
    is needed; the last split of each further start is that of the component that comes next.

    Parameters
    ----------
    data : Data
    parameters : Parameters
        Where a fit ended.
    n_components : int
        More than `parameters` has.
    """
    # Of its own, so that the starts drawn by others do not depend on whether there is a split.
    sample = data.sample(np.random.default_rng(0), ROWS)
    for _ in range(n_components - parameters.n_components - 1):
        misfit, axes = judge_components(sample, parameters)
        worst = int(misfit.argmax())
        parameters = _split_near(data, parameters, worst, axes[worst])
    misfit, axes = judge_components(sample, parameters)
    for k in np.argsort(-misfit, kind="stable"):
        yield _split_near(data, parameters, int(k), axes[k])


def judge_components(sample: Sample, parameters: Parameters) -> tuple[FloatArray, FloatArray]:
    """Return how badly each component fits its rows, [K], and along which axis, [K, D].

    The axis is the longest of the component's rows, in standard deviations of the columns; where
    the family knows no covariances between columns, it is a column. The misfit is the statistic of
    Jarque and Bera along it, of rows weighted by responsibilities, which in a mixture that is right
    have the moments of a normal distribution; 0 where there is nothing to split.

    References
    ----------
    .. [1] Jarque, C. M. and Bera, A. K. (1987). A test for normality of observations and
       regression residuals. *International Statistical Review*, 55(2), 163-172.
    """
    p, std = parameters, column_std(sample)
    resp = responsibilities(sample.rows, p.pi_logits, p.means, p.scale, family=p.family)  # [M, K]
    rows = (sample.rows - np.average(sample.rows, axis=0, weights=sample.weight)) / std
    misfit = np.zeros(p.n_components)
    axes = np.tile(np.eye(1, p.n_features), (p.n_components, 1))  # [K, D]
    for k in range(p.n_components):
        weight = sample.weight * resp[:, k]
        n_k = weight.sum()
        if n_k == 0:
            continue
        weight = weight / n_k
        residual = rows - weight @ rows
        if FAMILIES[p.family].has_factors:
            axes[k] = np.linalg.eigh((weight[:, None] * residual).T @ residual)[1][:, -1]
        else:
            axes[k] = np.eye(p.n_features)[(weight @ residual**2).argmax()]
        along = residual @ axes[k]  # [M]
        variance = weight @ along**2
        if variance > 0:
            skewness = weight @ along**3 / variance**1.5
            excess = weight @ along**4 / variance**2 - 3.0
            misfit[k] = n_k * (skewness**2 / 6 + excess**2 / 24)
    return misfit, axes * std


def _split_near(data: Data, parameters: Parameters, k: int, axis: FloatArray) -> Parameters:
    """Split a component as far as the data do not like it less; at no distance they do not."""
    before = data.statistics(parameters).loss
    for distance in DISTANCES:
        found = split(parameters, k, axis, distance)
        if data.statistics(found).loss <= before:
            break
    return found


def split(parameters: Parameters, k: int, axis: FloatArray, distance: float) -> Parameters:
    """Split component k in two of half its weight, which together have its mean and covariance.

    Where the covariance is shared, it is the mixture's covariance that stays, and where it is that
    of a sphere, the mean of its variances. One that is constant is left as it is.

    Parameters
    ----------
    parameters : Parameters
    k : int
    axis : ndarray, shape [D]
        Along which the means part, of any length.
    distance : float
        From 0 to 1, of each from the mean, in standard deviations: of the conditional distribution
        along the axis, which is that along it where it is one of the component's own.
    """
    p = parameters
    family = FAMILIES[p.family]
    scale = p.scale.astype(np.float64)
    own = scale if family.shared else scale[k]  # factor [D, D], or deviations [D] or []
    factors = family.has_factors
    whitened = solve_triangular(own, axis, lower=True) if factors else axis / own  # [D]
    step = distance / np.linalg.norm(whitened)
    whitened = step * whitened
    share = p.weights()[k] if family.shared else float(family.learned)
    if factors:
        # L L^T - L v v^T L^T = L (I - v v^T) L^T, and |v| < 1
        rest = np.linalg.cholesky(np.eye(len(axis)) - share * np.outer(whitened, whitened))
        half = own @ rest
    else:
        lost = whitened**2 if family.structure.by_column else np.mean(whitened**2)
        half = own * np.sqrt(1.0 - share * lost)
    logits = np.append(p.pi_logits, p.pi_logits[k])
    logits[k] = logits[-1] = logits[k] - np.log(2.0)
    means = np.concatenate([p.means, p.means[k : k + 1] + step * axis])
    means[k] -= step * axis
    if family.shared:
        return Parameters(logits, means, half, p.family)
    scale = np.concatenate([scale, half[None]])
    scale[k] = half
    return Parameters(logits, means, scale, p.family)
