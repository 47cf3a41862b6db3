"""Standard errors: published tables, an independent computation, and what they have to be."""

import warnings

import numpy as np
import pytest
from families_by_reference import FAMILIES

import gmm_np
from gmm_np import Gradients, Parameters, standard_errors
from gmm_np.datasets import load_old_faithful, make_clusters
from gmm_np.parametrizations import Cholesky
from gmm_np.solvers import fit_em, fit_newton

# Velocities of 82 galaxies in km/s (Postman, Huchra and Geller 1986, Roeder 1990), with 26960.
GALAXIES = """
9172 9350 9483 9558 9775 10227 10406 16084 16170 18419 18552 18600 18927 19052 19070 19330 19343
19349 19440 19473 19529 19541 19547 19663 19846 19856 19863 19914 19918 19973 19989 20166 20175
20179 20196 20215 20221 20415 20629 20795 20821 20846 20875 20986 21137 21492 21701 21814 21921
21960 22185 22209 22242 22249 22314 22374 22495 22746 22747 22888 22914 23206 23241 23263 23484
23538 23542 23666 23706 23711 24129 24285 24289 24366 24717 24990 25633 26960 26995 32065 32789
34279
"""
# Waiting times in minutes between 300 eruptions of Old Faithful, and how often each occurs
# (Azzalini and Bowman 1990; `geyser` of R's MASS).
GEYSER = """
43:1 45:1 47:2 48:5 49:7 50:12 51:5 52:5 53:7 54:9 55:3 56:2 57:9 58:5 59:3 60:6 61:3 62:5 63:1
64:1 65:7 66:2 68:3 69:4 70:1 71:5 72:6 73:6 74:8 75:9 76:8 77:10 78:17 79:11 80:13 81:12 82:8
83:6 84:11 85:7 86:5 87:14 88:7 89:7 90:2 91:2 92:3 93:8 94:1 96:2 98:1 108:1
"""


def two_normals(x, weight=None):
    start = Parameters([0.0, 0.0], [[54.0], [80.0]], [6.0, 6.0], "spherical")
    return fit_newton(x, start, sample_weight=weight, tol=1e-11).parameters


def clusters(seed=0, family="full", n=400, k=2, d=2):
    x, _, truth = make_clusters(n, k, d, family=family, seed=seed)
    return x, fit_newton(x, fit_em(x, truth).parameters, tol=1e-11).parameters


# --- published ----------------------------------------------------------------------------------


def test_errors_are_those_of_sas_on_galaxies():
    """PROC FMM, five normals of variance 0.9025; to every digit that it prints."""
    x = np.array(GALAXIES.split(), dtype=float)[:, None] / 1000
    means = [[26.0], [33.0], [9.7], [23.0], [19.7]]
    start = Parameters(np.zeros(5), means, np.full((5, 1, 1), np.sqrt(0.9025)), "constant")
    fit = fit_newton(x, start, tol=1e-11)
    found = standard_errors(x, fit.parameters)
    printed = [26.3266, 33.0443, 9.7101, 23.0295, 19.7187]
    assert np.round(fit.parameters.means[:, 0], 4).tolist() == printed
    assert np.round(found.means[:, 0], 4).tolist() == [0.7778, 0.5485, 0.3591, 0.2294, 0.1784]
    assert round(2 * 82 * fit.nll, 1) == 412.2
    assert not found.covariances.any()
    # and neither of the others gives them
    for kind in ("opg", "sandwich"):
        other = standard_errors(x, fit.parameters, kind=kind)
        assert np.abs(other.means[:, 0] - [0.7778, 0.5485, 0.3591, 0.2294, 0.1784]).max() > 1e-3


def test_errors_are_those_published_for_old_faithful():
    x = load_old_faithful()[0][:, 1:]
    p = two_normals(x)
    found = standard_errors(x, p)
    assert np.allclose(p.weights()[0], 0.3608861, atol=5e-8)
    assert np.allclose(p.means[:, 0], [54.6148561, 80.0910694], atol=5e-8)
    assert np.allclose(p.scale, [5.8712194, 5.8677344], atol=5e-8)
    assert np.allclose(found.weights, 0.0311648, atol=5e-8)
    assert np.allclose(found.means[:, 0], [0.699675, 0.5045947], atol=5e-8)
    assert np.allclose(found.scale, [0.5373224, 0.4009615], atol=5e-8)


