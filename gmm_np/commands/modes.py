"""gmm-np modes: where the density of a fitted mixture is highest."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence

import numpy as np

from gmm_np.checks import counted
from gmm_np.commands.models import load_model
from gmm_np.commands.options import Commands, add_json, add_model, new_command, new_file
from gmm_np.commands.report import SHOWN, WIDEST, json_text
from gmm_np.density import Modes
from gmm_np.tables import unique_names, write_table
from gmm_np.tables.writing import SUFFIXES


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new_command(
        commands,
        "modes",
        _run,
        usage="MODEL",
        summary="print the modes of a fitted mixture",
        description="""Print the local maxima of the density of a model that `gmm-np fit --out`
        wrote, the highest first, with the log density there in nats. Components that lie close
        share one, so that there may be fewer modes than components; there may be more, too.""",
        examples="""
        gmm-np modes model.npz
        gmm-np modes model.npz --out modes.csv
        """,
    )
    add_model(parser)
    parser.add_argument(
        "--out",
        type=new_file(*SUFFIXES),
        metavar="FILE",
        help="write the table, whose last column is the log density, as .csv, .npy or .npz",
    )
    add_json(parser)


def _run(options: argparse.Namespace) -> int:
    model, given = load_model(options.model)
    n_components, n_features = model.means_.shape
    found = model.modes()
    names = given or [f"x{j + 1}" for j in range(n_features)]
    if options.out is not None:
        table = np.column_stack([found.points, found.log_prob])
        write_table(options.out, table, unique_names([*names, "log_density"]))
    if options.json:
        document = {
            "n_features": n_features,
            "n_components": n_components,
            "n_modes": len(found.points),
            "points": found.points,
            "log_density": found.log_prob,
            "columns": given,
        }
        print(json_text(document))
        return 0
    print(
        f"{options.model}: {counted(len(found.points), 'mode')} of "
        f"{counted(n_components, 'component')}, the highest first; log density in nats\n"
    )
    print(_table(found, names))
    if options.out is not None:
        print(f"\nModes: {options.out}")
    return 0


def _table(found: Modes, names: Sequence[str]) -> str:
    """Return a line a mode, or a few where there are many columns, the highest modes if many."""
    points, log_density = found.points[:SHOWN], found.log_prob[:SHOWN]
    lines = []
    if len(names) <= WIDEST:
        heads = [*(name[:30] for name in names), "log density"]
        widths = [max(12, len(head)) for head in heads]
        rows = [heads] + [
            [f"{value:.6g}" for value in (*point, height)]
            for point, height in zip(points, log_density, strict=True)
        ]
        for first, row in zip(["mode", *map(str, range(len(points)))], rows, strict=True):
            cells = (f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
            lines.append(f"{first:>4}  {'  '.join(cells)}")
    else:
        for number, (point, height) in enumerate(zip(points, log_density, strict=True)):
            lines.append(f"mode {number}: log density {height:.6g}")
            said = ", ".join(f"{n[:30]} {v:.6g}" for n, v in zip(names, point, strict=True))
            lines += textwrap.wrap(said, 100, initial_indent="  ", subsequent_indent="  ")
    if len(found.points) > SHOWN:
        lines.append(f"and {len(found.points) - SHOWN} lower; --json and --out have all")
    return "\n".join(lines)
