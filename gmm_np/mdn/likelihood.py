"""The public functions of rows that have mixtures of their own, block by block of rows.

Each row and component is one Gaussian with one sample, so that a block of B rows is a stack of
S = B K of them, to which the structure of the covariances is asked for whitening and scores as it
is elsewhere. The steps are those of `gmm_np.reference`, each backward right below its forward,
with the same numbers of equations; `dot_` is the rate along a direction.

Rows in which a number leaves the range of a double are done again by `gmm_np.mdn.reference`.

Letters in shapes: N rows, K components, D dimensions, B rows of a block, S = B K.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np import extended_range, tuning
from gmm_np.checks import FloatArray, check_d_value
from gmm_np.likelihood import reduce_loss
from gmm_np.linalg.factors import unpack_triangles
from gmm_np.mdn import reference
from gmm_np.mdn.row_mixtures import RowMixtures
from gmm_np.parameters import Gradients

LOG_2_PI = math.log(2 * math.pi)


# --- a block of rows ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Block:
    """Rows, and what the backward needs of their forward.

    Attributes
    ----------
    rows : slice
    scale, inverse : ndarray, shape [S, ...]
        Of each Gaussian.
    z : ndarray, shape [S, D]
        Whitened residuals.
    pi, resp : ndarray, shape [B, K]
        Weights and responsibilities.
    log_likelihood : ndarray, shape [B]
    """

    rows: slice
    scale: FloatArray
    inverse: FloatArray
    z: FloatArray
    pi: FloatArray
    resp: FloatArray
    log_likelihood: FloatArray


def forward(mixtures: RowMixtures, rows: slice) -> Block:
    """Log-likelihoods of a block of rows, and what their backward needs."""
    structure = mixtures.family.structure
    x, pi_logits, means, scale = (array[rows] for array in mixtures.arrays)
    n_rows, n_components, n_dims = means.shape
    shifted = pi_logits - pi_logits.max(axis=1, keepdims=True)  # [B, K]  (4)
    log_total, pi = extended_range.logsumexp_forward(shifted)  # [B], [B, K]
    log_pi = shifted - log_total[:, None]  # [B, K]  (4)  log pi_nk = a_nk - logsumexp(a_n)
    scale = scale.reshape(-1, *scale.shape[2:])  # [S, ...]
    inverse = structure.inverse(scale)
    residual = (x[:, None, :] - means).reshape(-1, n_dims)  # [S, D]  (6)  e_nk = x_n - mu_nk
    z = structure.apply(inverse, residual)  # [S, D]  (6)  L_nk z_nk = e_nk
    quadratic = np.einsum("sd,sd->s", z, z)  # [S]  (7)  q_nk = |z_nk|^2
    half_log_det = structure.half_log_det(scale, n_dims)  # [S]  (8)  h_nk
    log_density = -0.5 * quadratic - (half_log_det + 0.5 * n_dims * LOG_2_PI)  # [S]  (9)
    log_joint = log_pi + log_density.reshape(n_rows, n_components)  # [B, K]  (9)  t_nk
    log_likelihood, resp = extended_range.logsumexp_forward(log_joint)  # [B], [B, K]  (10), (14)
    return Block(rows, scale, inverse, z, pi, resp, log_likelihood)


def backward(mixtures: RowMixtures, block: Block, d_log_likelihood: FloatArray) -> Gradients:
    """Gradients in a block's logits, means, scale and x, from those in its log-likelihoods [B]."""
    family, structure, shape = mixtures.family, mixtures.family.structure, block.resp.shape
    d_log_joint = d_log_likelihood[:, None] * block.resp  # [B, K]  (15)  d_t_nk = r_nk d_l_n
    # [B, K]  (16)  d_a_nk = d_t_nk - pi_nk sum_j d_t_nj
    d_pi_logits = d_log_joint - block.pi * d_log_joint.sum(axis=1, keepdims=True)
    z = block.z[:, :, None]  # [S, D, 1]
    y = structure.pull_residuals(block.inverse, z)  # [S, D, 1]  (18)  L_nk^T y_nk = z_nk
    # [B, K, D]  (17), (18), (19)  d_mu_nk = -d_e_nk = d_t_nk y_nk
    d_means = d_log_joint[:, :, None] * y.reshape(*shape, -1)
    d_x = -_over_components(d_means)  # [B, D]  (19)  d_x_n = sum_k d_e_nk
    # [S, ...]  (20), (21)  d_L_nk = d_t_nk (tril(y_nk z_nk^T) - diag(1 / L_nk,ii))
    d_scale = d_log_joint.reshape(-1, 1) * structure.scale_scores(block.scale, z, y)[:, :, 0]
    if family.has_factors:
        d_scale = unpack_triangles(d_scale, z.shape[1])
    return Gradients(d_pi_logits, d_means, d_scale.reshape(*shape, *block.scale.shape[1:]), d_x)


