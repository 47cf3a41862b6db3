r"""Time gmm_np beside its peers: value and gradient of the mean NLL, full covariances, float64.

Each peer runs in a process of its own (scripts/benchmark_peers.py). In each cell of a grid of
sizes, every peer first has to be right: its value within 1e-10, its gradients in norm and in two
random projections each, as the judge has them, which is `gmm_np.reference`, or "direct" where the
reference would take too long. Those that are right are then timed in turn, repetition by
repetition; a call of two seconds or more is not made again only to be timed, since the one that
was checked will do. A ratio is a peer's time over that of gmm_np's "auto" in the same repetition,
and a cell's figure is the median of its ratios. The mixture objective of ADBench and GradBench is
measured in the same way beside PyTorch, which is its judge, too.

The whole grid takes about an hour on two idle cores. It can be stopped and resumed, and cells whose
repetitions were too short, or not steady, can be measured again. How fast libraries are depends on
the processor, and on what else runs: a machine with AVX-512 can measure as one without, and beside
processes that keep cores busy.

    python scripts/benchmark.py --json build/benchmark.json \
        --markdown docs/benchmarks.md --plot docs/benchmarks.png
    python scripts/benchmark.py --resume build/benchmark.json --again \
        --markdown docs/benchmarks.md --plot docs/benchmarks.png
    python scripts/benchmark.py --without-avx512 --beside 1 --peers gmm_np --stream 0
    python scripts/benchmark.py --objective
    python scripts/benchmark.py --quick

Exit status: 0, or 1 if a peer was wrong somewhere, 2 if the arguments make no sense.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import itertools
import json
import math
import os
import platform
import selectors
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import benchmark_environment
import benchmark_peers
import numpy as np
from benchmark_environment import busy_processes, describe_avx512, make_environment, settings_in
from benchmark_peers import LIKELIHOOD, OBJECTIVE, Cell, Peer
from tqdm import tqdm

Record = dict[str, Any]

FORMAT = 2
AUTO, DIRECT, MOMENTS = "gmm_np_auto", "gmm_np_direct", "gmm_np_moments"
REFERENCE, ONE_THREAD, FLOOR = "gmm_np_reference", "gmm_np_one_thread", "floor"
GMM_NP_OBJECTIVE, TORCH_OBJECTIVE = "gmm_np_objective", "torch_objective"
BASES = (AUTO, GMM_NP_OBJECTIVE)  # what the others are compared with; the first of every cell
TOLERANCE = 1e-10
REFERENCE_ELEMENTS = 10**8  # of N x K x D: where the reference ceases to be the judge
SHORTEST = 0.02  # seconds that a repetition takes at least
SINGLE = 0.2  # seconds of a call whose repetitions are single calls
LONG = 2.0  # seconds of a call that is not made twice, since its check will do as a repetition
SETTLE = (
    0.15  # seconds in which threads of the peer before fall asleep; OpenBLAS waits actively for 0.1
)
# Quartiles of the times of "auto" that are further apart ask for as many repetitions again, twice
# at most: a machine that does not always wake a second thread at once spoils single ones.
STEADY = 1.25
ROUNDS = 3
SLOWER = 1.1  # times the time of one thread: where other threads do harm
BUSY = 0.25  # seconds in which others show whether they use the machine
IMPORTS = 3  # times that an import is timed
# Where a fresh process shows a peer's first call and its peak memory, as (D, K, N).
COLD = ((10, 25, 100_000), (32, 50, 10_000), (64, 100, 10_000))
# D, K and N.
GRID = ((2, 10, 20, 32, 64, 128), (5, 10, 25, 50, 100, 200), (1000, 10_000, 100_000))
QUICK = ((2, 10), (5, 25), (1000, 10_000))
OBJECTIVE_GRID = ((10, 20, 32, 64), (25, 50), (1000,))
STREAM = (16, 32)  # D and K of the file
STREAM_BATCH = 10_000
DISTRIBUTIONS = {"sklearn": "scikit-learn"}


# --- options ------------------------------------------------------------------------------------


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], allow_abbrev=False
    )
    add = parser.add_argument
    add("--d", type=int, nargs="+", metavar="D", help="dimensions")
    add("--k", type=int, nargs="+", metavar="K", help="numbers of components")
    add("--n", type=int, nargs="+", metavar="N", help="numbers of samples")
    add("--quick", action="store_true", help="a small grid, in a minute or two")
    add("--objective", action="store_true", help="only the mixture objective of ADBench")
    add("--stream", type=int, metavar="N", help="rows of the file (default 1e7; 0 without grid)")
    add("--peers", nargs="+", metavar="PEER", help="names, or what stands before their first _")
    add("--peer-module", action="append", default=[], metavar="FILE", help="more peers: its PEERS")
    add("--repeat", type=int, help="interleaved repetitions (default 5; 3 with --quick)")
    add("--budget", type=float, default=2.0, help="seconds to time a peer in a cell (default 2)")
    add("--longest", type=float, default=30.0, help="seconds of a call worth making (default 30)")
    add("--timeout", type=float, default=600.0, help="seconds until a peer is given up")
    add("--memory", type=float, default=10.0, help="GB that a peer may take (default 10)")
    add("--threads", type=int, help="cores for each peer (default: all)")
    add("--without-avx512", action="store_true", help="as on a processor that has none")
    add(
        "--beside", type=int, default=0, metavar="N", help="beside N processes that use a core each"
    )
    add("--seed", type=int, default=0)
    add("--json", type=Path, metavar="OUT", help="everything measured; written after each cell")
    add("--resume", type=Path, metavar="JSON", help="go on with this file")
    add("--again", action="store_true", help="with --resume: again what was doubtful")
    add("--markdown", type=Path, metavar="OUT", help="tables for docs/benchmarks.md")
    add("--plot", type=Path, metavar="PNG")
    options = parser.parse_args(arguments)
    sizes = options.d, options.k, options.n
    whole = not any((*sizes, options.quick, options.objective))

    def grid(*default: Iterable[int]) -> list[tuple[int, ...]]:
        axes = (given or usual for given, usual in zip(sizes, default, strict=True))
        return list(itertools.product(*axes))

    options.grid = [] if options.objective else grid(*(QUICK if options.quick else GRID))
    options.objective_grid = grid(*OBJECTIVE_GRID) if options.objective or whole else []
    if options.stream is None:
        options.stream = 10_000_000 if whole else 0
    options.repeat = options.repeat or (3 if options.quick else 5)
    options.json = options.json or options.resume
    if min(options.repeat, *itertools.chain(*options.grid, *options.objective_grid)) < 1:
        parser.error("sizes and repetitions are positive")
    if options.beside < 0:
        parser.error("--beside wants a number of processes, 0 or more")
    if options.plot is not None and not options.grid:
        parser.error("--plot draws the grid, which --objective leaves out: give one of the two")
    if options.again and options.resume is None:
        parser.error("--again wants --resume JSON, the run whose cells are to be measured again")
    return options


def choose_peers(options: argparse.Namespace, known: dict[str, Peer]) -> list[str]:
    """Return the peers that are named; "torch" stands for all whose name begins with torch_."""
    kinds = [LIKELIHOOD] * bool(options.grid or options.stream)
    kinds += [OBJECTIVE] * bool(options.objective_grid)
    chosen = list(known) if options.peers is None else []
    for name in options.peers or ():
        matches = [peer for peer in known if peer == name or peer.startswith(f"{name}_")]
        if not matches:
            raise ValueError(f"--peers {name}: there is none; there are {', '.join(known)}.")
        chosen += matches
    return [
        name
        for name, peer in known.items()
        if peer.kind in kinds and (name in BASES or name in chosen)
    ]


# --- what was measured where --------------------------------------------------------------------


def describe_machine() -> Record:
    """Name the machine that measures."""
    model, total = platform.processor(), 0.0
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(": ")[2] for x in lines if x.startswith("model name")), model)
    with contextlib.suppress(AttributeError, ValueError, OSError):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(total, 1),
        "system": platform.platform(),
    }


def describe_versions(peers: Iterable[Peer]) -> Record:
    """Name the versions of all that takes part."""
    names = ["numpy", "scipy", *(module for peer in peers for module in peer.modules)]
    versions = {"python": platform.python_version()}
    for name in dict.fromkeys(DISTRIBUTIONS.get(name, name) for name in names):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    with contextlib.suppress(Exception):
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        versions["BLAS of numpy"] = f"{blas['name']} {blas['version']}"
    return versions


def describe_source() -> Record:
    """Identify the code that is measured: its commit, and a digest of what is there."""
    root = Path(__file__).resolve().parent.parent
    files = [*map(str, sorted(root.glob("gmm_np/**/*.py")))]
    files += [benchmark_environment.__file__, benchmark_peers.__file__]
    digest = hashlib.sha256(b"".join(Path(path).read_bytes() for path in files)).hexdigest()[:16]

    def git(*arguments: str) -> str:
        with contextlib.suppress(OSError):
            done = subprocess.run(
                ["git", "-C", root, *arguments], capture_output=True, text=True, check=False
            )
            return done.stdout.strip()
        return ""

    changed = bool(git("status", "--porcelain", "--", "gmm_np"))
    return {"commit": git("rev-parse", "--short", "HEAD"), "changed": changed, "digest": digest}


def modules_of(peer: Peer) -> str:
    """Return what a peer imports, as an import statement wants it."""
    return ", ".join(peer.modules) or "numpy"


def environment_of(options: argparse.Namespace) -> dict[str, str]:
    """Return the environment of all peers' processes."""
    made = make_environment(without_avx512=options.without_avx512, threads=options.threads)
    return made | {"JAX_PLATFORMS": "cpu"}


