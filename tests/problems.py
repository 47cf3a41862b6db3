"""Random mixtures for the tests, and the definition of the loss in loops."""

import math
from typing import NamedTuple

import numpy as np


class Problem(NamedTuple):
    x: np.ndarray  # [N, D]
    pi_logits: np.ndarray  # [K]
    means: np.ndarray  # [K, D]
    scale_tril: np.ndarray  # [K, D, D]


def random_problem(seed, n_samples=None, n_components=None, n_features=None, separation=1.0):
    """Draw a well-conditioned problem; sizes that are not given are drawn as well."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 41)) if n_samples is None else n_samples
    k = int(rng.integers(1, 7)) if n_components is None else n_components
    d = int(rng.integers(1, 9)) if n_features is None else n_features
    means = separation * rng.normal(size=(k, d))
    factors = np.tril(rng.normal(size=(k, d, d)), -1) * 0.5 / math.sqrt(d)
    factors += np.exp(0.3 * rng.normal(size=(k, d)))[:, :, None] * np.eye(d)
    labels = rng.integers(k, size=n)
    x = means[labels] + np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(n, d)))
    return Problem(x, rng.normal(size=k), means, factors)


def naive_nll(x, pi_logits, means, scale_tril, sample_weight=None, reduction="mean"):
    """Equation (3) word by word, in Python floats: determinants and inverses by elimination."""
    x, means, scale_tril = np.asarray(x), np.asarray(means), np.asarray(scale_tril)
    n, d = x.shape
    weight = [1.0] * n if sample_weight is None else [float(w) for w in sample_weight]
    exponentials = [math.exp(a - max(pi_logits)) for a in pi_logits]
    pi = [e / math.fsum(exponentials) for e in exponentials]
    terms = []
    for k in range(len(pi)):
        factor = scale_tril[k].tolist()
        covariance = [
            [math.fsum(factor[i][m] * factor[j][m] for m in range(d)) for j in range(d)]
            for i in range(d)
        ]
        terms.append(_eliminate(covariance))
    losses = []
    for row in x.tolist():
        density = []
        for k in range(len(pi)):
            inverse, determinant = terms[k]
            e = [row[i] - float(means[k, i]) for i in range(d)]
            q = math.fsum(e[i] * inverse[i][j] * e[j] for i in range(d) for j in range(d))
            density.append(pi[k] * math.exp(-q / 2) / math.sqrt((2 * math.pi) ** d * determinant))
        losses.append(-math.log(math.fsum(density)))
    weighted = [w * loss for w, loss in zip(weight, losses, strict=True)]
    if reduction == "none":
        return np.array(weighted)
    return math.fsum(weighted) / (math.fsum(weight) if reduction == "mean" else 1.0)


def _eliminate(matrix):
    """Inverse and determinant of a matrix by Gauss-Jordan elimination with pivoting."""
    d = len(matrix)
    rows = [list(matrix[i]) + [float(i == j) for j in range(d)] for i in range(d)]
    determinant = 1.0
    for i in range(d):
        pivot = max(range(i, d), key=lambda r: abs(rows[r][i]))
        if pivot != i:
            rows[i], rows[pivot] = rows[pivot], rows[i]
            determinant = -determinant
        determinant *= rows[i][i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for r in range(d):
            if r != i:
                factor = rows[r][i]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    return [row[d:] for row in rows], determinant
