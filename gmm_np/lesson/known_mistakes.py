"""All known wrong forms of the exercises, by function and output."""

from __future__ import annotations

from typing import Final

from gmm_np.lesson.mistake import Mistake, general
from gmm_np.lesson.mistakes_of_primitives import PRIMITIVES
from gmm_np.lesson.mistakes_of_wholes import WHOLES

__all__ = ["KNOWN", "Mistake", "general"]

KNOWN: Final[dict[str, list[Mistake]]] = {**PRIMITIVES, **WHOLES}
