"""Every table is read to the last bit, or refused in one line that says where and what helps."""

import bz2
import gzip
import lzma
import os
import re
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from gmm_np.files import atomic_write
from gmm_np.tables import TableError, open_table, read_table, write_table
from gmm_np.tables.text import TextTable

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def write(tmp_path):
    """Write a file and return its path."""

    def to_file(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to_file


def refusal(path, **options):
    """Return what `read_table` says of a bad file, without its folder; one line, as promised."""
    with pytest.raises(TableError) as caught:
        read_table(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.replace(str(path.parent) + os.sep, "")


def check_says(message, said):
    """Check that a message is what is said, in which " ... " stands for anything."""
    assert re.fullmatch(".*".join(map(re.escape, said.split(" ... "))), message), message


# --- what is read -------------------------------------------------------------------------------

AB, GRID = ["a", "b"], [[1, 2], [3, 4]]
READ = [
    # Delimiters, quotes, line ends and comments do not matter.
    ("a,b\n1,2\n3,4\n", {}, GRID, AB),
    ("a;b\n1;2\n3;4\n", {}, GRID, AB),
    ("a\tb\n1\t2\n3\t4\n", {}, GRID, AB),
    ("a b\n1 2\n3 4", {}, GRID, AB),
    ("  a    b\n  1    2\n 3\t4\n", {}, GRID, AB),
    ("a, b\n1, 2\n3, 4\n", {}, GRID, AB),
    ("a,b\r\n1,2\r\n3,4\r\n", {}, GRID, AB),
    ("a,b\r1,2\r3,4\r", {}, GRID, AB),
    (BOM + b"a,b\n1,2\n3,4\n", {}, GRID, AB),
    ("\n# made by hand\n\na,b\n1,2\n   \n# half way\n3,4\n\n", {}, GRID, AB),
    ('"a","b"\n"1","2"\n"3","4"\n', {}, GRID, AB),
    ('"a" "b"\n1 "2"\n"3" 4\n', {}, GRID, AB),
    ('"a", "b"\n1, "2"\n3, 4\n', {}, GRID, AB),
    # A delimiter that is named is used.
    *((f"a{d}b\n1{d}2\n", {"delimiter": d}, [[1, 2]], AB) for d in "|: ;\t"),
    # One row, and one column, is a table; without a header columns are named by number.
    ("1,2\n3,4\n", {}, GRID, ["1", "2"]),
    ("1 2 3", {}, [[1, 2, 3]], ["1", "2", "3"]),
    ("x\n1\n2\n", {}, [[1], [2]], ["x"]),
    ("1\n2\n", {}, [[1], [2]], ["1"]),
    ("waiting time\n1\n2\n", {}, [[1], [2]], ["waiting time"]),
    ('"x y"\n1\n2', {}, [[1], [2]], ["x y"]),
    # A first row of more words than numbers is a header; so is one with marks, of sodium here.
    ("country,year,2020\n1,2,3\n", {}, [[1, 2, 3]], ["country", "year", "2020"]),
    ("Na,K,-\n1,2,3\n", {}, [[1, 2, 3]], ["Na", "K", "-"]),
    # A column without a name is named by its number.
    ('"","a",\n"2",3.5,1\n', {}, [[2, 3.5, 1]], ["1", "a", "3"]),
    # A row that begins with an empty cell is data.
    (",2,3\n4,5,6\n", {"missing": "drop"}, [[4, 5, 6]], ["1", "2", "3"]),
    # A first line is a header, or data, where that is said.
    ("2019,2020\n1,2\n", {}, [[2019, 2020], [1, 2]], ["1", "2"]),
    ("2019,2020\n1,2\n", {"header": True}, [[1, 2]], ["2019", "2020"]),
    ("2019,2020\n1,2\n", {"header": True, "columns": ["2020"]}, [[2]], ["2020"]),
    ("x,1\ny,2\n", {"header": False, "columns": [2]}, [[1], [2]], ["2"]),
    # Equal names are told apart as pandas does, or by number.
    ("v,w,v,v.1,v\n1,2,3,4,5\n", {}, [[1, 2, 3, 4, 5]], ["v", "w", "v.2", "v.1", "v.3"]),
    ("v,w,v,v.1,v\n1,2,3,4,5\n", {"columns": ["v.3", "v.1"]}, [[5, 4]], ["v.3", "v.1"]),
    ("a,a\n1,2\n", {"columns": [2]}, [[2]], ["a.1"]),
    # Columns come in the order asked for; others may hold anything.
    *(
        ("a,b,c\n1,word,3\n4,,6\n", {"columns": by}, [[3, 1], [6, 4]], ["c", "a"])
        for by in (["c", "a"], [3, 1], ["3", "1"], ["c", 1], (np.int64(3), " a "))
    ),
    (",a\n0,1\n1,3\n", {"columns": [1, "a"]}, [[0, 1], [1, 3]], ["1", "a"]),
    ("ab,a,b\n1,2,3\n", {"columns": "ab"}, [[1]], ["ab"]),
    # A string is a name before it is a number.
    ("x,2,1\n7,8,9\n", {"columns": ["1", "2"], "header": True}, [[9, 8]], ["1", "2"]),
    ("x,2,1\n7,8,9\n", {"columns": [1, 2], "header": True}, [[7, 8]], ["x", "2"]),
    # A range chooses the columns in it; 9-8 is none, but a name.
    ("a,b,c,d,9-8\n1,2,3,4,5\n", {"columns": ["2-4"]}, [[2, 3, 4]], ["b", "c", "d"]),
    ("a,b,c,d,9-8\n1,2,3,4,5\n", {"columns": ["1-2", "5", "d"]}, [[1, 2, 5, 4]], None),
    ("a,b,c,d,9-8\n1,2,3,4,5\n", {"columns": [" 3 - 3 "]}, [[3]], ["c"]),
    ("a,b,c,d,9-8\n1,2,3,4,5\n", {"columns": "2-3"}, [[2, 3]], ["b", "c"]),
    ("a,b,c,d,9-8\n1,2,3,4,5\n", {"columns": ["9-8"]}, [[5]], ["9-8"]),
    # A quoted cell may hold delimiters, quotes and line ends.
    ('a,"b, ""c""\nd",e\n1,"x,\ny",2\n3,z,4\n', {"columns": [1, 3]}, GRID, ["a", "e"]),
    ('1,"2\n"\n3,4\n', {}, GRID, ["1", "2"]),
    # Among white space an open quote does not swallow the next line.
    ('a b c\n1 "x 3\n4 y" 6\n', {"columns": [1]}, [[1], [4]], ["a"]),
    # A preamble is skipped, and a row of units.
    *(
        ("caf\n1,2,3\na,b\n1,2\n", {"skip_lines": s}, [[1, 2]], AB)
        for s in (2, {1, 2}, range(1, 3))
    ),
    (b'caf\xe9, no "table\n1,2,3,4\na,b\n1,2\n3,x\n', {"skip_lines": {1, 2, 5}}, [[1, 2]], AB),
    ("mass,size\nkg,cm\n1,2\n", {"skip_lines": [2]}, [[1, 2]], ["mass", "size"]),
    # Decimal marks and thousands are understood where they are named.
    *(
        (content, {"decimal": mark, **more}, [[1234.5, -5], [1234567.25, 2]], AB)
        for mark, content, more in (
            (",", "a;b\n1234,5;-,5e1\n1.234.567,25;2\n", {}),
            (",", "a;b\n1 234,5;-5\n1\u202f234\u202f567,25;2,\n", {}),
            (",", "a\tb\n1234,5\t-5,0\n1'234'567,25\t+2\n", {}),
            (",", 'a,b\n"1234,5","-5"\n"1.234.567,25","2"\n', {"delimiter": ","}),
            (",", "a b\n1234,5 -5\n1.234.567,25 2\n", {}),
            (".", "a;b\n1,234.5;-.5e1\n1,234,567.25;2\n", {}),
            (".", 'a,b\n"1,234.5",-5\n"1,234,567.25",2\n', {"delimiter": ","}),
        )
    ),
    ("1,5;2,5\n3,5;4,5\n", {"decimal": ","}, [[1.5, 2.5], [3.5, 4.5]], ["1", "2"]),
    # Text is read in the encoding that is named.
    ("质量;b\n1;2\n".encode("gbk"), {"encoding": "gbk"}, [[1, 2]], ["质量", "b"]),
    *(
        ("größe;b\n1;2\n".encode(name), {"encoding": name}, [[1, 2]], ["größe", "b"])
        for name in ("utf-8", "latin-1", "cp1252", "utf-16", "utf-16-le")
    ),
    # A line that begins with the error of a spreadsheet is no comment.
    ("# note\n#N/A,1\n#NAME of it\n2,3\n", {"missing": "drop"}, [[2, 3]], ["1", "2"]),
]


@pytest.mark.parametrize(("content", "options", "values", "names"), READ)
def test_a_text_is_read(write, content, options, values, names):
    found, found_names = read_table(write(content), **options)
    assert found.tolist() == values
    assert found.dtype == np.float64
    assert names in (None, found_names)


@pytest.mark.parametrize("name", ["2023_04", "1_2", "１２", "0x1p3", "1.2.3", "5kg", "10%"])
def test_a_name_that_only_looks_like_a_number_is_a_name(write, name):
    values, names = read_table(write(f"{name},{name}b\n1,2\n"))
    assert (values.tolist(), names) == ([[1, 2]], [name, f"{name}b"])
    assert not open_table(write(f"{name},{name}b\n1,2\n")).notes


MARKS = [
    *("", "?", ".", "-", "--", "*", "NA", "N/A", "n.a.", "NaN", "-nan", "null", "None", "nil"),
    *("#N/A", "#NA", "#DIV/0!", "#VALUE!", "<NA>", "n.d.", "<0.1", "< 5", ">1.000,5", "≤2"),
]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("place", [0, 1])
def test_a_first_row_with_a_mark_is_data_with_a_missing_value(write, mark, place):
    cells = ["4.5", "4.5"]
    cells[place] = mark
    path = write(";".join(cells) + "\n1;2\n" + ";".join(cells) + "\n3;4\n")
    said = f"data.csv, line 1, column {place + 1} ('{place + 1}'): "
    message = refusal(path, delimiter=";")
    assert message.startswith(said)
    assert message.endswith("drop the row (--missing drop, or marginal to keep it)")
    table = open_table(path, missing="drop", delimiter=";")
    assert table.read().tolist() == [[1, 2], [3, 4]]
    assert (table.n_dropped, table.names, table.notes) == (2, ["1", "2"], [])


@pytest.mark.parametrize(
    ("first", "taken"),
    [
        ("5.1,3.5,setosa", "a row of numbers; --header if it holds names"),
        ("4.1,oops,x,2", "a row of numbers; --header if it holds names"),
        ("0,1,2", "a row of numbers; --header if it holds names"),  # as pandas numbers columns
        ("a,b,3", "names; --no-header if it is a row of numbers"),
    ],
)
def test_a_guess_at_the_first_row_is_said(write, first, taken):
    path = write(f"# made\n{first}\n{','.join('7' * (first.count(',') + 1))}\n")
    assert open_table(path).notes == [f"{path}: line 2 was taken for {taken}"]
    assert not open_table(path, header=True).notes
    assert not open_table(path, header=False).notes


@pytest.mark.parametrize("first", ["a,b,c", "1.5,2,3", "NA,2,3", "a,?,c"])
def test_what_is_no_guess_is_not_said(write, first):
    assert not open_table(write(f"{first}\n1,2,3\n")).notes


# --- names of rows ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "numbers", "names", "values"),
    [
        # The first, without a name, as pandas and R write them, whatever it holds.
        (",a,b\n0,1,2\n1,3,4\n", [2, 3], AB, GRID),
        ('"","a","b"\n"1",1,2\n"2",3,4\n', [2, 3], AB, GRID),
        ('"a" "b"\n"1" 1 2\n"2" 3 4\n', [2, 3], AB, GRID),
        ("a\tb\nMazda RX4\t1\t2\nDatsun\t3\t4\n", [2, 3], AB, GRID),
        ('"","a","b"\n"Mazda, RX4",1,2\n"Datsun",3,4\n', [2, 3], AB, GRID),
        *(
            (f",a,b\n{first},1,2\n7,3,4\n", [2, 3], AB, GRID)
            for first in ("3.5", "2", "-1", "", "2020-01-01", "x")
        ),
        (",0,1\n0,1.5,2\n1,3,4\n", [2, 3], ["0", "1"], [[1.5, 2], [3, 4]]),  # pandas numbers them
        (",,a\nx,5,1\ny,7,3\n", [3], ["a"], [[1], [3]]),
    ],
)
def test_names_of_rows_are_no_variable_and_that_is_said(write, content, numbers, names, values):
    path = write(content)
    table = open_table(path)
    assert (table.numbers, table.names, table.read().tolist()) == (numbers, names, values)
    which, them = ("column 1 is", "it") if numbers[0] == 2 else ("columns 1, 2 are", "them")
    said = f"{which} taken for names of the rows and left out; --columns 1-3 keeps {them}"
    assert table.notes[-1] == f"{path}: {said}"
    assert said not in "".join(table.choose([names[-1]]).notes)


@pytest.mark.parametrize("header", [",a,", "a,,b", ",,", "a,,"])
def test_a_column_without_a_name_is_a_variable_where_another_has_none_or_it_is_not_first(
    write, header
):
    table = open_table(write(f"{header}\n5,1,2\n7,3,4\n"), header=True)
    assert table.numbers == [1, 2, 3]
    assert not table.notes


# --- numbers ------------------------------------------------------------------------------------

CELLS = [
    *("0.1", "-0", "+3", ".5", "5.", "1E5", "1e-310", "4.9e-324", "2.4703282292062328e-324"),
    *("2.2250738585072011e-308", "1.7976931348623157e308", "9007199254740993", "1" * 60),
    *("0.1000000000000000055511151231257827021181583404541015625", "8.98846567431158e307"),
    "9007199254740993." + "0" * 300 + "1",  # just above half way between two doubles
    ' "7"',
]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("decimal", [None, "."])  # by NumPy's reader, and cell by cell
def test_a_number_is_what_float_makes_of_it(write, cell, decimal):
    values, _ = read_table(write(f"a,b\n{cell},1\n"), decimal=decimal)
    assert values[0, 0].tobytes() == np.float64(float(cell.strip(' "'))).tobytes()


@pytest.mark.parametrize("cell", ["1_2", "1_000.5", "１２", "٣", "1e1_0", "0x10", "1d5"])
@pytest.mark.parametrize("options", [{}, {"decimal": "."}, {"missing": "drop"}])
def test_what_only_python_takes_for_a_number_is_refused(write, cell, options):
    message = refusal(write(f"a,b\n1,2\n3,{cell}\n"), **options)
    assert message.startswith("data.csv, line 3, column 2 ('b'): ")
    assert " is not a number; mend it" in message


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "INF", "1e999"])
@pytest.mark.parametrize("options", [{}, {"decimal": "."}, {"missing": "drop"}])
def test_an_infinite_value_is_not_missing(write, cell, options):
    said = f"data.csv, line 3, column 2 ('b'): {cell!r} is not a finite number; mend it or drop"
    assert refusal(write(f"a,b\n1,2\n3,{cell}\n"), **options).startswith(said)


