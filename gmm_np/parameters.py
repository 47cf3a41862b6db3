"""Parameters, gradients, and every check at the boundary.

First stage of the flow of data: public functions turn what users pass into float64 arrays here,
or refuse it with a message that names the argument, the place and the remedy. Functions further
down trust what they get and check nothing.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Reduction: TypeAlias = Literal["mean", "sum", "none"]

FAMILIES: Final = ("full",)
REDUCTIONS: Final = ("mean", "sum", "none")

# What the axes of each argument are called in messages.
_AXES: Final[dict[str, tuple[str, ...]]] = {
    "x": ("row", "column"),
    "pi_logits": ("component",),
    "means": ("component", "column"),
    "scale": ("component", "row", "column"),
    "scale_tril": ("component", "row", "column"),
    "sample_weight": ("row",),
    "d_value": ("row",),
}
_LARGEST_EXACT_INTEGER: Final = 2**53


class Gradients(NamedTuple):
    """Gradient of a loss with respect to each argument, each in the shape of that argument.

    Attributes
    ----------
    pi_logits : ndarray, shape [K]
    means : ndarray, shape [K, D]
    scale : ndarray
        In the shape of the family's scale; for Cholesky factors [K, D, D], exactly lower
        triangular.
    x : ndarray, shape [N, D], or None
        None where it is not computed.
    """

    pi_logits: NDArray[np.floating[Any]]
    means: NDArray[np.floating[Any]]
    scale: NDArray[np.floating[Any]]
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
        For ``family="full"`` the lower Cholesky factors L_k, shape [K, D, D], with a positive
        diagonal, equation (5).
    family : str
        Covariance family; "full".

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
        given = (pi_logits, means, scale)
        names = ("pi_logits", "means", "scale")
        for name, original, array in zip(names, given, check_mixture(*given), strict=True):
            own = array.astype(gradient_dtype(original))  # a copy: the caller may go on writing
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


def gradient_dtype(argument: object) -> np.dtype[np.floating[Any]]:
    """Return the dtype in which the gradient of `argument` goes back: its own, if it is a float."""
    dtype = np.asarray(argument).dtype
    return dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype(np.float64)


def cast_gradient(gradient: FloatArray, dtype: DTypeLike) -> NDArray[np.floating[Any]]:
    """Cast `gradient` to `dtype`; beyond the range of float32 it becomes an infinity, silently."""
    with np.errstate(over="ignore", under="ignore"):
        return gradient.astype(dtype, copy=False)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        allowed = ", ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be one of {allowed}; got {value!r}.")


def check_x(x: ArrayLike, n_features: int | None = None) -> FloatArray:
    """Return data as float64 [N, D].

    Parameters
    ----------
    x : array_like, shape [N, D]
    n_features : int, optional
        The D that the parameters have.

    Raises
    ------
    TypeError
        If `x` is not made of real numbers.
    ValueError
        If its rank or shape is wrong, or a value is NaN or infinite.
    """
    array = as_float64("x", check_rows(x, n_features))
    if not np.isfinite(array).all():
        raise not_finite(array)
    return array


def check_rows(x: ArrayLike, n_features: int | None = None) -> NDArray[Any]:
    """Return data [N, D] as they are, with all checks but those that read every value.

    Raises
    ------
    TypeError
        If `x` is not made of real numbers.
    ValueError
        If its rank or shape is wrong.
    """
    array = _as_real("x", x)
    if array.ndim == 1:
        raise ValueError(
            f"x must have two axes [N, D]; got shape {array.shape}. Use x.reshape(-1, 1) if it "
            "holds one-dimensional samples, x.reshape(1, -1) if it is a single sample."
        )
    _check_axes("x", array, "[N, D]", 2)
    if n_features is not None and array.shape[1] != n_features:
        raise ValueError(
            f"x and means disagree: x has shape {array.shape}, so D = {array.shape[1]}, but means "
            f"has shape [K, {n_features}], so D = {n_features}. Each row of x must have one value "
            "for each column of means."
        )
    _check_integers("x", array)
    return array


def not_finite(x: NDArray[Any], rows: int = 2**16) -> ValueError:
    """Return the error for data that are known to hold a value that is not finite.

    Reads `rows` rows at a time, so that it needs no memory of the size of the data.
    """
    count, first = 0, ""
    for start in range(0, len(x), rows):
        bad = ~np.isfinite(x[start : start + rows])
        if not first and bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            value = float(x[start + row, column])
            first = f"the first {value!r} at row {start + row}, column {column}"
        count += int(bad.sum())
    return ValueError(
        f"x has values that are not finite: {count} of {x.size}, {first}. Drop or impute these "
        "rows."
    )


def check_mixture(
    pi_logits: ArrayLike, means: ArrayLike, scale: ArrayLike, scale_name: str = "scale"
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return logits [K], means [K, D] and Cholesky factors [K, D, D] as float64.

    Raises
    ------
    TypeError
        If an argument is not made of real numbers.
    ValueError
        If shapes disagree, a value is not finite (a logit of -inf is allowed), no component is
        on, or a factor is not lower triangular with a positive diagonal.
    """
    logits = as_float64("pi_logits", pi_logits)
    _check_axes("pi_logits", logits, "[K]", 1)
    centres = as_float64("means", means)
    _check_axes("means", centres, "[K, D]", 2)
    factors = as_float64(scale_name, scale)
    _check_axes(scale_name, factors, "[K, D, D]", 3)

    if centres.shape[0] != logits.shape[0]:
        raise ValueError(
            f"pi_logits and means disagree: pi_logits has shape {logits.shape}, so "
            f"K = {logits.shape[0]}, but means has shape {centres.shape}, so K = "
            f"{centres.shape[0]}. Give one logit and one row of means for each component."
        )
    n_components, n_features = centres.shape
    if factors.shape != (n_components, n_features, n_features):
        raise ValueError(
            f"means and {scale_name} disagree: means has shape {centres.shape}, so {scale_name} "
            f"must have shape [K, D, D] = {(n_components, n_features, n_features)}; got "
            f"{factors.shape}. Give one D x D Cholesky factor for each component."
        )
    _check_logits(logits)
    _check_finite("means", centres, "Look at the step that computed them.")
    _check_finite(scale_name, factors, "Look at the step that computed them.")
    _check_cholesky_factors(scale_name, factors)
    return logits, centres, factors


