"""Chapter three of the exercises, a network trained by hand: stubs, solutions and mistakes."""

import numpy as np
import pytest

from gmm_np import check_grad, mdn
from gmm_np.cli import main
from gmm_np.lesson import network
from gmm_np.lesson.calls import call
from gmm_np.lesson.exercise_set import PARTS
from gmm_np.lesson.exercises import CHAPTERS, check_file, lines_of, start, stubs
from gmm_np.lesson.grading import grade, judge
from gmm_np.lesson.second_exercises import SECOND_PARTS
from gmm_np.lesson.third_exercises import THIRD, THIRD_PARTS
from gmm_np.lesson.wrong_forms import HINTS, ROWS, TERMS

# What a learner might write, in other forms than those of the solution.
BY_HAND = """
import numpy as np

def row_loss_forward(x, pi_logits, means, deviations):
    a = pi_logits - pi_logits.max(axis=1, keepdims=True)
    log_pi = a - np.log(np.exp(a).sum(axis=1, keepdims=True))
    q = (((x[:, None, :] - means) / deviations[:, :, None]) ** 2).sum(axis=2)
    D = x.shape[1]
    t = log_pi - q / 2 - D * np.log(deviations) - D / 2 * np.log(2 * np.pi)
    top = t.max(axis=1, keepdims=True)
    terms = np.exp(t - top)
    l = top[:, 0] + np.log(terms.sum(axis=1))
    resp = terms / terms.sum(axis=1, keepdims=True)
    return -np.mean(l), resp

def row_loss_backward(x, pi_logits, means, deviations, resp):
    N, D = x.shape
    a = np.exp(pi_logits - pi_logits.max(axis=1, keepdims=True))
    pi = a / a.sum(axis=1, keepdims=True)
    s = deviations[:, :, None]
    e = x[:, None, :] - means
    share = resp / N
    d_means = -share[:, :, None] * e / s**2
    d_deviations = -share * (np.sum(e**2, axis=2) / deviations**3 - D / deviations)
    return (pi - resp) / N, d_means, d_deviations

def head_forward(outputs, n_components):
    N, K = len(outputs), n_components
    u = outputs[:, -K:]
    means = outputs[:, K:-K].reshape(N, K, -1)
    return outputs[:, :K], means, np.maximum(u, 0) + np.log1p(np.exp(-abs(u)))

def head_backward(outputs, d_pi_logits, d_means, d_deviations):
    N, K = d_pi_logits.shape
    u = outputs[:, -K:]
    slope = 0.5 * (1 + np.tanh(u / 2))
    return np.hstack([d_pi_logits, d_means.reshape(N, -1), d_deviations * slope])

def network_backward(d_outputs, inputs, hidden, w2):
    d_hidden = d_outputs @ w2.T
    d_raw = d_hidden * (1 - hidden**2)
    d_w2 = np.einsum("nh,np->hp", hidden, d_outputs)
    return inputs.T @ d_raw, d_raw.sum(axis=0), d_w2, d_outputs.sum(axis=0)

def train(inputs, targets, w1, b1, w2, b2, n_components, rate, n_steps):
    w = [w1, b1, w2, b2]
    for _ in range(n_steps):
        hidden = np.tanh(inputs @ w[0] + w[1])
        outputs = hidden @ w[2] + w[3]
        mixtures = head_forward(outputs, n_components)
        value, resp = row_loss_forward(targets, *mixtures)
        d_outputs = head_backward(outputs, *row_loss_backward(targets, *mixtures, resp))
        d = network_backward(d_outputs, inputs, hidden, w[2])
        w = [block - rate * d_block for block, d_block in zip(w, d)]
    return tuple(w)
"""
# Function, what stands in BY_HAND, what stands there in its place, the kind, and what is said.
MISTAKES = [
    ("row_loss_forward", "-np.mean(l)", "-np.mean(np.sum(np.exp(log_pi) * t, axis=1))",
     "one thing taken for another", "a mean of logs for the log of a mean"),
    ("row_loss_forward", "-np.mean(l)", "-np.mean(np.sum(np.exp(log_pi) * (t - log_pi), axis=1))",
     "one thing taken for another", "a mean of logs for the log of a mean"),
    ("row_loss_forward", "-np.mean(l)", "-np.sum(l)", "a wrong reduction", "multiplied by N"),
    ("row_loss_forward", "-np.mean(l)", "np.mean(l)", "a sign", "opposite sign"),
    ("row_loss_forward", "np.exp(a).sum(axis=1, keepdims=True)", "np.exp(a).sum(axis=0)",
     "a wrong reduction", "the sum of the softmax is over the rows"),
    ("row_loss_forward", "log_pi - q / 2", "pi_logits - q / 2", "a missing term",
     "not normalised"),
    ("row_loss_forward", "D * np.log(deviations)", "np.log(deviations)", "a missing term",
     "D before log s"),
    ("row_loss_forward", " - D / 2 * np.log(2 * np.pi)", "", "a missing term", "the constant"),
    ("row_loss_forward", "resp = terms / terms.sum(axis=1, keepdims=True)",
     "resp = np.exp(t - t.max(axis=0)) / np.exp(t - t.max(axis=0)).sum(axis=0)",
     "a wrong reduction", "over the rows, not over the components"),
    ("row_loss_forward", "resp = terms / terms.sum(axis=1, keepdims=True)", "resp = np.exp(t)",
     "a missing term", "not normalised"),
    ("row_loss_backward", "a.sum(axis=1, keepdims=True)", "a.sum(axis=0)",
     "a wrong reduction", "the sum of the softmax is over the rows"),
    ("row_loss_backward", "(pi - resp) / N", "-resp / N", "a missing term", "the term with pi"),
    ("row_loss_backward", "(pi - resp) / N", "(pi - resp)", "a wrong reduction",
     "multiplied by N"),
    ("row_loss_backward", "e / s**2", "e / s", "a missing term", "the square"),
    ("row_loss_backward", "share[:, :, None] * e", "pi[:, :, None] / N * e",
     "one thing taken for another", "pi for the responsibilities"),
    ("row_loss_backward", "d_means = -share", "d_means = share", "a sign", "opposite sign"),
    ("row_loss_backward", "D / deviations)", "1 / deviations)", "a missing term", "D before 1 / s"),
    ("row_loss_backward", " - D / deviations)", ")", "a missing term", "log-determinant"),
    ("row_loss_backward", "return (pi - resp) / N, d_means",
     "return (pi - resp) / N, d_means.sum(axis=0)", "a wrong reduction", "as for one mixture"),
    ("head_forward", "np.maximum(u, 0) + np.log1p(np.exp(-abs(u)))", "np.exp(u)",
     "one thing taken for another", "exp for softplus"),
    ("head_forward", "np.maximum(u, 0) + np.log1p(np.exp(-abs(u)))", "np.log(1 + np.exp(u))",
     "overflow", "lost for large ones"),
    ("head_forward", ".reshape(N, K, -1)", ".reshape(N, -1, K).swapaxes(1, 2)", "a transpose",
     "dimension by dimension"),
    ("head_backward", "d_deviations * slope", "d_deviations", "a missing term", "the slope"),
    ("head_backward", "d_deviations * slope", "d_deviations * np.exp(u)",
     "one thing taken for another", "the slope of exp"),
    ("head_backward", "[d_pi_logits, d_means.reshape(N, -1), d_deviations * slope]",
     "[d_means.reshape(N, -1), d_pi_logits, d_deviations * slope]",
     "one thing taken for another", "another order"),
    ("network_backward", "d_hidden * (1 - hidden**2)", "d_hidden", "a missing term",
     "the slope of tanh"),
    ("network_backward", "1 - hidden**2", "1 - np.tanh(hidden)**2",
     "one thing taken for another", "once more"),
    ("network_backward", "d_outputs.sum(axis=0)", "d_outputs.mean(axis=0)", "a wrong reduction",
     "divided by N"),
    ("train", "block - rate", "block + rate", "a sign", "uphill"),
    ("train", "range(n_steps)", "range(n_steps - 1)", "a missing term", "one step"),
    ("train", "        w = [block - rate * d_block for block, d_block in zip(w, d)]",
     "        w = [w[0] - rate * d[0], w[1], w[2] - rate * d[2], w[3]]", "a missing term",
     "the biases"),
    ("train", "d = network_backward(d_outputs, inputs, hidden, w[2])",
     "d = network_backward(d_outputs, inputs, hidden, w[2] - rate * hidden.T @ d_outputs)",
     "one thing taken for another", "w2 has moved"),
]  # fmt: skip


