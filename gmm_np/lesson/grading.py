"""What is right in an answer to an exercise, what is missing, and what a wrong one looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np.lesson.calls import Reply
from gmm_np.lesson.exercise_set import EXERCISES, Exercise, Part
from gmm_np.lesson.whole import wrong_answers
from gmm_np.lesson.wrong_forms import REDUCTION, WrongForm

__all__ = ["Finding", "grade", "judge"]

Ask = Callable[[Part, Sequence[str]], Reply]

_TOLERANCE: Final = 1e-9  # answers are right to rounding; wrong forms are off in the first digits
_ENDS: Final = ("hang", "exit", "crash")
_SINGLE: Final = 1e-5  # what some steps in float32 leave


class Finding(NamedTuple):
    """The verdict on one function.

    Attributes
    ----------
    part : Part
    verdict : {"right", "missing", "wrong", "follows"}
        "follows" is a function that is right as soon as those that it calls are.
    kind : str
        Of a wrong answer: a kind of wrong_forms.py, "swapped outputs", "NaN", "infinity",
        "float32", "overflow", "hang", "exit" or "crash"; "" if it looks like none of them.
    text : str
        One or two sentences.
    hint : str
        Where to look.
    printed : str
        What the function printed when it was called first.
    """

    part: Part
    verdict: str
    kind: str = ""
    text: str = ""
    hint: str = ""
    printed: str = ""


def grade(ask: Ask, exercises: Sequence[Exercise] = EXERCISES) -> Iterator[tuple[str, Finding]]:
    """Judge all functions; yield exercise and finding of each.

    Parameters
    ----------
    ask : callable
        Called with a part and names of functions that the right ones stand in for meanwhile; calls
        the learner's function.
    exercises : sequence of Exercise
    """
    wrong: dict[str, Finding] = {}
    for exercise in exercises:
        for part in exercise.parts:
            # What ends its process would end it again for whatever calls it.
            reply = ask(part, [name for name, found in wrong.items() if found.kind in _ENDS])
            finding, printed = judge(part, reply), reply.printed
            if wrong and finding.verdict != "right" and finding.kind not in _ENDS:
                reply = ask(part, list(wrong))
                finding = _by_itself(finding, judge(part, reply), reply.used)
            elif finding.verdict == "right" and reply.used:
                finding = _by_itself(finding, finding, reply.used)
            if finding.verdict in ("wrong", "missing"):
                wrong[part.name] = finding
            yield exercise.title, finding._replace(printed=printed)


def _by_itself(finding: Finding, alone: Finding, used: Sequence[str]) -> Finding:
    """Return what is to be said if `alone` was found with right functions in place of `used`."""
    if used and alone.verdict == "right":
        ones = "one" if len(used) == 1 else "ones"
        text = f"It follows from {' and '.join(used)}: with the right {ones} it is right."
        return Finding(finding.part, "follows", text=text)
    return alone if used and alone.kind else finding


def judge(part: Part, reply: Reply) -> Finding:
    """Judge one function by what it gave."""
    if reply.verdict:
        hint = part.hint if reply.verdict == "wrong" and not reply.kind else ""
        return Finding(part, reply.verdict, reply.kind, reply.text, hint)
    cases = part.cases()
    answers = [
        (arguments, mine, part.solution(*deepcopy(arguments)))
        for arguments, mine in zip(cases, reply.answers, strict=True)
    ]
    extreme = answers.pop() if part.extreme is not None else None
    for place in range(len(part.outputs)):
        if not all(_equal(mine[place], right[place]) for _, mine, right in answers):
            return _name(part, place, answers)
    if extreme is not None:
        _, mine, right = extreme
        for name, found, wanted in zip(part.output_names, mine, right, strict=True):
            if not _equal(found, wanted):
                text = f"{name} is right for small numbers, and lost for large ones."
                return Finding(part, "wrong", "overflow", text, part.extreme_hint)
    return Finding(part, "right")


def _name(part: Part, place: int, answers: list[Any]) -> Finding:
    """Name the mistake in an output that is wrong."""
    name, (_, mine, right) = part.output_names[place], answers[0]
    found, wanted = mine[place], np.asarray(right[place])

    def finding(kind: str, text: str, hint: str = "") -> Finding:
        return Finding(part, "wrong", kind, f"{name} {text}", hint or part.hint)

    for other, other_name in enumerate(part.output_names):
        if other != place and all(_equal(m[place], r[other]) for _, m, r in answers):
            order = f"Return {', '.join(part.output_names)}, in this order."
            return finding("swapped outputs", f"has what {other_name} should be.", order)
    if not np.isfinite(found).all():
        return finding(*_not_finite(found))
    for form in wrong_answers(part, place):
        if all(_matches(form, answer, place) for answer in answers):
            return finding(form.kind, f"looks like {form.kind}: {form.name}.", form.hint)
    if found.shape != wanted.shape:
        text = f"has the shape {found.shape}; expected is {wanted.shape}, {part.outputs[place]}."
        return finding("" if found.ndim == wanted.ndim else REDUCTION, text)
    if all(_equal(m[place], r[place], _SINGLE) for _, m, r in answers):
        return finding(
            "float32",
            f"is right to about seven digits: {_differ(found, wanted)}. "
            "The answer has the precision of float32, or of something small that is added.",
            "Compute in float64, NumPy's default: look for float32, an epsilon, or a step h.",
        )
    return finding("", f"is {_differ(found, wanted)}. It looks like no mistake known here.")


def _not_finite(found: Any) -> tuple[str, str, str]:
    """Return kind, text and hint: where the first is, and where such usually come from."""
    nan = bool(np.isnan(found).any())
    where = _index(np.argwhere(np.isnan(found) if nan else np.isinf(found))[0])
    if nan:
        hint = (
            "NaN is usually the logarithm of something negative, 0/0, or inf - inf: print what "
            "goes into each logarithm and each division. Entries of L off its diagonal may be "
            "negative, and those above it are 0."
        )
        return "NaN", f"has NaN{where}.", hint
    hint = (
        "inf is usually a division by 0, the logarithm of 0, or the exponential of more than "
        "709. Entries of L above its diagonal are 0."
    )
    return "infinity", f"is infinite{where}.", hint


def _differ(found: Any, wanted: Any) -> str:
    """Say what two arrays have where they differ most, with enough digits to see it."""
    where = np.unravel_index(np.argmax(np.abs(found - wanted)), wanted.shape)
    for digits in range(6, 18):
        texts = [f"{float(array[where]):.{digits}g}" for array in (found, wanted)]
        if texts[0] != texts[1]:
            break
    return f"{texts[0]}{_index(where)}; expected is {texts[1]}"


def _index(where: Any) -> str:
    return f" at {[int(i) for i in where]}" if len(where) else ""


def _matches(form: WrongForm, answer: Any, place: int) -> bool:
    arguments, mine, right = answer
    with np.errstate(all="ignore"):
        try:
            wrong = np.asarray(form.wrong(*deepcopy(arguments)), dtype=np.float64)
        except (ValueError, np.linalg.LinAlgError):  # a step that nothing follows from
            return False
    return _equal(mine[place], wrong) and not _equal(wrong, right[place])


def _equal(left: Any, right: Any, tolerance: float = _TOLERANCE) -> bool:
    """Whether two outputs agree to rounding; shapes count, NaN agrees with nothing."""
    left, right = np.asarray(left), np.asarray(right)
    if left.shape != right.shape:
        return False
    size = max(float(np.abs(right).max()), 1e-3)
    return bool((np.abs(left - right) <= tolerance * size).all())
