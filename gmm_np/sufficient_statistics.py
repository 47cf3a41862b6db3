"""Sufficient statistics of a mixture's loss: they add, and gradients and EM come from their sum.

Fisher's identity, equations (24) to (27): one pass over the data yields per-component sums, and
all else is K-sized. Sums over blocks, files, processes or machines are `+`.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np import extended_range
from gmm_np.checks import FloatArray, as_reduction
from gmm_np.covariance import FAMILIES, Family
from gmm_np.covariance.sums import ROUNDING, SMALLEST_VARIANCE, Bools, Sums, Update, merge
from gmm_np.parameters import Gradients, Parameters


@dataclass(frozen=True, eq=False)
class Statistics:
    """What a pass over data leaves of them; made by `gmm_np.statistics`, added with ``+``.

    Moments are held in the whitened coordinates of their component, z = L_k^-1 (x - mu_k), where
    no digits are lost to an offset or to an ill-conditioned covariance, and second ones about the
    samples' own mean, where none are lost to a component that is far from them. `m_k` and `S_k`
    are those of the data. Sums weigh each sample by w_n r_nk.

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
    C_k : ndarray
        Sums of (z - v_k / n_k)(z - v_k / n_k)^T: [K, D, D] for "full"; their sum [D, D] for
        "tied"; their diagonals [K, D] for "diag", and the sum of these [D] for "tied_diag"; their
        traces [K] for "spherical", and the sum of these for "shared_spherical"; none, [0], for
        "constant".
    """

    parameters: Parameters
    loss: float
    weight: float
    count: int
    n_k: FloatArray
    v_k: FloatArray
    C_k: FloatArray

    def __add__(self, other: object) -> Statistics:
        if not isinstance(other, Statistics):
            return NotImplemented
        if not self.parameters.equals(other.parameters):
            raise ValueError(
                "statistics made at different parameters do not add: their responsibilities "
                "mean different things. Make both with the same Parameters."
            )
        left, right = Sums(self.n_k, self.v_k, self.C_k), Sums(other.n_k, other.v_k, other.C_k)
        return Statistics(
            self.parameters,
            self.loss + other.loss,
            self.weight + other.weight,
            self.count + other.count,
            *merge(self.family, left, right),
        )

    def __radd__(self, other: object) -> Statistics:
        """Let the built-in sum() start from 0."""
        if isinstance(other, int) and other == 0:
            return self
        return NotImplemented

    @property
    def family(self) -> Family:
        """What knows the parameters' covariances."""
        return FAMILIES[self.parameters.family]

    @cached_property
    def M_k(self) -> FloatArray:  # noqa: N802
        """Sums of w_n r_nk z z^T, in the shape of `C_k`, equation (25)."""
        return Sums(self.n_k, self.v_k, self.C_k).about_means(self.family).second

    @cached_property
    def m_k(self) -> FloatArray:
        """Sums of w_n r_nk (x_n - mu_k), shape [K, D], equation (25)."""
        return self.family.unwhiten_first(_double(self.parameters.scale), self.v_k)

    @cached_property
    def S_k(self) -> FloatArray:  # noqa: N802
        """Sums of w_n r_nk (x_n - mu_k)(x_n - mu_k)^T, in the shape of `C_k`, equation (25)."""
        return self.family.unwhiten(_double(self.parameters.scale), self.M_k)


class Conjugate(NamedTuple):
    """What conjugate priors add to an M-step.

    Attributes
    ----------
    scatter, freedom : float
        Of a Wishart prior on each learned precision matrix: scatter times the identity joins
        the scatter of the samples, and freedom their mass.
    counts : float
        Of a Dirichlet prior: joins the mass of each component.
    centre : ndarray, shape [D], or float
    mean_precision : float
        Of an isotropic normal prior on the means about `centre`.
    """

    scatter: float = 0.0
    freedom: float = 0.0
    counts: float = 0.0
    centre: FloatArray | float = 0.0
    mean_precision: float = 0.0


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
        pi_logits [K], means [K, D] and scale (factors: lower triangular), in the dtypes of the
        parameters; scale is None for "constant", x is None.

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
    with np.errstate(all="ignore"):
        inverse = statistics.family.structure.inverse(_double(parameters.scale))
        sums = Sums(statistics.n_k, statistics.v_k, np.array(statistics.M_k))
    found = assemble_gradients(parameters, sums, inverse, total)
    return _wide_gradients(parameters, statistics, total) if found is None else found


