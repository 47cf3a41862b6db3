"""What `gmm-np fit --report` writes: the data, the choice, the mixture, pictures and rows."""

from __future__ import annotations

import argparse
import heapq
import platform
import shlex
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.special import entr

import gmm_np
from gmm_np.checks import FloatArray, counted, name_components
from gmm_np.commands.candidates import error_text
from gmm_np.commands.fit_report import (
    ROWS_DRAWN,
    criterion_figure,
    floor_text,
    reason,
)
from gmm_np.commands.html_page import Html, join, page, picture, table, tag
from gmm_np.commands.report import (
    SOLVERS,
    correlations_of,
    heaviest,
    reached,
    strongest,
    with_error,
)
from gmm_np.commands.samples import Samples
from gmm_np.commands.standard_errors import ErrorsOrWhyNot
from gmm_np.covariance import FAMILIES
from gmm_np.files import atomic_write
from gmm_np.model_selection import CRITERIA, Candidate, Selection
from gmm_np.progress import Progress
from gmm_np.tables import TableError

_LISTED: Final = 10  # rows of a list of rows
_COLUMNS: Final = 8  # columns of the data that such a list shows
_MISSING: Final = {
    "error": "not admitted",
    "drop": "rows that have one are left out",
    "marginal": "each row counts by what is there of it",
}
_PAIRED: Final = 4  # columns of which every two are drawn


def write_report(
    path: Path,
    selection: Selection,
    samples: Samples,
    options: argparse.Namespace,
    errors: ErrorsOrWhyNot,
) -> None:
    """Write the report as one HTML file, whole or not at all, after one more pass over the rows."""
    rows = _read(samples, selection.model)
    best, name = selection.best, Path(samples.table.file).name
    several = len(selection.candidates) > 1
    how = f", {reason(selection)} among {len(selection.candidates)} candidates" if several else ""
    lead = tag(
        "p",
        f"{samples.summary(best.n_samples)}. The mixture has "
        f"{counted(best.n_components, 'component')} of family {best.family}{how}.",
    )
    sections = [
        ("data", "The data", _data(samples, rows)),
        ("choice", "The choice of K" if several else "The fit", _choice(selection, options)),
        ("mixture", "The mixture", _mixture(selection, samples, errors)),
        ("pictures", "Pictures", _pictures(selection, samples, options)),
        ("hard", "Rows hardest to place", _hardest(rows, samples, best)),
        ("unlikely", "Rows least likely", _least_likely(rows, samples)),
        ("made", "How it was made", _made(selection, samples, options)),
    ]
    title = f"Gaussian mixture of {name}"
    text = page(title, lead, sections, f"gmm-np {gmm_np.__version__}")
    with atomic_write(path) as stream:
        stream.write(text.encode())


# --- one pass over the rows -----------------------------------------------------------------------


class _Row(NamedTuple):
    """A row that is listed."""

    order: float  # less is listed earlier
    place: str
    values: FloatArray  # [D]
    probabilities: FloatArray  # [K]
    log_density: float


class _Rows:
    """Of each column what there is of it, and the rows that are listed."""

    def __init__(self, n_features: int) -> None:
        self.n_rows = 0
        self.present = np.zeros(n_features, np.int64)  # [D]
        self.least, self.most = np.full(n_features, np.inf), np.full(n_features, -np.inf)
        self.weight, self.mean, self.squares = np.zeros((3, n_features))
        self.hardest: list[_Row] = []
        self.least_likely: list[_Row] = []

    def add(self, x: FloatArray, weight: FloatArray) -> None:
        """Count rows [n, D] of weights [n]; sums of squares are about the mean so far."""
        there = ~np.isnan(x)
        self.n_rows += len(x)
        self.present += there.sum(axis=0)
        self.least = np.fmin(self.least, np.where(there, x, np.inf).min(axis=0))
        self.most = np.fmax(self.most, np.where(there, x, -np.inf).max(axis=0))
        share, values = weight[:, None] * there, np.where(there, x, 0.0)
        total = share.sum(axis=0)
        own = np.where(total > 0, total, 1.0)
        mean = (share * values).sum(axis=0) / own
        squares = (share * (values - mean) ** 2).sum(axis=0)
        both = np.where(self.weight + total > 0, self.weight + total, 1.0)
        step = mean - self.mean
        self.squares += squares + step**2 * self.weight * total / both
        self.mean += step * total / both
        self.weight += total

    def deviation(self) -> FloatArray:
        """Return the standard deviation of each column, [D]."""
        return np.asarray(np.sqrt(self.squares / np.where(self.weight > 0, self.weight, 1.0)))


