"""Starts: from data to the parameters at which a solver begins.

A start depends on the distinct rows and the weight of each, not on their order: a weight of two
starts as a repeated row does, and a weight of zero as a dropped row.

Letters in shapes: M distinct rows, K components, D dimensions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np.checks import FloatArray, check_choice
from gmm_np.covariance import FAMILIES
from gmm_np.covariance.conversions import factor
from gmm_np.parameters import Parameters
from gmm_np.solvers.results import SAMPLE_ROWS, Data, Sample, variances
from gmm_np.sufficient_statistics import em_update

STARTS: Final = ("kmeans", "k-means++", "random", "random_from_data")
# Part of the common covariance in that of each component, so that none starts collapsed.
COMMON_PART: Final = 0.1
# Part of the data's variance in the common covariance, for data that span less than D dimensions.
RIDGE: Final = 1e-6
LLOYD_ITERATIONS: Final = 100
# What an estimator starts from is the best of a few short runs (Biernacki, Celeux and Govaert
# 2003), each a few iterations of k-means and of EM on so many rows; those that are likely by then
# go on. Over six mixtures of 10 to 20 components, twelve seeds each, 30 of 72 fits came within
# 0.002 nats of the best that was found, and 10 after one run of k-means to its end.
SHORT_RUNS: Final = 8
SHORT_LLOYD: Final = 3
EM_STEPS: Final = 2
LIKELY_RUNS: Final = 3
MORE_EM_STEPS: Final = 6
SHORT_ROWS: Final = 4096
# Part of the data's variance that these add to each covariance: the likeliest run is not to be one
# in which a component collapses.
SHORT_RIDGE: Final = 1e-3
ROWS_A_MEAN: Final = 8  # at least so many rows for each number of the means


def kmeans_start(
    x: ArrayLike,
    n_components: int,
    rng: np.random.Generator,
    *,
    family: str = "full",
    sample_weight: ArrayLike | None = None,
) -> Parameters:
    """Start from k-means clusters: their shares, means and covariances.

    Parameters
    ----------
    x : array_like, shape [N, D]
    n_components : int
        K, at most the number of distinct rows.
    rng : numpy.random.Generator
    family : str
        Covariance family.
    sample_weight : array_like, shape [N], optional

    Returns
    -------
    start : Parameters
        A tenth of each covariance is the one within all clusters, ridged by 1e-6 of the data's
        variance, so that no component starts collapsed.

    Raises
    ------
    ValueError
        If there are fewer distinct rows than components.
    """
    sample = sample_for(Data(x, sample_weight), n_components, rng)
    points = _points(sample)
    drawn = _draw_plusplus(points, n_components, rng)
    centres = _lloyd(points, points.rows[drawn], LLOYD_ITERATIONS)
    return _from_clusters(sample, points, centres, family)


def sample_for(
    data: Data, n_components: int, rng: np.random.Generator, *, distinct: bool = True
) -> Sample:
    """Return the rows that a start looks at; ValueError if there are fewer than components.

    `distinct`: whether each component needs one of its own, or equal rows will do.
    """
    sample = data.sample(rng)
    if 1 <= n_components <= len(sample.rows):
        return sample
    used = sum(block.n_rows for block in data.usage())
    if 1 <= n_components <= min(used, SAMPLE_ROWS) and not distinct:
        return sample
    among = f" among the {SAMPLE_ROWS} that a start looks at" if used > SAMPLE_ROWS else ""
    raise ValueError(
        f"n_components must be between 1 and the number of distinct rows of x{among}, "
        f"{len(sample.rows)}; got {n_components}. Use fewer components."
    )


def make_start(
    sample: Sample,
    n_components: int,
    rng: np.random.Generator,
    *,
    init: str = "kmeans",
    family: str = "full",
) -> Parameters:
    """Start from a sample of the data.

    Parameters
    ----------
    sample : Sample
    n_components : int
        K. Where there are fewer distinct rows, some components start at the same place.
    rng : numpy.random.Generator
    init : {"kmeans", "k-means++", "random", "random_from_data"}
        The best of a few runs of k-means and EM, clusters about points drawn by k-means++, random
        responsibilities, or clusters about rows drawn by weight.
    family : str
        Covariance family.

    Raises
    ------
    ValueError
        If `init` is unknown, or the variance of a column is beyond the range of a double.
    """
    check_choice("init", init, STARTS)
    if init == "random":
        resp = rng.random((len(sample.rows), n_components))
        resp /= resp.sum(axis=1, keepdims=True)
        return _from_responsibilities(sample, resp, np.arange(n_components), family)
    if init == "kmeans":
        return _best_short_run(sample, n_components, rng, family)
    points = _points(sample)
    draw = _draw_rows if init == "random_from_data" else _draw_plusplus
    drawn = draw(points, n_components, rng)  # [K]
    start = _from_clusters(sample, points, points.rows[drawn], family)
    # The points that were drawn, rather than the means of their clusters, keep starts diverse.
    return Parameters(np.zeros(n_components), sample.rows[drawn], start.scale, family)


def _best_short_run(
    sample: Sample, n_components: int, rng: np.random.Generator, family: str
) -> Parameters:
    """Start from the most likely of a few short runs of k-means and EM on some of the rows."""
    some = _thinned(sample, max(SHORT_ROWS, ROWS_A_MEAN * n_components * sample.rows.shape[1]), rng)
    points, data = _points(some), Data(some.rows, some.weight, finite=True)
    floor = SHORT_RIDGE * column_std(some) ** 2

    def after(run: Parameters, steps: int) -> tuple[float, Parameters]:
        for _ in range(steps):
            run = em_update(run, data.statistics(run), reg_covar=floor)[0]
        found = data.statistics(run)
        # What rounding alone tells apart is equal, and the earlier one better.
        return float(f"{found.loss / found.weight:.9g}"), run

    runs = []
    for _ in range(SHORT_RUNS):
        drawn = _draw_plusplus(points, n_components, rng)
        centres = _lloyd(points, points.rows[drawn], SHORT_LLOYD)
        runs.append(after(_from_clusters(some, points, centres, family), EM_STEPS))
    likely = sorted(runs, key=lambda run: run[0])[:LIKELY_RUNS]
    return min((after(run, MORE_EM_STEPS) for _, run in likely), key=lambda run: run[0])[1]


def _thinned(sample: Sample, size: int, rng: np.random.Generator) -> Sample:
    """Return `size` draws by weight where there are more rows."""
    if len(sample.rows) <= size:
        return sample
    chosen, count = np.unique(_pick(sample.weight, rng.random(size)), return_counts=True)
    return Sample(sample.rows[chosen], count.astype(np.float64))


def _points(sample: Sample) -> Sample:
    """Return rows about their mean, in units of the columns' standard deviations."""
    middle = sample.weight @ sample.rows / sample.weight.sum()
    points = Sample((sample.rows - middle) / column_std(sample), sample.weight)
    # Of a constant column rounding of its mean is left, which may be large.
    points.rows[:, (sample.rows == sample.rows[0]).all(axis=0)] = 0.0
    return points


