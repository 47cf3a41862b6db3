"""Distances between mixtures, by numerical integration; and what merging keeps and costs."""

import itertools

import numpy as np
import pytest
from families_by_reference import FAMILIES, LEARNED, random_parameters
from scipy.integrate import trapezoid

from gmm_np import Parameters, distances, log_prob

GRID = np.linspace(-25.0, 25.0, 5001)  # the trapezoidal rule on what vanishes at both ends is exact


def pair(seed, family="full", d=1, spread=1.0):
    rng = np.random.default_rng([seed, 9])
    found = []
    for offset in (0, 100):
        p = random_parameters(seed + offset, family, int(rng.integers(1, 5)), d)
        found.append(Parameters(p.pi_logits, spread * p.means, p.scale, family))
    return found


def logs(p, x=GRID[:, None]):
    return log_prob(x, p.pi_logits, p.means, p.scale, family=p.family)


def integral(values):
    return trapezoid(values, GRID)


def kl_by_integration(p, q):
    log_p, log_q = logs(p), logs(q)
    return integral(np.exp(log_p) * (log_p - log_q))


@pytest.mark.parametrize("family", FAMILIES)
def test_closed_forms_are_integrals(family):
    for seed in range(5):
        p, q = pair(seed, family)
        dp, dq = np.exp(logs(p)), np.exp(logs(q))
        inner = [integral(a * b) for a, b in ((dp, dp), (dp, dq), (dq, dq))]
        assert distances.log_inner_product(p, q) == pytest.approx(np.log(inner[1]), rel=1e-12)
        expected = np.sqrt(integral((dp - dq) ** 2))
        assert distances.l2(p, q) == pytest.approx(expected, rel=1e-10)
        angle = -np.log(inner[1] / np.sqrt(inner[0] * inner[2]))
        assert distances.cauchy_schwarz(p, q) == pytest.approx(angle, rel=1e-10, abs=1e-12)


def test_closed_forms_are_integrals_in_two_dimensions():
    axis = np.linspace(-12, 12, 241)
    x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    cell = (axis[1] - axis[0]) ** 2
    for seed in range(3):
        p, q = pair(seed, d=2)
        product = np.exp(logs(p, x) + logs(q, x)).sum() * cell
        assert distances.log_inner_product(p, q) == pytest.approx(np.log(product), rel=1e-10)


def test_logarithms_hold_what_no_double_does():
    """Two mixtures whose product is below the smallest double, and densities of many columns."""
    p = Parameters([0.0], np.zeros((1, 3)), 1.0, "shared_spherical")
    q = Parameters([0.0], np.full((1, 3), 100.0), 1.0, "shared_spherical")
    assert distances.cauchy_schwarz(p, q) == pytest.approx(3 * 100.0**2 / 4, rel=1e-13)
    tiny = Parameters([0.0], np.zeros((1, 200)), 1e-3, "shared_spherical")
    moved = Parameters([0.0], np.full((1, 200), 1e-4), 1e-3, "shared_spherical")
    assert distances.cauchy_schwarz(tiny, moved) == pytest.approx(200 * 0.1**2 / 4, rel=1e-9)
    assert distances.l2(tiny, tiny) == 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_distances_of_equal_mixtures_vanish(family):
    p, _ = pair(3, family, d=3)
    assert distances.l2(p, p) == pytest.approx(0.0, abs=1e-7)
    assert distances.cauchy_schwarz(p, p) == pytest.approx(0.0, abs=1e-12)
    assert distances.kl_variational(p, p) == pytest.approx(0.0, abs=1e-12)
    assert distances.kl_bounds(p, p).upper == pytest.approx(0.0, abs=1e-9)
    apart = Parameters(p.pi_logits, 20 * p.means, p.scale, family)  # each matches itself
    assert distances.kl_matched(apart, apart) == pytest.approx(0.0, abs=1e-12)
    found = distances.kl_monte_carlo(p, p, 100, random_state=0)
    assert found == (0.0, 0.0)


