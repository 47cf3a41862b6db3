"""The live page's Python gives what the package gives, and its files fit together."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

import gmm_np
from gmm_np.conformance.mutants import MUTANTS
from gmm_np.lesson.exercise_set import PARTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "live"
TEXT = {path.name: path.read_text(encoding="utf-8") for path in PAGE.iterdir() if path.is_file()}

spec = importlib.util.spec_from_file_location("live", PAGE / "live.py")
live = importlib.util.module_from_spec(spec)
spec.loader.exec_module(live)


def ask(name, *arguments):
    return json.loads(live.ask(name, json.dumps(arguments)))


def answer(name, *arguments):
    return ask(name, *arguments)["answer"]


def arrays(parameters):
    return [np.array(parameters[name]) for name in ("pi_logits", "means", "scale")]


@pytest.fixture
def start():
    return answer("start", "clusters", 3, 0)


@pytest.mark.parametrize("data", live.DATA)
@pytest.mark.parametrize("n_components", [1, 2, 3, 4])
def test_page_shows_the_numbers_of_the_package(data, n_components):
    page = answer("describe_page")
    x = np.array(page["data"][data]["x"])
    parameters = answer("start", data, n_components, 1)
    shown = answer("evaluate", data, parameters)
    value, gradients = gmm_np.nll_value_and_grad(x, *arrays(parameters))
    assert shown["loss"] == value
    for name in ("pi_logits", "means", "scale"):
        np.testing.assert_array_equal(shown["down"][name], -getattr(gradients, name))
    resp = gmm_np.responsibilities(x, *arrays(parameters))
    np.testing.assert_allclose(shown["responsibilities"], resp, atol=5.1e-4)
    assert shown["mistake"] is None


def test_code_of_the_page_computes_its_loss(start, capsys):
    names = {}
    exec(answer("code", "faithful", start), names)
    assert names["value"] == answer("evaluate", "faithful", start)["loss"]
    assert repr(names["value"]) in capsys.readouterr().out


def test_gradient_step_ends_where_the_arrows_do(start):
    down = answer("evaluate", "clusters", start)["down"]
    taken = answer("step", "gradient", "clusters", start, 0.5)
    for name, values in taken["parameters"].items():
        want = np.array(start[name]) + 0.5 * np.array(down[name])
        np.testing.assert_allclose(values, want, rtol=1e-14)
    assert taken["note"] == ""


def test_gradient_step_keeps_diagonals_positive(start):
    start["scale"] = (np.array(start["scale"]) * 20).tolist()
    taken = answer("step", "gradient", "clusters", start, 1000.0)
    assert (np.diagonal(taken["parameters"]["scale"], axis1=1, axis2=2) > 0).all()
    assert "halved" in taken["note"]


def test_em_step_is_that_of_the_package(start):
    here = gmm_np.Parameters(*arrays(start))
    want = gmm_np.em_step(here, gmm_np.statistics(live.samples("clusters"), here))
    for name, values in answer("step", "em", "clusters", start)["parameters"].items():
        np.testing.assert_array_equal(values, getattr(want, name))


def test_newton_steps_go_down_to_a_stationary_point():
    start = answer("start", "faithful", 2, 1)  # where the trust region refuses the first step
    loss = answer("evaluate", "faithful", start)["loss"]
    taken = {"parameters": start, "note": ""}
    for _ in range(30):
        taken = answer("step", "newton", "faithful", taken["parameters"])
        shown = answer("evaluate", "faithful", taken["parameters"])
        assert shown["loss"] <= loss + 1e-12
        loss = shown["loss"]
        if taken["note"]:
            break
    assert "nothing left" in taken["note"]
    assert max(np.abs(block).max() for block in shown["down"].values()) < 1e-6


def test_mistakes_are_those_of_the_conformance_runner_by_what_they_change(start):
    found = {each["name"]: each for each in answer("mistakes", "clusters", start)}
    assert set(found) == set(MUTANTS["cholesky"]) - {"plain"}
    assert found["chol_gradient_sign"]["changes"] == "gradient"
    assert found["abs_log_sigma"]["changes"] == "value"
    assert found["sixteen_dimensions"]["changes"] == "nothing"
    right = answer("evaluate", "clusters", start)
    for name, each in found.items():
        wrong = answer("evaluate", "clusters", start, name)["mistake"]
        changes = "nothing" if wrong["down"] == right["down"] else "gradient"
        assert each["changes"] == ("value" if wrong["loss"] != right["loss"] else changes)


@pytest.mark.slow
def test_differences_catch_a_wrong_gradient_and_not_a_wrong_value(start):
    caught = answer("check", "clusters", start, "mean_gradient_sign")
    assert not caught["wrong"]["passed"]
    verdicts = {row["name"]: row["verdict"] for row in caught["wrong"]["rows"]}
    assert verdicts["means"].startswith("WRONG at")
    assert verdicts["scale_tril"] == verdicts["pi_logits"] == "ok"
    assert caught["right"]["passed"]
    missed = answer("check", "clusters", start, "abs_log_sigma")
    assert missed["wrong"]["passed"]
    assert "both_sides_of_one-002" in missed["vectors"]


@pytest.mark.parametrize("name", PARTS)
def test_exercises_are_graded_as_on_the_command_line(name):
    (own,) = [each for each in answer("exercises") if each["name"] == name]
    assert answer("grade", name, own["stub"])["verdict"] == "missing"
    assert answer("grade", name, own["hard"])["verdict"] == "missing"
    for line in PARTS[name].lines:
        assert f"def {line}(" in own["solution"]
    right = (
        "from gmm_np.lesson.exercise_set import PARTS\n"
        f"def {name}(*arguments):\n"
        f"    print('asked')\n"
        f"    outputs = PARTS[{name!r}].solution(*arguments)\n"
        "    return outputs if len(outputs) > 1 else outputs[0]\n"
    )
    assert answer("grade", name, right) == {
        "verdict": "right", "kind": "", "text": "", "hint": "", "printed": "asked\n",
    }  # fmt: skip


def test_wrong_answer_is_named():
    source = "def logsumexp_backward(d_value, softmax):\n    return d_value.sum() * softmax\n"
    found = answer("grade", "logsumexp_backward", source)
    assert found["kind"] == "a wrong reduction"


def test_functions_that_are_not_written_are_the_references():
    source = (
        "def log_softmax_forward(pi_logits):\n"
        "    value, pi = logsumexp_forward(pi_logits[None])\n"
        "    return pi_logits - value, pi[0]\n"
    )
    assert answer("grade", "log_softmax_forward", source)["verdict"] == "right"
    own = "def logsumexp_forward(terms):\n    return terms.sum(1), terms\n"
    assert answer("grade", "log_softmax_forward", own + source)["verdict"] == "wrong"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def f(:", "Line 1: "),
        ("\nx = 1 / 0", "Line 2: ZeroDivisionError"),
        ("import sys\nsys.exit(3)", "Line 2: SystemExit"),
        ("def logsumexp_backward(d, s):\n    exit(1)", "It raises"),
    ],
)
def test_source_that_does_not_run_is_told_with_its_line(source, says):
    found = answer("grade", "logsumexp_backward", source)
    assert found["verdict"] == "wrong"
    assert found["text"].startswith(says)


def test_what_is_not_finite_is_null_and_errors_are_told(start):
    start["means"][0] = [1e200, 0.0]
    json.loads(live.ask("evaluate", json.dumps(["clusters", start, "covariance_inverted"])))
    assert (
        "scale has diagonal"
        in ask("evaluate", "clusters", start | {"scale": [[[0, 0], [0, 1]]] * 3})["error"]
    )
    assert "no mistake" in ask("evaluate", "clusters", start, "no such")["error"]
    assert live._plain_json([np.nan, (np.float64(1), {"a": -np.inf})]) == [None, [1.0, {"a": None}]]


# --- files --------------------------------------------------------------------------------------


def test_scripts_find_the_elements_that_they_name():
    ids = re.findall(r'\bid="([\w-]+)"', TEXT["index.html"])
    assert len(ids) == len(set(ids))
    named = set(re.findall(r'\$\("([\w-]+)"\)', TEXT["live.js"]))
    named |= set(re.findall(r'onClick\("([\w-]+)"', TEXT["live.js"]))
    assert len(named) > 30
    assert named <= set(ids)
    labelled = re.findall(r'(?:aria-labelledby|for)="([\w-]+)"', TEXT["index.html"])
    assert set(labelled) <= set(ids)


def test_page_asks_for_functions_that_there_are():
    asked = set(re.findall(r'python\.ask(?:For)?\((?:PATIENCE, )?"(\w+)"', TEXT["live.js"]))
    assert asked == set(live._ASKED)


def test_each_component_has_a_colour_and_a_marker_in_light_and_dark():
    counts = re.findall(r"<option(?: selected)?>(\d)</option>", TEXT["index.html"])
    most = int(counts[-1])
    light, dark = TEXT["live.css"].split("@media (prefers-color-scheme: dark)", 1)
    for k in range(most):
        for scheme in (light, dark):
            assert re.search(rf"--component-{k}: #[0-9a-f]{{6}};", scheme)
        assert f".of-{k} {{ --own: var(--component-{k}); }}" in TEXT["live.css"]
    markers = TEXT["plot.js"].partition("const MARKERS = [")[2].partition("];")[0]
    assert len(re.findall(r'"M', markers)) == most


def test_only_the_builder_says_where_pyodide_is():
    script = (PAGE.parents[1] / "scripts" / "live_page.py").read_text(encoding="utf-8")
    (version,) = re.findall(r"pyodide/v([\d.]+)/full/", script)
    assert version == "0.27.7"
    assert not [name for name, text in TEXT.items() if "//" in text and "jsdelivr" in text]
