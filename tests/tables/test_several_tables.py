"""Several files as one table, and tables in parts."""

import pickle

import numpy as np
import pytest

from gmm_np.tables import TableError, find_files, open_table, open_tables

N = 25


def write_text(path, rows, header="a,b,c", newline="\n"):
    lines = [header] * bool(header) + [",".join(map(repr, row)) for row in rows.tolist()]
    path.write_text(newline.join(lines) + newline, encoding="utf-8", newline="")
    return path


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(N, 3))


@pytest.fixture
def files(tmp_path, rows):
    """Three files whose names are not in the order of the rows."""
    parts = np.array_split(rows, 3)
    return [
        write_text(tmp_path / f"{name}.csv", part) for name, part in zip("bca", parts, strict=True)
    ]


def test_a_pattern_stands_for_its_files_in_order(tmp_path, files):
    assert find_files([tmp_path / "*.csv"]) == sorted(files)
    assert find_files(files) == files  # names in the order in which they are given
    assert find_files([tmp_path / "**/a.csv"]) == [tmp_path / "a.csv"]
    odd = write_text(tmp_path / "[a].csv", np.eye(3))
    assert find_files([odd]) == [odd]  # and not a.csv


def test_several_files_read_as_one(files, rows):
    table = open_tables(files, name="all", block_rows=4)
    assert table.names == ["a", "b", "c"]
    np.testing.assert_array_equal(table.read(), rows)
    np.testing.assert_array_equal(table.choose(["c", 1]).read(), rows[:, [2, 0]])
    np.testing.assert_array_equal(table.without([2]).read(), rows[:, [0, 2]])
    places = [place for block in table.blocks() for place in block.places]
    assert places == [*range(2, 11), *range(2, 10), *range(2, 10)]
    assert [cells for _, cells in table.cells()] == [list(map(repr, row)) for row in rows.tolist()]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "a,c,b",
            r"c\.csv: column 2 is 'c' where that of .*b\.csv is 'b'; all files need the same",
        ),
        ("a,b", r"c\.csv: has 2 columns where .*b\.csv has 3"),
        ("", r"c\.csv: "),
    ],
)
def test_a_file_with_other_columns_is_named(files, rows, header, message):
    write_text(files[1], rows[:, : len(header.split(",")) if header else 3], header)
    with pytest.raises(TableError, match=message):
        open_tables(files)


def test_names_and_none_differ(tmp_path, files, rows):
    write_text(files[0], rows, header="")
    with pytest.raises(
        TableError, match=r"c\.csv: has names for its columns where .*b\.csv has no"
    ):
        open_tables(files)
    np.save(tmp_path / "d.npy", rows)
    with pytest.raises(TableError, match=r"d\.npy: lacks names for its columns where .*c\.csv has"):
        open_tables([files[1], tmp_path / "d.npy"])


def test_a_fault_has_its_file_and_line(files):
    with files[2].open("a") as file:
        file.write("1,nan,3\n")
    with pytest.raises(TableError, match=r"a\.csv, line 10, column 2 \('b'\)"):
        open_tables(files).read()
    table = open_tables(files, missing="drop")
    assert len(table.read()) == N
    assert table.n_dropped == 1
    assert str(table.error(20, "odd", [3])).startswith(f"{files[2]}, line 5, column 3 ('c'): odd")


def test_a_file_may_have_no_complete_row_if_another_has(files):
    files[0].write_text("a,b,c\n1,,2\n", encoding="utf-8")
    table = open_tables(files[:2], missing="drop")
    assert len(table.read()) == 8
    assert table.n_dropped == 1
    files[1].write_text("a,b,c\n,1,2\n", encoding="utf-8")
    with pytest.raises(TableError, match="all: every row has a missing value"):
        open_tables(files[:2], missing="drop", name="all").read()


@pytest.mark.parametrize(
    ("names", "message"),
    [(["no*.csv"], "no file has a name like this"), (["a.csv", "?.csv"], "is there twice")],
)
def test_files_that_are_not_there_or_twice_are_refused(
    tmp_path, files, monkeypatch, names, message
):
    assert files
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TableError, match=message):
        find_files(names)


def made(kind, path, rows):
    """A file of a kind, of 25 rows; Parquet in row groups of 4."""
    if kind == ".npy":
        np.save(path, rows)
    elif kind == ".npz":
        np.savez(path, rows)
    elif kind == ".parquet":
        pyarrow, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
        columns = dict(zip("abc", rows.T, strict=True))
        parquet.write_table(pyarrow.table(columns), path, row_group_size=4)
    else:
        write_text(
            path, rows, "a,b,c" if "header" in kind else "", "\r\n" * ("crlf" in kind) or "\n"
        )
    return path


KINDS = [
    *(".npy", ".npz", "header.csv", "plain.csv", "crlf.header.csv"),
    pytest.param(".parquet", marks=pytest.mark.needs_extras),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [1, 7, 8, 100])
def test_the_parts_of_a_file_are_the_file(tmp_path, rows, kind, most):
    table = open_table(made(kind, tmp_path / f"x{kind}", rows), block_rows=3)
    parts = table.split(most)
    sizes = [len(part.read()) for part in parts]
    limit = max(most, 4) if kind == ".parquet" else most
    assert max(sizes) <= limit
    assert len(parts) <= 2 * N // limit + 1
    np.testing.assert_array_equal(np.concatenate([part.read() for part in parts]), rows)
    whole, places = (
        [p for t in ts for b in t.blocks() for p in b.places] for ts in ([table], parts)
    )
    assert places == whole
    # A part of a part, somewhere else.
    again = [pickle.loads(pickle.dumps(part)) for half in parts for part in half.split(2)]
    np.testing.assert_array_equal(np.concatenate([part.read() for part in again]), rows)


def test_a_part_has_the_line_of_a_fault(tmp_path, rows):
    path = write_text(tmp_path / "x.csv", rows)
    with path.open("a") as file:
        file.write("1,2,word\n")
    with pytest.raises(TableError, match=rf"line {N + 2}, column 3 \('c'\): 'word' is"):
        open_table(path).split(5)[-1].read()


def test_an_array_goes_elsewhere_as_the_name_of_its_file(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((10_000, 3)))
    assert len(pickle.dumps(open_table(tmp_path / "x.npy"))) < 2000


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("quoted.csv", 'a,b\n1,"2\n"\n3,4\n', "utf-8"),
        ("wide.csv", "a,b\n1,2\n3,4\n", "utf-16-le"),
        ("old.csv", "a,b\n1,2\r3,4\n", "utf-8"),
    ],
)
def test_a_text_whose_lines_are_no_rows_is_one_part(tmp_path, name, text, encoding):
    (tmp_path / name).write_bytes(text.encode(encoding))
    parts = open_table(tmp_path / name, encoding=encoding).split(1)
    assert len(parts) == 1
    np.testing.assert_array_equal(parts[0].read(), [[1, 2], [3, 4]])


def test_a_compressed_text_is_one_part(tmp_path, rows):
    import gzip

    path = write_text(tmp_path / "x.csv", rows)
    packed = tmp_path / "x.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    (part,) = open_table(packed).split(1)
    np.testing.assert_array_equal(part.read(), rows)
