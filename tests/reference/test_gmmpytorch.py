"""GMMPytorch's own table of 29 fits: its data, its expected losses, our fits.

From tests/test_GmmFull.py of https://github.com/kylesayrs/GMMPytorch at commit 48df218. The data
are the same: 200 rows a component from NumPy's legacy generator, seeded with 42. The fits are ours:
they start from k-means, where its means start uniform over the data's range and its factors at
random, and they learn the weights, where it keeps them equal. Its tolerance of 10 % is kept; exact
values stand beside it.
"""

import math

import numpy as np
import pytest

from gmm_np import Parameters, nll
from gmm_np.solvers import fit_em, fit_lbfgs, kmeans_start

UNIT_1, WIDE_1 = [[1]], [[10]]
UNIT_2, NARROW_2, WIDE_2 = np.eye(2), 0.5 * np.eye(2), 10 * np.eye(2)
UNIT_5 = np.eye(5)
RISING, FALLING = [[4, 3], [3, 8]], [[4, -3], [-3, 8]]
MIXED_5 = [
    [1.0, -0.392, 0.188, 0.53, 0.331],
    [-0.392, 1.0, 0.395, 0.044, 0.044],
    [0.188, 0.395, 1.0, 0.251, 0.569],
    [0.53, 0.044, 0.251, 1.0, 0.662],
    [0.331, 0.044, 0.569, 0.662, 1.0],
]
COVARIANCES = [
    ([0], UNIT_1, 1.3),
    ([0], WIDE_1, 2.5),
    ([0, 0], UNIT_2, 2.6),
    ([0, 0], NARROW_2, 2.1),
    ([0, 0], WIDE_2, 4.9),
    ([0, 0], np.diag([10, 0.5]), 3.5),
    ([0, 0], np.diag([0.5, 10]), 3.5),
    ([0, 0], RISING, 4.1),
    ([0, 0], FALLING, 4.1),
    ([0, 0, 0, 0, 0], UNIT_5, 6.7),
    ([0, 0, 0, 0, 0], MIXED_5, 5.7),
]
MEANS = [
    ([-1], UNIT_1, 1.3),
    ([1], UNIT_1, 1.3),
    ([-1, -1], UNIT_2, 2.6),
    ([1, 1], UNIT_2, 2.6),
    ([-1, 1], UNIT_2, 2.6),
    ([1, -1], UNIT_2, 2.6),
    ([0, 0, 0, 0, 0], UNIT_5, 7.0),
    ([0, -1, 1, 0, -1], UNIT_5, 7.0),
    ([-1, 0, 0, 1, 0], UNIT_5, 7.0),
    ([1, 1, -1, -1, 1], UNIT_5, 7.0),
]
MIXTURES = [
    ([[-6], [-3], [3], [6]], [UNIT_1] * 4, 2.6),
    ([[-6], [-3], [3], [6]], [WIDE_1] * 4, 3.1),
    ([[-10, -10], [10, -10], [-10, 10], [10, 10]], [UNIT_2] * 4, 4.2),
    ([[-1, -1], [1, -1], [-1, 1], [1, 1]], [WIDE_2, NARROW_2, RISING, FALLING], 4.2),
    ([[10, 0, 0, 0, 0], [0, 10, 0, 0, 0]], [UNIT_5] * 2, 7.3),
    ([[10, 0, 0, 0, 0], [-10, 0, 0, 0, 0]], [MIXED_5] * 2, 6.1),
]
FITS = pytest.mark.parametrize("fit", [fit_lbfgs, fit_em])
LEAST_DEVIATION = 1e-6  # at which its factors' diagonals are clamped


def drawn(means, covariances):
    rng = np.random.RandomState(42)  # its data, not others like them
    return np.concatenate(
        [rng.multivariate_normal(m, c, 200) for m, c in zip(means, covariances, strict=True)]
    )


@FITS
@pytest.mark.parametrize(("mean", "covariance", "expected"), COVARIANCES + MEANS)
def test_one_component_reaches_the_loss_and_is_the_sample_s_own_gaussian(
    fit, mean, covariance, expected
):
    x = drawn([mean], [covariance])
    found = fit(x, kmeans_start(x, 1, np.random.default_rng(0)))
    assert found.nll == pytest.approx(expected, rel=0.1)
    assert np.linalg.norm(found.parameters.means[0] - mean) < 0.15  # theirs, as the 10 %
    # The maximum is known: the sample's mean and covariance. A gradient of 1e-6, where L-BFGS
    # stops, leaves a loss of about its square, and parameters of about itself.
    log_det = np.linalg.slogdet(np.atleast_2d(np.cov(x.T, bias=True)))[1]
    n_features = len(mean)
    exact = 0.5 * (n_features * (math.log(2 * math.pi) + 1) + log_det)
    assert found.nll == pytest.approx(exact, abs=1e-10)
    np.testing.assert_allclose(found.parameters.means[0], x.mean(axis=0), atol=1e-5)


@FITS
@pytest.mark.parametrize(("means", "covariances", "expected"), MIXTURES)
def test_a_mixture_reaches_the_loss_and_is_no_worse_than_the_truth(
    fit, means, covariances, expected
):
    x = drawn(means, covariances)
    found = fit(x, kmeans_start(x, len(means), np.random.default_rng(0)), tol=1e-6)
    assert found.converged
    assert found.nll == pytest.approx(expected, rel=0.1)
    truth = np.linalg.cholesky(np.array(covariances, dtype=float))
    assert found.nll < nll(x, np.zeros(len(means)), means, truth)


@FITS
@pytest.mark.parametrize(
    ("rows", "starts", "expected"),
    [
        ([[0.0]], [[0.0], [0.0]], -12.9),
        # 1.5 is a failure to be seen: a component whose deviation was clamped beside its row is
        # lost, and the other, of weight 1/2, fits both rows: log 2 more than one Gaussian, 1.419.
        ([[0.0], [1.0]], [[0.0], [1.0]], 1.5),
    ],
)
def test_a_singularity_ends_on_the_floor_and_is_reported(fit, rows, starts, expected):
    start = Parameters(np.zeros(2), starts, np.ones((2, 1, 1)))
    found = fit(np.array(rows), start, reg_covar=LEAST_DEVIATION**2)
    # Each row at the mean of a component on the floor, with 1/len(rows) of the weight.
    on_the_floor = 0.5 * math.log(2 * math.pi) + math.log(LEAST_DEVIATION) + math.log(len(rows))
    assert found.nll == pytest.approx(on_the_floor, abs=1e-9)  # relative 1e-10
    assert found.collapsed == (0, 1)
    assert found.nll < expected + 0.1 * abs(expected)


def test_the_loss_that_a_lost_component_leaves_is_the_one_that_was_expected():
    rows, half = [[0.0], [1.0]], Parameters([0.0, 0.0], [[9.0], [0.5]], [[[1e-6]], [[0.5]]])
    lost = nll(rows, half.pi_logits, half.means, half.scale)
    assert lost == pytest.approx(1.4189385332, abs=1e-10)
    assert lost == pytest.approx(1.5, rel=0.1)