def names_of(text):
    names = {}
    exec(compile(text, "third_exercises.py", "exec"), names)
    return names


def findings(text):
    """Judge without a process of its own, which takes a second to start."""
    names = names_of(text)
    found = grade(lambda part, right: call(part, names, right), THIRD)
    return {finding.part.name: finding for _, finding in found}


def planted(function, old, new):
    """BY_HAND with a mistake in a function."""
    first = BY_HAND.index(f"def {function}(")
    last = BY_HAND.find("\ndef ", first)
    body = BY_HAND[first : last if last > 0 else None]
    assert body.count(old) == 1
    return BY_HAND.replace(body, body.replace(old, new))


def test_names_and_titles_are_of_this_chapter_alone():
    assert not set(THIRD_PARTS) & {*PARTS, *SECOND_PARTS}
    titles = [exercise.title for each in CHAPTERS.values() for exercise in each]
    assert len(set(titles)) == len(titles)


def test_lines_of_the_solutions_are_there():
    for part in THIRD_PARTS.values():
        for place in lines_of(part):
            assert place.startswith("gmm_np/lesson/network.py, lines ")


@pytest.mark.parametrize("hard", [False, True])
def test_every_stub_fails(hard):
    found = findings(stubs(hard, 3))
    assert {finding.verdict for finding in found.values()} == {"missing"}
    assert list(found) == list(THIRD_PARTS)


