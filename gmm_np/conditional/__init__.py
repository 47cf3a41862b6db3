"""Some columns given the others: the conditional likelihood, its gradients, and regression.

docs/parts.md has the equations, (P1) to (P8).
"""

from gmm_np.conditional.likelihood import log_prob, nll, nll_value_and_grad
from gmm_np.conditional.regression import Regression, regress

__all__ = ["Regression", "log_prob", "nll", "nll_value_and_grad", "regress"]
