"""Parametrizations: round trips, refusals, and pullbacks against differences.

The gradients of a family come from the reference on factors that stand for it, by the chain rule:
nothing of the families' own code is in them.
"""

import numpy as np
import pytest
from families_by_reference import FAMILIES, LEARNED, random_parameters, value_alone, value_and_grad
from problems import random_problem

from gmm_np import Gradients, Parameters, check_grad
from gmm_np.parametrizations import (
    Cholesky,
    Covariance,
    LogCholesky,
    PrecisionFactor,
    covariance_gradient,
)

SPACES = {c.__name__: c for c in (LogCholesky, Cholesky, Covariance, PrecisionFactor)}
EACH = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
EACH_FAMILY = pytest.mark.parametrize("family", FAMILIES)
FREE = {name: SPACES[name] for name in ("LogCholesky", "PrecisionFactor")}


def draw(seed, family):
    problem = random_problem(seed)
    return problem.x, random_parameters(seed, family, *problem.means.shape)


@EACH
@EACH_FAMILY
@pytest.mark.parametrize("seed", range(4))
def test_unpack_undoes_pack_and_the_reverse(space, family, seed):
    _, parameters = draw(seed, family)
    own = space.of(parameters)
    vector = own.pack(parameters)
    back = own.unpack(vector)
    assert vector.shape == (own.size,)
    assert vector.dtype == np.float64
    assert back.family == family
    np.testing.assert_array_equal(back.pi_logits, parameters.pi_logits)
    np.testing.assert_array_equal(back.means, parameters.means)
    # A logarithm near 1e0 rounds by 1e-16, and so do the few operations of a factorisation or an
    # inverse, times the condition number of these small factors.
    np.testing.assert_allclose(back.scale, parameters.scale, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(own.pack(back), vector, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("space", FREE.values(), ids=FREE)
@EACH_FAMILY
def test_every_vector_of_a_space_without_constraints_is_a_point(space, family):
    rng = np.random.default_rng(0)
    _, parameters = draw(3, family)
    own = space.of(parameters)
    for spread in (0.1, 1.0, 3.0):
        vector = spread * rng.normal(size=own.size)
        again = own.pack(own.unpack(vector))
        np.testing.assert_allclose(again, vector, rtol=1e-9, atol=1e-9)


@EACH
@EACH_FAMILY
@pytest.mark.parametrize("shape", [(8, 2, 3), (5, 3, 1)])
def test_pullback_is_the_gradient_with_respect_to_the_vector(space, family, shape):
    x = random_problem(1, *shape).x
    parameters = random_parameters(1, family, *shape[1:])
    own = space.of(parameters)
    expected, gradients = value_and_grad(x, parameters)
    assert value_alone(x, parameters) == pytest.approx(expected, rel=1e-13)
    pulled = own.pullback(parameters, gradients)  # a check asks for it once

    def objective(vector):
        return value_alone(x, own.unpack(vector)), (pulled,)

    report = check_grad(objective, {"vector": own.pack(parameters)}, entrywise=True)
    assert report, report  # within 1e-7, as check_grad has it


@EACH
@EACH_FAMILY
def test_float32_parameters_are_pulled_back_in_float64(space, family):
    x, parameters = draw(5, family)
    narrow = Parameters(
        parameters.pi_logits.astype(np.float32),
        parameters.means.astype(np.float32),
        parameters.scale.astype(np.float32),
        family,
    )
    _, gradients = value_and_grad(x, narrow)
    own = space.of(narrow)
    assert own.pack(narrow).dtype == np.float64
    assert own.pullback(narrow, gradients).dtype == np.float64


def test_sizes_count_what_is_free():
    k, d = 3, 4
    expected = {
        "full": {"LogCholesky": 30, "PrecisionFactor": 30, "Cholesky": 30, "Covariance": 48},
        "tied": {"LogCholesky": 10, "PrecisionFactor": 10, "Cholesky": 10, "Covariance": 16},
        "diag": dict.fromkeys(SPACES, 12),
        "tied_diag": dict.fromkeys(SPACES, 4),
        "spherical": dict.fromkeys(SPACES, 3),
        "shared_spherical": dict.fromkeys(SPACES, 1),
    }
    for family, sizes in expected.items():
        for name, size in sizes.items():
            assert SPACES[name](k, d, family).size == k * (1 + d) + size, (family, name)
    for space in SPACES.values():
        assert space(k, d, "constant", [np.eye(d)] * k).size == k * (1 + d)


# --- layout -------------------------------------------------------------------------------------


TWO = Parameters(
    [1.0, 2.0],
    [[3.0, 4.0], [5.0, 6.0]],
    [[[np.e, 0.0], [5.0, 1.0]], [[1.0, 0.0], [6.0, np.e]]],
)


DIAGONAL = Parameters(TWO.pi_logits, TWO.means, np.exp([[0.0, 1.0], [2.0, 3.0]]), "diag")


@pytest.mark.parametrize(
    ("space", "scale", "diagonal"),
    [
        (LogCholesky, [1, 5, 0, 0, 6, 1], [0, 1, 2, 3]),
        (Cholesky, [np.e, 5, 1, 1, 6, np.e], [1, np.e, np.e**2, np.e**3]),
        (
            Covariance,
            [np.e**2, 5 * np.e, 5 * np.e, 26, 1, 6, 6, 36 + np.e**2],
            [1, np.e**2, np.e**4, np.e**6],
        ),
        (PrecisionFactor, [-1, -5 / np.e, 0, 0, -6 / np.e, -1], [0, -1, -2, -3]),
    ],
)
def test_vector_is_logits_then_means_then_the_scale_by_components_and_rows(space, scale, diagonal):
    vector = space(2, 2).pack(TWO)
    # log(e) may be the double below 1, and e**2 is rounded once more.
    np.testing.assert_allclose(vector, [1, 2, 3, 4, 5, 6, *scale], rtol=1e-15, atol=1e-15)
    vector = space(2, 2, "diag").pack(DIAGONAL)
    np.testing.assert_allclose(vector, [1, 2, 3, 4, 5, 6, *diagonal], rtol=1e-14, atol=1e-15)


# --- the covariance's convention ----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_gradient_of_a_covariance_is_symmetric_and_the_slope_along_symmetric_directions(seed):
    problem = random_problem(seed, n_features=4)
    parameters = Parameters(problem.pi_logits, problem.means, problem.scale_tril)
    _, gradients = value_and_grad(problem.x, parameters)
    gradient = covariance_gradient(parameters.factors(), gradients.scale)
    spread = np.abs(gradient).max()
    np.testing.assert_allclose(
        gradient, gradient.transpose(0, 2, 1), rtol=0, atol=1e-15 * 10 * spread
    )
    # For df = tr(G dSigma): dSigma = dL L^T + L dL^T, and df = <d_L, dL>.
    step = np.tril(np.random.default_rng(seed).normal(size=gradient.shape))
    change = step @ parameters.factors().transpose(0, 2, 1)
    change += change.transpose(0, 2, 1)
    size = np.abs(gradient * change).sum()
    difference = (gradient * change).sum() - (gradients.scale * step).sum()
    assert abs(difference) <= 1e-13 * size  # sums of 16 K terms, solved with small factors


def test_covariance_takes_the_symmetric_part():
    space = Covariance(1, 2)
    skew = [0.0, 0.0, 0.0, 4.0, 1.0, 3.0, 9.0]  # logit, mean, then rows (4, 1) and (3, 9)
    # A square root is squared again.
    np.testing.assert_allclose(space.pack(space.unpack(skew))[3:], [4, 2, 2, 9], rtol=1e-15)


# --- refusals -------------------------------------------------------------------------------------


@EACH
@EACH_FAMILY
def test_pack_refuses_a_component_that_is_off(space, family):
    scale = random_parameters(0, family, 2, 1).scale
    parameters = Parameters([0.0, -np.inf], [[0.0], [1.0]], scale, family)
    with pytest.raises(ValueError, match=r"logit of -inf at component 1.*Leave this component out"):
        space.of(parameters).pack(parameters)


@pytest.mark.parametrize("family", LEARNED)
def test_pack_refuses_a_scale_whose_square_or_inverse_overflows(family):
    for space, scale in ((Covariance, 1e200), (PrecisionFactor, 5e-324)):
        own = space(1, 1, family)
        shape = np.shape(random_parameters(0, family, 1, 1).scale)
        parameters = Parameters([0.0], [[0.0]], np.full(shape, scale), family)
        with pytest.raises(ValueError, match=r"overflows\. Rescale the data\."):
            own.pack(parameters)
        assert np.isfinite(LogCholesky(1, 1, family).pack(parameters)).all()


@EACH
def test_parameters_of_another_shape_or_family_are_refused(space):
    parameters = Parameters([0.0], [[0.0]], [[[1.0]]])
    gradients = Gradients(np.zeros(1), np.zeros((1, 1)), np.zeros((1, 1, 1)))
    for own, message in (
        (space(2, 1), r"means of shape \(1, 1\).*\(2, 1\)"),
        (space(1, 1, "diag"), r"of family 'full'.*for 'diag'"),
    ):
        with pytest.raises(ValueError, match=message):
            own.pack(parameters)
        with pytest.raises(ValueError, match=message):
            own.pullback(parameters, gradients)


@EACH
def test_unpack_refuses_a_vector_of_another_length_or_that_is_not_finite(space):
    message = r"shape \(3,\) for family 'full', K = 1 and D = 1; got \(4,\)"
    with pytest.raises(ValueError, match=message):
        space(1, 1).unpack(np.zeros(4))
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match=rf"vector has values.*first {value} at entry 0\."):
            space(1, 1).unpack([value, 0.0, 1.0])


@pytest.mark.parametrize("family", LEARNED)
def test_unpack_refuses_a_scale_that_is_not_positive_or_beyond_the_range(family):
    for space in FREE.values():
        for logarithm in (1000.0, -1000.0):
            with pytest.raises(ValueError, match=r"^scale has .* not (finite|positive)"):
                space(1, 1, family).unpack([0.0, 0.0, logarithm])
    for value in (0.0, -1.0):
        with pytest.raises(ValueError, match=r"^scale has .* that are not positive"):
            Cholesky(1, 1, family).unpack([0.0, 0.0, value])
        with pytest.raises(ValueError, match=r"^vector has .* not positive.*Take a shorter step\."):
            Covariance(1, 1, family).unpack([0.0, 0.0, value])


def test_unpack_names_the_covariance_that_is_not_positive_definite():
    vector = Covariance(2, 2).pack(TWO)
    vector[-3:-1] = 100.0
    with pytest.raises(ValueError, match=r"eigenvalue of component 1 is -\d"):
        Covariance(2, 2).unpack(vector)


@EACH
def test_constant_factors_are_given_once(space):
    parameters = Parameters(TWO.pi_logits, TWO.means, TWO.scale, "constant")
    own = space(2, 2, "constant", TWO.scale.tolist())
    np.testing.assert_array_equal(own.unpack(own.pack(parameters)).scale, TWO.scale)
    gradients = Gradients(np.array([1.0, 2.0]), np.array([[3.0, 4.0], [5.0, 6.0]]), None)
    np.testing.assert_array_equal(own.pullback(parameters, gradients), [1, 2, 3, 4, 5, 6])
    with pytest.raises(ValueError, match="other factors than the fixed ones"):
        space(2, 2, "constant", 2 * TWO.scale).pack(parameters)
    with pytest.raises(ValueError, match=r"factors fixed.*factors="):
        space(2, 2, "constant")
    with pytest.raises(ValueError, match="not lower triangular"):
        space(2, 2, "constant", np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match=r'are for family="constant"'):
        space(2, 2, "full", TWO.scale)


def test_unknown_family_and_empty_shapes_are_refused():
    with pytest.raises(ValueError, match="family must be one of"):
        LogCholesky(2, 2, "diagonal")
    for k, d in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="must be at least 1"):
            LogCholesky(k, d)
