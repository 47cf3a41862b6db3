# ruff: noqa: ARG005 (a wrong form takes all arguments, and often forgets one)
"""Exercises of chapter three: a network trained by hand, and its wrong forms.

Letters in shapes: N rows, K components, D dimensions of x, I inputs, H hidden units, P outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from scipy.special import expit, log_softmax, logsumexp, softmax

from gmm_np.checks import FloatArray
from gmm_np.datasets import make_inverse_problem
from gmm_np.lesson import network
from gmm_np.lesson.exercise_set import D, Exercise, K, N, Outputs, Part
from gmm_np.lesson.wrong_forms import HINTS, ROWS, TERMS, WrongForm
from gmm_np.reference import LOG_2_PI

__all__ = ["THIRD", "THIRD_PARTS"]

I, H, P = 2, 6, K * (2 + D)  # noqa: E741 (as in the equations)


# --- what functions are asked -------------------------------------------------------------------


def _draw_rows(rng: np.random.Generator) -> Outputs:
    """Draw x, and a mixture for each row."""
    deviations = rng.uniform(0.5, 2.0, size=(N, K))
    x = 1.5 * rng.normal(size=(N, D))
    return x, rng.normal(size=(N, K)), rng.normal(size=(N, K, D)), deviations


def _draw_rows_back(rng: np.random.Generator) -> Outputs:
    rows = _draw_rows(rng)
    return *rows, network.row_loss_forward(*rows)[1]


def _draw_head_back(rng: np.random.Generator) -> Outputs:
    blocks = (rng.normal(size=shape) for shape in ((N, K), (N, K, D), (N, K)))
    return rng.normal(size=(N, P)), *blocks


def _draw_layers_back(rng: np.random.Generator) -> Outputs:
    inputs, hidden = rng.normal(size=(N, I)), np.tanh(rng.normal(size=(N, H)))
    return rng.normal(size=(N, P)), inputs, hidden, rng.normal(size=(H, P))


def _draw_training(rng: np.random.Generator) -> Outputs:
    """Draw Bishop's inverse problem, and a small network whose components start apart."""
    inputs, targets = make_inverse_problem(20, seed=rng)
    b2 = np.concatenate([np.zeros(3), [0.2, 0.5, 0.8], np.full(3, -1.0)])
    weights = (rng.normal(size=(1, H)), rng.normal(size=H), rng.normal(size=(H, 9)) / H, b2)
    return inputs, targets, *weights, 3, 0.005, 20  # so little that uphill, too, all stays finite


# --- the exercises ------------------------------------------------------------------------------

_ROWS: Final = ("x [N, D]", "pi_logits [N, K]", "means [N, K, D]", "deviations [N, K]")
_LAYERS: Final = ("w1 [I, H]", "b1 [H]", "w2 [H, P]", "b2 [P]")
_GRADIENTS: Final = tuple(f"d_{block}" for block in _LAYERS)
_T: Final = (
    "Each row has a mixture of its own, with covariances s_nk^2 times the identity:\n"
    "log_pi_nk = a_nk - log sum_j exp(a_nj),  q_nk = |x_n - mean_nk|^2 / s_nk^2\n"
    "t_nk = log_pi_nk - q_nk / 2 - D log s_nk - (D/2) log(2 pi),  l_n = logsumexp_k t_nk\n"
    "value = -(1/N) sum_n l_n"
)
_OUT: Final = (
    "A row of outputs has K logits, then K D means, component by component, then K numbers u:\n"
    "s_nk = log(1 + exp(u_nk)), the softplus"
)
_FORWARD: Final = "raw = inputs w1 + b1,  hidden = tanh(raw),  outputs = hidden w2 + b2"
SOFTPLUS: Final = "log(1 + e^u) is np.logaddexp(0, u), and its slope is scipy.special.expit(u)."

