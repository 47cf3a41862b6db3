"""The components of a mixture as pictures need them, and how each of them is drawn.

Letters in shapes: N samples, K components (those that are on), D dimensions, P points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax

from gmm_np.checks import FloatArray
from gmm_np.covariance import FAMILIES
from gmm_np.likelihood import log_prob, responsibilities
from gmm_np.parameters import Parameters
from gmm_np.plotting.canvas import line_look, look

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

NAMED: Final = 12  # components with a line in the legend
_GRID: Final = 200  # points an axis, before those that follow the components


def ellipse(mean: ArrayLike, factor: ArrayLike, radius: float, n_points: int = 181) -> FloatArray:
    """Points at Mahalanobis distance `radius` from the mean of a two-dimensional Gaussian.

    With the singular value decomposition L = U S V^T the covariance L L^T has the axes U and the
    standard deviations S along them: the ellipse is a circle stretched by S and turned by U.

    Parameters
    ----------
    mean : array_like, shape [2]
    factor : array_like, shape [2, D]
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


class Mixture(NamedTuple):
    """The components that are on, with their numbers from 0."""

    numbers: list[int]
    pi: FloatArray  # [K]
    logits: FloatArray  # [K]
    means: FloatArray  # [K, D]
    factors: FloatArray  # [K, D, D]

    @classmethod
    def of(cls, model: Any) -> Mixture:
        """Take the components from `Parameters`, or from a fitted estimator."""
        parameters = _parameters_of(model)
        logits, means, scale = (
            array.astype(np.float64)
            for array in (parameters.pi_logits, parameters.means, parameters.scale)
        )
        factors = FAMILIES[parameters.family].expand(scale, *means.shape)
        on = np.flatnonzero(~np.isneginf(logits))
        arrays = (softmax(logits), logits, means, factors)
        return cls(on.tolist(), *(array[on] for array in arrays))

    def evaluate(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log density of the mixture [P] and responsibilities [P, K]."""
        mixture = (self.logits, self.means, self.factors)
        return log_prob(x, *mixture), responsibilities(x, *mixture)

    def densities_at_means(self) -> FloatArray:
        """Weighted density of each component of one dimension at its own mean, [K]."""
        log_density, resp = self.evaluate(self.means)
        return np.asarray(np.exp(log_density) * resp.diagonal())

    def marginal(self, axes: list[int]) -> Mixture:
        """Return the mixture of some of the dimensions, with factors [K, d, d]."""
        rows = self.factors[:, axes]  # [K, d, D], whose rows have the covariances that are wanted
        triangle = np.linalg.qr(rows.swapaxes(1, 2))[1].swapaxes(1, 2)  # [K, d, d], up to signs
        signs = np.sign(np.diagonal(triangle, axis1=1, axis2=2))
        return self._replace(means=self.means[:, axes], factors=triangle * signs[:, None, :])

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

    def heaviest(self) -> FloatArray:
        """Places, in order, of the components of which a picture says the weight."""
        return np.sort(np.argsort(-self.pi, kind="stable")[:NAMED])


def _parameters_of(model: Any) -> Parameters:
    """Return the parameters of a mixture, or of an estimator with scikit-learn's attributes."""
    if isinstance(model, Parameters):
        return model
    if hasattr(model, "parameters_"):
        return cast(Parameters, model.parameters_)
    try:
        return Parameters.from_covariances(
            model.weights_, model.means_, model.covariances_, model.covariance_type
        )
    except AttributeError as error:
        raise TypeError(
            "model must be gmm_np.Parameters or a fitted GaussianMixture; got "
            f"{type(model).__name__} without {error.name!r}. Call fit first."
        ) from None


def draw_points(axes: Axes, data: FloatArray, owner: FloatArray, mixture: Mixture) -> None:
    """Draw each sample [N, 2] with the marker of its owner [N]."""
    for k, number in enumerate(mixture.numbers):
        chosen = look(number)
        points = axes.scatter(*data[owner == k].T, marker=chosen["marker"], color=chosen["color"])
        points.set(sizes=[np.clip(6000 / len(data), 6, 24)], alpha=0.6, zorder=3)
        points.set(edgecolor="white", linewidth=0.3, gid=f"data {number}")


def draw_ellipses(axes: Axes, mixture: Mixture, radii: tuple[int, ...], thin: float = 1.0) -> None:
    """Draw the ellipses at these numbers of standard deviations of a mixture in two dimensions."""
    from matplotlib.patches import Polygon
    from matplotlib.patheffects import withStroke

    gaussians = zip(mixture.numbers, mixture.means, mixture.factors, strict=True)
    for number, mean, factor in gaussians:
        chosen = look(number)
        for radius in radii:
            width = thin * (2.2 if radius == 1 else 1.3)
            curve = Polygon(ellipse(mean, factor, radius), fill=False, zorder=4)
            curve.set(edgecolor=chosen["color"], linestyle=chosen["linestyle"], linewidth=width)
            curve.set(path_effects=[withStroke(linewidth=width + 1.5, foreground="white")])
            curve.set(gid=f"ellipse {number} {radius}")
            axes.add_patch(curve)


def draw_densities(axes: Axes, data: FloatArray, mixture: Mixture) -> list[Artist]:
    """Draw one dimension: histogram, density and its parts; return mixture and bars."""
    bins = np.histogram(data, int(np.clip(1.5 * np.sqrt(len(data)), 10, 80)), density=True)
    bars = axes.stairs(*bins, fill=True, color="#DCDCDC", label="data")
    reach = np.concatenate([s * mixture.factors[:, :, 0] for s in (-3.0, 3.0)])
    shown = np.concatenate([data, np.tile(mixture.means, (2, 1)) + reach])
    ticks = mixture.ticks(0, shown)  # [P]
    log_density, resp = mixture.evaluate(ticks[:, None])
    height = np.exp(log_density)  # [P]
    (total,) = axes.plot(ticks, height, color="#A0A0A0", linewidth=5.0, label="mixture density")
    for k, number in enumerate(mixture.numbers):
        chosen = look(number)
        curve = resp[:, k] * height
        axes.plot(ticks, curve, color=chosen["color"], linestyle=chosen["linestyle"], linewidth=1.8)
    axes.set(xlim=ticks[[0, -1]], ylim=(0.0, 1.12 * max(height.max(), bins[0].max())))
    return [total, bars]


def component_handles(mixture: Mixture, what: str = "") -> list[Artist]:
    """Lines of a legend for the heaviest components; the first says what all show."""
    from matplotlib.lines import Line2D

    handles: list[Artist] = []
    heaviest = mixture.heaviest()
    for k in heaviest:
        number = mixture.numbers[k]
        label = f"component {number}, weight {mixture.pi[k]:.3g}"
        label += f":\n{what}" if what and not handles else ""
        line = Line2D([], [], **line_look(number), linewidth=2.0, markersize=10, label=label)
        line.set(markerfacecolor="white", markeredgewidth=2.0)
        handles.append(line)
    if len(mixture.pi) > len(heaviest):
        rest = f"and {len(mixture.pi) - len(heaviest)} of less weight"
        handles.append(Line2D([], [], linestyle="none", label=rest))
    return handles


def describe_ellipses(radii: tuple[int, ...]) -> str:
    """Say what ellipses at these numbers of standard deviations are."""
    shares = [f"{1.0 - np.exp(-0.5 * radius**2):.0%}" for radius in radii]  # of two dimensions
    many = "ellipses" if len(shares) > 1 else "ellipse"
    return f"its mean, and {many} with\n{' and '.join(shares)} of its rows inside"


def mark_means(axes: Axes, mixture: Mixture, places: FloatArray, size: float = 10) -> None:
    """Draw the marker of each component at its place [K, 2]."""
    for number, place in zip(mixture.numbers, places, strict=True):
        (mark,) = axes.plot(*place[:, None], **line_look(number), markersize=size, zorder=5)
        mark.set(markerfacecolor="white", markeredgewidth=0.2 * size, gid=f"mean {number}")
