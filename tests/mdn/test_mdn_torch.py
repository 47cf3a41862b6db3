"""Mixtures of each row against PyTorch, element by element; a network's training, step by step."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from by_torch import log_prob_of_rows
from problems import Worst
from rows_by_reference import FAMILIES, coefficients, random_direction, random_rows

from gmm_np import Gradients, mdn
from gmm_np.datasets import make_inverse_problem

pytestmark = pytest.mark.needs_extras

# Both sides round some hundred operations to 1.1e-16 each.
TOLERANCE = 1e-11
FAMILY = pytest.mark.parametrize("family", FAMILIES)


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
        loss = -torch.tensor(c) * log_prob_of_rows(*arguments, family)
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
            return -(c * log_prob_of_rows(*arguments, family)).sum()

        moves = tensors(direction.x, *direction[:3])
        _, blocks = torch.autograd.functional.hvp(loss, tensors(*problem), moves)
        x, logits, means, scale = (block.numpy() for block in blocks)
        floor = 0.01 * float(c.max())
        worst.add_gradients(seed, found, Gradients(logits, means, scale, x), floor)
    worst.check(TOLERANCE)


# --- training -----------------------------------------------------------------------------------


def network_of_the_notebook():
    """What the cells of docs/mdn.ipynb define in which the network is written by hand."""
    path = Path(__file__).resolve().parents[2] / "docs" / "mdn.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    namespace = {"__name__": "notebook"}
    for cell in cells:
        if "network" in cell["metadata"].get("tags", []):
            source = "".join(cell["source"])
            lines = [line for line in source.split("\n") if "plt" not in line]  # nothing is drawn
            exec("\n".join(lines), namespace)
    return namespace


def parameters_of(outputs, head):
    """The head in PyTorch: logits, means and scale of outputs [N, P]."""
    k, d = head.n_components, head.n_features
    logits, means, raw = outputs.split([k, k * d, outputs.shape[1] - k - k * d], dim=1)
    zero = torch.zeros((), dtype=torch.float64)
    if head.family == "full":
        # Of each entry of the triangle, its place in a matrix: linear.
        rows, columns = np.tril_indices(d)
        places = torch.zeros(len(rows), d, d, dtype=torch.float64)
        places[range(len(rows)), rows, columns] = 1.0
        entries = raw.reshape(-1, k, len(rows))
        on_diagonal = torch.tensor(rows == columns)
        positive = torch.where(on_diagonal, torch.logaddexp(entries, zero), entries)
        scale = torch.tensordot(positive, places, 1)
    else:
        shape = (-1, k) if head.family == "spherical" else (-1, k, d)
        scale = torch.logaddexp(raw, zero).reshape(shape)
    return logits, means.reshape(-1, k, d), scale


@FAMILY
def test_training_by_hand_is_that_of_pytorch_step_by_step(family):
    by_hand = network_of_the_notebook()
    inputs, targets = make_inverse_problem(200, seed=1)
    if family == "full":  # in two dimensions, so that there is a covariance
        targets = np.hstack([targets, inputs - targets])
    d = targets.shape[1]
    head = mdn.MixtureHead(3, d, family=family)
    start = np.linspace(0.2, 0.8, 3)[:, None] * np.ones(d)
    network = by_hand["make_network"](1, 10, head, start, seed=2)
    weights = tensors(*network, requires_grad=True)
    adam = by_hand["Adam"](network, rate=0.01)
    twin = torch.optim.Adam(weights, lr=0.01)
    u, t = tensors(inputs, targets)
    first = None
    for step in range(40):
        value, gradient = by_hand["value_and_grad"](network, head, inputs, targets)
        w1, b1, w2, b2 = weights
        mixtures = parameters_of(torch.tanh(u @ w1 + b1) @ w2 + b2, head)
        loss = -log_prob_of_rows(t, *mixtures, family).mean()
        twin.zero_grad()
        loss.backward()
        assert value == pytest.approx(loss.item(), rel=1e-12, abs=1e-12), f"step {step}"
        # Sums over rows, which cancel the more the longer it goes.
        for mine, theirs in zip(gradient, weights, strict=True):
            size = theirs.grad.abs().max().item()
            np.testing.assert_allclose(mine, theirs.grad.numpy(), rtol=0, atol=1e-12 * size)
        adam.step(network, gradient)
        twin.step()
        for mine, theirs in zip(network, weights, strict=True):
            size = theirs.abs().max().item()
            np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=0, atol=1e-12 * size)
        first = value if first is None else first
    assert value < first - 0.3  # it did learn
