"""docs/derivation.md: its numbers, its figures, its markup, and the identities in it.

The identities are checked in plain NumPy on a mixture of their own, against differences; only the
tests of figures and of the gradients' identities call the package.
"""

import ast
import math
import re
import runpy
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from citations import cited, texts
from problems import random_problem

from gmm_np.lesson.independent import Start
from gmm_np.lesson.walkthrough import walk, walk_tangents
from gmm_np.parameters import Gradients
from gmm_np.reference import (
    logsumexp_forward,
    nll_backward,
    nll_forward,
    quadratic_form_forward,
    sum_over_samples,
)

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "derivation.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "gmm_np").rglob("*.py"))

MATH_BLOCKS = re.findall(r"^```math\n(.*?)^```$", TEXT, flags=re.M | re.S)
PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.M | re.S)
TAGS = [int(tag) for block in MATH_BLOCKS for tag in re.findall(r"\\tag\{(\d+)\}", block)]

# Five-point differences: the error is of fourth order in the step, and rounding leaves ten digits.
STEP = 1e-3
DIFFERENCE = 1e-9

# Figures are printed to 16 or 17 digits; the last may depend on the platform's exp and log.
PRINTED = {"rel": 1e-15, "abs": 0.0}


# The example that goes along.
EXAMPLE = Start(
    x=np.array([[0.0], [3.0]]),
    pi_logits=np.zeros(2),
    means=np.array([[0.0], [2.0]]),
    scale_tril=np.array([[[1.0]], [[2.0]]]),
    sample_weight=np.ones(2),
)
# Chapter two goes along this: the first sample, logit and mean, and the second standard deviation.
DIRECTION = Gradients(
    np.array([1.0, 0.0]),
    np.array([[1.0], [0.0]]),
    np.array([[[0.0]], [[1.0]]]),
    np.array([[1.0], [0.0]]),
)


# --- numbers ------------------------------------------------------------------------------------


def words(source):
    """Comments and docstrings of a module, each run of comment lines as one text, no examples."""
    return [part.text for part in texts(source)]


def test_citations_are_read_from_comments_and_docstrings_only():
    source = '''
"""A module after equation (3).

>>> f(71), (72)
(73)
"""
x = f(74) + (75)  # as (4), not f(76); equations (20, 21), in 1982 (1982)
y = "(77)"
def g():
    """Steps (17) to (19) and equation 8."""
    # it runs on, (30) to
    # (32)
    return (78)
'''
    found = set().union(*(cited(text) for text in words(source)))
    assert found == {3, 4, 20, 21, 17, 18, 19, 8, 30, 31, 32}


def test_equation_numbers_are_consecutive_from_one():
    assert len(TAGS) > 30
    assert list(range(1, len(TAGS) + 1)) == TAGS
    assert TEXT.count(r"\tag") == len(TAGS), "a tag outside a math block, or not a number"


def test_every_number_cited_in_the_code_exists():
    citations = {
        (path.relative_to(ROOT).as_posix(), number)
        for path in SOURCES
        for text in words(path.read_text(encoding="utf-8"))
        for number in cited(text)
    }
    assert len(citations) > 30, "the code cites next to nothing, or the search is broken"
    assert sorted((path, n) for path, n in citations if n not in TAGS) == []


def test_reference_cites_each_of_its_equations():
    source = (ROOT / "gmm_np" / "reference.py").read_text(encoding="utf-8")
    found = set().union(*(cited(text) for text in words(source)))
    assert sorted({*range(4, 12), *range(13, 22), *range(50, 65)} - found) == []


def test_every_number_and_section_cited_in_the_document_exists():
    numbers = cited(re.sub(r"\$[^$\n]*\$|`[^`\n]*`", "", PROSE))
    assert len(numbers) > 20
    assert sorted(numbers - set(TAGS)) == []
    sections = {int(n) for n in re.findall(r"^## (\d+)\. ", TEXT, flags=re.M)}
    assert sections == set(range(1, 15))
    cited_sections = re.findall(r"[Ss]ections? (\d+)\b(?!\.\d)(?: (?:and|to) (\d+))?", PROSE)
    assert len(cited_sections) > 5
    assert {int(n) for pair in cited_sections for n in pair if n} <= sections


