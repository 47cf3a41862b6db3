"""The picture: ratios over sizes, as heat maps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from figures import (
    JAX_BEST,
    OVER_FLOOR,
    PYTORCH_BEST,
    Comparison,
    Record,
    digits,
    found_in,
    grid_cells,
    seconds,
    size_of,
)
from peers import AUTO

WORST_SHADE = 3.0  # times the floor: darker is not needed
SHORT = {"memory": "mem", "timeout": "late", "missing": "none"}
PICTURE = {
    PYTORCH_BEST.title: "time of PyTorch,\nits fastest form,\nover that of gmm_np",
    JAX_BEST.title: "time of JAX,\nits faster form,\nover that of gmm_np",
    OVER_FLOOR.title: "time of gmm_np\nover the floor",
}
CAPTION = (
    "Above 1 in the rows on PyTorch and JAX, gmm_np is faster. Hatched: not timed, since it needs "
    "more memory (mem)\nor time than allowed, or is wrong. Italic: gmm_np takes less than 10 ms."
)


def draw_square(
    axes: Any, at: tuple[int, int], label: str, ink: str, style: str = "normal", **box: Any
) -> None:
    """Draw a square with a label."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(at, 1, 1, **{"ec": "white", "lw": 1.5, **box}))
    centre = at[0] + 0.5, at[1] + 0.5
    axes.text(*centre, label, ha="center", va="center", color=ink, fontsize=9, style=style)


def draw_panel(axes: Any, data: Record, comparison: Comparison, n: int, shade: Any) -> None:
    """Draw a heat map over D and K with its figures; what was not timed is hatched and named."""
    cells = {size_of(cell): cell for cell in grid_cells(data)}
    d_values, k_values = (sorted({size[i] for size in cells}) for i in (0, 1))
    for size, cell in cells.items():
        if size[2] != n:
            continue
        at = k_values.index(size[1]), d_values.index(size[0])
        figure = comparison.figure(cell)
        if figure is None:
            names = [p for p in (*comparison.over, *comparison.under) if p in cell["peers"]]
            states = [cell["peers"][name]["status"] for name in names]
            status = next(state for state in states if state != "timed")
            label = SHORT.get(status, status)
            draw_square(axes, at, label, "0.35", fc="0.93", ec="0.8", hatch="////")
        else:
            style = "italic" if (seconds(cell, AUTO) or 0.0) < 0.01 else "normal"
            colour = shade(figure)
            light = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
            ink = "black" if light > 0.5 else "white"
            draw_square(axes, at, digits(figure), ink, style, fc=colour)
    axes.set(xlim=(0, len(k_values)), ylim=(0, len(d_values)), title=f"N = {n:,}")
    axes.set_xticks(np.arange(len(k_values)) + 0.5, k_values)
    axes.set_yticks(np.arange(len(d_values)) + 0.5, d_values)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def make_shade(data: Record, comparison: Comparison) -> Callable[[float], Any]:
    """Return the colour of a figure, on a logarithmic scale."""
    import matplotlib as mpl

    if comparison is OVER_FLOOR:
        norm, colours = mpl.colors.LogNorm(1.0, WORST_SHADE, clip=True), mpl.colormaps["YlOrBr"]
    else:
        figures = [figure for figure, _ in found_in(grid_cells(data), comparison)]
        most = max(2.0, *figures, *(1 / f for f in figures))
        norm, colours = mpl.colors.LogNorm(1 / most, most, clip=True), mpl.colormaps["BrBG"]
    return lambda figure: colours(float(norm(figure)))


def plot(data: Record, path: Path) -> None:
    """Draw ratios to PyTorch and JAX, and times over the floor, for each N."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    n_values = sorted({cell["n"] for cell in grid_cells(data)})
    shown = [c for c in (PYTORCH_BEST, JAX_BEST, OVER_FLOOR) if found_in(grid_cells(data), c)]
    if not shown:
        raise ValueError("--plot: neither PyTorch nor JAX nor the floor was timed.")
    n_d, n_k = (len({cell[key] for cell in grid_cells(data)}) for key in ("d", "k"))
    size = (
        max(1.6 + (0.5 + 0.5 * n_k) * len(n_values), 8.5),
        1.6 + (0.8 + 0.38 * n_d) * len(shown),
    )
    figure, grid = plt.subplots(
        len(shown), len(n_values), figsize=size, squeeze=False, layout="constrained"
    )
    for line, comparison in zip(grid, shown, strict=True):
        shade = make_shade(data, comparison)
        for axes, n in zip(line, n_values, strict=True):
            draw_panel(axes, data, comparison, n, shade)
        line[0].set_ylabel(f"{PICTURE[comparison.title]}\n\ndimensions D")
    for axes in grid[-1]:
        axes.set_xlabel("components K")
    figure.suptitle(
        "Value and gradient of the NLL of a full-covariance mixture, float64\n"
        f"{data['machine']['cpu']}, cores used: "
        f"{data['settings']['threads'] or data['machine']['cores']}; "
        f"{data['settings']['avx512']}",
        fontsize=11,
    )
    figure.supxlabel(CAPTION, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
