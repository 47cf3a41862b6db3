"""Scores of samples, and Hessians of the loss, as arrays over the vector of the parameters.

The vector is that of `gmm_np.parametrizations.Cholesky`: the logits [K], the means [K, D] row by
row, then the scale, of Cholesky factors the lower triangles row by row.

Letters in shapes: N samples, B samples of a block, K components, D dimensions, V entries of the
vector, L of them that one component depends on.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np.checks import (
    FloatArray,
    as_scalar_reduction,
    check_choice,
    check_rows,
    check_sample_weight,
)
from gmm_np.covariance import FAMILIES
from gmm_np.covariance.sums import Sums
from gmm_np.estep import Block, EStep, PreparedMixture, ResidualKernel, Tangent
from gmm_np.likelihood import no_weight, of_each_block, rows_of_parts
from gmm_np.linalg import triangles
from gmm_np.linalg.factors import triangle_places
from gmm_np.missing import MISSING, MarginalEStep, by_covariance, out_of_range
from gmm_np.parameters import Gradients, Parameters
from gmm_np.parametrizations import Cholesky
from gmm_np.parts import Part, Parts, no_blocks, parts_of
from gmm_np.second_order import curvature

__all__ = ["Information", "information", "nll_hessian", "scores"]


def scores(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    missing: str = "error",
) -> FloatArray:
    """Gradient of the log-likelihood of each sample, as a row: s_n of equation (65).

    Parameters
    ----------
    x, pi_logits, means, scale, family, missing
        As in `nll`.

    Returns
    -------
    scores : ndarray, shape [N, V]
        In float64, in the order of ``gmm_np.parametrizations.Cholesky``; their sum is minus the
        gradient of the summed loss. Of Dask's data a Dask array.

    Raises
    ------
    TypeError, ValueError
        As `nll` does.

    Examples
    --------
    >>> import gmm_np
    >>> gmm_np.scores([[0.0], [3.0]], [0.0], [[1.0]], [[[2.0]]]).tolist()
    [[0.0, -0.25, -0.375], [0.0, 0.5, 0.0]]
    """
    parameters = Parameters(pi_logits, means, scale, family)
    parts = parts_of(x)
    if parts is not None:
        tail = (Cholesky.of(parameters).size,)
        there: FloatArray = rows_of_parts(parts, _scores, parameters, missing, tail=tail)
        return there
    return _scores(x, parameters, missing)


def _scores(x: ArrayLike, parameters: Parameters, missing: str) -> FloatArray:
    rows = check_rows(x, parameters.n_features)
    layout = _Layout(parameters)
    out = np.empty((len(rows), layout.size))

    def write(block: Block) -> None:
        part = block.rows
        if block.kernel is None:
            if np.isnan(rows[block.rows]).any():
                raise out_of_range()
            out[part] = _scores_by_reference(block.samples, parameters)
        else:
            resp, local = layout.local_scores(block)
            found = layout.total(resp, local).T
            found[:, : parameters.n_components] -= layout.weights
            out[part] = found

    layout.engine(len(rows), missing).each(rows, write)
    return out


def nll_hessian(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    missing: str = "error",
) -> FloatArray:
    """Hessian of the negative log-likelihood in its parameters, equation (65).

    Parameters
    ----------
    x, pi_logits, means, scale, family, sample_weight, missing
        As in `nll`.
    reduction : {"mean", "sum"}
        Weighted mean (the default) or weighted sum over samples.

    Returns
    -------
    hessian : ndarray, shape [V, V]
        In float64, symmetric, in the order of ``gmm_np.parametrizations.Cholesky``, whose
        `pull_hessian` takes it to other parametrizations. Rows and columns of a component that is
        off are zero.

    Raises
    ------
    TypeError, ValueError
        As `nll` does; and for ``reduction="none"``, which has no Hessian.
    OverflowError
        If a second derivative, or a step to it, is beyond the range of a double.

    See Also
    --------
    nll_hvp : Its product with a vector, in memory that does not grow with V.

    Examples
    --------
    >>> import gmm_np
    >>> gmm_np.nll_hessian([[0.0], [3.0]], [0.0], [[1.0]], [[[2.0]]]).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.25, 0.125], [0.0, 0.125, 0.21875]]
    """
    reduction = as_scalar_reduction(reduction)
    parameters = Parameters(pi_logits, means, scale, family)
    parts = parts_of(x, sample_weight)
    if parts is not None:
        found = summed_information(parts, parameters, missing)
    else:
        rows = check_rows(x, parameters.n_features)
        weight = check_sample_weight(sample_weight, len(rows))
        found = information(rows, parameters, weight, missing)
    return found.hessian / found.weight if reduction == "mean" else found.hessian


class Information(NamedTuple):
    """What data say of the vector at a point: sums over samples, which add.

    Attributes
    ----------
    weight : float
        Sum of w_n.
    score : ndarray, shape [V]
        Sum of w_n s_n, minus the gradient of the summed loss.
    hessian : ndarray, shape [V, V]
        Of the summed loss: the observed information.
    outer : ndarray, shape [V, V]
        Sum of w_n s_n s_n^T: a sample of weight 2 counts as two equal ones.
    """

    weight: float
    score: FloatArray
    hessian: FloatArray
    outer: FloatArray

    def plus(self, other: Information) -> Information:
        """Return what both data sets together say."""
        return Information(
            self.weight + other.weight,
            self.score + other.score,
            self.hessian + other.hessian,
            self.outer + other.outer,
        )


def information(
    rows: NDArray[np.generic],
    parameters: Parameters,
    weight: FloatArray | None,
    missing: str = "error",
) -> Information:
    """Observed information, and the sum of outer products of scores, equation (65).

    Of checked rows [N, D] and weights [N].

    Raises
    ------
    ValueError
        If a value of x is not finite.
    OverflowError
        If a second derivative, or a step to it, is beyond the range of a double.
    """
    layout = _Layout(parameters)
    engine = layout.engine(len(rows), missing)
    # sum w r h h^T, which is of one component after the other, and sum w s s^T, (65)
    within, between = np.zeros((2, layout.size, layout.size))
    score = np.zeros(layout.size)
    lock = threading.Lock()

    def add(block: Block) -> None:
        if block.kernel is None:
            raise _out_of_range()
        own = np.ones_like(block.total) if weight is None else weight[block.rows]
        resp, local = layout.local_scores(block)
        scores = layout.total(resp, local)
        outer = np.empty(between.shape)
        triangles.multiply(scores * own, scores.T, out=outer)
        squares = np.empty((len(local), local.shape[1], local.shape[1]))
        triangles.multiply(local * (own * resp)[:, None], local.swapaxes(1, 2), out=squares)
        if missing == "error":
            block.kernel.add(block.exponentials, own / block.total)
        with lock:
            np.add(between, outer, out=between)
            np.add(score, scores @ own, out=score)
            layout.scatter(squares, within)

    engine.each(rows, add)
    with np.errstate(all="ignore"):
        spreads: list[Sums] = []
        if missing == "marginal":  # whose moments are those of patterns, and not of blocks
            marginal = layout.marginal(len(rows), layout.tangents)
            marginal.add(rows, weight)
            engine, spreads = marginal, marginal.spreads()
        sums = engine.sums()
        hessian = layout.of_fixed_responsibilities(sums, spreads) - within + between
        # Scores in the logits are r - pi, and were r so far.
        total, shift = float(sums.mass.sum()), np.zeros(layout.size)
        shift[: parameters.n_components] = layout.weights
        crossed = np.outer(shift, score)
        outer = between - crossed - crossed.T + total * np.outer(shift, shift)
        score -= total * shift
    if not (np.isfinite(hessian).all() and np.isfinite(outer).all()):
        raise _out_of_range()
    found = float(len(rows)) if weight is None else float(weight.sum())
    return Information(found, score, 0.5 * (hessian + hessian.T), 0.5 * (outer + outer.T))


def summed_information(parts: Parts, parameters: Parameters, missing: str = "error") -> Information:
    """Return what the rows of all parts say.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `nll_hessian` does.
    """
    found: Information = parts.reduce(_information_of, parameters, missing, add=Information.plus)
    if found.weight == 0:
        raise no_weight()
    return found


def _information_of(part: Part, parameters: Parameters, missing: str) -> Information:
    def of_rows(block: ArrayLike, given: ArrayLike | None) -> Information:
        rows = check_rows(block, parameters.n_features)
        weight = check_sample_weight(given, len(rows), some=False)
        return information(rows, parameters, weight, missing)

    found = of_each_block(of_rows, part.x, part.weight)
    total = next(found, None)
    if total is None:
        raise no_blocks()
    return reduce(Information.plus, found, total)


class _Layout:
    """Where the entries of the vector are that each component depends on."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.family, self.weights = FAMILIES[parameters.family], parameters.weights()
        k, d = parameters.means.shape
        self.size = Cholesky.of(parameters).size
        self.n_scale = self.family.n_free(1, d)
        self.mixture = PreparedMixture.of(parameters)
        component = np.arange(k)[:, None]
        shift = 0 if self.family.shared else component * self.n_scale
        self.places = np.hstack(  # [K, L]
            [
                component,
                k + component * d + np.arange(d),
                np.broadcast_to(k + k * d + shift + np.arange(self.n_scale), (k, self.n_scale)),
            ]
        )
        self.on = np.flatnonzero(self.mixture.on)

    def engine(self, n_samples: int, missing: str) -> EStep:
        """Return an E-step by the kernel that keeps residuals."""
        check_choice("missing", missing, MISSING)
        if missing == "marginal":
            return self.marginal(n_samples)
        return EStep(self.mixture, "direct", gradient=True, n_samples=n_samples)

    def marginal(self, n_samples: int, directions: Sequence[Tangent] = ()) -> MarginalEStep:
        """Return one that takes missing values, and what they add along directions."""
        return MarginalEStep(
            self.mixture, "direct", gradient=True, n_samples=n_samples, directions=directions
        )

    def local_scores(self, block: Block) -> tuple[FloatArray, FloatArray]:
        """Return responsibilities [K, B] of a block, and gradients of its terms [K, L, B].

        In the logit without what is the same for all components, which cancels in (65).
        """
        kernel, m = block.kernel, self.mixture
        assert isinstance(kernel, ResidualKernel)
        z = kernel.lifted()
        local = np.empty((*z.shape[:1], self.places.shape[1], z.shape[2]))
        pulled = self.family.structure.pull_residuals(m.inverse, z)
        local[:, 0] = 1.0
        local[:, 1 : m.n_dims + 1] = pulled
        if self.n_scale:
            local[:, m.n_dims + 1 :] = self.family.structure.scale_scores(m.scale, z, pulled)
            if kernel.hidden is not None:
                local[:, m.n_dims + 1 :] += self._hidden_scores(kernel.hidden)[..., None]
        return block.exponentials / block.total, local

    def _hidden_scores(self, hidden: FloatArray) -> FloatArray:
        """Return what second moments that are not seen add to scores in the scale, [G, S]: (71)."""
        m, family = self.mixture, self.family
        scale, inverse = (by_covariance(array, family) for array in (m.scale, m.inverse))
        second = np.array(np.broadcast_to(hidden, scale.shape))
        found = -family.structure.gradient(scale, inverse, np.zeros(len(scale)), second, m.n_dims)
        if not family.has_factors:
            return found.reshape(len(scale), -1)
        rows, columns = triangle_places(m.n_dims)
        return np.asarray(found[:, rows, columns])

    def total(self, resp: FloatArray, local: FloatArray) -> FloatArray:
        """Return the sum of r h at the places of the vector, [V, B]."""
        score = np.zeros((self.size, resp.shape[1]))
        for k, own, r in zip(self.on, local, resp, strict=True):
            score[self.places[k]] += r * own
        return score

    def scatter(self, matrices: FloatArray, out: FloatArray) -> None:
        """Add matrices [K, L, L] of components that are on to `out` [V, V]."""
        for k, matrix in zip(self.on, matrices, strict=True):
            places = self.places[k]
            out[np.ix_(places, places)] += matrix

    @cached_property
    def tangents(self) -> list[Tangent]:
        """Directions, each of one entry of what all components depend on, after the logit."""
        p = self.parameters
        zero = Gradients(*(np.zeros(array.shape) for array in (p.pi_logits, p.means, p.scale)))
        inverses = self.mixture.all_inverses
        n_local = p.n_features + self.n_scale
        return [Tangent.of(p, inverses, self._direction(zero, j)) for j in range(n_local)]

    def of_fixed_responsibilities(self, sums: Sums, spreads: Sequence[Sums] = ()) -> FloatArray:
        """Return the curvature of the summed loss from r H_k alone, equation (67): [V, V].

        Component by component it is a matrix, of which one direction gives a column for all.
        `spreads`: what missing values add for each of the `tangents`, equation (73).
        """
        p, k, d = self.parameters, *self.parameters.means.shape
        nothing = Sums(*(np.zeros_like(part) for part in sums))
        out = np.zeros((self.size, self.size))
        pi = self.weights
        out[:k, :k] = sums.mass.sum() * (np.diag(pi) - np.outer(pi, pi))
        for j, tangent in enumerate(self.tangents):
            own = spreads[j] if spreads else nothing
            found = curvature(p, self.mixture.all_inverses, tangent, sums, own)
            column = self.places[:, 1 + j]
            for i in range(d):
                row = self.places[:, 1 + i]
                out[row, column] = found.means[:, i]
                if j >= d:
                    out[column, row] = found.means[:, i]
            if j >= d:
                assert found.scale is not None
                packed = Cholesky.of(p).pullback(p, found)[k + k * d :].reshape(-1, self.n_scale)
                for i, entries in enumerate(packed.T):
                    out[self.places[: len(packed), 1 + d + i], column[: len(packed)]] = entries
        return out

    def _direction(self, zero: Gradients, j: int) -> Gradients:
        """Return the direction in which entry 1 + j of what each component depends on moves."""
        d = zero.means.shape[1]
        if j < d:
            means = zero.means.copy()
            means[:, j] = 1.0
            return zero._replace(means=means)
        assert zero.scale is not None
        scale = np.zeros(zero.scale.shape)
        if self.family.has_factors:
            rows, columns = np.tril_indices(d)
            scale[..., rows[j - d], columns[j - d]] = 1.0
        elif self.n_scale > 1:
            scale[..., j - d] = 1.0
        else:
            scale[...] = 1.0
        return zero._replace(scale=scale)


def _scores_by_reference(samples: FloatArray, parameters: Parameters) -> FloatArray:
    """Return scores [B, V] of samples [D, B] one by one, by the chain rule with dense factors."""
    from gmm_np import reference  # rarely: a distance left the range of a double

    family, layout = FAMILIES[parameters.family], Cholesky.of(parameters)
    arguments = (parameters.pi_logits, parameters.means, parameters.factors())
    doubles = [argument.astype(np.float64) for argument in arguments]
    found = np.empty((samples.shape[1], layout.size))
    for row, sample in zip(found, samples.T, strict=True):
        _, cache = reference.nll_forward(sample[None], *doubles)
        d_logits, d_means, d_factors, _ = reference.nll_backward(cache, -1.0)
        d_scale = family.reduce(np.asarray(d_factors)) if family.learned else None
        row[...] = layout.pullback(parameters, Gradients(d_logits, d_means, d_scale))
    return found


def _out_of_range() -> OverflowError:
    return OverflowError(
        "a second derivative of the loss, or a step to it, is beyond the range of a double. Choose "
        "units in which x is of order one, and leave out rows that are far from every component."
    )
