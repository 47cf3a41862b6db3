"""Small products, and linear algebra on stacks of lower triangles made of them.

The one rule on BLAS: no product has more than 2^18 multiplications. Up to so many OpenBLAS does it
on the core that asks, on every processor; larger ones it divides among threads of its own, which
get in each other's way wherever a core has anything else to do, be it a thread of ours or another
process: a call then takes many times as long as on one core.

LAPACK is asked only for what it does on one core. NumPy's arrays are handed to Fortran as they lie
in memory, which Fortran reads transposed. Functions in this module check nothing.

Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dtrtri

from gmm_np import tuning
from gmm_np.checks import FloatArray
from gmm_np.linalg import threads

# Samples that a product adds up one after the other: longer sums lose digits.
LONGEST_SUM: Final = 256


def multiply(left: FloatArray, right: FloatArray, out: FloatArray) -> None:
    """Write left right, of matrices [..., M, I] and [..., I, N], to `out`, which is neither."""
    rows, inner = left.shape[-2:]
    columns = right.shape[-1]
    if rows * inner * columns <= tuning.active.largest_product:
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


def each(matrices: FloatArray, work: Callable[[slice], None], group: int | None = None) -> None:
    """Call `work` with slices of matrices [K, D, D], of about `group` entries, in threads."""
    n_matrices, n_dims = matrices.shape[:2]
    t = tuning.active
    group = t.group if group is None else group
    time = t.cube_time * matrices.size * n_dims
    n_threads = 1
    if time >= 2 * t.worth_a_thread:
        n_threads = min(threads.worthwhile_threads(time), max(n_matrices, 1))
    n_parts = -(-matrices.size // (group * n_threads)) * n_threads
    if n_parts == 1:
        work(slice(0, n_matrices))
        return

    def thread(first: int) -> None:
        for i in range(first, n_parts, n_threads):
            part = slice(n_matrices * i // n_parts, n_matrices * (i + 1) // n_parts)
            if part.start < part.stop:
                work(part)

    threads.run_in_threads([partial(thread, first) for first in range(n_threads)])


def inverses(factors: FloatArray) -> FloatArray:
    """Inverses W_k = L_k^-1 of factors [K, D, D], so that whitening is a product.

    Solved from the right, W L = I, because that leaves W L - I small: then W e is as accurate as
    the solve L z = e. Solved from the left it is L W - I that is small, which says nothing about
    W e where L is ill-conditioned.
    """
    n_components, n_dims = factors.shape[:2]
    t = tuning.active
    little = n_components * (n_dims**2 + t.lapack_overhead) < t.lapack_work
    if little and n_components <= t.lapack_components * n_dims and n_dims <= t.lapack_dims:
        inverse = np.array(factors, order="C")  # also of one that stands for all
        for factor in inverse:
            # Fortran sees L^T, upper, and writes W^T in its place.
            dtrtri(factor.T, lower=0, overwrite_c=1)
        return inverse
    inverse = np.zeros(factors.shape)
    with np.errstate(all="ignore"):  # what leaves the range is seen in the result
        each(factors, lambda part: _invert(factors[part], out=inverse[part]), t.inverted_group)
    return inverse


def _invert(factors: FloatArray, out: FloatArray) -> None:
    """Write the inverses of factors [K, D, D] to zeros, by blocks of columns from the right.

    W_ij L_jj = -sum_l W_il L_lj: what is right of a block makes what is below its diagonal.
    """
    n_dims, size = factors.shape[1], tuning.active.inverted_rows
    head = n_dims % size
    if head > 0:
        _invert_each(factors[:, None, :head, :head], out=out[:, None, :head, :head])
    if n_dims >= size:
        _invert_each(_diagonal_blocks(factors, head, size), out=_diagonal_blocks(out, head, size))
    for stop in range(n_dims - size, 0, -size):
        own, below = slice(max(stop - size, 0), stop), slice(stop, None)
        product = np.empty(factors[:, below, own].shape)
        multiply(out[:, below, below], factors[:, below, own], out=product)
        np.negative(product, out=product)
        multiply(product, out[:, own, own], out=out[:, below, own])


def _diagonal_blocks(matrices: FloatArray, start: int, size: int) -> FloatArray:
    """Return the blocks on the diagonals of [K, D, D] from `start` on, as a view [K, M, B, B]."""
    k, row, column = matrices.strides
    shape = (len(matrices), (matrices.shape[1] - start) // size, size, size)
    strides = (k, size * (row + column), row, column)
    return as_strided(matrices[:, start:, start:], shape, strides)


def _invert_each(factors: FloatArray, out: FloatArray) -> None:
    """Write the inverses of small factors [K, M, B, B], column by column from the right."""
    size = factors.shape[-1]
    # The stack last, for long loops; in two steps, of which the first reads whole cache lines.
    rows = np.ascontiguousarray(factors).reshape(-1, size * size)
    columns = np.ascontiguousarray(rows.T).reshape(size, size, -1)
    inverse = np.zeros(columns.shape)
    for j in range(size - 1, -1, -1):
        inverse[j, j] = 1.0 / columns[j, j]
        right = inverse[j + 1 :, j + 1 :]
        below = columns[j + 1 :, j] * -inverse[j, j]
        np.einsum("ilk,lk->ik", right, below, out=inverse[j + 1 :, j])
    out[...] = np.ascontiguousarray(inverse.reshape(size * size, -1).T).reshape(out.shape)


def inverse_norms(inverse: FloatArray) -> FloatArray:
    """Upper bounds [K] of the spectral norms of matrices [K, D, D]."""
    # The root of the product of the largest absolute column and row sums.
    norms = np.empty(len(inverse))

    def measure(part: slice) -> None:
        size = np.abs(inverse[part])
        norms[part] = np.sqrt(size.sum(axis=1).max(axis=1) * size.sum(axis=2).max(axis=1))

    each(inverse, measure)
    return norms


def common_factor(factors: FloatArray) -> FloatArray:
    """Cholesky factor [D, D] of about the mean of the covariances of factors [K, D, D].

    Where that is singular, up to rounding, of its diagonal.
    """
    # In rows that are at most 1, so that no square leaves the range, whatever the units.
    n_components, n_dims = factors.shape[:2]
    unit = np.abs(factors).max(axis=(0, 2))  # [D]
    rows = factors.transpose(1, 0, 2).reshape(n_dims, -1) / unit[:, None]
    covariance = np.empty((n_dims, n_dims))
    multiply(rows, rows.T, out=covariance)
    covariance /= n_components
    try:
        factor = cholesky(covariance)
    except np.linalg.LinAlgError:
        factor = np.diag(np.sqrt(np.diagonal(covariance)))
    return np.asarray(unit[:, None] * factor)


def apply(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    """Products [K, D] of one matrix [D, D], or one for each [K, D, D], with vectors [K, D]."""
    subscripts = "kij,kj->ki" if matrices.ndim == 3 else "ij,kj->ki"
    return np.asarray(np.einsum(subscripts, matrices, vectors))


@lru_cache(maxsize=16)
def strips(n_dims: int) -> tuple[slice, ...]:
    """Return slices of D rows, of about the same length."""
    n_strips = -(-n_dims // tuning.active.strip)
    edges = [n_dims * i // n_strips for i in range(n_strips + 1)]
    return tuple(slice(start, stop) for start, stop in itertools.pairwise(edges))


def transposed_times(triangles: FloatArray, matrices: FloatArray, out: FloatArray) -> None:
    """Write (at least) the lower triangles of W^T A to `out`: lower triangles W, matrices A.

    All [K, D, D]. Of what is above the diagonal of A, only what is in a strip's own square is read.
    """
    for rows in strips(triangles.shape[1]):
        strip = triangles[:, rows.start :, rows].transpose(0, 2, 1)
        columns = slice(rows.stop)
        multiply(strip, matrices[:, rows.start :, columns], out=out[:, rows, columns])


def lower_products(triangles: FloatArray, symmetric: FloatArray) -> FloatArray:
    """Products W S [K, D, D] of lower triangles and symmetric matrices; (at least) the lower ones.

    What is above the diagonal is anything.
    """
    out = np.empty(symmetric.shape)
    for rows in strips(triangles.shape[1]):
        head = slice(rows.stop)
        multiply(triangles[:, rows, head], symmetric[:, head, head], out=out[:, rows, head])
    return out


def congruences(triangles: FloatArray, symmetric: FloatArray) -> FloatArray:
    """Products W S W^T [K, D, D] of lower triangles and symmetric matrices, in place of these."""
    every_strip, product = strips(triangles.shape[1]), np.empty(symmetric.shape)
    for rows in every_strip:  # as in `lower_products`
        head = slice(rows.stop)
        multiply(triangles[:, rows, head], symmetric[:, head, head], out=product[:, rows, head])
    for columns in every_strip:
        head, below = slice(columns.stop), slice(columns.start, None)
        right = triangles[:, columns, head].transpose(0, 2, 1)
        multiply(product[:, below, head], right, out=symmetric[:, below, columns])
    for rows in every_strip:
        before = slice(rows.start)
        symmetric[:, before, rows] = symmetric[:, rows, before].transpose(0, 2, 1)
    return symmetric


def products(left: FloatArray, right: FloatArray) -> FloatArray:
    """Products [K, D, D] of lower triangles [K, D, D] with others, or with one [D, D]."""
    out = np.zeros(left.shape)
    for rows in strips(left.shape[1]):
        head = slice(rows.stop)
        multiply(left[:, rows, head], right[..., head, head], out=out[:, rows, head])
    return out


def gram(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return left^T right [D, D] of matrices [K, D]."""
    out = np.empty((left.shape[1], right.shape[1]))
    multiply(left.T, right, out=out)
    return out


