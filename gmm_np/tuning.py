"""Every constant of speed: how much work is done at a time, and what ways to do it cost.

None of them changes what is computed but by rounding. They were measured on two cores of an Intel
Xeon at 2.5 GHz with AVX-512 (OpenBLAS 0.3.31), with it and with `--without-avx512`
(scripts/benchmark.py), in November 2026; sizes of tiles, strips and blocks are flat within 3 %
around these values on both. Costs are in nanoseconds of one core, the geometric mean of both.

Letters: K components, D dimensions, P features, B samples of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Tuning:
    """Values of the constants; `use` changes some of them for a while."""

    # --- products and triangles (gmm_np.linalg) ---

    # Multiplications of a product. Up to so many OpenBLAS does it on the core that asks, on
    # every processor: its own limit, and not a matter of taste.
    largest_product: int = 2**18
    # Rows of a triangle that are multiplied at a time, about, so as to leave out most of its
    # zeros: with matrices, and with many samples.
    strip: int = 20
    band: int = 32
    # ns of work on a triangle for each of its D^3, about.
    cube_time: float = 0.1
    # Entries of the matrices [K, D, D] that are worked on at a time, so that they stay in a
    # cache; and of those that are inverted, in shorter loops.
    group: int = 2**16
    inverted_group: int = 2**18
    # Rows of the triangles on the diagonal that are inverted all together.
    inverted_rows: int = 8
    # One triangle after the other is inverted by LAPACK up to this D, where K (D^2 + 400) and
    # K / D are less than these: each takes about 2 + D^2 / 200 us, all together 250 us and a
    # little each.
    lapack_dims: int = 64
    lapack_work: int = 50_000
    lapack_overhead: int = 400
    lapack_components: int = 3

    # --- threads ---

    # More wait for the interpreter, and for memory.
    most_threads: int = 8
    # ns of work for which another thread is worth its while. Of two, one may wait for as long
    # as the interpreter lets a thread go on that others wait for, 5 ms: below 10 ms they gain
    # nothing.
    worth_a_thread: float = 5e6
    # ns a sample up to which threads would wait for the interpreter most of the time.
    cheap_sample: float = 150.0

    # --- rows, chunks and blocks ---

    # Rows that are turned to columns at a time.
    turned_rows: int = 1024
    # Bytes and rows of a chunk, for which one kernel is chosen; rows that show which, most
    # likely.
    chunk_bytes: int = 2 * 2**20
    largest_chunk: int = 8184
    first_rows: int = 256
    # Bytes of work memory of a block: what a core's cache holds; more for the residual
    # kernel, which passes over it once.
    feature_block_bytes: int = 3 * 2**20
    residual_block_bytes: int = 15 * 2**20
    # Samples of a block. With fewer the time is in the calls, and in adding its sums to those
    # so far.
    smallest_block: int = 248
    largest_block: int = 8184
    # Numbers that NumPy may buffer: less than two rows of a block.
    buffer: int = 256

    # --- the feature kernel ---

    # Components of a tile, at most, and samples of one of the first product.
    tile_components: int = 40
    tile_samples: int = 64
    # So many components are worth rounding to a multiple of what registers take at a time.
    rounded_components: int = 20
    register: int = 4
    # Doubles that are added to the sums at a time, while they are in a cache.
    cached_sums: int = 2**17
    # Samples of a component, on average, and doubles of all, that are gathered before their
    # residuals are added.
    gathered_samples: int = 256
    gathered_doubles: int = 2**20

    # --- the residual kernel ---

    # Bytes of the residuals of components that are whitened together.
    residual_group_bytes: int = 2 * 2**20
    # Up to this share of a component's residuals in a block it pays to copy those that count;
    # in more than so many dimensions; which is asked of blocks with more coordinates than
    # this, and where it did not pay, again so many blocks later.
    copied_share: float = 0.5
    copied_dims: int = 12
    smallest_asked: int = 2**17
    blocks_to_wait: int = 8

    # --- rows with missing values ---

    # Numbers in rows that are grouped by pattern at a time (64 MiB), and in the matrices of the
    # patterns that are taken together.
    grouped_doubles: int = 2**23
    pattern_doubles: int = 2**18
    # Rows a pattern from which on coefficients of features, which cost D^3, are worth their while.
    pattern_features: int = 8

    # --- costs, by which kernels and threads are chosen ---

    # Up to so many coordinates of residuals (0.1 ms) there is no time to save, only digits to
    # lose.
    little_work: int = 2**14
    # Features: each is written once, the slower the less of them stays in a cache, and
    # multiplied by K coefficients, twice with a gradient; each component; what is K-sized,
    # D^3 for each component.
    feature_write: float = 2.6
    feature_cache: float = 1.1e-4
    feature_multiply: float = 0.15
    feature_component: float = 4.0
    feature_cube: float = 0.05
    # Residuals of dense families: passes over K D coordinates, and triangles; each component;
    # D^3.
    residual_pass: float = 5.1
    residual_triangle: float = 0.055
    residual_component: float = 2.0
    residual_cube: float = 0.08
    # Residuals of the others.
    diagonal_pass: float = 3.2
    # The second product, for each component: a feature and sample; turning the first ones to
    # moments.
    product_sample: float = 0.075
    product_cube: float = 0.15
    # Whitening those residuals that count instead, for each component: a coordinate, with its
    # part of a triangle; and the component as a whole, with its D^2.
    active_coordinate: float = 18.0
    active_triangle: float = 0.2
    active_component: float = 3e4
    active_square: float = 8.0


# Those in use, read as `tuning.active`.
active = Tuning()


@contextmanager
def use(**changes: float) -> Iterator[Tuning]:
    """Change constants, for all threads, until the end of the context: to test and to measure."""
    global active
    before = active
    active = replace(before, **changes)  # type: ignore[arg-type]
    try:
        yield active
    finally:
        active = before
