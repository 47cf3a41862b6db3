"""Expectation-maximisation: a pass over the data, an update in closed form, and again.

The negative log-likelihood (with priors: minus the log posterior) never rises. It has no lower
bound where a component collapses: `reg_covar`, a prior, or a fresh start of the component is the
remedy, and what happened is in the result.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np.checks import FloatArray, check_choice, name_components
from gmm_np.covariance.sums import Bools
from gmm_np.parameters import Parameters
from gmm_np.parts import Executor
from gmm_np.priors import Prior, conjugate
from gmm_np.solvers.checkpoint import (
    Checkpoint,
    State,
    parameters_of,
    recall,
    set_generator,
    state_of,
    state_of_generator,
)
from gmm_np.solvers.floor import deviations, find_held_up
from gmm_np.solvers.results import (
    Callback,
    CollapseError,
    Data,
    FitInterrupted,
    FitResult,
    Sample,
    Trace,
    log_density,
)
from gmm_np.sufficient_statistics import Statistics, as_floor, em_update, gradients

ON_COLLAPSE: Final = ("raise", "reseed", "keep")
# A mean that moves by more of its standard deviations leaves rounding in the covariance, so that a
# collapse there is none yet; it is believed after so many steps.
FAR: Final = 1e-3
PATIENCE: Final = 3
# Where iterations ended, means may still move; from here on rounding of the move would be believed.
TOO_FAR: Final = 1e2
MOST_RESEEDS: Final = 20


def fit_em(
    x: ArrayLike | Iterable[Any] | Data,
    start: Parameters,
    *,
    sample_weight: ArrayLike | Iterable[Any] | None = None,
    executor: Executor | None = None,
    reg_covar: ArrayLike = 0.0,
    priors: Sequence[Prior] = (),
    on_collapse: str = "raise",
    tol: float = 1e-9,
    max_iter: int = 10_000,
    callback: Callback | None = None,
    trace: Trace | None = None,
    rng: np.random.Generator | None = None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Fit by expectation-maximisation, equation (27).

    Parameters
    ----------
    x : array_like of shape [N, D], or iterable of such blocks of rows, or Data
        An iterable is read once for each iteration. Data in parts, as `Data` takes them, stay
        where they are.
    start : Parameters
        Of any family.
    sample_weight : array_like of shape [N], or iterable of arrays, one a block, optional
    executor : object with a method ``map(function, items)``, optional
        Through which the parts of a list x go, as for `gmm_np.statistics`.
    reg_covar : float or array_like of shape [D]
        Added to the diagonal of each covariance in each update, one number or one a column: a
        floor, which also lets the negative log-likelihood rise a little near the end. One variance
        for all columns gets the mean.
    priors : sequence of Wishart, Dirichlet or Normal
        Of `gmm_np.priors`: the objective is minus the log posterior over the weight of the data.
    on_collapse : {"raise", "reseed", "keep"}
        What becomes of a component whose samples span less than D dimensions: an error, a fresh
        start at a random row, or the covariance that it had.
    tol : float
        Stop where the objective changes by less from one iteration to the next, in nats a sample.
    max_iter : int
    callback : callable, optional
        Called with the iteration, from 1, and the objective before its update.
    trace : callable, optional
        Called with the iteration, from 1, and the parameters after it.
    rng : numpy.random.Generator, optional
        For "reseed".
    checkpoint : Checkpoint, optional
        Where to go on from, to the same bits, and whom to tell the state after each iteration.

    Returns
    -------
    FitResult

    Raises
    ------
    CollapseError
        If a component collapses and `on_collapse` is "raise", or all share the covariance, or it
        collapses again and again.
    TypeError, ValueError
        As `gmm_np.statistics` does.
    """
    data = Data.of(x, sample_weight, start.n_features, executor)
    run = EM(data, start, reg_covar=reg_covar, priors=priors, on_collapse=on_collapse, rng=rng)
    run.iterate(tol=tol, max_iter=max_iter, callback=callback, trace=trace, checkpoint=checkpoint)
    final = data.statistics(run.parameters)
    gradient = gradients(run.parameters, final)
    return FitResult(
        run.parameters,
        final.loss / final.weight,
        gradient,
        math.sqrt(sum(float(np.sum(np.square(g))) for g in gradient[:3] if g is not None)),
        len(run.history),
        run.converged,
        "the objective has settled" if run.converged else "max_iter iterations were made",
        tuple(run.history),
        run.held(),
        tuple(run.reseeded),
    )


