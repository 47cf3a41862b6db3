"""Random mixtures for the tests, the definition of the loss and its gradients in loops, and how far
two gradients are apart."""

import math
from typing import NamedTuple

import numpy as np


class Problem(NamedTuple):
    x: np.ndarray  # [N, D]
    pi_logits: np.ndarray  # [K]
    means: np.ndarray  # [K, D]
    scale_tril: np.ndarray  # [K, D, D]


def random_problem(seed, n_samples=None, n_components=None, n_features=None, separation=1.0):
    """Draw a well-conditioned problem; sizes that are not given are drawn as well."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 41)) if n_samples is None else n_samples
    k = int(rng.integers(1, 7)) if n_components is None else n_components
    d = int(rng.integers(1, 9)) if n_features is None else n_features
    means = separation * rng.normal(size=(k, d))
    factors = np.tril(rng.normal(size=(k, d, d)), -1) * 0.5 / math.sqrt(d)
    factors += np.exp(0.3 * rng.normal(size=(k, d)))[:, :, None] * np.eye(d)
    labels = rng.integers(k, size=n)
    x = means[labels] + np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(n, d)))
    return Problem(x, rng.normal(size=k), means, factors)


def far_apart(seed, n, k, d, distance=6.0):
    """A problem whose samples have next to nothing to do with all components but one."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rotated_factor(rng, d, 3.0) for _ in range(k)])
    means = distance * rng.normal(size=(k, d))
    own = rng.integers(k, size=n)
    x = means[own] + np.einsum("nij,nj->ni", factors[own], rng.normal(size=(n, d)))
    return Problem(x, rng.normal(size=k), means, factors)


def anisotropic_problem(
    seed, n_samples, n_components, n_features, condition, separation=1.0, spread=0.0
):
    """Draw a problem whose covariances are alike, with one condition number and large axis 1.

    The separation is in whitened units, so that components overlap at 1. Factors differ from the
    common one by about `spread`, relatively.
    """
    rng = np.random.default_rng(seed)
    n, k, d = n_samples, n_components, n_features
    common = rotated_factor(rng, d, condition)
    own = np.tril(spread * rng.normal(size=(k, d, d)), -1)
    own += np.exp(spread * rng.normal(size=(k, d)))[:, :, None] * np.eye(d)
    factors = np.tril(common @ own)
    means = separation * rng.normal(size=(k, d)) @ common.T
    labels = rng.integers(k, size=n)
    x = means[labels] + np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(n, d)))
    return Problem(x, rng.normal(size=k), means, factors)


def rotated_factor(rng, n_features, condition):
    """Cholesky factor of a covariance with this condition number, largest axis 1, any rotation."""
    rotation = np.linalg.qr(rng.normal(size=(n_features, n_features)))[0]
    axes = np.sqrt(np.geomspace(1.0, 1.0 / condition, n_features))
    factor = np.linalg.qr((rotation * axes).T)[1].T
    return np.tril(factor * np.sign(np.diagonal(factor)))


def naive_nll(x, pi_logits, means, scale_tril, sample_weight=None, reduction="mean"):
    """Equation (3) word by word, in Python floats: determinants and inverses by elimination."""
    n, d = np.shape(x)
    weight = [1.0] * n if sample_weight is None else [float(w) for w in sample_weight]
    log_constant = 0.5 * d * math.log(2 * math.pi)
    weighted = []
    for w, (_, _, density) in zip(weight, _by_sample(x, pi_logits, means, scale_tril), strict=True):
        weighted.append(w * (log_constant - math.log(math.fsum(density))))
    if reduction == "none":
        return np.array(weighted)
    return math.fsum(weighted) / (math.fsum(weight) if reduction == "mean" else 1.0)


def _softmax(pi_logits):
    exponentials = [math.exp(a - max(pi_logits)) for a in pi_logits]
    return [e / math.fsum(exponentials) for e in exponentials]


def _inverses(scale_tril):
    """Inverse and determinant of each covariance."""
    factors = np.asarray(scale_tril)
    return [_eliminate(_product(L.tolist(), L.T.tolist())) for L in factors]


