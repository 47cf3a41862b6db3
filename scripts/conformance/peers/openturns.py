"""OpenTURNS: `Mixture.computeLogPDF` of `Normal`, the value alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax

REQUIRES = ("openturns",)


def mixture(x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean") -> Any:
    """Sum log-likelihoods; it wants covariances, and weights as probabilities."""
    import openturns

    covariances = [openturns.CovarianceMatrix(np.asarray(f @ f.T, dtype=float)) for f in chol]
    components = [openturns.Normal(m, c) for m, c in zip(means, covariances, strict=True)]
    model = openturns.Mixture(components, softmax(logits))
    losses = -np.asarray(model.computeLogPDF(openturns.Sample(x)))
    return losses.mean() if reduction == "mean" else losses.sum()
