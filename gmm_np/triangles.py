"""Linear algebra on stacks of lower triangles, through BLAS and without a batch's overhead.

NumPy's arrays are handed to Fortran as they lie in memory, which Fortran reads transposed: each
call here says which transposes that makes. Functions in this module check nothing.

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
from scipy.linalg.blas import dgemm, dsyrk, dtrmm, dtrsm
from scipy.linalg.lapack import dpotrf, dtrtri

from gmm_np import lanes
from gmm_np.checks import FloatArray
from gmm_np.tiles import ALWAYS_SMALL, LONGEST_SUM, SMALL_PRODUCT, spans

# Up to this D a loop over components costs more than the arithmetic that it saves.
SMALL: Final = 12
# Rows of a triangle, about, that are multiplied at a time, so as to leave out most of its zeros;
# up to which D that is faster, on stacks, than BLAS on one triangle after the other.
STRIP: Final = 20
LARGEST_STRIPPED: Final = 128
# Up to this D stacks of whitened residuals and their squares are small products of whole matrices;
# beyond it BLAS does better with one triangle after the other, on all cores.
LARGEST_TILE: Final = 32
# Nanoseconds of work on a triangle, about, for each of its D^3.
CUBE_TIME: Final = 0.1
# Entries of the matrices that are worked on at a time, so that they stay in a cache.
GROUP: Final = 2**16
# Those that are inverted at a time: these loops are short ones.
INVERTED: Final = 2**18
# Rows of the triangles on the diagonal that are inverted all together.
BLOCK: Final = 8


def each(matrices: FloatArray, work: Callable[[slice], None], group: int = GROUP) -> None:
    """Call `work` with slices of matrices [K, D, D], of about `group` entries, in lanes."""
    n_matrices, n_dims = matrices.shape[:2]
    n_lanes = min(lanes.worthwhile(CUBE_TIME * matrices.size * n_dims), max(n_matrices, 1))
    n_parts = -(-matrices.size // (group * n_lanes)) * n_lanes
    if n_parts == 1:
        work(slice(0, n_matrices))
        return

    def lane(first: int) -> None:
        for i in range(first, n_parts, n_lanes):
            part = slice(n_matrices * i // n_parts, n_matrices * (i + 1) // n_parts)
            if part.start < part.stop:
                work(part)

    lanes.run([partial(lane, first) for first in range(n_lanes)])


def inverses(factors: FloatArray) -> FloatArray:
    """Inverses W_k = L_k^-1 of factors [K, D, D], so that whitening is a product.

    Solved from the right, W L = I, because that leaves W L - I small: then W e is as accurate as
    the solve L z = e. Solved from the left it is L W - I that is small, which says nothing about
    W e where L is ill-conditioned.
    """
    n_components, n_dims = factors.shape[:2]
    # One after the other each takes about 2 + D^2 / 200 us; all together, 250 us and a little each.
    if n_components * (n_dims**2 + 400) < 50_000 and n_components <= 3 * n_dims:
        inverse = np.array(factors)
        for factor in inverse:
            # Fortran sees L^T, upper, and writes W^T in its place.
            dtrtri(factor.T, lower=0, overwrite_c=1)
        return inverse
    inverse = np.zeros(factors.shape)
    with np.errstate(all="ignore"):  # what leaves the range is seen in the result
        each(factors, lambda part: _invert(factors[part], out=inverse[part]), INVERTED)
    return inverse


def _invert(factors: FloatArray, out: FloatArray) -> None:
    """Write the inverses of factors [K, D, D] to zeros, by blocks of columns from the right.

    W_ij L_jj = -sum_l W_il L_lj: what is right of a block makes what is below its diagonal.
    """
    n_dims = factors.shape[1]
    head = n_dims % BLOCK
    if head > 0:
        _invert_each(factors[:, None, :head, :head], out=out[:, None, :head, :head])
    if n_dims >= BLOCK:
        _invert_each(_diagonal_blocks(factors, head), out=_diagonal_blocks(out, head))
    for stop in range(n_dims - BLOCK, 0, -BLOCK):
        own, below = slice(max(stop - BLOCK, 0), stop), slice(stop, None)
        product = np.matmul(out[:, below, below], factors[:, below, own])
        np.negative(product, out=product)
        np.matmul(product, out[:, own, own], out=out[:, below, own])


def _diagonal_blocks(matrices: FloatArray, start: int) -> FloatArray:
    """Return the blocks on the diagonals of [K, D, D] from `start` on, as a view [K, M, B, B]."""
    k, row, column = matrices.strides
    shape = (len(matrices), (matrices.shape[1] - start) // BLOCK, BLOCK, BLOCK)
    strides = (k, BLOCK * (row + column), row, column)
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
    """Cholesky factor [D, D] of the mean of the covariances of factors [K, D, D]."""
    # R of all factors on top of each other: no square loses digits or leaves the range.
    stacked = factors.transpose(0, 2, 1).reshape(-1, factors.shape[2])
    upper = np.linalg.qr(stacked, mode="r") / np.sqrt(len(factors))
    return np.asarray((upper * np.sign(np.diagonal(upper))[:, None]).T, order="C")


def apply(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    """Products [K, D] of one matrix [D, D], or one for each [K, D, D], with vectors [K, D]."""
    subscripts = "kij,kj->ki" if matrices.ndim == 3 else "ij,kj->ki"
    return np.asarray(np.einsum(subscripts, matrices, vectors))


@lru_cache(maxsize=16)
def strips(n_dims: int) -> tuple[slice, ...]:
    """Return slices of D rows, of about the same length."""
    # So few that their product with a matrix, which BLAS may see transposed, stays on one core.
    longest = max(min(STRIP, ALWAYS_SMALL // n_dims**2), 1)
    n_strips = -(-n_dims // longest)
    edges = [n_dims * i // n_strips for i in range(n_strips + 1)]
    return tuple(slice(start, stop) for start, stop in itertools.pairwise(edges))


def transposed_times(triangles: FloatArray, matrices: FloatArray, out: FloatArray) -> None:
    """Write (at least) the lower triangles of W^T A to `out`: lower triangles W, matrices A.

    All [K, D, D]. Of what is above the diagonal of A, only what is in a strip's own square is read.
    `out` may be A: a row of the result needs none of the rows before it.
    """
    n_dims = triangles.shape[1]
    if n_dims <= LARGEST_STRIPPED:
        for rows in strips(n_dims):
            strip = triangles[:, rows.start :, rows].transpose(0, 2, 1)
            columns = slice(rows.stop)
            np.matmul(strip, matrices[:, rows.start :, columns], out=out[:, rows, columns])
        return
    out[...] = matrices
    for triangle, matrix in zip(triangles, out, strict=True):
        # Fortran sees every array transposed: matrix^T triangle, in place.
        dtrmm(1.0, triangle.T, matrix.T, side=1, trans_a=1, lower=0, overwrite_b=1)


def congruences(triangles: FloatArray, symmetric: FloatArray) -> FloatArray:
    """Products W S W^T [K, D, D] of lower triangles and symmetric matrices, in place of these."""
    n_dims = triangles.shape[1]
    if n_dims <= LARGEST_STRIPPED:
        product = np.empty(symmetric.shape)  # lower strips of W S
        for rows in strips(n_dims):
            head = slice(rows.stop)
            left, right = triangles[:, rows, head], symmetric[:, head, head]
            np.matmul(left, right, out=product[:, rows, head])
        for columns in strips(n_dims):
            head, below = slice(columns.stop), slice(columns.start, None)
            right = triangles[:, columns, head].transpose(0, 2, 1)
            np.matmul(product[:, below, head], right, out=symmetric[:, below, columns])
        for rows in strips(n_dims):
            before = slice(rows.start)
            symmetric[:, before, rows] = symmetric[:, rows, before].transpose(0, 2, 1)
        return symmetric
    for triangle, matrix in zip(triangles, symmetric, strict=True):
        # Fortran sees every array transposed: S W^T, then W (S W^T), which is symmetric.
        dtrmm(1.0, triangle.T, matrix.T, side=1, lower=0, overwrite_b=1)
        dtrmm(1.0, triangle.T, matrix.T, trans_a=1, lower=0, overwrite_b=1)
    return symmetric


def products(left: FloatArray, right: FloatArray) -> FloatArray:
    """Products [K, D, D] of lower triangles [K, D, D] with one matrix [D, D]."""
    out = np.empty(left.shape)
    for k, factor in enumerate(left):
        # Fortran sees every array transposed: right^T left^T.
        out[k] = dtrmm(1.0, factor.T, right.T, side=1, lower=0).T
    return out


def gram(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return left^T right [D, D] of matrices [K, D]."""
    return np.asarray(dgemm(1.0, right.T, left.T, trans_b=1).T)


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


