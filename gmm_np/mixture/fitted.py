"""What a fitted mixture is used for, in scikit-learn's names.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from gmm_np import checks
from gmm_np.checks import FloatArray
from gmm_np.covariance import FAMILIES
from gmm_np.covariance.conversions import (
    covariances_of,
    factor_of_precisions_cholesky,
    precisions_cholesky_of,
)
from gmm_np.density import Modes, log_prob_grad, log_prob_hess, modes
from gmm_np.inference import StandardErrors, standard_errors
from gmm_np.likelihood import log_prob, responsibilities, summed_loss
from gmm_np.missing import impute
from gmm_np.mixture.criteria import criteria
from gmm_np.mixture.sklearn_compat import Estimator, not_fitted_error
from gmm_np.mixture.validation import as_generator, check_array, check_feature_names, check_weight
from gmm_np.parameters import Parameters, check_means, check_weights
from gmm_np.parts import Parts, is_stream, parts_of


class FittedMixture(Estimator):
    """A mixture that has `weights_`, `means_` and `precisions_cholesky_`, once it is fitted."""

    covariance_type: str
    missing: str
    random_state: Any
    weights_: FloatArray
    means_: FloatArray
    covariances_: FloatArray
    precisions_: FloatArray
    precisions_cholesky_: FloatArray

    def _set_parameters(self, parameters: Parameters) -> None:
        scale, family = parameters.scale.astype(np.float64), parameters.family
        self.weights_ = parameters.weights()
        self.means_ = parameters.means.astype(np.float64)
        self.covariances_ = covariances_of(scale, family)
        self.precisions_cholesky_ = precisions_cholesky_of(scale, family)
        self.precisions_ = covariances_of(self.precisions_cholesky_, family)
        copies = (a.copy() for a in (self.weights_, self.means_, self.precisions_cholesky_))
        self._fitted = (*copies, parameters)

    @property
    def parameters_(self) -> Parameters:
        """The fitted mixture for the functions of `gmm_np`.

        Made anew where `weights_`, `means_` or `precisions_cholesky_` were set by hand. These
        three are what all methods use; `weights_` count in proportion to their sum.

        Raises
        ------
        TypeError, ValueError
            If they were set to what no mixture has.
        """
        self._check_is_fitted()
        current = (self.weights_, self.means_, self.precisions_cholesky_)
        fitted = getattr(self, "_fitted", None)
        if fitted is not None and all(map(np.array_equal, current, fitted[:3])):
            return fitted[3]  # type: ignore[no-any-return]
        return check_attributes(*current, self.covariance_type)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there are parameters to use."""
        return all(
            hasattr(self, f"{name}_") for name in ("weights", "means", "precisions_cholesky")
        )

    def _model(self) -> dict[str, Any]:
        """Return the arguments of the functions of `gmm_np` after x."""
        p = self.parameters_
        return {
            "pi_logits": p.pi_logits,
            "means": p.means,
            "scale": p.scale,
            "family": p.family,
            "missing": self.missing,
        }

    def _check_is_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise not_fitted_error()(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with "
                "appropriate arguments before using this estimator."
            )

    def _check_data(self, X: Any) -> NDArray[Any]:
        """Return rows to be used with a fitted mixture."""
        names = getattr(self, "feature_names_in_", None)
        check_feature_names(names, X)
        return check_array(X, self.parameters_.n_features, missing=self.missing)

    def _check_parts(self, X: Any, sample_weight: Any = None) -> Parts | None:
        """Return data that lie in parts, None where they are here."""
        parts = parts_of(X, sample_weight)
        if parts is not None:
            names = getattr(self, "feature_names_in_", None)
            check_feature_names(names, parts.named)
        return parts

    def _check_rows(self, X: Any) -> Any:
        """Return rows, or parts of them, to be used with a fitted mixture."""
        parts = self._check_parts(X)
        return self._check_data(X) if parts is None else parts

    def score_samples(self, X: Any) -> FloatArray:
        """Return the log-likelihood of each row, [N], in nats; + of Dask's data a Dask array."""
        return log_prob(self._check_rows(X), **self._model())

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the mean log-likelihood of the rows, in nats a sample; higher is better.

        Parameters
        ----------
        X : array_like, shape [N, D]
        y : ignored
        sample_weight : array_like, shape [N], optional
            [+] A weight of two counts as a repeated row: the mean is over the sum of the weights.

        Raises
        ------
        TypeError, ValueError
            If X or the weights cannot be what they have to be, or there was no fit.
        """
        del y
        parts = self._check_parts(X, sample_weight)
        if parts is not None:
            sums = summed_loss(parts, self.parameters_, missing=self.missing)
            loss, total, _ = map(float, sums)
            return -loss / total
        log_likelihood = self.score_samples(X)
        weight = check_weight(sample_weight, len(log_likelihood))
        return float(np.average(log_likelihood, weights=weight))

    def log_prob_grad(self, X: Any) -> FloatArray:
        """[+] Return the gradient of each row's log-likelihood in the row itself, [N, D].

        Zero where a value is missing.
        """
        return log_prob_grad(self._check_rows(X), **self._model())

    def log_prob_hess(self, X: Any) -> FloatArray:
        """[+] Return the Hessian of each row's log-likelihood in the row itself, [N, D, D].

        Zero where a value is missing.
        """
        return log_prob_hess(self._check_rows(X), **self._model())

    def modes(self) -> Modes:
        """[+] Return the local maxima of the density, the highest first; see `gmm_np.modes`."""
        p = self.parameters_
        return modes(p.pi_logits, p.means, p.scale, family=p.family)

    def standard_errors(
        self, X: Any, sample_weight: Any = None, *, kind: str = "hessian", **options: Any
    ) -> StandardErrors:
        """[+] Return standard errors of weights, means and covariances.

        Of a maximum of the likelihood: fit with ``solver="em+newton"`` and without priors.

        Parameters
        ----------
        X : array_like of shape [N, D], or iterable of such blocks of rows
            What the mixture was fitted to.
        sample_weight : array_like of shape [N], or iterable of arrays, one a block, optional
            Those of the fit. A weight of two counts as a repeated row.
        kind : {"hessian", "opg", "sandwich", "bootstrap"}
        **options
            `n_bootstrap`, `random_state` and `callback`, as for `gmm_np.standard_errors`.

        Returns
        -------
        errors : StandardErrors

        Raises
        ------
        TypeError, ValueError, OverflowError
            As `gmm_np.standard_errors` does.

        Warns
        -----
        UserWarning
            If the mixture is not where the likelihood of X is largest.
        """
        parts = self._check_parts(X, sample_weight)
        rows, weight = X, sample_weight
        if parts is not None:
            rows, weight = parts, None
        elif not is_stream(X):
            rows = self._check_data(X)
            weight = check_weight(sample_weight, len(rows))
        options = {"kind": kind, "sample_weight": weight, "missing": self.missing, **options}
        return standard_errors(rows, self.parameters_, **options)

    def predict_proba(self, X: Any) -> FloatArray:
        """Return the probability of each component for each row, [N, K]; + lazily for Dask's."""
        return responsibilities(self._check_rows(X), **self._model())

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the most probable component of each row, [N]; + of Dask's data a Dask array."""
        p = self.parameters_
        rows = self._check_rows(X)
        if isinstance(rows, Parts):
            resp: Any = self.predict_proba(rows)
            there: NDArray[np.int64] = resp.argmax(axis=1)
            return there
        step = max(2**20 // p.n_components, 1)  # no N x K array
        parts = (rows[start : start + step] for start in range(0, len(rows), step))
        model = self._model()
        return np.concatenate([responsibilities(part, **model).argmax(axis=1) for part in parts])

    def impute(self, X: Any, *, draws: int | None = None, random_state: Any = None) -> FloatArray:
        """[+] Fill in what is missing, NaN in X: by what is expected given what is seen, or draws.

        Parameters
        ----------
        X : array_like, shape [N, D]
            Whatever `missing` says.
        draws : int, optional
            How many draws are wanted in place of the mean, which varies less than values do.
        random_state : int, numpy.random.Generator, numpy.random.RandomState or None
            Of the draws; that of the mixture by default.

        Returns
        -------
        filled : ndarray, shape [N, D], or [draws, N, D]

        Raises
        ------
        TypeError, ValueError, OverflowError
            As `gmm_np.impute` does, or if there was no fit.
        """
        p = self.parameters_
        check_feature_names(getattr(self, "feature_names_in_", None), X)
        rows = check_array(X, p.n_features, missing="marginal")
        rng = as_generator(self.random_state if random_state is None else random_state)
        model = (p.pi_logits, p.means, p.scale)
        return impute(rows, *model, family=p.family, draws=draws, random_state=rng)

    def sample(self, n_samples: int = 1) -> tuple[FloatArray, NDArray[np.int64]]:
        """Draw rows from the mixture.

        Returns
        -------
        X : ndarray, shape [n_samples, D]
            Sorted by component.
        y : ndarray, shape [n_samples]
            The component of each row.

        Raises
        ------
        ValueError
            If `n_samples` is not at least 1.
        """
        p = self.parameters_
        if n_samples < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least one "
                "sample."
            )
        rng = as_generator(self.random_state)
        y = np.repeat(np.arange(p.n_components), rng.multinomial(n_samples, p.weights()))
        x = rng.standard_normal((len(y), p.n_features))
        x = FAMILIES[p.family].structure.apply_to_rows(p.scale.astype(np.float64), x, y)
        return x + p.means[y], y

    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Return the Bayesian information criterion on X, in nats; lower is better.

        Minus twice the log-likelihood of all rows, and log N for each free parameter.

        Parameters
        ----------
        X : array_like, shape [N, D]
        sample_weight : array_like, shape [N], optional
            [+] Those of the fit, if it had some. A weight of two counts as a repeated row: the sum
            of the weights stands where the number of rows does.

        Returns
        -------
        bic : float
            A sum over rows, where `score` is a mean.

        Raises
        ------
        TypeError, ValueError
            As `score` does.
        """
        return self._criteria(X, sample_weight)["bic"]

    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Return Akaike's information criterion on X, in nats; lower is better.

        Minus twice the log-likelihood of all rows, and 2 for each free parameter.

        Parameters
        ----------
        X, sample_weight
            As for `bic`.

        Returns
        -------
        aic : float

        Raises
        ------
        TypeError, ValueError
            As `score` does.
        """
        return self._criteria(X, sample_weight)["aic"]

    def icl(self, X: Any, sample_weight: Any = None) -> float:
        """[+] Return the integrated completed likelihood on X; lower is better.

        BIC + 2 * entropy of the responsibilities, in nats: where the BIC finds a good density, it
        finds components that lie apart.

        Parameters
        ----------
        X, sample_weight
            As for `bic`.

        References
        ----------
        .. [1] Biernacki, C., Celeux, G. and Govaert, G. (2000). Assessing a mixture model for
           clustering with the integrated completed likelihood. *IEEE Transactions on Pattern
           Analysis and Machine Intelligence*, 22(7), 719-725.
        """
        if self._check_parts(X, sample_weight) is not None:
            return self._criteria(X, sample_weight, entropy=True)["icl"]
        entropies = entr(self.predict_proba(X)).sum(axis=1)  # [N]
        weight = check_weight(sample_weight, len(entropies))
        entropy = float(entropies.sum() if weight is None else entropies @ weight)
        return self._criteria(X, sample_weight, entropy)["icl"]

    def _criteria(
        self, X: Any, sample_weight: Any, entropy: float | None = None
    ) -> dict[str, float]:
        parts = self._check_parts(X, sample_weight)
        if parts is not None:
            sums = summed_loss(
                parts, self.parameters_, missing=self.missing, entropy=entropy is not None
            )
            loss, weight, found = map(float, sums)
            entropy = None if entropy is None else found
            return criteria(loss / weight, weight, self._n_parameters(), entropy)
        log_likelihood = self.score_samples(X)
        given = check_weight(sample_weight, len(log_likelihood))
        weight = float(len(log_likelihood) if given is None else given.sum())
        total = float(log_likelihood.sum() if given is None else log_likelihood @ given)
        return criteria(-total / weight, weight, self._n_parameters(), entropy)

    def _n_parameters(self) -> int:
        """Free parameters of the mixture."""
        return FAMILIES[self.covariance_type].n_parameters(*self.parameters_.means.shape)


