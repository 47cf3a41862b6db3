"""The pictures of docs/manual_backprop.ipynb. Each function draws on axes that it is given.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.parameters import Gradients, Parameters
from gmm_np.plotting import ellipse

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLOURS",
    "draw_components",
    "draw_descent",
    "draw_graph",
    "draw_mismatch",
    "draw_pulls",
]

# Okabe and Ito's: blue, vermilion, green.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73")
FORWARD: Final = "#0072B2"
BACKWARD: Final = "#B03000"


# --- the computation graph ----------------------------------------------------------------------

# Box: place, text, equations. Inputs have no equation.
_BOXES: Final[dict[str, tuple[float, float, str, str]]] = {
    "a": (0.0, 7.2, "logits a", ""),
    "x": (0.0, 5.2, "data x", ""),
    "mu": (0.0, 3.2, "mean $\\mu_0$", ""),
    "L": (0.0, 0.9, "factor $L_0$", ""),
    "pi": (4.6, 7.2, "log_softmax", "(4)  (16)"),
    "e": (3.3, 4.2, "$e = x - \\mu$", "(6)  (19)"),
    "z": (6.3, 3.0, "solve $L z = e$", "(6)  (18), (20)"),
    "q": (9.9, 3.0, "$q = |z|^2$", "(7)  (18)"),
    "h": (9.9, 0.9, "$h = \\Sigma \\log L_{ii}$", "(8)  (21)"),
    "t": (13.3, 4.6, "$t = \\log\\pi - q/2 - h - c$", "(9)  (17)"),
    "l": (17.7, 4.6, "logsumexp", "(10)  (15)"),
    "f": (21.3, 4.6, "mean", "(11)  (13)"),
    "end": (23.8, 4.6, "loss f", ""),
}
# Edge: from, to, name, shape, forward row, backward row, where its label stands along it and how
# far from it. Rows are names in a walk, or inputs.
_EDGES: Final[tuple[tuple[str, str, str, str, str, str, float, float], ...]] = (
    ("a", "pi", "a", "[K]", "pi_logits", "d_pi_logits", 0.47, 0.0),
    ("x", "e", "x", "[N, D]", "x", "d_residual", 0.56, 0.78),
    ("mu", "e", "$\\mu_0$", "[D]", "means", "d_mean", 0.62, -0.62),
    ("L", "z", "$L_0$", "[D, D]", "scale_tril", "d_factor of the quadratic form", 0.50, -0.35),
    ("L", "h", "$L_0$", "[D, D]", "scale_tril", "d_factor of the determinant", 0.62, 0.0),
    (
        "e", "z", "e", "[N, D]", "residual",
        "d_residual", 0.62, 0.72,
    ),
    ("z", "q", "z", "[N, D]", "z", "", 0.54, 0.0),
    (
        "q", "t", "q", "[N]", "quadratic",
        "d_quadratic", 0.26, 0.85,
    ),
    (
        "h", "t", "h", "[ ]", "half_log_det",
        "d_half_log_det", 0.45, -0.25,
    ),
    (
        "pi", "t", "log $\\pi$", "[K]", "log_pi",
        "d_log_pi", 0.46, 0.0,
    ),
    ("t", "l", "t", "[N, K]", "log_joint", "d_log_joint", 0.54, 0.0),
    (
        "l", "f", "l", "[N]", "log_likelihood",
        "d_log_likelihood", 0.52, 0.0,
    ),
    ("f", "end", "f", "[ ]", "value", "d_value", 0.5, 0.0),
)  # fmt: skip


def draw_graph(axes: Axes, values: Mapping[str, FloatArray]) -> None:
    """Draw the computation for one component: boxes are steps, edges carry values and gradients.

    Above an edge, in blue, what goes forward; below it, in red, the gradient that comes back. The
    second component is a copy of the branch below log_softmax.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    values : mapping of str to ndarray
        By the names of the rows of a walk, those of component 0, and the inputs x,
        pi_logits, means and scale_tril, of component 0 too. N = 2, K = 2 and D = 1 are legible.
    """
    for tail, head, name, shape, forward, backward, along, aside in _EDGES:
        (x0, y0, *_), (x1, y1, *_) = _BOXES[tail], _BOXES[head]
        arrow = {"arrowstyle": "-|>", "color": "#808080", "shrinkA": 34, "shrinkB": 42}
        axes.annotate("", (x1, y1), (x0, y0), arrowprops=arrow, zorder=1)
        x, y = x0 + along * (x1 - x0), y0 + along * (y1 - y0) + aside
        plain = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.9}
        text = f"{name} {shape}\n{_numbers(values[forward])}"
        axes.text(
            x, y + 0.07, text, color=FORWARD, ha="center", va="bottom", fontsize=9, bbox=plain
        )
        if backward:
            text = _numbers(values[backward])
            axes.text(
                x, y - 0.07, text, color=BACKWARD, ha="center", va="top", fontsize=9, bbox=plain
            )
    for x, y, text, equations in _BOXES.values():
        box = {"boxstyle": "round,pad=0.45", "edgecolor": "#303030"}
        box["facecolor"] = "#FFFFFF" if equations else "#E8E8E8"
        label = f"{text}\n{equations}" if equations else text
        axes.text(x, y, label, ha="center", va="center", fontsize=10, bbox=box, zorder=3)
    axes.text(
        13.3, 6.3, "the same branch\nfor component 1", ha="center", fontsize=9, color="#606060"
    )
    axes.annotate(
        "", (13.3, 5.15), (13.3, 6.2), arrowprops={"arrowstyle": "-|>", "color": "#A0A0A0"}
    )
    axes.text(17.0, 1.6, "forward: value", color=FORWARD, fontsize=11)
    axes.text(17.0, 1.0, "backward: gradient of the loss", color=BACKWARD, fontsize=11)
    axes.text(17.0, 0.4, "in the boxes: equations forward, backward", fontsize=11, color="#303030")
    axes.set(xlim=(-1.2, 24.8), ylim=(-0.2, 8.0))
    axes.axis("off")


def _numbers(array: FloatArray) -> str:
    rows = np.atleast_2d(array) if array.ndim != 1 else array[None]
    if rows.shape[1] == 1:
        rows = rows.T
    return "\n".join(", ".join(f"{v + 0.0:.3f}" for v in row) for row in rows)


# --- mixtures in the plane ----------------------------------------------------------------------


def draw_components(axes: Axes, x: FloatArray, parameters: Parameters) -> None:
    """Draw data [N, 2], and each component's mean and one-sigma ellipse."""
    axes.scatter(x[:, 0], x[:, 1], s=9, color="#9A9A9A", zorder=1)
    for k, colour in zip(range(parameters.n_components), COLOURS):  # noqa: B905
        axes.plot(*ellipse(parameters.means[k], parameters.scale[k], 1.0).T, color=colour, lw=1.8)
        axes.plot(*parameters.means[k], "o", color=colour, ms=5)
    axes.set_aspect("equal")


