"""The reference against definitions in loops, finite differences, and what must not change it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from problems import (
    BLOCKS,
    Problem,
    Worst,
    logits_floor,
    naive_gradients,
    naive_nll,
    random_problem,
)

from gmm_np import check_grad
from gmm_np.reference import nll_backward, nll_forward

# Rounding of two ways to the same number at the condition numbers of `random_problem`: a few
# hundred operations of 1.1e-16 each. Measured: 5e-16 for the value, 1e-14 for gradients.
TOLERANCE = 1e-13
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def value_and_grad(x, pi_logits, means, scale_tril, d_value=1.0, **options):
    value, cache = nll_forward(x, pi_logits, means, scale_tril, **options)
    return value, nll_backward(cache, d_value)


def random_options(seed, n_samples, reduction):
    """Draw weights and the incoming gradient of the value."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.0, 3.0, size=n_samples)
    return weight, rng.normal(size=n_samples if reduction == "none" else ())


def assert_same(seed, got, expected, tolerance=TOLERANCE, floor=None):
    """Assert that two (value, gradients) agree; the value relative to one nat at least."""
    worst = Worst()
    worst.add(seed, "value", got[0], expected[0], floor=1.0)
    n_samples = len(expected[1].x)
    floor = logits_floor(n_samples) if floor is None else floor
    worst.add_gradients(seed, got[1], expected[1], floor)
    worst.check(tolerance)


# --- against the definitions --------------------------------------------------------------------


# 210 problems in all, each by one of the reductions.
FIRST = {"mean": 0, "sum": 1, "none": 2}


@REDUCTIONS
def test_value_equals_the_definition_in_loops(reduction):
    worst = Worst()
    for seed in range(FIRST[reduction], 210, 3):
        problem = random_problem(seed)
        weight, _ = random_options(seed, len(problem.x), reduction)
        options = {"sample_weight": weight if seed % 2 else None, "reduction": reduction}
        value, _ = nll_forward(*problem, **options)
        worst.add(seed, "value", value, naive_nll(*problem, **options))
    worst.check(TOLERANCE)


@REDUCTIONS
def test_gradients_equal_their_closed_forms_in_loops(reduction):
    worst = Worst()
    for seed in range(FIRST[reduction], 210, 3):
        problem = random_problem(seed)
        weight, d_value = random_options(seed, len(problem.x), reduction)
        options = {"sample_weight": weight if seed % 2 else None, "reduction": reduction}
        _, gradients = value_and_grad(*problem, d_value, **options)
        expected = naive_gradients(*problem, **options, d_value=d_value)
        floor = logits_floor(len(problem.x), **options, d_value=d_value)
        worst.add_gradients(seed, gradients, expected, floor)
    worst.check(TOLERANCE)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 1, 6), (1, 5, 3), (6, 1, 4), (25, 4, 1)])
def test_smallest_sizes_equal_the_definitions(sizes):
    worst = Worst()
    for seed in range(20):
        problem = random_problem(seed, *sizes)
        value, gradients = value_and_grad(*problem)
        worst.add(seed, "value", value, naive_nll(*problem))
        worst.add_gradients(
            seed, gradients, naive_gradients(*problem), logits_floor(len(problem.x))
        )
    worst.check(TOLERANCE)


def test_value_by_hand():
    # One sample at the mean of one standard normal in two dimensions: log(2 pi).
    value, _ = nll_forward([[1.0, 2.0]], [3.0], [[1.0, 2.0]], [np.eye(2)])
    assert value == pytest.approx(np.log(2 * np.pi), rel=1e-15, abs=0)
    # Sigma = diag(4, 1/4) has a determinant of one; one and two standard deviations away.
    value, _ = nll_forward([[2.0, 1.0]], [0.0], [[0.0, 0.0]], [np.diag([2.0, 0.5])])
    assert value == pytest.approx(np.log(2 * np.pi) + (1 + 4) / 2, rel=1e-15, abs=0)


