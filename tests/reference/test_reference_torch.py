"""The reference against PyTorch autograd, element by element."""

import warnings

import numpy as np
import pytest
import torch
from by_torch import log_prob_of_distribution, log_prob_of_formula
from problems import BLOCKS, Problem, Worst, logits_floor, random_problem

from gmm_np.reference import nll_backward, nll_forward

pytestmark = pytest.mark.needs_extras

# Both sides round each of some hundred operations to 1.1e-16 of its result, and the gradients are
# sums without much cancellation at these condition numbers.
VALUE = 1e-13
GRADIENT = 1e-12

# Sizes that a random draw seldom or never gives, as N, K, D.
CORNERS = (
    (1, 1, 1),
    (1, 1, 5),
    (1, 4, 3),
    (7, 1, 3),
    (30, 5, 1),
    (12, 3, 32),
    (1, 2, 32),
    (40, 64, 2),
    (300, 6, 8),
)
N_RANDOM = 210


JUDGES = pytest.mark.parametrize("log_prob", [log_prob_of_distribution, log_prob_of_formula])


def torch_value_and_grad(log_prob, problem, sample_weight=None, reduction="mean", d_value=1.0):
    """Value and gradients in float64, in the order of `Gradients`."""
    x, pi_logits, means, scale_tril = (
        torch.tensor(np.array(argument), dtype=torch.float64, requires_grad=True)
        for argument in problem
    )
    weight = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight)
    loss = -torch.tensor(weight, dtype=torch.float64) * log_prob(x, pi_logits, means, scale_tril)
    if reduction == "sum":
        loss = loss.sum()
    elif reduction == "mean":
        loss = loss.sum() / weight.sum()
    loss.backward(torch.tensor(np.array(d_value), dtype=torch.float64))
    gradients = tuple(a.grad.numpy() for a in (pi_logits, means, scale_tril, x))
    return loss.detach().numpy(), gradients


def compare(worst, seed, problem, log_prob, sample_weight=None, reduction="mean", d_value=1.0):
    """Add the errors of one problem to `worst`; return the value."""
    options = {"sample_weight": sample_weight, "reduction": reduction}
    value, cache = nll_forward(*problem, **options)
    gradients = nll_backward(cache, d_value)
    expected_value, expected = torch_value_and_grad(log_prob, problem, **options, d_value=d_value)
    floor = logits_floor(len(problem.x), **options, d_value=d_value)
    worst.add(seed, "value", value, expected_value)
    worst.add_gradients(seed, gradients, expected, floor)
    if len(problem.pi_logits) == 1:  # one component takes all, whatever its logit
        assert gradients.pi_logits.tolist() == [0.0]
    return value


def problems():
    """More than 200 problems, each with its seed."""
    for seed in range(N_RANDOM):
        yield seed, random_problem(seed)
    for seed, sizes in enumerate(CORNERS, start=1000):
        yield seed, random_problem(seed, *sizes)


def test_problems_are_as_various_as_claimed():
    shapes = [(*p.x.shape, len(p.pi_logits)) for _, p in problems()]
    assert len(shapes) >= 200
    assert min(n for n, _, _ in shapes) == min(d for _, d, _ in shapes) == 1
    assert min(k for _, _, k in shapes) == 1
    assert {d for _, d, _ in shapes} >= {*range(1, 9), 32}
    assert {k for _, _, k in shapes} >= {*range(1, 7), 64}


@JUDGES
def test_value_and_every_gradient_entry_agree(log_prob):
    worst = Worst()
    for seed, problem in problems():
        compare(worst, seed, problem, log_prob)
    worst.check(GRADIENT, value=VALUE)


@JUDGES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_vjp_agrees_for_every_reduction_weighted_or_not(log_prob, reduction, weighted):
    worst = Worst()
    for seed in range(2000, 2070):
        problem = random_problem(seed)
        rng = np.random.default_rng(seed)
        n_samples = len(problem.x)
        weight = rng.uniform(0.0, 3.0, size=n_samples) if weighted else None
        d_value = rng.normal(size=n_samples if reduction == "none" else ())
        compare(worst, seed, problem, log_prob, weight, reduction, d_value)
    worst.check(GRADIENT, value=VALUE)