def time_imports(peers: dict[str, Peer], environment: dict[str, str]) -> tuple[Record, Record]:
    """Time the import of each library in fresh processes: seconds, and what is missing and why."""
    seconds: Record = {}
    missing: Record = {}
    for name, peer in peers.items():
        key = modules_of(peer)
        program = (
            f"import time; s = time.perf_counter(); import {key}; print(time.perf_counter() - s)"
        )
        while key not in missing and len(seconds.get(key, ())) < IMPORTS:
            done = subprocess.run(
                [sys.executable, "-c", program],
                capture_output=True,
                text=True,
                check=False,
                env=environment,
            )
            if done.returncode:
                missing[key] = (done.stderr.strip().splitlines() or ["no message"])[-1]
            else:
                seconds.setdefault(key, []).append(float(done.stdout.split()[-1]))
        if key in missing:
            missing[name] = missing[key]
    return seconds, {name: why for name, why in missing.items() if name in peers}


def now() -> str:
    """Return the time, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


# --- processes ----------------------------------------------------------------------------------


class WorkerError(Exception):
    """A peer did not answer as it should; `status` says how: "died", "timeout" or "error"."""

    def __init__(self, status: str, note: str) -> None:
        super().__init__(note)
        self.status, self.note = status, note


class PeerError(WorkerError):
    """A peer raised an exception; its process goes on."""


class Worker:
    """The process of one peer. It starts when it is needed, and again after it has died."""

    def __init__(
        self, name: str, peer: Peer, options: argparse.Namespace, *, warm: bool = True
    ) -> None:
        self.options, self.kind, self.warm = options, peer.kind, warm
        self.process: subprocess.Popen[bytes] | None = None
        self.buffer = b""
        self.command = [sys.executable, benchmark_peers.__file__, name]
        for path in options.peer_module:
            self.command += ["--peer-module", path]
        if options.threads is not None:
            self.command += ["--threads", str(options.threads)]
        self.environment = {**environment_of(options), **peer.environment}

    def ask(self, do: str, **arguments: Any) -> Record:
        """Send a request and return the answer.

        Raises
        ------
        WorkerError
            If there is none, and the process is gone; or, as a PeerError, if the peer raised one.
        """
        if self.process is None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None
        answer = self._read()
        if "error" in answer:
            raise PeerError("error", answer["error"])
        return answer

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()
            self.errors.close()
            self.process = None

    def _start(self) -> None:
        self.buffer = b""
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by stop
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            self.command, stdin=pipe, stdout=pipe, stderr=self.errors, env=self.environment
        )
        self._read()  # it says that it is ready
        if self.warm:  # what a library does once is not to be taken for a long call
            with contextlib.suppress(PeerError):
                self.ask("draw", cell=asdict(Cell(64, 2, 2, 0, kind=self.kind)))
                self.ask("prepare")
                self.ask("check")
                self.ask("release")

    def _read(self) -> Record:
        assert self.process is not None
        assert self.process.stdout is not None
        deadline = time.monotonic() + self.options.timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                if not selector.select(max(deadline - time.monotonic(), 0.0)):
                    self.stop()
                    seconds = self.options.timeout
                    raise WorkerError("timeout", f"no answer within {seconds:g} s: ended")
                part = os.read(self.process.stdout.fileno(), 2**16)
                if not part:
                    raise self._gone()
                self.buffer += part
        line, _, self.buffer = self.buffer.partition(b"\n")
        answer: Record = json.loads(line)
        return answer

    def _gone(self) -> WorkerError:
        assert self.process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        code = self.process.returncode
        self.errors.seek(0)
        last = self.errors.read().decode(errors="replace").strip().splitlines()[-1:]
        self.stop()
        return WorkerError("died", f"exit code {code}" + "".join(f": {line}" for line in last))


# --- right or wrong -----------------------------------------------------------------------------


def compare(summary: Record, judge: Record, *, has_gradient: bool) -> tuple[Record, list[str]]:
    """Return relative errors by argument, and complaints: empty if the answer is right.

    A projection on standard normal numbers is as large as the norm, so that its error is divided
    by the judge's norm.
    """
    errors = {"value": abs(summary["value"] - judge["value"]) / abs(judge["value"])}
    complaints = []
    for block in [name for name in judge if name != "value"] if has_gradient else ():
        if block not in summary:
            complaints.append(f"no gradient of {block}")
            continue
        mine, right = summary[block], judge[block]
        if mine["shape"] != right["shape"]:
            complaints.append(f"{block} has shape {mine['shape']}, not {right['shape']}")
            continue
        numbers = [[s["norm"], *s["projections"]] for s in (mine, right)]
        # Python's max() would drop a NaN that does not come first.
        errors[block] = float(np.abs(np.subtract(numbers[0], numbers[1])).max()) / right["norm"]
    complaints += [
        f"{name} off by {error:.1e}" for name, error in errors.items() if not error <= TOLERANCE
    ]
    return errors, complaints


# --- a run --------------------------------------------------------------------------------------


@dataclass
class Run:
    """A benchmark under way: its options, its processes, and the document that it writes."""

    options: argparse.Namespace
    peers: dict[str, Peer]
    data: Record
    workers: dict[str, Worker] = field(default_factory=dict)
    show: Callable[[str], None] = lambda _: None

    def worker(self, name: str) -> Worker:
        """Return the process of a peer."""
        if name not in self.workers:
            self.workers[name] = Worker(name, self.peers[name], self.options)
        return self.workers[name]

    def ask(self, peer: str, do: str, **arguments: Any) -> Record:
        """Ask a peer, and show that."""
        self.show(f"{peer}: {do}")
        return self.worker(peer).ask(do, **arguments)

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers.values():
            worker.stop()

    def save(self) -> None:
        """Write the document whole, so that no reader ever sees half of it."""
        if self.options.json is None:
            return
        path = Path(self.options.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(strict(self.data), indent=1, allow_nan=False) + "\n")
        part.replace(path)


def strict(value: Any) -> Any:
    """Replace what JSON has no word for: NaN and infinities become null."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def available_gb(limit: float) -> float:
    """Return the memory that a peer may take: the limit, or most of what is free."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable"))
        return min(limit, 0.8 * int(line.split()[1]) * 1024 / 1e9)
    return limit


def left_out(run: Run, name: str, cell: Cell) -> Record | None:
    """Say why a peer is not to run in this cell, if so."""
    if name in run.data["missing"]:
        return {"status": "missing", "note": run.data["missing"][name]}
    limit = available_gb(run.options.memory)
    if run.peers[name].bytes_for(cell) / 1e9 > limit:
        return {
            "status": "memory",
            "note": f"by its estimate, more than the {limit:.3g} GB allowed",
        }
    smaller = [
        other
        for other in run.data["cells"]
        if not other["stream"]
        and other["kind"] == cell.kind
        and all(
            mine >= yours
            for mine, yours in zip((cell.d, cell.k, cell.n), _size(other), strict=True)
        )
    ]
    for other in smaller:
        if other["peers"].get(name, {}).get("status") == "timeout":
            return {"status": "timeout", "note": f"timed out at {cell_name(other)} already"}
    alike = [other for other in smaller if (other["d"], other["k"]) == (cell.d, cell.k)]
    return _takes_too_long(run, name, cell, max(alike, key=_size)) if alike else None


def _takes_too_long(run: Run, name: str, cell: Cell, other: Record) -> Record | None:
    """Judge by a cell with fewer rows whether a call would take too long."""
    record, times = other["peers"].get(name, {}), cell.n / other["n"]
    if record.get("status") == "time":
        return {"status": "time", "note": f"already left out at N={other['n']}"}
    took = seconds(other, name) or record.get("first_seconds", 0.0)
    if took * times <= run.options.longest * run.peers[name].share:
        return None
    note = f"a call takes {duration(took)} at N={other['n']}, and here are {times:g} times"
    return {"status": "time", "note": f"{note} as many rows"}


def attempt(action: Callable[[], Record]) -> Record:
    """Return a record, be it of a failure."""
    try:
        return action()
    except WorkerError as error:
        return {"status": error.status, "note": error.note}


def first_call(run: Run, name: str, cell: Cell) -> Record:
    """Hand a problem to a peer, and make the first call."""
    run.ask(name, "draw", cell=asdict(cell))
    prepared = run.ask(name, "prepare")
    answer = run.ask(name, "check")
    return {
        "status": "prepared",
        "note": prepared["note"],
        "prepare_seconds": prepared["seconds"],
        "first_seconds": answer["seconds"],
        "summary": answer["summary"],
    }


def judge_cell(run: Run, cell: Cell) -> tuple[str, Record]:
    """Let the judge answer: the reference, or "direct" where the reference would take too long.

    The mixture objective has PyTorch, which shares no line with what it judges.
    """
    if cell.kind == OBJECTIVE:
        return TORCH_OBJECTIVE, attempt(lambda: first_call(run, TORCH_OBJECTIVE, cell))
    small = cell.path is None and cell.n * cell.k * cell.d <= REFERENCE_ELEMENTS
    name = REFERENCE if small and left_out(run, REFERENCE, cell) is None else DIRECT
    return name, attempt(lambda: first_call(run, name, cell))


def check(run: Run, name: str, cell: Cell, judge: str, verdict: Record) -> Record:
    """Make the first call of a peer and compare what came out with what the judge has."""
    if name == judge:
        return {**verdict, "errors": {}}
    record = attempt(lambda: first_call(run, name, cell))
    if record["status"] != "prepared" or record["summary"] is None:
        return record
    has_gradient = run.peers[name].has_gradient
    errors, complaints = compare(record["summary"], verdict["summary"], has_gradient=has_gradient)
    record["errors"] = errors
    if complaints:
        record |= {"status": "wrong", "note": "; ".join(complaints)}
    return record


def count_calls(run: Run, name: str, record: Record) -> Record:
    """Find how many calls make a repetition, and how many repetitions the budget has."""
    calls, took = 1, record["first_seconds"]
    if took < SINGLE:
        # One unlucky call would make repetitions too short for good: believe the fastest.
        answers = [run.ask(name, "calls", least=SHORTEST) for _ in range(3)]
        took = min(answer["seconds"] for answer in answers)
        calls = max(math.ceil(SHORTEST / took), 1)
    most = max(int(run.options.budget * run.peers[name].share / (calls * took)), 1)
    repeat = min(most, run.options.repeat)
    return {"calls": calls, "repeat": repeat, "most": most, "seconds": [], "base_seconds": []}


def timing(run: Run, name: str, record: Record) -> float:
    """Time one repetition: seconds a call."""
    time.sleep(SETTLE)
    return float(run.ask(name, "time", calls=record["calls"])["seconds"])


def base_of(records: Iterable[str]) -> str:
    """Return the peer that the others of a cell are compared with: its first."""
    return next(iter(records))


def pair_long_call(run: Run, name: str, records: dict[str, Record]) -> None:
    """Take a first call that was long as a repetition, with one of the base next to it."""
    record, base = records[name], base_of(records)
    if record["first_seconds"] < LONG:
        return
    first = records[base]["first_seconds"]
    record["seconds"].append(record["first_seconds"])
    record["base_seconds"].append(first if first >= LONG else timing(run, base, records[base]))


def prepare_cell(run: Run, cell: Cell, names: list[str]) -> tuple[str, dict[str, Record]]:
    """Check all peers, the base first, and count their calls."""
    base = base_of(names)
    judge, verdict = judge_cell(run, cell)
    records: dict[str, Record] = {}
    for name in names:
        why = left_out(run, name, cell)
        if why is None and verdict["status"] != "prepared":
            why = {"status": "unjudged", "note": f"the judge, {judge}: {verdict['note']}"}
        elif why is None and name != base and records[base]["status"] != "timed":
            why = {"status": "alone", "note": f"there is no time of {run.peers[base].title}"}
        if why is not None:
            records[name] = why
            continue
        record = records[name] = check(run, name, cell, judge, verdict)
        record.pop("summary", None)
        if record["status"] != "prepared":
            continue
        try:
            record |= count_calls(run, name, record) | {"status": "timed"}
            pair_long_call(run, name, records)
        except WorkerError as error:
            record |= {"status": error.status, "note": error.note}
    return judge, records


def repeat_cell(run: Run, records: dict[str, Record]) -> None:
    """Time peers in turn: in each repetition the base, then the others that have time left."""
    base, turn = base_of(records), 0
    while True:
        if 0 < turn < ROUNDS * run.options.repeat and turn % run.options.repeat == 0:
            extend(run, records)
        names = [
            name
            for name, record in records.items()
            if record["status"] == "timed" and len(record["seconds"]) < record["repeat"]
        ]
        others = [name for name in names if name != base]
        if not names or records[base]["status"] != "timed" or turn >= records[base]["repeat"]:
            break
        shift = turn % max(len(others), 1)
        turn += 1
        try:
            base_took = timing(run, base, records[base])
        except WorkerError as error:
            records[base] |= {"status": error.status, "note": error.note}
            break
        for name in [base, *others[shift:], *others[:shift]]:
            record = records[name]
            try:
                took = base_took if name == base else timing(run, name, record)
            except WorkerError as error:
                record |= {"status": error.status, "note": error.note}
                continue
            record["seconds"].append(took)
            record["base_seconds"].append(base_took)


def is_steady(record: Record) -> bool:
    """Say whether the middle half of a peer's times is close enough together for a median."""
    times = record.get("seconds", ())
    if len(times) < 3:
        return True
    lower, _, upper = statistics.quantiles(times, n=4, method="inclusive")
    return bool(upper <= STEADY * lower)


