"""Rows that have mixtures of their own, against a loop over rows, differences and definitions."""

import re
import tracemalloc

import numpy as np
import pytest
from problems import BLOCKS, Worst, naive_gradients, naive_nll
from rows_by_reference import (
    FAMILIES,
    RowProblem,
    coefficients,
    hvp,
    random_direction,
    random_rows,
    value_and_grad,
)

import gmm_np
from gmm_np import Gradients, check_grad, mdn
from gmm_np.mdn import reference

# Both sides round some hundred operations to 1.1e-16 each; the inverse of a factor adds its own
# condition, below 100 here.
TOLERANCE = 1e-12
FAMILY = pytest.mark.parametrize("family", FAMILIES)
REDUCTION = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
WEIGHTED = pytest.mark.parametrize("weighted", [False, True])


def by_reference(*problem, d_value=None, **options):
    """`gmm_np.mdn.reference` with the interface of the engine."""
    value, cache = reference.nll_forward(*problem, **options)
    if d_value is None:
        d_value = np.ones(np.shape(value))
    return value, reference.nll_backward(cache, d_value)


FORMS = (mdn.nll_value_and_grad, by_reference)


def floor_of(c, d_value=1.0):
    """What errors of the gradient of the logits are relative to at least: each is a difference."""
    return 0.01 * float(np.abs(c * d_value).max())


def random_options(problem, seed, reduction, weighted):
    rng = np.random.default_rng([seed, 5])
    n = len(problem.x)
    weight = rng.uniform(0.1, 3.0, size=n) if weighted else None
    d_value = rng.normal(size=n if reduction == "none" else ())
    return weight, d_value


@FAMILY
@REDUCTION
@WEIGHTED
def test_value_and_gradients_are_those_of_a_loop_over_rows(family, reduction, weighted):
    worst = Worst()
    for seed in range(10):
        problem = random_rows(seed, family)
        weight, d_value = random_options(problem, seed, reduction, weighted)
        options = {"sample_weight": weight, "reduction": reduction}
        expected_value, expected = value_and_grad(problem, family, **options, d_value=d_value)
        floor = floor_of(coefficients(problem, weight, reduction), d_value)
        for form in FORMS:
            value, gradients = form(*problem, family=family, **options, d_value=d_value)
            worst.add(seed, "value", value, expected_value)
            worst.add_gradients(seed, gradients, expected, floor)
        worst.add(seed, "nll", mdn.nll(*problem, family=family, **options), expected_value)
    worst.check(TOLERANCE)


@FAMILY
@WEIGHTED
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_hessian_vector_product_is_that_of_a_loop_over_rows(family, reduction, weighted):
    worst = Worst()
    for seed in range(8):
        problem = random_rows(seed, family)
        weight, _ = random_options(problem, seed, reduction, weighted)
        options = {"sample_weight": weight, "reduction": reduction}
        direction = random_direction(problem, seed)
        expected = hvp(problem, family, direction, **options)
        floor = floor_of(coefficients(problem, weight, reduction))
        for form in (mdn.nll_hvp, reference.nll_hvp):
            found = form(*problem, direction, family=family, **options)
            worst.add_gradients(seed, found, expected, floor)
    worst.check(TOLERANCE)


def test_full_rows_are_those_of_the_definition_in_loops():
    worst = Worst()
    for seed in range(6):
        problem = random_rows(seed, "full")
        value, gradients = mdn.nll_value_and_grad(*problem, reduction="sum")
        n_rows = len(problem.x)
        rows = [(problem.x[[n]], *(block[n] for block in problem[1:])) for n in range(n_rows)]
        worst.add(seed, "value", value, sum(naive_nll(*row, reduction="sum") for row in rows))
        expected = [naive_gradients(*row, reduction="sum") for row in rows]
        logits, means, scale, x = (np.stack(block) for block in zip(*expected, strict=True))
        worst.add_gradients(seed, gradients, (logits, means, scale, x[:, 0]), 0.01)
    worst.check(1e-11)  # the definition inverts covariances