def test_errors_on_geyser_are_those_of_complex_steps():
    """The Hessian in (p, mu_1, mu_2, sigma_1, sigma_2) from a gradient written for this alone."""
    table = np.array([pair.split(":") for pair in GEYSER.split()], dtype=float)
    x, weight = table[:, :1], table[:, 1]
    assert weight.sum() == 299
    p = two_normals(x, weight)
    found = standard_errors(x, p, sample_weight=weight)
    assert np.allclose(found.weights, 0.0304379, atol=5e-8)
    assert np.allclose(found.means[:, 0], [0.6830665, 0.6333869], atol=5e-8)
    assert np.allclose(found.scale, [0.5182311, 0.5070945], atol=5e-8)

    def gradient(share, mean_1, mean_2, size_1, size_2):
        y = x[:, 0]
        z_1, z_2 = (y - mean_1) / size_1, (y - mean_2) / size_2
        one, two = (np.exp(-z * z / 2) / s for z, s in ((z_1, size_1), (z_2, size_2)))
        total = share * one + (1 - share) * two
        first, second = share * one / total, (1 - share) * two / total
        slopes = [
            (one - two) / total,
            first * z_1 / size_1,
            second * z_2 / size_2,
            first * (z_1 * z_1 - 1) / size_1,
            second * (z_2 * z_2 - 1) / size_2,
        ]
        return np.array([-(weight * slope).sum() for slope in slopes])

    at = np.array([p.weights()[0], *p.means[:, 0], *p.scale])
    hessian = [gradient(*(at + 1e-30j * unit)).imag / 1e-30 for unit in np.eye(5)]
    expected = np.sqrt(np.diag(np.linalg.inv(np.array(hessian))))
    own = [found.weights[0], *found.means[:, 0], *found.scale]
    assert np.allclose(own, expected, rtol=1e-9)


