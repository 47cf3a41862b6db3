"""Each component's own contours, the more opaque the more it weighs; and pictures in a row."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray, check_x
from gmm_np.files import atomic_write
from gmm_np.plotting.canvas import (
    NEEDS_MATPLOTLIB,
    axis_names,
    draw_some,
    dress,
    equal_units,
    legend_beside,
    look,
    new_figure,
    pale,
)
from gmm_np.plotting.components import Mixture, component_handles, ellipse

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HELD: Final = (0.25, 0.5, 0.75, 0.95)  # share of a component inside each of its contours
_EQUAL: Final = 0.7  # opacity of a component with a weight of 1/K
_FAINTEST: Final = 0.12  # what is on can be seen


def plot_contours(
    x: ArrayLike,
    model: Any,
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None,
    aspect: Literal["equal", "auto"] = "equal",
    max_points: int = 5000,
    seed: int = 0,
) -> Figure:
    """Draw two-dimensional data and the contours of each component, opaque by its weight.

    A component's contours are the ellipses that hold 25, 50, 75 and 95 % of it. A weight of
    1/K is drawn with an opacity of 0.7, one near 0 is hardly seen, and one of 1 is opaque; so
    components that are not needed fade.

    Parameters
    ----------
    x : array_like, shape [N, 2]
    model : Parameters or fitted GaussianMixture
        Of any covariance family.
    labels : sequence of str, length 2, optional
        Names of the axes, as plain text; "x1" and "x2" by default.
    title : str, optional
        Plain text as well.
    limits : pair of pairs of float, optional
        Least and largest value shown of the first and of the second dimension; by default what
        shows all data and contours. The same limits make pictures that can follow each other.
    aspect : {"equal", "auto"}
        Whether a unit is as long on one axis as on the other; "auto" is for columns in units of
        their own.
    max_points, seed : int
        As in `plot_mixture`.

    Returns
    -------
    matplotlib.figure.Figure
        For `save_figure` and `save_animation`.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If `model` is neither parameters nor fitted.
    ValueError
        If D is not 2, or `x`, `model` and `labels` disagree.
    """
    mixture = Mixture.of(model)
    data = check_x(x, mixture.means.shape[1])  # [N, 2]
    if data.shape[1] != 2:
        raise ValueError(
            f"plot_contours draws D = 2 dimensions; got D = {data.shape[1]}. Use plot_mixture for "
            "one, plot_pairs for more."
        )
    names = axis_names(labels, 2)
    data = draw_some(data, max_points, seed)
    opacity = _opacity(mixture.pi)  # [K]
    xlim, ylim = _limits(data, mixture) if limits is None else limits
    figure = new_figure()
    axes = figure.add_subplot()
    axes.set(xlim=xlim, ylim=ylim)
    points = axes.scatter(*data.T, color="#909090", linewidth=0, zorder=1, gid="data")
    points.set(sizes=[np.clip(8000 / len(data), 6, 24)], alpha=0.7)
    for k, number in enumerate(mixture.numbers):
        _draw_component(axes, number, mixture.means[k], mixture.factors[k], float(opacity[k]))
    dress(axes, names[0], names[1], title)
    legend_beside(figure, _handles(mixture, opacity))
    if aspect == "equal":
        equal_units(figure, axes)
    return figure


def save_animation(
    figures: Iterable[Figure], path: str | os.PathLike[str], *, fps: int = 4, hold: float = 2.0
) -> None:
    """Write figures one after the other as an animated GIF, whole or not at all.

    Parameters
    ----------
    figures : iterable of matplotlib.figure.Figure
        Of one size. Each is drawn when its turn comes, so that a generator of figures holds one.
    path : str or path-like
        Ends in .gif. A file that is there is replaced, at the very end.
    fps : int
        Figures a second.
    hold : float
        Seconds for which the last one stays before the first comes again.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If there is no figure, their sizes differ, or the path does not end in .gif.
    OSError
        If the file cannot be written.

    Notes
    -----
    `matplotlib.animation.PillowWriter`, which keeps all pictures until the file is written: about
    3 MB each.
    """
    if Path(path).suffix.lower() != ".gif":
        raise ValueError(f"path must end in .gif; got {os.fspath(path)!r}.")
    if fps < 1 or not 0 <= hold < np.inf:
        raise ValueError(f"fps must be at least 1, and hold 0 or more; got {fps} and {hold}.")
    try:
        from matplotlib.animation import PillowWriter
    except ImportError as error:
        raise ImportError(NEEDS_MATPLOTLIB) from error
    writer, size, figure = PillowWriter(fps=fps), None, None
    # The writer wants a path and writes there in parts.
    with atomic_write(path) as stream, TemporaryDirectory() as folder:
        part = Path(folder) / "animation.gif"
        for figure in figures:
            if size is None:
                size = tuple(figure.get_size_inches() * figure.dpi)
                writer.setup(figure, part, dpi=figure.dpi)
            elif size != tuple(figure.get_size_inches() * figure.dpi):
                raise ValueError("figures must have one size, or they cannot follow each other.")
            writer.fig = figure
            writer.grab_frame()
        if figure is None:
            raise ValueError("figures must hold at least one; got none.")
        for _ in range(round(hold * fps)):
            writer.grab_frame()
        writer.finish()
        stream.write(part.read_bytes())


def _opacity(pi: FloatArray) -> FloatArray:
    """Opacity by weight [K]: a power of it, such that 1 is opaque and 1/K has the middle one."""
    if len(pi) == 1:
        return np.ones(1)
    power = np.log(_EQUAL) / -np.log(len(pi))
    return np.asarray(np.maximum(pi**power, _FAINTEST))


def _limits(data: FloatArray, mixture: Mixture) -> list[tuple[float, float]]:
    """Return what shows all data and contours, with a margin, for each dimension."""
    gaussians = zip(mixture.means, mixture.factors, strict=True)
    shown = np.concatenate(
        [data, *(ellipse(*gaussian, _radius(_HELD[-1])) for gaussian in gaussians)]
    )
    low, high = shown.min(axis=0), shown.max(axis=0)
    margin = 0.04 * (high - low)
    return list(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))


def _radius(held: float) -> float:
    """Return the distance within which a two-dimensional Gaussian holds this share of itself."""
    return float(np.sqrt(-2.0 * np.log1p(-held)))  # squared, it is exponential with mean 2


def _draw_component(
    axes: Axes, number: int, mean: FloatArray, factor: FloatArray, opacity: float
) -> None:
    from matplotlib.patches import Polygon

    chosen = look(number)
    for held in _HELD:
        curve = Polygon(ellipse(mean, factor, _radius(held)), fill=False, linewidth=1.5, zorder=2)
        curve.set(edgecolor=chosen["color"], linestyle=chosen["linestyle"], alpha=opacity)
        curve.set_gid(f"contour {number} {held}")
        axes.add_patch(curve)
    (mark,) = axes.plot(*mean[:, None], chosen["marker"], markersize=9, zorder=3)
    mark.set(markerfacecolor="white", markeredgewidth=2.0, gid=f"mean {number}")
    mark.set_markeredgecolor(pale(chosen["color"], opacity))  # transparent, it would show lines


def _handles(mixture: Mixture, opacity: FloatArray) -> list[Artist]:
    """Lines of the legend: the heaviest components, as opaque as they are drawn, and a note."""
    from matplotlib.lines import Line2D

    handles = component_handles(mixture)
    for k, handle in zip(mixture.heaviest(), handles, strict=False):  # a line for the rest follows
        handle.set(color=pale(look(mixture.numbers[k])["color"], float(opacity[k])))
    *shares, last = (f"{100 * held:.0f}" for held in _HELD)
    note = (
        f"Inside its ellipses lie {', '.join(shares)}\nand {last}% of a component's rows;\n"
        "they are opaque by its weight."
    )
    return [*handles, Line2D([], [], linestyle="none", label=note)]
