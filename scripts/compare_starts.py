"""How often a fit ends within 0.002 nats of the best that was found, by how it starts.

    python scripts/compare_starts.py [--seeds 12]

Six random mixtures (N 5,000 to 20,000, D 4 to 16, K 10 to 20), and two of them with columns whose
units differ by up to a million. "short runs" is what an estimator starts from, "one run" k-means
to its end, in units of the columns' deviations. Seconds are of one thread, for the start and for
the whole fit.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gmm_np import Parameters
from gmm_np.solvers import Data, fit_em, kmeans_start, make_start

NEAR: Final = 0.002
# N, D, K, and the deviation of the means in those of the components, about.
MIXTURES: Final = (
    (5000, 4, 10, 2.0),
    (10000, 8, 15, 2.5),
    (20000, 16, 20, 3.0),
    (20000, 4, 20, 2.5),
    (5000, 16, 10, 2.0),
    (10000, 8, 20, 3.0),
)
Start = Callable[[NDArray[np.float64], int, np.random.Generator], Parameters]


def draw(n: int, d: int, k: int, separation: float, seed: int) -> NDArray[np.float64]:
    """Draw rows [N, D] of a mixture with dense covariances and uneven weights."""
    rng = np.random.default_rng(seed)
    means = separation * rng.standard_normal((k, d))
    factors = np.tril(0.4 * rng.standard_normal((k, d, d)), -1)
    factors[:, range(d), range(d)] = rng.uniform(0.5, 1.5, (k, d))
    owner = rng.choice(k, n, p=rng.dirichlet(np.full(k, 5.0)))
    noise = rng.standard_normal((n, d))
    return np.asarray(means[owner] + np.einsum("nij,nj->ni", factors[owner], noise))


def short_runs(x: NDArray[np.float64], k: int, rng: np.random.Generator) -> Parameters:
    """Start as an estimator does."""
    return make_start(Data(x).sample(rng), k, rng)


STARTS: Final[dict[str, Start]] = {"one run": kmeans_start, "short runs": short_runs}


def compare(name: str, problems: list[tuple[NDArray[np.float64], int]], seeds: int) -> None:
    """Print a line for each start."""
    losses = {start: np.empty((len(problems), seeds)) for start in STARTS}
    seconds = {start: np.zeros(2) for start in STARTS}
    for i, (x, k) in enumerate(problems):
        floor = 1e-6 * x.var(axis=0)
        for start, make in STARTS.items():
            for seed in range(seeds):
                before = time.thread_time()
                begun = make(x, k, np.random.default_rng(seed))
                between = time.thread_time()
                fit = fit_em(x, begun, reg_covar=floor, tol=1e-5, max_iter=500, on_collapse="keep")
                losses[start][i, seed] = fit.nll
                seconds[start] += (between - before, time.thread_time() - before)
    best = np.min([found.min(axis=1) for found in losses.values()], axis=0)[:, None]
    total = len(problems) * seeds
    for start, found in losses.items():
        near = (found <= best + NEAR).sum()
        begun_s, whole = seconds[start] / total
        print(
            f"{name}, {start}: {near} of {total} within {NEAR} nats of the best, {begun_s:.2f} s "
            f"for the start and {whole:.2f} s in all",
            flush=True,
        )


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=12)
    options = parser.parse_args()
    problems = [(draw(*sizes, seed=100 + i), sizes[2]) for i, sizes in enumerate(MIXTURES)]
    compare("six mixtures", problems, options.seeds)
    units = np.random.default_rng(7)
    uneven = [(x * 10.0 ** units.uniform(-3, 3, x.shape[1]), k) for x, k in problems[:2]]
    compare("uneven units", uneven, options.seeds)
    return 0


if __name__ == "__main__":
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # and so one thread of ours
    sys.exit(main())
