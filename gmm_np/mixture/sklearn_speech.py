"""What scikit-learn expects of an estimator's data and errors, without scikit-learn.

Messages begin with scikit-learn's sentence where it has one. Its classes of errors and warnings
are used where it is loaded: who catches them has loaded them.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray, find_non_number

NAME = "GaussianMixture"


class NotFittedError(ValueError, AttributeError):
    """A method was called that needs a fit."""


class ConvergenceWarning(UserWarning):
    """A fit came to an end that needs a look."""


class RegCovarWarning(UserWarning):
    """`reg_covar` is a large share of a column's variance."""


def not_fitted_error() -> type[Exception]:
    """Return scikit-learn's NotFittedError if it is loaded, and ours otherwise."""
    found: type[Exception] = _class("NotFittedError", NotFittedError)
    return found


def convergence_warning() -> type[Warning]:
    """Return scikit-learn's ConvergenceWarning if it is loaded, and ours otherwise."""
    found: type[Warning] = _class("ConvergenceWarning", ConvergenceWarning)
    return found


def _class(name: str, own: Any) -> Any:
    if "sklearn" not in sys.modules:
        return own
    try:
        return getattr(import_module("sklearn.exceptions"), name)
    except ImportError:
        return own


def feature_names(x: object) -> NDArray[Any] | None:
    """Return the column names of a data frame if all are strings, None if there are none.

    Raises
    ------
    TypeError
        If only some are strings.
    """
    columns = getattr(x, "columns", None)
    if columns is None or not hasattr(x, "__array__"):
        return None
    names = np.asarray(columns, dtype=object)
    kinds = sorted({type(name).__name__ for name in names})
    if kinds == ["str"]:
        return names
    if "str" in kinds:
        raise TypeError(
            "Feature names are only supported if all input features have string names, but your "
            f"input has {kinds} as feature name / column name types. If you want feature names to "
            "be stored and validated, you must convert them all to strings, by using "
            "X.columns = X.columns.astype(str) for example."
        )
    return None


def check_feature_names(seen: NDArray[Any] | None, x: object) -> None:
    """Warn, or raise ValueError, where column names differ from those of the fit."""
    names = feature_names(x)
    if names is None and seen is None:
        return
    if names is None or seen is None:
        which = (
            f"X does not have valid feature names, but {NAME} was fitted with feature names"
            if names is None
            else f"X has feature names, but {NAME} was fitted without feature names"
        )
        warnings.warn(which, UserWarning, stacklevel=4)
        return
    if len(names) == len(seen) and (names == seen).all():
        return
    message = "The feature names should match those that were passed during fit.\n"
    unexpected, missing = sorted(set(names) - set(seen)), sorted(set(seen) - set(names))
    for heading, found in (
        ("Feature names unseen at fit time:\n", unexpected),
        ("Feature names seen at fit time, yet now missing:\n", missing),
    ):
        if found:
            message += heading + "".join(f"- {name}\n" for name in found[:5])
            message += "- ...\n" if len(found) > 5 else ""
    if not unexpected and not missing:
        message += "Feature names must be in the same order as they were in fit.\n"
    raise ValueError(message)


