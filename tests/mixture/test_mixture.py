import copy
import io
import itertools
import json
import pickle
import subprocess
import sys
import warnings
import zipfile
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import gmm_np
from gmm_np import GaussianMixture, Parameters, nll, nll_value_and_grad, responsibilities
from gmm_np.datasets import load_old_faithful, make_clusters
from gmm_np.mixture import SOLVERS, RegCovarWarning
from gmm_np.mixture.sklearn_compat import convergence_warning, not_fitted_error
from gmm_np.priors import Dirichlet, Normal, Wishart
from gmm_np.solvers.results import CollapseError, Data

SHAPES = {
    "full": (2, 2, 2),
    "tied": (2, 2),
    "diag": (2, 2),
    "tied_diag": (2,),
    "spherical": (2,),
    "shared_spherical": (),
}
TYPES = tuple(SHAPES)


@pytest.fixture(scope="module")
def x():
    return load_old_faithful()[0]


def fitted(x, covariance_type="full", **options):
    options = {"tol": 1e-8, "max_iter": 1000, "random_state": 0, **options}
    return GaussianMixture(2, covariance_type=covariance_type, **options).fit(x)


# --- what a fit leaves ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_attributes_have_their_shapes_and_say_the_same(x, kind):
    g = fitted(x, kind)
    assert g.weights_.shape == (2,)
    assert g.weights_.sum() == pytest.approx(1, rel=1e-14)
    assert g.means_.shape == (2, 2)
    for array in (g.covariances_, g.precisions_, g.precisions_cholesky_):
        assert array.shape == SHAPES[kind]
        assert array.dtype == np.float64
    if kind in ("full", "tied"):
        identity = np.broadcast_to(np.eye(2), SHAPES[kind])
        np.testing.assert_allclose(g.covariances_ @ g.precisions_, identity, atol=1e-12)
        assert not np.tril(g.precisions_cholesky_, -1).any()
    else:
        np.testing.assert_allclose(g.covariances_ * g.precisions_, 1, rtol=1e-14)
    assert g.converged_
    assert g.n_iter_ == len(g.lower_bounds_)
    assert g.lower_bound_ == g.lower_bounds_[-1]
    assert g.n_features_in_ == 2
    assert all(b >= a - 1e-6 for a, b in itertools.pairwise(g.lower_bounds_))  # but for reg_covar


@pytest.mark.parametrize("kind", TYPES)
def test_scores_are_those_of_the_library(x, kind):
    g = fitted(x, kind)
    p = g.parameters_
    arguments = (p.pi_logits, p.means, p.scale)
    weight = np.random.default_rng(0).uniform(0, 2, len(x))
    assert g.score(x) == pytest.approx(-nll(x, *arguments, family=kind), rel=1e-14)
    expected = -nll(x, *arguments, family=kind, sample_weight=weight)
    assert g.score(x, sample_weight=weight) == pytest.approx(expected, rel=1e-13)
    np.testing.assert_array_equal(g.predict_proba(x), responsibilities(x, *arguments, family=kind))
    np.testing.assert_array_equal(g.predict(x), g.predict_proba(x).argmax(axis=1))
    assert g.lower_bound_ == pytest.approx(g.score(x), abs=1e-6)
    log_likelihood, n = g.score(x) * len(x), len(x)
    free = dict(zip(TYPES, (11, 8, 9, 7, 7, 6), strict=True))[kind]
    assert g.bic(x) == pytest.approx(-2 * log_likelihood + free * np.log(n), rel=1e-13)
    assert g.aic(x) == pytest.approx(-2 * log_likelihood + 2 * free, rel=1e-13)


@pytest.mark.parametrize("kind", TYPES)
def test_samples_have_the_moments_of_their_components(x, kind):
    g = fitted(x, kind)
    rows, labels = g.sample(40_000)
    assert rows.shape == (40_000, 2)
    assert (np.diff(labels) >= 0).all()
    np.testing.assert_allclose(np.bincount(labels) / 40_000, g.weights_, atol=0.02)
    factors = g.parameters_.factors()
    for k in range(2):
        z = np.linalg.solve(factors[k], (rows[labels == k] - g.means_[k]).T)  # [D, n]
        # Standard normal if right; the standard error of a mean or a variance is below 0.02.
        np.testing.assert_allclose(z.mean(axis=1), 0, atol=0.06)
        np.testing.assert_allclose(np.cov(z), np.eye(2), atol=0.06)
    assert np.array_equal(g.sample(5)[0], g.sample(5)[0])  # of an int for a random_state


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", TYPES)
def test_every_solver_fits_every_type_and_raises_no_alarm(x, solver, kind):
    # Adam's schedule needs its passes; a tenth of them leaves a hundredth of a nat.
    options = {"max_iter": 300, "tol": 1e-2} if solver == "adam" else {}
    g = fitted(x, kind, solver=solver, **options)
    assert g.collapsed_ == []  # a warning would be an error
    assert g.lower_bound_ == pytest.approx(fitted(x, kind).lower_bound_, abs=2e-2)
    if solver == "lbfgs":
        assert g.score(x) == pytest.approx(fitted(x, kind).score(x), abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_the_best_start_is_kept(x):
    options = {"max_iter": 5, "init_params": "random_from_data"}
    bounds = []
    for seed in range(4):
        one, many = (
            GaussianMixture(4, random_state=seed, n_init=n, **options).fit(x) for n in (1, 8)
        )
        assert many.lower_bound_ >= one.lower_bound_
        bounds.append(one.lower_bound_)
    assert len(set(bounds)) > 1


def test_a_start_that_collapses_is_dropped_where_there_are_others():
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.standard_normal((30, 2)), [[40.0, 40.0], [41.0, 41.5]]])
    options = {"reg_covar": 0, "init_params": "random_from_data", "random_state": 4, "n_init": 12}
    with pytest.warns(UserWarning, match="was dropped") as seen:
        g = GaussianMixture(2, max_iter=200, **options).fit(x)
    assert 1 <= sum("was dropped" in str(w.message) for w in seen) < 12
    assert np.isfinite(g.lower_bound_)


def test_a_collapse_is_an_error_in_the_words_of_scikit_learn():
    x = np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0)
    for kind in TYPES:
        g = GaussianMixture(10, reg_covar=0, covariance_type=kind, random_state=0)
        with pytest.raises(CollapseError, match=r"ill-defined empirical covariance .*In detail: "):
            g.fit(x)
        with pytest.raises(CollapseError):
            g.set_params(solver="lbfgs").fit(x)


