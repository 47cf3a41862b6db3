"""Section 12 of docs/derivation.md: what four wrong formulas give, and what is right.

The inputs and the numbers are those of the document's table. Each wrong formula is written anew
here, from its description.
"""

import ast
import math

import numpy as np
import pytest
import torch
from test_derivation import table

from gmm_np.reference import half_log_det_forward, nll_forward, quadratic_form_forward

pytestmark = pytest.mark.needs_extras

ROWS = table("case")
CASES = pytest.mark.parametrize("case", list(ROWS))
HIDDEN = {"a3", "a4", "d2"}  # inputs at which the error does not show

# The document gives 15 digits.
PRINTED = {"rel": 1e-14, "abs": 1e-300}


def read(case):
    """Factor and residual, and the four numbers of a row."""
    factor, residual, *figures = ROWS[case]
    factor = np.array(ast.literal_eval(factor.strip("`")))
    residual = np.array(ast.literal_eval(residual.strip("`")))
    return factor, residual, *(float(figure) for figure in figures)


def double(array):
    return torch.tensor(array, dtype=torch.float64)


def wrong_quadratic_form(covariance, residual):
    """(a): what wants a factor is given the covariance."""
    return residual @ torch.cholesky_inverse(covariance) @ residual


def wrong_half_log_det(covariance):
    """(b): an infinite or undefined log-determinant counts as zero."""
    return 0.5 * torch.logdet(covariance).nan_to_num(nan=0.0, neginf=0.0)


def wrong_half_log_det_of_diagonal(deviations):
    """(d): absolute values of the logarithms."""
    return deviations.log().abs().sum()


def wrong_term(case, factor, residual):
    covariance = double(factor) @ double(factor).T
    if case[0] == "a":
        return float(wrong_quadratic_form(covariance, double(residual)))
    if case[0] == "b":
        return float(wrong_half_log_det(covariance))
    if case[0] == "c":
        return 0.0
    assert case[0] == "d"
    assert (factor == np.diag(np.diag(factor))).all()
    return float(wrong_half_log_det_of_diagonal(double(np.diag(factor))))


def right_terms(factor, residual):
    """Quadratic form, half log-determinant and constant of the reference."""
    quadratic, _ = quadratic_form_forward(residual[None], np.zeros(len(residual)), factor)
    return {
        "q": float(quadratic[0]),
        "h": half_log_det_forward(factor)[0],
        "c": 0.5 * len(residual) * math.log(2 * math.pi),
    }


NAME = {"a": "q", "b": "h", "c": "c", "d": "h"}


def loss(terms):
    return terms["q"] / 2 + terms["h"] + terms["c"]


def test_the_table_has_every_erratum():
    assert {case[0] for case in ROWS} == set("abcd")
    assert set(ROWS) > HIDDEN


@CASES
def test_wrong_formula_gives_the_documented_wrong_number(case):
    factor, residual, wrong, _, wrong_loss, _ = read(case)
    found = wrong_term(case, factor, residual)
    assert found == pytest.approx(wrong, **PRINTED)
    terms = {**right_terms(factor, residual), NAME[case[0]]: found}
    assert loss(terms) == pytest.approx(wrong_loss, **PRINTED)


@CASES
def test_reference_gives_the_documented_right_number(case):
    factor, residual, _, right, _, right_loss = read(case)
    assert right_terms(factor, residual)[NAME[case[0]]] == pytest.approx(right, **PRINTED)
    value, _ = nll_forward([residual], [0.0], [np.zeros(len(residual))], [factor])
    assert value == pytest.approx(right_loss, **PRINTED)


@CASES
def test_right_number_is_that_of_the_definition(case):
    """Equation (1), with the determinant as a product and no logarithm before the last step."""
    factor, residual, _, _, _, right_loss = read(case)
    z = np.linalg.solve(factor, residual)
    determinant = math.prod(np.diag(factor)) ** 2
    density = math.exp(-z @ z / 2) / math.sqrt((2 * math.pi) ** len(residual) * determinant)
    assert -math.log(density) == pytest.approx(right_loss, **PRINTED)


