"""A tool of GradBench: ``python -m gmm_np.conformance.gradbench``.

It speaks GradBench's protocol on stdin and stdout and knows the module "gmm", with the functions
"objective" and "jacobian": the log posterior of a mixture with a Wishart prior on the precisions,
and its gradient. https://github.com/gradbench/gradbench has the specification (CONTRIBUTING.md for
the protocol, evals/gmm for the module).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np

from gmm_np import __version__
from gmm_np.parametrizations import precision_value_and_grad

__all__ = ["main", "replies"]

Answer = tuple[float, tuple[Any, Any, Any, Any]]


def replies(lines: Iterable[str]) -> Iterator[str]:
    """Yield the line that answers each line of an eval, until they end.

    Raises
    ------
    ValueError
        If a line is no message with an id.
    """
    for line in lines:
        message = json.loads(line)
        if not isinstance(message, dict) or "id" not in message:
            raise ValueError(f"no message of GradBench: {line[:80].rstrip()!r}")
        # What the protocol does not know yet is to be answered by its id, as "analysis" is.
        answer = _ANSWERS.get(message.get("kind"))
        yield json.dumps({"id": message["id"], **(answer(message) if answer else {})})


def _start(message: dict[str, Any]) -> dict[str, Any]:
    del message
    return {"tool": "gmm_np", "config": {"version": __version__, "numpy": np.__version__}}


def _define(message: dict[str, Any]) -> dict[str, Any]:
    if message["module"] == "gmm":
        return {"success": True}
    return {"success": False, "error": f"no module {message['module']}; there is gmm"}


def _evaluate(message: dict[str, Any]) -> dict[str, Any]:
    try:
        convert = _FUNCTIONS[message["function"]]
        arguments, options = _arguments(message["input"])
        answer, timings = _timed(arguments, options, message["input"])
    except Exception as error:  # whatever is wrong, the eval goes on
        return {"success": False, "error": f"{type(error).__name__}: {error}"}
    return {"success": True, "output": convert(answer), "timings": timings}


def _arguments(given: dict[str, Any]) -> tuple[list[Any], dict[str, float]]:
    """Return x, alpha, mu, q and l as arrays, and the prior's parameters."""
    k, d = given["k"], given["d"]
    lower = np.asarray(given["l"], dtype=np.float64).reshape(k, d * (d - 1) // 2)
    arrays = [np.asarray(given[name], dtype=np.float64) for name in ("x", "alpha", "mu", "q")]
    return [*arrays, lower], {"gamma": given["gamma"], "m": given["m"]}


def _timed(
    arguments: list[Any], options: dict[str, float], runs: dict[str, Any]
) -> tuple[Answer, list[dict[str, Any]]]:
    """Run at least as often, and for as long, as the eval asks; time each run."""
    times: list[int] = []
    while True:
        started = time.perf_counter_ns()
        answer = precision_value_and_grad(*arguments, **options)
        times.append(time.perf_counter_ns() - started)
        enough = len(times) >= runs.get("min_runs", 1)
        if enough and sum(times) >= 1e9 * runs.get("min_seconds", 0):
            break
    return answer, [{"name": "evaluate", "nanoseconds": ns} for ns in times]


def _objective(answer: Answer) -> float:
    return float(answer[0])


def _jacobian(answer: Answer) -> dict[str, Any]:
    names = ("alpha", "mu", "q", "l")
    return {name: d.tolist() for name, d in zip(names, answer[1], strict=True)}


_ANSWERS: Final[dict[Any, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "start": _start,
    "define": _define,
    "evaluate": _evaluate,
}
_FUNCTIONS: Final[dict[str, Callable[[Answer], Any]]] = {
    "objective": _objective,
    "jacobian": _jacobian,
}


def main() -> None:
    """Answer until stdin ends, or nobody reads the answers."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        for reply in replies(sys.stdin):
            out.write(f"{reply}\n")
    except BrokenPipeError:
        os._exit(0)  # quietly: closing `out` would find the pipe broken again


if __name__ == "__main__":
    main()
