"""Arrays in `.npy` and `.npz` files: never a pickle, for it could run code."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmm_np.tables.blocks import Block, Cells, Source, finite_block
from gmm_np.tables.errors import File, listed, short, table_error


def open_array(file: File, key: str | None, *, drop: bool) -> Source:
    """Open the table [N, D] that a NumPy file holds; that of a `.npy` file stays on disk."""
    found = _load(file, key)
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub":
        kind = f"dtype {found.dtype}" if isinstance(found, np.ndarray) else type(found).__name__
        raise table_error(file, f"holds no array of real numbers, got {kind}; save floats")
    if found.ndim != 2:
        remedy = "array.reshape(-1, 1)" if found.ndim == 1 else "one row a sample"
        what = f"must have two axes [N, D], got shape {found.shape}; save {remedy}"
        raise table_error(file, what)
    if found.size == 0:
        raise table_error(file, f"is empty, got shape {found.shape}; save one row a sample")
    blocks = partial(_blocks, file, found, drop)
    return Source(
        names=[""] * found.shape[1],
        named=False,
        row_names=[],
        unit="row",
        note="",
        first_line=[],
        blocks=blocks,
        text_columns=list,
        cells=partial(_cells, found),
    )


def _cells(table: NDArray[Any]) -> Cells:
    for place, row in enumerate(table, start=1):
        yield place, [str(value) for value in row.tolist()]


def _blocks(
    file: File, table: NDArray[Any], drop: bool, picks: list[int], n_rows: int
) -> Iterator[Block]:
    """Yield the chosen columns in blocks [<= n_rows, D] of float64, each of its own memory."""
    columns = [f"column {j + 1}" for j in picks]
    for start in range(0, len(table), n_rows):
        with np.errstate(over="ignore"):  # a long double beyond float64 is refused just below
            values = np.array(table[start : start + n_rows, picks], np.float64, order="C")
        yield finite_block(file, values, start, columns, drop=drop)


def _load(file: File, key: str | None) -> Any:
    if file.path.suffix.lower() == ".npy":
        try:
            return np.load(file.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError):  # cannot be mapped: an empty array, objects, damage
            pass
    with file.path.open("rb") as stream:
        try:
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            held = found.files
            if key is None and (len(held) == 1 or "x" in held):
                key = "x" if "x" in held else held[0]
            if key in held:
                return found[key]
        except Exception as error:  # what a damaged file raises has no one class
            what = "is damaged, or not a NumPy file; save it again with np.save or np.savez"
            if "Object arrays" in str(error):
                what = "holds a pickled object array, which is not safe to load; save floats"
            raise table_error(file, what) from None
    if key is not None:
        what = f"no array {short(key)} (--key); choose among {listed(held) or 'none'}"
        raise table_error(file, what)
    what = f"must hold one array, or one named 'x', got {len(held)}: {listed(held) or 'none'}"
    raise table_error(file, f"{what}; save one{', or choose one with --key' if held else ''}")