def whiten(
    triangles: FloatArray,
    x: FloatArray,
    means: FloatArray,
    out: FloatArray,
    spare: FloatArray | None,
) -> None:
    """Write W (x - mu) to `out` [K, D, B] for samples x [D, B] and means [K, D].

    Triangles are [K, D, D] or one for all, [D, D]. The difference first, for its digits: in `spare`
    [K, D, B], for small products; without it in place, one triangle after the other on all cores.
    """
    n_dims, n_samples = x.shape
    if spare is None:
        np.subtract(x, means[:, :, None], out=out)
        each_triangle = np.broadcast_to(triangles, (len(out), n_dims, n_dims))
        for triangle, columns in zip(each_triangle, out, strict=True):
            # Fortran sees every array transposed: difference^T triangle^T.
            dtrmm(1.0, triangle.T, columns.T, side=1, lower=0, overwrite_b=1)
        return
    np.subtract(x, means[:, :, None], out=spare)
    size = max(SMALL_PRODUCT // n_dims**2, 1)
    for start in range(0, n_samples, size):
        part = slice(start, start + size)
        np.matmul(triangles, spare[:, :, part], out=out[:, :, part])


def add_squares(total: FloatArray, left: FloatArray, right: FloatArray) -> None:
    """Add left right^T to (at least) the lower triangles of total [K, D, D].

    Of left and right [K, D, B], whose products are symmetric: by small products, or where `left` is
    `right` one after the other on all cores.
    """
    n_dims, n_samples = left.shape[1:]
    if left is right:
        for k, columns in enumerate(left):
            # Fortran sees the upper triangle of a symmetric matrix.
            dsyrk(1.0, columns.T, beta=1.0, c=total[k].T, trans=1, lower=0, overwrite_c=1)
        return
    for part, size in spans(n_samples, min(LONGEST_SUM, max(ALWAYS_SMALL // n_dims**2, 1))):
        shape = (len(left), n_dims, -1, size)
        rows = left[:, :, part].reshape(shape).transpose(0, 2, 1, 3)
        columns = right[:, :, part].reshape(shape).transpose(0, 2, 3, 1)
        total += np.matmul(rows, columns).sum(axis=1)


def complete(lower: FloatArray) -> FloatArray:
    """Fill the upper triangles of [..., D, D] from the lower ones, in place; return the array."""
    above = ~lower_triangle(lower.shape[-1])
    stack = lower.reshape(-1, *lower.shape[-2:])
    each(stack, lambda part: np.copyto(stack[part], stack[part].transpose(0, 2, 1), where=above))
    return lower


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


def divide(second: FloatArray, inverse: FloatArray) -> FloatArray:
    """Return sums of r z e^T [K, D, D] from those of r z z^T: M_k W_k^-T, since e = W^-1 z."""
    divided = np.empty_like(second)
    for k, factor in enumerate(inverse):
        # Fortran sees W^T, upper, and M^T: W^-1 M^T, which is the transpose.
        divided[k] = dtrsm(1.0, factor.T, second[k].T, trans_a=1, lower=0).T
    return divided