@FAMILY
def test_gradients_are_slopes_of_the_value(family):
    problem = random_rows(3, family, 5, 3, 2)
    names = ("x", "pi_logits", "means", "scale")

    def function(x, pi_logits, means, scale):
        value, g = mdn.nll_value_and_grad(x, pi_logits, means, scale, family=family)
        return value, (g.x, g.pi_logits, g.means, g.scale)

    free = (
        {"scale": np.broadcast_to(np.tri(2, dtype=bool), (5, 3, 2, 2))} if family == "full" else {}
    )
    report = check_grad(function, dict(zip(names, problem, strict=True)), free=free)
    assert report.passed, str(report)


@FAMILY
def test_hessian_vector_product_is_the_slope_of_the_gradient(family):
    problem = random_rows(4, family, 6, 3, 3)
    direction = random_direction(problem, 4)
    moves = (direction.x, *direction[:3])

    def gradient(step):
        moved = [block + step * move for block, move in zip(problem, moves, strict=True)]
        return mdn.nll_value_and_grad(*moved, family=family)[1]

    found, h = mdn.nll_hvp(*problem, direction, family=family), 1e-4
    points = {step: gradient(step * h) for step in (-2, -1, 1, 2)}
    for block in BLOCKS:
        at = {step: getattr(point, block) for step, point in points.items()}
        slope = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)  # error of order h^4
        mine = getattr(found, block)
        np.testing.assert_allclose(mine, slope, rtol=0, atol=1e-9 * np.abs(mine).max())


@FAMILY
def test_hessian_is_symmetric(family):
    problem = random_rows(5, family, 4, 3, 2)
    u, v = random_direction(problem, 1), random_direction(problem, 2)

    def inner(left, right):
        return sum(np.vdot(a, b) for a, b in zip(left, right, strict=True))

    one = inner(u, mdn.nll_hvp(*problem, v, family=family))
    other = inner(v, mdn.nll_hvp(*problem, u, family=family))
    assert one == pytest.approx(other, rel=1e-12)


@FAMILY
def test_rows_that_share_a_mixture_sum_to_the_gradient_of_that_mixture(family):
    n, one = 50, random_rows(6, family, 1, 3, 2)
    x = np.random.default_rng(6).normal(size=(n, 2))
    shared = [block[0] for block in one[1:]]
    repeated = [np.broadcast_to(block, (n, *block.shape)) for block in shared]
    value, gradients = mdn.nll_value_and_grad(x, *repeated, family=family)
    expected_value, expected = gmm_np.nll_value_and_grad(x, *shared, family=family)
    assert value == pytest.approx(expected_value, rel=1e-13)
    for block in BLOCKS[:3]:
        total = getattr(gradients, block).sum(axis=0)
        np.testing.assert_allclose(total, getattr(expected, block), rtol=0, atol=1e-13)
    scores = gmm_np.log_prob_grad(x, *shared, family=family)
    np.testing.assert_allclose(gradients.x, -scores / n, rtol=0, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
@FAMILY
def test_component_that_is_off_in_a_row_equals_its_absence_there(form, family):
    problem = random_rows(7, family, 4, 3, 2)
    logits = problem.pi_logits.copy()
    logits[2, 1] = -np.inf
    value, gradients = form(problem.x, logits, *problem[2:], family=family, reduction="none")
    rest = RowProblem(problem.x[[2]], *(np.delete(a[[2]], 1, axis=1) for a in problem[1:]))
    expected_value, expected = form(*rest, family=family, reduction="none")
    assert value[2] == pytest.approx(expected_value[0], rel=1e-14)
    for block in BLOCKS[:3]:
        mine = getattr(gradients, block)[2]
        assert not mine[1].any()
        np.testing.assert_allclose(
            np.delete(mine, 1, axis=0), getattr(expected, block)[0], atol=1e-14
        )
    np.testing.assert_allclose(gradients.x[2], expected.x[0], atol=1e-14)


@FAMILY
@pytest.mark.parametrize("distance", [50.0, 1e4, 1e150, 1e155, 1e200])
def test_far_and_saturated_rows_are_those_of_the_reference(family, distance):
    problem = random_rows(8, family, 6, 3, 2)
    x = problem.x.copy()
    x[::2] += distance
    problem = problem._replace(x=x)
    value, gradients = mdn.nll_value_and_grad(*problem, family=family, reduction="none")
    expected_value, expected = value_and_grad(problem, family, reduction="none")
    assert not np.isnan(value).any()
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    for n in range(6):
        for block in BLOCKS:
            mine, theirs = getattr(gradients, block)[n], getattr(expected, block)[n]
            size = np.abs(theirs[np.isfinite(theirs)]).max(initial=0.01)
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12 * size)


