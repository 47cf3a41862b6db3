"""GaussianMixture beside scikit-learn's, and inside of scikit-learn."""

import copy
import itertools
import pickle
import warnings

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError, UnsetMetadataPassedError
from sklearn.mixture import GaussianMixture as Theirs
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted

from gmm_np import GaussianMixture
from gmm_np.datasets import load_old_faithful
from gmm_np.solvers import fit_adam, fit_em, fit_lbfgs, kmeans_start

TYPES = ("full", "tied", "diag", "spherical")
# Data, components, floor, iterations. The digits have columns that are constant: hence their floor.
DATA = {
    "iris": (lambda: load_iris().data, 3, 1e-6, 25),
    "wine": (lambda: load_wine().data, 3, 1e-6, 25),
    "digits": (lambda: load_digits().data, 10, 1e-2, 8),
    "Old Faithful": (lambda: load_old_faithful()[0], 2, 0.0, 25),
}


def start(x, n_components, kind):
    """Return arguments that start both estimators at the same place."""
    rng = np.random.default_rng(0)
    k, variance = n_components, x.var(axis=0) + 1e-2
    return {
        "n_components": k,
        "covariance_type": kind,
        "weights_init": np.full(k, 1 / k),
        "means_init": x[rng.choice(len(x), k, replace=False)],
        "precisions_init": {
            "full": np.stack([np.diag(1 / variance)] * k),
            "tied": np.diag(1 / variance),
            "diag": np.tile(1 / variance, (k, 1)),
            "spherical": np.full(k, 1 / variance.mean()),
        }[kind],
    }


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", DATA)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::gmm_np.mixture.RegCovarWarning")  # pixels that hardly vary
def test_em_has_the_log_likelihoods_of_scikit_learn_iteration_by_iteration(name, kind):
    load, n_components, floor, iterations = DATA[name]
    x = load()
    options = {**start(x, n_components, kind), "reg_covar": floor, "tol": 0}
    ours = GaussianMixture(**options, max_iter=iterations).fit(x)
    theirs = Theirs(**options, max_iter=iterations).fit(x)
    # scikit-learn has had lower_bounds_ since 1.7; before, each number of iterations is a fit.
    bounds = getattr(theirs, "lower_bounds_", None) or [
        Theirs(**options, max_iter=n).fit(x).lower_bound_ for n in range(1, iterations + 1)
    ]
    assert len(ours.lower_bounds_) == len(bounds) == iterations
    worst = np.max(np.abs(np.subtract(ours.lower_bounds_, bounds) / np.array(bounds)))
    print(f"\n{name}, {kind}: log-likelihoods differ by {worst:.1e} at most")
    assert worst < 1e-9
    # What comes of them: parameters, and what is computed from those.
    for attribute in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(
            getattr(ours, attribute), getattr(theirs, attribute), rtol=1e-5, atol=1e-7
        )
    np.testing.assert_allclose(ours.score_samples(x), theirs.score_samples(x), rtol=1e-6)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-6)
    assert ours.bic(x) == pytest.approx(theirs.bic(x), rel=1e-9)
    assert ours.aic(x) == pytest.approx(theirs.aic(x), rel=1e-9)
    assert ours._n_parameters() == theirs._n_parameters()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *itertools.product(["iris", "wine"], [*TYPES, "shared_spherical"]),
        # Constant columns leave the other types without a maximum.
        ("digits", "spherical"),
        ("digits", "shared_spherical"),
    ],
)
def test_solvers_on_gradients_reach_the_optimum_of_em_or_a_better_one(name, kind):
    x = DATA[name][0]()
    at = kmeans_start(x, DATA[name][1], np.random.default_rng(0), family=kind)
    best = fit_em(x, at, tol=1e-10).nll
    lbfgs, adam = fit_lbfgs(x, at), fit_adam(x, at)
    assert lbfgs.converged
    assert adam.converged
    print(f"\n{name}, {kind}: L-BFGS {lbfgs.nll - best:+.1e}, Adam {adam.nll - best:+.1e} nats")
    assert lbfgs.nll <= best + 1e-6
    assert adam.nll <= best + 1e-3


@pytest.mark.parametrize("kind", TYPES)
def test_attributes_have_the_names_shapes_and_types_of_scikit_learn(kind):
    x, _ = load_old_faithful()
    options = start(x, 2, kind)
    ours, theirs = GaussianMixture(**options).fit(x), Theirs(**options).fit(x)
    assert set(theirs.get_params()) <= set(ours.get_params())
    assert {k: v for k, v in ours.get_params().items() if k in theirs.get_params()}.keys() == (
        theirs.get_params().keys()
    )
    for name, value in vars(theirs).items():
        if name.endswith("_") and not name.startswith("_"):
            own = getattr(ours, name)
            assert np.shape(own) == np.shape(value), name
            np.testing.assert_allclose(own, value, rtol=1e-6, err_msg=name)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.converged_ == theirs.converged_