# - - - the second derivatives - - -


def hvp(
    mixtures: RowMixtures, block: Block, direction: Gradients, coefficient: FloatArray
) -> Gradients:
    """Tangents along a direction of a block's gradients, those of the loss with w_n / W [B]."""
    structure, shape, z = mixtures.family.structure, block.resp.shape, block.z
    dot_logits, dot_means, dot_scale, dot_x = (np.asarray(d)[block.rows] for d in direction)
    n_dims = z.shape[1]
    relative = structure.relative(block.inverse, dot_scale.reshape(block.scale.shape))
    # [S, D]  (51)  -W_nk dot_e_nk
    step = structure.apply(block.inverse, (dot_means - dot_x[:, None]).reshape(z.shape))
    dot_z = -step - structure.apply(relative, z)  # [S, D]  (51)  W (dot_e_nk - dot_L_nk z_nk)
    dot_log_pi = dot_logits - (block.pi * dot_logits).sum(axis=1, keepdims=True)  # [B, K]  (50)
    # [S]  (52), (53), (54)  dot_t_nk = dot_log pi_nk - z_nk^T dot_z_nk - tr(W_nk dot_L_nk)
    dot_density = -np.einsum("sd,sd->s", z, dot_z) - structure.trace(relative, n_dims)
    dot_log_joint = dot_log_pi + dot_density.reshape(shape)  # [B, K]  (54)
    dot_log_likelihood = (block.resp * dot_log_joint).sum(axis=1, keepdims=True)  # [B, 1]  (55)
    dot_resp = block.resp * (dot_log_joint - dot_log_likelihood)  # [B, K]  (55)

    share, dot_share = coefficient[:, None] * block.resp, coefficient[:, None] * dot_resp
    # [B, K]  (58), (59)  of d_a_nk = (w_n / W) (pi_nk - r_nk), whose r sum to one
    found_logits = coefficient[:, None] * block.pi * dot_log_pi - dot_share
    y = structure.pull_residuals(block.inverse, z[:, :, None])  # [S, D, 1]  (18)
    right = dot_z - structure.apply_transposed(relative, z)  # [S, D]  (61)
    dot_y = structure.pull_residuals(block.inverse, right[:, :, None])  # [S, D, 1]  (61)
    # [B, K, D]  (61), (62)  of d_mu_nk = -(w_n / W) r_nk y_nk
    found_means = -dot_share[:, :, None] * y.reshape(*shape, -1)
    found_means -= share[:, :, None] * dot_y.reshape(*shape, -1)
    # (63), (64) in whitened coordinates, as the tangents of sums over samples are, (67).
    mass, dot_mass = share.ravel(), dot_share.ravel()
    second = structure.outer(mass, z)
    dot_second = structure.outer(dot_mass, z) - structure.outer_twice(step, mass[:, None] * z)
    found_scale = structure.gradient_tangent(
        block.scale, block.inverse, relative, mass, second, dot_mass, dot_second, n_dims
    )
    return Gradients(
        found_logits,
        found_means,
        found_scale.reshape(dot_scale.shape),
        -_over_components(found_means),  # [B, D]  (62)
    )


# --- the public functions -----------------------------------------------------------------------


