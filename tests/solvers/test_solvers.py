import itertools

import numpy as np
import pytest
from families_by_reference import FAMILIES

from gmm_np import Parameters, likelihood, nll, nll_value_and_grad, statistics
from gmm_np.datasets import load_old_faithful
from gmm_np.priors import Dirichlet, Normal, Wishart
from gmm_np.reference import nll_backward, nll_forward
from gmm_np.solvers import fit_adam, fit_em, fit_lbfgs, fit_newton, kmeans_start, make_start
from gmm_np.solvers.em import EM, find_collapsed
from gmm_np.solvers.floor import relative_floor
from gmm_np.solvers.objective import Objective
from gmm_np.solvers.results import CollapseError, Data, FitInterrupted, variances

PRIORS = (Wishart(0.5, 1.0), Dirichlet(2.0), Normal([3.5, 70.0], 20.0))
SOLVERS = pytest.mark.parametrize("fit", [fit_em, fit_lbfgs, fit_newton, fit_adam])


def old_faithful(n_components, family="full"):
    x, _ = load_old_faithful()
    # Rows that were drawn: the start of k-means leaves little to do.
    rng = np.random.default_rng(0)
    return x, make_start(Data(x).sample(rng), n_components, rng, init="k-means++", family=family)


def value(x, parameters, **options):
    p = parameters
    return nll(x, p.pi_logits, p.means, p.scale, family=p.family, **options)


def random_problem(rng):
    """A small data set with clusters, perhaps weighted, and a start drawn from its rows."""
    n, d, k = int(rng.integers(15, 60)), int(rng.integers(1, 5)), int(rng.integers(1, 4))
    x = rng.standard_normal((n, d)) + 3 * rng.standard_normal((k, d))[rng.integers(k, size=n)]
    x = x * rng.uniform(0.1, 10, d) + 10 * rng.standard_normal(d)
    weight = rng.integers(0, 4, n) * rng.uniform(0.5, 2) if rng.random() < 0.5 else None
    if weight is not None:
        weight[: d + k + 2] = 1.0
    family = FAMILIES[int(rng.integers(len(FAMILIES)))]
    return x, weight, kmeans_start(x, k, rng, family=family, sample_weight=weight)


# --- EM ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(90))
def test_em_never_increases_its_objective(seed):
    rng = np.random.default_rng(seed)
    x, weight, start = random_problem(rng)
    options = {"sample_weight": weight, "tol": 0, "max_iter": 25}
    if seed % 3 == 0:
        priors = (
            Wishart(float(rng.uniform(0.1, 2)), float(rng.uniform(0, 3))),
            Dirichlet(float(rng.uniform(1, 3))),
            Normal(x.mean(axis=0), float(rng.uniform(1, 20))),
        )
        losses = fit_em(x, start, priors=priors, **options).history
    else:
        # With a component that collapses, what is checked is all that came before.
        fit = fit_em(x, start, on_collapse="keep", **options)
        losses = [*fit.history, fit.nll]
        assert losses[0] == pytest.approx(value(x, start, sample_weight=weight), rel=1e-13)
    for before, after in itertools.pairwise(losses):
        assert after <= before + 1e-12 * abs(before)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_integer_weight_fits_as_repeated_rows_and_zero_as_a_dropped_one(family):
    x, _ = load_old_faithful()
    x = x[:80]
    weight = np.random.default_rng(1).integers(0, 4, 80)
    repeated = np.random.default_rng(2).permutation(np.repeat(x, weight, axis=0))
    a, b = (kmeans_start(x, 2, np.random.default_rng(0), family=family) for _ in range(2))
    solvers = [
        (fit_em, {"max_iter": 30, "tol": 0}, 1e-12),
        (fit_lbfgs, {"tol": 1e-7}, 1e-11),
        (fit_adam, {"max_iter": 40}, 1e-11),
    ]
    for fit, options, tolerance in solvers:
        weighted = fit(x, a, sample_weight=weight, **options)
        plain = fit(repeated, b, **options)
        assert weighted.nll == pytest.approx(plain.nll, rel=tolerance)
        # Solvers stop at a gradient, and so parameters agree to about its size.
        np.testing.assert_allclose(weighted.parameters.means, plain.parameters.means, rtol=1e-5)


