"""Hessian-vector products of the reference: Louis' formula in loops, differences, and properties.

test_reference_hvp_torch.py has PyTorch's. A direction has the fields of a `Gradients`.
"""

import math

import numpy as np
import pytest
from problems import BLOCKS, Worst, random_problem

from gmm_np import Gradients
from gmm_np.reference import nll_backward, nll_forward, nll_hvp

REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum"])
# Sizes that a random draw seldom gives, as N, K, D.
CORNERS = ((1, 1, 1), (1, 1, 5), (1, 4, 3), (7, 1, 3), (30, 5, 1), (1, 2, 8))


def random_direction(problem, seed):
    """How fast each entry moves; None of it zero, but what is above the factors' diagonal."""
    rng = np.random.default_rng(seed)
    x, logits, means, factors = (rng.normal(size=argument.shape) for argument in problem)
    return Gradients(logits, means, np.tril(factors), x)


def random_weight(problem, seed):
    """Weights, among them one of zero if there are others."""
    weight = np.random.default_rng(seed).uniform(0.1, 3.0, size=len(problem.x))
    weight[1:2] = 0.0
    return weight


def problems(count=60):
    """Problems of random sizes and of corners, each with its seed."""
    for seed in range(count):
        yield seed, random_problem(seed)
    for seed, sizes in enumerate(CORNERS, start=1000):
        yield seed, random_problem(seed, *sizes)


def inner(left, right):
    """Inner product of two directions or gradients."""
    return math.fsum(float((a * b).sum()) for a, b in zip(left, right, strict=True))


def moved(problem, direction, step):
    """The arguments, moved along a direction."""
    logits, means, factors, x = direction
    moves = (x, logits, means, factors)
    return [a + step * v for a, v in zip(problem, moves, strict=True)]


def logits_floor(product):
    """What errors in the logits are relative to at least: sums of samples that mostly cancel."""
    return 0.01 * max(float(np.abs(block).max()) for block in product)


# --- Louis' identity, word by word --------------------------------------------------------------


def inverse_of(factor):
    """Inverse of a lower triangle, column by column, in Python floats."""
    d = len(factor)
    inverse = [[0.0] * d for _ in range(d)]
    for j in range(d):
        for i in range(j, d):
            known = math.fsum(factor[i][m] * inverse[m][j] for m in range(j, i))
            inverse[i][j] = (float(i == j) - known) / factor[i][i]
    return inverse


