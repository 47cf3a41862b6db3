"""A copy of the tree, for tests of what people do in it."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MADE = (
    ".git",
    ".venv",
    ".*_cache",
    ".hypothesis",
    "__pycache__",
    "build",
    "dist",
    "generated",
    "*.egg-info",
)


def copy_tree(target):
    """Copy what belongs to the project, and nothing that tools have made, to `target`."""
    return shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*MADE))
