"""A figure says what the mixture is, changes nothing global, and is written whole or not at all."""

import itertools
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
from families_by_reference import FAMILIES, expand, random_parameters
from matplotlib import rc_context
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from problems import random_problem

from gmm_np import GaussianMixture, Parameters, log_prob, responsibilities
from gmm_np.cli import main
from gmm_np.datasets import load_old_faithful
from gmm_np.plotting import (
    add_caption,
    ellipse,
    plot_bic,
    plot_contours,
    plot_history,
    plot_mixture,
    plot_pairs,
    plot_responsibilities,
    save_animation,
    save_figure,
)
from gmm_np.plotting.canvas import look, new_figure
from gmm_np.tables import write_table

pytestmark = pytest.mark.needs_extras

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def geyser():
    """Old Faithful and two components; nothing may write to the data."""
    x, names = load_old_faithful()
    x.setflags(write=False)
    covariances = [[[0.0692, 0.4352], [0.4352, 33.70]], [[0.1700, 0.9406], [0.9406, 36.05]]]
    means = [[2.036, 54.48], [4.290, 79.97]]
    logits = np.log([0.356, 0.644])
    return x, names, Parameters(logits, means, np.linalg.cholesky(covariances))


@pytest.fixture(scope="module")
def drawn(geyser):
    """The picture of both, to be looked at only."""
    return plot_mixture(geyser[0], geyser[2])


@pytest.fixture(scope="module")
def waiting(geyser):
    """The second dimension alone."""
    x, _, parameters = geyser
    factors = np.linalg.norm(parameters.scale[:, 1], axis=1)[:, None, None]
    return x[:, 1:], Parameters(parameters.pi_logits, parameters.means[:, 1:], factors)


@pytest.fixture(scope="module")
def four():
    problem = random_problem(4, n_samples=80, n_components=3, n_features=4, separation=3.0)
    return problem.x, Parameters(*problem[1:])


@pytest.fixture(scope="module")
def pairs(four):
    """The picture of four dimensions, to be looked at only."""
    return plot_pairs(*four, labels=["a", "b", "$c", "d"], title="$t")


def lay_out(figure):
    """Do all that drawing does but for the pixels: a warning or an error of layout fails."""
    figure.draw_without_rendering()


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
    (legend,) = [*figure.legends, *filter(None, (a.get_legend() for a in figure.axes))]
    return [text.get_text() for text in legend.get_texts()]


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


def test_ellipses_and_means_are_drawn_where_the_mixture_has_them(geyser, drawn):
    _, _, parameters = geyser
    for k in (0, 1):
        mean, factor = parameters.means[k], parameters.scale[k]
        for radius in (1, 2):
            curve = artist(drawn, f"ellipse {k} {radius}").get_xy()
            np.testing.assert_allclose(distances(curve, mean, factor), radius, rtol=1e-12)
        assert artist(drawn, f"mean {k}").get_xydata().tolist() == [mean.tolist()]
    assert not drawn.axes[0].texts  # nothing hides the data


def test_every_sample_is_drawn_once_by_the_component_that_explains_it(geyser, drawn):
    x, _, _ = geyser
    short, long = (np.asarray(artist(drawn, f"data {k}").get_offsets()) for k in (0, 1))
    together = np.concatenate([short, long])
    assert sorted(together.tolist()) == sorted(x.tolist())
    assert len(short) == 97
    assert short[:, 0].max() < 3.0 < long[:, 0].min()


def test_bands_hold_the_shares_that_the_legend_says(geyser, drawn):
    x, _, _ = geyser
    bands = [c for c in drawn.axes[0].collections if c.get_zorder() == 0]
    held = [sum(path.contains_points(x).sum() for path in c.get_paths()) for c in bands]
    # The level is a sample's own density, and the contour's lines may leave out that sample.
    np.testing.assert_allclose(held, [0.95 * 272, 0.80 * 272, 0.50 * 272], atol=2)
    assert legend_of(drawn) == [
        "component 0, weight 0.356:\nits mean, and ellipses with\n39% and 86% of its rows inside",
        "component 1, weight 0.644",
        "densest region with\n50% of the rows in it",
        "densest region with\n80% of the rows in it",
        "densest region with\n95% of the rows in it",
    ]


def test_everything_drawn_is_in_view(geyser):
    x, _, parameters = geyser
    x = np.append(parameters.means, x[:1], axis=0)  # so that the ellipses reach further than x
    figure = plot_mixture(x, parameters)
    everything = np.concatenate([x, *(artist(figure, f"ellipse {k} 2").get_xy() for k in (0, 1))])
    assert_in_view(figure.axes[0], everything)


