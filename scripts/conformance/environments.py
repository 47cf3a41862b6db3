"""Environments of foreign libraries, each of its own, with pinned versions, under build/peers.

They are made when they are asked for and kept until they are deleted; nothing else refers to them.
PyTorch from PyPI brings CUDA along; ``PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu``
lets pip take the small build, which it prefers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "peers"
STAMP = "requirements.txt"


class NotInstalledError(Exception):
    """A library that cannot be had here."""


def environment(name: str, requires: Sequence[str], build: Path = BUILD) -> Path:
    """Return the interpreter of an environment that has these requirements; make it if need be.

    Parameters
    ----------
    name : str
        Of its folder in `build`.
    requires : sequence of str
        What pip is asked for, with versions. Where there is nothing, no environment is needed,
        and the running interpreter is returned.
    build : Path

    Raises
    ------
    NotInstalledError
        If pip cannot install them.
    """
    if not requires:
        return Path(sys.executable)
    folder = build / name
    python, stamp = folder / "bin" / "python", folder / STAMP
    wanted = "".join(f"{line}\n" for line in requires)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"Installing {' '.join(requires)} into {folder} ...", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    quiet = ("--quiet", "--disable-pip-version-check")
    pip = [str(python), "-m", "pip", "install", *quiet, *requires]
    if subprocess.run(pip, env=own(), check=False).returncode:
        raise NotInstalledError(f"{name}: pip cannot install {' '.join(requires)}")
    stamp.write_text(wanted, encoding="utf-8")
    return python


def own(*path: Path) -> dict[str, str]:
    """Return the variables for a process of another environment: one thread, no other's path."""
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    if path:
        variables["PYTHONPATH"] = os.pathsep.join(map(str, path))
    return variables | threads
