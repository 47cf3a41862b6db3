"""The density as a function of x: gradients, Hessians and modes.

Judges: the reference, whose derivatives have x among what moves; dense grids, and SciPy's search.
"""

import itertools

import numpy as np
import pytest
from families_by_reference import FAMILIES, expand, random_parameters
from problems import Worst
from test_second_order import SIZES, arguments, random_case

import gmm_np
from gmm_np import Gradients, reference


@pytest.mark.parametrize("family", FAMILIES)
def test_derivatives_in_x_equal_those_of_the_reference(family):
    worst = Worst()
    for seed, sizes in enumerate(SIZES):
        x, p, _, _ = random_case(seed, family, sizes)
        factors = expand(p.scale, family, *p.means.shape)
        _, cache = reference.nll_forward(x, p.pi_logits, p.means, factors, reduction="sum")
        found = gmm_np.log_prob_grad(x, *arguments(p), family=family)
        worst.add(seed, "gradient", found, -reference.nll_backward(cache).x)
        found = gmm_np.log_prob_hess(x, *arguments(p), family=family)
        zero = Gradients(np.zeros(len(p.means)), np.zeros(p.means.shape), None)
        columns = []
        for unit in np.eye(sizes[2]):
            direction = zero._replace(x=np.tile(unit, (len(x), 1)))
            moved = reference.nll_hvp(x, p.pi_logits, p.means, factors, direction, reduction="sum")
            columns.append(-moved.x)
        worst.add(seed, "hessian", found, np.stack(columns, axis=2))
    worst.check(1e-12)


def test_derivatives_in_x_far_away():
    """There the density is that of one component: nothing overflows but what is infinite."""
    x = np.array([[1e170], [0.0]])
    gradient = gmm_np.log_prob_grad(x, [0.0, 0.0], [[0.0], [1.0]], [1.0, 2.0], family="spherical")
    assert gradient[0, 0] == pytest.approx(-1e170 / 4, rel=1e-12)
    hessian = gmm_np.log_prob_hess(x, [0.0, 0.0], [[0.0], [1.0]], [1.0, 2.0], family="spherical")
    assert hessian[0, 0, 0] == pytest.approx(-0.25, rel=1e-12)


def test_second_derivative_beyond_the_range_is_an_error_that_says_where():
    with pytest.raises(OverflowError, match=r"second derivative in x.*the first at row 0.*units"):
        gmm_np.log_prob_hess([[0.0], [1.0]], [0.0], [[0.0]], [1e-160], family="spherical")


def merged(points):
    found = []
    for point in points:
        if all(np.abs(point - other).max() > 1e-3 for other in found):
            found.append(point)
    return np.array(found)


def test_modes_in_one_dimension_are_the_maxima_of_a_dense_grid():
    rng, counts = np.random.default_rng(3), []
    for _ in range(35):
        k = int(rng.integers(1, 8))
        means = rng.normal(size=(k, 1)) * rng.choice([0.5, 1.0, 2.0, 4.0])
        mixture = (rng.normal(size=k), means, rng.uniform(0.2, 1.5, size=k))
        found = gmm_np.modes(*mixture, family="spherical")
        grid = np.linspace(means.min() - 3, means.max() + 3, 20_001)[:, None]
        height = gmm_np.log_prob(grid, *mixture, family="spherical")
        top = np.flatnonzero((height[1:-1] > height[:-2]) & (height[1:-1] >= height[2:])) + 1
        assert len(found.points) == len(top)
        assert np.abs(np.sort(found.points[:, 0]) - grid[top, 0]).max() < 1e-3
        assert (np.diff(found.log_prob) <= 0).all()
        counts.append(len(found.points) - k)
    assert min(counts) < 0  # fewer modes than components are among them
    assert max(counts) == 0  # in one dimension there are no more


