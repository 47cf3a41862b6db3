"""What `gmm-np fit` says of its fits: JSON, a text, pictures."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gmm_np.checks import counted
from gmm_np.commands.candidates import error_text
from gmm_np.commands.options import tell_left_out
from gmm_np.commands.report import (
    SOLVERS,
    criteria_text,
    describe,
    floor_by_column,
    mixture_document,
    reached,
)
from gmm_np.commands.samples import Samples
from gmm_np.commands.standard_errors import errors_document
from gmm_np.inference import StandardErrors
from gmm_np.mixture import GaussianMixture
from gmm_np.model_selection import Candidate, Selection
from gmm_np.solvers.floor import RELATIVE
from gmm_np.sufficient_statistics import as_floor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS_DRAWN: Final = 5000  # that a picture looks at


def fit_document(
    selection: Selection,
    samples: Samples,
    options: argparse.Namespace,
    errors: StandardErrors | None,
) -> dict[str, object]:
    """Return what JSON says of the fits, the best of which comes first."""
    best, model = selection.best, selection.model
    document = {
        "n_samples": best.n_samples,
        "n_dropped": samples.table.n_dropped,
        **mixture_document(model),
        **best.criteria,
        "converged": bool(model.converged_),
        "n_iter": int(model.n_iter_),
        "solver": options.solver,
        "standardized": options.standardize,
        "reg_covar": as_floor(model.reg_covar, model.parameters_),
        "collapsed": best.collapsed,
        "columns": samples.names,
    }
    if options.errors is not None:
        document["standard_errors"] = None if errors is None else errors_document(errors)
    if len(selection.candidates) > 1:
        document["criterion"] = selection.criterion
        document["candidates"] = [
            {
                "family": c.family,
                "n_components": c.n_components,
                **c.criteria,
                "starts": len(c.histories),
                "collapsed": c.collapsed,
                "worse_than": c.worse_than,
                "notes": c.notes,
                "error": error_text(c, options) if c.error is not None else None,
            }
            for c in selection.candidates
        ]
    return document


def fit_text(
    selection: Selection,
    samples: Samples,
    options: argparse.Namespace,
    errors: StandardErrors | None,
) -> str:
    """Return what is printed for people."""
    best, model = selection.best, selection.model
    lines = [samples.summary(best.n_samples)]
    if len(selection.candidates) > 1:
        lines += ["", str(selection), "", f"{reason(selection)}:"]
    how = SOLVERS[options.solver].title
    how += " on standardised columns" if options.standardize else ""
    which = f"{counted(best.n_components, 'component')}, family {best.family}, by {how}"
    by_em = " by EM, not by Newton's method" if options.solver == "em+newton" else ""
    remedy = "" if model.converged_ else "; raise --max-iter or --tol"
    lines += [
        f"{which}: {reached(model.converged_, model.n_iter_)}{remedy}",
        "",
        criteria_text(best.criteria),
        counted(best.n_parameters, "free parameter"),
        f"added to variances{by_em}: {floor_text(model, samples.labels, options)}",
        "",
        describe(model.parameters_, samples.labels, errors),
    ]
    written = [
        ("Model", options.out),
        ("Rows", options.assign),
        ("Report", options.report),
        ("Picture", options.plot),
        ("Picture of the loss", options.plot_history),
        ("Picture of the responsibilities", options.plot_responsibilities),
        (f"Picture of the {selection.criterion.upper()}", options.plot_bic),
    ]
    files = [f"{what}: {path}" for what, path in written if path is not None]
    return "\n".join([*lines, "", *files] if files else lines)


def reason(selection: Selection) -> str:
    """Say why the best is the best."""
    if selection.all_collapsed:
        return "all have a collapsed component; the smallest"
    others = any(c.collapsed for c in selection.candidates) and not selection.allow_collapsed
    return f"of the least {selection.criterion.upper()}" + (
        " without a collapsed component" if others else ""
    )


def floor_text(model: Any, names: list[str], options: argparse.Namespace) -> str:
    """Say what the floor is, and why."""
    floor = as_floor(model.reg_covar, model.parameters_)
    share = RELATIVE
    if options.reg_covar is not None:
        if not options.standardize:
            return f"{float(floor.max()):.3g}, as --reg-covar says"
        share = options.reg_covar
    if floor.ndim == 0:
        return f"{share:g} of the columns' mean variance, {float(floor):.3g}"
    return f"{share:g} of each column's ({floor_by_column(floor, names)})"


def draw_mixture(
    samples: Samples,
    model: GaussianMixture,
    path: Path,
    title: str,
    *,
    seed: int,
    errors: StandardErrors | None,
    level: float = 0.95,
) -> None:
    """Draw data and mixture, with the errors of the means if they are known."""
    from gmm_np import plotting
    from gmm_np.plotting import captions

    x = samples.some_rows(ROWS_DRAWN, seed)
    draw = plotting.plot_mixture if x.shape[1] <= 2 else plotting.plot_pairs
    if draw is plotting.plot_pairs:
        tell_left_out(path, samples.names)
    figure = draw(x, model, labels=samples.labels, title=title, errors=errors, level=level)
    plotting.add_caption(figure, captions.mixture(x.shape[1]))
    plotting.save_figure(figure, path)


def draw_fit(
    selection: Selection,
    samples: Samples,
    options: argparse.Namespace,
    errors: StandardErrors | None,
) -> None:
    """Draw the pictures that the options ask for."""
    if not any(path for name, path in vars(options).items() if name.startswith("plot")):
        return
    from gmm_np import plotting
    from gmm_np.plotting import captions

    best = selection.best
    what = f"K = {best.n_components}, {best.family}, NLL {best.criteria['nll']:.4f} nats a sample"
    name = Path(samples.table.file).name
    title = f"{name}: {what}"
    if options.plot is not None:
        draw_mixture(
            samples, selection.model, options.plot, title, seed=options.seed, errors=errors
        )
    if options.plot_responsibilities is not None:
        x = samples.some_rows(ROWS_DRAWN, options.seed)
        figure = plotting.plot_responsibilities(x, best.model, labels=samples.labels, title=title)
        plotting.add_caption(figure, captions.responsibilities(x.shape[1]))
        plotting.save_figure(figure, options.plot_responsibilities)
    if options.plot_history:
        histories = {
            f"start {number}": history for number, history in enumerate(best.histories) if history
        }
        if len(best.histories) == 1:
            histories = {SOLVERS[options.solver].title: best.histories[0]}
        figure = plotting.plot_history(histories, title=title)
        plotting.add_caption(figure, captions.HISTORY)
        plotting.save_figure(figure, options.plot_history)
    if options.plot_bic:
        figure = criterion_figure(selection, options, selection.criterion, name)
        plotting.add_caption(figure, captions.criterion(selection.criterion.upper()))
        plotting.save_figure(figure, options.plot_bic)


def criterion_figure(
    selection: Selection, options: argparse.Namespace, criterion: str, title: str | None = None
) -> Figure:
    """Draw a criterion, by which the choice may be another one, by K and family."""
    from gmm_np import plotting

    by_family: dict[str, list[Candidate]] = {family: [] for family in options.family}
    for candidate in selection.candidates:
        by_family[candidate.family].append(candidate)
    best = replace(selection, criterion=criterion).best
    return plotting.plot_bic(
        {
            family: {c.n_components: c.criteria.get(criterion) for c in own}
            for family, own in by_family.items()
        },
        title=title,
        criterion=criterion.upper(),
        collapsed={
            family: [c.n_components for c in own if c.collapsed]
            for family, own in by_family.items()
        },
        chosen=(best.family, best.n_components),
    )
