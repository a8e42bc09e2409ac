"""Results as the formats for findings see them, whichever command they come from: checkpoints with findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

from rora_cli.results.check import CheckedCheckpoint, CheckResult
from rora_cli.results.diagnose import DiagnoseResult, Diagnosis
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.hunt import HuntResult
from rora_cli.results.openings import REPLIES
from rora_cli.results.power import POWER

#: The results that the formats for findings (SARIF, JUnit, Markdown, HTML) can render.
Findable = DiagnoseResult | CheckResult | HuntResult

#: Endings by which a finding's location is a file, and not the name of a tensor or module.
_ENDINGS = (".json", ".safetensors", ".jinja", ".bin", ".py", ".txt")
_CONFIGS = ("adapter_config.json", "config.json")


@dataclass(frozen=True)
class Subject:
    """One checkpoint of a result, with its findings.

    ``problems`` maps each thing that could not be analysed to the reason; ``cases`` are the things that were examined,
    mostly modules. ``weights`` is the file with the tensors, and ``files`` are the names of the inspected files, if
    known.
    """

    path: str
    findings: tuple[Finding, ...]
    problems: Mapping[str, str]
    cases: tuple[str, ...] = ()
    weights: str = "adapter_model.safetensors"
    files: tuple[str, ...] = ()

    @property
    def is_file(self) -> bool:
        """Whether ``path`` is a single file; then other inspected files lie in its folder."""
        return PurePath(self.path).name in self.files or PurePath(self.path).suffix == ".safetensors"

    @property
    def folder(self) -> str:
        """The folder to which the names of files are relative."""
        return PurePath(self.path).parent.as_posix() if self.is_file else PurePath(self.path).as_posix()

    def file(self, finding: Finding) -> str:
        """The file that a finding is about, relative to ``folder``.

        This is the finding's location if that is a file, the weights for a tensor or module, and else the config.
        """
        place, stated = finding.location or "", finding.evidence.get("file")
        if place in self.files or (place.endswith(_ENDINGS) and "/" not in place):
            return place
        if isinstance(stated, str) and stated in self.files:
            return stated
        own = PurePath(self.path).name if self.is_file else ""
        config = next((n for n in _CONFIGS if n in self.files), "") if not finding.location else ""
        return own or config or self.weights or (self.files[0] if self.files else "")


def subjects(result: Findable) -> list[Subject]:
    """The checkpoints that ``result`` is about, each with its findings; a hunt is about one."""
    if isinstance(result, DiagnoseResult):
        return [
            Subject(
                path=d.path,
                findings=d.findings,
                problems={d.path: d.error} if d.error is not None else d.unmeasured,
                cases=tuple(m.name for m in d.modules),
                files=d.files,
                weights=d.files[0] if d.files else "adapter_model.safetensors",
            )
            for d in result.adapters
        ]
    if isinstance(result, CheckResult):
        return [
            Subject(
                c.path,
                c.findings,
                {f.location or f.rule_id: f.message for f in c.findings if f.not_analysed},
                files=tuple(c.inventory),
                weights=next(iter(c.weight_files), ""),
            )
            for c in result.checkpoints
        ]
    problems = {label.target_label: label.reason for label in result.labels if label.reason is not None}
    if result.power is not None and result.power.reason is not None:
        problems[POWER] = result.power.reason
    findings = tuple(finding for finding in result.findings if finding.location not in problems)
    cases = tuple(label.target_label for label in result.labels if label.reason is None)
    if (free := result.openings) is not None:
        problems |= {REPLIES: free.reason} if free.reason is not None else {}
        cases += (REPLIES,) if free.verdict == "nothing" else ()
    return [Subject(result.model, findings, problems, cases, weights="")]


Examined = TypeVar("Examined", Diagnosis, CheckedCheckpoint)


def worst_first(examined: Iterable[Examined]) -> list[Examined]:
    """What was examined, by its worst finding; what could not be read, or not whole, before others of that severity."""

    def key(one: Diagnosis | CheckedCheckpoint) -> tuple[int, bool]:
        if isinstance(one, Diagnosis) and one.error is not None:
            return Severity.MEDIUM, True  # as high as what says that a part was not analysed
        unread = bool(one.unreadable) if isinstance(one, CheckedCheckpoint) else not one.is_complete
        return -1 if one.worst is None else one.worst, unread

    return sorted(examined, key=key, reverse=True)


def rules(result: Findable) -> dict[str, str]:
    """Rule id to its one-line meaning, for the rules that the findings name."""
    found = [finding for subject in subjects(result) for finding in subject.findings]
    return {f.rule_id: result.rules.get(f.rule_id, f.message) for f in sorted(found, key=lambda f: f.rule_id)}