@pytest.mark.parametrize(
    ("x", "k", "said"),
    [
        (np.arange(70_000.0)[:, None], 65_537, r"rows of x among the 65536 that a start looks at"),
        ([np.zeros((3, 1)), np.ones((3, 1))], 7, r"distinct rows of x, 2; got 7"),
    ],
)
def test_more_components_than_rows_to_start_from_are_refused_at_once(x, k, said):
    with pytest.raises(ValueError, match=f"n_components must be between 1 and .*{said}"):
        GaussianMixture(k).fit(x)
    GaussianMixture(6, max_iter=0).fit(x)  # of which some may be equal


@pytest.mark.parametrize("stream", [False, True])
def test_data_that_were_checked_are_fitted_as_they_are(stream):
    x, weight = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60.0)
    given = ([x[:20], x[20:]], [weight[:20], weight[20:]]) if stream else (x, weight)
    found = GaussianMixture(2, random_state=0).fit(Data(*given, finite=True))
    wanted = GaussianMixture(2, random_state=0).fit(given[0], sample_weight=given[1])
    assert found.parameters_.equals(wanted.parameters_)
    with pytest.raises(TypeError, match="belongs into Data"):
        GaussianMixture(2).fit(Data(x), sample_weight=weight)
    with pytest.raises(ValueError, match="fit_predict needs an array"):
        GaussianMixture(2).fit_predict(Data(x))
    bad = [np.array([[np.nan]])] if stream else np.array([[np.nan]])
    assert np.isnan(next(Data(bad, finite=True).blocks())[0])  # not looked at again
    with pytest.raises(ValueError, match="not finite"):
        next(Data(bad).blocks())


def pair_far_away():
    """A cluster of one column, and two equal rows far from it."""
    return np.concatenate([np.random.default_rng(2).standard_normal((30, 1)), [[50.0], [50.0]]])


def test_a_component_that_only_the_floor_holds_up_is_warned_of():
    with pytest.warns(convergence_warning(), match=r"^Component \d has collapsed.*reg_covar"):
        GaussianMixture(2, random_state=0).fit(pair_far_away())


def flat_data(what):
    """Two clusters, and beside them a column that spans no dimension of its own."""
    rng = np.random.default_rng(5)
    a = np.concatenate([rng.normal(0, 1, 200), rng.normal(5, 2, 100)])
    return np.column_stack([a, {"constant": np.full(300, 7.1), "dependent": 2 * a + 1}[what]])


@pytest.mark.parametrize("what", ["constant", "dependent"])
@pytest.mark.parametrize("unit", [1.0, 1e9])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tol": 1e-7, "max_iter": 500},
        {"max_iter": 1},
        {"solver": "lbfgs"},
        {"solver": "lbfgs", "max_iter": 3},
        {"solver": "adam", "max_iter": 20},
        {"reg_covar": 0, "priors": [Wishart(1e-6, 0.0)]},
    ],
)
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.filterwarnings("ignore")
def test_columns_that_span_no_dimension_are_reported_wherever_the_fit_ends(what, unit, options, k):
    # Where rounding of the data is more than the floor, a collapse may be an error instead.
    for kind in ("full", "tied", *(["diag"] if what == "constant" else [])):
        g = GaussianMixture(k, covariance_type=kind, random_state=0, **options)
        try:
            assert g.fit(unit * flat_data(what)).collapsed_ == list(range(k))
        except CollapseError:
            assert unit > 1


@pytest.mark.parametrize("tol", [1.0, 1e-3, 1e-8])
def test_a_collapse_is_an_error_at_any_tolerance_where_it_is_to_be_one(tol):
    with pytest.raises(CollapseError):
        GaussianMixture(2, reg_covar=0, tol=tol, random_state=0).fit(flat_data("constant"))


def test_the_warning_of_a_collapse_counts_from_0_and_names_the_column():
    with pytest.warns(convergence_warning()) as seen:
        GaussianMixture(2, random_state=0).fit(flat_data("constant"))
    (message,) = [str(w.message) for w in seen]
    assert message.startswith("Components 0, 1 have collapsed in column 1: ")
    assert message.endswith("Components are counted from 0.")


# --- the units of the columns --------------------------------------------------------------------


def small_units():
    """A column in metres with deviations of 6e-6, and one of the order of 1."""
    rng = np.random.default_rng(7)
    metres = np.concatenate([rng.normal(2.5e-5, 6e-6, 250), rng.normal(9e-5, 7e-6, 150)])
    return np.column_stack([metres, rng.normal(0, 1, 400)])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
@pytest.mark.parametrize("form", ["array", "stream", "weights"])
@pytest.mark.filterwarnings("ignore")
def test_a_floor_above_a_columns_variance_is_warned_of(solver, kind, form):
    x = small_units()
    data = [x[:150], x[150:]] if form == "stream" else x
    weight = np.ones(400) if form == "weights" else None
    g = GaussianMixture(2, covariance_type=kind, solver=solver, random_state=0, max_iter=5)
    share = f"{1e-6 / x[:, 0].var():.3g}"
    message = rf"^reg_covar=1e-06 is {share} times the variance of column 0"
    with pytest.warns(RegCovarWarning, match=message):
        g.fit(data, sample_weight=weight)


def test_a_floor_is_too_high_from_a_hundredth_of_the_variance_on():
    x = np.random.default_rng(8).normal(0, 1, (500, 2))
    x /= x.std(axis=0)
    for floor, n_warnings in ((0.0099, 0), (0.0101, 1)):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            GaussianMixture(reg_covar=floor).fit(x)
        assert len(seen) == n_warnings
    assert (
        "reg_covar=0.0101 is 1 % of the variance of column 0, 1 (and too much for 1 more)"
        in str(seen[0].message)
    )


def test_one_variance_for_all_columns_is_compared_with_their_mean_variance():
    x, g = small_units(), GaussianMixture(2, covariance_type="spherical", random_state=0)
    g.fit(x)  # a warning would be an error
    message = "times the columns' mean variance"
    with pytest.warns(RegCovarWarning, match=message), pytest.warns(convergence_warning()):
        g.fit(1e-5 * x)


@pytest.mark.parametrize("solver", ["em", "lbfgs"])
@pytest.mark.parametrize("kind", TYPES)
def test_a_floor_for_each_column_is_in_its_units(solver, kind):
    x = small_units()
    unit = np.full(2, 1e5) if kind in ("spherical", "shared_spherical") else np.array([1e5, 1.0])
    floor = 1e-6 * x.var(axis=0)
    options = {"covariance_type": kind, "solver": solver, "random_state": 0, "tol": 1e-6}
    a = GaussianMixture(2, reg_covar=floor, **options).fit(x)
    b = GaussianMixture(2, reg_covar=list(floor * unit**2), **options).fit(x * unit)
    np.testing.assert_allclose(a.means_ * unit, b.means_, rtol=1e-6, atol=1e-9)
    assert a.score(x) == pytest.approx(b.score(x * unit) + np.log(unit).sum(), rel=1e-9)
    assert a.collapsed_ == b.collapsed_ == []


