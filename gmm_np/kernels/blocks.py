"""How many samples a block has, and where its work memory is."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from gmm_np import triangles
from gmm_np.checks import FloatArray

# Bytes of work memory of a block, where there are many components or features.
BLOCK_BYTES: Final = 24 * 2**20
DIRECT_BLOCK_BYTES: Final = 31 * 2**20
# glibc returns memory to the system beyond twice the largest array, of up to 32 MiB, that it has
# seen freed; then each call waits for new pages, for up to half its time. Having seen one (which
# is never written to, and so takes no memory) it keeps that of the kernels for the next call.
np.empty(DIRECT_BLOCK_BYTES // 8)
# Samples of a block. Where there are few dimensions the time is in the calls; where there are many,
# what belongs to one component had better stay in a core's cache.
SMALLEST_BLOCK: Final = 128
LARGEST_BLOCK: Final = 8184
LARGEST_WIDE_BLOCK: Final = 2056
# Up to this D a block is such that squares are small products; above it would have too few rows.
SMALL_SQUARES: Final = 32
# A block this large is enough where a smaller one makes its products small. BLAS does these on one
# core; after others its threads wait for more, and may slow down the passes between two products.
ENOUGH_FOR_CALLS: Final = 800


def block_size(
    n_bytes: int, doubles: int, n_dims: int, n_samples: int, coefficients: int | None = None
) -> int:
    """Return the samples of a block of so many bytes that holds so many doubles for each.

    Each sample is multiplied by so many coefficients, if one product does the whole block.
    """
    if n_dims <= triangles.SMALL:
        largest = LARGEST_BLOCK
    elif n_dims <= SMALL_SQUARES:
        largest = triangles.SMALL_PRODUCT // n_dims**2
    else:
        largest = LARGEST_WIDE_BLOCK
    if coefficients is not None and triangles.SMALL_PRODUCT // coefficients >= ENOUGH_FOR_CALLS:
        largest = min(largest, triangles.SMALL_PRODUCT // coefficients)
    rows = min(max(n_bytes // (8 * doubles), SMALLEST_BLOCK), largest, LARGEST_BLOCK)
    return min(apart(rows), n_samples)


def apart(n_samples: int) -> int:
    """Return a number of samples no larger whose rows do not share their places in a cache.

    An odd number of cache lines of eight doubles. Where it is a power of two, the columns that a
    product reads displace each other.
    """
    return n_samples if n_samples < 128 else n_samples - (n_samples - 8) % 16


def carve(memory: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return the start of `memory` as a contiguous array of this shape."""
    return memory[: math.prod(shape)].reshape(shape)
