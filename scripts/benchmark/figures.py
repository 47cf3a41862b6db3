"""The figures that are made of a document's times: ratios, and whether to believe them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

from cells import LIKELIHOOD, OBJECTIVE
from peers import AUTO, DIRECT, FLOOR, MOMENTS, ONE_THREAD

Record = dict[str, Any]

SHORTEST = 0.02  # seconds that a repetition takes at least
# Quartiles of the times of "auto" that are further apart ask for as many repetitions again, twice
# at most: a machine that does not always wake a second thread at once spoils single ones.
STEADY = 1.25
ROUNDS = 3


def ratio(cell: Record, name: str) -> float | None:
    """Return the median of a peer's time over that of the base in the same repetition."""
    record = cell["peers"].get(name, {})
    if record.get("status") != "timed" or not record["seconds"]:
        return None
    pairs = zip(record["seconds"], record["base_seconds"], strict=True)
    return float(statistics.median(mine / base for mine, base in pairs))


def seconds(cell: Record, name: str) -> float | None:
    """Return a peer's median seconds a call."""
    record = cell["peers"].get(name, {})
    if record.get("status") != "timed" or not record["seconds"]:
        return None
    return float(statistics.median(record["seconds"]))


class Comparison(NamedTuple):
    """The fastest of some peers, over the fastest of others."""

    title: str
    over: tuple[str, ...]
    under: tuple[str, ...] = (AUTO,)

    def figure(self, cell: Record) -> float | None:
        """Return the quotient of the two in a cell, if both were timed."""
        over = [r for name in self.over if (r := ratio(cell, name)) is not None]
        under = [r for name in self.under if (r := ratio(cell, name)) is not None]
        return min(over) / min(under) if over and under else None


TORCH = ("torch_mixture", "torch_formula", "torch_inverse")
JAX = ("jax_formula", "jax_inverse")
PYTORCH_BEST = Comparison("PyTorch, its fastest form", TORCH)
JAX_BEST = Comparison("JAX, its faster form", JAX)
OVER_FLOOR = Comparison("gmm_np auto over the floor", (AUTO,), (FLOOR,))
OVER_ONE_THREAD = Comparison("gmm_np auto over one thread", (AUTO,), (ONE_THREAD,))


def comparisons(data: Record) -> list[Comparison]:
    """List what is compared: each peer, and the fastest form of those that have several."""
    others = rivals(data)
    single = [Comparison(data["titles"][name], (name,)) for name in others]
    derived = [
        PYTORCH_BEST,
        Comparison("the same against gmm_np direct", TORCH, (DIRECT,)),
        Comparison("PyTorch distributions against gmm_np direct", TORCH[:1], (DIRECT,)),
        JAX_BEST,
        Comparison(
            "scikit-learn against gmm_np, both the value alone", ("sklearn",), ("gmm_np_value",)
        ),
        Comparison("gmm_np, the faster of direct and moments", (DIRECT, MOMENTS)),
    ]
    return single + [c for c in derived if any(name in others for name in c.over)]


def cell_name(cell: Record) -> str:
    """Name a cell."""
    return f"D={cell['d']} K={cell['k']} N={cell['n']}"


def digits(value: float) -> str:
    """Write a ratio with two or three digits."""
    if value < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def duration(value: float | None) -> str:
    """Write seconds in a unit that suits."""
    if value is None:
        return ""
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def grid_cells(data: Record) -> list[Record]:
    """Return the cells of the grid, without the stream."""
    cells = (c for c in data["cells"] if c["kind"] == LIKELIHOOD and not c["stream"])
    return sorted(cells, key=size_of)


def objective_cells(data: Record) -> list[Record]:
    """Return the cells of the mixture objective."""
    return sorted((c for c in data["cells"] if c["kind"] == OBJECTIVE), key=size_of)


def rivals(data: Record) -> list[str]:
    """Name the peers of the grid that "auto" is compared with."""
    names = dict.fromkeys(name for cell in grid_cells(data) for name in cell["peers"])
    return [name for name in names if name not in (AUTO, FLOOR)]


def size_of(record: Record) -> tuple[int, int, int]:
    """Return D, K and N."""
    return record["d"], record["k"], record["n"]


def found_in(cells: Iterable[Record], comparison: Comparison) -> list[tuple[float, str]]:
    """Return the figures of the cells that have one, each with the cell's name."""
    return [(f, cell_name(c)) for c in cells if (f := comparison.figure(c)) is not None]


def base_of(records: Iterable[str]) -> str:
    """Return the peer that the others of a cell are compared with: its first."""
    return next(iter(records))


def is_steady(record: Record) -> bool:
    """Say whether the middle half of a peer's times is close enough together for a median."""
    times = record.get("seconds", ())
    if len(times) < 3:
        return True
    lower, _, upper = statistics.quantiles(times, n=4, method="inclusive")
    return bool(upper <= STEADY * lower)


def is_short(record: Record) -> bool:
    """Say whether a peer's repetitions were much shorter than they were meant to be."""
    times = record.get("seconds", [])
    return bool(times) and record["calls"] * statistics.median(times) < SHORTEST / 2


def is_doubtful(cell: Record, settings: Record) -> bool:
    """Say whether a cell deserves to be measured again.

    Its repetitions were cut too short, or the base was not steady and had repetitions left.
    """
    if any(is_short(record) for record in cell["peers"].values()):
        return True
    base = cell["peers"][base_of(cell["peers"])]
    most = min(base.get("most", 0), ROUNDS * settings["repeat"])
    return not is_steady(base) and len(base["seconds"]) < most
