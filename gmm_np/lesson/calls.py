"""Calls of a learner's functions, and what comes of them as JSON.

Run as a process of its own by learner.py. It answers a line of JSON with others, and nothing of
them is executed where they are read.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np.lesson.exercise_set import PARTS, Part
from gmm_np.lesson.second_exercises import SECOND_PARTS
from gmm_np.lesson.third_exercises import THIRD_PARTS

__all__ = ["NO_EXIT", "Reply", "call", "main"]

_MOST: Final = 10**5  # entries of an output; those that are asked for have 36 at most
_ALL_PARTS: Final = {**PARTS, **SECOND_PARTS, **THIRD_PARTS}
NO_EXIT: Final = "Look for exit, quit, sys.exit or os._exit, and take it out."
_PRINTED: Final = 2000  # characters of what a function prints


class Reply(NamedTuple):
    """What came of the calls of a function.

    Attributes
    ----------
    answers : list of list of ndarray
        The outputs of each call.
    verdict : {"", "missing", "wrong"}
        Not empty if there are no answers.
    kind, text : str
        As in a finding.
    used : list of str
        Functions that the right ones stood in for, and that were called.
    printed : str
        What the first call printed, or its beginning.
    """

    answers: list[list[Any]]
    verdict: str = ""
    kind: str = ""
    text: str = ""
    used: Sequence[str] = ()
    printed: str = ""


class _NoAnswerError(Exception):
    """Verdict, text and kind of a function that gave nothing to compare."""


def call(part: Part, names: dict[str, Any], right: Sequence[str] = ()) -> Reply:
    """Call a function of a namespace; those in `right` are the reference's meanwhile."""
    function, used = names.get(part.name), dict[str, None]()
    if function is None:
        return Reply([], "missing", text="There is no function of this name.")
    if not callable(function):
        return Reply([], "wrong", text=f"{part.name} is not a function.")
    kept = {name: names[name] for name in right if name in names}
    names.update((name, _right(_ALL_PARTS[name], used)) for name in right)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            answers = list(_answers(part, function))
        return Reply(answers, used=list(used))
    except _NoAnswerError as error:
        verdict, text, *kind = error.args
        return Reply([], verdict, "".join(kind), text, list(used))
    finally:
        for name in right:
            names.pop(name, None)
        names.update(kept)


def _right(part: Part, used: dict[str, None]) -> Callable[..., Any]:
    def function(*arguments: Any) -> Any:
        used[part.name] = None
        outputs = part.solution(*arguments)
        return outputs if len(outputs) > 1 else outputs[0]

    return function


def _answers(part: Part, function: Callable[..., Any]) -> Iterator[list[Any]]:
    for number, arguments in enumerate(part.cases()):
        given = deepcopy(arguments)
        # What it prints is shown once.
        output = _Printing() if number else sys.stdout
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                answer = function(*given)
        except NotImplementedError:
            raise _NoAnswerError("missing", "Not written yet.") from None
        except BaseException as error:  # whatever it raises is told, not passed on
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"line {where.lineno} of {where.filename}"
            text = " ".join(f"It raises {type(error).__name__}: {error} ({place}).".split())
            if isinstance(error, SystemExit):
                raise _NoAnswerError("wrong", f"{text} {NO_EXIT}", "exit") from None
            raise _NoAnswerError("wrong", text) from None
        if not all(map(np.array_equal, arguments, given)):
            raise _NoAnswerError("wrong", "It changes its arguments: work on copies.")
        if answer is None:
            raise _NoAnswerError("missing", f"It returns nothing: end it with {_returning(part)}.")
        yield _outputs(part, answer)


def _returning(part: Part) -> str:
    return f"return {', '.join(part.output_names)}"


