import numpy as np
import pytest
from families_by_reference import FAMILIES

from gmm_np import nll
from gmm_np.datasets import load_old_faithful
from gmm_np.reference import nll_forward
from gmm_np.solvers.initialization import STARTS, kmeans_start, make_start
from gmm_np.solvers.results import Data, distinct


def start_of(x, n_components, *, weight=None, seed=0, **options):
    rng = np.random.default_rng(seed)
    return make_start(Data(x, weight).sample(rng), n_components, rng, **options)


def mixture_of_blobs():
    rng = np.random.default_rng(9)
    return rng.normal(0, 3, (4, 3))[rng.integers(0, 4, 200)] + rng.standard_normal((200, 3))


def test_kmeans_start_is_a_partition_of_the_data():
    x, _ = load_old_faithful()
    start = kmeans_start(x, 3, np.random.default_rng(0))
    weights = np.exp(start.pi_logits)
    assert weights.sum() == pytest.approx(1.0, rel=1e-14)
    np.testing.assert_allclose(weights @ start.means, x.mean(axis=0), rtol=1e-13)


def test_kmeans_start_depends_on_nothing_but_its_generator():
    x, _ = load_old_faithful()
    a, b = (kmeans_start(x, 4, np.random.default_rng(7)) for _ in range(2))
    assert a.equals(b)


def test_kmeans_start_copes_with_a_constant_column():
    x = np.column_stack([np.arange(20.0), np.full(20, 3.0)])
    start = kmeans_start(x, 2, np.random.default_rng(0))
    assert np.isfinite(nll_forward(x, start.pi_logits, start.means, start.scale)[0])


@pytest.mark.parametrize("n_components", [0, 4])
def test_kmeans_start_needs_a_distinct_row_for_each_component(n_components):
    x = [[0.0], [0.0], [1.0], [2.0]]
    with pytest.raises(ValueError, match=r"between 1 and the number of distinct rows of x, 3"):
        kmeans_start(x, n_components, np.random.default_rng(0))


def test_kmeans_finds_clusters_that_lie_apart():
    rng = np.random.default_rng(1)
    centres = np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 70.0], [60.0, 60.0]])
    x = np.repeat(centres, 40, axis=0) + rng.standard_normal((160, 2))
    start = kmeans_start(x, 4, rng)
    expected = x.reshape(4, 40, 2).mean(axis=1)
    found = start.means[np.lexsort(start.means.T)]
    np.testing.assert_allclose(found, expected[np.lexsort(expected.T)], rtol=1e-12, atol=1e-12)


def test_of_the_short_runs_one_that_found_all_clusters_goes_on():
    # Sixteen clusters: a run may set two centres into one, from where none leaves. Of single runs
    # of k-means 31 in 40 find all clusters, of these starts 40.
    centres = 6.0 * np.array([[i, j] for i in range(4) for j in range(4)])
    x = np.repeat(centres, 30, axis=0) + np.random.default_rng(8).standard_normal((480, 2))
    found = [np.exp(start_of(x, 16, seed=seed).pi_logits) for seed in range(40)]
    assert sum(np.allclose(weights, 1 / 16, rtol=0.3) for weights in found) >= 38


