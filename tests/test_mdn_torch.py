"""Mixtures of each row against PyTorch, element by element."""

import numpy as np
import pytest
import torch
from problems import Worst
from rows_by_reference import FAMILIES, coefficients, random_direction, random_rows

from gmm_np import Gradients, mdn

pytestmark = pytest.mark.needs_extras

# Both sides round some hundred operations to 1.1e-16 each.
TOLERANCE = 1e-11
FAMILY = pytest.mark.parametrize("family", FAMILIES)


def log_prob(x, pi_logits, means, scale, family):
    """PyTorch's own mixture, of a batch of rows."""
    if family == "full":
        components = torch.distributions.MultivariateNormal(means, scale_tril=torch.tril(scale))
    else:
        deviations = scale if family == "diag" else scale[..., None].expand_as(means)
        components = torch.distributions.Independent(
            torch.distributions.Normal(means, deviations), 1
        )
    weights = torch.distributions.Categorical(logits=pi_logits)
    return torch.distributions.MixtureSameFamily(weights, components).log_prob(x)


def tensors(*arrays, **options):
    return tuple(torch.tensor(np.array(a), dtype=torch.float64, **options) for a in arrays)


def options_of(problem, seed):
    """A reduction, weights or none, and a d_value, each in its turn."""
    rng, n = np.random.default_rng([seed, 7]), len(problem.x)
    reduction = ("mean", "sum", "none")[seed % 3]
    weight = rng.uniform(0.1, 3.0, size=n) if seed % 2 else None
    return reduction, weight, rng.normal(size=n if reduction == "none" else ())


@FAMILY
def test_value_and_every_gradient_entry_agree_on_more_than_200_problems(family):
    worst = Worst()
    for seed in range(210):
        problem = random_rows(seed, family)
        reduction, weight, d_value = options_of(problem, seed)
        value, gradients = mdn.nll_value_and_grad(
            *problem, family=family, sample_weight=weight, reduction=reduction, d_value=d_value
        )
        c = coefficients(problem, weight, reduction)
        arguments = tensors(*problem, requires_grad=True)
        loss = -torch.tensor(c) * log_prob(*arguments, family)
        loss = loss if reduction == "none" else loss.sum()
        loss.backward(torch.tensor(np.array(d_value)))
        worst.add(seed, "value", value, loss.detach().numpy())
        x, logits, means, scale = (a.grad.numpy() for a in arguments)
        floor = 0.01 * float(np.abs(c * d_value).max())
        worst.add_gradients(seed, gradients, (logits, means, scale, x), floor)
    worst.check(TOLERANCE)


@FAMILY
def test_every_entry_of_the_hessian_vector_product_agrees(family):
    worst = Worst()
    for seed in range(25):
        problem, (reduction, weight, _) = (p := random_rows(seed, family)), options_of(p, seed)
        reduction = "sum" if reduction == "none" else reduction
        direction = random_direction(problem, seed)
        options = {"sample_weight": weight, "reduction": reduction}
        found = mdn.nll_hvp(*problem, direction, family=family, **options)
        c = torch.tensor(coefficients(problem, weight, reduction))

        def loss(*arguments, c=c):
            return -(c * log_prob(*arguments, family)).sum()

        moves = tensors(direction.x, *direction[:3])
        _, blocks = torch.autograd.functional.hvp(loss, tensors(*problem), moves)
        x, logits, means, scale = (block.numpy() for block in blocks)
        floor = 0.01 * float(c.max())
        worst.add_gradients(seed, found, Gradients(logits, means, scale, x), floor)
    worst.check(TOLERANCE)
