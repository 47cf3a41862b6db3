"""Data, weights, hyperparameters and starts, or an error in scikit-learn's words.

Messages begin with scikit-learn's sentence where it has one.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gmm_np import parameters
from gmm_np.checks import FloatArray, find_non_number, with_nan
from gmm_np.covariance import FAMILIES
from gmm_np.covariance.conversions import factor_of_precisions
from gmm_np.missing import MISSING
from gmm_np.parts import is_stream, parts_of
from gmm_np.priors import Dirichlet, Normal, Wishart
from gmm_np.solvers.em import ON_COLLAPSE
from gmm_np.solvers.initialization import STARTS
from gmm_np.solvers.results import Data

COVARIANCE_TYPES: Final = tuple(name for name, family in FAMILIES.items() if family.learned)
SOLVERS: Final = ("em", "em+newton", "lbfgs", "adam")
NAME: Final = "GaussianMixture"

# Each parameter that is a number, and the least that it may be.
_NUMBERS: Final = {
    "n_components": (Integral, 1),
    "max_iter": (Integral, 0),
    "n_init": (Integral, 1),
    "verbose_interval": (Integral, 1),
    "tol": (Real, 0),
}
_CHOICES: Final = {
    "covariance_type": COVARIANCE_TYPES,
    "init_params": STARTS,
    "solver": SOLVERS,
    "on_collapse": ON_COLLAPSE,
    "missing": MISSING,
}


# --- data ---------------------------------------------------------------------------------------


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


def as_columns(
    columns: Any, names: NDArray[Any] | None, n_features: int, what: str = "columns"
) -> NDArray[np.intp]:
    """Return columns, by name or index, one or several, as indices [Q]; `what` names the argument.

    Raises
    ------
    TypeError, ValueError
        If there is no column of a name, there are no names, or an index is none.
    """
    given = [columns] if isinstance(columns, str) or np.ndim(columns) == 0 else list(columns)
    found = []
    for column in given:
        if not isinstance(column, str):
            found.append(column)
            continue
        if names is None:
            raise ValueError(
                f"{what} has the name {column!r}, but {NAME} was fitted without feature names. Use "
                "indices from 0, or fit to a data frame whose columns have names."
            )
        place = np.flatnonzero(names == column)
        if len(place) == 0:
            raise ValueError(
                f"{what} has the name {column!r}, but there are only {list(map(str, names))}."
            )
        found.append(int(place[0]))
    return parameters.check_columns(np.asarray(found), n_features, least=1, name=what)


def check_array(
    x: Any, n_features: int | None = None, *, least: int = 1, missing: str = "error"
) -> NDArray[Any]:
    """Return data [N, D] as an array of floats, or refuse them in scikit-learn's words.

    Float arrays are returned as they are, others as float64. With missing="marginal" masked
    values, None and pandas.NA are NaN, which is no error.

    Raises
    ------
    TypeError
        If the data are sparse, or an entry is neither a number nor text.
    ValueError
        If they are complex, text, of another rank or width, too few, or not finite.
    """
    if missing == "marginal" and not hasattr(x, "tocsr"):  # that is sparse
        x = with_nan(x)
    if hasattr(x, "tocsr"):
        raise TypeError(
            "Sparse data was passed for X, but dense data is required. Use '.toarray()' to "
            "convert to a dense numpy array."
        )
    if isinstance(x, np.ma.MaskedArray) and np.ma.getmaskarray(x).any():
        raise ValueError(
            "Input X contains NaN, or masked values. Drop these rows, fill them with "
            'X.filled(value), or set missing="marginal".'
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
    check_finite("X", array, missing)
    return array


def as_data(x: Any, sample_weight: Any = None, missing: str = "error") -> Data:
    """Return data to fit to: an array checked in scikit-learn's words, `Data` as they are.

    Raises
    ------
    TypeError, ValueError
        As `check_array`, `check_weight` and `Data` do.
    """
    if isinstance(x, Data):
        return Data.of(x, sample_weight, missing=missing)
    parts = parts_of(x, sample_weight)
    if parts is not None:
        data = Data(parts, missing=missing)
        data.feature_names = feature_names(parts.named)
        return data
    if is_stream(x) and not hasattr(x, "tocsr"):  # that is sparse
        return Data(x, sample_weight, missing=missing)
    rows = check_array(x, least=2, missing=missing)
    weight = check_weight(sample_weight, len(rows))
    data = Data(rows, weight, finite=True, missing=missing)
    data.feature_names = feature_names(x)
    return data


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


def check_finite(name: str, array: NDArray[Any], missing: str = "error") -> None:
    """Raise ValueError if a value is infinite, or NaN and not a missing value, in parts."""
    for start in range(0, len(array), 2**16):
        part = array[start : start + 2**16]
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(part.sum(dtype=np.float64)) or np.isfinite(part).all():
                continue
        wrong = np.isinf(part) if missing == "marginal" else ~np.isfinite(part)
        if not wrong.any():
            continue
        bad = np.argwhere(wrong)[0]
        value, place = part[tuple(bad)], (start + int(bad[0]), *(int(i) for i in bad[1:]))
        what, remedy = f"infinity or a value too large for {part.dtype!r}", ""
        if np.isnan(part[wrong]).any():
            what, remedy = "NaN", ', or set missing="marginal"' if name == "X" else ""
        raise ValueError(
            f"Input {name} contains {what}. The first such value is {float(value)!r} at "
            f"{list(place)}: drop or impute these rows{remedy}."
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


# --- hyperparameters ----------------------------------------------------------------------------


def check_hyperparameters(estimator: Any) -> None:
    """Raise ValueError where a parameter of the estimator is out of its range."""
    for name, (kind, least) in _NUMBERS.items():
        _check_number(estimator, name, kind, least)
    floor: Any = estimator.reg_covar
    if isinstance(floor, list | tuple | np.ndarray) and np.ndim(floor) > 0:
        array = np.asarray(floor)
        if array.ndim != 1 or array.dtype.kind not in "iuf" or not (array >= 0).all():
            raise _out_of_range(
                estimator, "reg_covar", "a float in the range [0, inf), or one for each column of X"
            )
    else:
        _check_number(estimator, "reg_covar", Real, 0)
    for name, choices in _CHOICES.items():
        value = getattr(estimator, name)
        if not isinstance(value, str) or value not in choices:
            raise _out_of_range(estimator, name, f"a str among {set(choices)}")
    priors = () if estimator.priors is None else estimator.priors
    if not isinstance(priors, list | tuple) or not all(
        isinstance(prior, Wishart | Dirichlet | Normal) for prior in priors
    ):
        raise _out_of_range(
            estimator, "priors", "None or a list of Wishart, Dirichlet and Normal of gmm_np.priors"
        )


def _check_number(estimator: Any, name: str, kind: type, least: int) -> None:
    value: Any = getattr(estimator, name)
    is_number = isinstance(value, kind) and not isinstance(value, bool | np.bool_)
    if not (is_number and value >= least):
        what = "an int" if kind is Integral else "a float"
        raise _out_of_range(estimator, name, f"{what} in the range [{least}, inf)")


def _out_of_range(estimator: Any, name: str, expected: str) -> ValueError:
    return ValueError(
        f"The {name!r} parameter of {type(estimator).__name__} must be {expected}. "
        f"Got {getattr(estimator, name)!r} instead."
    )


def as_generator(random_state: Any) -> np.random.Generator:
    """Return the generator that `random_state` stands for.

    Raises
    ------
    ValueError
        If it is none of what it may be.
    """
    if random_state is None or isinstance(random_state, np.random.Generator):
        return np.random.default_rng(random_state)
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(0, 2**31, size=4))
    if isinstance(random_state, Integral) and int(random_state) >= 0:
        return np.random.default_rng(int(random_state))
    raise ValueError(
        f"{random_state!r} cannot be used to seed a numpy.random.Generator: random_state must be "
        "an int from 0, a Generator, a RandomState or None."
    )


# --- starts that are given ----------------------------------------------------------------------


def check_initial(
    weights: Any, means: Any, precisions: Any, family: str, n_components: int, n_features: int
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
    """Return the weights [K], the means [K, D] and the scale of a start; None for what is None.

    Raises
    ------
    ValueError
        If a shape is another, a value is not finite, the weights are not K numbers from 0 to 1 that
        add up to 1, within the rounding of four decimals each, or a precision is not symmetric and
        positive definite.
    """
    if weights is not None:
        weights = _as_array("weights", weights, (n_components,))
        if (weights < 0).any() or (weights > 1).any():
            raise ValueError(
                "The parameter 'weights' should be in the range [0, 1], but got max value "
                f"{weights.max():.5f}, min value {weights.min():.5f}"
            )
        if not parameters.sum_to_one(weights):
            raise ValueError(
                "The parameter 'weights' should be normalized, but got sum(weights) = "
                f"{weights.sum():.8g}. Divide them by their sum."
            )
        weights = weights / weights.sum()
    if means is not None:
        means = _as_array("means", means, (n_components, n_features))
    if precisions is not None:
        precisions = _factor(precisions, family, FAMILIES[family].shape(n_components, n_features))
    return weights, means, precisions


def _factor(precisions: Any, family: str, shape: tuple[int, ...]) -> FloatArray:
    """Return the factors of the covariances that have these precisions, in the family's shape."""
    name = f"{family} precision"
    array = _as_array(name, precisions, shape)
    if not FAMILIES[family].has_factors:
        if not (array > 0).all():
            raise ValueError(f"'{name}' should be positive")
        return factor_of_precisions(array, family)
    try:
        if np.allclose(array, array.swapaxes(-1, -2)):
            return factor_of_precisions(array, family)
    except np.linalg.LinAlgError:
        pass
    raise ValueError(f"'{name}' should be symmetric, positive-definite")


def _as_array(name: str, value: Any, shape: tuple[int, ...]) -> FloatArray:
    array: FloatArray = as_floats(name, value).astype(np.float64, copy=False)
    if array.shape != shape:
        raise ValueError(
            f"The parameter '{name}' should have the shape of {shape}, but got {array.shape}"
        )
    check_finite(name, array.reshape(array.shape or (1,)))
    return array
