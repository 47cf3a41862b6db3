"""The estimator: `GaussianMixture`, with scikit-learn's names and without scikit-learn.

In the order in which its modules import one another: what scikit-learn expects of an estimator,
arguments checked in its words, the log of a fit, criteria, what a fitted mixture can do, files,
what a fit has to say, and the estimator itself.
"""

from gmm_np.mixture.gaussian_mixture import COVARIANCE_TYPES, SOLVERS, GaussianMixture
from gmm_np.mixture.sklearn_compat import RegCovarWarning

__all__ = ["COVARIANCE_TYPES", "SOLVERS", "GaussianMixture", "RegCovarWarning"]
