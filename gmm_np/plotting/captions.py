"""What the pictures show, in words that anyone reads; one text a picture."""

from __future__ import annotations

from typing import Final

LINE: Final = (
    "The bars are the data, and the wide grey curve is the mixture. Each other curve is a "
    "component with its mean, as high as its weight."
)
PLANE: Final = (
    "Each row has the colour and the marker of the component to which it most likely belongs. The "
    "darker the grey, the more of the rows lie there for its area."
)
PAIRS: Final = (
    "On the diagonal every column by itself: bars are the data, the wide grey curve the mixture, "
    "the others its components. Below it every two columns, with each row in the colour and the "
    "marker of the component to which it most likely belongs."
)
HISTORY: Final = (
    "Above, the loss after each iteration of each start; below, how far it is above the best one, "
    "where ten times less is one step down."
)
RESPONSIBILITIES: Final = {
    1: "How likely each component is to have made a row, by where the row lies: the higher its "
    "area, the likelier. The ticks at the bottom are the rows.",
    2: "Each row has the colour and the marker of the component to which it most likely belongs; "
    "the large ones might belong to another, too. A number stands beside the mean "
    "of its component.",
    3: "How likely each component is to have made a row: the higher its area, the likelier. The "
    "rows stand side by side, in the order of their components and of how certain these are.",
}


def mixture(n_features: int) -> str:
    """Return the caption of `plot_mixture`, or beyond two columns of `plot_pairs`."""
    return {1: LINE, 2: PLANE}.get(n_features, PAIRS)


def responsibilities(n_features: int) -> str:
    """Return the caption of `plot_responsibilities`."""
    return RESPONSIBILITIES[min(n_features, 3)]


def criterion(name: str) -> str:
    """Return the caption of `plot_bic`."""
    return (
        f"Above, the {name} by the number of components, a curve for each covariance family; "
        "below, how far each is above the one with the ring, where ten times less is one step down."
    )