def louis(problem, direction, sample_weight=None, reduction="mean"):
    """-1/W sum_n w_n [sum_k r (H_nk + g_nk g_nk^T) - s_n s_n^T] v, with vectors of all entries.

    g_nk is the gradient of t_nk = log pi_k + log N(x_n; mu_k, Sigma_k) in logits, means, lower
    triangles and x, and H_nk its Hessian, a matrix, whose entries are written down one by one: by
    the inverse W of the factor, with z = W e and y = W^T z, dz/dmu = -W, dz_i/dL_ab = -W_ia z_b
    and dy_i/dL_ab = -W_bi y_a + (W^T dz/dL_ab)_i.
    """
    x, logits, means, factors = (np.asarray(a, dtype=float) for a in problem)
    n_samples, d = x.shape
    n_components = len(logits)
    lower = [(i, j) for i in range(d) for j in range(i + 1)]
    at_mean, at_factor = n_components, n_components * (1 + d)
    at_x = at_factor + n_components * len(lower)
    size = at_x + n_samples * d
    weight = [1.0] * n_samples if sample_weight is None else [float(w) for w in sample_weight]
    total = math.fsum(weight) if reduction == "mean" else 1.0
    v = np.concatenate(
        [
            direction.pi_logits,
            direction.means.ravel(),
            [direction.scale[k][i, j] for k in range(n_components) for i, j in lower],
            direction.x.ravel(),
        ]
    )
    exponentials = [math.exp(a - max(logits)) for a in logits]
    pi = [e / math.fsum(exponentials) for e in exponentials]
    inverses = [inverse_of(factor.tolist()) for factor in factors]
    product = np.zeros(size)
    for n in range(n_samples):
        densities, g, hessian_v = [], np.zeros((n_components, size)), []
        for k in range(n_components):
            W = np.array(inverses[k])
            e = x[n] - means[k]
            z = np.array([math.fsum(W[i, j] * e[j] for j in range(d)) for i in range(d)])
            y = np.array([math.fsum(W[j, i] * z[j] for j in range(d)) for i in range(d)])
            densities.append(
                pi[k]
                * math.exp(-0.5 * float(z @ z))
                / math.prod(factors[k][i, i] for i in range(d))
            )
            H = np.zeros((size, size))
            for i in range(n_components):
                g[k, i] = (i == k) - pi[i]
                for j in range(n_components):
                    H[i, j] = -pi[i] * ((i == j) - pi[j])
            mean = [at_mean + k * d + i for i in range(d)]
            row = [at_x + n * d + i for i in range(d)]
            entry = {ab: at_factor + k * len(lower) + m for m, ab in enumerate(lower)}
            for i in range(d):
                g[k, mean[i]], g[k, row[i]] = y[i], -y[i]
                for j in range(d):
                    precision = math.fsum(W[m, i] * W[m, j] for m in range(d))
                    H[mean[i], mean[j]] = H[row[i], row[j]] = -precision
                    H[mean[i], row[j]] = H[row[i], mean[j]] = precision
            for (a, b), place in entry.items():
                g[k, place] = y[a] * z[b] - (1.0 / factors[k][a, a] if a == b else 0.0)
                dz = [-W[i, a] * z[b] for i in range(d)]
                dy = [
                    -W[b, i] * y[a] + math.fsum(W[m, i] * dz[m] for m in range(d)) for i in range(d)
                ]
                for i in range(d):
                    H[mean[i], place] = H[place, mean[i]] = dy[i]
                    H[row[i], place] = H[place, row[i]] = -dy[i]
                for (i, j), other in entry.items():
                    H[other, place] = dy[i] * z[j] + y[i] * dz[j]
                    if (a, b) == (i, j) and a == b:
                        H[other, place] += 1.0 / factors[k][a, a] ** 2
            hessian_v.append(H @ v)
        resp = [density / math.fsum(densities) for density in densities]
        score = sum(r * row for r, row in zip(resp, g, strict=True))
        of_row = -score * float(score @ v)
        for k in range(n_components):
            of_row = of_row + resp[k] * (hessian_v[k] + g[k] * float(g[k] @ v))
        product -= weight[n] / total * of_row
    scale = np.zeros(factors.shape)
    for k in range(n_components):
        for m, (i, j) in enumerate(lower):
            scale[k, i, j] = product[at_factor + k * len(lower) + m]
    return Gradients(
        product[:at_mean],
        product[at_mean:at_factor].reshape(means.shape),
        scale,
        product[at_x:].reshape(x.shape),
    )


@REDUCTIONS
def test_product_equals_louis_formula_in_loops(reduction):
    worst = Worst()
    for seed, problem in problems(12):
        if problem.x.size * len(problem.means) * problem.x.shape[1] > 1500:
            problem = random_problem(seed, 4, 3, 3)
        direction = random_direction(problem, seed)
        weight = random_weight(problem, seed) if seed % 2 else None
        options = {"sample_weight": weight, "reduction": reduction}
        found = nll_hvp(*problem, direction, **options)
        expected = louis(problem, direction, **options)
        worst.add_gradients(seed, found, expected, logits_floor(expected))
    # Sums of some hundred terms, of which those of the scores cancel in part.
    worst.check(1e-12)


# --- by the definition of a derivative ----------------------------------------------------------


@REDUCTIONS
def test_product_agrees_with_central_differences_of_the_gradient(reduction):
    """Two steps, so that the error in the square of the step goes: the rest is 1e-10 or less."""
    worst = Worst()
    for seed, problem in problems(30):
        direction = random_direction(problem, seed)
        weight = random_weight(problem, seed) if seed % 2 else None
        options = {"sample_weight": weight, "reduction": reduction}

        def difference(step, problem=problem, direction=direction, options=options):
            ends = []
            for signed in (step, -step):
                _, cache = nll_forward(*moved(problem, direction, signed), **options)
                ends.append(nll_backward(cache))
            return [(above - below) / (2 * step) for above, below in zip(*ends, strict=True)]

        step = 1e-4
        coarse, fine = difference(2 * step), difference(step)
        expected = [(4 * f - c) / 3 for f, c in zip(fine, coarse, strict=True)]
        found = nll_hvp(*problem, direction, **options)
        worst.add_gradients(seed, found, expected, logits_floor(expected))
    worst.check(1e-7)


