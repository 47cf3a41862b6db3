"""Hessian-vector products of the engine.

Judges: the reference's Hessian-vector product on the factors that a scale stands for, central
differences of the gradient, and sums over samples in a loop. test_second_order_torch.py has
PyTorch's.
"""

import tracemalloc

import numpy as np
import pytest
from families_by_reference import FAMILIES, LEARNED, expand, random_parameters, reduce
from problems import Worst

import gmm_np
from gmm_np import Gradients, Parameters, reference
from gmm_np.second_order import hvp, tangent_statistics

METHODS = ("direct", "moments", "auto")
SIZES = ((40, 3, 2), (1, 1, 1), (25, 1, 3), (30, 4, 1), (70, 2, 5))  # N, K, D


def random_case(seed, family, sizes=None):
    """Rows, parameters, a direction and weights, one of which is zero."""
    rng = np.random.default_rng([seed, 3])
    n, k, d = sizes or (int(rng.integers(2, 60)), int(rng.integers(1, 6)), int(rng.integers(1, 6)))
    parameters = random_parameters(seed, family, k, d)
    direction = random_direction(seed, parameters)
    weight = rng.uniform(0.2, 2.0, size=n)
    weight[: n - 1 : 7] = 0.0
    return 2.0 * rng.normal(size=(n, d)), parameters, direction, weight


def random_direction(seed, parameters):
    rng = np.random.default_rng([seed, 4])
    blocks = parameters.pi_logits, parameters.means, parameters.scale
    logits, means, scale = (rng.normal(size=block.shape) for block in blocks)
    if parameters.family == "constant":
        return Gradients(logits, means, None)
    is_factor = parameters.family in ("full", "tied")
    return Gradients(logits, means, np.tril(scale) if is_factor else scale)


def arguments(parameters):
    return parameters.pi_logits, parameters.means, parameters.scale


def product(x, parameters, direction, **options):
    return gmm_np.nll_hvp(x, *arguments(parameters), direction, family=parameters.family, **options)


def product_by_reference(x, parameters, direction, **options):
    """By the chain rule, on the factors that the scale stands for."""
    family, shape = parameters.family, parameters.means.shape
    factors = expand(parameters.scale, family, *shape)
    moved = None if direction.scale is None else expand(direction.scale, family, *shape)
    found = reference.nll_hvp(
        x,
        parameters.pi_logits.astype(float),
        parameters.means.astype(float),
        factors,
        Gradients(direction.pi_logits, direction.means, moved),
        **options,
    )
    return Gradients(found.pi_logits, found.means, reduce(found.scale, family))


def compare(worst, seed, found, expected):
    """Errors are of the largest entry of a block, and of the product where that nearly cancels."""
    size = max(float(np.abs(block).max()) for block in expected[:3] if block is not None)
    for name in ("pi_logits", "means", "scale"):
        got, want = getattr(found, name), getattr(expected, name)
        if want is None:
            assert got is None
        else:
            worst.add(seed, name, got, want, 0.01 * size)
    assert found.x is None


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_product_equals_that_of_the_reference(family, method, reduction):
    worst = Worst()
    for seed in range(12):
        x, parameters, direction, weight = random_case(
            seed, family, dict(enumerate(SIZES)).get(seed)
        )
        options = {"sample_weight": weight if seed % 2 else None, "reduction": reduction}
        found = product(x, parameters, direction, method=method, **options)
        compare(worst, seed, found, product_by_reference(x, parameters, direction, **options))
    worst.check(1e-11)


