"""Pyro: its own `MixtureOfDiagNormals`, gradients by autograd; else it has PyTorch's mixtures."""

from __future__ import annotations

from typing import Any

REQUIRES = ("pyro-ppl", "torch")


def mixture(x: Any, logits: Any, means: Any, chol: Any) -> Any:
    """Decline full covariances, for which Pyro takes what PyTorch has."""
    raise NotImplementedError("MixtureOfDiagNormals has diagonal covariances")


def mixture_of_diag_normals(
    x: Any, logits: Any, means: Any, scale: Any, *, reduction: str = "mean"
) -> tuple[Any, ...]:
    """Differentiate the mixture by its standard deviations [K, D]."""
    import torch
    from pyro.distributions import MixtureOfDiagNormals

    data, *parameters = (torch.tensor(a) for a in (x, logits, means, scale))
    for parameter in parameters:
        parameter.requires_grad_()
    logits, means, scale = parameters
    losses = -MixtureOfDiagNormals(means, scale, logits).log_prob(data)
    value = losses.mean() if reduction == "mean" else losses.sum()
    gradients = torch.autograd.grad(value, parameters)
    return value.item(), *(gradient.numpy() for gradient in gradients)


mixture.diag = mixture_of_diag_normals  # type: ignore[attr-defined]