def _from_clusters(sample: Sample, points: Sample, centres: FloatArray, family: str) -> Parameters:
    """Start from the clusters about centres [K, D] among the points that stand for the sample."""
    n_components = len(centres)
    labels = _nearest(points.rows, centres)
    # Of centres in the same place only one has samples; it shares them with the others.
    full = np.flatnonzero(np.bincount(labels, minlength=n_components))
    owner = full[_nearest(centres, centres[full])]
    resp = np.zeros((len(labels), n_components))
    resp[np.arange(len(labels)), labels] = 1.0
    return _from_responsibilities(sample, resp, owner, family)


def _from_responsibilities(
    sample: Sample, resp: FloatArray, owner: NDArray[np.int64], family: str
) -> Parameters:
    """Shares, means and covariances of clusters; component k takes those of cluster owner[k]."""
    rows, weight = sample
    weighted = weight[:, None] * resp  # [M, K]
    mass = weighted.sum(axis=0)
    mass[mass == 0] = 1.0  # of those that are no one's owner
    means = (weighted.T @ rows) / mass[:, None]  # [K, D]
    ridge = RIDGE * column_std(sample) ** 2
    shared, structure = FAMILIES[family].shared, FAMILIES[family].structure
    scatter = structure.scatter(rows, weighted, means)
    common = scatter.sum(axis=0) / weight.sum() + structure.from_variances(ridge)
    if shared:
        covariances = structure.pool(common)
    else:
        own = scatter / mass.reshape(-1, *(1 for _ in common.shape))
        covariances = structure.pool(own + COMMON_PART * (common - own))[owner]
    share = (weighted.sum(axis=0) / weight.sum())[owner] / np.bincount(owner)[owner]
    return Parameters(np.log(share), means[owner], factor(covariances, family), family)


