"""Lanes: parts of one piece of work side by side, each in a thread of its own.

Data is cut in parts whose sums add, and components in groups. NumPy lets other threads run during
its loops and products, so that each core is given one lane. The products in a lane are small
enough that BLAS does each on the core that asks for it (see `tiles`), and starts no threads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Final, TypeVar

import numpy as np

Result = TypeVar("Result")

# More lanes wait for the interpreter, and for memory.
MOST: Final = 8
# Nanoseconds of work for which another lane is worth its thread. Of two, one may wait for as long
# as the interpreter lets a thread go on that others wait for, 5 ms.
WORTH_A_LANE: Final = 2.5e6
# Seconds for which a lane keeps to its core. After these it goes where the scheduler lets it, so as
# to give way to what others do.
HELD: Final = 0.5
# What is said to BLAS is said to us: "1" in a worker that has one core for itself.
LIMITS: Final = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def cores() -> int:
    """Return how many cores this process may use, by its affinity and its environment."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    found = len(affinity(0)) if affinity else os.cpu_count() or 1
    for name in LIMITS:
        limit = os.environ.get(name, "").split(",")[0].strip()
        if limit.isdecimal() and int(limit) > 0:
            found = min(found, int(limit))
    return found


def worthwhile(nanoseconds: float) -> int:
    """Return how many lanes to use for work that takes one core so long."""
    if nanoseconds < 2 * WORTH_A_LANE:
        return 1
    return min(cores(), MOST, int(nanoseconds / WORTH_A_LANE))


def run(tasks: Sequence[Callable[[], Result]], halt: Event | None = None) -> list[Result]:
    """Call all tasks, each in a lane, a single one in this thread; return what they returned.

    NumPy's error state is that of the caller in each of them. A lane keeps to one core, as far as
    the system lets it, so that what it does is not divided again; this thread only waits, and goes
    where it may.

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
    state, cores_of_lanes = np.geterr(), _cores_of(len(tasks))

    def call(i: int) -> None:
        try:
            with np.errstate(**state):
                results[i] = tasks[i]()
        except BaseException as error:
            errors[i] = error

    def lane(i: int) -> None:
        _keep_to(cores_of_lanes[i])
        call(i)

    def stop(error: BaseException) -> None:
        errors[-1] = error
        if halt is not None:
            halt.set()

    threads: list[Thread] = []
    own = []
    for i in range(len(tasks)):
        threads.append(Thread(target=lane, args=(i,), name=f"gmm_np lane {i}"))
        try:
            threads[-1].start()
        except RuntimeError:  # there can be no more threads
            threads.pop()
            own.append(i)
        except BaseException as error:  # Ctrl-C
            stop(error)
    for i in own:
        call(i)
    held: float | None = HELD
    for thread in threads:
        while thread.is_alive():
            try:
                thread.join(held)
            except BaseException as error:  # Ctrl-C
                stop(error)
            if held is not None and thread.is_alive():
                _free(threads)
                held = None
    if errors:
        raise errors[min(errors)]
    return [results[i] for i in range(len(tasks))]


def _cores_of(n_lanes: int) -> list[set[int]]:
    """Return the cores that each lane is to keep to: one of its own, or none in particular.

    Lanes hand each other the interpreter hundreds of times a second. Linux wakes a thread on the
    core of the one that wakes it, unless its own is idle; and the core of a virtual machine that
    has slept for a while does not count as idle. Lanes would share a core, time and again, for the
    4 ms or so until the load is balanced.
    """
    try:
        allowed = sorted(os.sched_getaffinity(0))
        # The one that this thread is on comes first, so that calls side by side differ.
        stat = Path("/proc/thread-self/stat").read_text(encoding="utf-8", errors="replace")
        first = allowed.index(int(stat.rpartition(")")[2].split()[36]))  # proc(5): "processor"
    except (AttributeError, OSError, ValueError, IndexError):  # not Linux, or not let
        return [set()] * n_lanes
    if n_lanes > len(allowed):
        return [set()] * n_lanes
    return [{allowed[(first + i) % len(allowed)]} for i in range(n_lanes)]


def _keep_to(cores: set[int]) -> None:
    """Keep this thread to these cores, if there are any."""
    if cores:
        with contextlib.suppress(OSError):  # not let
            os.sched_setaffinity(0, cores)


def _free(threads: Sequence[Thread]) -> None:
    """Let threads go wherever this one may."""
    for thread in threads:
        if thread.is_alive() and thread.native_id is not None:
            with contextlib.suppress(AttributeError, OSError):  # not Linux, not let, or ended
                os.sched_setaffinity(thread.native_id, os.sched_getaffinity(0))
