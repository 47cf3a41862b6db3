"""Priors: gradients against differences, closed forms in loops, and what EM takes from them."""

import math

import numpy as np
import pytest
from families_by_reference import (
    FAMILIES,
    KINDS,
    LEARNED,
    random_parameters,
    value_alone,
    value_and_grad,
)
from problems import random_problem
from scipy.stats import dirichlet, norm, wishart

from gmm_np import Gradients, Parameters, check_grad, em_step, gradients, statistics
from gmm_np.parametrizations import LogCholesky
from gmm_np.priors import Dirichlet, Normal, Wishart, add_log_density, conjugate
from gmm_np.sufficient_statistics import Conjugate

PRIORS = {
    "wishart": Wishart(0.7, 2.5),
    "wishart with a low m": Wishart(1.3, -1.5),
    "dirichlet": Dirichlet(2.5),
    "sparse dirichlet": Dirichlet(0.4),
    "normal": Normal(0.5, 1.5),
}
EACH = pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
EACH_FAMILY = pytest.mark.parametrize("family", FAMILIES)


def shared(family):
    return KINDS[family][1]


def by_scipy(prior, parameters):
    """The log density by SciPy, matrix by matrix."""
    if isinstance(prior, Dirichlet):
        weights = np.exp(parameters.pi_logits - parameters.pi_logits.max())
        weights /= weights.sum()
        if len(weights) == 1:
            return 0.0  # one weight, which is 1
        return dirichlet(np.full(len(weights), prior.concentration)).logpdf(weights)
    if isinstance(prior, Normal):
        return norm(prior.mean, prior.scale).logpdf(parameters.means).sum()
    if parameters.family == "constant":
        return 0.0
    d = parameters.n_features
    density = wishart(d + prior.m + 1, np.eye(d) / prior.gamma**2)
    learned = parameters.covariances()[: 1 if shared(parameters.family) else None]
    return sum(density.logpdf(np.linalg.inv(covariance)) for covariance in learned)


@EACH
@EACH_FAMILY
@pytest.mark.parametrize("seed", range(5))
def test_value_is_that_of_scipy(prior, family, seed):
    shape = random_problem(seed).means.shape
    parameters = random_parameters(seed, family, *shape)
    value, _ = prior.log_density_and_grad(parameters)
    # SciPy has its constants and determinants by other routes: sums of tens of terms of size ten.
    assert value == pytest.approx(by_scipy(prior, parameters), rel=1e-12, abs=1e-12)


@EACH
@EACH_FAMILY
@pytest.mark.parametrize("shape", [(2, 3), (3, 1)])
def test_gradient_is_that_of_the_value(prior, family, shape):
    parameters = random_parameters(1, family, *shape)
    space = LogCholesky.of(parameters)
    pulled = space.pullback(parameters, prior.log_density_and_grad(parameters)[1])

    def objective(vector):
        return prior.log_density_and_grad(space.unpack(vector))[0], (pulled,)

    report = check_grad(objective, {"vector": space.pack(parameters)}, entrywise=True)
    assert report, report


@EACH
@EACH_FAMILY
def test_gradients_have_the_shapes_and_dtypes_of_the_parameters(prior, family):
    wide = random_parameters(1, family, 3, 2)
    narrow = Parameters(
        wide.pi_logits.astype(np.float32), wide.means, wide.scale.astype(np.float32), family
    )
    for parameters in (wide, narrow):
        _, gradients = prior.log_density_and_grad(parameters)
        for block in ("pi_logits", "means", "scale"):
            own, gradient = getattr(parameters, block), getattr(gradients, block)
            if block == "scale" and family == "constant":
                assert gradient is None
                continue
            assert type(gradient) is np.ndarray
            assert gradient.shape == own.shape
            assert gradient.dtype == own.dtype
        assert gradients.x is None


@pytest.mark.parametrize("family", ["full", "tied"])
def test_gradient_of_a_factor_is_lower_triangular(family):
    _, gradients = PRIORS["wishart"].log_density_and_grad(random_parameters(0, family, 3, 4))
    rows, columns = np.tril_indices(4)
    assert gradients.scale[..., rows, columns].all()
    assert not np.triu(gradients.scale, 1).any()


