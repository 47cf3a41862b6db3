"""What the processes of the benchmarks run in: their environment, and busy neighbours.

Libraries read the environment when they are imported, so that it has to be there before a process
starts.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ONE_THREAD = dict.fromkeys(THREADS, "1")
# It ends with the process that started it, whatever ends that one: nobody else has its stdin.
BUSY = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    pass
"""


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keep so many processes that use a core each, for as long as the context lasts."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            command = [sys.executable, "-c", BUSY]
            processes.append(subprocess.Popen(command, stdin=subprocess.PIPE))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()
