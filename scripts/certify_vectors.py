"""Generate the certified vectors, or check that the committed ones are what this generates.

    python scripts/certify_vectors.py [--check | --kills | --calibrate] [--only FAMILY]...
        [--mutant NAME]...

Needs mpmath and python-flint; gmpy2 makes it faster. The files come out the same, byte for byte,
whatever the versions and the machine: `--check` compares, writes nothing, and exits with 1 if a
file differs. digests.txt lists what must not change: a test that is listed is never written anew.
The lists of mutants in `kills` are found in double precision, by `--kills`, and kept otherwise.
`--calibrate` prints how much of the allowance this library uses.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

from certify import (  # noqa: E402
    average,
    by_covariance,
    covariances,
    digests,
    higher,
    lower,
    published,
    rejected,
    remainders,
    routes,
    rowwise,
    samples,
    second,
)
from certify.agreement import certify  # noqa: E402
from certify.document import Case, Family, family_document  # noqa: E402
from certify.notes import NOTES  # noqa: E402

VECTORS = ROOT / "gmm_np" / "conformance" / "vectors"


def all_families() -> list[Family]:
    """Every family, in the order of the levels."""
    modules = (
        *(lower, average, higher, published, rejected),
        *(second, covariances, rowwise, samples, remainders, by_covariance),
    )
    return [family for module in modules for family in module.families()]


def outputs(case: Case) -> dict[str, dict[str, list[str]]] | None:
    """Certified outputs of a case with what may be asked of them, or None if it is rejected."""
    problem: Any = case.problem
    if case.result == "invalid":
        return None
    one, other, asked = routes.multiple_of(problem), *routes.balls_of(problem)
    certified, bits = certify(lambda d: one(problem, d), lambda b: other(problem, b))
    allowed = asked(problem, bits)
    return {name: {"certified": certified[name], **allowed[name]} for name in certified}


def generate(family: Family, kills: dict[str, list[str]]) -> str:
    """Return the text of a family's file. `kills` has the mutants by the identity of a test."""
    return family_document(family, NOTES, [outputs(case) for case in family.cases], kills)


def kept_kills(path: Path) -> dict[str, list[str]]:
    """Return the mutants that each test of a file lists; none if there is no file."""
    if not path.exists():
        return {}
    groups = json.loads(path.read_text(encoding="utf-8"))["groups"]
    return {test["id"]: test["kills"] for group in groups for test in group["tests"]}


def with_kills(text: str, kills: dict[str, list[str]]) -> str:
    """Return the text of a file with other lists of mutants."""
    lines, identity = text.split("\n"), ""
    for number, line in enumerate(lines):
        if line.startswith('"id": '):
            identity = json.loads(line[6:-1])
        elif line.startswith('"kills": '):
            lines[number] = f'"kills": {json.dumps(kills[identity])},'
    return "\n".join(lines)


def write_whole(path: Path, text: str) -> None:
    """Write a file, or leave it as it was."""
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    Path(name).chmod(0o644)
    Path(name).replace(path)


def main() -> int:
    """Generate or compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    todo = parser.add_mutually_exclusive_group()
    todo.add_argument("--check", action="store_true", help="compare, and write nothing")
    todo.add_argument("--kills", action="store_true", help="find the mutants that each test kills")
    todo.add_argument("--calibrate", action="store_true", help="print shares of the allowance")
    parser.add_argument("--only", action="append", metavar="FAMILY", help="may be repeated")
    parser.add_argument(
        "--mutant",
        action="append",
        default=[],
        metavar="NAME",
        help="with --kills: look for this one, and keep the others as they are listed",
    )
    parser.add_argument("--to", type=Path, default=VECTORS, metavar="DIRECTORY")
    options = parser.parse_args()
    families = all_families()
    if options.mutant and not options.kills:
        parser.error("--mutant goes with --kills.")
    unknown = set(options.only or ()) - {family.name for family in families}
    if unknown:
        parser.error(f"no such family: {', '.join(sorted(unknown))}")
    different = []
    listed = digests.read(options.to)
    for family in families:
        if options.only and family.name not in options.only:
            continue
        path = options.to / f"{family.name}.json"
        if options.calibrate or options.kills:
            from certify import judged

            if options.calibrate:
                print(judged.calibration(path), flush=True)
                continue
            text = with_kills(path.read_text(encoding="utf-8"), judged.kills(path, options.mutant))
        else:
            text = generate(family, kept_kills(path))
        found = digests.digests_of(json.loads(text))
        changed = [test for test, digest in found.items() if listed.get(test, digest) != digest]
        if changed:
            parser.error(f"{changed[0]} would change: vectors are added, and never changed.")
        if not options.check:
            write_whole(path, text)
            listed |= found
            write_whole(options.to / digests.NAME, digests.text_of(listed))
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            different.append(path.name)
        print(f"{family.name}: {len(family.cases)} tests, {len(text)} bytes", flush=True)
    if different:
        print(f"not what this script generates: {', '.join(different)}", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