THIRD: Final[tuple[Exercise, ...]] = (
    Exercise(
        "the loss of rows with mixtures of their own",
        "(4), (9), (11), (13) to (21)",
        (
            Part(
                "row_loss_forward",
                _ROWS,
                ("value scalar", "resp [N, K]"),
                f"{_T},  resp_nk = exp(t_nk - l_n)",
                "All is as for one mixture, and each array has an axis of rows in front.",
                lambda *a: tuple(network.row_loss_forward(*a)),
                ("lesson.network:log_joint", "lesson.network:row_loss_forward"),
                _draw_rows,
                lambda: (
                    np.array([[100.0], [-200.0]]),
                    np.array([[0.0, 0.5], [1000.0, 999.0]]),
                    np.array([[[0.0], [1.0]], [[0.0], [2.0]]]),
                    np.ones((2, 2)),
                ),
            ),
            Part(
                "row_loss_backward",
                (*_ROWS, "resp [N, K]"),
                ("d_pi_logits [N, K]", "d_means [N, K, D]", "d_deviations [N, K]"),
                "d_t_nk = -resp_nk / N,  d_a_nk = (pi_nk - resp_nk) / N\n"
                "d_mean_nk = -(resp_nk / N) (x_n - mean_nk) / s_nk^2\n"
                "d_s_nk = -(resp_nk / N) (|x_n - mean_nk|^2 / s_nk^3 - D / s_nk)",
                "A row's parameters enter its own l_n alone: nothing is summed over the rows.",
                network.row_loss_backward,
                ("lesson.network:row_loss_backward",),
                _draw_rows_back,
                task=f"{_T},  and its gradients.",
            ),
        ),
    ),
    Exercise(
        "the head",
        "(14)",
        (
            Part(
                "head_forward",
                ("outputs [N, P]", "n_components scalar"),
                ("pi_logits [N, K]", "means [N, K, D]", "deviations [N, K]"),
                _OUT,
                SOFTPLUS,
                network.head_forward,
                ("lesson.network:head_forward",),
                lambda rng: (rng.normal(size=(N, P)), K),
                lambda: (np.array([[0.0, 1.0, -1000.0], [2.0, 0.0, 1000.0]]), 1),
                extreme_hint=SOFTPLUS,
            ),
            Part(
                "head_backward",
                (
                    "outputs [N, P]",
                    "d_pi_logits [N, K]",
                    "d_means [N, K, D]",
                    "d_deviations [N, K]",
                ),
                ("d_outputs [N, P]",),
                f"{_OUT}\nd_u_nk = d_s_nk / (1 + exp(-u_nk)); logits and means go back as they are",
                "np.concatenate(..., axis=1) puts the blocks beside each other, in their order.",
                lambda *a: (network.head_backward(*a),),
                ("lesson.network:head_backward",),
                _draw_head_back,
                lambda: (
                    np.array([[0.0, 1.0, -1000.0], [2.0, 0.0, 1000.0]]),
                    np.ones((2, 1)),
                    np.ones((2, 1, 1)),
                    np.ones((2, 1)),
                ),
                task=f"{_OUT}\nThe gradient in all the outputs.",
                extreme_hint=SOFTPLUS,
            ),
        ),
    ),
    Exercise(
        "two layers",
        "of docs/mdn.ipynb",
        (
            Part(
                "network_backward",
                ("d_outputs [N, P]", "inputs [N, I]", "hidden [N, H]", "w2 [H, P]"),
                _GRADIENTS,
                f"{_FORWARD}\n"
                "d_w2 = hidden^T d_outputs,  d_b2 = sum_n d_outputs_n\n"
                "d_raw = (d_outputs w2^T) (1 - hidden^2), entry by entry\n"
                "d_w1 = inputs^T d_raw,  d_b1 = sum_n d_raw_n",
                "tanh' = 1 - tanh^2, and hidden is the tanh already.",
                network.network_backward,
                ("lesson.network:network_backward",),
                _draw_layers_back,
                task=f"{_FORWARD}: the gradients in what the layers are made of.",
            ),
        ),
    ),
    Exercise(
        "training on the inverse problem",
        "of docs/mdn.ipynb",
        (
            Part(
                "train",
                (
                    "inputs [N, I]",
                    "targets [N, D]",
                    *_LAYERS,
                    "n_components scalar",
                    "rate scalar",
                    "n_steps scalar",
                ),
                _LAYERS,
                f"{_FORWARD}\n"
                "The targets are the loss's x. In each of n_steps steps: forward through layers, "
                "head and\nloss, back through them in the reverse order, and for all four blocks\n"
                "w = w - rate d_w",
                "Take the whole gradient first, then move all four blocks; not in place.",
                network.train,
                ("lesson.network:gradient", "lesson.network:train"),
                _draw_training,
            ),
        ),
    ),
)
THIRD_PARTS: Final = {part.name: part for exercise in THIRD for part in exercise.parts}

