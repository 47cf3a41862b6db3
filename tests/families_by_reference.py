"""Value and gradient of every covariance family, by the chain rule from the reference.

A diagonal model is a full model with diagonal factors: the reference differentiates the full model
and the gradients of the entries that a scale stands for are collected, equation (34). A judge of
the families that shares no code with them.
"""

import numpy as np

from gmm_np import Gradients, Parameters
from gmm_np.reference import nll_backward, nll_forward

LEARNED = ("full", "tied", "diag", "spherical", "shared_spherical")
FAMILIES = (*LEARNED, "constant")


def random_scale(seed, family, k, d):
    """Draw a well-conditioned scale of the family."""
    rng = np.random.default_rng([seed, 17])
    if family in ("full", "tied", "constant"):
        factors = np.tril(rng.normal(size=(k, d, d)), -1) * 0.5 / np.sqrt(d)
        factors += np.exp(0.3 * rng.normal(size=(k, d)))[:, :, None] * np.eye(d)
        return factors[0] if family == "tied" else factors
    shape = {"diag": (k, d), "spherical": (k,), "shared_spherical": ()}[family]
    return np.exp(0.3 * rng.normal(size=shape))


def random_parameters(seed, family, k, d):
    rng = np.random.default_rng([seed, 18])
    scale = random_scale(seed, family, k, d)
    return Parameters(rng.normal(size=k), rng.normal(size=(k, d)), scale, family)


def expand(scale, family, k, d):
    """Factors [K, D, D] that a scale stands for, entry by entry."""
    scale = np.asarray(scale, dtype=np.float64)
    factors = np.zeros((k, d, d))
    for c in range(k):
        for i in range(d):
            for j in range(i + 1):
                if family in ("full", "constant"):
                    factors[c, i, j] = scale[c, i, j]
                elif family == "tied":
                    factors[c, i, j] = scale[i, j]
                elif i == j:
                    factors[c, i, i] = {
                        "diag": lambda c=c, i=i: scale[c, i],
                        "spherical": lambda c=c: scale[c],
                        "shared_spherical": lambda: scale,
                    }[family]()
    return factors


def reduce(d_factors, family):
    """Gradient of a family's scale from that of the factors, equation (34)."""
    diagonal = np.einsum("kii->ki", d_factors)
    return {
        "full": lambda: d_factors,
        "tied": lambda: d_factors.sum(axis=0),
        "diag": lambda: diagonal,
        "spherical": lambda: diagonal.sum(axis=1),
        "shared_spherical": lambda: np.asarray(diagonal.sum()),
        "constant": lambda: None,
    }[family]()


def value_and_grad(x, parameters, **options):
    """Loss and gradient by the reference on the factors that the scale stands for."""
    k, d = parameters.means.shape
    factors = expand(parameters.scale, parameters.family, k, d)
    logits, means = (a.astype(np.float64) for a in (parameters.pi_logits, parameters.means))
    value, cache = nll_forward(x, logits, means, factors, **options)
    full = nll_backward(cache)
    d_scale = reduce(full.scale, parameters.family)
    return value, Gradients(full.pi_logits, full.means, d_scale)