def covariance(rng, condition, n_features):
    """Return a covariance of this condition."""
    q, _ = np.linalg.qr(rng.standard_normal((n_features, n_features)))
    rotated = (q * np.geomspace(1.0, 1.0 / condition, n_features)) @ q.T
    return 0.5 * (rotated + rotated.T)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("condition", [1e2, 1e6, 1e8])
def test_factors_of_precisions_set_by_hand_score_as_in_scikit_learn(kind, condition):
    rng = np.random.default_rng(11)
    with_rounding = 0
    for n_features in (1, 2, 3, 5, 8) * 4:
        covariances = np.stack([covariance(rng, condition, n_features) for _ in range(3)])
        units = 10.0 ** rng.uniform(-3, 3, n_features)
        # As ten public projects do it, and as scikit-learn did, by an inverse that leaves rounding
        # below the diagonal.
        lower = np.linalg.cholesky(np.linalg.inv(covariances)) / units[:, None]
        upper = np.linalg.inv(np.linalg.cholesky(covariances)).transpose(0, 2, 1) / units[:, None]
        with_rounding += int(np.tril(upper, -1).any())
        deviations = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2)) * units
        means = rng.standard_normal((3, n_features)) * deviations
        rows = means[:, None] + rng.standard_normal((3, 20, n_features)) * deviations[:, None]
        roots = 1 / deviations
        for factors in {
            "full": (upper, lower, np.triu(upper), upper.astype(np.float32)),
            "tied": (upper[0], lower[0], np.triu(upper[0]), upper[0].astype(np.float32)),
            "diag": (roots,),
            "spherical": (roots[:, 0],),
        }[kind]:
            scores = []
            for make in (Theirs, GaussianMixture):
                mixture = make(3, covariance_type=kind)
                mixture.weights_, mixture.means_ = np.array([0.2, 0.3, 0.5]), means
                mixture.precisions_cholesky_ = np.asarray(factors, np.float64)
                mixture.covariances_ = covariances  # asked for, not used
                scores.append(mixture.score_samples(np.concatenate(rows)))
            # Rounding times the condition of the factor; scikit-learn's expanded squares lose more.
            worst = np.max(np.abs(scores[1] - scores[0]) / (1 + np.abs(scores[0])))
            assert worst < 1e-12 * np.sqrt(condition)
    assert with_rounding >= 10


def test_defaults_are_those_of_scikit_learn():
    own, theirs = GaussianMixture().get_params(), Theirs().get_params()
    assert {name: own[name] for name in theirs} == theirs


def overlapping(seed, n_components, n_features, distance, n_samples=1000):
    """Return rows of a random mixture."""
    rng = np.random.default_rng(seed)
    means = distance * rng.standard_normal((n_components, n_features))
    factors = rng.standard_normal((n_components, n_features, n_features)) / np.sqrt(n_features)
    label = rng.choice(n_components, n_samples, p=rng.dirichlet(np.full(n_components, 3.0)))
    turned = factors[label] @ rng.standard_normal((n_samples, n_features, 1))
    return means[label] + turned[..., 0] + 0.3 * rng.standard_normal((n_samples, n_features))


STARTED = {
    "iris": (lambda: load_iris().data, 3),
    "wine": (lambda: load_wine().data, 3),
    "digits": (lambda: PCA(8, svd_solver="full").fit_transform(load_digits().data), 10),
    "Old Faithful": (lambda: load_old_faithful()[0], 2),
    "3 columns": (lambda: overlapping(1, 5, 3, 2.0), 5),
    "6 columns": (lambda: overlapping(2, 8, 6, 1.5), 8),
    "2 columns": (lambda: overlapping(3, 4, 2, 3.0), 4),
    "2 columns of other units": (lambda: overlapping(3, 4, 2, 3.0) * [1.0, 1e4], 4),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "digits" else n for n in STARTED]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_default_start_leads_on_average_as_far_as_that_of_scikit_learn(name):
    load, n_components = STARTED[name]
    x = load()
    ours, theirs = (
        np.array([make(n_components, random_state=seed).fit(x).score(x) for seed in range(20)])
        for make in (GaussianMixture, Theirs)
    )
    for what, mean in (("ours", ours), ("scikit-learn", theirs)):
        print(f"\n{name}, {what}: {mean.mean():.4f}, median {np.median(mean):.4f}", end="")
    # What `tol` leaves, and where seeds find one of several good maxima.
    assert ours.mean() >= theirs.mean() - 5e-3
    assert np.median(ours) >= np.median(theirs) - 5e-3


