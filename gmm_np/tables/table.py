"""A table: a file of numbers, the choice of its columns, and its rows in blocks.

Lines, rows and columns are counted from 1. Letters in shapes: N rows, n of a block, D columns.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np.parts import PlacedError
from gmm_np.tables.cells import not_finite, read_range, short


class TableError(PlacedError):
    """A file that is not a table of numbers: one line with the place and the remedy."""


class Block(NamedTuple):
    """Consecutive rows, without those that were dropped."""

    values: NDArray[np.float64]  # [n, D], finite
    places: Sequence[int]  # [n], line or row of the file


class Table:
    """A file of numbers; iterating over it reads it, as often as one likes, in blocks.

    Made by `open_table`. Memory is bounded by a block, but for a `.npz` file, which is unpacked
    whole. Each reading searches the chosen columns for what is not finite, and gives none of it.

    Attributes
    ----------
    file : str
        What messages call it.
    numbers : list of int, length D
        Number of each chosen column in the file.
    all_names : list of str
        Of all columns of the file, those without a name by their number. No two are equal.
    header : list of str
        Names as the file has them, "" for none; empty where it names none (`named` is False).
    unit : str
        What places count: "line" or "row".
    delimiter, decimal : str
        Of a text: what stands between cells, a blank for white space, and the decimal mark.
    first_line : list of str
        Cells of the first line of a text, whether they are names or numbers.
    n_dropped : int
        Rows with a missing value that the last complete reading left out.
    n_incomplete : int
        Those that it kept.
    """

    unit, delimiter, decimal = "row", ",", "."
    note = ""  # what was guessed of the file
    first_line: Sequence[str] = ()
    _is_part = False  # of a table: another part may have the rows that this one lacks

    def __init__(self, path: Path, file: str, *, missing: str, block_rows: int) -> None:
        self.path, self.file, self.missing, self.block_rows = path, file, missing, block_rows
        self.n_dropped = self.n_incomplete = 0

    def _set_columns(
        self, names: Sequence[str], *, named: bool, row_names: Sequence[int] = ()
    ) -> None:
        """Set what the columns are; those of `row_names` only name the rows."""
        self.named, self.header = named, list(names) if named else []
        self.all_names = unique_names(names)
        self._row_names, self._left_out = row_names, list[int]()  # not chosen, and that is said
        self.numbers = [j for j in range(1, len(names) + 1) if j not in row_names]

    @property
    def names(self) -> list[str]:
        """Of the chosen columns."""
        return [self.all_names[number - 1] for number in self.numbers]

    @property
    def notes(self) -> list[str]:
        """What was guessed of the file, a line each: for the user to see."""
        notes = [self.note] if self.note else []
        if self._row_names:
            found = ", ".join(map(str, self._row_names))
            many = len(self._row_names) > 1
            which, them = (f"columns {found} are", "them") if many else (f"column {found} is", "it")
            every = f"--columns 1-{len(self.all_names)}"
            notes.append(f"{which} taken for names of the rows and left out; {every} keeps {them}")
        if self._left_out:
            verb, are = ("hold", "are") if len(self._left_out) > 1 else ("holds", "is")
            notes.append(f"{self._columns(self._left_out)} {verb} text and {are} left out")
        return [f"{self.file}: {note}" for note in notes]

    def without_text(self) -> Table:
        """Return the same table without the columns that hold text and no number, if any is left.

        Its notes name them.
        """
        text = sorted(set(self._text_columns()) & set(self.numbers))
        if not text or len(text) == len(self.numbers):
            return self
        table = self.without(text)
        table._left_out = text
        return table

    def without(self, numbers: Collection[int]) -> Table:
        """Return the same table without some of its columns, by their numbers."""
        table = copy(self)
        table.numbers = [number for number in self.numbers if number not in numbers]
        return table

    def choose(self, columns: Sequence[str | int]) -> Table:
        """Return the same table with other columns, in this order.

        By name, by number, or in a range of numbers such as "1-4".
        """
        wanted = [columns] if isinstance(columns, str) else list(columns)
        if not wanted:
            raise self._error("no column is chosen (--columns); name one, or leave the choice out")
        table = copy(self)
        table.numbers = [number for column in wanted for number in self._numbers_of(column)]
        table._row_names = table._left_out = []
        number, times = Counter(table.numbers).most_common(1)[0]
        if times > 1:
            raise self._error(f"is chosen {times} times; choose it once", self._columns([number]))
        return table

    def _numbers_of(self, column: str | int) -> Sequence[int]:
        """Return the number of a column, or those of a range; TableError if there are none."""
        chosen = read_range(column) if isinstance(column, str) else None
        n_columns, name = len(self.all_names), str(column).strip()
        if chosen is None:
            return [self.number(column)]
        is_range = 1 <= chosen.start < chosen.stop <= n_columns + 1
        if name in self.all_names and not is_range:
            return [self.number(column)]
        if name in self.all_names:
            number = self.all_names.index(name) + 1
            raise self._error(
                f"{short(name)} is a range of columns, and the name of column {number}; write "
                f"{number} for this column, or the numbers of the range one by one"
            )
        if not is_range:
            what = f"no columns {name}; a range goes up, within 1-{n_columns}"
            raise self._error(f"{what}: {listed(self.all_names)}")
        return chosen

    def number(self, column: str | int) -> int:
        """Return the number of a column of the file; TableError if there is none."""
        if isinstance(column, str):
            name = column.strip()
            if (n_same := self.header.count(name)) > 1:
                what = f"{n_same} columns are named {short(name)}; use the number from 1"
                raise self._error(what)
            if name in self.all_names:
                return self.all_names.index(name) + 1
            number = int(name) if re.fullmatch("[0-9]{1,9}", name) else 0
        else:
            number = operator.index(column)
        if not 1 <= number <= len(self.all_names):
            what = f"no column {short(column)}; choose among {listed(self.all_names)}"
            if "-" in str(column) and isinstance(column, str):
                what += "; a range is one of numbers, as 1-4"
            raise self._error(what)
        return number

    def members(self) -> list[Table]:
        """Return the tables of one file each that this one is made of."""
        return [self]

    def split(self, most_rows: int) -> list[Table]:  # noqa: ARG002
        """Return tables of about so many rows, one after the other, that make up this one.

        Which rows a part has depends on the file and on `most_rows` alone. A file that can be read
        only from its beginning is one part.
        """
        return [self]

    def _part(self, **rows: Any) -> Table:
        """Return a table of some of the rows."""
        part = copy(self)
        vars(part).update(rows, _is_part=True)
        return part

    def error(self, row: int, what: str, numbers: Sequence[int]) -> TableError:
        """Return the error that says `what` is wrong in a row, from 0, of what was read."""
        for table in self.members():
            for values, places in table._finite_blocks():
                if row < len(values):
                    place = f"{table.unit} {places[row]}"
                    return table._error(what, place, table._columns(numbers))
                row -= len(values)
        raise IndexError(row)

    def _error(self, what: str, *place: str) -> TableError:
        return table_error(self.file, what, *place)

    def _columns(self, numbers: Sequence[int]) -> str:
        """Return how a message names columns."""
        return ", ".join(f"column {j} ({short(self.all_names[j - 1])})" for j in numbers)

    def blocks(self) -> Iterator[Block]:
        """Yield the rows in blocks, none empty, each row with its place in the file.

        Raises
        ------
        TableError
            At a fault, or after the last row, if every row was left out; a part of a table may have
            none.
        """
        n_rows = n_dropped = n_incomplete = 0
        for table in self.members():
            for block in table._finite_blocks():
                n_rows += len(block.values)
                yield block
            n_dropped += table.n_dropped
            n_incomplete += table.n_incomplete
        if not n_rows and not self._is_part:
            what = "every row has a missing value; fill them in, or choose other columns"
            raise self._error(what)
        self.n_dropped, self.n_incomplete = n_dropped, n_incomplete

    def _finite_blocks(self) -> Iterator[Block]:
        """Yield the rows of one file in blocks, none empty; TableError at a fault."""
        n_dropped = n_incomplete = 0
        with readable(self.file):
            for values, places in self._read([number - 1 for number in self.numbers]):
                finite = np.isfinite(values)
                if not finite.all():
                    bad = ~finite if self.missing == "error" else np.isinf(values)
                    if bad.any():
                        row, j = (int(i) for i in np.argwhere(bad)[0])
                        place, number = places[row], self.numbers[j]
                        what = self._fault(place, number, values[row, j])
                        raise self._error(what, f"{self.unit} {place}", self._columns([number]))
                    kept = np.flatnonzero(finite.all(axis=1))
                    if self.missing == "marginal":
                        n_incomplete += len(values) - len(kept)
                    else:
                        n_dropped += len(values) - len(kept)
                        values, places = values[kept], [places[int(i)] for i in kept]
                if len(values):
                    yield Block(values, places)
        self.n_dropped, self.n_incomplete = n_dropped, n_incomplete

    def cells(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row as it is written, all columns, with its place in the file."""
        for table in self.members():
            with readable(table.file):
                yield from table._cells()

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        """Yield float64 blocks [<= block_rows, D] of finite numbers; TableError at a fault.

        With missing="marginal" NaN is a missing value.
        """
        for block in self.blocks():
            yield block.values

    def read(self) -> NDArray[np.float64]:
        """Read it whole, float64 [N, D]."""
        return np.concatenate(list(self))

    # What a format has to say.

    def _read(self, picks: list[int]) -> Iterator[tuple[NDArray[np.float64], Sequence[int]]]:
        """Yield columns, from 0, in blocks [n, D], and places [n].

        NaN stands for a missing value, an infinite one for whatever else is no finite number.
        """
        raise NotImplementedError

    def _cells(self) -> Iterator[tuple[int, list[str]]]:
        raise NotImplementedError

    def _fault(self, place: int, number: int, value: Any) -> str:  # noqa: ARG002
        """Return what is wrong at a place, and what helps."""
        return not_finite(str(value), missing=bool(np.isnan(value)))

    def _text_columns(self) -> Sequence[int]:
        """Return the columns that hold text and no number."""
        return ()


