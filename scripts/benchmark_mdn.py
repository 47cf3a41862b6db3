"""Time the loss of rows with mixtures of their own, forward and backward, against PyTorch.

    python scripts/benchmark_mdn.py

The other side is `torch.distributions.MixtureSameFamily`, of `MultivariateNormal` or independent
`Normal`, and autograd: what a mixture density network in PyTorch has. Each measurement is a process
of its own, the two libraries in turn, so that neither has the other's threads or memory; both take
the same arrays, and have to agree in value and gradients before anything is timed. Memory is the
highest that the process held, beyond what it held with the arguments, as Linux tells it. Run it on
an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np import mdn
from gmm_np.checks import FloatArray

LIBRARIES: Final = ("gmm_np", "torch")
TOLERANCE: Final = 1e-9  # both round to some 1e-13


class Case(NamedTuple):
    """What is timed: N rows, K components, D dimensions."""

    family: str
    n_rows: int
    n_components: int
    n_dims: int

    def draw(self) -> tuple[FloatArray, ...]:
        """Return x, logits, means and scale, the same in each process."""
        rng, (n, k, d) = np.random.default_rng(0), self[1:]
        scale = rng.uniform(0.5, 2.0, size=(n, k, d))
        if self.family == "full":
            lower = np.tril(0.3 * rng.normal(size=(n, k, d, d)), -1)
            scale = lower + scale[..., None] * np.eye(d)
        shapes = (n, d), (n, k), (n, k, d)
        return *(rng.normal(size=shape) for shape in shapes), scale


class Measurement(NamedTuple):
    """Of one process: the fastest step, memory beyond the arguments, and what was computed."""

    seconds: float
    bytes: int
    value: float
    gradients: list[float]


def main(arguments: list[str] | None = None) -> int:
    """Print a table; exit code 1 if the libraries disagree."""
    options = _parse(arguments)
    if options.measure:
        case = Case(*json.loads(options.measure[1]))
        print(json.dumps(measure(options.measure[0], case, options.repeats, options.threads)))
        return 0
    cases = (Case("full", options.rows, 10, 8), Case("diag", options.rows, 10, 2))
    header = ("family", "N", "K", "D", "gmm_np", "PyTorch", "ratio", "memory", "PyTorch", "ratio")
    print(("{:>8}" * len(header)).format(*header))
    for case in cases:
        found: dict[str, list[Measurement]] = {library: [] for library in LIBRARIES}
        for _ in range(options.rounds):
            for library in LIBRARIES:
                found[library].append(_in_process(library, case, options))
        ours, theirs = (found[library] for library in LIBRARIES)
        if not agree(ours[0], theirs[0]):
            print(f"{case}: the libraries disagree: {ours[0]}, {theirs[0]}", file=sys.stderr)
            return 1
        print(row(case, ours, theirs))
    return 0


def agree(ours: Measurement, theirs: Measurement) -> bool:
    """Whether value and gradients are equal to rounding."""
    pairs = zip((ours.value, *ours.gradients), (theirs.value, *theirs.gradients), strict=True)
    return all(abs(a - b) <= TOLERANCE * max(abs(b), 1e-3) for a, b in pairs)


def row(case: Case, ours: list[Measurement], theirs: list[Measurement]) -> str:
    """Return a line of the table: medians of the processes in ms and MB, and theirs over ours."""
    texts = [f"{part:>8}" for part in case]
    for field, unit in (("seconds", 1e-3), ("bytes", 1e6)):
        mine, other = (
            float(np.median([getattr(m, field) for m in each])) for each in (ours, theirs)
        )
        ratio = f"{other / mine:.2f}" if mine else "-"
        texts += [f"{mine / unit:>8.1f}", f"{other / unit:>8.1f}", f"{ratio:>8}"]
    return "".join(texts)


def measure(library: str, case: Case, repeats: int, threads: int) -> Measurement:
    """Time steps in this process, after one that is not timed."""
    arrays = case.draw()
    step: Step = _ours(case, arrays) if library == "gmm_np" else _theirs(case, arrays, threads)
    before = _reset_peak()
    value, gradients = step()
    peak = _peak() - before
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    # Each gradient along a direction of its own: a sum could hide what is in the wrong place.
    rng = np.random.default_rng(1)
    slopes = [float(np.vdot(g, rng.normal(size=g.shape))) for g in gradients]
    return Measurement(min(seconds), peak, float(value), slopes)


Step = Callable[[], tuple[float, tuple[Any, ...]]]


def _ours(case: Case, arrays: tuple[FloatArray, ...]) -> Step:
    def step() -> tuple[float, tuple[Any, ...]]:
        value, d = mdn.nll_value_and_grad(*arrays, family=case.family)
        return value, (d.x, d.pi_logits, d.means, d.scale)

    return step


def _theirs(case: Case, arrays: tuple[FloatArray, ...], threads: int) -> Step:
    import torch
    import torch.distributions as td

    torch.set_num_threads(threads)
    leaves = [torch.from_numpy(array).requires_grad_() for array in arrays]

    def step() -> tuple[float, tuple[Any, ...]]:
        x, logits, means, scale = leaves
        components: Any
        if case.family == "full":
            components = td.MultivariateNormal(means, scale_tril=scale, validate_args=False)
        else:
            components = td.Independent(td.Normal(means, scale, validate_args=False), 1)
        weights = td.Categorical(logits=logits, validate_args=False)
        mixture = td.MixtureSameFamily(weights, components, validate_args=False)
        loss = -mixture.log_prob(x).mean()
        found = torch.autograd.grad(loss, leaves)
        d_x, d_logits, d_means, d_scale = (g.numpy() for g in found)
        if case.family == "full":
            d_scale = np.tril(d_scale)
        return loss.item(), (d_x, d_logits, d_means, d_scale)

    return step


def _reset_peak() -> int:
    """Forget the peak of what was drawn, and return the bytes that are held; Linux."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak()


def _peak() -> int:
    """Bytes that this process held at most; `resource` has what its parent held, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.M)[0])


def _in_process(library: str, case: Case, options: argparse.Namespace) -> Measurement:
    path = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = {f"{name}_NUM_THREADS": str(options.threads) for name in ("OPENBLAS", "MKL", "OMP")}
    command = [sys.executable, __file__, "--measure", library, json.dumps(case)]
    command += ["--repeats", str(options.repeats), "--threads", str(options.threads)]
    result = subprocess.run(
        command,
        env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Measurement(*json.loads(result.stdout))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Time the loss of rows with mixtures of their own against PyTorch's."
    )
    parser.add_argument("--rows", type=int, default=10_000, help="N (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="processes of each library (default: %(default)s)"
    )
    parser.add_argument(
        "--repeats", type=int, default=10, help="steps timed in a process (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="of both libraries (default: %(default)s)"
    )
    parser.add_argument("--measure", nargs=2, metavar=("LIBRARY", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for name in ("rows", "rounds", "repeats", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1; got {getattr(options, name)}.")
    return options


if __name__ == "__main__":
    sys.exit(main())
