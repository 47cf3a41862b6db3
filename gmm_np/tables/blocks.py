"""What every reader gives: what a file holds, and its rows in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np.tables.errors import File, short, table_error


class Block(NamedTuple):
    """Consecutive rows, without those that were dropped."""

    values: NDArray[np.float64]  # [n, D], finite
    places: Sequence[int]  # [n], line or row of the file, from 1
    n_dropped: int  # rows with a missing value


Cells = Iterator[tuple[int, list[str]]]


class Source(NamedTuple):
    """A file that can be read."""

    names: list[str]  # of all columns, "" where one has none
    named: bool  # whether the file names its columns
    row_names: list[int]  # columns, from 0, that only name the rows
    unit: str  # of places: "line" or "row"
    note: str  # what was guessed of it; "" where nothing was
    first_line: list[str]  # cells of the first line of a text
    blocks: Callable[[list[int], int], Iterator[Block]]  # of the columns picked, from 0
    text_columns: Callable[[], list[int]]  # those, from 0, that hold text and no number
    cells: Callable[[], Cells]  # all rows as text, with their places
    delimiter: str = ","  # between cells, where there is a character
    decimal: str = "."  # the decimal mark


def column_name(names: Sequence[str], j: int) -> str:
    """Return how a message names column `j`, from 0; one without a name bears its number."""
    return f"column {j + 1} ({short(names[j] or str(j + 1))})"


def finite_block(
    file: File,
    values: NDArray[np.float64],
    first: int,
    columns: Sequence[str],
    *,
    drop: bool,
) -> Block:
    """Return rows [n, D], of which `first`, from 0, is the first, as a block.

    Rows with NaN are dropped, or TableError is raised; it is raised for infinite values anyway.
    """
    bad = np.isinf(values) if drop else ~np.isfinite(values)
    if bad.any():
        row, j = (int(i) for i in np.argwhere(bad)[0])
        what = f"{values[row, j]} is not a finite number; mend it or drop the row"
        if np.isnan(values[row, j]):
            what += " (--missing drop)"
        raise table_error(file, what, f"row {first + row + 1}", columns[j])
    places: Sequence[int] = range(first + 1, first + 1 + len(values))
    if drop:
        kept = np.flatnonzero(~np.isnan(values).any(axis=1))
        if len(kept) < len(values):
            return Block(values[kept], (kept + first + 1).tolist(), len(values) - len(kept))
    return Block(values, places, 0)
