"""A mixture for each row: the loss of mixture density networks, and its exact derivatives.

The parameters have an axis of rows before their own, pi_logits [N, K], means [N, K, D], and the
scale of "full" [N, K, D, D], "diag" [N, K, D] or "spherical" [N, K]; no sum goes over rows but the
loss's. `MixtureHead` makes them of what a network puts out, and brings their gradients back to it.
`gmm_np.mdn.reference` is the same row by row, by the primitives of `gmm_np.reference`.
"""

from gmm_np.mdn.head import MixtureHead
from gmm_np.mdn.likelihood import nll, nll_hvp, nll_value_and_grad
from gmm_np.mdn.row_mixtures import FAMILIES_OF_ROWS

__all__ = ["FAMILIES_OF_ROWS", "MixtureHead", "nll", "nll_hvp", "nll_value_and_grad"]
