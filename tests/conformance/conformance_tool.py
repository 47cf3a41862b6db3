"""A tool that speaks the conformance protocol, in plain Python: it imports nothing of this project.

``python conformance_tool.py right`` computes, from the definition, with the standard library alone.
Other modes break down in a way that a test wants to see.
"""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def read(value):
    if isinstance(value, list):
        return [read(item) for item in value]
    return SPECIAL[value] if isinstance(value, str) else value


def write(value):
    if isinstance(value, list):
        return [write(item) for item in value]
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def log_sum_exp(terms):
    largest = max(terms)
    return largest + math.log(math.fsum(math.exp(t - largest) for t in terms))


def check(x, logits, means, chol, weights):
    """Raise an exception of any kind for what is no mixture."""
    k, d = len(means), len(means[0])
    assert len(x) > 0
    assert k == len(logits) == len(chol)
    assert all(len(row) == d for row in (*x, *means, *(r for factor in chol for r in factor)))
    assert all(len(factor) == d for factor in chol)
    assert all(map(math.isfinite, (v for row in (*x, *means) for v in row)))
    assert not any(math.isnan(a) or a == math.inf for a in logits)
    assert max(logits) > -math.inf
    for factor in chol:
        assert all(math.isfinite(v) for row in factor for v in row)
        assert all(factor[i][i] > 0 for i in range(d))
        assert not any(factor[i][j] for i in range(d) for j in range(i + 1, d))
    assert len(weights) == len(x)
    assert all(0 <= w < math.inf for w in weights)
    assert sum(weights) > 0


def value_and_gradient(x, logits, means, chol, reduction, weights=None, **_):
    weights = [1.0] * len(x) if weights is None else weights
    check(x, logits, means, chol, weights)
    components, dims = range(len(means)), range(len(means[0]))
    over = math.fsum(weights) if reduction == "mean" else 1.0
    log_pi = [a - log_sum_exp([b - max(logits) for b in logits]) - max(logits) for a in logits]
    losses, mass = [], [[] for _ in components]
    d_means = [[[] for _ in dims] for _ in components]
    d_chol = [[[[] for _ in dims] for _ in dims] for _ in components]
    for row, weight in zip(x, weights, strict=True):
        terms, whites, pulls = [], [], []
        for k in components:
            z, pull = [], [0.0 for _ in dims]
            for i in dims:
                known = math.fsum(
                    [row[i], -means[k][i], *(-chol[k][i][j] * z[j] for j in range(i))]
                )
                z.append(known / chol[k][i][i])
            for i in reversed(dims):
                known = math.fsum([z[i], *(-chol[k][j][i] * pull[j] for j in dims if j > i)])
                pull[i] = known / chol[k][i][i]
            logs = [math.log(chol[k][i][i]) for i in dims]
            constant = 0.5 * len(dims) * math.log(2 * math.pi)
            squares = [-0.5 * v * v for v in z]
            terms.append(math.fsum([log_pi[k], -constant, *(-v for v in logs), *squares]))
            whites.append(z)
            pulls.append(pull)
        total = log_sum_exp(terms)
        losses.append(-weight * total if weight else 0.0)
        for k in components:
            share = weight * math.exp(terms[k] - total)
            mass[k].append(share)
            for i in dims:
                d_means[k][i].append(-share * pulls[k][i])
                for j in range(i + 1):
                    d_chol[k][i][j].append(-share * pulls[k][i] * whites[k][j])
    for k in components:
        for i in dims:
            d_chol[k][i][i] += [share / chol[k][i][i] for share in mass[k]]

    def add(terms):
        if terms and isinstance(terms[0], list):
            return [add(item) for item in terms]
        return math.fsum(terms) / over

    everything = [share for shares in mass for share in shares]
    d_logits = [
        math.fsum([*(math.exp(log_pi[k]) * s for s in everything), *(-s for s in mass[k])]) / over
        for k in components
    ]
    return {"nll": add(losses), "logits": d_logits, "means": add(d_means), "chol": add(d_chol)}


def answer(message):
    if message["kind"] == "start":
        return {"tool": "plain Python"}
    if message["kind"] == "define":
        return {"success": message["module"] == "cholesky"}
    given = message["input"]
    given = {name: v if name in ("reduction", "dtype") else read(v) for name, v in given.items()}
    try:
        output = value_and_gradient(**given)
    except Exception as error:
        return {"success": False, "status": "rejected", "error": repr(error)}
    return {"success": True, "output": {name: write(value) for name, value in output.items()}}


def main(mode, *arguments):
    for line in sys.stdin:
        message = json.loads(line)
        reply = {"id": message["id"], **answer(message)}
        text = json.dumps(reply)
        if mode == "record":
            with Path(arguments[0]).open("a", encoding="utf-8") as stream:
                stream.write(line)
        if message["kind"] == "evaluate":
            if mode == "hang":  # and a child with it, which must be ended too
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                with Path(arguments[0]).open("a", encoding="utf-8") as stream:
                    stream.write(f"{child.pid}\n")
                time.sleep(600)
            if mode == "crash":
                sys.exit("the sky has fallen")
            text = {
                "garbage": "no JSON",
                "list": "[]",
                "other id": json.dumps({**reply, "id": -1}),
                "bare NaN": json.dumps({"id": reply["id"], "output": {"nll": math.nan}}),
                "text": json.dumps({"id": reply["id"], "output": {"nll": "one"}}),
                "unknown output": json.dumps({"id": reply["id"], "output": {"loss": 1.0}}),
                "no output": json.dumps({"id": reply["id"], "success": True}),
                "value alone": json.dumps({**reply, "output": {"nll": reply["output"]["nll"]}})
                if "output" in reply
                else text,
                "unsupported": json.dumps({"id": reply["id"], "status": "unsupported"}),
                "fails": json.dumps({"id": reply["id"], "success": False}),
            }.get(mode, text)
        print(text, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
