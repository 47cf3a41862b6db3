"""Every case to an adapter, and what became of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from gmm_np.conformance.cases import Case, CaseFamily, RunnerError, read_vectors
from gmm_np.conformance.compare import CaseResult, NotOffered, judge
from gmm_np.conformance.diagnosis import Wrong, diagnose
from gmm_np.conformance.function_adapter import Adapter, FunctionAdapter, ToolError
from gmm_np.conformance.process_adapter import ProcessAdapter, python_command
from gmm_np.conformance.report import FamilyResult, Report

__all__ = ["run", "run_cases"]

#: So many breakdowns end a run: a tool is started again after each, and each may take the time-out.
MOST_BREAKDOWNS: Final = 3


def run(
    adapter: Callable[..., Any] | str | Sequence[str],
    *,
    levels: Iterable[str] = (),
    flags: Iterable[str] = (),
    timeout: float = 60.0,
    expected_failures: Collection[str] = (),
    progress: Callable[[list[Case]], Iterable[Case]] = iter,
) -> Report:
    """Run the certified vectors against an implementation.

    Parameters
    ----------
    adapter : callable, str or sequence of str
        A function, called in this process, where nothing can end it if it hangs;
        ``"package.module:function"``, called in a process of its own; or a program and its
        arguments, which speaks lines of JSON. docs/conformance.md says what they get and give.
    levels : iterable of {"lower", "average", "higher"}
        Exactly these levels; all by default.
    flags : iterable of str
        Cases with at least one of these flags; all by default.
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
        If no case is chosen, or an expected failure, a level or a flag does not exist.
    ToolError
        Of the kind "usage", if the adapter cannot be found or started.
    RunnerError
        If the vectors are damaged, or the runner has a fault.
    """
    made: Adapter
    if callable(adapter):
        made = FunctionAdapter(adapter)
    elif isinstance(adapter, str):
        made = ProcessAdapter(python_command(adapter), timeout)
        made.name = adapter
    else:
        made = ProcessAdapter(adapter, timeout)
    unknown = set(expected_failures)
    if unknown:
        unknown -= {case.id for family in read_vectors() for case in family.cases}
    if unknown:
        raise ValueError(f"no case is called {min(unknown)}, an expected failure.")
    families = read_vectors(levels=levels, flags=flags)
    if not families:
        raise ValueError("no case has such a level and such a flag; ask for fewer at once.")
    with contextlib.closing(made):
        try:
            return run_cases(made, families, expected_failures=expected_failures, progress=progress)
        except (ToolError, RunnerError):
            raise
        except Exception as error:
            raise RunnerError(f"{type(error).__name__}: {error}") from error


def run_cases(
    adapter: Adapter,
    families: Iterable[CaseFamily],
    *,
    expected_failures: Collection[str] = (),
    progress: Callable[[list[Case]], Iterable[Case]] = iter,
) -> Report:
    """Run the cases of the given families against an adapter that is ready.

    Cases of a function that the adapter does not offer are no part of the report.

    Parameters
    ----------
    adapter : Adapter
    families : iterable of CaseFamily
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
    for case in progress([case for family in families for case in family.cases]):
        if breakdowns >= MOST_BREAKDOWNS:
            results[case.id] = CaseResult.of(case, "not_run", "after too many breakdowns")
            continue
        try:
            outcome = adapter.evaluate(case)
        except ToolError as error:
            if error.kind == "usage":
                raise
            breakdowns += 1
            results[case.id] = CaseResult.of(case, error.kind, str(error))
            continue
        if isinstance(outcome, NotOffered):
            continue
        result = judge(case, outcome)
        if result.status == "wrong":
            wrong.append(Wrong(case, outcome))
        elif result.status == "pass" and not result.missing:
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
    return Report(adapter.name, tuple(family for family in found if family.cases), suspects)
