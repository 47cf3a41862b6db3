"""Parquet files, by pyarrow: an extra."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gmm_np.tables.blocks import Block, Source, column_name, finite_block
from gmm_np.tables.errors import listed, table_error


def open_parquet(file: Path, *, drop: bool) -> Source:
    """Open a Parquet file; an index that pandas stored with it names the rows."""
    with _opened(file) as found:
        names = [str(name) for name in found.schema_arrow.names]
        stored = json.loads((found.schema_arrow.metadata or {}).get(b"pandas", b"{}"))
        n_rows = found.metadata.num_rows
    if not names or not n_rows:
        raise table_error(file, "is empty; write one row a sample")
    if len(set(names)) < len(names):
        raise table_error(file, f"has columns of one name, {listed(names)}; rename them")
    index = [name for name in stored.get("index_columns", []) if name in names]
    row_names = [j for j, name in enumerate(names) if name in index and len(index) < len(names)]
    return Source(names, True, row_names, "row", "", [], partial(_blocks, file, names, drop))


def _blocks(
    file: Path, names: list[str], drop: bool, picks: list[int], n_rows: int
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
def _opened(file: Path) -> Iterator[Any]:
    """Open the file for pyarrow; TableError if that is missing, or finds no Parquet."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        what = 'Parquet needs pyarrow, which is not installed: pip install "gmm_np[parquet]"'
        raise table_error(file, what) from None
    with file.open("rb") as stream:
        try:
            yield parquet.ParquetFile(stream)
        except (ArrowException, OSError) as error:
            what = (
                f"is damaged, or not a Parquet file ({str(error).splitlines()[0]}); write it anew"
            )
            raise table_error(file, what) from None
