"""SARIF 2.1.0 for code scanning: a plain document, checked in the tests against the official schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from rora_cli.reports.json_report import plain
from rora_cli.reports.subjects import Subject, rules, subjects
from rora_cli.reports.text import safe
from rora_cli.results.findings import Finding, Severity

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "note", Severity.INFO: "note"}
#: GitHub reads security-severity as CVSS does: over 7 is high, over 4 medium.
_SCORES = {Severity.HIGH: "8.0", Severity.MEDIUM: "5.0", Severity.LOW: "2.0", Severity.INFO: "0.0"}
#: Code scanning keeps this many results of a run and refuses 25,000.
_MAX_RESULTS = 5000


def render(result: Any) -> str:
    """The result's findings as one SARIF run; what could not be analysed is a notification of the invocation."""
    meanings = rules(result)
    pairs = [(subject, finding) for subject in subjects(result) for finding in subject.findings]
    pairs.sort(key=lambda pair: -pair[1].severity)
    index = {rule: i for i, rule in enumerate(meanings)}
    worst = {rule: max(f.severity for _, f in pairs if f.rule_id == rule) for rule in meanings}
    run = {
        "tool": {
            "driver": {
                "name": "rora",
                "semanticVersion": str(result.provenance.versions.get("rora", "0.0.0")),
                "rules": [_rule(rule, meaning, worst[rule]) for rule, meaning in meanings.items()],
            }
        },
        "invocations": [_invocation(result, len(pairs))],
        "results": [_result(subject, finding, index) for subject, finding in pairs[:_MAX_RESULTS]],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(rule: str, meaning: str, worst: Severity) -> dict[str, Any]:
    return {
        "id": rule,
        "name": "".join(part.capitalize() for part in rule.replace("/", "-").split("-")),
        "shortDescription": {"text": safe(meaning, max_length=1000)},
        "defaultConfiguration": {"level": _LEVELS[worst]},
        "properties": {"security-severity": _SCORES[worst], "tags": ["security", rule.partition("/")[0]]},
    }


def _result(subject: Subject, finding: Finding, index: Mapping[str, int]) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(subject.file(finding))}, "region": {"startLine": 1}}
    }
    if finding.location:
        location["logicalLocations"] = [{"fullyQualifiedName": safe(finding.location), "kind": "module"}]
    message = safe(finding.message, max_length=2000)
    if finding.advice:
        message = f"{message.rstrip('.')}. What to do: {safe(finding.advice, max_length=500)}."
    identity = f"{finding.rule_id}\0{finding.location or ''}"
    return {
        "ruleId": finding.rule_id,
        "ruleIndex": index[finding.rule_id],
        "level": _LEVELS[finding.severity],
        "message": {"text": message},
        "locations": [location],
        "partialFingerprints": {"ruleAndModule/v1": hashlib.sha256(identity.encode(errors="replace")).hexdigest()},
        "properties": {"severity": finding.severity.label, "evidence": plain(finding.evidence)},
    }


def _invocation(result: Any, found: int) -> dict[str, Any]:
    problems = [(s.path, what, why) for s in subjects(result) for what, why in s.problems.items()]
    notifications = [
        {
            "level": "error",
            "message": {"text": f"not analysed: {safe(what)}: {safe(why, max_length=1000)}"},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(path)}}}],
        }
        for path, what, why in problems[:_MAX_RESULTS]
    ]
    if found > _MAX_RESULTS:
        text = f"{found - _MAX_RESULTS} findings of the lowest severity were left out of this file"
        notifications.append({"level": "warning", "message": {"text": text}})
    return {"executionSuccessful": not problems, "toolExecutionNotifications": notifications}


def _uri(path: str) -> str:
    """A relative path as a URI relative to the repository; an absolute one as a file URI."""
    quoted = quote(safe(path, max_length=1000), safe="/-._~")
    return f"file://{quoted}" if quoted.startswith("/") else quoted.removeprefix("./") or "."
