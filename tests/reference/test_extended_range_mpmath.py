"""The reference against multiple precision where intermediates leave the range of a double."""

import math

import mpmath as mp
import numpy as np
import pytest

from gmm_np.reference import nll_backward, nll_forward

pytestmark = pytest.mark.needs_extras

# The square of a quotient of doubles of either end is 1e1264, and correlations divide by the
# diagonal once more for each dimension; what is left has 30 digits and more.
DIGITS = 3000
LARGEST = mp.mpf(float(np.finfo(float).max))
TINY = mp.mpf(5e-324)
# Ninety roundings of 1.1e-16, relative to the sum of the magnitudes of all addends.
TOLERANCE = 1e-14
# Underflow is gradual: whatever its size, an intermediate is rounded to a multiple of 5e-324. As a
# magnitude of which TOLERANCE makes that error:
GRADUAL = TINY / TOLERANCE


class Sum:
    """A number, and how far rounding its addends, each by a relative error, may move it."""

    def __init__(self):
        self.value, self.size, self.lost = mp.mpf(0), mp.mpf(0), mp.mpf(0)

    def add(self, value, size, lost=0):
        self.value += value
        self.size += size
        self.lost += lost


def exact(x, pi_logits, means, scale_tril, weight=None, reduction="mean", d_value=1.0):
    """Value and gradients (pi_logits, means, scale, x) as arrays of `Sum`.

    Along the way `*_size` are sums of magnitudes: what substitution and subtraction may lose to
    cancellation. A responsibility below 1e-290 may be taken for zero: `lost`.
    """
    n_samples, d = np.shape(x)
    components = [k for k, a in enumerate(pi_logits) if a != -math.inf]
    X = [[mp.mpf(float(v)) for v in row] for row in x]
    M = [[mp.mpf(float(v)) for v in row] for row in means]
    F = [[[mp.mpf(float(v)) for v in row] for row in factor] for factor in scale_tril]
    w = [mp.mpf(1)] * n_samples if weight is None else [mp.mpf(float(v)) for v in weight]
    d_out = [mp.mpf(float(v)) for v in np.broadcast_to(d_value, n_samples)]
    total = mp.fsum(w) if reduction == "mean" else mp.mpf(1)

    log_pi = _log_softmax({k: mp.mpf(float(pi_logits[k])) for k in components})
    losses = [Sum() for _ in range(n_samples)]
    gradients = tuple(
        np.vectorize(lambda _: Sum(), otypes=[object])(np.zeros(shape))
        for shape in (len(pi_logits), np.shape(means), np.shape(scale_tril), np.shape(x))
    )
    d_logits, d_means, d_factors, d_x = gradients
    for n in range(n_samples):
        z, z_size, pull, pull_size, t, t_size = {}, {}, {}, {}, {}, {}
        for k in components:
            L = F[k]
            z[k], z_size[k] = [], []
            for i in range(d):
                e = X[n][i] - M[k][i]
                z[k].append((e - mp.fsum(L[i][j] * z[k][j] for j in range(i))) / L[i][i])
                size = abs(e) + mp.fsum(abs(L[i][j]) * z_size[k][j] for j in range(i))
                z_size[k].append(size / L[i][i] + GRADUAL)
            pull[k], pull_size[k] = [mp.mpf(0)] * d, [mp.mpf(0)] * d
            for i in reversed(range(d)):
                rest = mp.fsum(L[j][i] * pull[k][j] for j in range(i + 1, d))
                pull[k][i] = (z[k][i] - rest) / L[i][i]
                rest = mp.fsum(abs(L[j][i]) * pull_size[k][j] for j in range(i + 1, d))
                pull_size[k][i] = (z_size[k][i] + rest) / L[i][i] + GRADUAL
            logs = [_log(L[i][i]) for i in range(d)] + [d * _log(2 * mp.pi) / 2]
            q = mp.fsum(v * v for v in z[k])
            t[k] = log_pi[k] - q / 2 - mp.fsum(logs)
            t_size[k] = abs(log_pi[k]) + mp.fsum(v * v for v in z_size[k]) / 2
            t_size[k] += mp.fsum(abs(v) for v in logs)
        log_likelihood = _logsumexp(t)
        r = {k: _exp(t[k] - log_likelihood) for k in components}
        losses[n].add(-w[n] * log_likelihood, w[n] * mp.fsum(r[k] * t_size[k] for k in components))
        c = w[n] * d_out[n] / total
        for k in components:
            # dr_k = r_k ((1 - r_k) dt_k - sum_{j != k} r_j dt_j)
            others = mp.fsum(r[j] for j in components if j != k)
            moved = others * t_size[k] + mp.fsum(r[j] * t_size[j] for j in components if j != k)
            lost = abs(c) if r[k] < 1e-290 else 0
            share, size = c * r[k], abs(c) * r[k] * (1 + moved)
            pi = _exp(log_pi[k])
            d_logits[k].add(c * pi - share, abs(c) * pi + size)
            for i in range(d):
                step, step_size = pull[k][i], pull_size[k][i]
                d_means[k, i].add(-share * step, size * step_size, lost * step_size * r[k])
                d_x[n, i].add(share * step, size * step_size, lost * step_size * r[k])
                for j in range(i + 1):
                    both = (size * step_size + GRADUAL) * z_size[k][j]
                    lost_here = lost * step_size * r[k] * z_size[k][j]
                    d_factors[k, i, j].add(-share * step * z[k][j], both, lost_here)
                d_factors[k, i, i].add(share / F[k][i][i], size / F[k][i][i], 0)
    if reduction == "none":
        return np.array(losses), gradients
    value = Sum()
    for loss in losses:
        value.add(loss.value / total, loss.size / total)
    return np.array(value), gradients


