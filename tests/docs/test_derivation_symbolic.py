"""Every equation with a derivative in docs/derivation.md, proved by SymPy for small N, K and D.

Each side is differentiated, or written down, in symbols; that their difference is zero is then a
statement about rational functions, which SymPy decides. Numbers in parentheses are equations.
"""

import functools
import itertools
import re

import pytest
import sympy as sp
from test_derivation import MATH_BLOCKS

pytestmark = pytest.mark.needs_extras

PROVED = {}  # equation -> the tests that prove it


def proves(*equations):
    """Say which equations a test proves."""

    def register(test):
        for equation in equations:
            PROVED.setdefault(equation, []).append(test.__name__)
        return test

    return register


def tag_of(piece):
    """Return the number of the equation in which a piece of a formula stands; None if it is gone.

    If the piece is gone, the last test says which equation is not proved.
    """
    tags = [re.findall(r"\\tag\{(\d+)\}", block) for block in MATH_BLOCKS if piece in block]
    return int(tags[0][0]) if tags else None


# --- tools --------------------------------------------------------------------------------------


def vanishes(expression):
    """Whether an expression is zero for all values of its symbols.

    Each logarithm becomes a symbol of its own, and so does exp(u / 2) for each product u in an
    exponent; what is left is rational. Sound: what is zero for independent symbols is zero for
    these.
    """
    bases, logarithms = {}, {}

    def symbol(argument):
        return logarithms.setdefault(argument, sp.Dummy())

    def product(exponent):
        factors = []
        for term in sp.Add.make_args(sp.expand(exponent)):
            number, rest = term.as_coeff_Mul()
            factors.append(bases.setdefault(rest, sp.Dummy(positive=True)) ** (2 * number))
        return sp.Mul(*factors)

    rational = expression.replace(sp.log, symbol).replace(sp.exp, product)
    return sp.expand(sp.fraction(sp.together(rational))[0]) == 0


def same(left, right):
    """Whether two scalars, lists or matrices agree entry by entry."""
    left, right = (
        list(side) if isinstance(side, list | tuple | sp.MatrixBase) else [side]
        for side in (left, right)
    )
    assert len(left) == len(right) > 0
    return all(vanishes(sp.sympify(a - b)) for a, b in zip(left, right, strict=True))


def pulled(values, bars, by):
    """Equation (12): the sum of vector-Jacobian products, of a list of values towards `by`."""
    return sum((sp.diff(v, by) * bar for v, bar in zip(values, bars, strict=True)), sp.Integer(0))


def symbols(name, *sizes):
    """Real symbols name_0_0..., in nested lists of these sizes."""
    if not sizes:
        return sp.Symbol(name, real=True)
    return [symbols(f"{name}_{i}", *sizes[1:]) for i in range(sizes[0])]


def vector(name, size):
    return sp.Matrix(symbols(name, size))


def factor(name, size):
    """Lower triangular, with a positive diagonal."""
    return sp.Matrix(
        size,
        size,
        lambda i, j: (
            sp.Symbol(f"{name}_{i}{j}", real=True, positive=i == j or None) if i >= j else 0
        ),
    )


def symmetric(name, size):
    return sp.Matrix(size, size, lambda i, j: sp.Symbol(f"{name}_{max(i, j)}{min(i, j)}"))


def tril(matrix):
    return sp.Matrix(*matrix.shape, lambda i, j: matrix[i, j] if i >= j else 0)


def phi(matrix):
    """The operation of section 6: the lower triangle with the diagonal halved."""
    return sp.Matrix(
        *matrix.shape, lambda i, j: matrix[i, j] / (2 if i == j else 1) if i >= j else 0
    )


def by_factor(function, matrix):
    """Gradient by the free entries of a lower triangular matrix: zeros above the diagonal."""
    return sp.Matrix(
        *matrix.shape, lambda i, j: sp.diff(function, matrix[i, j]) if i >= j else sp.Integer(0)
    )


def inverse_diagonal(matrix):
    return sp.diag(*(1 / matrix[i, i] for i in range(matrix.rows)))


def lower_pairs(size):
    return [(i, j) for i in range(size) for j in range(i + 1)]


DIMENSIONS = pytest.mark.parametrize("d", [1, 2, 3])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("2 * x * y", "x * y"), ("-x / y", "x / y"), ("exp(x)", "exp(y)"), ("x + 1e-9", "x")],
)
def test_what_differs_does_not_vanish(wrong, right):
    assert not vanishes(sp.sympify(wrong) - sp.sympify(right))
    assert vanishes(sp.sympify(right) - sp.sympify(right))


# --- section 3: step by step --------------------------------------------------------------------


@proves(12)
def test_chain_rule_sums_over_all_uses():
    """F(v(u)) differentiated through v is the sum of products that (12) says, for any values."""
    u = symbols("u", 2)
    values = [u[0] * u[1], u[0] ** 3 + u[1], u[1] ** 2 / u[0]]
    v = symbols("v", 3)
    outer = v[0] ** 2 * v[1] + v[2] / v[1]
    back = dict(zip(v, values, strict=True))
    bars = [sp.diff(outer, each).subs(back) for each in v]
    for each in u:
        assert same(sp.diff(outer.subs(back), each), pulled(values, bars, each))


@proves(13)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss(reduction):
    n_samples = 3
    weight, log_likelihood = symbols("w", n_samples), symbols("l", n_samples)
    total = sum(weight) if reduction == "mean" else sp.Integer(1)
    terms = [-w * v / total for w, v in zip(weight, log_likelihood, strict=True)]
    if reduction == "none":
        values, bars = terms, symbols("fbar", n_samples)
    else:
        values, bars = [sum(terms)], [symbols("fbar")]
    for n in range(n_samples):
        bar = bars[n if reduction == "none" else 0]
        found = pulled(values, bars, log_likelihood[n])
        assert same(found, -weight[n] / total * bar)