def assert_in_view(axes, points):
    for limits, values in zip((axes.get_xlim(), axes.get_ylim()), points.T, strict=True):
        assert limits[0] < values.min() < values.max() < limits[1]


def test_axes_and_title_are_named_in_plain_text(geyser, drawn):
    x, _, parameters = geyser
    names = ["$\\frac$", "$^$"]  # as mathematics these would not parse
    figure = plot_mixture(x, parameters, labels=names, title="$\\frac$")
    lay_out(figure)
    for axes, expected in ((drawn.axes[0], ["x1", "x2", ""]), (figure.axes[0], [*names, names[0]])):
        found = [axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")]
        assert found == expected


UNKNOWN = "\U000ffff0\U000ffff1"  # of a plane for private use: no font has them


@pytest.mark.parametrize("draw", [plot_mixture, plot_pairs, plot_responsibilities])
def test_letters_that_no_font_has_are_told_once_in_one_warning(geyser, draw):
    x, _, model = geyser
    with pytest.warns(UserWarning, match=f"no installed font has {UNKNOWN} of the lab") as caught:
        figure = draw(x, model, labels=[f"a{UNKNOWN[0]}", "größe"], title=f"of {UNKNOWN[1]}")
    lay_out(figure)  # with no warning of Matplotlib's
    assert len(caught) == 1
    texts = {text.get_text() for text in figure.findobj(Text)}
    assert {"a?", "größe", "of ?"} <= texts


def test_labels_are_written_in_fonts_that_have_their_letters(geyser):
    x, _, model = geyser
    settings = {"font.family": "cmr10", "axes.formatter.use_mathtext": True}  # TeX's: Latin alone
    with rc_context(settings):
        figure = plot_mixture(x, model, labels=["Жа", "μα"])
        lay_out(figure)  # a letter that is missing would be a warning
        families = figure.axes[0].xaxis.label.get_fontfamily()
        assert figure.axes[0].get_xlabel() == "Жа"
        assert families[0] == "cmr10"
        paths = [findfont(FontProperties(family=[family])) for family in families]
        assert any(ord("Ж") in get_font(path).get_charmap() for path in paths)


def test_the_command_line_says_in_one_line_which_letters_no_font_has(geyser, tmp_path, capsys):
    x, _, _ = geyser
    path = tmp_path / f"x{UNKNOWN[0]}.csv"
    write_table(path, x[:40], [UNKNOWN, "b"])
    pictures = ["--plot", tmp_path / "a.png", "--plot-responsibilities", tmp_path / "b.png"]
    assert main(["fit", str(path), "-k", "2", *map(str, pictures)]) == 0
    err = capsys.readouterr().err
    assert err.startswith(f"gmm-np: note: no installed font has {UNKNOWN} of the labels, so ? st")
    assert err.count("\n") == 1


def test_a_component_that_is_off_is_not_drawn(geyser):
    x, _, parameters = geyser
    logits = np.array([0.3, -np.inf, 0.0])
    means = np.insert(parameters.means, 1, [[900.0, 900.0]], axis=0)
    scale = np.insert(parameters.scale, 1, np.eye(2), axis=0)
    figure = plot_mixture(x, Parameters(logits, means, scale))
    assert {g for g in gids(figure) if g.startswith("mean")} == {"mean 0", "mean 2"}
    assert not {g for g in gids(figure) if g.split()[1] == "1"}
    first, second = legend_of(figure)[:2]
    assert first.startswith("component 0, weight 0.574:")
    assert second == "component 2, weight 0.426"
    assert figure.axes[0].get_xlim()[1] < 900


def test_components_differ_even_without_colour():
    looks = [look(number) for number in range(180)]
    assert len({(one["marker"], str(one["linestyle"]), one["hatch"]) for one in looks}) == 180
    for first, second in itertools.pairwise(looks):
        assert not set(map(str, first.values())) & set(map(str, second.values()))


# Machado, Oliveira and Fernandes (2009), in linear RGB, of the most severe kind.
EYES = {
    "usual": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = [  # of linear sRGB, over that of its white (D65)
    [0.4339499, 0.3762098, 0.1898396],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0177566, 0.1094680, 0.8727755],
]


def lab_of(linear):
    """CIELAB of linear sRGB."""
    ratio = np.asarray(XYZ) @ np.clip(linear, 0.0, 1.0)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", EYES)
def test_any_two_of_eight_colours_differ_to_all_eyes(eyes):
    encoded = np.array([to_rgb(look(number)["color"]) for number in range(8)])
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = [lab_of(np.asarray(EYES[eyes]) @ colour) for colour in linear]
    pairs = itertools.combinations(seen, 2)
    # A just noticeable difference is 2.3; ten of them are seen in small marks as well.
    assert min(float(np.linalg.norm(one - two)) for one, two in pairs) > 23.0


@pytest.mark.parametrize("draw", [plot_mixture, plot_pairs, plot_responsibilities])
def test_a_caption_stands_below_all_else_and_within_the_picture(geyser, draw):
    x, _, parameters = geyser
    figure = draw(x, parameters)
    before = figure.get_size_inches()
    text = "What $this$ shows, " * 20
    add_caption(figure, text)
    lay_out(figure)
    (caption,) = [t for t in figure.texts if t.get_gid() == "caption"]
    assert " ".join(caption.get_text().split()) == text.strip()
    extent = caption.get_window_extent()
    assert 0 <= extent.x0 < extent.x1 <= figure.bbox.x1
    assert extent.y0 >= 0
    assert extent.y1 <= min(axes.get_tightbbox().y0 for axes in figure.axes if axes.axison)
    after = figure.get_size_inches()
    assert after[0] == before[0]
    assert after[1] > before[1]


def test_a_long_name_stays_beside_its_own_panel(four):
    x, parameters = four
    names = [f"a name of column {j} that is as long as those in reports are" for j in range(4)]
    figure = plot_pairs(x[:, :4], parameters, labels=names)
    lay_out(figure)
    below = [axes.xaxis.label for axes in figure.axes[-4:]]
    extents = [label.get_window_extent() for label in below]
    assert all(one.x1 < two.x0 for one, two in itertools.pairwise(extents))
    assert [label.get_text().replace("\n", " ")[:17] for label in below] == [
        f"a name of column {j}"[:17] for j in range(4)
    ]


def test_of_many_components_the_heaviest_are_named():
    problem = random_problem(0, n_samples=200, n_components=20, n_features=2, separation=9.0)
    figure = plot_mixture(problem.x, Parameters(*problem[1:]))
    heaviest = sorted(np.argsort(-problem.pi_logits)[:12])
    named = [entry.split(",")[0] for entry in legend_of(figure)[:12]]
    assert named == [f"component {number}" for number in heaviest]
    assert legend_of(figure)[12] == "and 8 of less weight"
    assert {f"mean {number}" for number in range(20)} <= gids(figure)


def test_nothing_is_hatched_where_marker_and_line_tell_components_apart(drawn, waiting, pairs):
    for figure in (drawn, plot_mixture(*waiting), pairs):
        hatched = [a for a in figure.findobj() if getattr(a, "get_hatch", lambda: None)()]
        assert not hatched


def test_of_many_samples_a_reproducible_draw_is_shown():
    x = np.random.default_rng(0).normal(size=(1000, 2))
    parameters = Parameters([0.0], [[0.0, 0.0]], [np.eye(2)])

    def draw(**options):
        figure = plot_mixture(x, parameters, max_points=100, **options)
        return np.asarray(artist(figure, "data 0").get_offsets()).tolist()

    shown = draw()
    assert len({tuple(row) for row in shown}) == 100
    assert all(row in x.tolist() for row in shown)
    assert draw() == shown
    assert draw(seed=1) != shown


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e150])
def test_the_scale_of_the_data_does_not_matter(size):
    problem = random_problem(3, n_samples=50, n_components=2, n_features=2)
    parameters = Parameters(problem.pi_logits, size * problem.means, size * problem.scale_tril)
    lay_out(plot_mixture(size * problem.x, parameters))


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        ([[1.0, 2.0]], np.float64),
        ([[1, 2]] * 5, np.float32),
        ([[0.0, 0.0], [1e6, -1e6]], np.float64),
        ([[0.0, 0.0], [1e170, 1e160]], np.float32),
    ],
    ids=["one sample", "one place", "an outlier", "beyond squares"],
)
def test_awkward_data_is_drawn_without_a_warning(x, dtype):
    arrays = [np.array(a, dtype) for a in ([0, 1], [[0, 0], [3, 3]], [np.eye(2), 1e-4 * np.eye(2)])]
    lay_out(plot_mixture(x, Parameters(*arrays)))


