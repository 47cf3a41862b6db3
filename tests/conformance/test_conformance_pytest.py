"""The plugin of pytest: a test for each case, chosen, skipped, expected to fail, and reported."""

import functools
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from gmm_np.conformance import diagnosis, runner, worker
from gmm_np.conformance.adapters.gmm_np import reference
from gmm_np.conformance.cases import read_family

# Runs in this process forget what they import, and NumPy does not let itself be loaded twice.
LOADED = (diagnosis, runner, worker, reference)

# Each run reads all files anew, which is most of its time.
READ_ONCE = functools.cache(read_family)

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
# A function that is right but for one case of the family: the one with a single component.
MINE = """\
import warnings
from gmm_np.conformance.adapters.gmm_np import reference

def nll(x, logits, means, chol):
    warnings.warn("computing", RuntimeWarning)
    value, *gradients = reference(x, logits, means, chol)
    return value, *gradients

def doubled(x, logits, means, chol):
    value, *gradients = nll(x, logits, means, chol)
    return value * (2 if len(x) == 1 else 1), *gradients

def garbage(x, logits, means, chol):
    return 1.0, 2.0
"""
FAMILY = "--gmm-conformance-family"


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest in this process, in a folder with mine.py, and return its result."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("gmm_np.conformance.cases.read_family", READ_ONCE)
    pytester.makepyfile(mine=MINE)

    def run(*options, target="mine:nll"):
        command = ["-p", "pytest_gmm_conformance", f"--gmm-conformance={target}", *options]
        return pytester.runpytest_inprocess(*command)

    return run


def test_each_case_is_a_test_by_its_id(run):
    result = run("-v", "-p", "no:cacheprovider", FAMILY, "one_sample")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["gmm-conformance: mine:nll, policy strict, 6 cases"])
    result.stdout.fnmatch_lines(["*collected 6 items"])
    result.stdout.fnmatch_lines(["gmm-conformance::one_sample-001*PASSED*"])


def test_cases_stand_beside_other_tests_and_can_be_told_apart(run, pytester):
    pytester.makepyfile(test_other="def test_one_sample_of_mine(): pass")
    run(FAMILY, "one_sample").assert_outcomes(passed=7)
    run(FAMILY, "one_sample", "-m", "gmm_conformance").assert_outcomes(passed=6, deselected=1)
    run(FAMILY, "one_sample", "-m", "not gmm_conformance").assert_outcomes(passed=1, deselected=6)


def test_cases_are_chosen_by_name_keyword_and_level(run):
    run(FAMILY, "one_sample", "-k", "002 or 003").assert_outcomes(passed=2, deselected=4)
    run("--gmm-conformance-case", "one_sample-004").assert_outcomes(passed=1)
    result = run(FAMILY, "one_s*", FAMILY, "far_samples", "-k", "lower")
    result.assert_outcomes(passed=6, deselected=10)
    run(FAMILY, "one_sample", "--gmm-conformance-level", "lower").assert_outcomes(passed=6)


def test_wrong_answer_says_what_is_wrong_and_how_to_see_it_again(run):
    result = run(FAMILY, "one_sample", "-k", "001", target="mine:doubled")
    result.assert_outcomes(failed=1, deselected=5)
    result.stdout.fnmatch_lines(
        [
            "nll: 1 of 1 wrong, the worst *",
            "N = 1, *Level: lower.",
            "gmm-np conformance --python mine:doubled --case one_sample-001",
        ]
    )
    assert "runtest" not in result.stdout.str()  # no way through the plugin


def test_wrong_answer_is_named_after_a_mutant(run, pytester):
    text = (
        "import numpy as np\nfrom mine import nll\ndef f(x, *rest):\n    value, *g = nll(x, *rest)"
    )
    pytester.makepyfile(
        other=f"{text}\n    return value - x.shape[1] / 2 * np.log(2 * np.pi), *g\n"
    )
    result = run("--gmm-conformance-case", "dense-001", target="other:f")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["looks like no_log_2pi"])


def test_what_is_not_supported_is_skipped_and_what_is_not_offered_is_no_test(run):
    result = run("-rs", FAMILY, "one_sample", FAMILY, "hvp_dense", FAMILY, "wishart_objective")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] == 6
    assert outcomes["skipped"] >= 1
    result.stdout.fnmatch_lines(["*SKIPPED*no precision parametrization*"])
    assert "hvp_dense" not in result.stdout.str()
    assert run(FAMILY, "hvp_dense").ret == pytest.ExitCode.USAGE_ERROR


