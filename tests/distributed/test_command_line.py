"""gmm-np fit --workers: files that processes of this machine read, part by part."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from checkout import ROOT

from gmm_np import GaussianMixture
from gmm_np.cli import main
from gmm_np.mixture import model_file

pytestmark = [
    pytest.mark.needs_extras,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
N = 2000


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    rows = [rng.normal(-2, 1, (N // 3, 2)), rng.normal(2, 0.5, (N - N // 3, 2))]
    return rng.permutation(np.concatenate(rows))


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch, x):
    """Three Parquet files of row groups of 100, the last with a column of weights as well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gmm_np.commands.workers.ROWS_OF_A_PART", 250)
    weight = np.random.default_rng(1).integers(0, 3, N)
    frame = pd.DataFrame(np.column_stack([x, weight]), columns=["a", "b", "w"])
    for index, part in enumerate(np.array_split(np.arange(N), 3)):
        frame.iloc[part].to_parquet(f"{index}.parquet", row_group_size=100, index=False)
    return tmp_path


def run(capsys, *arguments, code=0):
    """Run the command line; return what it printed, and said on stderr."""
    found = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert found == code, printed.err
    return printed


def bits(path):
    p = GaussianMixture.load(path).parameters_
    return b"".join(a.tobytes() for a in (p.pi_logits, p.means, p.scale))


def processes():
    """Processes below this one, but for the one that Python itself keeps."""
    found = psutil.Process().children(recursive=True)
    return [p.pid for p in found if "resource_tracker" not in " ".join(p.cmdline())]


def group_of(pid):
    try:
        return os.getpgid(pid)
    except OSError:  # it has ended
        return None


def test_workers_fit_what_a_stream_does_whatever_their_number(capsys):
    options = ["*.parquet", "--columns", "a,b", "-k", "1-2", "--weights", "w", "--n-init", 2]
    options += ["--standardize", "--errors", "--tol", "1e-9", "--json"]
    before = processes()
    here = json.loads(run(capsys, "fit", *options).out)
    found = [
        json.loads(run(capsys, "fit", *options, "--workers", n, "--out", f"{n}.npz").out)
        for n in (1, 2)
    ]
    assert found[0] == found[1]
    assert bits("1.npz") == bits("2.npz")
    assert found[0]["n_samples"] == here["n_samples"] == N
    assert found[0]["bic"] == pytest.approx(here["bic"], rel=1e-6)
    errors = [np.sort(np.ravel(said["standard_errors"]["means"])) for said in (found[0], here)]
    np.testing.assert_allclose(*errors, rtol=1e-4)
    assert processes() == before


def test_a_fault_in_a_part_is_one_line_with_its_file(directory, capsys):
    bad = pd.read_parquet("1.parquet")
    bad.loc[423, "b"] = np.nan
    bad.to_parquet("1.parquet", row_group_size=100, index=False)
    options = ["*.parquet", "-k", "2", "--columns", "a,b", "--workers", "2"]
    printed = run(capsys, "fit", *options, code=2)
    assert printed.err == (
        "gmm-np: error: 1.parquet, row 424, column 2 ('b'): nan is not a finite number; mend it or "
        "drop the row (--missing drop, or marginal to keep it)\n"
    )
    printed = run(capsys, "fit", *options, "--missing", "drop", "--out", "m.npz")
    assert printed.out.startswith(
        f"*.parquet (3 files): {N - 1} rows of a, b; left out for a missing value: 1\n"
    )
    assert sorted(p.name for p in directory.iterdir()) == [
        *(f"{i}.parquet" for i in range(3)),
        "m.npz",
    ]


def test_without_dask_a_line_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    printed = run(capsys, "fit", "0.parquet", "-k", "2", "--workers", "2", code=2)
    assert printed.err.startswith(
        "gmm-np: error: --workers needs Dask, which is not installed: pip"
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a group of processes")
def test_ctrl_c_ends_all_processes_and_keeps_the_best_model_so_far():
    """Of a terminal it goes to the workers, too."""
    options = ["*.parquet", "--columns", "a,b", "-k", "2", "--workers", "2", "--out", "m.npz"]
    options += ["--tol", "0", "--reg-covar", "1e-3", "--max-iter", "1000000"]
    code = """
import signal, sys
import gmm_np.commands.candidates as candidates
from gmm_np.cli import main
from gmm_np.mixture import model_file
from gmm_np.progress import Progress

class Told(Progress):
    def advance(self, steps=1, note=''):
        super().advance(steps, note)
        if self.done == 3:
            print('iterating', flush=True)

if __name__ == '__main__':
    # A shell without job control starts what runs in the background deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    candidates.Progress = Told
    sys.exit(main(sys.argv[1:]))
"""
    Path("run.py").write_text(code, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "run.py", "fit", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        begun = process.stdout.readline()
        assert begun == "iterating\n", process.stderr.read()
        time.sleep(0.1)  # somewhere in an iteration
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    lines = [line for line in err.splitlines() if not line.startswith("fit full")]
    assert len(lines) == 1, err
    assert lines[0].startswith("gmm-np: interrupted; the best model so far (full, K = 2, after ")
    assert (process.returncode, out) == (130, "")
    left = [p for p in psutil.process_iter() if group_of(p.pid) == process.pid]
    assert not psutil.wait_procs(left, timeout=10)[1]  # Python's own helper ends after it
    assert GaussianMixture.load("m.npz").n_iter_ >= 3


def test_a_fit_by_workers_that_was_killed_resumes_to_the_same_bits(capsys, monkeypatch):
    """Whatever the number of the workers that go on."""
    save, written = model_file.save, []

    def copying(path, *arguments):
        save(path, *arguments)
        written.append(path)
        if len(written) == 4:  # what is there if the process dies now
            shutil.copy(path, "c.npz")

    options = ["fit", "*.parquet", "--columns", "a,b", "-k", "2", "--tol", "1e-9"]
    with monkeypatch.context() as patch:
        patch.setattr("gmm_np.mixture.model_file.save", copying)
        run(capsys, *options, "--workers", 1, "--checkpoint", "all.npz", "--out", "one.npz")
    assert len(written) > 5
    run(capsys, *options, "--workers", 2, "--resume", "c.npz", "--out", "two.npz")
    assert bits("two.npz") == bits("one.npz")
    printed = run(capsys, *options, "--resume", "c.npz", code=2)
    assert "DATA were read by --workers, and are read as a stream" in printed.err


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path, capsys):
    page = (ROOT / "docs/distributed.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.S)
    first, *commands = block.splitlines()
    assert first == "mkdir -p data"
    (tmp_path / "data").mkdir()
    (tmp_path / "gmm_np").symlink_to(ROOT / "gmm_np")
    smaller = {"60000": "600", "40000": "400"}
    for line in commands:
        name, *arguments = shlex.split(line)
        assert name == "gmm-np"
        run(capsys, *(smaller.get(argument, argument) for argument in arguments))
    assert bits("resumed.npz") == bits("by_workers.npz")