# --- attributes set by hand ---------------------------------------------------------------------

# What rounding may leave beyond a triangle, relative to the largest entry of its row: that of
# inverses computed in single precision.
TRIANGLE_ROUNDING: Final = 1e-6
_REMEDY: Final = (
    "Set factors of the precisions, as np.linalg.cholesky(precisions) gives them, or make the "
    "mixture by GaussianMixture.from_parameters(weights, means, covariances)."
)


def check_attributes(weights: Any, means: Any, precisions_cholesky: Any, family: str) -> Parameters:
    """Return the mixture that has these as `weights_`, `means_` and `precisions_cholesky_`.

    Weights count in proportion to their sum, whatever it is: attributes are set one by one, so
    that it need not be 1 on the way.

    Raises
    ------
    TypeError, ValueError
        If there is no such mixture.
    """
    shares = check_weights("weights_", weights)
    centres = check_means(means, "means_")
    checks.check_finite("means_", centres, "Look at what set them.", ("component", "column"))
    if len(shares) != len(centres):
        raise ValueError(
            f"weights_ and means_ disagree: weights_ has shape {shares.shape}, but means_ has "
            f"shape {centres.shape}. Set both, with one entry or row for each component."
        )
    scale = check_precisions_cholesky(precisions_cholesky, family, *centres.shape)
    with np.errstate(divide="ignore"):  # a component of weight zero is off
        return Parameters(np.log(shares), centres, scale, family)


