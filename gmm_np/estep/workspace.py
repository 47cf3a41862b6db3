"""How many samples a block has, and where its work memory is."""

from __future__ import annotations

import math

import numpy as np

from gmm_np import tuning
from gmm_np.checks import FloatArray

# glibc returns memory to the system beyond twice the largest array, of up to 32 MiB, that it has
# seen freed; then each call waits for new pages, for up to half its time. Having seen one (which
# is never written to, and so takes no memory) it keeps that of the kernels for the next call.
np.empty(31 * 2**20 // 8)


def block_size(n_bytes: int, doubles: int, n_samples: int) -> int:
    """Return the samples of a block of so many bytes that holds so many doubles for each."""
    t = tuning.current()
    rows = min(max(n_bytes // (8 * doubles), t.smallest_block), t.largest_block)
    return min(avoid_aliasing(rows), n_samples)


def equal_chunk(n_samples: int, most: int) -> int:
    """Return the length of parts of about the same length, of which there are as few as can be."""
    n_parts = -(-n_samples // most)
    # `avoid_aliasing` takes away up to 15 samples, which must not add up to another part
    return min(avoid_aliasing(-(-n_samples // n_parts) + 15), most)


def avoid_aliasing(n_samples: int) -> int:
    """Return a number of samples no larger whose rows do not share their places in a cache.

    An odd number of cache lines of eight doubles. Where it is a power of two, the columns that a
    product reads displace each other.
    """
    return n_samples if n_samples < 128 else n_samples - (n_samples - 8) % 16


def view(memory: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return the start of `memory` as a contiguous array of this shape."""
    return memory[: math.prod(shape)].reshape(shape)
