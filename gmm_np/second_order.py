"""Hessian-vector products of the loss through the engine, and the sums that they come from.

Louis' identity, equations (65) to (67): one pass over the data yields per-component sums, and the
same by tangents of the responsibilities; all else is K-sized.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray, as_scalar_reduction, check_choice, check_rows, first_of
from gmm_np.covariance import FAMILIES
from gmm_np.covariance.sums import Sums
from gmm_np.estep import METHODS, Method, PreparedMixture, Tangent, TangentEStep
from gmm_np.likelihood import add_rows, no_weight
from gmm_np.missing import MISSING, MarginalTangentEStep
from gmm_np.parameters import Gradients, Parameters, check_direction
from gmm_np.parts import Executor, Part, Parts, is_stream, parts_of

__all__ = ["TangentStatistics", "hvp", "nll_hvp", "tangent_statistics"]


@dataclass(frozen=True, eq=False)
class TangentStatistics:
    """What a pass over data leaves for a Hessian-vector product; added with ``+``.

    Sums are of whitened residuals z = L_k^-1 (x - mu_k), about the means of the mixture.

    Attributes
    ----------
    parameters : Parameters
        At which they were made.
    direction : Gradients
        Along which. Statistics made at other parameters, or along another direction, do not add.
    weight : float
        Sum of w_n.
    count : int
        Samples seen.
    sums : Sums
        Of w_n r_nk times 1, z and z z^T: n_k [K], v_k [K, D] and M_k as in `Statistics`.
    tangents : Sums
        The same by the tangents of the responsibilities, equation (55).
    out_of_range : Gradients
        The product for those samples of which a distance left the range of a double.
    """

    parameters: Parameters
    direction: Gradients
    weight: float
    count: int
    sums: Sums
    tangents: Sums
    out_of_range: Gradients

    def __add__(self, other: object) -> TangentStatistics:
        if not isinstance(other, TangentStatistics):
            return NotImplemented
        if not self.parameters.equals(other.parameters) or not _equal(
            self.direction, other.direction
        ):
            raise ValueError(
                "statistics made at different parameters, or along different directions, do not "
                "add. Make both with the same Parameters and the same direction."
            )
        return TangentStatistics(
            self.parameters,
            self.direction,
            self.weight + other.weight,
            self.count + other.count,
            Sums(*(a + b for a, b in zip(self.sums, other.sums, strict=True))),
            Sums(*(a + b for a, b in zip(self.tangents, other.tangents, strict=True))),
            self.out_of_range.plus(other.out_of_range),
        )

    def __radd__(self, other: object) -> TangentStatistics:
        """Let the built-in sum() start from 0."""
        if isinstance(other, int) and other == 0:
            return self
        return NotImplemented


def nll_hvp(
    x: ArrayLike | Iterable[Any],
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    direction: Gradients,
    *,
    family: str = "full",
    sample_weight: ArrayLike | Iterable[Any] | None = None,
    reduction: str = "mean",
    method: str = "auto",
    missing: str = "error",
) -> Gradients:
    """Hessian-vector product of the negative log-likelihood in its parameters: (65) to (67).

    One pass over the data at about twice the cost of a gradient, in memory that does not grow
    with N.

    Parameters
    ----------
    x : array_like of shape [N, D], or iterable of such blocks of rows
        As for `gmm_np.statistics`.
    pi_logits, means, scale, family, method, missing
        As in `nll`.
    direction : Gradients
        How fast each entry moves: pi_logits [K], means [K, D] and scale (in its own shape; of
        factors lower triangular). `scale` may be None, for zero, and is for "constant". The logit
        of a component that is off stays at -inf, whatever it says there.
    sample_weight : array_like of shape [N], or iterable of arrays, one a block, optional
    reduction : {"mean", "sum"}
        Weighted mean (the default) or weighted sum over samples.

    Returns
    -------
    Gradients
        The Hessian times the direction, each array in the shape and dtype of its argument. x is
        None, and scale is for "constant".

    Raises
    ------
    TypeError, ValueError
        As `nll` does; if `direction` is not what it has to be, or moves x; and for
        ``reduction="none"``, which has no Hessian.
    OverflowError
        If the product, or a step to it, is beyond the range of a double.

    See Also
    --------
    gmm_np.reference.nll_hvp : By the chain rule, and with x among what moves.
    nll_hessian : The whole matrix.
    tangent_statistics, hvp : The same in two steps, for data in parts.

    Examples
    --------
    >>> import numpy as np
    >>> import gmm_np
    >>> direction = gmm_np.Gradients(np.zeros(1), np.ones((1, 1)), None)
    >>> gmm_np.nll_hvp([[0.0], [3.0]], [0.0], [[1.0]], [[[2.0]]], direction).means.tolist()
    [[0.25]]
    """
    reduce = as_scalar_reduction(reduction)
    parameters = Parameters(pi_logits, means, scale, family)
    found = tangent_statistics(
        x, parameters, direction, sample_weight=sample_weight, method=method, missing=missing
    )
    return hvp(parameters, found, reduction=reduce)


def tangent_statistics(
    x: ArrayLike | Iterable[Any] | Parts,
    parameters: Parameters,
    direction: Gradients,
    *,
    sample_weight: ArrayLike | Iterable[Any] | None = None,
    method: str = "auto",
    missing: str = "error",
    executor: Executor | None = None,
) -> TangentStatistics:
    """Sum up data for a Hessian-vector product, equations (66) and (67). The sums add.

    Parameters
    ----------
    x, sample_weight, executor
        As for `gmm_np.statistics`.
    parameters : Parameters
    direction : Gradients
        As for `nll_hvp`.
    method : {"auto", "direct", "moments"}
    missing : {"error", "marginal"}
        Both as in `nll`.

    Returns
    -------
    TangentStatistics

    Raises
    ------
    TypeError, ValueError
        As `nll_hvp` does.
    OverflowError
        If the product of a sample is beyond the range of a double.

    Examples
    --------
    The product for data in two parts:

    >>> import numpy as np
    >>> from gmm_np import Gradients, Parameters
    >>> from gmm_np.second_order import hvp, tangent_statistics
    >>> parameters = Parameters([0.0], [[1.0]], [[[2.0]]])
    >>> direction = Gradients(np.zeros(1), np.ones((1, 1)), None)
    >>> parts = [np.array([[0.0]]), np.array([[3.0]])]
    >>> total = sum(tangent_statistics(part, parameters, direction) for part in parts)
    >>> hvp(parameters, total).means.tolist()
    [[0.25]]
    """
    check_choice("method", method, METHODS)
    check_choice("missing", missing, MISSING)
    moves = _check_direction(parameters, direction)
    parts = parts_of(x, sample_weight, executor)
    if parts is None:
        return _tangents_of(Part(x, sample_weight), parameters, moves, method, missing, some=True)
    total: TangentStatistics = parts.reduce(_tangents_of, parameters, moves, method, missing)
    if total.weight == 0:
        raise no_weight()
    return total


def _tangents_of(
    part: Part,
    parameters: Parameters,
    moves: Gradients,
    method: str,
    missing: str,
    *,
    some: bool = False,
) -> TangentStatistics:
    mixture = PreparedMixture.of(parameters)
    beyond, lock = _zeros(parameters), threading.Lock()

    def by_reference(samples: FloatArray, weight: FloatArray | None) -> None:
        nonlocal beyond
        found = _by_reference(parameters, moves, samples, weight)
        with lock:
            beyond = beyond.plus(found)

    with np.errstate(all="ignore"):
        tangent = Tangent.of(parameters, mixture.all_inverses, moves)
    # Few samples go by the direct kernel, as they do for a gradient, and keep all their digits.
    x, n_samples = part.x, 10**6  # of a stream nobody knows
    if not is_stream(x):
        x = check_rows(cast(ArrayLike, x), parameters.n_features)
        n_samples = len(x)
    kind = MarginalTangentEStep if missing == "marginal" else TangentEStep
    engine = kind(mixture, cast(Method, method), tangent, by_reference, n_samples=n_samples)
    add_rows(engine, x, part.weight, some=some)
    sums, tangents = engine.sums_and_tangents()
    return TangentStatistics(parameters, moves, engine.weight, engine.count, sums, tangents, beyond)


def hvp(
    parameters: Parameters, statistics: TangentStatistics, *, reduction: str = "mean"
) -> Gradients:
    """Hessian-vector product from sums, equations (66) and (67).

    Parameters
    ----------
    parameters : Parameters
        Those at which the statistics were made.
    statistics : TangentStatistics
        Of all the data; add those of its parts.
    reduction : {"mean", "sum"}

    Returns
    -------
    Gradients

    Raises
    ------
    ValueError
        If the statistics were made at other parameters, `reduction` is "none", or the weight is
        zero.
    OverflowError
        If the product, or a step to it, is beyond the range of a double.
    """
    reduce = as_scalar_reduction(reduction)
    if not parameters.equals(statistics.parameters):
        raise ValueError(
            "statistics were made at other parameters than those given. Make them anew with "
            "gmm_np.second_order.tangent_statistics(x, parameters, direction)."
        )
    total = statistics.weight if reduce == "mean" else 1.0
    if total == 0:
        raise ValueError("statistics have no weight, so that their mean has no second derivative.")
    with np.errstate(all="ignore"):
        family = FAMILIES[parameters.family]
        inverse = family.structure.inverse(parameters.scale.astype(np.float64))
        tangent = Tangent.of(parameters, inverse, statistics.direction)
        found = curvature(parameters, inverse, tangent, statistics.sums, statistics.tangents)
        found = found.plus(statistics.out_of_range)
        found = _zeros(parameters).plus(found, 1.0 / total)
    _check_range(found, family.places)
    scale = np.zeros(0) if found.scale is None else found.scale
    return parameters.as_gradients(found.pi_logits, found.means, scale)


def curvature(
    parameters: Parameters,
    inverse: FloatArray,
    tangent: Tangent,
    sums: Sums,
    tangents: Sums,
) -> Gradients:
    """Tangent of the gradient of the summed loss, equation (67), from sums and their tangents.

    Parameters
    ----------
    parameters : Parameters
    inverse : ndarray
        Of the scale, in its shape.
    tangent : Tangent
    sums, tangents : Sums
        Second moments about the means.

    Returns
    -------
    Gradients
        In float64.
    """
    family = FAMILIES[parameters.family]
    structure, (mass, first, _) = family.structure, sums
    step, relative = tangent.step, tangent.relative
    # -W^T v: v moves by responsibilities, by z = -(A z + b), and W by -A W.
    moved = tangents.first - mass[:, None] * step - structure.apply(relative, first)
    moved -= structure.apply_transposed(relative, first)
    d_means = -structure.apply_transposed(inverse, moved)
    scale = parameters.scale.astype(np.float64)
    d_scale = family.gradient_tangent(scale, inverse, relative, step, sums, tangents)
    # The masses' sum, not the weight that it equals, as in the gradient.
    d_logits = mass.sum() * parameters.weights() * tangent.log_pi - tangents.mass
    return Gradients(d_logits, d_means, d_scale if family.learned else None)


def _check_direction(parameters: Parameters, direction: Gradients) -> Gradients:
    """Return a direction in logits, means and scale as float64, zero where it leaves one out."""
    if isinstance(direction, Gradients) and direction.x is not None:
        raise ValueError(
            "direction.x must be None: here the data stay. gmm_np.reference.nll_hvp has x among "
            "what moves."
        )
    if FAMILIES[parameters.family].learned or getattr(direction, "scale", None) is None:
        empty = np.empty((0, parameters.n_features))
        moves = check_direction(
            direction, parameters.means, parameters.scale, empty, parameters.family
        )
        return Gradients(*moves[:3])
    raise ValueError(
        f'direction.scale must be None: family "{parameters.family}" has its factors fixed.'
    )


def _by_reference(
    parameters: Parameters, moves: Gradients, samples: FloatArray, weight: FloatArray | None
) -> Gradients:
    """Return the product of a block's summed loss by the chain rule, with dense factors."""
    from gmm_np import reference  # rarely: a distance left the range of a double

    family, shape = FAMILIES[parameters.family], parameters.means.shape
    logits, means = (a.astype(np.float64) for a in (parameters.pi_logits, parameters.means))
    factors = family.expand(parameters.scale.astype(np.float64), *shape)
    assert moves.scale is not None
    direction = moves._replace(scale=family.expand(np.asarray(moves.scale), *shape))
    if weight is not None and not weight.any():
        return _zeros(parameters)
    found = reference.nll_hvp(
        samples.T, logits, means, factors, direction, sample_weight=weight, reduction="sum"
    )
    d_scale = family.reduce(np.asarray(found.scale)) if family.learned else None
    return Gradients(found.pi_logits, found.means, d_scale)


def _zeros(parameters: Parameters) -> Gradients:
    learned = FAMILIES[parameters.family].learned
    return Gradients(
        np.zeros(parameters.pi_logits.shape),
        np.zeros(parameters.means.shape),
        np.zeros(parameters.scale.shape) if learned else None,
    )


def _equal(left: Gradients, right: Gradients) -> bool:
    return all(
        a is b or (a is not None and b is not None and np.array_equal(a, b))
        for a, b in zip(left, right, strict=True)
    )


def _check_range(products: Gradients, places: tuple[str, ...]) -> None:
    """Raise OverflowError unless all products are finite."""
    axes = (("component",), ("component", "column"), places)
    for name, array, own in zip(("pi_logits", "means", "scale"), products, axes, strict=False):
        if array is not None and not np.isfinite(array).all():
            where = first_of(~np.isfinite(array), own) if own else "at its only entry"
            raise OverflowError(
                f"the Hessian-vector product in {name}, or a step to it, is beyond the range of a "
                f"double: {where}. Choose units in which x is of order one, or a shorter "
                "direction: the product is linear in it."
            )
