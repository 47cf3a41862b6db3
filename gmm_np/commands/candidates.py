"""The fits that `gmm-np fit` makes: one, or one for each K and family, and what it says of them."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing

from gmm_np.checks import FloatArray, name_components
from gmm_np.commands.checkpoint import open_checkpoint
from gmm_np.commands.options import in_options, tell
from gmm_np.commands.report import SOLVERS, reached
from gmm_np.commands.samples import Samples, check_distinct, check_range, column_variances
from gmm_np.covariance import FAMILIES
from gmm_np.mixture import RegCovarWarning, findings
from gmm_np.mixture.sklearn_compat import convergence_warning
from gmm_np.model_selection import (
    Candidate,
    NothingFittedError,
    Selection,
    SelectionInterrupted,
    select,
)
from gmm_np.parameters import Parameters
from gmm_np.progress import Progress
from gmm_np.solvers.floor import RELATIVE, relative_floor
from gmm_np.solvers.results import CollapseError

SEVERAL_STARTS = 3  # of each candidate, where there are several


def fit_candidates(
    samples: Samples, options: argparse.Namespace, restore: Callable[[Parameters], Parameters]
) -> Selection:
    """Fit each family with each number of components, and choose among them.

    `restore` brings parameters into the units of the data.

    Of several, one that cannot be fitted is left with its error; of one, the error is raised. An
    interruption is raised with what there is, if there is anything.
    """
    check_distinct(samples, min(options.components))
    spread = column_variances(samples)
    floor = relative_floor(spread) if options.reg_covar is None else options.reg_covar
    several = len(options.family) * len(options.components) > 1
    n_init = options.n_init or (SEVERAL_STARTS if several else 1)
    checkpoint = open_checkpoint(samples, spread, options, restore)
    with (
        warnings.catch_warnings(record=True) as caught,
        closing(_Lines(samples.log_unit)) as lines,
    ):
        warnings.simplefilter("always")
        try:
            selection = select(
                samples.data(),
                options.components,
                families=options.family,
                criterion=options.criterion,
                allow_collapsed=options.allow_collapsed,
                n_init=n_init,
                random_state=options.seed,
                reg_covar=floor,
                tol=SOLVERS[options.solver].tol if options.tol is None else options.tol,
                max_iter=options.max_iter,
                solver=options.solver,
                on_collapse=options.on_collapse,
                missing=samples.missing,
                callback=lines,
                checkpoint=checkpoint,
            )
        except SelectionInterrupted as stop:
            if not stop.selection.candidates:
                raise KeyboardInterrupt("nothing was fitted yet") from None
            raise
        except NothingFittedError as error:
            check_range(samples)
            failed = error.candidates
            if len(failed) > 1:
                _tell_errors(failed, options)
            what = error_text(failed[-1], options)
            what = f"none of these can be fitted; the last: {what}" if len(failed) > 1 else what
            raise ValueError(what) from error
    if any(c.error for c in selection.candidates):
        check_range(samples)
    for warning in caught:  # what the fits have found is said in the command line's words
        if not issubclass(warning.category, (convergence_warning(), RegCovarWarning)):
            tell([in_options(" ".join(str(warning.message).split()))], "warning")
    _tell_errors(selection.candidates, options)
    for candidate in selection.candidates:
        which = f"{candidate.name}: " if several else ""
        remedy = "; raise --n-init" if candidate.worse_than is not None else ""
        tell(f"{which}{note}{remedy}" for note in candidate.notes)
        found = _warnings(candidate, samples.labels, spread, options)
        tell((f"{which}{text}" for text in found), "warning")
    models = [c.model for c in selection.candidates if c.model is not None]
    if any(m.collapsed_ or m.reseeded_ or m.dropped_starts_ for m in models):
        tell(["components and starts are counted from 0"])
    if selection.all_collapsed and several:
        what = (
            "every candidate has a collapsed component, so that no criterion can choose: the "
            f"smallest is taken, {selection.best.name}; use a smaller -k, leave out --columns that "
            "are constant or depend on others, or add --allow-collapsed"
        )
        tell([what], "warning")
    return selection


class _Lines:
    """A progress line for each candidate, one after the other."""

    def __init__(self, log_unit: float) -> None:
        self.log_unit = log_unit
        self.candidate: Candidate | None = None
        self.line: Progress | None = None

    def close(self) -> None:
        """End the line that is there."""
        if self.line is not None:
            self.line.__exit__()

    def __call__(self, candidate: Candidate, iteration: int, loss: float) -> None:
        del iteration
        if candidate is not self.candidate or self.line is None:
            self.close()
            self.candidate = candidate
            self.line = Progress(f"fit {candidate.name}", unit="iteration").__enter__()
        note = f"start {len(candidate.histories) - 1}, NLL {loss + self.log_unit:.6f}"
        self.line.advance(note=note)


def _tell_errors(candidates: list[Candidate], options: argparse.Namespace) -> None:
    for candidate in candidates:
        if candidate.error is not None:
            print(f"gmm-np: {candidate.name}: {error_text(candidate, options)}", file=sys.stderr)


def error_text(candidate: Candidate, options: argparse.Namespace) -> str:
    """Say in one line, and in the options of the command, why a candidate has no fit."""
    error = candidate.error
    if isinstance(error, CollapseError):
        return _collapse(error, candidate.family, options.on_collapse)
    return in_options(" ".join(str(error).split()))


def _warnings(
    candidate: Candidate,
    names: list[str],
    spread: FloatArray,
    options: argparse.Namespace,
) -> Iterator[str]:
    """Yield what needs a look; components and starts are counted from 0."""
    model = candidate.model
    if model is None:
        return
    if not model.converged_:
        yield (
            f"{reached(model.converged_, model.n_iter_)}; raise --max-iter or --tol, or use fewer "
            "components"
        )
    to_the_end = options.solver == "em+newton" and model.converged_  # and without the floor
    if options.reg_covar is not None and not to_the_end:
        found = findings.describe_high_floor(options.reg_covar, spread, model.parameters_, names)
        if found is not None:
            yield (
                f"--reg-covar {found}, and makes the covariances; use a smaller one, or leave it "
                f"out: it is then {RELATIVE:g} of each column's variance"
            )
    if model.dropped_starts_:
        starts = ", ".join(str(start) for start in model.dropped_starts_)
        yield (
            f"of {len(candidate.histories)} starts these were dropped, because a component "
            f"collapsed: {starts}; use a larger --reg-covar to keep them"
        )
    if model.reseeded_:
        who = name_components(model.reseeded_)
        yield f"{who} collapsed on the way and started again at random rows"
    if model.collapsed_:
        who = findings.name_collapsed(model.collapsed_, model.parameters_, model.reg_covar, names)
        yield (
            f"{who}: in some direction the floor (--reg-covar) or a kept covariance gives more of "
            "the variance than the rows do; use a smaller -k, or leave out --columns that are "
            "constant or depend on others"
        )


def _collapse(error: CollapseError, family: str, on_collapse: str) -> str:
    """Say of a fit that failed what the estimator says, in the options of the command."""
    who = name_components(error.components) + ", counted from 0,"
    if not FAMILIES[family].per_component:
        who = "the shared covariance"
    others = " or ".join(way for way in ("reseed", "keep") if way != on_collapse)
    return (
        f"{who} collapsed: the rows there span less than all dimensions, so that the likelihood "
        f"has no maximum; use a larger --reg-covar, --on-collapse {others}, or a smaller -k"
    )