def test_an_error_of_a_thousandth_in_one_entry_fails_the_comparison():
    problem = random_problem(3, 6, 2, 2)
    direction = random_direction(problem, 3)
    expected = louis(problem, direction)
    for block in BLOCKS:
        wrong = nll_hvp(*problem, direction)
        entry = np.unravel_index(
            np.abs(getattr(wrong, block)).argmax(), getattr(wrong, block).shape
        )
        getattr(wrong, block)[entry] *= 1.001
        worst = Worst()
        worst.add_gradients(3, wrong, expected)
        with pytest.raises(AssertionError, match=block):
            worst.check(1e-7)


# --- by hand ------------------------------------------------------------------------------------


def test_product_by_hand():
    # nll = (x - m)^2 / (2 s^2) + log s + const at x - m = 3, s = 2, with H in the order m, s, x:
    # 1/s^2, 2 e / s^3, -1/s^2; 3 e^2 / s^4 - 1 / s^2.
    arguments = ([[4.0]], [0.0], [[1.0]], [[[2.0]]])
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    columns = [
        nll_hvp(*arguments, Gradients(np.zeros(1), one, None)),
        nll_hvp(*arguments, Gradients(np.zeros(1), zero, [one])),
        nll_hvp(*arguments, Gradients(np.zeros(1), zero, None, one)),
    ]
    found = [[float(c.means[0, 0]), float(c.scale[0, 0, 0]), float(c.x[0, 0])] for c in columns]
    assert found == [
        [0.25, 0.75, -0.25],
        [0.75, 27 / 16 - 0.25, -0.75],
        [-0.25, -0.75, 0.25],
    ]


def test_logits_of_components_that_are_alike_have_no_curvature_but_share_out_the_pulls():
    """There r = pi, so that the gradient in each mean is -pi_k y, and that in x the sum of them."""
    logits = np.array([0.3, -1.0, 0.2])
    means, factors = np.zeros((3, 2)), np.stack([np.eye(2)] * 3)
    dot_logits = np.array([1.0, -2.0, 0.5])
    direction = Gradients(dot_logits, np.zeros((3, 2)), None)
    product = nll_hvp(np.full((4, 2), 3.0), logits, means, factors, direction)
    np.testing.assert_allclose(product.pi_logits, 0.0, atol=1e-15)
    np.testing.assert_allclose(product.x, 0.0, atol=1e-15)
    pi = np.exp(logits) / np.exp(logits).sum()
    dot_pi = pi * (dot_logits - pi @ dot_logits)
    expected = np.repeat(-3.0 * dot_pi[:, None], 2, axis=1)
    np.testing.assert_allclose(product.means, expected, rtol=1e-14)


# --- properties ---------------------------------------------------------------------------------


@REDUCTIONS
def test_hessian_is_symmetric(reduction):
    for seed, problem in problems():
        weight = random_weight(problem, seed) if seed % 2 else None
        options = {"sample_weight": weight, "reduction": reduction}
        u, v = random_direction(problem, seed), random_direction(problem, seed + 5000)
        left, right = nll_hvp(*problem, u, **options), nll_hvp(*problem, v, **options)
        size = math.sqrt(inner(left, left) * inner(v, v))
        assert abs(inner(v, left) - inner(u, right)) <= 1e-13 * size, seed


def test_product_is_linear_in_the_direction():
    for seed, problem in problems(20):
        u, v = random_direction(problem, seed), random_direction(problem, seed + 5000)
        both = Gradients(*(2.0 * a - 3.0 * b for a, b in zip(u, v, strict=True)))
        left, right = nll_hvp(*problem, u), nll_hvp(*problem, v)
        expected = [2.0 * a - 3.0 * b for a, b in zip(left, right, strict=True)]
        worst = Worst()
        worst.add_gradients(seed, nll_hvp(*problem, both), expected, logits_floor(expected))
        worst.check(1e-12)


def test_product_with_nothing_is_exactly_zero():
    problem = random_problem(7)
    still = Gradients(*(np.zeros_like(a) for a in (*problem[1:], problem.x)))
    assert not any(block.any() for block in nll_hvp(*problem, still))


