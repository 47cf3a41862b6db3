"""Second derivatives of the engine against PyTorch's, element by element, for every family."""

import numpy as np
import pytest
import torch
from by_torch import factors_of
from families_by_reference import FAMILIES, KINDS
from problems import Worst
from test_second_order import arguments, compare, product, random_case

import gmm_np
from gmm_np import Gradients
from gmm_np.parametrizations import Cholesky

pytestmark = pytest.mark.needs_extras

# Both sides round some hundred operations to 1.1e-16 each, and differentiate twice.
TOLERANCE = 1e-11


def loss(x, weight, logits, means, scale, family):
    """The weighted sum, by PyTorch's own distribution."""
    factors = factors_of(scale, family, *means.shape)
    density = torch.distributions.MultivariateNormal(means, scale_tril=factors)
    terms = torch.log_softmax(logits, 0) + density.log_prob(x[:, None])
    return -(weight * torch.logsumexp(terms, dim=1)).sum()


def tensors(*arrays):
    return [torch.tensor(np.array(a), dtype=torch.float64) for a in arrays]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_entry_of_the_product_agrees(family):
    worst = Worst()
    for seed in range(30):
        x, p, direction, weight = random_case(seed, family)
        steps = [*direction[:2], np.zeros(p.scale.shape)]
        if direction.scale is not None:
            steps[2] = direction.scale
        rows, own = tensors(x, weight)
        _, found = torch.autograd.functional.hvp(
            lambda a, m, s, x=rows, w=own: loss(x, w, a, m, s, family),
            tuple(tensors(*arguments(p))),
            tuple(tensors(*steps)),
        )
        logits, means, scale = (block.numpy() for block in found)
        if KINDS[family][0] == 2:
            scale = np.tril(scale)
        expected = Gradients(logits, means, scale if KINDS[family][2] else None)
        options = {"sample_weight": weight, "reduction": "sum"}
        compare(worst, seed, product(x, p, direction, method="direct", **options), expected)
    worst.check(TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_entry_of_the_hessian_and_of_the_scores_agrees(family):
    worst = Worst()
    for seed in range(8):
        x, p, _, weight = random_case(seed, family)
        space, (k, d) = Cholesky.of(p), p.means.shape
        rows, own = tensors(x, weight)
        fixed = torch.tensor(p.scale)

        def of_vector(vector, rows=rows, own=own, k=k, d=d, fixed=fixed):
            logits, means, rest = (
                vector[:k],
                vector[k : k + k * d].reshape(k, d),
                vector[k + k * d :],
            )
            if family == "constant":
                scale = fixed
            elif KINDS[family][0] == 2:
                i, j = torch.tril_indices(d, d)
                entries = rest.reshape(*fixed.shape[:-2], -1)
                scale = torch.zeros(fixed.shape, dtype=torch.float64)
                scale[..., i, j] = entries
            else:
                scale = rest.reshape(fixed.shape)
            return loss(rows, own, logits, means, scale, family)

        vector = torch.tensor(space.pack(p))
        expected = torch.autograd.functional.hessian(of_vector, vector).numpy()
        found = gmm_np.nll_hessian(
            x, *arguments(p), family=family, sample_weight=weight, reduction="sum"
        )
        worst.add(seed, "hessian", found, expected)
        singles = [
            torch.autograd.functional.jacobian(
                lambda v, n=n, x=rows, f=of_vector: f(v, x[n : n + 1], torch.ones(1)), vector
            ).numpy()
            for n in range(len(x))
        ]
        found = gmm_np.scores(x, *arguments(p), family=family)
        worst.add(seed, "scores", found, -np.stack(singles))
    worst.check(TOLERANCE)


def test_derivatives_in_x_agree():
    worst = Worst()
    for seed in range(30):
        x, p, _, _ = random_case(seed, "full")
        mixture = tensors(*arguments(p))

        def log_prob(row, mixture=mixture):
            return -loss(row[None], torch.ones(1), *mixture, "full")

        pairs = [
            (
                torch.autograd.functional.jacobian(log_prob, row).numpy(),
                torch.autograd.functional.hessian(log_prob, row).numpy(),
            )
            for row in tensors(*x)
        ]
        gradient, hessian = (np.stack(blocks) for blocks in zip(*pairs, strict=True))
        worst.add(seed, "gradient", gmm_np.log_prob_grad(x, *arguments(p)), gradient)
        worst.add(seed, "hessian", gmm_np.log_prob_hess(x, *arguments(p)), hessian)
    worst.check(TOLERANCE)
