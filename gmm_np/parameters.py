"""Parameters and gradients of a mixture, and every check of what its arguments are to each other.

Letters in shapes: K components, D dimensions, N samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

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


class ScaleForm(NamedTuple):
    """What the scale of a family has to be."""

    axes: str
    shape: Callable[[int, int], tuple[int, ...]]  # of K and D
    places: tuple[str, ...]  # what its axes are called in messages
    holds: str
    factors: bool = False  # Cholesky factors, and not standard deviations


_FACTORS: Final = ScaleForm(
    "[K, D, D]",
    lambda k, d: (k, d, d),
    ("component", "row", "column"),
    "one D x D Cholesky factor for each component",
    factors=True,
)
SCALES: Final[dict[str, ScaleForm]] = {
    "full": _FACTORS,
    "tied": ScaleForm(
        "[D, D]", lambda _, d: (d, d), ("row", "column"), "one D x D Cholesky factor", factors=True
    ),
    "diag": ScaleForm(
        "[K, D]",
        lambda k, d: (k, d),
        ("component", "column"),
        "one standard deviation for each component and column",
    ),
    "spherical": ScaleForm(
        "[K]", lambda k, _: (k,), ("component",), "one standard deviation for each component"
    ),
    "shared_spherical": ScaleForm("[]", lambda _k, _d: (), (), "a single standard deviation"),
    "constant": _FACTORS,
}
FAMILIES: Final = tuple(SCALES)


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
    family : {"full", "tied", "diag", "spherical", "shared_spherical", "constant"}
        Covariance family:

        ==================  ===========  ==================================================
        family              scale        holds
        ==================  ===========  ==================================================
        "full"              [K, D, D]    lower Cholesky factors L_k with a positive
                                         diagonal, equation (5)
        "tied"              [D, D]       one such factor, shared by all components
        "diag"              [K, D]       standard deviations
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
        check_choice("family", family, FAMILIES)
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

    def factors(self) -> FloatArray:
        """Lower Cholesky factors L_k [K, D, D] in float64, whatever the family, equation (33).

        Where a model is wanted as one of full covariances: the work of the library is done at the
        family's own cost.
        """
        k, d = self.means.shape
        scale = self.scale.astype(np.float64)
        if not SCALES[self.family].factors:
            # A standard deviation a component is one for all columns, so that axes go last.
            scale = scale.reshape(scale.shape + (1,) * (2 - scale.ndim)) * np.ones((k, d))
            scale = scale[:, :, None] * np.eye(d)
        return np.array(np.broadcast_to(scale, (k, d, d)))

    def covariances(self) -> FloatArray:
        """Covariances Sigma_k = L_k L_k^T [K, D, D] in float64, equation (5)."""
        factors = self.factors()
        return np.asarray(np.matmul(factors, factors.transpose(0, 2, 1)))


def gradient_dtype(argument: object) -> np.dtype[np.floating[Any]]:
    """Return the dtype in which the gradient of `argument` goes back: its own, if it is a float."""
    dtype = np.asarray(argument).dtype
    return dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype(np.float64)


def cast_gradient(gradient: FloatArray, dtype: DTypeLike) -> NDArray[np.floating[Any]]:
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
    form = SCALES[family]
    logits = as_float64("pi_logits", pi_logits)
    check_axes("pi_logits", logits, "[K]", "Use np.ravel(pi_logits).")
    centres = as_float64("means", means)
    check_axes(
        "means",
        centres,
        "[K, D]",
        "Use means.reshape(-1, 1) if D = 1, means.reshape(1, -1) if K = 1.",
    )
    scales = as_float64(scale_name, scale, form.places)
    n_components, n_features = centres.shape
    if len(logits) != n_components:
        raise ValueError(
            f"pi_logits and means disagree: pi_logits has shape {logits.shape}, so "
            f"K = {len(logits)}, but means has shape {centres.shape}, so K = "
            f"{n_components}. Give one logit and one row of means for each component."
        )
    if scales.shape != form.shape(n_components, n_features):
        raise _wrong_shape(scale_name, scales, centres, family)
    _check_logits(logits)
    check_finite("means", centres, "Look at the step that computed them.")
    check_finite(scale_name, scales, "Look at the step that computed them.", form.places)
    if form.factors:
        _check_cholesky_factors(scale_name, scales, form.places)
    elif not scales.min() > 0:
        raise ValueError(
            f"{scale_name} has standard deviations that are not positive: "
            f"{first_of(scales <= 0, form.places, scales)}. Take square roots of variances, and "
            "keep them above a floor where data have no spread."
        )
    return logits, centres, scales


def _wrong_shape(name: str, scale: FloatArray, means: FloatArray, family: str) -> ValueError:
    """Return the error for a scale whose shape is not that of its family."""
    form = SCALES[family]
    k, d = means.shape
    fitting = [f'"{other}"' for other, o in SCALES.items() if o.shape(k, d) == scale.shape]
    fits = f" This shape would fit family={' or '.join(fitting)}." if fitting else ""
    if not form.places:
        return ValueError(
            f'{name} must be a single number, shape (), for family="{family}"; got shape '
            f"{scale.shape}. Give {form.holds}.{fits}"
        )
    remedy = f"Give {form.holds}."
    if form is _FACTORS:
        remedy = f"Use np.stack for a list of factors, {name}[None] if K = 1."
    try:
        check_axes(name, scale, form.axes, remedy + fits)
    except ValueError as error:
        return error
    return ValueError(
        f"means and {name} disagree: means has shape {means.shape}, so {name} must have shape "
        f"{form.axes} = {form.shape(k, d)}; got {scale.shape}. Give {form.holds}.{fits}"
    )


def _check_logits(logits: FloatArray) -> None:
    if is_finite(logits):
        return
    bad = np.isnan(logits) | (logits == np.inf)
    if bad.any():
        raise ValueError(
            "pi_logits has values that are not finite (-inf would switch a component off): "
            f"{first_of(bad, ('component',), logits)}. Look at the step that computed them."
        )
    if (logits == -np.inf).all():
        raise ValueError(
            "pi_logits are all -inf, so that every component is off. Give at least one component "
            "a finite logit."
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
    if np.logical_and(factors, _above_diagonal(factors.shape[-1])).any():
        above = np.triu(factors, 1) != 0  # [..., D, D]
        raise ValueError(
            f"{name} is not lower triangular, it has non-zero values above the diagonal: "
            f"{first_of(above, places, factors)}. Pass np.tril({name}) if the upper triangle "
            f"means nothing, or np.linalg.cholesky({name}) if these are covariances."
        )


@lru_cache(maxsize=16)
def _above_diagonal(n_dims: int) -> NDArray[np.bool_]:
    """Return what is above the diagonal of [D, D]; shared, so read-only."""
    above = np.triu(np.ones((n_dims, n_dims), dtype=bool), 1)
    above.setflags(write=False)
    return above
