"""scripts/benchmark finds out who is wrong before it times anybody. No time is asserted here.

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

from gmm_np.linalg.threads import cores

pytestmark = [pytest.mark.slow, pytest.mark.needs_extras]

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
HANGS = 600  # seconds
TINY = ("--quick", "--d", "2", "--k", "3", "--repeat", "2", "--budget", "0.2", "--threads", "1")
AUTO, DIRECT, FLOOR, REFERENCE = "gmm_np_auto", "gmm_np_direct", "floor", "gmm_np_reference"

# Peers that are wrong, each in a way of its own, around one that is right.
PLANTED = """
import os
import time

import numpy as np
from gmm_np.conformance.adapters.gmm_np import auto
from peers import Peer, from_function


def peer(change, **options):
    prepare = from_function(lambda *arrays: change(*auto(*arrays)))
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

# Peers that tell what reached their process, in the note that goes to the document.
TELLING = """
import json
import os

import threadpoolctl
from environment import avx512_of_numpy, limit_threads
from peers import PEERS as KNOWN
from peers import Peer


def prepare(p):
    told = {
        "numpy": avx512_of_numpy(),
        "openblas": [blas["architecture"] for blas in threadpoolctl.threadpool_info()],
        "threads": os.environ["OPENBLAS_NUM_THREADS"],
    }
    return KNOWN["gmm_np_auto"].prepare(p)._replace(note=json.dumps(told))


PEERS = {
    "telling_all": Peer("telling", prepare, ("numpy",)),
    "telling_one": Peer("telling", prepare, ("numpy",), environment=limit_threads(1)),
}
"""


@pytest.fixture(scope="module")
def parts():
    """Return the modules of the benchmark by their names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS / "benchmark"))
        names = [path.stem for path in SCRIPTS.glob("benchmark/*.py") if path.stem != "__main__"]
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


def make_worker(parts, processes, hanging):
    """Return a class of workers: a process for some peers, an answer from here for the others."""

    class Chosen(parts.worker.Worker):
        def __init__(self, name, peer, options, *, warm=True):
            super().__init__(name, peer, options, warm=warm)
            self.name = name
            self.server = None if name in processes else parts.server.Server(peer)

        def ask(self, do, **arguments):
            if self.server is None:
                if (self.name, do) == (hanging, "check"):  # it has started, and hangs from here on
                    self.options = SimpleNamespace(**{**vars(self.options), "timeout": 0.1})
                return super().ask(do, **arguments)
            answer = self.server.answer(do, **arguments)
            if "error" in answer:
                raise parts.worker.PeerError("error", answer["error"])
            return answer

    return Chosen


@pytest.fixture(scope="module")
def benchmark(parts):
    """Return the benchmark's command line as a function that takes care to be quick."""

    def run(*arguments, processes=(), hanging=None, imports=0):
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.setattr(parts.worker, "SETTLE", 0.0)
            patch.setattr(parts.measure, "BUSY", 0.0)
            patch.setattr(parts.document, "IMPORTS", imports)
            # A process of the benchmark collects garbage often; this one has more to look through.
            patch.setattr(parts.server.gc, "collect", int)
            patch.setattr(parts.measure, "Worker", make_worker(parts, processes, hanging))
            try:
                code = parts.command.main([str(argument) for argument in arguments])
            except SystemExit as error:  # of the parser
                code = error.code
        return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())

    return run


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark")
    (path / "planted.py").write_text(PLANTED)
    (path / "telling.py").write_text(TELLING)
    return path


