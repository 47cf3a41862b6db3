"""The reference, step by step: each intermediate beside what two independent judges say of it.

The reference runs as it is, and its local variables are recorded as its functions return; nothing
is computed here in its place. Beside each stands the same number by plain formulas, its gradient
from complex steps, and both by PyTorch where it is installed. The equation of a variable is the
one that the line which makes it cites.

Letters in shapes: N samples, K components, D dimensions, B full blocks of samples.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np import reference
from gmm_np.checks import FloatArray
from gmm_np.lesson.judges import Start, all_judges
from gmm_np.lesson.recording import Record, notes_on, record

__all__ = ["Row", "add_command", "example", "walk"]

TOLERANCE: Final = 1e-12  # some hundred roundings of 1.1e-16 each, at numbers of order one


def example(n_samples: int = 4, n_components: int = 2, n_features: int = 2, seed: int = 0) -> Start:
    """Draw a small mixture and data for it, rounded so that they can be copied by hand."""
    rng = np.random.default_rng(seed)
    factors = np.tril(0.5 * rng.normal(size=(n_components, n_features, n_features)), -1)
    factors += np.eye(n_features) * rng.uniform(0.6, 1.6, size=(n_components, n_features, 1))
    means = 1.5 * rng.normal(size=(n_components, n_features))
    x = 1.5 * rng.normal(size=(n_samples, n_features))
    weight = rng.integers(1, 4, size=n_samples).astype(np.float64)
    logits = rng.normal(size=n_components)
    return Start(*(np.round(array, 1) for array in (x, logits, means, factors, weight)))


# --- what there is to see -----------------------------------------------------------------------


class Step(NamedTuple):
    """What a variable of the reference is, in the words of the judges."""

    shape: str  # in letters
    judged: str  # "value" of a quantity, "gradient" with respect to it, or "minus gradient"
    quantity: str  # its name in gmm_np.lesson.judges; {k} stands for the component


def _inside_logsumexp(caller: str, name: str, shape: str, one: str, value: str) -> dict[str, Step]:
    call = f"{caller}>logsumexp_forward."
    return {
        call + "largest": Step(one, "value", f"{name} largest"),
        call + "shift": Step(one, "value", f"{name} largest"),
        call + "exponentials": Step(shape, "value", f"{name} exponentials"),
        call + "others": Step(shape, "value", f"{name} others"),
        call + "value": Step(value, "value", f"{name} logsumexp"),
        call + "total": Step(one, "value", f"{name} total"),
        call + "softmax": Step(shape, "value", f"{name} softmax"),
    }


# Variable by variable, in the order of the story; the parts "of a component" repeat for each. A
# function that is called from two places has its caller before it.
PARTS: Final[dict[str, dict[str, Step]]] = {
    "Forward: the weights of the components": {
        "log_softmax_forward.shifted": Step("K", "value", "shifted"),
        **_inside_logsumexp("log_softmax_forward", "weights", "K", "1", ""),
        "log_softmax_forward.log_pi": Step("K", "value", "log_pi"),
    },
    "Forward: the density of a component": {
        "quadratic_form_forward.residual": Step("N, D", "value", "residual {k}"),
        "quadratic_form_forward.whitened": Step("N, D", "value", "whitened {k}"),
        "quadratic_form_forward.quadratic": Step("N", "value", "quadratic {k}"),
        "half_log_det_forward.diagonal": Step("D", "value", "diagonal {k}"),
        "half_log_det_forward.half_log_det": Step("", "value", "half_log_det {k}"),
        "log_density_forward.half_quadratic": Step("N", "value", "half_quadratic {k}"),
        "log_density_forward.log_density": Step("N", "value", "log_density {k}"),
    },
    "Forward: the mixture and the loss": {
        "nll_forward.log_joint": Step("N, K", "value", "log_joint"),
        **_inside_logsumexp("nll_forward", "mixture", "N, K", "N, 1", "N"),
        "reduce_forward.weight": Step("N", "value", "weight in units"),
        "reduce_forward.loss": Step("N", "value", "loss in units"),
        "reduce_forward.total_weight": Step("", "value", "total in units"),
        "reduce_forward.value": Step("", "value", "value"),
        "reduce_forward.coefficient": Step("N", "value", "coefficient"),
    },
    "Backward: from the loss to the terms, and to the logits": {
        "nll_backward.d_out": Step("", "gradient", "value"),
        "reduce_backward.d_log_likelihood": Step("N", "gradient", "log_likelihood"),
        "logsumexp_backward.d_terms": Step("N, K", "gradient", "log_joint"),
        "nll_backward>sum_over_samples.total": Step("K", "gradient", "log_pi"),
        "log_softmax_backward.d_pi_logits": Step("K", "gradient", "pi_logits"),
    },
    "Backward: through the density of a component": {
        "log_density_backward.d_quadratic": Step("N", "gradient", "quadratic {k}"),
        "log_density_backward.d_half_log_det": Step("", "gradient", "half_log_det {k}"),
        "quadratic_form_backward.pull": Step("N, D", "value", "pull {k}"),
        "quadratic_form_backward.d_residual": Step("N, D", "gradient", "residual {k}"),
        "quadratic_form_backward>sum_over_samples.total": Step("D", "minus gradient", "mean {k}"),
        "quadratic_form_backward.d_mean": Step("D", "gradient", "mean {k}"),
        # The sum of products in blocks of samples: B blocks, none for few samples, and the rest.
        "sum_of_products.products": Step("B, D, D", "value", "products {k}"),
        "sum_of_products>sum_over_samples.total": Step("DD", "value", "sum of products {k}"),
        "sum_of_products.rest": Step("D, D", "value", "rest {k}"),
        "quadratic_form_backward.d_factor": Step("D, D", "gradient", "factor of the form {k}"),
        "half_log_det_backward.d_factor": Step("D, D", "gradient", "factor of the determinant {k}"),
        "log_density_backward.d_factor": Step("D, D", "gradient", "factor {k}"),
    },
    "Backward: all components together": {
        "nll_backward.d_means": Step("K, D", "gradient", "means"),
        "nll_backward.d_scale_tril": Step("K, D, D", "gradient", "scale_tril"),
        "nll_backward.d_x": Step("N, D", "gradient", "x"),
        "nll_backward.gradients[1]": Step("K, D", "gradient", "means"),
        "nll_backward.gradients[2]": Step("K, D, D", "gradient", "scale_tril"),
    },
}
# Variables of `nll_forward` that are its arguments, checked and copied.
INPUTS: Final = ("logits", "mu", "L", "data", "weight")
# Whose own line does not cite, or not for this call: what is only picked, started or collected.
EQUATIONS: Final = {
    "half_log_det_forward.diagonal": [8],
    "nll_backward.d_out": [12],
    "nll_backward>sum_over_samples.total": [16],
    "sum_of_products>sum_over_samples.total": [20],
    "nll_backward.d_means": [19],
    "nll_backward.gradients[1]": [19],
    "nll_backward.d_scale_tril": [20, 21],
    "nll_backward.gradients[2]": [20, 21],
}


class Row(NamedTuple):
    """An intermediate of the reference, and what the judges say."""

    part: str
    key: str
    record: Record
    shape: str  # in letters
    equations: list[int]
    line: str
    judged: dict[str, FloatArray]  # by judge

    @property
    def error(self) -> float:
        """Largest difference from any judge, relative to the largest entry; NaN is infinite.

        Relative to a thousandth at least: what vanishes is a difference of numbers of order one.
        """
        worst = 0.0
        for theirs in self.judged.values():
            size = max(float(np.abs(theirs).max(initial=0.0)), 1e-3)
            difference = float(np.abs(self.record.value - theirs).max(initial=0.0)) / size
            worst = max(worst, difference if np.isfinite(difference) else np.inf)
        return worst

    @property
    def agrees(self) -> bool:
        """Whether all judges agree with the reference."""
        return self.error <= TOLERANCE


def walk(start: Start) -> list[Row]:
    """Run the reference forward and backward; return all its intermediates, judged.

    Parameters
    ----------
    start : Start

    Returns
    -------
    list of Row
        In the order of `PARTS`, component after component.

    Raises
    ------
    LookupError
        If the reference has a variable that `PARTS` does not know, or in another shape.
    OSError
        If the source of the reference is not installed.
    """

    def run() -> None:
        *arguments, weight = start
        _, cache = reference.nll_forward(*arguments, sample_weight=weight)
        reference.nll_backward(cache)

    _, records = record(run)
    verdicts = all_judges(start)
    n_samples, n_features = start.x.shape
    sizes = {"N": n_samples, "K": len(start.means), "D": n_features, "DD": n_features**2}
    sizes["B"] = n_samples // max(reference.ROWS, n_features)
    places = {
        key: (i, j, part)
        for i, (part, steps) in enumerate(PARTS.items())
        for j, key in enumerate(steps)
    }
    rows = []
    for entry in records:
        if entry.function == "nll_forward" and entry.name in INPUTS:
            continue
        key = f"{entry.function}.{entry.name}"
        key = key if key in places else f"{entry.caller}>{key}"
        if key not in places:
            raise LookupError(f"{key} is an intermediate of the reference that PARTS lacks.")
        i, j, part = places[key]
        step = PARTS[part][key]
        letters = step.shape.split(", ") if step.shape else []
        if entry.value.shape != tuple(int(sizes.get(a, a)) for a in letters):
            raise LookupError(f"{key} has shape {entry.value.shape}; PARTS says [{step.shape}].")
        quantity = step.quantity.format(k=entry.component)
        sign = -1.0 if step.judged == "minus gradient" else 1.0
        judged = {
            judge: sign
            * (verdict.values if step.judged == "value" else verdict.gradients)[quantity]
            for judge, verdict in verdicts.items()
        }
        notes = notes_on(entry.function)
        equations = EQUATIONS.get(key) or notes.equations.get(entry.name, [])
        line = notes.lines.get(entry.name, "")
        row = Row(part, key, entry, step.shape, equations, line, judged)
        rows.append(((i, entry.component or 0, j), row))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


# --- how it is shown ----------------------------------------------------------------------------


def report(start: Start, rows: list[Row], *, table_only: bool = False) -> Iterator[str]:
    """Yield the lines of the walk: the start, each step, and the table."""
    judges = list(rows[0].judged)
    if not table_only:
        yield "The start. Equations are those of docs/derivation.md; all is in float64 and nats."
        for name, array in zip(Start._fields, start, strict=True):
            yield f"\n{name}  {list(array.shape)}"
            yield from _matrices([array])
        last = ""
        for number, row in enumerate(rows, 1):
            heading = _heading(row)
            if heading != last:
                yield f"\n\n=== {heading} ===\n    columns: the reference | {' | '.join(judges)}"
                last = heading
            yield f"\n{number}. {_name(row)}  [{row.shape}]  {_equations(row)}"
            if row.line:
                yield f"    {row.line}"
            yield from _matrices([row.record.value, *row.judged.values()])
        yield "\n"
    yield f"The reference beside {' and '.join(judges)}"
    yield ""
    yield f"{'':>3}  {'intermediate':<43}{'k':>2}  {'shape':<8} {'equations':<12} {'error':>8}"
    yield "-" * 88
    for number, row in enumerate(rows, 1):
        k = "" if row.record.component is None else str(row.record.component)
        verdict = "agrees" if row.agrees else "DIFFERS"
        yield (
            f"{number:>3}  {_name(row):<43}{k:>2}  {'[' + row.shape + ']':<10} "
            f"{_equations(row):<10} {row.error:8.1e}  {verdict}"
        )
    agreeing = sum(row.agrees for row in rows)
    worst = max(row.error for row in rows)
    yield f"\n{agreeing} of {len(rows)} rows agree within {TOLERANCE:.0e}; worst error {worst:.1e}"


def _heading(row: Row) -> str:
    if row.record.component is None:
        return row.part
    return row.part.replace("a component", f"component {row.record.component}")


def _name(row: Row) -> str:
    """Name the function and the variable, and the name that its caller gives to it."""
    caller = [name for _, name in row.record.aliases if name != row.record.name]
    name = f"{row.record.function.removesuffix('_forward').removesuffix('_backward')}: "
    return name + " = ".join([row.record.name, *caller[-1:]])


def _equations(row: Row) -> str:
    return ", ".join(f"({n})" for n in row.equations)


def _matrices(arrays: list[FloatArray]) -> Iterator[str]:
    """Yield lines with arrays of one shape side by side, vectors as columns."""
    if not arrays[0].size:
        yield "    (empty)"
    width = arrays[0].shape[-1] if arrays[0].ndim > 1 else 1
    for rows in zip(*(np.reshape(a, (-1, width)) for a in arrays), strict=True):
        cells = (" ".join(f"{v + 0.0:12.8f}" for v in row) for row in rows)
        yield "    " + "  |".join(cells)


# --- the command --------------------------------------------------------------------------------


def add_command(commands: Any) -> None:
    """Add ``walkthrough`` to the command line."""
    parser = commands.add_parser(
        "walkthrough",
        help="the forward and the backward, step by step, beside PyTorch",
        description="Run the reference on a small mixture and show every intermediate with its "
        "shape, equation and values, forward and backward, beside the same by plain formulas and "
        "complex steps, and by PyTorch where it is installed. It ends with a table. Exit code 1 "
        "if a row differs by more than 1e-12.",
    )
    for option, default, what in (
        ("samples", 4, "N"),
        ("components", 2, "K"),
        ("features", 2, "D"),
    ):
        parser.add_argument(
            f"--{option}", type=_size, default=default, metavar=what, help="default: %(default)s"
        )
    parser.add_argument("--seed", type=_size, default=1, help="of the example, from 1")
    parser.add_argument("--table", action="store_true", help="the table alone")
    parser.set_defaults(run=_run)


def _size(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 50):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 50; got {text!r}")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    start = example(options.samples, options.components, options.features, options.seed)
    rows = walk(start)
    for line in report(start, rows, table_only=options.table):
        print(line)
    return 0 if all(row.agrees for row in rows) else 1