# --- inside of scikit-learn -----------------------------------------------------------------------

# Checks that scikit-learn itself skips here, and why.
SKIPPED = {
    "check_sample_weights_pandas_series": "pandas is not installed",
    "check_array_api_input": "SCIPY_ARRAY_API is not set",
}


@pytest.mark.parametrize(
    "options",
    [{}, {"n_components": 2}, {"covariance_type": "diag"}, {"solver": "lbfgs"}],
    ids=lambda options: "-".join(map(str, options.values())) or "default",
)
@pytest.mark.filterwarnings("ignore")
def test_check_estimator_passes(options):
    results = check_estimator(GaussianMixture(**options), on_fail=None, on_skip=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    skipped = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "skipped"}
    assert all(SKIPPED[name] in reason for name, reason in skipped.items())
    assert sum(r["status"] == "passed" for r in results) >= 40


def test_pipeline_clone_search_and_cross_validation():
    x = load_iris().data
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(3, random_state=0))
    labels = pipeline.fit_predict(x)
    np.testing.assert_array_equal(pipeline.predict(x), labels)
    assert "GaussianMixture(n_components=3" in repr(pipeline)
    weighted = pipeline.fit(x, gaussianmixture__sample_weight=np.arange(1.0, len(x) + 1))
    assert weighted.score(x) != pytest.approx(pipeline.fit(x).score(x), rel=1e-6)

    grid = {"n_components": [1, 2], "covariance_type": ["full", "diag", "shared_spherical"]}
    search = GridSearchCV(GaussianMixture(random_state=0), grid, cv=3).fit(x)
    assert search.best_params_["covariance_type"] == "full"
    assert len(cross_val_score(GaussianMixture(2, random_state=0), x, cv=3)) == 3

    fitted = GaussianMixture(2, random_state=0, means_init=x[[0, 100]]).fit(x)
    copied = clone(fitted)
    assert not copied.__sklearn_is_fitted__()
    np.testing.assert_array_equal(copied.means_init, x[[0, 100]])
    np.testing.assert_array_equal(copied.fit(x).means_, fitted.means_)
    for other in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(other.predict_proba(x), fitted.predict_proba(x))


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def requests_of(estimator):
    """Return what each method asks for; those that scikit-learn has and nobody takes left out."""
    requests = estimator.get_metadata_routing()
    methods = [name for name in vars(requests) if name != "owner"]
    return {name: getattr(requests, name).requests for name in methods}


@pytest.mark.usefixtures("routing")
def test_weights_are_routed_to_fit_and_score_of_a_pipeline_and_of_a_search():
    x = load_iris().data
    weight = np.random.default_rng(0).uniform(0.0, 3.0, len(x))
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    mixture = GaussianMixture(2, random_state=0)
    assert mixture.set_fit_request(sample_weight=True) is mixture
    assert mixture.set_score_request(sample_weight=True) is mixture
    pipeline = make_pipeline(scaler, mixture).fit(x, sample_weight=weight)
    scaled = StandardScaler().fit_transform(x)
    alone = GaussianMixture(2, random_state=0).fit(scaled, sample_weight=weight)
    np.testing.assert_array_equal(pipeline[-1].means_, alone.means_)
    expected = np.average(alone.score_samples(scaled), weights=weight)
    assert pipeline.score(x, sample_weight=weight) == pytest.approx(expected, rel=1e-14)
    assert abs(pipeline.score(x) - expected) > 1e-3
    np.testing.assert_array_equal(
        pipeline.fit_predict(x, sample_weight=weight), alone.predict(scaled)
    )

    folds = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(clone(mixture), {"n_components": [1, 2]}, cv=folds)
    search.fit(x, sample_weight=weight)
    for n_components, found in zip((1, 2), search.cv_results_["mean_test_score"], strict=True):
        by_hand = [
            GaussianMixture(n_components, random_state=0)
            .fit(x[train], sample_weight=weight[train])
            .score(x[test], sample_weight=weight[test])
            for train, test in folds.split(x)
        ]
        assert found == pytest.approx(np.mean(by_hand), rel=1e-12)


@pytest.mark.usefixtures("routing")
def test_requests_are_those_that_scikit_learn_reads_from_the_methods():
    class Both(GaussianMixture, BaseEstimator):
        get_metadata_routing = BaseEstimator.get_metadata_routing

    assert requests_of(GaussianMixture()) == requests_of(Both())
    names = ("sample_weight", "callback", "start", "checkpoint", "given", "noise")
    assert requests_of(GaussianMixture())["fit"] == dict.fromkeys(names)


