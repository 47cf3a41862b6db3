"""What the processes of the benchmarks run in: their environment, and busy neighbours.

Libraries read the environment when they are imported, so that it has to be there before a process
starts.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

try:
    umath: Any = importlib.import_module("numpy._core._multiarray_umath")
except ImportError:  # before NumPy 2
    umath = importlib.import_module("numpy.core._multiarray_umath")

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# What libraries obey that choose instructions when they are loaded, but for NumPy and XLA.
AVX2_AT_MOST = {
    "OPENBLAS_CORETYPE": "Haswell",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
# They take a list, to which what was there before belongs as well.
NUMPY, XLA = "NPY_DISABLE_CPU_FEATURES", "XLA_FLAGS"
# It ends with the process that started it, whatever ends that one: nobody else has its stdin.
BUSY = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    pass
"""


def has_avx512() -> bool:
    """Whether the processor has AVX-512."""
    return any(on and name.startswith("AVX512") for name, on in umath.__cpu_features__.items())


def avx512_of_numpy() -> list[str]:
    """Name what NumPy would use of AVX-512 on this processor; since 2.4 most of it is X86_V4."""
    return [
        name
        for name in umath.__cpu_dispatch__
        if umath.__cpu_features__[name] and (name.startswith("AVX512") or name == "X86_V4")
    ]


def describe_avx512(*, without: bool) -> str:
    """Say which way processes run."""
    if not has_avx512():
        return "the processor has no AVX-512"
    return "AVX-512 switched off" if without else "AVX-512"


def limit_threads(count: int) -> dict[str, str]:
    """Return variables that let libraries use so many threads."""
    return dict.fromkeys(THREADS, str(count))


def make_environment(*, without_avx512: bool, threads: int | None = None) -> dict[str, str]:
    """Return the environment of this process with what is asked for: that of another one.

    Parameters
    ----------
    without_avx512 : bool
        Whether libraries are to behave as on a processor without AVX-512.
    threads : int, optional
        How many they are to use.
    """
    environment = dict(os.environ)
    if threads is not None:
        environment |= limit_threads(threads)
    if without_avx512 and has_avx512():
        environment |= AVX2_AT_MOST
        for name, more in ((NUMPY, avx512_of_numpy()), (XLA, ["--xla_cpu_max_isa=AVX2"])):
            environment[name] = " ".join([*environment.get(name, "").split(), *more])
    return environment


def settings_in(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what an environment has that changes how fast libraries are."""
    names = (*THREADS, *AVX2_AT_MOST, NUMPY, XLA)
    return {name: environment[name] for name in names if name in environment}


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
