"""Fits and scores of rows with missing values by the estimator."""

import warnings

import numpy as np
import pytest

import gmm_np
from gmm_np import GaussianMixture
from gmm_np.solvers import Data, fit_em

NAN = np.nan
# Apple crops and wormy fruits, of Snedecor and Cochran; and Hald's cement with values left out as
# Rubin did (Little and Rubin, Statistical Analysis with Missing Data, chapter 7).
APPLE = np.column_stack(
    [
        [8, 6, 11, 22, 14, 17, 18, 24, 19, 23, 26, 40, 4, 4, 5, 6, 8, 10],
        [59, 58, 56, 53, 50, 45, 43, 42, 39, 38, 30, 27, *[NAN] * 6],
    ]
)
CEMENT = np.column_stack(
    [
        [7, 1, 11, 11, 7, 11, 3, 1, 2, *[NAN] * 4],
        [26, 29, 56, 31, 52, 55, 71, 31, 54, *[NAN] * 4],
        [6, 15, 8, 8, 6, 9, 17, 22, 18, 4, 23, 9, 8],
        [60, 52, 20, 47, 33, 22, *[NAN] * 7],
        [78.5, 74.3, 104.3, 87.6, 95.9, 109.2, 102.7, 72.5, 93.1, 115.9, 83.8, 113.3, 109.4],
    ]
)
# What R's mvnmle 0.1-11 finds by nlm, to about six digits; log-likelihoods without log(2 pi).
PUBLISHED = {
    "apple": (
        APPLE,
        -74.217476133121025,
        [14.722265587, 49.333248447],
        [[89.5341497, -90.6965323], [-90.6965323, 114.6947003]],
    ),
    "cement": (
        CEMENT,
        -86.978323784901889,
        [6.6551660307, 49.9652580116, 11.7692305012, 27.0470904727, 95.4230767605],
        [
            [21.8255688, 20.8643413, -24.9003889, -11.4734485, 46.9530381],
            [20.8643413, 238.0124105, -15.8173774, -252.0722896, 195.6036207],
            [-24.9003889, -15.8173774, 37.8698245, -9.5992127, -47.5562161],
            [-11.4734485, -252.0722896, -9.5992127, 294.1830327, -190.5984838],
            [46.9530381, 195.6036207, -47.5562161, -190.5984838, 208.9048713],
        ],
    ),
}


def clusters(seed, n=600, share=0.2, d=3):
    """Two overlapping clusters with values missing at random; the truth beside them."""
    rng = np.random.default_rng([seed, 21])
    factors = np.tril(rng.normal(size=(2, d, d)) * 0.4, -1)
    factors += np.eye(d) * rng.uniform(0.6, 1.4, size=(2, 1, d))
    means = np.stack([np.full(d, -1.5), np.full(d, 1.5)])
    truth = gmm_np.Parameters(np.log([0.4, 0.6]), means, factors)
    y = (rng.random(n) < 0.6).astype(int)
    x = means[y] + np.einsum("nij,nj->ni", factors[y], rng.normal(size=(n, d)))
    x[rng.random(x.shape) < share] = NAN
    return x, truth


def marginal(n_components=2, **options):
    return GaussianMixture(n_components, missing="marginal", random_state=0, **options)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_estimates(name):
    x, log_likelihood, mean, covariance = PUBLISHED[name]
    mixture = marginal(1, reg_covar=0, tol=1e-9, max_iter=1000, solver="em+newton").fit(x)
    n_seen = (~np.isnan(x)).sum()
    found = mixture.score(x) * len(x) + 0.5 * n_seen * np.log(2 * np.pi)
    assert found == pytest.approx(log_likelihood, abs=1e-6)
    np.testing.assert_allclose(mixture.means_[0], mean, rtol=5e-6)
    np.testing.assert_allclose(mixture.covariances_[0], covariance, rtol=1e-4)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_lower_bound_rises(covariance_type):
    x, _ = clusters(0)
    mixture = marginal(covariance_type=covariance_type, tol=1e-8, max_iter=500, reg_covar=0).fit(x)
    assert (np.diff(mixture.lower_bounds_) > -1e-12).all()
    assert mixture.converged_


