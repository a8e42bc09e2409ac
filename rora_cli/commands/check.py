"""``rora check``: the preflight alone. Reads headers and JSON; imports no torch and loads nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from rora_cli.checkpoints.beside_base import with_base
from rora_cli.checkpoints.preflight import Inspection, compare_tokenizers, inspect
from rora_cli.checkpoints.rules import RULES
from rora_cli.commands.memory import says_what_fits
from rora_cli.errors import ExitCode, UsageError
from rora_cli.progress import SILENT, Progress
from rora_cli.results.check import CheckedCheckpoint, CheckResult
from rora_cli.results.findings import Severity
from rora_cli.results.provenance import Provenance, library_versions

SCHEMA_VERSION = 1
FAIL_ON = {"none": None, "low": Severity.LOW, "medium": Severity.MEDIUM, "high": Severity.HIGH}


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """``paths``: model or adapter directories, or single adapter files; ``auto`` guesses the role from the files.

    ``base``: the directory of a trusted base model, whose tokenizer and chat template theirs are compared with.
    """

    paths: tuple[str, ...]
    base: str | None = None
    role: Literal["auto", "model", "adapter"] = "auto"
    fail_on: str = "medium"

    def __post_init__(self) -> None:
        if not self.paths:
            raise UsageError("no path is given; name at least one model or adapter directory")
        if self.fail_on not in FAIL_ON:
            raise UsageError(f"--fail-on is {self.fail_on!r}; use one of {', '.join(FAIL_ON)}")
        if self.role not in ("auto", "model", "adapter"):
            raise UsageError(f"--role is {self.role!r}; use auto, model or adapter")


@says_what_fits
def run(config: CheckConfig, progress: Progress = SILENT) -> CheckResult:
    """Inspect every path.

    Raises:
        CheckpointError: one of the paths is missing, empty, or no checkpoint at all.
    """
    base = inspect(config.base, role="model") if config.base is not None else None
    checkpoints = []
    with progress.phase("Reading headers", total=len(config.paths)) as task:
        for path in config.paths:
            inspection = inspect(Path(path), role=config.role)
            if base is not None:
                inspection = with_base(inspection, base)
                compared = compare_tokenizers(inspection, base)
                inspection = replace(inspection, findings=(*inspection.findings, *compared))
            checkpoints.append(_summary(inspection, path))
            task.advance()
    provenance = Provenance(
        command="check",
        versions=library_versions(),
        config={**asdict(config), "paths": list(config.paths)},
    )
    findings = tuple(f for checkpoint in checkpoints for f in checkpoint.findings)
    meanings = {rule: RULES[rule].meaning for rule in sorted({f.rule_id for f in findings})}
    return CheckResult(SCHEMA_VERSION, provenance, tuple(checkpoints), findings, meanings)


def exit_code(result: CheckResult, fail_on: str) -> ExitCode:
    """3 where something could not be analysed, 1 for findings at or above the threshold, else 0."""
    if not result.is_complete:
        return ExitCode.INCONCLUSIVE
    threshold = FAIL_ON[fail_on]
    failed = threshold is not None and result.worst is not None and result.worst >= threshold
    return ExitCode.FINDINGS if failed else ExitCode.OK


def _summary(inspection: Inspection, path: str) -> CheckedCheckpoint:
    tensors = inspection.tensors.values()
    kinds = inspection.roles.values() if inspection.role == "adapter" else ["weight"] * len(tensors)
    return CheckedCheckpoint(
        path=path,
        role=inspection.role,
        files=len(inspection.files),
        tensors=len(tensors),
        parameters=sum(t.elements for t in tensors),
        bytes=inspection.bytes_of_tensors,
        dtypes=dict(sorted(Counter(t.dtype for t in tensors).items())),
        tensors_by_kind=dict(sorted(Counter(kinds).items())),
        unreadable=tuple(f.location or f.message for f in inspection.unreadable),
        loadable=not any(f.blocking for f in inspection.findings),
        findings=inspection.findings,
    )
