"""Parameters and gradients of a mixture, and every check of what its arguments are to each other.

Letters in shapes: K components, D dimensions, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gmm_np.checks import (
    FloatArray,
    as_float64,
    check_axes,
    check_choice,
    check_finite,
    first_of,
    is_finite,
)
from gmm_np.covariance import FAMILIES, Family
from gmm_np.covariance.structure import Split

Floats: TypeAlias = NDArray[np.floating[Any]]

_AXES_OF_MEANS: Final = ("component", "column")
# What rounding may leave of symmetry, relative to the standard deviations of row and column: that
# of covariances computed in single precision.
ASYMMETRY: Final = 1e-5
# What weights may miss 1 by, for each: what people write, and programs print, has four decimals.
WEIGHT_ROUNDING: Final = 0.5e-4


class Gradients(NamedTuple):
    """Gradient of a loss with respect to each argument, each in the shape of that argument.

    Attributes
    ----------
    pi_logits : ndarray, shape [K]
    means : ndarray, shape [K, D]
    scale : ndarray, or None
        In the shape of the family's scale; for Cholesky factors exactly lower triangular. None
        for family "constant", whose factors are not learned.
    x : ndarray, shape [N, D], or None
        None where it is not computed.
    """

    pi_logits: NDArray[np.floating[Any]]
    means: NDArray[np.floating[Any]]
    scale: NDArray[np.floating[Any]] | None
    x: NDArray[np.floating[Any]] | None = None

    def plus(self, other: Gradients, factor: float = 1.0) -> Gradients:
        """Return this one and `factor` times the other, each block that both have."""
        logits, means = (a + factor * b for a, b in zip(self[:2], other[:2], strict=True))
        scale = None
        if self.scale is not None and other.scale is not None:
            scale = self.scale + factor * other.scale
        x = None if self.x is None or other.x is None else self.x + factor * other.x
        return Gradients(logits, means, scale, x)


class RowParameters(NamedTuple):
    """Arguments of `gmm_np.mdn.nll` after x.

    Attributes
    ----------
    pi_logits : ndarray, shape [N, K]
    means : ndarray, shape [N, K, D]
    scale : ndarray, shape [N, K, D, D], [N, K, D] or [N, K]
    """

    pi_logits: NDArray[np.floating[Any]]
    means: NDArray[np.floating[Any]]
    scale: NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False, init=False)
class Parameters:
    """Parameters of a Gaussian mixture, checked once and read-only from then on.

    Parameters
    ----------
    pi_logits : array_like, shape [K]
        Mixture logits a_k, equation (4); a logit of -inf switches its component off.
    means : array_like, shape [K, D]
    scale : array_like
        Square roots of the covariances; its shape and meaning depend on the family.
    family : {"full", "tied", "diag", "tied_diag", "spherical", "shared_spherical", "constant"}
        Covariance family:

        ==================  ===========  ==================================================
        family              scale        holds
        ==================  ===========  ==================================================
        "full"              [K, D, D]    lower Cholesky factors L_k with a positive
                                         diagonal, equation (5)
        "tied"              [D, D]       one such factor, shared by all components
        "diag"              [K, D]       standard deviations
        "tied_diag"         [D]          standard deviations shared by all components
        "spherical"         [K]          one standard deviation a component
        "shared_spherical"  []           one standard deviation for all
        "constant"          [K, D, D]    Cholesky factors that are not learned
        ==================  ===========  ==================================================

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be what it has to be; the message says where and what helps.
    """

    pi_logits: NDArray[np.floating[Any]]
    means: NDArray[np.floating[Any]]
    scale: NDArray[np.floating[Any]]
    family: str

    def __init__(
        self, pi_logits: ArrayLike, means: ArrayLike, scale: ArrayLike, family: str = "full"
    ) -> None:
        check_choice("family", family, tuple(FAMILIES))
        logits, centres, scales = check_mixture(pi_logits, means, scale, family=family)
        for name, original, array in (
            ("pi_logits", pi_logits, logits),
            ("means", means, centres),
            ("scale", scale, scales),
        ):
            # A copy: the caller may go on writing. Rows one after the other, as BLAS wants them.
            own = np.array(array, dtype=gradient_dtype(original), order="C")
            own.setflags(write=False)
            object.__setattr__(self, name, own)
        object.__setattr__(self, "family", family)

    @classmethod
    def from_covariances(
        cls, weights: ArrayLike, means: ArrayLike, covariances: ArrayLike, family: str = "full"
    ) -> Parameters:
        """Make parameters of a mixture that is known by its weights and covariances.

        Parameters
        ----------
        weights : array_like, shape [K]
            From 0 to 1, with a sum of 1 within the rounding of four decimals each, which is then
            divided out; a weight of 0 switches its component off.
        means : array_like, shape [K, D]
        covariances : array_like
            Symmetric and positive definite [K, D, D] for "full" and "constant", [D, D] for "tied";
            variances [K, D] for "diag", [D] for "tied_diag", [K] for "spherical", [] for
            "shared_spherical".
        family : {"full", "tied", "diag", "tied_diag", "spherical", "shared_spherical", "constant"}

        Returns
        -------
        parameters : Parameters
            Each array in the dtype of what it was made of, if that is a float.

        Raises
        ------
        TypeError
            If an argument is not made of real numbers.
        ValueError
            If shapes disagree, a value is not finite, the weights are negative or add up to
            something else, or a covariance is not symmetric and positive definite.

        Examples
        --------
        >>> import gmm_np
        >>> mixture = gmm_np.Parameters.from_covariances([1.0], [[0.0]], [[[4.0]]])
        >>> mixture.scale.tolist()
        [[[2.0]]]
        """
        check_choice("family", family, tuple(FAMILIES))
        logits, centres, scale = check_covariances(weights, means, covariances, family)
        return cls(
            cast_gradient(logits, gradient_dtype(weights)),
            cast_gradient(centres, gradient_dtype(means)),
            cast_gradient(scale, gradient_dtype(covariances)),
            family,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Parameters, (self.pi_logits, self.means, self.scale, self.family)

    def equals(self, other: Parameters) -> bool:
        """Whether the other has the same family and, number by number, the same values."""
        return self is other or (
            self.family == other.family
            and np.array_equal(self.pi_logits, other.pi_logits)
            and np.array_equal(self.means, other.means)
            and np.array_equal(self.scale, other.scale)
        )

    @property
    def n_components(self) -> int:
        """Number of components, K."""
        return int(self.means.shape[0])

    @property
    def n_features(self) -> int:
        """Number of dimensions, D."""
        return int(self.means.shape[1])

    def weights(self) -> FloatArray:
        """Weights pi = softmax(a) [K] in float64, equation (4)."""
        logits = self.pi_logits.astype(np.float64)
        weights = np.exp(logits - logits.max())
        return np.asarray(weights / weights.sum())

    def as_gradients(self, d_logits: Floats, d_means: Floats, d_scale: Floats) -> Gradients:
        """Return gradients each in the dtype of its parameter; no scale where none is learned."""
        return Gradients(
            cast_gradient(d_logits, self.pi_logits.dtype),
            cast_gradient(d_means, self.means.dtype),
            cast_gradient(d_scale, self.scale.dtype) if FAMILIES[self.family].learned else None,
        )

    def marginal(self, columns: ArrayLike) -> Parameters:
        """Return the mixture of some of the columns alone, equation (68).

        Each component loses rows of its mean and of its factor, which QR makes a factor again.

        Parameters
        ----------
        columns : array_like of int
            Which, from 0, in the order in which they are wanted; none twice.

        Returns
        -------
        marginal : Parameters
            Of the same family.

        Raises
        ------
        TypeError, ValueError
            If `columns` are no such integers.

        Examples
        --------
        >>> import gmm_np
        >>> mixture = gmm_np.Parameters([0.0], [[1.0, 2.0]], [[3.0, 4.0]], "diag")
        >>> mixture.marginal([1]).scale.tolist()
        [[4.0]]
        """
        chosen = check_columns(columns, self.n_features, least=1)
        split = self._split(chosen)
        return Parameters(
            self.pi_logits,
            self.means[:, chosen],
            cast_gradient(split.known, self.scale.dtype),
            self.family,
        )

    def conditional(self, columns: ArrayLike, values: ArrayLike) -> Parameters | RowParameters:
        """Return the mixture of the other columns where some have these values, equation (74).

        With a factor in blocks, A of the known columns, B below it and C of the others, and
        z = A^-1 (values - mean of the known), component k has the log weight log pi_k +
        log N(values), the mean of the others plus B z, and the factor C.

        Parameters
        ----------
        columns : array_like of int, shape [Q]
            Those that are known, from 0; none twice, and not all.
        values : array_like, shape [Q], or [N, Q]
            In the order of `columns`; of one row, or of each of N rows.

        Returns
        -------
        conditional : Parameters, or RowParameters
            Of the same family, with the other columns in their own order. For N rows a mixture
            for each, in float64: arguments of `gmm_np.mdn.nll` after x.

        Raises
        ------
        TypeError, ValueError
            If `columns` are no such integers, or `values` not as many finite numbers.

        Examples
        --------
        >>> import gmm_np
        >>> mixture = gmm_np.Parameters([0.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.5, 1.0]]])
        >>> given = mixture.conditional([0], [2.0])
        >>> given.means.tolist(), given.scale.tolist()
        ([[1.0]], [[[1.0]]])
        """
        known = check_columns(columns, self.n_features, least=1, most=self.n_features - 1)
        places = ("row", "place")
        points = as_float64("values", values, places[-np.ndim(values) :])
        if points.ndim not in (1, 2) or points.shape[-1] != len(known):
            raise ValueError(
                f"values must have shape {known.shape}, or [N, {len(known)}] for N rows: one value "
                f"for each of columns; got {points.shape}."
            )
        remedy = "Leave the column out where it is not known."
        check_finite("values", points, remedy, places[-points.ndim :])
        found = self._conditional(known, np.atleast_2d(points))
        if points.ndim == 2:
            return found
        scale = found.scale[0, 0] if FAMILIES[self.family].shared else found.scale[0]
        return Parameters(
            cast_gradient(found.pi_logits[0], self.pi_logits.dtype),
            cast_gradient(found.means[0], self.means.dtype),
            cast_gradient(scale, self.scale.dtype),
            self.family,
        )

    def _conditional(self, known: NDArray[np.intp], points: FloatArray) -> RowParameters:
        """Return the mixtures of the other columns at points [N, Q] of the known ones."""
        structure = FAMILIES[self.family].structure
        rest = np.setdiff1d(np.arange(self.n_features), known)
        split, means = self._split(known), self.means.astype(np.float64)
        inverse = structure.inverse(split.known)
        z = np.empty((*self.means.shape[:1], len(known), len(points)))  # [K, Q, N]
        with np.errstate(over="ignore"):
            structure.whiten(inverse, points.T, means[:, known], z, np.empty_like(z))
            quadratic = np.einsum("kqn,kqn->nk", z, z)
        half_log_det = structure.half_log_det(split.known, len(known))
        logits = self.pi_logits - half_log_det - 0.5 * quadratic  # [N, K]
        lost = ~np.isfinite(logits).any(axis=1)
        if lost.any():
            raise ValueError(
                "values are so far from every component that the square of the distance is beyond "
                f"the range of a double, the first in row {int(np.argmax(lost))}. Look at them, "
                "and at the order of columns."
            )
        moved = np.repeat(means[None, :, rest], len(points), axis=0)  # [N, K, R]
        if split.slope is not None:
            moved += np.matmul(split.slope, z).transpose(2, 0, 1)
        form = FAMILIES[self.family]
        own = split.rest[None] if form.shared else split.rest
        shape = (len(points), self.n_components, *own.shape[1:])
        return RowParameters(
            logits - logits.max(axis=1, keepdims=True), moved, np.broadcast_to(own, shape)
        )

    def _split(self, first: NDArray[np.intp]) -> Split:
        """Split the scale into these columns, and the others in their own order."""
        rest = np.setdiff1d(np.arange(self.n_features), first)
        columns = np.concatenate([first, rest])
        structure = FAMILIES[self.family].structure
        return structure.split(self.scale.astype(np.float64), columns, len(first))

    def factors(self) -> FloatArray:
        """Lower Cholesky factors L_k [K, D, D] in float64, whatever the family, equation (33).

        Where a model is wanted as one of full covariances: the work of the library is done at the
        family's own cost.
        """
        scale = self.scale.astype(np.float64)
        # Row after row also where all components share one, as whoever inverts them expects.
        return np.array(FAMILIES[self.family].expand(scale, *self.means.shape), order="C")

    def covariances(self) -> FloatArray:
        """Covariances Sigma_k = L_k L_k^T [K, D, D] in float64, equation (5)."""
        factors = self.factors()
        return np.asarray(np.matmul(factors, factors.transpose(0, 2, 1)))


def check_columns(
    columns: ArrayLike,
    n_features: int,
    *,
    least: int = 0,
    most: int | None = None,
    name: str = "columns",
) -> NDArray[np.intp]:
    """Return columns [Q] as indices: integers from 0 to D - 1, none twice.

    `name`: what the argument is called.

    Raises
    ------
    TypeError
        If they are not integers.
    ValueError
        If one is out of range or stands there twice, or they are too few or too many.
    """
    chosen = np.atleast_1d(np.asarray(columns))
    if chosen.size and chosen.dtype.kind not in "iu":
        raise TypeError(
            f"{name} must be integers, counted from 0; got dtype {chosen.dtype}. Use "
            "np.flatnonzero for a mask."
        )
    most = n_features if most is None else most
    if chosen.ndim != 1 or not least <= len(chosen) <= most:
        raise ValueError(
            f"{name} must hold {least} to {most} of the {n_features} columns; got shape "
            f"{chosen.shape}."
        )
    bad = (chosen < 0) | (chosen >= n_features)
    if bad.any():
        raise ValueError(f"{name} must be from 0 to {n_features - 1}; got {int(chosen[bad][0])}.")
    found, count = np.unique(chosen, return_counts=True)
    if (count > 1).any():
        raise ValueError(f"{name} must be distinct; {int(found[count > 1][0])} stands there twice.")
    return chosen.astype(np.intp)


def gradient_dtype(argument: object) -> np.dtype[np.floating[Any]]:
    """Return the dtype in which the gradient of `argument` goes back: its own, if it is a float."""
    dtype = np.asarray(argument).dtype
    return dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype(np.float64)


def cast_gradient(gradient: Floats, dtype: DTypeLike) -> NDArray[np.floating[Any]]:
    """Cast `gradient` to `dtype`; beyond the range of float32 it becomes an infinity, silently."""
    gradient = np.asarray(gradient)
    if gradient.dtype == dtype:
        return gradient
    with np.errstate(over="ignore", under="ignore"):
        return gradient.astype(dtype)


def check_mixture(
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    scale_name: str = "scale",
    family: str = "full",
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return logits [K], means [K, D] and the family's scale as float64.

    Raises
    ------
    TypeError
        If an argument is not made of real numbers.
    ValueError
        If shapes disagree, a value is not finite (a logit of -inf is allowed), no component is
        on, a factor is not lower triangular with a positive diagonal, or a standard deviation is
        not positive.
    """
    form = FAMILIES[family]
    logits = as_float64("pi_logits", pi_logits)
    check_axes("pi_logits", logits, "[K]", "Use np.ravel(pi_logits).")
    centres = check_means(means)
    scales = as_float64(scale_name, scale, form.places)
    if len(logits) != len(centres):
        raise _different_lengths("pi_logits", logits, centres, "one logit")
    if scales.shape != form.shape(*centres.shape):
        raise _wrong_shape(scale_name, scales, centres, family)
    check_values(logits, centres, scales, form, scale_name)
    return logits, centres, scales


