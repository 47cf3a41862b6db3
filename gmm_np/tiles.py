"""Products in tiles: small enough for a core, and short enough for their digits."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

# Up to so many multiplications OpenBLAS takes a product, on processors with AVX-512, at one go,
# without copies and threads; so that threads of our own can each have theirs.
SMALL_PRODUCT: Final = 10**6
# Up to so many it takes any product on one core.
ALWAYS_SMALL: Final = 2**18
# Samples that a product adds up one after the other: longer sums lose digits.
LONGEST_SUM: Final = 256


@lru_cache(maxsize=1024)
def spans(n_samples: int, size: int) -> tuple[tuple[slice, int], ...]:
    """Return slices of samples that consist of equal spans of this size at most, and their sizes.

    One slice where it can be done with less than twice as many spans as it takes, else two.
    """
    fewest = -(-n_samples // size)
    for count in range(fewest, 2 * fewest):
        if n_samples % count == 0:
            return ((slice(0, n_samples), n_samples // count),)
    size = -(-n_samples // fewest)
    whole = n_samples - n_samples % size
    return (slice(0, whole), size), (slice(whole, n_samples), n_samples - whole)
