"""How a text file is laid out: its lines, its delimiter, its header, its rows as cells of text.

Lines and columns are counted from 1.
"""

from __future__ import annotations

import csv
import io
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from typing import Any, BinaryIO, Final, NamedTuple

from gmm_np.tables.cells import are_row_names, is_missing, is_word
from gmm_np.tables.errors import File, table_error

Lines = Iterator[tuple[int, str]]

_SAMPLE: Final = 20  # lines that show the delimiter, and rows that show names of rows
_QUOTED: Final = re.compile(r'"[^"]*"')
_QUOTED_OR_WORD: Final = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
_STRAY_BYTE: Final = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of one
# Blank or a comment; a line may start with the error value of a spreadsheet, too.
_NO_CELLS: Final = re.compile(
    r"\s*(?:$|#(?!(?:N/A|NA|DIV/0!|VALUE!|REF!|NUM!|NAME\?|NULL!)(?:[\s,;|]|$)))"
)
_COMPRESSED: Final = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ": "lzma"}
_BY_CONTENT: Final = {
    b"\x93NUMPY": "is a NumPy file by its content; give its name the suffix .npy",
    b"PK\x03\x04": "is a zip archive by its content; name it .npz if NumPy wrote it, else export "
    "it as .csv",
    b"PAR1": "is a Parquet file by its content; give its name the suffix .parquet",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; unpack it first, for instance with unzstd",
}
_BY_SUFFIX: Final = (
    *(".xls", ".xlsx", ".ods", ".feather", ".arrow", ".h5", ".hdf5", ".mat", ".pkl", ".pickle"),
    *(".json", ".zip", ".png", ".pdf", ".db", ".sqlite"),
)


class Text(NamedTuple):
    """A text file, perhaps compressed by gzip, bzip2 or xz."""

    file: File
    encoding: str
    skip_lines: Collection[int]  # numbers of lines to leave out

    def lines(self, start: int = 1) -> Lines:
        """Yield each line that holds cells, from line `start` on, with its number."""
        with self.file.path.open("rb") as stream, _unpacked(self.file, stream) as content:
            # Stray bytes become surrogates, so that the message can say where they are.
            text = io.TextIOWrapper(content, self.encoding, errors="surrogateescape")
            number = 0
            try:
                for number, line in enumerate(text, start=1):
                    if number < start or number in self.skip_lines:
                        continue
                    if not line.isascii() and (stray := _STRAY_BYTE.search(line)):
                        raise self._not_text(number, f"byte 0x{ord(stray[0]) - 0xDC00:02x}")
                    if not _NO_CELLS.match(line):
                        yield number, line
            except UnicodeError:  # surrogates do not help codecs of several bytes a character
                raise self._not_text(number + 1, "the text") from None

    def _not_text(self, line: int, what: str) -> ValueError:
        name = "UTF-8" if self.encoding == "utf-8-sig" else self.encoding
        what += (
            f" is not {name}; save the file as UTF-8, or name its encoding, for instance "
            "--encoding cp1252 or utf-16"
        )
        return table_error(self.file, what, f"line {line}")


class Layout(NamedTuple):
    """What has to be known of a text file before its numbers are read."""

    text: Text
    delimiter: str | None  # None for any run of white space
    decimal: str | None  # None for a point and nothing between thousands
    head: int  # line of the first row, header or not
    start: int  # line of the first row of numbers
    names: list[str]  # of the columns, "" where one has none
    named: bool  # whether there is a header
    row_names: int  # how many of the first columns only name the rows
    note: str  # what was guessed, "" where nothing was
    first_line: list[str]  # its cells


