"""Newton's method, standard errors and modes on the command line."""

import re
import shlex
from argparse import Namespace
from functools import partial

import numpy as np
import pytest
from checkout import ROOT
from scipy.stats import chi2
from test_cli import document, printed_by, refusal, run, strict

import gmm_np
from gmm_np import GaussianMixture, Gradients, Parameters
from gmm_np.cli import main
from gmm_np.commands.report import SOLVERS, with_error
from gmm_np.commands.standardize import ColumnUnits
from gmm_np.covariance import FAMILIES
from gmm_np.datasets import load_old_faithful, make_clusters
from gmm_np.inference import KINDS
from gmm_np.mixture import COVARIANCE_TYPES
from gmm_np.mixture import SOLVERS as OF_THE_LIBRARY
from gmm_np.parametrizations import Cholesky
from gmm_np.progress import Progress
from gmm_np.solvers import Data, make_start
from gmm_np.tables import open_table, read_table, write_table


@pytest.fixture
def geyser(tmp_path):
    """Old Faithful as a CSV file with a header."""
    x, names = load_old_faithful()
    path = tmp_path / "geyser.csv"
    write_table(path, x, names)
    return path


# --- Newton's method ----------------------------------------------------------------------------


def test_every_solver_of_the_library_has_its_words():
    assert tuple(SOLVERS) == OF_THE_LIBRARY


@pytest.mark.parametrize("how", [[], ["--standardize"], ["--stream"], ["--reg-covar", "0.02"]])
def test_newton_ends_where_the_likelihood_has_no_slope(geyser, capsys, how):
    path = geyser.with_name("m.npz")
    options = ["-k", "2", "--solver", "em+newton", "--tol", "1e-4", "--out", path, *how]
    found = printed_by(capsys, "fit", geyser, *options)
    assert found.err == ""  # of a floor that is not in the result nothing is to be said
    assert "family full, by EM and Newton's method" in found.out
    assert "added to variances by EM, not by Newton's method: " in found.out
    p = GaussianMixture.load(path).parameters_
    x, _ = load_old_faithful()
    _, slope = gmm_np.nll_value_and_grad(x, p.pi_logits, p.means, p.scale)
    # 1e-9: rounding; by EM alone it is 1e-4 or more.
    assert max(np.abs(part).max() for part in slope[:3]) < 1e-9


@pytest.mark.needs_extras  # the demo draws
def test_newton_goes_on_in_the_demo_where_em_ended(capsys):
    from gmm_np.commands.clusters import _fit

    x, _ = load_old_faithful()
    x = x / x.std(axis=0)
    rng = np.random.default_rng(0)
    start = make_start(Data(x).sample(rng), 2, rng)
    fits = {}
    for solver in ("em", "em+newton"):
        options = Namespace(solver=solver, max_iter=100, log_every=1, frames="kept")
        fits[solver] = _fit(Data(x), start, rng, "", options)
    by_em, by_both = fits.values()
    n_em, n = by_em.result.n_iter, by_both.result.n_iter
    assert n_em < n < n_em + 10
    assert by_both.losses[:n_em] == by_em.losses
    assert [len(by_both.losses), len(by_both.path) - 1] == [n, n]
    assert by_both.result.gradient_norm < 1e-10 < by_em.result.gradient_norm
    assert f"iteration {n:5d}: loss {by_both.losses[-1]:.6f}\n" in capsys.readouterr().out


# --- standard errors: gmm-np fit --errors -------------------------------------------------------

# Of two normals on Old Faithful's waiting times, as docs/standard_errors.md has them.
WAITING = {
    "weights": (0.3608861, 0.0311648),
    "means": ([54.6148561, 80.0910694], [0.699675, 0.5045947]),
    "deviations": ([5.8712194, 5.8677344], [0.5373224, 0.4009615]),
}
NEWTON = ["--solver", "em+newton", "--reg-covar", 0]


def in_order(values):
    """Numbers of components, in the order of their means."""
    return np.sort(np.ravel(values))


def test_a_fit_is_printed_with_the_errors_that_are_published(geyser, capsys):
    out = run(capsys, "fit", geyser, "-k", 2, "--columns", 2, *NEWTON, "--errors")
    assert "counted from 0, with standard errors (hessian) in parentheses:\n" in out
    for said in (
        "weight 0.3609 (0.0312)\n",
        "  waiting      mean 54.615 (0.700)   standard deviation 5.871 (0.537)\n",
        "  waiting      mean 80.091 (0.505)   standard deviation 5.868 (0.401)",
    ):
        assert said in out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [[], ["--stream"]])
