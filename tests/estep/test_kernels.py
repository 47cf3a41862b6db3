"""The kernels and the guard: what each computes, which is chosen, and that the choice is right."""

import itertools
import math

import numpy as np
import pytest
from problems import (
    Problem,
    Worst,
    anisotropic_problem,
    assert_agree,
    far_apart,
    logits_floor,
    random_problem,
    rotated_factor,
)

from gmm_np import Parameters, nll, nll_value_and_grad, statistics, tuning
from gmm_np.covariance import FAMILIES
from gmm_np.estep import (
    FeatureKernel,
    PreparedMixture,
    ResidualKernel,
    estep,
)
from gmm_np.estep.estep import Accumulator, EStep
from gmm_np.estep.prepared_mixture import UNIT_ROUNDOFF
from gmm_np.estep.residual_sums import ActivePairs, Significance
from gmm_np.linalg import triangles
from gmm_np.reference import log_density_forward, log_softmax_forward, nll_backward, nll_forward

METHODS = ("auto", "direct", "moments")
FULL = FAMILIES["full"].structure
# Families part ways between D = 12 and 13, and between 32 and 33.
SHAPES = [(1, 1, 1), (5, 1, 3), (30, 4, 2), (50, 3, 12), (50, 3, 13), (90, 2, 32), (100, 6, 33)]


def mixture_of(problem):
    return PreparedMixture.of(Parameters(*problem[1:]))


def chosen(problem, method="auto", *, gradient=True):
    """What the guard chooses for each block: "direct", "moments", "common", or "reference"."""
    names = []

    def use(block):
        if block.kernel is None:
            names.append("reference")
        elif isinstance(block.kernel, ResidualKernel):
            names.append("direct")
        else:
            assert isinstance(block.kernel, FeatureKernel)
            names.append(
                "moments" if block.kernel.standardization.common_inverse is None else "common"
            )

    EStep(mixture_of(problem), method, gradient=gradient).each(problem.x, use)
    return names


def bound(problem, *, common=False):
    coordinates = mixture_of(problem).standardization(common=common)
    return coordinates.error_bound(coordinates.transform(np.ascontiguousarray(problem.x.T)))


def log_joint(problem):
    log_pi = log_softmax_forward(problem.pi_logits)[0]
    return np.stack(
        [
            log_pi[k] + log_density_forward(problem.x, problem.means[k], problem.scale_tril[k])[0]
            for k in range(len(log_pi))
        ]
    )


# --- what a kernel computes ----------------------------------------------------------------------


def make_kernels(problem):
    """Each kernel, and the samples as it wants them."""
    mixture, x = mixture_of(problem), np.ascontiguousarray(problem.x.T)
    yield "direct", ResidualKernel(mixture), x
    for common in (False, True):
        coordinates = mixture.standardization(common=common)
        yield (
            f"moments, common={common}",
            FeatureKernel(mixture, coordinates),
            coordinates.transform(x),
        )


@pytest.mark.parametrize("shift", [0.0, -5.0, 123.0])
def test_log_joint_is_that_of_the_reference_less_the_shift(shift):
    for seed, shape in enumerate(SHAPES):
        problem = random_problem(seed, *shape)
        expected = log_joint(problem) - shift
        for name, kernel, samples in make_kernels(problem):
            kernel.start(samples)
            worst = Worst()
            worst.add(seed, name, kernel.log_joint(shift), expected, floor=abs(shift))
            # Asked again with another shift: of the same samples.
            worst.add(seed, name, kernel.log_joint(0.0), expected + shift)
            worst.check(1e-12)


def assert_sums_close(found, expected, tolerance=1e-12, what=""):
    worst = Worst()
    for name, mine, theirs in zip("nvM", found, expected, strict=True):
        worst.add(what, name, mine, theirs)
    worst.check(tolerance)


