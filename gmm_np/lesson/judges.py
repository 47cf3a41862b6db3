"""Two judges of every intermediate of the reference, by other formulas and other derivatives.

The loss is written once more, by plain formulas (no shift, one dense solve a component), so that
it runs on NumPy's arrays and on PyTorch's tensors. Each quantity passes through a tap. With NumPy
the tap moves one entry of one quantity by an imaginary step: the imaginary part of the loss,
divided by the step, is the derivative. It is a difference without a subtraction, so that the
step may be 1e-200, and nothing is lost to rounding or to curvature. With PyTorch the tap keeps the
tensor, and autograd gives its gradient.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from gmm_np import reference
from gmm_np.checks import FloatArray

__all__ = ["Start", "Verdict", "all_judges", "by_complex_steps", "by_pytorch"]

_STEP: Final = 1e-200
Tap = Callable[[str, Any], Any]


class Start(NamedTuple):
    """Where the loss and its gradients are taken; all in float64."""

    x: FloatArray  # [N, D]
    pi_logits: FloatArray  # [K]
    means: FloatArray  # [K, D]
    scale_tril: FloatArray  # [K, D, D]
    sample_weight: FloatArray  # [N]


class Verdict(NamedTuple):
    """Values of all quantities, and the gradients of the loss with respect to them."""

    values: dict[str, FloatArray]
    gradients: dict[str, FloatArray]


def all_judges(start: Start) -> dict[str, Verdict]:
    """Ask both judges, or the first alone where PyTorch is not installed."""
    verdicts = {"complex step": by_complex_steps(start)}
    if importlib.util.find_spec("torch") is not None:
        verdicts["PyTorch"] = by_pytorch(start)
    return verdicts


def _judged(
    values: dict[str, FloatArray], gradients: dict[str, FloatArray], start: Start
) -> Verdict:
    """Complete the values by what the reference makes on its way, forward and backward."""
    values = _with_details(values, start)
    for k in range(len(start.means)):
        left, right = gradients[f"residual {k}"], values[f"whitened {k}"]
        n_dims = left.shape[1]
        rows = max(reference.ROWS, n_dims)
        blocks = [slice(i, i + rows) for i in range(0, len(left) - rows + 1, rows)]
        products = [left[block].T @ right[block] for block in blocks]
        values[f"products {k}"] = np.reshape(products, (len(blocks), n_dims, n_dims))
        values[f"sum of products {k}"] = np.sum(products, axis=0) + np.zeros((n_dims, n_dims))
        values[f"sum of products {k}"] = values[f"sum of products {k}"].ravel()
        whole = len(blocks) * rows
        values[f"rest {k}"] = left[whole:].T @ right[whole:]
    return Verdict(values, gradients)


def by_complex_steps(start: Start) -> Verdict:
    """Values by NumPy, gradients by complex steps: no differentiation, and no PyTorch."""
    inputs = [np.asarray(array, dtype=np.complex128) for array in start]
    values: dict[str, FloatArray] = {}

    def keep(name: str, value: Any) -> Any:
        values[name] = np.array(value).real.copy()
        return value

    _loss(inputs, np, keep)
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

            gradient[place] = np.imag(_loss(inputs, np, move)) / _STEP
        gradients[moved] = gradient
    return _judged(values, gradients, start)


def by_pytorch(start: Start) -> Verdict:
    """Values and gradients by PyTorch's automatic differentiation."""
    torch: Any = importlib.import_module("torch")
    tensors: dict[str, Any] = {}

    def keep(name: str, value: Any) -> Any:
        tensors[name] = value * 1.0  # a node of its own, so that it has a gradient of its own
        return tensors[name]

    inputs = [torch.tensor(np.array(array), requires_grad=True) for array in start]
    loss = _loss(inputs, torch, keep)
    found = torch.autograd.grad(loss, list(tensors.values()))
    values = {name: np.asarray(t.detach().numpy()) for name, t in tensors.items()}
    gradients = {n: np.asarray(g.numpy()) for n, g in zip(tensors, found, strict=True)}
    return _judged(values, gradients, start)


def _loss(inputs: list[Any], xp: Any, tap: Tap) -> Any:
    """Equation (3) by plain formulas, from (1) and (2); `xp` is NumPy or PyTorch."""
    names = ("x", "pi_logits", "means", "scale_tril", "weight")
    x, logits, means, factors, weight = map(tap, names, inputs)
    log_pi = tap("log_pi", logits - xp.log(xp.exp(logits).sum()))  # [K]
    columns = []
    for k in range(len(means)):
        factor = tap(f"factor {k}", factors[k])  # [D, D]; two uses
        in_form = xp.tril(tap(f"factor of the form {k}", factor))
        in_determinant = tap(f"factor of the determinant {k}", factor)
        residual = tap(f"residual {k}", x - tap(f"mean {k}", means[k]))  # [N, D]
        whitened = tap(f"whitened {k}", xp.linalg.solve(in_form, residual.T).T)  # [N, D]
        quadratic = tap(f"quadratic {k}", (whitened * whitened).sum(1))  # [N]
        half_log_det = tap(f"half_log_det {k}", xp.log(xp.diagonal(in_determinant)).sum())
        constant = 0.5 * x.shape[1] * math.log(2 * math.pi)
        log_density = -0.5 * quadratic - half_log_det - constant
        columns.append(log_pi[k] + tap(f"log_density {k}", log_density))
    log_joint = tap("log_joint", xp.stack(columns, 1))  # [N, K]
    log_likelihood = tap("log_likelihood", xp.log(xp.exp(log_joint).sum(1)))  # [N]
    loss = tap("loss", -weight * log_likelihood)  # [N]
    return tap("value", loss.sum() / weight.sum())


def _with_details(values: dict[str, FloatArray], start: Start) -> dict[str, FloatArray]:
    """Add what the reference makes on its way and the plain formulas do not need."""
    logits, weight = values["pi_logits"], np.asarray(start.sample_weight)
    unit = 2.0 ** (math.floor(math.log2(weight.max())) + 1 + len(weight).bit_length())
    details = {
        "shifted": logits - logits.max(),
        # The reference takes weights in units of a power of two, in which their sum is below 1.
        "weight in units": weight / unit,
        "loss in units": values["loss"] / unit,
        "total in units": np.asarray(weight.sum() / unit),
        "coefficient": weight / weight.sum(),
    }
    for name, terms in (("weights", details["shifted"]), ("mixture", values["log_joint"])):
        largest = terms.max(axis=-1, keepdims=True)
        exponentials = np.exp(terms) / np.exp(largest)
        is_largest = np.arange(terms.shape[-1]) == terms.argmax(axis=-1)[..., None]
        total = exponentials.sum(axis=-1, keepdims=True)
        details[f"{name} largest"] = largest
        details[f"{name} exponentials"] = exponentials
        details[f"{name} others"] = np.where(is_largest, 0.0, exponentials)
        details[f"{name} total"] = total
        details[f"{name} softmax"] = np.exp(terms) / np.exp(terms).sum(axis=-1, keepdims=True)
        details[f"{name} logsumexp"] = np.log(np.exp(terms).sum(axis=-1))
    for k, factor in enumerate(values["scale_tril"]):
        details[f"diagonal {k}"] = np.diagonal(factor)
        details[f"half_quadratic {k}"] = values[f"quadratic {k}"] / 2
        details[f"pull {k}"] = values[f"residual {k}"] @ np.linalg.inv(factor @ factor.T)
    return {**values, **details}