@proves(14, 15)
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_logsumexp(n_components):
    t, bar, shift = symbols("t", n_components), symbols("lbar"), symbols("m")
    value = sp.log(sum(map(sp.exp, t)))
    for k in range(n_components):
        resp = sp.exp(t[k]) / sum(map(sp.exp, t))
        shifted = sp.exp(t[k]) * sp.exp(-shift) / sum(sp.exp(v) * sp.exp(-shift) for v in t)
        assert same(resp, shifted)
        assert sp.simplify(sp.exp(t[k] - value) - resp) == 0
        assert same(pulled([value], [bar], t[k]), resp * bar)


@proves(16)
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_mixture_logits(n_components):
    n_samples = 2
    a, log_pi = symbols("a", n_components), symbols("p", n_components)
    density, bars = symbols("d", n_samples, n_components), symbols("tbar", n_samples, n_components)
    flat = list(itertools.chain(*bars))
    joint = [log_pi[k] + density[n][k] for n in range(n_samples) for k in range(n_components)]
    d_log_pi = [sum(bars[n][k] for n in range(n_samples)) for k in range(n_components)]
    assert same([pulled(joint, flat, v) for v in log_pi], d_log_pi)
    total = sum(map(sp.exp, a))
    for k in range(n_components):
        found = pulled([v - sp.log(total) for v in a], d_log_pi, a[k])
        assert same(found, d_log_pi[k] - sp.exp(a[k]) / total * sum(d_log_pi))


@proves(17)
def test_log_density():
    n_samples, n_components = 2, 2
    q, bars = symbols("q", n_samples, n_components), symbols("tbar", n_samples, n_components)
    log_pi, h = symbols("p", n_components), symbols("h", n_components)
    where = [(n, k) for n in range(n_samples) for k in range(n_components)]
    t = [log_pi[k] - q[n][k] / 2 - h[k] - sp.log(2 * sp.pi) for n, k in where]
    flat = list(itertools.chain(*bars))
    for n, k in where:
        assert same(pulled(t, flat, q[n][k]), -bars[n][k] / 2)
    for k in range(n_components):
        assert same(pulled(t, flat, h[k]), -sum(bars[n][k] for n in range(n_samples)))


@proves(18)
@DIMENSIONS
def test_quadratic_form_towards_the_residual(d):
    L, e, bar = factor("L", d), vector("e", d), symbols("qbar")
    inverse = (L * L.T).inv()
    y = inverse * e
    assert same(y, L.T.inv() * (L.inv() * e))
    quadratic = (e.T * inverse * e)[0]
    assert same([pulled([quadratic], [bar], v) for v in e], list(2 * bar * y))


@proves(19)
def test_residual():
    x, means = symbols("x", 2), symbols("mu", 3)
    bars = symbols("ebar", 2, 3)
    residual = [v - m for v in x for m in means]
    flat = list(itertools.chain(*bars))
    for n, v in enumerate(x):
        assert same(pulled(residual, flat, v), sum(bars[n]))
    for k, m in enumerate(means):
        assert same(pulled(residual, flat, m), -sum(row[k] for row in bars))


@proves(20)
@DIMENSIONS
def test_quadratic_form_towards_the_factor(d):
    L, bars = factor("L", d), symbols("qbar", 2)
    inverse = L.inv()
    residuals = [vector(f"e{n}", d) for n in range(2)]
    whitened = [inverse * e for e in residuals]
    pulls = [inverse.T * z for z in whitened]
    loss = sum((bar * z.dot(z) for bar, z in zip(bars, whitened, strict=True)), sp.Integer(0))
    outer = sum(
        (bar * y * z.T for bar, y, z in zip(bars, pulls, whitened, strict=True)), sp.zeros(d)
    )
    assert same(by_factor(loss, L), -2 * tril(outer))
    d_residual = [2 * bar * y for bar, y in zip(bars, pulls, strict=True)]
    outer = sum((de * z.T for de, z in zip(d_residual, whitened, strict=True)), sp.zeros(d))
    assert same(by_factor(loss, L), -tril(outer))
    if d > 1:  # the test would see an upper triangle, and a transposed product
        assert not same(by_factor(loss, L), -outer)
        assert not same(by_factor(loss, L), -tril(outer.T))


@proves(21)
@DIMENSIONS
def test_log_determinant_towards_the_factor(d):
    L, bar = factor("L", d), symbols("hbar")
    half_log_det = sum(sp.log(L[i, i]) for i in range(d))
    assert sp.simplify(sp.exp(2 * half_log_det) - (L * L.T).det()) == 0
    assert same(by_factor(bar * half_log_det, L), bar * inverse_diagonal(L))


# --- sections 4 and 5: the whole ----------------------------------------------------------------


class Mixture:
    """A mixture in symbols, its loss by definition, and the sums of (25)."""

    def __init__(self, n_samples, n_components, d):
        self.N, self.K, self.D = n_samples, n_components, d
        self.weight = symbols("w", n_samples)
        self.total = sp.Symbol("W", positive=True)  # a constant: what the loss divides by
        self.x = [vector(f"x{n}", d) for n in range(n_samples)]
        self.logits = symbols("a", n_components)
        self.means = [vector(f"mu{k}", d) for k in range(n_components)]
        self.factors = [factor(f"L{k}", d) for k in range(n_components)]
        self.inverse = [(L * L.T).inv() for L in self.factors]
        self.pi = [sp.exp(a) / sum(map(sp.exp, self.logits)) for a in self.logits]
        self.joint = [  # pi_k N(x_n; mu_k, Sigma_k), from (1) and (2)
            [
                self.pi[k]
                * (2 * sp.pi) ** (-sp.Rational(d, 2))
                / sp.prod(self.factors[k][i, i] for i in range(d))
                * sp.exp(-(self.residual(n, k).T * self.inverse[k] * self.residual(n, k))[0] / 2)
                for k in range(n_components)
            ]
            for n in range(n_samples)
        ]
        self.loss = (
            -sum(w * sp.log(sum(row)) for w, row in zip(self.weight, self.joint, strict=True))
            / self.total
        )
        self.share = [  # w_n r_nk
            [w * value / sum(row) for value in row]
            for w, row in zip(self.weight, self.joint, strict=True)
        ]

    def residual(self, n, k):
        return self.x[n] - self.means[k]

    def sums(self, k):
        """n_k, m_k and S_k."""
        share = [self.share[n][k] for n in range(self.N)]
        residual = [self.residual(n, k) for n in range(self.N)]
        zero = sp.zeros(self.D, 1)
        first = sum((s * e for s, e in zip(share, residual, strict=True)), zero)
        second = sum((s * e * e.T for s, e in zip(share, residual, strict=True)), zero * zero.T)
        return sum(share), first, second


