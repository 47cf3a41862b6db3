"""What `test_interop_jax.py` asks of the JAX function, in a process of its own.

Beside PyTorch, in one process, compiled calls of JAX into LAPACK can wait for each other for ever.
Prints, for each check, what it raised, or null.
"""

import json
import logging
import sys
import traceback
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families_by_reference import FAMILIES, random_parameters
from rows_by_reference import FAMILIES as FAMILIES_OF_ROWS
from rows_by_reference import random_rows

import gmm_np
from gmm_np.interop.jax import nll

jax.config.update("jax_enable_x64", True)

ARGUMENTS = (0, 1, 2, 3)
WEIGHT = np.array([1.0, 2.0, 0.0, 0.5, 1.5])


def problem_of(family):
    if family.startswith("rows of "):
        return tuple(map(jnp.asarray, random_rows(4, family.removeprefix("rows of "), 5, 3, 2)))
    p = random_parameters(4, family, 3, 2)
    x = np.random.default_rng(4).normal(size=(5, 2))
    return tuple(map(jnp.asarray, (x, p.pi_logits, p.means, p.scale)))


def formula(x, logits, means, scale, family, weight=None, reduction="mean"):
    """JAX's own, of one mixture or one for each row."""
    family = family.removeprefix("rows of ")
    d = x.shape[1]
    e = x[:, None, :] - means  # [N, K, D]
    if family in ("full", "tied", "constant"):
        factors = jnp.broadcast_to(jnp.tril(scale), (*e.shape, d))
        z = jax.scipy.linalg.solve_triangular(factors, e[..., None], lower=True)[..., 0]
        half_log_det = jnp.log(jnp.diagonal(factors, axis1=-2, axis2=-1)).sum(-1)
    else:
        by_component = family in ("spherical", "shared_spherical")
        deviations = jnp.broadcast_to(scale[..., None] if by_component else scale, e.shape)
        z, half_log_det = e / deviations, jnp.log(deviations).sum(-1)
    density = -0.5 * (z**2).sum(-1) - half_log_det - 0.5 * d * jnp.log(2 * jnp.pi)
    log_likelihood = jax.nn.logsumexp(jax.nn.log_softmax(logits) + density, axis=-1)
    weight = jnp.ones(len(x)) if weight is None else jnp.asarray(weight)
    loss = -weight * log_likelihood
    if reduction == "none":
        return loss
    return loss.sum() / (weight.sum() if reduction == "mean" else 1.0)


def operation(x, logits, means, scale, family, weight=None, reduction="mean"):
    family = family.removeprefix("rows of ")
    factors = gmm_np.covariance.FAMILIES[family].has_factors
    scale = jnp.tril(scale) if factors else scale
    return nll(x, logits, means, scale, family, weight, reduction)


def close(got, wanted, tolerance=1e-11):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        size = max(float(jnp.abs(b).max(initial=0.0)), 1e-3)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * size)


EVERY = [*(f for f in FAMILIES if f != "constant"), *(f"rows of {f}" for f in FAMILIES_OF_ROWS)]


def check_value_and_gradients_jitted_or_not_are_those_of_jax():
    for i, family in enumerate(EVERY):
        problem, reduction = problem_of(family), ("mean", "sum")[i % 2]
        options = {"family": family, "weight": WEIGHT, "reduction": reduction}
        mine, theirs = (
            jax.value_and_grad(partial(f, **options), argnums=ARGUMENTS)
            for f in (operation, formula)
        )
        expected = jax.jit(theirs)(*problem)
        close(mine(*problem), expected)
        close(jax.jit(mine)(*problem), expected)


def check_vector_jacobian_product_of_each_rows_value():
    d_value = jnp.asarray(np.random.default_rng(1).normal(size=5))  # of either sign
    for family in EVERY:
        problem = problem_of(family)
        (value, pull), (expected, expected_pull) = (
            jax.vjp(partial(f, family=family, weight=WEIGHT, reduction="none"), *problem)
            for f in (operation, formula)
        )
        close(value, expected)
        close(pull(d_value), expected_pull(d_value))


