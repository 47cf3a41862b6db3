"""Newton's method, standard errors and modes on the command line."""

import numpy as np
import pytest
from test_cli import printed_by, run

import gmm_np
from gmm_np import GaussianMixture
from gmm_np.commands.report import SOLVERS
from gmm_np.datasets import load_old_faithful
from gmm_np.mixture import SOLVERS as OF_THE_LIBRARY
from gmm_np.tables import write_table


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


@pytest.mark.needs_extras
def test_newton_goes_on_in_the_demo_where_em_ended(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["demo", "--clusters", 3, "--radius", 3, "--samples", 300, "--starts", 1]
    options += ["--log-every", 1, "--solver"]
    by_em, by_both = (
        [line for line in run(capsys, *options, s).splitlines() if line.startswith("iteration")]
        for s in ("em", "em+newton")
    )
    assert by_both[: len(by_em)] == by_em
    assert 1 <= len(by_both) - len(by_em) < 10
    assert by_both[len(by_em)].split(":")[0] == f"iteration {len(by_em) + 1:5d}"
