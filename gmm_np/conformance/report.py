"""What a run found: by case, by family, as a table and as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gmm_np import __version__
from gmm_np.conformance.cases import OUTPUTS
from gmm_np.conformance.compare import MOST_DIGITS, CaseResult
from gmm_np.conformance.diagnosis import Suspect

__all__ = ["FAULTS", "FamilyResult", "Report", "digits_text", "share_text"]

PASSED, RUNNER_FAILED, USAGE, TOOL_FAILED, WRONG, TIMED_OUT, NOTHING_SUPPORTED = range(7)

#: Statuses that make a verdict, in the order in which it names them, and what it calls them.
FAULTS: Final = {
    "wrong": "WRONG",
    "xpass": "UNEXPECTED PASS",
    "crash": "CRASHED",
    "garbage": "GARBAGE",
    "timeout": "TIMED OUT",
    "not_run": "NOT RUN",
}
_MOST_LINES: Final = 20


@dataclass(frozen=True)
class FamilyResult:
    """What became of one family of cases."""

    name: str
    cases: tuple[CaseResult, ...]

    @property
    def counts(self) -> Counter[str]:
        """How many cases have each status."""
        return Counter(case.status for case in self.cases)

    @property
    def digits(self) -> tuple[float | None, ...]:
        """Worst log relative error of each output; None where none was given."""
        columns = zip(*(case.digits for case in self.cases), strict=True)
        return tuple(min((d for d in column if d is not None), default=None) for column in columns)

    @property
    def admits(self) -> float:
        """The fewest digits that rounding alone leaves of an output of any case."""
        return min((case.admits for case in self.cases), default=MOST_DIGITS)

    @property
    def share(self) -> float:
        """The largest share of the allowance that was used."""
        return max((case.share for case in self.cases), default=0.0)

    @property
    def verdict(self) -> str:
        """Say in a few words what became of the cases."""
        counts = self.counts
        words = [f"{counts[s]} {name}" for s, name in FAULTS.items() if counts[s]]
        if not words and counts["pass"]:
            words = ["pass"]
        if counts["xfail"]:
            words.append(f"{counts['xfail']} expected to fail")
        if counts["unsupported"]:
            words.append(f"{counts['unsupported']} unsupported")
        missing = {name for case in self.cases if case.status == "pass" for name in case.missing}
        if missing:
            words.append("in part")
        return ", ".join(words)


@dataclass(frozen=True)
class Report:
    """What a run found. It is true if every case that the adapter supports passes.

    Attributes
    ----------
    adapter : str
    families : tuple of FamilyResult
    suspects : tuple of Suspect
        Mutants that give the same wrong answers.
    policy : str
        By which answers were judged.
    seconds : mapping
        How long the adapter took for a case, by its id.
    """

    adapter: str
    families: tuple[FamilyResult, ...]
    suspects: tuple[Suspect, ...] = ()
    policy: str = "strict"
    seconds: Mapping[str, float] = field(default_factory=dict, repr=False)

    @property
    def cases(self) -> Iterator[CaseResult]:
        """The results of all cases."""
        return (case for family in self.families for case in family.cases)

    @property
    def counts(self) -> Counter[str]:
        """How many cases have each status."""
        return Counter(case.status for case in self.cases)

    @property
    def faults(self) -> list[CaseResult]:
        """The cases that a user has to look at; those that were not run have nothing to see."""
        return [c for c in self.cases if c.status in FAULTS and c.status != "not_run"]

    @property
    def right_answers(self) -> int:
        """How many cases pass by an answer. What refuses everything has none."""
        return sum(case.status == "pass" and case.answered for case in self.cases)

    @property
    def exit_code(self) -> int:
        """0 all supported pass, 3 the tool failed, 4 wrong, 5 time-out, 6 nothing supported."""
        counts = self.counts
        if counts["timeout"]:
            return TIMED_OUT
        if counts["crash"] or counts["garbage"]:
            return TOOL_FAILED
        if counts["wrong"] or counts["xpass"]:
            return WRONG
        if not counts["pass"] and not counts["xfail"]:
            return NOTHING_SUPPORTED
        return PASSED

    def __bool__(self) -> bool:
        return self.exit_code == PASSED

    def as_json(self) -> dict[str, Any]:
        """Return everything as an object for JSON."""
        return {
            "runner": f"gmm_np {__version__}",
            "adapter": self.adapter,
            "policy": self.policy,
            "exit_code": self.exit_code,
            "right_answers": self.right_answers,
            "counts": dict(sorted(self.counts.items())),
            "looks_like": [vars(suspect) for suspect in self.suspects],
            "families": [
                {
                    "family": family.name,
                    "counts": dict(sorted(family.counts.items())),
                    "digits": list(family.digits),
                    "digits_admitted": family.admits,
                    "share": family.share if math.isfinite(family.share) else None,
                    "verdict": family.verdict,
                    "cases": [case.as_json() for case in family.cases],
                }
                for family in self.families
            ],
        }

    def __str__(self) -> str:
        width = max([len("family"), *(len(family.name) for family in self.families)])
        names = OUTPUTS["cholesky"]
        judged = "" if self.policy == "strict" else f", by the policy {self.policy}"
        lines = [
            f"{self.adapter}: worst number of correct digits by family, and by output{judged}",
            "",
            f"{'family':<{width}}  cases {'admits':>7}"
            + "".join(f"{name:>7}" for name in names)
            + f"{'share':>9}  verdict",
        ]
        for family in self.families:
            digits = "".join(f"{digits_text(d):>7}" for d in family.digits)
            lines.append(
                f"{family.name:<{width}}  {len(family.cases):>5} {digits_text(family.admits):>7}"
                f"{digits}{share_text(family.share):>9}  {family.verdict}"
            )
        lines += ["", *self._faults(), *self._suspicions(), self.summary]
        return "\n".join(lines)

    def _faults(self) -> list[str]:
        faults, lines = self.faults, []
        for case in faults[:_MOST_LINES]:
            like = f" [looks like {', '.join(case.looks_like)}]" if case.looks_like else ""
            lines.append(
                f"{case.id} ({case.level}): {FAULTS[case.status].lower()}: {case.message}{like}"
            )
        if len(faults) > _MOST_LINES:
            lines.append(f"... and {len(faults) - _MOST_LINES} more; the JSON report has them all.")
        return [*lines, ""] if lines else []

    def _suspicions(self) -> list[str]:
        lines = [
            f"looks like the mutant {s.name}: {s.description} "
            f"The same in {s.explained} of {s.examined} wrong answers."
            for s in self.suspects
        ]
        return [*lines, ""] if lines else []

    @property
    def summary(self) -> str:
        """How many cases pass, in a sentence."""
        counts = self.counts
        if not counts:
            return "No case asks for anything that the adapter offers."
        answered = sum(counts.values()) - counts["unsupported"] - counts["not_run"]
        parts = sum(1 for case in self.cases if case.status == "pass" and case.missing)
        text = f"{counts['pass']} of {answered} supported cases pass"
        refusals = counts["pass"] - self.right_answers
        if refusals:
            text += f", {self.right_answers} by an answer and {refusals} by refusing"
        text += f" ({parts} of them in part: not all outputs are given)" if parts else ""
        for status, words in (
            ("unsupported", "not supported"),
            ("xfail", "fail as expected"),
            ("not_run", "not run"),
        ):
            text += f"; {counts[status]} {words}" if counts[status] else ""
        return f"{text}."


def digits_text(digits: float | None) -> str:
    """Return digits as the table has them."""
    # Rounded down: 12.99 digits are not 13.0.
    return "-" if digits is None else f"{math.floor(10 * digits) / 10:.1f}"


def share_text(share: float) -> str:
    """Return a share of the allowance as the table has it."""
    return "inf" if math.isinf(share) else f"{share:.2f}" if share < 99.995 else f"{share:.0e}"