# --- one dimension ------------------------------------------------------------------------------


def test_in_one_dimension_the_weighted_densities_add_up_to_the_mixture(waiting):
    x, parameters = waiting
    figure = plot_mixture(x, parameters, labels=["waiting"])
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
    mean, peak = artist(figure, "mean 1").get_xydata()[0]
    deviation = parameters.scale[1, 0, 0]
    np.testing.assert_allclose(
        [mean, peak], [79.97, 0.644 / deviation / np.sqrt(2 * np.pi)], rtol=1e-12
    )
    assert [axes.get_xlabel(), axes.get_ylabel()] == ["waiting", "density"]
    assert legend_of(figure)[1:] == ["component 1, weight 0.644", "mixture density", "data"]
    lay_out(figure)


# --- what is refused ----------------------------------------------------------------------------


def test_arguments_that_disagree_are_refused(geyser, four):
    x, _, parameters = geyser
    with pytest.raises(ValueError, match=r"D = 1 or 2 dimensions; got D = 4\. Use plot_pairs"):
        plot_mixture(*four)
    with pytest.raises(ValueError, match=r"D = 2 dimensions; got D = 4\. Use plot_mixture"):
        plot_contours(*four)
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
    assert str(caught.value) == (
        "pictures need matplotlib, which is not installed: pip install matplotlib"
    )


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
def test_the_suffix_names_the_format(tmp_path, name, start):
    save_figure(new_figure(1, 1), tmp_path / name)
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