def is_short(record: Record) -> bool:
    """Say whether a peer's repetitions were much shorter than they were meant to be."""
    times = record.get("seconds", [])
    return bool(times) and record["calls"] * statistics.median(times) < SHORTEST / 2


def is_doubtful(cell: Record, settings: Record) -> bool:
    """Say whether a cell deserves to be measured again.

    Its repetitions were cut too short, or the base was not steady and had repetitions left.
    """
    if any(is_short(record) for record in cell["peers"].values()):
        return True
    base = cell["peers"][base_of(cell["peers"])]
    most = min(base.get("most", 0), ROUNDS * settings["repeat"])
    return not is_steady(base) and len(base["seconds"]) < most


def extend(run: Run, records: dict[str, Record]) -> None:
    """Give more repetitions to all whose budget has them, if the base is not steady."""
    base = records[base_of(records)]
    if is_steady(base):
        return
    done = len(base["seconds"])
    for record in records.values():
        if record["status"] == "timed" and record["repeat"] == done:
            record["repeat"] = min(record["most"], done + run.options.repeat)


def busy_cores() -> float | None:
    """Return how many cores others use while all peers sleep, or None where nothing tells."""

    def idle_and_all() -> tuple[int, int]:
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return ticks[3] + ticks[4], sum(ticks)

    with contextlib.suppress(OSError, ValueError, IndexError):
        idle, total = idle_and_all()
        time.sleep(BUSY)
        more_idle, more_total = idle_and_all()
        share = 1.0 - (more_idle - idle) / max(more_total - total, 1)
        return round(share * (os.cpu_count() or 1), 2)
    return None


