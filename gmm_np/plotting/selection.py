"""How many components, and of which family: the criterion that chooses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gmm_np.plotting.canvas import dress, legend_beside, line_look, new_figure, with_fonts

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_bic(
    scores: Mapping[str, Mapping[int, float | None]],
    *,
    title: str | None = None,
    criterion: str = "BIC",
    collapsed: Mapping[str, Collection[int]] | None = None,
    chosen: tuple[str, int] | None = None,
) -> Figure:
    """Draw the BIC by number of components, a curve a covariance family; the choice is marked.

    Below stands how far each is above the choice, on a logarithmic scale but for what is below 1:
    a difference of 10 is strong evidence, and beside a poor family it would not be seen. A mixture
    with a collapsed component has a black cross, and no curve leads to it: its value says nothing.

    Parameters
    ----------
    scores : mapping of family to mapping of K to BIC
        Of smaller is better; None or a value that is not finite is a fit that failed, and a gap.
    title : str, optional
    criterion : str
        The name of what the scores are, such as "ICL".
    collapsed : mapping of family to collection of K, optional
        Those with a collapsed component.
    chosen : family and K, optional
        By default of the least score without a collapsed component, or of the least if all have
        one.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If no score is finite, or `chosen` has none that is.
    """
    crossed = {family: set((collapsed or {}).get(family, ())) for family in scores}
    curves = {
        family: {k: bic for k, bic in sorted(by_k.items()) if bic is not None and np.isfinite(bic)}
        for family, by_k in scores.items()
    }
    finite = [(bic, k, family) for family, by_k in curves.items() for k, bic in by_k.items()]
    if not finite:
        raise ValueError(f"scores must hold at least one finite {criterion}; got none.")
    sound = [entry for entry in finite if entry[1] not in crossed[entry[2]]]
    least, best_k, best_family = min(sound or finite)
    if chosen is not None:
        best_family, best_k = chosen
        if best_k not in curves.get(best_family, {}):
            raise ValueError(f"chosen must name a family and a K with a score; got {chosen}.")
        least = curves[best_family][best_k]
    ks = sorted({k for by_k in scores.values() for k in by_k})
    figure = new_figure(8.4, 6.0)
    above, below = figure.subplots(2, 1, sharex=True)
    handles, crosses = [], []
    for number, (family, by_k) in enumerate(curves.items()):
        places = [k for k in ks if k in scores[family]]
        values = np.array([by_k.get(k, np.nan) for k in places])
        out = np.isin(places, list(crossed[family]))
        style: dict[str, Any] = {**line_look(number), "linewidth": 1.8, "markersize": 7}
        curve = np.where(out, np.nan, values)
        handles += above.plot(places, curve, label=family, gid=f"bic {family}", **style)
        below.plot(places, curve - least, gid=f"excess {family}", **style)
        style |= {"linestyle": "none", "markerfacecolor": "white", "markersize": 12}
        for axes, zero, what in ((above, 0.0, "collapsed"), (below, least, "collapsed excess")):
            if out.any():
                alone = (np.array(places)[out], values[out] - zero)
                axes.plot(*alone, gid=f"{what} {family}", **style)
                (cross,) = axes.plot(*alone, "x", color="black", markersize=6, zorder=6)
                cross.set(markeredgewidth=1.8, label="a component collapsed")
                crosses = [cross]
    for axes, height in ((above, least), (below, 0.0)):
        (ring,) = axes.plot([best_k], [height], "o", markersize=18)
        ring.set(markerfacecolor="none", markeredgecolor="black", markeredgewidth=1.6)
        ring.set(label=f"chosen:\n{best_family}, K = {best_k},\n{criterion} {least:.1f}", zorder=5)
        ring.set_gid("least" if axes is above else None)
        axes.margins(x=0.06, y=0.14)
        axes.grid(color="#E0E0E0", linewidth=0.6)
    below.set_yscale("symlog", linthresh=1.0)  # linear below 1: the least is at zero
    below.set_ylim(bottom=min(-0.8, 2.0 * min(finite)[0] - 2.0 * least))
    below.set_xticks(ks if len(ks) <= 20 else ks[:: -(-len(ks) // 20)])
    dress(above, "", f"{criterion}\n(less is better)", title)
    dress(below, "components K", f"{criterion} above\nthe choice")
    legend_beside(figure, [*handles, *crosses, ring])
    return with_fonts(figure)
