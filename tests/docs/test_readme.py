"""The README's example runs and prints what it says; its links lead somewhere."""

import configparser
import contextlib
import io
import os
import re
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT, copy_tree

import gmm_np

README = (ROOT / "README.md").read_text(encoding="utf-8")


# Commands that are not run here, and why.
NOT_RUN = {
    "bash scripts/test": "runs this test, and takes minutes",
    "pip install .": "fetches packages",
    'pip install ".[cli]"': "fetches packages",
    "python scripts/live_page.py": "fetches packages; tests/docs/test_live_browser.py runs it",
    "python -m http.server --directory build/live": "serves until it is ended",
    "gmm-np demo --clusters 2 --components 5 --frames pictures": "draws for half a minute; "
    "tests/commands/test_demo.py has it with fewer pictures",
}
# Commands that end with another exit code than 0.
EXIT_CODES = {"gmm-np exercises check practice/exercises.py": 1}  # nothing is solved yet


def test_python_runs_and_prints_as_printed_one_block_after_the_other():
    blocks = re.findall(r"```python\n(.*?)```(?:\s*```text\n(.*?)```)?", README, re.S)
    assert len(blocks) == README.count("```python") >= 3
    assert blocks[0][1]
    names = {}
    for code, printed in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, names)
        assert not printed or out.getvalue() == printed
        if "report" in code:
            assert "every gradient agrees" in out.getvalue()
    assert names["report"].passed
    of_all = gmm_np.nll_value_and_grad(*(names[n] for n in ("x", "pi_logits", "means", "scale")))[1]
    for found, expected in zip(names["gradients"][:3], of_all[:3], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def commands():
    """Return the shell commands of the README in their order, those within sentences too."""
    pieces = re.findall(r"```(\w*)\n(.*?)```|(?<!`)`([^`]+)`(?!`)", README, re.S)
    found = []
    for language, block, inline in pieces:
        if language == "sh":
            found += [re.sub(r"\s+#.*", "", line) for line in block.splitlines()]
        elif re.match(r"(gmm-np|bash|pip|python|\.) ", inline):
            found.append(" ".join(inline.split()))
    return found


@pytest.fixture
def checkout(tmp_path):
    """Return a copy of the tree, in which nothing is left to be fetched for scripts/demo."""
    copy = copy_tree(tmp_path / "checkout")
    venv.create(copy / ".venv", symlinks=True)
    program = copy / ".venv/bin/gmm-np"  # as pip writes it
    program.write_text('#!/bin/sh\nexec "$(dirname "$0")/python" -m gmm_np "$@"\n')
    program.chmod(0o755)
    (copy / ".venv/.installed-cli").touch()
    return copy


@pytest.mark.slow
@pytest.mark.needs_extras  # pictures need matplotlib
def test_commands_run_as_printed_one_after_the_other(checkout):
    found = commands()
    assert "bash scripts/demo" in found
    assert set(NOT_RUN) | set(EXIT_CODES) <= set(found)
    script = "export PYTHONWARNINGS=error\n"
    for command in found:
        if command not in NOT_RUN:
            expected = EXIT_CODES.get(command, 0)
            script += f"status=0\n{command} || status=$?\n[ $status = {expected} ]\n"
    # No gmm-np of another environment, and packages where this one has them.
    system = os.pathsep.join(path for path in os.defpath.split(os.pathsep) if path)
    packages = {str(Path(find_spec(name).origin).parents[1]) for name in ("numpy", "matplotlib")}
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONHOME")},
        "PATH": system,
        "PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join([str(checkout), *packages]),
    }
    done = subprocess.run(
        ["bash", "-ex", "-c", script],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert ". .venv/bin/activate" in done.stderr
    assert {"old_faithful.png", "fit.png", "model.npz"} <= {p.name for p in checkout.iterdir()}


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/derivation.md",
        "docs/conformance.md",
        "docs/conformance_vectors.md",
        "docs/distributed.md",
        "docs/mistakes.md",
        "docs/parts.md",
    ],
)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    missing = [link for link in links if not ((ROOT / page).parent / link).exists()]
    assert not missing


def test_tour_names_every_module():
    named = set(re.findall(r"\(gmm_np/(\w+\.py)\)", README))
    assert named == {path.name for path in (ROOT / "gmm_np").glob("[a-z]*.py")} - {"progress.py"}


def test_messages_name_packages_that_an_index_has():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    required = " ".join(config["options.extras_require"].values())
    known = {line.split(">")[0].strip() for line in required.splitlines()}
    source = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "gmm_np").rglob("*.py"))
    named = set(re.findall(r"pip install [\"']?([\w\[\].-]+)", source))
    assert {"matplotlib", "pyarrow"} <= named <= known


@pytest.mark.needs_extras  # pictures need matplotlib
def test_demo_prints_what_the_readme_says(tmp_path, capsys):
    from gmm_np.cli import main

    shown = re.search(r"first command prints\s*```text\n(.*?)```", README, re.S)[1]
    main(["demo", "--out", str(tmp_path / "old_faithful.png")])
    out = capsys.readouterr().out.replace(str(tmp_path) + "/", "")

    def lasting(text):
        # Left out is what rounding, or a newer k-means, may decide: slopes, errors, iterations.
        text = re.sub(r"\S+e[+-]\d\d\b|after \d+ iterations", "~", text)
        return [line.split() for line in text.splitlines()]

    assert lasting(out) == lasting(shown)
