"""What is wrong with a file, in one line: the path, the place, the fault, the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class File:
    """A file, and what messages call it: by default its path."""

    path: Path
    name: str = ""

    def __str__(self) -> str:
        return self.name or str(self.path)


class TableError(ValueError):
    """A file that is not a table of numbers: one line with the place and the remedy."""


def table_error(file: File | Path, what: str, *place: str) -> TableError:
    """Return the error that says `what` is wrong at a place of the file."""
    path = str(file) if str(file).isprintable() else repr(str(file))
    return TableError(f"{', '.join((path, *place))}: {what}")


def short(value: object) -> str:
    """Return the value as it is written in a message, at most 40 characters."""
    text = repr(value[:50] if isinstance(value, str) else value)
    return text if len(text) <= 40 else text[:37] + "..."


def listed(names: Sequence[str]) -> str:
    """Return the first twenty names, each with its number from 1."""
    shown = [f"{short(name)} ({j})" for j, name in enumerate(names[:20], start=1)]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
