"""Solvers of scipy.optimize on the exact gradient: L-BFGS, and Newton's method.

scipy.optimize is imported where it is used, so that `import gmm_np` stays light.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray
from gmm_np.parameters import Parameters
from gmm_np.parts import Executor
from gmm_np.priors import Prior
from gmm_np.solvers.checkpoint import Answers, Checkpoint, State, parameters_of, recall, state_of
from gmm_np.solvers.objective import Evaluation, Objective
from gmm_np.solvers.results import Callback, Data, FitInterrupted, FitResult, Trace

# Newton's method makes a matrix of the Hessian of a vector of so many entries.
LARGEST_MATRIX: Final = 512


def fit_lbfgs(
    x: ArrayLike | Iterable[Any] | Data,
    start: Parameters,
    *,
    sample_weight: ArrayLike | Iterable[Any] | None = None,
    executor: Executor | None = None,
    reg_covar: ArrayLike = 0.0,
    priors: Sequence[Prior] = (),
    tol: float = 1e-6,
    max_iter: int = 2000,
    callback: Callback | None = None,
    trace: Trace | None = None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Fit by L-BFGS on the log-diagonal Cholesky vector, with the hand-written gradient.

    Parameters
    ----------
    x : array_like of shape [N, D], or iterable of such blocks of rows, or Data
        An iterable is read once for each evaluation. Data in parts, as `Data` takes them, stay
        where they are.
    start : Parameters
    sample_weight : array_like of shape [N], or iterable of arrays, one a block, optional
    executor : object with a method ``map(function, items)``, optional
        Through which the parts of a list x go, as for `gmm_np.statistics`.
    reg_covar : float or array_like of shape [D]
        A floor under the squared diagonals of the factors, one number or one a column, held as a
        bound.
    priors : sequence of Wishart, Dirichlet or Normal
        Of `gmm_np.priors`: the objective is minus the log posterior over the weight of the data.
    tol : float
        Stop where no entry of the gradient is larger, in nats a sample and in units of the fit
        there: deviations of the components.
    max_iter : int
    callback : callable, optional
        Called with the iteration, from 1, and the mean negative log-likelihood.
    trace : callable, optional
        Called with the iteration, from 1, and the parameters after it.
    checkpoint : Checkpoint, optional
        Where to go on from, to the same bits, and whom to tell the state after each iteration. It
        grows by a gradient, or a Hessian, for each evaluation since the last start.

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
    `scipy.optimize.minimize` with L-BFGS-B. Where it stops and the gradient is larger, it is
    started again from there, in units of that place and without memory, as long as that gains.
    """
    objective = Objective(
        Data.of(x, sample_weight, start.n_features, executor),
        start,
        reg_covar=reg_covar,
        priors=priors,
    )
    return minimize_lbfgs(objective, tol, max_iter, callback, trace, checkpoint)


