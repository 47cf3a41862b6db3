"""The public functions against the reference: values, gradients, responsibilities, memory, threads.

Tolerances: the engine and the reference agree to 1e-12 of a block's largest magnitude on
well-conditioned input, which is the contract.
"""

import concurrent.futures
import json
import math
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from problems import Worst, assert_agree, logits_floor, naive_gradients, naive_nll, random_problem

import gmm_np
from gmm_np import (
    Parameters,
    gradients,
    log_prob,
    nll,
    nll_value_and_grad,
    responsibilities,
    statistics,
    tuning,
)
from gmm_np.estep import PreparedMixture
from gmm_np.estep.estep import EStep
from gmm_np.reference import nll_backward, nll_forward

METHODS = ("auto", "direct", "moments")
methods = pytest.mark.parametrize("method", METHODS)
TOLERANCE = 1e-12
INF = math.inf

# N, K, D. The loops and the BLAS calls of the families part ways between D = 12 and 13.
SHAPES = [
    (1, 1, 1),
    (1, 1, 6),
    (1, 4, 3),
    (2, 2, 1),
    (7, 1, 5),
    (40, 6, 8),
    (60, 3, 12),
    (60, 3, 13),
    (200, 4, 32),
    (500, 50, 2),
    (2500, 1, 4),
    (2500, 12, 10),
    (4000, 5, 3),
    (1500, 3, 1),
]


def shaped_problems():
    for seed, shape in enumerate(SHAPES):
        yield seed, random_problem(seed, *shape)
    for seed in range(20, 40):
        yield seed, random_problem(seed)


def draw_weight(seed, n_samples):
    """Weights over four magnitudes, a quarter of them zero but not the first."""
    rng = np.random.default_rng(1000 + seed)
    weight = 10.0 ** rng.uniform(-2, 2, size=n_samples)
    weight[1:][rng.random(n_samples - 1) < 0.25] = 0.0
    return weight


def by_reference(problem, **options):
    value, cache = nll_forward(*problem, **options)
    return value, nll_backward(cache)._replace(x=None)


def make_blocks_small(tuned, block_bytes=1, chunk_bytes=2048, largest_block=16):
    """Make blocks of `largest_block` rows at most, and chunks of `chunk_bytes`."""
    smallest = min(tuning.active.smallest_block, largest_block)
    tuned(feature_block_bytes=block_bytes, smallest_block=smallest)
    tuned(largest_block=largest_block, chunk_bytes=chunk_bytes)


# --- against the reference -----------------------------------------------------------------------


@methods
@pytest.mark.parametrize("weighted", [False, True])
def test_results_are_those_of_the_reference(method, weighted):
    worst = Worst()
    for seed, problem in shaped_problems():
        n = len(problem.x)
        weight = draw_weight(seed, n) if weighted else None
        for reduction in ("mean", "sum"):
            options = {"reduction": reduction, "sample_weight": weight}
            expected_value, expected = by_reference(problem, **options)
            value, found = nll_value_and_grad(*problem, **options, method=method)
            values = value, nll(*problem, **options, method=method)
            assert [type(v) for v in values] == [float, float]
            worst.add(seed, "value", values, (expected_value,) * 2)
            worst.add_parameters(seed, found, expected, logits_floor(n, weight, reduction))
            assert not np.triu(found.scale, 1).any()
            if len(problem.pi_logits) == 1:
                assert found.pi_logits.tolist() == [0.0]
        options = {"reduction": "none", "sample_weight": weight}
        losses, cache = nll_forward(*problem, **options)
        worst.add(seed, "nll", nll(*problem, **options, method=method), losses)
        if not weighted:
            worst.add(seed, "log_prob", log_prob(*problem, method=method), -losses)
            resp = responsibilities(*problem, method=method)
            worst.add(seed, "resp", resp, cache.resp)
            assert (resp >= 0).all()
            # K of them add up, each rounded to 1.1e-16.
            np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=0, atol=1e-14)
    worst.check(TOLERANCE)


@methods
@pytest.mark.parametrize("seed", range(5))
def test_value_and_gradients_are_those_of_the_definition_in_loops(method, seed):
    problem = random_problem(seed)
    weight = draw_weight(seed, len(problem.x))
    value, found = nll_value_and_grad(*problem, sample_weight=weight, method=method)
    worst = Worst()
    worst.add(seed, "value", value, naive_nll(*problem, weight))
    expected = naive_gradients(*problem, weight)
    for block, mine, theirs in zip(found._fields[:3], found[:3], expected[:3], strict=True):
        worst.add(seed, block, mine, theirs, logits_floor(len(weight)) * (block == "pi_logits"))
    # The definition inverts by elimination, which loses a few digits more.
    worst.check(1e-11)