def _read(samples: Samples, model: Any) -> _Rows:
    """Read the rows with their places in the files; those of no weight are left out."""
    model = copy(model).set_params(missing=samples.missing)
    rows = _Rows(len(samples.names))
    members = samples.table.members()
    with Progress("report", unit="row") as line:
        for member in members:
            where = f"{member.file}, {member.unit}" if len(members) > 1 else member.unit
            for block in member.blocks():
                x, weight = block.values, np.ones(len(block.values))
                if samples.weight is not None:
                    x, weight = np.ascontiguousarray(x[:, :-1]), x[:, -1]
                used = np.flatnonzero(weight > 0)
                line.advance(len(x))
                if len(used):
                    rows.add(x[used], weight[used])
                    _list_rows(rows, model, x, used, where, block.places)
    return rows


def _list_rows(
    rows: _Rows, model: Any, x: FloatArray, used: Any, where: str, places: Sequence[int]
) -> None:
    probabilities, log_density = model.predict_proba(x[used]), model.score_samples(x[used])
    # A density of fewer columns is no match for one of all.
    density = np.where(np.isnan(x[used]).any(axis=1), np.inf, log_density)
    orders = (-entr(probabilities).sum(axis=1), density)
    for name, order in zip(("hardest", "least_likely"), orders, strict=True):
        chosen = [i for i in np.argsort(order, kind="stable")[:_LISTED] if order[i] < np.inf]
        found = [
            _Row(
                float(order[i]),
                f"{where} {places[int(used[i])]}",
                x[used[i]].copy(),
                probabilities[i].copy(),
                float(log_density[i]),
            )
            for i in chosen
        ]
        kept = heapq.nsmallest(_LISTED, getattr(rows, name) + found, key=lambda row: row.order)
        setattr(rows, name, kept)


# --- the sections ---------------------------------------------------------------------------------


def _number(value: float) -> str:
    """Return a number of the data: as it is if it is short, or five digits of it."""
    return (
        "" if np.isnan(value) else f"{value:.10g}" if len(f"{value:.10g}") < 9 else f"{value:.5g}"
    )


def _data(samples: Samples, rows: _Rows) -> Html:
    weighted = ", by the weights" if samples.weight is not None else ""
    n_rows, missing = rows.n_rows, rows.n_rows - rows.present
    marks = ["missing"] if missing.any() else []
    found = []
    for j, name in enumerate(samples.labels):
        values = (rows.least[j], rows.most[j], rows.mean[j], rows.deviation()[j])
        lacks = [str(missing[j])] if marks else []
        found.append([name, *lacks, *(_number(float(value)) for value in values)])
    caption = f"{counted(n_rows, 'row')}, {counted(len(found), 'column')}"
    if samples.table.n_dropped:
        caption += f"; left out for a missing value: {counted(samples.table.n_dropped, 'row')}"
    head = [
        "column",
        *marks,
        "least",
        "largest",
        f"mean{weighted}",
        f"standard deviation{weighted}",
    ]
    return table(caption, head, found)


def _choice(selection: Selection, options: argparse.Namespace) -> Html:
    from gmm_np.plotting import captions

    order = {family: index for index, family in enumerate(options.family)}
    candidates = sorted(
        selection.candidates, key=lambda c: (order.get(c.family, 0), c.n_components)
    )
    least = {name: replace(selection, criterion=name).best for name in CRITERIA}
    rows = [_candidate(c, least, selection, options) for c in candidates]
    several = len(candidates) > 1
    caption = "Less is better. "
    caption += f"Chosen: {selection.best.name}, {reason(selection)}." if several else ""
    head = ["family", "K", "parameters", "log-likelihood", *(n.upper() for n in CRITERIA), "notes"]
    parts = [
        table(
            caption,
            head,
            rows,
            note=len(head) - 1,
            chosen=[i for i, c in enumerate(candidates) if several and c is selection.best],
        )
    ]
    if several:
        parts.append(
            tag(
                "p",
                "BIC estimates which mixture has made the data, ICL asks beside it for components "
                "that lie apart, and AIC for the best prediction; the least of each is in bold.",
            )
        )
        first = selection.criterion
        for name in [first, *(other for other in CRITERIA if other != first)]:
            own = least[name]
            chooses = "is the choice" if name == first else f"the {name.upper()} would choose"
            caption = f"{captions.criterion(name.upper())} That is {own.name}, which {chooses}."
            figure = criterion_figure(selection, options, name)
            what = f"{name.upper()} by number of components; least at {own.name}"
            parts.append(picture(figure, what, caption))
    return join(parts)