def minimize_lbfgs(
    objective: Objective,
    tol: float,
    max_iter: int,
    callback: Callback | None,
    trace: Trace | None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Minimise an objective from where its vector is zero; arguments as for `fit_lbfgs`."""

    def options(objective: Objective, gtol: float, n_left: int) -> dict[str, Any]:
        from scipy.optimize import Bounds

        limits = {"maxiter": n_left, "maxfun": 20 * max_iter, "ftol": 0.0, "gtol": gtol}
        has_floor = np.isfinite(objective.floor).any()
        bounds = Bounds(objective.floor, np.inf) if has_floor else None
        return {"method": "L-BFGS-B", "options": limits, "bounds": bounds}

    return _minimize(objective, tol, max_iter, callback, trace, options, checkpoint)


def fit_newton(
    x: ArrayLike | Iterable[Any] | Data,
    start: Parameters,
    *,
    sample_weight: ArrayLike | Iterable[Any] | None = None,
    executor: Executor | None = None,
    priors: Sequence[Prior] = (),
    tol: float = 1e-8,
    max_iter: int = 200,
    callback: Callback | None = None,
    trace: Trace | None = None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Fit by Newton's method in a trust region, on the same vector as `fit_lbfgs`.

    Near the end each iteration doubles the correct digits, until rounding is all that is left.

    Parameters
    ----------
    x, start, sample_weight, executor, priors, callback, trace, checkpoint
        As for `fit_lbfgs`.
    tol : float
        As for `fit_lbfgs`. The gradient is brought below it also where the objective has settled
        to its last digit, as long as it shrinks.
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
    `scipy.optimize.minimize` with the exact Hessian: trust-exact with the whole matrix, one pass
    over the data an iteration, for vectors of up to 512 entries; beyond, trust-ncg, which takes
    some dozens of products with vectors, each at the price of two gradients.
    """
    objective = Objective(
        Data.of(x, sample_weight, start.n_features, executor), start, priors=priors
    )
    is_small = len(objective.origin) <= LARGEST_MATRIX

    def options(objective: Objective, gtol: float, n_left: int) -> dict[str, Any]:
        latest: list[tuple[FloatArray, Evaluation]] = []  # of two places, when a step was rejected

        def value_and_grad(vector: FloatArray) -> tuple[float, FloatArray]:
            try:
                latest.append((vector.copy(), objective.evaluate(vector)))
            except ValueError:
                return np.inf, np.zeros_like(vector)
            del latest[:-2]
            return latest[-1][1].value, latest[-1][1].gradient

        def at(vector: FloatArray) -> Evaluation:
            known = (found for place, found in latest if np.array_equal(place, vector))
            return next(known, None) or objective.evaluate(vector)

        said: dict[str, Any] = {
            "fun": value_and_grad,
            "options": {"maxiter": n_left, "gtol": gtol},
            "method": "trust-exact" if is_small else "trust-ncg",
        }
        if is_small:
            return said | {"hess": lambda vector: objective.hessian(at(vector))}
        return said | {"hessp": lambda vector, step: objective.times_hessian(at(vector), step)}

    result = _minimize(objective, tol, max_iter, callback, trace, options, checkpoint)
    if result.collapsed or result.n_iter >= max_iter:
        return result
    return _polish(objective.at(result.parameters), result, tol, is_small)


def _polish(objective: Objective, result: FitResult, tol: float, is_small: bool) -> FitResult:
    """Take Newton's steps as long as they halve the gradient: the objective tells no more of it."""
    vector = np.zeros_like(objective.origin)
    found = objective.evaluate(vector)
    size = float(np.abs(objective.natural_gradient(found)).max())
    n_iter = result.n_iter
    while size > tol:
        try:
            step = _newton_step(objective, found, is_small)
            ahead = objective.evaluate(vector + step)
        except (ValueError, OverflowError, np.linalg.LinAlgError):
            break
        reached = float(np.abs(objective.natural_gradient(ahead)).max())
        if not reached <= 0.5 * size:
            break
        vector, found, size, n_iter = vector + step, ahead, reached, n_iter + 1
    if n_iter == result.n_iter:
        return result
    history = [*result.history, found.value]
    return objective.result(
        vector,
        n_iter=n_iter,
        tol=tol,
        message="Newton's steps until only rounding is left",
        history=history,
    )


def _newton_step(objective: Objective, found: Evaluation, is_small: bool) -> FloatArray:
    """Return minus the inverse of the Hessian times the gradient, [V]."""
    if is_small:
        return np.asarray(np.linalg.solve(objective.hessian(found), -found.gradient))
    from scipy.sparse.linalg import LinearOperator, cg

    size = len(found.gradient)
    hessian = LinearOperator(
        (size, size), matvec=lambda step: objective.times_hessian(found, step), dtype=np.float64
    )
    return np.asarray(cg(hessian, -found.gradient, atol=0.0, maxiter=size)[0])


def _minimize(
    objective: Objective,
    tol: float,
    max_iter: int,
    callback: Callback | None,
    trace: Trace | None,
    options: Callable[[Objective, float, int], dict[str, Any]],
    checkpoint: Checkpoint | None,
) -> FitResult:
    """Call scipy.optimize.minimize until the gradient is small where it stops, or that is in vain.

    Each call begins where the last one stopped, in units of that place: those of a start far away
    are of no use near the end, and so are the curvatures that were remembered on the way.
    """
    from scipy.optimize import minimize

    history: list[float] = []
    n_iter, gtol, before = 0, tol, np.inf
    checkpoint = Checkpoint() if checkpoint is None else checkpoint
    answers = Answers()
    if state := checkpoint.state:
        objective, answers = objective.at(parameters_of(state["start"])), Answers(state["answers"])
        history, n_iter = state["history"].tolist(), state["n_iter"]
        gtol, before = state["gtol"], state["before"]
        recall(history, callback)
    n_before = len(history)
    latest = np.zeros_like(objective.origin)

    def now() -> State:
        return {
            "start": state_of(objective.start),
            "history": np.array(history[:n_before]),
            "n_iter": n_iter,
            "gtol": gtol,
            "before": before,
            "answers": answers.state(),
        }

    def report(intermediate_result: Any) -> None:
        nonlocal latest
        if np.isfinite(intermediate_result.x).all():
            latest = np.array(intermediate_result.x)
        history.append(float(intermediate_result.fun))
        if callback is not None:
            callback(len(history), history[-1])
        if trace is not None:
            trace(len(history), objective.parameters(latest))
        if not answers.are_old:
            checkpoint.keep(objective.parameters(latest), now)

    while True:
        latest = np.maximum(np.zeros_like(objective.origin), objective.floor)
        try:
            said = {"fun": objective.value_and_grad} | options(objective, gtol, max_iter - n_iter)
            said["fun"] = answers.of_value_and_grad(said["fun"])
            for name in said.keys() & {"hess", "hessp"}:
                said[name] = answers.of_curvature(said[name])
            best = minimize(x0=latest, jac=True, callback=report, **said)
        except KeyboardInterrupt:
            parameters = objective.evaluate(latest).parameters
            raise FitInterrupted(parameters, tuple(history)) from None
        # A line search down an abyss may end in NaN: a component collapses, nothing holds it up.
        vector = np.asarray(best.x) if np.isfinite(best.x).all() else latest
        n_iter += int(best.nit)
        found = objective.evaluate(vector)
        gradient = objective.natural_gradient(found)
        excess = float(np.abs(gradient).max()) / objective.tolerance(found.value, tol)
        result = objective.result(
            vector, n_iter=n_iter, tol=tol, message=str(best.message), history=history
        )
        gained = before - found.value > 4 * np.finfo(np.float64).eps * abs(found.value)
        if result.converged or result.collapsed or n_iter >= max_iter or not gained:
            return result
        before = found.value
        # Units of a vector are those of no component in particular, so that its gradient may be
        # smaller than tol where that of the fit is not.
        gtol = min(gtol, 0.5 * float(np.abs(found.gradient).max()) / excess)
        objective, answers, n_before = objective.at(found.parameters), Answers(), len(history)