def run_cell(run: Run, cell: Cell, names: list[str]) -> Record:
    """Check and time all peers in a cell."""
    start = time.monotonic()
    busy = busy_cores()
    judge, records = prepare_cell(run, cell, names)
    if records[base_of(records)]["status"] == "timed":
        repeat_cell(run, records)
    for name, worker in run.workers.items():
        if worker.process is not None:
            with contextlib.suppress(WorkerError):
                run.ask(name, "release")
    return {
        "d": cell.d,
        "k": cell.k,
        "n": cell.n,
        "seed": cell.seed,
        "kind": cell.kind,
        "stream": cell.path is not None,
        "judge": judge,
        "busy_cores": busy,
        "peers": records,
        "took_seconds": time.monotonic() - start,
    }


def run_cold(run: Run, cell: Cell, name: str) -> Record:
    """Measure a first call, and how far it raises the peak of memory, in a fresh process."""
    worker = Worker(name, run.peers[name], run.options, warm=False)
    run.show(f"{name}: first call")

    def measure() -> Record:
        drawn = worker.ask("draw", cell=asdict(cell))
        prepared = worker.ask("prepare")
        answer = worker.ask("check", watch=cell.path is not None)
        return {
            "status": "measured",
            "first_seconds": prepared["seconds"] + answer["seconds"],
            "added_mib": answer["peak_mib"] - drawn["peak_mib"],
            "anonymous_mib": answer["anonymous_mib"] - drawn["anonymous_mib"],
            "from_file": cell.path is not None,
        }

    why = left_out(run, name, cell)
    record = attempt(measure) if why is None else why
    worker.stop()
    return {"d": cell.d, "k": cell.k, "n": cell.n, "peer": name, **record}


# --- the whole ----------------------------------------------------------------------------------


class Task(NamedTuple):
    """What is measured and saved at once."""

    kind: str  # "cold", "cell", "objective" or "stream"
    d: int
    k: int
    n: int
    peer: str = ""

    def is_done(self, data: Record) -> bool:
        """Whether the document has it already."""
        size = (self.d, self.k, self.n)
        if self.kind == "cold":
            return any((*_size(c), c["peer"]) == (*size, self.peer) for c in data["cold"])
        wanted = (size, self.kind == "objective", self.kind == "stream")
        return any((_size(c), c["kind"] == OBJECTIVE, c["stream"]) == wanted for c in data["cells"])


def _size(record: Record) -> tuple[int, int, int]:
    return record["d"], record["k"], record["n"]


def plan(options: argparse.Namespace, peers: dict[str, Peer]) -> list[Task]:
    """List all that is to be measured; small N first, which tells what larger ones would take."""
    grid = sorted(options.grid, key=lambda size: size[2])
    cold = [size for size in COLD if size in grid] or ([max(grid, key=math.prod)] if grid else [])
    starting = [name for name, peer in peers.items() if name != FLOOR and peer.kind == LIKELIHOOD]
    tasks = [Task("cold", *size, name) for size in cold for name in starting]
    tasks += [Task("cell", *size) for size in grid]
    tasks += [Task("objective", *size) for size in options.objective_grid]
    return tasks + ([Task("stream", *STREAM, options.stream)] if options.stream else [])


