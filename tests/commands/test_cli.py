"""The command line as a user meets it: what it prints and writes, and says of bad input."""

import csv
import gzip
import io
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from gmm_np import GaussianMixture, __version__, nll
from gmm_np.cli import COMMANDS, main
from gmm_np.commands.options import in_options
from gmm_np.datasets import load_old_faithful, make_clusters
from gmm_np.mixture import SOLVERS
from gmm_np.solvers import em
from gmm_np.tables import read_table, write_table

# In 272 rows of two columns: the maximum that mclust and scikit-learn report is -1130.264.
BEST = -1130.263960


@pytest.fixture
def geyser(tmp_path):
    """Old Faithful as a CSV file with a header."""
    x, names = load_old_faithful()
    path = tmp_path / "geyser.csv"
    write_table(path, x, names)
    return path


@pytest.fixture
def model(geyser, capsys):
    """A model fitted to it."""
    path = geyser.with_name("model.npz")
    assert main(["fit", str(geyser), "-k", "2", "--out", str(path), "--tol", "1e-9"]) == 0
    capsys.readouterr()
    return path


def printed_by(capsys, *arguments):
    """Run the command line; return what it printed, and said on stderr."""
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr()


def run(capsys, *arguments):
    """Run the command line; return what it printed."""
    return printed_by(capsys, *arguments).out


def document(capsys, *arguments):
    """Run the command line; return the JSON that it printed."""
    return strict(run(capsys, *arguments, "--json"))


def strict(text):
    """Read JSON that has no NaN."""

    def refuse(constant):
        raise AssertionError(f"not JSON: {constant}")

    return json.loads(text, parse_constant=refuse)


