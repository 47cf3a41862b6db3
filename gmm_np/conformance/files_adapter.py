"""Cases written to files, and answers read from files: for what cannot be started from here.

A case is a file of one line, the message that a program would be sent, under the case's name; the
answer is a file of the same name with the reply. docs/conformance.md has both.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gmm_np.conformance.cases import Case, CaseFamily
from gmm_np.conformance.compare import NotOffered, Outcome, Unsupported
from gmm_np.conformance.function_adapter import ToolError
from gmm_np.conformance.process_adapter import NO_SPECIALS
from gmm_np.conformance.wire import GarbageError, has_specials, message_of, outcome_of, parse
from gmm_np.files import atomic_write

__all__ = ["FilesAdapter", "write_cases"]


class FilesAdapter:
    """Answers in a directory, one file a case. What has no file was not offered.

    Parameters
    ----------
    directory : Path
    specials : bool
        Whether the cases with NaN and infinities were written.
    """

    def __init__(self, directory: Path, *, specials: bool = False) -> None:
        self.directory, self.specials = directory, specials
        self.name = str(directory)

    def evaluate(self, case: Case) -> Outcome:
        """Read the answer to a case."""
        path = self.directory / f"{case.id}.json"
        if not path.exists():
            if case.optional:
                return NotOffered()
            unasked = has_specials(case) and not self.specials
            return Unsupported(NO_SPECIALS if unasked else f"no file {path.name}")
        try:
            return outcome_of(parse(path.read_bytes()), case)
        except (GarbageError, OSError) as error:
            raise ToolError("garbage", f"{path.name}: {error}", broken=False) from error

    def close(self) -> None:
        """Nothing was started."""


def write_cases(
    directory: Path, families: Iterable[CaseFamily], *, specials: bool = False
) -> tuple[int, int]:
    """Write each case to a file, and return how many were written, and how many left out.

    Parameters
    ----------
    directory : Path
        Is made if it is not there.
    families : iterable of CaseFamily
    specials : bool
        Whether to write those with NaN and infinities, which are strings among numbers.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = left_out = 0
    for family in families:
        for case in family.cases:
            if has_specials(case) and not specials:
                left_out += 1
                continue
            with atomic_write(directory / f"{case.id}.json") as stream:
                stream.write(f"{message_of(case, written)}\n".encode())
            written += 1
    return written, left_out
