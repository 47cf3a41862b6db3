"""Parametrizations of every family against PyTorch: the loss as a function of the vector.

PyTorch builds factors from the vector by the definition of each parametrization, then the loss of
the full model from them, and differentiates all of it.
"""

import math

import numpy as np
import pytest
import torch
from families_by_reference import FAMILIES, random_parameters, value_and_grad
from problems import Worst, logits_floor, random_problem

from gmm_np import nll_value_and_grad
from gmm_np.parametrizations import Cholesky, Covariance, LogCholesky, PrecisionFactor


def loss(x, logits, means, factors):
    residual = x[None] - means[:, None]  # [K, N, D]
    z = torch.linalg.solve_triangular(factors, residual.mT, upper=False)  # [K, D, N]
    diagonal = torch.diagonal(factors, dim1=1, dim2=2)
    joint = -0.5 * (z**2).sum(1) - diagonal.log().sum(1)[:, None]
    joint = joint + torch.log_softmax(logits, 0)[:, None] - x.shape[1] / 2 * math.log(2 * math.pi)
    return -torch.logsumexp(joint, 0).mean()


def triangles(entries, d):
    rows, columns = torch.tril_indices(d, d)
    matrix = torch.zeros((*entries.shape[:-1], d, d), dtype=torch.float64)
    matrix[..., rows, columns] = entries
    return matrix


def log_diagonal(matrix):
    """Lower triangular, with the exponential of the diagonal."""
    return matrix.tril(-1) + torch.diag_embed(torch.diagonal(matrix, dim1=-2, dim2=-1).exp())


def factors_of(space, family, entries, k, d, fixed):
    """Factors [K, D, D] by the definition of each parametrization."""
    if family == "constant":
        return fixed
    if family in ("full", "tied"):
        lead = (k,) if family == "full" else ()
        if space is Covariance:
            matrix = entries.reshape(*lead, d, d)
            factor = torch.linalg.cholesky((matrix + matrix.mT) / 2)
        else:
            factor = triangles(entries.reshape(*lead, d * (d + 1) // 2), d)
            if space in (LogCholesky, PrecisionFactor):
                factor = log_diagonal(factor)
            if space is PrecisionFactor:
                factor = torch.linalg.cholesky(torch.linalg.inv(factor.mT @ factor))
        return factor.expand(k, d, d)
    deviations = {
        LogCholesky: torch.exp,
        Cholesky: lambda v: v,
        Covariance: torch.sqrt,
        PrecisionFactor: lambda v: torch.exp(-v),
    }[space](entries)
    shape = {
        "diag": (k, d),
        "tied_diag": (1, d),
        "spherical": (k, 1),
        "shared_spherical": (1, 1),
    }[family]
    return torch.diag_embed(deviations.reshape(shape).expand(k, d))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("space", [LogCholesky, Cholesky, Covariance, PrecisionFactor])
def test_gradient_of_the_vector_is_that_of_autograd(space, family):
    worst = Worst()
    for seed in range(20):
        problem = random_problem(seed)
        n, (k, d) = len(problem.x), problem.means.shape
        parameters = random_parameters(seed, family, k, d)
        own = space.of(parameters)
        vector = own.pack(parameters)

        leaf = torch.tensor(vector, requires_grad=True)
        logits, means, entries = leaf.split([k, k * d, own.size - k - k * d])
        fixed = torch.tensor(parameters.factors())
        factors = factors_of(space, family, entries, k, d, fixed)
        value = loss(torch.tensor(problem.x), logits, means.reshape(k, d), factors)
        value.backward()

        point = own.unpack(vector)
        expected = np.split(leaf.grad.numpy(), [k, k + k * d])
        arguments = (problem.x, point.pi_logits, point.means, point.scale)
        for mine, gradients in (
            value_and_grad(problem.x, point),
            nll_value_and_grad(*arguments, family=family),
        ):
            got = np.split(own.pullback(point, gradients), [k, k + k * d])
            worst.add(seed, "value", mine, value.item())
            for block, a, b in zip(("logits", "means", "scale"), got, expected, strict=True):
                if a.size:
                    # A gradient that is nearly zero is a difference of terms of size one.
                    worst.add(seed, block, a, b, logits_floor(n))
    # Both round each of some tens of operations by 1e-16, on factors of condition below a hundred.
    worst.check(1e-12)
