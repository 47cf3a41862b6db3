"""A learner's file, in a process of its own: it may hang, exit or crash, and that is an answer."""

from __future__ import annotations

import contextlib
import json
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from gmm_np.conformance.process_adapter import end_process
from gmm_np.lesson.calls import NO_EXIT, Reply
from gmm_np.lesson.exercise_set import Part

__all__ = ["Learner", "NotLoadedError"]

_START: Final = 60.0  # seconds that Python, NumPy and SciPy may take, which the learner cannot help
_GRACE: Final = 5.0  # seconds beyond the time-out, which the process keeps by itself
_WHERE: Final = re.compile(r'File "(.*)", line (\d+) in (\S+)')


class NotLoadedError(Exception):
    """The file ended its process, or did not come to its end."""


class Learner:
    """The functions of a file.

    Parameters
    ----------
    path : Path
        A Python file. It is run.
    timeout : float
        Seconds for the file, and for the calls of each function.

    Raises
    ------
    ValueError
        If the file does not run; the message has the line.
    NotLoadedError
        If it hangs, exits, or crashes Python.
    OSError
        If it cannot be read.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a directory; name the file in it.")
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: there is no such file; `gmm-np exercises start DIR` writes one."
            )
        try:
            self._source = path.read_bytes()
        except OSError as error:
            raise type(error)(f"{path} cannot be read: {error.strerror}.") from error
        self.path, self.timeout = path, timeout
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.printed = self._start()

    def ask(self, part: Part, right: Sequence[str]) -> Reply:
        """Call a function; those in `right` are the reference's meanwhile."""
        if self._process is None:
            self._start()
        self._send({"part": part.name, "right": list(right)})
        members, printed = self._read(self.timeout)
        if "answers" not in members:
            text = f"{part.name} {members['text']}"
            return Reply([], "wrong", members["kind"], text, printed=printed)
        answers = [
            [np.array(values, dtype=np.float64).reshape(shape) for shape, values in outputs]
            for outputs in members.pop("answers")
        ]
        return Reply(answers, **{**members, "printed": printed})

    def close(self) -> None:
        """End the process, and all that it started."""
        process, self._process = self._process, None
        if process is not None:
            end_process(process)
            with contextlib.suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()

    def _start(self) -> str:
        """Start the process and run the file; return what it prints."""
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from gmm_np.lesson.calls import main; "
            f"main({str(self.path)!r}, {self.timeout!r})"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._process, self._lines = process, queue.SimpleQueue()
        threading.Thread(target=_forward, args=(process, self._lines), daemon=True).start()
        self._send(self._source.decode("latin-1"))
        members, printed = self._read(_START + self.timeout)
        if "failed" not in members:
            raise NotLoadedError(
                f"{self.path} {members['text']} (Before any function was asked for.)"
            )
        if members["failed"]:
            self.close()
            if members["kind"] == "exit":
                raise NotLoadedError(f"{members['failed']} {NO_EXIT}")
            raise ValueError(members["failed"])
        return printed

    def _send(self, message: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended, which is read afterwards
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _read(self, timeout: float) -> tuple[dict[str, Any], str]:
        """Return the next message, or kind and text of what became of the process; and prints."""
        printed, report = "", ""
        while True:
            try:
                line = self._lines.get(timeout=timeout + _GRACE)
            except queue.Empty:
                self.close()
                return self._ended(f"{report}Timeout", 0), printed
            if line is None:
                process = self._process
                assert process is not None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE)  # for its own exit code
                self.close()
                return self._ended(report, process.returncode), printed
            try:
                members = json.loads(line)
            except ValueError:
                report += line
                continue
            if set(members) != {"printed"}:
                return members, printed
            printed += members["printed"]

    def _ended(self, report: str, code: int) -> dict[str, Any]:
        """Say what a report of faulthandler, or an exit code, stands for."""
        # faulthandler writes a name that is not ASCII like this.
        own = str(self.path).encode("ascii", "backslashreplace").decode()
        lines = [line for name, line, _ in _WHERE.findall(report) if name == own]
        at = f" at line {lines[0]}" if lines else ""
        if "Timeout" in report:
            text = (
                f"was still running{at} after {self.timeout:g} s: look for a loop that does not "
                "end there, or allow more with --timeout SECONDS."
            )
            return {"kind": "hang", "text": text}
        fatal = re.search(r"Fatal Python error: (.*)", report)
        if fatal or code < 0:
            what = fatal.group(1) if fatal else f"signal {-code}"
            text = (
                f"crashed Python{at} ({what}): look for endless recursion, memory that is used up, "
                "or a call into C."
            )
            return {"kind": "crash", "text": text}
        return {"kind": "exit", "text": f"ended Python with exit code {code}. {NO_EXIT}"}


def _forward(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put(None)
