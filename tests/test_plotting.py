"""A figure says what the mixture is, changes nothing global, and is written whole or not at all."""

import itertools
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
from problems import random_problem

from gmm_np import Parameters
from gmm_np.datasets import load_old_faithful
from gmm_np.plotting import ellipse, plot_mixture, save_figure
from gmm_np.plotting.canvas import look

pytestmark = pytest.mark.needs_extras

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def geyser():
    x, names = load_old_faithful()
    covariances = [[[0.0692, 0.4352], [0.4352, 33.70]], [[0.1700, 0.9406], [0.9406, 36.05]]]
    means = [[2.036, 54.48], [4.290, 79.97]]
    logits = np.log([0.356, 0.644])
    return x, names, Parameters(logits, means, np.linalg.cholesky(covariances))


def distances(points, mean, factor):
    """Mahalanobis distances by the definition, without any decomposition."""
    e = points - mean
    return np.sqrt(np.einsum("ni,ij,nj->n", e, np.linalg.inv(factor @ factor.T), e))


def artist(figure, gid):
    (found,) = figure.findobj(lambda a: a.get_gid() == gid)
    return found


def gids(figure):
    return {a.get_gid() for a in figure.findobj() if a.get_gid()}


def legend_of(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def notes_on(figure):
    return [text.get_text() for text in figure.axes[0].texts]


# --- geometry -----------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [1, 2, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_an_ellipse_lies_at_its_mahalanobis_distance(seed, radius):
    problem = random_problem(seed, n_components=1, n_features=2)
    mean, factor = problem.means[0], problem.scale_tril[0]
    curve = ellipse(mean, factor, radius)
    # 1e-12: the inverse in `distances` loses as many digits as the condition number has, a few.
    np.testing.assert_allclose(distances(curve, mean, factor), radius, rtol=1e-12)
    np.testing.assert_allclose(curve[0], curve[-1], rtol=1e-12)


def test_an_ellipse_has_the_area_that_the_determinant_gives_it():
    factor = np.array([[1.0, 0.0], [3.0, 0.01]])
    x, y = ellipse([5.0, -5.0], factor, 2.0, n_points=20_001).T
    area = 0.5 * abs(np.sum((x[:-1] - 5) * (y[1:] + 5) - (x[1:] - 5) * (y[:-1] + 5)))
    # A polygon of n sides misses 2 pi^2 / (3 n^2), 2e-8, of the area.
    np.testing.assert_allclose(area, np.pi * 4.0 * np.linalg.det(factor), rtol=1e-7)


# --- two dimensions -----------------------------------------------------------------------------


def test_ellipses_and_means_are_drawn_where_the_mixture_has_them(geyser):
    x, _, parameters = geyser
    figure = plot_mixture(x, parameters)
    for k in (0, 1):
        mean, factor = parameters.means[k], parameters.scale[k]
        for radius in (1, 2):
            curve = artist(figure, f"ellipse {k + 1} {radius}").get_xy()
            np.testing.assert_allclose(distances(curve, mean, factor), radius, rtol=1e-12)
        assert artist(figure, f"mean {k + 1}").get_xydata().tolist() == [mean.tolist()]
    assert notes_on(figure) == [r"$\pi_{1} = 0.356$", r"$\pi_{2} = 0.644$"]


def test_every_sample_is_drawn_once_by_the_component_that_explains_it(geyser):
    x, _, parameters = geyser
    figure = plot_mixture(x, parameters)
    short, long = (np.asarray(artist(figure, f"data {k}").get_offsets()) for k in (1, 2))
    together = np.concatenate([short, long])
    assert sorted(together.tolist()) == sorted(x.tolist())
    assert len(short) == 97
    assert short[:, 0].max() < 3.0 < long[:, 0].min()


def test_bands_hold_the_shares_that_the_legend_says(geyser):
    x, _, parameters = geyser
    figure = plot_mixture(x, parameters)
    bands = [c for c in figure.axes[0].collections if c.get_zorder() == 0]
    held = [sum(path.contains_points(x).sum() for path in c.get_paths()) for c in bands]
    # The level is a sample's own density, and the contour's lines may leave out that sample.
    np.testing.assert_allclose(held, [0.95 * 272, 0.80 * 272, 0.50 * 272], atol=2)
    assert legend_of(figure) == [
        "component 1:\nmean, 1σ and 2σ ellipse",
        "component 2",
        "holds 50% of the data",
        "holds 80% of the data",
        "holds 95% of the data",
    ]


def test_everything_drawn_is_in_view(geyser):
    x, _, parameters = geyser
    x = np.append(parameters.means, x[:1], axis=0)  # so that the ellipses reach further than x
    figure = plot_mixture(x, parameters)
    (left, right), (low, high) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    everything = np.concatenate([x, *(artist(figure, f"ellipse {k} 2").get_xy() for k in (1, 2))])
    assert left < everything[:, 0].min() < everything[:, 0].max() < right
    assert low < everything[:, 1].min() < everything[:, 1].max() < high


def test_axes_and_title_are_named_in_plain_text(geyser, tmp_path):
    x, names, parameters = geyser
    axes = plot_mixture(x, parameters).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")) == ("x1", "x2", "")
    figure = plot_mixture(x, parameters, labels=names, title="Old Faithful")
    axes = figure.axes[0]
    assert [axes.get_xlabel(), axes.get_ylabel()] == names
    assert axes.get_title(loc="left") == "Old Faithful"
    figure = plot_mixture(x, parameters, labels=["$\\frac$", "$^$"], title="$\\frac$")
    save_figure(figure, tmp_path / "dollars.png")  # as mathematics these would not parse


def test_a_component_that_is_off_is_not_drawn(geyser):
    x, _, parameters = geyser
    logits = np.array([0.3, -np.inf, 0.0])
    means = np.insert(parameters.means, 1, [[900.0, 900.0]], axis=0)
    scale = np.insert(parameters.scale, 1, np.eye(2), axis=0)
    figure = plot_mixture(x, Parameters(logits, means, scale))
    assert {g for g in gids(figure) if g.startswith("mean")} == {"mean 1", "mean 3"}
    assert not {g for g in gids(figure) if g.split()[1] == "2"}
    assert [entry[:11] for entry in legend_of(figure)[:2]] == ["component 1", "component 3"]
    assert notes_on(figure) == [r"$\pi_{1} = 0.574$", r"$\pi_{3} = 0.426$"]
    assert figure.axes[0].get_xlim()[1] < 900


def test_components_differ_even_without_colour():
    looks = [look(number) for number in range(1, 181)]
    assert len({(one["marker"], str(one["linestyle"]), one["hatch"]) for one in looks}) == 180
    for first, second in itertools.pairwise(looks):
        assert not set(map(str, first.values())) & set(map(str, second.values()))


def test_of_many_components_the_heaviest_are_named():
    problem = random_problem(0, n_samples=200, n_components=20, n_features=2, separation=9.0)
    figure = plot_mixture(problem.x, Parameters(*problem[1:]))
    heaviest = sorted(np.argsort(-problem.pi_logits)[:12] + 1)
    assert [int(note[6:].split("}")[0]) for note in notes_on(figure)] == heaviest
    assert legend_of(figure)[12] == "and 8 of less weight"
    assert {f"mean {number}" for number in range(1, 21)} <= gids(figure)


def test_of_many_samples_a_reproducible_draw_is_shown():
    x = np.random.default_rng(0).normal(size=(1000, 2))
    parameters = Parameters([0.0], [[0.0, 0.0]], [np.eye(2)])

    def drawn(**options):
        figure = plot_mixture(x, parameters, max_points=100, **options)
        return np.asarray(artist(figure, "data 1").get_offsets()).tolist()

    shown = drawn()
    assert len({tuple(row) for row in shown}) == 100
    assert all(row in x.tolist() for row in shown)
    assert drawn() == shown
    assert drawn(seed=1) != shown


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e150])
def test_the_scale_of_the_data_does_not_matter(size, tmp_path):
    problem = random_problem(3, n_samples=50, n_components=2, n_features=2)
    parameters = Parameters(problem.pi_logits, size * problem.means, size * problem.scale_tril)
    save_figure(plot_mixture(size * problem.x, parameters), tmp_path / "scaled.png")


