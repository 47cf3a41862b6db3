"""GradBench's protocol and its module "gmm": an exchange as its eval has it, message by message."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gmm_np.conformance import read_vectors
from gmm_np.conformance.compare import Answered, judge
from gmm_np.conformance.gradbench import replies

# As the eval sends it, but smaller.
SMALL = {
    "d": 1,
    "k": 2,
    "n": 3,
    "x": [[0.5], [-1.25], [2.0]],
    "m": 1,
    "gamma": 0.75,
    "alpha": [0.25, -0.5],
    "mu": [[0.5], [-0.75]],
    "q": [[0.125], [-0.25]],
    "l": [[], []],
}
RUNS = {"min_runs": 3, "min_seconds": 0}
OBJECTIVE = -9.712322170152646
JACOBIAN = {
    "alpha": [-0.010160785565131114, 0.010160785565131114],
    "mu": [[0.9777152734538193], [0.12393570889954757]],
    "q": [[-1.480031414140976], [0.8091529297896375]],
    "l": [[], []],
}
# What the eval sends, and what is answered: recorded, timings left out.
EXCHANGE = [
    ({"kind": "start", "eval": "gmm", "config": {"seed": 31337}}, {"tool": "gmm_np"}),
    ({"kind": "define", "module": "gmm"}, {"success": True}),
    (
        {"kind": "evaluate", "module": "gmm", "function": "objective", "input": SMALL | RUNS},
        {"success": True, "output": OBJECTIVE},
    ),
    ({"kind": "analysis", "of": 2, "valid": True}, {}),
    (
        {"kind": "evaluate", "module": "gmm", "function": "jacobian", "input": SMALL | RUNS},
        {"success": True, "output": JACOBIAN},
    ),
    ({"kind": "analysis", "of": 4, "valid": False, "error": "Expected tau, got e."}, {}),
    ({"kind": "something new"}, {}),
]
CASES = [c for f in read_vectors(names=["wishart_objective"]) for c in f.cases]


def answer(*messages):
    lines = [json.dumps({"id": i, **message}) for i, message in enumerate(messages)]
    return [json.loads(reply) for reply in replies(lines)]


def same(found, expected):
    """Whether two answers agree, numbers to the last digits."""
    if isinstance(expected, dict):
        return set(found) == set(expected) and all(same(found[n], expected[n]) for n in expected)
    if isinstance(expected, (list, float)):
        return np.allclose(found, expected, rtol=1e-13, atol=1e-14)
    return found == expected


def test_recorded_exchange_is_answered_as_it_was():
    found = answer(*(message for message, _ in EXCHANGE))
    for number, (reply, (message, expected)) in enumerate(zip(found, EXCHANGE, strict=True)):
        assert reply.pop("id") == number
        reply.pop("config", None)
        timings = reply.pop("timings", [])
        assert len(timings) == (3 if message["kind"] == "evaluate" else 0)
        assert all(t["name"] == "evaluate" and t["nanoseconds"] > 0 for t in timings)
        assert same(reply, expected), message


def test_recorded_values_are_those_of_the_definition():
    # By the formulas of the specification, without logarithms of sums: D = 1, K = 2.
    alpha, mu, q = (np.array(SMALL[name]) for name in ("alpha", "mu", "q"))
    x, precision = np.array(SMALL["x"]), np.exp(2 * q[:, 0])
    phi = np.exp(alpha) / np.exp(alpha).sum()
    density = np.sqrt(precision / (2 * np.pi)) * np.exp(-0.5 * precision * (x - mu.T) ** 2)
    n, v = 1 + SMALL["m"] + 1, 1 / SMALL["gamma"] ** 2
    wishart = precision ** ((n - 2) / 2) * np.exp(-precision / v / 2)
    wishart /= (2 * v) ** (n / 2) * math.gamma(n / 2)
    assert np.log((density @ phi).prod() * wishart.prod()) == pytest.approx(OBJECTIVE, rel=1e-13)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_certified_cases_of_the_objective_pass_through_the_protocol(case):
    d, given = case.n_features, case.inputs
    x = case.arrays["x"].tolist()
    message = {
        "d": d,
        "k": case.n_components,
        "n": len(x),
        "x": x,
        "m": given["m"],
        "gamma": given["gamma"],
        "alpha": given["alpha"],
        "mu": given["means"],
        "q": [row[:d] for row in given["icf"]],
        "l": [row[d:] for row in given["icf"]],
    }
    one, other = answer(
        *(
            {"kind": "evaluate", "module": "gmm", "function": name, "input": message}
            for name in ("objective", "jacobian")
        )
    )
    jacobian = other["output"]
    icf = [[*q, *lower] for q, lower in zip(jacobian["q"], jacobian["l"], strict=True)]
    blocks = (one["output"], jacobian["alpha"], jacobian["mu"], icf)
    result = judge(case, Answered(blocks))
    assert result.status == "pass", result.message


def test_runs_take_the_time_that_is_asked_for():
    runs = {"min_runs": 1, "min_seconds": 0.02}
    message = {"kind": "evaluate", "module": "gmm", "function": "objective", "input": SMALL | runs}
    (reply,) = answer(message)
    assert sum(t["nanoseconds"] for t in reply["timings"]) >= 2e7
    assert len(reply["timings"]) > 1


def test_what_cannot_be_done_is_told_and_the_eval_goes_on():
    bad = SMALL | {"q": [[float("nan")], [0.0]]} | RUNS
    evaluate = {"kind": "evaluate", "module": "gmm", "function": "objective"}
    unknown, failed, missing, right = answer(
        {"kind": "define", "module": "lstm"},
        {**evaluate, "input": bad},
        {**evaluate, "function": "hessian", "input": SMALL | RUNS},
        {**evaluate, "input": SMALL | RUNS},
    )
    assert unknown == {"id": 0, "success": False, "error": "no module lstm; there is gmm"}
    assert not failed["success"]
    assert "q has values that are not finite" in failed["error"]
    assert not missing["success"]
    assert "hessian" in missing["error"]
    assert right["success"]


def test_line_that_is_no_message_ends_the_tool():
    for line in ("[]", "{}"):
        with pytest.raises(ValueError, match="no message of GradBench"):
            list(replies([line]))


def test_tool_speaks_on_stdin_and_stdout():
    text = "".join(json.dumps({"id": i, **m}) + "\n" for i, (m, _) in enumerate(EXCHANGE))
    done = subprocess.run(
        [sys.executable, "-m", "gmm_np.conformance.gradbench"],
        cwd=Path(__file__).parents[2],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [reply["id"] for reply in found] == list(range(len(EXCHANGE)))
    assert found[2]["output"] == pytest.approx(OBJECTIVE, rel=1e-13)
