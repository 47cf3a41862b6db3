"""Answers against certified values: exact differences, correct digits, shares of the allowance.

Differences are exact: decimal arithmetic with the trap on inexact results set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, localcontext
from functools import cache, partial
from typing import Any, Final

import numpy as np

from gmm_np.conformance.cases import Case

__all__ = [
    "MOST_DIGITS",
    "POLICIES",
    "STRICT",
    "Answered",
    "CaseResult",
    "Comparison",
    "NotOffered",
    "Outcome",
    "Policy",
    "Rejected",
    "Unsupported",
    "judge",
]

#: Where the log relative error is capped: a double has no more digits to be right in.
MOST_DIGITS: Final = 15.95

_EXACT = Context(prec=20_000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact])
_ROUNDED = Context(prec=30, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_UNIT: Final = {"binary64": Decimal(2) ** -53, "binary32": Decimal(2) ** -24}
_BINARY32_BY_BINARY64: Final = 2**29
# From here on a number rounds to an infinity: the largest finite one and half its last place.
_OVERFLOW: Final = {
    "binary64": Decimal(2**1024 - 2**970),
    "binary32": Decimal(2**128 - 2**103),
}


@dataclass(frozen=True)
class Policy:
    """What is asked of an answer.

    Attributes
    ----------
    name, description : str
    times : int
        How many times the allowance an error may be.
    dtype : str or None
        The type that answers are computed in, where it is narrower than that of the case.
    nan_refuses : bool
        Whether NaN for what has to be rejected, or may be, is a rejection.
    """

    name: str
    description: str
    times: int = 1
    dtype: str | None = None
    nan_refuses: bool = False

    def dtype_of(self, case: Case) -> str:
        """Return the type that a case is judged in."""
        return self.dtype or case.dtype

    def unsupported(self, case: Case) -> str:
        """Say why a case is none for this policy, or "" if it is one."""
        if self.dtype != "binary32" or case.result == "invalid":
            return ""
        sizes = [np.abs(array[np.isfinite(array)]) for array in case.arrays.values()]
        least = min((float(s[s > 0].min(initial=1.0)) for s in sizes), default=1.0)
        most = max((float(s.max(initial=1.0)) for s in sizes), default=1.0)
        inside = least >= 2.0**-126 and most < 2.0**128
        return "" if inside else "inputs beyond the range of binary32"


STRICT: Final = Policy("strict", "The allowance of the vectors, and what is invalid is refused.")
#: By name. A sum of a million samples, one by one, loses about three digits, as "library" allows.
POLICIES: Final = {
    policy.name: policy
    for policy in (
        STRICT,
        Policy(
            "library",
            "A thousand times the allowance, three digits; NaN for what is invalid is a refusal.",
            times=1000,
            nan_refuses=True,
        ),
        Policy(
            "binary32",
            "The allowance of single precision, whatever the inputs; NaN for what is invalid is a "
            "refusal.",
            dtype="binary32",
            nan_refuses=True,
        ),
    )
}
#: Responsibilities below this may be flushed to zero in single precision, as in scripts/certify.
_FLUSHED_BINARY32: Final = Decimal("1e-36")


@dataclass(frozen=True)
class Answered:
    """An answer: the value and the gradients, None for what the adapter does not give."""

    blocks: tuple[Any, ...]


@dataclass(frozen=True)
class Rejected:
    """A refusal of the inputs, with what was said."""

    message: str


@dataclass(frozen=True)
class Unsupported:
    """The adapter has no means to answer a case of this kind."""

    reason: str


@dataclass(frozen=True)
class NotOffered:
    """The adapter is none for the function that a case asks for, and is not judged on it."""


Outcome = Answered | Rejected | Unsupported | NotOffered


@dataclass(frozen=True)
class CaseResult:
    """What became of one case.

    Attributes
    ----------
    id, level : str
    status : str
        "pass"; "wrong"; "unsupported"; "xfail" or "xpass", for a case that is listed as an expected
        failure; "crash", "garbage" or "timeout", where the tool broke down; "not_run" after that.
    message : str
        What is wrong, or not supported.
    kind : str
        Of what is wrong: "rejected", valid inputs were; "answered", invalid inputs were, with
        numbers; "shape", of an output, or numbers above the diagonal; "nan"; or "inexact". Empty
        where nothing is.
    answered : bool
        Whether outputs were compared: a case that passes without was rightly rejected.
    digits : tuple of float or None, length 4
        Log relative error of the value and of the three gradients, or of what stands in their
        places (`gmm_np.conformance.cases.OTHERS`): that of the worst entry, relative to the
        largest. None where not given, or where rounding leaves no digits.
    share : float
        The largest share of the allowance that an entry used; infinite for NaN.
    admits : float
        The fewest digits that rounding alone leaves of an output.
    missing : tuple of str
        Outputs that the adapter does not give.
    looks_like : tuple of str
        Mutants that give the same wrong answer.
    """

    id: str
    level: str
    status: str
    message: str = ""
    kind: str = ""
    answered: bool = False
    digits: tuple[float | None, ...] = (None, None, None, None)
    share: float = 0.0
    admits: float = MOST_DIGITS
    missing: tuple[str, ...] = ()
    looks_like: tuple[str, ...] = ()

    @staticmethod
    def of(
        case: Case, status: str, message: str = "", *, policy: Policy = STRICT, **found: Any
    ) -> CaseResult:
        """Return the result of a case."""
        admits = admitted_digits(case, policy)
        return CaseResult(case.id, case.level, status, message, admits=admits, **found)

    def as_json(self) -> dict[str, Any]:
        """Return the result as an object for JSON: an infinite share is null."""
        members = vars(self) | {"share": self.share if math.isfinite(self.share) else None}
        del members["admits"]  # it stands with the family
        return {n: list(v) if isinstance(v, tuple) else v for n, v in members.items()}


#: Its name in scripts/certify.
Comparison = CaseResult


def judge(case: Case, outcome: Outcome, policy: Policy = STRICT) -> CaseResult:
    """Compare what an adapter made of a case with what has to come out."""
    of = partial(CaseResult.of, case, policy=policy)
    if isinstance(outcome, NotOffered):
        outcome = Unsupported(f"no {case.function}")
    reason = policy.unsupported(case)
    if reason:
        outcome = Unsupported(f'{reason}, for the policy "{policy.name}"')
    if isinstance(outcome, Unsupported):
        return of("unsupported", outcome.reason, missing=case.blocks)
    if isinstance(outcome, Rejected):
        if case.result == "valid":
            message = f"valid inputs rejected: {outcome.message}"
            return of("wrong", message, kind="rejected", share=math.inf)
        return of("pass")
    if case.result != "valid" and policy.nan_refuses and _has_nan(outcome):
        return of("pass")
    if case.result == "invalid":
        if not _has_nan(outcome):
            return of("wrong", "invalid inputs answered", kind="answered", share=math.inf)
        message = "NaN for invalid inputs, which have to be rejected"
        return of("wrong", message, kind="nan", share=math.inf)
    return _compare(case, outcome.blocks, policy)


def _has_nan(answer: Answered) -> bool:
    """Whether the first output that is given, the value if there is one, has NaN in it."""
    for block in answer.blocks:
        if block is not None:
            try:
                return bool(np.isnan(np.asarray(block, dtype=np.float64)).any())
            except (ValueError, TypeError, OverflowError):
                return False
    return False


def _compare(case: Case, answers: tuple[Any, ...], policy: Policy) -> CaseResult:
    digits: dict[str, float | None] = {}
    missing, faults, kinds, share = [], [], set(), 0.0
    for name, shape, answer in zip(case.blocks, case.shapes, answers, strict=True):
        found: float | None = None
        if answer is None:
            missing.append(name)
        else:
            try:
                entries = _entries(answer, shape, triangular=case.is_triangular(name))
            except (ValueError, TypeError, OverflowError) as error:
                found, worst, fault, kind = 0.0, math.inf, str(error), "shape"
            else:
                found, worst, fault = _compare_block(case, name, entries, policy)
                kind = "nan" if any(map(math.isnan, entries)) else "inexact"
            share = max(share, worst)
            if fault:
                faults.append(f"{name}: {fault}")
                kinds.add(kind)
        digits[name] = found
    if len(missing) == len(case.blocks):
        message = "nothing was answered"
        return CaseResult.of(case, "unsupported", message, policy=policy, missing=tuple(missing))
    return CaseResult.of(
        case,
        "wrong" if faults else "pass",
        "; ".join(faults),
        policy=policy,
        answered=True,
        kind=next((kind for kind in ("shape", "nan", "inexact") if kind in kinds), ""),
        digits=tuple(digits.get(name or "") for name in case.columns),
        share=share,
        missing=tuple(missing),
    )


def _entries(answer: Any, shape: tuple[int, ...], *, triangular: bool) -> list[float]:
    """Return the entries of one output in the order of the certified ones."""
    array = np.asarray(answer, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"shape {array.shape} for {shape}")
    if not triangular:
        return [float(entry) for entry in array.ravel()]
    above = np.triu(np.ones(shape[-2:], dtype=bool), 1)
    bad = np.argwhere((array != 0) & above)  # NaN is not zero either
    if len(bad):
        first = [int(i) for i in bad[0]]
        raise ValueError(f"{array[tuple(first)]} at {first} above the diagonal, for 0")
    rows, columns = np.tril_indices(shape[-1])
    return [float(entry) for entry in array[..., rows, columns].ravel()]


def _compare_block(
    case: Case, name: str, entries: list[float], policy: Policy
) -> tuple[float | None, float, str]:
    """Return the digits and the worst share of one output, and what is wrong with it, or "".

    There are no digits to speak of where rounding leaves none, unless it is wrong.
    """
    worst_share, wrong, fault = 0.0, 0, ""
    errors: list[Decimal | None] = []
    with localcontext(_EXACT):
        bounds = list(bounds_of(case, name, policy))
        for index, (entry, bound) in enumerate(zip(entries, bounds, strict=True)):
            error, share = bound.compare(entry)
            errors.append(error)
            wrong += share > 1
            if share > max(worst_share, 1):
                right = f"{bound.certified:.17e}" if bound.certified else "0"
                fault = f"{entry!r} at {_place(index, case, name)} for {right}"
            worst_share = max(worst_share, share)
        digits = _digits_of(errors, bounds) if wrong or _admitted(bounds) >= 1 else None
    if wrong:
        fault = f"{wrong} of {len(entries)} wrong, the worst {fault}"
    return digits, worst_share, fault


def _digits_of(errors: list[Decimal | None], bounds: list[Bound]) -> float:
    """Return the log relative error of an output: its worst error by its largest entry."""
    if any(error is None for error in errors):
        return 0.0
    return _digits(max(error for error in errors if error is not None), _size(bounds))


def _size(bounds: list[Bound]) -> Decimal:
    """Return the largest entry within the range; where all are zero, the largest sum of addends."""
    sizes = [abs(bound.certified) for bound in bounds if abs(bound.certified) < bound.overflow]
    return max(sizes, default=Decimal(0)) or max(bound.rounding for bound in bounds) * 2**53


def _place(index: int, case: Case, name: str) -> list[int]:
    """Return the place of an entry in its array."""
    shape = case.shapes[case.blocks.index(name)]
    if case.is_triangular(name):
        rows, columns = np.tril_indices(shape[-1])
        matrix, entry = divmod(index, len(rows))
        before = [int(i) for i in np.unravel_index(matrix, shape[:-2])] if shape[:-2] else []
        return [*before, int(rows[entry]), int(columns[entry])]
    return [int(i) for i in np.unravel_index(index, shape)]


@dataclass(frozen=True)
class Bound:
    """A certified number, and how far an answer may be from it: `allowance` + `floor`."""

    certified: Decimal
    rounding: Decimal  # spread + u scale
    factor: Decimal
    floor: Decimal
    overflow: Decimal

    @property
    def allowance(self) -> Decimal:
        """The error that is allowed above the floor, C (spread + u scale)."""
        return self.factor * self.rounding

    def compare(self, answer: float) -> tuple[Decimal | None, float]:
        """Return the error above the floor and the share of the allowance that it is.

        The error is None where it is beyond any number.
        """
        if math.isnan(answer):
            return None, math.inf
        if math.isinf(answer):
            # Right where the certified value, or one that is allowed, rounds to this infinity.
            same_sign = self.certified.copy_sign(Decimal(answer)) == self.certified
            reach = abs(self.certified) + self.allowance + self.floor
            return (Decimal(0), 0.0) if same_sign and reach >= self.overflow else (None, math.inf)
        error = max(Decimal(0), abs(Decimal(answer) - self.certified) - self.floor)
        return error, _ratio(error, self.allowance) if error else 0.0


def bounds_of(case: Case, name: str, policy: Policy = STRICT) -> Iterable[Bound]:
    """Yield the bounds of one output, entry by entry. Inside an exact context."""
    block, dtype = case.outputs[name], policy.dtype_of(case)
    unit, overflow = _UNIT[dtype], _OVERFLOW[dtype]
    factor = Decimal(case.factor) * policy.times
    # The spread is that of half an ulp in the type of the case.
    wider = 1 if dtype == case.dtype else _BINARY32_BY_BINARY64
    least = Decimal(0)
    if dtype != case.dtype:
        least = _FLUSHED_BINARY32 * max(map(Decimal, block["scale"]))
    columns = (block[key] for key in ("certified", "spread", "scale", "floor"))
    for texts in zip(*columns, strict=True):
        certified, spread, scale, floor = map(Decimal, texts)
        rounding = wider * spread + unit * scale
        yield Bound(certified, rounding, factor, max(floor, least), overflow)


@cache
def admitted_digits(case: Case, policy: Policy = STRICT) -> float:
    """Return the fewest digits that rounding leaves of an output of this case, if it leaves any."""
    admitted = [MOST_DIGITS]
    with localcontext(_EXACT):
        for name in case.outputs:
            admitted.append(_admitted(list(bounds_of(case, name, policy))))
    return min(digits for digits in admitted if digits >= 1)


def _admitted(bounds: list[Bound]) -> float:
    """Return the digits that rounding leaves of one output."""
    if all(abs(bound.certified) <= bound.floor for bound in bounds):
        return MOST_DIGITS
    return _digits(max(bound.rounding for bound in bounds), _size(bounds))


def _ratio(numerator: Decimal, denominator: Decimal) -> float:
    """Return a quotient of two positive numbers as a float, infinite where it is beyond one."""
    if not denominator:
        return math.inf
    exponent = numerator.adjusted() - denominator.adjusted()
    if abs(exponent) > 300:
        return math.inf if exponent > 0 else 0.0
    return _mantissa(numerator) / _mantissa(denominator) * 10.0**exponent


def _digits(error: Decimal, size: Decimal) -> float:
    """Return the log relative error, between zero and the cap."""
    if not error:
        return MOST_DIGITS
    if not size:
        return 0.0
    logarithm = math.log10(_mantissa(size) / _mantissa(error))
    return max(0.0, min(MOST_DIGITS, logarithm + size.adjusted() - error.adjusted()))


def _mantissa(number: Decimal) -> float:
    return float(_ROUNDED.scaleb(_ROUNDED.plus(number), -number.adjusted()))