def assemble_gradients(
    parameters: Parameters, sums: Sums, inverse: FloatArray, total: float
) -> Gradients | None:
    """Return the gradient of the summed loss over `total`, equation (26).

    None where something left the range of a double on the way: it may come back. `sums` are about
    the means, and are overwritten; `inverse` is in the shape of the scale.
    """
    family, (mass, first, second) = FAMILIES[parameters.family], sums
    with np.errstate(all="ignore"):
        d_means = family.structure.apply_transposed(inverse, first)  # W_k^T v_k
        d_means /= -total
        d_scale = family.gradient(_double(parameters.scale), inverse, mass, second, first.shape[1])
        d_scale /= total
        if not (math.isfinite(d_scale.sum()) and math.isfinite(d_means.sum())):
            return None
        return _gradients(parameters, mass, total, d_means, d_scale)


def _wide_gradients(parameters: Parameters, statistics: Statistics, total: float) -> Gradients:
    """Return the gradient in numbers of a wider range, by dense factors."""
    family, (n_components, n_dims) = statistics.family, parameters.means.shape
    with np.errstate(all="ignore"):
        factors = family.expand(_double(parameters.scale), n_components, n_dims)
        dense = family.densify(statistics.M_k, n_components, n_dims)
        moments = zip(statistics.n_k, statistics.v_k, dense, factors, strict=True)
        found = [extended_range.moments_backward(*component, total) for component in moments]
        d_means, d_factors = (np.stack(arrays) for arrays in zip(*found, strict=True))
        d_scale = family.reduce(d_factors)
        return _gradients(parameters, statistics.n_k, total, d_means, d_scale)


def _gradients(
    parameters: Parameters,
    mass: FloatArray,
    total: float,
    d_means: FloatArray,
    d_scale: FloatArray,
) -> Gradients:
    """Return the gradients in the dtypes of their parameters."""
    # The mass, not the weight that it equals: then rounding leaves K = 1 an exact zero.
    d_logits = (mass.sum() * parameters.weights() - mass) / total
    return parameters.as_gradients(d_logits, d_means, d_scale)


def em_step(
    parameters: Parameters,
    statistics: Statistics,
    *,
    reg_covar: ArrayLike = 0.0,
    prior: Conjugate | None = None,
) -> Parameters:
    """One step of expectation-maximisation from statistics, equation (27).

    Parameters
    ----------
    parameters : Parameters
        Those at which the statistics were made.
    statistics : Statistics
        Of all the data; add those of its parts.
    reg_covar : float or array_like of shape [D]
        Added to the diagonal of each learned covariance, or to the entry of each column. One
        variance for all columns gets the mean.
    prior : Conjugate, optional
        For a maximum of the posterior density; `gmm_np.priors.conjugate` makes one.

    Returns
    -------
    updated : Parameters
        In float64. A component that no sample needs goes off (a logit of -inf) and keeps its
        mean and scale.

    Raises
    ------
    ValueError
        If the statistics were made at other parameters or have no weight, `reg_covar` is negative
        or of another shape, or a component collapsed: its samples span less than
        D dimensions, so that its likelihood has no maximum.
    """
    updated, collapsed = em_update(parameters, statistics, reg_covar=reg_covar, prior=prior)
    if collapsed.any():
        k = int(np.flatnonzero(collapsed)[0])
        what = f"component {k} collapsed: the samples it is responsible for"
        weight = float(statistics.n_k[k])
        if not statistics.family.per_component:
            what = "the shared covariance collapsed: about their components the samples"
            weight = float(statistics.n_k.sum())
        raise ValueError(
            f"{what} (weight {weight:.3g}) span less than D dimensions, so that the covariance is "
            "singular and the likelihood has no maximum. Use fewer components, a floor "
            "(reg_covar), a Wishart prior, or start elsewhere. Components are counted from 0."
        )
    return updated


