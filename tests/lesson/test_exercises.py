"""The exercises: stubs fail, solutions pass, and mistakes are called by their names."""

import io
import re
import sys
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from gmm_np import reference
from gmm_np.cli import main
from gmm_np.lesson.calls import call
from gmm_np.lesson.exercise_set import EXERCISES
from gmm_np.lesson.exercise_set import PARTS as BY_NAME
from gmm_np.lesson.exercises import check_file, lines_of, start, stubs
from gmm_np.lesson.grading import grade, judge
from gmm_np.lesson.second_exercises import SECOND_PARTS
from gmm_np.lesson.third_exercises import THIRD_PARTS
from gmm_np.lesson.whole import STEPS, whole
from gmm_np.lesson.wrong_forms import HINTS, ROWS, TERMS

PARTS = list(BY_NAME.values())
TITLE = {part.name: exercise.title for exercise in EXERCISES for part in exercise.parts}
KINDS = set(HINTS)

# The reference itself, as a learner's file.
BY_THE_REFERENCE = """
import numpy as np
from gmm_np.reference import *
from gmm_np.reference import (
    half_log_det_backward, half_log_det_forward, log_density_backward, log_density_forward,
    log_softmax_backward, log_softmax_forward, logsumexp_backward, logsumexp_forward,
    quadratic_form_backward, quadratic_form_forward,
)

def nll(x, pi_logits, means, scale_tril):
    value, cache = nll_forward(x, pi_logits, means, scale_tril)
    return value, *nll_backward(cache)

def diagonal_log_density_forward(x, mean, deviation):
    return log_density_forward(x, mean, np.diag(deviation))[0]

def diagonal_log_density_backward(d_log_density, x, mean, deviation):
    component = x, mean, np.diag(deviation)
    z = log_density_forward(*component)[1]
    _, d_mean, d_factor = log_density_backward(d_log_density, *component, z)
    return d_mean, np.diag(d_factor)

def factor_gradient(factor, n, S):
    root = np.linalg.cholesky(S)
    x = np.vstack([root.T, np.zeros(len(S))])
    share = np.append(np.ones(len(S)), n - len(S))
    component = x, np.zeros(len(S)), factor
    z = log_density_forward(*component)[1]
    return log_density_backward(-share, *component, z)[2]
"""

# What a learner might write; it shares nothing with the known wrong forms.
BY_HAND = """
import numpy as np
from scipy.linalg import cho_solve, solve_triangular

def logsumexp_forward(terms):
    largest = terms.max(axis=1, keepdims=True)
    e = np.exp(terms - largest)
    total = e.sum(axis=1, keepdims=True)
    return largest[:, 0] + np.log(total[:, 0]), e / total

def logsumexp_backward(d_value, softmax):
    return d_value[:, None] * softmax

def log_softmax_forward(pi_logits):
    shifted = pi_logits - pi_logits.max()
    log_pi = shifted - np.log(np.sum(np.exp(shifted)))
    return log_pi, np.exp(log_pi)

def log_softmax_backward(d_log_pi, pi):
    return d_log_pi - pi * np.sum(d_log_pi)

def quadratic_form_forward(x, mean, factor):
    residual = x - mean
    z = solve_triangular(factor, residual.T, lower=True).T
    return np.sum(z ** 2, axis=1), z

def quadratic_form_backward(d_quadratic, x, mean, factor, z):
    y = solve_triangular(factor, z.T, lower=True, trans="T").T
    d_residual = 2 * d_quadratic[:, None] * y
    d_mean = -d_residual.sum(axis=0)
    d_factor = -np.tril(d_residual.T @ z)
    return d_residual, d_mean, d_factor

def half_log_det_forward(factor):
    diagonal = np.diag(factor)
    return np.sum(np.log(diagonal)), diagonal

def half_log_det_backward(d_half_log_det, diagonal):
    return np.diag(d_half_log_det / diagonal)

def nll(x, pi_logits, means, scale_tril):
    N, D = x.shape
    log_pi, pi = log_softmax_forward(pi_logits)
    columns, kept = [], []
    for k in range(len(means)):
        q, z = quadratic_form_forward(x, means[k], scale_tril[k])
        h, diagonal = half_log_det_forward(scale_tril[k])
        columns.append(log_pi[k] - q / 2 - h - D / 2 * np.log(2 * np.pi))
        kept.append((z, diagonal))
    likelihood, resp = logsumexp_forward(np.stack(columns, axis=1))
    value = -np.sum(likelihood) / N
    d_joint = logsumexp_backward(np.full(N, -1 / N), resp)
    d_logits = log_softmax_backward(d_joint.sum(axis=0), pi)
    d_x = np.zeros(x.shape)
    d_means, d_factors = np.zeros(means.shape), np.zeros(scale_tril.shape)
    for k, (z, diagonal) in enumerate(kept):
        component = x, means[k], scale_tril[k], z
        d_x_k, d_means[k], d_factors[k] = quadratic_form_backward(-d_joint[:, k] / 2, *component)
        d_factors[k] += half_log_det_backward(-d_joint[:, k].sum(), diagonal)
        d_x += d_x_k
    return value, d_logits, d_means, d_factors, d_x

def diagonal_log_density_forward(x, mean, deviation):
    q = (((x - mean) / deviation) ** 2).sum(axis=1)
    return -q / 2 - np.sum(np.log(deviation)) - x.shape[1] / 2 * np.log(2 * np.pi)

def diagonal_log_density_backward(d_log_density, x, mean, deviation):
    z = (x - mean) / deviation
    d_mean = (d_log_density[:, None] * z / deviation).sum(axis=0)
    return d_mean, (d_log_density[:, None] * (z ** 2 - 1) / deviation).sum(axis=0)

def factor_gradient(factor, n, S):
    half = cho_solve((factor, True), S)
    whole = cho_solve((factor, True), half.T).T
    return n * np.diag(1 / np.diag(factor)) - np.tril(whole @ factor)
"""


