"""Exercises in manual backpropagation: ``start`` writes stubs, ``check`` says what is right.

The solutions of the first two chapters are the reference itself, those of the third network.py;
each exercise names its lines there, as they are numbered in the file that is installed.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from gmm_np.conformance.command import seconds
from gmm_np.lesson.exercise_set import EXERCISES, Exercise, Part
from gmm_np.lesson.grading import Finding, grade
from gmm_np.lesson.learner import Learner, NotLoadedError
from gmm_np.lesson.second_exercises import SECOND
from gmm_np.lesson.third_exercises import THIRD

__all__ = ["add_command", "check_file", "start", "stubs"]

FILE: Final = "exercises.py"
SECOND_FILE: Final = "second_exercises.py"
THIRD_FILE: Final = "third_exercises.py"
CHAPTERS: Final = {1: EXERCISES, 2: SECOND, 3: THIRD}
TIMEOUT: Final = 2.0  # seconds; a function takes less than a thousandth
_HEAD: Final = f'''"""Exercises in manual backpropagation: a Gaussian mixture's loss and gradients.

Write each function, and ask after each:

    gmm-np exercises check {FILE}

The equations are those of docs/derivation.md. N samples, K components, D dimensions; x has a row
a sample, L is a lower Cholesky factor, Sigma = L L^T; d_v is the gradient of the loss with respect
to v, in the shape of v. Components, samples and all indices count from 0, as in NumPy.
`gmm-np walkthrough` shows all of it in numbers.
"""

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
'''
_SECOND_HEAD: Final = f'''"""Exercises in backpropagation through the backward, to the Hessian.

Write each function, and ask after each:

    gmm-np exercises check --chapter 2 {SECOND_FILE}

The equations are those of section 10 of docs/derivation.md. N samples, K components, D dimensions;
x has a row a sample, L is a lower Cholesky factor, Sigma = L L^T; d_v is the gradient of the loss
with respect to v, and dot_v how fast v moves along the direction, both in the shape of v. Chapter
one is done: `reference` has its forwards and backwards, as in reference.log_softmax_forward.
`gmm-np walkthrough --chapter 2` shows all of it in numbers.
"""

import numpy as np
from scipy.linalg import solve_triangular

from gmm_np import reference
'''
_THIRD_HEAD: Final = f'''"""Exercises with a network: a mixture for each row, trained by hand.

Write each function, and ask after each:

    gmm-np exercises check --chapter 3 {THIRD_FILE}

A mixture density network answers with a mixture for each row of its inputs: two layers make
outputs, a head makes parameters of them, and the loss is the mean negative log-likelihood of the
targets. In the end it learns Bishop's inverse problem, as docs/mdn.ipynb shows in pictures. N rows,
K components, D dimensions of x, I inputs, H hidden units, P = K (2 + D) outputs; d_v is the
gradient of the loss with respect to v, in the shape of v. The equations are those of
docs/derivation.md, where section 6 says what rows with mixtures of their own change.
"""

import numpy as np
'''
_FILES: Final = {1: (FILE, _HEAD), 2: (SECOND_FILE, _SECOND_HEAD), 3: (THIRD_FILE, _THIRD_HEAD)}


# --- start --------------------------------------------------------------------------------------


def stubs(hard: bool = False, chapter: int = 1) -> str:
    """Return the text of the file to fill in; if `hard`, without the formulas of gradients."""
    return _FILES[chapter][1] + "".join(
        _heading(number, exercise) + "".join(_stub(part, hard) for part in exercise.parts)
        for number, exercise in enumerate(CHAPTERS[chapter], 1)
    )


def _heading(number: int, exercise: Exercise) -> str:
    title = f"# --- {number}. {exercise.title}: equations {exercise.numbers} "
    return f"\n\n{title:-<99}\n"


def _stub(part: Part, hard: bool) -> str:
    names = part.argument_names
    outputs = ", ".join(part.outputs)
    returned = ", ".join(part.output_names)
    equations = (part.task if hard and part.task else part.equations).replace("\n", "\n    ")
    solution = ",\n        ".join(lines_of(part))
    return f'''

def {part.name}({", ".join(names)}):
    """Return {outputs}.

    Arguments: {", ".join(part.arguments)}.

    {equations}

    Hint: {part.hint}
    Solution: {solution}.
    """
    raise NotImplementedError("write me, and return {returned}")
    return {returned}
'''


def lines_of(part: Part) -> list[str]:
    """Say where this package does it: file, lines and function, as installed."""
    places = []
    for text in part.lines:
        module, _, name = text.rpartition(":")
        found = import_module(f"gmm_np.{module or 'reference'}")
        lines, first = inspect.getsourcelines(getattr(found, name))
        file = f"{found.__name__.replace('.', '/')}.py"
        places.append(f"{file}, lines {first} to {first + len(lines) - 1} ({name})")
    return places


def start(directory: Path, hard: bool = False, chapter: int = 1) -> Path:
    """Write the stubs to a directory, which is made if there is none.

    Parameters
    ----------
    directory : Path
    hard : bool
        Leave the formulas of gradients out: only what they are the gradients of is there.
    chapter : {1, 2, 3}
        The gradients, the Hessian along a direction, or a network.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FileExistsError
        If there is such a file: it may hold somebody's work, and is never written over.
    OSError
        If it cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / _FILES[chapter][0]
    text = stubs(hard, chapter)
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        raise FileExistsError(
            f"{path} exists, and may hold your work. Choose another directory, or move it away."
        ) from None
    try:
        with file:
            file.write(text)
    except OSError:
        path.unlink()  # whole or not at all
        raise
    return path


