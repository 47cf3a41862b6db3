"""Several files that are one table: all have the columns of the first, in its order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmm_np.tables.cells import short
from gmm_np.tables.table import Table, TableError, table_error


class SeveralTables(Table):
    """Tables of the same columns, one after the other; places are counted in each file."""

    def __init__(self, tables: Sequence[Table], file: str) -> None:
        first = tables[0]
        for table in tables[1:]:
            _check_same_columns(first, table)
        vars(self).update(vars(first) | {"file": file, "n_dropped": 0, "n_incomplete": 0})
        self.unit, self.delimiter, self.decimal = first.unit, first.delimiter, first.decimal
        self._tables = tables

    def members(self) -> list[Table]:
        """Return the tables, with the columns that are chosen here."""
        return [table._part(numbers=self.numbers) for table in self._tables]

    def split(self, most_rows: int) -> list[Table]:
        """Return tables of about so many rows, one after the other: parts of one file each."""
        return [part for table in self.members() for part in table.split(most_rows)]

    def _read(self, picks: list[int]) -> Iterator[tuple[NDArray[np.float64], Sequence[int]]]:
        raise NotImplementedError  # each file reads itself

    def _text_columns(self) -> Sequence[int]:
        return self._tables[0]._text_columns()


def find_files(names: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the files that names and patterns stand for, those of a pattern in order.

    A pattern has ``*``, ``?`` or ``[...]``, and ``**`` for any directories; a file of just that
    name comes first.

    Raises
    ------
    TableError
        If nothing matches a pattern, or a file is there twice.
    """
    found: list[Path] = []
    for name in map(str, names):
        matches = [name]
        if glob.has_magic(name) and not Path(name).exists():
            # Path.glob takes no absolute pattern.
            matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207
            matches = [path for path in matches if Path(path).is_file()]
            if not matches:
                what = f"no file has a name like this; relative paths start from {Path.cwd()}"
                raise table_error(name, what)
        found += map(Path, matches)
    seen: set[str] = set()
    for path in found:
        real = os.path.realpath(path)
        if real in seen:
            raise table_error(str(path), "is there twice; name each file once")
        seen.add(real)
    return found


def open_tables(
    paths: Sequence[str | os.PathLike[str]], *, name: str = "", **options: Any
) -> Table:
    """Open several files as one table.

    Parameters
    ----------
    paths : sequence of str or path-like
        At least one.
    name : str
        What messages call them together.
    **options
        Of `open_table`. Where none says whether there is a header, that of the first file does.

    Returns
    -------
    Table
        Whose `members` are the files, and whose blocks come file by file.

    Raises
    ------
    TableError
        As `open_table`, or if a file has other columns than the first; the message names it.
    ValueError
        If there is no path.
    """
    from gmm_np.tables import open_table

    if not paths:
        raise ValueError("paths must hold at least one file; got none.")
    first = open_table(paths[0], **options)
    if len(paths) == 1:
        return first
    if first.named and first.unit == "line" and options.get("header") is None:
        options["header"] = True
    others = [open_table(path, **options) for path in paths[1:]]
    return SeveralTables([first, *others], name or f"{first.file} and {len(others)} more")


def _check_same_columns(first: Table, other: Table) -> None:
    """Raise TableError, with the file's name, unless it has the columns of the first."""
    remedy = "all files need the same columns, in the same order"
    if len(other.all_names) != len(first.all_names):
        what = f"has {len(other.all_names)} columns where {first.file} has {len(first.all_names)}"
    elif other.named != first.named:
        have, lack = ("has", "none") if other.named else ("lacks", "them")
        what = f"{have} names for its columns where {first.file} has {lack}"
    else:
        pairs = enumerate(zip(first.all_names, other.all_names, strict=True), start=1)
        j, names = next(((j, pair) for j, pair in pairs if pair[0] != pair[1]), (0, ("", "")))
        if not j:
            return
        what = f"column {j} is {short(names[1])} where that of {first.file} is {short(names[0])}"
    raise TableError(str(table_error(other.file, f"{what}; {remedy}")))