def test_the_c_reader_and_the_exact_one_agree(write, monkeypatch):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 4)) * 10.0 ** rng.integers(-300, 300, size=(300, 4))
    path = write("\n".join("\t".join(f"{cell:.25g}" for cell in row) for row in x))
    fast, _ = read_table(path, columns=[4, 2])
    monkeypatch.setattr(TextTable, "_read_fast", lambda *_: None)
    exact, _ = read_table(path, columns=[4, 2])
    assert fast.tobytes() == exact.tobytes()


def test_the_array_named_x_is_taken_from_several(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.eye(2), y=np.zeros(3))
    assert read_table(tmp_path / "data.npz")[0].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float16, ">f4", np.longdouble])
def test_any_real_dtype_becomes_float64(tmp_path, dtype):
    np.save(tmp_path / "data.npy", np.asfortranarray([[1, 0], [0, 1]], dtype=dtype))
    values, names = read_table(tmp_path / "data.npy", columns=["2", 1])
    assert values.tolist() == [[0, 1], [1, 0]]
    assert values.dtype == np.float64
    assert names == ["2", "1"]


# --- what is refused ----------------------------------------------------------------------------

RAGGED = "where line 1 has 2, got  ... ; make all lines equally long, or name the delimiter"
MANY = ": no column 'd'; choose among 'c0' (1), ... 'c18' (19), 'c19' (20) and 11 more"
UTF8 = "is not UTF-8; save the file as UTF-8, or name its encoding, for instance --encoding ... "
REFUSED = [
    # An empty file, and a header without rows.
    *(
        (content, options, ": is empty: no line of it holds a cell; write one row a line")
        for content in (b"", b"\n\n", b"# only a comment\n", BOM, b"  \n\t\n")
        for options in ({}, {"delimiter": ","})
    ),
    ("\na,b\n# nothing\n", {}, ", line 2: a header and no rows; add the data below it"),
    # A ragged line.
    *(
        (content, options, f", line {at}: the number of cells (separated by {by}) is {n} {RAGGED}")
        for options in ({}, {"columns": [1]})
        for content, at, by, n in (
            ("a,b\n1,2\n\n3,4,5\n", 4, "commas", 3),
            ("1;2\n3;4\n5\n", 3, "semicolons", 1),
            ("a\tb\n1\t2\t3\n4\t5\t6\n", 2, "tabs", 3),
            ("1 2\n# c\n3 4 5\n", 3, "white space", 3),
            ('1,"2\n"\n3\n', 3, "commas", 1),
        )
    ),
    (
        "by hand\n\na;b\n1;2\n",
        {},
        ", line 3: ... ; if line 1 is no row, skip it (--skip-lines 1); ... ",
    ),
    # A cell that is no finite number.
    *(
        (content, {}, f", line {line}, column {j} ('{name}'): {said} ... ")
        for content, line, j, name, said in (
            (
                "a,b\r\n1,2\r\n\r\n3,four\r\n",
                4,
                2,
                "b",
                "'four' is not a number; mend it, drop the",
            ),
            ("a;b\n1;3,6\n", 2, 2, "b", "'3,6' is not a number; write decimals with a point"),
            ("1,5;2,5\n3,5;4,5\n", 1, 1, "1", "'1,5' is not a number; write decimals with a point"),
            ("a,b\n1,2\n3,\n", 3, 2, "b", "the cell is empty; fill it in or drop the row"),
            ("a,b\n1,2\n  ,3\n", 3, 1, "a", "the cell is empty; fill it in or drop the row"),
            ("1,2,\n3,4,\n", 1, 3, "3", "the cell is empty; fill it in or drop the row"),
            ("1,NA\n3,4\n", 1, 2, "2", "'NA' is not a number"),
            ("1,2\nnan,4\n", 2, 1, "1", "'nan' is not a finite number; mend it or drop"),
            ("1,2\n3,-inf\n", 2, 2, "2", "'-inf' is not a finite number; mend it or drop"),
            ("1,2\n3,1e999\n", 2, 2, "2", "'1e999' is not a finite number; mend it or drop"),
            ("1,2\n3,0x1p3\n", 2, 2, "2", "'0x1p3' is not a number; mend it, drop"),
            ("1,2\n3,4 # note\n", 2, 2, "2", "'4 # note' is not a number; mend it, drop"),
            ('1,2\n3,"4\n5,6\n', 2, 2, "2", "'4\\n5,6\\n' is not a number; mend it, drop"),
        )
    ),
    # A word is not a missing value.
    ("a,b\n1,2\n3,oops\n", {"missing": "drop"}, ", line 3, column 2 ('b'): 'oops' is not a ... "),
    # A number in another notation is not read wrongly.
    *(
        (
            f"a;b\n1;{cell}\n",
            {"decimal": mark, "delimiter": ";"},
            f" ... : {cell!r} is not a number ... ",
        )
        for mark, cells in ((",", ("1.5", "1.23,4", "1.2345,6")), (".", ("1,5", "1,234 567")))
        for cell in cells
    ),
    # What may be meant is said with the option for it: thousands, a header, units.
    ('a,b\n"1,234",2\n', {}, " ... or name the decimal mark: --decimal . or --decimal ,"),
    (
        "1,two,3\n4,5,6\n",
        {},
        " ... 'two' is ... ; if this line names the columns, say so (--header)",
    ),
    ("a,b\nkg,cm\n1,2\n", {}, " ... ; if the line is no row, skip it (--skip-lines 2-2)"),
    (
        b'\xe9, no "table\n1,2,3\na,b\n1,2\n3,x\n',
        {"skip_lines": 2},
        ", line 5, column 2 ('b'): ... ",
    ),
    # Long cells and names are shortened, to 40 characters.
    (f"{'n' * 99},b\n{'t' * 99},2\n", {}, f" ... 1 ('{'n' * 36}...): '{'t' * 36}... is not ... "),
    # A quoted cell that never ends is refused where it starts.
    (
        'a,b\n1,2\n3,"4\n' + "5,6\n" * 50_000,
        {},
        ", line 3: field larger than field limit ... mend ... ",
    ),
    # Text in another encoding is refused by line.
    (b"a,b\n1,2\n# caf\xe9\n3,4\n", {"columns": [1]}, f", line 3: byte 0xe9 {UTF8}"),
    (b"a,b\n1,2\n" * 9 + b"\xff,4\n", {"columns": [1]}, f", line 19: byte 0xff {UTF8}"),
    ("a,b\n1,2\n".encode("utf-16"), {}, f", line 1: byte 0xff {UTF8}"),
    (b"a,b\n" + b"1,2\n" * 9999 + b"3,caf\xe9\n", {}, f", line 10001: byte 0xe9 {UTF8}"),
    *(
        (
            b"gr\xf6\xdfe;b\n1;2\n",
            {"encoding": name},
            f", line 1: ... {UTF8.replace('UTF-8;', name + ';')}",
        )
        for name in ("utf-16", "utf-32", "ascii")
    ),
    *(
        ("1\n", {"encoding": name}, f": no encoding is named {name!r} (--encoding) ... ")
        for name in ("latin_17", "base64")
    ),
    # Columns that are not there, or more than once, are refused with those there.
    *(
        ("a,b\n1,2\n", {"columns": ["a", j]}, ": no column ... ; choose among 'a' (1), 'b' (2)")
        for j in ("c", 3, "3", 0, -1, "0", "", "9" * 99)
    ),
    (" ".join(map("c{}".format, range(31))) + "\n" + "0 " * 31, {"columns": ["d"]}, MANY),
    ("a,a\n1,2\n", {"columns": ["a"]}, ": 2 columns are named 'a'; use the number from 1"),
    ("a,b\n1,2\n", {"columns": ["b", 2]}, ", column 2 ('b'): is chosen 2 times; choose it once"),
    ("1,2\n", {"columns": []}, ": no column is chosen (--columns); name one ... "),
    *(
        ("a,b,c,2-3\n1,2,3,4\n", {"columns": by}, said)
        for by, said in (
            (["1-6"], ": no columns 1-6; a range goes up, within 1-4: 'a' (1), ... "),
            (["3-2"], ": no columns 3-2; a range goes up, within 1-4: 'a' (1), ... "),
            (["0-2"], ": no columns 0-2; a range goes up, within 1-4: 'a' (1), ... "),
            (["1-3", "2"], ", column 2 ('b'): is chosen 2 times; choose it once"),
            (["2-3"], ": '2-3' is a range of columns, and the name of column 4; write 4 for ... "),
            (["a-c"], ": no column 'a-c'; ... ; a range is one of numbers, as 1-4"),
        )
    ),
    *(
        ("1,2\n", {"delimiter": d}, ": ... cannot separate cells (--delimiter); name one character")
        for d in ("", ",,", '"', "\n")
    ),
    # A table of which nothing is left, and a key where there are no arrays.
    (
        "a,b\n1,\n,2\n",
        {"missing": "drop"},
        ": every row has a missing value; fill them in, or ... ",
    ),
    ("a,b\nNA,NA\n", {"missing": "drop"}, ": every row has a missing value; fill them in, or ... "),
    ("1\n", {"key": "x"}, ": only an .npz file has arrays to choose from; leave out --key"),
]


