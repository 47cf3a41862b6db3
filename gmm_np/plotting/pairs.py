"""Every two of the dimensions of data and a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill, wrap
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import check_x
from gmm_np.inference import StandardErrors
from gmm_np.plotting.canvas import (
    axis_names,
    draw_some,
    dress,
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
    mark_means,
)
from gmm_np.plotting.errors import (
    MeanErrors,
    draw_mean_intervals,
    draw_mean_regions,
    region_handle,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LARGEST: Final = 8  # dimensions: more panels than 36 are too small to read
_NAMED: Final = 12  # columns that are left out and named


def plot_pairs(
    x: ArrayLike,
    model: Any,
    *,
    dimensions: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    errors: StandardErrors | None = None,
    level: float = 0.95,
    max_points: int = 2000,
    seed: int = 0,
) -> Figure:
    """Draw the data and the mixture's marginals for every two dimensions.

    Below the diagonal each panel has the samples, with the marker of the component most likely to
    have made them (all dimensions considered), and the components' ellipses at one and two
    standard deviations, of more than four dimensions only at two. On the diagonal are a histogram,
    the mixture's density and its parts.

    Parameters
    ----------
    x : array_like, shape [N, D]
    model : Parameters or fitted GaussianMixture
    dimensions : sequence of int, optional
        Which to draw, from 0, at most 8; the first 8 by default. The legend names
        those that are left out.
    labels : sequence of str, length D, optional
    title : str, optional
    errors : StandardErrors, optional
    level : float
    max_points, seed : int
        As in `plot_mixture`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError, TypeError, ValueError
        As `plot_mixture` does, and for dimensions that are not there, repeated or too many.
    """
    mixture = Mixture.of(model)
    data = check_x(x, mixture.means.shape[1])  # [N, D]
    n_features = data.shape[1]
    chosen = list(range(min(n_features, _LARGEST)) if dimensions is None else dimensions)
    if not 1 <= len(set(chosen)) == len(chosen) <= _LARGEST or not all(
        0 <= d < n_features for d in chosen
    ):
        raise ValueError(
            f"dimensions must be 1 to {_LARGEST} different numbers from 0 to D - 1 = "
            f"{n_features - 1}; got {chosen}."
        )
    names = axis_names(labels, n_features)
    of_means = None if errors is None else MeanErrors.of(errors, mixture, level)
    data = draw_some(data, max_points, seed)
    owner = mixture.evaluate(data)[1].argmax(axis=1)  # [N]
    size = len(chosen)
    side = float(np.clip(11.0 / size, 1.8, 3.0))
    radii = (1, 2) if size <= 4 else (2,)  # in small panels more would be a tangle
    figure = new_figure(side * size + 2.2, side * size + 0.6)
    panels = figure.subplots(size, size, squeeze=False)
    for i, row in enumerate(chosen):
        for j, column in enumerate(chosen):
            axes = panels[i, j]
            if j > i:
                axes.set_axis_off()
                continue
            if i == j:
                part = mixture.marginal([row])
                extra = draw_densities(axes, data[:, [row]], part)
                axes.set_yticks([])
                if of_means is not None:
                    places = np.column_stack([part.means, part.densities_at_means()])
                    draw_mean_intervals(axes, part, places, of_means.marginal([row]))
            else:
                part = mixture.marginal([column, row])
                draw_points(axes, data[:, [column, row]], owner, mixture)
                draw_ellipses(axes, part, radii, thin=0.7)
                mark_means(axes, part, part.means, size=6 if of_means is None else 3)
                if of_means is not None:
                    draw_mean_regions(axes, part, of_means.marginal([column, row]))
            dress(axes, _beside(names[column], side) if i == size - 1 else "", "")
            if j == 0:
                name = _beside(names[row], side) if i else "density"
                axes.set_ylabel(name, fontsize=12, parse_math=False)
            axes.tick_params(labelsize=8, labelbottom=i == size - 1, labelleft=j == 0 and i > 0)
    for i in range(size):  # the scale of the diagonal, which shows all components, holds below it
        for j in range(i):
            panels[i, j].set(xlim=panels[j, j].get_xlim(), ylim=panels[i, i].get_xlim())
    figure.suptitle(title or "", fontsize=14, x=0.01, ha="left", parse_math=False)
    what = f"{describe_ellipses(radii)};\non the diagonal its density"
    handles = component_handles(mixture, what) + extra
    if of_means is not None:
        handles.append(region_handle(of_means, ";\non the diagonal interval"))
    left_out = describe_left_out(names, chosen)
    if left_out is not None:
        from matplotlib.lines import Line2D

        note = "\n".join(fill(line, 34) for line in left_out.split(": "))
        handles.append(Line2D([], [], linestyle="none", label=note))
    legend_beside(figure, handles)
    return with_fonts(figure)


def _beside(name: str, side: float) -> str:
    """Return a column's name on so few and short lines that it stands by its panel alone."""
    width = int(9.5 * side)  # characters of 12 points
    lines = wrap(name, width) or [name]
    last = lines[1][: width - 1] + "…" if len(lines) > 2 else "".join(lines[1:])
    return "\n".join([lines[0], last] if last else lines)


def describe_left_out(names: Sequence[str], chosen: Sequence[int] | None = None) -> str | None:
    """Say which columns `plot_pairs` leaves out of its picture; None if none."""
    drawn = range(min(len(names), _LARGEST)) if chosen is None else chosen
    others = [name for d, name in enumerate(names) if d not in drawn]
    if not others:
        return None
    more = len(others) - _NAMED
    listed = ", ".join(others[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"{len(drawn)} of {len(names)} columns are drawn, all but: {listed}"
