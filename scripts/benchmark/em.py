"""EM against scikit-learn: the same start, the same log-likelihoods, and the ratio of times.

    python scripts/benchmark_em.py [--n 100000] [--d 16] [--k 16] [--iterations 20] [--rounds 5]
        [--without-avx512]

For each covariance type both estimators make the same iterations from the same start. Their
log-likelihoods are compared first, iteration by iteration; only then are they timed, in turns and
each in a process of its own, so that whatever else the machine does meets both. The environment of
these processes says that they may use all cores. Ratios are ours over theirs, the median of the
rounds; the exit code is 1 if log-likelihoods differ by more than 1e-9 relative.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import measure
import numpy as np
import sklearn
import sklearn.mixture
from cells import Answer, Cell, Prepared
from environment import describe_avx512
from peers import Peer
from worker import Worker

import gmm_np
from gmm_np.checks import FloatArray
from gmm_np.linalg.threads import cores

ALLOWED = 1e-9
TIMEOUT = 24 * 3600.0  # seconds: no fit is given up


class FitProblem(NamedTuple):
    """Rows, and arguments that start both estimators at the same place."""

    x: FloatArray  # [N, D]
    arguments: dict[str, Any]


def draw_fit(cell: Cell) -> FitProblem:
    """Draw rows from K Gaussians, and a start a little off their parameters."""
    n, d, k = cell.n, cell.d, cell.k
    rng = np.random.default_rng(cell.seed)
    means = 3 * rng.standard_normal((k, d))
    factors = np.tril(0.3 * rng.standard_normal((k, d, d)), -1) + np.eye(d)
    labels = rng.integers(k, size=n)
    noise = rng.standard_normal((n, d))
    x = np.empty((n, d))
    for j in range(k):
        x[labels == j] = means[j] + noise[labels == j] @ factors[j].T
    start = means + 0.5 * rng.standard_normal((k, d))
    variance = float(x.var())
    precisions = {
        "full": np.stack([np.eye(d) / variance] * k),
        "tied": np.eye(d) / variance,
        "diag": np.full((k, d), 1 / variance),
        "spherical": np.full(k, 1 / variance),
    }[cell.kind]
    arguments = {
        "n_components": k,
        "covariance_type": cell.kind,
        "weights_init": np.full(k, 1 / k),
        "means_init": start,
        "precisions_init": precisions,
        "max_iter": cell.iterations,
        "tol": 0,
    }
    return FitProblem(x, arguments)


def fits(estimator: Callable[..., Any]) -> Callable[[FitProblem], Prepared]:
    """Make a peer of an estimator: what it answers are its log-likelihoods."""

    def prepare(problem: FitProblem) -> Prepared:
        warnings.simplefilter("ignore")  # neither converges in a fixed number of iterations
        return Prepared(
            lambda: estimator(**problem.arguments).fit(problem.x),
            lambda fitted: Answer(fitted.lower_bounds_),
        )

    return prepare


PEERS = {
    name: Peer(name, fits(library.GaussianMixture), (), has_gradient=False, draw=draw_fit)
    for name, library in (("ours", gmm_np), ("theirs", sklearn.mixture))
}


@contextlib.contextmanager
def start_workers(*, without_avx512: bool) -> Iterator[list[Worker]]:
    """Give each library a process: the threads of one's BLAS would be in the way of the other's."""
    options = argparse.Namespace(
        peer_module=[__file__], threads=cores(), timeout=TIMEOUT, without_avx512=without_avx512
    )
    workers = [Worker(name, peer, options, warm=False) for name, peer in PEERS.items()]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.stop()


def compare(workers: list[Worker], cell: Cell, rounds: int) -> bool:
    """Print a line; return whether both reached the same log-likelihoods."""
    summaries = []
    for worker in workers:
        worker.ask("draw", cell=asdict(cell))
        worker.ask("prepare")
        summaries.append(worker.ask("check")["summary"])
    errors, complaints = measure.compare(*summaries, has_gradient=False, tolerance=ALLOWED)
    line = f"{cell.kind:<10} log-likelihood {summaries[0]['value'][-1]:.9f}, "
    line += f"differs by {errors['value']:.1e}"
    if complaints:
        print(f"{line}: MORE THAN ALLOWED, not timed")
        return False
    seconds = [[worker.time(1) for worker in workers] for _ in range(rounds)]
    a, b = (statistics.median(column) for column in zip(*seconds, strict=True))
    ratio = statistics.median(mine / other for mine, other in seconds)
    print(f"{line}; ours {a:.2f} s, scikit-learn {b:.2f} s, ratio {ratio:.3f}", flush=True)
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        prog="benchmark_em.py", description=(__doc__ or "").split("\n")[0]
    )
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
    options = parser.parse_args(arguments)
    without = options.without_avx512
    print(
        f"N = {options.n}, D = {options.d}, K = {options.k}, {options.iterations} iterations; "
        f"Python {sys.version.split()[0]}, NumPy {np.__version__}, scikit-learn "
        f"{sklearn.__version__}; cores used: {cores()}; {describe_avx512(without=without)}"
    )
    cells = [
        Cell(options.n, options.k, options.d, 0, kind=kind, iterations=options.iterations)
        for kind in options.types
    ]
    with start_workers(without_avx512=without) as workers:
        same = [compare(workers, cell, options.rounds) for cell in cells]
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
