"""The loss as a primitive of HIPS autograd, against autograd's own formula."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from autograd.test_util import check_grads
from families_by_reference import FAMILIES, random_parameters
from rows_by_reference import FAMILIES as FAMILIES_OF_ROWS
from rows_by_reference import random_rows

import gmm_np
from gmm_np.interop.autograd import nll

pytestmark = pytest.mark.needs_extras

WEIGHT = np.array([1.0, 2.0, 0.0, 0.5])
REDUCTION = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
EVERY = [*(f for f in FAMILIES if f != "constant"), *(f"rows of {f}" for f in FAMILIES_OF_ROWS)]


def problem_of(family):
    if family.startswith("rows of "):
        return tuple(random_rows(2, family.removeprefix("rows of "), 4, 3, 2))
    p = random_parameters(2, family, 3, 2)
    x = np.random.default_rng(2).normal(size=(4, 2))
    return x, p.pi_logits, p.means, np.array(p.scale)


def operation(family, reduction):
    family = family.removeprefix("rows of ")
    factors = gmm_np.covariance.FAMILIES[family].has_factors

    def function(x, logits, means, scale):
        lower = anp.tril(scale) if factors else scale
        return nll(x, logits, means, lower, family, WEIGHT, reduction)

    return function


@REDUCTION
@pytest.mark.parametrize("family", EVERY)
def test_first_and_second_derivatives_are_slopes(family, reduction):
    check_grads(operation(family, reduction), modes=["rev"], order=2)(*problem_of(family))


def formula(x, logits, means, deviations):
    """The loss of family "diag" in autograd's own operations."""
    e = (anp.expand_dims(x, 1) - means) / deviations
    density = -0.5 * anp.sum(e**2, -1) - anp.sum(anp.log(deviations), -1)
    log_pi = logits - anp.log(anp.sum(anp.exp(logits)))
    terms = anp.exp(log_pi + density - 0.5 * x.shape[1] * anp.log(2 * anp.pi))
    return -anp.mean(anp.log(anp.sum(terms, -1)))


@pytest.mark.parametrize("argument", range(4))
def test_value_gradient_and_hessian_are_those_of_the_formula(argument):
    problem = problem_of("diag")

    def mine(*arguments):
        return nll(*arguments, family="diag")

    assert mine(*problem) == pytest.approx(formula(*problem), rel=1e-13)
    for derivative in (autograd.grad, autograd.hessian):
        found, expected = (derivative(f, argument)(*problem) for f in (mine, formula))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_all_arguments_at_once_share_one_pullback():
    problem = problem_of("full")
    found = autograd.grad(lambda arguments: nll(*arguments))(problem)
    expected = gmm_np.nll_value_and_grad(*problem)[1]
    for mine, theirs in zip(found[1:], expected[:3], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-15)


def test_checks_speak_of_the_arguments():
    x, logits, means, scale = problem_of("diag")
    with pytest.raises(ValueError, match="scale has standard deviations that are not positive"):
        nll(x, logits, means, -scale, family="diag")
    with pytest.raises(ValueError, match="sample_weight must have shape"):
        nll(x, logits, means, scale, family="diag", sample_weight=np.ones(3))
