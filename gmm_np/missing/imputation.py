"""What is expected of missing values given what is seen, or draws, equation (74).

Letters in shapes: N samples, B samples of a block, K components that are on, D dimensions.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray, check_rows
from gmm_np.covariance import FAMILIES
from gmm_np.estep import (
    Block,
    PreparedMixture,
)
from gmm_np.missing.estep import MarginalEStep
from gmm_np.missing.kernels import MarginalKernel
from gmm_np.missing.sums import out_of_range
from gmm_np.parameters import Parameters


def impute(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    draws: int | None = None,
    random_state: int | np.random.Generator | None = None,
) -> FloatArray:
    """Fill in missing values by what is expected of them given what is seen, or draws: (74).

    A draw has the component that its responsibilities give it, and varies as values do; the mean
    does not. No fit needs either: `missing="marginal"` takes rows as they are.

    Parameters
    ----------
    x : array_like, shape [N, D]
        With NaN where a value is missing, also in a whole row.
    pi_logits, means, scale, family
        As in `nll`.
    draws : int, optional
        How many draws are wanted in place of the mean.
    random_state : int, numpy.random.Generator or None
        Of the draws; None for other ones each time.

    Returns
    -------
    filled : ndarray, shape [N, D], or [draws, N, D]
        In float64. What is seen stays as it is.

    Raises
    ------
    TypeError, ValueError
        As `nll` does, or if `draws` is less than 1.
    OverflowError
        If the square of a distance is beyond the range of a double.

    Examples
    --------
    >>> import gmm_np
    >>> factor = [[[1.0, 0.0], [0.5, 1.0]]]
    >>> gmm_np.impute([[2.0, float("nan")]], [0.0], [[0.0, 0.0]], factor).tolist()
    [[2.0, 1.0]]
    """
    p = Parameters(pi_logits, means, scale, family)
    if draws is not None and draws < 1:
        raise ValueError(f"draws must be at least 1, or None for the mean; got {draws}.")
    rows = check_rows(x, p.n_features)
    unknown = np.isnan(rows)
    out = np.repeat(np.asarray(rows, np.float64)[None], draws or 1, axis=0)
    mixture, structure = PreparedMixture.of(p), FAMILIES[family].structure
    if draws is not None:
        rng = np.random.default_rng(random_state)
        uniform, noise = rng.random(out.shape[:2]), rng.standard_normal(out.shape)

    def write(block: Block) -> None:
        own = block.rows
        gaps = unknown[own]
        if not gaps.any():
            return
        if block.kernel is None:
            raise out_of_range()
        kernel, resp = cast(MarginalKernel, block.kernel), block.exponentials / block.total
        z = kernel.lifted()  # [K, D, B]
        if draws is None:
            moved = np.empty_like(z)
            structure.apply_to_residuals(mixture.scale, z, moved)
            moved += mixture.means[:, :, None]
            out[0, own] = np.where(gaps, np.einsum("kb,kdb->bd", resp, moved), out[0, own])
            return
        edges = np.cumsum(resp, axis=0)[:-1]
        for filled, share, e in zip(out, uniform, noise, strict=True):
            owner = (share[own] > edges).sum(axis=0)  # [B]
            varied = z[owner, :, np.arange(len(owner))]
            varied += kernel.margins.hide(kernel.index, owner, e[own])
            drawn = structure.apply_to_rows(mixture.scale, varied, owner) + mixture.means[owner]
            filled[own] = np.where(gaps, drawn, filled[own])

    MarginalEStep(mixture, "direct", gradient=True, n_samples=len(rows)).each(rows, write)
    return out[0] if draws is None else out
