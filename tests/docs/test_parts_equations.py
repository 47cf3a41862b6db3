"""Every equation with a derivative in docs/parts.md, proved by SymPy for small N, K and D.

As in `test_derivation_symbolic`, whose tools these are. Numbers in parentheses are equations.
"""

import re

import pytest
import sympy as sp
from checkout import ROOT
from test_derivation_symbolic import (
    by_factor,
    factor,
    same,
    symbols,
    symmetric,
    tril,
    vector,
)

pytestmark = pytest.mark.needs_extras

TEXT = (ROOT / "docs" / "parts.md").read_text(encoding="utf-8")
TAGS = [int(tag) for tag in re.findall(r"\\tag\{P(\d+)\}", TEXT)]
# Definitions, and equations that only name the terms of others.
WITHOUT_A_DERIVATIVE = {1, 2, 4, *range(7, 11), *range(13, 20), 22}
PROVED = {}  # equation -> the tests that prove it


def proves(*equations):
    def register(test):
        for equation in equations:
            PROVED.setdefault(equation, []).append(test.__name__)
        return test

    return register


# --- some columns given the others --------------------------------------------------------------


def whitened(row, mean, matrix):
    return matrix.LUsolve(row - mean)


def both_parts(z, matrix, n_given):
    """The terms s and v of (P1), without log pi and the constants."""
    s = sum(-(z[i] ** 2) / 2 - sp.log(matrix[i, i]) for i in range(n_given))
    v = sum(-(z[i] ** 2) / 2 - sp.log(matrix[i, i]) for i in range(n_given, len(z)))
    return s, v


def moments(weights, z):
    """m - M of (P5) for one sample: weights of each coordinate, and whitened residuals."""
    low = tril(sp.diag(*weights) * z * z.T)
    return sp.diag(*weights) - low - low.T + sp.diag(*low.diagonal())


@proves(3, 5)
@pytest.mark.parametrize("n_given", [1, 2])
def test_gradients_of_one_weighted_term(n_given):
    """(P5), of alpha s + beta v in place of a sum over components: what they weigh is any."""
    d = 3
    row, mean, matrix = vector("x", d), vector("mu", d), factor("L", d)
    alpha, beta = symbols("alpha"), symbols("beta")
    z = whitened(row, mean, matrix)
    s, v = both_parts(z, matrix, n_given)
    weights = [alpha] * n_given + [beta] * (d - n_given)
    zeta = sp.diag(*weights) * z
    value = -(alpha * s + beta * v)  # the loss
    transposed = matrix.T.inv()
    assert same([sp.diff(value, m) for m in mean], -transposed * zeta)
    assert same([sp.diff(value, x) for x in row], transposed * zeta)
    assert same(by_factor(value, matrix), tril(transposed * moments(weights, z)))


@proves(3, 5)
def test_weights_of_both_parts():
    """(P3): the terms of the joint by r, less those of the given columns by rho; and the logits."""
    k = 3
    a, s, v, rate_s, rate_v = (symbols(name, k) for name in ("a", "s", "v", "ds", "dv"))
    step = symbols("step")
    total = sum(map(sp.exp, a))
    given = [sp.exp(a[j] + s[j] + step * rate_s[j]) / total for j in range(k)]
    joint = [given[j] * sp.exp(v[j] + step * rate_v[j]) for j in range(k)]
    value = sp.log(sum(joint)) - sp.log(sum(given))
    rho, r = (
        [term.subs(step, 0) / sum(part).subs(step, 0) for term in part] for part in (given, joint)
    )
    slope = sp.diff(value, step).subs(step, 0)
    assert same(slope, sum((r[j] - rho[j]) * rate_s[j] + r[j] * rate_v[j] for j in range(k)))
    here = value.subs(step, 0)
    assert same([sp.diff(here, logit) for logit in a], [r[j] - rho[j] for j in range(k)])
    assert same(sum(r[j] - rho[j] for j in range(k)), 0)


@proves(6)
def test_gradient_of_a_factor_before_its_columns_change_places():
    """Columns of two dimensions swapped: the factor after QR is known in closed form."""
    row, matrix = vector("x", 2), factor("L", 2)
    alpha, beta = symbols("alpha"), symbols("beta")
    swap = sp.Matrix([[0, 1], [1, 0]])
    covariance = swap * matrix * matrix.T * swap
    # With one column given: x by its own variance, y by what is left.
    first = row[1] ** 2 / covariance[0, 0]
    rest = covariance[1, 1] - covariance[1, 0] ** 2 / covariance[0, 0]
    second = (row[0] - covariance[1, 0] / covariance[0, 0] * row[1]) ** 2 / rest
    s = -first / 2 - sp.log(covariance[0, 0]) / 2
    v = -second / 2 - (2 * sp.log(matrix.det()) - sp.log(covariance[0, 0])) / 2
    found = by_factor(-(alpha * s + beta * v), matrix)
    # L' and U: a positive root of the first variance, which SymPy is given as a symbol.
    root = sp.Symbol("root", positive=True)
    other = sp.Matrix([[root, 0], [covariance[1, 0] / root, matrix.det() / root]])
    z = whitened(swap * row, sp.zeros(2, 1), other)
    turn = other.inv() * swap * matrix
    inside = turn.T * moments([alpha, beta], z) * turn
    stated = tril(matrix.T.inv() * inside)
    difference = (found - stated).subs(root, sp.sqrt(covariance[0, 0]))
    assert all(sp.simplify(entry) == 0 for entry in difference)


