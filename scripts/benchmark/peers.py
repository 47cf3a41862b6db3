"""The peers: how each is handed a problem, and what is called to time it.

What `gmm_np.conformance.adapters` has already is made from there; here is what only a benchmark
needs: arguments converted once, functions compiled ahead, and other ways to write the same.

Letters in shapes: N samples, B samples of a batch, K components, D dimensions.
"""

from __future__ import annotations

import math
import runpy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cells import (
    LIKELIHOOD,
    OBJECTIVE,
    Answer,
    Cell,
    ObjectiveProblem,
    Prepared,
    Problem,
    draw,
)
from environment import limit_threads
from floor import prepare_floor

import gmm_np
from gmm_np.conformance.adapters import gmm_np as own
from gmm_np.conformance.adapters import jax as by_jax
from gmm_np.conformance.adapters import pytorch as by_pytorch
from gmm_np.conformance.adapters import sklearn as by_sklearn
from gmm_np.parametrizations import precision_value_and_grad

LOG_2_PI = math.log(2 * math.pi)
AUTO, DIRECT, MOMENTS = "gmm_np_auto", "gmm_np_direct", "gmm_np_moments"
REFERENCE, ONE_THREAD, FLOOR = "gmm_np_reference", "gmm_np_one_thread", "floor"
GMM_NP_OBJECTIVE, TORCH_OBJECTIVE = "gmm_np_objective", "torch_objective"
BASES = (AUTO, GMM_NP_OBJECTIVE)  # what the others are compared with; the first of every cell


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
    draw: Callable[[Cell], Any] = draw

    @property
    def imports(self) -> str:
        """What it imports, as an import statement wants it."""
        return ", ".join(self.modules) or "numpy"

    def bytes_for(self, cell: Cell) -> float:
        """Estimate the memory that a cell takes, the data apart."""
        n = cell.batch or cell.n
        return 8.0 * n * cell.k * (self.doubles[0] * cell.d + self.doubles[1])


def from_function(function: Callable[..., Any]) -> Callable[[Problem], Prepared]:
    """Make a peer of a function that takes arrays, as the adapters' do."""
    return lambda p: Prepared(partial(function, *p.arrays))


def _moments(*arrays: Any) -> tuple[Any, ...]:
    value, gradients = gmm_np.nll_value_and_grad(*arrays, method="moments")
    return value, *gradients[:3]


def _gmm_np_objective(p: ObjectiveProblem) -> Prepared:
    x, *parameters, gamma, m = p
    call = partial(precision_value_and_grad, x, *parameters, gamma=gamma, m=m)
    return Prepared(call, lambda out: Answer(*out))


def _sklearn(p: Problem) -> Prepared:
    estimator = by_sklearn.fitted(p.pi_logits, p.means, p.scale_tril)
    return Prepared(
        lambda: estimator.score_samples(p.x), lambda scores: Answer(-float(scores.mean()))
    )


# --- ways to whiten, for any library of arrays --------------------------------------------------


def whiten_products(x: Any, means: Any, factors: Any) -> Any:
    """Return F_k x_n - F_k mu_k [K, D, N] by one large product: the fastest form found."""
    n_components, n_dims = means.shape
    product = (factors.reshape(-1, n_dims) @ x.T).reshape(n_components, n_dims, -1)
    return product - factors @ means[:, :, None]


def whiten_residuals(x: Any, means: Any, factors: Any) -> Any:
    """Return F_k (x_n - mu_k) [K, D, N] as ADBench states it, in one batched product."""
    return factors @ (x.T[None] - means[:, :, None])


# --- PyTorch ------------------------------------------------------------------------------------


def _torch_formula(x: Any, logits: Any, means: Any, scale_tril: Any) -> Any:
    """Log-likelihoods [B] in plain tensor operations, one batched solve."""
    import torch

    residual = x.T[None] - means[:, :, None]  # [K, D, B]
    whitened = torch.linalg.solve_triangular(scale_tril, residual, upper=False)
    return _torch_tail(whitened, logits, scale_tril)


def _torch_inverse(x: Any, logits: Any, means: Any, scale_tril: Any) -> Any:
    """Log-likelihoods [B] with inverse factors."""
    import torch

    eye = torch.eye(x.shape[1], dtype=x.dtype).expand_as(scale_tril)
    inverse = torch.linalg.solve_triangular(scale_tril, eye, upper=False)
    return _torch_tail(whiten_products(x, means, inverse), logits, scale_tril)


def _torch_tail(whitened: Any, logits: Any, scale_tril: Any) -> Any:
    import torch

    half_log_det = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = torch.log_softmax(logits, -1) - half_log_det - 0.5 * whitened.shape[1] * LOG_2_PI
    quadratic = (whitened * whitened).sum(1)  # [K, B]
    return torch.logsumexp(constant[:, None] - 0.5 * quadratic, 0)


def _read_tensors(out: Any) -> Answer:
    return Answer(out[0].item(), tuple(gradient.numpy() for gradient in out[1]))


