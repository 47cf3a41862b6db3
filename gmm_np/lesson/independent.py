"""Every intermediate of the reference by other formulas, and its gradient by other derivatives.

The loss is written once more, by plain formulas (one dense solve a component), so that it runs on
NumPy's arrays and on PyTorch's tensors. Each quantity passes through a hook. With NumPy the hook
moves one entry of one quantity by an imaginary step: the imaginary part of the loss, divided by the
step, is the derivative. It is a difference without a subtraction, so that the step may be 1e-200,
and nothing is lost to rounding or to curvature. With PyTorch the hook keeps the tensor, and
autograd gives its gradient.

How fast all that moves along a direction, chapter two, comes from the same: with NumPy all
arguments take the imaginary step, in the plain formulas and in closed forms of the gradients, and
with PyTorch autograd differentiates its gradients once more.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np.checks import FloatArray

__all__ = [
    "Answers",
    "Start",
    "by_complex_steps",
    "by_pytorch",
    "has_pytorch",
    "rates_by_complex_steps",
    "rates_by_pytorch",
]

_STEP: Final = 1e-200
Hook = Callable[[str, Any], Any]


class Start(NamedTuple):
    """Where the loss and its gradients are taken; all in float64."""

    x: FloatArray  # [N, D]
    pi_logits: FloatArray  # [K]
    means: FloatArray  # [K, D]
    scale_tril: FloatArray  # [K, D, D]
    sample_weight: FloatArray  # [N]


class Answers(NamedTuple):
    """Values of all quantities, and the gradients of the loss in them; by name, and component."""

    values: dict[str, FloatArray]
    gradients: dict[str, FloatArray]


def has_pytorch() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def by_complex_steps(start: Start) -> Answers:
    """Values by NumPy, gradients by complex steps: no differentiation, and no PyTorch."""
    inputs = [np.asarray(array, dtype=np.complex128) for array in start]
    values: dict[str, FloatArray] = {}

    def keep(name: str, value: Any) -> Any:
        values[name] = np.array(value).real.copy()
        return value

    _loss(inputs, np, lambda terms: terms.real.max(-1), keep)
    gradients = {}
    for moved, held in values.items():
        gradient = np.zeros(held.shape)
        for place in np.ndindex(held.shape):

            def move(name: str, value: Any, moved: str = moved, place: Any = place) -> Any:
                if name != moved:
                    return value
                changed = np.array(value, dtype=np.complex128)
                changed[place] += 1j * _STEP
                return changed

            loss = _loss(inputs, np, lambda terms: terms.real.max(-1), move)
            gradient[place] = np.imag(loss) / _STEP
        gradients[moved] = gradient
    return Answers(_with_constants(values, start, np), gradients)


def by_pytorch(start: Start) -> Answers:
    """Values and gradients by PyTorch's automatic differentiation."""
    torch: Any = importlib.import_module("torch")
    tensors: dict[str, Any] = {}

    def keep(name: str, value: Any) -> Any:
        tensors[name] = value * 1.0  # a node of its own, so that it has a gradient of its own
        return tensors[name]

    inputs = [torch.tensor(np.array(array), requires_grad=True) for array in start]
    loss = _loss(inputs, torch, lambda terms: terms.detach().amax(-1), keep)
    found = torch.autograd.grad(loss, list(tensors.values()))
    values = {name: np.asarray(t.detach().numpy()) for name, t in tensors.items()}
    gradients = {n: np.asarray(g.numpy()) for n, g in zip(tensors, found, strict=True)}
    return Answers(_with_constants(values, start, np), gradients)


def rates_by_complex_steps(start: Start, direction: Start) -> Answers:
    """Rates of values and gradients along a direction, by one complex step of all arguments."""
    moved = Start(*(a + 1j * _STEP * v for a, v in zip(start, direction, strict=True)))
    values: dict[str, Any] = {}

    def keep(name: str, value: Any) -> Any:
        values[name] = np.array(value)
        return value

    _loss([*moved], np, lambda terms: terms.real.max(-1), keep)
    values = _with_constants(values, moved, np)
    gradients = _closed_forms(values, moved)
    return Answers(*({n: np.imag(v) / _STEP for n, v in d.items()} for d in (values, gradients)))


