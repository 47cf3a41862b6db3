"""Distances, pulls and gradients beyond the range of a double: finite where true, never NaN.

The gradient of one Gaussian is a rational function of its arguments, so that fractions give it
exactly; with more components, cases of which the answer is known. Multiple precision judges the
rest in test_extended_range_mpmath.py.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
from problems import BLOCKS, random_problem

from gmm_np import extended_range
from gmm_np.reference import nll_backward, nll_forward, quadratic_form_forward

LARGEST = float(np.finfo(float).max)
TINY = 5e-324
INF = float("inf")
# A dozen roundings of 1.1e-16; no case here cancels.
TOLERANCE = 1e-14


def exact_gaussian(x, mean, factor):
    """Value and gradients (means, scale, x) of the mean loss of one component, in fractions.

    The value comes without its logarithms: the mean of q / 2. Each entry is a pair: what it is, and
    the sum of the magnitudes of its addends, to which rounding errors are relative.
    """
    n_samples, d = len(x), len(mean)
    L = [[Fraction(v) for v in row] for row in factor]
    half_q = []
    d_mean = [[] for _ in range(d)]
    d_factor = [[[] for _ in range(d)] for _ in range(d)]
    d_x = []
    for row in x:
        e = [Fraction(a) - Fraction(b) for a, b in zip(row, mean, strict=True)]
        z, pull = [Fraction(0)] * d, [Fraction(0)] * d
        for i in range(d):
            z[i] = (e[i] - sum(L[i][j] * z[j] for j in range(i))) / L[i][i]
        for i in reversed(range(d)):
            pull[i] = (z[i] - sum(L[j][i] * pull[j] for j in range(i + 1, d))) / L[i][i]
        half_q += [v * v / 2 / n_samples for v in z]
        d_x.append([[p / n_samples] for p in pull])
        for i in range(d):
            d_mean[i].append(-pull[i] / n_samples)
            for j in range(i + 1):
                d_factor[i][j].append(-pull[i] * z[j] / n_samples)
            d_factor[i][i].append(1 / L[i][i] / n_samples)
    return half_q, ([d_mean], [d_factor], d_x)


def nearest_double(fraction):
    """The nearest double; an infinity beyond the range."""
    try:
        return float(fraction)
    except OverflowError:
        return INF if fraction > 0 else -INF


def assert_close(got, addends, place):
    """Assert that one number is the sum of fractions: no large entry excuses a small one."""
    expected = sum(addends, Fraction(0))
    place = f"{place}: got {got!r}, expected {nearest_double(expected)!r}"
    if math.isinf(nearest_double(expected)):
        assert got == nearest_double(expected), place
    else:
        assert math.isfinite(got), place
        # Subnormal results have no more digits than multiples of 5e-324.
        allowed = Fraction(TOLERANCE) * sum(map(abs, addends)) + 4 * Fraction(TINY)
        close = abs(Fraction(got) - expected) <= allowed
        assert close, place


def assert_gaussian(x, mean, factor):
    """Compare value and all gradients of one component with fractions; return them."""
    value, cache = nll_forward(x, [0.0], [mean], [factor])
    gradients = nll_backward(cache)
    half_q, expected = exact_gaussian(x, mean, factor)
    logs = [math.log(row[i]) for i, row in enumerate(factor)]
    logs.append(len(mean) / 2 * math.log(2 * math.pi))
    assert_close(value, half_q + [Fraction(v) for v in logs], "value")
    assert gradients.pi_logits.tolist() == [0.0]
    for block, got, wanted in zip(BLOCKS[1:], gradients[1:], expected, strict=True):
        for index, entry in np.ndenumerate(got):
            addends = wanted
            for i in index:
                addends = addends[i]
            assert_close(float(entry), addends, f"{block}{list(index)}")
    return value, gradients


# --- one component, one dimension ----------------------------------------------------------------


@pytest.mark.parametrize("scale", [TINY, 1e-309, 1e-200, 1e-150, 1.0, 1e150, 1e200, LARGEST])
@pytest.mark.parametrize(
    "residual", [0.0, TINY, 1e-309, 1e-200, 1e-150, 1.0, -3.0, 1e150, -1e200, 1.7e308]
)
def test_one_component_in_one_dimension_is_right_whatever_the_magnitudes(scale, residual):
    assert_gaussian([[residual]], [0.0], [[scale]])
    assert_gaussian([[residual], [1.0]], [0.0], [[scale]])
    scale = min(scale, 1e307)  # for twice as much is a residual as well
    assert_gaussian([[residual], [-0.75 * residual], [2.0 * scale]], [0.0], [[scale]])


def test_known_cases_have_known_answers():
    value, gradients = assert_gaussian([[1e200]], [0.0], [[1.0]])
    assert value == INF
    assert gradients.means.tolist() == [[-1e200]]
    assert gradients.scale.tolist() == [[[-INF]]]
    value, gradients = assert_gaussian([[-1e150]], [0.0], [[1e-150]])
    assert value == INF
    assert gradients.means.tolist() == [[INF]]
    assert gradients.x.tolist() == [[-INF]]
    value, gradients = assert_gaussian([[1e200]], [0.0], [[1e200]])
    assert value == pytest.approx(
        0.5 + math.log(1e200) + math.log(2 * math.pi) / 2, rel=1e-15, abs=0
    )
    assert gradients.scale.tolist() == [[[0.0]]]


@pytest.mark.parametrize("scale", [1.0, 1e150, 1.7e308])
def test_residual_beyond_the_range(scale):
    # x - mean is 3.4e308, which no double holds.
    value, _ = assert_gaussian([[1.7e308]], [-1.7e308], [[scale]])
    assert math.isfinite(value) == (scale == 1.7e308)
    assert_gaussian([[1.7e308, 1.0]], [-1.7e308, 0.0], [[scale, 0.0], [0.0, 2.0]])


@pytest.mark.parametrize("scale", [TINY, 1e-309, 1.5e-310])
def test_subnormal_factors(scale):
    value, gradients = assert_gaussian([[3 * scale]], [0.0], [[scale]])
    assert value == pytest.approx(
        4.5 + math.log(scale) + math.log(2 * math.pi) / 2, rel=1e-15, abs=0
    )
    # Beyond the range: 3 / scale is 6e323 at least for TINY, 3e309 for 1e-309.
    assert gradients.means.tolist() == [[-INF]]
    assert gradients.scale.tolist() == [[[-INF]]]
    # At the mean only the determinant pulls, the other way.
    _, gradients = assert_gaussian([[0.0]], [0.0], [[scale]])
    assert gradients.scale.tolist() == [[[INF]]]
    assert gradients.means.tolist() == [[0.0]]


# --- one component, several dimensions -----------------------------------------------------------


BOTH_SCALES = {
    "moderate": ([[1e150, 1e-150], [2e150, 3e-150]], [[1e150, 0.0], [0.0, 1e-150]]),
    "correlated down": ([[1e150, 1e-150], [2e150, 3e-150]], [[1e150, 0.0], [0.5e-150, 1e-150]]),
    "correlated up": ([[1e-150, 1e150], [2e-150, 3e150]], [[1e-150, 0.0], [0.5e150, 1e150]]),
    "extreme": ([[1e300, 1e-300], [2e300, 3e-300]], [[1e300, 0.0], [0.0, 1e-300]]),
    "extreme, correlated": ([[1e300, 1e-300]], [[1e300, 0.0], [0.5e-300, 1e-300]]),
    "near and far": ([[1.0, 1e200]], [[1.0, 0.0], [0.0, 1.0]]),
    "three": ([[1e100, 1.0, 1e-100]], [[1e100, 0, 0], [0.5, 1.0, 0], [1e-100, 2e-100, 1e-100]]),
    # One direction is beyond the range, the others are not and must not suffer from it.
    "near and 1e400 sigma": ([[1.0, 1e200]], [[1.0, 0.0], [0.0, 1e-200]]),
    "1e400 sigma and near": ([[1e200, 1.0]], [[1e-200, 0.0], [0.0, 1e-10]]),
    "1e600 sigma and 1e10": ([[1e300, 1.0]], [[1e-300, 0.0], [0.0, 1e-10]]),
    "two rows": ([[1e300, 1.0], [1e-300, 2.0]], [[1e-300, 0.0], [0.0, 1.0]]),
    # Entries of the factor whose ratio is beyond the range.
    "steep": ([[1.0, 1.0]], [[1.0, 0.0], [1e200, 1e-200]]),
    "steep, at zero": ([[0.0, 1.0]], [[1.0, 0.0], [1e200, 1e-200]]),
    "steep, negative": ([[1.0, 1.0]], [[1.0, 0.0], [-1e200, 1e-200]]),
}


@pytest.mark.parametrize("case", BOTH_SCALES)
def test_both_scales_in_one_component(case):
    x, factor = BOTH_SCALES[case]
    assert_gaussian(x, [0.0] * len(factor), factor)


def test_multiplying_space_by_a_power_of_two_scales_gradients_exactly():
    for seed in range(5):
        x, _, means, scale_tril = random_problem(seed, n_components=1)
        _, cache = nll_forward(x, [0.0], means, scale_tril)
        gradients = nll_backward(cache)
        for power in (-900, -520, 520, 1000):
            _, cache = nll_forward(
                *(np.ldexp(x, power), [0.0]), np.ldexp(means, power), np.ldexp(scale_tril, power)
            )
            scaled = nll_backward(cache)
            for block, got, expected in zip(BLOCKS[1:], scaled[1:], gradients[1:], strict=True):
                np.testing.assert_array_equal(
                    got, np.ldexp(expected, -power), err_msg=f"seed {seed}, 2^{power}: {block}"
                )


# --- several components --------------------------------------------------------------------------


def test_nearest_of_components_beyond_the_range_takes_all():
    value, cache = nll_forward([[1e200]], [0.0, 5.0], [[1e199], [0.0]], [[[1.0]], [[1.0]]])
    assert value == INF
    assert cache.resp.tolist() == [[1.0, 0.0]]
    gradients = nll_backward(cache)
    np.testing.assert_allclose(gradients.means, [[-9e199], [0.0]], rtol=1e-15)
    np.testing.assert_allclose(gradients.x, [[9e199]], rtol=1e-15)
    assert gradients.scale.tolist() == [[[-INF]], [[0.0]]]
    pi = np.exp([0.0, 5.0]) / np.exp([0.0, 5.0]).sum()
    np.testing.assert_allclose(gradients.pi_logits, pi - [1.0, 0.0], rtol=1e-14)


@pytest.mark.parametrize("gap", [1e-3, 1e-10, 1e-13, 1e-14, 1e-15])
def test_nearest_takes_all_however_slightly_nearer_it_is(gap):
    # Distances of 1e200 and (1 - gap) 1e200: their squares differ by gap * 2e400.
    _, cache = nll_forward([[1e200]], [0.0, 0.0], [[0.0], [gap * 1e200]], [[[1.0]], [[1.0]]])
    assert cache.resp.tolist() == [[0.0, 1.0]]


def test_smaller_distance_in_its_own_sigmas_wins_not_the_smaller_residual():
    _, cache = nll_forward([[1e200]], [0.0, 0.0], [[-1e200], [0.0]], [[[1e10]], [[1.0]]])
    assert cache.resp.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("size", [1e160, 1e200, 1e300])
def test_exact_ties_share_by_weight(size):
    logits = [0.0, 1.0]
    pi = np.exp(logits) / np.exp(logits).sum()
    value, cache = nll_forward([[0.0]], logits, [[-size], [size]], [[[1.0]], [[1.0]]])
    assert value == INF
    np.testing.assert_allclose(cache.resp, [pi], rtol=1e-15)
    gradients = nll_backward(cache)
    np.testing.assert_allclose(gradients.means[:, 0], pi * [-size, size], rtol=1e-15)
    np.testing.assert_allclose(gradients.x, [[(pi[0] - pi[1]) * size]], rtol=1e-15)
    np.testing.assert_allclose(gradients.pi_logits, [0.0, 0.0], atol=1e-15)
    assert gradients.scale.ravel().tolist() == [-INF, -INF]


def test_exact_ties_share_by_density():
    # 1e200 is a hundred sigma of one and of the other: determinants 4:1.
    x, means = [[0.0, 0.0]], [[1e200, 0.0], [0.0, -2e200]]
    factors = [np.eye(2), 2.0 * np.eye(2)]
    _, cache = nll_forward(x, [0.0, 0.0], means, factors)
    np.testing.assert_allclose(cache.resp, [[0.8, 0.2]], rtol=1e-15)


def test_ties_leave_out_components_that_are_off_or_farther():
    logits = [0.0, -np.inf, 0.0, 3.0]
    _, cache = nll_forward([[0.0]], logits, [[1e200], [0.0], [-1e200], [2e200]], [[[1.0]]] * 4)
    assert cache.resp.tolist() == [[0.5, 0.0, 0.5, 0.0]]


@pytest.mark.parametrize("offset", [1e-250, 1e-100, 1e100, 1e300])
def test_opposite_infinities_cancel_where_they_truly_do(offset):
    # Each component pulls the sample by half of offset / scale^2, beyond the range, in opposite
    # directions; and the samples pull a mean alike.
    scale = 1e-300 if offset < 1 else 1e-150
    two = [[[scale]], [[scale]]]
    value, cache = nll_forward([[0.0]], [0.0, 0.0], [[-offset], [offset]], two)
    gradients = nll_backward(cache)
    assert not math.isnan(value)
    assert gradients.x.tolist() == [[0.0]]
    assert gradients.means.tolist() == [[-INF], [INF]]
    _, gradients = assert_gaussian([[-offset], [offset]], [0.0], [[scale]])
    assert gradients.means.tolist() == [[0.0]]
    assert gradients.x.tolist() == [[-INF], [INF]]


def test_infinities_that_do_not_cancel_keep_the_sign_of_the_larger():
    gradients = nll_backward(
        nll_forward([[0.0]], [1.0, 0.0], [[-1e-100], [1e-100]], [[[1e-260]], [[1e-260]]])[1]
    )
    assert gradients.x.tolist() == [[INF]]
    _, gradients = assert_gaussian([[-1.0], [1.5]], [0.0], [[1e-200]])
    assert gradients.means.tolist() == [[-INF]]


def test_far_rows_leave_near_rows_alone():
    problem = random_problem(3, n_samples=6, n_components=3, n_features=2)
    x = np.vstack([problem.x, [[1e200, -1e250]]])
    value, cache = nll_forward(x, *problem[1:], reduction="none")
    near, near_cache = nll_forward(*problem, reduction="none")
    np.testing.assert_array_equal(value[:6], near)
    assert value[6] == INF
    assert cache.resp[6].sum() == 1.0
    gradients = nll_backward(cache, np.r_[np.ones(6), 0.0])
    expected = nll_backward(near_cache, np.ones(6))
    for block, got, wanted in zip(BLOCKS, gradients, expected, strict=True):
        np.testing.assert_allclose(
            got[:6] if block == "x" else got, wanted, rtol=0, atol=1e-13, err_msg=block
        )


def test_component_beyond_the_range_leaves_the_others_alone():
    problem = random_problem(5, n_components=2)
    # A third of 1e-309 sigma, far from all data: it has no share.
    n_features = problem.x.shape[1]
    three = (
        np.r_[problem.pi_logits, 0.0],
        np.vstack([problem.means, np.full((1, n_features), 50.0)]),
        np.concatenate([problem.scale_tril, 1e-309 * np.eye(n_features)[None]]),
    )
    value, cache = nll_forward(problem.x, *three, reduction="sum")
    gradients = nll_backward(cache)
    expected = nll_backward(nll_forward(*problem, reduction="sum")[1])
    assert math.isfinite(value)
    assert not cache.resp[:, 2].any()
    assert not gradients.means[2].any()
    assert not gradients.scale[2].any()
    for block in ("means", "scale"):
        np.testing.assert_allclose(
            getattr(gradients, block)[:2], getattr(expected, block), rtol=1e-13, err_msg=block
        )
    np.testing.assert_allclose(gradients.x, expected.x, rtol=1e-13)


# --- means and weights at the ends of the range ---------------------------------------------------


@pytest.mark.parametrize("n_samples", [2, 3, 10, 1000])
def test_mean_of_losses_is_finite_where_their_sum_is_not(n_samples):
    # Each loss is 8.45e307.
    value, _ = nll_forward([[1.3e154]] * n_samples, [0.0], [[0.0]], [[[1.0]]])
    assert value == pytest.approx(0.5 * 1.3e154**2, rel=1e-14, abs=0)


def test_loss_is_finite_where_the_squared_distance_is_not():
    # The squared distance is 3.24e308, and half of it is the loss.
    value, cache = nll_forward([[1.8e154]], [0.0], [[0.0]], [[[1.0]]])
    assert value == pytest.approx(0.5 * 1.8e154 * 1.8e154, rel=1e-15, abs=0)
    assert nll_backward(cache).means.tolist() == [[-1.8e154]]


@pytest.mark.parametrize("factor", [TINY, 1e-320, 1e-300, 1e300, 8e307])
def test_common_factor_of_the_weights_does_not_count_in_the_mean(factor):
    x, weight = [[0.5], [-1.25]], np.array([1.0, 1.0])
    value, cache = nll_forward(x, [0.0], [[0.0]], [[[2.0]]], sample_weight=factor * weight)
    expected, expected_cache = nll_forward(x, [0.0], [[0.0]], [[[2.0]]])
    assert value == pytest.approx(expected, rel=1e-15, abs=0)
    for got, wanted in zip(nll_backward(cache), nll_backward(expected_cache), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-15)


def test_weights_whose_products_with_the_losses_are_beyond_the_range():
    value, _ = nll_forward([[1e10]], [0.0], [[0.0]], [[[1.0]]], sample_weight=[1e300])
    assert value == pytest.approx(5e19, rel=1e-15, abs=0)


@pytest.mark.parametrize("d_value", [1e-300, 1e300, -1e-300])
def test_d_value_scales_gradients_before_they_leave_the_range(d_value):
    # The gradient of the factor is -1e400 at d_value = 1.
    _, cache = nll_forward([[1e200]], [0.0], [[0.0]], [[[1.0]]], reduction="sum")
    gradients = nll_backward(cache, d_value)
    scale = nearest_double(Fraction(d_value) * (1 - Fraction(1e200) ** 2))
    pull = nearest_double(Fraction(d_value) * Fraction(1e200))
    np.testing.assert_allclose(gradients.scale, [[[scale]]], rtol=1e-15)
    np.testing.assert_allclose(gradients.means, [[-pull]], rtol=1e-15)
    np.testing.assert_allclose(gradients.x, [[pull]], rtol=1e-15)


# --- the fallback itself --------------------------------------------------------------------------


WIDE = np.array([1.0, -0.3, TINY, LARGEST, 1e-310, 0.0, -1e200, 3e-200])


def test_wide_numbers_take_doubles_apart_without_rounding():
    wide = extended_range.Wide.of(WIDE)
    size = np.abs(wide.mantissa)
    assert (((size >= 0.5) & (size < 1)) | (WIDE == 0)).all()
    np.testing.assert_array_equal(wide.to_double(), WIDE)
    np.testing.assert_array_equal(wide.negative().to_double(), -WIDE)


def test_wide_numbers_come_back_as_infinities_and_zeros_beyond_the_range():
    wide = extended_range.Wide.of(
        np.array([1.5, -1.5, 0.0, 1.5]), np.array([2000, 2000, 2000, -2000])
    )
    with np.errstate(over="ignore", under="ignore"):  # as the reference calls it
        assert wide.to_double().tolist() == [INF, -INF, 0.0, 0.0]


def wide_to_fraction(wide, index):
    return Fraction(float(wide.mantissa[index])) * Fraction(2) ** int(wide.exponent[index])


def test_wide_products_quotients_and_sums_are_those_of_fractions():
    left, right = np.meshgrid(WIDE, WIDE[WIDE != 0])
    wide, other = extended_range.Wide.of(left), extended_range.Wide.of(right)
    unit = Fraction(1, 2**52)  # one rounding each
    for index in np.ndindex(left.shape):
        a, b = Fraction(left[index]), Fraction(right[index])
        assert abs(wide_to_fraction(wide.times(other), index) - a * b) <= unit * abs(a * b)
        assert abs(wide_to_fraction(wide.over(other), index) - a / b) <= unit * abs(a / b)
    for axis in (0, 1):
        product = wide.times(other)
        total = product.sum(axis=axis)
        for i in range(left.shape[1 - axis]):
            terms = [
                wide_to_fraction(product, (j, i) if axis == 0 else (i, j))
                for j in range(left.shape[axis])
            ]
            error = abs(wide_to_fraction(total, i) - sum(terms))
            assert error <= len(terms) * unit * sum(map(abs, terms))


def test_fallback_agrees_with_the_plain_way_in_the_ordinary_range():
    for seed in range(30):
        x, _, means, scale_tril = random_problem(seed, n_components=1)
        rng = np.random.default_rng(seed)
        d_log_density = rng.normal(size=len(x))
        quadratic, z = quadratic_form_forward(x, means[0], scale_tril[0])
        other, other_z = extended_range.quadratic_form_forward(x, means[0], scale_tril[0])
        np.testing.assert_allclose(other.to_double(), quadratic, rtol=1e-13)
        np.testing.assert_allclose(other_z, z, rtol=1e-12, atol=1e-13)
        _, whole = nll_forward(x, [0.0], means, scale_tril, reduction="none")
        plain = nll_backward(whole, -d_log_density)
        d_mean, d_factor = extended_range.log_density_backward(
            d_log_density, x, means[0], scale_tril[0]
        )
        d_x = extended_range.x_backward(d_log_density[:, None], x, means, scale_tril)
        for got, wanted in ((d_x, plain.x), (d_mean, plain.means[0]), (d_factor, plain.scale[0])):
            # Twenty roundings, relative to the largest of the block.
            assert np.abs(got - wanted).max() <= 1e-13 * np.abs(wanted).max(), f"seed {seed}"
        assert not np.triu(d_factor, 1).any()


def test_fallback_sums_pulls_over_components_like_the_plain_way():
    for seed in range(20):
        problem = random_problem(seed)
        _, cache = nll_forward(*problem, reduction="sum")
        plain = nll_backward(cache).x
        got = extended_range.x_backward(-cache.resp, problem.x, problem.means, problem.scale_tril)
        assert np.abs(got - plain).max() <= 1e-13 * np.abs(plain).max(), f"seed {seed}"


def test_fallback_with_no_share_at_all_gives_zeros():
    gradients = extended_range.log_density_backward(
        np.zeros(2), np.array([[1e300], [-1e300]]), np.zeros(1), np.array([[TINY]])
    )
    assert [g.shape for g in gradients] == [(1,), (1, 1)]
    assert not any(g.any() for g in gradients)