def draw_descent(
    axes: Axes,
    x: FloatArray,
    parameters: Parameters,
    gradients: Gradients,
    step: float,
    reach: float,
) -> None:
    """Draw the negative gradient: an arrow from each mean, a dashed ellipse for each factor.

    The ellipse lies where a step of length `step` would lead, the arrow ends where one of length
    `reach` would; an arrow too short to be seen is left out.
    """
    draw_components(axes, x, parameters)
    assert gradients.scale is not None
    for k, colour in zip(range(parameters.n_components), COLOURS):  # noqa: B905
        moved = ellipse(parameters.means[k], parameters.scale[k] - step * gradients.scale[k], 1.0)
        axes.plot(*moved.T, color=colour, lw=1.4, ls=(0, (4, 2)))
        if np.hypot(*gradients.means[k]) * reach > 0.1:
            _arrow(axes, parameters.means[k], -reach * gradients.means[k], colour, width=2.2)


def draw_pulls(
    axes: Axes, x: FloatArray, parameters: Parameters, pulls: FloatArray, k: int, step: float
) -> None:
    """Draw what each sample adds to the negative gradient of mean k, and their sum at the mean.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    x : ndarray, shape [N, 2]
    parameters : Parameters
    pulls : ndarray, shape [N, 2]
        -(the sample's share of the gradient of the mean).
    k : int
    step : float
        Length of an arrow for each unit of gradient; the sum is drawn to a tenth of it.
    """
    draw_components(axes, x, parameters)
    for point, pull in zip(x, pulls, strict=True):
        if np.hypot(*pull) * step > 0.08:
            _arrow(axes, point, step * pull, "#505050", width=0.8)
    _arrow(axes, parameters.means[k], 0.1 * step * pulls.sum(axis=0), COLOURS[k], width=2.6)


def draw_mismatch(axes: Axes, whitened: FloatArray, resp: FloatArray, moment: FloatArray) -> None:
    """Draw whitened residuals [N, 2] by their responsibility [N], the unit circle, and M / n."""
    axes.scatter(whitened[:, 0], whitened[:, 1], s=2 + 22 * resp, color="#9A9A9A")
    axes.plot(*ellipse(np.zeros(2), np.eye(2), 1.0).T, color="black", lw=1.6, label="$I$")
    root = np.linalg.cholesky(moment)
    axes.plot(
        *ellipse(np.zeros(2), root, 1.0).T, color=COLOURS[1], lw=1.8, ls="--", label="$M / n$"
    )
    axes.set(xlim=(-4.5, 4.5), ylim=(-4.5, 4.5), aspect="equal")
    axes.legend(loc="upper right", fontsize=9)


def _arrow(axes: Axes, tail: FloatArray, along: FloatArray, colour: str, width: float) -> None:
    tip = (float(tail[0] + along[0]), float(tail[1] + along[1]))
    style = {"arrowstyle": "-|>", "color": colour, "lw": width, "shrinkA": 0, "shrinkB": 0}
    style["mutation_scale"] = 6 + 3 * width
    axes.annotate("", tip, (float(tail[0]), float(tail[1])), arrowprops=style)
