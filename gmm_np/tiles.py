"""Products in tiles: small enough for a core, and short enough for their digits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

# Up to so many multiplications OpenBLAS takes a product, on processors with AVX-512, at one go,
# without copies and threads; so that threads of our own can each have theirs.
SMALL_PRODUCT: Final = 10**6
# Up to so many it takes any product on one core.
ALWAYS_SMALL: Final = 2**18
# Samples that a product adds up one after the other: longer sums lose digits.
LONGEST_SUM: Final = 256


def spans(n_samples: int, size: int) -> Iterator[tuple[slice, int]]:
    """Yield one slice of whole spans of this size, and one of what is left, and their sizes."""
    left = n_samples % size
    if left < n_samples:
        yield slice(n_samples - left), size
    if left > 0:
        yield slice(n_samples - left, n_samples), left
