"""Data for examples and tests: Old Faithful, and clusters drawn at random."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from gmm_np.parameters import Parameters

__all__ = ["load_old_faithful", "make_clusters"]


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
        Of the covariances: "full" and "tied" are the correlations of ten standard normal
        observations of each dimension, "diag", "spherical" and "shared_spherical" have variances
        uniform on (0, 1), and "constant" is the identity.
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
    factors = _random_factors(family, n_clusters, n_features, rng)  # [K, D, D]
    labels = np.sort(np.arange(n_samples) % n_clusters)
    noise = rng.standard_normal((n_samples, n_features))
    x = means[labels] + np.einsum("nij,nj->ni", factors[labels], noise)
    return x, labels, Parameters(np.log(np.bincount(labels) / n_samples), means, factors)


def _random_factors(
    family: str, n_clusters: int, n_features: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Cholesky factors [K, D, D]."""
    if family in ("full", "tied"):
        n_drawn = n_clusters if family == "full" else 1
        observations = rng.standard_normal((n_drawn, n_features, max(10, 2 * n_features)))
        correlations = [np.atleast_2d(np.corrcoef(o)) for o in observations]
        factors = np.linalg.cholesky(correlations)
    else:
        shapes = {
            "diag": (n_clusters, n_features),
            "spherical": (n_clusters, 1),
            "shared_spherical": (1, 1),
        }
        if family in shapes:
            variances = 1.0 - rng.random(shapes[family])  # (0, 1], never zero
        elif family == "constant":
            variances = np.ones((1, 1))
        else:
            known = '"full", "tied", "diag", "spherical", "shared_spherical" or "constant"'
            raise ValueError(f"family must be {known}; got {family!r}.")
        deviations = np.broadcast_to(np.sqrt(variances), (n_clusters, n_features))
        factors = deviations[:, :, None] * np.eye(n_features)
    return np.asarray(np.broadcast_to(factors, (n_clusters, n_features, n_features)))
