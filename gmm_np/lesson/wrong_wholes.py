# ruff: noqa: ARG005, I001 (forms take all arguments and forget some; imports stand as a block)
"""Wrong forms of the whole loss, of a diagonal family, and of a factor's gradient from S.

The whole is a chain of steps. A wrong form of a step, put in its place, is one of the whole, which
so knows all mistakes of its primitives; only the steps between them are declared here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.linalg import inv

from gmm_np import reference
from gmm_np.checks import FloatArray
from gmm_np.lesson.exercise_set import D, K, N, Outputs, Part
from gmm_np.lesson.wrong_forms import (
    ABSOLUTE, AXIS, EACH, EARLY, FACTOR, FILLED, LAST, LOG_OF_SUM, MISSING, NEGATIVE, PLACE,
    REDUCTION, ROWS, SIGMA, SIGN, TAKEN, TERMS, TRANSPOSE, TRIANGLE, F, WrongForm, early, instead,
    square, taken, wrong_forms,
)  # fmt: skip
from gmm_np.reference import LOG_2_PI

__all__ = ["wrong_answers"]

# fmt: off

OF_PI: Final = "The constant is (D/2) log(2 pi): D is the number of columns of x."
CONSTANTS: Final = [  # in place of -(D/2) log(2 pi)
    (TAKEN, "K/2 for D/2 in the constant", -0.5 * K * LOG_2_PI),
    (TAKEN, "N/2 for D/2 in the constant", -0.5 * N * LOG_2_PI),
    (MISSING, "2 in the constant: log pi for log(2 pi)", -0.5 * D * math.log(math.pi)),
    (MISSING, "the logarithm in the constant", -0.5 * D * 2 * math.pi),
]
TERMS["log_joint.log_joint"] = (
    ("log pi", "the quadratic form", "the log-determinant", "(D/2) log(2 pi)"),
    lambda log_pi, q, h: (log_pi + 0 * q, -q / 2, -h, -0.5 * D * LOG_2_PI),
)
ROWS["log_joint.log_joint"] = [
    *(instead("log_joint.log_joint", 3, k, name, lambda *_, c=c: c, OF_PI)
      for k, name, c in CONSTANTS),
    instead("log_joint.log_joint", 0, TAKEN, "pi for log pi", lambda log_pi, q, h: np.exp(log_pi),
            "The logarithm of pi_k N(x_n) has the sum log pi_k + log N(x_n)."),
]
ROWS["responsibilities.resp"] = [
    F(TAKEN, "the weights pi for the responsibilities", lambda resp, pi: pi + 0 * resp,
      "A component answers for a sample by r_nk, the softmax over the terms of that sample."),
]
MEAN_OF_LOGS: Final = "One logarithm a sample, and the mean of these: -(1/N) sum_n l_n."
ROWS["loss.value"] = [
    F(REDUCTION, "not averaged over the samples", lambda likelihood: -likelihood, MEAN_OF_LOGS),
    F(TAKEN, "the logarithm of a mean for the mean of logarithms",
      lambda likelihood: -np.log(np.exp(likelihood).mean()), MEAN_OF_LOGS),
]
ROWS["half_log_det_weight.d_half_log_det"] = [
    F(MISSING, "the responsibilities do not enter: each log-determinant counts once",
      lambda d_joint: np.ones(K)),
]
TERMS["sum_of_two.d_factor"] = (
    ("what comes through the quadratic form", "what comes through the log-determinant"),
    lambda *two: two,
)
ADDED: Final = "x is used by every component, so that K gradients add: d_x += in the loop."
ROWS["sum_over_components.d_x"] = [
    F(MISSING, "all components but the last: d_x is set in the loop, not added to",
      lambda parts: parts[-1], ADDED),
]
# Output names and function of each; those between the primitives first, which are more specific.
STEPS: Final[dict[str, tuple[tuple[str, ...], Callable[..., Outputs]]]] = {
    "log_joint": (("log_joint",), lambda *a: (sum(TERMS["log_joint.log_joint"][1](*a)),)),
    "loss": (("value",), lambda likelihood: (-likelihood.mean(),)),
    "responsibilities": (("resp",), lambda resp, pi: (resp,)),
    "logits_weight": (("d_log_pi",), lambda d_joint: (d_joint.sum(axis=0),)),
    "quadratic_weight": (("d_quadratic",), lambda d_joint: (-d_joint / 2,)),
    "half_log_det_weight": (("d_half_log_det",), lambda d_joint: (-d_joint.sum(axis=0),)),
    "sum_of_two": (("d_factor",), lambda form, log_det: (form + log_det,)),
    "sum_over_components": (("d_x",), lambda parts: (parts.sum(axis=0),)),
    "log_softmax_forward": (("log_pi", "pi"), reference.log_softmax_forward),
    "quadratic_form_forward": (("quadratic", "z"), reference.quadratic_form_forward),
    "half_log_det_forward": (("half_log_det", "diagonal"), reference.half_log_det_forward),
    "logsumexp_forward": (("value", "softmax"), reference.logsumexp_forward),
    "logsumexp_backward": (("d_terms",), lambda *a: (reference.logsumexp_backward(*a),)),
    "log_softmax_backward": (("d_pi_logits",), lambda *a: (reference.log_softmax_backward(*a),)),
    "quadratic_form_backward": (("d_x", "d_mean", "d_factor"), reference.quadratic_form_backward),
    "half_log_det_backward": (("d_factor",), lambda *a: (reference.half_log_det_backward(*a),)),
}
# What the value is made of: blamed for the value alone, which is right where a gradient is wrong.
OF_VALUE: Final = {"log_joint", "value", "log_pi", "quadratic", "half_log_det"}


def whole(
    bent: tuple[str, int, Callable[..., Any]],
    x: FloatArray, logits: FloatArray, means: FloatArray, factors: FloatArray,
) -> Outputs:
    """Return the outputs of ``nll`` if a step has a wrong form for its output at a place."""
    step, place, wrong = bent

    def do(name: str, *arguments: Any) -> Outputs:
        outputs = list(STEPS[name][1](*arguments))
        if name == step:
            shape = np.shape(outputs[place])
            outputs[place] = np.asarray(wrong(*arguments), dtype=np.float64)
            if outputs[place].shape != shape and step != "loss":
                raise ValueError("nothing follows from an output of another shape")
        return tuple(outputs)

    log_pi, pi = do("log_softmax_forward", logits)  # [K], [K]
    forms = [do("quadratic_form_forward", x, m, L) for m, L in zip(means, factors, strict=True)]
    dets = [do("half_log_det_forward", L) for L in factors]
    quadratic, half_log_det = np.stack([q for q, _ in forms], 1), np.array([h for h, _ in dets])
    (log_joint,) = do("log_joint", log_pi, quadratic, half_log_det)  # [N, K]
    likelihood, resp = do("logsumexp_forward", log_joint)  # [N], [N, K]
    (value,) = do("loss", likelihood)
    (resp,) = do("responsibilities", resp, pi)
    (d_joint,) = do("logsumexp_backward", np.full(len(x), -1 / len(x)), resp)  # [N, K]
    (d_logits,) = do("log_softmax_backward", *do("logits_weight", d_joint), pi)
    (d_quadratic,), (d_half,) = do("quadratic_weight", d_joint), do("half_log_det_weight", d_joint)
    d_x, d_means, d_factors = list[Any](), list[Any](), list[Any]()
    for k, (m, L) in enumerate(zip(means, factors, strict=True)):
        back = do("quadratic_form_backward", d_quadratic[:, k], x, m, L, forms[k][1])
        d_x.append(back[0])
        d_means.append(back[1])
        d_factors += do("sum_of_two", back[2], *do("half_log_det_backward", d_half[k], dets[k][1]))
    (d_all,) = do("sum_over_components", np.stack(d_x))
    return value, d_logits, np.stack(d_means), np.stack(d_factors), d_all


def _of_whole(place: int) -> Iterator[WrongForm]:
    """Yield the wrong forms of an output of the whole, from those of its steps."""
    for step, (names, solution) in STEPS.items():
        for at, name in enumerate(names):
            if (name in OF_VALUE) != (place == 0):
                continue
            forms = wrong_forms(f"{step}.{name}", lambda *a, s=solution, at=at: s(*a)[at])
            where = f"in {step}, " if step.endswith("ward") else f"in {name}, "
            where = "" if name in ("value", "d_x") and not step.endswith("ward") else where
            for form in forms:
                yield form._replace(
                    name=where + form.name,
                    wrong=lambda *a, step=step, at=at, form=form: (
                        whole((step, at, form.wrong), *a)[place]),
                )


def wrong_answers(part: Part, place: int) -> Iterator[WrongForm]:
    """Yield the wrong forms of an output of an exercise, the specific before the general."""
    key = f"{part.name}.{part.output_names[place]}"
    yield from wrong_forms(key, lambda *a: part.solution(*a)[place])
    if part.name == "nll":
        yield from _of_whole(place)


# --- a diagonal family --------------------------------------------------------------------------

DENSITY: Final = "diagonal_log_density_forward.log_density"
DEVIATION: Final = "s is a standard deviation: e is divided by s, then squared; log s is whole."
TERMS[DENSITY] = (
    ("the quadratic form", "the log-determinant", "(D/2) log(2 pi)"),
    lambda x, m, s: (-square((x - m) / s) / 2, -np.log(s).sum(), -0.5 * D * LOG_2_PI),
)
ROWS[DENSITY] = [
    *(instead(DENSITY, 2, k, name, lambda *_, c=c: c, OF_PI) for k, name, c in CONSTANTS),
    *(instead(DENSITY, 0, kind, name, lambda x, m, s, z=z: -square(z(x, m, s)) / 2, DEVIATION)
      for kind, name, z in (
        (TAKEN, "deviations for variances: e^2 / s", lambda x, m, s: (x - m) / np.sqrt(s)),
        (TAKEN, "variances for deviations: e^2 / s^4", lambda x, m, s: (x - m) / s**2),
        (TAKEN, "multiplied by s, not divided", lambda x, m, s: (x - m) * s),
        (MISSING, "the division by s", lambda x, m, s: x - m),
        (MISSING, "the mean is not subtracted", lambda x, m, s: x / s))),
    instead(DENSITY, 0, TAKEN, "deviations for variances", lambda x, m, s: (
        -square((x - m) / np.sqrt(s)) / 2 + np.log(s).sum() / 2), DEVIATION),
    instead(DENSITY, 0, MISSING, "the square", lambda x, m, s: -((x - m) / s).sum(axis=1) / 2),
    instead(DENSITY, 1, SIGN, ABSOLUTE, lambda x, m, s: -np.abs(np.log(s)).sum(), NEGATIVE),
    instead(DENSITY, 1, TAKEN, LOG_OF_SUM, lambda x, m, s: -np.log(s.sum()), EACH),
    instead(DENSITY, 1, MISSING, "the logarithm of s", lambda x, m, s: -s.sum(), EACH),
    instead(DENSITY, 1, MISSING, "the logarithm: a product", lambda x, m, s: -np.prod(s), EACH),
    F(MISSING, "the logarithm: this is the density", lambda *a: np.exp(sum(TERMS[DENSITY][1](*a)))),
    F(REDUCTION, "summed over the samples", lambda *a: sum(TERMS[DENSITY][1](*a)).sum(), AXIS),
]
OVER: Final = "Each sample's derivative counts d_log_density_n times, and the samples are summed."
ROWS["diagonal_log_density_backward.d_mean"] = [
    F(MISSING, "a division by s", lambda d, x, m, s: d @ ((x - m) / s)),
    F(TAKEN, "divided by s three times", lambda d, x, m, s: d @ ((x - m) / s**3)),
    F(REDUCTION, "not summed over the samples", lambda d, x, m, s: d[:, None] * (x - m) / s**2,
      OVER),
    F(MISSING, "d_log_density does not enter", lambda d, x, m, s: ((x - m) / s**2).sum(axis=0),
      OVER),
]
D_S: Final = "diagonal_log_density_backward.d_deviation"
TERMS[D_S] = (
    ("e^2/s^3, through the quadratic form", "1/s, through the log-determinant"),
    lambda d, x, m, s: (d @ ((x - m) ** 2 / s**3), -d.sum() / s),
)
ROWS[D_S] = [
    instead(D_S, 0, MISSING, "a division by s in the first term",
            lambda d, x, m, s: d @ ((x - m) ** 2 / s**2)),
    instead(D_S, 0, MISSING, "the square in the first term",
            lambda d, x, m, s: d @ ((x - m) / s**3)),
    instead(D_S, 1, MISSING, "the division by s in the second term", lambda d, *_: -d.sum()),
    instead(D_S, 1, REDUCTION, "1/s is there once, not once a sample",
            lambda d, x, m, s: -1 / s, OVER),
    F(TAKEN, "this is the gradient in log s", lambda *a: sum(TERMS[D_S][1](*a)) * a[3], DEVIATION),
    F(TAKEN, "this is the gradient in the variance s^2",
      lambda *a: sum(TERMS[D_S][1](*a)) / (2 * a[3]), DEVIATION),
    F(REDUCTION, "not summed over the samples",
      lambda d, x, m, s: d[:, None] * ((x - m) ** 2 / s**3 - 1 / s), OVER),
    F(MISSING, "d_log_density does not enter",
      lambda d, x, m, s: ((x - m) ** 2 / s**3 - 1 / s).sum(axis=0), OVER),
]

# --- the gradient of a factor from S ------------------------------------------------------------

FROM_S: Final = "factor_gradient.d_factor"
INSIDE: Final = "The product is Sigma^-1 S Sigma^-1 L: two solves with Sigma, and L behind them."
TERMS[FROM_S] = (
    ("n diag(1 / L_ii)", "the term with S"),
    lambda L, n, S: (np.diag(n / np.diag(L)), -np.tril(inv(L @ L.T) @ S @ inv(L @ L.T) @ L)),
)
ROWS[FROM_S] = [
    *(instead(FROM_S, 1, TRIANGLE, EARLY, lambda L, n, S, i=i: -early(L, S)[i], LAST)
      for i in range(4)),
    *(instead(FROM_S, 1, TRIANGLE, name, lambda L, n, S, cut=cut: (
        -cut(inv(L @ L.T) @ S @ inv(L @ L.T) @ L))) for name, cut in (
            ("entries above the diagonal are kept", np.asarray),
            ("the upper triangle is kept", np.triu))),
    *(instead(FROM_S, 1, kind, name, lambda L, n, S, f=f: -np.tril(f(L, inv(L @ L.T), S)), hint)
      for kind, name, f, hint in (
        (MISSING, "the last factor L", lambda L, P, S: P @ S @ P, INSIDE),
        (MISSING, "the second Sigma^-1", lambda L, P, S: P @ S @ L, INSIDE),
        (MISSING, "both Sigma^-1", lambda L, P, S: S @ L, INSIDE),
        (MISSING, "the second Sigma^-1, and L", lambda L, P, S: P @ S, INSIDE),
        (MISSING, "half of the first solve", lambda L, P, S: inv(L) @ S @ P @ L, INSIDE),
        (MISSING, "half of the second solve", lambda L, P, S: P @ S @ inv(L).T @ L, INSIDE),
        (TAKEN, "L for Sigma", lambda L, P, S: inv(L) @ S @ inv(L) @ L, INSIDE),
        (TAKEN, SIGMA, lambda L, P, S: inv(taken(L)) @ S @ inv(taken(L)) @ L, FACTOR),
        (TAKEN, f"{SIGMA} at first", lambda L, P, S: inv(taken(L)) @ S @ P @ L, FACTOR),
        (TAKEN, f"{SIGMA} at last", lambda L, P, S: P @ S @ inv(taken(L)) @ L, FACTOR),
        (TAKEN, "* for @: entries are multiplied, not matrices", lambda L, P, S: P @ S @ P * L,
         "@ is the product of matrices."),
        (TRANSPOSE, "Sigma^-1 S is solved with again, not its transpose",
         lambda L, P, S: P @ P @ S @ L, INSIDE),
        (TRANSPOSE, "L before the product", lambda L, P, S: L @ P @ S @ P, INSIDE),
        (TRANSPOSE, "the product in the reverse order", lambda L, P, S: L.T @ P @ S @ P, INSIDE),
        (TRANSPOSE, "L^T for L at the end", lambda L, P, S: P @ S @ P @ L.T, INSIDE),
        (TRANSPOSE, "Sigma = L^T L", lambda L, P, S: inv(L.T @ L) @ S @ inv(L.T @ L) @ L, FACTOR))),
    *(instead(FROM_S, 0, kind, name, term, hint) for kind, name, term, hint in (
        (MISSING, "n before diag(1 / L_ii)", lambda L, n, S: np.diag(1 / np.diag(L)), ""),
        (TAKEN, "multiplied by L_ii, not divided", lambda L, n, S: n * np.diag(np.diag(L)), ""),
        (TAKEN, "divided by L_ii^2", lambda L, n, S: np.diag(n / np.diag(L) ** 2), FACTOR),
        (MISSING, "the division by L_ii", lambda L, n, S: n * np.eye(D), ""),
        (TAKEN, "n L^-1 for its diagonal", lambda L, n, S: n * inv(L), ""),
        (TRIANGLE, "n L^-T for its diagonal", lambda L, n, S: n * inv(L).T, ""),
        (TRIANGLE, FILLED, lambda L, n, S: n / np.diag(L) + 0 * L, PLACE),
        (TRIANGLE, FILLED, lambda L, n, S: (n / np.diag(L))[:, None] + 0 * L, PLACE))),
]