def _log(v):
    with mp.workdps(60):
        return mp.log(v)


def _exp(v):
    """Exponential to sixty digits; whatever is below 1e-434294 is beyond multiplying back."""
    with mp.workdps(60):
        return mp.exp(v) if v > -(10**6) else mp.mpf(0)


def _logsumexp(terms):
    top = max(terms.values())
    return top + _log(mp.fsum(_exp(t - top) for t in terms.values()))


def _log_softmax(logits):
    total = _logsumexp(logits)
    return {k: a - total for k, a in logits.items()}


def wrong_entries(got, expected, block):
    """Say which entries are NaN, not the infinity that they should be, or too far off."""
    got, expected = np.asarray(got, dtype=float), np.asarray(expected)
    assert got.shape == expected.shape, block
    wrong = []
    for index, value in np.ndenumerate(got):
        true = expected[index]
        allowed = TOLERANCE * true.size + true.lost + 4 * TINY
        if math.isnan(value):
            fine = False
        elif math.isinf(value):
            sign_is_known = abs(true.value) > allowed
            fine = abs(true.value) + allowed > LARGEST
            fine &= (value > 0) == (true.value > 0) or not sign_is_known
        elif abs(true.value) - allowed > LARGEST:
            fine = False
        else:
            fine = abs(mp.mpf(float(value)) - true.value) <= allowed
        if not fine:
            with mp.workdps(30):
                wanted = mp.nstr(+true.value, 17)
            wrong.append(f"{block}{list(index)}: got {float(value)!r}, expected {wanted}")
    return wrong


def wrong_results(arguments, sample_weight=None, reduction="mean", d_value=1.0, digits=DIGITS):
    value, cache = nll_forward(*arguments, sample_weight=sample_weight, reduction=reduction)
    gradients = nll_backward(cache, d_value)
    with mp.workdps(digits):
        expected_value, expected = exact(*arguments, sample_weight, reduction, d_value)
        wrong = wrong_entries(value, expected_value, "value")
        for block, got, true in zip(gradients._fields, gradients, expected, strict=True):
            wrong += wrong_entries(got, true, block)
    return wrong


def one(scale):
    return [[[scale]]]


def diagonal(*values):
    return [np.diag(values)]


