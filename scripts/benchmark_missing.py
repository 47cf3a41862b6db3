"""Time an iteration of EM on rows with missing values beside one on complete rows.

    python scripts/benchmark_missing.py [--rows 100000] [--features 8] [--share 0.2]

Values are missing at random, so that with D columns there are up to 2^D - 1 patterns. Log densities
of some rows are checked against SciPy's first. Iterations of both kinds alternate, and the shortest
of each counts.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from gmm_np import Parameters, em_step, log_prob
from gmm_np.checks import FloatArray
from gmm_np.solvers import Data


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--share", type=float, default=0.2, help="of values that are missing")
    parser.add_argument("--components", type=int, nargs="+", default=[3, 5, 10, 20])
    parser.add_argument("--families", nargs="+", default=["full", "tied", "diag"])
    parser.add_argument("--repeat", type=int, default=9)
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    complete = rng.normal(size=(options.rows, options.features))
    x = np.where(rng.random(complete.shape) < options.share, np.nan, complete)
    n_patterns = len(np.unique(np.isnan(x), axis=0))
    data = [Data(complete), Data(x, missing="marginal")]
    print(f"{options.rows} rows, {options.features} columns, {n_patterns} patterns")
    print(f"{'family':<18}{'K':>4}{'complete ms':>13}{'missing ms':>12}{'ratio':>7}")
    for family in options.families:
        for k in options.components:
            parameters = draw(rng, family, k, options.features)
            check(x[:50], parameters)
            times = np.full(2, np.inf)
            for _ in range(options.repeat):
                for i, own in enumerate(data):
                    start = time.perf_counter()
                    em_step(parameters, own.statistics(parameters))
                    times[i] = min(times[i], 1e3 * (time.perf_counter() - start))
            print(
                f"{family:<18}{k:>4}{times[0]:>13.1f}{times[1]:>12.1f}{times[1] / times[0]:>7.2f}"
            )
    return 0


def draw(rng: np.random.Generator, family: str, k: int, d: int) -> Parameters:
    """Draw a mixture whose components overlap."""
    factors = np.eye(d) + 0.2 * np.tril(rng.normal(size=(k, d, d)), -1)
    scales: dict[str, FloatArray] = {
        "full": factors,
        "tied": factors[0],
        "diag": rng.uniform(0.8, 1.2, size=(k, d)),
        "tied_diag": rng.uniform(0.8, 1.2, size=d),
        "spherical": rng.uniform(0.8, 1.2, size=k),
        "shared_spherical": np.ones(()),
    }
    return Parameters(np.zeros(k), rng.normal(size=(k, d)), scales[family], family)


def check(x: FloatArray, parameters: Parameters) -> None:
    """Compare log densities with those of SciPy's normal distribution of each sub-block."""
    p, covariances = parameters, parameters.covariances()
    found = log_prob(x, p.pi_logits, p.means, p.scale, family=p.family, missing="marginal")
    for row, own in zip(x, found, strict=True):
        seen = np.flatnonzero(~np.isnan(row))
        if len(seen) == 0:
            continue
        terms = [
            multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(row[seen])
            for mean, covariance in zip(p.means, covariances, strict=True)
        ]
        expected = float(logsumexp(np.log(p.weights()) + terms))
        if not np.isclose(own, expected, rtol=1e-10, atol=1e-10):
            raise AssertionError(f"{p.family}: {own}, and SciPy has {expected}")


if __name__ == "__main__":
    sys.exit(main())