def moments(problem, weight):
    """Sums of weights [K, N] and of whitened residuals and their products, by the definition."""
    z = np.stack(
        [
            np.linalg.solve(factor, (problem.x - mean).T)
            for factor, mean in zip(problem.scale_tril, problem.means, strict=True)
        ]
    )  # [K, D, N]
    first, second = np.einsum("kn,kdn->kd", weight, z), np.einsum("kn,kin,kjn->kij", weight, z, z)
    return weight.sum(axis=1), first, second


def test_moments_are_weighted_sums_of_whitened_residuals():
    for seed, shape in enumerate(SHAPES):
        problem = random_problem(seed, *shape)
        n, k, _ = shape
        rng = np.random.default_rng(seed)
        exponentials, factor = rng.uniform(size=(k, n)), rng.uniform(0.5, 2.0, size=n)
        exponentials[:, rng.random(n) < 0.3] = 0.0
        exponentials[:, 0] = 1.0
        expected = moments(problem, exponentials * factor)
        for name, kernel, samples in make_kernels(problem):
            add_all(kernel, samples, exponentials, factor, (0, n // 2, n) if n > 1 else (0, n))
            (sums,) = kernel.sums()
            assert_sums_close(sums, expected, what=(name, seed))


def add_all(kernel, samples, exponentials, factor, edges):
    for start, stop in itertools.pairwise(edges):
        kernel.start(np.ascontiguousarray(samples[:, start:stop]))
        kernel.log_joint(0.0)
        kernel.add(exponentials[:, start:stop].copy(), factor[start:stop])


def total(kernel):
    return [sum(parts) for parts in zip(*kernel.sums(), strict=True)]


def test_what_is_not_significant_adds_up_to_less_than_its_part():
    rng = np.random.default_rng(0)
    weight = np.exp(-rng.exponential(30.0, size=(7, 500)))
    weight[5] *= 1e-200
    weight[6] = 0.0
    mass = weight.sum(axis=1)
    counts = []
    for part in (0.5, 1e-3, 1e-16, 1e-32):
        chosen = Significance(7)(weight, mass, part)
        left_out = np.where(chosen, 0.0, weight).sum(axis=1)
        assert (left_out[:6] < part * mass[:6]).all()
        assert chosen[:6].any(axis=1).all()  # so that a component with mass is never lost
        assert not chosen[6].any()
        counts.append(np.count_nonzero(chosen))
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] < 6 * 500


def test_what_is_significant_depends_on_what_was_before():
    significant = Significance(2)
    weights = np.array([[1.0, 1e-3, 1e-9], [1e-9, 1e-12, 1e-30]])
    first = significant(weights, weights.sum(axis=1), 1e-6)
    np.testing.assert_array_equal(first, [[True, True, False], [True, True, False]])
    swapped = np.ascontiguousarray(weights[::-1])
    second = significant(swapped, swapped.sum(axis=1), 1e-6)
    # Of the first component nothing any more; the second has more than it ever had.
    np.testing.assert_array_equal(second, [[False, False, False], [True, True, False]])


@pytest.mark.parametrize("n_blocks", [1, 10, 300])
def test_what_is_left_out_of_many_blocks_is_still_little(n_blocks):
    rng = np.random.default_rng(n_blocks)
    significant, part = Significance(4), 1e-9
    left_out = mass = np.zeros(4)
    for _ in range(n_blocks):
        weight = np.exp(-rng.exponential(8.0, size=(4, 50)))
        chosen = significant(weight, weight.sum(axis=1), part)
        mass = mass + weight.sum(axis=1)
        left_out = left_out + np.where(chosen, 0.0, weight).sum(axis=1)
    assert (left_out < part * mass * (1 + math.log(n_blocks))).all()
    assert (left_out > 0).all()


@pytest.mark.parametrize(
    ("common", "central", "edges"),
    [
        (False, False, (0, 1, 130, 390, 400)),
        (False, True, (0, 400)),
        (True, False, (0, 400)),
        (True, True, (0, 1, 130, 390, 400)),
    ],
)
def test_moments_whitens_the_few_residuals_that_count(tuned, common, central, edges):
    tuned(smallest_block=424)
    problem = far_apart(0, 400, 30, 120)
    mixture, x = mixture_of(problem), np.ascontiguousarray(problem.x.T)
    resp = nll_forward(*problem)[1].resp.T.copy()
    factor = np.random.default_rng(1).uniform(0.5, 2.0, size=400)
    coordinates = mixture.standardization(common=common)
    kernel = FeatureKernel(mixture, coordinates, 400, central=central)
    other = ResidualKernel(mixture, central=central)
    add_all(kernel, coordinates.transform(x), resp, factor, edges)
    assert kernel._sums is None  # no product
    add_all(other, x, resp, factor, edges)
    assert_sums_close(total(kernel), total(other), 1e-13)


def test_moments_adds_products_and_few_residuals_up(tuned):
    tuned(smallest_block=424)
    problem = far_apart(1, 900, 30, 120)
    mixture, x = mixture_of(problem), np.ascontiguousarray(problem.x.T)
    resp = nll_forward(*problem)[1].resp.T.copy()
    resp[:, 300:600] = np.random.default_rng(2).uniform(0.1, 1.0, size=(30, 300))  # all count
    factor = np.ones(900)
    coordinates = mixture.standardization(common=True)
    kernel = FeatureKernel(mixture, coordinates)
    add_all(kernel, coordinates.transform(x), resp, factor, (0, 300, 600, 900))
    assert kernel._sums is not None
    assert len(kernel.sums()) == 2
    assert_sums_close(total(kernel), moments(problem, resp))


def small_weights(problem, small, seed=0):
    """Weights [K, N]: large for a component's own samples, `small` for a few others, or nothing."""
    rng = np.random.default_rng(seed)
    own = nll_forward(*problem)[1].resp.T > 0.5
    other = rng.random(own.shape) < 0.03
    size = np.where(own, rng.uniform(0.5, 1.0, own.shape), np.where(other, small, 1e-200))
    return size, own


def test_small_weights_that_count_together_are_added(tuned):
    tuned(smallest_block=424)
    problem = far_apart(7, 400, 30, 120)
    mixture, x = mixture_of(problem), np.ascontiguousarray(problem.x.T)
    weights, _ = small_weights(problem, 1e-12)
    expected = moments(problem, weights)[2]
    without = moments(problem, np.where(weights < 1e-9, 0, weights))[2]
    assert np.abs(without - expected).max() > 1e-11 * np.abs(expected).max()
    coordinates = mixture.standardization(common=True)
    kernels = (
        (ResidualKernel(mixture), x),
        (FeatureKernel(mixture, coordinates), coordinates.transform(x)),
    )
    for kernel, samples in kernels:
        add_all(kernel, samples, weights, np.ones(400), (0, 100, 400))
        found = total(kernel)[2]
        assert np.abs(found - expected).max() < 1e-13 * np.abs(expected).max()
        assert not isinstance(kernel, FeatureKernel) or kernel._sums is None


def test_direct_keeps_the_variance_that_tiny_weights_have(tuned):
    tuned(smallest_asked=0)
    # All samples of a component are one point: its variance is that of samples of weight 1e-20.
    problem = far_apart(8, 400, 6, 40)
    weights, own = small_weights(problem, 1e-20)
    points = np.stack([problem.x[np.flatnonzero(row)[0]] for row in own])
    problem = problem._replace(x=np.where(own.any(axis=0)[:, None], points[own.argmax(axis=0)], 0))
    mixture, x = mixture_of(problem), np.ascontiguousarray(problem.x.T)
    kernel = ResidualKernel(mixture, central=True)
    add_all(kernel, x, weights, np.ones(400), (0, 400))
    found = total(kernel)[2]
    for k in range(6):
        # About the mean; what rounding moves that by is 1e-16 of z, whose square is 1e-12 of this.
        z = np.linalg.solve(problem.scale_tril[k], x - points[k][:, None])
        expected = np.einsum("n,in,jn->ij", weights[k] * ~own[k], z, z)
        np.testing.assert_allclose(found[k], expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_gathered_gives_each_component_its_samples_of_all_blocks_once():
    rng = np.random.default_rng(0)
    gathered = ActivePairs(4, 3)
    for _ in range(2):  # it forgets
        samples, weights, picks = [], [], []
        for n in (5, 1, 8):
            y, w = rng.normal(size=(3, n)), rng.uniform(size=(4, n))
            chosen = rng.random((4, n)) < 0.5
            chosen[2] = False
            gathered.add(y, w, w.sum(axis=1), chosen)
            samples.append(y), weights.append(w), picks.append(chosen)
        y, w, chosen = (np.hstack(a) for a in (samples, weights, picks))
        assert gathered.n_pairs == np.count_nonzero(chosen)
        np.testing.assert_allclose(gathered.mass, w.sum(axis=1), rtol=1e-15)
        given = list(gathered.give())
        assert [k for k, _, _ in given] == np.flatnonzero(chosen.any(axis=1)).tolist()
        for k, mine, weight in given:
            np.testing.assert_array_equal(mine, y[:, chosen[k]])
            np.testing.assert_array_equal(weight, w[k, chosen[k]])
        assert gathered.n_pairs == 0
        assert not gathered.mass.any()


def test_blocks_of_no_weight_have_sums_of_zero():
    problem = far_apart(9, 400, 30, 120)
    for name, kernel, samples in make_kernels(problem):
        add_all(kernel, samples, np.ones((30, 400)), np.zeros(400), (0, 200, 400))
        (sums,) = kernel.sums()
        assert not any(array.any() for array in sums), name


def test_moments_adds_what_it_gathered_before_it_is_too_much(tuned):
    tuned(smallest_block=424)
    tuned(gathered_samples=8)
    problem = far_apart(3, 900, 30, 120)
    mixture, x = mixture_of(problem), np.ascontiguousarray(problem.x.T)
    resp = nll_forward(*problem)[1].resp.T.copy()
    coordinates = mixture.standardization(common=True)
    kernel = FeatureKernel(mixture, coordinates)
    most = 0
    for start in range(0, 900, 100):
        add_all(kernel, coordinates.transform(x), resp, np.ones(900), (start, start + 100))
        most = max(most, kernel.active.n_pairs)
    assert kernel._sums is None
    assert 100 < most < 30 * 8 + 100  # of about 900
    np.testing.assert_allclose(total(kernel)[0], resp.sum(axis=1), rtol=1e-13)


@pytest.mark.parametrize("central", [False, True])
@pytest.mark.parametrize("d", [13, 40])
def test_direct_leaves_out_what_does_not_count(tuned, monkeypatch, central, d):
    tuned(smallest_asked=0)
    problem = far_apart(4, 500, 6, d, distance=12.0)
    mixture, x = mixture_of(problem), np.ascontiguousarray(problem.x.T)
    resp = nll_forward(*problem)[1].resp.T.copy()
    sizes, sums = [], []
    for share in (tuning.active.copied_share, 0.0):
        tuned(copied_share=share)
        kernel = ResidualKernel(mixture, central=central)
        add = kernel.residuals.add

        def watched(mass, parts, add=add):
            parts = list(parts)
            sizes.append(sum(part.weight.size for part in parts))
            add(mass, parts)

        monkeypatch.setattr(kernel.residuals, "add", watched)
        add_all(kernel, x, resp, np.ones(500), (0, 250, 500))
        sums.append(total(kernel))
    assert sizes[0] + sizes[1] < 1000  # of 3000, each sample once or twice
    assert sizes[2] + sizes[3] == 3000
    for mine, theirs in zip(*sums, strict=True):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-14 * scale)


@pytest.mark.parametrize("n_dims", [1, 2, 12, 13, 20, 21, 33, 64, 65, 128, 129])
def test_products_of_triangles(n_dims):
    rng = np.random.default_rng(n_dims)
    triangle = np.tril(rng.normal(size=(3, n_dims, n_dims)))
    symmetric = rng.normal(size=(3, n_dims, n_dims))
    symmetric += symmetric.transpose(0, 2, 1)
    size = np.abs(triangle)
    for matrices in (symmetric, triangle):
        out = np.full(symmetric.shape, np.nan)
        triangles.transposed_times(triangle, matrices, out=out)
        triangles.clear_above(out)
        expected = np.tril(triangle.transpose(0, 2, 1) @ matrices)
        bound = n_dims * UNIT_ROUNDOFF * (size.transpose(0, 2, 1) @ np.abs(matrices))
        assert (np.abs(out - expected) <= 2 * bound).all()
        assert not np.signbit(
            out[np.broadcast_to(np.triu(np.ones(n_dims), 1) > 0, out.shape)]
        ).any()
    expected = triangle @ symmetric @ triangle.transpose(0, 2, 1)
    bound = n_dims * UNIT_ROUNDOFF * (size @ np.abs(symmetric) @ size.transpose(0, 2, 1))
    found = triangles.congruences(triangle, symmetric.copy())
    assert (np.abs(found - expected) <= 4 * bound).all()


@pytest.mark.parametrize("n_components", [3, 40])  # one after the other, and all together
@pytest.mark.parametrize("n_dims", [1, 2, 5, 8, 12, 13, 30, 64, 65])
@pytest.mark.parametrize("condition", [1.0, 1e8, 1e14])
def test_inverse_factor_has_a_small_right_residual(n_components, n_dims, condition):
    # W L = I to rounding, component by component: |W L - I| <= D u |W| |L| is the textbook's bound
    # (Higham, section 8.3), which makes W e as accurate as the solve.
    rng = np.random.default_rng(n_dims)
    scale = np.stack([rotated_factor(rng, n_dims, condition) for _ in range(n_components)])
    inverse = FULL.inverse(scale)
    assert not np.triu(inverse, 1).any()
    assert (np.diagonal(inverse, axis1=1, axis2=2) > 0).all()
    residual = np.abs(inverse @ scale - np.eye(n_dims))
    allowed = (2 * n_dims + 2) * UNIT_ROUNDOFF * (np.abs(inverse) @ np.abs(scale))
    assert (residual <= allowed).all()


@pytest.mark.parametrize("n_components", [3, 40])
def test_inverse_of_a_subnormal_factor_is_not_finite_and_warns_of_nothing(n_components):
    factors = np.broadcast_to(np.eye(10) + np.tri(10), (n_components, 10, 10)).copy()
    factors[1] *= 5e-324
    with np.errstate(all="raise"):
        found = triangles.inverses(factors)
    assert not np.isfinite(found[1]).all()
    others = np.arange(n_components) != 1
    expected = np.linalg.inv(factors[0])
    np.testing.assert_allclose(found[others], expected[None].repeat(others.sum(), 0), atol=1e-15)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("n_matrices", [0, 1, 2, 5, 17])
@pytest.mark.parametrize("group", [1, 4, 20, 1000])
def test_each_matrix_is_worked_on_once(tuned, monkeypatch, n_threads, n_matrices, group):
    tuned(worth_a_thread=0.0)
    monkeypatch.setattr(triangles.threads, "worthwhile_threads", lambda _nanoseconds: n_threads)
    matrices, parts = np.zeros((n_matrices, 2, 2)), []
    triangles.each(matrices, parts.append, group)
    assert sorted(i for part in parts for i in range(n_matrices)[part]) == list(range(n_matrices))
    assert all(part.stop - part.start <= max(group // 4, 1) for part in parts)


def test_features_and_parameters_are_as_many_as_they_say():
    for d in (1, 2, 7):
        p = FULL.n_features(d)
        assert p == (d + 1) * (d + 2) // 2
        y = np.random.default_rng(d).normal(size=(d, 4))
        out = np.full((p, 4), np.nan)
        FULL.write_features(y, out)
        np.testing.assert_array_equal(out[: d + 1], [np.ones(4), *y])
        products = [y[i] * y[j] for i in range(d) for j in range(i, d)]
        found = {tuple(row) for row in out[d + 1 :]}
        assert found == {tuple(row) for row in products}


# --- the bound -----------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e10])
@pytest.mark.parametrize("n_dims", [1, 2, 5, 20])
def test_norm_of_an_inverse_factor_is_bounded_from_above_and_not_by_much(n_dims, condition):
    rng = np.random.default_rng(n_dims)
    scale = np.stack([rotated_factor(rng, n_dims, condition) for _ in range(10)])
    inverse = np.linalg.inv(scale)
    true = np.linalg.norm(inverse, 2, axis=(1, 2))
    found = FULL.inverse_norm(inverse)
    assert (found >= true * (1 - 1e-12)).all()
    # The root of the product of two norms, either of which may be sqrt(D) too large.
    assert (found <= true * math.sqrt(n_dims) * (1 + 1e-12)).all()


def test_bound_is_no_smaller_than_its_formula():
    for seed in range(30):
        problem = random_problem(seed, separation=10.0 ** (seed % 5))
        centre = problem.means.mean(axis=0)
        radius = np.linalg.norm(problem.x - centre, axis=1).max()
        reach = np.linalg.norm(problem.means - centre, axis=1)
        norm = np.linalg.norm(np.linalg.inv(problem.scale_tril), 2, axis=(1, 2))
        formula = UNIT_ROUNDOFF * ((norm * (radius + reach)) ** 2).max()
        assert bound(problem) >= formula * (1 - 1e-12)
        assert bound(problem) <= formula * problem.x.shape[1] * (1 + 1e-12)


@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("exponent", [-200, 3, 200])
def test_bound_does_not_depend_on_units_or_origin(common, exponent):
    problem = random_problem(1, 50, 3, 4)
    unit = 2.0**exponent
    scaled = problem._replace(
        x=problem.x * unit, means=problem.means * unit, scale_tril=problem.scale_tril * unit
    )
    expected = bound(problem, common=common)
    assert bound(scaled, common=common) == pytest.approx(expected, rel=1e-12)
    moved = problem._replace(x=problem.x + 1e3, means=problem.means + 1e3)
    assert bound(moved, common=common) == pytest.approx(expected, rel=1e-10)


def test_common_frame_removes_what_anisotropy_is_shared():
    for condition in (1.0, 1e4, 1e8, 1e12):
        problem = anisotropic_problem(2, 200, 6, 8, condition)
        # As if the data were whitened: about 1e-16 times a radius of about 10, squared, times the
        # slack of the norm.
        assert bound(problem, common=True) < 1e-12
        assert bound(problem) > 1e-16 * condition


# --- the choice ----------------------------------------------------------------------------------


def shared_anisotropy(seed, offset=0.0):
    problem = anisotropic_problem(seed, 1000, 10, 10, 1e8, spread=0.05)
    return problem._replace(x=problem.x + offset, means=problem.means + offset)


def far_off(offset):
    problem = random_problem(4, 1000, 10, 10)
    return problem._replace(x=problem.x + offset, means=problem.means + offset)


def own_anisotropies(seed):
    rng = np.random.default_rng(seed)
    factors = np.stack([rotated_factor(rng, 10, 1e10) for _ in range(10)])
    return random_problem(seed, 1000, 10, 10)._replace(scale_tril=factors)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize(
    ("problems", "expected"),
    [
        ([random_problem(seed, 1000, 10, 10) for seed in range(3)], "moments"),
        ([far_off(offset) for offset in (1e4, 1e8, -1e12)], "moments"),
        ([random_problem(seed, 1000, 10, 10, separation=1e4) for seed in range(3)], "direct"),
        ([own_anisotropies(seed) for seed in range(3)], "direct"),
        ([shared_anisotropy(seed, 1e3 * (seed % 2)) for seed in range(4)], "common"),
    ],
    ids=["overlapping", "far off", "tight", "own anisotropies", "shared anisotropy"],
)
def test_guard_chooses_what_is_fast_where_it_is_accurate(problems, expected, gradient):
    for problem in problems:
        assert (bound(problem) > 1e-10) == (expected != "moments")
        assert (bound(problem, common=True) > 1e-10) == (expected == "direct")
        assert set(chosen(problem, gradient=gradient)) == {expected}


def test_method_is_taken_at_its_word():
    tight = random_problem(5, 300, 4, 3, separation=1e5)
    loose = random_problem(5, 300, 4, 3)
    for problem in (tight, loose):
        assert set(chosen(problem, "direct")) == {"direct"}
        assert set(chosen(problem, "moments")) == {"moments"}


def test_guard_decides_chunk_by_chunk(tuned):
    tuned(chunk_bytes=8 * 4 * 100)
    problem = random_problem(6, 500, 8, 4)
    problem.x[250] += 1e7
    assert chosen(problem) == ["moments", "moments", "direct", "moments", "moments"]
    value, cache = nll_forward(*problem)
    assert_agree(6, nll_value_and_grad(*problem), (value, nll_backward(cache)), logits_floor(500))


@pytest.mark.parametrize(
    ("n_components", "n_features", "expected"),
    [
        (10, 128, "direct"),
        (2, 64, "direct"),
        (1, 30, "direct"),
        (10, 10, "moments"),
        (100, 32, "moments"),
        (200, 2, "moments"),
    ],
)
def test_guard_chooses_the_cheaper_of_those_that_are_accurate(n_components, n_features, expected):
    # The design's own measurements: features cost what one or two components cost to build.
    problem = random_problem(7, 200, n_components, n_features)
    assert set(chosen(problem)) == {expected}


@pytest.mark.parametrize("condition", [1e16, 1e18, 1e24])
def test_auto_works_where_covariances_are_singular_to_working_precision(condition):
    # Sigma has no Cholesky factor in doubles there, and L is as good as ever.
    for seed in range(3):
        problem = anisotropic_problem(seed, 200, 10, 10, condition, spread=0.05)
        found, expected = (
            nll_value_and_grad(*problem),
            nll_value_and_grad(*problem, method="direct"),
        )
        values = nll(*problem), nll(*problem, method="direct")
        # 2^-53 times the condition of L: what the last bits of the inputs decide; and a factor.
        tolerance = 100 * 2.0**-53 * math.sqrt(condition)
        assert_agree(seed, found, expected, logits_floor(200), tolerance, nll=values)


@pytest.mark.parametrize("exponent", [-1000, -560, -500, 500, 520, 1000])
def test_auto_works_whatever_the_units_of_tight_components(exponent):
    problem = random_problem(8, 200, 10, 5, separation=1e6)
    unit = 2.0**exponent
    scaled = problem._replace(
        x=problem.x * unit, means=problem.means * unit, scale_tril=problem.scale_tril * unit
    )
    value, found = nll_value_and_grad(*scaled)
    found = found._replace(means=found.means * unit, scale=found.scale * unit)
    value -= 5 * math.log(unit)
    expected = nll_value_and_grad(*problem)
    assert_agree(exponent, (value, found), expected, logits_floor(200), 1e-11)


@pytest.mark.parametrize("n_features", [1, 2, 4])
@pytest.mark.parametrize("n_samples", [1000, 100_000])
def test_moments_that_the_guard_lets_through_keep_ten_digits(n_samples, n_features):
    # Components overlap far away from the centre, which a lone one on the other side of it keeps
    # where it is; as far as the guard lets it be.
    base = random_problem(9, n_samples, 6, n_features)
    direction = np.ones(n_features) / math.sqrt(n_features)
    side = np.array([1.0, 1.0, 1.0, 1.0, 1.0, -5.0])[:, None]

    def at(distance):
        return base._replace(
            x=base.x + distance * direction, means=base.means + distance * side * direction
        )

    near, far = 0.0, 1e6
    for _ in range(40):
        middle = 0.5 * (near + far)
        near, far = (middle, far) if bound(at(middle)) <= 0.99e-10 else (near, middle)
    problem = at(near)
    assert 0.9e-10 < bound(problem) < 1e-10
    assert set(chosen(problem)) == {"moments"}
    value, found = nll_value_and_grad(*problem)
    expected_value, expected = nll_value_and_grad(*problem, method="direct")
    n_k = statistics(problem.x, Parameters(*problem[1:]), method="direct").n_k / n_samples
    addend = (n_k[:, None] / np.diagonal(problem.scale_tril, axis1=1, axis2=2)).max()
    worst = Worst()
    worst.add(9, "value", value, expected_value)
    worst.add(9, "pi_logits", found.pi_logits, expected.pi_logits, n_k.max())
    worst.add(9, "means", found.means, expected.means)
    # Of the addends: the gradient itself is smaller by what they cancel.
    worst.add(9, "scale", found.scale, expected.scale, addend)
    worst.check(1e-10)


@pytest.mark.parametrize("size", [1e155, 1e200, 1e300])
def test_bound_that_is_beyond_the_range_or_no_number_means_direct(size):
    problem = random_problem(10, 50, 8, 3)
    assert set(chosen(problem)) == {"moments"}
    # Squares of these distances are infinite, so that direct hands them on.
    assert set(chosen(problem._replace(x=problem.x * size))) == {"reference"}


def test_blocks_fit_their_memory_and_their_rows_stand_apart():
    for n_samples in (1, 100, 1000, 10**6):
        for doubles in (3, 10**3, 10**6):
            size = estep.block_size(2**24, doubles, n_samples)
            assert 1 <= size <= min(n_samples, tuning.active.largest_block)
            assert size <= max(2**24 // (8 * doubles), tuning.active.smallest_block)
            assert size == n_samples or size < 128 or size % 16 == 8


def test_parts_have_about_the_same_length():
    for n_samples in (1, 15, 100, 129, 1001, 2488, 2489, 5000, 10**4, 123456):
        for most in (1, 7, 120, 248, 2488):
            size = estep.equal_chunk(n_samples, most)
            assert 1 <= size <= most
            n_parts = -(-n_samples // size)
            assert n_parts == -(-n_samples // most)  # no more of them than it takes
            assert n_samples - (n_parts - 1) * size > size - 16 * n_parts


def test_work_memory_of_a_block_is_bounded():
    # 64 MiB for all, at any shape that fits: kernels hold their blocks, and K-sized arrays.
    for k, d in ((1, 1), (1000, 2), (5, 128), (200, 64), (200, 128)):
        rng = np.random.default_rng(11)
        problem = Problem(
            rng.normal(size=(1, d)), np.zeros(k), rng.normal(size=(k, d)), np.stack([np.eye(d)] * k)
        )
        mixture = mixture_of(problem)
        direct, moments = (
            Accumulator(mixture, method, n_samples=10**6, central=False).choose(problem.x.T)[0]
            for method in ("direct", "moments")
        )
        assert direct.block >= 1
        assert moments.block >= 1
        rows = max(
            tuning.active.residual_block_bytes // (8 * k * (d + 2)),
            tuning.active.smallest_block,
        )
        assert direct.block <= rows
        assert 8 * direct.block * k * (d + 2) <= 2**26
        assert 8 * moments.block * (k + (d + 1) * (d + 2) // 2) <= 2**26