# --- what they have to be -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hessian", "opg", "sandwich"])
@pytest.mark.parametrize("family", FAMILIES)
def test_weight_of_two_counts_as_the_row_twice(family, kind):
    x, p = clusters(family=family)
    twice = np.random.default_rng(0).integers(1, 4, size=len(x))
    options = {"kind": kind}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit is to other weights
        left = standard_errors(x, p, sample_weight=twice, **options)
        right = standard_errors(np.repeat(x, twice, axis=0), p, **options)
    for name in ("weights", "means", "covariances", "scale", "deviations"):
        assert np.allclose(getattr(left, name), getattr(right, name), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("family", FAMILIES)
def test_single_gaussian_has_the_textbook_errors(family):
    """Of the mean sigma / sqrt(N), of a variance sigma^2 sqrt(2 / N), shared by n columns less."""
    x = np.random.default_rng(1).normal(size=(500, 3)) * [1.0, 2.0, 0.5]
    scale = {
        "full": np.eye(3)[None],
        "tied": np.eye(3),
        "diag": np.ones((1, 3)),
        "tied_diag": np.ones(3),
        "spherical": np.ones(1),
        "shared_spherical": np.ones(()),
        "constant": np.eye(3)[None],
    }[family]
    p = fit_em(x, Parameters([0.0], np.zeros((1, 3)), scale, family)).parameters
    found = standard_errors(x, p)
    variances = np.diagonal(p.covariances(), axis1=1, axis2=2)[0]
    assert np.allclose(found.means[0], np.sqrt(variances / 500), rtol=1e-8)
    assert found.weights.tolist() == [0.0]
    n_equal = 3 if "spherical" in family else 1
    expected = variances * np.sqrt(2 / 500 / n_equal)
    own = np.broadcast_to(
        found.covariances
        if found.correlations is None
        else np.diagonal(found.covariances, axis1=-2, axis2=-1),
        (1, 3),
    )[0]
    assert np.allclose(own, 0.0 if family == "constant" else expected, rtol=1e-8)
    if family in ("full", "tied"):
        rho = np.corrcoef(x.T)
        own = found.correlations[0] if family == "full" else found.correlations
        assert np.allclose(own, (1 - rho**2) / np.sqrt(500) * (1 - np.eye(3)), atol=1e-8)


def test_errors_do_not_depend_on_which_logit_is_fixed():
    x, p = clusters(k=3)
    shifted = Parameters(p.pi_logits + 7.0, p.means, p.scale)
    left, right = standard_errors(x, p), standard_errors(x, shifted)
    assert np.allclose(left.weights, right.weights, rtol=1e-9)
    assert np.allclose(left.covariance, right.covariance, rtol=1e-6, atol=1e-12)
    assert abs(left.covariance[:3, :3].sum()) < 1e-15


def test_errors_scale_with_the_data():
    x, p = clusters()
    left = standard_errors(x, p)
    right = standard_errors(
        1e-3 * x + 50, Parameters(p.pi_logits, 1e-3 * p.means + 50, 1e-3 * p.scale)
    )
    assert np.allclose(right.means, 1e-3 * left.means, rtol=1e-6)
    assert np.allclose(right.covariances, 1e-6 * left.covariances, rtol=1e-6)
    assert np.allclose(right.correlations, left.correlations, rtol=1e-6, atol=1e-12)


def test_component_that_is_off_has_no_errors():
    x, p = clusters()
    means, scale = np.vstack([p.means, [[9.0, 9.0]]]), np.concatenate([p.scale, np.eye(2)[None]])
    found = standard_errors(x, Parameters([*p.pi_logits, -np.inf], means, scale))
    expected = standard_errors(x, p)
    assert np.allclose(found.means[:2], expected.means, rtol=1e-9)
    assert np.allclose(found.weights[:2], expected.weights, rtol=1e-9)
    assert np.isnan(found.means[2]).all()
    assert np.isnan(found.weights[2])
    assert np.isnan(found.covariances[2]).all()


def test_blocks_of_rows_give_the_same():
    x, p = clusters()
    left, right = standard_errors(x, p), standard_errors(np.array_split(x, 3), p)
    assert np.allclose(left.covariance, right.covariance, rtol=1e-9, atol=1e-16)


def test_bootstrap_agrees_with_the_sandwich():
    x, p = clusters(n=300)
    seen = []
    found = standard_errors(
        x, p, kind="bootstrap", n_bootstrap=120, callback=lambda i, n: seen.append((i, n))
    )
    expected = standard_errors(x, p, kind="sandwich")
    assert seen == [(i + 1, 120) for i in range(120)]
    for name in ("weights", "means", "covariances"):
        ratio = getattr(found, name) / getattr(expected, name)
        assert np.abs(np.log(ratio)).max() < 0.35  # an error of 120 fits is one of 6 %
    again = standard_errors(x, p, kind="bootstrap", n_bootstrap=120)
    assert np.array_equal(found.covariance, again.covariance)


def test_intervals_stay_where_the_parameters_can_be():
    x, p = clusters(n=60)
    found = standard_errors(x, p)
    ends = found.intervals()
    assert ((ends.weights > 0) & (ends.weights < 1)).all()
    assert np.allclose(ends.means.mean(axis=-1), p.means)
    assert np.allclose(ends.means[..., 1] - p.means, 1.959964 * found.means, rtol=1e-6)
    variances = np.diagonal(p.covariances(), axis1=1, axis2=2)
    assert np.allclose(ends.variances.prod(axis=-1), variances**2)
    half = np.log(ends.variances[..., 1] / variances)
    assert np.allclose(
        half * variances / 1.959964, np.diagonal(found.covariances, axis1=1, axis2=2), rtol=1e-6
    )
    odds = np.log(ends.weights / (1 - ends.weights))
    own = np.log(p.weights() / (1 - p.weights()))
    assert np.allclose(odds.mean(axis=-1), own)
    assert (np.abs(ends.correlations[:, 0, 1]) < 1).all()
    assert np.isnan(ends.correlations[:, 0, 0]).all()
    wider = found.intervals(0.99)
    assert (wider.means[..., 1] > ends.means[..., 1]).all()


def test_covariance_of_estimates_is_the_inverse_of_the_hessian():
    """In any vector with a logit fixed; here by an inverse in which one is left out."""
    x, p = clusters(k=3)
    hessian = gmm_np.nll_hessian(x, p.pi_logits, p.means, p.scale, reduction="sum")
    short = np.linalg.inv(hessian[1:, 1:])  # the first logit stays
    vector = Cholesky.of(p)
    rest = np.r_[3 : vector.size]
    found = standard_errors(x, p).covariance
    assert np.allclose(found[np.ix_(rest, rest)], short[2:, 2:], rtol=1e-8, atol=1e-14)


# --- what is said -------------------------------------------------------------------------------


def test_point_that_is_no_optimum_is_said():
    x, p = clusters()
    moved = Parameters(p.pi_logits, p.means + 0.05, p.scale)
    with pytest.warns(UserWarning, match=r"move them by .* standard errors.*fit_newton"):
        standard_errors(x, moved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        standard_errors(x, p)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "fisher"}, "kind"),
        ({"kind": "bootstrap", "n_bootstrap": 1}, "n_bootstrap must be at least 2"),
        (
            {"parameters": Parameters([0.0, 0.0], [[0.0], [0.0]], [[[1.0]]] * 2)},
            "not positive definite",
        ),
        ({"x": [[0.0], [1.0]], "kind": "opg"}, r"2 samples do not determine 5 parameters.*hessian"),
    ],
)
def test_what_cannot_be_is_said(change, message):
    said = {
        "x": [[-3.0], [-1.0], [1.0], [3.5]],
        "parameters": Parameters([0.0, 0.0], [[-2.0], [2.0]], [[[1.0]]] * 2),
        **change,
    }
    with pytest.raises(ValueError, match=message):
        standard_errors(said.pop("x"), said.pop("parameters"), **said)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_level_is_a_share(level):
    x, p = clusters(n=50)
    with pytest.raises(ValueError, match=r"level must be between 0 and 1, as 0\.95"):
        standard_errors(x, p).intervals(level)


def test_plus_of_gradients_leaves_out_what_one_has_not():
    left = Gradients(np.ones(1), np.ones((1, 1)), None)
    found = left.plus(Gradients(np.ones(1), np.ones((1, 1)), np.ones(1)), 2.0)
    assert found.pi_logits.tolist() == [3.0]
    assert found.scale is None
