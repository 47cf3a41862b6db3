"""gmm-np info: what a model file holds."""

from __future__ import annotations

import argparse

from gmm_np.checks import counted
from gmm_np.commands.models import load_model
from gmm_np.commands.options import Commands, add_json, add_model, new_command
from gmm_np.commands.report import (
    describe,
    floor_by_column,
    json_text,
    mixture_document,
    reached,
)
from gmm_np.covariance import FAMILIES
from gmm_np.mixture import findings
from gmm_np.sufficient_statistics import as_floor


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new_command(
        commands,
        "info",
        _run,
        summary="show a fitted mixture",
        description="Print the mixture in a model that `gmm-np fit --out` wrote.",
        examples="""
        gmm-np info model.npz
        gmm-np info model.npz --json
        """,
    )
    add_model(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> int:
    model, given = load_model(options.model)
    document = mixture_document(model)
    n_components, n_features = model.means_.shape
    family = str(model.covariance_type)
    n_free = FAMILIES[family].n_parameters(n_components, n_features)
    # Of a mixture that was given no samples are known.
    floor = as_floor(model.reg_covar, model.parameters_) if model._weight_seen > 0 else None
    if options.json:
        document |= {
            "n_parameters": n_free,
            "fitted": floor is not None,
            "converged": bool(model.converged_),
            "n_iter": int(model.n_iter_),
            "reg_covar": floor,
            "collapsed": list(model.collapsed_),
            "columns": given,
        }
        print(json_text(document))
        return 0
    print(
        f"{options.model}: {counted(n_components, 'component')} in "
        f"{counted(n_features, 'dimension')}, family {family}, {counted(n_free, 'free parameter')}"
    )
    names = given or [f"column {j + 1}" for j in range(n_features)]
    if floor is None:
        print("given, not fitted\n")
    else:
        print(f"fit: {reached(model.converged_, model.n_iter_)}")
        print(f"added to variances: {floor_by_column(floor, names)}")
        if model.collapsed_:
            who = findings.name_collapsed(model.collapsed_, model.parameters_, floor, names)
            print(f"{who}: what is added, or a covariance that was kept, holds it up, not the rows")
        print()
    print(describe(model.parameters_, names))
    return 0
