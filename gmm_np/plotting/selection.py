"""How many components, and of which family: the Bayesian information criterion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gmm_np.plotting.canvas import dress, legend_beside, line_look, new_figure, with_fonts

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_bic(
    scores: Mapping[str, Mapping[int, float | None]], *, title: str | None = None
) -> Figure:
    """Draw the BIC by number of components, a curve a covariance family; the least is marked.

    Below stands how far each is above the least, on a logarithmic scale but for what is below 1:
    a difference of 10 is strong evidence, and beside a poor family it would not be seen.

    Parameters
    ----------
    scores : mapping of family to mapping of K to BIC
        Of smaller is better; None or a value that is not finite is a fit that failed, and a gap.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If no score is finite.
    """
    curves = {
        family: {k: bic for k, bic in sorted(by_k.items()) if bic is not None and np.isfinite(bic)}
        for family, by_k in scores.items()
    }
    finite = [(bic, k, family) for family, by_k in curves.items() for k, bic in by_k.items()]
    if not finite:
        raise ValueError("scores must hold at least one finite BIC; got none.")
    least, best_k, best_family = min(finite)
    ks = sorted({k for by_k in scores.values() for k in by_k})
    figure = new_figure(8.4, 6.0)
    above, below = figure.subplots(2, 1, sharex=True)
    handles = []
    for number, (family, by_k) in enumerate(curves.items()):
        places = [k for k in ks if k in scores[family]]
        values = np.array([by_k.get(k, np.nan) for k in places])
        style: dict[str, Any] = {**line_look(number), "linewidth": 1.8, "markersize": 7}
        handles += above.plot(places, values, label=family, gid=f"bic {family}", **style)
        below.plot(places, values - least, gid=f"excess {family}", **style)
    for axes, height in ((above, least), (below, 0.0)):
        (ring,) = axes.plot([best_k], [height], "o", markersize=18)
        ring.set(markerfacecolor="none", markeredgecolor="black", markeredgewidth=1.6)
        ring.set(label=f"the least:\n{best_family}, K = {best_k},\nBIC {least:.1f}", zorder=5)
        ring.set_gid("least" if axes is above else None)
        axes.margins(x=0.06, y=0.14)
        axes.grid(color="#E0E0E0", linewidth=0.6)
    below.set_yscale("symlog", linthresh=1.0)  # linear below 1: the least is at zero
    below.set_ylim(bottom=-0.8)
    below.set_xticks(ks if len(ks) <= 20 else ks[:: -(-len(ks) // 20)])
    dress(above, "", "BIC\n(less is better)", title)
    dress(below, "components K", "BIC above\nthe least")
    legend_beside(above, [*handles, ring])
    return with_fonts(figure)