def test_a_floor_of_equal_numbers_is_that_number(x):
    for solver in ("em", "lbfgs"):
        for kind in TYPES:
            a, b = (
                fitted(x, kind, solver=solver, reg_covar=floor) for floor in (1e-3, [1e-3, 1e-3])
            )
            np.testing.assert_allclose(a.covariances_, b.covariances_, rtol=1e-12)


def test_a_floor_for_each_column_is_kept_in_a_file(x, tmp_path):
    g = fitted(x, reg_covar=np.array([1e-3, 1e-2]))
    g.save(tmp_path / "m.npz")
    assert GaussianMixture.load(tmp_path / "m.npz").reg_covar == [1e-3, 1e-2]


@pytest.mark.parametrize(
    "floor", [[1e-6], [1e-6, 1e-6, 1e-6], [1e-6, -1.0], [[1e-6, 1e-6]], ["a", "b"]]
)
def test_a_floor_of_another_shape_or_sign_is_refused(x, floor):
    with pytest.raises(ValueError, match=r"reg_covar.* one for each"):
        GaussianMixture(reg_covar=floor).fit(x)


def test_reseeding_is_warned_of():
    options = {"reg_covar": 0, "on_collapse": "reseed", "random_state": 0, "max_iter": 300}
    g = GaussianMixture(2, means_init=[[0.0], [50.0]], **options)
    with pytest.warns(convergence_warning(), match=r"collapsed on the way and were started again"):
        g.fit(pair_far_away())


def test_too_few_iterations_are_warned_of(x):
    with pytest.warns(convergence_warning(), match="Best performing initialization did not conv"):
        GaussianMixture(3, max_iter=2, random_state=0, tol=1e-8).fit(x)


def test_max_iter_zero_leaves_the_start(x):
    means = [[2.0, 50.0], [4.0, 80.0]]
    g = GaussianMixture(2, max_iter=0, means_init=means, weights_init=[0.25, 0.75]).fit(x)
    np.testing.assert_array_equal(g.means_, means)
    np.testing.assert_allclose(g.weights_, [0.25, 0.75], rtol=1e-15)
    assert g.n_iter_ == 0


@pytest.mark.filterwarnings("ignore")
def test_warm_start_goes_on_where_the_last_fit_ended(x):
    once = GaussianMixture(3, max_iter=8, tol=0, random_state=0).fit(x)
    twice = GaussianMixture(3, max_iter=4, tol=0, random_state=0, warm_start=True).fit(x).fit(x)
    np.testing.assert_array_equal(once.means_, twice.means_)
    assert once.lower_bounds_[4:] == twice.lower_bounds_


def two_clusters(at, n_samples=200):
    rng = np.random.default_rng(5)
    return np.repeat([[-at, 0.0], [at, at]], n_samples // 2, axis=0) + rng.standard_normal(
        (n_samples, 2)
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_warm_start_on_other_data_goes_on_until_it_fits_them(solver):
    first, second = two_clusters(3.0), two_clusters(3.0)[:, ::-1]
    options = {"solver": solver, "random_state": 0, "max_iter": 300}
    if solver == "adam":  # whose steps are short
        second, options["tol"] = first + 0.3, 1e-2
    g = GaussianMixture(2, warm_start=True, **options).fit(first)
    g.lower_bound_ = g.score(second)  # as it would be of data that happen to fit as well
    g.fit(second)
    cold = GaussianMixture(2, **options).fit(second)
    assert g.score(second) == pytest.approx(cold.score(second), abs=2e-2)
    assert g.converged_


@pytest.mark.parametrize(
    "change",
    [
        lambda g, x: g.fit(x, sample_weight=np.linspace(0, 1, len(x))),
        lambda g, x: g.fit([x[:100], x[101:]]),
        lambda g, x: g.set_params(reg_covar=1e-3).fit(x),
        lambda g, x: g.set_params(priors=(Dirichlet(2.0),)).fit(x),
        lambda g, x: setattr(g, "means_", g.means_ + 1e-9) or g.fit(x),
        lambda g, x: g.partial_fit(x) and g.fit(x),
        lambda g, x: g.set_params(solver="lbfgs").fit(x).set_params(solver="em").fit(x),
    ],
)
def test_a_lower_bound_is_compared_with_that_of_the_same_objective_alone(x, change):
    g = GaussianMixture(2, warm_start=True, tol=1e-4, max_iter=500, random_state=0).fit(x)
    g.tol = 10.0  # any two of its lower bounds are as close
    change(g, x)
    assert g.converged_
    assert g.n_iter_ == 2


@pytest.mark.parametrize("again", [np.copy, np.asfortranarray, lambda x: np.array_split(x, 3)])
def test_a_warm_start_on_the_same_data_knows_them_again(x, again):
    g = GaussianMixture(2, warm_start=True, tol=1e-4, max_iter=500, random_state=0).fit(x)
    g = pickle.loads(pickle.dumps(g)).fit(again(x))
    assert g.converged_
    assert g.n_iter_ == 1


@pytest.mark.parametrize(
    ("changed", "columns", "message"),
    [
        ({"n_components": 3}, 2, r"\(2, 2, 'full'\), but this one has \(3, 2, 'full'\)"),
        ({"covariance_type": "diag"}, 2, r"but this one has \(2, 2, 'diag'\)"),
        ({}, 1, r"but this one has \(2, 1, 'full'\).*warm_start=False"),
    ],
)
def test_a_warm_start_of_another_kind_is_refused(x, changed, columns, message):
    g = fitted(x, warm_start=True).set_params(**changed)
    with pytest.raises(ValueError, match=message):
        g.fit(x[:, :columns])


def test_priors_fit_the_posterior(x):
    priors = (Wishart(1.0, 0.0), Dirichlet(2.0), Normal([3.0, 70.0], 10.0))
    em, lbfgs = (fitted(x, solver=s, priors=priors, reg_covar=0) for s in ("em", "lbfgs"))
    assert em.lower_bound_ == pytest.approx(lbfgs.lower_bound_, abs=1e-6)
    log_density = sum(prior.log_density_and_grad(em.parameters_)[0] for prior in priors)
    assert em.score(x) + log_density / len(x) == pytest.approx(em.lower_bound_, abs=1e-6)
    assert em.score(x) < fitted(x, reg_covar=0).score(x)


# --- starts that are given -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_a_fit_started_at_a_fit_stays_there(x, kind):
    g = fitted(x, kind, tol=1e-12, reg_covar=0)
    again = GaussianMixture(
        2,
        covariance_type=kind,
        reg_covar=0,
        weights_init=g.weights_,
        means_init=g.means_,
        precisions_init=g.precisions_,
        max_iter=0,
    ).fit(x)
    np.testing.assert_allclose(again.covariances_, g.covariances_, rtol=1e-12)
    assert again.score(x) == pytest.approx(g.score(x), rel=1e-13)


def test_an_ill_conditioned_inverse_keeps_its_digits():
    # scikit-learn's issue 29989: through precisions_init its version 1.9.1 gives 10.974.
    covariance = np.array(
        [
            [32.00000007, 35.99999993, 8.00000001],
            [35.99999993, 40.50000006, 8.99999998],
            [8.00000001, 8.99999998, 2.00000008],
        ]
    )
    g = GaussianMixture(
        weights_init=[1.0],
        means_init=[[0.0, 0.0, 0.0]],
        precisions_init=[np.linalg.inv(covariance)],
        max_iter=0,
    ).fit(np.random.default_rng(0).standard_normal((5, 3)))
    # 50 digits of mpmath: 11.185270887249. What the rounding of the inverse leaves is 1e-8.
    assert g.score_samples([[0.0, 0.0, 0.0]])[0] == pytest.approx(11.185270887249, abs=3e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights_init": [[0.5, 0.5]]}, r"'weights' should have the shape of \(2,\), but got"),
        ({"weights_init": [1.5, 0.5]}, r"in the range \[0, 1\], but got max value 1.5"),
        ({"weights_init": [0.5, 0.4]}, r"should be normalized, but got sum\(weights\) = 0.9\."),
        ({"weights_init": [0.5, 0.4995]}, r"got sum\(weights\) = 0.9995\. Divide them by"),
        ({"means_init": np.zeros((3, 2))}, r"'means' should have the shape of \(2, 2\)"),
        ({"means_init": [[0, np.nan], [1, 1]]}, r"Input means contains NaN.*\[0, 1\]"),
        ({"precisions_init": np.ones((3, 2, 2))}, r"'full precision' should have the shape of"),
        ({"precisions_init": -np.ones((2, 2, 2))}, r"should be symmetric, positive-definite"),
        ({"precisions_init": [[[1, 0], [0.5, 1]]] * 2}, r"should be symmetric, positive-definite"),
        (
            {"precisions_init": [[1, -1], [1, 1]], "covariance_type": "diag"},
            "'diag precision' should be positive",
        ),
    ],
)
def test_starts_that_cannot_be_are_refused(x, options, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2, **options).fit(x)


