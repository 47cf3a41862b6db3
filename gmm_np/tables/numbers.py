"""From the rows of a text file to blocks of float64.

NumPy's C reader goes first; from the block on where it gives up, `_exact_blocks` goes through the
cells with `float`, to return what only `float` takes, or to say where the fault is.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gmm_np.tables.errors import short, table_error
from gmm_np.tables.text import Layout, count_cells, holds_cells, is_number, open_leniently, records

_SEPARATED_BY: Final = {",": "commas", ";": "semicolons", "\t": "tabs", None: "white space"}
_DECIMAL_COMMA: Final = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")


def text_blocks(layout: Layout, picks: list[int], n_rows: int) -> Iterator[NDArray[np.float64]]:
    """Yield the chosen columns in blocks [<= n_rows, D]; raise TableError at the first fault."""
    every = picks == list(range(len(layout.names)))
    last = layout.start - 1  # the line that was read last

    def lines() -> Iterator[str]:
        nonlocal last
        for number, line in enumerate(stream, start=1):
            if number < layout.start or not holds_cells(line):
                continue
            # loadtxt would join lines at an open quote, and with usecols take any length.
            if line.count('"') % 2 or (
                not every and count_cells(line, layout.delimiter) != len(layout.names)
            ):
                raise ValueError
            last = number
            yield line

    with layout.file.open(encoding="utf-8-sig") as stream:
        rows = lines()
        while True:
            begin = last + 1
            try:
                first = next(rows, None)
                if first is None:
                    return
                values = _read_fast(
                    chain([first], islice(rows, n_rows - 1)),
                    layout.delimiter,
                    None if every else picks,
                )
            except ValueError:  # UnicodeDecodeError is one
                values = None
            if values is None or values.shape[1] != len(picks) or not np.isfinite(values).all():
                yield from _exact_blocks(layout, picks, begin, n_rows)
                return
            yield values


def _read_fast(
    lines: Iterator[str], delimiter: str | None, picks: list[int] | None
) -> NDArray[np.float64] | None:
    return np.loadtxt(
        lines, delimiter=delimiter, comments=None, quotechar='"', usecols=picks, ndmin=2
    )


def _exact_blocks(
    layout: Layout, picks: list[int], begin: int, n_rows: int
) -> Iterator[NDArray[np.float64]]:
    """Blocks from line `begin` on, cell by cell."""
    values = array("d")
    with open_leniently(layout.file) as stream:
        for line, cells in records(layout.file, stream, layout.delimiter):
            if line < begin:
                continue
            if len(cells) != len(layout.names):
                raise _ragged(layout, line, cells)
            for j in picks:
                value = float(cells[j]) if is_number(cells[j]) else math.nan
                if not math.isfinite(value):
                    column = f"column {j + 1} ({short(layout.names[j])})"
                    raise table_error(layout.file, _fault(cells[j]), f"line {line}", column)
                values.append(value)
            if len(values) == n_rows * len(picks):
                yield np.array(values).reshape(-1, len(picks))
                del values[:]
    if values:
        yield np.array(values).reshape(-1, len(picks))


def _ragged(layout: Layout, line: int, cells: list[str]) -> ValueError:
    separated = _SEPARATED_BY.get(layout.delimiter, repr(layout.delimiter))
    what = (
        f"the number of cells (separated by {separated}) is {len(cells)} where line {layout.head} "
        f"has {len(layout.names)}, got {short((layout.delimiter or ' ').join(cells))}; make all "
        "lines equally long, or name the delimiter"
    )
    return table_error(layout.file, what, f"line {line}")


def _fault(cell: str) -> str:
    if not cell.strip():
        return "the cell is empty; fill it in or drop the row"
    if is_number(cell):
        return f"{short(cell)} is not a finite number; mend it or drop the row"
    if _DECIMAL_COMMA.fullmatch(cell):
        return f"{short(cell)} is not a number; write decimals with a point"
    return f"{short(cell)} is not a number; mend it, drop the row, or choose other columns"
