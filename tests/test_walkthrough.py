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

from gmm_np import reference
from gmm_np.cli import main
from gmm_np.lesson import independent, walkthrough
from gmm_np.lesson.walkthrough import example, walk

ROOT = Path(__file__).resolve().parents[1]
TAGS = {
    int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", (ROOT / "docs/derivation.md").read_text())
}
SOURCE = inspect.getsource(reference)
PRIMITIVES = ("log_softmax", "quadratic_form", "half_log_det", "log_density", "logsumexp", "reduce")
CALLED = {f"{name}_{way}" for name in PRIMITIVES for way in ("forward", "backward")}
HELPERS = {"forward", "backward", "sum_over_samples", "sum_of_products"}


def test_every_step_of_the_reference_is_shown():
    """Each primitive is called, and what it returns has a row."""
    names = {row.name for row in walk(example())}
    assert {"log_pi", "pi", "z", "quadratic", "half_log_det", "log_density"} <= names
    assert {"log_joint", "log_likelihood", "resp", "value", "coefficient"} <= names
    # What a backward returns is the gradient in an argument of its forward.
    for function in [n for n in ast.parse(SOURCE).body if isinstance(n, ast.FunctionDef)]:
        assert function.name.startswith("nll_") or function.name in CALLED | HELPERS, function.name
    text = inspect.getsource(walk)
    assert all(f"reference.{name}(" in text for name in CALLED)


@pytest.mark.parametrize(
    "sizes",
    [
        (4, 2, 2, 1),
        (1, 1, 1, 2),
        (3, 4, 1, 3),
        (2, 1, 3, 4),
        (5, 3, 4, 5),
        (40, 2, 2, 6),
        # Densities of 1e-300 and less, where plain exponentials underflow.
        (3, 2, 20, 1),
        (2, 2, 20, 3),
    ],
)
def test_every_row_agrees_and_has_an_equation(sizes):
    rows = walk(example(*sizes))
    assert [row.name for row in rows if not row.agrees] == []
    for row in rows:
        assert row.equations, row.name
        assert set(row.equations) <= TAGS, row.name
        letters = [part for part in row.shape.split(", ") if part]
        lengths = dict(zip("NKD", sizes[:3], strict=True))
        assert row.value.shape == tuple(lengths[letter] for letter in letters), row.name


def test_small_densities_give_no_warnings(capsys):
    sizes = ["--features", "50", "--samples", "1", "--components", "1"]
    assert main(["walkthrough", *sizes, "--table"]) == 0
    assert "rows agree within 1e-12" in capsys.readouterr().out


@pytest.mark.needs_extras  # PyTorch
def test_both_judges_are_asked():
    rows = walk(example())
    assert list(rows[0].judged) == ["plain formula", "PyTorch"]
    assert list(rows[-1].judged) == ["complex step", "PyTorch"]


def test_one_judge_is_enough_where_pytorch_is_missing_and_the_walk_says_so(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main(["walkthrough"]) == 0
    out = capsys.readouterr().out
    assert "complex step" in out
    assert "| PyTorch" not in out
    assert "PyTorch is not installed, and its column is left out: pip install torch" in out


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
            "-np.tril(sum_of_products(d_residual, z))",
            "-sum_of_products(d_residual, z)",
            "d_factor of the quadratic form",
        ),
        ("return -0.5 * quadratic", "return -0.5000000001 * quadratic", "log_density"),
        ("d_log_pi - pi * d_log_pi.sum()", "d_log_pi - d_log_pi.sum()", "d_pi_logits"),
        ("rest = exponentials.copy()", "rest = 2 * exponentials", "log_pi"),
    ],
)
def test_a_wrong_line_shows_where_it_stands(monkeypatch, capsys, old, new, first):
    changed_reference(monkeypatch, old, new)
    rows = walk(example())
    assert next(row for row in rows if not row.agrees).name == first
    assert main(["walkthrough", "--table"]) == 1
    assert "DIFFERS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new"),
    [("d_x += d_x_k", "d_x += 2 * d_x_k"), ("sum_over_samples(d_log_joint)", "d_log_joint.sum(0)")],
)
def test_a_walk_that_takes_other_steps_than_the_reference_says_so(monkeypatch, old, new):
    changed_reference(monkeypatch, old, new)
    with pytest.raises(AssertionError, match="is not that of nll_backward, bit for bit"):
        walk(example(40, 3, 2))


def test_not_a_number_does_not_agree():
    row = walk(example())[0]
    bad = row.value.copy()
    bad[0] = np.nan
    row = row._replace(judged={"some judge": bad})
    assert not row.agrees


def test_complex_steps_do_not_touch_what_they_are_given():
    start = example()
    before = [array.copy() for array in start]
    independent.by_complex_steps(start)
    for array, copy in zip(start, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_command_shows_steps_and_ends_with_the_table(capsys):
    assert main(["walkthrough"]) == 0
    out = capsys.readouterr().out
    steps, table = out.split("The reference beside plain formulas")
    rows = walk(example(seed=1))
    for row in rows:
        assert f". {row.name}  [" in steps
    assert re.findall(r"^ *(\d+)  ", table, re.M) == [str(n) for n in range(1, len(rows) + 1)]
    assert f"{len(rows)} of {len(rows)} rows agree within 1e-12" in table
    assert "z  [N, D]  (6)  L_k z_nk = e_nk" in steps


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
