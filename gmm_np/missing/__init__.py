"""Rows with missing values: each has the density of what is seen of it, equation (68).

Rows are taken in the order of their patterns (`groups`), so that those of one pattern are one
block, of a mixture of its own: that of the columns that are seen (`kernels`). What it sums up of
its whitened residuals is lifted to those of all columns, equation (70), and adds like all other
sums (`estep`, `tangent`): gradients, EM, products with the Hessian and scores come from them as
from complete rows, and nothing is filled in, but by `impute`, which alone checks what it gets.
"""

from gmm_np.missing.estep import MarginalEStep
from gmm_np.missing.groups import MISSING, Groups, group_rows
from gmm_np.missing.imputation import impute
from gmm_np.missing.kernels import MarginalKernel
from gmm_np.missing.sums import by_covariance, out_of_range
from gmm_np.missing.tangent import MarginalTangentEStep

__all__ = [
    "MISSING",
    "Groups",
    "MarginalEStep",
    "MarginalKernel",
    "MarginalTangentEStep",
    "by_covariance",
    "group_rows",
    "impute",
    "out_of_range",
]
