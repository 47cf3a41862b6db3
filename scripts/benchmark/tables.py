"""The report: what was measured and where, in sentences and tables of Markdown."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Callable, Iterable

from figures import (
    JAX,
    JAX_BEST,
    OVER_FLOOR,
    OVER_ONE_THREAD,
    ROUNDS,
    SHORTEST,
    STEADY,
    Record,
    cell_name,
    comparisons,
    digits,
    duration,
    found_in,
    grid_cells,
    is_short,
    objective_cells,
    ratio,
    rivals,
    seconds,
    size_of,
)
from measure import TOLERANCE
from peers import AUTO, FLOOR
from tasks import STREAM_BATCH

ABOUT = """\
Value and gradient of the mean negative log-likelihood of a full-covariance Gaussian mixture, \
float64. Everything below was measured in one run of `scripts/benchmark.py`, which wrote it."""
ON_RATIOS = """\
A peer's time over that of gmm_np auto: above 1, gmm_np is faster. The mean is the geometric one, \
over the cells that could be timed."""
ON_FLOOR = """\
The floor is the time of the matrix products of the cheaper kernel, and of one exponential for \
each sample and component, in blocks that stay in cache."""
ON_OBJECTIVE = """\
Value and gradient of the log posterior by precision factors with a Wishart prior, \
`gmm_np.parametrizations.precision_value_and_grad`, beside autograd of the same in PyTorch's \
tensor operations: as the benchmark states it, and in the fastest form found. Inputs as those \
benchmarks draw them: means uniform in [0, 1], all else standard normal, gamma = 1 and m = 0 \
(data/gmm/gmm-data-gen.py in microsoft/ADBench, evals/gmm/data_gen.py in gradbench/gradbench). \
A ratio is over gmm_np's time."""
ON_STARTS = """\
In fresh processes: the import, the first call (with what it compiles), and how far these raise \
the peak of resident memory above what was there with the data."""
SLOWER = 1.1  # times the time of one thread: where other threads do harm
SIZE = ("D", "K", "N")
GROUPS: tuple[tuple[str, Callable[[Record], bool]], ...] = (
    ("all cells", lambda cell: True),  # noqa: ARG005
    ("N ≥ 10⁴", lambda cell: bool(cell["n"] >= 10_000)),
    ("DK ≥ 50", lambda cell: bool(cell["d"] * cell["k"] >= 50)),
)
STATUS = {
    "memory": "left out, since by its estimate it takes more than the {memory:g} GB allowed",
    "time": (
        "left out, since by fewer rows a call would take more than {longest:g} s, or a quarter of "
        "that for the reference and autograd"
    ),
    "wrong": "**wrong**, and so not timed",
    "died": "its process died",
    "timeout": "timed out, there or in a cell that is no larger",
    "error": "failed",
    "unjudged": "not checked, since the judge failed",
    "alone": "not timed, since gmm_np was not",
    "prepared": "not timed",
}
# What depends on the cell alone, whose notes would make a line for each.
ALIKE = ("memory", "time", "timeout", "alone")


