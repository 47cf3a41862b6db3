"""What `gmm-np fit` writes beside the model: the rows with their components, and the report."""

import csv
from pathlib import Path

import numpy as np
import pytest

from gmm_np.cli import main
from gmm_np.datasets import load_old_faithful
from gmm_np.tables import write_table


@pytest.fixture
def geyser(tmp_path, monkeypatch):
    """Old Faithful as a CSV file with a header, in the present directory."""
    monkeypatch.chdir(tmp_path)
    x, names = load_old_faithful()
    path = tmp_path / "geyser.csv"
    write_table(path, x, names)
    return path


def run(capsys, *arguments, code=0):
    """Run the command line; return what it printed, and said on stderr."""
    try:
        found = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        found = stop.code
    printed = capsys.readouterr()
    assert found == code, printed.err
    return printed


# --- the rows with their components ---------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_fit_assigns_the_rows_as_the_assign_command_does(geyser, capsys, suffix):
    out, again = geyser.with_suffix(f".by_fit{suffix}"), geyser.with_suffix(f".again{suffix}")
    fit = ("fit", geyser, "-k", 2, "--out", "m.npz", "--assign", out)
    assert f"Rows: {out}\n" in run(capsys, *fit).out
    run(capsys, "assign", "m.npz", geyser, "--all", "--out", again)
    assert out.read_bytes() == again.read_bytes()
    assert "probability_1" in out.read_text(encoding="utf-8").splitlines()[0]


def test_fit_assigns_every_row_whatever_its_weight(geyser, capsys):
    lines = geyser.read_text(encoding="utf-8").splitlines()
    weights = ["weight", *(str(i % 2) for i in range(len(lines) - 1))]
    rows = [f"{line},{weight}" for line, weight in zip(lines, weights, strict=True)]
    geyser.write_text("\n".join([*rows, ",50,1"]) + "\n", encoding="utf-8")
    drop = ("--missing", "drop", "--weights", "weight")
    run(capsys, "fit", geyser, "-k", 2, *drop, "--assign", "rows.csv")
    with Path("rows.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["weight"] for row in found] == [*weights[1:], "1"]
    each = np.array([[float(row[f"probability_{k}"]) for k in (0, 1)] for row in found[:-1]])
    np.testing.assert_allclose(each.sum(axis=1), 1.0, rtol=1e-12)
    assert each.argmax(axis=1).tolist() == [int(row["component"]) for row in found[:-1]]
    assert found[-1]["component"] == found[-1]["probability_0"] == ""  # a value is missing


def test_rows_that_cannot_be_written_leave_the_fit(geyser, capsys, monkeypatch):
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("gmm_np.commands.assign.write_rows", stop)
    printed = run(capsys, "fit", geyser, "-k", 2, "--assign", "rows.csv", code=130)
    assert "NLL: 4.155" in printed.out
    assert "Rows:" not in printed.out
    assert "the fit is there, but rows.csv was not written" in printed.err
    assert not geyser.with_name("rows.csv").exists()
    said = run(capsys, "fit", geyser, "-k", 2, "--assign", "rows.txt", code=2).err
    assert "--assign: must end in .csv or .tsv; got 'rows.txt'" in said