def test_density_of_a_shared_covariance_counts_once():
    deviation = 1.7
    prior = Wishart(0.7, 2.5)
    means = np.zeros((3, 2))
    one = Parameters(np.zeros(1), means[:1], [deviation], "spherical")
    expected, d_one = prior.log_density_and_grad(one)
    for family, scale, times in (
        ("shared_spherical", deviation, 1),
        ("tied", deviation * np.eye(2), 1),
        ("tied_diag", [deviation] * 2, 1),
        ("spherical", [deviation] * 3, 3),
        ("diag", [[deviation] * 2] * 3, 3),
        ("full", [deviation * np.eye(2)] * 3, 3),
        ("constant", [deviation * np.eye(2)] * 3, 0),
    ):
        value, gradients = prior.log_density_and_grad(Parameters([0] * 3, means, scale, family))
        assert value == pytest.approx(times * expected, rel=1e-14)
        if times:
            total = np.sum(gradients.scale)  # of a common factor, equation (34)
            assert total == pytest.approx(times * d_one.scale[0], rel=1e-13)


# --- edges ----------------------------------------------------------------------------------------


def test_uniform_dirichlet_and_components_that_are_off():
    off = Parameters([0.0, 0.0, -np.inf], np.zeros((3, 1)), np.ones((3, 1, 1)))
    value, gradients = Dirichlet(1.0).log_density_and_grad(off)
    assert value == pytest.approx(math.log(2))  # Gamma(3): one over the area of the simplex
    assert not gradients.pi_logits.any()
    for concentration, expected in ((2.0, -np.inf), (0.5, np.inf)):
        value, gradients = Dirichlet(concentration).log_density_and_grad(off)
        assert value == expected
        # 1 - K pi_k = 1 - 3/2 for those that are on
        excess = concentration - 1
        np.testing.assert_allclose(gradients.pi_logits, [-excess / 2, -excess / 2, 0], rtol=1e-15)


def test_logits_far_apart_have_a_density():
    parameters = Parameters([0.0, -2000.0], np.zeros((2, 1)), np.ones((2, 1, 1)))
    value, gradients = Dirichlet(3.0).log_density_and_grad(parameters)
    assert value == pytest.approx(math.log(120 / 4) - 4000)  # Gamma(6) / Gamma(3)^2, 2 log pi
    np.testing.assert_array_equal(gradients.pi_logits, [-2.0, 2.0])


@pytest.mark.parametrize("family", LEARNED)
@pytest.mark.parametrize("deviation", [1e-200, 1e200, 5e-324])
def test_densities_beyond_the_range_are_infinite_and_never_nan(family, deviation):
    n_axes, one_for_all, _ = KINDS[family]
    unit = np.eye(2) if n_axes == 2 else np.ones((2,) * n_axes)
    scale = deviation * (unit if one_for_all else unit[None])
    parameters = Parameters([0.0], [[0.0, 1e200]], scale, family)
    for prior in (Wishart(1.0, 1.0), Normal(-1e200, 1e-100)):
        value, _ = prior.log_density_and_grad(parameters)
        assert not math.isnan(value)
        assert value < 0


def test_normal_prior_has_a_mean_for_each_column_or_one():
    parameters = random_parameters(0, "full", 3, 2)
    whole, _ = Normal([1.0, 1.0], 2.0).log_density_and_grad(parameters)
    single, _ = Normal(1, 2.0).log_density_and_grad(parameters)
    assert whole == single
    with pytest.raises(ValueError, match=r"shape \(3,\), but means has shape \(3, 2\)"):
        Normal([0.0, 0.0, 0.0], 1.0).log_density_and_grad(parameters)


def test_normal_prior_keeps_its_own_copy():
    mean = np.zeros(2)
    prior = Normal(mean, 1.0)
    mean += 5.0
    assert not np.any(prior.mean)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_parameters_of_priors_that_make_no_density_are_refused(bad):
    with pytest.raises(ValueError, match=r"gamma must be a positive number; got"):
        Wishart(bad, 0.0)
    with pytest.raises(ValueError, match=r"concentration must be a positive number; got .*\.$"):
        Dirichlet(bad)
    with pytest.raises(ValueError, match=r"scale must be a positive number; got"):
        Normal(0.0, bad)


def test_degrees_of_freedom_have_to_leave_a_density():
    for m in (-2.0, -3.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"m must be more than -2"):
            Wishart(1.0, m)


