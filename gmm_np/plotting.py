"""Pictures of a mixture over its data. Matplotlib is imported only when a function is called.

The figures are made with `matplotlib.figure.Figure` and the Agg canvas, never with pyplot, so that
nothing global changes and threads may draw at the same time. Components differ in colour, marker,
line style and hatching, so that a print in grey says the same.

Letters in shapes: N samples, K components (those that are on), D dimensions, P points.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax

from gmm_np.checks import FloatArray, check_x
from gmm_np.likelihood import log_prob, responsibilities
from gmm_np.parameters import Parameters

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ellipse", "plot_mixture", "save_figure"]

# Okabe and Ito's palette, which colour-blind eyes tell apart, without its yellow: pale on white.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# 9 markers, 5 styles and 4 hatches: without any colour 180 components differ.
_MARKERS: Final = ("o", "^", "s", "D", "v", "P", "X", "<", ">")
_STYLES: Final = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
_HATCHES: Final = ("///", "\\\\\\", "|||", "---")
_BANDS: Final = ((0.95, "#F0F0F0"), (0.80, "#E0E0E0"), (0.50, "#CACACA"))  # share held, grey
_EDGE: Final = "#A0A0A0"
_GRID: Final = 200  # points an axis, before those that follow the components
_NAMED: Final = 12  # components with a weight beside them and a line in the legend


def ellipse(mean: ArrayLike, factor: ArrayLike, radius: float, n_points: int = 181) -> FloatArray:
    """Points at Mahalanobis distance `radius` from the mean of a two-dimensional Gaussian.

    With the singular value decomposition L = U S V^T the covariance L L^T has the axes U and the
    standard deviations S along them: the ellipse is a circle stretched by S and turned by U.

    Parameters
    ----------
    mean : array_like, shape [2]
    factor : array_like, shape [2, 2]
        Any L with covariance L L^T.
    radius : float
        In standard deviations.
    n_points : int

    Returns
    -------
    ndarray, shape [n_points, 2]
        A closed curve: the last point is the first.
    """
    directions, deviations, _ = np.linalg.svd(np.asarray(factor, dtype=np.float64))  # [2, 2], [2]
    angle = np.linspace(0.0, 2.0 * np.pi, n_points)
    circle = np.stack([np.cos(angle), np.sin(angle)])  # [2, P]
    return np.asarray(np.asarray(mean) + radius * ((directions * deviations) @ circle).T)


def plot_mixture(
    x: ArrayLike,
    parameters: Parameters,
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    max_points: int = 5000,
    seed: int = 0,
) -> Figure:
    """Draw data and a mixture: in two dimensions contours and ellipses, in one a histogram.

    Each sample bears the marker of the component most likely to have made it. Each component has
    its mean, its weight, and its ellipses at one and two standard deviations; one with a logit of
    -inf is off, and not drawn. Grey bands end at the levels of the mixture's density that hold
    50, 80 and 95 % of the samples drawn.

    Parameters
    ----------
    x : array_like, shape [N, D]
        Data, D = 1 or 2.
    parameters : Parameters
        With Cholesky factors [K, D, D].
    labels : sequence of str, length D, optional
        Names of the axes, as plain text; "x1" and "x2" by default.
    title : str, optional
        Plain text as well.
    max_points : int
        Of more samples than that, as many are drawn at random.
    seed : int
        Of that draw.

    Returns
    -------
    matplotlib.figure.Figure
        For `save_figure`, or for more artists of your own.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If D is neither 1 nor 2, or `x`, `parameters` and `labels` disagree.
    """
    data = check_x(x, parameters.n_features)  # [N, D]
    n_features = data.shape[1]
    if n_features > 2:
        raise ValueError(
            f"plot_mixture draws D = 1 or 2 dimensions; got D = {n_features}. Fit and plot two "
            "columns at a time, x[:, [i, j]]; pair plots are not there yet."
        )
    if parameters.scale.ndim != 3:
        raise ValueError(
            f"plot_mixture needs Cholesky factors [K, D, D]; got a scale of shape "
            f"{parameters.scale.shape}, family {parameters.family!r}. Give each component its "
            "factor."
        )
    names = [f"x{j + 1}" for j in range(n_features)] if labels is None else list(labels)
    if len(names) != n_features:
        raise ValueError(f"labels must have one name for each of D = {n_features}; got {names}.")
    if max_points < 1:
        raise ValueError(f"max_points must be at least 1; got {max_points}.")
    if len(data) > max_points:
        chosen = np.random.default_rng(seed).choice(len(data), max_points, replace=False)
        data = data[np.sort(chosen)]

    figure = _new_figure()
    axes = figure.add_subplot()
    draw = _draw_line if n_features == 1 else _draw_plane
    handles = draw(axes, data, _Mixture.of(parameters))
    axes.set_xlabel(names[0], fontsize=12, parse_math=False)  # names come from files: $ is a dollar
    axes.set_ylabel([*names, "density"][1], fontsize=12, parse_math=False)
    axes.set_title(title or "", fontsize=14, loc="left", pad=10, parse_math=False)
    axes.tick_params(labelsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        fontsize=10,
        frameon=False,
        labelspacing=0.9,
        handlelength=3.2,
    )
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure whole or not at all, in the format that the path's suffix names.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : str or path-like
        PNG if it has no suffix. A file that is there is replaced, at the very end.

    Raises
    ------
    ValueError
        If matplotlib cannot write that format.
    OSError
        If the file cannot be written.
    """
    target = Path(os.path.realpath(path))  # a link stays, and what it points to is replaced
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target}: there is no directory {target.parent}; create it first")
    temporary = target.with_name(f".{uuid4().hex}.part")
    try:
        with temporary.open("xb") as stream:
            figure.savefig(stream, format=target.suffix[1:] or "png")
            stream.flush()
            os.fsync(stream.fileno())  # else a crash may keep the new name and lose the bytes
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _new_figure() -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plotting needs matplotlib: pip install "gmm_np[cli]"') from error
    figure = Figure(figsize=(8.4, 5.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


class _Mixture(NamedTuple):
    """The components that are on, with their numbers from 1."""

    numbers: list[int]
    pi: FloatArray  # [K]
    logits: FloatArray  # [K]
    means: FloatArray  # [K, D]
    factors: FloatArray  # [K, D, D]

    @classmethod
    def of(cls, parameters: Parameters) -> _Mixture:
        logits = parameters.pi_logits.astype(np.float64)
        on = np.flatnonzero(~np.isneginf(logits))
        arrays = (softmax(logits), logits, parameters.means, parameters.scale)
        return cls((on + 1).tolist(), *(array[on].astype(np.float64) for array in arrays))

    def evaluate(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log density of the mixture [P] and responsibilities [P, K]."""
        mixture = (self.logits, self.means, self.factors)
        return log_prob(x, *mixture), responsibilities(x, *mixture)

    def ticks(self, axis: int, shown: FloatArray) -> FloatArray:
        """Grid [P] along an axis over what is shown, with a margin, finer around the means."""
        low, high = shown[:, axis].min(), shown[:, axis].max()
        margin = 0.04 * (high - low)
        low, high = low - margin, high + margin
        deviation = np.linalg.norm(self.factors[:, axis], axis=-1)  # [K]
        near = self.means[:, axis] + np.linspace(-3.0, 3.0, 31)[:, None] * deviation
        ticks = np.unique(np.append(np.linspace(low, high, _GRID), near.clip(low, high)))
        if len(ticks) > 2 * _GRID:  # many components: a grid that suits them all would be too large
            ticks = ticks[np.linspace(0, len(ticks) - 1, 2 * _GRID).astype(int)]
        return np.asarray(ticks)


def _look(number: int) -> dict[str, Any]:
    looks = {"color": _COLOURS, "marker": _MARKERS, "linestyle": _STYLES, "hatch": _HATCHES}
    return {name: choices[(number - 1) % len(choices)] for name, choices in looks.items()}


def _draw_plane(axes: Axes, data: FloatArray, mixture: _Mixture) -> list[Artist]:
    """Draw two dimensions; return what goes into the legend."""
    from matplotlib.patches import Polygon
    from matplotlib.patheffects import withStroke

    log_density, resp = mixture.evaluate(data)  # [N], [N, K]
    owner = resp.argmax(axis=1)  # [N]
    gaussians = list(zip(mixture.means, mixture.factors, strict=True))
    shown = np.concatenate([data, *(ellipse(*gaussian, 2.6) for gaussian in gaussians)])
    bands = _draw_bands(axes, mixture, shown, log_density)
    for k, number in enumerate(mixture.numbers):
        look = _look(number)
        points = axes.scatter(*data[owner == k].T, marker=look["marker"], color=look["color"])
        points.set(sizes=[np.clip(6000 / len(data), 6, 24)], alpha=0.6, zorder=3)
        points.set(edgecolor="white", linewidth=0.3, gid=f"data {number}")
        for radius, width in ((1, 2.2), (2, 1.3)):
            curve = Polygon(ellipse(*gaussians[k], radius), fill=False, zorder=4)
            curve.set(edgecolor=look["color"], linestyle=look["linestyle"], linewidth=width)
            curve.set(path_effects=[withStroke(linewidth=width + 1.5, foreground="white")])
            curve.set(gid=f"ellipse {number} {radius}")
            axes.add_patch(curve)
        inside = Polygon(ellipse(*gaussians[k], 1), fill=False, linewidth=0, zorder=2)
        inside.set(edgecolor=look["color"], hatch=look["hatch"], alpha=0.3)
        axes.add_patch(inside)
    return _draw_means(axes, mixture, mixture.means, "mean, 1σ and 2σ ellipse") + bands


def _draw_bands(
    axes: Axes, mixture: _Mixture, shown: FloatArray, log_density: FloatArray
) -> list[Artist]:
    """Draw the regions of highest density that hold given shares of the samples."""
    from matplotlib.patches import Patch

    grid = [mixture.ticks(axis, shown) for axis in (0, 1)]
    points = np.stack(np.meshgrid(*grid), axis=-1)  # [P1, P0, 2]
    height = mixture.evaluate(points.reshape(-1, 2))[0].reshape(points.shape[:2])
    axes.set(xlim=grid[0][[0, -1]], ylim=grid[1][[0, -1]])
    handles: list[Artist] = []
    for share, grey in _BANDS:
        # As many samples as that have at least this density: the level is one of their own.
        level = np.quantile(log_density, 1.0 - share, method="lower")
        if height.min() < level < height.max():
            # In logarithms, where a Gaussian is a parabola, straight lines between points err less.
            axes.contourf(*grid, height, [level, np.inf], colors=[grey], zorder=0)
            axes.contour(
                *grid, height, [level], colors=[_EDGE], linestyles="solid", linewidths=0.7, zorder=1
            )
            label = f"holds {share:.0%} of the data"
            handles.insert(0, Patch(facecolor=grey, edgecolor=_EDGE, label=label))
    return handles


def _draw_line(axes: Axes, data: FloatArray, mixture: _Mixture) -> list[Artist]:
    """Draw one dimension; return what goes into the legend."""
    bins = np.histogram(data, int(np.clip(1.5 * np.sqrt(len(data)), 10, 80)), density=True)
    bars = axes.stairs(*bins, fill=True, color="#DCDCDC", label="data")
    reach = np.concatenate([s * mixture.factors[:, :, 0] for s in (-3.0, 3.0)])
    shown = np.concatenate([data, np.tile(mixture.means, (2, 1)) + reach])
    ticks = mixture.ticks(0, shown)  # [P]
    log_density, resp = mixture.evaluate(ticks[:, None])
    height = np.exp(log_density)  # [P]
    (total,) = axes.plot(ticks, height, color="#A0A0A0", linewidth=5.0, label="mixture density")
    for k, number in enumerate(mixture.numbers):
        look = _look(number)
        curve = resp[:, k] * height
        axes.plot(ticks, curve, color=look["color"], linestyle=look["linestyle"], linewidth=1.8)
        area = axes.fill_between(ticks, curve, facecolor="none", linewidth=0, alpha=0.3)
        area.set(edgecolor=look["color"], hatch=look["hatch"])
    log_density, resp = mixture.evaluate(mixture.means)
    peaks = np.exp(log_density) * resp.diagonal()  # [K]
    axes.set(xlim=ticks[[0, -1]], ylim=(0.0, 1.12 * max(height.max(), bins[0].max())))
    places = np.column_stack([mixture.means, peaks])  # [K, 2]
    return [*_draw_means(axes, mixture, places, "weighted density, its mean"), total, bars]


def _draw_means(axes: Axes, mixture: _Mixture, places: FloatArray, what: str) -> list[Artist]:
    """Mark the means, write the weights beside the heaviest, and return these for the legend."""
    from matplotlib.lines import Line2D

    named = np.sort(np.argsort(-mixture.pi, kind="stable")[:_NAMED])
    handles: list[Artist] = []
    for k, (number, place) in enumerate(zip(mixture.numbers, places, strict=True)):
        look = _look(number)
        del look["hatch"]
        (mark,) = axes.plot(*place[:, None], **look, linewidth=2.0, markersize=10, zorder=5)
        mark.set(markerfacecolor="white", markeredgewidth=2.0, gid=f"mean {number}")
        if k in named:
            # Only the first line says what all of them show.
            mark.set_label(f"component {number}" + ("" if handles else f":\n{what}"))
            handles.append(mark)
            note = axes.annotate(rf"$\pi_{{{number}}} = {mixture.pi[k]:.3g}$", tuple(place))
            note.set(anncoords="offset points", position=(0, 11), ha="center", va="bottom")
            note.set(fontsize=11 if len(named) <= 6 else 9, zorder=6)
            note.set_bbox(
                {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": look["color"]}
            )
    if len(mixture.pi) > len(named):
        rest = f"and {len(mixture.pi) - len(named)} of less weight"
        handles.append(Line2D([], [], linestyle="none", label=rest))
    return handles
