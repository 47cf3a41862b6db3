"""Fill in which mutants each certified case kills, in the files of vectors as they stand.

    python scripts/list_kills.py [--check]

scripts/certify_vectors.py does so for what it writes; this is for a change of the mutants alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gmm_np.conformance.cases import DIRECTORY  # noqa: E402
from gmm_np.conformance.kills import with_kills  # noqa: E402


def main() -> int:
    """Write the lists, or compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    options = parser.parse_args()
    different = []
    for path in sorted(DIRECTORY.glob("*.json")):
        if path.name == "schema.json":
            continue
        old = path.read_text(encoding="utf-8")
        new = with_kills(old)
        if new == old:
            continue
        different.append(path.name)
        if not options.check:
            handle, name = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(new)
            Path(name).replace(path)
    print(f"{len(different)} files {'differ' if options.check else 'written'}")
    return 1 if different and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