def mistakes(table):
    """Return function, a piece of BY_HAND in it, what stands there in its place, and what it is.

    A function's name has its mistakes below it; one that is long goes on in the next line.
    """
    return [
        (function, old.replace("\\n", "\n"), new.replace("\\n", "\n"), what)
        for function, rows in re.findall(r"^(\w+)\n((?: +.*\n)+)", table, flags=re.MULTILINE)
        for old, new, what in re.findall(r"(\S.*?)\s+-> (.*?)\s*\| (.*)\n", rows)
    ]


# Mistakes, and the kind of each.
PLANTED = mistakes(r"""
logsumexp_forward
  largest[:, 0] + np.log(total -> np.log(total | a missing term
  e.sum(axis=1, keepdims=True) -> e.mean(axis=1, keepdims=True) | a wrong reduction
  e / total\n -> e\n | a missing term
  return largest[:, 0] + -> return -largest[:, 0] - | a sign
logsumexp_backward
  d_value[:, None] * softmax -> softmax | a missing term
  d_value[:, None] * softmax -> d_value.sum() * softmax | a wrong reduction
  d_value[:, None] * softmax -> -d_value[:, None] * softmax | a sign
log_softmax_forward
  np.log(np.sum(np.exp(shifted))) -> np.sum(np.exp(shifted)) * 0 | a missing term
  shifted - np.log(np.sum -> shifted - np.log(np.mean | a wrong reduction
log_softmax_backward
  d_log_pi - pi * -> d_log_pi + pi * | a sign
  - pi * np.sum(d_log_pi) -> | a missing term
  pi * np.sum(d_log_pi) -> pi * d_log_pi | a wrong reduction
quadratic_form_forward
  solve_triangular(factor, residual.T, lower=True).T
    -> solve_triangular(factor.T, residual.T, lower=False).T | a transpose
  np.sum(z ** 2, axis=1) -> 0.5 * np.sum(z ** 2, axis=1) | a factor of two
  np.sum(z ** 2, axis=1) -> np.sum(z ** 2) | a wrong reduction
  residual = x - mean -> residual = mean - x | a sign
quadratic_form_backward
  -np.tril(d_residual.T @ z) -> -(d_residual.T @ z) | an upper triangle
  -np.tril(d_residual.T @ z) -> -np.tril(z.T @ d_residual) | a transpose
  -np.tril(d_residual.T @ z) -> np.tril(d_residual.T @ z) | a sign
  -d_residual.sum(axis=0) -> -d_residual.mean(axis=0) | a wrong reduction
  2 * d_quadratic[:, None] * y -> d_quadratic[:, None] * y | a factor of two
  2 * d_quadratic[:, None] * y -> 2 * d_quadratic[:, None] * z | a missing term
half_log_det_forward
  np.sum(np.log(diagonal)) -> 2 * np.sum(np.log(diagonal)) | a factor of two
  np.sum(np.log(diagonal)) -> np.sum(abs(np.log(diagonal))) | a sign
  np.sum(np.log(diagonal)) -> np.prod(diagonal) | a missing term
half_log_det_backward
  np.diag(d_half_log_det / diagonal) -> d_half_log_det / diagonal | a wrong reduction
  np.diag(d_half_log_det / diagonal)
    -> np.ones((3, 3)) * (d_half_log_det / diagonal) | an upper triangle
  np.diag(d_half_log_det / diagonal) -> np.diag(1 / diagonal) | a missing term
nll
  value = -np.sum(likelihood) / N -> value = -np.sum(likelihood) | a wrong reduction
  - D / 2 * np.log(2 * np.pi)) -> ) | a missing term
  value = -np.sum -> value = np.sum | a sign
  log_pi[k] - q / 2 -> log_pi[k] - q | a factor of two
  np.full(N, -1 / N) -> np.full(N, -1.0) | a wrong reduction
  d_factors[k] += half -> half | a missing term
  d_factors[k] += half -> d_factors[k] -= half | a sign
  return value, d_logits, d_means, d_factors,
    -> return value, d_logits, d_means, d_factors.transpose(0, 2, 1), | a transpose
diagonal_log_density_forward
  -q / 2 - np.sum -> -q - np.sum | a factor of two
  - x.shape[1] / 2 * np.log(2 * np.pi) -> | a missing term
  -q / 2 - np.sum -> -q / 2 + np.sum | a sign
diagonal_log_density_backward
  * (z ** 2 - 1) / -> * (z ** 2 + 1) / | a sign
  * (z ** 2 - 1) / -> * z ** 2 / | a missing term
  * z / deviation).sum(axis=0) -> * z / deviation).mean(axis=0) | a wrong reduction
factor_gradient
  np.tril(whole @ factor) -> whole @ factor | an upper triangle
  - np.tril(whole @ factor) -> + np.tril(whole @ factor) | a sign
  np.tril(whole @ factor) -> np.tril(whole) | a missing term
  np.tril(whole @ factor) -> np.tril(factor.T @ whole) | a transpose
  return n * np.diag -> return 2 * n * np.diag | a factor of two
  np.tril(whole @ factor) -> np.tril(whole @ factor) / 2 | a factor of two
""")
# Mistakes, and what is said of each.
NAMED = mistakes(r"""
logsumexp_forward
  largest[:, 0] + np.log(total[:, 0]) -> largest + np.log(total) | an axis of length 1
  return largest[:, 0] + np.log(total[:, 0]), e / total
    -> return e / total, largest[:, 0] + np.log(total[:, 0]) | what softmax should be
  return largest[:, 0] + np.log(total[:, 0]), e / total
    -> return [largest[:, 0] + np.log(total[:, 0]), e / total] | a list of 2
  e / total\n -> e / e.sum(axis=0)\n | normalised over the samples
  np.log(total[:, 0]) -> total[:, 0] | the logarithm
  largest[:, 0] + np.log(total[:, 0]) -> terms.sum(axis=1) | a sum of logarithms
logsumexp_backward
  d_value[:, None] * softmax -> d_value[:, None] * (1 - softmax) | backward of log_softmax
  d_value[:, None] * softmax -> d_value[:, None] * softmax / softmax.shape[1] | divided by K
log_softmax_forward
  return log_pi, np.exp(log_pi) -> return np.exp(log_pi), log_pi | what pi should be
  shifted - np.log -> shifted + np.log | that of the logarithm of the sum
log_softmax_backward
  d_log_pi - pi * np.sum(d_log_pi) -> d_log_pi - np.sum(pi * d_log_pi) | pi is inside the sum
  d_log_pi - pi * np.sum(d_log_pi)
    -> pi * (d_log_pi - np.sum(pi * d_log_pi)) | backward of a softmax
  pi * np.sum -> np.sum | the weight pi before the sum
  return d_log_pi - pi * np.sum(d_log_pi)
    -> return (d_log_pi - pi * np.sum(d_log_pi)).astype(np.float32) | precision of float32
quadratic_form_forward
  solve_triangular(factor, -> solve_triangular(factor @ factor.T, | Sigma for its factor L
  solve_triangular(factor, residual.T, lower=True)
    -> np.linalg.solve(factor @ factor.T, residual.T) | Sigma for its factor L
  , lower=True) -> ) | only the diagonal is not zero
  solve_triangular(factor, residual.T, lower=True).T -> residual @ factor.T | multiplied by L
  residual = x - mean -> residual = x | the mean is not subtracted
  np.sum(z ** 2, axis=1) -> np.sum(abs(z), axis=1) | absolute values
  np.sum(z ** 2, axis=1) -> np.sqrt(np.sum(z ** 2, axis=1)) | a length
  np.sum(z ** 2, axis=1) -> np.sum(z * residual, axis=1) | L for Sigma
  , z\n -> , z.T\n | the transpose
quadratic_form_backward
  , trans="T" -> | solved with L where L^T belongs
  solve_triangular(factor, z.T, lower=True, trans="T").T
    -> cho_solve((factor @ factor.T, True), (x - mean).T).T | Sigma for its factor L
  solve_triangular(factor, z.T, lower=True, trans="T").T
    -> cho_solve((factor, True), z.T).T | one solve too many
  d_residual.T @ z -> d_residual.T @ (x - mean) | e for z
  d_residual.T @ z) -> d_residual.T @ z, -1) | the diagonal
  -d_residual.sum(axis=0) -> -d_residual | not summed over the samples
half_log_det_forward
  np.sum(np.log(diagonal)) -> np.sum(np.log(np.diag(factor @ factor.T))) | Sigma for its factor L
  np.sum(np.log(diagonal)) -> np.linalg.slogdet(factor @ factor.T)[1] | the whole and not half
  np.sum(np.log(diagonal)) -> np.log(np.sum(diagonal)) | the logarithm of a sum
  np.sum(np.log(diagonal)) -> np.sum(np.log(factor)) | has NaN
half_log_det_backward
  d_half_log_det / diagonal -> d_half_log_det * diagonal | multiplied by L_ii
  d_half_log_det / diagonal -> d_half_log_det / diagonal ** 2 | Sigma for its factor L
nll
  log_pi[k] - q / 2 -> pi[k] - q / 2 | pi for log pi
  log_pi[k] - q / 2 -> pi_logits[k] - q / 2 | the logsumexp
  - D / 2 * -> - len(means) / 2 * | K/2 for D/2
  - h - D / 2 -> - h / 2 - D / 2 | the log-determinant is halved
  - h - D / 2 -> + h - D / 2 | the log-determinant has the opposite sign
  d_x += d_x_k -> d_x = d_x_k | all components but the last
  -1 / N), resp) -> -1 / N), np.tile(pi, (N, 1))) | the weights pi for the responsibilities
  -d_joint[:, k].sum() -> d_joint[:, k].sum() | d_half_log_det, all of it has the opposite sign
  -d_joint[:, k] / 2 -> -d_joint[:, k] | twice what it should be
  -np.sum(likelihood) / N -> -np.log(np.mean(np.exp(likelihood))) | the logarithm of a mean
diagonal_log_density_forward
  (x - mean) / deviation) -> (x - mean) / deviation ** 2) | variances for deviations
  np.sum(np.log(deviation)) -> np.log(np.sum(deviation)) | the logarithm of a sum
diagonal_log_density_backward
  return d_mean, (d_log_density[:, None] * (z ** 2 - 1) / deviation).sum(axis=0)
    -> return (d_log_density[:, None] * (z ** 2 - 1) / deviation).sum(axis=0), d_mean
    | what d_deviation should be
  (z ** 2 - 1) / deviation) -> (z ** 2 - 1)) | gradient in log s
factor_gradient
  return n * -> return n / 2 * | n diag(1 / L_ii) is halved
  cho_solve((factor, True), S) -> cho_solve((factor, True), np.tril(S)) | too early
  np.tril(whole @ factor) -> np.tril(whole) @ factor | too early
  whole @ factor -> whole * factor | * for @
""")
# Not named, for the answer does not tell: which component's parameters were used would take a form
# for each, and a number that is added may be any.
UNNAMED = [
    ("nll", "(x, means[k], scale_tril[k])", "(x, means[k], scale_tril[0])"),
    ("nll", "(x, means[k], scale_tril[k])", "(x, means[0], scale_tril[k])"),
    ("nll", "np.log(2 * np.pi))", "np.log(2 * np.pi) + 1e-3)"),
]


