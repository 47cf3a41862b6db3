"""Gaussian-mixture negative log-likelihood with exact, hand-written gradients."""

from gmm_np import reference
from gmm_np.gradcheck import BlockCheck, GradientReport, check_grad
from gmm_np.parameters import Gradients, Parameters

__version__ = "0.1.0"

__all__ = [
    "BlockCheck",
    "GradientReport",
    "Gradients",
    "Parameters",
    "__version__",
    "check_grad",
    "reference",
]
