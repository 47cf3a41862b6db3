"""What is right in an answer to an exercise, what is missing, and what a wrong one looks like."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np.lesson.exercise_set import EXERCISES, Part
from gmm_np.lesson.known_mistakes import KNOWN, Mistake, general
from gmm_np.lesson.mistake import REDUCTION

__all__ = ["Finding", "grade", "grade_part"]

_TOLERANCE: Final = 1e-9  # answers are right to rounding; wrong forms are off in the first digits
_SEEDS: Final = (1, 2, 3)


class Finding(NamedTuple):
    """The verdict on one function.

    Attributes
    ----------
    part : Part
    verdict : {"right", "missing", "wrong"}
    kind : str
        Of a wrong answer: "a sign", "a transpose", "a missing term", "a wrong reduction",
        "a factor of two", "an upper triangle", "overflow", or "" if it looks like none of them.
    text : str
        One sentence.
    """

    part: Part
    verdict: str
    kind: str = ""
    text: str = ""


def grade(names: Mapping[str, Any]) -> Iterator[tuple[str, Finding]]:
    """Judge all functions that are looked up by name; yield exercise and finding of each."""
    for exercise in EXERCISES:
        for part in exercise.parts:
            yield exercise.title, grade_part(part, names.get(part.name))


def grade_part(part: Part, function: Any) -> Finding:
    """Judge one function."""
    if function is None:
        return Finding(part, "missing", text="There is no function of this name.")
    if not callable(function):
        return Finding(part, "wrong", text=f"{part.name} is not a function.")
    answers = []
    for seed in _SEEDS:
        arguments = part.draw(np.random.default_rng(seed))
        answer = _ask(part, function, arguments)
        if isinstance(answer, Finding):
            return answer
        answers.append((arguments, answer, part.solution(*deepcopy(arguments))))
    for place in range(len(part.outputs)):
        finding = _compare(part, place, answers)
        if finding is not None:
            return finding
    if part.extreme is not None:
        finding = _at_the_edge(part, function, part.extreme())
        if finding is not None:
            return finding
    return Finding(part, "right")


def _ask(part: Part, function: Callable[..., Any], arguments: Any) -> tuple[Any, ...] | Finding:
    """Call a function on copies; return its outputs, or what is wrong before any number."""
    given = deepcopy(arguments)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            answer = function(*given)
    except NotImplementedError:
        return Finding(part, "missing", text="Not written yet.")
    except Exception as error:  # whatever a learner's function raises is told, not passed on
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"line {where.lineno} of {where.filename}"
        text = f"It raises {type(error).__name__}: {error} ({place})."
        return Finding(part, "wrong", text=" ".join(text.split()))
    if not _unchanged(arguments, given):
        return Finding(part, "wrong", text="It changes its arguments: work on copies.")
    if answer is None:
        return Finding(part, "missing", text="It returns nothing.")
    outputs = answer if isinstance(answer, tuple) else (answer,)
    if len(outputs) != len(part.outputs):
        wanted = ", ".join(part.outputs)
        return Finding(
            part, "wrong", text=f"It returns {len(outputs)} outputs; expected are {wanted}."
        )
    try:
        return tuple(np.asarray(output, dtype=np.float64) for output in outputs)
    except (TypeError, ValueError):
        return Finding(part, "wrong", text="Its outputs have to be numbers or arrays of numbers.")


def _unchanged(left: Any, right: Any) -> bool:
    return all(map(np.array_equal, left, right))


def _compare(part: Part, place: int, answers: list[Any]) -> Finding | None:
    """Compare one output of all calls with the right ones, and then with the wrong ones."""
    name = part.output_names[place]
    if all(_equal(mine[place], right[place]) for _, mine, right in answers):
        return None
    for number in range(len(_mistakes(part, name, answers[0], place))):
        matches = []
        for answer in answers:
            mistake = _mistakes(part, name, answer, place)[number]
            matches.append(_matches(mistake, answer, place))
        if all(matches):
            text = f"{name} looks like {mistake.kind}: {mistake.what}."
            return Finding(part, "wrong", mistake.kind, text)
    _, mine, right = answers[0]
    found, wanted = mine[place], np.asarray(right[place])
    if found.shape != wanted.shape:
        text = f"{name} has the shape {found.shape}; expected is {wanted.shape}, "
        text += f"that is {part.outputs[place]}."
        if found.ndim == wanted.ndim:
            return Finding(part, "wrong", text=text)
        return Finding(part, "wrong", REDUCTION, f"{text} It looks like {REDUCTION}.")
    bad = np.argwhere(~(np.abs(found - wanted) <= _TOLERANCE * _size(wanted)))
    if not len(bad):
        return Finding(part, "wrong", text=f"{name} is wrong, for some arguments only.")
    where = tuple(int(i) for i in bad[0])
    index = f" at {list(where)}" if where else ""
    text = (
        f"{name}{index} is {found[where]:.6g}; expected is {wanted[where]:.6g}. It looks like no "
        "mistake known here."
    )
    return Finding(part, "wrong", text=text)


def _mistakes(part: Part, name: str, answer: Any, place: int) -> list[Mistake]:
    """Return what an output may be mistaken for, the specific before the general."""
    _, _, right = answer
    return [*KNOWN.get(f"{part.name}.{name}", []), *general(right[place])]


def _matches(mistake: Mistake, answer: Any, place: int) -> bool:
    arguments, mine, right = answer
    with np.errstate(all="ignore"):
        wrong = np.asarray(mistake.wrong(*deepcopy(arguments)), dtype=np.float64)
    return _equal(mine[place], wrong) and not _equal(wrong, right[place])


def _equal(left: Any, right: Any) -> bool:
    """Whether two outputs agree to rounding; shapes count, NaN agrees with nothing."""
    left, right = np.asarray(left), np.asarray(right)
    if left.shape != right.shape:
        return False
    return bool((np.abs(left - right) <= _TOLERANCE * _size(right)).all())


def _size(array: Any) -> float:
    return max(float(np.abs(array).max()), 1e-3)


def _at_the_edge(part: Part, function: Callable[..., Any], arguments: Any) -> Finding | None:
    """Look at arguments at which a formula that is right on paper is not so in doubles."""
    answer = _ask(part, function, arguments)
    if isinstance(answer, Finding):
        return answer
    right = part.solution(*deepcopy(arguments))
    for name, mine, wanted in zip(part.output_names, answer, right, strict=True):
        if not _equal(mine, wanted):
            text = (
                f"{name} is right for small numbers, and lost for large ones: an "
                "exponential overflows, or all of them vanish. Take the largest out first, as in "
                "(10)."
            )
            return Finding(part, "wrong", "overflow", text)
    return None
