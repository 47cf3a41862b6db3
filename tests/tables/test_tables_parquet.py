"""Parquet is read as other tables are: the same numbers, names, blocks and refusals."""

from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from gmm_np.tables import TableError, open_table, read_table

pytestmark = pytest.mark.needs_extras


@pytest.fixture
def write(tmp_path):
    """Write columns to a file in groups of four rows, and return its path."""

    def to_file(columns, pandas=None):
        table = pa.table(columns)
        if pandas is not None:
            table = table.replace_schema_metadata({"pandas": pandas})
        path = tmp_path / "data.parquet"
        parquet.write_table(table, path, row_group_size=4)
        return path

    return to_file


@pytest.mark.parametrize("block_rows", [1, 3, 1000])
def test_numbers_come_to_the_last_bit_in_the_order_asked_for(write, block_rows):
    x = np.random.default_rng(0).normal(size=(10, 3))
    path = write(dict(zip("abc", x.T, strict=True)))
    table = open_table(path, columns=["c", 1], block_rows=block_rows)
    assert table.read().tobytes() == np.ascontiguousarray(x[:, [2, 0]]).tobytes()
    assert all(1 <= len(block) <= block_rows for block in table)
    assert (table.names, table.notes) == (["c", "a"], [])


@pytest.mark.parametrize(
    "kind",
    [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.bool_(), pa.decimal128(5, 2)],
)
def test_any_real_type_becomes_float64_and_null_is_missing(write, kind):
    values = [1, 0, None, 1]
    make = {pa.decimal128(5, 2): Decimal, pa.float16(): np.float16, pa.bool_(): bool}.get(kind, int)
    held = [value if value is None else make(value) for value in values]
    path = write({"a": pa.array(held, kind), "b": [1.0, 2.0, 3.0, None]})
    assert read_table(path, columns=["a"], missing="drop")[0].tolist() == [[1], [0], [1]]
    table = open_table(path, missing="drop")
    assert table.read().tolist() == [[1, 1], [0, 2]]
    assert table.n_dropped == 2
    with pytest.raises(TableError, match=r"row 3, column 1 \('a'\): nan is not a finite number; m"):
        read_table(path)


def test_the_index_that_pandas_stored_is_no_variable_and_that_is_said(write):
    columns = {"a": [1.0, 2.0], "__index_level_0__": [5, 7]}
    path = write(columns, pandas=b'{"index_columns": ["__index_level_0__"]}')
    table = open_table(path)
    assert table.read().tolist() == [[1], [2]]
    said = f"{path}: column 2 is taken for names of the rows and left out; --columns 1-2 keeps it"
    assert table.notes == [said]
    assert table.choose([2]).read().tolist() == [[5], [7]]


@pytest.mark.parametrize("values", [["x"], [b"x"], [[1.0]], [{"c": 1}]])
def test_a_column_of_another_type_is_refused_if_it_is_chosen(write, values):
    path = write({"a": [1.0], "b": values})
    assert read_table(path, columns=["a"])[0].tolist() == [[1]]
    with pytest.raises(TableError, match=r"column 2 \('b'\): holds .*, not numbers; choose other"):
        read_table(path)


@pytest.mark.parametrize("values", [["x"], [date(2020, 1, 1)], pa.array(["x"]).dictionary_encode()])
def test_a_column_of_text_or_dates_is_left_out_where_that_is_asked_for(write, values):
    path = write({"a": [1.0], "b": values})
    table = open_table(path).without_text()
    assert table.names == ["a"]
    assert table.notes == [f"{path}: column 2 ('b') holds text and is left out"]


def test_rows_are_given_as_text_with_their_places(write):
    path = write({"a": [1.5, None], "b": ["x", "y"]})
    assert list(open_table(path).cells()) == [(1, ["1.5", "x"]), (2, ["", "y"])]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_damaged_file_is_refused(write, share):
    path = write({"a": [1.0, 2.0]})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(TableError, match="is damaged, or not a Parquet file") as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("columns", [{"a": pa.array([], pa.float64())}, {}])
def test_an_empty_file_is_refused(write, columns):
    with pytest.raises(TableError, match="is empty; write one row a sample"):
        open_table(write(columns))
