"""How the loss fell, iteration by iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.plotting.canvas import dress, legend_beside, line_look, new_figure, with_fonts

_NAMED: Final = 20  # curves with a line in the legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_history(
    histories: ArrayLike | Mapping[str, ArrayLike],
    *,
    title: str | None = None,
    best: float | None = None,
) -> Figure:
    """Draw the loss of one fit or several, by iteration.

    Above stands the loss; below, on a logarithmic scale, how far it is above the best, which shows
    the end of a fit that the upper panel cannot, and how fast each solver converges.

    Parameters
    ----------
    histories : array_like, shape [I], or mapping of names to such
        Mean negative log-likelihood after each iteration, in nats a sample.
    title : str, optional
    best : float, optional
        The loss from which the lower panel counts, if it is below those of the histories; their
        least by default, and the iteration that has it is then left out.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If there is no history, or one is empty or not finite.
    """
    given = histories if isinstance(histories, Mapping) else {"loss": histories}
    curves = {str(name): np.asarray(values, np.float64) for name, values in given.items()}
    if not curves:
        raise ValueError("histories must hold at least one; got none.")
    for name, values in curves.items():
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
            raise ValueError(
                f"histories[{name!r}] must be one finite loss for each iteration; got shape "
                f"{values.shape}. Leave out fits that failed."
            )
    least = min(values.min() for values in curves.values())
    least = least if best is None else min(best, least)
    figure = new_figure(8.4, 6.0)
    above, below = figure.subplots(2, 1, sharex=True)
    handles = []
    for number, (name, values) in enumerate(curves.items()):
        style: dict[str, Any] = {**line_look(number), "linewidth": 1.8, "markersize": 6}
        iterations = np.arange(1, len(values) + 1)
        style["markevery"] = _marked(len(values), number / len(curves))
        label = f"{name}: {values[-1]:.6f} after {len(values)}"
        handles += above.plot(iterations, values, label=label, gid=f"loss {name}", **style)
        excess = np.where(values > least, values - least, np.nan)
        below.plot(iterations, excess, gid=f"excess {name}", **style)
    above.set_ylim(*_span(list(curves.values()), least))
    longest = max(len(values) for values in curves.values())
    if longest > 30:
        below.set_xscale("log")  # the first iterations do the most
    else:
        below.set_xlim(0.5, longest + 0.5)
        below.xaxis.get_major_locator().set_params(integer=True)
    if any((values > least).any() for values in curves.values()):
        below.set_yscale("log")
    dress(above, "", "NLL\n[nats a sample]", title)
    dress(below, "iteration", "NLL above the best\n[nats a sample]")
    for axes in (above, below):
        axes.grid(color="#E0E0E0", linewidth=0.6)
    best_first = sorted(handles, key=lambda handle: float(np.asarray(handle.get_ydata())[-1]))
    if len(handles) > _NAMED:
        from matplotlib.lines import Line2D

        rest = f"and {len(handles) - _NAMED} that ended higher"
        named = set(best_first[:_NAMED])
        handles = [handle for handle in handles if handle in named]
        handles.append(Line2D([], [], linestyle="none", label=rest))
    legend_beside(figure, handles)
    return with_fonts(figure)


def _marked(n_iter: int, shift: float) -> list[int]:
    """Where to set markers: evenly on a logarithmic axis, so shifted that curves show theirs."""
    places = np.geomspace(1, n_iter, 7)
    step = (n_iter ** (1 / 6)) ** shift
    return sorted({min(int(place * step), n_iter) - 1 for place in places})


def _span(curves: Sequence[Any], least: float) -> tuple[float, float]:
    """Limits that show where the curves go, not how bad their first step was."""
    shown = [values[len(values) // 20 if len(values) > 30 else 0 :] for values in curves]
    late = max(float(values.max()) for values in shown)
    height = max(late - least, 1e-9 * max(1.0, abs(least)))
    return least - 0.08 * height, late + 0.15 * height
