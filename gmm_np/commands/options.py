"""What the commands' parsers share: kinds of values, the options for data, one-line errors."""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from gmm_np.commands.report import SOLVERS
from gmm_np.files import check_target
from gmm_np.progress import Progress
from gmm_np.tables import Table, find_files, open_table, open_tables
from gmm_np.tables.cells import read_number, read_range

# What the library's messages call what an option gives.
_OPTIONS: Final = {
    "n_components": "--components",
    "covariance_type": "--family",
    "sample_weight": "--weights",
    "reg_covar": "--reg-covar",
    "on_collapse": "--on-collapse",
    "max_iter": "--max-iter",
    "n_init": "--n-init",
    "random_state": "--seed",
    "solver": "--solver",
    "tol": "--tol",
    "x": "DATA",
    "X": "DATA",
}
_ARGUMENT: Final = re.compile(
    rf"'[^']*'|(?<![-\w./\\])(?P<name>{'|'.join(_OPTIONS)})(?![-\w/\\]|\.\w)"
    r'(?:="?(?P<value>[\w.+-]+)"?)?'
)

Commands = Any  # what argparse's add_subparsers returns has no public name
Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and whose options are not abbreviated."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong and where the help is; exit with code 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)\n")


def new_command(
    commands: Commands,
    name: str,
    run: Run,
    *,
    summary: str,
    description: str,
    examples: str,
    usage: str = "",
) -> argparse.ArgumentParser:
    """Add a command that `run` carries out; `examples` stand below its help.

    `usage` names what has to be given where there are too many options to list.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        usage=f"%(prog)s {usage} [options]" if usage else None,
        description=textwrap.fill(" ".join(description.split()), 79),
        epilog="examples:\n" + textwrap.indent(textwrap.dedent(examples).strip("\n"), "  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add MODEL."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="an .npz file of gmm-np fit")


def add_json(parser: Any, more: str = "") -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help=f"print one JSON document{more}")


def add_seed(parser: Any, of: str) -> None:
    """Add --seed, of what it says."""
    kind = whole_number(0)
    parser.add_argument("--seed", type=kind, default=0, metavar="N", help=f"of {of}")


def add_weights(parser: argparse.ArgumentParser, used: str) -> None:
    """Add --weights, a column that is not to be `used` as the others are."""
    help_ = f"a column with a weight for each row, not to be {used}"
    parser.add_argument("--weights", metavar="COLUMN", help=help_)


def add_pairing_option(parser: argparse.ArgumentParser) -> None:
    """Add how the columns of DATA are found for those of MODEL."""
    parser.add_argument(
        "--by-position",
        action="store_true",
        help="pair columns with those of the fit in their order, whatever their names",
    )


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add DATA and how it is to be read."""
    parser.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help="a table, a row a sample: text (.csv, .tsv, .txt; also .gz, .bz2, .xz), a NumPy array "
        "(.npy, .npz), or .parquet; several, as 'data/*.csv'; - for the standard input",
    )
    group = parser.add_argument_group("reading DATA")
    group.add_argument(
        "--columns",
        type=_columns,
        metavar="A,B,...",
        help="the columns to use, by name or by number from 1, as 1-4,7 (default: all)",
    )
    group.add_argument(
        "--missing",
        choices=("error", "drop", "marginal"),
        default="error",
        metavar="WHAT",
        help="rows with a missing value: error, drop them, or marginal: each counts by the density "
        "of what is there of it (default: error)",
    )
    group.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="line 1 holds names, or not (default: if more words than numbers)",
    )
    group.add_argument(
        "--skip-lines",
        type=_lines,
        default=0,
        metavar="N",
        help="skip the first N lines, or those named: 2-2 is line 2, for a row of units",
    )
    group.add_argument(
        "--delimiter", metavar="CHAR", help="the character between cells (default: found out)"
    )
    group.add_argument(
        "--decimal",
        choices=(".", ","),
        metavar="MARK",
        help="the decimal mark, . or , (marks between thousands are understood, too)",
    )
    group.add_argument(
        "--encoding", default="utf-8", metavar="NAME", help="of the text (default: %(default)s)"
    )
    group.add_argument(
        "--key", metavar="NAME", help="the array of an .npz file (default: x, or the only one)"
    )


def add_solver_options(group: Any, default: str) -> list[argparse.Action]:
    """Add which solver fits, and for how long."""
    *names, last = SOLVERS
    return [
        group.add_argument(
            "--solver",
            choices=SOLVERS,
            default=default,
            metavar="S",
            help=f"{', '.join(names)} or {last}; em+newton goes on from where em ended by Newton's "
            "method, to the last digits, without a floor (default: %(default)s)",
        ),
        group.add_argument(
            "--max-iter",
            type=whole_number(1),
            default=1000,
            metavar="N",
            help="iterations of each start at most, of adam passes (default: %(default)s)",
        ),
    ]


def add_picture_options(group: Any, *aliases: str, **what: str) -> list[argparse.Action]:
    """Add an option for each picture, under its name in `what`, which has its help."""
    return [
        group.add_argument(
            f"--{name.replace('_', '-')}",
            *aliases,
            dest=name,
            type=picture,
            metavar="FILE",
            help=text if index else f"{text}; .png, .pdf or .svg",
        )
        for index, (name, text) in enumerate(what.items())
    ]


