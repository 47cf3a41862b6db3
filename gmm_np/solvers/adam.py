"""Adam: minibatches, a cosine schedule, and step sizes of their own for logits and components.

References
----------
.. [1] Kingma, D. P. and Ba, J. (2015). Adam: a method for stochastic optimization. *ICLR*.
.. [2] Loshchilov, I. and Hutter, F. (2017). SGDR: stochastic gradient descent with warm restarts.
   *ICLR*. Its cosine schedule, without restarts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np.parameters import Parameters
from gmm_np.parts import Executor
from gmm_np.priors import Prior
from gmm_np.solvers.checkpoint import (
    Checkpoint,
    State,
    recall,
    set_generator,
    state_of_generator,
)
from gmm_np.solvers.objective import Objective
from gmm_np.solvers.results import Callback, Data, FitInterrupted, FitResult, Trace

# Decay of the running means of the gradient and of its square, and what keeps the root from zero.
DECAY: Final = 0.9
SQUARE_DECAY: Final = 0.999
EPSILON: Final = 1e-8


def fit_adam(
    x: ArrayLike | Iterable[Any] | Data,
    start: Parameters,
    *,
    sample_weight: ArrayLike | Iterable[Any] | None = None,
    executor: Executor | None = None,
    reg_covar: ArrayLike = 0.0,
    priors: Sequence[Prior] = (),
    batch_size: int | None = None,
    step_logits: float = 1e-2,
    step_components: float = 1e-2,
    tol: float = 1e-4,
    max_iter: int = 5000,
    callback: Callback | None = None,
    trace: Trace | None = None,
    rng: np.random.Generator | None = None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Fit by Adam on the log-diagonal Cholesky vector.

    Parameters
    ----------
    x : array_like of shape [N, D], or iterable of such blocks of rows, or Data
        An iterable is read once for each pass, and batches are drawn within its blocks.
        Data in parts, as `Data` takes them, stay where they are, and so do their batches.
    start : Parameters
    sample_weight : array_like of shape [N], or iterable of arrays, one a block, optional
    executor : object with a method ``map(function, items)``, optional
        Through which the parts of a list x go, as for `gmm_np.statistics`.
    reg_covar : float or array_like of shape [D]
        A floor under the squared diagonals of the factors, one number or one a column.
    priors : sequence of Wishart, Dirichlet or Normal
        Of `gmm_np.priors`: the objective is minus the log posterior over the weight of the data.
    batch_size : int, optional
        Rows of a minibatch; all by default.
    step_logits, step_components : float
        Step sizes at the beginning, for the logits and for means and factors, in units of the
        start. Both fall to zero along a cosine.
    tol : float
        Converged where no entry of the gradient on all data is larger, in nats a sample and in
        units of the fit there: deviations of the components. Without minibatches the fit stops
        there.
    max_iter : int
        Passes over the data.
    callback : callable, optional
        Called with the pass, from 1, and the mean of the objective over its batches.
    trace : callable, optional
        Called with the pass, from 1, and the parameters after it.
    rng : numpy.random.Generator, optional
        Of the batches.
    checkpoint : Checkpoint, optional
        Where to go on from, to the same bits, and whom to tell the state after each pass.

    Returns
    -------
    FitResult

    Raises
    ------
    TypeError, ValueError
        As `gmm_np.nll` does, or if `batch_size` is not positive.
    FitInterrupted
        After Ctrl-C, with the parameters of the last step.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, or None for all rows; got {batch_size}.")
    data = Data.of(x, sample_weight, start.n_features, executor)
    objective = Objective(data, start, reg_covar=reg_covar, priors=priors)
    rng = np.random.default_rng() if rng is None else rng
    batches = Batches(data, batch_size, rng)
    step_size = np.where(objective.is_logit, step_logits, step_components)
    vector = np.maximum(np.zeros_like(objective.origin), objective.floor)
    mean, square = np.zeros_like(vector), np.zeros_like(vector)
    history: list[float] = []
    n_steps, step, message = max_iter * batches.count, 0, "max_iter passes were made"
    checkpoint = Checkpoint() if checkpoint is None else checkpoint
    if state := checkpoint.state:
        vector, mean, square = (state[name] for name in ("vector", "mean", "square"))
        step, history = state["step"], state["history"].tolist()
        set_generator(rng, state["rng"])
    try:
        recall(history, callback)
        for iteration in range(len(history) + 1, max_iter + 1):
            total = 0.0
            largest = math.inf
            for batch in batches:
                found = objective.evaluate(vector, batch)
                share = batches.share(found.weight)
                gradient = share * found.gradient
                total += share * found.value
                if batches.whole:
                    largest = float(np.abs(objective.natural_gradient(found)).max())
                    if largest <= tol:
                        break
                cosine = 0.5 * (1 + math.cos(math.pi * step / n_steps))
                step += 1
                mean += (1 - DECAY) * (gradient - mean)
                square += (1 - SQUARE_DECAY) * (gradient**2 - square)
                unbiased = mean / (1 - DECAY**step)
                root = np.sqrt(square / (1 - SQUARE_DECAY**step)) + EPSILON
                vector = np.maximum(vector - cosine * step_size * unbiased / root, objective.floor)
            history.append(total / batches.count)
            if callback is not None:
                callback(iteration, history[-1])
            if trace is not None:
                trace(iteration, objective.parameters(vector))
            if batches.whole and largest <= tol:
                message = "the gradient is within the tolerance"
                break
            now: State = {"vector": vector, "mean": mean, "square": square, "step": step}
            checkpoint.keep(objective.parameters(vector), partial(_with, now, history, rng))
    except KeyboardInterrupt:
        raise FitInterrupted(objective.parameters(vector), tuple(history)) from None
    return objective.result(vector, n_iter=len(history), tol=tol, message=message, history=history)


def _with(state: State, history: list[float], rng: np.random.Generator) -> State:
    return state | {"history": np.array(history), "rng": state_of_generator(rng)}


class Batches:
    """Minibatches of data.

    Rows of weight zero are left out. Each pass shuffles the rows anew, those of a stream within
    their block, and those of a part, where it is, within it.
    """

    def __init__(self, data: Data, size: int | None, rng: np.random.Generator) -> None:
        self.data, self.size, self.rng = data, size, rng
        # No batches: one evaluation of all data, stream or not.
        self.whole = size is None
        self.usage = data.usage()
        n_rows = sum(use.n_rows for use in self.usage)
        total = sum(use.weight for use in self.usage)
        self.count = 1 if size is None else sum(-(-use.n_rows // size) for use in self.usage)
        data.total_weight = total
        self.mean_weight = total / n_rows if n_rows else 0.0
        self.mean_rows = n_rows / self.count if self.count else 0.0
        if n_rows == 0:
            raise ValueError("x has no row of positive weight: give at least one.")

    def share(self, weight: float) -> float:
        """Return the factor that makes the mean of a batch of this weight an unbiased estimate."""
        return 1.0 if self.whole else weight / (self.mean_rows * self.mean_weight)

    def __iter__(self) -> Iterator[Data]:
        if self.size is None:
            yield self.data
        elif self.data.parts is not None:
            for use in self.usage:
                for chosen in self._cut(np.arange(use.n_rows), self.size):
                    part = self.data.parts.pick(use.place, chosen)
                    yield Data(part, missing=self.data.missing)
        else:
            for rows, weight in self.data.blocks():
                used = np.arange(len(rows)) if weight is None else np.flatnonzero(weight)
                for chosen in self._cut(used, self.size):
                    yield self.data.pick(rows, weight, chosen)

    def _cut(self, used: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
        """Shuffle, and yield batch by batch."""
        order = self.rng.permutation(used)
        for first in range(0, len(order), size):
            yield order[first : first + size]