@contextlib.contextmanager
def stream_file(cell: Cell) -> Iterator[Cell]:
    """Write the rows of a cell to a file that lasts as long as the context."""
    with tempfile.TemporaryDirectory(prefix="gmm_np_benchmark_") as directory:
        path = str(Path(directory) / "x.npy")
        there = Cell(cell.n, cell.k, cell.d, cell.seed, path, STREAM_BATCH)
        benchmark_peers.write_rows(there)
        yield there


def perform(run: Run, task: Task) -> None:
    """Measure one task."""
    kind = OBJECTIVE if task.kind == "objective" else LIKELIHOOD
    names = [name for name in run.data["peers"] if run.peers[name].kind == kind]
    cell = Cell(task.n, task.k, task.d, run.options.seed, kind=kind)
    if task.kind == "cold":
        run.data["cold"].append(run_cold(run, cell, task.peer))
    elif task.kind in ("cell", "objective"):
        run.data["cells"].append(run_cell(run, cell, names))
    else:
        streaming = [name for name in names if run.peers[name].streams]
        run.show("writing the file")
        with stream_file(cell) as there:
            run.data["cold"] += [run_cold(run, there, AUTO)]
            run.data["cells"].append(run_cell(run, there, streaming))


def new_document(options: argparse.Namespace, names: list[str], peers: dict[str, Peer]) -> Record:
    """Begin the document that a run writes."""
    chosen = {name: peers[name] for name in names}
    environment = environment_of(options)
    imports, missing = time_imports(chosen, environment)
    settings = ("repeat", "budget", "longest", "memory", "threads", "seed", "beside")
    return {
        "format": FORMAT,
        "command": shlex.join(["python", "scripts/benchmark.py", *sys.argv[1:]]),
        "started": now(),
        "finished": now(),
        "machine": describe_machine(),
        "versions": describe_versions(peer for name, peer in chosen.items() if name not in missing),
        "source": describe_source(),
        "settings": {
            **{name: getattr(options, name) for name in settings},
            "avx512": describe_avx512(without=options.without_avx512),
            "environment": settings_in(environment),
        },
        "peers": names,
        "titles": {name: peers[name].title for name in names},
        "modules": {name: modules_of(peers[name]) for name in names},
        "imports": imports,
        "missing": missing,
        "cold": [],
        "cells": [],
        "resumed": [],
    }


def open_document(options: argparse.Namespace, names: list[str], peers: dict[str, Peer]) -> Record:
    """Begin a document, or go on with one.

    Raises
    ------
    ValueError
        If the one to go on with was measured elsewhere, with other code or with other settings.
    """
    document = new_document(options, names, peers)
    if options.resume is None or not options.resume.exists():
        return document
    old: Record = json.loads(options.resume.read_text())
    keys = ("format", "machine", "versions", "settings", "peers", "missing")
    differ = [key for key in keys if old.get(key) != document[key]]
    if old.get("source", {}).get("digest") != document["source"]["digest"]:
        differ.append("source")
    if differ:
        raise ValueError(
            f"--resume {options.resume}: it has other {', '.join(differ)}. Figures of two "
            "settings do not belong into one table: measure anew."
        )
    if options.again:
        doubtful = [cell for cell in old["cells"] if is_doubtful(cell, old["settings"])]
        old["again"] = old.get("again", 0) + len(doubtful)
        old["cells"] = [cell for cell in old["cells"] if cell not in doubtful]
    return old


def measure(run: Run) -> None:
    """Measure what is not in the document yet."""
    tasks = plan(run.options, {name: run.peers[name] for name in run.data["peers"]})
    left = [task for task in tasks if not task.is_done(run.data)]
    if left and len(left) < len(tasks):
        run.data["resumed"].append(now())
    progress = tqdm(left, desc="benchmark", unit="task", file=sys.stderr, smoothing=0.05)
    head, shown = "", 0.0

    def show(text: str) -> None:
        nonlocal shown
        if time.monotonic() - shown > (0.5 if sys.stderr.isatty() else 30.0):
            shown = time.monotonic()
            progress.set_postfix_str(f"{head} {text}")

    run.show = show
    try:
        with busy_processes(run.options.beside):
            for task in progress:
                head = f"{task.kind} D={task.d} K={task.k} N={task.n}"
                perform(run, task)
                run.data["finished"] = now()
                run.save()
    finally:
        run.close()


# --- figures ------------------------------------------------------------------------------------


def ratio(cell: Record, name: str) -> float | None:
    """Return the median of a peer's time over that of the base in the same repetition."""
    record = cell["peers"].get(name, {})
    if record.get("status") != "timed" or not record["seconds"]:
        return None
    pairs = zip(record["seconds"], record["base_seconds"], strict=True)
    return float(statistics.median(mine / base for mine, base in pairs))


def seconds(cell: Record, name: str) -> float | None:
    """Return a peer's median seconds a call."""
    record = cell["peers"].get(name, {})
    if record.get("status") != "timed" or not record["seconds"]:
        return None
    return float(statistics.median(record["seconds"]))


class Comparison(NamedTuple):
    """The fastest of some peers, over the fastest of others."""

    title: str
    over: tuple[str, ...]
    under: tuple[str, ...] = (AUTO,)

    def figure(self, cell: Record) -> float | None:
        """Return the quotient of the two in a cell, if both were timed."""
        over = [r for name in self.over if (r := ratio(cell, name)) is not None]
        under = [r for name in self.under if (r := ratio(cell, name)) is not None]
        return min(over) / min(under) if over and under else None


TORCH = ("torch_mixture", "torch_formula", "torch_inverse")
JAX = ("jax_formula", "jax_inverse")
PYTORCH_BEST = Comparison("PyTorch, its fastest form", TORCH)
JAX_BEST = Comparison("JAX, its faster form", JAX)
OVER_FLOOR = Comparison("gmm_np auto over the floor", (AUTO,), (FLOOR,))
OVER_ONE_THREAD = Comparison("gmm_np auto over one thread", (AUTO,), (ONE_THREAD,))


def comparisons(data: Record) -> list[Comparison]:
    """List what is compared: each peer, and the fastest form of those that have several."""
    others = rivals(data)
    single = [Comparison(data["titles"][name], (name,)) for name in others]
    derived = [
        PYTORCH_BEST,
        Comparison("the same against gmm_np direct", TORCH, (DIRECT,)),
        Comparison("PyTorch distributions against gmm_np direct", TORCH[:1], (DIRECT,)),
        JAX_BEST,
        Comparison(
            "scikit-learn against gmm_np, both the value alone", ("sklearn",), ("gmm_np_value",)
        ),
        Comparison("gmm_np, the faster of direct and moments", (DIRECT, MOMENTS)),
    ]
    return single + [c for c in derived if any(name in others for name in c.over)]


GROUPS: tuple[tuple[str, Callable[[Record], bool]], ...] = (
    ("all cells", lambda cell: True),  # noqa: ARG005
    ("N ≥ 10⁴", lambda cell: bool(cell["n"] >= 10_000)),
    ("DK ≥ 50", lambda cell: bool(cell["d"] * cell["k"] >= 50)),
)