@pytest.mark.parametrize("spread", [0.5, 4.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_hold_the_divergence_between_them(family, spread):
    for seed in range(3):
        p, q = pair(seed, family, spread=spread)
        exact = kl_by_integration(p, q)
        lower, upper = distances.kl_bounds(p, q)
        assert lower <= exact * (1 + 1e-9) + 1e-10
        assert upper >= exact * (1 - 1e-9) - 1e-10
        matched = distances.kl_matched(p, q)
        assert matched >= upper - 1e-9 * abs(upper)  # the variational bound is the best of these
        if p.n_components == q.n_components == 1:
            assert upper == pytest.approx(exact, rel=1e-9)
            assert distances.kl_variational(p, q) == pytest.approx(exact, rel=1e-9)


def test_bounds_are_tight_where_components_are_apart():
    p, q = pair(2, spread=1.0)
    apart = 40.0 * np.arange(3)[:, None]
    p = Parameters([0.3, 0.0, -0.5], apart - 0.3, np.ones((3, 1)), "diag")
    q = Parameters([0.0, 0.2, 0.4], apart, np.full((3, 1), 1.4), "diag")
    weights = p.weights()
    each = np.log(1.4) + (1 + 0.3**2) / (2 * 1.4**2) - 0.5
    exact = each + weights @ np.log(weights / q.weights())
    for found in (
        distances.kl_bounds(p, q).upper,
        distances.kl_matched(p, q),
        distances.kl_variational(p, q),
    ):
        assert found == pytest.approx(exact, rel=1e-9)


def test_variational_approximation_is_near():
    errors = []
    for seed in range(20):
        p, q = pair(seed, spread=3.0)
        exact = kl_by_integration(p, q)
        errors.append(abs(distances.kl_variational(p, q) - exact) / (exact + 0.1))
    assert np.median(errors) < 0.2


def test_monte_carlo_is_within_its_standard_error_as_often_as_it_should():
    p, q = pair(4)
    exact = kl_by_integration(p, q)
    found = [distances.kl_monte_carlo(p, q, 400, random_state=seed) for seed in range(200)]
    z = np.array([(f.value - exact) / f.standard_error for f in found])
    assert abs(z.mean()) < 0.25  # 3.5 of its own standard errors
    assert 0.85 < z.std() < 1.2
    again = distances.kl_monte_carlo(p, q, 400, random_state=0)
    assert again == found[0]
    blocks = distances.kl_monte_carlo(p, q, 2**16 + 10, random_state=1)
    assert abs(blocks.value - exact) < 4 * blocks.standard_error


def test_divergences_do_not_depend_on_units():
    p, q = pair(5, d=3)
    units = np.array([1e-3, 1.0, 1e4])
    scaled = [Parameters(m.pi_logits, m.means * units, m.scale * units[:, None]) for m in (p, q)]
    for function in (
        distances.cauchy_schwarz,
        distances.kl_variational,
        distances.kl_matched,
        lambda *pair: distances.kl_bounds(*pair).upper,
        lambda *pair: distances.kl_monte_carlo(*pair, 50, random_state=0).value,
    ):
        assert function(*scaled) == pytest.approx(function(p, q), rel=1e-9)


def test_components_that_are_off_have_no_part():
    p, q = pair(6)
    off = [
        Parameters([*m.pi_logits, -np.inf], [*m.means, [50.0]], [*m.scale, [[1e-3]]])
        for m in (p, q)
    ]
    assert distances.l2(*off) == pytest.approx(distances.l2(p, q), rel=1e-12)
    assert distances.kl_variational(*off) == pytest.approx(
        distances.kl_variational(p, q), rel=1e-12
    )
    assert distances.kl_matched(*off) == pytest.approx(distances.kl_matched(p, q), rel=1e-12)
    assert distances.kl_bounds(*off) == pytest.approx(distances.kl_bounds(p, q), rel=1e-9)


# --- merging ------------------------------------------------------------------------------------


def moments(p):
    weights = p.weights()
    mean = weights @ p.means
    apart = p.means - mean
    return mean, np.einsum("k,kij->ij", weights, p.covariances()) + (weights * apart.T) @ apart


@pytest.mark.parametrize("family", FAMILIES)
def test_merging_keeps_mean_and_covariance(family):
    p = random_parameters(7, family, 6, 3)
    mean, covariance = moments(p)
    for k in range(6, 0, -1):
        merged = distances.merge(p, k)
        assert merged.n_components == k
        found_mean, found = moments(merged)
        np.testing.assert_allclose(found_mean, mean, rtol=1e-11, atol=1e-12)
        if merged.family == "full":
            np.testing.assert_allclose(found, covariance, rtol=1e-11, atol=1e-12)
        elif merged.family == "diag":
            np.testing.assert_allclose(np.diag(found), np.diag(covariance), rtol=1e-11)
        else:
            assert np.trace(found) == pytest.approx(np.trace(covariance), rel=1e-11)


def cost(p, i, j):
    """Runnalls' bound, in loops: (w_i + w_j) log det of both less w log det of each, over two."""
    w, covs = p.weights(), p.covariances()
    total = w[i] + w[j]
    apart = p.means[i] - p.means[j]
    both = (w[i] * covs[i] + w[j] * covs[j]) / total + w[i] * w[j] / total**2 * np.outer(
        apart, apart
    )
    each = w[i] * np.linalg.slogdet(covs[i])[1] + w[j] * np.linalg.slogdet(covs[j])[1]
    return 0.5 * (total * np.linalg.slogdet(both)[1] - each)


def test_each_step_merges_the_pair_of_least_cost():
    for seed in range(5):
        p = random_parameters(seed, "full", 6, 2)
        for k in range(5, 0, -1):
            pairs = list(itertools.combinations(range(k + 1), 2))
            i, j = min(pairs, key=lambda pair: cost(p, *pair))
            merged = distances.merge(p, k)
            weights = p.weights()
            rest = [n for n in range(k + 1) if n not in (i, j)]
            expected = sorted([*weights[rest], weights[i] + weights[j]])
            np.testing.assert_allclose(sorted(merged.weights()), expected, rtol=1e-12)
            p = merged


def test_merging_costs_no_more_than_its_bound():
    for seed in range(10):
        p = random_parameters(seed, "full", 4, 1)
        least = min(cost(p, *pair) for pair in itertools.combinations(range(4), 2))
        assert kl_by_integration(p, distances.merge(p, 3)) <= least + 1e-12


@pytest.mark.parametrize("family", LEARNED)
def test_equal_components_merge_at_no_cost(family):
    p = random_parameters(3, family, 2, 2)
    twice = np.repeat([0, 1], 2)
    scale = (
        p.scale if p.scale.ndim < 1 or p.scale.shape[0] != 2 or "tied" in family else p.scale[twice]
    )
    double = Parameters(p.pi_logits[twice], p.means[twice], scale, family)
    merged = distances.merge(double, 2)
    x = np.random.default_rng(0).normal(size=(9, 2))
    np.testing.assert_allclose(logs(merged, x), logs(p, x), rtol=1e-12)


def test_messages_say_what_is_wanted():
    p, q = random_parameters(1, "full", 2, 2), random_parameters(1, "full", 2, 3)
    with pytest.raises(ValueError, match=r"p has 2 columns and q 3: .* Take marginal"):
        distances.l2(p, q)
    with pytest.raises(TypeError, match=r"mixtures are gmm_np\.Parameters; got str"):
        distances.kl_bounds(p, "p")
    with pytest.raises(ValueError, match="n_components must be from 1 to the 2"):
        distances.merge(p, 3)
    with pytest.raises(ValueError, match="n_samples must be at least 2"):
        distances.kl_monte_carlo(p, p, 1)
