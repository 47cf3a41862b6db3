"""Data in streams and parts: blocks that come one after the other, and parts that lie elsewhere.

Parts stay where they are. What is K-sized goes to them, a sum of each comes back, and the sums are
added in a tree whose order is fixed. Dask is known here and nowhere else, and imported where its
data come.
"""

from __future__ import annotations

import copy
import operator
import sys
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

# So many sums are added by one node of the tree.
FAN_IN: Final = 8


class NoRowsError(ValueError):
    """A stream without any block of rows, which as one part of many is nothing wrong."""


class PlacedError(ValueError):
    """An error in data that says itself where it is, as the file and the line."""


def no_blocks() -> NoRowsError:
    """Return the error for a stream without any block."""
    return NoRowsError("x is an iterable without any block of rows: give at least one.")


class Executor(Protocol):
    """Whatever has a `map` as the built-in one, of one iterable; results come in its order."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], /) -> Iterable[Any]:
        """Call the function on each item, perhaps elsewhere."""


def is_stream(x: object) -> bool:
    """Whether data are an iterable of blocks of rows."""
    if isinstance(x, (list, tuple)):
        return len(x) > 0 and all(isinstance(block, np.ndarray) and block.ndim == 2 for block in x)
    return (
        isinstance(x, Iterable) and not isinstance(x, str | bytes) and not hasattr(x, "__array__")
    )


def in_step(x: Any, weight: Any) -> Iterator[tuple[NDArray[Any], ArrayLike | None]]:
    """Pair each block with its weights."""
    if weight is None:
        for block in x:
            yield block, None
        return
    weights = iter(weight)
    for index, block in enumerate(x):
        try:
            yield block, next(weights)
        except StopIteration:
            raise ValueError(
                f"sample_weight ends before x: there is none for block {index}. Give one array of "
                "weights for each block of rows."
            ) from None
    if next(weights, None) is not None:
        raise ValueError("sample_weight has more blocks than x. Give one for each block of rows.")


def parts_of(x: Any, sample_weight: Any = None, executor: Executor | None = None) -> Parts | None:
    """Return data that lie in parts, None where they are an array or a stream.

    Parameters
    ----------
    x : Dask array [N, D], Dask data frame, or Dask's Delayed or Future objects, one a part
        Or, with an executor, a list of parts: arrays, or streams such as open tables.
    sample_weight : the same of weights, or an array [N] where the lengths of the parts are known
    executor : Executor, optional

    Raises
    ------
    TypeError, ValueError
        If x has no parts for an executor, or the weights have others than x.
    ModuleNotFoundError
        If Dask's data come where Dask is not installed.
    """
    if isinstance(x, Parts):
        return x
    of_dask = is_dask(x) or (isinstance(x, list | tuple) and any(map(is_dask, x)))
    if executor is None:
        return DaskParts(x, sample_weight) if of_dask else None
    if of_dask:
        raise TypeError(
            "x lies with Dask, which runs on its own workers: leave executor out. To run on "
            "others, give a list of arrays or open tables."
        )
    if not callable(getattr(executor, "map", None)):
        raise TypeError(
            f"executor must have a method map(function, items); {type(executor).__name__} has "
            "none. concurrent.futures, mpi4py.futures, multiprocessing.Pool and Dask's "
            "Client.get_executor() have one."
        )
    if not isinstance(x, list | tuple):
        raise TypeError(
            "x must be a list of parts where there is an executor; got "
            f"{type(x).__name__}. np.array_split(x, n) makes n parts of an array; "
            "gmm_np.tables.open_table(path) is a part for each file."
        )
    return MappedParts(x, sample_weight, executor)


class Part(NamedTuple):
    """One part of data, where it is: rows [n, D] or a stream of blocks of them, and weights."""

    x: Any
    weight: Any = None
    place: int = 0
    chosen: NDArray[np.int64] | None = None  # which of the rows of positive weight, if not all


class Fault(NamedTuple):
    """An error in a part, which travels as a value: a traceback of elsewhere says nothing here."""

    kind: type[Exception]
    message: str


class Parts(ABC):
    """Rows and weights in parts, and sums over them.

    Parameters
    ----------
    x : sequence
        One item a part.
    weight : sequence, optional
        Weights, one item a part.
    """

    named: Any = None  # what has names of columns
    first = 0  # the place of the first of these parts among all
    chosen: NDArray[np.int64] | None = None  # of one part, which of the rows of positive weight

    def __init__(self, x: Sequence[Any], weight: Sequence[Any] | None) -> None:
        if len(x) == 0:
            raise ValueError("x is a list without any part: give at least one.")
        for index, item in enumerate(x):
            if isinstance(item, str | bytes) or hasattr(item, "__fspath__"):
                raise TypeError(
                    f"part {index} of x is the name of a file, {item!r}: open it with "
                    "gmm_np.tables.open_table(path), which is read where the part is needed."
                )
        if weight is not None and len(weight) != len(x):
            raise ValueError(
                f"sample_weight has {len(weight)} parts, but x has {len(x)}. Give one for each."
            )
        self.x, self.weight = list(x), [None] * len(x) if weight is None else list(weight)

    def __len__(self) -> int:
        return len(self.x)

    def reduce(
        self,
        function: Callable[..., Any],
        *shared: Any,
        add: Callable[[Any, Any], Any] = operator.add,
    ) -> Any:
        """Return the sum of function(part, *shared) over all parts that have rows.

        Always in the same order, so that the same parts give the same bits.

        Raises
        ------
        TypeError, ValueError, OverflowError
            That of the first part in which there was one; the message names the part, or the file
            that it is read from. If no part has a row.
        """
        found = self._reduce(function, shared, add)
        if isinstance(found, Fault):
            raise found.kind(found.message)
        if found is None:
            raise ValueError("x has no row in any of its parts: look at what selected them.")
        return found

    def n_features(self) -> int:
        """Return D, as the first part that has rows says."""
        for index in range(len(self)):
            found = self._take(index)._reduce(_width, (), operator.add)
            if isinstance(found, Fault):
                raise found.kind(found.message)
            if found is not None:
                return int(found)
        raise ValueError("x has no row in any of its parts: look at what selected them.")

    def pick(self, index: int, chosen: NDArray[np.int64]) -> Parts:
        """Return some of the rows of positive weight of one part, by their numbers among these."""
        one = self._take(index)
        one.chosen = chosen
        return one

    def _parts(self) -> Iterator[Part]:
        for place, item in enumerate(zip(self.x, self.weight, strict=True), self.first):
            yield Part(*item, place, self.chosen)

    def _take(self, index: int) -> Parts:
        """Return one part, which keeps its place."""
        one = copy.copy(self)
        one.x, one.weight, one.first = [self.x[index]], [self.weight[index]], index
        return one

    @abstractmethod
    def _reduce(
        self, function: Callable[..., Any], shared: tuple[Any, ...], add: Callable[[Any, Any], Any]
    ) -> Any:
        """Return the sum, a `Fault`, or None where there are no rows."""


class MappedParts(Parts):
    """Parts that an executor sends to where they are worked on, and sums that it brings back."""

    def __init__(self, x: Sequence[Any], weight: Sequence[Any] | None, executor: Executor) -> None:
        super().__init__(x, weight)
        self.executor = executor

    def _reduce(
        self, function: Callable[..., Any], shared: tuple[Any, ...], add: Callable[[Any, Any], Any]
    ) -> Any:
        call = partial(_on_part, function, shared)
        level = list(self.executor.map(call, list(self._parts())))  # a list: as Dask wants it
        while len(level) > 1:
            level = [_merge(add, level[i : i + FAN_IN]) for i in range(0, len(level), FAN_IN)]
        return level[0]


class DaskParts(Parts):
    """Parts that Dask has or makes, and sums that it takes there.

    A client that is running does the work, Dask's threads where there is none.
    """

    def __init__(self, x: Any, weight: Any = None) -> None:
        try:
            import dask.delayed  # noqa: F401
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                'x lies with Dask, which is not installed: pip install "dask[array]" distributed'
            ) from None
        items, self.lengths, self._width, self.named = _split(x)
        super().__init__(items, _split_weight(weight, self.lengths))
        futures = [item for item in (*self.x, *self.weight) if _is_future(item)]
        # A future belongs to a client, which need not be the one that is running.
        self._where = {"scheduler": futures[0].client} if futures else {}
        self.x, self.weight = (list(map(_as_delayed, array)) for array in (self.x, self.weight))

    def n_features(self) -> int:
        """Return D."""
        return super().n_features() if self._width is None else self._width

    def rows(
        self, function: Callable[..., Any], *shared: Any, tail: tuple[int, ...], dtype: DTypeLike
    ) -> Any:
        """Return function(part, *shared), one row for each of the part, as a Dask array."""
        import dask.array as da

        zeros = (0,) * len(tail)
        name, layer, keys = self._layer(_rows_on_part, function, shared, (tail, dtype))
        layer |= {(name, i, *zeros): layer.pop(key) for i, key in enumerate(keys)}
        chunks = (tuple(self.lengths), *((n,) for n in tail))
        return da.Array(self._graph(name, layer), name, chunks, dtype)

    def _reduce(
        self, function: Callable[..., Any], shared: tuple[Any, ...], add: Callable[[Any, Any], Any]
    ) -> Any:
        from dask.delayed import Delayed

        name, layer, level = self._layer(_on_part, function, shared)
        height = 0
        while len(level) > 1:
            height += 1
            groups = [level[i : i + FAN_IN] for i in range(0, len(level), FAN_IN)]
            level = [(f"add-{name}", height, i) for i in range(len(groups))]
            layer |= {key: (_merge, add, group) for key, group in zip(level, groups, strict=True)}
        return Delayed(level[0], self._graph(name, layer), layer=name).compute(**self._where)

    def _layer(
        self,
        call: Callable[..., Any],
        function: Callable[..., Any],
        shared: tuple[Any, ...],
        more: tuple[Any, ...] = (),
    ) -> tuple[str, dict[Any, Any], list[Any]]:
        """Return a name, tasks that call a function on each part, and the keys of these."""
        name = f"{function.__name__.strip('_')}-{uuid.uuid4().hex}"
        # A node of its own, so that it goes to each worker once.
        layer: dict[Any, Any] = {f"shared-{name}": (_opened, _Closed(shared))}
        keys = [(f"part-{name}", i) for i in range(len(self))]
        for key, part in zip(keys, self._parts(), strict=True):
            there = [None if item is None else item.key for item in part[:2]]
            layer[key] = (call, function, f"shared-{name}", [*there, *part[2:]], *more)
        return name, layer, keys

    def _graph(self, name: str, layer: dict[Any, Any]) -> Any:
        from dask.highlevelgraph import HighLevelGraph

        beneath = [item for item in (*self.x, *self.weight) if item is not None]
        return HighLevelGraph.from_collections(name, layer, beneath)


# --- what runs where the parts are -------------------------------------------------------------


def _on_part(function: Callable[..., Any], shared: tuple[Any, ...], part: Sequence[Any]) -> Any:
    """Return the function's value on a part, None of a part without rows, or what went wrong."""
    own = Part(*part)
    try:
        if _is_empty(own.x):
            return None
        return function(own if own.chosen is None else _picked(own), *shared)
    except NoRowsError:
        return None
    except PlacedError as error:
        return Fault(type(error), str(error))
    except (TypeError, ValueError, OverflowError) as error:
        kinds = (TypeError, ValueError, OverflowError)
        kind = next(kind for kind in kinds if isinstance(error, kind))
        return Fault(kind, f"part {own.place} of x: {error}")


