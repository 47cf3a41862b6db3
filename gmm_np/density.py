"""The density of a mixture as a function of x: its gradient, its Hessian, and its modes.

Letters in shapes: N samples, B samples of a block, K components, D dimensions, S starts, M modes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np.checks import FloatArray, check_choice, check_rows, first_of
from gmm_np.covariance import FAMILIES
from gmm_np.estep import Block, EStep, PreparedMixture, ResidualKernel
from gmm_np.likelihood import log_prob, responsibilities, rows_of_parts
from gmm_np.missing import MISSING, MarginalEStep, MarginalKernel, out_of_range
from gmm_np.parameters import Gradients, Parameters
from gmm_np.parts import parts_of

__all__ = ["Modes", "log_prob_grad", "log_prob_hess", "modes"]

# Points looked at on the ridge line between two components, and neighbours of a component to which
# there are ridge lines, and in threes of which there may be a mode of none of them.
RIDGE_POINTS: Final = 41
NEIGHBOURS: Final = 12
# Steps of the search for modes at most; where Newton's method is safe it takes less than ten.
STEPS: Final = 500
# The largest gradient of a mode, and the distance of two that are one, where its Hessian is the
# unit of length.
FLAT: Final = 1e-7
APART: Final = 1e-4


class Modes(NamedTuple):
    """The modes of a density, the highest first.

    Attributes
    ----------
    points : ndarray, shape [M, D]
    log_prob : ndarray, shape [M]
        Log density there, in nats.
    """

    points: FloatArray
    log_prob: FloatArray


def log_prob_grad(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    missing: str = "error",
) -> FloatArray:
    """Gradient of each sample's log-likelihood in the sample itself: (18) and (19).

    Parameters
    ----------
    x, pi_logits, means, scale, family, missing
        As in `nll`.

    Returns
    -------
    gradient : ndarray, shape [N, D]
        In float64; infinite where it is beyond the range of a double, and zero where a value is
        missing. Of Dask's data a Dask array.

    Raises
    ------
    TypeError, ValueError
        As `nll` does.

    Examples
    --------
    >>> import gmm_np
    >>> gmm_np.log_prob_grad([[0.0], [3.0]], [0.0], [[1.0]], [[[2.0]]]).tolist()
    [[0.25], [-0.5]]
    """
    parameters = Parameters(pi_logits, means, scale, family)
    parts = parts_of(x)
    if parts is not None:
        tail = (parameters.n_features,)
        there: FloatArray = rows_of_parts(parts, _grad, parameters, missing, tail=tail)
        return there
    return _grad(x, parameters, missing)


def log_prob_hess(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    missing: str = "error",
) -> FloatArray:
    """Hessian of each sample's log-likelihood in the sample itself, equation (65).

    Parameters
    ----------
    x, pi_logits, means, scale, family, missing
        As in `nll`.

    Returns
    -------
    hessian : ndarray, shape [N, D, D]
        In float64, symmetric; zero where a value is missing. Of Dask's data a Dask array.

    Raises
    ------
    TypeError, ValueError
        As `nll` does.
    OverflowError
        If a second derivative, or a step to it, is beyond the range of a double.

    Examples
    --------
    >>> import gmm_np
    >>> gmm_np.log_prob_hess([[0.0]], [0.0], [[1.0]], [[[2.0]]]).tolist()
    [[[-0.25]]]
    """
    parameters = Parameters(pi_logits, means, scale, family)
    parts = parts_of(x)
    if parts is not None:
        tail = (parameters.n_features, parameters.n_features)
        there: FloatArray = rows_of_parts(parts, _hess, parameters, missing, tail=tail)
        return there
    return _hess(x, parameters, missing)


def modes(
    pi_logits: ArrayLike, means: ArrayLike, scale: ArrayLike, *, family: str = "full"
) -> Modes:
    """Local maxima of the density, each verified by its gradient and its Hessian.

    Parameters
    ----------
    pi_logits, means, scale, family
        As in `nll`.

    Returns
    -------
    modes : Modes
        There may be fewer modes than components, and more: none is bound to one.

    Raises
    ------
    TypeError, ValueError
        If the parameters are not what they have to be.

    Notes
    -----
    Every critical point lies on the ridgeline manifold (Ray and Lindsay 2005), which has a corner
    at each mean. The search climbs from the means, from the maxima along the ridge lines between
    pairs of neighbours, and from the middle of each three: by steps of EM, which never descend, and
    by Newton's method where that is higher (Carreira-Perpinan 2000). It may miss a mode that can
    be reached from none of these; it never returns a point that is no mode.

    Examples
    --------
    >>> import gmm_np
    >>> gmm_np.modes([0.0, 0.0], [[0.0], [1.0]], 1.0, family="shared_spherical").points.tolist()
    [[0.5]]
    """
    parameters = Parameters(pi_logits, means, scale, family)
    points = _climb(_starts(parameters), parameters)
    gradient, hessian = _grad(points, parameters), _hess(points, parameters)
    values, vectors = np.linalg.eigh(-hessian)
    with np.errstate(all="ignore"):
        # in units of the Hessian, in which a mode is round
        turned = np.einsum("ndi,nd->ni", vectors, gradient) / np.sqrt(values)
        flat = (np.abs(turned) <= FLAT).all(axis=1)
    is_mode = (values[:, 0] > 0) & flat
    points, hessian = points[is_mode], hessian[is_mode]
    height = _log_prob(points, parameters)
    found: list[int] = []
    for i in np.argsort(-height, kind="stable"):
        step = points[found] - points[i]
        if not (np.einsum("nd,de,ne->n", step, -hessian[i], step) < APART**2).any():
            found.append(int(i))
    return Modes(points[found], height[found])


def _grad(x: ArrayLike, parameters: Parameters, missing: str = "error") -> FloatArray:
    check_choice("missing", missing, MISSING)
    rows = check_rows(x, parameters.n_features)
    out = np.empty(rows.shape)
    mixture = PreparedMixture.of(parameters)

    def write(block: Block) -> None:
        if block.kernel is None:
            if np.isnan(rows[block.rows]).any():
                raise out_of_range()
            out[block.rows] = _grad_by_reference(block.samples.T, parameters)
        else:
            resp, z = _residuals(block)
            z *= resp[:, None]
            out[block.rows] = -mixture.family.structure.total_pull(mixture.inverse, z).T  # (19)

    kind = MarginalEStep if missing == "marginal" else EStep
    kind(mixture, "direct", gradient=True, n_samples=len(rows)).each(rows, write)
    if missing == "marginal":
        out[np.isnan(rows)] = 0.0  # but for rounding
    return out


def _hess(x: ArrayLike, parameters: Parameters, missing: str = "error") -> FloatArray:
    check_choice("missing", missing, MISSING)
    rows = check_rows(x, parameters.n_features)
    n, d = rows.shape
    out = np.empty((n, d, d))
    mixture, family = PreparedMixture.of(parameters), FAMILIES[parameters.family]
    with np.errstate(over="ignore"):
        precisions = family.structure.precisions(mixture.inverse, d)
    every = np.broadcast_to(precisions, (mixture.n_components, d, d))

    def write(block: Block) -> None:
        if block.kernel is None:
            if np.isnan(rows[block.rows]).any():
                raise out_of_range()
            out[block.rows] = _hess_by_reference(block.samples.T, parameters)
            return
        resp, z = _residuals(block)
        pulled = family.structure.pull_residuals(mixture.inverse, z)
        # The covariance of the components' gradients, about their mean for its digits, (65).
        pulled -= np.einsum("kb,kdb->db", resp, pulled)
        pulled *= np.sqrt(resp)[:, None]
        own = every
        if isinstance(block.kernel, MarginalKernel):
            inverse = block.kernel.margins.inverse[block.kernel.index]
            own = np.broadcast_to(family.structure.precisions(inverse, d), every.shape)
        found = -np.tensordot(resp.T, own, 1)
        for i in range(d):
            lower = np.einsum("kb,kjb->bj", pulled[:, i], pulled[:, : i + 1])
            found[:, i, : i + 1] += lower
            found[:, :i, i] += lower[:, :i]
        out[block.rows] = found

    kind = MarginalEStep if missing == "marginal" else EStep
    kind(mixture, "direct", gradient=True, n_samples=n).each(rows, write)
    if missing == "marginal":
        gaps = np.isnan(rows)
        out[gaps[:, :, None] | gaps[:, None, :]] = 0.0
    bad = np.asarray(~np.isfinite(out).all(axis=(1, 2)))
    if bad.any():
        raise OverflowError(
            "a second derivative in x, or a step to it, is beyond the range of a double: "
            f"{first_of(bad, ('row',))}. Choose units in which x is of order one."
        )
    return out


def _residuals(block: Block) -> tuple[FloatArray, FloatArray]:
    """Return responsibilities [K, B] of a block, and its residuals z [K, D, B], to be changed."""
    assert isinstance(block.kernel, ResidualKernel)
    return block.exponentials / block.total, block.kernel.lifted()


def _grad_by_reference(x: FloatArray, parameters: Parameters) -> FloatArray:
    """Return the gradients [B, D] of samples [B, D] by the chain rule, with dense factors."""
    from gmm_np import reference  # rarely: a distance left the range of a double

    arguments = (parameters.pi_logits, parameters.means, parameters.factors())
    doubles = (argument.astype(np.float64) for argument in arguments)
    _, cache = reference.nll_forward(x, *doubles, reduction="sum")
    return np.asarray(reference.nll_backward(cache, -1.0).x)


def _hess_by_reference(x: FloatArray, parameters: Parameters) -> FloatArray:
    """Return the Hessians [B, D, D] of samples [B, D] by the chain rule, NaN beyond the range."""
    from gmm_np import reference  # rarely: a distance left the range of a double

    logits, means = (a.astype(np.float64) for a in (parameters.pi_logits, parameters.means))
    factors, out = parameters.factors(), np.full((*x.shape, x.shape[1]), np.nan)
    zero = Gradients(np.zeros_like(logits), np.zeros_like(means), None)
    for own, sample in zip(out, x, strict=True):
        with contextlib.suppress(OverflowError):  # said by the caller, of the row
            for column, unit in zip(own.T, np.eye(x.shape[1]), strict=True):
                direction = zero._replace(x=unit[None])
                found = reference.nll_hvp(sample[None], logits, means, factors, direction)
                column[...] = -np.asarray(found.x)[0]
    return out


def _log_prob(x: FloatArray, parameters: Parameters) -> FloatArray:
    p = parameters
    return log_prob(x, p.pi_logits, p.means, p.scale, family=p.family, method="direct")


def _precisions(parameters: Parameters) -> FloatArray:
    """Return Sigma_k^-1 [K, D, D] of all components."""
    family, (k, d) = FAMILIES[parameters.family], parameters.means.shape
    inverse = family.structure.inverse(parameters.scale.astype(np.float64))
    return np.broadcast_to(family.structure.precisions(inverse, d), (k, d, d))


def _starts(parameters: Parameters) -> FloatArray:
    """Return where to climb from [S, D]: means, maxima on ridge lines, and middles of threes."""
    on = parameters.weights() > 0
    means = parameters.means.astype(np.float64)[on]
    precisions = _precisions(parameters)[on]
    pulled = np.einsum("kij,kj->ki", precisions, means)
    starts = [means]
    near = _neighbours(means, precisions)
    share = np.linspace(0.0, 1.0, RIDGE_POINTS)[1:-1, None]
    for i, j in sorted(
        {(min(i, int(j)), max(i, int(j))) for i, row in enumerate(near) for j in row}
    ):
        weights = np.hstack([1.0 - share, share])
        ridge = _on_ridge(weights, precisions[[i, j]], pulled[[i, j]])
        ends = np.concatenate([means[i : i + 1], ridge, means[j : j + 1]])
        height = _log_prob(ends, parameters)
        top = (height[1:-1] >= height[:-2]) & (height[1:-1] >= height[2:])
        starts.append(ridge[top])
    third = np.full((1, 3), 1.0 / 3.0)
    threes = {
        tuple(sorted((i, int(j), int(k))))
        for i, row in enumerate(near)
        for j, k in itertools.combinations(row, 2)
    }
    starts += [_on_ridge(third, precisions[list(s)], pulled[list(s)]) for s in sorted(threes)]
    return np.concatenate(starts)


def _neighbours(means: FloatArray, precisions: FloatArray) -> NDArray[np.intp]:
    """Return for each component the others that are nearest, by the smaller of both distances."""
    step = means[:, None] - means  # [K, K, D]
    distance = np.einsum("kld,kde,kle->kl", step, precisions, step)
    distance = np.minimum(distance, distance.T)
    np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.asarray(order[:, : min(NEIGHBOURS, len(means) - 1)])


def _on_ridge(weights: FloatArray, precisions: FloatArray, pulled: FloatArray) -> FloatArray:
    """Return points [S, D] at which gradients of components, so weighed [S, K], add up to zero."""
    matrices = np.tensordot(weights, precisions, 1)  # [S, D, D]
    return np.asarray(np.linalg.solve(matrices, (weights @ pulled)[:, :, None])[:, :, 0])


def _climb(x: FloatArray, parameters: Parameters) -> FloatArray:
    """Return where points [S, D] arrive that climb to where the density has no slope."""
    p, precisions = parameters, _precisions(parameters)

    def height(points: FloatArray, which: NDArray[np.intp]) -> FloatArray:  # noqa: ARG001
        return _log_prob(points, parameters)

    def slopes(
        points: FloatArray,
        which: NDArray[np.intp],  # noqa: ARG001
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        gradient, hessian = _grad(points, parameters), _hess(points, parameters)
        resp = responsibilities(
            points, p.pi_logits, p.means, p.scale, family=p.family, method="direct"
        )
        return gradient, hessian, np.tensordot(resp, precisions, 1)

    return climb(x, height, slopes)


def climb(
    x: FloatArray,
    height: Callable[[FloatArray, NDArray[np.intp]], FloatArray],
    slopes: Callable[[FloatArray, NDArray[np.intp]], tuple[FloatArray, FloatArray, FloatArray]],
) -> FloatArray:
    """Return where points [S, D] arrive that climb densities to where these have no slope.

    Parameters
    ----------
    x : ndarray, shape [S, D]
    height, slopes : callable
        Of points [M, D], and of which of the S they are: the log density [M]; and its gradient
        [M, D], its Hessian and the mean of the components' precisions [M, D, D].
    """
    moving = np.arange(len(x))
    x, heights = x.copy(), height(x, moving)
    for _ in range(STEPS):
        gradient, hessian, matrices = slopes(x[moving], moving)
        # A step of EM: the mean of the means, weighed by responsibilities and precisions.
        uphill = np.linalg.solve(matrices, gradient[:, :, None])[..., 0]
        values, vectors = np.linalg.eigh(-hessian)
        concave = values[:, 0] > 0
        turned = np.einsum("ndi,nd->ni", vectors, gradient)
        with np.errstate(all="ignore"):
            newton = np.einsum("ndi,ni->nd", vectors, turned / values)
            decrement = np.where(concave, (turned**2 / values).sum(axis=1), np.inf)
        steps = np.where(concave[:, None], newton, uphill)
        ahead = x[moving] + steps
        reached = height(ahead, moving)
        # Where rounding hides what the last of Newton's steps gain they are taken all the same.
        lower = ~(reached >= heights[moving]) & (decrement > FLAT)
        if lower.any():
            ahead[lower] = x[moving][lower] + uphill[lower]
            reached[lower] = height(ahead[lower], moving[lower])
        x[moving], heights[moving] = ahead, reached
        done = decrement <= FLAT**2  # what the step just taken leaves is about its square
        moving = moving[~done]
        if not len(moving):
            break
    return x
