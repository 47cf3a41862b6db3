"""Python functions as adapters, called in this process.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np

from gmm_np.conformance.cases import DIRECTION, FUNCTIONS, OUTPUTS, VALUE, Case, outputs_of
from gmm_np.conformance.compare import Answered, NotOffered, Outcome, Rejected, Unsupported

__all__ = ["Adapter", "FunctionAdapter", "ToolError", "call", "offered"]


#: What depends on how losses are put together.
WITH_REDUCTION: Final = (VALUE, "hvp", "d_x")


class ToolError(Exception):
    """An adapter that crashed, wrote what is no answer, or took too long.

    Attributes
    ----------
    kind : {"crash", "garbage", "timeout", "usage"}
        "usage" if it could not be found or started.
    broken : bool
        Whether more of them are a reason to end the run: each may take as long as the first.
    """

    def __init__(self, kind: str, message: str, *, broken: bool = True) -> None:
        super().__init__(message)
        self.kind, self.broken = kind, broken


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

        Second derivatives are offered as attributes. ``function.hvp(x, logits, means, chol,
        v_logits, v_means, v_chol)`` returns the Hessian of the loss times the direction v as three
        arrays, in the shapes of logits, means and factors; ``function.scores(x, logits, means,
        chol)`` the gradient of each log p(x_n), with N as the first axis of each.

        So are, in the order of the outputs, ``log_prob`` [N], ``responsibilities`` [N, K], ``d_x``,
        the gradient of the loss in x [N, D], and ``em_step``, the weights, means and covariances
        [K, D, D] after a step of EM, each called with (x, logits, means, chol) and ``d_x`` and
        ``em_step`` with ``sample_weight`` as well; and ``marginal(x, logits, means, chol,
        columns)``, log p of some columns [C] of which x [N, C] has values.

        So are other families of covariances: ``function.diag(x, logits, means, scale)`` with
        standard deviations [K, D], ``function.tied`` with one factor [D, D], ``function.spherical``
        with one deviation a component [K], each returning ``(nll, d_logits, d_means, d_scale)``.
        And mixtures of their own for each row: ``function.rowwise_full(x, logits, means, scale)``
        with logits [N, K], means [N, K, D] and factors [N, K, D, D], ``function.rowwise_diag`` with
        deviations [N, K, D], ``function.rowwise_spherical`` with deviations [N, K]. And
        ``function.covariances`` and ``function.precisions`` with symmetric matrices [K, D, D],
        ``function.diag_variances`` and ``function.spherical_variances`` with variances [K, D] and
        [K], and the gradients in these.
    """

    def __init__(self, function: Callable[..., Any], name: str | None = None) -> None:
        self.function = function
        self.name = name or str(getattr(function, "__qualname__", type(function).__name__))

    def evaluate(self, case: Case) -> Outcome:
        """Call the function with the inputs of a case."""
        inputs = {name: value for name, value in case.arrays.items() if name != "weights"}
        weight = case.arrays.get("weights")
        return call(
            self.function, case.function, case.parametrization, inputs, weight, case.reduction
        )

    def close(self) -> None:
        """Nothing was started."""


def offered(function: Callable[..., Any], parametrization: str) -> tuple[str, ...]:
    """Return which functions can be asked for in a parametrization."""
    names = FUNCTIONS if parametrization == "cholesky" else (VALUE,)
    return tuple(n for n in names if callable(_asked(function, parametrization, n)))


def _asked(function: Callable[..., Any], parametrization: str, name: str) -> Any:
    """Return the function itself, or the attribute that is asked for; None if there is none."""
    if parametrization not in ("cholesky", "precision"):
        return getattr(function, parametrization, None)
    return function if name == VALUE else getattr(function, name, None)


def call(
    function: Callable[..., Any],
    name: str,
    parametrization: str,
    inputs: dict[str, Any],
    weight: Any,
    reduction: str,
) -> Outcome:
    """Call a function, or its attribute, with the inputs of a case, if it declares what that needs.

    An exception is a rejection; NotImplementedError says that the case is not supported.

    Parameters
    ----------
    function : callable
    name : str
        What is asked for: the function itself ("value_and_gradient"), or the attribute of this
        name, or of the name of the parametrization.
    parametrization : str
    inputs : dict
        Arrays by their names.
    weight : ndarray or None
    reduction : {"mean", "sum"}

    Raises
    ------
    ToolError
        If what it returns is no answer, or it lacks a module or memory.
    """
    if name not in offered(function, parametrization):
        return NotOffered()
    function = _asked(function, parametrization, name)
    declared = parameters_of(function)
    if (parametrization == "precision") != ("icf" in declared):
        return Unsupported(f"no {parametrization} parametrization")
    options: dict[str, Any] = {}
    if parametrization != "precision":
        everything = "**" in declared
        if weight is not None:
            if not (everything or "sample_weight" in declared):
                return Unsupported("no sample_weight")
            options["sample_weight"] = weight
        if name in WITH_REDUCTION and (everything or "reduction" in declared):
            options["reduction"] = reduction
        elif reduction != "mean":
            return Unsupported(f'no reduction "{reduction}"')
        names = ("x", *OUTPUTS[parametrization][1:])
        names += {"hvp": DIRECTION, "marginal": ("columns",)}.get(name, ())
    else:
        names = ("x", "alpha", "means", "icf", "gamma", "m")
    arguments = [inputs[n] for n in names]
    # Copies: a function that writes to its arguments must not spoil the next one's.
    arguments = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    if name == "marginal":  # columns are integers
        arguments[-1] = arguments[-1].astype(np.intp)
    arguments = [a.item() if isinstance(a, np.ndarray) and a.ndim == 0 else a for a in arguments]
    try:
        answer = function(*arguments, **options)
    except NotImplementedError as error:
        return Unsupported(str(error) or "not implemented")
    except (ImportError, MemoryError) as error:
        raise ToolError("crash", f"{type(error).__name__}: {error}") from error
    except Exception as error:
        return Rejected(f"{type(error).__name__}: {' '.join(str(error).split())}")
    n_outputs = len(outputs_of(parametrization, name))
    if name == VALUE and not isinstance(answer, (tuple, list)):
        answer = (answer, *[None] * (n_outputs - 1))
    return Answered(blocks_of(answer, n_outputs))


def parameters_of(function: Callable[..., Any]) -> set[str]:
    """Return the names that a function declares, and "**" if it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return set()
    return {"**" if p.kind is p.VAR_KEYWORD else p.name for p in parameters}


def blocks_of(answer: Any, n_outputs: int) -> tuple[Any, ...]:
    """Return outputs as arrays, None for those that are not given.

    Raises
    ------
    ToolError
        If the answer has no such form.
    """
    if not isinstance(answer, (tuple, list)):
        raise ToolError("garbage", f"{type(answer).__name__} for a tuple of {n_outputs} outputs")
    if len(answer) != n_outputs:
        raise ToolError("garbage", f"{len(answer)} outputs for {n_outputs}")
    try:
        return tuple(None if a is None else np.asarray(a, dtype=np.float64) for a in answer)
    except Exception as error:  # of whatever class the answer is
        raise ToolError("garbage", f"an output is no array of numbers: {error}") from error