def _picked(part: Part) -> Part:
    """Return the rows that are chosen, as an array."""
    x, weight = (
        np.concatenate(list(array)) if is_stream(array) else array
        for array in (part.x, part.weight)
    )
    rows, own = np.asarray(x), None if weight is None else np.asarray(weight)
    used = np.arange(len(rows)) if own is None else np.flatnonzero(own)
    chosen = used[part.chosen]
    return Part(rows[chosen], None if own is None else own[chosen], part.place)


def _rows_on_part(
    function: Callable[..., Any],
    shared: tuple[Any, ...],
    part: Sequence[Any],
    tail: tuple[int, ...],
    dtype: DTypeLike,
) -> Any:
    found = _on_part(function, shared, part)
    if isinstance(found, Fault):
        raise found.kind(found.message)
    return np.empty((0, *tail), dtype) if found is None else found


def _merge(add: Callable[[Any, Any], Any], found: Sequence[Any]) -> Any:
    """Add in the order of the parts; the first fault stands for all."""
    total = None
    for part in found:
        if isinstance(part, Fault):
            return part
        if part is not None:
            total = part if total is None else add(total, part)
    return total


@dataclass(frozen=True)
class _Closed:
    """What Dask is not to look into for keys of tasks."""

    content: Any


def _opened(closed: _Closed) -> Any:
    return closed.content


