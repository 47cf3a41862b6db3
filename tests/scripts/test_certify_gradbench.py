"""The script that certifies GradBench's answers: what it asks and reads, and how it compares."""

import importlib.util
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from gmm_np.parametrizations import precision_value_and_grad

ROOT = Path(__file__).parents[2]
SIZES = {"n": 6, "m": 1, "gamma": 0.75, "seed": 31337}


@pytest.fixture(scope="module")
def script():
    path = ROOT / "scripts" / "certify_gradbench.py"
    spec = importlib.util.spec_from_file_location("certify_gradbench", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exact(given):
    """What stands in for certified values here: this library's, as decimals."""
    x, alpha, mu, q, lower = (np.array(given[name]) for name in ("x", "alpha", "mu", "q", "l"))
    value, gradients = precision_value_and_grad(
        x, alpha, mu, q, lower, gamma=given["gamma"], m=given["m"]
    )
    texts = {"objective": [repr(value)]}
    for name, gradient in zip(("alpha", "mu", "q", "l"), gradients, strict=True):
        texts[name] = [repr(v) for v in gradient.ravel().tolist()]
    return texts


def rows(printed):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()[2:]]


def test_inputs_are_drawn_in_the_order_of_the_eval(script):
    given = script.generated(d=3, k=2, **SIZES)
    rng = np.random.default_rng(31337)
    normal = rng.normal(size=(6, 3)), rng.normal(size=2)
    assert np.array_equal(given["x"], normal[0])
    assert np.array_equal(given["alpha"], normal[1])
    assert np.array_equal(given["mu"], rng.uniform(size=(2, 3)))
    assert np.array_equal(given["q"], rng.normal(size=(2, 3)))
    assert np.array_equal(given["l"], rng.normal(size=(2, 3)))
    assert (given["d"], given["k"], given["n"], given["m"], given["gamma"]) == (3, 2, 6, 1, 0.75)


def test_tool_is_asked_and_its_answers_are_compared(script, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(script, "certified", exact)
    tool = shlex.join([sys.executable, "-m", "gmm_np.conformance.gradbench"])
    options = ["--tool", tool, "-d", "2", "-k", "3", "-n", "6"]
    monkeypatch.setattr(sys, "argv", ["certify_gradbench.py", *options])
    script.main()
    found = rows(capsys.readouterr().out)
    functions = [("objective", "objective"), *(("jacobian", n) for n in ("alpha", "mu", "q", "l"))]
    assert [tuple(row[1:3]) for row in found] == functions
    assert all(float(row[3]) > 13 for row in found)


def test_log_of_a_session_is_read_and_a_wrong_answer_seen(script, monkeypatch, capsys, tmp_path):
    given = script.generated(d=1, k=2, **SIZES)
    right = float(exact(given)["objective"][0])
    evaluate = {"kind": "evaluate", "module": "gmm", "function": "objective", "input": given}
    lines = [{"message": {"id": 0, "kind": "start"}}, {"response": {"id": 0}}]
    for number, value in enumerate((right, right * 1.001, float("nan")), 1):
        lines += [{"message": {"id": number, **evaluate, "description": str(number)}}]
        lines += [{"response": {"id": number, "success": True, "output": value}}]
    lines += [{"message": {"id": 9, **evaluate}}, {"response": {"id": 9, "success": False}}]
    log = tmp_path / "session.jsonl"
    log.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    monkeypatch.setattr(script, "certified", exact)
    monkeypatch.setattr(sys, "argv", ["certify_gradbench.py", "--log", str(log)])
    script.main()
    first, second, third = rows(capsys.readouterr().out)
    assert (first[0], first[3]) == ("1", "15.9")
    assert float(first[4]) < 1e-15
    assert float(second[3]) == pytest.approx(3.0, abs=0.1)
    assert float(second[4]) == pytest.approx(0.001 / 2.001, rel=0.1)
    assert (third[3], third[4]) == ("0.0", "nan")


def test_what_is_too_large_is_said_to_be(script, monkeypatch, capsys, tmp_path):
    given = {"d": 64, "k": 100, "n": 1000}
    message = {"id": 1, "kind": "evaluate", "module": "gmm", "function": "objective"}
    lines = [{"message": {**message, "input": given}}]
    lines += [{"response": {"id": 1, "success": True, "output": 1.0}}]
    log = tmp_path / "session.jsonl"
    log.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["certify_gradbench.py", "--log", str(log)])
    script.main()
    assert "too large to certify" in capsys.readouterr().out


def test_numbers_that_are_missing_are_told(script):
    with pytest.raises(SystemExit, match="1 numbers for 2"):
        script.compared([1.0], ["1", "2"])
