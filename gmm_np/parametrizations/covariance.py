"""The parametrization by covariances, and the gradient with respect to a symmetric matrix.

Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

import math

import numpy as np

from gmm_np.checks import FloatArray, first_of
from gmm_np.linalg.factors import invert_factors
from gmm_np.linalg.triangles import diagonal_of
from gmm_np.parametrizations.base import Parametrization


class Covariance(Parametrization):
    """Covariances by all their entries, or variances, equations (28) and (38).

    In place of the scale the vector holds the covariances, D x D entries each, both triangles;
    or the variances of the families of standard deviations.

    The gradient of a covariance is symmetric: the matrix G with df = tr(G dSigma) for every
    symmetric dSigma, which is what PyTorch's `cholesky` gives. `unpack` takes the symmetric part
    (Sigma + Sigma^T) / 2 of what it finds, so that G is also the gradient with respect to each of
    the D x D entries by itself. A solver that moves the D (D + 1) / 2 entries of one triangle
    needs twice the entries off the diagonal.

    A vector may leave the positive definite matrices; `unpack` refuses it then. For solvers
    without constraints there is `LogCholesky`.
    """

    def _size_of_scale(self) -> int:
        return math.prod(self._scale_shape) if self._form.learned else 0

    def _pack_scale(self, scale: FloatArray) -> FloatArray:
        if not self._form.has_factors:
            return (scale**2).ravel()  # (38)
        return np.ravel(np.matmul(scale, np.swapaxes(scale, -1, -2)))  # (5)

    def _unpack_scale(self, entries: FloatArray) -> FloatArray:
        given = entries.reshape(self._scale_shape)
        if not self._form.has_factors:
            bad = ~(given > 0)
            if bad.any():
                raise ValueError(
                    "vector has variances that are not positive: "
                    f"{first_of(bad, self._form.places, given)}. Take a shorter step."
                )
            return np.asarray(np.sqrt(given))
        symmetric = 0.5 * given + 0.5 * np.swapaxes(given, -1, -2)
        try:
            return np.asarray(np.linalg.cholesky(symmetric))
        except np.linalg.LinAlgError:
            smallest = np.linalg.eigvalsh(symmetric)[..., 0]  # [K] or []
            k = int(smallest.argmin())
            place = f" of component {k}" if smallest.ndim else ""
            raise ValueError(
                f"vector has a covariance that is not positive definite: the least eigenvalue"
                f"{place} is {float(smallest.min()):.3g}. Take a shorter step."
            ) from None

    def _pull_scale(self, scale: FloatArray, d_scale: FloatArray) -> FloatArray:
        if not self._form.has_factors:
            return (0.5 * d_scale / scale).ravel()  # in unpack: sigma = sqrt(v), (38)
        return covariance_gradient(scale, d_scale).ravel()

    def _push_scale(self, scale: FloatArray, entries: FloatArray) -> FloatArray:
        given = entries.reshape(self._scale_shape)
        if not self._form.has_factors:
            return 0.5 * given / scale
        inverse = invert_factors(scale)
        inner = np.tril(
            inverse @ (0.5 * (given + given.swapaxes(-1, -2))) @ inverse.swapaxes(-1, -2)
        )
        diagonal_of(inner)[...] *= 0.5
        return np.asarray(scale @ inner)  # dL = L Phi(L^-1 dSigma L^-T)

    def _pull_scale_tangent(
        self, scale: FloatArray, d_scale: FloatArray, dot_scale: FloatArray
    ) -> FloatArray:
        if not self._form.has_factors:
            return (-0.5 * d_scale * dot_scale / scale**2).ravel()
        inverse = invert_factors(scale)
        # The inside of (28) moves, and L^-1 by -L^-1 dL L^-1 on either side.
        moved = inverse.swapaxes(-1, -2) @ _mirrored(dot_scale, d_scale) @ inverse
        turned = covariance_gradient(scale, d_scale) @ dot_scale @ inverse
        return np.ravel(moved - turned - turned.swapaxes(-1, -2))


def covariance_gradient(factors: FloatArray, d_factors: FloatArray) -> FloatArray:
    """Return the symmetric gradient with respect to Sigma = L L^T, equation (28).

    Parameters
    ----------
    factors, d_factors : ndarray, shape [..., D, D]
        L, lower triangular, and the gradient with respect to it.

    Returns
    -------
    ndarray, shape [..., D, D]
        The symmetric G with df = tr(G dSigma) for every symmetric dSigma: an entry off the
        diagonal is the slope when it moves alone.
    """
    inverse = invert_factors(factors)
    gradient: FloatArray = np.swapaxes(inverse, -1, -2) @ _mirrored(factors, d_factors) @ inverse
    return gradient


def _mirrored(factors: FloatArray, d_factors: FloatArray) -> FloatArray:
    """Return the inside of (28), half the lower triangle of L^T d_L and its mirror image."""
    inner = np.tril(np.matmul(np.swapaxes(factors, -1, -2), d_factors))
    return np.asarray(0.5 * (inner + np.swapaxes(np.tril(inner, -1), -1, -2)))
