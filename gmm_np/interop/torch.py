"""The loss as a PyTorch operation, differentiable twice; mixtures as PyTorch distributions."""

from __future__ import annotations

from functools import cache, reduce
from typing import Any

import numpy as np

from gmm_np.covariance import FAMILIES
from gmm_np.interop import load
from gmm_np.interop.loss import Loss, as_parameters
from gmm_np.parameters import Parameters

__all__ = ["from_torch", "nll", "to_torch"]


def nll(
    x: Any,
    pi_logits: Any,
    means: Any,
    scale: Any,
    family: str = "full",
    sample_weight: Any = None,
    reduction: str = "mean",
) -> Any:
    """Negative log-likelihood of a Gaussian mixture, as a function of tensors.

    Computed by this library on the CPU in float64, whatever the tensors are; the value and the
    gradients come in the tensors' dtypes, on their devices. It may be differentiated twice.

    Parameters
    ----------
    x : tensor, shape [N, D]
    pi_logits, means, scale : tensor
        As for `gmm_np.nll`; or, with an axis of N rows before their own, a mixture for each row, as
        for `gmm_np.mdn.nll`. Above the diagonal of a factor there have to be zeros: `torch.tril`.
    family : str
    sample_weight : tensor, shape [N], optional
        Weights, which are not differentiated.
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    value : tensor, shape [], or [N] for ``reduction="none"``

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `gmm_np.nll`, `gmm_np.mdn.nll` and their derivatives.

    Examples
    --------
    Behind a network::

        loss = nll(x, pi_logits, means, torch.tril(scale))
        loss.backward()
    """
    tensors = [_as_tensor(argument) for argument in (x, pi_logits, means, scale)]
    weight = None if sample_weight is None else _to_numpy(_as_tensor(sample_weight))
    return _operations()[0].apply(Loss(family, reduction), weight, *tensors)


def to_torch(model: Any) -> Any:
    """Return a mixture as a `torch.distributions.MixtureSameFamily`, in float64.

    Parameters
    ----------
    model : Parameters, or a fitted GaussianMixture

    Returns
    -------
    distribution : torch.distributions.MixtureSameFamily
        Of `MultivariateNormal` for families of Cholesky factors, and of independent `Normal` for
        those of standard deviations.

    Raises
    ------
    TypeError
        If the model is neither.
    """
    td = load("torch.distributions")

    parameters = as_parameters(model)
    shape, form = parameters.means.shape, FAMILIES[parameters.family]
    logits, means = (_of_numpy(a) for a in (parameters.pi_logits, parameters.means))
    if form.has_factors:
        components: Any = td.MultivariateNormal(means, scale_tril=_of_numpy(parameters.factors()))
    else:
        deviations = form.structure.deviations(parameters.scale.astype(np.float64))
        normal = td.Normal(means, _of_numpy(np.broadcast_to(deviations, shape)))
        components = td.Independent(normal, 1)
    return td.MixtureSameFamily(td.Categorical(logits=logits), components)


def from_torch(distribution: Any) -> Parameters:
    """Return the parameters of a mixture of normals.

    Parameters
    ----------
    distribution : torch.distributions.MixtureSameFamily
        One mixture, of `MultivariateNormal` or `LowRankMultivariateNormal`, which become family
        "full"; of independent `Normal`, "diag"; or of `Normal`, "spherical" in one dimension.

    Returns
    -------
    parameters : Parameters
        A copy in float64, detached.

    Raises
    ------
    TypeError
        If it is no mixture, or its components are no normals.
    ValueError
        If it is a batch of mixtures.
    """
    td = load("torch.distributions")

    if not isinstance(distribution, td.MixtureSameFamily):
        raise TypeError(
            "distribution must be a torch.distributions.MixtureSameFamily; got "
            f"{type(distribution).__name__}."
        )
    if distribution.batch_shape:
        raise ValueError(
            f"distribution is a batch of mixtures, of shape {tuple(distribution.batch_shape)}; "
            "give one of them."
        )
    components = distribution.component_distribution
    logits, means = distribution.mixture_distribution.logits, components.mean
    base = getattr(components, "base_dist", None)
    if isinstance(components, td.MultivariateNormal | td.LowRankMultivariateNormal):
        scale, family = components.scale_tril, "full"
    elif isinstance(components, td.Independent) and isinstance(base, td.Normal):
        scale, family = base.scale.expand(means.shape), "diag"
    elif isinstance(components, td.Normal):
        means, scale, family = means[:, None], components.scale, "spherical"
    else:
        raise TypeError(
            "distribution must have components that are MultivariateNormal, Normal, or an "
            f"Independent of Normal; got {components}."
        )
    return Parameters(_to_numpy(logits), _to_numpy(means), _to_numpy(scale), family)


def _as_tensor(argument: Any) -> Any:
    torch = load("torch")

    return argument if isinstance(argument, torch.Tensor) else torch.as_tensor(np.array(argument))


def _to_numpy(tensor: Any) -> Any:
    torch = load("torch")

    if tensor.is_complex():
        raise TypeError("tensors must hold real numbers; got a complex one. Take its .real.")
    return tensor.detach().to("cpu", torch.float64).numpy()


def _of_numpy(array: Any) -> Any:
    torch = load("torch")

    return torch.tensor(np.asarray(array), dtype=torch.float64)


@cache
def _operations() -> tuple[Any, Any]:
    """Return the loss and its pullback: each is the backward of the one before."""
    import torch
    from torch.autograd.function import once_differentiable

    class Nll(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(loss: Loss, weight: Any, *tensors: Any) -> Any:
            value = loss.value(weight, tuple(map(_to_numpy, tensors)))
            dtype = reduce(torch.promote_types, (t.dtype for t in tensors))
            dtype = dtype if dtype.is_floating_point else torch.float64
            return _of_numpy(value).to(tensors[0].device, dtype)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004
            ctx.options = inputs[:2]
            ctx.save_for_backward(*inputs[2:])

        @staticmethod
        def backward(ctx: Any, d_value: Any) -> Any:
            with_x = ctx.needs_input_grad[2]
            found = Pullback.apply(*ctx.options, with_x, d_value, *ctx.saved_tensors)
            return None, None, *found

    class Pullback(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(loss: Loss, weight: Any, with_x: bool, d_value: Any, *tensors: Any) -> Any:
            d_out, *arguments = map(_to_numpy, (d_value, *tensors))
            found = loss.pullback(weight, d_out, tuple(arguments), with_x)
            return tuple(_of_numpy(g).to(t) for g, t in zip(found, tensors, strict=True))

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004
            ctx.options = inputs[:3]
            ctx.save_for_backward(*inputs[3:])

        @staticmethod
        @once_differentiable  # type: ignore[untyped-decorator]
        def backward(ctx: Any, *moves: Any) -> Any:
            loss, weight, with_x = ctx.options
            d_value, *tensors = ctx.saved_tensors
            d_out, *arguments = map(_to_numpy, (d_value, *tensors))
            found = loss.second_pullback(
                weight, d_out, tuple(map(_to_numpy, moves)), tuple(arguments), with_x
            )
            pairs = zip((found[0], *found[1]), (d_value, *tensors), strict=True)
            return None, None, None, *(_of_numpy(g).to(t) for g, t in pairs)

    return Nll, Pullback
