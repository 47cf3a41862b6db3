"""The command ``gmm-np conformance``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmm_np.files import atomic_write, check_target
from gmm_np.progress import Progress

if TYPE_CHECKING:
    from gmm_np.conformance.report import Report

__all__ = ["add_command", "run_command"]

#: Of init; `gmm_np.conformance.starters` has their files.
LANGUAGES = ("python", "c", "javascript", "julia", "r", "octave")
_TARGETS = {
    "python": "--python",
    "tool": "--command",
    "write_cases": "--write-cases",
    "answers": "--answers",
}
_USAGE = """\
%(prog)s --python MODULE:FUNCTION [options]
       %(prog)s --command "PROGRAM ARGUMENTS" [options]
       %(prog)s --write-cases DIRECTORY [options]
       %(prog)s --answers DIRECTORY [options]
       %(prog)s init DIRECTORY --language LANGUAGE
       %(prog)s export DIRECTORY [--family NAME]"""
_EPILOG = (
    "Exit codes: 0 every case that is supported passes, 1 the runner failed, 2 wrong usage, 3 the "
    "tool failed (crash, garbage), 4 wrong answers, 5 time-out, 6 nothing was supported. "
    "docs/conformance.md shows how to write an adapter."
)


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of gmm-np."""
    parser = commands.add_parser(
        "conformance",
        help="run the certified vectors against an implementation",
        description="Run the certified vectors against any implementation of the Gaussian-mixture "
        "negative log-likelihood and its gradients, in any language, and say what it gets wrong.",
        epilog=_EPILOG,
        usage=_USAGE,
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--python",
        metavar="MODULE:FUNCTION",
        help="function(x, logits, means, chol) -> (nll, d_logits, d_means, d_chol)",
    )
    target.add_argument(
        "--command",
        dest="tool",
        metavar='"PROGRAM ARGUMENTS"',
        help="a program that answers lines of JSON; split as a shell would, started without one",
    )
    target.add_argument(
        "--write-cases",
        type=Path,
        metavar="DIRECTORY",
        help="write each case to a file of its own, and run nothing",
    )
    target.add_argument(
        "--answers",
        type=Path,
        metavar="DIRECTORY",
        help="judge answers that stand in files, each under the name of its case",
    )
    parser.add_argument(
        "--level",
        action="append",
        default=[],
        choices=("lower", "average", "higher"),
        help="exactly this level; may be repeated (default: all)",
    )
    parser.add_argument(
        "--flag", action="append", default=[], help="cases with this flag; may be repeated"
    )
    parser.add_argument(
        "--family",
        action="append",
        default=[],
        metavar="NAME",
        help="this family, or those of a pattern such as 'hvp_*'; may be repeated",
    )
    parser.add_argument(
        "--case", action="append", default=[], metavar="ID", help="this case; may be repeated"
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="NAME",
        help="all but this family or case, such as many_samples; may be repeated",
    )
    parser.add_argument(
        "--policy",
        choices=("strict", "library", "binary32"),
        default="strict",
        help="strict: the allowance of the vectors (default); library: a thousand times that; "
        "binary32: that of single precision. By the last two NaN refuses what is invalid",
    )
    parser.add_argument(
        "--specials",
        action="store_true",
        help="send NaN and infinities to a program, or write them to files, as strings among "
        "numbers; without, the cases that have them are not supported",
    )
    parser.add_argument(
        "--text",
        action="store_true",
        help="ask a program, or write and read files, by lines of words in place of JSON",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="for one case; the program is ended then, with its children (default: 60)",
    )
    parser.add_argument(
        "--xfail",
        type=Path,
        metavar="FILE",
        help="cases known to be answered wrong, an id a line; one that passes is a failure",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the whole report here")
    parser.add_argument(
        "--junit", type=Path, metavar="OUT", help="write JUnit XML here, a test for each case"
    )
    parser.add_argument(
        "--github",
        action=argparse.BooleanOptionalAction,
        help="annotations and a summary of the job for GitHub Actions (default: where it runs)",
    )
    parser.set_defaults(run=run_command, refuse=parser.error)
    actions = parser.add_subparsers(
        dest="action", title="in place of a run", metavar="ACTION", prog=parser.prog
    )
    init = actions.add_parser(
        "init",
        help="write a first adapter in a language of yours",
        description="Write an adapter, and a file for the function that it calls, and say how both "
        "are run. Nothing is overwritten.",
    )
    init.add_argument("directory", type=Path, metavar="DIRECTORY", help="is made if need be")
    init.add_argument("--language", choices=LANGUAGES, required=True)
    init.set_defaults(run=_init)
    export = actions.add_parser(
        "export",
        help="write the vectors, their schema and a specification, to be vendored",
        description="Write the vectors, their schema and SPEC.md, a page that says how to read "
        "them, to a directory of their own: whole or not at all.",
    )
    export.add_argument("directory", type=Path, metavar="DIRECTORY", help="new, or empty")
    export.add_argument(
        "--family",
        action="append",
        default=argparse.SUPPRESS,  # what stands before the action stays
        metavar="NAME",
        help="this family, or those of a pattern such as 'hvp_*'; may be repeated (default: all)",
    )
    export.set_defaults(run=_export)


def seconds(text: str) -> float:
    """Type of option: a positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds; got {text!r}")
    return value


def run_command(options: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    # Late, so that the other commands need not wait for it.
    from gmm_np.conformance.cases import RunnerError
    from gmm_np.conformance.function_adapter import ToolError
    from gmm_np.conformance.report import RUNNER_FAILED
    from gmm_np.conformance.runner import chosen, run

    if all(getattr(options, name) is None for name in _TARGETS):
        options.refuse(f"one of {', '.join(_TARGETS.values())} is needed, or init or export")
    choice = {
        "levels": options.level,
        "flags": options.flag,
        "names": [*options.family, *options.case],
        "exclude": options.exclude,
    }
    if options.write_cases is not None:
        return _write(options, chosen(**choice))
    adapter: Any = options.python
    if options.answers is not None:
        adapter = options.answers
        if not adapter.is_dir():
            raise ValueError(f"--answers: no directory {adapter}; name the one with the answers.")
    elif adapter is None:
        adapter = split_command(options.tool)
    for name in ("json", "junit"):  # before the run, not after
        path = getattr(options, name)
        if path is not None:
            try:
                check_target(path)
            except OSError as error:
                raise ValueError(f"--{name}: {error}") from error
    known = read_expected_failures(options.xfail) if options.xfail is not None else ()
    try:
        report = run(
            adapter,
            **choice,
            policy=options.policy,
            specials=options.specials,
            text=options.text,
            timeout=options.timeout,
            expected_failures=known,
            progress=_progress,
        )
    except ToolError as error:  # of the kind "usage": it could not be found or started
        raise ValueError(str(error)) from error
    except RunnerError as error:
        traceback.print_exception(error.__cause__)
        print(f"gmm-np: the runner failed: {error}", file=sys.stderr)
        return RUNNER_FAILED
    _write_report(options, report)
    print(report)
    github = options.github
    if github or (github is None and os.environ.get("GITHUB_ACTIONS") == "true"):
        _tell_github(report)
    return report.exit_code


def _write_report(options: argparse.Namespace, report: Report) -> None:
    """Write the files that are asked for."""
    if options.json is not None:
        text = json.dumps(report.as_json(), indent=1, allow_nan=False)
        with atomic_write(options.json) as stream:
            stream.write(f"{text}\n".encode())
    if options.junit is not None:
        from gmm_np.conformance.junit import junit_xml

        with atomic_write(options.junit) as stream:
            stream.write(junit_xml(report))


def _tell_github(report: Report) -> None:
    """Print annotations, and add to the summary of the job where there is one."""
    from gmm_np.conformance.github import annotation_lines, summary

    for line in annotation_lines(report):
        print(line)
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if page:
        with Path(page).open("a", encoding="utf-8") as stream:
            stream.write(summary(report))


def _alone(options: argparse.Namespace) -> None:
    """Refuse to run anything beside an action."""
    for name, flag in _TARGETS.items():
        if getattr(options, name) is not None:
            options.refuse(f"{flag} is for a run: leave it out beside {options.action}")


def _init(options: argparse.Namespace) -> int:
    """Write a first adapter."""
    from gmm_np.conformance.starters import COMMANDS, write_starter

    _alone(options)
    paths = write_starter(options.directory, options.language)
    adapter, mine = (path.name for path in paths)
    print(f"{adapter} and {mine} written to {options.directory}.")
    print(
        f"Write your function in {mine}, or call it from {adapter}; then, in {options.directory}:"
    )
    print(f"    {COMMANDS[options.language]} --level lower")
    return 0


def _export(options: argparse.Namespace) -> int:
    """Write the vectors to be vendored."""
    from gmm_np.conformance.export import SPECIFICATION, export

    _alone(options)
    families = export(options.directory, options.family)
    count = sum(len(family.cases) for family in families)
    print(f"{count} tests of {len(families)} families written to {options.directory}.")
    print(f"{options.directory / SPECIFICATION} says how to read them.")
    return 0


def _write(options: argparse.Namespace, families: list[Any]) -> int:
    """Write the cases that are chosen, and say how many there are."""
    from gmm_np.conformance.files_adapter import write_cases

    written, left_out = write_cases(
        options.write_cases, families, specials=options.specials, text=options.text
    )
    print(f"{written} cases written to {options.write_cases}")
    if left_out and options.text:
        print(f"{left_out} left out, which cannot be said in plain text.")
    elif left_out:
        print(f"{left_out} with NaN or infinities left out; --specials writes them as strings.")
    return 0


def split_command(command: str) -> list[str]:
    """Split a command into words as a shell would, which is all that is done of a shell's work.

    Raises
    ------
    ValueError
        If there is no word, or a quotation mark has no fellow.
    """
    words = shlex.split(command)
    if not words:
        raise ValueError("--command is empty; name a program.")
    return words


def read_expected_failures(path: Path) -> tuple[str, ...]:
    """Read ids of cases, one a line; "#" begins a comment.

    Raises
    ------
    ValueError
        If a line holds more than one word.
    """
    ids = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.partition("#")[0].split()
        if len(words) > 1:
            raise ValueError(f"{path}, line {number}: one id a line; a comment begins with #.")
        ids += words
    return tuple(ids)


def _progress(cases: list[Any]) -> Iterator[Any]:
    with Progress("conformance", total=len(cases), unit="case") as line:
        for case in cases:
            yield case
            line.advance(note=case.family)
