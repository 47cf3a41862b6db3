# mypy: disable-error-code="no-untyped-call"
"""PyTorch: `torch.distributions.MixtureSameFamily`, gradients by autograd."""

from __future__ import annotations

from typing import Any

REQUIRES = ("torch",)


def mixture_same_family(
    x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean"
) -> tuple[Any, ...]:
    """Differentiate the mixture of PyTorch's distributions, which check their arguments."""
    import torch
    from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

    data, *parameters = (torch.tensor(a) for a in (x, logits, means, chol))
    for parameter in parameters:
        parameter.requires_grad_()
    mixture = MixtureSameFamily(
        Categorical(logits=parameters[0]),
        MultivariateNormal(parameters[1], scale_tril=parameters[2]),
    )
    losses = -mixture.log_prob(data)  # [N]
    value = losses.mean() if reduction == "mean" else losses.sum()
    gradients = torch.autograd.grad(value, parameters)
    return value.item(), *(gradient.numpy() for gradient in gradients)