@pytest.mark.parametrize("decimals", [4, 5, 7])
def test_weights_of_a_start_may_be_rounded_as_people_write_them(x, decimals):
    written = [round(1 / 3, decimals)] * 3
    g = GaussianMixture(3, weights_init=written, max_iter=0, random_state=0).fit(x)
    np.testing.assert_allclose(g.weights_, 1 / 3, rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_components", 0),
        ("n_components", 1.5),
        ("n_components", True),
        ("tol", -1),
        ("tol", np.nan),
        ("reg_covar", -1e-6),
        ("max_iter", -1),
        ("n_init", 0),
        ("verbose_interval", 0),
        ("covariance_type", "diagonal"),
        ("init_params", "k-means"),
        ("solver", "newton"),
        ("on_collapse", None),
        ("priors", Wishart(1.0, 0.0)),
        ("random_state", "zero"),
        ("random_state", -1),
    ],
)
def test_parameters_out_of_range_are_refused_when_they_are_used(x, name, value):
    g = GaussianMixture(**{name: value})
    with pytest.raises(ValueError, match=name):
        g.fit(x)


@pytest.mark.parametrize("make", [int, np.int64, np.random.default_rng, np.random.RandomState])
def test_random_states_repeat(x, make):
    a, b = (GaussianMixture(3, random_state=make(7)).fit(x) for _ in range(2))
    np.testing.assert_array_equal(a.means_, b.means_)


def test_a_fit_starts_where_it_is_told_and_there_alone():
    x, _, _ = make_clusters(200, 3, 2, seed=0)
    first = GaussianMixture(3, random_state=1, max_iter=2, tol=0.0)
    with pytest.warns(UserWarning, match="did not converge"):
        first.fit(x)
    start = first.parameters_
    second = GaussianMixture(3, n_init=5, init_params="random").fit(x, start=start)
    own = nll(x, start.pi_logits, start.means, start.scale)
    assert second.lower_bounds_[0] == pytest.approx(-own, rel=1e-12)
    # Nor is there anything of a fit before.
    again = GaussianMixture(3, warm_start=True).fit(x)
    again.fit(x, start=start)
    assert again.lower_bounds_ == second.lower_bounds_


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        ("kmeans", TypeError, "start must be gmm_np.Parameters; got str"),
        (
            Parameters([0.0], [[0.0, 0.0]], [np.eye(2)]),
            ValueError,
            r"\(1, 2, 'full'\), but this fit",
        ),
    ],
)
def test_a_start_of_another_kind_is_refused(start, error, message):
    with pytest.raises(error, match=message):
        GaussianMixture(2).fit(np.eye(4)[:, :2], start=start)


# --- data ----------------------------------------------------------------------------------------


TIMES = np.array([["2024-01-31"], ["2024-02-01"]], dtype="datetime64[D]")
NO_TIME = np.array([["2024-01-31"], ["NaT"]], dtype="datetime64[D]")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (np.ones(5), ValueError, r"Expected 2D array, got 1D array instead"),
        (3.0, ValueError, r"Expected 2D array, got scalar array instead"),
        (np.ones((2, 2, 2)), ValueError, "Found array with dim 3"),
        (np.ones((1, 2)), ValueError, r"1 sample\(s\) .*a minimum of 2 is required"),
        (np.ones((0, 2)), ValueError, r"0 sample\(s\)"),
        (np.ones((5, 0)), ValueError, r"0 feature\(s\) \(shape=\(5, 0\)\) while a minimum of 1"),
        (np.ones((5, 2)) + 1j, ValueError, "Complex data not supported"),
        ([["a", "b"]] * 3, ValueError, "arrays of bytes/strings"),
        ([[1.0, np.nan]] * 3, ValueError, r"Input X contains NaN\..*at \[0, 1\]"),
        ([[1.0, 2.0], [np.inf, 2.0]], ValueError, r"contains infinity .*at \[1, 0\]"),
        (np.ma.masked_equal([[1.0, 2.0]] * 3, 2.0), ValueError, "NaN, or masked values"),
        (TIMES, TypeError, r"X holds 2024-01-31 at \[0, 0\].*Count times from an orig"),
        (NO_TIME, ValueError, r"Input X contains NaN.*NaT at \[1, 0\].*Count times"),
        (TIMES - TIMES[0], TypeError, r"X holds 0 days at \[0, 0\]"),
    ],
)
def test_data_that_cannot_be_are_refused_in_the_words_of_scikit_learn(data, error, message):
    with pytest.raises(error, match=message):
        GaussianMixture().fit(data)