@JUDGES
def test_strongly_correlated_components_agree(log_prob):
    worst = Worst()
    for seed in range(3000, 3040):
        rng = np.random.default_rng(seed)
        n_samples, n_components, n_features = 20, 3, 4
        covariance = 0.9 * np.ones((n_features, n_features)) + 0.1 * np.eye(n_features)
        signs = rng.choice([-1.0, 1.0], size=(n_components, n_features))
        factors = np.linalg.cholesky(covariance * signs[:, :, None] * signs[:, None, :])
        means = rng.normal(size=(n_components, n_features))
        noise = rng.normal(size=(n_samples, n_features))
        labels = rng.integers(n_components, size=n_samples)
        x = means[labels] + np.einsum("nij,nj->ni", factors[labels], noise)
        problem = Problem(x, rng.normal(size=n_components), means, factors)
        assert np.linalg.cond(factors[0] @ factors[0].T) > 30
        compare(worst, seed, problem, log_prob)
    worst.check(GRADIENT, value=VALUE)


# A squared distance q is rounded by about q * 1.1e-16, and so is a responsibility that is not
# saturated: at 50 sigma that is 3e-13, at 1e4 sigma saturation hides it.
@JUDGES
@pytest.mark.parametrize("distance", [50.0, 1e4])
def test_far_points_agree(log_prob, distance):
    worst = Worst()
    for seed in range(4000, 4040):
        problem = random_problem(seed, n_components=1 + seed % 4)
        rng = np.random.default_rng(seed)
        direction = rng.normal(size=problem.x.shape)
        direction *= distance / np.linalg.norm(direction, axis=1, keepdims=True)
        x = problem.means[0] + direction @ problem.scale_tril[0].T
        value = compare(worst, seed, problem._replace(x=x), log_prob)
        assert np.isfinite(value)
    worst.check(GRADIENT, value=VALUE)


@JUDGES
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_component_that_is_off_equals_its_absence(log_prob, reduction):
    """PyTorch's gradients may be NaN at a logit of -inf: its judge gets the mixture without it."""
    worst = Worst()
    for seed in range(5000, 5040):
        problem = random_problem(seed, n_components=2 + seed % 4)
        rng = np.random.default_rng(seed)
        off = int(rng.integers(len(problem.pi_logits)))
        logits = problem.pi_logits.copy()
        logits[off] = -np.inf
        rest = Problem(problem.x, *(np.delete(argument, off, axis=0) for argument in problem[1:]))
        d_value = rng.normal(size=len(problem.x) if reduction == "none" else ())
        value, cache = nll_forward(problem.x, logits, *problem[2:], reduction=reduction)
        gradients = nll_backward(cache, d_value)
        expected_value, expected = torch_value_and_grad(
            log_prob, rest, reduction=reduction, d_value=d_value
        )
        worst.add(seed, "value", value, expected_value)
        for block in ("pi_logits", "means", "scale"):
            assert not getattr(gradients, block)[off].any(), f"seed {seed}: {block} of what is off"
        of_rest = (*(np.delete(g, off, axis=0) for g in gradients[:3]), gradients.x)
        floor = logits_floor(len(problem.x), reduction=reduction, d_value=d_value)
        worst.add_gradients(seed, of_rest, expected, floor)
    worst.check(GRADIENT, value=VALUE)


@JUDGES
def test_float32_arguments_give_the_gradients_of_the_same_numbers_in_float64(log_prob):
    worst = Worst()
    for seed in range(6000, 6040):
        narrow = Problem(*(a.astype(np.float32) for a in random_problem(seed, n_components=3)))
        value, cache = nll_forward(*narrow)
        gradients = nll_backward(cache)
        assert {g.dtype for g in gradients} == {np.dtype(np.float32)}
        expected_value, expected = torch_value_and_grad(log_prob, narrow)
        worst.add(seed, "value", value, expected_value)
        for block, got, wanted in zip(BLOCKS, gradients, expected, strict=True):
            # Rounded once, at the end: entry by entry half a unit in the last place of float32,
            # which is 2**-24 relative. A hair more, for float64 differs from float64 as well.
            np.testing.assert_allclose(
                got, wanted, rtol=1.001 * 2.0**-24, atol=1e-13, err_msg=block
            )
    worst.check(VALUE)


def test_pytorch_raises_no_warning_here():
    """The judge is to be silent: pytest would turn a warning into an error of ours."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for log_prob in (log_prob_of_distribution, log_prob_of_formula):
            torch_value_and_grad(log_prob, random_problem(1))
    assert not caught
