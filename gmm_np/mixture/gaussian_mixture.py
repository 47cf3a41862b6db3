"""GaussianMixture: the estimator, with scikit-learn's names and meanings and without scikit-learn.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np.checks import name_components
from gmm_np.likelihood import statistics
from gmm_np.mixture import findings, model_file
from gmm_np.mixture.columns import MixtureOfColumns
from gmm_np.mixture.fit_log import Fit, FitLog, recall_end, state_of_end
from gmm_np.mixture.sklearn_compat import RegCovarWarning, convergence_warning
from gmm_np.mixture.validation import (
    COVARIANCE_TYPES,
    SOLVERS,
    as_columns,
    as_data,
    as_generator,
    check_hyperparameters,
    check_initial,
    check_weight,
)
from gmm_np.parameters import Parameters, check_columns, check_covariances
from gmm_np.parts import is_stream
from gmm_np.priors import Prior
from gmm_np.solvers.adam import fit_adam
from gmm_np.solvers.checkpoint import (
    Checkpoint,
    State,
    parameters_of,
    recall,
    set_generator,
    state_of,
    state_of_generator,
)
from gmm_np.solvers.conditional_fit import fit_conditional
from gmm_np.solvers.em import EM
from gmm_np.solvers.floor import find_held_up
from gmm_np.solvers.initialization import make_start, sample_for
from gmm_np.solvers.noisy_data import NoisyData
from gmm_np.solvers.results import Callback, CollapseError, Data, FitInterrupted
from gmm_np.solvers.scipy_solvers import fit_lbfgs, fit_newton
from gmm_np.solvers.stepwise_em import remember, weight_of_memory
from gmm_np.sufficient_statistics import em_update

__all__ = ["COVARIANCE_TYPES", "SOLVERS", "GaussianMixture"]

# Rows of a minibatch of Adam.
BATCH_SIZE: Final = 256
# The gradient that Newton's method is asked for, in units of the fit: what rounding leaves.
NEWTON_TOL: Final = 1e-12


class GaussianMixture(MixtureOfColumns):
    """Gaussian mixture, fitted to data by maximum likelihood.

    Parameters, attributes and methods have the names and meanings of scikit-learn's class of this
    name; what goes beyond it is marked with [+].

    Parameters
    ----------
    n_components : int
        K.
    covariance_type : {"full", "tied", "diag", "tied_diag", "spherical", "shared_spherical"}
        Covariance family. [+] "tied_diag", "shared_spherical": the variances of columns, or one
        variance, for all components.
    tol : float
        EM stops where the mean log-likelihood changes by less in one iteration, in nats a sample.
        For "lbfgs" it is the largest entry of the gradient.
    reg_covar : float
        Added to the diagonal of the covariances in each update of EM. For the other solvers a
        floor under the squared diagonal of the factors. It is in the squared units of the columns.
        [+] Or an array of shape [D], one number a column, as ``1e-6 * X.var(axis=0)``.
    max_iter : int
        For "adam", passes over the data.
    n_init : int
        Starts, of which the best is kept.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}
        How a start is made: the most likely of a few short runs of k-means and EM, clusters about
        points drawn by k-means++, random responsibilities, or clusters about random rows.
    weights_init, means_init, precisions_init : array_like, optional
        Start there instead; shapes as those of `weights_`, `means_` and `precisions_`.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        Of the starts, of `sample`, and of the batches of "adam".
    warm_start : bool
        Whether `fit` starts where the last one ended. [+] On the same data it is as if the last had
        not ended; on others convergence is judged anew.
    verbose : int
        1 prints iterations, 2 also times and changes.
    verbose_interval : int
        Iterations between two prints.
    solver : {"em", "em+newton", "lbfgs", "adam"}
        [+] "em+newton" goes on from where EM ended by Newton's method, to the last digits of the
        maximum, as standard errors need it. `reg_covar` is a floor for EM alone there; where a
        component needs it, or EM did not converge, EM's fit is kept.
    on_collapse : {"raise", "reseed", "keep"}
        [+] What becomes of a component whose samples span less than D dimensions, which can happen
        where `reg_covar` is 0 or tiny: an error, a fresh start at a random row, or the covariance
        that it had. "lbfgs" and "adam" know the error alone.
    priors : sequence of Wishart, Dirichlet or Normal, optional
        [+] Of `gmm_np.priors`: the fit is then the maximum of the posterior density, and the lower
        bounds have its logarithm, over the weight of the data, in place of the log-likelihood.
    missing : {"error", "marginal"}
        [+] What NaN in X is: an error, or a value that is missing. Each row then counts by the
        density of what is seen of it, in fits and scores alike, and nothing is filled in; a row of
        which nothing is seen has the density 1. `impute` fills gaps by a fitted mixture.

    Attributes
    ----------
    weights_ : ndarray, shape [K]
        [+] Set by hand they need not add up to 1: they count in proportion to their sum.
    means_ : ndarray, shape [K, D]
    covariances_, precisions_, precisions_cholesky_ : ndarray
        Shape [K, D, D] for "full", [D, D] for "tied", [K, D] for "diag", [D] for "tied_diag", [K]
        for "spherical", [] for "shared_spherical". The last are upper triangles U, or roots:
        precision = U U^T. They are what counts, with `weights_` and `means_`, where attributes are
        set by hand, and may be lower triangles then, as `numpy.linalg.cholesky` gives them; see
        also `from_parameters`.
    converged_ : bool
    n_iter_ : int
        Of the best start.
    lower_bound_ : float
        Mean log-likelihood of the data in the last iteration of the best start, before its update.
        [+] After a fit with `given`, the mean conditional log-likelihood.
    lower_bounds_ : list of float
        The same of all its iterations.
    collapsed_ : list of int
        [+] Components, from 0, that `reg_covar`, a prior or the covariance they kept holds up, not
        their samples: in some direction more than half of the variance is `reg_covar`'s, or
        next to all the prior's.
    reseeded_ : list of int
        [+] Components, from 0, that collapsed on the way and were started again.
    dropped_starts_ : list of int
        [+] Starts, from 0, that were dropped because a component collapsed.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where the data were a data frame whose columns have names.
    parameters_ : Parameters
        [+] The same mixture for the functions of `gmm_np`.

    Notes
    -----
    scikit-learn's meta-estimators, such as Pipeline and GridSearchCV, pass `sample_weight` on where
    ``sklearn.set_config(enable_metadata_routing=True)`` was called and the mixture asks for it::

        mixture = GaussianMixture().set_fit_request(sample_weight=True)
        mixture.set_score_request(sample_weight=True)
        GridSearchCV(mixture, {"n_components": [1, 2, 3]}).fit(x, sample_weight=weight)

    Each model is then fitted to weighted rows, and chosen by the weighted mean of `score`. Without
    such a request an estimator is not given weights; asked for neither with True nor False, they
    are an error.

    Examples
    --------
    >>> import numpy as np
    >>> from gmm_np import GaussianMixture
    >>> x = np.array([[0, 2], [2, 2], [1, 4], [1, 0], [9, 2], [11, 2], [10, 4], [10, 0]])
    >>> mixture = GaussianMixture(n_components=2, random_state=0).fit(x)
    >>> mixture.means_[mixture.predict([[0, 0], [12, 3]])].round(6).tolist()
    [[1.0, 2.0], [10.0, 2.0]]
    """

    _estimator_type = "DensityEstimator"  # for scikit-learn before its tags

    converged_: bool
    n_iter_: int
    lower_bound_: float
    lower_bounds_: list[float]
    collapsed_: list[int]
    reseeded_: list[int]
    dropped_starts_: list[int]
    n_features_in_: int
    _weight_seen: float
    _last_step: tuple[tuple[Any, ...] | None, Parameters]
    feature_names_in_: NDArray[Any]

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: ArrayLike = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        solver: str = "em",
        on_collapse: str = "raise",
        priors: Sequence[Prior] | None = None,
        missing: str = "error",
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.solver = solver
        self.on_collapse = on_collapse
        self.priors = priors
        self.missing = missing

    @classmethod
    def from_parameters(
        cls,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        *,
        covariance_type: str = "full",
        **options: Any,
    ) -> GaussianMixture:
        """[+] Make a mixture that is known from elsewhere, as if it had been fitted.

        It scores, samples and is saved like any other; `partial_fit` and, with `warm_start`,
        `fit` go on from there.

        Parameters
        ----------
        weights : array_like, shape [K]
            From 0 to 1, with a sum of 1 within the rounding of four decimals each, which is then
            divided out.
        means : array_like, shape [K, D]
        covariances : array_like
            In the shape of `covariances_`, symmetric and positive definite.
        covariance_type : {"full", "tied", "diag", "tied_diag", "spherical", "shared_spherical"}
        **options
            The other parameters of the class but `n_components`, such as `random_state`.

        Returns
        -------
        mixture : GaussianMixture

        Raises
        ------
        TypeError
            If an argument is not made of real numbers.
        ValueError
            If shapes disagree, a value is not finite, the weights are negative or add up to
            something else, a covariance is not symmetric and positive definite, or an option is
            out of its range.

        Examples
        --------
        >>> from gmm_np import GaussianMixture
        >>> mixture = GaussianMixture.from_parameters([0.25, 0.75], [[0.0], [4.0]], [[[1.0]]] * 2)
        >>> mixture.predict([[0.5], [3.0]]).tolist()
        [0, 1]
        """
        mixture = cls(covariance_type=covariance_type, **options)
        check_hyperparameters(mixture)
        logits, centres, scale = check_covariances(
            weights, means, covariances, covariance_type, "covariance_type", COVARIANCE_TYPES
        )
        mixture._set_known(Parameters(logits, centres, scale, covariance_type))
        return mixture

    def _set_known(self, parameters: Parameters) -> None:
        """Be a mixture that is known from elsewhere."""
        self._set_parameters(parameters)
        self.n_components, self.n_features_in_ = parameters.means.shape
        self._set_fit([], converged=False, weight_seen=0.0)

    # --- fitting ---------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        callback: Callback | None = None,
        start: Parameters | None = None,
        checkpoint: Checkpoint | None = None,
        given: Any = None,
        noise: Any = None,
    ) -> GaussianMixture:
        """Fit the mixture.

        Parameters
        ----------
        X : array_like of shape [N, D], or iterable of such blocks of rows
            [+] An iterable is read again for each iteration, and never held as a whole; a
            `numpy.memmap` is not either, nor is what lies with Dask: an array, a data frame, or
            a list of Delayed or Future objects. `gmm_np.solvers.Data`, which have their weights,
            are taken as they are.
        y : ignored
        sample_weight : array_like of shape [N], or iterable of arrays, one a block, optional
            [+] A weight of two counts as a repeated row, one of zero as a dropped row.
        callback : callable, optional
            [+] Called with the iteration, from 1, and the mean negative log-likelihood.
        start : Parameters, optional
            [+] Start there, and there alone, in place of what the parameters of the class say.
        checkpoint : gmm_np.solvers.Checkpoint, optional
            [+] Where to go on from, to the same bits, and whom to tell the state after each
            iteration.
        given : str, int, or sequence of these, optional
            [+] Columns, by name or from 0: what is maximised in the end, by L-BFGS from the joint
            fit, is the likelihood of the other columns given these, for `regress`; the lower
            bounds are its. Without priors.
        noise : array_like of shape [N, D, D] or [N, D], optional
            [+] Covariances, or variances, of each row's errors, in the squared units of the
            columns: the fit is that of the values without them (extreme deconvolution), for X as
            one array and the solvers "em", "lbfgs" and "adam".

        Returns
        -------
        self : GaussianMixture

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data cannot be what they have to be, or a component collapses.
        KeyboardInterrupt
            After Ctrl-C; the best parameters so far are kept.

        Warns
        -----
        ConvergenceWarning
            If the best start did not converge, or a component has collapsed.
        RegCovarWarning
            If `reg_covar` is more than a hundredth of a column's variance: then the fitted
            covariances are its work. For "spherical" and "shared_spherical" the columns' mean
            variance counts.
        """
        del y
        check_hyperparameters(self)
        data = self._check_fit_data(X, sample_weight)
        if noise is not None:
            data = self._with_noise(data, noise)
        columns = None if given is None else self._check_given(given, data)
        rng = as_generator(self.random_state)
        if start is not None:
            self._check_start(start)
        resume = start is None and bool(self.warm_start) and self.__sklearn_is_fitted__()
        # What the lower bounds of EM depend on, beside the parameters.
        objective = self._objective(data) if self.warm_start else None
        before = self._value_before(objective) if resume else np.inf
        if columns is not None:  # the last bounds are of another function
            before, objective = np.inf, ("given", *columns.tolist())
        best: Fit | None = None
        collapse: CollapseError | None = None
        dropped = []
        given_start = self.parameters_ if resume else start
        n_starts = self.n_init if given_start is None else 1
        checkpoint = Checkpoint() if checkpoint is None else checkpoint
        for start_index in range(n_starts):
            log = FitLog(self.verbose, self.verbose_interval, callback)
            log.begin(start_index)
            try:
                found = self._fit_start(data, given_start, rng, before, log, checkpoint.child())
            except CollapseError as error:
                collapse = error
                dropped.append(start_index)
                if n_starts > 1:
                    self._warn(f"Start {start_index} was dropped: {error}")
                continue
            except FitInterrupted as stop:
                partial = Fit(stop.parameters, [-value for value in stop.history], False)
                if partial.lower_bounds and partial.better_than(best):
                    best = partial
                if best is not None:
                    self._keep(best, data, objective)
                raise
            log.end(found)
            if found.better_than(best):
                best = found
        if best is None:
            assert collapse is not None
            raise CollapseError(
                "Fitting the mixture model failed because some components have ill-defined "
                "empirical covariance (for instance caused by singleton or collapsed samples). "
                "Try to decrease the number of components, increase reg_covar, or scale the input "
                f"data. In detail: {collapse}",
                collapse.components,
            )
        if columns is not None and self.max_iter > 0:
            best = self._finish_given(data, best, columns, FitLog(0, 1, callback))
        self._keep(best, data, objective)
        self.dropped_starts_ = dropped
        self._warn_of_floor(data)
        self._warn_of(best)
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> GaussianMixture:
        """Update the mixture by one block of rows; [+] for data that pass by once.

        The first block is fitted as `fit` does. Each later one makes one step of EM with what was
        seen before, whose weight falls slowly, since it was seen by a younger model.

        Parameters
        ----------
        X : array_like, shape [N, D]
        y : ignored
        sample_weight : array_like, shape [N], optional

        Returns
        -------
        self : GaussianMixture

        Raises
        ------
        TypeError, ValueError
            As `fit` does, or if there are priors.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y, sample_weight)
        check_hyperparameters(self)
        if self.priors:
            raise ValueError(
                "partial_fit would count the priors again with each block. Fit a stream of blocks, "
                "or leave priors out."
            )
        rows: Any = self._check_parts(X, sample_weight)
        weight = None
        if rows is None:
            rows = self._check_data(X)
            weight = check_weight(sample_weight, len(rows))
        if not hasattr(self, "lower_bounds_"):  # attributes were set by hand, without a fit
            self._set_fit([], converged=False, weight_seen=0.0)
        parameters, reg_covar = self.parameters_, self.reg_covar
        block = statistics(rows, parameters, sample_weight=weight, missing=self.missing)
        seen = self._weight_seen
        memory = remember(parameters, weight_of_memory(seen, block.weight), reg_covar)
        total = memory + block
        updated, flat = em_update(parameters, total, reg_covar=reg_covar)
        collapsed = {*map(int, np.flatnonzero(flat)), *find_held_up(updated, total.n_k, reg_covar)}
        self._set_parameters(updated)
        self._weight_seen = seen + block.weight
        self.converged_ = False
        self.n_iter_ += 1
        self.lower_bound_ = -block.loss / block.weight
        self.lower_bounds_ = [*self.lower_bounds_, self.lower_bound_]
        self.collapsed_ = sorted(collapsed)
        self._warn_of(Fit(updated, [], True, tuple(self.collapsed_)))
        return self

    def fit_predict(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        callback: Callback | None = None,
        start: Parameters | None = None,
        given: Any = None,
        noise: Any = None,
    ) -> NDArray[np.int64]:
        """Fit the mixture to X, and return the most probable component of each row, [N].

        Takes and raises what `fit` does, but no stream of blocks.
        """
        if isinstance(X, Data) or is_stream(X):
            raise ValueError("fit_predict needs an array: call fit, then predict for each block.")
        options: dict[str, Any] = {"callback": callback, "start": start}
        self.fit(X, y, sample_weight, given=given, noise=noise, **options)
        return self.predict(X)

    def _fit_start(
        self,
        data: Data,
        given: Parameters | None,
        rng: np.random.Generator,
        before: float,
        log: FitLog,
        checkpoint: Checkpoint,
    ) -> Fit:
        """Fit from one start, a given one or one of the data; or recall what it came to."""
        state = checkpoint.state
        if state:
            set_generator(rng, state["rng"])
        if "end" in state:
            data.total_weight = state["weight"]
            recall(state["history"].tolist(), log)
            return recall_end(state["end"])
        if state:
            start = parameters_of(state["start"])
        else:
            start = self._start(data, rng) if given is None else given
            now = {"start": state_of(start), "rng": state_of_generator(rng)}
            checkpoint.keep(start, lambda: now)

        def end(found: Fit | CollapseError) -> State:
            return {
                "end": state_of_end(found),
                "history": np.array(log.values),
                "weight": data.total_weight,
                "rng": state_of_generator(rng),
            }

        try:
            found = self._solve(data, start, rng, before, log, checkpoint)
        except CollapseError as error:
            collapse = error
            checkpoint.keep(start, lambda: end(collapse))
            raise
        checkpoint.keep(found.parameters, lambda: end(found))
        return found

    def _solve(
        self,
        data: Data,
        start: Parameters,
        rng: np.random.Generator,
        before: float,
        log: FitLog,
        checkpoint: Checkpoint,
    ) -> Fit:
        """Fit from one start."""
        if self.max_iter == 0:
            return Fit(start, [], False)
        remedies: dict[str, Any] = {"reg_covar": self.reg_covar, "priors": tuple(self.priors or ())}
        limits: dict[str, Any] = {"tol": self.tol, "max_iter": self.max_iter, "callback": log}
        if self.solver.startswith("em"):
            run = EM(data, start, on_collapse=self.on_collapse, rng=rng, **remedies)
            run.iterate(before=before, checkpoint=checkpoint.child(), **limits)
            bounds = [-value for value in run.history]
            by_em = Fit(run.parameters, bounds, run.converged, run.held(), tuple(run.reseeded))
            if self.solver == "em" or not by_em.converged or by_em.collapsed:
                return by_em
            return self._finish(data, by_em, log, checkpoint.child())
        limits["checkpoint"] = checkpoint.child()
        if self.solver == "lbfgs":
            found = fit_lbfgs(data, start, **remedies, **limits)
        else:
            found = fit_adam(data, start, batch_size=BATCH_SIZE, rng=rng, **remedies, **limits)
        if found.collapsed and not (np.any(self.reg_covar) or self.priors):
            raise CollapseError(
                f"{name_components(found.collapsed)} collapsed: the samples span less "
                "than D dimensions, so that the likelihood has no maximum. Components are counted "
                "from 0.",
                found.collapsed,
            )
        bounds = [-value for value in found.history or (found.nll,)]
        return Fit(found.parameters, bounds, found.converged, found.collapsed)

    def _finish(self, data: Data, by_em: Fit, log: FitLog, checkpoint: Checkpoint) -> Fit:
        """Go on by Newton's method from where EM ended; there is no floor on the way."""
        done = len(by_em.lower_bounds)
        on = by_em.parameters.weights() > 0
        if not on.all():  # a logit of -inf is in no vector
            return by_em
        found = fit_newton(
            data,
            by_em.parameters,
            priors=tuple(self.priors or ()),
            tol=NEWTON_TOL,
            max_iter=max(self.max_iter - done, 1),
            callback=lambda iteration, value: log(done + iteration, value),
            checkpoint=checkpoint,
        )
        if found.collapsed:
            return by_em
        bounds = [*by_em.lower_bounds, *(-value for value in found.history)]
        return Fit(found.parameters, bounds, found.converged, (), by_em.reseeded)

    def _check_given(self, given: Any, data: Data) -> NDArray[np.intp]:
        """Return the columns on which the fit is conditioned."""
        names = getattr(self, "feature_names_in_", None)
        columns = as_columns(given, names, self.n_features_in_, "given")
        check_columns(
            columns, self.n_features_in_, least=1, most=self.n_features_in_ - 1, name="given"
        )
        marginal = self.missing == "marginal"
        for what, found in (
            ("priors", self.priors),
            ("noise", isinstance(data, NoisyData)),
            ("missing='marginal'", marginal),
        ):
            if found:
                raise ValueError(
                    f"given has no fit with {what}. Leave {what} out, or fit the joint likelihood "
                    "and ask the mixture for regress."
                )
        return columns

    def _finish_given(self, data: Data, best: Fit, columns: NDArray[np.intp], log: FitLog) -> Fit:
        """Go on from the joint fit to the maximum of the conditional likelihood."""
        try:
            found = fit_conditional(
                data,
                best.parameters,
                columns,
                reg_covar=self.reg_covar,
                tol=self.tol,
                max_iter=self.max_iter,
                callback=log,
            )
        except FitInterrupted as stop:
            self._keep(Fit(stop.parameters, [-v for v in stop.history], False), data, None)
            raise
        bounds = [-value for value in found.history or (found.nll,)]
        return Fit(found.parameters, bounds, found.converged, found.collapsed, best.reseeded)

    def _with_noise(self, data: Data, noise: Any) -> NoisyData:
        """Return the data with the covariances of their errors."""
        if self.solver == "em+newton":
            raise ValueError(
                "noise has no second derivatives, which solver='em+newton' needs. Use "
                "solver='em', 'lbfgs' or 'adam'."
            )
        if self.missing == "marginal":
            raise ValueError(
                "noise has no fit with missing='marginal'. Leave the incomplete rows out, or give "
                "what is missing in them any value and a variance of noise that is very large."
            )
        if not data.is_array:
            raise ValueError(
                "noise needs X as one array, of which each row has its covariance. For a stream "
                "add gmm_np.noise.statistics of each block for steps of EM of your own."
            )
        found = NoisyData(data.x, noise, data.weight, finite=True)
        found.feature_names = data.feature_names
        return found

    def _check_start(self, start: object) -> None:
        if not isinstance(start, Parameters):
            raise TypeError(
                f"start must be gmm_np.Parameters; got {type(start).__name__}. Leave it out, or "
                "give the parameters_ of a fitted mixture."
            )
        self._check_kind(start, "start has", "this fit", "Give parameters of this kind.")

    def _check_kind(self, given: Parameters, who: str, this: str, remedy: str) -> None:
        """Raise ValueError unless parameters have the numbers and the family of this fit."""
        found = (given.n_components, given.n_features, given.family)
        wanted = (int(self.n_components), self.n_features_in_, self.covariance_type)
        if found != wanted:
            raise ValueError(
                f"{who} (n_components, columns, covariance_type) = {found}, but {this} has "
                f"{wanted}. {remedy}"
            )

    def _start(self, data: Data, rng: np.random.Generator) -> Parameters:
        """Make a start, from what the user gives and from the data."""
        n_components, family = int(self.n_components), self.covariance_type
        weights, means, scale = check_initial(
            self.weights_init,
            self.means_init,
            self.precisions_init,
            family,
            n_components,
            self.n_features_in_,
        )
        if weights is None or means is None or scale is None:
            rows = sample_for(data, n_components, rng, distinct=False)  # as scikit-learn
            made = make_start(rows, n_components, rng, init=self.init_params, family=family)
        with np.errstate(divide="ignore"):  # a component of weight zero is off
            return Parameters(
                made.pi_logits if weights is None else np.log(weights),
                made.means if means is None else means,
                made.scale if scale is None else scale,
                family,
            )

    def _objective(self, data: Data) -> tuple[Any, ...]:
        """Return what is equal only where another fit's lower bounds are of the same function."""
        priors = tuple(self.priors or ())
        floor = tuple(np.ravel(self.reg_covar).tolist())
        return data.fingerprint(), self.solver, floor, priors

    def _value_before(self, objective: tuple[Any, ...] | None) -> float:
        """Return the objective before the step of EM that led to the parameters of a warm start.

        Infinity where that step was on other data, or another's, so that there is none to compare.

        Raises
        ------
        ValueError
            If the parameters are those of a mixture of another kind.
        """
        start = self.parameters_
        self._check_kind(
            start,
            "warm_start goes on from the last fit, with",
            "this one",
            "Set warm_start=False, or make a new GaussianMixture.",
        )
        last_objective, parameters = getattr(self, "_last_step", (None, start))
        same = last_objective == objective and parameters.equals(start)
        return -self.lower_bound_ if same else np.inf

    def _keep(self, best: Fit, data: Data, objective: tuple[Any, ...] | None) -> None:
        """Set the fitted attributes."""
        self._set_parameters(best.parameters)
        self._last_step = (objective, best.parameters)
        self._set_fit(best.lower_bounds, converged=best.converged, weight_seen=data.total_weight)
        self.collapsed_, self.reseeded_ = list(best.collapsed), list(best.reseeded)

    def _set_fit(self, lower_bounds: list[float], *, converged: bool, weight_seen: float) -> None:
        """Set the attributes that say how the parameters were found."""
        self.converged_ = converged
        self.n_iter_ = len(lower_bounds)
        self.lower_bounds_ = lower_bounds
        self.lower_bound_ = lower_bounds[-1] if lower_bounds else -np.inf
        self.collapsed_, self.reseeded_, self.dropped_starts_ = [], [], []
        self._weight_seen = weight_seen

    # --- files -------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted mixture to a .npz file, whole or not at all.

        Parameters that are numbers, texts or None are kept; arrays that start a fit, generators
        and priors are not.
        """
        model_file.save(path, self._stored())

    def _stored(self) -> model_file.Stored:
        self._check_is_fitted()
        return model_file.Stored(
            self.get_params(),
            self.parameters_,
            getattr(self, "feature_names_in_", None),
            bool(getattr(self, "converged_", False)),
            list(getattr(self, "lower_bounds_", [])),
            int(getattr(self, "n_iter_", 0)),
            float(getattr(self, "_weight_seen", 0.0)),
            list(getattr(self, "collapsed_", [])),
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> GaussianMixture:
        """Read a mixture that `save` wrote; every member is checked before any is used.

        Raises
        ------
        ValueError
            If the file is not such a file.
        OSError
            If it cannot be read.
        """
        stored = model_file.load(path, set(cls._defaults()))
        mixture = cls(**stored.hyperparameters)
        check_hyperparameters(mixture)
        mixture._set_parameters(stored.parameters)
        mixture.n_features_in_ = stored.parameters.n_features
        if stored.feature_names is not None:
            mixture.feature_names_in_ = stored.feature_names
        mixture._set_fit(
            stored.lower_bounds, converged=stored.converged, weight_seen=stored.weight_seen
        )
        mixture.n_iter_ = stored.n_iter
        mixture.collapsed_ = stored.collapsed
        return mixture

    # --- checks ------------------------------------------------------------------------------

    def _check_fit_data(self, X: Any, sample_weight: Any) -> Data:
        """Return data to fit to, and set what they say about features."""
        data = as_data(X, sample_weight, self.missing)
        n_features = data.n_features()
        if data.is_array and (n_samples := data.usage()[0].n_rows) < self.n_components:
            raise ValueError(
                "Expected n_samples >= n_components but got n_components = "
                f"{self.n_components}, n_samples = {n_samples}"
            )
        self.n_features_in_ = n_features
        vars(self).pop("feature_names_in_", None)
        if data.feature_names is not None:
            self.feature_names_in_ = data.feature_names
        return data

    def _warn_of(self, best: Fit) -> None:
        if not best.converged and self.max_iter > 0:
            self._warn(
                "Best performing initialization did not converge. Try different init parameters, "
                "or increase max_iter, tol, or check for degenerate data."
            )
        if best.reseeded:
            self._warn(
                f"{name_components(best.reseeded).capitalize()} collapsed on the way "
                "and were started again at random rows. Components are counted from 0."
            )
        if best.collapsed:
            columns = self._columns()
            who = findings.name_collapsed(best.collapsed, best.parameters, self.reg_covar, columns)
            self._warn(
                f"{who[0].upper()}{who[1:]}: in some direction reg_covar, a prior or a kept "
                "covariance gives more of the variance than the samples do. Use fewer components, "
                "drop columns that are constant or depend on others, or scale reg_covar to the "
                "columns. Components are counted from 0."
            )

    def _warn_of_floor(self, data: Data) -> None:
        if not np.any(self.reg_covar):
            return
        found = findings.describe_high_floor(
            self.reg_covar, data.variances(), self.parameters_, self._columns()
        )
        if found is not None:
            warnings.warn(
                f"reg_covar={found}. It is added to each fitted variance, so that these are "
                "mostly its work where components are narrow. Use a smaller one, a share of each "
                "column's variance as reg_covar=1e-6 * X.var(axis=0), or scale the columns.",
                RegCovarWarning,
                stacklevel=3,
            )

    def _columns(self) -> list[str]:
        names = getattr(self, "feature_names_in_", None)
        return findings.column_names(names, self.n_features_in_)

    def _warn(self, message: str) -> None:
        warnings.warn(message, convergence_warning(), stacklevel=4)
