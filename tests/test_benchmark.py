"""scripts/benchmark.py finds out who is wrong before it times anybody. No time is asserted here.

Most peers answer in this process, by the server that their own would run; processes are started
for what only they can show. The timeouts are for hangs, and far beyond what a busy machine takes.
"""

import contextlib
import importlib
import io
import json
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gmm_np.linalg import threads

pytestmark = [pytest.mark.slow, pytest.mark.needs_extras]

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
HANGS = 600  # seconds
TINY = ("--quick", "--d", "2", "--k", "3", "--repeat", "2", "--budget", "0.2", "--threads", "1")

# Peers that are wrong, each in a way of its own, around one that is right.
PLANTED = """
import os
import time

import numpy as np
from benchmark_peers import Answer, Peer, Prepared
from gmm_np import nll_value_and_grad


def peer(change, **options):
    def prepare(p):
        def call():
            value, g = nll_value_and_grad(p.x, p.pi_logits, p.means, p.scale_tril)
            return change(value, g.pi_logits, g.means, g.scale)

        return Prepared(call, lambda out: Answer(out[0], out[1:]))

    return Peer("planted", prepare, options.pop("modules", ("numpy",)), **options)


def raises(*_):
    raise ArithmeticError("planted")


PEERS = {
    "planted_right": peer(lambda v, a, m, s: (v, a, m, s)),
    "planted_value": peer(lambda v, a, m, s: (v * (1 + 1e-9), a, m, s)),
    "planted_logits": peer(lambda v, a, m, s: (v, a * (1 + 1e-9), m, s)),
    "planted_means": peer(lambda v, a, m, s: (v, a, m[::-1], s)),
    "planted_scale": peer(lambda v, a, m, s: (v, a, m, s.transpose(0, 2, 1))),
    "planted_nan": peer(lambda v, a, m, s: (v, a, m * np.nan, s)),
    "planted_shape": peer(lambda v, a, m, s: (v, a, m.T, s)),
    "planted_short": peer(lambda v, a, m, s: (v, a, m)),
    "planted_error": peer(raises),
    "planted_death": peer(lambda *_: os._exit(3)),
    "planted_hunger": peer(lambda *out: out, doubles=(1e12, 0.0)),
    "planted_absence": peer(lambda *out: out, modules=("no_such_module",)),
    "hanging": peer(lambda *_: time.sleep(3600)),
}
"""


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("benchmark")


def make_worker(script, processes, hanging=None):
    """Return a class of workers: a process for some peers, an answer from here for the others."""

    class Chosen(script.Worker):
        def __init__(self, name, peer, options, *, warm=True):
            super().__init__(name, peer, options, warm=warm)
            self.name = name
            self.server = None if name in processes else script.benchmark_peers.Server(peer)

        def ask(self, do, **arguments):
            if self.server is None:
                if (self.name, do) == (hanging, "check"):  # it has started, and hangs from here on
                    self.options = SimpleNamespace(**{**vars(self.options), "timeout": 0.1})
                return super().ask(do, **arguments)
            try:
                answer = self.server.actions[do](**arguments)
            except Exception as error:
                raise script.PeerError("error", f"{type(error).__name__}: {error}") from None
            return json.loads(json.dumps(answer))

    return Chosen


@pytest.fixture(scope="module")
def benchmark(script):
    """Return the benchmark's command line as a function that takes care to be quick."""

    def run(*arguments, processes=(), hanging=None, imports=0):
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            for name in ("SETTLE", "BUSY"):
                patch.setattr(script, name, 0.0)
            patch.setattr(script, "IMPORTS", imports)
            # A process of the benchmark collects garbage often; this one has more to look through.
            patch.setattr(script.benchmark_peers.gc, "collect", int)
            patch.setattr(script, "Worker", make_worker(script, processes, hanging))
            try:
                code = script.main([str(argument) for argument in arguments])
            except SystemExit as error:  # of the parser
                code = error.code
        return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())

    return run


