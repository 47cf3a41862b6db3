"""The library hmmlearn: `GaussianHMM.score`, the value alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax

REQUIRES = ("hmmlearn",)


def score(x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean") -> Any:
    """Score every sample as a sequence of its own, so that its states are a mixture."""
    from hmmlearn.hmm import GaussianHMM

    n_states = len(means)
    model = GaussianHMM(n_states, covariance_type="full")
    model.n_features = np.shape(means)[1]
    model.startprob_ = softmax(logits)
    model.transmat_ = np.full((n_states, n_states), 1.0 / n_states)
    model.means_, model.covars_ = np.asarray(means), np.array([f @ f.T for f in chol])
    loss = -model.score(x, lengths=np.ones(len(x), dtype=int))
    return loss / len(x) if reduction == "mean" else loss
