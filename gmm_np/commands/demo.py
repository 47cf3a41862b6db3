"""gmm-np demo: Old Faithful, or clusters drawn at random."""

from __future__ import annotations

import argparse
from pathlib import Path

from gmm_np.commands.options import Commands, new_command, not_negative, picture, whole_number
from gmm_np.mixture import COVARIANCE_TYPES as FAMILIES
from gmm_np.mixture import SOLVERS


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new_command(
        commands,
        "demo",
        _run,
        summary="fit Old Faithful, check the gradient, draw the picture",
        description="""Fit two full-covariance Gaussians to the eruptions of Old Faithful (272 rows
        that come with the package) with the hand-written gradient and L-BFGS; print the fitted
        mixture and a check of the gradient, and draw data, ellipses and density. With --clusters,
        draw that many clusters at random instead, fit as many components, and print the loss as it
        falls.""",
        examples="""
        gmm-np demo
        gmm-np demo --clusters 5 --family full
        gmm-np demo --clusters 5 --family diag --solver adam --plot-history loss.png
        """,
    )
    parser.add_argument(
        "--plot",
        "--out",
        dest="plot",
        type=picture,
        metavar="PNG",
        help="where to write the picture (default: old_faithful.png, or clusters.png)",
    )
    parser.add_argument(
        "--starts", type=whole_number(1), metavar="N", help="starts of the fit (default: 20, or 3)"
    )
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="N", help="of data and starts"
    )
    group = parser.add_argument_group("clusters drawn at random")
    group.add_argument(
        "--clusters", type=whole_number(1), metavar="K", help="how many to draw and to fit"
    )
    group.add_argument(
        "--family",
        choices=FAMILIES,
        default="full",
        metavar="F",
        help=f"covariances, drawn and fitted: {', '.join(FAMILIES)} (default: %(default)s)",
    )
    group.add_argument(
        "--solver",
        choices=SOLVERS,
        default="lbfgs",
        metavar="S",
        help="em, lbfgs or adam (default: %(default)s)",
    )
    group.add_argument(
        "--samples",
        type=whole_number(1),
        default=1000,
        metavar="N",
        help="rows (default: %(default)s)",
    )
    group.add_argument(
        "--dims", type=whole_number(1), default=2, metavar="D", help="columns (default: 2)"
    )
    group.add_argument(
        "--radius",
        type=not_negative,
        default=8.0,
        metavar="R",
        help="coordinates of the means are uniform on (-R, R) (default: 8)",
    )
    group.add_argument(
        "--plot-history",
        type=picture,
        metavar="PNG",
        help="where to draw the loss by iteration (default: clusters_history.png)",
    )


def _run(options: argparse.Namespace) -> int:
    if options.clusters is None:
        from gmm_np.demo import run_demo

        path = options.plot or Path("old_faithful.png")
        return 0 if run_demo(path, n_starts=options.starts or 20, seed=options.seed) else 1
    from gmm_np.commands.clusters import run_clusters

    run_clusters(
        options.clusters,
        family=options.family,
        solver=options.solver,
        n_samples=options.samples,
        n_features=options.dims,
        radius=options.radius,
        n_starts=options.starts or 3,
        seed=options.seed,
        plot=options.plot or Path("clusters.png"),
        history=options.plot_history or Path("clusters_history.png"),
    )
    return 0
