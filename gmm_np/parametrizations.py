"""Flat, unconstrained vectors in place of parameters, and gradients pulled back to them.

A solver moves freely in a vector; a factor's diagonal has to stay positive. A parametrization
turns the one into the other (`unpack`), back (`pack`), and carries gradients the same way
(`pullback`).

Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.parameters import FloatArray, Gradients, Parameters


@dataclass(frozen=True)
class LogCholesky:
    """Logits, means, and Cholesky factors with the logarithm of their diagonal, equation (29).

    The vector holds the logits [K], then the means [K, D], then for each component the lower
    triangle of its factor by rows: K (1 + D + D (D + 1) / 2) numbers.

    Parameters
    ----------
    n_components, n_features : int
        K and D.
    """

    n_components: int
    n_features: int

    @property
    def size(self) -> int:
        """Length of the vector."""
        d = self.n_features
        return self.n_components * (1 + d + d * (d + 1) // 2)

    def pack(self, parameters: Parameters) -> FloatArray:
        """Return the vector of `parameters`.

        Raises
        ------
        ValueError
            If their shape is another, or a component is off: a logit of -inf is no point of an
            unconstrained space. Leave the component out instead.
        """
        if parameters.means.shape != (self.n_components, self.n_features):
            raise ValueError(
                f"parameters have means of shape {parameters.means.shape}; this parametrization "
                f"is for [K, D] = {(self.n_components, self.n_features)}."
            )
        off = np.flatnonzero(np.isneginf(parameters.pi_logits))
        if len(off):
            raise ValueError(
                f"parameters have a logit of -inf at component {off[0]}, which no finite vector "
                "holds. Leave this component out."
            )
        rows, columns = np.tril_indices(self.n_features)
        scale = parameters.scale.astype(np.float64)  # [K, D, D]
        diagonal = np.arange(self.n_features)
        scale[:, diagonal, diagonal] = np.log(scale[:, diagonal, diagonal])  # (29)
        blocks = (parameters.pi_logits, parameters.means, scale[:, rows, columns])
        return np.concatenate([block.ravel() for block in blocks]).astype(np.float64)

    def unpack(self, vector: ArrayLike) -> Parameters:
        """Return the parameters of `vector`.

        Raises
        ------
        ValueError
            If its length is not `size`, a value is not finite, or the exponential of a logarithm
            on the diagonal leaves the range of a double.
        """
        logits, means, triangle = self._split(np.asarray(vector, dtype=np.float64))
        rows, columns = np.tril_indices(self.n_features)
        scale = np.zeros((self.n_components, self.n_features, self.n_features))
        scale[:, rows, columns] = triangle
        diagonal = np.arange(self.n_features)
        with np.errstate(over="ignore", under="ignore"):
            scale[:, diagonal, diagonal] = np.exp(scale[:, diagonal, diagonal])  # (29)
        return Parameters(logits, means, scale)

    def pullback(self, parameters: Parameters, gradients: Gradients) -> FloatArray:
        """Return the gradient with respect to the vector of `parameters`, equation (29)."""
        rows, columns = np.tril_indices(self.n_features)
        # in unpack: L_ii = exp(theta_ii), so that d_theta_ii = L_ii d_L_ii
        diagonal = np.arange(self.n_features)
        d_scale = np.array(gradients.scale, dtype=np.float64)  # [K, D, D]
        d_scale[:, diagonal, diagonal] *= parameters.scale[:, diagonal, diagonal]
        blocks = (gradients.pi_logits, gradients.means, d_scale[:, rows, columns])
        return np.concatenate([np.asarray(block).ravel() for block in blocks]).astype(np.float64)

    def _split(self, vector: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        if vector.shape != (self.size,):
            raise ValueError(
                f"vector must have shape {(self.size,)} for K = {self.n_components} and "
                f"D = {self.n_features}; got {vector.shape}."
            )
        k, d = self.n_components, self.n_features
        logits, means, triangle = np.split(vector, [k, k + k * d])
        return logits, means.reshape(k, d), triangle.reshape(k, -1)
