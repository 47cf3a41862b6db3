"""Data of which each row has errors of its own, for the solvers.

Letters in shapes: N samples, D dimensions.
"""

from __future__ import annotations

import hashlib
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np.checks import FloatArray
from gmm_np.noise import check_noise, checked_statistics
from gmm_np.parameters import Parameters
from gmm_np.solvers.results import Data
from gmm_np.sufficient_statistics import Statistics


class NoisyData(Data):
    """Rows, their weights, and the covariances of their errors.

    `fit_em`, `fit_lbfgs` and `fit_adam` take them as x, and fit the mixture of the true values:
    extreme deconvolution, equation (P11) of docs/parts.md.

    Parameters
    ----------
    x : array_like, shape [N, D]
    noise : array_like, shape [N, D, D] or [N, D]
        Covariances, or variances, as for `gmm_np.noise.statistics`.
    sample_weight : array_like, shape [N], optional
    n_features : int, optional
        The D that x must have.
    finite : bool
        That every value of x is known to be finite.

    Raises
    ------
    TypeError, ValueError
        As `gmm_np.noise.statistics` does; or if x is no array.
    """

    def __init__(
        self,
        x: ArrayLike,
        noise: ArrayLike,
        sample_weight: ArrayLike | None = None,
        n_features: int | None = None,
        *,
        finite: bool = False,
    ) -> None:
        super().__init__(x, sample_weight, n_features, finite=finite)
        if not self.is_array:
            raise TypeError(
                "noise needs x as one array, of which each row has its covariance; got a stream or "
                "parts. Add gmm_np.noise.statistics of each block for steps of EM of your own."
            )
        self.noise: FloatArray = check_noise(noise, *self.x.shape)

    def statistics(self, parameters: Parameters, method: str = "auto") -> Statistics:  # noqa: ARG002
        """One pass over the data; there is one method."""
        return checked_statistics(self.x, self.noise, self.weight, parameters)

    def tangent_statistics(self, *_: object) -> NoReturn:
        """There is no Hessian of the likelihood with noise."""
        raise _no_hessian()

    def information(self, *_: object) -> NoReturn:
        """There is no Hessian of the likelihood with noise."""
        raise _no_hessian()

    def fingerprint(self) -> bytes:
        """Return a digest of rows, weights and noise."""
        noise = hashlib.blake2b(np.ascontiguousarray(self.noise).data, digest_size=16)
        return super().fingerprint() + noise.digest()

    def pick(
        self, rows: NDArray[Any], weight: FloatArray | None, chosen: NDArray[np.integer]
    ) -> Data:
        """Return some rows, with their noise."""
        own = None if weight is None else weight[chosen]
        return NoisyData(rows[chosen], self.noise[chosen], own)


def _no_hessian() -> TypeError:
    return TypeError(
        "data with noise have no second derivatives here. Fit by fit_em, fit_lbfgs or fit_adam, "
        "and take standard errors from fits to resampled rows."
    )
