"""Log-likelihoods by PyTorch: its distributions, the plain formula, and a mixture for each row."""

import torch
from families_by_reference import KINDS


def log_prob_of_distribution(x, pi_logits, means, scale_tril):
    """PyTorch's own mixture."""
    return torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=pi_logits),
        torch.distributions.MultivariateNormal(means, scale_tril=scale_tril),
    ).log_prob(x)


def log_prob_of_formula(x, pi_logits, means, scale_tril):
    """Equation (3) in plain tensor operations."""
    residual = (x[:, None, :] - means).permute(1, 2, 0)  # [K, D, N]
    whitened = torch.linalg.solve_triangular(scale_tril, residual, upper=False)
    half_log_det = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)  # [K]
    log_2_pi = torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))
    log_density = -0.5 * (whitened**2).sum(1) - half_log_det[:, None] - 0.5 * x.shape[1] * log_2_pi
    log_joint = torch.log_softmax(pi_logits, -1)[:, None] + log_density  # [K, N]
    return torch.logsumexp(log_joint, 0)


def log_prob_of_rows(x, pi_logits, means, scale, family):
    """PyTorch's own mixture, of a batch of rows."""
    if family == "full":
        components = torch.distributions.MultivariateNormal(means, scale_tril=torch.tril(scale))
    else:
        deviations = scale if family == "diag" else scale[..., None].expand_as(means)
        components = torch.distributions.Independent(
            torch.distributions.Normal(means, deviations), 1
        )
    weights = torch.distributions.Categorical(logits=pi_logits)
    return torch.distributions.MixtureSameFamily(weights, components).log_prob(x)


def factors_of(scale, family, k, d):
    """Factors [K, D, D] that a scale stands for, as a differentiable function of it."""
    n_axes = KINDS[family][0]
    if n_axes == 2:
        return torch.tril(scale).expand(k, d, d)
    columns = scale[..., None].expand(*scale.shape, d) if n_axes == 0 else scale
    return torch.diag_embed(columns).expand(k, d, d)
