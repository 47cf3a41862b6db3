"""The processes of peers, seen from the one that measures."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

from cells import Cell
from environment import make_environment
from peers import Peer

Record = dict[str, Any]

SERVER = Path(__file__).with_name("server.py")
# Seconds in which threads of the peer before fall asleep; OpenBLAS waits actively for 0.1.
SETTLE = 0.15


class WorkerError(Exception):
    """A peer did not answer as it should; `status` says how: "died", "timeout" or "error"."""

    def __init__(self, status: str, note: str) -> None:
        super().__init__(note)
        self.record = {"status": status, "note": note}


class PeerError(WorkerError):
    """A peer raised an exception; its process goes on."""


class Worker:
    """The process of one peer. It starts when it is needed, and again after it has died."""

    def __init__(
        self, name: str, peer: Peer, options: argparse.Namespace, *, warm: bool = True
    ) -> None:
        self.options, self.kind, self.warm = options, peer.kind, warm
        self.process: subprocess.Popen[bytes] | None = None
        self.command = [sys.executable, str(SERVER), name]
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
        answer = self._exchange({"do": do, **arguments})
        if "error" in answer:
            raise PeerError("error", answer["error"])
        return answer

    def time(self, calls: int) -> float:
        """Time so many calls once other peers have come to rest: seconds a call."""
        time.sleep(SETTLE)
        return float(self.ask("time", calls=calls)["seconds"])

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.connection.close()
            self.errors.close()
            self.process = None

    def _start(self) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by stop
        self.connection, there = Pipe()
        with there:
            self.process = subprocess.Popen(
                [*self.command, "--connection", str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.errors,
                stderr=self.errors,
                env=self.environment,
            )
        self._exchange()  # it says that it is ready
        if self.warm:  # what a library does once is not to be taken for a long call
            with contextlib.suppress(PeerError):
                self.ask("draw", cell=asdict(Cell(64, 2, 2, 0, kind=self.kind)))
                for do in ("prepare", "check", "release"):
                    self.ask(do)

    def _exchange(self, request: Record | None = None) -> Record:
        try:
            if request is not None:
                self.connection.send(request)
            if self.connection.poll(self.options.timeout):
                answer: Record = self.connection.recv()
                return answer
        except (EOFError, ConnectionError):
            raise self._died() from None
        self.stop()
        raise WorkerError("timeout", f"no answer within {self.options.timeout:g} s: ended")

    def _died(self) -> WorkerError:
        assert self.process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        code = self.process.returncode
        self.errors.seek(0)
        last = self.errors.read().decode(errors="replace").strip().splitlines()[-1:]
        self.stop()
        return WorkerError("died", f"exit code {code}" + "".join(f": {line}" for line in last))


def environment_of(options: argparse.Namespace) -> dict[str, str]:
    """Return the environment of all peers' processes."""
    made = make_environment(without_avx512=options.without_avx512, threads=options.threads)
    return made | {"JAX_PLATFORMS": "cpu"}
