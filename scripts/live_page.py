"""The live page: a wheel of this tree, and the page of docs/live with it.

python scripts/live_page.py                      lays them into build/live
python scripts/live_page.py --pyodide FOLDER     with Pyodide from a folder, so that no CDN is asked
python -m http.server --directory build/live     then shows it at http://localhost:8000
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "live"
#: What the page runs in, with NumPy and SciPy; a folder of these files stands in for it.
PYODIDE: Final = "https://cdn.jsdelivr.net/pyodide/v0.27.7/full/"
RUNTIME: Final = (
    "pyodide.mjs",
    "pyodide.asm.js",
    "pyodide.asm.wasm",
    "python_stdlib.zip",
    "pyodide-lock.json",
)
PACKAGES: Final = ("numpy", "scipy")


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the wheel, and lay the page with it into a folder."""
    head, *lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(
        description=head,
        epilog="\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "live", help="default: %(default)s"
    )
    parser.add_argument(
        "--pyodide",
        type=Path,
        metavar="FOLDER",
        help=f"with a Pyodide that has NumPy and SciPy; by default the page asks {PYODIDE}",
    )
    options = parser.parse_args(arguments)
    if options.pyodide is not None:
        missing = [name for name in RUNTIME if not (options.pyodide / name).is_file()]
        if missing:
            parser.error(
                f"--pyodide {options.pyodide} has no {missing[0]}: give the folder of a Pyodide "
                "distribution, in which pyodide.mjs lies."
            )
    lay(options.out, options.pyodide)
    print(f"Wrote {options.out}; to see it: python -m http.server --directory {options.out}")


def lay(out: Path, pyodide: Path | None = None) -> None:
    """Write the page, the wheel, and where the page finds both it and Pyodide."""
    shutil.copytree(PAGE, out, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for old in out.glob("gmm_np-*.whl"):
        old.unlink()
    wheel = build_wheel(out)
    if pyodide is not None:
        copy_runtime(pyodide, out / "pyodide")
    where = PYODIDE if pyodide is None else "pyodide/"
    found = json.dumps({"wheel": wheel.name, "pyodide": where, "packages": PACKAGES})
    (out / "wheel.json").write_text(f"{found}\n", encoding="utf-8")


def build_wheel(out: Path) -> Path:
    """Build the wheel of a copy, so that no earlier build is in it, and none is left behind."""
    with TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        shutil.copytree(
            ROOT / "gmm_np", tree / "gmm_np", ignore=shutil.ignore_patterns("__pycache__")
        )
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, tree)
        pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir")
        subprocess.run([*pip, out, tree], check=True)
    (wheel,) = out.glob("gmm_np-*.whl")
    return wheel


def copy_runtime(source: Path, target: Path) -> None:
    """Copy what the page needs of a Pyodide distribution: the runtime, and packages by its lock."""
    lock = json.loads((source / "pyodide-lock.json").read_text(encoding="utf-8"))["packages"]
    wanted = list(PACKAGES)
    for name in wanted:  # grows by what each of them depends on
        wanted += [each for each in lock[name]["depends"] if each not in wanted]
    target.mkdir(exist_ok=True)
    for file in (*RUNTIME, *(lock[name]["file_name"] for name in wanted)):
        shutil.copy(source / file, target)


if __name__ == "__main__":
    main()