def crossing(angle):
    """A long and narrow Gaussian, turned by an angle."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.linalg.cholesky(turn @ np.diag([1.0, 0.01]) @ turn.T)


def test_modes_in_two_dimensions_are_those_that_a_grid_leads_to():
    rng, counts = np.random.default_rng(4), []
    cases = []
    for _ in range(14):
        k = int(rng.integers(2, 6))
        factors = np.tril(rng.normal(size=(k, 2, 2)))
        factors[:, [0, 1], [0, 1]] = 0.1 + rng.random((k, 2))
        cases.append((rng.normal(size=k), 2.0 * rng.normal(size=(k, 2)), factors))
    # Two that cross off their means: a mode more than components (Ray and Lindsay 2005).
    cases.append(([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], [crossing(0.0), crossing(np.pi / 2)]))
    turns = [0.0, 2 * np.pi / 3, 4 * np.pi / 3]
    middle = [[np.cos(t + np.pi / 2), np.sin(t + np.pi / 2)] for t in turns]
    # Three round ones at the corners of a triangle: a fourth mode in its middle.
    cases.append(([0.0] * 3, np.array(middle), np.stack([np.eye(2) * 0.72] * 3)))
    cases += [([0.0] * 3, np.array(middle), np.stack([crossing(t) for t in turns]))]
    for logits, means, factors in cases:
        means = np.asarray(means, float)
        found = gmm_np.modes(logits, means, factors)
        low, high = means.min(axis=0) - 4, means.max(axis=0) + 4
        axes = [np.linspace(low[i], high[i], 240) for i in range(2)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        height = gmm_np.log_prob(grid.reshape(-1, 2), logits, means, factors).reshape(240, 240)
        inner = height[1:-1, 1:-1]
        top = np.ones(inner.shape, dtype=bool)
        for i, j in itertools.product(range(3), repeat=2):
            if (i, j) != (1, 1):
                top &= inner > height[i : i + 238, j : j + 238]
        starts = np.concatenate([grid[1:-1, 1:-1][top], means])  # a narrow one lies between points
        expected = merged([climbed(start, logits, means, factors) for start in starts])
        for point in expected:
            assert np.abs(found.points - point).max(axis=1).min() < 1e-3
        # What the grid is too coarse for is a maximum all the same.
        for point, peak in zip(found.points, found.log_prob, strict=True):
            around = point + 1e-3 * np.array(
                [[np.cos(t), np.sin(t)] for t in np.arange(0, 6.3, 0.1)]
            )
            assert (gmm_np.log_prob(around, logits, means, factors) < peak).all()
        assert len(expected) <= len(found.points) <= len(expected) + 1
        counts.append(len(found.points) - len(means))
    assert min(counts) < 0 < max(counts)


def climbed(point, logits, means, factors):
    """Where SciPy's search ends, by differences of the density."""
    from scipy.optimize import minimize

    return minimize(lambda x: gmm_np.nll(x[None], logits, means, factors), point).x


def test_each_mode_has_no_slope_and_curves_down():
    p = random_parameters(11, "full", 12, 4)
    found = gmm_np.modes(*arguments(p))
    slope = gmm_np.log_prob_grad(found.points, *arguments(p))
    assert np.abs(slope).max() < 1e-8
    assert np.linalg.eigvalsh(gmm_np.log_prob_hess(found.points, *arguments(p))).max() < 0
    assert np.allclose(found.log_prob, gmm_np.log_prob(found.points, *arguments(p)), rtol=1e-13)


def test_modes_move_with_the_data():
    p = random_parameters(12, "full", 4, 3)
    found = gmm_np.modes(*arguments(p))
    far = gmm_np.modes(p.pi_logits, 1e-3 * p.means + 1e4, 1e-3 * p.scale)
    assert np.allclose((far.points - 1e4) / 1e-3, found.points, atol=1e-6)


def test_modes_leave_out_components_that_are_off():
    found = gmm_np.modes([0.0, -np.inf], [[0.0], [5.0]], [1.0, 1.0], family="spherical")
    assert np.allclose(found.points, [[0.0]], atol=1e-12)
