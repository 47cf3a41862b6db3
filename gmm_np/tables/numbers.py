"""From the rows of a text file to blocks of float64.

NumPy's C reader goes first. From the block on where it gives up, `_cell_by_cell` goes on: there are
missing values to drop, numbers in another notation, or a fault whose place has to be told.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gmm_np.tables.blocks import Block, Cells, column_name
from gmm_np.tables.cells import fault, is_missing, is_word, number_reader
from gmm_np.tables.errors import short, table_error
from gmm_np.tables.text import Layout, count_cells, records

_SEPARATED_BY: Final = {",": "commas", ";": "semicolons", "\t": "tabs", None: "white space"}


def text_blocks(layout: Layout, drop: bool, picks: list[int], n_rows: int) -> Iterator[Block]:
    """Yield the chosen columns in blocks [<= n_rows, D]; raise TableError at the first fault."""
    names, delimiter = layout.names, layout.delimiter
    every = picks == list(range(len(names)))
    places = array("q")

    def simple_lines() -> Iterator[str]:
        for place, line in layout.text.lines(layout.start):
            # loadtxt would join lines at an open quote, and with usecols take any length.
            if line.count('"') % 2 or not (every or count_cells(line, delimiter) == len(names)):
                raise ValueError
            places.append(place)
            yield line

    lines, start = simple_lines(), layout.start
    while layout.decimal is None:
        del places[:]
        try:
            first = next(lines, None)
            if first is None:
                return
            values = _read_fast(
                chain([first], islice(lines, n_rows - 1)), delimiter, None if every else picks
            )
        except ValueError:
            break
        if values is None or values.shape[1] != len(picks) or not np.isfinite(values).all():
            break
        yield Block(values, places[:], 0)
        start = places[-1] + 1
    yield from _cell_by_cell(layout, drop, picks, n_rows, start)


def text_cells(layout: Layout) -> Cells:
    """Yield each row as cells of text, with its line."""
    for place, cells in records(
        layout.text.file, layout.text.lines(layout.start), layout.delimiter
    ):
        if len(cells) != len(layout.names):
            raise _ragged(layout, place, cells)
        yield place, cells


def text_columns(layout: Layout) -> list[int]:
    """Return the columns, from 0, that hold text and no number; marks of missing values apart.

    Rows are read until each column has shown a number. In a table without names there is none: its
    first row may be of names.
    """
    if not layout.named:
        return []
    rows = records(layout.text.file, layout.text.lines(layout.start), layout.delimiter)
    width = len(layout.names)
    wordy = dict.fromkeys(range(width), False)  # columns without a number: is there a word?
    for _, cells in rows:
        if len(cells) != width:
            break  # reading the numbers says so
        for j in list(wordy):
            if is_word(cells[j]):
                wordy[j] = True
            elif not is_missing(cells[j]):
                del wordy[j]
        if not wordy:
            break
    return [j for j, found in wordy.items() if found]


def _read_fast(
    lines: Iterator[str], delimiter: str | None, picks: list[int] | None
) -> NDArray[np.float64] | None:
    return np.loadtxt(
        lines, delimiter=delimiter, comments=None, quotechar='"', usecols=picks, ndmin=2
    )


def _cell_by_cell(
    layout: Layout, drop: bool, picks: list[int], n_rows: int, start: int
) -> Iterator[Block]:
    """Blocks of the rows from line `start` on."""
    file, names, read = layout.text.file, layout.names, number_reader(layout.decimal)
    rows = records(file, layout.text.lines(start), layout.delimiter)
    values, places, n_dropped = array("d"), array("q"), 0
    for place, cells in rows:
        if len(cells) != len(names):
            raise _ragged(layout, place, cells)
        row = []
        for j in picks:
            value = read(cells[j])
            if value is not None and math.isfinite(value):
                row.append(value)
            elif not (drop and is_missing(cells[j])):
                what = fault(cells[j], layout.decimal)
                if is_word(cells[j]) and place == layout.head:
                    what += "; if this line names the columns, say so (--header)"
                elif is_word(cells[j]) and place == layout.start:
                    what += f"; if the line is no row, skip it (--skip-lines {place}-{place})"
                raise table_error(file, what, f"line {place}", column_name(names, j))
        if len(row) < len(picks):
            n_dropped += 1
            continue
        values.extend(row)
        places.append(place)
        if len(places) == n_rows:
            yield Block(np.array(values).reshape(-1, len(picks)), places[:], n_dropped)
            del values[:], places[:]
            n_dropped = 0
    yield Block(np.array(values).reshape(-1, len(picks)), places, n_dropped)


def _ragged(layout: Layout, line: int, cells: list[str]) -> ValueError:
    separated = _SEPARATED_BY.get(layout.delimiter, repr(layout.delimiter))
    what = (
        f"the number of cells (separated by {separated}) is {len(cells)} where line {layout.head} "
        f"has {len(layout.names)}, got {short((layout.delimiter or ' ').join(cells))}; "
    )
    if line == layout.start:
        what += f"if line {layout.head} is no row, skip it (--skip-lines {layout.head}); "
    what += "make all lines equally long, or name the delimiter"
    return table_error(layout.text.file, what, f"line {line}")