# --- check --------------------------------------------------------------------------------------


def check_file(
    path: Path, timeout: float = TIMEOUT, chapter: int = 1
) -> tuple[list[tuple[str, Finding]], str]:
    """Run a learner's file in a process of its own, and judge its functions.

    Parameters
    ----------
    path : Path
        A Python file. It is run.
    timeout : float
        Seconds for the file, and for the calls of each function.
    chapter : {1, 2, 3}
        Which functions to judge.

    Returns
    -------
    findings : list of (str, Finding)
        The exercise, and the verdict on one of its functions.
    printed : str
        What the file printed before any function was called, or its beginning.

    Raises
    ------
    ValueError
        If the file does not run; the message has the line.
    NotLoadedError
        If it hangs, exits or crashes Python before any function is called.
    OSError
        If it cannot be read.
    """
    with closing(Learner(path, timeout)) as learner:
        return list(grade(learner.ask, CHAPTERS[chapter])), learner.printed


def report(findings: list[tuple[str, Finding]], printed: str = "") -> Iterator[str]:
    """Yield the lines of a report; `printed` is what the file printed."""
    if printed:
        yield from ("The file printed:", *_shown(printed), "")
    found = {title for title, _ in findings}
    exercises = next(each for each in CHAPTERS.values() if found <= {e.title for e in each})
    titles = [exercise.title for exercise in exercises]
    last = ""
    for title, finding in findings:
        if title != last:
            number = titles.index(title) + 1
            yield f"{number}. {title}, equations {exercises[number - 1].numbers}"
            last = title
        yield f"   {finding.part.name:<31} {finding.verdict}"
        if finding.text:
            yield f"      {finding.text}"
        if finding.hint:
            yield f"      Hint: {finding.hint}"
        if finding.printed:
            yield from ("      It printed:", *_shown(finding.printed))
        what = "Compare" if finding.verdict == "right" else "Solution"
        for place in lines_of(finding.part):
            yield f"      {what}: {place}"
    right = sum(finding.verdict == "right" for _, finding in findings)
    yield ""
    yield f"{right} of {len(findings)} functions are right" + (
        ": all exercises are done." if right == len(findings) else "."
    )


def _shown(printed: str) -> Iterator[str]:
    """Yield the first lines of what was printed, a little to the right."""
    lines = printed.rstrip("\n").splitlines()
    for line in lines[:10]:
        yield f"      | {line}"
    if len(lines) > 10:
        yield "      | ..."


# --- the command --------------------------------------------------------------------------------


def add_command(commands: Any) -> None:
    """Add ``exercises start`` and ``exercises check`` to the command line."""
    parser = commands.add_parser(
        "exercises",
        help="write the gradients yourself, and have them checked",
        description="Exercises in manual backpropagation, from the logsumexp to the whole loss; "
        "in a second chapter, to its Hessian along a direction; in a third, through a network that "
        "is trained with the gradient you wrote.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    begin = actions.add_parser(
        "start",
        help="write a file of stubs",
        description=f"Write {FILE}, or for chapters 2 and 3 {SECOND_FILE} and {THIRD_FILE}, with a "
        "stub for each function: its equation, shapes, a hint, and the lines of this package that "
        "are its solution. A file that exists is never overwritten.",
    )
    begin.add_argument("directory", type=Path, metavar="DIR", help="made if there is none")
    begin.add_argument(
        "--hard",
        action="store_true",
        help="leave the formulas of gradients out: derive them from the forward's equations",
    )
    _add_chapter(begin)
    begin.set_defaults(run=_run_start)
    check = actions.add_parser(
        "check",
        help="say what is right, what is missing, and what a wrong answer looks like",
        description="Run a file of exercises and compare each function with the reference and with "
        "known wrong forms. The file is Python, and is run as it is, with your rights: check only "
        "files that you would run yourself. It runs in a process of its own, so that a function "
        "may hang, exit or crash. Exit code 0 if all functions are right, 1 if not, 2 if the file "
        "is not there or does not run.",
    )
    check.add_argument("file", type=Path, metavar="FILE", help="your Python file; it is run")
    check.add_argument(
        "--timeout",
        type=seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help="for the file, and for the calls of each function (default: %(default)g)",
    )
    _add_chapter(check)
    check.set_defaults(run=_run_check)


def _add_chapter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--chapter",
        type=int,
        choices=tuple(CHAPTERS),
        default=1,
        help="1: the gradients; 2: the Hessian along a direction; 3: a network trained by hand "
        "(default: %(default)s)",
    )


def _run_start(options: argparse.Namespace) -> int:
    path = start(options.directory, options.hard, options.chapter)
    of = f"--chapter {options.chapter} " if options.chapter > 1 else ""
    print(f"Wrote {path}. Write its functions, and ask:\n\n    gmm-np exercises check {of}{path}")
    return 0


def _run_check(options: argparse.Namespace) -> int:
    try:
        findings, printed = check_file(options.file, options.timeout, options.chapter)
    except NotLoadedError as error:
        print(f"gmm-np: {error}", file=sys.stderr)
        return 1
    for line in report(findings, printed):
        print(line)
    return 0 if all(finding.verdict == "right" for _, finding in findings) else 1
