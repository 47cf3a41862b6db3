"""Conditional likelihood and regression: by SciPy, by integration, by differences."""

import numpy as np
import pytest
from families_by_reference import FAMILIES, LEARNED, random_parameters
from scipy.integrate import trapezoid
from scipy.stats import multivariate_normal

import gmm_np
from gmm_np import Parameters, check_grad, conditional


def random_case(seed, family, n=9):
    rng = np.random.default_rng([seed, 5])
    k, d = int(rng.integers(1, 5)), int(rng.integers(2, 6))
    p = random_parameters(seed, family, k, d)
    given = rng.permutation(d)[: int(rng.integers(1, d))].tolist()
    return p, given, 1.5 * rng.normal(size=(n, d))


def density(x, parameters, columns=None):
    """The density of some columns, by SciPy's normal distribution, from sub-blocks."""
    columns = np.arange(parameters.n_features) if columns is None else np.asarray(columns)
    parts = zip(parameters.weights(), parameters.means, parameters.covariances(), strict=True)
    return sum(
        weight
        * multivariate_normal(mean[columns], covariance[np.ix_(columns, columns)]).pdf(
            x[:, columns]
        )
        for weight, mean, covariance in parts
    )


def arguments(p):
    return (p.pi_logits, p.means, p.scale)


