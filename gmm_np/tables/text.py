"""How a text file is laid out: its lines, its delimiter, its header, its rows as cells of text.

Lines and columns are counted from 1.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from gmm_np.tables.errors import table_error

_SAMPLE_LINES: Final = 20  # on which the delimiter is decided
# Words for a missing number: a first row that holds one is not a header for that.
_MISSING: Final = frozenset({"", "na", "n/a", "null", "none"})
_QUOTED: Final = re.compile(r'"[^"]*"')
_QUOTED_OR_WORD: Final = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
_STRAY_BYTE: Final = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of one
_BY_CONTENT: Final = {
    b"\x93NUMPY": "is a NumPy file by its content; give its name the suffix .npy",
    b"PK\x03\x04": "is a zip archive by its content; name it .npz if NumPy wrote it, else export "
    "it as .csv",
    b"\x1f\x8b": "is compressed; unpack it first, for instance with gunzip",
}
_BY_SUFFIX: Final = (
    *(".xls", ".xlsx", ".ods", ".parquet", ".feather", ".arrow", ".h5", ".hdf5", ".mat", ".pkl"),
    *(".pickle", ".json", ".zip", ".gz", ".bz2", ".xz", ".zst", ".png", ".pdf", ".db", ".sqlite"),
)


class Layout(NamedTuple):
    """What has to be known of a text file before its numbers are read."""

    file: Path
    delimiter: str | None  # None for any run of white space
    head: int  # line of the first row, header or not; it sets the number of columns
    start: int  # line of the first row of numbers
    names: list[str]


def find_layout(file: Path, delimiter: str | None, header: bool | None) -> Layout:
    """Look at the first lines; raise TableError where they cannot begin a table."""
    _refuse_other_formats(file)
    with open_leniently(file) as stream:
        if delimiter is None:
            delimiter = _sniff([line for _, line in islice(_lines(file, stream), _SAMPLE_LINES)])
            stream.seek(0)
        elif delimiter == " ":
            delimiter = None
        rows = records(file, stream, delimiter)
        first, second = next(rows, None), next(rows, None)
    if first is None:
        raise table_error(file, "is empty: no line of it holds a cell; write one row a line")
    head, cells = first
    if header is None:
        header = any(not is_number(c) and c.strip().lower() not in _MISSING for c in cells)
    if not header:
        return Layout(file, delimiter, head, head, [str(j) for j in range(1, len(cells) + 1)])
    if second is None:
        raise table_error(file, "a header and no rows; add the data below it", f"line {head}")
    names = [cell.strip() or str(j) for j, cell in enumerate(cells, start=1)]
    return Layout(file, delimiter, head, second[0], names)


def _refuse_other_formats(file: Path) -> None:
    with file.open("rb") as stream:
        start = stream.read(8)
    for magic, what in _BY_CONTENT.items():
        if start.startswith(magic):
            raise table_error(file, what)
    if file.suffix.lower() in _BY_SUFFIX:
        what = f"a {file.suffix} file is not read here; export the table as .csv, .npy or .npz"
        raise table_error(file, what)


def open_leniently(file: Path) -> TextIO:
    """Open text so that stray bytes become surrogates, and `_lines` can say where they are."""
    return file.open(encoding="utf-8-sig", errors="surrogateescape")


def holds_cells(line: str) -> bool:
    """Whether the line is neither blank nor a comment."""
    return line.lstrip()[:1] not in ("", "#")


def is_number(cell: str) -> bool:
    """Whether `float` takes it."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def count_cells(line: str, delimiter: str | None) -> int:
    """Count the cells of a line in which every quote is closed."""
    return len((_QUOTED.sub("q", line) if '"' in line else line).split(delimiter))


def records(
    file: Path, stream: Iterable[str], delimiter: str | None
) -> Iterator[tuple[int, list[str]]]:
    """Yield each row as cells of text, with the number of the line on which it starts."""
    numbers: list[int] = []  # lines of the present row: a quoted cell may span several

    def feed() -> Iterator[str]:
        for number, line in _lines(file, stream):
            numbers.append(number)
            yield line

    if delimiter is None:
        for line in feed():
            found = _QUOTED_OR_WORD.findall(line)
            yield numbers.pop(), [word or quoted.replace('""', '"') for quoted, word in found]
        return
    try:
        for cells in csv.reader(feed(), delimiter=delimiter, skipinitialspace=True):
            yield numbers[0], cells
            numbers.clear()
    except csv.Error as error:
        what = f"{error}; mend this row, perhaps a quote is not closed"
        raise table_error(file, what, f"line {numbers[0]}") from None


def line_name(layout: Layout, row: int) -> str:
    """Return the name of the line on which a row of numbers, from 0, starts."""
    with open_leniently(layout.file) as stream:
        rows = records(layout.file, stream, layout.delimiter)
        numbers = (line for line, _ in rows if line >= layout.start)
        return f"line {next(islice(numbers, row, None))}"


def _lines(file: Path, stream: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Each line that holds cells, with its number."""
    for number, line in enumerate(stream, start=1):
        if not line.isascii() and (stray := _STRAY_BYTE.search(line)):
            what = f"byte 0x{ord(stray[0]) - 0xDC00:02x} is not UTF-8; save the file as UTF-8"
            raise table_error(file, what, f"line {number}")
        if holds_cells(line):
            yield number, line


def _sniff(sample: Sequence[str]) -> str | None:
    """Choose the delimiter on which the lines agree; semicolons first, for 3,6;79 has both."""
    marks = (";", "\t", ",")
    counts = {mark: [count_cells(line, mark) for line in sample] for mark in (*marks, None)}
    for mark in marks:
        if len(set(counts[mark])) == 1 and counts[mark][0] > 1:
            return mark
    if not any("," in line or ";" in line for line in sample):
        if len(set(counts[None])) == 1:
            return None
        if set(counts[None][1:]) == {1}:  # one column, whose name has spaces in it
            return ","
    best = max(marks, key=lambda mark: sum(count > 1 for count in counts[mark]))
    return best if max(counts[best], default=1) > 1 else None
