"""The loss as a PyTorch operation, differentiable twice; mixtures as PyTorch distributions."""

from __future__ import annotations

from functools import reduce
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
    gradients come in the tensors' dtypes, on their devices. It may be differentiated twice, in
    reverse or forward, by autograd or by `torch.func`; `torch.func.vmap` calls it once for each.
    `torch.compile` leaves it as it is, between compiled parts.

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
    global _nll  # torch.compile warns of functools.cache
    if _nll is None:
        _nll = _operation()
    return _nll(x, pi_logits, means, scale, family, sample_weight, reduction)


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


_nll: Any = None


def _operation() -> Any:
    """Return `nll`, whose rules of differentiation are operations that have such rules themselves.

    `Slope`, the rate of the value, is the transpose of `Pullback`, the gradient; `Product` is the
    rate of either, the Hessian along a direction.
    """
    torch = load("torch")

    class Operation(torch.autograd.Function):  # type: ignore[misc, name-defined]
        """Arguments: the loss, whether x moves or its gradient is wanted, weights, and tensors."""

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004
            ctx.options = inputs[:2]
            ctx.save_for_backward(*inputs[2:])
            ctx.save_for_forward(*inputs[2:])

        @classmethod
        def vmap(cls, info: Any, in_dims: Any, *inputs: Any) -> Any:
            """Call it for each: the threads are those of this library."""
            pairs = list(zip(inputs, in_dims, strict=True))
            found = [
                cls.apply(*(a if axis is None else a.select(axis, i) for a, axis in pairs))
                for i in range(info.batch_size)
            ]
            if not isinstance(found[0], tuple):
                return torch.stack(found), 0
            outputs = tuple(map(torch.stack, zip(*found, strict=True)))
            return outputs, (0,) * len(outputs)

    class Nll(Operation):
        @staticmethod
        def forward(loss: Loss, _: bool, weight: Any, *tensors: Any) -> Any:
            return like_all(loss.value(_weight(weight), _arrays(tensors)), tensors)

        @staticmethod
        def backward(ctx: Any, d_value: Any) -> Any:
            loss, _ = ctx.options
            weight, *tensors = ctx.saved_tensors
            found = Pullback.apply(loss, ctx.needs_input_grad[3], weight, d_value, *tensors)
            return None, None, None, *found

        @staticmethod
        def jvp(ctx: Any, *rates: Any) -> Any:
            loss, _ = ctx.options
            weight, *tensors = ctx.saved_tensors
            moves = filled(rates[3:], tensors)
            return Slope.apply(loss, rates[3] is not None, weight, *tensors, *moves)

    class Slope(Operation):
        @staticmethod
        def forward(loss: Loss, with_x: bool, weight: Any, *tensors: Any) -> Any:
            arguments, moves = _arrays(tensors[:4]), _arrays(tensors[4:])
            found = loss.pushforward(_weight(weight), moves, arguments, with_x)
            return like_all(found, tensors[:4])

        @staticmethod
        def backward(ctx: Any, d_slope: Any) -> Any:
            loss, with_x = ctx.options
            weight, *tensors = ctx.saved_tensors
            of_x, of_its_move = ctx.needs_input_grad[3], ctx.needs_input_grad[7]
            in_arguments = Product.apply(loss, with_x or of_x, weight, d_slope, *tensors)
            in_moves = Pullback.apply(loss, of_its_move, weight, d_slope, *tensors[:4])
            return None, None, None, *in_arguments, *in_moves

        @staticmethod
        def jvp(ctx: Any, *rates: Any) -> Any:
            loss, with_x = ctx.options
            weight, *tensors = ctx.saved_tensors
            of_x, of_its_move = rates[3] is not None, rates[7] is not None
            moves = filled(rates[3:], tensors)
            if loss.reduction == "none":
                raise NotImplementedError(
                    'reduction="none" cannot be differentiated twice in forward mode; take the '
                    "first derivative in reverse mode, by torch.func.grad, vjp or jacrev."
                )
            one = tensors[0].new_ones(())
            curved = Product.apply(loss, with_x or of_x, weight, one, *tensors)
            linear = Slope.apply(loss, of_its_move, weight, *tensors[:4], *moves[4:])
            return linear + sum((c * m).sum() for c, m in zip(curved, moves[:4], strict=True))

    class Pullback(Operation):
        @staticmethod
        def forward(loss: Loss, with_x: bool, weight: Any, *tensors: Any) -> Any:
            d_value, *arguments = _arrays(tensors)
            found = loss.pullback(_weight(weight), d_value, tuple(arguments), with_x)
            return like_each(found, tensors[1:])

        @staticmethod
        def backward(ctx: Any, *moves: Any) -> Any:
            loss, with_x = ctx.options
            weight, d_value, *tensors = ctx.saved_tensors
            of_x = ctx.needs_input_grad[4]
            in_d_value = Slope.apply(loss, with_x, weight, *tensors, *moves)
            found = Product.apply(loss, with_x or of_x, weight, d_value, *tensors, *moves)
            return None, None, None, in_d_value, *found

        @staticmethod
        def jvp(ctx: Any, *rates: Any) -> Any:
            loss, with_x = ctx.options
            weight, d_value, *tensors = ctx.saved_tensors
            of_x = rates[4] is not None
            dot_d_value, *moves = filled(rates[3:], (d_value, *tensors))
            linear = Pullback.apply(loss, with_x, weight, dot_d_value, *tensors)
            curved = Product.apply(loss, with_x or of_x, weight, d_value, *tensors, *moves)
            return tuple(a + b for a, b in zip(linear, curved, strict=True))

    class Product(Operation):
        @staticmethod
        def forward(loss: Loss, with_x: bool, weight: Any, *tensors: Any) -> Any:
            d_value, *arrays = _arrays(tensors)
            arguments, moves = tuple(arrays[:4]), tuple(arrays[4:])
            found = loss.hvp(_weight(weight), d_value, moves, arguments, with_x)
            return like_each(found, tensors[1:5])

        @staticmethod
        def backward(ctx: Any, *moves: Any) -> Any:
            raise NotImplementedError("nll can be differentiated twice, and no more.")

        jvp = backward

    def like_all(found: Any, tensors: Any) -> Any:
        dtype = reduce(torch.promote_types, (t.dtype for t in tensors))
        dtype = dtype if dtype.is_floating_point else torch.float64
        return _of_numpy(found).to(tensors[0].device, dtype)

    def like_each(found: Any, tensors: Any) -> Any:
        return tuple(_of_numpy(g).to(t) for g, t in zip(found, tensors, strict=True))

    def filled(moves: Any, tensors: Any) -> Any:
        """Return moves, zeros for what stands still."""
        pairs = zip(moves, tensors, strict=True)
        return [torch.zeros_like(t) if move is None else move for move, t in pairs]

    def nll(
        x: Any,
        pi_logits: Any,
        means: Any,
        scale: Any,
        family: str,
        sample_weight: Any,
        reduction: str,
    ) -> Any:
        tensors = [_as_tensor(argument) for argument in (x, pi_logits, means, scale)]
        weight = None if sample_weight is None else _as_tensor(sample_weight).detach()
        return Nll.apply(Loss(family, reduction), False, weight, *tensors)

    # Dynamo would trace NumPy's calls as tensors' own.
    return torch.compiler.disable(nll)


def _arrays(tensors: Any) -> Any:
    return tuple(map(_to_numpy, tensors))


def _weight(weight: Any) -> Any:
    return None if weight is None else _to_numpy(weight)