# --- wrong forms --------------------------------------------------------------------------------

F = WrongForm
SIGN, TRANSPOSE, MISSING, REDUCTION, TWO, TRIANGLE, TAKEN = HINTS
OWN: Final = "Each row has a mixture of its own: its weights add up to 1 along axis 1."
ROWWISE: Final = "A row's parameters enter its own l_n alone: keep the axis of rows."


def _square(x: FloatArray, m: FloatArray) -> FloatArray:
    return np.asarray(((x[:, None] - m) ** 2).sum(axis=2))


def _joint(
    log_pi: Callable[..., Any], q: Callable[..., Any], h: Callable[..., Any], constant: float
) -> Callable[..., Any]:
    """Return t of other terms, each a function of x, logits, means and deviations."""
    return lambda *a: log_pi(*a) - q(*a) / 2 - h(*a) - constant


# fmt: off
# The right ones.
_log_pi: Final[Callable[..., Any]] = lambda x, a, m, s: log_softmax(a, axis=1)  # noqa: E731
_q: Final[Callable[..., Any]] = lambda x, a, m, s: _square(x, m) / s**2  # noqa: E731
_h: Final[Callable[..., Any]] = lambda x, a, m, s: D * np.log(s)  # noqa: E731
C: Final = D / 2 * LOG_2_PI
WRONG_T: Final = [  # wrong t, which the value and the responsibilities inherit
    (MISSING, "the weights: log pi does not enter", _joint(lambda *a: 0.0, _q, _h, C), ""),
    (MISSING, "the logits are not normalised", _joint(lambda x, a, m, s: a, _q, _h, C), OWN),
    (REDUCTION, "the softmax of the logits is over the rows, not over the components",
     _joint(lambda x, a, m, s: log_softmax(a, axis=0), _q, _h, C), OWN),
    (REDUCTION, "the largest logit is a row's, and the sum of the softmax is over the rows",
     _joint(lambda x, a, m, s: log_softmax(a - a.max(1)[:, None], axis=0), _q, _h, C), OWN),
    (REDUCTION, "the softmax of the logits is over everything at once",
     _joint(lambda x, a, m, s: log_softmax(a), _q, _h, C), OWN),
    (REDUCTION, "the logits are averaged over the rows, as if they had one mixture",
     _joint(lambda x, a, m, s: log_softmax(a.mean(axis=0))[None], _q, _h, C), OWN),
    (TAKEN, "pi for log pi", _joint(lambda x, a, m, s: softmax(a, axis=1), _q, _h, C), ""),
    (TAKEN, "a variance for a standard deviation",
     _joint(_log_pi, lambda x, a, m, s: _square(x, m) / s, lambda *a: _h(*a) / 2, C),
     "s is a standard deviation: the form has s^2, and the determinant's root s^D."),
    (MISSING, "the square of s in the quadratic form",
     _joint(_log_pi, lambda x, a, m, s: _square(x, m) / s, _h, C), ""),
    (TWO, "the quadratic form is not halved", _joint(_log_pi, lambda *a: 2 * _q(*a), _h, C), ""),
    (SIGN, "that of the quadratic form", _joint(_log_pi, lambda *a: -_q(*a), _h, C), ""),
    (SIGN, "that of log s", _joint(_log_pi, _q, lambda *a: -_h(*a), C), ""),
    (MISSING, "log s, half the log-determinant", _joint(_log_pi, _q, lambda *a: 0.0, C), ""),
    (MISSING, "D before log s: there are D dimensions", _joint(
        _log_pi, _q, lambda x, a, m, s: np.log(s), C), "det(s^2 I) is s^(2 D)."),
]
# What is the same for all components of a row is not in the responsibilities.
CANCELS: Final = (
    "the logits are not normalised", "the softmax of the logits is over everything at once")
