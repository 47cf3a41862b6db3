"""Hessian-vector products beside gradients, and beside PyTorch's double backward.

    python scripts/benchmark_hvp.py [--d 2 10 32 64] [--k 5 25 100] [--n 1000 10000 100000]
        [--rounds 5] [--longest 20] [--without-avx512]

PyTorch's is `torch.distributions.MixtureSameFamily`, differentiated twice by autograd. The products
are compared first, block by block; only then are all three timed, in turns and each in a process of
its own, and ratios are of the same round, the median of all. PyTorch is left out of cells in which
it would take longer than `--longest` seconds, or more memory than there is. Prints a table in
Markdown; the exit code is 1 if products differ by more than 1e-9 relative.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from dataclasses import asdict
from typing import Any, NamedTuple

import measure
import numpy as np
from cells import Answer, Cell, Prepared, draw_parameters, draw_rows
from environment import describe_avx512
from peers import Peer
from worker import Worker, WorkerError

import gmm_np
from gmm_np.conformance.adapters import pytorch
from gmm_np.linalg.threads import cores

ALLOWED = 1e-9
MEMORY = 12e9  # bytes that PyTorch may take
DOUBLES = 14  # it holds for each element of [N, K, D], about


class Direction(NamedTuple):
    """A problem, and the direction in which its parameters move."""

    arrays: tuple[Any, ...]
    direction: gmm_np.Gradients


def draw_direction(cell: Cell) -> Direction:
    """Draw a problem and a direction."""
    logits, means, factors = draw_parameters(cell)
    steps = [cell.rng(0, i).normal(size=a.shape) for i, a in enumerate((logits, means, factors))]
    arrays = (draw_rows(cell, cell.n), logits, means, factors)
    return Direction(arrays, gmm_np.Gradients(steps[0], steps[1], np.tril(steps[2])))


def _gradient(problem: Direction) -> Prepared:
    return Prepared(lambda: gmm_np.nll_value_and_grad(*problem.arrays), None)


def _hvp(problem: Direction) -> Prepared:
    x, logits, means, factors = problem.arrays
    return Prepared(
        lambda: gmm_np.nll_hvp(x, logits, means, factors, problem.direction),
        lambda found: Answer(1.0, tuple(found[:3])),
    )


def _double_backward(problem: Direction) -> Prepared:
    import torch

    x, *parameters = (torch.tensor(a) for a in problem.arrays)
    steps = [torch.tensor(a) for a in problem.direction[:3]]

    def call() -> Any:
        for parameter in parameters:
            parameter.requires_grad_()
        loss = -pytorch.log_prob(x, *parameters, validate_args=False).mean()
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        along = sum((g * step).sum() for g, step in zip(gradients, steps, strict=True))
        return torch.autograd.grad(along, parameters)

    def read(found: Any) -> Answer:
        logits, means, factors = (block.numpy() for block in found)
        return Answer(1.0, (logits, means, np.tril(factors)))

    return Prepared(call, read)


PEERS = {
    name: Peer(name, prepare, modules, draw=draw_direction)
    for name, prepare, modules in (
        ("gradient", _gradient, ()),
        ("hvp", _hvp, ()),
        ("pytorch", _double_backward, ("torch",)),
    )
}


def run_cell(
    workers: dict[str, Worker], cell: Cell, rounds: int, longest: float
) -> tuple[dict[str, float], bool]:
    """Print a line; return ratios to the product's time, and whether PyTorch's agreed."""
    names = ["gradient", "hvp"]
    if DOUBLES * 8.0 * cell.n * cell.k * cell.d < MEMORY:
        names.append("pytorch")
    summaries, calls = {}, {}
    for name in list(names):
        try:
            workers[name].ask("draw", cell=asdict(cell))
            workers[name].ask("prepare")
            checked = workers[name].ask("check")
        except WorkerError:
            names.remove(name)
            continue
        summaries[name] = checked["summary"]
        if checked["seconds"] > longest:
            names.remove(name)
        elif checked["seconds"] > 0.2:
            calls[name] = 1
        else:
            calls[name] = workers[name].ask("calls", least=0.2)["calls"]
    complaints: list[str] = []
    if summaries.get("pytorch"):
        _, complaints = measure.compare(
            summaries["hvp"], summaries["pytorch"], has_gradient=True, tolerance=ALLOWED
        )
    times = [{name: workers[name].time(calls[name]) for name in names} for _ in range(rounds)]
    ratios = {name: statistics.median(t[name] / t["hvp"] for t in times) for name in names}
    best = {name: 1e3 * min(t[name] for t in times) for name in names}
    shown = [f"{best[name]:.2f}" if name in best else "" for name in PEERS]
    found = [f"{1 / ratios['gradient']:.2f}"]
    found.append(f"{ratios['pytorch']:.1f}" if "pytorch" in ratios else "")
    print(f"| {cell.d} | {cell.k} | {cell.n} | " + " | ".join(shown + found) + " |", flush=True)
    for complaint in complaints:
        print(f"D={cell.d} K={cell.k} N={cell.n}: {complaint}", file=sys.stderr)
    for name in PEERS:
        workers[name].ask("release")
    return ratios, not complaints


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        prog="benchmark_hvp.py", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--d", type=int, nargs="+", default=[2, 10, 32, 64])
    parser.add_argument("--k", type=int, nargs="+", default=[5, 25, 100])
    parser.add_argument("--n", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--longest", type=float, default=20.0, help="seconds (default: 20)")
    parser.add_argument(
        "--without-avx512", action="store_true", help="as on a processor that has none"
    )
    options = parser.parse_args(arguments)
    without = options.without_avx512
    settings = argparse.Namespace(
        peer_module=[__file__], threads=cores(), timeout=600.0, without_avx512=without
    )
    workers = {name: Worker(name, peer, settings, warm=False) for name, peer in PEERS.items()}
    print(f"Cores used: {cores()}; {describe_avx512(without=without)}; NumPy {np.__version__}.\n")
    print(
        "| D | K | N | gradient, ms | product, ms | PyTorch, ms | over gradient | PyTorch over it |"
    )
    print("|---|---|---|---|---|---|---|---|")
    over: dict[str, list[float]] = {"gradient": [], "pytorch": []}
    same = True
    try:
        for n in options.n:
            for d in options.d:
                for k in options.k:
                    ratios, agreed = run_cell(
                        workers, Cell(n, k, d, 0), options.rounds, options.longest
                    )
                    same = same and agreed
                    for name, found in over.items():
                        if name in ratios:
                            found.append(ratios[name])
    finally:
        for worker in workers.values():
            worker.stop()
    means = {
        name: math.exp(statistics.mean(map(math.log, found)))
        for name, found in over.items()
        if found
    }
    print(
        f"\nIn the geometric mean a product takes {1 / means['gradient']:.2f} times a gradient",
        end="",
    )
    if "pytorch" in means:
        print(f", and PyTorch's double backward {means['pytorch']:.1f} times a product", end="")
    print(".")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
