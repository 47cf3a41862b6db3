"""The peers of scripts/benchmark.py, and the process that runs one of them.

``python scripts/benchmark_peers.py NAME`` serves one peer: requests come as lines of JSON on
stdin, answers go as lines of JSON to stdout. No array travels. The process draws the problem from
a seed, and answers with seconds, and with sums that tell whether value and gradients are right.

Letters in shapes: N samples, B samples of a block, K components, D dimensions, P features.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import importlib.util
import json
import math
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmark_environment import ONE_THREAD

LOG_2_PI = math.log(2 * math.pi)
# What a problem is about, and its gradients, in this order everywhere.
LIKELIHOOD, OBJECTIVE = "likelihood", "objective"
BLOCKS = {LIKELIHOOD: ("pi_logits", "means", "scale"), OBJECTIVE: ("alpha", "mu", "q", "l")}


# --- problems -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A problem's size, seed and kind. With `path` its rows are in a file, taken in batches."""

    n: int
    k: int
    d: int
    seed: int
    path: str | None = None
    batch: int | None = None
    kind: str = LIKELIHOOD

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return f"D={self.d} K={self.k} N={self.n}"


@dataclass
class Problem:
    """Data and the parameters that they were drawn from."""

    x: Any  # [N, D]
    pi_logits: Any  # [K]
    means: Any  # [K, D]
    scale_tril: Any  # [K, D, D]
    batch: int

    def batches(self) -> Iterator[slice]:
        """Rows that a peer without streaming of its own takes at a time: all, but for a file."""
        for start in range(0, len(self.x), self.batch):
            yield slice(start, start + self.batch)


def draw_parameters(cell: Cell) -> tuple[Any, Any, Any]:
    """Draw components of unit scale, their means a unit apart: logits, means, factors."""
    rng = np.random.default_rng([cell.seed, cell.n, cell.k, cell.d])
    scale_tril = np.tril(rng.normal(0.0, 0.3 / math.sqrt(cell.d), (cell.k, cell.d, cell.d)), -1)
    i = np.arange(cell.d)
    scale_tril[:, i, i] = np.exp(0.1 * rng.normal(size=(cell.k, cell.d)))
    return rng.normal(0.0, 0.5, cell.k), rng.normal(size=(cell.k, cell.d)), scale_tril


def draw_rows(cell: Cell, n_rows: int, part: int = 0) -> Any:
    """Draw rows [n_rows, D] from the mixture, in little more memory than they need."""
    pi_logits, means, scale_tril = draw_parameters(cell)
    rng = np.random.default_rng([cell.seed, cell.n, cell.k, cell.d, 1 + part])
    pi = np.exp(pi_logits) / np.exp(pi_logits).sum()
    component = rng.choice(cell.k, size=n_rows, p=pi)
    x = np.empty((n_rows, cell.d))
    for k in range(cell.k):
        rows = np.flatnonzero(component == k)
        x[rows] = rng.normal(size=(len(rows), cell.d)) @ scale_tril[k].T + means[k]
    return x


@dataclass
class ObjectiveProblem:
    """Arguments of the mixture objective of ADBench and GradBench."""

    x: Any  # [N, D]
    alpha: Any  # [K]
    mu: Any  # [K, D]
    q: Any  # [K, D]
    l: Any  # [K, D (D - 1) / 2]  # noqa: E741  (the name in the specification)
    gamma: float = 1.0
    m: int = 0


