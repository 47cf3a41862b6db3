"""Progress of long work on stderr: tqdm's bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class Progress:
    """A progress line; use it in a ``with`` block.

    Parameters
    ----------
    description : str
    total : int, optional
        Steps in all, where that is known.
    unit : str
        What a step is.
    every : float
        Seconds between plain lines; work that is done sooner writes none.
    """

    def __init__(
        self, description: str, total: int | None = None, unit: str = "it", every: float = 3.0
    ) -> None:
        self.description, self.total, self.unit, self.every = description, total, unit, every
        self.done = 0
        self._due = time.monotonic() + every
        self._bar: Any = None
        if sys.stderr is not None and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            # Without a total tqdm writes 84iteration; this is the plain line's order.
            counter = f"{{desc}}: {unit} {{n_fmt}} [{{elapsed}}, {{rate_fmt}}{{postfix}}]"
            self._bar = tqdm(
                total=total,
                desc=description,
                unit=f" {unit}",
                file=sys.stderr,
                bar_format=counter if total is None else None,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps done; `note` stands at the end of the line."""
        self.done += steps
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(steps)
        elif time.monotonic() >= self._due and sys.stderr is not None:
            self._due = time.monotonic() + self.every
            of = "" if self.total is None else f" of {self.total}"
            end = f", {note}" if note else ""
            print(
                f"{self.description}: {self.unit} {self.done}{of}{end}", file=sys.stderr, flush=True
            )
