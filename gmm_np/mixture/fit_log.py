"""What one start of a fit came to, and what is printed on the way."""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple

import numpy as np

from gmm_np.parameters import Parameters
from gmm_np.solvers.checkpoint import State, parameters_of, state_of
from gmm_np.solvers.results import Callback, CollapseError


class Fit(NamedTuple):
    """What one start came to."""

    parameters: Parameters
    lower_bounds: list[float]
    converged: bool
    collapsed: tuple[int, ...] = ()
    reseeded: tuple[int, ...] = ()

    def better_than(self, best: Fit | None) -> bool:
        """Whether this start came further than the best so far, or there is none."""
        if best is None or not best.lower_bounds:
            return True
        return bool(self.lower_bounds) and self.lower_bounds[-1] > best.lower_bounds[-1]


def state_of_end(found: Fit | CollapseError) -> State:
    """Return what a start came to as the state of a checkpoint."""
    if isinstance(found, CollapseError):
        return {"collapsed": list(found.components), "message": str(found)}
    bounds = np.array(found.lower_bounds)
    return found._asdict() | {"parameters": state_of(found.parameters), "lower_bounds": bounds}


def recall_end(state: State) -> Fit:
    """Return what a start came to.

    Raises
    ------
    CollapseError
        If that was one.
    """
    if "message" in state:
        raise CollapseError(state["message"], tuple(state["collapsed"]))
    return Fit(
        parameters_of(state["parameters"]),
        state["lower_bounds"].tolist(),
        state["converged"],
        tuple(state["collapsed"]),
        tuple(state["reseeded"]),
    )


class FitLog:
    """Prints what `verbose` asks for, in scikit-learn's words, and calls the user's callback."""

    def __init__(self, verbose: int, interval: int, callback: Callback | None) -> None:
        self.verbose, self.interval, self.callback = int(verbose), interval, callback
        self.started = self.last = perf_counter()
        self.value = np.inf
        self.values: list[float] = []  # of each iteration

    def __call__(self, iteration: int, value: float) -> None:
        """Take note of an iteration and its objective."""
        change, self.value = self.value - value, value
        self.values.append(value)
        if self.verbose and iteration % self.interval == 0:
            line = f"  Iteration {iteration}"
            if self.verbose > 1:
                now = perf_counter()
                line += f"\t time lapse {now - self.last:.5f}s\t ll change {change:.5f}"
                self.last = now
            print(line)
        if self.callback is not None:
            self.callback(iteration, value)

    def begin(self, start_index: int) -> None:
        """Take note of a start."""
        if self.verbose:
            print(f"Initialization {start_index}")

    def end(self, found: Fit) -> None:
        """Take note of what a start came to."""
        if not self.verbose or not found.lower_bounds:
            return
        how = "converged" if found.converged else "did not converge"
        line = f"Initialization {how}."
        if self.verbose > 1:
            lapse = perf_counter() - self.started
            line += f" time lapse {lapse:.5f}s\t lower bound {found.lower_bounds[-1]:.5f}."
        print(line)