@pytest.mark.parametrize(
    "x",
    [[[1.0, 2.0]], [[1, 2]] * 5, [[0.0, 0.0], [1e6, -1e6]], [[0.0, 0.0], [1e170, 1e160]]],
    ids=["one sample", "one place", "an outlier", "beyond squares"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_awkward_data_is_drawn_without_a_warning(x, dtype, tmp_path):
    arrays = [np.array(a, dtype) for a in ([0, 1], [[0, 0], [3, 3]], [np.eye(2), 1e-4 * np.eye(2)])]
    save_figure(plot_mixture(x, Parameters(*arrays)), tmp_path / "awkward.png")


# --- one dimension ------------------------------------------------------------------------------


def test_in_one_dimension_the_weighted_densities_add_up_to_the_mixture(geyser, tmp_path):
    x, names, parameters = geyser
    factors = np.sqrt((parameters.scale**2).sum(axis=2))[:, 1, None, None]
    waiting = Parameters(parameters.pi_logits, parameters.means[:, 1:], factors)
    figure = plot_mixture(x[:, 1:], waiting, labels=names[1:])
    axes = figure.axes[0]
    (mixture,) = (line for line in axes.lines if line.get_label() == "mixture density")
    parts = [
        line
        for line in axes.lines
        if len(line.get_xdata()) == len(mixture.get_xdata()) and line is not mixture
    ]
    assert len(parts) == 2
    total = sum(line.get_ydata() for line in parts)
    np.testing.assert_allclose(total, mixture.get_ydata(), rtol=1e-13)
    grid, density = mixture.get_data()
    area = np.sum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))
    np.testing.assert_allclose(area, 1.0, atol=5e-3)  # beyond 3 sigma lie 0.0027 of a Gaussian
    mean, peak = artist(figure, "mean 2").get_xydata()[0]
    deviation = factors[1, 0, 0]
    np.testing.assert_allclose(
        [mean, peak], [79.97, 0.644 / deviation / np.sqrt(2 * np.pi)], rtol=1e-12
    )
    assert [axes.get_xlabel(), axes.get_ylabel()] == ["waiting", "density"]
    assert legend_of(figure)[1:] == ["component 2", "mixture density", "data"]
    save_figure(figure, tmp_path / "waiting.png")


