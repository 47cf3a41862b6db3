"""Measure a cell: find out who is right, and time those in turn."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cells import OBJECTIVE, Cell
from figures import (
    ROUNDS,
    SHORTEST,
    Record,
    base_of,
    cell_name,
    duration,
    is_steady,
    seconds,
    size_of,
)
from peers import DIRECT, REFERENCE, TORCH_OBJECTIVE, Peer
from worker import Worker, WorkerError

TOLERANCE = 1e-10
REFERENCE_ELEMENTS = 10**8  # of N x K x D: where the reference ceases to be the judge
SINGLE = 0.2  # seconds of a call whose repetitions are single calls
LONG = 2.0  # seconds of a call that is not made twice, since its check will do as a repetition
BUSY = 0.25  # seconds in which others show whether they use the machine


def compare(
    summary: Record, judge: Record, *, has_gradient: bool, tolerance: float = TOLERANCE
) -> tuple[Record, list[str]]:
    """Return relative errors by argument, and complaints: empty if the answer is right.

    A projection on standard normal numbers is as large as the norm, so that its error is divided
    by the judge's norm.
    """
    values, rights = (np.asarray(s["value"]) for s in (summary, judge))
    errors = {"value": float(np.max(np.abs(values - rights) / np.abs(rights)))}
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
        f"{name} off by {error:.1e}" for name, error in errors.items() if not error <= tolerance
    ]
    return errors, complaints


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

    def time(self, name: str, record: Record) -> float:
        """Time one repetition: seconds a call."""
        self.show(f"{name}: time")
        return self.worker(name).time(record["calls"])


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
        note = f"by its estimate, more than the {limit:.3g} GB allowed"
        return {"status": "memory", "note": note}
    smaller = [
        other
        for other in run.data["cells"]
        if (other["stream"], other["kind"]) == (False, cell.kind)
        and all(getattr(cell, axis) >= other[axis] for axis in "dkn")
    ]
    for other in smaller:
        if other["peers"].get(name, {}).get("status") == "timeout":
            return {"status": "timeout", "note": f"timed out at {cell_name(other)} already"}
    alike = [other for other in smaller if (other["d"], other["k"]) == (cell.d, cell.k)]
    return _takes_too_long(run, name, cell, max(alike, key=size_of)) if alike else None


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
        return error.record


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


def pair_long_call(run: Run, name: str, records: dict[str, Record]) -> None:
    """Take a first call that was long as a repetition, with one of the base next to it."""
    record, base = records[name], base_of(records)
    if record["first_seconds"] < LONG:
        return
    first = records[base]["first_seconds"]
    record["seconds"].append(record["first_seconds"])
    record["base_seconds"].append(first if first >= LONG else run.time(base, records[base]))


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
            record |= error.record
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
        base_took = 0.0
        for name in [base, *others[shift:], *others[:shift]]:
            record = records[name]
            try:
                took = run.time(name, record)
            except WorkerError as error:
                record |= error.record
                if name == base:
                    return
                continue
            base_took = took if name == base else base_took
            record["seconds"].append(took)
            record["base_seconds"].append(base_took)


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
        **{key: getattr(cell, key) for key in ("d", "k", "n", "seed", "kind")},
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