@pytest.mark.parametrize(("content", "options", "said"), REFUSED)
def test_a_text_that_is_no_table_is_refused(write, content, options, said):
    check_says(refusal(write(content), **options), f"data.csv{said}")


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    assert refusal(tmp_path / "").endswith(": is a directory; name a file in it")
    assert "none.csv: no such file; relative paths start from " in refusal(tmp_path / "none.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").startswith("pipe: is not a regular file; write the data")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), "no permission to read it; change its mode"),
        (OSError(5, "Input/output error"), "cannot be read (Input/output error); try a local copy"),
    ],
)
@pytest.mark.parametrize("name", ["data.csv", "data.npy"])
def test_a_file_that_the_system_refuses_is_refused(write, monkeypatch, name, error, said):
    path = write("1,2\n", name)

    def refuse(*_args, **_options):
        raise error

    monkeypatch.setattr(Path, "open", refuse)  # a mode of 000 does not stop root
    assert refusal(path).startswith(f"{name}: {said}")


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.ones(3), "must have two axes [N, D], got shape (3,); save array.reshape(-1, 1)"),
        (np.ones((2, 3, 4)), "must have two axes [N, D], got shape (2, 3, 4); save one row a samp"),
        (np.array(1.0), "must have two axes [N, D], got shape (); save one row a sample"),
        (np.ones((2, 2), complex), "holds no array of real numbers, got dtype complex128; save"),
        (np.array([["a"]]), "holds no array of real numbers, got dtype <U1; save floats"),
        (np.zeros(3, "i4,f8"), "holds no array of real numbers, got dtype [('f0', '<i4'), ('f1'"),
        (np.ones((0, 2)), "is empty, got shape (0, 2); save one row a sample"),
        (
            np.array([[1, None]]),
            "holds a pickled object array, which is not safe to load; save floats",
        ),
    ],
)
@pytest.mark.parametrize("name", ["data.npy", "data.npz"])
def test_an_array_that_is_no_table_is_refused(tmp_path, name, array, said):
    (np.save if name.endswith("npy") else np.savez)(tmp_path / name, array)
    assert refusal(tmp_path / name).startswith(f"{name}: {said}")


