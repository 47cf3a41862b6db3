"""The fits that `gmm-np fit` makes: one, or one for each K and family, of which the BIC chooses."""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gmm_np.commands.report import TOLERANCES, criteria, n_parameters
from gmm_np.commands.samples import Samples, Score, check_distinct, check_range, score
from gmm_np.progress import Progress


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
    choices = [(family, k) for family in options.family for k in options.components]
    done: list[Candidate] = []
    for family, n_components in choices:
        candidate = Candidate(family, n_components, _estimator(family, n_components, options))
        try:
            _fit(candidate, samples)
        except KeyboardInterrupt:
            if not any(other.score for other in done):
                if not _is_fitted(candidate.model):
                    raise KeyboardInterrupt("nothing was fitted yet") from None
                done.append(candidate)
            done[0].interrupted = True  # what is there is looked at no further
            return done
        except (ValueError, np.linalg.LinAlgError) as error:
            check_range(samples)
            if len(choices) == 1:
                raise
            candidate.error = " ".join(str(error).split())
            print(f"gmm-np: {family}, K = {n_components}: {candidate.error}", file=sys.stderr)
        done.append(candidate)
        done.sort(key=lambda c: c.criteria["bic"] if c.score else np.inf)
    if done[0].score is None:
        raise ValueError(f"none of these can be fitted; the last: {done[-1].error}")
    return done


def _estimator(family: str, n_components: int, options: argparse.Namespace) -> Any:
    from gmm_np import GaussianMixture

    given = {
        "tol": TOLERANCES[options.solver] if options.tol is None else options.tol,
        "max_iter": options.max_iter,
        "n_init": options.n_init,
        "reg_covar": options.reg_covar,
        "random_state": options.seed,
        "solver": options.solver,
        "on_collapse": options.on_collapse,
    }
    return GaussianMixture(n_components, covariance_type=family, **given)


def _fit(candidate: Candidate, samples: Samples) -> None:
    check_distinct(samples, candidate.n_components)
    histories = candidate.histories
    with Progress(
        f"fit {candidate.family}, K = {candidate.n_components}", unit="iteration"
    ) as line:

        def report(iteration: int, nll: float) -> None:
            if iteration == 1 or not histories:
                histories.append([])
            histories[-1].append(nll)
            line.advance(note=f"NLL {nll:.6f}")

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            candidate.model.fit(samples.x, sample_weight=samples.weight, callback=report)
    for warning in caught:
        print(f"gmm-np: warning: {' '.join(str(warning.message).split())}", file=sys.stderr)
    candidate.score = score(candidate.model, samples)


def _is_fitted(model: Any) -> bool:
    return hasattr(model, "means_")
