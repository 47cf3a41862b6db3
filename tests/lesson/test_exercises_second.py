"""Chapter two of the exercises: stubs fail, solutions pass, mistakes are called by their names."""

import numpy as np
import pytest

from gmm_np import reference
from gmm_np.cli import main
from gmm_np.lesson.calls import call
from gmm_np.lesson.exercise_set import EXERCISES
from gmm_np.lesson.exercises import check_file, lines_of, start, stubs
from gmm_np.lesson.grading import grade, judge
from gmm_np.lesson.second_exercises import SECOND, SECOND_PARTS
from gmm_np.lesson.wrong_forms import HINTS, ROWS, TERMS

# What a learner might write, with the tangents in other forms than those of the reference.
BY_HAND = """
import numpy as np
from scipy.linalg import solve_triangular

from gmm_np import reference

def logsumexp_tangent(dot_terms, softmax):
    dot_value = np.einsum("nk,nk->n", softmax, dot_terms)
    return dot_value, softmax * dot_terms - softmax * dot_value[:, None]

def logsumexp_backward_tangent(dot_d_value, d_value, softmax, dot_softmax):
    return dot_softmax * d_value[:, None] + softmax * dot_d_value[:, None]

def quadratic_form_tangent(dot_x, dot_mean, dot_factor, factor, z):
    right = dot_x - dot_mean - z @ dot_factor.T
    dot_z = solve_triangular(factor, right.T, lower=True).T
    return 2 * np.sum(z * dot_z, axis=1), dot_z

def quadratic_form_backward_tangent(dot_d_quadratic, d_quadratic, factor, dot_factor, z, dot_z):
    y = solve_triangular(factor, z.T, lower=True, trans="T").T
    dot_y = solve_triangular(factor, (dot_z - y @ dot_factor).T, lower=True, trans="T").T
    d_e = 2 * d_quadratic[:, None] * y
    dot_d_e = 2 * dot_d_quadratic[:, None] * y + 2 * d_quadratic[:, None] * dot_y
    return dot_d_e, -dot_d_e.sum(axis=0), -np.tril(dot_d_e.T @ z + d_e.T @ dot_z)

def nll_hvp(
    x, pi_logits, means, scale_tril, dot_pi_logits, dot_means, dot_scale_tril, dot_x
):
    N, K = len(x), len(means)
    _, cache = reference.nll_forward(x, pi_logits, means, scale_tril)
    pi, resp = cache.pi, cache.resp
    dot_log_pi = dot_pi_logits - pi @ dot_pi_logits
    dot_pi = pi * dot_log_pi
    dot_t, dot_z = np.empty((N, K)), []
    for k in range(K):
        component = dot_x, dot_means[k], dot_scale_tril[k], scale_tril[k], cache.z[k]
        dot_q, dot_z_k = quadratic_form_tangent(*component)
        dot_h = np.sum(np.diag(dot_scale_tril[k]) / np.diag(scale_tril[k]))
        dot_t[:, k] = dot_log_pi[k] - dot_q / 2 - dot_h
        dot_z.append(dot_z_k)
    _, dot_resp = logsumexp_tangent(dot_t, resp)
    d_l = np.full(N, -1 / N)
    d_t = resp * d_l[:, None]
    dot_d_t = logsumexp_backward_tangent(np.zeros(N), d_l, resp, dot_resp)
    d_log_pi, dot_d_log_pi = d_t.sum(axis=0), dot_d_t.sum(axis=0)
    dot_logits = dot_d_log_pi - dot_pi * d_log_pi.sum() - pi * dot_d_log_pi.sum()
    dot_d_x = np.zeros(x.shape)
    dot_d_means, dot_d_factors = np.zeros(means.shape), np.zeros(scale_tril.shape)
    for k in range(K):
        L, dot_L = scale_tril[k], dot_scale_tril[k]
        dot_d_x_k, dot_d_means[k], dot_d_factors[k] = quadratic_form_backward_tangent(
            -dot_d_t[:, k] / 2, -d_t[:, k] / 2, L, dot_L, cache.z[k], dot_z[k]
        )
        d_h, dot_d_h = -d_t[:, k].sum(), -dot_d_t[:, k].sum()
        rate = np.diag(dot_L) / np.diag(L)
        dot_d_factors[k] += np.diag((dot_d_h - d_h * rate) / np.diag(L))
        dot_d_x += dot_d_x_k
    return dot_logits, dot_d_means, dot_d_factors, dot_d_x
"""
# Function, what stands in BY_HAND, what stands there in its place, the kind, and what is said.
MISTAKES = [
    ("logsumexp_tangent", '"nk,nk->n", softmax, dot_terms', '"nk->n", dot_terms',
     "a missing term", "the softmax does not enter"),
    ("logsumexp_tangent", "softmax * dot_terms - softmax * dot_value[:, None]",
     "softmax * dot_terms", "a missing term", "the term with dot_value"),
    ("logsumexp_tangent", "softmax * dot_terms - softmax * dot_value[:, None]",
     "softmax * (1 - softmax) * dot_terms", "one thing taken for another", "only the diagonal"),
    ("logsumexp_tangent", "softmax * dot_terms - softmax", "softmax * dot_terms + softmax",
     "a sign", "dot_value has the opposite sign"),
    ("logsumexp_backward_tangent", " + softmax * dot_d_value[:, None]", "",
     "a missing term", "the term with dot_d_value"),
    ("logsumexp_backward_tangent", "dot_softmax * d_value[:, None] + ", "",
     "a missing term", "the term with dot_softmax"),
    ("logsumexp_backward_tangent", "dot_softmax * d_value[:, None] + softmax * dot_d_value",
     "softmax * d_value[:, None] + dot_softmax * dot_d_value",
     "one thing taken for another", "changed places"),
    ("quadratic_form_tangent", " - z @ dot_factor.T", "", "a missing term", "stands still"),
    ("quadratic_form_tangent", "z @ dot_factor.T", "z @ dot_factor", "a transpose", "dot_L^T z"),
    ("quadratic_form_tangent", "- z @", "+ z @", "a sign", "that of dot_L z"),
    ("quadratic_form_tangent", "2 * np.sum(", "np.sum(", "a factor of two", "half"),
    ("quadratic_form_tangent", "2 * np.sum(z * dot_z, axis=1)", "np.sum(dot_z ** 2, axis=1)",
     "one thing taken for another", "the square of the rate"),
    ("quadratic_form_backward_tangent", "(dot_z - y @ dot_factor).T", "dot_z.T",
     "a missing term", "the factor stands still"),
    ("quadratic_form_backward_tangent", "y @ dot_factor)", "y @ dot_factor.T)",
     "a transpose", "dot_L y for dot_L^T y"),
    ("quadratic_form_backward_tangent", "2 * dot_d_quadratic[:, None] * y + 2", "2",
     "a missing term", "the term with dot_d_quadratic"),
    ("quadratic_form_backward_tangent", "dot_d_e.T @ z + d_e.T @ dot_z", "dot_d_e.T @ z",
     "a missing term", "the term with d_e dot_z^T"),
    ("quadratic_form_backward_tangent", "-np.tril(dot_d_e.T @ z + d_e.T @ dot_z)",
     "-(dot_d_e.T @ z + d_e.T @ dot_z)", "an upper triangle", "above the diagonal"),
    ("quadratic_form_backward_tangent", "d_e.T @ dot_z)", "dot_z.T @ d_e)",
     "a transpose", "dot_z d_e^T for d_e dot_z^T"),
    ("nll_hvp", "d_l, resp, dot_resp)", "d_l, resp, 0 * dot_resp)",
     "a missing term", "the responsibilities stand still"),
    ("nll_hvp", "dot_d_log_pi - dot_pi * d_log_pi.sum()", "dot_d_log_pi",
     "a missing term", "the weights stand still"),
    ("nll_hvp", "dot_d_h - d_h * rate", "dot_d_h", "a missing term", "dot_L_ii"),
    ("nll_hvp", "dot_d_h - d_h * rate", "dot_d_h + d_h * rate", "a sign", "d_h dot_L_ii / L_ii"),
    ("nll_hvp", "dot_d_factors[k] += np.diag", "np.diag", "a missing term", "determinant's part"),
    ("nll_hvp", "np.full(N, -1 / N)", "np.full(N, -1.0)", "a wrong reduction", "multiplied by N"),
    ("nll_hvp", "cache.z[k], dot_z[k]", "cache.z[k], 0 * dot_z[k]",
     "a missing term", "the residuals stand still"),
]  # fmt: skip