# --- blocks and chunks ---------------------------------------------------------------------------


@methods
def test_several_blocks_and_chunks_agree_with_the_reference(method):
    # Chunks have 8184 rows at most; blocks of this shape fewer.
    n = 12_000
    problem = random_problem(7, n, 12, 32)
    weight = draw_weight(7, n)
    mixture = PreparedMixture.of(Parameters(*problem[1:]))
    parts = []
    EStep(mixture, method, gradient=True).each(problem.x, parts.append)
    parts.sort(key=lambda block: block.start)  # each thread has its own
    assert len(parts) > 3
    assert [block.start for block in parts[1:]] == [block.stop for block in parts[:-1]]
    value, cache = nll_forward(*problem, sample_weight=weight)
    found = nll_value_and_grad(*problem, sample_weight=weight, method=method)
    resp = responsibilities(*problem, method=method), cache.resp
    assert_agree(7, found, (value, nll_backward(cache)), logits_floor(n, weight), resp=resp)


@methods
@pytest.mark.parametrize("group", [1, 3 * 14**2, 2**20])
@pytest.mark.parametrize("shape", [(30, 7, 5), (60, 8, 14), (40, 30, 18)])
def test_gradients_do_not_depend_on_how_many_matrices_are_worked_on_at_a_time(
    tuned, method, group, shape
):
    # Small triangles and larger ones, in whole groups and in those with a smaller last one.
    tuned(group=group, inverted_group=group)
    problem = random_problem(8, *shape)
    found = nll_value_and_grad(*problem, method=method)
    assert_agree(8, found, by_reference(problem), logits_floor(shape[0]))


@methods
@pytest.mark.parametrize(("rows", "chunk_bytes"), [(1, 2**22), (2, 1), (5, 777), (64, 2**22)])
def test_results_depend_on_neither_the_block_size_nor_the_order_of_rows(
    tuned, method, rows, chunk_bytes
):
    n = 403
    problem = random_problem(3, n, 4, 5)
    weight = draw_weight(3, n)
    order = np.random.default_rng(0).permutation(n)
    shuffled = problem._replace(x=problem.x[order])

    def results(weight, *arguments):
        both = nll_value_and_grad(*arguments, sample_weight=weight, method=method)
        return (
            both,
            log_prob(*arguments, method=method),
            responsibilities(*arguments, method=method),
        )

    whole, *rest = results(weight, *problem)
    other = nll_value_and_grad(*shuffled, sample_weight=weight[order], method=method)
    make_blocks_small(tuned, chunk_bytes=chunk_bytes, largest_block=rows)
    parts, *of_parts = results(weight, *problem)
    log_probs, resp = zip(of_parts, rest, strict=True)
    floor = logits_floor(n, weight)
    assert_agree(3, other, whole, floor, 1e-13)  # the contract
    assert_agree(3, parts, whole, floor, 1e-13, log_prob=log_probs, resp=resp)


# --- components that are off ---------------------------------------------------------------------


@methods
def test_component_that_is_off_has_exact_zeros_and_changes_nothing(method):
    for seed in range(10):
        problem = random_problem(seed, n_components=4)
        logits = problem.pi_logits.copy()
        logits[[0, 2]] = -INF
        off = problem._replace(pi_logits=logits)
        kept = [1, 3]
        without = problem._replace(
            pi_logits=logits[kept],
            means=problem.means[kept],
            scale_tril=problem.scale_tril[kept],
        )
        value, found = nll_value_and_grad(*off, method=method)
        expected_value, expected = nll_value_and_grad(*without, method=method)
        resp = responsibilities(*off, method=method)
        assert not resp[:, [0, 2]].any()
        for block in found[:3]:
            assert not block[[0, 2]].any()
        worst = Worst()
        worst.add(seed, "value", value, expected_value)
        for name in ("pi_logits", "means", "scale"):
            worst.add(seed, name, getattr(found, name)[kept], getattr(expected, name))
        worst.add(seed, "resp", resp[:, kept], responsibilities(*without, method=method))
        log_probs = log_prob(*off, method=method), log_prob(*without, method=method)
        worst.add(seed, "log_prob", *log_probs)
        worst.check(1e-14)  # the same arithmetic


