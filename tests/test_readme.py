"""The README's example runs and prints what it says; its links lead somewhere."""

import configparser
import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_example_prints_what_the_readme_says():
    code, printed = re.search(r"```python\n(.*?)```\s*```text\n(.*?)```", README, re.S).groups()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    assert out.getvalue() == printed


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/derivation.md",
        "docs/conformance.md",
        "docs/conformance_vectors.md",
        "docs/mistakes.md",
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
