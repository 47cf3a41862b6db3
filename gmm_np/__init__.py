"""Gaussian-mixture negative log-likelihood with exact, hand-written gradients."""

from gmm_np import parametrizations, priors, reference
from gmm_np.gradcheck import BlockCheck, GradientReport, check_grad
from gmm_np.likelihood import log_prob, nll, nll_value_and_grad, responsibilities, statistics
from gmm_np.mixture import GaussianMixture
from gmm_np.parameters import Gradients, Parameters
from gmm_np.statistics import Statistics, em_step, gradients

__version__ = "0.1.0"

__all__ = [
    "BlockCheck",
    "GaussianMixture",
    "GradientReport",
    "Gradients",
    "Parameters",
    "Statistics",
    "__version__",
    "check_grad",
    "em_step",
    "gradients",
    "log_prob",
    "nll",
    "nll_value_and_grad",
    "parametrizations",
    "priors",
    "reference",
    "responsibilities",
    "statistics",
]
