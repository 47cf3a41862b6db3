import numpy as np
import pytest
from problems import random_problem

from gmm_np import Parameters, check_grad
from gmm_np.parametrizations import LogCholesky
from gmm_np.reference import nll_backward, nll_forward


def parameters_of(problem):
    return Parameters(problem.pi_logits, problem.means, problem.scale_tril)


@pytest.mark.parametrize("seed", range(10))
def test_unpack_undoes_pack(seed):
    parameters = parameters_of(random_problem(seed))
    space = LogCholesky(parameters.n_components, parameters.n_features)
    vector = space.pack(parameters)
    back = space.unpack(vector)
    assert vector.shape == (space.size,)
    np.testing.assert_array_equal(back.pi_logits, parameters.pi_logits)
    np.testing.assert_array_equal(back.means, parameters.means)
    # log and exp round: a few units in the last place.
    np.testing.assert_allclose(back.scale, parameters.scale, rtol=1e-15)


def test_vector_is_logits_then_means_then_triangles_by_rows():
    scale = [[[np.e, 0.0], [5.0, 1.0]], [[1.0, 0.0], [6.0, np.e]]]
    vector = LogCholesky(2, 2).pack(Parameters([1.0, 2.0], [[3.0, 4.0], [5.0, 6.0]], scale))
    # log(e) may be the double below 1.
    np.testing.assert_allclose(vector, [1, 2, 3, 4, 5, 6, 1, 5, 0, 0, 6, 1], rtol=2e-16)


@pytest.mark.parametrize("seed", range(10))
def test_pullback_is_the_gradient_with_respect_to_the_vector(seed):
    problem = random_problem(seed)
    space = LogCholesky(*problem.means.shape)

    def value_and_grad(vector):
        parameters = space.unpack(vector)
        value, cache = nll_forward(
            problem.x, parameters.pi_logits, parameters.means, parameters.scale
        )
        return value, (space.pullback(parameters, nll_backward(cache)),)

    vector = space.pack(parameters_of(problem))
    report = check_grad(value_and_grad, {"vector": vector}, entrywise=True)
    assert report, report


def test_pack_refuses_a_component_that_is_off():
    parameters = Parameters([0.0, -np.inf], [[0.0], [1.0]], np.ones((2, 1, 1)))
    with pytest.raises(ValueError, match=r"logit of -inf at component 1.*Leave this component out"):
        LogCholesky(2, 1).pack(parameters)


def test_pack_refuses_parameters_of_another_shape():
    parameters = Parameters([0.0], [[0.0]], [[[1.0]]])
    with pytest.raises(ValueError, match=r"means of shape \(1, 1\).*\(2, 1\)"):
        LogCholesky(2, 1).pack(parameters)


def test_unpack_refuses_a_vector_of_another_length():
    with pytest.raises(ValueError, match=r"shape \(3,\) for K = 1 and D = 1; got \(4,\)"):
        LogCholesky(1, 1).unpack(np.zeros(4))


def test_unpack_refuses_a_diagonal_beyond_the_range_of_a_double():
    with pytest.raises(ValueError, match="scale has values that are not finite"):
        LogCholesky(1, 1).unpack([0.0, 0.0, 1000.0])
    with pytest.raises(ValueError, match="not positive"):
        LogCholesky(1, 1).unpack([0.0, 0.0, -1000.0])