def test_gradient_by_hand():
    # nll = (x - m)^2 / (2 s^2) + log s + const at x - m = 3, s = 2.
    gradients = value_and_grad([[4.0]], [0.0], [[1.0]], [[[2.0]]])[1]
    assert gradients.pi_logits.tolist() == [0.0]
    assert gradients.means.tolist() == [[-0.75]]
    assert gradients.scale.tolist() == [[[0.5 - 9 / 8]]]
    assert gradients.x.tolist() == [[0.75]]


@pytest.mark.parametrize("entrywise", [False, True])
@REDUCTIONS
def test_gradients_agree_with_finite_differences(reduction, entrywise):
    for seed in range(4 if entrywise else 8):
        problem = random_problem(seed, 2 + seed % 3, 1 + seed % 3, 1 + seed % 4)
        weight, u = random_options(seed, len(problem.x), reduction)

        options = {"sample_weight": weight, "reduction": reduction}
        d = nll_backward(nll_forward(*problem, **options)[1], u)  # a check asks for it once
        gradients = (d.x, d.pi_logits, d.means, d.scale)

        def contracted(*arguments, options=options, u=u, gradients=gradients):
            return float((u * nll_forward(*arguments, **options)[0]).sum()), gradients

        report = check_grad(
            contracted,
            problem._asdict(),
            free={"scale_tril": np.tri(problem.x.shape[1], dtype=bool)},
            entrywise=entrywise,
            tolerance=1e-7,  # what extrapolated differences are worth
        )
        assert report, f"seed {seed}\n{report}"


# --- what must not change it, or only in a known way ---------------------------------------------


def test_shift_of_all_logits_changes_nothing():
    for seed in range(20):
        problem = random_problem(seed)
        # A power of two above all logits, so that few of their bits are rounded away.
        shifted = problem._replace(pi_logits=problem.pi_logits + 64.0)
        assert_same(seed, value_and_grad(*shifted), value_and_grad(*problem))


def test_permuted_rows_permute_the_gradient_of_x_and_nothing_else():
    for seed in range(20):
        problem = random_problem(seed)
        order = np.random.default_rng(seed).permutation(len(problem.x))
        value, gradients = value_and_grad(*problem)
        permuted = value_and_grad(*problem._replace(x=problem.x[order]))
        assert_same(seed, permuted, (value, gradients._replace(x=gradients.x[order])))


def test_permuted_components_permute_their_gradients():
    for seed in range(20):
        problem = random_problem(seed, n_components=5)
        order = np.random.default_rng(seed).permutation(5)
        value, gradients = value_and_grad(*problem)
        permuted = value_and_grad(problem.x, *(argument[order] for argument in problem[1:]))
        expected = type(gradients)(*(g[order] for g in gradients[:3]), gradients.x)
        assert_same(seed, permuted, (value, expected))


def test_permuted_rows_permute_each_value_of_reduction_none():
    problem = random_problem(3, n_samples=30)
    order = np.random.default_rng(3).permutation(30)
    value, _ = nll_forward(*problem, reduction="none")
    permuted, _ = nll_forward(*problem._replace(x=problem.x[order]), reduction="none")
    np.testing.assert_allclose(permuted, value[order], rtol=TOLERANCE)


def test_translation_of_data_and_means_changes_nothing():
    for seed in range(20):
        problem = random_problem(seed)
        # Multiples of 2^-30 below 2^10 add without rounding, so that residuals stay what they are.
        x, means = (np.round(a * 2.0**30) / 2.0**30 for a in (problem.x, problem.means))
        offset = np.round(np.random.default_rng(seed).normal(size=x.shape[1]) * 100)
        exact = problem._replace(x=x, means=means)
        moved = problem._replace(x=x + offset, means=means + offset)
        value, gradients = value_and_grad(*exact)
        moved_value, moved_gradients = value_and_grad(*moved)
        assert moved_value == value
        for block, got, expected in zip(BLOCKS, moved_gradients, gradients, strict=True):
            np.testing.assert_array_equal(got, expected, err_msg=f"seed {seed}, {block}")