def find_layout(
    text: Text, delimiter: str | None, header: bool | None, decimal: str | None
) -> Layout:
    """Look at the first lines; raise TableError where they cannot begin a table."""
    _refuse_other_formats(text)
    if delimiter is None:
        delimiter = _sniff([line for _, line in islice(text.lines(), _SAMPLE)], decimal)
    elif delimiter == " ":
        delimiter = None
    rows = list(islice(records(text.file, text.lines(), delimiter), 1 + _SAMPLE))
    if not rows:
        raise table_error(text.file, "is empty: no line of it holds a cell; write one row a line")
    (head, cells), below = rows[0], rows[1:]
    counted = are_row_names([row[0] for _, row in below])
    beyond = counted and all(len(row) == len(cells) + 1 for _, row in below)
    note = ""
    if header is None:
        words = sum(map(is_word, cells))
        numbers = len(cells) - words - sum(map(is_missing, cells))
        header = words > numbers or (counted and len(cells) > 1 and not cells[0].strip())
        if header and numbers:
            note = f"line {head} was taken for names; --no-header if it is a row of numbers"
        elif numbers and (words or (len(cells) > 1 and are_row_names(cells))):  # 0,1,2: by pandas
            note = f"line {head} was taken for a row of numbers; --header if it holds names"
    if not header:
        names = [""] * len(cells)
        return Layout(text, delimiter, decimal, head, head, names, False, 0, note, cells)
    if not below:
        raise table_error(text.file, "a header and no rows; add the data below it", f"line {head}")
    names = [""] * beyond + [cell.strip() for cell in cells]
    start = below[0][0]
    row_names = _count_row_names(names)
    return Layout(text, delimiter, decimal, head, start, names, True, row_names, note, cells)


def _count_row_names(names: Sequence[str]) -> int:
    """Count the columns of names of rows, as pandas and R write them: the first, without a name.

    Whatever they hold: an index is of dates, or of the rows that a selection left. Where another
    column lacks a name too, that says nothing.
    """
    first = next((j for j, name in enumerate(names) if name), 0)
    return first if all(names[first:]) else 0


def _refuse_other_formats(text: Text) -> None:
    with text.file.path.open("rb") as stream:
        what = _by_start(_BY_CONTENT, stream.read(8))
    if what:
        raise table_error(text.file, what)
    suffix = text.file.path.suffix
    if suffix.lower() in _BY_SUFFIX:
        what = f"a {suffix} file is not read here; export the table as .csv, .npy or .npz"
        raise table_error(text.file, what)


@contextmanager
def _unpacked(file: File, stream: BinaryIO) -> Iterator[Any]:
    """Give what the stream holds, unpacked; TableError where it is damaged."""
    name = _by_start(_COMPRESSED, stream.read(8))
    stream.seek(0)
    if name is None:
        yield stream
        return
    module: Any = import_module(name)
    try:
        with module.open(stream) as content:
            yield content
    except (EOFError, OSError, zlib.error, getattr(module, "LZMAError", EOFError)) as error:
        if getattr(error, "errno", None) is not None:
            raise
        what = f"is damaged ({error}); copy it anew, or compress it again"
        raise table_error(file, what) from None


def _by_start(found: dict[bytes, str], start: bytes) -> str | None:
    return next((what for magic, what in found.items() if start.startswith(magic)), None)


def count_cells(line: str, delimiter: str | None) -> int:
    """Count the cells of a line in which every quote is closed."""
    return len((_QUOTED.sub("q", line) if '"' in line else line).split(delimiter))


def records(file: File, lines: Lines, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """Yield each row as cells of text, with the number of the line on which it starts."""
    numbers: list[int] = []  # lines of the present row: a quoted cell may span several

    def feed() -> Iterator[str]:
        for number, line in lines:
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


def _sniff(sample: Sequence[str], decimal: str | None) -> str | None:
    """Choose the delimiter on which the lines agree; semicolons first, for 3,6;79 has both."""
    marks = [mark for mark in (";", "\t", ",") if mark != decimal]
    counts = {mark: [count_cells(line, mark) for line in sample] for mark in (*marks, None)}
    for mark in marks:
        if len(set(counts[mark])) == 1 and counts[mark][0] > 1:
            return mark
    if not any(mark in line for line in sample for mark in marks if mark != "\t"):
        if len(set(counts[None])) == 1:
            return None
        if set(counts[None][1:]) == {1}:  # one column, whose name has spaces in it
            return marks[-1]
    best = max(marks, key=lambda mark: sum(count > 1 for count in counts[mark]))
    return best if max(counts[best], default=1) > 1 else None
