"""Each primitive of the reference on its own: what it is, and its backward by differences.

The value of a primitive is contracted with a random vector, which is then the gradient that comes
into its backward.
"""

import math

import numpy as np
import pytest
from problems import random_problem
from scipy import special

from gmm_np import check_grad, reference

SEEDS = range(10)
MODES = pytest.mark.parametrize("entrywise", [False, True])
# What extrapolated central differences are worth in float64; `check_grad` says about 1e-9.
TOLERANCE = 1e-7


def assert_grad(seed, function, arguments, entrywise, **free):
    report = check_grad(
        function, arguments, free=free, entrywise=entrywise, tolerance=TOLERANCE, seed=seed
    )
    assert report, f"seed {seed}\n{report}"
    assert all(block.checked > 0 for block in report.blocks)


def component(seed):
    """Return a generator, rows x [N, D], a mean [D] and a factor [D, D]."""
    problem = random_problem(seed, 2 + seed % 4, 1, 1 + seed % 4)
    return np.random.default_rng(seed), problem.x, problem.means[0], problem.scale_tril[0]


# --- logsumexp ------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("shape", [(1,), (5,), (4, 3), (3, 1), (2, 3, 4)])
def test_logsumexp_backward_agrees_with_differences(shape, entrywise):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        u = rng.normal(size=shape[:-1])

        def contracted(terms, u=u):
            value, softmax = reference.logsumexp_forward(terms)
            return float((u * value).sum()), (reference.logsumexp_backward(u, softmax),)

        assert_grad(seed, contracted, {"terms": rng.normal(size=shape)}, entrywise)


@pytest.mark.parametrize(
    ("terms", "value", "softmax"),
    [
        ([3.0], 3.0, [1.0]),
        ([-1e300], -1e300, [1.0]),
        *(([t, t], t + math.log(2), [0.5, 0.5]) for t in (0.0, 1e3, -1e3, 1e300, -1e300)),
        ([-np.inf, 1.0, -np.inf, 1.0], 1 + math.log(2), [0.0, 0.5, 0.0, 0.5]),
        ([0.0, -np.inf], 0.0, [1.0, 0.0]),
        # Nothing has a share of nothing.
        ([-np.inf, -np.inf], -np.inf, [0.0, 0.0]),
        # exp(-40) to its last digit, where log(1.0 + tiny) would be zero.
        ([0.0, -40.0], math.exp(-40), [1.0, math.exp(-40)]),
    ],
)
def test_logsumexp_of_special_terms(terms, value, softmax):
    terms = np.array(terms)
    terms.setflags(write=False)
    found, shares = reference.logsumexp_forward(terms)
    assert found == pytest.approx(value, rel=1e-15, abs=0)
    np.testing.assert_allclose(shares, softmax, rtol=4e-16)
    np.testing.assert_array_equal(reference.logsumexp_backward(np.array(3.0), shares), 3 * shares)


