"""The loss as a primitive of JAX, under `jit`, `vmap`, `grad` and `jvp`."""

from __future__ import annotations

from functools import cache
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
    dtypes, which are float32 unless JAX was told ``jax_enable_x64``. It may be differentiated
    twice, forward or in reverse: `jax.grad`, `jax.jvp`, `jax.hessian`, and for a Hessian-vector
    product ``jax.jvp(jax.grad(f), (theta,), (direction,))[1]``.

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
    """Return the loss as a primitive of JAX, with those that are its derivatives.

    The rate of nll is `slope`, whose transpose is `pullback`, whose rate in the arguments is
    `product`, a symmetric matrix: forward mode, reverse mode and either over the other are one set
    of rules. `moving` has the places of the arguments that move, `wanted` of those whose gradients
    are wanted; what stands still is not computed.
    """
    jax, jnp = load("jax"), load("jax.numpy")
    ad, batching, mlir = (load(f"jax.interpreters.{name}") for name in ("ad", "batching", "mlir"))
    core, shaped = load("jax.extend.core"), load("jax.core").ShapedArray

    def primitive(name: str, on_host: Any, like: Any) -> Any:
        """Return a primitive that calls `on_host` with float64 arrays, for results `like`."""
        found = core.Primitive(f"gmm_np_{name}")
        found.multiple_results = True

        def call(*arrays: Any, **options: Any) -> Any:
            outputs = like(*arrays, **options)
            shapes = [jax.ShapeDtypeStruct(o.shape, o.dtype) for o in outputs]

            def function(*given: Any) -> Any:
                results = on_host(*(np.asarray(a, dtype=np.float64) for a in given), **options)
                with np.errstate(over="ignore", under="ignore"):
                    pairs = zip(results, shapes, strict=True)
                    return [np.asarray(result, dtype=s.dtype) for result, s in pairs]

            return jax.pure_callback(function, shapes, *arrays)

        def call_each(arrays: Any, axes: Any, **options: Any) -> Any:
            """One call after the other under `vmap`: the threads are those of this library."""
            mapped = [axis is not None for axis in axes]
            triples = list(zip(arrays, axes, mapped, strict=True))

            def one(rows: Any) -> Any:
                rest = iter(rows)
                return found.bind(*(next(rest) if m else a for a, _, m in triples), **options)

            outputs = jax.lax.map(one, [jnp.moveaxis(a, axis, 0) for a, axis, m in triples if m])
            return outputs, [0] * len(outputs)

        def shapes_of(*arrays: Any, **options: Any) -> Any:
            return [shaped(o.shape, o.dtype) for o in like(*arrays, **options)]

        found.def_impl(call)
        found.def_abstract_eval(shapes_of)
        mlir.register_lowering(found, mlir.lower_fun(call, multiple_results=True))
        batching.primitive_batchers[found] = call_each
        return found

    def value_like(*arrays: Any, loss: Loss, **_: Any) -> Any:
        dtype = jnp.result_type(*(a.dtype for a in arrays[1:5]))
        shape = arrays[1].shape[:1] if loss.reduction == "none" else ()
        return [jax.ShapeDtypeStruct(shape, dtype)]

    def wanted_like(*arrays: Any, wanted: Any, **_: Any) -> Any:
        return [arrays[2 + i] for i in wanted]

    def blocks(moves: Any, moving: Any, arguments: Any) -> Any:
        """Return moves of all four arguments, which are zero for what stands still."""
        of = dict(zip(moving, moves, strict=True))
        return tuple(of[i] if i in of else np.zeros_like(a) for i, a in enumerate(arguments))

    def value_on_host(weight: Any, *arguments: Any, loss: Loss) -> Any:
        return [loss.value(weight, arguments)]

    def slope_on_host(weight: Any, *arrays: Any, loss: Loss, moving: Any) -> Any:
        arguments, moves = arrays[:4], blocks(arrays[4:], moving, arrays[:4])
        return [loss.pushforward(weight, moves, arguments, with_x=0 in moving)]

    def pullback_on_host(d: Any, weight: Any, *arguments: Any, loss: Loss, wanted: Any) -> Any:
        found = loss.pullback(weight, d, arguments, with_x=0 in wanted)
        return [found[i] for i in wanted]

    def product_on_host(
        d: Any, weight: Any, *arrays: Any, loss: Loss, moving: Any, wanted: Any
    ) -> Any:
        arguments, moves = arrays[:4], blocks(arrays[4:], moving, arrays[:4])
        found = loss.hvp(weight, d, moves, arguments, with_x=0 in (*moving, *wanted))
        return [found[i] for i in wanted]

    nll = primitive("nll", value_on_host, value_like)
    slope = primitive("nll_slope", slope_on_host, value_like)
    pullback = primitive("nll_pullback", pullback_on_host, wanted_like)
    product = primitive("nll_product", product_on_host, wanted_like)

    def split(tangents: Any) -> Any:
        """Return the places of what moves, and its moves."""
        moving = tuple(i for i, t in enumerate(tangents) if type(t) is not ad.Zero)
        return moving, [tangents[i] for i in moving]

    def zeros(cotangents: Any) -> Any:
        return [ad.instantiate_zeros(ct) for ct in cotangents]

    def add(left: Any, right: Any) -> Any:
        return [a + b for a, b in zip(left, right, strict=True)]

    def nll_rate(primals: Any, tangents: Any, *, loss: Loss) -> Any:
        value = nll.bind(*primals, loss=loss)
        moving, moves = split(tangents[1:])  # the weights are not differentiated
        if not moving:
            return value, [jnp.zeros_like(v) for v in value]
        return value, slope.bind(*primals, *moves, loss=loss, moving=moving)

    def slope_rate(primals: Any, tangents: Any, *, loss: Loss, moving: Any) -> Any:
        value = slope.bind(*primals, loss=loss, moving=moving)
        rate = [jnp.zeros_like(v) for v in value]
        also, moves = split(tangents[5:])
        if also:  # linear
            places = tuple(moving[i] for i in also)
            rate = slope.bind(*primals[:5], *moves, loss=loss, moving=places)
        wanted, moves = split(tangents[1:5])
        if wanted:
            if loss.reduction == "none":
                raise NotImplementedError(
                    'reduction="none" cannot be differentiated twice in forward mode; take the '
                    "first derivative in reverse mode, by jax.grad, jax.vjp or jax.jacrev."
                )
            found = product.bind(
                jnp.ones_like(value[0]), *primals, loss=loss, moving=moving, wanted=wanted
            )
            rate = add(rate, [sum(jnp.vdot(f, m) for f, m in zip(found, moves, strict=True))])
        return value, rate

    def slope_transpose(cotangents: Any, *arrays: Any, loss: Loss, moving: Any) -> Any:
        places = [i for i, a in enumerate(arrays[5:]) if ad.is_undefined_primal(a)]
        wanted = tuple(moving[i] for i in places)
        found = pullback.bind(*zeros(cotangents), *arrays[:5], loss=loss, wanted=wanted)
        return _at(places, found, 5, len(moving))

    def pullback_rate(primals: Any, tangents: Any, *, loss: Loss, wanted: Any) -> Any:
        value = pullback.bind(*primals, loss=loss, wanted=wanted)
        rate = [jnp.zeros_like(v) for v in value]
        if type(tangents[0]) is not ad.Zero:
            rate = pullback.bind(tangents[0], *primals[1:], loss=loss, wanted=wanted)
        moving, moves = split(tangents[2:])
        if moving:
            more = product.bind(*primals, *moves, loss=loss, moving=moving, wanted=wanted)
            rate = add(rate, more)
        return value, rate

    def pullback_transpose(cotangents: Any, _: Any, *arrays: Any, loss: Loss, wanted: Any) -> Any:
        found = slope.bind(*arrays, *zeros(cotangents), loss=loss, moving=wanted)
        return [*found, *[None] * len(arrays)]

    def product_rate(primals: Any, tangents: Any, *, loss: Loss, moving: Any, wanted: Any) -> Any:
        also, moves = split(tangents[6:])
        if split(tangents[:6])[0]:
            raise NotImplementedError("nll can be differentiated twice, and no more.")
        value = product.bind(*primals, loss=loss, moving=moving, wanted=wanted)
        places = tuple(moving[i] for i in also)
        return value, product.bind(*primals[:6], *moves, loss=loss, moving=places, wanted=wanted)

    def product_transpose(
        cotangents: Any, *arrays: Any, loss: Loss, moving: Any, wanted: Any
    ) -> Any:
        places = [i for i, a in enumerate(arrays[6:]) if ad.is_undefined_primal(a)]
        back = tuple(moving[i] for i in places)
        found = product.bind(*arrays[:6], *zeros(cotangents), loss=loss, moving=wanted, wanted=back)
        return _at(places, found, 6, len(moving))

    rules = (
        (nll, nll_rate, None),
        (slope, slope_rate, slope_transpose),
        (pullback, pullback_rate, pullback_transpose),
        (product, product_rate, product_transpose),
    )
    for each, rate, transpose in rules:
        ad.primitive_jvps[each] = rate
        if transpose is not None:
            ad.primitive_transposes[each] = transpose
    return lambda loss, *arrays: nll.bind(*arrays, loss=loss)[0]


def _at(places: Any, found: Any, before: int, size: int) -> list[Any]:
    """Return cotangents of all operands: none of the first ones, and `found` at some places."""
    of = dict(zip(places, found, strict=True))
    return [*[None] * before, *(of.get(i) for i in range(size))]
