"""Cases and answers as lines of words, for languages that have no JSON at hand.

A case is one line, ``ID REDUCTION WEIGHTED N K D`` and then numbers: x, logits, means, chol, and
the weights where WEIGHTED is 1, each in row-major order. The answer is one line, too: ``ID ok`` and
the value with the gradients of logits, means and chol, of which the last may be left out;
``ID rejected`` or ``ID unsupported``, with a reason after it. What is not finite is NaN, Inf or
-Inf. The loss and its gradients by Cholesky factors are all that can be asked for in this form.
"""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np

from gmm_np.conformance.cases import VALUE, Case
from gmm_np.conformance.compare import Answered, NotOffered, Outcome, Rejected, Unsupported
from gmm_np.conformance.wire import GarbageError

__all__ = ["line_of", "outcome_of_line", "unsayable"]

_NO_SHAPE = "its shapes cannot be said in plain text"


def unsayable(case: Case) -> Outcome | None:
    """Return what becomes of a case that has no such line; None if it has one."""
    if case.function != VALUE or case.parametrization != "cholesky":
        reason = f"no {case.parametrization} parametrization in plain text"
        return NotOffered() if case.optional else Unsupported(reason)
    n, k, d = case.n_samples, case.n_components, case.n_features
    shapes = {"x": (n, d), "logits": (k,), "means": (k, d), "chol": (k, d, d), "weights": (n,)}
    said = all(
        isinstance(array, np.ndarray) and array.shape == shapes[name]
        for name, array in case.arrays.items()
    )
    return None if said else Unsupported(_NO_SHAPE)


def line_of(case: Case) -> str:
    """Return the line that asks about a case, rows of x repeated."""
    arrays = case.arrays
    weighted = int("weights" in arrays)
    sizes = (case.n_samples, case.n_components, case.n_features)
    words = [case.id, case.reduction, str(weighted), *map(str, sizes)]
    for name in ("x", "logits", "means", "chol", "weights")[: 4 + weighted]:
        words += map(_word, arrays[name].ravel().tolist())
    return " ".join(words)


def _word(number: float) -> str:
    if math.isfinite(number):
        return repr(number)
    return "NaN" if math.isnan(number) else "Inf" if number > 0 else "-Inf"


def outcome_of_line(line: str, case: Case) -> Outcome:
    """Return what an answer says.

    Raises
    ------
    GarbageError
        If it says nothing.
    """
    words = line.split()
    if words[:1] != [case.id]:
        raise GarbageError(f"an answer must begin with {case.id}; got {line[:80].rstrip()!r}")
    kind, rest = "".join(words[1:2]), words[2:]
    if kind == "rejected":
        return Rejected(" ".join(rest))
    if kind == "unsupported":
        return Unsupported(" ".join(rest) or "not supported")
    if kind != "ok":
        raise GarbageError(
            f"{case.id} must be followed by ok, rejected or unsupported; got {kind!r}"
        )
    try:
        numbers = np.array([float(word) for word in rest])
    except ValueError as error:
        raise GarbageError(f"{case.id}: {error}") from error
    ends = list(accumulate(math.prod(shape) for shape in case.shapes))
    if len(numbers) not in ends:
        wanted = ", ".join(map(str, ends[:-1]))
        raise GarbageError(
            f"{case.id}: {len(numbers)} numbers, for {wanted} or {ends[-1]}: the value, and the "
            "gradients of logits, means and chol"
        )
    parts = np.split(numbers, ends[:-1])
    blocks = (
        part.reshape(shape) if end <= len(numbers) else None
        for part, shape, end in zip(parts, case.shapes, ends, strict=True)
    )
    return Answered(tuple(blocks))