SIZES = pytest.mark.parametrize("sizes", [(1, 2, 2), (2, 2, 1), (2, 1, 2)])


@functools.cache
def mixture_of(sizes):
    return Mixture(*sizes)


@proves(16, 26)
@SIZES
def test_gradient_of_the_logits_in_closed_form(sizes):
    mixture = mixture_of(sizes)
    for k in range(mixture.K):
        expected = (sum(mixture.weight) * mixture.pi[k] - mixture.sums(k)[0]) / mixture.total
        assert same(sp.diff(mixture.loss, mixture.logits[k]), expected)


@proves(22, 26)
@SIZES
def test_gradient_of_the_means_in_closed_form(sizes):
    mixture = mixture_of(sizes)
    for k in range(mixture.K):
        expected = -mixture.inverse[k] * mixture.sums(k)[1] / mixture.total
        found = sp.Matrix([sp.diff(mixture.loss, v) for v in mixture.means[k]])
        assert same(found, expected)


@proves(22)
@SIZES
def test_gradient_of_the_samples_in_closed_form(sizes):
    mixture = mixture_of(sizes)
    for n in range(mixture.N):
        expected = sum(
            (
                mixture.share[n][k] * mixture.inverse[k] * mixture.residual(n, k)
                for k in range(mixture.K)
            ),
            sp.zeros(mixture.D, 1),
        )
        found = sp.Matrix([sp.diff(mixture.loss, v) for v in mixture.x[n]])
        assert same(found, expected / mixture.total)


@proves(23, 26)
@SIZES
def test_gradient_of_the_factors_in_closed_form(sizes):
    mixture = mixture_of(sizes)
    for k in range(mixture.K):
        L, inverse = mixture.factors[k], mixture.inverse[k]
        mass, _, second = mixture.sums(k)
        found = by_factor(mixture.loss, L)
        by_23 = mass * inverse_diagonal(L) - tril(inverse * second * inverse * L)
        assert same(found, by_23 / mixture.total)


@proves(25, 26)
@DIMENSIONS
def test_whitened_sums(d):
    """v and M in place of m and S, for any symmetric S and any m."""
    L, first, second = factor("L", d), vector("m", d), symmetric("S", d)
    W = L.inv()
    v, M = W * first, W * second * W.T
    assert same(L * v, first)
    assert same(L * M * L.T, second)
    inverse = (L * L.T).inv()
    assert same(inverse * first, W.T * v)
    assert same(tril(inverse * second * inverse * L), tril(W.T * M))


@SIZES
def test_identities_of_section_4(sizes):
    mixture = mixture_of(sizes)
    loss, d = mixture.loss, mixture.D
    assert vanishes(sum(sp.diff(loss, a) for a in mixture.logits))
    for i in range(d):
        shifted = sum(sp.diff(loss, v[i]) for v in [*mixture.x, *mixture.means])
        assert vanishes(shifted)
    scaled = list(itertools.chain(*mixture.x, *mixture.means))
    scaled += [L[i, j] for L in mixture.factors for i, j in lower_pairs(d)]
    euler = sum(v * sp.diff(loss, v) for v in scaled)
    assert vanishes(euler - d * sum(mixture.weight) / mixture.total)


@proves(24)
@pytest.mark.parametrize("sizes", [(1, 2, 1), (1, 2, 2)])
def test_fishers_identity(sizes):
    mixture = mixture_of(sizes)
    parameters = [*mixture.logits, *mixture.means[0], *mixture.means[1]]
    parameters += [mixture.factors[0][i, j] for i, j in lower_pairs(mixture.D)]
    (joint,) = mixture.joint
    density = sum(joint)
    for theta in parameters:
        right = sum(value / density * sp.diff(sp.log(value), theta) for value in joint)
        assert same(sp.diff(sp.log(density), theta), right)


@proves(27)
def test_em_update_is_where_the_gradient_of_its_objective_vanishes():
    """Two samples, two components, one dimension; weights and responsibilities are symbols."""
    weight, x, share = symbols("w", 2), symbols("x", 2), symbols("c", 2)
    share = [share, [w - c for w, c in zip(weight, share, strict=True)]]  # w r, which add up to w
    old = symbols("mu", 2)
    a, mu, variance = symbols("a", 2), symbols("new", 2), symbols("s", 2)
    total = sum(map(sp.exp, a))
    objective = sum(
        c * (a[k] - sp.log(total) - sp.log(variance[k]) / 2)
        - c * (x[n] - mu[k]) ** 2 / (2 * variance[k])
        for k in range(2)
        for n, c in enumerate(share[k])
    )
    update = {}
    for k in range(2):
        n_k = sum(share[k])
        m_k = sum(c * (x[n] - old[k]) for n, c in enumerate(share[k]))
        S_k = sum(c * (x[n] - old[k]) ** 2 for n, c in enumerate(share[k]))
        update[sp.exp(a[k])] = n_k / sum(weight)
        update[mu[k]] = old[k] + m_k / n_k
        update[variance[k]] = S_k / n_k - (m_k / n_k) ** 2
    for parameter in [*a, *mu, *variance]:
        assert vanishes(sp.diff(objective, parameter).xreplace(update))
        assert not vanishes(sp.diff(objective, parameter))