def open_data(options: argparse.Namespace, **other: Any) -> Table:
    """Open DATA as the options say, or some in their place; all its columns."""
    names = ("missing", "header", "skip_lines", "delimiter", "decimal", "encoding", "key")
    given = {name: getattr(options, name) for name in names}
    if options.data == ["-"]:
        if "piped" not in options:
            directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            options.piped = _keep_input(Path(options.files.enter_context(directory)))
        return open_table(options.piped, name="standard input", **given | other)
    if "-" in options.data:
        raise ValueError("DATA - is the standard input alone: leave it out, or the other files")
    files = find_files(options.data)
    first, *more = options.data
    name = f"{first} and {len(files) - 1} more" if more else f"{first} ({len(files)} files)"
    return open_tables(files, name=name, **given | other)


def _keep_input(directory: Path) -> Path:
    """Write the standard input, which can be read only once, to a file of the suffix it needs."""
    stream = sys.stdin.buffer
    start = stream.read(8)
    suffixes = {b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz", b"PAR1": ".parquet"}
    found = [suffix for magic, suffix in suffixes.items() if start.startswith(magic)]
    path = directory / f"input{found[0] if found else '.txt'}"
    with path.open("xb") as copy:
        copy.write(start)
        shutil.copyfileobj(stream, copy)
    return path


def in_options(message: str) -> str:
    """Return a message of the library in the words of the command line; names in quotes stay."""

    def say(found: re.Match[str]) -> str:
        if found["name"] is None:
            return found[0]
        return " ".join(filter(None, (_OPTIONS[found["name"]], found["value"])))

    return _ARGUMENT.sub(say, message)


def tell(notes: Iterable[str], kind: str = "note") -> None:
    """Say on stderr what was assumed, or what else needs a look, a line each."""
    for note in notes:
        print(f"gmm-np: {kind}: {note}", file=sys.stderr)


def tell_left_out(path: Path, names: Sequence[str]) -> None:
    """Say on stderr which columns a picture of every two of them leaves out, if it does."""
    from gmm_np.plotting.pairs import describe_left_out

    left_out = describe_left_out(names)
    if left_out is not None:
        tell([f"{path}: {left_out}"])


def read_data(table: Table) -> NDArray[np.float64]:
    """Read the whole table [N, D], with a progress line."""
    blocks = []
    with Progress(f"reading {Path(table.file).name}", unit="row") as line:
        for block in table:
            blocks.append(block)
            line.advance(len(block))
    return np.concatenate(blocks)


def whole_number(least: int) -> Callable[[str], int]:
    """Return a type of option: whole numbers from `least` on."""

    def parse(text: str) -> int:
        # int and float take 1_2 and the digits of every script: see tables.cells.
        value = int(text) if re.fullmatch(r"\s*\+?[0-9]+\s*", text) else least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least}; got {text!r}")
        return value

    return parse


def not_negative(text: str) -> float:
    """Type of option: a finite number from 0 on."""
    value = read_number(text)
    if value is None or not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number from 0; got {text!r}")
    return value


def picture(text: str) -> Path:
    """Type of option: where a picture can be written, and matplotlib is there to draw it."""
    _check_matplotlib()
    return new_file(".png", ".pdf", ".svg")(text)


def report_file(text: str) -> Path:
    """Type of option: where a page with pictures can be written."""
    _check_matplotlib()
    return new_file(".html", ".htm", what="a report is an .html file; name it so,")(text)


def picture_directory(text: str) -> Path:
    """Type of option: a directory for pictures, which is there or can be made."""
    _check_matplotlib()
    path = Path(text)
    if not path.is_dir():
        _check_writable(path)
        if path.exists():
            raise argparse.ArgumentTypeError(f"{path}: is a file; name a directory")
    return path


def _check_matplotlib() -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        from gmm_np.plotting.canvas import NEEDS_MATPLOTLIB

        raise argparse.ArgumentTypeError(NEEDS_MATPLOTLIB)


def new_file(*suffixes: str, what: str = "") -> Callable[[str], Path]:
    """Return a type of option: a place where a file with one of the suffixes can be written.

    `what` begins the message on another suffix.
    """
    *others, last = suffixes
    what = what or f"must end in {', '.join(others)} or {last};"

    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"{what} got {text!r}")
        _check_writable(path)
        return path

    return parse


def _check_writable(path: Path) -> None:
    try:
        check_target(path)
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _columns(text: str) -> list[str]:
    parts = next(csv.reader([text], skipinitialspace=True), [])  # a name in quotes may have commas
    return [part.strip() for part in parts]


def _lines(text: str) -> int | set[int]:
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", text):
        return int(text)
    lines: set[int] = set()
    for part in text.split(","):
        found = read_range(part)
        if not found or found.start < 1:
            raise argparse.ArgumentTypeError(
                f"must be how many lines to skip, or which, as 2-2 or 1-3,5-5; got {text!r}"
            )
        lines.update(found)
    return lines
