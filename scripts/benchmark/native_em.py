"""EM against native code: seconds an iteration beside oneDAL, VLFeat and Armadillo.

    python scripts/benchmark_native_em.py [--threads 1] [--rounds 5] [--onedal PYTHON]
        [--without-avx512]

Each is a program of its own, in turns, from the same start; seconds an iteration are those of 12
iterations less those of 2, over 10, so that no start counts. VLFeat and Armadillo are compiled here
(Debian: libvlfeat-dev, libarmadillo-dev), oneDAL runs in the Python that --onedal names, with
daal4py; what cannot be had is left out with a word. Ratios are ours over theirs, the median of the
rounds. Components overlap and start at rows, so that none converges: oneDAL says where it stops
early, and the time of another one that did would be too short. With --without-avx512 what is
compiled here has no AVX-512 either; oneDAL chooses its instructions for itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from environment import describe_avx512
from worker import environment_of

NATIVE = Path(__file__).with_name("native")
SHAPES = ((16, 16), (64, 8), (8, 64))  # D, K
COMPILERS = {
    "VLFeat": ["gcc", "-O3", "vlfeat.c", "-lvl", "-lm"],
    "Armadillo": ["g++", "-O3", "-fopenmp", "armadillo.cpp", "-larmadillo"],
}


def write_problem(path: Path, n: int, d: int, k: int) -> None:
    """Write a head, a start and rows, all as doubles."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((k, d))[rng.integers(k, size=n)]
    x += rng.standard_normal((n, d)) @ (np.eye(d) + 0.3 * np.tril(rng.standard_normal((d, d)), -1))
    start = x[rng.choice(n, k, replace=False)]
    variances = np.broadcast_to(x.var(axis=0), (k, d))
    blocks = ([n, d, k, 2, 12], start, variances, np.full(k, 1 / k), x)
    np.concatenate([np.ravel(block) for block in blocks]).astype(np.float64).tofile(path)


def programs(folder: Path, options: argparse.Namespace) -> dict[str, list[str]]:
    """Return the command of each library that can be had."""
    target = "-march=haswell" if options.without_avx512 else "-march=native"
    found = {"gmm_np": [sys.executable, str(NATIVE / "ours.py")]}
    for name, (compiler, *arguments) in COMPILERS.items():
        program = folder / name
        command = [compiler, target, *arguments, "-o", str(program)]
        try:
            subprocess.run(command, cwd=NATIVE, check=True, capture_output=True)
            found[name] = [str(program)]
        except (OSError, subprocess.CalledProcessError):
            print(f"{name} is left out: it does not compile here")
    if options.onedal is None:
        print("oneDAL is left out: no --onedal")
    else:
        found["oneDAL"] = [options.onedal, str(NATIVE / "onedal.py")]
    return found


def seconds(command: list[str], path: Path, kind: str, options: argparse.Namespace) -> float | str:
    """Return seconds an iteration, or what the program said in place of them."""
    arguments = [*command, str(path), str(options.threads), kind]
    environment = os.environ | environment_of(options)
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no word"])[-1]
    return float(done.stdout)


def compare(path: Path, kind: str, found: dict[str, list[str]], options: argparse.Namespace) -> str:
    """Return a line on one shape."""
    rounds = [
        {name: seconds(command, path, kind, options) for name, command in found.items()}
        for _ in range(options.rounds)
    ]
    ours = [time for one in rounds if not isinstance(time := one["gmm_np"], str)]
    words = []
    for name in found:
        times = [time for one in rounds if not isinstance(time := one[name], str)]
        if len(times) < len(rounds):
            words.append(f"{name} {next(one[name] for one in rounds)}")
            continue
        ratio = statistics.median(own / other for own, other in zip(ours, times, strict=True))
        words.append(f"{name} {1e3 * statistics.median(times):.1f} ms ({ratio:.2f})")
    return "; ".join(words)


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        prog="benchmark_native_em.py", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=["full", "diag"], choices=["full", "diag"])
    parser.add_argument("--onedal", metavar="PYTHON", help="an interpreter that has daal4py")
    parser.add_argument("--without-avx512", action="store_true")
    options = parser.parse_args(arguments)
    print(
        f"EM, N = {options.n}, threads: {options.threads}; "
        f"{describe_avx512(without=options.without_avx512)}; ours over theirs in brackets"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = programs(folder, options)
        for d, k in SHAPES:
            write_problem(folder / "problem", options.n, d, k)
            for kind in options.kinds:
                own = {p: c for p, c in found.items() if p != "VLFeat" or kind == "diag"}
                line = compare(folder / "problem", kind, own, options)
                print(f"{kind:<5} D = {d:<3} K = {k:<3} {line}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
