"""Which component is responsible for which sample, and how certain that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray, check_x
from gmm_np.plotting.canvas import (
    EDGE,
    axis_names,
    draw_some,
    dress,
    legend_beside,
    look,
    new_figure,
    pale,
    with_fonts,
)
from gmm_np.plotting.components import Mixture, mark_means

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CERTAIN: Final = 0.95  # responsibility from which on a sample's marker is filled


def plot_responsibilities(
    x: ArrayLike,
    model: Any,
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    max_points: int = 3000,
    seed: int = 0,
) -> Figure:
    """Draw the responsibilities of the components for the samples.

    In two dimensions each sample bears the marker of the component with the largest
    responsibility: small where that is at least 0.95, large and outlined elsewhere, filled with
    the runner-up's colour made pale. Lines part the regions in which different components lead; the
    number of each component stands at its mean. In one dimension the components' shares stand
    above each other as functions of x; in more, above the samples, ordered by component and share.

    Parameters
    ----------
    x : array_like, shape [N, D]
    model : Parameters or fitted GaussianMixture
    labels : sequence of str, length D, optional
    title : str, optional
    max_points, seed : int
        As in `plot_mixture`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError, TypeError, ValueError
        As `plot_mixture` does, for any D.
    """
    mixture = Mixture.of(model)
    data = check_x(x, mixture.means.shape[1])  # [N, D]
    names = axis_names(labels, data.shape[1])
    data = draw_some(data, max_points, seed)
    figure = new_figure()
    axes = figure.add_subplot()
    if data.shape[1] == 2:
        legend_beside(figure, _draw_plane(axes, data, mixture))
        dress(axes, names[0], names[1], title)
        return with_fonts(figure)
    if data.shape[1] == 1:
        ticks = mixture.ticks(0, data)
        resp = mixture.evaluate(ticks[:, None])[1]  # [P, K]
        legend_beside(figure, _draw_shares(axes, ticks, resp, mixture))
        axes.plot(data[:, 0], np.full(len(data), -0.03), "|", color="black", gid="data")
        dress(axes, names[0], "responsibility", title)
        axes.set(ylim=(-0.06, 1.0))
        return with_fonts(figure)
    resp = mixture.evaluate(data)[1]  # [N, K]
    owner = resp.argmax(axis=1)
    order = np.lexsort((-resp.max(axis=1), owner))
    ranks = np.arange(1.0, len(data) + 1)
    legend_beside(figure, _draw_shares(axes, ranks, resp[order], mixture))
    dress(axes, "samples, ordered by component and its share", "responsibility", title)
    axes.set(ylim=(0.0, 1.0))
    return with_fonts(figure)


def _draw_shares(axes: Axes, ticks: FloatArray, resp: FloatArray, mixture: Mixture) -> list[Artist]:
    """Stack the responsibilities [P, K] above the ticks [P]; return what goes into the legend."""
    top = np.zeros(len(ticks))
    edge = 0.04 * (ticks[-1] - ticks[0])  # too near the end for a number
    inner = (ticks >= ticks[0] + edge) & (ticks <= ticks[-1] - edge)
    handles: list[Artist] = []
    for k, number in enumerate(mixture.numbers):
        chosen = look(number)
        below, top = top, top + resp[:, k]
        area = axes.fill_between(ticks, below, top, facecolor="white", linewidth=0.8, zorder=2)
        area.set(edgecolor=chosen["color"], hatch=chosen["hatch"], label=f"component {number}")
        area.set_gid(f"share {number}")
        handles.append(area)
        share = np.where(inner, resp[:, k], 0.0)
        if share.max() > 0.2:
            middle = np.flatnonzero(share >= 0.95 * share.max())
            place = middle[len(middle) // 2]
            axes.text(
                ticks[place],
                0.5 * (below[place] + top[place]),
                str(number),
                ha="center",
                va="center",
                fontsize=12,
                zorder=4,
                bbox={"boxstyle": "circle,pad=0.25", "facecolor": "white", **_edge(chosen)},
            )
    axes.set(xlim=(ticks[0], ticks[-1] if ticks[-1] > ticks[0] else ticks[0] + 1))
    return handles[:20]


def _draw_plane(axes: Axes, data: FloatArray, mixture: Mixture) -> list[Artist]:
    """Draw two dimensions; return what goes into the legend."""
    from matplotlib.lines import Line2D

    resp = mixture.evaluate(data)[1]  # [N, K]
    ranks = np.argsort(-resp, axis=1, kind="stable")[:, :2]  # [N, 2]
    owner, second = ranks[:, 0], ranks[:, -1]
    certain = resp.max(axis=1) >= _CERTAIN
    grid = [mixture.ticks(axis, np.concatenate([data, mixture.means])) for axis in (0, 1)]
    points = np.stack(np.meshgrid(*grid), axis=-1)  # [P1, P0, 2]
    field = mixture.evaluate(points.reshape(-1, 2))[1].reshape(*points.shape[:2], -1)
    axes.set(xlim=grid[0][[0, -1]], ylim=grid[1][[0, -1]])
    sizes = float(np.clip(9000 / len(data), 9, 30))
    handles: list[Artist] = []
    for k, number in enumerate(mixture.numbers):
        chosen = look(number)
        style = {"marker": chosen["marker"], "edgecolor": chosen["color"], "zorder": 3}
        sure = axes.scatter(*data[certain & (owner == k)].T, color=chosen["color"], **style)
        sure.set(sizes=[sizes], alpha=0.6, linewidth=0.3, gid=f"certain {number}")
        sure.set_edgecolor("white")
        open_ = ~certain & (owner == k)
        inside = [pale(look(mixture.numbers[j])["color"], 0.4) for j in second[open_]]
        unsure = axes.scatter(*data[open_].T, facecolor=inside, linewidth=1.6, **style)
        unsure.set(sizes=[2.4 * sizes], gid=f"uncertain {number}", zorder=4)
        if len(mixture.numbers) > 1:
            lead = field[..., k] - np.delete(field, k, axis=-1).max(axis=-1)
            if lead.min() < 0 < lead.max():
                axes.contour(*grid, lead, [0.0], colors=[EDGE], linewidths=1.2, zorder=1)
        handle = Line2D([], [], linestyle="none", marker=chosen["marker"], color=chosen["color"])
        handle.set(markersize=8, label=f"component {number}")
        handles.append(handle)
    handles = handles[:16]
    label = f"outlined: less than {_CERTAIN:.0%} sure;\nfilled with the runner-up's colour"
    handles.append(Line2D([], [], linestyle="none", marker="o", color="black", label=label))
    handles[-1].set(markersize=9, markerfacecolor="#CCCCCC")
    if len(mixture.numbers) > 1:
        handles.append(
            Line2D([], [], color=EDGE, linewidth=1.2, label="two components equally likely")
        )
    mark_means(axes, mixture, mixture.means)
    for number, mean in zip(mixture.numbers, mixture.means, strict=True):
        box = {"boxstyle": "circle,pad=0.25", "facecolor": "white", **_edge(look(number))}
        axes.annotate(
            str(number),
            mean,
            (17, 17),  # points: beside the marker, which stays in sight
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=12,
            zorder=6,
            bbox=box,
        )
    return handles


def _edge(chosen: dict[str, Any]) -> dict[str, Any]:
    return {"edgecolor": chosen["color"], "linewidth": 1.6}
