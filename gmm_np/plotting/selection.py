"""How many components, and of which family: the Bayesian information criterion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gmm_np.plotting.canvas import dress, legend_beside, line_look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_bic(
    scores: Mapping[str, Mapping[int, float | None]], *, title: str | None = None
) -> Figure:
    """Draw the BIC by number of components, a curve a covariance family; the least is marked.

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
    figure = new_figure()
    axes = figure.add_subplot()
    handles = []
    for number, (family, by_k) in enumerate(curves.items(), start=1):
        values = [by_k.get(k, np.nan) for k in ks if k in scores[family]]
        places = [k for k in ks if k in scores[family]]
        handles += axes.plot(
            places,
            values,
            **line_look(number),
            linewidth=1.8,
            markersize=7,
            label=family,
            gid=f"bic {family}",
        )
    (ring,) = axes.plot([best_k], [least], "o", markersize=18, gid="least", label="the least")
    ring.set(markerfacecolor="none", markeredgecolor="black", markeredgewidth=1.6)
    handles.append(ring)
    axes.set_xticks(ks if len(ks) <= 20 else ks[:: -(-len(ks) // 20)])
    axes.margins(x=0.06, y=0.2)
    axes.grid(color="#E0E0E0", linewidth=0.6)
    dress(axes, "components K", "BIC (less is better)", title)
    legend_beside(axes, handles)
    text = f"{best_family}, K = {best_k}: {least:.1f}"
    # Below the least there is no curve; at an end of the axis the text stays inside.
    side = {ks[0]: "left", ks[-1]: "right"}.get(best_k, "center") if len(ks) > 1 else "center"
    note = axes.annotate(text, (best_k, least), textcoords="offset points", xytext=(0, -16))
    note.set(fontsize=11, ha=side, va="top", zorder=6, gid="best")
    note.set_bbox({"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "black"})
    return figure
