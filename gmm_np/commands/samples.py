"""Samples for a fit or a score: rows and weights, in memory or read anew in each pass."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray, counted
from gmm_np.commands.options import open_data, read_data
from gmm_np.progress import Progress
from gmm_np.solvers import Data
from gmm_np.solvers.results import count_distinct, variances
from gmm_np.tables import Table, TableError

_LARGEST: Final = 1e150  # its square, and a sum of many of these, is a double


class Samples(NamedTuple):
    """Rows [N, D] and their weights [N], both arrays, or both read block by block."""

    table: Table  # of these columns, that of the weights the last
    x: Any
    weight: Any  # None where there are none
    names: list[str]
    notes: list[str]  # what was assumed
    log_unit: float = 0.0  # what the NLL in the data's units has beyond that of x
    finite: bool = True  # what a table gives is; what is made of it may overflow
    parts: Sequence[Samples] = ()  # the same in parts, where others read them

    @property
    def missing(self) -> str:
        """What NaN is, as for `gmm_np.nll`."""
        return "marginal" if self.table.missing == "marginal" else "error"

    @property
    def labels(self) -> list[str]:
        """How people are told of the columns: those without a name by their number."""
        return self.names if self.table.named else [f"column {name}" for name in self.names]

    def summary(self, n_samples: int) -> str:
        """Return what was read, for people."""
        left_out, incomplete = self.table.n_dropped, self.table.n_incomplete
        more = f"; left out for a missing value: {left_out}" if left_out else ""
        more += f"; with a missing value: {incomplete}" if incomplete else ""
        return f"{self.table.file}: {counted(n_samples, 'row')} of {', '.join(self.labels)}{more}"

    def blocks(self) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        """Yield rows and weights, block by block."""
        if isinstance(self.x, np.ndarray):
            yield self.x, self.weight
        elif self.weight is None:
            for block in self.x:
                yield block, None
        else:
            yield from zip(self.x, self.weight, strict=True)

    def data(self) -> Data:
        """Return them for a fit, which does not search again what the table has searched."""
        if not self.parts:
            return Data(self.x, self.weight, finite=self.finite, missing=self.missing)
        from gmm_np.commands.workers import there

        x = there([part.x for part in self.parts])
        weight = self.weight and there([part.weight for part in self.parts])
        return Data(x, weight, missing=self.missing)

    def of(self, table: Table) -> Samples:
        """Return the samples that a part of the table has, read block by block."""
        rows, weight = (table, None) if self.weight is None else (_Features(table), _Weights(table))
        return self._replace(table=table, x=rows, weight=weight)

    def without_weights(self) -> Samples:
        """Return the same columns as a table, read block by block, whatever the weights are."""
        numbers = self.table.numbers if self.weight is None else self.table.numbers[:-1]
        table = self.table.choose(numbers)
        return Samples(table, table, None, self.names, self.notes)

    def some_rows(self, most: int, seed: int) -> FloatArray:
        """Return at most so many rows, chosen at random, in their order; complete ones alone."""
        if isinstance(self.x, np.ndarray):
            return self._complete(self.x)  # the pictures choose for themselves
        rng = np.random.default_rng(seed)
        kept, keys = np.empty((0, len(self.names))), np.empty(0)
        for block in self.x:  # of uniform keys, the rows of the smallest are a fair draw
            kept = np.concatenate([kept, block])
            keys = np.concatenate([keys, rng.random(len(block))])
            if len(keys) > most:
                smallest = np.sort(np.argpartition(keys, most)[:most])
                kept, keys = kept[smallest], keys[smallest]
        return self._complete(kept)

    def _complete(self, rows: FloatArray) -> FloatArray:
        complete = ~np.isnan(rows).any(axis=1)
        if complete.all():
            return rows
        if not complete.any():
            what = "no row is complete, so that there is none to draw; leave the picture out"
            raise TableError(f"{self.table.file}: {what}")
        return rows[complete]


class _Features:
    """The rows of a table whose last column are weights, in blocks [n, D]."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        for block in self.table:
            yield np.ascontiguousarray(block[:, :-1])


