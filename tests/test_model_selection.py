"""The choice among mixtures: what is never chosen, and what a larger mixture cannot be."""

import warnings

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from gmm_np import GaussianMixture, Parameters, nll
from gmm_np.datasets import load_old_faithful, make_clusters
from gmm_np.mixture.sklearn_compat import convergence_warning
from gmm_np.model_selection import (
    SLACK,
    NothingFittedError,
    SelectionInterrupted,
    bootstrap_test,
    cross_validate,
    select,
)
from gmm_np.solvers.noisy_data import NoisyData
from gmm_np.solvers.results import Data
from gmm_np.solvers.splitting import judge_components, split, split_starts

FAMILIES = ("full", "tied", "diag", "spherical", "shared_spherical")
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # of fits, but where they are looked at


@pytest.fixture(scope="module")
def rain():
    """A column with many zeros, on which a component collapses, and another."""
    rng = np.random.default_rng(3)
    first = np.maximum(rng.normal(1.0, 2.0, 120), 0.0).round(3)
    return np.column_stack([first, rng.normal(12.0, 4.0, 120)])


def by_size(selection):
    """Return the candidates that were fitted, the smallest first."""
    return sorted((c for c in selection.candidates if c.criteria), key=lambda c: c.n_components)


# --- collapsed components -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.needs_extras
def test_what_is_chosen_of_iris_has_no_collapsed_component_at_any_seed():
    from sklearn.datasets import load_iris

    x = load_iris().data[:, :2]
    for seed in (0, 3, 9):  # of ten, 0, 3, 7 and 9 choose a collapsed mixture where it is allowed
        found = select(x, range(1, 10), random_state=seed)
        assert found.best.n_components == 2
        assert found.best.criteria["bic"] == pytest.approx(506.948, abs=1e-3)


def test_a_collapsed_mixture_is_not_chosen_unless_it_is_allowed(rain):
    found = select(rain, [1, 2], random_state=0)
    assert [(c.n_components, bool(c.collapsed)) for c in found.candidates] == [
        (1, False),
        (2, True),
    ]
    sound, collapsed = (c.criteria["bic"] for c in found.candidates)
    assert collapsed < sound
    assert str(found).splitlines()[2].endswith("  collapsed")
    allowed = select(rain, [1, 2], random_state=0, allow_collapsed=True)
    assert allowed.best.n_components == 2
    assert allowed.best.collapsed
    assert allowed.best.criteria["bic"] <= collapsed


def test_where_all_have_collapsed_the_smallest_is_chosen_with_a_warning(rain):
    x = np.column_stack([rain[:, 0], np.ones(len(rain))])
    with pytest.warns(convergence_warning(), match=r"the smallest was taken, full, K = 1\."):
        found = select(x, [2, 1], random_state=0)
    assert all(c.collapsed for c in found.candidates)
    assert found.best.n_components == 1
    assert min(c.criteria["bic"] for c in found.candidates) < found.best.criteria["bic"]


def test_of_several_starts_one_without_a_collapsed_component_is_kept():
    x, _, _ = make_clusters(200, 5, 2, seed=1)
    one = GaussianMixture(7, tol=1e-5, reg_covar=1e-6 * x.var(axis=0), random_state=1).fit(x)
    assert one.collapsed_
    several = select(x, 7, n_init=6, tol=1e-5, random_state=1).best
    assert not several.collapsed
    # Which is not the highest likelihood: the estimator would have kept the other.
    assert several.objective > -one.lower_bound_


# --- starts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "n_init"), list(zip(FAMILIES, (1, 3, 1, 3, 1), strict=True)))
def test_a_larger_mixture_is_never_worse(family, n_init):
    x, _, _ = make_clusters(150, 4, 2, seed=4)
    found = select(
        x, [1, 2, 3, 5, 6], families=family, n_init=n_init, init_params="random", random_state=1
    )
    sound = [c for c in by_size(found) if not c.collapsed]
    assert len(sound) >= 4
    losses = [c.criteria["nll"] for c in sound]
    assert (np.diff(losses) < SLACK).all()
    assert all(c.worse_than is None for c in sound)