def test_mean_of_a_normal_prior_is_checked():
    with pytest.raises(ValueError, match=r"mean has values that are not finite.*at column 1"):
        Normal([0.0, np.nan], 1.0)
    with pytest.raises(ValueError, match=r"a number or have one axis \[D\]; got shape \(1, 2\)"):
        Normal([[0.0, 1.0]], 1.0)
    with pytest.raises(TypeError, match="mean must hold real numbers"):
        Normal("zero", 1.0)


# --- maximum a posteriori -------------------------------------------------------------------------


ALL = [Wishart(0.7, 2.5), Dirichlet(2.5), Normal([0.5, -1.0], 1.5)]


@EACH_FAMILY
@pytest.mark.parametrize("weight", [1.0, 40.0])
def test_objective_with_priors_has_their_gradient(family, weight):
    x = random_problem(2, n_features=2).x
    parameters = random_parameters(2, family, 3, 2)
    space = LogCholesky.of(parameters)
    loss = value_and_grad(x, parameters)
    mine, gradients = add_log_density(*loss, parameters, ALL, weight)
    total = sum(by_scipy(prior, parameters) for prior in ALL)
    assert mine == pytest.approx(loss[0] - total / weight, rel=1e-12)
    pulled = space.pullback(parameters, gradients)  # a check asks for it once

    def objective(vector):
        point = space.unpack(vector)
        return add_log_density(value_alone(x, point), loss[1], point, ALL, weight)[0], (pulled,)

    report = check_grad(objective, {"vector": space.pack(parameters)}, entrywise=True)
    assert report, report


def test_objective_without_priors_is_the_loss():
    parameters = random_parameters(0, "full", 3, 2)
    gradients = Gradients(np.ones(3), np.ones((3, 2)), np.ones((3, 2, 2)), np.ones((4, 2)))
    value, same = add_log_density(1.5, gradients, parameters, [], 10.0)
    assert value == 1.5
    for a, b in zip(same, gradients, strict=True):
        assert a is b


def test_conjugate_sums_of_several_priors():
    assert conjugate([]) == Conjugate(0.0, 0.0, 0.0, 0.0, 0.0)
    sums = conjugate([Wishart(2.0, 1.0), Wishart(1.0, 3.0), Dirichlet(3.0), Dirichlet(1.5)])
    assert sums == Conjugate(5.0, 4.0, 2.5, 0.0, 0.0)
    both = conjugate([Normal([1.0, 0.0], 1.0), Normal(4.0, 0.5)])
    assert both.mean_precision == 5.0  # 1 + 4
    np.testing.assert_allclose(both.centre, [(1 + 16) / 5, 16 / 5], rtol=1e-15)


@EACH_FAMILY
@pytest.mark.parametrize("weighted", [False, True])
def test_em_with_conjugate_sums_climbs_to_where_the_posterior_is_flat(family, weighted):
    """The step (43) never lowers the posterior, and where it stays the gradient vanishes."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 2)) * [1.0, 2.0] + rng.integers(2, size=(60, 1)) * 9.0
    weight = rng.uniform(0.2, 3.0, size=60) if weighted else np.ones(60)
    add, total = conjugate(ALL), weight.sum()
    point = random_parameters(3, family, 2, 2)
    last = np.inf
    for _ in range(3000):
        sums = statistics(x, point, sample_weight=weight)
        loss = (sums.loss / sums.weight, gradients(point, sums))
        value, gradient = add_log_density(*loss, point, ALL, total)
        assert value <= last + 1e-13 * abs(value)  # rounding of a sum of 60 terms
        last = value
        if max(np.abs(g).max() for g in gradient[:3] if g is not None) < 1e-11:
            break
        point = em_step(point, sums, prior=add)
    else:
        pytest.fail(f"gradients still {gradient[:3]}")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PRIORS)
def test_hessian_times_a_direction_is_the_derivative_of_the_gradient(name, family):
    prior, p, rng = PRIORS[name], random_parameters(4, family, 3, 2), np.random.default_rng(4)
    space, step = LogCholesky.of(p), 1e-5
    vector = space.pack(p)
    direction = rng.normal(size=space.size)
    moves = space.pushforward(p, direction)

    def gradient(vector):
        moved = space.unpack(vector)
        return space.pullback(moved, prior.log_density_and_grad(moved)[1])

    found = space.pullback(p, prior.hvp(p, moves))
    found += space.pullback_tangent(p, prior.log_density_and_grad(p)[1], moves)
    slope = gradient(vector + step * direction) - gradient(vector - step * direction)
    assert np.allclose(found, slope / (2 * step), rtol=1e-7, atol=1e-7)
