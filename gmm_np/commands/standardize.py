"""A fit on standardised columns, given back in the data's units.

With x = mean + std * z the densities differ by the product of the units: -log p(x) is
-log p(z) + sum(log std). Letters in shapes: K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmm_np import Parameters
from gmm_np.checks import FloatArray
from gmm_np.commands.samples import Samples, check_distinct, column_variances
from gmm_np.covariance import FAMILIES
from gmm_np.model_selection import Candidate
from gmm_np.sufficient_statistics import as_floor


@dataclass(frozen=True)
class ColumnUnits:
    """Origin and unit of each column: its mean, and its standard deviation or 1 of a constant."""

    mean: FloatArray  # [D]
    std: FloatArray  # [D]
    weight: float  # of all rows

    @classmethod
    def of(cls, samples: Samples) -> ColumnUnits:
        """Find them in two passes over the data; TableError where a value is too large."""
        check_distinct(samples, 1)  # there are rows of positive weight
        variance = column_variances(samples)
        total, weight = np.zeros(len(variance)), 0.0
        for rows, own in samples.blocks():
            share = np.ones(len(rows)) if own is None else own
            total += share @ rows
            weight += float(share.sum())
        std = np.sqrt(np.where(variance > 0, variance, 1.0))
        return cls(total / weight, std, weight)

    def standardize(self, samples: Samples) -> Samples:
        """Return the samples in these units; what a stream held is read anew in each pass."""
        scaled = _Scaled(samples.x, self)
        x = next(iter(scaled)) if isinstance(samples.x, np.ndarray) else scaled
        return samples._replace(x=x, log_unit=float(np.log(self.std).sum()), finite=False)

    def restore(self, candidate: Candidate) -> None:
        """Bring a mixture that was fitted in these units, and its loss, into those of the data.

        Where one variance stood for all columns, each gets its own: the mixture is then of the
        family with diagonals.
        """
        model, std = candidate.model, self.std
        if model is None:
            return
        p = model.parameters_
        scale, family = p.scale, p.family
        if FAMILIES[family].has_factors:
            scale = std[:, None] * scale  # [..., D, D]
        else:
            if not FAMILIES[family].structure.by_column:
                scale = scale[..., None]
                family = _with_diagonals(shared=FAMILIES[family].shared)
            scale = std * scale  # [..., D]
        floor = as_floor(model.reg_covar, p) * std**2  # [D]
        model.set_params(covariance_type=family, reg_covar=floor)
        model._set_parameters(Parameters(p.pi_logits, self.mean + std * p.means, scale, family))
        unit = float(np.log(std).sum())
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
