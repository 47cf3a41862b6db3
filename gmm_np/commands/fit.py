"""gmm-np fit: a mixture fitted to a table."""

from __future__ import annotations

import argparse
import warnings

from gmm_np.checks import counted
from gmm_np.commands.candidates import SEVERAL_STARTS, fit_candidates
from gmm_np.commands.fit_report import draw_fit, fit_document, fit_text
from gmm_np.commands.models import save_model
from gmm_np.commands.options import (
    Commands,
    add_data_options,
    add_json,
    add_picture_options,
    add_seed,
    add_solver_options,
    add_weights,
    new_command,
    new_file,
    not_negative,
    tell,
    whole_number,
)
from gmm_np.commands.report import json_text, tolerance_help
from gmm_np.commands.samples import Samples, load_samples, names_to_save
from gmm_np.commands.standardize import ColumnUnits
from gmm_np.mixture import COVARIANCE_TYPES as FAMILIES
from gmm_np.model_selection import CRITERIA, Selection, SelectionInterrupted
from gmm_np.solvers.em import ON_COLLAPSE
from gmm_np.tables.cells import read_range


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new_command(
        commands,
        "fit",
        _run,
        summary="fit a mixture to a table",
        usage="DATA -k K",
        description="""Fit K Gaussians to the rows of a table, print the mixture, and write it to
        MODEL for the other commands. With several K or families each is fitted, and a criterion
        chooses among those without a collapsed component. Ctrl-C ends the fit; with --out the best
        model so far is kept.""",
        examples="""
        gmm-np fit data.csv -k 3
        gmm-np fit data.csv -k 3 --family diag --out model.npz --plot fit.png
        gmm-np fit data.csv -k 1-8 --family full,tied --plot-bic bic.png
        gmm-np fit data.csv -k 2 --columns eruptions,waiting --json
        gmm-np fit large.npy -k 20 --stream --out model.npz
        """,
    )
    add_data_options(parser)
    parser.add_argument(
        "-k",
        "--components",
        type=_numbers,
        required=True,
        metavar="K",
        help="components: a number, or several to choose from as 1-8 or 2,4,8",
    )
    parser.add_argument(
        "--family",
        type=_families,
        default=["full"],
        metavar="F",
        help=f"covariances: {', '.join(FAMILIES)}, or several to choose from as full,diag "
        "(default: full)",
    )
    add_weights(parser, "fitted")
    parser.add_argument(
        "--stream",
        action="store_true",
        help="read DATA anew in each pass, not into memory; .npy is the fastest",
    )
    group = parser.add_argument_group("the fit")
    group.add_argument(
        "--standardize",
        action="store_true",
        help="fit to columns of mean 0 and variance 1; what is printed and written is in the "
        "units of DATA, but --reg-covar is in standardised ones",
    )
    add_solver_options(group, "em")
    group.add_argument(
        "--n-init",
        type=whole_number(1),
        metavar="N",
        help=f"starts of each fit (default: 1, or {SEVERAL_STARTS} where there are several fits)",
    )
    add_seed(group, "the starts (default: 0)")
    group.add_argument(
        "--tol",
        type=not_negative,
        metavar="T",
        help=tolerance_help(),
    )
    group.add_argument(
        "--reg-covar",
        type=not_negative,
        metavar="R",
        help="added to each variance, in squared units (default: 1e-6 of each column's)",
    )
    group.add_argument(
        "--on-collapse",
        choices=ON_COLLAPSE,
        default="raise",
        metavar="WHAT",
        help="what em does with a component whose rows span less than all dimensions where "
        "--reg-covar is too small to hold it up: raise an error, reseed it at a random row, or "
        "keep its covariance (default: %(default)s; the default --reg-covar holds it up, and a "
        "warning names it)",
    )
    group.add_argument(
        "--criterion",
        choices=CRITERIA,
        default="bic",
        metavar="C",
        help="of several the least bic, aic, or icl, for components apart (default: bic)",
    )
    group.add_argument(
        "--allow-collapsed",
        action="store_true",
        help="choose also a mixture with a component that its rows do not hold up",
    )
    group = parser.add_argument_group("what is written")
    model_file = new_file(".npz", what="a model is an .npz file; name it so,")
    group.add_argument("--out", type=model_file, metavar="MODEL", help="the model, an .npz file")
    add_picture_options(
        group,
        plot="a picture of data and mixture",
        plot_history="a picture of the loss by iteration",
        plot_responsibilities="a picture of which component made which row",
        plot_bic="a picture of the criterion by K and family",
    )
    add_json(group)


def _run(options: argparse.Namespace) -> int:
    samples = load_samples(options, stream=options.stream)
    units = ColumnUnits.of(samples) if options.standardize else None
    try:
        selection = fit_candidates(units.standardize(samples) if units else samples, options)
    except SelectionInterrupted as stop:
        _save(stop.selection, samples, options, units)
        raise KeyboardInterrupt(_what_is_kept(stop.selection, options)) from None
    _save(selection, samples, options, units)
    best, model = selection.best, selection.model
    tell(samples.notes)
    if model.covariance_type != best.family:
        note = (
            f"one variance for all standardised columns ({best.family}) is one a column in the "
            f"units of DATA ({model.covariance_type}), and the model is of that family; the "
            f"criteria of this fit count the parameters of {best.family}"
        )
        tell([note])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        draw_fit(selection, samples, options)
    tell(dict.fromkeys(str(warning.message) for warning in caught))
    if options.json:
        print(json_text(fit_document(selection, samples, options)))
    else:
        print(fit_text(selection, samples, options))
    return 0


def _save(
    selection: Selection,
    samples: Samples,
    options: argparse.Namespace,
    units: ColumnUnits | None,
) -> None:
    """Bring what was fitted into the units of the data, and save the mixture that was chosen."""
    if units is not None:
        for candidate in selection.candidates:
            units.restore(candidate)
    if options.out is not None:
        save_model(selection.model, names_to_save(samples.table, samples.names), options.out)
        vars(selection.model).pop("feature_names_in_", None)


def _what_is_kept(selection: Selection, options: argparse.Namespace) -> str:
    if options.out is None:
        return "nothing is kept: --out MODEL keeps the best model so far"
    k, n_iter = selection.best.n_components, counted(selection.model.n_iter_, "iteration")
    which = f"{selection.best.family}, K = {k}, after {n_iter}"
    return f"the best model so far ({which}) is in {options.out}"


def _numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        found = read_range(part if "-" in part else f"{part}-{part}")
        if not found or found.start < 1:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from 1, or several as 1-8 or 2,4,8; got {text!r}"
            )
        numbers += found
    return list(dict.fromkeys(numbers))


def _families(text: str) -> list[str]:
    families = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for family in families:
        if family not in FAMILIES:
            raise argparse.ArgumentTypeError(
                f"must be one or several of {', '.join(FAMILIES)}; got {family!r}"
            )
    return families