def column_std(sample: Sample) -> FloatArray:
    """Return the standard deviation of each column, 1 for a constant one, [D].

    Raises
    ------
    ValueError
        If the square of one is beyond the range of a double.
    """
    std = np.sqrt(variances([sample]))
    beyond = np.flatnonzero(~np.isfinite(std))
    if len(beyond):  # to k-means it would be NaN, of which any label comes
        largest = np.abs(sample.rows[:, beyond[0]]).max()
        raise ValueError(
            f"x has values up to {largest:.3g} in column {beyond[0]}, counted from 0, so that its "
            "variance is beyond the range of a double: divide the column by a power of ten."
        )
    std[std == 0] = 1.0  # a constant column separates nothing
    return std


def _draw_rows(points: Sample, n_draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw rows by weight, no row twice as long as there are others."""
    chosen: list[int] = []
    mass = points.weight.copy()
    for _ in range(n_draws):
        if not mass.any():
            mass = points.weight.copy()
        chosen.append(int(_pick(mass, rng.random(1))[0]))
        mass[chosen[-1]] = 0.0
    return np.array(chosen)


def _draw_plusplus(points: Sample, n_draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw rows by weight times squared distance from those drawn before (k-means++).

    Of a few candidates each time the one that leaves the smallest sum is taken.

    References
    ----------
    .. [1] Arthur, D. and Vassilvitskii, S. (2007). k-means++: the advantages of careful seeding.
       *SODA*, 1027-1035.
    """
    rows, weight = points
    chosen = [int(_pick(weight, rng.random(1))[0])]
    nearest = ((rows - rows[chosen[0]]) ** 2).sum(axis=1)  # [M]
    n_candidates = 2 + int(np.log(n_draws))
    for _ in range(1, n_draws):
        mass = weight * nearest
        draws = rng.random(n_candidates)
        candidates = _pick(mass if mass.any() else weight, draws)
        distances = [
            np.minimum(nearest, ((rows - rows[candidate]) ** 2).sum(axis=1))
            for candidate in candidates
        ]
        best = int(np.argmin([weight @ distance for distance in distances]))
        chosen.append(int(candidates[best]))
        nearest = distances[best]
    return np.array(chosen)


def _pick(mass: FloatArray, uniform: FloatArray) -> NDArray[np.int64]:
    """Return the indices at these quantiles of the distribution over `mass`."""
    cumulative = np.cumsum(mass)
    picked = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    return np.asarray(np.minimum(picked, np.flatnonzero(mass)[-1]))


def _nearest(rows: FloatArray, centres: FloatArray) -> NDArray[np.int64]:
    from scipy.cluster.vq import vq

    return np.asarray(vq(rows, centres, check_finite=False)[0])


def _lloyd(points: Sample, centres: FloatArray, iterations: int) -> FloatArray:
    """Move centres [K, D] to the means of the rows nearest to them until they rest (k-means)."""
    rows, weight = points
    labels: NDArray[np.int64] | None = None
    for _ in range(iterations):
        before, labels = labels, _nearest(rows, centres)
        if before is not None and np.array_equal(before, labels):
            break
        mass = np.bincount(labels, weights=weight, minlength=len(centres))
        sums = np.stack(
            [np.bincount(labels, weight * column, len(centres)) for column in rows.T], axis=1
        )
        moved = mass > 0
        centres = centres.copy()
        centres[moved] = sums[moved] / mass[moved, None]
    return centres
