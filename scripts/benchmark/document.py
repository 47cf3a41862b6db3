"""The document that a run writes: what was measured, where, and with what."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from environment import describe_avx512, settings_in
from figures import Record, is_doubtful
from peers import Peer
from worker import environment_of

from gmm_np.files import atomic_write

FORMAT = 2
# Of this folder, what figures depend on.
MEASURED = ("cells", "environment", "floor", "peers", "server")
IMPORTS = 3  # times that an import is timed
DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def describe_machine() -> Record:
    """Name the machine that measures."""
    model, total = platform.processor(), 0.0
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(": ")[2] for x in lines if x.startswith("model name")), model)
    with contextlib.suppress(AttributeError, ValueError, OSError):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(total, 1),
        "system": platform.platform(),
    }


def describe_versions(peers: Iterable[Peer]) -> Record:
    """Name the versions of all that takes part."""
    names = ["numpy", "scipy", *(module for peer in peers for module in peer.modules)]
    versions = {"python": platform.python_version()}
    for name in dict.fromkeys(DISTRIBUTIONS.get(name, name) for name in names):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    with contextlib.suppress(Exception):
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        versions["BLAS of numpy"] = f"{blas['name']} {blas['version']}"
    return versions


def describe_source() -> Record:
    """Identify the code that is measured: its commit, and a digest of what is there."""
    root = Path(__file__).resolve().parents[2]
    files = sorted(root.glob("gmm_np/**/*.py"))
    files += [Path(__file__).with_name(f"{name}.py") for name in MEASURED]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]

    def git(*arguments: str) -> str:
        with contextlib.suppress(OSError):
            done = subprocess.run(
                ["git", "-C", root, *arguments], capture_output=True, text=True, check=False
            )
            return done.stdout.strip()
        return ""

    changed = bool(git("status", "--porcelain", "--", "gmm_np"))
    return {"commit": git("rev-parse", "--short", "HEAD"), "changed": changed, "digest": digest}


def time_imports(
    peers: Mapping[str, Peer], environment: Mapping[str, str]
) -> tuple[Record, Record]:
    """Time the import of each library in fresh processes: seconds, and what is missing and why."""
    seconds: Record = {}
    missing: Record = {}
    for modules in dict.fromkeys(peer.imports for peer in peers.values()):
        program = f"from time import perf_counter as t; s = t(); import {modules}; print(t() - s)"
        command = [sys.executable, "-c", program]
        for _ in range(IMPORTS):
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )
            if done.returncode:
                missing[modules] = (done.stderr.strip().splitlines() or ["no message"])[-1]
                break
            seconds.setdefault(modules, []).append(float(done.stdout.split()[-1]))
    return seconds, {n: missing[p.imports] for n, p in peers.items() if p.imports in missing}


def now() -> str:
    """Return the time, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def new_document(options: argparse.Namespace, names: list[str], peers: dict[str, Peer]) -> Record:
    """Begin the document that a run writes."""
    chosen = {name: peers[name] for name in names}
    environment = environment_of(options)
    imports, missing = time_imports(chosen, environment)
    settings = ("repeat", "budget", "longest", "memory", "threads", "seed", "beside")
    return {
        "format": FORMAT,
        "command": shlex.join(["python", "scripts/benchmark.py", *sys.argv[1:]]),
        "started": now(),
        "finished": now(),
        "machine": describe_machine(),
        "versions": describe_versions(peer for name, peer in chosen.items() if name not in missing),
        "source": describe_source(),
        "settings": {
            **{name: getattr(options, name) for name in settings},
            "avx512": describe_avx512(without=options.without_avx512),
            "environment": settings_in(environment),
        },
        "peers": names,
        "titles": {name: peers[name].title for name in names},
        "modules": {name: peers[name].imports for name in names},
        "imports": imports,
        "missing": missing,
        "cold": [],
        "cells": [],
        "resumed": [],
    }


def open_document(options: argparse.Namespace, names: list[str], peers: dict[str, Peer]) -> Record:
    """Begin a document, or go on with one.

    Raises
    ------
    ValueError
        If the one to go on with was measured elsewhere, with other code or with other settings.
    """
    document = new_document(options, names, peers)
    if options.resume is None or not options.resume.exists():
        return document
    old: Record = json.loads(options.resume.read_text())
    keys = ("format", "machine", "versions", "settings", "peers", "missing")
    differ = [key for key in keys if old.get(key) != document[key]]
    if old.get("source", {}).get("digest") != document["source"]["digest"]:
        differ.append("source")
    if differ:
        raise ValueError(
            f"--resume {options.resume}: it has other {', '.join(differ)}. Figures of two "
            "settings do not belong into one table: measure anew."
        )
    if options.again:
        doubtful = [cell for cell in old["cells"] if is_doubtful(cell, old["settings"])]
        old["again"] = old.get("again", 0) + len(doubtful)
        old["cells"] = [cell for cell in old["cells"] if cell not in doubtful]
    return old


def save(data: Record, path: Path | None) -> None:
    """Write the document whole, so that no reader ever sees half of it."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(strict(data), indent=1, allow_nan=False) + "\n"
    with atomic_write(path) as stream:
        stream.write(text.encode())


def strict(value: Any) -> Any:
    """Replace what JSON has no word for: NaN and infinities become null."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