def names_of(text):
    names = {}
    exec(compile(text, "exercises.py", "exec"), names)
    return names


def findings(text):
    """Judge without a process of its own, which takes a second to start."""
    names = names_of(text)
    return {f.part.name: f for _, f in grade(lambda part, right: call(part, names, right))}


def planted(function, old, new):
    """BY_HAND with a mistake in a function."""
    first = BY_HAND.index(f"def {function}(")
    last = BY_HAND.find("\ndef ", first)
    body = BY_HAND[first : last if last > 0 else None]
    assert body.count(old) == 1
    return BY_HAND.replace(body, body.replace(old, new))


def finding_of(function, old, new):
    part = BY_NAME[function]
    return judge(part, call(part, names_of(planted(function, old, new))))


@pytest.mark.parametrize("hard", [False, True])
def test_every_stub_fails(hard):
    found = findings(stubs(hard))
    assert {name: finding.verdict for name, finding in found.items()} == {
        part.name: "missing" for part in PARTS
    }


@pytest.mark.parametrize("text", [BY_THE_REFERENCE, BY_HAND], ids=["reference", "by hand"])
def test_every_solution_passes(text):
    found = findings(text)
    assert len(found) == len(PARTS) == 12
    assert {name: (f.verdict, f.text, f.hint) for name, f in found.items()} == {
        part.name: ("right", "", "") for part in PARTS
    }


