"""The walk through the reference: it shows all that there is, and sees what is wrong."""

import ast
import importlib.util
import inspect
import re
import runpy
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from gmm_np import reference, walkthrough
from gmm_np.cli import main
from gmm_np.lesson import judges
from gmm_np.lesson.recording import notes_on, record
from gmm_np.walkthrough import INPUTS, example, walk

ROOT = Path(__file__).resolve().parents[1]
TAGS = {
    int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", (ROOT / "docs/derivation.md").read_text())
}
SOURCE = inspect.getsource(reference)

# Variables of the reference that hold no numbers of its computation: flags, sizes, options, and
# caches, whose arrays are variables elsewhere.
NOT_NUMBERS = {
    "quadratic_form_forward": {"far"},
    "log_density_forward": {"far", "quadratic_form_cache"},
    "nll_forward": {"cache", "component", "components", "dtypes", "k", "lost", "n_components"}
    | {"reduce"},
    "nll_backward": {"k", "n_components", "n_samples"},
    "sum_of_products": {"blocks", "n_dims", "rows", "whole"},
}


def variables_of(function):
    """Names that a function assigns to, by its syntax; arguments apart."""
    arguments = {a.arg for a in [*function.args.args, *function.args.kwonlyargs]}
    stored = {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    comprehensions = [n for n in ast.walk(function) if isinstance(n, ast.comprehension)]
    inside = {
        node.id for c in comprehensions for node in ast.walk(c.target) if isinstance(node, ast.Name)
    }
    return stored - inside - arguments


def test_every_variable_of_the_reference_is_shown():
    shown = {}
    for row in walk(example()):
        for function, name in [(row.record.function, row.record.name), *row.record.aliases]:
            shown.setdefault(function, set()).add(name.partition("[")[0])
    functions = [n for n in ast.parse(SOURCE).body if isinstance(n, ast.FunctionDef)]
    assert len(functions) == 16
    for function in functions:
        wanted = variables_of(function) - NOT_NUMBERS.get(function.name, set())
        wanted -= notes_on(function.name).unpacked
        wanted -= set(INPUTS) if function.name == "nll_forward" else set()
        assert wanted <= shown.get(function.name, set()), function.name


def test_every_step_of_the_story_happens():
    keys = {key for steps in walkthrough.PARTS.values() for key in steps}
    assert {row.key for row in walk(example())} == keys


@pytest.mark.parametrize(
    "sizes", [(4, 2, 2, 1), (1, 1, 1, 2), (3, 4, 1, 3), (2, 1, 3, 4), (5, 3, 4, 5), (40, 2, 2, 6)]
)
def test_every_row_agrees_and_has_an_equation(sizes):
    rows = walk(example(*sizes))
    assert [row.key for row in rows if not row.agrees] == []
    for row in rows:
        assert row.equations, row.key
        assert set(row.equations) <= TAGS, row.key


@pytest.mark.needs_extras  # PyTorch
def test_both_judges_are_asked():
    row = walk(example())[0]
    assert list(row.judged) == ["complex step", "PyTorch"]


def test_one_judge_is_enough_where_pytorch_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main(["walkthrough"]) == 0
    out = capsys.readouterr().out
    assert "complex step" in out
    assert "PyTorch" not in out


def changed_reference(monkeypatch, old, new):
    """Let the walk go through a reference with one line changed."""
    assert SOURCE.count(old) == 1
    module = types.ModuleType("gmm_np.changed")
    module.__file__ = reference.__file__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(SOURCE.replace(old, new), reference.__file__, "exec"), vars(module))
    monkeypatch.setattr(walkthrough, "reference", module)


@pytest.mark.parametrize(
    ("old", "new", "first"),
    [
        (
            "-np.tril(sum_of_products(d_residual, whitened))",
            "-sum_of_products(d_residual, whitened)",
            "d_factor",
        ),
        ("d_quadratic = -0.5 *", "d_quadratic = -0.5000000001 *", "d_quadratic"),
        ("d_log_pi - pi * d_log_pi.sum()", "d_log_pi - d_log_pi.sum()", "d_pi_logits"),
        ("others = exponentials.copy()", "others = 2 * exponentials", "others"),
    ],
)
def test_a_wrong_line_shows_where_it_stands(monkeypatch, capsys, old, new, first):
    changed_reference(monkeypatch, old, new)
    rows = walk(example())
    assert next(row for row in rows if not row.agrees).record.name == first
    assert main(["walkthrough", "--table"]) == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_a_new_variable_has_to_get_its_place(monkeypatch):
    line = "    d_log_likelihood: FloatArray = -coefficient * d_value"
    changed_reference(monkeypatch, line, f"    extra = 2.0 * d_value\n{line}")
    with pytest.raises(LookupError, match="extra"):
        walk(example())


def test_not_a_number_does_not_agree():
    row = walk(example())[0]
    bad = row.record.value.copy()
    bad[0] = np.nan
    row = row._replace(judged={"some judge": bad})
    assert not row.agrees


def test_recording_leaves_the_profiler_as_it_was():
    calls = []

    def profiler(*event):
        calls.append(event)

    sys.setprofile(profiler)
    try:
        with pytest.raises(ZeroDivisionError):
            record(lambda: 1 / 0)
        after = sys.getprofile()
    finally:
        sys.setprofile(None)
    assert after is profiler


def test_complex_steps_do_not_touch_what_they_are_given():
    start = example()
    before = [array.copy() for array in start]
    judges.by_complex_steps(start)
    for array, copy in zip(start, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_command_shows_steps_and_ends_with_the_table(capsys):
    assert main(["walkthrough"]) == 0
    out = capsys.readouterr().out
    steps, table = out.split("The reference beside complex step")
    rows = walk(example(seed=1))
    for row in rows:
        assert steps.count(f"{row.record.name}") >= 1
    assert re.findall(r"^ *(\d+)  ", table, re.M) == [str(n) for n in range(1, len(rows) + 1)]
    assert f"{len(rows)} of {len(rows)} rows agree within 1e-12" in table
    assert "whitened = solve_triangular(factor, residual.T" in steps


def test_script_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["walkthrough.py", "--table", "--samples", "2"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "scripts" / "walkthrough.py"), run_name="__main__")
    assert stop.value.code == 0
    assert "rows agree" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--samples", "0"], ["--features", "x"], ["--seed", "-1"]])
def test_wrong_options_are_exit_code_2(options):
    with pytest.raises(SystemExit) as stop:
        main(["walkthrough", *options])
    assert stop.value.code == 2
