"""The demo on clusters drawn at random: draw, fit, say how the loss falls, and picture it."""

from __future__ import annotations

import warnings
from pathlib import Path

from gmm_np import GaussianMixture, nll
from gmm_np.commands.report import SOLVERS, TOLERANCES, describe
from gmm_np.datasets import make_clusters
from gmm_np.plotting import plot_history, plot_mixture, plot_pairs, save_figure


def run_clusters(
    n_clusters: int,
    *,
    family: str,
    solver: str,
    n_samples: int,
    n_features: int,
    radius: float,
    n_starts: int,
    seed: int,
    plot: Path,
    history: Path,
) -> None:
    """Fit a mixture to `n_clusters` clusters drawn at random; print, and draw two pictures."""
    x, _, truth = make_clusters(
        n_samples, n_clusters, n_features, family=family, radius=radius, seed=seed
    )
    true_loss = nll(x, truth.pi_logits, truth.means, truth.scale)
    print(f"{n_samples} samples of {n_clusters} random clusters in {n_features} dimensions.")
    starts = "1 start" if n_starts == 1 else f"{n_starts} starts"
    print(f"{n_clusters} Gaussians, family {family}, by {SOLVERS[solver]} from {starts}.\n")

    curves: list[list[float]] = []

    def report(iteration: int, loss: float) -> None:
        if iteration == 1 or not curves:
            curves.append([])
        curves[-1].append(loss)
        if _is_told(iteration):
            start = f"start {len(curves)}, " if n_starts > 1 else ""
            print(f"{start}iteration {iteration:5d}: loss {loss:.6f}", flush=True)

    model = GaussianMixture(
        n_clusters,
        covariance_type=family,
        solver=solver,
        n_init=n_starts,
        tol=TOLERANCES[solver],
        init_params="k-means++",
        max_iter=1000,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether it converged is printed
        model.fit(x, callback=report)
    loss = -model.score(x)
    reached = "converged" if model.converged_ else "not converged"
    print(f"\nNLL: {loss:.6f} nats a sample, {reached} after {model.n_iter_} iterations;")
    print(f"of the mixture that the samples were drawn from: {true_loss:.6f}\n")
    names = [f"x{j + 1}" for j in range(n_features)]
    print(describe(model, names))

    title = f"{n_clusters} random clusters, {family}, NLL {loss:.4f} nats a sample"
    draw = plot_mixture if n_features <= 2 else plot_pairs
    save_figure(draw(x, model, title=title), plot)
    named = {f"start {number}": curve for number, curve in enumerate(curves, start=1)}
    save_figure(plot_history(named, title=f"The loss by {SOLVERS[solver]}"), history)
    print(f"\nPicture: {plot}\nPicture of the loss: {history}")


def _is_told(iteration: int) -> bool:
    """Whether the iteration is 1, 2, 5, 10, 20, 50, ...: a few lines, however many there are."""
    while iteration % 10 == 0:
        iteration //= 10
    return iteration in (1, 2, 5)
