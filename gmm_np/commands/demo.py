"""gmm-np demo: Old Faithful, or clusters drawn at random."""

from __future__ import annotations

import argparse
from pathlib import Path

from gmm_np.commands.options import (
    Commands,
    add_picture_options,
    add_seed,
    add_solver_options,
    new_command,
    not_negative,
    picture_directory,
    whole_number,
)
from gmm_np.mixture import COVARIANCE_TYPES as FAMILIES


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
        draw that many clusters at random instead, fit as many components, or fewer or more, and
        print the loss as it falls.""",
        examples="""
        gmm-np demo
        gmm-np demo --clusters 5 --family full
        gmm-np demo --clusters 2 --components 5 --frames pictures
        gmm-np demo --clusters 5 --family diag --solver adam --step-logits 0.001 --log-every 100
        """,
    )
    add_picture_options(
        parser,
        "--out",
        plot="where to write the picture (default: old_faithful.png, or clusters.png)",
    )
    parser.add_argument(
        "--starts", type=whole_number(1), metavar="N", help="starts of the fit (default: 20, or 3)"
    )
    add_seed(parser, "data and starts")
    parser.add_argument(
        "--clusters",
        type=whole_number(1),
        metavar="C",
        help="draw so many clusters at random, in place of Old Faithful",
    )
    _add_cluster_options(parser)


def _add_cluster_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("clusters drawn at random, with --clusters")
    options = [
        group.add_argument(
            "--samples",
            type=whole_number(1),
            default=1000,
            metavar="N",
            help="rows (default: %(default)s)",
        ),
        group.add_argument(
            "--dims", type=whole_number(1), default=2, metavar="D", help="columns (default: 2)"
        ),
        group.add_argument(
            "--radius",
            type=not_negative,
            default=8.0,
            metavar="R",
            help="coordinates of the means are uniform on (-R, R) (default: 8)",
        ),
        group.add_argument(
            "--family",
            choices=FAMILIES,
            default="full",
            metavar="F",
            help=f"covariances, drawn and fitted: {', '.join(FAMILIES)} (default: %(default)s)",
        ),
        group.add_argument(
            "--components",
            type=whole_number(1),
            metavar="K",
            help="Gaussians to fit (default: as many as clusters)",
        ),
        *add_solver_options(group, "lbfgs"),
        group.add_argument(
            "--step-logits",
            type=not_negative,
            metavar="R",
            help="adam's step size for the logits of the weights, at the beginning (default: 0.01)",
        ),
        group.add_argument(
            "--step-components",
            type=not_negative,
            metavar="R",
            help="the same for means and factors (default: 0.01)",
        ),
        group.add_argument(
            "--log-every",
            type=whole_number(1),
            metavar="N",
            help="print the loss of every Nth iteration (default: 1, 2, 5, 10, 20, 50, ...)",
        ),
        *add_picture_options(
            group,
            plot_history="where to draw the loss by iteration (default: clusters_history.png)",
        ),
        group.add_argument(
            "--frames",
            type=picture_directory,
            metavar="DIR",
            help="draw the best start's fit on its way, into DIR: frame_0001.png, ... and fit.gif, "
            "at the iterations of --log-every (default: up to 24); two dimensions",
        ),
    ]
    parser.set_defaults(cluster_options={o.option_strings[0]: o for o in options})


def _run(options: argparse.Namespace) -> int:
    if options.clusters is None:
        for flag, option in options.cluster_options.items():
            if getattr(options, option.dest) != option.default:
                raise ValueError(
                    f"{flag} is for random clusters: add --clusters C, or leave it out."
                )
        from gmm_np.demo import run_demo

        path = options.plot or Path("old_faithful.png")
        return 0 if run_demo(path, n_starts=options.starts or 20, seed=options.seed) else 1
    options.components = options.components or options.clusters
    options.step_sizes = {
        name: size
        for name in ("step_logits", "step_components")
        if (size := getattr(options, name)) is not None
    }
    if options.step_sizes and options.solver != "adam":
        flags = " and ".join("--" + name.replace("_", "-") for name in options.step_sizes)
        raise ValueError(f"{flags}: only adam has step sizes; add --solver adam, or leave it out.")
    if options.frames is not None and options.dims != 2:
        raise ValueError(
            f"--frames draws two dimensions; got --dims {options.dims}. Leave one of them out."
        )
    for flag, least in (("--clusters", options.clusters), ("--components", options.components)):
        if options.samples < least:
            raise ValueError(
                f"--samples {options.samples} is less than {flag} {least}: each needs a row of its "
                "own. Draw more samples."
            )
    from gmm_np.commands.clusters import run_clusters

    options.starts = options.starts or 3
    options.plot = options.plot or Path("clusters.png")
    options.plot_history = options.plot_history or Path("clusters_history.png")
    run_clusters(options)
    return 0