def cell_name(cell: Record) -> str:
    """Name a cell."""
    return f"D={cell['d']} K={cell['k']} N={cell['n']}"


def geometric_mean(values: list[float]) -> float:
    """Return the geometric mean."""
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def digits(value: float) -> str:
    """Write a ratio with two or three digits."""
    if value < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def duration(value: float | None) -> str:
    """Write seconds in a unit that suits."""
    if value is None:
        return ""
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def grid_cells(data: Record) -> list[Record]:
    """Return the cells of the grid, without the stream."""
    cells = (c for c in data["cells"] if c["kind"] == LIKELIHOOD and not c["stream"])
    return sorted(cells, key=_size)


def objective_cells(data: Record) -> list[Record]:
    """Return the cells of the mixture objective."""
    return sorted((c for c in data["cells"] if c["kind"] == OBJECTIVE), key=_size)


def rivals(data: Record) -> list[str]:
    """Name the peers of the grid that "auto" is compared with."""
    names = dict.fromkeys(name for cell in grid_cells(data) for name in cell["peers"])
    return [name for name in names if name not in (AUTO, FLOOR)]


def row(*values: object) -> str:
    """Write a row of a table."""
    return "| " + " | ".join(map(str, values)) + " |"


def table(head: list[str], rows: list[str], left: int = 1) -> list[str]:
    """Write a table; all columns but the first few are aligned to the right."""
    marks = ["---" if i < left else "---:" for i in range(len(head))]
    return [row(*head), row(*marks), *rows]


def table_of_ratios(data: Record) -> list[str]:
    """Write the geometric means and minima of all comparisons."""
    head = ["time over that of gmm_np auto"]
    for name, _ in GROUPS:
        head += [f"{name}: mean", "smallest", "in", "cells"]
    rows = []
    for comparison in comparisons(data):
        values: list[object] = [comparison.title]
        for _, belongs in GROUPS:
            cells = [c for c in grid_cells(data) if belongs(c)]
            found = [(f, cell_name(c)) for c in cells if (f := comparison.figure(c)) is not None]
            if found:
                least = min(found)
                mean = geometric_mean([figure for figure, _ in found])
                values += [digits(mean), digits(least[0]), least[1], len(found)]
            else:
                values += ["", "", "", 0]
        rows.append(row(*values))
    return table(head, rows)


def lines_on_floor(data: Record) -> list[str]:
    """Say how far "auto" is above the floor."""
    found = [
        (figure, cell)
        for cell in grid_cells(data)
        if (figure := OVER_FLOOR.figure(cell)) is not None and (seconds(cell, FLOOR) or 0.0) >= 0.01
    ]
    if not found:
        return ["No cell has a floor of 10 ms or more."]
    most, where = max(found, key=lambda item: item[0])
    mean = geometric_mean([figure for figure, _ in found])
    twice = [f"{cell_name(cell)} ({digits(figure)})" for figure, cell in found if figure > 2]
    return [
        (
            f"Over the {len(found)} cells whose floor is 10 ms or more, gmm_np auto takes "
            f"{digits(mean)} times the floor in the geometric mean, and at most {digits(most)} "
            f"times, in {cell_name(where)}."
        ),
        (
            f"It takes more than twice the floor in {len(twice) or 'none'} of them"
            f"{': ' if twice else ''}{', '.join(twice)}."
        ),
    ]


def lines_on_threads(data: Record) -> list[str]:
    """Say whether the threads of "auto" ever are in each other's way."""
    found = [
        (figure, cell_name(cell))
        for cell in grid_cells(data)
        if (figure := OVER_ONE_THREAD.figure(cell)) is not None
    ]
    if not found:
        return []
    slower = sum(figure > SLOWER for figure, _ in found)
    most, where = max(found)
    mean = geometric_mean([figure for figure, _ in found])
    return [
        "## Threads",
        "",
        (
            f"By default gmm_np auto takes more than {SLOWER:g} times as long as where the "
            f"environment says one thread in {slower or 'none'} of {len(found)} cells; at most "
            f"{digits(most)} times, in {where}; {digits(mean)} times in the geometric mean."
        ),
    ]


def lines_on_objective(data: Record) -> list[str]:
    """Report the mixture objective of ADBench and GradBench."""
    cells = objective_cells(data)
    if not cells:
        return []
    head = ["D", "K", "N"]
    for name in cells[0]["peers"]:
        head += [data["titles"][name], *(["ratio"] if name != GMM_NP_OBJECTIVE else [])]
    rows = []
    for cell in cells:
        values: list[object] = [*_size(cell)]
        for name, record in cell["peers"].items():
            values.append(duration(seconds(cell, name)) or record["status"])
            if name != GMM_NP_OBJECTIVE:
                figure = ratio(cell, name)
                values.append(digits(figure) if figure else "")
        rows.append(row(*values))
    return [
        "## The mixture objective of ADBench and GradBench",
        "",
        (
            "Value and gradient of the log posterior by precision factors with a Wishart prior, "
            "`gmm_np.parametrizations.precision_value_and_grad`, beside autograd of the same in "
            "PyTorch's tensor operations: as the benchmark states it, and in the fastest form "
            "found. Inputs as those benchmarks draw them: means uniform in [0, 1], all else "
            "standard normal, gamma = 1 and m = 0 (data/gmm/gmm-data-gen.py in microsoft/ADBench, "
            "evals/gmm/data_gen.py in gradbench/gradbench). A ratio is over gmm_np's time."
        ),
        "",
        *table(head, rows, 0),
    ]


def lines_on_tiniest(data: Record) -> list[str]:
    """Say how the smallest cell compares with JAX, where overhead decides."""
    for cell in grid_cells(data):
        if _size(cell) == (2, 5, 1000) and (figure := JAX_BEST.figure(cell)) is not None:
            forms = "; ".join(
                f"{data['titles'][name]} {duration(seconds(cell, name))}"
                for name in (AUTO, *JAX)
                if seconds(cell, name) is not None
            )
            return [
                (
                    f"In the tiniest cell, D=2 K=5 N=1000, JAX takes {digits(figure)} of gmm_np "
                    f"auto's time ({forms})."
                )
            ]
    return []


def table_of_cells(data: Record) -> list[str]:
    """Write all cells: the time of "auto", and ratios."""
    others = rivals(data)
    has_floor = FLOOR in data["peers"]
    head = ["D", "K", "N", "gmm_np auto", *(["over the floor"] if has_floor else [])]
    head += [data["titles"][name] for name in others]
    rows = []
    for cell in grid_cells(data):
        values: list[object] = [*_size(cell)]
        values.append(duration(seconds(cell, AUTO)) or cell["peers"][AUTO]["status"])
        if has_floor:
            figure = OVER_FLOOR.figure(cell)
            values.append(digits(figure) if figure else cell["peers"][FLOOR]["status"])
        for name in others:
            figure = ratio(cell, name)
            values.append(digits(figure) if figure else cell["peers"][name]["status"])
        rows.append(row(*values))
    return table(head, rows, 0)


