"""Progress of long work: tqdm's where it is installed, none where it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, Protocol, TypeVar, cast

T = TypeVar("T", covariant=True)


class Progress(Protocol[T]):
    """What this project uses of tqdm."""

    def __enter__(self) -> Progress[T]: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def __iter__(self) -> Iterator[T]: ...
    def set_postfix_str(self, s: str) -> None:
        """Show `s` at the end of the line."""


class _Silent(Generic[T]):
    def __init__(self, items: Iterable[T]) -> None:
        self.items = items

    def __enter__(self) -> _Silent[T]:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def set_postfix_str(self, s: str) -> None:
        pass


def progress(items: Iterable[T], description: str, unit: str = "it") -> Progress[T]:
    """Iterate over `items` with a progress line on stderr."""
    try:
        from tqdm import tqdm
    except ImportError:
        return _Silent(items)
    return cast(Progress[T], tqdm(items, desc=description, unit=unit, file=sys.stderr, leave=True))
