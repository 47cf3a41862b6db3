"""The estimator: `GaussianMixture`, with scikit-learn's names and without scikit-learn.

In the order in which its modules import one another: what scikit-learn expects of data and errors,
what every estimator can do, hyperparameters, the log of a fit, weights, means and precisions that
are given, criteria, what a fitted mixture can do, files, what a fit has to say, what scikit-learn
may route to it, and the estimator itself.
"""

from gmm_np.mixture.gaussian_mixture import COVARIANCE_TYPES, SOLVERS, GaussianMixture
from gmm_np.mixture.sklearn_speech import RegCovarWarning

__all__ = ["COVARIANCE_TYPES", "SOLVERS", "GaussianMixture", "RegCovarWarning"]
