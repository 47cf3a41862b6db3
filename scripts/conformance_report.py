"""Run the certified vectors against this library and its peers, and print the table of the docs.

    pip install ".[bench]" && python scripts/conformance_report.py --write docs/conformance.md

Each peer runs in a process of its own. Those that this project does not depend on have adapters in
scripts/conformance/peers and environments of their own, which are made under build/peers at the
first run, with the versions that stand here; what cannot be had is left out with a word.

The first table has a row for each family of cases and a column for each peer: the worst number of
correct digits over the outputs that the peer gives, or how many cases are wrong. The second has a
row for each peer: what kind its wrong answers are of. Nothing in them is written by hand;
``--write`` puts them between the two marks of a file, and ``--json`` keeps the results, which
``--join`` takes so that these peers are not run again.
``--picture`` draws who is right where; from what ``--json`` has written, nothing is run again:

    python scripts/conformance_report.py --from results.json --picture docs/conformance_peers.png
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

from conformance.environments import NotInstalledError, environment, own  # noqa: E402

ADAPTERS = "gmm_np.conformance.adapters"
SOURCES = ROOT / "gmm_np" / "conformance" / "adapters"
BEGIN, END = "<!-- report: begin -->", "<!-- report: end -->"
FAULTS = ("wrong", "crash", "garbage", "timeout", "not_run")
KINDS = {
    "rejected": "valid rejected",
    "answered": "invalid answered",
    "nan": "NaN",
    "inexact": "beyond the allowance",
    "shape": "shape, or above the diagonal",
}


FOREIGN = ROOT / "scripts" / "conformance" / "peers"
NEEDED = ("numpy==2.4.6", "scipy==1.17.1")  # what asks an adapter in an environment of its own


@dataclass(frozen=True)
class Peer:
    """A column: its heading, and how it is asked.

    Attributes
    ----------
    title : str
    targets : tuple of str
        The adapters whose cases it joins, one for a parametrization.
    command : str or None
        A program in their place.
    requires : tuple of str
        What pip installs into an environment of its own, where the targets are in FOREIGN.
    tool : str or None
        Name and version of a program that is asked by lines of words, and has no place for them.
    """

    title: str
    targets: tuple[str, ...] = ()
    command: str | None = None
    requires: tuple[str, ...] = ()
    tool: str | None = None

    def options(self) -> list[list[str]]:
        """Return the options of the runs that it takes; make its environment if need be."""
        if self.tool is not None:
            return [["--text", "--command", str(self.command)]]
        if self.command is not None:
            return [["--command", self.command, "--specials"]]
        if self.requires:
            folder = f"{self.targets[0].partition(':')[0]}-peer"
            python = environment(folder, (*self.requires, *NEEDED))
            worker = f"'{python}' -m gmm_np.conformance.worker conformance.peers."
            return [["--command", f"{worker}{target}", "--specials"] for target in self.targets]
        return [["--python", f"{ADAPTERS}.{target}"] for target in self.targets]


TORCH = "torch==2.13.0"
IN_ENVIRONMENTS = (
    Peer("NumPyro", ("numpyro:mixture_same_family",), requires=("numpyro==0.22.0",)),
    Peer("Distrax", ("distrax:mixture_same_family",), requires=("distrax==0.1.9",)),
    Peer("Pyro", ("pyro:mixture",), requires=("pyro-ppl==1.9.2", TORCH)),
    Peer(
        "pomegranate",
        ("pomegranate:general_mixture_model",),
        requires=("pomegranate==1.1.2", TORCH),
    ),
    Peer("OpenTURNS", ("openturns:mixture",), requires=("openturns==1.27.post1",)),
    Peer("gmr", ("gmr:to_probability_density",), requires=("gmr==2.0.3",)),
    Peer("hmmlearn", ("hmmlearn:score",), requires=("hmmlearn==0.3.3",)),
)


def first_line(*command: str | Path) -> str | None:
    """Return what a program prints of itself, None if it cannot run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def programs(build: Path) -> list[Peer]:
    """Return the peers in other languages that can run here; what is compiled goes into `build`."""
    found = []
    if shutil.which("cc"):
        program = build / "mixture"
        source = SOURCES / "mixture.c"
        subprocess.run(["cc", "-O2", "-o", program, source, "-lm"], check=True)
        found.append(Peer("C", command=str(program)))
    if shutil.which("node"):
        found.append(Peer("JavaScript", command=f"node '{SOURCES / 'mixture.js'}'"))
    for package in ("mvtnorm", "mclust"):
        tool = first_line("Rscript", FOREIGN / "values.R", package, "--version")
        if tool:
            command = f"Rscript '{FOREIGN / 'values.R'}' {package}"
            found.append(Peer(f"R {package}", command=command, tool=tool))
    program = build / "armadillo"
    compile_ = ("g++", "-O2", "-o", program, FOREIGN / "armadillo.cpp", "-larmadillo")
    if first_line(*compile_) is not None:
        found.append(Peer("Armadillo", command=str(program), tool=first_line(program, "--version")))
    return found


