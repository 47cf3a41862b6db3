"""gmm-np fit: a mixture fitted to a table."""

from __future__ import annotations

import argparse
import warnings

from gmm_np.checks import counted
from gmm_np.commands.candidates import Candidate, fit_candidates
from gmm_np.commands.fit_report import draw_fit, fit_document, fit_text
from gmm_np.commands.models import save_model
from gmm_np.commands.options import (
    Commands,
    add_data_options,
    add_picture_options,
    add_solver_options,
    model_file,
    new_command,
    not_negative,
    tell,
    whole_number,
)
from gmm_np.commands.report import json_text
from gmm_np.commands.samples import load_samples, names_to_save
from gmm_np.commands.standardize import ColumnUnits
from gmm_np.mixture import COVARIANCE_TYPES as FAMILIES
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
        MODEL for the other commands. With several K or families each is fitted, and the least BIC
        (Bayesian information criterion) chooses. Ctrl-C ends the fit; with --out the best model so
        far is kept.""",
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
    parser.add_argument(
        "--weights", metavar="COLUMN", help="a column with a weight for each row, not to be fitted"
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="read DATA anew in each pass rather than hold it in memory; .npy is the fastest",
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
        default=1,
        metavar="N",
        help="starts, of which the best is kept (default: %(default)s)",
    )
    group.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="N", help="of the starts (default: 0)"
    )
    group.add_argument(
        "--tol",
        type=not_negative,
        metavar="T",
        help="end where an iteration gains less (em), or no entry of the gradient is larger "
        "(lbfgs, adam), in nats a sample (default: 1e-6, for adam 1e-4)",
    )
    group.add_argument(
        "--reg-covar",
        type=not_negative,
        metavar="R",
        help="added to each variance, so that none becomes zero, in the squared units of the "
        "columns (default: for each column 1e-6 of its variance)",
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
    group = parser.add_argument_group("what is written")
    group.add_argument("--out", type=model_file, metavar="MODEL", help="the model, an .npz file")
    add_picture_options(
        group,
        plot="a picture of data and mixture",
        plot_history="a picture of the loss by iteration",
        plot_responsibilities="a picture of which component made which row",
        plot_bic="a picture of the BIC by K and family",
    )
    group.add_argument("--json", action="store_true", help="print one JSON document")


def _run(options: argparse.Namespace) -> int:
    samples = load_samples(options, stream=options.stream)
    units = ColumnUnits.of(samples) if options.standardize else None
    candidates = fit_candidates(units.standardize(samples) if units else samples, options)
    best = candidates[0]
    if units is not None:
        for candidate in candidates:
            if hasattr(candidate.model, "means_"):
                units.restore(candidate.model)
    if options.out is not None:
        save_model(best.model, names_to_save(samples.table, samples.names), options.out)
        vars(best.model).pop("feature_names_in_", None)
    if best.interrupted:
        raise KeyboardInterrupt(_what_is_kept(best, options))
    tell(samples.notes)
    if best.model.covariance_type != best.family:
        note = (
            f"one variance for all standardised columns ({best.family}) is one a column in the "
            "units of DATA (diag), and the model is of that family; the BIC of this fit counts the "
            f"parameters of {best.family}"
        )
        tell([note])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        draw_fit(candidates, samples, options)
    tell(dict.fromkeys(str(warning.message) for warning in caught))
    if options.json:
        print(json_text(fit_document(candidates, samples, options)))
    else:
        print(fit_text(candidates, samples, options))
    return 0


def _what_is_kept(best: Candidate, options: argparse.Namespace) -> str:
    if options.out is None:
        return "nothing is kept: --out MODEL keeps the best model so far"
    which = (
        f"{best.family}, K = {best.n_components}, after {counted(best.model.n_iter_, 'iteration')}"
    )
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
