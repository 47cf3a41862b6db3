"""The vectors, their schema and a page that specifies them, to be vendored by another project.

The page is made of what the files say themselves: the schema's descriptions, each family's comment,
counts and digest. It needs nothing of this project to be followed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from gmm_np import __version__
from gmm_np.conformance.cases import (
    COVARIANCES,
    DIRECTORY,
    FUNCTIONS,
    OUTPUTS,
    CaseFamily,
    read_vectors,
)

__all__ = ["export", "specification"]

SPECIFICATION: Final = "SPEC.md"


def export(directory: Path, patterns: Iterable[str] = ()) -> list[CaseFamily]:
    """Write the vectors to a directory of their own, whole or not at all; return the families.

    Parameters
    ----------
    directory : Path
        Is made; may be there if it is empty.
    patterns : iterable of str
        Names of families, or patterns such as "hvp_*"; all by default.

    Raises
    ------
    FileExistsError
        If the directory holds anything.
    ValueError
        If a pattern names no family.
    VectorError
        If a file is not what it should be.
    """
    target = directory.absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(
            f"{directory} is there already; name a directory that is new or empty."
        )
    families = _chosen(list(patterns))
    for family in families:
        for case in family.cases:
            _ = case.arrays  # which checks the digest of the inputs
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _fill(made, families)
        made.chmod(0o755)  # a temporary directory is its owner's alone
        if target.exists():
            target.rmdir()
        made.replace(target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return families


def _chosen(patterns: list[str]) -> list[CaseFamily]:
    families = read_vectors()
    for pattern in patterns:
        if not any(fnmatchcase(family.name, pattern) for family in families):
            names = ", ".join(family.name for family in families)
            raise ValueError(f"no family is called {pattern}; there are {names}.")
    if not patterns:
        return families
    return [f for f in families if any(fnmatchcase(f.name, pattern) for pattern in patterns)]


def _fill(directory: Path, families: list[CaseFamily]) -> None:
    names = ["schema.json", *(f"{family.name}.json" for family in families)]
    for name in names:
        shutil.copyfile(DIRECTORY / name, directory / name)
    ids = {case.id for family in families for case in family.cases}
    lines = (DIRECTORY / "digests.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    digests = "".join(line for line in lines if line.split()[0] in ids)
    (directory / "digests.txt").write_bytes(digests.encode())
    sums = {
        name: hashlib.sha256((directory / name).read_bytes()).hexdigest()
        for name in [*names, "digests.txt"]
    }
    page = specification(families, sums)
    (directory / SPECIFICATION).write_bytes(page.encode())


def specification(families: list[CaseFamily], sums: dict[str, str]) -> str:
    """Return the page.

    Parameters
    ----------
    families : list of CaseFamily
    sums : dict
        The SHA-256 of each file by its name.
    """
    schema = json.loads((DIRECTORY / "schema.json").read_text(encoding="utf-8"))
    count = sum(len(family.cases) for family in families)
    fields = [
        row
        for title, definition in _definitions(schema, families)
        for row in _fields(title, definition, schema["$defs"])
    ]
    files = [
        f"| `{family.name}.json` | {len(family.cases)} | {_cell(family.comment)} "
        f"| `{sums[f'{family.name}.json']}` |"
        for family in families
    ]
    files += [f"| `{name}` | | | `{sums[name]}` |" for name in ("schema.json", "digests.txt")]
    return _PAGE.format(
        title=schema["title"],
        description=schema["description"],
        contents=f"{len(families)} families with {count} tests, of gmm_np {__version__}",
        dialect=f"JSON Schema {schema['$schema'].rsplit('/', 2)[-2]}",
        fields="\n".join(fields),
        files="\n".join(files),
    )


_PAGE: Final = """\
# {title}

{contents} (MIT licence). `gmm-np conformance export` made this directory; nothing in it is written
by hand.

{description}

For a test, then: read its inputs, compare their SHA-256 with `digest`, compute, and compare each
output. A test with the result `invalid` has to be rejected, one with `either` may be. `kills` and
`flags` say what the test is there for.

## The format

`schema.json` is the whole of it ({dialect}, no further fields). What its fields mean:

| of | field | meaning |
|---|---|---|
{fields}

## The files

`digests.txt` has the SHA-256 of each test: of its inputs, outputs and what is expected, as JSON
with sorted keys and no spaces. Tests are added and never changed.

| file | tests | what it catches | SHA-256 |
|---|---|---|---|
{files}
"""


def _definitions(
    schema: dict[str, Any], families: list[CaseFamily]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what the schema defines of all that the families use, each with a title."""
    defined = schema["$defs"]
    cases = [case for family in families for case in family.cases]
    kinds = {c.parametrization for c in cases} | {c.function for c in cases}
    yield "a file", schema
    for title, name in (("a flag's note", "note"), ("a group", "group"), ("a test", "test")):
        yield title, defined[name]
    for kind in (*OUTPUTS, *FUNCTIONS):
        if kind in kinds and f"{kind}_inputs" in defined:
            yield f"inputs, {kind}", defined[f"{kind}_inputs"]
    for stem, shared in (
        ("rowwise", sorted(kind for kind in kinds if kind.startswith("rowwise"))),
        ("covariance", sorted(kinds & {"covariances", "precisions"}
                              | {kind for kind in kinds if kind.endswith("_variances")})),
    ):  # fmt: skip
        if shared:
            yield f"inputs, {', '.join(shared)}", defined[f"{stem}_inputs"]
    yield "an output", defined["block"]
    for kind in (*OUTPUTS, *FUNCTIONS):
        if kind in kinds and f"{kind}_outputs" in defined:
            yield f"outputs, {kind}", defined[f"{kind}_outputs"]
    scales = [kind for kind in COVARIANCES if kind in kinds]
    if scales:
        yield f"outputs, {', '.join(scales)}", defined["scale_outputs"]


def _fields(title: str, definition: dict[str, Any], defined: dict[str, Any]) -> Iterator[str]:
    """Yield a row for each field that the schema describes, where it stands or by reference."""
    for name, field in definition["properties"].items():
        referred = defined.get(field.get("$ref", "").rpartition("/")[2], {})
        meaning = field.get("description", referred.get("description"))
        if meaning:
            yield f"| {title} | `{name}` | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