@pytest.mark.usefixtures("routing")
def test_copies_keep_requests_and_share_none():
    mixture = GaussianMixture(2).set_fit_request(sample_weight="mass", callback=False)
    mixture.set_partial_fit_request(sample_weight=True)
    asked = requests_of(mixture)
    expected = dict.fromkeys(asked["fit"]) | {"sample_weight": "mass", "callback": False}
    assert asked["fit"] == expected
    assert asked["partial_fit"] == {"sample_weight": True}
    copies = (clone(mixture), copy.deepcopy(mixture), pickle.loads(pickle.dumps(mixture)))
    mixture.set_fit_request(sample_weight=False)
    assert requests_of(mixture)["fit"]["sample_weight"] is False
    for other in copies:
        assert requests_of(other) == asked
    mixture.get_metadata_routing().fit.add_request(param="sample_weight", alias=True)
    assert requests_of(mixture)["fit"]["sample_weight"] is False


@pytest.mark.usefixtures("routing")
def test_weights_by_another_name_are_routed_and_those_not_asked_for_are_an_error():
    x = load_iris().data
    weight = np.arange(1.0, len(x) + 1)
    named = make_pipeline(GaussianMixture(2, random_state=0).set_fit_request(sample_weight="mass"))
    alone = GaussianMixture(2, random_state=0).fit(x, sample_weight=weight)
    np.testing.assert_array_equal(named.fit(x, mass=weight)[-1].means_, alone.means_)
    with pytest.raises(UnsetMetadataPassedError, match=r"GaussianMixture\.set_fit_request"):
        make_pipeline(GaussianMixture(2)).fit(x, sample_weight=weight)
    with pytest.raises(ValueError, match=r"valid identifier or one of .* value is: `2`"):
        GaussianMixture(2).set_score_request(sample_weight=2)


@pytest.mark.parametrize("method", ["fit", "partial_fit", "score"])
def test_requests_need_routing_to_be_enabled(method):
    with pytest.raises(RuntimeError, match=r"set_config\(enable_metadata_routing=True\)"):
        getattr(GaussianMixture(), f"set_{method}_request")(sample_weight=True)


def test_a_pipeline_is_drawn_with_the_mixture_in_it():
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(3))
    assert "GaussianMixture(n_components=3)" in estimator_html_repr(pipeline)


def test_priors_survive_a_clone():
    from gmm_np.priors import Dirichlet, Normal, Wishart

    priors = (Wishart(1.0, 0.0), Dirichlet(2.0), Normal(np.zeros(4), 10.0))
    x = load_iris().data
    a = GaussianMixture(2, priors=priors, random_state=0)
    np.testing.assert_array_equal(clone(a).fit(x).means_, a.fit(x).means_)


def test_errors_and_warnings_are_those_of_scikit_learn():
    x, _ = load_old_faithful()
    g = GaussianMixture(3, tol=0, max_iter=2, random_state=0)
    with pytest.raises(NotFittedError):
        g.predict(x)
    with pytest.raises(NotFittedError):
        check_is_fitted(g)
    with pytest.warns(ConvergenceWarning):
        g.fit(x)
    check_is_fitted(g)


class Frame:
    """As much of a data frame as scikit-learn's conventions need."""

    def __init__(self, values, columns):
        self.values, self.columns = np.asarray(values), columns

    def __array__(self, dtype=None, copy=None):
        del copy  # NumPy before 2 does not have it
        return np.array(self.values, dtype=dtype)

    @property
    def shape(self):
        return self.values.shape

    def __len__(self):
        return len(self.values)


def test_feature_names_are_kept_and_compared():
    x, names = load_old_faithful()
    g = GaussianMixture(2, random_state=0).fit(Frame(x, names))
    assert g.feature_names_in_.tolist() == names
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        g.predict(Frame(x, names))
    with pytest.warns(UserWarning, match="X does not have valid feature names, but Gaussian"):
        g.predict(x)
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        g.predict(Frame(x, names[::-1]))
    with pytest.raises(ValueError, match=r"(?s)should match.*unseen at fit time:\n- other"):
        g.predict(Frame(x, ["eruptions", "other"]))
    g.fit(x)
    assert not hasattr(g, "feature_names_in_")
    with pytest.warns(UserWarning, match="was fitted without feature names"):
        g.predict(Frame(x, names))
    with pytest.raises(TypeError, match="only supported if all input features have string names"):
        g.fit(Frame(x, ["a", 1]))


def test_feature_names_survive_a_file(tmp_path):
    x, names = load_old_faithful()
    GaussianMixture(2, random_state=0).fit(Frame(x, names)).save(tmp_path / "model.npz")
    assert GaussianMixture.load(tmp_path / "model.npz").feature_names_in_.tolist() == names
