"""The exercises: functions to write, what they are asked, and where the reference does the same.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np import reference
from gmm_np.checks import FloatArray

__all__ = ["EXERCISES", "PARTS", "Exercise", "Part"]

Outputs = tuple[Any, ...]


class Part(NamedTuple):
    """One function to write.

    Attributes
    ----------
    name : str
    arguments : tuple of str
        Each with its shape, as in ``x [N, D]``.
    outputs : tuple of str
        Each with its shape. A function of one output returns it, of several a tuple.
    equations : str
        In words and symbols, one a line.
    hint : str
    solution : callable
        The reference, called with the arguments; gives a tuple of the outputs.
    lines : tuple of str
        The functions of the reference that do it, or of another module, as in ``module:function``.
    draw : callable
        From a generator to arguments.
    extreme : callable, optional
        Arguments at which plain formulas leave the range of a double.
    task : str
        Of a gradient: what it is the gradient of, in place of equations that give it away.
    extreme_hint : str
        What keeps the extreme arguments in range.
    """

    name: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    equations: str
    hint: str
    solution: Callable[..., Outputs]
    lines: tuple[str, ...]
    draw: Callable[[np.random.Generator], Outputs]
    extreme: Callable[[], Outputs] | None = None
    task: str = ""
    extreme_hint: str = (
        "An exponential overflows, or all of them vanish: take the largest of each row out first, "
        "as in (10)."
    )

    def cases(self) -> list[Outputs]:
        """Return the arguments that a function is called with; the extreme ones are the last."""
        drawn = [self.draw(np.random.default_rng(seed)) for seed in (1, 2, 3)]
        return drawn if self.extreme is None else [*drawn, self.extreme()]

    @property
    def argument_names(self) -> list[str]:
        """Names of the arguments, without their shapes."""
        return [text.split(" ")[0] for text in self.arguments]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, without their shapes."""
        return [text.split(" ")[0] for text in self.outputs]


class Exercise(NamedTuple):
    """A primitive, or the whole."""

    title: str
    numbers: str
    parts: tuple[Part, ...]


# --- what functions are asked -------------------------------------------------------------------

N, K, D = 5, 4, 3  # all different, so that no wrong axis has the right length


def _factor(rng: np.random.Generator) -> FloatArray:
    lower = np.tril(0.6 * rng.normal(size=(D, D)), -1)
    return np.asarray(lower + np.diag(rng.uniform(0.5, 2.0, size=D)))


def draw_mixture(rng: np.random.Generator) -> Outputs:
    """Draw x, logits, means and factors."""
    factors = np.stack([_factor(rng) for _ in range(K)])
    return 1.5 * rng.normal(size=(N, D)), rng.normal(size=K), rng.normal(size=(K, D)), factors


def _component(rng: np.random.Generator) -> Outputs:
    x, _, means, factors = draw_mixture(rng)
    return x, means[0], factors[0]


def _form_and_bar(rng: np.random.Generator) -> Outputs:
    component = _component(rng)
    _, z = reference.quadratic_form_forward(*component)
    return rng.normal(size=N), *component, z


def _softmax(rng: np.random.Generator, *shape: int) -> FloatArray:
    return reference.logsumexp_forward(rng.normal(size=shape))[1]


def _deviations(rng: np.random.Generator) -> Outputs:
    x, mean, factor = _component(rng)
    return x, mean, np.diagonal(factor).copy()


def _statistics(rng: np.random.Generator) -> Outputs:
    residual = rng.normal(size=(N, D))
    share = rng.uniform(0.1, 1.0, size=N)
    return _factor(rng), float(share.sum()), (share[:, None] * residual).T @ residual


# --- what the reference answers -----------------------------------------------------------------


def _whole(*arguments: FloatArray) -> Outputs:
    value, cache = reference.nll_forward(*arguments)
    return (value, *reference.nll_backward(cache))


def _diagonal(x: FloatArray, mean: FloatArray, deviation: FloatArray) -> Outputs:
    return (reference.log_density_forward(x, mean, np.diag(deviation))[0],)


def _diagonal_back(
    d_log_density: FloatArray, x: FloatArray, mean: FloatArray, deviation: FloatArray
) -> Outputs:
    component = (x, mean, np.diag(deviation))
    _, z = reference.log_density_forward(*component)
    _, d_mean, d_factor = reference.log_density_backward(d_log_density, *component, z)
    return d_mean, np.diagonal(d_factor).copy()


