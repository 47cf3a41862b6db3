"""The reference, step by step: each intermediate beside what two independent judges say of it.

The primitives of the reference are called one by one, forward and backward, and the gradients that
come out are those of `nll_backward`, bit for bit. Beside each intermediate stands the same number
by plain formulas, its gradient from complex steps, and both by PyTorch where it is installed.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.linalg import cho_solve

from gmm_np import reference
from gmm_np.checks import FloatArray
from gmm_np.lesson.independent import Answers, Start, by_complex_steps, by_pytorch, has_pytorch

__all__ = ["Row", "add_command", "example", "walk"]

TOLERANCE: Final = 1e-12  # some hundred roundings of 1.1e-16 each, at numbers of order one


def example(n_samples: int = 4, n_components: int = 2, n_features: int = 2, seed: int = 0) -> Start:
    """Draw a small mixture and data for it, rounded so that they can be copied by hand."""
    rng = np.random.default_rng(seed)
    # Smaller in many dimensions, where a triangle of ones is nearly singular.
    below = 0.5 * min(1.0, 2.0 / n_features)
    factors = np.tril(below * rng.normal(size=(n_components, n_features, n_features)), -1)
    factors += np.eye(n_features) * rng.uniform(0.6, 1.6, size=(n_components, n_features, 1))
    means = 1.5 * rng.normal(size=(n_components, n_features))
    x = 1.5 * rng.normal(size=(n_samples, n_features))
    weight = rng.integers(1, 4, size=n_samples).astype(np.float64)
    logits = rng.normal(size=n_components)
    return Start(*(np.round(array, 1) for array in (x, logits, means, factors, weight)))


# --- the walk -----------------------------------------------------------------------------------


class Row(NamedTuple):
    """An intermediate of the reference, and what the judges say.

    Attributes
    ----------
    part : str
        Where the walk is.
    name : str
        What the reference calls it. A gradient begins with ``d_``.
    component : int or None
    shape : str
        In letters.
    equations : tuple of int
        Of docs/derivation.md.
    formula : str
        As there, in plain text.
    value : ndarray
    judged : dict of str to ndarray
        The same by each judge.
    """

    part: str
    name: str
    component: int | None
    shape: str
    equations: tuple[int, ...]
    formula: str
    value: FloatArray
    judged: dict[str, FloatArray]

    @property
    def error(self) -> float:
        """Largest difference from any judge, relative to the largest entry; NaN is infinite.

        Relative to a thousandth at least: what vanishes is a difference of numbers of order one.
        """
        worst = 0.0
        for theirs in self.judged.values():
            size = max(float(np.abs(theirs).max(initial=0.0)), 1e-3)
            difference = float(np.abs(self.value - theirs).max(initial=0.0)) / size
            worst = max(worst, difference if np.isfinite(difference) else np.inf)
        return worst

    @property
    def agrees(self) -> bool:
        """Whether all judges agree with the reference."""
        return self.error <= TOLERANCE


class _Rows:
    """The rows of a walk, each judged as it is added."""

    def __init__(self, start: Start) -> None:
        self.rows: list[Row] = []
        self.part = ""
        self.component: int | None = None
        plain = by_complex_steps(start)
        pytorch = {"PyTorch": by_pytorch(start)} if has_pytorch() else {}
        self._values: dict[str, Answers] = {"plain formula": plain, **pytorch}
        self._gradients: dict[str, Answers] = {"complex step": plain, **pytorch}

    def add(
        self, name: str, value: Any, shape: str, equations: tuple[int, ...], formula: str
    ) -> None:
        """Add an intermediate. What is called d_<quantity> is the gradient in it."""
        quantity = name.removeprefix("d_")
        if self.component is not None:
            quantity += f" {self.component}"
        if name.startswith("d_"):
            judged = {who: answers.gradients[quantity] for who, answers in self._gradients.items()}
        else:
            judged = {who: answers.values[quantity] for who, answers in self._values.items()}
        value = np.array(value)
        row = Row(self.part, name, self.component, shape, equations, formula, value, judged)
        self.rows.append(row)


def walk(start: Start) -> list[Row]:
    """Go through the reference, forward and backward; return its intermediates, judged.

    Parameters
    ----------
    start : Start

    Returns
    -------
    list of Row

    Raises
    ------
    AssertionError
        If the steps, one by one, do not give the gradients of `nll_backward`.
    """
    x, pi_logits, means, scale_tril, weight = start
    components = range(len(means))
    rows = _Rows(start)
    add = rows.add

    rows.part = "Forward: the weights of the components"
    log_pi, pi = reference.log_softmax_forward(pi_logits)
    add("pi", pi, "K", (4,), "pi_k = e^a_k / sum_j e^a_j")
    add("log_pi", log_pi, "K", (4,), "log pi_k = a_k - logsumexp(a)")

    log_joint, z = np.empty((len(x), len(means))), []
    for k in components:
        rows.part, rows.component = f"Forward: the density of component {k}", k
        add("residual", x - means[k], "N, D", (6,), "e_nk = x_n - mu_k")
        quadratic, z_k = reference.quadratic_form_forward(x, means[k], scale_tril[k])
        add("z", z_k, "N, D", (6,), "L_k z_nk = e_nk")
        add("quadratic", quadratic, "N", (7,), "q_nk = |z_nk|^2")
        half_log_det, _ = reference.half_log_det_forward(scale_tril[k])
        add("half_log_det", half_log_det, "", (8,), "h_k = sum_i log L_k,ii")
        log_density, _ = reference.log_density_forward(x, means[k], scale_tril[k])
        add("log_density", log_density, "N", (9,), "- 1/2 q_nk - h_k - D/2 log 2pi")
        log_joint[:, k] = log_pi[k] + log_density
        z.append(z_k)

    rows.part, rows.component = "Forward: the mixture and the loss", None
    add("log_joint", log_joint, "N, K", (9,), "t_nk = log(pi_k N(x_n; mu_k, Sigma_k))")
    log_likelihood, resp = reference.logsumexp_forward(log_joint)
    add("log_likelihood", log_likelihood, "N", (10,), "l_n = logsumexp_k t_nk")
    add("resp", resp, "N, K", (14,), "r_nk = e^(t_nk - l_n)")
    value, coefficient = reference.reduce_forward(log_likelihood, weight, "mean")
    add("coefficient", coefficient, "N", (3,), "w_n / W")
    add("value", value, "", (11,), "f = -(1 / W) sum_n w_n l_n")

    rows.part = "Backward: from the loss to the terms, and to the logits"
    d_value = np.ones(())
    add("d_value", d_value, "", (12,), "d_f = 1")
    d_log_likelihood = reference.reduce_backward(d_value, coefficient)
    add("d_log_likelihood", d_log_likelihood, "N", (13,), "d_l_n = -(w_n / W) d_f")
    d_log_joint = reference.logsumexp_backward(d_log_likelihood, resp)
    add("d_log_joint", d_log_joint, "N, K", (15,), "d_t_nk = r_nk d_l_n")
    d_log_pi = reference.sum_over_samples(d_log_joint)
    add("d_log_pi", d_log_pi, "K", (16,), "d_log pi_k = sum_n d_t_nk")
    d_pi_logits = reference.log_softmax_backward(d_log_pi, pi)
    add("d_pi_logits", d_pi_logits, "K", (16,), "d_a_k = d_log pi_k - pi_k sum_j d_log pi_j")

    d_x, d_means, d_scale_tril = np.zeros_like(x), np.empty_like(means), np.empty_like(scale_tril)
    for k in components:
        rows.part, rows.component = f"Backward: through the density of component {k}", k
        mean, factor = means[k], scale_tril[k]
        d_quadratic = -0.5 * d_log_joint[:, k]
        add("d_quadratic", d_quadratic, "N", (17,), "d_q_nk = -1/2 d_t_nk")
        d_half_log_det = -float(d_log_joint[:, k].sum())
        add("d_half_log_det", d_half_log_det, "", (17,), "d_h_k = -sum_n d_t_nk")
        y = cho_solve((factor, True), (x - mean).T).T
        add("y", y, "N, D", (18,), "y_nk = Sigma_k^-1 e_nk")
        d_residual, d_mean, d_factor = reference.quadratic_form_backward(
            d_quadratic, x, mean, factor, z[k]
        )
        add("d_residual", d_residual, "N, D", (18,), "d_e_nk = 2 d_q_nk y_nk")
        add("d_mean", d_mean, "D", (19,), "d_mu_k = -sum_n d_e_nk")
        add("d_factor of the quadratic form", d_factor, "D, D", (20,),
            "d_L_k <- -tril(sum_n d_e_nk z_nk^T)")  # fmt: skip
        _, diagonal = reference.half_log_det_forward(factor)
        d_factor = reference.half_log_det_backward(d_half_log_det, diagonal)
        add("d_factor of the determinant", d_factor, "D, D", (21,),
            "d_L_k <- diag(d_h_k / L_k,11, ..., d_h_k / L_k,DD)")  # fmt: skip
        d_x_k, d_means[k], d_scale_tril[k] = reference.log_density_backward(
            d_log_joint[:, k], x, mean, factor, z[k]
        )
        add("d_factor", d_scale_tril[k], "D, D", (12,), "the factor is used twice: the sum")
        d_x += d_x_k

    rows.part, rows.component = "Backward: all components together", None
    add("d_means", d_means, "K, D", (19,), "d_mu_k = -sum_n d_e_nk")
    add("d_scale_tril", d_scale_tril, "K, D, D", (20, 21), "the sum of both, for each k")
    add("d_x", d_x, "N, D", (19,), "d_x_n = sum_k d_e_nk")
    _check_the_whole(start, (d_pi_logits, d_means, d_scale_tril, d_x))
    return rows.rows


def _check_the_whole(start: Start, gradients: tuple[FloatArray, ...]) -> None:
    """Raise if the steps are not those of `nll_backward`."""
    *arguments, weight = start
    _, cache = reference.nll_forward(*arguments, sample_weight=weight)
    for name, got, whole in zip(
        ("d_pi_logits", "d_means", "d_scale_tril", "d_x"),
        gradients,
        reference.nll_backward(cache),
        strict=True,
    ):
        if whole is None or not np.array_equal(got, whole):
            raise AssertionError(
                f"{name} of the walk is not that of nll_backward, bit for bit: the walk does not "
                "take the steps that gmm_np/reference.py takes."
            )


# --- how it is shown ----------------------------------------------------------------------------


def report(start: Start, rows: list[Row], *, table_only: bool = False) -> Iterator[str]:
    """Yield the lines of the walk: the start, each step, and the table."""
    if not table_only:
        yield "The start. Equations are those of docs/derivation.md; all is in float64 and nats."
        for name, array in zip(Start._fields, start, strict=True):
            yield f"\n{name}  {list(array.shape)}"
            yield from _matrices([array])
        last = ""
        for number, row in enumerate(rows, 1):
            if row.part != last:
                yield f"\n\n=== {row.part} ==="
                yield f"    columns: the reference | {' | '.join(row.judged)}"
                last = row.part
            yield f"\n{number}. {row.name}  [{row.shape}]  {_equations(row)}  {row.formula}"
            yield from _matrices([row.value, *row.judged.values()])
        yield "\n"
    pytorch = " and PyTorch" if "PyTorch" in rows[0].judged else ""
    yield f"The reference beside plain formulas, complex steps{pytorch}"
    if not pytorch:
        yield "PyTorch is not installed, and its column is left out: pip install torch"
    yield ""
    yield f"{'':>3}  {'intermediate':<31}{'k':>2}  {'shape':<10} {'equations':<10} {'error':>8}"
    yield "-" * 78
    for number, row in enumerate(rows, 1):
        k = "" if row.component is None else str(row.component)
        verdict = "agrees" if row.agrees else "DIFFERS"
        yield (
            f"{number:>3}  {row.name:<31}{k:>2}  {'[' + row.shape + ']':<10} "
            f"{_equations(row):<10} {row.error:8.1e}  {verdict}"
        )
    agreeing = sum(row.agrees for row in rows)
    worst = max(row.error for row in rows)
    yield f"\n{agreeing} of {len(rows)} rows agree within {TOLERANCE:.0e}; worst error {worst:.1e}"
    yield "The last gradients are those of nll_backward, bit for bit."


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
        description="Call the steps of the reference on a small mixture, and show every "
        "intermediate with its shape, equation, formula and values, forward and backward, beside "
        "the same by plain formulas and complex steps, and by PyTorch where it is installed. It "
        "ends with a table. Exit code 1 if a row differs by more than 1e-12.",
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
