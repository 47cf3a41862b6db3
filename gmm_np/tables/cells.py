"""What a cell of text is: a number, a mark of a missing value, or a word.

The grammar of numbers is our own and narrower than Python's: for `float` ``1_2`` is a number too,
and so are digits of every script.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

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
_REMEDY: Final = "--missing drop, or marginal to keep it"


def is_missing(cell: str) -> bool:
    """Whether the cell is empty, or a mark of a missing value."""
    text = cell.strip()
    return text.lower() in _MARKS or not any(map(str.isalnum, text)) or bool(_LIMIT.fullmatch(text))


@cache
def _notation(decimal: str | None) -> re.Pattern[str]:
    """Return what a number looks like; beside a decimal mark thousands may be separated."""
    group = rf"[{'.' if decimal == ',' else ','}'’ \u00a0\u2009\u202f]"
    grouped = rf"[0-9]{{1,3}}(?:(?P<group>{group})[0-9]{{3}})(?:(?P=group)[0-9]{{3}})*|[0-9]+"
    digits, mark = f"(?:{grouped})" if decimal else "[0-9]+", decimal or "."
    mantissa = rf"(?:{digits}(?:[{mark}][0-9]*)?|[{mark}][0-9]+)"
    return re.compile(rf"[+-]?(?:{mantissa}(?:[eE][+-]?[0-9]+)?|(?i:inf(?:inity)?))", re.ASCII)


def read_number(cell: str, decimal: str | None = None) -> float | None:
    """Return the number in a cell, infinite where that says so; None if it is none.

    With a decimal mark, the other mark, a space or an apostrophe may stand between groups of three
    digits.
    """
    text = cell.strip()
    found = _notation(decimal).fullmatch(text)
    if found is None:
        return None
    if decimal is not None:
        text = text.replace(found["group"] or " ", "").replace(decimal, ".")
    return float(text)


def is_word(cell: str) -> bool:
    """Whether the cell is neither a mark nor a number, in whatever notation."""
    numbers = (read_number(cell, decimal) for decimal in (None, ",", "."))
    return not is_missing(cell) and all(number is None for number in numbers)


def are_row_names(cells: Sequence[str]) -> bool:
    """Whether these are no values: they count the rows from 0 or 1, or are words."""
    counts = ([str(first + i) for i in range(len(cells))] for first in (0, 1))
    return bool(cells) and (all(map(is_word, cells)) or [cell.strip() for cell in cells] in counts)


def read_range(text: str) -> range | None:
    """Return the whole numbers of a range as 2-5, none of 5-2; None if it is no range."""
    found = _RANGE.fullmatch(text)
    return range(int(found[1]), int(found[2]) + 1) if found else None


def short(value: object) -> str:
    """Return the value as it is written in a message, at most 40 characters."""
    text = repr(value[:50] if isinstance(value, str) else value)
    return text if len(text) <= 40 else text[:37] + "..."


def not_finite(shown: str, *, missing: bool, what: str = "finite number") -> str:
    """Return that something is no number, and what helps."""
    return f"{shown} is not a {what}; mend it or drop the row" + f" ({_REMEDY})" * missing


def fault(cell: str, decimal: str | None) -> str:
    """Return what is wrong with a cell that is no finite number, and what helps."""
    text, shown = cell.strip(), short(cell)
    if not text:
        return f"the cell is empty; fill it in or drop the row ({_REMEDY})"
    if is_missing(cell):
        what = "finite number" if _NAN.fullmatch(text) else "number"
        return not_finite(shown, missing=True, what=what)
    if read_number(cell, decimal) is not None:
        return not_finite(shown, missing=False)
    if is_word(cell):
        return f"{shown} is not a number; mend it, drop the row, or choose other columns"
    if decimal is not None:
        return f"{shown} is not a number where the decimal mark is {decimal!r} (--decimal)"
    return (
        f"{shown} is not a number; write decimals with a point and thousands without a mark, or "
        "name the decimal mark: --decimal . or --decimal ,"
    )