def test_sections_cited_in_the_code_exist():
    headings = dict(re.findall(r"^## (\d+)\. (.*)$", TEXT, flags=re.M))
    assert (
        headings["8"] == "Beyond the range of a double"
    )  # extended_range.py sends its reader there
    for path in SOURCES:
        for text in words(path.read_text(encoding="utf-8")):
            for number in re.findall(r"[Ss]ection (\d+) of docs/derivation\.md", text):
                assert number in headings, path.name


def test_links_lead_somewhere():
    anchors = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", TEXT, flags=re.M)
    }
    targets = re.findall(r"\]\(([^)\s]+)\)", TEXT)
    assert len(targets) > 15
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (DOCUMENT.parent / target).exists(), target


# --- markup -------------------------------------------------------------------------------------


def inline_formulas():
    """Each formula between dollar signs, with the line that it stands in."""
    for line in PROSE.splitlines():
        bare = re.sub(r"`[^`]*`", "", line)
        assert bare.count("$") % 2 == 0, f"a formula that does not end on its line: {line}"
        for match in re.finditer(r"\$([^$]*)\$", bare):
            yield match, bare


def test_inline_formulas_survive_markdown():
    """GitHub reads Markdown first: escapes, emphasis, tags and cell borders must not occur."""
    formulas = list(inline_formulas())
    assert len(formulas) > 300
    for match, line in formulas:
        formula = match[1]
        assert formula == formula.strip() != "", line
        assert not re.search(r"\\[^A-Za-z]", formula), f"Markdown eats the backslash: {line}"
        assert not re.search(r"[*<>|~]", formula), f"Markdown takes this for its own: {line}"
        assert not re.search(r"[^A-Za-z0-9]_", formula), f"this may open emphasis: {line}"
        assert re.search(r"(^|[\s(])$", line[: match.start()]), f"no formula starts here: {line}"
        assert re.match(r"$|[\s.,;:)*]", line[match.end() :]), f"no formula ends here: {line}"


def test_formulas_are_balanced_and_use_only_macros_that_github_renders():
    assert TEXT.count("```math") == len(MATH_BLOCKS) > 40
    for formula in [*MATH_BLOCKS, *(match[1] for match, _ in inline_formulas())]:
        bare = re.sub(r"\\[{}]", "", formula)
        depth = 0
        for character in bare:
            depth += {"{": 1, "}": -1}.get(character, 0)
            assert depth >= 0, formula
        assert depth == 0, formula
        begun = re.findall(r"\\begin\{(\w+)\}", formula)
        assert sorted(begun) == sorted(re.findall(r"\\end\{(\w+)\}", formula))
        assert set(begun) <= {"aligned", "pmatrix"}
        for left, right in (("left", "right"), ("Bigl", "Bigr"), ("langle", "rangle")):
            opened = re.findall(rf"\\{left}(?![A-Za-z])", formula)
            assert len(opened) == len(re.findall(rf"\\{right}(?![A-Za-z])", formula)), formula
        macros = set(re.findall(r"\\([A-Za-z]+)", formula))
        assert not macros & {"operatorname", "newcommand", "def", "label", "ref", "require"}
        assert not re.search(r"[<>]", formula), f"use \\lt and \\gt: {formula}"


# --- figures ------------------------------------------------------------------------------------


def table(corner):
    """Rows of the table whose first heading is `corner`, each by its own first cell."""
    lines = TEXT.splitlines()
    (start,) = (i for i, line in enumerate(lines) if line.startswith(f"| {corner} |"))
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[first] = cells
    return rows


def solve(factor, right):
    """L^-1 b by substitution in whatever numbers it is given."""
    out = []
    for i in range(len(right)):
        out.append((right[i] - sum(factor[i][j] * out[j] for j in range(i))) / factor[i][i])
    return out


def solve_transposed(factor, right):
    """L^-T b by substitution."""
    out = [0] * len(right)
    for i in reversed(range(len(right))):
        rest = sum(factor[j][i] * out[j] for j in range(i + 1, len(right)))
        out[i] = (right[i] - rest) / factor[i][i]
    return out