class EM:
    """A run of EM, whose state can be read at any time, also after an interruption.

    Parameters
    ----------
    data : Data
    start : Parameters
    reg_covar, priors, on_collapse, rng
        As for `fit_em`.

    Attributes
    ----------
    parameters : Parameters
        After the last complete iteration.
    history : list of float
        The objective before the update of each iteration, in nats a sample.
    converged : bool
    reseeded : list of int
        Components that were started again.
    kept : set of int
        Components that collapsed and kept their covariance.
    """

    def __init__(
        self,
        data: Data,
        start: Parameters,
        *,
        reg_covar: ArrayLike = 0.0,
        priors: Sequence[Prior] = (),
        on_collapse: str = "raise",
        rng: np.random.Generator | None = None,
    ) -> None:
        check_choice("on_collapse", on_collapse, ON_COLLAPSE)
        self.data, self.start, self.parameters = data, start, start
        self.floor, self.on_collapse = as_floor(reg_covar, start), on_collapse
        self.priors, self.prior = tuple(priors), conjugate(priors) if priors else None
        self.rng = rng
        self.history: list[float] = []
        self.converged = False
        self.reseeded: list[int] = []
        self.kept: set[int] = set()
        self._waiting = np.zeros(start.n_components, dtype=int)
        self._last: Statistics | None = None
        self._sample: Sample | None = None

    def iterate(
        self,
        *,
        tol: float,
        max_iter: int,
        callback: Callback | None = None,
        trace: Trace | None = None,
        before: float = math.inf,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Iterate until the objective changes by less than `tol`; `before` is its last value.

        With the state of a `checkpoint`, go on from there.
        """
        checkpoint = Checkpoint() if checkpoint is None else checkpoint
        self.converged, done = False, 0
        if checkpoint.state:
            before = self._restore(checkpoint.state)
            done = len(self.history)
            recall(self.history, callback)
        for iteration in range(done + 1, max_iter + 1):
            n_reseeded = len(self.reseeded)
            try:
                value = self.step()
                self.history.append(value)
                if callback is not None:
                    callback(iteration, value)
                if trace is not None:
                    trace(iteration, self.parameters)
            except KeyboardInterrupt:
                raise FitInterrupted(self.parameters, tuple(self.history)) from None
            # What may be a collapse is not settled yet: it gets its few steps to prove itself.
            undecided = set(np.flatnonzero(self._waiting).tolist()) - self.kept
            if abs(before - value) < tol and not undecided:
                self.converged = True
                return
            # After a fresh start the objective is another's.
            before = value if len(self.reseeded) == n_reseeded else math.inf
            if iteration < max_iter:  # whoever goes on makes one iteration, and sees how it ended
                checkpoint.keep(self.parameters, partial(self._state, before))

    def _state(self, before: float) -> State:
        """Return all that the next iteration depends on."""
        return {
            "parameters": state_of(self.parameters),
            "history": np.array(self.history),
            "before": before,
            "reseeded": list(self.reseeded),
            "kept": sorted(self.kept),
            "waiting": self._waiting,
            "sample": None if self._sample is None else list(self._sample),
            "rng": state_of_generator(self.rng),
        }

    def _restore(self, state: State) -> float:
        """Go back to a state; return the last value of the objective."""
        self.parameters = parameters_of(state["parameters"])
        self.history = state["history"].tolist()
        self.reseeded, self.kept = list(state["reseeded"]), set(state["kept"])
        self._waiting = state["waiting"]
        self._sample = None if state["sample"] is None else Sample(*state["sample"])
        self.rng = set_generator(self.rng, state["rng"])
        return float(state["before"])

    def step(self) -> float:
        """Make one iteration; return the objective before its update."""
        statistics = self.data.statistics(self.parameters)
        updated, collapsed = self._update(statistics)
        if collapsed.any():  # perhaps only for the kernel that is fast
            statistics = self.data.statistics(self.parameters, method="direct")
            updated, collapsed = self._update(statistics)
        self._last = statistics
        self._waiting = np.where(collapsed, self._waiting + 1, 0)
        certain = collapsed & (~_far(statistics) | (self._waiting > PATIENCE))
        value = statistics.loss / statistics.weight
        value -= log_density(self.priors, self.parameters) / statistics.weight
        if certain.any():
            updated = self._treat(np.flatnonzero(certain), updated, statistics)
        self.parameters = updated
        return value

    def held(self) -> tuple[int, ...]:
        """Return the components that only a floor, a prior, or what they kept holds up."""
        held = self.kept | {int(k) for k in np.flatnonzero(self._waiting)}
        last = self._last
        if last is not None:
            held |= set(find_held_up(self.parameters, last.n_k, self.floor, self.prior))
            if find_collapsed(last):  # also where rounding is more than the floor
                last = self.data.statistics(last.parameters, method="direct")
                held |= set(find_collapsed(last))
        return tuple(sorted(held))

    def _update(self, statistics: Statistics) -> tuple[Parameters, Bools]:
        """Return the updated parameters and which components collapsed, which keep their scale."""
        p, family = statistics.parameters, statistics.family
        updated, collapsed = em_update(p, statistics, reg_covar=self.floor, prior=self.prior)
        held = bool(self.floor.any()) or (self.prior is not None and self.prior.scatter > 0)
        if held or not family.learned:
            return updated, collapsed
        # A spread that the doubles next to the mean do not see is none.
        resolution = 8 * np.finfo(np.float64).eps * np.abs(updated.means)
        flat = (deviations(updated) <= resolution).any(axis=1) & (statistics.n_k > 0) & ~collapsed
        if not flat.any():
            return updated, collapsed
        scale = np.array(p.scale, np.float64)
        if family.per_component:
            scale[~flat] = updated.scale[~flat]
        else:
            flat[:] = True  # one for all
        return Parameters(updated.pi_logits, updated.means, scale, p.family), collapsed | flat

    def _treat(
        self, components: NDArray[np.intp], updated: Parameters, statistics: Statistics
    ) -> Parameters:
        """Do with collapsed components what `on_collapse` says."""
        found = tuple(int(k) for k in components)
        shared = statistics.family.shared
        if self.on_collapse == "keep":
            self.kept |= set(found)
            return updated
        if self.on_collapse == "raise" or shared:
            raise CollapseError(_collapse_message(found, statistics, shared=shared), found)
        if len(self.reseeded) + len(found) > MOST_RESEEDS:
            raise CollapseError(
                f"components collapsed {MOST_RESEEDS} times, the last time "
                f"{name_components(found)}: there are too many for these data. Use fewer "
                "components, a larger reg_covar, or a prior. Components are counted from 0.",
                found,
            )
        if self._sample is None:
            self.rng = np.random.default_rng() if self.rng is None else self.rng
            self._sample = self.data.sample(self.rng, 4096)
        logits, means, scale = (
            np.array(a, np.float64) for a in (updated.pi_logits, updated.means, updated.scale)
        )
        share = self._sample.weight / self._sample.weight.sum()
        for k in found:
            logits[k] = -math.log(len(logits))
            means[k] = self._sample.rows[self.rng.choice(len(share), p=share)]  # type: ignore[union-attr]
            scale[k] = self.start.scale[k]
            self._waiting[k] = 0
            self.reseeded.append(k)
        return Parameters(logits, means, scale, updated.family)


def find_collapsed(statistics: Statistics) -> tuple[int, ...]:
    """Return the components whose likelihood has no maximum, but for a floor or a prior."""
    collapsed = em_update(statistics.parameters, statistics)[1] & ~_far(statistics, TOO_FAR)
    return tuple(int(k) for k in np.flatnonzero(collapsed))


def _far(statistics: Statistics, limit: float = FAR) -> NDArray[np.bool_]:
    """Whether the mean of each component moves far in this step, in its own units, [K]."""
    share = np.where(statistics.n_k > 0, statistics.n_k, 1.0)
    moved: FloatArray = statistics.v_k / share[:, None]
    return np.asarray(np.abs(moved).max(axis=1) > limit)


def _collapse_message(components: tuple[int, ...], statistics: Statistics, *, shared: bool) -> str:
    if shared:
        return (
            "the shared covariance collapsed: about their components the samples span less than D "
            "dimensions, so that the likelihood has no maximum. Use a larger reg_covar, a prior, "
            "or fewer components."
        )
    weights = ", ".join(f"{statistics.n_k[k]:.3g}" for k in components)
    return (
        f"{name_components(components)} collapsed: the samples of such a component (of weight "
        f"{weights}) "
        "span less than D dimensions, so that its covariance is singular and the likelihood has "
        'no maximum. Use a larger reg_covar, a prior, on_collapse="reseed", or fewer components. '
        "Components are counted from 0."
    )
