"""JUnit XML: a suite for each checkpoint, a case for each module, and one for each rule of other findings."""

from __future__ import annotations

from xml.etree import ElementTree

from rora_cli.reports.subjects import Findable, Subject, subjects
from rora_cli.reports.text import safe
from rora_cli.results.findings import Finding, Severity


def render(result: Findable) -> str:
    """The XML. Findings of medium or high severity fail their case, other findings are output of their case.

    Anything that could not be analysed is an error.
    """
    suites = ElementTree.Element("testsuites", name="rora")
    for subject in subjects(result):
        _suite(suites, subject)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode")


def _suite(suites: ElementTree.Element, subject: Subject) -> None:
    located: dict[str, list[Finding]] = {}
    for finding in subject.findings:
        is_case = finding.location in subject.cases
        located.setdefault(finding.location if is_case and finding.location else finding.rule_id, []).append(finding)
    names = [*subject.cases, *(name for name in located if name not in subject.cases)]
    names = names or ([] if subject.problems else ["nothing found"])
    failed = {name for name, found in located.items() if any(f.severity >= Severity.MEDIUM for f in found)}
    suite = ElementTree.SubElement(
        suites,
        "testsuite",
        name=safe(subject.path),
        tests=str(len(names) + len(subject.problems)),
        failures=str(len(failed)),
        errors=str(len(subject.problems)),
    )
    for name in names:
        case = ElementTree.SubElement(suite, "testcase", classname=safe(subject.path), name=safe(name))
        for finding in located.get(name, ()):
            text = f"{finding.rule_id}: {safe(finding.message, max_length=2000)}"
            if finding.severity >= Severity.MEDIUM:
                ElementTree.SubElement(case, "failure", type=finding.rule_id, message=text)
            else:
                ElementTree.SubElement(case, "system-out").text = text
    for what, why in subject.problems.items():
        case = ElementTree.SubElement(suite, "testcase", classname=safe(subject.path), name=safe(what))
        ElementTree.SubElement(case, "error", type="not-analysed", message=safe(why, max_length=1000))
