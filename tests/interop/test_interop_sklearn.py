"""Fitted mixtures to scikit-learn and back."""

import numpy as np
import pytest
from families_by_reference import FAMILIES, random_parameters
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as Theirs

import gmm_np
from gmm_np.interop.sklearn import from_sklearn, to_sklearn

pytestmark = pytest.mark.needs_extras

KINDS = ("full", "tied", "diag", "spherical")
HAS = {"tied_diag": "diag", "shared_spherical": "spherical", "constant": "full"}


@pytest.mark.parametrize("family", FAMILIES)
def test_mixture_scores_in_scikit_learn_what_it_scores_here(family):
    parameters = random_parameters(3, family, 4, 3)
    x = np.random.default_rng(3).normal(size=(30, 3))
    mixture = to_sklearn(parameters)
    assert mixture.covariance_type == HAS.get(family, family)
    arguments = (parameters.pi_logits, parameters.means, parameters.scale)
    expected = gmm_np.log_prob(x, *arguments, family=family)
    np.testing.assert_allclose(mixture.score_samples(x), expected, rtol=1e-11)
    resp = gmm_np.responsibilities(x, *arguments, family=family)
    np.testing.assert_allclose(mixture.predict_proba(x), resp, atol=1e-12)
    assert mixture.sample(5)[0].shape == (5, 3)


def test_precisions_are_those_of_the_covariances():
    parameters = random_parameters(4, "full", 3, 3)
    precisions = to_sklearn(parameters).precisions_
    np.testing.assert_allclose(precisions, np.linalg.inv(parameters.covariances()), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_fit_goes_on_in_the_other_library(kind):
    x = load_iris().data
    ours = gmm_np.GaussianMixture(3, covariance_type=kind, random_state=0, tol=1e-8, max_iter=500)
    ours.fit(x)
    mixture = to_sklearn(ours)
    assert (mixture.converged_, mixture.n_iter_) == (ours.converged_, ours.n_iter_)
    assert mixture.bic(x) == pytest.approx(ours.bic(x), rel=1e-10)
    before = mixture.score(x)
    mixture.set_params(warm_start=True, max_iter=5).fit(x)
    assert mixture.score(x) == pytest.approx(before, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_mixture_fitted_there_scores_the_same_here(kind):
    x = load_iris().data
    theirs = Theirs(3, covariance_type=kind, random_state=0).fit(x)
    ours = from_sklearn(theirs)
    np.testing.assert_allclose(ours.score_samples(x), theirs.score_samples(x), rtol=1e-9)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
    again = to_sklearn(ours)
    np.testing.assert_allclose(again.covariances_, theirs.covariances_, rtol=1e-12)


def test_bayesian_mixture_comes_as_the_one_that_it_predicts_by():
    x = load_iris().data
    theirs = BayesianGaussianMixture(n_components=4, random_state=0, max_iter=500).fit(x)
    ours = from_sklearn(theirs)
    np.testing.assert_allclose(ours.weights_, theirs.weights_, rtol=1e-12)
    np.testing.assert_allclose(ours.means_, theirs.means_)


def test_names_of_columns_go_along():
    theirs = Theirs(2, random_state=0).fit(load_iris().data[:, :2])
    theirs.feature_names_in_ = np.array(["a", "b"], dtype=object)
    ours = from_sklearn(theirs)
    assert ours.feature_names_in_.tolist() == ["a", "b"]
    assert to_sklearn(ours).feature_names_in_.tolist() == ["a", "b"]


def test_what_is_no_fitted_mixture_is_refused():
    with pytest.raises(NotFittedError):
        from_sklearn(Theirs(2))
    with pytest.raises(TypeError, match="BayesianGaussianMixture; got KMeans"):
        from_sklearn(KMeans(2))
    with pytest.raises(TypeError, match=r"gmm_np.Parameters or a fitted gmm_np.GaussianMixture"):
        to_sklearn(Theirs(2))
