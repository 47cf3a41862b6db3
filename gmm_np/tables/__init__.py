"""Tables of numbers from files: text, NumPy's arrays, Parquet; whole, or block by block."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmm_np.tables.arrays import ArrayTable, ParquetTable
from gmm_np.tables.several import find_files, open_tables
from gmm_np.tables.table import Table, TableError, readable, table_error, unique_names
from gmm_np.tables.text import TextTable
from gmm_np.tables.writing import write_table

__all__ = [
    "Table",
    "TableError",
    "find_files",
    "open_table",
    "open_tables",
    "read_table",
    "unique_names",
    "write_table",
]


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
    """Open a table of finite numbers in a text, a `.npy`, `.npz` or `.parquet` file.

    Parameters
    ----------
    path : str or path-like
        Any other file than those is text, perhaps compressed: blank lines and lines that start
        with ``#`` are skipped, and cells may be in double quotes.
    columns : sequence of str or int, optional
        As for `Table.choose`; by default all but those that only name the rows: in text the first,
        where it is the only one without a name, or the header leaves it out and it counts the rows
        or holds words; in Parquet the index that pandas stored. Others may hold anything.
    missing : str
        Of rows in which a chosen column has no value, that is an empty cell, NaN, or a usual mark
        (NA, ?, -, #N/A, n.d., <0.1, ...): "error", "drop" to leave them out, or "marginal" to have
        NaN there.
    key : str, optional
        Which array of a `.npz` file; by default the only one, or the one named ``x``.
    delimiter : str, optional
        Between cells, ``" "`` for any run of white space. By default semicolon, tab, comma or
        white space, whichever the first lines agree on.
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

    Raises
    ------
    TableError
        If the file cannot be read, or its beginning is not that of a table; reading the blocks
        raises it where they are not finite numbers.
    ValueError
        If `missing`, `decimal` or `block_rows` is none of the above.
    """
    source, file = Path(path), name or str(path)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"#\r\n'):
        what = f"{delimiter!r} cannot separate cells (--delimiter); name one character"
        raise table_error(file, what)
    if block_rows < 1:
        raise ValueError(f"block_rows must be at least 1; got {block_rows}.")
    if missing not in ("error", "drop", "marginal"):
        raise ValueError(f"missing must be 'error', 'drop' or 'marginal'; got {missing!r}.")
    if decimal not in (None, ".", ","):
        raise ValueError(f"decimal must be '.' or ','; got {decimal!r}.")
    try:
        utf8 = codecs.lookup(encoding).name == "utf-8"
        "".encode(encoding)
    except LookupError:
        what = f"no encoding is named {encoding!r} (--encoding); utf-8, utf-16 and cp1252 are some"
        raise table_error(file, what) from None
    suffix = source.suffix.lower()
    if key is not None and suffix != ".npz":
        raise table_error(file, "only an .npz file has arrays to choose from; leave out --key")
    if skip_lines and suffix in (".npy", ".npz", ".parquet"):
        raise table_error(file, "only a text has lines to skip; leave out --skip-lines")
    options: dict[str, Any] = {"missing": missing, "block_rows": block_rows}
    with readable(file):
        mode = source.stat().st_mode
        if stat.S_ISDIR(mode):
            raise table_error(file, "is a directory; name a file in it")
        if not stat.S_ISREG(mode):  # a pipe cannot be read a second time
            what = "is not a regular file; write the data to a file, or pipe them to DATA -"
            raise table_error(file, what)
        table: Table
        if suffix in (".npy", ".npz"):
            table = ArrayTable(source, file, key=key, **options)
        elif suffix == ".parquet":
            table = ParquetTable(source, file, **options)
        else:
            table = TextTable(
                source,
                file,
                delimiter=delimiter,
                header=header,
                decimal=decimal,
                encoding="utf-8-sig" if utf8 else encoding,
                skip_lines=range(1, skip_lines + 1) if isinstance(skip_lines, int) else skip_lines,
                **options,
            )
    return table if columns is None else table.choose(columns)


def read_table(
    path: str | os.PathLike[str], **options: Any
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the numbers [N, D] and names of a whole table; the options are of `open_table`."""
    table = open_table(path, **options)
    return table.read(), table.names
