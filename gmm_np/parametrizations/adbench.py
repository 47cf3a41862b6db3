"""The mixture objective of ADBench and GradBench: precision factors and a Wishart prior.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray, as_float64, check_rows
from gmm_np.covariance import PLAIN
from gmm_np.estep import EStep, PreparedMixture
from gmm_np.linalg import triangles
from gmm_np.priors import Wishart


def unpack_precision(q: FloatArray, lower: FloatArray) -> FloatArray:
    """Return the factors Q_k [K, D, D] of the precisions, equation (30).

    Parameters
    ----------
    q : ndarray, shape [K, D]
        Logarithms of the diagonals.
    lower : ndarray, shape [K, D (D - 1) / 2]
        Strictly lower triangles, column by column.
    """
    n_components, n_dims = q.shape
    factors = np.zeros((n_components, n_dims, n_dims))
    columns, rows = np.triu_indices(n_dims, 1)  # column by column
    factors[:, rows, columns] = lower
    diagonal = np.arange(n_dims)
    factors[:, diagonal, diagonal] = np.exp(q)
    return factors


def pull_back_precision(factors: FloatArray, d_factors: FloatArray) -> tuple[FloatArray, ...]:
    """Return the gradients in q [K, D] and l [K, D (D - 1) / 2], equation (30)."""
    n_dims = factors.shape[1]
    columns, rows = np.triu_indices(n_dims, 1)
    diagonal = np.arange(n_dims)
    # in unpack_precision: Q_ii = exp(q_i)
    d_q = factors[:, diagonal, diagonal] * d_factors[:, diagonal, diagonal]
    return d_q, d_factors[:, rows, columns]


def precision_value_and_grad(
    x: ArrayLike,
    alpha: ArrayLike,
    mu: ArrayLike,
    q: ArrayLike,
    l: ArrayLike,  # noqa: E741  (the name in the specification)
    *,
    gamma: float,
    m: float,
) -> tuple[float, tuple[FloatArray, FloatArray, FloatArray, FloatArray]]:
    """Log posterior of a mixture by its precision factors, and its gradient, equation (32).

    The objective of the Gaussian-mixture benchmark of ADBench, as GradBench specifies it: the
    log-likelihood summed over samples, plus the log density of a Wishart prior on each precision
    matrix Sigma_k^-1 = Q_k^T Q_k. All constants are kept.

    Parameters
    ----------
    x : array_like, shape [N, D]
    alpha : array_like, shape [K]
        Mixture logits.
    mu : array_like, shape [K, D]
        Means.
    q : array_like, shape [K, D]
        Logarithms of the diagonals of Q_k.
    l : array_like, shape [K, D (D - 1) / 2]
        Strictly lower triangles of Q_k, column by column.
    gamma, m : float
        Of the prior: V = I / gamma^2 and n = D + m + 1 degrees of freedom.

    Returns
    -------
    log_posterior : float
        In nats.
    gradients : tuple of ndarray
        With respect to alpha, mu, q and l, each in its shape.

    Raises
    ------
    TypeError
        If an argument is not made of real numbers.
    ValueError
        If shapes disagree, values are not finite, exp(q) leaves the range of a double, or a
        parameter of the prior is out of its range.

    Notes
    -----
    https://github.com/gradbench/gradbench, evals/gmm, lists three errors of ADBench that its
    specification mends. ADBench: F. Srajer, Z. Kukelova, A. Fitzgibbon, Optimization Methods and
    Software 33 (2018) 889-906.

    Examples
    --------
    >>> from gmm_np.parametrizations import precision_value_and_grad
    >>> value, (d_alpha, d_mu, d_q, d_l) = precision_value_and_grad(
    ...     [[0.0], [1.0]], [0.0], [[0.0]], [[0.0]], [[]], gamma=1.0, m=0
    ... )
    >>> round(value, 6), d_mu.tolist(), d_q.tolist()
    (-3.531024, [[1.0]], [[0.0]])
    """
    prior = Wishart(gamma, m)
    logits, means, log_diagonal, lower = check_precision(alpha, mu, q, l)
    rows = check_rows(x, means.shape[1])
    with np.errstate(over="ignore", under="ignore"):
        factors = unpack_precision(log_diagonal, lower)
    diagonal = np.diagonal(factors, axis1=1, axis2=2)
    if not (np.isfinite(diagonal).all() and (diagonal > 0).all()):
        raise ValueError(
            "q has values whose exponential leaves the range of a double; they must lie between "
            "-745 and 709. Rescale the data."
        )
    mixture = PreparedMixture(PLAIN, logits, means, factors, -log_diagonal.sum(axis=1))
    engine = EStep(mixture, "auto", gradient=True, n_samples=len(rows))
    engine.add(rows, None)
    mass, first, second = engine.sums()

    log_prior, d_factors = prior.value_and_grad(factors)
    pi = np.exp(logits - logits.max())
    d_alpha = mass - mass.sum() * pi / pi.sum()
    # t = sum_i log Q_ii - |Q e|^2 / 2, by the sums of r e and of r e e^T
    d_mu = triangles.apply(factors.transpose(0, 2, 1), triangles.apply(factors, first))
    d_factors -= np.tril(triangles.lower_products(factors, second))
    d_q, d_l = pull_back_precision(factors, d_factors)
    d_q += mass[:, None]
    return log_prior - engine.loss, (d_alpha, d_mu, d_q, d_l)


def check_precision(
    alpha: ArrayLike, mu: ArrayLike, q: ArrayLike, lower: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return alpha [K], mu [K, D], q [K, D] and l [K, D (D - 1) / 2] as float64, checked."""
    means = as_float64("mu", mu)
    if means.ndim != 2 or 0 in means.shape:
        raise ValueError(
            f"mu must have two axes [K, D], each of length at least 1; got {means.shape}."
        )
    k, d = means.shape
    arrays = []
    for name, value, shape, axes in (
        ("alpha", alpha, (k,), "[K]"),
        ("mu", mu, (k, d), "[K, D]"),
        ("q", q, (k, d), "[K, D]"),
        ("l", lower, (k, d * (d - 1) // 2), "[K, D (D - 1) / 2]"),
    ):
        array = as_float64(name, value)
        if array.shape != shape:
            raise ValueError(
                f"mu and {name} disagree: mu has shape {means.shape}, so {name} must have shape "
                f"{axes} = {shape}; got {array.shape}."
            )
        if not np.isfinite(array).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ValueError(
                f"{name} has values that are not finite, the first {float(array[place])!r} at "
                f"{list(place)}. Look at the step that computed them."
            )
        arrays.append(array)
    return arrays[0], arrays[1], arrays[2], arrays[3]
