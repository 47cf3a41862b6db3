"""How rows become log-likelihoods and sums: two kernels, and the choice between them.

"direct", the residual kernel, whitens residuals, and is accurate whatever the offset or the
separation. "moments", the feature kernel, writes log_joint as a linear function of the features 1,
y_i, y_i y_j of centred samples, so that a block costs two matrix products; it loses digits where
components are tight compared with their spread. A bound on that loss is computed from the inputs,
chunk by chunk, before the work is done. Where components are far apart, both leave out the
residuals whose responsibilities are too small to change a sum.

Samples lie along the last axis here, so that each pass over a block runs along contiguous memory.
Functions in this package check nothing. Letters in shapes: B samples of a block, K components that
are on, D dimensions, P features.
"""

from gmm_np.estep.estep import METHODS, Block, EStep, Kernel, numpy_settings
from gmm_np.estep.feature_kernel import FeatureKernel
from gmm_np.estep.prepared_mixture import Method, PreparedMixture, Standardization
from gmm_np.estep.residual_kernel import OutOfRangeError, ResidualKernel
from gmm_np.estep.tangent import Tangent, TangentEStep

__all__ = [
    "METHODS",
    "Block",
    "EStep",
    "FeatureKernel",
    "Kernel",
    "Method",
    "OutOfRangeError",
    "PreparedMixture",
    "ResidualKernel",
    "Standardization",
    "Tangent",
    "TangentEStep",
    "numpy_settings",
]