def _by_sample(x, pi_logits, means, scale_tril):
    """Residuals e, Sigma^-1 e and pi_k N_k without (2 pi)^(D/2), by component, of each sample."""
    pi, inverses, means = _softmax(pi_logits), _inverses(scale_tril), np.asarray(means).tolist()
    for row in np.asarray(x).tolist():
        residual = [[a - b for a, b in zip(row, mean, strict=True)] for mean in means]
        pull = [_times(inverse, e) for (inverse, _), e in zip(inverses, residual, strict=True)]
        density = []
        for k, (_, determinant) in enumerate(inverses):
            q = math.fsum(e * p for e, p in zip(residual[k], pull[k], strict=True))
            density.append(pi[k] * math.exp(-q / 2) / math.sqrt(determinant))
        yield residual, pull, density


def plain_nll(x, pi_logits, means, scale_tril):
    """The mean of equation (3) by whole arrays: for checks that ask for it a thousand times."""
    d = x.shape[1]
    e = x.T[:, None] - means.T[:, :, None]  # [D, K, N]
    L = scale_tril.transpose(1, 2, 0)[..., None]  # [D, D, K, 1]
    z = np.empty_like(e)
    for i in range(d):
        z[i] = (e[i] - (L[i, :i] * z[:i]).sum(axis=0)) / L[i, i]
    half_log_det = sum(np.log(L[i, i]) for i in range(d))
    joint = pi_logits[:, None] - half_log_det - 0.5 * (z * z).sum(axis=0)
    top = joint.max(axis=0)
    loss = -np.mean(top + np.log(np.exp(joint - top).sum(axis=0)))
    log_total = pi_logits.max() + np.log(np.exp(pi_logits - pi_logits.max()).sum())
    return float(loss + log_total + 0.5 * d * math.log(2 * math.pi))


def naive_gradients(
    x, pi_logits, means, scale_tril, sample_weight=None, reduction="mean", d_value=1.0
):
    """The closed forms of the gradients word by word, in Python floats and loops over n and k.

    With c_n = w_n d_n / W, and n_k = sum_n c_n r_nk: sum_n c_n pi_k - n_k for the logits,
    -sum_n c_n r_nk Sigma_k^-1 e_nk for the means, n_k diag(1/L_ii) - tril(Sigma_k^-1 S_k Sigma_k^-1
    L_k) for the factors and sum_k c_n r_nk Sigma_k^-1 e_nk for x. Inverses by elimination.
    """
    x, means, scale_tril = np.asarray(x), np.asarray(means), np.asarray(scale_tril)
    n_samples, d = x.shape
    components = range(len(pi_logits))
    weight = [1.0] * n_samples if sample_weight is None else [float(w) for w in sample_weight]
    d_out = [float(v) for v in np.broadcast_to(d_value, n_samples)]
    total = math.fsum(weight) if reduction == "mean" else 1.0
    c = [w * v / total for w, v in zip(weight, d_out, strict=True)]
    pi, inverses = _softmax(pi_logits), [inverse for inverse, _ in _inverses(scale_tril)]
    by_sample = _by_sample(x, pi_logits, means, scale_tril)
    residual, pull, densities = zip(*by_sample, strict=True)  # [N][K][D] twice, and [N][K]
    resp = [[value / math.fsum(density) for value in density] for density in densities]

    d_logits, d_means, d_factors = [], [], []
    for k in components:
        share = [c[n] * resp[n][k] for n in range(n_samples)]
        n_k = math.fsum(share)
        d_logits.append(math.fsum(c) * pi[k] - n_k)
        d_means.append(
            [-math.fsum(share[n] * pull[n][k][i] for n in range(n_samples)) for i in range(d)]
        )
        scatter = [
            [
                math.fsum(
                    share[n] * residual[n][k][i] * residual[n][k][j] for n in range(n_samples)
                )
                for j in range(d)
            ]
            for i in range(d)
        ]
        inside = _product(inverses[k], _product(scatter, inverses[k]))
        inside = _product(inside, scale_tril[k].tolist())
        d_factors.append(
            [
                [
                    (n_k / float(scale_tril[k, i, i]) if i == j else 0.0) - inside[i][j]
                    if j <= i
                    else 0.0
                    for j in range(d)
                ]
                for i in range(d)
            ]
        )
    d_x = [
        [math.fsum(c[n] * resp[n][k] * pull[n][k][i] for k in components) for i in range(d)]
        for n in range(n_samples)
    ]
    return tuple(np.array(gradient) for gradient in (d_logits, d_means, d_factors, d_x))


