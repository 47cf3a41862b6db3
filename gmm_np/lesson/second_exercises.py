# ruff: noqa: ARG005 (a wrong form takes all arguments, and often forgets one)
"""Exercises of chapter two: backpropagation through the backward, and its wrong forms.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from gmm_np import reference
from gmm_np.checks import FloatArray
from gmm_np.lesson.exercise_set import D, Exercise, K, N, Outputs, Part, draw_mixture
from gmm_np.lesson.wrong_forms import HINTS, ROWS, TERMS, WrongForm, instead
from gmm_np.parameters import Gradients

__all__ = ["SECOND", "SECOND_PARTS"]


# --- what functions are asked -------------------------------------------------------------------


def _draw_direction(rng: np.random.Generator) -> Outputs:
    """Draw a mixture, and how fast its logits, means, factors and x move."""
    x, logits, means, factors = draw_mixture(rng)
    moves = (rng.normal(size=K), rng.normal(size=(K, D)), np.tril(rng.normal(size=(K, D, D))))
    return x, logits, means, factors, *moves, rng.normal(size=(N, D))


def _draw_softmax(rng: np.random.Generator) -> Outputs:
    softmax = reference.logsumexp_forward(rng.normal(size=(N, K)))[1]
    return rng.normal(size=(N, K)), softmax


def _draw_softmax_back(rng: np.random.Generator) -> Outputs:
    dot_terms, softmax = _draw_softmax(rng)
    _, dot_softmax = reference.logsumexp_tangent(dot_terms, softmax)
    return rng.normal(size=N), rng.normal(size=N), softmax, dot_softmax


def _draw_form(rng: np.random.Generator) -> Outputs:
    x, _, means, factors, _, dot_means, dot_factors, dot_x = _draw_direction(rng)
    _, z = reference.quadratic_form_forward(x, means[0], factors[0])
    return dot_x, dot_means[0], dot_factors[0], factors[0], z


def _draw_form_back(rng: np.random.Generator) -> Outputs:
    component = _draw_form(rng)
    *_, dot_factor, factor, z = component
    _, dot_z = reference.quadratic_form_tangent(*component)
    return rng.normal(size=N), rng.normal(size=N), factor, dot_factor, z, dot_z


def _hvp(
    x: FloatArray, pi_logits: FloatArray, means: FloatArray, scale_tril: FloatArray, *moves: Any
) -> Outputs:
    mixture = (x, pi_logits, means, scale_tril)
    return tuple(reference.nll_hvp(*mixture, Gradients(*moves)))


# --- the exercises ------------------------------------------------------------------------------

SECOND: Final[tuple[Exercise, ...]] = (
    Exercise(
        "the logsumexp, once more",
        "(55), (58)",
        (
            Part(
                "logsumexp_tangent",
                ("dot_terms [N, K]", "softmax [N, K]"),
                ("dot_value [N]", "dot_softmax [N, K]"),
                "dot_value_n = sum_k softmax_nk dot_terms_nk\n"
                "dot_softmax_nk = softmax_nk (dot_terms_nk - dot_value_n)",
                "softmax_nk = exp(terms_nk - value_n): both in the exponent move.",
                reference.logsumexp_tangent,
                ("logsumexp_tangent",),
                _draw_softmax,
                task="How fast value_n = log sum_k exp(terms_nk) moves, and its softmax\n"
                "exp(terms_nk - value_n), where the terms move at the rate dot_terms: (55).",
            ),
            Part(
                "logsumexp_backward_tangent",
                ("dot_d_value [N]", "d_value [N]", "softmax [N, K]", "dot_softmax [N, K]"),
                ("dot_d_terms [N, K]",),
                "dot_d_terms_nk = dot_softmax_nk d_value_n + softmax_nk dot_d_value_n",
                "The backward is a product of two things that move.",
                lambda *a: (reference.logsumexp_backward_tangent(*a),),
                ("logsumexp_backward_tangent",),
                _draw_softmax_back,
                task="How fast d_terms_nk = softmax_nk d_value_n moves: (58).",
            ),
        ),
    ),
    Exercise(
        "the quadratic form, once more",
        "(51), (52), (61), (62), (63)",
        (
            Part(
                "quadratic_form_tangent",
                (
                    "dot_x [N, D]",
                    "dot_mean [D]",
                    "dot_factor [D, D]",
                    "factor [D, D]",
                    "z [N, D]",
                ),
                ("dot_quadratic [N]", "dot_z [N, D]"),
                "dot_e_n = dot_x_n - dot_mean,  L dot_z_n = dot_e_n - dot_L z_n\n"
                "dot_quadratic_n = 2 z_n^T dot_z_n",
                "Differentiate both sides of L z_n = x_n - mean: a product, and a solve with L.",
                reference.quadratic_form_tangent,
                ("quadratic_form_tangent",),
                _draw_form,
                task="How fast quadratic_n = |z_n|^2 and z_n move, where L z_n = x_n - mean and\n"
                "x, mean and L all move: (51), (52).",
            ),
            Part(
                "quadratic_form_backward_tangent",
                (
                    "dot_d_quadratic [N]",
                    "d_quadratic [N]",
                    "factor [D, D]",
                    "dot_factor [D, D]",
                    "z [N, D]",
                    "dot_z [N, D]",
                ),
                ("dot_d_x [N, D]", "dot_d_mean [D]", "dot_d_factor [D, D]"),
                "L^T y_n = z_n,  L^T dot_y_n = dot_z_n - dot_L^T y_n\n"
                "d_e_n = 2 d_quadratic_n y_n\n"
                "dot_d_e_n = 2 dot_d_quadratic_n y_n + 2 d_quadratic_n dot_y_n\n"
                "dot_d_x_n = dot_d_e_n,  dot_d_mean = -sum_n dot_d_e_n\n"
                "dot_d_factor = -tril(sum_n (dot_d_e_n z_n^T + d_e_n dot_z_n^T))",
                "Each product has a term for each of its factors, in which that one moves.",
                reference.quadratic_form_backward_tangent,
                ("quadratic_form_backward_tangent",),
                _draw_form_back,
                task="How fast the gradients move, where L^T y_n = z_n, d_x_n = 2 d_quadratic_n "
                "y_n,\nd_mean = -sum_n d_x_n and d_factor = -tril(sum_n d_x_n z_n^T): (61) to "
                "(63).",
            ),
        ),
    ),
    Exercise(
        "the Hessian along a direction",
        "(50), (53), (54), (57), (59), (60), (64)",
        (
            Part(
                "nll_hvp",
                (
                    "x [N, D]",
                    "pi_logits [K]",
                    "means [K, D]",
                    "scale_tril [K, D, D]",
                    "dot_pi_logits [K]",
                    "dot_means [K, D]",
                    "dot_scale_tril [K, D, D]",
                    "dot_x [N, D]",
                ),
                (
                    "dot_d_pi_logits [K]",
                    "dot_d_means [K, D]",
                    "dot_d_scale_tril [K, D, D]",
                    "dot_d_x [N, D]",
                ),
                "The loss is the mean: d_l_n = -1/N, and dot_d_l_n = 0.\n"
                "dot_log_pi_k = dot_a_k - sum_j pi_j dot_a_j,  dot_pi_k = pi_k dot_log_pi_k\n"
                "dot_h_k = sum_i dot_L_k,ii / L_k,ii\n"
                "dot_t_nk = dot_log_pi_k - dot_q_nk / 2 - dot_h_k\n"
                "dot_d_log_pi_k = sum_n dot_d_t_nk,  dot_d_a_k = dot_d_log_pi_k\n"
                "    - dot_pi_k sum_j d_log_pi_j - pi_k sum_j dot_d_log_pi_j\n"
                "dot_d_q_nk = -dot_d_t_nk / 2,  dot_d_h_k = -sum_n dot_d_t_nk\n"
                "dot_d_L_k,ii also gets (dot_d_h_k - d_h_k dot_L_k,ii / L_k,ii) / L_k,ii",
                "Tangents in the order of the forward, then those of the backward in the reverse.",
                _hvp,
                ("tangent", "backward_tangent"),
                _draw_direction,
                task="How fast the gradients of the mean loss move where all arguments move: the\n"
                "Hessian times the direction (dot_pi_logits, dot_means, dot_scale_tril, dot_x).",
            ),
        ),
    ),
)
SECOND_PARTS: Final = {part.name: part for exercise in SECOND for part in exercise.parts}

# --- wrong forms --------------------------------------------------------------------------------

F = WrongForm
SIGN, TRANSPOSE, MISSING, REDUCTION, TWO, TRIANGLE, TAKEN = HINTS
PRODUCT: Final = "A product Y = A B moves by dot_A B + A dot_B."

# fmt: off
SHARES: Final = "It moves by the mean of the terms' rates, with the softmax as weights."
ROWS["logsumexp_tangent.dot_value"] = [
    F(MISSING, "the softmax does not enter", lambda t, s: t.sum(axis=1), SHARES),
    F(REDUCTION, "summed over the samples, not over the components",
      lambda t, s: (s * t).sum(axis=0), SHARES),
    F(REDUCTION, "not summed over the components", lambda t, s: s * t, SHARES),
    F(REDUCTION, "over everything at once", lambda t, s: (s * t).sum(), SHARES),
    F(TAKEN, "the largest rate", lambda t, s: t.max(axis=1), SHARES),
]
DOT_R: Final = "logsumexp_tangent.dot_softmax"
TERMS[DOT_R] = (
    ("the term with dot_terms", "the term with dot_value"),
    lambda t, s: (s * t, -s * (s * t).sum(axis=1)[:, None]))
ROWS[DOT_R] = [
    F(MISSING, "the softmax before the difference",
      lambda t, s: t - (s * t).sum(axis=1)[:, None]),
    F(TAKEN, "only the diagonal of the Jacobian: softmax (1 - softmax)",
      lambda t, s: s * (1 - s) * t, "Every term moves the sum below: all of them come in."),
    F(MISSING, "the softmax in the sum", lambda t, s: s * (t - t.sum(axis=1)[:, None])),
    F(TAKEN, "a plain mean for the mean with the softmax",
      lambda t, s: s * (t - t.mean(axis=1)[:, None]), SHARES),
    F(REDUCTION, "the sum is over the samples", lambda t, s: s * (t - (s * t).sum(axis=0)), SHARES),
]
DOT_T: Final = "logsumexp_backward_tangent.dot_d_terms"
TERMS[DOT_T] = (
    ("the term with dot_softmax", "the term with dot_d_value"),
    lambda dd, d, s, ds: (ds * d[:, None], s * dd[:, None]))
ROWS[DOT_T] = [
    F(TAKEN, "softmax and dot_softmax have changed places",
      lambda dd, d, s, ds: s * d[:, None] + ds * dd[:, None], PRODUCT),
    F(TAKEN, "the product of both rates", lambda dd, d, s, ds: ds * dd[:, None], PRODUCT),
    F(TAKEN, "the backward itself, not its rate", lambda dd, d, s, ds: s * d[:, None], PRODUCT),
    F(REDUCTION, "d_value is summed over the samples",
      lambda dd, d, s, ds: ds * d.sum() + s * dd.sum()),
]


def _solve(A: FloatArray, rows: FloatArray) -> FloatArray:
    """Return A^-1 row, a row a sample."""
    return np.asarray(np.linalg.solve(A, rows.T).T)


BOTH_SIDES: Final = "Both sides of L z = e: dot_L z + L dot_z = dot_e. Solve it for dot_z."
DOT_Z: Final = [  # wrong dot_z, which the form inherits
    F(MISSING, "dot_L z: the factor stands still", lambda x, m, dL, L, z: _solve(L, x - m),
      BOTH_SIDES),
    F(MISSING, "dot_e: only the factor moves", lambda x, m, dL, L, z: -_solve(L, z @ dL.T),
      BOTH_SIDES),
    F(SIGN, "that of dot_L z", lambda x, m, dL, L, z: _solve(L, x - m + z @ dL.T), BOTH_SIDES),
    F(SIGN, "that of dot_mean", lambda x, m, dL, L, z: _solve(L, x + m - z @ dL.T)),
    F(MISSING, "dot_mean", lambda x, m, dL, L, z: _solve(L, x - z @ dL.T)),
    F(MISSING, "dot_x", lambda x, m, dL, L, z: _solve(L, -m - z @ dL.T)),
    F(TRANSPOSE, "dot_L^T z for dot_L z", lambda x, m, dL, L, z: _solve(L, x - m - z @ dL),
      "With a row a sample, dot_L z_n is z @ dot_factor.T."),
    F(MISSING, "the solve", lambda x, m, dL, L, z: x - m - z @ dL.T, BOTH_SIDES),
    F(TRANSPOSE, "solved with L^T, not with L",
      lambda x, m, dL, L, z: _solve(L.T, x - m - z @ dL.T)),
    F(TAKEN, "dot_L^-1 for the rate of L^-1", lambda x, m, dL, L, z: _solve(dL, x - m),
      BOTH_SIDES),
    F(TAKEN, "e for z: dot_L e", lambda x, m, dL, L, z: _solve(L, x - m - z @ L.T @ dL.T)),
    F(TAKEN, "dot_L dot_z for dot_L z",
      lambda x, m, dL, L, z: _solve(L, x - m - _solve(L, x - m) @ dL.T), BOTH_SIDES),
]
ROWS["quadratic_form_tangent.dot_z"] = DOT_Z
ROWS["quadratic_form_tangent.dot_quadratic"] = [
    *(form.then(lambda dz, *a: 2 * (a[4] * dz).sum(axis=1)) for form in DOT_Z),
    F(TAKEN, "the square of the rate: |dot_z|^2",
      lambda *a: (reference.quadratic_form_tangent(*a)[1] ** 2).sum(axis=1),
      "|z|^2 moves by 2 z^T dot_z."),
    F(MISSING, "z: twice a sum of rates",
      lambda *a: 2 * reference.quadratic_form_tangent(*a)[1].sum(axis=1)),
    F(REDUCTION, "not summed over the dimensions",
      lambda *a: 2 * a[4] * reference.quadratic_form_tangent(*a)[1]),
    F(REDUCTION, "summed over the samples, not over the dimensions",
      lambda *a: 2 * (a[4] * reference.quadratic_form_tangent(*a)[1]).sum(axis=0)),
]

OF_Y: Final = "Both sides of L^T y = z: dot_L^T y + L^T dot_y = dot_z. Solve it for dot_y."
BACK: Final = "quadratic_form_backward_tangent"


def _rate(dd: FloatArray, d: FloatArray, y: FloatArray, dot_y: FloatArray) -> FloatArray:
    return np.asarray(2 * dd[:, None] * y + 2 * d[:, None] * dot_y)


def _of_dot_y(dot_y: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
    """Return dot_d_e of a wrong dot_y, a function of y, L, dot_L, z and dot_z."""

    def wrong(dd: FloatArray, d: FloatArray, L: FloatArray, *a: FloatArray) -> FloatArray:
        y = _solve(L.T, a[1])
        return _rate(dd, d, y, dot_y(y, L, *a))

    return wrong


def _dot_y(y: FloatArray, L: FloatArray, *a: FloatArray) -> FloatArray:
    return _solve(L.T, a[2] - y @ a[0])


TERMS[f"{BACK}.dot_d_x"] = (
    ("the term with dot_d_quadratic", "the term with dot_y"),
    lambda dd, d, L, *a: (
        2 * dd[:, None] * _solve(L.T, a[1]), 2 * d[:, None] * _dot_y(_solve(L.T, a[1]), L, *a)))
DOT_D_E: Final = [  # wrong dot_d_e, which all three inherit
    *(F(kind, name, _of_dot_y(dot_y), OF_Y) for kind, name, dot_y in (
        (MISSING, "dot_L^T y: the factor stands still",
         lambda y, L, dL, z, dz: _solve(L.T, dz)),
        (MISSING, "dot_z: only the factor moves", lambda y, L, dL, z, dz: -_solve(L.T, y @ dL)),
        (SIGN, "that of dot_L^T y", lambda y, L, dL, z, dz: _solve(L.T, dz + y @ dL)),
        (TRANSPOSE, "dot_L y for dot_L^T y", lambda y, L, dL, z, dz: _solve(L.T, dz - y @ dL.T)),
        (TRANSPOSE, "solved with L where L^T belongs",
         lambda y, L, dL, z, dz: _solve(L, dz - y @ dL)),
        (TAKEN, "z for y: dot_L^T z", lambda y, L, dL, z, dz: _solve(L.T, dz - z @ dL)),
        (MISSING, "the solve", lambda y, L, dL, z, dz: dz - y @ dL),
        (TAKEN, "dot_z for dot_y", lambda y, L, dL, z, dz: dz))),
    *(instead(f"{BACK}.dot_d_x", place, kind, f"{term} {text}".strip(), factor, PRODUCT)
      for place, term in enumerate(TERMS[f"{BACK}.dot_d_x"][0])
      for kind, text, factor in ((MISSING, "", 0.0), (TWO, "is halved", 0.5),
                                 (SIGN, "has the opposite sign", -1.0))),
    F(TAKEN, "d_quadratic and dot_d_quadratic have changed places",
      lambda dd, d, L, *a: _rate(d, dd, _solve(L.T, a[1]), _dot_y(_solve(L.T, a[1]), L, *a)),
      PRODUCT),
]
ROWS[f"{BACK}.dot_d_x"] = [
    *DOT_D_E,
    F(REDUCTION, "summed over the samples",
      lambda *a: reference.quadratic_form_backward_tangent(*a)[0].sum(axis=0)),
]
ROWS[f"{BACK}.dot_d_mean"] = [
    *(form.then(lambda de, *_: -de.sum(axis=0)) for form in DOT_D_E),
    F(REDUCTION, "not summed over the samples",
      lambda *a: -reference.quadratic_form_backward_tangent(*a)[0]),
    F(REDUCTION, "summed over the dimensions",
      lambda *a: -reference.quadratic_form_backward_tangent(*a)[0].sum(axis=1)),
]


def _products(dot_d_e: FloatArray, d: FloatArray, L: FloatArray, *a: FloatArray) -> Outputs:
    """Return the sums over samples of dot_d_e z^T and of d_e dot_z^T."""
    d_e = 2 * d[:, None] * _solve(L.T, a[1])
    return dot_d_e.T @ a[1], d_e.T @ a[2]


def _of_right(*a: FloatArray) -> Outputs:
    return _products(reference.quadratic_form_backward_tangent(*a)[0], *a[1:])


TERMS[f"{BACK}.dot_d_factor"] = (
    ("the term with dot_d_e z^T", "the term with d_e dot_z^T"),
    lambda *a: tuple(-np.tril(product) for product in _of_right(*a)))
ROWS[f"{BACK}.dot_d_factor"] = [
    F(TRIANGLE, "entries above the diagonal are kept", lambda *a: -sum(_of_right(*a))),
    F(TRIANGLE, "the upper triangle is kept", lambda *a: -np.triu(sum(_of_right(*a)))),
    F(TRANSPOSE, "z dot_d_e^T + dot_z d_e^T",
      lambda *a: -np.tril(np.add(*_of_right(*a)).T)),
    F(TRANSPOSE, "dot_z d_e^T for d_e dot_z^T",
      lambda *a: -np.tril(_of_right(*a)[0] + _of_right(*a)[1].T)),
    F(TAKEN, "the product of both rates: dot_d_e dot_z^T", lambda *a: -np.tril(
        reference.quadratic_form_backward_tangent(*a)[0].T @ a[5]), PRODUCT),
    *(form.then(lambda de, *a: -np.tril(sum(_products(de, *a[1:])))) for form in DOT_D_E),
]

# --- the whole ----------------------------------------------------------------------------------

# What is left out of the tangents that the backward's tangent takes.
STILL: Final = (
    ("dot_resp: the responsibilities stand still", "dot_resp",
     "All that goes from one component to another passes through dot_r: (58)."),
    ("dot_pi: the weights stand still in the backward", "dot_pi", "(59) has three terms."),
    ("dot_z: the residuals stand still in the backward", "dot_z", "dot_z is in (61) and in (63)."),
    ("dot_L: the factors stand still in the backward", "dot_scale_tril",
     "dot_L is in (61) and in (64)."),
)


def _whole(place: int, change: Callable[..., Any] = lambda cache, tangents: tangents) -> Any:
    """Return an output of the whole, where something becomes of the tangents."""

    def wrong(x: FloatArray, a: FloatArray, means: FloatArray, L: FloatArray, *moves: Any) -> Any:
        _, cache = reference.nll_forward(x, a, means, L)
        _, tangents = reference.tangent(cache, *moves)
        changed = change(cache, tangents)
        return reference.backward_tangent(cache, changed, np.ones(()), np.zeros(()))[place]

    return wrong


def _without(field: str) -> Callable[..., reference.Tangents]:
    def change(_: reference.Cache, tangents: reference.Tangents) -> reference.Tangents:
        held = getattr(tangents, field)
        still: Any = [0 * one for one in held] if isinstance(held, list) else 0 * held
        return replace(tangents, **{field: still})

    return change


def _gradient(place: int) -> Callable[..., Any]:
    return lambda *a: reference.nll_backward(reference.nll_forward(*a[:4])[1])[place]


def _stands(place: int, argument: int) -> Callable[..., Any]:
    """Return the product where an argument does not move at all."""
    return lambda *a: _hvp(*a[:argument], 0 * a[argument], *a[argument + 1 :])[place]


def _determinant(own: float, moves: float) -> Callable[..., Any]:
    """Return the product in the factors where terms of (64) have other factors before them."""

    def wrong(*a: FloatArray) -> Any:
        _, cache = reference.nll_forward(*a[:4])
        _, tangents = reference.tangent(cache, *a[4:])
        n_k, dot_n_k = cache.resp.mean(axis=0), tangents.dot_resp.mean(axis=0)  # d_h, dot_d_h
        total = np.array(_hvp(*a)[2])
        for k, (L, dot_L) in enumerate(zip(a[3], a[6], strict=True)):
            diagonal, rate = np.diagonal(L), np.diagonal(dot_L) / np.diagonal(L)
            total[k] += np.diag(((own - 1) * dot_n_k[k] - (moves - 1) * n_k[k] * rate) / diagonal)
        return total

    return wrong


TWICE: Final = "h enters the factor's gradient once: (64) adds to (63)."
for at, output in enumerate(SECOND_PARTS["nll_hvp"].output_names):
    ROWS[f"nll_hvp.{output}"] = [
        F(TAKEN, "this is the gradient, not its rate", _gradient(at),
          "The Hessian times the direction is how fast the gradient moves."),
        *(F(MISSING, name, _whole(at, _without(field)), hint) for name, field, hint in STILL),
        *(F(MISSING, f"{name} does not enter", _stands(at, argument),
            "All four arguments move, and each moves all four gradients.")
          for argument, name in enumerate(("dot_pi_logits", "dot_means", "dot_scale_tril", "dot_x"),
                                          start=4)),
        *((F(MISSING, "the log-determinant's part, (64)", _determinant(0, 0), TWICE),
           F(MISSING, "dot_L_ii in the log-determinant's part, (64)", _determinant(1, 0), TWICE),
           F(MISSING, "dot_d_h in the log-determinant's part, (64)", _determinant(0, 1), TWICE),
           F(SIGN, "that of d_h dot_L_ii / L_ii in (64)", _determinant(1, -1), TWICE),
           F(SIGN, "that of the log-determinant's part, (64)", _determinant(-1, -1), TWICE))
          if output == "dot_d_scale_tril" else ()),
    ]
