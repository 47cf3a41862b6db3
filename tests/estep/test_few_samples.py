"""Few samples, all at once: the kernels' answers to rounding, and what is left to them."""

import numpy as np
import pytest
from families_by_reference import random_scale
from problems import Worst, logits_floor, random_problem

import gmm_np
from gmm_np import tuning
from gmm_np.covariance import FAMILIES
from gmm_np.estep import few_samples


def of_family(problem, family):
    """The problem with a scale of this family."""
    k, d = problem.means.shape
    scale = random_scale(len(problem.x), family, k, d)
    return problem.x, gmm_np.Parameters(problem.pi_logits, problem.means, scale, family)


def by_kernels(function, x, p, **options):
    with tuning.use(little_work=0):
        return function(x, p.pi_logits, p.means, p.scale, family=p.family, **options)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_few_samples_get_the_answers_of_the_kernels(family, weighted, reduction):
    worst = Worst()
    for seed in range(25):
        x, p = of_family(random_problem(seed), family)
        rng = np.random.default_rng(seed)
        weight = rng.random(len(x)) * (rng.random(len(x)) < 0.7) + 1e-3 if weighted else None
        assert few_samples.are_few(len(x), p, "auto")
        options = {"reduction": reduction, "sample_weight": weight}
        value, found = gmm_np.nll_value_and_grad(
            x, p.pi_logits, p.means, p.scale, family=family, **options
        )
        expected, others = by_kernels(gmm_np.nll_value_and_grad, x, p, **options)
        worst.add(seed, "value", value, expected)
        floor = logits_floor(len(x), weight, reduction)
        for block in ("pi_logits", "means", "scale"):
            own, other = getattr(found, block), getattr(others, block)
            assert (own is None) == (other is None)
            if own is not None:
                worst.add(seed, block, own, other, floor)
        rows = gmm_np.log_prob(x, p.pi_logits, p.means, p.scale, family=family)
        worst.add(seed, "log_prob", rows, by_kernels(gmm_np.log_prob, x, p))
    worst.check(1e-12)


def test_what_leaves_the_range_is_left_to_the_kernels():
    logits, means = np.zeros(2), np.zeros((2, 1))
    for x, scale in (([[1e200]], 1e-150), ([[1e300]], 1e300), ([[1.0]], 5e-324)):
        p = gmm_np.Parameters(logits, means, np.full((2, 1, 1), scale))
        value, found = gmm_np.nll_value_and_grad(x, *(p.pi_logits, p.means, p.scale))
        expected, others = by_kernels(gmm_np.nll_value_and_grad, x, p)
        assert value == pytest.approx(expected, rel=1e-14)
        for own, other in zip(found[:3], others[:3], strict=True):
            np.testing.assert_allclose(own, other, rtol=1e-13)


def test_a_component_that_is_off_has_no_part_and_no_gradient():
    x, p = of_family(random_problem(3, n_components=4), "full")
    logits = np.array(p.pi_logits)
    logits[1] = -np.inf
    value, found = gmm_np.nll_value_and_grad(x, logits, p.means, p.scale)
    rest = [0, 2, 3]
    expected, others = gmm_np.nll_value_and_grad(x, logits[rest], p.means[rest], p.scale[rest])
    assert value == pytest.approx(expected, rel=1e-14)
    for own, other in zip(found[:3], others[:3], strict=True):
        assert not own[1].any()
        np.testing.assert_allclose(own[rest], other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("function", [gmm_np.nll, gmm_np.log_prob, gmm_np.nll_value_and_grad])
def test_a_value_of_few_samples_that_is_not_finite_is_named(function):
    x = np.zeros((5, 2))
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"x has values that are not finite.*row 3, column 1"):
        function(x, [0.0], [[0.0, 0.0]], [np.eye(2)])
    with pytest.raises(ValueError, match=r"method must be one of"):
        function(np.zeros((5, 2)), [0.0], [[0.0, 0.0]], [np.eye(2)], method="fast")
