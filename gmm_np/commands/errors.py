"""gmm-np errors: what a fitted mixture is known to."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gmm_np.checks import FloatArray, counted
from gmm_np.commands.fit_report import draw_mixture
from gmm_np.commands.models import load_model
from gmm_np.commands.options import (
    Commands,
    add_data_options,
    add_json,
    add_model,
    add_pairing_option,
    add_picture_options,
    add_seed,
    add_weights,
    new_command,
    tell,
)
from gmm_np.commands.report import (
    correlations_of,
    heaviest,
    json_text,
    mixture_document,
    strongest,
    to_digits_of,
)
from gmm_np.commands.samples import Columns, load_samples
from gmm_np.commands.standard_errors import (
    TO_THE_MAXIMUM,
    add_bootstrap,
    check_bootstrap,
    errors_document,
    find_errors,
)
from gmm_np.covariance import FAMILIES
from gmm_np.inference import KINDS, Intervals, StandardErrors
from gmm_np.tables.cells import read_number


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new_command(
        commands,
        "errors",
        _run,
        usage="MODEL DATA",
        summary="print standard errors and intervals of a fitted mixture",
        description=f"""Print weights, means, standard deviations and correlations of a model that
        `gmm-np fit --out` wrote, each with its standard error and its interval. DATA are the rows
        that it was fitted to; columns are found as by `gmm-np score`. The errors are of the
        maximum of the likelihood, to which gmm-np fit {TO_THE_MAXIMUM} goes. The table is read in
        blocks, and may be larger than memory.""",
        examples="""
        gmm-np errors model.npz data.csv
        gmm-np errors model.npz data.csv --kind sandwich --level 0.9
        gmm-np errors model.npz data.csv --kind bootstrap --bootstrap 500 --json
        """,
    )
    add_model(parser)
    add_data_options(parser)
    add_pairing_option(parser)
    add_weights(parser, "a column of the mixture; 2 counts as the row twice")
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default=KINDS[0],
        metavar="KIND",
        help="by hessian, the inverse of the observed information; opg, of the sum of outer "
        "products of scores; sandwich, of both, right also where the data are no such mixture; or "
        "bootstrap, the spread of fits to data with random weights (default: %(default)s)",
    )
    add_bootstrap(parser)
    add_seed(parser, "the bootstrap (default: 0)")
    parser.add_argument(
        "--level",
        type=_level,
        default=0.95,
        metavar="P",
        help="of the intervals: the probability that one has the true value in it (default: "
        "%(default)s)",
    )
    add_picture_options(
        parser,
        plot="a picture of data and mixture, with the interval or the region of each mean",
    )
    add_json(parser)


class Estimate(NamedTuple):
    """A number, its standard error, and its interval."""

    name: str
    value: float
    error: float
    interval: FloatArray  # [2]


def _run(options: argparse.Namespace) -> int:
    check_bootstrap(options, options.kind, "--kind")
    model, names = load_model(options.model)
    n_components, n_features = model.means_.shape
    samples = load_samples(options, stream=True, columns=Columns(n_features, names))
    tell(samples.notes)
    fit_again = f"fit to the same rows with gmm-np fit {TO_THE_MAXIMUM}"
    remedy = None if model.collapsed_ else fit_again
    errors, n_samples, _ = find_errors(
        samples, model.parameters_, options.kind, options, flag="--kind", remedy=remedy
    )
    intervals = errors.intervals(options.level)
    if options.plot is not None:
        title = f"{Path(samples.table.file).name}: K = {n_components}, {model.covariance_type}"
        draw_mixture(
            samples,
            model,
            options.plot,
            title,
            seed=options.seed,
            errors=errors,
            level=options.level,
        )
    if options.json:
        document = {
            "n_samples": n_samples,
            "n_dropped": samples.table.n_dropped,
            **mixture_document(model),
            "standard_errors": errors_document(errors),
            "level": options.level,
            "intervals": {**intervals._asdict(), "deviations": np.sqrt(intervals.variances)},
            "columns": samples.names,
        }
        print(json_text(document))
        return 0
    print(
        f"{samples.summary(n_samples)}\n"
        f"{counted(n_components, 'component')}, family {model.covariance_type}, with standard "
        f"errors ({options.kind}) and intervals of {100 * options.level:g} %\n"
    )
    print("\n".join(_table(errors, intervals, samples.labels)))
    if options.plot is not None:
        print(f"\nPicture: {options.plot}")
    return 0


def _table(errors: StandardErrors, intervals: Intervals, names: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the table, the heaviest components if there are many."""
    weights, family = errors.parameters.weights(), FAMILIES[errors.parameters.family]
    shown = heaviest(weights)
    blocks = []
    for k in shown:
        own = [
            Estimate("weight", weights[k], errors.weights[k], intervals.weights[k]),
            *_means(errors, intervals, names, k),
        ]
        own += [] if family.shared else _spread(errors, intervals, names, k)
        blocks.append((f"component {k}", own))
    if family.shared:
        blocks.append(("all components", list(_spread(errors, intervals, names, int(shown[0])))))
    width = 2 + max(len(estimate.name) for _, own in blocks for estimate in own)
    width = max(width, len("The components, counted from 0"))
    heads = ("estimate", "std. error", "from", "to")
    yield f"{'The components, counted from 0':<{width}}" + "".join(f"{h:>13}" for h in heads)
    for title, own in blocks:
        yield title
        for name, value, error, interval in own:
            numbers = to_digits_of(error, value, error, *interval)
            yield f"  {name:<{width - 2}}" + "".join(f"{number:>13}" for number in numbers)
    d = len(names)
    pairs, told = d * (d - 1) // 2 if family.has_factors else 0, len(strongest(np.eye(d)))
    rest = counted(len(weights) - len(shown), "component")
    left_out = [f"{rest} of less weight"] if len(weights) > len(shown) else []
    left_out += [f"all but the strongest {told} of {pairs} correlations"] if pairs > told else []
    if left_out:
        yield f"left out: {' and '.join(left_out)}; --json has all"


def _means(
    errors: StandardErrors, intervals: Intervals, names: Sequence[str], k: int
) -> Iterator[Estimate]:
    means = errors.parameters.means.astype(np.float64)
    for j, name in enumerate(names):
        which = (k, j)
        yield Estimate(
            f"mean of {name[:30]}", means[which], errors.means[which], intervals.means[which]
        )


def _spread(
    errors: StandardErrors, intervals: Intervals, names: Sequence[str], k: int
) -> Iterator[Estimate]:
    """Yield deviations, one where it is that of all columns, and correlations."""
    covariance = errors.parameters.covariances()[k]
    deviations = np.sqrt(np.diagonal(covariance))
    by_column = FAMILIES[errors.parameters.family].structure.by_column
    for j, name in enumerate(names if by_column else ["all columns"]):
        yield Estimate(
            f"standard deviation of {name[:30]}",
            deviations[j],
            errors.deviations[k, j],
            np.sqrt(intervals.variances[k, j]),
        )
    if errors.correlations is None or intervals.correlations is None:
        return
    correlations = correlations_of(covariance)
    own = np.broadcast_to(errors.correlations, intervals.correlations.shape[:-1])[k]
    for i, j in strongest(correlations):
        yield Estimate(
            f"correlation of {names[i][:30]} and {names[j][:30]}",
            correlations[i, j],
            own[i, j],
            intervals.correlations[k, i, j],
        )


def _level(text: str) -> float:
    value = read_number(text)
    if value is None or not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, as 0.95; got {text!r}")
    return value