LOG_OF_SUM: Final = "The density is a sum over components: add up first, and take one logarithm."
ROWS["row_loss_forward.value"] = [
    F(TAKEN, "a mean of logs for the log of a mean: the components' log densities are averaged",
      lambda *a: -(softmax(a[1], axis=1) * (network.log_joint(*a) - _log_pi(*a))).sum(1).mean(),
      LOG_OF_SUM),
    F(TAKEN, "a mean of logs for the log of a mean: log pi + log density is averaged",
      lambda *a: -(softmax(a[1], axis=1) * network.log_joint(*a)).sum(axis=1).mean(), LOG_OF_SUM),
    F(TAKEN, "a sum of logs for the log of a sum", lambda *a: -network.log_joint(*a).sum(1).mean(),
      LOG_OF_SUM),
    F(TAKEN, "a mean of logs for the log of a mean, over components and rows",
      lambda *a: -network.log_joint(*a).mean(), LOG_OF_SUM),
    F(TAKEN, "the log of a mean over the rows, for their mean of logs",
      lambda *a: -logsumexp(network.log_joint(*a)) + np.log(N),
      "The rows are independent: their log-likelihoods add."),
    F(MISSING, "only the likeliest component is there",
      lambda *a: -network.log_joint(*a).max(axis=1).mean(), LOG_OF_SUM),
    F(REDUCTION, "the logsumexp is over the rows, not over the components",
      lambda *a: -logsumexp(network.log_joint(*a), axis=0).mean(), OWN),
    F(MISSING, "the constant (D/2) log(2 pi)",
      lambda *a: -logsumexp(network.log_joint(*a), axis=1).mean() - C),
    F(MISSING, "D in the constant: there are D dimensions",
      lambda *a: -logsumexp(network.log_joint(*a), axis=1).mean() - C + LOG_2_PI / 2),
    F(REDUCTION, "not averaged over the rows",
      lambda *a: -logsumexp(network.log_joint(*a), axis=1)),
    *(F(kind, name, lambda *a, t=t: -logsumexp(t(*a), axis=1).mean(), hint)
      for kind, name, t, hint in WRONG_T),
]
ROWS["row_loss_forward.resp"] = [
    F(REDUCTION, "the softmax is over the rows, not over the components",
      lambda *a: softmax(network.log_joint(*a), axis=0), OWN),
    F(REDUCTION, "the softmax is over everything at once",
      lambda *a: softmax(network.log_joint(*a)), OWN),
    F(TAKEN, "the weights pi for the responsibilities", lambda *a: softmax(a[1], axis=1)),
    F(MISSING, "it is not normalised", lambda *a: np.exp(network.log_joint(*a))),
    F(MISSING, "the exponential: this is its logarithm",
      lambda *a: log_softmax(network.log_joint(*a), axis=1)),
    *(F(kind, name, lambda *a, t=t: softmax(t(*a), axis=1), hint)
      for kind, name, t, hint in WRONG_T if name not in CANCELS),
]

LOGITS: Final = "row_loss_backward.d_pi_logits"
TERMS[LOGITS] = (
    ("the term with pi", "the term with the responsibilities"),
    lambda x, a, m, s, r: (softmax(a, axis=1) / N, -r / N))
