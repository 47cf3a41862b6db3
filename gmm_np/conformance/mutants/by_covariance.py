# ruff: noqa: ARG001, ARG002, ARG005  (a step takes all arguments, and may use a few)
"""Covariances, precisions and variances as inputs in plain NumPy, and mutants.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.conformance.mutants.outputs import PlainOutputs
from gmm_np.conformance.plain import Answer, Plain, mutant

_PLAIN: Final = Plain()
_OUTPUTS: Final = PlainOutputs()
_FULL: Final = ("covariances", "precisions")


class PlainByCovariance:
    """Factors of what comes in, and the gradient (n Lambda - sum r y y^T) / 2 in a covariance.

    That in a precision is (sum r e e^T - n Sigma) / 2.

    ``covariances``, ``precisions``, ``diag_variances`` and ``spherical_variances`` are called with
    x [N, D], logits [K], means [K, D] and a scale [K, D, D], [K, D] or [K].
    """

    name = "plain_by_covariance"
    by_rounding = False
    refuses = False

    def __call__(self, *arguments: Any) -> Any:
        """Refuse: factors are not what this is about."""
        raise NotImplementedError("no factors.")

    def covariances(
        self, *arguments: Any, sample_weight: Any = None, reduction: str = "mean"
    ) -> Answer:
        """By covariances [K, D, D]."""
        return self.call("covariances", arguments, sample_weight, reduction)

    def precisions(
        self, *arguments: Any, sample_weight: Any = None, reduction: str = "mean"
    ) -> Answer:
        """By precisions [K, D, D]."""
        return self.call("precisions", arguments, sample_weight, reduction)

    def diag_variances(
        self, *arguments: Any, sample_weight: Any = None, reduction: str = "mean"
    ) -> Answer:
        """By variances [K, D]."""
        return self.call("diag_variances", arguments, sample_weight, reduction)

    def spherical_variances(
        self, *arguments: Any, sample_weight: Any = None, reduction: str = "mean"
    ) -> Answer:
        """By variances [K]."""
        return self.call("spherical_variances", arguments, sample_weight, reduction)

    def call(self, form: str, arguments: Any, weight: Any, reduction: str) -> Answer:
        """Value, and gradients of logits [K], means [K, D] and the scale."""
        x, logits, means, scale = arguments
        scale, (k, d) = np.asarray(scale, dtype=np.float64), np.shape(means)
        shape = {"diag_variances": (k, d), "spherical_variances": (k,)}.get(form, (k, d, d))
        if scale.shape != shape or not np.isfinite(scale).all():
            raise ValueError("scale has another shape, or is not finite.")
        if form in _FULL and (scale != scale.transpose(0, 2, 1)).any():
            raise ValueError("scale is not symmetric.")
        with np.errstate(all="ignore"):
            form, used = self.used(form, scale)
            chol = self.factors(form, used, d)
            x, logits, means, chol, weight = _PLAIN.check(x, logits, means, chol, weight)
            value, d_logits, d_means, d_chol = _PLAIN.answer(
                x, logits, means, chol, weight, reduction
            )
            share = _PLAIN.coefficient(np.ones(len(x)) if weight is None else weight, reduction)
            resp = share[:, None] * _OUTPUTS.resp(*_OUTPUTS.terms(x, logits, means, chol))
            gradient = np.stack(
                [
                    self.gradient(form, r, x - m, factor)
                    for r, m, factor in zip(resp.T, means, chol, strict=True)
                ]
            )
            gradient = self.symmetric(gradient, d_chol)
            return value, d_logits, d_means, self.d_scale(self.reduced(form, gradient), form, scale)

    # --- the steps ------------------------------------------------------------------------------

    def used(self, form: str, scale: FloatArray) -> tuple[str, FloatArray]:
        """Return what the scale is taken for."""
        return form, scale

    def factors(self, form: str, scale: FloatArray, n_dims: int) -> FloatArray:
        """Cholesky factors [K, D, D] of the covariances."""
        if form == "covariances":
            return np.asarray(np.linalg.cholesky(scale))
        if form == "precisions":  # from the last row and column on, so that the inverse is lower
            upper = np.linalg.cholesky(scale[:, ::-1, ::-1])[:, ::-1, ::-1]
            return np.tril(np.linalg.inv(upper.transpose(0, 2, 1)))
        if (scale <= 0).any():
            raise ValueError("a variance is not positive.")
        return np.sqrt(scale).reshape(len(scale), -1, 1) * np.eye(n_dims)

    def gradient(
        self, form: str, resp: FloatArray, residual: FloatArray, factor: FloatArray
    ) -> FloatArray:
        """Gradient [D, D] in a covariance or a precision."""
        if form == "precisions":
            constant, rows = -factor @ factor.T, -residual
            return self.half(resp, constant, rows, -1.0)
        inverse = np.linalg.inv(factor)
        return self.half(resp, inverse.T @ inverse, _OUTPUTS.pull(residual, factor), 1.0)

    def half(
        self, resp: FloatArray, constant: FloatArray, rows: FloatArray, sign: float
    ) -> FloatArray:
        """Half of what the log-determinant gives, less what the samples give."""
        return np.asarray(
            0.5 * (self.of_log_det(resp, constant) - sign * (resp[:, None] * rows).T @ rows)
        )

    def of_log_det(self, resp: FloatArray, constant: FloatArray) -> FloatArray:
        """Twice the gradient of the log-determinant's part."""
        return np.asarray(resp.sum() * constant)

    def symmetric(self, gradient: FloatArray, d_chol: FloatArray) -> FloatArray:
        """Gradients [K, D, D] as they are given for full matrices."""
        return gradient

    def reduced(self, form: str, gradient: FloatArray) -> FloatArray:
        """Gradient in the shape of the scale."""
        diagonals = np.diagonal(gradient, axis1=1, axis2=2)
        if form == "diag_variances":
            return np.array(diagonals)
        return np.asarray(diagonals.sum(axis=1)) if form == "spherical_variances" else gradient

    def d_scale(self, d_scale: FloatArray, form: str, scale: FloatArray) -> FloatArray:
        """Return the gradient of the scale that is answered."""
        return d_scale


