"""The covariance families in the engine: each is the full model that it stands for."""

import tracemalloc

import numpy as np
import pytest
from families_by_reference import (
    FAMILIES,
    KINDS,
    LEARNED,
    expand,
    random_parameters,
    value_and_grad,
)
from problems import logits_floor

import gmm_np
from gmm_np import Parameters, reference, tuning
from gmm_np.sufficient_statistics import Conjugate, em_update

families = pytest.mark.parametrize("family", FAMILIES)
learned = pytest.mark.parametrize("family", LEARNED)
methods = pytest.mark.parametrize("method", ["auto", "direct", "moments"])

# Of the block's largest magnitude, on well-conditioned input: the contract of the engine.
TOLERANCE = 1e-12


def draw(seed, family, n=None, k=None, d=None):
    """Rows, parameters and weights; some weights are zero."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60)) if n is None else n
    k = int(rng.integers(1, 6)) if k is None else k
    d = int(rng.choice([1, 2, 3, 8, 13, 17])) if d is None else d
    x = rng.normal(size=(n, d)) * 1.5
    weight = rng.integers(0, 4, size=n).astype(float)
    weight[0] = 1.0
    return x, random_parameters(seed, family, k, d), weight


def arguments(parameters):
    return parameters.pi_logits, parameters.means, parameters.scale


def assert_gradients_close(found, expected, floor, tolerance=TOLERANCE):
    for name in ("pi_logits", "means", "scale"):
        mine, theirs = getattr(found, name), getattr(expected, name)
        if theirs is None:
            assert mine is None
            continue
        assert mine.shape == theirs.shape, name
        largest = max(np.abs(theirs).max(), floor if name == "pi_logits" else 0.0)
        assert np.abs(mine - theirs).max() <= tolerance * largest, name


@families
@methods
def test_value_and_gradient_are_those_of_the_full_model(family, method):
    for seed in range(10):
        x, parameters, weight = draw(seed, family)
        for sample_weight in (None, weight):
            for reduction in ("mean", "sum"):
                options = {"sample_weight": sample_weight, "reduction": reduction}
                expected = value_and_grad(x, parameters, **options)
                found = gmm_np.nll_value_and_grad(
                    x, *arguments(parameters), family=family, method=method, **options
                )
                assert found[0] == pytest.approx(expected[0], rel=TOLERANCE, abs=1e-13)
                floor = logits_floor(len(x), sample_weight, reduction)
                assert_gradients_close(found[1], expected[1], floor)


@families
@methods
def test_statistics_give_the_same_gradient_and_add(family, method):
    for seed in range(6):
        x, parameters, weight = draw(seed, family, n=50)
        _, expected = value_and_grad(x, parameters, sample_weight=weight)
        parts = [
            gmm_np.statistics(x[part], parameters, sample_weight=weight[part], method=method)
            for part in (slice(0, 7), slice(7, 31), slice(31, 50))
            if weight[part].any()
        ]
        total = sum(parts)
        found = gmm_np.gradients(parameters, total)
        assert_gradients_close(found, expected, logits_floor(len(x), weight))


@families
@methods
def test_likelihoods_and_responsibilities_are_those_of_the_full_model(family, method):
    for seed in range(6):
        x, parameters, _ = draw(seed, family)
        factors = expand(parameters.scale, family, *parameters.means.shape)
        loss, cache = reference.nll_forward(
            x, parameters.pi_logits, parameters.means, factors, reduction="none"
        )
        options = {"family": family, "method": method}
        found = gmm_np.log_prob(x, *arguments(parameters), **options)
        np.testing.assert_allclose(found, -loss, rtol=TOLERANCE, atol=1e-12)
        resp = gmm_np.responsibilities(x, *arguments(parameters), **options)
        np.testing.assert_allclose(resp, cache.resp, rtol=0, atol=1e-12)


@families
@methods
def test_a_component_that_is_off_gets_exact_zeros(family, method):
    x, parameters, _ = draw(3, family, n=40, k=3, d=2)
    logits = parameters.pi_logits.copy()
    logits[1] = -np.inf
    off = Parameters(logits, parameters.means, parameters.scale, family)
    _, expected = value_and_grad(x, off)
    _, found = gmm_np.nll_value_and_grad(x, *arguments(off), family=family, method=method)
    assert_gradients_close(found, expected, logits_floor(len(x)))
    assert found.pi_logits[1] == 0
    assert not found.means[1].any()
    _, shared, learned = KINDS[family]
    if learned and not shared:
        assert not np.asarray(found.scale[1]).any()


@families
def test_small_blocks_and_chunks_change_nothing(family):
    x, parameters, weight = draw(5, family, n=500, k=4, d=3)
    for method in ("direct", "moments"):
        options = {"family": family, "method": method, "sample_weight": weight}
        value, expected = gmm_np.nll_value_and_grad(x, *arguments(parameters), **options)
        small = {"feature_block_bytes": 1, "residual_block_bytes": 1, "smallest_block": 16}
        with tuning.use(**small, chunk_bytes=8 * 3 * 64):
            again, found = gmm_np.nll_value_and_grad(x, *arguments(parameters), **options)
        assert again == pytest.approx(value, rel=1e-13, abs=0)
        assert_gradients_close(found, expected, logits_floor(len(x), weight), 1e-13)


@families
@pytest.mark.parametrize("unit", [1e-170, 1e-120, 1e120, 1e170])
def test_units_beyond_the_range_of_squares_are_those_of_the_reference(family, unit):
    # Squared distances overflow or underflow unless they are scaled; 1e170 takes the wide range.
    x, parameters, _ = draw(7, family, n=30, k=3, d=2)
    scaled = Parameters(
        parameters.pi_logits, unit * parameters.means, unit * parameters.scale, family
    )
    expected = value_and_grad(unit * x, scaled)
    found = gmm_np.nll_value_and_grad(unit * x, *arguments(scaled), family=family)
    assert found[0] == pytest.approx(expected[0], rel=TOLERANCE, abs=0)
    assert_gradients_close(found[1], expected[1], logits_floor(len(x)))


@learned
def test_gradients_survive_sums_beyond_the_range(family):
    # Rows so far away that the sums of squares overflow, though the mean's gradient does not.
    x, parameters, _ = draw(9, family, n=12, k=2, d=2)
    far = 1e155 * np.sign(x)
    expected = value_and_grad(far, parameters)
    found = gmm_np.nll_value_and_grad(far, *arguments(parameters), family=family)
    assert found[0] == expected[0]
    for mine, theirs in zip(found[1][:3], expected[1][:3], strict=True):
        assert not np.isnan(mine).any()
        np.testing.assert_allclose(mine, theirs, rtol=1e-10)


def restricted(covariance, n_axes):
    """The covariance, its diagonal, or the mean of that on the diagonal."""
    if n_axes == 2:
        return covariance
    variances = np.diagonal(covariance)
    return np.diag(variances if n_axes == 1 else np.full(len(variances), variances.mean()))


@learned
@methods
def test_em_step_is_the_definition(family, method):
    for seed in range(10):
        x, parameters, weight = draw(seed, family, n=60, k=3, d=3)
        factors = expand(parameters.scale, family, 3, 3)
        _, cache = reference.nll_forward(x, parameters.pi_logits, parameters.means, factors)
        resp = weight[:, None] * cache.resp
        mass = resp.sum(axis=0)
        means = resp.T @ x / mass[:, None]
        centred = x - means[:, None]  # [K, N, D]
        scatter = np.einsum("nk,kni,knj->kij", resp, centred, centred)
        n_axes, shared, _ = KINDS[family]
        total = mass.sum()
        expected = scatter / mass[:, None, None]
        if shared:
            expected = np.stack([scatter.sum(axis=0) / total] * 3)
        expected = np.stack([restricted(covariance, n_axes) for covariance in expected])
        found = gmm_np.em_step(
            parameters, gmm_np.statistics(x, parameters, sample_weight=weight, method=method)
        )
        np.testing.assert_allclose(found.means, means, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.covariances(), expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(np.exp(found.pi_logits), mass / total, rtol=1e-12)


@learned
@pytest.mark.parametrize("distance", [0.0, 1e2, 1e4, 1e7])
def test_em_step_from_afar_loses_digits_as_the_distance_and_not_as_its_square(family, distance):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3000, 3))
    x *= [1.0, 0.5, 2.0]
    n_axes, shared, _ = KINDS[family]
    unit = np.eye(3) if n_axes == 2 else np.ones(3 * n_axes or ())
    scale = unit if shared else unit[None]
    parameters = Parameters([0.0], np.full((1, 3), distance), scale, family)
    # Sorted, so that no block looks like the whole.
    blocks = np.array_split(x[np.argsort(x[:, 2])], 7)
    for total in (
        gmm_np.statistics(x, parameters, method="direct"),
        sum(gmm_np.statistics(block, parameters, method="direct") for block in blocks),
    ):
        found = gmm_np.em_step(parameters, total).covariances()[0]
        expected = restricted(np.cov(x.T, bias=True), n_axes)
        # u distance is the rounding of a residual, of which some 3000 add up at random.
        assert np.abs(found - expected).max() <= 1e-13 + 1e-15 * distance


@learned
def test_em_reports_a_collapse_and_a_floor_or_a_prior_prevents_it(family):
    x = np.full((5, 2), 3.0)
    parameters = random_parameters(0, family, 1, 2)
    total = gmm_np.statistics(x, parameters)
    kept, collapsed = em_update(parameters, total)
    assert collapsed.all()
    np.testing.assert_array_equal(kept.scale, parameters.scale)
    message = "the shared covariance collapsed" if KINDS[family][1] else "component 0 collapsed"
    with pytest.raises(ValueError, match=message):
        gmm_np.em_step(parameters, total)
    floored = gmm_np.em_step(parameters, total, reg_covar=0.25)
    np.testing.assert_allclose(floored.covariances()[0], 0.25 * np.eye(2), atol=1e-12)
    prior = Conjugate(scatter=0.5, freedom=5.0)
    mapped = gmm_np.em_step(parameters, total, prior=prior)
    np.testing.assert_allclose(mapped.covariances()[0], 0.05 * np.eye(2), atol=1e-12)


@pytest.mark.parametrize("family", [name for name in FAMILIES if KINDS[name][0] < 2])
def test_a_cheap_family_takes_no_array_of_its_full_model(family):
    # diag at D = 600 has 1,200 numbers a component; a full model would have 720,000.
    d, k = 600, 3
    rng = np.random.default_rng(0)
    x, parameters = rng.normal(size=(20, d)), random_parameters(1, family, k, d)
    total = gmm_np.statistics(x, parameters)
    tracemalloc.start()
    gmm_np.nll_value_and_grad(x, *arguments(parameters), family=family)
    gmm_np.gradients(parameters, total)
    gmm_np.em_step(parameters, total, reg_covar=0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * k * d * d
