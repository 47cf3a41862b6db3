"""What `gmm-np fit` says of its fits: JSON, a text, pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from gmm_np.checks import counted
from gmm_np.commands.candidates import Candidate
from gmm_np.commands.report import SOLVERS, describe, mixture_document
from gmm_np.commands.samples import Samples
from gmm_np.solvers.floor import RELATIVE
from gmm_np.sufficient_statistics import as_floor

_NAMED: Final = 6  # columns of which the floor is printed for people; JSON has all


def fit_document(
    candidates: list[Candidate], samples: Samples, options: argparse.Namespace
) -> dict[str, object]:
    """Return what JSON says of the fits, the best of which comes first."""
    best = candidates[0]
    assert best.score is not None
    document = {
        "n_samples": best.score.n_samples,
        "n_dropped": samples.table.n_dropped,
        **mixture_document(best.model),
        **best.criteria,
        "converged": bool(best.model.converged_),
        "n_iter": int(best.model.n_iter_),
        "solver": options.solver,
        "standardized": options.standardize,
        "reg_covar": as_floor(best.model.reg_covar, best.model.parameters_),
        "collapsed": best.collapsed,
        "columns": samples.names,
    }
    if len(candidates) > 1:
        document["candidates"] = [
            {
                "family": c.family,
                "n_components": c.n_components,
                **({"nll": c.criteria["nll"], "bic": c.criteria["bic"]} if c.score else {}),
                "collapsed": c.collapsed,
                "error": c.error or None,
            }
            for c in candidates
        ]
    return document


def fit_text(candidates: list[Candidate], samples: Samples, options: argparse.Namespace) -> str:
    """Return what is printed for people."""
    best, model = candidates[0], candidates[0].model
    assert best.score is not None
    found = best.criteria
    lines = [samples.summary(best.score.n_samples)]
    if len(candidates) > 1:
        lines += ["", f"{'family':<18}{'K':>4}{'BIC':>16}{'NLL':>14}"]
        for c in candidates:
            numbers = (
                f"{c.criteria['bic']:16.4f}{c.criteria['nll']:14.6f}" if c.score else "  failed"
            )
            note = "  collapsed" if c.collapsed else ""
            lines.append(f"{c.family:<18}{c.n_components:>4}{numbers}{note}")
        lines += ["", "of the least BIC:"]
    which = (
        f"{counted(best.n_components, 'component')}, family {best.family}, by "
        f"{SOLVERS[options.solver]}{' on standardised columns' if options.standardize else ''}"
    )
    reached = f"converged after {counted(model.n_iter_, 'iteration')}"
    if not model.converged_:
        reached = f"not {reached}; raise --max-iter or --tol"
    lines += [
        f"{which}: {reached}",
        "",
        f"NLL: {found['nll']:.9f} nats a sample (log-likelihood {found['log_likelihood']:.6f})",
        f"BIC {found['bic']:.4f}, AIC {found['aic']:.4f}, {best.n_free} free parameters",
        f"added to variances: {_floor_text(best.model, samples.labels, options)}",
        "",
        describe(model.parameters_, samples.labels),
    ]
    written = [
        ("Model", options.out),
        ("Picture", options.plot),
        ("Picture of the loss", options.plot_history),
        ("Picture of the responsibilities", options.plot_responsibilities),
        ("Picture of the BIC", options.plot_bic),
    ]
    files = [f"{what}: {path}" for what, path in written if path is not None]
    return "\n".join([*lines, "", *files] if files else lines)


def _floor_text(model: Any, names: list[str], options: argparse.Namespace) -> str:
    """Say what the floor is, and why."""
    floor = as_floor(model.reg_covar, model.parameters_)
    share = RELATIVE
    if options.reg_covar is not None:
        if not options.standardize:
            return f"{float(floor.max()):.3g}, as --reg-covar says"
        share = options.reg_covar
    if floor.ndim == 0:
        return f"{share:g} of the columns' mean variance, {float(floor):.3g}"
    text = f"{share:g} of each column's"
    if len(names) > _NAMED:
        return f"{text}, from {floor.min():.3g} to {floor.max():.3g}"
    each = (f"{name} {value:.3g}" for name, value in zip(names, floor, strict=True))
    return f"{text} ({', '.join(each)})"


def draw_fit(candidates: list[Candidate], samples: Samples, options: argparse.Namespace) -> None:
    """Draw the pictures that the options ask for."""
    wanted = (
        *(options.plot, options.plot_history),
        *(options.plot_responsibilities, options.plot_bic),
    )
    if not any(wanted):
        return
    from gmm_np import plotting

    best = candidates[0]
    what = f"K = {best.n_components}, {best.family}, NLL {best.criteria['nll']:.4f} nats a sample"
    name = Path(str(samples.table.file)).name
    title = f"{name}: {what}"
    if options.plot or options.plot_responsibilities:
        x = samples.some_rows(5000, options.seed)
        draw = plotting.plot_mixture if x.shape[1] <= 2 else plotting.plot_pairs
        for path, function in (
            (options.plot, draw),
            (options.plot_responsibilities, plotting.plot_responsibilities),
        ):
            if path is not None:
                figure = function(x, best.model, labels=samples.labels, title=title)
                plotting.save_figure(figure, path)
    if options.plot_history:
        names = [SOLVERS[options.solver]]
        if len(best.histories) > 1:
            names = [f"start {number}" for number in range(len(best.histories))]
        histories = dict(zip(names, best.histories, strict=True))
        plotting.save_figure(plotting.plot_history(histories, title=title), options.plot_history)
    if options.plot_bic:
        scores: dict[str, dict[int, float | None]] = {}
        for family in options.family:
            own = [c for c in candidates if c.family == family]
            scores[family] = {c.n_components: c.criteria["bic"] if c.score else None for c in own}
        figure = plotting.plot_bic(scores, title=name)
        plotting.save_figure(figure, options.plot_bic)
