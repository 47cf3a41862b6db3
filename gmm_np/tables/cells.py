"""What a cell of text is: a number, a mark of a missing value, or a word.

The grammar of numbers is our own and narrower than Python's: for `float` ``1_2`` is a number too,
and so are digits of every script.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from gmm_np.tables.errors import short

Read = Callable[[str], "float | None"]

# What stands for a missing value; cells without a letter or a digit, and <0.1, do so as well.
_MARKS: Final = frozenset(
    [
        *("na", "nan", "-nan", "+nan", "n/a", "n.a.", "n.a", "nd", "n.d.", "n.d", "null", "none"),
        *("nil", "missing", "<na>", "#n/a", "#na", "#div/0!", "#value!", "#ref!", "#num!"),
        *("#name?", "#null!", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
    ]
)
_LIMIT: Final = re.compile(r"[<>≤≥]=?\s*[0-9][0-9.,]*")
_RANGE: Final = re.compile(r"\s*([0-9]{1,6})\s*-\s*([0-9]{1,6})\s*")
_NAN: Final = re.compile(r"[+-]?nan", re.IGNORECASE | re.ASCII)


def is_missing(cell: str) -> bool:
    """Whether the cell is empty, or a mark of a missing value."""
    text = cell.strip()
    if text.lower() in _MARKS or not any(map(str.isalnum, text)):
        return True
    return _LIMIT.fullmatch(text) is not None


def number_reader(decimal: str | None) -> Read:
    """Return the function from a cell to its number, infinite where that says so, or to None.

    With a decimal mark, the other mark, a space or an apostrophe may stand between groups of three
    digits.
    """
    mark, digits = re.escape(decimal or "."), "[0-9]+"
    if decimal is not None:
        other = "." if decimal == "," else ","
        group = rf"[{other}'’ \u00a0\u2009\u202f]"
        digits = (
            rf"(?:[0-9]{{1,3}}(?:(?P<group>{group})[0-9]{{3}})(?:(?P=group)[0-9]{{3}})*|[0-9]+)"
        )
    number = re.compile(
        rf"[+-]?(?:(?:{digits}(?:{mark}[0-9]*)?|{mark}[0-9]+)(?:[eE][+-]?[0-9]+)?|"
        r"(?i:inf(?:inity)?))",
        re.ASCII,
    )

    def read(cell: str) -> float | None:
        text = cell.strip()
        found = number.fullmatch(text)
        if found is None:
            return None
        if decimal is not None:
            text = text.replace(found["group"] or " ", "").replace(decimal, ".")
        return float(text)

    return read


_NOTATIONS: Final = [number_reader(decimal) for decimal in (None, ",", ".")]


def is_word(cell: str) -> bool:
    """Whether the cell is neither a mark nor a number, in whatever notation."""
    return not is_missing(cell) and all(read(cell) is None for read in _NOTATIONS)


def are_row_names(cells: Sequence[str]) -> bool:
    """Whether these are no values: they count the rows from 0 or 1, or are words."""
    if all(map(is_word, cells)):
        return bool(cells)
    return [cell.strip() for cell in cells] in (
        [str(first + i) for i in range(len(cells))] for first in (0, 1)
    )


def read_range(text: str) -> range | None:
    """Return the whole numbers of a range as 2-5, none of 5-2; None if it is no range."""
    found = _RANGE.fullmatch(text)
    return range(int(found[1]), int(found[2]) + 1) if found else None


def fault(cell: str, decimal: str | None) -> str:
    """Return what is wrong with a cell that is no finite number, and what helps."""
    text, shown = cell.strip(), short(cell)
    if not text:
        return "the cell is empty; fill it in or drop the row (--missing drop)"
    if is_missing(cell):
        what = "finite number" if _NAN.fullmatch(text) else "number"
        return f"{shown} is not a {what}; mend it or drop the row (--missing drop)"
    if number_reader(decimal)(cell) is not None:
        return f"{shown} is not a finite number; mend it or drop the row"
    if not is_word(cell):
        if decimal is not None:
            return f"{shown} is not a number where the decimal mark is {decimal!r} (--decimal)"
        return (
            f"{shown} is not a number; write decimals with a point and thousands without a mark, "
            "or name the decimal mark: --decimal . or --decimal ,"
        )
    return f"{shown} is not a number; mend it, drop the row, or choose other columns"
