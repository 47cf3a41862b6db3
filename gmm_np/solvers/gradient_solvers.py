"""Solvers of scipy.optimize on the exact gradient: L-BFGS, and Newton's method.

scipy.optimize is imported where it is used, so that `import gmm_np` stays light.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray
from gmm_np.parameters import Parameters
from gmm_np.priors import Prior
from gmm_np.solvers.fitting import Callback, Data, FitInterrupted, FitResult, Trace
from gmm_np.solvers.objective import Objective


def fit_lbfgs(
    x: ArrayLike | Iterable[ArrayLike] | Data,
    start: Parameters,
    *,
    sample_weight: ArrayLike | Iterable[ArrayLike] | None = None,
    reg_covar: ArrayLike = 0.0,
    priors: Sequence[Prior] = (),
    tol: float = 1e-6,
    max_iter: int = 2000,
    callback: Callback | None = None,
    trace: Trace | None = None,
) -> FitResult:
    """Fit by L-BFGS on the log-diagonal Cholesky vector, with the hand-written gradient.

    Parameters
    ----------
    x : array_like of shape [N, D], or iterable of such blocks of rows, or Data
        An iterable is read once for each evaluation.
    start : Parameters
    sample_weight : array_like of shape [N], or iterable of arrays, one a block, optional
    reg_covar : float or array_like of shape [D]
        A floor under the squared diagonals of the factors, one number or one a column, held as a
        bound.
    priors : sequence of Wishart, Dirichlet or Normal
        Of `gmm_np.priors`: the objective is minus the log posterior over the weight of the data.
    tol : float
        Stop where no entry of the gradient is larger, in nats a sample and in units of the start.
    max_iter : int
    callback : callable, optional
        Called with the iteration, from 1, and the mean negative log-likelihood.
    trace : callable, optional
        Called with the iteration, from 1, and the parameters after it.

    Returns
    -------
    FitResult

    Raises
    ------
    TypeError, ValueError
        As `gmm_np.nll` does.
    FitInterrupted
        After Ctrl-C, with the parameters of the last iteration.

    Notes
    -----
    `scipy.optimize.minimize` with L-BFGS-B.
    """
    from scipy.optimize import Bounds

    objective = Objective(
        Data.of(x, sample_weight, start.n_features), start, reg_covar=reg_covar, priors=priors
    )
    options: dict[str, Any] = {
        "method": "L-BFGS-B",
        "options": {"maxiter": max_iter, "maxfun": 20 * max_iter, "ftol": 0.0, "gtol": tol},
    }
    if np.isfinite(objective.floor).any():
        options["bounds"] = Bounds(objective.floor, np.inf)
    return _minimize(objective, tol, callback, trace, options)


def fit_newton(
    x: ArrayLike | Iterable[ArrayLike] | Data,
    start: Parameters,
    *,
    sample_weight: ArrayLike | Iterable[ArrayLike] | None = None,
    priors: Sequence[Prior] = (),
    tol: float = 1e-8,
    max_iter: int = 200,
    callback: Callback | None = None,
    trace: Trace | None = None,
) -> FitResult:
    """Fit by Newton's method in a trust region, on the same vector as `fit_lbfgs`.

    Near the end each iteration doubles the correct digits, at the cost of a few dozen passes over
    the data.

    Parameters
    ----------
    x, start, sample_weight, priors, callback, trace
        As for `fit_lbfgs`.
    tol : float
        Stop where the gradient is shorter, in nats a sample and in units of the start.
    max_iter : int

    Returns
    -------
    FitResult

    Raises
    ------
    TypeError, ValueError, FitInterrupted
        As `fit_lbfgs` does.

    Notes
    -----
    `scipy.optimize.minimize` with trust-ncg: conjugate gradients, which need products of the
    Hessian with vectors alone. These are central differences of the exact gradient.
    """
    objective = Objective(Data.of(x, sample_weight, start.n_features), start, priors=priors)

    def times_hessian(vector: FloatArray, direction: FloatArray) -> FloatArray:
        length = float(np.linalg.norm(direction))
        if length == 0:
            return np.zeros_like(vector)
        # The cube root of rounding balances it against the third derivative.
        step = np.cbrt(np.finfo(np.float64).eps) * max(1.0, float(np.linalg.norm(vector))) / length
        after = objective.value_and_grad(vector + step * direction)[1]
        before = objective.value_and_grad(vector - step * direction)[1]
        return np.asarray((after - before) / (2 * step))

    options: dict[str, Any] = {
        "method": "trust-ncg",
        "hessp": times_hessian,
        "options": {"maxiter": max_iter, "gtol": tol},
    }
    return _minimize(objective, tol, callback, trace, options)


def _minimize(
    objective: Objective,
    tol: float,
    callback: Callback | None,
    trace: Trace | None,
    options: dict[str, Any],
) -> FitResult:
    """Call scipy.optimize.minimize from the start, and describe where it came to."""
    from scipy.optimize import minimize

    history: list[float] = []
    origin = np.maximum(np.zeros_like(objective.origin), objective.floor)
    latest = origin

    def report(intermediate_result: Any) -> None:
        nonlocal latest
        if np.isfinite(intermediate_result.x).all():
            latest = np.array(intermediate_result.x)
        history.append(float(intermediate_result.fun))
        if callback is not None:
            callback(len(history), history[-1])
        if trace is not None:
            trace(len(history), objective.parameters(latest))

    try:
        best = minimize(objective.value_and_grad, origin, jac=True, callback=report, **options)
    except KeyboardInterrupt:
        parameters = objective.evaluate(latest).parameters
        raise FitInterrupted(parameters, tuple(history)) from None
    # A line search down an abyss may end in NaN: a component collapses, and nothing holds it up.
    return objective.result(
        np.asarray(best.x) if np.isfinite(best.x).all() else latest,
        n_iter=int(best.nit),
        tol=tol,
        message=str(best.message),
        history=history,
        settled=bool(best.success),
    )
