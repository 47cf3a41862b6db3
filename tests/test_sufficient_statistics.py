"""Statistics: they add, in any split and order; gradients and EM from them; streams of blocks."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
from problems import Worst, logits_floor, naive_nll, random_problem

from gmm_np import (
    Parameters,
    Statistics,
    em_step,
    gradients,
    nll,
    nll_value_and_grad,
    statistics,
)
from gmm_np.reference import nll_backward, nll_forward

METHODS = ("auto", "direct", "moments")
methods = pytest.mark.parametrize("method", METHODS)
INF = math.inf
# Sums of thousands of terms in another order, each of them rounded to 1.1e-16: the contract.
ANY_ORDER = 1e-13


def draw(seed, *shape, **options):
    """Data, parameters, and weights of which a fifth is zero."""
    x, *theta = random_problem(seed, *shape, **options)
    rng = np.random.default_rng(2000 + seed)
    weight = rng.uniform(0.1, 3.0, size=len(x))
    weight[1:][rng.random(len(x) - 1) < 0.2] = 0.0
    return x, Parameters(*theta), weight


def assert_close(found, expected, tolerance=ANY_ORDER):
    """The same count, and sums within `tolerance` of the largest of their kind."""
    assert isinstance(found, Statistics)
    assert found.count == expected.count
    worst = Worst()
    for name in ("loss", "weight", "n_k", "v_k", "M_k", "m_k", "S_k"):
        worst.add(0, name, getattr(found, name), getattr(expected, name))
    worst.check(tolerance)


def assert_gradients_close(found, expected, tolerance=ANY_ORDER, floor=0.01):
    worst = Worst()
    worst.add_parameters(0, found, expected, floor)
    worst.check(tolerance)


def splits(rng, n_samples):
    """Index arrays of several ways to cut rows: at random, single rows, one block."""
    order = rng.permutation(n_samples)
    cuts = np.unique(rng.integers(1, n_samples, size=rng.integers(1, 40)))
    yield "random blocks of shuffled rows", np.split(order, cuts)
    yield "blocks of like size", np.array_split(np.arange(n_samples), 7)
    yield "one block, backwards", [np.arange(n_samples)[::-1]]
    first = [np.array([i]) for i in order[:50]]
    yield "single rows and the rest", [*first, order[50:]]


# --- they add ------------------------------------------------------------------------------------


@methods
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_statistics_add_up_in_any_split_and_order(method, weighted, seed):
    x, parameters, weight = draw(seed, 1500, 5, 4)
    weight = weight if weighted else None
    rng = np.random.default_rng(seed)
    whole = statistics(x, parameters, sample_weight=weight, method=method)
    of_whole = gradients(parameters, whole)
    for what, parts in splits(rng, len(x)):
        added = [
            statistics(
                x[part],
                parameters,
                # A part may have no weight at all, which is refused for the whole.
                sample_weight=None if weight is None else weight[part],
                method=method,
            )
            for part in parts
            if weight is None or weight[part].any()
        ]
        rng.shuffle(added)
        total = sum(added)
        left_out = 0 if weight is None else sum(len(p) for p in parts if not weight[p].any())
        assert total.count + left_out == whole.count, what
        assert_gradients_close(gradients(parameters, total), of_whole)


@methods
@pytest.mark.parametrize("weighted", [False, True])
def test_streams_give_the_sum_of_their_blocks(method, weighted):
    x, parameters, weight = draw(4, 1500, 5, 4)
    rng = np.random.default_rng(4)
    options = {"method": method}
    whole = statistics(x, parameters, sample_weight=weight if weighted else None, **options)
    for _, parts in splits(rng, len(x)):
        order = np.concatenate(parts)
        assert len(order) == len(x)
        for make in (list, tuple, iter, lambda blocks: (b for b in blocks)):
            blocks = make([x[part] for part in parts])
            weights = make([weight[part] for part in parts]) if weighted else None
            total = statistics(blocks, parameters, sample_weight=weights, **options)
            assert_close(total, whole)


def test_statistics_made_at_equal_parameters_add_in_either_order_to_the_same_bits():
    x, parameters, weight = draw(5, 300, 4, 3)
    equal = Parameters(parameters.pi_logits, parameters.means, parameters.scale)
    assert equal is not parameters
    a = statistics(x[:100], parameters, sample_weight=weight[:100])
    b = statistics(x[100:], equal)
    assert_close(a + b, b + a, 0.0)
    for one in (equal, parameters):
        gradients(one, a + b)


def test_sum_starts_from_nothing_and_changes_none_of_its_terms():
    x, parameters, _ = draw(6, 90, 3, 2)
    parts = [statistics(block, parameters) for block in np.split(x, 3)]
    before = copy.deepcopy(parts)
    total = sum(parts)
    assert_close(total, statistics(x, parameters), 1e-14)
    for part, copied in zip(parts, before, strict=True):
        assert_close(part, copied, 0.0)
    assert sum([parts[0]]).loss == parts[0].loss


@pytest.mark.parametrize("other", [1, 0.0, None, "0", np.zeros(2), object()])
def test_statistics_add_to_statistics_only(other):
    x, parameters, _ = draw(7, 5, 2, 2)
    found = statistics(x, parameters)
    with pytest.raises(TypeError):
        found + other
    with pytest.raises(TypeError):
        other + found


@pytest.mark.parametrize("field", ["pi_logits", "means", "scale"])
def test_statistics_made_at_other_parameters_are_refused(field):
    x, parameters, _ = draw(8, 20, 3, 2)
    values = {name: getattr(parameters, name).copy() for name in ("pi_logits", "means", "scale")}
    values[field].flat[0] = np.nextafter(values[field].flat[0], INF)
    others = [Parameters(**values), Parameters(*(values[n][:2] for n in values))]
    found = statistics(x, parameters)
    for other in others:
        with pytest.raises(ValueError, match="made at different parameters do not add"):
            found + statistics(x, other)
        with pytest.raises(ValueError, match="made at other parameters"):
            gradients(other, found)
        with pytest.raises(ValueError, match="made at other parameters"):
            em_step(other, found)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_and_copies_come_back_as_they_were_and_add(protocol):
    x, parameters, weight = draw(10, 60, 3, 4)
    here = statistics(x[:30], parameters)
    there = statistics(x[30:], parameters, sample_weight=weight[30:])
    for back in (
        pickle.loads(pickle.dumps(there, protocol)),
        copy.copy(there),
        copy.deepcopy(there),
    ):
        assert_close(back, there, 0.0)
        assert_close(here + back, here + there, 0.0)
        assert_close(back + here, here + there, 0.0)
        assert back.parameters.equals(parameters)
        gradients(parameters, here + back)
        with pytest.raises(AttributeError):
            back.weight = 1.0
        for array in (back.parameters.pi_logits, back.parameters.means, back.parameters.scale):
            with pytest.raises(ValueError, match="read-only"):
                array.flat[0] = 1.0


def test_pickles_are_as_small_as_their_numbers():
    # n_k, v_k, M_k and the parameters: twice K (1 + D + D D) numbers, and little more.
    x, parameters, _ = draw(11, 20_000, 6, 5)
    found = statistics(x, parameters)
    size = len(pickle.dumps(found))
    assert size < 2 * 8 * 6 * (1 + 5 + 25) + 2000
    # Whatever the number of samples, but for the bytes of the count.
    assert abs(size - len(pickle.dumps(statistics(x[:10], parameters)))) <= 8


# --- what they are -------------------------------------------------------------------------------


@methods
@pytest.mark.parametrize("seed", range(5))
def test_moments_are_weighted_sums_over_samples(method, seed):
    x, parameters, weight = draw(seed)
    found = statistics(x, parameters, sample_weight=weight, method=method)
    resp = nll_forward(x, parameters.pi_logits, parameters.means, parameters.scale)[1].resp
    k_max, d = parameters.means.shape
    n_k, m_k, S_k = np.zeros(k_max), np.zeros((k_max, d)), np.zeros((k_max, d, d))
    v_k, M_k = np.zeros((k_max, d)), np.zeros((k_max, d, d))
    for n, row in enumerate(x):
        for k in range(k_max):
            share = weight[n] * resp[n, k]
            e = row - parameters.means[k]
            z = np.linalg.solve(parameters.scale[k], e)
            n_k[k] += share
            m_k[k] += share * e
            S_k[k] += share * np.outer(e, e)
            v_k[k] += share * z
            M_k[k] += share * np.outer(z, z)
    worst = Worst()
    for name, expected in (("n_k", n_k), ("m_k", m_k), ("S_k", S_k), ("v_k", v_k), ("M_k", M_k)):
        worst.add(seed, name, getattr(found, name), expected)
    worst.check(1e-12)  # well-conditioned input, as for all else


@methods
def test_count_weight_and_loss_are_those_of_the_data(method):
    for seed in range(5):
        x, parameters, weight = draw(seed)
        theta = (parameters.pi_logits, parameters.means, parameters.scale)
        plain = statistics(x, parameters, method=method)
        assert plain.count == len(x)
        assert isinstance(plain.count, int)
        assert plain.weight == len(x)
        assert plain.loss == pytest.approx(naive_nll(x, *theta, reduction="sum"), rel=1e-11, abs=0)
        weighted = statistics(x, parameters, sample_weight=weight, method=method)
        assert weighted.count == len(x)
        assert weighted.weight == pytest.approx(math.fsum(weight), rel=1e-15, abs=0)
        expected = naive_nll(x, *theta, weight, reduction="sum")
        assert weighted.loss == pytest.approx(expected, rel=1e-11, abs=0)
        assert weighted.parameters is parameters


@methods
def test_second_moments_are_symmetric_and_masses_add_up_to_the_weight(method):
    x, parameters, weight = draw(14, 500, 4, 14)
    found = statistics(x, parameters, sample_weight=weight, method=method)
    for moment in (found.M_k, found.S_k):
        np.testing.assert_allclose(
            moment, moment.transpose(0, 2, 1), rtol=0, atol=1e-14 * np.abs(moment).max()
        )
    assert found.n_k.sum() == pytest.approx(found.weight, rel=1e-14, abs=0)


# --- gradients from statistics -------------------------------------------------------------------


@methods
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_from_statistics_are_those_of_the_reference(method, reduction, weighted):
    worst, direct = Worst(), Worst()
    for seed in range(12):
        x, parameters, weight = draw(seed)
        weight = weight if weighted else None
        theta = (parameters.pi_logits, parameters.means, parameters.scale)
        total = statistics(x, parameters, sample_weight=weight, method=method)
        found = gradients(parameters, total, reduction=reduction)
        assert found.x is None
        options = {"sample_weight": weight, "reduction": reduction}
        floor = logits_floor(len(x), weight, reduction)
        expected = nll_backward(nll_forward(x, *theta, **options)[1])
        worst.add_parameters(seed, found, expected, floor)
        _, in_one = nll_value_and_grad(x, *theta, **options, method=method)
        direct.add_parameters(seed, found, in_one, floor)
    worst.check(1e-12)
    # The same sums; weights may have been divided by their total before.
    direct.check(ANY_ORDER)


def test_gradients_of_none_are_refused_with_a_way_out():
    x, parameters, _ = draw(16, 20, 2, 2)
    found = statistics(x, parameters)
    with pytest.raises(ValueError, match=r'"none" has no gradient from statistics.*nll_backward'):
        gradients(parameters, found, reduction="none")
    with pytest.raises(ValueError, match='reduction must be one of "mean", "sum", "none"'):
        gradients(parameters, found, reduction="average")


def test_gradients_come_in_the_dtypes_of_the_parameters():
    x, theta, _ = draw(17, 40, 3, 2)
    parameters = Parameters(
        theta.pi_logits.astype(np.float32), theta.means, theta.scale.astype(np.float32)
    )
    found = gradients(parameters, statistics(x, parameters))
    assert [g.dtype for g in found[:3]] == [np.float32, np.float64, np.float32]


# --- weights -------------------------------------------------------------------------------------


@methods
def test_weight_of_zero_is_a_dropped_row_and_of_two_a_repeated_one(method):
    for seed in range(10):
        x, parameters, _ = draw(seed, 40)
        weight = np.random.default_rng(seed).integers(0, 3, size=40).astype(float)
        weight[0] = 1.0
        repeated = np.repeat(x, weight.astype(int), axis=0)
        found = statistics(x, parameters, sample_weight=weight, method=method)
        expected = statistics(repeated, parameters, method=method)
        assert found.weight == expected.weight
        assert_gradients_close(gradients(parameters, found), gradients(parameters, expected))
        em, again = em_step(parameters, found), em_step(parameters, expected)
        np.testing.assert_allclose(em.means, again.means, rtol=0, atol=1e-12)
        assert found.loss == pytest.approx(expected.loss, rel=ANY_ORDER, abs=0)


@methods
@pytest.mark.parametrize("far", [1e3, 1e155, 1e200, 1.7e308])
def test_row_of_no_weight_is_a_dropped_row_however_far_it_is(method, far):
    x, parameters, weight = draw(18, 60, 3, 2)
    expected = statistics(
        np.delete(x, 30, axis=0), parameters, sample_weight=np.delete(weight, 30), method=method
    )
    x[30], weight[30] = [far, -far], 0.0
    for data, weights in ((x, weight), (np.split(x, 3), np.split(weight, 3))):
        found = statistics(data, parameters, sample_weight=weights, method=method)
        worst = Worst()
        for name in ("loss", "n_k", "v_k", "M_k"):
            worst.add(far, name, getattr(found, name), getattr(expected, name))
        worst.check(1e-12)
        em = em_step(parameters, found)
        np.testing.assert_allclose(em.means, em_step(parameters, expected).means, atol=1e-12)


# --- EM ------------------------------------------------------------------------------------------


@methods
@pytest.mark.parametrize("far", [1e2, 1e4, 1e6])
def test_em_step_is_accurate_from_far_away(method, far):
    # A single component: the answer is the sample mean and covariance, wherever it starts.
    x, _, _ = draw(19, 200, 1, 3)
    start = Parameters([0.0], [[far, -far, 0.5 * far]], np.eye(3)[None])
    found = em_step(start, statistics(x, start, method=method))
    np.testing.assert_allclose(found.means[0], x.mean(axis=0), rtol=0, atol=1e-15 * far * 100)
    covariance = found.scale[0] @ found.scale[0].T
    # The covariance is a difference of second moments about the old mean, far^2 sigma^2 large.
    allowed = 1e-15 * far**2 * 10 + 1e-12
    np.testing.assert_allclose(covariance, np.cov(x.T, bias=True), rtol=0, atol=allowed)


def test_em_never_increases_the_nll():
    for seed in range(30):
        x, parameters, weight = draw(seed, 60, 1 + seed % 4, 1 + seed % 3)
        weight = weight if seed % 2 else None
        value = INF
        for _ in range(6):
            total = statistics(x, parameters, sample_weight=weight)
            now = total.loss / total.weight
            # Equal at a fixed point, up to rounding of the 60 losses.
            assert now <= value + 1e-13 * max(1.0, abs(now)), f"seed {seed}"
            value = now
            parameters = em_step(parameters, total)


def test_em_reaches_a_point_where_the_gradient_is_zero():
    # Well apart, so that EM converges fast: its rate is the overlap.
    x, parameters, weight = draw(21, 600, 3, 2, separation=8.0)
    for w in (None, weight):
        fit = parameters
        for _ in range(200):
            fit = em_step(fit, statistics(x, fit, sample_weight=w))
        total = statistics(x, fit, sample_weight=w)
        for block in gradients(fit, total)[:3]:
            # Sums over 600 rows of addends up to about ten, each rounded to 1.1e-16.
            assert np.abs(block).max() < 1e-12
        again = em_step(fit, total)
        np.testing.assert_allclose(again.means, fit.means, rtol=0, atol=1e-12)


@methods
def test_em_keeps_components_off_that_are_off(method):
    x, parameters, _ = draw(22, 100, 4, 2)
    logits = parameters.pi_logits.copy()
    logits[1] = -INF
    off = Parameters(logits, parameters.means, parameters.scale)
    fit = off
    for _ in range(5):
        fit = em_step(fit, statistics(x, fit, method=method))
        assert fit.pi_logits[1] == -INF
        assert np.isfinite(np.delete(fit.pi_logits, 1)).all()
        np.testing.assert_array_equal(fit.means[1], parameters.means[1])
        np.testing.assert_array_equal(fit.scale[1], parameters.scale[1])
    rest = Parameters(*(np.delete(a, 1, axis=0) for a in (logits, off.means, off.scale)))
    for _ in range(5):
        rest = em_step(rest, statistics(x, rest, method=method))
    np.testing.assert_allclose(np.delete(fit.means, 1, axis=0), rest.means, rtol=0, atol=1e-12)


@methods
def test_em_turns_components_off_that_no_sample_needs(method):
    x, _, _ = draw(23, 100, 1, 2)
    start = Parameters([0.0, 0.0], [[0.0, 0.0], [1e3, 1e3]], np.tile(np.eye(2), (2, 1, 1)))
    found = em_step(start, statistics(x, start, method=method))
    assert found.pi_logits[0] == 0.0
    assert found.pi_logits[1] == -INF
    np.testing.assert_array_equal(found.means[1], start.means[1])
    np.testing.assert_array_equal(found.scale[1], start.scale[1])
    # moments adds N coordinates about the middle of the means, 500 from the samples: as many
    # roundings of sums of that size, in an order that is the processor's, and a few of the mean.
    reach = np.abs(x - start.means.mean(axis=0)).max()
    bound = (len(x) + 5) * 2.0**-53 * reach
    np.testing.assert_allclose(found.means[0], x.mean(axis=0), rtol=0, atol=bound)


@methods
def test_em_reports_samples_that_span_too_few_dimensions(method):
    # Up to D distinct rows, some of them several times: the covariance is exactly singular.
    messages, unnoticed = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(1, 6))
        distinct = int(rng.integers(1, d + 1))
        x = np.repeat(rng.normal(size=(distinct, d)), rng.integers(1, 5), axis=0)
        parameters = Parameters([0.0], rng.normal(size=(1, d)), np.eye(d)[None])
        total = statistics(x, parameters, method=method)
        try:
            em_step(parameters, total)
        except ValueError as error:
            messages.append(str(error))
        else:
            unnoticed.append((seed, d, distinct))
    assert all(message.startswith("component 0 collapsed") for message in messages)
    assert not unnoticed, f"{len(unnoticed)} of 60: {unnoticed[:5]} (seed, D, distinct rows)"


@methods
def test_em_reports_which_component_collapsed(method):
    x = np.array([[0.0], [1.0], [-1.0], [0.5], [50.0]])
    parameters = Parameters([0.0, 0.0], [[0.0], [50.5]], [[[1.0]], [[1.0]]])
    with pytest.raises(ValueError, match=r"component 1 collapsed.*weight 1"):
        em_step(parameters, statistics(x, parameters, method=method))


def test_em_does_not_see_a_collapse_in_small_or_slender_data():
    # What counts is the spread relative to the component's own size in each direction.
    x, _, _ = draw(24, 200, 1, 3)
    slender = np.diag([1e6, 1.0, 1e-6]) * 1e-3
    start = Parameters([0.0], np.zeros((1, 3)), slender[None])
    found = em_step(start, statistics(x @ slender, start))
    expected = np.linalg.cholesky(np.cov(x.T, bias=True))
    np.testing.assert_allclose(np.linalg.solve(slender, found.scale[0]), expected, atol=1e-12)


# --- streams -------------------------------------------------------------------------------------


@methods
@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", "<i4", "<i8", "<u2"])
def test_memory_mapped_rows_are_those_numbers(tmp_path, method, dtype):
    rng = np.random.default_rng(25)
    rows = rng.integers(0, 9, size=(3000, 3)).astype(dtype)
    if rows.dtype.kind == "f":
        rows += rng.normal(size=rows.shape).astype(dtype)
    _, parameters, weight = draw(25, 3000, 3, 3)
    mapped = np.memmap(tmp_path / "x", dtype=dtype, mode="w+", shape=rows.shape)
    mapped[:] = rows
    mapped.flush()
    mapped = np.memmap(tmp_path / "x", dtype=dtype, mode="r", shape=rows.shape)
    expected = statistics(rows.astype(float), parameters, sample_weight=weight, method=method)
    options = {"sample_weight": weight, "method": method}
    assert_close(statistics(mapped, parameters, **options), expected, 0.0)
    theta = (parameters.pi_logits, parameters.means, parameters.scale)
    value, found = nll_value_and_grad(mapped, *theta, **options)
    again, wanted = nll_value_and_grad(rows.astype(float), *theta, **options)
    assert value == again
    assert_gradients_close(found, wanted, 0.0)
    assert nll(mapped, *theta, **options) == nll(rows.astype(float), *theta, **options)
    blocks = (mapped[start : start + 700] for start in range(0, 3000, 700))
    weights = (weight[start : start + 700] for start in range(0, 3000, 700))
    found = statistics(blocks, parameters, sample_weight=weights, method=method)
    assert_close(found, expected)


def test_blocks_of_a_stream_may_be_of_any_kind():
    x, parameters, _ = draw(26, 30, 2, 2)
    x = x.round(1)
    blocks = iter([x[:5].tolist(), x[5:6], np.asfortranarray(x[6:20]), x[::-1][:10]])
    assert_close(statistics(blocks, parameters), statistics(x, parameters))


def test_list_of_rows_is_an_array_and_not_a_stream():
    x, parameters, _ = draw(27, 30, 2, 2)
    for rows in (x.tolist(), list(x), tuple(x)):
        assert_close(statistics(rows, parameters), statistics(x, parameters), 0.0)


def test_stream_is_read_once_and_block_by_block():
    x, parameters, _ = draw(28, 30, 2, 2)
    asked, alive = [], []

    class Rows(np.ndarray):
        """A block that says when it is gone."""

        def __del__(self):
            alive[:] = [number for number in alive if number != getattr(self, "number", None)]

    def blocks():
        for number in range(6):
            asked.append(number)
            assert len(alive) <= 2  # this one's predecessor, and the one before at most
            block = x[5 * number : 5 * number + 5].copy().view(Rows)
            block.number = number
            alive.append(number)
            yield block

    assert_close(statistics(blocks(), parameters), statistics(x, parameters))
    assert asked == list(range(6))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (iter([]), "iterable without any block of rows"),
        ((block for block in ()), "iterable without any block of rows"),
        ([], "x must"),  # an array or a stream: there is no telling
        ((), "x must"),
        (np.zeros((0, 2)), "x is empty"),
    ],
)
def test_data_without_rows_are_refused(x, message):
    _, parameters, _ = draw(29, 5, 2, 2)
    with pytest.raises(ValueError, match=message):
        statistics(x, parameters)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.array([[0.0, 1.0], [np.nan, 2.0]]), ValueError, "block 2 of x: .*row 1, column 0"),
        (np.zeros((4, 3)), ValueError, r"block 2 of x: x and means disagree.*\(4, 3\)"),
        (np.zeros((0, 2)), ValueError, "block 2 of x: x is empty"),
        (np.zeros(2), ValueError, "block 2 of x: x must have two axes"),
        (np.zeros((2, 2), dtype=complex), TypeError, "block 2 of x: x must hold real numbers"),
        ("rows", TypeError, "block 2 of x: x must hold real numbers"),
        (np.array([[2**53 + 1, 0]]), ValueError, "block 2 of x: .*beyond 2.*row 0, column 0"),
    ],
)
def test_bad_block_is_named(bad, error, message):
    x, parameters, _ = draw(31, 20, 2, 2)
    blocks = [*np.split(x, 2), bad, x]
    with pytest.raises(error, match=message):
        statistics(iter(blocks), parameters)


def test_bad_values_of_an_array_are_counted_and_the_first_is_placed(tuned):
    tuned(chunk_bytes=8 * 2 * 64)
    x, parameters, _ = draw(32, 500, 2, 2)
    x[400, 1] = np.nan
    x[499] = [-INF, INF]
    with pytest.raises(ValueError, match="3 of 1000, the first nan at row 400, column 1"):
        statistics(x, parameters)


@pytest.mark.parametrize("make", [list, iter])
def test_streams_and_weights_of_different_length_are_refused(make):
    x, parameters, weight = draw(33, 20, 2, 2)
    blocks, weights = np.split(x, 4), np.split(weight, 4)
    with pytest.raises(ValueError, match=r"sample_weight ends before x: .* block 2"):
        statistics(make(blocks), parameters, sample_weight=make(weights[:2]))
    with pytest.raises(ValueError, match="sample_weight has more blocks than x"):
        statistics(make(blocks[:3]), parameters, sample_weight=make(weights))
    with pytest.raises(ValueError, match="sample_weight"):
        statistics(make(blocks), parameters, sample_weight=weight)
    read = iter(blocks)
    statistics(read, parameters)
    with pytest.raises(ValueError, match="iterable without any block of rows"):
        statistics(read, parameters)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones(4), r"block 1 of x: sample_weight must have shape \[N\] = \(5,\).*\(4,\)"),
        (np.array([1.0, 1.0, -1.0, 1.0, 1.0]), "block 1 of x: .*negative values.*row 2"),
        (np.full(5, np.nan), "block 1 of x: sample_weight has values that are not finite"),
        (np.ones((5, 1)), r"block 1 of x: sample_weight must have shape"),
        (1.0, r"block 1 of x: sample_weight must have shape"),
    ],
)
def test_bad_weights_of_a_block_are_named(bad, message):
    x, parameters, _ = draw(35, 20, 2, 2)
    weights = [np.ones(5), bad, np.ones(5), np.ones(5)]
    with pytest.raises(ValueError, match=message):
        statistics(np.split(x, 4), parameters, sample_weight=iter(weights))


def test_weights_of_a_block_may_all_be_zero_but_not_those_of_a_stream():
    x, parameters, weight = draw(37, 20, 2, 2)
    weight[5:10] = 0.0
    weight[0] = 1.0
    blocks, weights = np.split(x, 4), np.split(weight, 4)
    expected = statistics(x, parameters, sample_weight=weight)
    assert_close(statistics(blocks, parameters, sample_weight=weights), expected)
    with pytest.raises(ValueError, match="sample_weight is zero for every row"):
        statistics(blocks, parameters, sample_weight=[np.zeros(5)] * 4)
    with pytest.raises(ValueError, match="sample_weight is zero for every row"):
        statistics(x, parameters, sample_weight=np.zeros(20))


def test_errors_of_a_generator_are_its_own():
    x, parameters, _ = draw(38, 20, 2, 2)

    def broken(block):
        yield block
        raise ValueError("the disk is gone")

    with pytest.raises(ValueError, match=r"^the disk is gone$"):
        statistics(broken(x), parameters)
    with pytest.raises(ValueError, match=r"^the disk is gone$"):
        statistics(itertools.repeat(x), parameters, sample_weight=broken(np.ones(20)))


@pytest.mark.parametrize("x", [None, 3.0, "abc", b"abc", object()])
def test_what_is_no_data_is_refused(x):
    _, parameters, _ = draw(39, 5, 2, 2)
    with pytest.raises((TypeError, ValueError), match="x must"):
        statistics(x, parameters)


@pytest.mark.parametrize("method", ["Auto", "", None])
def test_unknown_methods_are_refused(method):
    x, parameters, _ = draw(40, 5, 2, 2)
    with pytest.raises(ValueError, match='method must be one of "auto", "direct", "moments"; got'):
        statistics(x, parameters, method=method)