def test_a_format_that_is_unknown_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="'xyz' is not supported"):
        save_figure(new_figure(1, 1), tmp_path / "picture.xyz")
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_missing_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"there is no directory .*nowhere; create it first"
    ):
        save_figure(Figure(), tmp_path / "nowhere" / "picture.png")


# --- families and estimators ----------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_ellipses_are_those_of_the_family(family):
    parameters = random_parameters(0, family, 2, 2)
    figure = plot_mixture([[0.0, 1.0], [4.0, 0.0]], parameters)
    for k, factor in enumerate(expand(parameters.scale, family, 2, 2)):
        reach = distances(artist(figure, f"ellipse {k} 2").get_xy(), parameters.means[k], factor)
        np.testing.assert_allclose(reach, 2.0, rtol=1e-12)


def shown(figure):
    """All numbers and texts that a figure shows."""
    found = [text.get_text() for text in figure.findobj(Text)]
    for name in ("get_xydata", "get_xy", "get_offsets", "get_array", "get_label", "get_paths"):
        for artist in figure.findobj(lambda a, name=name: hasattr(a, name)):
            value = getattr(artist, name)()
            paths = [path.vertices for path in value] if name == "get_paths" else [value]
            found += [str(np.asarray(numbers).tolist()) for numbers in paths]
    return found


@pytest.mark.parametrize(
    ("family", "draw"),
    [
        *((family, plot_mixture) for family in ("full", "tied_diag")),  # one matrix each, and a row
        ("full", plot_pairs),
        ("full", plot_responsibilities),
        ("diag", plot_contours),
    ],
)
def test_a_fitted_estimator_is_drawn_as_its_parameters_are(geyser, family, draw):
    x, _, _ = geyser
    fitted = GaussianMixture(2, covariance_type=family, random_state=0, tol=0.01).fit(x)
    same = fitted.parameters_
    other = Parameters([1.0, 0.0], same.means, same.scale, family)
    first, second, third = (shown(draw(x, model)) for model in (fitted, same, other))
    assert first == second
    assert first != third


def test_an_estimator_of_scikit_learn_is_drawn(geyser):
    from sklearn.mixture import GaussianMixture as Theirs

    x, _, _ = geyser
    theirs = Theirs(2, random_state=0).fit(x)
    figure = plot_mixture(x, theirs)
    for k in (0, 1):
        curve = artist(figure, f"ellipse {k} 1").get_xy()
        factor = np.linalg.cholesky(theirs.covariances_[k])
        np.testing.assert_allclose(distances(curve, theirs.means_[k], factor), 1.0, rtol=1e-12)


# --- pairs ----------------------------------------------------------------------------------------


def test_pairs_have_the_marginals_of_the_mixture(four, pairs):
    x, parameters = four
    panels = np.array(pairs.axes).reshape(4, 4)
    covariances = parameters.scale @ parameters.scale.transpose(0, 2, 1)
    for i, j in itertools.combinations(range(4), 2):
        axes = panels[j, i]  # x_i to the right, x_j up
        for k in range(3):
            (curve,) = (p for p in axes.patches if p.get_gid() == f"ellipse {k} 2")
            factor = np.linalg.cholesky(covariances[k][np.ix_([i, j], [i, j])])
            reach = distances(curve.get_xy(), parameters.means[k, [i, j]], factor)
            np.testing.assert_allclose(reach, 2.0, rtol=1e-11)
        drawn = np.concatenate([c.get_offsets() for c in axes.collections])
        assert sorted(drawn.tolist()) == sorted(x[:, [i, j]].tolist())
        assert not panels[i, j].axison
    assert [a.get_xlabel() for a in panels[3]] == ["a", "b", "$c", "d"]
    assert [a.get_ylabel() for a in panels[:, 0]] == ["density", "b", "$c", "d"]


