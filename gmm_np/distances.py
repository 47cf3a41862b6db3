"""How far two mixtures are apart, and one of fewer components that is near.

What integrals of products of normal densities give is in closed form, and in logarithms: the L2
and the Cauchy-Schwarz distance. The Kullback-Leibler divergence has no closed form: here are its
estimate by Monte Carlo with a standard error, bounds from both sides, and what is quick. Equations
(P13) to (P21) are those of docs/parts.md.

Letters in shapes: K and J components of two mixtures, D dimensions, N samples.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.special import log_softmax, logsumexp

from gmm_np.checks import FloatArray
from gmm_np.covariance import FAMILIES
from gmm_np.covariance.conversions import factor
from gmm_np.likelihood import log_prob
from gmm_np.parameters import Parameters

__all__ = [
    "Bounds",
    "Estimate",
    "cauchy_schwarz",
    "kl_bounds",
    "kl_matched",
    "kl_monte_carlo",
    "kl_variational",
    "l2",
    "log_inner_product",
    "merge",
]

LOG_2_PI: Final = math.log(2 * math.pi)
# Samples that are held at a time.
LARGEST_BLOCK: Final = 2**16
# The variational bound's two steps are repeated until they gain less, in nats.
SETTLED: Final = 1e-10
MOST_STEPS: Final = 1000


class Estimate(NamedTuple):
    """An estimate by Monte Carlo.

    Attributes
    ----------
    value : float
        In nats.
    standard_error : float
    """

    value: float
    standard_error: float


class Bounds(NamedTuple):
    """Bounds of a Kullback-Leibler divergence from both sides.

    Attributes
    ----------
    lower, upper : float
        In nats.
    """

    lower: float
    upper: float


# --- closed forms -------------------------------------------------------------------------------


def log_inner_product(p: Parameters, q: Parameters) -> float:
    """Logarithm of the integral of the product of two densities, equation (P13).

    Parameters
    ----------
    p, q : Parameters
        Of any families, and as many columns.

    Returns
    -------
    value : float
        In nats; the densities have units, one over that of each column.

    Raises
    ------
    TypeError, ValueError
        If they are no `Parameters`, or have other columns.

    Examples
    --------
    >>> import gmm_np
    >>> p = gmm_np.Parameters([0.0], [[0.0]], [[[1.0]]])
    >>> round(gmm_np.distances.log_inner_product(p, p), 6)
    -1.265512
    """
    _check(p, q)
    return float(logsumexp(_log_weights(p)[:, None] + _log_weights(q) + _log_products(p, q)))


def l2(p: Parameters, q: Parameters) -> float:
    """Return the L2 distance of two densities, the root of the integral of (p - q)^2, (P14).

    Parameters
    ----------
    p, q : Parameters
        Of any families, and as many columns.

    Returns
    -------
    distance : float
        Not negative, symmetric. It has the unit of the root of a density. Of densities that are
        nearly equal it has half of a double's digits, relative to their norms.

    Raises
    ------
    TypeError, ValueError
        As `log_inner_product`.

    Examples
    --------
    >>> import gmm_np
    >>> p = gmm_np.Parameters([0.0], [[0.0]], [[[1.0]]])
    >>> q = gmm_np.Parameters([0.0], [[3.0]], [[[1.0]]])
    >>> round(gmm_np.distances.l2(p, q), 6)
    0.71044
    """
    both, cross, own = (log_inner_product(*pair) for pair in ((p, p), (p, q), (q, q)))
    top = max(both, cross, own)  # so that no exponential leaves the range but with the result
    square = math.exp(both - top) - 2.0 * math.exp(cross - top) + math.exp(own - top)
    with np.errstate(over="ignore", under="ignore"):
        return float(math.sqrt(max(square, 0.0)) * np.exp(0.5 * top))


def cauchy_schwarz(p: Parameters, q: Parameters) -> float:
    """Return the Cauchy-Schwarz divergence of two densities, equation (P15).

    Minus the logarithm of the cosine of the angle between them.

    Parameters
    ----------
    p, q : Parameters
        Of any families, and as many columns.

    Returns
    -------
    divergence : float
        In nats; not negative, symmetric, and the same in any units of the columns.

    Raises
    ------
    TypeError, ValueError
        As `log_inner_product`.

    References
    ----------
    .. [1] Kampa, K., Hasanbelliu, E. and Principe, J. C. (2011). Closed-form Cauchy-Schwarz PDF
       divergence for mixture of Gaussians. *Proceedings of the International Joint Conference on
       Neural Networks*, 2578-2585.

    Examples
    --------
    >>> import gmm_np
    >>> p = gmm_np.Parameters([0.0], [[0.0]], [[[1.0]]])
    >>> q = gmm_np.Parameters([0.0], [[3.0]], [[[1.0]]])
    >>> round(gmm_np.distances.cauchy_schwarz(p, q), 6)
    2.25
    """
    both, cross, own = (log_inner_product(*pair) for pair in ((p, p), (p, q), (q, q)))
    return max(0.5 * both + 0.5 * own - cross, 0.0)


# --- the Kullback-Leibler divergence ------------------------------------------------------------


def kl_monte_carlo(
    p: Parameters, q: Parameters, n_samples: int = 100_000, *, random_state: Any = None
) -> Estimate:
    """Kullback-Leibler divergence of q from p by samples of p, with its standard error: (P16).

    Parameters
    ----------
    p, q : Parameters
        Of any families, and as many columns.
    n_samples : int
        At least 2.
    random_state : int, numpy.random.Generator or None

    Returns
    -------
    Estimate
        Of the integral of p log(p / q), in nats. The standard error falls with the root of
        `n_samples`; both are infinite where q has no weight at a sample.

    Raises
    ------
    TypeError, ValueError
        As `log_inner_product`; or if there are too few samples.

    Examples
    --------
    >>> import gmm_np
    >>> p = gmm_np.Parameters([0.0], [[0.0]], [[[1.0]]])
    >>> q = gmm_np.Parameters([0.0], [[3.0]], [[[1.0]]])
    >>> found = gmm_np.distances.kl_monte_carlo(p, q, 10_000, random_state=0)
    >>> abs(found.value - 4.5) < 3 * found.standard_error
    True
    """
    _check(p, q)
    if n_samples < 2:
        raise ValueError(f"n_samples must be at least 2, for a standard error; got {n_samples}.")
    rng = np.random.default_rng(random_state)
    structure, scale = FAMILIES[p.family].structure, p.scale.astype(np.float64)
    ratios = np.empty(n_samples)
    for start in range(0, n_samples, LARGEST_BLOCK):
        part = slice(start, min(start + LARGEST_BLOCK, n_samples))
        owner = rng.choice(p.n_components, size=part.stop - start, p=p.weights())
        x = rng.standard_normal((len(owner), p.n_features))
        x = structure.apply_to_rows(scale, x, owner) + p.means[owner]
        logs = (log_prob(x, m.pi_logits, m.means, m.scale, family=m.family) for m in (p, q))
        ratios[part] = next(logs) - next(logs)
    if not np.isfinite(ratios).all():
        return Estimate(math.inf, math.inf)
    return Estimate(float(ratios.mean()), float(ratios.std(ddof=1)) / math.sqrt(n_samples))


def kl_variational(p: Parameters, q: Parameters) -> float:
    """Approximate the Kullback-Leibler divergence of q from p, equation (P18).

    The variational approximation [1]_: quick, exact for one component each and zero for equal
    mixtures, but no bound, and it may be below zero.

    Parameters
    ----------
    p, q : Parameters
        Of any families, and as many columns.

    Returns
    -------
    value : float
        In nats.

    Raises
    ------
    TypeError, ValueError
        As `log_inner_product`.

    References
    ----------
    .. [1] Hershey, J. R. and Olsen, P. A. (2007). Approximating the Kullback Leibler divergence
       between Gaussian mixture models. *ICASSP*, 4, 317-320.

    Examples
    --------
    >>> import gmm_np
    >>> p = gmm_np.Parameters([0.0], [[0.0]], [[[1.0]]])
    >>> q = gmm_np.Parameters([0.0], [[3.0]], [[[1.0]]])
    >>> gmm_np.distances.kl_variational(p, q)
    4.5
    """
    _check(p, q)
    p = _only_on(p)
    own = logsumexp(_log_weights(p) - _kl_of_pairs(p, p), axis=1)  # [K]
    other = logsumexp(_log_weights(q) - _kl_of_pairs(p, q), axis=1)
    return float(p.weights() @ (own - other))


def kl_matched(p: Parameters, q: Parameters) -> float:
    """Kullback-Leibler divergence with each component of p matched to one of q: (P17).

    Goldberger's approximation [1]_ chooses the match, and its components share the weight of the
    one that they are matched to, so that this is a bound from above.

    Parameters
    ----------
    p, q : Parameters
        Of any families, and as many columns.

    Returns
    -------
    bound : float
        In nats, from above.

    Raises
    ------
    TypeError, ValueError
        As `log_inner_product`.

    References
    ----------
    .. [1] Goldberger, J., Gordon, S. and Greenspan, H. (2003). An efficient image similarity
       measure based on approximations of KL-divergence between two Gaussian mixtures. *ICCV*,
       487-493.

    Examples
    --------
    >>> import gmm_np
    >>> p = gmm_np.Parameters([0.0, 0.0], [[0.0], [9.0]], 1.0, "shared_spherical")
    >>> q = gmm_np.Parameters([0.0, 0.0], [[9.0], [1.0]], 1.0, "shared_spherical")
    >>> round(gmm_np.distances.kl_matched(p, q), 6)
    0.25
    """
    _check(p, q)
    p, q = _only_on(p), _only_on(q)
    pairs = _kl_of_pairs(p, q)
    match = (pairs - _log_weights(q)).argmin(axis=1)
    total = np.bincount(match, weights=p.weights(), minlength=q.n_components)
    used = total > 0
    shares = total[used] @ (np.log(total[used]) - _log_weights(q)[used])
    return float(p.weights() @ pairs[np.arange(p.n_components), match] + shares)


def kl_bounds(p: Parameters, q: Parameters) -> Bounds:
    """Bounds of the Kullback-Leibler divergence of q from p, from both sides: (P19), (P20).

    The upper one is the variational bound [1]_, the best of all that divide the components of both
    mixtures in parts and match these. The lower one bounds the two expectations of logarithms
    apart [2]_, and is loose where components overlap.

    Parameters
    ----------
    p, q : Parameters
        Of any families, and as many columns.

    Returns
    -------
    Bounds
        In nats; the lower is at least 0.

    Raises
    ------
    TypeError, ValueError
        As `log_inner_product`.

    References
    ----------
    .. [1] Hershey, J. R. and Olsen, P. A. (2007). Approximating the Kullback Leibler divergence
       between Gaussian mixture models. *ICASSP*, 4, 317-320.
    .. [2] Durrieu, J.-L., Thiran, J.-P. and Kelly, F. (2012). Lower and upper bounds for
       approximation of the Kullback-Leibler divergence between Gaussian mixture models. *ICASSP*,
       4833-4836.

    Examples
    --------
    >>> import gmm_np
    >>> p = gmm_np.Parameters([0.0, 0.0], [[0.0], [9.0]], 1.0, "shared_spherical")
    >>> q = gmm_np.Parameters([0.0, 0.0], [[9.0], [1.0]], 1.0, "shared_spherical")
    >>> round(gmm_np.distances.kl_bounds(p, q).upper, 6)
    0.25
    """
    _check(p, q)
    p, q = _only_on(p), _only_on(q)
    weights, log_p, log_q = p.weights(), _log_weights(p), _log_weights(q)
    # E_p log p from below by Jensen within each component, E_p log q from above within each.
    entropies = _half_log_dets(p) + 0.5 * p.n_features * (LOG_2_PI + 1.0)  # [K]
    below = logsumexp(log_p - _kl_of_pairs(p, p), axis=1) - entropies
    above = logsumexp(log_q + _log_products(p, q), axis=1)
    lower = max(float(weights @ (below - above)), 0.0)
    return Bounds(lower, max(_upper_bound(log_p, log_q, _kl_of_pairs(p, q)), lower))


def _upper_bound(log_p: FloatArray, log_q: FloatArray, pairs: FloatArray) -> float:
    """Return the least of sum_kj phi_kj (log(phi_kj / psi_kj) + pairs_kj), equation (P20).

    phi divides the weights of p, psi those of q, and each is the best there is for the other.
    """
    log_psi = log_q[None] - math.log(len(log_p)) + np.zeros_like(pairs)
    value = math.inf
    for _ in range(MOST_STEPS):
        scores = log_psi - pairs  # [K, J]
        log_phi = log_p[:, None] + log_softmax(scores, axis=1)
        found = float(np.exp(log_p) @ (log_p - logsumexp(scores, axis=1)))
        if not value - found > SETTLED:
            break
        value = found
        log_psi = log_q + log_softmax(log_phi, axis=0)
    return min(value, found)


# --- fewer components ---------------------------------------------------------------------------


def merge(parameters: Parameters, n_components: int) -> Parameters:
    """Merge components, two at a time, until there are so many: Runnalls' algorithm [1]_.

    Each step takes the two whose merging has the least bound (P21) on the Kullback-Leibler
    divergence that it costs, and replaces them by one with their weight, mean and covariance, so
    that those of the whole mixture stay.

    Parameters
    ----------
    parameters : Parameters
    n_components : int
        From 1 to that of the parameters.

    Returns
    -------
    merged : Parameters
        In float64. Where all components shared one covariance each has its own; of diagonal and
        spherical covariances the merged one is of that kind, with the variances it has there.
        Components that are off are left out first.

    Raises
    ------
    TypeError, ValueError
        If these are no parameters, or the number is out of range.

    References
    ----------
    .. [1] Runnalls, A. R. (2007). Kullback-Leibler approach to Gaussian mixture reduction. *IEEE
       Transactions on Aerospace and Electronic Systems*, 43(3), 989-999.

    Examples
    --------
    >>> import gmm_np
    >>> p = gmm_np.Parameters([0.0] * 3, [[0.0], [1.0], [9.0]], [1.0] * 3, "spherical")
    >>> gmm_np.distances.merge(p, 2).means.round(6).tolist()
    [[0.5], [9.0]]
    """
    _check(parameters)
    if not 1 <= n_components <= parameters.n_components:
        raise ValueError(
            f"n_components must be from 1 to the {parameters.n_components} that there are; got "
            f"{n_components}."
        )
    p = _only_on(parameters)
    structure = FAMILIES[p.family].structure
    family = next(
        form for form in FAMILIES.values()
        if form.structure is structure and form.per_component and form.learned
    )  # fmt: skip
    weights, means = p.weights(), p.means.astype(np.float64)
    d, unit = p.n_features, structure.n_equal(p.n_features)
    scale = np.broadcast_to(p.scale.astype(np.float64), family.shape(*means.shape))
    # In each component's own shape: matrices, variances of columns, or one variance.
    spreads = np.square(scale) if not family.has_factors else scale @ scale.swapaxes(1, 2)

    def pooled(i: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Weights, means and covariances of component i merged with each, [K, ...]."""
        total = weights + weights[i]
        mine, theirs = weights[i] / total, weights / total
        apart = means - means[i]
        between = family.outer(mine * theirs, apart) / unit
        spread = (
            structure.of_each(mine) * spreads[i] + structure.of_each(theirs) * spreads + between
        )
        return total, means[i] + theirs[:, None] * apart, spread

    def half_log_det(spread: FloatArray) -> FloatArray:
        return structure.half_log_det(factor(spread, family.name), d)

    own = half_log_det(spreads)

    def costs(i: int) -> FloatArray:
        """Return what merging component i with each costs at most, [K]: (P21)."""
        total, _, spread = pooled(i)
        found = total * half_log_det(spread) - weights * own - weights[i] * own[i]
        found[i] = np.inf
        return np.asarray(found)

    table = np.stack([costs(i) for i in range(len(weights))])
    while len(weights) > n_components:
        i, j = sorted(map(int, np.unravel_index(table.argmin(), table.shape)))
        total, centres, spread = (a[j] for a in pooled(i))
        keep = np.arange(len(weights)) != j
        weights[i], means[i], spreads[i] = total, centres, spread
        weights, means, spreads = weights[keep], means[keep], spreads[keep]
        own = np.where(np.arange(len(own)) == i, half_log_det(spread[None])[0], own)[keep]
        table = table[keep][:, keep]
        table[i] = table[:, i] = costs(i)
    return Parameters(np.log(weights), means, factor(spreads, family.name), family.name)


