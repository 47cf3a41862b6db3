"""Any program as an adapter: lines of JSON, or of words, on its stdin and stdout.

docs/conformance.md shows an exchange. The program is started without a shell, in a process group of
its own, and is ended with all that it started at a time-out and when the runner is done.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import Any, Final

from gmm_np.conformance.cases import VALUE, Case
from gmm_np.conformance.compare import NotOffered, Outcome, Unsupported
from gmm_np.conformance.function_adapter import ToolError
from gmm_np.conformance.text import line_of, outcome_of_line, unsayable
from gmm_np.conformance.wire import GarbageError, has_specials, message_of, outcome_of, parse

__all__ = ["ProcessAdapter", "TextAdapter", "end_process", "python_command"]

_LONGEST_LINE: Final = 2**30
_GRACE: Final = 5.0  # seconds to leave after stdin has ended
NO_SPECIALS: Final = "needs NaN or an infinity, as a string among numbers: not asked for"


def python_command(target: str) -> list[str]:
    """Return the command that serves a Python function, ``package.module:function``."""
    return [sys.executable, "-m", "gmm_np.conformance.worker", target]


class ProcessAdapter:
    """A program that is asked by lines of JSON.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    timeout : float
        Seconds that it may take for a message.
    specials : bool
        Whether it is sent NaN and infinities, which are strings among numbers.
    """

    def __init__(
        self, command: Sequence[str], timeout: float = 60.0, *, specials: bool = True
    ) -> None:
        self.command = list(command)
        self.name = " ".join(self.command)
        self.timeout, self.specials = timeout, specials
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: Any = None
        self._id = 0
        self._defined: dict[
            str, tuple[str, ...]
        ] = {}  # functions, none where it has no such module

    def evaluate(self, case: Case) -> Outcome:
        """Ask about a case; start the program first if it is not running."""
        if self._process is None:
            self._spawn()
            self._greet()
        functions = self._functions(case.parametrization)
        if case.function not in functions:
            if case.optional:
                return NotOffered()
            return Unsupported(f"no {case.parametrization} parametrization")
        if not self.specials and has_specials(case):
            return Unsupported(NO_SPECIALS)
        reply = self._exchange(message_of(case, self._id))
        try:
            return outcome_of(reply, case)
        except GarbageError as error:
            raise ToolError("garbage", str(error)) from error

    def close(self) -> None:
        """End the program and all that it started."""
        process, self._process = self._process, None
        self._defined = {}
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        end_process(process)
        self._stderr.close()

    def _spawn(self) -> None:
        """Start the program."""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed in close)
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise ToolError("usage", f"cannot start {self.command[0]}: {error}") from error

    def _greet(self) -> None:
        """Ask the program for its name."""
        reply = self._ask({"kind": "start", "eval": "gmm_np.conformance"})
        if reply.get("status") == "usage":
            raise ToolError("usage", str(reply.get("error")))
        self.name = str(reply.get("tool") or self.name)

    def _functions(self, parametrization: str) -> tuple[str, ...]:
        """Return what may be asked for in a parametrization."""
        if parametrization not in self._defined:
            reply = self._ask({"kind": "define", "module": parametrization})
            if not isinstance(reply.get("success"), bool):
                raise self._failed("garbage", '"success" must be true or false in reply to define')
            functions = reply.get("functions", [VALUE])
            if not isinstance(functions, list) or not all(isinstance(f, str) for f in functions):
                raise self._failed("garbage", '"functions" must be a list of names')
            self._defined[parametrization] = tuple(functions) if reply["success"] else ()
        return self._defined[parametrization]

    def _ask(self, members: dict[str, Any]) -> dict[str, Any]:
        return self._exchange(json.dumps({"id": self._id, **members}))

    def _exchange(self, text: str) -> dict[str, Any]:
        """Send a message, which has the next id, and return the reply to it.

        Raises
        ------
        ToolError
            If there is none in time, or it is no such reply. The program has been ended then.
        """
        line = self._talk(text)
        try:
            reply = parse(line)
            if reply.get("id") != self._id:
                raise GarbageError(f"a reply must be an object with the id {self._id}")
        except GarbageError as error:
            raise self._failed("garbage", str(error)) from error
        self._id += 1
        return reply

    def _talk(self, text: str) -> bytes:
        """Send a line and return the one that comes back.

        Raises
        ------
        ToolError
            If there is none in time. The program has been ended then.
        """
        message = f"{text}\n".encode()
        line: list[bytes] = []
        process = self._process
        assert process is not None

        def talk() -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(OSError, ValueError):  # it has ended
                process.stdin.write(message)
                process.stdin.flush()
                line.append(process.stdout.readline(_LONGEST_LINE))

        # A thread, since a program that hangs may neither read nor write.
        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        thread.join(self.timeout)
        if thread.is_alive():
            end_process(process)
            thread.join(_GRACE)
            raise self._failed("timeout", f"no reply within {self.timeout:g} s")
        if not line or not line[0]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
            raise self._failed("crash", f"ended without a reply, exit code {process.poll()}")
        return line[0]

    def _failed(self, kind: str, message: str) -> ToolError:
        """End the program; return the error with the last line that it wrote to stderr."""
        assert self._process is not None
        end_process(self._process)
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - 2000))
        lines = self._stderr.read().decode("utf-8", "replace").split("\n")
        last = next((text.strip() for text in reversed(lines) if text.strip()), "")
        self.close()
        return ToolError(kind, f"{message}; stderr: {last}" if last else message)


class TextAdapter(ProcessAdapter):
    """A program that is asked by lines of words, as `gmm_np.conformance.text` has them.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    timeout : float
        Seconds that it may take for a line.
    """

    def evaluate(self, case: Case) -> Outcome:
        """Ask about a case; start the program first if it is not running."""
        outcome = unsayable(case)
        if outcome is not None:
            return outcome
        if self._process is None:
            self._spawn()
        answer = self._talk(line_of(case)).decode("utf-8", "replace")
        try:
            return outcome_of_line(answer, case)
        except GarbageError as error:
            raise self._failed("garbage", str(error)) from error


def end_process(process: subprocess.Popen[Any]) -> None:
    """End a process and its children, which have its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
