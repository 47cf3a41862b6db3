"""Products in tiles: small enough for one core, and short enough for their digits.

The one rule on BLAS: no product has more than 2^18 multiplications. Up to so many OpenBLAS does it
on the core that asks, on every processor; larger ones it divides among threads of its own, which
get in each other's way wherever a core has anything else to do, be it a thread of ours or another
process: a call then takes many times as long as on one core.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from gmm_np import tuning
from gmm_np.checks import FloatArray

# Samples that a product adds up one after the other: longer sums lose digits.
LONGEST_SUM: Final = 256


def multiply(left: FloatArray, right: FloatArray, out: FloatArray) -> None:
    """Write left right, of matrices [..., M, I] and [..., I, N], to `out`, which is neither."""
    rows, inner = left.shape[-2:]
    columns = right.shape[-1]
    if rows * inner * columns <= tuning.current().largest_product:
        np.matmul(left, right, out=out)
        return
    longest = max(rows, inner, columns)
    half = longest // 2
    if longest == rows:
        multiply(left[..., :half, :], right, out[..., :half, :])
        multiply(left[..., half:, :], right, out[..., half:, :])
    elif longest == columns:
        multiply(left, right[..., :half], out[..., :half])
        multiply(left, right[..., half:], out[..., half:])
    else:
        rest = np.empty(out.shape)
        multiply(left[..., :half], right[..., :half, :], out)
        multiply(left[..., half:], right[..., half:, :], rest)
        out += rest


@lru_cache(maxsize=1024)
def equal_slices(n_samples: int, size: int) -> tuple[tuple[slice, int], ...]:
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
