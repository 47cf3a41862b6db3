"""Data for examples and tests: Old Faithful, and what is drawn at random."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from gmm_np.covariance import FAMILIES
from gmm_np.parameters import Parameters

__all__ = ["load_old_faithful", "make_clusters", "make_covariances", "make_inverse_problem"]


def load_old_faithful() -> tuple[NDArray[np.float64], list[str]]:
    """Load 272 eruptions of the Old Faithful geyser in Yellowstone National Park.

    The textbook example of a mixture: short eruptions are followed by short waits, long ones by
    long waits.

    Returns
    -------
    x : ndarray of float64, shape [272, 2]
        Duration of each eruption and waiting time to the next, both in minutes.
    names : list of str
        ``["eruptions", "waiting"]``.

    References
    ----------
    .. [1] Haerdle, W. (1991). *Smoothing Techniques with Implementation in S*. Springer.
       The same as the data set ``faithful`` of R.
    .. [2] Azzalini, A. and Bowman, A. W. (1990). A look at some data on the Old Faithful geyser.
       *Applied Statistics* 39, 357-365. Its series is longer, and described there.

    Examples
    --------
    >>> x, names = load_old_faithful()
    >>> x.shape, names, x.mean(axis=0).round(3).tolist()
    ((272, 2), ['eruptions', 'waiting'], [3.488, 70.897])
    """
    table = files("gmm_np") / "data" / "old_faithful.csv"
    with table.open(encoding="utf-8") as stream:
        names = stream.readline().strip().split(",")
        x = np.loadtxt(stream, delimiter=",")
    return x, names


def make_clusters(
    n_samples: int,
    n_clusters: int,
    n_features: int = 2,
    *,
    family: str = "full",
    radius: float = 8.0,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.int64], Parameters]:
    """Draw Gaussian clusters of equal share, with means spread evenly over a cube.

    Parameters
    ----------
    n_samples : int
        N; the first clusters have one sample more where it does not divide.
    n_clusters : int
        K, at most N.
    n_features : int
        D.
    family : str
        Of the covariances, drawn as `make_covariances` does.
    radius : float
        Each coordinate of a mean is uniform on (-radius, radius).
    seed : int

    Returns
    -------
    x : ndarray of float64, shape [N, D]
        Cluster by cluster.
    labels : ndarray of int, shape [N]
        The cluster, from 0, of each sample.
    truth : Parameters
        The mixture that they were drawn from, its covariances as "full" factors.

    Raises
    ------
    ValueError
        If a number is too small, or the family unknown.

    Notes
    -----
    The distribution of the mock data of GMMPytorch's demo [1]_.

    References
    ----------
    .. [1] K. Sayers, https://github.com/kylesayrs/GMMPytorch

    Examples
    --------
    >>> x, labels, truth = make_clusters(10, 3)
    >>> x.shape, np.bincount(labels).tolist()
    ((10, 2), [4, 3, 3])
    """
    if not (n_samples >= n_clusters >= 1 and n_features >= 1 and 0 <= radius < np.inf):
        raise ValueError(
            "make_clusters needs n_samples >= n_clusters >= 1, n_features >= 1 and a finite "
            f"radius >= 0; got {n_samples}, {n_clusters}, {n_features} and {radius}."
        )
    rng = np.random.default_rng(seed)
    means = rng.uniform(-radius, radius, size=(n_clusters, n_features))  # [K, D]
    covariances = make_covariances(n_clusters, n_features, family=family, seed=rng)
    factors = np.linalg.cholesky(covariances)  # [K, D, D]
    labels = np.sort(np.arange(n_samples) % n_clusters)
    noise = rng.standard_normal((n_samples, n_features))
    x = means[labels] + np.einsum("nij,nj->ni", factors[labels], noise)
    return x, labels, Parameters(np.log(np.bincount(labels) / n_samples), means, factors)


def make_covariances(
    n_covariances: int,
    n_features: int,
    *,
    family: str = "full",
    n_observations: int | None = None,
    seed: int | np.random.Generator = 0,
) -> NDArray[np.float64]:
    """Draw random covariance matrices of a family.

    Parameters
    ----------
    n_covariances : int
        K.
    n_features : int
        D.
    family : str
        "full": each is the matrix of sample correlations of independent standard normal
        observations, so that variances are 1 and a correlation has mean 0 and variance
        1 / (n_observations - 1). "tied": one such, K times. "diag", "tied_diag", "spherical"
        and "shared_spherical": variances uniform on (0, 1], one for each dimension of each
        covariance, for each dimension, for each covariance, or for all. "constant": the identity.
    n_observations : int, optional
        For "full" and "tied": how many observations of each dimension are correlated, more than D,
        or the matrix would be singular; the larger of 10 and 2 D by default. Fewer give stronger
        correlations.
    seed : int or numpy.random.Generator
        A generator is drawn from, and so gives others in the next call.

    Returns
    -------
    ndarray of float64, shape [K, D, D]
        Symmetric and positive definite, in the square of the data's unit.
        `numpy.linalg.cholesky` makes the factors that `gmm_np.nll` takes.

    Raises
    ------
    ValueError
        If a number is too small, or the family unknown.

    Examples
    --------
    >>> make_covariances(2, 3).shape
    (2, 3, 3)
    >>> make_covariances(1, 2, family="constant").tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    if n_covariances < 1 or n_features < 1:
        raise ValueError(
            "make_covariances needs n_covariances >= 1 and n_features >= 1; got "
            f"{n_covariances} and {n_features}."
        )
    if family not in FAMILIES:
        *known, last = (f'"{name}"' for name in FAMILIES)
        raise ValueError(f"family must be {', '.join(known)} or {last}; got {family!r}.")
    rng, form = np.random.default_rng(seed), FAMILIES[family]
    shape = (n_covariances, n_features, n_features)
    n_drawn = 1 if form.shared else n_covariances
    if form.has_factors and form.learned:
        if n_observations is None:
            n_observations = max(10, 2 * n_features)
        if n_observations <= n_features:
            raise ValueError(
                f"n_observations must be more than n_features, {n_features}, or the covariances "
                f"are singular; got {n_observations}."
            )
        observations = rng.standard_normal((n_drawn, n_features, n_observations))
        lower = np.tril([np.atleast_2d(np.corrcoef(o)) for o in observations])
        correlations = lower + np.tril(lower, -1).swapaxes(1, 2)  # corrcoef rounds each triangle
        return np.array(np.broadcast_to(correlations, shape))
    if n_observations is not None:
        correlated = [f'"{f.name}"' for f in FAMILIES.values() if f.has_factors and f.learned]
        raise ValueError(
            f"n_observations is for the correlations of {' and '.join(correlated)}; family "
            f"{family!r} has none: leave it out."
        )
    if not form.learned:
        return np.array(np.broadcast_to(np.eye(n_features), shape))
    n_columns = n_features if form.structure.by_column else 1
    variances = 1.0 - rng.random((n_drawn, n_columns))  # (0, 1], never zero
    return np.array(np.broadcast_to(variances[:, :, None] * np.eye(n_features), shape))