def names_of(text):
    names = {}
    exec(compile(text, "second_exercises.py", "exec"), names)
    return names


def findings(text):
    """Judge without a process of its own, which takes a second to start."""
    names = names_of(text)
    found = grade(lambda part, right: call(part, names, right), SECOND)
    return {finding.part.name: finding for _, finding in found}


def planted(function, old, new):
    """BY_HAND with a mistake in a function."""
    first = BY_HAND.index(f"def {function}(")
    last = BY_HAND.find("\ndef ", first)
    body = BY_HAND[first : last if last > 0 else None]
    assert body.count(old) == 1
    return BY_HAND.replace(body, body.replace(old, new))


def test_three_exercises_with_names_of_their_own():
    assert len(SECOND) == 3
    assert list(SECOND_PARTS) == [p.name for exercise in SECOND for p in exercise.parts]
    first = {part.name for exercise in EXERCISES for part in exercise.parts}
    assert not first & set(SECOND_PARTS)
    assert not {exercise.title for exercise in EXERCISES} & {e.title for e in SECOND}
    for part in SECOND_PARTS.values():
        assert lines_of(part)
        assert part.task  # the formulas can be left out


@pytest.mark.parametrize("hard", [False, True])
def test_every_stub_fails(hard):
    found = findings(stubs(hard, 2))
    assert {name: finding.verdict for name, finding in found.items()} == dict.fromkeys(
        SECOND_PARTS, "missing"
    )