def test_a_value_that_is_not_finite_is_named_by_row_and_column(tmp_path):
    path = tmp_path / "data.npy"
    np.save(path, [[np.nan, 1], [2, 3], [4, -np.inf]])
    said = "-inf is not a finite number; mend it or drop the row"
    assert refusal(path, columns=[2]) == f"data.npy, row 3, column 2 ('2'): {said}"


def test_several_arrays_without_an_x_are_refused(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, a=np.eye(2), b=np.eye(2))
    said = "data.npz: must hold one array, or one named 'x', got 2: 'a' (1), 'b' (2); save one"
    said += ", or choose one with --key"
    assert refusal(path) == said
    np.savez(path)
    assert "got 0: none; save one" in refusal(path)


@pytest.mark.parametrize("name", ["data.npy", "data.npz"])
def test_a_damaged_numpy_file_is_refused_wherever_it_breaks_off(tmp_path, name):
    path = tmp_path / name
    (np.save if name.endswith("npy") else np.savez_compressed)(path, np.eye(3))
    whole = path.read_bytes()
    said = f"{name}: is damaged, or not a NumPy file; save it again with np.save or np.savez"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert refusal(path) == said
    path.write_bytes(b"1,2\n3,4\n")
    assert refusal(path) == said


def test_a_pickle_is_never_loaded(tmp_path):
    path = tmp_path / "data.npy"
    path.write_bytes(b"cos\nmkdir\n(S'" + os.fsencode(tmp_path / "harm") + b"'\ntR.")
    assert refusal(path).startswith("data.npy: is damaged, or not a NumPy file")
    assert not (tmp_path / "harm").exists()


