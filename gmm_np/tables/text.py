"""Tables in text files: how one is laid out, and its rows.

NumPy's reader goes first. From the block on where it gives up, the csv module's cells are read one
by one: there are missing values, numbers in another notation, or a fault, whose cell a second
pass then finds. csv.Sniffer is of no use: it finds no delimiter in one column or in white space,
and takes the decimal comma of ``1,5;2,5`` for one.
"""

from __future__ import annotations

import csv
import io
import math
import re
import zlib
from array import array
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import chain, islice
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from gmm_np.tables.cells import are_row_names, fault, is_missing, is_word, read_number, short
from gmm_np.tables.table import Table

Lines = Iterator[tuple[int, str]]

_SAMPLE: Final = 20  # lines that show the delimiter, and rows that show names of rows
_SEPARATED_BY: Final = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "white space"}
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


class TextTable(Table):
    """A text, perhaps compressed by gzip, bzip2 or xz."""

    unit = "line"
    # Of a part: the byte and the line at which it begins, and the line at which the next one does.
    _begin: tuple[int, int] = (0, 1)
    _end: float = math.inf

    def __init__(
        self,
        *file: Any,
        delimiter: str | None,
        header: bool | None,
        decimal: str | None,
        encoding: str,
        skip_lines: Collection[int],
        **options: Any,
    ) -> None:
        super().__init__(*file, **options)
        self._encoding, self._skipped, self._decimal = encoding, skip_lines, decimal
        self.decimal = decimal or "."
        self._refuse_other_formats()
        sample = [line for _, line in islice(self._lines(), _SAMPLE)]
        self.delimiter = delimiter or _find_delimiter(sample, decimal)
        self._start = 1  # line of the first row of numbers
        rows = list(islice(self._records(self._lines()), 1 + _SAMPLE))
        if not rows:
            raise self._error("is empty: no line of it holds a cell; write one row a line")
        (self._head, cells), below = rows[0], rows[1:]  # the first row, header or not
        self.first_line = cells
        counted = are_row_names([row[0] for _, row in below])
        words = sum(map(is_word, cells))
        numbers = len(cells) - words - sum(map(is_missing, cells))
        if header is None:
            header = words > numbers or (counted and len(cells) > 1 and not cells[0].strip())
            if header and numbers:
                self.note = "names; --no-header if it is a row of numbers"
            elif numbers and (words or (len(cells) > 1 and are_row_names(cells))):  # 0,1: by pandas
                self.note = "a row of numbers; --header if it holds names"
            if self.note:
                self.note = f"line {self._head} was taken for {self.note}"
        if not header:
            self._start = self._head
            self._set_columns([""] * len(cells), named=False)
            return
        if not below:
            raise self._error("a header and no rows; add the data below it", f"line {self._head}")
        self._start = below[0][0]
        beyond = counted and all(len(row) == len(cells) + 1 for _, row in below)
        names = [""] * beyond + [cell.strip() for cell in cells]
        # Names of rows, as pandas and R write them, are the first, without a name, whatever they
        # hold: dates, or the rows of a selection. Where another lacks one too, that says nothing.
        first = next((j for j, name in enumerate(names) if name), 0)
        row_names = range(1, 1 + first) if all(names[first:]) else ()
        self._set_columns(names, named=True, row_names=row_names)

    def split(self, most_rows: int) -> list[Table]:
        """Return tables of so many lines each, but for those before the first row.

        One alone where the file is compressed, the encoding has no plain newline, or a cell in
        quotes may go on in the next line.
        """
        cuts = [self._begin, *self._find_cuts(most_rows)]
        ends = [*(line for _, line in cuts[1:]), self._end]
        pairs = zip(cuts, ends, strict=True)
        return [self._part(_begin=begin, _end=end) for begin, end in pairs]

    def _find_cuts(self, most_rows: int) -> list[tuple[int, int]]:
        """Return the bytes and lines at which the second part and further ones begin."""
        if not "a\n".encode(self._encoding).endswith(b"a\n"):
            return []
        cuts, (byte, first) = list[tuple[int, int]](), self._begin
        due = max(first, self._start) + most_rows
        with self.path.open("rb") as stream:
            if _by_start(_COMPRESSED, stream.read(8)):
                return []
            stream.seek(byte)
            for number, line in enumerate(stream, start=first):
                if number >= self._end:
                    break
                if number == due:
                    cuts.append((byte, number))
                    due += most_rows
                if line.count(b'"') % 2 or b"\r" in line.rstrip(b"\r\n"):
                    return []
                byte += len(line)
        return cuts

    def _refuse_other_formats(self) -> None:
        with self.path.open("rb") as stream:
            what = _by_start(_BY_CONTENT, stream.read(8))
        if not what and self.path.suffix.lower() in _BY_SUFFIX:
            what = f"a {self.path.suffix} file is not read here; export the table as .csv, .npy or "
            what += ".npz"
        if what:
            raise self._error(what)

    def _lines(self, start: int = 1) -> Lines:
        """Yield each line that holds cells, from line `start` on, with its number."""
        byte, first = self._begin
        with self.path.open("rb") as stream, self._unpacked(stream) as content:
            content.seek(byte)
            # Stray bytes become surrogates, so that the message can say where they are.
            text = io.TextIOWrapper(content, self._encoding, errors="surrogateescape")
            number = first - 1
            try:
                for number, line in enumerate(text, start=first):
                    if number >= self._end:
                        return
                    if number < start or number in self._skipped:
                        continue
                    if not line.isascii() and (stray := _STRAY_BYTE.search(line)):
                        raise self._not_text(number, f"byte 0x{ord(stray[0]) - 0xDC00:02x}")
                    if not _NO_CELLS.match(line):
                        yield number, line
            except UnicodeError:  # surrogates do not help codecs of several bytes a character
                raise self._not_text(number + 1, "the text") from None

    def _not_text(self, line: int, what: str) -> ValueError:
        name = "UTF-8" if self._encoding == "utf-8-sig" else self._encoding
        remedy = "save the file as UTF-8, or name its encoding, for instance --encoding cp1252 or "
        return self._error(f"{what} is not {name}; {remedy}utf-16", f"line {line}")

    @contextmanager
    def _unpacked(self, stream: BinaryIO) -> Iterator[Any]:
        """Give what the stream holds, unpacked; TableError where it is damaged."""
        name = _by_start(_COMPRESSED, stream.read(8))
        stream.seek(0)
        if not name:
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
            raise self._error(what) from None

    def _records(self, lines: Lines) -> Iterator[tuple[int, list[str]]]:
        """Yield each row as cells of text, with the number of the line on which it starts."""
        if self.delimiter == " ":
            for number, line in lines:
                found = _QUOTED_OR_WORD.findall(line)
                yield number, [word or quoted.replace('""', '"') for quoted, word in found]
            return
        numbers: list[int] = []  # lines of the present row: a quoted cell may span several

        def feed() -> Iterator[str]:
            for number, line in lines:
                numbers.append(number)
                yield line

        try:
            for cells in csv.reader(feed(), delimiter=self.delimiter, skipinitialspace=True):
                yield numbers[0], cells
                numbers.clear()
        except csv.Error as error:
            what = f"{error}; mend this row, perhaps a quote is not closed"
            raise self._error(what, f"line {numbers[0]}") from None

    def _rows(self, lines: Lines) -> Iterator[tuple[int, list[str]]]:
        """Yield the same; TableError where a row has more or fewer cells than the table."""
        for place, cells in self._records(lines):
            if len(cells) != len(self.all_names):
                separated = _SEPARATED_BY.get(self.delimiter, repr(self.delimiter))
                what = (
                    f"the number of cells (separated by {separated}) is {len(cells)} where line "
                    f"{self._head} has {len(self.all_names)}, got "
                    f"{short(self.delimiter.join(cells))}; "
                )
                if place == self._start:
                    what += f"if line {self._head} is no row, skip it (--skip-lines {self._head}); "
                what += "make all lines equally long, or name the delimiter"
                raise self._error(what, f"line {place}")
            yield place, cells

    def _cells(self) -> Iterator[tuple[int, list[str]]]:
        return self._rows(self._lines(self._start))

    def _text_columns(self) -> Sequence[int]:
        """Return the columns that hold text and no number; marks of missing values apart.

        Rows are read until each column has shown a number. In a table without names there is none:
        its first row may be of names.
        """
        wordy = dict.fromkeys(range(len(self.header)), False)  # without a number: is there a word?
        for _, cells in self._records(self._lines(self._start)) if self.named else ():
            if len(cells) != len(self.header):
                break  # reading the numbers says so
            for j in list(wordy):
                if is_word(cells[j]):
                    wordy[j] = True
                elif not is_missing(cells[j]):
                    del wordy[j]
            if not wordy:
                break
        return [j + 1 for j, found in wordy.items() if found]

    def _read(self, picks: list[int]) -> Iterator[tuple[NDArray[np.float64], Sequence[int]]]:
        lines, places = self._lines(self._start), array("q")

        def texts() -> Iterator[str]:
            for place, line in lines:
                places.append(place)
                yield line

        while chunk := list(islice(texts(), self.block_rows)):
            found = self._read_fast(chunk, picks)
            if found is None:
                break
            del chunk  # the next one takes its place
            yield found, places[:]
            del places[:]
        lines = chain(zip(places, chunk, strict=True), lines)
        values, places = array("d"), array("q")
        for place, cells in self._rows(lines):
            row = [self._value(cells[j]) for j in picks]
            values.extend(row)
            places.append(place)
            if len(places) == self.block_rows or any(map(math.isinf, row)):  # the first fault
                yield np.array(values).reshape(-1, len(picks)), places
                values, places = array("d"), array("q")
        yield np.array(values).reshape(-1, len(picks)), places

    def _read_fast(self, lines: list[str], picks: list[int]) -> NDArray[np.float64] | None:
        """Return what NumPy makes of lines; None where that may be wrong."""
        width, split = len(self.all_names), None if self.delimiter == " " else self.delimiter
        every = picks == list(range(width))
        # loadtxt would join lines at an open quote, and with usecols take any length.
        if self._decimal is not None or any(line.count('"') % 2 for line in lines):
            return None
        if not (every or all(_count_cells(line, split) == width for line in lines)):
            return None
        use = None if every else picks
        try:
            values = np.loadtxt(
                lines, delimiter=split, comments=None, quotechar='"', usecols=use, ndmin=2
            )
        except ValueError:
            return None
        return values if values.shape == (len(lines), len(picks)) else None

    def _value(self, cell: str) -> float:
        value = read_number(cell, self._decimal)
        if value is not None:
            return value
        return math.nan if self.missing != "error" and is_missing(cell) else math.inf

    def _fault(self, place: int, number: int, value: Any) -> str:  # noqa: ARG002
        cell = next(cells[number - 1] for line, cells in self.cells() if line == place)
        what = fault(cell, self._decimal)
        if is_word(cell) and place == self._head:
            what += "; if this line names the columns, say so (--header)"
        elif is_word(cell) and place == self._start:
            what += f"; if the line is no row, skip it (--skip-lines {place}-{place})"
        return what


def _by_start(found: dict[bytes, str], start: bytes) -> str:
    return next((what for magic, what in found.items() if start.startswith(magic)), "")


def _count_cells(line: str, delimiter: str | None) -> int:
    """Count the cells of a line in which every quote is closed."""
    return len((_QUOTED.sub("q", line) if '"' in line else line).split(delimiter))


def _find_delimiter(sample: Sequence[str], decimal: str | None) -> str:
    """Choose the delimiter on which the lines agree; semicolons first, for 3,6;79 has both."""
    marks = [mark for mark in (";", "\t", ",") if mark != decimal]
    counts = {mark: [_count_cells(line, mark) for line in sample] for mark in marks}
    for mark in marks:
        if len(set(counts[mark])) == 1 and counts[mark][0] > 1:
            return mark
    if not any(mark in line for line in sample for mark in marks if mark != "\t"):
        words = [_count_cells(line, None) for line in sample]
        if len(set(words)) == 1:
            return " "
        if set(words[1:]) == {1}:  # one column, whose name has spaces in it
            return marks[-1]
    best = max(marks, key=lambda mark: sum(count > 1 for count in counts[mark]))
    return best if max(counts[best], default=1) > 1 else " "
