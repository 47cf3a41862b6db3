"""Old Faithful as it was published."""

import hashlib

import numpy as np

from gmm_np.datasets import load_old_faithful


def test_old_faithful_has_272_rows_of_two_named_columns():
    x, names = load_old_faithful()
    assert x.shape == (272, 2)
    assert x.dtype == np.float64
    assert names == ["eruptions", "waiting"]


def test_old_faithful_has_the_summaries_that_r_prints():
    x, _ = load_old_faithful()
    assert x[0].tolist() == [3.6, 79.0]
    assert x[-1].tolist() == [4.467, 74.0]
    # R: colMeans(faithful), sapply(faithful, sd), cor(faithful)
    np.testing.assert_allclose(x.mean(axis=0), [3.487783, 70.897059], atol=5e-7)
    np.testing.assert_allclose(x.std(axis=0, ddof=1), [1.141371, 13.594974], atol=5e-7)
    np.testing.assert_allclose(np.corrcoef(x.T)[0, 1], 0.9008112, atol=5e-8)


def test_old_faithful_has_not_changed_in_any_digit():
    x, _ = load_old_faithful()
    # Of the little-endian bytes, row by row; three public copies of the data give the same.
    assert hashlib.sha256(x.astype("<f8").tobytes()).hexdigest() == (
        "c1528a01fabb3e454c6e9a895d099e20295b2606b76cf1c69986b3f929578705"
    )


def test_each_call_gives_its_own_array():
    load_old_faithful()[0][:] = 0
    assert load_old_faithful()[0].all()
