"""The reference, step by step: each intermediate beside what two independent judges say of it.

The primitives of the reference are called one by one, forward and backward, and the gradients that
come out are those of `nll_backward`, bit for bit. Beside each intermediate stands the same number
by plain formulas, its gradient from complex steps, and both by PyTorch where it is installed.
Chapter two does the same with the tangents, whose end is the Hessian along a direction.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from gmm_np import reference
from gmm_np.checks import FloatArray
from gmm_np.lesson.independent import (
    Answers,
    Start,
    by_complex_steps,
    by_pytorch,
    has_pytorch,
    rates_by_complex_steps,
    rates_by_pytorch,
)
from gmm_np.parameters import Gradients, check_direction

__all__ = ["Row", "add_command", "example", "example_direction", "walk", "walk_tangents"]

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


def example_direction(start: Start, seed: int = 0) -> Gradients:
    """Draw how fast each argument moves, rounded as the example is."""
    rng = np.random.default_rng((seed, 2))  # 2: another stream than that of the example
    x, logits, means, factors = (np.round(rng.normal(size=a.shape), 1) for a in start[:4])
    return Gradients(logits, means, np.tril(factors), x)


# --- the walk -----------------------------------------------------------------------------------


class Row(NamedTuple):
    """An intermediate of the reference, and what the judges say.

    Attributes
    ----------
    part : str
        Where the walk is.
    name : str
        What the reference calls it. A gradient begins with ``d_``, a tangent with ``dot_``.
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
    floor : float
        What errors are relative to at least: a thousandth of the terms whose differences these are.
    """

    part: str
    name: str
    component: int | None
    shape: str
    equations: tuple[int, ...]
    formula: str
    value: FloatArray
    judged: dict[str, FloatArray]
    floor: float = 1e-3

    @property
    def error(self) -> float:
        """Largest difference from any judge, relative to the largest entry; NaN is infinite."""
        worst = 0.0
        for theirs in self.judged.values():
            size = max(float(np.abs(theirs).max(initial=0.0)), self.floor)
            difference = float(np.abs(self.value - theirs).max(initial=0.0)) / size
            worst = max(worst, difference if np.isfinite(difference) else np.inf)
        return worst

    @property
    def agrees(self) -> bool:
        """Whether all judges agree with the reference."""
        return self.error <= TOLERANCE


class _Rows:
    """The rows of a walk, each judged as it is added."""

    def __init__(
        self, values: dict[str, Answers], gradients: dict[str, Answers], prefix: str = ""
    ) -> None:
        self.rows: list[Row] = []
        self.part = ""
        self.component: int | None = None
        self.floor = 1e-3  # numbers of order one
        self._values, self._gradients, self._prefix = values, gradients, prefix

    def add(
        self, name: str, value: Any, shape: str, equations: tuple[int, ...], formula: str
    ) -> None:
        """Add an intermediate. What is called d_<quantity>, after the prefix, is its gradient."""
        of = name.removeprefix(self._prefix)
        quantity = of.removeprefix("d_")
        if self.component is not None:
            quantity += f" {self.component}"
        if of.startswith("d_"):
            judged = {who: answers.gradients[quantity] for who, answers in self._gradients.items()}
        else:
            judged = {who: answers.values[quantity] for who, answers in self._values.items()}
        value = np.array(value)
        row = Row(
            self.part, name, self.component, shape, equations, formula, value, judged, self.floor
        )
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
    plain = by_complex_steps(start)
    pytorch = {"PyTorch": by_pytorch(start)} if has_pytorch() else {}
    rows = _Rows({"plain formula": plain, **pytorch}, {"complex step": plain, **pytorch})
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
    *arguments, weight = start
    _, cache = reference.nll_forward(*arguments, sample_weight=weight)
    found = (d_pi_logits, d_means, d_scale_tril, d_x)
    _check_the_whole("nll_backward", found, reference.nll_backward(cache))
    return rows.rows


def walk_tangents(start: Start, direction: Gradients) -> list[Row]:
    """Go through chapter two of the reference: the tangents of the walk, judged.

    Parameters
    ----------
    start : Start
    direction : Gradients
        How fast the arguments move. None in it stands for zero.

    Returns
    -------
    list of Row

    Raises
    ------
    AssertionError
        If the steps, one by one, do not give the products of `nll_hvp`.
    """
    x, pi_logits, means, scale_tril, weight = start
    arguments, components = (x, pi_logits, means, scale_tril), range(len(means))
    dot_pi_logits, dot_means, dot_scale, dot_x = check_direction(direction, means, scale_tril, x)
    moves = Start(dot_x, dot_pi_logits, dot_means, dot_scale, np.zeros_like(weight))
    judges = {"complex step": rates_by_complex_steps(start, moves)}
    if has_pytorch():
        judges["PyTorch"] = rates_by_pytorch(start, moves)
    rows = _Rows(judges, judges, "dot_")
    add = rows.add
    _, cache = reference.nll_forward(*arguments, sample_weight=weight)

    rows.part = "Tangent: the weights of the components"
    dot_log_pi, dot_pi = reference.log_softmax_tangent(dot_pi_logits, cache.pi)
    add("dot_log_pi", dot_log_pi, "K", (50,), "dot_log pi_k = dot_a_k - sum_j pi_j dot_a_j")
    add("dot_pi", dot_pi, "K", (50,), "dot_pi_k = pi_k dot_log pi_k")

    dot_log_joint, dot_z = np.empty_like(cache.log_joint), []
    for k in components:
        rows.part, rows.component = f"Tangent: the density of component {k}", k
        component = (dot_x, dot_means[k], dot_scale[k], scale_tril[k], cache.z[k])
        add("dot_residual", dot_x - dot_means[k], "N, D", (51,), "dot_e_nk = dot_x_n - dot_mu_k")
        dot_quadratic, dot_z_k = reference.quadratic_form_tangent(*component)
        add("dot_z", dot_z_k, "N, D", (51,), "L_k dot_z_nk = dot_e_nk - dot_L_k z_nk")
        add("dot_quadratic", dot_quadratic, "N", (52,), "dot_q_nk = 2 z_nk^T dot_z_nk")
        _, diagonal = reference.half_log_det_forward(scale_tril[k])
        dot_half_log_det = reference.half_log_det_tangent(dot_scale[k], diagonal)
        add("dot_half_log_det", dot_half_log_det, "", (53,),
            "dot_h_k = sum_i dot_L_k,ii / L_k,ii")  # fmt: skip
        dot_log_density, _ = reference.log_density_tangent(*component)
        add("dot_log_density", dot_log_density, "N", (54,), "- 1/2 dot_q_nk - dot_h_k")
        dot_log_joint[:, k] = dot_log_pi[k] + dot_log_density
        dot_z.append(dot_z_k)

    rows.part, rows.component = "Tangent: the mixture and the loss", None
    # Those of the responsibilities, and all that follows, are differences of these.
    rows.floor *= max(1.0, float(np.abs(dot_log_joint).max()))
    add("dot_log_joint", dot_log_joint, "N, K", (54,),
        "dot_t_nk = dot_log pi_k - 1/2 dot_q_nk - dot_h_k")  # fmt: skip
    dot_log_likelihood, dot_resp = reference.logsumexp_tangent(dot_log_joint, cache.resp)
    add("dot_log_likelihood", dot_log_likelihood, "N", (55,), "dot_l_n = sum_k r_nk dot_t_nk")
    add("dot_resp", dot_resp, "N, K", (55,), "dot_r_nk = r_nk (dot_t_nk - dot_l_n)")
    dot_value = reference.reduce_tangent(dot_log_likelihood, cache.coefficient, "mean")
    add("dot_value", dot_value, "", (56,), "dot_f = -sum_n (w_n / W) dot_l_n")

    rows.part = "Backward tangent: from the loss to the terms, and to the logits"
    d_log_likelihood = reference.reduce_backward(np.ones(()), cache.coefficient)
    dot_d_log_likelihood = reference.reduce_backward_tangent(np.zeros(()), cache.coefficient)
    add("dot_d_log_likelihood", dot_d_log_likelihood, "N", (57,),
        "dot_d_l_n = -(w_n / W) dot_d_f")  # fmt: skip
    d_log_joint = reference.logsumexp_backward(d_log_likelihood, cache.resp)
    dot_d_log_joint = reference.logsumexp_backward_tangent(
        dot_d_log_likelihood, d_log_likelihood, cache.resp, dot_resp
    )
    add("dot_d_log_joint", dot_d_log_joint, "N, K", (58,),
        "dot_d_t_nk = dot_r_nk d_l_n + r_nk dot_d_l_n")  # fmt: skip
    d_log_pi = reference.sum_over_samples(d_log_joint)
    dot_d_log_pi = reference.sum_over_samples(dot_d_log_joint)
    add("dot_d_log_pi", dot_d_log_pi, "K", (59,), "dot_d_log pi_k = sum_n dot_d_t_nk")
    dot_d_pi_logits = reference.log_softmax_backward_tangent(
        dot_d_log_pi, d_log_pi, cache.pi, dot_pi
    )
    add("dot_d_pi_logits", dot_d_pi_logits, "K", (59,),
        "dot_d_a_k = dot_d_log pi_k - dot_pi_k sum_j d_log pi_j - pi_k sum_j dot_d_log pi_j",
        )  # fmt: skip

    dot_d_x, dot_d_means = np.zeros_like(x), np.empty_like(means)
    dot_d_scale = np.empty_like(scale_tril)
    for k in components:
        rows.part, rows.component = f"Backward tangent: through the density of component {k}", k
        factor, dot_factor = scale_tril[k], dot_scale[k]
        through = (factor, dot_factor, cache.z[k], dot_z[k])
        d_quadratic, dot_d_quadratic = -0.5 * d_log_joint[:, k], -0.5 * dot_d_log_joint[:, k]
        add("dot_d_quadratic", dot_d_quadratic, "N", (60,), "dot_d_q_nk = -1/2 dot_d_t_nk")
        d_half_log_det = -float(d_log_joint[:, k].sum())
        dot_d_half_log_det = -float(dot_d_log_joint[:, k].sum())
        add("dot_d_half_log_det", dot_d_half_log_det, "", (60,), "dot_d_h_k = -sum_n dot_d_t_nk")
        y = solve_triangular(factor, cache.z[k].T, lower=True, trans="T").T
        dot_y = solve_triangular(factor, (dot_z[k] - y @ dot_factor).T, lower=True, trans="T").T
        add("dot_y", dot_y, "N, D", (61,), "L_k^T dot_y_nk = dot_z_nk - dot_L_k^T y_nk")
        dot_d_residual, dot_d_mean, dot_d_factor = reference.quadratic_form_backward_tangent(
            dot_d_quadratic, d_quadratic, *through
        )
        add("dot_d_residual", dot_d_residual, "N, D", (61,),
            "dot_d_e_nk = 2 dot_d_q_nk y_nk + 2 d_q_nk dot_y_nk")  # fmt: skip
        add("dot_d_mean", dot_d_mean, "D", (62,), "dot_d_mu_k = -sum_n dot_d_e_nk")
        add("dot_d_factor of the quadratic form", dot_d_factor, "D, D", (63,),
            "dot_d_L_k <- -tril(sum_n (dot_d_e_nk z_nk^T + d_e_nk dot_z_nk^T))")  # fmt: skip
        _, diagonal = reference.half_log_det_forward(factor)
        dot_d_factor = reference.half_log_det_backward_tangent(
            dot_d_half_log_det, d_half_log_det, dot_factor, diagonal
        )
        add("dot_d_factor of the determinant", dot_d_factor, "D, D", (64,),
            "dot_d_L_k,ii <- (dot_d_h_k - d_h_k dot_L_k,ii / L_k,ii) / L_k,ii")  # fmt: skip
        dot_d_x_k, dot_d_means[k], dot_d_scale[k] = reference.log_density_backward_tangent(
            dot_d_log_joint[:, k], d_log_joint[:, k], *through
        )
        add("dot_d_factor", dot_d_scale[k], "D, D", (12,), "the factor is used twice: the sum")
        dot_d_x += dot_d_x_k

    rows.part, rows.component = "Backward tangent: all components together", None
    add("dot_d_means", dot_d_means, "K, D", (62,), "dot_d_mu_k = -sum_n dot_d_e_nk")
    add("dot_d_scale_tril", dot_d_scale, "K, D, D", (63, 64), "the sum of both, for each k")
    add("dot_d_x", dot_d_x, "N, D", (62,), "dot_d_x_n = sum_k dot_d_e_nk")
    found = (dot_d_pi_logits, dot_d_means, dot_d_scale, dot_d_x)
    whole = reference.nll_hvp(*arguments, direction, sample_weight=weight)
    _check_the_whole("nll_hvp", found, whole)
    return rows.rows


def _check_the_whole(function: str, found: tuple[FloatArray, ...], expected: Gradients) -> None:
    """Raise if the steps are not those of the whole function."""
    for name, got, whole in zip(Gradients._fields, found, expected, strict=True):
        if whole is None or not np.array_equal(got, whole):
            raise AssertionError(
                f"{name} of the walk is not that of {function}, bit for bit: the walk does not "
                "take the steps that gmm_np/reference.py takes."
            )


# --- how it is shown ----------------------------------------------------------------------------


def report(
    start: Start,
    rows: list[Row],
    *,
    direction: Gradients | None = None,
    table_only: bool = False,
) -> Iterator[str]:
    """Yield the lines of the walk: the start, its direction, each step, and the table."""
    if not table_only:
        yield "The start. Equations are those of docs/derivation.md; all is in float64 and nats."
        for name, array in zip(Start._fields, start, strict=True):
            yield f"\n{name}  {list(array.shape)}"
            yield from _matrices([array])
        for name, move in direction._asdict().items() if direction is not None else ():
            if move is not None:
                yield f"\nrate of {name}  {list(move.shape)}"
                yield from _matrices([move])
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
    yield f"{'':>3}  {'intermediate':<35}{'k':>2}  {'shape':<10} {'equations':<10} {'error':>8}"
    yield "-" * 82
    for number, row in enumerate(rows, 1):
        k = "" if row.component is None else str(row.component)
        verdict = "agrees" if row.agrees else "DIFFERS"
        yield (
            f"{number:>3}  {row.name:<35}{k:>2}  {'[' + row.shape + ']':<10} "
            f"{_equations(row):<10} {row.error:8.1e}  {verdict}"
        )
    agreeing = sum(row.agrees for row in rows)
    worst = max(row.error for row in rows)
    yield f"\n{agreeing} of {len(rows)} rows agree within {TOLERANCE:.0e}; worst error {worst:.1e}"
    if direction is None:
        yield "The last gradients are those of nll_backward, bit for bit."
    else:
        yield "The last tangents are the products of nll_hvp, bit for bit."


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
        "ends with a table. Chapter 2 goes through the tangents of both, whose end is the Hessian "
        "along a direction. Exit code 1 if a row differs by more than 1e-12.",
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
    parser.add_argument(
        "--chapter",
        type=int,
        choices=(1, 2),
        default=1,
        help="1: the gradients; 2: the Hessian along a direction; default: %(default)s",
    )
    parser.add_argument("--table", action="store_true", help="the table alone")
    parser.set_defaults(run=_run)


def _size(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 50):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 50; got {text!r}")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    start = example(options.samples, options.components, options.features, options.seed)
    direction = example_direction(start, options.seed) if options.chapter == 2 else None
    rows = walk(start) if direction is None else walk_tangents(start, direction)
    for line in report(start, rows, direction=direction, table_only=options.table):
        print(line)
    return 0 if all(row.agrees for row in rows) else 1
