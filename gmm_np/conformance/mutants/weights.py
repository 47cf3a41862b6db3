# ruff: noqa: D102  (a step is documented where `Plain` has it)
"""Mutants of the mixture weights and their logits."""

from __future__ import annotations

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import Plain


class LogitsNotNormalised(Plain):
    """Logits are taken for log weights as they are."""

    name = "logits_not_normalised"

    def log_softmax(self, logits: FloatArray) -> tuple[FloatArray, FloatArray]:
        return logits, np.exp(logits)

    def log_softmax_backward(self, d_log_pi: FloatArray, pi: FloatArray) -> FloatArray:  # noqa: ARG002
        return d_log_pi


class SumOverKDropped(Plain):
    """The gradient of the logits lacks the sum over components that the normalisation gives."""

    name = "sum_over_k_dropped"

    def log_softmax_backward(self, d_log_pi: FloatArray, pi: FloatArray) -> FloatArray:
        return d_log_pi - pi * d_log_pi


class SoftmaxWithoutMax(Plain):
    """The softmax of the logits does not take out the largest."""

    name = "softmax_without_max"

    def log_softmax(self, logits: FloatArray) -> tuple[FloatArray, FloatArray]:
        exponentials = np.exp(logits)
        pi = exponentials / exponentials.sum()
        return np.log(pi), pi


class LogOfWeights(Plain):
    """The logarithm of the softmax: a small weight loses its digits, then all of it."""

    name = "log_of_weights"

    def log_softmax(self, logits: FloatArray) -> tuple[FloatArray, FloatArray]:
        shifted = np.exp(logits - logits.max())
        pi = shifted / shifted.sum()
        return np.log(pi), pi


class EpsilonInLog(Plain):
    """log(pi + 1e-12) for log pi."""

    name = "epsilon_in_log"

    def log_softmax(self, logits: FloatArray) -> tuple[FloatArray, FloatArray]:
        _, pi = super().log_softmax(logits)
        return np.log(pi + 1e-12), pi


class OffComponentNaN(Plain):
    """A logit of -inf gives a gradient of NaN, as the chain rule through log(0) does."""

    name = "off_component_nan"

    def log_softmax_backward(self, d_log_pi: FloatArray, pi: FloatArray) -> FloatArray:
        d_pi = d_log_pi / pi
        d_logits: FloatArray = pi * (d_pi - (pi * d_pi).sum())
        return d_logits
