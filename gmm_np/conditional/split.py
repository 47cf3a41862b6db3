"""A mixture whose given columns come first, and what a block of rows is to it.

The columns that are given, and the others, are parts of one whitened residual once the given ones
come first: with a factor in blocks, A of the given columns, B below it and C of the others, z has
A^-1 (x - mu) and then C^-1 (y - mu - B A^-1 (x - mu)). So a term of the joint density is one of
the marginal times one of the conditional, and every sum is of one residual with two weights.
Equations (P1) to (P8) are those of docs/parts.md.

Letters in shapes: B rows of a block, K components, D columns, Q given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from gmm_np import extended_range, tuning
from gmm_np.checks import FloatArray
from gmm_np.covariance import FAMILIES, Family
from gmm_np.parameters import Gradients, Parameters, check_columns

LOG_2_PI: Final = math.log(2 * math.pi)


class Sums(NamedTuple):
    """Weighted sums over rows, by component, in whitened coordinates: (P5).

    Attributes
    ----------
    given, others : ndarray, shape [K]
        Sums of the weights of both parts of z.
    first : ndarray, shape [K, D]
        Of weighted z.
    second : ndarray
        Of weighted z z^T, the lower triangles, in the shape of the family.
    """

    given: FloatArray
    others: FloatArray
    first: FloatArray
    second: FloatArray

    def plus(self, other: Sums) -> Sums:
        """Return those of both."""
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True, eq=False)
class Split:
    """A mixture whose given columns come first, for blocks of rows.

    Attributes
    ----------
    family : Family
    order : ndarray, shape [D]
        The given columns, and then the others in their own order.
    n_given : int
        Q.
    means, scale, inverse : ndarray
        With columns in this order; the inverse is that of the scale.
    log_given, log_others : ndarray, shape [K]
        What terms of the marginal, and of the conditional, have at z = 0; log pi is in the first.
    """

    family: Family
    order: NDArray[np.intp]
    n_given: int
    means: FloatArray
    scale: FloatArray
    inverse: FloatArray
    log_given: FloatArray
    log_others: FloatArray

    @classmethod
    def of(cls, parameters: Parameters, given: ArrayLike) -> Split:
        """Bring the given columns to the front.

        Raises
        ------
        TypeError, ValueError
            If `given` are no columns, or all of them.
        """
        d, family = parameters.n_features, FAMILIES[parameters.family]
        columns = check_columns(given, d, least=1, most=d - 1, name="given")
        order = np.concatenate([columns, np.setdiff1d(np.arange(d), columns)])
        structure = family.structure
        scale = structure.split(parameters.scale.astype(np.float64), order, d).known
        scale = np.array(scale, order="C")  # as inverses take it
        logs = np.log(_diagonals(family, scale, parameters.n_components, d))  # [K, D]
        half = 0.5 * LOG_2_PI
        q = len(columns)
        log_pi = log_softmax(parameters.pi_logits.astype(np.float64))
        return cls(
            family,
            order,
            q,
            parameters.means.astype(np.float64)[:, order],
            scale,
            structure.inverse(scale),
            log_pi - (logs[:, :q] + half).sum(axis=1),
            -(logs[:, q:] + half).sum(axis=1),
        )

    def forward(self, rows: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return log p(y | x) [B], and for the backward z [K, D, B] and both shares [B, K].

        Of rows [B, D] in the order of the data. The shares are the excess of the responsibilities
        over those of the given columns alone, and these responsibilities: (P3).
        """
        x, q = rows[:, self.order].T, self.n_given
        z = np.empty((*self.means.shape, len(rows)))
        self.family.structure.whiten(self.inverse, x, self.means, z, np.empty_like(z))
        given, others = z[:, :q], z[:, q:]
        # [B, K]  (P1)  s_nk = log pi_k + log N(x_n; A_k),  v_nk = log N(y_n | x_n; k)
        s = self.log_given - 0.5 * np.einsum("kdb,kdb->bk", given, given)
        v = self.log_others - 0.5 * np.einsum("kdb,kdb->bk", others, others)
        s -= s.max(axis=1, keepdims=True)
        log_total, prior = extended_range.logsumexp_forward(s)
        # (P2)  l_n = log sum_k w_k(x_n) p_k(y_n | x_n): no difference of two large sums
        log_likelihood, resp = extended_range.logsumexp_forward(s - log_total[:, None] + v)
        return log_likelihood, z, resp - prior, resp

    def sums(self, z: FloatArray, excess: FloatArray, resp: FloatArray) -> tuple[Sums, FloatArray]:
        """Return sums of a block, and z times its weights [K, D, B], from weighted shares: (P4)."""
        q = self.n_given
        weighted = np.empty_like(z)
        np.multiply(z[:, :q], excess.T[:, None], out=weighted[:, :q])
        np.multiply(z[:, q:], resp.T[:, None], out=weighted[:, q:])
        if not math.isfinite(weighted.sum()):  # what has no share adds nothing, however far it is
            idle = (excess == 0) & (resp == 0)  # [B, K]
            z = np.where(idle.T[:, None], 0.0, z)
            weighted = np.where(idle.T[:, None], 0.0, weighted)
        second = self.family.second_moments(*self.means.shape)
        self.family.add_second_moments(second, slice(None), weighted, z)
        return Sums(excess.sum(axis=0), resp.sum(axis=0), weighted.sum(axis=2), second), weighted

    def gradients(self, parameters: Parameters, sums: Sums) -> Gradients:
        """Return the gradient of the loss in the parameters before columns changed places: (P5)."""
        structure, (k, d) = self.family.structure, self.means.shape
        d_means = np.empty((k, d))
        d_means[:, self.order] = -structure.apply_transposed(self.inverse, sums.first)
        d_scale = np.zeros(0)
        if self.family.learned:
            mass = np.repeat(
                [sums.given, sums.others], [self.n_given, d - self.n_given], axis=0
            ).T  # [K, D], of each coordinate
            second = self.family.complete(sums.second)
            lacking = self.family.reduce(mass[:, :, None] * np.eye(d)) - second
            d_scale = self._unsorted(parameters, lacking)
        return parameters.as_gradients(-sums.given, d_means, d_scale)

    def _unsorted(self, parameters: Parameters, lacking: FloatArray) -> FloatArray:
        """Return the gradient in the scale in its own order, from masses less moments: (P6)."""
        scale = parameters.scale.astype(np.float64)
        if self.family.has_factors:
            own = self.family.structure.inverse(scale)
            turn = self.inverse @ scale[..., self.order, :]  # orthogonal: L'^-1 P L
            turned = turn.swapaxes(-1, -2) @ lacking @ turn
            return np.asarray(np.tril(own.swapaxes(-1, -2) @ turned))
        found = lacking / self.scale
        if not self.family.structure.by_column:
            return np.asarray(found)
        sorted_back = np.empty_like(found)
        sorted_back[..., self.order] = found
        return sorted_back


def _diagonals(family: Family, scale: FloatArray, k: int, d: int) -> FloatArray:
    """Return the diagonals of the factors that a scale stands for, [K, D]."""
    found = scale
    if family.has_factors:
        found = np.diagonal(scale, axis1=-2, axis2=-1)
    elif not family.structure.by_column:
        found = scale[..., None]
    return np.broadcast_to(found, (k, d))


def blocks(n_rows: int, entries: int) -> Iterator[slice]:
    """Yield slices of rows, of each of which work memory holds so many numbers."""
    size = max(8 * tuning.active.group // entries, 1)
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))