class NAType:
    """As much of pandas.NA as matters: its type's name, and no float()."""

    def __repr__(self):
        return "<NA>"


NO_NUMBERS = {
    "NA": (NAType(), ValueError, r"Input {} contains NaN.*<NA> at \[1.*Drop or impute"),
    "None": (None, ValueError, r"Input {} contains NaN.*None at \[1.*Drop or impute"),
    "NaT": (np.datetime64("NaT"), ValueError, r"Input {} contains NaN.*NaT at \[1.*Count times"),
    "date": (TIMES[1, 0], TypeError, r"not 'date.*{} holds 2024-02-01 at \[1.*Count times"),
    "thousands": ("1,234", ValueError, r"{} holds '1,234' at \[1.*thousands"),
    "underscore": ("1_2", ValueError, r"{} holds '1_2' at \[1.*thousands"),
    "dict": ({}, TypeError, r"must be a string or a real number, not 'dict', and {} holds"),
}


INITIAL = {"weights": "weights_init", "means": "means_init", "full precision": "precisions_init"}


@pytest.mark.parametrize("kind", NO_NUMBERS)
@pytest.mark.parametrize("name", ["X", "sample_weight", *INITIAL])
def test_entries_that_are_no_numbers_are_refused_with_their_place(x, kind, name):
    entry, error, message = NO_NUMBERS[kind]
    shape = {"X": (272, 2), "sample_weight": (272,), "weights": (2,), "means": (2, 2)}
    array = np.ones(shape.get(name, (2, 2, 2)), dtype=object)
    array[1] = entry
    data = {"X": x, **({name: array} if name in ("X", "sample_weight") else {})}
    options = {INITIAL[name]: array} if name in INITIAL else {}
    with pytest.raises(error, match=message.format(name)):
        GaussianMixture(2, **options).fit(**data)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"sample_weight.shape == \(3,\), expected \(272,\)"),
        (np.ones((272, 1)), "Sample weights must be 1D array"),
        (np.zeros(272), "at least one non-zero number"),
        (-np.ones(272), "Negative values in data passed to `sample_weight`"),
        (np.full(272, np.nan), "Input sample_weight contains NaN"),
        (np.ones(272) + 0j, "Complex data not supported"),
    ],
)
def test_weights_that_cannot_be_are_refused(x, weight, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture().fit(x, sample_weight=weight)


@pytest.mark.parametrize("kind", TYPES)
def test_criteria_of_weighted_rows_are_those_of_repeated_rows(x, kind):
    weight = np.random.default_rng(6).integers(0, 4, len(x))
    repeated = np.repeat(x, weight, axis=0)
    g = fitted(x, kind)
    for name in ("score", "bic", "aic"):
        weighted = getattr(g, name)(x, sample_weight=weight)
        assert weighted == pytest.approx(getattr(g, name)(repeated), rel=1e-13)
        assert getattr(g, name)(x, sample_weight=np.ones(len(x))) == pytest.approx(
            getattr(g, name)(x), rel=1e-14
        )
        with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
            getattr(g, name)(x, sample_weight=-weight)


def test_fewer_rows_than_components_are_refused(x):
    with pytest.raises(ValueError, match=r"Expected n_samples >= n_components but got"):
        GaussianMixture(12).fit(x[:10])
    weight = np.zeros(len(x))
    weight[:10] = 1
    with pytest.raises(ValueError, match=r"n_components = 12, n_samples = 10"):
        GaussianMixture(12).fit(x, sample_weight=weight)


def test_nothing_works_before_a_fit(x):
    g = GaussianMixture()
    for name in ("predict", "predict_proba", "score", "score_samples", "bic", "aic"):
        with pytest.raises(not_fitted_error(), match=r"instance is not fitted yet. Call 'fit'"):
            getattr(g, name)(x)
    for use in (g.sample, lambda: g.save("model.npz"), lambda: g.parameters_):
        with pytest.raises(not_fitted_error(), match="instance is not fitted yet"):
            use()


def test_width_is_that_of_the_fit(x):
    with pytest.raises(ValueError, match=r"X has 1 features, but GaussianMixture is expecting 2"):
        fitted(x).predict(x[:, :1])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("init", ["kmeans", "k-means++", "random", "random_from_data"])
@pytest.mark.filterwarnings("ignore")
def test_a_weighted_fit_is_that_of_repeated_rows(x, kind, init):
    rng = np.random.default_rng(3)
    weight = rng.integers(0, 4, len(x))
    repeated = rng.permutation(np.repeat(x, weight, axis=0))
    options = {"init_params": init, "max_iter": 15, "tol": 0, "random_state": 0}
    a, b = (GaussianMixture(3, covariance_type=kind, **options) for _ in range(2))
    a.fit(x, sample_weight=weight)
    b.fit(repeated)
    assert a.lower_bound_ == pytest.approx(b.lower_bound_, rel=1e-11)
    np.testing.assert_allclose(a.means_, b.means_, rtol=1e-8)


def test_a_stream_of_blocks_fits_as_an_array(x, tmp_path):
    whole = fitted(x)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for data in (np.array_split(x, 5), mapped, x.astype(object), x.tolist(), np.asfortranarray(x)):
        g = fitted(data)
        assert g.lower_bound_ == pytest.approx(whole.lower_bound_, rel=1e-10)
    with pytest.raises(TypeError, match="read only once"):
        fitted(iter(np.array_split(x, 5)))
    with pytest.raises(ValueError, match="fit_predict needs an array"):
        GaussianMixture().fit_predict(np.array_split(x, 5))


@pytest.mark.parametrize("kind", TYPES)
def test_partial_fit_of_a_stream_comes_close_to_the_fit_of_all(kind):
    rng = np.random.default_rng(4)
    centres = np.array([[0.0, 0.0], [5.0, 4.0], [-5.0, 3.0]])
    x = centres[rng.integers(3, size=6000)] + rng.standard_normal((6000, 2))
    g = GaussianMixture(3, covariance_type=kind, random_state=0)
    for block in np.array_split(x, 30):
        assert g.partial_fit(block) is g
    best = GaussianMixture(3, covariance_type=kind, random_state=0, tol=1e-8).fit(x)
    assert g.score(x) == pytest.approx(best.score(x), abs=5e-3)
    first = GaussianMixture(3, covariance_type=kind, random_state=0).fit(x[:200])
    assert g.score(x) > first.score(x)


@pytest.mark.parametrize("kind", TYPES)
def test_what_is_remembered_updates_to_the_parameters_themselves(x, kind):
    from gmm_np.solvers.stepwise_em import remember
    from gmm_np.sufficient_statistics import em_update

    g = fitted(x, kind, reg_covar=1e-2)
    updated, collapsed = em_update(
        g.parameters_, remember(g.parameters_, 50.0, 1e-2), reg_covar=1e-2
    )
    assert not collapsed.any()
    np.testing.assert_allclose(updated.scale, g.parameters_.scale, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(updated.means, g.means_, rtol=1e-14)
    np.testing.assert_allclose(np.exp(updated.pi_logits), g.weights_, rtol=1e-13)


def test_partial_fit_takes_no_priors(x):
    g = fitted(x, priors=(Dirichlet(2.0),))
    with pytest.raises(ValueError, match="would count the priors again"):
        g.partial_fit(x)


@pytest.mark.parametrize("solver", SOLVERS)
def test_ctrl_c_keeps_the_best_so_far(x, solver):
    def stop(iteration, _):
        if iteration == 3:
            raise KeyboardInterrupt

    g = GaussianMixture(3, solver=solver, tol=0, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        g.fit(x, callback=stop)
    assert g.n_iter_ == 3
    assert not g.converged_
    assert np.isfinite(g.score(x))


def test_verbose_prints_what_scikit_learn_prints(x, capsys):
    GaussianMixture(2, random_state=0, verbose=1, verbose_interval=2, n_init=2).fit(x)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "Initialization 0"
    assert "  Iteration 2" in out
    assert "Initialization converged." in out
    assert "Initialization 1" in out
    GaussianMixture(2, random_state=0, verbose=2, verbose_interval=1).fit(x)
    out = capsys.readouterr().out
    assert "\t time lapse " in out
    assert "\t ll change " in out
    assert "\t lower bound -4." in out


# --- parameters, copies, files -------------------------------------------------------------------


def test_parameters_are_shown_set_and_got():
    g = GaussianMixture(3, tol=1e-4, weights_init=np.ones(3) / 3)
    assert repr(g).startswith("GaussianMixture(n_components=3, tol=0.0001, weights_init=array(")
    assert g.get_params()["tol"] == 1e-4
    assert g.set_params(tol=1e-5, solver="adam") is g
    assert (g.tol, g.solver) == (1e-5, "adam")
    with pytest.raises(ValueError, match=r"Invalid parameter 'tool' for estimator"):
        g.set_params(tool=1)
    assert g.tol == 1e-5


def rows_of(html):
    """Return the rows of a table, each as what its cells say."""
    # The parser refuses what is not well formed, a value that is not escaped above all.
    tree = ET.fromstring(f"<body>{html}</body>")
    return [["".join(cell.itertext()) for cell in row] for row in tree.iter("tr")]


def test_a_notebook_shows_parameters_in_a_table_and_whether_there_was_a_fit(x):
    g = GaussianMixture(3, tol=1e-4, means_init=np.linspace(0.0, 1.0, 60).reshape(3, 20))
    rows = dict(rows_of(g._repr_html_()))
    assert [*rows] == [*GaussianMixture._defaults()]
    assert rows["n_components"] == "3"
    assert rows["covariance_type"] == "'full'"
    assert rows["means_init"].startswith("array([[0.")
    assert len(rows["means_init"]) == 100  # an array is cut, and on one line
    assert rows["means_init"].endswith(" ...")
    assert "\n" not in rows["means_init"]
    assert "not fitted" in g._repr_html_()
    assert "not fitted" not in g.set_params(means_init=None).fit(x)._repr_html_()
    assert "<b>tol</b>" in g._repr_html_()  # what differs from its default stands out
    assert "<b>reg_covar</b>" not in g._repr_html_()


def test_a_notebook_shows_values_as_text_and_not_as_html():
    g = GaussianMixture(covariance_type="<script>alert('a & b')</script>")
    assert "<script" not in g._repr_html_()
    assert dict(rows_of(g._repr_html_()))["covariance_type"] == repr(g.covariance_type)


@pytest.mark.parametrize("kind", TYPES)
def test_copies_and_files_predict_the_same(x, kind, tmp_path):
    g = fitted(x, kind)
    path = tmp_path / "model.npz"
    g.save(path)
    for other in (pickle.loads(pickle.dumps(g)), copy.deepcopy(g), GaussianMixture.load(path)):
        np.testing.assert_array_equal(other.predict_proba(x), g.predict_proba(x))
        np.testing.assert_array_equal(other.covariances_, g.covariances_)
        assert other.lower_bounds_ == g.lower_bounds_
        assert repr(other) == repr(g)
        assert other.n_features_in_ == 2
    other.partial_fit(x)  # what was loaded goes on learning


def test_attributes_set_by_hand_are_used(x):
    g = fitted(x)
    g.means_ = g.means_ + 1.0
    np.testing.assert_array_equal(g.parameters_.means, g.means_)
    other = GaussianMixture(2)
    other.weights_, other.means_ = g.weights_, g.means_
    other.precisions_cholesky_ = g.precisions_cholesky_
    np.testing.assert_allclose(other.score_samples(x), g.score_samples(x), rtol=1e-12)
    g.means_[0, 0] += 1.0  # in place
    assert g.parameters_.means[0, 0] == g.means_[0, 0]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("total", [0.01, 0.5, 40.0])
def test_weights_set_by_hand_count_in_proportion_whatever_their_sum(x, kind, total, tmp_path):
    g, expected = fitted(x, kind), fitted(x, kind)
    expected.weights_ = np.array([0.125, 0.875])
    g.weights_ = total * expected.weights_
    for name in ("score_samples", "predict_proba", "predict", "score", "bic"):
        found, wanted = getattr(g, name)(x), getattr(expected, name)(x)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, err_msg=name)
    for found, wanted in zip(g.sample(2000), expected.sample(2000), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert np.mean(g.sample(2000)[1]) == pytest.approx(0.875, abs=0.03)  # four deviations
    g.save(tmp_path / "model.npz")
    loaded = GaussianMixture.load(tmp_path / "model.npz")
    np.testing.assert_allclose(loaded.weights_, [0.125, 0.875], rtol=1e-14)
    for goes_on in (
        lambda m: copy.deepcopy(m).partial_fit(x[:50]),
        lambda m: copy.deepcopy(m).set_params(warm_start=True, max_iter=1000).fit(x),
    ):
        np.testing.assert_allclose(goes_on(g).weights_, goes_on(expected).weights_, rtol=1e-9)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("weights_", [-1.0, 2.0], "weights_ has negative values: 1 of 2, the first -1.0 at comp"),
        ("weights_", [0.0, 0.0], "weights_ is zero for every component"),
        ("weights_", [np.nan, 1.0], "weights_ has values that are not finite: 1 of 2"),
        ("weights_", [1.0], r"weights_ and means_ disagree.*\(1,\).*\(2, 2\)"),
        ("means_", [1.0, 2.0], r"means_ must have two axes \[K, D\]; got shape \(2,\)"),
        ("means_", [[1.0, 2.0], [np.inf, 1.0]], "means_ has values that are not finite: 1 of 4"),
        ("precisions_cholesky_", np.eye(2), r"precisions_cholesky_ must have shape \(2, 2, 2\)"),
    ],
)
def test_attributes_that_cannot_be_are_refused_by_name(x, attribute, value, message):
    g = fitted(x)
    setattr(g, attribute, value)
    for use in (lambda: g.score(x), g.sample, lambda: g.save("no.npz")):
        with pytest.raises(ValueError, match=message):
            use()


@pytest.mark.parametrize("kind", TYPES)
def test_what_is_no_factor_of_a_precision_is_refused_by_its_name(x, kind):
    valid = fitted(x, kind).precisions_cholesky_
    negative, missing, tiny = -valid, np.full(valid.shape, np.nan), valid * 1e-320
    cases = [(negative, "that are not positive"), (missing, "not finite"), (tiny, "beyond the r")]
    if kind in ("full", "tied"):
        units = np.array([1e-6, 1e6])[:, None]
        symmetric = np.broadcast_to([[2.0, 0.5], [0.5, 1.0]], valid.shape)
        skew = np.broadcast_to([[1.0, 0.5], [1e-4, 1.0]], valid.shape)
        cases += [(units * m, "on both sides of the diagonal") for m in (symmetric, skew)]
    for value, message in cases:
        g = fitted(x, kind)
        g.precisions_cholesky_ = value
        with pytest.raises(ValueError, match=f"^precisions_cholesky_ .*{message}"):
            g.score(x)


@pytest.mark.parametrize("kind", TYPES)
def test_a_mixture_from_parameters_is_the_one_they_were_taken_from(x, kind, tmp_path):
    g = fitted(x, kind)
    made = GaussianMixture.from_parameters(
        g.weights_, g.means_, g.covariances_, covariance_type=kind, random_state=0
    )
    assert (
        made.get_params() == GaussianMixture(2, covariance_type=kind, random_state=0).get_params()
    )
    np.testing.assert_allclose(made.score_samples(x), g.score_samples(x), rtol=1e-12)
    np.testing.assert_allclose(made.sample(20)[0], g.sample(20)[0], rtol=1e-12)
    assert made.bic(x) == pytest.approx(g.bic(x), rel=1e-13)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        np.testing.assert_allclose(getattr(made, name), getattr(g, name), rtol=1e-12, atol=1e-14)
    assert (made.n_iter_, made.converged_, made.n_features_in_) == (0, False, 2)
    made.save(tmp_path / "made.npz")
    loaded = GaussianMixture.load(tmp_path / "made.npz")
    np.testing.assert_array_equal(loaded.predict_proba(x), made.predict_proba(x))
    # It goes on learning, from there.
    for again in (made, loaded):
        step = copy.deepcopy(again).partial_fit(x)
        assert step.n_iter_ == 1
        assert step.score(x) == pytest.approx(g.score(x), abs=1e-6)
        assert again.set_params(warm_start=True).fit(x).score(x) == pytest.approx(
            g.score(x), abs=1e-6
        )


def test_attributes_set_by_hand_go_on_learning(x):
    g, other = fitted(x), GaussianMixture(2)
    for name in ("weights_", "means_", "precisions_cholesky_"):
        setattr(other, name, getattr(g, name))
    assert other.partial_fit(x).score(x) == pytest.approx(g.score(x), abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [0.5, 0.4]}, "weights must add up to 1; got a sum of 0.9"),
        ({"means": [[0.0, 0.0]]}, "weights and means disagree"),
        ({"covariances": np.eye(2)}, r'covariances must have .* fit covariance_type="tied" or "di'),
        ({"covariances": np.ones((2, 2, 2))}, "not positive definite: 2 of 2, the first at comp"),
        ({"covariances": [[[1, 0], [1, 1]]] * 2}, "not symmetric: 4 of 8, the first 0.0 at comp"),
        ({"covariance_type": "constant"}, "'covariance_type' parameter of GaussianMixture must"),
        ({"covariance_type": "diag"}, r'would fit covariance_type="full"\.$'),
        ({"tol": -1.0}, "'tol' parameter of GaussianMixture must"),
    ],
)
def test_parameters_that_cannot_be_make_no_mixture(changes, message):
    valid = {"weights": [0.5, 0.5], "means": np.eye(2), "covariances": [np.eye(2)] * 2}
    with pytest.raises(ValueError, match=message):
        GaussianMixture.from_parameters(**{**valid, **changes})


