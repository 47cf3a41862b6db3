"""The library itself: the reference, and the engine's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

REQUIRES = ("gmm_np", "numpy", "scipy")


def reference(
    x: Any,
    logits: Any,
    means: Any,
    chol: Any,
    *,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> tuple[Any, ...]:
    """Call the reference, which is the chain rule."""
    from gmm_np.reference import nll_backward, nll_forward

    value, cache = nll_forward(
        x, logits, means, chol, sample_weight=sample_weight, reduction=reduction
    )
    return (value, *nll_backward(cache)[:3])


def auto(
    x: Any,
    logits: Any,
    means: Any,
    chol: Any,
    *,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> tuple[Any, ...]:
    """Call the engine, which chooses its kernel."""
    return _engine(x, logits, means, chol, sample_weight, reduction, "auto")


def direct(
    x: Any,
    logits: Any,
    means: Any,
    chol: Any,
    *,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> tuple[Any, ...]:
    """Call the engine's direct kernel."""
    return _engine(x, logits, means, chol, sample_weight, reduction, "direct")


def _engine(
    x: Any, logits: Any, means: Any, chol: Any, weight: Any, reduction: str, method: str
) -> tuple[Any, ...]:
    from gmm_np import nll_value_and_grad

    value, gradients = nll_value_and_grad(
        x, logits, means, chol, sample_weight=weight, reduction=reduction, method=method
    )
    return (value, *gradients[:3])


def precision(x: Any, alpha: Any, means: Any, icf: Any, gamma: Any, m: Any) -> tuple[Any, ...]:
    """Call the objective of ADBench and GradBench."""
    from gmm_np.parametrizations import precision_value_and_grad

    d = np.shape(means)[1]
    q, lower = icf[:, :d], icf[:, d:]
    value, (d_alpha, d_mu, d_q, d_l) = precision_value_and_grad(
        x, alpha, means, q, lower, gamma=float(gamma), m=float(m)
    )
    return value, d_alpha, d_mu, np.concatenate([d_q, d_l], axis=1)