def refusal(capsys, *arguments):
    """Return the one line that a command says of what it refuses, with exit code 2."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.endswith("\n")
    assert "Traceback" not in printed.err
    return printed.err.rstrip("\n")


# --- fit ----------------------------------------------------------------------------------------


def test_fit_prints_the_mixture_and_writes_the_model(geyser, capsys):
    path = geyser.with_name("m.npz")
    out = run(capsys, "fit", geyser, "-k", 2, "--tol", "1e-9", "--out", path)
    assert "272 rows of eruptions, waiting" in out
    assert "2 components, family full, by EM: converged after" in out
    assert "NLL: 4.15538220" in out
    assert "nats a sample (log-likelihood -1130.26396" in out
    assert out.count("component ") == 2
    assert f"Model: {path}" in out
    assert GaussianMixture.load(path).weights_ == pytest.approx([0.644, 0.356], abs=5e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "added to variances: 1e-06 of each column's (eruptions 1.3e-06, waiting 0.000184)\n"),
        (
            ["--family", "spherical"],
            "added to variances: 1e-06 of the columns' mean variance, 9.27e",
        ),
        (
            ["--standardize", "--reg-covar", "0.001"],
            "family full, by EM on standardised columns: conv",
        ),
        (
            ["--standardize", "--reg-covar", "0.001"],
            "added to variances: 0.001 of each column's (erup",
        ),
    ],
)
def test_fit_says_what_it_fitted_to_and_what_it_added(geyser, capsys, options, said):
    assert said in run(capsys, "fit", geyser, "-k", 2, *options)


def test_fit_as_json_says_what_the_library_computes(geyser, capsys):
    said = strict(run(capsys, "fit", geyser, "-k", 2, "--json", "--tol", "1e-9"))
    x, names = load_old_faithful()
    value = nll(x, np.log(said["weights"]), said["means"], np.linalg.cholesky(said["covariances"]))
    assert said["nll"] == pytest.approx(value, rel=1e-12)
    # reg_covar keeps the fit 1e-6 away from the maximum.
    assert said["log_likelihood"] == pytest.approx(BEST, abs=1e-5)
    assert said["bic"] == pytest.approx(-2 * said["log_likelihood"] + 11 * np.log(272), rel=1e-14)
    assert said["aic"] == pytest.approx(-2 * said["log_likelihood"] + 22, rel=1e-14)
    assert (said["n_samples"], said["n_features"], said["n_components"]) == (272, 2, 2)
    assert (said["family"], said["converged"], said["columns"]) == ("full", True, names)
    assert isinstance(said["n_iter"], int)


@pytest.mark.parametrize(
    "family", ["full", "tied", "diag", "tied_diag", "spherical", "shared_spherical"]
)
def test_a_fit_of_any_family_says_what_the_estimator_says(geyser, capsys, family):
    path = geyser.with_name("m.npz")
    options = ["--family", family, "--out", path, "--json"]
    said = strict(run(capsys, "fit", geyser, "-k", 3, *options))
    fitted = GaussianMixture.load(path)
    del fitted.feature_names_in_
    x, _ = load_old_faithful()
    assert said["nll"] == pytest.approx(-fitted.score(x), rel=1e-13)
    assert said["bic"] == pytest.approx(fitted.bic(x), rel=1e-13)
    assert said["aic"] == pytest.approx(fitted.aic(x), rel=1e-13)
    assert said["covariances"] == fitted.covariances_.tolist()
    out = run(capsys, "info", path)
    first = fitted.covariances_[..., 0] if family in ("full", "tied") else fitted.covariances_
    assert f"covariance {np.ravel(first)[0]:9.3f}" in out
    assert out.count("component ") == 3


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".tsv"])
def test_fit_reads_every_format_alike(geyser, capsys, suffix):
    x, _ = load_old_faithful()
    path = geyser.with_suffix(suffix)
    if suffix == ".tsv":
        path.write_text("".join(f"{a!r}\t{b!r}\n" for a, b in x.tolist()))
    else:
        {".npy": np.save, ".npz": np.savez}[suffix](path, x)
    said = [document(capsys, "fit", p, "-k", 2) for p in (geyser, path)]
    assert said[1].pop("columns") == ["1", "2"]
    assert said[0].pop("columns") == ["eruptions", "waiting"]
    assert said[0] == said[1]


def test_columns_without_names_are_told_by_their_numbers(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(30, 2)))
    model = tmp_path / "m.npz"
    out = run(capsys, "fit", tmp_path / "x.npy", "-k", 1, "--out", model)
    assert "30 rows of column 1, column 2\n" in out
    for text in (out, run(capsys, "info", model)):
        assert "\n  column 1     mean " in text
        assert "correlation: column 1 and column 2 " in text


def test_a_weight_of_zero_drops_a_row_and_two_repeat_it(tmp_path, capsys):
    x, _, _ = make_clusters(200, 2, 2, seed=1)
    weight = np.random.default_rng(0).integers(0, 3, size=200)
    weighted, repeated = tmp_path / "w.npy", tmp_path / "r.npy"
    np.save(weighted, np.column_stack([x[:, 0], weight, x[:, 1]]))
    np.save(repeated, np.repeat(x, weight, axis=0))
    said = document(capsys, "fit", weighted, "-k", 2, "--weights", 2)
    other = document(capsys, "fit", repeated, "-k", 2)
    assert said["columns"] == ["1", "3"]
    assert said["nll"] == pytest.approx(other["nll"], rel=1e-10)
    assert said["bic"] == pytest.approx(other["bic"], rel=1e-10)
    np.testing.assert_allclose(said["means"], other["means"], rtol=1e-6)


@pytest.mark.parametrize("weights", [[], ["--weights", "w"]])
def test_a_stream_gives_what_memory_gives(tmp_path, capsys, weights):
    x, _, _ = make_clusters(9000, 3, 2, seed=2)  # more than a block
    path = tmp_path / "x.csv"
    w = 1.0 + np.arange(9000) % 3
    np.savetxt(path, np.column_stack([x, w]), delimiter=",", header="a,b,w", comments="")
    columns = [] if weights else ["--columns", "a,b"]
    options = ["fit", path, "-k", 3, "--json", *columns, *weights]
    held, streamed = (strict(run(capsys, *options, *more)) for more in ([], ["--stream"]))
    assert streamed["n_samples"] == 9000
    assert streamed["columns"] == ["a", "b"]
    assert streamed["nll"] == pytest.approx(held["nll"], abs=1e-5)  # starts differ, the optimum not


def test_the_least_bic_chooses_among_several(geyser, capsys):
    out = run(capsys, "fit", geyser, "-k", "1-3")
    rows = [line.split() for line in out.splitlines() if line.startswith("full ")]
    assert sorted(int(row[1]) for row in rows) == [1, 2, 3]
    values = [float(row[3]) for row in rows]
    assert values == sorted(values)
    assert rows[0][1] == "2"
    assert "of the least BIC:\n2 components, family full" in out
    said = document(capsys, "fit", geyser, "-k", "3,2")
    assert said["n_components"] == 2
    assert [c["n_components"] for c in said["candidates"]] == [2, 3]
    assert said["candidates"][0]["bic"] == said["bic"]


def test_a_candidate_that_cannot_be_fitted_is_said_and_left_out(tmp_path, capsys):
    path = tmp_path / "x.csv"
    path.write_text("1\n2\n3\n4\n")
    printed = printed_by(capsys, "fit", path, "-k", "1,9", "--json")
    said = strict(printed.out)
    assert said["n_components"] == 1
    assert said["candidates"][1]["n_components"] == 9
    assert said["candidates"][1]["error"] in printed.err.replace("\n", " ")
    assert printed.err.startswith("gmm-np: full, K = 9: ")


def test_a_fit_that_does_not_converge_says_so(geyser, capsys):
    printed = printed_by(capsys, "fit", geyser, "-k", "2", "--max-iter", "2", "--tol", "0")
    assert "by EM: not converged after 2 iterations; raise --max-iter or --tol\n" in printed.out
    assert printed.err.startswith("gmm-np: warning: ")
    assert printed.err.count("\n") == 1


def test_a_collapse_is_an_error_unless_it_is_told_what_to_do(tmp_path, capsys):
    x, _, _ = make_clusters(50, 1, 2, seed=0)
    path = tmp_path / "x.npy"
    np.save(path, np.concatenate([x, np.tile([[50.0, 50.0]], (20, 1))]))
    options = ["fit", path, "-k", "2", "--reg-covar", "0"]
    message = refusal(capsys, *options)
    assert "component 1, counted from 0, collapsed" in message
    assert "use a larger --reg-covar, --on-collapse reseed or keep" in message
    printed = printed_by(capsys, *options, "--on-collapse", "keep", "--json")
    assert sorted(strict(printed.out)["weights"]) == pytest.approx([20 / 70, 50 / 70])
    assert strict(printed.out)["collapsed"] == [1]
    assert "component 1 has collapsed" in printed.err
    assert printed.err.count("note: components and starts are counted from 0\n") == 1


def test_a_collapse_in_spite_of_a_remedy_names_the_others(tmp_path, capsys):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "".join(f"{i},{2 * i}\n" for i in range(9)))
    options = ["fit", path, "-k", "1", "--reg-covar", "0", "--on-collapse"]
    message = refusal(capsys, *options, "reseed")
    assert "use a larger --reg-covar, --on-collapse keep, or a smaller -k" in message


def test_components_have_the_numbers_of_the_estimator_in_every_output(model, geyser, capsys):
    fitted = GaussianMixture.load(model)
    for out in (run(capsys, "info", model), run(capsys, "fit", geyser, "-k", 2, "--tol", "1e-9")):
        assert out.count("The components, counted from 0:\n") == 1
        for k in (0, 1):
            own = out.split(f"\ncomponent {k}: weight ")[1].split("component")[0]
            assert own.startswith(f"{fitted.weights_[k]:.4f}\n")
            assert f"mean {fitted.means_[k, 1]:9.3f}" in own
    said = document(capsys, "sample", model, "-n", 200)
    lower = int(fitted.means_[:, 1].argmin())
    short = np.asarray(said["components"])[np.asarray(said["samples"])[:, 1] < 60]
    assert set(short) == {lower}


@pytest.mark.parametrize("n_iter", [1, 2])
def test_one_is_singular_in_every_message(geyser, tmp_path, capsys, n_iter):
    path = tmp_path / "m.npz"
    options = ["--max-iter", str(n_iter), "--tol", "0", "--columns", "1", "--out", str(path)]
    printed = printed_by(capsys, "fit", geyser, "-k", n_iter, *options)
    components, iterations = (
        f"{n_iter} {what}{'s' if n_iter > 1 else ''}" for what in ("component", "iteration")
    )
    assert f"{components}, family" in printed.out
    said = run(capsys, "info", path)
    assert f"{components} in 1 dimension," in said
    for text, end in ((printed.out, ";"), (printed.err, ";"), (said, "\n")):
        assert f"after {iterations}{end}" in text
    assert "1 row of eruptions" in run(capsys, "sample", path, "-n", 1, "--out", tmp_path / "x.csv")


def two_scales(rng):
    """Two clusters in columns of units of 1e-5 and 1e9."""
    x = np.concatenate([rng.normal(0, 1, (150, 2)), rng.normal(6, 2, (150, 2))])
    return x * [1e-5, 1e9]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("how", [[], ["--stream"], ["--weights", "w"]])
def test_a_fit_does_not_depend_on_the_units_of_the_columns(tmp_path, capsys, solver, how):
    x = two_scales(np.random.default_rng(0))
    units = np.array([1e5, 1e-9])
    found = []
    for name, data in (("small", x), ("plain", x * units)):
        path = tmp_path / f"{name}.csv"
        write_table(path, np.column_stack([data, np.ones(len(x))]), ["a", "b", "w"])
        columns = [] if "--weights" in how else ["--columns", "a,b"]
        options = ["--solver", solver, "--max-iter", "40", "--json", *columns, *how]
        assert main(["fit", str(path), "-k", "2", *options]) == 0
        found.append(strict(capsys.readouterr().out))
    small, plain = found
    np.testing.assert_allclose(small["means"] * units, plain["means"], rtol=1e-6)
    np.testing.assert_allclose(
        small["covariances"] * np.outer(units, units), plain["covariances"], rtol=1e-6, atol=1e-9
    )
    assert small["nll"] == pytest.approx(plain["nll"] - np.log(units).sum(), rel=1e-9)
    np.testing.assert_allclose(small["reg_covar"], 1e-6 * x.var(axis=0), rtol=1e-12)


def test_a_floor_that_is_given_is_used_as_it_is_and_warned_of_where_it_is_too_high(
    tmp_path, capsys
):
    x = two_scales(np.random.default_rng(0))
    write_table(tmp_path / "x.csv", x, ["length", "force"])
    options = ["fit", str(tmp_path / "x.csv"), "-k", "2", "--reg-covar"]
    printed = printed_by(capsys, *options, "1e-6", "--json")
    assert strict(printed.out)["reg_covar"] == 1e-6
    variance = x[:, 0].var()
    said = (
        f"--reg-covar 1e-06 is {1e-6 / variance:.3g} times the variance of length, {variance:.3g},"
    )
    assert said in printed.err
    printed = printed_by(capsys, *options, "1e-15")
    assert printed.err == ""
    assert "added to variances: 1e-15, as --reg-covar says" in printed.out


@pytest.mark.parametrize("how", [[], ["--stream"], ["--weights", "w"]])
@pytest.mark.parametrize(
    "family", ["full", "tied", "diag", "tied_diag", "spherical", "shared_spherical"]
)
def test_a_standardised_fit_is_one_of_standardised_columns_in_the_units_of_the_data(
    tmp_path, capsys, family, how
):
    x = two_scales(np.random.default_rng(0)) + np.array([3e-5, 0.0])
    weight = 1.0 + np.arange(300) % 3 if "--weights" in how else np.ones(300)
    write_table(tmp_path / "x.csv", np.column_stack([x, weight]), ["a", "b", "w"])
    columns = [] if "--weights" in how else ["--columns", "a,b"]
    model, options = tmp_path / "m.npz", ["--family", family, "--reg-covar", "1e-3", *columns, *how]
    fit = ["fit", str(tmp_path / "x.csv"), "-k", "2", "--standardize", *options]
    printed = printed_by(capsys, *fit, "--out", model, "--json")
    said = strict(printed.out)

    mean = np.average(x, axis=0, weights=weight)
    std = np.average((x - mean) ** 2, axis=0, weights=weight) ** 0.5
    expected = GaussianMixture(
        2, covariance_type=family, tol=1e-6, max_iter=1000, reg_covar=1e-3, random_state=0
    ).fit((x - mean) / std, sample_weight=weight)
    order = [np.argsort(np.asarray(m)[:, 0]) for m in (said["means"], expected.means_)]
    close = {"rtol": 1e-4 if "--stream" in how else 1e-8}
    np.testing.assert_allclose(
        np.asarray(said["means"])[order[0]], mean + std * expected.means_[order[1]], **close
    )
    wanted = expected.parameters_.covariances()[order[1]] * np.outer(std, std)
    held = GaussianMixture.load(model)
    found = held.parameters_.covariances()[order[0]]
    np.testing.assert_allclose(found / np.outer(std, std), wanted / np.outer(std, std), **close)
    nll = -expected.score((x - mean) / std, sample_weight=weight) + np.log(std).sum()
    assert said["nll"] == pytest.approx(nll, rel=1e-8)
    np.testing.assert_allclose(said["reg_covar"], 1e-3 * std**2, rtol=1e-10)
    assert held.lower_bound_ == pytest.approx(-nll, rel=1e-4)
    weights = [option for option in how if option != "--stream"]
    scored = document(capsys, "score", model, tmp_path / "x.csv", *weights)
    assert scored["nll"] == pytest.approx(said["nll"], rel=1e-12)
    own = {"spherical": "diag", "shared_spherical": "tied_diag"}.get(family, family)
    assert said["family"] == own
    told = f"({family}) is one a column in the units of DATA ({own})" in printed.err
    assert told == (own != family)
    assert said["standardized"] is True


def test_a_constant_column_is_standardised_by_its_mean_alone(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(40, 2)) * [1.0, 0.0] + [5.0, 7.0]
    write_table(tmp_path / "x.csv", x, ["a", "b"])
    options = ["--standardize", "--family", "diag", "--json"]
    said = strict(run(capsys, "fit", tmp_path / "x.csv", "-k", "1", *options))
    np.testing.assert_allclose(said["means"], [x.mean(axis=0)], rtol=1e-12)
    np.testing.assert_allclose(said["covariances"], [[x[:, 0].var() * (1 + 1e-6), 1e-6]], rtol=1e-9)


@pytest.mark.parametrize("family", ["full", "tied", "diag", "spherical"])
def test_correlations_are_those_of_the_covariances(tmp_path, capsys, family):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)) * [1, 10, 100, 1e3, 1e-3]
    write_table(tmp_path / "x.csv", x, list("abcde"))
    model = tmp_path / "m.npz"
    options = ["--family", family, "--out", model]
    said = document(capsys, "fit", tmp_path / "x.csv", "-k", 2, *options)
    out = run(capsys, "fit", tmp_path / "x.csv", "-k", 2, *options)
    assert document(capsys, "info", model)["correlations"] == said["correlations"]
    info = run(capsys, "info", model)
    if family in ("diag", "spherical"):
        assert said["correlations"] is None
        assert "correlations: " not in out + info
        return
    covariances = np.reshape(said["covariances"], (-1, 5, 5))
    found = np.reshape(said["correlations"], (-1, 5, 5))
    for covariance, correlation in zip(covariances, found, strict=True):
        deviations = np.diag(covariance) ** 0.5
        wanted = covariance / np.outer(deviations, deviations)
        np.testing.assert_allclose(correlation, wanted, rtol=1e-12)
    i, j = max(zip(*np.triu_indices(5, 1), strict=True), key=lambda pair: abs(found[0][pair]))
    for text in (out, info):
        assert text.count("  the strongest 6 of 10 correlations: ") == 2
        assert f"{'abcde'[i]} and {'abcde'[j]} {found[0][i, j]:.3f}" in text


@pytest.fixture
def rainy(tmp_path):
    """A table whose rain is often zero, on which a component collapses."""
    rng = np.random.default_rng(3)
    rain = np.maximum(rng.normal(1.0, 2.0, 120), 0.0).round(3)
    path = tmp_path / "x.csv"
    write_table(path, np.column_stack([rain, rng.normal(12, 4, 120)]), ["rain", "t"])
    return path


def test_a_collapse_is_numbered_as_the_components_are_and_names_its_candidate(rainy, capsys):
    path = str(rainy)
    printed = printed_by(capsys, "fit", path, "-k", "1-3", "--allow-collapsed", "--json")
    said = strict(printed.out)
    lines = printed.err.splitlines()
    for candidate in said["candidates"]:
        own = [li for li in lines if f"warning: full, K = {candidate['n_components']}: " in li]
        who = [li.split("component")[1].split(" ha")[0].strip("s ") for li in own]
        assert who == [", ".join(map(str, candidate["collapsed"]))] * bool(candidate["collapsed"])
        assert all("collapsed in rain: " in line for line in own)
    # The component that collapsed is the one of the zeros.
    (dry,) = said["collapsed"]
    assert said["means"][dry][0] == pytest.approx(0.0, abs=1e-3)
    out = run(capsys, "fit", path, "-k", "1,2")
    assert "of the least BIC without a collapsed component:\n1 component, family full" in out
    assert [line.split()[1] for line in out.splitlines() if line.endswith("  collapsed")] == ["2"]


def test_a_collapsed_candidate_is_marked_and_chosen_only_where_that_is_asked_for(rainy, capsys):
    path, model = rainy, rainy.with_name("m.npz")
    options = ["fit", path, "-k", "1,2", "--json", "--out", model]
    said = strict(run(capsys, *options))
    assert [(c["n_components"], len(c["collapsed"])) for c in said["candidates"]] == [
        (1, 0),
        (2, 1),
    ]
    assert (said["n_components"], said["collapsed"]) == (1, [])
    assert "has collapsed" not in run(capsys, "info", model)
    said = strict(run(capsys, *options, "--allow-collapsed"))
    assert (said["n_components"], len(said["collapsed"])) == (2, 1)
    (dry,) = said["collapsed"]
    out = run(capsys, "info", model)
    assert f"component {dry} has collapsed in rain: what is added" in out
    floor = 1e-6 * read_table(rainy)[0][:, 0].var()
    assert f"added to variances: rain {floor:.3g}, " in out
    shown = document(capsys, "info", model)
    assert (shown["collapsed"], shown["fitted"]) == ([dry], True)
    assert shown["reg_covar"][0] == pytest.approx(floor)
    # Where there is nothing else, the smallest.
    printed = printed_by(capsys, "fit", path, "-k", "3,2")
    assert "all have a collapsed component; the smallest:\n2 components" in printed.out
    assert "warning: every candidate has a collapsed component" in printed.err


def test_the_criterion_that_is_asked_for_chooses(geyser, capsys):
    for name in ("bic", "aic", "icl"):
        said = document(capsys, "fit", geyser, "-k", "1-3", "--criterion", name)
        values = {c["n_components"]: c[name] for c in said["candidates"]}
        assert said["criterion"] == name
        assert said["n_components"] == min(values, key=values.get)
        assert said[name] == min(values.values())
    out = run(capsys, "fit", geyser, "-k", "1-2", "--criterion", "icl")
    assert "of the least ICL:\n" in out
    assert "BIC 2322.1917, AIC 2282.5279, ICL " in out


def test_a_mixture_that_was_given_is_not_called_unconverged(tmp_path, capsys):
    path = tmp_path / "m.npz"
    given = GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [4.0]], [[[1.0]]] * 2)
    given.save(path)
    out = run(capsys, "info", path)
    assert "given, not fitted" in out
    assert "converged" not in out
    assert "added to variances" not in out
    assert document(capsys, "info", path)["fitted"] is False
    given.partial_fit([[0.1], [3.0], [5.0], [-1.0]]).save(path)
    assert "fit: not converged after 1 iteration" in run(capsys, "info", path)


@pytest.mark.parametrize("how", [["--columns", "a,b"], ["--weights", "w"]])
def test_data_are_searched_once_between_the_table_and_the_first_update(tmp_path, monkeypatch, how):
    x = np.random.default_rng(0).normal(size=(500, 2))
    write_table(tmp_path / "x.csv", np.column_stack([x, np.ones(500)]), ["a", "b", "w"])
    sums, seen = [x.sum(), x.sum() + 500, (x**2).sum()], []

    def spy(module, name):
        original = getattr(module, name)

        def look(value, *args, **options):
            # Looking at all values, or at a sum that only finite ones have.
            if np.size(value) >= x.size or any(abs(np.sum(value) - s) < 1e-8 for s in sums):
                seen.append(name)
            return original(value, *args, **options)

        monkeypatch.setattr(module, name, look)

    class UpdatedError(Exception):
        pass

    def update(*_, **__):
        raise UpdatedError

    spy(np, "isfinite")
    spy(math, "isfinite")
    monkeypatch.setattr(em, "em_update", update)
    with pytest.raises(UpdatedError):
        main(["fit", str(tmp_path / "x.csv"), "-k", "2", *how])
    assert len(seen) == 1


@pytest.mark.parametrize(("rows", "said"), [(70_000, " among the 65536 that a start"), (300, "")])
def test_more_components_than_a_start_has_rows_for_are_refused_at_once(
    tmp_path, capsys, rows, said
):
    np.save(tmp_path / "x.npy", np.arange(rows)[:, None])
    start = time.monotonic()
    message = refusal(capsys, "fit", tmp_path / "x.npy", "-k", 70_000)
    assert time.monotonic() - start < 10
    if said:
        said = f"--components must be between 1 and the number of distinct rows of DATA{said}"
    else:
        said = f"x.npy: has {rows} distinct rows, too few for K = 70000; use fewer components"
    assert said in message


# --- what is done with a model --------------------------------------------------------------------


def test_score_gives_what_the_fit_gave(geyser, model, capsys):
    fitted = strict(run(capsys, "fit", geyser, "-k", 2, "--json", "--tol", "1e-9"))
    scored = document(capsys, "score", model, geyser)
    for key in ("nll", "log_likelihood", "bic", "aic"):
        assert scored[key] == pytest.approx(fitted[key], rel=1e-13)
    for key in ("n_samples", "n_features", "n_components", "family", "columns"):
        assert scored[key] == fitted[key]
    out = run(capsys, "score", model, geyser)
    assert f"NLL: {scored['nll']:.9f} nats a sample" in out


def test_score_finds_columns_by_the_names_of_the_fit(geyser, model, capsys):
    x, _ = load_old_faithful()
    turned = geyser.with_name("turned.csv")
    rows = "".join(f"{i},{b!r},{a!r}\n" for i, (a, b) in enumerate(x.tolist()))
    turned.write_text("row,waiting,eruptions\n" + rows)
    first, second = (document(capsys, "score", model, path) for path in (geyser, turned))
    assert first == second


@pytest.fixture
def renamed(tmp_path, capsys):
    """A model of a and b, and the path of a table of b and a under other names."""
    x, _, _ = make_clusters(60, 1, 2, seed=0)
    x += [10.0, 1000.0]
    write_table(tmp_path / "fit.csv", x, ["a", "b"])
    write_table(tmp_path / "score.csv", x[:, ::-1], ["b_cm", "a_kg"])
    run(capsys, "fit", tmp_path / "fit.csv", "-k", 1, "--out", tmp_path / "renamed.npz")
    return tmp_path / "renamed.npz", tmp_path / "score.csv"


@pytest.mark.parametrize(
    "columns", [[], ["--columns", "b_cm,a_kg"], ["--columns", "2,1"], ["--columns", "a_kg"]]
)
@pytest.mark.parametrize("command", ["score", "assign"])
def test_other_names_than_those_of_the_fit_are_refused(renamed, capsys, columns, command):
    message = refusal(capsys, command, *renamed, *columns)
    assert (
        f"{renamed[1]}: no column named 'a', 'b': the model was fitted to 'a', 'b', the " in message
    )
    assert message.endswith("in the order of the model, with --columns and --by-position")


def test_score_pairs_columns_by_position_where_that_is_said(renamed, capsys):
    model, path = renamed
    options = ["--columns", "a_kg,b_cm", "--by-position", "--json"]
    said = strict(run(capsys, "score", model, path, *options))
    fitted = document(capsys, "score", model, path.with_name("fit.csv"))
    assert said["nll"] == fitted["nll"]
    assert said["columns"] == ["a_kg", "b_cm"]
    swapped = document(capsys, "score", model, path, "--by-position")
    assert swapped["nll"] > fitted["nll"] + 100
    message = refusal(capsys, "score", model, path, "--columns", "1", "--by-position")
    assert "has 1 column where the model was fitted to 2; choose as many" in message


@pytest.mark.parametrize("columns", [[], ["--columns", "b,a"], ["--columns", "a,b,more"]])
def test_a_name_wins_over_position_and_other_columns_are_left_out(renamed, capsys, columns):
    model, path = renamed
    fitted = document(capsys, "score", model, path.with_name("fit.csv"))
    x, _ = read_table(path)
    write_table(path, np.column_stack([x, x[:, 0]]), ["b", "a", "more"])
    assert document(capsys, "score", model, path, *columns) == fitted


@pytest.mark.parametrize("header", ["2020,2019\n", "1,0\n"])
def test_names_that_are_numbers_are_names_too(tmp_path, capsys, header):
    path, model = tmp_path / "years.csv", tmp_path / "years.npz"
    path.write_text(header + "1,20\n2,50\n3,60\n")
    said = document(capsys, "fit", path, "-k", 1, "--header", "--out", model)
    first, second = header.strip().split(",")
    path.write_text(f"{second},{first}\n20,1\n50,2\n60,3\n")
    scored = document(capsys, "score", model, path)
    assert (scored["nll"], scored["columns"]) == (said["nll"], [first, second])


def test_a_side_without_names_is_paired_by_position_and_that_is_said(renamed, capsys):
    model, path = renamed
    x, _ = read_table(path.with_name("fit.csv"))
    bare, other = path.with_name("bare.npy"), path.with_name("other.npz")
    np.save(bare, x)
    fitted = run(capsys, "fit", bare, "-k", 1, "--out", other, "--json")
    for side, arguments in (
        ("table", [model, bare]),
        ("model", [other, path.with_name("fit.csv")]),
        ("", [other, bare]),
    ):
        printed = printed_by(capsys, "score", *map(str, arguments), "--json")
        assert strict(printed.out)["nll"] == strict(fitted)["nll"]
        said = f"gmm-np: note: {arguments[1]}: the {side} has no names, so columns are paired in "
        assert printed.err.startswith(said) == bool(side)


@pytest.mark.parametrize("columns", [[], ["--columns", "v.1,u"], ["--columns", "3,1"]])
def test_a_table_with_two_columns_of_one_name_is_fitted_and_scored(tmp_path, capsys, columns):
    x = np.random.default_rng(0).normal(size=(30, 3)) * [1, 10, 100]
    path, model = tmp_path / "same.csv", tmp_path / "same.npz"
    write_table(path, x, ["v", "u", "v"])
    fitted = document(capsys, "fit", path, "-k", 1, *columns, "--out", model)
    scored = document(capsys, "score", model, path)
    assert scored["nll"] == fitted["nll"]
    assert scored["columns"] == fitted["columns"]
    assert len(set(fitted["columns"])) == len(fitted["columns"])
    assert "2 columns are named 'v'; use the number" in refusal(
        capsys, "score", model, path, "--columns", "v"
    )


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
@pytest.mark.parametrize("scored", [[], ["--columns", "1-3"], ["--columns", "3,1"]])
def test_columns_without_names_are_found_by_the_numbers_of_the_fit(
    tmp_path, capsys, suffix, scored
):
    x = np.random.default_rng(0).normal(size=(30, 3)) * [1, 10, 100]
    path, model = tmp_path / f"x{suffix}", tmp_path / "m.npz"
    np.save(path, x) if suffix == ".npy" else np.savetxt(path, x, "%.17g", ",")
    options = ["--columns", "3,1", "--out", model, "--json"]
    fitted = strict(run(capsys, "fit", path, "-k", 1, *options))
    said = document(capsys, "score", model, path, *scored)
    assert (said["nll"], said["columns"]) == (fitted["nll"], ["3", "1"])
    assert document(capsys, "info", model)["columns"] == ["3", "1"]
    drawn = tmp_path / "drawn.csv"
    run(capsys, "sample", model, "-n", 500, "--out", drawn)
    assert document(capsys, "score", model, drawn)["columns"] == ["3", "1"]


@pytest.mark.parametrize("columns", [[], ["--columns", "1-3"]])
def test_a_model_of_a_column_without_a_name_finds_it(tmp_path, capsys, columns):
    x = np.random.default_rng(0).normal(size=(30, 3)) * [1, 10, 100]
    path, model = tmp_path / "x.csv", tmp_path / "m.npz"
    np.savetxt(path, x, delimiter=",", header=",a,b", comments="")
    fitted = document(capsys, "fit", path, "-k", 1, "--columns", "1,b", "--out", model)
    said = document(capsys, "score", model, path, *columns)
    assert (said["nll"], said["columns"]) == (fitted["nll"], ["1", "b"])


def test_a_name_with_a_comma_is_chosen_in_quotes(tmp_path, capsys):
    path = tmp_path / "x.csv"
    path.write_text('"a, b",c,d\n1,2,5\n3,5,9\n4,4,1\n')
    options = ["-k", 1, "--columns", '"a, b",3', "--json"]
    assert strict(run(capsys, "fit", path, *options))["columns"] == ["a, b", "d"]


@pytest.mark.parametrize("stream", [[], ["--stream"]])
@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_dropped_rows_are_counted_in_every_command(tmp_path, capsys, stream, suffix):
    x = np.random.default_rng(0).normal(size=(50, 3))
    x[:, 2] = 2.0
    path, kept, model = tmp_path / f"x{suffix}", tmp_path / "kept.npy", tmp_path / "m.npz"
    np.save(kept, x[2:-1, :2])
    x[[0, 1, -1], [0, 1, 2]] = np.nan
    if suffix == ".npy":
        np.save(path, x)
    else:
        path.write_text("\n".join(",".join(map(repr, row)) for row in x.tolist()))
    assert "(--missing drop, " in refusal(capsys, "fit", path, "-k", 1, *stream)
    drop = ["--missing", "drop", "--weights", 3]
    said = document(capsys, "fit", path, "-k", 1, *drop, *stream, "--out", model)
    assert (said["n_samples"], said["n_dropped"]) == (47, 3)
    assert said["nll"] == pytest.approx(document(capsys, "score", model, kept)["nll"])
    out = run(capsys, "score", model, path, *drop, "--out", tmp_path / "rows.csv")
    assert "47 rows of column 1, column 2; left out for a missing value: 3\n" in out
    values, names = read_table(tmp_path / "rows.csv")
    assert names[0] == ("line" if suffix == ".csv" else "row")
    assert values[:, 0].tolist() == list(range(3, 50))
    out = run(capsys, "check", path, "--missing", "drop", "--columns", "1,2")
    assert "48 rows of column 1, column 2; left out for a missing value: 2\n" in out


ROWS = "column 1 is taken for names of the rows and left out; --columns 1-3 keeps it"


@pytest.mark.parametrize(
    ("content", "command", "said"),
    [
        (",a,b\n0,1,2\n1,3,5\n2,7,4\n", ["fit", "-k", "1"], ROWS),
        (",a,b\n0,1,2\n1,3,5\n2,7,4\n", ["check"], ROWS),
        (",a,w\nx,1,1\ny,3,1\n", ["fit", "-k", "1", "--weights", "w"], ROWS),
        ("a,b,c\n1,s,2\n5,t,9\n", ["check"], "column 2 ('b') holds text and is left out"),
    ],
)
def test_what_was_assumed_of_a_table_is_said_on_stderr(tmp_path, capsys, content, command, said):
    path = tmp_path / "data.csv"
    path.write_text(content)
    printed = printed_by(capsys, command[0], path, *command[1:])
    assert printed.err == f"gmm-np: note: {path}: {said}\n"
    assert " rows of a" in printed.out


def piped(monkeypatch, path):
    """Let a file be the standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".npz", ".csv.gz"])
