"""Pomegranate: `GeneralMixtureModel.log_probability` of `Normal`, the value alone."""

from __future__ import annotations

from typing import Any

REQUIRES = ("pomegranate", "torch")


def general_mixture_model(
    x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean"
) -> Any:
    """Sum log-likelihoods; it wants covariances, and weights as probabilities."""
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    data, weights, mu, factors = (torch.tensor(a) for a in (x, logits, means, chol))
    torch.set_default_dtype(data.dtype)
    pairs = zip(mu, factors, strict=True)
    components = [Normal(m, f @ f.T, covariance_type="full") for m, f in pairs]
    model = GeneralMixtureModel(components, priors=weights.softmax(0))
    losses = -model.log_probability(data)
    return float(losses.mean() if reduction == "mean" else losses.sum())
