"""Properties that hold for every mixture, tried on those that hypothesis makes up."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gmm_np.reference import (
    log_softmax_backward,
    log_softmax_forward,
    logsumexp_forward,
    nll_backward,
    nll_forward,
)

pytestmark = pytest.mark.needs_extras

# Reproducible: the same examples in each run, no limit on the time of one.
PROPERTY = settings(
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)


def floats(low, high):
    # Without subnormal numbers: they have fewer digits, and tests of their own.
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


@st.composite
def mixtures(draw, largest=10.0, off=False):
    """Arguments of `nll_forward`: up to 8 samples, 5 components and 4 dimensions.

    Standard deviations from 0.1 to 10; with `off`, some components may be switched off.
    """
    n_samples, n_components, d = draw(
        st.tuples(st.integers(1, 8), st.integers(1, 5), st.integers(1, 4))
    )
    x = draw(arrays(float, (n_samples, d), elements=floats(-largest, largest)))
    logits = draw(arrays(float, n_components, elements=floats(-30.0, 30.0)))
    if off:
        is_off = draw(arrays(bool, n_components, elements=st.booleans()))
        is_off[draw(st.integers(0, n_components - 1))] = False
        logits = np.where(is_off, -np.inf, logits)
    means = draw(arrays(float, (n_components, d), elements=floats(-largest, largest)))
    factors = np.tril(draw(arrays(float, (n_components, d, d), elements=floats(-1.0, 1.0))), -1)
    logs = draw(arrays(float, (n_components, d), elements=floats(-2.3, 2.3)))
    factors += np.exp(logs)[:, :, None] * np.eye(d)
    return x, logits, means, factors


def weights(n_samples):
    return arrays(float, n_samples, elements=st.floats(2.0**-10, 2.0**10))


def rounding(cache):
    """How far rounding may move the joint log density of any sample and component.

    A substitution is as accurate as the condition of its factor, a dozen roundings long; squared
    distances are relative to their size, and all else to one.
    """
    size = 1.0
    for factor, z in zip(cache.scale_tril, cache.z, strict=True):
        largest = float((z**2).sum(axis=1).max())
        size = max(size, condition([factor]) * largest)
    return 1e-15 * size


def condition(factors):
    return max(np.linalg.norm(np.linalg.inv(f)) * np.linalg.norm(f) for f in factors)


def pull_size(cache):
    """Largest entry of any Sigma^-1 e and of its product with z, whatever its share."""
    sizes = [1.0]
    for factor, z in zip(cache.scale_tril, cache.z, strict=True):
        inverse = np.linalg.inv(factor)
        pull = np.abs(z @ inverse).max()
        sizes += [pull, pull * np.abs(z).max(), np.abs(inverse).max()]
    return float(max(sizes))


@PROPERTY
@given(mixtures(off=True))
def test_responsibilities_are_probabilities(arguments):
    _, cache = nll_forward(*arguments)
    assert ((cache.resp >= 0) & (cache.resp <= 1)).all()
    # Up to five quotients of a rounded sum.
    np.testing.assert_allclose(cache.resp.sum(axis=1), 1.0, rtol=1e-15)
    assert not cache.resp[:, np.isneginf(arguments[1])].any()
    assert cache.pi.sum() == pytest.approx(1.0, rel=1e-15, abs=0)


@PROPERTY
@given(arrays(float, st.integers(1, 8), elements=floats(-700.0, 700.0)), floats(-1e6, 1e6))
def test_logsumexp_of_shifted_terms_is_shifted(terms, shift):
    value, softmax = logsumexp_forward(terms)
    moved, moved_softmax = logsumexp_forward(terms + shift)
    # The sum terms + shift is rounded at the size of what is added.
    size = np.abs(terms).max() + abs(shift) + 1.0
    assert abs(moved - (value + shift)) <= 4e-16 * size
    np.testing.assert_allclose(moved_softmax, softmax, rtol=1e-15 * size, atol=1e-300)


@PROPERTY
@given(arrays(float, st.integers(1, 8), elements=floats(-1e300, 1e300)))
def test_logsumexp_lies_between_the_largest_term_and_that_plus_log_k(terms):
    value, softmax = logsumexp_forward(terms)
    assert terms.max() <= value <= (terms.max() + math.log(terms.size)) + 1e-15 * abs(value)
    assert softmax.sum() == pytest.approx(1.0, rel=1e-15, abs=0)
    assert softmax[terms.argmax()] == softmax.max()


@PROPERTY
@given(
    arrays(float, 5, elements=floats(-50.0, 50.0)), arrays(float, 5, elements=floats(-50.0, 50.0))
)
def test_log_softmax_gradient_sums_to_zero(logits, d_log_pi):
    log_pi, pi = log_softmax_forward(logits)
    assert (log_pi <= 0).all()
    gradient = log_softmax_backward(d_log_pi, pi)
    assert abs(gradient.sum()) <= 4e-15 * np.abs(d_log_pi).sum()


@PROPERTY
@given(mixtures(off=True), st.randoms(use_true_random=False))
def test_value_and_gradients_do_not_depend_on_the_order_of_rows(arguments, random):
    x, *mixture = arguments
    order = list(range(len(x)))
    random.shuffle(order)
    each, cache = nll_forward(x, *mixture, reduction="none")
    moved, moved_cache = nll_forward(x[order], *mixture, reduction="none")
    tolerance = rounding(cache)
    np.testing.assert_allclose(moved, each[order], rtol=0, atol=tolerance)
    gradients = nll_backward(cache, np.ones(len(x)))
    moved_gradients = nll_backward(moved_cache, np.ones(len(x)))
    expected = (*gradients[:3], gradients.x[order])
    for got, wanted in zip(moved_gradients, expected, strict=True):
        # What a responsibility may move, each entry of the block may move.
        atol = len(x) * tolerance * max(1.0, np.abs(wanted).max(), pull_size(cache))
        np.testing.assert_allclose(got, wanted, rtol=0, atol=atol)


@PROPERTY
@given(mixtures(off=True), st.randoms(use_true_random=False))
def test_value_does_not_depend_on_the_order_of_components(arguments, random):
    x, logits, means, factors = arguments
    order = list(range(len(logits)))
    random.shuffle(order)
    each, cache = nll_forward(x, logits, means, factors, reduction="none")
    moved, moved_cache = nll_forward(
        x, logits[order], means[order], factors[order], reduction="none"
    )
    # The same terms in another order: a sum of five exponentials, and log pi.
    np.testing.assert_allclose(moved, each, rtol=1e-14, atol=1e-13)
    np.testing.assert_allclose(moved_cache.resp, cache.resp[:, order], rtol=0, atol=1e-12)


@PROPERTY
@given(mixtures(off=True), st.data())
def test_gradient_of_the_logits_sums_to_zero(arguments, data):
    n_samples = len(arguments[0])
    weight = data.draw(weights(n_samples))
    _, cache = nll_forward(*arguments, sample_weight=weight)
    # Their common shift changes nothing. At most one (the sum of |c_n|) cancels.
    assert abs(nll_backward(cache).pi_logits.sum()) <= 1e-15 * (len(arguments[1]) + n_samples)


@PROPERTY
@given(mixtures(off=True), st.data())
def test_pulls_on_the_means_balance_those_on_the_data(arguments, data):
    n_samples = len(arguments[0])
    weight = data.draw(weights(n_samples))
    _, cache = nll_forward(*arguments, sample_weight=weight, reduction="sum")
    gradients = nll_backward(cache)
    # Moving data and means together changes nothing; what cancels is the sum of all pulls.
    size = sum(
        np.abs(weight[:, None] * cache.resp[:, k, None] * (z @ np.linalg.inv(factor))).sum(axis=0)
        for k, (factor, z) in enumerate(zip(cache.scale_tril, cache.z, strict=True))
    )
    balance = gradients.means.sum(axis=0) + gradients.x.sum(axis=0)
    assert (np.abs(balance) <= 1e-14 * size + 1e-290).all()


@PROPERTY
@given(mixtures(off=True), st.data())
def test_scaling_space_is_felt_by_the_factors_as_by_the_pulls(arguments, data):
    """Euler: at x, means and factors times s the value grows by D log s, so at s = 1 by D."""
    x, _, means, factors = arguments
    weight = data.draw(weights(len(x)))
    _, cache = nll_forward(*arguments, sample_weight=weight)
    d = nll_backward(cache)
    terms = (*(d.x * x).ravel(), *(d.means * means).ravel(), *(d.scale * factors).ravel())
    size = math.fsum(map(abs, terms)) + x.shape[1]
    assert abs(math.fsum(terms) - x.shape[1]) <= 1e-13 * size * max(1.0, condition(factors))


@PROPERTY
@given(mixtures(off=True))
def test_upper_triangle_of_the_factors_gradient_is_exactly_zero(arguments):
    _, cache = nll_forward(*arguments)
    assert not np.triu(nll_backward(cache).scale, 1).any()


@PROPERTY
@given(mixtures(off=True), st.integers(1, 2**20))
def test_a_common_factor_of_the_weights_does_not_count_in_the_mean(arguments, factor):
    value, cache = nll_forward(*arguments)
    weight = np.full(len(arguments[0]), float(factor))
    other, other_cache = nll_forward(*arguments, sample_weight=weight)
    # Eight losses, each multiplied, added and divided.
    each, _ = nll_forward(*arguments, reduction="none")
    assert abs(other - value) <= 4e-15 * np.abs(each).mean()
    for got, wanted in zip(nll_backward(other_cache), nll_backward(cache), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14 * pull_size(cache))


@PROPERTY
@given(mixtures(off=True))
def test_mixture_is_no_worse_than_its_best_component_alone_and_no_better_than_all_of_it(arguments):
    x, _, means, factors = arguments
    each, cache = nll_forward(*arguments, reduction="none")
    alone = np.stack(
        [
            nll_forward(x, [0.0], means[k : k + 1], factors[k : k + 1], reduction="none")[0]
            for k in np.flatnonzero(cache.pi > 0)
        ]
    )
    log_pi = np.log(cache.pi[cache.pi > 0])
    slack = 1e-14 * (1 + np.abs(alone).max() + np.abs(log_pi).max())
    assert (each <= (alone - log_pi[:, None]).min(axis=0) + slack).all()
    assert (each >= alone.min(axis=0) - slack).all()


@PROPERTY
@given(mixtures(largest=1e300, off=True), st.sampled_from(["mean", "sum"]))
def test_nothing_is_ever_nan(arguments, reduction):
    value, cache = nll_forward(*arguments, reduction=reduction)
    assert not math.isnan(value)
    assert not np.isnan(cache.resp).any()
    np.testing.assert_allclose(cache.resp.sum(axis=1), 1.0, rtol=1e-15)
    assert not any(np.isnan(g).any() for g in nll_backward(cache))
