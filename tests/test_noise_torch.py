"""Gradients of rows with errors of their own, element by element, by PyTorch's automatic ones."""

import numpy as np
import pytest
import torch
from by_torch import factors_of
from families_by_reference import FAMILIES, KINDS, random_parameters
from problems import Worst
from test_noise import random_noise

from gmm_np import Gradients, noise

pytestmark = pytest.mark.needs_extras


def value_and_grad(x, errors, parameters, weight):
    """By PyTorch's own distribution, with a covariance for each row and component."""
    family, (k, d) = parameters.family, parameters.means.shape
    arrays = (x, parameters.pi_logits, parameters.means, parameters.scale)
    leaves = [torch.tensor(np.array(a), requires_grad=True) for a in arrays]
    rows, logits, means, scale = leaves
    factors = factors_of(scale, family, k, d)
    added = torch.diag_embed(torch.tensor(errors)) if errors.ndim == 2 else torch.tensor(errors)
    total = (factors @ factors.transpose(1, 2))[None] + added[:, None]
    density = torch.distributions.MultivariateNormal(means, total).log_prob(rows[:, None])
    log_prob = torch.logsumexp(torch.log_softmax(logits, 0) + density, dim=1)
    w = torch.tensor(weight)
    value = -(w * log_prob).sum() / w.sum()
    value.backward()
    d_x, d_logits, d_means, d_scale = (leaf.grad.numpy() for leaf in leaves)
    return value.item(), Gradients(d_logits, d_means, d_scale if KINDS[family][2] else None, d_x)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_autograd(family, diagonal):
    worst = Worst()
    for seed in range(8):
        rng = np.random.default_rng([seed, 41])
        k, d, n = int(rng.integers(1, 5)), int(rng.integers(1, 5)), int(rng.integers(1, 20))
        p = random_parameters(seed, family, k, d)
        x, weight = 1.5 * rng.normal(size=(n, d)), 0.1 + rng.random(n)
        errors = random_noise(rng, n, d, diagonal=diagonal)
        expected = value_and_grad(x, errors, p, weight)
        value, found = noise.nll_value_and_grad(
            x, errors, p.pi_logits, p.means, p.scale, family=family, sample_weight=weight
        )
        worst.add(seed, "value", value, expected[0])
        for name in ("pi_logits", "means", "scale", "x"):
            mine, theirs = getattr(found, name), getattr(expected[1], name)
            assert (mine is None) == (theirs is None)
            if mine is not None:
                floor = 1.0 if name == "pi_logits" else 0.1  # K = 1 leaves nothing but rounding
                worst.add(seed, name, mine, theirs, floor)
    worst.check(1e-12)
