# mypy: disable-error-code="import-not-found"
"""HIPS autograd: its `multivariate_normal` and `logsumexp`."""

from __future__ import annotations

from typing import Any

REQUIRES = ("autograd",)


def multivariate_normal(
    x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean"
) -> tuple[Any, ...]:
    """Differentiate a mixture of autograd's densities, which want covariances."""
    import autograd
    import autograd.numpy as anp
    from autograd.scipy.special import logsumexp
    from autograd.scipy.stats import multivariate_normal

    def loss(parameters: Any) -> Any:
        logits, means, chol = parameters
        log_pi = logits - logsumexp(logits)
        terms = [
            log_pi[k] + multivariate_normal.logpdf(x, mean, anp.dot(factor, factor.T))
            for k, mean, factor in ((k, means[k], anp.tril(chol[k])) for k in range(len(means)))
        ]
        losses = -logsumexp(anp.array(terms), axis=0)
        return anp.mean(losses) if reduction == "mean" else anp.sum(losses)

    value, gradients = autograd.value_and_grad(loss)((logits, means, chol))
    return value, *gradients
