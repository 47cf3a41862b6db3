"""Fits to several files, in parts, with checkpoints: what a user with large data meets."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from gmm_np import GaussianMixture
from gmm_np.cli import main
from gmm_np.mixture import model_file
from gmm_np.tables import write_table

N = 600


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    return rng.permutation(
        np.concatenate([rng.normal(-2, 1, (N // 3, 2)), rng.normal(2, 0.5, (N - N // 3, 2))])
    )


@pytest.fixture
def directory(tmp_path, monkeypatch, x):
    """Four files of rows, all of them in one, and this the present directory."""
    monkeypatch.chdir(tmp_path)
    for index, part in enumerate(np.split(x, [50, 333, 400])):
        write_table(tmp_path / f"part-{index}.csv", part, ["a", "b"])
    write_table(tmp_path / "all.csv", x, ["a", "b"])
    return tmp_path


def run(capsys, *arguments, code=0):
    """Run the command line; return what it printed, and said on stderr."""
    try:
        found = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        found = stop.code
    printed = capsys.readouterr()
    assert found == code, printed.err
    return printed


def same_mixture(path, other, tol=1e-9):
    """Whether two files hold the same mixture."""
    for name in ("weights_", "means_", "covariances_"):
        pair = (getattr(GaussianMixture.load(p), name) for p in (path, other))
        np.testing.assert_allclose(*pair, rtol=tol, atol=tol)


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize("names", [["part-*.csv"], [f"part-{i}.csv" for i in range(4)]])
def test_several_files_are_fitted_as_one(capsys, names):
    run(capsys, "fit", "all.csv", "-k", 2, "--stream", "--out", "one.npz")
    printed = run(capsys, "fit", *names, "-k", 2, "--out", "several.npz")
    assert printed.out.splitlines()[0] == (
        "part-*.csv (4 files): 600 rows of a, b"
        if "*" in names[0]
        else "part-0.csv and 3 more: 600 rows of a, b"
    )
    same_mixture("several.npz", "one.npz")
    found = [
        json.loads(run(capsys, "score", "one.npz", *data, "--json").out)["nll"]
        for data in (names, ["all.csv"])
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-12)


@pytest.mark.usefixtures("directory")
def test_assign_keeps_the_rows_of_each_file_in_order(capsys, x):
    run(capsys, "fit", "all.csv", "-k", 2, "--out", "m.npz")
    with Path("part-0.csv").open("a", encoding="utf-8") as file:
        file.write("7,\n")  # line 52, as a row of the next file that is complete
    out = run(capsys, "assign", "m.npz", "part-*.csv", "--missing", "drop").out
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["a"] for row in rows[:52]] == [
        *map(repr, x[:50, 0].tolist()),
        "7",
        repr(x[50, 0].item()),
    ]
    assert [bool(row["component"]) for row in rows] == [True] * 50 + [False] + [True] * 550


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "none-*.csv", "-k", "2"], "none-*.csv: no file has a name like this"),
        (["fit", "all.csv", "all.csv", "-k", "2"], "all.csv: is there twice"),
        (["fit", "all.csv", "-", "-k", "2"], "DATA - is the standard input alone"),
        (["fit", "*.csv", "-k", "2"], "z.csv: column 1 is 'b' where that of all.csv is 'a'"),
        (["fit", "bad/*.csv", "-k", "2"], "bad/1.csv, line 3, column 2 ('b'): 'x' is"),
    ],
)
def test_what_several_files_cannot_be_is_one_line(directory, capsys, arguments, message):
    write_table(directory / "z.csv", np.eye(2), ["b", "a"])
    (directory / "bad").mkdir()
    for index, last in enumerate(["4", "x"]):
        (directory / f"bad/{index}.csv").write_text(f"a,b\n1,2\n3,{last}\n", encoding="utf-8")
    printed = run(capsys, *arguments, code=2)
    assert printed.err.startswith(f"gmm-np: error: {message}")
    assert printed.err.count("\n") == 1


@pytest.mark.usefixtures("directory")
def test_lines_of_several_files_are_not_mixed(capsys):
    run(capsys, "fit", "all.csv", "-k", 2, "--out", "m.npz")
    options = ["--missing", "drop", "--out", "rows.csv"]
    printed = run(capsys, "score", "m.npz", "part-*.csv", *options, code=2)
    assert "score one file at a time" in printed.err
    run(capsys, "score", "m.npz", "part-*.csv", "--out", "rows.csv")
    assert len(Path("rows.csv").read_text(encoding="utf-8").splitlines()) == 1 + N


# --- checkpoints --------------------------------------------------------------------------------


def bits(path):
    p = GaussianMixture.load(path).parameters_
    return b"".join(array.tobytes() for array in (p.pi_logits, p.means, p.scale))


class Killed(BaseException):
    """What nobody catches."""


def kill_after(monkeypatch, n_writes):
    """Let the process die after so many checkpoints."""
    save, written = model_file.save, []

    def dying(*arguments):
        save(*arguments)
        written.append(1)
        if len(written) == n_writes:
            raise Killed

    monkeypatch.setattr("gmm_np.mixture.model_file.save", dying)


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize("options", [[], ["--stream"], ["--standardize", "--solver", "em+newton"]])
def test_a_fit_that_was_killed_resumes_to_the_same_bits(capsys, monkeypatch, options):
    options = ["fit", "all.csv", "-k", "1-3", "--n-init", "2", *options]
    expected = run(capsys, *options, "--out", "one.npz").out
    for n_writes in (1, 7):
        with monkeypatch.context() as patch:
            kill_after(patch, n_writes)
            with pytest.raises(Killed):
                main([*options, "--checkpoint", "c.npz"])
        # It is a model, of the rows in their own units.
        assert float(json.loads(run(capsys, "score", "c.npz", "all.csv", "--json").out)["nll"]) < 6
        assert "a  " in run(capsys, "info", "c.npz").out
        out = run(capsys, *options, "--resume", "c.npz", "--out", "two.npz").out
        assert out == expected.replace("one.npz", "two.npz")
        assert bits("two.npz") == bits("one.npz")


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["all.csv", "-k", "3"],
            "of another fit: --components was 2, and is 3; repeat the command",
        ),
        (["all.csv", "-k", "2", "--family", "diag"], "--family was full, and is diag"),
        (["all.csv", "-k", "2", "--columns", "a"], "--columns was a,b, and is a"),
        (["all.csv", "-k", "2", "--tol", "1e-3"], "--tol was left out, and is 0.001"),
        (["part-3.csv", "-k", "2"], "the rows of DATA are others: their variances differ"),
        (["all.csv", "-k", "2", "--stream"], "DATA were read in memory, and are read as a stream"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(capsys, options, message):
    run(capsys, "fit", "all.csv", "-k", "2", "--checkpoint", "c.npz", "--out", "m.npz")
    printed = run(capsys, "fit", *options, "--resume", "c.npz", code=2)
    assert printed.err.startswith("gmm-np: error: c.npz: is of another fit: ")
    assert message in printed.err
    printed = run(capsys, "fit", "all.csv", "-k", "2", "--resume", "m.npz", code=2)
    assert "m.npz: is a model without the state of a fit; give a file that" in printed.err
    printed = run(capsys, "fit", "all.csv", "-k", "2", "--resume", "none.npz", code=2)
    assert "none.npz: no such file" in printed.err


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize("more", [[], ["--json"], ["--checkpoint", "c.npz", "--standardize"]])
def test_an_interrupted_fit_without_out_prints_the_best_so_far(capsys, monkeypatch, more):
    def stop(self, steps=1, note=""):
        del steps, note
        self.done += 1
        if self.done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("gmm_np.commands.candidates.Progress.advance", stop)
    options = ["fit", "all.csv", "-k", "2", "--stream", "--tol", "0", "--seed", "1"]
    printed = run(capsys, *options, *more, code=130)
    which = "interrupted; the best model so far (full, K = 2, after 3 iterations) is printed; --out"
    assert printed.err.startswith(f"gmm-np: {which}")
    if "--json" in more:
        assert json.loads(printed.out)["interrupted"] is True
        assert len(json.loads(printed.out)["means"]) == 2
    else:
        assert printed.out.count("weight 0.") == 2
        assert " 1.9" in printed.out or " 2.0" in printed.out  # in the units of the data
    if "c.npz" in more:
        assert printed.err.endswith("; --resume c.npz goes on with the fit\n")
