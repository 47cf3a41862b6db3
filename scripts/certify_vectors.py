"""Generate the certified vectors, or check that the committed ones are what this generates.

    python scripts/certify_vectors.py [--check] [--only FAMILY]... [--to DIRECTORY]

Needs mpmath and python-flint, and takes a few minutes; the result is the same, byte for byte,
whatever their versions and the machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from certify import example, multiple, balls
from certify.agreement import certify
from certify.allowance import allowance
from certify.document import family_document


def outputs(case):
    if case.result == "invalid":
        return None
    p = case.problem
    certified, bits = certify(lambda d: multiple.evaluate(p, d), lambda b: balls.evaluate(p, b))
    a = allowance(p, bits)
    return {name: {"certified": certified[name], **a[name]} for name in certified}


for family in example.FAMILIES():
    text = family_document(family, [outputs(c) for c in family.cases], [[] for c in family.cases])
    Path("gmm_np/conformance/vectors", family.name + ".json").write_text(text)
