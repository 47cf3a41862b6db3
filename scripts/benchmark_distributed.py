#!/usr/bin/env python3
"""What an iteration of EM takes on a cluster of processes on this machine, and what it sends.

    python scripts/benchmark_distributed.py --rows 10000000       # one worker against two
    python scripts/benchmark_distributed.py --stream 100000000    # files, block by block
    python scripts/benchmark_distributed.py --kill 10             # a worker dies in each try

The first prints seconds an iteration for each number of workers, the median over iterations, and
the objective to its last bit; the peak memory of client and scheduler, which are one process, and
of the workers, for two numbers of rows; the bytes of a part's sums; and what the same work for each
worker would come to with more rows and workers, where only the sums' tree and the tasks of more
parts are added. Each worker makes its parts of the data from a seed and keeps them.

With --stream rows of eight columns are written to Parquet files, which are there until the end, and
read in one process for each iteration. With --kill a worker gets SIGKILL at a random time of a fit,
which has to come to the same bits.
"""

from __future__ import annotations

import argparse
import os
import pickle
import resource
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

import gmm_np
from gmm_np.solvers import EM, Data
from gmm_np.tables import open_tables

# What Dask's scheduler takes for a task, as its documentation has it.
SECONDS_A_TASK: Final = 1e-3
STREAMED_COLUMNS: Final = 8
ROWS_OF_A_FILE: Final = 2**22
ROWS_OF_A_GROUP: Final = 2**17
ITERATIONS_WITH_A_DEATH: Final = 20
HANGS: Final = 600  # seconds


