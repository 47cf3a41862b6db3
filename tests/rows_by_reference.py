"""Mixtures drawn for each row, and their loss by a loop over rows of the reference: the judge."""

from typing import NamedTuple

import numpy as np
from families_by_reference import expand, reduce

from gmm_np import Gradients
from gmm_np.reference import nll_backward, nll_forward, nll_hvp

FAMILIES = ("full", "diag", "spherical")


class RowProblem(NamedTuple):
    x: np.ndarray  # [N, D]
    pi_logits: np.ndarray  # [N, K]
    means: np.ndarray  # [N, K, D]
    scale: np.ndarray  # [N, K, D, D], [N, K, D] or [N, K]


def random_rows(seed, family, n_samples=None, n_components=None, n_features=None):
    """Draw well-conditioned mixtures, and a sample of each; sizes not given are drawn as well."""
    rng = np.random.default_rng([seed, FAMILIES.index(family)])
    n = int(rng.integers(1, 13)) if n_samples is None else n_samples
    k = int(rng.integers(1, 6)) if n_components is None else n_components
    d = int(rng.integers(1, 6)) if n_features is None else n_features
    means = rng.normal(size=(n, k, d))
    deviations = np.exp(0.3 * rng.normal(size=(n, k) if family == "spherical" else (n, k, d)))
    scale = deviations
    if family == "full":
        scale = np.tril(rng.normal(size=(n, k, d, d)), -1) * 0.5 / np.sqrt(d)
        scale += deviations[..., None] * np.eye(d)
    x = means[np.arange(n), rng.integers(k, size=n)] + rng.normal(size=(n, d))
    return RowProblem(x, rng.normal(size=(n, k)), means, scale)


def random_direction(problem, seed):
    rng = np.random.default_rng([seed, 3])
    x, logits, means, scale = (rng.normal(size=block.shape) for block in problem)
    return Gradients(logits, means, np.tril(scale) if scale.ndim == 4 else scale, x)


def coefficients(problem, sample_weight, reduction):
    """w_n / W, one for each row."""
    weight = np.ones(len(problem.x)) if sample_weight is None else np.asarray(sample_weight)
    return weight / weight.sum() if reduction == "mean" else weight


def value_and_grad(problem, family, sample_weight=None, reduction="mean", d_value=1.0):
    """Value and gradients, a row at a time, each of them a data set of one sample."""
    x, logits, means, scale = problem
    c = coefficients(problem, sample_weight, reduction)
    d_out = np.broadcast_to(d_value, len(x))
    values, found = [], []
    for n in range(len(x)):
        factors = expand(scale[n], family, *means.shape[1:])
        value, cache = nll_forward(x[[n]], logits[n], means[n], factors)
        own = nll_backward(cache, float(c[n] * d_out[n]))
        values.append(c[n] * value)
        found.append(Gradients(own.pi_logits, own.means, reduce(own.scale, family), own.x[0]))
    blocks = Gradients(*(np.stack(block) for block in zip(*found, strict=True)))
    return (np.array(values) if reduction == "none" else np.sum(values)), blocks


def hvp(problem, family, direction, sample_weight=None, reduction="mean"):
    x, logits, means, scale = problem
    c = coefficients(problem, sample_weight, reduction)
    shape, found = means.shape[1:], []
    for n in range(len(x)):
        moves = Gradients(
            direction.pi_logits[n],
            direction.means[n],
            expand(direction.scale[n], family, *shape),
            direction.x[[n]],
        )
        factors = expand(scale[n], family, *shape)
        own = nll_hvp(x[[n]], logits[n], means[n], factors, moves)
        blocks = (own.pi_logits, own.means, reduce(own.scale, family), own.x[0])
        found.append([c[n] * block for block in blocks])
    return Gradients(*(np.stack(block) for block in zip(*found, strict=True)))
