"""The library gmr: `GMM.to_probability_density`, the value alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax

REQUIRES = ("gmr",)


def to_probability_density(
    x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean"
) -> Any:
    """Sum logarithms of densities, since it has no log-likelihoods; it wants covariances."""
    from gmr import GMM

    covariances = np.array([f @ f.T for f in chol])
    model = GMM(len(means), softmax(logits), np.asarray(means), covariances)
    losses = -np.log(model.to_probability_density(np.asarray(x)))
    return losses.mean() if reduction == "mean" else losses.sum()
