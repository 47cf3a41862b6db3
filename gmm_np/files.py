"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file to write; it takes its name, or replaces what is there, only when complete."""
    target = Path(os.path.realpath(path))  # a link stays, and what it points to is replaced
    check_target(target)
    temporary = target.with_name(f".{uuid4().hex}.part")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())  # else a crash may keep the new name and lose the bytes
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise OSError if no file can be written there: better before the work than after."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target}: there is no directory {target.parent}; create it first")
    if target.is_dir():
        raise IsADirectoryError(f"{target}: is a directory; name a file in it")