def test_where_a_larger_mixture_came_out_worse_it_starts_again_and_says_so():
    x, _, _ = make_clusters(120, 4, 2, seed=0)
    options = {"tol": 1e-6, "max_iter": 1000, "reg_covar": 1e-6 * x.var(axis=0)}
    options |= {"init_params": "random", "random_state": 0}
    three, four = (
        -GaussianMixture(k, covariance_type="diag", **options).fit(x).lower_bound_ for k in (3, 4)
    )
    assert four > three + 0.01
    found = select(x, [3, 4], families="diag", n_init=1, **options)
    smaller, larger = by_size(found)
    assert larger.objective < three - 0.1
    (note,) = larger.notes
    assert note.startswith(f"the NLL, {four:.6f}, was above that of K = 3, {three:.6f}; started")
    assert note.endswith(f"from a split of K = 3, it is {larger.objective:.6f}")
    assert (smaller.notes, len(smaller.histories), len(larger.histories)) == ([], 1, 2)


def test_a_first_candidate_is_what_the_estimator_fits():
    x, _, _ = make_clusters(300, 3, 2, seed=0)
    floor = 1e-6 * x.var(axis=0)
    alone = GaussianMixture(3, n_init=4, tol=1e-6, max_iter=1000, random_state=5, reg_covar=floor)
    alone.fit(x)
    found = select(x, 3, n_init=4, random_state=5)
    assert found.model.means_.tolist() == alone.means_.tolist()
    for name in ("n_init", "random_state"):
        assert getattr(found.model, name) == getattr(alone, name)
    assert len(found.best.histories) == 4
    assert [len(c.histories) for c in by_size(select(x, [2, 3], random_state=5))] == [3, 3]


