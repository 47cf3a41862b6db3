"""A plain NumPy mixture whose steps can be replaced one by one: what the mutants are variants of.

It is right wherever no intermediate leaves the range of a double. It shares no code with the
reference but the checks of arguments, so that a mutant differs from it by one step alone.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from gmm_np.checks import FloatArray, check_sample_weight, check_x
from gmm_np.parameters import check_mixture

LOG_2_PI = math.log(2 * math.pi)

Answer = tuple[Any, Any, Any, Any]


class Plain:
    """The mean or total negative log-likelihood and its gradients.

    Calling an instance with x [N, D], logits [K], means [K, D] and Cholesky factors [K, D, D]
    returns the value and the gradients of logits, means and factors. A method is a step; the
    backward of a step is named after it.
    """

    name = "plain"
    #: Whether what is wrong is rounding alone, so that an answer may be right by chance.
    by_rounding = False
    #: Whether what is wrong is that valid inputs are refused. Others that do so have broken down.
    refuses = False

    def __call__(
        self,
        x: Any,
        logits: Any,
        means: Any,
        chol: Any,
        *,
        sample_weight: Any = None,
        reduction: str = "mean",
    ) -> Answer:
        """Value, and gradients of logits [K], means [K, D] and factors [K, D, D].

        NaN where LAPACK finds a matrix singular: a variant that makes one of valid inputs answers
        wrongly, and does not refuse them.
        """
        with np.errstate(all="ignore"):
            try:
                return self.answer(x, logits, means, chol, sample_weight, reduction)
            except np.linalg.LinAlgError:
                nothing = [np.full(np.shape(a), np.nan) for a in (logits, means, chol)]
                return np.nan, nothing[0], nothing[1], np.tril(nothing[2])

    def answer(
        self, x: Any, logits: Any, means: Any, chol: Any, weight: Any, reduction: str
    ) -> Answer:
        """Take all steps in turn."""
        x, logits, means, chol, weight = self.check(x, logits, means, chol, weight)
        weight = np.ones(len(x)) if weight is None else weight
        coefficient = self.coefficient(weight, reduction)  # [N]
        log_pi, pi = self.log_softmax(logits)  # [K]
        terms = np.empty((len(x), len(logits)))  # [N, K]
        whitened = []
        for k, factor in enumerate(chol):
            quadratic, z = self.quadratic(x, means[k], factor)
            whitened.append(z)
            constant = self.half_log_det(factor) + self.constant(x.shape[1])
            terms[:, k] = self.log_joint(log_pi[k], quadratic, constant)
        log_likelihood, resp = self.logsumexp(terms)
        value = self.total(-log_likelihood, coefficient)

        d_terms = self.d_terms(coefficient, resp)  # [N, K]
        d_logits = self.log_softmax_backward(self.add(d_terms), pi)
        d_means, d_chol = [], []
        for k, factor in enumerate(chol):
            d_mean, d_factor = self.quadratic_backward(
                -0.5 * d_terms[:, k], x, means[k], factor, whitened[k]
            )
            d_factor -= self.add(d_terms[:, k]) * self.half_log_det_backward(factor)
            d_means.append(d_mean)
            d_chol.append(self.triangle(d_factor))
        return value, d_logits, np.stack(d_means), np.stack(d_chol)

    # --- the steps, each with its backward ------------------------------------------------------

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        """Arguments as float64, or an error."""
        logits, means, chol = check_mixture(logits, means, chol, "chol")
        x = check_x(x, means.shape[1])
        return x, logits, means, chol, check_sample_weight(weight, len(x))

    def coefficient(self, weight: FloatArray, reduction: str) -> FloatArray:
        """Share [N] of each sample in the value."""
        return np.asarray(weight / weight.sum()) if reduction == "mean" else weight

    def log_softmax(self, logits: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Logarithms of the weights, and the weights, [K]."""
        shifted = logits - logits.max()
        log_pi = shifted - np.log(np.exp(shifted).sum())
        return log_pi, np.exp(log_pi)

    def log_softmax_backward(self, d_log_pi: FloatArray, pi: FloatArray) -> FloatArray:
        """Gradient of the logits [K]."""
        d_logits: FloatArray = d_log_pi - pi * d_log_pi.sum()
        return d_logits

    def residual(self, x: FloatArray, mean: FloatArray) -> FloatArray:
        """Residuals [N, D]."""
        return x - mean

    def quadratic(
        self, x: FloatArray, mean: FloatArray, factor: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Squared distances [N], and the whitened residuals [N, D] for the backward."""
        z = solve_triangular(factor, self.residual(x, mean).T, lower=True, check_finite=False).T
        return np.einsum("nd,nd->n", z, z), z

    def quadratic_backward(
        self,
        d_quadratic: FloatArray,
        x: FloatArray,  # noqa: ARG002  (mutants ask for it)
        mean: FloatArray,  # noqa: ARG002
        factor: FloatArray,
        z: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        """Gradients of the mean [D] and the factor [D, D]."""
        y = solve_triangular(factor, z.T, lower=True, trans=1, check_finite=False).T  # [N, D]
        d_residual = 2.0 * d_quadratic[:, None] * y
        return -self.add(d_residual), -self.add_products(d_residual, z)

    def half_log_det(self, factor: FloatArray) -> float:
        """Half the log-determinant of the covariance."""
        return float(np.log(np.diagonal(factor)).sum())

    def half_log_det_backward(self, factor: FloatArray) -> FloatArray:
        """Gradient [D, D] of half the log-determinant."""
        return np.diag(1.0 / np.diagonal(factor))

    def constant(self, n_dims: int) -> float:
        """Return the part of the log density that depends on nothing but D."""
        return 0.5 * n_dims * LOG_2_PI

    def log_joint(self, log_pi: float, quadratic: FloatArray, constant: float) -> FloatArray:
        """Log joint density [N] of a component and each sample."""
        return log_pi - 0.5 * quadratic - constant

    def logsumexp(self, terms: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log-likelihoods [N] and responsibilities [N, K]."""
        largest = terms.max(axis=1, keepdims=True)
        exponentials = np.exp(terms - largest)
        total = exponentials.sum(axis=1, keepdims=True)
        return (largest + np.log(total))[:, 0], exponentials / total

    def total(self, losses: FloatArray, coefficient: FloatArray) -> float:
        """Sum the weighted losses of the samples."""
        return float(np.where(coefficient == 0, 0.0, coefficient * losses).sum())

    def d_terms(self, coefficient: FloatArray, resp: FloatArray) -> FloatArray:
        """Gradient [N, K] of the terms."""
        return -coefficient[:, None] * resp

    def add(self, rows: FloatArray) -> FloatArray:
        """Sum over samples, pairwise along contiguous memory."""
        return np.asarray(np.ascontiguousarray(rows.T).sum(axis=-1))

    def add_products(self, rows: FloatArray, others: FloatArray, block: int = 128) -> FloatArray:
        """Sum over samples of outer products [D, D]: a product for each block, then pairwise."""
        n_dims, n_blocks = rows.shape[1], len(rows) // block
        whole = n_blocks * block
        products = np.matmul(
            rows[:whole].reshape(n_blocks, block, n_dims).transpose(0, 2, 1),
            others[:whole].reshape(n_blocks, block, n_dims),
        )  # [N / block, D, D]
        rest: FloatArray = rows[whole:].T @ others[whole:]
        return self.add(products.reshape(n_blocks, n_dims**2)).reshape(n_dims, n_dims) + rest

    def triangle(self, d_factor: FloatArray) -> FloatArray:
        """Gradient of a factor as it is returned."""
        return np.tril(d_factor)


# --- variants of it -----------------------------------------------------------------------------

Step = Callable[..., Any]


def mutant(
    name: str,
    wrong: str,
    *,
    base: type[Any] = Plain,
    by_rounding: bool = False,
    refuses: bool = False,
    **steps: Any,
) -> Any:
    """Return an implementation that differs from `base` by the given steps.

    A step takes the implementation and the arguments of the method of its name in `base`, whose
    right form is called as ``Plain.log_softmax(m, logits)``. `wrong` says what is wrong, in a line.

    Raises
    ------
    AttributeError
        If `base` has no such step.
    """
    for step in steps:
        getattr(base, step)
    members = {"__doc__": wrong, "name": name, "by_rounding": by_rounding, "refuses": refuses}
    return type(name, (base,), members | steps)()


def checked_then(change: Callable[..., tuple[Any, ...]]) -> Step:
    """Return a step `check` that changes what it has checked: x, logits, means, chol, weight."""
    return lambda m, *arguments: change(*Plain.check(m, *arguments))


def factors_then(change: Callable[[FloatArray], NDArray[Any]]) -> Step:
    """Return a step `check` that changes the factors [K, D, D] that it has checked."""
    return checked_then(lambda x, logits, means, chol, w: (x, logits, means, change(chol), w))
