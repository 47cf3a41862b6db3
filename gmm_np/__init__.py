"""Gaussian-mixture negative log-likelihood with exact, hand-written gradients."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gmm_np import parametrizations, priors, reference
from gmm_np.gradcheck import BlockCheck, GradientReport, check_grad
from gmm_np.likelihood import log_prob, nll, nll_value_and_grad, responsibilities, statistics
from gmm_np.parameters import Gradients, Parameters
from gmm_np.statistics import Statistics, em_step, gradients

if TYPE_CHECKING:
    from gmm_np import conformance
    from gmm_np.mixture import GaussianMixture

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


def __getattr__(name: str) -> Any:
    """Load the estimator with all its solvers, or the vectors' runner, when first asked for."""
    if name == "GaussianMixture":
        found = import_module("gmm_np.mixture").GaussianMixture
    elif name == "conformance":
        found = import_module("gmm_np.conformance")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