def test_what_a_direction_leaves_out_is_zero():
    problem = random_problem(8, 5, 2, 3)
    logits, means, *_ = random_direction(problem, 8)
    short = nll_hvp(*problem, Gradients(logits, means, None))
    zeros = np.zeros_like(problem.scale_tril), np.zeros_like(problem.x)
    for found, expected in zip(
        short, nll_hvp(*problem, Gradients(logits, means, *zeros)), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_shift_of_all_logits_and_of_samples_with_means_has_no_curvature():
    for seed, problem in problems(20):
        shift = np.random.default_rng(seed).normal(size=problem.x.shape[1])
        moves = (
            Gradients(np.ones(len(problem.means)), np.zeros_like(problem.means), None),
            Gradients(
                np.zeros(len(problem.means)),
                np.zeros_like(problem.means) + shift,
                None,
                np.zeros_like(problem.x) + shift,
            ),
        )
        for direction in moves:
            for block in nll_hvp(*problem, direction, reduction="sum"):
                np.testing.assert_allclose(block, 0.0, atol=1e-12 * len(problem.x))


def test_scaling_samples_means_and_factors_turns_the_gradient_into_its_negative():
    """f(c x, a, c mu, c L) is f plus D log c, so that H theta = -gradient in what is scaled."""
    for _, problem in problems(20):
        gradient = nll_backward(nll_forward(*problem)[1])
        direction = Gradients(
            np.zeros_like(problem.pi_logits), problem.means, problem.scale_tril, problem.x
        )
        product = nll_hvp(*problem, direction)
        expected = (np.zeros_like(gradient.pi_logits), *(-block for block in gradient[1:]))
        for found, wanted in zip(product, expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


@REDUCTIONS
def test_component_that_is_off_gets_exact_zeros_and_changes_nothing(reduction):
    for seed in range(20):
        problem = random_problem(seed, n_components=2 + seed % 4)
        off = int(np.random.default_rng(seed).integers(len(problem.means)))
        logits = problem.pi_logits.copy()
        logits[off] = -np.inf
        direction = random_direction(problem, seed)
        weight = random_weight(problem, seed) if seed % 2 else None
        options = {"sample_weight": weight, "reduction": reduction}
        found = nll_hvp(problem.x, logits, *problem[2:], direction, **options)
        rest = [np.delete(a, off, axis=0) for a in problem[1:]]
        of_rest = Gradients(*(np.delete(a, off, axis=0) for a in direction[:3]), direction.x)
        expected = nll_hvp(problem.x, *rest, of_rest, **options)
        worst = Worst()
        for block in BLOCKS[:3]:
            assert not getattr(found, block)[off].any(), block
            without = np.delete(getattr(found, block), off, axis=0)
            worst.add(seed, block, without, getattr(expected, block), logits_floor(expected))
        worst.add(seed, "x", found.x, expected.x)
        worst.check(1e-13)
        # Its own motion, however fast, is no motion.
        fast = direction.pi_logits.copy()
        fast[off] = 1e300
        again = nll_hvp(
            problem.x, logits, *problem[2:], direction._replace(pi_logits=fast), **options
        )
        for one, other in zip(found, again, strict=True):
            np.testing.assert_array_equal(one, other)


def test_one_component_has_no_curvature_in_its_logit():
    problem = random_problem(4, n_components=1)
    product = nll_hvp(*problem, random_direction(problem, 4))
    assert product.pi_logits.tolist() == [0.0]


@REDUCTIONS
@pytest.mark.parametrize("far", [1e3, 1e200])
def test_weight_zero_equals_a_dropped_row_however_far_it_is(reduction, far):
    problem = random_problem(5, 6, 3, 2)
    direction = random_direction(problem, 5)
    weight = np.array([1.0, 2.0, 0.0, 0.5, 1.0, 3.0])
    x = problem.x.copy()
    x[2] = far
    found = nll_hvp(x, *problem[1:], direction, sample_weight=weight, reduction=reduction)
    assert not found.x[2].any()
    kept = weight > 0
    expected = nll_hvp(
        x[kept], *problem[1:], direction._replace(x=direction.x[kept]),
        sample_weight=weight[kept], reduction=reduction,
    )  # fmt: skip
    worst = Worst()
    worst.add_gradients(5, found._replace(x=found.x[kept]), expected, logits_floor(expected))
    worst.check(1e-13)


def test_sum_over_blocks_is_the_sum():
    problem = random_problem(6, 12, 3, 2)
    direction = random_direction(problem, 6)
    whole = nll_hvp(*problem, direction, reduction="sum")
    parts = [
        nll_hvp(
            problem.x[rows], *problem[1:], direction._replace(x=direction.x[rows]), reduction="sum"
        )
        for rows in (slice(0, 5), slice(5, 12))
    ]
    for block in BLOCKS[:3]:
        added = getattr(parts[0], block) + getattr(parts[1], block)
        np.testing.assert_allclose(getattr(whole, block), added, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(whole.x, np.concatenate([p.x for p in parts]), rtol=1e-13)


# --- the ends of the range ----------------------------------------------------------------------


def test_a_component_out_of_reach_adds_nothing_however_far_it_is():
    """Its distance has no square; it has no share, so no curvature, and the rest is as without."""
    problem = random_problem(9, 5, 2, 2)
    direction = random_direction(problem, 9)
    means = problem.means.copy()
    means[1] = 1e200
    found = nll_hvp(problem.x, problem.pi_logits, means, problem.scale_tril, direction)
    first = Gradients(*(block[:1] for block in direction[:3]), direction.x)
    expected = nll_hvp(problem.x, *(a[:1] for a in problem[1:]), first)
    np.testing.assert_allclose(found.means[0], expected.means[0], rtol=1e-13)
    np.testing.assert_allclose(found.scale[0], expected.scale[0], rtol=1e-13)
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-13)
    assert not found.means[1].any()
    assert not found.scale[1].any()


@pytest.mark.parametrize("logit", [-np.inf, -900.0])
@pytest.mark.parametrize(("width", "speed"), [(1e-310, 1.0), (1e-10, 1e300)])
def test_a_component_without_a_share_adds_nothing_however_narrow_or_fast_it_is(logit, width, speed):
    problem = random_problem(9, 5, 2, 2)
    direction = random_direction(problem, 9)
    factors, moves, fast = problem.scale_tril.copy(), direction.scale.copy(), direction.means.copy()
    factors[1], moves[1], fast[1] = width * np.eye(2), speed * np.eye(2), speed
    found = nll_hvp(
        problem.x, [0.0, logit], problem.means, factors,
        direction._replace(scale=moves, means=fast),
    )  # fmt: skip
    assert not any(block.any() for block in (found.pi_logits, found.means[1], found.scale[1]))
    first = Gradients(*(block[:1] for block in direction[:3]), direction.x)
    expected = nll_hvp(problem.x, *(a[:1] for a in problem[1:]), first)
    np.testing.assert_allclose(found.scale[0], expected.scale[0], rtol=1e-13)
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-13)


def test_the_curvature_where_the_loss_is_beyond_a_double():
    """One component: in the mean and x it is the precision, whatever the distance."""
    for x in ([[1e200]], [[-1e160]]):
        direction = Gradients(np.zeros(1), [[1.0]], None, [[-2.0]])
        product = nll_hvp(x, [0.0], [[0.0]], [[[2.0]]], direction)
        assert product.means.tolist() == [[0.75]]
        assert product.x.tolist() == [[-0.75]]


@pytest.mark.parametrize("unit", [2.0**-300, 2.0**300])
def test_units_change_the_product_by_their_powers(unit):
    """In other units what has a length moves by as much more, and its product by as much less."""
    problem = random_problem(10, 6, 2, 3)
    direction = random_direction(problem, 10)
    x, logits, means, factors = problem
    expected = nll_hvp(*problem, direction)
    found = nll_hvp(
        x * unit, logits, means * unit, factors * unit,
        Gradients(direction.pi_logits, *(block * unit for block in direction[1:])),
    )  # fmt: skip
    np.testing.assert_allclose(found.pi_logits, expected.pi_logits, rtol=1e-12)
    for one, other in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(one * unit, other, rtol=1e-12)


def test_what_is_beyond_a_double_is_an_error_that_says_where():
    # The curvature in the mean is 1 / s^2.
    direction = Gradients(np.zeros(1), [[1.0]], None)
    with pytest.raises(
        OverflowError,
        match=r"in means, or a step to it, is beyond the range of a double: 1 of 1, the first at "
        r"component 0, column 0\. Choose units",
    ):
        nll_hvp([[0.0]], [0.0], [[0.0]], [[[1e-200]]], direction)
    with pytest.raises(OverflowError, match="a shorter direction"):
        nll_hvp([[0.0]], [0.0], [[0.0]], [[[0.1]]], direction._replace(means=[[1e307]]))


# --- the contract -------------------------------------------------------------------------------


def test_products_come_in_the_dtypes_of_the_arguments():
    problem = random_problem(11, 4, 2, 2)
    direction = random_direction(problem, 11)
    wide = nll_hvp(*(a.astype(np.float32).astype(float) for a in problem), direction)
    for place, block in enumerate(("x", "pi_logits", "means", "scale")):
        narrow = [
            a.astype(np.float32) if i == place else a.astype(np.float32).astype(float)
            for i, a in enumerate(problem)
        ]
        found = nll_hvp(*narrow, direction)
        for other in BLOCKS:
            expected = np.float32 if other == block else np.float64
            assert getattr(found, other).dtype == expected
            np.testing.assert_array_equal(
                getattr(found, other), getattr(wide, other).astype(expected)
            )


def test_lists_and_integers_are_taken_and_nothing_is_written_to():
    problem = random_problem(12, 4, 2, 2)
    direction = random_direction(problem, 12)
    for array in (*problem, *direction):
        array.setflags(write=False)
    expected = nll_hvp(*problem, direction)
    lists = Gradients(*(block.tolist() for block in direction))
    found = nll_hvp(*(a.tolist() for a in problem), lists)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    whole = nll_hvp([[1], [2]], [0], [[0]], [[[1]]], Gradients([1], [[2]], [[[1]]], [[0], [1]]))
    assert all(np.isfinite(block).all() for block in whole)


def test_upper_triangle_of_the_factors_product_is_exactly_zero():
    for seed, problem in problems(10):
        assert not np.triu(nll_hvp(*problem, random_direction(problem, seed)).scale, 1).any()


WRONG_SHAPE = "must have the shape of what it moves"
BAD_DIRECTIONS = {
    "pi_logits longer": (
        {"pi_logits": np.zeros(3)},
        rf"pi_logits {WRONG_SHAPE}, \(2,\); got \(3,\)",
    ),
    "means flat": ({"means": np.zeros(2)}, rf"means {WRONG_SHAPE}, \(2, 3\); got \(2,\)"),
    "scale flat": ({"scale": np.zeros((2, 3))}, rf"scale {WRONG_SHAPE}, \(2, 3, 3\); got \(2, 3\)"),
    "x narrow": ({"x": np.zeros((4, 2))}, rf"x {WRONG_SHAPE}, \(4, 3\); got \(4, 2\)"),
    "pi_logits nan": (
        {"pi_logits": [0.0, np.nan]},
        r"pi_logits has values that are not finite: 1 of 2, the first nan at component 1\. Use 0",
    ),
    "x infinite": (
        {"x": np.full((4, 3), np.inf)},
        r"x has values that are not finite: 12 of 12, the first inf at row 0, column 0\.",
    ),
    "scale full": (
        {"scale": np.ones((2, 3, 3))},
        r"scale is not lower triangular.*component 0, row 0, column 1\. Pass np\.tril\(direction",
    ),
    "means complex": ({"means": np.ones((2, 3)) * 1j}, r"means must hold real numbers"),
    "means missing": ({"means": None}, r"means must hold real numbers"),
}


@pytest.mark.parametrize("name", BAD_DIRECTIONS)
def test_bad_directions_say_what_where_and_the_remedy(name):
    change, message = BAD_DIRECTIONS[name]
    problem = random_problem(13, 4, 2, 3)
    direction = random_direction(problem, 13)._replace(**change)
    error = TypeError if "real numbers" in message else ValueError
    with pytest.raises(error, match=rf"^direction\.{message}"):
        nll_hvp(*problem, direction)


def test_a_direction_that_is_no_gradients_and_a_loss_that_is_no_number_are_refused():
    problem = random_problem(14, 4, 2, 3)
    direction = random_direction(problem, 14)
    with pytest.raises(TypeError, match=r"direction must be gmm_np\.Gradients.*got tuple\. Use"):
        nll_hvp(*problem, tuple(direction))
    with pytest.raises(ValueError, match='reduction must be "mean" or "sum": a Hessian'):
        nll_hvp(*problem, direction, reduction="none")
    with pytest.raises(ValueError, match="reduction must be one of"):
        nll_hvp(*problem, direction, reduction="median")