def test_a_file_is_written_whole_or_not_at_all(x, tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    fitted(x).save(path)
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        fitted(x).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.npz"]
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        fitted(x).save(tmp_path / "no" / "model.npz")


def rewritten(path, changes):
    """Write the members of a model to another file, some of them changed or left out."""
    with np.load(path) as archive:
        members = {name: archive[name] for name in archive.files}
    for name, value in changes.items():
        if value is None:
            del members[name]
        else:
            members[name] = value
    broken = path.with_name("broken.npz")
    np.savez(broken, **members)
    return broken


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means": None}, "its members are"),
        ({"extra": np.ones(1)}, "its members are"),
        ({"format": np.array("other/1")}, "its format is 'other/1'"),
        ({"means": np.full((2, 2), np.nan)}, "not finite"),
        ({"means": np.zeros((3, 2))}, "disagree"),
        ({"scale": -np.ones((2, 2, 2))}, "not positive"),
        ({"scale": np.array(["x"])}, "scale is an array of <U1"),
        ({"family": np.array("round")}, "family must be one of"),
        ({"family": np.array("constant")}, "covariance_type and family disagree"),
        ({"hyperparameters": np.array("{")}, "hyperparameters are not JSON"),
        ({"hyperparameters": np.array("[]")}, "names that GaussianMixture does not know"),
        ({"hyperparameters": np.array('{"a": 1}')}, "names that GaussianMixture does not know"),
        ({"feature_names": np.array(["a"])}, "1 feature names for 2"),
        ({"lower_bounds": np.array([np.inf])}, "not finite"),
        ({"weight_seen": np.array(-1.0)}, "not finite"),
        ({"n_iter": np.array(-1)}, "n_iter is negative"),
        ({"collapsed": np.array([2])}, "collapsed names components that are not there"),
    ],
)
def test_a_broken_model_file_is_refused(x, tmp_path, changes, message):
    path = tmp_path / "model.npz"
    fitted(x).save(path)
    with pytest.raises(ValueError, match=r"broken.npz is not a model.*" + message):
        GaussianMixture.load(rewritten(path, changes))