@pytest.mark.parametrize("family", [*FAMILIES, "constant"])
def test_a_split_keeps_mean_and_covariance(family):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)) * [1.0, 5.0, 0.2] + rng.integers(0, 2, (400, 1))
    kind = "full" if family == "constant" else family
    p = GaussianMixture(3, covariance_type=kind, random_state=0, tol=1e-2).fit(x).parameters_
    p = Parameters(p.pi_logits, p.means, p.scale, family)

    def moments(q):
        centred = q.means - q.weights() @ q.means
        covariances = q.covariances() + np.einsum("ki,kj->kij", centred, centred)
        return q.weights() @ q.means, np.einsum("k,kij->ij", q.weights(), covariances)

    axis = np.array([0.0, 1.0, 0.0]) if family == "diag" else np.array([1.0, 2.0, -0.1])
    two = split(p, 1, axis, 0.7)
    assert (two.n_components, two.family) == (4, family)
    assert two.weights()[[1, 3]] == pytest.approx([p.weights()[1] / 2] * 2)
    assert np.cross(two.means[3] - two.means[1], axis) == pytest.approx([0.0] * 3, abs=1e-12)
    before, after = moments(p), moments(two)
    np.testing.assert_allclose(after[0], before[0], rtol=1e-12)
    if family == "constant":
        assert two.scale[3].tolist() == p.scale[1].tolist()
    elif "spherical" in family:
        assert np.trace(after[1]) == pytest.approx(np.trace(before[1]), rel=1e-12)
    else:
        np.testing.assert_allclose(after[1], before[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("units", [[1.0, 1.0], [1e-6, 1e9]])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_component_that_covers_two_clusters_is_split_between_them(family, units):
    rng = np.random.default_rng(1)
    centres = np.array([[0.0, 0.0], [0.0, 4.0], [15.0, 2.0]])
    x = np.repeat(centres, 100, axis=0) + 0.3 * rng.normal(size=(300, 2))
    if "spherical" not in family:  # where a unit is the same in every column
        x *= units
    owner = np.repeat([1, 1, 0], 100)  # component 1 covers two clusters
    means = np.stack([x[owner == k].mean(axis=0) for k in (0, 1)])
    wide = np.stack([np.cov(x[owner == k].T, bias=True) for k in (0, 1)])
    of_family = {
        "full": wide,
        "tied": (wide[0] + 2 * wide[1]) / 3,
        "diag": np.diagonal(wide, axis1=1, axis2=2),
        "spherical": np.trace(wide, axis1=1, axis2=2) / 2,
        "shared_spherical": (np.trace(wide[0]) + 2 * np.trace(wide[1])) / 6,
    }[family]
    p = Parameters.from_covariances([1 / 3, 2 / 3], means, of_family, family)
    misfit, axes = judge_components(Data(x).sample(np.random.default_rng(0)), p)
    assert misfit.argmax() == 1
    along = np.abs(axes[1]) / x.std(axis=0)
    assert along[1] > 5 * along[0]
    start = next(split_starts(Data(x), p, 3))
    mixture = GaussianMixture(3, covariance_type=family, reg_covar=0.0).fit(x, start=start)
    found = mixture.means_[np.argsort(mixture.means_ @ (1 / x.std(axis=0)))]
    np.testing.assert_allclose(
        found, x.reshape(3, 100, 2).mean(axis=1), atol=0.05 * x.std(axis=0).min(), rtol=0.05
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_components", [3, 5])
def test_starts_from_a_split_are_not_worse(family, n_components):
    x, _, _ = make_clusters(200, 3, 2, seed=7)
    x = x[:, :2]
    p = GaussianMixture(2, covariance_type=family, random_state=0, tol=1e-8).fit(x).parameters_
    before = nll(x, p.pi_logits, p.means, p.scale, family=family)
    starts = list(split_starts(Data(x), p, n_components))
    assert len(starts) == n_components - 1  # one for each component that may be the last to split
    for q in starts:
        assert (q.n_components, q.family) == (n_components, family)
        assert nll(x, q.pi_logits, q.means, q.scale, family=family) < before + 1e-9


# --- criteria -------------------------------------------------------------------------------------


def test_the_criteria_are_their_definitions():
    x, _ = load_old_faithful()
    weight = np.random.default_rng(0).integers(0, 3, len(x)).astype(float)
    found = select(x, [2, 3], sample_weight=weight, random_state=0).best
    p, n = found.model.parameters_, weight.sum()
    loss = nll(x, p.pi_logits, p.means, p.scale, sample_weight=weight)
    resp = found.model.predict_proba(x)
    entropy = -(weight @ np.where(resp > 0, resp * np.log(np.maximum(resp, 1e-300)), 0.0)).sum()
    bic = 2 * n * loss + found.n_parameters * np.log(n)
    assert found.criteria == pytest.approx(
        {
            "nll": loss,
            "log_likelihood": -n * loss,
            "bic": bic,
            "aic": 2 * n * loss + 2 * found.n_parameters,
            "icl": bic + 2 * entropy,
        },
        rel=1e-12,
    )
    assert found.model.icl(x, weight) == pytest.approx(bic + 2 * entropy, rel=1e-12)
    assert found.model.icl(np.repeat(x, weight.astype(int), axis=0)) == pytest.approx(
        found.model.icl(x, weight), rel=1e-12
    )
    assert found.n_samples == len(x)


def test_icl_wants_components_that_lie_apart_where_bic_wants_the_density():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (300, 2)), rng.normal(0, 3, (300, 2))])
    assert [
        select(x, [1, 2], criterion=c, random_state=0).best.n_components for c in ("bic", "icl")
    ] == [2, 1]
    apart = np.concatenate([rng.normal(0, 1, (100, 2)), rng.normal(20, 1, (100, 2))])
    assert select(apart, [1, 2], criterion="icl", random_state=0).best.n_components == 2


def test_families_compete_by_their_parameters():
    x = np.random.default_rng(0).normal(size=(300, 2))
    found = select(x, [1], families=["full", "spherical"], random_state=0)
    assert [c.n_parameters for c in sorted(found.candidates, key=lambda c: c.family)] == [5, 3]


# --- data, errors, interruptions ------------------------------------------------------------------