def test_triangular_map_of_the_space_adds_its_log_determinant():
    for seed in range(20):
        problem = random_problem(seed)
        n_features = problem.x.shape[1]
        A = random_problem(seed + 100, n_components=1, n_features=n_features).scale_tril[0]
        mapped = Problem(
            problem.x @ A.T, problem.pi_logits, problem.means @ A.T, A @ problem.scale_tril
        )
        value, gradients = value_and_grad(*mapped)
        # The chain rule back through the map.
        back = gradients._replace(
            means=gradients.means @ A, scale=np.tril(A.T @ gradients.scale), x=gradients.x @ A
        )
        without = value - np.log(np.diagonal(A)).sum()
        # The map itself rounds residuals: ten times the errors of the loops.
        assert_same(seed, (without, back), value_and_grad(*problem), 10 * TOLERANCE)


def test_rotation_changes_the_value_not_at_all_and_rotates_the_pulls():
    for seed in range(20):
        problem = random_problem(seed)
        n_features = problem.x.shape[1]
        Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(n_features, n_features)))[0]
        covariance = Q @ problem.scale_tril @ problem.scale_tril.transpose(0, 2, 1) @ Q.T
        value, gradients = value_and_grad(*problem)
        rotated_value, rotated = value_and_grad(
            problem.x @ Q.T, problem.pi_logits, problem.means @ Q.T, np.linalg.cholesky(covariance)
        )
        worst = Worst()
        worst.add(seed, "value", rotated_value, value, floor=1.0)
        floor = logits_floor(len(problem.x))
        worst.add(seed, "pi_logits", rotated.pi_logits, gradients.pi_logits, floor)
        worst.add(seed, "means", rotated.means @ Q, gradients.means)
        worst.add(seed, "x", rotated.x @ Q, gradients.x)
        # Squaring the factor squares its condition number, up to 1e2 here.
        worst.check(100 * TOLERANCE)


@REDUCTIONS
def test_weight_two_equals_a_repeated_row(reduction):
    for seed in range(15):
        problem = random_problem(seed, n_samples=6)
        times = np.random.default_rng(seed).integers(1, 4, size=6)
        d_value = np.ones(6) if reduction == "none" else 1.0
        d_repeated = np.ones(times.sum()) if reduction == "none" else 1.0
        value, gradients = value_and_grad(
            *problem, d_value, sample_weight=times, reduction=reduction
        )
        repeated = problem._replace(x=np.repeat(problem.x, times, axis=0))
        value_repeated, of_repeated = value_and_grad(*repeated, d_repeated, reduction=reduction)
        starts = np.r_[0, times.cumsum()[:-1]]
        if reduction == "none":
            value_repeated = np.add.reduceat(value_repeated, starts)
        d_x = np.add.reduceat(of_repeated.x, starts, axis=0)
        floor = logits_floor(6, times, reduction)
        expected = (value_repeated, of_repeated._replace(x=d_x))
        assert_same(seed, (value, gradients), expected, floor=floor)


@REDUCTIONS
@pytest.mark.parametrize("far", [0.0, 1e200, -1.7e308])
def test_weight_zero_equals_a_dropped_row_however_far_it_is(reduction, far):
    for seed in range(10):
        problem = random_problem(seed, n_samples=7)
        weight, d_value = random_options(seed, 7, reduction)
        x = problem.x.copy()
        x[[2, 5]] += far
        weight[[2, 5]] = 0.0
        kept = np.delete(np.arange(7), [2, 5])
        value, gradients = value_and_grad(
            x, *problem[1:], d_value, sample_weight=weight, reduction=reduction
        )
        dropped_value, dropped = value_and_grad(
            x[kept],
            *problem[1:],
            d_value[kept] if reduction == "none" else d_value,
            sample_weight=weight[kept],
            reduction=reduction,
        )
        assert not gradients.x[[2, 5]].any()
        if reduction == "none":
            assert not value[[2, 5]].any()
            value = value[kept]
        floor = logits_floor(7, weight, reduction, d_value)
        got = (value, gradients._replace(x=gradients.x[kept]))
        assert_same(seed, got, (dropped_value, dropped), floor=floor)