@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_data_come_from_the_standard_input_too(geyser, capsys, monkeypatch, suffix, stream):
    path = geyser.with_name(f"piped{suffix}")
    if suffix == ".csv.gz":
        path.write_bytes(gzip.compress(geyser.read_bytes()))
    else:
        write_table(path, *read_table(geyser))
    options = ["-k", 2, *stream, "--json"]
    expected = strict(run(capsys, "fit", path, *options))
    piped(monkeypatch, path)
    assert strict(run(capsys, "fit", "-", *options)) == expected


def test_every_command_that_reads_data_reads_the_standard_input(geyser, model, capsys, monkeypatch):
    for command in (["score", model, "-"], ["assign", model, "-"], ["check", "-"]):
        piped(monkeypatch, geyser)
        out = run(capsys, *command)
        assert out.startswith("standard input: 272 rows of") or out.count("\n") == 273


def test_a_fault_of_the_standard_input_is_named_as_such(tmp_path, capsys, monkeypatch):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n3,x\n")
    piped(monkeypatch, path)
    message = refusal(capsys, "fit", "-", "-k", 1)
    assert message.startswith("gmm-np: error: standard input, line 3, column 2 ('b'): 'x' is not a")


def test_a_column_of_text_is_left_out_and_that_is_said(tmp_path, capsys):
    path, model = tmp_path / "x.csv", tmp_path / "m.npz"
    path.write_text("a,species,b,w\n1,s,2,1\n3,s,5,1\n9,v,1,2\n")
    options = ["-k", "1", "--weights", "w", "--json"]
    printed = printed_by(capsys, "fit", path, *options, "--out", model)
    assert strict(printed.out)["columns"] == ["a", "b"]
    said = f"gmm-np: note: {path}: column 2 ('species') holds text and is left out\n"
    assert printed.err == said
    scored = document(capsys, "score", model, path, "--weights", "w")
    assert scored["nll"] == strict(printed.out)["nll"]
    assert "'s' is not a number" in refusal(capsys, "fit", path, "-k", 1, "--columns", "a,species")