def test_expected_failures_are_strict(run, pytester):
    known = pytester.path / "known.txt"
    ids = [f"one_sample-00{i}" for i in range(1, 7)]
    known.write_text("# of N = 1\n" + "\n".join(ids[:5]) + "  # all\n", encoding="utf-8")
    xfail = ["--gmm-conformance-xfail", "known.txt", FAMILY, "one_sample"]
    run(*xfail, target="mine:doubled").assert_outcomes(xfailed=5, failed=1)
    result = run(*xfail, "-rA")
    result.assert_outcomes(failed=5, passed=1)
    result.stdout.fnmatch_lines(["*XPASS(strict)*listed as a failure*"])
    # What is no answer at all was not expected.
    run(*xfail, target="mine:garbage").assert_outcomes(failed=6)


def test_policy_is_that_of_the_runner(run, pytester):
    text = "from mine import nll\ndef f(*a):\n    v, *g = nll(*a)\n    return v * (1 + 1e-14), *g"
    pytester.makepyfile(other=text)
    case = ["--gmm-conformance-case", "one_sample-001"]
    run(*case, target="other:f").assert_outcomes(failed=1)
    run(*case, "--gmm-conformance-policy", "library", target="other:f").assert_outcomes(passed=1)


def test_warning_is_no_refusal_where_warnings_are_errors(run):
    run(FAMILY, "one_sample", "-W", "error").assert_outcomes(passed=6, warnings=6)


@pytest.mark.parametrize(
    ("options", "target", "message"),
    [
        ([], "mine:nothing", "has no attribute 'nothing'"),
        ([], "mine", "package.module:function"),
        ([], "nowhere:nll", "No module named 'nowhere'"),
        ([], "broken:nll", "ZeroDivisionError"),
        ([FAMILY, "nothing"], "mine:nll", "no family or case is called nothing"),
        (["--gmm-conformance-policy", "soft"], "mine:nll", "policy must be one of"),
        (["--gmm-conformance-xfail", "unknown.txt"], "mine:nll", "no case is called dense-999"),
        (["--gmm-conformance-xfail", "none.txt"], "mine:nll", "none.txt"),
        ([FAMILY, "dense"], "", "--gmm-conformance-family needs --gmm-conformance"),
    ],
)
def test_wrong_usage_is_told_before_any_test(run, pytester, options, target, message):
    pytester.makepyfile(broken="1 / 0", test_other="def test(): pass")
    (pytester.path / "unknown.txt").write_text("dense-999\n", encoding="utf-8")
    result = run(*options, target=target)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{message.replace('[', '[[]')}*"])


def test_junit_of_pytest_has_the_cases_and_their_digits(run, pytester):
    run(FAMILY, "one_sample", "--junitxml", "out.xml", target="mine:doubled")
    suite = ET.parse(pytester.path / "out.xml").getroot()[0]
    cases = {(c.get("classname"), c.get("name")): c for c in suite.iter("testcase")}
    assert set(cases) == {("gmm-conformance", f"one_sample-00{i}") for i in range(1, 7)}
    case = cases["gmm-conformance", "one_sample-001"]
    assert "wrong" in case.find("failure").text
    digits = {p.get("name"): float(p.get("value")) for p in case.iter("property")}
    assert set(digits) == {"digits_nll", "digits_logits", "digits_means", "digits_chol"}
    assert digits["digits_means"] > 13 > digits["digits_nll"]


def pytest_in_a_process(pytester, *options):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(pytester.path)}
    done = subprocess.run(
        command, cwd=pytester.path, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_nothing_is_loaded_where_the_option_is_not_given(pytester):
    pytester.makepyfile(
        test_loaded="import sys\ndef test():\n"
        "    assert 'pytest_gmm_conformance' in sys.modules\n"
        "    assert not {'numpy', 'gmm_np'} & set(sys.modules)\n"
    )
    options = ["-p", "pytest_gmm_conformance", "-p", "no:hypothesispytest"]
    assert "1 passed" in pytest_in_a_process(pytester, *options)


@pytest.mark.slow
def test_processes_share_the_cases(pytester):
    pytester.makepyfile(mine=MINE)
    options = ["-p", "pytest_gmm_conformance", "--gmm-conformance=mine:doubled", "-n", "2"]
    printed = pytest_in_a_process(pytester, *options, FAMILY, "one_sample")
    assert "6 failed" in printed
    assert "FAILED gmm-conformance::one_sample-001 - nll: 1 of 1 wrong" in printed
