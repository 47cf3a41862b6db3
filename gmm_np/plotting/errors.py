"""What the means of a mixture are known to: intervals in one dimension, regions in two.

Letters in shapes: K components (those that are on), D dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.inference import StandardErrors
from gmm_np.plotting.canvas import look
from gmm_np.plotting.components import Mixture, ellipse

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_OPACITY: Final = 0.25
SMALL: Final = 5  # markers of means that do not hide what these are known to


class MeanErrors(NamedTuple):
    """How the estimates of the means scatter, and the level of what is drawn of that."""

    covariances: FloatArray  # [K, D, D]
    level: float

    @classmethod
    def of(cls, errors: StandardErrors, mixture: Mixture, level: float) -> MeanErrors:
        """Take those of the components that are on; ValueError if they are of another mixture."""
        errors.intervals(level)  # looks at the level
        k, d = errors.means.shape
        means = errors.parameters.means.astype(np.float64)
        shape = (len(mixture.numbers), d)
        if mixture.means.shape != shape or not (
            max(mixture.numbers) < k and np.allclose(means[mixture.numbers], mixture.means)
        ):
            raise ValueError(
                "errors are of another mixture than model; give those of "
                "gmm_np.standard_errors(x, model.parameters_)."
            )
        blocks = errors.covariance[k : k + k * d, k : k + k * d].reshape(k, d, k, d)
        return cls(np.stack([blocks[i, :, i] for i in mixture.numbers]), level)

    def marginal(self, axes: list[int]) -> MeanErrors:
        """Return those of some of the dimensions."""
        return self._replace(covariances=self.covariances[:, axes][:, :, axes])


def draw_mean_regions(axes: Axes, mixture: Mixture, errors: MeanErrors) -> None:
    """Draw the ellipse that holds the true mean with the level's probability, by the normal law."""
    from matplotlib.patches import Polygon

    radius = float(np.sqrt(-2.0 * np.log1p(-errors.level)))  # of chi-square with two degrees
    for number, mean, covariance in zip(
        mixture.numbers, mixture.means, errors.covariances, strict=True
    ):
        values, vectors = np.linalg.eigh(covariance)
        factor = vectors * np.sqrt(np.maximum(values, 0.0))
        chosen = look(number)
        region = Polygon(ellipse(mean, factor, radius), fill=True, zorder=6)
        region.set(facecolor=(chosen["color"], _OPACITY), edgecolor=chosen["color"], linewidth=1.4)
        region.set(linestyle=chosen["linestyle"], gid=f"region {number}")
        axes.add_patch(region)


def draw_mean_intervals(
    axes: Axes, mixture: Mixture, places: FloatArray, errors: MeanErrors
) -> None:
    """Draw, at places [K, 2], the intervals that hold means with the level's probability."""
    from scipy.special import ndtri

    reach = ndtri(0.5 + 0.5 * errors.level) * np.sqrt(errors.covariances[:, 0, 0])  # [K]
    for number, (mean, height), half in zip(mixture.numbers, places, reach, strict=True):
        colour, ends = look(number)["color"], [mean - half, mean + half]
        (bar,) = axes.plot(ends, [height, height], color=colour, linewidth=2.2, zorder=6)
        bar.set(marker="|", markersize=11, markeredgewidth=2.2, gid=f"interval {number}")


def region_handle(errors: MeanErrors, more: str = "") -> Artist:
    """Return the line of the legend that says what the regions are."""
    from matplotlib.patches import Patch

    label = f"{100 * errors.level:g}% confidence region\nof a mean{more}"
    return Patch(facecolor=("black", _OPACITY), edgecolor="black", label=label)


def interval_handle(errors: MeanErrors) -> Artist:
    """Return the line of the legend that says what the intervals are."""
    from matplotlib.lines import Line2D

    label = f"{100 * errors.level:g}% confidence interval\nof a mean"
    return Line2D([], [], color="black", linewidth=2.2, label=label)
