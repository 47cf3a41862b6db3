# ruff: noqa: ARG001, ARG002, ARG005  (a step takes all arguments, and may use a few)
"""What comes out for samples, a step of EM and marginal densities, in plain NumPy; their mutants.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from scipy.linalg import solve_triangular

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import LOG_2_PI, Plain, mutant
from gmm_np.parameters import check_columns

Triple = tuple[FloatArray, FloatArray, FloatArray]

_PLAIN: Final = Plain()


class PlainOutputs:
    """Log densities, responsibilities, the gradient in x, a step of EM, and marginal densities."""

    name = "plain_outputs"
    by_rounding = False
    refuses = False

    def __call__(self, *arguments: Any) -> Any:
        """Refuse: the loss and its gradients are not what this is about."""
        raise NotImplementedError("no loss.")

    def log_prob(self, x: Any, logits: Any, means: Any, chol: Any) -> tuple[FloatArray]:
        """Log densities [N]."""
        with np.errstate(all="ignore"):
            x, logits, means, chol, _ = _PLAIN.check(x, logits, means, chol, None)
            return (self.log_densities(*self.terms(x, logits, means, chol)),)

    def responsibilities(self, x: Any, logits: Any, means: Any, chol: Any) -> tuple[FloatArray]:
        """Responsibilities [N, K]."""
        with np.errstate(all="ignore"):
            x, logits, means, chol, _ = _PLAIN.check(x, logits, means, chol, None)
            return (self.resp(*self.terms(x, logits, means, chol)),)

    def d_x(
        self,
        x: Any,
        logits: Any,
        means: Any,
        chol: Any,
        *,
        sample_weight: Any = None,
        reduction: str = "mean",
    ) -> tuple[FloatArray]:
        """Gradient of the loss in x [N, D]."""
        with np.errstate(all="ignore"):
            x, logits, means, chol, weight = _PLAIN.check(x, logits, means, chol, sample_weight)
            share = self.share(np.ones(len(x)) if weight is None else weight, reduction)
            resp = self.resp(*self.terms(x, logits, means, chol))
            pulls = np.stack(
                [self.pull(x - m, c) for m, c in zip(means, chol, strict=True)], axis=1
            )
            return (self.gradient(share, resp, pulls),)

    def em_step(
        self, x: Any, logits: Any, means: Any, chol: Any, *, sample_weight: Any = None
    ) -> Triple:
        """Weights [K], means [K, D] and covariances [K, D, D] after a step of EM."""
        with np.errstate(all="ignore"):
            x, logits, means, chol, weight = _PLAIN.check(x, logits, means, chol, sample_weight)
            share = self.em_share(np.ones(len(x)) if weight is None else weight)
            resp = share[:, None] * self.em_resp(self.resp(*self.terms(x, logits, means, chol)))
            mass = _PLAIN.add(resp)  # [K]
            means_new = self.em_means(resp, mass, x)
            covariances = np.stack(
                [
                    self.em_covariance(r, float(n), x, mean, old)
                    for r, n, mean, old in zip(resp.T, mass, means_new, means, strict=True)
                ]
            )
            return self.em_result(mass / self.em_total(share), means_new, covariances)

    def marginal(
        self, x: Any, logits: Any, means: Any, chol: Any, columns: Any
    ) -> tuple[FloatArray]:
        """Log densities [N] of columns [C] at x [N, C]."""
        with np.errstate(all="ignore"):
            n_dims = np.shape(means)[-1]
            columns = self.columns(check_columns(columns, n_dims, least=1), n_dims)
            whole = np.zeros((1, n_dims))
            _, logits, means, chol, _ = _PLAIN.check(whole, logits, means, chol, None)
            means, chol = self.block(means, chol, columns)
            x, logits, means, chol, _ = _PLAIN.check(x, logits, means, chol, None)
            found = self.log_densities(*self.terms(x, logits, means, chol))
            return (self.marginal_result(found, n_dims - len(columns)),)

    # --- the steps ------------------------------------------------------------------------------

    def terms(
        self, x: FloatArray, logits: FloatArray, means: FloatArray, chol: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Log joint densities [N, K], and the logarithms of the weights [K]."""
        log_pi, _ = self.log_pi(logits)
        columns = [
            log_pi[k]
            - self.half_square(_PLAIN.quadratic(x, means[k], chol[k])[0])
            - self.half_log_det(chol[k])
            - self.constant(x.shape[1])
            for k in range(len(logits))
        ]
        return np.stack(columns, axis=1), log_pi

    def log_pi(self, logits: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Logarithms of the weights, and the weights, [K]."""
        return _PLAIN.log_softmax(logits)

    def half_square(self, quadratic: FloatArray) -> FloatArray:
        """Half the squared distances [N]."""
        return 0.5 * quadratic

    def half_log_det(self, factor: FloatArray) -> float:
        """Half the log-determinant."""
        return _PLAIN.half_log_det(factor)

    def constant(self, n_dims: int) -> float:
        """Half of D log 2 pi."""
        return _PLAIN.constant(n_dims)

    def log_densities(self, terms: FloatArray, log_pi: FloatArray) -> FloatArray:
        """Log densities [N]."""
        return _PLAIN.logsumexp(terms)[0]

    def resp(self, terms: FloatArray, log_pi: FloatArray) -> FloatArray:
        """Responsibilities [N, K]."""
        return _PLAIN.logsumexp(terms)[1]

    def share(self, weight: FloatArray, reduction: str) -> FloatArray:
        """Share [N] of each sample in the loss."""
        return _PLAIN.coefficient(weight, reduction)

    def pull(self, residual: FloatArray, factor: FloatArray) -> FloatArray:
        """Sigma^-1 (x - mu) [N, D]."""
        z = solve_triangular(factor, residual.T, lower=True, check_finite=False)
        y = solve_triangular(factor, z, lower=True, trans=1, check_finite=False)
        return np.asarray(y.T)

    def gradient(self, share: FloatArray, resp: FloatArray, pulls: FloatArray) -> FloatArray:
        """Gradient in x [N, D]; `pulls` is [N, K, D]."""
        return np.asarray(share[:, None] * np.einsum("nk,nkd->nd", resp, pulls))

    def em_share(self, weight: FloatArray) -> FloatArray:
        """Weight [N] of each sample."""
        return weight

    def em_resp(self, resp: FloatArray) -> FloatArray:
        """Responsibilities [N, K] that are used."""
        return resp

    def em_total(self, share: FloatArray) -> float:
        """Sum of the weights."""
        return float(share.sum())

    def em_means(self, resp: FloatArray, mass: FloatArray, x: FloatArray) -> FloatArray:
        """Return the new means [K, D]."""
        return np.stack([_PLAIN.add(r[:, None] * x) / n for r, n in zip(resp.T, mass, strict=True)])

    def em_covariance(
        self, resp: FloatArray, mass: float, x: FloatArray, mean: FloatArray, old: FloatArray
    ) -> FloatArray:
        """Return the new covariance [D, D] of a component."""
        residual = x - mean
        rows: FloatArray = resp[:, None] * residual
        products = rows[:, :, None] * residual[:, None, :]
        square: FloatArray = _PLAIN.add(products.reshape(len(x), -1)) / mass
        return square.reshape(len(mean), len(mean))

    def em_result(self, pi: FloatArray, means: FloatArray, covariances: FloatArray) -> Triple:
        """Return what is answered."""
        return pi, means, covariances

    def columns(self, columns: Any, n_dims: int) -> Any:
        """Return the columns that are used."""
        return columns

    def block(self, means: FloatArray, chol: FloatArray, columns: Any) -> Any:
        """Means [K, C] and factors [K, C, C] of the columns."""
        rows = chol[:, columns]
        return means[:, columns], np.linalg.cholesky(rows @ rows.transpose(0, 2, 1))

    def marginal_result(self, log_densities: FloatArray, left_out: int) -> FloatArray:
        """Return what is answered."""
        return log_densities


# --- variants of it -----------------------------------------------------------------------------


def _exp(terms: FloatArray) -> FloatArray:
    return np.asarray(np.exp(terms).sum(axis=1))


def _over(axis: int, log: bool = False) -> Callable[..., FloatArray]:
    def resp(m: Any, terms: FloatArray, log_pi: FloatArray) -> FloatArray:
        shifted = terms - terms.max(axis=axis, keepdims=True)
        found = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
        return found if log else np.asarray(np.exp(found))

    return resp


def _plain_resp(m: Any, terms: FloatArray, log_pi: FloatArray) -> FloatArray:
    densities = np.exp(terms)
    return np.asarray(densities / densities.sum(axis=1, keepdims=True))


def _hard(m: Any, terms: FloatArray, log_pi: FloatArray) -> FloatArray:
    return np.asarray((np.arange(terms.shape[1]) == terms.argmax(axis=1)[:, None]).astype(float))


def _unweighted(terms: FloatArray, log_pi: FloatArray) -> FloatArray:
    return np.where(np.isneginf(log_pi), -np.inf, terms - np.where(np.isneginf(log_pi), 0, log_pi))


def _without_weights(m: Any, terms: FloatArray, log_pi: FloatArray) -> FloatArray:
    return _PLAIN.logsumexp(_unweighted(terms, log_pi))[1]


def _changed(change: Callable[[FloatArray], Any]) -> Callable[..., FloatArray]:
    return lambda m, *terms: np.asarray(change(PlainOutputs.resp(m, *terms)))


def _solved_twice(m: Any, residual: FloatArray, factor: FloatArray) -> FloatArray:
    z = solve_triangular(factor, residual.T, lower=True, check_finite=False)
    return np.asarray(solve_triangular(factor, z, lower=True, check_finite=False).T)


def _whitened(m: Any, residual: FloatArray, factor: FloatArray) -> FloatArray:
    return np.asarray(solve_triangular(factor, residual.T, lower=True, check_finite=False).T)


def _unweighted_sum(m: Any, x: Any, logits: Any, means: Any, chol: Any, **options: Any) -> Any:
    """Return the gradient of the density without weights, over the density with them."""
    off = mutant(
        "off",
        "Weights of one.",
        base=PlainOutputs,
        resp=lambda m, terms, log_pi: np.exp(
            _unweighted(terms, log_pi) - _PLAIN.logsumexp(terms)[0][:, None]
        ),
    )
    return PlainOutputs.d_x(off, x, logits, means, chol, **options)


def _gradient_then(change: Callable[[FloatArray], Any]) -> Callable[..., FloatArray]:
    return lambda m, *arguments: np.asarray(change(PlainOutputs.gradient(m, *arguments)))


def _last_dropped(gradient: FloatArray) -> FloatArray:
    gradient[len(gradient) - 1 or 1 :] = 0.0
    return gradient


def _about_old(
    m: Any, resp: FloatArray, mass: float, x: FloatArray, mean: FloatArray, old: FloatArray
) -> FloatArray:
    return PlainOutputs.em_covariance(m, resp, mass, x, old, old)


def _about_origin(dtype: Any) -> Callable[..., FloatArray]:
    def covariance(
        m: Any, resp: FloatArray, mass: float, x: FloatArray, mean: FloatArray, old: FloatArray
    ) -> FloatArray:
        rows, r, centre = x.astype(dtype), resp.astype(dtype), mean.astype(dtype)
        square = (r[:, None] * rows).T @ rows / dtype(mass) - np.outer(centre, centre)
        return np.asarray(square, dtype=np.float64)

    return covariance


def _covariances_then(change: Callable[[FloatArray], Any]) -> Callable[..., Triple]:
    return lambda m, pi, means, covariances: (pi, means, np.asarray(change(covariances)))


def _unbiased(
    m: Any, resp: FloatArray, mass: float, x: FloatArray, mean: FloatArray, old: FloatArray
) -> FloatArray:
    return PlainOutputs.em_covariance(m, resp, mass, x, mean, old) * (len(x) / (len(x) - 1))


def _resp_squared(
    m: Any, resp: FloatArray, mass: float, x: FloatArray, mean: FloatArray, old: FloatArray
) -> FloatArray:
    return PlainOutputs.em_covariance(m, resp**2 / max(resp.max(), 1e-300), mass, x, mean, old)


def _sub_factor(m: Any, means: FloatArray, chol: FloatArray, columns: Any) -> Any:
    """Take rows and columns of the factor."""
    ordered = np.sort(columns)
    return means[:, columns], chol[:, ordered[:, None], ordered]


def _conditional(m: Any, means: FloatArray, chol: FloatArray, columns: Any) -> Any:
    inverse = np.linalg.inv(chol)
    precision = inverse.transpose(0, 2, 1) @ inverse
    block = precision[:, np.asarray(columns)[:, None], columns]
    return means[:, columns], np.linalg.cholesky(np.linalg.inv(block))


def _diagonal_block(m: Any, means: FloatArray, chol: FloatArray, columns: Any) -> Any:
    deviations = np.sqrt((chol[:, columns] ** 2).sum(axis=2))
    return means[:, columns], deviations[:, :, None] * np.eye(len(columns))


def _first_means(m: Any, means: FloatArray, chol: FloatArray, columns: Any) -> Any:
    return means[:, : len(columns)], PlainOutputs.block(m, means, chol, columns)[1]


def _first_component(m: Any, means: FloatArray, chol: FloatArray, columns: Any) -> Any:
    chosen, factors = PlainOutputs.block(m, means, chol, columns)
    return chosen, np.repeat(factors[:1], len(factors), axis=0)


_mutant: Final = partial(mutant, base=PlainOutputs)
# fmt: off
LOG_PROB: Final = (
    _mutant("log_prob_negated", "The loss of each sample is given for its log density.",
            log_densities=lambda m, *terms: -PlainOutputs.log_densities(m, *terms)),
    _mutant("log_prob_as_density", "The density of each sample is given for its logarithm.",
            log_densities=lambda m, *terms: np.exp(PlainOutputs.log_densities(m, *terms))),
    _mutant("log_prob_in_bits", "Log densities are to base two.",
            log_densities=lambda m, *terms: PlainOutputs.log_densities(m, *terms) / np.log(2.0)),
    _mutant("log_prob_averaged", "Each sample has the mean of all log densities.",
            log_densities=lambda m, *terms: (
                0.0 * terms[0][:, 0] + PlainOutputs.log_densities(m, *terms).mean())),
    _mutant("log_prob_of_likeliest", "The term of the likeliest component stands for their sum.",
            log_densities=lambda m, terms, log_pi: terms.max(axis=1)),
    _mutant("log_prob_underflows", "Densities are added as such, and their logarithm is -inf where "
            "all underflow.", log_densities=lambda m, terms, log_pi: np.log(_exp(terms))),
    _mutant("log_prob_floored", "1e-300 is added to densities before their logarithm.",
            log_densities=lambda m, terms, log_pi: np.log(_exp(terms) + 1e-300)),
    _mutant("log_prob_unweighted", "Components have no weights: their densities are added as such.",
            log_densities=lambda m, terms, log_pi: (
                _PLAIN.logsumexp(_unweighted(terms, log_pi))[0])),
    _mutant("log_prob_no_constant", "Log densities lack the constant (D/2) log 2 pi.",
            constant=lambda m, n_dims: 0.0),
    _mutant("log_prob_truncated_constant", "0.918938 stands for (1/2) log 2 pi.",
            constant=lambda m, n_dims: 0.918938 * n_dims),
    _mutant("log_prob_whole_log_det", "The log-determinant is not halved in a log density.",
            half_log_det=lambda m, factor: 2.0 * _PLAIN.half_log_det(factor)),
)
RESPONSIBILITIES: Final = (
    _mutant("resp_in_logs", "Logarithms of responsibilities are given.", resp=_over(1, log=True)),
    _mutant("resp_joint", "Joint densities are given, which are not normalised.",
            resp=lambda m, terms, log_pi: np.exp(terms)),
    _mutant("resp_over_samples", "Responsibilities add up to one over samples, not components.",
            resp=_over(0)),
    _mutant("resp_underflows", "Densities are normalised as such: NaN where all underflow.",
            resp=_plain_resp),
    _mutant("resp_hard", "The likeliest component has all of a sample.", resp=_hard),
    _mutant("resp_without_weights", "Responsibilities leave out the weights of components.",
            resp=_without_weights),
    _mutant("resp_without_half", "The quadratic form is not halved in a responsibility.",
            half_square=lambda m, quadratic: quadratic),
    _mutant("resp_without_log_det", "Responsibilities leave out the determinants.",
            half_log_det=lambda m, factor: 0.0),
    _mutant("resp_rounded", "Responsibilities are rounded to six decimals.",
            resp=_changed(lambda r: np.round(r, 6))),
    _mutant("resp_clipped", "Responsibilities are kept between 1e-6 and one less that.",
            resp=_changed(lambda r: np.clip(r, 1e-6, 1 - 1e-6))),
    _mutant("resp_of_next", "Responsibilities stand one component too far to the right.",
            resp=_changed(lambda r: np.roll(r, 1, axis=1))),
)
D_X: Final = (
    _mutant("d_x_of_log_density", "The gradient in x is that of the log-likelihood, with the "
            "opposite sign.", gradient=_gradient_then(lambda g: -g)),
    _mutant("d_x_sum_for_mean", "The gradient in x lacks the share of a sample in the mean.",
            share=lambda m, weight, reduction: weight),
    _mutant("d_x_weights_ignored", "The gradient in x takes no notice of the samples' weights.",
            share=lambda m, weight, reduction: (
                PlainOutputs.share(m, np.ones_like(weight), reduction))),
    _mutant("d_x_weights_over_n", "The gradient in x has weights over N, not over their sum.",
            share=lambda m, weight, reduction: weight / len(weight)),
    _mutant("d_x_unweighted_components", "Gradients of the components' densities are added without "
            "their weights.", d_x=_unweighted_sum),
    _mutant("d_x_by_weights", "Components pull by their weights, not by their responsibilities.",
            resp=lambda m, terms, log_pi: np.exp(log_pi) + np.zeros_like(terms)),
    _mutant("d_x_of_likeliest", "The likeliest component alone pulls.", resp=_hard),
    _mutant("d_x_whitened", "The pull is L^-1 (x - mu), without the second solve.", pull=_whitened),
    _mutant("d_x_solved_twice", "The second solve is with L, not with its transpose.",
            pull=_solved_twice),
    _mutant("d_x_of_diagonal", "The pull leaves out what stands off a factor's diagonal.",
            pull=lambda m, residual, factor: residual / np.diagonal(factor) ** 2),
    _mutant("d_x_underflows", "The gradient in x is NaN where all densities underflow.",
            resp=_plain_resp),
    _mutant("d_x_last_row", "The last sample has no gradient in x, if there are others.",
            gradient=_gradient_then(_last_dropped)),
)
EM_STEP: Final = (
    _mutant("em_weights_not_normalised", "Sums of responsibilities are given for the weights.",
            em_total=lambda m, share: 1.0),
    _mutant("em_about_old_means", "Covariances are taken about the old means.",
            em_covariance=_about_old),
    _mutant("em_about_origin", "The covariance is E[x x^T] - m m^T: an offset takes its digits.",
            by_rounding=True, em_covariance=_about_origin(np.float64)),
    _mutant("em_about_origin_binary32", "E[x x^T] - m m^T in single precision: a variance may come "
            "out negative.", em_covariance=_about_origin(np.float32)),
    _mutant("em_means_over_n", "Means are divided by N, not by the sum of responsibilities.",
            em_means=lambda m, resp, mass, x: resp.T @ x / len(x)),
    _mutant("em_unbiased", "Covariances have the factor N / (N - 1).", em_covariance=_unbiased),
    _mutant("em_hard", "Each sample counts for its likeliest component alone.", resp=_hard),
    _mutant("em_weights_ignored", "A step of EM takes no notice of the samples' weights.",
            em_share=lambda m, weight: np.ones_like(weight)),
    _mutant("em_floored_variance", "1e-6 is added to the variances of a step of EM.",
            em_result=_covariances_then(lambda c: c + 1e-6 * np.eye(c.shape[-1]))),
    _mutant("em_variances_alone", "Of covariances the diagonals alone are given.",
            em_result=_covariances_then(lambda c: c * np.eye(c.shape[-1]))),
    _mutant("em_deviations", "Standard deviations stand on the diagonals of covariances.",
            em_result=_covariances_then(lambda c: np.where(
                np.eye(c.shape[-1], dtype=bool), np.sqrt(np.abs(c)), c))),
    _mutant("em_resp_squared", "Responsibilities enter the covariances twice.",
            em_covariance=_resp_squared),
    _mutant("em_weights_at_rest", "Weights stay at 1/K.",
            em_result=lambda m, pi, means, covariances: (
                np.full_like(pi, 1.0 / len(pi)), means, covariances)),
)
MARGINAL: Final = (
    _mutant("marginal_sorted", "Columns are sorted, and x is not.",
            columns=lambda m, columns, n_dims: np.sort(columns)),
    _mutant("marginal_first_columns", "The first columns are taken, whichever were asked for.",
            columns=lambda m, columns, n_dims: np.arange(len(columns))),
    _mutant("marginal_of_factor", "Rows and columns of the factor are taken for the factor of the "
            "block.", block=_sub_factor),
    _mutant("marginal_of_precision", "The block of the precision is inverted: the other columns "
            "are held fixed, not integrated out.", block=_conditional),
    _mutant("marginal_of_variances", "The chosen columns are taken to be independent.",
            block=_diagonal_block),
    _mutant("marginal_first_means", "The means are those of the first columns.",
            block=_first_means),
    _mutant("marginal_shared", "All components have the block of the first.",
            block=_first_component),
    _mutant("marginal_whole_constant", "The constant is that of all columns.",
            marginal_result=lambda m, found, left_out: found - 0.5 * left_out * LOG_2_PI),
    _mutant("marginal_of_likeliest", "The likeliest component stands for the sum of the marginals.",
            log_densities=lambda m, terms, log_pi: terms.max(axis=1)),
    _mutant("marginal_underflows", "Marginal densities are added as such, which underflow.",
            log_densities=lambda m, terms, log_pi: np.log(_exp(terms))),
)
