"""Priors on parameters: log densities and their gradients.

Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import multigammaln

from gmm_np.checks import FloatArray


@dataclass(frozen=True)
class Wishart:
    """Wishart prior on the precision matrix of each component, with a spherical scale matrix.

    Sigma_k^-1 ~ W_D(V, n) with V = I / gamma^2 and n = D + m + 1 degrees of freedom, as in the
    mixture objective of ADBench and GradBench.

    Parameters
    ----------
    gamma : float
        Positive; the larger, the wider the covariances that the prior favours.
    m : float
        More than -2, so that the density exists.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    gamma: float
    m: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gamma) and self.gamma > 0):
            raise ValueError(f"gamma must be a positive number; got {self.gamma!r}.")
        if not (math.isfinite(self.m) and self.m > -2):
            raise ValueError(
                f"m must be more than -2, so that D + m + 1 degrees of freedom are more than "
                f"D - 1; got {self.m!r}."
            )

    def value_and_grad(self, factors: FloatArray) -> tuple[float, FloatArray]:
        """Sum of the log densities of Q_k^T Q_k, and its gradient in Q_k, equation (31).

        Parameters
        ----------
        factors : ndarray, shape [K, D, D]
            Lower triangular Q_k with a positive diagonal, Sigma_k^-1 = Q_k^T Q_k.

        Returns
        -------
        value : float
            In nats, all constants kept.
        gradient : ndarray, shape [K, D, D]
            Lower triangular. The density is that of the matrix Q^T Q: no Jacobian of Q is in it.
        """
        n_components, n_dims = factors.shape[:2]
        diagonal = np.arange(n_dims)
        log_det = 2 * float(np.log(factors[:, diagonal, diagonal]).sum())  # of all precisions
        freedom = n_dims + self.m + 1
        constant = freedom * n_dims * math.log(self.gamma / math.sqrt(2))
        constant -= float(multigammaln(0.5 * freedom, n_dims))
        trace = float(np.einsum("kij,kij->", factors, factors))
        value = (
            n_components * constant + 0.5 * self.m * log_det - 0.5 * self.gamma**2 * trace
        )  # (31)
        gradient = -(self.gamma**2) * factors
        gradient[:, diagonal, diagonal] += self.m / factors[:, diagonal, diagonal]
        return value, gradient
