"""Cases and answers as JSON: what travels, and under which names.

In the parametrization "precision" these are GradBench's: mu, q (logarithms of the diagonals) and l
(what stands below them) for means and icf. What JSON has no numbers for is a string.
"""

from __future__ import annotations

import contextlib
import json
from itertools import chain, repeat
from typing import Any, Final

import numpy as np

from gmm_np.conformance.cases import DTYPES, INPUTS, VALUE, Case, array_of, outputs_of
from gmm_np.conformance.compare import Answered, Outcome, Rejected, Unsupported

__all__ = [
    "GarbageError",
    "has_specials",
    "message_of",
    "outcome_of",
    "output_names",
    "parse",
    "read_inputs",
    "reply_of",
]

_SPECIAL: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": -float("inf")}


class GarbageError(ValueError):
    """What is no reply."""


# --- the runner's side --------------------------------------------------------------------------


def message_of(case: Case, number: int) -> str:
    """Return the line that asks about a case, rows of x repeated.

    Raises
    ------
    VectorError
        If the inputs are not those that the digest was made of.
    """
    _ = case.arrays  # which checks the digest
    head = {"id": number, "kind": "evaluate", "module": case.parametrization}
    head["function"] = case.function
    members = [f'"{name}": {text}' for name, text in _inputs(case).items()]
    end = f'"description": "{case.id}"'
    return f'{json.dumps(head)[:-1]}, "input": {{{", ".join(members)}}}, {end}}}'


def _inputs(case: Case) -> dict[str, str]:
    counts = case.inputs.get("count")
    texts: dict[str, str] = {}
    for name in INPUTS[case.parametrization]:
        if name not in case.inputs:
            continue
        value = case.inputs[name]
        if counts is not None and name in ("x", "weights"):  # without a list of a million rows
            rows = (repeat(json.dumps(row), n) for row, n in zip(value, counts, strict=True))
            texts[name] = f"[{', '.join(chain.from_iterable(rows))}]"
        else:
            texts[name] = json.dumps(value)
    if case.parametrization == "precision":
        d, icf = case.n_features, case.inputs["icf"]
        sizes = {"d": d, "k": case.n_components, "n": case.n_samples}
        texts = {
            **{name: str(size) for name, size in sizes.items()},
            "alpha": texts["alpha"],
            "mu": texts["means"],
            "q": json.dumps([row[:d] for row in icf]),
            "l": json.dumps([row[d:] for row in icf]),
            **{name: texts[name] for name in ("x", "gamma", "m")},
        }
    return texts | {"reduction": f'"{case.reduction}"', "dtype": f'"{case.dtype}"'}


def has_specials(case: Case) -> bool:
    """Whether an input has what travels as a string."""

    def found(value: Any) -> bool:
        return isinstance(value, str) or (isinstance(value, list) and any(map(found, value)))

    return any(map(found, case.inputs.values()))


def output_names(parametrization: str, function: str = VALUE) -> tuple[str, ...]:
    """Return what an output may hold, under the names that travel."""
    if parametrization == "precision":
        return ("objective", "alpha", "mu", "q", "l")
    return outputs_of(parametrization, function)


def parse(text: bytes | str) -> dict[str, Any]:
    """Read a reply.

    Raises
    ------
    GarbageError
        If it is no JSON, or no object.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f'{constant} is not JSON; write it as a string, "{constant}"')

    try:
        reply = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        line = text if isinstance(text, str) else text[:80].decode("utf-8", "replace")
        raise GarbageError(f"not a line of JSON: {line[:80].rstrip()!r} ({error})") from error
    if not isinstance(reply, dict):
        raise GarbageError("a reply must be an object")
    return reply


def outcome_of(reply: dict[str, Any], case: Case) -> Outcome:
    """Return what a reply to an evaluate message says.

    Raises
    ------
    GarbageError
        If it says nothing.
    """
    status, error = reply.get("status"), str(reply.get("error", ""))
    if status == "unsupported":
        return Unsupported(error or "not supported")
    if status == "rejected" or reply.get("success") is False:
        return Rejected(error)
    output, names = reply.get("output"), output_names(case.parametrization, case.function)
    if not isinstance(output, dict) or not set(output) <= set(names):
        raise GarbageError(f'"output" must be an object with some of {", ".join(names)}')
    try:
        found = {name: _numbers(output.get(name)) for name in names}
        if case.parametrization == "precision":
            found["means"], found["icf"] = found.pop("mu"), _joined(found.pop("q"), found.pop("l"))
    except (ValueError, TypeError) as wrong:
        raise GarbageError(f'"output": {wrong}') from wrong
    return Answered(tuple(found[name] for name in case.blocks))


def _joined(q: Any, lower: Any) -> Any:
    """Return the rows of q and l side by side, None where either is not given."""
    if q is None or lower is None:
        return None
    parts = [np.asarray(part, dtype=np.float64) for part in (q, lower)]
    parts = [part.reshape(len(part), -1) if part.ndim else part for part in parts]
    return np.concatenate(parts, axis=1)


def _numbers(value: Any) -> Any:
    """Return numbers in nested lists, with the strings of what is not finite read."""
    if isinstance(value, list):
        with contextlib.suppress(ValueError, TypeError):
            array = np.asarray(value)
            if array.dtype.kind in "fi":
                return array.astype(np.float64)
        return [_numbers(item) for item in value]
    if isinstance(value, str):
        if value not in _SPECIAL:
            raise ValueError(f"{value!r} is no number")
        return _SPECIAL[value]
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise TypeError(f"{value!r} is no number")


# --- the tool's side ----------------------------------------------------------------------------


def read_inputs(message: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the arrays of an evaluate message by their names here, and the weights or None."""
    module, raw = message["module"], dict(message["input"])
    if module == "precision":
        raw["means"] = raw["mu"]
        raw["icf"] = [[*q, *lower] for q, lower in zip(raw["q"], raw["l"], strict=True)]
    dtype = np.dtype(DTYPES[raw["dtype"]]).newbyteorder("=")
    inputs = {name: array_of(raw[name], dtype) for name in INPUTS[module] if name in raw}
    return inputs, inputs.pop("weights", None)


def reply_of(
    outcome: Outcome, parametrization: str, function: str, n_features: int
) -> dict[str, Any]:
    """Return an outcome as the members of a reply."""
    if isinstance(outcome, Rejected):
        return {"success": False, "status": "rejected", "error": outcome.message}
    if not isinstance(outcome, Answered):
        reason = outcome.reason if isinstance(outcome, Unsupported) else "not offered"
        return {"success": False, "status": "unsupported", "error": reason}
    blocks = dict(zip(outputs_of(parametrization, function), outcome.blocks, strict=True))
    if parametrization == "precision":
        icf = blocks.pop("icf")
        blocks["mu"] = blocks.pop("means")
        if icf is not None:
            blocks |= {"q": icf[..., :n_features], "l": icf[..., n_features:]}
    output = {name: _plain(block.tolist()) for name, block in blocks.items() if block is not None}
    return {"success": True, "output": output}


def _plain(value: Any) -> Any:
    """Replace what JSON has no numbers for by its string."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value != value:
        return "NaN"
    if value in (float("inf"), -float("inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value
