"""The notebooks of docs/ run as they stand, and print and draw what is in them."""

import base64
import copy
import json
import re
import runpy
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs_extras  # matplotlib

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "run_notebook.py"
N_PICTURES = {"manual_backprop": 7, "mdn": 6}
EACH = pytest.mark.parametrize("name", N_PICTURES)


def notebook_of(name):
    return json.loads((ROOT / "docs" / f"{name}.ipynb").read_text(encoding="utf-8"))


def code_of(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def pictures_of(notebook):
    outputs = [output for cell in code_of(notebook) for output in cell["outputs"]]
    shown = [output for output in outputs if output["output_type"] == "display_data"]
    return [base64.b64decode(output["data"]["image/png"]) for output in shown]


def test_every_notebook_is_tested():
    assert {path.stem for path in (ROOT / "docs").glob("*.ipynb")} == set(N_PICTURES)


@pytest.mark.slow
@EACH
def test_notebook_runs_top_to_bottom_in_a_fresh_interpreter_and_its_outputs_are_its_own(name):
    begun = time.perf_counter()
    result = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            str(SCRIPT),
            "--check",
            str(ROOT / "docs" / f"{name}.ipynb"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert time.perf_counter() - begun < 120


@EACH
def test_notebook_is_committed_with_all_its_outputs(name):
    code, pictures = code_of(notebook_of(name)), pictures_of(notebook_of(name))
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    silent = [cell for cell in code if "network" not in cell["metadata"].get("tags", [])]
    assert all(cell["outputs"] for cell in silent if cell is not code[0])
    assert len(pictures) == N_PICTURES[name]
    assert sum(map(len, pictures)) < 1_000_000
    for picture in pictures:
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", picture[16:24])
        assert 600 <= width <= 1400
        assert height >= 250


@EACH
def test_links_of_the_notebook_lead_to_files(name):
    text = "".join("".join(cell["source"]) for cell in notebook_of(name)["cells"])
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(links) >= 3
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_checker_sees_another_text_and_a_missing_picture():
    differences = runpy.run_path(str(SCRIPT))["differences"]
    notebook = notebook_of("manual_backprop")
    outputs = [cell["outputs"] for cell in code_of(notebook)]
    assert differences(notebook, outputs) == []
    changed = copy.deepcopy(notebook)
    cells = code_of(changed)
    stream = next(o for c in cells for o in c["outputs"] if o["output_type"] == "stream")
    stream["text"] = ["something else\n"]
    assert len(differences(changed, outputs)) == 1
    shown = next(c for c in cells if any(o["output_type"] == "display_data" for o in c["outputs"]))
    shown["outputs"] = [o for o in shown["outputs"] if o["output_type"] != "display_data"]
    assert any("pictures differ" in line for line in differences(changed, outputs))


@pytest.mark.parametrize("code", ["1 / 0", "import matplotlib.pyplot as plt\nplt.figure()"])
def test_cell_that_fails_or_hides_a_figure_fails_the_run(tmp_path, code):
    cell = {"cell_type": "code", "execution_count": None, "outputs": [], "source": [code]}
    file = tmp_path / "bad.ipynb"
    text = json.dumps({"cells": [cell]})
    file.write_text(text)
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(file)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "Error" in result.stderr
    assert file.read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["bad.ipynb"]