def test_hard_stubs_do_not_have_the_formulas():
    easy, hard = stubs(chapter=2), stubs(hard=True, chapter=2)
    for formula in ("dot_softmax_nk d_value_n", "L^T dot_y_n", "dot_pi_k sum_j", "L dot_z_n"):
        assert formula in easy
        assert formula not in hard


def test_a_solution_by_hand_is_right():
    assert {f.verdict for f in findings(BY_HAND).values()} == {"right"}


def test_the_answers_are_rates_of_what_the_first_chapter_gives():
    """By central differences of its gradients: the exercises ask for what they say."""
    rng = np.random.default_rng(0)
    step = 1e-6
    x, logits, means, factors, *moves = SECOND_PARTS["nll_hvp"].draw(rng)
    dot_logits, dot_means, dot_factors, dot_x = moves
    ends = []
    for s in (step, -step):
        _, cache = reference.nll_forward(
            x + s * dot_x, logits + s * dot_logits, means + s * dot_means, factors + s * dot_factors
        )
        ends.append(reference.nll_backward(cache))
    right = SECOND_PARTS["nll_hvp"].solution(x, logits, means, factors, *moves)
    for plus, minus, wanted in zip(*ends, right, strict=True):
        np.testing.assert_allclose((plus - minus) / (2 * step), wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m[0]}: {m[4]}")
def test_mistakes_are_named(mistake):
    function, old, new, kind, text = mistake
    part = SECOND_PARTS[function]
    finding = judge(part, call(part, names_of(planted(function, old, new))))
    assert (finding.verdict, finding.kind) == ("wrong", kind), finding
    assert text in finding.text
    assert finding.hint


def test_every_wrong_form_differs_from_the_right_answer():
    """On each case by far more than a tolerance, or what is right might be called wrong."""
    seen = 0
    for part in SECOND_PARTS.values():
        for place, output in enumerate(part.output_names):
            for form in ROWS[f"{part.name}.{output}"]:
                assert form.kind in HINTS
                differs = []
                for arguments in part.cases():
                    right = np.asarray(part.solution(*arguments)[place])
                    wrong = np.asarray(form.wrong(*arguments))
                    differs.append(
                        right.shape != wrong.shape
                        or np.abs(right - wrong).max() > 1e-3 * np.abs(right).max()
                    )
                if part.name == "nll_hvp" and form.kind == "a missing term" and not any(differs):
                    continue  # what an output does not depend on
                assert all(differs), (output, form.name)
                seen += 1
    assert seen > 80


def test_terms_of_the_right_answers_add_up_to_them():
    for part in SECOND_PARTS.values():
        for place, output in enumerate(part.output_names):
            key = f"{part.name}.{output}"
            if key in TERMS:
                for arguments in part.cases():
                    right = part.solution(*arguments)[place]
                    np.testing.assert_allclose(sum(TERMS[key][1](*arguments)), right, rtol=1e-10)


def test_what_follows_from_another_function_is_said_to():
    text = planted("quadratic_form_tangent", "- z @", "+ z @")
    found = findings(text)
    assert found["quadratic_form_tangent"].verdict == "wrong"
    assert found["nll_hvp"].verdict == "follows"


def test_command_writes_the_stubs_and_judges_the_file(tmp_path, capsys):
    assert main(["exercises", "start", str(tmp_path), "--chapter", "2"]) == 0
    file = tmp_path / "second_exercises.py"
    assert file.read_text(encoding="utf-8") == stubs(chapter=2)
    assert f"gmm-np exercises check --chapter 2 {file}" in capsys.readouterr().out
    with pytest.raises(FileExistsError, match="may hold your work"):
        start(tmp_path, chapter=2)
    assert main(["exercises", "check", str(file), "--chapter", "2"]) == 1
    out = capsys.readouterr().out
    assert "0 of 5 functions are right" in out
    assert "3. the Hessian along a direction, equations (50)" in out
    file.write_text(BY_HAND, encoding="utf-8")
    assert main(["exercises", "check", str(file), "--chapter", "2"]) == 0
    assert "5 of 5 functions are right: all exercises are done." in capsys.readouterr().out


def test_the_two_chapters_do_not_mix(tmp_path):
    file = tmp_path / "second_exercises.py"
    file.write_text(BY_HAND, encoding="utf-8")
    found = {finding.part.name for _, finding in check_file(file, chapter=2)[0]}
    assert found == set(SECOND_PARTS)
    assert {finding.verdict for _, finding in check_file(file)[0]} == {"missing"}
