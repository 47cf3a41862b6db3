"""NumPyro: `MixtureSameFamily` of `MultivariateNormal`, gradients by JAX."""

from __future__ import annotations

from typing import Any

from conformance.peers.jax_gradient import answer

REQUIRES = ("numpyro", "jax")


def mixture_same_family(
    x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean"
) -> tuple[Any, ...]:
    """Differentiate the mixture, which checks its arguments where they are no tracers."""
    from numpyro.distributions import CategoricalLogits, MixtureSameFamily, MultivariateNormal

    def log_prob(logits: Any, means: Any, chol: Any) -> Any:
        components = MultivariateNormal(means, scale_tril=chol)
        return MixtureSameFamily(CategoricalLogits(logits), components).log_prob(x)

    return answer(log_prob, logits, means, chol, reduction)