@pytest.mark.parametrize(("function", "old", "new", "kind"), PLANTED)
def test_planted_mistake_is_called_by_its_kind(function, old, new, kind):
    found = finding_of(function, old, new)
    assert found.verdict == "wrong"
    assert found.kind == kind, found.text
    assert f"looks like {kind}" in found.text


@pytest.mark.parametrize(("function", "old", "new", "name"), NAMED)
def test_planted_mistake_is_called_by_its_name(function, old, new, name):
    found = finding_of(function, old, new)
    assert found.verdict == "wrong"
    assert name in found.text
    assert found.hint
    assert "no mistake known" not in found.text


def test_the_tables_have_all_their_mistakes():
    assert len(PLANTED) == len({row[:3] for row in PLANTED}) == 48
    assert len(NAMED) == len({row[:3] for row in NAMED}) == 53


@pytest.mark.parametrize(("function", "old", "new"), UNNAMED)
def test_what_cannot_be_named_is_not_named_wrongly(function, old, new):
    found = finding_of(function, old, new)
    assert (found.verdict, found.kind) == ("wrong", "")
    assert "It looks like no mistake known here." in found.text


def test_at_least_three_mistakes_are_planted_in_each_exercise():
    named = [TITLE[function] for function, _, _, _ in PLANTED]
    assert min(named.count(exercise.title) for exercise in EXERCISES) >= 3
    assert {kind for _, _, _, kind in PLANTED} <= KINDS


