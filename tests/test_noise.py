"""Rows with errors of their own: by SciPy's normal distribution, by differences, by EM's ascent."""

import numpy as np
import pytest
from families_by_reference import FAMILIES, LEARNED, random_parameters
from scipy.stats import multivariate_normal

import gmm_np
from gmm_np import Parameters, check_grad, noise


def random_noise(rng, n, d, *, diagonal):
    """Variances [N, D], or covariances [N, D, D] of any rank: a row without, and one of rank 1."""
    if diagonal:
        found = rng.exponential(size=(n, d))
        found[0] = 0.0
        return found
    roots = rng.normal(size=(n, d, d))
    roots[0] = 0.0
    roots[-1, :, 1:] = 0.0
    return roots @ roots.transpose(0, 2, 1)


def random_case(seed, family, *, diagonal, n=12):
    rng = np.random.default_rng([seed, 6])
    k, d = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    p = random_parameters(seed, family, k, d)
    return p, 1.5 * rng.normal(size=(n, d)), random_noise(rng, n, d, diagonal=diagonal)


def naive_log_prob(x, errors, parameters):
    """Row by row and component by component, each a normal distribution with both covariances."""
    covariances, found = parameters.covariances(), []
    for row, added in zip(x, errors, strict=True):
        added = np.diag(added) if added.ndim == 1 else added
        parts = zip(parameters.weights(), parameters.means, covariances, strict=True)
        found.append(
            np.log(sum(w * multivariate_normal(m, c + added).pdf(row) for w, m, c in parts))
        )
    return np.array(found)


