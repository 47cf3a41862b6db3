"""How many digits of GradBench's mixture benchmark are right, by certified values.

    pip install mpmath "python-flint>=0.9"
    python scripts/certify_gradbench.py --log session.jsonl
    python scripts/certify_gradbench.py --tool "python -m gmm_np.conformance.gradbench" -d 2 10 -k 5

The first reads what ``gradbench run --output session.jsonl`` has recorded of any tool; with the
tool "manual" these are the golden values, by which GradBench judges all others. The second starts a
tool and asks it what the eval asks: inputs by its documented generator (evals/gmm of
https://github.com/gradbench/gradbench), from the same seed. Each answer is compared with values of
34 digits that multiple precision and ball arithmetic agree on, as those of the vectors are. A row
has the correct digits of the worst entry, relative to the largest one of its output, and the
largest of the differences that GradBench itself looks at, of which it allows 1e-4.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gmm_np.conformance.compare import MOST_DIGITS  # noqa: E402
from gmm_np.conformance.report import digits_text  # noqa: E402

MOST_WORK = 20_000_000  # N K D^2 of what is certified: minutes
OUTPUTS = {"objective": ("objective",), "jacobian": ("alpha", "mu", "q", "l")}


class Exchange(NamedTuple):
    """What was asked, and what was answered."""

    description: str
    function: str
    input: dict[str, Any]
    output: Any


def generated(*, seed: int, d: int, k: int, n: int, m: int, gamma: float) -> dict[str, Any]:
    """Return the input of a size, drawn as the eval draws it: in this order, and row by row."""
    rng = np.random.default_rng(seed)
    drawn = {
        "x": [rng.normal(size=d).tolist() for _ in range(n)],
        "alpha": rng.normal(size=k).tolist(),
        "mu": [rng.uniform(size=d).tolist() for _ in range(k)],
        "q": [rng.normal(size=d).tolist() for _ in range(k)],
        "l": [rng.normal(size=d * (d - 1) // 2).tolist() for _ in range(k)],
    }
    return {"d": d, "k": k, "n": n, "m": m, "gamma": gamma, **drawn}


def asked(command: str, inputs: Iterable[dict[str, Any]]) -> Iterator[Exchange]:
    """Start a tool, and yield what it answers to each input."""
    with subprocess.Popen(
        shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as tool:
        assert tool.stdin is not None
        assert tool.stdout is not None
        count = 0

        def ask(**message: Any) -> dict[str, Any]:
            nonlocal count
            assert tool.stdin is not None
            assert tool.stdout is not None
            tool.stdin.write(json.dumps({"id": count, **message}) + "\n")
            tool.stdin.flush()
            line = tool.stdout.readline()
            if not line:
                raise SystemExit(f"{command} ended without an answer")
            count += 1
            return dict(json.loads(line))

        ask(kind="start", eval="gmm")
        if not ask(kind="define", module="gmm")["success"]:
            raise SystemExit(f"{command} has no module gmm")
        for given in inputs:
            size = f"{given['d']}_{given['k']}_{given['n']}"
            for function in OUTPUTS:
                runs = {"min_runs": 1, "min_seconds": 0}
                reply = ask(
                    kind="evaluate",
                    module="gmm",
                    function=function,
                    input=given | runs,
                    description=size,
                )
                if not reply["success"]:
                    raise SystemExit(f"{size}, {function}: {reply.get('error')}")
                yield Exchange(size, function, given, reply["output"])


def recorded(path: Path) -> Iterator[Exchange]:
    """Yield what a log of GradBench holds of the module gmm."""
    waiting: dict[int, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        message, response = entry.get("message"), entry.get("response")
        if message and message.get("kind") == "evaluate" and message["module"] == "gmm":
            waiting[message["id"]] = message
        elif response and response["id"] in waiting and response.get("success"):
            asked_for = waiting.pop(response["id"])
            yield Exchange(
                asked_for.get("description", ""),
                asked_for["function"],
                asked_for["input"],
                response["output"],
            )


def certified(given: dict[str, Any]) -> dict[str, list[str]]:
    """Return the certified objective, alpha, mu, q and l of an input, each a flat list."""
    from certify import objective
    from certify.agreement import certify
    from certify.problem import PrecisionProblem

    d = given["d"]
    icf = [[*q, *lower] for q, lower in zip(given["q"], given["l"], strict=True)]
    problem = PrecisionProblem(
        given["alpha"], given["mu"], icf, given["x"], given["gamma"], given["m"]
    )
    found, _ = certify(
        lambda digits: objective.multiple(problem, digits),
        lambda bits: objective.balls(problem, bits),
    )
    width = len(icf[0])
    rows = [found["icf"][i : i + width] for i in range(0, len(found["icf"]), width)]
    return {
        "objective": found["objective"],
        "alpha": found["alpha"],
        "mu": found["means"],
        "q": [text for row in rows for text in row[:d]],
        "l": [text for row in rows for text in row[d:]],
    }


def compared(answer: Any, texts: list[str]) -> tuple[float, float]:
    """Return correct digits of an output, and the largest difference that GradBench looks at."""
    entries = np.asarray(answer, dtype=np.float64).ravel().tolist()
    if len(entries) != len(texts):
        raise SystemExit(f"{len(entries)} numbers for {len(texts)}")
    if not np.isfinite(entries).all():
        return 0.0, float("nan")
    with localcontext() as context:
        context.prec = 60
        truth = [Decimal(text) for text in texts]
        errors = [abs(Decimal(v) - t) for v, t in zip(entries, truth, strict=True)]
        size = max(map(abs, truth), default=Decimal(0)) or Decimal(1)
        worst = max(errors, default=Decimal(0)) / size
        # As its comparison has it: by the sum of both, where that is more than 1.
        seen = [
            e / max(Decimal(1), abs(t) + abs(Decimal(v)))
            for e, t, v in zip(errors, truth, entries, strict=True)
        ]
    digits = MOST_DIGITS if not worst else min(MOST_DIGITS, max(0.0, -float(worst.log10())))
    return digits, float(max(seen, default=Decimal(0)))


def main() -> None:
    """Certify, compare, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--log", type=Path, help="a session that GradBench has recorded")
    source.add_argument("--tool", metavar="COMMAND", help="a tool to be asked")
    parser.add_argument("-d", nargs="+", type=int, default=[2, 10], help="dimensions")
    parser.add_argument("-k", nargs="+", type=int, default=[5, 10], help="components")
    parser.add_argument("-n", type=int, default=1000, help="samples")
    parser.add_argument("-m", type=int, default=0, help="of the prior")
    parser.add_argument("--gamma", type=float, default=1.0, help="of the prior")
    parser.add_argument("--seed", type=int, default=31337, help="of the eval")
    options = parser.parse_args()
    if options.log is not None:
        exchanges = recorded(options.log)
    else:
        prior = {"n": options.n, "m": options.m, "gamma": options.gamma, "seed": options.seed}
        sizes = sorted(((d, k) for d in options.d for k in options.k), key=lambda s: s[0] * s[1])
        exchanges = asked(options.tool, (generated(d=d, k=k, **prior) for d, k in sizes))
    print("| d_k_n | function | output | correct digits | GradBench's difference |")
    print("|---|---|---|---|---|")
    key, truth = "", {}
    for exchange in exchanges:
        given = exchange.input
        work = given["n"] * given["k"] * given["d"] ** 2
        if work > MOST_WORK:
            print(f"| {exchange.description} | {exchange.function} | | too large to certify | |")
            continue
        data = {name: v for name, v in given.items() if name not in ("min_runs", "min_seconds")}
        if json.dumps(data) != key:  # both functions have the same input
            key, truth = json.dumps(data), certified(given)
        for name in OUTPUTS[exchange.function]:
            answer = exchange.output if name == "objective" else exchange.output[name]
            digits, difference = compared(answer, truth[name])
            print(
                f"| {exchange.description} | {exchange.function} | {name} | {digits_text(digits)} "
                f"| {difference:.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