class _Weights:
    """Their weights, in blocks [n]; TableError where one is negative, or missing."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        first = 0
        for block in self.table:
            values = block[:, -1].copy()
            if not (values >= 0).all():
                row = int((~(values >= 0)).argmax())
                what = "the weight is missing" if np.isnan(values[row]) else ""
                what = what or f"the weight {values[row]} is negative"
                what += "; a weight of 0 leaves a row out"
                raise self.table.error(first + row, what, self.table.numbers[-1:])
            first += len(values)
            yield values


class Columns(NamedTuple):
    """What a model was fitted to."""

    n_features: int
    names: list[str] | None


def load_samples(
    options: argparse.Namespace, *, stream: bool | None = False, columns: Columns | None = None
) -> Samples:
    """Read, or with `stream` open, DATA as the options say, and the column of --weights beside it.

    Where `stream` is None several files are opened, and one is read. With `columns`, those of a
    model, the same are taken as `_pair` finds them.
    """
    table = open_data(options)
    names = set(columns.names or []) if columns is not None else set()
    first_line = {cell.strip() for cell in table.first_line}
    if names and options.header is None and not table.named and names <= first_line:
        # A first line of numbers is a header after all: it has the names of the model.
        table = open_data(options, header=True)
    if options.columns is not None:
        table = table.choose(options.columns)
    column = vars(options).get("weights")
    weight = None if column is None else table.number(column)
    if weight is not None and table.numbers != [weight]:
        table = table.without([weight])
    elif weight is not None:
        raise TableError(f"{table.file}: no column is left beside that of the weights; choose some")
    if columns is None:
        if options.columns is None:
            table = table.without_text()
        notes = table.notes
    else:
        chosen = options.columns is not None
        table, more = _pair(table, columns, chosen=chosen, by_position=options.by_position)
        notes = [*table.notes, *more]
    features = table.names
    stream = len(table.members()) > 1 if stream is None else stream
    if weight is not None:
        table = table.choose([*table.numbers, weight])
    samples = Samples(table, None, weight, features, notes).of(table)
    if stream:
        return samples
    values = read_data(table)
    if weight is None:
        return samples._replace(x=values)
    if not (values[:, -1] >= 0).all():
        list(samples.weight)  # raises, and names the place
    return samples._replace(x=np.ascontiguousarray(values[:, :-1]), weight=values[:, -1].copy())


def names_to_save(table: Table, names: list[str]) -> list[str] | None:
    """Return the names of columns that a model keeps; those without a name have their number.

    None where the numbers are 1, 2, ... and say nothing.
    """
    plain = [str(j) for j in range(1, len(names) + 1)]
    return names if table.named or names != plain else None


def _pair(
    table: Table, columns: Columns, *, chosen: bool, by_position: bool
) -> tuple[Table, list[str]]:
    """Return the table with the columns of a model, in its order, and what was assumed.

    Names decide where both sides have them, and a table that has none has the numbers of its
    columns; else the order decides, and there must be as many. `chosen` says that the table's
    columns were: no others are looked at then.
    """
    named = columns.names is not None
    if columns.names is not None and not by_position:
        names = table.names if chosen else table.all_names
        missing = [name for name in columns.names if name not in names]
        if not missing:
            numbers = [table.all_names.index(name) + 1 for name in columns.names]
            return table.choose(numbers), []
        if table.named:
            raise TableError(
                f"{table.file}: no column named {_quoted(missing)}: the model was fitted to "
                f"{_quoted(columns.names)}, the table has {_quoted(names)}; rename them, or "
                "say which are meant, in the order of the model, with --columns and --by-position"
            )
    if not chosen:
        table = table.without_text()
    if len(table.names) != columns.n_features:
        raise TableError(
            f"{table.file}: has {counted(len(table.names), 'column')} where the model was fitted "
            f"to {columns.n_features}; choose as many with --columns"
        )
    if by_position or named == table.named:
        return table, []
    side = "model" if table.named else "table"
    return table, [f"{table.file}: the {side} has no names, so columns are paired in their order"]


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def check_distinct(samples: Samples, n_components: int) -> None:
    """Raise TableError unless there are two rows, and as many distinct ones of positive weight."""
    distinct, n_rows = count_distinct(samples.blocks(), n_components)
    if distinct >= n_components and n_rows > 1:
        return
    if n_rows == 1:
        raise TableError(f"{samples.table.file}: has 1 row; a fit needs 2 or more")
    of = "" if samples.weight is None else " of positive weight"
    raise TableError(
        f"{samples.table.file}: has {counted(distinct, 'distinct row')}{of}, too few for K = "
        f"{n_components}; use fewer components"
    )


def check_range(samples: Samples) -> None:
    """Raise TableError, with the place, where a value is so large that variances overflow."""
    first = 0
    for rows, _ in samples.blocks():
        large = np.abs(rows) > _LARGEST
        if large.any():
            row, column = (int(i) for i in np.argwhere(large)[0])
            what = f"{rows[row, column]} is too large to fit; divide the column by a power of ten"
            raise samples.table.error(first + row, what, [samples.table.numbers[column]])
        first += len(rows)


def column_variances(samples: Samples) -> FloatArray:
    """Return the variance of each column, [D]; TableError where a value is too large."""
    found = samples.data().variances() if samples.parts else variances(samples.blocks())
    if not np.isfinite(found).all():
        check_range(samples)
    return found


class Score(NamedTuple):
    """What a model makes of samples."""

    nll: float  # mean, nats a sample
    weight: float  # sum of the weights, N without
    n_samples: int


def score(model: Any, samples: Samples) -> Score:
    """Score samples in one pass."""
    model.set_params(missing=samples.missing)
    total, weight, n_samples = 0.0, 0.0, 0
    with Progress("score", unit="row") as line:
        for rows, own in samples.blocks():
            log_density = model.score_samples(rows)  # [N]
            share = np.ones(len(rows)) if own is None else own
            used = share > 0  # so that what has no weight may have no density
            total += float(share[used] @ log_density[used])
            weight += float(share.sum())
            n_samples += len(rows)
            line.advance(len(rows))
    if weight <= 0:
        raise ValueError("the weights are all zero; give at least one row a positive weight")
    return Score(-total / weight + samples.log_unit, weight, n_samples)
