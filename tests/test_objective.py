"""The public objective: the plain functions' answers, for data that stay and vectors that move."""

import numpy as np
import pytest
from families_by_reference import FAMILIES, LEARNED, random_scale

import gmm_np
from gmm_np.parametrizations import Covariance, LogCholesky, PrecisionFactor


def make_parameters(rng, family, k=3, d=2):
    scale = random_scale(int(rng.integers(100)), family, k, d)
    return gmm_np.Parameters(rng.standard_normal(k), rng.standard_normal((k, d)), scale, family)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [7, 4000])
def test_objective_at_parameters_gives_the_bits_of_the_plain_functions(n, family, reduction):
    rng = np.random.default_rng(0)
    x, weight, p = rng.standard_normal((n, 2)), rng.random(n), make_parameters(rng, family)
    options = {"family": family, "sample_weight": weight, "reduction": reduction}
    objective = gmm_np.Objective(
        x,
        parametrization=LogCholesky if p.family != "constant" else LogCholesky.of(p),
        **options,
    )
    value, gradients = objective.value_and_grad(p)
    expected, others = gmm_np.nll_value_and_grad(x, *blocks(p), **options)
    assert value == objective.value(p) == objective(p) == expected
    for own, other in zip(gradients[:3], others[:3], strict=True):
        np.testing.assert_array_equal(own, other)
    direction = gmm_np.Gradients(rng.standard_normal(3), rng.standard_normal((3, 2)), None)
    product = objective.hvp(p, direction)
    plain = gmm_np.nll_hvp(x, *blocks(p), direction, **options)
    np.testing.assert_allclose(product.means, plain.means, rtol=1e-12, atol=1e-14)
    hessian = gmm_np.nll_hessian(x, *blocks(p), **options)
    np.testing.assert_allclose(objective.hessian(p), hessian, rtol=1e-12, atol=1e-12)
    assert objective.statistics(p).count == n


def blocks(p):
    return p.pi_logits, p.means, p.scale


@pytest.mark.parametrize("parametrization", [LogCholesky, PrecisionFactor, Covariance])
@pytest.mark.parametrize("family", LEARNED)
def test_derivatives_at_a_vector_are_those_of_its_value(family, parametrization):
    rng = np.random.default_rng(1)
    objective = gmm_np.Objective(
        rng.standard_normal((30, 2)), family=family, parametrization=parametrization
    )
    vector = objective.pack(make_parameters(rng, family))
    value, gradient = objective.value_and_grad(vector)
    assert value == objective.value(objective.unpack(vector))
    step = rng.standard_normal(len(vector))
    h = 1e-5
    (up, g_up), (down, g_down) = (
        objective.value_and_grad(vector + sign * h * step) for sign in (1, -1)
    )
    np.testing.assert_allclose(gradient @ step, (up - down) / (2 * h), rtol=1e-7, atol=1e-9)
    product = objective.hvp(vector, step)
    np.testing.assert_allclose(product, (g_up - g_down) / (2 * h), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(objective.hessian(vector) @ step, product, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("family", LEARNED)
def test_number_of_components_is_told_by_the_length_of_a_vector(family):
    rng = np.random.default_rng(2)
    objective = gmm_np.Objective(rng.standard_normal((5, 3)), family=family)
    for k in (4, 1, 2):
        p = make_parameters(rng, family, k, 3)
        found = objective.unpack(objective.pack(p))
        assert found.n_components == k
        np.testing.assert_allclose(found.scale, p.scale, rtol=1e-14)
    with pytest.raises(ValueError, match=r"vector must have \d+ \+ \d+ \(K - 1\) entries"):
        objective.value(np.zeros(2))


def test_objective_minimises_as_it_is_given_to_scipy():
    from scipy.optimize import minimize

    x = gmm_np.datasets.load_old_faithful()[0]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    objective = gmm_np.Objective(x)
    start = objective.pack(gmm_np.Parameters([0, 0], [[-1, -1], [1, 1]], [np.eye(2)] * 2))
    found = minimize(objective.value_and_grad, start, jac=True, hess=objective.hessian,
                     method="trust-exact", options={"gtol": 1e-9})  # fmt: skip
    best = gmm_np.solvers.fit_newton(x, objective.unpack(start), tol=1e-10)
    assert abs(found.fun - best.nll) < 1e-12


def test_objective_of_a_stream_is_that_of_its_rows():
    rng = np.random.default_rng(3)
    x, p = rng.standard_normal((40, 2)), make_parameters(rng, "full")
    whole, stream = gmm_np.Objective(x), gmm_np.Objective([x[:11], x[11:]])
    vector = whole.pack(p)
    direction = rng.standard_normal(len(vector))
    for name, arguments in (("value_and_grad", ()), ("hvp", (direction,)), ("hessian", ())):
        for a, b in zip(*(getattr(o, name)(vector, *arguments) for o in (whole, stream)),
                        strict=True):  # fmt: skip
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "constant"}, "has its factors fixed"),
        ({"family": "round"}, "family must be one of"),
        ({"reduction": "none"}, "reduction"),
        ({"method": "fast"}, "method must be one of"),
        ({"parametrization": LogCholesky(2, 2, "diag")}, "parametrization is for family 'diag'"),
    ],
)
def test_what_an_objective_cannot_be_is_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        gmm_np.Objective(np.zeros((3, 2)), **options)


def test_parameters_of_another_family_or_width_are_refused():
    objective = gmm_np.Objective(np.zeros((3, 2)))
    for other in (make_parameters(np.random.default_rng(6), "diag"),
                  make_parameters(np.random.default_rng(6), "full", 2, 3)):  # fmt: skip
        with pytest.raises(ValueError, match=r"but this objective is for family 'full' and D = 2"):
            objective.value_and_grad(other)


def test_products_at_one_place_cost_one_gradient(monkeypatch):
    rng = np.random.default_rng(7)
    objective = gmm_np.Objective(rng.standard_normal((20, 2)))
    passes = []
    plain = gmm_np.Objective._pass
    monkeypatch.setattr(
        gmm_np.Objective, "_pass", lambda self, p: passes.append(p) or plain(self, p)
    )
    vector = objective.pack(make_parameters(rng, "full"))
    first = objective.value_and_grad(vector)[1].copy()
    for _ in range(3):
        objective.hvp(vector, rng.standard_normal(len(vector)))
    assert len(passes) == 1
    objective.value(vector + 1e-3)
    assert len(passes) == 2
    np.testing.assert_array_equal(objective.value_and_grad(vector)[1], first)


def test_a_gradient_that_is_written_to_spoils_no_later_one():
    rng = np.random.default_rng(8)
    objective = gmm_np.Objective(rng.standard_normal((20, 2)))
    p = make_parameters(rng, "full")
    found = objective.value_and_grad(p)[1]
    kept = found.means.copy()
    found.means[...] = 0.0
    np.testing.assert_array_equal(objective.value_and_grad(p)[1].means, kept)


def test_missing_values_are_those_of_the_plain_functions():
    rng = np.random.default_rng(9)
    x, p = rng.standard_normal((30, 2)), make_parameters(rng, "full")
    x[rng.random(x.shape) < 0.3] = np.nan
    objective = gmm_np.Objective(x, missing="marginal")
    value, found = objective.value_and_grad(p)
    expected, others = gmm_np.nll_value_and_grad(x, *blocks(p), missing="marginal")
    assert value == pytest.approx(expected, rel=1e-13)
    for own, other in zip(found[:3], others[:3], strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-11, atol=1e-13)
    with pytest.raises(ValueError, match="not finite"):
        gmm_np.Objective(x)
