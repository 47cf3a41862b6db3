"""Calls of a learner's functions, and what comes of them."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np.lesson.exercise_set import EXERCISES, Part

__all__ = ["NO_EXIT", "Reply", "call"]

PARTS: Final = {part.name: part for exercise in EXERCISES for part in exercise.parts}
_MOST: Final = 10**5  # entries of an output; those that are asked for have 36 at most
NO_EXIT: Final = "Look for exit, quit, sys.exit or os._exit, and take it out."


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
    """

    answers: list[list[Any]]
    verdict: str = ""
    kind: str = ""
    text: str = ""
    used: Sequence[str] = ()


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
    names.update((name, _right(PARTS[name], used)) for name in right)
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
    for arguments in part.cases():
        given = deepcopy(arguments)
        try:
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
