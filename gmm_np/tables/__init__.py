"""Tables of numbers from files: CSV and its kin, `.npy` and `.npz`; whole, or block by block.

Lines, rows and columns are counted from 1. Letters in shapes: N rows, D columns.
"""

from __future__ import annotations

import operator
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmm_np.tables.arrays import array_blocks, load_array
from gmm_np.tables.errors import TableError, listed, short, table_error
from gmm_np.tables.numbers import text_blocks
from gmm_np.tables.text import find_layout, line_name
from gmm_np.tables.writing import write_table

__all__ = ["Table", "TableError", "open_table", "read_table", "write_table"]

Blocks = Callable[[list[int], int], Iterator[NDArray[np.float64]]]


class Table:
    """A file of numbers; iterating over it reads it, as often as one likes, in blocks.

    Made by `open_table`. Memory is bounded by a block, but for a `.npz` file, which is unpacked
    whole.

    Attributes
    ----------
    names : list of str, length D
        Of the chosen columns, in their order.
    block_rows : int
        Rows of a block; the last has what is left.
    """

    def __init__(
        self,
        file: Path,
        all_names: list[str],
        blocks: Blocks,
        place: Callable[[int], str],
        block_rows: int,
    ) -> None:
        self.file = file
        self.block_rows = block_rows
        self._all_names = all_names
        self._blocks = blocks
        self._place = place
        self._picks = list(range(len(all_names)))

    @property
    def names(self) -> list[str]:  # noqa: D102
        return [self._all_names[j] for j in self._picks]

    @property
    def numbers(self) -> list[int]:
        """Number, from 1, of each of these columns in the file."""
        return [j + 1 for j in self._picks]

    def choose(self, columns: Sequence[str | int]) -> Table:
        """Return the same table with other columns, by name or by number from 1, in this order."""
        wanted = [columns] if isinstance(columns, str) else list(columns)
        if not wanted:
            what = "columns is an empty list; name a column, or leave columns out"
            raise table_error(self.file, what)
        table = Table(self.file, self._all_names, self._blocks, self._place, self.block_rows)
        table._picks = [self.number(column) - 1 for column in wanted]
        return table

    def number(self, column: str | int) -> int:
        """Return the number, from 1, of a column of the file; TableError if there is none."""
        names = self._all_names
        if isinstance(column, str):
            same = [j for j, name in enumerate(names, start=1) if name == column.strip()]
            if len(same) == 1:
                return same[0]
            if same:
                what = f"{len(same)} columns are named {short(column)}; use the number from 1"
                raise table_error(self.file, what)
            number = int(column) if re.fullmatch(r"\s*[0-9]{1,9}\s*", column) else 0
        else:
            number = operator.index(column)
        if not 1 <= number <= len(names):
            what = f"no column {short(column)}; choose among {listed(names)}"
            raise table_error(self.file, what)
        return number

    def error(self, row: int, what: str) -> TableError:
        """Return the error that says `what` is wrong in a row, from 0; it names the line."""
        with _readable(self.file):
            columns = ", ".join(
                f"column {j + 1} ({short(self._all_names[j])})" for j in self._picks
            )
            return table_error(self.file, what, self._place(row), columns)

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        """Yield float64 blocks [<= block_rows, D] of finite numbers; TableError at a fault."""
        with _readable(self.file):
            yield from self._blocks(self._picks, self.block_rows)

    def read(self) -> NDArray[np.float64]:
        """Read it whole, float64 [N, D]."""
        return np.concatenate(list(self))


def open_table(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str | int] | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    block_rows: int = 8192,
) -> Table:
    """Open a table of finite numbers in a text file, a `.npy` or a `.npz` file.

    Parameters
    ----------
    path : str or path-like
        A `.npy` file must hold a numeric array [N, D]; a `.npz` file exactly one, or one named
        ``x``. Any other file is UTF-8 text: blank lines and lines that start with ``#`` are
        skipped, and cells may be in double quotes.
    columns : sequence of str or int, optional
        Columns to read, in this order, by name or by number from 1; all by default. An int is
        always a number; a str is a name first. Columns left out may hold anything.
    delimiter : str, optional
        The character between cells, ``" "`` for any run of white space. By default semicolon,
        tab, comma or white space, whichever the first lines agree on.
    header : bool, optional
        Whether the first line of a text names the columns. By default it does if any cell of it
        is not a number (so that a table with a column of words needs a header).
    block_rows : int
        Rows of a block.

    Returns
    -------
    Table
        With ``names`` from the header; without one ``"1"``, ``"2"``, ... by the columns' place in
        the file.

    Raises
    ------
    TableError
        If the file cannot be read, or its beginning is not that of a table; reading the blocks
        raises it where they are not finite numbers.
    """
    file = Path(path)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"#\r\n'):
        raise table_error(
            file, f"delimiter={delimiter!r} cannot separate cells; name one character"
        )
    if block_rows < 1:
        raise ValueError(f"block_rows must be at least 1; got {block_rows}.")
    with _readable(file):
        mode = file.stat().st_mode
        if stat.S_ISDIR(mode):
            raise table_error(file, "is a directory; name a file in it")
        if not stat.S_ISREG(mode):  # a pipe cannot be read a second time
            raise table_error(file, "is not a regular file; write the data to a file first")
        blocks: Blocks
        place: Callable[[int], str]
        if file.suffix.lower() in (".npy", ".npz"):
            found = load_array(file)
            names = [str(j) for j in range(1, found.shape[1] + 1)]
            blocks, place = partial(array_blocks, file, found), _row_name
        else:
            layout = find_layout(file, delimiter, header)
            names = layout.names
            blocks, place = partial(text_blocks, layout), partial(line_name, layout)
    table = Table(file, names, blocks, place, block_rows)
    return table if columns is None else table.choose(columns)


def read_table(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str | int] | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
) -> tuple[NDArray[np.float64], list[str]]:
    """Read a table of finite numbers whole; the parameters are those of `open_table`.

    Returns
    -------
    values : ndarray of float64, shape [N, D]
        Each number exactly as ``float`` reads it.
    names : list of str, length D

    Raises
    ------
    TableError
        If the file cannot be read, or is not a table of finite numbers.
    """
    table = open_table(path, columns=columns, delimiter=delimiter, header=header)
    return table.read(), table.names


def _row_name(row: int) -> str:
    return f"row {row + 1}"


@contextmanager
def _readable(file: Path) -> Iterator[None]:
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
