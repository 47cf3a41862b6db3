"""Priors on the parameters of a mixture: log densities and their gradients.

Every density is that of the thing itself, the weights, the means, the precision matrices: there
is no Jacobian in it of the logits, the factors, or the vector in which a solver moves. So the
maximum a posteriori is the same point in every parametrization, and it is the one that EM finds
with what `conjugate` adds to its sums.

Letters in shapes: K components, D dimensions.

Examples
--------
>>> import gmm_np
>>> from gmm_np.priors import Dirichlet, Wishart, conjugate
>>> priors = [Wishart(gamma=0.5, m=2.0), Dirichlet(1.5)]
>>> parameters = gmm_np.Parameters([0.0, 0.0], [[0.0], [3.0]], [1.0, 1.0], "spherical")
>>> round(sum(prior.log_density_and_grad(parameters)[0] for prior in priors), 6)
-8.326202
>>> sums = gmm_np.statistics([[0.0], [3.0], [3.5]], parameters)
>>> gmm_np.em_step(parameters, sums, prior=conjugate(priors)).scale.round(6).tolist()
[0.354558, 0.349981]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, multigammaln

from gmm_np.checks import FloatArray, as_float64, check_finite
from gmm_np.covariance import FAMILIES
from gmm_np.linalg.factors import invert_factors, pull_back_inverse
from gmm_np.linalg.triangles import diagonal_of
from gmm_np.parameters import Gradients, Parameters, cast_gradient
from gmm_np.sufficient_statistics import Conjugate


@dataclass(frozen=True)
class Wishart:
    """Wishart prior on each precision matrix that is learned, with a spherical scale matrix.

    Sigma^-1 ~ W_D(V, n) with V = I / gamma^2 and n = D + m + 1 degrees of freedom, as in the
    mixture objective of ADBench and GradBench. A family that shares one covariance has one
    precision matrix, and so one density; "constant" has none.

    Parameters
    ----------
    gamma : float
        Positive; the larger, the wider the covariances that the prior favours.
    m : float
        More than -2, so that the density exists.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Notes
    -----
    It adds gamma^2 I to the scatter of each component, equation (43), and so keeps a likelihood
    bounded that would grow without end as a component collapses onto a point.
    """

    gamma: float
    m: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gamma) and self.gamma > 0):
            raise ValueError(f"gamma must be a positive number; got {self.gamma!r}.")
        if not (math.isfinite(self.m) and self.m > -2):
            raise ValueError(
                f"m must be more than -2, so that D + m + 1 degrees of freedom are more than "
                f"D - 1; got {self.m!r}."
            )

    def log_density_and_grad(self, parameters: Parameters) -> tuple[float, Gradients]:
        """Sum of the log densities of the precision matrices, and its gradient.

        Parameters
        ----------
        parameters : Parameters

        Returns
        -------
        value : float
            In nats, all constants kept, equation (31).
        gradients : Gradients
            In the shapes and dtypes of the parameters; zero but for the scale, (39) and (40).
        """
        scale = parameters.scale.astype(np.float64)
        family = FAMILIES[parameters.family]
        if not family.learned:
            return 0.0, _gradients(parameters)
        d = parameters.n_features
        with np.errstate(all="ignore"):
            if family.has_factors:
                inverse = invert_factors(scale)
                value, d_inverse = self.value_and_grad(inverse.reshape(-1, d, d))
                # the other way round: here the inverse is Q, and L = Q^-1 is wanted
                gradient = pull_back_inverse(inverse, d_inverse.reshape(inverse.shape))  # (39)
            else:
                # A standard deviation stands for `repeated` equal entries of a diagonal.
                repeated = family.structure.n_equal(d)
                precision = 1 / scale
                value = self._value(
                    scale.size * repeated // d,
                    d,
                    -repeated * float(np.log(scale).sum()),
                    repeated * float((precision**2).sum()),
                )
                gradient = repeated * ((self.gamma * precision) ** 2 - self.m) * precision  # (40)
        return value, _gradients(parameters, scale=gradient)

    def hvp(self, parameters: Parameters, direction: Gradients) -> Gradients:
        """Tangent of the gradient of `log_density_and_grad` along a direction, in float64."""
        scale, family = parameters.scale.astype(np.float64), FAMILIES[parameters.family]
        if not family.learned or direction.scale is None:
            return _gradients(parameters)
        dot_scale = np.asarray(direction.scale, np.float64)
        if not family.has_factors:
            repeated, precision = family.structure.n_equal(parameters.n_features), 1 / scale
            slope = repeated * (self.m - 3 * (self.gamma * precision) ** 2) * precision**2  # (40)
            return _gradients(parameters, scale=slope * dot_scale)
        # (39) is -tril(Q^T d_Q Q^T), with d_Q = m / Q_ii - gamma^2 Q of (31); Q moves by -Q dL Q.
        inverse = invert_factors(scale)
        dot = -(inverse @ dot_scale @ inverse)
        d_inverse, dot_d_inverse = -(self.gamma**2) * inverse, -(self.gamma**2) * dot
        diagonal_of(d_inverse)[...] += self.m / diagonal_of(inverse)
        diagonal_of(dot_d_inverse)[...] -= self.m * diagonal_of(dot) / diagonal_of(inverse) ** 2
        q, dot_q = inverse.swapaxes(-1, -2), dot.swapaxes(-1, -2)
        moved = dot_q @ d_inverse @ q + q @ dot_d_inverse @ q + q @ d_inverse @ dot_q
        return _gradients(parameters, scale=-np.tril(moved))

    def value_and_grad(self, factors: FloatArray) -> tuple[float, FloatArray]:
        """Sum of the log densities of Q_k^T Q_k, and its gradient in Q_k, equation (31).

        Parameters
        ----------
        factors : ndarray, shape [K, D, D]
            Lower triangular Q_k with a positive diagonal, Sigma_k^-1 = Q_k^T Q_k.

        Returns
        -------
        value : float
            In nats, all constants kept.
        gradient : ndarray, shape [K, D, D]
            Lower triangular. The density is that of the matrix Q^T Q: no Jacobian of Q is in it.
        """
        n_components, n_dims = factors.shape[:2]
        diagonal = diagonal_of(factors)
        squares = float(np.einsum("kij,kij->", factors, factors))
        value = self._value(n_components, n_dims, float(np.log(diagonal).sum()), squares)
        gradient = -(self.gamma**2) * factors
        diagonal_of(gradient)[...] += self.m / diagonal
        return value, gradient

    def _value(self, n_matrices: int, n_dims: int, half_log_det: float, squares: float) -> float:
        """Return (31), summed: from sums of log Q_ii and of squares over all the matrices."""
        if not math.isfinite(squares):  # the logarithms are nothing beside them
            return -math.inf
        freedom = n_dims + self.m + 1
        constant = freedom * n_dims * math.log(self.gamma / math.sqrt(2))
        constant -= float(multigammaln(0.5 * freedom, n_dims))
        return n_matrices * constant + self.m * half_log_det - 0.5 * self.gamma**2 * squares


@dataclass(frozen=True)
class Dirichlet:
    """Symmetric Dirichlet prior on the weights, equation (41).

    Parameters
    ----------
    concentration : float
        Positive. 1 is the uniform density; above 1 no weight vanishes; below 1 the density grows
        without bound as weights vanish.

    Raises
    ------
    ValueError
        If the concentration is out of its range.

    Notes
    -----
    A component that is off has weight zero. Its density is then zero (-inf nats) for a
    concentration above 1, and infinite below.
    """

    concentration: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.concentration) and self.concentration > 0):
            raise ValueError(
                f"concentration must be a positive number; got {self.concentration!r}."
            )

    def log_density_and_grad(self, parameters: Parameters) -> tuple[float, Gradients]:
        """Log density of the weights, and its gradient in the logits.

        Parameters
        ----------
        parameters : Parameters

        Returns
        -------
        value : float
            In nats, all constants kept, with respect to the first K - 1 weights.
        gradients : Gradients
            In the shapes and dtypes of the parameters; zero but for the logits. The logit of a
            component that is off has the gradient zero.
        """
        logits = parameters.pi_logits.astype(np.float64)
        k, excess = len(logits), self.concentration - 1
        shifted = logits - logits.max()
        log_pi = shifted - np.log(np.exp(shifted).sum())  # (4)
        constant = float(gammaln(k * self.concentration) - k * gammaln(self.concentration))
        value = constant + (excess * float(log_pi.sum()) if excess else 0.0)  # (41)
        gradient = np.where(np.isneginf(logits), 0.0, excess * (1 - k * np.exp(log_pi)))
        return value, _gradients(parameters, pi_logits=gradient)

    def hvp(self, parameters: Parameters, direction: Gradients) -> Gradients:
        """Tangent of the gradient of `log_density_and_grad` along a direction, in float64."""
        pi, step = parameters.weights(), np.asarray(direction.pi_logits, np.float64)
        excess = self.concentration - 1
        return _gradients(parameters, pi_logits=-excess * len(pi) * pi * (step - pi @ step))


@dataclass(frozen=True, eq=False)
class Normal:
    """Isotropic normal prior on each mean, equation (42).

    Parameters
    ----------
    mean : array_like, shape [D], or float
        Where the means are expected.
    scale : float
        Positive standard deviation, the same in each dimension.

    Raises
    ------
    TypeError, ValueError
        If the mean is not made of finite real numbers, or the scale is not positive.
    """

    mean: ArrayLike
    scale: float

    def __post_init__(self) -> None:
        mean = as_float64("mean", self.mean, ("column",))
        if mean.ndim > 1 or mean.size == 0:
            raise ValueError(
                f"mean must be a number or have one axis [D]; got shape {mean.shape}. One prior "
                "holds for all components."
            )
        check_finite("mean", mean, "Look at the step that computed it.", ("column",))
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale must be a positive number; got {self.scale!r}.")
        mean = mean.copy()
        mean.setflags(write=False)
        object.__setattr__(self, "mean", mean)

    def log_density_and_grad(self, parameters: Parameters) -> tuple[float, Gradients]:
        """Sum of the log densities of the means, and its gradient.

        Parameters
        ----------
        parameters : Parameters

        Returns
        -------
        value : float
            In nats, all constants kept. Components that are off count as well.
        gradients : Gradients
            In the shapes and dtypes of the parameters; zero but for the means.

        Raises
        ------
        ValueError
            If the prior is for another D.
        """
        means = parameters.means.astype(np.float64)
        centre = np.asarray(self.mean)
        if centre.ndim and len(centre) != means.shape[1]:
            raise ValueError(
                f"the normal prior has a mean of shape {centre.shape}, but means has shape "
                f"{means.shape}: give one number for each column, or a single one."
            )
        z = (means - centre) / self.scale  # [K, D]
        with np.errstate(over="ignore", under="ignore"):
            constant = math.log(self.scale) + 0.5 * math.log(2 * math.pi)
            value = -0.5 * float((z**2).sum()) - means.size * constant  # (42)
            return value, _gradients(parameters, means=-z / self.scale)

    def hvp(self, parameters: Parameters, direction: Gradients) -> Gradients:
        """Tangent of the gradient of `log_density_and_grad` along a direction, in float64."""
        step = np.asarray(direction.means, np.float64)
        return _gradients(parameters, means=-step / self.scale**2)


Prior: TypeAlias = Wishart | Dirichlet | Normal


def conjugate(priors: Sequence[Prior]) -> Conjugate:
    """Return what the product of `priors` adds to the sums of an M-step, equation (43).

    Several priors of one kind multiply: two normal ones are one at their common centre.
    """
    scatter = freedom = counts = precision = 0.0
    pull: FloatArray | float = 0.0  # sum of mean / scale^2
    for prior in priors:
        if isinstance(prior, Wishart):
            scatter += prior.gamma**2
            freedom += prior.m
        elif isinstance(prior, Dirichlet):
            counts += prior.concentration - 1
        else:
            precision += prior.scale**-2
            pull = pull + np.asarray(prior.mean) * prior.scale**-2
    centre = pull / precision if precision else 0.0
    return Conjugate(scatter, freedom, counts, centre, precision)


def add_log_density(
    value: float,
    gradients: Gradients,
    parameters: Parameters,
    priors: Sequence[Prior],
    weight: float,
) -> tuple[float, Gradients]:
    """Return a loss less the log densities of `priors` over `weight`, and its gradient: MAP.

    Parameters
    ----------
    value : float
    gradients : Gradients
        Of a negative log-likelihood, with respect to `parameters`.
    parameters : Parameters
    priors : sequence of Wishart, Dirichlet or Normal
    weight : float
        What the loss was divided by: the total weight of the samples for a mean, 1 for a sum.

    Returns
    -------
    value : float
        In nats: minus the log posterior, up to the evidence, over `weight`.
    gradients : Gradients
        In the dtypes of those given; x as it was.
    """
    d_logits, d_means, d_scale, d_x = gradients
    for prior in priors:
        log_density, d = prior.log_density_and_grad(parameters)
        value -= log_density / weight
        d_logits = cast_gradient(d_logits - d.pi_logits / weight, d_logits.dtype)
        d_means = cast_gradient(d_means - d.means / weight, d_means.dtype)
        if d_scale is not None and d.scale is not None:
            d_scale = cast_gradient(d_scale - d.scale / weight, d_scale.dtype)
    return value, Gradients(d_logits, d_means, d_scale, d_x)


def _gradients(
    parameters: Parameters,
    *,
    pi_logits: FloatArray | None = None,
    means: FloatArray | None = None,
    scale: FloatArray | None = None,
) -> Gradients:
    """Return gradients in the shapes and dtypes of the parameters, zeroes where none is given."""
    p, given = parameters, (pi_logits, means, scale)
    blocks = [
        np.zeros_like(own) if gradient is None else cast_gradient(gradient, own.dtype)
        for own, gradient in zip((p.pi_logits, p.means, p.scale), given, strict=True)
    ]
    return Gradients(blocks[0], blocks[1], blocks[2] if FAMILIES[p.family].learned else None)