def test_a_file_is_read_as_the_options_say(tmp_path, capsys):
    path = tmp_path / "data.csv"
    text = "Messung\n\nLänge;Höhe\ncm;cm\n1.234,5;2\n2,5;3\n3;5,5\n"
    path.write_bytes(text.encode("cp1252"))
    options = ["--skip-lines", "1-2,4-4", "--decimal", ",", "--encoding", "cp1252"]
    said = document(capsys, "fit", path, "-k", 1, *options)
    assert said["columns"] == ["Länge", "Höhe"]
    assert said["means"] == [[pytest.approx(1240 / 3), pytest.approx(3.5)]]
    np.savez(tmp_path / "data.npz", first=np.eye(2), second=[[1.0], [2.0], [6.0]])
    options = ["--key", "second", "--json"]
    assert strict(run(capsys, "fit", tmp_path / "data.npz", "-k", 1, *options))["means"] == [[3]]


def test_score_writes_a_line_a_row(geyser, model, capsys):
    path = geyser.with_name("rows.csv")
    out = run(capsys, "score", model, geyser, "--out", path)
    assert f"Rows: {path}" in out
    values, names = read_table(path)
    assert names == ["log_density", "component", "responsibility"]
    fitted = GaussianMixture.load(model)
    del fitted.feature_names_in_
    x, _ = load_old_faithful()
    assert values[:, 0].tolist() == fitted.score_samples(x).tolist()
    assert values[:, 1].tolist() == fitted.predict(x).tolist()
    assert values[:, 2].tolist() == fitted.predict_proba(x).max(axis=1).tolist()
    assert path.read_text().splitlines()[1].split(",")[1] in ("0", "1")  # not 1.0