@pytest.mark.parametrize("family", FAMILIES)
def test_product_is_the_derivative_of_the_gradient(family):
    step, worst = 1e-5, Worst()
    for seed in range(6):
        x, parameters, direction, weight = random_case(seed, family)

        def gradient(shift, p=parameters, v=direction, x=x, weight=weight):
            blocks = zip(arguments(p), v[:3], strict=True)
            moved = [a if b is None else a + shift * b for a, b in blocks]
            found = gmm_np.nll_value_and_grad(x, *moved, family=p.family, sample_weight=weight)
            return found[1]

        found = product(x, parameters, direction, sample_weight=weight)
        slope = gradient(step).plus(gradient(-step), -1.0)
        zero = Gradients(*(np.zeros(a.shape) for a in arguments(parameters)))
        expected = zero.plus(slope, 0.5 / step) if direction.scale is not None else slope
        if direction.scale is None:
            expected = Gradients(slope.pi_logits / (2 * step), slope.means / (2 * step), None)
        compare(worst, seed, found, expected)
    worst.check(1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_threads_and_many_blocks_change_nothing(method, tuned, monkeypatch):
    monkeypatch.setattr("gmm_np.linalg.threads.cores", lambda: 3)
    x, parameters, direction, weight = random_case(1, "full", (3000, 4, 3))
    expected = product_by_reference(x, parameters, direction, sample_weight=weight)
    tuned(largest_block=64, largest_chunk=500, worth_a_thread=1.0, cheap_sample=0.0, little_work=0)
    worst = Worst()
    compare(
        worst, 1, product(x, parameters, direction, sample_weight=weight, method=method), expected
    )
    worst.check(1e-11)


def test_chunks_of_either_kernel_add(tuned):
    """A chunk far away takes residuals, and the next one features."""
    tuned(largest_chunk=200, little_work=0)
    x, parameters, direction, _ = random_case(2, "full", (400, 3, 4))
    x[200:] += 1e6
    found = product(x, parameters, direction, method="auto")
    worst = Worst()
    compare(worst, 2, found, product_by_reference(x, parameters, direction))
    worst.check(1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_component_that_is_off_has_no_part(family):
    x, parameters, direction, weight = random_case(3, family, (30, 3, 2))
    logits = parameters.pi_logits.copy()
    logits[1] = -np.inf
    off = Parameters(logits, parameters.means, parameters.scale, family)
    found = product(x, off, direction, sample_weight=weight)
    assert found.pi_logits[1] == 0
    assert not found.means[1].any()
    keep, per_component = [0, 2], parameters.scale.ndim > expand_axes(family)
    rest = Parameters(
        logits[keep],
        parameters.means[keep],
        parameters.scale[keep] if per_component else parameters.scale,
        family,
    )
    moved = direction.scale
    if moved is not None and per_component:
        moved = moved[keep]
    moves = Gradients(direction.pi_logits[keep], direction.means[keep], moved)
    expected = product(x, rest, moves, sample_weight=weight)
    assert np.allclose(found.pi_logits[keep], expected.pi_logits, rtol=1e-12, atol=1e-15)
    assert np.allclose(found.means[keep], expected.means, rtol=1e-12, atol=1e-15)
    if expected.scale is not None:
        own = found.scale[keep] if per_component else found.scale
        assert np.allclose(own, expected.scale, rtol=1e-12, atol=1e-15)


def expand_axes(family):
    return {"tied": 2, "tied_diag": 1, "shared_spherical": 0}.get(family, -1)


@pytest.mark.parametrize("family", LEARNED)
def test_products_are_symmetric(family):
    x, parameters, left, weight = random_case(4, family, (50, 3, 3))
    right = random_direction(99, parameters)

    def inner(a, b):
        return sum(float((u * v).sum()) for u, v in zip(a[:3], b[:3], strict=True))

    there = inner(left, product(x, parameters, right, sample_weight=weight, reduction="sum"))
    back = inner(right, product(x, parameters, left, sample_weight=weight, reduction="sum"))
    assert there == pytest.approx(back, rel=1e-12)


def test_sums_of_parts_add_and_so_do_streams():
    x, parameters, direction, weight = random_case(5, "full", (90, 3, 3))
    blocks, weights = np.array_split(x, 3), np.array_split(weight, 3)
    parts = [
        tangent_statistics(block, parameters, direction, sample_weight=own)
        for block, own in zip(blocks, weights, strict=True)
    ]
    found = hvp(parameters, sum(parts))
    streamed = product(iter(blocks), parameters, direction, sample_weight=iter(weights))
    whole = product(x, parameters, direction, sample_weight=weight)
    for own in (found, streamed):
        worst = Worst()
        compare(worst, 5, own, whole)
        worst.check(1e-13)


def test_few_samples_keep_the_digits_that_the_faster_kernel_loses():
    # As for a gradient. A factor of condition number 200, and four samples.
    factor = np.array([[1.0, 0.0, 0.0], [0.7, 0.01, 0.0], [-0.4, 0.3, 0.8]])
    rng = np.random.default_rng(5)
    x = rng.normal(size=(4, 3)) @ factor.T
    parameters = Parameters([0.0], np.zeros((1, 3)), factor[None])
    direction = random_direction(5, parameters)
    found = {method: product(x, parameters, direction, method=method) for method in METHODS}
    right = product_by_reference(x, parameters, direction).scale
    np.testing.assert_allclose(found["auto"].scale, right, rtol=0, atol=1e-14 * abs(right).max())
    lost = abs(found["moments"].scale - right).max()
    assert lost > 1e-13 * abs(right).max()  # so that there is something to keep


@pytest.mark.parametrize("far", [1e155, 1e200])
def test_sample_beyond_the_range_of_a_square_is_left_to_the_reference(far):
    """As long as the product is a double: here the scale stays."""
    x, parameters, direction, _ = random_case(6, "full", (12, 2, 2))
    x[5] = far
    direction = direction._replace(scale=None)
    found = product(x, parameters, direction, reduction="sum")
    expected = product_by_reference(x, parameters, direction, reduction="sum")
    worst = Worst()
    compare(worst, 6, found._replace(scale=None), expected._replace(scale=None))
    worst.check(1e-12)


def test_product_beyond_the_range_is_an_error_that_says_where():
    direction = Gradients(np.zeros(1), np.ones((1, 1)), None)
    with pytest.raises(OverflowError, match=r"product in \w+, .*Choose units"):
        gmm_np.nll_hvp([[0.0]], [0.0], [[1.0]], [[[1e-160]]], direction)


def test_memory_does_not_grow_with_the_rows():
    parameters = random_parameters(1, "full", 3, 2)
    direction = random_direction(1, parameters)
    peaks = []
    for n in (20_000, 200_000):
        x = np.random.default_rng(0).normal(size=(n, 2))
        product(x, parameters, direction)
        tracemalloc.start()
        product(x, parameters, direction)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 64 * 2**20
    assert peaks[1] < 1.5 * peaks[0]


def test_dtype_of_each_block_is_that_of_its_argument():
    x, p, direction, _ = random_case(7, "diag", (20, 2, 2))
    found = gmm_np.nll_hvp(
        x,
        p.pi_logits.astype(np.float32),
        p.means,
        p.scale.astype(np.float32),
        direction,
        family="diag",
    )
    assert [block.dtype for block in found[:3]] == [np.float32, np.float64, np.float32]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reduction": "none"}, 'reduction must be "mean" or "sum"'),
        ({"method": "fast"}, "method"),
        ({"direction": (0, 0, 0)}, r"direction must be gmm_np\.Gradients"),
        ({"direction": Gradients(np.zeros(3), np.zeros((2, 2)), None)}, r"direction\.pi_logits"),
        (
            {"direction": Gradients(np.zeros(2), np.zeros((2, 2)), np.ones((2, 2, 2)))},
            r"direction\.scale is not lower triangular",
        ),
        (
            {"direction": Gradients(np.zeros(2), np.full((2, 2), np.nan), None)},
            r"direction\.means .*component 0, column 0",
        ),
        (
            {"direction": Gradients(np.zeros(2), np.zeros((2, 2)), None, np.zeros((3, 2)))},
            r"direction\.x must be None.*reference\.nll_hvp",
        ),
        ({"sample_weight": [0.0, 0.0, 0.0]}, "sample_weight is zero for every row"),
    ],
)
def test_bad_arguments_are_named(change, message):
    said = {"direction": Gradients(np.zeros(2), np.zeros((2, 2)), None), **change}
    with pytest.raises((TypeError, ValueError), match=message):
        gmm_np.nll_hvp(
            np.zeros((3, 2)), np.zeros(2), np.zeros((2, 2)), np.stack([np.eye(2)] * 2), **said
        )


def test_scale_that_is_not_learned_does_not_move():
    direction = Gradients(np.zeros(1), np.zeros((1, 1)), np.ones((1, 1, 1)))
    with pytest.raises(ValueError, match=r'direction.scale must be None: family "constant"'):
        gmm_np.nll_hvp([[0.0]], [0.0], [[0.0]], [[[1.0]]], direction, family="constant")


def test_statistics_of_other_places_or_directions_do_not_add():
    x, parameters, direction, _ = random_case(8, "full", (9, 2, 2))
    other = random_parameters(9, "full", 2, 2)
    found = tangent_statistics(x, parameters, direction)
    with pytest.raises(ValueError, match="do not add"):
        found + tangent_statistics(x, other, direction)
    with pytest.raises(ValueError, match="do not add"):
        found + tangent_statistics(x, parameters, random_direction(10, parameters))
    with pytest.raises(ValueError, match="other parameters than those given"):
        hvp(other, found)