def _torch(log_likelihood: Callable[..., Any]) -> Callable[[Problem], Prepared]:
    def prepare(p: Problem) -> Prepared:
        import torch

        parameters = [torch.from_numpy(a).requires_grad_() for a in p.arrays[1:]]
        n = len(p.x)
        whole = torch.from_numpy(p.x) if p.batch >= n else None

        def call() -> Any:
            if whole is not None:
                loss = -log_likelihood(whole, *parameters).mean()
                return loss.detach(), torch.autograd.grad(loss, parameters)
            total = torch.zeros((), dtype=torch.float64)
            sums = [torch.zeros_like(a) for a in parameters]
            for rows in p.batches():
                loss = -log_likelihood(torch.from_numpy(np.array(p.x[rows])), *parameters).sum()
                total += loss.detach()
                for a, b in zip(sums, torch.autograd.grad(loss, parameters), strict=True):
                    a.add_(b)
            return total / n, [a / n for a in sums]

        return Prepared(call, _read_tensors)

    return prepare


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

        return Prepared(call, _read_tensors)

    return prepare


# --- JAX and HIPS autograd ----------------------------------------------------------------------


def _jax_inverse(x: Any, means: Any, scale_tril: Any) -> Any:
    """Log-densities [K, N] by inverse factors."""
    import jax.numpy as jnp
    from jax.lax.linalg import triangular_solve

    eye = jnp.broadcast_to(jnp.eye(x.shape[1]), scale_tril.shape)
    inverse = triangular_solve(scale_tril, eye, left_side=True, lower=True)
    return by_jax.of_whitened(whiten_products(x, means, inverse), scale_tril)


def _jax(log_density: by_jax.LogDensity) -> Callable[[Problem], Prepared]:
    def prepare(p: Problem) -> Prepared:
        import jax

        function: Any = by_jax.value_and_grad(
            log_density
        )  # it lets JAX have doubles: before arrays
        x, *parameters = (jax.numpy.asarray(a) for a in p.arrays)
        arguments = tuple(parameters), x
        start = time.perf_counter()
        compiled = function.lower(*arguments).compile()
        note = f"compiled in {time.perf_counter() - start:.2f} s"

        def read(out: Any) -> Answer:
            return Answer(float(out[0]), tuple(np.asarray(g) for g in out[1]))

        return Prepared(lambda: jax.block_until_ready(compiled(*arguments)), read, note)

    return prepare


def _autograd(p: Problem) -> Prepared:
    """Prepare the formula by triangular solves; the adapter's densities solve covariances."""
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

    x, *parameters = p.arrays
    call = partial(autograd.value_and_grad(loss), tuple(parameters), x)
    return Prepared(call, lambda out: Answer(float(out[0]), tuple(out[1])))


# --- the list -----------------------------------------------------------------------------------

BY_GMM_NP, BY_TORCH, BY_JAX = ("gmm_np",), ("torch",), ("jax", "jaxlib")
# Doubles at the peak are slopes in N of what fresh processes took, rounded up.
PEERS = {
    AUTO: Peer("gmm_np auto", from_function(own.auto), BY_GMM_NP, streams=True),
    DIRECT: Peer("gmm_np direct", from_function(own.direct), BY_GMM_NP, streams=True),
    MOMENTS: Peer("gmm_np moments", from_function(_moments), BY_GMM_NP),
    REFERENCE: Peer(
        "gmm_np reference", from_function(own.reference), BY_GMM_NP, (1.2, 4.0), share=0.25
    ),
    "gmm_np_value": Peer(
        "gmm_np auto, value alone", from_function(gmm_np.nll), BY_GMM_NP, has_gradient=False
    ),
    ONE_THREAD: Peer(
        "gmm_np auto, one thread",
        from_function(own.auto),
        BY_GMM_NP,
        environment=limit_threads(1),
    ),
    "torch_mixture": Peer(
        "PyTorch distributions",
        _torch(partial(by_pytorch.log_prob, validate_args=False)),
        BY_TORCH,
        (4.5, 1.0),
        streams=True,
    ),
    "torch_formula": Peer("PyTorch formula", _torch(_torch_formula), BY_TORCH, (3.4, 1.0)),
    "torch_inverse": Peer(
        "PyTorch inverse factors", _torch(_torch_inverse), BY_TORCH, (3.4, 1.0), streams=True
    ),
    "jax_formula": Peer("JAX formula", _jax(by_jax.by_formula), BY_JAX, (5.3, 4.0)),
    "jax_inverse": Peer("JAX inverse factors", _jax(_jax_inverse), BY_JAX, (3.2, 2.0)),
    "autograd": Peer("HIPS autograd", _autograd, ("autograd",), (1.3, 8.0), share=0.25),
    "sklearn": Peer(
        "scikit-learn, value alone", _sklearn, ("sklearn",), (0.0, 4.5), has_gradient=False
    ),
    FLOOR: Peer("floor", prepare_floor, ("scipy", "threadpoolctl"), (0.0, 0.0), has_gradient=False),
    GMM_NP_OBJECTIVE: Peer(
        "gmm_np, precision factors", _gmm_np_objective, BY_GMM_NP, kind=OBJECTIVE
    ),
    **{
        name: Peer(title, _torch_objective(whiten), BY_TORCH, (3.4, 1.0), kind=OBJECTIVE)
        for name, title, whiten in (
            (TORCH_OBJECTIVE, "PyTorch, precision factors", whiten_residuals),
            (
                "torch_objective_product",
                "PyTorch, precision factors, one large product",
                whiten_products,
            ),
        )
    },
}


def load_peers(modules: list[str]) -> dict[str, Peer]:
    """Return the peers of this file, and those of `PEERS` in other files."""
    peers = dict(PEERS)
    for path in modules:
        if Path(path).suffix != ".py":
            raise ValueError(f"{path} is no Python file: --peer-module wants one.")
        peers |= runpy.run_path(path)["PEERS"]
    return peers