@pytest.fixture
def labelled(tmp_path):
    """Two clusters with text, a missing value, and what has to be quoted, as a CSV file."""
    x = np.concatenate([np.random.default_rng(0).normal(c, 1, (100, 2)) for c in (0, 9)])
    rows = [[f"{a:.3f}", f"{b:.2f}", 'a "b", c'] for a, b in x.tolist()]
    rows[7][1] = "NA"
    path = tmp_path / "labelled.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["b", "a", "component"], *rows])
    return path


def read_cells(path, delimiter=","):
    with path.open(newline="") as stream:
        return list(csv.reader(stream, delimiter=delimiter))


def test_assign_writes_the_table_and_what_the_model_makes_of_each_row(labelled, capsys):
    model, path = labelled.with_name("m.npz"), labelled.with_name("out.csv")
    drop = ["--missing", "drop"]
    run(capsys, "fit", labelled, "-k", 2, "--columns", "a,b", *drop, "--out", model)
    out = run(capsys, "assign", model, labelled, *drop, "--all", "--out", path)
    assert f"{labelled}: 199 rows of a, b; left out for a missing value: 1\n" in out
    given, found = read_cells(labelled), read_cells(path)
    assert [row[:3] for row in found] == given  # as it is, quotes and zeros too
    assert found[0][3:] == [
        *("component.1", "probability", "probability_0", "probability_1", "log_density"),
        "outlier_score",
    ]
    assert found[8][3:] == [""] * 6
    whole = [row for i, row in enumerate(found) if i not in (0, 8)]
    values = np.array([row[3:] for row in whole], float)
    x = np.array([row[:2] for row in whole], float)[:, ::-1]  # by name: the model's a comes first
    fitted = GaussianMixture.load(model)
    del fitted.feature_names_in_
    resp, density = fitted.predict_proba(x), fitted.score_samples(x)
    assert values[:, 0].tolist() == fitted.predict(x).tolist()
    assert values[:, 1].tolist() == resp.max(axis=1).tolist()
    assert values[:, 2:4].tolist() == resp.tolist()
    assert values[:, 4].tolist() == density.tolist()
    for k in (0, 1):
        assert f"component {k}: {(values[:, 0] == k).sum()} rows\n" in out
    # The share of draws of less density, by another draw: both err by 0.0016 at most, one sigma.
    fitted.set_params(random_state=5)
    draws = fitted.score_samples(fitted.sample(100_000)[0])
    share = (draws < density[:, None]).mean(axis=1)
    np.testing.assert_allclose(values[:, 5], share, atol=5 * 0.0016 * 2**0.5)


