# ruff: noqa: ARG001, ARG005  (a step takes all arguments, and may use a few)
"""The Hessian's product with a direction, and scores, in plain NumPy; and their mutants.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np
from scipy.linalg import solve_triangular

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import Plain, Step, mutant

Blocks = tuple[FloatArray, FloatArray, FloatArray]

_PLAIN: Final = Plain()


class PlainSecond:
    """Louis' identity along a direction, and the gradient of each sample's log density.

    With A = L^-1 L' and b = L^-1 mu' for a direction (a', mu', L'), whitened residuals z, y =
    L^-T z, and the moments n, v and M, sums of r times 1, z and z z^T: at fixed responsibilities
    the gradient of a mean moves by L^-T ((A + A^T) v + n b), that of a factor by
    tril(L^-T ((A + A^T) M + b v^T + M A^T + v b^T)) - n diag(L'_ii / L_ii^2).
    """

    name = "plain_second"
    by_rounding = False
    refuses = False

    def hvp(
        self,
        x: Any,
        logits: Any,
        means: Any,
        chol: Any,
        v_logits: Any,
        v_means: Any,
        v_chol: Any,
        *,
        sample_weight: Any = None,
        reduction: str = "mean",
    ) -> Blocks:
        """Product with the direction, for logits [K], means [K, D] and factors [K, D, D]."""
        with np.errstate(all="ignore"):
            x, logits, means, chol, weight = _PLAIN.check(x, logits, means, chol, sample_weight)
            moves = self.check_direction((v_logits, v_means, v_chol), (logits, means, chol))
            weight = np.ones(len(x)) if weight is None else weight
            inputs = x, logits, means, chol, self.coefficient(weight, reduction)
            return self.result(*self.product(*inputs, *self.direction(*moves)))

    def scores(self, x: Any, logits: Any, means: Any, chol: Any) -> Blocks:
        """Gradients of log p(x_n): [N, K], [N, K, D] and [N, K, D, D]."""
        with np.errstate(all="ignore"):
            x, logits, means, chol, _ = _PLAIN.check(x, logits, means, chol, None)
            return self.scores_result(*self.scores_of(x, logits, means, chol))

    # --- the steps ------------------------------------------------------------------------------

    def check_direction(self, moves: tuple[Any, ...], moved: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a direction as float64, or raise."""
        arrays = tuple(np.asarray(a, dtype=np.float64) for a in moves)
        for array, argument in zip(arrays, moved, strict=True):
            if array.shape != argument.shape or not np.isfinite(array).all():
                raise ValueError("no direction.")
        if np.triu(arrays[2], 1).any():
            raise ValueError("a factor moves above its diagonal.")
        return arrays

    def coefficient(self, weight: FloatArray, reduction: str) -> FloatArray:
        """Share [N] of each sample in the value."""
        return _PLAIN.coefficient(weight, reduction)

    def direction(self, v_logits: FloatArray, v_means: FloatArray, v_chol: FloatArray) -> Blocks:
        """Return the direction that is used."""
        return v_logits, v_means, v_chol

    def product(
        self,
        x: FloatArray,
        logits: FloatArray,
        means: FloatArray,
        chol: FloatArray,
        coefficient: FloatArray,
        v_logits: FloatArray,
        v_means: FloatArray,
        v_chol: FloatArray,
    ) -> Blocks:
        """Take all steps in turn."""
        z, resp, pi = self.responsibilities(x, logits, means, chol)
        log_pi_tangent = self.log_pi_tangent(v_logits, pi)
        a = [solve(factor, v) for factor, v in zip(chol, v_chol, strict=True)]
        b = [solve(factor, v) for factor, v in zip(chol, v_means, strict=True)]
        terms_tangent = np.stack(  # [N, K]
            [
                self.term_tangent(log_pi_tangent[k], z[k], a[k], b[k], chol[k], v_chol[k])
                for k in range(len(chol))
            ],
            axis=1,
        )
        resp_tangent = coefficient[:, None] * self.resp_tangent(resp, terms_tangent)
        d_logits = coefficient.sum() * pi * log_pi_tangent - resp_tangent.sum(axis=0)
        d_means, d_chol = [], []
        for k, factor in enumerate(chol):
            n, v, m = self.moments(coefficient * resp[:, k], z[k])
            bent = self.bent(a[k])
            d_mean = bent @ v + n * b[k] - resp_tangent[:, k] @ z[k]
            square = bent @ m + np.outer(b[k], v) + m @ a[k].T + np.outer(v, b[k])
            square -= (resp_tangent[:, k, None] * z[k]).T @ z[k]
            d_factor = np.tril(solve(factor, square, trans=1))
            d_factor += resp_tangent[:, k].sum() * np.diag(1.0 / np.diagonal(factor))
            d_factor -= n * self.log_det_bent(factor, v_chol[k])
            d_means.append(solve(factor, d_mean, trans=1))
            d_chol.append(d_factor)
        return d_logits, np.stack(d_means), np.stack(d_chol)

    def responsibilities(
        self, x: FloatArray, logits: FloatArray, means: FloatArray, chol: FloatArray
    ) -> tuple[list[FloatArray], FloatArray, FloatArray]:
        """Whitened residuals [K][N, D], responsibilities [N, K] and weights [K]."""
        log_pi, pi = _PLAIN.log_softmax(logits)
        z, terms = [], []
        for k, factor in enumerate(chol):
            quadratic, white = _PLAIN.quadratic(x, means[k], factor)
            z.append(white)
            terms.append(log_pi[k] - 0.5 * quadratic - _PLAIN.half_log_det(factor))
        return z, _PLAIN.logsumexp(np.stack(terms, axis=1))[1], pi

    def log_pi_tangent(self, v_logits: FloatArray, pi: FloatArray) -> FloatArray:
        """How fast the logarithms of the weights move, [K]."""
        return np.asarray(v_logits - pi @ v_logits)

    def term_tangent(
        self,
        log_pi_tangent: float,
        z: FloatArray,
        a: FloatArray,
        b: FloatArray,
        factor: FloatArray,
        v_factor: FloatArray,
    ) -> FloatArray:
        """How fast the terms of one component move, [N]."""
        moved = (z * (z @ a.T + b)).sum(axis=1)
        ratio = np.diagonal(v_factor) / np.diagonal(factor)
        return np.asarray(log_pi_tangent + moved - ratio.sum())

    def resp_tangent(self, resp: FloatArray, terms_tangent: FloatArray) -> FloatArray:
        """How fast responsibilities move, [N, K]."""
        mean = (resp * terms_tangent).sum(axis=1, keepdims=True)
        return np.asarray(resp * (terms_tangent - mean))

    def moments(self, share: FloatArray, z: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Return sums of responsibilities times 1, z [D] and z z^T [D, D]."""
        return float(share.sum()), share @ z, (share[:, None] * z).T @ z

    def bent(self, a: FloatArray) -> FloatArray:
        """Return A + A^T: the motion of z, and that of the solve behind it."""
        return np.asarray(a + a.T)

    def log_det_bent(self, factor: FloatArray, v_factor: FloatArray) -> FloatArray:
        """How fast the gradient of half the log-determinant falls, [D, D]."""
        return np.diag(np.diagonal(v_factor) / np.diagonal(factor) ** 2)

    def result(self, d_logits: FloatArray, d_means: FloatArray, d_chol: FloatArray) -> Blocks:
        """Return what is answered."""
        return d_logits, d_means, d_chol

    def scores_of(
        self, x: FloatArray, logits: FloatArray, means: FloatArray, chol: FloatArray
    ) -> Blocks:
        """Scores of all samples."""
        z, resp, pi = self.responsibilities(x, logits, means, chol)
        d_means, d_chol = [], []
        for k, factor in enumerate(chol):
            y = solve(factor, z[k].T, trans=1).T
            outer = np.tril(y[:, :, None] * z[k][:, None, :]) - self.score_log_det(factor)
            d_means.append(resp[:, k, None] * y)
            d_chol.append(resp[:, k, None, None] * outer)
        return resp - pi, np.stack(d_means, axis=1), np.stack(d_chol, axis=1)

    def score_log_det(self, factor: FloatArray) -> FloatArray:
        """Gradient [D, D] of half the log-determinant."""
        return _PLAIN.half_log_det_backward(factor)

    def scores_result(
        self, d_logits: FloatArray, d_means: FloatArray, d_chol: FloatArray
    ) -> Blocks:
        """Return the scores that are answered."""
        return d_logits, d_means, d_chol


def solve(factor: FloatArray, right: FloatArray, trans: int = 0) -> FloatArray:
    """Solve with a lower triangular factor, or with its transpose."""
    found = solve_triangular(factor, right, lower=True, trans=trans, check_finite=False)
    return np.asarray(found)


# --- variants of it -----------------------------------------------------------------------------


def _from_last(m: PlainSecond, resp: FloatArray, terms_tangent: FloatArray) -> FloatArray:
    others = resp @ (1.0 - np.eye(resp.shape[1]))  # 1 - r, with its digits
    rates = resp * others * (terms_tangent - terms_tangent[:, -1:])
    rates[:, -1] = -rates[:, :-1].sum(axis=1)
    return rates


def _outer_product(m: PlainSecond, *inputs: FloatArray) -> Blocks:
    *arguments, coefficient, v_logits, v_means, v_chol = inputs
    blocks = PlainSecond.scores_of(m, *arguments)
    moves = v_logits, v_means, v_chol
    slope = sum((s * v).reshape(len(s), -1).sum(axis=1) for s, v in zip(blocks, moves, strict=True))
    d_logits, d_means, d_chol = (np.tensordot(coefficient * slope, s, 1) for s in blocks)
    return d_logits, d_means, d_chol


def _difference(m: PlainSecond, *inputs: FloatArray) -> Blocks:
    x, logits, means, chol, coefficient, *moves = inputs
    step, gradients = 1e-6, []
    for sign in (1.0, -1.0):
        moved = [a + sign * step * v for a, v in zip((logits, means, chol), moves, strict=True)]
        gradients.append(_PLAIN.answer(x, moved[0], moved[1], moved[2], coefficient, "sum")[1:])
    d_logits, d_means, d_chol = ((a - b) / (2.0 * step) for a, b in zip(*gradients, strict=True))
    return d_logits, d_means, d_chol


def _normalised(m: PlainSecond, *moves: FloatArray) -> Blocks:
    size = np.sqrt(sum(float((v**2).sum()) for v in moves)) or 1.0
    v_logits, v_means, v_chol = (v / size for v in moves)
    return v_logits, v_means, v_chol


def _direction(change: Any) -> Step:
    """Return a step that changes how the factors [K, D, D] move."""
    return lambda m, v_logits, v_means, v_chol: (v_logits, v_means, change(v_chol))


def _off_diagonals(by: float) -> Step:
    """Return a step that multiplies what stands below the diagonals of the factors' part."""

    def result(m: Any, d_logits: FloatArray, d_means: FloatArray, d_chol: FloatArray) -> Blocks:
        on = np.eye(d_chol.shape[-1], dtype=bool)
        return d_logits, d_means, np.where(on, d_chol, by * d_chol)

    return result


def _hard(m: PlainSecond, *inputs: FloatArray) -> Any:
    z, resp, pi = PlainSecond.responsibilities(m, *inputs)
    return z, np.where(resp == resp.max(axis=1, keepdims=True), 1.0, 0.0), pi


def _uncentred(m: PlainSecond, *inputs: FloatArray) -> Blocks:
    d_logits, d_means, d_chol = PlainSecond.scores_of(m, *inputs)
    return d_logits + _PLAIN.log_softmax(inputs[1])[1], d_means, d_chol


def _whitened(m: PlainSecond, *inputs: FloatArray) -> Blocks:
    d_logits, _, d_chol = PlainSecond.scores_of(m, *inputs)
    z, resp, _ = m.responsibilities(*inputs)
    return d_logits, resp[:, :, None] * np.stack(z, axis=1), d_chol


_mutant: Final = partial(mutant, base=PlainSecond)
# fmt: off
HVP: Final = (
    _mutant("expected_information",
            "Expected for observed information: moments of the residuals are taken to be those of "
            "the component, zero and the identity.",
            moments=lambda m, share, z: (
                float(share.sum()), np.zeros(z.shape[1]), share.sum() * np.eye(z.shape[1]))),
    _mutant("outer_product_of_scores", "The sum of s s^T stands for the Hessian, which it is in "
            "expectation alone.", product=_outer_product),
    _mutant("outer_product_missing",
            "Louis' identity without s s^T: responsibilities move as if they need not add up.",
            resp_tangent=lambda m, resp, terms_tangent: resp * terms_tangent),
    _mutant("fixed_responsibilities",
            "Responsibilities do not move: it is the curvature of the bound of EM.",
            resp_tangent=lambda m, resp, terms_tangent: np.zeros_like(resp)),
    _mutant("softmax_jacobian_diagonal",
            "Of the softmax's Jacobian only the diagonal r (1 - r) is taken, with terms counted "
            "from the last: right at K = 2, wrong from 3.", resp_tangent=_from_last),
    _mutant("off_diagonals_twice", "Below the diagonal of a factor the product is twice as large, "
            "as if each entry stood in two places.", result=_off_diagonals(2.0)),
    _mutant("log_pi_at_rest", "The tangent of log pi is left out of those of the terms.",
            term_tangent=lambda m, log_pi_tangent, *others: (
                PlainSecond.term_tangent(m, 0.0, *others))),
    _mutant("symmetric_for_triangular",
            "A factor's direction is taken for the lower half of a symmetric matrix.",
            direction=_direction(lambda v: v + np.tril(v, -1).transpose(0, 2, 1))),
    _mutant("direction_transposed", "A factor moves by the transpose of its direction.",
            direction=_direction(lambda v: v.transpose(0, 2, 1).copy())),
    _mutant("direction_of_diagonal", "A factor moves by the diagonal of its direction alone.",
            direction=_direction(lambda v: v * np.eye(v.shape[-1]))),
    _mutant("direction_normalised", "The direction is normalised to length one.",
            direction=_normalised),
    _mutant("logits_not_centred",
            "The weights move by their logits, and the mean of these is not taken off.",
            log_pi_tangent=lambda m, v_logits, pi: v_logits),
    _mutant("second_solve_at_rest", "The solve by L^T does not move with its factor.",
            bent=lambda m, a: a),
    _mutant("log_det_straight", "The second derivative of the log-determinants is left out.",
            log_det_bent=lambda m, factor, v_factor: np.zeros_like(factor)),
    _mutant("hvp_of_log_likelihood", "The product is that of the log-likelihood's Hessian.",
            result=lambda m, *blocks: tuple(-block for block in blocks)),
    _mutant("hvp_not_triangular",
            "The product is mirrored above the diagonal of a factor, as for a covariance.",
            result=lambda m, d_logits, d_means, d_chol: (
                d_logits, d_means, d_chol + np.tril(d_chol, -1).transpose(0, 2, 1))),
    _mutant("hvp_mean_for_sum", "The Hessian of the mean is taken where the sum was asked for.",
            coefficient=lambda m, weight, reduction: _PLAIN.coefficient(weight, "mean")),
    _mutant("hvp_sum_for_mean", "The Hessian of the sum is taken where the mean was asked for.",
            coefficient=lambda m, weight, reduction: weight),
    _mutant("hvp_weights_ignored", "The Hessian takes no notice of sample weights.",
            coefficient=lambda m, weight, reduction: (
                _PLAIN.coefficient(np.ones_like(weight), reduction))),
    _mutant("hvp_by_difference",
            "A central difference of the gradient, with a step of 1e-6: half the digits.",
            product=_difference, by_rounding=True),
)
SCORES: Final = (
    _mutant("score_of_loss", "The scores are those of the loss: their sign is the opposite.",
            scores_result=lambda m, *blocks: tuple(-block for block in blocks)),
    _mutant("scores_over_n", "The scores have the mean's 1/N in them.",
            scores_result=lambda m, *blocks: tuple(block / len(block) for block in blocks)),
    _mutant("scores_centred", "The mean over the samples is taken off the scores.",
            scores_result=lambda m, *blocks: tuple(b - b.mean(axis=0) for b in blocks)),
    _mutant("score_without_pi", "The score of the logits is r for r - pi.",
            scores_of=_uncentred),
    _mutant("score_of_likeliest", "The score is that of the likeliest component alone.",
            responsibilities=_hard),
    _mutant("score_whitened", "The score of a mean is L^-1 e for Sigma^-1 e.", scores_of=_whitened),
    _mutant("score_log_det_dropped",
            "The score of the factor lacks the part of the log-determinant.",
            score_log_det=lambda m, factor: np.zeros_like(factor)),
    _mutant("score_halved", "Off the diagonal of a factor the score is half, as if it were that of "
            "a symmetric matrix.", scores_result=_off_diagonals(0.5)),
)
