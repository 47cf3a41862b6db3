"""Tables in NumPy's files, never a pickle, for it could run code; and in Parquet, by pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmm_np.tables.cells import short
from gmm_np.tables.table import Table, listed, readable


class ArrayTable(Table):
    """The array [N, D] of a `.npy` or `.npz` file; that of a `.npy` file stays on disk."""

    def __init__(self, *file: Any, key: str | None, **options: Any) -> None:
        super().__init__(*file, **options)
        self._key = key
        found = self._held = self._load(key)
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub":
            kind = f"dtype {found.dtype}" if isinstance(found, np.ndarray) else type(found).__name__
            raise self._error(f"holds no array of real numbers, got {kind}; save floats")
        if found.ndim != 2:
            remedy = "array.reshape(-1, 1)" if found.ndim == 1 else "one row a sample"
            what = f"must have two axes [N, D], got shape {found.shape}; save {remedy}"
            raise self._error(what)
        if found.size == 0:
            raise self._error(f"is empty, got shape {found.shape}; save one row a sample")
        self._set_columns([""] * found.shape[1], named=False)
        self._rows = range(len(found))

    def split(self, most_rows: int) -> list[Table]:
        """Return tables of so many rows each."""
        first, last = self._rows.start, self._rows.stop
        starts = range(first, last, most_rows)
        return [self._part(_rows=range(i, min(i + most_rows, last))) for i in starts]

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the numbers: elsewhere the file is read anew."""
        return {name: value for name, value in vars(self).items() if name != "_held"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        with readable(self.file):
            self._held = self._load(self._key)

    def _load(self, key: str | None) -> Any:
        if self.path.suffix.lower() == ".npy":
            try:
                return np.load(self.path, mmap_mode="r", allow_pickle=False)
            except (ValueError, EOFError):  # cannot be mapped: an empty array, objects, damage
                pass
        with self.path.open("rb") as stream:
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
                raise self._error(what) from None
        among = listed(held) or "none"
        if key is not None:
            raise self._error(f"no array {short(key)} (--key); choose among {among}")
        what = f"must hold one array, or one named 'x', got {len(held)}: {among}; save one"
        raise self._error(what + ", or choose one with --key" * bool(held))

    def _read(self, picks: list[int]) -> Iterator[tuple[NDArray[np.float64], Sequence[int]]]:
        last = self._rows.stop
        for start in range(self._rows.start, last, self.block_rows):
            part = self._held[start : min(start + self.block_rows, last), picks]
            with np.errstate(over="ignore"):  # of a long double beyond float64: it is refused
                values = np.array(part, np.float64, order="C")
            yield values, range(start + 1, start + 1 + len(values))

    def _cells(self) -> Iterator[tuple[int, list[str]]]:
        for place, row in enumerate(self._held, start=1):
            yield place, [str(value) for value in row.tolist()]


class ParquetTable(Table):
    """A Parquet file; an index that pandas stored with it names the rows."""

    def __init__(self, *file: Any, **options: Any) -> None:
        super().__init__(*file, **options)
        with self._opened() as found:
            self._schema, meta = found.schema_arrow, found.metadata
            # How many rows each row group has, what is read of the file.
            self._sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
            n_rows = meta.num_rows
        names = [str(name) for name in self._schema.names]
        if not names or not n_rows:
            raise self._error("is empty; write one row a sample")
        if len(set(names)) < len(names):
            raise self._error(f"has columns of one name, {listed(names)}; rename them")
        stored = json.loads((self._schema.metadata or {}).get(b"pandas", b"{}"))
        index = [j for j, name in enumerate(names, 1) if name in stored.get("index_columns", [])]
        row_names = index if len(index) < len(names) else []
        self._set_columns(names, named=True, row_names=row_names)
        self._groups = range(len(self._sizes))

    def split(self, most_rows: int) -> list[Table]:
        """Return tables of whole row groups, of so many rows each if these are not larger."""
        cuts, held = [self._groups.start], 0
        for group in self._groups:
            if held and held + self._sizes[group] > most_rows:
                cuts.append(group)
                held = 0
            held += self._sizes[group]
        ends = [*cuts[1:], self._groups.stop]
        return [self._part(_groups=range(*pair)) for pair in zip(cuts, ends, strict=True)]

    def _text_columns(self) -> Sequence[int]:
        """Return the columns of what a text file would hold as words."""
        from pyarrow import types

        tests = [types.is_string, types.is_large_string]
        tests += [types.is_date, types.is_time, types.is_timestamp]
        kinds = [k.value_type if types.is_dictionary(k) else k for k in self._schema.types]
        return [j for j, kind in enumerate(kinds, 1) if any(test(kind) for test in tests)]

    def _read(self, picks: list[int]) -> Iterator[tuple[NDArray[np.float64], Sequence[int]]]:
        import pyarrow as pa
        from pyarrow import types

        tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
        for j in picks:
            if not any(test(self._schema.types[j]) for test in tests):
                what = f"holds {self._schema.types[j]}, not numbers; choose other columns"
                raise self._error(what, self._columns([j + 1]))
        names, groups = [self.header[j] for j in picks], self._groups
        first = 1 + sum(self._sizes[: groups.start])
        with self._opened() as found:
            for batch in found.iter_batches(self.block_rows, row_groups=groups, columns=names):
                columns = (batch.column(name).cast(pa.float64(), safe=False) for name in names)
                values = np.column_stack([column.to_numpy(False) for column in columns])
                yield values, range(first, first + len(values))
                first += len(values)

    def _cells(self) -> Iterator[tuple[int, list[str]]]:
        places = count(1)
        with self._opened() as found:
            for batch in found.iter_batches():
                columns = (column.to_pylist() for column in batch.columns)
                for row in zip(*columns, strict=True):
                    yield next(places), ["" if value is None else str(value) for value in row]

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Open the file for pyarrow; TableError if that is missing, or finds no Parquet."""
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            what = "Parquet needs pyarrow, which is not installed: pip install pyarrow"
            raise self._error(what) from None
        with self.path.open("rb") as stream:
            try:
                yield parquet.ParquetFile(stream)
            except (ArrowException, OSError) as error:
                why = str(error).splitlines()[0]
                what = f"is damaged, or not a Parquet file ({why}); write it anew"
                raise self._error(what) from None