def test_an_outlier_score_is_uniform_on_draws_and_zero_far_away(model, capsys, tmp_path):
    run(capsys, "sample", model, "-n", 4000, "--seed", 3, "--out", tmp_path / "drawn.csv")
    with (tmp_path / "drawn.csv").open("a") as stream:
        stream.write("1e3,1e3\n")
    out = run(capsys, "assign", model, tmp_path / "drawn.csv")
    score = np.array([line.split(",")[-1] for line in out.splitlines()[1:]], float)
    assert score[-1] == 0.0
    uniform = (np.arange(4000) + 0.5) / 4000
    assert np.abs(np.sort(score[:-1]) - uniform).max() < 1.95 / 4000**0.5  # Kolmogorov, 0.1 %


@pytest.mark.parametrize(
    ("name", "content", "options", "delimiter"),
    [
        ("x.csv", "eruptions;waiting;t\n3,5;70,0;x\n", ["--decimal", ","], ";"),
        ("x.txt", "eruptions waiting t\n3.5 70.0 x\n", [], ","),
        ("x.csv", "t,eruptions,waiting\nx,3.5,70.0\n", [], ","),
    ],
)
def test_assigned_rows_are_read_back_with_the_options_of_the_table(
    model, tmp_path, capsys, name, content, options, delimiter
):
    path = tmp_path / name
    path.write_text(content)
    out = tmp_path / "out.csv"
    said = run(capsys, "score", model, path, *options)
    for again in (path, out):  # and what was written can be assigned again
        run(capsys, "assign", model, again, *options, "--out", out)
        assert run(capsys, "score", model, out, *options) == said.replace(str(path), str(out))
    assert read_cells(out, delimiter)[0][:3] == content.split("\n")[0].replace(" ", ",").replace(
        ";", ","
    ).split(",")
    run(capsys, "assign", model, path, *options, "--out", tmp_path / "out.tsv")
    assert "\twaiting\t" in (tmp_path / "out.tsv").read_text()


def test_a_table_without_names_is_assigned_with_names_for_all(model, tmp_path, capsys):
    x, _ = load_old_faithful()
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "out.csv"
    said = document(capsys, "assign", model, tmp_path / "x.npy", "--out", out)
    values, names = read_table(out)
    assert names[:4] == ["x1", "x2", "component", "probability"]
    assert values[:, :2].tolist() == x.tolist()
    assert said["counts"] == np.bincount(values[:, 2].astype(int)).tolist()
    assert (said["n_samples"], said["n_dropped"], said["n_draws"]) == (272, 0, 100_000)
    assert said["n_outliers"] == (values[:, -1] < 0.01).sum()


def test_an_assignment_that_fails_leaves_what_was_there(model, tmp_path, capsys):
    path, out = tmp_path / "x.csv", tmp_path / "out.csv"
    path.write_text("eruptions,waiting\n" + "3,70\n" * 9000 + "3,x\n")
    out.write_text("before")
    assert "line 9002, column 2" in refusal(capsys, "assign", model, path, "--out", out)
    assert out.read_text() == "before"
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".csv", ".csv", ".csv", ".npz"]
    assert "add --out FILE" in refusal(capsys, "assign", model, path, "--json")
    assert "must end in .csv or .tsv" in refusal(capsys, "assign", model, path, "--out", "x.npz")


def test_infinite_losses_are_null_in_json(model, tmp_path, capsys):
    far = tmp_path / "far.csv"
    far.write_text("1e300,1e300\n")
    said = document(capsys, "score", model, far)
    assert said["nll"] is None
    assert said["n_samples"] == 1


