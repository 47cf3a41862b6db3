"""Choices by rows held out, and by samples of the smaller mixture.

Letters in shapes: N samples, K components, D dimensions, F folds, B bootstrap samples.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray, check_choice
from gmm_np.likelihood import log_prob
from gmm_np.mixture import COVARIANCE_TYPES, GaussianMixture
from gmm_np.mixture.validation import as_generator, check_array, check_weight
from gmm_np.model_selection.selection import Candidate, NothingFittedError, select

Progress = Callable[[int, int], object]

LARGEST_SEED: Final = 2**32


class Score(NamedTuple):
    """What a candidate says of rows that it was not fitted to.

    Attributes
    ----------
    family : str
    n_components : int
    log_likelihood : float
        Mean over all rows, each held out once, in nats a sample; -inf where a fold has no fit.
    standard_error : float
        Of that mean, from the folds.
    by_fold : ndarray, shape [F]
    """

    family: str
    n_components: int
    log_likelihood: float
    standard_error: float
    by_fold: FloatArray


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Scores of all candidates, the best first.

    Attributes
    ----------
    scores : list of Score
    """

    scores: list[Score]

    @property
    def best(self) -> Score:
        """The candidate with the highest held-out likelihood."""
        return self.scores[0]

    @property
    def simplest(self) -> Score:
        """The one of fewest components that is within a standard error of the best."""
        least = self.best.log_likelihood - self.best.standard_error
        near = [s for s in self.scores if s.log_likelihood >= least]
        return min(near, key=lambda s: (s.n_components, -s.log_likelihood))

    def __str__(self) -> str:
        lines = [f"{'family':<18}{'K':>4}{'log-likelihood':>18}{'std. error':>14}"]
        lines += [
            f"{s.family:<18}{s.n_components:>4}{s.log_likelihood:>18.6f}{s.standard_error:>14.6f}"
            for s in self.scores
        ]
        return "\n".join(lines)


def cross_validate(
    x: Any,
    n_components: int | Iterable[int] = range(1, 10),
    *,
    families: str | Iterable[str] = "full",
    n_folds: int = 5,
    sample_weight: Any = None,
    random_state: Any = None,
    callback: Progress | None = None,
    **options: Any,
) -> CrossValidation:
    """Score mixtures of several sizes and families on rows that they were not fitted to [1]_.

    Parameters
    ----------
    x : array_like, shape [N, D]
    n_components : int or iterable of int
        The numbers K to try.
    families : str or iterable of str
    n_folds : int
        From 2 to N: each part of the rows, by chance, is held out once.
    sample_weight : array_like, shape [N], optional
        Of the fits and of the means; a weight of two counts as a repeated row.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        Of the folds and of the fits.
    callback : callable, optional
        Called with the number of folds that are done, and of all.
    **options
        Others of `select`, as `n_init`, `reg_covar` or `max_iter`.

    Returns
    -------
    CrossValidation

    Raises
    ------
    TypeError, ValueError
        If an argument, or the data, cannot be what they have to be.

    Notes
    -----
    All candidates see the same folds. What fits warn of is not shown: a mixture with a collapsed
    component has its price in the rows held out.

    References
    ----------
    .. [1] Smyth, P. (2000). Model selection for probabilistic clustering using cross-validated
       likelihood. *Statistics and Computing*, 10(1), 63-72.

    Examples
    --------
    >>> from gmm_np.datasets import load_old_faithful
    >>> from gmm_np.model_selection import cross_validate
    >>> x, names = load_old_faithful()
    >>> cross_validate(x, [1, 2], n_init=1, random_state=0).best.n_components
    2
    """
    rows = np.asarray(check_array(x, least=2), np.float64)
    weight = check_weight(sample_weight, len(rows))
    n = len(rows)
    if not 2 <= n_folds <= n:
        raise ValueError(f"n_folds must be from 2 to the number of rows, {n}; got {n_folds}.")
    rng = as_generator(random_state)
    fold = rng.permutation(np.arange(n) % n_folds)
    seed = int(rng.integers(LARGEST_SEED))
    own = np.ones(n) if weight is None else weight
    totals = np.bincount(fold, weights=own, minlength=n_folds)
    if not (totals > 0).all():
        raise ValueError(
            f"sample_weight leaves fold {int(np.argmin(totals))} without a row of positive weight. "
            "Use fewer n_folds."
        )
    found: dict[tuple[str, int], FloatArray] = {}
    for f in range(n_folds):
        out = fold == f
        used = None if weight is None else weight[~out]
        for candidate in _fit(
            rows[~out], n_components, families, sample_weight=used, random_state=seed, **options
        ):
            by_fold = found.setdefault(
                (candidate.family, candidate.n_components), np.full(n_folds, -np.inf)
            )
            if candidate.model is not None:
                by_fold[f] = np.average(_log_likelihood(candidate, rows[out]), weights=own[out])
        if callback is not None:
            callback(f + 1, n_folds)
    scores = []
    for (family, k), by_fold in found.items():
        complete = bool(np.isfinite(by_fold).all())
        mean = float(by_fold @ totals / totals.sum()) if complete else -math.inf
        error = float(by_fold.std(ddof=1)) / math.sqrt(n_folds) if complete else math.inf
        scores.append(Score(family, k, mean, error, by_fold))
    return CrossValidation(sorted(scores, key=lambda s: -s.log_likelihood))


