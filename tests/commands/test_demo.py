import re
import sys

import numpy as np
import pytest

from gmm_np.cli import main
from gmm_np.commands import clusters
from gmm_np.datasets import load_old_faithful
from gmm_np.demo import check_reference, fit_best_of
from gmm_np.plotting.canvas import new_figure
from gmm_np.solvers import kmeans_start

pytestmark = pytest.mark.needs_extras  # matplotlib, scikit-learn

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def blank(monkeypatch):
    """Blank pictures, where only what is printed matters."""
    for name in ("plot_mixture", "plot_history"):
        monkeypatch.setattr(clusters, name, lambda *_, **__: new_figure(1, 1))


def test_demo_prints_the_fit_and_the_check_and_draws(tmp_path, capsys):
    picture = tmp_path / "picture.png"
    assert main(["demo", "--out", str(picture), "--starts", "2"]) == 0
    out = capsys.readouterr().out
    # The maximum that mclust and scikit-learn report for two full covariances: -1130.264.
    assert "NLL: 4.155382207 nats a sample (log-likelihood -1130.263960)" in out
    assert out.count("component ") == 2
    assert "every gradient agrees" in out
    assert picture.read_bytes().startswith(PNG)


def test_demo_reaches_the_best_of_twenty_starts_of_scikit_learn():
    from sklearn.mixture import GaussianMixture

    x, _ = load_old_faithful()
    ours = fit_best_of(x, 2, 5, np.random.default_rng(0))
    theirs = GaussianMixture(2, n_init=20, tol=1e-12, max_iter=5000, reg_covar=0, random_state=0)
    assert ours.nll == pytest.approx(-theirs.fit(x).score(x), abs=1e-6)


def test_check_passes_on_a_csv_file(tmp_path, capsys):
    table = tmp_path / "table.csv"
    table.write_text("a,b,name\n1,2,x\n2,1,y\n4,7,x\n5,5,z\n3,3,y\n")
    assert main(["check", str(table), "-k", "2", "--columns", "a,b", "--entries"]) == 0
    out = capsys.readouterr().out
    assert "5 rows of a, b" in out
    assert "every gradient agrees" in out


def test_check_fails_on_a_wrong_gradient(monkeypatch):
    import gmm_np.demo

    x, _ = load_old_faithful()
    right = gmm_np.demo.nll_backward

    def wrong(cache):
        gradients = right(cache)
        return gradients._replace(means=1.001 * gradients.means)

    monkeypatch.setattr(gmm_np.demo, "nll_backward", wrong)
    report = check_reference(x[:20], kmeans_start(x[:20], 2, np.random.default_rng(0)))
    assert [block.name for block in report.blocks if not block.passed] == ["means"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n3,x\n", "line 3"),
        ("a,b\n1,2\n1,2\n", "1 distinct row, too few"),
        ("", "empty"),
    ],
)
def test_bad_data_are_one_line_and_exit_code_2(tmp_path, capsys, content, message):
    table = tmp_path / "table.csv"
    table.write_text(content)
    assert main(["check", str(table)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("gmm-np: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_demo_says_where_it_cannot_write(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--out", str(tmp_path / "no" / "p.png"), "--starts", "1"])
    assert stop.value.code == 2
    assert str(tmp_path / "no") in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["demo", "--starts", "0"], ["check"], ["nonsense"]])
def test_wrong_usage_is_exit_code_2(argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2


# --- random clusters ------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["em", "lbfgs", pytest.param("adam", marks=pytest.mark.slow)])
def test_clusters_are_drawn_fitted_and_pictured(tmp_path, capsys, solver):
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    options = ["--solver", solver, "--starts", "2", "--samples", "300"]
    paths = ["--plot", str(pictures[0]), "--plot-history", str(pictures[1])]
    assert main(["demo", "--clusters", "3", *options, *paths]) == 0
    out = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"start 0, iteration +\d+: loss (\S+)", out)]
    assert len(losses) >= 2
    assert losses[-1] < losses[0]
    fitted, true = (float(re.search(rf"{name}: (\S+)", out)[1]) for name in ("NLL", "drawn from"))
    assert fitted < true  # the likelihood is the largest there is, that of the truth one of many
    assert out.count("component ") == 3
    assert all(path.read_bytes().startswith(PNG) for path in pictures)


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["full", "tied", "diag", "tied_diag", "spherical", "shared_spherical"]
)
def test_clusters_of_a_family_are_fitted_by_it(tmp_path, capsys, family):
    paths = ["--plot", str(tmp_path / "a.png"), "--plot-history", str(tmp_path / "b.png")]
    options = ["--family", family, "--solver", "em", "--starts", "1"]
    assert main(["demo", "--clusters", "2", *options, *paths]) == 0
    out = capsys.readouterr().out
    assert f"2 Gaussians, family {family}, by EM from 1 start." in out
    assert len(list(tmp_path.iterdir())) == 2


