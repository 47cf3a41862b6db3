#!/usr/bin/env python
"""How often intervals cover the truth, on simulated data.

    python scripts/interval_coverage.py [--sets 500] [--samples 2000] [--seed 0]

Prints a table: for each kind of standard error and each parameter, in what part of the data sets
the 95 % interval has the true value in it.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from gmm_np import Parameters, standard_errors
from gmm_np.solvers import fit_em, fit_newton

KINDS = ("hessian", "opg", "sandwich")
FACTORS = np.array([[[1.0, 0.0], [0.4, 0.8]], [[0.7, 0.0], [-0.3, 1.1]]])
# How far apart the means of the two components are, about: in standard deviations.
APART = {"well separated": 6.0, "overlapping": 2.5}


def draw(rng: np.random.Generator, truth: Parameters, n_samples: int) -> NDArray[np.float64]:
    """Draw rows [N, 2] from a mixture."""
    owner = rng.choice(2, size=n_samples, p=truth.weights())
    noise = rng.standard_normal((n_samples, 2))
    return np.asarray(truth.means[owner] + np.einsum("nij,nj->ni", FACTORS[owner], noise))


def main() -> None:
    """Fit, and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=500, help="data sets (default: 500)")
    parser.add_argument("--samples", type=int, default=2000, help="rows of each (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{args.sets} data sets of {args.samples} rows, two full components in two dimensions")
    print("part of the 95 % intervals that have the true value in them, in percent\n")
    print("| components | errors | weights | means | variances | correlations |")
    print("|---|---|---|---|---|---|")
    for name, apart in APART.items():
        truth = Parameters(np.log([0.35, 0.65]), [[0.0, 0.0], [apart, 0.0]], FACTORS)
        covariances = truth.covariances()
        size = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
        correlation = covariances[:, 1, 0] / size.prod(axis=1)
        true = (truth.weights(), truth.means, size**2, correlation)
        covered = defaultdict(list)
        for index in range(args.sets):
            rng = np.random.default_rng([args.seed, index])
            x = draw(rng, truth, args.samples)
            fit = fit_newton(x, fit_em(x, truth, tol=1e-7).parameters, tol=1e-9)
            for kind in KINDS:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    ends = standard_errors(x, fit.parameters, kind=kind).intervals()
                assert ends.correlations is not None
                found = (ends.weights, ends.means, ends.variances, ends.correlations[:, 1, 0])
                covered[kind].append(
                    [
                        np.mean((own[..., 0] <= value) & (value <= own[..., 1]))
                        for own, value in zip(found, true, strict=True)
                    ]
                )
        for kind in KINDS:
            shares = 100 * np.mean(covered[kind], axis=0)
            print(f"| {name} | {kind} | " + " | ".join(f"{share:.1f}" for share in shares) + " |")


if __name__ == "__main__":
    main()
