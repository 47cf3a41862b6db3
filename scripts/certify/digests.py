"""The list of digests: certified vectors are added, and never changed.

A line a test: its identity and the SHA-256 of what is asked and what has to come out, as JSON with
sorted keys and no spaces. Comments, flags and the mutants that a test kills may change.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

NAME = "digests.txt"
OF_GROUP = ("parametrization", "function", "dtype", "reduction")
OF_TEST = ("id", "N", "K", "D", "inputs", "digest", "outputs", "result")


def digests_of(document: dict[str, Any]) -> dict[str, str]:
    """Return the digest of each test of a file by its identity."""
    found = {}
    for group in document["groups"]:
        for test in group["tests"]:
            members = {name: group[name] for name in OF_GROUP if name in group}
            members |= {name: test[name] for name in OF_TEST if name in test}
            members["factor"] = document["factor"]
            text = json.dumps(members, sort_keys=True, separators=(",", ":"))
            found[test["id"]] = hashlib.sha256(text.encode()).hexdigest()
    return found


def read(directory: Path) -> dict[str, str]:
    """Return the list of a directory; empty if it has none yet."""
    path = directory / NAME
    if not path.exists():
        return {}
    return dict(line.split() for line in path.read_text(encoding="utf-8").splitlines())


def text_of(listed: dict[str, str]) -> str:
    """Return the list as it is written."""
    return "".join(f"{identity} {digest}\n" for identity, digest in sorted(listed.items()))