ROWS[LOGITS] = [
    F(REDUCTION, "the softmax of the logits is over the rows, not over the components",
      lambda x, a, m, s, r: (softmax(a, axis=0) - r) / N, OWN),
    F(REDUCTION, "the largest logit is a row's, and the sum of the softmax is over the rows",
      lambda x, a, m, s, r: (softmax(a - a.max(1)[:, None], axis=0) - r) / N, OWN),
    F(REDUCTION, "the softmax of the logits is over everything at once",
      lambda x, a, m, s, r: (softmax(a) - r) / N, OWN),
    F(TAKEN, "this is the backward of a softmax, not of its logarithm",
      lambda x, a, m, s, r: softmax(a, 1) / N * ((softmax(a, 1) * r).sum(1)[:, None] - r)),
    F(TAKEN, "log pi for pi", lambda x, a, m, s, r: (log_softmax(a, axis=1) - r) / N),
    F(TAKEN, "the logits for pi", lambda x, a, m, s, r: (a - r) / N),
    F(REDUCTION, "summed over the rows, as for one mixture",
      lambda *a: network.row_loss_backward(*a)[0].sum(axis=0), ROWWISE),
]


def _in_means(of: Callable[..., Any]) -> Callable[..., Any]:
    """Return the gradient in the means where another factor stands before the residual."""
    return lambda x, a, m, s, r: -of(a, s, r)[:, :, None] * (x[:, None] - m) / N


ROWS["row_loss_backward.d_means"] = [
    F(MISSING, "the responsibilities", _in_means(lambda a, s, r: s**-2),
      "Each component is pulled by its share of the row."),
    F(TAKEN, "the weights pi for the responsibilities",
      _in_means(lambda a, s, r: softmax(a, axis=1) / s**2)),
    F(MISSING, "the division by s^2", _in_means(lambda a, s, r: r)),
    F(MISSING, "the square: divided by s", _in_means(lambda a, s, r: r / s)),
    F(TAKEN, "s^2 is multiplied by, not divided by", _in_means(lambda a, s, r: r * s**2)),
    F(TAKEN, "the square of the responsibilities", _in_means(lambda a, s, r: r**2 / s**2)),
    F(MISSING, "the mean is not subtracted",
      lambda x, a, m, s, r: -(r / s**2)[:, :, None] * x[:, None] / N),
    F(REDUCTION, "summed over the rows, as for one mixture",
      lambda *a: network.row_loss_backward(*a)[1].sum(axis=0), ROWWISE),
    F(REDUCTION, "summed over the components: this is minus the gradient in x",
      lambda *a: network.row_loss_backward(*a)[1].sum(axis=1)),
]
DEVIATIONS: Final = "row_loss_backward.d_deviations"
TERMS[DEVIATIONS] = (
    ("the quadratic form's part", "the log-determinant's part"),
    lambda x, a, m, s, r: (-r / N * _square(x, m) / s**3, r / N * D / s))
ROWS[DEVIATIONS] = [
    F(MISSING, "D before 1 / s: there are D dimensions",
      lambda x, a, m, s, r: -r / N * (_square(x, m) / s**3 - 1 / s), "det(s^2 I) is s^(2 D)."),
    F(TAKEN, "s^2 for s^3", lambda x, a, m, s, r: -r / N * (_square(x, m) / s**2 - D / s),
      "The derivative of s^-2 is -2 s^-3."),
    F(MISSING, "the responsibilities",
      lambda x, a, m, s, r: -(_square(x, m) / s**3 - D / s) / N,
      "Each component has its share of the row."),
    F(TAKEN, "the weights pi for the responsibilities", lambda x, a, m, s, r:
      -softmax(a, axis=1) / N * (_square(x, m) / s**3 - D / s)),
    F(TAKEN, "this is the gradient in the variance s^2",
      lambda *a: network.row_loss_backward(*a)[2] / (2 * a[3])),
    F(TAKEN, "this is the gradient in log s", lambda *a: network.row_loss_backward(*a)[2] * a[3],
      "The head has made s of its outputs: here s itself moves."),
    F(REDUCTION, "summed over the rows, as for one mixture",
      lambda *a: network.row_loss_backward(*a)[2].sum(axis=0), ROWWISE),
]

