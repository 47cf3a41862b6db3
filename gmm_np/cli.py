"""The command line: gmm-np demo, gmm-np check, gmm-np walkthrough, gmm-np exercises."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gmm_np import __version__

ERROR, INTERRUPTED = 2, 130


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gmm-np",
        description="Gaussian mixtures with exact, hand-written gradients.",
        epilog="Exit codes: 0 success, 1 a gradient check failed, 2 wrong usage or bad input.",
    )
    parser.add_argument("--version", action="version", version=f"gmm-np {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="fit Old Faithful, check the gradient, draw the picture",
        description="Fit two full-covariance Gaussians to the eruptions of Old Faithful (272 rows "
        "that come with the package) with the hand-written gradient and L-BFGS; print the fitted "
        "mixture and a check of the gradient, and draw data, ellipses and density.",
    )
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("old_faithful.png"),
        metavar="PNG",
        help="where to write the picture (default: %(default)s)",
    )
    demo.add_argument("--starts", type=_positive, default=20, metavar="N", help="starts of the fit")
    demo.add_argument("--seed", type=_not_negative, default=0, help="of the starts")

    check = commands.add_parser(
        "check",
        help="check the gradients on your own data",
        description="Compare the hand-written gradients with central differences on the rows of a "
        "table, at a mixture that k-means++ starts there. Exit code 1 if a gradient is wrong.",
    )
    check.add_argument("data", type=Path, metavar="DATA", help=".csv, .npy or .npz, a row a sample")
    check.add_argument(
        "-k", "--components", type=_positive, default=2, metavar="K", help="default: %(default)s"
    )
    check.add_argument(
        "--columns", metavar="A,B", help="names or numbers (from 1) of the columns to use"
    )
    check.add_argument(
        "--entries",
        action="store_true",
        help="look at each entry of each gradient, not at random directions; slow for many rows",
    )
    check.add_argument("--seed", type=_not_negative, default=0, help="of the start")

    from gmm_np import exercises, walkthrough

    walkthrough.add_command(commands)
    exercises.add_command(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    options = _build_parser().parse_args(argv)
    command = getattr(options, "run", None) or {"demo": _demo, "check": _check}[options.command]
    try:
        return command(options)
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"gmm-np: error: {' '.join(str(error).split())}", file=sys.stderr)
        return ERROR
    except KeyboardInterrupt:
        print("gmm-np: interrupted", file=sys.stderr)
        return INTERRUPTED


def _demo(options: argparse.Namespace) -> int:
    from gmm_np.demo import run_demo

    return 0 if run_demo(options.out, n_starts=options.starts, seed=options.seed) else 1


def _check(options: argparse.Namespace) -> int:
    from gmm_np.demo import check_reference
    from gmm_np.solvers import kmeans_start
    from gmm_np.tables import read_table

    columns = None if options.columns is None else options.columns.split(",")
    x, names = read_table(options.data, columns=columns)
    print(f"{options.data}: {len(x)} rows of {', '.join(names)}", flush=True)
    start = kmeans_start(x, options.components, np.random.default_rng(options.seed))
    report = check_reference(x, start, entrywise=options.entries)
    print(report)
    return 0 if report else 1


def _positive(text: str) -> int:
    return _at_least(text, 1)


def _not_negative(text: str) -> int:
    return _at_least(text, 0)


def _at_least(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least}; got {text!r}")
    return value
