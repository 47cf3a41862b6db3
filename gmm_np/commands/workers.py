"""Processes on this machine that `--workers` starts, and the data in parts that they read."""

from __future__ import annotations

import argparse
import logging
import tempfile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gmm_np.commands.options import whole_number
from gmm_np.commands.samples import Samples
from gmm_np.parts import Part, parts_of

# Rows of a part: work for a tenth of a second or more, beside a millisecond for its task.
ROWS_OF_A_PART: Final = 2**17
# A terminal sends Ctrl-C to all processes; this one hears it, and ends the others.
_DEAF: Final = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"


def add_workers(parser: Any) -> None:
    """Add --workers."""
    parser.add_argument(
        "--workers",
        type=whole_number(1),
        metavar="N",
        help="read DATA in parts, anew in each pass, in N processes of one core each",
    )


def spread(samples: Samples, options: argparse.Namespace) -> Samples:
    """Start processes, which end with the command, and return the samples in parts that they read.

    Raises
    ------
    ImportError
        If Dask is not installed.
    TableError
        If rows with missing values are dropped, which are counted here, and a row has a fault.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ModuleNotFoundError(
            '--workers needs Dask, which is not installed: pip install "dask[array]" distributed'
        ) from None
    start = options.files.enter_context
    cluster = LocalCluster(
        n_workers=options.workers,
        threads_per_worker=1,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # else port 8787, which may be taken
        local_directory=start(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)),
        silence_logs=logging.CRITICAL,
        preload=[_DEAF],
    )
    # Of a pass that Ctrl-C ended asyncio says that nobody asked for its result.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    start(Client(start(cluster)))
    tables = samples.table.split(ROWS_OF_A_PART)
    if options.missing != "error":
        read = parts_of(there(tables))
        assert read is not None
        table = samples.table
        table.n_dropped, table.n_incomplete = map(int, read.reduce(_count_rows))
    return samples._replace(parts=[samples.of(table) for table in tables])


def there(items: list[Any]) -> list[Any]:
    """Return objects that were sent to the workers, and are sent again where one is lost."""
    import dask

    return list(dask.persist(*(dask.delayed(item, traverse=False) for item in items)))


def _count_rows(part: Part) -> NDArray[np.int64]:
    """Count rows that were left out, and those with a missing value that were not."""
    for _ in part.x:
        pass
    return np.array([part.x.n_dropped, part.x.n_incomplete])
