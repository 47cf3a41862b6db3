"""Tables of numbers from files: text, NumPy's arrays, Parquet; whole, or block by block.

Lines, rows and columns are counted from 1. Letters in shapes: N rows, D columns.
"""

from __future__ import annotations

import codecs
import operator
import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmm_np.tables.arrays import open_array
from gmm_np.tables.blocks import Block, Source, column_name
from gmm_np.tables.cells import read_range
from gmm_np.tables.errors import File, TableError, listed, short, table_error
from gmm_np.tables.numbers import text_blocks, text_cells, text_columns
from gmm_np.tables.parquet import open_parquet
from gmm_np.tables.text import Text, find_layout
from gmm_np.tables.writing import write_table

__all__ = ["Table", "TableError", "open_table", "read_table", "unique_names", "write_table"]


class Table:
    """A file of numbers; iterating over it reads it, as often as one likes, in blocks.

    Made by `open_table`. Memory is bounded by a block, but for a `.npz` file, which is unpacked
    whole.

    Attributes
    ----------
    numbers : list of int, length D
        Number, from 1, of each chosen column in the file.
    names : list of str, length D
        Of these columns. No two are equal.
    block_rows : int
        Rows of a block at most.
    named : bool
        Whether the file names its columns.
    unit : str
        What places count: "line" or "row".
    first_line : list of str
        Cells of the first line of a text, whether they are names or numbers.
    n_dropped : int
        Rows with a missing value that the last complete reading left out.
    """

    def __init__(
        self, file: File, source: Source, block_rows: int, numbers: Sequence[int] | None = None
    ) -> None:
        self.file = file
        self.block_rows = block_rows
        self.named = source.named
        self.unit = source.unit
        self.first_line = source.first_line
        self.n_dropped = 0
        self._source = source
        self._all_names = unique_names(source.names)
        every = range(1, len(source.names) + 1)
        self._left_out: list[int] = []  # columns of text, from 1
        self._leaves_out_row_names = numbers is None and bool(source.row_names)
        self.numbers = (
            [number for number in every if number - 1 not in source.row_names]
            if numbers is None
            else list(numbers)
        )

    @property
    def names(self) -> list[str]:  # noqa: D102
        return [self._all_names[number - 1] for number in self.numbers]

    @property
    def delimiter(self) -> str:
        """The character between cells: a blank for white space, a comma where there is none."""
        return self._source.delimiter

    @property
    def decimal(self) -> str:
        """The decimal mark."""
        return self._source.decimal

    @property
    def header(self) -> list[str]:
        """Names of all columns as the file has them, "" for none; empty where it names none."""
        return list(self._source.names) if self.named else []

    @property
    def all_names(self) -> list[str]:
        """Names of all columns of the file, chosen or not. No two are equal."""
        return list(self._all_names)

    @property
    def notes(self) -> list[str]:
        """What was guessed of the file, a line each: for the user to see."""
        notes = [self._source.note] if self._source.note else []
        if self._leaves_out_row_names:
            found = [str(j + 1) for j in self._source.row_names]
            which, them = f"column {found[0]} is", "it"
            if len(found) > 1:
                which, them = f"columns {', '.join(found)} are", "them"
            every = f"--columns 1-{len(self.all_names)}"
            notes.append(f"{which} taken for names of the rows and left out; {every} keeps {them}")
        if self._left_out:
            columns = ", ".join(column_name(self._all_names, j - 1) for j in self._left_out)
            verb, are = ("hold", "are") if len(self._left_out) > 1 else ("holds", "is")
            notes.append(f"{columns} {verb} text and {are} left out")
        return [f"{self.file}: {note}" for note in notes]

    def without_text(self) -> Table:
        """Return the same table without the columns that hold text and no number, if any is left.

        Its notes name them.
        """
        text = {j + 1 for j in self._source.text_columns()} & set(self.numbers)
        if not text or len(text) == len(self.numbers):
            return self
        table = self.without(text)
        table._left_out = sorted(text)
        return table

    def without(self, numbers: Collection[int]) -> Table:
        """Return the same table without some of its columns, by their numbers from 1."""
        kept = [number for number in self.numbers if number not in numbers]
        table = Table(self.file, self._source, self.block_rows, kept)
        table._leaves_out_row_names = self._leaves_out_row_names
        return table

    def choose(self, columns: Sequence[str | int]) -> Table:
        """Return the same table with other columns, in this order.

        By name, by number from 1, or in a range of numbers such as "1-4".
        """
        wanted = [columns] if isinstance(columns, str) else list(columns)
        if not wanted:
            what = "no column is chosen (--columns); name one, or leave the choice out"
            raise table_error(self.file, what)
        numbers = [number for column in wanted for number in self._numbers_of(column)]
        number, times = Counter(numbers).most_common(1)[0]
        if times > 1:
            what = f"is chosen {times} times; choose it once"
            raise table_error(self.file, what, column_name(self._all_names, number - 1))
        return Table(self.file, self._source, self.block_rows, numbers)

    def _numbers_of(self, column: str | int) -> Sequence[int]:
        """Return the number of a column, or those of a range; TableError if there are none."""
        chosen = read_range(column) if isinstance(column, str) else None
        if chosen is None:
            return [self.number(column)]
        n_columns = len(self._all_names)
        is_range = 1 <= chosen.start < chosen.stop <= n_columns + 1
        name = str(column).strip()
        if name in self._all_names:
            if not is_range:
                return [self.number(column)]
            number = self._all_names.index(name) + 1
            what = f"{short(name)} is a range of columns, and the name of column {number}"
            remedy = f"write {number} for this column, or the numbers of the range one by one"
            raise table_error(self.file, f"{what}; {remedy}")
        if not is_range:
            what = f"no columns {name}; a range goes up, within 1-{n_columns}"
            raise table_error(self.file, f"{what}: {listed(self._all_names)}")
        return chosen

    def number(self, column: str | int) -> int:
        """Return the number, from 1, of a column of the file; TableError if there is none."""
        names = self._all_names
        if isinstance(column, str):
            name = column.strip()
            if (n_same := self._source.names.count(name)) > 1:
                what = f"{n_same} columns are named {short(name)}; use the number from 1"
                raise table_error(self.file, what)
            if name in names:
                return names.index(name) + 1
            number = int(name) if re.fullmatch("[0-9]{1,9}", name) else 0
        else:
            number = operator.index(column)
        if not 1 <= number <= len(names):
            what = f"no column {short(column)}; choose among {listed(names)}"
            if isinstance(column, str) and "-" in column:
                what += "; a range is one of numbers, as 1-4"
            raise table_error(self.file, what)
        return number

    def error(self, row: int, what: str, numbers: Sequence[int]) -> TableError:
        """Return the error that says `what` is wrong in a row, from 0, and columns, from 1."""
        columns = ", ".join(column_name(self._all_names, number - 1) for number in numbers)
        for block in self.blocks():
            if row < len(block.places):
                return table_error(self.file, what, f"{self.unit} {block.places[row]}", columns)
            row -= len(block.places)
        raise IndexError(row)

    def blocks(self) -> Iterator[Block]:
        """Yield the rows in blocks, none empty, each row with its place in the file."""
        n_rows = n_dropped = 0
        with _readable(self.file):
            for block in self._source.blocks([n - 1 for n in self.numbers], self.block_rows):
                n_rows += len(block.values)
                n_dropped += block.n_dropped
                if len(block.values):
                    yield block
        if not n_rows:
            what = "every row has a missing value; fill them in, or choose other columns"
            raise table_error(self.file, what)
        self.n_dropped = n_dropped

    def cells(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row as it is written, all columns, with its place in the file."""
        with _readable(self.file):
            yield from self._source.cells()

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        """Yield float64 blocks [<= block_rows, D] of finite numbers; TableError at a fault."""
        for block in self.blocks():
            yield block.values

    def read(self) -> NDArray[np.float64]:
        """Read it whole, float64 [N, D]."""
        return np.concatenate(list(self))


def open_table(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str | int] | None = None,
    missing: str = "error",
    key: str | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    decimal: str | None = None,
    encoding: str = "utf-8",
    skip_lines: int | Collection[int] = 0,
    block_rows: int = 8192,
    name: str = "",
) -> Table:
    """Open a table of finite numbers in a text file, a `.npy`, `.npz` or `.parquet` file.

    Parameters
    ----------
    path : str or path-like
        A `.npy` or `.npz` file must hold a numeric array [N, D]. `.parquet` needs pyarrow. Any
        other file is text, perhaps compressed by gzip, bzip2 or xz: blank lines and lines that
        start with ``#`` are skipped, and cells may be in double quotes.
    columns : sequence of str or int, optional
        Columns to read, in this order, by name, by number from 1, or in a range as ``"1-4"``; by
        default all, but for those that only name the rows: in text the first, where it is the
        only one without a name, or where the header leaves it out and it counts the rows or holds
        words; in Parquet the index that pandas stored. An int is always a number; a str is a name
        first. Columns left out may hold anything.
    missing : str
        What becomes of rows in which a chosen column has no value: "error", or "drop" to leave
        them out. Empty cells, NaN, and the usual marks (NA, ?, -, #N/A, n.d., <0.1, ...) say so.
    key : str, optional
        Which array of a `.npz` file; by default the only one, or the one named ``x``.
    delimiter : str, optional
        The character between cells, ``" "`` for any run of white space. By default semicolon,
        tab, comma or white space, whichever the first lines agree on.
    header : bool, optional
        Whether the first line of a text names the columns. By default it does if more cells of it
        are words than numbers, marks of missing values apart.
    decimal : str, optional
        The decimal mark, ``"."`` or ``","``, of numbers whose thousands may be separated: by the
        other of these, a space or an apostrophe. By default a point, and no separators.
    encoding : str
        Of a text.
    skip_lines : int or collection of int
        How many lines to skip at the beginning of a text, or the numbers, from 1, of those to skip.
    block_rows : int
        Rows of a block.
    name : str
        What messages call the file; by default its path.

    Returns
    -------
    Table
        With ``names`` from the header, a column without a name by its number from 1. Of equal
        names the second and later get ``.1``, ``.2``, ... as in pandas.

    Raises
    ------
    TableError
        If the file cannot be read, or its beginning is not that of a table; reading the blocks
        raises it where they are not finite numbers.
    ValueError
        If `missing`, `decimal` or `block_rows` is none of the above.
    """
    file = File(Path(path), name)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"#\r\n'):
        raise table_error(
            file, f"{delimiter!r} cannot separate cells (--delimiter); name one character"
        )
    if block_rows < 1:
        raise ValueError(f"block_rows must be at least 1; got {block_rows}.")
    if missing not in ("error", "drop"):
        raise ValueError(f"missing must be 'error' or 'drop'; got {missing!r}.")
    if decimal not in (None, ".", ","):
        raise ValueError(f"decimal must be '.' or ','; got {decimal!r}.")
    try:
        utf8 = codecs.lookup(encoding).name == "utf-8"
        "".encode(encoding)
    except LookupError:
        what = f"no encoding is named {encoding!r} (--encoding); utf-8, utf-16 and cp1252 are some"
        raise table_error(file, what) from None
    drop = missing == "drop"
    suffix = file.path.suffix.lower()
    if key is not None and suffix != ".npz":
        raise table_error(file, "only an .npz file has arrays to choose from; leave out --key")
    if skip_lines and suffix in (".npy", ".npz", ".parquet"):
        raise table_error(file, "only a text has lines to skip; leave out --skip-lines")
    with _readable(file):
        mode = file.path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise table_error(file, "is a directory; name a file in it")
        if not stat.S_ISREG(mode):  # a pipe cannot be read a second time
            raise table_error(
                file, "is not a regular file; write the data to a file, or pipe them to DATA -"
            )
        if suffix in (".npy", ".npz"):
            source = open_array(file, key, drop=drop)
        elif suffix == ".parquet":
            source = open_parquet(file, drop=drop)
        else:
            skipped = range(1, skip_lines + 1) if isinstance(skip_lines, int) else skip_lines
            text = Text(file, "utf-8-sig" if utf8 else encoding, skipped)
            layout = find_layout(text, delimiter, header, decimal)
            blocks = partial(text_blocks, layout, drop)
            source = Source(
                names=layout.names,
                named=layout.named,
                row_names=list(range(layout.row_names)),
                unit="line",
                note=layout.note,
                first_line=layout.first_line,
                blocks=blocks,
                text_columns=partial(text_columns, layout),
                cells=partial(text_cells, layout),
                delimiter=layout.delimiter or " ",
                decimal=layout.decimal or ".",
            )
    table = Table(file, source, block_rows)
    return table if columns is None else table.choose(columns)


def read_table(
    path: str | os.PathLike[str], **options: Any
) -> tuple[NDArray[np.float64], list[str]]:
    """Read a table of finite numbers whole; the options are those of `open_table`.

    Returns
    -------
    values : ndarray of float64, shape [N, D]
        Each number to the last bit.
    names : list of str, length D

    Raises
    ------
    TableError
        If the file cannot be read, or is not a table of finite numbers.
    """
    table = open_table(path, **options)
    return table.read(), table.names


def unique_names(names: Sequence[str]) -> list[str]:
    """Return the names, or numbers from 1 for lack of one, of which no two are equal.

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
def _readable(file: File) -> Iterator[None]:
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
