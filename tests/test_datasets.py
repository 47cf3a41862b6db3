"""Old Faithful as it was published; clusters as they are described."""

import hashlib

import numpy as np
import pytest
from families_by_reference import FAMILIES

from gmm_np.datasets import (
    load_old_faithful,
    make_clusters,
    make_covariances,
    make_inverse_problem,
)


def test_old_faithful_has_272_rows_of_two_named_columns():
    x, names = load_old_faithful()
    assert x.shape == (272, 2)
    assert x.dtype == np.float64
    assert names == ["eruptions", "waiting"]


def test_old_faithful_has_the_summaries_that_r_prints():
    x, _ = load_old_faithful()
    assert x[0].tolist() == [3.6, 79.0]
    assert x[-1].tolist() == [4.467, 74.0]
    # R: colMeans(faithful), sapply(faithful, sd), cor(faithful)
    np.testing.assert_allclose(x.mean(axis=0), [3.487783, 70.897059], atol=5e-7)
    np.testing.assert_allclose(x.std(axis=0, ddof=1), [1.141371, 13.594974], atol=5e-7)
    np.testing.assert_allclose(np.corrcoef(x.T)[0, 1], 0.9008112, atol=5e-8)


def test_old_faithful_has_not_changed_in_any_digit():
    x, _ = load_old_faithful()
    # Of the little-endian bytes, row by row; three public copies of the data give the same.
    assert hashlib.sha256(x.astype("<f8").tobytes()).hexdigest() == (
        "c1528a01fabb3e454c6e9a895d099e20295b2606b76cf1c69986b3f929578705"
    )


def test_each_call_gives_its_own_array():
    load_old_faithful()[0][:] = 0
    assert load_old_faithful()[0].all()


@pytest.mark.parametrize("family", FAMILIES)
def test_clusters_have_the_covariances_of_their_family(family):
    _, _, truth = make_clusters(30, 4, 3, family=family, seed=1)
    covariances = truth.scale @ truth.scale.transpose(0, 2, 1)
    diagonal = np.diagonal(covariances, axis1=1, axis2=2)
    off = covariances - diagonal[:, :, None] * np.eye(3)
    alike = family in ("tied", "tied_diag", "shared_spherical", "constant")
    assert (covariances == covariances[0]).all() == alike
    assert (off == 0).all() == (family not in ("full", "tied"))
    # rtol here and below: correlations, and the squares of square roots, are rounded.
    assert np.allclose(diagonal, diagonal[:, :1], rtol=1e-14) == (
        family not in ("diag", "tied_diag")
    )
    if family in ("full", "tied", "constant"):
        np.testing.assert_allclose(diagonal, 1.0, rtol=1e-14)
    else:
        assert diagonal.min() > 0
        assert diagonal.max() <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_clusters_are_drawn_from_the_mixture_that_is_returned(family):
    x, labels, truth = make_clusters(60_000, 3, 2, family=family, seed=2)
    for k in range(3):
        own = x[labels == k]
        z = np.linalg.solve(truth.scale[k], (own - truth.means[k]).T)  # standard normal
        # Standard errors: 1/sqrt(20000) = 0.007 of a mean, 0.01 of a variance; five of them.
        np.testing.assert_allclose(z.mean(axis=1), 0.0, atol=0.035)
        np.testing.assert_allclose(np.cov(z), np.eye(2), atol=0.05)
    assert np.abs(truth.means).max() < 8.0


def test_clusters_share_the_samples_evenly_and_come_again():
    x, labels, truth = make_clusters(11, 3, seed=5)
    assert np.bincount(labels).tolist() == [4, 4, 3]
    np.testing.assert_allclose(np.exp(truth.pi_logits), [4 / 11, 4 / 11, 3 / 11], rtol=1e-15)
    assert (make_clusters(11, 3, seed=5)[0] == x).all()
    assert (make_clusters(11, 3, seed=6)[0] != x).any()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_features", [1, 30])
def test_clusters_have_any_dimension(family, n_features):
    x, _, _ = make_clusters(5, 2, n_features, family=family)
    assert x.shape == (5, n_features)
    assert np.isfinite(x).all()


def test_impossible_clusters_are_refused():
    for arguments in ((2, 3), (2, 0), (2, 1, 0)):
        with pytest.raises(ValueError, match="make_clusters needs n_samples >= n_clusters >= 1"):
            make_clusters(*arguments)
    with pytest.raises(ValueError, match="a finite radius >= 0; got 5, 2, 2 and -1"):
        make_clusters(5, 2, radius=-1)
    with pytest.raises(ValueError, match=r'family must be "full", .*; got \'round\''):
        make_clusters(5, 2, family="round")


