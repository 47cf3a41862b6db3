"""Fits that go on from where they were, to the same bits: their state, and who keeps it.

A state is a tree of dicts and lists, with numbers, texts and arrays in it. Work that is made of
other fits, as starts or sizes one after the other, has a state for each of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray
from gmm_np.parameters import Parameters

State = dict[str, Any]
Keep = Callable[[State, Parameters], object]

_TREE: Final = "tree"
_ARRAY: Final = "array"


class Checkpoint:
    """Where a fit goes on from, and whom it tells its state after each iteration.

    What is fitted, and how, has to be the same as before; whoever keeps states sees to that. A fit
    that goes on calls its callback again for the iterations of before.

    Parameters
    ----------
    keep : callable, optional
        Called with the state of the whole work, and the parameters that the fit has come to. The
        state is to be written, or copied, at once.
    state : dict, optional
        What `keep` was called with.
    """

    def __init__(self, keep: Keep | None = None, state: State | None = None) -> None:
        self._keep = keep
        self.state: State = {} if state is None else state
        self._n_children = 0

    def keep(self, parameters: Parameters, state: Callable[[], State]) -> None:
        """Put another state, with those of all children, in the place of this one; tell of it."""
        if self._keep is not None:
            self.state = state()
            self._keep(self.state, parameters)

    def child(self) -> Checkpoint:
        """Return the checkpoint of the next part of the work."""
        if self._keep is None:
            return Checkpoint()
        above, place = self.state, self._n_children
        children: list[State] = above.setdefault("children", [])
        self._n_children += 1
        if place == len(children):
            children.append({})
        tell = self._keep

        def keep(state: State, parameters: Parameters) -> None:
            children[place] = state
            tell(above, parameters)

        return Checkpoint(keep, children[place])


# --- what states hold ---------------------------------------------------------------------------


def state_of(parameters: Parameters) -> State:
    """Return parameters as a state."""
    p = parameters
    return {"pi_logits": p.pi_logits, "means": p.means, "scale": p.scale, "family": p.family}


def parameters_of(state: State) -> Parameters:
    """Return the parameters that a state holds."""
    return Parameters(**state)


def state_of_generator(rng: np.random.Generator | None) -> State | None:
    """Return where a generator is."""
    return None if rng is None else dict(rng.bit_generator.state)


def set_generator(rng: np.random.Generator | None, state: State | None) -> Any:
    """Set a generator, or a new one, to where another was; return it."""
    if state is None:
        return rng
    rng = np.random.default_rng() if rng is None else rng
    rng.bit_generator.state = state
    return rng


def recall(history: Sequence[float], callback: Callable[[int, float], object] | None) -> None:
    """Call a callback for the iterations that were made before."""
    for iteration, value in enumerate(history if callback is not None else (), start=1):
        callback(iteration, value)  # type: ignore[misc]


class Answers:
    """What functions of an optimizer gave since it began: given again, they lead it as far.

    An optimizer of SciPy cannot be stopped and started again; but nothing in it is left to chance.
    """

    def __init__(self, state: State | None = None) -> None:
        self.given: list[FloatArray] = []
        if state is not None:
            self.given = np.split(state["numbers"], np.cumsum(state["lengths"])[:-1])
        self.n_old, self.n_used = len(self.given), 0

    @property
    def are_old(self) -> bool:
        """Whether there are more of them to give again."""
        return self.n_used < self.n_old

    def state(self) -> State:
        """Return all of them."""
        lengths = np.array([len(answer) for answer in self.given])
        return {"numbers": np.concatenate(self.given), "lengths": lengths}

    def of_value_and_grad(
        self, function: Callable[[FloatArray], tuple[float, FloatArray]]
    ) -> Callable[[FloatArray], tuple[float, FloatArray]]:
        """Return the function; it gives old answers as long as there are any."""

        def answer(vector: FloatArray) -> tuple[float, FloatArray]:
            def find() -> FloatArray:
                value, gradient = function(vector)
                return np.append(gradient, value)

            found = self._next(find)
            return float(found[-1]), found[:-1].copy()

        return answer

    def of_curvature(self, function: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
        """Return a Hessian [V, V], or a product with it [V], in the same way."""

        def answer(vector: FloatArray, *step: FloatArray) -> FloatArray:
            found = self._next(lambda: np.ravel(function(vector, *step)))
            return np.array(found if step else found.reshape(len(vector), -1))

        return answer

    def _next(self, find: Callable[[], FloatArray]) -> FloatArray:
        if not self.are_old:
            self.given.append(find())
        self.n_used += 1
        return self.given[self.n_used - 1]


# --- files --------------------------------------------------------------------------------------


def pack(state: State) -> dict[str, NDArray[Any]]:
    """Return a state as arrays, without a pickle, for an `.npz` file."""
    arrays: dict[str, NDArray[Any]] = {}

    def write(value: Any) -> Any:
        name = f"{_ARRAY}{len(arrays)}"
        arrays[name] = value
        return {_ARRAY: name}

    text = json.dumps(state, default=write)
    return {_TREE: np.array(text), **arrays}


def unpack(members: Mapping[str, NDArray[Any]]) -> State:
    """Return what `pack` packed.

    Raises
    ------
    ValueError
        If the arrays are no state.
    """

    def read(found: State) -> Any:
        return members[found[_ARRAY]] if set(found) == {_ARRAY} else found

    try:
        state = json.loads(str(members[_TREE]), object_hook=read)
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"there is no state of a fit ({error})") from None
    if not isinstance(state, dict):
        raise ValueError("the state of a fit has to be a dict")
    return state
