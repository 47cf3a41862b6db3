"""SciPy: `scipy.stats.multivariate_normal`, the value alone."""

from __future__ import annotations

from typing import Any

import numpy as np

REQUIRES = ("scipy",)


def multivariate_normal(
    x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean"
) -> Any:
    """Sum SciPy's densities by its logsumexp. Factors go in by `Covariance.from_cholesky`."""
    from scipy.special import log_softmax, logsumexp
    from scipy.stats import Covariance, multivariate_normal

    densities = [
        multivariate_normal(mean, Covariance.from_cholesky(factor)).logpdf(x)
        for mean, factor in zip(means, chol, strict=True)
    ]
    terms = log_softmax(logits)[:, None] + np.reshape(densities, (len(means), -1))  # [K, N]
    losses = -logsumexp(terms, axis=0)
    return losses.mean() if reduction == "mean" else losses.sum()