def test_sum_is_total_weight_times_mean():
    for seed in range(20):
        problem = random_problem(seed)
        weight, d_value = random_options(seed, len(problem.x), "mean")
        total = weight.sum()
        mean, of_mean = value_and_grad(*problem, d_value, sample_weight=weight)
        of_sum = value_and_grad(*problem, d_value, sample_weight=weight, reduction="sum")
        floor = logits_floor(len(problem.x), weight, "sum", d_value)
        expected = (total * mean, type(of_mean)(*(total * g for g in of_mean)))
        assert_same(seed, of_sum, expected, floor=floor)


def test_sum_of_none_is_sum():
    for seed in range(20):
        problem = random_problem(seed)
        n_samples = len(problem.x)
        weight, _ = random_options(seed, n_samples, "none")
        each, of_each = value_and_grad(
            *problem, np.ones(n_samples), sample_weight=weight, reduction="none"
        )
        assert each.shape == (n_samples,)
        of_sum = value_and_grad(*problem, sample_weight=weight, reduction="sum")
        floor = logits_floor(n_samples, weight, "sum")
        assert_same(seed, (each.sum(), of_each), of_sum, floor=floor)


def test_weights_count_only_by_their_ratio_in_the_mean():
    for seed in range(10):
        problem = random_problem(seed)
        weight, _ = random_options(seed, len(problem.x), "mean")
        expected = value_and_grad(*problem, sample_weight=weight)
        for factor in (2.0**-1000, 3.0, 2.0**1000):
            assert_same(seed, value_and_grad(*problem, sample_weight=factor * weight), expected)


@REDUCTIONS
def test_backward_is_linear_in_d_value(reduction):
    for seed in range(15):
        problem = random_problem(seed)
        rng = np.random.default_rng(seed)
        shape = len(problem.x) if reduction == "none" else ()
        u, v = rng.normal(size=shape), rng.normal(size=shape)
        _, cache = nll_forward(*problem, reduction=reduction)
        of_u, of_v = nll_backward(cache, u), nll_backward(cache, v)
        both = nll_backward(cache, 2.0 * u - 3.0 * v)
        floor = logits_floor(len(problem.x), None, reduction, 2 * np.abs(u) + 3 * np.abs(v))
        worst = Worst()
        for block, got, g_u, g_v in zip(BLOCKS, both, of_u, of_v, strict=True):
            size = 2 * np.abs(g_u).max() + 3 * np.abs(g_v).max()  # what may cancel
            floor_here = max(size, floor) if block == "pi_logits" else size
            worst.add(seed, block, got, 2.0 * g_u - 3.0 * g_v, floor_here)
        worst.check(TOLERANCE)
        for block, got, once in zip(BLOCKS, nll_backward(cache, 4.0 * u), of_u, strict=True):
            np.testing.assert_array_equal(got, 4.0 * once, err_msg=block)  # a power of two: exact


@REDUCTIONS
def test_d_value_of_zero_gives_zero_gradients(reduction):
    problem = random_problem(4)
    _, cache = nll_forward(*problem, reduction=reduction)
    gradients = nll_backward(cache, np.zeros(len(problem.x) if reduction == "none" else ()))
    assert not any(g.any() for g in gradients)


def test_one_row_of_the_jacobian_touches_only_its_sample():
    problem = random_problem(6, n_samples=5)
    _, cache = nll_forward(*problem, reduction="none")
    gradients = nll_backward(cache, [0.0, 0.0, 1.0, 0.0, 0.0])
    assert gradients.x[2].all()
    assert not np.delete(gradients.x, 2, axis=0).any()
    _, alone = value_and_grad(problem.x[2:3], *problem[1:])
    for block, got, expected in zip(BLOCKS[:3], gradients, alone, strict=False):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13, err_msg=block)


