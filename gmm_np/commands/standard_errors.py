"""Standard errors on the command line: their options, how they are found, what is said of them."""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.commands.options import in_options, tell, whole_number
from gmm_np.commands.samples import Samples
from gmm_np.inference import StandardErrors, standard_errors
from gmm_np.parameters import Parameters
from gmm_np.progress import Progress
from gmm_np.tables import TableError

TO_THE_MAXIMUM: Final = "--solver em+newton --reg-covar 0"
_SIMPLER: Final = "use a smaller -k or a simpler --family"
_N_BOOTSTRAP: Final = 200
# Where a message of the library turns to what helps, which the command line says in its own words.
_REMEDY: Final = re.compile(r"\.? (?=Fit |Use )")


class FoundErrors(NamedTuple):
    """Standard errors, the rows that they are by, and what makes them doubtful."""

    errors: StandardErrors
    n_samples: int
    doubts: list[str]


class ErrorsOrWhyNot(NamedTuple):
    """Standard errors and what makes them doubtful, or why there are none."""

    errors: StandardErrors | None = None
    failure: BaseException | None = None
    doubts: Sequence[str] = ()


def add_bootstrap(group: Any) -> None:
    """Add --bootstrap."""
    group.add_argument(
        "--bootstrap",
        type=whole_number(2),
        metavar="N",
        help=f"fits of the bootstrap (default: {_N_BOOTSTRAP})",
    )


def find_errors(
    samples: Samples,
    parameters: Parameters,
    kind: str,
    options: argparse.Namespace,
    *,
    flag: str,
    remedy: str | None,
) -> FoundErrors:
    """Find standard errors, and count the rows; what makes them doubtful is said on stderr, too.

    `flag` is the option that chooses the kind, `remedy` says what leads to the maximum, if there
    is one: where a component has collapsed there is none.

    Raises
    ------
    ValueError
        If there are none, or the options disagree; with what helps, in options.
    """
    n_bootstrap = options.bootstrap or _N_BOOTSTRAP
    by_fits = kind == "bootstrap"
    steps = ("bootstrap", n_bootstrap, "fit") if by_fits else ("standard errors", None, "row")
    with warnings.catch_warnings(record=True) as caught, Progress(*steps) as line:
        warnings.simplefilter("always")
        in_memory = isinstance(samples.x, np.ndarray)
        rows = _Counted(samples.x, None if by_fits else line)
        where, weight = samples.x if in_memory else rows, samples.weight
        if samples.parts and not by_fits:  # fits to other weights read the rows here
            where, weight = samples.data(), None
        try:
            errors = standard_errors(
                where,
                parameters,
                kind=kind,
                sample_weight=weight,
                missing=samples.missing,
                n_bootstrap=n_bootstrap,
                random_state=options.seed,
                callback=lambda *_: line.advance(),
            )
        except TableError:
            raise
        except (ValueError, OverflowError) as error:
            finding, *library = _REMEDY.split(str(error), maxsplit=1)
            if library:
                finding += f"; {_instead(kind, flag, remedy)}"
            raise ValueError(f"no standard errors: {in_options(finding)}") from error
    doubts = []
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        finding, *library = _REMEDY.split(text, maxsplit=1)
        doubts.append(in_options(finding) + (f"; {remedy or _SIMPLER}" if library else ""))
    tell(doubts, "warning")
    return FoundErrors(errors, len(samples.x) if in_memory else rows.n_rows, doubts)


def check_bootstrap(options: argparse.Namespace, kind: str | None, flag: str) -> None:
    """Raise ValueError if --bootstrap says how many fits there are to be of another kind."""
    if options.bootstrap is not None and kind != "bootstrap":
        raise ValueError(
            f"--bootstrap is the number of fits of {flag} bootstrap: add that, or leave it out"
        )


def errors_document(errors: StandardErrors) -> dict[str, object]:
    """Return what JSON says of standard errors, each under the name of what it is the error of."""
    names = ("kind", "weights", "means", "covariances", "deviations", "correlations")
    return {name: getattr(errors, name) for name in names}


class _Counted:
    """Blocks of rows that are counted as they are read, those of the last reading."""

    def __init__(self, blocks: Any, line: Progress | None) -> None:
        self.blocks, self.line, self.n_rows = blocks, line, 0

    def __iter__(self) -> Iterator[FloatArray]:
        self.n_rows = 0
        for block in self.blocks:
            self.n_rows += len(block)
            yield block
            if self.line is not None:
                self.line.advance(len(block))


def _instead(kind: str, flag: str, remedy: str | None) -> str:
    """Say what helps where there are no standard errors of a kind."""
    if kind == "bootstrap":
        return f"use {flag} sandwich"
    first = f"use {flag} hessian" if kind == "opg" else remedy
    ways = [first, _SIMPLER] if first else [_SIMPLER]
    return f"{', or '.join(ways)}; components are counted from 0"
