"""Marginals and conditionals, against SciPy's densities and numerical integration."""

import numpy as np
import pytest
from families_by_reference import FAMILIES, random_parameters
from scipy.integrate import quad
from scipy.stats import multivariate_normal

from gmm_np import Parameters, log_prob, mdn


def density(p, x):
    return np.exp(log_prob(x, p.pi_logits, p.means, p.scale, family=p.family))


def by_scipy(p, columns, x):
    """Density of some columns, from the covariance's own rows and columns."""
    total = np.zeros(len(x))
    for share, mean, matrix in zip(p.weights(), p.means, p.covariances(), strict=True):
        part = multivariate_normal(mean[columns], matrix[np.ix_(columns, columns)])
        total += share * np.atleast_1d(part.pdf(x))
    return total


@pytest.mark.parametrize("family", FAMILIES)
def test_marginal_has_the_density_of_the_columns(family):
    for seed in range(15):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(1, 6))
        p = random_parameters(seed, family, int(rng.integers(1, 5)), d)
        columns = rng.permutation(d)[: rng.integers(1, d + 1)]
        found = p.marginal(columns)
        assert found.family == family
        x = rng.normal(size=(10, len(columns)))
        assert np.allclose(density(found, x), by_scipy(p, columns, x), rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_conditional_is_the_joint_over_the_marginal(family):
    for seed in range(15):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(2, 6))
        p = random_parameters(seed, family, int(rng.integers(1, 5)), d)
        known = rng.permutation(d)[: rng.integers(1, d)]
        rest = np.setdiff1d(np.arange(d), known)
        values = rng.normal(size=len(known))
        y = rng.normal(size=(10, len(rest)))
        joint = np.empty((10, d))
        joint[:, known], joint[:, rest] = values, y
        expected = by_scipy(p, np.arange(d), joint) / by_scipy(p, known, values[None])
        assert np.allclose(density(p.conditional(known, values), y), expected, rtol=1e-11)


def test_marginal_is_the_integral_over_the_others():
    p = random_parameters(3, "full", 3, 2)
    for x in (-1.0, 0.3, 2.0):
        total = quad(lambda y, x=x: density(p, [[y, x]])[0], -20, 20, epsabs=1e-13)[0]
        assert density(p.marginal([1]), [[x]])[0] == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_conditional_of_a_conditional_is_that_of_both(family):
    p = random_parameters(5, family, 3, 4)
    both = p.conditional([2, 0], [0.4, -0.7])
    step = p.conditional([2], [0.4]).conditional([0], [-0.7])
    x = np.random.default_rng(5).normal(size=(8, 2))
    assert np.allclose(density(both, x), density(step, x), rtol=1e-12)


def test_order_of_columns_is_that_of_the_marginal():
    p = random_parameters(6, "full", 2, 3)
    x = np.random.default_rng(6).normal(size=(5, 3))
    assert np.allclose(density(p.marginal([2, 0, 1]), x[:, [2, 0, 1]]), density(p, x), rtol=1e-12)


def test_conditional_of_an_ill_conditioned_covariance_keeps_its_digits():
    """The factor is triangular already, so that nothing has to be squared."""
    factor = np.array([[[1.0, 0.0], [1.0, 1e-9]]])
    found = Parameters([0.0], [[0.0, 0.0]], factor).conditional([0], [2.0])
    assert found.means.tolist() == [[2.0]]
    assert found.scale.tolist() == [[[1e-9]]]


def test_component_that_is_off_stays_off():
    p = Parameters([0.0, -np.inf], [[0.0, 0.0], [5.0, 5.0]], np.ones((2, 2)), "diag")
    assert p.conditional([0], [5.0]).weights().tolist() == [1.0, 0.0]
    assert p.marginal([0]).weights().tolist() == [1.0, 0.0]


def test_far_values_leave_the_nearest_component():
    p = Parameters([0.0, 0.0], [[0.0, 0.0], [1.0, 1.0]], np.ones((2, 2)), "diag")
    assert p.conditional([0], [1e6]).weights().tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="values are so far from every component"):
        p.conditional([0], [1e200])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([0.5], "columns must be integers"),
        ([], "columns must hold 1 to 3 of the 3 columns"),
        ([3], "columns must be from 0 to 2; got 3"),
        ([-1], "columns must be from 0 to 2; got -1"),
        ([1, 1], "columns must be distinct; 1 stands there twice"),
        ([[0]], "columns must hold"),
    ],
)
def test_columns_that_are_none_are_refused(columns, message):
    with pytest.raises((TypeError, ValueError), match=message):
        random_parameters(0, "full", 2, 3).marginal(columns)


def test_values_that_do_not_fit_are_refused():
    p = random_parameters(0, "full", 2, 3)
    with pytest.raises(ValueError, match=r"columns must hold 1 to 2 of the 3 columns"):
        p.conditional([0, 1, 2], [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"values must have shape \(2,\), or \[N, 2\]"):
        p.conditional([0, 1], [0.0])
    with pytest.raises(ValueError, match=r"nan at row 1, place 0"):
        p.conditional([0, 1], [[0.0, 0.0], [np.nan, 0.0]])
    with pytest.raises(ValueError, match=r"values .*nan at place 1"):
        p.conditional([0, 1], [0.0, np.nan])


def test_dtypes_are_those_of_the_parameters():
    p = random_parameters(1, "full", 2, 3)
    single = Parameters(p.pi_logits.astype("f4"), p.means, p.scale.astype("f4"))
    for found in (single.marginal([1]), single.conditional([1], [0.0])):
        dtypes = [a.dtype for a in (found.pi_logits, found.means, found.scale)]
        assert dtypes == [np.float32, np.float64, np.float32]


@pytest.mark.parametrize("family", FAMILIES)
def test_conditionals_of_many_rows_are_those_of_each(family):
    p = random_parameters(7, family, 3, 4)
    values = np.random.default_rng(7).normal(size=(6, 2))
    found = p.conditional([3, 1], values)
    for row, (logits, means, scale) in enumerate(zip(*found, strict=True)):
        one = p.conditional([3, 1], values[row])
        assert np.allclose(logits, one.pi_logits, rtol=1e-13)
        assert np.allclose(means, one.means, rtol=1e-13)
        assert np.allclose(scale, np.broadcast_to(one.scale, scale.shape), rtol=1e-13)


@pytest.mark.parametrize("family", ["full", "diag", "spherical"])
def test_loss_of_the_others_given_some_is_that_of_mdn(family):
    """The joint density less that of what is known, row by row."""
    p = random_parameters(8, family, 3, 3)
    x = np.random.default_rng(8).normal(size=(9, 3))
    given = p.conditional([0, 2], x[:, [0, 2]])
    found = mdn.nll(x[:, [1]], *given, family=family, reduction="none")
    joint = log_prob(x, p.pi_logits, p.means, p.scale, family=family)
    known = p.marginal([0, 2])
    own = log_prob(x[:, [0, 2]], known.pi_logits, known.means, known.scale, family=family)
    assert np.allclose(found, own - joint, rtol=1e-11)
