"""What the commands print of a mixture: a few lines for people, one JSON document for machines."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from gmm_np.checks import FloatArray, counted
from gmm_np.covariance import FAMILIES
from gmm_np.mixture.criteria import CRITERIA
from gmm_np.parameters import Parameters

_SHOWN: Final = 20  # components that are printed for people; JSON has all
_PAIRS: Final = 6  # correlations of a component that are printed for people
_WIDEST: Final = 6  # dimensions of which the covariances are printed for people


class Solver(NamedTuple):
    """What people are told of a solver, and where its fits end if they do not say."""

    title: str
    tol: float  # nats a sample
    ends: str  # what --tol means to it


_BY_GAIN: Final = "where an iteration gains less"
_BY_GRADIENT: Final = "where no entry of the gradient is larger"
SOLVERS: Final = {
    "em": Solver("EM", 1e-6, _BY_GAIN),
    "em+newton": Solver("EM and Newton's method", 1e-6, _BY_GAIN),  # of EM; Newton to the end
    "lbfgs": Solver("L-BFGS", 1e-6, _BY_GRADIENT),
    "adam": Solver("Adam", 1e-4, _BY_GRADIENT),
}


def tolerance_help() -> str:
    """Return what the help says of --tol."""
    ways = dict.fromkeys(solver.ends for solver in SOLVERS.values())
    means = [
        f"{way} ({', '.join(name for name, solver in SOLVERS.items() if solver.ends == way)})"
        for way in ways
    ]
    tols = {
        name: np.format_float_scientific(solver.tol, trim="-", exp_digits=1)
        for name, solver in SOLVERS.items()
    }
    usual = tols["em"]
    others = [f", for {name} {tol}" for name, tol in tols.items() if tol != usual]
    return f"end {', or '.join(means)}, in nats a sample (default: {usual}{''.join(others)})"


def json_text(document: Mapping[str, Any]) -> str:
    """Return strict JSON, in which what is not a finite number is null."""
    return json.dumps(_plain(document), allow_nan=False, indent=2)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def mixture_document(model: Any) -> dict[str, Any]:
    """Return what JSON says of a fitted mixture."""
    return {
        "n_features": int(model.means_.shape[1]),
        "n_components": len(model.weights_),
        "family": str(model.covariance_type),
        "weights": model.weights_,
        "means": model.means_,
        "covariances": model.covariances_,
        "correlations": _correlations(model.covariances_)
        if FAMILIES[model.covariance_type].has_factors
        else None,
    }


def _correlations(covariances: FloatArray) -> FloatArray:
    """Return the correlations [..., D, D] that covariances [..., D, D] say."""
    deviations = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1))
    return np.asarray(covariances / (deviations[..., :, None] * deviations[..., None, :]))


def reached(converged: bool, n_iter: int) -> str:
    """Say whether a fit has converged, and when."""
    return f"{'' if converged else 'not '}converged after {counted(n_iter, 'iteration')}"


def criteria_text(found: Mapping[str, float]) -> str:
    """Say what a mixture's likelihood is, and each criterion that there is, in two lines."""
    return (
        f"NLL: {found['nll']:.9f} nats a sample (log-likelihood {found['log_likelihood']:.6f})\n"
        + ", ".join(f"{name.upper()} {found[name]:.4f}" for name in CRITERIA if name in found)
    )


def heaviest(weights: NDArray[Any]) -> NDArray[Any]:
    """Return the components that are printed for people, in their order."""
    return np.sort(np.argsort(-weights, kind="stable")[:_SHOWN])


def floor_by_column(floor: FloatArray, names: Sequence[str]) -> str:
    """Say what is added to the variance of each column, [D], or of all, []."""
    if floor.ndim == 0:
        return f"{float(floor):.3g}"
    if len(names) > _WIDEST:
        return f"from {floor.min():.3g} to {floor.max():.3g}"
    return ", ".join(f"{name} {value:.3g}" for name, value in zip(names, floor, strict=True))


def describe(parameters: Parameters, names: Sequence[str]) -> str:
    """Describe the components of a mixture, the heaviest if there are many."""
    weights = softmax(parameters.pi_logits.astype(np.float64))
    means, covariances = parameters.means.astype(np.float64), parameters.covariances()
    lines = ["The components, counted from 0:"]
    shown = heaviest(weights)
    width = max(12, *(min(len(name), 30) for name in names))
    for k in shown:
        lines.append(f"component {k}: weight {weights[k]:.4f}")
        for j, name in enumerate(names):
            line = f"  {name[:30]:<{width}} mean {_numbers(means[k, j : j + 1])}"
            if len(names) <= _WIDEST:
                lines.append(f"{line}   covariance {_numbers(covariances[k, j])}")
            else:
                deviation = np.sqrt(covariances[k, j, j : j + 1])
                lines.append(f"{line}   standard deviation {_numbers(deviation)}")
        if FAMILIES[parameters.family].has_factors and len(names) > 1:
            lines += _describe_correlations(_correlations(covariances[k]), names)
    if len(weights) > len(shown):
        rest = counted(len(weights) - len(shown), "component")
        lines.append(f"and {rest} of less weight; --json has all")
    return "\n".join(lines)


def _describe_correlations(correlations: FloatArray, names: Sequence[str]) -> list[str]:
    """Return lines that say correlations [D, D], the strongest if there are many."""
    rows, columns = np.triu_indices(len(names), 1)
    values = correlations[rows, columns]
    chosen = np.sort(np.argsort(-np.abs(values), kind="stable")[:_PAIRS])
    said = [f"{names[rows[i]][:30]} and {names[columns[i]][:30]} {values[i]:.3f}" for i in chosen]
    many = f"the strongest {len(chosen)} of {len(values)} correlations"
    what = many if len(values) > _PAIRS else "correlation" + "s" * (len(values) > 1)
    return textwrap.wrap(
        f"{what}: {', '.join(said)}", 100, initial_indent="  ", subsequent_indent="    "
    )


def _numbers(values: FloatArray) -> str:
    """Nine characters a number, with three decimals where these say something of the largest."""
    largest = np.abs(values).max()
    form = "9.3f" if largest == 0 or 1e-2 <= largest < 1e5 else "9.2e"
    return " ".join(f"{value:{form}}" for value in values)