def test_solvers_come_to_the_same_maximum():
    x, _ = clusters(1)
    em = marginal(tol=1e-12, max_iter=3000, reg_covar=0).fit(x)
    newton = marginal(tol=1e-6, max_iter=500, reg_covar=0, solver="em+newton").fit(x)
    lbfgs = marginal(tol=1e-7, max_iter=500, reg_covar=0, solver="lbfgs").fit(x)
    for other in (newton, lbfgs):
        assert other.score(x) == pytest.approx(em.score(x), abs=1e-9)
        np.testing.assert_allclose(other.means_, em.means_, atol=2e-4)
    with pytest.warns(UserWarning, match="did not converge"):
        adam = marginal(solver="adam", max_iter=30).fit(x)
    assert adam.score(x) == pytest.approx(em.score(x), abs=2e-2)


def test_estimates_are_within_their_errors_of_the_truth():
    """Their squares over those of the errors have mean one, and as many are summed here."""
    squares = []
    for seed in range(8):
        x, truth = clusters(seed, n=1500)
        found = fit_em(Data(x, missing="marginal"), truth, tol=1e-9).parameters
        for kind in ("hessian", "sandwich"):
            errors = gmm_np.standard_errors(x, found, kind=kind, missing="marginal")
            squares.append(((found.means - truth.means) / errors.means) ** 2)
            free = np.broadcast_to(np.tri(3, dtype=bool), truth.scale.shape)
            off = found.scale[free] - truth.scale[free]
            squares.append((off / errors.scale[free]) ** 2)
    mean = np.mean(np.concatenate([square.ravel() for square in squares]))
    assert 0.7 < mean < 1.35  # of 144 correlated squares: about four standard deviations


def test_errors_are_larger_than_with_complete_rows():
    x, truth = clusters(2, n=1000)
    complete = gmm_np.impute(x, *mixture_of(truth), draws=1, random_state=0)[0]
    errors = []
    for rows in (complete, x):
        found = fit_em(Data(rows, missing="marginal"), truth, tol=1e-9).parameters
        errors.append(gmm_np.standard_errors(rows, found, missing="marginal").means)
    assert (errors[1] > errors[0]).all()


def mixture_of(parameters):
    return parameters.pi_logits, parameters.means, parameters.scale


@pytest.mark.slow
def test_bootstrap_errors_are_about_those_of_the_hessian():
    x, truth = clusters(3, n=300, share=0.1, d=2)
    found = fit_em(Data(x, missing="marginal"), truth, tol=1e-9).parameters
    options = {"missing": "marginal"}
    expected = gmm_np.standard_errors(x, found, **options).means
    drawn = gmm_np.standard_errors(x, found, kind="bootstrap", n_bootstrap=40, **options).means
    assert np.abs(np.log(drawn / expected)).max() < 0.5


def test_weights_streams_and_parts_fit_alike():
    x, truth = clusters(4, n=200)
    weight = np.random.default_rng(5).integers(0, 3, size=len(x)).astype(float)
    expected = marginal(tol=1e-6).fit(np.repeat(x, weight.astype(int), axis=0), start=truth)
    weighted = marginal(tol=1e-6).fit(x, sample_weight=weight, start=truth)
    blocks, weights = [x[:70], x[70:]], [weight[:70], weight[70:]]
    streamed = marginal(tol=1e-6).fit(blocks, sample_weight=weights, start=truth)

    class Here:
        def map(self, function, items):
            return map(function, items)

    there = Data(blocks, weights, executor=Here(), missing="marginal")
    in_parts = marginal(tol=1e-6).fit(there, start=truth)
    for other in (weighted, streamed, in_parts):
        np.testing.assert_allclose(other.means_, expected.means_, rtol=1e-9)
        np.testing.assert_allclose(other.covariances_, expected.covariances_, rtol=1e-8)
    assert weighted.score(x, sample_weight=weight) == pytest.approx(
        expected.score(np.repeat(x, weight.astype(int), axis=0)), rel=1e-12
    )
    made = marginal(tol=1e-6).fit(there)  # from a start of its own
    assert made.score(x, sample_weight=weight) == pytest.approx(
        expected.score(np.repeat(x, weight.astype(int), axis=0)), abs=1e-2
    )