def read(path):
    """Read JSON that has neither NaN nor infinities."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark")
    (path / "planted.py").write_text(PLANTED)
    return path


@pytest.fixture(scope="module")
def planted(directory, benchmark):
    """A run among peers that are wrong."""
    out = directory / "planted.json"
    options = ("--peers", "planted", "--peer-module", directory / "planted.py", "--json", out)
    processes = [f"planted_{name}" for name in ("error", "death")]
    done = benchmark(*TINY, "--n", 300, *options, processes=processes, imports=1)
    assert done.returncode == 1, done.stderr
    return done, read(out)


@pytest.fixture
def compare(script):
    return script.compare


def summary(value=2.0, norm=1.0, projections=(0.5, -0.25), shape=(2,)):
    block = {"norm": norm, "projections": list(projections), "shape": list(shape)}
    return {"value": value, "pi_logits": block, "means": block, "scale": block}


@pytest.fixture(scope="module")
def quick(directory, script, benchmark):
    """A run of gmm_np, in processes of its own, and PyTorch; the file has three batches."""
    peers = ("gmm_np_auto", "gmm_np_direct", "torch_mixture", "floor")
    files = [directory / f"quick.{suffix}" for suffix in ("json", "md", "png")]
    options = ("--n", 300, "--stream", 3000, "--peers", *peers)
    options += ("--json", files[0], "--markdown", files[1], "--plot", files[2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "STREAM_BATCH", 1000)
        done = benchmark(*TINY, *options, processes=["gmm_np_auto"])
    assert done.returncode == 0, done.stderr
    return files


def test_quick_mode_times_every_peer_in_pairs_with_auto(quick):
    data = read(quick[0])
    assert [(c["d"], c["k"], c["n"]) for c in data["cells"]] == [(2, 3, 300), (16, 32, 3000)]
    assert set(data["cells"][0]["peers"]) == set(data["peers"])
    for cell in data["cells"]:
        for name, record in cell["peers"].items():
            assert record["status"] == "timed", (name, record)
            assert 1 <= len(record["seconds"]) == len(record["base_seconds"]) <= 2
            assert min(record["seconds"] + record["base_seconds"]) > 0


def test_quick_mode_checks_against_the_reference(quick):
    cell = read(quick[0])["cells"][0]
    assert cell["judge"] == "gmm_np_reference"
    for name in ("gmm_np_direct", "torch_mixture"):
        errors = cell["peers"][name]["errors"]
        assert set(errors) == {"value", "pi_logits", "means", "scale"}
        assert max(errors.values()) <= 1e-10


@pytest.mark.parametrize("name", ["torch_mixture", "torch_formula", "torch_inverse"])
def test_every_way_to_write_it_in_pytorch_is_right(script, name):
    peers = script.benchmark_peers
    cell = script.Cell(300, 3, 2, 0)
    answers = []
    for peer in (script.REFERENCE, name):
        prepared = peers.PEERS[peer].prepare(peers.draw(cell))
        answers.append(peers.summarize(prepared.read(prepared.call()), cell))
    errors, complaints = script.compare(answers[1], answers[0], has_gradient=True)
    assert not complaints
    assert set(errors) == {"value", "pi_logits", "means", "scale"}


def test_stream_is_judged_by_direct_and_reports_memory(quick):
    data = read(quick[0])
    assert data["cells"][1]["stream"]
    assert data["cells"][1]["judge"] == "gmm_np_direct"
    assert any(c["from_file"] and c["added_mib"] >= 0 for c in data["cold"])


def test_report_names_machine_command_and_versions(quick):
    data, text = read(quick[0]), quick[1].read_text()
    for part in (data["command"], data["machine"]["cpu"], data["versions"]["torch"], "Ratios"):
        assert part in text
    assert quick[2].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["value", "logits", "means", "scale", "nan", "shape", "short"])
def test_wrong_answers_are_reported_and_not_timed(planted, name):
    done, data = planted
    record = data["cells"][0]["peers"][f"planted_{name}"]
    assert record["status"] == "wrong"
    assert "seconds" not in record
    assert f"wrong: planted_{name}" in done.stderr
    assert "**wrong**" in done.stdout


@pytest.mark.parametrize(
    ("name", "status", "note"),
    [
        ("right", "timed", ""),
        ("error", "error", "ArithmeticError: planted"),
        ("death", "died", "exit code 3"),
        ("hunger", "memory", "GB"),
        ("absence", "missing", "no_such_module"),
    ],
)
def test_peers_that_fail_are_named_and_do_not_end_the_run(planted, name, status, note):
    done, data = planted
    record = data["cells"][0]["peers"][f"planted_{name}"]
    assert record["status"] == status
    assert note in record["note"]
    assert note in done.stdout


def test_a_peer_that_hangs_is_ended_and_the_others_are_timed(directory, benchmark):
    out = directory / "hanging.json"
    options = ("--peers", "hanging", "planted_right", "--peer-module", directory / "planted.py")
    # Cold first, in a process of its own, then in the cell: ended twice.
    ways = {"processes": ["hanging"], "hanging": "hanging"}
    done = benchmark(*TINY, "--n", 300, *options, "--json", out, **ways)
    assert done.returncode == 0, done.stderr
    cold = {record["peer"]: record["status"] for record in read(out)["cold"]}
    assert cold["hanging"] == "timeout"
    records = read(out)["cells"][0]["peers"]
    assert {name: record["status"] for name, record in records.items()} == {
        "gmm_np_auto": "timed",
        "hanging": "timeout",
        "planted_right": "timed",
    }


def test_resume_measures_what_is_missing_and_refuses_other_settings(directory, benchmark):
    out = directory / "resumed.json"
    peers = ("--peers", "gmm_np_auto")
    assert benchmark(*TINY, "--n", 300, *peers, "--json", out).returncode == 0
    first = read(out)["cells"]
    done = benchmark(*TINY, "--n", 300, 400, *peers, "--resume", out)
    assert done.returncode == 0, done.stderr
    data = read(out)
    assert data["cells"][: len(first)] == first
    assert [cell["n"] for cell in data["cells"]] == [300, 400]
    refused = benchmark(*TINY, "--n", 300, *peers, "--resume", out, "--seed", 1)
    assert refused.returncode == 2
    assert "settings" in refused.stderr
    assert read(out) == data


def test_again_measures_cells_that_were_not_steady_and_no_others(directory, benchmark):
    out = directory / "again.json"
    options = (*TINY, "--n", 300, 400, "--peers", "gmm_np_auto")
    assert benchmark(*options, "--json", out).returncode == 0
    data = read(out)
    for cell, times in zip(data["cells"], ([1.0, 2.0, 2.0, 3.0], [1.0] * 4), strict=True):
        changed = {"calls": 1, "most": 100, "seconds": times, "base_seconds": times}
        cell["peers"]["gmm_np_auto"] |= changed
    out.write_text(json.dumps(data))
    done = benchmark(*options, "--resume", out, "--again", "--markdown", directory / "again.md")
    assert done.returncode == 0, done.stderr
    cells = {cell["n"]: cell for cell in read(out)["cells"]}
    assert cells[300]["peers"]["gmm_np_auto"]["seconds"] != [1.0, 2.0, 2.0, 3.0]
    assert cells[400] == data["cells"][1]
    assert "times further apart: 1." in (directory / "again.md").read_text()


def test_again_without_a_run_to_go_on_with_is_refused(benchmark):
    done = benchmark("--again")
    assert done.returncode == 2
    assert "--again wants --resume" in done.stderr


def record(seconds, most):
    return {"status": "timed", "seconds": seconds, "repeat": 3, "most": most}


def test_times_that_are_far_apart_ask_for_more_within_the_budget(script):
    run = SimpleNamespace(options=SimpleNamespace(repeat=3))
    names = (script.AUTO, "quick", "slow")
    for times, expected in (([1.0, 1.1, 1.2], [3, 3, 3]), ([1.0, 1.5, 2.0], [6, 6, 4])):
        records = {name: record(times, most) for name, most in zip(names, (9, 9, 4), strict=True)}
        script.extend(run, records)
        assert [records[name]["repeat"] for name in names] == expected


@pytest.mark.parametrize("unlucky", [0, 1, 2])
def test_one_unlucky_call_does_not_make_repetitions_too_short(script, unlucky):
    times = [1e-3, 1.1e-3, 1.2e-3]
    times[unlucky] = 0.04
    answers = iter({"calls": 1, "seconds": seconds} for seconds in times)
    run = SimpleNamespace(
        options=SimpleNamespace(budget=2.0, repeat=5),
        peers={"one": SimpleNamespace(share=1.0)},
        ask=lambda *_, **__: next(answers),
    )
    found = script.count_calls(run, "one", {"first_seconds": 0.04})
    assert found["calls"] * min(times) >= script.SHORTEST
    assert found["repeat"] == 5


@pytest.mark.parametrize(
    ("calls", "seconds", "doubtful"),
    [
        (20, [1e-3, 1.1e-3, 1.2e-3], False),
        (1, [1e-3, 1.1e-3, 1.2e-3], True),  # too short
        (20, [1e-3, 1.5e-3, 2e-3], True),  # not steady, and repetitions are left
        (20, [1e-3, 1.5e-3, 2e-3] * 5, False),  # none are left
        (1, [1.0, 1.1], False),
    ],
)
def test_cells_are_doubtful_where_more_repetitions_would_help(script, calls, seconds, doubtful):
    auto = {"status": "timed", "calls": calls, "seconds": seconds, "most": 100}
    cell = {"peers": {script.AUTO: auto, "other": {"status": "wrong"}}}
    assert script.is_doubtful(cell, {"repeat": 5}) is doubtful
    assert script.is_short(auto) is (calls == 1 and seconds[0] < 1)


def grid_cell(n, peers):
    return {"d": 2, "k": 5, "n": n, "kind": "likelihood", "stream": False, "peers": peers}


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ((1.0, 4.0), ["2 cells", " 2.00 times", "in 1 of them: D=2 K=5 N=2000 (4.00)."]),
        ((1.0, 1.0), ["2 cells", " 1.00 times", "in none of them."]),
    ],
)
def test_report_counts_cells_at_more_than_twice_the_floor(script, over, expected):
    cells = []
    for n, (floor, factor) in enumerate(zip((0.02, 0.02, 0.009), (*over, 9.0), strict=True), 1):
        times = {"seconds": [floor], "base_seconds": [floor * factor], "status": "timed"}
        auto = {"seconds": [floor * factor], "base_seconds": [floor * factor], "status": "timed"}
        peers = {script.AUTO: auto, script.FLOOR: times}
        cells.append(grid_cell(1000 * n, peers))
    text = " ".join(script.lines_on_floor({"cells": cells}))
    for part in expected:
        assert part in text, text


def test_cells_that_would_take_too_long_are_left_out_and_say_why(directory, benchmark):
    out = directory / "long.json"
    options = ("--n", 300, 3000, "--peers", "gmm_np_auto", "--longest", 1e-9, "--json", out)
    assert benchmark(*TINY, *options).returncode == 0
    few, many = (cell["peers"]["gmm_np_auto"] for cell in read(out)["cells"])
    assert few["status"] == "timed"
    assert many["status"] == "time"
    assert "10 times as many rows" in many["note"]


def test_unknown_peers_are_refused_by_name():
    command = [sys.executable, SCRIPTS / "benchmark.py", *TINY, "--peers", "tensorflow"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANGS)
    assert done.returncode == 2
    assert "tensorflow" in done.stderr


def test_comparison_accepts_rounding(compare):
    errors, complaints = compare(summary(2.0 * (1 + 1e-13)), summary(), has_gradient=True)
    assert not complaints
    assert 0 < errors["value"] < 1e-12


@pytest.mark.parametrize(
    "wrong",
    [
        summary(value=2.0 * (1 + 1e-9)),
        summary(value=float("nan")),
        summary(norm=1.0 + 1e-9),
        summary(projections=(0.5, -0.25 + 1e-9)),
        summary(projections=(float("nan"), -0.25)),
        summary(projections=(0.5, float("nan"))),
        summary(shape=(1, 2)),
        {"value": 2.0},
    ],
)
def test_comparison_refuses_what_is_off_by_a_billionth(compare, wrong):
    assert compare(wrong, summary(), has_gradient=True)[1]


# --- threads ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one_thread", "expected"),
    [
        ((1.0, 0.5, 0.8), ["in 2 of 3 cells", "at most 2.00 times, in D=2 K=5 N=2000", "1.36"]),
        ((1.0, 2.0, 0.95), ["in none of 3 cells", "at most 1.05 times, in D=2 K=5 N=3000", "0.81"]),
    ],
)
def test_report_says_where_threads_do_harm(script, one_thread, expected):
    cells = []
    for n, quotient in enumerate(one_thread, 1):
        auto = {"seconds": [2.0] * 3, "base_seconds": [2.0] * 3, "status": "timed"}
        # The median of pairs, not the quotient of medians.
        base = [1.0, 2.0, 30.0]
        one = {"seconds": [quotient * t for t in base], "base_seconds": base, "status": "timed"}
        peers = {script.AUTO: auto, script.ONE_THREAD: one}
        cells.append(grid_cell(1000 * n, peers))
    text = " ".join(script.lines_on_threads({"cells": cells}))
    for part in expected:
        assert part in text, text


# --- what processes run in ----------------------------------------------------------------------

# Peers that tell what reached their process, in the note that goes to the document.
TELLING = """
import json
import os

