# ruff: noqa: ARG001, ARG002, ARG005  (a step takes all arguments, and may use a few)
"""A mixture for each row in plain NumPy, row by row, and its mutants.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np

from gmm_np.checks import FloatArray, check_sample_weight
from gmm_np.conformance.plain import Answer, Plain, mutant

Arrays = tuple[FloatArray, FloatArray, FloatArray]

#: Axes of a scale after that of the rows, by its family, and the factors that it stands for.
_AXES: Final = {"full": 3, "diag": 2, "spherical": 1}
_PLAIN: Final = Plain()


def _factors(scale: FloatArray, family: str, n_dims: int) -> FloatArray:
    """Full factors [N, K, D, D]."""
    if family == "full":
        return scale
    return scale.reshape(*scale.shape[:2], -1)[..., None] * np.eye(n_dims)


class PlainRowwise:
    """Each row's loss and gradients by `Plain`, with its share of the mean or of the sum.

    ``rowwise_full``, ``rowwise_diag`` and ``rowwise_spherical`` are called with x [N, D], logits
    [N, K], means [N, K, D] and a scale [N, K, D, D], [N, K, D] or [N, K].
    """

    name = "plain_rowwise"
    by_rounding = False
    refuses = False
    #: What computes one row.
    mixture: Any = Plain()

    def rowwise_full(
        self, *arguments: Any, sample_weight: Any = None, reduction: str = "mean"
    ) -> Answer:
        """By factors [N, K, D, D]."""
        return self._call("full", arguments, sample_weight, reduction)

    def rowwise_diag(
        self, *arguments: Any, sample_weight: Any = None, reduction: str = "mean"
    ) -> Answer:
        """By standard deviations [N, K, D]."""
        return self._call("diag", arguments, sample_weight, reduction)

    def rowwise_spherical(
        self, *arguments: Any, sample_weight: Any = None, reduction: str = "mean"
    ) -> Answer:
        """By standard deviations [N, K]."""
        return self._call("spherical", arguments, sample_weight, reduction)

    def __call__(self, *arguments: Any) -> Any:
        """Refuse: there is no mixture that all rows share."""
        raise NotImplementedError("a mixture for each row alone.")

    def _call(self, family: str, arguments: Any, weight: Any, reduction: str) -> Answer:
        x, logits, means, scale = (np.asarray(a, dtype=np.float64) for a in arguments)
        n, k, d = means.shape
        if (
            x.shape != (n, d)
            or logits.shape != (n, k)
            or scale.shape != (n, k, *[d] * (_AXES[family] - 1))
        ):
            raise ValueError("shapes disagree.")
        weight = check_sample_weight(weight, n)
        with np.errstate(all="ignore"):
            for row in zip(x[:, None], logits, means, _factors(scale, family, d), strict=True):
                _PLAIN.check(*row, None)
            scale = self.scale(scale, family)
            share = self.share(np.ones(n) if weight is None else weight, reduction)
            chol = _factors(scale, family, d)
            value, *gradients = self.rows(x, logits, means, chol, share)
            d_logits, d_means, d_chol = self.gradients(*gradients)
            return (
                value,
                d_logits,
                d_means,
                self.d_scale(self.reduced(d_chol, family), scale, family),
            )

    # --- the steps ------------------------------------------------------------------------------

    def share(self, weight: FloatArray, reduction: str) -> FloatArray:
        """Share [N] of each row in the value."""
        return np.asarray(weight / weight.sum()) if reduction == "mean" else weight

    def scale(self, scale: FloatArray, family: str) -> FloatArray:
        """Return the scale that is used."""
        return scale

    def d_scale(self, d_scale: FloatArray, scale: FloatArray, family: str) -> FloatArray:
        """Gradient of the scale as it came in."""
        return d_scale

    def rows(
        self,
        x: FloatArray,
        logits: FloatArray,
        means: FloatArray,
        chol: FloatArray,
        share: FloatArray,
    ) -> Answer:
        """Value, and gradients of logits [N, K], means [N, K, D] and factors [N, K, D, D]."""
        chosen = self.parameters(logits, means, chol)
        answers = [self.row(x[n : n + 1], *(a[n] for a in chosen)) for n in range(len(x))]
        values, *gradients = (np.array(a) for a in zip(*answers, strict=True))
        value = float(np.where(share == 0, 0.0, share * values).sum())
        share = self.share_of_gradients(share)
        parts = self.parameters_backward(
            *(share.reshape(-1, *[1] * (g.ndim - 1)) * g for g in gradients)
        )
        return value, *parts

    def row(self, x: FloatArray, logits: FloatArray, means: FloatArray, chol: FloatArray) -> Answer:
        """Loss of one row [1, D], and its gradients."""
        answer: Answer = self.mixture.answer(x, logits, means, chol, None, "sum")
        return answer

    def parameters(self, logits: FloatArray, means: FloatArray, chol: FloatArray) -> Arrays:
        """Return the parameters of each row."""
        return logits, means, chol

    def parameters_backward(
        self, d_logits: FloatArray, d_means: FloatArray, d_chol: FloatArray
    ) -> Arrays:
        """Gradients by the rows that the parameters stand in."""
        return d_logits, d_means, d_chol

    def share_of_gradients(self, share: FloatArray) -> FloatArray:
        """Share [N] of each row in the gradients."""
        return share

    def gradients(self, d_logits: FloatArray, d_means: FloatArray, d_chol: FloatArray) -> Arrays:
        """Return the gradients that are answered."""
        return d_logits, d_means, d_chol

    def reduced(self, d_chol: FloatArray, family: str) -> FloatArray:
        """Gradient of the scale from that of full factors."""
        if family == "full":
            return d_chol
        diagonals = np.diagonal(d_chol, axis1=2, axis2=3)
        return np.array(diagonals if family == "diag" else diagonals.sum(axis=-1))


# --- variants of it -----------------------------------------------------------------------------


def mean_of_logs(
    x: FloatArray,
    logits: FloatArray,
    means: FloatArray,
    chol: FloatArray,
    weight: FloatArray | None = None,
    reduction: str = "sum",
) -> Answer:
    """Loss and gradients if log-densities are averaged, each by the weight of its component."""
    _, pi = _PLAIN.log_softmax(logits)
    alone = [
        _PLAIN.answer(x, np.zeros(1), m[None], c[None], weight, reduction)
        for m, c in zip(means, chol, strict=True)
    ]
    losses = np.array([a[0] for a in alone])
    value = float(pi @ losses)
    d_means = np.stack([p * a[2][0] for p, a in zip(pi, alone, strict=True)])
    d_chol = np.stack([p * a[3][0] for p, a in zip(pi, alone, strict=True)])
    return value, pi * (losses - value), d_means, d_chol


def _over_rows(
    m: Any,
    x: FloatArray,
    logits: FloatArray,
    means: FloatArray,
    chol: FloatArray,
    share: FloatArray,
) -> Answer:
    shifted = logits - logits.max(axis=0)
    log_pi = shifted - np.log(np.exp(shifted).sum(axis=0))
    value, d_log_pi, d_means, d_chol = PlainRowwise.rows(m, x, log_pi, means, chol, share)
    return value, d_log_pi - np.exp(log_pi) * d_log_pi.sum(axis=0), d_means, d_chol


def _transposed(logits: FloatArray, *others: FloatArray) -> Any:
    square = logits.shape[0] == logits.shape[1]
    return (np.ascontiguousarray(logits.T) if square else logits, *others)


def _from_first(*gradients: FloatArray) -> Any:
    found = [np.zeros_like(g) for g in gradients]
    for first, gradient in zip(found, gradients, strict=True):
        first[0] = gradient.sum(axis=0)
    return tuple(found)


def _without_last(*gradients: FloatArray) -> Any:
    for gradient in gradients:
        gradient[len(gradient) - 1 or 1 :] = 0.0
    return gradients


def _of_variance(m: Any, scale: FloatArray, family: str) -> FloatArray:
    return scale if family == "full" else np.sqrt(scale)


def _of_variance_backward(m: Any, d: FloatArray, scale: FloatArray, family: str) -> FloatArray:
    return d if family == "full" else np.asarray(0.5 * d / scale)


def _inner(wrong: str, **steps: Any) -> Any:
    return mutant("row", wrong, **steps)


def _plain_exp(m: Plain, terms: FloatArray) -> tuple[FloatArray, FloatArray]:
    exponentials = np.exp(terms)
    total = exponentials.sum(axis=1, keepdims=True)
    return np.log(total)[:, 0], exponentials / total


_UNNORMALISED: Final = _inner(
    "Logits as they are.",
    log_softmax=lambda m, logits: (logits, np.exp(logits)),
    log_softmax_backward=lambda m, d_log_pi, pi: d_log_pi,
)
_mutant: Final = partial(mutant, base=PlainRowwise)
# fmt: off
ROWWISE: Final = (
    _mutant("rowwise_mean_of_logs", "In each row the mean of the log-densities stands for the "
            "logarithm of the mean density.", row=lambda m, *row: mean_of_logs(*row)),
    _mutant("rowwise_softmax_over_rows", "The softmax of the logits is taken over rows, not over "
            "components.", rows=_over_rows, mixture=_UNNORMALISED),
    _mutant("rowwise_row_before", "Each row is given the parameters of the row before it.",
            parameters=lambda m, *arrays: tuple(np.roll(a, 1, axis=0) for a in arrays),
            parameters_backward=lambda m, *arrays: tuple(np.roll(a, -1, axis=0) for a in arrays)),
    _mutant("rowwise_transposed", "Where there are as many rows as components, logits [N, K] are "
            "taken for [K, N].", parameters=lambda m, *arrays: _transposed(*arrays),
            parameters_backward=lambda m, *arrays: _transposed(*arrays)),
    _mutant("rowwise_first_row", "All rows are given the parameters of the first.",
            parameters=lambda m, *arrays: tuple(np.repeat(a[:1], len(a), axis=0) for a in arrays),
            parameters_backward=lambda m, *arrays: _from_first(*arrays)),
    _mutant("rowwise_summed", "Gradients are sums over rows, as if these shared their parameters.",
            gradients=lambda m, *arrays: tuple(
                np.repeat(a.sum(axis=0, keepdims=True), len(a), axis=0) for a in arrays)),
    _mutant("rowwise_without_share", "The gradients of a mean are those of each row's own loss.",
            share_of_gradients=lambda m, share: share * len(share) if share.sum() < 1.5 else share),
    _mutant("rowwise_weights_ignored", "Weights of rows are accepted and not used.",
            share=lambda m, weight, reduction: (
                PlainRowwise.share(m, np.ones_like(weight), reduction))),
    _mutant("rowwise_mean_for_sum", "The mean over rows is given where the sum was asked for.",
            share=lambda m, weight, reduction: PlainRowwise.share(m, weight, "mean")),
    _mutant("rowwise_not_normalised", "The logits of a row are taken for log weights as they are.",
            mixture=_UNNORMALISED),
    _mutant("rowwise_log_mean_exp", "The weighted densities of a row are averaged over its "
            "components, not added up.", mixture=_inner(
                "A mean over components.",
                logsumexp=lambda m, terms: (
                    Plain.logsumexp(m, terms)[0] - np.log(terms.shape[1]),
                    Plain.logsumexp(m, terms)[1]))),
    _mutant("rowwise_no_constant", "The constant (D/2) log 2 pi is left out in each row.",
            mixture=_inner("No constant.", constant=lambda m, n_dims: 0.0)),
    _mutant("rowwise_univariate_constant", "The constant is (1/2) log 2 pi in each row, for any D.",
            mixture=_inner("Of one dimension.",
                           constant=lambda m, n_dims: Plain.constant(m, 1))),
    _mutant("rowwise_of_variances", "What a network gives for deviations is taken for variances.",
            scale=_of_variance, d_scale=_of_variance_backward),
    _mutant("rowwise_last_row", "The last row has no gradient, if there are others.",
            gradients=lambda m, *arrays: _without_last(*arrays)),
    _mutant("rowwise_plain_exp", "The densities of a row are added as such, which underflow.",
            mixture=_inner("Without the largest.", logsumexp=_plain_exp)),
)