def table_of_starts(data: Record) -> list[str]:
    """Write import times, first calls and peak memory of fresh processes."""
    grid = list(dict.fromkeys(_size(c) for c in data["cold"]))
    head = ["peer", "import"]
    for d, k, n in grid:
        head += [f"D={d} K={k} N={n}: first call", "peak memory added"]
    rows = []
    for name in dict.fromkeys(c["peer"] for c in data["cold"]):
        times = data["imports"].get(data["modules"][name])
        values: list[object] = [data["titles"][name]]
        values.append(duration(statistics.median(times)) if times else "missing")
        for size in grid:
            found = [c for c in data["cold"] if c["peer"] == name and _size(c) == size]
            if found and found[0]["status"] == "measured":
                added = f"{found[0]['added_mib']:.0f} MiB"
                if found[0]["from_file"]:
                    added += f", the file's pages apart {found[0]['anonymous_mib']:.0f} MiB"
                values += [duration(found[0]["first_seconds"]), added]
            else:
                values += [found[0]["status"] if found else "", ""]
        rows.append(row(*values))
    return table(head, rows)


def lines_on_stream(data: Record) -> list[str]:
    """Report the file that does not fit a batch."""
    lines = []
    for cell in (c for c in data["cells"] if c["stream"]):
        rows = [
            row(
                data["titles"][name],
                duration(seconds(cell, name)) or record["status"],
                digits(figure) if (figure := ratio(cell, name)) else "",
            )
            for name, record in cell["peers"].items()
        ]
        lines += [
            f"### {cell_name(cell)} from a file",
            "",
            (
                f"A `numpy.memmap`; PyTorch takes {STREAM_BATCH} rows at a time and sums. "
                f"The judge is {data['titles'].get(cell['judge'], cell['judge'])}."
            ),
            "",
            *table(["peer", "time", "over gmm_np auto"], rows),
            "",
        ]
    return lines


def lines_on_absences(data: Record) -> list[str]:
    """List what was not timed, and why."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for cell in grid_cells(data) + objective_cells(data):
        for name, record in cell["peers"].items():
            if record["status"] not in ("timed", "missing"):
                # What depends on the cell alone would make a line for each.
                note = "" if record["status"] in ALIKE else f" ({record['note']})"
                key = name, record["status"], note
                reasons.setdefault(key, []).append(cell_name(cell))
    lines = [
        f"- {data['titles'][name]} is not installed: {why}" for name, why in data["missing"].items()
    ]
    for (name, status, note), cells in reasons.items():
        reason = STATUS[status].format(**data["settings"])
        lines.append(f"- {data['titles'][name]}, {reason}{note}: {', '.join(cells)}")
    return lines or ["Everything was timed in every cell."]


STATUS = {
    "memory": "left out, since by its estimate it takes more than the {memory:g} GB allowed",
    "time": (
        "left out, since by fewer rows a call would take more than {longest:g} s, or a quarter of "
        "that for the reference and autograd"
    ),
    "wrong": "**wrong**, and so not timed",
    "died": "its process died",
    "timeout": "timed out, there or in a cell that is no larger",
    "error": "failed",
    "unjudged": "not checked, since the judge failed",
    "alone": "not timed, since gmm_np was not",
    "prepared": "not timed",
}
ALIKE = ("memory", "time", "timeout", "alone")


def lines_on_conditions(data: Record) -> list[str]:
    """Say what was measured where, when and how."""
    machine, source, settings = data["machine"], data["source"], data["settings"]
    cells = grid_cells(data) + objective_cells(data)
    judges = sorted({data["titles"].get(c["judge"], c["judge"]) for c in cells})
    changed = " with changes" if source["changed"] else ""
    threads = settings["threads"] or "all"
    resumed = "".join(f", resumed {when}" for when in data["resumed"])
    again = ""
    if count := data.get("again"):
        why = "since repetitions were shorter or times further apart"
        again = f" Cells measured again, {why}: {count}."
    short = sum(any(map(is_short, cell["peers"].values())) for cell in cells)
    if short:
        again += f" Cells where a peer's repetitions still are less than half as long: {short}."
    return [
        f"- Command: `{data['command']}`",
        (
            f"- {data['started']} to {data['finished']}{resumed}; commit {source['commit']}"
            f"{changed}, digest {source['digest']}"
        ),
        (
            f"- {machine['cpu']}, {machine['cores']} cores ({threads} used), "
            f"{machine['memory_gib']} GiB, {machine['system']}"
        ),
        _line_on_processor(settings),
        _line_on_others(data),
        "- " + ", ".join(f"{name} {version}" for name, version in data["versions"].items()),
        (
            f"- Seed {settings['seed']}; up to {settings['repeat']} interleaved repetitions, "
            f"meant to take {SHORTEST * 1000:.0f} ms or more, and up to "
            f"{ROUNDS * settings['repeat']} where the quartiles of gmm_np's times were further "
            f"apart than a factor of {STEADY:g}; fewer "
            f"where they would exceed {settings['budget']:g} s. A figure is the median over "
            f"repetitions.{again}"
        ),
        (
            f"- Before anything is timed, values and gradients are within {TOLERANCE:g} of the "
            f"judge ({' or '.join(judges)})."
        ),
    ]


def _line_on_processor(settings: Record) -> str:
    said = shlex.join(f"{name}={value}" for name, value in settings["environment"].items())
    environment = f": `{said}`" if said else " says nothing of instructions and threads"
    return f"- Instructions: {settings['avx512']}. The peers' environment{environment}."


def _line_on_others(data: Record) -> str:
    beside = data["settings"]["beside"]
    kept = f"- Beside {beside} busy process{'' if beside == 1 else 'es'}. " if beside else "- "
    busy = [c["busy_cores"] for c in data["cells"] if c["busy_cores"] is not None]
    if not busy:
        return f"{kept}What else ran at the same time is not known."
    return (
        f"{kept}Before cells, while all peers slept, others used {statistics.median(busy):.2g} "
        f"cores in the median, {min(busy):.2g} at least, and {max(busy):.2g} at most."
    )


def lines_on_grid(data: Record) -> list[list[str]]:
    """Write the sections that are about the grid."""
    if not grid_cells(data):
        return []
    return [
        ["## Ratios"],
        [
            (
                "A peer's time over that of gmm_np auto: above 1, gmm_np is faster. The mean is "
                "the geometric one, over the cells that could be timed."
            )
        ],
        table_of_ratios(data),
        lines_on_threads(data),
        ["## Over the floor"],
        [
            (
                "The floor is the time of the matrix products of the cheaper kernel, and of one "
                "exponential for each sample and component, in blocks that stay in cache."
            )
        ],
        lines_on_floor(data),
        lines_on_tiniest(data),
    ]


def markdown(data: Record) -> str:
    """Write the report."""
    parts = [
        ["# Benchmarks"],
        [
            (
                "Value and gradient of the mean negative log-likelihood of a full-covariance "
                "Gaussian mixture, float64. Everything below was measured in one run of "
                "`scripts/benchmark.py`, which wrote it."
            )
        ],
        lines_on_conditions(data),
        *lines_on_grid(data),
        lines_on_objective(data),
    ]
    if data["cold"]:
        parts += [
            ["## Start and memory"],
            [
                (
                    "In fresh processes: the import, the first call (with what it compiles), and "
                    "how far these raise the peak of resident memory above what was there with "
                    "the data."
                )
            ],
            table_of_starts(data),
        ]
    if grid_cells(data):
        parts += [["## All cells"], table_of_cells(data)]
    parts += [lines_on_stream(data), ["## Not timed"], lines_on_absences(data)]
    return "\n\n".join("\n".join(lines).strip() for lines in parts if lines) + "\n"


# --- picture ------------------------------------------------------------------------------------

WORST_SHADE = 3.0  # times the floor: darker is not needed
SHORT = {"memory": "mem", "timeout": "late", "missing": "none"}
PICTURE = {
    PYTORCH_BEST.title: "time of PyTorch,\nits fastest form,\nover that of gmm_np",
    JAX_BEST.title: "time of JAX,\nits faster form,\nover that of gmm_np",
    OVER_FLOOR.title: "time of gmm_np\nover the floor",
}
CAPTION = (
    "Above 1 in the rows on PyTorch and JAX, gmm_np is faster. Hatched: not timed, since it needs "
    "more memory (mem)\nor time than allowed, or is wrong. Italic: gmm_np takes less than 10 ms."
)


def draw_figure(axes: Any, at: tuple[int, int], figure: float, colour: Any, style: str) -> None:
    """Draw a square with its number."""
    light = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
    draw_square(axes, at, digits(figure), "black" if light > 0.5 else "white", style, fc=colour)


def draw_square(
    axes: Any, at: tuple[int, int], label: str, ink: str, style: str = "normal", **box: Any
) -> None:
    """Draw a square with a label."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(at, 1, 1, **{"ec": "white", "lw": 1.5, **box}))
    centre = at[0] + 0.5, at[1] + 0.5
    axes.text(*centre, label, ha="center", va="center", color=ink, fontsize=9, style=style)


