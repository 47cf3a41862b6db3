"""The loss as a JAX function with derivatives of its own, safe under `jit`, `vmap` and `grad`."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

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
    """Negative log-likelihood of a Gaussian mixture, as a function of JAX arrays.

    Computed by this library on the host in float64; the value and the gradients come in the arrays'
    dtypes, which are float32 unless JAX was told ``jax_enable_x64``. Reverse mode, twice:
    `jax.grad`, `jax.vjp`, and ``jax.jacrev(jax.grad(f))`` for the Hessian.

    Parameters
    ----------
    x : array, shape [N, D]
    pi_logits, means, scale : array
        As for `gmm_np.nll`; or, with an axis of N rows before their own, a mixture for each row, as
        for `gmm_np.mdn.nll`. Above the diagonal of a factor there have to be zeros: `jnp.tril`.
    family : str
        Static, as `reduction` is.
    sample_weight : array, shape [N], optional
        Weights, which are not differentiated.
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    value : array, shape [], or [N] for ``reduction="none"``

    Raises
    ------
    ValueError
        If an option is unknown. What is wrong with the arrays JAX reports in an error of its own,
        which quotes that of `gmm_np.nll`.

    Examples
    --------
    A step of training, compiled::

        step = jax.jit(jax.value_and_grad(nll, argnums=(1, 2, 3)))
        value, gradients = step(x, pi_logits, means, jnp.tril(scale))
    """
    jnp = load("jax.numpy")

    arguments = [jnp.asarray(a) for a in (x, pi_logits, means, scale)]
    arguments = [a if jnp.issubdtype(a.dtype, jnp.floating) else a * 1.0 for a in arguments]
    weight = jnp.ones(arguments[0].shape[:1]) if sample_weight is None else sample_weight
    return _operation()(Loss(family, reduction), jnp.asarray(weight) * 1.0, *arguments)


@cache
def _operation() -> Any:
    """Return the loss, whose backward is the pullback, whose backward is a callback."""
    jax, jnp = load("jax"), load("jax.numpy")

    def call(function: Any, like: Any, *arrays: Any) -> Any:
        """Call `function` of float64 arrays on the host, for results in shapes and dtypes `like`.

        One call after the other under `vmap`: the threads are those of this library.
        """
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), like)

        def on_host(*given: Any) -> Any:
            found = function(*(np.asarray(a, dtype=np.float64) for a in given))
            with np.errstate(over="ignore", under="ignore"):
                return jax.tree.map(lambda g, a: np.asarray(g, dtype=a.dtype), found, shapes)

        return jax.pure_callback(on_host, shapes, *arrays, vmap_method="sequential")

    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def nll(loss: Loss, weight: Any, x: Any, logits: Any, means: Any, scale: Any) -> Any:
        n_values = (len(x),) if loss.reduction == "none" else ()
        like = jax.ShapeDtypeStruct(n_values, jnp.result_type(x, logits, means, scale))
        return call(lambda w, *a: loss.value(w, a), like, weight, x, logits, means, scale)

    def nll_forward(loss: Loss, *arrays: Any) -> Any:
        return nll(loss, *arrays), arrays

    def nll_backward(loss: Loss, arrays: Any, d_value: Any) -> Any:
        return jnp.zeros_like(arrays[0]), *pullback(loss, d_value, *arrays)

    nll.defvjp(nll_forward, nll_backward)

    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def pullback(
        loss: Loss, d_value: Any, weight: Any, x: Any, logits: Any, means: Any, scale: Any
    ) -> Any:
        arguments = (x, logits, means, scale)
        return call(lambda d, w, *a: loss.pullback(w, d, a), arguments, d_value, weight, *arguments)

    def pullback_forward(loss: Loss, *arrays: Any) -> Any:
        return pullback(loss, *arrays), arrays

    def pullback_backward(loss: Loss, arrays: Any, moves: Any) -> Any:
        d_value, weight, *arguments = arrays

        def second(d: Any, w: Any, *rest: Any) -> Any:
            found = loss.second_pullback(w, d, rest[:4], rest[4:])
            return found[0], *found[1]

        like = (d_value, *arguments)
        d_d_value, *others = call(second, like, d_value, weight, *moves, *arguments)
        return d_d_value, jnp.zeros_like(weight), *others

    pullback.defvjp(pullback_forward, pullback_backward)
    return nll
