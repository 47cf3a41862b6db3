"""The conditional likelihood of some columns given the others, and its gradients.

Letters in shapes: N rows, K components, D columns, Q given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray, as_reduction, check_sample_weight, check_x
from gmm_np.conditional.split import Split, Sums, blocks
from gmm_np.likelihood import reduce_loss
from gmm_np.parameters import Gradients, Parameters, cast_gradient, gradient_dtype


def log_prob(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    given: ArrayLike,
    *,
    family: str = "full",
) -> FloatArray:
    """Conditional log-likelihood of each row: log p(y | x), equation (P2) of docs/parts.md.

    Parameters
    ----------
    x, pi_logits, means, scale, family
        As in `gmm_np.nll`; rows have all D columns.
    given : array_like of int, shape [Q]
        The columns on which the others are conditioned, from 0; none twice, and not all.

    Returns
    -------
    log_likelihood : ndarray, shape [N]
        Of the other columns, in nats.

    Raises
    ------
    TypeError, ValueError
        As `gmm_np.nll`; or if `given` are no such columns; or if a row's given columns are so far
        from every component that no double holds the square of the distance.

    Examples
    --------
    >>> import gmm_np
    >>> gmm_np.conditional.log_prob(
    ...     [[2.0, 1.0]], [0.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.5, 1.0]]], [0]
    ... ).round(6).tolist()
    [-0.918939]
    """
    parameters = Parameters(pi_logits, means, scale, family)
    rows = check_x(x, parameters.n_features)
    return _log_prob(rows, Split.of(parameters, given))


def nll(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    given: ArrayLike,
    *,
    family: str = "full",
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Any:
    """Negative conditional log-likelihood, that of some columns given the others: (P2).

    Parameters
    ----------
    x, pi_logits, means, scale, family, given
        As in `log_prob`.
    sample_weight : array_like, shape [N], optional
    reduction : {"mean", "sum", "none"}
        As in `gmm_np.nll`.

    Returns
    -------
    value : float, or ndarray of shape [N] for ``reduction="none"``
        In nats.

    Raises
    ------
    TypeError, ValueError
        As `log_prob`.
    """
    reduce = as_reduction(reduction)
    found = log_prob(x, pi_logits, means, scale, given, family=family)
    weight = check_sample_weight(sample_weight, len(found))
    return reduce_loss(found, np.ones(len(found)) if weight is None else weight, reduce)[0]


def nll_value_and_grad(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    given: ArrayLike,
    *,
    family: str = "full",
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[float, Gradients]:
    """Negative conditional log-likelihood and its gradients, (P2) and (P5).

    Parameters
    ----------
    x, pi_logits, means, scale, given, family, sample_weight
        As in `nll`.
    reduction : {"mean", "sum"}

    Returns
    -------
    value : float
        In nats.
    gradients : Gradients
        In pi_logits, means, scale (None for "constant") and x [N, D], each in the dtype of its
        argument.

    Raises
    ------
    TypeError, ValueError
        As `nll`; or for ``reduction="none"``, which has no gradient.
    OverflowError
        If a row's density is beyond the range of a double even as a logarithm.

    Notes
    -----
    The gradient is a sum of terms weighed by differences of responsibilities, those of the row
    less those of its given columns, and not a difference of two gradients.

    Examples
    --------
    >>> import gmm_np
    >>> value, gradients = gmm_np.conditional.nll_value_and_grad(
    ...     [[2.0, 1.0]], [0.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.5, 1.0]]], [0]
    ... )
    >>> round(value, 6), gradients.x.tolist()
    (0.918939, [[0.0, 0.0]])
    """
    if as_reduction(reduction) == "none":
        raise ValueError(
            'reduction="none" has N values, and so no gradient. Use "mean" or "sum", or nll for '
            "the values alone."
        )
    parameters = Parameters(pi_logits, means, scale, family)
    rows = check_x(x, parameters.n_features)
    weight = check_sample_weight(sample_weight, len(rows))
    weight = np.ones(len(rows)) if weight is None else weight
    split = Split.of(parameters, given)
    _, coefficient = reduce_loss(np.zeros(len(rows)), weight, as_reduction(reduction))
    d_x = np.empty(rows.shape)
    log_likelihood, sums = sums_of(split, rows, coefficient, d_x)
    value, _ = reduce_loss(log_likelihood, weight, as_reduction(reduction))
    found = split.gradients(parameters, sums)
    return value, found._replace(x=cast_gradient(d_x, gradient_dtype(x)))


def sums_of(
    split: Split, rows: FloatArray, coefficient: FloatArray, d_x: FloatArray | None = None
) -> tuple[FloatArray, Sums]:
    """Return log p(y | x) [N], and the sums of which gradients are made, by coefficients [N].

    Parameters
    ----------
    d_x : ndarray, shape [N, D], optional
        To which the gradient in x is written.

    Raises
    ------
    ValueError, OverflowError
        As `nll_value_and_grad`.
    """
    log_likelihood = np.empty(len(rows))
    total: Sums | None = None
    for part in blocks(len(rows), 3 * split.means.size):
        with np.errstate(all="ignore"):
            log_likelihood[part], z, excess, resp = split.forward(rows[part])
            _check_range(log_likelihood[part], part.start, gradient=True)
            c = coefficient[part, None]
            own, weighted = split.sums(z, c * excess, c * resp)
            total = own if total is None else total.plus(own)
            if d_x is not None:
                d_x[part, split.order] = split.family.structure.total_pull(
                    split.inverse, weighted
                ).T
    assert total is not None  # no data are empty
    return log_likelihood, total


def _log_prob(rows: FloatArray, split: Split) -> FloatArray:
    found = np.empty(len(rows))
    for part in blocks(len(rows), 3 * split.means.size):
        with np.errstate(all="ignore"):
            found[part] = split.forward(rows[part])[0]
        _check_range(found[part], part.start, gradient=False)
    return found


def _check_range(log_likelihood: FloatArray, start: int, *, gradient: bool) -> None:
    """Raise where a square of a distance left the range of a double."""
    lost = np.isnan(log_likelihood)
    if lost.any():
        raise ValueError(
            "x has given columns so far from every component that the square of the distance is "
            f"beyond the range of a double, the first in row {start + int(np.argmax(lost))}. Look "
            "at them, and at the order of columns."
        )
    lost = np.isneginf(log_likelihood)
    if gradient and lost.any():
        raise OverflowError(
            "a conditional density is beyond the range of a double even as a logarithm, the first "
            f"in row {start + int(np.argmax(lost))} of x. Look at it, or choose units in which x "
            "is of order one."
        )
