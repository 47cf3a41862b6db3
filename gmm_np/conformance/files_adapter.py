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
from gmm_np.conformance.text import line_of, outcome_of_line, unsayable
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
    text : bool
        Whether they are lines of words, not of JSON.
    """

    def __init__(self, directory: Path, *, specials: bool = False, text: bool = False) -> None:
        self.directory, self.specials, self.text = directory, specials, text
        self.name = str(directory)

    def evaluate(self, case: Case) -> Outcome:
        """Read the answer to a case."""
        outcome = unsayable(case) if self.text else None
        if outcome is not None:
            return outcome
        path = self.directory / name_of(case, text=self.text)
        if not path.exists():
            if case.optional:
                return NotOffered()
            unasked = has_specials(case) and not self.specials and not self.text
            return Unsupported(NO_SPECIALS if unasked else f"no file {path.name}")
        try:
            if self.text:
                return outcome_of_line(path.read_text(encoding="utf-8", errors="replace"), case)
            return outcome_of(parse(path.read_bytes()), case)
        except (GarbageError, OSError) as error:
            raise ToolError("garbage", f"{path.name}: {error}", broken=False) from error

    def close(self) -> None:
        """Nothing was started."""


def name_of(case: Case, *, text: bool) -> str:
    """Return the name of the file that holds a case, or its answer."""
    return f"{case.id}.{'txt' if text else 'json'}"


def write_cases(
    directory: Path, families: Iterable[CaseFamily], *, specials: bool = False, text: bool = False
) -> tuple[int, int]:
    """Write each case to a file, and return how many were written, and how many left out.

    Parameters
    ----------
    directory : Path
        Is made if it is not there.
    families : iterable of CaseFamily
    specials : bool
        Whether to write those with NaN and infinities, which are strings among numbers.
    text : bool
        Whether to write lines of words, which have those always, in place of JSON. What has no
        place in them is left out.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = left_out = 0
    for family in families:
        for case in family.cases:
            if unsayable(case) if text else has_specials(case) and not specials:
                left_out += 1
                continue
            line = line_of(case) if text else message_of(case, written)
            with atomic_write(directory / name_of(case, text=text)) as stream:
                stream.write(f"{line}\n".encode())
            written += 1
    return written, left_out
