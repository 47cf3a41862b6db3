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
from numpy.typing import ArrayLike, NDArray

from gmm_np.checks import FloatArray
from gmm_np.covariance import FAMILIES
from gmm_np.parameters import Gradients, Parameters
from gmm_np.parametrizations import Cholesky, LogCholesky
from gmm_np.priors import Prior, add_log_density, conjugate
from gmm_np.second_order import hvp
from gmm_np.solvers.em import find_collapsed
from gmm_np.solvers.floor import deviations, find_held_up
from gmm_np.solvers.results import Data, FitResult
from gmm_np.sufficient_statistics import as_floor, em_update, gradients


@dataclass(frozen=True)
class Evaluation:
    """The objective at a point."""

    value: float
    gradient: FloatArray  # [V]
    parameters: Parameters
    d_parameters: Gradients  # of the mean negative log-likelihood
    d_objective: Gradients  # of that and the priors
    nll: float  # the mean, in nats a sample
    weight: float


class Objective:
    """Mean negative log-likelihood as a function of a vector.

    Parameters
    ----------
    data : Data
    start : Parameters
        Where the vector is zero.
    reg_covar : float or array_like of shape [D]
        A floor under the squared diagonals of the factors, one number or one a column, so that no
        covariance becomes singular.
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
        reg_covar: ArrayLike = 0.0,
        priors: Sequence[Prior] = (),
    ) -> None:
        self.data, self.start, self.reg_covar = data, start, reg_covar
        self.priors = tuple(priors)
        self.space = LogCholesky.of(start)
        self.origin = self.space.pack(start)
        self.unit, self.is_log_diagonal = _units(self.space, start)
        self.is_logit = np.arange(len(self.origin)) < start.n_components
        logs = self.is_log_diagonal
        tiny = np.finfo(np.float64).tiny  # stands for a floor of zero, which has no logarithm
        lowest = _packed(self.space, start, np.sqrt(np.maximum(as_floor(reg_covar, start), tiny)))
        has_floor = logs & (lowest > 0.5 * math.log(tiny))
        self.floor = np.where(has_floor, lowest - self.origin, -np.inf)

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
        nll = found.loss / found.weight
        return Evaluation(value, gradient, parameters, d_parameters, d_objective, nll, found.weight)

    def at(self, parameters: Parameters) -> Objective:
        """Return the same objective with its vector counted from, and in units of, other ones."""
        return Objective(self.data, parameters, reg_covar=self.reg_covar, priors=self.priors)

    def value_and_grad(self, vector: FloatArray) -> tuple[float, FloatArray]:
        """Return the value and the gradient; inf for a step that leaves the range of a double."""
        try:
            found = self.evaluate(vector)
        except ValueError:
            return np.inf, np.zeros_like(vector)
        return found.value, found.gradient

    def times_hessian(self, found: Evaluation, direction: FloatArray) -> FloatArray:
        """Return the Hessian [V, V] at a place times a direction [V], by one pass over the data.

        Raises
        ------
        OverflowError
            If a step to it is beyond the range of a double.
        """
        p = found.parameters
        moves = self.space.pushforward(p, self.unit * direction)
        product = self._with_priors(p, hvp(p, self.data.tangent_statistics(p, moves)), moves)
        pulled = self.space.pullback(p, product)
        return self.unit * (pulled + self.space.pullback_tangent(p, found.d_objective, moves))

    def hessian(self, found: Evaluation) -> FloatArray:
        """Return the Hessian [V, V] at a place, by one pass over the data.

        In the direction in which logits move together, and nothing else, it is one and not zero.

        Raises
        ------
        OverflowError
            If a step to it is beyond the range of a double.
        """
        p, plain = found.parameters, Cholesky.of(found.parameters)
        sums = self.data.information(p)
        matrix = sums.hessian / sums.weight
        if self.priors:
            zero = plain.pushforward(p, np.zeros(plain.size))
            for column, unit in zip(matrix.T, np.eye(plain.size), strict=True):
                curved = self._with_priors(p, zero, plain.pushforward(p, unit))
                column += plain.pullback(p, curved)
        pulled = self.space.pull_hessian(p, found.d_objective, matrix)
        pulled[: p.n_components, : p.n_components] += 1.0 / p.n_components
        return self.unit[:, None] * pulled * self.unit

    def _with_priors(
        self, parameters: Parameters, product: Gradients, direction: Gradients
    ) -> Gradients:
        """Return a Hessian-vector product less those of the priors over the data's weight."""
        for prior in self.priors:
            product = product.plus(prior.hvp(parameters, direction), -1.0 / self.data.total_weight)
        return product

    def natural_gradient(self, found: Evaluation) -> FloatArray:
        """Return the gradient at a place in the units of that place, as a vector.

        With respect to the logits, to steps of the means in whitened coordinates, mu_k + L_k m, and
        to relative steps of the factors, L_k (1 + A) with a lower triangular A. It does not depend
        on the units of the data, nor on any linear map of them. Where a diagonal is on the floor,
        what points below it does not count.
        """
        parameters, d = found.parameters, found.d_objective
        parts = [d.pi_logits, np.einsum("kji,kj->ki", parameters.factors(), d.means)]
        if d.scale is not None:
            scale, d_scale = parameters.scale, np.array(d.scale, np.float64)
            is_matrix = FAMILIES[parameters.family].has_factors
            diagonal = np.eye(scale.shape[-1], dtype=bool) if is_matrix else True
            floor = np.sqrt(as_floor(self.reg_covar, parameters))
            floor = floor * (1 + 1e-12)  # exp(log) may be off by so much
            d_scale[(scale <= floor) & (d_scale > 0) & diagonal] = 0.0
            with np.errstate(over="ignore", invalid="ignore"):  # in an abyss: no number, no zero
                if is_matrix:
                    parts.append(np.tril(scale.swapaxes(-1, -2) @ d_scale))
                else:
                    parts.append(scale * d_scale)
        return np.concatenate([np.ravel(part) for part in parts])

    def tolerance(self, value: float, tol: float) -> float:
        """Return the largest entry of the natural gradient that counts as zero.

        At least one that moves the value by no more than its rounding.
        """
        return max(tol, math.sqrt(np.finfo(np.float64).eps * max(1.0, abs(value))))

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
    ) -> FitResult:
        """Describe where a solver came to: it converged if the gradient there says so."""
        found = self.evaluate(vector)
        gradient = self.natural_gradient(found)
        largest = float(np.abs(gradient).max())
        converged = largest <= self.tolerance(found.value, tol)
        if not converged:
            message += f"; an entry of the gradient is {largest:.1e}, in units of the fit"
        return FitResult(
            found.parameters,
            found.nll,
            found.d_parameters,
            float(np.linalg.norm(gradient)),
            n_iter,
            converged,
            message,
            tuple(history),
            self.held_up(vector, found.parameters),
        )

    def held_up(self, vector: FloatArray, parameters: Parameters) -> tuple[int, ...]:
        """Return the components that the floor and the priors hold up, or nothing does."""
        last = self.data.statistics(parameters, "direct")
        prior = conjugate(self.priors) if self.priors else None
        # The floor may be far below where the iterations ended: look where the samples lead to.
        updated = em_update(parameters, last, prior=prior)[0]
        ahead = Parameters(parameters.pi_logits, updated.means, updated.scale, updated.family)
        vector_ahead = (self.space.pack(ahead) - self.origin) / self.unit
        held = {*self.on_floor(vector), *self.on_floor(vector_ahead), *find_collapsed(last)}
        return tuple(sorted(held | set(find_held_up(ahead, last.n_k, prior=prior))))


def _units(space: LogCholesky, start: Parameters) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the unit of each entry of the vector [V], and which are logarithms of a diagonal [V].

    Found by packing parameters whose entries are their own units, so that no layout is assumed.
    """
    unit, other = _packed(space, start, np.array(1.0)), _packed(space, start, np.array(math.e))
    is_log_diagonal = unit != other
    return np.where(is_log_diagonal, 1.0, unit), is_log_diagonal


def _packed(space: LogCholesky, start: Parameters, diagonal: FloatArray) -> FloatArray:
    """Pack units of the start with these diagonals of all factors, [D] or one for all, []."""
    k, d = start.means.shape
    spread = np.sqrt(np.mean(np.square(deviations(start)), axis=0))  # [D]
    means = np.broadcast_to(spread, (k, d))
    family = FAMILIES[start.family]
    scale = start.scale  # one that is not learned is not in the vector
    if family.learned and family.has_factors:
        scale = np.tril(np.repeat(spread[:, None], d, axis=1), -1) + diagonal * np.eye(d)
    elif family.learned:
        scale = diagonal
    scale = np.broadcast_to(scale, start.scale.shape)
    return space.pack(Parameters(np.ones(k), means, scale, start.family))
