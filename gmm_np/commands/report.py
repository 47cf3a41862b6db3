"""What the commands print of a mixture: a few lines for people, one JSON document for machines."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from gmm_np.checks import FloatArray, counted
from gmm_np.covariance import FAMILIES
from gmm_np.inference import StandardErrors
from gmm_np.mixture.criteria import CRITERIA
from gmm_np.parameters import Parameters

SHOWN: Final = 20  # components that are printed for people; JSON has all
_PAIRS: Final = 6  # correlations of a component that are printed for people
WIDEST: Final = 6  # dimensions that a table for people has side by side


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
    variances = np.einsum("kdd->kd", model.parameters_.covariances())
    return {
        "n_features": int(model.means_.shape[1]),
        "n_components": len(model.weights_),
        "family": str(model.covariance_type),
        "weights": model.weights_,
        "means": model.means_,
        "covariances": model.covariances_,
        "deviations": np.sqrt(variances),
        "correlations": correlations_of(model.covariances_)
        if FAMILIES[model.covariance_type].has_factors
        else None,
    }


def correlations_of(covariances: FloatArray) -> FloatArray:
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
    return np.sort(np.argsort(-weights, kind="stable")[:SHOWN])


def floor_by_column(floor: FloatArray, names: Sequence[str]) -> str:
    """Say what is added to the variance of each column, [D], or of all, []."""
    if floor.ndim == 0:
        return f"{float(floor):.3g}"
    if len(names) > WIDEST:
        return f"from {floor.min():.3g} to {floor.max():.3g}"
    return ", ".join(f"{name} {value:.3g}" for name, value in zip(names, floor, strict=True))


def describe(
    parameters: Parameters, names: Sequence[str], errors: StandardErrors | None = None
) -> str:
    """Describe the components of a mixture, the heaviest if there are many.

    With errors these stand in parentheses, and for the covariances deviations and correlations.
    """
    weights = softmax(parameters.pi_logits.astype(np.float64))
    means, covariances = parameters.means.astype(np.float64), parameters.covariances()
    more = "" if errors is None else f", with standard errors ({errors.kind}) in parentheses"
    lines = [f"The components, counted from 0{more}:"]
    shown = heaviest(weights)
    width = max(12, *(min(len(name), 30) for name in names))
    for k in shown:
        titles = [f"  {name[:30]:<{width}} mean" for name in names]
        if errors is None:
            lines.append(f"component {k}: weight {weights[k]:.4f}")
            lines += _describe_columns(titles, means[k], covariances[k])
        else:
            lines.append(f"component {k}: weight {with_error(weights[k], errors.weights[k])}")
            lines += _describe_with_errors(titles, means[k], covariances[k], errors, k)
        if FAMILIES[parameters.family].has_factors and len(names) > 1:
            own = None
            if errors is not None and errors.correlations is not None:
                own = np.broadcast_to(errors.correlations, covariances.shape)[k]
            lines += _describe_correlations(correlations_of(covariances[k]), names, own)
    if len(weights) > len(shown):
        rest = counted(len(weights) - len(shown), "component")
        lines.append(f"and {rest} of less weight; --json has all")
    return "\n".join(lines)


def _describe_columns(
    titles: Sequence[str], mean: FloatArray, covariance: FloatArray
) -> Iterator[str]:
    """Yield a line a column: its mean, and its covariances or, of many columns, its deviation."""
    for j, title in enumerate(titles):
        line = f"{title} {_numbers(mean[j : j + 1])}"
        if len(titles) <= WIDEST:
            yield f"{line}   covariance {_numbers(covariance[j])}"
        else:
            yield f"{line}   standard deviation {_numbers(np.sqrt(covariance[j, j : j + 1]))}"


def _describe_with_errors(
    titles: Sequence[str], mean: FloatArray, covariance: FloatArray, errors: StandardErrors, k: int
) -> Iterator[str]:
    """Yield a line a column: its mean and its standard deviation, each with its error."""
    deviation = np.sqrt(np.diagonal(covariance))
    of_means = [with_error(*pair) for pair in zip(mean, errors.means[k], strict=True)]
    of_spread = [with_error(*pair) for pair in zip(deviation, errors.deviations[k], strict=True)]
    wide = max(9, *map(len, of_means)), max(9, *map(len, of_spread))
    for title, one, two in zip(titles, of_means, of_spread, strict=True):
        yield f"{title} {one:>{wide[0]}}   standard deviation {two:>{wide[1]}}"


def strongest(correlations: FloatArray) -> list[tuple[int, int]]:
    """Return the pairs of columns whose correlations [D, D] are printed for people, in order."""
    rows, columns = np.triu_indices(len(correlations), 1)
    size = np.abs(correlations[rows, columns])
    chosen = np.sort(np.argsort(-size, kind="stable")[:_PAIRS])
    return [(int(rows[i]), int(columns[i])) for i in chosen]


def _describe_correlations(
    correlations: FloatArray, names: Sequence[str], errors: FloatArray | None
) -> list[str]:
    """Return lines that say correlations [D, D], the strongest if there are many."""
    chosen, count = strongest(correlations), len(names) * (len(names) - 1) // 2
    said = []
    for i, j in chosen:
        value = correlations[i, j]
        number = f"{value:.3f}" if errors is None else with_error(value, errors[i, j])
        said.append(f"{names[i][:30]} and {names[j][:30]} {number}")
    many = f"the strongest {len(chosen)} of {count} correlations"
    what = many if count > len(chosen) else "correlation" + "s" * (count > 1)
    return textwrap.wrap(
        f"{what}: {', '.join(said)}", 100, initial_indent="  ", subsequent_indent="    "
    )


def with_error(value: float, error: float) -> str:
    """Return a number and its standard error in parentheses, of which three digits count."""
    return "{} ({})".format(*to_digits_of(error, value, error))


def to_digits_of(error: float, *values: float) -> list[str]:
    """Return numbers with as many decimals as three digits of a standard error have."""
    if not 0 < error < np.inf:
        return [f"{value:.4g}" for value in values]
    last = int(np.floor(np.log10(error))) - 2  # the power of ten of the third digit
    if -9 <= last <= 2:
        return [f"{value:.{max(-last, 0)}f}" for value in values]
    digits = [int(np.floor(np.log10(abs(v)))) - last if v else 2 for v in values]
    return [f"{v:.{max(n, 2)}e}" for v, n in zip(values, digits, strict=True)]


def _numbers(values: FloatArray) -> str:
    """Nine characters a number, with three decimals where these say something of the largest."""
    largest = np.abs(values).max()
    form = "9.3f" if largest == 0 or 1e-2 <= largest < 1e5 else "9.2e"
    return " ".join(f"{value:{form}}" for value in values)