def check_array(x: Any, n_features: int | None = None, *, least: int = 1) -> NDArray[Any]:
    """Return data [N, D] as an array of floats, or refuse them in scikit-learn's words.

    Float arrays are returned as they are, others as float64.

    Raises
    ------
    TypeError
        If the data are sparse, or an entry is neither a number nor text.
    ValueError
        If they are complex, text, of another rank or width, too few, or not finite.
    """
    if hasattr(x, "tocsr"):
        raise TypeError(
            "Sparse data was passed for X, but dense data is required. Use '.toarray()' to "
            "convert to a dense numpy array."
        )
    if isinstance(x, np.ma.MaskedArray) and np.ma.getmaskarray(x).any():
        raise ValueError(
            "Input X contains NaN, or masked values. Drop these rows, or fill them with "
            "X.filled(value)."
        )
    array = as_floats("X", x)
    if array.ndim < 2:
        given = "scalar" if array.ndim == 0 else "1D"
        raise ValueError(
            f"Expected 2D array, got {given} array instead:\narray={array}.\nReshape your data "
            "either using array.reshape(-1, 1) if your data has a single feature or "
            "array.reshape(1, -1) if it contains a single sample."
        )
    if array.ndim > 2:
        raise ValueError(
            f"Found array with dim {array.ndim}, while dim <= 2 is required by {NAME}."
        )
    for axis, what, minimum in ((0, "sample", least), (1, "feature", 1)):
        if array.shape[axis] < minimum:
            raise ValueError(
                f"Found array with {array.shape[axis]} {what}(s) (shape={array.shape}) while a "
                f"minimum of {minimum} is required by {NAME}."
            )
    if n_features is not None and array.shape[1] != n_features:
        raise ValueError(
            f"X has {array.shape[1]} features, but {NAME} is expecting {n_features} features as "
            "input."
        )
    check_finite("X", array)
    return array


def as_floats(name: str, value: Any) -> NDArray[Any]:
    """Return numbers as an array of floats, or refuse them in scikit-learn's words.

    Float arrays are returned as they are, others, objects that are numbers too, as float64.

    Raises
    ------
    TypeError
        If an entry is neither a number nor text.
    ValueError
        If they are complex, or an entry is missing or text.
    """
    array = np.asarray(value)
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} must hold real numbers.")
    if array.dtype.kind == "f" and array.dtype.itemsize <= 8:
        return array
    found = None if array.dtype.kind in "fiub" else find_non_number(value)
    if found is None:
        return array.astype(np.float64)
    entry = f"{found.text} at {list(found.index)}" if found.index else found.text
    if found.missing:
        raise ValueError(
            f"Input {name} contains NaN. The first such value is {entry}. {found.remedy.rstrip()}"
        )
    if isinstance(found.entry, str | bytes):
        raise ValueError(
            f"dtype='numeric' is not compatible with arrays of bytes/strings, and {name} holds "
            f"{entry}. {found.remedy}Convert your data to numeric values explicitly instead."
        )
    raise TypeError(
        "float() argument must be a string or a real number, not "
        f"{type(found.entry).__name__!r}, and {name} holds {entry}. "
        f"{found.remedy.rstrip() or 'Give numbers alone.'}"
    )


def check_finite(name: str, array: NDArray[Any]) -> None:
    """Raise ValueError if a value is NaN or infinite; reads an array in parts."""
    for start in range(0, len(array), 2**16):
        part = array[start : start + 2**16]
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(part.sum(dtype=np.float64)) or np.isfinite(part).all():
                continue
        bad = np.argwhere(~np.isfinite(part))[0]
        value, place = part[tuple(bad)], (start + int(bad[0]), *(int(i) for i in bad[1:]))
        what = (
            "NaN" if np.isnan(part).any() else f"infinity or a value too large for {part.dtype!r}"
        )
        raise ValueError(
            f"Input {name} contains {what}. The first such value is {float(value)!r} at "
            f"{list(place)}: drop or impute these rows."
        )


def check_weight(sample_weight: Any, n_samples: int) -> FloatArray | None:
    """Return weights [N] as float64, or refuse them in scikit-learn's words.

    Raises
    ------
    TypeError, ValueError
        If they are not N finite numbers, none negative and one positive.
    """
    if sample_weight is None:
        return None
    weight: FloatArray = as_floats("sample_weight", sample_weight).astype(np.float64, copy=False)
    if weight.ndim != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got {weight.ndim}D array.")
    if weight.shape != (n_samples,):
        raise ValueError(
            f"sample_weight.shape == {weight.shape}, expected {(n_samples,)}! Give one weight for "
            "each row of X."
        )
    check_finite("sample_weight", weight)
    if (weight < 0).any():
        raise ValueError(
            "Negative values in data passed to `sample_weight`. Use a weight of 0 to leave a row "
            "out."
        )
    if not weight.any():
        raise ValueError(
            "Sample weights must contain at least one non-zero number: with zero weights alone no "
            "sample is left."
        )
    return weight