@CASES
def test_error_shows_unless_the_document_says_that_it_hides(case):
    _, _, wrong, right, wrong_loss, right_loss = read(case)
    if case in HIDDEN:
        assert (wrong, wrong_loss) == (right, right_loss)
    else:
        assert min(abs(wrong - right), abs(wrong_loss - right_loss)) > 0.1


def test_identity_and_one_correlation_hide_the_missing_factorization():
    for case, covariance in (("a3", np.eye(2)), ("a4", np.array([[1.0, 0.4], [0.4, 0.8]]))):
        factor = read(case)[0]
        np.testing.assert_allclose(factor @ factor.T, covariance, rtol=1e-15)
        np.testing.assert_allclose(np.tril(covariance), factor, rtol=1e-15)


def test_cholesky_inverse_of_a_covariance_uses_its_lower_triangle():
    """(a): (T T^T)^-1 with T = tril(Sigma); a quarter of the right form in a1 and a2."""
    for case in ("a1", "a2"):
        factor, _, wrong, right, _, _ = read(case)
        covariance = factor @ factor.T
        triangle = np.tril(covariance)
        np.testing.assert_allclose(
            torch.cholesky_inverse(double(covariance)).numpy(),
            np.linalg.inv(triangle @ triangle.T),
            rtol=1e-14,
        )
        assert wrong == right / 4


def fitted(wrong_loss, low, high):
    """Where a function of one number is least, on a grid of steps of 1e-4."""
    grid = torch.arange(low, high, 1e-4, dtype=torch.float64)
    return float(grid[torch.argmin(torch.stack([wrong_loss(point) for point in grid]))])


def test_variance_fitted_with_the_missing_factorization():
    """(a): data of variance 4 are fitted with sqrt(2 * 4)."""
    residual = double([2.0])  # its mean square is 4

    def wrong_loss(covariance):
        return wrong_quadratic_form(covariance.reshape(1, 1), residual) / 2 + covariance.log() / 2

    assert fitted(wrong_loss, 2.0, 5.0) == pytest.approx(math.sqrt(8), abs=1e-4)


def test_deviation_fitted_with_the_wrong_sign():
    """(d): data of variance 1/4 are fitted with a standard deviation of 1, not 1/2."""

    def wrong_loss(deviation):
        return (0.5 / deviation) ** 2 / 2 + wrong_half_log_det_of_diagonal(deviation.reshape(1))

    assert fitted(wrong_loss, 0.2, 2.0) == pytest.approx(1.0, abs=1e-4)
    deviation = double([0.5]).requires_grad_()
    wrong_half_log_det_of_diagonal(deviation).backward()
    assert deviation.grad.item() == -2.0  # the right one is 1 / 0.5


def test_mask_hides_a_singular_covariance_in_the_value_but_not_in_the_gradient():
    """(b): in double precision at 2^-27, in single precision at 2^-13."""
    for dtype, small in ((torch.float64, 2.0**-27), (torch.float32, 2.0**-13)):
        factor = torch.tensor([[1.0, 0.0], [1.0, small]], dtype=dtype)
        covariance = (factor @ factor.T).requires_grad_()
        assert (covariance == 1).all()
        assert torch.logdet(covariance) == -torch.inf
        value = wrong_half_log_det(covariance)
        value.backward()
        assert value == 0
        assert torch.isnan(covariance.grad).all()


def test_mask_accepts_what_is_no_covariance():
    """(b): a determinant of -3."""
    indefinite = double([[1.0, 2.0], [2.0, 1.0]]).requires_grad_()
    assert torch.isnan(torch.logdet(indefinite))
    value = wrong_half_log_det(indefinite)
    value.backward()
    assert value == 0
    assert (indefinite.grad == 0).all()
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(indefinite.detach().numpy())