def _times(matrix, vector):
    return [math.fsum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def _product(left, right):
    columns = list(zip(*right, strict=True))
    return [[math.fsum(a * b for a, b in zip(r, c, strict=True)) for c in columns] for r in left]


def _eliminate(matrix):
    """Inverse and determinant of a matrix by Gauss-Jordan elimination with pivoting."""
    d = len(matrix)
    rows = [list(matrix[i]) + [float(i == j) for j in range(d)] for i in range(d)]
    determinant = 1.0
    for i in range(d):
        pivot = max(range(i, d), key=lambda r: abs(rows[r][i]))
        if pivot != i:
            rows[i], rows[pivot] = rows[pivot], rows[i]
            determinant = -determinant
        determinant *= rows[i][i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for r in range(d):
            if r != i:
                factor = rows[r][i]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    return [row[d:] for row in rows], determinant


BLOCKS = ("pi_logits", "means", "scale", "x")


def logits_floor(n_samples, sample_weight=None, reduction="mean", d_value=1.0):
    """What errors in the gradient of the logits are relative to at least: see `Worst`.

    That gradient is the difference of sum_n c_n pi_k and sum_n c_n r_nk, with c_n = w_n d_n / W,
    each of them rounded by itself, so that a block much smaller than they are has fewer digits.
    """
    weight = np.ones(n_samples) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    total = weight.sum() if reduction == "mean" else 1.0
    return 0.01 * float(np.abs(weight * d_value / total).sum())


class Worst:
    """The largest error of each block over many problems, and where it was.

    The error of an entry is relative to the largest magnitude in its block, or to `floor` where
    that is larger. NaN counts as an infinite error.
    """

    def __init__(self):
        self.errors = {}  # block -> (error, seed, index, got, expected)

    def add(self, seed, block, got, expected, floor=0.0):
        got, expected = np.asarray(got, dtype=float), np.asarray(expected, dtype=float)
        assert got.shape == expected.shape, f"{block}: {got.shape}, expected {expected.shape}"
        scale = max(float(np.abs(expected).max()), floor)
        difference = np.abs(got - expected)
        assert scale > 0 or not difference.any(), f"seed {seed}, {block}: all should be zero"
        error = difference / (scale or 1.0)
        error = np.where(np.isnan(error), np.inf, error)
        index = tuple(int(i) for i in np.unravel_index(error.argmax(), error.shape))
        worst = (float(error[index]), seed, index, float(got[index]), float(expected[index]))
        self.errors[block] = max(self.errors.get(block, (-1.0,)), worst, key=lambda row: row[0])

    def add_gradients(self, seed, got, expected, floor=0.0):
        """Add all blocks; `floor` is for the logits."""
        for block, mine, theirs in zip(BLOCKS, got, expected, strict=True):
            self.add(seed, block, mine, theirs, floor if block == "pi_logits" else 0.0)

    def add_parameters(self, seed, got, expected, floor=0.0):
        """Add the blocks of the parameters: the engine has no gradient in x."""
        assert got.x is None, "the engine has no gradient in x"
        for block in BLOCKS[:3]:
            mine, theirs = getattr(got, block), getattr(expected, block)
            self.add(seed, block, mine, theirs, floor if block == "pi_logits" else 0.0)

    def check(self, tolerance, **tolerances):
        """Raise AssertionError with seed, block and index of every block that is too far off."""
        assert self.errors
        too_far = [
            f"{block}: error {error:.2e} > {allowed:.0e} at seed {seed}, index {list(index)}: "
            f"got {got!r}, expected {expected!r}"
            for block, (error, seed, index, got, expected) in self.errors.items()
            if not error <= (allowed := tolerances.get(block, tolerance))
        ]
        assert not too_far, "\n".join(too_far)


def assert_agree(seed, found, expected, floor, tolerance=1e-12, **others):
    """Pairs of a value and gradients agree block by block, and so do `others`, pairs by name."""
    worst = Worst()
    worst.add(seed, "value", found[0], expected[0])
    worst.add_parameters(seed, found[1], expected[1], floor)
    for name, pair in others.items():
        worst.add(seed, name, *pair)
    worst.check(tolerance)