def test_upper_triangle_of_the_factors_gradient_is_exactly_zero():
    for seed in range(30):
        problem = random_problem(seed, n_features=2 + seed % 6)
        gradient = value_and_grad(*problem)[1].scale
        assert not np.triu(gradient, 1).any()
        assert np.diagonal(gradient, axis1=1, axis2=2).all()  # and it is not zero everywhere


def test_gradient_of_one_component_s_logit_is_exactly_zero():
    for seed in range(30):
        problem = random_problem(seed, n_components=1)
        weight, d_value = random_options(seed, len(problem.x), "mean")
        gradients = value_and_grad(*problem, d_value, sample_weight=weight)[1]
        assert gradients.pi_logits.tolist() == [0.0]


def test_identical_components_equal_one():
    for seed in range(15):
        one = random_problem(seed, n_components=1)
        copies = 2 + seed % 4
        logits = np.random.default_rng(seed).normal(size=copies)
        pi = np.exp(logits) / np.exp(logits).sum()
        many = Problem(one.x, logits, *(np.repeat(a, copies, axis=0) for a in one[2:]))
        value, gradients = value_and_grad(*one)
        value_many, of_many = value_and_grad(*many)
        # Each copy gets its share, and moving weight between them changes nothing.
        expected = type(gradients)(
            np.zeros(copies),
            pi[:, None] * gradients.means,
            pi[:, None, None] * gradients.scale,
            gradients.x,
        )
        assert_same(seed, (value_many, of_many), (value, expected))


# --- components that are off, saturation, far points ----------------------------------------------


@REDUCTIONS
def test_component_that_is_off_gets_exact_zeros_and_changes_nothing(reduction):
    for seed in range(20):
        problem = random_problem(seed, n_components=2 + seed % 4)
        weight, d_value = random_options(seed, len(problem.x), reduction)
        options = {"sample_weight": weight, "reduction": reduction}
        off = seed % len(problem.pi_logits)
        logits = problem.pi_logits.copy()
        logits[off] = -np.inf
        means = problem.means.copy()
        if seed % 2:
            means[off] = 1e300  # beyond the square of a double, to no effect
        value, cache = nll_forward(problem.x, logits, means, problem.scale_tril, **options)
        gradients = nll_backward(cache, d_value)
        assert not cache.resp[:, off].any()
        assert cache.pi[off] == 0
        assert not any(g[off].any() for g in gradients[:3])
        rest = [np.delete(argument, off, axis=0) for argument in problem[1:]]
        expected = value_and_grad(problem.x, *rest, d_value, **options)
        of_rest = type(gradients)(*(np.delete(g, off, 0) for g in gradients[:3]), gradients.x)
        floor = logits_floor(len(problem.x), weight, reduction, d_value)
        assert_same(seed, (value, of_rest), expected, floor=floor)


def test_all_components_off_but_one_equal_that_one():
    problem = random_problem(2, n_components=4)
    logits = [-np.inf, -np.inf, 0.3, -np.inf]
    value, gradients = value_and_grad(problem.x, logits, *problem[2:])
    one_value, of_one = value_and_grad(problem.x, [0.0], *(a[2:3] for a in problem[2:]))
    assert value == one_value
    assert gradients.pi_logits.tolist() == [0.0] * 4
    np.testing.assert_array_equal(gradients.means[2:3], of_one.means)
    np.testing.assert_array_equal(gradients.scale[2:3], of_one.scale)
    np.testing.assert_array_equal(gradients.x, of_one.x)


