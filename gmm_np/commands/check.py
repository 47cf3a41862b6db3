"""gmm-np check: the gradients against central differences, on one's own data."""

from __future__ import annotations

import argparse

import numpy as np

from gmm_np.commands.options import (
    Commands,
    add_data_options,
    add_seed,
    new_command,
    tell,
    whole_number,
)
from gmm_np.commands.samples import check_distinct, load_samples


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new_command(
        commands,
        "check",
        _run,
        summary="check the gradients on your own data",
        description="""Compare the hand-written gradients with central differences on the rows of
        a table, at a mixture that k-means++ starts there. Exit code 1 if a gradient is wrong, or
        cannot be told right from wrong.""",
        examples="""
        gmm-np check data.csv
        gmm-np check data.csv -k 5 --columns eruptions,waiting
        """,
    )
    add_data_options(parser)
    parser.add_argument(
        "-k",
        "--components",
        type=whole_number(1),
        default=2,
        metavar="K",
        help="components (default: %(default)s)",
    )
    parser.add_argument(
        "--entries",
        action="store_true",
        help="look at each entry of each gradient, not at random directions; slow for many rows",
    )
    add_seed(parser, "the start")


def _run(options: argparse.Namespace) -> int:
    from gmm_np.demo import check_reference
    from gmm_np.solvers import kmeans_start

    samples = load_samples(options)
    check_distinct(samples, options.components)
    x = samples.x
    tell(samples.notes)
    print(samples.summary(len(x)), flush=True)
    start = kmeans_start(x, options.components, np.random.default_rng(options.seed))
    report = check_reference(x, start, entrywise=options.entries)
    print(report)
    return 0 if report else 1
