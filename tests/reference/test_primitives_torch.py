"""Each primitive of the reference against PyTorch autograd through the same primitive."""

import numpy as np
import pytest
import torch
from problems import Worst, random_problem

from gmm_np import reference

pytestmark = pytest.mark.needs_extras

SEEDS = range(60)
# A few dozen operations on either side, 1.1e-16 each, at condition numbers of ten or so.
TOLERANCE = 1e-13


def autograd(function, d_value, *arguments):
    """Value and gradients of a function of float64 tensors."""
    tensors = [
        torch.tensor(np.array(a), dtype=torch.float64, requires_grad=True) for a in arguments
    ]
    value = function(*tensors)
    value.backward(torch.tensor(np.array(d_value), dtype=torch.float64))
    return value.detach().numpy(), [tensor.grad.numpy() for tensor in tensors]


def quadratic_form(x, mean, factor):
    residual = (x - mean).T
    return (torch.linalg.solve_triangular(factor, residual, upper=False) ** 2).sum(0)


def half_log_det(factor):
    return factor.diagonal().log().sum()


def component(seed):
    """Return a generator, rows x [N, D], a mean [D] and a factor [D, D]."""
    problem = random_problem(seed, n_components=1, n_features=1 + seed % 9)
    return np.random.default_rng(seed), problem.x, problem.means[0], problem.scale_tril[0]


@pytest.mark.parametrize("leading", [(), (7,), (3, 2)])
def test_logsumexp_agrees(leading):
    worst = Worst()
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        terms = 5.0 * rng.normal(size=(*leading, 1 + seed % 6))
        u = rng.normal(size=leading)
        value, softmax = reference.logsumexp_forward(terms)
        expected, (d_terms,) = autograd(lambda t: torch.logsumexp(t, -1), u, terms)
        worst.add(seed, "value", value, expected)
        worst.add(seed, "terms", reference.logsumexp_backward(u, softmax), d_terms)
    worst.check(TOLERANCE)


def test_log_softmax_agrees():
    worst = Worst()
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        logits, u = 3.0 * rng.normal(size=(2, 2 + seed % 6))
        log_pi, pi = reference.log_softmax_forward(logits)
        expected, (d_logits,) = autograd(lambda a: torch.log_softmax(a, -1), u, logits)
        worst.add(seed, "value", log_pi, expected)
        # The gradient is the difference of u and a multiple of pi.
        worst.add(seed, "logits", reference.log_softmax_backward(u, pi), d_logits, np.abs(u).max())
    worst.check(TOLERANCE)


def test_quadratic_form_agrees():
    worst = Worst()
    for seed in SEEDS:
        rng, x, mean, factor = component(seed)
        u = rng.normal(size=len(x))
        value, z = reference.quadratic_form_forward(x, mean, factor)
        expected, gradients = autograd(quadratic_form, u, x, mean, factor)
        worst.add(seed, "value", value, expected)
        mine = reference.quadratic_form_backward(u, x, mean, factor, z)
        for name, got, wanted in zip(("x", "mean", "factor"), mine, gradients, strict=True):
            worst.add(seed, name, got, wanted)
    worst.check(TOLERANCE)


def test_half_log_det_agrees():
    worst = Worst()
    for seed in SEEDS:
        rng, _, _, factor = component(seed)
        u = float(rng.normal())
        value, diagonal = reference.half_log_det_forward(factor)
        expected, (d_factor,) = autograd(half_log_det, u, factor)
        # The sum of logarithms may cancel: relative to one nat at least.
        worst.add(seed, "value", value, expected, 1.0)
        worst.add(seed, "factor", reference.half_log_det_backward(u, diagonal), d_factor)
    worst.check(TOLERANCE)


def test_log_density_agrees():
    def log_density(x, mean, factor):
        return torch.distributions.MultivariateNormal(mean, scale_tril=factor).log_prob(x)

    worst = Worst()
    for seed in SEEDS:
        rng, x, mean, factor = component(seed)
        u = rng.normal(size=len(x))
        value, z = reference.log_density_forward(x, mean, factor)
        expected, gradients = autograd(log_density, u, x, mean, factor)
        worst.add(seed, "value", value, expected)
        mine = reference.log_density_backward(u, x, mean, factor, z)
        for name, got, wanted in zip(("x", "mean", "factor"), mine, gradients, strict=True):
            worst.add(seed, name, got, wanted)
    worst.check(TOLERANCE)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reduce_agrees(reduction, weighted):
    worst = Worst()
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        n_samples = 1 + seed % 20
        log_likelihood = rng.normal(size=n_samples)
        weight = rng.uniform(0.1, 3.0, size=n_samples) if weighted else np.ones(n_samples)
        u = rng.normal(size=n_samples if reduction == "none" else ())

        def loss(log_likelihood, weight=weight):
            each = -torch.tensor(weight) * log_likelihood
            if reduction == "none":
                return each
            return each.sum() / (weight.sum() if reduction == "mean" else 1.0)

        value, coefficient = reference.reduce_forward(log_likelihood, weight, reduction)
        expected, (d_log_likelihood,) = autograd(loss, u, log_likelihood)
        # The sum of terms of either sign may cancel: relative to the size of a term at least.
        worst.add(seed, "value", value, expected, 1.0)
        worst.add(
            seed, "log_likelihood", reference.reduce_backward(u, coefficient), d_log_likelihood
        )
    worst.check(TOLERANCE)