def _outputs(part: Part, answer: Any) -> list[Any]:
    outputs = answer if isinstance(answer, tuple) else (answer,)
    if len(outputs) != len(part.outputs):
        kind = type(answer).__name__
        size = f" of shape {answer.shape}" if hasattr(answer, "shape") else ""
        if isinstance(answer, (tuple, list, dict, set)):
            size = f" of {len(answer)}"
        raise _NoAnswerError(
            "wrong",
            f"It returns a {kind}{size}; wanted is {'a tuple of ' if len(part.outputs) > 1 else ''}"
            f"{', '.join(part.outputs)}: {_returning(part)}.",
        )
    arrays: list[Any] = []
    for name, output in zip(part.output_names, outputs, strict=True):
        try:
            array = np.asarray(output)
        except (TypeError, ValueError):
            array = np.asarray(None)
        if array.dtype.kind not in "biuf":
            kind = type(output).__name__
            text = f"{name} is a {kind}; it has to be a number or an array of numbers."
            raise _NoAnswerError("wrong", text)
        if array.size > _MOST:
            text = f"{name} has the shape {array.shape}; expected is {part.outputs[len(arrays)]}."
            raise _NoAnswerError("wrong", text)
        arrays.append(array.astype(np.float64))
    return arrays


# --- the process --------------------------------------------------------------------------------


class _Printing(io.TextIOBase):
    """What a learner prints, sent on as it comes as far as `left` allows."""

    def __init__(self, send: Callable[..., None] = lambda **_: None) -> None:
        self.send, self.left = send, 0

    def writable(self) -> bool:
        """Whether it can be written to, as print asks."""
        return True

    def write(self, text: str) -> int:
        """Send on the beginning of all that is written."""
        if self.left > 0:
            self.send(printed=text[: self.left])
            self.left -= len(text)
        return len(text)


def main(path: str, timeout: float) -> None:
    """Run a file, and call its functions, as stdin says: in the first line is what the file holds.

    Answers go where stdout went, in lines of JSON: of what is printed, ``{"printed": ...}``, and at
    the end ``{"failed": ...}`` or the members of a `Reply`. Python's own report on a time-out or a
    crash, which names the line, goes there too.
    """
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    channel = os.dup(1)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")

    def send(**members: Any) -> None:
        answers.write(json.dumps(members) + "\n")
        answers.flush()

    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):  # input() finds an end, and no other program's output gets in
        os.dup2(nothing, descriptor)
    printing = _Printing(send)
    sys.stdout = sys.stderr = printing
    faulthandler.enable(channel)

    def timed(work: Callable[[], dict[str, Any]]) -> None:
        printing.left = _PRINTED
        faulthandler.dump_traceback_later(timeout, exit=True, file=channel)
        members = work()
        faulthandler.cancel_dump_traceback_later()
        send(**members)

    names: dict[str, Any] = {"__name__": "exercises", "__file__": path}
    sys.path.insert(0, str(Path(path).resolve().parent))
    # As the parent read it: the file may change before the process is started again.
    source = json.loads(requests.readline()).encode("latin-1")
    timed(partial(_run, path, source, names))
    for line in requests:
        request = json.loads(line)
        timed(partial(_called, _ALL_PARTS[request["part"]], names, request["right"]))


def _run(path: str, source: bytes, names: dict[str, Any]) -> dict[str, Any]:
    try:
        exec(compile(source, path, "exec"), names)
    except SyntaxError as error:
        return {"failed": f"{path}, line {error.lineno}: {error.msg}.", "kind": ""}
    except BaseException as error:
        own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
        line = f", line {own[-1].lineno}" if own else ""
        kind = "exit" if isinstance(error, SystemExit) else ""
        return {"failed": f"{path}{line}: {type(error).__name__}: {error}", "kind": kind}
    return {"failed": "", "kind": ""}


def _called(part: Part, names: dict[str, Any], right: Sequence[str]) -> dict[str, Any]:
    reply = call(part, names, right)
    answers = [[(a.shape, a.ravel().tolist()) for a in outputs] for outputs in reply.answers]
    return {**reply._asdict(), "answers": answers}