# --- random covariances -------------------------------------------------------------------------


@pytest.mark.parametrize("n_observations", [None, 4])
def test_random_correlations_have_the_variance_that_is_documented(n_observations):
    covariances = make_covariances(8_000, 3, n_observations=n_observations, seed=1)
    correlations = covariances[:, [0, 0, 1], [1, 2, 2]]  # three a matrix, pairwise independent
    variance = 1 / 9 if n_observations is None else 1 / 3
    # Five standard errors of a mean, and of a mean of squares, over 24000; kurtosis is at most 3.
    np.testing.assert_allclose(correlations.mean(), 0.0, atol=5 * np.sqrt(variance / 24_000))
    np.testing.assert_allclose(np.mean(correlations**2), variance, rtol=5 * np.sqrt(2 / 24_000))


def test_random_variances_are_uniform():
    variances = np.diagonal(make_covariances(2000, 10, family="diag", seed=2), axis1=1, axis2=2)
    # A uniform's mean is 1/2 and its variance 1/12: five standard errors over 20000.
    np.testing.assert_allclose(variances.mean(), 0.5, atol=5 * np.sqrt(1 / 12 / 20_000))
    np.testing.assert_allclose(np.mean(variances <= 0.1), 0.1, atol=5 * np.sqrt(0.09 / 20_000))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_features", [1, 2, 30])
def test_random_covariances_are_covariances(family, n_features):
    covariances = make_covariances(4, n_features, family=family, seed=3)
    assert covariances.shape == (4, n_features, n_features)
    assert (covariances == covariances.swapaxes(1, 2)).all()
    assert np.linalg.eigvalsh(covariances).min() > 0
    covariances[0] = 0.0  # its own array, each matrix apart
    assert np.linalg.eigvalsh(covariances[1:]).min() > 0


def test_random_covariances_come_again_by_seed_and_go_on_by_generator():
    first, again = (make_covariances(2, 3, seed=7) for _ in range(2))
    assert (first == again).all()
    rng = np.random.default_rng(7)
    assert (make_covariances(2, 3, seed=rng) == first).all()
    assert (make_covariances(2, 3, seed=rng) != first).any()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 2), {}, "make_covariances needs n_covariances >= 1 .* got 0 and 2"),
        ((2, 0), {}, "got 2 and 0"),
        ((2, 3), {"n_observations": 3}, "n_observations must be more than n_features, 3, .* got 3"),
        ((2, 3), {"n_observations": 9, "family": "diag"}, "family 'diag' has none: leave it out"),
        ((2, 3), {"family": "round"}, r'family must be "full", .*; got \'round\''),
    ],
)
def test_impossible_covariances_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        make_covariances(*arguments, **options)


def test_inverse_problem_is_the_forward_one_with_bounded_noise():
    inputs, targets = make_inverse_problem(2000, noise=0.1, seed=1)
    assert inputs.shape == targets.shape == (2000, 1)
    noise = inputs - (targets + 0.3 * np.sin(2 * np.pi * targets))
    assert 0.099 < np.abs(noise).max() <= 0.1
    np.testing.assert_allclose(noise.var(), 0.1**2 / 3, rtol=0.1)  # of a uniform distribution
    assert 0 < targets.min() < 0.01 < 0.99 < targets.max() < 1


def test_inverse_problem_has_three_branches_in_the_middle_and_one_at_the_ends():
    inputs, targets = (a[:, 0] for a in make_inverse_problem(20_000, noise=0.0))
    for middle, branches in ((0.5, 3), (-0.03, 0), (0.02, 1), (0.98, 1)):
        found = np.sort(targets[np.abs(inputs - middle) < 0.01])
        assert (found.size > 0) + (np.diff(found) > 0.1).sum() == branches


def test_inverse_problem_comes_again_by_seed():
    first, again, other = (make_inverse_problem(5, seed=s) for s in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(("n_samples", "noise"), [(0, 0.1), (5, -0.1), (5, np.inf), (5, np.nan)])
def test_impossible_inverse_problem_is_refused(n_samples, noise):
    with pytest.raises(ValueError, match="make_inverse_problem needs n_samples >= 1"):
        make_inverse_problem(n_samples, noise=noise)