def em_update(
    parameters: Parameters,
    statistics: Statistics,
    *,
    reg_covar: ArrayLike = 0.0,
    prior: Conjugate | None = None,
) -> tuple[Parameters, Bools]:
    """One step of EM that also says which components collapsed, equations (27), (43), (36).

    Parameters
    ----------
    parameters, statistics, reg_covar, prior
        As in `em_step`.

    Returns
    -------
    updated : Parameters
        A component that collapsed keeps its scale.
    collapsed : ndarray of bool, shape [K]

    Raises
    ------
    ValueError
        If the statistics were made at other parameters or have no weight.
    """
    _check_same(parameters, statistics)
    if not statistics.weight > 0:
        raise ValueError("statistics have no weight: there is nothing to fit.")
    prior = Conjugate() if prior is None else prior
    family, mass = statistics.family, statistics.n_k
    n_dims = parameters.n_features
    scale = _double(parameters.scale)
    with np.errstate(all="ignore"):
        counts = np.maximum(mass + prior.counts, 0.0)
        logits = np.log(counts / counts.sum())
        inverse_mass = np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)
        v_bar = statistics.v_k * inverse_mass[:, None]  # [K, D]
        central = np.array(statistics.C_k)
        # What remains where all digits cancelled is no variance.
        variance, square = family.diagonal(central), family.diagonal(statistics.M_k)
        variance[variance <= (ROUNDING * n_dims) ** 2 * square] = 0.0
        # More digits than these, a kernel does not let cancel without taking another way.
        lost = np.clip(square / variance, 1.0, 1.0 / SMALLEST_VARIANCE)
        step = v_bar
        if prior.mean_precision > 0:
            centre = np.broadcast_to(prior.centre, parameters.means.shape) - parameters.means
            step = family.structure.posterior_step(scale, mass, v_bar, centre, prior.mean_precision)
            central = central + family.outer(mass, step - v_bar)
        means = parameters.means + family.unwhiten_first(scale, step)
        add = Update(prior.scatter, prior.freedom, as_floor(reg_covar, parameters))
        sums = Sums(mass, statistics.v_k, central)
        updated, collapsed = family.em_update(scale, sums, lost, add)
    return Parameters(logits, means, updated, parameters.family), collapsed


def as_floor(reg_covar: ArrayLike, parameters: Parameters) -> FloatArray:
    """Return what is added to variances: of each column [D], or to the only one, [].

    Raises
    ------
    ValueError
        If a value is negative or not finite, or there is neither one nor one a column.
    """
    floor = np.asarray(reg_covar, np.float64)
    n_dims = parameters.n_features
    if floor.shape not in ((), (n_dims,)):
        raise ValueError(
            f"reg_covar must be one number, or one for each of the {n_dims} columns of x; got an "
            f"array of shape {floor.shape}."
        )
    if not (np.isfinite(floor) & (floor >= 0)).all():
        raise ValueError(f"reg_covar must be finite and not negative; got {floor.tolist()}.")
    by_column = FAMILIES[parameters.family].structure.by_column
    return floor if by_column else np.asarray(floor.mean())


def _check_same(parameters: Parameters, statistics: Statistics) -> None:
    if not parameters.equals(statistics.parameters):
        raise ValueError(
            "statistics were made at other parameters than those given. Make them anew with "
            "gmm_np.statistics(x, parameters)."
        )


def _double(array: NDArray[np.floating]) -> FloatArray:
    return array.astype(np.float64, copy=False)