def test_all_that_a_fitted_mixture_does_takes_missing_values(tmp_path):
    x, _ = clusters(6)
    mixture = marginal().fit(x)
    assert mixture.predict_proba(x).shape == (len(x), 2)
    np.testing.assert_array_equal(mixture.predict(x), mixture.predict_proba(x).argmax(axis=1))
    assert mixture.bic(x) > mixture.aic(x)
    assert mixture.icl(x) >= mixture.bic(x)
    assert (mixture.log_prob_grad(x)[np.isnan(x)] == 0).all()
    assert np.isfinite(mixture.fit_predict(x)).all()
    before = mixture.means_
    mixture.partial_fit(x[:100])
    assert np.isfinite(mixture.means_).all()
    assert (mixture.means_ != before).any()
    mixture.save(tmp_path / "model.npz")
    read = GaussianMixture.load(tmp_path / "model.npz")
    assert read.missing == "marginal"
    np.testing.assert_array_equal(read.score_samples(x), mixture.score_samples(x))
    filled = mixture.impute(x)
    np.testing.assert_array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])
    assert np.isfinite(filled).all()
    one, other = (mixture.impute(x, draws=2, random_state=7) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_a_mixture_fitted_to_complete_rows_imputes():
    x, _ = clusters(7)
    complete = x[~np.isnan(x).any(axis=1)]
    mixture = GaussianMixture(2, random_state=0).fit(complete)
    with pytest.raises(ValueError, match='missing="marginal"'):
        mixture.score_samples(x)
    assert np.isfinite(mixture.impute(x)).all()


def test_masked_none_and_na_are_missing():
    x, _ = clusters(8, n=100)
    expected = marginal().fit(x).score_samples(x)
    masked = np.ma.masked_invalid(x)
    none = x.astype(object)
    none[np.isnan(x)] = None
    for other in (masked, none):
        np.testing.assert_array_equal(marginal().fit(other).score_samples(other), expected)


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_starts_are_made_of_rows_with_gaps(init_params):
    x, _ = clusters(9, share=0.5)  # one row of eight is complete
    mixture = marginal(init_params=init_params, n_init=3, max_iter=300, tol=1e-5).fit(x)
    assert sorted(np.sign(mixture.means_[:, 0])) == [-1.0, 1.0]


def test_selection_finds_the_number_of_components():
    x, _ = clusters(10, n=500, share=0.1)
    found = gmm_np.model_selection.select(
        x, [1, 2, 3], families="full", random_state=0, n_init=2, missing="marginal"
    )
    assert found.best.n_components == 2


@pytest.mark.needs_extras
def test_dask_has_the_rows():
    import dask
    import dask.array as da

    x, truth = clusters(15, n=300)
    rows = da.from_array(x, chunks=(90, 3))
    with dask.config.set(scheduler="synchronous"):
        expected = marginal().fit(x, start=truth)
        found = marginal().fit(rows, start=truth)
        np.testing.assert_allclose(found.means_, expected.means_, rtol=1e-12)
        assert found.bic(rows) == pytest.approx(expected.bic(x), rel=1e-12)
        found_density = found.score_samples(rows).compute()
        np.testing.assert_allclose(found_density, expected.score_samples(x), atol=1e-13)


@pytest.mark.needs_extras
def test_scikit_learn_is_told():
    from sklearn.utils import get_tags

    assert not get_tags(GaussianMixture()).input_tags.allow_nan
    assert get_tags(marginal()).input_tags.allow_nan


@pytest.mark.needs_extras
def test_data_frames_with_na():
    import pandas as pd

    x, _ = clusters(11, n=100)
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    expected = marginal().fit(x).means_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(marginal().fit(frame).means_, expected)
        nullable = frame.convert_dtypes()
        np.testing.assert_allclose(marginal().fit(nullable).means_, expected, rtol=1e-12)


# --- what is refused ----------------------------------------------------------------------------


def test_nan_without_the_option_names_it():
    x, _ = clusters(12)
    with pytest.raises(ValueError, match=r'contains NaN.*or set missing="marginal"'):
        GaussianMixture(2).fit(x)
    with pytest.raises(ValueError, match="'missing' parameter"):
        GaussianMixture(2, missing="drop").fit(x)


def test_infinity_is_not_missing():
    x, _ = clusters(13)
    x[5, 1] = np.inf
    with pytest.raises(ValueError, match=r"infinity.*at \[5, 1\]"):
        marginal().fit(x)
    with pytest.raises(ValueError, match="infinite: 1 of 1800, the first inf at row 5"):
        Data(x, missing="marginal")


def test_a_column_without_any_value_is_named():
    x, _ = clusters(14)
    x[:, 1] = NAN
    with pytest.raises(ValueError, match="no value in column 1"):
        marginal().fit(x)