@methods
@pytest.mark.parametrize(
    ("mean", "factor"), [(1e300, 1.0), (0.0, 5e-324), (-1e308, 1e-300), (1.0, 1.7e308)]
)
def test_component_that_is_off_may_have_any_mean_and_factor(method, mean, factor):
    problem = random_problem(2, 30, 2, 2)
    expected_value, expected = by_reference(problem)
    wild = problem._replace(
        pi_logits=np.append(problem.pi_logits, -INF),
        means=np.vstack([problem.means, [mean, mean]]),
        scale_tril=np.concatenate([problem.scale_tril, [factor * np.eye(2)]]),
    )
    value, found = nll_value_and_grad(*wild, method=method)
    worst = Worst()
    worst.add(2, "value", value, expected_value)
    for name in ("pi_logits", "means", "scale"):
        block = getattr(found, name)
        assert not block[2].any()
        worst.add(2, name, block[:2], getattr(expected, name))
    worst.check(TOLERANCE)


# --- inputs --------------------------------------------------------------------------------------


def variants(array):
    fortran = np.asfortranarray(array)
    backwards = array[tuple(slice(None, None, -1) for _ in array.shape)].copy()
    wide = np.zeros(tuple(2 * n for n in array.shape))
    every_other = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    every_other[...] = array
    read_only = array.copy()
    read_only.setflags(write=False)
    yield "Fortran order", fortran
    yield "negative strides", backwards[tuple(slice(None, None, -1) for _ in array.shape)]
    yield "strided", every_other
    yield "read-only", read_only
    yield "big-endian", array.astype(">f8")
    yield "list", array.tolist()


@methods
@pytest.mark.parametrize("place", range(5))
def test_layout_of_the_inputs_does_not_matter(method, place):
    problem = random_problem(5, 300, 3, 4)
    arguments = [*problem, draw_weight(5, 300)]
    floor = logits_floor(300, arguments[4])
    expected = nll_value_and_grad(*problem, sample_weight=arguments[4], method=method)
    expected_log_prob = log_prob(*problem, method=method)
    for what, variant in variants(arguments[place]):
        given = [*arguments[:place], variant, *arguments[place + 1 :]]
        found = nll_value_and_grad(*given[:4], sample_weight=given[4], method=method)
        log_probs = log_prob(*given[:4], method=method), expected_log_prob
        # NumPy multiplies matrices of another layout in another order.
        assert_agree(what, found, expected, floor, 1e-13, log_prob=log_probs)


