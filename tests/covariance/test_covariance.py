"""The registry of covariance families: a family is what three words say, and known in one place."""

import ast
import itertools
from pathlib import Path

import families_by_reference as by_reference
import numpy as np
import pytest

import gmm_np
from gmm_np.covariance import FAMILIES, Family
from gmm_np.covariance.diagonal import DIAGONAL
from gmm_np.covariance.full import FULL
from gmm_np.covariance.spherical import SPHERICAL
from gmm_np.parametrizations import Cholesky, Covariance, LogCholesky, PrecisionFactor
from gmm_np.priors import Wishart
from gmm_np.solvers import fit_em, kmeans_start
from gmm_np.solvers.floor import deviations
from gmm_np.solvers.stepwise_em import remember

PACKAGE = Path(gmm_np.__file__).parent
AXES = {FULL: 2, DIAGONAL: 1, SPHERICAL: 0}
COMBINATIONS = list(itertools.product(AXES, [False, True], [False, True]))


def names_in_code(path):
    """Where a family's name stands in a file, but for the defaults of arguments."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    allowed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            allowed |= {id(value) for value in (*node.defaults, *node.kw_defaults)}
        elif isinstance(node, ast.keyword) and node.arg == "default":  # of the command line
            allowed |= {id(value) for value in ast.walk(node.value)}
        elif isinstance(node, ast.AnnAssign):  # of a dataclass
            allowed.add(id(node.value))
    return [
        f"{path.relative_to(PACKAGE)}, line {node.lineno}: {node.value!r}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in FAMILIES and id(node) not in allowed
    ]


def test_no_module_but_the_registry_knows_a_family_by_its_name():
    """But for what other libraries call them, and the oracle, which shares nothing with these."""
    registry = PACKAGE / "covariance" / "__init__.py"
    apart = {PACKAGE / "interop", PACKAGE / "conformance"}
    files = [path for path in PACKAGE.rglob("*.py") if apart.isdisjoint(path.parents)]
    found = [line for path in files for line in names_in_code(path)]
    assert {line.split(",")[0] for line in names_in_code(registry)} == {"covariance/__init__.py"}
    assert [line for line in found if not line.startswith("covariance/__init__.py")] == []


@pytest.fixture(params=COMBINATIONS, ids=lambda c: f"{type(c[0]).__name__} {c[1]} {c[2]}")
def family(request, monkeypatch):
    """A family of each structure, shared or not, learned or not, that nothing knows of."""
    structure, shared, learned = request.param
    monkeypatch.setitem(FAMILIES, "new", Family("new", structure, shared, learned))
    monkeypatch.setitem(by_reference.KINDS, "new", (AXES[structure], shared, learned))
    return FAMILIES["new"]


@pytest.mark.parametrize("method", ["direct", "moments"])
def test_every_combination_has_the_gradient_of_its_full_model(family, method):
    rng = np.random.default_rng(0)
    for k, d in ((1, 1), (3, 2), (4, 5)):
        x, weight = 1.5 * rng.normal(size=(50, d)), rng.integers(0, 4, size=50) + 0.5
        p = by_reference.random_parameters(k, "new", k, d)
        assert p.scale.shape == family.shape(k, d)
        value, expected = by_reference.value_and_grad(x, p, sample_weight=weight)
        options = {"family": "new", "method": method, "sample_weight": weight}
        found = gmm_np.nll_value_and_grad(x, p.pi_logits, p.means, p.scale, **options)
        assert found[0] == pytest.approx(value, rel=1e-12)
        again = gmm_np.gradients(p, gmm_np.statistics(x, p, sample_weight=weight, method=method))
        for gradient in (found[1], again):
            np.testing.assert_allclose(gradient.means, expected.means, rtol=0, atol=1e-12)
            assert (gradient.scale is None) == (not family.learned)
            if family.learned:
                np.testing.assert_allclose(gradient.scale, expected.scale, rtol=0, atol=1e-12)


def test_every_combination_passes_the_gradient_check(family):
    p = by_reference.random_parameters(4, "new", 2, 3)
    x = 1.5 * np.random.default_rng(4).normal(size=(20, 3))
    arguments = {"pi_logits": p.pi_logits, "means": p.means, "scale": p.scale}
    if not family.learned:
        del arguments["scale"]

    def value_and_grad(pi_logits, means, scale=p.scale):
        value, gradients = gmm_np.nll_value_and_grad(x, pi_logits, means, scale, family="new")
        return value, gradients[: len(arguments)]

    factors = family.learned and family.has_factors
    free = {"scale": np.broadcast_to(np.tri(3, dtype=bool), p.scale.shape)} if factors else {}
    report = gmm_np.check_grad(value_and_grad, arguments, free=free)
    assert report, report


def test_every_combination_can_be_fitted(family):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 3)) * [1.0, 3.0, 0.2] + 5 * rng.integers(0, 2, size=(200, 1))
    start = kmeans_start(x, 2, rng, family="new")
    fit = fit_em(x, start, priors=[Wishart(0.1, 1.0)], max_iter=20)
    assert np.diff(fit.history).max(initial=0.0) <= 1e-12
    if not family.learned:
        np.testing.assert_array_equal(fit.parameters.scale, start.scale)
    for space in (LogCholesky, Cholesky, Covariance, PrecisionFactor):
        vectors = space.of(start)
        vector = vectors.pack(start)
        assert vector.shape == (vectors.size,)
        np.testing.assert_allclose(vectors.unpack(vector).scale, start.scale, rtol=1e-12)
    free = {"full": 6, "diagonal": 3, "spherical": 1}[type(family.structure).__name__.lower()]
    n_covariances = (1 if family.shared else 2) if family.learned else 0
    assert family.n_parameters(2, 3) == free * n_covariances + 2 * 3 + 1


@pytest.mark.usefixtures("family")
def test_what_is_remembered_makes_the_same_parameters():
    rng = np.random.default_rng(2)
    p = by_reference.random_parameters(3, "new", 3, 4)
    for floor in (0.0, 0.01, 0.01 * rng.random(4)):
        again = gmm_np.em_step(p, remember(p, 7.0, floor), reg_covar=floor)
        np.testing.assert_allclose(again.means, p.means, rtol=0, atol=1e-13)
        np.testing.assert_allclose(again.scale, p.scale, rtol=0, atol=1e-13)


def test_rows_that_are_unwhitened_have_the_covariance_of_their_component(family):
    k, d = 3, 4
    p = by_reference.random_parameters(5, "new", k, d)
    owner = np.repeat(np.arange(k), d)
    unit = np.tile(np.eye(d), (k, 1))  # rows e_j, of which L_k makes its columns
    found = family.structure.apply_to_rows(p.scale, unit, owner).reshape(k, d, d)
    factors = by_reference.expand(p.scale, "new", k, d)
    np.testing.assert_array_equal(found.swapaxes(1, 2), factors)
    np.testing.assert_allclose(deviations(p), np.linalg.norm(factors, axis=2), rtol=1e-15)