def peers(build: Path) -> list[Peer]:
    """Return all peers that can run here, and those whose environments can be made."""
    return [
        Peer("gmm_np reference", ("gmm_np:reference",)),
        Peer("gmm_np auto", ("gmm_np:auto", "gmm_np:precision")),
        Peer("gmm_np direct", ("gmm_np:direct",)),
        Peer("PyTorch", ("pytorch:mixture_same_family",)),
        Peer("JAX formula", ("jax:formula",)),
        Peer("JAX density", ("jax:multivariate_normal",)),
        Peer("autograd", ("autograd:multivariate_normal",)),
        Peer("SciPy", ("scipy:multivariate_normal",)),
        Peer("scikit-learn", ("sklearn:score_samples",)),
        Peer("scikit-learn p.i.", ("sklearn:precisions_init",)),
        *IN_ENVIRONMENTS,
        *programs(build),
    ]


def run(peer: Peer, build: Path, timeout: float) -> dict[str, Any]:
    """Run the cases of a peer; where it has several adapters, each case by one that supports it."""
    joined: dict[str, Any] = {}
    try:
        runs = peer.options()
    except NotInstalledError as error:
        print(f"left out: {error}", file=sys.stderr)
        return joined
    for options in runs:
        out = build / "report.json"
        out.unlink(missing_ok=True)
        command = [sys.executable, "-m", "gmm_np", "conformance", *options, "--json", str(out)]
        subprocess.run(
            [*command, "--timeout", str(timeout)],
            cwd=ROOT,
            env=own(ROOT, ROOT / "scripts"),
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if not out.exists():  # it has said why, on stderr
            continue
        report = json.loads(out.read_text(encoding="utf-8"))
        joined.setdefault("tool", peer.tool or report["adapter"].split(" (")[-1].rstrip(")"))
        joined.setdefault("looks_like", report["looks_like"])
        for family in report["families"]:
            row = joined.setdefault("families", {}).setdefault(
                family["family"], {"admits": family["digits_admitted"], "cases": {}}
            )
            for case in family["cases"]:
                old = row["cases"].get(case["id"])
                if old is None or old["status"] == "unsupported":
                    row["cases"][case["id"]] = case
    return joined


def cell(cases: Sequence[dict[str, Any]]) -> str:
    """Return what a table says of one family and one peer."""
    asked = [case for case in cases if case["status"] != "unsupported"]
    if not asked:
        return ""
    digits = [d for case in asked for d in case["digits"] if d is not None]
    faults = Counter(case["status"] for case in asked if case["status"] in FAULTS)
    # Rounded down: 12.99 digits are not 13.0. Where all had to be rejected there are no digits.
    text = f"{math.floor(10 * min(digits)) / 10:.1f}" if digits else "ok"
    for status, count in faults.items():
        text = f"**{count}/{len(asked)} {status.replace('_', ' ')}**"
    return text


def tables(results: dict[str, dict[str, Any]]) -> str:
    """Return both tables and the versions in Markdown."""
    titles = list(results)
    families = {
        name: row["admits"] for r in results.values() for name, row in r["families"].items()
    }
    lines = [
        f"| family | admits | {' | '.join(titles)} |",
        f"|---|---|{'---|' * len(titles)}",
    ]
    for name, admits in sorted(families.items()):
        rows = [results[t]["families"].get(name, {"cases": {}}) for t in titles]
        cells = [cell(list(row["cases"].values())) for row in rows]
        lines.append(f"| {name} | {math.floor(10 * admits) / 10:.1f} | {' | '.join(cells)} |")
    lines += ["", f"| peer | version | cases | pass | {' | '.join(KINDS.values())} | looks like |"]
    lines.append(f"|---|---|---|---|{'---|' * len(KINDS)}---|")
    for title, result in results.items():
        cases = [c for row in result["families"].values() for c in row["cases"].values()]
        asked = [c for c in cases if c["status"] != "unsupported"]
        kinds = Counter(c["kind"] for c in asked if c["status"] == "wrong")
        passed = sum(c["status"] == "pass" for c in asked)
        names = ", ".join(s["name"] for s in result["looks_like"])
        counts = " | ".join(str(kinds[kind] or "") for kind in KINDS)
        lines.append(
            f"| {title} | {result['tool']} | {len(asked)} | {passed} | {counts} | {names} |"
        )
    python = f"Python {platform.python_version()}, {platform.machine()}, {platform.system()}"
    return "\n".join([*lines, "", f"Made by `python scripts/conformance_report.py` with {python}."])


# Colours that can be told apart by most eyes, from right to all wrong; white is not supported.
RIGHT = "#4a86b8"
WRONG = ("#f3c9a5", "#e08a4f", "#b5401c")  # up to a third, up to two thirds, more


def shares(results: dict[str, dict[str, Any]]) -> dict[str, list[tuple[int, int] | None]]:
    """Return for each family, and each peer in it, how many of the supported cases are wrong.

    None where no case is supported. Families come in the order of how much is wrong, then of how
    few peers support them.
    """
    families = sorted({name for result in results.values() for name in result["families"]})
    found: dict[str, list[tuple[int, int] | None]] = {}
    for family in families:
        row: list[tuple[int, int] | None] = []
        for result in results.values():
            cases = result["families"].get(family, {"cases": {}})["cases"].values()
            asked = [case for case in cases if case["status"] != "unsupported"]
            wrong = sum(case["status"] in FAULTS for case in asked)
            row.append((wrong, len(asked)) if asked else None)
        found[family] = row

    def order(family: str) -> tuple[float, int, str]:
        row = found[family]
        return -sum(wrong / asked for wrong, asked in filter(None, row)), row.count(None), family

    return {family: found[family] for family in sorted(families, key=order)}


def colour(wrong: int, asked: int) -> str:
    """Return the colour of a cell."""
    return RIGHT if not wrong else WRONG[(3 * wrong - 1) // asked]


def picture(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw who is right where: a row for each family, a column for each peer, of any number."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    rows = shares(results)
    width, height, left = 0.42, 0.19, 2.1  # inches
    n_rows, n_columns = len(rows), len(results)
    size = (left + width * n_columns + 0.9, height * n_rows + 2.1)
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        for y, row in enumerate(rows.values()):
            for x, cell_of in enumerate(row):
                if cell_of is None:
                    continue
                box = Rectangle((x + 0.04, y + 0.06), 0.92, 0.88, color=colour(*cell_of), lw=0)
                axes.add_patch(box)
                if cell_of[0]:
                    dark = colour(*cell_of) == WRONG[2]
                    text = f"{cell_of[0]}/{cell_of[1]}"
                    axes.text(
                        x + 0.5,
                        y + 0.53,
                        text,
                        ha="center",
                        va="center",
                        fontsize=6,
                        color="white" if dark else "black",
                    )
        axes.set(xlim=(0, n_columns), ylim=(n_rows, 0))
        axes.set_xticks([x + 0.5 for x in range(n_columns)], list(results), rotation=90)
        axes.set_yticks([y + 0.5 for y in range(n_rows)], list(rows))
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        told = ("all cases right", "up to a third wrong", "up to two thirds", "more")
        handles = [
            Patch(color=c, label=name) for c, name in zip((RIGHT, *WRONG), told, strict=True)
        ]
        handles.append(Patch(facecolor="white", edgecolor="0.7", label="not supported"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, dpi=150)


def read(path: Path) -> dict[str, Any]:
    """Return what ``--json`` wrote."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def collected(options: argparse.Namespace) -> dict[str, Any]:
    """Run the peers, but for those that have been run already."""
    joined: dict[str, Any] = {}
    for path in options.join:
        joined |= read(path)
    results = {}
    with tempfile.TemporaryDirectory() as name:
        build = Path(name)
        for peer in peers(build):
            if options.peer and peer.title not in options.peer:
                continue
            if peer.title not in joined:
                print(peer.title, file=sys.stderr, flush=True)
            result = joined.get(peer.title) or run(peer, build, options.timeout)
            if "families" in result:
                results[peer.title] = result
    return results


def main() -> None:
    """Run the peers and print or write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--peer", action="append", help="by heading; all by default")
    parser.add_argument(
        "--join", type=Path, action="append", default=[], help="what --json wrote: not run again"
    )
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one case")
    parser.add_argument("--write", type=Path, help="file with the two marks")
    parser.add_argument("--json", type=Path, help="where to write all results")
    parser.add_argument("--from", dest="source", type=Path, help="what --json wrote: run nothing")
    parser.add_argument("--picture", type=Path, help="where to draw who is right where")
    options = parser.parse_args()
    results = read(options.source) if options.source else collected(options)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if options.picture is not None:
        picture(results, options.picture)
        if options.write is None:
            return
    text = tables(results)
    if options.write is None:
        print(text)
        return
    before, _, rest = options.write.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    if not after:
        raise SystemExit(f"{options.write} has no marks {BEGIN} and {END} to write between.")
    page = f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"
    options.write.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