def test_logsumexp_agrees_with_scipy():
    for seed in SEEDS:
        terms = 10.0 ** (seed % 3) * np.random.default_rng(seed).normal(size=(20, 7))
        value, softmax = reference.logsumexp_forward(terms)
        np.testing.assert_allclose(value, special.logsumexp(terms, axis=-1), rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(softmax, special.softmax(terms, axis=-1), rtol=1e-13)


# --- log_softmax ----------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("n_components", [2, 3, 7])
def test_log_softmax_backward_agrees_with_differences(n_components, entrywise):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        u = rng.normal(size=n_components)

        def contracted(logits, u=u):
            log_pi, pi = reference.log_softmax_forward(logits)
            return float(u @ log_pi), (reference.log_softmax_backward(u, pi),)

        assert_grad(seed, contracted, {"pi_logits": rng.normal(size=n_components)}, entrywise)


def test_log_softmax_of_one_logit_is_zero_with_a_gradient_of_zero():
    log_pi, pi = reference.log_softmax_forward(np.array([1e4]))
    assert log_pi.tolist() == [0.0]
    assert pi.tolist() == [1.0]
    assert reference.log_softmax_backward(np.array([3.7]), pi).tolist() == [0.0]


def test_log_softmax_is_normalised_and_its_weights_are_its_exponentials():
    for seed in SEEDS:
        log_pi, pi = reference.log_softmax_forward(np.random.default_rng(seed).normal(size=6))
        assert pi.sum() == pytest.approx(1.0, rel=1e-15, abs=0)
        np.testing.assert_allclose(np.exp(log_pi), pi, rtol=1e-14)


def test_log_softmax_of_a_logit_of_minus_infinity():
    log_pi, pi = reference.log_softmax_forward(np.array([0.0, -np.inf, 0.0]))
    np.testing.assert_allclose(log_pi, [-math.log(2), -np.inf, -math.log(2)], rtol=1e-15)
    assert pi.tolist() == [0.5, 0.0, 0.5]
    # Nothing comes in for what is off, and nothing goes out.
    assert reference.log_softmax_backward(np.array([1.0, 0.0, 3.0]), pi).tolist() == [-1, 0, 1]


def test_log_softmax_backward_sums_to_zero():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        u = rng.normal(size=8)
        _, pi = reference.log_softmax_forward(rng.normal(size=8))
        gradient = reference.log_softmax_backward(u, pi)
        assert abs(gradient.sum()) < 1e-15 * (8 * np.abs(u).sum())


# --- quadratic form -------------------------------------------------------------------------------


@MODES
def test_quadratic_form_backward_agrees_with_differences(entrywise):
    for seed in SEEDS:
        rng, x, mean, factor = component(seed)
        u = rng.normal(size=len(x))

        def contracted(x, mean, factor, u=u):
            quadratic, z = reference.quadratic_form_forward(x, mean, factor)
            gradients = reference.quadratic_form_backward(u, x, mean, factor, z)
            return float(u @ quadratic), gradients

        arguments = {"x": x, "mean": mean, "factor": factor}
        assert_grad(seed, contracted, arguments, entrywise, factor=np.tri(mean.size, dtype=bool))


def test_quadratic_form_equals_its_definition():
    for seed in SEEDS:
        _, x, mean, factor = component(seed)
        quadratic, z = reference.quadratic_form_forward(x, mean, factor)
        residual = x - mean
        expected = ((residual @ np.linalg.inv(factor @ factor.T)) * residual).sum(axis=1)
        np.testing.assert_allclose(quadratic, expected, rtol=1e-12)  # an explicit inverse
        np.testing.assert_allclose(z @ factor.T, residual, rtol=0, atol=1e-14)


def test_quadratic_form_gradients_mirror_each_other():
    for seed in SEEDS:
        rng, x, mean, factor = component(seed)
        _, z = reference.quadratic_form_forward(x, mean, factor)
        d_x, d_mean, d_factor = reference.quadratic_form_backward(
            rng.normal(size=len(x)), x, mean, factor, z
        )
        # It depends on x - mean only.
        np.testing.assert_allclose(d_mean, -d_x.sum(axis=0), rtol=0, atol=1e-14)
        assert not np.triu(d_factor, 1).any()


def test_quadratic_form_is_zero_at_the_mean_with_gradients_of_zero():
    x, factor = np.array([[1.0, 2.0]]), np.array([[2.0, 0.0], [1.0, 0.5]])
    quadratic, z = reference.quadratic_form_forward(x, x[0], factor)
    assert quadratic.tolist() == [0.0]
    assert not any(
        g.any() for g in reference.quadratic_form_backward(np.ones(1), x, x[0], factor, z)
    )


# --- half the log-determinant ---------------------------------------------------------------------


@MODES
def test_half_log_det_backward_agrees_with_differences(entrywise):
    for seed in SEEDS:
        rng, _, mean, factor = component(seed)
        u = float(rng.normal())

        def contracted(factor, u=u):
            value, diagonal = reference.half_log_det_forward(factor)
            return u * value, (reference.half_log_det_backward(u, diagonal),)

        free = np.tri(mean.size, dtype=bool)
        assert_grad(seed, contracted, {"factor": factor}, entrywise, factor=free)


def test_half_log_det_is_half_the_log_determinant_of_the_covariance():
    for seed in SEEDS:
        _, _, _, factor = component(seed)
        value, _ = reference.half_log_det_forward(factor)
        sign, log_det = np.linalg.slogdet(factor @ factor.T)
        assert sign == 1
        assert value == pytest.approx(log_det / 2, rel=1e-12, abs=1e-13)  # through the covariance


def test_half_log_det_of_a_determinant_beyond_the_range():
    for diagonal in (1e-200, 1e200):
        value, kept = reference.half_log_det_forward(diagonal * np.eye(4))
        assert value == pytest.approx(4 * math.log(diagonal), rel=1e-15, abs=0)
        np.testing.assert_array_equal(
            reference.half_log_det_backward(2.0, kept), np.eye(4) * (2.0 / diagonal)
        )


def test_half_log_det_keeps_no_view_of_the_factor():
    factor = 2.0 * np.eye(2)
    _, diagonal = reference.half_log_det_forward(factor)
    factor *= 5.0
    assert diagonal.tolist() == [2.0, 2.0]


# --- log density ----------------------------------------------------------------------------------


@MODES
def test_log_density_backward_agrees_with_differences(entrywise):
    for seed in SEEDS:
        rng, x, mean, factor = component(seed)
        u = rng.normal(size=len(x))

        def contracted(x, mean, factor, u=u):
            log_density, z = reference.log_density_forward(x, mean, factor)
            gradients = reference.log_density_backward(u, x, mean, factor, z)
            return float(u @ log_density), gradients

        arguments = {"x": x, "mean": mean, "factor": factor}
        assert_grad(seed, contracted, arguments, entrywise, factor=np.tri(mean.size, dtype=bool))


def test_log_density_of_a_standard_normal():
    x = np.array([[0.0, 0.0], [1.0, -2.0]])
    log_density, _ = reference.log_density_forward(x, np.zeros(2), np.eye(2))
    expected = [-math.log(2 * math.pi), -math.log(2 * math.pi) - 2.5]
    np.testing.assert_allclose(log_density, expected, rtol=1e-15)


def test_log_density_integrates_to_one():
    # The trapezoidal rule on a smooth function that vanishes at both ends is exact to rounding.
    grid = np.linspace(-9.0, 13.0, 2001)[:, None]
    log_density, _ = reference.log_density_forward(grid, np.array([2.0]), np.array([[0.7]]))
    assert np.exp(log_density).sum() * (grid[1, 0] - grid[0, 0]) == pytest.approx(1.0, abs=1e-13)
    side = np.linspace(-9.0, 9.0, 181)
    square = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    factor = np.array([[1.0, 0.0], [0.6, 0.8]])
    log_density, _ = reference.log_density_forward(square, np.zeros(2), factor)
    assert np.exp(log_density).sum() * (side[1] - side[0]) ** 2 == pytest.approx(1.0, abs=1e-13)


def test_a_row_of_weight_zero_pulls_at_nothing_however_far_it_is():
    x = np.array([[1e200, -1e300], [0.5, 0.5]])
    mixture = (np.zeros(1), np.zeros((1, 2)), np.diag([1e-200, 1.0])[None])
    _, cache = reference.nll_forward(x, *mixture, sample_weight=[0.0, 1.0])
    _, alone = reference.nll_forward(x[1:], *mixture)
    got, wanted = reference.nll_backward(cache), reference.nll_backward(alone)
    assert not got.x[0].any()
    for block, expected in zip((*got[:3], got.x[1:]), wanted, strict=True):
        np.testing.assert_array_equal(block, expected)


# --- reduce ---------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reduce_backward_agrees_with_differences(reduction, weighted, entrywise):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        weight = rng.uniform(0.1, 3.0, size=5) if weighted else np.ones(5)
        u = rng.normal(size=5 if reduction == "none" else ())

        def contracted(log_likelihood, weight=weight, u=u):
            value, coefficient = reference.reduce_forward(log_likelihood, weight, reduction)
            return float((u * value).sum()), (reference.reduce_backward(u, coefficient),)

        assert_grad(seed, contracted, {"log_likelihood": rng.normal(size=5)}, entrywise)


def test_reduce_equals_its_definition():
    log_likelihood, weight = np.array([1.0, -2.0, 4.0]), np.array([1.0, 2.0, 5.0])
    assert reference.reduce_forward(log_likelihood, weight, "mean")[0] == -17 / 8
    assert reference.reduce_forward(log_likelihood, weight, "sum")[0] == -17
    assert reference.reduce_forward(log_likelihood, weight, "none")[0].tolist() == [-1, 4, -20]
    assert reference.reduce_forward(log_likelihood, np.ones(3), "mean")[0] == -1
    assert reference.reduce_forward(log_likelihood, np.ones(3), "sum")[0] == -3
    assert reference.reduce_forward(log_likelihood, np.ones(3), "none")[0].tolist() == [-1, 2, -4]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reduce_drops_a_row_of_weight_zero_even_at_an_infinite_loss(reduction):
    log_likelihood, weight = np.array([1.0, -np.inf]), np.array([1.0, 0.0])
    with np.errstate(invalid="ignore"):  # as `nll_forward` calls it
        value, coefficient = reference.reduce_forward(log_likelihood, weight, reduction)
    assert np.ravel(value).tolist() == [-1.0, 0.0][: np.size(value)]
    assert coefficient.tolist() == [1.0, 0.0]


# --- sum over samples -----------------------------------------------------------------------------


def test_sum_over_samples_is_accurate_over_many_rows():
    # Row after row, 1e6 additions of 0.1 lose three digits more than pairs of pairs do, which round
    # about thirty times: 16 in blocks of 128 and log2 of their number.
    terms = np.full((10**6, 2), 0.1)
    np.testing.assert_allclose(reference.sum_over_samples(terms), 1e5, rtol=30 * 1.1e-16)
    assert not np.allclose(np.add.accumulate(terms, axis=0)[-1], 1e5, rtol=1e-13, atol=0)
