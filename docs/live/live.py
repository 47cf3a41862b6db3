"""What the live page asks of gmm_np: JSON in, JSON out. It runs in Pyodide, and in any Python.

Mistakes and exercises are imported where they are used: in a browser, where nothing is compiled
beforehand, the picture would wait for them for seconds.

Letters in shapes: N samples, K components.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np import (
    GradientReport,
    Parameters,
    check_grad,
    em_step,
    nll_value_and_grad,
    responsibilities,
    statistics,
)
from gmm_np.checks import FloatArray
from gmm_np.solvers import Data, fit_newton, make_start

__all__ = [
    "ask",
    "check",
    "code",
    "describe_page",
    "evaluate",
    "exercises",
    "grade",
    "mistakes",
    "start",
    "step",
]

Json = dict[str, Any]
Found = tuple[Any, list[FloatArray]]  # loss; gradients of logits [K], means and factors


class DataSet(NamedTuple):
    """A data set: what it is called, the names of its columns, and the code that makes x [N, 2]."""

    title: str
    columns: tuple[str, str]
    code: str


DATA: Final = {
    "clusters": DataSet(
        "Three clusters",
        ("x₀", "x₁"),
        "x, _, _ = gmm_np.datasets.make_clusters(240, 3, radius=3.0, seed=6)",
    ),
    "overlap": DataSet(
        "Three clusters that overlap",
        ("x₀", "x₁"),
        "x, _, _ = gmm_np.datasets.make_clusters(240, 3, radius=1.5, seed=3)",
    ),
    "faithful": DataSet(
        "Old Faithful, in standard deviations",
        ("eruption", "waiting time"),
        "x, _ = gmm_np.datasets.load_old_faithful()\nx = (x - x.mean(axis=0)) / x.std(axis=0)",
    ),
}
SEEN: Final = 1e-9  # a relative difference from which on a mistake is one, and not rounding


@lru_cache
def samples(data: str) -> FloatArray:
    """Return the rows [N, 2] of a data set, by running the code that the page shows."""
    names: dict[str, Any] = {}
    exec(f"import gmm_np\n{DATA[data].code}", names)
    return np.asarray(names["x"], dtype=np.float64)


def describe_page() -> Json:
    """Return what does not change: data sets, and which versions compute."""
    import scipy

    import gmm_np

    versions = {"Python": sys.version.split()[0], "NumPy": np.__version__}
    return {
        "versions": versions | {"SciPy": scipy.__version__, "gmm_np": gmm_np.__version__},
        "data": {
            name: {"title": each.title, "columns": each.columns, "x": samples(name).tolist()}
            for name, each in DATA.items()
        },
    }


def start(data: str, n_components: int, seed: int) -> Json:
    """Return parameters to begin with: means at rows that are drawn, away from any optimum."""
    rng = np.random.default_rng(seed)
    sample = Data(samples(data)).sample(rng)
    return _told(make_start(sample, n_components, rng, init="random_from_data"))


def evaluate(data: str, parameters: Json, mistake: str = "") -> Json:
    """Return loss, responsibilities [N, K] and negative gradients; with a mistake, also its own.

    Where a mistake differs by no more than rounding, it has the right number, digit by digit.
    """
    arguments = _arrays(parameters)
    right = _value_and_grad(data, arguments)
    return {
        **_downhill(*right),
        "weights": Parameters(*arguments).weights(),
        "responsibilities": responsibilities(samples(data), *arguments).round(3),
        "mistake": _mistaken(right, _value_and_grad(data, arguments, mistake)) if mistake else None,
    }


def step(kind: str, data: str, parameters: Json, rate: float = 1.0, mistake: str = "") -> Json:
    """Take a step by "gradient", "em" or "newton"; return parameters, and what is to be said."""
    x, here = samples(data), Parameters(*_arrays(parameters))
    if kind == "em":
        return {"parameters": _told(em_step(here, statistics(x, here))), "note": ""}
    if kind == "newton":
        return _newton(x, here)
    logits, means, scale = _arrays(parameters)
    _, (d_logits, d_means, d_scale) = _value_and_grad(data, (logits, means, scale), mistake)
    used = rate
    while (np.diagonal(scale - used * d_scale, axis1=1, axis2=2) <= 0).any():
        used /= 2
    ahead = Parameters(logits - used * d_logits, means - used * d_means, scale - used * d_scale)
    note = "" if used == rate else f"η was halved to {used:g}: a diagonal of L has to be positive."
    return {"parameters": _told(ahead), "note": note}


def mistakes(data: str, parameters: Json) -> list[Json]:
    """Return the known mistakes, each with what it changes at this mixture.

    "gradient": the value is right, the gradient is not. "value": the value is wrong, with whatever
    gradient. "nothing": both are right here, as far as doubles can tell, or there is no answer.
    """
    from gmm_np.conformance.mutants import MUTANTS, describe

    arguments = _arrays(parameters)
    right, right_gradient = _value_and_grad(data, arguments, "plain")
    found = []
    for name in MUTANTS["cholesky"]:
        if name == "plain":  # the right one, of which the others are variants
            continue
        try:
            value, gradient = _value_and_grad(data, arguments, name)
        except ValueError:
            changes = "nothing"
        else:
            changes = "gradient" if _differ(gradient, right_gradient) else "nothing"
            changes = "value" if _differ([value], [right]) else changes
        found.append({"name": name, "text": describe(name), "changes": changes})
    return found


def check(data: str, parameters: Json, mistake: str) -> Json:
    """Check the gradient of a mistake, and the right one, by finite differences."""
    from gmm_np.conformance import read_vectors

    names = ("pi_logits", "means", "scale_tril")
    point = dict(zip(names, _arrays(parameters), strict=True))

    def report(name: str) -> Json:
        free = {"scale_tril": np.tri(2, dtype=bool)}
        found = check_grad(lambda *each: _value_and_grad(data, each, name), point, free=free)
        return _rows(found)

    cases = [case for family in read_vectors() for case in family.cases if mistake in case.kills]
    return {
        "wrong": report(mistake),
        "right": report(""),
        # Those first that few other mistakes fail.
        "vectors": [case.id for case in sorted(cases, key=lambda case: len(case.kills))],
    }


def exercises() -> list[Json]:
    """Return each function to write, with its stubs, and the reference's own lines."""
    from gmm_np import reference
    from gmm_np.lesson.exercise_set import EXERCISES
    from gmm_np.lesson.exercises import stubs

    cut = {hard: _functions(stubs(hard)) for hard in (False, True)}
    return [
        {
            "name": part.name,
            "title": exercise.title,
            "numbers": exercise.numbers,
            "stub": cut[False][part.name],
            "hard": cut[True][part.name],
            "solution": "\n\n".join(
                inspect.getsource(getattr(reference, name)).rstrip() for name in part.lines
            ),
        }
        for exercise in EXERCISES
        for part in exercise.parts
    ]


