"""A fit on standardised columns, given back in the data's units.

With x = mean + std * z the densities differ by the product of the units: -log p(x) is
-log p(z) + sum(log std). Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmm_np import Gradients, Parameters
from gmm_np.checks import FloatArray
from gmm_np.commands.samples import Samples, check_distinct, column_variances
from gmm_np.covariance import FAMILIES
from gmm_np.inference import StandardErrors
from gmm_np.model_selection import Candidate
from gmm_np.parametrizations import Cholesky
from gmm_np.sufficient_statistics import as_floor


@dataclass(frozen=True)
class ColumnUnits:
    """Origin and unit of each column: its mean, and its standard deviation or 1 of a constant."""

    mean: FloatArray  # [D]
    std: FloatArray  # [D]
    weight: float  # of all rows
    seen: FloatArray  # [D], the share of it that has a value

    @classmethod
    def of(cls, samples: Samples) -> ColumnUnits:
        """Find them in two passes over the data; TableError where a value is too large."""
        check_distinct(samples, 1)  # there are rows of positive weight
        variance = column_variances(samples)
        total, seen, weight = np.zeros(len(variance)), np.zeros(len(variance)), 0.0
        for rows, own in samples.blocks():
            share, gaps = np.ones(len(rows)) if own is None else own, np.isnan(rows)
            total += share @ np.where(gaps, 0.0, rows)
            seen += share @ ~gaps
            weight += float(share.sum())
        std = np.sqrt(np.where(variance > 0, variance, 1.0))
        return cls(total / seen, std, weight, seen / weight)

    @property
    def log_unit(self) -> float:
        """What the mean NLL in the units of the data has beyond that in these."""
        return float(self.seen @ np.log(self.std))

    def standardize(self, samples: Samples) -> Samples:
        """Return the samples in these units; what a stream held is read anew in each pass."""
        scaled = _Scaled(samples.x, self)
        x = next(iter(scaled)) if isinstance(samples.x, np.ndarray) else scaled
        parts = [self.standardize(part) for part in samples.parts]
        return samples._replace(x=x, parts=parts, log_unit=self.log_unit, finite=False)

    def restore(self, candidate: Candidate) -> None:
        """Bring a mixture that was fitted in these units, and its loss, into those of the data.

        Where one variance stood for all columns, each gets its own: the mixture is then of the
        family with diagonals.
        """
        model, std = candidate.model, self.std
        if model is None:
            return
        p = model.parameters_
        restored = self.restore_parameters(p)
        floor = as_floor(model.reg_covar, p) * std**2  # [D]
        model.set_params(covariance_type=restored.family, reg_covar=floor)
        model._set_parameters(restored)
        unit = self.log_unit
        model.lower_bounds_ = [bound - unit for bound in model.lower_bounds_]
        model.lower_bound_ -= unit
        candidate.histories = [[loss + unit for loss in one] for one in candidate.histories]
        # the mean NLL, and sums over the rows
        moves = {"nll": unit, "log_likelihood": -unit * self.weight}
        candidate.criteria = {
            name: value + moves.get(name, 2.0 * unit * self.weight)
            for name, value in candidate.criteria.items()
        }
        vars(model).pop("_last_step", None)  # of the standardised data

    def restore_parameters(self, p: Parameters) -> Parameters:
        """Return a mixture in the units of the data, of the family with diagonals if need be."""
        family = p.family
        if not FAMILIES[family].structure.by_column:
            family = _with_diagonals(shared=FAMILIES[family].shared)
        means, scale = self.mean + self.std * p.means, self._restore_scale(p.scale, p.family)
        return Parameters(p.pi_logits, means, scale, family)

    def restore_errors(self, errors: StandardErrors) -> StandardErrors:
        """Return standard errors of a mixture in the units of the data.

        The units are no estimates: whatever they are, they give the same mixture. So each entry of
        the vector is one of before times its unit, and so are the errors.
        """
        p, std = errors.parameters, self.std
        restored = self.restore_parameters(p)
        before, after = Cholesky.of(p), Cholesky.of(restored)

        def move(vector: FloatArray) -> FloatArray:
            step = before.pushforward(p, vector)
            assert step.scale is not None  # no fit has a family that is not learned
            scale = self._restore_scale(step.scale, p.family)
            return after.pullback(restored, Gradients(step.pi_logits, std * step.means, scale))

        unit = move(np.ones(before.size))  # [V]
        which = np.rint(move(np.arange(before.size, dtype=np.float64)) / unit).astype(np.intp)
        family, covariances = FAMILIES[p.family], errors.covariances
        if not family.structure.by_column:
            covariances = covariances[..., None]
        return replace(
            errors,
            parameters=restored,
            means=std * errors.means,
            covariances=covariances * (np.outer(std, std) if family.has_factors else std**2),
            scale=self._restore_scale(errors.scale, p.family),
            deviations=std * errors.deviations,
            covariance=errors.covariance[np.ix_(which, which)] * np.outer(unit, unit),
        )

    def _restore_scale(self, scale: NDArray[Any], family: str) -> FloatArray:
        """Return the scale of a family, or errors or a step of it, in the units of the data."""
        if FAMILIES[family].has_factors:
            return np.asarray(self.std[:, None] * scale)  # [..., D, D]
        if not FAMILIES[family].structure.by_column:
            scale = scale[..., None]
        return np.asarray(self.std * scale)  # [..., D]


def _with_diagonals(*, shared: bool) -> str:
    """Return the name of the family of free variances, one for each component or for all."""
    return next(
        name
        for name, family in FAMILIES.items()
        if family.structure.by_column and not family.has_factors and family.shared == shared
    )


class _Scaled:
    """Rows of an array, or blocks of rows, in the units of columns."""

    def __init__(self, x: Any, units: ColumnUnits) -> None:
        self.x, self.units = x, units

    def __iter__(self) -> Iterator[FloatArray]:
        for block in [self.x] if isinstance(self.x, np.ndarray) else self.x:
            yield (block - self.units.mean) / self.units.std