@pytest.mark.parametrize("family", ["full", "tied", "diag"])
@pytest.mark.parametrize("init", STARTS)
def test_start_is_the_same_in_other_units_of_the_columns(init, family):
    x = mixture_of_blobs()
    units = np.array([1.0, 1e4, 1e-3])
    near, far = (start_of(x * unit, 4, init=init, family=family) for unit in (1.0, units))
    np.testing.assert_allclose(far.pi_logits, near.pi_logits, rtol=1e-12)
    np.testing.assert_allclose(far.means, near.means * units, rtol=1e-12)
    scale = near.scale * (units if family == "diag" else units[:, None])
    np.testing.assert_allclose(far.scale, scale, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("init", STARTS)
def test_start_knows_weights_from_repeated_rows_and_from_order_by_nothing(init, family):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((40, 3))
    weight = rng.integers(0, 4, 40).astype(float)
    repeated = np.repeat(x, weight.astype(int), axis=0)
    weighted = start_of(x, 3, weight=weight, init=init, family=family)
    other = start_of(rng.permutation(repeated), 3, init=init, family=family)
    np.testing.assert_allclose(weighted.pi_logits, other.pi_logits, rtol=1e-13)
    np.testing.assert_allclose(weighted.means, other.means, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(weighted.scale, other.scale, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("init", ["k-means++", "random_from_data"])
def test_points_that_are_drawn_are_different_rows(init):
    x = np.random.default_rng(3).standard_normal((8, 2))
    start = start_of(x, 8, init=init)
    assert sorted(map(tuple, start.means)) == sorted(map(tuple, x))


def test_kmeans_plusplus_draws_far_points_more_often():
    # One row far away: of 200 draws of two rows it must nearly always be one.
    x = np.concatenate([np.random.default_rng(4).standard_normal((50, 1)), [[1000.0]]])
    starts = [start_of(x, 2, init="k-means++", seed=seed) for seed in range(200)]
    assert sum(1000.0 in start.means for start in starts) >= 195


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("init", STARTS)
def test_fewer_distinct_rows_than_components_still_start(init, family):
    x = np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0)
    start = start_of(x, 6, init=init, family=family)
    assert np.exp(start.pi_logits - start.pi_logits.max()).sum() > 0
    assert np.isfinite(start.pi_logits).all()
    assert np.isfinite(start.scale).all()


def test_a_sample_of_many_rows_is_a_sample():
    x = np.arange(5000.0)[:, None]
    for data in (x, np.array_split(x, 7)):
        sample = Data(data).sample(np.random.default_rng(5), 500)
        assert sample.rows.shape == (500, 1)
        assert np.isin(sample.rows, x).all()
        # The mean of 500 of 5000 numbers: standard error 61.
        assert abs(sample.rows.mean() - 2499.5) < 300


def test_kmeans_start_of_an_offset_is_that_of_the_data():
    x = np.random.default_rng(6).standard_normal((100, 2))
    near, far = (kmeans_start(x + offset, 3, np.random.default_rng(0)) for offset in (0.0, 2.0**20))
    # The offset rounds the data to 2^-33, and so does the reading.
    np.testing.assert_allclose(far.means - 2.0**20, near.means, atol=1e-8)
    np.testing.assert_allclose(far.scale, near.scale, atol=1e-8)


@pytest.mark.parametrize("init", STARTS)
@pytest.mark.parametrize("column", ["spread", "constant"])
def test_a_column_whose_variance_overflows_is_named_before_kmeans_sees_it(
    init, column, monkeypatch
):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    x[:, 1] = 1e200 * (rng.normal(size=40) if column == "spread" else 1.1)

    def labels(*_, **__):  # what vq returns for NaN may be any number, of any size
        raise AssertionError("k-means was called")

    monkeypatch.setattr("scipy.cluster.vq.vq", labels)
    with pytest.raises(
        ValueError, match=r"x has values up to .*e\+200 in column 1, counted from 0"
    ):
        make_start(Data(x).sample(rng), 3, rng, init=init)
    with pytest.raises(ValueError, match="divide the column by a power of ten"):
        kmeans_start(x, 3, rng)


def test_a_large_constant_column_separates_nothing():
    rng = np.random.default_rng(0)
    x = np.repeat(np.eye(6) * 9.0, 20, axis=0) + rng.normal(size=(120, 6))
    plain, large = (
        kmeans_start(np.column_stack([x, np.full(120, c)]), 6, np.random.default_rng(1))
        for c in (0.0, 1.1e100)
    )
    np.testing.assert_allclose(large.means[:, :6], plain.means[:, :6], rtol=1e-12)


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_distinct_rows_are_those_of_numpy_with_their_weights(decimals):
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((300, 3)).round(decimals) + 0.0, rng.random(300)
    found = distinct(x, weight)
    expected, inverse = np.unique(x, axis=0, return_inverse=True)
    np.testing.assert_array_equal(found.rows, expected)
    total = np.bincount(inverse.reshape(-1), weights=weight)
    np.testing.assert_allclose(found.weight, total, rtol=1e-13)


def test_an_estimators_start_is_likelier_than_one_run_of_kmeans():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((8, 3))[rng.integers(8, size=2000)] * 2 + rng.standard_normal((2000, 3))
    gains = []
    for seed in range(5):
        short = start_of(x, 8, seed=seed)
        one = kmeans_start(x, 8, np.random.default_rng(seed))
        gains.append(nll(x, *blocks(one)) - nll(x, *blocks(short)))
    assert min(gains) > 0


def blocks(p):
    return p.pi_logits, p.means, p.scale


def test_short_runs_do_not_end_in_a_component_that_collapses():
    # Three equal rows among thirty are a component of their own, of unbounded likelihood.
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.standard_normal((27, 2)), np.zeros((3, 2))])
    weight = np.ones(30)
    for seed in range(10):
        start = start_of(x, 4, weight=weight, seed=seed)
        variances = np.linalg.eigvalsh(start.covariances())
        assert variances.min() > 9e-4 * x.var(axis=0).min()


def test_a_start_of_many_rows_looks_at_some_of_them_by_weight():
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.standard_normal((6000, 1)), 50 + rng.standard_normal((6000, 1))])
    weight = np.repeat([1.0, 0.0], 6000)
    start = start_of(x, 2, weight=weight)
    assert start.means.max() < 10
    heavier = start_of(x, 2, weight=np.repeat([1.0, 3.0], 6000))
    np.testing.assert_allclose(np.sort(heavier.weights()), [0.25, 0.75], atol=0.03)