@pytest.mark.parametrize("offset", [1e4, 1e7])
def test_a_start_many_sigma_away_is_no_collapse(offset):
    x, start = old_faithful(2)
    far = Parameters(start.pi_logits, start.means + offset * np.array([1.0, 10.0]), start.scale)
    fit = fit_em(x, far, tol=1e-10)
    assert fit.collapsed == ()
    assert fit.nll <= fit_em(x, Parameters([0.0], [x.mean(axis=0)], [np.eye(2)])).nll + 1e-9


def test_a_stream_fits_as_an_array_does():
    x, start = old_faithful(2)
    weight = np.random.default_rng(3).uniform(0.5, 2, len(x))
    blocks, weights = np.array_split(x, 5), np.array_split(weight, 5)
    for fit, options in ((fit_em, {}), (fit_lbfgs, {}), (fit_adam, {"max_iter": 30})):
        whole = fit(x, start, sample_weight=weight, **options)
        parts = fit(blocks, start, sample_weight=weights, **options)
        assert parts.nll == pytest.approx(whole.nll, rel=1e-11)


def test_a_stream_that_can_be_read_only_once_is_refused():
    x, start = old_faithful(2)
    with pytest.raises(TypeError, match=r"x is an iterator, which can be read only once"):
        fit_em(iter(np.array_split(x, 5)), start)
    weights = (np.ones(len(block)) for block in np.array_split(x, 5))
    with pytest.raises(TypeError, match=r"sample_weight is an iterator"):
        fit_em(np.array_split(x, 5), start, sample_weight=weights)


def test_nan_in_a_stream_is_placed():
    x, start = old_faithful(2)
    blocks = [block.copy() for block in np.array_split(x, 5)]
    blocks[3][7, 1] = np.nan
    with pytest.raises(ValueError, match=r"block 3 of x: .* at row 7, column 1"):
        fit_em(blocks, start)


def test_data_of_float32_or_integers_fit_as_float64():
    rounded = (10 * load_old_faithful()[0]).round(0)
    start = kmeans_start(rounded, 2, np.random.default_rng(0))
    expected = fit_em(rounded, start).nll
    for dtype in (np.float32, np.int64, np.int16):
        assert fit_em(rounded.astype(dtype), start).nll == pytest.approx(expected, rel=1e-13)


# --- collapse ------------------------------------------------------------------------------------

# Two rows far from all others: a component that starts there has no maximum.
LONELY = np.array([[100.0, 100.0], [101.0, 101.0]])


def lonely_problem():
    x = np.concatenate([np.random.default_rng(4).standard_normal((60, 2)), LONELY])
    return x, Parameters([0.0, 0.0], [[0.0, 0.0], [100.5, 100.5]], [np.eye(2)] * 2)


def test_a_collapse_is_an_error_that_names_component_and_remedy():
    x, start = lonely_problem()
    with pytest.raises(CollapseError, match=r"component 1 collapsed.*reg_covar") as error:
        fit_em(x, start)
    assert error.value.components == (1,)


def test_a_collapse_of_the_shared_covariance_is_an_error():
    x = np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0)
    for family in ("tied", "tied_diag", "shared_spherical"):
        start = kmeans_start(x, 2, np.random.default_rng(0), family=family)
        with pytest.raises(CollapseError, match="the shared covariance collapsed"):
            fit_em(x, start, on_collapse="reseed")


def test_a_collapsed_component_is_started_again_and_that_is_reported():
    x, start = lonely_problem()
    fit = fit_em(x[:-1], start, on_collapse="reseed", rng=np.random.default_rng(0), tol=1e-6)
    assert fit.reseeded
    assert set(fit.reseeded) == {1}
    assert np.isfinite(fit.nll)


def test_reseeding_comes_to_an_end():
    x = np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0)
    start = kmeans_start(x, 2, np.random.default_rng(0))
    with pytest.raises(CollapseError, match="collapsed 20 times"):
        fit_em(x, start, on_collapse="reseed", rng=np.random.default_rng(0))