def _candidate(
    c: Candidate,
    least: dict[str, Candidate],
    selection: Selection,
    options: argparse.Namespace,
) -> list[object]:
    if not c.criteria:
        why = f"not fitted: {error_text(c, options)}"
        return [c.family, c.n_components, *[""] * (2 + len(CRITERIA)), why]
    values = [f"{c.criteria[name]:.2f}" for name in CRITERIA]
    several = len(selection.candidates) > 1
    marked = [
        tag("strong", value) if several and least[name] is c else value
        for name, value in zip(CRITERIA, values, strict=True)
    ]
    notes = ["chosen"] if several and c is selection.best else []
    if c.model is not None:
        notes += [] if c.model.converged_ else [reached(False, c.model.n_iter_)]
        notes += [f"collapsed: {name_components(c.collapsed)}"] if c.collapsed else []
    likelihood = f"{c.criteria['log_likelihood']:.3f}"
    notes += c.notes
    return [c.family, c.n_components, c.n_parameters, likelihood, *marked, "; ".join(notes)]


def _mixture(selection: Selection, samples: Samples, found: ErrorsOrWhyNot) -> Html:
    errors, p = found.errors, selection.model.parameters_
    weights, means, covariances = p.weights(), p.means.astype(np.float64), p.covariances()
    shown, names = heaviest(weights), samples.labels
    parts: list[Html] = []
    if errors is None:
        why = "" if found.failure is None else str(found.failure)
        parts.append(tag("p", tag("strong", "No standard errors. "), why, class_="warning"))
    else:
        what = f"Standard errors ({errors.kind}) are in parentheses."
        parts.append(tag("p", what, " Components are counted from 0."))
        parts += [tag("p", doubt, class_="warning") for doubt in found.doubts]

    def said(value: float, error: float | None) -> str:
        return f"{value:.5g}" if error is None else with_error(value, error)

    rows, pairs = [], []
    for k in shown:
        weight = said(weights[k], None if errors is None else errors.weights[k])
        deviations = np.sqrt(np.diagonal(covariances[k]))
        for j, name in enumerate(names):
            mean = said(means[k, j], None if errors is None else errors.means[k, j])
            spread = said(deviations[j], None if errors is None else errors.deviations[k, j])
            rows.append([_component(int(k)), "" if j else weight, name, mean, spread])
        if FAMILIES[p.family].has_factors and len(names) > 1:
            own, known = correlations_of(covariances[k]), None
            if errors is not None and errors.correlations is not None:
                known = np.broadcast_to(errors.correlations, covariances.shape)[k]
            for i, j in strongest(own):
                value = said(own[i, j], None if known is None else known[i, j])
                pairs.append([_component(int(k)), names[i], names[j], value])
    caption = "The components"
    if len(weights) > len(shown):
        caption += f", the heaviest {len(shown)} of {len(weights)}"
    head = ["component", "weight", "column", "mean", "standard deviation"]
    parts.append(table(caption, head, rows, text=(0, 2)))
    if pairs:
        caption = "Correlations within the components"
        total = len(names) * (len(names) - 1) // 2
        most = len(strongest(np.eye(len(names))))
        caption += f", the strongest {most} of {total} each" if total > most else ""
        head = ["component", "column", "and column", "correlation"]
        parts.append(table(caption, head, pairs, text=(0, 1, 2)))
    return join(parts)


def _component(k: int) -> Html:
    """Return a component's number behind the colour that it has in the pictures."""
    from gmm_np.plotting.canvas import look

    return join([tag("span", class_="swatch", style=f"background: {look(k)['color']}"), k])


