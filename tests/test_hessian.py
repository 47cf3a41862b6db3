"""Hessians and scores of the engine, and Hessians in other vectors.

Judges: products of the reference, gradients of single samples, and differences of the gradient.
"""

import numpy as np
import pytest
from families_by_reference import FAMILIES, LEARNED, random_parameters
from problems import Worst
from test_second_order import (
    SIZES,
    arguments,
    product_by_reference,
    random_case,
    random_direction,
)

import gmm_np
from gmm_np import Gradients
from gmm_np.hessian import information
from gmm_np.parametrizations import Cholesky, Covariance, LogCholesky, PrecisionFactor


@pytest.mark.parametrize("family", FAMILIES)
def test_hessian_has_the_products_as_columns(family):
    worst = Worst()
    for seed, sizes in enumerate(SIZES):
        x, p, _, weight = random_case(seed, family, sizes)
        vector, options = Cholesky.of(p), {"sample_weight": weight if sizes[0] > 1 else None}
        found = gmm_np.nll_hessian(x, *arguments(p), family=family, **options)
        columns = [
            vector.pullback(p, product_by_reference(x, p, vector.pushforward(p, unit), **options))
            for unit in np.eye(vector.size)
        ]
        worst.add(seed, "hessian", found, np.stack(columns, axis=1))
        assert np.array_equal(found, found.T)
    worst.check(1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_gradients_of_single_samples(family):
    worst = Worst()
    for seed, sizes in enumerate(SIZES):
        x, p, _, weight = random_case(seed, family, sizes)
        found = gmm_np.scores(x, *arguments(p), family=family)
        expected = [
            -Cholesky.of(p).pullback(
                p, gmm_np.nll_value_and_grad(row[None], *arguments(p), family=family)[1]
            )
            for row in x
        ]
        worst.add(seed, "scores", found, np.stack(expected))
        sums = information(x, p, weight)
        worst.add(seed, "score", sums.score, weight @ found, 1e-2 * np.abs(found).sum())
        worst.add(seed, "outer", sums.outer, (found.T * weight) @ found)
    worst.check(1e-12)


def test_score_of_a_sample_far_away_is_finite():
    x, p, _, _ = random_case(1, "full", (4, 2, 2))
    x[2] = 1e160
    found = gmm_np.scores(x, *arguments(p))
    # of means it is of the size of the distance, and of factors of that of its square: infinite
    assert np.isfinite(found[[0, 1, 3]]).all()
    assert np.isfinite(found[2, :6]).all()
    with pytest.raises(OverflowError, match="Choose units"):
        gmm_np.nll_hessian(x, *arguments(p))


def test_hessian_of_a_component_that_is_off_is_zero():
    x, p, _, _ = random_case(2, "full", (20, 3, 2))
    logits = p.pi_logits.copy()
    logits[2] = -np.inf
    found = gmm_np.nll_hessian(x, logits, p.means, p.scale)
    own = np.r_[2, 7:9, 15:18]
    assert not found[own].any()
    assert found[np.ix_([0, 1], [0, 1])].any()


def test_hessian_has_no_reduction_none():
    with pytest.raises(ValueError, match='reduction must be "mean" or "sum"'):
        gmm_np.nll_hessian([[0.0]], [0.0], [[0.0]], [[[1.0]]], reduction="none")


@pytest.mark.parametrize("kind", [Cholesky, LogCholesky, PrecisionFactor, Covariance])
@pytest.mark.parametrize("family", FAMILIES)
def test_hessian_pulled_to_a_vector_is_the_derivative_of_its_gradient(kind, family):
    x, p, _, _ = random_case(5, family, (30, 2, 3))
    space = kind.of(p)
    vector, step = space.pack(p), 1e-5

    def gradient(vector):
        q = space.unpack(vector)
        found = gmm_np.nll_value_and_grad(x, *arguments(q), family=family, method="direct")
        return space.pullback(q, found[1])

    units = step * np.eye(space.size)
    expected = [(gradient(vector + u) - gradient(vector - u)) / (2 * step) for u in units]
    gradients = gmm_np.nll_value_and_grad(x, *arguments(p), family=family, method="direct")[1]
    found = space.pull_hessian(p, gradients, gmm_np.nll_hessian(x, *arguments(p), family=family))
    assert np.abs(found - expected).max() <= 1e-7 * np.abs(found).max()


def test_hessian_of_another_shape_is_refused():
    p = random_parameters(0, "full", 2, 2)
    gradients = Gradients(*(np.zeros(a.shape) for a in arguments(p)))
    with pytest.raises(ValueError, match=r"hessian must have shape \(12, 12\)"):
        LogCholesky.of(p).pull_hessian(p, gradients, np.eye(3))
    with pytest.raises(ValueError, match=r"direction must have shape \(12,\)"):
        LogCholesky.of(p).pushforward(p, np.zeros(3))


@pytest.mark.parametrize("kind", [Cholesky, LogCholesky, PrecisionFactor, Covariance])
@pytest.mark.parametrize("family", LEARNED)
def test_pushforward_is_the_transpose_of_the_pullback(kind, family):
    p, rng = random_parameters(3, family, 2, 3), np.random.default_rng(3)
    space, gradients = kind.of(p), random_direction(8, p)
    step = rng.normal(size=space.size)
    moved = space.pushforward(p, step)
    along = sum(float((a * b).sum()) for a, b in zip(moved[:3], gradients[:3], strict=True))
    assert along == pytest.approx(float(step @ space.pullback(p, gradients)), rel=1e-12)
