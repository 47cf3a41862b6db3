"""What the reference computes, recorded while it runs, and what its source says of it.

Letters in shapes: K components.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import numpy as np

from gmm_np import reference
from gmm_np.checks import FloatArray

__all__ = ["Notes", "Record", "notes_on", "record"]

T = TypeVar("T")


# --- what the reference computed ----------------------------------------------------------------


@dataclass
class Record:
    """A local variable of a function of the reference, as it was when the function returned."""

    function: str
    caller: str
    name: str
    component: int | None
    value: FloatArray
    # Where else the same array is: functions, and what it is called there.
    aliases: list[tuple[str, str]] = field(default_factory=list)


def record(run: Callable[[], T]) -> tuple[T, list[Record]]:
    """Run something; return its result, and the numeric local variables of the reference.

    Arguments of functions are left out, since they are variables of their callers, and so is what
    is only unpacked from a cache. An array that comes back under another name is one record.
    """
    records: list[Record] = []
    seen: dict[int, tuple[Any, Record]] = {}  # the object is kept, so that its id stays its own

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "return" or code.co_filename != reference.__file__ or code.co_name[0] == "<":
            return
        caller = frame.f_back.f_code.co_name if frame.f_back else ""
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        skip = {*arguments, *notes_on(code.co_name).unpacked}
        for name, held in frame.f_locals.items():
            for label, item, value in _arrays(name, held) if name not in skip else ():
                known = seen.get(id(item))
                if known is not None and np.array_equal(known[1].value, value):
                    known[1].aliases.append((code.co_name, label))
                    continue
                entry = Record(code.co_name, caller, label, _component(frame), value.copy())
                seen[id(item)] = (item, entry)
                records.append(entry)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        result = run()
    finally:
        sys.setprofile(before)
    return result, records


def _arrays(name: str, held: object) -> Iterator[tuple[str, object, FloatArray]]:
    """Yield the real numbers that a variable holds: label, object, and array."""
    if isinstance(held, list) and held and all(isinstance(v, np.ndarray) for v in held):
        yield name, held, np.stack(held)
    elif isinstance(held, tuple) and not hasattr(held, "_fields"):
        for i, item in enumerate(held):
            yield from _arrays(f"{name}[{i}]", item)
    elif isinstance(held, float | np.floating | np.ndarray):
        value = np.asarray(held)
        if value.dtype == np.float64:
            yield name, held, value


def _component(frame: FrameType | None) -> int | None:
    """Return k of the loop over components that a call stands in."""
    inside = False
    while frame is not None and frame.f_code.co_filename == reference.__file__:
        if inside and frame.f_code.co_name.startswith("nll_"):
            return int(frame.f_locals["k"])
        inside = inside or frame.f_code.co_name.startswith("log_density_")
        frame = frame.f_back
    return None


# --- what its source says -----------------------------------------------------------------------


class Notes(NamedTuple):
    """What the source of a function says of its variables."""

    equations: dict[str, list[int]]  # cited by the lines that make a variable
    lines: dict[str, str]  # the first of these lines
    unpacked: set[str]  # variables that come out of the cache


_NOTES: dict[str, Notes] = {}


def notes_on(function: str) -> Notes:
    """Return what the source of the reference says of a function's variables."""
    if not _NOTES:
        try:
            source = inspect.getsource(reference)
        except OSError as error:
            raise OSError(
                "the walk reads equation numbers from the source of gmm_np/reference.py, which is "
                "not there. Install the package with its sources."
            ) from error
        _NOTES.update(_read_notes(source))
    return _NOTES[function]


def _read_notes(source: str) -> dict[str, Notes]:
    comments = {
        token.start[0]: (token.string, token.line.lstrip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for function in ast.parse(source).body:
        if not isinstance(function, ast.FunctionDef):
            continue
        notes = Notes({}, {}, set())
        for node in ast.walk(function):
            names = _made_by(node)
            if not names or not isinstance(node, ast.stmt):
                continue
            last = node.end_lineno or node.lineno
            text = [comments[n][0] for n in range(node.lineno, last + 1) if n in comments]
            above = node.lineno - 1
            while above in comments and comments[above][1]:
                text.append(comments[above][0])
                above -= 1
            cited = [int(n) for n in re.findall(r"\((\d{1,3})\)", " ".join(text))]
            for name in names:
                numbers = notes.equations.setdefault(name, [])
                if not numbers and (cited or name not in notes.lines):
                    notes.lines[name] = ast.unparse(node)
                numbers += [n for n in cited if n not in numbers]
            if isinstance(node, ast.Assign) and ast.unparse(node.value) == "cache":
                notes.unpacked.update(names)
        found[function.name] = notes
    return found


def _made_by(node: ast.AST) -> list[str]:
    """Return the variables that a statement makes or changes."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        targets = node.value.args[:1]  # np.put_along_axis(others, ...)
    parts = [p for t in targets for p in (t.elts if isinstance(t, ast.Tuple) else [t])]
    bases = [p.value if isinstance(p, ast.Subscript) else p for p in parts]
    return [base.id for base in bases if isinstance(base, ast.Name)]
