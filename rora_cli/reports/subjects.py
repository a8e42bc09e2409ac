"""What the formats for findings need of a result, whichever command it is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from rora_cli.results.findings import Finding


@dataclass(frozen=True)
class Subject:
    """One checkpoint of a result: its ``path``, ``findings``, what it has instead of an analysis (``problems``, by the
    thing that was not analysed), and the ``cases`` that were examined, modules mostly. ``weights`` is the file that a
    finding without a file of its own is in."""

    path: str
    findings: tuple[Finding, ...]
    problems: Mapping[str, str]
    cases: tuple[str, ...] = ()
    weights: str = "adapter_model.safetensors"

    def file(self, finding: Finding) -> str:
        """The file that a finding is in: its location where that names one, else the weights."""
        place = finding.location or ""
        root = PurePath(self.path)
        if root.suffix == ".safetensors":
            return root.as_posix()
        if place.endswith((".json", ".safetensors", ".jinja", ".bin", ".py", ".txt")) and "/" not in place:
            return (root / place).as_posix()
        return (root / self.weights).as_posix()


def subjects(result: Any) -> list[Subject]:
    """The subjects of a result that has ``adapters`` (diagnose), ``checkpoints`` (check) or ``labels`` (hunt), or
    findings alone."""
    if hasattr(result, "adapters"):
        return [
            Subject(
                path=d.path,
                findings=d.findings,
                problems={d.path: d.error} if d.error is not None else d.unmeasured,
                cases=tuple(m.name for m in d.modules),
            )
            for d in result.adapters
        ]
    if hasattr(result, "checkpoints"):
        return [Subject(c.path, c.findings, dict.fromkeys(c.unreadable, "unreadable")) for c in result.checkpoints]
    if hasattr(result, "labels"):
        problems = {label.target_label: label.reason for label in result.labels if label.reason is not None}
        findings = tuple(finding for finding in result.findings if finding.location not in problems)
        cases = tuple(label.target_label for label in result.labels if label.reason is None)
        return [Subject(result.model, findings, problems, cases, weights="")]
    return [Subject(str(getattr(result, "model", "")), tuple(result.findings), {})]


def rules(result: Any) -> dict[str, str]:
    """Rule id to its one-line meaning, for the rules that the findings name."""
    known: Mapping[str, str] = getattr(result, "rules", {}) or {}
    found = [finding for subject in subjects(result) for finding in subject.findings]
    return {f.rule_id: known.get(f.rule_id, f.message) for f in sorted(found, key=lambda f: f.rule_id)}
