# mypy: disable-error-code="import-untyped"
"""scikit-learn: `GaussianMixture.score_samples`, the value alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import softmax

REQUIRES = ("scikit-learn",)


def score_samples(x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean") -> Any:
    """Score with the fitted attributes set; factors of precisions are the inverses of the chol."""
    return _reduce(-fitted(logits, means, chol).score_samples(x), reduction)


def precisions_init(x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean") -> Any:
    """Score with precisions made from precisions_init, as `_initialize` does for a start."""
    from sklearn.mixture import GaussianMixture

    estimator = GaussianMixture(
        len(means),
        weights_init=softmax(logits),
        means_init=means,
        precisions_init=np.array([np.linalg.inv(f @ f.T) for f in chol]),
    )
    resp = np.full((len(x), len(means)), 1.0 / len(means))
    estimator._initialize(np.asarray(x), resp)
    factors = estimator.precisions_cholesky_
    return _reduce(-_with_factors(logits, means, factors).score_samples(x), reduction)


def fitted(logits: Any, means: Any, chol: Any) -> Any:
    """Return an estimator that has these parameters, as after a fit."""
    inverse = [solve_triangular(f, np.eye(len(f)), lower=True) for f in chol]
    return _with_factors(logits, means, np.transpose(inverse, (0, 2, 1)))


def _with_factors(logits: Any, means: Any, factors: Any) -> Any:
    from sklearn.mixture import GaussianMixture

    estimator = GaussianMixture(len(means))
    estimator.weights_ = softmax(logits)
    estimator.means_ = np.asarray(means)
    estimator.precisions_cholesky_ = np.asarray(factors)
    estimator.covariances_ = np.asarray(factors)  # only looked for, to see whether it is fitted
    return estimator


def _reduce(losses: Any, reduction: str) -> Any:
    return losses.mean() if reduction == "mean" else losses.sum()