def check_precisions_cholesky(
    value: Any, family: str, n_components: int, n_features: int
) -> FloatArray:
    """Return the scale that has these factors U of the precisions, U U^T.

    scikit-learn's scores take the log determinant from the diagonal, so that U may be an upper
    or a lower triangle; beyond it there may be rounding.

    Raises
    ------
    TypeError, ValueError
        If there is no such scale.
    """
    name, form = "precisions_cholesky_", FAMILIES[family]
    array = checks.as_float64(name, value, form.places)
    shape = form.shape(n_components, n_features)
    if array.shape != shape:
        raise ValueError(
            f'{name} must have shape {shape} for covariance_type="{family}" and means_ of shape '
            f"{(n_components, n_features)}; got {array.shape}. {_REMEDY}"
        )
    checks.check_finite(name, array, _REMEDY, form.places)
    diagonal = np.diagonal(array, axis1=-2, axis2=-1) if form.has_factors else array
    if not diagonal.min() > 0:
        what = "diagonal entries" if form.has_factors else "values"
        remedy = (
            "A column with a negative diagonal entry may be negated: that leaves the precision."
            if form.has_factors
            else "Set 1 / np.sqrt(variances)."
        )
        raise ValueError(
            f"{name} has {what} that are not positive: "
            f"{checks.first_of(diagonal <= 0, form.places, diagonal)}. {remedy}"
        )
    if form.has_factors:
        # Beside what else is in its row an entry does not depend on the units of the columns.
        size = np.abs(array) / np.abs(array).max(axis=-1, keepdims=True)
        upper, lower = (
            (part > TRIANGLE_ROUNDING).any(axis=(-2, -1))
            for part in (np.triu(size, 1), np.tril(size, -1))
        )
        bad = upper & lower  # [K], or []
        if bad.any():
            where = f": {checks.first_of(bad, form.places[:-2])}" if bad.ndim > 0 else ""
            raise ValueError(
                f"{name} must hold triangles, and has matrices with values on both sides of the "
                f"diagonal{where}. {_REMEDY}"
            )
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        scale = factor_of_precisions_cholesky(array, family)
    if not (np.isfinite(scale).all() and scale.any()):
        raise ValueError(f"{name} has inverses beyond the range of a double. Rescale the data.")
    return scale
