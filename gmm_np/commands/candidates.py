"""The fits that `gmm-np fit` makes: one, or one for each K and family, of which the BIC chooses."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import FloatArray, counted, name_components
from gmm_np.commands.options import in_options, tell
from gmm_np.commands.report import TOLERANCES, criteria, n_parameters
from gmm_np.commands.samples import Samples, Score, check_distinct, check_range, score
from gmm_np.covariance import FAMILIES
from gmm_np.mixture import RegCovarWarning, findings
from gmm_np.mixture.sklearn_speech import convergence_warning
from gmm_np.progress import Progress
from gmm_np.solvers.floor import RELATIVE, relative_floor
from gmm_np.solvers.results import CollapseError, variances


@dataclass
class Candidate:
    """One fit."""

    family: str
    n_components: int
    model: Any
    histories: list[list[float]] = field(default_factory=list)  # NLL by iteration, of each start
    score: Score | None = None
    interrupted: bool = False
    error: str = ""

    @property
    def name(self) -> str:
        """Family and K."""
        return f"{self.family}, K = {self.n_components}"

    @property
    def collapsed(self) -> list[int]:
        """Components, from 0, that their rows do not hold up."""
        return list(getattr(self.model, "collapsed_", []))

    @property
    def n_free(self) -> int:
        """Number of free parameters."""
        return n_parameters(self.family, *self.model.means_.shape)

    @property
    def criteria(self) -> dict[str, float]:
        """NLL, log-likelihood, BIC and AIC on the samples."""
        assert self.score is not None
        return criteria(self.score.nll, self.score.weight, self.n_free)


def fit_candidates(samples: Samples, options: argparse.Namespace) -> list[Candidate]:
    """Fit each family with each number of components; the one with the least BIC comes first.

    Of several, one that cannot be fitted is left with its error; of one, the error is raised. An
    interruption ends the list; it is raised where nothing was fitted yet.
    """
    check_distinct(samples, 1)  # there are rows of positive weight
    spread = variances(samples.blocks())
    if not np.isfinite(spread).all():
        check_range(samples)
    floor = relative_floor(spread) if options.reg_covar is None else options.reg_covar
    choices = [(family, k) for family in options.family for k in options.components]
    done: list[Candidate] = []
    explained = False
    for family, n_components in choices:
        candidate = Candidate(
            family, n_components, _estimator(family, n_components, floor, options)
        )
        try:
            _fit(candidate, samples)
            which = f"{candidate.name}: " if len(choices) > 1 else ""
            for warning in _warnings(candidate, samples.labels, spread, options):
                print(f"gmm-np: warning: {which}{warning}", file=sys.stderr)
            model = candidate.model
            if not explained and (model.collapsed_ or model.reseeded_ or model.dropped_starts_):
                tell(["components and starts are counted from 0"])
                explained = True
        except KeyboardInterrupt:
            if not any(other.score for other in done):
                if not _is_fitted(candidate.model):
                    raise KeyboardInterrupt("nothing was fitted yet") from None
                done.append(candidate)
            done[0].interrupted = True  # what is there is looked at no further
            return done
        except (ValueError, np.linalg.LinAlgError) as error:
            check_range(samples)
            if isinstance(error, CollapseError):
                what = _collapse(error, family, options.on_collapse)
            else:
                what = in_options(" ".join(str(error).split()))
            if len(choices) == 1:
                raise ValueError(what) from error
            candidate.error = what
            print(f"gmm-np: {candidate.name}: {candidate.error}", file=sys.stderr)
        done.append(candidate)
        done.sort(key=lambda c: c.criteria["bic"] if c.score else np.inf)
    if done[0].score is None:
        raise ValueError(f"none of these can be fitted; the last: {done[-1].error}")
    return done


def _estimator(
    family: str, n_components: int, floor: ArrayLike, options: argparse.Namespace
) -> Any:
    from gmm_np import GaussianMixture

    given = {
        "tol": TOLERANCES[options.solver] if options.tol is None else options.tol,
        "max_iter": options.max_iter,
        "n_init": options.n_init,
        "reg_covar": floor,
        "random_state": options.seed,
        "solver": options.solver,
        "on_collapse": options.on_collapse,
    }
    return GaussianMixture(n_components, covariance_type=family, **given)


def _fit(candidate: Candidate, samples: Samples) -> None:
    check_distinct(samples, candidate.n_components)
    histories = candidate.histories
    with Progress(f"fit {candidate.name}", unit="iteration") as line:

        def report(iteration: int, nll: float) -> None:
            if iteration == 1 or not histories:
                histories.append([])
            histories[-1].append(nll + samples.log_unit)
            line.advance(note=f"NLL {histories[-1][-1]:.6f}")

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            candidate.model.fit(samples.x, sample_weight=samples.weight, callback=report)
    for warning in caught:  # what the estimator has found is said in the command line's words
        if not issubclass(warning.category, (convergence_warning(), RegCovarWarning)):
            said = in_options(" ".join(str(warning.message).split()))
            print(f"gmm-np: warning: {said}", file=sys.stderr)
    candidate.score = score(candidate.model, samples)


def _warnings(
    candidate: Candidate,
    names: list[str],
    spread: FloatArray,
    options: argparse.Namespace,
) -> Iterator[str]:
    """Yield what needs a look; components and starts are counted from 0."""
    model = candidate.model
    if not model.converged_:
        yield (
            f"not converged after {counted(model.n_iter_, 'iteration')}; raise --max-iter or "
            "--tol, or use fewer components"
        )
    if options.reg_covar is not None:
        found = findings.describe_high_floor(options.reg_covar, spread, model.parameters_, names)
        if found is not None:
            yield (
                f"--reg-covar {found}, and makes the covariances; use a smaller one, or leave it "
                f"out: it is then {RELATIVE:g} of each column's variance"
            )
    if model.dropped_starts_:
        starts = ", ".join(str(start) for start in model.dropped_starts_)
        yield (
            f"of {options.n_init} starts these were dropped, because a component collapsed: "
            f"{starts}; use a larger --reg-covar to keep them"
        )
    if model.reseeded_:
        who = name_components(model.reseeded_)
        yield f"{who} collapsed on the way and started again at random rows"
    if model.collapsed_:
        who = findings.name_collapsed(model.collapsed_, model.parameters_, model.reg_covar, names)
        yield (
            f"{who}: in some direction the floor (--reg-covar) or a kept covariance gives more of "
            "the variance than the rows do; use a smaller -k, or leave out --columns that are "
            "constant or depend on others"
        )


def _collapse(error: CollapseError, family: str, on_collapse: str) -> str:
    """Say of a fit that failed what the estimator says, in the options of the command."""
    who = name_components(error.components) + ", counted from 0,"
    if not FAMILIES[family].per_component:
        who = "the shared covariance"
    others = " or ".join(way for way in ("reseed", "keep") if way != on_collapse)
    return (
        f"{who} collapsed: the rows there span less than all dimensions, so that the likelihood "
        f"has no maximum; use a larger --reg-covar, --on-collapse {others}, or a smaller -k"
    )


def _is_fitted(model: Any) -> bool:
    return hasattr(model, "means_")