def test_responsibilities_sum_to_one_and_are_the_softmax_of_the_joint():
    for seed in range(20):
        problem = random_problem(seed)
        _, cache = nll_forward(*problem)
        assert cache.resp.shape == (len(problem.x), len(problem.pi_logits))
        assert (cache.resp >= 0).all()
        np.testing.assert_allclose(cache.resp.sum(axis=1), 1.0, rtol=4e-16 * cache.resp.shape[1])


def test_saturated_responsibilities_leave_each_sample_to_its_component():
    # 1e3 sigma apart: the other's share is exp(-5e5), which is zero.
    x = np.array([[0.5], [-0.25], [1000.5], [999.0]])
    value, gradients = value_and_grad(x, [0.0, 0.0], [[0.0], [1000.0]], [[[1.0]], [[2.0]]])
    near = np.array([0.5, -0.25])
    far = np.array([0.5, -1.0])
    expected = np.log(2) + np.log(2 * np.pi) / 2
    expected += (near @ near / 2 + far @ far / 8 + 2 * np.log(2.0)) / 4
    assert value == pytest.approx(expected, rel=1e-15, abs=0)
    np.testing.assert_allclose(gradients.means[:, 0], [-near.sum() / 4, -far.sum() / 16])
    np.testing.assert_allclose(
        gradients.scale[:, 0, 0],
        [(2 - near @ near) / 4, (2 / 2.0 - far @ far / 8) / 4],
        rtol=1e-15,
    )
    np.testing.assert_allclose(gradients.x[:, 0], np.r_[near, far / 4] / 4, rtol=1e-15)
    assert gradients.pi_logits.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("distance", [50.0, 1e4, 1e150])
def test_far_points_are_right_where_every_density_underflows(distance):
    # exp(-distance^2 / 2) is zero in doubles from 39 on; its logarithm is not.
    x, means = [[distance]], [[0.0], [-distance]]
    value, gradients = value_and_grad(x, [0.0, 0.0], means, [[[1.0]], [[1.0]]])
    # The farther component's share is exp(-1.5 distance^2), which is zero as well.
    assert value == pytest.approx(
        distance**2 / 2 + np.log(2) + np.log(2 * np.pi) / 2, rel=4 * np.finfo(float).eps, abs=0
    )
    assert gradients.pi_logits.tolist() == [-0.5, 0.5]
    assert gradients.means.tolist() == [[-distance], [0.0]]
    assert gradients.x.tolist() == [[distance]]
    np.testing.assert_allclose(gradients.scale, [[[1 - distance**2]], [[0.0]]], rtol=1e-15)


@pytest.mark.parametrize("size", [1e3, 1e4])
def test_large_logits_are_right(size):
    problem = random_problem(8, n_components=3)
    logits = np.array([size, -size, size - 1.0])
    value, gradients = value_and_grad(problem.x, logits, *problem[2:])
    on = [0, 2]
    expected_value, expected = value_and_grad(
        problem.x, [1.0, 0.0], *(argument[on] for argument in problem[2:])
    )
    # log pi is rounded where the logits are: to 1e-12 of 1e4.
    assert value == pytest.approx(expected_value, abs=1e-16 * size + 1e-14)
    assert not any(g[1].any() for g in gradients[:3])
    for block, got, wanted in zip(BLOCKS[:3], gradients, expected, strict=False):
        np.testing.assert_allclose(got[on], wanted, rtol=0, atol=1e-11, err_msg=block)


# --- the cache and the arguments ------------------------------------------------------------------


@REDUCTIONS
def test_cache_can_be_used_again(reduction):
    problem = random_problem(11)
    weight, d_value = random_options(11, len(problem.x), reduction)
    _, cache = nll_forward(*problem, sample_weight=weight, reduction=reduction)
    first = nll_backward(cache, d_value)
    nll_backward(cache, 3.0 * d_value)
    for g in nll_backward(cache, d_value):
        g[...] = np.nan  # what a caller does to gradients is no business of the cache
    for block, g, again in zip(BLOCKS, first, nll_backward(cache, d_value), strict=True):
        np.testing.assert_array_equal(again, g, err_msg=block)


