"""The pictures of the command line: their captions, and the format that a file's ending names."""

from pathlib import Path

import numpy as np
import pytest

from gmm_np.cli import main
from gmm_np.tables import write_table

pytestmark = pytest.mark.needs_extras

PICTURES = ("plot", "plot-history", "plot-responsibilities", "plot-bic")
STARTS = {".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF-", ".svg": b"<?xml"}


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_table("data.csv", np.random.default_rng(0).normal(size=(40, 3)), list("abc"))


@pytest.mark.parametrize("columns", ["1", "1-2", "1-3"])
def test_each_picture_of_a_fit_has_a_caption(columns):
    options = [part for name in PICTURES for part in (f"--{name}", f"{name}.svg")]
    assert main(["fit", "data.csv", "-k", "1", "--columns", columns, *options]) == 0
    for name in PICTURES:
        assert 'id="caption"' in Path(f"{name}.svg").read_text(encoding="utf-8")


def test_each_picture_of_the_demo_has_a_caption():
    fewest = ["--clusters", "2", "--samples", "50", "--starts", "1"]
    assert main(["demo", *fewest, "--plot", "a.svg", "--plot-history", "b.svg"]) == 0
    assert main(["demo", "--starts", "1", "--out", "c.svg"]) == 0
    for name in "abc":
        assert 'id="caption"' in Path(f"{name}.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("suffix", STARTS)
def test_the_ending_says_the_format(suffix):
    assert main(["fit", "data.csv", "-k", "1", "--plot", f"picture{suffix}"]) == 0
    assert Path(f"picture{suffix}").read_bytes().startswith(STARTS[suffix])


@pytest.mark.parametrize("name", PICTURES)
def test_another_ending_is_refused_before_the_work_begins(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "no-such-file.csv", "-k", "1", f"--{name}", "picture.jpg"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert f"--{name}: must end in .png, .pdf or .svg; got 'picture.jpg'" in said
