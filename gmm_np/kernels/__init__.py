"""How rows become log-likelihoods and sums: two kernels, and the guard that chooses.

"direct" whitens residuals, and is accurate whatever the offset or the separation. "moments"
writes log_joint as a linear function of the features 1, y_i, y_i y_j of centred samples, so that
a block costs two matrix products; it loses digits where components are tight compared with their
spread. The guard bounds that loss from the inputs, chunk by chunk, before the work is done.
Where components are far apart, both leave out the residuals whose responsibilities are too small
to change a sum.

Samples lie along the last axis here, so that each pass over a block runs along contiguous memory.
Functions in this package check nothing. Letters in shapes: B samples of a block, K components that
are on, D dimensions, P features.
"""

from gmm_np.kernels.direct import Direct
from gmm_np.kernels.frame import Frame, Frames
from gmm_np.kernels.guard import METHODS, Costs, Guard, Kernel, Method, cheapest
from gmm_np.kernels.mixture import Mixture, OutOfRangeError
from gmm_np.kernels.moments import Moments

__all__ = [
    "METHODS",
    "Costs",
    "Direct",
    "Frame",
    "Frames",
    "Guard",
    "Kernel",
    "Method",
    "Mixture",
    "Moments",
    "OutOfRangeError",
    "cheapest",
]