import numpy as np
import threadpoolctl
from benchmark_environment import ONE_THREAD, avx512_of_numpy
from benchmark_peers import PEERS as KNOWN
from benchmark_peers import Peer


def prepare(p):
    told = {
        "numpy": avx512_of_numpy(),
        "openblas": [blas["architecture"] for blas in threadpoolctl.threadpool_info()],
        "threads": os.environ["OPENBLAS_NUM_THREADS"],
    }
    return KNOWN["gmm_np_auto"].prepare(p)._replace(note=json.dumps(told))


PEERS = {
    "telling_all": Peer("telling", prepare, ("numpy",)),
    "telling_one": Peer("telling", prepare, ("numpy",), environment=ONE_THREAD),
}
"""


@pytest.fixture
def environment(script):
    return script.benchmark_environment


@pytest.fixture(scope="module")
def telling(directory, benchmark):
    """A run without AVX-512 and beside a busy process."""
    (directory / "telling.py").write_text(TELLING)
    options = (
        *TINY[:-1],
        2,
        "--n",
        300,
        "--peers",
        "telling",
        "--json",
        directory / "telling.json",
    )
    options += ("--peer-module", directory / "telling.py", "--without-avx512")
    done = benchmark(*options, "--beside", 1, processes=["telling_all", "telling_one"])
    assert done.returncode == 0, done.stderr
    return options, done.stdout, read(directory / "telling.json")


def test_without_avx512_neither_numpy_nor_openblas_of_a_peer_has_it(telling, environment):
    record = telling[2]["cells"][0]["peers"]["telling_all"]
    assert record["status"] == "timed"
    told = json.loads(record["note"])
    assert told["numpy"] == []
    assert told["openblas"]
    assert "SkylakeX" not in told["openblas"]
    if environment.has_avx512():
        assert set(told["openblas"]) == {"Haswell"}


def test_environment_of_a_peer_is_its_own(telling):
    peers = telling[2]["cells"][0]["peers"]
    threads = [json.loads(peers[f"telling_{name}"]["note"])["threads"] for name in ("all", "one")]
    assert threads == ["2", "1"]


def test_report_says_which_way_it_ran_and_beside_what(telling, environment):
    _, text, data = telling
    settings = data["settings"]
    assert settings["avx512"] == environment.describe_avx512(without=True)
    assert settings["beside"] == 1
    assert settings["environment"]["OMP_NUM_THREADS"] == "2"
    for part in (settings["avx512"], "Beside 1 busy process.", "OMP_NUM_THREADS=2"):
        assert part in text


def test_resume_refuses_a_run_beside_other_processes(telling, benchmark):
    options, _, data = telling
    done = benchmark(*options, "--resume", options[options.index("--json") + 1], "--beside", 2)
    assert done.returncode == 2
    assert "settings" in done.stderr
    assert data["settings"]["beside"] == 1


def processor(monkeypatch, environment, dispatched, others=()):
    features = dict.fromkeys((*dispatched, *others), True) | {"AVX512_SPR": False}
    umath = SimpleNamespace(__cpu_features__=features, __cpu_dispatch__=[*dispatched, "AVX512_SPR"])
    monkeypatch.setattr(environment, "umath", umath)
    for name in (*environment.AVX2_AT_MOST, environment.NUMPY, environment.XLA):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("dispatched", "others", "disabled"),
    [
        (["AVX2", "AVX512F", "AVX512_SKX"], ["AVX512VL"], "AVX512F AVX512_SKX"),  # to NumPy 2.3
        (["X86_V3", "X86_V4"], ["AVX512F"], "X86_V4"),  # since NumPy 2.4
    ],
)
def test_what_numpy_uses_of_avx512_is_switched_off_by_its_names(
    monkeypatch, environment, dispatched, others, disabled
):
    processor(monkeypatch, environment, dispatched, others)
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=here")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "SkylakeX")
    made = environment.make_environment(without_avx512=True)
    assert made["NPY_DISABLE_CPU_FEATURES"] == disabled
    assert made["OPENBLAS_CORETYPE"] == "Haswell"
    assert made["XLA_FLAGS"] == "--xla_dump_to=here --xla_cpu_max_isa=AVX2"
    assert environment.describe_avx512(without=True) == "AVX-512 switched off"
    assert environment.describe_avx512(without=False) == "AVX-512"
    kept = environment.settings_in(environment.make_environment(without_avx512=False))
    assert kept.pop("XLA_FLAGS") == "--xla_dump_to=here"
    assert kept.pop("OPENBLAS_CORETYPE") == "SkylakeX"
    assert set(kept) <= set(environment.THREADS)


def test_processor_that_has_no_avx512_is_left_alone_and_says_so(monkeypatch, environment):
    processor(monkeypatch, environment, ["AVX2", "FMA3"])
    made = environment.make_environment(without_avx512=True)
    assert made == environment.make_environment(without_avx512=False)
    for without in (True, False):
        assert environment.describe_avx512(without=without) == "the processor has no AVX-512"


def test_resume_refuses_to_mix_with_and_without_avx512(monkeypatch, script, environment, tmp_path):
    processor(monkeypatch, environment, ["X86_V4"], ["AVX512F"])
    monkeypatch.setattr(script, "IMPORTS", 0)
    peers = script.benchmark_peers.PEERS
    path = tmp_path / "with.json"
    options = script.parse_options(["--resume", str(path)])
    path.write_text(json.dumps(script.open_document(options, [script.AUTO], peers)))
    assert script.open_document(options, [script.AUTO], peers) == read(path)
    options = script.parse_options(["--resume", str(path), "--without-avx512"])
    with pytest.raises(ValueError, match="it has other settings"):
        script.open_document(options, [script.AUTO], peers)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_busy_processes_end_with_the_context_whatever_ends_it(environment, error):
    started = []

    def fail():
        with environment.busy_processes(2) as processes:
            started.extend(processes)
            assert [process.poll() for process in processes] == [None, None]
            raise error

    with pytest.raises(error):
        fail()
    assert len(started) == 2
    assert None not in [process.poll() for process in started]


def test_busy_processes_are_busy(environment):
    for seconds in (0.5, 1.0, 4.0, 16.0, 64.0):  # an idle core gives enough in the first
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        with environment.busy_processes(1) as (process,), pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)  # it does not end of itself
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        if used > 0.2:  # to start Python takes a tenth of that, however long one waits
            break
    assert used > 0.2


def test_busy_processes_end_with_a_parent_that_cannot_end_them():
    program = (
        "import os, benchmark_environment as e\n"
        "with e.busy_processes(1):\n"
        "    os.write(1, b'started')\n"
        "    os._exit(0)"
    )
    # It returns when nobody has its pipes any more.
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, cwd=SCRIPTS, check=True, timeout=HANGS
    )
    assert done.stdout == b"started"


def test_fewer_than_no_busy_processes_are_refused(benchmark):
    done = benchmark("--beside", -1)
    assert done.returncode == 2
    assert "--beside wants" in done.stderr


def test_workers_of_the_comparison_of_em_use_all_cores(monkeypatch, environment):
    for name in environment.THREADS:
        monkeypatch.delenv(name)
    em = importlib.import_module("benchmark_em")  # from the path that `environment` has set
    with em.start_workers(threads.cores(), without_avx512=True) as workers:
        asked = [w.submit(f) for w in workers.values() for f in (threads.cores, told_of_avx512)]
        assert [one.result() for one in asked] == [threads.cores(), []] * 2
    assert not set(environment.THREADS) & set(em.os.environ)


def told_of_avx512():
    """Runs in a worker, which has the path of the process that started it."""
    return importlib.import_module("benchmark_environment").avx512_of_numpy()


# --- the mixture objective ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ([], {"cold", "cell", "objective", "stream"}),
        (["--d", "2"], {"cold", "cell"}),
        (["--quick"], {"cold", "cell"}),
        (["--objective"], {"objective"}),
        (["--objective", "--d", "3", "--stream", "9"], {"objective", "stream"}),
    ],
)
def test_objective_belongs_to_the_whole_or_is_asked_for(script, arguments, kinds):
    options = script.parse_options(arguments)
    peers = script.benchmark_peers.PEERS
    names = script.choose_peers(options, peers)
    tasks = script.plan(options, {name: peers[name] for name in names})
    assert {task.kind for task in tasks} == kinds
    assert (script.GMM_NP_OBJECTIVE in names) == ("objective" in kinds)
    assert (script.AUTO in names) == bool(kinds - {"objective"})
    assert all(peers[task.peer].kind == "likelihood" for task in tasks if task.kind == "cold")


def test_objective_has_its_sizes_or_those_given(script):
    def sizes(*arguments):
        tasks = script.plan(script.parse_options(["--objective", *arguments]), {})
        return [(task.d, task.k, task.n) for task in tasks]

    assert sizes() == [(d, k, 1000) for d in (10, 20, 32, 64) for k in (25, 50)]
    assert sizes("--d", "3", "--k", "4") == [(3, 4, 1000)]


def test_objective_without_grid_has_no_picture(script, capsys):
    with pytest.raises(SystemExit):
        script.parse_options(["--objective", "--plot", "x.png"])
    assert "--plot draws the grid" in capsys.readouterr().err


def test_inputs_of_the_objective_are_those_of_its_benchmark(script):
    cell = script.Cell(400, 50, 10, 0, kind=script.OBJECTIVE)
    p = script.benchmark_peers.draw(cell)
    assert (p.gamma, p.m) == (1.0, 0)
    assert p.mu.shape == p.q.shape == (50, 10)
    assert p.l.shape == (50, 45)
    assert 0 <= p.mu.min() < 0.05
    assert 0.95 < p.mu.max() <= 1
    for normal in (p.q, p.l, p.x):  # four standard errors of 500 numbers or more
        assert abs(normal.mean()) < 4 / np.sqrt(normal.size)
        assert abs(normal.std() - 1) < 4 / np.sqrt(2 * normal.size)


@pytest.mark.parametrize("block", ["alpha", "mu", "q", "l"])
def test_judge_of_the_objective_tells_a_wrong_gradient(script, block):
    peers = script.benchmark_peers
    cell = script.Cell(50, 3, 4, 0, kind=script.OBJECTIVE)
    answers = {}
    for name in (script.GMM_NP_OBJECTIVE, script.TORCH_OBJECTIVE, "torch_objective_product"):
        prepared = peers.PEERS[name].prepare(peers.draw(cell))
        answers[name] = prepared.read(prepared.call())
    judge = peers.summarize(answers.pop(script.TORCH_OBJECTIVE), cell)
    mine = answers[script.GMM_NP_OBJECTIVE]
    for answer in answers.values():
        right = script.compare(peers.summarize(answer, cell), judge, has_gradient=True)
        assert not right[1]
        assert set(right[0]) == {"value", "alpha", "mu", "q", "l"}
    changed = mine.gradients[peers.BLOCKS[cell.kind].index(block)]
    changed.flat[0] += 1e-6 * np.linalg.norm(changed)
    wrong = script.compare(peers.summarize(mine, cell), judge, has_gradient=True)
    assert len(wrong[1]) == 1
    assert wrong[1][0].startswith(f"{block} off by")


def test_objective_is_timed_in_pairs_and_reported(benchmark, tmp_path):
    out = tmp_path / "objective.json"
    sizes = ("--d", 3, "--k", 4, "--n", 100, "--repeat", 2, "--budget", 0.2, "--threads", 1)
    done = benchmark("--objective", *sizes, "--json", out)
    assert done.returncode == 0
    text = done.stdout
    (cell,) = read(out)["cells"]
    assert (cell["kind"], cell["judge"]) == ("objective", "torch_objective")
    assert list(cell["peers"]) == [
        "gmm_np_objective",
        "torch_objective",
        "torch_objective_product",
    ]
    for record in cell["peers"].values():
        assert record["status"] == "timed"
        assert len(record["seconds"]) == len(record["base_seconds"])
    assert "| D | K | N | gmm_np, precision factors | PyTorch, precision factors | ratio |" in text
    assert "| 3 | 4 | 100 |" in text
    assert "## Ratios" not in text