def table_error(file: str, what: str, *place: str) -> TableError:
    """Return the error that says `what` is wrong at a place of the file."""
    return TableError(f"{', '.join((file if file.isprintable() else repr(file), *place))}: {what}")


def listed(names: Sequence[str]) -> str:
    """Return the first twenty names, each with its number."""
    shown = [f"{short(name)} ({j})" for j, name in enumerate(names[:20], start=1)]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def unique_names(names: Sequence[str]) -> list[str]:
    """Return the names, or numbers for lack of one, of which no two are equal.

    Of equal names the second and later get ``.1``, ``.2``, ... as in pandas.
    """
    unique: dict[str, None] = {}
    given = set(names)
    for j, name in enumerate(names, start=1):
        own, again = name or str(j), 0
        while own in unique or (own != name and own in given):
            again += 1
            own = f"{name or j}.{again}"
        unique[own] = None
    return list(unique)


@contextmanager
def readable(file: str) -> Iterator[None]:
    """Say what the system refuses, and what helps."""
    try:
        yield
    except FileNotFoundError:
        what = f"no such file; relative paths start from {Path.cwd()}"
        raise table_error(file, what) from None
    except PermissionError:
        raise table_error(file, "no permission to read it; change its mode or its owner") from None
    except OSError as error:
        what = f"cannot be read ({error.strerror}); try a local copy"
        raise table_error(file, what) from None