def outputs_of(name):
    if name in STEPS:
        return STEPS[name][0]
    return (BY_NAME | SECOND_PARTS | THIRD_PARTS)[name].output_names


def test_every_wrong_form_belongs_to_an_output_that_there_is():
    for key in {*ROWS, *TERMS}:
        name, output = key.split(".")
        assert output in outputs_of(name), key


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_wrong_forms_are_told_apart_from_the_right_answer(part):
    """None of them is right by chance, and each is declared with a kind."""
    arguments = part.cases()[0]
    for output, answer in zip(part.output_names, part.solution(*arguments), strict=True):
        right = np.asarray(answer)
        for form in ROWS.get(f"{part.name}.{output}", ()):
            with np.errstate(all="ignore"):
                wrong = np.asarray(form.wrong(*arguments))
            assert form.kind in KINDS
            if wrong.shape == right.shape:
                assert not abs(wrong - right).max() <= 1e-6 * abs(right).max(), form.name


def test_whole_with_a_right_step_is_the_whole():
    arguments = BY_NAME["nll"].cases()[0]
    step = ("loss", 0, lambda likelihood: -likelihood.mean())
    right = BY_NAME["nll"].solution(*arguments)
    for one, other in zip(whole(step, *arguments), right, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("step", [name for name in STEPS if not name.endswith("ward")])
def test_wrong_forms_between_the_primitives_change_the_whole(step):
    arguments = BY_NAME["nll"].cases()[0]
    right = BY_NAME["nll"].solution(*arguments)
    (output,) = STEPS[step][0]
    for form in ROWS.get(f"{step}.{output}", ()):
        wrong = whole((step, 0, form.wrong), *arguments)
        assert any(
            np.shape(one) != np.shape(other) or abs(one - other).max() > 1e-6
            for one, other in zip(wrong, right, strict=True)
        ), form.name


def test_hint_is_that_of_the_mistake():
    part = BY_NAME["half_log_det_forward"]
    sigma = finding_of(
        part.name, "diagonal = np.diag(factor)", "diagonal = np.diag(factor @ factor.T)"
    )
    base = finding_of(part.name, "np.log(diagonal)", "np.log10(diagonal)")
    unknown = finding_of(part.name, "np.log(diagonal)", "np.log1p(diagonal)")
    assert "take the factor L" in sigma.hint
    assert "In nats" in base.hint
    assert unknown.hint == part.hint


def test_digits_are_enough_to_see_the_difference():
    cast = "(d_log_pi - pi * np.sum(d_log_pi)).astype(np.float32)"
    for new in (cast, "d_log_pi - pi * np.sum(d_log_pi) * (1 + 1e-8)"):
        found = finding_of("log_softmax_backward", "d_log_pi - pi * np.sum(d_log_pi)", new)
        assert found.kind == "float32"
        one, other = re.search(r": (\S+) at \[\d\]; expected is (\S+)\. ", found.text).groups()
        assert one != other
        assert "precision of float32" in found.text


@pytest.mark.parametrize("use", ["quadratic", "missing", "exits"])
def test_whole_that_is_wrong_by_a_primitive_only_follows_from_it(use):
    text = {
        "quadratic": planted(
            "quadratic_form_forward", "np.sum(z ** 2, axis=1)", "np.sum(z, axis=1)"
        ),
        "missing": BY_HAND.replace("def quadratic_form_forward(", "def another("),
        "exits": planted("quadratic_form_forward", "residual = x - mean", "raise SystemExit(0)"),
    }[use]
    found = findings(text)
    assert found["quadratic_form_forward"].verdict == ("missing" if use == "missing" else "wrong")
    assert found["nll"].verdict == "follows"
    assert "follows from quadratic_form_forward" in found["nll"].text
    assert sum(f.verdict == "right" for f in found.values()) == 10


def test_whole_with_a_mistake_of_its_own_is_named_for_that():
    text = planted("quadratic_form_forward", "np.sum(z ** 2, axis=1)", "np.sum(z, axis=1)")
    found = findings(text.replace("d_x += d_x_k", "d_x = d_x_k"))
    assert found["nll"].verdict == "wrong"
    assert "not added to" in found["nll"].text


def test_right_function_that_calls_nothing_wrong_is_not_blamed():
    found = findings(planted("logsumexp_backward", "d_value[:, None] * softmax", "softmax"))
    verdicts = {name: f.verdict for name, f in found.items() if f.verdict != "right"}
    assert verdicts == {"logsumexp_backward": "wrong", "nll": "follows"}


def test_what_follows_from_one_is_not_blamed_for_the_next():
    by_lse = """
def log_softmax_forward(pi_logits):
    value, pi = logsumexp_forward(pi_logits[None])
    return pi_logits - value, pi[0]
"""
    text = planted("logsumexp_forward", "return largest[:, 0] +", "return -largest[:, 0] -")
    found = findings(text + by_lse)
    for name in ("log_softmax_forward", "nll"):
        assert found[name].verdict == "follows"
        assert "follows from logsumexp_forward: with the right one" in found[name].text


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        (
            "logsumexp_forward",
            "largest = terms.max(axis=1, keepdims=True)",
            "largest = np.zeros((len(terms), 1))",
        ),
        ("log_softmax_forward", "pi_logits - pi_logits.max()", "pi_logits"),
    ],
)
def test_what_overflows_is_told(function, old, new):
    found = finding_of(function, old, new)
    assert (found.verdict, found.kind) == ("wrong", "overflow")
    assert "(10)" in found.hint


