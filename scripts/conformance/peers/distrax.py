"""Distrax: `MixtureSameFamily` of `MultivariateNormalTri`, gradients by JAX."""

from __future__ import annotations

from typing import Any

from conformance.peers.jax_gradient import answer

REQUIRES = ("distrax", "jax")


def mixture_same_family(
    x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean"
) -> tuple[Any, ...]:
    """Differentiate the mixture."""
    from distrax import Categorical, MixtureSameFamily, MultivariateNormalTri

    def log_prob(logits: Any, means: Any, chol: Any) -> Any:
        components = MultivariateNormalTri(means, chol)
        return MixtureSameFamily(Categorical(logits), components).log_prob(x)

    return answer(log_prob, logits, means, chol, reduction)
