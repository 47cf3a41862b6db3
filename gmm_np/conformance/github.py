"""A report for GitHub Actions: annotations on the run, and a summary of the job in Markdown.

A line ``::error title=...::...`` on stdout is an annotation; what is appended to the file that
GITHUB_STEP_SUMMARY names is shown on the page of the run.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Final

from gmm_np.conformance.report import FAULTS, Report, digits_text, share_text

__all__ = ["annotation_lines", "summary"]

#: GitHub shows ten errors of a step, and drops the others without a word.
MOST_ANNOTATIONS: Final = 10
_MOST_CASES: Final = 100  # of a summary, which may have a megabyte
_LONGEST: Final = 1000  # characters of a message


def annotation_lines(report: Report) -> Iterator[str]:
    """Yield a line for each case at fault, the last of ten for all that are left."""
    faults = report.faults
    whole = MOST_ANNOTATIONS if len(faults) <= MOST_ANNOTATIONS else MOST_ANNOTATIONS - 1
    for case in faults[:whole]:
        like = f" [looks like {', '.join(case.looks_like)}]" if case.looks_like else ""
        title = f"{case.id} ({case.level}): {FAULTS[case.status].lower()}"
        yield _error(title, f"{case.message}{like}")
    if faults[whole:]:
        yield _error(f"{report.adapter}: {len(faults)} cases at fault", report.summary)


def _error(title: str, message: str) -> str:
    # As the runner of GitHub wants it: the end of a line, and what ends a property, by their codes.
    data = message[:_LONGEST].replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    name = title.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::error title={name.replace(':', '%3A').replace(',', '%2C')}::{data}"


def summary(report: Report) -> str:
    """Return a page of Markdown: the verdict, each family, and the cases at fault."""
    lines = [
        f"## {'✅' if report else '❌'} Gaussian-mixture conformance: {_cell(report.adapter)}",
        "",
        f"{_cell(report.summary)} Policy: {report.policy}.",
        "",
    ]
    for suspect in report.suspects:
        same = f"The same in {suspect.explained} of {suspect.examined} wrong answers."
        lines += [f"Looks like **{suspect.name}**: {_cell(suspect.description)} {same}", ""]
    faults = report.faults
    if faults:
        lines += ["| case | level | | what is wrong | looks like |", "|---|---|---|---|---|"]
        lines += [
            f"| {case.id} | {case.level} | {FAULTS[case.status].lower()} | "
            f"{_cell(case.message[:_LONGEST])} | {', '.join(case.looks_like)} |"
            for case in faults[:_MOST_CASES]
        ]
        if len(faults) > _MOST_CASES:
            lines.append(f"| and {len(faults) - _MOST_CASES} more | | | | |")
        lines.append("")
    lines += [
        "<details><summary>All families: worst number of correct digits</summary>",
        "",
        "| family | cases | admits | nll | logits | means | chol | share | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for family in report.families:
        digits = " | ".join(digits_text(d) for d in family.digits)
        lines.append(
            f"| {family.name} | {len(family.cases)} | {digits_text(family.admits)} | {digits} | "
            f"{share_text(family.share)} | {family.verdict} |"
        )
    return "\n".join([*lines, "", "</details>", "", ""])


def _cell(text: str) -> str:
    """Return text that is no Markdown and no HTML, in one line."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    for mark in "\\`*_[]|":
        escaped = escaped.replace(mark, f"&#{ord(mark)};")
    return escaped