def test_info_shows_the_model(model, capsys):
    out = run(capsys, "info", model)
    assert "2 components in 2 dimensions, family full, 11 free parameters" in out
    assert "  eruptions    mean     4.290" in out
    said = document(capsys, "info", model)
    fitted = GaussianMixture.load(model)
    assert said["means"] == fitted.means_.tolist()
    assert said["covariances"] == fitted.covariances_.tolist()
    assert said["weights"] == fitted.weights_.tolist()
    assert (said["n_parameters"], said["columns"]) == (11, ["eruptions", "waiting"])


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".npz"])
def test_samples_are_reproducible_and_come_to_the_last_bit(model, tmp_path, capsys, suffix):
    path = tmp_path / f"drawn{suffix}"
    run(capsys, "sample", model, "-n", 50, "--seed", 3, "--out", path)
    values, names = read_table(path)
    assert names == (["eruptions", "waiting"] if suffix == ".csv" else ["1", "2"])
    said = document(capsys, "sample", model, "-n", 50, "--seed", 3)
    assert said["samples"] == values.tolist()
    assert set(said["components"]) == {0, 1}
    other = document(capsys, "sample", model, "-n", 50, "--seed", 4)
    assert other["samples"] != said["samples"]


def test_samples_go_to_the_standard_output_as_csv(model, tmp_path, capsys):
    out = run(capsys, "sample", model, "-n", 20, "--labels")
    (tmp_path / "out.csv").write_text(out)
    values, names = read_table(tmp_path / "out.csv")
    assert names == ["eruptions", "waiting", "component"]
    assert values.shape == (20, 3)
    assert set(values[:, 2]) == {0, 1}


# --- bad input ------------------------------------------------------------------------------------


W, NEGATIVE = ["--weights", "w"], "is negative; a weight of 0 leaves a row out"
SIGNS = "".join(f"{i},{'-2' if i == 9000 else 1}\n" for i in range(10_000))
LARGE = "1e+200 is too large to fit; divide the column by a power of ten"


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("", [], ": is empty: no line of it holds a cell; write one row a line"),
        ("a,b\n", [], ", line 1: a header and no rows; add the data below it"),
        ("a,b\n1,2\n3,x\n", [], ", line 3, column 2 ('b'): 'x' is not a number; mend it, drop"),
        ("a,b\n1,2\n3\n", [], ", line 3: the number of cells (separated by commas) is 1 where"),
        ("1,2\n3,nan\n", [], ", line 2, column 2 ('2'): 'nan' is not a finite number; mend"),
        ("1,2\n-inf,4\n", [], ", line 2, column 1 ('1'): '-inf' is not a finite number; mend"),
        ("1,2\n1,2\n-0,0\n0,0\n", [], ": has 2 distinct rows, too few for K = 4; use fewer"),
        ("a,b\n1,2\n", [], ": has 1 row; a fit needs 2 or more"),
        ("a,w\n1,0\n2,0\n", W, ": has 0 distinct rows of positive weight, too few for K = 4; use"),
        (f"a,w\n# note\n{SIGNS}", W, f", line 9003, column 2 ('w'): the weight -2.0 {NEGATIVE}"),
        (
            "a,w\n?,1\n1,1\n2,NA\n3,-1\n",
            [*W, "--missing", "drop"],
            f", line 5, column 2 ('w'): the weight -1.0 {NEGATIVE}",
        ),
        (
            [[1, 1], [2, -1]],
            ["--weights", 2],
            f", row 2, column 2 ('2'): the weight -1.0 {NEGATIVE}",
        ),
        (
            "w,a,b\n1,3,4\n1,1,1e200\n1,5,-1e200\n2,0,0\n2,3,0\n",
            W,
            f", line 3, column 3 ('b'): {LARGE}",
        ),
        ([[1, None]], [], ": holds a pickled object array, which is not safe to load; save floats"),
    ],
)
@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_bad_data_are_one_line_that_says_what_to_do(
    tmp_path, capsys, content, options, said, stream
):
    path = tmp_path / ("data.csv" if isinstance(content, str) else "data.npy")
    path.write_text(content) if isinstance(content, str) else np.save(path, np.array(content))
    message = refusal(capsys, "fit", path, "-k", "4", *options, *stream)
    assert message.startswith(f"gmm-np: error: {path}{said}")


def test_other_commands_refuse_data_too(model, tmp_path, capsys):
    path = tmp_path / "data.csv"
    path.write_text("1\n")
    assert refusal(capsys, "check", path).endswith("data.csv: has 1 row; a fit needs 2 or more")
    said = "has 1 column where the model was fitted to 2; choose as many with --columns"
    assert said in refusal(capsys, "score", model, path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "no such file; relative paths start from"),
        ("", None, "is a directory; name a file in it"),
        ("x.xlsx", b"PK\x03\x04....", "is a zip archive by its content; name it .npz if NumPy"),
        ("x.feather", b"ARROW1", "a .feather file is not read here; export the table as .csv"),
        ("x.csv.gz", b"\x1f\x8b\x08", "is damaged (Compressed file ended before"),
        ("x.csv", b"\x93NUMPY\x01\x00", "is a NumPy file by its content; give its name the suff"),
        ("x.npy", b"1,2\n3,4\n", "is damaged, or not a NumPy file; save it again with np.save"),
        ("x.npz", b"PK\x03\x04....", "is damaged, or not a NumPy file; save it again with"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "check"])
def test_files_that_are_no_table_are_named(tmp_path, capsys, command, name, content, said):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    message = refusal(capsys, command, path, "-k", "2")
    assert str(path).rstrip(os.sep) in message
    assert said in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--columns", "eruptions,depth"],
            "no column 'depth'; choose among 'eruptions' (1), 'wait",
        ),
        (["--weights", "mass"], "no column 'mass'; choose among 'eruptions' (1), 'waiting' (2)"),
        (["--columns", "1", "--weights", "1"], "no column is left beside that of the weights; cho"),
        (["--delimiter", "ab"], "'ab' cannot separate cells (--delimiter); name one character"),
        (["--no-header"], "line 1, column 1 ('1'): 'eruptions' is not a number; mend it, drop the"),
        (["-k", "0"], "argument -k/--components: must be a whole number from 1, or several as 1-8"),
        (["-k", "3-1"], "argument -k/--components: must be a whole number from 1, or several as"),
        (["--family", "round"], "argument --family: must be one or several of full, tied, diag,"),
        (["--solver", "sgd"], "argument --solver: invalid choice: 'sgd'"),
        (["--tol", "nan"], "argument --tol: must be a number from 0; got 'nan'"),
        (["--seed", "-1"], "argument --seed: must be a whole number from 0; got '-1'"),
        (["--out", "no/m.npz"], "no; create it first"),
        (["--out", "m.pkl"], "argument --out: a model is an .npz file; name it so, got 'm.pkl'"),
        (["--tol", "1_0"], "argument --tol: must be a number from 0; got '1_0'"),
        (["--seed", "1_0"], "argument --seed: must be a whole number from 0; got '1_0'"),
        (["--seed", "１"], "argument --seed: must be a whole number from 0; got '１'"),
        (["--missing", "no"], "argument --missing: invalid choice: 'no' (choose from"),
        (["--decimal", ";"], "argument --decimal: invalid choice: ';' (choose from"),
        (["--skip-lines", "2,3"], "argument --skip-lines: must be how many lines to skip, or whi"),
        (["--skip-lines", "3-2"], "argument --skip-lines: must be how many lines to skip, or whi"),
        (["--encoding", "utf-9"], "no encoding is named 'utf-9' (--encoding); utf-8, utf-16 and"),
        (
            ["--key", "x"],
            "geyser.csv: only an .npz file has arrays to choose from; leave out --key",
        ),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_usage_is_one_line_before_any_work(geyser, capsys, monkeypatch, options, said):
    monkeypatch.chdir(geyser.parent)
    assert said in refusal(capsys, "fit", geyser, "-k", "2", *options)


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["fit"], ["score", "m.npz"], ["sample", "m"]])
def test_wrong_usage_names_the_help(capsys, argv):
    message = refusal(capsys, *argv)
    assert message.endswith("--help)")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (
            "n_components must be between 1 and the number of distinct rows of x, 3; got 4.",
            "--components must be between 1 and the number of distinct rows of DATA, 3; got 4.",
        ),
        ('Use a larger reg_covar, or on_collapse="reseed".', None),
        ("sample_weight is zero for every row.", "--weights is zero for every row."),
        ("increase max_iter, tol, or n_init", "increase --max-iter, --tol, or --n-init"),
        ("/tmp/x.csv, column 2 ('tol'), x/max_iter.npz: 3", "unchanged"),
        ("use a larger --reg-covar, --tol", "unchanged"),
    ],
)
def test_the_words_of_the_library_become_those_of_the_command_line(said, meant):
    if meant is None:
        meant = "Use a larger --reg-covar, or --on-collapse reseed."
    assert in_options(said) == (said if meant == "unchanged" else meant)