def rates_by_pytorch(start: Start, direction: Start) -> Answers:
    """Rates of values and gradients along a direction, by differentiating autograd's gradients."""
    torch: Any = importlib.import_module("torch")
    names: list[tuple[str, ...]] = []

    def values_and_gradients(*inputs: Any) -> tuple[Any, ...]:
        tensors: dict[str, Any] = {}

        def keep(name: str, value: Any) -> Any:
            tensors[name] = value * 1.0
            return tensors[name]

        loss = _loss([*inputs], torch, lambda terms: terms.detach().amax(-1), keep)
        gradients = torch.autograd.grad(loss, list(tensors.values()), create_graph=True)
        values = _with_constants(tensors, Start(*inputs), torch)
        names[:] = [tuple(values), tuple(tensors)]
        return (*values.values(), *gradients)

    inputs, moves = (
        tuple(torch.tensor(np.array(array, dtype=np.float64)) for array in arrays)
        for arrays in (start, direction)
    )
    _, found = torch.autograd.functional.jvp(values_and_gradients, inputs, moves)
    rates = iter(np.asarray(rate.numpy()) for rate in found)
    return Answers(*({name: next(rates) for name in of} for of in names))


def _loss(inputs: list[Any], xp: Any, largest: Callable[[Any], Any], hook: Hook) -> Any:
    """Equation (3) by plain formulas, from (1) and (2); `xp` is NumPy or PyTorch."""
    names = ("x", "pi_logits", "means", "scale_tril", "weight")
    x, logits, means, factors, weight = map(hook, names, inputs)
    log_pi = hook("log_pi", logits - xp.log(xp.exp(logits).sum()))  # [K]
    columns = []
    for k in range(len(means)):
        factor = hook(f"factor {k}", factors[k])  # [D, D]; two uses
        in_form = xp.tril(hook(f"factor of the quadratic form {k}", factor))
        in_determinant = hook(f"factor of the determinant {k}", factor)
        residual = hook(f"residual {k}", x - hook(f"mean {k}", means[k]))  # [N, D]
        z = hook(f"z {k}", xp.linalg.solve(in_form, residual.T).T)  # [N, D]
        quadratic = hook(f"quadratic {k}", (z * z).sum(1))  # [N]
        half_log_det = hook(f"half_log_det {k}", xp.log(xp.diagonal(in_determinant)).sum())
        constant = 0.5 * x.shape[1] * math.log(2 * math.pi)
        log_density = -0.5 * quadratic - half_log_det - constant
        columns.append(log_pi[k] + hook(f"log_density {k}", log_density))
    log_joint = hook("log_joint", xp.stack(columns, 1))  # [N, K]
    shift = largest(log_joint)  # [N]; a constant, which keeps exp from underflow
    terms = xp.exp(log_joint - shift[:, None])
    log_likelihood = hook("log_likelihood", shift + xp.log(terms.sum(1)))  # [N]
    return hook("value", -(weight * log_likelihood).sum() / weight.sum())


def _with_constants(values: dict[str, Any], start: Start, xp: Any) -> dict[str, Any]:
    """Add what only the backward needs, or the plain formulas do without."""
    weight = start.sample_weight
    more = {
        "pi": xp.exp(values["log_pi"]),
        "resp": xp.exp(values["log_joint"] - values["log_likelihood"][:, None]),
        "coefficient": weight / weight.sum(),
    }
    for k, factor in enumerate(start.scale_tril):
        more[f"y {k}"] = values[f"residual {k}"] @ xp.linalg.inv(factor @ factor.T)
    return {**values, **more}


def _closed_forms(values: dict[str, Any], start: Start) -> dict[str, Any]:
    """Gradients of the mean loss, each from values alone; for complex numbers, too."""
    share = values["coefficient"][:, None] * values["resp"]  # [N, K]
    n_k = share.sum(0)  # [K]; the weights' part of each component
    found = {
        "value": np.ones(()),
        "log_likelihood": -values["coefficient"],
        "log_joint": -share,
        "log_pi": -n_k,
        "pi_logits": values["pi"] - n_k,
        "means": [],
        "scale_tril": [],
        "x": 0.0,
    }
    for k, factor in enumerate(start.scale_tril):
        y = values[f"y {k}"]  # [N, D]
        of_residual = share[:, [k]] * y
        in_form = -np.tril(of_residual.T @ y @ factor)  # Sigma^-1 S Sigma^-1 L
        in_determinant = np.diag(n_k[k] / np.diagonal(factor))
        found |= {
            f"quadratic {k}": 0.5 * share[:, k],
            f"half_log_det {k}": n_k[k],
            f"residual {k}": of_residual,
            f"mean {k}": -of_residual.sum(0),
            f"factor of the quadratic form {k}": in_form,
            f"factor of the determinant {k}": in_determinant,
            f"factor {k}": in_form + in_determinant,
        }
        found["means"].append(found[f"mean {k}"])
        found["scale_tril"].append(found[f"factor {k}"])
        found["x"] = found["x"] + of_residual
    return {name: np.array(gradient) for name, gradient in found.items()}
