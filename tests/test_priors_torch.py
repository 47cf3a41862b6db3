"""Priors of every family against torch.distributions and autograd."""

import numpy as np
import pytest
import torch
from families_by_reference import LEARNED, random_parameters
from problems import Worst, random_problem
from torch.distributions import Dirichlet as TorchDirichlet
from torch.distributions import Normal as TorchNormal
from torch.distributions import Wishart as TorchWishart

from gmm_np.priors import Dirichlet, Normal, Wishart


def precisions(scale, family, k, d):
    """Precision matrices that are learned, from a scale."""
    if family in ("full", "tied"):
        return torch.linalg.inv(scale @ scale.mT).reshape(-1, d, d)
    shape = {
        "diag": (k, d),
        "tied_diag": (1, d),
        "spherical": (k, 1),
        "shared_spherical": (1, 1),
    }[family]
    deviations = scale.reshape(shape).expand(-1, d)
    return torch.diag_embed(deviations**-2)


@pytest.mark.parametrize("family", LEARNED)
@pytest.mark.parametrize(("gamma", "m"), [(0.7, 2.5), (1.3, -0.5)])
def test_wishart_is_that_of_torch(family, gamma, m):
    worst = Worst()
    for seed in range(10):
        k, d = random_problem(seed).means.shape
        parameters = random_parameters(seed, family, k, d)
        scale = torch.tensor(np.array(parameters.scale), requires_grad=True)
        prior = TorchWishart(
            torch.tensor(d + m + 1.0, dtype=torch.float64),
            covariance_matrix=torch.eye(d, dtype=torch.float64) / gamma**2,
            validate_args=False,  # its check of symmetry is stricter than rounding
        )
        value = prior.log_prob(precisions(scale, family, k, d)).sum()
        value.backward()
        expected = scale.grad.numpy()
        if family in ("full", "tied"):
            expected = np.tril(expected)  # autograd takes the factor for a dense matrix
        mine, gradients = Wishart(gamma, m).log_density_and_grad(parameters)
        worst.add(seed, "value", mine, value.item())
        worst.add(seed, "scale", gradients.scale, expected)
        assert not gradients.pi_logits.any()
        assert not gradients.means.any()
    # torch goes through the inverse of a covariance of condition up to a hundred or so.
    worst.check(1e-12)


@pytest.mark.parametrize("concentration", [0.4, 1.0, 2.5])
def test_dirichlet_is_that_of_torch(concentration):
    worst = Worst()
    for seed in range(10):
        k = 2 + seed % 5
        parameters = random_parameters(seed, "spherical", k, 2)
        logits = torch.tensor(np.array(parameters.pi_logits), requires_grad=True)
        prior = TorchDirichlet(torch.full((k,), concentration, dtype=torch.float64))
        value = prior.log_prob(torch.softmax(logits, 0))
        value.backward()
        mine, gradients = Dirichlet(concentration).log_density_and_grad(parameters)
        worst.add(seed, "value", mine, value.item(), 0.01)
        worst.add(seed, "logits", gradients.pi_logits, logits.grad.numpy(), 0.01)
        assert not gradients.scale.any()
        assert not gradients.means.any()
    worst.check(1e-12)


@pytest.mark.parametrize("per_column", [False, True])
def test_normal_is_that_of_torch(per_column):
    worst = Worst()
    for seed in range(10):
        k, d = random_problem(seed).means.shape
        parameters = random_parameters(seed, "diag", k, d)
        mean = np.linspace(-1, 1, d) if per_column else 0.3
        means = torch.tensor(np.array(parameters.means), requires_grad=True)
        value = TorchNormal(torch.tensor(mean, dtype=torch.float64), 1.5).log_prob(means).sum()
        value.backward()
        mine, gradients = Normal(mean, 1.5).log_density_and_grad(parameters)
        worst.add(seed, "value", mine, value.item())
        worst.add(seed, "means", gradients.means, means.grad.numpy())
        assert not gradients.scale.any()
        assert not gradients.pi_logits.any()
    worst.check(1e-13)