def check_second_derivatives_are_those_of_jax():
    rng = np.random.default_rng(5)
    for family in ("full", "tied_diag", "spherical", "rows of full", "rows of spherical"):
        problem = problem_of(family)
        direction = [jnp.asarray(rng.normal(size=a.shape)) for a in problem]

        def slope(f, *arguments, family=family, direction=direction):
            gradient = jax.grad(partial(f, family=family, weight=WEIGHT), argnums=ARGUMENTS)
            return sum(jnp.vdot(g, v) for g, v in zip(gradient(*arguments), direction, strict=True))

        mine, theirs = (
            jax.jit(jax.grad(partial(slope, f), argnums=ARGUMENTS))(*problem)
            for f in (operation, formula)
        )
        close(mine, theirs, 1e-10)


def check_jacobian_of_the_gradient_is_the_hessian():
    problem = problem_of("diag")
    mine, theirs = (
        jax.jit(jax.jacrev(jax.grad(partial(f, family="diag"), argnums=2), argnums=(2, 3)))
        for f in (operation, formula)
    )
    close(mine(*problem), theirs(*problem), 1e-10)


def check_forward_mode_is_that_of_jax():
    rng = np.random.default_rng(6)
    for i, family in enumerate(("full", "tied_diag", "rows of spherical")):
        problem = problem_of(family)
        moves = tuple(jnp.asarray(rng.normal(size=a.shape)) for a in problem)
        options = {"family": family, "weight": WEIGHT, "reduction": ("mean", "none", "sum")[i % 3]}
        mine, theirs = (partial(jax.jvp, partial(f, **options)) for f in (operation, formula))
        expected = jax.jit(theirs)(problem, moves)
        close(mine(problem, moves), expected)
        close(jax.jit(mine)(problem, moves), expected)


def check_each_mode_over_the_other_is_the_hessian():
    modes = (
        jax.hessian,
        lambda f, argnums: jax.jacrev(jax.jacfwd(f, argnums), argnums),
        lambda f, argnums: jax.jacfwd(jax.jacfwd(f, argnums), argnums),
        lambda f, argnums: jax.jacrev(jax.jacrev(f, argnums), argnums),
    )
    for family in ("full", "rows of diag"):
        problem, argnums = problem_of(family), (1, 2, 3)
        mine, theirs = (partial(f, family=family, weight=WEIGHT) for f in (operation, formula))
        expected = jax.jit(jax.hessian(theirs, argnums=argnums))(*problem)
        for mode in modes:
            close(jax.jit(mode(mine, argnums))(*problem), expected, 1e-10)


def check_forward_over_reverse_along_a_direction():
    rng = np.random.default_rng(7)
    for family in ("tied_diag", "rows of full"):
        problem = problem_of(family)
        moves = tuple(jnp.asarray(rng.normal(size=a.shape)) for a in problem)
        for reduction in ("mean", "none"):

            def loss(f, *a, family=family, reduction=reduction):
                return jnp.sum(f(*a, family=family, weight=WEIGHT, reduction=reduction) ** 2)

            mine, theirs = (
                jax.jit(partial(jax.jvp, jax.grad(partial(loss, f), argnums=ARGUMENTS)))
                for f in (operation, formula)
            )
            close(mine(problem, moves), theirs(problem, moves), 1e-10)


def check_hessians_of_many_mixtures_and_each_rows_gradient():
    x, *problem = problem_of("diag")
    many = [jnp.stack([a, a + 0.25]) for a in problem]
    found, expected = (
        jax.vmap(jax.hessian(lambda *a, f=f: f(x, *a, family="diag"), argnums=(0, 1, 2)))(*many)
        for f in (operation, formula)
    )
    close(found, expected, 1e-10)
    found, expected = (
        jax.jit(jax.vmap(jax.grad(lambda row, *a, f=f: f(row[None], *a, family="diag"), 2),
                         (0, None, None, None)))(x, *problem)
        for f in (operation, formula)
    )  # fmt: skip
    close(found, expected)


