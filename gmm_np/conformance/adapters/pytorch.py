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

    data, *parameters = (torch.tensor(a) for a in (x, logits, means, chol))
    for parameter in parameters:
        parameter.requires_grad_()
    value = _loss(data, *parameters, reduction=reduction)
    gradients = torch.autograd.grad(value, parameters)
    return value.item(), *(gradient.numpy() for gradient in gradients)


def hvp(
    x: Any,
    logits: Any,
    means: Any,
    chol: Any,
    v_logits: Any,
    v_means: Any,
    v_chol: Any,
    *,
    reduction: str = "mean",
) -> tuple[Any, ...]:
    """Differentiate the gradient along a direction."""
    import torch

    data, *parameters = (torch.tensor(a) for a in (x, logits, means, chol))
    direction = tuple(torch.tensor(a) for a in (v_logits, v_means, v_chol))

    def loss(*parameters: Any) -> Any:
        return _loss(data, *parameters, reduction=reduction)

    _, products = torch.autograd.functional.hvp(loss, tuple(parameters), direction)
    return tuple(product.numpy() for product in products)


mixture_same_family.hvp = hvp  # type: ignore[attr-defined]


def _loss(data: Any, logits: Any, means: Any, chol: Any, *, reduction: str) -> Any:
    losses = -log_prob(data, logits, means, chol)  # [N]
    return losses.mean() if reduction == "mean" else losses.sum()


def log_prob(
    x: Any, logits: Any, means: Any, chol: Any, *, validate_args: bool | None = None
) -> Any:
    """Return log-likelihoods [N] of tensors; None leaves checks of arguments to PyTorch."""
    from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

    return MixtureSameFamily(
        Categorical(logits=logits, validate_args=validate_args),
        MultivariateNormal(means, scale_tril=chol, validate_args=validate_args),
        validate_args=validate_args,
    ).log_prob(x)
