"""Fits: from data and a start to the parameters of the smallest negative log-likelihood.

scipy.optimize and scipy.cluster are imported where they are used, so that `import gmm_np` stays
light.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray, check_sample_weight, check_x
from gmm_np.likelihood import statistics
from gmm_np.parameters import Gradients, Parameters
from gmm_np.parametrizations import LogCholesky
from gmm_np.statistics import gradients

Callback = Callable[[int, float], object]


@dataclass(frozen=True)
class FitResult:
    """Where a solver came to.

    Attributes
    ----------
    parameters : Parameters
    nll : float
        Mean negative log-likelihood there, in nats a sample.
    gradients : Gradients
        Of that mean with respect to the parameters.
    gradient_norm : float
        Euclidean norm of the gradient with respect to the solver's unconstrained vector.
    n_iter : int
    converged : bool
        Whether the gradient is within the tolerance, or so small that rounding of the loss hides
        any further descent.
    message : str
        The solver's own words on why it stopped.
    """

    parameters: Parameters
    nll: float
    gradients: Gradients
    gradient_norm: float
    n_iter: int
    converged: bool
    message: str


def kmeans_start(x: ArrayLike, n_components: int, rng: np.random.Generator) -> Parameters:
    """Start from k-means++ clusters: their shares and means, and one common covariance.

    Parameters
    ----------
    x : array_like, shape [N, D]
    n_components : int
        K, at most the number of distinct rows.
    rng : numpy.random.Generator

    Returns
    -------
    start : Parameters
        With the covariance within the clusters for each component, ridged by 1e-6 of the data's
        variance, so that no component starts collapsed.

    Raises
    ------
    ValueError
        If there are fewer distinct rows than components.
    """
    from scipy.cluster.vq import ClusterError, kmeans2

    data = check_x(x)
    distinct = len(np.unique(data, axis=0))
    if not 1 <= n_components <= distinct:
        raise ValueError(
            f"n_components must be between 1 and the number of distinct rows of x, {distinct}; "
            f"got {n_components}."
        )
    spread = data.std(axis=0)  # [D]
    spread[spread == 0] = 1.0  # a constant column separates nothing
    standard = (data - data.mean(axis=0)) / spread
    # SciPy 1.15 renamed seed to rng.
    random: dict[str, Any] = {"rng" if "rng" in signature(kmeans2).parameters else "seed": rng}
    for _ in range(20):
        try:
            _, labels = kmeans2(standard, n_components, minit="++", missing="raise", **random)
            break
        except ClusterError:  # a cluster ran empty; other centres will do
            continue
    else:
        labels = rng.permutation(np.arange(len(data)) % n_components)
    means = np.stack([data[labels == k].mean(axis=0) for k in range(n_components)])  # [K, D]
    residual = (data - means[labels]) / spread  # [N, D]
    within = residual.T @ residual / len(data) + 1e-6 * np.eye(data.shape[1])
    factor = spread[:, None] * np.linalg.cholesky(within)  # [D, D]
    log_share = np.log(np.bincount(labels, minlength=n_components) / len(data))
    return Parameters(log_share, means, np.stack([factor] * n_components))


def fit_lbfgs(
    x: ArrayLike,
    start: Parameters,
    *,
    sample_weight: ArrayLike | None = None,
    tol: float = 1e-6,
    max_iter: int = 2000,
    callback: Callback | None = None,
) -> FitResult:
    """Fit by L-BFGS on the log-diagonal Cholesky vector, with the hand-written gradient.

    Parameters
    ----------
    x : array_like, shape [N, D]
    start : Parameters
    sample_weight : array_like, shape [N], optional
    tol : float
        Stop where no entry of the vector's gradient is larger, in nats a sample.
    max_iter : int
    callback : callable, optional
        Called with the iteration, from 1, and the mean negative log-likelihood.

    Returns
    -------
    FitResult

    Raises
    ------
    TypeError, ValueError
        As `gmm_np.nll` does.

    Notes
    -----
    `scipy.optimize.minimize` with L-BFGS-B, without bounds.
    """
    from scipy.optimize import minimize

    data = check_x(x, start.n_features)
    weight = check_sample_weight(sample_weight, len(data))
    space = LogCholesky(start.n_components, start.n_features)

    def evaluate(vector: FloatArray) -> tuple[float, FloatArray, Parameters, Gradients]:
        parameters = space.unpack(vector)
        total = statistics(data, parameters, sample_weight=weight)
        gradient = gradients(parameters, total)
        value = total.loss / total.weight
        return value, space.pullback(parameters, gradient), parameters, gradient

    def objective(vector: FloatArray) -> tuple[float, FloatArray]:
        try:
            value, gradient, _, _ = evaluate(vector)
        except ValueError:  # a step so long that a diagonal left the range of a double
            return np.inf, np.zeros_like(vector)
        return value, gradient

    iteration = 0

    def report(intermediate_result: Any) -> None:
        nonlocal iteration
        iteration += 1
        if callback is not None:
            callback(iteration, float(intermediate_result.fun))

    best = minimize(
        objective,
        space.pack(start),
        jac=True,
        method="L-BFGS-B",
        callback=report,
        options={"maxiter": max_iter, "maxfun": 20 * max_iter, "ftol": 0.0, "gtol": tol},
    )
    value, gradient, parameters, d_parameters = evaluate(best.x)
    return FitResult(
        parameters,
        value,
        d_parameters,
        float(np.linalg.norm(gradient)),
        int(best.nit),
        bool(best.success or np.abs(gradient).max() <= 1e-7 * max(1.0, abs(value))),
        str(best.message),
    )