def test_the_diagonal_of_pairs_has_the_density_of_its_dimension(four, pairs):
    _, parameters = four
    for i, axes in enumerate(np.array(pairs.axes).reshape(4, 4).diagonal()):
        (line,) = (line for line in axes.lines if line.get_label() == "mixture density")
        grid, density = line.get_data()
        factors = np.linalg.norm(parameters.scale[:, i], axis=1)[:, None, None]
        expected = log_prob(grid[:, None], parameters.pi_logits, parameters.means[:, [i]], factors)
        np.testing.assert_allclose(np.log(density), expected, rtol=1e-10, atol=1e-10)


def test_pairs_of_chosen_dimensions_keep_the_owner_in_all(four):
    x, parameters = four
    figure = plot_pairs(x, parameters, dimensions=[3, 1])
    assert len(figure.axes) == 4
    assert [a.get_xlabel() for a in figure.axes[2:]] == ["x4", "x2"]
    owner = responsibilities(x, parameters.pi_logits, parameters.means, parameters.scale).argmax(
        axis=1
    )
    for k in range(3):
        (points,) = (c for c in figure.axes[2].collections if c.get_gid() == f"data {k}")
        assert points.get_offsets().tolist() == x[owner == k][:, [3, 1]].tolist()


def test_of_many_dimensions_the_first_eight_are_drawn():
    problem = random_problem(0, n_samples=10, n_components=1, n_features=8)
    x = np.column_stack([problem.x, problem.x[:, :2]])
    parameters = Parameters([0.0], [np.zeros(10)], np.eye(10)[None])
    figure = plot_pairs(x, parameters, labels=[*"abcdefgh", "$i", "j"])
    assert len(figure.axes) == 64
    assert legend_of(figure)[-1] == "8 of 10 columns are drawn, all but\n$i, j"
    with pytest.raises(ValueError, match="1 to 8 different numbers from 0 to D - 1 = 9; got"):
        plot_pairs(x, parameters, dimensions=range(9))


