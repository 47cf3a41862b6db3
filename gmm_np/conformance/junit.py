"""A report as JUnit XML, by the schema that Jenkins has (junit-10.xsd), which others read as well.

A family is a suite and a case a test. What the implementation got wrong is a failure, where it
broke down an error, and what it does not support, or fails as expected, is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from xml.etree import ElementTree as ET

from gmm_np.conformance.compare import CaseResult
from gmm_np.conformance.report import FAULTS, Report

__all__ = ["junit_xml"]

#: The element that a status becomes; one that passes has none.
ELEMENTS: Final = {
    "wrong": "failure",
    "xpass": "failure",
    "crash": "error",
    "garbage": "error",
    "timeout": "error",
    "not_run": "error",
    "unsupported": "skipped",
    "xfail": "skipped",
}
# What XML 1.0 has no characters for, written in any way: a tool's stderr may have it.
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(report: Report) -> bytes:
    """Return a report as a document of JUnit XML, in UTF-8."""
    root = ET.Element("testsuites", _totals(report.cases, report) | {"name": "gmm_np"})
    del root.attrib["skipped"]  # which only a suite has
    for family in report.families:
        attributes = {"name": family.name} | _totals(family.cases, report)
        suite = ET.SubElement(root, "testsuite", attributes)
        properties = ET.SubElement(suite, "properties")
        for name, value in (("adapter", report.adapter), ("policy", report.policy)):
            ET.SubElement(properties, "property", name=name, value=_text(value))
        for case in family.cases:
            _add_case(suite, family.name, case, report)
    ET.indent(root, " ")
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _totals(cases: Iterable[CaseResult], report: Report) -> dict[str, str]:
    cases = list(cases)
    found = [ELEMENTS.get(case.status) for case in cases]
    return {
        "tests": str(len(cases)),
        "failures": str(found.count("failure")),
        "errors": str(found.count("error")),
        "skipped": str(found.count("skipped")),
        "time": _seconds(sum(report.seconds.get(case.id, 0.0) for case in cases)),
    }


def _add_case(suite: ET.Element, family: str, case: CaseResult, report: Report) -> None:
    time = _seconds(report.seconds.get(case.id, 0.0))
    test = ET.SubElement(
        suite, "testcase", classname=f"gmm_np.conformance.{family}", name=case.id, time=time
    )
    element = ELEMENTS.get(case.status)
    if element is None:
        return
    kind = case.kind or FAULTS.get(case.status, case.status).lower()
    told = ET.SubElement(test, element, type=kind, message=_text(case.message))
    if case.looks_like:
        told.text = _text(f"looks like {', '.join(case.looks_like)}")


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"
