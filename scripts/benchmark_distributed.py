#!/usr/bin/env python3
"""What an iteration of EM takes on a cluster of processes on this machine, and what it sends.

Each worker makes its parts of the data from a seed and keeps them. Printed are seconds an iteration
for each number of workers, the median over iterations; the bytes of a part's sums; the peak memory
of this process, which holds client and scheduler, and of the workers; and what the same work for
each worker would come to with more rows and workers, where only the sums' tree and the tasks of
more parts are added.

    python scripts/benchmark_distributed.py --rows 10000000 --columns 16 --components 32
"""

from __future__ import annotations

import argparse
import pickle
import resource
import statistics
import time
from typing import Any

import numpy as np

import gmm_np
from gmm_np.solvers import EM, Data

# What Dask's scheduler takes for a task, as its documentation has it.
SECONDS_A_TASK = 1e-3


def peak_memory() -> float:
    """Return the largest resident size that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make_start(n_components: int, n_columns: int) -> gmm_np.Parameters:
    """Return a mixture that is not at its maximum."""
    rng = np.random.default_rng(0)
    return gmm_np.Parameters(
        np.zeros(n_components),
        rng.normal(size=(n_components, n_columns)),
        np.stack([np.eye(n_columns)] * n_components),
    )


def measure(
    n_workers: int, options: argparse.Namespace, start: gmm_np.Parameters
) -> dict[str, Any]:
    """Return seconds an iteration, memory, and the objective reached, on so many workers."""
    import dask.array as da
    from distributed import Client, LocalCluster, wait

    chunk = -(-options.rows // options.parts)
    with (
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        shape = (options.rows, options.columns)
        x = da.random.default_rng(1).normal(size=shape, chunks=(chunk, options.columns)).persist()
        wait(x)
        run = EM(Data(x), start)
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


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--components", type=int, default=8)
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--iterations", type=int, default=5)
    options = parser.parse_args()
    start = make_start(options.components, options.columns)
    part = np.random.default_rng(2).normal(size=(1000, options.columns))
    sent = len(pickle.dumps(gmm_np.statistics(part, start)))
    print(
        f"{options.rows} rows of {options.columns} columns in {options.parts} parts, "
        f"{options.components} full covariances; a part's sums: {sent} bytes, with parameters"
    )
    print("workers  s/iteration  of the first  peak MB: here  a worker  objective")
    found = [(n, measure(n, options, start)) for n in options.workers]
    for n_workers, row in found:
        print(
            f"{n_workers:7d}  {row['seconds']:11.3f}  "
            f"{row['seconds'] / found[0][1]['seconds']:12.2f}"
            f"  {row['here']:13.0f}  {row['workers']:8.0f}  {row['value']!r}"
        )
    n_workers, row = found[-1]
    rows_a_second = options.rows / row["seconds"] / n_workers
    print(
        f"\nExtrapolated, not measured: a worker does {rows_a_second:.3g} rows a second, and a "
        f"task takes {SECONDS_A_TASK * 1e3:g} ms of the scheduler.\n"
        "rows     workers  parts  s/iteration"
    )
    for n_rows, n_workers in ((1e9, 10), (1e10, 100)):
        parts = 10 * n_workers
        taken = n_rows / n_workers / rows_a_second + 8 / 7 * parts * SECONDS_A_TASK
        print(f"{n_rows:.0e}  {n_workers:7d}  {parts:5d}  {taken:11.1f}")


if __name__ == "__main__":
    main()