ORDER: Final = "Component by component: the first D of the means are those of component 0."
ROWS["head_forward.pi_logits"] = [
    F(TAKEN, "the weights pi for the logits", lambda o, k: softmax(o[:, :k], axis=1),
      "The loss makes weights of logits: the head hands them on."),
    F(TAKEN, "log pi for the logits", lambda o, k: log_softmax(o[:, :k], axis=1),
      "The loss normalises: the head hands the logits on."),
    F(TAKEN, "the last K outputs for the first", lambda o, k: o[:, -k:]),
]
ROWS["head_forward.means"] = [
    F(TRANSPOSE, "dimension by dimension, not component by component",
      lambda o, k: np.swapaxes(o[:, k:-k].reshape(N, D, k), 1, 2), ORDER),
    F(TAKEN, "the first K D outputs, where the logits are",
      lambda o, k: o[:, :-2 * k].reshape(N, k, D)),
    F(TAKEN, "the last K D outputs, with the deviations'",
      lambda o, k: o[:, 2 * k:].reshape(N, k, D)),
]
ROWS["head_forward.deviations"] = [
    F(MISSING, "the softplus: what goes into it is here", lambda o, k: o[:, -k:], SOFTPLUS),
    F(TAKEN, "exp for softplus", lambda o, k: np.exp(o[:, -k:]), SOFTPLUS),
    F(TAKEN, "a sigmoid for softplus", lambda o, k: expit(o[:, -k:]), SOFTPLUS),
    F(TAKEN, "max(u, 0) for softplus", lambda o, k: np.maximum(o[:, -k:], 0), SOFTPLUS),
    F(TAKEN, "1 + e^u, without the logarithm", lambda o, k: 1 + np.exp(o[:, -k:]), SOFTPLUS),
    F(SIGN, "of the exponent: log(1 + e^-u)", lambda o, k: np.logaddexp(0, -o[:, -k:]), SOFTPLUS),
    F(TAKEN, "the square: a variance", lambda o, k: np.logaddexp(0, o[:, -k:]) ** 2),
    F(TAKEN, "of the logits, not of the last K outputs",
      lambda o, k: np.logaddexp(0, o[:, :k])),
]


def _outputs(
    logits: Callable[..., Any] = lambda o, a, m, s: a,
    means: Callable[..., Any] = lambda o, a, m, s: m.reshape(N, -1),
    raw: Callable[..., Any] = lambda o, a, m, s: s * expit(o[:, -K:]),
    order: tuple[int, ...] = (0, 1, 2),
) -> Callable[..., Any]:
    """Return the head's backward with another block, or the blocks in another order."""

    def wrong(*a: FloatArray) -> Any:
        blocks = [logits(*a), means(*a), raw(*a)]
        return np.concatenate([blocks[i] for i in order], axis=1)

    return wrong


