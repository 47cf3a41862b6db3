"""Gaussian-mixture negative log-likelihood with exact, hand-written gradients."""

from typing import TYPE_CHECKING

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
    "conformance",
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

if TYPE_CHECKING:
    from gmm_np import conformance
else:

    def __getattr__(name):
        if name != "conformance":
            raise AttributeError(f"module 'gmm_np' has no attribute {name!r}")
        import importlib  # late: few who compute a loss run the vectors

        return importlib.import_module("gmm_np.conformance")