def _width(part: Part) -> int:
    rows = next(iter(part.x)) if is_stream(part.x) else part.x
    return int(np.shape(rows)[1])


def _is_empty(x: Any) -> bool:
    """Whether an array, or a data frame, has the right rank and no rows."""
    return not is_stream(x) and len(getattr(x, "shape", ())) == 2 and len(x) == 0


# --- what Dask's objects are --------------------------------------------------------------------


def is_dask(x: object) -> bool:
    """Whether Dask has this, or knows how to make it."""
    return (hasattr(x, "__dask_graph__") and not isinstance(x, type)) or _is_future(x)


def _is_future(x: object) -> bool:
    distributed = sys.modules.get("distributed")  # without it there is none
    return distributed is not None and isinstance(x, distributed.Future)


def _is_one_part(x: object) -> bool:
    """Whether this is a Future or a Delayed, which seems to have any attribute."""
    from dask.delayed import Delayed

    return _is_future(x) or isinstance(x, Delayed)


def _as_delayed(item: Any) -> Any:
    """Return what is in a part as a Delayed, None as it is."""
    from dask.delayed import Delayed, delayed

    if item is None or isinstance(item, Delayed):
        return item
    if is_dask(item):
        return delayed(item)
    return delayed(item, name=f"rows-{uuid.uuid4().hex}", traverse=False)


