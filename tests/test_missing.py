"""Rows with missing values: the density of what is seen, its derivatives, and EM."""

import numpy as np
import pytest
from families_by_reference import FAMILIES, LEARNED, random_parameters
from missing_cases import arguments, every_pattern, log_joint, random_case
from scipy.special import logsumexp

import gmm_np
from gmm_np import Gradients, Parameters, missing
from gmm_np.linalg import threads
from gmm_np.parametrizations import Cholesky
from gmm_np.second_order import hvp, tangent_statistics

# Both sides round some hundred operations to 1.1e-16 each.
TOLERANCE = 1e-12
# Central differences of gradients, with a step of 1e-5 and the rounding of 1e-16 over it.
DIFFERENCES = 1e-6
MARGINAL = {"missing": "marginal"}


def vector(parameters, gradients):
    return Cholesky.of(parameters).pullback(parameters, gradients)


def close(found, expected, tolerance=TOLERANCE):
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=tolerance * np.abs(expected).max(initial=0)
    )


@pytest.mark.parametrize("method", ["direct", "moments"])
@pytest.mark.parametrize("family", FAMILIES)
def test_density_is_that_of_the_sub_block(family, method):
    parameters, x, _ = random_case(0, family)
    expected = log_joint(x, parameters)
    options = {"family": family, "method": method, **MARGINAL}
    close(gmm_np.log_prob(x, *arguments(parameters), **options), logsumexp(expected, axis=1))
    resp = gmm_np.responsibilities(x, *arguments(parameters), **options)
    close(resp, np.exp(expected - logsumexp(expected, axis=1, keepdims=True)))


@pytest.mark.parametrize("family", FAMILIES)
def test_value_of_a_row_is_that_of_the_marginal(family):
    parameters, x, _ = random_case(1, family, d=4)
    found = gmm_np.log_prob(x, *arguments(parameters), family=family, **MARGINAL)
    for row, own in zip(x, found, strict=True):
        seen = np.flatnonzero(~np.isnan(row))
        if len(seen):
            part = parameters.marginal(seen)
            expected = gmm_np.log_prob(row[None, seen], *arguments(part), family=family)
            assert own == pytest.approx(expected[0], abs=1e-13)


