"""gmm-np fit: a mixture fitted to a table."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gmm_np.checks import counted
from gmm_np.commands.candidates import SEVERAL_STARTS, fit_candidates
from gmm_np.commands.checkpoint import add_checkpoint, checkpoint_file
from gmm_np.commands.fit_report import draw_fit, fit_document, fit_text
from gmm_np.commands.html_report import write_report
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
    report_file,
    tell,
    whole_number,
)
from gmm_np.commands.report import describe, json_text, mixture_document, tolerance_help
from gmm_np.commands.samples import Samples, load_samples, names_to_save
from gmm_np.commands.standard_errors import (
    TO_THE_MAXIMUM,
    ErrorsOrWhyNot,
    add_bootstrap,
    check_bootstrap,
    find_errors,
)
from gmm_np.commands.standardize import ColumnUnits
from gmm_np.commands.workers import add_workers, spread
from gmm_np.inference import KINDS
from gmm_np.mixture import COVARIANCE_TYPES as FAMILIES
from gmm_np.model_selection import CRITERIA, Candidate, Selection, SelectionInterrupted
from gmm_np.parameters import Parameters
from gmm_np.solvers.em import ON_COLLAPSE
from gmm_np.tables.cells import read_range

_UNASKED: Final = 1000  # parameters: a report alone asks for no Hessian beyond a million entries


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
        chooses among those without a collapsed component. Ctrl-C ends the fit; the best model so
        far is printed, or with --out written.""",
        examples="""
        gmm-np fit data.csv -k 3 --family diag --out model.npz --plot fit.png
        gmm-np fit data.csv -k 1-8 --family full,tied --plot-bic bic.png
        gmm-np fit data.csv -k 2 --columns eruptions,waiting --json
        gmm-np fit data.csv -k 2 --solver em+newton --errors --plot fit.png
        gmm-np fit data.csv -k 1-8 --report report.html --assign assigned.csv
        gmm-np fit 'data/*.parquet' -k 20 --workers 4 --checkpoint so_far.npz --out model.npz
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
        help="read DATA anew in each pass, as several files are; .npy is the fastest",
    )
    add_workers(parser)
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
    add_seed(group, "the starts and of the bootstrap (default: 0)")
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
        "keep its covariance (default: %(default)s; the default one holds it up, with a warning)",
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
    add_checkpoint(group)
    group.add_argument(
        "--errors",
        type=_kind,
        nargs="?",
        const=KINDS[0],
        metavar="KIND",
        help=f"standard errors (default: {KINDS[0]}; gmm-np errors explains each KIND); of "
        f"the maximum, to which {TO_THE_MAXIMUM} goes",
    )
    add_bootstrap(group)
    group.add_argument(
        "--assign",
        type=new_file(".csv", ".tsv"),
        metavar="FILE",
        help="DATA and each row's components, as by gmm-np assign --all",
    )
    group.add_argument(
        "--report",
        type=report_file,
        metavar="HTML",
        help="all in one page: data, choice, mixture, pictures, how it was made",
    )
    add_picture_options(
        group,
        plot="a picture of data and mixture, with errors if any",
        plot_history="a picture of the loss by iteration",
        plot_responsibilities="a picture of which component made which row",
        plot_bic="a picture of the criterion by K and family",
    )
    add_json(group)


def _run(options: argparse.Namespace) -> int:
    check_bootstrap(options, options.errors, "--errors")
    elsewhere = options.workers is not None
    samples = load_samples(options, stream=options.stream or elsewhere or None)
    if elsewhere:
        samples = spread(samples, options)
    units = ColumnUnits.of(samples) if options.standardize else None
    fitted_to = units.standardize(samples) if units else samples
    try:
        restore = units.restore_parameters if units else _as_it_is
        selection = fit_candidates(fitted_to, options, restore)
    except SelectionInterrupted as stop:
        _save(stop.selection, samples, options, units)
        if options.out is None:
            print(_so_far(stop.selection, samples, options))
        raise KeyboardInterrupt(_what_is_kept(stop.selection, options)) from None
    best, model = selection.best, selection.model
    found = model.parameters_  # in the units of the fit
    _save(selection, samples, options, units)
    tell(samples.notes)
    if model.covariance_type != best.family:
        note = (
            f"one variance for all standardised columns ({best.family}) is one a column in the "
            f"units of DATA ({model.covariance_type}), and the model is of that family; the "
            f"criteria of this fit count the parameters of {best.family}"
        )
        tell([note])
    asked = _find_errors(fitted_to, found, best, options, units, options.errors)
    errors = asked.errors
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        draw_fit(selection, samples, options, errors)
    tell(dict.fromkeys(str(warning.message) for warning in caught))

    def assign(path: Path) -> None:
        from gmm_np.commands.assign import write_rows  # which most fits do without

        write_rows(model, samples.without_weights(), path, seed=options.seed, each=True)

    def report(path: Path) -> None:
        known = asked
        if options.errors is None:
            known = _errors_of_report(fitted_to, found, best, options, units)
        write_report(path, selection, samples, options, known)

    # After the fit, of which nothing is lost, the first that went wrong.
    failures = [asked.failure, _write(options, "assign", assign), _write(options, "report", report)]
    if options.json:
        print(json_text(fit_document(selection, samples, options, errors)))
    else:
        print(fit_text(selection, samples, options, errors))
    for failure in failures:
        if failure is not None:
            raise failure
    return 0


def _find_errors(
    samples: Samples,
    model: Parameters,
    best: Candidate,
    options: argparse.Namespace,
    units: ColumnUnits | None,
    kind: str | None,
) -> ErrorsOrWhyNot:
    """Find the standard errors of what was fitted to the samples, or why there are none."""
    if kind is None:
        return ErrorsOrWhyNot()
    remedy: str | None = f"fit with {TO_THE_MAXIMUM}"
    if best.collapsed:
        remedy = None
    elif options.solver == "em+newton" and options.reg_covar == 0:
        remedy = "raise --max-iter"
    try:
        found = find_errors(samples, model, kind, options, flag="--errors", remedy=remedy)
    except KeyboardInterrupt:
        return ErrorsOrWhyNot(
            failure=KeyboardInterrupt("the fit is there, without standard errors")
        )
    except (ValueError, OSError, MemoryError) as error:
        return ErrorsOrWhyNot(failure=error)
    errors = units.restore_errors(found.errors) if units else found.errors
    return ErrorsOrWhyNot(errors, doubts=found.doubts)


def _errors_of_report(
    samples: Samples,
    model: Parameters,
    best: Candidate,
    options: argparse.Namespace,
    units: ColumnUnits | None,
) -> ErrorsOrWhyNot:
    """Find the standard errors of a report, for which nobody has asked by --errors."""
    if best.n_parameters > _UNASKED:
        many = f"the mixture has {best.n_parameters} parameters, whose errors take long; --errors"
        return ErrorsOrWhyNot(failure=ValueError(f"{many} finds them"))
    found = _find_errors(samples, model, best, options, units, KINDS[0])
    if isinstance(found.failure, KeyboardInterrupt):
        raise found.failure
    return found


def _write(
    options: argparse.Namespace, name: str, write: Callable[[Path], object]
) -> BaseException | None:
    """Write the file of an option, if there is one, or return why it is not there.

    The option is then None, so that nobody is told of the file.
    """
    path = getattr(options, name)
    if path is None:
        return None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            write(path)
    except KeyboardInterrupt:
        failure: BaseException = KeyboardInterrupt(f"the fit is there, but {path} was not written")
    except (ValueError, OSError, MemoryError) as error:
        failure = error
    else:
        tell(dict.fromkeys(str(warning.message) for warning in caught))
        return None
    setattr(options, name, None)
    return failure


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


def _so_far(selection: Selection, samples: Samples, options: argparse.Namespace) -> str:
    """Return what is printed of the best model so far."""
    model = selection.model
    if not options.json:
        return describe(model.parameters_, samples.labels)
    reached = {"nll": -model.lower_bound_, "converged": False, "n_iter": model.n_iter_}
    document = mixture_document(model) | reached | {"interrupted": True, "columns": samples.names}
    return json_text(document)


def _what_is_kept(selection: Selection, options: argparse.Namespace) -> str:
    k, n_iter = selection.best.n_components, counted(selection.model.n_iter_, "iteration")
    which = f"{selection.best.family}, K = {k}, after {n_iter}"
    where = f"in {options.out}" if options.out else "printed; --out MODEL would keep it"
    said = f"the best model so far ({which}) is {where}"
    resume = checkpoint_file(options)
    return said if resume is None else f"{said}; --resume {resume} goes on with the fit"


def _as_it_is(parameters: Parameters) -> Parameters:
    return parameters


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


def _kind(text: str) -> str:
    if text not in KINDS:
        raise argparse.ArgumentTypeError(
            f"must be one of {', '.join(KINDS)}, or be left out; got {text!r}"
            + ("; write DATA before the options" if Path(text).suffix or text == "-" else "")
        )
    return text


def _families(text: str) -> list[str]:
    families = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for family in families:
        if family not in FAMILIES:
            raise argparse.ArgumentTypeError(
                f"must be one or several of {', '.join(FAMILIES)}; got {family!r}"
            )
    return families
