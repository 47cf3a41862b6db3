# mypy: disable-error-code="import-not-found"
"""JAX in double precision, jitted: its density, and the formula by triangular solves."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

REQUIRES = ("jax", "jaxlib")

LogDensity = Callable[[Any, Any, Any], Any]  # of x [N, D], means, chol, all traced: [K, N]


def multivariate_normal(
    x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean"
) -> tuple[Any, ...]:
    """Differentiate `jax.scipy.stats.multivariate_normal`, which wants covariances."""
    return _answer(value_and_grad(_by_library, reduction), x, logits, means, chol)


def formula(
    x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean"
) -> tuple[Any, ...]:
    """Differentiate the formula by `jax.lax.linalg.triangular_solve`."""
    return _answer(value_and_grad(by_formula, reduction), x, logits, means, chol)


def formula_of_probabilities(
    x: Any, logits: Any, means: Any, chol: Any, *, reduction: str = "mean"
) -> tuple[Any, ...]:
    """Differentiate the formula with log_softmax(log p), as weights given as probabilities need."""
    function = value_and_grad(by_formula, reduction, probabilities=True)
    return _answer(function, x, logits, means, chol)


def _answer(
    function: Callable[..., Any], x: Any, logits: Any, means: Any, chol: Any
) -> tuple[Any, ...]:
    value, gradients = function((logits, means, chol), x)
    return float(value), *(np.asarray(gradient) for gradient in gradients)


def _by_library(x: Any, means: Any, chol: Any) -> Any:
    import jax

    def one(mean: Any, factor: Any) -> Any:
        return jax.scipy.stats.multivariate_normal.logpdf(x, mean, factor @ factor.T)

    return jax.vmap(one)(means, chol)


def by_formula(x: Any, means: Any, chol: Any) -> Any:
    """Return log-densities [K, N] by one batched triangular solve."""
    from jax.lax.linalg import triangular_solve

    residual = x.T[None] - means[:, :, None]  # [K, D, N]
    return of_whitened(triangular_solve(chol, residual, left_side=True, lower=True), chol)


def of_whitened(z: Any, chol: Any) -> Any:
    """Return log-densities [K, N] of whitened residuals [K, D, N]."""
    import jax.numpy as jnp

    half_log_det = jnp.log(jnp.diagonal(chol, axis1=1, axis2=2)).sum(axis=1)
    constant = half_log_det + 0.5 * z.shape[1] * math.log(2 * math.pi)
    return -0.5 * (z * z).sum(axis=1) - constant[:, None]


@functools.cache
def value_and_grad(
    log_density: LogDensity, reduction: str = "mean", *, probabilities: bool = False
) -> Callable[..., Any]:
    """Return the jitted value and gradients of ``((logits, means, chol), x)``."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    def loss(parameters: Any, x: Any) -> Any:
        logits, means, chol = parameters
        if probabilities:
            logits = jnp.log(jax.nn.softmax(logits))
        terms = jax.nn.log_softmax(logits)[:, None] + log_density(x, means, jnp.tril(chol))
        losses = -jax.scipy.special.logsumexp(terms, axis=0)
        return losses.mean() if reduction == "mean" else losses.sum()

    function: Callable[..., Any] = jax.jit(jax.value_and_grad(loss))
    return function