def test_blocks_and_weights_give_what_memory_gives():
    x, _, _ = make_clusters(200, 2, 2, seed=1)
    weight = np.random.default_rng(0).integers(0, 3, 200).astype(float)
    cuts = [50, 150]
    blocks = {"x": np.split(x, cuts), "sample_weight": np.split(weight, cuts)}
    held = select(x, [1, 2], sample_weight=weight, random_state=0)
    streamed = select(blocks["x"], [1, 2], sample_weight=blocks["sample_weight"], random_state=0)
    repeated = select(np.repeat(x, weight.astype(int), axis=0), [1, 2], random_state=0)
    for other in (streamed, repeated):
        assert other.best.n_components == held.best.n_components
        assert other.best.criteria == pytest.approx(dict(held.best.criteria), rel=1e-6)


def test_what_cannot_be_fitted_is_left_with_its_error():
    x = np.array([[1.0], [2.0], [3.0], [4.0]])
    found = select(x, [9, 1], random_state=0)
    assert [c.n_components for c in found.candidates] == [1, 9]
    assert "there are 4 distinct rows of positive weight, too few for K = 9" in str(
        found.candidates[1].error
    )
    assert str(found).splitlines()[2].endswith("failed")
    with pytest.raises(NothingFittedError, match="none of 2 candidates can be fitted; the last: "):
        select(x, [8, 9])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_components": []}, "n_components must hold at least one number"),
        ({"n_components": [0]}, "n_components must be whole numbers from 1; got 0"),
        ({"n_components": 2.0}, "n_components must be whole numbers from 1; got 2.0"),
        ({"families": "round"}, "families must be .*; got 'round'"),
        ({"families": []}, "families must name at least one"),
        ({"criterion": "dic"}, "criterion must be .*; got 'dic'"),
        ({"n_init": 0}, "'n_init' parameter"),
        ({"tol": -1.0}, "'tol' parameter"),
        ({"covariance_type": "full"}, "covariance_type: leave it out"),
    ],
)
def test_arguments_that_cannot_be_are_refused_before_any_fit(arguments, message):
    def never(*_):
        raise AssertionError("a fit began")

    with pytest.raises((TypeError, ValueError), match=message):
        select([[0.0], [1.0], [3.0]], callback=never, **arguments)


@pytest.mark.parametrize("when", [("K = 1", 1), ("K = 2", 2)])
def test_an_interruption_comes_with_the_best_until_then(when):
    x, _, _ = make_clusters(100, 2, 2, seed=1)

    def stop(candidate, iteration, loss):
        del loss
        if candidate.name.endswith(when[0]) and iteration == 2:
            raise KeyboardInterrupt

    with pytest.raises(SelectionInterrupted) as caught:
        select(x, [1, 2, 3], random_state=0, callback=stop)
    selection = caught.value.selection
    assert [c.n_components for c in selection.candidates] == [1]
    assert selection.model.means_[0] == pytest.approx(x.mean(axis=0))
    assert bool(selection.best.criteria) == (when[1] == 2)


def test_the_chosen_mixture_is_saved_as_any_other(tmp_path):
    x, _, _ = make_clusters(100, 2, 2, seed=1)
    model = select(x, [1, 2], random_state=3).model
    model.save(tmp_path / "m.npz")
    loaded = GaussianMixture.load(tmp_path / "m.npz")
    assert (loaded.random_state, loaded.n_init) == (3, 3)
    np.testing.assert_array_equal(loaded.means_, model.means_)


