"""Rows with missing values against PyTorch, element by element, for every family and pattern."""

import numpy as np
import pytest
import torch
from families_by_reference import FAMILIES
from missing_cases import arguments, random_case
from problems import Worst
from test_second_order_torch import factors_of, tensors

import gmm_np
from gmm_np.parametrizations import Cholesky

pytestmark = pytest.mark.needs_extras

# Both sides round some hundred operations to 1.1e-16 each; second derivatives twice.
TOLERANCE = 1e-12
SECOND_TOLERANCE = 1e-11


def loss_of_rows(x, logits, means, scale, family):
    """Minus the log-likelihood of each row, by PyTorch's distribution of its sub-block, [N]."""
    factors = factors_of(scale, family, *means.shape)
    covariances = factors @ factors.mT
    log_pi = torch.log_softmax(logits, 0)
    found = []
    for row in x:
        seen = torch.nonzero(~torch.isnan(row))[:, 0]
        terms = log_pi
        if len(seen):
            density = torch.distributions.MultivariateNormal(
                means[:, seen], covariances[:, seen][:, :, seen]
            )
            terms = terms + density.log_prob(row[seen])
        found.append(-torch.logsumexp(terms, 0))
    return torch.stack(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_value_and_gradient_are_those_of_the_marginals(family):
    parameters, x, weight = random_case(0, family)
    blocks = [block.requires_grad_() for block in tensors(*arguments(parameters))]
    rows = torch.tensor(x, requires_grad=True)
    expected = (torch.tensor(weight) * loss_of_rows(rows, *blocks, family)).sum()
    expected.backward()
    options = {"family": family, "missing": "marginal"}
    p = arguments(parameters)
    for method in ("direct", "moments"):
        value, found = gmm_np.nll_value_and_grad(
            x, *p, sample_weight=weight, reduction="sum", method=method, **options
        )
        assert value == pytest.approx(expected.item(), rel=1e-13)
        worst = Worst()
        worst.add(0, "pi_logits", found.pi_logits, blocks[0].grad.numpy())
        worst.add(0, "means", found.means, blocks[1].grad.numpy())
        if found.scale is not None:
            worst.add(0, "scale", found.scale, blocks[2].grad.numpy())
        worst.check(TOLERANCE)
    in_x = -weight[:, None] * gmm_np.log_prob_grad(x, *p, **options)
    np.testing.assert_allclose(in_x, rows.grad.numpy(), rtol=0, atol=1e-12 * np.abs(in_x).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_hessian_and_scores_are_those_of_the_marginals(family):
    parameters, x, weight = random_case(1, family, k=2, d=3)
    layout = Cholesky.of(parameters)
    start = layout.pack(parameters)

    # The vector's entries, to where they stand in the arrays: linear, and so by its columns.
    def arrays(vector):
        moved = layout.pushforward(parameters, vector)
        scale = np.zeros(parameters.scale.shape) if moved.scale is None else moved.scale
        return [np.asarray(array, np.float64) for array in (moved.pi_logits, moved.means, scale)]

    columns = [tensors(*parts) for parts in zip(*map(arrays, np.eye(layout.size)), strict=True)]
    origin = tensors(*arguments(parameters))
    maps = [torch.stack(parts, dim=-1) for parts in columns]

    def losses(vector):
        step = vector - torch.tensor(start)
        blocks = [base + by @ step for base, by in zip(origin, maps, strict=True)]
        return loss_of_rows(torch.tensor(x), *blocks, family)

    at = torch.tensor(start)
    expected = torch.autograd.functional.jacobian(losses, at).numpy()
    options = {"family": family, "missing": "marginal"}
    found = -gmm_np.scores(x, *arguments(parameters), **options)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
    expected = torch.autograd.functional.hessian(
        lambda vector: (torch.tensor(weight) * losses(vector)).sum(), at
    ).numpy()
    found = gmm_np.nll_hessian(
        x, *arguments(parameters), sample_weight=weight, reduction="sum", **options
    )
    atol = SECOND_TOLERANCE * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
