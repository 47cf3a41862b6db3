"""The command line: it finds the command, runs it, and turns errors into one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module
from typing import Final

from gmm_np import __version__
from gmm_np.commands.options import Parser, in_options
from gmm_np.mixture.model_file import ModelFileError
from gmm_np.tables import TableError

ERROR, INTERRUPTED = 2, 130

# A line a command: the module that has its `add_command`. Only that of the command that runs is
# imported; the others where the help lists them.
COMMANDS: Final = {
    "fit": "gmm_np.commands.fit",
    "score": "gmm_np.commands.score",
    "assign": "gmm_np.commands.assign",
    "errors": "gmm_np.commands.errors",
    "sample": "gmm_np.commands.sample",
    "modes": "gmm_np.commands.modes",
    "info": "gmm_np.commands.info",
    "check": "gmm_np.commands.check",
    "demo": "gmm_np.commands.demo",
    "walkthrough": "gmm_np.lesson.walkthrough",
    "exercises": "gmm_np.lesson.exercises",
    "conformance": "gmm_np.conformance.command",
}


def _build_parser(names: Sequence[str]) -> argparse.ArgumentParser:
    parser = Parser(
        prog="gmm-np",
        description="Gaussian mixtures with exact, hand-written gradients.",
        epilog="gmm-np COMMAND --help explains a command, with examples. Exit codes: 0 success, "
        "1 a check failed, 2 wrong usage or bad input, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"gmm-np {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in names:
        import_module(COMMANDS[name]).add_command(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    known = [name for name in arguments[:1] if name in COMMANDS]
    try:
        options = _build_parser(known or list(COMMANDS)).parse_args(arguments)
        options.arguments = arguments
        with ExitStack() as options.files:
            code: int = options.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, like `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (TableError, ModelFileError, OSError, ImportError) as error:
        return _fail(str(error))  # of files, in their own names
    except (ValueError, TypeError) as error:
        return _fail(in_options(str(error)))
    except MemoryError as error:
        return _fail(f"out of memory: {error}; use fewer columns or rows")
    except KeyboardInterrupt as interrupt:
        print(f"gmm-np: interrupted{_after(str(interrupt))}", file=sys.stderr)
        return INTERRUPTED


def _fail(message: str) -> int:
    print(f"gmm-np: error: {' '.join(message.split())}", file=sys.stderr)
    return ERROR


def _after(message: str) -> str:
    return f"; {message}" if message else ""