@pytest.mark.parametrize(
    ("body", "verdict", "message"),
    [
        ("pass", "missing", "returns nothing"),
        ("return d_log_pi, pi", "wrong", "a tuple of 2; wanted is d_pi_logits [K]"),
        ("return 'text'", "wrong", "d_pi_logits is a str"),
        ("return 1j * pi", "wrong", "a number or an array of numbers"),
        ("return np.zeros(10**6)", "wrong", "has the shape (1000000,)"),
        ("return (d_log_pi - pi * d_log_pi.sum())[:2]", "wrong", "has the shape (2,)"),
        ("return d_log_pi * np.nan", "wrong", "has NaN at [0]"),
        ("return d_log_pi / 0", "wrong", "is infinite at [0]"),
        ("return 1 // 0", "wrong", "ZeroDivisionError"),
        ("raise SystemExit(0)", "wrong", "Look for exit"),
        ("d_log_pi -= pi * d_log_pi.sum(); return d_log_pi", "wrong", "changes its arguments"),
    ],
)
def test_what_is_no_answer_is_told(body, verdict, message):
    text = f"import numpy as np\ndef log_softmax_backward(d_log_pi, pi):\n    {body}\n"
    found = findings(text)
    assert found["log_softmax_backward"].verdict == verdict
    assert message in found["log_softmax_backward"].text
    assert found["nll"].verdict == "missing"
    assert "no function" in found["nll"].text