def check_sample_weight(
    sample_weight: ArrayLike | None, n_samples: int, *, some: bool = True
) -> FloatArray | None:
    """Return weights as float64 [N], or None where there are none.

    `some`: whether at least one has to be positive.

    Raises
    ------
    TypeError
        If the weights are not real numbers.
    ValueError
        If their shape is not [N], a weight is negative or not finite, or all are zero.
    """
    if sample_weight is None:
        return None
    weight = as_float64("sample_weight", sample_weight)
    if weight.shape != (n_samples,):
        raise ValueError(
            f"sample_weight must have shape [N] = {(n_samples,)}, one weight for each row of x; "
            f"got {weight.shape}. Use np.ravel(sample_weight) for a column or a row."
        )
    _check_finite("sample_weight", weight, "Use a weight of 0 to leave a row out.")
    if (weight < 0).any():
        raise ValueError(
            f"sample_weight has negative values: {_first(weight < 0, 'sample_weight', weight)}. "
            "Use a weight of 0 to leave a row out."
        )
    with np.errstate(over="ignore"):
        total = weight.sum()
    if some and total == 0:
        raise ValueError(
            "sample_weight is zero for every row, so that no sample is left. Give at least one "
            "row a positive weight."
        )
    if np.isinf(total):
        raise ValueError(
            "sample_weight adds up to more than a double can hold. Divide the weights by their "
            "maximum."
        )
    return weight


def unit_weights(weight: FloatArray) -> FloatArray:
    """Return the weights over a power of two, so that their sum is at most 1 and not tiny.

    Only for a mean, which is the same; what underflows beside the largest weight has no share.
    """
    with np.errstate(under="ignore"):
        return np.asarray(np.ldexp(weight, -unit_exponent(weight)))


def unit_exponent(weight: FloatArray) -> int:
    """Return the power of two of `unit_weights`."""
    return int(np.frexp(weight.max())[1]) + len(weight).bit_length()


def check_d_value(d_value: ArrayLike, reduction: Reduction, n_samples: int) -> FloatArray:
    """Return the incoming gradient of the value as float64: scalar, or [N] for "none".

    Raises
    ------
    TypeError
        If it is not a real number.
    ValueError
        If its shape is not that of the value, or it is not finite.
    """
    array = as_float64("d_value", d_value)
    expected = (n_samples,) if reduction == "none" else ()
    if array.shape != expected:
        remedy = (
            "np.ones(N) gives the gradient of the sum over samples."
            if reduction == "none"
            else "A single number is the gradient of what follows with respect to the value."
        )
        raise ValueError(
            f"d_value must have the shape of the value, {expected} for reduction={reduction!r}; "
            f"got {array.shape}. {remedy}"
        )
    _check_finite("d_value", array, "Look at the step that computed it.")
    return array