def test_parquet_without_pyarrow_says_what_to_install(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = "Parquet needs pyarrow, which is not installed: pip install pyarrow"
    assert refusal(write(b"PAR1", "t.PARQUET")) == f"t.PARQUET: {said}"


# --- in blocks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data.csv", "data.npy", "data.npz"])
@pytest.mark.parametrize("block_rows", [1, 7, 100, 1000])
def test_blocks_are_the_table_whatever_their_size(tmp_path, name, block_rows):
    x = np.random.default_rng(0).normal(size=(100, 3))
    write_table(tmp_path / name, x, ["a", "b", "c"])
    table = open_table(tmp_path / name, columns=[3, 1], block_rows=block_rows)
    for _ in range(2):  # as often as one likes
        blocks = list(table)
        assert all(block.shape[0] <= block_rows and block.shape[1] == 2 for block in blocks)
        assert all(block.flags.c_contiguous and block.dtype == np.float64 for block in blocks)
        assert np.concatenate(blocks).tobytes() == np.ascontiguousarray(x[:, [2, 0]]).tobytes()
    assert len(blocks) == -(-100 // block_rows)
    assert table.read().tobytes() == np.concatenate(blocks).tobytes()
    assert table.numbers == [3, 1]


@pytest.mark.parametrize("at", [1, 8, 9, 10, 30])
@pytest.mark.parametrize("cell", ['"10"', '"10\n"', '"1\n0"'])
def test_a_quoted_number_is_read_in_whichever_block(write, at, cell):
    rows = [f"{i},{2 * i}\n" for i in range(1, 31)]
    expected = [[i, 2 * i] for i in range(1, 31)]
    rows[at - 1] = f"{at},{cell}\n"
    expected[at - 1] = [at, 10]
    path = write("# made\na,b\n\n" + "".join(rows))
    table = open_table(path, block_rows=9)
    if cell == '"1\n0"':
        message = refusal(path)
        assert message.startswith(f"data.csv, line {at + 3}, column 2 ('b'): '1\\n0' is not a num")
        return
    assert table.read().tolist() == expected
    assert [len(block) for block in table] == [9, 9, 9, 3]


def test_a_fault_is_named_by_its_line_in_whichever_block(write):
    rows = [f"{i},{i}\n" for i in range(50)]
    for at in (0, 6, 7, 8, 49):
        path = write("a,b\n# note\n" + "".join([*rows[:at], "1,x\n", *rows[at:]]))
        blocks = iter(open_table(path, block_rows=7))
        with pytest.raises(TableError, match=rf"line {at + 3}, column 2 \('b'\): 'x' is not"):
            list(blocks)


TEXT = "0.12345678901234567,-0.12345678901234567,0.12345678901234567\n" * 100_000


@pytest.mark.parametrize(
    ("name", "take", "most"),
    [
        # The array, as much again while it grows, and a byte of mask a cell; the text is 2.5 of it.
        ("data.csv", lambda table: len(table.read()), 2.5 * 2.4e6),
        ("data.csv", lambda table: sum(map(len, table)), 2e6),  # a block is 0.2 MB, the text 6.4 MB
        ("data.npy", lambda table: sum(map(len, table)), 1.5e6),  # 0.26 MB, the table 3.2 MB
    ],
)
def test_memory_does_not_grow_with_the_file(write, name, take, most):
    path = write(TEXT, name)
    if path.suffix == ".npy":
        np.save(path, np.ones((100_000, 4)))
    tracemalloc.start()
    try:
        count = take(open_table(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert peak < most


# --- columns of text ----------------------------------------------------------------------------


def test_columns_of_nothing_but_text_are_left_out_where_that_is_asked_for(write):
    path = write("a,site,b,when\n1,x,2,2020-01-01\n3,NA,4,2020-01-02\n5,,6,\n")
    table = open_table(path).without_text()
    assert table.read().tolist() == [[1, 2], [3, 4], [5, 6]]
    said = "column 2 ('site'), column 4 ('when') hold text and are left out"
    assert table.notes == [f"{path}: {said}"]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (["x"] * 40 + ["7"], "line 2, column 2 ('c'): 'x' is not a number"),
        (["7"] * 40 + ["x"], "line 42, column 2 ('c'): 'x' is not a number"),
        (["x"] * 40 + ["1,5"], "line 2, column 2 ('c'): 'x' is not a number"),  # decimals, perhaps
        (["NA"] * 41, "line 2, column 2 ('c'): 'NA' is not a number"),
    ],
)
def test_a_column_that_mixes_text_and_numbers_or_has_neither_stays(write, column, said):
    rows = "".join(f"{i};{cell}\n" for i, cell in enumerate(column))
    table = open_table(write(f"a;c\n{rows}")).without_text()
    assert table.names == ["a", "c"]
    with pytest.raises(TableError, match=re.escape(said)):
        table.read()


@pytest.mark.parametrize("content", ["a,b\nx,y\n", "x,1\ny,2\n"])
def test_of_a_table_of_text_or_without_names_nothing_is_left_out(write, content):
    table = open_table(write(content), header=content.startswith("a"))
    assert table.without_text().numbers == [1, 2]


# --- what files need ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data.csv", "data.npy"])
@pytest.mark.parametrize("block_rows", [1, 3, 8, 1000])
def test_rows_with_a_missing_value_are_dropped_and_counted(tmp_path, name, block_rows):
    x = np.random.default_rng(0).normal(size=(40, 3))
    gone = [0, 1, 2, 17, 18, 39]
    x[gone, [0, 1, 0, 0, 1, 1]] = np.nan
    x[5, 2] = np.nan  # in a column that is left out
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, x)
    else:
        rows = (",".join("" if np.isnan(v) else repr(v) for v in row) for row in x.tolist())
        path.write_text("\n".join(rows))
    table = open_table(path, columns=[2, 1], missing="drop", block_rows=block_rows)
    kept = np.delete(x, gone, axis=0)[:, [1, 0]]
    for _ in range(2):
        assert table.read().tobytes() == np.ascontiguousarray(kept).tobytes()
        assert table.n_dropped == len(gone)
    places = [place for block in table.blocks() for place in block.places]
    assert places == [row + 1 for row in range(40) if row not in gone]
    assert f"{table.unit} {places[20]}, column 2 ('2'): odd" in str(table.error(20, "odd", [2]))


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_compressed_text_is_read_whatever_its_name(tmp_path, module):
    path = tmp_path / "data.csv"
    content = b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(20_000))
    with module.open(path, "wb") as stream:
        stream.write(content)
    values, names = read_table(path)
    assert names == ["a", "b"]
    assert values.tolist() == [[i, i * i] for i in range(20_000)]
    path.write_bytes(path.read_bytes()[:-20])
    assert refusal(path).startswith("data.csv: is damaged (")


