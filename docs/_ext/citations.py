"""Where the code cites the equations of docs/derivation.md: numbers, files and lines.

It needs nothing but Python: the tests of the derivation use it, and `source_pages.py`, which links
both ways on the site.
"""

from __future__ import annotations

import ast
import doctest
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TAG = re.compile(r"\\tag\{(\d+)\}")

_NUMBER = re.compile(r"(?<![\w)\]}])\((\d{1,3})\)")
_RANGE = re.compile(r"\((\d{1,3})\) ?(?:to|through|-|–) ?\((\d{1,3})\)")
_IN_WORDS = re.compile(r"[Ee]q(?:uation)?s?\.? \(?(\d{1,3}(?:, ?\d{1,3})*)\b")


class Text(NamedTuple):
    """A run of comment lines, or a docstring without its examples, as one line of text."""

    text: str
    starts: tuple[int, ...]  # where in the text each of its lines begins
    first: int  # the line of the file, from 1

    def line_of(self, position: int) -> int:
        """Return the line of the file at a position in the text."""
        return self.first + sum(start <= position for start in self.starts) - 1


def _text(lines: list[str], first: int) -> Text:
    lines = [" ".join(line.split()) for line in lines]
    starts = accumulate((len(line) + 1 for line in lines[:-1]), initial=0)
    return Text(" ".join(lines), tuple(starts), first)


def texts(source: str) -> Iterator[Text]:
    """Yield what a module says in words: runs of comments, then docstrings."""
    run: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if run and token.start[0] != last + 1:
            yield _text(run, last + 1 - len(run))
            run = []
        run.append(token.string.lstrip("#"))
        last = token.start[0]
    if run:
        yield _text(run, last + 1 - len(run))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                yield _text(_without_examples(docstring), node.body[0].lineno)


def _without_examples(docstring: str) -> list[str]:
    """Return the lines of a docstring, empty where there is code or what it prints."""
    text = ""
    for piece in doctest.DocTestParser().parse(docstring):
        if isinstance(piece, str):
            text += piece
        else:
            text += "\n" * (piece.source.count("\n") + piece.want.count("\n"))
    return text.split("\n")


def cited_at(text: str) -> Iterator[tuple[int, int]]:
    """Yield number and position of each: (7), (17) to (21), equation 7, equations (20, 21)."""
    for match in _NUMBER.finditer(text):
        yield int(match[1]), match.start()
    for match in _RANGE.finditer(text):
        yield from ((n, match.start()) for n in range(int(match[1]), int(match[2]) + 1))
    for match in _IN_WORDS.finditer(text):
        yield from ((int(n), match.start()) for n in match[1].split(","))


def cited(text: str) -> set[int]:
    """Return the numbers of the equations that a text cites."""
    return {number for number, _ in cited_at(text)}


def citations(source: str) -> set[tuple[int, int]]:
    """Return number and line of each citation in a module."""
    return {
        (number, text.line_of(position))
        for text in texts(source)
        for number, position in cited_at(text.text)
    }


def cited_in_package() -> dict[int, dict[str, list[int]]]:
    """Return the lines that cite each equation, by path from the root of the repository."""
    found: dict[int, dict[str, list[int]]] = {}
    # The reference first: it is the text beside which the derivation is read.
    first = ROOT / "gmm_np" / "reference.py"
    paths = sorted((ROOT / "gmm_np").rglob("*.py"), key=lambda path: (path != first, path))
    for path in paths:
        for number, line in sorted(citations(path.read_text(encoding="utf-8"))):
            lines = found.setdefault(number, {})
            lines.setdefault(path.relative_to(ROOT).as_posix(), []).append(line)
    return found