def peak_memory() -> float:
    """Return the largest resident size that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bytes_of_sums(n_components: int, n_columns: int) -> int:
    """Return the bytes of a part's sums of full covariances: masses, first and second moments."""
    return 8 * n_components * (1 + n_columns + n_columns * (n_columns + 1) // 2)


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function gives in a process of its own, whose peak of memory is its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def make_start(n_components: int, n_columns: int) -> gmm_np.Parameters:
    """Return a mixture that is not at its maximum."""
    rng = np.random.default_rng(0)
    return gmm_np.Parameters(
        np.zeros(n_components),
        rng.normal(size=(n_components, n_columns)),
        np.stack([np.eye(n_columns)] * n_components),
    )


@contextmanager
def cluster_of(n_workers: int) -> Iterator[Any]:
    """Start processes of one thread each; give their client."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def rows_there(n_rows: int, n_columns: int, n_parts: int) -> Any:
    """Return rows that the workers have made and keep."""
    import dask.array as da
    from distributed import wait

    chunks = (-(-n_rows // n_parts), n_columns)
    x = da.random.default_rng(1).normal(size=(n_rows, n_columns), chunks=chunks).persist()
    wait(x)
    return x


def measure(n_workers: int, n_rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return seconds an iteration, memory, and the objective reached, on so many workers."""
    with cluster_of(n_workers) as client:
        x = rows_there(n_rows, options.columns, options.parts)
        run = EM(Data(x), make_start(options.components, options.columns))
        seconds = []
        for _ in range(options.iterations + 1):
            begun = time.perf_counter()
            value = run.step()
            seconds.append(time.perf_counter() - begun)
        return {
            "seconds": statistics.median(seconds[1:]),  # the first one loads modules
            "value": value,
            "here": peak_memory(),
            "workers": max(client.run(peak_memory).values()),
        }


def compare_workers(options: argparse.Namespace) -> None:
    """Print times, memory and bytes, and what they would come to elsewhere."""
    k, d, sent = options.components, options.columns, bytes_of_sums
    start = make_start(k, d)
    part = np.random.default_rng(2).normal(size=(1000, d))
    pickled = len(pickle.dumps(gmm_np.statistics(part, start)))
    print(f"{options.rows} rows of {d} columns in {options.parts} parts, {k} full covariances")
    print(
        f"a part's sums: 8 K (1 + D + D(D+1)/2) = {sent(k, d)} bytes; {pickled} where they move "
        "between processes, as square matrices and with the parameters at which they were made"
    )
    print("\nworkers  s/iteration  of the first  objective")
    found = [(n, in_a_process(measure, n, options.rows, options)) for n in options.workers]
    first = found[0][1]["seconds"]
    for n_workers, row in found:
        seconds = row["seconds"]
        print(f"{n_workers:7d}  {seconds:11.3f}  {seconds / first:12.2f}  {row['value']!r}")
    n_workers, row = found[-1]
    fewer = max(options.rows // 4, options.parts)
    small = in_a_process(measure, n_workers, fewer, options)
    print(f"\nPeak memory in MB, {n_workers} workers, as many parts:")
    print("rows        client and scheduler  a worker")
    for n_rows, held in ((fewer, small), (options.rows, row)):
        print(f"{n_rows:<10d}  {held['here']:20.0f}  {held['workers']:8.0f}")
    rows_a_second = options.rows / row["seconds"] / n_workers
    print(
        f"\nExtrapolated, not measured: a worker does {rows_a_second:.3g} rows a second, and a "
        f"task takes {SECONDS_A_TASK * 1e3:g} ms of the scheduler.\n"
        "rows     workers  parts  s/iteration  MB of sums in a pass"
    )
    for n_rows, n_workers in ((1e9, 10), (1e10, 100)):
        parts = 10 * n_workers
        taken = n_rows / n_workers / rows_a_second + 8 / 7 * parts * SECONDS_A_TASK
        size = parts * sent(k, d) / 1e6
        print(f"{n_rows:.0e}  {n_workers:7d}  {parts:5d}  {taken:11.1f}  {size:20.1f}")


def write_parts(directory: Path, n_rows: int) -> list[Path]:
    """Write rows to Parquet files, one row group at a time."""
    import pyarrow as pa
    from pyarrow import parquet

    rng, paths = np.random.default_rng(0), []
    names = [f"x{j}" for j in range(1, STREAMED_COLUMNS + 1)]
    schema = pa.schema([(name, pa.float64()) for name in names])
    for index, first in enumerate(range(0, n_rows, ROWS_OF_A_FILE)):
        paths.append(directory / f"part-{index:05d}.parquet")
        last = min(first + ROWS_OF_A_FILE, n_rows)
        with parquet.ParquetWriter(paths[-1], schema, compression="none") as writer:
            for at in range(first, last, ROWS_OF_A_GROUP):
                rows = rng.normal(size=(min(ROWS_OF_A_GROUP, last - at), STREAMED_COLUMNS))
                writer.write_table(pa.table(list(rows.T), schema=schema))
    return paths


def read_parts(paths: list[Path], n_components: int, n_iterations: int) -> dict[str, Any]:
    """Return seconds of each iteration, and the peak of memory."""
    run = EM(Data(open_tables(paths)), make_start(n_components, STREAMED_COLUMNS))
    seconds = []
    for _ in range(n_iterations):
        begun = time.perf_counter()
        value = run.step()
        seconds.append(time.perf_counter() - begun)
    return {"seconds": seconds, "value": value, "peak": peak_memory()}


def stream(options: argparse.Namespace) -> None:
    """Print what it takes to read files in each iteration."""
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        begun = time.perf_counter()
        paths = write_parts(Path(directory), options.stream)
        size = sum(path.stat().st_size for path in paths) / 1e6
        print(
            f"{options.stream} rows of {STREAMED_COLUMNS} columns in {len(paths)} Parquet files, "
            f"{size:.0f} MB, written in {time.perf_counter() - begun:.1f} s"
        )
        found = in_a_process(read_parts, paths, options.components, options.iterations)
    print(f"{options.components} full covariances, one process\niteration  s      rows a second")
    for iteration, seconds in enumerate(found["seconds"], start=1):
        print(f"{iteration:9d}  {seconds:<6.2f} {options.stream / seconds:13.3g}")
    print(f"peak memory: {found['peak']:.0f} MB; objective {found['value']!r}")


def fit_with_a_death(x: Any, start: gmm_np.Parameters, doomed: Any, moment: float) -> bytes:
    """Fit in 20 iterations; at a moment, in iterations from the start, a worker is killed."""
    timers: list[threading.Timer] = []
    begun = time.perf_counter()

    def after(iteration: int, _: float) -> None:
        if doomed is not None and iteration == int(moment):
            an_iteration = (time.perf_counter() - begun) / iteration
            delay = (moment % 1) * an_iteration
            timers.append(threading.Timer(delay, os.kill, (doomed, signal.SIGKILL)))
            timers[0].start()

    found = gmm_np.solvers.fit_em(
        x, start, tol=0.0, max_iter=ITERATIONS_WITH_A_DEATH, callback=after
    ).parameters
    if doomed is not None:
        timers[0].join()
    return b"".join(a.tobytes() for a in (found.pi_logits, found.means, found.scale))


def kill(options: argparse.Namespace) -> int:
    """Print whether fits in which a worker is killed come to the same bits; return how many not."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"a fit did not end within {HANGS} seconds")

    signal.signal(signal.SIGALRM, stop)
    start, rng = make_start(options.components, options.columns), np.random.default_rng(3)
    wrong = 0
    with cluster_of(2) as client:
        x = rows_there(options.rows, options.columns, options.parts)
        expected = fit_with_a_death(x, start, None, 0.0)
        print("try  worker killed in iteration  seconds  same bits")
        for index in range(1, options.kill + 1):
            client.wait_for_workers(2)
            doomed = int(rng.choice(sorted(client.run(os.getpid).values())))
            moment = rng.uniform(2, ITERATIONS_WITH_A_DEATH - 1)
            signal.alarm(HANGS)
            begun = time.perf_counter()
            same = fit_with_a_death(x, start, doomed, moment) == expected
            signal.alarm(0)
            wrong += not same
            seconds = time.perf_counter() - begun
            print(f"{index:3d}  {moment + 1:26.2f}  {seconds:7.1f}  {'yes' if same else 'NO'}")
    print(f"{options.kill - wrong} of {options.kill} tries came to the same bits")
    return wrong


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=16)
    parser.add_argument("--components", type=int, default=32)
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--stream", type=int, metavar="N", help="rows of files to read instead")
    parser.add_argument("--directory", type=Path, help="where --stream has the room for its files")
    parser.add_argument(
        "--kill", type=int, metavar="TRIES", help="kill a worker in each of so many"
    )
    options = parser.parse_args()
    if options.stream is not None:
        stream(options)
    elif options.kill is not None:
        return int(kill(options) > 0)
    else:
        compare_workers(options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
