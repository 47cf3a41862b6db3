r"""Time gmm_np beside its peers: value and gradient of the mean NLL, full covariances, float64.

Each peer runs in a process of its own (server.py). In each cell of a grid of sizes, every peer
first has to be right: its value within 1e-10, its gradients in norm and in two random projections
each, as the judge has them, which is `gmm_np.reference`, or "direct" where the reference would take
too long. Those that are right are then timed in turn, repetition by repetition; a call of two
seconds or more is not made again only to be timed, since the one that was checked will do. A ratio
is a peer's time over that of gmm_np's "auto" in the same repetition, and a cell's figure is the
median of its ratios. The mixture objective of ADBench and GradBench is measured in the same way
beside PyTorch, which is its judge, too.

The whole grid takes about an hour on two idle cores. It can be stopped and resumed, and cells whose
repetitions were too short, or not steady, can be measured again. How fast libraries are depends on
the processor, and on what else runs: a machine with AVX-512 can measure as one without, and beside
processes that keep cores busy.

    python scripts/benchmark --json build/benchmark.json \
        --markdown docs/benchmarks.md --plot docs/benchmarks.png
    python scripts/benchmark --resume build/benchmark.json --again \
        --markdown docs/benchmarks.md --plot docs/benchmarks.png
    python scripts/benchmark --without-avx512 --beside 1 --peers gmm_np --stream 0
    python scripts/benchmark --objective
    python scripts/benchmark --quick

Exit status: 0, or 1 if a peer was wrong somewhere, 2 if the arguments make no sense.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

from cells import LIKELIHOOD, OBJECTIVE
from document import open_document, save
from figures import cell_name
from measure import Run
from peers import BASES, Peer, load_peers
from picture import plot
from tables import markdown
from tasks import measure

# D, K and N.
GRID = ((2, 10, 20, 32, 64, 128), (5, 10, 25, 50, 100, 200), (1000, 10_000, 100_000))
QUICK = ((2, 10), (5, 25), (1000, 10_000))
OBJECTIVE_GRID = ((10, 20, 32, 64), (25, 50), (1000,))


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmark.py",
        description=(__doc__ or "").partition("\n\n")[0],
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--d", type=int, nargs="+", metavar="D", help="dimensions")
    add("--k", type=int, nargs="+", metavar="K", help="numbers of components")
    add("--n", type=int, nargs="+", metavar="N", help="numbers of samples")
    add("--quick", action="store_true", help="a small grid, in a minute or two")
    add("--objective", action="store_true", help="only the mixture objective of ADBench")
    add("--stream", type=int, metavar="N", help="rows of the file (default 1e7; 0 without grid)")
    add("--peers", nargs="+", metavar="PEER", help="names, or what stands before their first _")
    add("--peer-module", action="append", default=[], metavar="FILE", help="more peers: its PEERS")
    add("--repeat", type=int, help="interleaved repetitions (default 5; 3 with --quick)")
    add("--budget", type=float, default=2.0, help="seconds to time a peer in a cell (default 2)")
    add("--longest", type=float, default=30.0, help="seconds of a call worth making (default 30)")
    add("--timeout", type=float, default=600.0, help="seconds until a peer is given up")
    add("--memory", type=float, default=10.0, help="GB that a peer may take (default 10)")
    add("--threads", type=int, help="cores for each peer (default: all)")
    add("--without-avx512", action="store_true", help="as on a processor that has none")
    add(
        "--beside", type=int, default=0, metavar="N", help="beside N processes that use a core each"
    )
    add("--seed", type=int, default=0)
    add("--json", type=Path, metavar="OUT", help="everything measured; written after each cell")
    add("--resume", type=Path, metavar="JSON", help="go on with this file")
    add("--again", action="store_true", help="with --resume: again what was doubtful")
    add("--markdown", type=Path, metavar="OUT", help="tables for docs/benchmarks.md")
    add("--plot", type=Path, metavar="PNG")
    options = parser.parse_args(arguments)
    sizes = options.d, options.k, options.n
    whole = not any((*sizes, options.quick, options.objective))

    def grid(*default: Iterable[int]) -> list[tuple[int, ...]]:
        axes = (given or usual for given, usual in zip(sizes, default, strict=True))
        return list(itertools.product(*axes))

    options.grid = [] if options.objective else grid(*(QUICK if options.quick else GRID))
    options.objective_grid = grid(*OBJECTIVE_GRID) if options.objective or whole else []
    if options.stream is None:
        options.stream = 10_000_000 if whole else 0
    options.repeat = options.repeat or (3 if options.quick else 5)
    options.json = options.json or options.resume
    if min(options.repeat, *itertools.chain(*options.grid, *options.objective_grid)) < 1:
        parser.error("sizes and repetitions are positive")
    if options.beside < 0:
        parser.error("--beside wants a number of processes, 0 or more")
    if options.plot is not None and not options.grid:
        parser.error("--plot draws the grid, which --objective leaves out: give one of the two")
    if options.again and options.resume is None:
        parser.error("--again wants --resume JSON, the run whose cells are to be measured again")
    return options


def choose_peers(options: argparse.Namespace, known: dict[str, Peer]) -> list[str]:
    """Return the peers that are named; "torch" stands for all whose name begins with torch_."""
    kinds = [LIKELIHOOD] * bool(options.grid or options.stream)
    kinds += [OBJECTIVE] * bool(options.objective_grid)
    chosen = list(known) if options.peers is None else []
    for name in options.peers or ():
        matches = [peer for peer in known if peer == name or peer.startswith(f"{name}_")]
        if not matches:
            raise ValueError(f"--peers {name}: there is none; there are {', '.join(known)}.")
        chosen += matches
    return [
        name
        for name, peer in known.items()
        if peer.kind in kinds and (name in BASES or name in chosen)
    ]


def report(run: Run) -> int:
    """Write what was asked for; return the exit status."""
    text = markdown(run.data)
    if run.options.markdown is not None:
        run.options.markdown.parent.mkdir(parents=True, exist_ok=True)
        run.options.markdown.write_text(text)
    else:
        print(text)
    if run.options.plot is not None:
        plot(run.data, run.options.plot)
    wrong = [
        f"{name} at {cell_name(cell)}: {record['note']}"
        for cell in run.data["cells"]
        for name, record in cell["peers"].items()
        if record["status"] == "wrong"
    ]
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    return 1 if wrong else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    options = parse_options(arguments)
    try:
        peers = load_peers(options.peer_module)
        names = choose_peers(options, peers)
        data = open_document(options, names, peers)
    except (ValueError, OSError) as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return 2
    run = Run(options, peers, data)
    try:
        measure(run)
    except KeyboardInterrupt:
        hint = f"go on with --resume {options.json}" if options.json else "nothing was kept"
        print(f"\nbenchmark.py: stopped; {hint}", file=sys.stderr)
        return 130
    save(run.data, options.json)
    return report(run)