# --- what is refused ----------------------------------------------------------------------------


def test_three_dimensions_are_refused():
    problem = random_problem(0, n_features=3)
    with pytest.raises(ValueError, match=r"D = 1 or 2 dimensions; got D = 3\. Use plot_pairs"):
        plot_mixture(problem.x, Parameters(*problem[1:]))


def test_arguments_that_disagree_are_refused(geyser):
    x, _, parameters = geyser
    with pytest.raises(ValueError, match="x and means disagree"):
        plot_mixture(x[:, :1], parameters)
    with pytest.raises(ValueError, match="x has values that are not finite"):
        plot_mixture(x * np.nan, parameters)
    with pytest.raises(ValueError, match=r"one name for each of D = 2; got \['a'\]"):
        plot_mixture(x, parameters, labels=["a"])
    with pytest.raises(ValueError, match="max_points must be at least 1; got 0"):
        plot_mixture(x, parameters, max_points=0)
    unfitted = SimpleNamespace(covariance_type="full")
    with pytest.raises(TypeError, match=r"SimpleNamespace without 'weights_'. Call fit first\."):
        plot_mixture(x, unfitted)


def test_without_matplotlib_the_error_says_what_to_install(geyser, monkeypatch):
    x, _, parameters = geyser
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError) as caught:
        plot_mixture(x, parameters)
    assert str(caught.value) == 'plotting needs matplotlib: pip install "gmm_np[cli]"'


# --- no global state ----------------------------------------------------------------------------


def test_pyplot_is_never_imported_and_no_setting_changes(tmp_path):
    script = """
        import sys
        import gmm_np.plotting as plotting
        assert not any(name.startswith("matplotlib") for name in sys.modules)
        import matplotlib
        from gmm_np import Parameters
        before = matplotlib.rcParams.copy()  # dict(rcParams) imports pyplot for the backend
        x = [[0.0, 1.0], [1.0, 0.5], [2.0, 3.0]]
        eye = [[1.0, 0.0], [0.0, 1.0]]
        figure = plotting.plot_mixture(x, Parameters([0.0], [[1.0, 1.0]], [eye]), title="t")
        plotting.save_figure(figure, sys.argv[1])
        figure = plotting.plot_mixture([[0.0], [1.0]], Parameters([0.0], [[1.0]], [[[1.0]]]))
        plotting.save_figure(figure, sys.argv[1])
        assert "matplotlib.pyplot" not in sys.modules
        assert matplotlib.rcParams.copy() == before
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    run = subprocess.run(
        [*command, str(tmp_path / "x.png")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_inputs_are_not_written_to(geyser):
    x, _, parameters = geyser
    x.setflags(write=False)
    before = x.copy()
    plot_mixture(x, parameters)
    assert (x == before).all()


# --- saving -------------------------------------------------------------------------------------


class Figure:
    """Writes half a picture, then fails or ends as told."""

    def __init__(self, error=None):
        self.error = error

    def savefig(self, stream, **options):
        self.format = options["format"]
        stream.write(PNG)
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("name", "start"),
    [("a.png", PNG), ("a.PNG", PNG), ("a", PNG), ("a.pdf", b"%PDF"), ("a.svg", b"<?xml")],
)
def test_the_suffix_names_the_format(geyser, tmp_path, name, start):
    x, _, parameters = geyser
    save_figure(plot_mixture(x, parameters), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [b"the old picture", None])
def test_a_picture_that_fails_half_way_leaves_what_was_there(tmp_path, error, before):
    path = tmp_path / "picture.png"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(type(error)):
        save_figure(Figure(error), path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if before is None else [before])


def test_the_old_picture_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"the old picture")

    class Watching(Figure):
        def savefig(self, stream, **options):
            super().savefig(stream, **options)
            assert path.read_bytes() == b"the old picture"

    save_figure(Watching(), path)
    assert path.read_bytes() == PNG
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    save_figure(Figure(), tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_bytes() == PNG


def test_a_format_that_is_unknown_writes_nothing(geyser, tmp_path):
    x, _, parameters = geyser
    with pytest.raises(ValueError, match="'xyz' is not supported"):
        save_figure(plot_mixture(x, parameters), tmp_path / "picture.xyz")
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_missing_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"there is no directory .*nowhere; create it first"
    ):
        save_figure(Figure(), tmp_path / "nowhere" / "picture.png")