def arguments(p):
    return (p.pi_logits, p.means, p.scale)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_prob_is_that_of_both_covariances(family, diagonal):
    for seed in range(8):
        p, x, errors = random_case(seed, family, diagonal=diagonal)
        found = noise.log_prob(x, errors, *arguments(p), family=family)
        np.testing.assert_allclose(found, naive_log_prob(x, errors, p), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("family", LEARNED)
def test_gradient_agrees_with_differences(family, diagonal):
    p, x, errors = random_case(11, family, diagonal=diagonal)
    weight = np.random.default_rng(2).random(len(x))

    def value_and_grad(x, pi_logits, means, scale):
        value, g = noise.nll_value_and_grad(
            x, errors, pi_logits, means, scale, family=family, sample_weight=weight
        )
        return value, (g.x, g.pi_logits, g.means, g.scale)

    names = ("x", "pi_logits", "means", "scale")
    free = {"scale": np.tri(p.n_features, dtype=bool)} if family in ("full", "tied") else None
    blocks = dict(zip(names, (x, *arguments(p)), strict=True))
    report = check_grad(value_and_grad, blocks, free=free)
    assert report.passed, str(report)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_noise_is_the_mixture_itself(family, diagonal):
    for seed in range(5):
        p, x, errors = random_case(seed, family, diagonal=diagonal)
        found = noise.statistics(x, 0.0 * errors, p)
        expected = gmm_np.statistics(x, p)
        assert found.loss == pytest.approx(expected.loss, rel=1e-13)
        np.testing.assert_allclose(found.n_k, expected.n_k, rtol=1e-12, atol=1e-13)
        for name in ("v_k", "M_k"):
            np.testing.assert_allclose(
                getattr(found, name), getattr(expected, name), rtol=1e-11, atol=1e-11
            )


@pytest.mark.parametrize("family", FAMILIES)
def test_variances_are_diagonal_covariances(family):
    p, x, errors = random_case(3, family, diagonal=True)
    dense = errors[:, :, None] * np.eye(x.shape[1])
    one, other = (
        noise.nll_value_and_grad(x, e, *arguments(p), family=family) for e in (errors, dense)
    )
    assert one[0] == pytest.approx(other[0], rel=1e-13)
    for mine, theirs in zip(one[1], other[1], strict=True):
        if mine is not None:
            np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("family", LEARNED)
def test_em_never_falls(family, diagonal):
    rng = np.random.default_rng([7, 8])
    n, d = 150, 3
    true = rng.normal(size=(n, d)) + 3.0 * rng.integers(2, size=(n, 1))
    errors = random_noise(rng, n, d, diagonal=diagonal)
    roots = np.sqrt(errors) if diagonal else np.linalg.cholesky(errors + 1e-12 * np.eye(d))
    drawn = rng.normal(size=(n, d))
    x = true + (roots * drawn if diagonal else np.einsum("nij,nj->ni", roots, drawn))
    p = random_parameters(5, family, 2, d)
    losses = []
    for _ in range(40):
        found = noise.statistics(x, errors, p)
        losses.append(found.loss / n)
        p = gmm_np.em_step(p, found)
    assert (np.diff(losses) <= 1e-13 * np.abs(losses[1:])).all()
    assert losses[-1] < losses[0] - 0.05


def test_em_step_is_that_of_the_paper():
    """Equations (16) to (18) of Bovy, Hogg and Roweis 2011, in loops over rows and components."""
    p, x, errors = random_case(9, "full", diagonal=False)
    k, d = p.means.shape
    covariances = p.covariances()
    q, b, spread = np.zeros((len(x), k)), np.zeros((len(x), k, d)), np.zeros((len(x), k, d, d))
    for i, (row, added) in enumerate(zip(x, errors, strict=True)):
        for j in range(k):
            inverse = np.linalg.inv(covariances[j] + added)
            q[i, j] = p.weights()[j] * multivariate_normal(p.means[j], covariances[j] + added).pdf(
                row
            )
            b[i, j] = p.means[j] + covariances[j] @ inverse @ (row - p.means[j])
            spread[i, j] = covariances[j] - covariances[j] @ inverse @ covariances[j]
    q /= q.sum(axis=1, keepdims=True)
    means = np.einsum("ij,ijd->jd", q, b) / q.sum(axis=0)[:, None]
    apart = b - means
    new = np.einsum("ij,ijab->jab", q, spread + apart[..., None] * apart[..., None, :])
    found = gmm_np.em_step(p, noise.statistics(x, errors, p))
    np.testing.assert_allclose(found.weights(), q.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.means, means, rtol=1e-11, atol=1e-12)
    expected = new / q.sum(axis=0)[:, None, None]
    np.testing.assert_allclose(found.covariances(), expected, rtol=1e-10, atol=1e-12)


def test_statistics_of_parts_add_and_blocks_make_no_difference(tuned):
    p, x, errors = random_case(4, "full", diagonal=False, n=40)
    weight = np.random.default_rng(0).random(40)
    whole = noise.statistics(x, errors, p, sample_weight=weight)
    parts = sum(
        noise.statistics(x[s], errors[s], p, sample_weight=weight[s])
        for s in (slice(15), slice(15, None))
    )
    tuned(group=1)
    by_row = noise.statistics(x, errors, p, sample_weight=weight)
    for other in (parts, by_row):
        assert other.loss == pytest.approx(whole.loss, rel=1e-13)
        np.testing.assert_allclose(other.C_k, whole.C_k, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(other.v_k, whole.v_k, rtol=1e-11, atol=1e-12)


def test_weights_and_reductions_are_those_of_nll():
    p, x, errors = random_case(2, "diag", diagonal=True)
    each = -noise.log_prob(x, errors, *arguments(p), family="diag")
    weight = np.array([2.0, 0.0, *np.ones(len(x) - 2)])
    options = {"family": "diag", "sample_weight": weight}
    value, g = noise.nll_value_and_grad(x, errors, *arguments(p), **options)
    assert value == pytest.approx(weight @ each / weight.sum(), rel=1e-13)
    np.testing.assert_array_equal(g.x[1], 0.0)
    of_each = noise.nll(x, errors, *arguments(p), reduction="none", **options)
    np.testing.assert_allclose(of_each, weight * each, rtol=1e-14)
    total, h = noise.nll_value_and_grad(x, errors, *arguments(p), reduction="sum", **options)
    assert total == pytest.approx(weight @ each, rel=1e-13)
    np.testing.assert_allclose(h.x, g.x * weight.sum(), rtol=1e-12)
    with pytest.raises(ValueError, match="no gradient"):
        noise.nll_value_and_grad(x, errors, *arguments(p), family="diag", reduction="none")
    x[1] = 1e300  # of weight zero
    assert noise.nll_value_and_grad(x, errors, *arguments(p), **options)[0] == pytest.approx(value)


def test_a_value_of_endless_variance_counts_as_missing():
    """The limit of extreme deconvolution: such a column leaves the marginal of the others."""
    p = random_parameters(3, "full", 3, 3)
    x = np.random.default_rng(3).normal(size=(6, 3))
    errors = np.zeros((6, 3))
    errors[:, 1] = 1e14
    found = noise.log_prob(x, errors, *arguments(p)) + 0.5 * np.log(2 * np.pi * 1e14)
    rest = p.marginal([0, 2])
    np.testing.assert_allclose(found, gmm_np.log_prob(x[:, [0, 2]], *arguments(rest)), rtol=1e-11)


def test_a_component_that_is_off_has_no_part():
    p, x, errors = random_case(1, "full", diagonal=False)
    off = Parameters(
        [*p.pi_logits, -np.inf], [*p.means, np.full(p.n_features, 1e200)], [*p.scale, p.scale[0]]
    )
    value, g = noise.nll_value_and_grad(x, errors, *arguments(off))
    expected, h = noise.nll_value_and_grad(x, errors, *arguments(p))
    assert value == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(g.scale[:-1], h.scale, rtol=1e-12, atol=1e-15)
    assert not g.scale[-1].any()
    assert not g.means[-1].any()


def test_messages_name_the_row_and_the_remedy():
    p, x, errors = random_case(5, "full", diagonal=False)
    n, d = x.shape
    with pytest.raises(
        ValueError, match=r"noise must have shape \[N, D\] = .* a variance for each"
    ):
        noise.statistics(x, np.ones(n), p)
    bad = np.ones((n, d))
    bad[2, 0] = -1.0
    with pytest.raises(ValueError, match=r"noise has negative variances: 1 of .*row 2, column 0"):
        noise.statistics(x, bad, p)
    assert d > 1
    bad = errors.copy()
    bad[3, 0, 1] += 1.0
    with pytest.raises(ValueError, match="not symmetric, the first in row 3"):
        noise.statistics(x, bad, p)
    bad = errors.copy()
    bad[4] = -np.eye(d)
    with pytest.raises(ValueError, match="not positive semidefinite, the first in row 4"):
        noise.statistics(x, bad, p)
    bad = errors.copy()
    bad[4, 0, 0] = np.nan
    with pytest.raises(ValueError, match="noise has values that are not finite"):
        noise.statistics(x, bad, p)
    x[6, 0] = 1e200
    with pytest.raises(OverflowError, match="the first in row 6 of x"):
        noise.statistics(x, errors, p)
    assert noise.log_prob(x, errors, *arguments(p))[6] == -np.inf