def _as_real(name: str, value: ArrayLike) -> NDArray[Any]:
    """Return `value` as an array of real numbers that are no wider than float64."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        masked = np.ma.getmaskarray(value)
        raise TypeError(
            f"{name} has masked values: {_first(masked, name)}. Drop these rows, or fill them with "
            f"{name}.filled(value)."
        )
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged nested lists
        raise ValueError(
            f"{name} must be a rectangular array; NumPy says: {str(error).rstrip('.')}. Give "
            "every row the same length."
        ) from None
    if array.dtype.kind == "c":
        raise TypeError(
            f"{name} must hold real numbers; got complex values of dtype {array.dtype}. Take "
            f"{name}.real, or make the real and the imaginary part two columns."
        )
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must hold real numbers; got {type(value).__name__} of dtype {array.dtype}. "
            f"Convert it with np.asarray({name}, dtype=np.float64) once every entry is a number."
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        raise TypeError(
            f"{name} must be float64 or narrower; got dtype {array.dtype}, which float64 cannot "
            f"hold without loss. Round it yourself: {name}.astype(np.float64)."
        )
    return array


def as_float64(name: str, value: ArrayLike) -> FloatArray:
    """Return `value` as a float64 array, without loss; a float64 array is not copied."""
    array = _as_real(name, value)
    _check_integers(name, array)
    return array.astype(np.float64, copy=False)


def _check_integers(name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind not in "iu" or array.dtype.itemsize < 8 or array.size == 0:
        return
    if array.max() > _LARGEST_EXACT_INTEGER or array.min() < -_LARGEST_EXACT_INTEGER:
        large = (array > _LARGEST_EXACT_INTEGER) | (array < -_LARGEST_EXACT_INTEGER)
        raise ValueError(
            f"{name} has integers beyond 2**53, which float64 cannot hold without loss: "
            f"{_first(large, name, array)}. Subtract an offset first, or round them yourself: "
            f"{name}.astype(np.float64)."
        )


def _check_axes(name: str, array: NDArray[Any], axes: str, ndim: int) -> None:
    if array.ndim != ndim:
        count = {1: "one axis", 2: "two axes", 3: "three axes"}[ndim]
        remedy = {
            "pi_logits": "Use np.ravel(pi_logits).",
            "means": "Use means.reshape(-1, 1) if D = 1, means.reshape(1, -1) if K = 1.",
            "x": "Give one row for each sample.",
        }.get(name, f"Use np.stack for a list of factors, {name}[None] if K = 1.")
        raise ValueError(f"{name} must have {count} {axes}; got shape {array.shape}. {remedy}")
    if 0 in array.shape:
        raise ValueError(
            f"{name} is empty: it must have shape {axes} with every length at least 1; got "
            f"{array.shape}. Look at what selected or read it."
        )


def _check_finite(name: str, array: FloatArray, remedy: str) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        raise ValueError(
            f"{name} has values that are not finite: {_first(~finite, name, array)}. {remedy}"
        )


def _check_logits(logits: FloatArray) -> None:
    bad = np.isnan(logits) | (logits == np.inf)
    if bad.any():
        raise ValueError(
            "pi_logits has values that are not finite (-inf would switch a component off): "
            f"{_first(bad, 'pi_logits', logits)}. Look at the step that computed them."
        )
    if (logits == -np.inf).all():
        raise ValueError(
            "pi_logits are all -inf, so that every component is off. Give at least one component "
            "a finite logit."
        )


def _check_cholesky_factors(name: str, factors: FloatArray) -> None:
    diagonal = np.diagonal(factors, axis1=-2, axis2=-1)  # [K, D]
    bad = ~(diagonal > 0)
    if bad.any():
        raise ValueError(
            f"{name} has diagonal entries that are not positive: {_first(bad, name, diagonal)}. "
            "Take factors of positive definite covariances, as np.linalg.cholesky gives them. A "
            "column with a negative diagonal entry may be negated: that leaves the covariance."
        )
    if any(factors[:, i, i + 1 :].any() for i in range(factors.shape[1] - 1)):
        above = np.triu(factors, 1) != 0  # [K, D, D]
        raise ValueError(
            f"{name} is not lower triangular, it has non-zero values above the diagonal: "
            f"{_first(above, name, factors)}. Pass np.tril({name}) if the upper triangle means "
            f"nothing, or np.linalg.cholesky({name}) if these are covariances."
        )


def _first(bad: NDArray[np.bool_], name: str, array: NDArray[Any] | None = None) -> str:
    """Say how many values are bad, and where the first one is."""
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    what = "" if array is None else f" {array[index].item()!r}"
    place = ", ".join(f"{axis} {i}" for axis, i in zip(_AXES[name], index))  # noqa: B905
    return f"{int(bad.sum())} of {bad.size}, the first{what}" + (f" at {place}" if place else "")


def as_reduction(reduction: str) -> Reduction:
    """Return `reduction` if it is "mean", "sum" or "none"; raise ValueError otherwise."""
    check_choice("reduction", reduction, REDUCTIONS)
    return cast(Reduction, reduction)
