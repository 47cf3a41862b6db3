"""The loss of rows that have mixtures of their own, by the chain rule, row by row: the oracle.

    forward:   x, pi_logits, means, scale -> value, and a cache of what the backward needs
    backward:  cache, d_value -> gradients

Each row is a data set of one sample. The primitives are those of `gmm_np.reference`, and its
answers beyond the range of a double; diagonal and spherical covariances go through the factors
that they stand for. Here is only what is around a row: the reduction, and no other sum over rows.
Nothing is shared with the engine, so that each can be checked against the other.

Letters in shapes: N rows, K components, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gmm_np import extended_range, reference
from gmm_np.checks import FloatArray, check_d_value
from gmm_np.mdn.row_mixtures import RowMixtures
from gmm_np.parameters import Gradients
from gmm_np.reference import reduce_backward, reduce_forward

__all__ = ["Cache", "nll_backward", "nll_forward", "nll_hvp"]


# --- one row: l_n, and its gradients -------------------------------------------------------------


def row_forward(mixtures: RowMixtures, n: int) -> tuple[float, reference.Cache]:
    """Log-likelihood of a row, equation (10). Keeps the cache of its own reference."""
    factors = mixtures.family.expand(mixtures.scale[n], *mixtures.means.shape[1:])  # (33)
    value, cache = reference.nll_forward(
        mixtures.x[n : n + 1], mixtures.pi_logits[n], mixtures.means[n], factors, reduction="sum"
    )
    return -value, cache  # (11)  l_n = -f of this row alone


def row_backward(d_log_likelihood: float, mixtures: RowMixtures, row: reference.Cache) -> Gradients:
    """Gradients in the row's logits [K], means [K, D], scale and x [D]: (13) to (21), and (34)."""
    found = reference.nll_backward(row, -d_log_likelihood)  # (13)  d_f = -d_l_n
    assert found.scale is not None
    assert found.x is not None
    d_scale = mixtures.family.reduce(np.asarray(found.scale))  # (34)
    return Gradients(found.pi_logits, found.means, d_scale, found.x[0])


# - - - chapter two - - -


def row_hvp(weight: float, mixtures: RowMixtures, n: int, direction: Gradients) -> Gradients:
    """Gradients' tangents along a row's direction, times its weight: (50) to (64), (33), (34)."""
    if weight == 0:
        return Gradients(*(np.zeros_like(move) for move in direction if move is not None))
    family, shape = mixtures.family, mixtures.means.shape[1:]
    assert direction.scale is not None
    assert direction.x is not None
    dot_factors = family.expand(np.asarray(direction.scale), *shape)  # (33), which is linear
    found = reference.nll_hvp(
        mixtures.x[n : n + 1],
        mixtures.pi_logits[n],
        mixtures.means[n],
        family.expand(mixtures.scale[n], *shape),
        Gradients(direction.pi_logits, direction.means, dot_factors, direction.x[None]),
        sample_weight=[weight],
        reduction="sum",
    )
    assert found.scale is not None
    assert found.x is not None
    d_scale = family.reduce(np.asarray(found.scale))  # (34)
    return Gradients(found.pi_logits, found.means, d_scale, found.x[0])


# --- all rows ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Cache:
    """What `nll_backward` needs of `nll_forward`.

    Attributes
    ----------
    mixtures : RowMixtures
        Rows and their mixtures.
    rows : list of gmm_np.reference.Cache, length N
    coefficient : ndarray, shape [N]
        w_n / W.
    """

    mixtures: RowMixtures
    rows: list[reference.Cache]
    coefficient: FloatArray


def nll_forward(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[Any, Cache]:
    """Negative log-likelihood of rows that have mixtures of their own.

    Parameters
    ----------
    x, pi_logits, means, scale, family, sample_weight, reduction
        As for `gmm_np.mdn.nll`.

    Returns
    -------
    value : float, or ndarray of shape [N] for ``reduction="none"``
        In nats.
    cache : Cache
        For `nll_backward`.

    Raises
    ------
    TypeError, ValueError
        As `gmm_np.mdn.nll`.

    Examples
    --------
    >>> from gmm_np.mdn.reference import nll_backward, nll_forward
    >>> means = [[[0.0], [3.0]], [[1.0], [2.0]]]
    >>> value, cache = nll_forward([[0.0], [3.0]], [[0.0, 0.0]] * 2, means, [[1.0, 1.0]] * 2,
    ...                            family="spherical")
    >>> round(value, 6)
    1.755855
    >>> nll_backward(cache).means[1].round(6).tolist()
    [[-0.182426], [-0.408787]]
    """
    arguments = (x, pi_logits, means, scale, family, sample_weight, reduction)
    mixtures = RowMixtures.of(*arguments)
    found = [row_forward(mixtures, n) for n in range(len(mixtures.x))]
    log_likelihood = np.array([value for value, _ in found])  # [N]  (10)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        value, coefficient = reduce_forward(log_likelihood, mixtures.weight, mixtures.reduction)
        if np.isnan(value).any():  # infinities of either sign
            value = extended_range.reduce_forward(log_likelihood, coefficient, mixtures.reduction)
    cache = Cache(mixtures, [row for _, row in found], coefficient)
    return (value if mixtures.reduction == "none" else float(value)), cache


def nll_backward(cache: Cache, d_value: ArrayLike = 1.0) -> Gradients:
    """Gradients of the loss: the vector-Jacobian product with `d_value`.

    Parameters
    ----------
    cache : Cache
        From `nll_forward`.
    d_value : array_like, scalar, or shape [N] for ``reduction="none"``
        Gradient of what follows with respect to the value.

    Returns
    -------
    Gradients
        With respect to logits [N, K], means [N, K, D], the scale in its shape, and x [N, D], each
        in the dtype of its argument. Infinite where it is beyond the range of a double.

    Raises
    ------
    TypeError, ValueError
        If `d_value` is not finite, or not in the shape of the value.
    """
    mixtures = cache.mixtures
    d_out = check_d_value(d_value, mixtures.reduction, len(mixtures.x))
    with np.errstate(over="ignore", under="ignore"):
        d_log_likelihood = reduce_backward(d_out, cache.coefficient)  # [N]  (13)
    found = mixtures.zeros()
    for n, row in enumerate(cache.rows):
        of_row = row_backward(float(d_log_likelihood[n]), mixtures, row)
        _write(found, n, of_row)
    return mixtures.as_gradients(found)


# - - - chapter two - - -


def nll_hvp(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    direction: Gradients,
    *,
    family: str = "full",
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Gradients:
    """Hessian-vector product of the loss, in all parameters and in x.

    Parameters
    ----------
    x, pi_logits, means, scale, direction, family, sample_weight, reduction
        As for `gmm_np.mdn.nll_hvp`.

    Returns
    -------
    Gradients

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `gmm_np.mdn.nll_hvp`.
    """
    arguments = (x, pi_logits, means, scale, family, sample_weight, reduction)
    mixtures = RowMixtures.of(*arguments)
    moves = mixtures.check_direction(direction)
    zeros = np.zeros(len(mixtures.x))
    _, coefficient = reduce_forward(zeros, mixtures.weight, mixtures.reduction)
    found = mixtures.zeros()
    for n, weight in enumerate(coefficient):
        of_row = Gradients(*(np.asarray(move)[n] for move in moves))
        _write(found, n, row_hvp(float(weight), mixtures, n, of_row))
    return mixtures.as_gradients(found)


def _write(gradients: Gradients, n: int, of_row: Gradients) -> None:
    for whole, part in zip(gradients, of_row, strict=True):
        assert whole is not None
        whole[n] = part