def grade(part: str, source: str) -> Json:
    """Run what a learner wrote, and judge one function; those that it lacks are the reference's."""
    from gmm_np.lesson.calls import call
    from gmm_np.lesson.exercise_set import PARTS
    from gmm_np.lesson.grading import Finding, judge

    names: dict[str, Any] = {"__name__": "exercises"}
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            exec(compile(source, "exercises.py", "exec"), names)
        except BaseException as error:  # whatever it raises is told, not passed on
            finding = Finding(PARTS[part], "wrong", text=_where(error))
        else:
            others = [name for name in PARTS if name not in names and name != part]
            finding = judge(PARTS[part], call(PARTS[part], names, others))
    kept = {"verdict": finding.verdict, "kind": finding.kind}
    return kept | {"text": finding.text, "hint": finding.hint, "printed": printed.getvalue()[:2000]}


def code(data: str, parameters: Json) -> str:
    """Return Python that computes what the page shows."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in parameters.items()]
    lines = ["import gmm_np", "", DATA[data].code, *lines]
    call_ = "value, gradients = gmm_np.nll_value_and_grad(x, pi_logits, means, scale)"
    return "\n".join([*lines, call_, "print(value)", "print(gradients)", ""])


# --- JSON ---------------------------------------------------------------------------------------

_ASKED: Final = {
    function.__name__: function
    for function in (describe_page, start, evaluate, step, mistakes, check, exercises, grade, code)
}


def ask(name: str, arguments: str) -> str:
    """Call a function above with a JSON array of arguments.

    Return {"answer": ...} or {"error": ...} as JSON; what is not finite is null.
    """
    try:
        answer = {"answer": _plain_json(_ASKED[name](*json.loads(arguments)))}
    except (ValueError, TypeError, ArithmeticError, np.linalg.LinAlgError) as error:
        answer = {"error": str(error)}
    return json.dumps(answer, allow_nan=False)


def _plain_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_json(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain_json(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _arrays(parameters: Json) -> tuple[FloatArray, FloatArray, FloatArray]:
    logits, means, scale = (
        np.asarray(parameters[name], np.float64) for name in ("pi_logits", "means", "scale")
    )
    return logits, means, scale


def _told(parameters: Parameters) -> Json:
    p = parameters
    return {"pi_logits": p.pi_logits, "means": p.means, "scale": p.scale}


def _downhill(value: Any, gradient: list[FloatArray]) -> Json:
    d_logits, d_means, d_scale = (-block for block in gradient)
    return {"loss": value, "down": {"pi_logits": d_logits, "means": d_means, "scale": d_scale}}


# --- steps and mistakes -------------------------------------------------------------------------


class _MovedError(Exception):
    """The first step that was taken, with the parameters after it."""


def _newton(x: FloatArray, here: Parameters) -> Json:
    """Take the first step that the trust region accepts."""

    def moved(_: int, parameters: Parameters) -> None:
        if not parameters.equals(here):
            raise _MovedError(parameters)

    try:
        fit_newton(x, here, trace=moved)
    except _MovedError as step_taken:
        return {"parameters": _told(step_taken.args[0]), "note": ""}
    return {"parameters": _told(here), "note": "Newton's method has nothing left to do here."}


def _value_and_grad(data: str, arguments: Sequence[FloatArray], mistake: str = "") -> Found:
    """Loss, and gradients of logits, means and factors; by this package, or by a mistake."""
    if not mistake:
        value, gradients = nll_value_and_grad(samples(data), *arguments)
        return value, [np.asarray(block) for block in gradients[:3]]
    from gmm_np.conformance.mutants import MUTANTS

    if mistake not in MUTANTS["cholesky"]:
        raise ValueError(f"no mistake is called {mistake!r}.")
    value, *found = MUTANTS["cholesky"][mistake](samples(data), *arguments)
    return value, [np.asarray(block, np.float64) for block in found]


def _mistaken(right: Found, wrong: Found) -> Json:
    """Return what a mistake gives, with the right numbers for those that it does not change."""
    largest = max(float(np.abs(block).max()) for block in right[1])
    gradient = [
        np.where(np.abs(w - r) <= SEEN * largest, r, w)
        for r, w in zip(right[1], wrong[1], strict=True)
    ]
    return _downhill(wrong[0] if _differ([wrong[0]], [right[0]]) else right[0], gradient)


def _differ(some: list[Any], others: list[Any]) -> bool:
    """Whether outputs differ by more than rounding; NaN differs from everything."""
    return not all(
        np.abs(np.subtract(a, b)).max() <= SEEN * max(np.abs(b).max(), 1e-3)
        for a, b in zip(some, others, strict=True)
    )


def _rows(report: GradientReport) -> Json:
    rows = [
        {
            "name": block.name,
            "analytic": block.analytic,
            "numeric": block.numeric,
            "error": block.error,
            "verdict": block.verdict,
        }
        for block in report.blocks
    ]
    return {"passed": report.passed, "rows": rows}


# --- exercises -----------------------------------------------------------------------------------


def _functions(text: str) -> dict[str, str]:
    """Return each function of a file, below the file's imports."""
    body = ast.parse(text).body
    source = {node: ast.get_source_segment(text, node) or "" for node in body}
    imports = "\n".join(source[n] for n in body if isinstance(n, (ast.Import, ast.ImportFrom)))
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    return {node.name: f"{imports}\n\n\n{source[node]}\n" for node in functions}


def _where(error: BaseException) -> str:
    """Say what became of a file that does not run, and in which of its lines."""
    if isinstance(error, SyntaxError):
        return f"Line {error.lineno}: {error.msg}."
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == "exercises.py"]
    line = f"Line {own[-1].lineno}: " if own else ""
    return f"{line}{type(error).__name__}: {error}"
