"""What peers are given: mixtures drawn from a seed, and the mixture objective of ADBench.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

# What a problem is about, and its gradients, in this order everywhere.
LIKELIHOOD, OBJECTIVE = "likelihood", "objective"
BLOCKS = {LIKELIHOOD: ("pi_logits", "means", "scale"), OBJECTIVE: ("alpha", "mu", "q", "l")}


@dataclass(frozen=True)
class Cell:
    """A problem's size, seed and kind. With `path` its rows are in a file, taken in batches."""

    n: int
    k: int
    d: int
    seed: int
    path: str | None = None
    batch: int | None = None
    kind: str = LIKELIHOOD
    iterations: int = 0  # of EM

    def rng(self, *part: int) -> np.random.Generator:
        """Return the generator of its parameters, or of a part of its rows."""
        return np.random.default_rng([self.seed, self.n, self.k, self.d, *part])


@dataclass
class Problem:
    """Data and the parameters that they were drawn from."""

    x: Any  # [N, D]
    pi_logits: Any  # [K]
    means: Any  # [K, D]
    scale_tril: Any  # [K, D, D]
    batch: int

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What functions of the likelihood take."""
        return self.x, self.pi_logits, self.means, self.scale_tril

    def batches(self) -> Iterator[slice]:
        """Rows that a peer without streaming of its own takes at a time: all, but for a file."""
        for start in range(0, len(self.x), self.batch):
            yield slice(start, start + self.batch)


def draw_parameters(cell: Cell) -> tuple[Any, Any, Any]:
    """Draw components of unit scale, their means a unit apart: logits, means, factors."""
    rng = cell.rng()
    scale_tril = np.tril(rng.normal(0.0, 0.3 / math.sqrt(cell.d), (cell.k, cell.d, cell.d)), -1)
    i = np.arange(cell.d)
    scale_tril[:, i, i] = np.exp(0.1 * rng.normal(size=(cell.k, cell.d)))
    return rng.normal(0.0, 0.5, cell.k), rng.normal(size=(cell.k, cell.d)), scale_tril


def draw_rows(cell: Cell, n_rows: int, part: int = 0) -> Any:
    """Draw rows [n_rows, D] from the mixture, in little more memory than they need."""
    pi_logits, means, scale_tril = draw_parameters(cell)
    rng = cell.rng(1 + part)
    pi = np.exp(pi_logits) / np.exp(pi_logits).sum()
    component = rng.choice(cell.k, size=n_rows, p=pi)
    x = np.empty((n_rows, cell.d))
    for k in range(cell.k):
        rows = np.flatnonzero(component == k)
        x[rows] = rng.normal(size=(len(rows), cell.d)) @ scale_tril[k].T + means[k]
    return x


class ObjectiveProblem(NamedTuple):
    """Arguments of the mixture objective of ADBench and GradBench."""

    x: Any  # [N, D]
    alpha: Any  # [K]
    mu: Any  # [K, D]
    q: Any  # [K, D]
    l: Any  # [K, D (D - 1) / 2]  # noqa: E741  (the name in the specification)
    gamma: float = 1.0
    m: int = 0


def draw_objective(cell: Cell) -> ObjectiveProblem:
    """Draw as those benchmarks do: means uniform in [0, 1], everything else standard normal.

    Their generator is data/gmm/gmm-data-gen.py in microsoft/ADBench, evals/gmm/data_gen.py in
    gradbench/gradbench. A component's q and l are one row there, its "icf".
    """
    rng = cell.rng()
    alpha, mu = rng.normal(size=cell.k), rng.uniform(size=(cell.k, cell.d))
    icf = rng.normal(size=(cell.k, cell.d * (cell.d + 1) // 2))
    x = rng.normal(size=(cell.n, cell.d))
    return ObjectiveProblem(x, alpha, mu, icf[:, : cell.d].copy(), icf[:, cell.d :].copy())


def draw(cell: Cell) -> Problem | ObjectiveProblem:
    """Draw a problem; the rows of one that has a file are mapped, not read."""
    if cell.kind == OBJECTIVE:
        return draw_objective(cell)
    x: Any = draw_rows(cell, cell.n) if cell.path is None else np.load(cell.path, mmap_mode="r")
    return Problem(x, *draw_parameters(cell), cell.batch or cell.n)


def write_rows(cell: Cell, rows: int = 100_000) -> None:
    """Write the rows of a cell to its file, for all peers to map."""
    assert cell.path is not None
    x = np.lib.format.open_memmap(cell.path, "w+", np.float64, (cell.n, cell.d))
    for part, start in enumerate(range(0, cell.n, rows)):
        stop = min(start + rows, cell.n)
        x[start:stop] = draw_rows(cell, stop - start, part)
    x.flush()


class Answer(NamedTuple):
    """A value, and its gradients in their order in `BLOCKS`, but for peers that have none."""

    value: Any  # a number; of EM one for each iteration
    gradients: tuple[Any, ...] | None = None


def read_outputs(out: Any) -> Answer:
    """Read a value alone, or in a tuple with its gradients."""
    return Answer(out[0], tuple(out[1:])) if isinstance(out, tuple) else Answer(out)


class Prepared(NamedTuple):
    """A problem in a peer's hands.

    `call` is what is timed, and returns when the work is done. `read` turns what it returned into
    an answer, and is None where there is nothing to check.
    """

    call: Callable[[], Any]
    read: Callable[[Any], Answer] | None = read_outputs
    note: str = ""
