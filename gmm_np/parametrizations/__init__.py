"""Flat vectors in place of parameters, and gradients pulled back to them.

A solver moves freely in a vector; a factor's diagonal has to stay positive. A parametrization
turns the one into the other (`unpack`), back (`pack`), and carries gradients the same way
(`pullback`):

=================  ================================================================  ===========
class              what stands for the scale                                         constraint
=================  ================================================================  ===========
`LogCholesky`      Cholesky factors, diagonal as logarithms; or log deviations       none
`PrecisionFactor`  factors of the precisions, diagonal as logarithms                 none
`Cholesky`         Cholesky factors, or standard deviations                          diagonal > 0
`Covariance`       covariances, or variances                                         definite
=================  ================================================================  ===========

Each takes every covariance family; "constant" has nothing in the vector but logits and means.

Examples
--------
>>> import gmm_np
>>> from gmm_np.parametrizations import LogCholesky
>>> parameters = gmm_np.Parameters([0.0], [[1.0, 2.0]], [[1.0, 1.0]], "diag")
>>> space = LogCholesky.of(parameters)
>>> vector = space.pack(parameters)
>>> vector.tolist()
[0.0, 1.0, 2.0, 0.0, 0.0]
>>> p = space.unpack(vector - 0.25)
>>> value, gradients = gmm_np.nll_value_and_grad(
...     [[0.0, 2.0], [1.0, 1.0]], p.pi_logits, p.means, p.scale, family="diag"
... )
>>> space.pullback(p, gradients).round(6).tolist()
[0.0, 0.41218, 0.41218, 0.484775, 0.484775]
"""

from gmm_np.parametrizations.adbench import precision_value_and_grad
from gmm_np.parametrizations.base import Parametrization
from gmm_np.parametrizations.cholesky import Cholesky, LogCholesky, PrecisionFactor
from gmm_np.parametrizations.covariance import Covariance, covariance_gradient

__all__ = [
    "Cholesky",
    "Covariance",
    "LogCholesky",
    "Parametrization",
    "PrecisionFactor",
    "covariance_gradient",
    "precision_value_and_grad",
]
