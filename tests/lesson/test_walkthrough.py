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
from gmm_np.lesson.walkthrough import example, example_direction, walk, walk_tangents
from gmm_np.parameters import Gradients

ROOT = Path(__file__).resolve().parents[2]
TAGS = {
    int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", (ROOT / "docs/derivation.md").read_text())
}
SOURCE = inspect.getsource(reference)
PRIMITIVES = ("log_softmax", "quadratic_form", "half_log_det", "log_density", "logsumexp", "reduce")
# What each walk calls.
CALLED = {
    walk: {f"{name}_{way}" for name in PRIMITIVES for way in ("forward", "backward")},
    walk_tangents: {
        f"{name}_{way}" for name in PRIMITIVES for way in ("tangent", "backward_tangent")
    },
}
WHOLES = {"forward", "backward", "tangent", "backward_tangent"}
HELPERS = {*WHOLES, "sum_over_samples", "sum_of_products"}
SIZES = pytest.mark.parametrize(
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


def second_walk(*sizes):
    """The walk through chapter two, from an example along a direction."""
    start = example(*sizes)
    return walk_tangents(start, example_direction(start))


def test_every_step_of_the_reference_is_shown():
    """Each primitive is called, and what it returns has a row."""
    names = {row.name for row in walk(example())}
    assert {"log_pi", "pi", "z", "quadratic", "half_log_det", "log_density"} <= names
    assert {"log_joint", "log_likelihood", "resp", "value", "coefficient"} <= names
    # What a backward returns is the gradient in an argument of its forward.
    for function in [n for n in ast.parse(SOURCE).body if isinstance(n, ast.FunctionDef)]:
        known = set().union(HELPERS, *CALLED.values())
        assert function.name.startswith("nll_") or function.name in known, function.name
    for through, called in CALLED.items():
        text = inspect.getsource(through)
        assert all(f"reference.{name}(" in text for name in called)


def test_chapter_two_shows_the_tangent_of_every_row():
    """But for what does not move: the loss's own gradient, and the samples' coefficients."""
    still = {"d_value", "coefficient"}
    of_first = {(f"dot_{row.name}", row.component) for row in walk(example())}
    of_first -= {(f"dot_{name}", None) for name in still}
    assert {(row.name, row.component) for row in second_walk()} == of_first


@SIZES
@pytest.mark.parametrize("through", [lambda *sizes: walk(example(*sizes)), second_walk])
def test_every_row_agrees_and_has_an_equation(through, sizes):
    rows = through(*sizes)
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
    assert all(list(row.judged) == ["complex step", "PyTorch"] for row in second_walk())


def test_the_rates_of_the_judge_are_not_zero_where_something_moves():
    """Two zeros would agree."""
    names = {row.name for row in second_walk() if not row.value.any()}
    assert names == {"dot_d_log_likelihood"}


def test_a_direction_that_leaves_out_factors_and_data_keeps_them_where_they_are():
    start = example()
    direction = example_direction(start)
    in_part = walk_tangents(start, Gradients(direction.pi_logits, direction.means, None))
    still = direction._replace(scale=np.zeros_like(direction.scale), x=np.zeros_like(direction.x))
    for one, other in zip(in_part, walk_tangents(start, still), strict=True):
        assert one.agrees
        np.testing.assert_array_equal(one.value, other.value)


@pytest.mark.parametrize("chapter", ["1", "2"])
def test_one_judge_is_enough_where_pytorch_is_missing_and_the_walk_says_so(
    monkeypatch, capsys, chapter
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main(["walkthrough", "--chapter", chapter]) == 0
    out = capsys.readouterr().out
    assert "complex step" in out
    assert "| PyTorch" not in out
    assert "PyTorch is not installed, and its column is left out: pip install torch" in out


def changed_reference(monkeypatch, old, new):
    """Let the walks go through a reference with one line changed, in whichever chapter."""
    assert old in SOURCE
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
    ("old", "new", "first"),
    [
        (" - z @ dot_factor.T", " - z @ dot_factor", "dot_z"),
        ("2.0 * np.einsum(\"nd,nd->n\", z, dot_z)", "np.einsum(\"nd,nd->n\", z, dot_z)",
         "dot_quadratic"),
        ("return dot_value, softmax * (dot_terms - dot_value[..., None])",
         "return dot_value, softmax * dot_terms", "dot_pi"),
        ("dot_d_log_pi - dot_pi * total - pi", "dot_d_log_pi - pi", "dot_d_pi_logits"),
        ("+ d_quadratic[:, None] * dot_y)", "+ d_quadratic[:, None] * dot_z)", "dot_d_residual"),
        ("sum_of_products(dot_d_residual, z) + sum_of_products(d_residual, dot_z)",
         "sum_of_products(dot_d_residual, z)", "dot_d_factor of the quadratic form"),
        ("dot_d_half_log_det - d_half_log_det * rate", "dot_d_half_log_det",
         "dot_d_factor of the determinant"),
    ],
)  # fmt: skip
def test_a_wrong_line_of_chapter_two_shows_where_it_stands(monkeypatch, capsys, old, new, first):
    changed_reference(monkeypatch, old, new)
    assert next(row for row in second_walk() if not row.agrees).name == first
    assert main(["walkthrough", "--chapter", "2", "--table"]) == 1
    assert "DIFFERS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("through", "whole", "old", "new"),
    [
        (walk, "nll_backward", "    d_x += d_x_k", "    d_x += 2 * d_x_k"),
        (walk, "nll_backward", " sum_over_samples(d_log_joint)", " d_log_joint.sum(0)"),
        (second_walk, "nll_hvp", "dot_d_x += dot_d_x_k", "dot_d_x += 2 * dot_d_x_k"),
        (second_walk, "nll_hvp", "sum_over_samples(dot_d_log_joint)", "dot_d_log_joint.sum(0)"),
    ],
)  # fmt: skip
def test_a_walk_that_takes_other_steps_than_the_reference_says_so(
    monkeypatch, through, whole, old, new
):
    changed_reference(monkeypatch, old, new)
    with pytest.raises(AssertionError, match=f"is not that of {whole}, bit for bit"):
        through(example(40, 3, 2)) if through is walk else through(40, 3, 2)


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