def check_values(
    logits: FloatArray,
    means: FloatArray,
    scale: FloatArray,
    form: Family,
    scale_name: str = "scale",
    rows: tuple[str, ...] = (),
) -> None:
    """Raise ValueError unless the values of a mixture, or of one for each row, can be such.

    Their shapes fit already. `rows`: ("row",) where each row has a mixture of its own.
    """
    places = places_of(form, rows)
    if not is_finite(logits):
        _check_logits(logits, (*rows, "component"))
    check_finite("means", means, "Look at the step that computed them.", (*rows, *_AXES_OF_MEANS))
    check_finite(scale_name, scale, "Look at the step that computed them.", places)
    if form.has_factors:
        _check_cholesky_factors(scale_name, scale, places)
    elif not scale.min() > 0:
        raise ValueError(
            f"{scale_name} has standard deviations that are not positive: "
            f"{first_of(scale <= 0, places, scale)}. Take square roots of variances, and "
            "keep them above a floor where data have no spread."
        )


def places_of(form: Family, rows: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the axes of a scale are called in messages; `rows` as for `check_values`."""
    if rows and form.has_factors:  # whose own rows are not those of the data
        return (*rows, *form.places[:-2], "factor row", "factor column")
    return (*rows, *form.places)


def check_direction(
    direction: Gradients,
    means: Floats,
    scale: Floats,
    x: Floats,
    family: str = "full",
    rows: tuple[str, ...] = (),
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return how fast logits [K], means [K, D], the family's scale and x [N, D] move, as float64.

    `means`, `scale` and `x` are checked already; what the direction leaves out is zero. `rows` as
    for `check_values`.

    Raises
    ------
    TypeError
        If it is no `Gradients`, or not made of real numbers.
    ValueError
        If a shape is not that of its argument, a value is not finite, or that of a Cholesky factor
        is not lower triangular.
    """
    if not isinstance(direction, Gradients):
        raise TypeError(
            "direction must be gmm_np.Gradients(pi_logits, means, scale, x), with how fast each "
            f"entry moves; got {type(direction).__name__}. Use gmm_np.Gradients(*direction) for a "
            "tuple of these."
        )
    form = FAMILIES[family]
    expected = {  # shape, and what the axes are called
        "pi_logits": (means.shape[:-1], (*rows, "component")),
        "means": (means.shape, (*rows, *_AXES_OF_MEANS)),
        "scale": (scale.shape, places_of(form, rows)),
        "x": (x.shape, ("row", "column")),
    }
    found = []
    for field, (shape, axes) in expected.items():
        name, value = f"direction.{field}", getattr(direction, field)
        if value is None and field in ("scale", "x"):
            found.append(np.zeros(shape))
            continue
        array = as_float64(name, value, axes)
        if array.shape != shape:
            raise ValueError(
                f"{name} must have the shape of what it moves, {shape}; got {array.shape}. Give a "
                "number for each entry, 0 where one stays."
            )
        check_finite(name, array, "Use 0 for an entry that stays.", axes)
        if field == "scale" and form.has_factors:
            remedy = f"Pass np.tril({name}): what is above the diagonal is no parameter."
            _check_lower(name, array, axes, remedy)
        found.append(array)
    return found[0], found[1], found[2], found[3]


def check_covariances(
    weights: ArrayLike,
    means: ArrayLike,
    covariances: ArrayLike,
    family: str,
    family_name: str = "family",
    families: tuple[str, ...] = tuple(FAMILIES),
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return logits [K], means [K, D] and the family's scale as float64.

    `family_name`, `families`: what the argument with the family is called, and may be.

    Raises
    ------
    TypeError, ValueError
        As `Parameters.from_covariances`.
    """
    form = FAMILIES[family]
    shares = check_weights("weights", weights)
    centres = check_means(means)
    matrices = as_float64("covariances", covariances, form.places)
    if len(shares) != len(centres):
        raise _different_lengths("weights", shares, centres, "one weight")
    if matrices.shape != form.shape(*centres.shape):
        raise _wrong_shape("covariances", matrices, centres, family, family_name, families)
    check_finite("means", centres, "Look at the step that computed them.")
    check_finite("covariances", matrices, "Look at the step that computed them.", form.places)
    total = shares.sum()
    if not sum_to_one(shares):
        raise ValueError(
            f"weights must add up to 1; got a sum of {total:.8g}. Divide them by it if all "
            "components are there: weights / np.sum(weights)."
        )
    scale = _factor(matrices, form)
    with np.errstate(divide="ignore"):  # a component of weight zero is off
        return np.log(shares / total), centres, scale


def check_weights(name: str, weights: ArrayLike) -> FloatArray:
    """Return weights [K] as float64: none negative and one positive, of whatever sum."""
    shares = as_float64(name, weights, ("component",))
    check_axes(name, shares, "[K]", f"Use np.ravel({name}).")
    check_finite(name, shares, "Give each component its share.", ("component",))
    if (shares < 0).any():
        raise ValueError(
            f"{name} has negative values: {first_of(shares < 0, ('component',), shares)}. Use a "
            "weight of 0 to switch a component off."
        )
    if not shares.any():
        raise ValueError(
            f"{name} is zero for every component, so that none is on. Give at least one component "
            "a positive weight."
        )
    return shares


def sum_to_one(weights: FloatArray) -> bool:
    """Whether the sum of weights is 1 but for the rounding of written numbers."""
    return bool(abs(weights.sum() - 1) <= WEIGHT_ROUNDING * len(weights))


def check_means(means: ArrayLike, name: str = "means") -> FloatArray:
    """Return means as float64 [K, D]; whether they are finite is not looked at."""
    centres = as_float64(name, means, _AXES_OF_MEANS)
    remedy = f"Use {name}.reshape(-1, 1) if D = 1, {name}.reshape(1, -1) if K = 1."
    check_axes(name, centres, "[K, D]", remedy)
    return centres


def _different_lengths(name: str, array: FloatArray, means: FloatArray, one: str) -> ValueError:
    return ValueError(
        f"{name} and means disagree: {name} has shape {array.shape}, so K = {len(array)}, but "
        f"means has shape {means.shape}, so K = {len(means)}. Give {one} and one row of means "
        "for each component."
    )


def _symmetric(covariances: FloatArray, form: Family) -> FloatArray:
    """Return finite covariances [..., D, D] without the asymmetry that rounding leaves.

    Raises
    ------
    ValueError
        If there is more of it, or a variance is not positive.
    """
    variances = np.diagonal(covariances, axis1=-2, axis2=-1)  # [..., D]
    _check_variances(variances, form)
    mirrored = covariances.swapaxes(-1, -2)
    sizes = np.sqrt(variances)
    # Halves first, for what is near the end of the range.
    apart = np.abs(0.5 * covariances - 0.5 * mirrored)
    bad = apart / sizes[..., :, None] > 0.5 * ASYMMETRY * sizes[..., None, :]
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"covariances are not symmetric: {first_of(bad, form.places, covariances)}, where its "
            f"mirror image is {mirrored[index].item()!r}. Give L @ L.T for a Cholesky factor L, "
            "and the mean of both triangles if only rounding parts them."
        )
    return np.asarray(0.5 * covariances + 0.5 * mirrored)


def _check_variances(variances: FloatArray, form: Family) -> None:
    if not variances.min() > 0:
        raise ValueError(
            "covariances has variances that are not positive: "
            f"{first_of(variances <= 0, form.places, variances)}. Leave out columns without "
            "spread, or give their variances a floor."
        )


def _factor(covariances: FloatArray, form: Family) -> FloatArray:
    """Return the scale of the family from finite covariances.

    Cholesky's factorisation errs by rounding of each entry, whatever the units of the columns and
    the condition, so that a factor is as good as the covariance it is of.

    Raises
    ------
    ValueError
        If a covariance is not symmetric and positive definite.
    """
    if not form.has_factors:
        _check_variances(covariances, form)
        return np.sqrt(covariances)
    covariances = _symmetric(covariances, form)
    n_dims = covariances.shape[-1]
    factors = np.empty_like(covariances)
    for index in np.ndindex(covariances.shape[:-2]):
        try:
            factors[index] = np.linalg.cholesky(covariances[index])
        except np.linalg.LinAlgError:
            factors[index] = 0.0
    # Rounding may leave something of a singular matrix: squares of less than its own size.
    variances = np.diagonal(covariances, axis1=-2, axis2=-1)
    left = np.square(np.diagonal(factors, axis1=-2, axis2=-1)) / variances  # [..., D]
    bad = (left <= n_dims * np.finfo(np.float64).eps).any(axis=-1)
    if bad.any():
        where = f": {first_of(bad, form.places[:-2])}" if bad.ndim > 0 else ""
        raise ValueError(
            f"covariances are not positive definite{where}. Leave out columns that depend on "
            "others, or raise the diagonal: covariances + 1e-6 * np.eye(D)."
        )
    return factors


def _wrong_shape(
    name: str,
    scale: FloatArray,
    means: FloatArray,
    family: str,
    family_name: str = "family",
    families: tuple[str, ...] = tuple(FAMILIES),
) -> ValueError:
    """Return the error for a scale, or covariances, whose shape is not that of its family."""
    form = FAMILIES[family]
    wanted = form.describe(covariances=name == "covariances")
    k, d = means.shape
    fitting = [f'"{other}"' for other in families if FAMILIES[other].shape(k, d) == scale.shape]
    fits = f" This shape would fit {family_name}={' or '.join(fitting)}." if fitting else ""
    if not form.places:
        return ValueError(
            f'{name} must be a single number, shape (), for {family_name}="{family}"; got shape '
            f"{scale.shape}. Give {wanted}.{fits}"
        )
    remedy = f"Give {wanted}."
    if form.per_component and form.has_factors:
        remedy = f"Use np.stack for a list of matrices, {name}[None] if K = 1."
    try:
        check_axes(name, scale, form.axes, remedy + fits)
    except ValueError as error:
        return error
    return ValueError(
        f"means and {name} disagree: means has shape {means.shape}, so {name} must have shape "
        f"{form.axes} = {form.shape(k, d)}; got {scale.shape}. Give {wanted}.{fits}"
    )


def _check_logits(logits: FloatArray, places: tuple[str, ...]) -> None:
    bad = np.isnan(logits) | (logits == np.inf)
    if bad.any():
        raise ValueError(
            "pi_logits has values that are not finite (-inf would switch a component off): "
            f"{first_of(bad, places, logits)}. Look at the step that computed them."
        )
    off = (logits == -np.inf).all(axis=-1)
    if off.any():
        where = f" in rows, {first_of(off, places[:-1])}" if off.ndim > 0 else ""
        raise ValueError(
            f"pi_logits are all -inf{where}, so that every component is off. Give at least one "
            "component a finite logit."
        )


def _check_cholesky_factors(name: str, factors: FloatArray, places: tuple[str, ...]) -> None:
    """Raise ValueError unless finite factors [..., D, D] are lower, with a positive diagonal."""
    diagonal = np.diagonal(factors, axis1=-2, axis2=-1)  # [..., D]
    if not diagonal.min() > 0:
        raise ValueError(
            f"{name} has diagonal entries that are not positive: "
            f"{first_of(diagonal <= 0, places, diagonal)}. Take factors of positive definite "
            "covariances, as np.linalg.cholesky gives them. A column with a negative diagonal "
            "entry may be negated: that leaves the covariance."
        )
    remedy = (
        f"Pass np.tril({name}) if the upper triangle means nothing, or np.linalg.cholesky({name}) "
        "if these are covariances."
    )
    _check_lower(name, factors, places, remedy)


def _check_lower(name: str, factors: FloatArray, places: tuple[str, ...], remedy: str) -> None:
    """Raise ValueError unless matrices [..., D, D] are lower triangular."""
    if np.logical_and(factors, _above_diagonal(factors.shape[-1])).any():
        above = np.triu(factors, 1) != 0  # [..., D, D]
        raise ValueError(
            f"{name} is not lower triangular, it has non-zero values above the diagonal: "
            f"{first_of(above, places, factors)}. {remedy}"
        )


@lru_cache(maxsize=16)
def _above_diagonal(n_dims: int) -> NDArray[np.bool_]:
    """Return what is above the diagonal of [D, D]; shared, so read-only."""
    above = np.triu(np.ones((n_dims, n_dims), dtype=bool), 1)
    above.setflags(write=False)
    return above
