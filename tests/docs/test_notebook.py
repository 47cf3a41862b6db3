"""docs/manual_backprop.ipynb runs as it stands, and prints and draws what is in it."""

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
NOTEBOOK = json.loads((ROOT / "docs" / "manual_backprop.ipynb").read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
PICTURES = [
    base64.b64decode(output["data"]["image/png"])
    for cell in CODE
    for output in cell["outputs"]
    if output["output_type"] == "display_data"
]


@pytest.mark.slow
def test_notebook_runs_top_to_bottom_in_a_fresh_interpreter_and_its_outputs_are_its_own():
    begun = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert time.perf_counter() - begun < 120


def test_notebook_is_committed_with_all_its_outputs():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    assert all(cell["outputs"] for cell in CODE[1:])
    assert len(PICTURES) == 7
    assert sum(map(len, PICTURES)) < 1_000_000
    for picture in PICTURES:
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", picture[16:24])
        assert 600 <= width <= 1400
        assert height >= 250


def test_links_of_the_notebook_lead_to_files():
    text = "".join("".join(cell["source"]) for cell in NOTEBOOK["cells"])
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(links) >= 3
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_checker_sees_another_text_and_a_missing_picture():
    differences = runpy.run_path(str(SCRIPT))["differences"]
    outputs = [cell["outputs"] for cell in CODE]
    assert differences(NOTEBOOK, outputs) == []
    changed = copy.deepcopy(NOTEBOOK)
    cells = [cell for cell in changed["cells"] if cell["cell_type"] == "code"]
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