def draw_objective(cell: Cell) -> ObjectiveProblem:
    """Draw as those benchmarks do: means uniform in [0, 1], everything else standard normal.

    Their generator is data/gmm/gmm-data-gen.py in microsoft/ADBench, evals/gmm/data_gen.py in
    gradbench/gradbench. A component's q and l are one row there, its "icf".
    """
    rng = np.random.default_rng([cell.seed, cell.n, cell.k, cell.d])
    alpha, mu = rng.normal(size=cell.k), rng.uniform(size=(cell.k, cell.d))
    icf = rng.normal(size=(cell.k, cell.d * (cell.d + 1) // 2))
    x = rng.normal(size=(cell.n, cell.d))
    return ObjectiveProblem(x, alpha, mu, icf[:, : cell.d].copy(), icf[:, cell.d :].copy())


def draw(cell: Cell) -> Problem | ObjectiveProblem:
    """Draw a problem; the rows of one that has a file are mapped, not read."""
    if cell.kind == OBJECTIVE:
        return draw_objective(cell)
    x: Any = draw_rows(cell, cell.n) if cell.path is None else np.load(cell.path, mmap_mode="r")
    return Problem(x, *draw_parameters(cell), cell.batch or cell.n)


def write_rows(cell: Cell, rows: int = 100_000) -> None:
    """Write the rows of a cell to its file, for all peers to map."""
    assert cell.path is not None
    x = np.lib.format.open_memmap(cell.path, "w+", np.float64, (cell.n, cell.d))
    for part, start in enumerate(range(0, cell.n, rows)):
        stop = min(start + rows, cell.n)
        x[start:stop] = draw_rows(cell, stop - start, part)
    x.flush()


# --- what a peer is -----------------------------------------------------------------------------


class Answer(NamedTuple):
    """A value and, but for peers that have none, its gradients in their order in `BLOCKS`."""

    value: float
    gradients: tuple[Any, ...] | None


class Prepared(NamedTuple):
    """A problem in a peer's hands.

    `call` is what is timed, and returns when the work is done. `read` turns what it returned into
    an answer, and is None where there is nothing to check.
    """

    call: Callable[[], Any]
    read: Callable[[Any], Answer] | None
    note: str = ""


@dataclass(frozen=True)
class Peer:
    """A peer: how to prepare a problem, and what is known of it."""

    title: str
    prepare: Callable[[Any], Prepared]  # of a problem of its kind
    modules: tuple[str, ...]  # to import; the first is the one whose version is named
    # Doubles held at the peak, for each element of [N, K, D] and [N, K]: for leaving cells out.
    doubles: tuple[float, float] = (0.0, 1.0)
    has_gradient: bool = True
    streams: bool = False
    share: float = 1.0  # of the time that a peer may take, for those that few wait for
    kind: str = LIKELIHOOD
    environment: Mapping[str, str] = field(default_factory=dict)  # what its process has of its own

    def bytes_for(self, cell: Cell) -> float:
        """Estimate the memory that a cell takes, the data apart."""
        n = cell.batch or cell.n
        return 8.0 * n * cell.k * (self.doubles[0] * cell.d + self.doubles[1])


# --- gmm_np -------------------------------------------------------------------------------------


def _gmm_np(method: str) -> Callable[[Problem], Prepared]:
    def prepare(p: Problem) -> Prepared:
        import gmm_np

        def call() -> Any:
            return gmm_np.nll_value_and_grad(p.x, p.pi_logits, p.means, p.scale_tril, method=method)

        return Prepared(call, lambda out: Answer(out[0], out[1][:3]))

    return prepare


def _gmm_np_value(p: Problem) -> Prepared:
    import gmm_np

    def call() -> Any:
        return gmm_np.nll(p.x, p.pi_logits, p.means, p.scale_tril)

    return Prepared(call, lambda value: Answer(value, None))


def _gmm_np_reference(p: Problem) -> Prepared:
    from gmm_np import reference

    def call() -> Any:
        value, cache = reference.nll_forward(p.x, p.pi_logits, p.means, p.scale_tril)
        return value, reference.nll_backward(cache)

    return Prepared(call, lambda out: Answer(out[0], out[1][:3]))


def _gmm_np_objective(p: ObjectiveProblem) -> Prepared:
    from gmm_np.parametrizations import precision_value_and_grad

    def call() -> Any:
        return precision_value_and_grad(p.x, p.alpha, p.mu, p.q, p.l, gamma=p.gamma, m=p.m)

    return Prepared(call, lambda out: Answer(*out))


# --- PyTorch ------------------------------------------------------------------------------------


def _torch_mixture(x: Any, logits: Any, means: Any, scale_tril: Any) -> Any:
    """Log-likelihoods [B] by PyTorch's distributions, their checks of arguments switched off."""
    from torch import distributions

    return distributions.MixtureSameFamily(
        distributions.Categorical(logits=logits, validate_args=False),
        distributions.MultivariateNormal(means, scale_tril=scale_tril, validate_args=False),
        validate_args=False,
    ).log_prob(x)


def _torch_formula(x: Any, logits: Any, means: Any, scale_tril: Any) -> Any:
    """Log-likelihoods [B] in plain tensor operations, one batched solve."""
    import torch

    residual = x.T[None] - means[:, :, None]  # [K, D, B]
    whitened = torch.linalg.solve_triangular(scale_tril, residual, upper=False)
    return _torch_tail(whitened, logits, scale_tril)


def _torch_inverse(x: Any, logits: Any, means: Any, scale_tril: Any) -> Any:
    """Log-likelihoods [B] with inverse factors and one large product: the fastest form found."""
    import torch

    n_components, n_dims = means.shape
    eye = torch.eye(n_dims, dtype=x.dtype).expand_as(scale_tril)
    inverse = torch.linalg.solve_triangular(scale_tril, eye, upper=False)
    product = (inverse.reshape(-1, n_dims) @ x.T).reshape(n_components, n_dims, -1)
    return _torch_tail(product - inverse @ means[:, :, None], logits, scale_tril)


def _torch_tail(whitened: Any, logits: Any, scale_tril: Any) -> Any:
    import torch

    half_log_det = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = torch.log_softmax(logits, -1) - half_log_det - 0.5 * whitened.shape[1] * LOG_2_PI
    quadratic = (whitened * whitened).sum(1)  # [K, B]
    return torch.logsumexp(constant[:, None] - 0.5 * quadratic, 0)


def _torch(log_likelihood: Callable[..., Any]) -> Callable[[Problem], Prepared]:
    def prepare(p: Problem) -> Prepared:
        import torch

        arrays = (p.pi_logits, p.means, p.scale_tril)
        parameters = [torch.from_numpy(a).requires_grad_() for a in arrays]
        n = len(p.x)
        whole = torch.from_numpy(p.x) if p.batch >= n else None

        def call() -> Any:
            if whole is not None:
                loss = -log_likelihood(whole, *parameters).mean()
                return loss.detach(), torch.autograd.grad(loss, parameters)
            total = torch.zeros((), dtype=torch.float64)
            sums: Any = None
            for rows in p.batches():
                loss = -log_likelihood(torch.from_numpy(np.array(p.x[rows])), *parameters).sum()
                gradients = torch.autograd.grad(loss, parameters)
                total += loss.detach()
                sums = (
                    gradients
                    if sums is None
                    else [a.add_(b) for a, b in zip(sums, gradients, strict=True)]
                )
            return total / n, [a / n for a in sums or ()]

        return Prepared(call, lambda out: Answer(out[0].item(), tuple(g.numpy() for g in out[1])))

    return prepare


def _whiten_residuals(x: Any, mu: Any, factors: Any) -> Any:
    """Return Q_k (x_n - mu_k) [K, D, N] as ADBench states it, in one batched product."""
    return factors @ (x.T[None] - mu[:, :, None])


def _whiten_products(x: Any, mu: Any, factors: Any) -> Any:
    """Return Q_k x_n - Q_k mu_k [K, D, N] by one large product: the fastest form found."""
    n_components, n_dims = mu.shape
    product = (factors.reshape(-1, n_dims) @ x.T).reshape(n_components, n_dims, -1)
    return product - factors @ mu[:, :, None]


def _torch_objective(whiten: Callable[..., Any]) -> Callable[[ObjectiveProblem], Prepared]:
    def prepare(p: ObjectiveProblem) -> Prepared:
        import torch
        from scipy.special import multigammaln

        (n, d), k = p.x.shape, len(p.mu)
        x = torch.from_numpy(p.x)
        parameters = [torch.from_numpy(a).requires_grad_() for a in (p.alpha, p.mu, p.q, p.l)]
        columns, rows = np.triu_indices(d, 1)  # l goes column by column
        freedom = d + p.m + 1
        constant = freedom * d * math.log(p.gamma / math.sqrt(2)) - multigammaln(0.5 * freedom, d)
        constant = k * constant - 0.5 * n * d * LOG_2_PI

        def call() -> Any:
            alpha, mu, q, lower = parameters
            factors = torch.diag_embed(q.exp())  # [K, D, D]
            factors[:, rows, columns] = lower
            whitened = whiten(x, mu, factors)
            terms = (alpha + q.sum(1))[:, None] - 0.5 * (whitened * whitened).sum(1)  # [K, N]
            likelihood = torch.logsumexp(terms, 0).sum() - n * torch.logsumexp(alpha, 0)
            prior = p.m * q.sum() - 0.5 * p.gamma**2 * (factors * factors).sum()
            value = likelihood + prior + constant
            return value.detach(), torch.autograd.grad(value, parameters)

        return Prepared(call, lambda out: Answer(out[0].item(), tuple(g.numpy() for g in out[1])))

    return prepare


# --- JAX ----------------------------------------------------------------------------------------


def _jax_formula(x: Any, means: Any, scale_tril: Any) -> Any:
    """Whitened residuals [K, D, N] by one batched solve."""
    from jax.lax.linalg import triangular_solve

    residual = x.T[None] - means[:, :, None]
    return triangular_solve(scale_tril, residual, left_side=True, lower=True)


def _jax_inverse(x: Any, means: Any, scale_tril: Any) -> Any:
    """Whitened residuals [K, D, N] by inverse factors and one large product."""
    import jax.numpy as jnp
    from jax.lax.linalg import triangular_solve

    n_components, n_dims = means.shape
    eye = jnp.broadcast_to(jnp.eye(n_dims), scale_tril.shape)
    inverse = triangular_solve(scale_tril, eye, left_side=True, lower=True)
    product = (inverse.reshape(-1, n_dims) @ x.T).reshape(n_components, n_dims, -1)
    return product - inverse @ means[:, :, None]


def _jax(whiten: Callable[..., Any]) -> Callable[[Problem], Prepared]:
    def prepare(p: Problem) -> Prepared:
        import jax

        jax.config.update("jax_enable_x64", True)
        import jax.numpy as jnp

        def loss(parameters: Any, x: Any) -> Any:
            logits, means, scale_tril = parameters
            whitened = whiten(x, means, scale_tril)
            half_log_det = jnp.log(jnp.diagonal(scale_tril, axis1=-2, axis2=-1)).sum(-1)
            constant = jax.nn.log_softmax(logits) - half_log_det - 0.5 * x.shape[1] * LOG_2_PI
            quadratic = (whitened * whitened).sum(1)  # [K, N]
            terms = constant[:, None] - 0.5 * quadratic
            return -jax.scipy.special.logsumexp(terms, axis=0).mean()

        arguments = tuple(jnp.asarray(a) for a in (p.pi_logits, p.means, p.scale_tril))
        x = jnp.asarray(p.x)
        start = time.perf_counter()
        function = jax.jit(jax.value_and_grad(loss)).lower(arguments, x).compile()
        note = f"compiled in {time.perf_counter() - start:.2f} s"

        def read(out: Any) -> Answer:
            return Answer(float(out[0]), tuple(np.asarray(g) for g in out[1]))

        return Prepared(lambda: jax.block_until_ready(function(arguments, x)), read, note)

    return prepare


# --- HIPS autograd and scikit-learn -------------------------------------------------------------


def _autograd(p: Problem) -> Prepared:
    import autograd
    import autograd.numpy as anp
    from autograd.scipy.linalg import solve_triangular
    from autograd.scipy.special import logsumexp

    def loss(parameters: Any, x: Any) -> Any:
        logits, means, scale_tril = parameters
        log_pi = logits - logsumexp(logits) - 0.5 * x.shape[1] * LOG_2_PI
        terms = []
        for k in range(len(means)):
            whitened = solve_triangular(scale_tril[k], (x - means[k]).T, lower=True)  # [D, N]
            half_log_det = anp.sum(anp.log(anp.diag(scale_tril[k])))
            terms.append(log_pi[k] - half_log_det - 0.5 * anp.sum(whitened * whitened, axis=0))
        return -anp.mean(logsumexp(anp.array(terms), axis=0))

    function = autograd.value_and_grad(loss)
    parameters = (p.pi_logits, p.means, p.scale_tril)
    return Prepared(
        lambda: function(parameters, p.x), lambda out: Answer(float(out[0]), tuple(out[1]))
    )


def _sklearn(p: Problem) -> Prepared:
    from scipy.linalg import solve_triangular
    from sklearn.mixture import GaussianMixture

    eye = np.eye(p.x.shape[1])
    estimator = GaussianMixture(n_components=len(p.means), covariance_type="full")
    estimator.weights_ = np.exp(p.pi_logits) / np.exp(p.pi_logits).sum()
    estimator.means_ = p.means
    estimator.covariances_ = p.scale_tril @ p.scale_tril.transpose(0, 2, 1)
    estimator.precisions_cholesky_ = np.array(
        [solve_triangular(factor, eye, lower=True).T for factor in p.scale_tril]
    )
    return Prepared(
        lambda: estimator.score_samples(p.x), lambda scores: Answer(-float(scores.mean()), None)
    )


# --- the floor ----------------------------------------------------------------------------------

FLOOR_BYTES = (2**18, 2**20, 2**22, 2**23, 2**24)  # of a block: they fit a cache
FLOOR_ROWS = (256, 1024)  # of other blocks, for products with large matrices


class Work(NamedTuple):
    """Part of the floor: `run` does the work of `rows` rows in buffers that it reuses."""

    run: Callable[[], object]
    rows: int
    label: str


def _seconds(run: Callable[[], object], repeat: int = 4, enough: float = 0.05) -> float:
    """Time the best of a few runs, the first of which warms up; fewer where they are long."""
    best = total = 0.0
    for i in range(repeat):
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        best = seconds if i <= 1 else min(best, seconds)
        total += seconds
        if total > enough:
            break
    return best


def _repeat(make: Callable[[int], Work], work: Work, n: int) -> Callable[[], None]:
    """Do the work of n rows in blocks of `work.rows`, and a last one for what remains."""
    rest = make(n % work.rows).run if n % work.rows else None

    def run() -> None:
        for _ in range(n // work.rows):
            work.run()
        if rest is not None:
            rest()

    return run


def moments_products(k: int, d: int, layout: str) -> Callable[[int], Work]:
    """Make products with features, [K, P] x [P, B] and [K, B] x [B, P], for blocks of B rows."""
    from scipy.linalg.blas import dgemm

    p = (d + 1) * (d + 2) // 2
    rng = np.random.default_rng(0)

    def make(b: int) -> Work:
        theta, sums = rng.normal(size=(k, p)), np.zeros((k, p))
        phi, terms = rng.normal(size=(p, b)), np.zeros((k, b))

        def by_matmul() -> None:
            np.matmul(theta, phi, out=terms)
            np.matmul(terms, phi.T, out=sums)

        def by_rows() -> None:
            rows, values = phi.reshape(b, p), terms.reshape(b, k)
            np.matmul(rows, theta.T, out=values)
            np.matmul(values.T, rows, out=sums)

        def by_dgemm() -> None:  # Fortran sees every array transposed
            dgemm(1.0, phi.T, theta.T, c=terms.T, overwrite_c=1)
            dgemm(1.0, phi.T, terms.T, trans_a=1, c=sums.T, overwrite_c=1)

        run = {"matmul": by_matmul, "matmul by rows": by_rows, "dgemm": by_dgemm}[layout]
        return Work(run, b, f"moments, {layout}, B={b}")

    return make


def direct_products(k: int, d: int, layout: str) -> Callable[[int], Work]:
    """Make products with residuals, [B, D] x [D, KD] and K times [D, B] x [B, D].

    "halves" does them as BLAS does products with triangular and of symmetric matrices, which is
    half the arithmetic.
    """
    from scipy.linalg.blas import dgemm, dsyrk, dtrmm

    rng = np.random.default_rng(0)

    def make(b: int) -> Work:
        x, factor, sums = rng.normal(size=(d, b)), np.eye(d), np.zeros((k, d, d))
        wide, z = rng.normal(size=(k * d, d)), rng.normal(size=(k, d, b))
        weighted = z if layout == "halves" else rng.normal(size=(k, d, b))

        def by_matmul() -> None:
            np.matmul(wide, x, out=z.reshape(k * d, b))
            np.matmul(z, weighted.transpose(0, 2, 1), out=sums)

        def by_dgemm() -> None:  # Fortran sees every array transposed
            dgemm(1.0, x.T, wide.T, c=z.reshape(k * d, b).T, overwrite_c=1)
            for i in range(k):
                dgemm(1.0, weighted[i].T, z[i].T, trans_a=1, c=sums[i].T, overwrite_c=1)

        def by_halves() -> None:
            for i in range(k):
                dtrmm(1.0, factor.T, z[i].T, side=1, overwrite_b=1)
                dsyrk(1.0, z[i].T, trans=1, c=sums[i].T, overwrite_c=1)

        run = {"matmul": by_matmul, "dgemm": by_dgemm, "halves": by_halves}[layout]
        return Work(run, b, f"direct, {layout}, B={b}")

    return make


def exponentials(k: int) -> Callable[[int], Work]:
    """Make the exponentials of B rows of an N x K array."""

    def make(b: int) -> Work:
        source = np.random.default_rng(0).uniform(-30.0, 0.0, (b, k))
        out = np.empty_like(source)
        return Work(lambda: np.exp(source, out=out), b, f"exp, B={b}")

    return make


def _best(make: Callable[[int], Work], n: int, row_bytes: int) -> tuple[float, Work]:
    """Choose the size of blocks that does a row in the least time."""
    sizes = {min(n, max(1, target // row_bytes)) for target in FLOOR_BYTES}
    sizes |= {min(n, b) for b in FLOOR_ROWS}
    timed = []
    for b in sorted(sizes):
        work = make(b)
        timed.append((_seconds(work.run) / b, work))
    return min(timed, key=lambda item: item[0])


def _floor(problem: Problem) -> Prepared:
    """Prepare the cheapest of the kernels' products, and exponentials."""
    (n, d), k = problem.x.shape, len(problem.means)
    p = (d + 1) * (d + 2) // 2
    makers = [
        *((moments_products(k, d, s), p + k) for s in ("matmul", "matmul by rows", "dgemm")),
        *((direct_products(k, d, s), 2 * k * d) for s in ("matmul", "dgemm")),
        (direct_products(k, d, "halves"), k * d),
    ]
    chosen = [(*_best(make, n, 8 * width), make) for make, width in makers]
    _, work, make = min(chosen, key=lambda item: item[0])
    products = _repeat(make, work, n)
    make_exp = exponentials(k)
    _, exp = _best(make_exp, n, 16 * k)
    elementwise = _repeat(make_exp, exp, n)

    def call() -> None:
        products()
        elementwise()

    return Prepared(call, None, f"{work.label}; {exp.label}")


# --- the list -----------------------------------------------------------------------------------

# Doubles at the peak are slopes in N of what fresh processes took, rounded up.
PEERS = {
    "gmm_np_auto": Peer("gmm_np auto", _gmm_np("auto"), ("gmm_np",), streams=True),
    "gmm_np_direct": Peer("gmm_np direct", _gmm_np("direct"), ("gmm_np",), streams=True),
    "gmm_np_moments": Peer("gmm_np moments", _gmm_np("moments"), ("gmm_np",)),
    "gmm_np_reference": Peer(
        "gmm_np reference", _gmm_np_reference, ("gmm_np",), (1.2, 4.0), share=0.25
    ),
    "gmm_np_value": Peer(
        "gmm_np auto, value alone", _gmm_np_value, ("gmm_np",), has_gradient=False
    ),
    "gmm_np_one_thread": Peer(
        "gmm_np auto, one thread", _gmm_np("auto"), ("gmm_np",), environment=ONE_THREAD
    ),
    "torch_mixture": Peer(
        "PyTorch distributions", _torch(_torch_mixture), ("torch",), (4.5, 1.0), streams=True
    ),
    "torch_formula": Peer("PyTorch formula", _torch(_torch_formula), ("torch",), (3.4, 1.0)),
    "torch_inverse": Peer(
        "PyTorch inverse factors", _torch(_torch_inverse), ("torch",), (3.4, 1.0), streams=True
    ),
    "jax_formula": Peer("JAX formula", _jax(_jax_formula), ("jax", "jaxlib"), (5.3, 4.0)),
    "jax_inverse": Peer("JAX inverse factors", _jax(_jax_inverse), ("jax", "jaxlib"), (3.2, 2.0)),
    "autograd": Peer("HIPS autograd", _autograd, ("autograd",), (1.3, 8.0), share=0.25),
    "sklearn": Peer(
        "scikit-learn, value alone", _sklearn, ("sklearn",), (0.0, 4.5), has_gradient=False
    ),
    "floor": Peer("floor", _floor, ("scipy",), (0.0, 0.0), has_gradient=False),
    "gmm_np_objective": Peer(
        "gmm_np, precision factors", _gmm_np_objective, ("gmm_np",), kind=OBJECTIVE
    ),
    "torch_objective": Peer(
        "PyTorch, precision factors",
        _torch_objective(_whiten_residuals),
        ("torch",),
        (3.4, 1.0),
        kind=OBJECTIVE,
    ),
    "torch_objective_product": Peer(
        "PyTorch, precision factors, one large product",
        _torch_objective(_whiten_products),
        ("torch",),
        (3.4, 1.0),
        kind=OBJECTIVE,
    ),
}


def load_peers(modules: list[str]) -> dict[str, Peer]:
    """Return the peers of this file, and those of `PEERS` in other files."""
    peers = dict(PEERS)
    for index, path in enumerate(modules):
        spec = importlib.util.spec_from_file_location(f"more_peers_{index}", path)
        if spec is None or spec.loader is None:
            raise ValueError(f"{path} is no Python file: --peer-module wants one.")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        peers.update(module.PEERS)
    return peers


# --- the process --------------------------------------------------------------------------------


def summarize(answer: Answer, cell: Cell) -> dict[str, Any]:
    """Reduce an answer to a few numbers: a norm and two random projections for each gradient."""
    summary: dict[str, Any] = {"value": float(answer.value)}
    rng = np.random.default_rng(cell.seed)
    for block, gradient in zip(BLOCKS[cell.kind], answer.gradients or (), strict=False):
        g = np.asarray(gradient, np.float64)
        projections = [float((rng.normal(size=g.shape) * g).sum()) for _ in range(2)]
        summary[block] = {
            "shape": list(g.shape),
            "norm": float(np.linalg.norm(g)),
            "projections": projections,
        }
    return summary


def memory() -> dict[str, float]:
    """Return MiB of memory: the peak of what is resident, and what is of no file right now."""
    with contextlib.suppress(OSError, KeyError):
        lines = Path("/proc/self/status").read_text().splitlines()
        fields = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        # Not ru_maxrss, which on Linux begins with what the parent had when it forked.
        return {
            "peak_mib": int(fields["VmHWM"][0]) / 2**10,
            "anonymous_mib": int(fields["RssAnon"][0]) / 2**10,
        }
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts in bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"peak_mib": peak, "anonymous_mib": math.nan}


@contextlib.contextmanager
def watch_memory(seen: dict[str, float], interval: float = 0.005) -> Iterator[None]:
    """Note the peak of memory of no file, which the system does not keep, in `seen`."""
    seen["anonymous_mib"] = memory()["anonymous_mib"]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(interval):
            seen["anonymous_mib"] = max(seen["anonymous_mib"], memory()["anonymous_mib"])

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()


@dataclass
class Server:
    """Answers requests about one peer."""

    peer: Peer
    cell: Cell | None = None
    problem: Problem | ObjectiveProblem | None = None
    prepared: Prepared | None = None
    actions: dict[str, Callable[..., dict[str, Any]]] = field(init=False)

    def __post_init__(self) -> None:
        self.actions = {
            "draw": self.draw,
            "prepare": self.prepare,
            "check": self.check,
            "calls": self.calls,
            "time": self.time,
            "release": self.release,
        }

    def draw(self, cell: dict[str, Any]) -> dict[str, Any]:
        """Draw a problem."""
        self.release()
        self.cell = Cell(**cell)
        self.problem = draw(self.cell)
        return memory()

    def prepare(self) -> dict[str, Any]:
        """Convert arrays, compile, choose blocks: what is done once and is not timed."""
        assert self.problem is not None
        start = time.perf_counter()
        self.prepared = self.peer.prepare(self.problem)
        return {"seconds": time.perf_counter() - start, "note": self.prepared.note}

    def check(self, watch: bool = False) -> dict[str, Any]:
        """Make the first call, and say what came out; watch memory where that is asked for."""
        assert self.prepared is not None
        assert self.cell is not None
        seen: dict[str, float] = {}
        with watch_memory(seen) if watch else contextlib.nullcontext():
            start = time.perf_counter()
            out = self.prepared.call()
            seconds = time.perf_counter() - start
        after = {**memory(), **seen}
        summary = None
        if self.prepared.read is not None:
            summary = summarize(self.prepared.read(out), self.cell)
        return {"seconds": seconds, "summary": summary, **after}

    def calls(self, least: float) -> dict[str, Any]:
        """Find how many calls take at least so many seconds."""
        calls = 1
        while (seconds := self._run(calls)) < least:
            calls = max(2 * calls, min(100 * calls, math.ceil(1.1 * calls * least / seconds)))
        return {"calls": calls, "seconds": seconds / calls}

    def time(self, calls: int) -> dict[str, Any]:
        """Time so many calls, after one that warms the caches where calls are short."""
        gc.collect()
        if calls > 1:
            self._run(1)
        return {"seconds": self._run(calls) / calls}

    def release(self) -> dict[str, Any]:
        """Forget the problem."""
        self.cell = self.problem = self.prepared = None
        gc.collect()
        return {}

    def _run(self, calls: int) -> float:
        assert self.prepared is not None
        call = self.prepared.call
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - start


def serve(peer: Peer) -> None:
    """Answer requests until stdin ends. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for module in peer.modules:
        importlib.import_module(module)
    server = Server(peer)
    answers.write(json.dumps({"ready": True, **memory()}) + "\n")
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = server.actions[request.pop("do")](**request)
        except Exception as error:
            server.release()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


def main() -> None:
    """Serve the peer that the command line names."""
    parser = argparse.ArgumentParser(description="Serve one peer of scripts/benchmark.py.")
    parser.add_argument("peer")
    parser.add_argument("--peer-module", action="append", default=[])
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    with contextlib.suppress(OSError):  # if memory runs out, the system is to end this process
        Path("/proc/self/oom_score_adj").write_text("1000")
    serve(load_peers(options.peer_module)[options.peer])


if __name__ == "__main__":
    main()