@proves(27)
@DIMENSIONS
def test_moments_about_a_mean_that_moved(d):
    """The sentence before (27): the sums about mu + delta, and what delta = m / n makes of them."""
    share, e = symbols("c", 2), [vector(f"e{n}", d) for n in range(2)]
    delta = vector("delta", d)
    n = sum(share)
    m, moved_m = sp.zeros(d, 1), sp.zeros(d, 1)
    S, moved_S = sp.zeros(d), sp.zeros(d)
    for c, v in zip(share, e, strict=True):
        m, S = m + c * v, S + c * v * v.T
        moved_m, moved_S = moved_m + c * (v - delta), moved_S + c * (v - delta) * (v - delta).T
    assert same(moved_m, m - n * delta)
    assert same(moved_S, S - m * delta.T - delta * m.T + n * delta * delta.T)
    there = dict(zip(delta, m / n, strict=True))
    assert same(moved_m.xreplace(there), sp.zeros(d, 1))
    assert same(moved_S.xreplace(there), S - m * m.T / n)


# --- section 6: other parameters ----------------------------------------------------------------


def d_covariance(L, d_factor):
    """Equation (28)."""
    half = phi(L.T * d_factor)
    return L.T.inv() * (half + half.T) * L.inv() / 2


@proves(28)
@DIMENSIONS
def test_gradient_of_a_covariance(d):
    """For every change dL: tr(Sigma_bar d(L L^T)) = <L_bar, dL>, and Sigma_bar is symmetric.

    Changes of L and of Sigma correspond one to one, so that this says df = tr(Sigma_bar dSigma).
    """
    L, bar, fixed = factor("L", d), factor("G", d), symmetric("C", d)
    found = d_covariance(L, bar)
    assert same(found, found.T)
    gradient = by_factor((fixed * L * L.T).trace(), L)  # with Sigma_bar held
    there = {fixed[i, j]: found[i, j] for i, j in lower_pairs(d)}
    assert same(gradient.xreplace(there), bar)


