"""EM against scikit-learn: the same start, the same log-likelihoods, and the ratio of times.

    python scripts/benchmark_em.py [--n 100000] [--d 16] [--k 16] [--iterations 20] [--rounds 5]

For each covariance type both estimators make the same iterations from the same start. Their
log-likelihoods are compared first, iteration by iteration; only then are they timed, in turns, so
that whatever else the machine does meets both. Ratios are ours over theirs, the median of the
rounds; the exit code is 1 if log-likelihoods differ by more than 1e-9 relative.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings

import numpy as np
import sklearn
from sklearn.mixture import GaussianMixture as Theirs

from gmm_np import GaussianMixture as Ours

ALLOWED = 1e-9


def problem(n, d, k, rng):
    """Rows [N, D] from K Gaussians, and a start a little off their parameters."""
    means = 3 * rng.standard_normal((k, d))
    factors = np.tril(0.3 * rng.standard_normal((k, d, d)), -1) + np.eye(d)
    labels = rng.integers(k, size=n)
    noise = rng.standard_normal((n, d))
    x = np.empty((n, d))
    for j in range(k):
        x[labels == j] = means[j] + noise[labels == j] @ factors[j].T
    return x, means + 0.5 * rng.standard_normal((k, d))


def start(covariance_type, means, x):
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


def timed(estimator, x):
    """Fit, and return the seconds that it took."""
    begin = time.perf_counter()
    estimator.fit(x)
    return time.perf_counter() - begin


def compare(covariance_type, x, means, iterations, rounds):
    """Print a line; return whether both reached the same log-likelihoods."""
    options = {**start(covariance_type, means, x), "max_iter": iterations, "tol": 0}
    ours, theirs = Ours(**options), Theirs(**options)
    timed(ours, x), timed(theirs, x)
    bounds = np.array(ours.lower_bounds_), np.array(theirs.lower_bounds_)
    difference = float(np.max(np.abs(bounds[0] - bounds[1]) / np.abs(bounds[1])))
    same = difference <= ALLOWED
    line = f"{covariance_type:<10} log-likelihood {bounds[0][-1]:.9f}, differs by {difference:.1e}"
    if not same:
        print(f"{line}: MORE THAN ALLOWED, not timed")
        return False
    seconds = [(timed(ours, x), timed(theirs, x)) for _ in range(rounds)]
    a, b = (statistics.median(column) for column in zip(*seconds, strict=True))
    ratio = statistics.median(mine / other for mine, other in seconds)
    print(f"{line}; ours {a:.2f} s, scikit-learn {b:.2f} s, ratio {ratio:.3f}", flush=True)
    return True


def main():
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--d", type=int, default=16)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--types", nargs="+", default=["full", "tied", "diag", "spherical"], metavar="TYPE"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # neither converges in a fixed number of iterations
    x, means = problem(options.n, options.d, options.k, np.random.default_rng(0))
    print(
        f"N = {options.n}, D = {options.d}, K = {options.k}, {options.iterations} iterations; "
        f"Python {sys.version.split()[0]}, NumPy {np.__version__}, scikit-learn "
        f"{sklearn.__version__}"
    )
    same = [compare(kind, x, means, options.iterations, options.rounds) for kind in options.types]
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