@pytest.mark.parametrize("method", ["direct", "moments"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_agrees_with_differences(family, method):
    parameters, x, weight = random_case(2, family)
    options = {"family": family, "sample_weight": weight, **MARGINAL}
    _, found = gmm_np.nll_value_and_grad(x, *arguments(parameters), method=method, **options)
    layout, rng = Cholesky.of(parameters), np.random.default_rng(3)
    start, gradient = layout.pack(parameters), vector(parameters, found)
    for _ in range(5):
        direction = rng.normal(size=layout.size)

        def value(t, direction=direction):
            return gmm_np.nll(x, *arguments(layout.unpack(start + t * direction)), **options)

        slope = (8 * (value(1e-4) - value(-1e-4)) - value(2e-4) + value(-2e-4)) / 12e-4
        assert gradient @ direction == pytest.approx(slope, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("method", ["direct", "moments"])
@pytest.mark.parametrize("family", FAMILIES)
def test_statistics_of_parts_add_to_the_gradient_of_all(family, method):
    parameters, x, weight = random_case(4, family, each=2)
    options = {"method": method, **MARGINAL}
    value, expected = gmm_np.nll_value_and_grad(
        x, *arguments(parameters), family=family, sample_weight=weight, **options
    )
    parts = [slice(0, 5), slice(5, 40), slice(40, None)]
    total = sum(
        gmm_np.statistics(x[part], parameters, sample_weight=weight[part], **options)
        for part in parts
    )
    assert total.loss / total.weight == pytest.approx(value, rel=1e-14)
    assert total.count == len(x)
    close(vector(parameters, gmm_np.gradients(parameters, total)), vector(parameters, expected))
    stream = gmm_np.statistics(
        [x[part] for part in parts],
        parameters,
        sample_weight=[weight[part] for part in parts],
        **options,
    )
    close(stream.M_k, total.M_k)
    close(gmm_np.em_step(parameters, stream).means, gmm_np.em_step(parameters, total).means)


@pytest.mark.parametrize("family", FAMILIES)
def test_expected_statistics_are_those_of_complete_rows_given_what_is_seen(family):
    """Ghahramani and Jordan's regression of what is missing on what is seen, in plain loops."""
    parameters, x, weight = random_case(5, family, k=2, d=3, each=2)
    joint = log_joint(x, parameters)
    resp = weight[:, None] * np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    covariances = parameters.covariances()
    first, second = np.zeros((2, 3)), np.zeros((2, 3, 3))
    for row, shares in zip(x, resp, strict=True):
        seen, gone = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
        for c, share in enumerate(shares):
            own = covariances[c]
            residual, rest = np.zeros(3), np.zeros((3, 3))
            residual[seen] = row[seen] - parameters.means[c][seen]
            slope = own[np.ix_(gone, seen)] @ np.linalg.inv(own[np.ix_(seen, seen)])
            residual[gone] = slope @ residual[seen]
            rest[np.ix_(gone, gone)] = own[np.ix_(gone, gone)] - slope @ own[np.ix_(seen, gone)]
            first[c] += share * residual
            second[c] += share * (np.outer(residual, residual) + rest)
    found = gmm_np.statistics(x, parameters, sample_weight=weight, **MARGINAL)
    close(found.n_k, resp.sum(axis=0))
    close(found.m_k, first)
    if family == "full":
        close(found.S_k, second)
    elif family == "tied":
        close(found.S_k, second.sum(axis=0))
    elif family == "diag":
        close(found.S_k, np.einsum("kii->ki", second))
    elif family == "tied_diag":
        close(found.S_k, np.einsum("kii->i", second))
    elif family == "spherical":
        close(found.S_k, np.einsum("kii->k", second))
    elif family == "shared_spherical":
        close(found.S_k, np.einsum("kii->", second))


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_add_to_the_gradient_and_products_to_its_differences(family):
    parameters, x, weight = random_case(6, family)
    options = {"family": family, **MARGINAL}
    p, layout, rng = arguments(parameters), Cholesky.of(parameters), np.random.default_rng(7)

    def gradient(at):
        found = gmm_np.nll_value_and_grad(x, *at, sample_weight=weight, reduction="sum", **options)
        return vector(parameters, found[1])

    close(-weight @ gmm_np.scores(x, *p, **options), gradient(p))
    hessian = gmm_np.nll_hessian(x, *p, sample_weight=weight, reduction="sum", **options)
    start = layout.pack(parameters)
    for _ in range(3):
        step = rng.normal(size=layout.size)
        direction = layout.pushforward(parameters, step)
        if family == "constant":
            direction = direction._replace(scale=None)
        found = gmm_np.nll_hvp(x, *p, direction, sample_weight=weight, reduction="sum", **options)
        close(hessian @ step, vector(parameters, found))
        ahead, behind = (
            gradient(arguments(layout.unpack(start + sign * 1e-5 * step))) for sign in (1, -1)
        )
        close(vector(parameters, found), (ahead - behind) / 2e-5, DIFFERENCES)


def test_hessian_vector_products_of_parts_add():
    parameters, x, _ = random_case(8, "full", each=2)
    layout = Cholesky.of(parameters)
    direction = layout.pushforward(parameters, np.linspace(-1, 1, layout.size))
    parts = (x[:30], x[30:])
    total = sum(tangent_statistics(part, parameters, direction, **MARGINAL) for part in parts)
    expected = tangent_statistics(x, parameters, direction, **MARGINAL)
    close(vector(parameters, hvp(parameters, total)), vector(parameters, hvp(parameters, expected)))


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_in_x_is_zero_where_a_value_is_missing(family):
    parameters, x, _ = random_case(9, family)
    p, options = arguments(parameters), {"family": family, **MARGINAL}
    found = gmm_np.log_prob_grad(x, *p, **options)
    assert (found[np.isnan(x)] == 0).all()
    step = np.random.default_rng(10).normal(size=x.shape)
    ahead, behind = (gmm_np.log_prob(x + sign * 1e-5 * step, *p, **options) for sign in (1, -1))
    expected = (ahead - behind) / 2e-5
    close((found * np.where(np.isnan(x), 0.0, step)).sum(axis=1), expected, DIFFERENCES)


@pytest.mark.parametrize("family", FAMILIES)
def test_hessian_in_x_is_zero_where_a_value_is_missing(family):
    parameters, x, _ = random_case(25, family, d=3)
    p, options = arguments(parameters), {"family": family, **MARGINAL}
    found = gmm_np.log_prob_hess(x, *p, **options)
    gaps = np.isnan(x)
    assert (found[gaps[:, :, None] | gaps[:, None, :]] == 0).all()
    np.testing.assert_array_equal(found, found.swapaxes(1, 2))
    step = np.where(gaps, 0.0, np.random.default_rng(26).normal(size=x.shape))
    ahead, behind = (
        gmm_np.log_prob_grad(x + sign * 1e-5 * step, *p, **options) for sign in (1, -1)
    )
    close(np.einsum("nij,nj->ni", found, step), (ahead - behind) / 2e-5, DIFFERENCES)


@pytest.mark.parametrize("family", LEARNED)
def test_em_never_increases_the_loss(family):
    for seed in range(17):
        parameters, _, _ = random_case(seed, family, k=2, d=3)
        rng = np.random.default_rng([seed, 20])
        x = rng.normal(size=(60, 3)) + 3.0 * rng.integers(2, size=(60, 1))
        x[rng.random(x.shape) < rng.uniform(0.05, 0.5)] = np.nan
        last = np.inf
        for _ in range(8):
            found = gmm_np.statistics(x, parameters, **MARGINAL)
            assert found.loss <= last + 1e-12 * abs(found.loss)
            last, parameters = found.loss, gmm_np.em_step(parameters, found, reg_covar=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_complete_rows_are_as_without_missing_values(family):
    parameters, x, weight = random_case(11, family, each=2)
    x = np.nan_to_num(x, nan=0.3)
    options = {"family": family, "sample_weight": weight}
    expected = gmm_np.nll_value_and_grad(x, *arguments(parameters), **options)
    found = gmm_np.nll_value_and_grad(x, *arguments(parameters), **options, **MARGINAL)
    assert found[0] == expected[0]
    close(vector(parameters, found[1]), vector(parameters, expected[1]), 1e-14)


def test_a_row_of_which_nothing_is_seen_has_density_one_and_counts():
    parameters, x, _ = random_case(12, "full")
    p = arguments(parameters)
    nothing = np.full((1, 5), np.nan)
    assert gmm_np.log_prob(nothing, *p, **MARGINAL)[0] == pytest.approx(0.0, abs=1e-15)
    close(gmm_np.responsibilities(nothing, *p, **MARGINAL)[0], parameters.weights())
    rows = x[~np.isnan(x).all(axis=1)]
    value, gradient = gmm_np.nll_value_and_grad(rows, *p, reduction="sum", **MARGINAL)
    more = gmm_np.nll_value_and_grad(np.vstack([rows, nothing]), *p, reduction="sum", **MARGINAL)
    assert more[0] == pytest.approx(value, rel=1e-14)
    close(vector(parameters, more[1]), vector(parameters, gradient))
    mean = gmm_np.nll(np.vstack([rows, nothing]), *p, **MARGINAL)
    assert mean == pytest.approx(value / (len(rows) + 1), rel=1e-14)


def test_a_component_that_is_off_stays_off():
    parameters, x, weight = random_case(13, "full")
    k, d = parameters.means.shape
    logits = parameters.pi_logits.copy()
    logits[1] = -np.inf
    off = Parameters(logits, parameters.means, parameters.scale)
    on = Parameters(logits[[0, 2]], parameters.means[[0, 2]], parameters.scale[[0, 2]])
    options = {"sample_weight": weight, **MARGINAL}
    value, found = gmm_np.nll_value_and_grad(x, *arguments(off), **options)
    expected_value, expected = gmm_np.nll_value_and_grad(x, *arguments(on), **options)
    assert value == pytest.approx(expected_value, rel=1e-14)
    assert found.pi_logits[1] == 0
    assert not found.means[1].any()
    close(found.scale[[0, 2]], expected.scale)
    assert (gmm_np.responsibilities(x, *arguments(off), **MARGINAL)[:, 1] == 0).all()
    direction = Gradients(np.ones(k), np.ones((k, d)), None)
    product = gmm_np.nll_hvp(x, *arguments(off), direction, **options)
    expected = gmm_np.nll_hvp(
        x, *arguments(on), Gradients(np.ones(2), np.ones((2, d)), None), **options
    )
    close(product.means[[0, 2]], expected.means)


@pytest.mark.parametrize("method", ["direct", "moments"])
def test_order_of_rows_and_size_of_blocks_make_no_difference(method, tuned):
    parameters, x, weight = random_case(14, "full", each=3)
    options = {"sample_weight": weight, "method": method, **MARGINAL}
    value, expected = gmm_np.nll_value_and_grad(x, *arguments(parameters), **options)
    order = np.random.default_rng(15).permutation(len(x))
    options["sample_weight"] = weight[order]
    other, found = gmm_np.nll_value_and_grad(x[order], *arguments(parameters), **options)
    assert other == pytest.approx(value, rel=1e-14)
    close(vector(parameters, found), vector(parameters, expected), 1e-13)
    tuned(grouped_doubles=40, pattern_doubles=200)  # eight rows at a time, and two patterns
    options["sample_weight"] = weight
    other, found = gmm_np.nll_value_and_grad(x, *arguments(parameters), **options)
    assert other == pytest.approx(value, rel=1e-14)
    close(vector(parameters, found), vector(parameters, expected), 1e-13)


def test_threads_make_no_difference(monkeypatch):
    parameters, x, weight = random_case(16, "full", each=40)
    options = {"sample_weight": weight, **MARGINAL}
    value, expected = gmm_np.nll_value_and_grad(x, *arguments(parameters), **options)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    monkeypatch.setattr(threads, "worthwhile_threads", lambda _: 3)
    other, found = gmm_np.nll_value_and_grad(x, *arguments(parameters), **options)
    assert other == pytest.approx(value, rel=1e-14)
    close(vector(parameters, found), vector(parameters, expected), 1e-13)


@pytest.mark.parametrize("n_features", [1, 9, 70])
def test_any_number_of_columns(n_features):
    rng = np.random.default_rng(17)
    parameters = random_parameters(18, "diag", 2, n_features)
    x = rng.normal(size=(30, n_features))
    x[rng.random(x.shape) < 0.3] = np.nan
    found = gmm_np.log_prob(x, *arguments(parameters), family="diag", **MARGINAL)
    close(found, logsumexp(log_joint(x, parameters), axis=1))


def test_ill_conditioned_covariances_keep_their_digits():
    """Of nearly equal columns one is as good as both; a covariance would lose half the digits."""
    factor = np.array([[[1.0, 0.0, 0.0], [1.0, 1e-9, 0.0], [0.5, 0.0, 2.0]]])
    parameters = Parameters([0.0], np.zeros((1, 3)), factor)
    x = np.array([[np.nan, 2.0, 1.0], [2.0, np.nan, 1.0]])
    found = gmm_np.log_prob(x, *arguments(parameters), method="direct", **MARGINAL)
    expected = -0.5 * (2.0**2) - 0.5 * ((1.0 - 0.5 * 2.0) / 2.0) ** 2
    expected -= np.log(2.0) + np.log(2 * np.pi)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    filled = gmm_np.impute(x, *arguments(parameters))
    np.testing.assert_allclose(filled[:, :2], 2.0, rtol=1e-14)


def test_far_rows_have_a_finite_value_and_say_why_they_have_no_gradient():
    parameters, _, _ = random_case(19, "full", d=2)
    x = np.array([[1e160, np.nan]])
    value = gmm_np.log_prob(x, *arguments(parameters), **MARGINAL)
    assert np.isneginf(value[0])
    assert not np.isnan(gmm_np.responsibilities(x, *arguments(parameters), **MARGINAL)).any()
    with pytest.raises(OverflowError, match="missing values"):
        gmm_np.nll_value_and_grad(x, *arguments(parameters), **MARGINAL)


# --- what is filled in --------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_imputed_values_are_conditional_means(family):
    parameters, x, _ = random_case(20, family, d=3)
    found = gmm_np.impute(x, *arguments(parameters), family=family)
    np.testing.assert_array_equal(found[~np.isnan(x)], x[~np.isnan(x)])
    for row, filled in zip(x, found, strict=True):
        seen, gone = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
        if len(gone) and len(seen):
            given = parameters.conditional(seen, row[seen])
            np.testing.assert_allclose(filled[gone], given.weights() @ given.means, rtol=1e-11)
        elif len(gone):
            expected = parameters.weights() @ parameters.means
            np.testing.assert_allclose(filled, expected, rtol=1e-12)


@pytest.mark.parametrize("family", ["full", "tied", "diag", "spherical"])
def test_draws_have_the_conditional_mean_and_covariance(family):
    parameters = random_parameters(21, family, 2, 3)
    n = 40_000
    x = np.tile([0.4, np.nan, np.nan], (n, 1))
    drawn = gmm_np.impute(x, *arguments(parameters), family=family, draws=1, random_state=0)[0]
    assert (drawn[:, 0] == 0.4).all()
    given = parameters.conditional([0], [0.4])
    weights, means = given.weights(), given.means
    mean = weights @ means
    apart = means - mean
    covariance = np.einsum("k,kij->ij", weights, given.covariances())
    covariance += np.einsum("k,ki,kj->ij", weights, apart, apart)
    spread = np.sqrt(np.diagonal(covariance))
    assert (np.abs(drawn[:, 1:].mean(axis=0) - mean) < 5 * spread / np.sqrt(n)).all()
    # of mixtures near normal ones a variance varies by about its root of 3 / n, at most
    found = np.cov(drawn[:, 1:], rowvar=False) / np.outer(spread, spread)
    assert np.abs(found - covariance / np.outer(spread, spread)).max() < 5 * np.sqrt(3 / n)


def test_draws_are_those_of_their_seed():
    parameters, x, _ = random_case(22, "full")
    p = arguments(parameters)
    one, same, other = (gmm_np.impute(x, *p, draws=2, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert one.shape == (2, *x.shape)
    with pytest.raises(ValueError, match="draws must be at least 1"):
        gmm_np.impute(x, *p, draws=0)


# --- what is refused ----------------------------------------------------------------------------


def test_nan_without_the_option_names_it():
    parameters, x, _ = random_case(23, "full")
    with pytest.raises(ValueError, match='missing="marginal"'):
        gmm_np.nll(x, *arguments(parameters))
    with pytest.raises(ValueError, match='missing must be one of "error", "marginal"'):
        gmm_np.nll(x, *arguments(parameters), missing="drop")


def test_what_knows_no_missing_values_does_not_offer_the_option():
    parameters, x, _ = random_case(27, "full")
    with pytest.raises(ValueError, match=r"rows\.$") as refused:
        gmm_np.reference.nll_forward(x, *arguments(parameters))
    assert "missing" not in str(refused.value)


def test_infinite_values_are_none_that_are_missing():
    parameters, x, _ = random_case(24, "full")
    x[7, 2] = np.inf
    with pytest.raises(ValueError, match="infinite: 1 of 160, the first inf at row 7, column 2"):
        gmm_np.statistics(x, parameters, **MARGINAL)
    with pytest.raises(ValueError, match="block 1 of x: x has values that are infinite"):
        gmm_np.statistics([x[:5], x[5:]], parameters, **MARGINAL)


def test_patterns_are_in_the_order_of_their_frequency_after_complete_rows():
    gone = every_pattern(3)[[0, 3, 3, 5, 5, 5, 0]]
    x = np.where(gone, np.nan, np.arange(21.0).reshape(7, 3))
    groups = missing.group_rows(x)
    assert groups.n_complete == 2
    assert groups.edges.tolist() == [0, 2, 5, 7]
    np.testing.assert_array_equal(groups.order, [0, 6, 3, 4, 5, 1, 2])
    np.testing.assert_array_equal(groups.x.T, np.nan_to_num(x[groups.order]))
