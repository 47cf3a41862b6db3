"""gmm-np sample: rows drawn from a fitted mixture."""

from __future__ import annotations

import argparse
import sys

import numpy as np

from gmm_np.checks import counted
from gmm_np.commands.models import load_model
from gmm_np.commands.options import (
    Commands,
    add_json,
    add_model,
    add_seed,
    new_command,
    new_file,
    whole_number,
)
from gmm_np.commands.report import json_text
from gmm_np.tables import write_table
from gmm_np.tables.writing import SUFFIXES, csv_lines


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new_command(
        commands,
        "sample",
        _run,
        summary="draw rows from a fitted mixture",
        description="""Draw rows from a model that `gmm-np fit --out` wrote, and print them as CSV
        or write them to a file.""",
        examples="""
        gmm-np sample model.npz -n 10
        gmm-np sample model.npz -n 100000 --out drawn.npy
        gmm-np sample model.npz -n 10 --labels --seed 7
        """,
    )
    add_model(parser)
    parser.add_argument("-n", type=whole_number(1), required=True, metavar="N", help="rows to draw")
    parser.add_argument(
        "--out",
        type=new_file(*SUFFIXES),
        metavar="FILE",
        help="a .csv, .npy or .npz file (default: CSV to the standard output)",
    )
    parser.add_argument(
        "--labels",
        action="store_true",
        help="add a last column, the number of the component, from 0, that made the row",
    )
    add_seed(parser, "the draw (default: 0)")
    add_json(parser)


def _run(options: argparse.Namespace) -> int:
    model, given = load_model(options.model)
    model.set_params(random_state=options.seed)
    x, labels = model.sample(options.n)
    names = given or [f"x{j + 1}" for j in range(x.shape[1])]
    rows, whole = x, []
    if options.labels:
        rows, names = np.column_stack([x, labels.astype(np.float64)]), [*names, "component"]
        whole = [len(names) - 1]
    if options.out is not None:
        write_table(options.out, rows, names, whole=whole)
    if options.json:
        document = {"n_samples": len(x), "n_features": x.shape[1], "columns": names[: x.shape[1]]}
        if options.out is None:
            document |= {"samples": x, "components": labels}
        print(json_text(document))
    elif options.out is None:
        sys.stdout.writelines(csv_lines([rows], names, whole=whole))
    else:
        print(f"{counted(len(rows), 'row')} of {', '.join(names)}: {options.out}")
    return 0