def read(path):
    """Read JSON that has neither NaN nor infinities."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


# --- right or wrong -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(directory, benchmark):
    """A run among peers that are wrong."""
    out = directory / "planted.json"
    options = ("--peers", "planted", "--peer-module", directory / "planted.py", "--json", out)
    processes = [f"planted_{name}" for name in ("error", "death")]
    done = benchmark(*TINY, "--n", 300, *options, processes=processes, imports=1)
    assert done.returncode == 1, done.stderr
    return done, read(out)["cells"][0]["peers"]


@pytest.mark.parametrize(
    ("name", "status", "note"),
    [
        ("right", "timed", ""),
        ("value", "wrong", "value off by 1.0e-09"),
        ("logits", "wrong", "pi_logits off by 1.0e-09"),
        ("means", "wrong", "means off by"),
        ("scale", "wrong", "scale off by"),
        ("nan", "wrong", "means off by nan"),
        ("shape", "wrong", "means has shape [2, 3], not [3, 2]"),
        ("short", "wrong", "no gradient of scale"),
        ("error", "error", "ArithmeticError: planted"),
        ("death", "died", "exit code 3"),
        ("hunger", "memory", "GB"),
        ("absence", "missing", "no_such_module"),
    ],
)
def test_peers_that_fail_are_named_and_not_timed_and_do_not_end_the_run(
    planted, name, status, note
):
    done, records = planted
    record = records[f"planted_{name}"]
    assert record["status"] == status
    assert ("seconds" in record) == (status == "timed")
    assert note in record["note"]
    assert note in done.stdout
    assert (f"wrong: planted_{name}" in done.stderr) == (status == "wrong")


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
    found = {name: record["status"] for name, record in records.items()}
    assert found == {AUTO: "timed", "hanging": "timeout", "planted_right": "timed"}


def answer(parts, name, cell):
    prepared = parts.peers.PEERS[name].prepare(parts.cells.draw(cell))
    return parts.server.summarize(prepared.read(prepared.call()), cell)


@pytest.mark.parametrize(
    ("kind", "batch", "judge"),
    [
        ("likelihood", None, REFERENCE),
        ("likelihood", 100, REFERENCE),
        ("objective", None, "torch_objective"),
    ],
)
def test_every_peer_is_right(parts, kind, batch, judge):
    cell = parts.cells.Cell(300, 3, 4, 0, batch=batch, kind=kind)
    verdict = answer(parts, judge, cell)
    peers = {name: peer for name, peer in parts.peers.PEERS.items() if peer.kind == kind}
    for name in peers.keys() - {FLOOR}:
        if batch is None or peers[name].streams:
            gradient = peers[name].has_gradient
            errors, complaints = parts.measure.compare(
                answer(parts, name, cell), verdict, has_gradient=gradient
            )
            assert not complaints, name
            assert set(errors) == {"value", *(parts.cells.BLOCKS[kind] if gradient else ())}


def summary(value=2.0, norm=1.0, projections=(0.5, -0.25), shape=(2,)):
    block = {"norm": norm, "projections": list(projections), "shape": list(shape)}
    return {"value": value, "pi_logits": block, "means": block, "scale": block}


@pytest.mark.parametrize("value", [2.0, [1.0, 2.0]])
def test_comparison_accepts_rounding(parts, value):
    mine = (np.array(value) * (1 + 1e-13)).tolist()
    errors, complaints = parts.measure.compare(summary(mine), summary(value), has_gradient=True)
    assert not complaints
    assert 0 < errors["value"] < 1e-12


@pytest.mark.parametrize(
    "wrong",
    [
        summary(value=2.0 * (1 + 1e-9)),
        summary(value=float("nan")),
        summary(value=[2.0, 2.0 * (1 + 1e-9)]),
        summary(norm=1.0 + 1e-9),
        summary(projections=(0.5, -0.25 + 1e-9)),
        summary(projections=(float("nan"), -0.25)),
        summary(projections=(0.5, float("nan"))),
        summary(shape=(1, 2)),
        {"value": 2.0},
    ],
)
def test_comparison_refuses_what_is_off_by_a_billionth(parts, wrong):
    assert parts.measure.compare(wrong, summary(), has_gradient=True)[1]


# --- a run --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick(directory, parts, benchmark):
    """A run of gmm_np, in processes of its own, and PyTorch; the file has three batches."""
    files = [directory / f"quick.{suffix}" for suffix in ("json", "md", "png")]
    options = ("--n", 300, "--stream", 3000, "--peers", AUTO, DIRECT, "torch_mixture", FLOOR)
    options += ("--json", files[0], "--markdown", files[1], "--plot", files[2])
    with pytest.MonkeyPatch.context() as patch:
        for part in (parts.tasks, parts.tables):
            patch.setattr(part, "STREAM_BATCH", 1000)
        done = benchmark(*TINY, *options, processes=[AUTO])
    assert done.returncode == 0, done.stderr
    return read(files[0]), files[1].read_text(), files[2].read_bytes()


def test_every_peer_is_judged_timed_in_pairs_with_auto_and_reported(quick):
    data, text, picture = quick
    few, stream = data["cells"]
    assert [(c["d"], c["k"], c["n"]) for c in (few, stream)] == [(2, 3, 300), (16, 32, 3000)]
    assert (few["judge"], stream["judge"], stream["stream"]) == (REFERENCE, DIRECT, True)
    assert set(few["peers"]) == set(data["peers"])
    assert set(stream["peers"]) == {AUTO, DIRECT, "torch_mixture"}
    for name, record in (*few["peers"].items(), *stream["peers"].items()):
        assert record["status"] == "timed", (name, record)
        assert 1 <= len(record["seconds"]) == len(record["base_seconds"]) <= 2
        assert min(record["seconds"] + record["base_seconds"]) > 0
        assert max(record.get("errors", {}).values(), default=0.0) <= 1e-10
    assert set(few["peers"]["torch_mixture"]["errors"]) == {"value", "pi_logits", "means", "scale"}
    assert any(c["from_file"] and c["added_mib"] >= 0 for c in data["cold"])
    for part in (data["command"], data["machine"]["cpu"], data["versions"]["torch"], "Ratios"):
        assert part in text
    assert picture.startswith(b"\x89PNG")


def test_cells_that_would_take_too_long_are_left_out_and_say_why(directory, benchmark):
    out = directory / "long.json"
    options = ("--n", 300, 3000, "--peers", AUTO, "--longest", 1e-9, "--json", out)
    assert benchmark(*TINY, *options).returncode == 0
    few, many = (cell["peers"][AUTO] for cell in read(out)["cells"])
    assert (few["status"], many["status"]) == ("timed", "time")
    assert "10 times as many rows" in many["note"]


def processor(monkeypatch, environment, dispatched, others=()):
    features = dict.fromkeys((*dispatched, *others), True) | {"AVX512_SPR": False}
    umath = SimpleNamespace(__cpu_features__=features, __cpu_dispatch__=[*dispatched, "AVX512_SPR"])
    monkeypatch.setattr(environment, "umath", umath)
    for name in (*environment.AVX2_AT_MOST, environment.NUMPY, environment.XLA):
        monkeypatch.delenv(name, raising=False)


def test_resume_measures_what_is_missing_and_refuses_other_settings(
    monkeypatch, parts, directory, benchmark
):
    processor(monkeypatch, parts.environment, ["X86_V4"], ["AVX512F"])
    out = directory / "resumed.json"
    options = (*TINY, "--peers", AUTO)
    assert benchmark(*options, "--n", 300, "--json", out).returncode == 0
    first = read(out)["cells"]
    done = benchmark(*options, "--n", 300, 400, "--resume", out)
    assert done.returncode == 0, done.stderr
    data = read(out)
    assert data["cells"][: len(first)] == first
    assert [cell["n"] for cell in data["cells"]] == [300, 400]
    for other in (("--seed", 1), ("--beside", 1), ("--without-avx512",)):
        refused = benchmark(*options, "--n", 300, "--resume", out, *other)
        assert refused.returncode == 2
        assert "settings" in refused.stderr
        assert read(out) == data


def test_again_measures_cells_that_were_not_steady_and_no_others(directory, benchmark):
    out = directory / "again.json"
    options = (*TINY, "--n", 300, 400, "--peers", AUTO)
    assert benchmark(*options, "--json", out).returncode == 0
    data = read(out)
    for cell, times in zip(data["cells"], ([1.0, 2.0, 2.0, 3.0], [1.0] * 4), strict=True):
        changed = {"calls": 1, "most": 100, "seconds": times, "base_seconds": times}
        cell["peers"][AUTO] |= changed
    out.write_text(json.dumps(data))
    done = benchmark(*options, "--resume", out, "--again")
    assert done.returncode == 0, done.stderr
    cells = {cell["n"]: cell for cell in read(out)["cells"]}
    assert cells[300]["peers"][AUTO]["seconds"] != [1.0, 2.0, 2.0, 3.0]
    assert cells[400] == data["cells"][1]
    assert "times further apart: 1." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--again"], "--again wants --resume"),
        (["--beside", -1], "--beside wants"),
        (["--objective", "--plot", "x.png"], "--plot draws the grid"),
        (["--peer-module", "peers.txt"], "peers.txt is no Python file"),
        (["--quick", "--peers", "tensorflow"], "--peers tensorflow: there is none"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(benchmark, arguments, message):
    done = benchmark(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("script", ["benchmark", "benchmark.py", "benchmark_em.py"])
def test_commands_run_from_anywhere(script, tmp_path):
    command = [sys.executable, SCRIPTS / script, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    assert "--without-avx512" in done.stdout


# --- figures ------------------------------------------------------------------------------------


def timed(seconds, base_seconds=None, **more):
    return {"status": "timed", "seconds": seconds, "base_seconds": base_seconds or seconds, **more}


def test_times_that_are_far_apart_ask_for_more_within_the_budget(parts):
    run = SimpleNamespace(options=SimpleNamespace(repeat=3))
    most = {AUTO: 9, "quick": 9, "slow": 4}
    for times, expected in (([1.0, 1.1, 1.2], [3, 3, 3]), ([1.0, 1.5, 2.0], [6, 6, 4])):
        records = {name: timed(times, repeat=3, most=n) for name, n in most.items()}
        parts.measure.extend(run, records)
        assert [records[name]["repeat"] for name in most] == expected


@pytest.mark.parametrize("unlucky", [0, 1, 2])
def test_one_unlucky_call_does_not_make_repetitions_too_short(parts, unlucky):
    times = [1e-3, 1.1e-3, 1.2e-3]
    times[unlucky] = 0.04
    answers = iter({"calls": 1, "seconds": seconds} for seconds in times)
    run = SimpleNamespace(
        options=SimpleNamespace(budget=2.0, repeat=5),
        peers={"one": SimpleNamespace(share=1.0)},
        ask=lambda *_, **__: next(answers),
    )
    found = parts.measure.count_calls(run, "one", {"first_seconds": 0.04})
    assert found["calls"] * min(times) >= parts.figures.SHORTEST
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
def test_cells_are_doubtful_where_more_repetitions_would_help(parts, calls, seconds, doubtful):
    auto = timed(seconds, calls=calls, most=100)
    cell = {"peers": {AUTO: auto, "other": {"status": "wrong"}}}
    assert parts.figures.is_doubtful(cell, {"repeat": 5}) is doubtful
    assert parts.figures.is_short(auto) is (calls == 1 and seconds[0] < 1)


def grid(cells):
    """Return a document of cells D=2 K=5 with N=1000, 2000 and so on."""
    same = {"d": 2, "k": 5, "kind": "likelihood", "stream": False}
    return {"cells": [{**same, "n": 1000 * n, "peers": peers} for n, peers in enumerate(cells, 1)]}


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ((1.0, 4.0), ["2 cells", " 2.00 times", "in 1 of them: D=2 K=5 N=2000 (4.00)."]),
        ((1.0, 1.0), ["2 cells", " 1.00 times", "in none of them."]),
    ],
)
def test_report_counts_cells_at_more_than_twice_the_floor(parts, over, expected):
    cells = [
        {AUTO: timed([floor * factor]), FLOOR: timed([floor], [floor * factor])}
        for floor, factor in zip((0.02, 0.02, 0.009), (*over, 9.0), strict=True)
    ]
    text = parts.tables.on_floor(grid(cells))
    assert all(part in text for part in expected), text


@pytest.mark.parametrize(
    ("one_thread", "expected"),
    [
        ((1.0, 0.5, 0.8), ["in 2 of 3 cells", "at most 2.00 times, in D=2 K=5 N=2000", "1.36"]),
        ((1.0, 2.0, 0.95), ["in none of 3 cells", "at most 1.05 times, in D=2 K=5 N=3000", "0.81"]),
    ],
)
def test_report_says_where_threads_do_harm(parts, one_thread, expected):
    base = [1.0, 2.0, 30.0]  # the median of pairs, not the quotient of medians
    cells = [
        {AUTO: timed([2.0] * 3), "gmm_np_one_thread": timed([factor * t for t in base], base)}
        for factor in one_thread
    ]
    text = parts.tables.on_threads(grid(cells))
    assert all(part in text for part in expected), text


# --- the floor ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fastest", [(10, 1, 1), (1000, 1, 1), (10, 2, 1), (1000, 2, 1), (10, 1, 2), (1000, 1, 2)]
)
def test_floor_takes_the_fastest_blocks_and_division_whichever_they_are(parts, fastest):
    def seconds(way, n):
        return n * (1e-5 if (way.rows, way.threads, way.blas_threads) == fastest else 1.1e-5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts.floor, "BLOCK_BYTES", (80, 8000))
        patch.setattr(parts.floor, "BLOCK_ROWS", (10, 1000))
        candidates = list(parts.floor.ways("products", lambda rows: lambda: rows, 10**6, 8, 2))
    chosen = parts.floor.choose(candidates, 10**6, seconds)
    assert (chosen.rows, chosen.threads, chosen.blas_threads) == fastest


def test_floor_of_small_products_in_one_thread_is_not_that_of_threads(parts):
    """What a division costs counts over as many rows as tell, and not over one block."""
    ways = [parts.floor.Way("products", lambda _: int, 10, threads) for threads in (1, 2)]

    def seconds(way, n, start):
        return n * 1e-6 / way.threads + (start if way.threads > 1 else 0.0)

    for start, threads in ((1e-5, 2), (1.0, 1)):
        found = parts.floor.choose(ways, 10**5, lambda way, n, start=start: seconds(way, n, start))
        assert found.threads == threads


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 7, 20, 21])
def test_floor_does_the_work_of_all_rows(parts, threads, n):
    done = []
    way = parts.floor.Way("rows", lambda rows: lambda: done.append(rows), 7, threads)
    way.prepare(n)()
    assert sum(done) == n
    assert max(done) <= 7


# --- what processes run in ----------------------------------------------------------------------


@pytest.fixture
def environment(parts):
    return parts.environment


@pytest.fixture(scope="module")
def telling(directory, benchmark):
    """A run without AVX-512 and beside a busy process."""
    out = directory / "telling.json"
    options = ("--n", 300, "--peers", "telling", "--peer-module", directory / "telling.py")
    options += ("--json", out, "--without-avx512", "--beside", 1)
    done = benchmark(*TINY[:-1], 2, *options, processes=["telling_all", "telling_one"])
    assert done.returncode == 0, done.stderr
    data = read(out)
    peers = data["cells"][0]["peers"]
    assert peers["telling_all"]["status"] == "timed"
    told = [json.loads(peers[f"telling_{name}"]["note"]) for name in ("all", "one")]
    return told, done.stdout, data["settings"]


def test_environment_of_a_peer_is_its_own_and_without_avx512(telling, environment):
    told = telling[0]
    assert [one["threads"] for one in told] == ["2", "1"]
    for one in told:
        assert one["numpy"] == []
        assert one["openblas"]
        assert "SkylakeX" not in one["openblas"]
        assert not environment.has_avx512() or set(one["openblas"]) == {"Haswell"}


def test_report_says_which_way_it_ran_and_beside_what(telling, environment):
    _, text, settings = telling
    assert settings["avx512"] == environment.describe_avx512(without=True)
    assert settings["beside"] == 1
    for part in (settings["avx512"], "Beside 1 busy process.", "OMP_NUM_THREADS=2"):
        assert part in text


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
        "import os, environment as e\n"
        "with e.busy_processes(1):\n"
        "    os.write(1, b'started')\n"
        "    os._exit(0)"
    )
    # It returns when nobody has its pipes any more.
    command, folder = [sys.executable, "-c", program], SCRIPTS / "benchmark"
    done = subprocess.run(command, capture_output=True, cwd=folder, check=True, timeout=HANGS)
    assert done.stdout == b"started"


# --- EM -----------------------------------------------------------------------------------------


def test_em_of_both_libraries_agrees_and_is_timed_on_all_cores(parts, capsys, monkeypatch):
    for name in parts.environment.THREADS:
        monkeypatch.delenv(name)
    monkeypatch.setattr(parts.worker, "SETTLE", 0.0)
    options = ["--n", "300", "--d", "2", "--k", "2", "--iterations", "3", "--rounds", "1"]
    assert parts.em.main([*options, "--types", "full", "diag"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert f"cores used: {cores()}; " in head
    with parts.em.start_workers(without_avx512=True) as workers:
        for worker in workers:
            assert parts.environment.limit_threads(cores()).items() <= worker.environment.items()
    assert [line.split()[0] for line in lines] == ["full", "diag"]
    assert all("differs by" in line and ", ratio " in line for line in lines)


def test_em_is_not_timed_where_log_likelihoods_differ(parts, capsys):
    class Fits:
        def __init__(self, bounds):
            self.bounds = bounds

        def ask(self, do, **_):
            return {"summary": {"value": self.bounds}} if do == "check" else {}

    cell = parts.cells.Cell(300, 2, 2, 0, kind="diag", iterations=2)
    bounds = [-2.0, -1.0]
    off = [-2.0 * (1 + 2e-9), -1.0]  # and the last is the same
    assert not parts.em.compare([Fits(bounds), Fits(off)], cell, 1)
    assert "differs by 2.0e-09: MORE THAN ALLOWED, not timed" in capsys.readouterr().out


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
def test_objective_belongs_to_the_whole_or_is_asked_for(parts, arguments, kinds):
    options = parts.command.parse_options(arguments)
    peers = parts.peers.PEERS
    names = parts.command.choose_peers(options, peers)
    tasks = parts.tasks.plan(options, {name: peers[name] for name in names})
    assert {task.kind for task in tasks} == kinds
    assert ("gmm_np_objective" in names) == ("objective" in kinds)
    assert (AUTO in names) == bool(kinds - {"objective"})
    assert all(peers[task.peer].kind == "likelihood" for task in tasks if task.kind == "cold")


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ([], [(d, k, 1000) for d in (10, 20, 32, 64) for k in (25, 50)]),
        (["--d", "3", "--k", "4"], [(3, 4, 1000)]),
    ],
)
def test_objective_has_its_sizes_or_those_given(parts, given, sizes):
    tasks = parts.tasks.plan(parts.command.parse_options(["--objective", *given]), {})
    assert [(task.d, task.k, task.n) for task in tasks] == sizes


def test_inputs_of_the_objective_are_those_of_its_benchmark(parts):
    p = parts.cells.draw(parts.cells.Cell(400, 50, 10, 0, kind="objective"))
    assert (p.gamma, p.m) == (1.0, 0)
    assert p.mu.shape == p.q.shape == (50, 10)
    assert p.l.shape == (50, 45)
    assert 0 <= p.mu.min() < 0.05
    assert 0.95 < p.mu.max() <= 1
    for normal in (p.q, p.l, p.x):  # four standard errors of 500 numbers or more
        assert abs(normal.mean()) < 4 / np.sqrt(normal.size)
        assert abs(normal.std() - 1) < 4 / np.sqrt(2 * normal.size)


def test_objective_is_timed_in_pairs_and_reported(benchmark, tmp_path):
    out = tmp_path / "objective.json"
    sizes = ("--d", 3, "--k", 4, "--n", 100, "--repeat", 2, "--budget", 0.2, "--threads", 1)
    done = benchmark("--objective", *sizes, "--json", out)
    assert done.returncode == 0
    (cell,) = read(out)["cells"]
    assert (cell["kind"], cell["judge"]) == ("objective", "torch_objective")
    names = ["gmm_np_objective", "torch_objective", "torch_objective_product"]
    assert list(cell["peers"]) == names
    for record in cell["peers"].values():
        assert record["status"] == "timed"
        assert len(record["seconds"]) == len(record["base_seconds"])
    head = "| D | K | N | gmm_np, precision factors | PyTorch, precision factors | ratio |"
    assert head in done.stdout
    assert "| 3 | 4 | 100 |" in done.stdout
    assert "## Ratios" not in done.stdout