def dot(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_figures_of_section_4():
    factor, residual = [[1.0, 0.0], [1e8, 1.0]], [1e-8, 2.0]
    z = solve(factor, residual)
    y = solve_transposed(factor, z)
    recovered = [factor[0][0] * y[0] + factor[1][0] * y[1], factor[1][1] * y[1]]  # L^T y
    outer = [[a * b for b in residual] for a in residual]
    for _ in range(2):  # Sigma^-1 S, transposed, and once more: Sigma^-1 S Sigma^-1
        outer = [solve_transposed(factor, solve(factor, row)) for row in outer]
        outer = [list(row) for row in zip(*outer, strict=True)]
    closed = dot(outer[0], [row[0] for row in factor])  # times L

    exact_factor = [[Fraction(v) for v in row] for row in factor]
    exact_z = solve(exact_factor, [Fraction(v) for v in residual])
    exact_y = solve_transposed(exact_factor, exact_z)

    _, cache = nll_forward([residual], [0.0], [[0.0, 0.0]], [factor])
    whitened = cache.z[0]
    gradient = nll_backward(cache).scale

    rows = table("quantity")
    assert len(rows) == 2
    exact, by_code, by_product, _ = rows["$z_1$"]
    assert float(exact) == float(by_code) == whitened[0, 0] == z[0] == float(exact_z[0])
    assert float(by_product) == recovered[0]
    exact, by_code, by_product, by_closed_form = rows[r"$\partial f / \partial L$ at 1, 1"]
    assert abs(Fraction(exact) - (1 - exact_y[0] * exact_z[0])) < Fraction(1, 10**16)
    assert float(by_code) == gradient[0, 0, 0] == float(1 - exact_y[0] * exact_z[0])
    assert float(by_product) == 1 - y[0] * recovered[0]
    assert float(by_closed_form) == 1 - closed


def test_figures_of_section_7():
    rows = table("what")
    figures = {what: [float(cell) for cell in cells[1:]] for what, cells in rows.items()}
    assert set(figures) == {"shift", "log1p", "softmax", "square", "sum"}

    terms = {
        "shift": [-1000.0, -1000.0],
        "log1p": [0.0, -40.0],
        "softmax": [-1e6 - 0.1, -1e6 - 0.3],
    }
    for what, t in terms.items():
        assert [float(v) for v in re.search(r"\((.*)\)", rows[what][0])[1].split(",")] == t
    shift, log1p, softmax = (np.array([terms[what]]) for what in ("shift", "log1p", "softmax"))

    with np.errstate(divide="ignore"):
        plain = float(np.log(np.exp(shift).sum()))
    by_code = float(logsumexp_forward(shift)[0][0])
    assert figures["shift"][0] == plain == -math.inf
    assert figures["shift"][1] == pytest.approx(by_code, **PRINTED)
    assert figures["shift"][2] == pytest.approx(-1000 + math.log(2), **PRINTED)
    assert by_code == pytest.approx(figures["shift"][2], **PRINTED)

    plain = float(0.0 + np.log(np.exp(log1p).sum()))
    by_code = float(logsumexp_forward(log1p)[0][0])
    assert figures["log1p"][0] == plain == 0
    assert figures["log1p"][1] == pytest.approx(by_code, **PRINTED)
    assert figures["log1p"][2] == pytest.approx(math.exp(-40), **PRINTED)

    value, resp = logsumexp_forward(softmax)
    plain, by_code = float(np.exp(softmax[0, 0] - value[0])), float(resp[0, 0])
    exact = 1 / (1 + math.exp(softmax[0, 1] - softmax[0, 0]))
    assert figures["softmax"] == pytest.approx([plain, by_code, exact], **PRINTED)
    assert abs(plain - exact) > 1e-11 > 1e-15 > abs(by_code - exact)

    factor = [[1.0, 0.0, 0.0], [1e6, 1e-3, 0.0], [1.0, 1e6, 1e-3]]
    residual = [1.0, 1e6, 1.001]
    z = solve(factor, residual)
    plain = dot(residual, solve_transposed(factor, z))
    by_code = float(
        quadratic_form_forward(np.array([residual]), np.zeros(3), np.array(factor))[0][0]
    )
    exact_z = solve([[Fraction(v) for v in row] for row in factor], list(map(Fraction, residual)))
    exact = float(dot(exact_z, exact_z))
    assert figures["square"] == pytest.approx([plain, by_code, exact], rel=1e-12, abs=0.0)
    assert figures["square"][0] < 0

    data = np.full((10**6, 2), 0.1)
    plain, by_code = float(data.sum(axis=0)[0]), float(sum_over_samples(data)[0])
    exact = float(Fraction(0.1) * 10**6)
    assert figures["sum"][0] == plain
    # Where NumPy cuts pairs depends on its version: twenty halvings, a rounding each at most.
    assert figures["sum"][1] == pytest.approx(by_code, rel=20 * 2.0**-53, abs=0.0)
    assert figures["sum"][2] == pytest.approx(exact, **PRINTED)
    assert abs(plain - exact) > 1e-6 > 1e-9 > abs(by_code - exact)


def numbers_beside_the_steps():
    """Each `name = numbers` of the example that goes along."""
    for line in re.findall(r"^> (?:In numbers: )?(`.*`),?$", TEXT, flags=re.M):
        for name, numbers in re.findall(r"`(\w+) = ([^`]+)`", line):
            yield name, np.array(ast.literal_eval(numbers), dtype=float)


def test_the_numbers_beside_the_steps_are_those_of_the_reference():
    rows = walk(EXAMPLE) + walk_tangents(EXAMPLE, DIRECTION)
    seen = [name for name, _ in numbers_beside_the_steps()]
    assert len(seen) == len(set(seen)) == 41
    for name, printed in numbers_beside_the_steps():
        own = [row for row in rows if row.name == name]
        if own[0].component is not None:  # a column for each component
            values = np.stack([np.ravel(row.value) for row in own], axis=-1)
        else:
            values = own[0].value
        np.testing.assert_allclose(np.squeeze(values), printed, rtol=0, atol=5.1e-7, err_msg=name)


def test_the_reference_prints_the_example(capsys):
    runpy.run_path(str(ROOT / "gmm_np" / "reference.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "value 1.876291 nats" in out
    assert "gradient in x: [[-0.058174], [0.158767]]" in out
    assert "its rate along the direction: x: [[0.10958], [0.009895]]" in out


# --- identities ---------------------------------------------------------------------------------


def slope(function, point, direction):
    """Derivative of a function along a direction, by five-point differences."""
    at = {m: np.asarray(function(point + m * STEP * direction)) for m in (-2, -1, 1, 2)}
    return (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * STEP)


def slopes(function, point):
    """Derivatives by each entry of a vector, the last axis of the result."""
    return np.stack([slope(function, point, v) for v in np.eye(len(point))], axis=-1)


class Mixture:
    """A mixture as a flat vector of logits, means and lower triangles; everything by definition."""

    def __init__(self, seed, n_components=3, n_features=2, n_samples=12):
        self.K, self.D = n_components, n_features
        problem = random_problem(seed, n_samples, n_components, n_features)
        self.x = problem.x
        self.weight = np.random.default_rng(seed).uniform(0.2, 2.0, size=n_samples)
        self.theta = self.join(problem.pi_logits, problem.means, problem.scale_tril)

    def join(self, logits, means, factors):
        i, j = np.tril_indices(self.D)
        return np.concatenate([logits, means.ravel(), factors[:, i, j].ravel()])

    def split(self, theta):
        logits, means, triangle = np.split(theta, [self.K, self.K * (1 + self.D)])
        factors = np.zeros((self.K, self.D, self.D))
        i, j = np.tril_indices(self.D)
        factors[:, i, j] = triangle.reshape(self.K, -1)
        return logits, means.reshape(self.K, self.D), factors

    def log_joint(self, theta):
        """Logarithms of pi_k N(x_n; mu_k, Sigma_k), [N, K], with inverse and determinant."""
        logits, means, factors = self.split(theta)
        pi = np.exp(logits) / np.exp(logits).sum()
        density = np.empty((len(self.x), self.K))
        for k in range(self.K):
            sigma = factors[k] @ factors[k].T
            e = self.x - means[k]
            q = np.einsum("ni,ij,nj->n", e, np.linalg.inv(sigma), e)
            density[:, k] = np.exp(-q / 2) / np.sqrt(np.linalg.det(2 * np.pi * sigma))
        return np.log(pi * density)

    def log_density(self, theta):
        return np.log(np.exp(self.log_joint(theta)).sum(axis=1))  # [N]

    def loss(self, theta):
        return -(self.weight * self.log_density(theta)).sum() / self.weight.sum()

    def resp(self, theta):
        return np.exp(self.log_joint(theta) - self.log_density(theta)[:, None])  # [N, K]

    def statistics(self, theta, rows=slice(None)):
        """Equation (25) for some of the rows."""
        share = (self.weight[:, None] * self.resp(theta))[rows]  # [N, K]
        residual = self.x[rows, None, :] - self.split(theta)[1]  # [N, K, D]
        return (
            share.sum(axis=0),
            np.einsum("nk,nki->ki", share, residual),
            np.einsum("nk,nki,nkj->kij", share, residual, residual),
            -(self.weight * self.log_density(theta))[rows].sum(),
            self.weight[rows].sum(),
        )

    def gradient(self, theta, statistics):
        """Equation (26), for the mean."""
        n, m, s, _, w = statistics
        logits, means, factors = self.split(theta)
        pi = np.exp(logits) / np.exp(logits).sum()
        d_means, d_factors = np.empty_like(means), np.empty_like(factors)
        for k in range(self.K):
            inverse = np.linalg.inv(factors[k] @ factors[k].T)
            d_means[k] = -inverse @ m[k] / w
            inside = inverse @ s[k] @ np.linalg.inv(factors[k]).T
            d_factors[k] = (n[k] * np.diag(1 / np.diag(factors[k])) - np.tril(inside)) / w
        return self.join((w * pi - n) / w, d_means, d_factors)

    def em_update(self, theta, statistics):
        """Equation (27)."""
        n, m, s, _, w = statistics
        shift = m / n[:, None]
        sigma = s / n[:, None, None] - shift[:, :, None] * shift[:, None, :]
        return self.join(np.log(n / w), self.split(theta)[1] + shift, np.linalg.cholesky(sigma))


SEEDS = pytest.mark.parametrize("seed", range(5))


@SEEDS
def test_fishers_identity(seed):
    """Equation (24), both sides by differences."""
    mixture = Mixture(seed)
    left = slopes(mixture.log_density, mixture.theta)  # [N, P]
    each = slopes(mixture.log_joint, mixture.theta)  # [N, K, P]
    right = np.einsum("nk,nkp->np", mixture.resp(mixture.theta), each)
    np.testing.assert_allclose(left, right, rtol=0, atol=DIFFERENCE * abs(left).max())
    assert abs(left - each.mean(axis=1)).max() > 0.01, "any weights would have done"


@SEEDS
def test_statistics_add_and_give_the_gradient(seed):
    """Equations (25) and (26): (16), (22) and (23) from sums over two blocks of rows."""
    mixture = Mixture(seed)
    blocks = [mixture.statistics(mixture.theta, rows) for rows in (slice(0, 5), slice(5, None))]
    total = [a + b for a, b in zip(*blocks, strict=True)]
    assert total[3] / total[4] == pytest.approx(mixture.loss(mixture.theta), rel=1e-13)
    gradient = mixture.gradient(mixture.theta, total)
    expected = slopes(mixture.loss, mixture.theta)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=DIFFERENCE * abs(expected).max())


@SEEDS
def test_whitened_statistics(seed):
    """The right-hand forms of (25) and (26), and the factor of (27) from them."""
    mixture = Mixture(seed)
    statistics = n, m, s, _, w = mixture.statistics(mixture.theta)
    _, means, factors = mixture.split(mixture.theta)
    _, d_means, d_factors = mixture.split(mixture.gradient(mixture.theta, statistics))
    updated = mixture.split(mixture.em_update(mixture.theta, statistics))[2]
    share = mixture.weight[:, None] * mixture.resp(mixture.theta)
    for k, L in enumerate(factors):
        z = np.linalg.solve(L, (mixture.x - means[k]).T).T
        v, M = share[:, k] @ z, (share[:, k, None] * z).T @ z
        up = np.linalg.inv(L).T
        d_factor = (n[k] * np.diag(1 / np.diag(L)) - np.tril(up @ M)) / w
        factor = L @ np.linalg.cholesky(M / n[k] - np.outer(v, v) / n[k] ** 2)
        pairs = [
            (m[k], L @ v),
            (s[k], L @ M @ L.T),
            (d_means[k], -up @ v / w),
            (d_factors[k], d_factor),
            (d_factors[k], np.tril(up @ (n[k] * np.eye(len(v)) - M)) / w),
            (updated[k], factor),
        ]
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * abs(found).max())


@SEEDS
def test_em_update_maximizes_its_objective(seed):
    """Equation (27): Q, with the responsibilities held, is stationary there and less around it."""
    mixture = Mixture(seed)
    resp = mixture.resp(mixture.theta)

    def objective(theta):
        return (mixture.weight[:, None] * resp * mixture.log_joint(theta)).sum()

    updated = mixture.em_update(mixture.theta, mixture.statistics(mixture.theta))
    before, after = slopes(objective, mixture.theta), slopes(objective, updated)
    assert abs(after).max() < 1e-6 * abs(before).max()
    rng = np.random.default_rng(seed)
    for _ in range(20):
        nearby = updated + 0.01 * rng.normal(size=len(updated))
        assert objective(nearby) < objective(updated)


def test_em_never_raises_the_loss_and_ends_where_the_gradient_is_zero():
    """Equation (27), and both directions of the statement about its fixed points."""
    mixture = Mixture(1, n_components=2, n_samples=60)
    theta, losses = mixture.theta, [mixture.loss(mixture.theta)]
    for _ in range(2000):
        updated = mixture.em_update(theta, mixture.statistics(theta))
        moved = abs(updated - theta).max()
        if len(losses) == 5:  # still on its way: neither is at rest
            assert moved > 1e-4
            assert abs(mixture.gradient(theta, mixture.statistics(theta))).max() > 1e-4
        theta = updated
        losses.append(mixture.loss(theta))
        if moved < 1e-14:
            break
    assert moved < 1e-13
    assert max(np.diff(losses)) < 1e-14
    assert losses[0] - losses[-1] > 0.01
    assert abs(mixture.gradient(theta, mixture.statistics(theta))).max() < 1e-12
    assert abs(slopes(mixture.loss, theta)).max() < DIFFERENCE


def test_gradient_of_the_factor_vanishes_only_where_em_rests():
    """Section 5: tril(L^-T E) = 0 for a symmetric E only if E = 0."""
    d = 4
    factor = random_problem(3, 1, 1, d).scale_tril[0]
    i, j = np.tril_indices(d)
    columns = []
    for a, b in zip(i, j, strict=True):
        symmetric = np.zeros((d, d))
        symmetric[a, b] = symmetric[b, a] = 1.0
        columns.append(np.tril(np.linalg.inv(factor).T @ symmetric)[i, j])
    assert np.linalg.svd(np.array(columns), compute_uv=False).min() > 1e-3


def phi(matrix):
    return np.tril(matrix) - np.diag(np.diag(matrix)) / 2


def d_covariance(factor, d_factor):
    """Equation (28)."""
    inverse = np.linalg.inv(factor)
    half = phi(factor.T @ d_factor)
    return inverse.T @ (half + half.T) @ inverse / 2


@SEEDS
def test_gradient_of_a_covariance(seed):
    """Equation (28) against differences along symmetric perturbations, and the factor of two."""
    d = 4
    rng = np.random.default_rng(seed)
    factor = random_problem(seed, 1, 1, d).scale_tril[0]
    sigma, slant = factor @ factor.T, rng.normal(size=(d, d))
    gradient = d_covariance(factor, np.tril(slant * np.cos(factor)))
    np.testing.assert_allclose(gradient, gradient.T, rtol=0, atol=1e-14)

    def function(covariance):
        return (np.tril(slant) * np.sin(np.linalg.cholesky(covariance))).sum()

    free = phi(2 * gradient)  # the triangular convention
    for i in range(d):
        for j in range(i + 1):
            both = np.zeros((d, d))
            both[i, j] = both[j, i] = 1.0
            found = slope(function, sigma, 0.1 * both) / 0.1
            assert found == pytest.approx(np.trace(gradient @ both), abs=1e-8)
            assert found == pytest.approx(free[i, j], abs=1e-8)
    assert (np.triu(free, 1) == 0).all()


def test_conventions_of_the_table_in_section_6():
    """For f = Sigma_21 = L_21 L_11."""
    rows = {name: ast.literal_eval(cells[0][1:-1]) for name, cells in table("convention").items()}
    factor = np.array([[1.5, 0.0], [0.5, 0.75]])
    d_factor = np.array([[factor[1, 0], 0.0], [factor[0, 0], 0.0]])
    symmetric = d_covariance(factor, d_factor)
    np.testing.assert_allclose(symmetric, rows["symmetric, (28)"], atol=1e-15)
    np.testing.assert_allclose(phi(2 * symmetric), rows["triangular"], atol=1e-15)


@SEEDS
def test_gradient_of_the_mixtures_covariances(seed):
    """Section 6: (28) of (23) is (n Sigma^-1 - Sigma^-1 S Sigma^-1) / 2W."""
    mixture = Mixture(seed)
    n, _, s, _, w = statistics = mixture.statistics(mixture.theta)
    factors = mixture.split(mixture.theta)[2]
    d_factors = mixture.split(mixture.gradient(mixture.theta, statistics))[2]
    for k in range(mixture.K):
        inverse = np.linalg.inv(factors[k] @ factors[k].T)
        expected = (n[k] * inverse - inverse @ s[k] @ inverse) / (2 * w)
        found = d_covariance(factors[k], d_factors[k])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * abs(expected).max())


