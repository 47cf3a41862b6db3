"""Parts of one piece of work side by side, each in a thread of its own.

Data is cut in parts whose sums add, and components in groups. NumPy lets other threads run during
its loops and products, so that each core is given one. No product in a thread is large enough for
BLAS to start threads of its own (see `triangles`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Final, TypeVar

import numpy as np

from gmm_np import tuning

Result = TypeVar("Result")

# What is said to BLAS is said to us: "1" in a worker that has one core for itself.
LIMITS: Final = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
# Where Linux says which control group this process is in, and what each may use (version 2).
OWN_GROUP: Final = Path("/proc/self/cgroup")
GROUPS: Final = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return how many cores this call may use.

    By the process' affinity, its environment, and its container's quota. Where the environment
    says nothing, one in a thread other than the main one, and in a process that a pool started:
    there the caller has divided the work, and the others have theirs.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    found = len(affinity(0)) if affinity else os.cpu_count() or 1
    said = [os.environ.get(name, "").split(",")[0].strip() for name in LIMITS]
    limits = [int(limit) for limit in said if limit.isdecimal() and int(limit) > 0]
    if not limits and _in_pool():
        return 1
    found = min([found, *limits])
    return found if found == 1 else max(int(min(found, _quota())), 1)


def _in_pool() -> bool:
    """Whether this is a thread other than the main one, or a process that another one started."""
    process = sys.modules.get("multiprocessing.process")
    started = process is not None and process.parent_process() is not None
    return started or threading.current_thread() is not threading.main_thread()


def _quota() -> float:
    """Return how many cores' time this process' control groups have, infinity without a limit."""
    least = float("inf")
    with contextlib.suppress(OSError, StopIteration):  # not Linux, or version 1
        lines = OWN_GROUP.read_text().splitlines()
        own = GROUPS / next(line[3:] for line in lines if line.startswith("0::")).strip("/")
        for group in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError):  # none, or "max" in place of a number
                quota, period = (group / "cpu.max").read_text().split()
                least = min(least, int(quota) / int(period))
    return least


def worthwhile_threads(nanoseconds: float) -> int:
    """Return how many threads to use for work that takes one core so long."""
    t = tuning.active
    return max(min(cores(), t.most_threads, int(nanoseconds / t.worth_a_thread)), 1)


def run_in_threads(
    tasks: Sequence[Callable[[], Result]], halt: Event | None = None
) -> list[Result]:
    """Call all tasks, each in a thread, a single one in this thread; return what they returned.

    NumPy's error state is that of the caller in each of them.

    Parameters
    ----------
    tasks : sequence of callables
    halt : Event, optional
        Set where Ctrl-C ends the wait, for tasks that look at it.

    Raises
    ------
    BaseException
        That of the first task in the list that raised one, once all have ended.
    """
    if len(tasks) == 1:
        return [tasks[0]()]
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}
    state, ended = np.geterr(), [Event() for _ in tasks]

    def call(i: int) -> None:
        try:
            with np.errstate(**state):
                results[i] = tasks[i]()
        except BaseException as error:
            errors[i] = error
        finally:
            ended[i].set()

    def stop(error: BaseException) -> None:
        errors[-1] = error
        if halt is not None:
            halt.set()

    threads: list[Thread] = []
    own = []
    for i in range(len(tasks)):
        threads.append(Thread(target=call, args=(i,), name=f"gmm_np thread {i}"))
        try:
            threads[-1].start()
        except RuntimeError:  # there can be no more threads
            threads.pop()
            own.append(i)
        except BaseException as error:  # Ctrl-C
            stop(error)
            if threads[-1].ident is None:  # it never began
                threads.pop()
                own.append(i)
    for i in own:
        call(i)
    # Not by Thread.join alone: in Python 3.11 a thread counts as ended once Ctrl-C interrupts that.
    for event in ended:
        while not event.is_set():
            try:
                event.wait()
            except BaseException as error:  # Ctrl-C
                stop(error)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[min(errors)]
    return [results[i] for i in range(len(tasks))]
