"""The mixture objective of ADBench and GradBench, by precision factors and a Wishart prior."""

import math

import numpy as np
import pytest
from scipy.stats import wishart

from gmm_np import check_grad, nll
from gmm_np.parametrizations import precision_value_and_grad
from gmm_np.priors import Wishart


def draw(seed, n=30, k=3, d=4):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, d)),
        rng.normal(size=k),
        rng.normal(size=(k, d)),
        0.3 * rng.normal(size=(k, d)),
        rng.normal(size=(k, d * (d - 1) // 2)),
    )


def by_specification(x, alpha, mu, q, l, gamma, m):  # noqa: E741
    """GradBench's definition in loops: Q filled column by column, then each formula."""
    (n, d), k = x.shape, len(alpha)
    factors = []
    for c in range(k):
        Q = [[0.0] * d for _ in range(d)]
        place = 0
        for column in range(d):
            Q[column][column] = math.exp(q[c][column])
            for row in range(column + 1, d):
                Q[row][column] = l[c][place]
                place += 1
        factors.append(Q)
    terms = []
    for i in range(n):
        beta = []
        for c in range(k):
            e = [x[i][j] - mu[c][j] for j in range(d)]
            z = [math.fsum(factors[c][r][j] * e[j] for j in range(d)) for r in range(d)]
            beta.append(alpha[c] - 0.5 * math.fsum(v * v for v in z) + math.fsum(q[c]))
        terms.append(math.log(math.fsum(math.exp(b) for b in beta)))
    lse_alpha = math.log(math.fsum(math.exp(a) for a in alpha))
    likelihood = math.fsum(terms) - n * (d / 2 * math.log(2 * math.pi) + lse_alpha)
    freedom = d + m + 1
    log_gamma = d * (d - 1) / 4 * math.log(math.pi) + math.fsum(
        math.lgamma(freedom / 2 - j / 2) for j in range(d)
    )
    prior = k * (freedom * d * math.log(gamma / math.sqrt(2)) - log_gamma)
    for c in range(k):
        squares = math.fsum(v * v for row in factors[c] for v in row)
        prior += m * math.fsum(q[c]) - gamma**2 / 2 * squares
    return likelihood + prior


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("gamma", "m"), [(1.0, 0), (1.3, 2), (0.2, 7)])
def test_value_is_that_of_the_specification(seed, gamma, m):
    arguments = draw(seed)
    value, _ = precision_value_and_grad(*arguments, gamma=gamma, m=m)
    # Both are sums of about a hundred terms of like size.
    assert value == pytest.approx(by_specification(*arguments, gamma, m), rel=1e-13)


@pytest.mark.parametrize("shape", [(30, 3, 4), (1, 1, 1), (7, 2, 1), (5, 1, 6), (20, 4, 2)])
def test_gradient_is_that_of_the_value(shape):
    x, *theta = draw(sum(shape), *shape)
    arguments = dict(zip(["alpha", "mu", "q", "l"], theta, strict=True))

    def value_and_grad(*theta):
        return precision_value_and_grad(x, *theta, gamma=1.3, m=2)

    gradients = value_and_grad(*theta)[1]  # a check asks for it once
    below = [arguments.pop("l")] if shape[2] == 1 else []  # nothing below the diagonal

    def objective(*theta):
        return value_and_grad(*theta, *below)[0], gradients

    report = check_grad(objective, arguments, entrywise=True)
    assert report, report