def nll(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Any:
    """Negative log-likelihood of rows that have mixtures of their own: (11), with (9) for each row.

    Parameters
    ----------
    x : array_like, shape [N, D]
        Data, one row a sample.
    pi_logits : array_like, shape [N, K]
        Mixture logits of each row; one of -inf switches its component off, in that row.
    means : array_like, shape [N, K, D]
    scale : array_like
        Lower Cholesky factors [N, K, D, D] for "full", standard deviations [N, K, D] for "diag"
        and [N, K] for "spherical".
    family : {"full", "diag", "spherical"}
    sample_weight : array_like, shape [N], optional
        Weights w_n, not negative; 1 for each sample by default.
    reduction : {"mean", "sum", "none"}
        Weighted mean over samples (the default), weighted sum, or one weighted value a sample.

    Returns
    -------
    value : float, or ndarray of shape [N] for ``reduction="none"``
        In nats.

    Raises
    ------
    TypeError
        If an argument is not made of real numbers.
    ValueError
        If shapes disagree, values are not finite, a factor is not a Cholesky factor, a standard
        deviation is not positive, a weight is negative, or an option is unknown.

    See Also
    --------
    nll_value_and_grad : With the gradients.
    gmm_np.nll : For one mixture of all rows.

    Examples
    --------
    >>> import gmm_np
    >>> means = [[[0.0], [3.0]], [[1.0], [2.0]]]
    >>> value = gmm_np.mdn.nll(
    ...     [[0.0], [3.0]], [[0.0, 0.0]] * 2, means, [[1.0, 1.0]] * 2, family="spherical"
    ... )
    >>> round(value, 6)
    1.755855
    """
    mixtures = RowMixtures.of(x, pi_logits, means, scale, family, sample_weight, reduction)
    log_likelihood = np.empty(len(mixtures.x))
    with np.errstate(all="ignore"):
        for rows in blocks(mixtures):
            log_likelihood[rows] = forward(mixtures, rows).log_likelihood
        for n in np.flatnonzero(~np.isfinite(log_likelihood)).tolist():
            log_likelihood[n] = reference.row_forward(mixtures, n)[0]
    return reduce_loss(log_likelihood, mixtures.weight, mixtures.reduction)[0]


def nll_value_and_grad(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    d_value: ArrayLike | None = None,
) -> tuple[Any, Gradients]:
    """Negative log-likelihood of rows that have mixtures of their own, and its gradients.

    Parameters
    ----------
    x, pi_logits, means, scale, family, sample_weight, reduction
        As in `nll`.
    d_value : array_like, scalar, or shape [N] for ``reduction="none"``, optional
        Gradient of what follows with respect to the value, by which the gradients are multiplied:
        the vector-Jacobian product. 1 by default, which for "none" is the gradient of each row's
        own value, since no other row has a part in it.

    Returns
    -------
    value : float, or ndarray of shape [N] for ``reduction="none"``
        In nats.
    gradients : Gradients
        With respect to pi_logits [N, K], means [N, K, D], scale in its shape (of a factor exactly
        lower triangular) and x [N, D], each in the dtype of its argument. Infinite where it is
        beyond the range of a double.

    Raises
    ------
    TypeError, ValueError
        As `nll` does; or if `d_value` is not finite, or not in the shape of the value.

    See Also
    --------
    MixtureHead : From a network's outputs to these arguments, and back.
    gmm_np.mdn.reference.nll_backward : The same row by row, which this one is checked against.

    Examples
    --------
    >>> import gmm_np
    >>> means = [[[0.0], [3.0]], [[1.0], [2.0]]]
    >>> value, gradients = gmm_np.mdn.nll_value_and_grad(
    ...     [[0.0], [3.0]], [[0.0, 0.0]] * 2, means, [[1.0, 1.0]] * 2, family="spherical"
    ... )
    >>> gradients.means[1].round(6).tolist()
    [[-0.182426], [-0.408787]]
    """
    mixtures = RowMixtures.of(x, pi_logits, means, scale, family, sample_weight, reduction)
    n_samples = len(mixtures.x)
    if d_value is None:
        d_value = np.ones(n_samples if reduction == "none" else ())
    d_out = check_d_value(d_value, mixtures.reduction, n_samples)
    log_likelihood, found = np.empty(n_samples), mixtures.zeros()
    with np.errstate(all="ignore"):
        _, coefficient = reduce_loss(np.zeros(n_samples), mixtures.weight, mixtures.reduction)
        d_log_likelihood = -coefficient * d_out  # [N]  (13)  d_l_n = -(w_n / W) d_f
        for rows in blocks(mixtures):
            block = forward(mixtures, rows)
            log_likelihood[rows] = block.log_likelihood
            _write(found, rows, backward(mixtures, block, d_log_likelihood[rows]))
        for n in np.flatnonzero(~np.isfinite(log_likelihood) | _not_finite(found)).tolist():
            log_likelihood[n], row = reference.row_forward(mixtures, n)
            _write(found, n, reference.row_backward(float(d_log_likelihood[n]), mixtures, row))
    value, _ = reduce_loss(log_likelihood, mixtures.weight, mixtures.reduction)
    return value, mixtures.as_gradients(found)


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
    """Hessian-vector product of the loss of rows that have mixtures of their own.

    All arguments move together, x among them. The Hessian has a block for each row, and nothing
    beside these.

    Parameters
    ----------
    x, pi_logits, means, scale, family, sample_weight
        As in `nll`.
    direction : Gradients
        How fast each entry moves: finite, each array in the shape of its argument, the scale of
        "full" lower triangular. `scale` and `x` may be None, for zero. The logit of a component
        that is off stays at -inf, whatever it says there.
    reduction : {"mean", "sum"}
        Weighted mean over samples (the default), or weighted sum.

    Returns
    -------
    Gradients
        The Hessian times the direction, each array in the shape and dtype of its argument.

    Raises
    ------
    TypeError, ValueError
        As `nll` does; if `direction` is not what it has to be; and for ``reduction="none"``, which
        has no Hessian.
    OverflowError
        If the product, or a step to it, is beyond the range of a double.

    Examples
    --------
    >>> import numpy as np
    >>> import gmm_np
    >>> direction = gmm_np.Gradients(np.zeros((1, 1)), np.ones((1, 1, 1)), None)
    >>> gmm_np.mdn.nll_hvp(
    ...     [[0.0]], [[0.0]], [[[1.0]]], [[2.0]], direction, family="spherical"
    ... ).means.tolist()
    [[[0.25]]]
    """
    mixtures = RowMixtures.of(x, pi_logits, means, scale, family, sample_weight, reduction)
    moves, found = mixtures.check_direction(direction), mixtures.zeros()
    with np.errstate(all="ignore"):
        zeros = np.zeros(len(mixtures.x))
        _, coefficient = reduce_loss(zeros, mixtures.weight, mixtures.reduction)
        for rows in blocks(mixtures):
            _write(found, rows, hvp(mixtures, forward(mixtures, rows), moves, coefficient[rows]))
        for n in np.flatnonzero(_not_finite(found)).tolist():
            of_row = Gradients(*(np.asarray(move)[n] for move in moves))
            try:
                product = reference.row_hvp(float(coefficient[n]), mixtures, n, of_row)
            except OverflowError as error:
                raise OverflowError(f"row {n} of x: {error}") from None
            _write(found, n, product)
    return mixtures.as_gradients(found)


def blocks(mixtures: RowMixtures) -> Iterator[slice]:
    """Yield slices of rows whose parameters stay in a cache while they are worked on."""
    n_rows, n_components, n_dims = mixtures.means.shape
    entries = max(mixtures.scale.size // n_rows, n_components * n_dims)
    size = max(tuning.active.group // entries, 1)
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def _over_components(blocks: FloatArray) -> FloatArray:
    """Sum over K of [B, K, D], which NumPy's sum does ten times slower: both axes are short."""
    return np.asarray(np.einsum("bkd->bd", blocks))


def _write(gradients: Gradients, rows: slice | int, of_rows: Gradients) -> None:
    for whole, part in zip(gradients, of_rows, strict=True):
        assert whole is not None
        whole[rows] = part


def _not_finite(gradients: Gradients) -> NDArray[np.bool_]:
    """Where, of the rows [N], a gradient is not finite."""
    bad = np.zeros(len(gradients.means), dtype=bool)
    for array in gradients:
        assert array is not None
        finite = np.isfinite(array)
        if not finite.all():  # seldom, and rows one by one take longer
            bad |= ~finite.reshape(len(array), -1).all(axis=1)
    return bad