class BootstrapTest(NamedTuple):
    """The likelihood-ratio test of K components against K + 1.

    Attributes
    ----------
    statistic : float
        Twice the gain in the log-likelihood of the data, in nats.
    p_value : float
        The share of samples of the smaller mixture, and of the data, whose gain is as large.
    bootstrap : ndarray, shape [B]
        The gains of the samples; NaN where the larger mixture had no fit without a collapse.
    smaller, larger : GaussianMixture
        Fitted to the data.
    """

    statistic: float
    p_value: float
    bootstrap: FloatArray
    smaller: GaussianMixture
    larger: GaussianMixture


def bootstrap_test(
    x: Any,
    n_components: int,
    *,
    family: str = "full",
    n_bootstrap: int = 99,
    random_state: Any = None,
    callback: Progress | None = None,
    **options: Any,
) -> BootstrapTest:
    """Test K components against K + 1 by the parametric bootstrap [1]_, (P22) of docs/parts.md.

    The likelihood ratio has no chi-squared distribution there, since the weight of a component
    that is too many is at the edge of what it may be, and its mean is anything. So its distribution
    is that of samples which are drawn from the fit of K components, and fitted like the data.

    Parameters
    ----------
    x : array_like, shape [N, D]
    n_components : int
        K.
    family : str
    n_bootstrap : int
        B: the smallest p-value is 1 / (B + 1).
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
    callback : callable, optional
        Called with the number of samples that are done, and of all.
    **options
        Others of `select`, as `n_init`, `reg_covar` or `max_iter`.

    Returns
    -------
    BootstrapTest

    Raises
    ------
    TypeError, ValueError
        If an argument, or the data, cannot be what they have to be; or if the larger mixture
        has a collapsed component in each start, so that the ratio has no bound.

    References
    ----------
    .. [1] McLachlan, G. J. (1987). On bootstrapping the likelihood ratio test statistic for the
       number of components in a normal mixture. *Journal of the Royal Statistical Society C*,
       36(3), 318-324.

    Examples
    --------
    >>> from gmm_np.datasets import load_old_faithful
    >>> from gmm_np.model_selection import bootstrap_test
    >>> x, names = load_old_faithful()
    >>> bootstrap_test(x[:60, :1], 1, n_bootstrap=4, n_init=1, random_state=0).p_value
    0.2
    """
    check_choice("family", family, COVARIANCE_TYPES)
    rows = np.asarray(check_array(x, least=2), np.float64)
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap must be at least 1; got {n_bootstrap}.")
    for name in ("sample_weight", "families", "priors"):
        if name in options:
            raise TypeError(
                f"bootstrap_test has no {name}: it draws samples of as many rows from one mixture, "
                "and compares likelihoods."
            )
    rng = as_generator(random_state)
    sizes = (int(n_components), int(n_components) + 1)

    def ratio(data: FloatArray, seed: int) -> tuple[float, list[Candidate]]:
        found = _fit(data, sizes, family, random_state=seed, **options)
        pair = sorted(found, key=lambda candidate: candidate.n_components)
        if any(c.model is None or c.collapsed for c in pair):
            return math.nan, pair
        smaller, larger = (c.criteria["log_likelihood"] for c in pair)
        return 2.0 * max(larger - smaller, 0.0), pair

    seeds = rng.integers(LARGEST_SEED, size=2 * n_bootstrap + 1).tolist()
    statistic, pair = ratio(rows, seeds.pop())
    if math.isnan(statistic):
        bad = next(c for c in pair if c.model is None or c.collapsed)
        raise ValueError(
            f"{bad.name} has no fit without a collapsed component, so that the likelihood ratio "
            "has no bound. Use a larger reg_covar or n_init, or drop columns that are constant or "
            "depend on others."
        )
    smaller, larger = (candidate.model for candidate in pair)
    assert smaller is not None
    assert larger is not None
    gains = np.empty(n_bootstrap)
    for b in range(n_bootstrap):
        drawn = GaussianMixture.from_parameters(
            smaller.weights_, smaller.means_, smaller.covariances_,
            covariance_type=family, random_state=seeds.pop(),
        ).sample(len(rows))[0]  # fmt: skip
        gains[b] = ratio(drawn, seeds.pop())[0]
        if callback is not None:
            callback(b + 1, n_bootstrap)
    counted = gains[~np.isnan(gains)]
    p_value = (1 + int((counted >= statistic).sum())) / (len(counted) + 1)
    return BootstrapTest(statistic, p_value, gains, smaller, larger)


def _fit(
    rows: NDArray[Any], sizes: int | Iterable[int], families: str | Iterable[str], **options: Any
) -> list[Candidate]:
    """Return candidates fitted by `select`, in silence, those without a fit as well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return select(rows, sizes, families=families, **options).candidates
        except NothingFittedError as error:
            return error.candidates


def _log_likelihood(candidate: Candidate, rows: FloatArray) -> FloatArray:
    assert candidate.model is not None
    p = candidate.model.parameters_
    return log_prob(rows, p.pi_logits, p.means, p.scale, family=p.family)
