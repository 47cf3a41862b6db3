"""Tables of numbers from files: CSV and its kin, `.npy` and `.npz`.

Text is read twice at most. NumPy's C reader goes first; only where it gives up does `_read_exactly`
go through the cells with `float`, to return what only `float` takes, or to say where the fault is.
Lines and columns are counted from 1. Letters in shapes: N rows, D columns.
"""

from __future__ import annotations

import csv
import math
import operator
import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["TableError", "read_table"]

_SAMPLE_LINES: Final = 20  # on which the delimiter is decided
# Words for a missing number: a first row that holds one is not a header for that.
_MISSING: Final = frozenset({"", "na", "n/a", "null", "none"})
_SEPARATED_BY: Final = {",": "commas", ";": "semicolons", "\t": "tabs", None: "white space"}
_QUOTED: Final = re.compile(r'"[^"]*"')
_QUOTED_OR_WORD: Final = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
_DECIMAL_COMMA: Final = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")
_STRAY_BYTE: Final = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of one


class TableError(ValueError):
    """A file that is not a table of numbers: one line with the place and the remedy."""


def read_table(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str | int] | None = None,
    delimiter: str | None = None,
) -> tuple[NDArray[np.float64], list[str]]:
    """Read a table of finite numbers from a text file, a `.npy` or a `.npz` file.

    Parameters
    ----------
    path : str or path-like
        A `.npy` file must hold a numeric array [N, D]; a `.npz` file exactly one, or one named
        ``x``. Any other file is UTF-8 text: blank lines and lines that start with ``#`` are
        skipped, cells may be in double quotes, and a first line with any cell that is not a
        number is the header (so that a table with a column of words needs a header).
    columns : sequence of str or int, optional
        Columns to read, in this order, by name or by number from 1; all by default. An int is
        always a number; a str is a name first. Columns left out may hold anything.
    delimiter : str, optional
        The character between cells, ``" "`` for any run of white space. By default semicolon,
        tab, comma or white space, whichever the first lines agree on.

    Returns
    -------
    values : ndarray of float64, shape [N, D]
        Each number exactly as ``float`` reads it.
    names : list of str, length D
        From the header; without one ``"1"``, ``"2"``, ... by the columns' place in the file.

    Raises
    ------
    TableError
        If the file cannot be read, or is not a table of finite numbers.
    """
    file = Path(path)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"#\r\n'):
        raise _error(file, f"delimiter={delimiter!r} cannot separate cells; name one character")
    try:
        mode = file.stat().st_mode
        if stat.S_ISDIR(mode):
            raise _error(file, "is a directory; name a file in it")
        if not stat.S_ISREG(mode):  # a pipe cannot be read a second time
            raise _error(file, "is not a regular file; write the data to a file first")
        if file.suffix.lower() in (".npy", ".npz"):
            return _read_array(file, columns)
        return _read_text(file, columns, delimiter)
    except FileNotFoundError:
        raise _error(file, f"no such file; relative paths start from {Path.cwd()}") from None
    except PermissionError:
        raise _error(file, "no permission to read it; change its mode or its owner") from None
    except OSError as error:
        raise _error(file, f"cannot be read ({error.strerror}); try a local copy") from None


def _read_text(
    file: Path, columns: Sequence[str | int] | None, delimiter: str | None
) -> tuple[NDArray[np.float64], list[str]]:
    with _open_leniently(file) as stream:
        if delimiter is None:
            delimiter = _sniff([line for _, line in islice(_lines(file, stream), _SAMPLE_LINES)])
            stream.seek(0)
        elif delimiter == " ":
            delimiter = None
        records = _records(file, stream, delimiter)
        first, second = next(records, None), next(records, None)
    if first is None:
        raise _error(file, "is empty: no line of it holds a cell; write one row a line")
    head, cells = first
    if any(not _is_number(cell) and cell.strip().lower() not in _MISSING for cell in cells):
        if second is None:
            raise _error(file, "a header and no rows; add the data below it", f"line {head}")
        names = [cell.strip() or str(j) for j, cell in enumerate(cells, start=1)]
        start = second[0]
    else:
        names = [str(j) for j in range(1, len(cells) + 1)]
        start = head
    picks = None if columns is None else _pick(file, columns, names)
    values = _read_fast(file, delimiter, start, len(names), picks)
    if picks is None:
        picks = list(range(len(names)))
    if values is None:
        values = _read_exactly(file, delimiter, head, start, names, picks)
    return values, [names[j] for j in picks]


