"""docs/mistakes.md: its code runs and prints what it says, and what it names does catch."""

import ast
import contextlib
import importlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from gmm_np import nll, parameters, reference

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^## (\d+)\. .*?\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S))


def test_gallery_has_all_its_entries():
    assert list(ENTRIES) == [str(n) for n in range(1, 21)]
    contents = re.findall(r"^(\d+)\. \[(.*?)\]\(#(.*?)\)$", TEXT, re.M)
    for number, title, anchor in contents:
        heading = f"{number}. {title}"
        assert f"\n## {heading}\n" in TEXT
        assert {anchor} == anchors(f"## {heading}")
    assert [number for number, _, _ in contents] == list(ENTRIES)


@pytest.mark.parametrize("number", ENTRIES)
def test_code_prints_what_the_gallery_says(number):
    code, printed = re.search(
        r"```python\n(.*?)```\s*```text\n(.*?)```", ENTRIES[number], re.S
    ).groups()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    assert out.getvalue() == printed
    (wrong,) = re.findall(r"^wrong(.*)$", printed, re.M)
    (right,) = re.findall(r"^right(.*)$", printed, re.M)
    assert wrong != right
    assert 4 <= len([line for line in code.splitlines() if line]) <= 9


def anchors(text):
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)(?:#([^)]*))?\)", TEXT)
    assert len(links) >= 2
    for path, anchor in links:
        target = ROOT / "docs" / path
        assert target.exists(), path
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), anchor


def named_tests():
    for number, text in ENTRIES.items():
        (named,) = re.findall(r"^Caught by `tests/([\w/]+)\.py::(\w+)`\.$", text, re.M)
        yield number, *named


def test_tests_that_the_gallery_names_exist():
    for _, module, test in named_tests():
        tree = ast.parse((ROOT / "tests" / f"{module}.py").read_text(encoding="utf-8"))
        assert test in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def test_log_density_of_a_nearly_singular_covariance():
    """From the factor, by exact arithmetic on its doubles: nothing is lost on the way."""
    from fractions import Fraction

    C = np.array(
        [
            [32.00000007, 35.99999993, 8.00000001],
            [35.99999993, 40.50000006, 8.99999998],
            [8.00000001, 8.99999998, 2.00000008],
        ]
    )
    a, b, c, d, e, f = (
        Fraction(C[i, j]) for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    )
    determinant = a * (d * f - e * e) - b * (b * f - e * c) + c * (b * e - d * c)
    exact = -0.5 * np.log(float(determinant)) - 1.5 * np.log(2 * np.pi)
    assert exact == pytest.approx(11.185270887, abs=1e-8)
    factor = np.linalg.cholesky(C)
    value = nll(np.zeros((1, 3)), [0.0], np.zeros((1, 3)), [factor])
    # Factoring is what loses digits, at a condition number of 1e9; the loss takes the factor.
    assert -value == pytest.approx(exact, abs=1e-6)


# --- the named tests catch them -----------------------------------------------------------------


def without_constant(monkeypatch):
    monkeypatch.setattr(reference, "LOG_2_PI", 0.0)


def absolute_logarithms(monkeypatch):
    def wrong(factor):
        diagonal = np.diagonal(factor).copy()
        return float(np.abs(np.log(diagonal)).sum()), diagonal

    monkeypatch.setattr(reference, "half_log_det_forward", wrong)


def prior_with_the_other_sign(monkeypatch):
    from gmm_np.priors import Wishart

    right = Wishart.value_and_grad
    monkeypatch.setattr(Wishart, "value_and_grad", lambda *a: tuple(-v for v in right(*a)))


def sign_of_the_factors_gradient(monkeypatch):
    right = reference.log_density_backward

    def wrong(*arguments):
        d_x, d_mean, d_factor = right(*arguments)
        return d_x, d_mean, -d_factor

    monkeypatch.setattr(reference, "log_density_backward", wrong)


def zero_times_infinity(monkeypatch):
    right = reference.log_softmax_backward

    def wrong(d_log_pi, pi):
        return right(d_log_pi, pi) / pi * pi  # by way of the weight itself

    monkeypatch.setattr(reference, "log_softmax_backward", wrong)


def logits_as_they_are(monkeypatch):
    right = reference.log_softmax_forward
    monkeypatch.setattr(
        reference, "log_softmax_forward", lambda a: (np.asarray(a, dtype=float), right(a)[1])
    )


def misplaced_parenthesis(monkeypatch):
    right = reference.log_density_forward

    def wrong(x, mean, factor):
        value, cache = right(x, mean, factor)
        half_log_det = float(np.log(np.diagonal(factor)).sum())
        return value + 1.5 * half_log_det, cache

    monkeypatch.setattr(reference, "log_density_forward", wrong)


def negative_scales_accepted(monkeypatch):
    monkeypatch.setattr(parameters, "_check_cholesky_factors", lambda *_: None)


def deviations_for_variances(monkeypatch):
    right = parameters.Parameters.factors
    monkeypatch.setattr(parameters.Parameters, "factors", lambda self: np.sqrt(right(self)))


PLANTED = {
    "3": without_constant,
    "4": absolute_logarithms,
    "5": prior_with_the_other_sign,
    "6": sign_of_the_factors_gradient,
    "8": zero_times_infinity,
    "9": logits_as_they_are,
    "10": sign_of_the_factors_gradient,
    "11": misplaced_parenthesis,
    "12": negative_scales_accepted,
    "13": deviations_for_variances,
}
ARGUMENTS = {
    "test_log_density_backward_agrees_with_differences": (False,),
    "test_value_equals_the_definition_in_loops": ("mean",),
    "test_component_that_is_off_gets_exact_zeros_and_changes_nothing": ("mean",),
    "test_diagonal_that_is_not_positive_is_refused_with_component_and_row": (-2.0,),
    "test_each_family_has_its_factors_and_covariances": ("diag",),
}


@pytest.mark.parametrize("number", PLANTED)
def test_named_test_fails_where_the_mistake_is_made(monkeypatch, number):
    """The mistake is made in the package, and the test that the gallery names has to see it."""
    (module, name) = next(rest for n, *rest in named_tests() if n == number)
    path = ROOT / "tests" / f"{module}.py"
    monkeypatch.syspath_prepend(str(path.parent))
    test = getattr(importlib.import_module(path.stem), name)
    arguments = ARGUMENTS.get(name, ())
    PLANTED[number](monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)), np.errstate(all="ignore"):
        test(*arguments)


@pytest.mark.parametrize("family", ["diag", "spherical", "shared_spherical"])
def test_deviations_for_variances_are_seen_in_each_family(monkeypatch, family):
    from test_parameters import test_each_family_has_its_factors_and_covariances as named

    named(family)
    deviations_for_variances(monkeypatch)
    with pytest.raises(AssertionError):
        named(family)