# --- variants of it -----------------------------------------------------------------------------


def _off_diagonals(by: float) -> Callable[..., FloatArray]:
    def symmetric(m: Any, gradient: FloatArray, d_chol: FloatArray) -> FloatArray:
        return np.where(np.eye(gradient.shape[-1], dtype=bool), gradient, by * gradient)

    return symmetric


def _exchanged(m: Any, form: str, scale: FloatArray) -> tuple[str, FloatArray]:
    other = {"covariances": "precisions", "precisions": "covariances"}
    return other.get(form, form), scale


def _of_deviations(m: Any, form: str, scale: FloatArray) -> tuple[str, FloatArray]:
    return form, scale if form in _FULL else scale**2


def _of_deviations_back(m: Any, d: FloatArray, form: str, scale: FloatArray) -> FloatArray:
    return d if form in _FULL else 2.0 * scale * d


def _mean_of_axes(m: Any, form: str, gradient: FloatArray) -> FloatArray:
    found = PlainByCovariance.reduced(m, form, gradient)
    return found / gradient.shape[-1] if form == "spherical_variances" else found


def _jittered(m: Any, form: str, scale: FloatArray) -> tuple[str, FloatArray]:
    return form, scale + 1e-6 * (np.eye(scale.shape[-1]) if form in _FULL else 1.0)


_mutant: Final = partial(mutant, base=PlainByCovariance)
# fmt: off
BY_COVARIANCE: Final = (
    _mutant("cov_off_diagonals_twice", "Off the diagonal the gradient in a symmetric matrix is "
            "twice as large, as if only one of the two entries moved it.",
            symmetric=_off_diagonals(2.0)),
    _mutant("cov_lower_triangle", "The gradient has the lower triangle of a symmetric one alone.",
            symmetric=lambda m, gradient, d_chol: np.tril(gradient)),
    _mutant("cov_diagonal_alone", "What stands off the diagonal of a matrix gets no gradient.",
            symmetric=_off_diagonals(0.0)),
    _mutant("cov_of_factor", "The gradient in the Cholesky factor is given for that in the matrix.",
            symmetric=lambda m, gradient, d_chol: d_chol),
    _mutant("cov_for_precision", "Covariances are taken for precisions, and these for those.",
            used=_exchanged),
    _mutant("cov_deviations", "Variances are taken for standard deviations.",
            used=_of_deviations, d_scale=_of_deviations_back),
    _mutant("cov_not_halved", "The gradient in a covariance is not halved.",
            symmetric=lambda m, gradient, d_chol: 2.0 * gradient),
    _mutant("cov_gradient_sign", "The gradient in a covariance has the wrong sign.",
            symmetric=lambda m, gradient, d_chol: -gradient),
    _mutant("cov_log_det_dropped", "The gradient lacks the part of the log-determinant.",
            of_log_det=lambda m, resp, constant: 0.0 * constant),
    _mutant("cov_mean_of_axes", "The gradient of a shared variance is a mean over the axes.",
            reduced=_mean_of_axes),
    _mutant("cov_of_logarithm", "The gradient is that of the logarithm of a variance.",
            d_scale=lambda m, d, form, scale: d if form in _FULL else scale * d),
    _mutant("cov_jittered", "1e-6 is added to the diagonal of what comes in.", used=_jittered),
)
