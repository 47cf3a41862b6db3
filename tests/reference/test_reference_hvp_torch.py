"""Hessian-vector products of the reference against PyTorch's, element by element."""

import numpy as np
import pytest
import torch
from by_torch import log_prob_of_distribution, log_prob_of_formula
from problems import BLOCKS, Problem, Worst, random_problem
from test_reference_hvp import (
    REDUCTIONS,
    logits_floor,
    problems,
    random_direction,
    random_weight,
)

from gmm_np import Gradients
from gmm_np.reference import nll_hvp

pytestmark = pytest.mark.needs_extras

# Both sides round some hundred operations to 1.1e-16 each, and differentiate twice.
TOLERANCE = 1e-11
JUDGES = pytest.mark.parametrize("log_prob", [log_prob_of_distribution, log_prob_of_formula])


def loss_of(log_prob, sample_weight, reduction, n_samples):
    weight = np.ones(n_samples) if sample_weight is None else sample_weight
    total = weight.sum() if reduction == "mean" else 1.0
    constants = torch.tensor(weight / total, dtype=torch.float64)

    def loss(x, pi_logits, means, scale_tril):
        return -(constants * log_prob(x, pi_logits, means, torch.tril(scale_tril))).sum()

    return loss


def tensors(*arrays):
    return tuple(torch.tensor(np.array(a), dtype=torch.float64) for a in arrays)


def torch_hvp(log_prob, problem, direction, sample_weight=None, reduction="mean"):
    """The product in the order of `Gradients`."""
    loss = loss_of(log_prob, sample_weight, reduction, len(problem.x))
    logits, means, factors, x = direction
    _, found = torch.autograd.functional.hvp(
        loss, tensors(*problem), tensors(x, logits, means, factors)
    )
    x, logits, means, factors = (block.numpy() for block in found)
    return Gradients(logits, means, factors, x)


@JUDGES
@REDUCTIONS
@pytest.mark.parametrize("weighted", [False, True])
def test_every_entry_of_the_product_agrees(log_prob, reduction, weighted):
    worst = Worst()
    for seed, problem in problems():
        direction = random_direction(problem, seed)
        weight = random_weight(problem, seed) if weighted else None
        options = {"sample_weight": weight, "reduction": reduction}
        found = nll_hvp(*problem, direction, **options)
        expected = torch_hvp(log_prob, problem, direction, **options)
        worst.add_gradients(seed, found, expected, logits_floor(expected))
    worst.check(TOLERANCE)


@JUDGES
def test_component_that_is_off_equals_its_absence(log_prob):
    """PyTorch's derivatives may be NaN at a logit of -inf: it gets the mixture without it."""
    worst = Worst()
    for seed in range(20):
        problem = random_problem(seed, n_components=2 + seed % 4)
        off = int(np.random.default_rng(seed).integers(len(problem.means)))
        logits = problem.pi_logits.copy()
        logits[off] = -np.inf
        direction = random_direction(problem, seed)
        found = nll_hvp(problem.x, logits, *problem[2:], direction)
        rest = Problem(problem.x, *(np.delete(a, off, axis=0) for a in problem[1:]))
        of_rest = Gradients(*(np.delete(a, off, axis=0) for a in direction[:3]), direction.x)
        expected = torch_hvp(log_prob, rest, of_rest)
        on = Gradients(*(np.delete(a, off, axis=0) for a in found[:3]), found.x)
        worst.add_gradients(seed, on, expected, logits_floor(expected))
    worst.check(TOLERANCE)


def columns_of(problem):
    """A direction for each free entry, and its place: block and index."""
    x, logits, means, factors = problem
    still = Gradients(*(np.zeros_like(a) for a in (logits, means, factors, x)))
    for block in BLOCKS:
        shape = getattr(still, block).shape
        for place in np.ndindex(shape):
            if block == "scale" and place[2] > place[1]:
                continue
            one = np.zeros(shape)
            one[place] = 1.0
            yield (block, place), still._replace(**{block: one})


@REDUCTIONS
def test_all_columns_are_pytorchs_hessian(reduction):
    problem = random_problem(21, 3, 2, 2)
    weight = random_weight(problem, 21)
    loss = loss_of(log_prob_of_formula, weight, reduction, len(problem.x))
    blocks = torch.autograd.functional.hessian(loss, tensors(*problem))
    order = ("x", "pi_logits", "means", "scale")  # of PyTorch's arguments
    largest = max(float(block.abs().max()) for row in blocks for block in row)
    seen = 0
    for (block, place), direction in columns_of(problem):
        found = nll_hvp(*problem, direction, sample_weight=weight, reduction=reduction)
        for i, row in enumerate(order):
            column = blocks[i][order.index(block)].numpy()[(..., *place)]
            np.testing.assert_allclose(
                getattr(found, row), column, rtol=0, atol=TOLERANCE * largest
            )
            seen += column.size
    assert seen == (2 + 4 + 6 + 6) * (2 + 4 + 8 + 6)
