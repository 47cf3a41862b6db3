"""Parquet files, by pyarrow: an extra."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from gmm_np.tables.blocks import Block, Cells, Source, column_name, finite_block
from gmm_np.tables.errors import File, listed, table_error


def open_parquet(file: File, *, drop: bool) -> Source:
    """Open a Parquet file; an index that pandas stored with it names the rows."""
    with _opened(file) as found:
        names = [str(name) for name in found.schema_arrow.names]
        stored = json.loads((found.schema_arrow.metadata or {}).get(b"pandas", b"{}"))
        n_rows = found.metadata.num_rows
        text = [j for j, kind in enumerate(found.schema_arrow.types) if _is_text(kind)]
    if not names or not n_rows:
        raise table_error(file, "is empty; write one row a sample")
    if len(set(names)) < len(names):
        raise table_error(file, f"has columns of one name, {listed(names)}; rename them")
    index = [name for name in stored.get("index_columns", []) if name in names]
    row_names = [j for j, name in enumerate(names) if name in index and len(index) < len(names)]
    return Source(
        names=names,
        named=True,
        row_names=row_names,
        unit="row",
        note="",
        first_line=[],
        blocks=partial(_blocks, file, names, drop),
        text_columns=lambda: text,
        cells=partial(_cells, file),
    )


def _is_text(kind: Any) -> bool:
    """Whether a column is of what a text file would hold as words."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        is_kind(kind)
        for is_kind in (
            *(types.is_string, types.is_large_string, types.is_date),
            *(types.is_time, types.is_timestamp),
        )
    )


def _cells(file: File) -> Cells:
    place = 0
    with _opened(file) as found:
        for batch in found.iter_batches():
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                place += 1
                yield place, ["" if value is None else str(value) for value in row]


def _blocks(
    file: File, names: list[str], drop: bool, picks: list[int], n_rows: int
) -> Iterator[Block]:
    """Yield the chosen columns in blocks [<= n_rows, D] of float64."""
    import pyarrow as pa
    from pyarrow import types

    columns = [column_name(names, j) for j in picks]
    chosen = [names[j] for j in picks]
    with _opened(file) as found:
        for name, column in zip(chosen, columns, strict=True):
            kind = found.schema_arrow.field(name).type
            if not any(
                is_kind(kind) for is_kind in (types.is_integer, types.is_floating, types.is_boolean)
            ) and not types.is_decimal(kind):
                what = f"holds {kind}, not numbers; choose other columns"
                raise table_error(file, what, column)
        first = 0
        for batch in found.iter_batches(n_rows, columns=chosen):
            parts = [
                batch.column(name).cast(pa.float64(), safe=False).to_numpy(False) for name in chosen
            ]
            values = np.column_stack(parts)
            yield finite_block(file, values, first, columns, drop=drop)
            first += len(values)


@contextmanager
def _opened(file: File) -> Iterator[Any]:
    """Open the file for pyarrow; TableError if that is missing, or finds no Parquet."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        what = "Parquet needs pyarrow, which is not installed: pip install pyarrow"
        raise table_error(file, what) from None
    with file.path.open("rb") as stream:
        try:
            yield parquet.ParquetFile(stream)
        except (ArrowException, OSError) as error:
            what = (
                f"is damaged, or not a Parquet file ({str(error).splitlines()[0]}); write it anew"
            )
            raise table_error(file, what) from None
