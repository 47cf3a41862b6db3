"""Which mixture: several numbers of components and families are fitted, and a criterion chooses.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from gmm_np.checks import FloatArray, check_choice
from gmm_np.covariance import FAMILIES
from gmm_np.likelihood import log_prob, responsibilities
from gmm_np.mixture import COVARIANCE_TYPES, GaussianMixture
from gmm_np.mixture.criteria import CRITERIA, criteria
from gmm_np.mixture.sklearn_compat import convergence_warning
from gmm_np.mixture.validation import as_data, as_generator, check_hyperparameters
from gmm_np.parameters import Parameters
from gmm_np.parts import Part
from gmm_np.solvers.checkpoint import Checkpoint
from gmm_np.solvers.floor import relative_floor
from gmm_np.solvers.noisy_data import NoisyData
from gmm_np.solvers.results import CollapseError, Data
from gmm_np.solvers.splitting import split_starts

__all__ = [
    "CRITERIA",
    "Candidate",
    "NothingFittedError",
    "Selection",
    "SelectionInterrupted",
    "select",
]

# A loss that is higher by less than this, in nats a sample, is no worse: the floor lets EM rise a
# little, and iterations end before nothing is left to gain.
SLACK: Final = 1e-6
# Starts from a smaller mixture, where it was better: one for each component that is split.
MORE_STARTS: Final = 3
# Responsibilities that are held at a time.
LARGEST_BLOCK: Final = 2**20


@dataclass(eq=False)
class Candidate:
    """One number of components and one family, and what became of them.

    Attributes
    ----------
    family : str
    n_components : int
    model : GaussianMixture or None
        Of the best start; one without a collapsed component is better than one with, unless such
        are allowed.
    criteria : mapping of str to float
        "nll", the mean in nats a sample, "log_likelihood", the sum, "bic", "aic" and "icl"; empty
        where there is no fit.
    error : Exception or None
        Why there is none.
    histories : list of list of float
        The loss by iteration of each start.
    notes : list of str
        What happened on the way.
    worse_than : int or None
        The K of a smaller mixture of the family whose likelihood is better.
    n_samples : int
        Rows.
    """

    family: str
    n_components: int
    model: GaussianMixture | None = None
    criteria: Mapping[str, float] = field(default_factory=dict)
    error: Exception | None = None
    histories: list[list[float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    worse_than: int | None = None
    n_samples: int = 0
    warned: list[Warning | str] = field(default_factory=list, repr=False)  # by the best start

    @property
    def name(self) -> str:
        """Family and K."""
        return f"{self.family}, K = {self.n_components}"

    @property
    def collapsed(self) -> list[int]:
        """Components, from 0, that a floor or a prior holds up rather than their samples."""
        return [] if self.model is None else list(self.model.collapsed_)

    @property
    def n_parameters(self) -> int:
        """Number of free parameters; 0 without a fit."""
        if self.model is None:
            return 0
        return FAMILIES[self.family].n_parameters(*self.model.means_.shape)

    @property
    def objective(self) -> float:
        """What the fit made small: the mean NLL, with priors minus the log posterior."""
        return np.inf if self.model is None else -self.model.lower_bound_


@dataclass(eq=False)
class Selection:
    """Candidates, and the choice among them.

    Attributes
    ----------
    candidates : list of Candidate
        The best first. Those with a collapsed component come after those without, unless they are
        allowed, and those that could not be fitted come last.
    criterion : {"bic", "aic", "icl"}
    allow_collapsed : bool
    """

    candidates: list[Candidate]
    criterion: str = "bic"
    allow_collapsed: bool = False

    def __post_init__(self) -> None:
        self.candidates = sorted(self.candidates, key=self._rank)
        if self.all_collapsed:  # then no criterion says anything: they all are without bound
            smallest = min(
                (c for c in self.candidates if c.criteria),
                key=lambda c: (c.n_components, c.n_parameters),
            )
            self.candidates.remove(smallest)
            self.candidates.insert(0, smallest)

    def _rank(self, candidate: Candidate) -> tuple[bool, bool, float]:
        left_out = bool(candidate.collapsed) and not self.allow_collapsed
        value = candidate.criteria.get(self.criterion, np.inf)
        return not candidate.criteria, left_out, value

    @property
    def all_collapsed(self) -> bool:
        """Whether each that was fitted has a collapsed component, and none is allowed to."""
        fitted = [c for c in self.candidates if c.criteria]
        return bool(fitted) and not self.allow_collapsed and all(c.collapsed for c in fitted)

    @property
    def best(self) -> Candidate:
        """The candidate that is chosen."""
        return self.candidates[0]

    @property
    def model(self) -> GaussianMixture:
        """Its fitted mixture."""
        assert self.best.model is not None
        return self.best.model

    def __str__(self) -> str:
        names = ("nll", *CRITERIA)
        head = f"{'family':<18}{'K':>4}{'NLL':>14}" + "".join(f"{n.upper():>14}" for n in CRITERIA)
        lines = [head]
        for c in self.candidates:
            forms = ("14.6f", *("14.4f",) * len(CRITERIA))
            numbers = (
                "".join(
                    f"{c.criteria[name]:{form}}" for name, form in zip(names, forms, strict=True)
                )
                if c.criteria
                else "  failed"
            )
            note = "  collapsed" if c.collapsed else ""
            lines.append(f"{c.family:<18}{c.n_components:>4}{numbers}{note}")
        return "\n".join(lines)


class NothingFittedError(ValueError):
    """No candidate could be fitted.

    Attributes
    ----------
    candidates : list of Candidate
        With their errors.
    """

    def __init__(self, candidates: list[Candidate]) -> None:
        self.candidates = candidates
        error = candidates[-1].error
        text = (
            str(error)
            if len(candidates) == 1
            else (f"none of {len(candidates)} candidates can be fitted; the last: {error}")
        )
        super().__init__(text)


class SelectionInterrupted(KeyboardInterrupt):
    """Ctrl-C in a selection, with what there was until then.

    Attributes
    ----------
    selection : Selection
        Of the candidates that were complete; if none was, of that whose fit was interrupted, in
        which case its `criteria` are missing; without any if it had no model either.
    """

    def __init__(self, selection: Selection) -> None:
        super().__init__("the selection was interrupted")
        self.selection = selection


Report = Callable[[Candidate, int, float], object]


def select(
    x: Any,
    n_components: int | Iterable[int] = range(1, 10),
    *,
    families: str | Iterable[str] = "full",
    criterion: str = "bic",
    allow_collapsed: bool = False,
    n_init: int = 3,
    sample_weight: Any = None,
    random_state: Any = None,
    reg_covar: ArrayLike | None = None,
    tol: float = 1e-6,
    max_iter: int = 1000,
    callback: Report | None = None,
    checkpoint: Checkpoint | None = None,
    **options: Any,
) -> Selection:
    """Fit mixtures of several sizes and families, and choose one by a criterion.

    Each candidate has several starts. From the second size of a family on one of these is the best
    smaller mixture, of which the component with the poorest fit is split along its longest axis.
    Where a larger mixture came out with a worse likelihood nevertheless, it is started again from
    such splits, which cannot be worse, and that is noted.

    A component that shrinks onto a few samples has as high a likelihood as the floor under its
    covariance lets it have, whatever the data. So a candidate with one is not chosen.

    Parameters
    ----------
    x : array_like of shape [N, D], or iterable of such blocks of rows
        As for `GaussianMixture.fit`, Dask's data too.
    n_components : int or iterable of int
        The numbers K to try.
    families : str or iterable of str
        Covariance families, of `gmm_np.mixture.COVARIANCE_TYPES`.
    criterion : {"bic", "aic", "icl"}
        The smallest chooses. ICL is BIC + 2 * entropy of the responsibilities [1]_: it wants
        components that lie apart, as clusters do, where BIC wants a good density.
    allow_collapsed : bool
        Whether a mixture with a collapsed component may be chosen.
    n_init : int
        Starts of each candidate; if it is 1, they are all made from the data.
    sample_weight : array_like of shape [N], or iterable of arrays, one a block, optional
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        An int starts each candidate alike, whatever others there are.
    reg_covar : float or array_like of shape [D], optional
        The floor under covariances; by default a millionth of each column's variance.
    tol : float
        As for `GaussianMixture`, and smaller than there, since fits are compared.
    max_iter : int
    callback : callable, optional
        Called with the candidate, the iteration, from 1, and the loss.
    checkpoint : gmm_np.solvers.Checkpoint, optional
        Where to go on from, to the same bits, and whom to tell the state after each iteration.
    **options
        Other parameters of `GaussianMixture`, as `solver`, `priors`, `on_collapse` or `missing`.

    Returns
    -------
    Selection

    Raises
    ------
    NothingFittedError
        If no candidate can be fitted; a ValueError.
    TypeError, ValueError
        If an argument, or the data, cannot be what they have to be.
    SelectionInterrupted
        After Ctrl-C, with the candidates until then; a KeyboardInterrupt.

    Warns
    -----
    ConvergenceWarning
        If all candidates have a collapsed component, so that the smallest was chosen; if a larger
        mixture stayed worse than a smaller one; and what the fit of the chosen one warned of.

    References
    ----------
    .. [1] Biernacki, C., Celeux, G. and Govaert, G. (2000). Assessing a mixture model for
       clustering with the integrated completed likelihood. *IEEE Transactions on Pattern
       Analysis and Machine Intelligence*, 22(7), 719-725.

    Examples
    --------
    >>> from gmm_np.datasets import load_old_faithful
    >>> from gmm_np.model_selection import select
    >>> x, names = load_old_faithful()
    >>> found = select(x, [1, 2, 3], families=["full", "tied"], random_state=0)
    >>> found.best.name, round(found.best.criteria["bic"], 2)
    ('tied, K = 3', 2314.3)
    >>> sorted(found.model.weights_.round(2).tolist())
    [0.17, 0.36, 0.47]
    """
    sizes = _check_sizes(n_components)
    kinds = [families] if isinstance(families, str) else list(dict.fromkeys(families))
    if not kinds:
        raise ValueError("families must name at least one; got none.")
    for kind in kinds:
        check_choice("families", kind, COVARIANCE_TYPES)
    check_choice("criterion", criterion, CRITERIA)
    for name in ("n_components", "covariance_type", "warm_start"):
        if name in options:
            raise TypeError(f"select makes its own {name}: leave it out.")
    data = as_data(x, sample_weight, options.get("missing", "error"))
    if isinstance(data, NoisyData):
        raise TypeError(
            "x is data with noise, for which there are no criteria here. Fit each GaussianMixture "
            "with noise=, and compare their likelihoods."
        )
    if reg_covar is None:
        reg_covar = relative_floor(data.variances())
    options |= {"reg_covar": reg_covar, "tol": tol, "max_iter": max_iter}
    options |= {"n_init": n_init, "random_state": random_state}
    check_hyperparameters(GaussianMixture(sizes[0], covariance_type=kinds[0], **options))
    checkpoint = Checkpoint() if checkpoint is None else checkpoint
    run = _Run(data, options, callback, allow_collapsed, checkpoint)
    done: list[Candidate] = []
    distinct, _ = data.count_distinct(max(sizes))
    for candidate in [Candidate(kind, k) for kind in kinds for k in sizes]:
        try:
            if candidate.n_components > distinct:
                raise ValueError(
                    f"there are {distinct} distinct rows of positive weight, too few for K = "
                    f"{candidate.n_components}; use fewer components"
                )
            run.fit(candidate, [c for c in done if c.family == candidate.family])
        except KeyboardInterrupt:
            kept = [c for c in done if c.criteria] or [candidate][candidate.model is None :]
            selection = Selection(kept, criterion, allow_collapsed)
            raise SelectionInterrupted(selection) from None
        except (ValueError, np.linalg.LinAlgError) as error:
            candidate.error = error
        done.append(candidate)
    if not any(candidate.criteria for candidate in done):
        raise NothingFittedError(done) from done[-1].error
    selection = Selection(done, criterion, allow_collapsed)
    _warn(selection)
    return selection


class _Run(NamedTuple):
    """Fits of candidates to the same data."""

    data: Data
    options: dict[str, Any]  # of the estimator
    callback: Report | None
    allow_collapsed: bool
    checkpoint: Checkpoint

    def fit(self, candidate: Candidate, others: list[Candidate]) -> None:
        """Fit a candidate from all its starts; `others` are the smaller ones of its family."""
        rng, n_init = as_generator(self.options["random_state"]), self.options["n_init"]
        usable = [c for c in others if c.criteria and not self._is_out(c)]
        smaller = min(usable, key=lambda c: c.objective, default=None)
        splits: Iterator[Parameters] = iter(())
        if smaller is not None and smaller.model is not None:
            splits = split_starts(self.data, smaller.model.parameters_, candidate.n_components)
        n_split = int(smaller is not None and n_init > 1)
        made: list[Parameters | None] = [None] * (n_init - n_split)
        dropped: dict[int, CollapseError] = {}
        for start in chain(made, islice(splits, n_split)):
            self._try(candidate, start, rng, dropped)
        if smaller is not None and self._is_worse(candidate, smaller):
            was_out, before = self._is_out(candidate), candidate.objective
            for start in islice(splits, MORE_STARTS):
                self._try(candidate, start, rng, dropped)
                if not self._is_worse(candidate, smaller):
                    break
            if not self._is_out(candidate):  # or that says enough
                k, least = smaller.n_components, smaller.objective
                why = f"the NLL, {before:.6f}, was above that of K = {k}, {least:.6f}"
                if was_out:
                    why = "a component collapsed in every start"
                after = f"it is {candidate.objective:.6f}"
                if self._is_worse(candidate, smaller):
                    candidate.worse_than = k
                    after += ", still above"
                candidate.notes.append(f"{why}; started again from a split of K = {k}, {after}")
        if candidate.model is None:
            raise list(dropped.values())[-1]
        candidate.model.dropped_starts_ = list(dropped)
        self._measure(candidate)

    def _try(
        self,
        candidate: Candidate,
        start: Parameters | None,
        rng: np.random.Generator,
        dropped: dict[int, CollapseError],
    ) -> None:
        """Fit from one start; keep the model if it is better than those of the starts before."""
        history: list[float] = []
        candidate.histories.append(history)

        def report(iteration: int, loss: float) -> None:
            history.append(loss)
            if self.callback is not None:
                self.callback(candidate, iteration, loss)

        model = GaussianMixture(
            candidate.n_components, covariance_type=candidate.family, **self.options
        )
        model.set_params(n_init=1, random_state=rng)
        warned: list[Warning | str] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                own = self.checkpoint.child()
                model.fit(self.data, callback=report, start=start, checkpoint=own)
            warned = [warning.message for warning in caught]
        except CollapseError as error:
            dropped[len(candidate.histories) - 1] = error
            return
        except KeyboardInterrupt:
            if candidate.model is None and hasattr(model, "means_"):
                self._adopt(candidate, model, warned)
            raise
        if candidate.model is None or self._quality(model) < self._quality(candidate.model):
            self._adopt(candidate, model, warned)

    def _adopt(
        self, candidate: Candidate, model: GaussianMixture, warned: list[Warning | str]
    ) -> None:
        own = {name: self.options[name] for name in ("n_init", "random_state")}
        candidate.model, candidate.warned = model.set_params(**own), warned

    def _quality(self, model: GaussianMixture) -> tuple[bool, float]:
        return bool(model.collapsed_) and not self.allow_collapsed, -model.lower_bound_

    def _is_out(self, candidate: Candidate) -> bool:
        return bool(candidate.collapsed) and not self.allow_collapsed

    def _is_worse(self, candidate: Candidate, smaller: Candidate) -> bool:
        """Whether a candidate is of no use, or of less than the smaller one."""
        if candidate.model is None or self._is_out(candidate):
            return True
        if self.options.get("priors"):  # densities of more parameters: there is none to compare
            return False
        return candidate.objective > smaller.objective + SLACK

    def _measure(self, candidate: Candidate) -> None:
        """Set what the criteria make of the model, in one pass over the data."""
        assert candidate.model is not None
        p, parts, own = candidate.model.parameters_, self.data.parts, self.checkpoint.child()
        sums = own.state.get("sums")
        if sums is None:
            missing = self.data.missing
            sums = _sums(self.data, p) if parts is None else parts.reduce(_sums_of, missing, p)
            own.keep(p, lambda: {"sums": sums})
        log_likelihood, total, entropy, count = map(float, sums)
        candidate.n_samples = int(count)
        candidate.criteria = criteria(
            -log_likelihood / total, total, candidate.n_parameters, entropy
        )


def _sums(data: Data, parameters: Parameters) -> FloatArray:
    """Return log-likelihood, weight, entropy of responsibilities, and rows, in one pass."""
    p, sums = parameters, np.zeros(4)
    step = max(LARGEST_BLOCK // p.n_components, 1)
    mixture = (p.pi_logits, p.means, p.scale)
    how = {"family": p.family, "missing": data.missing}
    for rows, given in data.blocks():
        sums[3] += len(rows)
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            weight = np.ones(len(part)) if given is None else given[first : first + step]
            used = weight > 0  # what has no weight may have no density
            part, weight = part[used], weight[used]
            if len(part) == 0:
                continue
            resp = responsibilities(part, *mixture, **how)  # [n, K]
            sums[0] += weight @ log_prob(part, *mixture, **how)
            sums[1] += weight.sum()
            sums[2] += weight @ entr(resp).sum(axis=1)
    return sums


def _sums_of(part: Part, missing: str, parameters: Parameters) -> FloatArray:
    return _sums(Data(part.x, part.weight, some=False, missing=missing), parameters)


def _check_sizes(n_components: Any) -> list[int]:
    """Return the numbers of components, each once and the smallest first."""
    given: list[Any] = [n_components] if np.ndim(n_components) == 0 else list(n_components)
    for number in given:
        if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < 1:
            raise ValueError(f"n_components must be whole numbers from 1; got {number!r}.")
    if not given:
        raise ValueError("n_components must hold at least one number; got none.")
    return sorted({int(number) for number in given})


def _warn(selection: Selection) -> None:
    """Warn of what needs a look."""
    messages: list[Warning | str] = []
    if selection.all_collapsed and len(selection.candidates) > 1:
        messages.append(
            "Every candidate has a collapsed component, so that no criterion can choose: the "
            f"smallest was taken, {selection.best.name}. Use smaller n_components, drop columns "
            "that are constant or depend on others, or set allow_collapsed=True."
        )
    messages += [
        f"{c.name}: {note}. Use a larger n_init."
        for c in selection.candidates
        if c.worse_than is not None
        for note in c.notes
    ]
    for message in messages:
        warnings.warn(message, convergence_warning(), stacklevel=3)
    for warned in selection.best.warned:
        warnings.warn(warned, stacklevel=3)
