"""Reports for continuous integration: JUnit XML, and annotations and a summary on GitHub."""

import re
from xml.etree import ElementTree as ET

import pytest

from gmm_np.cli import main
from gmm_np.conformance import read_vectors
from gmm_np.conformance.adapters import gmm_np as own
from gmm_np.conformance.compare import CaseResult
from gmm_np.conformance.diagnosis import Suspect
from gmm_np.conformance.function_adapter import FunctionAdapter
from gmm_np.conformance.github import MOST_ANNOTATIONS, annotation_lines, summary
from gmm_np.conformance.junit import junit_xml
from gmm_np.conformance.report import FamilyResult, Report
from gmm_np.conformance.runner import run_cases

REFERENCE = ["conformance", "--python", "gmm_np.conformance.adapters.gmm_np:reference"]
STATUSES = {
    "pass": None,
    "wrong": "failure",
    "xpass": "failure",
    "crash": "error",
    "garbage": "error",
    "timeout": "error",
    "not_run": "error",
    "unsupported": "skipped",
    "xfail": "skipped",
}
# What junit-10.xsd of Jenkins says: for each element the attributes that it must have, those that
# it may have, and the elements in it, in any order and number.
SCHEMA = {
    "testsuites": ("", "name time tests failures errors", "testsuite"),
    "testsuite": (
        "name tests failures errors",
        "group time skipped timestamp hostname id package file log url",
        "testsuite properties testcase system-out system-err",
    ),
    "properties": ("", "", "property"),
    "property": ("name value", "", ""),
    "testcase": ("name", "time classname group", "skipped error failure system-out system-err"),
    **dict.fromkeys(("skipped", "error", "failure"), ("", "type message", "")),
}
TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")
MIXED = ("skipped", "error", "failure")  # which have text


def check_junit(element):
    """Raise an AssertionError unless an element and all in it are as the schema has them."""
    required, optional, children = (words.split() for words in SCHEMA[element.tag])
    assert set(required) <= set(element.attrib) <= {*required, *optional}, element.tag
    assert all(child.tag in children for child in element), element.tag
    assert element.tag in MIXED or not (element.text or "").strip(), element.tag
    if element.tag in ("testsuite", "testsuites"):
        assert TIME.fullmatch(element.get("time", ""))
    for child in element:
        check_junit(child)


def report_of(*statuses, message="a message", **members):
    cases = [
        CaseResult(f"some-{i:03}", "lower", status, message if status != "pass" else "")
        for i, status in enumerate(statuses, 1)
    ]
    return Report("an adapter", (FamilyResult("some", tuple(cases)),), **members)


# --- JUnit --------------------------------------------------------------------------------------


def test_check_of_the_schema_can_fail():
    for text in (
        "<testsuites skipped='1'/>",
        "<testsuites><testcase name='a'/></testsuites>",
        "<testsuite name='a' tests='1' failures='0'/>",
        "<testsuites time='1 s'/>",
        "<testcase name='a'>text</testcase>",
    ):
        with pytest.raises(AssertionError):
            check_junit(ET.fromstring(text))


def test_every_status_has_its_element_and_is_counted():
    report = report_of(*STATUSES, seconds={"some-001": 1.25, "some-002": 1000.0})
    root = ET.fromstring(junit_xml(report))
    check_junit(root)
    (suite,) = root
    cases = suite.findall("testcase")
    found = [next((child.tag for child in case), None) for case in cases]
    assert found == list(STATUSES.values())
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "9", "failures": "2", "errors": "4", "skipped": "2"}
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("9", "2", "4")
    assert (cases[0].get("time"), suite.get("time")) == ("1.250", "1001.250")
    assert cases[0].get("classname") == "gmm_np.conformance.some"
    assert cases[1][0].get("message") == "a message"


def test_characters_that_xml_does_not_have_are_replaced():
    message = 'stderr: \x1b[31mred\x00 \ud800 <&">\n\t\N{GRINNING FACE}'
    root = ET.fromstring(junit_xml(report_of("crash", message=message)))
    told = root[0].find("testcase")[0].get("message")
    assert told == "stderr: \N{REPLACEMENT CHARACTER}[31mred" + message[16:].replace(
        "\x00", "\N{REPLACEMENT CHARACTER}"
    ).replace("\ud800", "\N{REPLACEMENT CHARACTER}")