def cholesky(matrix: FloatArray) -> FloatArray:
    """Lower Cholesky factor [D, D].

    Raises
    ------
    LinAlgError
        If the matrix is not positive definite.
    """
    factor, info = dpotrf(matrix.T, lower=0, clean=1)  # Fortran sees the factor transposed
    if info != 0:
        raise np.linalg.LinAlgError
    return np.asarray(factor.T)


@lru_cache(maxsize=16)
def bands(n_dims: int) -> tuple[slice, ...]:
    """Return slices of D rows, of about the same length, for products with many samples."""
    n_bands = max(round(n_dims / tuning.active.band), 1)
    edges = [n_dims * i // n_bands for i in range(n_bands + 1)]
    return tuple(slice(start, stop) for start, stop in itertools.pairwise(edges))


def whiten(
    triangles: FloatArray, x: FloatArray, means: FloatArray, out: FloatArray, spare: FloatArray
) -> None:
    """Write W (x - mu) to `out` [K, D, B] for samples x [D, B] and means [K, D].

    Triangles are [K, D, D] or one for all, [D, D]. `spare` [K, D, B] takes the difference, which
    comes first, for its digits.
    """
    np.subtract(x, means[:, :, None], out=spare)
    times(triangles, spare, out)


def times(triangles: FloatArray, columns: FloatArray, out: FloatArray) -> None:
    """Write the products of triangles, [K, D, D] or [D, D], with columns [K, D, B] to `out`."""
    n_dims, n_samples = columns.shape[1:]
    for rows in bands(n_dims):
        head = slice(rows.stop)
        band = triangles[..., None, rows, head]  # [K or none, 1, rows, columns]
        for samples, size in equal_slices(n_samples, _longest(rows)):
            right = _tiled(columns[:, head, samples], size)
            np.matmul(band, right, out=_tiled(out[:, rows, samples], size))


def add_squares(total: FloatArray, left: FloatArray, right: FloatArray) -> None:
    """Add left right^T, which is symmetric, to the lower triangles of total [K, D, D].

    Of left and right [K, D, B]. Some of what is above the diagonals is added, too.
    """
    n_dims, n_samples = left.shape[1:]
    for rows in bands(n_dims):
        head = slice(rows.stop)
        for samples, size in equal_slices(n_samples, min(LONGEST_SUM, _longest(rows))):
            band = _tiled(left[:, rows, samples], size)
            columns = _tiled(right[:, head, samples], size).swapaxes(2, 3)
            total[:, rows, head] += np.matmul(band, columns).sum(axis=1)


def _longest(rows: slice) -> int:
    """Return the most samples of a product with a band of a triangle."""
    return max(tuning.active.largest_product // int((rows.stop - rows.start) * rows.stop), 1)


def _tiled(columns: FloatArray, size: int) -> FloatArray:
    """Return columns [K, D, B] as a view [K, B / size, D, size]."""
    return np.asarray(columns.reshape(*columns.shape[:2], -1, size).swapaxes(1, 2))


def complete(lower: FloatArray) -> FloatArray:
    """Fill the upper triangles of [..., D, D] from the lower ones, in place; return the array."""
    above = ~lower_triangle(lower.shape[-1])
    stack = lower.reshape(-1, *lower.shape[-2:])
    each(stack, lambda part: np.copyto(stack[part], stack[part].transpose(0, 2, 1), where=above))
    return lower


def diagonal_of(matrices: FloatArray) -> FloatArray:
    """Return the diagonals [..., D] of matrices [..., D, D], as a view to be written to."""
    diagonals: FloatArray = np.einsum("...ii->...i", matrices)
    return diagonals


def clear_above(matrices: FloatArray) -> None:
    """Set what is above the diagonals of [K, D, D] to zero."""
    above = ~lower_triangle(matrices.shape[1])
    for rows in strips(matrices.shape[1]):
        matrices[:, rows, rows.stop :] = 0.0
        np.copyto(matrices[:, rows, rows], 0.0, where=above[rows, rows])


@lru_cache(maxsize=16)
def lower_triangle(n_dims: int) -> NDArray[np.bool_]:
    """Where the lower triangle of [D, D] is; shared, so read-only."""
    lower = np.tri(n_dims, dtype=bool)
    lower.setflags(write=False)
    return lower
