"""All that a run measures, task by task, each of which is saved when it is done."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cells import LIKELIHOOD, OBJECTIVE, Cell, write_rows
from document import now, save
from environment import busy_processes
from figures import Record, size_of
from measure import Run, run_cell, run_cold
from peers import AUTO, FLOOR, Peer
from tqdm import tqdm

# Where a fresh process shows a peer's first call and its peak memory, as (D, K, N).
COLD = ((10, 25, 100_000), (32, 50, 10_000), (64, 100, 10_000))
STREAM = (16, 32)  # D and K of the file
STREAM_BATCH = 10_000


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
            return any((*size_of(c), c["peer"]) == (*size, self.peer) for c in data["cold"])
        wanted = (size, self.kind == "objective", self.kind == "stream")
        return any(
            (size_of(c), c["kind"] == OBJECTIVE, c["stream"]) == wanted for c in data["cells"]
        )


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
        write_rows(there)
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
                save(run.data, run.options.json)
    finally:
        run.close()