def make_inverse_problem(
    n_samples: int, *, noise: float = 0.1, seed: int | np.random.Generator = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the inverse problem of Bishop (1994), whose answer has up to three branches.

    The forward problem has one answer: t, uniform on (0, 1), gives t + 0.3 sin(2 pi t) and uniform
    noise. Asked backwards, what t was it, the mean of the answers is none of them.

    Parameters
    ----------
    n_samples : int
        N.
    noise : float
        Largest noise, of either sign.
    seed : int or numpy.random.Generator
        A generator is drawn from, and so gives others in the next call.

    Returns
    -------
    inputs : ndarray of float64, shape [N, 1]
        What came out of the forward problem.
    targets : ndarray of float64, shape [N, 1]
        The t that went in, whose density given the input is to be learned.

    Raises
    ------
    ValueError
        If there is no sample, or the noise is negative or not finite.

    References
    ----------
    .. [1] Bishop, C. M. (1994). Mixture density networks. Technical report NCRG/94/004, Aston
       University, section 5.

    Examples
    --------
    >>> inputs, targets = make_inverse_problem(3, noise=0.0)
    >>> forward = targets + 0.3 * np.sin(2 * np.pi * targets)
    >>> inputs.shape, np.array_equal(inputs, forward)
    ((3, 1), True)
    """
    if n_samples < 1 or not 0 <= noise < np.inf:
        raise ValueError(
            "make_inverse_problem needs n_samples >= 1 and a finite noise >= 0; got "
            f"{n_samples} and {noise}."
        )
    rng = np.random.default_rng(seed)
    targets = rng.random((n_samples, 1))
    inputs = targets + 0.3 * np.sin(2 * np.pi * targets)
    return inputs + rng.uniform(-noise, noise, size=targets.shape), targets
