"""Covariances and precisions as people state them, and the factors that the engine works with.

All have the shape of the family's scale. Where that holds standard deviations, a covariance is a
variance.

Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.covariance import FAMILIES
from gmm_np.linalg.factors import invert_factors


def factor(covariances: FloatArray, family: str) -> FloatArray:
    """Return the factors L of covariances, Sigma = L L^T.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a covariance matrix is not positive definite.
    """
    if FAMILIES[family].has_factors:
        return np.asarray(np.linalg.cholesky(covariances))
    return np.sqrt(covariances)


def covariances_of(scale: FloatArray, family: str) -> FloatArray:
    """Return the covariances of factors, Sigma = L L^T; or precisions of theirs, U U^T."""
    if FAMILIES[family].has_factors:
        return np.asarray(scale @ scale.swapaxes(-1, -2))
    return np.asarray(np.square(scale))


def precisions_cholesky_of(scale: FloatArray, family: str) -> FloatArray:
    """Return scikit-learn's factors of the precisions: U = L^-T, upper, Sigma^-1 = U U^T."""
    if not FAMILIES[family].has_factors:
        return np.asarray(1.0 / scale)
    return np.ascontiguousarray(invert_factors(scale).swapaxes(-1, -2), dtype=np.float64)


def factor_of_precisions(precisions: FloatArray, family: str) -> FloatArray:
    """Return the factors L of covariances that are given by their inverses.

    A computed inverse is symmetric but for rounding, which in an ill-conditioned one is larger than
    its smallest eigenvalue: reading one triangle alone would keep none of its digits, and the mean
    of both keeps them.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a precision matrix is not positive definite.
    """
    if not FAMILIES[family].has_factors:
        return np.asarray(1.0 / np.sqrt(precisions))
    symmetric = 0.5 * (precisions + precisions.swapaxes(-1, -2))
    # P = U U^T with U upper: the Cholesky factor of P with its rows and columns reversed.
    reversed_factor = np.linalg.cholesky(symmetric[..., ::-1, ::-1])
    return factor_of_precisions_cholesky(reversed_factor[..., ::-1, ::-1], family)


def factor_of_precisions_cholesky(precisions_cholesky: FloatArray, family: str) -> FloatArray:
    """Return the factors L = U^-T of scikit-learn's factors U.

    For any other root R of the precisions, R R^T, as a lower triangle, U is the upper triangle
    with U U^T = R R^T.
    """
    if not FAMILIES[family].has_factors:
        return np.asarray(1.0 / precisions_cholesky)
    upper = precisions_cholesky
    if np.tril(upper, -1).any():
        upper = _upper(upper)
    return invert_factors(np.ascontiguousarray(upper.swapaxes(-1, -2)))


def _upper(roots: FloatArray) -> FloatArray:
    """Return the upper triangles U with U U^T = R R^T, and a positive diagonal, of R [..., D, D].

    From R = U Q, so that no square loses digits: the factors of QR with rows and columns reversed.
    """
    r: FloatArray = np.asarray(np.linalg.qr(roots[..., ::-1, :].swapaxes(-1, -2), mode="r"))
    upper = r.swapaxes(-1, -2)[..., ::-1, ::-1]
    return np.asarray(upper * np.sign(np.diagonal(upper, axis1=-2, axis2=-1))[..., None, :])