def _pictures(selection: Selection, samples: Samples, options: argparse.Namespace) -> Html:
    from gmm_np import plotting
    from gmm_np.plotting import captions

    model, names = selection.model, samples.labels
    try:
        x = samples.some_rows(ROWS_DRAWN, options.seed)
    except TableError as error:
        return tag("p", str(error))
    what = f"{len(names)} columns" if len(names) > 2 else " and ".join(names)
    made = f"{counted(selection.best.n_components, 'component')} fitted to {what}"
    parts = []
    if len(names) <= 2:
        figure = plotting.plot_mixture(x, model, labels=names)
        parts.append(picture(figure, f"The data and {made}", captions.mixture(len(names))))
    if len(names) > 1:
        chosen = _telling(selection.model, _PAIRED)
        figure = plotting.plot_pairs(x, model, labels=names, dimensions=chosen)
        left_out = len(names) - len(chosen)
        caption = captions.PAIRS
        if left_out:
            many = f"{left_out} others are" if left_out > 1 else "1 other is"
            caption += (
                f" Drawn are the {len(chosen)} columns in which the components lie farthest apart "
                f"for their spread; {many} left out."
            )
        parts.append(picture(figure, f"Every two columns, and {made}", caption))
    return join(parts)


def _telling(model: Any, most: int) -> list[int]:
    """Return the columns in which the means lie farthest apart, for the whole spread, in order."""
    p = model.parameters_
    weights, means = p.weights(), p.means.astype(np.float64)
    between = weights @ (means - weights @ means) ** 2  # [D]
    within = weights @ np.diagonal(p.covariances(), axis1=1, axis2=2)
    chosen = np.argsort(-between / (between + within), kind="stable")[:most]
    return sorted(int(j) for j in chosen)


def _hardest(rows: _Rows, samples: Samples, best: Candidate) -> Html:
    if best.n_components == 1:
        return tag("p", "There is one component, to which every row belongs.")
    about = (
        "The rows whose component is least certain: the entropy of a row's probabilities is 0 "
        f"where it is certain, and log {best.n_components} = {np.log(best.n_components):.3f} nats "
        "where all components are as likely."
    )

    def own(row: _Row) -> Iterator[object]:
        first, second = np.argsort(-row.probabilities, kind="stable")[:2]
        for k in (first, second):
            yield join([_component(int(k)), f": {row.probabilities[k]:.4f}"])
        yield f"{abs(row.order):.4f}"

    head = ["most likely component", "the next", "entropy"]
    return _list(about, rows.hardest, samples, head, own)


def _least_likely(rows: _Rows, samples: Samples) -> Html:
    about = "The rows of the lowest density under the mixture, candidates for outliers and errors."
    if not rows.least_likely:
        return tag(
            "p", "No row is complete, and densities of different columns cannot be compared."
        )

    def own(row: _Row) -> Iterator[object]:
        yield _component(int(row.probabilities.argmax()))
        yield f"{row.log_density:.4f}"

    return _list(about, rows.least_likely, samples, ["component", "log density"], own)


def _list(about: str, rows: list[_Row], samples: Samples, head: list[str], own: Any) -> Html:
    names = samples.labels[:_COLUMNS]
    if len(samples.labels) > len(names):
        about += f" Of {len(samples.labels)} columns the first {len(names)} are shown."
    cells = [
        [row.place, *(_number(float(v)) for v in row.values[: len(names)]), *own(row)]
        for row in rows
    ]
    return table(about, ["row", *names, *head], cells)


def _made(selection: Selection, samples: Samples, options: argparse.Namespace) -> Html:
    best, model = selection.best, selection.model
    packages = ["numpy", "scipy", "matplotlib"]
    versions = [f"gmm-np {gmm_np.__version__}", f"Python {platform.python_version()}"]
    tol = SOLVERS[options.solver].tol if options.tol is None else options.tol
    solver = SOLVERS[options.solver]
    fitted = " on standardised columns" if options.standardize else ""
    facts: list[tuple[str, object]] = [
        ("Command", tag("code", shlex.join(["gmm-np", *options.arguments]))),
        ("Directory", tag("code", Path.cwd())),
        ("When", datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")),
        ("Versions", ", ".join([*versions, *(f"{name} {version(name)}" for name in packages)])),
        ("System", platform.platform()),
        ("Seed", options.seed),
        ("Solver", f"{solver.title}{fitted}, to the end {solver.ends} than {tol:g} nats a sample"),
        ("Starts", f"{len(best.histories)} of the chosen mixture; the best is kept"),
        ("Convergence", reached(model.converged_, model.n_iter_)),
        ("Added to variances", floor_text(model, samples.labels, options)),
        ("Missing values", _MISSING[options.missing]),
    ]
    if best.collapsed:
        facts.append(("Collapsed", name_components(best.collapsed)))
    if options.out is not None:
        facts.append(("Model", tag("code", options.out)))
    cells = [tag("dt", name) + tag("dd", what) for name, what in facts]
    return tag("dl", Html("".join(cells)))