# --- rows with errors of their own --------------------------------------------------------------


@proves(11, 12)
@pytest.mark.parametrize("d", [1, 2])
def test_gradients_with_noise(d):
    """Of one term; by its covariance, in which F and H need no closed form."""
    row, mean, matrix = vector("x", d), vector("mu", d), factor("L", d)
    total = matrix * matrix.T + symmetric("S", d)
    inverse, residual = total.inv(), row - mean
    loss = (residual.T * inverse * residual)[0] / 2 + sp.log(total.det()) / 2
    pulled = inverse * residual
    assert same([sp.diff(loss, m) for m in mean], -pulled)
    assert same([sp.diff(loss, x) for x in row], pulled)
    # (P10): z = H^T F^-1 e = L^T T^-1 e, and H^T H = L^T T^-1 L.
    true = matrix.T * pulled
    second = true * true.T + sp.eye(d) - matrix.T * inverse * matrix
    stated = tril(matrix.T.inv() * (sp.eye(d) - second))
    assert same(by_factor(loss, matrix), stated)


@pytest.mark.parametrize("d", [1, 2])
def test_true_values_given_a_row(d):
    """(P10), from the joint normal distribution of true value and row."""
    matrix, added, residual = factor("L", d), symmetric("S", d), vector("e", d)
    own = matrix * matrix.T
    inverse, unit = (own + added).inv(), matrix.inv()
    assert same(unit * own * inverse * residual, matrix.T * inverse * residual)
    spread = unit * (own - own * inverse * own) * unit.T
    assert same(spread, sp.eye(d) - matrix.T * inverse * matrix)


# --- distances ----------------------------------------------------------------------------------


@proves(20)
def test_both_steps_of_the_variational_bound_are_stationary():
    """By Lagrange: each derivative is the same for all entries whose sum is fixed."""
    k, j = 2, 2
    d, psi, phi = (
        sp.Matrix(k, j, [sp.Symbol(f"{name}{i}", positive=True) for i in range(4)])
        for name in ("d", "psi", "phi")
    )
    weights = [sp.Symbol(f"pi{i}", positive=True) for i in range(k)]
    others = [sp.Symbol(f"omega{i}", positive=True) for i in range(j)]

    def bound(phi, psi):
        return sum(
            phi[a, b] * (sp.log(phi[a, b]) - sp.log(psi[a, b]) + d[a, b])
            for a in range(k)
            for b in range(j)
        )

    value = bound(phi, psi)
    for a in range(k):  # sum_j phi_kj = pi_k
        total = sum(psi[a, b] * sp.exp(-d[a, b]) for b in range(j))
        best = {phi[a, b]: weights[a] * psi[a, b] * sp.exp(-d[a, b]) / total for b in range(j)}
        slopes = [sp.expand_log(sp.diff(value, phi[a, b]).subs(best)) for b in range(j)]
        assert sp.simplify(slopes[0] - slopes[1]) == 0
    for b in range(j):  # sum_k psi_kj = omega_j
        total = sum(phi[a, b] for a in range(k))
        best = {psi[a, b]: others[b] * phi[a, b] / total for a in range(k)}
        slopes = [sp.diff(value, psi[a, b]).subs(best) for a in range(k)]
        assert sp.simplify(slopes[0] - slopes[1]) == 0


@proves(21)
def test_cost_of_merging_is_that_of_two_normal_densities():
    """(P21) is pi_i d_i + pi_j d_j, of each component from the merged one, in one dimension."""
    wi, wj, si, sj = (sp.Symbol(name, positive=True) for name in ("wi", "wj", "si", "sj"))
    gap = sp.Symbol("gap", real=True)
    total = wi + wj
    merged = (wi * si + wj * sj) / total + wi * wj * gap**2 / total**2

    def divergence(variance, step):
        return (variance / merged + step**2 / merged - 1 + sp.log(merged) - sp.log(variance)) / 2

    each = wi * divergence(si, gap * wj / total) + wj * divergence(sj, gap * wi / total)
    cost = (total * sp.log(merged) - wi * sp.log(si) - wj * sp.log(sj)) / 2
    assert sp.simplify(sp.expand(each - cost)) == 0


# --- the document -------------------------------------------------------------------------------


def test_numbers_are_consecutive_from_one():
    assert list(range(1, len(TAGS) + 1)) == TAGS
    assert len(TAGS) >= 8


def test_every_equation_with_a_derivative_is_proved():
    assert set(TAGS) == set(PROVED) | WITHOUT_A_DERIVATIVE
    assert not set(PROVED) & WITHOUT_A_DERIVATIVE


def test_equations_and_code_cite_each_other():
    """Every number stands in the package, and every number there in the document."""
    source = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "gmm_np").rglob("*.py"))
    cited = {int(n) for n in re.findall(r"\(P(\d+)\)", source)}
    for first, last in re.findall(r"\(P(\d+)\) to \(P(\d+)\)", source):
        cited.update(range(int(first), int(last) + 1))
    assert cited == set(TAGS)


def test_the_example_runs():
    """And its mode is on a branch, where its mean is between both."""
    names = {}
    for code in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        exec(code, names)
    found = names["found"]
    assert abs(found.mean[1, 0]) < 1.0
    assert abs(abs(found.mode[1, 0]) - 2.0) < 0.3
    rows = names["rows"]
    given, joint = (names[n].score_samples_given(rows, 0).mean() for n in ("to_predict", "joint"))
    assert given >= joint
