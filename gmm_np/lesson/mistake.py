"""What a mistake is, its kinds, and the general ones.

Wrong forms of the exercises, as people write them, stand in the two modules beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np

SIGN: Final = "a sign"
TRANSPOSE: Final = "a transpose"
MISSING: Final = "a missing term"
REDUCTION: Final = "a wrong reduction"
TWO: Final = "a factor of two"
TRIANGLE: Final = "an upper triangle"


class Mistake(NamedTuple):
    """A kind of mistake, what it is in words, and what it gives."""

    kind: str
    what: str
    wrong: Callable[..., Any]


def general(right: Any) -> Iterator[Mistake]:
    """Yield mistakes that any output can have, from the right one."""
    out = np.asarray(right, dtype=np.float64)
    yield Mistake(SIGN, "all of it has the opposite sign", lambda *_: -out)
    yield Mistake(TWO, "it is twice what it should be", lambda *_: 2 * out)
    yield Mistake(TWO, "it is half of what it should be", lambda *_: 0.5 * out)
    if out.ndim >= 2 and out.shape[-1] == out.shape[-2]:
        flipped = np.swapaxes(out, -1, -2)
        yield Mistake(TRANSPOSE, "it is the transpose of what it should be", lambda *_: flipped)
