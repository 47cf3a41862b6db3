"""Python functions as adapters, called in this process.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from gmm_np.conformance.cases import Case
from gmm_np.conformance.compare import Answered, Outcome, Rejected, Unsupported

__all__ = ["Adapter", "FunctionAdapter", "ToolError", "call"]


class ToolError(Exception):
    """An adapter that crashed, wrote what is no answer, or took too long.

    Attributes
    ----------
    kind : {"crash", "garbage", "timeout", "usage"}
        "usage" if it could not be found or started.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Adapter(Protocol):
    """What the runner asks of an implementation."""

    name: str

    def evaluate(self, case: Case) -> Outcome:
        """Answer a case. Raise `ToolError` where the implementation broke down."""

    def close(self) -> None:
        """End what was started."""


class FunctionAdapter:
    """A Python function, called in this process: nothing ends it if it hangs.

    Parameters
    ----------
    function : callable
        ``function(x, logits, means, chol)`` returns ``(nll, d_logits, d_means, d_chol)``, or the
        value alone; None stands for what it does not give. It is passed ``sample_weight`` and
        ``reduction`` where it declares them and a case needs them. A function with a parameter
        ``icf`` is one of the precision parametrization: ``function(x, alpha, means, icf, gamma,
        m)`` returns ``(log_posterior, d_alpha, d_means, d_icf)``.
    """

    def __init__(self, function: Callable[..., Any], name: str | None = None) -> None:
        self.function = function
        self.name = name or str(getattr(function, "__qualname__", type(function).__name__))

    def evaluate(self, case: Case) -> Outcome:
        """Call the function with the inputs of a case."""
        inputs = {name: value for name, value in case.arrays.items() if name != "weights"}
        weight = case.arrays.get("weights")
        return call(self.function, case.parametrization, inputs, weight, case.reduction)

    def close(self) -> None:
        """Nothing was started."""


def call(
    function: Callable[..., Any],
    parametrization: str,
    inputs: dict[str, Any],
    weight: Any,
    reduction: str,
) -> Outcome:
    """Call a function with the inputs of a case, if it declares what the case needs.

    An exception is a rejection; NotImplementedError says that the case is not supported.

    Raises
    ------
    ToolError
        If what it returns is no answer, or it lacks a module or memory.
    """
    declared = parameters_of(function)
    if (parametrization == "precision") != ("icf" in declared):
        return Unsupported(f"no {parametrization} parametrization")
    options: dict[str, Any] = {}
    if parametrization == "cholesky":
        everything = "**" in declared
        if weight is not None:
            if not (everything or "sample_weight" in declared):
                return Unsupported("no sample_weight")
            options["sample_weight"] = weight
        if everything or "reduction" in declared:
            options["reduction"] = reduction
        elif reduction != "mean":
            return Unsupported(f'no reduction "{reduction}"')
        arguments = [inputs[name] for name in ("x", "logits", "means", "chol")]
    else:
        arguments = [inputs[name] for name in ("x", "alpha", "means", "icf", "gamma", "m")]
    # Copies: a function that writes to its arguments must not spoil the next one's.
    arguments = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    arguments = [a.item() if isinstance(a, np.ndarray) and a.ndim == 0 else a for a in arguments]
    try:
        answer = function(*arguments, **options)
    except NotImplementedError as error:
        return Unsupported(str(error) or "not implemented")
    except (ImportError, MemoryError) as error:
        raise ToolError("crash", f"{type(error).__name__}: {error}") from error
    except Exception as error:
        return Rejected(f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Answered(blocks_of(answer))


def parameters_of(function: Callable[..., Any]) -> set[str]:
    """Return the names that a function declares, and "**" if it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return set()
    return {"**" if p.kind is p.VAR_KEYWORD else p.name for p in parameters}


def blocks_of(answer: Any) -> tuple[Any, ...]:
    """Return a value and three gradients as arrays, None for those that are not given.

    Raises
    ------
    ToolError
        If the answer has no such form.
    """
    if not isinstance(answer, (tuple, list)):
        answer = (answer, None, None, None)
    if len(answer) != 4:
        raise ToolError("garbage", f"{len(answer)} outputs for four: the value and three gradients")
    try:
        return tuple(None if a is None else np.asarray(a, dtype=np.float64) for a in answer)
    except Exception as error:  # of whatever class the answer is
        raise ToolError("garbage", f"an output is no array of numbers: {error}") from error