@REDUCTIONS
@pytest.mark.parametrize("argument", [*Problem._fields, "sample_weight"])
def test_cache_is_independent_of_later_writes_to_the_inputs(reduction, argument):
    arguments = {k: v.copy() for k, v in random_problem(12, n_samples=9)._asdict().items()}
    weight, d_value = random_options(12, 9, reduction)
    arguments["sample_weight"] = weight
    _, cache = nll_forward(**arguments, reduction=reduction)
    before = nll_backward(cache, d_value)
    arguments[argument] *= 7.0
    for block, g, after in zip(BLOCKS, before, nll_backward(cache, d_value), strict=True):
        np.testing.assert_array_equal(after, g, err_msg=block)


def test_writes_to_the_value_leave_the_cache_alone():
    problem = random_problem(13, n_samples=9)
    d_value = np.random.default_rng(13).normal(size=9)
    value, cache = nll_forward(*problem, reduction="none")
    before = nll_backward(cache, d_value)
    value[...] = np.nan
    for block, g, after in zip(BLOCKS, before, nll_backward(cache, d_value), strict=True):
        np.testing.assert_array_equal(after, g, err_msg=block)


@REDUCTIONS
def test_inputs_are_never_written_to(reduction):
    problem = random_problem(14)
    weight, d_value = random_options(14, len(problem.x), reduction)
    weight[0] = 0.0
    far = problem.x.copy()
    far[-1] = 1e200  # takes the wide-range way as well
    arguments = [far, *problem[1:], weight, d_value]
    copies = [np.array(argument) for argument in arguments]
    for argument in arguments:
        np.asarray(argument).setflags(write=False)
    value_and_grad(*arguments[:4], arguments[5], sample_weight=arguments[4], reduction=reduction)
    for argument, copy in zip(arguments, copies, strict=True):
        np.testing.assert_array_equal(argument, copy)


def _negative_strides(array):
    reverse = (slice(None, None, -1),) * array.ndim
    return np.ascontiguousarray(array[reverse])[reverse]


def _every_other(array):
    wide = np.full([2 * length for length in array.shape], np.nan)
    view = wide[(slice(None, None, 2),) * array.ndim]
    view[...] = array
    return view


def _big_endian(array):
    return array.astype(">f8")


LAYOUTS = (np.asfortranarray, _negative_strides, _every_other, _big_endian, np.ndarray.tolist)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__.strip("_"))
def test_memory_layout_changes_nothing(layout):
    for seed in range(8):
        problem = random_problem(seed)
        weight, d_value = random_options(seed, len(problem.x), "none")
        options = {"sample_weight": weight, "reduction": "none"}
        value, gradients = value_and_grad(*problem, d_value, **options)
        options["sample_weight"] = layout(weight)
        other, of_other = value_and_grad(
            *(layout(argument) for argument in problem), layout(d_value), **options
        )
        np.testing.assert_array_equal(other, value)
        for block, got, expected in zip(BLOCKS, of_other, gradients, strict=True):
            np.testing.assert_array_equal(got, expected, err_msg=f"seed {seed}, {block}")
            assert got.dtype == np.float64


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "i8", "u8", "?"])
def test_integers_are_taken_for_the_numbers_they_are(dtype):
    x = np.array([[0, 1], [1, 1], [1, 0]], dtype=dtype)
    logits = np.array([0, 1], dtype=dtype)
    means = np.array([[0, 0], [1, 1]], dtype=dtype)
    factors = np.array([[[1, 0], [1, 1]], [[1, 0], [0, 1]]], dtype=dtype)
    weight = np.array([1, 0, 1], dtype=dtype)
    arguments = (x, logits, means, factors)
    value, gradients = value_and_grad(*arguments, sample_weight=weight)
    floats = [argument.astype(float) for argument in arguments]
    expected, of_floats = value_and_grad(*floats, sample_weight=weight.astype(float))
    assert value == expected
    for got, wanted in zip(gradients, of_floats, strict=True):
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_narrow_floats_are_computed_in_float64_and_gradients_come_back_narrow(dtype):
    for seed in range(10):
        narrow = Problem(*(a.astype(dtype) for a in random_problem(seed)))
        value, gradients = value_and_grad(*narrow)
        wide_value, of_wide = value_and_grad(*(a.astype(np.float64) for a in narrow))
        assert isinstance(value, float)
        assert value == wide_value
        for block, got, expected in zip(BLOCKS, gradients, of_wide, strict=True):
            assert got.dtype == dtype
            np.testing.assert_array_equal(got, expected.astype(dtype), err_msg=block)