def test_likelihood_part_is_that_of_the_covariance_form():
    x, alpha, mu, q, l = draw(3)  # noqa: E741
    value, _ = precision_value_and_grad(x, alpha, mu, q, l, gamma=1.3, m=2)
    Q = np.zeros((3, 4, 4))
    for j, (row, column) in enumerate([(1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (3, 2)]):
        Q[:, row, column] = l[:, j]
    Q[:, range(4), range(4)] = np.exp(q)
    prior = sum(wishart(4 + 2 + 1, np.eye(4) / 1.3**2).logpdf(f.T @ f) for f in Q)
    factors = np.linalg.cholesky(np.linalg.inv(Q.transpose(0, 2, 1) @ Q))
    likelihood = -nll(x, alpha, mu, factors, reduction="sum")
    assert value == pytest.approx(likelihood + prior, rel=1e-12)  # an inverse lies between


def test_wishart_has_the_sign_that_adbench_lost():
    # p = 3, m = 2, gamma = 1.3, Q = I: the log density is -6.745693, not +6.745693.
    value, _ = Wishart(1.3, 2).value_and_grad(np.eye(3)[None])
    assert value == pytest.approx(wishart(6, np.eye(3) / 1.3**2).logpdf(np.eye(3)), rel=1e-14)
    assert value == pytest.approx(-6.745693, abs=5e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": np.zeros(2)}, r"mu and alpha disagree.*\[K\] = \(3,\); got \(2,\)"),
        ({"mu": np.zeros(3)}, r"mu must have two axes \[K, D\]"),
        ({"q": np.zeros((3, 3))}, r"q must have shape \[K, D\] = \(3, 4\); got \(3, 3\)"),
        ({"l": np.zeros((3, 5))}, r"l must have shape \[K, D \(D - 1\) / 2\] = \(3, 6\)"),
        ({"q": np.full((3, 4), np.nan)}, r"q has values that are not finite, the first nan"),
        ({"q": np.full((3, 4), 800.0)}, r"exponential leaves the range of a double"),
        ({"x": np.zeros((5, 3))}, r"x and means disagree"),
        ({"gamma": 0.0}, r"gamma must be a positive number; got 0.0"),
        ({"m": -2}, r"m must be more than -2"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = dict(zip(["x", "alpha", "mu", "q", "l"], draw(0), strict=True))
    arguments |= {"gamma": 1.0, "m": 0} | change
    with pytest.raises(ValueError, match=message):
        precision_value_and_grad(**arguments)


def by_residuals(x, alpha, mu, q, l):  # noqa: E741
    """Gradients of the likelihood alone, from the residuals z = Q e of each sample."""
    (n, d), k = x.shape, len(alpha)
    column, row = np.triu_indices(d, 1)  # l is packed column by column
    factors = np.zeros((k, d, d))
    factors[:, row, column] = l
    factors[:, range(d), range(d)] = np.exp(q)
    e = x[None] - mu[:, None]  # [K, N, D]
    z = np.einsum("kij,knj->kni", factors, e)
    t = (alpha + q.sum(axis=1))[:, None] - 0.5 * np.square(z).sum(axis=2)
    r = np.exp(t - t.max(axis=0))
    r /= r.sum(axis=0)
    d_factors = -np.einsum("kn,kni,knj->kij", r, z, e)
    d_q = np.einsum("kii->ki", d_factors) * np.exp(q) + r.sum(axis=1)[:, None]
    pi = np.exp(alpha - alpha.max())
    d_mu = np.einsum("kij,kn,kni->kj", factors, r, z)
    return r.sum(axis=1) - n * pi / pi.sum(), d_mu, d_q, d_factors[:, row, column]


# Triangles of normal numbers are as ill-conditioned as 2^D. Few rows take direct, many moments; it
# takes only the residuals that count where components are far apart.
@pytest.mark.parametrize(
    ("n", "k", "d", "apart"),
    [(20, 3, 48, 1), (3000, 5, 20, 1), (1000, 25, 48, 1), (900, 12, 100, 100), (60, 3, 20, 1e160)],
)
def test_gradient_keeps_its_digits_where_factors_are_ill_conditioned(n, k, d, apart):
    x, alpha, mu, q, below = draw(7, n, k, d)
    mu *= apart
    x = mu[np.arange(n) % k] + x
    _, found = precision_value_and_grad(x, alpha, mu, q, below, gamma=1.0, m=0)
    with np.errstate(over="ignore"):  # the square of a distance
        expected = by_residuals(x, alpha, mu, q, below)
    # The prior with m = 0 adds -|Q|^2 / 2.
    expected = (*expected[:2], expected[2] - np.exp(2 * q), expected[3] - below)
    for mine, theirs in zip(found, expected, strict=True):
        # Sums of N terms: the last digits of a double, and a few more for moments' centre.
        assert np.abs(mine - theirs).max() <= 1e-11 * np.abs(theirs).max()