@proves(28)
@pytest.mark.parametrize("d", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_gradient_of_the_mixtures_covariances(d):
    L, n, S = factor("L", d), symbols("n"), symmetric("S", d)
    inverse = (L * L.T).inv()
    by_23 = n * inverse_diagonal(L) - tril(inverse * S * inverse * L)
    assert same(d_covariance(L, by_23), (n * inverse - inverse * S * inverse) / 2)


@proves(29)
@DIMENSIONS
def test_log_diagonal_cholesky_vector(d):
    theta, bar = factor("theta", d), factor("G", d)
    L = sp.Matrix(d, d, lambda i, j: sp.exp(theta[i, j]) if i == j else theta[i, j])
    loss = sum(bar[i, j] * L[i, j] for i, j in lower_pairs(d))
    for i, j in lower_pairs(d):
        assert same(sp.diff(loss, theta[i, j]), (L[i, i] if i == j else 1) * bar[i, j])


@proves(30, 31)
@DIMENSIONS
def test_wishart_prior_of_a_precision_factor(d):
    """The gradient, from the Wishart density as the books have it; constants do not count."""
    Q, m = factor("Q", d), symbols("m")
    gamma = sp.Symbol("gamma", positive=True)
    precision, freedom = Q.T * Q, d + m + 1
    scale = sp.eye(d) / gamma**2
    assert same(precision.det(), sp.prod(Q[i, i] ** 2 for i in range(d)))
    log_det = 2 * sum(sp.log(Q[i, i]) for i in range(d))
    log_density = (freedom - d - 1) * log_det / 2 - (scale.inv() * precision).trace() / 2
    expected = m * inverse_diagonal(Q) - gamma**2 * Q
    assert same(by_factor(log_density, Q), expected)
    q = symbols("q", d)
    for i in range(d):
        in_q = log_density.xreplace({Q[i, i]: sp.exp(q[i])})
        by_30 = (Q[i, i] * expected[i, i]).xreplace({Q[i, i]: sp.exp(q[i])})
        assert sp.simplify(sp.diff(in_q, q[i]) - by_30) == 0


@proves(tag_of(r"\bar \sigma_k = \mathrm{tr}"))
@DIMENSIONS
def test_chain_rule_from_full_factors_to_a_family(d):
    """Any function of two factors, here a quadratic one, with the factors tied or restricted."""
    factors = [factor("L0", d), factor("L1", d)]
    couple = [symbols("g", d, d), symbols("b", d, d)]
    loss = sum(
        couple[k][i][j] * L[i, j] + (1 + i + j) * L[i, j] ** 2 * factors[0][i, j]
        for k, L in enumerate(factors)
        for i, j in lower_pairs(d)
    )
    bars = [by_factor(loss, L) for L in factors]
    tied, s, t = factor("T", d), symbols("s", 2, d), symbols("t", 2)
    shared = symbols("u")

    def at(*there):
        pairs = zip(factors, there, strict=True)
        return {L[i, j]: other[i, j] for L, other in pairs for i, j in lower_pairs(d)}

    back = at(tied, tied)
    assert same(by_factor(loss.xreplace(back), tied), (bars[0] + bars[1]).xreplace(back))
    back = at(*(sp.diag(*row) for row in s))
    for k in range(2):
        found = [sp.diff(loss.xreplace(back), v) for v in s[k]]
        assert same(found, [bars[k][i, i].xreplace(back) for i in range(d)])
    back = at(sp.diag(*s[0]), sp.diag(*s[0]))
    found = [sp.diff(loss.xreplace(back), v) for v in s[0]]
    assert same(found, [(bars[0] + bars[1])[i, i].xreplace(back) for i in range(d)])
    back = at(*(v * sp.eye(d) for v in t))
    for k in range(2):
        assert same(sp.diff(loss.xreplace(back), t[k]), bars[k].trace().xreplace(back))
    back = at(shared * sp.eye(d), shared * sp.eye(d))
    traces = (bars[0].trace() + bars[1].trace()).xreplace(back)
    assert same(sp.diff(loss.xreplace(back), shared), traces)


@proves(32)
@DIMENSIONS
def test_log_likelihood_by_a_precision_factor(d):
    """One component's share of Fisher's sum, with the responsibilities held, as (24) says."""
    Q, share = factor("Q", d), symbols("c", 2)
    residuals = [vector(f"e{n}", d) for n in range(2)]
    held = sum(
        (
            c * (sum(sp.log(Q[i, i]) for i in range(d)) - (Q * e).dot(Q * e) / 2)
            for c, e in zip(share, residuals, strict=True)
        ),
        sp.Integer(0),
    )
    S = sum((c * e * e.T for c, e in zip(share, residuals, strict=True)), sp.zeros(d))
    M = sum((c * Q * e * (Q * e).T for c, e in zip(share, residuals, strict=True)), sp.zeros(d))
    assert same(by_factor(held, Q), sum(share) * inverse_diagonal(Q) - tril(Q * S))
    assert same(Q * S, M * Q.T.inv())


@proves(tag_of(r"\bar \sigma_{ki} = \frac{n_k - M_{k,ii}}"))
@DIMENSIONS
def test_gradients_of_the_families_from_whitened_sums(d):
    """What (26) says of the factors that (51) allows, collected by (52); W is 1."""
    masses, moments = symbols("n", 2), [symmetric(f"M{k}", d) for k in range(2)]

    def full(L, k):
        return masses[k] * inverse_diagonal(L) - tril(L.T.inv() * moments[k])

    L = factor("L", d)
    total = moments[0] + moments[1]
    expected = sum(masses) * inverse_diagonal(L) - tril(L.T.inv() * total)
    assert same(full(L, 0) + full(L, 1), expected)
    for k in range(2):
        s, one = symbols(f"s{k}", d), symbols("s")
        found = full(sp.diag(*s), k)
        assert same(
            [found[i, i] for i in range(d)],
            [(masses[k] - moments[k][i, i]) / s[i] for i in range(d)],
        )
        found = full(one * sp.eye(d), k).trace()
        assert same(found, (d * masses[k] - moments[k].trace()) / one)
    s = symbols("s", d)
    found = full(sp.diag(*s), 0) + full(sp.diag(*s), 1)
    expected = [(sum(masses) - total[i, i]) / s[i] for i in range(d)]
    assert same([found[i, i] for i in range(d)], expected)
    one = symbols("s")
    found = sum(full(one * sp.eye(d), k).trace() for k in range(2))
    assert same(found, (d * sum(masses) - total.trace()) / one)


# --- vectors of families, and priors ------------------------------------------------------------


@proves(tag_of(r"\bar \theta = \sigma \bar \sigma"), tag_of(r"\bar \omega = \frac{\bar \sigma}"))
def test_standard_deviations_as_logarithms_and_as_variances():
    sigma, theta, v = sp.symbols("sigma theta v", positive=True)
    loss = 3 * sigma**2 + 1 / sigma
    bar = sp.diff(loss, sigma)
    by_logarithm = sp.diff(loss.subs(sigma, sp.exp(theta)), theta)
    assert same(by_logarithm, (sigma * bar).subs(sigma, sp.exp(theta)))
    by_variance = sp.diff(loss.subs(sigma, sp.sqrt(v)), v)
    assert sp.simplify(by_variance - (bar / (2 * sigma)).subs(sigma, sp.sqrt(v))) == 0


@proves(tag_of(r"\bar Q = - \mathrm{tril} ( L^\top \bar L"))
@DIMENSIONS
def test_gradient_of_an_inverse_factor(d):
    """For <G, L> with any lower triangular G, which has the gradient G with respect to L."""
    Q, G = factor("Q", d), factor("G", d)
    L = Q.inv()
    loss = sum((G[i, j] * L[i, j] for i, j in lower_pairs(d)), sp.Integer(0))
    assert same(by_factor(loss, Q), -tril(L.T * G * L.T))


@proves(tag_of(r"\bar \sigma_i = \frac{\gamma^2}"))
@DIMENSIONS
def test_wishart_prior_of_standard_deviations(d):
    sigma = [sp.Symbol(f"sigma_{i}", positive=True) for i in range(d)]
    gamma, m = sp.Symbol("gamma", positive=True), symbols("m")
    precision, freedom = sp.diag(*(1 / v**2 for v in sigma)), d + m + 1
    log_det = -2 * sum(sp.log(v) for v in sigma)
    assert sp.simplify(sp.log(precision.det()) - log_det) == 0
    # As the books have it, and as the document has it; the rest of both is constant.
    log_density = (freedom - d - 1) * log_det / 2 - (gamma**2 * precision).trace() / 2
    documented = -m * sum(sp.log(v) for v in sigma) - gamma**2 * sum(v**-2 for v in sigma) / 2
    assert same(log_density, documented)
    for v in sigma:
        assert same(sp.diff(log_density, v), gamma**2 / v**3 - m / v)


@proves(tag_of(r"\bar a_k = ( \alpha - 1 )"))
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_dirichlet_prior_of_the_weights(n_components):
    a, alpha = symbols("a", n_components), symbols("alpha")
    total = sum(map(sp.exp, a))
    log_density = (alpha - 1) * sum(v - sp.log(total) for v in a)
    for v in a:
        expected = (alpha - 1) * (1 - n_components * sp.exp(v) / total)
        assert same(sp.diff(log_density, v), expected)


@proves(tag_of(r"\bar \mu_k = - \frac{\mu_k - c}"))
@DIMENSIONS
def test_normal_prior_of_a_mean(d):
    mu, c, s = vector("mu", d), vector("c", d), sp.Symbol("s", positive=True)
    log_density = -(mu - c).dot(mu - c) / (2 * s**2)
    assert same([sp.diff(log_density, v) for v in mu], list(-(mu - c) / s**2))


@proves(tag_of(r"n_k \leftarrow n_k + \alpha - 1"))
@pytest.mark.parametrize("d", [1, 2])
def test_em_update_with_priors_is_where_the_gradient_vanishes(d):
    # Weights: two of them, as a and 1 - a.
    share, alpha, a = symbols("n", 2), symbols("alpha"), sp.Symbol("a", positive=True)
    mass = [n + alpha - 1 for n in share]
    objective = sum(n * sp.log(v) for n, v in zip(share, (a, 1 - a), strict=True))
    objective += (alpha - 1) * (sp.log(a) + sp.log(1 - a))
    assert same(sp.diff(objective, a).subs(a, mass[0] / sum(mass)), 0)
    # A covariance, through its precision P, in which both terms are linear or a log-determinant.
    P, S, n, m = symmetric("P", d), symmetric("S", d), symbols("n"), symbols("m")
    gamma = symbols("gamma")
    log_det = sp.log(P.det())
    objective = (n * log_det - (P * S).trace()) / 2
    objective += (m * log_det - gamma**2 * P.trace()) / 2  # (31): nu - D - 1 = m
    update = ((S + gamma**2 * sp.eye(d)) / (n + m)).inv()
    there = {P[i, j]: update[i, j] for i, j in lower_pairs(d)}
    for i, j in lower_pairs(d):
        assert sp.simplify(sp.diff(objective, P[i, j]).xreplace(there)) == 0
    # A mean.
    mu, b, c, s = vector("mu", d), vector("b", d), vector("c", d), sp.Symbol("s", positive=True)
    objective = -(n * ((mu - b).T * P * (mu - b))[0] + (mu - c).dot(mu - c) / s**2) / 2
    left = (n * P + sp.eye(d) / s**2) * mu
    right = n * P * b + c / s**2
    assert same([sp.diff(objective, v) for v in mu], list(right - left))


# --- sections 10 and 11: the second derivatives -------------------------------------------------


def dotted(symbol):
    """The rate of a symbol along a direction."""
    return sp.Symbol(f"dot_{symbol.name}", real=True)


def dots(value):
    """Rates of the entries of a list or matrix of symbols; of a factor, those of its triangle."""
    if isinstance(value, list):
        return [dots(entry) for entry in value]
    if isinstance(value, sp.MatrixBase):
        return value.applyfunc(lambda entry: dotted(entry) if entry != 0 else entry)
    return dotted(value)


def rate(value):
    """The tangent of an expression, or of each entry of a matrix, if all its symbols move."""
    if isinstance(value, sp.MatrixBase):
        return value.applyfunc(rate)
    value = sp.sympify(value)
    moving = [s for s in value.free_symbols if not s.name.startswith("fixed")]
    return sum((sp.diff(value, s) * dotted(s) for s in moving), sp.Integer(0))


@proves(49)
def test_tangents_by_the_chain_rule_are_derivatives_along_the_direction():
    """Of values, step by step; and of a gradient, where they are the Hessian times it."""
    u, step = symbols("u", 2), sp.Symbol("fixed_step")
    values = [u[0] * u[1], u[0] ** 3 + u[1]]
    v = symbols("v", 2)
    outer = v[0] ** 2 * v[1] + v[1] / v[0]
    back = dict(zip(v, values, strict=True))
    there = {s: s + step * dotted(s) for s in u}

    def along(expression):
        return sp.diff(expression.subs(there, simultaneous=True), step).subs(step, 0)

    rates = {dotted(s): rate(value) for s, value in zip(v, values, strict=True)}
    whole = outer.subs(back)
    assert same(rate(outer).subs(rates).subs(back), along(whole))
    hessian = sp.hessian(whole, u)
    gradient = [sp.diff(whole, s) for s in u]
    assert same([along(g) for g in gradient], hessian * sp.Matrix(dots(u)))


@proves(50)
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_tangent_of_the_weights(n_components):
    a = symbols("a", n_components)
    total = sum(map(sp.exp, a))
    pi = [sp.exp(v) / total for v in a]
    mean = sum(p * d for p, d in zip(pi, dots(a), strict=True))
    for k in range(n_components):
        dot_log_pi = dotted(a[k]) - mean
        assert same(rate(a[k] - sp.log(total)), dot_log_pi)
        assert same(rate(pi[k]), pi[k] * dot_log_pi)


@proves(51, 52)
@DIMENSIONS
def test_tangent_of_the_quadratic_form(d):
    L, x, mu = factor("L", d), vector("x", d), vector("mu", d)
    e = x - mu
    z = L.inv() * e
    assert same(rate(e), dots(x) - dots(mu))
    assert same(L * rate(z), rate(e) - dots(L) * z)
    assert same(rate((e.T * (L * L.T).inv() * e)[0]), 2 * z.dot(rate(z)))


@proves(53)
@DIMENSIONS
def test_tangent_of_the_log_determinant(d):
    L = factor("L", d)
    expected = sum(dots(L)[i, i] / L[i, i] for i in range(d))
    assert same(rate(sum(sp.log(L[i, i]) for i in range(d))), expected)


@proves(54, 60)
def test_tangents_of_the_log_density_and_of_its_backward():
    log_pi, q, h, bars = symbols("p"), symbols("q"), symbols("h"), symbols("tbar", 3)
    found = rate(log_pi - q / 2 - h - sp.log(2 * sp.pi))
    assert same(found, dotted(log_pi) - dotted(q) / 2 - dotted(h))
    assert same(rate(-bars[0] / 2), -dotted(bars[0]) / 2)
    assert same(rate(-sum(bars)), -sum(dots(bars)))


@proves(55, 58)
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_tangents_of_the_logsumexp_and_of_its_backward(n_components):
    t, bar = symbols("t", n_components), symbols("lbar")
    total = sum(map(sp.exp, t))
    resp = [sp.exp(v) / total for v in t]
    dot_l = sum(r * d for r, d in zip(resp, dots(t), strict=True))
    assert same(rate(sp.log(total)), dot_l)
    for k in range(n_components):
        dot_r = resp[k] * (dotted(t[k]) - dot_l)
        assert same(rate(resp[k]), dot_r)
        assert same(rate(resp[k] * bar), dot_r * bar + resp[k] * dotted(bar))
    assert vanishes(sum(map(rate, resp)))


@proves(56, 57)
def test_tangents_of_the_loss_and_of_its_backward():
    weight, total = symbols("fixed_w", 3), symbols("fixed_W")
    log_likelihood, bar = symbols("l", 3), symbols("fbar")
    loss = -sum(w * v for w, v in zip(weight, log_likelihood, strict=True)) / total
    expected = -sum(w / total * dotted(v) for w, v in zip(weight, log_likelihood, strict=True))
    assert same(rate(loss), expected)
    assert same(rate(-weight[0] / total * bar), -weight[0] / total * dotted(bar))


@proves(59)
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_tangent_of_the_backward_of_the_weights(n_components):
    a, bars = symbols("a", n_components), symbols("tbar", 2, n_components)
    total = sum(map(sp.exp, a))
    d_log_pi = [bars[0][k] + bars[1][k] for k in range(n_components)]
    dot_d_log_pi = [dotted(bars[0][k]) + dotted(bars[1][k]) for k in range(n_components)]
    for k in range(n_components):
        assert same(rate(d_log_pi[k]), dot_d_log_pi[k])
        pi = sp.exp(a[k]) / total
        found = rate(d_log_pi[k] - pi * sum(d_log_pi))
        assert same(found, dot_d_log_pi[k] - rate(pi) * sum(d_log_pi) - pi * sum(dot_d_log_pi))


@proves(61)
@DIMENSIONS
def test_tangent_of_the_backward_towards_the_residual(d):
    L, e, bar = factor("L", d), vector("e", d), symbols("qbar")
    z = L.inv() * e
    y = (L * L.T).inv() * e
    assert same(L.T * rate(y), rate(z) - dots(L).T * y)
    assert same(rate(2 * bar * y), 2 * dotted(bar) * y + 2 * bar * rate(y))


@proves(62)
def test_tangent_of_the_backward_of_the_residual():
    bars = symbols("ebar", 2, 3)
    for row in bars:
        assert same(rate(sum(row)), sum(dots(row)))
    for column in zip(*bars, strict=True):
        assert same(rate(-sum(column)), -sum(dots(list(column))))


@proves(63)
@DIMENSIONS
def test_tangent_of_the_backward_towards_the_factor(d):
    L, bars = factor("L", d), symbols("qbar", 2)
    z = [L.inv() * vector(f"e{n}", d) for n in range(2)]
    d_residual = [2 * bar * (L.T.inv() * v) for bar, v in zip(bars, z, strict=True)]
    found = rate(-tril(sum((de * v.T for de, v in zip(d_residual, z, strict=True)), sp.zeros(d))))
    outer = sum(
        (rate(de) * v.T + de * rate(v).T for de, v in zip(d_residual, z, strict=True)),
        sp.zeros(d),
    )
    assert same(found, -tril(outer))
    assert not same(found, -tril(outer + d_residual[0] * z[0].T))


@proves(64)
@DIMENSIONS
def test_tangent_of_the_backward_of_the_log_determinant(d):
    L, bar = factor("L", d), symbols("hbar")
    found = rate(bar * inverse_diagonal(L))
    for i, j in itertools.product(range(d), repeat=2):
        expected = (dotted(bar) - bar * dots(L)[i, i] / L[i, i]) / L[i, i] if i == j else 0
        assert same(found[i, j], expected)


def free_symbols_of(mixture):
    """All that may move: logits, means, the factors' triangles and the samples."""
    found = [*mixture.logits, *itertools.chain(*mixture.means), *itertools.chain(*mixture.x)]
    return found + [L[i, j] for L in mixture.factors for i, j in lower_pairs(mixture.D)]


@pytest.mark.slow
@proves(65, 66)
def test_louis_identity():
    """Each entry of the Hessian, and its product, for two components of one dimension."""
    mixture = mixture_of((1, 2, 1))
    free = free_symbols_of(mixture)
    (joint,) = mixture.joint
    density = sum(joint)
    resp = [value / density for value in joint]
    g = [[sp.diff(sp.log(value), s) for s in free] for value in joint]
    hessian = [[[sp.diff(row, s) for s in free] for row in rows] for rows in g]
    score = [sp.diff(sp.log(density), s) for s in free]
    size = range(len(free))
    for i, j in itertools.combinations_with_replacement(size, 2):
        inside = sum(r * (H[i][j] + v[i] * v[j]) for r, H, v in zip(resp, hessian, g, strict=True))
        assert same(sp.diff(score[i], free[j]), inside - score[i] * score[j])
    moves = dots(free)
    dot_t = [sum(a * b for a, b in zip(v, moves, strict=True)) for v in g]
    mean = sum(r * t for r, t in zip(resp, dot_t, strict=True))
    for i in size:
        found = sum(
            r * (t - mean) * v[i] + r * sum(H[i][j] * moves[j] for j in size)
            for r, t, v, H in zip(resp, dot_t, g, hessian, strict=True)
        )
        assert same(rate(score[i]), found)


@proves(67)
@DIMENSIONS
def test_hessian_of_one_term_along_a_direction(d):
    """Of t_0 of two components: by its definition, and as written out."""
    a, L, x, mu = symbols("a", 2), factor("L", d), vector("x", d), vector("mu", d)
    total = sum(map(sp.exp, a))
    z = L.inv() * (x - mu)
    y = L.T.inv() * z
    term = a[0] - sp.log(total) - z.dot(z) / 2 - sum(sp.log(L[i, i]) for i in range(d))
    gradient = sp.Matrix([sp.diff(term, v) for v in mu])
    assert same(gradient, y)
    dot_z = L.inv() * (dots(x) - dots(mu) - dots(L) * z)
    dot_y = L.T.inv() * (dot_z - dots(L).T * y)
    assert same(rate(gradient), dot_y)
    assert same(rate(sp.Matrix([sp.diff(term, v) for v in x])), -dot_y)
    by_hand = tril(dot_y * z.T + y * dot_z.T)
    by_hand += sp.diag(*(dots(L)[i, i] / L[i, i] ** 2 for i in range(d)))
    assert same(by_factor(term, L), tril(y * z.T) - inverse_diagonal(L))
    assert same(rate(by_factor(term, L)), by_hand)
    pi = [sp.exp(v) / total for v in a]
    mean = sum(p * dotted(v) for p, v in zip(pi, a, strict=True))
    for j in range(2):
        assert same(rate(sp.diff(term, a[j])), -pi[j] * (dotted(a[j]) - mean))


# --- section 14: parts of a mixture --------------------------------------------------------------

# Which of the columns are seen: of two, before and after what is missing, and of three. Rates of
# more than two columns take minutes.
PATTERNS = pytest.mark.parametrize("seen", [(0,), (1,)])


class Seen:
    """What is seen of a row, without the roots in A and R: of R only R^T R and R^T u are needed.

    R^T A^-1 = L_o^T Sigma_oo^-1, since L_o = A R and Sigma_oo = A A^T.
    """

    def __init__(self, seen):
        d = max(len(seen) + 1, seen[-1] + 1)
        self.d, self.seen = d, list(seen)
        self.L, self.x, self.mu = factor("L", d), vector("x", d), vector("mu", d)
        self.rows = self.L[self.seen, :]  # L_o
        self.covariance = self.rows * self.rows.T  # Sigma_oo
        inverse = self.covariance.inv()
        residual = (self.x - self.mu)[self.seen, :]
        self.back = self.rows.T * inverse
        self.z = self.back * residual
        self.projection = sp.eye(d) - self.back * self.rows
        self.term = -(residual.T * inverse * residual)[0] / 2 - sp.log(self.covariance.det()) / 2
        self.B, self.b = self.L.inv() * dots(self.L), self.L.inv() * dots(self.mu)


def rate_without_x(value, row):
    """The tangent where the row stays."""
    return rate(value).subs({dotted(v): 0 for v in row.x})


@pytest.mark.parametrize("seen", [(0,), (1,), (2,), (0, 2)])
def test_given_what_is_seen_the_rest_is_a_projection(seen):
    """(69): the covariance of what is not seen of z, and the regression in units of the data."""
    row = Seen(seen)
    P, gone = row.projection, [i for i in range(row.d) if i not in row.seen]
    assert same(P * P, P)
    assert same(P, P.T)
    assert same(row.rows * P, sp.zeros(len(seen), row.d))
    assert same((row.L * row.z)[row.seen, :], (row.x - row.mu)[row.seen, :])
    whole = row.L * row.L.T
    slope = whole[gone, row.seen] * row.covariance.inv()
    assert same((row.L * row.z)[gone, :], slope * (row.x - row.mu)[row.seen, :])
    rest = whole[gone, gone] - slope * whole[row.seen, gone]
    assert same((row.L * P * row.L.T)[gone, gone], rest)  # (74)


@proves(71)
@PATTERNS
def test_gradient_of_what_is_seen(seen):
    row = Seen(seen)
    pulled = row.L.T.inv() * row.z
    assert same([sp.diff(row.term, v) for v in row.mu], pulled)
    assert same([sp.diff(row.term, v) for v in row.x], -pulled)
    second = row.z * row.z.T + row.projection
    by_hand = tril(row.L.T.inv() * second) - inverse_diagonal(row.L)
    assert same(by_factor(row.term, row.L), by_hand)
    short = tril(row.L.T.inv() * row.z * row.z.T) - inverse_diagonal(row.L)
    assert not same(by_factor(row.term, row.L), short)


@proves(72)
@PATTERNS
def test_marginal_along_a_direction(seen):
    """Of A by its covariance, whose rate determines that of A; of t with R^T u and R^T R."""
    row = Seen(seen)
    twice = row.B + row.B.T
    # A Phi(X) A^T and its transpose add up to A X A^T, with X = R (B + B^T) R^T and A R = L_o.
    assert same(rate(row.covariance), row.rows * twice * row.rows.T)
    assert same(rate(row.mu[row.seen, :]), row.rows * row.b)
    trace = (row.B * (sp.eye(row.d) - row.projection)).trace()
    by_hand = (row.z.T * (row.B * row.z + row.b))[0] - trace
    assert same(rate_without_x(row.term, row), by_hand)
    x = symmetric("X", row.d)
    assert same(phi(x) + phi(x).T, x)


@proves(73)
@PATTERNS
def test_rates_of_expected_moments(seen):
    """And with them Louis' identity: rates of what stands in the gradient (71)."""
    row = Seen(seen)
    z, P, twice = row.z, row.projection, row.B + row.B.T
    c = P * (twice * z + row.b)
    both = c * z.T + z * c.T + P * twice * P
    second = z * z.T + P
    assert same(rate_without_x(z, row), c - (row.B * z + row.b))
    drift = row.B * second + row.b * z.T
    assert same(rate_without_x(second, row), both - drift - drift.T)


# --- all of them --------------------------------------------------------------------------------


def gradient_equations(blocks):
    """Numbers of the equations in which a derivative stands."""
    found = set()
    for block in blocks:
        if re.search(r"\\bar|\\overline|\\partial|\\nabla|\\dot(?!s)", block):
            found.update(int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", block))
    return found


def test_every_gradient_equation_of_the_document_is_proved():
    wanted = gradient_equations(MATH_BLOCKS)
    assert wanted >= {*range(13, 14), *range(15, 24), 24, 26, 28, 29, *range(49, 68), 71, 72, 73}
    assert sorted(wanted - set(PROVED)) == []
    assert gradient_equations([r"\bar u = v \tag{99}", r"u = v \tag{98}"]) == {99}