# --- a process of its own -----------------------------------------------------------------------

HOSTILE = """
import os, ctypes
def logsumexp_forward(terms):
    print("on the way")
    while True:
        print("for ever", flush=True)
def logsumexp_backward(d_value, softmax):
    os._exit(0)
def log_softmax_forward(pi_logits):
    ctypes.string_at(0)
def log_softmax_backward(d_log_pi, pi):
    print("once")
    os.write(1, b"{}")
    os.write(2, b"past print")
    return d_log_pi - pi * d_log_pi.sum()
def half_log_det_forward(factor):
    logsumexp_forward(None)
def half_log_det_backward(d_half_log_det, diagonal):
    return input()
"""


@pytest.mark.slow
def test_what_hangs_exits_or_crashes_is_told_and_the_rest_is_judged(tmp_path):
    file = tmp_path / "Übung.py"  # as Python's own report would not write it
    file.write_text(HOSTILE, encoding="utf-8")
    found = {f.part.name: f for _, f in check_file(file, 0.5)[0]}
    hang, leave, crash = (
        found[name] for name in ("logsumexp_forward", "logsumexp_backward", "log_softmax_forward")
    )
    assert (hang.verdict, hang.kind) == ("wrong", "hang")
    assert re.search("logsumexp_forward was still running at line [56] after 0.5 s: ", hang.text)
    assert hang.printed.startswith("on the way\nfor ever\n")
    assert len(hang.printed) <= 2000
    assert (leave.verdict, leave.kind) == ("wrong", "exit")
    assert "logsumexp_backward ended Python with exit code 0. Look for exit" in leave.text
    assert (crash.verdict, crash.kind) == ("wrong", "crash")
    assert "log_softmax_forward crashed Python at line 10 (" in crash.text
    assert found["log_softmax_backward"].verdict == "right"
    assert found["log_softmax_backward"].printed == "once\n"
    # What hangs is asked once: whatever calls it is given the right one.
    assert found["half_log_det_forward"].kind != "hang"
    assert "EOFError" in found["half_log_det_backward"].text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nwhile True: pass\n", "was still running at line 2 after 0.3 s"),
        ("import os\nos._exit(0)\n", "ended Python with exit code 0"),
        ("raise SystemExit(0)\n", "line 1: SystemExit"),
    ],
)
def test_a_file_that_hangs_or_exits_is_exit_code_1(tmp_path, capsys, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    assert main(["exercises", "check", str(file), "--timeout", "0.3"]) == 1
    out, err = capsys.readouterr()
    assert message in err
    assert len(err.splitlines()) == 1
    assert not out


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "x"])
def test_a_timeout_is_a_positive_number(seconds, capsys):
    with pytest.raises(SystemExit) as error:
        main(["exercises", "check", "mine.py", "--timeout", seconds])
    assert error.value.code == 2
    assert "--timeout" in capsys.readouterr().err


