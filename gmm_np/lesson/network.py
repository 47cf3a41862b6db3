"""A mixture density network by hand, in plain steps: the solutions of the third chapter.

Two layers make outputs, a head makes a mixture of each row of them, and the loss is the mean
negative log-likelihood of the targets. The engine's own is `gmm_np.mdn`, for every family.

Letters in shapes: N rows, K components, D dimensions of x, I inputs, H hidden units, P outputs.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, log_softmax, logsumexp

from gmm_np.checks import FloatArray
from gmm_np.reference import LOG_2_PI

__all__ = [
    "head_backward",
    "head_forward",
    "log_joint",
    "network_backward",
    "row_loss_backward",
    "row_loss_forward",
    "train",
]

Block = FloatArray
Network = tuple[Block, Block, Block, Block]


def log_joint(x: Block, pi_logits: Block, means: Block, deviations: Block) -> Block:
    """Equation (9) of each row's own mixture, [N, K]."""
    e = x[:, None] - means  # [N, K, D]
    quadratic = (e**2).sum(axis=2) / deviations**2  # [N, K]
    half_log_det = x.shape[1] * np.log(deviations)  # [N, K]
    log_pi = log_softmax(pi_logits, axis=1)  # [N, K]
    return np.asarray(log_pi - quadratic / 2 - half_log_det - x.shape[1] / 2 * LOG_2_PI)


def row_loss_forward(
    x: Block, pi_logits: Block, means: Block, deviations: Block
) -> tuple[float, Block]:
    """Mean of -l_n, (11), and the responsibilities [N, K], (14)."""
    t = log_joint(x, pi_logits, means, deviations)  # [N, K]
    log_likelihood = logsumexp(t, axis=1)  # [N]
    return -float(log_likelihood.mean()), np.exp(t - log_likelihood[:, None])


def row_loss_backward(
    x: Block, pi_logits: Block, means: Block, deviations: Block, resp: Block
) -> tuple[Block, Block, Block]:
    """Gradients in logits [N, K], means [N, K, D] and deviations [N, K]: no sum over rows."""
    d_t = -resp / len(x)  # [N, K]  (13), (15)
    pi = np.exp(log_softmax(pi_logits, axis=1))  # [N, K]
    # log_pi = a - logsumexp(a)
    d_pi_logits = d_t - pi * d_t.sum(axis=1, keepdims=True)
    # quadratic = |e|^2 / s^2, e = x - mean
    e = x[:, None] - means  # [N, K, D]
    d_means = -d_t[:, :, None] * -e / deviations[:, :, None] ** 2
    # t = ... - quadratic / 2 - D log s
    d_deviations = d_t * ((e**2).sum(axis=2) / deviations**3 - x.shape[1] / deviations)
    return d_pi_logits, d_means, d_deviations


def head_forward(outputs: Block, n_components: int) -> tuple[Block, Block, Block]:
    """Logits [N, K], means [N, K, D] component by component, and deviations [N, K]."""
    K = n_components
    means = outputs[:, K:-K].reshape(len(outputs), K, -1)
    return outputs[:, :K].copy(), means, np.logaddexp(0.0, outputs[:, -K:])


def head_backward(outputs: Block, d_pi_logits: Block, d_means: Block, d_deviations: Block) -> Block:
    """Gradient in the outputs [N, P]."""
    # deviations = log(1 + e^u), whose slope is 1 / (1 + e^-u)
    d_raw = d_deviations * expit(outputs[:, -d_deviations.shape[1] :])
    return np.concatenate([d_pi_logits, d_means.reshape(len(outputs), -1), d_raw], axis=1)


def network_backward(d_outputs: Block, inputs: Block, hidden: Block, w2: Block) -> Network:
    """Gradients in w1 [I, H], b1 [H], w2 [H, P] and b2 [P]."""
    # outputs = hidden w2 + b2
    d_w2, d_b2 = hidden.T @ d_outputs, d_outputs.sum(axis=0)
    # hidden = tanh(raw), whose slope is 1 - hidden^2
    d_raw = (d_outputs @ w2.T) * (1 - hidden**2)  # [N, H]
    # raw = inputs w1 + b1
    return inputs.T @ d_raw, d_raw.sum(axis=0), d_w2, d_b2


def gradient(inputs: Block, targets: Block, network: Network, n_components: int) -> Network:
    """Gradient of the loss in the weights: forward, and back in the reverse order."""
    w1, b1, w2, b2 = network
    hidden = np.tanh(inputs @ w1 + b1)  # [N, H]
    outputs = hidden @ w2 + b2  # [N, P]
    mixtures = head_forward(outputs, n_components)
    _, resp = row_loss_forward(targets, *mixtures)
    d_outputs = head_backward(outputs, *row_loss_backward(targets, *mixtures, resp))
    return network_backward(d_outputs, inputs, hidden, w2)


def train(
    inputs: Block,
    targets: Block,
    w1: Block,
    b1: Block,
    w2: Block,
    b2: Block,
    n_components: int,
    rate: float,
    n_steps: int,
) -> Network:
    """Weights after steps of gradient descent, each with the gradient where it starts."""
    network = w1, b1, w2, b2
    for _ in range(n_steps):
        d_w1, d_b1, d_w2, d_b2 = gradient(inputs, targets, network, n_components)
        w1, b1, w2, b2 = network
        network = w1 - rate * d_w1, b1 - rate * d_b1, w2 - rate * d_w2, b2 - rate * d_b2
    return network