@pytest.mark.parametrize("deviation", [5e-324, 1e-200, 1e200])
def test_deviations_at_the_ends_of_the_range_are_those_of_the_reference(deviation):
    problem = random_rows(9, "diag", 4, 2, 2)
    scale = problem.scale.copy()
    scale[1, 0, 1] = deviation
    problem = problem._replace(scale=scale)
    value, gradients = mdn.nll_value_and_grad(*problem, family="diag", reduction="sum")
    expected_value, expected = value_and_grad(problem, "diag", reduction="sum")
    assert value == pytest.approx(expected_value, rel=1e-12)
    for mine, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-12)


def test_infinities_of_either_sign_are_no_nan():
    x, logits, means = np.array([[0.0], [1e300]]), np.zeros((2, 1)), np.zeros((2, 1, 1))
    assert mdn.nll(x, logits, means, [[1e-5], [1.0]], family="spherical") == np.inf


@FAMILY
def test_result_does_not_depend_on_the_size_of_blocks(family, tuned):
    problem = random_rows(10, family, 23, 3, 4)
    direction = random_direction(problem, 10)
    value, gradients = mdn.nll_value_and_grad(*problem, family=family)
    product = mdn.nll_hvp(*problem, direction, family=family)
    tuned(group=1)
    assert mdn.nll_value_and_grad(*problem, family=family)[0] == value
    for whole, one_by_one in (
        (gradients, mdn.nll_value_and_grad(*problem, family=family)[1]),
        (product, mdn.nll_hvp(*problem, direction, family=family)),
    ):
        for a, b in zip(whole, one_by_one, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


def test_work_memory_is_that_of_a_block():
    problem = random_rows(11, "full", 3000, 8, 8)  # scale: 12 MB
    mdn.nll_value_and_grad(*problem)
    tracemalloc.start()
    try:
        mdn.nll_value_and_grad(*problem)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    results = sum(block.nbytes for block in problem)
    assert peak < results + 8 * 2**20  # no [N, K, D, D] beside the gradient


@FAMILY
def test_weight_zero_equals_a_dropped_row_and_two_a_repeated_one(family):
    problem = random_rows(12, family, 3, 2, 2)
    value, gradients = mdn.nll_value_and_grad(*problem, family=family, sample_weight=[0, 2, 1])
    rows = [1, 1, 2]
    repeated = RowProblem(*(block[rows] for block in problem))
    expected_value, expected = mdn.nll_value_and_grad(*repeated, family=family)
    assert value == pytest.approx(expected_value, rel=1e-14)
    for mine, theirs in zip(gradients, expected, strict=True):
        assert not mine[0].any()
        np.testing.assert_allclose(mine[1], theirs[0] + theirs[1], atol=1e-15)
        np.testing.assert_allclose(mine[2], theirs[2], atol=1e-15)


def test_gradients_come_in_the_dtype_of_their_arguments_and_arguments_stay():
    problem = random_rows(13, "full", 4, 2, 3)
    expected = mdn.nll_value_and_grad(*problem)[1]
    mixed = (
        problem.x.astype(np.float32),
        problem.pi_logits[:, ::-1],
        problem.means.tolist(),
        np.asfortranarray(problem.scale),
    )
    before = [np.array(a) for a in mixed]
    gradients = mdn.nll_value_and_grad(*mixed)[1]
    assert [g.dtype for g in gradients] == [np.float64, np.float64, np.float64, np.float32]
    assert all(np.array_equal(a, b) for a, b in zip(mixed, before, strict=True))
    np.testing.assert_array_equal(np.triu(gradients.scale, 1), 0)
    assert expected.x.dtype == np.float64


BASE = {
    "x": np.zeros((4, 2)),
    "pi_logits": np.zeros((4, 3)),
    "means": np.zeros((4, 3, 2)),
    "scale": np.ones((4, 3, 2)),
}


def changed(name, index, value):
    array = BASE[name].copy()
    array[index] = value
    return {name: array}


MESSAGES = [
    (
        changed("scale", (3, 1, 0), -1.0),
        "not positive: 1 of 24, the first -1.0 at row 3, component 1, column 0.",
    ),
    (changed("means", (2, 0, 1), np.nan), "the first nan at row 2, component 0, column 1"),
    (changed("pi_logits", (1, 2), np.inf), "the first inf at row 1, component 2"),
    (changed("pi_logits", 1, -np.inf), "are all -inf in rows, 1 of 4, the first at row 1, so that"),
    (changed("x", (3, 0), np.nan), "the first nan at row 3, column 0"),
    ({"pi_logits": np.zeros(3)}, "pi_logits must have two axes [N, K]; got shape (3,)"),
    ({"pi_logits": np.zeros((4, 2))}, "pi_logits must have shape [N, K] = (4, 3); got (4, 2)"),
    ({"means": np.zeros((3, 2))}, "(3, 2). For one mixture of all rows use gmm_np.nll"),
    (
        {"x": np.zeros((5, 2))},
        "means has shape (4, 3, 2), so x must have shape [N, D] = (4, 2); got (5, 2)",
    ),
    ({"scale": np.ones((4, 3))}, "scale must have three axes [N, K, D]; got shape (4, 3)"),
    ({"family": "full"}, "scale must have four axes [N, K, D, D]; got shape (4, 3, 2)"),
    (
        {"scale": np.ones((4, 3, 2, 2)), "family": "full"},
        "12 of 48, the first 1.0 at row 0, component 0, factor row 0, factor column 1",
    ),
    ({"family": "tied"}, 'family must be one of "full", "diag", "spherical"; got \'tied\''),
    ({"sample_weight": [1, 1, 1]}, "sample_weight must have shape [N] = (4,)"),
    ({"reduction": "median"}, "reduction must be one of"),
    ({"d_value": [1.0] * 4}, "d_value must have the shape of the value, ()"),
    ({"d_value": 1.0, "reduction": "none"}, "d_value must have the shape of the value, (4,)"),
]


@pytest.mark.parametrize(("changes", "message"), MESSAGES)
def test_message_names_argument_place_and_remedy(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        mdn.nll_value_and_grad(**{**BASE, "family": "diag", **changes})


@pytest.mark.parametrize("form", [mdn.nll_hvp, reference.nll_hvp])
def test_direction_has_a_contract_with_rows(form):
    still = Gradients(BASE["pi_logits"], BASE["means"], None)
    form(**BASE, direction=still, family="diag")
    with pytest.raises(ValueError, match=r'reduction must be "mean" or "sum"'):
        form(**BASE, direction=still, family="diag", reduction="none")
    bad = BASE["means"].copy()
    bad[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match=r"direction.means .* at row 3, component 2, column 1"):
        form(**BASE, direction=still._replace(means=bad), family="diag")
    with pytest.raises(ValueError, match=r"direction.scale must have the shape"):
        form(**BASE, direction=still._replace(scale=np.ones((4, 3))), family="diag")


def test_product_beyond_the_range_names_the_row():
    scale = BASE["scale"].copy()
    scale[2] = 1e-200
    x = BASE["x"] + 1.0
    direction = Gradients(BASE["pi_logits"], BASE["means"] + 1, None)
    with pytest.raises(OverflowError, match=r"row 2 of x: the Hessian-vector product"):
        mdn.nll_hvp(x, BASE["pi_logits"], BASE["means"], scale, direction, family="diag")


# --- heads --------------------------------------------------------------------------------------


@FAMILY
@pytest.mark.parametrize("positive", ["softplus", "exp"])
def test_gradient_in_the_outputs_is_the_slope_of_the_loss(family, positive):
    head = mdn.MixtureHead(3, 2, family=family, positive=positive, floor=0.1)
    rng = np.random.default_rng(14)
    outputs, x = rng.normal(size=(5, head.n_outputs)), rng.normal(size=(5, 2))

    def function(outputs):
        value, gradients = mdn.nll_value_and_grad(x, *head.forward(outputs), family=family)
        return value, (head.backward(outputs, gradients),)

    report = check_grad(function, {"outputs": outputs})
    assert report.passed, str(report)


def test_head_takes_outputs_in_the_order_that_it_documents():
    head = mdn.MixtureHead(2, 2, positive="exp")
    outputs = np.arange(12.0)[None] / 10
    logits, means, scale = head.forward(outputs)
    assert logits.tolist() == [[0.0, 0.1]]
    assert means.tolist() == [[[0.2, 0.3], [0.4, 0.5]]]
    np.testing.assert_array_equal(
        scale[0], [[[np.exp(0.6), 0], [0.7, np.exp(0.8)]], [[np.exp(0.9), 0], [1.0, np.exp(1.1)]]]
    )
    assert [mdn.MixtureHead(3, 2, family=f).n_outputs for f in FAMILIES] == [18, 15, 12]


def test_softplus_neither_overflows_nor_loses_digits():
    head = mdn.MixtureHead(1, 1, family="spherical")
    outputs = np.array([[0.0, 0.0, u] for u in (-700.0, -40.0, 0.0, 800.0)])
    scale = head.forward(outputs).scale[:, 0]
    np.testing.assert_allclose(scale, [np.exp(-700), np.exp(-40), np.log(2), 800.0], rtol=1e-15)
    ones = Gradients(np.zeros((4, 1)), np.zeros((4, 1, 1)), np.ones((4, 1)))
    slopes = head.backward(outputs, ones)[:, 2]
    np.testing.assert_allclose(slopes, [np.exp(-700), np.exp(-40), 0.5, 1.0], rtol=1e-15)


def test_floor_is_the_least_deviation():
    head = mdn.MixtureHead(2, 1, family="diag", floor=0.25)
    assert head.forward(np.full((1, 6), -1e4)).scale.tolist() == [[[0.25], [0.25]]]


def test_head_refuses_what_it_cannot_take():
    with pytest.raises(ValueError, match=r'positive must be one of "softplus", "exp"'):
        mdn.MixtureHead(1, 1, positive="relu")
    with pytest.raises(ValueError, match=r'family must be one of "full", "diag", "spherical"'):
        mdn.MixtureHead(1, 1, family="tied")
    with pytest.raises(ValueError, match="n_components >= 1"):
        mdn.MixtureHead(0, 1)
    head = mdn.MixtureHead(2, 1, family="diag")
    with pytest.raises(ValueError, match=re.escape("outputs must have shape [N, 6]")):
        head.forward(np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"outputs .* the first nan at row 1, output 4"):
        head.forward([[0.0] * 6, [0.0] * 4 + [np.nan, 0.0]])
