"""gmm-np score: what a fitted mixture makes of a table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.commands.models import load_model
from gmm_np.commands.options import (
    Commands,
    add_data_options,
    add_json,
    add_model,
    add_pairing_option,
    add_weights,
    new_command,
    new_file,
    tell,
)
from gmm_np.commands.report import criteria_text, json_text
from gmm_np.commands.samples import Columns, Samples, load_samples, score
from gmm_np.covariance import FAMILIES
from gmm_np.files import atomic_write
from gmm_np.mixture.criteria import criteria
from gmm_np.tables.writing import csv_lines


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new_command(
        commands,
        "score",
        _run,
        usage="MODEL DATA",
        summary="score a table under a fitted mixture",
        description="""Print the negative log-likelihood of the rows of a table under a model that
        `gmm-np fit --out` wrote, and its BIC and AIC. Where both tables have names, columns are
        found by those of the fit, and others are left out; else they must come in the order of
        the fit. The table is read in blocks, and may be larger than memory.""",
        examples="""
        gmm-np score model.npz new.csv
        gmm-np score model.npz new.csv --columns duration,pause --by-position
        gmm-np score model.npz new.csv --out rows.csv
        """,
    )
    add_model(parser)
    add_data_options(parser)
    add_pairing_option(parser)
    add_weights(parser, "scored")
    parser.add_argument(
        "--out",
        type=new_file(".csv", what="the rows are written as .csv; name it so,"),
        metavar="CSV",
        help="write, for each row, its log density, the number of the component most likely to "
        "have made it, from 0, and that component's responsibility; with --missing drop its line "
        "in DATA, too",
    )
    add_json(parser)


def _run(options: argparse.Namespace) -> int:
    model, names = load_model(options.model)
    n_components, n_features = model.means_.shape
    samples = load_samples(options, stream=True, columns=Columns(n_features, names))
    if options.out is not None and options.missing == "drop" and len(samples.table.members()) > 1:
        raise ValueError(
            "--out has the line of each row with --missing drop, and a line of several files says "
            "nothing: score one file at a time, or leave --missing out"
        )
    found = score(model, samples)
    if options.out is not None:
        _write_rows(model, samples, options.out, with_places=options.missing == "drop")
    tell(samples.notes)
    family = str(model.covariance_type)
    n_free = FAMILIES[family].n_parameters(n_components, n_features)
    values = criteria(found.nll, found.weight, n_free)
    if options.json:
        document = {
            "n_samples": found.n_samples,
            "n_dropped": samples.table.n_dropped,
            "n_features": n_features,
            "n_components": n_components,
            "family": family,
            **values,
            "columns": samples.names,
        }
        print(json_text(document))
        return 0
    print(samples.summary(found.n_samples))
    print(criteria_text(values))
    if options.out is not None:
        print(f"Rows: {options.out}")
    return 0


def _write_rows(model: Any, samples: Samples, path: Path, *, with_places: bool) -> None:
    n_features = len(samples.names)
    names = [samples.table.unit, "log_density", "component", "responsibility"]
    first = 0 if with_places else 1  # else the rows are those of DATA, one by one

    def measured() -> Iterator[FloatArray]:
        for block in samples.table.blocks():
            rows = block.values[:, :n_features]
            resp = model.predict_proba(rows)  # [N, K]
            found = (block.places, model.score_samples(rows), resp.argmax(axis=1), resp.max(axis=1))
            yield np.column_stack(found[first:])

    with atomic_write(path) as stream:
        lines = csv_lines(measured(), names[first:], whole=[0, 2] if with_places else [1])
        stream.writelines(line.encode() for line in lines)