def test_the_command_line_says_which_columns_a_picture_leaves_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gmm_np.plotting.pairs._LARGEST", 3)
    table, path = str(tmp_path / "x.csv"), str(tmp_path / "x.png")
    write_table(table, np.random.default_rng(0).normal(size=(60, 5)), [*"abc", "last one", "e"])
    assert main(["fit", table, "-k", "1", "--plot", path]) == 0
    said = "3 of 5 columns are drawn, all but: last one, e"
    assert capsys.readouterr().err == f"gmm-np: note: {path}: {said}\n"
    assert main(["fit", table, "-k", "1", "--columns", "a,b,c", "--plot", path]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("dimensions", [[], [0, 0], [4], [-1]])
def test_dimensions_that_are_not_there_are_refused(four, dimensions):
    with pytest.raises(ValueError, match="different numbers from 0 to D - 1 = 3"):
        plot_pairs(*four, dimensions=dimensions)


# --- responsibilities -----------------------------------------------------------------------------


def test_uncertain_samples_are_outlined_and_certain_ones_are_not(geyser):
    x, _, parameters = geyser
    figure = plot_responsibilities(x, parameters)
    resp = responsibilities(x, parameters.pi_logits, parameters.means, parameters.scale)
    certain, owner = resp.max(axis=1) >= 0.95, resp.argmax(axis=1)
    assert (~certain).sum() == 1  # at (2.9, 63)
    for k in (0, 1):
        for kind, which in (("certain", certain), ("uncertain", ~certain)):
            drawn = np.asarray(artist(figure, f"{kind} {k}").get_offsets())
            assert drawn.tolist() == x[which & (owner == k)].tolist()
    shapes = [artist(figure, f"{kind} 0").get_sizes()[0] for kind in ("certain", "uncertain")]
    assert shapes[1] > 2 * shapes[0]  # legible without colour
    assert [t.get_text() for t in figure.axes[0].texts] == ["0", "1"]


def test_the_number_of_a_component_leaves_its_mean_in_sight(geyser):
    x, _, parameters = geyser
    figure = plot_responsibilities(x, parameters)
    lay_out(figure)
    for k, text in enumerate(figure.axes[0].texts):
        mark = artist(figure, f"mean {k}")
        assert mark.get_marker() == look(k)["marker"]
        place = figure.axes[0].transData.transform(parameters.means[k])
        box = text.get_bbox_patch().get_window_extent()
        half = 0.5 * mark.get_markersize() * figure.dpi / 72
        corners = (place + half * np.array([a, b]) for a in (-1, 1) for b in (-1, 1))
        assert not any(box.contains(*corner) for corner in corners)


def test_lines_part_the_regions_of_the_components(geyser):
    x, _, parameters = geyser
    figure = plot_responsibilities(x, parameters)
    lines = [c for c in figure.axes[0].collections if c.get_gid() is None]
    points = np.concatenate([p.vertices for line in lines for p in line.get_paths() if len(p)])
    resp = responsibilities(points, parameters.pi_logits, parameters.means, parameters.scale)
    assert len(points) > 50
    # Linear interpolation on a grid of 200 points an axis.
    np.testing.assert_allclose(resp, 0.5, atol=0.1)


def test_shares_of_one_dimension_stand_above_each_other(waiting):
    figure = plot_responsibilities(*waiting, labels=["waiting"])
    (area,) = artist(figure, "share 0").get_paths()
    edge = area.vertices
    at = np.unique(edge[:, 0])[50:-50:37]
    parameters = waiting[1]
    resp = responsibilities(at[:, None], parameters.pi_logits, parameters.means, parameters.scale)
    top = [edge[edge[:, 0] == place, 1].max() for place in at]
    np.testing.assert_allclose(top, resp[:, 0], atol=1e-12)
    assert figure.axes[0].get_xlabel() == "waiting"


def test_shares_of_many_dimensions_are_ordered_by_component(four):
    x, parameters = four
    figure = plot_responsibilities(x, parameters, title="four")
    resp = responsibilities(x, parameters.pi_logits, parameters.means, parameters.scale)
    owner = resp.argmax(axis=1)
    order = sorted(range(80), key=lambda n: (owner[n], -resp[n].max()))
    edge = artist(figure, "share 0").get_paths()[0].vertices
    top = [edge[edge[:, 0] == place, 1].max() for place in range(1, 81)]
    np.testing.assert_allclose(top, resp[order, 0], atol=1e-12)
    lay_out(figure)


@pytest.mark.parametrize("n_features", [1, 2, 3])
def test_a_single_component_and_a_single_sample_are_drawn(n_features):
    parameters = Parameters([0.0], np.zeros((1, n_features)), np.eye(n_features)[None])
    for draw in (plot_responsibilities, plot_pairs):
        lay_out(draw(np.ones((1, n_features)), parameters))


# --- history --------------------------------------------------------------------------------------


def test_a_history_is_drawn_as_it_was_and_above_the_best():
    curves = {"EM": [5.0, 4.0, 3.5, 3.2], "L-BFGS": [6.0, 3.0]}
    figure = plot_history(curves, title="$fits")
    for name, values in curves.items():
        drawn = artist(figure, f"loss {name}")
        assert drawn.get_xdata().tolist() == list(range(1, len(values) + 1))
        assert drawn.get_ydata().tolist() == values
        excess = artist(figure, f"excess {name}").get_ydata()
        np.testing.assert_array_equal(
            excess, [value - 3.0 if value > 3.0 else np.nan for value in values]
        )
    assert legend_of(figure) == ["EM: 3.200000 after 4", "L-BFGS: 3.000000 after 2"]
    assert figure.axes[1].get_yscale() == "log"
    looks = [artist(figure, f"loss {name}") for name in curves]
    assert looks[0].get_marker() != looks[1].get_marker()
    assert looks[0].get_linestyle() != looks[1].get_linestyle()
    lay_out(figure)


@pytest.mark.parametrize("n_curves", [1, 12, 40])
def test_the_legend_of_many_curves_does_not_squash_the_panels(n_curves):
    rng = np.random.default_rng(0)
    curves = {f"start {k}": 4 + np.sort(rng.random(15))[::-1] for k in range(1, n_curves + 1)}
    figure = plot_history(curves)
    lay_out(figure)
    dpi = figure.dpi
    for axes in figure.axes:
        assert axes.get_window_extent().height > 2.0 * dpi
        assert axes.get_window_extent().width > 3.5 * dpi
    (legend,) = figure.legends
    extent = legend.get_window_extent()
    assert extent.y0 >= 0
    assert not any(extent.overlaps(axes.get_window_extent()) for axes in figure.axes)
    best = sorted(curves, key=lambda name: curves[name][-1])[:20]
    said = [entry.split(":")[0] for entry in legend_of(figure)]
    assert set(said[:20]) == set(best)
    assert said[20:] == (["and 20 that ended higher"] if n_curves == 40 else [])


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], np.geomspace(1e6, 1, 500), [1, 2, 1.5]])
def test_awkward_histories_are_drawn_without_a_warning(values):
    figure = plot_history(values)
    lay_out(figure)
    low, high = figure.axes[0].get_ylim()
    assert low < min(values) <= values[-1] < high


