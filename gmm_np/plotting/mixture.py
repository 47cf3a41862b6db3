"""Data and a mixture in one or two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray, check_x
from gmm_np.inference import StandardErrors
from gmm_np.plotting.canvas import (
    EDGE,
    axis_names,
    draw_some,
    dress,
    equal_units,
    legend_beside,
    new_figure,
    with_fonts,
)
from gmm_np.plotting.components import (
    Mixture,
    component_handles,
    describe_ellipses,
    draw_densities,
    draw_ellipses,
    draw_points,
    ellipse,
    mark_means,
)
from gmm_np.plotting.errors import (
    SMALL,
    MeanErrors,
    draw_mean_intervals,
    draw_mean_regions,
    interval_handle,
    region_handle,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BANDS: Final = ((0.95, "#F0F0F0"), (0.80, "#E0E0E0"), (0.50, "#CACACA"))  # share held, grey


def plot_mixture(
    x: ArrayLike,
    model: Any,
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    aspect: Literal["equal", "auto"] = "auto",
    errors: StandardErrors | None = None,
    level: float = 0.95,
    max_points: int = 5000,
    seed: int = 0,
) -> Figure:
    """Draw data and a mixture: in two dimensions contours and ellipses, in one a histogram.

    Each sample bears the marker of the component most likely to have made it. Each component has
    its mean and its ellipses at one and two standard deviations, and its weight in the legend; one
    with a logit of -inf is off, and not drawn. Grey bands end at the levels of the mixture's
    density that hold 50, 80 and 95 % of the samples drawn.

    Parameters
    ----------
    x : array_like, shape [N, D]
        Data, D = 1 or 2.
    model : Parameters or fitted GaussianMixture
        Of any covariance family.
    labels : sequence of str, length D, optional
        Names of the axes, as plain text; "x1" and "x2" by default.
    title : str, optional
        Plain text as well.
    aspect : {"equal", "auto"}
        In two dimensions, whether a unit is as long on one axis as on the other, which suits
        columns in the same unit.
    errors : StandardErrors, optional
        Of the model: in one dimension each mean has its interval, in two the ellipse that holds it.
    level : float
        Of intervals and ellipses, the probability that one has the true mean in it.
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
    TypeError
        If `model` is neither parameters nor fitted.
    ValueError
        If D is neither 1 nor 2, or `x`, `model`, `labels` and `errors` disagree.
    """
    mixture = Mixture.of(model)
    data = check_x(x, mixture.means.shape[1])  # [N, D]
    n_features = data.shape[1]
    if n_features > 2:
        raise ValueError(
            f"plot_mixture draws D = 1 or 2 dimensions; got D = {n_features}. Use plot_pairs, "
            "which draws every two of them."
        )
    names = axis_names(labels, n_features)
    of_means = None if errors is None else MeanErrors.of(errors, mixture, level)
    data = draw_some(data, max_points, seed)
    figure = new_figure()
    axes = figure.add_subplot()
    draw = _draw_line if n_features == 1 else _draw_plane
    handles = draw(axes, data, mixture, of_means)
    dress(axes, names[0], [*names, "density"][1], title)
    legend_beside(figure, handles)
    if aspect == "equal" and n_features == 2:
        equal_units(figure, axes)
    return with_fonts(figure)


def _draw_plane(
    axes: Axes, data: FloatArray, mixture: Mixture, errors: MeanErrors | None
) -> list[Artist]:
    """Draw two dimensions; return what goes into the legend."""
    log_density, resp = mixture.evaluate(data)  # [N], [N, K]
    gaussians = zip(mixture.means, mixture.factors, strict=True)
    shown = np.concatenate([data, *(ellipse(*gaussian, 2.6) for gaussian in gaussians)])
    bands = _draw_bands(axes, mixture, shown, log_density)
    draw_points(axes, data, resp.argmax(axis=1), mixture)
    draw_ellipses(axes, mixture, (1, 2))
    mark_means(axes, mixture, mixture.means, size=10 if errors is None else SMALL)
    if errors is not None:
        draw_mean_regions(axes, mixture, errors)
        bands.insert(0, region_handle(errors))
    return component_handles(mixture, describe_ellipses((1, 2))) + bands


def _draw_bands(
    axes: Axes, mixture: Mixture, shown: FloatArray, log_density: FloatArray
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
                *grid, height, [level], colors=[EDGE], linestyles="solid", linewidths=0.7, zorder=1
            )
            label = f"densest region with\n{share:.0%} of the rows in it"
            handles.insert(0, Patch(facecolor=grey, edgecolor=EDGE, label=label))
    return handles


def _draw_line(
    axes: Axes, data: FloatArray, mixture: Mixture, errors: MeanErrors | None
) -> list[Artist]:
    """Draw one dimension; return what goes into the legend."""
    more = draw_densities(axes, data, mixture)
    places = np.column_stack([mixture.means, mixture.densities_at_means()])
    mark_means(axes, mixture, places, size=10 if errors is None else SMALL)
    if errors is not None:
        draw_mean_intervals(axes, mixture, places, errors)
        more.insert(0, interval_handle(errors))
    return component_handles(mixture, "weighted density, its mean") + more
