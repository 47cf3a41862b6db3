"""Tables to files, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmm_np.files import atomic_write
from gmm_np.tables.errors import table_error


def write_table(
    path: str | os.PathLike[str],
    values: NDArray[np.float64],
    names: Sequence[str],
    *,
    whole: Sequence[int] = (),
) -> None:
    """Write a table [N, D] that `read_table` reads to the last bit.

    Parameters
    ----------
    path : str or path-like
        With the suffix .csv (a header and a row a line), .npy or .npz (an array ``x``).
    values : ndarray, shape [N, D]
    names : sequence of str, length D
    whole : sequence of int
        Columns, from 0, that text writes as whole numbers.

    Raises
    ------
    TableError
        If the suffix is another.
    OSError
        If the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".csv", ".npy", ".npz"):
        raise table_error(Path(path), "a table is written as .csv, .npy or .npz; name it so")
    with atomic_write(path) as stream:
        if suffix == ".npy":
            np.save(stream, values)
        elif suffix == ".npz":
            np.savez(stream, x=values)
        else:
            stream.writelines(line.encode() for line in csv_lines(values, names, whole=whole))


def text_line(cells: Sequence[str], delimiter: str = ",") -> str:
    """Return a line of cells, in quotes where they would be read as something else."""
    special = {delimiter, '"', "\n", "\r", "#"} | ({";", "\t"} if delimiter == "," else set())
    return (
        delimiter.join(
            '"' + cell.replace('"', '""') + '"' if special & set(cell) else cell for cell in cells
        )
        + "\n"
    )


def csv_lines(
    values: NDArray[np.float64], names: Sequence[str], *, whole: Sequence[int] = ()
) -> Iterator[str]:
    """Yield a header and the rows, each number as short as it can be read back exactly."""
    yield text_line(names)
    for row in values:
        cells = row.tolist()
        for j in whole:
            cells[j] = int(cells[j])
        yield ",".join(map(repr, cells)) + "\n"
