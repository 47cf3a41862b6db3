"""The solvers: from data and a start to the parameters of the smallest negative log-likelihood.

In the order in which its modules import one another: states from which a fit goes on, what every
solver takes and returns, rows with errors of their own, covariances as people state them, starts,
those that split a component of a fit, EM, EM's memory of data that pass by once, the objective of a
vector, and what lowers it: L-BFGS, Newton's method, Adam; and the fit of some columns given the
others.
"""

from gmm_np.solvers.adam import fit_adam
from gmm_np.solvers.checkpoint import Checkpoint
from gmm_np.solvers.conditional_fit import fit_conditional
from gmm_np.solvers.em import EM, fit_em
from gmm_np.solvers.initialization import kmeans_start, make_start
from gmm_np.solvers.noisy_data import NoisyData
from gmm_np.solvers.results import Callback, CollapseError, Data, FitInterrupted, FitResult, Trace
from gmm_np.solvers.scipy_solvers import fit_lbfgs, fit_newton

__all__ = [
    "EM",
    "Callback",
    "Checkpoint",
    "CollapseError",
    "Data",
    "FitInterrupted",
    "FitResult",
    "NoisyData",
    "Trace",
    "fit_adam",
    "fit_conditional",
    "fit_em",
    "fit_lbfgs",
    "fit_newton",
    "kmeans_start",
    "make_start",
]
