"""gmm-np assign: a table with the component of each row beside it."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np.checks import FloatArray, counted
from gmm_np.commands.models import load_model
from gmm_np.commands.options import (
    Commands,
    add_data_options,
    add_json,
    add_model,
    add_pairing_option,
    add_seed,
    new_command,
    new_file,
    tell,
)
from gmm_np.commands.report import heaviest, json_text
from gmm_np.commands.samples import Columns, Samples, load_samples
from gmm_np.files import atomic_write
from gmm_np.progress import Progress
from gmm_np.tables import unique_names
from gmm_np.tables.writing import text_line

DRAWS: Final = 100_000  # an outlier score is a share of these: a standard error of 0.0003 at 0.01
_FEW: Final = 0.01  # outlier score below which a row is counted as an outlier
_AT_ONCE: Final = 2**20  # numbers that are drawn at once


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new_command(
        commands,
        "assign",
        _run,
        usage="MODEL DATA",
        summary="write a table with the component of each row",
        description=f"""Write DATA as it is, all its columns and text as text, and beside each row:
        its component (the most probable one, counted from 0), the probability of that component,
        the row's log density in nats, and its outlier score: the share of {DRAWS} rows drawn from
        the model whose density is lower, near 0 for an outlier. Columns are found as by `gmm-np
        score`. With --missing drop a row with a missing value is kept, and its new cells are
        empty; with --missing marginal they are by what there is of the row, but for the outlier
        score, which only a complete row has.""",
        examples="""
        gmm-np assign model.npz data.csv --out assigned.csv
        gmm-np assign model.npz data.csv --all | head
        """,
    )
    add_model(parser)
    add_data_options(parser)
    add_pairing_option(parser)
    parser.add_argument(
        "--out",
        type=new_file(".csv", ".tsv"),
        metavar="FILE",
        help="a .csv file, with the delimiter and the decimal mark of DATA, or .tsv, in UTF-8 "
        "(default: the standard output)",
    )
    parser.add_argument("--all", action="store_true", help="the probability of each component, too")
    add_seed(parser, "the draws behind the outlier score (default: 0)")
    add_json(parser, "; the rows need --out")


class Found(NamedTuple):
    """What a model makes of rows."""

    component: Any  # [n], from 0
    probabilities: FloatArray  # [n, K]
    log_density: FloatArray  # [n]
    outlier_score: FloatArray  # [n], NaN of an incomplete row


class Summary:
    """What is said of all rows."""

    def __init__(self, n_components: int) -> None:
        self.counts = np.zeros(n_components, np.int64)
        self.n_outliers = self.n_scored = 0

    def add(self, found: Found) -> None:
        """Count more rows."""
        self.counts += np.bincount(found.component, minlength=len(self.counts))
        self.n_outliers += int((found.outlier_score < _FEW).sum())
        self.n_scored += int(np.isfinite(found.outlier_score).sum())


def _run(options: argparse.Namespace) -> int:
    model, names = load_model(options.model)
    n_components, n_features = model.means_.shape
    samples = load_samples(options, stream=True, columns=Columns(n_features, names))
    if options.json and options.out is None:
        raise ValueError("--json prints a summary; add --out FILE for the rows, or leave it out")
    tell(samples.notes)
    summary = write_rows(model, samples, options.out, seed=options.seed, each=options.all)
    if options.out is None:
        return 0
    n_samples = int(summary.counts.sum())
    if options.json:
        document = {
            "n_samples": n_samples,
            "n_dropped": samples.table.n_dropped,
            "n_features": n_features,
            "n_components": n_components,
            "columns": samples.names,
            "counts": summary.counts,
            "n_outliers": summary.n_outliers,
            "n_draws": DRAWS,
        }
        print(json_text(document))
        return 0
    print(f"{samples.summary(n_samples)}\n\nThe components, counted from 0:")
    shown = heaviest(summary.counts)
    for k in shown:
        print(f"component {k}: {counted(int(summary.counts[k]), 'row')}")
    if n_components > len(shown):
        rest = counted(n_components - len(shown), "component")
        print(f"and {rest} of fewer; --json has all")
    print(
        f"\noutlier score below {_FEW:g}: {counted(summary.n_outliers, 'row')}, where the model "
        f"expects {_FEW * summary.n_scored:.3g}\nRows: {options.out}"
    )
    return 0


def write_rows(
    model: Any, samples: Samples, path: Path | None, *, seed: int, each: bool
) -> Summary:
    """Write the table and, beside each row, what the model makes of it, to a file or to stdout.

    With `each` there is the probability of each component. A file is written whole or not at all.
    The model stays as it is.
    """
    model = copy(model).set_params(missing=samples.missing)
    draws = density_of_draws(model, seed)
    summary = Summary(len(model.weights_))
    lines = _lines(model, samples, draws, summary, path, each=each)
    if path is None:
        sys.stdout.writelines(lines)
        return summary
    with atomic_write(path) as stream:
        stream.writelines(line.encode() for line in lines)
    return summary


def density_of_draws(model: Any, seed: int) -> FloatArray:
    """Return the log densities of rows drawn from a model, in order, [DRAWS]."""
    model.set_params(random_state=np.random.default_rng(seed))
    step = max(_AT_ONCE // model.n_features_in_, 1)
    sizes = (min(step, DRAWS - start) for start in range(0, DRAWS, step))
    return np.sort(np.concatenate([model.score_samples(model.sample(n)[0]) for n in sizes]))


def _measure(model: Any, rows: FloatArray, draws: FloatArray) -> Found:
    probabilities, log_density = model.predict_proba(rows), model.score_samples(rows)
    score = np.searchsorted(draws, log_density, side="left") / len(draws)
    score[np.isnan(rows).any(axis=1)] = np.nan  # a density of fewer columns is no match for these
    return Found(probabilities.argmax(axis=1), probabilities, log_density, score)


def _lines(
    model: Any,
    samples: Samples,
    draws: FloatArray,
    summary: Summary,
    path: Path | None,
    *,
    each: bool,
) -> Iterator[str]:
    """Yield the header and the rows as lines of text."""
    table, n_components = samples.table, len(model.weights_)
    header = table.header or [f"x{j}" for j in range(1, len(table.all_names) + 1)]
    of_each = [f"probability_{k}" for k in range(n_components)] if each else []
    more = ["component", "probability", *of_each, "log_density", "outlier_score"]
    delimiter, decimal = table.delimiter, table.decimal
    if path is not None and path.suffix.lower() == ".tsv":
        delimiter = "\t"
    elif delimiter == " ":
        delimiter = ";" if decimal == "," else ","

    yield text_line([*header, *unique_names([*header, *more])[len(header) :]], delimiter)
    with Progress("assign", unit="row") as line:
        for cells, own in _rows(model, samples, draws, summary, each=each):
            numbers = ["" if value is None else repr(value) for value in own or [None] * len(more)]
            new = [number.replace(".", decimal) for number in numbers]
            yield text_line([*cells, *new], delimiter)
            line.advance()


def _rows(
    model: Any, samples: Samples, draws: FloatArray, summary: Summary, *, each: bool
) -> Iterator[tuple[list[str], list[Any] | None]]:
    """Yield the cells of each row and what the model makes of it: None for a missing value."""
    n_dropped = n_incomplete = 0
    for table in samples.table.members():
        cells = table.cells()
        for block in table.blocks():
            found = _measure(model, block.values, draws)
            summary.add(found)
            for i, place in enumerate(block.places):
                p = found.probabilities[i].tolist()
                k = int(found.component[i])
                own = [k, p[k], *(p if each else []), float(found.log_density[i])]
                for at, row in cells:
                    if at == place:
                        score = float(found.outlier_score[i])
                        yield row, [*own, None if math.isnan(score) else score]
                        break
                    yield row, None
        for _, row in cells:
            yield row, None
        n_dropped += table.n_dropped
        n_incomplete += table.n_incomplete
    samples.table.n_dropped, samples.table.n_incomplete = n_dropped, n_incomplete
