"""Gaussian-mixture negative log-likelihood with exact, hand-written derivatives."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gmm_np import parametrizations, priors
from gmm_np.gradcheck import BlockCheck, GradientReport, check_grad
from gmm_np.likelihood import log_prob, nll, nll_value_and_grad, responsibilities, statistics
from gmm_np.missing import impute
from gmm_np.parameters import Gradients, Parameters
from gmm_np.sufficient_statistics import Statistics, em_step, gradients

if TYPE_CHECKING:
    from gmm_np import (
        conditional,
        conformance,
        datasets,
        distances,
        interop,
        mdn,
        model_selection,
        noise,
        plotting,
        reference,
        solvers,
    )
    from gmm_np.density import Modes, log_prob_grad, log_prob_hess, modes
    from gmm_np.hessian import nll_hessian, scores
    from gmm_np.inference import Intervals, StandardErrors, standard_errors
    from gmm_np.mixture import GaussianMixture
    from gmm_np.objective import Objective
    from gmm_np.second_order import nll_hvp

__version__ = "0.1.0"

__all__ = [
    "BlockCheck",
    "GaussianMixture",
    "GradientReport",
    "Gradients",
    "Intervals",
    "Modes",
    "Objective",
    "Parameters",
    "StandardErrors",
    "Statistics",
    "__version__",
    "check_grad",
    "conditional",
    "conformance",
    "datasets",
    "distances",
    "em_step",
    "gradients",
    "impute",
    "interop",
    "log_prob",
    "log_prob_grad",
    "log_prob_hess",
    "mdn",
    "model_selection",
    "modes",
    "nll",
    "nll_hessian",
    "nll_hvp",
    "nll_value_and_grad",
    "noise",
    "parametrizations",
    "plotting",
    "priors",
    "reference",
    "responsibilities",
    "scores",
    "solvers",
    "standard_errors",
    "statistics",
]

# Loaded when first asked for: modules, and where names are.
_MODULES = (
    "conditional",
    "conformance",
    "datasets",
    "distances",
    "interop",
    "mdn",
    "model_selection",
    "noise",
    "plotting",
    "reference",
    "solvers",
)
_PLACES = {
    "GaussianMixture": "mixture",
    "Objective": "objective",
    "nll_hvp": "second_order",
    **dict.fromkeys(("nll_hessian", "scores"), "hessian"),
    **dict.fromkeys(("Modes", "log_prob_grad", "log_prob_hess", "modes"), "density"),
    **dict.fromkeys(("Intervals", "StandardErrors", "standard_errors"), "inference"),
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        found = getattr(import_module(f"gmm_np.{_PLACES[name]}"), name)
    elif name in _MODULES:
        found = import_module(f"gmm_np.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
