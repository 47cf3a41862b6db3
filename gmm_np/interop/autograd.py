"""The loss as a primitive of HIPS autograd, differentiable twice."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gmm_np.checks import check_sample_weight
from gmm_np.interop import load
from gmm_np.interop.loss import Loss

__all__ = ["nll"]


def nll(
    x: Any,
    pi_logits: Any,
    means: Any,
    scale: Any,
    family: str = "full",
    sample_weight: Any = None,
    reduction: str = "mean",
) -> Any:
    """Negative log-likelihood of a Gaussian mixture, as a function that autograd differentiates.

    Parameters
    ----------
    x : array, shape [N, D]
    pi_logits, means, scale : array
        As for `gmm_np.nll`; or, with an axis of N rows before their own, a mixture for each row, as
        for `gmm_np.mdn.nll`. Above the diagonal of a factor there have to be zeros: `np.tril`.
    family : str
    sample_weight : array, shape [N], optional
        Weights, which are not differentiated.
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    value : float, or array of shape [N] for ``reduction="none"``

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `gmm_np.nll`, `gmm_np.mdn.nll` and their derivatives.

    Examples
    --------
    The gradient in the means::

        d_means = autograd.grad(nll, argnum=2)(x, pi_logits, means, scale)
    """
    weight = check_sample_weight(sample_weight, len(x))
    return _operation()(x, pi_logits, means, scale, Loss(family, reduction), weight)


@cache
def _operation() -> Any:
    """Return the loss, of which the pullback is a primitive too."""
    anp, extend = load("autograd.numpy"), load("autograd.extend")
    defvjp_argnums, primitive = extend.defvjp_argnums, extend.primitive

    @primitive  # type: ignore[untyped-decorator]
    def nll(x: Any, logits: Any, means: Any, scale: Any, loss: Loss, weight: Any) -> Any:
        value = loss.value(weight, _as_arrays(x, logits, means, scale))
        return value if value.ndim else float(value)

    @primitive  # type: ignore[untyped-decorator]
    def pullback(d_value: Any, *rest: Any) -> Any:
        """Gradients in x, logits, means and scale, one after the other in a vector."""
        *arguments, loss, weight = rest
        d_out = np.asarray(d_value, dtype=np.float64)
        return _packed(loss.pullback(weight, d_out, _as_arrays(*arguments)))

    @primitive  # type: ignore[untyped-decorator]
    def second_pullback(moves: Any, d_value: Any, *rest: Any) -> Any:
        *arguments, loss, weight = rest
        arrays, d_out = _as_arrays(*arguments), np.asarray(d_value, dtype=np.float64)
        given = tuple(split(moves, arrays))
        d_d_value = loss.pushforward(weight, given, arrays)
        return _packed((d_d_value, *loss.hvp(weight, d_out, given, arrays)))

    def split(vector: Any, arrays: Any) -> list[Any]:
        """Return the parts of a vector in the shapes of arrays, by what autograd differentiates."""
        edges = np.cumsum([0, *(np.size(a) for a in arrays)])
        parts = zip(edges, edges[1:], arrays, strict=False)
        return [anp.reshape(vector[start:stop], np.shape(a)) for start, stop, a in parts]

    def nll_vjp(argnums: Any, _: Any, args: Any, __: Any) -> Any:
        def vjp(d_value: Any) -> Any:
            blocks = split(pullback(d_value, *args), args[:4])
            return tuple(blocks[i] for i in argnums)

        return vjp

    def pullback_vjp(argnums: Any, _: Any, args: Any, __: Any) -> Any:
        def vjp(moves: Any) -> Any:
            blocks = split(second_pullback(moves, *args), args[:5])
            return tuple(blocks[i] for i in argnums)

        return vjp

    defvjp_argnums(nll, nll_vjp)
    defvjp_argnums(pullback, pullback_vjp)
    return nll


def _as_arrays(*arguments: Any) -> Any:
    return tuple(np.asarray(a, dtype=np.float64) for a in arguments)


def _packed(arrays: Any) -> Any:
    return np.concatenate([np.ravel(a) for a in arrays])
