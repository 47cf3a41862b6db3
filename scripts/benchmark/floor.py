"""The floor: the least time of the work that no way to compute value and gradient does without.

That is the matrix products of the cheaper kernel, and one exponential for each sample and
component. Whatever does them fastest here is chosen: the products' layout, the rows of a block, and
whether threads divide the rows, or BLAS a product, or nothing is divided.

Letters in shapes: N samples, B samples of a block, K components, D dimensions, P features.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from cells import Prepared, Problem

from gmm_np.linalg.threads import cores, run_in_threads

Run = Callable[[], object]
Make = Callable[[int], Run]  # of the rows of a block: what does their work, in buffers it reuses

BLOCK_BYTES = (2**18, 2**20, 2**22, 2**23, 2**24)  # they fit a cache
BLOCK_ROWS = (256, 1024)  # of other blocks, for products with large matrices
SAMPLE = 2e-3  # seconds of the blocks that tell what a row takes, if there are enough rows
REPEAT, ENOUGH = 3, 0.01  # runs, and seconds after which there are no more


class Way(NamedTuple):
    """A way to do part of the work: blocks of so many rows, divided so."""

    name: str
    make: Make
    rows: int
    threads: int = 1  # that divide the rows
    blas_threads: int = 1

    @property
    def label(self) -> str:
        """What it is called in the notes of a cell."""
        divided = f", {self.threads} threads" if self.threads > 1 else ""
        divided += f", {self.blas_threads} threads of BLAS" if self.blas_threads > 1 else ""
        return f"{self.name}, B={self.rows}{divided}"

    def prepare(self, n: int) -> Run:
        """Return what does the work of n rows."""
        shares = [self._share((n + i) // self.threads) for i in range(self.threads)]
        return shares[0] if self.threads == 1 else partial(run_in_threads, shares)

    def _share(self, n: int) -> Run:
        blocks, rest = divmod(n, self.rows)
        runs = [self.make(self.rows)] * blocks if blocks else []
        runs += [self.make(rest)] if rest else []

        def run() -> None:
            for block in runs:
                block()

        return run


def ways(name: str, make: Make, n: int, row_bytes: int, threads: int) -> Iterator[Way]:
    """List the ways to do one kind of products."""
    sizes = {min(n, max(1, target // row_bytes)) for target in BLOCK_BYTES}
    for rows in sorted(sizes | {min(n, rows) for rows in BLOCK_ROWS}):
        yield Way(name, make, rows)
        if threads > 1:
            yield Way(name, make, rows, threads=threads)
            yield Way(name, make, rows, blas_threads=threads)


def best_seconds(way: Way, n: int) -> float:
    """Time the best of a few runs, the first of which warms up; fewer where they are long."""
    limit_blas(way.blas_threads)
    run = way.prepare(n)
    taken: list[float] = []
    while len(taken) < REPEAT and sum(taken) < ENOUGH:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken[1:] or taken)


def choose(
    candidates: Iterable[Way], n: int, seconds: Callable[[Way, int], float] = best_seconds
) -> Way:
    """Return the way that does a row in the least time, where the work is n rows."""

    def of_a_row(way: Way) -> float:
        rows = min(n, way.rows * way.threads)
        while (took := seconds(way, rows)) < SAMPLE and rows < n:
            rows = min(n, math.ceil(rows * max(2.0, SAMPLE / took)))
        return took / rows

    return min(candidates, key=of_a_row)


def limit_blas(threads: int) -> None:
    """Give BLAS so many threads from now on; the floor has its process for itself."""
    import threadpoolctl

    threadpoolctl.threadpool_limits(threads, user_api="blas")


def numbers(*shape: int) -> Any:
    """Make an array of whatever numbers, in less time than it takes to draw each."""
    return np.resize(np.random.default_rng(0).normal(size=1009), shape)


def moments_products(k: int, d: int, layout: str) -> Make:
    """Make products with features, [K, P] x [P, B] and [K, B] x [B, P], for blocks of B rows."""
    from scipy.linalg.blas import dgemm

    p = features(d)

    def make(b: int) -> Run:
        theta, sums = numbers(k, p), np.zeros((k, p))
        phi, terms = numbers(p, b), np.zeros((k, b))

        def by_matmul() -> None:
            np.matmul(theta, phi, out=terms)
            np.matmul(terms, phi.T, out=sums)

        def by_rows() -> None:
            rows, values = phi.reshape(b, p), terms.reshape(b, k)
            np.matmul(rows, theta.T, out=values)
            np.matmul(values.T, rows, out=sums)

        def by_dgemm() -> None:  # Fortran sees every array transposed
            dgemm(1.0, phi.T, theta.T, c=terms.T, overwrite_c=1)
            dgemm(1.0, phi.T, terms.T, trans_a=1, c=sums.T, overwrite_c=1)

        return {"matmul": by_matmul, "matmul by rows": by_rows, "dgemm": by_dgemm}[layout]

    return make


def direct_products(k: int, d: int, layout: str) -> Make:
    """Make products with residuals, [B, D] x [D, KD] and K times [D, B] x [B, D].

    "halves" does them as BLAS does products with triangular and of symmetric matrices, which is
    half the arithmetic.
    """
    from scipy.linalg.blas import dgemm, dsyrk, dtrmm

    def make(b: int) -> Run:
        x, factor, sums = numbers(d, b), np.eye(d), np.zeros((k, d, d))
        wide, z = numbers(k * d, d), numbers(k, d, b)
        weighted = z if layout == "halves" else numbers(k, d, b)

        def by_matmul() -> None:
            np.matmul(wide, x, out=z.reshape(k * d, b))
            np.matmul(z, weighted.transpose(0, 2, 1), out=sums)

        def by_dgemm() -> None:  # Fortran sees every array transposed
            dgemm(1.0, x.T, wide.T, c=z.reshape(k * d, b).T, overwrite_c=1)
            for i in range(k):
                dgemm(1.0, weighted[i].T, z[i].T, trans_a=1, c=sums[i].T, overwrite_c=1)

        def by_halves() -> None:
            for i in range(k):
                dtrmm(1.0, factor.T, z[i].T, side=1, overwrite_b=1)
                dsyrk(1.0, z[i].T, trans=1, c=sums[i].T, overwrite_c=1)

        return {"matmul": by_matmul, "dgemm": by_dgemm, "halves": by_halves}[layout]

    return make


def exponentials(k: int) -> Make:
    """Make the exponentials of B rows of an N x K array."""

    def make(b: int) -> Run:
        source = -10.0 * np.abs(numbers(b, k))
        return partial(np.exp, source, out=np.empty_like(source))

    return make


def features(d: int) -> int:
    """Return P: one, the coordinates, and their products."""
    return (d + 1) * (d + 2) // 2


def prepare_floor(problem: Problem) -> Prepared:
    """Prepare the cheapest of the kernels' products, and exponentials."""
    (n, d), k, threads = problem.x.shape, len(problem.means), cores()
    p = features(d)
    products = [
        *((s, moments_products, "moments", p + k) for s in ("matmul", "matmul by rows", "dgemm")),
        *((s, direct_products, "direct", 2 * k * d) for s in ("matmul", "dgemm")),
        ("halves", direct_products, "direct", k * d),
    ]
    candidates = [
        way
        for layout, make, kernel, width in products
        for way in ways(f"{kernel}, {layout}", make(k, d, layout), n, 8 * width, threads)
    ]
    chosen = choose(candidates, n)
    elementwise = choose(
        (way for way in ways("exp", exponentials(k), n, 16 * k, threads) if way.blas_threads == 1),
        n,
    )
    limit_blas(chosen.blas_threads)
    parts = chosen.prepare(n), elementwise.prepare(n)

    def call() -> None:
        for part in parts:
            part()

    return Prepared(call, None, f"{chosen.label}; {elementwise.label}")