def test_hard_stubs_do_not_have_the_formulas():
    easy, hard = stubs(chapter=3), stubs(hard=True, chapter=3)
    for formula in ("(pi_nk - resp_nk) / N", "d_s_nk / (1 + exp", "(1 - hidden^2)"):
        assert formula in easy
        assert formula not in hard


def test_a_solution_by_hand_is_right():
    assert {f.verdict for f in findings(BY_HAND).values()} == {"right"}


def test_solutions_are_those_of_the_engine():
    rows = THIRD_PARTS["row_loss_backward"].draw(np.random.default_rng(7))
    value, d = mdn.nll_value_and_grad(*rows[:4], family="spherical")
    assert network.row_loss_forward(*rows[:4])[0] == pytest.approx(value, rel=1e-13)
    for mine, theirs in zip(network.row_loss_backward(*rows), d[:3], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-13)
    head = mdn.MixtureHead(4, 3, family="spherical")
    outputs, *_ = THIRD_PARTS["head_backward"].draw(np.random.default_rng(7))
    mixtures = head.forward(outputs)
    for mine, theirs in zip(network.head_forward(outputs, 4), mixtures, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_allclose(
        network.head_backward(outputs, *d[:3]), head.backward(outputs, d), rtol=1e-14
    )


def test_gradient_of_the_network_agrees_with_differences_and_training_lowers_the_loss():
    inputs, targets, *rest = THIRD_PARTS["train"].draw(np.random.default_rng(8))
    blocks, n_components = rest[:4], rest[4]

    def loss(*blocks):
        hidden = np.tanh(inputs @ blocks[0] + blocks[1])
        mixtures = network.head_forward(hidden @ blocks[2] + blocks[3], n_components)
        return network.row_loss_forward(targets, *mixtures)[0]

    def value_and_grad(w1, b1, w2, b2):
        found = network.gradient(inputs, targets, (w1, b1, w2, b2), n_components)
        return loss(w1, b1, w2, b2), found

    assert check_grad(value_and_grad, dict(zip(("w1", "b1", "w2", "b2"), blocks, strict=True)))
    trained = network.train(inputs, targets, *blocks, n_components, 0.05, 25)
    assert loss(*trained) < loss(*blocks) - 0.2


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m[0]}: {m[4]}")
def test_mistakes_are_named(mistake):
    function, old, new, kind, text = mistake
    part = THIRD_PARTS[function]
    finding = judge(part, call(part, names_of(planted(function, old, new))))
    assert (finding.verdict, finding.kind) == ("wrong", kind), finding
    assert text in finding.text
    assert finding.hint


def test_every_wrong_form_differs_from_the_right_answer():
    """By far more than the tolerance of 1e-9, or what is right might be called wrong."""
    seen = 0
    for part in THIRD_PARTS.values():
        for place, output in enumerate(part.output_names):
            for form in ROWS[f"{part.name}.{output}"]:
                assert form.kind in HINTS
                for arguments in part.cases()[:3]:
                    right = np.asarray(part.solution(*arguments)[place])
                    wrong = np.asarray(form.wrong(*arguments))
                    assert (
                        right.shape != wrong.shape
                        or np.abs(right - wrong).max() > 1e-7 * np.abs(right).max()
                    ), (output, form.name)
                seen += 1
    assert seen > 120


def test_terms_of_the_right_answers_add_up_to_them():
    for part in THIRD_PARTS.values():
        for place, output in enumerate(part.output_names):
            key = f"{part.name}.{output}"
            if key in TERMS:
                for arguments in part.cases():
                    right = part.solution(*arguments)[place]
                    np.testing.assert_allclose(sum(TERMS[key][1](*arguments)), right, atol=1e-14)


def test_training_with_a_wrong_gradient_follows_from_it():
    found = findings(planted("network_backward", "d_hidden * (1 - hidden**2)", "d_hidden"))
    assert found["network_backward"].verdict == "wrong"
    assert found["train"].verdict == "follows"
    assert "network_backward" in found["train"].text


def test_command_writes_the_stubs_and_judges_the_file(tmp_path, capsys):
    assert main(["exercises", "start", str(tmp_path), "--chapter", "3"]) == 0
    file = tmp_path / "third_exercises.py"
    assert file.read_text(encoding="utf-8") == stubs(chapter=3)
    assert f"gmm-np exercises check --chapter 3 {file}" in capsys.readouterr().out
    with pytest.raises(FileExistsError, match="may hold your work"):
        start(tmp_path, chapter=3)
    file.write_text(BY_HAND, encoding="utf-8")
    assert main(["exercises", "check", str(file), "--chapter", "3"]) == 0
    out = capsys.readouterr().out
    assert "4. training on the inverse problem, equations of docs/mdn.ipynb" in out
    assert "6 of 6 functions are right: all exercises are done." in out
    assert {finding.verdict for _, finding in check_file(file)[0]} == {"missing"}
