"""Gaussian-mixture negative log-likelihood with exact, hand-written gradients."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gmm_np import parametrizations, priors
from gmm_np.gradcheck import BlockCheck, GradientReport, check_grad
from gmm_np.likelihood import log_prob, nll, nll_value_and_grad, responsibilities, statistics
from gmm_np.parameters import Gradients, Parameters
from gmm_np.sufficient_statistics import Statistics, em_step, gradients

if TYPE_CHECKING:
    from gmm_np import conformance, datasets, model_selection, plotting, reference, solvers
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
    "datasets",
    "em_step",
    "gradients",
    "log_prob",
    "model_selection",
    "nll",
    "nll_value_and_grad",
    "parametrizations",
    "plotting",
    "priors",
    "reference",
    "responsibilities",
    "solvers",
    "statistics",
]

# Loaded when first asked for.
_MODULES = ("conformance", "datasets", "model_selection", "plotting", "reference", "solvers")


def __getattr__(name: str) -> Any:
    if name == "GaussianMixture":
        found = import_module("gmm_np.mixture").GaussianMixture
    elif name in _MODULES:
        found = import_module(f"gmm_np.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