# --- pairs of components ------------------------------------------------------------------------


def _check(*mixtures: Parameters) -> None:
    """Raise unless these are parameters of mixtures of as many columns."""
    for given in mixtures:
        if not isinstance(given, Parameters):
            raise TypeError(
                f"mixtures are gmm_np.Parameters; got {type(given).__name__}. A fitted estimator "
                "has them as parameters_."
            )
    columns = [given.n_features for given in mixtures]
    if len(set(columns)) > 1:
        raise ValueError(
            f"p has {columns[0]} columns and q {columns[1]}: they are densities of different "
            "things. Take marginal(columns) of the larger."
        )


def _log_weights(p: Parameters) -> FloatArray:
    return np.asarray(log_softmax(p.pi_logits.astype(np.float64)))


def _only_on(p: Parameters) -> Parameters:
    """Return parameters without the components that are off, as float64."""
    on = p.weights() > 0
    scale = p.scale.astype(np.float64)
    if FAMILIES[p.family].per_component:
        scale = scale[on]
    logits, means = (a.astype(np.float64)[on] for a in (p.pi_logits, p.means))
    return Parameters(logits, means, scale, p.family)


def _half_log_dets(p: Parameters) -> FloatArray:
    found = FAMILIES[p.family].structure.half_log_det(p.scale.astype(np.float64), p.n_features)
    return np.broadcast_to(found, p.n_components)


