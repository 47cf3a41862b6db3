"""Answers against certified values: exact differences, correct digits, shares of the allowance.

Differences are exact: decimal arithmetic with the trap on inexact results set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, localcontext
from functools import cache
from typing import Any, Final

import numpy as np

from gmm_np.conformance.cases import Case

__all__ = ["MOST_DIGITS", "Answered", "Comparison", "Outcome", "Rejected", "Unsupported", "judge"]

#: Where the log relative error is capped: a double has no more digits to be right in.
MOST_DIGITS: Final = 15.95

_EXACT = Context(prec=20_000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact])
_ROUNDED = Context(prec=30, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_UNIT: Final = {"binary64": Decimal(2) ** -53, "binary32": Decimal(2) ** -24}
# From here on a number rounds to an infinity: the largest finite one and half its last place.
_OVERFLOW: Final = {
    "binary64": Decimal(2**1024 - 2**970),
    "binary32": Decimal(2**128 - 2**103),
}


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


Outcome = Answered | Rejected | Unsupported


@dataclass(frozen=True)
class Comparison:
    """What became of a case.

    Attributes
    ----------
    status : {"pass", "wrong", "unsupported"}
    message : str
        What is wrong, or not supported.
    kind : str
        Of what is wrong: "rejected", valid inputs were; "answered", invalid inputs were; "shape",
        of an output, or numbers above the diagonal; "nan"; or "inexact". Empty where nothing is.
    digits : dict of float
        For each output that was given, the worst log relative error of its entries.
    share : float
        The largest share of the allowance that an entry used; infinite for NaN.
    missing : tuple of str
        Outputs that the adapter does not give.
    """

    status: str
    message: str = ""
    kind: str = ""
    digits: dict[str, float] = field(default_factory=dict)
    share: float = 0.0
    missing: tuple[str, ...] = ()


def judge(case: Case, outcome: Outcome) -> Comparison:
    """Compare what an adapter made of a case with what has to come out."""
    if isinstance(outcome, Unsupported):
        return Comparison("unsupported", outcome.reason, missing=case.blocks)
    if isinstance(outcome, Rejected):
        if case.result == "valid":
            message = f"valid inputs rejected: {outcome.message}"
            return Comparison("wrong", message, "rejected", share=math.inf)
        return Comparison("pass")
    if case.result == "invalid":
        return Comparison("wrong", "invalid inputs answered", "answered", share=math.inf)
    return _compare(case, outcome.blocks)


def _compare(case: Case, answers: tuple[Any, ...]) -> Comparison:
    digits: dict[str, float] = {}
    missing, faults, kinds, share = [], [], set(), 0.0
    for name, shape, answer in zip(case.blocks, case.shapes, answers, strict=True):
        if answer is None:
            missing.append(name)
            continue
        try:
            entries = _entries(answer, shape, triangular=name == "chol")
        except (ValueError, TypeError, OverflowError) as error:
            digits[name], share = 0.0, math.inf
            faults.append(f"{name}: {error}")
            kinds.add("shape")
            continue
        digits[name], worst, fault = _compare_block(case, name, entries)
        share = max(share, worst)
        if fault:
            faults.append(f"{name}: {fault}")
            kinds.add("nan" if any(map(math.isnan, entries)) else "inexact")
    if len(missing) == len(case.blocks):
        return Comparison("unsupported", "nothing was answered", missing=tuple(missing))
    status = "wrong" if faults else "pass"
    kind = next((kind for kind in ("shape", "nan", "inexact") if kind in kinds), "")
    return Comparison(status, "; ".join(faults), kind, digits, share, tuple(missing))


def _entries(answer: Any, shape: tuple[int, ...], *, triangular: bool) -> list[float]:
    """Return the entries of one output in the order of the certified ones."""
    array = np.asarray(answer, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"shape {array.shape} for {shape}")
    if not triangular:
        return [float(entry) for entry in array.ravel()]
    above = np.triu(np.ones(shape[1:], dtype=bool), 1)
    bad = np.argwhere((array != 0) & above)  # NaN is not zero either
    if len(bad):
        first = [int(i) for i in bad[0]]
        raise ValueError(f"{array[tuple(first)]} at {first} above the diagonal, for 0")
    rows, columns = np.tril_indices(shape[-1])
    return [float(entry) for entry in array[:, rows, columns].ravel()]


def _compare_block(case: Case, name: str, entries: list[float]) -> tuple[float, float, str]:
    """Return the worst digits and share of one output, and what is wrong with it, if anything."""
    worst_digits, worst_share, wrong, fault = MOST_DIGITS, 0.0, 0, ""
    with localcontext(_EXACT):
        bounds = bounds_of(case, name)
        for index, (entry, bound) in enumerate(zip(entries, bounds, strict=True)):
            digits, share = bound.compare(entry)
            worst_digits = min(worst_digits, digits)
            if share > worst_share:
                worst_share = share
                if share > 1:
                    right = f"{bound.certified:.17e}" if bound.certified else "0"
                    fault = f"{entry!r} at {_place(index, case, name)} for {right}"
            wrong += share > 1
    if wrong:
        fault = f"{wrong} of {len(entries)} wrong, the worst {fault}"
    return worst_digits, worst_share, fault


def _place(index: int, case: Case, name: str) -> list[int]:
    """Return the place of an entry in its array."""
    shape = case.shapes[case.blocks.index(name)]
    if name == "chol":
        rows, columns = np.tril_indices(shape[-1])
        k, entry = divmod(index, len(rows))
        return [k, int(rows[entry]), int(columns[entry])]
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

    def compare(self, answer: float) -> tuple[float, float]:
        """Return correct digits and the share of the allowance that an answer uses."""
        if math.isnan(answer):
            return 0.0, math.inf
        if math.isinf(answer):
            # Right where the certified value, or one that is allowed, rounds to this infinity.
            reach = self.certified.copy_sign(Decimal(answer)) == self.certified
            right = reach and abs(self.certified) + self.allowance + self.floor >= self.overflow
            return (MOST_DIGITS, 0.0) if right else (0.0, math.inf)
        error = abs(Decimal(answer) - self.certified) - self.floor
        if error <= 0:
            return MOST_DIGITS, 0.0
        share = _ratio(error, self.allowance)
        if not self.certified:  # exactly zero: digits below the sum of absolute addends
            return _digits(error, self.rounding * 2**53), share
        return _digits(error, abs(self.certified)), share

    @property
    def admits(self) -> float:
        """Digits that the rounding of the inputs and of the addends leaves."""
        if abs(self.certified) <= self.floor:
            return MOST_DIGITS
        return _digits(self.rounding, abs(self.certified))


def bounds_of(case: Case, name: str) -> Iterable[Bound]:
    """Yield the bounds of one output, entry by entry. Inside an exact context."""
    block: Mapping[str, list[str]] = case.outputs[name]
    factor, unit, overflow = Decimal(case.factor), _UNIT[case.dtype], _OVERFLOW[case.dtype]
    columns = (block[key] for key in ("certified", "spread", "scale", "floor"))
    for texts in zip(*columns, strict=True):
        certified, spread, scale, floor = map(Decimal, texts)
        yield Bound(certified, spread + unit * scale, factor, floor, overflow)


@cache
def admitted_digits(case: Case) -> float:
    """Return the fewest digits that rounding alone leaves of an output of this case."""
    with localcontext(_ROUNDED):
        return min(
            (bound.admits for name in case.outputs for bound in bounds_of(case, name)),
            default=MOST_DIGITS,
        )


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
