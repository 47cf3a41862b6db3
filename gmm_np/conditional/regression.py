"""Regression by a mixture: what the columns that are known say about the others.

Letters in shapes: N rows, B rows of a block, K components, Q known columns, R others, M points.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from gmm_np import extended_range
from gmm_np.checks import FloatArray
from gmm_np.conditional.split import blocks
from gmm_np.covariance import FAMILIES
from gmm_np.density import climb
from gmm_np.linalg.factors import invert_factors
from gmm_np.parameters import Parameters, RowParameters, check_columns


@dataclass(frozen=True, eq=False)
class Regression:
    """What rows with some columns known say about the others.

    Attributes
    ----------
    mean : ndarray, shape [N, R]
        E(y | x): what the least squares of a regression would find.
    covariance : ndarray, shape [N, R, R]
        Cov(y | x), by the law of total covariance.
    columns : ndarray of int, shape [R]
        The columns that these are of, in their own order.
    mixtures : RowParameters
        The conditional mixture of each row: arguments of `gmm_np.mdn.nll` after x.
    """

    mean: FloatArray
    covariance: FloatArray
    columns: NDArray[np.intp]
    mixtures: RowParameters
    _factors: FloatArray = field(repr=False)  # [K, R, R], of the others given the known

    @cached_property
    def mode(self) -> FloatArray:
        """The highest mode [N, R] of p(y | x); made when it is first asked for.

        The highest that is reached from the components' means. Where x leaves two answers open it
        is one of them, while the mean lies between.
        """
        found = np.empty_like(self.mean)
        k, r = self.mixtures.means.shape[1:]
        for part in blocks(len(found), k * k * (2 * r + 3) + k * r * r * 3):
            logits, means = (np.asarray(a[part], np.float64) for a in self.mixtures[:2])
            found[part] = _highest_modes(logits, means, self._factors)
        return found


def regress(parameters: Parameters, columns: ArrayLike, values: ArrayLike) -> Regression:
    """Regression by a mixture: mean, covariance and mode of the columns that are not known.

    Parameters
    ----------
    parameters : Parameters
        Of the joint mixture of all D columns.
    columns : array_like of int, shape [Q]
        Those that are known, from 0; none twice, and not all.
    values : array_like, shape [N, Q], or [Q] for one row
        In the order of `columns`.

    Returns
    -------
    Regression
        Of the other columns, in their own order.

    Raises
    ------
    TypeError, ValueError
        As `Parameters.conditional`.

    References
    ----------
    .. [1] Ghahramani, Z. and Jordan, M. I. (1994). Supervised learning from incomplete data via an
       EM approach. *Advances in Neural Information Processing Systems*, 6, 120-127.

    Examples
    --------
    >>> import gmm_np
    >>> joint = gmm_np.Parameters([0.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.5, 2.0]]])
    >>> found = gmm_np.conditional.regress(joint, [0], [[2.0], [4.0]])
    >>> found.mean.tolist(), found.covariance[0].tolist()
    ([[1.0], [2.0]], [[4.0]])
    """
    known = check_columns(columns, parameters.n_features, least=1, most=parameters.n_features - 1)
    points = np.asarray(values)
    rows = parameters.conditional(known, np.atleast_2d(points) if points.ndim < 2 else values)
    assert isinstance(rows, RowParameters)
    mixtures = RowParameters(*(np.asarray(array, np.float64) for array in rows))
    family = FAMILIES[parameters.family]
    n, k, r = mixtures.means.shape
    # That of the others given the known ones is the same for all rows.
    factors = np.array(family.structure.expand(mixtures.scale[0], r), order="C")  # [K, R, R]
    spread = factors @ factors.swapaxes(1, 2)
    weights = np.exp(log_softmax(mixtures.pi_logits, axis=1))  # [N, K]
    mean = np.einsum("nk,nkr->nr", weights, mixtures.means)  # (P7)
    covariance = np.tensordot(weights, spread, 1)  # (P8)
    for part in blocks(n, 2 * k * r):
        apart = mixtures.means[part] - mean[part, None]
        apart *= np.sqrt(weights[part])[:, :, None]
        covariance[part] += np.matmul(apart.swapaxes(1, 2), apart)
    others = np.setdiff1d(np.arange(parameters.n_features), known)
    return Regression(mean, covariance, others, mixtures, factors)


def _highest_modes(logits: FloatArray, means: FloatArray, factors: FloatArray) -> FloatArray:
    """Return the highest modes [B, R] of mixtures by logits [B, K] and means [B, K, R]."""
    n, k, r = means.shape
    inverse = invert_factors(factors)
    precisions = inverse.swapaxes(1, 2) @ inverse
    half_log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    constant = log_softmax(logits, axis=1) - half_log_det  # [B, K]
    starts = np.flatnonzero(constant.ravel() > -np.inf)
    row = starts // k

    def terms(points: FloatArray, which: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        """Residuals [M, K, R], and logs of terms [M, K], of points of these starts."""
        residual = points[:, None] - means[row[which]]
        z = np.einsum("kij,mkj->mki", inverse, residual)
        return residual, constant[row[which]] - 0.5 * np.einsum("mki,mki->mk", z, z)

    def height(points: FloatArray, which: NDArray[np.intp]) -> FloatArray:
        return extended_range.logsumexp_forward(terms(points, which)[1])[0]

    def slopes(
        points: FloatArray, which: NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        residual, log_terms = terms(points, which)
        _, resp = extended_range.logsumexp_forward(log_terms)
        pulled = np.einsum("kij,mkj->mki", precisions, residual)
        mean_pull = np.einsum("mk,mki->mi", resp, pulled)
        pulled -= mean_pull[:, None]  # about their mean for its digits, equation (65)
        pulled *= np.sqrt(resp)[:, :, None]
        pooled = np.tensordot(resp, precisions, 1)
        return -mean_pull, pulled.swapaxes(1, 2) @ pulled - pooled, pooled

    reached = climb(means.reshape(-1, r)[starts], height, slopes)
    heights = np.full(n * k, -np.inf)
    heights[starts] = height(reached, np.arange(len(starts)))
    best = heights.reshape(n, k).argmax(axis=1) + k * np.arange(n)
    everywhere = np.empty((n * k, r))
    everywhere[starts] = reached
    return np.asarray(everywhere[best])
