"""Starts that the user gives: weights, means and precisions, checked in scikit-learn's words.

Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gmm_np import parameters
from gmm_np.checks import FloatArray
from gmm_np.mixture.sklearn_speech import as_floats, check_finite
from gmm_np.solvers.covariances import MATRIX_FAMILIES, factor_of_precisions


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
    shape = {
        "full": (n_components, n_features, n_features),
        "tied": (n_features, n_features),
        "diag": (n_components, n_features),
        "spherical": (n_components,),
        "shared_spherical": (),
    }[family]
    array = _as_array(f"{family} precision", precisions, shape)
    if family not in MATRIX_FAMILIES:
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


def _as_array(name: str, value: Any, shape: tuple[int, ...]) -> FloatArray:
    array: FloatArray = as_floats(name, value).astype(np.float64, copy=False)
    if array.shape != shape:
        raise ValueError(
            f"The parameter '{name}' should have the shape of {shape}, but got {array.shape}"
        )
    check_finite(name, array.reshape(array.shape or (1,)))
    return array