CASES = {
    "1e200 sigma": ([[1e200]], [0.0], [[0.0]], one(1.0)),
    "1e150 over 1e-150": ([[1e150]], [0.0], [[0.0]], one(1e-150)),
    "1e-150 over 1e150": ([[1e-150]], [0.0], [[0.0]], one(1e150)),
    "1e308 over 5e-324": ([[1e308]], [0.0], [[0.0]], one(5e-324)),
    "factor 1e-309": ([[1e-309], [0.0]], [0.0], [[3e-309]], one(2e-309)),
    "factor 1e-309, correlated": (
        [[1e-309, 2e-310], [0.0, 3e-309]],
        [0.0],
        [[3e-309, 0.0]],
        [[[2e-309, 0.0], [1.5e-309, 3.1e-309]]],
    ),
    "factor 5e-324": ([[5e-324], [0.0]], [0.0], [[1e-323]], one(5e-324)),
    "factor 5e-324, far": ([[1e-300], [1.0]], [0.0], [[1e-323]], one(5e-324)),
    "factor 1e308": ([[1.7e308], [1e307]], [0.0], [[-1.7e308]], one(1.3e308)),
    "factor 1e308, correlated": (
        [[1.7e308, -1.1e308], [1e307, 3e307]],
        [0.0],
        [[-1.7e308, 1e308]],
        [[[1.3e308, 0.0], [0.7e308, 1.71e308]]],
    ),
    "residual beyond the range": ([[1.7e308]], [0.0], [[-1.7e308]], one(1.0)),
    "residual beyond the range, two components": (
        [[1.7e308]],
        [0.0, 1.0],
        [[-1.7e308], [1.7e308]],
        [[[1.0]], [[1e308]]],
    ),
    "both scales in one component": (
        [[1e150, 1e-150], [2e150, 3e-150]],
        [0.0],
        [[0.0, 0.0]],
        diagonal(1e150, 1e-150),
    ),
    "both scales in one model": (
        [[1e150], [1e-150], [2e150], [3e-150]],
        [0.0, 0.5],
        [[0.0], [1e150]],
        [[[1e-150]], [[1e150]]],
    ),
    "both scales in one model and one component": (
        [[1e150, 1e-150], [2e-150, 3e150]],
        [0.0, 0.5],
        [[0.0, 0.0], [0.0, 1e150]],
        [np.diag([1e150, 1e-150]), np.array([[1e-150, 0.0], [1e150, 1e150]])],
    ),
    "one direction beyond the range": (
        [[1.0, 1e200]],
        [0.0],
        [[0.0, 0.0]],
        diagonal(1.0, 1e-200),
    ),
    "one direction beyond the range, two components": (
        [[1.0, 1e200], [2.0, -1e200]],
        [0.0, 1.0],
        [[0.0, 0.0], [0.5, -1e200]],
        [np.diag([1.0, 1e-200]), np.diag([2.0, 1e-190])],
    ),
    "steep factor": ([[1.0, 1.0]], [0.0], [[0.0, 0.0]], [[[1.0, 0.0], [1e200, 1e-200]]]),
    "steep factor at zero": ([[0.0, 1.0]], [0.0], [[0.0, 0.0]], [[[1.0, 0.0], [1e200, 1e-200]]]),
    "tie": ([[0.0]], [0.0, 1.0], [[-1e200], [1e200]], [[[1.0]], [[1.0]]]),
    "tie of three": (
        [[0.0, 0.0]],
        [0.0, 1.0, -1.0],
        [[-1e200, 0.0], [1e200, 0.0], [0.0, 1e200]],
        [np.eye(2)] * 3,
    ),
    "tie in sigmas": ([[0.0]], [0.0, 1.0], [[-1e200], [2e200]], [[[1.0]], [[2.0]]]),
    "tie of one that is off": (
        [[0.0]],
        [0.0, -math.inf, 0.5],
        [[-1e200], [1e200], [1e200]],
        [[[1.0]]] * 3,
    ),
    "nearly a tie": ([[1e200]], [0.0, 3.0], [[1e187], [0.0]], [[[1.0]], [[1.0]]]),
    "infinities that pull apart": (
        [[0.0], [0.0]],
        [0.0, 0.0],
        [[-1e-100], [1e-100]],
        [[[1e-260]], [[1e-260]]],
    ),
    "infinities of two samples": ([[-1e200], [1e200]], [0.0], [[0.0]], one(1e-200)),
    "infinities of two samples, uneven": ([[-1e200], [1.0000001e200]], [0.0], [[0.0]], one(1e-200)),
    "logits of 1e308": ([[1.0]], [1.7e308, -1.7e308], [[0.0], [1.0]], [[[1.0]], [[1.0]]]),
    "saturated by logits, far": (
        [[1e200], [1.0]],
        [0.0, -1e4],
        [[0.0], [1e190]],
        [[[1.0]], [[1.0]]],
    ),
    "component of no share, pulling at 1e300": (
        [[0.0], [1.0]],
        [0.0, 0.0],
        [[0.0], [1e-100]],
        [[[1.0]], [[1e-200]]],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_entry_is_right_or_the_infinity_of_its_sign(case):
    wrong = wrong_results(CASES[case])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", ["1e200 sigma", "both scales in one model", "tie of three"])
def test_weights_and_reductions_are_right_beyond_the_range(case, reduction):
    rng = np.random.default_rng(7)
    n_samples = len(CASES[case][0])
    weight = rng.uniform(0.5, 2.0, size=n_samples)
    d_value = rng.normal(size=n_samples if reduction == "none" else ())
    wrong = wrong_results(CASES[case], weight, reduction, d_value)
    assert not wrong, "\n".join(wrong)


def random_wide(seed, largest_exponent):
    """Every number of its own magnitude; half of the problems without correlations."""
    rng = np.random.default_rng(seed)
    n_samples, n_components, d = rng.integers(1, 4, size=3)

    def draw(*shape):
        magnitude = 10.0 ** rng.uniform(-largest_exponent, largest_exponent, size=shape)
        return rng.choice([-1.0, 1.0], size=shape) * rng.uniform(1, 10, size=shape) * magnitude

    factors = np.tril(draw(n_components, d, d))
    factors[:, range(d), range(d)] = np.abs(factors[:, range(d), range(d)])
    if seed % 2:
        factors *= np.eye(d)
    return draw(n_samples, d), rng.normal(size=n_components), draw(n_components, d), factors


@pytest.mark.parametrize("largest_exponent", [30, 100, 200, 300])
def test_random_magnitudes_are_right_or_the_infinity_of_their_sign(largest_exponent):
    wrong = []
    for seed in range(60):
        # Two quotients of up to largest_exponent each for a dimension, three of them, squared.
        digits = 200 + 16 * largest_exponent
        found = wrong_results(random_wide(seed, largest_exponent), digits=digits)
        wrong += [f"seed {seed}: {entry}" for entry in found]
    assert not wrong, f"{len(wrong)} entries, for instance\n" + "\n".join(wrong[:20])


def test_judge_agrees_with_the_definition_by_hand():
    # nll = (x - m)^2 / (2 s^2) + log s + log(2 pi) / 2 at x - m = 3, s = 2.
    with mp.workdps(50):
        value, (d_logits, d_means, d_scale, d_x) = exact([[4.0]], [0.0], [[1.0]], one(2.0))
        expected = mp.mpf(9) / 8 + mp.log(2) + mp.log(2 * mp.pi) / 2
        assert abs(value.item().value - expected) < mp.mpf(10) ** -45
        assert d_logits[0].value == 0
        assert d_means[0, 0].value == mp.mpf(-3) / 4
        assert d_scale[0, 0, 0].value == mp.mpf(1) / 2 - mp.mpf(9) / 8
        assert d_x[0, 0].value == mp.mpf(3) / 4


def test_judge_rejects_nan_a_wrong_sign_and_a_missing_infinity():
    true = Sum()
    true.add(mp.mpf(10) ** 400, mp.mpf(10) ** 400)
    for got in (math.nan, -math.inf, 1e300, 0.0):
        assert wrong_entries([got], [true], "x")
    assert not wrong_entries([math.inf], [true], "x")
    true = Sum()
    true.add(mp.mpf(1), mp.mpf(1))
    for got in (math.nan, math.inf, -1.0, 0.0, 1 + 1e-13):
        assert wrong_entries([got], [true], "x")
    assert not wrong_entries([1.0], [true], "x")
