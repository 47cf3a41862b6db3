"""Gradients of the conditional likelihood, element by element, by PyTorch's automatic ones."""

import numpy as np
import pytest
import torch
from by_torch import factors_of, log_prob_of_formula
from families_by_reference import FAMILIES, KINDS, random_parameters
from problems import Worst

from gmm_np import Gradients, conditional

pytestmark = pytest.mark.needs_extras


def value_and_grad(x, parameters, given, weight):
    """Mean of log p(x, y) - log p(x), in covariances, and its gradients."""
    family, (k, d) = parameters.family, parameters.means.shape
    arrays = (x, parameters.pi_logits, parameters.means, parameters.scale)
    leaves = [torch.tensor(np.array(a), requires_grad=True) for a in arrays]
    rows, logits, means, scale = leaves
    factors = factors_of(scale, family, k, d)
    covariances = factors @ factors.transpose(1, 2)
    known = torch.linalg.cholesky(covariances[:, given][:, :, given])
    joint = log_prob_of_formula(rows, logits, means, factors)
    marginal = log_prob_of_formula(rows[:, given], logits, means[:, given], known)
    w = torch.tensor(weight)
    value = -(w * (joint - marginal)).sum() / w.sum()
    value.backward()
    d_x, d_logits, d_means, d_scale = (leaf.grad.numpy() for leaf in leaves)
    learned = KINDS[family][2]
    return value.item(), Gradients(d_logits, d_means, d_scale if learned else None, d_x)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_autograd(family):
    worst = Worst()
    for seed in range(12):
        rng = np.random.default_rng([seed, 31])
        k, d = int(rng.integers(1, 5)), int(rng.integers(2, 6))
        p = random_parameters(seed, family, k, d)
        x = rng.normal(size=(int(rng.integers(1, 20)), d)) * 1.5
        weight = rng.random(len(x))
        given = rng.permutation(d)[: int(rng.integers(1, d))].tolist()
        expected = value_and_grad(x, p, given, weight)
        value, found = conditional.nll_value_and_grad(
            x, p.pi_logits, p.means, p.scale, given, family=family, sample_weight=weight
        )
        worst.add(seed, "value", value, expected[0])
        for name in ("pi_logits", "means", "scale", "x"):
            mine, theirs = getattr(found, name), getattr(expected[1], name)
            assert (mine is None) == (theirs is None)
            if mine is not None:
                floor = 1.0 if name == "pi_logits" else 0.1  # K = 1 leaves nothing but rounding
                worst.add(seed, name, mine, theirs, floor)
    worst.check(1e-12)