def test_a_collapsed_component_may_keep_its_covariance():
    x, start = lonely_problem()
    fit = fit_em(x, start, on_collapse="keep")
    assert fit.collapsed == (1,)
    np.testing.assert_array_equal(fit.parameters.scale[1], np.eye(2))
    np.testing.assert_allclose(fit.parameters.means[1], LONELY.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize("remedy", [{"reg_covar": 1e-4}, {"priors": (Wishart(0.1, 0.5),)}])
@pytest.mark.parametrize("solver", [fit_em, fit_lbfgs])
def test_a_floor_or_a_prior_holds_a_component_up_and_the_floor_is_reported(remedy, solver):
    x, start = lonely_problem()
    fit = solver(x, start, **remedy)
    assert np.isfinite(fit.nll)
    assert fit.converged
    assert np.linalg.eigvalsh(fit.parameters.scale[1] @ fit.parameters.scale[1].T)[0] > 1e-6
    assert fit.collapsed == (1,)


def test_lbfgs_reports_a_collapse_that_nothing_holds_up():
    x = np.concatenate([np.random.default_rng(5).standard_normal((30, 1)), [[50.0]]])
    start = Parameters([0.0, 0.0], [[0.0], [50.0]], [[[1.0]], [[1.0]]])
    fit = fit_lbfgs(x, start, max_iter=300)
    assert fit.collapsed == (1,)


def test_rows_on_a_line_collapse_whatever_their_direction():
    rng = np.random.default_rng(6)
    x = np.array([5.0, 1.0, -2.0]) + np.outer(rng.standard_normal(50), [1.0, 1 / 3, 0.7])
    with pytest.raises(CollapseError):
        fit_em(x, Parameters([0.0], [[5.0, 1.0, -2.0]], [np.eye(3)]))
    assert fit_em(x, Parameters([0.0], [[5.0, 1.0, -2.0]], [np.eye(3)]), reg_covar=1e-6).collapsed


def test_a_tight_cluster_is_no_collapse():
    # Standard deviations of 1e-7 at a distance of 10 from 0, and 1 elsewhere.
    rng = np.random.default_rng(7)
    x = np.concatenate([rng.standard_normal((50, 2)), 10 + 1e-7 * rng.standard_normal((50, 2))])
    fit = fit_em(x, Parameters([0.0, 0.0], [[0.0, 0.0], [10.0, 10.0]], [np.eye(2)] * 2))
    assert fit.collapsed == ()
    np.testing.assert_allclose(
        fit.parameters.scale[1] @ fit.parameters.scale[1].T, np.cov(x[50:].T, bias=True), rtol=1e-6
    )


def test_a_collapse_is_seen_before_numbers_get_out_of_hand():
    # The short eruptions, rounded, are all of two minutes: a column without spread in a cluster.
    x = load_old_faithful()[0].round(0)
    start = kmeans_start(x, 2, np.random.default_rng(0))
    fit = fit_em(x, start, on_collapse="keep")
    assert len(fit.collapsed) == 1
    assert fit.parameters.scale[fit.collapsed[0]].max() > 1e-17
    assert np.linalg.norm(fit.parameters.scale[fit.collapsed[0]][0]) > 1e-16


def test_a_component_without_samples_goes_off_and_is_no_collapse():
    x = np.random.default_rng(8).standard_normal((40, 2))
    start = Parameters([0.0, 0.0], [[0.0, 0.0], [1e6, 1e6]], [np.eye(2)] * 2)
    fit = fit_em(x, start)
    assert fit.parameters.pi_logits[1] == -np.inf
    assert fit.collapsed == ()
    assert fit.nll == pytest.approx(fit_em(x, Parameters([0.0], [[0.0, 0.0]], [np.eye(2)])).nll)


def test_find_collapsed_sees_what_the_floor_hides():
    x, start = lonely_problem()
    assert find_collapsed(Data(x).statistics(start, "direct")) == (1,)


@pytest.mark.parametrize("n_blocks", [1, 4])
def test_variances_are_those_of_repeated_rows_and_zero_for_a_constant_column(n_blocks):
    rng = np.random.default_rng(9)
    x = rng.normal(0, 1, (500, 4)) * [1e-9, 1.0, 1e9, 0.0] + [1.0, 1e6, 0.0, 0.1]
    weight = rng.integers(0, 3, 500)
    expected = np.repeat(x, weight, axis=0)[:, :3].astype(np.longdouble).var(axis=0)
    x[weight == 0] = 1e100  # what has no weight may be anything
    blocks = np.array_split(x, n_blocks), np.array_split(weight.astype(float), n_blocks)
    found = variances(zip(*blocks, strict=True))
    # A deviation of 1e-9 beside a mean of 1 has seven digits; its square as many.
    np.testing.assert_allclose(found[:3], expected.astype(float), rtol=1e-6)
    assert found[3] == 0


def test_a_relative_floor_has_the_units_of_its_column():
    np.testing.assert_allclose(relative_floor(np.array([4.0, 0.0, 9e8])), [4e-6, 4e-6, 900.0])
    np.testing.assert_allclose(relative_floor(np.zeros(2)), 1e-6)


# --- solvers on gradients ------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("priors", [(), PRIORS], ids=["likelihood", "posterior"])
def test_all_solvers_reach_the_optimum_of_em(family, priors):
    x, start = old_faithful(2, family)
    best = fit_em(x, start, priors=priors, tol=1e-11).history[-1]
    for fit, tolerance in ((fit_lbfgs, 1e-6), (fit_newton, 1e-6), (fit_adam, 1e-3)):
        found = fit(x, start, priors=priors)
        assert found.converged
        assert found.history[-1] == pytest.approx(best, abs=tolerance)


def test_adam_in_minibatches_reaches_the_optimum_of_em():
    x, start = old_faithful(2)
    rng = np.random.default_rng(9)
    fit = fit_adam(x, start, batch_size=64, max_iter=100, tol=1e-3, rng=rng)
    assert fit.nll == pytest.approx(fit_em(x, start).nll, abs=1e-3)


def test_minibatches_of_weighted_data_are_unbiased():
    # Each row has its weight, and a pass over all batches its whole gradient.
    x, start = old_faithful(2)
    rng = np.random.default_rng(10)
    weight = rng.uniform(0, 3, len(x)) * (rng.random(len(x)) < 0.8)
    from gmm_np.solvers.adam import Batches
    from gmm_np.solvers.objective import Objective

    data = Data(x, weight)
    objective = Objective(data, start)
    here = 0.1 * rng.standard_normal(len(objective.origin))
    batches = Batches(data, 50, rng)
    found = [objective.evaluate(here, part) for part in batches]
    total = sum(batches.share(part.weight) * part.gradient for part in found)
    expected = objective.evaluate(here).gradient
    np.testing.assert_allclose(total / batches.count, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("priors", [(), PRIORS], ids=["likelihood", "posterior"])
def test_objective_has_the_gradient_of_its_value(family, priors):
    from gmm_np.solvers.objective import Objective

    x, start = old_faithful(2, family)
    weight = np.random.default_rng(11).uniform(0.5, 2, len(x))
    objective = Objective(Data(x, weight), start, priors=priors)
    rng = np.random.default_rng(12)
    here = 0.1 * rng.standard_normal(len(objective.origin))
    gradient = objective.value_and_grad(here)[1]
    for _ in range(5):
        direction = rng.standard_normal(len(here))
        step = 1e-5
        slope = objective.value_and_grad(here + step * direction)[0]
        slope -= objective.value_and_grad(here - step * direction)[0]
        # Central differences at this step: truncation and rounding near 1e-10 of the norms.
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert slope / (2 * step) == pytest.approx(gradient @ direction, abs=1e-7 * scale)


def test_fits_do_not_depend_on_units():
    x, start = old_faithful(2)
    units = np.array([1e-3, 1e4])
    scaled = Parameters(start.pi_logits, start.means * units, start.scale * units[:, None])
    for fit in (fit_em, fit_lbfgs, fit_adam):
        a, b = fit(x, start, tol=1e-6), fit(x * units, scaled, tol=1e-6)
        assert a.n_iter == b.n_iter
        np.testing.assert_allclose(b.parameters.means / units, a.parameters.means, rtol=1e-6)


def test_one_component_fits_mean_and_covariance():
    x, _ = load_old_faithful()
    start = Parameters([0.0], [x[0]], [np.diag([2.0, 9.0])])
    # The maximum has a closed form, which EM takes in one step. L-BFGS stops where the loss, flat
    # to second order, changes by a rounding error: half the digits of a double.
    for fit, tolerance in ((fit_em, 1e-12), (fit_lbfgs, 1e-6), (fit_newton, 1e-8)):
        found = fit(x, start, tol=1e-9)
        assert found.converged
        np.testing.assert_allclose(found.parameters.means[0], x.mean(axis=0), rtol=tolerance)
        L = found.parameters.scale[0]
        np.testing.assert_allclose(L @ L.T, np.cov(x.T, bias=True), rtol=tolerance)


@pytest.mark.parametrize("fit", [fit_lbfgs, fit_newton])
def test_fit_is_a_stationary_point(fit):
    x, start = old_faithful(2)
    found = fit(x, start, tol=1e-8)
    p = found.parameters
    loss, cache = nll_forward(x, p.pi_logits, p.means, p.scale)
    assert loss == pytest.approx(found.nll, rel=1e-14)
    assert found.gradient_norm < 1e-6
    assert max(abs(g).max() for g in nll_backward(cache)[:3]) < 1e-6


class CountedPasses(Data):
    """Data that count how often they are read."""

    passes = 0

    def statistics(self, *args, **options):
        type(self).passes += 1
        return super().statistics(*args, **options)

    def information(self, *args):
        type(self).passes += 1
        return super().information(*args)

    def tangent_statistics(self, *args):
        type(self).passes += 1
        return super().tangent_statistics(*args)


@pytest.mark.parametrize("n_components", [2, 3])
def test_newton_goes_from_the_end_of_em_to_the_last_digits_in_fewer_passes(n_components):
    x, start = old_faithful(n_components)
    start = fit_em(x, start, tol=1e-5).parameters
    passes, fits = {}, {}
    for fit in (fit_newton, fit_lbfgs):
        CountedPasses.passes = 0
        fits[fit] = fit(CountedPasses(x), start, tol=1e-12)
        passes[fit] = CountedPasses.passes
    assert fits[fit_newton].gradient_norm < 1e-12 < fits[fit_lbfgs].gradient_norm
    assert passes[fit_newton] < passes[fit_lbfgs]


@pytest.mark.parametrize("priors", [(), (Wishart(1.0, 2.0), Dirichlet(2.0), Normal(0.0, 3.0))])
@pytest.mark.parametrize("family", FAMILIES)
def test_matrix_and_products_of_the_objective_agree(family, priors):
    x, p = old_faithful(3, family)
    objective = Objective(Data(x), p, priors=priors)
    found = objective.evaluate(np.zeros_like(objective.origin))
    matrix = objective.hessian(found)
    logits = np.zeros(len(matrix))
    logits[:3] = 1.0 / np.sqrt(3)
    step = 1e-5
    for unit in np.eye(len(matrix)):
        product = objective.times_hessian(found, unit)
        own = matrix @ unit - logits * (logits @ unit)
        assert np.allclose(own, product, rtol=1e-10, atol=1e-12)
        ahead, behind = (objective.value_and_grad(s * unit)[1] for s in (step, -step))
        assert np.allclose(product, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7)


def test_newton_by_products_ends_where_newton_by_the_matrix_does(monkeypatch):
    x, start = old_faithful(2)
    by_matrix = fit_newton(x, start, tol=1e-10)
    monkeypatch.setattr("gmm_np.solvers.scipy_solvers.LARGEST_MATRIX", 3)
    by_products = fit_newton(x, start, tol=1e-10)
    assert by_products.gradient_norm < 1e-9
    assert np.allclose(by_matrix.parameters.means, by_products.parameters.means, rtol=1e-9)


@SOLVERS
def test_callback_and_trace_see_each_iteration_up_to_the_last_that_is_allowed(fit):
    x, start = old_faithful(2)
    told, traced = [], []
    found = fit(
        x,
        start,
        max_iter=3,
        callback=lambda *seen: told.append(seen),
        trace=lambda *seen: traced.append(seen),
    )
    assert found.n_iter == 3
    assert not found.converged
    iterations, losses = zip(*told, strict=True)
    assert iterations == tuple(range(1, 4))
    assert losses == found.history
    if fit is not fit_adam:  # whose steps may go up
        assert all(after <= before for before, after in itertools.pairwise(losses))
    iterations, parameters = zip(*traced, strict=True)
    assert iterations == tuple(range(1, 4))
    assert parameters[-1].equals(found.parameters)
    losses = [value(x, p) for p in parameters]
    # EM and Adam say the loss before an iteration, the others the loss after it.
    expected = found.history[1:] if fit in (fit_em, fit_adam) else found.history
    np.testing.assert_allclose(losses[: len(expected)], expected, rtol=1e-12)
    assert losses[-1] == pytest.approx(found.nll, rel=1e-12)


@SOLVERS
def test_an_interrupted_fit_hands_over_what_it_has(fit):
    x, start = old_faithful(2)

    def stop(iteration, _):
        if iteration == 4:
            raise KeyboardInterrupt

    with pytest.raises(FitInterrupted) as stopped:
        fit(x, start, callback=stop)
    assert len(stopped.value.history) == 4
    assert value(x, stopped.value.parameters) < value(x, start)


def test_arguments_that_cannot_be_are_refused():
    x, start = old_faithful(2)
    off = Parameters([0.0, -np.inf], start.means, start.scale)
    with pytest.raises(ValueError, match=r"logit of -inf at component 1"):
        fit_lbfgs(x, off)
    for batch_size in (0, -3):
        with pytest.raises(ValueError, match=r"batch_size must be at least 1"):
            fit_adam(x, start, batch_size=batch_size)
    with pytest.raises(ValueError, match=r'on_collapse must be one of "raise", "reseed", "keep"'):
        EM(Data(x), start, on_collapse="ignore")


# --- the cases of GMMPytorch's tests -------------------------------------------------------------

IDENTITY = {d: np.eye(d) for d in (1, 2, 5)}
POSITIVE, NEGATIVE = np.array([[4.0, 3.0], [3.0, 8.0]]), np.array([[4.0, -3.0], [-3.0, 8.0]])
MIXED = np.array(
    [
        [1, -0.392, 0.188, 0.53, 0.331],
        [-0.392, 1, 0.395, 0.044, 0.044],
        [0.188, 0.395, 1, 0.251, 0.569],
        [0.53, 0.044, 0.251, 1, 0.662],
        [0.331, 0.044, 0.569, 0.662, 1],
    ]
)
ONE = [
    ([0], IDENTITY[1], 1.3),
    ([0], 10 * IDENTITY[1], 2.5),
    ([0, 0], IDENTITY[2], 2.6),
    ([0, 0], 0.5 * IDENTITY[2], 2.1),
    ([0, 0], 10 * IDENTITY[2], 4.9),
    ([0, 0], np.diag([10, 0.5]), 3.5),
    ([0, 0], np.diag([0.5, 10]), 3.5),
    ([0, 0], POSITIVE, 4.1),
    ([0, 0], NEGATIVE, 4.1),
    ([0] * 5, IDENTITY[5], 6.7),
    ([0] * 5, MIXED, 5.7),
    ([-1], IDENTITY[1], 1.3),
    ([1], IDENTITY[1], 1.3),
    ([-1, -1], IDENTITY[2], 2.6),
    ([1, 1], IDENTITY[2], 2.6),
    ([-1, 1], IDENTITY[2], 2.6),
    ([1, -1], IDENTITY[2], 2.6),
    ([0, -1, 1, 0, -1], IDENTITY[5], 7.0),
    ([-1, 0, 0, 1, 0], IDENTITY[5], 7.0),
    ([1, 1, -1, -1, 1], IDENTITY[5], 7.0),
]
SEVERAL = [
    ([[-6], [-3], [3], [6]], [IDENTITY[1]] * 4, 2.6),
    ([[-6], [-3], [3], [6]], [10 * IDENTITY[1]] * 4, 3.1),
    ([[-10, -10], [10, -10], [-10, 10], [10, 10]], [IDENTITY[2]] * 4, 4.2),
    (
        [[-1, -1], [1, -1], [-1, 1], [1, 1]],
        [10 * IDENTITY[2], 0.5 * IDENTITY[2], POSITIVE, NEGATIVE],
        4.2,
    ),
    ([[10, 0, 0, 0, 0], [0, 10, 0, 0, 0]], [IDENTITY[5]] * 2, 7.3),
    ([[10, 0, 0, 0, 0], [-10, 0, 0, 0, 0]], [MIXED] * 2, 6.1),
]


def their_data(means, covariances):
    """The very samples: theirs are drawn by the generator that this seed starts."""
    rng = np.random.RandomState(42)
    pairs = zip(means, covariances, strict=True)
    return np.concatenate([rng.multivariate_normal(m, c, 200) for m, c in pairs])


@pytest.mark.parametrize("solver", [fit_em, fit_lbfgs, fit_adam])
@pytest.mark.parametrize(("mean", "covariance", "expected"), ONE)
def test_one_component_reaches_the_loss_that_gmmpytorch_expects(mean, covariance, expected, solver):
    x = their_data([mean], [covariance])
    fit = solver(x, kmeans_start(x, 1, np.random.default_rng(0)))
    # Their test allows a tenth. Below it stands the maximum itself, in closed form.
    assert fit.nll <= 1.1 * expected
    d = x.shape[1]
    half_log_det = 0.5 * np.linalg.slogdet(np.cov(x.T, bias=True).reshape(d, d))[1]
    best = half_log_det + 0.5 * d * (1 + np.log(2 * np.pi))
    assert fit.nll == pytest.approx(best, abs=1e-8 if solver is not fit_adam else 1e-3)
    assert np.linalg.norm(fit.parameters.means[0] - mean) < (0.15 if d < 5 else 0.25)


@pytest.mark.parametrize(
    "solver", [fit_em, fit_lbfgs, pytest.param(fit_adam, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("means", "covariances", "expected"), SEVERAL)
def test_several_components_reach_the_loss_that_gmmpytorch_expects(
    means, covariances, expected, solver
):
    x = their_data(means, covariances)
    start = kmeans_start(x, len(means), np.random.default_rng(0))
    fit = solver(x, start, max_iter=500 if solver is fit_adam else 100)
    assert fit.nll <= 1.1 * expected


@pytest.mark.parametrize("solver", [fit_em, fit_lbfgs, fit_adam])
@pytest.mark.parametrize(
    ("x", "expected"), [([[0.0]], -12.9), ([[0.0], [1.0]], 1.5)], ids=["one point", "two points"]
)
def test_singular_data_reach_the_loss_that_gmmpytorch_expects(x, expected, solver):
    # Both components start on a point; their floor is a standard deviation of 1e-6.
    means = np.resize(x, (2, 1))
    start = Parameters([0.0, 0.0], means, [[[1.0]], [[1.0]]])
    fit = solver(x, start, reg_covar=1e-12)
    assert np.isfinite(fit.nll)
    assert all(np.isfinite(block).all() for block in fit.gradients[:3])
    assert fit.nll <= expected + 0.1 * abs(expected)
    if len(x) == 1:  # log(1e-6) + log(2 pi) / 2
        assert fit.nll == pytest.approx(np.log(1e-6) + 0.5 * np.log(2 * np.pi), abs=1e-3)
        assert fit.collapsed == (0, 1)


# --- what "converged" says ------------------------------------------------------------------------


def in_units(unit, x, start):
    """The same data and start in other units."""
    scale = start.scale * unit
    return x * unit, Parameters(start.pi_logits, start.means * unit, scale, start.family)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("fit", "limit", "distances", "units"),
    [
        (fit_lbfgs, 500, (0.0, 10.0, 300.0), (1e-6, 1e6, 1e-6)),
        (fit_newton, 30, (0.0, 3.0), (1e6, 1e-6)),
    ],
)
def test_converged_is_said_of_the_gradient_whatever_the_distance_and_the_units(
    fit, limit, distances, units, family
):
    rng = np.random.default_rng(20)
    data = np.concatenate([rng.normal(size=(24, 2)), rng.normal(4.0, 0.5, size=(16, 2))])
    near = kmeans_start(data, 2, rng, family=family)
    reached = 0
    for distance, unit in zip(distances, units, strict=True):
        far = Parameters(near.pi_logits, near.means + distance, near.scale, family)
        x, start = in_units(unit, data, far)
        found = fit(x, start, tol=1e-6, max_iter=limit)
        # The same gradient, asked anew of the parameters alone.
        p = found.parameters
        d = nll_value_and_grad(x, p.pi_logits, p.means, p.scale, family=family)[1]
        steps = [d.pi_logits, np.einsum("kji,kj->ki", p.factors(), d.means)]
        if d.scale is not None:
            diagonal = p.scale
            if family in ("full", "tied"):
                diagonal = np.diagonal(p.scale, axis1=-2, axis2=-1)[..., None, :] * np.eye(2)
            steps.append(diagonal * d.scale)
        small = max(float(np.abs(step).max()) for step in steps) <= 1e-6
        assert found.converged == small, (distance, found.message)
        assert found.converged or "an entry of the gradient is" in found.message
        if found.converged:
            reached += 1
            # Along a natural step of length one such a gradient gains no more.
            assert fit(x, p, tol=1e-6, max_iter=limit).nll >= found.nll - 1e-6
    assert reached


def test_lbfgs_goes_on_from_where_its_line_search_gives_up():
    x = np.random.default_rng(0).normal(size=(50, 2))
    right = fit_em(x, Parameters([0.0], np.zeros((1, 2)), np.eye(2)[None])).nll
    start = Parameters([0.0], np.full((1, 2), 1e5), np.eye(2)[None])
    found = fit_lbfgs(x, start)
    assert found.converged
    assert found.nll == pytest.approx(right, abs=1e-10)
    short = fit_lbfgs(x, start, max_iter=30)
    assert not short.converged
    assert short.nll > right + 1
    assert "an entry of the gradient is" in short.message


def test_adam_far_from_any_optimum_does_not_say_that_it_converged():
    x = np.random.default_rng(0).normal(size=(50, 2))
    # In units of the start the gradient of a mean this wide is small from the beginning.
    start = Parameters([0.0], np.full((1, 2), 1e5), 1e9 * np.eye(2)[None])
    found = fit_adam(x, start, max_iter=20)
    assert not found.converged
    assert "an entry of the gradient is" in found.message


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_what_the_floor_holds_up_has_converged(unit):
    # A column of one value: the gradient points below the floor and does not count.
    rng = np.random.default_rng(5)
    data = rng.normal(size=(40, 2))
    data[:, 1] = 0.5
    start = Parameters([0.0], [data.mean(axis=0)], [np.diag([1.0, 0.1])])
    x, start = in_units(unit, data, start)
    found = fit_lbfgs(x, start, reg_covar=1e-4 * unit**2)
    assert found.converged, found.message
    assert found.collapsed == (0,)


def test_data_are_searched_for_what_is_not_finite_once(monkeypatch):
    trusted, make = [], likelihood.EStep

    def note(*arguments, finite=False, **options):
        trusted.append(finite)
        return make(*arguments, finite=finite, **options)

    monkeypatch.setattr(likelihood, "EStep", note)
    x = np.random.default_rng(0).normal(size=(50, 3))
    parameters = Parameters([0.0], np.zeros((1, 3)), np.eye(3)[None])
    found, again = Data(x).statistics(parameters), statistics(x, parameters)
    assert trusted == [True, False]
    np.testing.assert_array_equal(found.C_k, again.C_k)
    x[7, 1] = np.nan
    for call in (Data, lambda rows: statistics(rows, parameters)):
        with pytest.raises(ValueError, match="row 7, column 1"):
            call(x)