def _factor_gradient(factor: FloatArray, n: float, S: FloatArray) -> Outputs:
    """Answer by a sample for each column of S's factor, and one at the mean for the rest of n."""
    size = len(factor)
    x = np.vstack([np.linalg.cholesky(S).T, np.zeros(size)])
    share = np.append(np.ones(size), n - size)
    component = (x, np.zeros(size), factor)
    _, z = reference.log_density_forward(*component)
    return (reference.log_density_backward(-share, *component, z)[2],)


# --- the exercises ------------------------------------------------------------------------------

_LOSS: Final = (
    "t_nk = log_pi_k - q_nk / 2 - h_k - (D/2) log(2 pi),  l_n = logsumexp_k t_nk\n"
    "value = -(1/N) sum_n l_n"
)
_LOG_DENSITY: Final = "-1/2 sum_i ((x_ni - mean_i) / s_i)^2 - sum_i log s_i - (D/2) log(2 pi)"
_MOMENTS: Final = "S = sum_n r_n e_n e_n^T,  n = sum_n r_n"

EXERCISES: Final[tuple[Exercise, ...]] = (
    Exercise(
        "logsumexp",
        "(10), (14), (15)",
        (
            Part(
                "logsumexp_forward",
                ("terms [N, K]",),
                ("value [N]", "softmax [N, K]"),
                "value_n = log sum_k exp(terms_nk)\n"
                "softmax_nk = exp(terms_nk) / sum_j exp(terms_nj)",
                "exp(1000) is too large for a double: take the largest term of each row out first.",
                lambda terms: tuple(reference.logsumexp_forward(terms)),
                ("logsumexp_forward",),
                lambda rng: (2 * rng.normal(size=(N, K)),),
                lambda: (np.array([[-1000.0, -1001.0], [1000.0, 999.0]]),),
            ),
            Part(
                "logsumexp_backward",
                ("d_value [N]", "softmax [N, K]"),
                ("d_terms [N, K]",),
                "d_terms_nk = d_value_n softmax_nk",
                "Each term gets its share of what comes in. Which axis does d_value lack?",
                lambda d, s: (reference.logsumexp_backward(d, s),),
                ("logsumexp_backward",),
                lambda rng: (rng.normal(size=N), _softmax(rng, N, K)),
                task="The gradient of value_n = log sum_k exp(terms_nk): (15).",
            ),
        ),
    ),
    Exercise(
        "log_softmax",
        "(4), (16)",
        (
            Part(
                "log_softmax_forward",
                ("pi_logits [K]",),
                ("log_pi [K]", "pi [K]"),
                "log_pi_k = a_k - log sum_j exp(a_j)\npi_k = exp(log_pi_k)",
                "logsumexp_forward(pi_logits[None]) has the second term and pi, as rows.",
                lambda a: tuple(reference.log_softmax_forward(a)),
                ("log_softmax_forward",),
                lambda rng: (rng.normal(size=K),),
                lambda: (np.array([1000.0, 999.0, -1000.0]),),
            ),
            Part(
                "log_softmax_backward",
                ("d_log_pi [K]", "pi [K]"),
                ("d_pi_logits [K]",),
                "d_a_k = d_log_pi_k - pi_k sum_j d_log_pi_j",
                "a_k is used twice: by its own log_pi_k, and by the logsumexp in all of them.",
                lambda d, pi: (reference.log_softmax_backward(d, pi),),
                ("log_softmax_backward",),
                lambda rng: (rng.normal(size=K), _softmax(rng, K)),
                task="The gradient of log_pi_k = a_k - log sum_j exp(a_j): (16).",
            ),
        ),
    ),
    Exercise(
        "quadratic form",
        "(6), (7), (18), (19), (20)",
        (
            Part(
                "quadratic_form_forward",
                ("x [N, D]", "mean [D]", "factor [D, D]"),
                ("quadratic [N]", "z [N, D]"),
                "e_n = x_n - mean,  L z_n = e_n,  quadratic_n = |z_n|^2",
                "scipy.linalg.solve_triangular(factor, ..., lower=True) wants samples as columns.",
                reference.quadratic_form_forward,
                ("quadratic_form_forward",),
                _component,
            ),
            Part(
                "quadratic_form_backward",
                (
                    "d_quadratic [N]",
                    "x [N, D]",
                    "mean [D]",
                    "factor [D, D]",
                    "z [N, D]",
                ),
                ("d_x [N, D]", "d_mean [D]", "d_factor [D, D]"),
                "y_n = Sigma^-1 e_n = L^-T z_n,  d_e_n = 2 d_quadratic_n y_n\n"
                "d_x_n = d_e_n,  d_mean = -sum_n d_e_n,  d_factor = -tril(sum_n d_e_n z_n^T)",
                "scipy.linalg.solve_triangular(..., lower=True, trans='T') solves with L^T.",
                reference.quadratic_form_backward,
                ("quadratic_form_backward",),
                _form_and_bar,
                task="The gradient of quadratic_n = |z_n|^2, L z_n = x_n - mean: (18), (19), (20).",
            ),
        ),
    ),
    Exercise(
        "log-determinant",
        "(8), (21)",
        (
            Part(
                "half_log_det_forward",
                ("factor [D, D]",),
                ("half_log_det scalar", "diagonal [D]"),
                "half_log_det = 1/2 log det(L L^T) = sum_i log L_ii",
                "The determinant of a triangular matrix is the product of its diagonal.",
                lambda factor: tuple(reference.half_log_det_forward(factor)),
                ("half_log_det_forward",),
                lambda rng: (_factor(rng),),
            ),
            Part(
                "half_log_det_backward",
                ("d_half_log_det scalar", "diagonal [D]"),
                ("d_factor [D, D]",),
                "d_L_ii = d_half_log_det / L_ii, and zero elsewhere",
                "Entries off the diagonal do not enter the value.",
                lambda d, diagonal: (reference.half_log_det_backward(d, diagonal),),
                ("half_log_det_backward",),
                lambda rng: (float(rng.normal()), rng.uniform(0.5, 2.0, size=D)),
                task="The gradient of half_log_det = sum_i log L_ii: (21).",
            ),
        ),
    ),
    Exercise(
        "the whole",
        "(9), (11), (13), (17)",
        (
            Part(
                "nll",
                ("x [N, D]", "pi_logits [K]", "means [K, D]", "scale_tril [K, D, D]"),
                (
                    "value scalar",
                    "d_pi_logits [K]",
                    "d_means [K, D]",
                    "d_scale_tril [K, D, D]",
                    "d_x [N, D]",
                ),
                f"{_LOSS},  d_l_n = -1/N,  d_q_nk = -d_t_nk / 2,\n"
                "d_h_k = -sum_n d_t_nk,  d_log_pi_k = sum_n d_t_nk",
                "Call your functions above in this order, and their backwards in the reverse.",
                _whole,
                ("forward", "backward"),
                draw_mixture,
                lambda: (
                    np.array([[100.0, 0.0], [0.0, -200.0]]),
                    np.array([0.0, 0.5]),
                    np.array([[0.0, 0.0], [1.0, 1.0]]),
                    np.stack([np.eye(2), np.array([[1.0, 0.0], [0.5, 2.0]])]),
                ),
                f"{_LOSS},  and its gradients: (13), (17).",
            ),
        ),
    ),
    Exercise(
        "a diagonal family",
        "(9), (17) to (21) with L = diag(s)",
        (
            Part(
                "diagonal_log_density_forward",
                ("x [N, D]", "mean [D]", "deviation [D]"),
                ("log_density [N]",),
                f"log N(x_n; mean, diag(s)^2)\n= {_LOG_DENSITY}",
                "The factor is diag(s): a solve with it is a division, s is a standard deviation.",
                _diagonal,
                ("log_density_forward",),
                _deviations,
            ),
            Part(
                "diagonal_log_density_backward",
                ("d_log_density [N]", "x [N, D]", "mean [D]", "deviation [D]"),
                ("d_mean [D]", "d_deviation [D]"),
                "With e = x_n - mean, d log_density / d mean_i = e_i / s_i^2, and\n"
                "d log_density / d s_i = e_i^2 / s_i^3 - 1 / s_i",
                "Weigh each sample's derivative with d_log_density_n and add up.",
                _diagonal_back,
                ("log_density_backward",),
                lambda rng: (rng.normal(size=N), *_deviations(rng)),
                task=f"The gradient of log N(x_n; mean, diag(s)^2), equations (17) to (21),\n"
                f"= {_LOG_DENSITY}",
            ),
        ),
    ),
    Exercise(
        "the gradient of a factor from S",
        "(23) with W = 1",
        (
            Part(
                "factor_gradient",
                ("factor [D, D]", "n scalar", "S [D, D]"),
                ("d_factor [D, D]",),
                f"{_MOMENTS}\nd_factor = n diag(1 / L_ii) - tril(Sigma^-1 S Sigma^-1 L)",
                "scipy.linalg.cho_solve((factor, True), B) solves with Sigma for each column of B.",
                _factor_gradient,
                ("quadratic_form_backward", "half_log_det_backward"),
                _statistics,
                task=f"{_MOMENTS}\n"
                "The gradient in L of n sum_i log L_ii + 1/2 trace(Sigma^-1 S): (23).",
            ),
        ),
    ),
)
PARTS: Final = {part.name: part for exercise in EXERCISES for part in exercise.parts}