@pytest.mark.parametrize("chapter", ["1", "2"])
def test_command_shows_steps_and_ends_with_the_table(capsys, chapter):
    assert main(["walkthrough", "--chapter", chapter]) == 0
    out = capsys.readouterr().out
    steps, table = out.split("The reference beside plain formulas")
    start = example(seed=1)
    rows = walk(start) if chapter == "1" else walk_tangents(start, example_direction(start, 1))
    for row in rows:
        assert f". {row.name}  [" in steps
    assert re.findall(r"^ *(\d+)  ", table, re.M) == [str(n) for n in range(1, len(rows) + 1)]
    assert f"{len(rows)} of {len(rows)} rows agree within 1e-12" in table
    last, step = {
        "1": ("gradients are those of nll_backward", "z  [N, D]  (6)  L_k z_nk = e_nk"),
        "2": ("tangents are the products of nll_hvp", "dot_pi  [K]  (50)  dot_pi_k = pi_k dot_lo"),
    }[chapter]
    assert f"The last {last}, bit for bit." in table
    assert step in steps
    assert ("rate of means  [2, 2]" in steps) == (chapter == "2")


def test_script_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["walkthrough.py", "--table", "--samples", "2"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "scripts" / "walkthrough.py"), run_name="__main__")
    assert stop.value.code == 0
    assert "rows agree" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options", [["--samples", "0"], ["--features", "x"], ["--seed", "-1"], ["--chapter", "3"]]
)
def test_wrong_options_are_exit_code_2(options):
    with pytest.raises(SystemExit) as stop:
        main(["walkthrough", *options])
    assert stop.value.code == 2
