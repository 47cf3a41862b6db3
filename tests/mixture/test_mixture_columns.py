"""The estimator by its columns: marginals, conditionals, regression, and fits of what is given."""

import warnings

import numpy as np
import pytest
from families_by_reference import LEARNED, random_parameters

import gmm_np
from gmm_np import GaussianMixture, Parameters, conditional
from gmm_np.solvers import Data, NoisyData, fit_adam, fit_conditional, fit_em, fit_lbfgs


class Frame:
    """As much of a data frame as is looked at."""

    def __init__(self, values, columns):
        self.values, self.columns = np.asarray(values), columns

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype, copy=True if copy is None else copy)

    @property
    def shape(self):
        return self.values.shape

    def __len__(self):
        return len(self.values)


NAMES = ["width", "height", "depth"]


def two_branches(n, rng):
    """y = x or y = -x, by chance, where x > 0."""
    x = rng.uniform(0.5, 3.0, size=n)
    return np.column_stack([x, np.where(rng.random(n) < 0.5, x, -x) + 0.1 * rng.normal(size=n)])


def fitted(family="full"):
    p = random_parameters(3, family, 3, 3)
    mixture = GaussianMixture(3, covariance_type=family, random_state=0)
    x = 2 * np.random.default_rng(0).normal(size=(60, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mixture.fit(Frame(x, NAMES), start=p)


@pytest.mark.parametrize("family", LEARNED)
def test_names_and_indices_give_the_same_columns(family):
    mixture = fitted(family)
    p = mixture.parameters_
    by_name, by_index = mixture.marginal(["depth", "width"]), mixture.marginal([2, 0])
    assert by_name.parameters_.equals(by_index.parameters_)
    assert by_name.parameters_.equals(p.marginal([2, 0]))
    assert by_name.feature_names_in_.tolist() == ["depth", "width"]
    assert by_name.covariance_type == family
    given = mixture.conditional("height", [0.5])
    assert given.feature_names_in_.tolist() == ["width", "depth"]
    assert given.parameters_.equals(p.conditional([1], [0.5]))
    given.sample(3)
    rows = mixture.conditional(["height"], [[0.5], [1.0]])
    np.testing.assert_allclose(rows.means[0], given.means_, rtol=1e-13, atol=1e-14)


def test_regress_takes_names_from_the_data_frame():
    mixture = fitted()
    known = np.random.default_rng(1).normal(size=(5, 2))
    expected = conditional.regress(mixture.parameters_, [2, 0], known)
    for found in (
        mixture.regress(Frame(known, ["depth", "width"])),
        mixture.regress(Frame(known, ["depth", "width"]), columns=["depth", "width"]),
        mixture.regress(known, columns=[2, 0]),
        mixture.regress(known, columns=["depth", 0]),
    ):
        np.testing.assert_array_equal(found.mean, expected.mean)
        np.testing.assert_array_equal(found.covariance, expected.covariance)
        np.testing.assert_array_equal(found.mode, expected.mode)
        assert found.columns.tolist() == [1]


def test_mode_is_on_a_branch_and_the_mean_between():
    x = two_branches(2000, np.random.default_rng(0))
    mixture = GaussianMixture(6, random_state=0, n_init=3, max_iter=500).fit(x)
    found = mixture.regress([[2.0]], columns=0)
    assert abs(found.mean[0, 0]) < 0.4
    assert abs(abs(found.mode[0, 0]) - 2.0) < 0.2
    assert found.covariance[0, 0, 0] == pytest.approx(4.0, rel=0.2)


def test_messages_name_what_there_is():
    mixture = fitted()
    with pytest.raises(ValueError, match=r"'length', but there are only \['width', 'height'"):
        mixture.marginal("length")
    with pytest.raises(ValueError, match="columns must be distinct; 0 stands there twice"):
        mixture.marginal(["width", 0])
    with pytest.raises(ValueError, match="columns must say which columns X_known holds"):
        mixture.regress([[1.0]])
    with pytest.raises(ValueError, match=r"\['depth'\], but X_known has \['width'\]"):
        mixture.regress(Frame([[1.0]], ["width"]), columns="depth")
    with pytest.raises(ValueError, match=r"X has 1 features, but .* expecting 2"):
        mixture.regress([[1.0]], columns=[0, 1])
    unnamed = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [np.eye(2)])
    with pytest.raises(ValueError, match="'width', but GaussianMixture was fitted without"):
        unnamed.marginal("width")
    with pytest.raises(ValueError, match="not fitted yet"):
        GaussianMixture().marginal(0)


# --- fits of some columns given the others ------------------------------------------------------


@pytest.mark.parametrize("family", LEARNED)
def test_conditional_fit_is_never_below_its_start(family):
    rng = np.random.default_rng(5)
    x = np.column_stack([two_branches(150, rng), rng.normal(size=150)])
    weight = rng.random(150)
    start = fit_em(
        x, random_parameters(1, family, 3, 3), max_iter=20, sample_weight=weight, reg_covar=1e-6
    )
    given = [2, 0]
    p = start.parameters
    options = {"family": family, "sample_weight": weight}
    before = conditional.nll(x, p.pi_logits, p.means, p.scale, given, **options)
    steps = []

    def trace(_, q):
        steps.append(conditional.nll(x, q.pi_logits, q.means, q.scale, given, **options))

    found = fit_conditional(
        x, p, given, sample_weight=weight, reg_covar=1e-6, max_iter=150, trace=trace
    )
    q = found.parameters
    after, gradient = conditional.nll_value_and_grad(
        x, q.pi_logits, q.means, q.scale, given, **options
    )
    assert found.nll == pytest.approx(after, rel=1e-10)
    assert after < before - 1e-4
    np.testing.assert_allclose(steps, found.history, rtol=1e-9)
    np.testing.assert_allclose(found.gradients.means, gradient.means, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.gradients.scale, gradient.scale, rtol=1e-9, atol=1e-9)
    assert q.family == family


def test_conditional_fit_ends_where_the_gradient_vanishes():
    x = two_branches(200, np.random.default_rng(2))
    start = fit_em(x, random_parameters(4, "diag", 2, 2), max_iter=50).parameters
    found = fit_conditional(x, start, [0], reg_covar=1e-4)
    assert found.converged, found.message
    assert max(np.abs(g).max() for g in found.gradients[:3]) < 1e-4


def test_one_component_is_linear_regression():
    """With K = 1 the conditional likelihood's maximum is that of least squares."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(80, 2))
    y = x @ [1.0, -2.0] + 0.5 + 0.3 * rng.normal(size=80)
    rows = np.column_stack([y, x])
    found = fit_conditional(rows, random_parameters(1, "full", 1, 3), [1, 2], tol=1e-9)
    design = np.column_stack([x, np.ones(80)])
    beta, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    prediction = conditional.regress(found.parameters, [1, 2], x)
    np.testing.assert_allclose(prediction.mean[:, 0], design @ beta, atol=1e-6)
    np.testing.assert_allclose(prediction.covariance[:, 0, 0], residual[0] / 80, rtol=1e-6)


def test_start_below_the_floor_is_kept_where_nothing_is_better():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(30, 2))
    start = fit_em(x, random_parameters(1, "diag", 1, 2)).parameters
    before = conditional.nll(x, start.pi_logits, start.means, start.scale, [0], family="diag")
    found = fit_conditional(x, start, [0], reg_covar=100.0)
    assert found.nll == pytest.approx(before, rel=1e-12)
    assert "nothing was better than the start" in found.message
    assert found.parameters.equals(start) or np.allclose(found.parameters.scale, start.scale)


def test_floor_is_under_the_conditional_variances():
    x = two_branches(100, np.random.default_rng(6))
    start = fit_em(x, random_parameters(2, "full", 4, 2), reg_covar=0.5, max_iter=30).parameters
    found = fit_conditional(x, start, [0], reg_covar=[1e-9, 0.5])
    p = found.parameters
    spread = p.marginal([0, 1]).scale[:, 1, 1] ** 2  # of column 1 given column 0
    assert spread.min() >= 0.5 * (1 - 1e-9)
    assert found.collapsed


def test_rows_of_no_weight_and_blocks_make_no_difference():
    rng = np.random.default_rng(7)
    x = two_branches(60, rng)
    start = fit_em(x, random_parameters(4, "full", 2, 2), max_iter=5).parameters
    whole = fit_conditional(x, start, [0], max_iter=5)
    blocks = fit_conditional([x[:20], x[20:]], start, [0], max_iter=5)
    np.testing.assert_allclose(blocks.history, whole.history, rtol=1e-8)
    more = np.concatenate([x, [[1e200, 1.0]]])
    weight = np.array([*np.ones(60), 0.0])
    weighted = fit_conditional(more, start, [0], max_iter=5, sample_weight=weight)
    np.testing.assert_allclose(weighted.history, whole.history, rtol=1e-8)


def test_estimator_fits_what_is_given():
    x = Frame(two_branches(300, np.random.default_rng(8)), ["x", "y"])
    options = {"random_state": 0, "max_iter": 300, "tol": 1e-4}
    joint = GaussianMixture(3, **options).fit(x)
    seen = []
    found = GaussianMixture(3, **options).fit(x, given="x", callback=lambda _, v: seen.append(v))
    before = joint.score_samples_given(x, "x").mean()
    after = found.score_samples_given(x, "x").mean()
    assert after > before + 1e-3
    assert found.lower_bound_ == pytest.approx(after, rel=1e-9)
    assert (np.diff(found.lower_bounds_) >= -1e-12).all()
    assert seen[-1] == pytest.approx(-after, rel=1e-9)
    again = GaussianMixture(3, **options).fit(x, given=[0])
    assert again.parameters_.equals(found.parameters_)
    with pytest.raises(ValueError, match="given must hold 1 to 1 of the 2 columns"):
        GaussianMixture(2).fit(x, given=["x", "y"])
    with pytest.raises(ValueError, match="given has the name 'z', but there are only"):
        GaussianMixture(2).fit(x, given="z")
    with pytest.raises(ValueError, match="given has no fit with priors"):
        GaussianMixture(2, priors=[gmm_np.priors.Dirichlet(2.0)]).fit(x, given="x")
    with pytest.raises(ValueError, match="given has no fit with noise"):
        GaussianMixture(2).fit(x, given="x", noise=np.ones((300, 2)))


# --- fits to rows with errors of their own ------------------------------------------------------


def noisy(rng, n=800):
    true = np.where(rng.random(n) < 0.4, -2.0, 2.0)[:, None] + rng.normal(size=(n, 2)) * [0.3, 0.6]
    variances = rng.uniform(0.2, 2.0, size=(n, 2))
    return true, true + np.sqrt(variances) * rng.normal(size=(n, 2)), variances


def test_noise_is_taken_out_of_the_covariances():
    true, x, variances = noisy(np.random.default_rng(0), n=400)
    options = {"random_state": 0, "tol": 1e-7, "max_iter": 3000, "covariance_type": "tied"}
    expected = GaussianMixture(2, **options).fit(true).covariances_
    plain = GaussianMixture(2, **options).fit(x).covariances_
    found = GaussianMixture(2, **options).fit(x, noise=variances)
    np.testing.assert_allclose(found.covariances_, expected, atol=0.15)
    assert np.diagonal(plain - expected).min() > 0.8
    assert found.lower_bound_ == pytest.approx(
        -gmm_np.noise.nll(
            x, variances, found.parameters_.pi_logits, found.means_,
            found.parameters_.scale, family="tied",
        ),
        abs=1e-6,
    )  # fmt: skip
    dense = variances[:, :, None] * np.eye(2)
    other = GaussianMixture(2, **options).fit(x, noise=dense)
    np.testing.assert_allclose(other.covariances_, found.covariances_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("family", LEARNED)
def test_em_and_lbfgs_end_at_one_maximum(family):
    rng = np.random.default_rng(1)
    true = np.where(rng.random(150) < 0.4, -3.0, 3.0)[:, None] + rng.normal(size=(150, 2))
    variances = rng.uniform(0.0, 0.2, size=(150, 2))  # with more EM takes many thousands of steps
    x = true + np.sqrt(variances) * rng.normal(size=(150, 2))
    start = random_parameters(0, family, 2, 2)
    start = Parameters([0.0, 0.0], [[-3.0, -3.0], [3.0, 3.0]], start.scale, family)
    data = NoisyData(x, variances)
    by_em = fit_em(data, start, tol=1e-11)
    by_lbfgs = fit_lbfgs(data, start, tol=1e-7)
    assert (np.diff(by_em.history) <= 1e-13 * np.abs(by_em.history[1:])).all()
    assert by_lbfgs.nll == pytest.approx(by_em.nll, rel=1e-8)
    np.testing.assert_allclose(by_lbfgs.parameters.means, by_em.parameters.means, atol=1e-4)


def test_adam_takes_the_noise_of_its_rows():
    _, x, variances = noisy(np.random.default_rng(2), n=300)
    mixture = GaussianMixture(2, random_state=0, max_iter=500).fit(x, noise=variances)
    data = NoisyData(x, variances)
    found = fit_adam(
        data, mixture.parameters_, batch_size=100, max_iter=20, rng=np.random.default_rng(0)
    )
    assert found.nll == pytest.approx(-mixture.lower_bound_, abs=0.02)
    plain = fit_adam(
        Data(x), mixture.parameters_, batch_size=100, max_iter=1, rng=np.random.default_rng(0)
    )
    assert plain.nll > found.nll + 0.02


def test_messages_of_noise_name_the_remedy():
    _, x, variances = noisy(np.random.default_rng(2), n=30)
    with pytest.raises(ValueError, match="noise must have shape"):
        GaussianMixture(2).fit(x, noise=variances[:5])
    with pytest.raises(ValueError, match="Use solver='em', 'lbfgs' or 'adam'"):
        GaussianMixture(2, solver="em+newton").fit(x, noise=variances)
    with pytest.raises(ValueError, match="noise needs X as one array"):
        GaussianMixture(2).fit([x, x], noise=variances)
    with pytest.raises(TypeError, match="have no second derivatives here"):
        gmm_np.solvers.fit_newton(NoisyData(x, variances), random_parameters(1, "full", 2, 2))
