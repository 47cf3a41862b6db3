"""Samples for a fit or a score: rows and weights, in memory or read anew in each pass."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray
from gmm_np.commands.options import open_data, read_data
from gmm_np.progress import Progress
from gmm_np.tables import Table, TableError

_LARGEST: Final = 1e150  # its square, and a sum of many of these, is a double


class Samples(NamedTuple):
    """Rows [N, D] and their weights [N], both arrays, or both read block by block."""

    table: Table
    x: Any
    weight: Any  # None where there are none
    names: list[str]

    def blocks(self) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        """Yield rows and weights, block by block."""
        if isinstance(self.x, np.ndarray):
            yield self.x, self.weight
        elif self.weight is None:
            for block in self.x:
                yield block, None
        else:
            yield from zip(self.x, self.weight, strict=True)

    def some_rows(self, most: int, seed: int) -> FloatArray:
        """Return at most so many rows, chosen at random, in their order."""
        if isinstance(self.x, np.ndarray):
            return self.x  # the pictures choose for themselves
        rng = np.random.default_rng(seed)
        kept, keys = np.empty((0, len(self.names))), np.empty(0)
        for block in self.x:  # of uniform keys, the rows of the smallest are a fair draw
            kept = np.concatenate([kept, block])
            keys = np.concatenate([keys, rng.random(len(block))])
            if len(keys) > most:
                smallest = np.sort(np.argpartition(keys, most)[:most])
                kept, keys = kept[smallest], keys[smallest]
        return kept


class _Weights:
    """The only column of a table as weights, in blocks [n]; TableError where one is negative."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        first = 0
        for block in self.table:
            values = block[:, 0]
            if (values < 0).any():
                row = int((values < 0).argmax())
                what = f"the weight {values[row]} is negative; a weight of 0 leaves a row out"
                raise self.table.error(first + row, what)
            first += len(values)
            yield values


def load_samples(
    options: argparse.Namespace, *, stream: bool = False, names: list[str] | None = None
) -> Samples:
    """Read, or with `stream` open, DATA as the options say, and ``options.weights`` beside it.

    Columns are found by `names` where none are chosen and the table has all of these.
    """
    table = open_data(options)
    if options.columns is None and names and set(names) <= set(table.names):
        wanted = [*names, options.weights] if options.weights else names
        table = table.choose(wanted)
    if options.weights is None:
        return Samples(table, table if stream else read_data(table), None, table.names)
    weight = table.number(options.weights)
    features = [number for number in table.numbers if number != weight]
    if not features:
        raise TableError(
            f"{options.data}: no column is left beside that of the weights; choose some"
        )
    rows, weights = table.choose(features), _Weights(table.choose([weight]))
    if stream:
        return Samples(rows, rows, weights, rows.names)
    values = read_data(table.choose([*features, weight]))
    if (values[:, -1] < 0).any():
        list(weights)  # raises, and names the place
    return Samples(rows, np.ascontiguousarray(values[:, :-1]), values[:, -1].copy(), rows.names)


def check_distinct(samples: Samples, n_components: int) -> None:
    """Raise ValueError unless there are as many distinct rows of positive weight."""
    distinct: set[bytes] = set()
    for rows, weight in samples.blocks():
        used = rows if weight is None else rows[weight > 0]
        for start in range(0, len(used), 1024):  # most data show enough at once
            distinct.update(row.tobytes() for row in used[start : start + 1024] + 0.0)
            if len(distinct) >= n_components:
                return
    of = "" if samples.weight is None else " of positive weight"
    raise ValueError(
        f"{samples.table.file}: has {len(distinct)} distinct rows{of}, too few for K = "
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
            one = samples.table.choose([samples.table.numbers[column]])
            raise one.error(first + row, what)
        first += len(rows)


class Score(NamedTuple):
    """What a model makes of samples."""

    nll: float  # mean, nats a sample
    weight: float  # sum of the weights, N without
    n_samples: int


def score(model: Any, samples: Samples) -> Score:
    """Score samples in one pass."""
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
    return Score(-total / weight, weight, n_samples)