def check_what_is_beyond_is_refused_and_not_wrong():
    x, logits, means, scale = problem_of("diag")

    def loss(m, reduction="mean"):
        return nll(x, logits, m, scale, "diag", reduction=reduction)

    with pytest.raises(NotImplementedError, match="twice, and no more"):
        jax.jacfwd(jax.hessian(loss))(means)
    with pytest.raises(NotImplementedError, match="first derivative in reverse mode"):
        jax.jacfwd(jax.jacfwd(partial(loss, reduction="none")))(means)
    weight = jax.grad(lambda w: nll(x, logits, means, scale, "diag", w))(jnp.asarray(WEIGHT))
    np.testing.assert_array_equal(weight, 0.0)


def check_second_derivative_through_each_rows_value():
    problem = problem_of("diag")

    def norm(f, *arguments):
        return (f(*arguments, family="diag", reduction="none") ** 2).sum()

    products = [
        jax.grad(lambda *a, f=f: sum((g**2).sum() for g in jax.grad(
            partial(norm, f), argnums=ARGUMENTS)(*a)), argnums=ARGUMENTS)(*problem)
        for f in (operation, formula)
    ]  # fmt: skip
    close(*products, 1e-10)


def check_vmap_over_mixtures_and_over_data_under_jit():
    problem = problem_of("diag")
    many = [jnp.stack([a, a + 0.25, a + 0.5]) for a in problem]
    for axes in ((None, 0, 0, 0), (0, None, None, None), (0, 0, 0, 0)):
        given = [b if axis == 0 else a for a, b, axis in zip(problem, many, axes, strict=True)]
        mine, theirs = (
            jax.vmap(jax.value_and_grad(partial(f, family="diag"), argnums=ARGUMENTS), axes)
            for f in (operation, formula)
        )
        close(jax.jit(mine)(*given), theirs(*given))


def check_single_precision_goes_in_and_out():
    problem = [a.astype(jnp.float32) for a in problem_of("diag")]
    value, gradients = jax.value_and_grad(partial(nll, family="diag"), argnums=ARGUMENTS)(*problem)
    assert value.dtype == jnp.float32
    assert all(g.dtype == jnp.float32 for g in gradients)
    expected = gmm_np.nll(*(np.asarray(a, np.float64) for a in problem), family="diag")
    np.testing.assert_allclose(float(value), expected, rtol=1e-7)


def check_traced_weights_and_large_data_do_not_deadlock():
    rng = np.random.default_rng(3)
    x, weight = rng.normal(size=(200_000, 2)), rng.uniform(size=200_000)
    _, logits, means, scale = problem_of("diag")
    step = jax.jit(jax.value_and_grad(lambda w, m: nll(x, logits, m, scale, "diag", w), argnums=1))
    for _ in range(3):
        value, gradient = jax.block_until_ready(step(weight, means))
    expected, gradients = gmm_np.nll_value_and_grad(
        x, *map(np.asarray, (logits, means, scale)), family="diag", sample_weight=weight
    )
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, gradients.means, rtol=0, atol=1e-12)


def check_message_names_the_argument():
    x, logits, means, scale = problem_of("diag")
    logging.disable()  # JAX logs what it raises, too
    for f in (nll, jax.jit(nll, static_argnames="family")):
        # Of which class depends on JAX's version.
        with pytest.raises(Exception, match="scale has standard deviations that are not positive"):
            jax.block_until_ready(f(x, logits, means, -scale, family="diag"))
    with pytest.raises(ValueError, match="family must be one of"):
        nll(x, logits, means, scale, family="round")
    with pytest.raises(ValueError, match="reduction must be one of"):
        nll(x, logits, means, scale, reduction="max")


if __name__ == "__main__":
    outcomes = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            print(name, file=sys.stderr)  # where it stood, if it never ends
            try:
                check()
                outcomes[name] = None
            except Exception:
                outcomes[name] = traceback.format_exc()
    json.dump(outcomes, sys.stdout)