def test_a_known_best_may_be_below_the_histories():
    figure = plot_history([5.0, 4.0], best=3.0)
    assert artist(figure, "excess loss").get_ydata().tolist() == [2.0, 1.0]


@pytest.mark.parametrize("histories", [{}, [], {"a": [1.0], "b": []}, [np.nan], [[1.0]]])
def test_histories_that_are_none_are_refused(histories):
    with pytest.raises(ValueError, match="histories"):
        plot_history(histories)


# --- BIC ------------------------------------------------------------------------------------------


def test_the_least_bic_is_marked_and_failures_are_gaps():
    scores = {"full": {1: 10.0, 2: 5.0, 3: 6.0}, "diag": {1: 12.0, 2: None, 3: 5.5, 4: np.inf}}
    figure = plot_bic(scores, title="$data")
    full, diag = (artist(figure, f"bic {family}") for family in scores)
    assert full.get_xydata().tolist() == [[1, 10], [2, 5], [3, 6]]
    np.testing.assert_array_equal(diag.get_ydata(), [12.0, np.nan, 5.5, np.nan])
    assert artist(figure, "least").get_xydata().tolist() == [[2, 5]]
    assert legend_of(figure) == ["full", "diag", "chosen:\nfull, K = 2,\nBIC 5.0"]
    assert artist(figure, "excess full").get_ydata().tolist() == [5.0, 0.0, 1.0]
    assert full.get_marker() != diag.get_marker()
    lay_out(figure)


def test_a_collapsed_mixture_is_crossed_out_and_not_the_choice():
    scores = {"full": {1: 10.0, 2: 5.0, 3: -40.0}, "diag": {1: 12.0, 2: 9.0, 3: 8.0}}
    figure = plot_bic(scores, criterion="ICL", collapsed={"full": [3]})
    np.testing.assert_array_equal(artist(figure, "bic full").get_ydata(), [10.0, 5.0, np.nan])
    assert artist(figure, "least").get_xydata().tolist() == [[2, 5]]
    assert artist(figure, "collapsed full").get_xydata().tolist() == [[3, -40]]
    said = ["full", "diag", "a component collapsed", "chosen:\nfull, K = 2,\nICL 5.0"]
    assert legend_of(figure) == said
    assert "ICL" in figure.axes[0].get_ylabel()
    lay_out(figure)
    for axes, value in zip(figure.axes, (-40.0, -45.0), strict=True):
        (cross,) = [line for line in axes.lines if line.get_marker() == "x"]
        assert cross.get_xydata().tolist() == [[3, value]]
        assert axes.get_window_extent().contains(*axes.transData.transform((3, value)))
    everything = plot_bic(
        {"full": scores["full"]}, collapsed={"full": [1, 2, 3]}, chosen=("full", 1)
    )
    assert artist(everything, "least").get_xydata().tolist() == [[1, 10]]
    with pytest.raises(ValueError, match="chosen must name"):
        plot_bic(scores, chosen=("full", 4))


@pytest.mark.parametrize(("best", "poor"), [(1, 1e6), (2, 0.0), (2, 1e6), (30, 1e6)])
def test_the_least_bic_is_in_view_beside_poor_families(best, poor):
    good = {k: 1e5 + abs(k - best) for k in (1, 2, 30)}
    figure = plot_bic({"full": good, "spherical": {k: bic + poor for k, bic in good.items()}})
    lay_out(figure)
    below = figure.axes[1]
    places = below.transData.transform([(k, bic - 1e5) for k, bic in good.items()])
    frame = below.get_window_extent()
    assert all(frame.contains(*place) for place in places)
    lowest, second = np.sort(places[:, 1])[:2]
    assert second - lowest > 10  # pixels: a difference of 1 is seen beside one of 1e6


@pytest.mark.parametrize("scores", [{}, {"full": {}}, {"full": {1: None, 2: np.nan}}])
def test_scores_without_any_are_refused(scores):
    with pytest.raises(ValueError, match="at least one finite BIC; got none"):
        plot_bic(scores)


# --- contours, and pictures in a row ------------------------------------------------------------


def test_contours_hold_the_shares_that_the_legend_says(geyser):
    x, _, parameters = geyser
    figure = plot_contours(x, parameters, aspect="auto")
    z = np.random.default_rng(1).standard_normal((20_000, 2))
    for k in (0, 1):
        mean, factor = parameters.means[k], parameters.scale[k]
        for held in (0.25, 0.5, 0.75, 0.95):
            curve = artist(figure, f"contour {k} {held}").get_xy()
            radius = distances(curve, mean, factor)
            np.testing.assert_allclose(radius, radius[0], rtol=1e-12)
            # Five standard errors of a share over 20000 draws.
            inside = np.mean(np.sum(z**2, axis=1) < radius[0] ** 2)
            assert abs(inside - held) < 5 * np.sqrt(held * (1 - held) / 20_000)
    assert legend_of(figure) == [
        "component 0, weight 0.356",
        "component 1, weight 0.644",
        (
            "Inside its ellipses lie 25, 50, 75\nand 95% of a component's rows;\n"
            "they are opaque by its weight."
        ),
    ]


