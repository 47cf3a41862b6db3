"""Run the notebooks of docs/ from top to bottom, each in a fresh namespace, without Jupyter.

python scripts/run_notebook.py            run them and write their outputs into them
python scripts/run_notebook.py --check    run them and compare with their outputs; write nothing

Files that are named are run in place of these.

Text has to be the same, and a picture has to be where there was one. Exit code 0 if all is well,
1 if an output differs or a cell fails. The cells print, and end their figures with plt.show().
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from gmm_np.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


def run(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Run the code cells of a notebook; return the outputs of each."""
    import matplotlib.pyplot as plt

    plt.rcdefaults()
    plt.switch_backend("Agg")

    namespace: dict[str, Any] = {"__name__": "__main__"}
    results = []
    for number, cell in enumerate(code_cells(notebook), 1):
        outputs: list[dict[str, Any]] = []
        printed = io.StringIO()

        def show(outputs: list[dict[str, Any]] = outputs, printed: io.StringIO = printed) -> None:
            _flush(printed, outputs)
            for figure in map(plt.figure, plt.get_fignums()):
                data = io.BytesIO()
                # No version or date in the file: it changes only if the picture does.
                figure.savefig(data, format="png", metadata={"Software": None})
                image = base64.b64encode(data.getvalue()).decode("ascii")
                outputs.append(
                    {"data": {"image/png": image}, "metadata": {}, "output_type": "display_data"}
                )
            plt.close("all")

        plt.show = show
        code = compile("".join(cell["source"]), f"cell {number}", "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        _flush(printed, outputs)
        if plt.get_fignums():
            raise RuntimeError(f"cell {number} leaves a figure without plt.show()")
        results.append(outputs)
    return results


def _flush(printed: io.StringIO, outputs: list[dict[str, Any]]) -> None:
    text = printed.getvalue()
    if text:
        lines = text.splitlines(keepends=True)
        outputs.append({"name": "stdout", "output_type": "stream", "text": lines})
        printed.seek(0)
        printed.truncate()


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cells that hold code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def differences(notebook: dict[str, Any], results: list[list[dict[str, Any]]]) -> list[str]:
    """Say where outputs differ from those in a notebook: text, and whether there is a picture."""
    found = []
    for number, (cell, outputs) in enumerate(zip(code_cells(notebook), results, strict=True), 1):
        for what in ("text", "pictures"):
            old, new = (_plain(each)[what] for each in (cell["outputs"], outputs))
            if old != new:
                found.append(f"cell {number}: {what} differ\nin the notebook: {old}\nnow: {new}")
    return found


def _plain(outputs: list[dict[str, Any]]) -> dict[str, Any]:
    text = "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")
    return {"text": text, "pictures": sum(o["output_type"] == "display_data" for o in outputs)}


def main() -> int:
    """Run the notebooks; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    codes = [_run_file(path, options.check) for path in options.notebooks or NOTEBOOKS]
    return max(codes)


def _run_file(path: Path, check: bool) -> int:
    """Run a notebook and write its outputs, or compare with them; return the exit code."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    begun = time.perf_counter()
    try:
        results = run(notebook)
    except Exception:
        traceback.print_exc()
        return 1
    print(
        f"{path.name}: {len(results)} cells in {time.perf_counter() - begun:.1f} s", file=sys.stderr
    )
    if check:
        found = differences(notebook, results)
        print("\n".join(found) or f"{path.name}: all outputs are as they were")
        return 1 if found else 0
    for number, (cell, outputs) in enumerate(zip(code_cells(notebook), results, strict=True), 1):
        cell.update(execution_count=number, outputs=outputs)
    text = json.dumps(notebook, indent=1, ensure_ascii=False)
    with atomic_write(path) as file:
        file.write(f"{text}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