def test_errors_of_a_fit_in_json_are_those_of_the_library(geyser, capsys, kind, how):
    path = geyser.with_name("m.npz")
    options = ["-k", 2, *NEWTON, "--errors", kind, "--out", path, *how]
    options += ["--bootstrap", 5, "--seed", 3] if kind == "bootstrap" else []
    found = document(capsys, "fit", geyser, *options)
    x, _ = load_old_faithful()
    p = GaussianMixture.load(path).parameters_
    expected = gmm_np.standard_errors(x, p, kind=kind, n_bootstrap=5, random_state=3)
    assert found["standard_errors"].pop("kind") == kind
    for name, values in found["standard_errors"].items():
        np.testing.assert_allclose(values, getattr(expected, name), rtol=1e-9, err_msg=name)
    variances = np.diagonal(found["covariances"], axis1=1, axis2=2)
    np.testing.assert_allclose(np.square(found["deviations"]), variances, rtol=1e-12)


@pytest.mark.parametrize("how", [[], ["--stream"], ["--standardize"]])
def test_a_weight_of_two_is_as_good_as_the_row_twice(tmp_path, capsys, how):
    x, names = load_old_faithful()
    weight = np.random.default_rng(0).integers(0, 3, len(x))
    write_table(tmp_path / "w.csv", np.column_stack([x, weight]), [*names, "w"])
    write_table(tmp_path / "twice.csv", np.repeat(x, weight, axis=0), names)
    options = ["-k", 2, *NEWTON, "--errors", *how]
    weighted = document(capsys, "fit", tmp_path / "w.csv", "--weights", "w", *options)
    repeated = document(capsys, "fit", tmp_path / "twice.csv", *options)
    for name in ("weights", "means", "covariances", "correlations"):
        both = (found["standard_errors"][name] for found in (weighted, repeated))
        # By the values, since the components of two fits may come in another order.
        one, two = map(in_order, both)
        np.testing.assert_allclose(one, two, rtol=1e-7, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("kind", ["hessian", "opg", "sandwich"])
@pytest.mark.parametrize("family", ["full", "tied", "diag", "tied_diag"])
def test_errors_of_a_standardised_fit_are_in_the_units_of_the_data(geyser, capsys, family, kind):
    options = ["-k", 2, "--family", family, *NEWTON, "--errors", kind]
    plain = document(capsys, "fit", geyser, *options)["standard_errors"]
    scaled = document(capsys, "fit", geyser, *options, "--standardize")["standard_errors"]
    for name in ("weights", "means", "covariances", "deviations", "correlations"):
        if plain[name] is None:
            assert scaled[name] is None
        else:
            one, two = in_order(plain[name]), in_order(scaled[name])
            np.testing.assert_allclose(one, two, rtol=1e-7, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("family", ["spherical", "shared_spherical"])
def test_one_standardised_variance_has_one_error_in_the_units_of_the_columns(
    geyser, capsys, family
):
    x, _ = load_old_faithful()
    std = x.std(axis=0)
    options = ["-k", 2, "--family", family, *NEWTON, "--errors", "--standardize"]
    found = document(capsys, "fit", geyser, *options)["standard_errors"]
    z = (x - x.mean(axis=0)) / std
    model = GaussianMixture(2, covariance_type=family, solver="em+newton", reg_covar=0.0)
    errors = model.set_params(random_state=0, tol=1e-6).fit(z).standard_errors(z)
    one = errors.covariances[..., None]
    for name, values in (
        ("weights", errors.weights),
        ("means", std * errors.means),
        ("deviations", std * errors.deviations),
        ("covariances", std**2 * one),
    ):
        assert np.shape(found[name]) == np.shape(values)
        np.testing.assert_allclose(in_order(found[name]), in_order(values), rtol=1e-7)


@pytest.mark.parametrize("family", COVARIANCE_TYPES)
def test_errors_in_the_units_of_the_data_agree_with_one_another(family):
    x, _ = load_old_faithful()
    units = ColumnUnits(x.mean(axis=0), x.std(axis=0), float(len(x)), np.ones(x.shape[1]))
    z = (x - units.mean) / units.std
    model = GaussianMixture(2, covariance_type=family, solver="em+newton", reg_covar=0.0)
    moved = units.restore_errors(model.set_params(random_state=0).fit(z).standard_errors(z))
    p, k, d = moved.parameters, 2, 2
    variances = np.diagonal(moved.covariance)
    np.testing.assert_allclose(variances[k : k + k * d] ** 0.5, moved.means.ravel(), rtol=1e-12)
    own = Cholesky.of(p).pullback(p, Gradients(moved.weights, moved.means, moved.scale))
    np.testing.assert_allclose(variances[k + k * d :] ** 0.5, own[k + k * d :], rtol=1e-12)
    if FAMILIES[family].structure.by_column:  # the family is that of the fit
        plain = gmm_np.standard_errors(x, p)
        np.testing.assert_allclose(moved.covariance, plain.covariance, rtol=1e-7, atol=1e-12)


def test_a_fit_away_from_the_maximum_says_which_options_lead_there(geyser, capsys):
    how = ["--reg-covar", "10"]
    fit = ["fit", geyser, "-k", 2, "--columns", 2, "--errors"]
    said = printed_by(capsys, *fit, *how).err.splitlines()[-1]
    assert said.startswith("gmm-np: warning: the parameters are not where the likelihood of these")
    assert said.endswith("; fit with --solver em+newton --reg-covar 0")
    assert "gmm_np" not in said
    assert "reg_covar" not in said
    assert printed_by(capsys, *fit, *how, *NEWTON).err == ""


def test_a_fit_without_errors_is_printed_and_written_all_the_same(geyser, capsys):
    path = geyser.with_name("m.npz")
    fit = ["fit", geyser, "-k", 4, "--max-iter", 3, "--seed", 1]
    plain = run(capsys, *fit)
    for more in ([], ["--json"]):
        options = [*fit, "--errors", "--out", path, *more]
        assert main([str(option) for option in options]) == 2
        printed = capsys.readouterr()
        last = printed.err.splitlines()[-1]
        assert last.startswith("gmm-np: error: no standard errors: the observed information is not")
        assert "; fit with --solver em+newton --reg-covar 0, or use a smaller -k or a si" in last
        assert GaussianMixture.load(path).n_iter_ == 3
        path.unlink()
        if more:
            assert strict(printed.out)["standard_errors"] is None
        else:
            assert printed.out == f"{plain}\nModel: {path}\n"


@pytest.mark.parametrize(
    ("rows", "options", "said", "other", "remedy"),
    [
        (
            4,
            ["-k", 1, "--errors", "opg"],
            "the sum of outer products of scores is not positive definite (",
            "hessian",
            ", or use a smaller -k or a simpler --family; components are ",
        ),
        (
            11,
            ["-k", 2, "--columns", 1, "--reg-covar", 0, "--errors", "bootstrap"],
            " of the bootstrap has no maximum: component ",
            "sandwich",
            "\n",
        ),
    ],
)
def test_a_kind_that_few_rows_have_not_got_says_which_they_have(
    tmp_path, capsys, rows, options, said, other, remedy
):
    x, names = load_old_faithful()
    write_table(tmp_path / "x.csv", x[:rows], names)
    arguments = ["fit", tmp_path / "x.csv", *options]
    assert main([str(argument) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert f"; use --errors {other}{remedy}" in err
    found = run(capsys, *arguments[:-1], other)
    assert f"with standard errors ({other}) in parentheses" in found


def test_an_interruption_of_the_bootstrap_leaves_the_fit(geyser, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("gmm_np.commands.standard_errors.standard_errors", interrupted)
    code = main(["fit", str(geyser), "-k", "2", "--errors", "bootstrap"])
    printed = capsys.readouterr()
    assert code == 130
    assert printed.err == "gmm-np: interrupted; the fit is there, without standard errors\n"
    assert "weight 0.6441\n" in printed.out


@pytest.mark.parametrize("command", ["fit", "errors"])
def test_the_bootstrap_counts_its_fits(geyser, capsys, monkeypatch, command):
    lines = []

    class Line(Progress):
        def __init__(self, *what):
            super().__init__(*what)
            lines.append(self)

    path = geyser.with_name("m.npz")
    run(capsys, "fit", geyser, "-k", 1, "--out", path)
    monkeypatch.setattr("gmm_np.commands.standard_errors.Progress", Line)
    first = [geyser, "-k", 1, "--errors"] if command == "fit" else [path, geyser, "--kind"]
    run(capsys, command, *first, "bootstrap", "--bootstrap", 4)
    (line,) = lines
    assert (line.description, line.unit, line.total, line.done) == ("bootstrap", "fit", 4, 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit", "--errors", "geyser.csv", "-k", "2"], "got 'geyser.csv'; write DATA before the"),
        (
            ["fit", "geyser.csv", "-k", "2", "--errors", "best"],
            "must be one of hessian, opg, san",
        ),
        (["fit", "geyser.csv", "-k", "2", "--bootstrap", "9"], "fits of --errors bootstrap: add"),
        (["errors", "m.npz", "geyser.csv", "--bootstrap", "9"], "fits of --kind bootstrap: add"),
        (["errors", "m.npz", "geyser.csv", "--level", "95"], "must be between 0 and 1, as 0.95; g"),
        (["errors", "m.npz", "geyser.csv", "--bootstrap", "1"], "must be a whole number from 2"),
        (["errors", "m.npz", "geyser.csv", "--columns", "1"], "'waiting'"),
    ],
)
def test_options_of_errors_that_cannot_be_are_refused(geyser, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(geyser.parent)
    run(capsys, "fit", geyser, "-k", 1, "--out", "m.npz")
    assert said in refusal(capsys, *arguments)


# --- standard errors of a model: gmm-np errors --------------------------------------------------


@pytest.fixture
def model(geyser, capsys):
    """A model of the waiting times, at the maximum of the likelihood."""
    path = geyser.with_name("model.npz")
    run(capsys, "fit", geyser, "-k", 2, "--columns", "waiting", *NEWTON, "--out", path)
    return path


def test_the_table_of_errors_has_the_numbers_that_are_published(geyser, model, capsys):
    printed = printed_by(capsys, "errors", model, geyser)
    assert printed.err == ""
    assert ", family full, with standard errors (hessian) and intervals of 95 %\n" in printed.out
    lines = [" ".join(line.split()) for line in printed.out.splitlines()]
    assert lines[3] == "The components, counted from 0 estimate std. error from to"
    # Intervals: 54.6149 -+ 1.96 * 0.699675, 5.87122 * exp(-+ 1.96 * 0.5373224 / 5.87122), and
    # log(0.3608861 / 0.6391139) -+ 1.96 * 0.0311648 / (0.3608861 * 0.6391139) in logits.
    for said in (
        "weight 0.3609 0.0312 0.3023 0.4239",
        "mean of waiting 54.615 0.700 53.244 55.986",
        "standard deviation of waiting 5.871 0.537 4.907 7.025",
        "mean of waiting 80.091 0.505 79.102 81.080",
    ):
        assert said in lines


def test_errors_in_json_have_estimates_errors_and_intervals(geyser, model, capsys):
    found = document(capsys, "errors", model, geyser)
    order = np.argsort(np.ravel(found["means"]))
    errors, intervals = found["standard_errors"], found["intervals"]
    assert found["weights"][order[0]] == pytest.approx(WAITING["weights"][0], abs=5e-8)
    assert errors["weights"][order[0]] == pytest.approx(WAITING["weights"][1], abs=5e-8)
    for name in ("means", "deviations"):
        estimates, of_them = WAITING[name]
        np.testing.assert_allclose(np.ravel(found[name])[order], estimates, atol=5e-7)
        np.testing.assert_allclose(np.ravel(errors[name])[order], of_them, atol=5e-7)
    assert (found["n_samples"], found["level"], found["columns"]) == (272, 0.95, ["waiting"])
    # 1.959964: the normal distribution's quantile
    ends = (
        np.array(found["means"])[..., None]
        + 1.959964 * np.array([-1, 1]) * np.array(errors["means"])[..., None]
    )
    np.testing.assert_allclose(intervals["means"], ends, rtol=1e-7)
    relative = np.array(errors["deviations"]) / found["deviations"]
    ends = np.array(found["deviations"])[..., None] * np.exp(
        1.959964 * relative[..., None] * [-1, 1]
    )
    np.testing.assert_allclose(intervals["deviations"], ends, rtol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_in_blocks_has_the_errors_of_all_its_rows(geyser, model, capsys, monkeypatch, kind):
    options = ["errors", model, geyser, "--kind", kind, "--level", 0.5]
    options += ["--bootstrap", 3] if kind == "bootstrap" else []
    whole = document(capsys, *options)
    small = partial(open_table, block_rows=50)
    monkeypatch.setattr("gmm_np.commands.options.open_table", small)
    parts = document(capsys, *options)
    assert parts["n_samples"] == whole["n_samples"] == 272
    np.testing.assert_allclose(
        parts["standard_errors"]["means"], whole["standard_errors"]["means"], rtol=1e-6
    )


def test_errors_of_a_collapsed_component_are_not_promised_by_another_solver(tmp_path, capsys):
    x, _ = load_old_faithful()
    write_table(tmp_path / "x.csv", np.column_stack([x[:, 0], 2 * x[:, 0]]), ["a", "b"])
    path = tmp_path / "m.npz"
    fit = ["fit", tmp_path / "x.csv", "-k", 2, "--errors", "--out", path]
    for arguments in (fit, ["errors", path, tmp_path / "x.csv"]):
        assert main([str(argument) for argument in arguments]) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("gmm-np: error: no standard errors: ")
        assert "; use a smaller -k or a simpler --family; components are counted from 0" in last


def test_what_is_shared_stands_once_and_what_is_left_out_is_said(tmp_path, capsys):
    x, _, _ = make_clusters(300, 2, 5, family="tied", radius=4.0, seed=0)
    write_table(tmp_path / "x.csv", x, list("abcde"))
    path = tmp_path / "m.npz"
    run(capsys, "fit", tmp_path / "x.csv", "-k", 2, "--family", "tied", *NEWTON, "--out", path)
    lines = run(capsys, "errors", path, tmp_path / "x.csv").splitlines()
    kinds = [line.split()[0] for line in lines[4:]]
    own = ["weight", *["mean"] * 5]
    shared = ["all", *["standard"] * 5, *["correlation"] * 6]
    assert kinds == ["component", *own, "component", *own, *shared, "left"]
    assert lines[-1] == "left out: all but the strongest 6 of 10 correlations; --json has all"


def test_a_component_that_is_off_has_no_errors(geyser, capsys):
    x, _ = load_old_faithful()
    fitted = GaussianMixture(2, solver="em+newton", reg_covar=0.0, random_state=0).fit(x)
    path = geyser.with_name("m.npz")
    GaussianMixture.from_parameters(
        [*fitted.weights_, 0.0],
        [*fitted.means_, [3.0, 60.0]],
        [*fitted.covariances_, np.eye(2)],
    ).save(path)
    found = document(capsys, "errors", path, geyser)
    expected = fitted.standard_errors(x)
    for name in ("weights", "means", "covariances", "deviations", "correlations"):
        values = found["standard_errors"][name]
        np.testing.assert_allclose(values[:2], getattr(expected, name), rtol=1e-6, atol=1e-12)
        assert {np.ravel(values[2]).tolist()[0]} == {None}
    assert "weight                                          0          nan" in run(
        capsys, "errors", path, geyser
    )


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (54.6148561, 0.699675, "54.615 (0.700)"),
        (-12345.678, 12.3456, "-12345.7 (12.3)"),
        (123456.7, 1234.5, "123457 (1234)"),
        (1.23456789e-12, 2.5e-14, "1.2346e-12 (2.50e-14)"),
        (4e9, 1.25e7, "4.0000e+09 (1.25e+07)"),
        (0.0, 1e-20, "0.00e+00 (1.00e-20)"),
        (0.25, 1e5, "2.50e-01 (1.00e+05)"),
        (1.0, 0.0, "1 (0)"),
        (0.5, np.nan, "0.5 (nan)"),
    ],
)
def test_three_digits_of_an_error_say_which_of_a_number_count(value, error, said):
    assert with_error(value, error) == said


# --- pictures -----------------------------------------------------------------------------------


def fitted(n_features, n_components=2, rows=200):
    """Clusters, a mixture at the maximum of their likelihood, and its standard errors."""
    x, _, _ = make_clusters(rows, n_components, n_features, seed=0)
    model = GaussianMixture(n_components, solver="em+newton", reg_covar=0.0, random_state=0).fit(x)
    return x, model, model.standard_errors(x)


def artists(figure, gid):
    return figure.findobj(lambda artist: artist.get_gid() == gid)


def legend_of(figure):
    (legend,) = [*figure.legends, *filter(None, (a.get_legend() for a in figure.axes))]
    return [text.get_text() for text in legend.get_texts()]


def distances(points, mean, covariance):
    """Mahalanobis distances by the definition."""
    e = points - mean
    return np.sqrt(np.einsum("ni,ij,nj->n", e, np.linalg.inv(covariance), e))


def of_mean(errors, k, axes):
    """Covariance of the estimates of a component's mean, in some dimensions."""
    n_components, d = errors.means.shape
    places = n_components + k * d + np.array(axes)
    return errors.covariance[np.ix_(places, places)]


@pytest.mark.needs_extras
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_the_region_of_a_mean_is_that_of_the_normal_distribution(level):
    from gmm_np.plotting import plot_mixture

    x, model, errors = fitted(2)
    figure = plot_mixture(x, model, errors=errors, level=level)
    for k in (0, 1):
        (region,) = artists(figure, f"region {k}")
        found = distances(region.get_xy(), model.means_[k], of_mean(errors, k, [0, 1]))
        np.testing.assert_allclose(found, chi2.ppf(level, 2) ** 0.5, rtol=1e-9)
    assert f"{level:.0%} confidence region\nof a mean" in legend_of(figure)
    assert not any(artists(plot_mixture(x, model), f"region {k}") for k in (0, 1))


@pytest.mark.needs_extras
def test_the_interval_of_a_mean_stands_at_its_density():
    from gmm_np.plotting import plot_mixture

    x, model, errors = fitted(1)
    figure = plot_mixture(x, model, errors=errors, level=0.9)
    for k in (0, 1):
        (bar,) = artists(figure, f"interval {k}")
        ends, heights = bar.get_data()
        np.testing.assert_allclose(ends, errors.intervals(0.9).means[k, 0], rtol=1e-12)
        own = model.weights_[k] / np.sqrt(2 * np.pi * model.covariances_[k, 0, 0])
        np.testing.assert_allclose(heights, own, rtol=1e-9)
    assert "90% confidence interval\nof a mean" in legend_of(figure)


@pytest.mark.needs_extras
def test_every_two_dimensions_have_the_regions_of_their_own():
    from gmm_np.plotting import plot_pairs

    x, model, errors = fitted(3)
    figure = plot_pairs(x, model, errors=errors, dimensions=[2, 0])
    for k in (0, 1):
        (region,) = artists(figure, f"region {k}")  # below the diagonal x1 over x3
        mean, covariance = model.means_[k, [2, 0]], of_mean(errors, k, [2, 0])
        found = distances(region.get_xy(), mean, covariance)
        np.testing.assert_allclose(found, chi2.ppf(0.95, 2) ** 0.5, rtol=1e-9)
        bars = artists(figure, f"interval {k}")
        ends = [bar.get_xdata() for bar in bars]
        np.testing.assert_allclose(ends, errors.intervals(0.95).means[k, [2, 0]], rtol=1e-12)
    assert "95% confidence region\nof a mean;\non the diagonal interval" in legend_of(figure)


@pytest.mark.needs_extras
def test_a_component_that_is_off_has_no_region():
    from gmm_np.plotting import plot_mixture

    x, model, _ = fitted(2)
    p = model.parameters_
    logits = [p.pi_logits[0], -np.inf, p.pi_logits[1]]
    place = [0, 0, 1]
    three = Parameters(logits, p.means[place], p.scale[place])
    figure = plot_mixture(x, three, errors=gmm_np.standard_errors(x, three))
    assert [len(artists(figure, f"region {k}")) for k in range(3)] == [1, 0, 1]


@pytest.mark.needs_extras
def test_errors_of_another_mixture_are_refused():
    from gmm_np.plotting import plot_mixture, plot_pairs

    x, model, errors = fitted(2)
    p = model.parameters_
    moved = Parameters(p.pi_logits, p.means + 1.0, p.scale)
    for draw in (plot_mixture, plot_pairs):
        for other in (moved, fitted(2, 3)[1]):
            with pytest.raises(ValueError, match="errors are of another mixture than model; give"):
                draw(x, other, errors=errors)
        with pytest.raises(ValueError, match="level must be between 0 and 1"):
            draw(x, model, errors=errors, level=1.0)


@pytest.mark.needs_extras
@pytest.mark.parametrize("how", [[], ["--standardize"], ["--columns", "2"]])
def test_pictures_of_the_command_line_have_the_errors_of_the_means(
    geyser, capsys, monkeypatch, how
):
    from gmm_np import plotting

    drawn = []

    def draw(*args, **options):
        drawn.append(options)
        return plotting.mixture.plot_mixture(*args, **options)

    monkeypatch.setattr(plotting, "plot_mixture", draw)
    monkeypatch.chdir(geyser.parent)
    fit = ["fit", geyser, "-k", 2, *NEWTON, "--out", "m.npz", "--plot", "fit.png", *how]
    run(capsys, *fit, "--errors")
    assert "Picture: e.png" in run(
        capsys, "errors", "m.npz", geyser, "--level", 0.9, "--plot", "e.png"
    )
    one, two = drawn
    assert (one["level"], two["level"]) == (0.95, 0.9)
    np.testing.assert_allclose(one["errors"].means, two["errors"].means, rtol=1e-6)
    for name in ("fit.png", "e.png"):
        assert geyser.with_name(name).read_bytes().startswith(b"\x89PNG")
    run(capsys, *fit)
    assert drawn[-1]["errors"] is None


# --- modes --------------------------------------------------------------------------------------


def test_modes_are_printed_and_written_as_the_library_finds_them(geyser, capsys):
    path, out = geyser.with_name("m.npz"), geyser.with_name("modes.csv")
    run(capsys, "fit", geyser, "-k", 3, "--out", path)
    expected = GaussianMixture.load(path).modes()
    assert 1 <= len(expected.points) <= 3
    printed = run(capsys, "modes", path, "--out", out)
    assert f"{path}: {len(expected.points)} mode" in printed
    assert f"Modes: {out}\n" in printed
    table = [line.split() for line in printed.splitlines()[2 : 3 + len(expected.points)]]
    assert table[0] == ["mode", "eruptions", "waiting", "log", "density"]
    for number, row in enumerate(table[1:]):
        values = [*expected.points[number], expected.log_prob[number]]
        assert row == [str(number), *(f"{value:.6g}" for value in values)]
    values, names = read_table(out)
    assert names == ["eruptions", "waiting", "log_density"]
    np.testing.assert_array_equal(values[:, :2], expected.points)
    np.testing.assert_array_equal(values[:, 2], expected.log_prob)
    found = document(capsys, "modes", path)
    assert found["points"] == expected.points.tolist()
    assert found["log_density"] == expected.log_prob.tolist()
    assert (found["n_modes"], found["n_components"]) == (len(expected.points), 3)
    assert found["columns"] == ["eruptions", "waiting"]


def test_components_that_lie_close_share_a_mode(tmp_path, capsys):
    path = tmp_path / "m.npz"
    GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [1.0]], [[[1.0]], [[1.0]]]).save(path)
    # log N(0.5; 0, 1) = -0.5 * (log(2 pi) + 0.25)
    assert run(capsys, "modes", path).splitlines()[2:] == [
        "mode            x1   log density",
        "   0           0.5      -1.04394",
    ]


def test_modes_in_many_columns_stand_below_one_another(tmp_path, capsys):
    path = tmp_path / "m.npz"
    means = 9.0 * np.arange(25)[:, None] * np.ones(7)
    GaussianMixture.from_parameters(np.full(25, 0.04), means, np.stack([np.eye(7)] * 25)).save(path)
    lines = run(capsys, "modes", path).splitlines()
    assert lines[2].startswith("mode 0: log density -9.65")
    assert lines[3].startswith("  x1 ")
    assert sum(line.startswith("mode ") for line in lines) == 20
    assert lines[-1] == "and 5 lower; --json and --out have all"


# --- documentation ------------------------------------------------------------------------------


def test_commands_of_the_documentation_run_as_they_stand(tmp_path, capsys, monkeypatch):
    text = (ROOT / "docs/standard_errors.md").read_text(encoding="utf-8")
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()
    ]
    assert len(commands) >= 3
    write_table(tmp_path / "old_faithful.csv", *load_old_faithful())
    monkeypatch.chdir(tmp_path)
    for command in commands:
        name, *arguments = shlex.split(command.replace("gmm_np/data/", ""))
        assert name == "gmm-np"
        err = printed_by(capsys, *arguments).err.splitlines()
        # Where a machine is busy, lines of progress come first.
        assert [line for line in err if not line.startswith("bootstrap: fit ")] == []