def test_opacity_grows_with_the_weight():
    weights = np.array([0.6, 0.25, 0.13, 0.02, 1e-30])
    scale = np.broadcast_to(np.eye(2), (5, 2, 2))
    means = np.arange(10.0).reshape(5, 2)
    figure = plot_contours(means, Parameters(np.log(weights), means, scale))
    opacity = [artist(figure, f"contour {k} 0.5").get_alpha() for k in range(5)]
    assert opacity == sorted(opacity, reverse=True)
    assert len(set(opacity)) == 5
    assert 0.1 < opacity[-1] < opacity[0] < 1  # what is on can be seen
    equal = plot_contours(means, Parameters(np.zeros(5), means, scale))
    assert artist(equal, "contour 2 0.5").get_alpha() == pytest.approx(0.7)
    alone = plot_contours(means, Parameters([0.0], means[:1], scale[:1]))
    assert artist(alone, "contour 0 0.5").get_alpha() == 1


@pytest.mark.parametrize(
    ("draw", "stretch"), [(plot_mixture, 0.05), (plot_contours, 1.0), (plot_mixture, 20.0)]
)
def test_equal_units_are_equally_long_and_nothing_is_cut_off(draw, stretch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 2)) * [1.0, stretch]
    parameters = Parameters(np.zeros(14), x[:14], np.ones((14, 2)) * [0.3, 0.3 * stretch], "diag")
    figure = draw(x, parameters, aspect="equal", title="A title")
    lay_out(figure)
    axes = figure.axes[0]
    window = axes.get_window_extent()
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert window.width / (right - left) == pytest.approx(window.height / (high - low), rel=1e-6)
    tight = figure.get_tightbbox()
    assert tight.x0 >= 0
    assert tight.y0 >= 0
    assert tight.x1 <= figure.get_figwidth()
    assert tight.y1 <= figure.get_figheight()


def test_limits_of_contours_are_those_that_were_given(geyser):
    x, _, parameters = geyser
    figure = plot_contours(x, parameters, limits=((0.0, 6.0), (30.0, 34.0)))
    assert figure.axes[0].get_xlim() == (0.0, 6.0)
    assert figure.axes[0].get_ylim() == (30.0, 34.0)
    figure = plot_contours(x, parameters)
    curve = artist(figure, "contour 0 0.95").get_xy()
    assert_in_view(figure.axes[0], np.concatenate([x, curve]))


def plain_figures(*sizes):
    for shade, size in enumerate(sizes):
        figure = new_figure(*size)
        figure.set_facecolor((0.2 * shade, 0.5, 0.5))
        yield figure


def test_an_animation_shows_each_figure_and_holds_the_last(tmp_path):
    from PIL import Image

    path = tmp_path / "a.gif"
    save_animation(plain_figures((1, 0.5), (1, 0.5), (1, 0.5)), path, fps=5, hold=1.0)
    with Image.open(path) as animation:
        assert animation.size == (150, 75)
        durations, shades = [], []
        for index in range(animation.n_frames):
            animation.seek(index)
            durations.append(animation.info["duration"])
            shades.append(animation.convert("RGB").getpixel((0, 0))[0])
        assert animation.info["loop"] == 0  # for ever
    assert shades == [0, 51, 102]
    assert durations == [200, 200, 1200]


@pytest.mark.parametrize("before", [b"the old picture", None])
@pytest.mark.parametrize(
    ("figures", "options", "message"),
    [
        ([(1, 1), (1, 2)], {}, "figures must have one size"),
        ([], {}, "figures must hold at least one"),
        ([(1, 1)], {"fps": 0}, "fps must be at least 1"),
    ],
)
def test_an_animation_that_fails_leaves_what_was_there(tmp_path, before, figures, options, message):
    path = tmp_path / "a.gif"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(ValueError, match=message):
        save_animation(plain_figures(*figures), path, **options)
    assert (path.read_bytes() if path.exists() else None) == before
    assert [other.name for other in tmp_path.iterdir()] == ([] if before is None else ["a.gif"])


def test_an_animation_is_a_gif(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in .gif; got .*a.mp4"):
        save_animation(plain_figures((1, 1)), tmp_path / "a.mp4")
