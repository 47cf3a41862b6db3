"""The reusable workflow: its steps run as they stand, and its inputs are no text of a script."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / ".github" / "workflows" / "conformance.yml").read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load(TEXT)
INPUTS = WORKFLOW[True]["workflow_call"]["inputs"]  # YAML 1.1 reads "on" as true
STEPS = {step.get("name"): step for step in WORKFLOW["jobs"]["conformance"]["steps"]}
RUN = STEPS["Run the certified vectors"]
REFERENCE = "gmm_np.conformance.adapters.gmm_np:reference"


@pytest.fixture
def run(tmp_path):
    """Run a step with the inputs given, as GitHub does: inputs become its variables."""
    program = tmp_path / "bin" / "gmm-np"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m gmm_np "$@"\n', encoding="utf-8")
    program.chmod(0o755)

    def run(step, **given):
        values = {name: spec.get("default", "") for name, spec in INPUTS.items()} | given
        filled = {
            name: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda m: values[m[1]], text)
            for name, text in step["env"].items()
        }
        environment = {
            **os.environ,
            **filled,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        }
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_inputs_reach_the_shell_as_variables_alone():
    for step in STEPS.values():
        assert "${{" not in step.get("run", "")
    used = set(re.findall(r"inputs\.([a-z-]+)", TEXT))
    assert used == set(INPUTS)
    assert WORKFLOW["permissions"] == {"contents": "read"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_function_is_run_with_the_families_and_the_policy(run, tmp_path):
    (tmp_path / "one_sampler").touch()  # which a shell would put for the pattern
    done = run(RUN, function=REFERENCE, families="one_s* ties", levels="lower", policy="library")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "conformance.json").read_text(encoding="utf-8"))
    assert [family["family"] for family in report["families"]] == ["one_sample"]
    assert report["policy"] == "library"
    assert (tmp_path / "conformance.xml").exists()
    assert "one_sample" in (tmp_path / "summary.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_command_is_run_and_wrong_answers_fail_the_step(run):
    # Answers "rejected" to all, in words.
    program = "import sys; [print(l.split()[0], 'rejected', flush=True) for l in sys.stdin]"
    command = f'{sys.executable} -c "{program}"'
    done = run(RUN, command=command, families="one_sample", options="--text --case dense-001")
    assert done.returncode == 4, done.stderr
    assert done.stdout.count("::error title=") == 7
    assert run(RUN).returncode == 2  # neither


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_setup_is_a_script_that_may_fail(run, tmp_path):
    step = STEPS["Set up what is tested"]
    assert run(step, setup="echo one > made\necho 'two \"$HOME\"' >> made").returncode == 0
    assert (tmp_path / "made").read_text(encoding="utf-8") == 'one\ntwo "$HOME"\n'
    assert run(step, setup="false\ntrue").returncode != 0


def test_documentation_has_inputs_that_exist():
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(b) for b in re.findall(r"```yaml\n(.*?)```", page, re.S)]
    jobs = [job for block in blocks for job in block["jobs"].values()]
    assert jobs
    for job in jobs:
        assert ".github/workflows/conformance.yml@" in job["uses"]
        assert set(job["with"]) <= set(INPUTS)
        assert {name for name, spec in INPUTS.items() if spec.get("required")} <= set(job["with"])
