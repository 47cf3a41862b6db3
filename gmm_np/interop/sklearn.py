"""Fitted mixtures to and from scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from gmm_np.covariance import FAMILIES
from gmm_np.covariance.conversions import covariances_of, precisions_cholesky_of
from gmm_np.interop import load
from gmm_np.interop.loss import as_parameters
from gmm_np.mixture import GaussianMixture

__all__ = ["from_sklearn", "to_sklearn"]

# scikit-learn's covariance types, in the shapes of the families of the same name; of those of one
# structure first the one that holds most.
_TYPES = ("full", "tied", "diag", "spherical")


def to_sklearn(model: Any) -> Any:
    """Return a mixture as a fitted `sklearn.mixture.GaussianMixture`.

    Parameters
    ----------
    model : Parameters, or a fitted GaussianMixture
        Of a family that scikit-learn does not have, one that it has and that holds as much:
        "diag" for "tied_diag", "spherical" for "shared_spherical", "full" for "constant".

    Returns
    -------
    mixture : sklearn.mixture.GaussianMixture
        It predicts, scores and samples; with ``warm_start=True`` its `fit` goes on from there.

    Raises
    ------
    TypeError
        If the model is neither.
    """
    theirs = load("sklearn.mixture")
    parameters = as_parameters(model)
    n_components, n_features = parameters.means.shape
    form, kind = FAMILIES[parameters.family], parameters.family
    scale = parameters.scale.astype(np.float64)
    if kind not in _TYPES:
        kind = next(t for t in _TYPES if FAMILIES[t].structure is form.structure)
        scale = np.array(np.broadcast_to(scale, FAMILIES[kind].shape(n_components, n_features)))
    mixture = theirs.GaussianMixture(n_components, covariance_type=kind)
    mixture.weights_ = parameters.weights()
    mixture.means_ = parameters.means.astype(np.float64)
    mixture.covariances_ = covariances_of(scale, kind)
    mixture.precisions_cholesky_ = precisions_cholesky_of(scale, kind)
    mixture.precisions_ = covariances_of(mixture.precisions_cholesky_, kind)
    mixture.n_features_in_ = n_features
    if hasattr(model, "feature_names_in_"):
        mixture.feature_names_in_ = np.array(model.feature_names_in_)
    mixture.converged_ = bool(getattr(model, "converged_", True))
    mixture.n_iter_ = int(getattr(model, "n_iter_", 0))
    mixture.lower_bound_ = float(getattr(model, "lower_bound_", -np.inf))
    return mixture


def from_sklearn(model: Any) -> GaussianMixture:
    """Return a fitted mixture of scikit-learn as a `gmm_np.GaussianMixture`.

    Parameters
    ----------
    model : sklearn.mixture.GaussianMixture or BayesianGaussianMixture
        Fitted. Of the latter, the mixture that it predicts by.

    Returns
    -------
    mixture : GaussianMixture
        As `GaussianMixture.from_parameters` makes it, with the names of the columns.

    Raises
    ------
    TypeError
        If it is another model.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    """
    theirs = load("sklearn.mixture")
    if not isinstance(model, theirs.GaussianMixture | theirs.BayesianGaussianMixture):
        raise TypeError(
            "model must be a sklearn.mixture.GaussianMixture or BayesianGaussianMixture; got "
            f"{type(model).__name__}. gmm_np.GaussianMixture.from_parameters takes weights, means "
            "and covariances of any other."
        )
    load("sklearn.utils.validation").check_is_fitted(model)
    mixture = GaussianMixture.from_parameters(
        model.weights_, model.means_, model.covariances_, covariance_type=model.covariance_type
    )
    if hasattr(model, "feature_names_in_"):
        mixture.feature_names_in_ = np.array(model.feature_names_in_)
    return mixture