def draw_panel(axes: Any, data: Record, comparison: Comparison, n: int, shade: Any) -> None:
    """Draw a heat map over D and K with its figures; what was not timed is hatched and named."""
    cells = {_size(cell): cell for cell in grid_cells(data)}
    d_values, k_values = (sorted({size[i] for size in cells}) for i in (0, 1))
    for size, cell in cells.items():
        if size[2] != n:
            continue
        at = k_values.index(size[1]), d_values.index(size[0])
        figure = comparison.figure(cell)
        if figure is None:
            names = [p for p in (*comparison.over, *comparison.under) if p in cell["peers"]]
            states = [cell["peers"][name]["status"] for name in names]
            status = next(state for state in states if state != "timed")
            draw_square(
                axes, at, SHORT.get(status, status), "0.35", fc="0.93", ec="0.8", hatch="////"
            )
        else:
            style = "italic" if (seconds(cell, AUTO) or 0.0) < 0.01 else "normal"
            draw_figure(axes, at, figure, shade(figure), style)
    axes.set(xlim=(0, len(k_values)), ylim=(0, len(d_values)), title=f"N = {n:,}")
    axes.set_xticks(np.arange(len(k_values)) + 0.5, k_values)
    axes.set_yticks(np.arange(len(d_values)) + 0.5, d_values)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def make_shade(data: Record, comparison: Comparison) -> Callable[[float], Any]:
    """Return the colour of a figure, on a logarithmic scale."""
    import matplotlib as mpl

    if comparison is OVER_FLOOR:
        norm, colours = mpl.colors.LogNorm(1.0, WORST_SHADE, clip=True), mpl.colormaps["YlOrBr"]
    else:
        figures = [f for c in grid_cells(data) if (f := comparison.figure(c)) is not None]
        most = max(2.0, *figures, *(1 / f for f in figures))
        norm, colours = mpl.colors.LogNorm(1 / most, most, clip=True), mpl.colormaps["BrBG"]
    return lambda figure: colours(float(norm(figure)))


def plot(data: Record, path: Path) -> None:
    """Draw ratios to PyTorch and JAX, and times over the floor, for each N."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    n_values = sorted({cell["n"] for cell in grid_cells(data)})
    shown = [c for c in (PYTORCH_BEST, JAX_BEST, OVER_FLOOR) if _has_figures(data, c)]
    if not shown:
        raise ValueError("--plot: neither PyTorch nor JAX nor the floor was timed.")
    n_d, n_k = (len({cell[key] for cell in grid_cells(data)}) for key in ("d", "k"))
    size = (
        max(1.6 + (0.5 + 0.5 * n_k) * len(n_values), 8.5),
        1.6 + (0.8 + 0.38 * n_d) * len(shown),
    )
    figure, grid = plt.subplots(
        len(shown), len(n_values), figsize=size, squeeze=False, layout="constrained"
    )
    for line, comparison in zip(grid, shown, strict=True):
        shade = make_shade(data, comparison)
        for axes, n in zip(line, n_values, strict=True):
            draw_panel(axes, data, comparison, n, shade)
        line[0].set_ylabel(f"{PICTURE[comparison.title]}\n\ndimensions D")
    for axes in grid[-1]:
        axes.set_xlabel("components K")
    figure.suptitle(
        "Value and gradient of the NLL of a full-covariance mixture, float64\n"
        f"{data['machine']['cpu']}, cores used: "
        f"{data['settings']['threads'] or data['machine']['cores']}; "
        f"{data['settings']['avx512']}",
        fontsize=11,
    )
    figure.supxlabel(CAPTION, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _has_figures(data: Record, comparison: Comparison) -> bool:
    return any(comparison.figure(cell) is not None for cell in grid_cells(data))


# --- the program --------------------------------------------------------------------------------


def report(run: Run) -> int:
    """Write what was asked for; return the exit status."""
    text = markdown(run.data)
    if run.options.markdown is not None:
        run.options.markdown.parent.mkdir(parents=True, exist_ok=True)
        run.options.markdown.write_text(text)
    else:
        print(text)
    if run.options.plot is not None:
        plot(run.data, run.options.plot)
    wrong = [
        f"{name} at {cell_name(cell)}: {record['note']}"
        for cell in run.data["cells"]
        for name, record in cell["peers"].items()
        if record["status"] == "wrong"
    ]
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    return 1 if wrong else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    options = parse_options(arguments)
    try:
        peers = benchmark_peers.load_peers(options.peer_module)
        names = choose_peers(options, peers)
        data = open_document(options, names, peers)
    except (ValueError, OSError) as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return 2
    run = Run(options, peers, data)
    try:
        measure(run)
    except KeyboardInterrupt:
        hint = f"go on with --resume {options.json}" if options.json else "nothing was kept"
        print(f"\nbenchmark.py: stopped; {hint}", file=sys.stderr)
        return 130
    run.save()
    return report(run)


if __name__ == "__main__":
    sys.exit(main())
