"""The main job on real data: fit Old Faithful, check the gradient, draw the picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gmm_np.checks import FloatArray, counted
from gmm_np.datasets import load_old_faithful
from gmm_np.gradcheck import GradientReport, check_grad
from gmm_np.parameters import Gradients, Parameters
from gmm_np.plotting import add_caption, captions, plot_mixture, save_figure
from gmm_np.progress import Progress
from gmm_np.reference import log_softmax_forward, nll_backward, nll_forward
from gmm_np.solvers import FitResult, fit_lbfgs, kmeans_start


def check_reference(x: FloatArray, at: Parameters, *, entrywise: bool = False) -> GradientReport:
    """Check the reference's gradients on the data x [N, D] at the given parameters."""

    def value_and_grad(*arguments: FloatArray) -> tuple[float, tuple[Any, ...]]:
        pi_logits, means, scale_tril, data = arguments
        value, cache = nll_forward(data, pi_logits, means, scale_tril)
        return value, nll_backward(cache)

    return check_grad(
        value_and_grad,
        {"pi_logits": at.pi_logits, "means": at.means, "scale_tril": at.scale, "x": x},
        free={"scale_tril": np.tri(at.n_features, dtype=bool)},
        entrywise=entrywise,
    )


def fit_best_of(
    x: FloatArray, n_components: int, n_starts: int, rng: np.random.Generator
) -> FitResult:
    """Fit from several k-means++ starts, with a progress line, and return the best."""
    best: FitResult | None = None
    with Progress("fit", n_starts, "start") as line:
        for _ in range(n_starts):
            result = fit_lbfgs(x, kmeans_start(x, n_components, rng), tol=1e-8)
            if best is None or result.nll < best.nll:
                best = result
            line.advance(note=f"best {best.nll:.6f} nats a sample")
    assert best is not None
    return _heaviest_first(best)


def _heaviest_first(result: FitResult) -> FitResult:
    """Order the components by weight, so that a fit looks the same from whichever start it came."""
    p, g = result.parameters, result.gradients
    assert g.scale is not None  # full covariances are learned
    order = np.argsort(-p.pi_logits, kind="stable")
    parameters = Parameters(p.pi_logits[order], p.means[order], p.scale[order])
    gradients = Gradients(g.pi_logits[order], g.means[order], g.scale[order])
    return replace(result, parameters=parameters, gradients=gradients)


def describe(result: FitResult, names: list[str]) -> str:
    """Describe a fitted mixture in a few lines."""
    parameters = result.parameters
    weights = np.exp(log_softmax_forward(parameters.pi_logits.astype(np.float64))[0])
    lines = ["The components, counted from 0:"]
    for k, L in enumerate(parameters.scale):
        lines.append(f"component {k}: weight {weights[k]:.4f}")
        for name, mean, row in zip(names, parameters.means[k], L @ L.T, strict=True):
            covariances = " ".join(f"{value:9.3f}" for value in row)
            lines.append(f"  {name:<12} mean {mean:9.3f}   covariance {covariances}")
    return "\n".join(lines)


def run_demo(path: Path, *, n_starts: int = 20, seed: int = 0) -> bool:
    """Fit two full-covariance components to Old Faithful; print, check, and draw to `path`.

    Without matplotlib it says so in place of the picture.

    Returns
    -------
    bool
        Whether the gradient check passed.
    """
    x, names = load_old_faithful()
    rng = np.random.default_rng(seed)
    print(f"Old Faithful: {len(x)} eruptions; {' and '.join(names)} in minutes.")
    print(
        f"Two Gaussians with full covariances, by L-BFGS from {counted(n_starts, 'start')}.",
        flush=True,
    )

    start = kmeans_start(x, 2, rng)
    best = fit_best_of(x, 2, n_starts, rng)
    print(f"\nNLL: {best.nll:.9f} nats a sample (log-likelihood {-best.nll * len(x):.6f})")
    iterations = counted(best.n_iter, "iteration")
    print(f"gradient's norm there: {best.gradient_norm:.1e}, after {iterations}\n")
    print(describe(best, names))

    print("\nThe hand-written gradient against central differences, where the fit started:")
    print("slopes of the loss along random directions, the worst for each argument.\n")
    report = check_reference(x, start)
    print(report)

    labels = ["eruption [min]", "waiting time to the next [min]"]
    title = f"Old Faithful, NLL {best.nll:.4f} nats a sample"
    try:
        figure = plot_mixture(x, best.parameters, labels=labels, title=title)
    except ImportError as error:
        print(f"\nNo picture: {error}")
        return report.passed
    add_caption(figure, captions.PLANE)
    save_figure(figure, path)
    print(f"\nPicture: {path}")
    return report.passed
