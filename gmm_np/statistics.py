"""Sufficient statistics of a mixture's loss: they add, and gradients and EM come from their sum.

Fisher's identity, equations (24) to (27): one pass over the data yields per-component sums, and
all else is K-sized. Sums over blocks, files, processes or machines are `+`.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gmm_np import wide_range
from gmm_np.checks import FloatArray, as_reduction
from gmm_np.families import FAMILIES
from gmm_np.parameters import Gradients, Parameters, cast_gradient, gradient_dtype


@dataclass(frozen=True, eq=False)
class Statistics:
    """What a pass over data leaves of them; made by `gmm_np.statistics`, added with ``+``.

    Moments are held in the whitened coordinates of their component, z = L_k^-1 (x - mu_k), where
    no digits are lost to an offset or to an ill-conditioned covariance; `m_k` and `S_k` give them
    in those of the data. Sums with n_k, v_k and M_k weigh each sample by w_n r_nk.

    Attributes
    ----------
    parameters : Parameters
        At which they were made. Statistics made at different parameters do not add.
    loss : float
        Sum of w_n times the negative log-likelihood of sample n, in nats.
    weight : float
        Sum of w_n.
    count : int
        Samples seen.
    n_k : ndarray, shape [K]
        Weight that each component is responsible for.
    v_k : ndarray, shape [K, D]
        Sums of z.
    M_k : ndarray, shape [K, D, D] for "full"
        Sums of z z^T.
    """

    parameters: Parameters
    loss: float
    weight: float
    count: int
    n_k: FloatArray
    v_k: FloatArray
    M_k: FloatArray

    def __add__(self, other: object) -> Statistics:
        if not isinstance(other, Statistics):
            return NotImplemented
        if not self.parameters.equals(other.parameters):
            raise ValueError(
                "statistics made at different parameters do not add: their responsibilities "
                "mean different things. Make both with the same Parameters."
            )
        return Statistics(
            self.parameters,
            self.loss + other.loss,
            self.weight + other.weight,
            self.count + other.count,
            self.n_k + other.n_k,
            self.v_k + other.v_k,
            self.M_k + other.M_k,
        )

    def __radd__(self, other: object) -> Statistics:
        """Let the built-in sum() start from 0."""
        if isinstance(other, int) and other == 0:
            return self
        return NotImplemented

    @cached_property
    def m_k(self) -> FloatArray:
        """Sums of w_n r_nk (x_n - mu_k), shape [K, D], equation (25)."""
        scale = self.parameters.scale.astype(np.float64)
        return FAMILIES[self.parameters.family].unwhiten_first(scale, self.v_k)

    @cached_property
    def S_k(self) -> FloatArray:  # noqa: N802
        """Sums of w_n r_nk (x_n - mu_k)(x_n - mu_k)^T, by family; [K, D, D] for "full", (25)."""
        scale = self.parameters.scale.astype(np.float64)
        return FAMILIES[self.parameters.family].unwhiten(scale, self.M_k)


def gradients(
    parameters: Parameters, statistics: Statistics, *, reduction: str = "mean"
) -> Gradients:
    """Gradient of the negative log-likelihood from statistics, equation (26).

    Parameters
    ----------
    parameters : Parameters
        Those at which the statistics were made.
    statistics : Statistics
        Of all the data; add those of its parts.
    reduction : {"mean", "sum"}
        Of the loss whose gradient is wanted.

    Returns
    -------
    Gradients
        pi_logits [K], means [K, D] and scale (lower triangular), in the dtypes of the parameters;
        x is None.

    Raises
    ------
    ValueError
        If the statistics were made at other parameters, `reduction` is "none" (statistics hold a
        sum over samples), or the weight is zero.
    """
    if as_reduction(reduction) == "none":
        raise ValueError(
            'reduction="none" has no gradient from statistics: they hold a sum over samples. Use '
            '"mean" or "sum", or gmm_np.reference.nll_backward with a d_value for each sample.'
        )
    _check_same(parameters, statistics)
    total = statistics.weight if reduction == "mean" else 1.0
    if total == 0:
        raise ValueError("statistics have no weight, so that their mean has no gradient.")
    scale = parameters.scale.astype(np.float64, copy=False)
    with np.errstate(all="ignore"):
        inverse = FAMILIES[parameters.family].inverse(scale)
    return assemble_gradients(statistics, inverse, total)


def assemble_gradients(statistics: Statistics, inverse: FloatArray, total: float) -> Gradients:
    """Return the gradient of the summed loss over `total`, from inverse factors [K, D, D]: (26)."""
    parameters = statistics.parameters
    family = FAMILIES[parameters.family]
    scale = parameters.scale.astype(np.float64, copy=False)
    with np.errstate(all="ignore"):
        pi = _softmax(parameters.pi_logits.astype(np.float64))
        mass = statistics.n_k
        # The mass, not the weight that it equals: then rounding leaves K = 1 an exact zero.
        d_logits = (mass.sum() * pi - mass) / total
        d_means = -family.pull(inverse, statistics.v_k) / total
        d_scale = family.gradient(scale, inverse, mass, statistics.M_k) / total
        for k in np.flatnonzero(~np.isfinite(d_scale.sum(axis=(1, 2)) + d_means.sum(axis=1))):
            # Something left the range of a double on the way; it may come back.
            d_means[k], d_scale[k] = wide_range.moments_backward(
                mass[k], statistics.v_k[k], statistics.M_k[k], scale[k], total
            )
    blocks = zip(
        (d_logits, d_means, d_scale),
        (parameters.pi_logits, parameters.means, parameters.scale),
        strict=True,
    )
    return Gradients(*(cast_gradient(g, gradient_dtype(p)) for g, p in blocks))


def em_step(parameters: Parameters, statistics: Statistics) -> Parameters:
    """One step of expectation-maximisation from statistics, equation (27).

    Parameters
    ----------
    parameters : Parameters
        Those at which the statistics were made.
    statistics : Statistics
        Of all the data; add those of its parts.

    Returns
    -------
    updated : Parameters
        In float64. A component that no sample needs goes off (a logit of -inf) and keeps its
        mean and factor.

    Raises
    ------
    ValueError
        If the statistics were made at other parameters or have no weight, or a component
        collapsed: its samples span less than D dimensions, so that its likelihood has no maximum.
    """
    _check_same(parameters, statistics)
    if not statistics.weight > 0:
        raise ValueError("statistics have no weight: there is nothing to fit.")
    family = FAMILIES[parameters.family]
    scale = parameters.scale.astype(np.float64)
    mass = statistics.n_k
    with np.errstate(divide="ignore"):
        logits = np.log(mass / statistics.weight)
    share = np.where(mass > 0, mass, 1.0)
    step = family.unwhiten_first(scale, statistics.v_k) / share[:, None]  # [K, D]
    means = parameters.means + np.where(mass[:, None] > 0, step, 0.0)
    updated, collapsed = family.em_update(scale, mass, statistics.v_k, statistics.M_k)
    if collapsed.any():
        k = int(np.flatnonzero(collapsed)[0])
        raise ValueError(
            f"component {k} collapsed: the samples it is responsible for (weight {mass[k]:.3g}) "
            "span less than D dimensions, so that its covariance is singular and the likelihood "
            "has no maximum. Use fewer components, remove it, or start it elsewhere."
        )
    return Parameters(logits, means, updated, parameters.family)


def _check_same(parameters: Parameters, statistics: Statistics) -> None:
    if not parameters.equals(statistics.parameters):
        raise ValueError(
            "statistics were made at other parameters than those given. Make them anew with "
            "gmm_np.statistics(x, parameters)."
        )


def _softmax(logits: FloatArray) -> FloatArray:
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())
