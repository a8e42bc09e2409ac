"""SARIF 2.1.0 for code scanning: a plain document, checked in the tests against the official schema."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rora_cli.reports.json_report import plain
from rora_cli.reports.subjects import Findable, Subject, rules, subjects
from rora_cli.reports.text import safe
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.provenance import documentation_url

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ABOUT = "https://arxiv.org/abs/2601.06305"
#: Pages about what the rules of an area look at, for where the address of rora's own pages is not known.
_SUBJECTS = {
    "adapter": "https://huggingface.co/docs/peft/developer_guides/checkpoint",
    "config": "https://huggingface.co/docs/transformers/custom_models",
    "file": "https://huggingface.co/docs/hub/security-pickle",
    "model": "https://huggingface.co/docs/transformers/custom_models",
    "tensor": "https://huggingface.co/docs/safetensors/index",
    "tokenizer": "https://huggingface.co/docs/transformers/chat_templating",
    "weights": "https://huggingface.co/docs/safetensors/index",
}
_LEVELS = {Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "note", Severity.INFO: "note"}
#: Severity -> security-severity, which GitHub reads like CVSS: above 7 is high, above 4 medium.
_SCORES = {Severity.HIGH: "8.0", Severity.MEDIUM: "5.0", Severity.LOW: "2.0", Severity.INFO: "0.0"}
#: Largest number of results in a run that code scanning keeps; it refuses a run with 25,000.
_MAX_RESULTS = 5000


def render(result: Findable) -> str:
    """The result's findings as one SARIF run; its invocation has notifications about what could not be analysed."""
    meanings = rules(result)
    pairs = [(subject, finding) for subject in subjects(result) for finding in subject.findings]
    pairs.sort(key=lambda pair: -pair[1].severity)
    index = {rule: i for i, rule in enumerate(meanings)}
    worst = {rule: max(f.severity for _, f in pairs if f.rule_id == rule) for rule in meanings}
    roots, pages = _Roots(result), documentation_url()
    run = {
        "tool": {
            "driver": {
                "name": "rora",
                "informationUri": _ABOUT,
                "semanticVersion": str(result.provenance.versions.get("rora", "0.0.0")),
                "rules": [_rule(rule, meaning, worst[rule], pages) for rule, meaning in meanings.items()],
            }
        },
        "invocations": [_invocation(result, len(pairs), roots)],
        "results": [_result(subject, finding, index, roots) for subject, finding in pairs[:_MAX_RESULTS]],
    }
    run["originalUriBaseIds"] = roots.bases()
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(rule: str, meaning: str, worst: Severity, pages: str) -> dict[str, Any]:
    area = rule.partition("/")[0]
    return {
        "id": rule,
        "helpUri": f"{pages}/rules.html#{area}" if pages else _SUBJECTS.get(area, _ABOUT),
        "name": "".join(part.capitalize() for part in rule.replace("/", "-").split("-")),
        "shortDescription": {"text": safe(meaning, max_length=1000)},
        "help": {"text": f"{safe(meaning, max_length=1000)} More: `rora rules {rule}`."},
        "defaultConfiguration": {"level": _LEVELS[worst]},
        "properties": {"security-severity": _SCORES[worst], "tags": ["security", area]},
    }


def _result(subject: Subject, finding: Finding, index: Mapping[str, int], roots: _Roots) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": roots.location(subject, subject.file(finding)),
            "region": {"startLine": 1},
        }
    }
    if finding.location:
        location["logicalLocations"] = [{"fullyQualifiedName": safe(finding.location), "kind": "module"}]
    message = safe(finding.message, max_length=2000)
    if finding.advice:
        message = f"{message.rstrip('.')}. What to do: {safe(finding.advice, max_length=1000)}."
    identity = f"{finding.rule_id}\0{finding.location or ''}\0{subject.path}".encode(errors="replace")
    accepted = {"suppressions": [{"kind": "external", "justification": finding.accepted}]} if finding.accepted else {}
    return {
        **accepted,
        "ruleId": finding.rule_id,
        "ruleIndex": index[finding.rule_id],
        "level": _LEVELS[finding.severity],
        "message": {"text": message},
        "locations": [location],
        "partialFingerprints": {"ruleModuleAndCheckpoint/v1": hashlib.sha256(identity).hexdigest()},
        "properties": {"severity": finding.severity.label, "evidence": plain(finding.evidence)},
    }


def _invocation(result: Findable, found: int, roots: _Roots) -> dict[str, Any]:
    problems = [(s, what, why) for s in subjects(result) for what, why in s.problems.items()]
    notifications = [
        {
            "level": "error",
            "message": {"text": f"not analysed: {safe(what)}: {safe(why, max_length=1000)}"},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": roots.location(subject, what if what in subject.files else "")
                    }
                }
            ],
        }
        for subject, what, why in problems[:_MAX_RESULTS]
    ]
    if found > _MAX_RESULTS:
        text = f"{found - _MAX_RESULTS} findings of the lowest severity were left out of this file"
        notifications.append({"level": "warning", "message": {"text": text}})
    return {"executionSuccessful": not problems, "toolExecutionNotifications": notifications}


class _Roots:
    """The bases of a run's relative URIs.

    A checkpoint inside of the working directory is relative to that, which code scanning takes for the repository. Any
    other one is relative to its own folder, or to its commit on the hub.
    """

    def __init__(self, result: Findable) -> None:
        self._here = Path.cwd()
        self._commits: Mapping[str, str] = result.provenance.config.get("commits") or {}
        self._bases: dict[str, str] = {"%SRCROOT%": _directory_uri(self._here)}

    def bases(self) -> dict[str, dict[str, str]]:
        return {name: {"uri": uri} for name, uri in self._bases.items()}

    def location(self, subject: Subject, file: str) -> dict[str, str]:
        """The artifactLocation of ``file``, a name relative to the subject's folder; of the folder if it is empty."""
        if subject.path in self._commits:
            base = f"https://huggingface.co/{_quoted(subject.path)}/blob/{_quoted(self._commits[subject.path])}/"
            return {"uri": _quoted(file) or ".", "uriBaseId": self._named("HUB", base)}
        folder = Path(os.path.normpath(self._here / subject.folder))
        if folder.is_relative_to(self._here):
            relative = folder.relative_to(self._here).as_posix()
            return {
                "uri": _quoted("/".join(p for p in (relative, file) if p not in ("", "."))) or ".",
                "uriBaseId": "%SRCROOT%",
            }
        return {"uri": _quoted(file) or ".", "uriBaseId": self._named("CHECKPOINT", _directory_uri(folder))}

    def _named(self, kind: str, uri: str) -> str:
        """The id of the base ``uri``; a new id if it has none yet."""
        name = next((name for name, known in self._bases.items() if known == uri), None)
        if name is None:
            name = f"{kind}{sum(n.startswith(kind) for n in self._bases) + 1}"
            self._bases[name] = uri
        return name


def _directory_uri(folder: Path) -> str:
    return f"file://{_quoted(folder.as_posix()).rstrip('/')}/"


def _quoted(path: str) -> str:
    return quote(safe(path, max_length=1000), safe="/-._~")
