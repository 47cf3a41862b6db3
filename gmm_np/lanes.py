"""Lanes: parts of one piece of work side by side, each in a thread of its own.

Data is cut in parts whose sums add, and components in groups. NumPy lets other threads run during
its loops and products, so that each core is given one lane. The products in a lane are small
enough that BLAS does each on the core that asks for it (see `tiles`), and starts no threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Final, TypeVar

import numpy as np

Result = TypeVar("Result")

# More lanes wait for the interpreter, and for memory.
MOST: Final = 8
# Nanoseconds of work for which another lane is worth its thread. Of two, one may wait for as long
# as the interpreter lets a thread go on that others wait for, 5 ms.
WORTH_A_LANE: Final = 2.5e6
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


def run(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Call all tasks, each in a lane, the first in this thread; return what they returned.

    NumPy's error state is that of the caller in each of them.

    Raises
    ------
    BaseException
        That of the first task in the list that raised one, once all have ended.
    """
    if len(tasks) == 1:
        return [tasks[0]()]
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}
    state = np.geterr()

    def call(i: int) -> None:
        try:
            with np.errstate(**state):
                results[i] = tasks[i]()
        except BaseException as error:
            errors[i] = error

    threads, own = [], [0]
    for i in range(1, len(tasks)):
        thread = Thread(target=call, args=(i,), name=f"gmm_np lane {i}")
        try:
            thread.start()
        except RuntimeError:  # there can be no more threads
            own.append(i)
        else:
            threads.append(thread)
    for i in own:
        call(i)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[min(errors)]
    return [results[i] for i in range(len(tasks))]