@methods
@pytest.mark.parametrize("far", [False, True])
def test_inputs_are_never_written_to(method, far):
    problem = random_problem(6, 300, 3, 4)
    weight = draw_weight(6, 300)
    if far:
        problem.x[7] = 1e200
    arguments = [*problem, weight]
    before = [a.copy() for a in arguments]
    nll_value_and_grad(*problem, sample_weight=weight, method=method)
    nll(*problem, sample_weight=weight, method=method)
    log_prob(*problem, method=method)
    responsibilities(*problem, method=method)
    parameters = Parameters(*problem[1:])
    gradients(parameters, statistics(problem.x, parameters, sample_weight=weight, method=method))
    for array, copy in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@methods
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.int64, np.uint16, bool])
def test_data_of_any_real_dtype_are_those_numbers(method, dtype):
    rng = np.random.default_rng(8)
    x = rng.integers(0, 2 if dtype is bool else 5, size=(300, 3)).astype(dtype)
    _, *theta = random_problem(8, 1, 3, 3)
    value, found = nll_value_and_grad(x, *theta, method=method)
    expected_value, expected = nll_value_and_grad(x.astype(float), *theta, method=method)
    assert value == expected_value
    for mine, theirs in zip(found[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_gradients_come_in_the_dtype_of_their_argument():
    x, logits, means, scale = random_problem(9, 50, 3, 2)
    given = (logits.astype(np.float32), means.astype(np.float16), scale)
    _, found = nll_value_and_grad(x, *given)
    assert [g.dtype for g in found[:3]] == [np.float32, np.float16, np.float64]
    _, expected = by_reference((x, *given))
    # Computed in float64, rounded once: the last bit may differ where that falls on a tie.
    np.testing.assert_allclose(found.pi_logits, expected.pi_logits, rtol=2e-7, atol=1e-9)
    np.testing.assert_allclose(found.means, expected.means, rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("method", ["Direct", "", None, 1, "reference", b"auto"])
@pytest.mark.parametrize("function", [nll, nll_value_and_grad, log_prob, responsibilities])
def test_unknown_methods_are_refused_with_those_that_are_known(function, method):
    with pytest.raises(ValueError, match='method must be one of "auto", "direct", "moments"; got'):
        function(*random_problem(0), method=method)


def test_value_and_gradient_of_reduction_none_are_refused():
    with pytest.raises(ValueError, match=r'reduction="none" has N values.*nll_backward'):
        nll_value_and_grad(*random_problem(0), reduction="none")


@methods
@pytest.mark.parametrize("bad", [math.nan, INF, -INF])
@pytest.mark.parametrize(
    "function", [nll, nll_value_and_grad, log_prob, responsibilities], ids=lambda f: f.__name__
)
def test_values_that_are_not_finite_are_counted_over_all_rows_and_the_first_is_placed(
    tuned, function, method, bad
):
    problem = random_problem(10, 203, 2, 3)
    problem.x[100, 2] = bad
    problem.x[100, 1] = -bad
    problem.x[202, 0] = math.nan
    make_blocks_small(tuned)
    message = rf"3 of 609, the first {-bad!r} at row 100, column 1"
    with pytest.raises(ValueError, match=message):
        function(*problem, method=method)


@methods
def test_place_of_an_integer_that_is_too_large_is_that_in_all_rows(tuned, method):
    _, *theta = random_problem(11, 1, 2, 3)
    x = np.zeros((203, 3), dtype=np.int64)
    x[150, 1] = x[180, 2] = 2**53 + 1
    make_blocks_small(tuned)
    with pytest.raises(ValueError, match="2 of 609, the first 9007199254740993 at row 150, col"):
        nll_value_and_grad(x, *theta, method=method)


def test_finite_data_that_add_up_beyond_the_range_are_not_refused():
    # A sum that overflows is how a value that is not finite is looked for first.
    x = np.full((4, 1), 1.7e308)
    np.testing.assert_array_equal(
        log_prob(x, [0.0], [[1.7e308]], [[[1.0]]]), log_prob([[0.0]] * 4, [0.0], [[0.0]], [[[1.0]]])
    )


# --- weights -------------------------------------------------------------------------------------


@methods
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weight_of_zero_is_a_dropped_row_and_of_two_a_repeated_one(method, reduction):
    options = {"reduction": reduction, "method": method}
    for seed in range(10):
        problem = random_problem(seed, n_samples=30)
        weight = np.random.default_rng(seed).integers(0, 3, size=30).astype(float)
        weight[0] = 1.0
        repeated = problem._replace(x=np.repeat(problem.x, weight.astype(int), axis=0))
        found = nll_value_and_grad(*problem, sample_weight=weight, **options)
        expected = nll_value_and_grad(*repeated, **options)
        # Sums of as many terms in another order.
        assert_agree(seed, found, expected, logits_floor(30, weight, reduction), 1e-13)


@methods
@pytest.mark.parametrize("far", [1e3, 1e155, 1e200, 1.7e308])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_results_are_without_a_row_of_no_weight_however_far_it_is(method, far, reduction):
    problem = random_problem(12, 50, 3, 2)
    weight = draw_weight(12, 50)
    kept, kept_weight = problem._replace(x=np.delete(problem.x, 20, axis=0)), np.delete(weight, 20)
    problem.x[20], weight[20] = [far, -far], 0.0
    options = {"sample_weight": weight, "method": method}
    found = nll_value_and_grad(*problem, **options, reduction=reduction)
    expected = by_reference(kept, sample_weight=kept_weight, reduction=reduction)
    values = nll(*problem, **options, reduction=reduction), expected[0]
    floor = logits_floor(49, kept_weight, reduction)
    assert_agree(far, found, expected, floor, nll=values)
    losses = nll(*problem, **options, reduction="none")
    assert losses[20] == 0.0
    assert np.isfinite(losses).all()


@methods
@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e-100, 1e100, 1e300])
def test_mean_does_not_depend_on_the_size_of_the_weights(method, size):
    # Whole numbers, so that multiples of 5e-324 are exact; a product with them is not.
    problem = random_problem(13, 40, 3, 2)
    weight = np.random.default_rng(16).integers(0, 5, size=40).astype(float)
    expected = nll_value_and_grad(*problem, sample_weight=weight, method=method)
    scaled = nll_value_and_grad(*problem, sample_weight=size * weight, method=method)
    values = nll(*problem, sample_weight=size * weight, method=method), expected[0]
    # Each weight is rounded once more.
    assert_agree(size, scaled, expected, logits_floor(40, weight), 1e-13, nll=values)


# --- beyond the range of a double ----------------------------------------------------------------


BEYOND = {
    "row 1e200 sigma away": ([[0.3], [1e200], [-0.2]], [0.0, 1.0], [[0.0], [3.0]], [1.0, 2.0]),
    "rows 1e200 sigma away on both sides": ([[1e200], [-1e200]], [0.0], [[0.0]], [1.0]),
    "rows at the end of the range": ([[1.7e308], [-1.7e308]], [0.0], [[0.0]], [1.0]),
    "residual beyond the range": ([[1.7e308]], [0.0, 0.5], [[-1.7e308], [1.7e308]], [1.0, 1e308]),
    "means whose sum is beyond it": (
        [[1.7e308], [1.6e308]],
        [0.0, 1.0],
        [[1.7e308]] * 2,
        [1e307] * 2,
    ),
    **{
        f"scale {s:g}": ([[s], [3 * s], [-2 * s]], [0.0, 1.0], [[0.0], [3 * s]], [s, 2 * s])
        for s in (1e-200, 1e-150, 1e150, 1e200, 1e307)
    },
    "both scales": ([[1e150], [1e-150], [2e150]], [0.0, 0.5], [[0.0], [1e150]], [1e-150, 1e150]),
    "1e150 over 1e-150": ([[1e150]], [0.0], [[0.0]], [1e-150]),
    "1e-150 over 1e150": ([[1e-150]], [0.0], [[0.0]], [1e150]),
    "factor 1e-309": ([[8e-309], [0.0]], [0.0, 0.0], [[-8e-309], [0.0]], [2e-309, 1e-309]),
    "factor 5e-324": ([[5e-324], [0.0]], [0.0], [[1e-323]], [5e-324]),
    "factor 5e-324, far": ([[1e-300], [1.0]], [0.0], [[1e-323]], [5e-324]),
    "factor 1e-309 beside 1": ([[1.0], [-0.5]], [0.0, 0.0], [[0.0], [1.0]], [1.0, 1e-309]),
    "share of a far component": ([[0.0], [1.0]], [0.0, 0.0], [[0.0], [1e-100]], [1.0, 1e-200]),
    "tie": ([[0.0]], [0.0, 1.0], [[-1e200], [1e200]], [1.0, 1.0]),
    "logits at the end of the range": ([[1.0]], [1.7e308, -1.7e308], [[0.0], [1.0]], [1.0, 1.0]),
    "logits far apart": ([[1e200], [1.0]], [0.0, -1e4], [[0.0], [1e190]], [1.0, 1.0]),
}


def beyond(case):
    """The case in one dimension, and in three: two more that are like the first, and correlated."""
    x, logits, means, scales = (np.array(a) for a in BEYOND[case])
    yield x, logits, means, scales[:, None, None] * np.eye(1)
    mix = np.array([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [-0.25, 0.5, 1.0]])
    with np.errstate(under="ignore"):
        factors = scales[:, None, None] * mix
    if (np.diagonal(factors, axis1=1, axis2=2) > 0).all():
        yield x * [1.0, -0.5, 0.25], logits, means * [1.0, 0.75, -0.5], factors


def assert_same(found, expected, rtol, what):
    """The same infinities, never NaN, and finite entries close relative to the largest of them.

    For logits, relative to 0.01 at least: see `logits_floor`.
    """
    found, expected = np.asarray(found), np.asarray(expected)
    assert not np.isnan(found).any(), f"{what}: {found}"
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(
        np.where(np.isinf(found), found, 0.0), np.where(infinite, expected, 0.0), err_msg=what
    )
    finite = expected[~infinite]
    if finite.size:
        # A subnormal number is rounded to a multiple of 5e-324, a few times.
        largest = max(np.abs(finite).max(), 0.01 * what.startswith("pi_logits"))
        atol = rtol * largest + 1e-322
        np.testing.assert_allclose(found[~infinite], finite, rtol=0, atol=atol, err_msg=what)


@pytest.mark.parametrize("case", BEYOND)
def test_beyond_the_range_results_are_those_of_the_reference(case):
    for arguments in beyond(case):
        for reduction in ("mean", "sum"):
            expected_value, expected = by_reference(arguments, reduction=reduction)
            for method in METHODS:
                value, found = nll_value_and_grad(*arguments, reduction=reduction, method=method)
                assert_same(value, expected_value, TOLERANCE, f"value, {method}")
                assert_same_blocks(found, expected, method)
        losses, cache = nll_forward(*arguments, reduction="none")
        for method in METHODS:
            found = nll(*arguments, reduction="none", method=method)
            assert_same(found, losses, TOLERANCE, f"nll, {method}")
            found = log_prob(*arguments, method=method)
            assert_same(found, -losses, TOLERANCE, f"log_prob, {method}")
            resp = responsibilities(*arguments, method=method)
            assert_same(resp, cache.resp, TOLERANCE, f"resp, {method}")


def assert_same_blocks(found, expected, method, tolerance=TOLERANCE):
    for name in ("pi_logits", "means", "scale"):
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert_same(mine, theirs, tolerance, f"{name}, {method}")


def from_statistics(arguments, method):
    parameters = Parameters(*arguments[1:])
    return gradients(parameters, statistics(arguments[0], parameters, method=method))


@pytest.mark.parametrize("case", BEYOND)
def test_beyond_the_range_gradients_from_statistics_are_right_where_they_are_finite(case):
    # A sum beyond the range may make them infinite where the gradient is not; and of several such
    # sums that cancel in a correlated component, nobody can know what is left.
    for arguments in beyond(case):
        _, expected = by_reference(arguments)
        for method in METHODS:
            found = from_statistics(arguments, method)
            assert not any(np.isnan(block).any() for block in found[:3])
            if case == "tie" and arguments[0].shape[1] > 1:
                continue
            for name in ("pi_logits", "means", "scale"):
                block, true = getattr(found, name), getattr(expected, name)
                finite, what = np.isfinite(block), f"{name}, {method}"
                assert_same(block[finite], true[finite], TOLERANCE, what)
                assert_same(np.sign(block[~finite]), np.sign(true[~finite]), 0.0, what)


def wild_problem(seed, largest_exponent):
    """Every number of its own magnitude; every other problem without correlations."""
    rng = np.random.default_rng(seed)
    n, k, d = (int(rng.integers(1, most)) for most in (4, 12, 4))

    def draw(*shape):
        magnitude = 10.0 ** rng.uniform(-largest_exponent, largest_exponent, size=shape)
        return rng.choice([-1.0, 1.0], size=shape) * rng.uniform(1, 10, size=shape) * magnitude

    factors = np.tril(draw(k, d, d))
    factors[:, range(d), range(d)] = np.abs(factors[:, range(d), range(d)])
    if seed % 2:
        factors = factors * np.eye(d)
    return draw(n, d), rng.normal(size=k), draw(k, d), factors


@pytest.mark.parametrize("largest_exponent", [10, 30, 100, 200, 300])
def test_results_at_any_magnitudes_are_never_nan_and_those_of_the_reference(largest_exponent):
    for seed in range(14):
        arguments = wild_problem(seed, largest_exponent)
        # At 300 underflow on the way takes digits, from the reference as well.
        judged = largest_exponent < 300
        if judged:
            expected_value, expected = by_reference(arguments)
            losses = nll_forward(*arguments, reduction="none")[0]
        for method in METHODS:
            value, found = nll_value_and_grad(*arguments, method=method)
            log_probs = log_prob(*arguments, method=method)
            everything = [value, log_probs, *found[:3], *from_statistics(arguments, method)[:3]]
            what = f"seed {seed}, {method}"
            for array in [*everything, responsibilities(*arguments, method=method)]:
                assert not np.isnan(array).any(), what
            if not judged or method == "moments":
                continue  # moments, where they are forced, may lose all digits here
            assert_same(value, expected_value, 1e-10, what)
            assert_same(log_probs, -losses, 1e-10, what)
            for name in ("means", "scale"):
                assert_same(getattr(found, name), getattr(expected, name), 1e-10, what)


@methods
@pytest.mark.parametrize("exponent", [-300, -160, -155, -153, 150, 152, 153, 154, 155, 300])
def test_scale_of_the_data_moves_the_value_and_divides_the_gradients(method, exponent):
    # Powers of two, so that scaling rounds nothing; a thousand rows, so that their sums leave the
    # range of a double before the squares of the data do.
    problem = random_problem(14, 1000, 4, 3)
    scale = 2.0 ** round(exponent * math.log2(10))
    scaled = problem._replace(
        x=problem.x * scale, means=problem.means * scale, scale_tril=problem.scale_tril * scale
    )
    expected_value, expected = by_reference(problem)
    value, found = nll_value_and_grad(*scaled, method=method)
    parameters = Parameters(*scaled[1:])
    total = statistics(scaled.x, parameters, method=method)
    worst = Worst()
    worst.add(exponent, "value", value - 3 * math.log(scale), expected_value)
    for each in (found, gradients(parameters, total)):
        unscaled = each._replace(means=each.means * scale, scale=each.scale * scale)
        worst.add_parameters(exponent, unscaled, expected, logits_floor(1000))
    # Log-likelihoods of 2000 nats have an absolute error of 2e-13, responsibilities with them.
    worst.check(1e-11)


@methods
def test_losses_whose_sum_is_beyond_the_range_add_up_to_infinity(tuned, method):
    make_blocks_small(tuned)
    x = np.zeros((100, 1))
    x[::20] = 1.3e154  # five losses of 0.85e308, in blocks of their own
    theta = ([0.0], [[0.0]], [[[1.0]]])
    value, found = nll_value_and_grad(x, *theta, reduction="sum", method=method)
    assert value == INF
    assert not any(np.isnan(block).any() for block in found[:3])
    total = statistics(x, Parameters(*theta), method=method)
    assert total.loss == INF
    assert (total + total).loss == INF
    # Their mean is not, whether or not its sum is worth the care.
    value, _ = nll_value_and_grad(x, *theta, method=method)
    assert value == INF or value == pytest.approx(0.025 * 1.3e154**2, rel=1e-12)


@methods
def test_losses_of_either_sign_beyond_the_range_add_up_to_the_infinity_that_wins(tuned, method):
    make_blocks_small(tuned)
    # Densities of e^459 at the mean, and e^-5e5 a thousand widths away; weights of 1e305.
    x = np.zeros((100, 1))
    x[50:] = 1e-197
    theta = ([0.0], [[0.0]], [[[1e-200]]])
    weight = np.full(100, 1e305)
    total = statistics(x, Parameters(*theta), sample_weight=weight, method=method)
    assert total.loss == INF
    value, found = nll_value_and_grad(
        x, *theta, sample_weight=weight, reduction="sum", method=method
    )
    assert value == INF
    assert not any(np.isnan(block).any() for block in found[:3])


# --- memory --------------------------------------------------------------------------------------

# Three measures: what NumPy allocates (tracemalloc), anonymous resident memory, looked at every two
# milliseconds, and the peak of all resident memory, mapped files included. The last one is not
# ru_maxrss, which a process inherits from the one that started it.

MEASURE = """
import json, sys, threading, tracemalloc
import numpy as np
import gmm_np

n, d, k, source, dtype, weighted = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
theta = (rng.normal(size=k), rng.normal(size=(k, d)), np.tile(np.eye(d), (k, 1, 1)))
if source is None:
    x = rng.normal(size=(n, d))
else:
    x = np.memmap(source, dtype=dtype, mode="r", shape=(n, d))
weight = rng.uniform(size=n) if weighted else None
options = {"sample_weight": weight} if weighted else {}
gmm_np.nll_value_and_grad(x[:1000], *theta)  # whatever is loaded or started at a first call

def resident(field):
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(field))

done, seen = threading.Event(), [0]
def watch():
    while not done.wait(0.005):
        seen.append(resident("RssAnon"))

before, peak_before = resident("RssAnon"), resident("VmHWM")
watcher = threading.Thread(target=watch)
watcher.start()
tracemalloc.start()
value, gradients = gmm_np.nll_value_and_grad(x, *theta, **options)
traced = tracemalloc.get_traced_memory()[1]
done.set()
watcher.join()
print(json.dumps({
    "traced": traced,
    "resident": max(seen) - before,
    "peak": resident("VmHWM") - peak_before,
    "looks": len(seen),
    "value": value,
}))
"""
LIMIT = 64 * 2**20


def memory(
    n_samples, n_dims, n_components, source=None, *, dtype="<f8", weighted=False, script=MEASURE
):
    """What nll_value_and_grad takes beyond the data, in a process of its own, in bytes."""
    root = str(pathlib.Path(gmm_np.__file__).resolve().parents[1])
    arguments = [n_samples, n_dims, n_components, source, dtype, weighted]
    run = subprocess.run(
        [sys.executable, "-c", script, json.dumps(arguments)],
        # One thread of BLAS: threads that wait for one another are slow on a busy machine.
        env=os.environ | {"PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


@pytest.mark.slow
def test_a_million_samples_take_no_more_than_64_mib_beyond_the_data():
    found = memory(10**6, 16, 32, weighted=True)
    assert math.isfinite(found["value"])
    assert found["looks"] > 20
    assert 0 < found["traced"] <= LIMIT, found
    assert found["resident"] <= LIMIT, found
    assert found["peak"] <= LIMIT, found


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "weighted"), [("<f8", False), ("<f4", True)])
def test_memory_mapped_samples_are_never_held(tmp_path, dtype, weighted):
    # Four times the limit as float64. Resident pages of the file are the operating system's to
    # drop, and are not counted.
    n_samples, n_dims = 2_000_000, 16
    path = tmp_path / "x"
    block = np.random.default_rng(0).normal(size=(100_000, n_dims)).astype(dtype).tobytes()
    with path.open("wb") as file:
        for _ in range(n_samples // 100_000):
            file.write(block)
    found = memory(n_samples, n_dims, 4, str(path), dtype=dtype, weighted=weighted)
    path.unlink()
    assert math.isfinite(found["value"])
    assert found["looks"] > 20
    assert 0 < found["traced"] <= LIMIT, found
    assert found["resident"] <= LIMIT, found


@pytest.mark.slow
def test_a_row_beyond_the_range_takes_no_more_memory_than_others():
    # Work memory is bounded by a constant, whatever the samples are.
    script = MEASURE.replace("tracemalloc.start()", "tracemalloc.start(); x[1000] = 1e200")
    assert script != MEASURE
    found = memory(100_000, 16, 8, script=script)
    assert found["value"] == INF
    assert found["traced"] <= LIMIT, found
    assert found["resident"] <= LIMIT, found


def test_memory_that_is_held_is_measured():
    # Twice the limit, seen by each measure.
    script = MEASURE.replace("value, gradients =", "held = np.ones(2**24); value, gradients =")
    assert script != MEASURE
    found = memory(200_000, 4, 8, script=script)
    assert found["traced"] > 2**27
    assert found["resident"] > LIMIT
    assert found["peak"] > LIMIT


# --- threads -------------------------------------------------------------------------------------


@methods
def test_concurrent_calls_give_bitwise_the_results_of_serial_ones(method):
    # Each call has arrays of its own, and BLAS splits a product in the same way whoever calls.
    problems = [random_problem(i, 3000 + i, 6 + i, 4 + i) for i in range(8)]
    parameters = [Parameters(*problem[1:]) for problem in problems]

    def work(i):
        value, found = nll_value_and_grad(*problems[i], method=method)
        total = statistics(problems[i].x, parameters[i], method=method)
        resp = responsibilities(*problems[i], method=method)
        return value, *found[:3], total.n_k, total.v_k, total.M_k, resp

    serial = [work(i) for i in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for alone, together in zip(serial, pool.map(work, range(8)), strict=True):
                for mine, theirs in zip(together, alone, strict=True):
                    np.testing.assert_array_equal(mine, theirs)


def test_threads_may_share_parameters_and_statistics():
    problem = random_problem(15, 3000, 5, 4)
    parameters = Parameters(*problem[1:])
    parts = np.array_split(problem.x, 8)
    serial = sum(statistics(part, parameters) for part in parts)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = sum(pool.map(lambda part: statistics(part, parameters), parts))
        shared = list(pool.map(lambda _: (serial.m_k, serial.S_k), range(8)))
    np.testing.assert_array_equal(found.M_k, serial.M_k)
    assert found.loss == serial.loss
    for m_k, S_k in shared:
        np.testing.assert_array_equal(m_k, serial.m_k)
        np.testing.assert_array_equal(S_k, serial.S_k)
