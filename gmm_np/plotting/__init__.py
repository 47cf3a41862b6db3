"""Pictures of mixtures, of fits and of the choice among them; one function a picture.

Matplotlib is imported only when a function is called. The figures are made with
`matplotlib.figure.Figure` and the Agg canvas, never with pyplot, so that nothing global changes
and threads may draw at the same time. What differs in colour differs in marker, line style or
hatching too, so that a print in grey says the same.

Where a function takes a `model`, it takes `gmm_np.Parameters` of any family, or a fitted estimator
with scikit-learn's attributes.
"""

from gmm_np.plotting.canvas import add_caption, save_figure
from gmm_np.plotting.components import ellipse
from gmm_np.plotting.contours import plot_contours, save_animation
from gmm_np.plotting.history import plot_history
from gmm_np.plotting.mixture import plot_mixture
from gmm_np.plotting.pairs import plot_pairs
from gmm_np.plotting.responsibilities import plot_responsibilities
from gmm_np.plotting.selection import plot_bic

__all__ = [
    "add_caption",
    "ellipse",
    "plot_bic",
    "plot_contours",
    "plot_history",
    "plot_mixture",
    "plot_pairs",
    "plot_responsibilities",
    "save_animation",
    "save_figure",
]
