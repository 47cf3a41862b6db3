"""Families of cases as JSON text: one line an array, the same bytes each time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from certify.problem import decimal_form, digest, sizes_of

GENERATOR = {"name": "scripts/certify_vectors.py", "version": "1"}
FACTOR = 5


@dataclass(frozen=True)
class Note:
    """What a flag stands for."""

    bug_type: str
    description: str
    effect: str
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One test before it is certified."""

    level: str
    comment: str
    problem: Any  # of one of the parametrizations
    flags: tuple[str, ...] = ()
    result: str = "valid"


@dataclass(frozen=True)
class Family:
    """One file."""

    name: str
    comment: str
    cases: Sequence[Case]


def family_document(
    family: Family, notes: dict[str, Note], outputs: Sequence[Any], kills: dict[str, list[str]]
) -> str:
    """Return the file of a family.

    `outputs` holds for each case its blocks, or None where it has to be rejected; `kills` the
    mutants by the identity of a test.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    version = family_version(family)
    names = ("parametrization", *(["function"] if version > 1 else []), "dtype", "reduction")
    for index, case in enumerate(family.cases):
        problem = case.problem
        key = tuple(getattr(problem, name) for name in names)
        identity = f"{family.name}-{index + 1:03d}"
        groups.setdefault(key, []).append(
            _test(identity, case, outputs[index], kills.get(identity, []))
        )
    count = sum(
        len(block["certified"]) for blocks in outputs if blocks for block in blocks.values()
    )
    used = sorted({flag for case in family.cases for flag in case.flags})
    head = {
        "schema": "schema.json",
        "format_version": version,
        "algorithm": "gaussian_mixture_nll",
        "family": family.name,
        "comment": family.comment,
        "generator": GENERATOR,
        "factor": FACTOR,
        "number_of_tests": len(family.cases),
        "number_of_outputs": count,
        "notes": {flag: asdict(notes[flag]) for flag in used},
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    body = ",\n".join(
        "{"
        + ", ".join(f'"{name}": "{v}"' for name, v in zip(names, key, strict=True))
        + f',\n"generator": {json.dumps(GENERATOR)},\n"tests": [\n'
        + ",\n".join(tests)
        + "\n]}"
        for key, tests in groups.items()
    )
    return "{\n" + ",\n".join(lines) + ',\n"groups": [\n' + body + "\n]\n}\n"


# What each format added: pairs of a function and a parametrization.
VALUE = "value_and_gradient"
SINCE = {
    1: {(VALUE, "cholesky"), (VALUE, "precision")},
    2: {
        ("hvp", "cholesky"),
        ("scores", "cholesky"),
        (VALUE, "diag"),
        (VALUE, "tied"),
        (VALUE, "spherical"),
    },
}


def family_version(family: Family) -> int:
    """Return the oldest format that can hold a family."""
    asked = {(case.problem.function, case.problem.parametrization) for case in family.cases}
    for version, added in SINCE.items():
        asked -= added
        if not asked:
            return version
    return max(SINCE) + 1


def _test(identity: str, case: Case, blocks: Any, kills: list[str]) -> str:
    problem = case.problem
    head = {
        "id": identity,
        "level": case.level,
        "comment": case.comment,
        "flags": list(case.flags),
        "kills": kills,
        **sizes_of(problem),
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    inputs = [
        f'  "{name}": {_array(value, problem.dtype)}' for name, value in problem.arrays.items()
    ]
    lines.append('"inputs": {\n' + ",\n".join(inputs) + "\n}")
    lines.append(f'"digest": "{digest(problem)}"')
    if blocks is not None:
        parts = [
            f'  "{name}": {{\n'
            + ",\n".join(f'    "{kind}": {_strings(block[kind])}' for kind in block)
            + "\n  }"
            for name, block in blocks.items()
        ]
        lines.append('"outputs": {\n' + ",\n".join(parts) + "\n}")
    lines.append(f'"result": "{case.result}"')
    return "{\n" + ",\n".join(lines) + "\n}"


def _array(value: Any, dtype: str) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_array(item, dtype) for item in value) + "]"
    return str(value) if isinstance(value, int) else decimal_form(value, dtype)


def _strings(values: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"