def test_clusters_in_three_dimensions_are_pictured_in_pairs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--clusters", "2", "--dims", "3", "--starts", "1"]) == 0
    assert "Picture: clusters.png\nPicture of the loss: clusters_history.png" in (
        capsys.readouterr().out
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clusters.png", "clusters_history.png"]


CLUSTERS = ["demo", "--clusters", "2", "--samples", "80", "--starts", "1"]


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize("n_components", [1, 3])
def test_fewer_or_more_components_than_clusters_are_fitted(
    tmp_path, capsys, monkeypatch, n_components
):
    monkeypatch.chdir(tmp_path)
    assert main([*CLUSTERS, "--components", str(n_components)]) == 0
    out = capsys.readouterr().out
    plural = "" if n_components == 1 else "s"
    assert (
        f"80 samples of 2 random clusters in 2 dimensions.\n{n_components} Gaussian{plural}" in out
    )
    assert out.count("component ") == n_components
    fitted, true = (float(re.search(rf"{name}: (\S+)", out)[1]) for name in ("NLL", "drawn from"))
    assert (fitted < true) == (n_components == 3)


def test_frames_picture_the_fit_from_its_start_to_its_end(tmp_path, capsys, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    frames = tmp_path / "frames"
    frames.mkdir()
    for other in ("frame_0009.png", "frame_0009.txt"):  # of a longer fit; and what is not its own
        (frames / other).touch()
    fit = [*CLUSTERS, "--components", "3", "--max-iter", "2", "--log-every", "2"]
    assert main([*fit, "--frames", "frames"]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"iteration +(\d+): loss", out) == ["1", "2"]
    names = [f"frame_{number:04d}.png" for number in (1, 2, 3)]  # start, 1 and 2
    assert sorted(path.name for path in frames.iterdir()) == ["fit.gif", *names, "frame_0009.txt"]
    assert "Pictures of the fit: 3 in frames, and together in frames/fit.gif" in out
    sizes = set()
    for name in names:
        with Image.open(frames / name) as image:
            sizes.add(image.size)
    with Image.open(frames / "fit.gif") as animation:
        assert {animation.size} == sizes
        assert animation.n_frames >= 3


@pytest.mark.usefixtures("blank")
def test_components_that_collapse_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["demo", "--clusters", "1", "--components", "3", "--samples", "3", "--starts", "1"]
    assert main(few) == 0
    assert "held up by a variance of 1e-06 alone: components 0, 1, 2\n" in capsys.readouterr().out


@pytest.mark.usefixtures("blank")
def test_step_sizes_are_those_of_adam(tmp_path, capsys, monkeypatch):
    """With a step size of zero for the logits, the weights stay equal."""
    monkeypatch.chdir(tmp_path)
    fit = [*CLUSTERS, "--components", "3", "--solver", "adam", "--max-iter", "2"]
    weights = []
    for steps in (["--step-logits", "0"], ["--step-components", "0"]):
        assert main([*fit, *steps]) == 0
        out = capsys.readouterr().out
        weights.append(set(re.findall(r"weight (\S+)", out)))
    assert weights[0] == {"0.3333"}
    assert len(weights[1]) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--components", "5"], "--components is for random clusters: add --clusters C"),
        (["--frames", "x"], "--frames is for random clusters"),
        (["--clusters", "2", "--step-logits", "1"], "--step-logits: only adam has step sizes"),
        (["--clusters", "2", "--dims", "3", "--frames", "x"], "two dimensions; got --dims 3"),
        (["--clusters", "9", "--samples", "5"], "--samples 5 is less than --clusters 9"),
        (
            ["--clusters", "2", "--components", "9", "--samples", "5"],
            "--samples 5 is less than --components 9",
        ),
    ],
)
def test_options_that_do_not_fit_together_are_one_line(
    tmp_path, capsys, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *options]) == 2
    err = capsys.readouterr().err
    assert err.startswith("gmm-np: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not list(tmp_path.iterdir())


def test_frames_go_into_a_directory_that_can_be_made(tmp_path, capsys):
    (tmp_path / "file").touch()
    for name, message in (
        ("file", "is a file; name a directory"),
        ("no/frames", "create it first"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*CLUSTERS, "--frames", str(tmp_path / name)])
        assert stop.value.code == 2
        err = capsys.readouterr().err
        assert "--frames" in err
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(("last", "count"), [(0, 1), (1, 2), (30, 24), (1000, 24)])
def test_pictured_iterations_are_few_and_have_both_ends(last, count):
    pictured = clusters._pictured(last, None)
    assert pictured == sorted(set(pictured))
    assert (pictured[0], pictured[-1]) == (0, last)
    assert len(pictured) <= count
    assert max(np.diff(np.log1p(pictured)), default=0.0) <= np.log(2) + 1e-12  # none is left out


@pytest.mark.parametrize("kind", ["offset", "constant", "repeated"])
def test_check_command_passes_right_gradients_on_any_columns(kind, tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(40, 2))
    if kind == "offset":
        x = 60 * x + [412352.62, 6203436.77]
    else:
        x[:, 1] = 7.0 if kind == "constant" else x[:, 0]
    path = tmp_path / "table.csv"
    np.savetxt(path, x, delimiter=",", header="east,north", comments="", fmt="%.17g")
    assert main(["check", str(path)]) == 0, capsys.readouterr().out
    assert "every gradient agrees" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--clusters", "2", "--samples", "50", "--dims", "3"]])
def test_without_matplotlib_all_but_the_picture_is_done(monkeypatch, tmp_path, capsys, arguments):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *arguments, "--starts", "1"]) == 0
    out = capsys.readouterr().out
    assert "NLL: " in out
    assert "pictures need matplotlib, which is not installed: pip install matplotlib" in out
    assert list(tmp_path.iterdir()) == []