def _open_leniently(file: Path) -> TextIO:
    # Stray bytes become surrogates, so that `_lines` can say in which line they are.
    return file.open(encoding="utf-8-sig", errors="surrogateescape")


def _holds_cells(line: str) -> bool:
    return line.lstrip()[:1] not in ("", "#")


def _lines(file: Path, stream: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Each line that holds cells, with its number."""
    for number, line in enumerate(stream, start=1):
        if not line.isascii() and (stray := _STRAY_BYTE.search(line)):
            what = f"byte 0x{ord(stray[0]) - 0xDC00:02x} is not UTF-8; save the file as UTF-8"
            raise _error(file, what, f"line {number}")
        if _holds_cells(line):
            yield number, line


def _records(
    file: Path, stream: Iterable[str], delimiter: str | None
) -> Iterator[tuple[int, list[str]]]:
    """Each row as cells of text, with the number of the line on which it starts."""
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
        raise _error(file, what, f"line {numbers[0]}") from None


def _count_cells(line: str, delimiter: str | None) -> int:
    return len((_QUOTED.sub("q", line) if '"' in line else line).split(delimiter))


def _sniff(sample: Sequence[str]) -> str | None:
    """Choose the delimiter on which the lines agree; semicolons first, for 3,6;79 has both."""
    marks = (";", "\t", ",")
    counts = {mark: [_count_cells(line, mark) for line in sample] for mark in (*marks, None)}
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


def _read_fast(
    file: Path, delimiter: str | None, start: int, width: int, picks: list[int] | None
) -> NDArray[np.float64] | None:
    """Values [N, D] by NumPy's C reader, or None if it refuses them or they are not finite."""

    def lines(stream: TextIO) -> Iterator[str]:
        for line in islice(stream, start - 1, None):
            if _holds_cells(line):
                # loadtxt would join lines at an open quote, and with usecols take any length.
                if line.count('"') % 2 or (picks and _count_cells(line, delimiter) != width):
                    raise ValueError
                yield line

    try:
        with file.open(encoding="utf-8-sig") as stream:
            values = np.loadtxt(
                lines(stream),
                delimiter=delimiter,
                comments=None,
                quotechar='"',
                usecols=picks,
                ndmin=2,
            )
    except ValueError:  # UnicodeDecodeError is one
        return None
    fits = values.shape[1] == (width if picks is None else len(picks))
    return values if fits and np.isfinite(values).all() else None


def _read_exactly(
    file: Path, delimiter: str | None, head: int, start: int, names: list[str], picks: list[int]
) -> NDArray[np.float64]:
    """Values [N, D] cell by cell; raises TableError at the first fault."""
    values = array("d")
    with _open_leniently(file) as stream:
        for line, cells in _records(file, stream, delimiter):
            if line < start:
                continue
            if len(cells) != len(names):
                separated = _SEPARATED_BY.get(delimiter, repr(delimiter))
                what = (
                    f"the number of cells (separated by {separated}) is {len(cells)} where line "
                    f"{head} has {len(names)}, got {_short((delimiter or ' ').join(cells))}; make "
                    "all lines equally long, or name the delimiter"
                )
                raise _error(file, what, f"line {line}")
            for j in picks:
                value = float(cells[j]) if _is_number(cells[j]) else math.nan
                if not math.isfinite(value):
                    column = f"column {j + 1} ({_short(names[j])})"
                    raise _error(file, _fault(cells[j]), f"line {line}", column)
                values.append(value)
    return np.array(values).reshape(-1, len(picks))


def _fault(cell: str) -> str:
    if not cell.strip():
        return "the cell is empty; fill it in or drop the row"
    if _is_number(cell):
        return f"{_short(cell)} is not a finite number; mend it or drop the row"
    if _DECIMAL_COMMA.fullmatch(cell):
        return f"{_short(cell)} is not a number; write decimals with a point"
    return f"{_short(cell)} is not a number; mend it, drop the row, or choose other columns"


def _read_array(
    file: Path, columns: Sequence[str | int] | None
) -> tuple[NDArray[np.float64], list[str]]:
    found = _load(file)
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub":
        kind = f"dtype {found.dtype}" if isinstance(found, np.ndarray) else type(found).__name__
        raise _error(file, f"holds no array of real numbers, got {kind}; save floats")
    if found.ndim != 2:
        remedy = "array.reshape(-1, 1)" if found.ndim == 1 else "one row a sample"
        raise _error(file, f"must have two axes [N, D], got shape {found.shape}; save {remedy}")
    if found.size == 0:
        raise _error(file, f"is empty, got shape {found.shape}; save one row a sample")
    names = [str(j) for j in range(1, found.shape[1] + 1)]
    picks = list(range(len(names))) if columns is None else _pick(file, columns, names)
    with np.errstate(over="ignore"):  # a long double beyond float64 is refused just below
        values = np.ascontiguousarray(found if columns is None else found[:, picks], np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        row, j = (int(i) for i in np.argwhere(~finite)[0])
        what = f"{values[row, j]} is not a finite number; mend it or drop the row"
        raise _error(file, what, f"row {row + 1}", f"column {names[picks[j]]}")
    return values, [names[j] for j in picks]


def _load(file: Path) -> Any:
    """Whatever a NumPy file holds, short of pickles: those could run code."""
    with file.open("rb") as stream:
        try:
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            held = found.files
            if len(held) == 1 or "x" in held:
                return found["x" if "x" in held else held[0]]
        except Exception as error:  # what a damaged file raises has no one class
            what = "is damaged, or not a NumPy file; save it again with np.save or np.savez"
            if "Object arrays" in str(error):
                what = "holds a pickled object array, which is not safe to load; save floats"
            raise _error(file, what) from None
    what = f"must hold one array, or one named 'x', got {len(held)}: {_listed(held) or 'none'}"
    raise _error(file, f"{what}; save one")


def _pick(file: Path, columns: Sequence[str | int], names: list[str]) -> list[int]:
    """Places, from 0, of the columns asked for."""
    wanted = [columns] if isinstance(columns, str) else list(columns)
    if not wanted:
        raise _error(file, "columns is an empty list; name a column, or leave columns out")
    return [_find(file, column, names) for column in wanted]


def _find(file: Path, column: str | int, names: list[str]) -> int:
    if isinstance(column, str):
        same = [j for j, name in enumerate(names) if name == column.strip()]
        if len(same) == 1:
            return same[0]
        if same:
            what = f"{len(same)} columns are named {_short(column)}; use the number from 1"
            raise _error(file, what)
        number = int(column) if re.fullmatch(r"\s*[0-9]{1,9}\s*", column) else 0
    else:
        number = operator.index(column)
    if not 1 <= number <= len(names):
        raise _error(file, f"no column {_short(column)}; choose among {_listed(names)}")
    return number - 1


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _error(file: Path, what: str, *place: str) -> TableError:
    path = str(file) if str(file).isprintable() else repr(str(file))
    return TableError(f"{', '.join((path, *place))}: {what}")


def _short(value: object) -> str:
    text = repr(value[:50] if isinstance(value, str) else value)
    return text if len(text) <= 40 else text[:37] + "..."


def _listed(names: Sequence[str]) -> str:
    shown = [f"{_short(name)} ({j})" for j, name in enumerate(names[:20], start=1)]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
