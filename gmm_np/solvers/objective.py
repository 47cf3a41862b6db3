"""The objective of the gradient solvers: a function of a vector without units or bounds.

The vector is that of the log-diagonal parametrization (29), counted from the start and in units of
it: means and off-diagonal entries in the standard deviations of the data's columns. So a solver
behaves the same whatever the units of the data are.

Letters in shapes: N samples, K components, D dimensions, V length of the vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray
from gmm_np.parameters import Gradients, Parameters
from gmm_np.parametrizations import LogCholesky
from gmm_np.priors import Prior, add_log_density
from gmm_np.solvers.covariances import MATRIX_FAMILIES, deviations
from gmm_np.solvers.em import find_collapsed
from gmm_np.solvers.fitting import Data, FitResult
from gmm_np.statistics import Statistics, gradients


@dataclass(frozen=True)
class Evaluation:
    """The objective at a point."""

    value: float
    gradient: FloatArray  # [V]
    parameters: Parameters
    d_parameters: Gradients
    statistics: Statistics


class Objective:
    """Mean negative log-likelihood as a function of a vector.

    Parameters
    ----------
    data : Data
    start : Parameters
        Where the vector is zero.
    reg_covar : float
        A floor under the squared diagonals of the factors, so that no covariance becomes singular.
    priors : sequence of Wishart, Dirichlet or Normal
        Their log densities over the weight of the data are taken from the objective.

    Raises
    ------
    ValueError
        If a component of the start is off.
    """

    def __init__(
        self,
        data: Data,
        start: Parameters,
        *,
        reg_covar: float = 0.0,
        priors: Sequence[Prior] = (),
    ) -> None:
        self.data, self.priors = data, tuple(priors)
        self.space = LogCholesky.of(start)
        self.origin = self.space.pack(start)
        self.unit, self.is_log_diagonal = _units(self.space, start)
        self.is_logit = np.arange(len(self.origin)) < start.n_components
        self.floor = np.full(len(self.origin), -np.inf)
        if reg_covar > 0:
            logs = self.is_log_diagonal
            self.floor[logs] = 0.5 * math.log(reg_covar) - self.origin[logs]

    def parameters(self, vector: FloatArray) -> Parameters:
        """Return the parameters that a vector stands for."""
        return self.space.unpack(self.origin + self.unit * vector)

    def evaluate(self, vector: FloatArray, data: Data | None = None) -> Evaluation:
        """Evaluate the objective at a vector, on other data than all if they are given.

        Raises
        ------
        ValueError
            If a diagonal is beyond the range of a double.
        """
        parameters = self.parameters(vector)
        found = (self.data if data is None else data).statistics(parameters)
        d_parameters = gradients(parameters, found)
        value, d_objective = add_log_density(
            found.loss / found.weight,
            d_parameters,
            parameters,
            self.priors,
            self.data.total_weight,
        )
        gradient = self.unit * self.space.pullback(parameters, d_objective)
        return Evaluation(value, gradient, parameters, d_parameters, found)

    def value_and_grad(self, vector: FloatArray) -> tuple[float, FloatArray]:
        """Return the value and the gradient; inf for a step that leaves the range of a double."""
        try:
            found = self.evaluate(vector)
        except ValueError:
            return np.inf, np.zeros_like(vector)
        return found.value, found.gradient

    def projected(self, vector: FloatArray, gradient: FloatArray) -> FloatArray:
        """Return the gradient without what points below the floor, where the vector is on it."""
        return np.where((vector <= self.floor) & (gradient > 0), 0.0, gradient)

    def on_floor(self, vector: FloatArray) -> tuple[int, ...]:
        """Return the components whose factors are on the floor."""
        # One logarithm moves at a time: whose deviations does it change?
        here = vector <= self.floor
        if not here.any():
            return ()
        at = self.origin + self.unit * vector
        moved = deviations(self.space.unpack(np.where(here, at + 1.0, at)))
        changed = (moved != deviations(self.space.unpack(at))).any(axis=1)
        return tuple(int(k) for k in np.flatnonzero(changed))

    def result(
        self,
        vector: FloatArray,
        *,
        n_iter: int,
        tol: float,
        message: str,
        history: list[float],
        settled: bool = False,
    ) -> FitResult:
        """Describe where a solver came to."""
        found = self.evaluate(vector)
        gradient = self.projected(vector, found.gradient)
        largest = float(np.abs(gradient).max())
        collapsed = set(self.on_floor(vector))
        if not np.isfinite(self.floor).any():
            collapsed |= set(find_collapsed(self.data.statistics(found.parameters, "direct")))
        return FitResult(
            found.parameters,
            found.statistics.loss / found.statistics.weight,
            found.d_parameters,
            float(np.linalg.norm(gradient)),
            n_iter,
            settled or largest <= max(tol, 1e-7 * max(1.0, abs(found.value))),
            message,
            tuple(history),
            tuple(sorted(collapsed)),
        )


def _units(space: LogCholesky, start: Parameters) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the unit of each entry of the vector [V], and which are logarithms of a diagonal [V].

    Found by packing parameters whose entries are their own units, so that no layout is assumed.
    """
    k, d = start.means.shape
    spread = np.sqrt(np.mean(np.square(deviations(start)), axis=0))  # [D]

    means = np.broadcast_to(spread, (k, d))

    def packed(diagonal: float) -> FloatArray:
        if start.family == "constant":  # not in the vector
            return space.pack(Parameters(np.ones(k), means, start.scale, start.family))
        if start.family in MATRIX_FAMILIES:
            scale = np.tril(np.repeat(spread[:, None], d, axis=1), -1) + diagonal * np.eye(d)
        elif start.family == "diag":
            scale = np.full((k, d), diagonal)
        else:
            scale = np.full(start.scale.shape, diagonal)
        scale = np.broadcast_to(scale, start.scale.shape)
        return space.pack(Parameters(np.ones(k), means, scale, start.family))

    unit, other = packed(1.0), packed(math.e)
    is_log_diagonal = unit != other
    return np.where(is_log_diagonal, 1.0, unit), is_log_diagonal
