"""The log-likelihood of rows that have mixtures of their own, by PyTorch's distributions."""

import torch


def log_prob(x, pi_logits, means, scale, family):
    """PyTorch's own mixture, of a batch of rows."""
    if family == "full":
        components = torch.distributions.MultivariateNormal(means, scale_tril=torch.tril(scale))
    else:
        deviations = scale if family == "diag" else scale[..., None].expand_as(means)
        components = torch.distributions.Independent(
            torch.distributions.Normal(means, deviations), 1
        )
    weights = torch.distributions.Categorical(logits=pi_logits)
    return torch.distributions.MixtureSameFamily(weights, components).log_prob(x)
