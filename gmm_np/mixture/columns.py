"""A fitted mixture's columns: some of them alone, or given the others, by index or by name.

Letters in shapes: N rows, K components, D columns, Q known columns, R others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray
from gmm_np.conditional import Regression, log_prob, regress
from gmm_np.mixture.fitted import FittedMixture
from gmm_np.mixture.validation import as_columns, check_array, feature_names
from gmm_np.parameters import Parameters, RowParameters


class MixtureOfColumns(FittedMixture):
    """A fitted mixture that answers for some of its columns."""

    def marginal(self, columns: Any) -> Any:
        """[+] Return the mixture of some of the columns alone.

        Parameters
        ----------
        columns : str, int, or sequence of these
            Which, by name or from 0, in the order in which they are wanted; none twice.

        Returns
        -------
        mixture : GaussianMixture
            Of the same covariance type, as if it had been fitted.

        Raises
        ------
        TypeError, ValueError
            If there are no such columns, or there was no fit.

        Examples
        --------
        >>> from gmm_np import GaussianMixture
        >>> joint = GaussianMixture.from_parameters([1.0], [[1.0, 2.0]], [[[4.0, 1.0], [1.0, 2.0]]])
        >>> joint.marginal(1).covariances_.round(6).tolist()
        [[[2.0]]]
        """
        chosen = self._columns_of(columns)
        return self._made(self.parameters_.marginal(chosen), chosen)

    def conditional(self, columns: Any, values: Any) -> Any:
        """[+] Return the mixture of the other columns where some have these values.

        Parameters
        ----------
        columns : str, int, or sequence of these
            Those that are known, by name or from 0; none twice, and not all.
        values : array_like, shape [Q], or [N, Q]
            In the order of `columns`; of one row, or of each of N rows.

        Returns
        -------
        mixture : GaussianMixture, or RowParameters
            Of the other columns in their own order. For N rows the arguments of `gmm_np.mdn.nll`
            after x; `regress` has their moments.

        Raises
        ------
        TypeError, ValueError
            If there are no such columns, or `values` are not as many finite numbers.

        Examples
        --------
        >>> from gmm_np import GaussianMixture
        >>> joint = GaussianMixture.from_parameters([1.0], [[1.0, 2.0]], [[[4.0, 1.0], [1.0, 2.0]]])
        >>> joint.conditional([0], [3.0]).means_.round(6).tolist()
        [[2.5]]
        """
        known = self._columns_of(columns)
        found = self.parameters_.conditional(known, values)
        if isinstance(found, RowParameters):
            return found
        return self._made(found, np.setdiff1d(np.arange(self.parameters_.n_features), known))

    def regress(self, X_known: Any, columns: Any = None) -> Regression:
        """[+] Return mean, covariance and mode of the columns that are not known, for each row.

        Parameters
        ----------
        X_known : array_like, shape [N, Q]
            The known columns of rows.
        columns : str, int, or sequence of these, optional
            Which these are, by name or from 0; by default those that a data frame names.

        Returns
        -------
        regression : gmm_np.conditional.Regression
            With `mean` [N, R], `covariance` [N, R, R], `mode` [N, R], and `columns` [R], which say
            of which columns these are.

        Raises
        ------
        TypeError, ValueError
            If there are no such columns, or the rows do not have them.

        Examples
        --------
        >>> from gmm_np import GaussianMixture
        >>> joint = GaussianMixture.from_parameters([1.0], [[1.0, 2.0]], [[[4.0, 1.0], [1.0, 2.0]]])
        >>> joint.regress([[3.0], [5.0]], columns=0).mean.round(6).tolist()
        [[2.5], [3.0]]
        """
        self._check_is_fitted()
        named = feature_names(X_known)
        if columns is None:
            if named is None:
                raise ValueError(
                    "columns must say which columns X_known holds, by name or from 0, unless it is "
                    "a data frame whose columns have names."
                )
            columns = list(named)
        known = self._columns_of(columns)
        names = getattr(self, "feature_names_in_", None)
        if named is not None and names is not None and list(named) != list(names[known]):
            raise ValueError(
                f"columns are {list(names[known])}, but X_known has {list(named)}. Give them in "
                "one order, or leave columns out."
            )
        return regress(self.parameters_, known, check_array(X_known, len(known)))

    def score_samples_given(self, X: Any, columns: Any) -> FloatArray:
        """[+] Return the conditional log-likelihood of each row's other columns, [N], in nats.

        Parameters
        ----------
        X : array_like, shape [N, D]
            Rows with all columns.
        columns : str, int, or sequence of these
            Those that are given, by name or from 0; none twice, and not all.

        Raises
        ------
        TypeError, ValueError
            If there are no such columns, or X cannot be what it has to be.
        """
        p, rows = self.parameters_, self._check_data(X)
        given = self._columns_of(columns)
        return log_prob(rows, p.pi_logits, p.means, p.scale, given, family=p.family)

    def _columns_of(self, columns: Any) -> NDArray[np.intp]:
        self._check_is_fitted()
        names = getattr(self, "feature_names_in_", None)
        return as_columns(columns, names, self.parameters_.n_features)

    def _made(self, parameters: Parameters, columns: NDArray[np.intp]) -> Any:
        """Return a mixture of these columns of this one, as if it had been fitted."""
        own: Any = type(self)
        mixture = own(
            parameters.n_components,
            covariance_type=parameters.family,
            random_state=self.random_state,
        )
        mixture._set_known(parameters)
        names = getattr(self, "feature_names_in_", None)
        if names is not None:
            mixture.feature_names_in_ = names[columns]
        return mixture
