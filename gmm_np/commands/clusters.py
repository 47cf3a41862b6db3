"""The demo on clusters drawn at random: draw, fit, say how the loss falls, and picture it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from gmm_np import Parameters, nll
from gmm_np.checks import FloatArray, counted, name_components
from gmm_np.commands.options import tell_left_out
from gmm_np.commands.report import SOLVERS, describe, reached
from gmm_np.datasets import make_clusters
from gmm_np.mixture.gaussian_mixture import BATCH_SIZE, NEWTON_TOL
from gmm_np.plotting import (
    add_caption,
    captions,
    plot_contours,
    plot_history,
    plot_mixture,
    plot_pairs,
    save_animation,
    save_figure,
)
from gmm_np.plotting.canvas import axis_names
from gmm_np.progress import Progress
from gmm_np.solvers import FitResult, fit_adam, fit_em, fit_lbfgs, fit_newton, make_start
from gmm_np.solvers.initialization import sample_for
from gmm_np.solvers.results import Data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REG_COVAR: Final = 1e-6  # more components than clusters can collapse
N_FRAMES: Final = 24  # at most, where the log's frequency does not say which


class Fit(NamedTuple):
    """A fit from one start."""

    result: FitResult
    losses: list[float]
    path: list[Parameters]  # from the start to the end, where it is kept


def run_clusters(options: argparse.Namespace) -> None:
    """Fit a mixture to clusters drawn at random; print, and draw the pictures.

    `options` are those of `gmm-np demo --clusters`; `step_sizes` are those that `fit_adam` takes.
    """
    n_features, family, solver = options.dims, options.family, SOLVERS[options.solver].title
    x, _, truth = make_clusters(
        options.samples,
        options.clusters,
        n_features,
        family=family,
        radius=options.radius,
        seed=options.seed,
    )
    true_loss = nll(x, truth.pi_logits, truth.means, truth.scale)
    clusters = counted(options.clusters, "random cluster")
    starts, gaussians = counted(options.starts, "start"), counted(options.components, "Gaussian")
    print(
        f"{counted(options.samples, 'sample')} of {clusters} in {counted(n_features, 'dimension')}."
    )
    print(f"{gaussians}, family {family}, by {solver} from {starts}.\n")

    data, rng = Data(x), np.random.default_rng(options.seed)
    fits: list[Fit] = []
    for number in range(options.starts):
        sample = sample_for(data, options.components, rng)
        start = make_start(sample, options.components, rng, init="k-means++", family=family)
        log = f"start {number}, " if options.starts > 1 else ""
        fits.append(_fit(data, start, rng, log, options))
    result, _, path = min(fits, key=lambda fit: fit.result.nll)
    how = reached(result.converged, result.n_iter)
    print(f"\nNLL: {result.nll:.6f} nats a sample, {how};")
    print(f"of the mixture that the samples were drawn from: {true_loss:.6f}")
    if result.collapsed:
        who = name_components(result.collapsed)
        print(f"collapsed, and held up by a variance of {REG_COVAR:g} alone: {who}")
    print()
    print(describe(result.parameters, axis_names(None, n_features)))

    title = f"{clusters}, {gaussians}, {family}, NLL {result.nll:.4f} nats a sample"
    try:
        if n_features <= 2:
            figure = plot_mixture(x, result.parameters, title=title, aspect="equal")
        else:
            figure = plot_pairs(x, result.parameters, title=title)
    except ImportError as error:
        print(f"\nNo pictures: {error}")
        return
    if n_features > 2:
        tell_left_out(options.plot, axis_names(None, n_features))
    add_caption(figure, captions.mixture(n_features))
    save_figure(figure, options.plot)
    curves = {
        f"start {number}": fit.losses or [fit.result.nll]  # a start that cannot be improved
        for number, fit in enumerate(fits)
    }
    figure = plot_history(curves, title=f"The loss by {solver}")
    add_caption(figure, captions.HISTORY)
    save_figure(figure, options.plot_history)
    print(f"\nPicture: {options.plot}\nPicture of the loss: {options.plot_history}")
    frames = options.frames
    if frames is not None:
        count = draw_frames(x, path, frames, solver, options.log_every)
        print(f"Pictures of the fit: {count} in {frames}, and together in {frames / 'fit.gif'}")


def _fit(
    data: Data, start: Parameters, rng: np.random.Generator, log: str, options: argparse.Namespace
) -> Fit:
    """Fit from a start; tell the loss on the way, after the words `log`."""
    losses: list[float] = []
    path = [start]

    def tell(iteration: int, loss: float) -> None:
        losses.append(loss)
        if _is_told(iteration, options.log_every):
            print(f"{log}iteration {iteration:5d}: loss {loss:.6f}", flush=True)

    keep = None if options.frames is None else (lambda _, parameters: path.append(parameters))
    limits: dict[str, Any] = {"max_iter": options.max_iter, "tol": SOLVERS[options.solver].tol}
    if options.solver == "adam":
        limits |= {"batch_size": BATCH_SIZE, "rng": rng, **options.step_sizes}
    fits = {"em": fit_em, "em+newton": fit_em, "lbfgs": fit_lbfgs, "adam": fit_adam}
    fit = fits[options.solver]
    found = fit(data, start, reg_covar=REG_COVAR, callback=tell, trace=keep, **limits)
    if options.solver == "em+newton" and found.converged and not found.collapsed:
        by_em, done = len(path), found.n_iter
        further = fit_newton(
            data,
            found.parameters,
            tol=NEWTON_TOL,
            max_iter=max(options.max_iter - done, 1),
            callback=lambda iteration, loss: tell(done + iteration, loss),
            trace=keep,
        )
        if further.collapsed:  # which has no floor: as the estimator, keep EM's fit
            del losses[done:], path[by_em:]
        else:
            found = replace(further, n_iter=len(losses))
    return Fit(found, losses, path)


def draw_frames(
    x: FloatArray, path: list[Parameters], frames: Path, solver: str, log_every: int | None
) -> int:
    """Draw the mixture on its way from the start, path[0], to the end; return how many pictures.

    They become frame_0001.png and so on, and fit.gif, in the directory `frames`, in which further
    ones of an earlier fit are removed.
    """
    frames.mkdir(exist_ok=True)
    chosen = _pictured(len(path) - 1, log_every)
    ends = [plot_contours(x, parameters).axes[0] for parameters in (path[0], path[-1])]
    xlim, ylim = ([axes.get_xlim() for axes in ends], [axes.get_ylim() for axes in ends])
    limits = ((np.min(xlim), np.max(xlim)), (np.min(ylim), np.max(ylim)))

    def figures(line: Progress) -> Iterator[Figure]:
        for number, iteration in enumerate(chosen, start=1):
            p = path[iteration]
            loss = nll(x, p.pi_logits, p.means, p.scale, family=p.family)
            when = f"{solver}, iteration {iteration}" if iteration else "The start"
            figure = plot_contours(
                x, p, title=f"{when}: NLL {loss:.4f} nats a sample", limits=limits
            )
            save_figure(figure, frames / f"frame_{number:04d}.png")
            line.advance()
            yield figure

    with Progress("pictures of the fit", len(chosen), "picture") as line:
        save_animation(figures(line), frames / "fit.gif")
    for old in frames.glob("frame_*.png"):
        found = re.fullmatch(r"frame_(\d{4})\.png", old.name)
        if found and int(found[1]) > len(chosen):
            old.unlink()
    return len(chosen)


def _pictured(last: int, log_every: int | None) -> list[int]:
    """Return the iterations that are pictured, the start 0 and the last among them."""
    if log_every is not None:
        told = [i for i in range(1, last) if _is_told(i, log_every)]
        return list(dict.fromkeys([0, *told, last]))
    # Evenly on a logarithmic scale: the first iterations do the most.
    places = np.geomspace(1, last + 1, N_FRAMES).round().astype(int) - 1
    return [int(place) for place in np.unique(places)]


def _is_told(iteration: int, log_every: int | None) -> bool:
    """Whether the log has the iteration: each so many, or else 1, 2, 5, 10, 20, 50, ..."""
    if log_every is not None:
        return iteration == 1 or iteration % log_every == 0
    while iteration % 10 == 0:
        iteration //= 10
    return iteration in (1, 2, 5)
