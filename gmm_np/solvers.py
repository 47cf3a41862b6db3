"""The solvers in one place: from data and a start to the smallest negative log-likelihood."""

from gmm_np.adam import fit_adam
from gmm_np.em import EM, fit_em
from gmm_np.fitting import Callback, CollapseError, FitInterrupted, FitResult
from gmm_np.gradient_solvers import fit_lbfgs, fit_newton
from gmm_np.starts import kmeans_start, make_start

__all__ = [
    "EM",
    "Callback",
    "CollapseError",
    "FitInterrupted",
    "FitResult",
    "fit_adam",
    "fit_em",
    "fit_lbfgs",
    "fit_newton",
    "kmeans_start",
    "make_start",
]
