"""Decimal digits on which multiple precision and ball arithmetic agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flint
import mpmath as mp
from flint import arb

DIGITS = 34
# Two successive results of mpmath agree in this many digits, and a ball is narrower than that.
AGREE = 44
# "0" is written for what is proven to be smaller.
NOTHING = -1000
FIRST_DIGITS, LAST_DIGITS = 60, 8000
FIRST_BITS, LAST_BITS = 256, 40000

Blocks = dict[str, list[Any]]


def certify(
    multiple: Callable[[int], Blocks], balls: Callable[[int], Blocks]
) -> tuple[dict[str, list[str]], int]:
    """Return each output in 34 digits, and the bits that the proof took.

    Two successive results can agree and be wrong: what is 1e-868 is zero with 60 digits and with
    120. The balls tell, and the digits are doubled on.

    Raises
    ------
    ArithmeticError
        If the two do not come to agree: one of the formulas is wrong.
    """
    bits, proof = _proven(balls)
    digits, values = FIRST_DIGITS, multiple(FIRST_DIGITS)
    while digits <= LAST_DIGITS:
        digits, before, values = 2 * digits, values, multiple(2 * digits)
        if all(_agree(a, b, digits) for a, b in _pairs(before, values)):
            with flint.ctx.workprec(bits):
                texts = [_decimal(value, ball, digits) for value, ball in _pairs(values, proof)]
            known = [text for text in texts if text is not None]
            if len(known) == len(texts):
                found = iter(known)
                return {name: [next(found) for _ in values[name]] for name in values}, bits
    raise ArithmeticError("mpmath and Arb do not agree, or no two results of mpmath do")


def _proven(balls: Callable[[int], Blocks]) -> tuple[int, Blocks]:
    bits = FIRST_BITS
    while bits <= LAST_BITS:
        with flint.ctx.workprec(bits):
            proof = _proof(balls, bits)
            if proof and all(_narrow(ball) for block in proof.values() for ball in block):
                return bits, proof
        bits *= 2
    raise ArithmeticError("Arb: the balls stay too wide")


def _proof(balls: Callable[[int], Blocks], bits: int) -> Blocks | None:
    try:
        return balls(bits)
    except ZeroDivisionError:  # so wide a ball that the matrix in it could be singular
        return None


def _pairs(a: Blocks, b: Blocks) -> list[tuple[Any, Any]]:
    return [pair for name in a for pair in zip(a[name], b[name], strict=True)]


def _agree(a: Any, b: Any, digits: int) -> bool:
    with mp.workdps(digits):
        nothing = mp.mpf(10) ** NOTHING
        if abs(a) < nothing and abs(b) < nothing:
            return True
        return bool(abs(a - b) <= mp.mpf(10) ** -AGREE * abs(b))


def _narrow(ball: arb) -> bool:
    if ball.abs_upper() < arb(10) ** NOTHING:
        return True
    return bool(ball.rad() < arb(10) ** -AGREE * ball.abs_lower())


def _decimal(value: Any, ball: arb, digits: int) -> str | None:
    """Return 34 digits of `value` if the ball holds it and proves them, or None."""
    if ball.abs_upper() < arb(10) ** NOTHING and abs(value) < mp.mpf(10) ** NOTHING:
        return "0"
    with mp.workdps(digits):
        # The value's own error: what the last doubling of the digits could still have left.
        error = abs(value) * mp.mpf(10) ** (-2 * AGREE)
        low, high = exact(ball.lower()), exact(ball.upper())
        if not low - error <= value <= high + error:
            return None
        texts = {scientific(v) for v in (low, value, high)}
    if len(texts) > 1:  # a tie in the 34th digit, which has not been met
        raise ArithmeticError(f"digit {DIGITS} is not decided: {texts}")
    return texts.pop()


def exact(number: arb) -> Any:
    """Return a ball's midpoint for mpmath, without rounding if the digits suffice."""
    mantissa, exponent = number.mid().man_exp()
    return mp.ldexp(mp.mpf(int(mantissa)), int(exponent))


def scientific(value: Any, digits: int = DIGITS, *, up: bool = False) -> str:
    """Return d.ddde+X with `digits` digits, rounded to nearest or up; "0" for less than 1e-1000."""
    with mp.workdps(max(mp.mp.dps, digits + 20)):
        size = abs(mp.mpf(value))
        if size < mp.mpf(10) ** NOTHING:
            return "0"
        guess = int(mp.floor(mp.log10(size)))
        for exponent in (guess - 1, guess, guess + 1):  # the logarithm is rounded, and so is size
            scaled = size * mp.mpf(10) ** (digits - 1 - exponent)
            text = str(int(mp.ceil(scaled) if up else mp.nint(scaled)))
            if len(text) == digits:
                sign = "-" if value < 0 else ""
                return f"{sign}{text[0]}.{text[1:]}e{exponent:+d}"
    raise AssertionError(f"no exponent fits {value}")
