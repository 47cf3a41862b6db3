"""Every check at the boundary that concerns one argument: it becomes an array, or is refused.

First stage of the flow of data: public functions turn what users pass into float64 arrays here,
or refuse it with a message that names the argument, the place and the remedy. Functions further
down trust what they get and check nothing. What a mixture's arguments have to be to each other
stands in `gmm_np.parameters`.

Valid input costs one pass over the values; where they are bad, and how many, is looked for only
after something was found.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Reduction: TypeAlias = Literal["mean", "sum", "none"]

REDUCTIONS: Final = ("mean", "sum", "none")

# What the axes of an argument are called in messages; those of a scale depend on its family.
_AXES: Final[dict[str, tuple[str, ...]]] = {
    "x": ("row", "column"),
    "pi_logits": ("component",),
    "means": ("component", "column"),
    "sample_weight": ("row",),
    "d_value": ("row",),
}
_DOUBLE: Final = np.dtype(np.float64)
_LARGEST_EXACT_INTEGER: Final = 2**53
# From this length on NumPy's BLAS may start threads, which then compete with those of SciPy's.
_LONG: Final = 8192


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
    if not is_finite(array):
        raise not_finite(array, may=False)
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
    if type(x) is np.ndarray and x.dtype is _DOUBLE:
        array: NDArray[Any] = x
    else:
        if hasattr(x, "__dask_graph__"):
            raise TypeError(
                "x lies with Dask, and this function does not go there: it takes arrays. Give it "
                "the rows that it is meant for, as x.compute() brings them here."
            )
        array = _as_real("x", x, _AXES["x"])
    if array.ndim == 1:
        raise ValueError(
            f"x must have two axes [N, D]; got shape {array.shape}. Use x.reshape(-1, 1) if it "
            "holds one-dimensional samples, x.reshape(1, -1) if it is a single sample."
        )
    check_axes("x", array, "[N, D]", "Give one row for each sample.")
    if n_features is not None and array.shape[1] != n_features:
        raise ValueError(
            f"x and means disagree: x has shape {array.shape}, so D = {array.shape[1]}, but means "
            f"has shape [K, {n_features}], so D = {n_features}. Each row of x must have one value "
            "for each column of means."
        )
    if array.dtype is not _DOUBLE:
        _check_integers("x", array, _AXES["x"])
    return array


def not_finite(
    x: NDArray[Any], rows: int = 2**16, *, missing: bool = False, may: bool = True
) -> ValueError:
    """Return the error for data that are known to hold a value that is not finite.

    Reads `rows` rows at a time, so that it needs no memory of the size of the data. `missing`:
    whether NaN stands for a missing value, so that infinite ones alone are wrong; `may`: whether it
    might, where the caller says so.
    """
    count, first, any_nan = 0, "", False
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        bad = np.isinf(part) if missing else ~np.isfinite(part)
        any_nan = any_nan or bool(np.isnan(part).any())
        if not first and bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            value = float(x[start + row, column])
            first = f"the first {value!r} at row {start + row}, column {column}"
        count += int(bad.sum())
    what, remedy = "not finite", "Drop or impute these rows."
    if missing:
        what, remedy = "infinite", "Drop these rows, or set NaN where a value is missing."
    elif any_nan and may:
        remedy = 'Drop or impute these rows, or set missing="marginal" if NaN is a missing value.'
    return ValueError(f"x has values that are {what}: {count} of {x.size}, {first}. {remedy}")


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
    check_finite("sample_weight", weight, "Use a weight of 0 to leave a row out.")
    if (weight < 0).any():
        raise ValueError(
            f"sample_weight has negative values: {first_of(weight < 0, ('row',), weight)}. "
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
    check_finite("d_value", array, "Look at the step that computed it.")
    return array


def as_float64(name: str, value: ArrayLike, axes: tuple[str, ...] | None = None) -> FloatArray:
    """Return `value` as a float64 array, without loss; a float64 array is not copied.

    `axes`: what its axes are called in messages, if it is not an argument known by its name.
    """
    if type(value) is np.ndarray and value.dtype is _DOUBLE:
        return value
    axes = _AXES.get(name) if axes is None else axes
    array = _as_real(name, value, axes)
    _check_integers(name, array, axes)
    return array.astype(np.float64, copy=False)


def _as_real(name: str, value: ArrayLike, axes: tuple[str, ...] | None) -> NDArray[Any]:
    """Return `value` as an array of real numbers that are no wider than float64."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        masked = np.ma.getmaskarray(value)
        raise TypeError(
            f"{name} has masked values: {first_of(masked, axes)}. Drop these rows, or fill them "
            f"with {name}.filled(value)."
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
        found = find_non_number(value) if array.ndim > 0 else None
        which = remedy = ""
        if found is not None:
            which = (
                f", with entries that are no numbers: {found.count} of {array.size}, "
                f"{'the first' if found.first else 'among them'} {found.text}"
                f"{_at(found.index, axes)}"
            )
            remedy = found.remedy
        raise TypeError(
            f"{name} must hold real numbers; got {type(value).__name__} of dtype {array.dtype}"
            f"{which}. {remedy}Convert it with np.asarray({name}, dtype=np.float64) once every "
            "entry is a number."
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        raise TypeError(
            f"{name} must be float64 or narrower; got dtype {array.dtype}, which float64 cannot "
            f"hold without loss. Round it yourself: {name}.astype(np.float64)."
        )
    return array


@dataclass(frozen=True)
class NonNumber:
    """An entry that is no real number: the first missing one, or where none is the first.

    Attributes
    ----------
    entry : object
    index : tuple of int
    count : int
        How many such entries there are.
    missing : bool
        Whether it is None, NaT or pandas.NA.
    first : bool
        Whether it is the first of them.
    """

    entry: object
    index: tuple[int, ...]
    count: int
    missing: bool
    first: bool

    @property
    def text(self) -> str:
        """The entry as messages show it."""
        shown = repr(self.entry) if isinstance(self.entry, str | bytes) else str(self.entry)
        return shown if len(shown) <= 60 else f"{shown[:57]}..."

    @property
    def remedy(self) -> str:
        """What helps, with a space at the end; empty where it is not known."""
        drop = "Drop or impute what is missing. " if self.missing else ""
        if isinstance(self.entry, date | timedelta | np.datetime64 | np.timedelta64):
            return (
                f'{drop}Count times from an origin in a unit: (t - t0) / np.timedelta64(1, "D"). '
            )
        if isinstance(self.entry, str | bytes):
            return "Encode words as numbers, and leave out thousands separators and units. "
        return drop


def find_non_number(value: ArrayLike) -> NonNumber | None:
    """Return an entry that is no real number, of anything but numeric arrays; None if all are."""
    array = np.asarray(value)
    if array.dtype.kind in "mM":
        bad, missing = np.ones(array.shape, dtype=bool), np.isnat(array)
    else:
        # Of a list of numbers and texts NumPy makes texts of all, unless they stay objects.
        array = np.asarray(value, dtype=object)
        bad = ~_each(_is_number, array)
        missing = bad & _each(_is_missing, array)
    if not bad.any():
        return None
    any_missing = bool(missing.any())
    chosen = int(np.argmax(missing if any_missing else bad))
    index = tuple(int(i) for i in np.unravel_index(chosen, array.shape))
    first = chosen == int(np.argmax(bad))
    return NonNumber(array[index], index, int(bad.sum()), any_missing, first)


def with_nan(value: Any) -> Any:
    """Return data with NaN where they are masked, None, NaT or pandas.NA; others as they are."""
    if isinstance(value, np.ma.MaskedArray):
        plain = value.dtype.kind in "fiub"
        return np.ma.filled(value.astype(np.float64), np.nan) if plain else value
    array = np.asarray(value)
    if array.dtype.kind != "O":
        return value
    return np.where(_each(_is_missing, array), np.nan, array)


def _each(holds: Callable[[object], bool], array: NDArray[Any]) -> NDArray[np.bool_]:
    return np.array([holds(entry) for entry in array.flat], dtype=bool).reshape(array.shape)


def _is_number(entry: object) -> bool:
    # These have __float__, but are no real numbers.
    others = str | complex | np.complexfloating | np.datetime64 | np.timedelta64 | np.ndarray
    return hasattr(type(entry), "__float__") and not isinstance(entry, others)


def _is_missing(entry: object) -> bool:
    # By name, so as not to import pandas.
    nat = isinstance(entry, np.datetime64 | np.timedelta64) and bool(np.isnat(entry))
    return entry is None or nat or type(entry).__name__ in ("NAType", "NaTType")


def _check_integers(name: str, array: NDArray[Any], axes: tuple[str, ...] | None) -> None:
    if array.dtype.kind not in "iu" or array.dtype.itemsize < 8 or array.size == 0:
        return
    if array.max() > _LARGEST_EXACT_INTEGER or array.min() < -_LARGEST_EXACT_INTEGER:
        large = (array > _LARGEST_EXACT_INTEGER) | (array < -_LARGEST_EXACT_INTEGER)
        raise ValueError(
            f"{name} has integers beyond 2**53, which float64 cannot hold without loss: "
            f"{first_of(large, axes, array)}. Subtract an offset first, or round them yourself: "
            f"{name}.astype(np.float64)."
        )


def check_axes(name: str, array: NDArray[Any], axes: str, remedy: str) -> None:
    """Raise ValueError unless `array` has the axes "[N, D]" or the like, none of length 0."""
    ndim = axes.count(",") + 1
    if array.ndim != ndim:
        count = ("one axis", "two axes", "three axes", "four axes")[ndim - 1]
        raise ValueError(f"{name} must have {count} {axes}; got shape {array.shape}. {remedy}")
    if 0 in array.shape:
        raise ValueError(
            f"{name} is empty: it must have shape {axes} with every length at least 1; got "
            f"{array.shape}. Look at what selected or read it."
        )


def is_finite(array: FloatArray) -> bool:
    """Whether every value is finite, in one pass and without an array of the size of `array`."""
    # A sum, or a sum of squares, is NaN or inf if a value is. The reverse may fail; then look.
    if array.size <= _LONG:
        return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(array.sum()) or bool(np.isfinite(array).all())


def check_finite(
    name: str, array: FloatArray, remedy: str, axes: tuple[str, ...] | None = None
) -> None:
    """Raise ValueError unless every value is finite."""
    if not is_finite(array):
        axes = _AXES.get(name) if axes is None else axes
        raise ValueError(
            f"{name} has values that are not finite: "
            f"{first_of(~np.isfinite(array), axes, array)}. {remedy}"
        )


def first_of(
    bad: NDArray[np.bool_], axes: tuple[str, ...] | None, array: NDArray[Any] | None = None
) -> str:
    """Say how many values are bad, and where the first one is; `axes` are names, if known."""
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    what = "" if array is None else f" {array[index].item()!r}"
    return f"{int(bad.sum())} of {bad.size}, the first{what}{_at(index, axes)}"


def _at(index: tuple[int, ...], axes: tuple[str, ...] | None) -> str:
    """Say where an index is; `axes` are names, if known."""
    if axes is None:
        return f" at index {list(index)}"
    place = ", ".join(f"{axis} {i}" for axis, i in zip(axes, index))  # noqa: B905
    return f" at {place}" if place else ""


def as_reduction(reduction: str) -> Reduction:
    """Return `reduction` if it is "mean", "sum" or "none"; raise ValueError otherwise."""
    check_choice("reduction", reduction, REDUCTIONS)
    return cast(Reduction, reduction)


def as_scalar_reduction(reduction: str) -> Reduction:
    """Return `reduction` if it makes one number of the loss, which alone has a Hessian.

    Raises
    ------
    ValueError
        If it is "none", or unknown.
    """
    found = as_reduction(reduction)
    if found == "none":
        raise ValueError(
            'reduction must be "mean" or "sum": a Hessian is that of one number, and "none" gives '
            "one a sample. Weigh the samples with sample_weight."
        )
    return found


def counted(number: int, what: str) -> str:
    """Return "1 row" or "2 rows", as a message says it."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def name_components(components: Iterable[int]) -> str:
    """Return "component 0" or "components 0, 2", as a message says it; they count from 0."""
    found = [str(k) for k in sorted(set(components))]
    return f"component{'s' if len(found) > 1 else ''} {', '.join(found)}"
