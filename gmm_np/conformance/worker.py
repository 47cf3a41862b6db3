"""A Python function served by lines of JSON: ``python -m gmm_np.conformance.worker TARGET``.

So that a function that hangs can be ended, and one that crashes does not take the runner along.
TARGET is ``package.module:function``. Where the module has a tuple REQUIRES of names of
distributions, they have to be installed, and their versions are named in the report.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from gmm_np.conformance.function_adapter import call, offered, parameters_of
from gmm_np.conformance.wire import read_inputs, reply_of

__all__ = ["load", "main"]


def load(target: str) -> tuple[Callable[..., Any], str]:
    """Import ``package.module:function``; return it, and its name with versions.

    Raises
    ------
    ValueError
        If there is no such function, or a distribution that it needs is not installed.
    """
    module_name, _, function_name = target.partition(":")
    if not module_name or not function_name:
        raise ValueError(f"{target!r} is not of the form package.module:function")
    try:
        module = importlib.import_module(module_name)
        function: Any = module
        for part in function_name.split("."):
            function = getattr(function, part)
        required = getattr(module, "REQUIRES", ())
        versions = [f"{name} {version_of(name)}" for name in required]
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{target}: {error}") from error
    if not callable(function):
        raise ValueError(f"{target} is not a function")
    return function, f"{target} ({', '.join(versions)})" if versions else target


def version_of(name: str) -> str:
    """Return the version of a distribution, or of a module that was never installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(importlib.import_module(name).__version__)


def reply_to(message: dict[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """Return the reply to a define or evaluate message."""
    module = message["module"]
    if message["kind"] == "define":
        functions = list(offered(function, module))
        if module in ("cholesky", "precision") and (
            (module == "precision") != ("icf" in parameters_of(function))
        ):
            functions = []
        return {"success": bool(functions), "functions": functions}
    inputs, weight = read_inputs(message)
    name, reduction = message["function"], message["input"]["reduction"]
    outcome = call(function, name, module, inputs, weight, reduction)
    n_features = np.shape(inputs["means"])[-1] if module == "precision" else 0
    return reply_of(outcome, module, name, n_features)


def main() -> None:
    """Serve the function that the command line names until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print is no reply
    function: Callable[..., Any] | None = None
    for line in sys.stdin:
        message = json.loads(line)
        if message["kind"] == "start":
            try:
                function, tool = load(sys.argv[1])
                reply = {"tool": tool}
            except ValueError as error:
                reply = {"status": "usage", "error": str(error)}
        else:
            assert function is not None
            reply = reply_to(message, function)
        replies.write(json.dumps({"id": message["id"], **reply}, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