def _log_products(p: Parameters, q: Parameters) -> FloatArray:
    """Return log N(mu_k; mu'_j, Sigma_k + Sigma'_j) [K, J], what a product integrates to."""
    apart = p.means[:, None] - q.means.astype(np.float64)  # [K, J, D]
    factors = np.linalg.cholesky(p.covariances()[:, None] + q.covariances())  # [K, J, D, D]
    z = np.linalg.solve(factors, apart[..., None])[..., 0]
    logs = np.log(np.diagonal(factors, axis1=2, axis2=3)).sum(axis=2)
    return np.asarray(-0.5 * np.square(z).sum(axis=2) - logs - 0.5 * p.n_features * LOG_2_PI)


def _kl_of_pairs(p: Parameters, q: Parameters) -> FloatArray:
    """Return divergences [K, J] of each component of q from each of p, by their factors."""
    family = FAMILIES[q.family]
    inverse = family.structure.inverse(q.scale.astype(np.float64))
    inverse = family.expand(inverse, *q.means.shape)  # [J, D, D]
    relative = inverse @ p.factors()[:, None]  # [K, J, D, D]
    apart = p.means[:, None] - q.means.astype(np.float64)
    z = np.einsum("jde,kje->kjd", inverse, apart)
    quadratic = np.square(relative).sum(axis=(2, 3)) - p.n_features + np.square(z).sum(axis=2)
    logs = _half_log_dets(q) - _half_log_dets(p)[:, None]
    return np.asarray(np.maximum(0.5 * quadratic + logs, 0.0))