SLOPE: Final = "d s / d u = 1 / (1 + e^-u), the sigmoid, taken at u, which went into the softplus."
ROWS["head_backward.d_outputs"] = [
    F(MISSING, "the slope of the softplus", _outputs(raw=lambda o, a, m, s: s), SLOPE),
    F(TAKEN, "the slope of exp for that of the softplus",
      _outputs(raw=lambda o, a, m, s: s * np.exp(o[:, -K:])), SLOPE),
    F(TAKEN, "the softplus for its slope",
      _outputs(raw=lambda o, a, m, s: s * np.logaddexp(0, o[:, -K:])), SLOPE),
    F(TAKEN, "the slope of a sigmoid: sigmoid (1 - sigmoid)", _outputs(
        raw=lambda o, a, m, s: s * expit(o[:, -K:]) * expit(-o[:, -K:])), SLOPE),
    F(TAKEN, "the slope taken at s, not at u",
      _outputs(raw=lambda o, a, m, s: s * expit(np.logaddexp(0, o[:, -K:]))), SLOPE),
    F(TAKEN, "the slope taken at the first K outputs, the logits",
      _outputs(raw=lambda o, a, m, s: s * expit(o[:, :K])), SLOPE),
    F(SIGN, "of the exponent: 1 / (1 + e^u)",
      _outputs(raw=lambda o, a, m, s: s * expit(-o[:, -K:])), SLOPE),
    F(TAKEN, "divided by the slope", _outputs(raw=lambda o, a, m, s: s / expit(o[:, -K:])), SLOPE),
    F(TAKEN, "the logits go back through a softmax, which the loss has done", _outputs(
        logits=lambda o, a, m, s: a - softmax(o[:, :K], axis=1) * a.sum(axis=1, keepdims=True)),
      "row_loss_backward ends at the logits: they go back as they are."),
    F(TRANSPOSE, "the means dimension by dimension, not component by component",
      _outputs(means=lambda o, a, m, s: np.swapaxes(m, 1, 2).reshape(N, -1)), ORDER),
    *(F(TAKEN, "the blocks in another order", _outputs(order=order),
        "As in the forward: logits, means, deviations.")
      for order in ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))),
]


def _hidden(slope: Callable[..., Any]) -> Callable[..., Any]:
    """Return d_raw with another slope, a function of hidden."""
    return lambda d, u, h, w: (d @ w.T) * slope(h)


TANH: Final = "tanh' = 1 - tanh^2, and hidden is the tanh already."
WRONG_RAW: Final = [  # wrong d_raw, which both blocks of the first layer inherit
    F(MISSING, "the slope of tanh", _hidden(lambda h: np.ones_like(h)), TANH),
    F(MISSING, "the square: 1 - hidden", _hidden(lambda h: 1 - h), TANH),
    F(TAKEN, "hidden for the slope of tanh", _hidden(lambda h: h), TANH),
    F(TAKEN, "tanh is taken of hidden once more", _hidden(lambda h: 1 - np.tanh(h) ** 2), TANH),
    F(TAKEN, "the slope of a sigmoid: hidden (1 - hidden)", _hidden(lambda h: h * (1 - h)), TANH),
    F(SIGN, "1 + hidden^2", _hidden(lambda h: 1 + h**2), TANH),
    F(TAKEN, "the slope of a relu", _hidden(lambda h: np.where(h > 0, 1.0, 0.0)), TANH),
    F(TAKEN, "divided by the slope of tanh", _hidden(lambda h: 1 / (1 - h**2)), TANH),
]
ROWS["network_backward.d_w1"] = [
    *(form.then(lambda d_raw, d, u, *_: u.T @ d_raw) for form in WRONG_RAW),
    F(REDUCTION, "the rows' inputs are summed before the product",
      lambda d, u, h, w: np.outer(u.sum(axis=0), ((d @ w.T) * (1 - h**2)).sum(axis=0)),
      "Each row's gradient is an outer product of its own; these are summed."),
]
ROWS["network_backward.d_b1"] = [
    *(form.then(lambda d_raw, *_: d_raw.sum(axis=0)) for form in WRONG_RAW),
    F(REDUCTION, "not summed over the rows", _hidden(lambda h: 1 - h**2)),
    F(REDUCTION, "summed over the hidden units, not over the rows",
      lambda d, u, h, w: ((d @ w.T) * (1 - h**2)).sum(axis=1)),
]
ROWS["network_backward.d_w2"] = [
    F(TAKEN, "the slope of tanh for hidden", lambda d, u, h, w: (1 - h**2).T @ d,
      "outputs = hidden w2 + b2: w2 is multiplied by hidden itself."),
    F(TAKEN, "arctanh(hidden), which went into tanh, for hidden",
      lambda d, u, h, w: np.arctanh(h).T @ d),
    F(TAKEN, "tanh is taken of hidden once more", lambda d, u, h, w: np.tanh(h).T @ d),
    F(REDUCTION, "the rows' hidden units are summed before the product",
      lambda d, u, h, w: np.outer(h.sum(axis=0), d.sum(axis=0)),
      "Each row's gradient is an outer product of its own; these are summed."),
]
ROWS["network_backward.d_b2"] = [
    F(REDUCTION, "not summed over the rows", lambda d, u, h, w: d),
    F(REDUCTION, "summed over the outputs, not over the rows", lambda d, u, h, w: d.sum(axis=1)),
]