def table(head: list[str], rows: Iterable[Iterable[object]], left: int = 1) -> str:
    """Write a table; all columns but the first few are aligned to the right."""
    marks = ["---" if i < left else "---:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [head, marks, *rows])


def time_of(cell: Record, name: str) -> str:
    """Write a peer's time, or what it has in its place."""
    return duration(seconds(cell, name)) or str(cell["peers"][name]["status"])


def number(figure: float | None, otherwise: str = "") -> str:
    """Write a ratio, or what stands for one."""
    return digits(figure) if figure else otherwise


def mean_of(found: list[tuple[float, str]]) -> str:
    """Write the geometric mean of figures."""
    return digits(statistics.geometric_mean(figure for figure, _ in found))


def table_of_ratios(data: Record) -> str:
    """Write the geometric means and minima of all comparisons."""
    head = ["time over that of gmm_np auto"]
    for name, _ in GROUPS:
        head += [f"{name}: mean", "smallest", "in", "cells"]
    rows = []
    for comparison in comparisons(data):
        row: list[object] = [comparison.title]
        for _, belongs in GROUPS:
            found = found_in(filter(belongs, grid_cells(data)), comparison)
            least, where = min(found, default=(None, ""))
            row += [mean_of(found) if found else "", number(least), where, len(found)]
        rows.append(row)
    return table(head, rows)


def on_floor(data: Record) -> str:
    """Say how far "auto" is above the floor."""
    cells = [cell for cell in grid_cells(data) if (seconds(cell, FLOOR) or 0.0) >= 0.01]
    found = found_in(cells, OVER_FLOOR)
    if not found:
        return "No cell has a floor of 10 ms or more."
    most, where = max(found, key=lambda item: item[0])
    twice = [f"{name} ({digits(figure)})" for figure, name in found if figure > 2]
    return (
        f"Over the {len(found)} cells whose floor is 10 ms or more, gmm_np auto takes "
        f"{mean_of(found)} times the floor in the geometric mean, and at most {digits(most)} "
        f"times, in {where}.\nIt takes more than twice the floor in {len(twice) or 'none'} of them"
        f"{': ' if twice else ''}{', '.join(twice)}."
    )


def on_threads(data: Record) -> str:
    """Say whether the threads of "auto" ever are in each other's way."""
    found = found_in(grid_cells(data), OVER_ONE_THREAD)
    if not found:
        return ""
    slower = sum(figure > SLOWER for figure, _ in found)
    most, where = max(found)
    return (
        f"## Threads\n\nBy default gmm_np auto takes more than {SLOWER:g} times as long as where "
        f"the environment says one thread in {slower or 'none'} of {len(found)} cells; at most "
        f"{digits(most)} times, in {where}; {mean_of(found)} times in the geometric mean."
    )


def on_tiniest(data: Record) -> str:
    """Say how the smallest cell compares with JAX, where overhead decides."""
    for cell in grid_cells(data):
        if size_of(cell) == (2, 5, 1000) and (figure := JAX_BEST.figure(cell)) is not None:
            times = {name: duration(seconds(cell, name)) for name in (AUTO, *JAX)}
            forms = "; ".join(f"{data['titles'][name]} {t}" for name, t in times.items() if t)
            return (
                f"In the tiniest cell, D=2 K=5 N=1000, JAX takes {digits(figure)} of gmm_np "
                f"auto's time ({forms})."
            )
    return ""


def on_objective(data: Record) -> str:
    """Report the mixture objective of ADBench and GradBench."""
    cells = objective_cells(data)
    if not cells:
        return ""
    base, *others = cells[0]["peers"]
    head = [*SIZE, data["titles"][base]]
    for name in others:
        head += [data["titles"][name], "ratio"]
    rows = []
    for cell in cells:
        row = [*size_of(cell), time_of(cell, base)]
        for name in others:
            row += [time_of(cell, name), number(ratio(cell, name))]
        rows.append(row)
    title = "## The mixture objective of ADBench and GradBench"
    return f"{title}\n\n{ON_OBJECTIVE}\n\n{table(head, rows, 0)}"


def table_of_cells(data: Record) -> str:
    """Write all cells: the time of "auto", and ratios."""
    titles = {FLOOR: "over the floor"} if FLOOR in data["peers"] else {}
    titles |= {name: data["titles"][name] for name in rivals(data)}
    rows = []
    for cell in grid_cells(data):
        row = [*size_of(cell), time_of(cell, AUTO)]
        for name in titles:
            figure = OVER_FLOOR.figure(cell) if name == FLOOR else ratio(cell, name)
            row.append(number(figure, cell["peers"][name]["status"]))
        rows.append(row)
    return table([*SIZE, "gmm_np auto", *titles.values()], rows, 0)


def table_of_starts(data: Record) -> str:
    """Write import times, first calls and peak memory of fresh processes."""
    # The first of those that there are of a peer and a size.
    cold = {(c["peer"], size_of(c)): c for c in reversed(data["cold"])}
    sizes = dict.fromkeys(size_of(c) for c in data["cold"])
    head = ["peer", "import"]
    for d, k, n in sizes:
        head += [f"D={d} K={k} N={n}: first call", "peak memory added"]
    rows = []
    for name in dict.fromkeys(c["peer"] for c in data["cold"]):
        times = data["imports"].get(data["modules"][name])
        row = [data["titles"][name], duration(statistics.median(times)) if times else "missing"]
        for size in sizes:
            found, added = cold.get((name, size), {"status": ""}), ""
            if found["status"] == "measured":
                added = f"{found['added_mib']:.0f} MiB"
                if found["from_file"]:
                    added += f", the file's pages apart {found['anonymous_mib']:.0f} MiB"
            row += [duration(found["first_seconds"]) if added else found["status"], added]
        rows.append(row)
    return table(head, rows)


def on_stream(data: Record) -> str:
    """Report the file that does not fit a batch."""
    parts = []
    for cell in (c for c in data["cells"] if c["stream"]):
        rows = [
            (data["titles"][name], time_of(cell, name), number(ratio(cell, name)))
            for name in cell["peers"]
        ]
        judge = data["titles"].get(cell["judge"], cell["judge"])
        said = f"A `numpy.memmap`; PyTorch takes {STREAM_BATCH} rows at a time and sums."
        parts += [
            f"### {cell_name(cell)} from a file",
            f"{said} The judge is {judge}.",
            table(["peer", "time", "over gmm_np auto"], rows),
        ]
    return "\n\n".join(parts)


def on_absences(data: Record) -> str:
    """List what was not timed, and why."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for cell in grid_cells(data) + objective_cells(data):
        for name, record in cell["peers"].items():
            if (status := record["status"]) not in ("timed", "missing"):
                note = "" if status in ALIKE else f" ({record['note']})"
                reasons.setdefault((name, status, note), []).append(cell_name(cell))
    titles = data["titles"]
    lines = [f"- {titles[name]} is not installed: {why}" for name, why in data["missing"].items()]
    for (name, status, note), cells in reasons.items():
        reason = STATUS[status].format(**data["settings"])
        lines.append(f"- {titles[name]}, {reason}{note}: {', '.join(cells)}")
    return "\n".join(lines) or "Everything was timed in every cell."


def on_conditions(data: Record) -> str:
    """Say what was measured where, when and how."""
    machine, source, settings = data["machine"], data["source"], data["settings"]
    cells = grid_cells(data) + objective_cells(data)
    judges = sorted({data["titles"].get(c["judge"], c["judge"]) for c in cells})
    changed = " with changes" if source["changed"] else ""
    resumed = "".join(f", resumed {when}" for when in data["resumed"])
    again = ""
    if count := data.get("again"):
        why = "since repetitions were shorter or times further apart"
        again = f" Cells measured again, {why}: {count}."
    if short := sum(any(map(is_short, cell["peers"].values())) for cell in cells):
        again += f" Cells where a peer's repetitions still are less than half as long: {short}."
    return f"""\
- Command: `{data["command"]}`
- {data["started"]} to {data["finished"]}{resumed}; commit {source["commit"]}{changed}, \
digest {source["digest"]}
- {machine["cpu"]}, {machine["cores"]} cores ({settings["threads"] or "all"} used), \
{machine["memory_gib"]} GiB, {machine["system"]}
- {_on_processor(settings)}
- {_on_others(data)}
- {", ".join(f"{name} {version}" for name, version in data["versions"].items())}
- Seed {settings["seed"]}; up to {settings["repeat"]} interleaved repetitions, meant to take \
{SHORTEST * 1000:.0f} ms or more, and up to {ROUNDS * settings["repeat"]} where the quartiles of \
gmm_np's times were further apart than a factor of {STEADY:g}; fewer where they would exceed \
{settings["budget"]:g} s. A figure is the median over repetitions.{again}
- Before anything is timed, values and gradients are within {TOLERANCE:g} of the judge \
({" or ".join(judges)})."""


def _on_processor(settings: Record) -> str:
    said = shlex.join(f"{name}={value}" for name, value in settings["environment"].items())
    environment = f": `{said}`" if said else " says nothing of instructions and threads"
    return f"Instructions: {settings['avx512']}. The peers' environment{environment}."


def _on_others(data: Record) -> str:
    beside = data["settings"]["beside"]
    kept = f"Beside {beside} busy process{'' if beside == 1 else 'es'}. " if beside else ""
    busy = [c["busy_cores"] for c in data["cells"] if c["busy_cores"] is not None]
    if not busy:
        return f"{kept}What else ran at the same time is not known."
    return (
        f"{kept}Before cells, while all peers slept, others used {statistics.median(busy):.2g} "
        f"cores in the median, {min(busy):.2g} at least, and {max(busy):.2g} at most."
    )


def markdown(data: Record) -> str:
    """Write the report."""
    parts = ["# Benchmarks", ABOUT, on_conditions(data)]
    if grid_cells(data):
        parts += ["## Ratios", ON_RATIOS, table_of_ratios(data), on_threads(data)]
        parts += ["## Over the floor", ON_FLOOR, on_floor(data), on_tiniest(data)]
    parts.append(on_objective(data))
    if data["cold"]:
        parts += ["## Start and memory", ON_STARTS, table_of_starts(data)]
    if grid_cells(data):
        parts += ["## All cells", table_of_cells(data)]
    parts += [on_stream(data), "## Not timed", on_absences(data)]
    return "\n\n".join(part for part in parts if part) + "\n"