@pytest.mark.parametrize("position", range(4))
def test_each_gradient_comes_in_the_dtype_of_its_own_argument(position):
    arguments = list(random_problem(15))
    arguments[position] = arguments[position].astype(np.float32)
    gradients = value_and_grad(*arguments)[1]
    in_order = (gradients.x, gradients.pi_logits, gradients.means, gradients.scale)
    expected = [np.dtype(np.float32 if i == position else np.float64) for i in range(4)]
    assert [g.dtype for g in in_order] == expected


def test_gradient_beyond_float32_is_an_infinity_without_a_warning():
    x = np.array([[1e30]], dtype=np.float32)
    scale = np.array([[[1e-10]]], dtype=np.float32)
    value, gradients = value_and_grad(x, [0.0], np.zeros((1, 1), np.float32), scale)
    assert value == pytest.approx(
        (float(x[0, 0]) / float(scale[0, 0, 0])) ** 2 / 2, rel=1e-15, abs=0
    )
    assert gradients.scale.tolist() == [[[-np.inf]]]
    assert gradients.means.tolist() == [[-np.inf]]
    assert gradients.x.tolist() == [[np.inf]]


def test_value_is_a_python_float_or_an_array_of_samples():
    problem = random_problem(16, n_samples=4)
    assert type(nll_forward(*problem)[0]) is float
    assert type(nll_forward(*problem, reduction="sum")[0]) is float
    each = nll_forward(*problem, reduction="none")[0]
    assert each.shape == (4,)
    assert each.dtype == np.float64


def test_gradients_have_the_shapes_of_their_arguments():
    for seed in range(20):
        problem = random_problem(seed)
        d = value_and_grad(*problem)[1]
        shapes = [g.shape for g in (d.x, d.pi_logits, d.means, d.scale)]
        assert shapes == [argument.shape for argument in problem]


def test_calls_are_deterministic():
    problem = random_problem(17)
    value, gradients = value_and_grad(*problem)
    again, of_again = value_and_grad(*problem)
    assert again == value
    for got, expected in zip(of_again, gradients, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_concurrent_calls_equal_serial_ones():
    problems = [random_problem(seed, n_samples=60) for seed in range(8)]
    problems[3] = problems[3]._replace(x=problems[3].x * 1e200)  # the wide-range way
    serial = [value_and_grad(*problem) for problem in problems]
    start = threading.Barrier(8)

    def work(problem):
        start.wait(timeout=30)
        return [value_and_grad(*problem) for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        concurrent = list(pool.map(work, problems))
    for (value, gradients), results in zip(serial, concurrent, strict=True):
        assert len(results) == 20
        for other, of_other in results:
            assert other == value
            for got, expected in zip(of_other, gradients, strict=True):
                np.testing.assert_array_equal(got, expected)


def test_one_cache_serves_concurrent_backwards():
    problem = random_problem(18, n_samples=30)
    _, cache = nll_forward(*problem)
    expected = nll_backward(cache)
    with ThreadPoolExecutor(8) as pool:
        for gradients in pool.map(lambda _: nll_backward(cache), range(40)):
            for got, wanted in zip(gradients, expected, strict=True):
                np.testing.assert_array_equal(got, wanted)