def _trained(
    place: int,
    steps: Callable[[int], int] = lambda n: n,
    rate: Callable[[float, int], float] = lambda r, n_rows: r,
    anew: bool = True,
    moving: tuple[int, ...] = (0, 1, 2, 3),
    second_first: bool = False,
) -> Callable[..., Any]:
    """Return a block of what wrong training comes to.

    `anew`: whether the gradient is taken at each step; `second_first`: whether the second layer
    has moved before the gradient goes back through it.
    """

    def wrong(inputs: FloatArray, targets: FloatArray, *a: Any) -> Any:
        blocks, (n_components, r, n_steps) = list(a[:4]), a[4:]
        first = network.gradient(inputs, targets, tuple(blocks), n_components)
        for _ in range(steps(n_steps)):
            at = tuple(blocks)
            d = network.gradient(inputs, targets, at, n_components) if anew else first
            if second_first:
                hidden = np.tanh(inputs @ at[0] + at[1])
                outputs = hidden @ at[2] + at[3]
                mixtures = network.head_forward(outputs, n_components)
                resp = network.row_loss_forward(targets, *mixtures)[1]
                back = network.row_loss_backward(targets, *mixtures, resp)
                moved = at[2] - r * d[2]
                d_outputs = network.head_backward(outputs, *back)
                d = (*network.network_backward(d_outputs, inputs, hidden, moved)[:2], *d[2:])
            for i in moving:
                blocks[i] = blocks[i] - rate(r, len(inputs)) * d[i]
        return blocks[place]

    return wrong


AGAIN: Final = "The weights have moved: forward and backward once more, in every step."
for at, output in enumerate(THIRD_PARTS["train"].output_names):
    ROWS[f"train.{output}"] = [
        F(MISSING, "it does not move", _trained(at, moving=()), "All four blocks move."),
        F(SIGN, "uphill: the gradient is added", _trained(at, rate=lambda r, n: -r),
          "The loss has to fall: w - rate d_w."),
        F(MISSING, "one step", _trained(at, steps=lambda n: n - 1), "range(n_steps)."),
        F(TAKEN, "one step too many", _trained(at, steps=lambda n: n + 1), "range(n_steps)."),
        F(TAKEN, "one step for all of them", _trained(at, steps=lambda n: 1), "range(n_steps)."),
        F(TAKEN, "the gradient of the beginning in every step", _trained(at, anew=False), AGAIN),
        F(REDUCTION, "the gradient is of the sum over the rows, not of the mean",
          _trained(at, rate=lambda r, n: r * n)),
        F(REDUCTION, "the gradient is divided by N twice", _trained(at, rate=lambda r, n: r / n)),
        F(TWO, "the rate is doubled", _trained(at, rate=lambda r, n: 2 * r)),
        F(MISSING, "the biases do not move", _trained(at, moving=(0, 2)), "All four blocks move."),
        F(MISSING, "the first layer does not move", _trained(at, moving=(2, 3)),
          "All four blocks move."),
        F(MISSING, "the second layer does not move", _trained(at, moving=(0, 1)),
          "All four blocks move."),
        F(TAKEN, "w2 has moved before the gradient goes back through it",
          _trained(at, second_first=True), "Take the whole gradient first, then move."),
    ]