@pytest.mark.parametrize("k", ["2", "2,3"])
def test_what_the_library_refuses_is_said_in_options(geyser, capsys, monkeypatch, k):
    def fit(*_, **__):
        raise ValueError("Use a larger reg_covar, or n_init=3.")

    monkeypatch.setattr(GaussianMixture, "fit", fit)
    assert main(["fit", str(geyser), "-k", k]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 + 2 * (k == "2,3")
    assert all(line.endswith("Use a larger --reg-covar, or --n-init 3.") for line in lines)


def test_files_that_are_no_model_are_named(geyser, tmp_path, capsys):
    for path, said in (
        (tmp_path / "none.npz", "no such file; relative paths start from"),
        (tmp_path, "is a directory; give a model that gmm-np fit --out wrote"),
        (geyser, "is not a model file; give a model that gmm-np fit --out wrote"),
    ):
        for command in (["info", path], ["score", path, geyser], ["sample", path, "-n", 1]):
            message = refusal(capsys, *command)
            assert str(path) in message
            assert said in message
    np.savez(tmp_path / "other.npz", x=np.eye(2))
    assert "is not a model" in refusal(capsys, "info", tmp_path / "other.npz")


def test_a_model_whose_members_disagree_is_refused(model, tmp_path, capsys):
    with np.load(model) as held:
        members = {name: held[name] for name in held.files}
    members["means"] = members["means"][:1]
    np.savez(tmp_path / "broken.npz", **members)
    message = refusal(capsys, "info", tmp_path / "broken.npz")
    assert "pi_logits and means disagree" in message


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_model_file_that_breaks_off_is_refused(model, tmp_path, capsys, share):
    whole = model.read_bytes()
    part = tmp_path / "part.npz"
    part.write_bytes(whole[: int(share * len(whole))])
    assert str(part) in refusal(capsys, "info", part)


# --- the frame ------------------------------------------------------------------------------------


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"gmm-np {__version__}\n"


@pytest.mark.parametrize("command", [c for c in COMMANDS if "commands" in COMMANDS[c]])
def test_help_explains_a_command_with_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert f"usage: gmm-np {command}" in out
    assert f"  gmm-np {command}" in out[out.index("examples:") :]
    assert max(map(len, out.splitlines())) <= 100


def test_the_help_of_fit_fits_on_a_screen_and_a_half(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    assert capsys.readouterr().out.count("\n") <= 75


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(f"\n    {command}" in out for command in COMMANDS)


def python(code, **options):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def test_fit_and_score_run_where_there_is_only_numpy_and_scipy(geyser):
    code = (
        "import sys\n"
        "for name in ('matplotlib', 'tqdm', 'sklearn', 'torch'): sys.modules[name] = None\n"
        "from gmm_np.cli import COMMANDS, main\n"
        f"data, model = {str(geyser)!r}, {str(geyser.with_name('m.npz'))!r}\n"
        "assert main(['fit', data, '-k', '2', '--out', model]) == 0\n"
        "others = [COMMANDS[c] for c in COMMANDS if c != 'fit' and COMMANDS[c] in sys.modules]\n"
        "assert not others, others\n"
        "assert main(['score', model, data]) == 0\n"
        "main(['fit', data, '-k', '2', '--plot', 'x.png'])\n"
    )
    result = python(code, cwd=geyser.parent)
    assert result.returncode == 2
    assert result.stdout.count("NLL: 4.155382") == 2
    assert result.stderr.count("\n") == 1
    assert "which is not installed: pip install matplotlib (see" in result.stderr
    assert not geyser.with_name("x.png").exists()


def test_a_reader_that_has_seen_enough_is_no_error(model):
    arguments = ["sample", str(model), "-n", "200000"]
    code = f"import sys; from gmm_np.cli import main; sys.exit(main({arguments}))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "eruptions,waiting\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0


# --- Ctrl-C ---------------------------------------------------------------------------------------


def interrupt(arguments, cwd):
    """Start a fit that would never end, and interrupt it once it iterates."""
    code = (
        "import signal, sys\n"
        # A shell without job control starts what runs in the background deaf to Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import gmm_np.commands.candidates as candidates\n"
        "from gmm_np.cli import main\n"
        "from gmm_np.progress import Progress\n"
        "class Told(Progress):\n"
        "    def advance(self, steps=1, note=''):\n"
        "        super().advance(steps, note)\n"
        "        if self.done == 3: print('iterating', flush=True)\n"
        "candidates.Progress = Told\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    ) as process:
        assert process.stdout.readline() == "iterating\n"
        time.sleep(0.05)  # somewhere in an iteration
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    # Where three iterations take long, lines of progress come first.
    lines = [line for line in err.splitlines(keepends=True) if not line.startswith("fit full")]
    return process.returncode, out, "".join(lines)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("solver", SOLVERS)
def test_an_interrupted_fit_keeps_the_best_model_so_far(tmp_path, capsys, solver):
    x, _, _ = make_clusters(20_000, 5, 4, seed=0, radius=1.0)
    np.save(tmp_path / "x.npy", x)
    endless = ["--tol", 0, "--max-iter", 10**6, "--solver", solver]
    code, out, err = interrupt(["fit", "x.npy", "-k", 5, *endless, "--out", "model.npz"], tmp_path)
    assert code == 130
    assert out == ""
    assert err.startswith("gmm-np: interrupted; the best model so far (full, K = 5, after ")
    assert err.endswith("iterations) is in model.npz\n")
    assert err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.npz", "x.npy"]
    said = document(capsys, "score", tmp_path / "model.npz", tmp_path / "x.npy")
    start = document(capsys, "fit", tmp_path / "x.npy", "-k", 5, "--max-iter", 1)
    assert said["nll"] < start["nll"]
    assert GaussianMixture.load(tmp_path / "model.npz").n_iter_ >= 3


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_an_interrupted_fit_without_out_says_what_would_keep_it(tmp_path):
    x, _, _ = make_clusters(20_000, 5, 4, seed=0, radius=1.0)
    np.save(tmp_path / "x.npy", x)
    code, out, err = interrupt(["fit", "x.npy", "-k", 5, "--tol", 0, "--max-iter", 10**6], tmp_path)
    assert code == 130
    assert out.startswith("The components, counted from 0:\ncomponent ")
    assert err.startswith("gmm-np: interrupted; the best model so far (full, K = 5, after ")
    assert err.endswith("iterations) is printed; --out MODEL would keep it\n")
