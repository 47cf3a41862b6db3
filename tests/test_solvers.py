import itertools

import numpy as np
import pytest

from gmm_np import Parameters
from gmm_np.datasets import load_old_faithful
from gmm_np.reference import nll_backward, nll_forward
from gmm_np.solvers import fit_lbfgs, kmeans_start


def test_kmeans_start_is_a_partition_of_the_data():
    x, _ = load_old_faithful()
    start = kmeans_start(x, 3, np.random.default_rng(0))
    weights = np.exp(start.pi_logits)
    assert weights.sum() == pytest.approx(1.0, rel=1e-14)
    np.testing.assert_allclose(weights @ start.means, x.mean(axis=0), rtol=1e-13)


def test_kmeans_start_depends_on_nothing_but_its_generator():
    x, _ = load_old_faithful()
    a, b = (kmeans_start(x, 4, np.random.default_rng(7)) for _ in range(2))
    assert a.equals(b)


def test_kmeans_start_copes_with_a_constant_column():
    x = np.column_stack([np.arange(20.0), np.full(20, 3.0)])
    start = kmeans_start(x, 2, np.random.default_rng(0))
    assert np.isfinite(nll_forward(x, start.pi_logits, start.means, start.scale)[0])


@pytest.mark.parametrize("n_components", [0, 4])
def test_kmeans_start_needs_a_distinct_row_for_each_component(n_components):
    x = [[0.0], [0.0], [1.0], [2.0]]
    with pytest.raises(ValueError, match=r"between 1 and the number of distinct rows of x, 3"):
        kmeans_start(x, n_components, np.random.default_rng(0))


def test_one_component_fits_mean_and_covariance():
    x, _ = load_old_faithful()
    start = Parameters([0.0], [x[0]], [np.diag([2.0, 9.0])])
    fit = fit_lbfgs(x, start, tol=1e-9)
    # The maximum has a closed form. L-BFGS stops where the loss, flat to second order, changes
    # by a rounding error, so that parameters keep about half the digits of a double.
    np.testing.assert_allclose(fit.parameters.means[0], x.mean(axis=0), rtol=1e-6)
    L = fit.parameters.scale[0]
    np.testing.assert_allclose(L @ L.T, np.cov(x.T, bias=True), rtol=1e-6)
    assert fit.converged


def test_fit_is_a_stationary_point():
    x, _ = load_old_faithful()
    fit = fit_lbfgs(x, kmeans_start(x, 2, np.random.default_rng(0)), tol=1e-8)
    p = fit.parameters
    value, cache = nll_forward(x, p.pi_logits, p.means, p.scale)
    assert value == pytest.approx(fit.nll, rel=1e-14)
    assert fit.gradient_norm < 1e-6
    assert max(abs(g).max() for g in nll_backward(cache)[:3]) < 1e-6


def test_a_weight_of_two_fits_as_a_repeated_row():
    x, _ = load_old_faithful()
    x = x[:60]
    start = kmeans_start(x, 2, np.random.default_rng(0))
    weight = np.ones(60)
    weight[:20] = 2
    weighted = fit_lbfgs(x, start, sample_weight=weight, tol=1e-9)
    repeated = fit_lbfgs(np.concatenate([x, x[:20]]), start, tol=1e-9)
    assert weighted.nll == pytest.approx(repeated.nll, rel=1e-12)


def test_callback_sees_each_iteration_and_a_loss_that_never_rises():
    x, _ = load_old_faithful()
    seen = []
    start = kmeans_start(x, 2, np.random.default_rng(0))
    fit = fit_lbfgs(x, start, callback=lambda i, f: seen.append((i, f)))
    iterations, losses = zip(*seen, strict=True)
    assert iterations == tuple(range(1, fit.n_iter + 1))
    assert all(after <= before for before, after in itertools.pairwise(losses))


def test_iterations_are_limited():
    x, _ = load_old_faithful()
    fit = fit_lbfgs(x, kmeans_start(x, 2, np.random.default_rng(0)), max_iter=3)
    assert fit.n_iter == 3
    assert not fit.converged