def test_an_array_is_chosen_by_its_key(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=np.eye(2), other=np.ones((1, 3)))
    assert read_table(path, key="other")[0].tolist() == [[1, 1, 1]]
    said = "data.npz: no array 'y' (--key); choose among 'x' (1), 'other' (2)"
    assert refusal(path, key="y") == said


@pytest.mark.parametrize("name", ["data.npy", "data.npz", "data.parquet"])
def test_lines_to_skip_where_there_are_none_are_refused(write, name):
    said = f"{name}: only a text has lines to skip; leave out --skip-lines"
    assert refusal(write("", name), skip_lines=1) == said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"missing": "impute"}, "missing must be 'error', 'drop' or 'marginal'; got 'impute'"),
        ({"decimal": ";"}, "decimal must be '.' or ','; got ';'"),
        ({"block_rows": 0}, "block_rows must be at least 1; got 0"),
        ({"block_rows": -1}, "block_rows must be at least 1; got -1"),
    ],
)
def test_an_option_that_is_none_is_refused(write, options, said):
    with pytest.raises(ValueError, match=said):
        open_table(write("1\n"), **options)


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data.csv", "data.npy", "data.npz"])
def test_what_is_written_is_read_to_the_last_bit(tmp_path, name):
    x = np.random.default_rng(0).integers(0, 2**64, size=(500, 3), dtype=np.uint64).view(np.float64)
    x = np.where(np.isfinite(x), x, 0.0)
    names = ["plain", 'a "name", quoted', "#1; last"]
    write_table(tmp_path / name, x, names)
    values, read_names = read_table(tmp_path / name)
    assert values.tobytes() == x.tobytes()
    assert read_names == (names if name.endswith("csv") else ["1", "2", "3"])
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_table_of_another_format_is_not_written(tmp_path):
    with pytest.raises(TableError, match=r"written as \.csv, \.npy or \.npz; name it so"):
        write_table(tmp_path / "data.xlsx", np.eye(2), ["a", "b"])
    assert not list(tmp_path.iterdir())


def test_a_table_that_fails_half_way_leaves_what_was_there(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("before")

    def fail():
        with atomic_write(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


# --- other formats --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", b"\x93NUMPY\x01\x00", "is a NumPy file by its content; give its name the suf"),
        ("t.xlsx", b"PK\x03\x04rest", "is a zip archive by its content; name it .npz if NumPy w"),
        ("t.csv", b"\x28\xb5\x2f\xfdrest", "is compressed by zstd; unpack it first, for insta"),
        ("t.csv", b"PAR1", "is a Parquet file by its content; give its name the suffix .parquet"),
        ("t.json", b'[{"a": 1}]', "a .json file is not read here; export the table as .csv, .np"),
        ("t.FEATHER", b"ARROW", "a .FEATHER file is not read here; export the table as .csv, .np"),
    ],
)
def test_other_formats_are_named_with_a_way_out(write, name, content, said):
    assert refusal(write(content, name)).startswith(f"{name}: {said}")
