# mypy: disable-error-code="import-not-found"
"""JAX in double precision, jitted: its density, and the formula by triangular solves."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

REQUIRES = ("jax", "jaxlib")

Density = Callable[[Any, Any, Any], Any]


def multivariate_normal(
    x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean"
) -> tuple[Any, ...]:
    """Differentiate `jax.scipy.stats.multivariate_normal`, which wants covariances."""
    return _run("library", "logits", x, logits, means, chol, reduction)


def formula(
    x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean"
) -> tuple[Any, ...]:
    """Differentiate the formula by `jax.lax.linalg.triangular_solve`."""
    return _run("formula", "logits", x, logits, means, chol, reduction)


def formula_of_probabilities(
    x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean"
) -> tuple[Any, ...]:
    """Differentiate the formula with log_softmax(log p), as weights given as probabilities need."""
    return _run("formula", "probabilities", x, logits, means, chol, reduction)


def _run(
    density: str,
    weights: str,
    x: Any,
    logits: Any,
    means: Any,
    chol: Any,
    reduction: str,
) -> tuple[Any, ...]:
    function = _compiled(density, weights, reduction)
    value, gradients = function((logits, means, chol), x)
    return float(value), *(np.asarray(gradient) for gradient in gradients)


@functools.cache
def _compiled(density: str, weights: str, reduction: str) -> Callable[..., Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    from jax.lax.linalg import triangular_solve

    def by_library(x: Any, means: Any, chol: Any) -> Any:  # [K, N]
        def one(mean: Any, factor: Any) -> Any:
            return jax.scipy.stats.multivariate_normal.logpdf(x, mean, factor @ factor.T)

        return jax.vmap(one)(means, chol)

    def by_formula(x: Any, means: Any, chol: Any) -> Any:  # [K, N]
        residual = x.T[None] - means[:, :, None]  # [K, D, N]
        z = triangular_solve(chol, residual, left_side=True, lower=True)
        half_log_det = jnp.log(jnp.diagonal(chol, axis1=1, axis2=2)).sum(axis=1)
        constant = half_log_det + 0.5 * x.shape[1] * math.log(2 * math.pi)
        return -0.5 * (z * z).sum(axis=1) - constant[:, None]

    density_of: Density = {"library": by_library, "formula": by_formula}[density]

    def loss(parameters: Any, x: Any) -> Any:
        logits, means, chol = parameters
        if weights == "probabilities":
            logits = jnp.log(jax.nn.softmax(logits))
        terms = jax.nn.log_softmax(logits)[:, None] + density_of(x, means, jnp.tril(chol))
        losses = -jax.scipy.special.logsumexp(terms, axis=0)
        return losses.mean() if reduction == "mean" else losses.sum()

    function: Callable[..., Any] = jax.jit(jax.value_and_grad(loss))
    return function
