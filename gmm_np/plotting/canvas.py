"""What all pictures share: the figure, its look, and how it is written."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# After Okabe and Ito, and moved until any two differ to colour-blind eyes, which a test simulates.
_COLOURS: Final = (
    "#0055A5", "#B84000", "#009E58", "#B05A96", "#FFA010", "#3CCBFF", "#000000", "#8408F8",
)  # fmt: skip
# 9 markers and 5 styles: without any colour 45 components differ, and areas by 4 hatches.
_MARKERS: Final = ("o", "^", "s", "D", "v", "P", "X", "<", ">")
_STYLES: Final = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
_HATCHES: Final = ("///", "\\\\\\", "|||", "---")
EDGE: Final = "#A0A0A0"
NEEDS_MATPLOTLIB: Final = "pictures need matplotlib, which is not installed: pip install matplotlib"


def look(number: int) -> dict[str, Any]:
    """Return colour, marker, line style and hatching of the component or curve `number`, from 0."""
    looks = {"color": _COLOURS, "marker": _MARKERS, "linestyle": _STYLES, "hatch": _HATCHES}
    return {name: choices[number % len(choices)] for name, choices in looks.items()}


def line_look(number: int) -> dict[str, Any]:
    """Return what of `look` suits a line."""
    return {name: value for name, value in look(number).items() if name != "hatch"}


def pale(colour: str, share: float) -> tuple[float, float, float]:
    """Return a colour, of which `share` is left and the rest is white."""
    from matplotlib.colors import to_rgb

    red, green, blue = (share * part + 1.0 - share for part in to_rgb(colour))
    return red, green, blue


def new_figure(width: float = 8.4, height: float = 5.0) -> Figure:
    """Return an empty figure, in inches; ImportError says what to install."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(NEEDS_MATPLOTLIB) from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, xlabel: str, ylabel: str, title: str | None = None) -> None:
    """Name the axes and the picture in plain text: names come from files, and $ is a dollar."""
    axes.set_xlabel(xlabel, fontsize=12, parse_math=False)
    axes.set_ylabel(ylabel, fontsize=12, parse_math=False)
    axes.set_title(title or "", fontsize=14, loc="left", pad=10, parse_math=False)
    axes.tick_params(labelsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def legend_beside(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put the legend to the right of all axes and below the title, where it hides nothing.

    A long one makes the figure higher, rather than the axes lower. Its texts are plain.
    """
    width, height = figure.get_size_inches()
    # Each line with what is between two entries, and what is above and below the axes.
    lines = sum(str(handle.get_label()).count("\n") + 1.9 for handle in handles)
    needed = 0.17 * lines + 1.1
    figure.set_size_inches(width, max(float(height), needed))
    style: dict[str, Any] = {"fontsize": 10, "frameon": False, "labelspacing": 0.9}
    style |= {"handlelength": 4.5, "borderaxespad": 0.0, "handles": handles}
    if len(figure.axes) == 1:
        legend = figure.axes[0].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), **style)
    else:  # beside one of several axes it would have to be as low as these
        blank = {"title": " ", "title_fontsize": 18}  # where the picture's title may end
        legend = figure.legend(loc="outside right upper", **blank, **style)
    for text in legend.get_texts():
        text.set_parse_math(False)


def add_caption(figure: Figure, text: str) -> None:
    """Write below a figure what it shows, on lines of its own, for which it is made higher."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    width, height = map(float, figure.get_size_inches())
    lines = fill(text, int(14 * width)).split("\n")  # characters that 9 points leave room for
    more = 0.17 * len(lines) + 0.12  # inches
    share = more / (height + more)
    figure.set_size_inches(width, height + more)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)  # as `new_figure` has it
    engine.set(rect=(0.0, share, 1.0, 1.0 - share))
    said = figure.text(0.01, 0.06 / (height + more), "\n".join(lines), fontsize=9, va="bottom")
    said.set(parse_math=False, linespacing=1.3, color="#404040", in_layout=False, gid="caption")


def equal_units(figure: Figure, axes: Axes) -> None:
    """Make a unit as long on one axis as on the other, and the figure as high as that asks for."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    legend = axes.get_legend()
    lines = sum(text.get_text().count("\n") + 1.6 for text in legend.get_texts()) if legend else 0
    # Beside the legend 5 inches are left to the axes; a line of the legend is 0.18 inches high.
    height = np.clip(5.0 * (high - low) / (right - left), 2.4, 6.0)
    figure.set_size_inches(8.4, float(max(height, 0.18 * lines)) + 0.9)
    figure.set_layout_engine("compressed")  # which knows axes of a fixed aspect
    axes.set_aspect("equal")


def axis_names(labels: Sequence[str] | None, n_features: int) -> list[str]:
    """Return one name for each dimension; ValueError if there are more or fewer."""
    names = [f"x{j + 1}" for j in range(n_features)] if labels is None else list(labels)
    if len(names) != n_features:
        raise ValueError(f"labels must have one name for each of D = {n_features}; got {names}.")
    return names


def draw_some(data: FloatArray, max_points: int, seed: int) -> FloatArray:
    """Return at most so many rows, chosen at random, in their order."""
    if max_points < 1:
        raise ValueError(f"max_points must be at least 1; got {max_points}.")
    if len(data) <= max_points:
        return data
    chosen = np.random.default_rng(seed).choice(len(data), max_points, replace=False)
    return np.asarray(data[np.sort(chosen)])


def with_fonts(figure: Figure) -> Figure:
    """Write each text in installed fonts that have its letters, or a question mark if none has.

    One warning then names the letters, where Matplotlib would give one for each, at each drawing.
    """
    from matplotlib import font_manager, get_cachedir, rcParams
    from matplotlib.text import Text

    def letters(path: str) -> set[str]:
        try:
            return set(map(chr, font_manager.get_font(path).get_charmap()))
        except (OSError, RuntimeError):  # a font that FreeType cannot read
            return set()

    artists = [*figure.texts, *figure.legends]
    for axes in figure.axes:  # of an axis the label: ticks are numbers, and many
        artists += [getattr(child, "label", child) for child in axes.get_children()]
    texts = [text for artist in artists for text in artist.findobj(Text)]
    texts = [text for text in texts if not text.get_text().isascii()]
    lacking = {c for text in texts for c in text.get_text() if not c.isspace()}
    families = list(rcParams["font.family"])
    for family in families:
        lacking -= letters(font_manager.findfont(font_manager.FontProperties(family=[family])))
    if not lacking:
        return figure
    for font in font_manager.fontManager.ttflist:
        found = lacking & letters(font.fname) if lacking else set()
        if found and not font.name.startswith("Last Resort"):  # its glyphs only name the script
            families.append(font.name)
            lacking -= found
    for text in texts:
        text.set_fontfamily(families)
        text.set_text("".join("?" if c in lacking else c for c in text.get_text()))
    if lacking:
        shown = "".join(sorted(lacking)[:20])
        warnings.warn(
            f"no installed font has {shown} of the labels, so ? stands for them; install one that "
            f"has, as those of Noto do, and delete {get_cachedir()}, or Matplotlib may not find it",
            stacklevel=3,
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
    with atomic_write(path) as stream:
        figure.savefig(stream, format=Path(path).suffix[1:] or "png")