def test_only_what_the_chosen_fit_warned_of_is_warned_of():
    x, _, _ = make_clusters(100, 2, 2, seed=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        select(x, [1, 2], random_state=0, max_iter=3)
    assert len(caught) <= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        select(x, [1, 2], random_state=0)


def test_data_with_noise_have_no_criteria():
    x = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(TypeError, match="data with noise, for which there are no criteria"):
        select(NoisyData(x, np.ones((20, 2))), [1, 2])


# --- rows held out --------------------------------------------------------------------------------


def test_scores_are_those_of_rows_held_out():
    x, _, _ = make_clusters(80, 2, 2, seed=4)
    weight = np.random.default_rng(0).integers(1, 3, size=80).astype(float)
    seen = []
    options = {"n_init": 1, "max_iter": 50}
    found = cross_validate(
        x, [1, 2], families=["full", "diag"], n_folds=4, sample_weight=weight, random_state=1,
        callback=lambda *done: seen.append(done), **options,
    )  # fmt: skip
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(found.scores) == 4
    values = [score.log_likelihood for score in found.scores]
    assert values == sorted(values, reverse=True)
    # By hand, of one normal distribution, which a fit finds at once.
    rng = np.random.default_rng(1)
    fold = rng.permutation(np.arange(80) % 4)
    by_fold, totals = [], []
    for f in range(4):
        inside, w = x[fold != f], weight[fold != f]
        mean = w @ inside / w.sum()
        covariance = (w[:, None] * (inside - mean)).T @ (inside - mean) / w.sum()
        out = weight[fold == f]
        density = multivariate_normal(mean, covariance).logpdf(x[fold == f])
        by_fold.append(out @ density / out.sum())
        totals.append(out.sum())
    score = next(s for s in found.scores if (s.family, s.n_components) == ("full", 1))
    np.testing.assert_allclose(score.by_fold, by_fold, rtol=1e-5)  # a floor of a millionth
    assert score.log_likelihood == pytest.approx(np.average(score.by_fold, weights=totals))
    assert score.standard_error == pytest.approx(np.std(score.by_fold, ddof=1) / 2)
    again = cross_validate(
        x, [1, 2], families=["full", "diag"], n_folds=4, sample_weight=weight, random_state=1,
        **options,
    )  # fmt: skip
    assert str(again) == str(found)


def test_held_out_rows_choose_the_number_of_clusters():
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(c, 1.0, size=(60, 2)) for c in (-5.0, 0.0, 5.0)])
    found = cross_validate(x, [1, 2, 3, 5], n_folds=3, n_init=2, random_state=0, max_iter=50)
    assert found.simplest.n_components == 3
    assert found.best.n_components in (3, 5)
    assert "log-likelihood" in str(found)


def test_messages_of_folds_say_what_is_wanted():
    x = np.random.default_rng(0).normal(size=(6, 1))
    with pytest.raises(ValueError, match="n_folds must be from 2 to the number of rows, 6; got 7"):
        cross_validate(x, 1, n_folds=7)
    with pytest.raises(ValueError, match="without a row of positive weight"):
        cross_validate(x, 1, n_folds=6, sample_weight=[1, 1, 1, 1, 1, 0], random_state=0)


# --- the likelihood-ratio test --------------------------------------------------------------------


def test_statistic_is_twice_the_gain_and_two_clusters_are_found():
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(-4, 1, size=(30, 1)), rng.normal(4, 1, size=(30, 1))])
    seen, options = [], {"n_bootstrap": 5, "n_init": 1, "tol": 1e-4, "random_state": 0}
    found = bootstrap_test(x, 1, callback=lambda *done: seen.append(done), **options)
    gain = 60 * (found.larger.score(x) - found.smaller.score(x))
    assert found.statistic == pytest.approx(2 * gain, rel=1e-9)
    assert found.p_value == 1 / 6
    assert (found.bootstrap < found.statistic).all()
    assert seen[-1] == (5, 5)
    again = bootstrap_test(x, 1, **options)
    np.testing.assert_array_equal(again.bootstrap, found.bootstrap)
    assert found.larger.n_components == 2


def test_p_values_of_one_cluster_are_not_small():
    p_values = []
    for seed in range(4):
        x = np.random.default_rng(seed).normal(size=(40, 1))
        options = {"family": "tied", "n_init": 1, "random_state": seed, "tol": 1e-4}
        p_values.append(bootstrap_test(x, 1, n_bootstrap=5, **options).p_value)
    # Uniform on sixths: of four the mean is 0.58, and beyond 0.25 with a probability of 0.99.
    assert np.mean(p_values) > 0.25


def test_a_collapse_has_no_ratio():
    x = np.column_stack([np.random.default_rng(0).normal(size=15), np.ones(15)])
    with pytest.raises(ValueError, match="no fit without a collapsed component"):
        bootstrap_test(x, 1, n_bootstrap=3, n_init=1, max_iter=20, random_state=0)
    with pytest.raises(TypeError, match="bootstrap_test has no sample_weight"):
        bootstrap_test(x, 1, sample_weight=np.ones(15))
