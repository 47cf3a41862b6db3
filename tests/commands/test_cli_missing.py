"""The commands with --missing marginal: rows with gaps are used as they are."""

import csv

import numpy as np
import pytest
from test_cli import document, refusal, run

from gmm_np import GaussianMixture

MARGINAL = ("--missing", "marginal")


@pytest.fixture
def table(tmp_path):
    """A table in columns of different units, with empty cells and weights, and its numbers."""
    rng = np.random.default_rng(30)
    x = np.concatenate([rng.normal(-2, 1, (60, 3)), rng.normal(2, 0.5, (90, 3))]) * [1, 100, 0.01]
    x = np.round(x, 4)
    x[rng.random(x.shape) < 0.2] = np.nan
    weight = rng.integers(1, 4, len(x))
    path = tmp_path / "data.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["a", "b", "c", "w"])
        for row, own in zip(x, weight, strict=True):
            writer.writerow(["" if np.isnan(v) else repr(float(v)) for v in row] + [int(own)])
    return path, x, weight.astype(float)


def fit(capsys, path, *options):
    return document(capsys, "fit", path, "-k", 2, "--weights", "w", *MARGINAL, *options)


def test_fit_is_that_of_the_estimator(capsys, table):
    path, x, weight = table
    found = fit(capsys, path, "--tol", 1e-9)
    mixture = GaussianMixture(2, missing="marginal", reg_covar=0, tol=1e-10, max_iter=1000)
    mixture.fit(x, sample_weight=weight)
    assert found["nll"] == pytest.approx(-mixture.score(x, sample_weight=weight), abs=1e-6)
    assert found["n_samples"] == len(x)


@pytest.mark.parametrize("option", ["--stream", "--standardize"])
def test_streams_and_standardised_columns_fit_alike(capsys, table, option):
    path, _, _ = table
    expected, found = fit(capsys, path, "--tol", 1e-9), fit(capsys, path, "--tol", 1e-9, option)
    for name in ("nll", "bic", "icl"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)
    order = np.argsort(np.array(found["means"])[:, 0])
    other = np.argsort(np.array(expected["means"])[:, 0])
    np.testing.assert_allclose(
        np.array(found["means"])[order], np.array(expected["means"])[other], rtol=1e-3
    )


def test_what_a_model_makes_of_rows_with_gaps(capsys, table, tmp_path):
    path, x, weight = table
    model, rows, assigned = (tmp_path / name for name in ("m.npz", "rows.csv", "assigned.csv"))
    run(capsys, "fit", path, "-k", 2, "--columns", "a,b,c", *MARGINAL, "--out", model)
    mixture = GaussianMixture.load(model)
    del mixture.feature_names_in_
    out = run(capsys, "score", model, path, "--weights", "w", *MARGINAL, "--out", rows)
    n_gaps = int(np.isnan(x).any(axis=1).sum())
    assert f"with a missing value: {n_gaps}" in out
    score = mixture.score(x, sample_weight=weight)
    assert f"NLL: {-score:.9f}" in out
    density = np.loadtxt(rows, delimiter=",", skiprows=1)[:, 0]
    np.testing.assert_allclose(density, mixture.score_samples(x), rtol=1e-12)
    run(capsys, "assign", model, path, *MARGINAL, "--out", assigned)
    with assigned.open() as stream:
        found = list(csv.DictReader(stream))
    assert [int(row["component"]) for row in found] == mixture.predict(x).tolist()
    # The density of fewer columns is no match for that of rows drawn from the model.
    empty = [row["outlier_score"] == "" for row in found]
    np.testing.assert_array_equal(empty, np.isnan(x).any(axis=1))


def test_errors_of_a_fit_to_rows_with_gaps(capsys, table):
    path, x, weight = table
    found = fit(capsys, path, "--solver", "em+newton", "--errors")
    mixture = GaussianMixture.from_parameters(
        found["weights"], found["means"], found["covariances"], missing="marginal"
    )
    expected = mixture.standard_errors(x, weight)
    np.testing.assert_allclose(found["standard_errors"]["means"], expected.means, rtol=1e-5)


@pytest.mark.needs_extras
def test_a_picture_shows_complete_rows(capsys, table, tmp_path):
    path, _, _ = table
    picture = tmp_path / "fit.png"
    options = ("-k", 2, "--columns", "a,b", *MARGINAL, "--plot", picture)
    run(capsys, "fit", path, *options)
    assert picture.stat().st_size > 1000


def test_a_weight_that_is_missing_is_named(capsys, table):
    path, _, _ = table
    lines = path.read_text().splitlines()
    lines[3] = lines[3].rpartition(",")[0] + ","
    path.write_text("\n".join(lines))
    said = refusal(capsys, "fit", path, "-k", 2, "--weights", "w", *MARGINAL)
    assert "line 4" in said
    assert "the weight is missing; a weight of 0 leaves a row out" in said


def test_a_gap_without_the_option_names_it(capsys, table):
    path, _, _ = table
    assert "(--missing drop, or marginal to keep it)" in refusal(capsys, "fit", path, "-k", 2)
