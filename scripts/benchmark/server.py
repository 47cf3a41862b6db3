"""The process that runs one peer.

Requests and answers are dictionaries that go through a connection. No array travels: the process
draws the problem from a seed, and answers with seconds, and with sums that tell whether value and
gradients are right.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import math
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from cells import BLOCKS, Answer, Cell, Prepared
from peers import Peer, load_peers


def summarize(answer: Answer, cell: Cell) -> dict[str, Any]:
    """Reduce an answer to a few numbers: a norm and two random projections for each gradient."""
    summary: dict[str, Any] = {"value": np.asarray(answer.value, np.float64).tolist()}
    rng = np.random.default_rng(cell.seed)
    for block, gradient in zip(BLOCKS.get(cell.kind, ()), answer.gradients or (), strict=False):
        g = np.asarray(gradient, np.float64)
        projections = [float((rng.normal(size=g.shape) * g).sum()) for _ in range(2)]
        summary[block] = {
            "shape": list(g.shape),
            "norm": float(np.linalg.norm(g)),
            "projections": projections,
        }
    return summary


def memory() -> dict[str, float]:
    """Return MiB of memory: the peak of what is resident, and what is of no file right now."""
    with contextlib.suppress(OSError, KeyError):
        lines = Path("/proc/self/status").read_text().splitlines()
        fields = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        # Not ru_maxrss, which on Linux begins with what the parent had when it forked.
        return {
            "peak_mib": int(fields["VmHWM"][0]) / 2**10,
            "anonymous_mib": int(fields["RssAnon"][0]) / 2**10,
        }
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts in bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"peak_mib": peak, "anonymous_mib": math.nan}


@contextlib.contextmanager
def watch_memory(seen: dict[str, float], interval: float = 0.005) -> Iterator[None]:
    """Note the peak of memory of no file, which the system does not keep, in `seen`."""
    seen["anonymous_mib"] = memory()["anonymous_mib"]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(interval):
            seen["anonymous_mib"] = max(seen["anonymous_mib"], memory()["anonymous_mib"])

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()


@dataclass
class Server:
    """Answers requests about one peer."""

    peer: Peer
    cell: Cell | None = None
    problem: Any = None
    prepared: Prepared | None = None

    def answer(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Answer a request; where the peer raises an exception, say which."""
        try:
            answer: dict[str, Any] = getattr(self, do)(**arguments)
        except Exception as error:
            self.release()
            return {"error": f"{type(error).__name__}: {error}"}
        return answer

    def draw(self, cell: dict[str, Any]) -> dict[str, Any]:
        """Draw a problem."""
        self.release()
        self.cell = Cell(**cell)
        self.problem = self.peer.draw(self.cell)
        return memory()

    def prepare(self) -> dict[str, Any]:
        """Convert arrays, compile, choose blocks: what is done once and is not timed."""
        assert self.problem is not None
        start = time.perf_counter()
        self.prepared = self.peer.prepare(self.problem)
        return {"seconds": time.perf_counter() - start, "note": self.prepared.note}

    def check(self, watch: bool = False) -> dict[str, Any]:
        """Make the first call, and say what came out; watch memory where that is asked for."""
        assert self.prepared is not None
        assert self.cell is not None
        seen: dict[str, float] = {}
        with watch_memory(seen) if watch else contextlib.nullcontext():
            start = time.perf_counter()
            out = self.prepared.call()
            seconds = time.perf_counter() - start
        after = {**memory(), **seen}
        summary = None
        if self.prepared.read is not None:
            summary = summarize(self.prepared.read(out), self.cell)
        return {"seconds": seconds, "summary": summary, **after}

    def calls(self, least: float) -> dict[str, Any]:
        """Find how many calls take at least so many seconds."""
        calls = 1
        while (seconds := self._run(calls)) < least:
            calls = max(2 * calls, min(100 * calls, math.ceil(1.1 * calls * least / seconds)))
        return {"calls": calls, "seconds": seconds / calls}

    def time(self, calls: int) -> dict[str, Any]:
        """Time so many calls, after one that warms the caches where calls are short."""
        gc.collect()
        if calls > 1:
            self._run(1)
        return {"seconds": self._run(calls) / calls}

    def release(self) -> dict[str, Any]:
        """Forget the problem."""
        self.cell = self.problem = self.prepared = None
        gc.collect()
        return {}

    def _run(self, calls: int) -> float:
        assert self.prepared is not None
        call = self.prepared.call
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - start


def serve(peer: Peer, connection: Connection) -> None:
    """Answer requests until nobody is there to make them."""
    for module in peer.modules:
        importlib.import_module(module)
    server = Server(peer)
    with contextlib.suppress(EOFError, ConnectionError):
        connection.send({"ready": True})
        while True:
            connection.send(server.answer(**connection.recv()))


def main() -> None:
    """Serve the peer that the command line names."""
    parser = argparse.ArgumentParser(description="Serve one peer of scripts/benchmark.py.")
    parser.add_argument("peer")
    parser.add_argument("--peer-module", action="append", default=[])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--connection", type=int, required=True, help="its file descriptor")
    options = parser.parse_args()
    if options.threads is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    with contextlib.suppress(OSError):  # if memory runs out, the system is to end this process
        Path("/proc/self/oom_score_adj").write_text("1000")
    serve(load_peers(options.peer_module)[options.peer], Connection(options.connection))


if __name__ == "__main__":
    main()