@SEEDS
def test_gradient_of_the_log_diagonal_cholesky_vector(seed):
    """Equation (29) against differences."""
    mixture = Mixture(seed, n_features=3)
    i, j = np.tril_indices(mixture.D)
    others = np.zeros(mixture.K * (1 + mixture.D), dtype=bool)
    diagonal = np.concatenate([others, np.tile(i == j, mixture.K)])

    def with_exponentials(vector):
        theta = vector.copy()
        theta[diagonal] = np.exp(vector[diagonal])
        return theta

    vector = mixture.theta.copy()
    vector[diagonal] = np.log(vector[diagonal])
    pulled = mixture.gradient(mixture.theta, mixture.statistics(mixture.theta))
    pulled[diagonal] *= mixture.theta[diagonal]
    expected = slopes(lambda v: mixture.loss(with_exponentials(v)), vector)
    np.testing.assert_allclose(pulled, expected, rtol=0, atol=DIFFERENCE * abs(expected).max())


@SEEDS
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_identities_of_section_4_hold_for_the_reference(seed, reduction):
    """The gradients' sums under shifts of the logits, shifts of space and changes of scale."""
    problem = random_problem(seed)
    weight = np.random.default_rng(seed).uniform(0.1, 3.0, size=len(problem.x))
    _, cache = nll_forward(*problem, sample_weight=weight, reduction=reduction)
    d = nll_backward(cache)
    w = weight.sum()
    total = w if reduction == "mean" else 1.0
    assert abs(d.pi_logits.sum()) < 1e-13 * w / total
    assert abs(d.x.sum(axis=0) + d.means.sum(axis=0)).max() < 1e-12 * abs(d.x).max() * len(d.x)
    scaled = [(problem.x * d.x), (problem.means * d.means), (problem.scale_tril * d.scale)]
    size = sum(abs(part).sum() for part in scaled)
    expected = problem.x.shape[1] * w / total
    assert sum(part.sum() for part in scaled) == pytest.approx(expected, abs=1e-13 * size)