@pytest.mark.parametrize("family", FAMILIES)
def test_log_prob_is_that_of_all_columns_less_that_of_the_given(family):
    for seed in range(15):  # of seven families: 105 mixtures
        p, given, x = random_case(seed, family)
        found = conditional.log_prob(x, *arguments(p), given, family=family)
        expected = np.log(density(x, p) / density(x, p, given))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_conditional_density_integrates_to_one(family):
    p, _, x = random_case(3, family)
    last = p.n_features - 1
    given = list(range(last))
    y = np.linspace(-30, 30, 6001)
    rows = np.repeat(x[:1], len(y), axis=0)
    rows[:, last] = y
    found = np.exp(conditional.log_prob(rows, *arguments(p), given, family=family))
    # The trapezoidal rule on an analytic function that vanishes at both ends is exact.
    assert trapezoid(found, y) == pytest.approx(1.0, abs=1e-12)
    regression = conditional.regress(p, given, x[0, :last])
    mean = trapezoid(found * y, y)
    assert regression.mean[0, 0] == pytest.approx(mean, abs=1e-12)
    variance = trapezoid(found * (y - mean) ** 2, y)
    assert regression.covariance[0, 0, 0] == pytest.approx(variance, rel=1e-12)
    assert regression.mode[0, 0] == pytest.approx(y[found.argmax()], abs=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_moments_of_a_conditional_are_those_of_covariance_blocks(family):
    for seed in range(15):
        p, given, x = random_case(seed, family)
        others = np.setdiff1d(np.arange(p.n_features), given)
        found = conditional.regress(p, given, x[:, given])
        np.testing.assert_array_equal(found.columns, others)
        for n, row in enumerate(x):
            weights, means, spreads = [], [], []
            for w, mu, cov in zip(p.weights(), p.means, p.covariances(), strict=True):
                inner = cov[np.ix_(given, given)]
                slope = np.linalg.solve(inner, cov[np.ix_(given, others)]).T
                weights.append(w * multivariate_normal(mu[given], inner).pdf(row[given]))
                means.append(mu[others] + slope @ (row[given] - mu[given]))
                spreads.append(cov[np.ix_(others, others)] - slope @ cov[np.ix_(given, others)])
            weights = np.array(weights) / np.sum(weights)
            mean = weights @ means
            second = sum(
                w * (s + np.outer(m - mean, m - mean))
                for w, m, s in zip(weights, means, spreads, strict=True)
            )
            np.testing.assert_allclose(found.mean[n], mean, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(found.covariance[n], second, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_conditional_of_a_conditional_is_that_of_both(family):
    for seed in range(15):
        p = random_parameters(seed, family, 3, 4)
        x = np.random.default_rng(seed).normal(size=(5, 4))
        for row in x:
            first = p.conditional([2], row[[2]])  # of columns 0, 1, 3
            twice = first.conditional([0], row[[0]])
            at_once = p.conditional([0, 2], row[[0, 2]])
            np.testing.assert_allclose(twice.weights(), at_once.weights(), rtol=1e-12)
            np.testing.assert_allclose(twice.means, at_once.means, rtol=1e-12, atol=1e-13)
            np.testing.assert_allclose(twice.scale, at_once.scale, rtol=1e-12, atol=1e-14)
        # log p(a, b | c) = log p(a | b, c) + log p(b | c)
        both = conditional.log_prob(x, *arguments(p), [2], family=family)
        inner = p.marginal([0, 2])
        chain = conditional.log_prob(x, *arguments(p), [0, 2], family=family)
        chain += conditional.log_prob(x[:, [0, 2]], *arguments(inner), [1], family=family)
        np.testing.assert_allclose(both, chain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_order_of_given_columns_makes_no_difference(family):
    p = random_parameters(4, family, 3, 5)
    x = np.random.default_rng(4).normal(size=(6, 5))
    one, other = [1, 4, 0], [0, 1, 4]
    a = conditional.nll_value_and_grad(x, *arguments(p), one, family=family)
    b = conditional.nll_value_and_grad(x, *arguments(p), other, family=family)
    assert a[0] == pytest.approx(b[0], rel=1e-13)
    for mine, theirs in zip(a[1], b[1], strict=True):
        if mine is not None:
            np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-14)
    left = conditional.regress(p, one, x[:, one])
    right = conditional.regress(p, other, x[:, other])
    np.testing.assert_allclose(left.mean, right.mean, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(left.mode, right.mode, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", LEARNED)
def test_gradient_agrees_with_differences(family):
    p, given, x = random_case(7, family)
    weight = np.random.default_rng(1).random(len(x))

    def value_and_grad(x, pi_logits, means, scale):
        value, g = conditional.nll_value_and_grad(
            x, pi_logits, means, scale, given, family=family, sample_weight=weight
        )
        return value, (g.x, g.pi_logits, g.means, g.scale)

    names = ("x", "pi_logits", "means", "scale")
    free = {"scale": np.tri(p.n_features, dtype=bool)} if family in ("full", "tied") else None
    report = check_grad(
        value_and_grad, dict(zip(names, (x, *arguments(p)), strict=True)), free=free
    )
    assert report.passed, str(report)


def test_reductions_and_weights_are_those_of_nll():
    p, given, x = random_case(2, "full")
    weight = np.array([2.0, 0.0, *np.ones(len(x) - 2)])
    each = -conditional.log_prob(x, *arguments(p), given)
    options = {"sample_weight": weight}
    of_each = conditional.nll(x, *arguments(p), given, reduction="none", **options)
    np.testing.assert_allclose(of_each, weight * each, rtol=1e-15)
    total = conditional.nll(x, *arguments(p), given, reduction="sum", **options)
    assert total == pytest.approx(weight @ each, rel=1e-14)
    value, _ = conditional.nll_value_and_grad(x, *arguments(p), given, **options)
    assert value == pytest.approx(weight @ each / weight.sum(), rel=1e-14)
    repeated = np.concatenate([x[:1], x[:1], x[2:]])
    again, gradients = conditional.nll_value_and_grad(repeated, *arguments(p), given)
    assert again == pytest.approx(value, rel=1e-14)
    _, weighted = conditional.nll_value_and_grad(x, *arguments(p), given, **options)
    np.testing.assert_allclose(weighted.scale, gradients.scale, rtol=1e-11, atol=1e-14)
    with pytest.raises(ValueError, match="has N values, and so no gradient"):
        conditional.nll_value_and_grad(x, *arguments(p), given, reduction="none")


def test_no_digits_are_lost_where_the_given_columns_are_far_away():
    """One component of a thousand standard deviations' distance: log p(x) is half a million."""
    p = Parameters([0.0, 0.0], [[0.0, 0.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, 2.0]], "diag")
    x = np.array([[1e6, 0.25]])
    # All the weight is the second component's, whose column is independent of the given one.
    expected = -0.5 * (0.25 / 2) ** 2 - np.log(2.0) - 0.5 * np.log(2 * np.pi)
    found = conditional.log_prob(x, *arguments(p), [0], family="diag")[0]
    assert found == pytest.approx(expected, rel=1e-15)
    joint = gmm_np.log_prob(x, *arguments(p), family="diag")[0]
    known = gmm_np.log_prob(x[:, :1], *arguments(p.marginal([0])), family="diag")[0]
    assert abs(joint - known - expected) > 1e-6  # where the difference is not exact
    _, g = conditional.nll_value_and_grad(x, *arguments(p), [0], family="diag")
    np.testing.assert_array_equal(g.pi_logits, 0.0)
    np.testing.assert_array_equal(g.means[:, 0], 0.0)
    assert g.means[1, 1] == pytest.approx(-0.25 / 4, rel=1e-15)


def test_a_component_that_is_off_has_no_part():
    p = random_parameters(1, "full", 3, 3)
    on = Parameters(p.pi_logits[:2], p.means[:2], p.scale[:2])
    off = Parameters([*p.pi_logits[:2], -np.inf], p.means, p.scale)
    x = np.random.default_rng(0).normal(size=(5, 3))
    value, g = conditional.nll_value_and_grad(x, *arguments(off), [1])
    expected, h = conditional.nll_value_and_grad(x, *arguments(on), [1])
    assert value == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(g.scale[:2], h.scale, rtol=1e-12, atol=1e-15)
    assert not g.pi_logits[2]
    assert not g.means[2].any()
    assert not g.scale[2].any()
    off_far = Parameters(off.pi_logits, [*p.means[:2], [1e300] * 3], p.scale)
    _, far = conditional.nll_value_and_grad(x, *arguments(off_far), [1])
    np.testing.assert_array_equal(far.scale, g.scale)


def test_memory_does_not_grow_with_rows(tuned):
    """Blocks of any size give the same."""
    p, given, x = random_case(5, "full", n=50)
    expected = conditional.nll_value_and_grad(x, *arguments(p), given)
    tuned(group=1)
    found = conditional.nll_value_and_grad(x, *arguments(p), given)
    assert found[0] == pytest.approx(expected[0], rel=1e-13)
    for mine, theirs in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-14)
    mode = conditional.regress(p, given, x[:, given]).mode
    assert mode.shape == (50, p.n_features - len(given))


@pytest.mark.parametrize("family", FAMILIES)
def test_mode_is_the_highest_maximum_of_the_conditional(family):
    for seed in range(3):
        p = random_parameters(seed, family, 4, 3)
        p = Parameters(p.pi_logits, 3 * p.means, p.scale, family)
        x = 3 * np.random.default_rng(seed).normal(size=(4, 1))
        found = conditional.regress(p, [1], x).mode
        for n in range(4):
            highest = gmm_np.modes(*arguments(p.conditional([1], x[n])), family=family)
            np.testing.assert_allclose(found[n], highest.points[0], rtol=1e-7, atol=1e-7)


def test_messages_name_the_columns_and_the_row():
    p = random_parameters(1, "full", 2, 3)
    x = np.zeros((3, 3))
    with pytest.raises(ValueError, match="given must be from 0 to 2; got 3"):
        conditional.log_prob(x, *arguments(p), [3])
    with pytest.raises(ValueError, match="given must hold 1 to 2 of the 3 columns"):
        conditional.log_prob(x, *arguments(p), [0, 1, 2])
    x[2, 0] = 1e200
    with pytest.raises(ValueError, match=r"so far from every component .* in row 2"):
        conditional.log_prob(x, *arguments(p), [0])
    x = np.zeros((3, 3))
    x[1, 2] = 1e200
    assert conditional.log_prob(x, *arguments(p), [0])[1] == -np.inf
    with pytest.raises(OverflowError, match="even as a logarithm, the first in row 1"):
        conditional.nll_value_and_grad(x, *arguments(p), [0])


def test_float32_parameters_get_float32_gradients_of_float64_work():
    p = random_parameters(2, "full", 2, 3)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    single = [a.astype(np.float32) for a in arguments(p)]
    value, g = conditional.nll_value_and_grad(x, *single, [2, 0])
    doubles = [a.astype(np.float64) for a in single]
    expected, h = conditional.nll_value_and_grad(x.astype(np.float64), *doubles, [2, 0])
    assert value == pytest.approx(expected, rel=1e-14)
    assert {a.dtype for a in g} == {np.dtype(np.float32)}
    np.testing.assert_allclose(g.scale, h.scale, rtol=1e-6, atol=1e-7)
