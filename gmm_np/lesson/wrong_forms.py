# ruff: noqa: ARG005 (a wrong form takes all arguments, and often forgets one)
"""Wrong forms of the exercises, as people write them: each is declared once, with what to do.

There are three sources: `ROWS`, a list for each output; `TERMS`, for an output that is a sum, each
term of which may be left out, doubled, halved, or have the other sign; and `ANY`, what any output
may have. The whole loss has those of all its steps: whole.py carries them on.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.linalg import inv
from scipy.special import logsumexp, softmax

from gmm_np.checks import FloatArray
from gmm_np.lesson.exercise_set import D, K, N
from gmm_np.reference import LOG_2_PI

__all__ = ["HINTS", "REDUCTION", "ROWS", "TERMS", "WrongForm", "wrong_forms"]

# Kinds of mistakes, and where to look for those that have no hint of their own.
HINTS: Final = {
    "a sign": "Follow the minus signs from the loss downward, one line at a time.",
    "a transpose": "Write the sum with its indices, and see which index belongs to which factor.",
    "a missing term": "Write the equation's terms one below the other, and find each in your code.",
    "a wrong reduction": "Write the shape behind each line: which axis is summed, and where?",
    "a factor of two": "A square brings down a 2, and log det Sigma is twice sum_i log L_ii.",
    "an upper triangle": "Only the lower triangle of L has parameters: np.tril, as the last step.",
    "one thing taken for another": "Say for each name in the line what it stands for.",
}
SIGN, TRANSPOSE, MISSING, REDUCTION, TWO, TRIANGLE, TAKEN = HINTS


class WrongForm(NamedTuple):
    """A mistake: kind, name, what it makes of the arguments of a function, and where to look."""

    kind: str
    name: str
    wrong: Callable[..., Any]
    own_hint: str = ""

    @property
    def hint(self) -> str:
        """Where to look."""
        return self.own_hint or HINTS[self.kind]

    def then(self, change: Callable[..., Any]) -> WrongForm:
        """Return the mistake that this one makes of what follows: change(wrong, *arguments)."""
        return self._replace(wrong=lambda *a: change(np.asarray(self.wrong(*a)), *a))


F = WrongForm
ROWS: Final[dict[str, list[WrongForm]]] = {}  # by function and output
TERMS: Final[dict[str, tuple[tuple[str, ...], Callable[..., Any]]]] = {}  # names, and the terms


def wrong_forms(key: str, right: Callable[..., Any]) -> Iterator[WrongForm]:
    """Yield the wrong forms of an output; `right` makes it from the arguments as it should be."""
    yield from ROWS.get(key, ())
    for place, name in enumerate(TERMS[key][0] if key in TERMS else ()):
        for kind, text, factor in _OF_A_TERM:
            yield instead(key, place, kind, text.format(name), factor)
    for kind, name, change in ANY:
        yield F(kind, name, lambda *a: np.asarray(right(*a))).then(lambda out, *_, c=change: c(out))


def instead(key: str, place: int, kind: str, name: str, term: Any, hint: str = "") -> WrongForm:
    """Return the form of a sum that has another term at a place, or a factor before it."""

    def wrong(*a: Any) -> Any:
        terms = list(TERMS[key][1](*a))
        terms[place] = term(*a) if callable(term) else term * terms[place]
        return sum(terms)

    return F(kind, name, wrong, hint)


SIZES: Final = (("N", N, "samples"), ("K", K, "components"), ("D", D, "dimensions"))
_OF_A_TERM: Final = (
    (MISSING, "{}", 0.0),
    (SIGN, "{} has the opposite sign", -1.0),
    (TWO, "{} is there twice", 2.0),
    (TWO, "{} is halved", 0.5),
    (SIGN, "{} has the opposite sign, and is halved", -0.5),
    *((REDUCTION, f"{{}} is divided by {n}", 1 / size) for n, size, _ in SIZES),
    *((REDUCTION, f"{{}} is multiplied by {n}", size) for n, size, _ in SIZES),
)


def _without(where: Any) -> Callable[[FloatArray], FloatArray]:
    """Return what takes entries out of matrices [D, D]."""
    return lambda out: np.where(where, 0.0, out) if out.shape[-2:] == (D, D) else out


# fmt: off
ANY: Final[list[tuple[str, str, Callable[[FloatArray], Any]]]] = [
    (SIGN, "all of it has the opposite sign", lambda o: -o),
    (TWO, "it is twice what it should be", lambda o: 2 * o),
    (TWO, "it is half of what it should be", lambda o: o / 2),
    (SIGN, "all of it has the opposite sign, and is doubled", lambda o: -2 * o),
    (SIGN, "all of it has the opposite sign, and is halved", lambda o: -o / 2),
    *((REDUCTION, f"a mean over the {of}, not a sum: divided by {n}", lambda o, m=size: o / m)
      for n, size, of in SIZES),
    *((REDUCTION, f"a sum over the {of}, not a mean: multiplied by {n}", lambda o, m=size: o * m)
      for n, size, of in SIZES),
    (TAKEN, "K for N: divided by K", lambda o: o * N / K),
    (TAKEN, "D for N: divided by D", lambda o: o * N / D),
    (REDUCTION, "an axis of length 1 is left at the end, as by keepdims", lambda o: o[..., None]),
    (REDUCTION, "an axis of length 1 is left in front", lambda o: o[None]),
    (TRANSPOSE, "it is the transpose of what it should be",
     lambda o: np.swapaxes(o, -1, -2) if o.ndim > 1 else o),
    (MISSING, "the diagonal: np.tril was told to start below it", _without(np.eye(D) > 0)),
    (MISSING, "all but the diagonal", _without(np.eye(D) == 0)),
    (TRIANGLE, "it is np.triu of what it should be", _without(np.tri(D, k=-1) > 0)),
]

# --- logsumexp and log_softmax ------------------------------------------------------------------


def _lse(t: FloatArray) -> FloatArray:
    return np.asarray(logsumexp(t, axis=-1))


BACK: Final = "What was taken out comes back: log sum_k e^t_k = m + log sum_k e^(t_k - m)."
AXIS: Final = "The components are the last axis: axis=1, and keepdims=True where rows are divided."
SHARE: Final = "Divide by the sum over the components: each row has to add up to 1."
BESIDE: Final = "d_value[:, None] stands beside each term of its row."
ROWS["logsumexp_forward.value"] = [
    F(MISSING, "the largest term, taken out, is not put back", lambda t: _lse(t) - t.max(-1), BACK),
    F(TAKEN, "the largest term is put back, but was not taken out", lambda t: _lse(t) + t.max(-1)),
    F(SIGN, "the largest term is taken off again", lambda t: _lse(t) - 2 * t.max(axis=-1), BACK),
    F(MISSING, "only the largest term is there", lambda t: t.max(axis=-1), BACK),
    F(MISSING, "the logarithm", lambda t: np.exp(_lse(t))),
    F(MISSING, "the logarithm", lambda t: np.exp(_lse(t) - t.max(axis=-1))),
    F(MISSING, "the logarithm", lambda t: t.max(axis=-1) + np.exp(_lse(t) - t.max(axis=-1))),
    F(TAKEN, "a sum of logarithms for the logarithm of a sum", lambda t: t.sum(axis=-1),
      "Add up the exponentials first, and take one logarithm, of the sum."),
    F(SIGN, "of the exponents", lambda t: t.max(axis=-1) + _lse(t.max(axis=-1)[..., None] - t)),
    F(REDUCTION, "a mean of exponentials, not a sum", lambda t: _lse(t) - math.log(t.shape[-1])),
    F(REDUCTION, "over the samples, not over the components", lambda t: _lse(t.T), AXIS),
    F(REDUCTION, "over everything at once", lambda t: _lse(t.ravel()), AXIS),
]
ROWS["logsumexp_forward.softmax"] = [
    F(MISSING, "it is not normalised", np.exp, SHARE),
    F(MISSING, "it is not normalised", lambda t: np.exp(t - t.max(axis=-1)[..., None]), SHARE),
    F(MISSING, "the exponential: this is its logarithm", lambda t: t - _lse(t)[..., None]),
    F(SIGN, "of the exponents", lambda t: softmax(-t, axis=-1)),
    F(REDUCTION, "normalised over the samples", lambda t: softmax(t, axis=0), AXIS),
    F(REDUCTION, "normalised over the samples",
      lambda t: softmax(t - t.max(axis=-1)[..., None], axis=0), AXIS),
    F(REDUCTION, "normalised over everything at once", softmax, AXIS),
]
ROWS["logsumexp_backward.d_terms"] = [
    F(MISSING, "d_value does not enter", lambda d, s: s, BESIDE),
    F(MISSING, "the softmax does not enter", lambda d, s: d[:, None] + 0 * s, BESIDE),
    F(TAKEN, "the logarithm of the softmax for the softmax", lambda d, s: d[:, None] * np.log(s)),
    F(REDUCTION, "d_value is summed over the samples", lambda d, s: d.sum() * s, BESIDE),
    F(REDUCTION, "d_value is averaged over the samples", lambda d, s: d.mean() * s, BESIDE),
    F(TAKEN, "this is the backward of log_softmax", lambda d, s: d[:, None] * (1 - s),
      "The derivative of log sum_j e^t_j in t_k is the softmax, and nothing more."),
    F(TAKEN, "this is the backward of a softmax", lambda d, s: d[:, None] * s * (1 - s),
      "The derivative of log sum_j e^t_j in t_k is the softmax, and nothing more."),
]

LOG_FIRST: Final = "log_pi is the first output, and pi = exp(log_pi) the second."
TERMS["log_softmax_forward.log_pi"] = ("the logit", "the logsumexp"), lambda a: (a, -_lse(a))
ROWS["log_softmax_forward.log_pi"] = [
    F(MISSING, "the logsumexp: only the largest is taken off", lambda a: a - a.max()),
    F(MISSING, "the logarithm of the sum", lambda a: a - np.exp(a).sum()),
    F(MISSING, "the largest, taken out, is not put back", lambda a: a - _lse(a) + a.max(), BACK),
    F(SIGN, "that of the logarithm of the sum", lambda a: a + _lse(a) - 2 * a.max()),
    F(TAKEN, "pi for log pi", softmax, LOG_FIRST),
    F(REDUCTION, "a mean of exponentials, not a sum", lambda a: a - _lse(a) + math.log(a.size)),
]
ROWS["log_softmax_forward.pi"] = [
    F(MISSING, "it is not normalised", np.exp, SHARE),
    F(MISSING, "it is not normalised", lambda a: np.exp(a - a.max()), SHARE),
    F(TAKEN, "log pi for pi", lambda a: a - _lse(a), LOG_FIRST),
]
IN_16: Final = "In d_a_k, pi_k stands before a sum over all of d_log_pi."
TERMS["log_softmax_backward.d_pi_logits"] = (
    ("the first term", "the second term"), lambda d, p: (d, -p * d.sum()))
ROWS["log_softmax_backward.d_pi_logits"] = [
    F(MISSING, "the weight pi before the sum", lambda d, p: d - d.sum(), IN_16),
    F(MISSING, "the sum behind the weight pi", lambda d, p: d - p, IN_16),
    F(TAKEN, "pi stands before both terms", lambda d, p: p * (d - d.sum()), IN_16),
    F(REDUCTION, "the second term is not summed", lambda d, p: d - p * d, IN_16),
    F(REDUCTION, "pi is inside the sum", lambda d, p: d - (p * d).sum(), IN_16),
    F(TAKEN, "log pi for pi", lambda d, p: d - np.log(p) * d.sum(), IN_16),
    F(TAKEN, "this is the backward of a softmax, not of its logarithm",
      lambda d, p: p * (d - (p * d).sum()), "What comes in is the gradient in log pi, not in pi."),
]

# --- the quadratic form -------------------------------------------------------------------------


def solve(A: FloatArray, x: FloatArray, mean: Any) -> FloatArray:
    """Return A^-1 e, a row a sample."""
    return np.asarray(np.linalg.solve(A, (x - mean).T).T)


def square(rows: FloatArray) -> FloatArray:
    """Return the squared lengths of rows."""
    return np.asarray((rows**2).sum(axis=1))


def taken(L: FloatArray) -> FloatArray:
    """Return what stands for Sigma where the lower triangle of Sigma is taken for its factor."""
    return np.asarray(np.tril(L @ L.T) @ np.tril(L @ L.T).T)


def early(L: FloatArray, S: FloatArray) -> tuple[FloatArray, ...]:
    """Return Sigma^-1 S Sigma^-1 L with np.tril before a product, wherever that is wrong."""
    P = inv(L @ L.T)
    first = P @ np.tril(S) @ P @ L
    return first, np.tril(first), np.tril(P @ S) @ P @ L, np.tril(P @ S @ P) @ L


FACTOR: Final = "cho_solve, solve_triangular and sum_i log L_ii take the factor L; Sigma is L L^T."
SIGMA: Final = "Sigma for its factor L: the lower triangle of Sigma is taken for the factor"
UPPER: Final = "the upper triangle of L is read, where only the diagonal is not zero"
LOWER: Final = "solve_triangular reads the upper triangle unless it is told lower=True."
SAMPLES: Final = "It has the shape of the mean [D]: the samples, axis 0, are summed."
LAST: Final = "Cut once, at the end: np.tril of the whole product."
EARLY: Final = "np.tril comes too early, before a solve or a product"
Z: Final = [  # wrong z, which the form inherits
    F(TRANSPOSE, "solved with L^T, not with L", lambda x, m, L: solve(L.T, x, m)),
    F(MISSING, "the solve: e for z", lambda x, m, L: x - m),
    F(MISSING, "the mean is not subtracted", lambda x, m, L: solve(L, x, 0)),
    F(SIGN, "the mean is added", lambda x, m, L: solve(L, x, -m)),
    F(TAKEN, "multiplied by L, not solved with it", lambda x, m, L: (x - m) @ L.T),
    F(TAKEN, SIGMA, lambda x, m, L: solve(np.tril(L @ L.T), x, m), FACTOR),
    F(TAKEN, "Sigma for its factor L: y = Sigma^-1 e for z = L^-1 e",
      lambda x, m, L: solve(L @ L.T, x, m), FACTOR),
    F(TRIANGLE, UPPER, lambda x, m, L: (x - m) / np.diag(L), LOWER),
]
ROWS["quadratic_form_forward.z"] = Z
ROWS["quadratic_form_forward.quadratic"] = [form.then(lambda z, *_: square(z)) for form in Z] + [
    F(TAKEN, "L for Sigma: e^T L^-1 e", lambda x, m, L: ((x - m) * solve(L, x, m)).sum(axis=1),
      "With the factor, the form is the square of one solve: |L^-1 e|^2."),
    F(MISSING, "the square: a length", lambda x, m, L: np.sqrt(square(solve(L, x, m)))),
    F(MISSING, "the square: a sum of entries", lambda x, m, L: solve(L, x, m).sum(axis=1)),
    F(TAKEN, "the square of a sum", lambda x, m, L: solve(L, x, m).sum(axis=1) ** 2),
    F(TAKEN, "Sigma for its inverse: e^T Sigma e", lambda x, m, L: square((x - m) @ L), FACTOR),
    F(MISSING, "the square: absolute values", lambda x, m, L: abs(solve(L, x, m)).sum(axis=1)),
    F(REDUCTION, "summed over the samples too", lambda x, m, L: square(solve(L, x, m)).sum()),
    F(REDUCTION, "summed over the samples, not over the dimensions",
      lambda x, m, L: (solve(L, x, m) ** 2).sum(axis=0)),
    F(REDUCTION, "not summed over the dimensions", lambda x, m, L: solve(L, x, m) ** 2),
    F(REDUCTION, "all pairs of samples, of which the diagonal is wanted",
      lambda x, m, L: solve(L, x, m) @ solve(L, x, m).T),
]
Y: Final = [  # wrong d_e = 2 d y, which all three gradients inherit
    form.then(lambda y, d, *_: 2 * d[:, None] * y) for form in (
        F(MISSING, "the second solve: z for y", lambda d, x, m, L, z: z),
        F(MISSING, "both solves: e for y", lambda d, x, m, L, z: x - m),
        F(MISSING, "the mean is not subtracted", lambda d, x, m, L, z: solve(L @ L.T, x, 0)),
        F(MISSING, "d_quadratic does not enter",
          lambda d, x, m, L, z: solve(L.T, z, 0) / d[:, None]),
        F(MISSING, "neither 2 nor d_quadratic enters",
          lambda d, x, m, L, z: solve(L.T, z, 0) / d[:, None] / 2),
        F(TRANSPOSE, "solved with L where L^T belongs", lambda d, x, m, L, z: solve(L, z, 0)),
        F(TAKEN, SIGMA, lambda d, x, m, L, z: solve(np.tril(L @ L.T).T, z, 0), FACTOR),
        F(TAKEN, SIGMA, lambda d, x, m, L, z: solve(taken(L), x, m), FACTOR),
        F(TAKEN, "one solve too many: Sigma^-1 z for Sigma^-1 e",
          lambda d, x, m, L, z: solve(L @ L.T, z, 0), "cho_solve does both solves, and wants e."),
        F(TAKEN, "multiplied by L^T, not solved with it", lambda d, x, m, L, z: z @ L),
        F(TRIANGLE, UPPER, lambda d, x, m, L, z: z / np.diag(L), LOWER),
    )
]


def _d_e(d: FloatArray, *a: FloatArray) -> FloatArray:
    return np.asarray(2 * d[:, None] * solve(a[2].T, a[3], 0))


ROWS["quadratic_form_backward.d_x"] = [
    *Y, F(REDUCTION, "summed over the samples", lambda *a: _d_e(*a).sum(axis=0)),
]
ROWS["quadratic_form_backward.d_mean"] = [
    *(form.then(lambda d_e, *_: -d_e.sum(axis=0)) for form in Y),
    F(REDUCTION, "not summed over the samples", lambda *a: -_d_e(*a), SAMPLES),
    F(REDUCTION, "summed over the dimensions", lambda *a: -_d_e(*a).sum(axis=1), SAMPLES),
]
ROWS["quadratic_form_backward.d_factor"] = [
    F(TRIANGLE, "entries above the diagonal are kept", lambda *a: -_d_e(*a).T @ a[4]),
    F(TRIANGLE, "the upper triangle is kept", lambda *a: -np.triu(_d_e(*a).T @ a[4])),
    F(TRANSPOSE, "z d_e^T for d_e z^T", lambda *a: -np.tril(a[4].T @ _d_e(*a))),
    F(TAKEN, "e for z: d_e e^T", lambda *a: -np.tril(_d_e(*a).T @ (a[1] - a[2]))),
    F(TAKEN, "y for z: d_e y^T", lambda *a: -np.tril(_d_e(*a).T @ solve(a[3].T, a[4], 0))),
    F(TAKEN, "this is the gradient in Sigma, not in L",
      lambda *a: -np.tril(_d_e(*a).T @ solve(a[3].T, a[4], 0)) / 2,
      "Through Sigma = L L^T, twice the symmetric gradient in Sigma stands before L."),
    F(REDUCTION, "not summed over the samples",
      lambda *a: -np.tril(_d_e(*a)[:, :, None] * a[4][:, None, :]), "d_e.T @ z sums over them."),
    *(form.then(lambda d_e, d, x, m, L, z: -np.tril(d_e.T @ z)) for form in Y),
    *(F(TRIANGLE, EARLY, lambda d, x, m, L, z, i=i: -early(
        L, (2 * d[:, None] * (x - m)).T @ (x - m))[i], LAST) for i in range(4)),
]

# --- the log-determinant ------------------------------------------------------------------------

EACH: Final = "Take the logarithm of each diagonal entry, and add up the D logarithms."
NEGATIVE: Final = "A logarithm may be negative, and so may a log-determinant."
ABSOLUTE: Final = "absolute values of the logarithms: those below 1 are negative"
LOG_OF_SUM: Final = "the logarithm of a sum for the sum of logarithms"
PLACE: Final = "np.diag makes a diagonal matrix [D, D] of a vector [D]."
FILLED: Final = "rows or columns are filled, where only the diagonal enters the value"
ROWS["half_log_det_forward.half_log_det"] = [
    F(TAKEN, "Sigma for its factor L: the logarithms of Sigma_ii",
      lambda L: np.log(np.diag(L @ L.T)).sum(), FACTOR),
    F(TAKEN, "Sigma for its factor L: half the logarithms of Sigma_ii",
      lambda L: np.log(np.diag(L @ L.T)).sum() / 2, FACTOR),
    F(TWO, "log det Sigma, the whole and not half", lambda L: 2 * np.log(np.diag(L)).sum()),
    F(TWO, "half of log det L, which is half of log det Sigma already",
      lambda L: np.log(np.diag(L)).sum() / 2),
    F(MISSING, "the logarithm: a product", lambda L: np.prod(np.diag(L)), EACH),
    F(MISSING, "the logarithm: a sum, the trace", lambda L: np.diag(L).sum(), EACH),
    F(SIGN, ABSOLUTE, lambda L: np.abs(np.log(np.diag(L))).sum(), NEGATIVE),
    F(REDUCTION, "not summed over the diagonal", lambda L: np.log(np.diag(L)), EACH),
    F(TAKEN, LOG_OF_SUM, lambda L: np.log(np.diag(L).sum()), EACH),
    F(TAKEN, LOG_OF_SUM, lambda L: np.log(L.sum()), EACH),
    F(TAKEN, "logarithms to base 10", lambda L: np.log10(np.diag(L)).sum(), "In nats: np.log."),
]
ROWS["half_log_det_forward.diagonal"] = [
    F(TAKEN, "Sigma for its factor L: the diagonal of Sigma", lambda L: np.diag(L @ L.T), FACTOR),
]
ROWS["half_log_det_backward.d_factor"] = [
    F(TRIANGLE, FILLED, lambda d, g: d / g + np.zeros((len(g), 1)), PLACE),
    F(TRIANGLE, FILLED, lambda d, g: (d / g)[:, None] + np.zeros(len(g)), PLACE),
    F(REDUCTION, "only the diagonal of the matrix, as a vector", lambda d, g: d / g, PLACE),
    F(MISSING, "d_half_log_det does not enter", lambda d, g: np.diag(1 / g)),
    F(MISSING, "the division by L_ii", lambda d, g: d * np.eye(len(g))),
    F(TAKEN, "multiplied by L_ii, not divided", lambda d, g: np.diag(d * g)),
    F(TAKEN, "Sigma for its factor L: divided by L_ii^2", lambda d, g: np.diag(d / g**2), FACTOR),
    F(TAKEN, "a logarithm for its derivative", lambda d, g: np.diag(d * np.log(g))),
]

# --- the steps between the primitives ------------------------------------------------------------

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
