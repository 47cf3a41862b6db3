"""Rows with missing values of every pattern, and their density by definition."""

import itertools

import numpy as np
from families_by_reference import expand, random_parameters
from scipy.special import logsumexp
from scipy.stats import multivariate_normal


def every_pattern(n_features, each=1):
    """Which values are missing, of rows of each of the 2^D patterns: [N, D]."""
    patterns = np.array(list(itertools.product([False, True], repeat=n_features)))
    return np.repeat(patterns, each, axis=0)


def random_case(seed, family, k=3, d=5, each=1):
    """Parameters, rows of every pattern in any order, and their weights."""
    rng = np.random.default_rng([seed, 19])
    parameters = random_parameters(seed, family, k, d)
    missing = every_pattern(d, each)
    x = 1.5 * rng.normal(size=missing.shape)
    x[missing] = np.nan
    x = x[rng.permutation(len(x))]
    return parameters, x, rng.uniform(0.1, 2.0, size=len(x))


def arguments(parameters):
    return parameters.pi_logits, parameters.means, parameters.scale


def log_joint(x, parameters):
    """Of each row and component, by SciPy's density of the sub-block of what is seen, [N, K]."""
    k, d = parameters.means.shape
    factors = expand(parameters.scale, parameters.family, k, d)
    covariances = factors @ factors.swapaxes(1, 2)
    log_pi = parameters.pi_logits - logsumexp(parameters.pi_logits)
    found = np.tile(log_pi, (len(x), 1))
    for row, own in zip(x, found, strict=True):
        seen = np.flatnonzero(~np.isnan(row))
        if len(seen):
            for c in range(k):
                block = covariances[c][np.ix_(seen, seen)]
                density = multivariate_normal(parameters.means[c][seen], block)
                own[c] += density.logpdf(row[seen])
    return found
