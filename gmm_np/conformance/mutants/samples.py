# ruff: noqa: D102  (a step is documented where `Plain` has it)
"""Mutants of the sum over samples: its weights, its rows, its rounding.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import Plain


class MeanForSum(Plain):
    """The mean is returned where the sum was asked for."""

    name = "mean_for_sum"

    def coefficient(self, weight: FloatArray, reduction: str) -> FloatArray:  # noqa: ARG002
        return super().coefficient(weight, "mean")


class SumForMean(Plain):
    """The sum is returned where the mean was asked for."""

    name = "sum_for_mean"

    def coefficient(self, weight: FloatArray, reduction: str) -> FloatArray:  # noqa: ARG002
        return weight


class WeightsIgnored(Plain):
    """Sample weights are accepted and not used."""

    name = "weights_ignored"

    def coefficient(self, weight: FloatArray, reduction: str) -> FloatArray:
        return super().coefficient(np.ones_like(weight), reduction)


class WeightedSumOverN(Plain):
    """A weighted sum is divided by the number of rows, not by the sum of the weights."""

    name = "weighted_sum_over_n"

    def coefficient(self, weight: FloatArray, reduction: str) -> FloatArray:
        return weight / len(weight) if reduction == "mean" else weight


class LastRowDropped(Plain):
    """The last row has no share in the gradient, if there are others."""

    name = "last_row_dropped"

    def d_terms(self, coefficient: FloatArray, resp: FloatArray) -> FloatArray:
        d_terms = super().d_terms(coefficient, resp)
        if len(d_terms) > 1:
            d_terms[-1] = 0.0
        return d_terms


class LastBlockDropped(Plain):
    """Rows after the last whole block of 256 have no share in the gradient, if there is one."""

    name = "last_block_dropped"

    def d_terms(self, coefficient: FloatArray, resp: FloatArray) -> FloatArray:
        d_terms = super().d_terms(coefficient, resp)
        if len(d_terms) > 256:
            d_terms[len(d_terms) // 256 * 256 :] = 0.0
        return d_terms


class OneByOne(Plain):
    """Samples are added one by one in a single number, and rounding adds up with them."""

    name = "one_by_one"

    def total(self, losses: FloatArray, coefficient: FloatArray) -> float:
        return float(np.cumsum(np.where(coefficient == 0, 0.0, coefficient * losses))[-1])

    def add(self, rows: FloatArray) -> FloatArray:
        return np.asarray(np.cumsum(rows, axis=0)[-1])


class SqueezedSample(Plain):
    """A single sample is squeezed to [D], and its loss averaged over D."""

    name = "squeezed_sample"

    def coefficient(self, weight: FloatArray, reduction: str) -> FloatArray:
        coefficient = super().coefficient(weight, reduction)
        return coefficient / self.n_dims if len(weight) == 1 else coefficient

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        checked = super().check(x, logits, means, chol, weight)
        self.n_dims = checked[0].shape[1]
        return checked