def _split(x: Any) -> tuple[list[Any], list[float], int | None, Any]:
    """Return the parts of Dask's data, their lengths (NaN where not known), D and names if known.

    Names are whatever has them, as a data frame does.
    """
    if _is_one_part(x):
        x = [x]
    if isinstance(x, list | tuple):
        return list(x), [np.nan if is_dask(i) else len(i) for i in x], None, None
    if hasattr(x, "numblocks"):  # an array
        if x.ndim != 2:
            raise ValueError(
                f"x must have two axes [N, D]; got shape {x.shape}. Use x.reshape(-1, 1) if it "
                "holds one-dimensional samples."
            )
        if x.numblocks[1] > 1:
            x = x.rechunk({1: -1})
        # Optimized, Dask 2026.8 forgets whose futures these are, and lets a persisted array go.
        parts = x.to_delayed(optimize_graph=False)[:, 0]
        return list(parts), list(x.chunks[0]), int(x.shape[1]), None
    if getattr(x, "ndim", 0) == 2 and hasattr(x, "to_delayed"):  # a data frame
        parts = x.to_delayed()
        return list(parts), [np.nan] * len(parts), len(x.columns), x
    raise TypeError(
        f"x lies with Dask as {type(x).__name__}, which has no rows of columns. Give a Dask array "
        "[N, D], a data frame, or a list of Delayed or Future objects, one for each part."
    )


def _split_weight(weight: Any, lengths: list[float]) -> list[Any] | None:
    """Return weights in the parts of x."""
    if weight is None:
        return None
    known = not np.isnan(lengths).any()
    if _is_one_part(weight):
        return [weight]
    if hasattr(weight, "numblocks"):  # a Dask array
        if weight.ndim == 1 and known and not np.isnan(weight.shape[0]):
            _check_total(weight.shape[0], lengths)
            weight = weight.rechunk((tuple(int(n) for n in lengths),))
        return list(np.ravel(weight.to_delayed(optimize_graph=False)))
    if hasattr(weight, "to_delayed"):  # a series
        return list(weight.to_delayed())
    if isinstance(weight, list | tuple) and any(is_dask(w) or np.ndim(w) > 0 for w in weight):
        return list(weight)
    if not known:
        raise TypeError(
            "sample_weight must have the parts of x, whose lengths are not known here: give a Dask "
            "array or series of the same parts, or a list of one array a part."
        )
    array = np.asarray(weight)
    _check_total(len(array), lengths)
    return np.split(array, np.cumsum(lengths[:-1], dtype=int))


def _check_total(n_weights: int, lengths: list[float]) -> None:
    if n_weights != sum(lengths):
        raise ValueError(
            f"sample_weight must have shape [N] = ({int(sum(lengths))},), one weight for each row "
            f"of x; got ({n_weights},)."
        )
