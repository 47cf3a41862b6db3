"""The pictures of docs/derivation.md, from its example in numbers.

python scripts/derivation_pictures.py            writes docs/derivation_graph.png
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gmm_np.lesson import drawings
from gmm_np.lesson.independent import Start
from gmm_np.lesson.walkthrough import walk

ROOT = Path(__file__).resolve().parents[1]
# Two samples, two components, one dimension, as the document has them.
EXAMPLE = Start(
    x=np.array([[0.0], [3.0]]),
    pi_logits=np.zeros(2),
    means=np.array([[0.0], [2.0]]),
    scale_tril=np.array([[[1.0]], [[2.0]]]),
    sample_weight=np.ones(2),
)


def main() -> None:
    """Draw the computation for the first component, with what goes forward and comes back."""
    values = {**EXAMPLE._asdict(), "means": EXAMPLE.means[0], "scale_tril": EXAMPLE.scale_tril[0]}
    values |= {row.name: row.value for row in walk(EXAMPLE) if row.component != 1}
    figure = Figure(figsize=(14, 6.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    drawings.draw_graph(figure.add_subplot(), values)
    # No version or date in the file: it changes only if the picture does.
    figure.savefig(ROOT / "docs" / "derivation_graph.png", metadata={"Software": None})


if __name__ == "__main__":
    main()
