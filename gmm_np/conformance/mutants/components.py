# ruff: noqa: D102  (a step is documented where `Plain` has it)
"""Mutants of the sum over components and of the responsibilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from gmm_np.checks import FloatArray
from gmm_np.conformance.plain import Answer, Plain


class LogDetOutsideSum(Plain):
    """The log-determinants stand outside the sum over components."""

    name = "log_det_outside_sum"

    def answer(
        self, x: Any, logits: Any, means: Any, chol: Any, weight: Any, reduction: str
    ) -> Answer:
        x, logits, means, chol, weight = self.check(x, logits, means, chol, weight)
        share = np.ones(len(x)) if weight is None else weight
        mass = self.coefficient(share, reduction).sum()
        value, d_logits, d_means, d_chol = _WithoutLogDet().answer(
            x, logits, means, chol, weight, reduction
        )
        value += mass * sum(self.half_log_det(factor) for factor in chol)
        outside = np.stack([self.half_log_det_backward(factor) for factor in chol])
        return value, d_logits, d_means, d_chol + mass * outside


class _WithoutLogDet(Plain):
    def half_log_det(self, factor: FloatArray) -> float:  # noqa: ARG002
        return 0.0

    def half_log_det_backward(self, factor: FloatArray) -> FloatArray:
        return np.zeros_like(factor)


class PlainExp(Plain):
    """The logarithm of a sum of exponentials, without taking out the largest term."""

    name = "plain_exp"

    def logsumexp(self, terms: FloatArray) -> tuple[FloatArray, FloatArray]:
        exponentials = np.exp(terms)
        total = exponentials.sum(axis=1, keepdims=True)
        return np.log(total)[:, 0], exponentials / total


class ClippedTerms(Plain):
    """Log densities are clipped at -1e6, as a mask that should be -inf often is."""

    name = "clipped_terms"

    def logsumexp(self, terms: FloatArray) -> tuple[FloatArray, FloatArray]:
        return super().logsumexp(np.maximum(terms, -1e6))


class TieToFirst(Plain):
    """Where terms tie for the largest, the first takes the share of them all."""

    name = "tie_to_first"

    def logsumexp(self, terms: FloatArray) -> tuple[FloatArray, FloatArray]:
        log_likelihood, resp = super().logsumexp(terms)
        tied = terms == terms.max(axis=1, keepdims=True)
        several = tied.sum(axis=1) > 1
        first = np.zeros_like(resp)
        rows = np.arange(len(terms))
        first[rows, terms.argmax(axis=1)] = np.where(tied, resp, 0.0).sum(axis=1)
        resp[several] = np.where(tied, first, resp)[several]
        return log_likelihood, resp


class DuplicatesMerged(Plain):
    """Of components that are alike, the first takes the share of them all."""

    name = "duplicates_merged"

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        checked = super().check(x, logits, means, chol, weight)
        rows = np.hstack([checked[2], checked[3].reshape(len(checked[2]), -1)])
        self.first = (rows[:, None] == rows[None]).all(axis=2).argmax(axis=1)  # [K]
        return checked

    def logsumexp(self, terms: FloatArray) -> tuple[FloatArray, FloatArray]:
        log_likelihood, resp = super().logsumexp(terms)
        merged = np.zeros_like(resp)
        for k, first in enumerate(self.first):
            merged[:, first] += resp[:, k]
        return log_likelihood, merged


class TinyRespDropped(Plain):
    """Responsibilities below 1e-200 are set to zero."""

    name = "tiny_resp_dropped"

    def logsumexp(self, terms: FloatArray) -> tuple[FloatArray, FloatArray]:
        log_likelihood, resp = super().logsumexp(terms)
        return log_likelihood, np.where(resp < 1e-200, 0.0, resp)


class HardAssignment(Plain):
    """Responsibilities are one for the likeliest component and zero for the others."""

    name = "hard_assignment"

    def logsumexp(self, terms: FloatArray) -> tuple[FloatArray, FloatArray]:
        log_likelihood, resp = super().logsumexp(terms)
        hard = np.zeros_like(resp)
        hard[np.arange(len(terms)), terms.argmax(axis=1)] = 1.0
        return log_likelihood, hard


class SmallRespDropped(Plain):
    """Responsibilities below 1e-10 are set to zero."""

    name = "small_resp_dropped"

    def logsumexp(self, terms: FloatArray) -> tuple[FloatArray, FloatArray]:
        log_likelihood, resp = super().logsumexp(terms)
        return log_likelihood, np.where(resp < 1e-10, 0.0, resp)


class LastByDifference(Plain):
    """The last responsibility is one minus the others, and has no digits where it is small."""

    name = "last_by_difference"

    def logsumexp(self, terms: FloatArray) -> tuple[FloatArray, FloatArray]:
        log_likelihood, resp = super().logsumexp(terms)
        resp[:, -1] = 1.0 - resp[:, :-1].sum(axis=1)
        return log_likelihood, resp


class SixteenComponents(Plain):
    """Responsibilities of the components after the sixteenth are left at zero."""

    name = "sixteen_components"

    def d_terms(self, coefficient: FloatArray, resp: FloatArray) -> FloatArray:
        d_terms = super().d_terms(coefficient, resp)
        d_terms[:, 16:] = 0.0
        return d_terms


class ThirdComponent(Plain):
    """Components from the third on use the factor of the second."""

    name = "third_component"

    def check(self, x: Any, logits: Any, means: Any, chol: Any, weight: Any) -> tuple[Any, ...]:
        x, logits, means, chol, weight = super().check(x, logits, means, chol, weight)
        chol = chol.copy()
        chol[2:] = chol[1:2]
        return x, logits, means, chol, weight
