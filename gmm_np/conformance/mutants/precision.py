# ruff: noqa: ARG005  (a step takes all arguments, and may use a few)
"""The objective of ADBench and GradBench in plain NumPy, and its mutants.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import multigammaln

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import LOG_2_PI, mutant

IntArray = NDArray[np.signedinteger[Any]]


class PlainPrecision:
    """Log-likelihood and Wishart prior by the factors of the precisions, and gradients.

    Called with x [N, D], alpha [K], means [K, D], icf [K, D + D (D - 1) / 2], gamma and m, it
    returns the log posterior and its gradients in alpha, means and icf.
    """

    name = "plain_precision"
    by_rounding = False
    refuses = False

    def __call__(
        self, x: Any, alpha: Any, means: Any, icf: Any, gamma: float, m: float
    ) -> tuple[Any, ...]:
        """Value, and gradients of alpha, means and icf."""
        with np.errstate(all="ignore"):
            x, alpha, means, icf = (np.asarray(a, np.float64) for a in (x, alpha, means, icf))
            self.check(x, alpha, means, icf)
            rows, columns = self.below(means.shape[1])
            factors = self.unpack(icf, rows, columns)
            value, d_alpha, d_means, d_factors, d_log = self.likelihood(x, alpha, means, factors)
            prior, d_prior, d_log_prior = self.prior(factors, float(gamma), float(m))
            d_factors = d_factors + d_prior
            i = np.arange(means.shape[1])
            d_log = d_log[:, None] + d_log_prior + self.d_log(factors[:, i, i], d_factors[:, i, i])
            d_icf = np.concatenate([d_log, d_factors[:, rows, columns]], axis=1)
            return value + prior, d_alpha, d_means, d_icf

    def check(self, *arrays: FloatArray) -> None:
        """Raise ValueError for what is no mixture."""
        x, alpha, means, icf = arrays
        k, d = means.shape
        if x.shape[1:] != (d,) or alpha.shape != (k,) or icf.shape != (k, d + d * (d - 1) // 2):
            raise ValueError("shapes disagree.")
        if not all(np.isfinite(a).all() for a in arrays):
            raise ValueError("values are not finite.")

    def below(self, n_dims: int) -> tuple[IntArray, IntArray]:
        """Rows and columns of what stands below the diagonal, in the order of packing."""
        columns, rows = np.triu_indices(n_dims, 1)
        return rows, columns

    def unpack(self, icf: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
        """Factors Q [K, D, D] of the precisions Q^T Q."""
        n_dims = int(rows.max(initial=0)) + 1
        factors = np.zeros((len(icf), n_dims, n_dims))
        i = np.arange(n_dims)
        factors[:, i, i] = np.exp(icf[:, :n_dims])
        factors[:, rows, columns] = icf[:, n_dims:]
        return factors

    def d_log(self, diagonal: FloatArray, d_diagonal: FloatArray) -> FloatArray:
        """Gradient [K, D] in the logarithm of a diagonal from that in the diagonal."""
        return diagonal * d_diagonal

    def likelihood(
        self, x: FloatArray, alpha: FloatArray, mu: FloatArray, factors: FloatArray
    ) -> tuple[Any, ...]:
        """Log-likelihood and gradients of alpha, mu, Q and the log-determinants of Q."""
        shifted = alpha - alpha.max()
        log_pi = shifted - np.log(np.exp(shifted).sum())
        residual = x[None] - mu[:, None]  # [K, N, D]
        z = residual @ factors.transpose(0, 2, 1)
        half = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)  # [K]
        terms = (log_pi + half)[:, None] - 0.5 * (z * z).sum(axis=2)  # [K, N]
        terms -= 0.5 * x.shape[1] * LOG_2_PI
        largest = terms.max(axis=0)
        exponentials = np.exp(terms - largest)
        total = exponentials.sum(axis=0)
        resp = exponentials / total
        n_k = resp.sum(axis=1)
        weighted = resp[:, :, None] * z
        return (
            float((largest + np.log(total)).sum()),
            n_k - n_k.sum() * np.exp(log_pi),
            (weighted @ factors).sum(axis=1),
            -np.tril(weighted.transpose(0, 2, 1) @ residual),
            n_k,
        )

    def prior(
        self, factors: FloatArray, gamma: float, m: float
    ) -> tuple[float, FloatArray, float | FloatArray]:
        """Log prior, its gradient in Q where Q stands in it, and in log Q_ii where that does."""
        k, d = factors.shape[:2]
        value = k * self.constant(d, gamma, m) + self.determinants(factors, m)
        value -= 0.5 * gamma**2 * float((factors**2).sum())
        return value, -(gamma**2) * factors, m

    def constant(self, n_dims: int, gamma: float, m: float) -> float:
        """Return what the prior of one component has that depends on no parameter."""
        freedom = n_dims + m + 1
        constant = freedom * n_dims * (np.log(gamma) - 0.5 * np.log(2.0))
        return float(constant - multigammaln(0.5 * freedom, n_dims))

    def determinants(self, factors: FloatArray, m: float) -> float:
        """Return the part of the determinants in the prior of all components."""
        return m * float(np.log(np.diagonal(factors, axis1=1, axis2=2)).sum())


def _one_constant(m: Any, factors: FloatArray, gamma: float, m_: float) -> tuple[Any, ...]:
    value, *gradients = PlainPrecision.prior(m, factors, gamma, m_)
    return value - (len(factors) - 1) * m.constant(factors.shape[1], gamma, m_), *gradients


def _transposed(
    m: Any, x: FloatArray, alpha: FloatArray, mu: FloatArray, factors: FloatArray
) -> tuple[Any, ...]:
    likelihood = partial(PlainPrecision.likelihood, m, x, alpha, mu)
    value, d_alpha, d_mu, _, n_k = likelihood(factors.transpose(0, 2, 1))
    return value, d_alpha, d_mu, likelihood(factors)[3], n_k


_mutant: Final = partial(mutant, base=PlainPrecision)
# fmt: off
MUTANTS: Final = (
    _mutant("wishart_sign", "The prior is subtracted.",
            prior=lambda m, *a: tuple(-part for part in PlainPrecision.prior(m, *a))),
    _mutant("wishart_of_one_component",
            "The constant of the prior is counted once, not for each component.",
            prior=_one_constant),
    _mutant("wishart_without_m", "The prior is that of m = 0.",
            prior=lambda m, factors, gamma, _: PlainPrecision.prior(m, factors, gamma, 0.0)),
    _mutant("wishart_of_diagonal",
            "The prior's trace leaves out what stands off the diagonals of the factors.",
            prior=lambda m, factors, *a: (
                PlainPrecision.prior(m, factors * np.eye(factors.shape[1]), *a))),
    _mutant("freedom_off_by_one",
            "The prior's constant has D + m degrees of freedom for D + m + 1.",
            constant=lambda m, n_dims, gamma, m_: (
                PlainPrecision.constant(m, n_dims, gamma, m_ - 1))),
    _mutant("precision_by_rows",
            "The strict lower triangle is unpacked by rows, not by columns: wrong from D = 4.",
            below=lambda m, n_dims: np.tril_indices(n_dims, -1)),
    _mutant("precision_transposed", "Sigma^-1 = Q Q^T for Q^T Q.", likelihood=_transposed),
    _mutant("exp_dropped",
            "The gradient of log Q_ii is that of Q_ii: the derivative of the exponential is "
            "missing.", d_log=lambda m, diagonal, d_diagonal: d_diagonal),
)
