"""Every case to an adapter, and what became of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gmm_np.checks import check_choice
from gmm_np.conformance.cases import Case, CaseFamily, RunnerError, read_vectors
from gmm_np.conformance.compare import POLICIES, STRICT, CaseResult, NotOffered, Policy, judge
from gmm_np.conformance.diagnosis import Wrong, diagnose
from gmm_np.conformance.files_adapter import FilesAdapter
from gmm_np.conformance.function_adapter import Adapter, FunctionAdapter, ToolError
from gmm_np.conformance.process_adapter import ProcessAdapter, TextAdapter, python_command
from gmm_np.conformance.report import FamilyResult, Report

__all__ = ["check_expected", "chosen", "run", "run_cases"]

#: So many breakdowns end a run: a tool is started again after each, and each may take the time-out.
MOST_BREAKDOWNS: Final = 3
#: With so many a program that takes too long may be slow and no more; few cases have them.
MANY_SAMPLES: Final = 10_000


def run(
    adapter: Callable[..., Any] | str | Sequence[str] | Path,
    *,
    levels: Iterable[str] = (),
    flags: Iterable[str] = (),
    names: Iterable[str] = (),
    exclude: Iterable[str] = (),
    policy: str = "strict",
    specials: bool = False,
    text: bool = False,
    timeout: float = 60.0,
    expected_failures: Collection[str] = (),
    progress: Callable[[list[Case]], Iterable[Case]] = iter,
) -> Report:
    """Run the certified vectors against an implementation.

    Parameters
    ----------
    adapter : callable, str, sequence of str, or Path
        A function, called in this process, where nothing can end it if it hangs;
        ``"package.module:function"``, called in a process of its own; or a program and its
        arguments, which speaks lines of JSON. docs/conformance.md says what they get and give. A
        path is a directory with the answers to `write_cases`, a file each.
    levels : iterable of {"lower", "average", "higher"}
        Exactly these levels; all by default.
    flags : iterable of str
        Cases with at least one of these flags; all by default.
    names, exclude : iterable of str
        Families and cases by their names or patterns of these, such as "hvp_*": these alone, and
        all but these.
    policy : {"strict", "library", "binary32"}
        What is asked of an answer: the allowance of the vectors; a thousand times that, and NaN is
        a refusal of what is invalid; or the allowance of single precision, and the same of NaN.
    specials : bool
        Whether a program is sent NaN and infinities, which are strings among numbers. Without, the
        cases that have them are unsupported. Python functions are always sent them.
    text : bool
        Whether a program is asked, and answers are read, by lines of words in place of JSON, which
        have NaN and infinities always.
    timeout : float
        Seconds for one case, in a process of its own.
    expected_failures : collection of str
        Cases known to be answered wrong. One that passes is a failure.
    progress : callable
        Iterates over the cases that it is given and shows how far it is; shows nothing by default.

    Returns
    -------
    Report
        True if every case that the adapter supports passes; `str` is its table.

    Raises
    ------
    ValueError
        If no case is chosen, or an expected failure, a level, a flag, a name or the policy does
        not exist.
    ToolError
        Of the kind "usage", if the adapter cannot be found or started.
    RunnerError
        If the vectors are damaged, or the runner has a fault.
    """
    check_choice("policy", policy, tuple(POLICIES))
    made: Adapter
    if callable(adapter):
        made = FunctionAdapter(adapter)
    elif isinstance(adapter, str):
        made = ProcessAdapter(python_command(adapter), timeout)
        made.name = adapter
    elif isinstance(adapter, Path):
        made = FilesAdapter(adapter, specials=specials, text=text)
    elif text:
        made = TextAdapter(adapter, timeout)
    else:
        made = ProcessAdapter(adapter, timeout, specials=specials)
    check_expected(expected_failures)
    families = chosen(levels=levels, flags=flags, names=names, exclude=exclude)
    with contextlib.closing(made):
        try:
            return run_cases(
                made,
                families,
                policy=POLICIES[policy],
                expected_failures=expected_failures,
                progress=progress,
            )
        except (ToolError, RunnerError):
            raise
        except Exception as error:
            raise RunnerError(f"{type(error).__name__}: {error}") from error


def check_expected(expected_failures: Collection[str]) -> None:
    """Raise ValueError if a case that is expected to fail does not exist."""
    unknown = set(expected_failures)
    if unknown:
        unknown -= {case.id for family in read_vectors() for case in family.cases}
    if unknown:
        raise ValueError(f"no case is called {min(unknown)}, an expected failure.")


def chosen(
    *,
    levels: Iterable[str] = (),
    flags: Iterable[str] = (),
    names: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> list[CaseFamily]:
    """Read the vectors that are chosen, as `read_vectors` does.

    Raises
    ------
    ValueError
        If there are none.
    """
    families = read_vectors(levels=levels, flags=flags, names=names, exclude=exclude)
    if not families:
        raise ValueError("no case is of all that is asked for; ask for fewer at once.")
    return families


def run_cases(
    adapter: Adapter,
    families: Iterable[CaseFamily],
    *,
    policy: Policy = STRICT,
    expected_failures: Collection[str] = (),
    progress: Callable[[list[Case]], Iterable[Case]] = iter,
) -> Report:
    """Run the cases of the given families against an adapter that is ready.

    Cases of a function that the adapter does not offer are no part of the report.

    Parameters
    ----------
    adapter : Adapter
    families : iterable of CaseFamily
    policy : Policy
    expected_failures : collection of str
    progress : callable
        Iterates over the cases that it is given and shows how far it is.

    Raises
    ------
    ToolError
        Of the kind "usage", if the adapter cannot be found or started.
    """
    families = list(families)
    results: dict[str, CaseResult] = {}
    wrong: list[Wrong] = []
    passed: list[Case] = []
    breakdowns = 0
    seconds: dict[str, float] = {}
    for case in progress([case for family in families for case in family.cases]):
        if breakdowns >= MOST_BREAKDOWNS:
            message = "after too many breakdowns"
            results[case.id] = CaseResult.of(case, "not_run", message, policy=policy)
            continue
        started = time.perf_counter()
        try:
            outcome = adapter.evaluate(case)
        except ToolError as error:
            if error.kind == "usage":
                raise
            slow = error.kind == "timeout" and case.n_samples >= MANY_SAMPLES
            breakdowns += error.broken and not slow
            results[case.id] = CaseResult.of(case, error.kind, str(error), policy=policy)
            continue
        finally:
            seconds[case.id] = time.perf_counter() - started
        if isinstance(outcome, NotOffered):
            continue
        result = judge(case, outcome, policy)
        strict = result if policy is STRICT else judge(case, outcome)  # as lists of kills are
        if result.status == "wrong":
            wrong.append(Wrong(case, outcome))
        elif strict.status == "pass" and not result.missing:
            passed.append(case)
        if case.id in expected_failures and result.status == "wrong":
            result = replace(result, status="xfail")
        elif case.id in expected_failures and result.status == "pass":
            message = "passes, and is listed as a failure"
            result = replace(result, status="xpass", message=message)
        results[case.id] = result
    suspects, named = diagnose(wrong, passed)
    for case_id, names in named.items():
        results[case_id] = replace(results[case_id], looks_like=names)
    found = (
        FamilyResult(f.name, tuple(results[case.id] for case in f.cases if case.id in results))
        for f in families
    )
    kept = tuple(family for family in found if family.cases)
    return Report(adapter.name, kept, suspects, policy.name, seconds)
