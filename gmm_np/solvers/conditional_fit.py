"""The fit of a mixture to some columns given the others, by the conditional likelihood.

Letters in shapes: N samples, K components, D columns, Q given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np.checks import FloatArray
from gmm_np.conditional.likelihood import sums_of
from gmm_np.conditional.split import Split, Sums
from gmm_np.likelihood import no_weight
from gmm_np.parameters import Parameters
from gmm_np.solvers.objective import Evaluation, Objective
from gmm_np.solvers.results import Callback, Data, FitInterrupted, FitResult, Trace
from gmm_np.solvers.scipy_solvers import minimize_lbfgs
from gmm_np.sufficient_statistics import as_floor


def fit_conditional(
    x: ArrayLike | Iterable[Any] | Data,
    start: Parameters,
    given: ArrayLike,
    *,
    sample_weight: ArrayLike | Iterable[Any] | None = None,
    reg_covar: ArrayLike = 0.0,
    tol: float = 1e-6,
    max_iter: int = 2000,
    callback: Callback | None = None,
    trace: Trace | None = None,
) -> FitResult:
    """Maximise the conditional likelihood of some columns given the others, by L-BFGS.

    The joint likelihood spends components on how the given columns are distributed; this one has
    them all for the others. What it says of the given columns alone is then of no meaning.

    Parameters
    ----------
    x : array_like of shape [N, D], or iterable of such blocks of rows, or Data
        Rows with all columns; an iterable is read once for each evaluation.
    start : Parameters
        Of all columns, as a joint fit leaves them. Of any family.
    given : array_like of int, shape [Q]
        The columns on which the others are conditioned, from 0; none twice, and not all.
    sample_weight : array_like of shape [N], or iterable of arrays, one a block, optional
    reg_covar : float or array_like of shape [D]
        A floor under the squared diagonals of the factors with the given columns first: under the
        variance of each other column given those before it.
    tol, max_iter, callback, trace
        As for `fit_lbfgs`.

    Returns
    -------
    FitResult
        Its `nll` is the mean negative conditional log-likelihood, never above that of the start.

    Raises
    ------
    TypeError, ValueError
        As `gmm_np.conditional.nll` does; or if the data lie in parts, or a component of the start
        is off.
    FitInterrupted
        After Ctrl-C, with the parameters of the last iteration.
    """
    data = Data.of(x, sample_weight, start.n_features)
    order = Split.of(start, given).order
    back = np.argsort(order)
    as_floor(reg_covar, start)  # says what is wrong with it
    floor = np.asarray(reg_covar, np.float64)
    floor = floor[order] if floor.ndim == 1 else floor
    first = _in_order(start, order)
    n_given = np.size(given)
    objective = ConditionalObjective(data, first, order, n_given, reg_covar=floor)
    at_start = objective.evaluate(np.zeros_like(objective.origin))

    def report(iteration: int, parameters: Parameters) -> None:
        assert trace is not None
        trace(iteration, _in_order(parameters, back))

    try:
        found = minimize_lbfgs(
            objective, tol, max_iter, callback, None if trace is None else report
        )
    except FitInterrupted as stop:
        raise FitInterrupted(_in_order(stop.parameters, back), stop.history) from None
    if not found.nll <= at_start.nll:  # the floor stands above the start
        found = objective.result(
            np.zeros_like(objective.origin),
            n_iter=found.n_iter,
            tol=tol,
            message=f"{found.message}; nothing was better than the start",
            history=list(found.history),
        )
    parameters = _in_order(found.parameters, back)
    split = Split.of(parameters, given)
    gradient = split.gradients(parameters, _pass(data, split)[2])
    return replace(found, parameters=parameters, gradients=gradient)


class ConditionalObjective(Objective):
    """Mean negative conditional log-likelihood as a function of a vector.

    The vector is that of the mixture with the given columns first, in which a factor's diagonal
    holds the standard deviations of the others given these.

    Parameters
    ----------
    data : Data
        With columns in their own order.
    start : Parameters
        With columns in this one.
    order : ndarray, shape [D]
        Columns of the data, the given ones first.
    n_given : int
    reg_covar : float or array_like of shape [D]
        As for `Objective`, in this order.
    """

    def __init__(
        self,
        data: Data,
        start: Parameters,
        order: NDArray[np.intp],
        n_given: int,
        *,
        reg_covar: ArrayLike = 0.0,
    ) -> None:
        super().__init__(data, start, reg_covar=reg_covar)
        self.order, self.n_given = order, n_given

    def evaluate(self, vector: FloatArray, data: Data | None = None) -> Evaluation:
        """Evaluate the objective at a vector, on other data than all if they are given.

        Raises
        ------
        ValueError
            If a diagonal, or a density, is beyond the range of a double.
        """
        parameters = self.parameters(vector)
        split = Split.of(parameters, np.arange(self.n_given))
        try:
            loss, weight, sums = _pass(
                self.data if data is None else data, replace(split, order=self.order)
            )
        except OverflowError as error:
            raise ValueError(str(error)) from None
        found = split.gradients(parameters, sums)
        gradient = self.unit * self.space.pullback(parameters, found)
        nll = loss / weight
        return Evaluation(nll, gradient, parameters, found, found, nll, weight)

    def at(self, parameters: Parameters) -> ConditionalObjective:
        """Return the same objective with its vector counted from, and in units of, other ones."""
        return ConditionalObjective(
            self.data, parameters, self.order, self.n_given, reg_covar=self.reg_covar
        )

    def held_up(self, vector: FloatArray, parameters: Parameters) -> tuple[int, ...]:  # noqa: ARG002
        """Return the components that the floor holds up."""
        return self.on_floor(vector)


def _pass(data: Data, split: Split) -> tuple[float, float, Sums]:
    """Return the summed loss, the weight, and the mean's sums, in one pass over the data."""
    loss = weight = 0.0
    total: Sums | None = None
    for rows, given in data.blocks():
        own = np.ones(len(rows)) if given is None else given
        used = own > 0  # what has no weight may be anything
        part = np.asarray(rows if used.all() else rows[used], np.float64)
        own = own[used]
        if len(part) == 0:
            continue
        log_likelihood, sums = sums_of(split, part, own)
        loss -= float(own @ log_likelihood)
        weight += float(own.sum())
        total = sums if total is None else total.plus(sums)
    if total is None:
        raise no_weight()
    data.total_weight = weight
    return loss, weight, Sums(*(np.asarray(array / weight) for array in total))


def _in_order(parameters: Parameters, order: NDArray[np.intp]) -> Parameters:
    """Return parameters, as float64, with columns in another order."""
    p = parameters
    logits, means, scale = (a.astype(np.float64) for a in (p.pi_logits, p.means, p.scale))
    return Parameters(logits, means, scale, p.family).marginal(order)
