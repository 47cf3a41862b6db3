"""Value and gradient of every covariance family, by the chain rule from the reference.

A diagonal model is a full model with diagonal factors: the reference differentiates the full model
and the gradients of the entries that a scale stands for are collected, equation (34). A judge of
the families that shares no code with them.
"""

import numpy as np
from problems import plain_nll

from gmm_np import Gradients, Parameters
from gmm_np.reference import nll_backward, nll_forward

# How many axes one covariance has in the scale, whether components share it, and may be learned.
KINDS = {
    "full": (2, False, True),
    "tied": (2, True, True),
    "diag": (1, False, True),
    "tied_diag": (1, True, True),
    "spherical": (0, False, True),
    "shared_spherical": (0, True, True),
    "constant": (2, False, False),
}
FAMILIES = tuple(KINDS)
LEARNED = tuple(name for name, (_, _, learned) in KINDS.items() if learned)


def random_scale(seed, family, k, d):
    """Draw a well-conditioned scale of the family."""
    rng = np.random.default_rng([seed, 17])
    n_axes, shared, _ = KINDS[family]
    if n_axes == 2:
        factors = np.tril(rng.normal(size=(k, d, d)), -1) * 0.5 / np.sqrt(d)
        factors += np.exp(0.3 * rng.normal(size=(k, d)))[:, :, None] * np.eye(d)
        return factors[0] if shared else factors
    return np.exp(0.3 * rng.normal(size=(() if shared else (k,)) + (d,) * n_axes))


def random_parameters(seed, family, k, d):
    rng = np.random.default_rng([seed, 18])
    scale = random_scale(seed, family, k, d)
    return Parameters(rng.normal(size=k), rng.normal(size=(k, d)), scale, family)


def expand(scale, family, k, d):
    """Factors [K, D, D] that a scale stands for, entry by entry."""
    n_axes, shared, _ = KINDS[family]
    scale = np.asarray(scale, dtype=np.float64)
    factors = np.zeros((k, d, d))
    for c in range(k):
        own = scale if shared else scale[c]
        for i in range(d):
            for j in range(i + 1):
                if n_axes == 2:
                    factors[c, i, j] = own[i, j]
                elif i == j:
                    factors[c, i, i] = own[i] if n_axes == 1 else own
    return factors


def reduce(d_factors, family):
    """Gradient of a family's scale from that of the factors, equation (34)."""
    n_axes, shared, learned = KINDS[family]
    if not learned:
        return None
    found = d_factors if n_axes == 2 else np.einsum("kii->ki", d_factors)
    found = found.sum(axis=1) if n_axes == 0 else found
    return np.asarray(found.sum(axis=0)) if shared else found


def value_and_grad(x, parameters, **options):
    """Loss and gradient by the reference on the factors that the scale stands for."""
    k, d = parameters.means.shape
    factors = expand(parameters.scale, parameters.family, k, d)
    logits, means = (a.astype(np.float64) for a in (parameters.pi_logits, parameters.means))
    value, cache = nll_forward(x, logits, means, factors, **options)
    full = nll_backward(cache)
    d_scale = reduce(full.scale, parameters.family)
    return value, Gradients(full.pi_logits, full.means, d_scale)


def value_alone(x, parameters):
    """The mean loss alone, for checks that ask for it a thousand times."""
    factors = expand(parameters.scale, parameters.family, *parameters.means.shape)
    return plain_nll(x, parameters.pi_logits, parameters.means, factors)
