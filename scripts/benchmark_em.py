"""EM against scikit-learn: the same start, the same log-likelihoods, and the ratio of times.

    python scripts/benchmark_em.py [--n 100000] [--d 16] [--k 16] [--iterations 20] [--rounds 5]
        [--without-avx512]

For each covariance type both estimators make the same iterations from the same start. Their
log-likelihoods are compared first, iteration by iteration; only then are they timed, in turns and
each in a process of its own, so that whatever else the machine does meets both. The environment of
these processes says that they may use all cores: in a pool's, gmm_np would take one. Ratios are
ours over theirs, the median of the rounds; the exit code is 1 if log-likelihoods differ by more
than 1e-9 relative.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from typing import Any
from unittest import mock

import numpy as np
import sklearn
import sklearn.mixture
from benchmark_environment import describe_avx512, make_environment

import gmm_np
from gmm_np.checks import FloatArray
from gmm_np.linalg.threads import cores

Sizes = tuple[int, int, int]

ALLOWED = 1e-9
# Seconds in which threads of the other process fall asleep: OpenBLAS waits actively for 0.1.
SETTLE = 0.5


@lru_cache(maxsize=1)
def problem(n: int, d: int, k: int) -> tuple[FloatArray, FloatArray]:
    """Rows [N, D] from K Gaussians, and a start a little off their parameters."""
    rng = np.random.default_rng(0)
    means = 3 * rng.standard_normal((k, d))
    factors = np.tril(0.3 * rng.standard_normal((k, d, d)), -1) + np.eye(d)
    labels = rng.integers(k, size=n)
    noise = rng.standard_normal((n, d))
    x = np.empty((n, d))
    for j in range(k):
        x[labels == j] = means[j] + noise[labels == j] @ factors[j].T
    return x, means + 0.5 * rng.standard_normal((k, d))


def start(covariance_type: str, means: FloatArray, x: FloatArray) -> dict[str, Any]:
    """Return arguments that start both estimators at the same place."""
    k, d = means.shape
    variance = float(x.var())
    precisions = {
        "full": np.stack([np.eye(d) / variance] * k),
        "tied": np.eye(d) / variance,
        "diag": np.full((k, d), 1 / variance),
        "spherical": np.full(k, 1 / variance),
    }[covariance_type]
    return {
        "n_components": k,
        "covariance_type": covariance_type,
        "weights_init": np.full(k, 1 / k),
        "means_init": means,
        "precisions_init": precisions,
    }


def fit(
    library: str, covariance_type: str, sizes: Sizes, iterations: int
) -> tuple[float, FloatArray]:
    """Fit once with "ours" or "theirs"; return seconds and log-likelihoods. Runs in a worker."""
    warnings.simplefilter("ignore")  # neither converges in a fixed number of iterations
    x, means = problem(*sizes)
    made_by: Any = gmm_np if library == "ours" else sklearn.mixture
    options = {**start(covariance_type, means, x), "max_iter": iterations, "tol": 0}
    estimator = made_by.GaussianMixture(**options)
    time.sleep(SETTLE)
    begin = time.perf_counter()
    estimator.fit(x)
    return time.perf_counter() - begin, np.array(estimator.lower_bounds_)


@contextlib.contextmanager
def start_workers(
    threads: int, *, without_avx512: bool
) -> Iterator[dict[str, ProcessPoolExecutor]]:
    """Give each library a process: the threads of one's BLAS would be in the way of the other's."""
    context = multiprocessing.get_context("spawn")
    environment = make_environment(without_avx512=without_avx512, threads=threads)
    with (
        mock.patch.dict(os.environ, environment),  # a process of a pool has that of its parent
        ProcessPoolExecutor(1, context) as ours,
        ProcessPoolExecutor(1, context) as theirs,
    ):
        yield {"ours": ours, "theirs": theirs}


def compare(
    workers: dict[str, ProcessPoolExecutor],
    covariance_type: str,
    sizes: Sizes,
    iterations: int,
    rounds: int,
) -> bool:
    """Print a line; return whether both reached the same log-likelihoods."""

    def both() -> list[tuple[float, FloatArray]]:
        """Fit with one after the other."""
        arguments = covariance_type, sizes, iterations
        return [worker.submit(fit, name, *arguments).result() for name, worker in workers.items()]

    bounds = [found for _, found in both()]
    difference = float(np.max(np.abs(bounds[0] - bounds[1]) / np.abs(bounds[1])))
    line = f"{covariance_type:<10} log-likelihood {bounds[0][-1]:.9f}, differs by {difference:.1e}"
    if difference > ALLOWED:
        print(f"{line}: MORE THAN ALLOWED, not timed")
        return False
    seconds = [[taken for taken, _ in both()] for _ in range(rounds)]
    a, b = (statistics.median(column) for column in zip(*seconds, strict=True))
    ratio = statistics.median(mine / other for mine, other in seconds)
    print(f"{line}; ours {a:.2f} s, scikit-learn {b:.2f} s, ratio {ratio:.3f}", flush=True)
    return True


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--d", type=int, default=16)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--types", nargs="+", default=["full", "tied", "diag", "spherical"], metavar="TYPE"
    )
    parser.add_argument(
        "--without-avx512", action="store_true", help="as on a processor that has none"
    )
    options = parser.parse_args()
    sizes = options.n, options.d, options.k
    threads, without = cores(), options.without_avx512
    print(
        f"N = {options.n}, D = {options.d}, K = {options.k}, {options.iterations} iterations; "
        f"Python {sys.version.split()[0]}, NumPy {np.__version__}, scikit-learn "
        f"{sklearn.__version__}; cores used: {threads}; {describe_avx512(without=without)}"
    )
    with start_workers(threads, without_avx512=without) as workers:
        same = [
            compare(workers, kind, sizes, options.iterations, options.rounds)
            for kind in options.types
        ]
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