def test_hyperparameters_of_a_file_are_checked(x, tmp_path):
    path = tmp_path / "model.npz"
    fitted(x).save(path)
    kept = {"covariance_type": "full", "n_components": 2, "tol": -1.0}
    with pytest.raises(ValueError, match="tol"):
        GaussianMixture.load(rewritten(path, {"hyperparameters": np.array(json.dumps(kept))}))


def test_a_file_that_is_no_model_is_refused(x, tmp_path):
    path = tmp_path / "model.npz"
    fitted(x).save(path)
    whole = path.read_bytes()
    array, objects, empty = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, x)
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    zipfile.ZipFile(empty, "w").close()
    streams = [stream.getvalue() for stream in (array, objects, empty)]
    for content in (b"", b"text", whole[:-40], whole[: len(whole) // 2], *streams):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model.npz is not a model"):
            GaussianMixture.load(path)
    with pytest.raises(FileNotFoundError):
        GaussianMixture.load(tmp_path / "missing.npz")


def printed_by(code):
    """What code prints in a fresh interpreter in which a warning is an error."""
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return run.stdout or run.stderr


def test_everything_works_without_scikit_learn():
    code = (
        "import sys, warnings\n"
        "sys.modules['sklearn'] = None\n"  # an import of it fails
        "import numpy as np\n"
        "from gmm_np import GaussianMixture\n"
        "from gmm_np.datasets import load_old_faithful\n"
        "from gmm_np.mixture.sklearn_compat import ConvergenceWarning, NotFittedError\n"
        "x, _ = load_old_faithful()\n"
        "g = GaussianMixture(2, random_state=0)\n"
        "try: g.predict(x)\n"
        "except NotFittedError as error: assert isinstance(error, (ValueError, AttributeError))\n"
        "else: raise SystemExit('no error')\n"
        "g.fit(x).predict(x)\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    GaussianMixture(2, tol=0, max_iter=2).fit(x)\n"
        "assert [w.category for w in seen] == [ConvergenceWarning], seen\n"
        "assert 'not fitted' in GaussianMixture()._repr_html_()\n"
        "for method in (g.get_metadata_routing, g.set_fit_request):\n"
        "    try: method()\n"
        "    except ImportError as error: assert 'pip install scikit-learn' in str(error)\n"
        "    else: raise SystemExit('no error')\n"
        "assert not [n for n in sys.modules if n.startswith('sklearn.')]\n"
        "print('works')\n"
    )
    assert printed_by(code) == "works\n"


def test_the_estimator_is_loaded_when_it_is_first_asked_for():
    code = (
        "import sys, gmm_np\n"
        "assert 'gmm_np.mixture' not in sys.modules\n"
        "assert 'GaussianMixture' in dir(gmm_np)\n"
        "gmm_np.GaussianMixture\n"
        "assert 'gmm_np.mixture' in sys.modules\n"
        "assert not {'scipy.optimize', 'scipy.cluster', 'sklearn'} & sys.modules.keys()\n"
        "try: gmm_np.nonsense\n"
        "except AttributeError as error: print(error)\n"
    )
    assert printed_by(code) == "module 'gmm_np' has no attribute 'nonsense'\n"


def test_a_model_file_keeps_which_components_collapsed(tmp_path):
    x = np.concatenate([np.random.default_rng(0).normal(size=(50, 2)), np.full((20, 2), 9.0)])
    mixture = GaussianMixture(2, random_state=0)
    with pytest.warns(UserWarning, match="collapsed"):
        mixture.fit(x)
    assert len(mixture.collapsed_) == 1
    mixture.save(tmp_path / "m.npz")
    assert GaussianMixture.load(tmp_path / "m.npz").collapsed_ == mixture.collapsed_
    before = rewritten(tmp_path / "m.npz", {"collapsed": None})  # as files were before it was kept
    assert GaussianMixture.load(before).collapsed_ == []


# --- second derivatives ---------------------------------------------------------------------------


def test_newton_after_em_is_at_the_maximum(x):
    g = fitted(x, solver="em+newton", reg_covar=0)
    p = g.parameters_
    _, gradients = nll_value_and_grad(x, p.pi_logits, p.means, p.scale)
    assert max(np.abs(block).max() for block in gradients[:3]) < 1e-12
    assert g.converged_
    em = fitted(x, reg_covar=0, tol=1e-3)
    assert g.lower_bound_ >= em.lower_bound_
    assert np.diff(g.lower_bounds_).min() > -1e-12


def test_newton_after_em_keeps_ems_fit_where_a_floor_is_needed():
    x = np.vstack([np.zeros((20, 2)), np.random.default_rng(0).normal(5, 1, (50, 2))])
    with pytest.warns(Warning, match="in some direction reg_covar"):
        g = GaussianMixture(2, solver="em+newton", random_state=0, max_iter=500).fit(x)
    assert g.collapsed_


@pytest.mark.parametrize("kind", TYPES)
def test_standard_errors_and_the_side_of_x_are_those_of_the_functions(x, kind):
    g = fitted(x, kind, solver="em+newton", reg_covar=0)
    p = g.parameters_
    mixture = (p.pi_logits, p.means, p.scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = g.standard_errors(x)
    assert np.array_equal(found.means, gmm_np.standard_errors(x, p).means)
    own = g.standard_errors(x, np.ones(len(x)), kind="sandwich")
    assert np.allclose(own.means, gmm_np.standard_errors(x, p, kind="sandwich").means, rtol=1e-9)
    assert np.array_equal(g.log_prob_grad(x), gmm_np.log_prob_grad(x, *mixture, family=kind))
    assert np.array_equal(g.log_prob_hess(x), gmm_np.log_prob_hess(x, *mixture, family=kind))
    assert np.array_equal(g.modes().points, gmm_np.modes(*mixture, family=kind).points)


def test_standard_errors_on_other_rows_than_those_of_the_fit_say_so(x):
    g = fitted(x[:100], reg_covar=0)
    with pytest.warns(UserWarning, match="Newton's method would move them"):
        g.standard_errors(x)