def test_run_says_how_long_each_case_took():
    families = read_vectors(names=["one_sample-001"])
    report = run_cases(FunctionAdapter(own.reference), families)
    assert set(report.seconds) == {"one_sample-001"}
    assert 0 < report.seconds["one_sample-001"] < 60


def test_option_writes_junit(tmp_path, capsys):
    out = tmp_path / "junit.xml"
    assert main([*REFERENCE, "--family", "one_sample", "--junit", str(out)]) == 0
    root = ET.fromstring(out.read_bytes())
    check_junit(root)
    assert [suite.get("name") for suite in root] == ["one_sample"]
    assert root.get("tests") == str(len(root[0].findall("testcase")))
    assert float(root.get("time")) > 0
    capsys.readouterr()
    assert main([*REFERENCE, "--junit", str(tmp_path / "none" / "out.xml")]) == 2
    assert "--junit: " in capsys.readouterr().err


# --- GitHub -------------------------------------------------------------------------------------


def test_annotations_are_escaped_and_in_one_line():
    (line,) = annotation_lines(report_of("crash", message="100 %,\r\nat a::b"))
    assert line == "::error title=some-001 (lower)%3A crashed::100 %25,%0D%0Aat a::b"


@pytest.mark.parametrize("faults", [0, MOST_ANNOTATIONS, MOST_ANNOTATIONS + 1, 50])
def test_no_fault_is_dropped_without_a_word(faults):
    report = report_of("pass", *["wrong"] * faults)
    lines = list(annotation_lines(report))
    assert len(lines) == min(faults, MOST_ANNOTATIONS)
    if faults > MOST_ANNOTATIONS:
        assert f"{faults} cases at fault" in lines[-1]
        assert report.summary in lines[-1]


def test_summary_has_all_families_and_faults_and_no_markdown_of_others():
    message = "<b>|x_`y`[z](u)*\nnext"
    suspects = (Suspect("no_log_2pi", "Without | log 2 pi.", 1, 2),)
    page = summary(report_of("pass", "wrong", message=message, suspects=suspects))
    assert "1 of 2 supported cases pass" in page
    assert "Looks like **no_log_2pi**: Without &#124; log 2 pi." in page
    row = next(line for line in page.splitlines() if line.startswith("| some-002"))
    assert row.count("|") == 6
    assert "&lt;b&gt;&#124;x&#95;&#96;y&#96;&#91;z&#93;(u)&#42; next" in row
    assert "| some | 2 |" in page
    assert page.startswith("## ❌")
    assert summary(report_of("pass")).startswith("## ✅")
    long = summary(report_of(*["wrong"] * 5000, message="|" * 10_000))
    assert len(long.encode()) < 2**20  # GitHub's limit
    assert "4900 more" in long


@pytest.mark.parametrize(
    ("environment", "option", "told"),
    [
        ({}, [], False),
        ({"GITHUB_ACTIONS": "true"}, [], True),
        ({"GITHUB_ACTIONS": "true"}, ["--no-github"], False),
        ({}, ["--github"], True),
    ],
)
def test_github_is_told_where_it_runs_or_is_asked_for(
    environment, option, told, monkeypatch, tmp_path, capsys
):
    page = tmp_path / "summary.md"
    page.write_text("before\n", encoding="utf-8")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    for name, value in {**environment, "GITHUB_STEP_SUMMARY": str(page)}.items():
        monkeypatch.setenv(name, value)
    command = ["conformance", "--answers", str(tmp_path), "--family", "zero_diagonal"]
    (tmp_path / "zero_diagonal-001.json").write_text('{"output": {"nll": 1.0}}', encoding="utf-8")
    assert main([*command, *option]) == 4
    lines = capsys.readouterr().out.splitlines()
    errors = [line for line in lines if line.startswith("::error ")]
    assert len(errors) == told
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert ("zero_diagonal-001" in text) == told
