"""The loss as a JAX function: the checks of `jax_checks.py`, run in a process of their own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.needs_extras, pytest.mark.slow]  # JAX compiles

SCRIPT = Path(__file__).with_name("jax_checks.py")
CHECKS = re.findall(r"^def (check_\w+)", SCRIPT.read_text(encoding="utf-8"), re.M)


@pytest.fixture(scope="module")
def outcomes():
    tests = SCRIPT.parents[1]
    path = os.pathsep.join([str(tests), *sys.path])  # the package that is tested here
    result = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_checks_are_found():
    assert len(CHECKS) == 14


@pytest.mark.parametrize("check", CHECKS)
def test_jax(outcomes, check):
    assert outcomes[check] is None, outcomes[check]
