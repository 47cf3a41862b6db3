"""Tables to files, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmm_np.files import atomic_write
from gmm_np.tables.table import table_error

SUFFIXES = (".csv", ".npy", ".npz")


def write_table(
    path: str | os.PathLike[str],
    values: NDArray[np.float64],
    names: Sequence[str],
    *,
    whole: Sequence[int] = (),
) -> None:
    """Write a table [N, D] that `read_table` reads to the last bit.

    The suffix says how: .csv, a header and a row a line in which the columns `whole`, from 0, are
    whole numbers; .npy, or .npz with an array ``x``. TableError if it is another, OSError if the
    file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise table_error(str(path), "a table is written as .csv, .npy or .npz; name it so")
    with atomic_write(path) as stream:
        if suffix == ".npy":
            np.save(stream, values)
        elif suffix == ".npz":
            np.savez(stream, x=values)
        else:
            stream.writelines(line.encode() for line in csv_lines([values], names, whole=whole))


def text_line(cells: Sequence[str], delimiter: str = ",") -> str:
    """Return a line of cells, in quotes where they would be read as something else."""
    special = {delimiter, '"', "\n", "\r", "#"} | ({";", "\t"} if delimiter == "," else set())
    quoted = ('"' + c.replace('"', '""') + '"' if special & set(c) else c for c in cells)
    return delimiter.join(quoted) + "\n"


def csv_lines(
    blocks: Iterable[NDArray[np.float64]], names: Sequence[str], *, whole: Sequence[int] = ()
) -> Iterator[str]:
    """Yield a header and all rows, each number as short as it can be read back exactly."""
    yield text_line(names)
    for row in chain.from_iterable(blocks):
        cells = row.tolist()
        for j in whole:
            cells[j] = int(cells[j])
        yield ",".join(map(repr, cells)) + "\n"
