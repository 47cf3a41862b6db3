"""Weights, means and precisions that the user gives, as a start or as attributes of a fit.

Those of a start are checked in scikit-learn's words.

Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gmm_np import checks, parameters
from gmm_np.checks import FloatArray
from gmm_np.covariance import FAMILIES
from gmm_np.covariance.conversions import factor_of_precisions, factor_of_precisions_cholesky
from gmm_np.mixture.sklearn_speech import as_floats, check_finite
from gmm_np.parameters import Parameters

# What rounding may leave beyond a triangle, relative to the largest entry of its row: that of
# inverses computed in single precision.
TRIANGLE_ROUNDING: Final = 1e-6
_REMEDY: Final = (
    "Set factors of the precisions, as np.linalg.cholesky(precisions) gives them, or make the "
    "mixture by GaussianMixture.from_parameters(weights, means, covariances)."
)


def check_weights(weights: Any, n_components: int) -> FloatArray:
    """Return weights [K] as float64.

    Raises
    ------
    ValueError
        If they are not K numbers from 0 to 1 that add up to 1, within the rounding of four
        decimals each.
    """
    array = _as_array("weights", weights, (n_components,))
    if (array < 0).any() or (array > 1).any():
        raise ValueError(
            "The parameter 'weights' should be in the range [0, 1], but got max value "
            f"{array.max():.5f}, min value {array.min():.5f}"
        )
    if not parameters.sum_to_one(array):
        raise ValueError(
            "The parameter 'weights' should be normalized, but got sum(weights) = "
            f"{array.sum():.8g}. Divide them by their sum."
        )
    return np.asarray(array / array.sum())


def check_means(means: Any, n_components: int, n_features: int) -> FloatArray:
    """Return means [K, D] as float64.

    Raises
    ------
    ValueError
        If their shape is another, or a value is not finite.
    """
    return _as_array("means", means, (n_components, n_features))


def check_precisions(
    precisions: Any, family: str, n_components: int, n_features: int
) -> FloatArray:
    """Return the factors of the covariances that have these precisions, in the family's shape.

    Raises
    ------
    ValueError
        If their shape is another, or a precision is not symmetric and positive definite.
    """
    shape = FAMILIES[family].shape(n_components, n_features)
    array = _as_array(f"{family} precision", precisions, shape)
    if not FAMILIES[family].has_factors:
        if not (array > 0).all():
            raise ValueError(f"'{family} precision' should be positive")
        return factor_of_precisions(array, family)
    message = f"'{family} precision' should be symmetric, positive-definite"
    if not np.allclose(array, array.swapaxes(-1, -2)):
        raise ValueError(message)
    try:
        return factor_of_precisions(array, family)
    except np.linalg.LinAlgError:
        raise ValueError(message) from None


def check_attributes(weights: Any, means: Any, precisions_cholesky: Any, family: str) -> Parameters:
    """Return the mixture that has these as `weights_`, `means_` and `precisions_cholesky_`.

    Weights count in proportion to their sum, whatever it is: attributes are set one by one, so
    that it need not be 1 on the way.

    Raises
    ------
    TypeError, ValueError
        If there is no such mixture.
    """
    shares = parameters.check_weights("weights_", weights)
    centres = parameters.check_means(means, "means_")
    checks.check_finite("means_", centres, "Look at what set them.", ("component", "column"))
    if len(shares) != len(centres):
        raise ValueError(
            f"weights_ and means_ disagree: weights_ has shape {shares.shape}, but means_ has "
            f"shape {centres.shape}. Set both, with one entry or row for each component."
        )
    scale = check_precisions_cholesky(precisions_cholesky, family, *centres.shape)
    with np.errstate(divide="ignore"):  # a component of weight zero is off
        return Parameters(np.log(shares), centres, scale, family)


def check_precisions_cholesky(
    value: Any, family: str, n_components: int, n_features: int
) -> FloatArray:
    """Return the scale that has these factors U of the precisions, U U^T.

    scikit-learn's scores take the log determinant from the diagonal, so that U may be an upper
    or a lower triangle; beyond it there may be rounding.

    Raises
    ------
    TypeError, ValueError
        If there is no such scale.
    """
    name, form = "precisions_cholesky_", FAMILIES[family]
    array = checks.as_float64(name, value, form.places)
    shape = form.shape(n_components, n_features)
    if array.shape != shape:
        raise ValueError(
            f'{name} must have shape {shape} for covariance_type="{family}" and means_ of shape '
            f"{(n_components, n_features)}; got {array.shape}. {_REMEDY}"
        )
    checks.check_finite(name, array, _REMEDY, form.places)
    diagonal = np.diagonal(array, axis1=-2, axis2=-1) if form.has_factors else array
    if not diagonal.min() > 0:
        what = "diagonal entries" if form.has_factors else "values"
        remedy = (
            "A column with a negative diagonal entry may be negated: that leaves the precision."
            if form.has_factors
            else "Set 1 / np.sqrt(variances)."
        )
        raise ValueError(
            f"{name} has {what} that are not positive: "
            f"{checks.first_of(diagonal <= 0, form.places, diagonal)}. {remedy}"
        )
    if form.has_factors:
        # Beside what else is in its row an entry does not depend on the units of the columns.
        size = np.abs(array) / np.abs(array).max(axis=-1, keepdims=True)
        upper, lower = (
            (part > TRIANGLE_ROUNDING).any(axis=(-2, -1))
            for part in (np.triu(size, 1), np.tril(size, -1))
        )
        bad = upper & lower  # [K], or []
        if bad.any():
            where = f": {checks.first_of(bad, form.places[:-2])}" if bad.ndim > 0 else ""
            raise ValueError(
                f"{name} must hold triangles, and has matrices with values on both sides of the "
                f"diagonal{where}. {_REMEDY}"
            )
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        scale = factor_of_precisions_cholesky(array, family)
    if not (np.isfinite(scale).all() and scale.any()):
        raise ValueError(f"{name} has inverses beyond the range of a double. Rescale the data.")
    return scale


def _as_array(name: str, value: Any, shape: tuple[int, ...]) -> FloatArray:
    array: FloatArray = as_floats(name, value).astype(np.float64, copy=False)
    if array.shape != shape:
        raise ValueError(
            f"The parameter '{name}' should have the shape of {shape}, but got {array.shape}"
        )
    check_finite(name, array.reshape(array.shape or (1,)))
    return array