def test_nothing_of_an_answer_is_executed_where_it_is_read(tmp_path):
    """An array of objects, which a pickle would carry, is refused in the learner's process."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np, os\n"
        "class Bad:\n"
        f"    def __reduce__(self): return os.mkdir, ({str(tmp_path / 'made')!r},)\n"
        "def log_softmax_backward(d, p): return np.array([Bad()])\n"
    )
    found = {f.part.name: f for _, f in check_file(file)[0]}
    assert "a number or an array of numbers" in found["log_softmax_backward"].text
    assert not (tmp_path / "made").exists()


def test_a_file_may_import_what_lies_beside_it(tmp_path):
    (tmp_path / "helpers.py").write_text("def back(d, pi):\n    return d - pi * d.sum()\n")
    file = tmp_path / "mine.py"
    file.write_text("from helpers import back as log_softmax_backward\n")
    found = {f.part.name: f for _, f in check_file(file)[0]}
    assert found["log_softmax_backward"].verdict == "right"
    assert str(tmp_path) not in sys.path


# --- stubs and reports --------------------------------------------------------------------------


def test_solutions_name_the_lines_of_the_reference():
    source = Path(reference.__file__).read_text(encoding="utf-8").splitlines()
    for part in PARTS:
        for name, place in zip(part.lines, lines_of(part), strict=True):
            first, last = map(int, re.search(r"lines (\d+) to (\d+)", place).groups())
            assert source[first - 1].startswith(f"def {name}(")
            assert source[last - 1].startswith("    return")
            assert place in stubs()


def test_primitives_have_the_signatures_of_the_reference():
    primitives = [part for part in PARTS if hasattr(reference, part.name)]
    assert len(primitives) == 8
    for part in primitives:
        assert part.argument_names == list(signature(getattr(reference, part.name)).parameters)
    names = {}
    exec(stubs(), names)
    for part in PARTS:
        assert list(signature(names[part.name]).parameters) == part.argument_names


def test_hard_stubs_keep_the_question_and_leave_out_the_answer():
    text = stubs(hard=True)
    given = text.partition("def ")[2]
    assert not re.search(r"\bd_\w+ =", given)
    for part in PARTS:
        stub = text[text.index(f"def {part.name}(") :].partition("raise NotImplementedError")[0]
        task = part.task if part.name.endswith("backward") else part.task or part.equations
        assert task
        for line in task.splitlines():
            assert line in stub
        if part.task:
            assert re.search(r"\(\d+\)", part.task)
            assert part.task != part.equations


def test_numbering_from_0_is_said_once():
    assert stubs().count("count from 0") == 1
    assert "component 1" not in stubs()


@pytest.mark.parametrize("hard", [False, True])
def test_stubs_say_equation_shapes_and_hint(hard):
    text = stubs(hard)
    assert max(map(len, text.splitlines())) <= 100
    for part in PARTS:
        stub = text[text.index(f"def {part.name}(") :].partition("raise NotImplementedError")[0]
        asked = part.task if hard and part.task else part.equations
        for piece in (*part.arguments, part.hint, *asked.splitlines()):
            assert piece in stub


def test_start_writes_a_file_and_never_over_one(tmp_path, capsys):
    assert main(["exercises", "start", str(tmp_path / "new")]) == 0
    file = tmp_path / "new" / "exercises.py"
    assert file.read_text(encoding="utf-8") == stubs()
    (tmp_path / "another").touch()
    assert file.stat().st_mode == (tmp_path / "another").stat().st_mode
    file.write_text("mine")
    assert main(["exercises", "start", str(tmp_path / "new")]) == 2
    assert "may hold your work" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["exercises.py"]


def test_start_writes_the_hard_stubs(tmp_path):
    assert main(["exercises", "start", str(tmp_path), "--hard"]) == 0
    assert (tmp_path / "exercises.py").read_text(encoding="utf-8") == stubs(hard=True)


def test_start_leaves_nothing_where_a_disk_is_full(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    class Full(io.StringIO):
        write = full

    monkeypatch.setattr(Path, "open", lambda path, *_, **__: path.touch() or Full())
    with pytest.raises(OSError, match="disk full"):
        start(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_check_says_what_to_do_and_ends_with_its_code(tmp_path, capsys):
    file = start(tmp_path)
    assert main(["exercises", "check", str(file)]) == 1
    out = capsys.readouterr().out
    assert "0 of 12 functions are right." in out
    assert out.count("missing") == 12
    assert "gmm_np/reference.py, lines" in out
    file.write_text(
        "print('on its own')\n"
        + BY_HAND.replace(
            "    return d_value[:, None]", "    print('here')\n    return d_value[:, None]"
        )
    )
    assert main(["exercises", "check", str(file)]) == 0
    out = capsys.readouterr().out
    assert "12 of 12 functions are right: all exercises are done." in out
    assert out.startswith("The file printed:\n      | on its own\n\n1. logsumexp")
    assert "      It printed:\n      | here\n      Compare: " in out
    assert out.count("here") == 2  # once for its own calls, once for those of the whole
    assert out.count("Compare: gmm_np/reference.py, lines") == sum(len(p.lines) for p in PARTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ndef f(:\n", "line 2"),
        ("x = 1\n\ny = x / 0\n", "line 3: ZeroDivisionError"),
    ],
)
def test_a_file_that_does_not_run_is_exit_code_2(tmp_path, capsys, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    assert main(["exercises", "check", str(file)]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_file_is_exit_code_2_and_says_what_to_do(tmp_path, capsys):
    assert main(["exercises", "check", str(tmp_path / "none.py")]) == 2
    error = capsys.readouterr().err
    assert "none.py: there is no such file; `gmm-np exercises start DIR` writes one" in error
    assert "Errno" not in error
    assert main(["exercises", "check", str(tmp_path)]) == 2
    assert "is a directory" in capsys.readouterr().err


def test_help_says_that_the_file_is_run(capsys):
    with pytest.raises(SystemExit):
        main(["exercises", "check", "--help"])
    assert "The file is Python, and is run" in " ".join(capsys.readouterr().out.split())
