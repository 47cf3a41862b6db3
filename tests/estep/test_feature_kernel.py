"""The two products of the feature kernel, in tiles, against whole ones."""

from types import SimpleNamespace

import numpy as np
import pytest

from gmm_np import tuning
from gmm_np.estep import feature_kernel
from gmm_np.estep.feature_kernel import FeatureKernel
from gmm_np.estep.prepared_mixture import in_tiles
from gmm_np.linalg import triangles

SHAPES = [(1, 1, 1), (3, 7, 5), (5, 231, 1000), (33, 6, 300), (70, 300, 130), (130, 45, 64)]
SHAPES += [(100, 231, 168), (101, 28, 300), (200, 66, 509)]  # several groups, and one left over


def draw(k, p, b):
    rng = np.random.default_rng(k + p + b)
    return rng.normal(size=(k, p)), rng.normal(size=(p, b)), rng.random((k, b))


class Raw:
    """A family whose features are the samples, and whose moments are their weighted sums."""

    dense = False
    whitened = True

    def __init__(self, n_summed):
        self.n_summed = n_summed
        self.features = self

    def n_sums(self, _):
        return self.n_summed

    def cross_moment(self, _):
        return None

    def write_features(self, y, out):
        out[...] = y

    def whitened_moments(self, sums, *_):
        return sums


def kernel_of(coefficients, n_summed, block):
    k, p = coefficients.n_components, coefficients.n_features
    mixture = SimpleNamespace(
        family=Raw(n_summed), means=np.zeros((k, 1)), n_components=k, n_dims=1, n_features=p
    )
    coordinates = SimpleNamespace(coefficients=coefficients, means=None, inverse=None)
    return FeatureKernel(mixture, coordinates, block)


def add(kernel, features, weights):
    kernel.start(features)
    kernel.add(weights.copy(), np.ones(weights.shape[1]))


@pytest.mark.parametrize("small", [None, 700])
@pytest.mark.parametrize(("k", "p", "b"), SHAPES)
def test_products_are_those_of_whole_matrices(tuned, monkeypatch, k, p, b, small):
    if small is not None:
        tuned(largest_product=small, cached_sums=small, tile_samples=8)
        monkeypatch.setattr(feature_kernel, "LONGEST_SUM", 16)
    theta, features, weights = draw(k, p, b)
    found = kernel_of(in_tiles(theta), p, b)
    assert found.sums() == []
    expected = np.zeros((k, p))
    for stop in (b, max(b // 3, 1), b):  # blocks of less than all, in the same memory
        found.start(features[:, :stop])
        log_joint = theta @ features[:, :stop]
        size = np.abs(theta) @ np.abs(features[:, :stop])
        assert (np.abs(found.log_joint(0.0) - log_joint) <= 1e-14 * size).all()
        found.add(weights[:, :stop].copy(), np.ones(stop))
        expected += weights[:, :stop] @ features[:, :stop].T
    (sums,) = found.sums()
    assert sums.shape == (k, p)
    assert np.abs(sums - expected).max() <= 1e-13 * (weights @ np.abs(features).T).max()
    found.merge(found)
    np.testing.assert_array_equal(found.sums()[0], 2 * sums)


def test_only_the_features_asked_for_are_summed():
    theta, features, weights = draw(4, 9, 50)
    found = kernel_of(in_tiles(theta), 3, 50)
    add(found, features, weights)
    np.testing.assert_allclose(found.sums()[0], weights @ features[:3].T, rtol=1e-13)


def test_a_shift_is_subtracted_once(tuned):
    tuned(largest_product=64 * 20 * 4)
    theta, features, weights = draw(40, 9, 50)
    coefficients = in_tiles(theta)
    found, other = (kernel_of(coefficients, 9, 50) for _ in range(2))
    for kernel in (found, other):
        kernel.start(features)
    for shift in (3.0, 0.0, -7.5):
        expected = theta @ features - shift
        np.testing.assert_allclose(found.log_joint(shift), expected, rtol=1e-12, atol=1e-12)
    other.log_joint(5.0)  # which is not the first one's
    expected = theta @ features + 7.5
    np.testing.assert_allclose(found.log_joint(-7.5), expected, rtol=1e-12, atol=1e-12)
    add(found, features, weights)
    np.testing.assert_allclose(found.sums()[0], weights @ features.T, rtol=1e-12)


def test_what_lies_beyond_the_features_is_not_read(tuned):
    tuned(largest_product=64 * 5 * 4)
    theta, features, _ = draw(5, 10, 64)
    found = kernel_of(in_tiles(theta), 10, 64)
    assert found.n_rows > 11
    found._features[:] = np.nan
    found.start(features)
    np.testing.assert_allclose(found.log_joint(0.0), theta @ features, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 19, 20, 25, 33, 50, 100, 101, 128, 200])
def test_tiles_waste_few_components(k):
    coefficients = in_tiles(np.ones((k, 3)))
    assert coefficients.group <= tuning.active.tile_components
    assert k <= coefficients.n_groups * coefficients.group < k + coefficients.n_groups
    # registers are full, nothing left over
    if any(k % size == 0 for size in (20, 24, 28, 32, 36, 40)):
        assert coefficients.group % 4 == 0
        assert coefficients.n_groups * coefficients.group == k


def test_equal_slices_cover_all_once():
    for n in (1, 7, 8, 9, 64, 100):
        covered = []
        for part, size in triangles.equal_slices(n, 8):
            rows = range(n)[part]
            assert len(rows) > 0
            assert size <= 8
            assert len(rows) % size == 0
            covered += rows
        assert covered == list(range(n))
    assert [size for _, size in triangles.equal_slices(101, 50)] == [34, 33]  # and not 50 and 1
