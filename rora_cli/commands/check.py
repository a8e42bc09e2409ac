"""``rora check``: the preflight alone. Reads headers and JSON, values if asked; imports no torch, loads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Literal

from rora_cli import hub_access
from rora_cli.checkpoints import other_files
from rora_cli.checkpoints.beside_base import with_base
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.layouts import checkpoints_in, checkpoints_named, matched
from rora_cli.checkpoints.preflight import Inspection, compare_tokenizers, inspect
from rora_cli.checkpoints.remote import inspected
from rora_cli.checkpoints.rules import RULES, finding
from rora_cli.checkpoints.unpacking import is_archive, unpacked
from rora_cli.checkpoints.values import value_findings
from rora_cli.commands.gate import Gate
from rora_cli.commands.memory import says_what_fits
from rora_cli.errors import CheckpointError, ExitCode, UsageError
from rora_cli.option_groups import HubOptions, SeverityGate
from rora_cli.options import Option
from rora_cli.progress import SILENT, Progress
from rora_cli.results.check import SCHEMA_VERSION, CheckedCheckpoint, CheckResult
from rora_cli.results.findings import Finding
from rora_cli.results.provenance import Provenance, library_versions
from rora_cli.results.verdict import decide, failing

ROLES = ("auto", "model", "adapter")


@dataclass(frozen=True, kw_only=True)
class CheckConfig(SeverityGate, HubOptions):
    """What to inspect."""

    paths: Annotated[
        tuple[str, ...],
        Option(
            "Model or adapter directories or directories of them, single files of either, quoted patterns, a model's "
            "folder in the hub's cache, archives (.zip, .tar, .tar.gz, ...), or hub ids (owner/name), of which headers "
            "alone are fetched.",
            metavar="PATH",
            argument=True,
        ),
    ]
    base: Annotated[
        str | None, Option("A trusted base model: tokenizers and chat templates are compared.", metavar="MODEL")
    ] = None
    role: Annotated[
        Literal["auto", "model", "adapter"], Option("What the paths are; auto tells it by their files.", choices=ROLES)
    ] = "auto"
    ignore: Annotated[
        tuple[str, ...],
        Option(
            "A rule whose findings do not count (`rora rules` lists them), or files that need not be analysed, by "
            "their relative names (*.gguf). Repeatable.",
            metavar="RULE|PATTERN",
        ),
    ] = ()
    values: Annotated[
        bool,
        Option(
            "Read the values of all tensors too, for NaN and infinity, as fast as the disk gives them.", ("--values",)
        ),
    ] = False
    hashes: Annotated[
        bool, Option("The sha256 of every file in the report, which reads them whole.", ("--hashes",))
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.paths:
            raise UsageError("no path is given; name at least one model or adapter directory")


class Opened:
    """The checkpoints of one run; ``commits`` maps those on the hub to their commits."""

    def __init__(self, config: CheckConfig, kept: ExitStack) -> None:
        self.commits: dict[str, str] = {}
        self._config, self._kept = config, kept
        self._unpacked: dict[str, tuple[Path, list[Finding]]] = {}

    def checkpoints(self, path: str) -> list[str]:
        """The checkpoints that ``path`` means, as reports name them; those of an archive are unpacked.

        Raises CheckpointError for an archive of which nothing can be unpacked.
        """
        if not is_archive(Path(path)):
            return checkpoints_named(path)
        root, found = self._kept.enter_context(unpacked(Path(path)))
        named = []
        for checkpoint in checkpoints_in(root):
            inside = checkpoint.relative_to(root).as_posix()
            named.append(path if inside == "." else f"{path}/{inside}")
            self._unpacked[named[-1]] = checkpoint, found if len(named) == 1 else []
        return named

    def inspect(self, name: str, role: Literal["auto", "model", "adapter"]) -> Inspection:
        """The inspection of a path, or of a hub id; a path that exists is one.

        Raises CheckpointError; HubError for a hub id.
        """
        if name in self._unpacked:
            place, found = self._unpacked[name]
            inspection = inspect(place, role=role, any_file=True)
            return replace(inspection, findings=(*found, *inspection.findings))
        if Path(name).exists() or "/" not in name or not hub_access.is_repo_id(name):
            return inspect(Path(name), role=role, any_file=role == self._config.role)
        revision = self._config.revision if name != self._config.base else None
        if self._config.offline or hub_access.is_offline():
            snapshot = hub_access.cached(name, "model", revision)
            if snapshot is None:
                raise CheckpointError(
                    f"there is nothing at {quoted(name, 300)} nor in the hub's cache, and the hub is not to be asked; "
                    "name a model or adapter directory"
                )
            self.commits[name] = snapshot.commit
            return inspect(snapshot.path, role=role)
        if self._config.values or self._config.hashes:
            asked = "--values" if self._config.values else "--hashes"
            raise UsageError(f"{asked} reads files as a whole, and {name} is on the hub: download it first")
        repository = hub_access.look_into(name, revision)
        self.commits[name] = repository.commit
        return self._kept.enter_context(inspected(repository, None if role == "auto" else role))


@says_what_fits
def run(config: CheckConfig, progress: Progress = SILENT) -> CheckResult:
    """Inspect every path.

    Raises:
        CheckpointError: one of the paths is missing, empty, or no checkpoint at all.
        HubError: the hub does not have it, or does not answer.
    """
    gate = Gate.of(config, rules=RULES, files=True)
    with ExitStack() as kept:
        return _run(config, gate, Opened(config, kept), progress)


def _run(config: CheckConfig, gate: Gate, opened: Opened, progress: Progress) -> CheckResult:
    base = opened.inspect(config.base, "model") if config.base is not None else None
    checkpoints: list[tuple[str, Inspection]] = []
    paths = list(dict.fromkeys(name for path in matched(config.paths) for name in opened.checkpoints(path)))
    with progress.phase("Reading headers", total=len(paths)) as task:
        for path in paths:
            inspection = opened.inspect(path, config.role)
            if base is not None:
                if not opened.commits.keys() & {path, config.base}:  # values are read of local files alone
                    inspection = with_base(inspection, base)
                compared = compare_tokenizers(inspection, base)
                inspection = replace(inspection, findings=(*inspection.findings, *compared))
            checkpoints.append((path, inspection))
            task.advance()
    if config.values:
        checkpoints = [(path, _with_values(inspection, path, progress)) for path, inspection in checkpoints]
    summaries = tuple(_summary(inspection, path, config, gate) for path, inspection in checkpoints)
    provenance = Provenance(
        command="check",
        versions=library_versions(),
        config={
            **asdict(config),
            "paths": list(config.paths),
            "ignore": list(config.ignore),
            "commits": opened.commits,
        },
    )
    findings = tuple(f for checkpoint in summaries for f in checkpoint.findings)
    meanings = {rule: RULES[rule].meaning for rule in sorted({f.rule_id for f in findings})}
    return CheckResult(SCHEMA_VERSION, provenance, summaries, findings, meanings)


def exit_code(result: CheckResult, fail_on: str) -> ExitCode:
    """1 for findings at or above the threshold, else 3 where something could not be analysed, else 0."""
    return decide(failed=bool(failing(result.findings, fail_on)), complete=result.is_complete)


def _without_ignored(findings: Iterable[Finding], patterns: Sequence[str]) -> Iterator[Finding]:
    """The findings, those of files that need not be analysed replaced by one that names them."""
    ignored = []
    for found in findings:
        if found.rule_id == "file/not-analysed" and any(fnmatch(found.location or "", p) for p in patterns):
            ignored.append(found.location or "")
        else:
            yield found
    if ignored:
        shown = ", ".join(quoted(name) for name in ignored[:5]) + (", ..." if len(ignored) > 5 else "")
        yield finding("file/ignored", f"not analysed, and ignored as asked: {shown}", files=ignored[:100])


def _inventory(inspection: Inspection) -> dict[str, str]:
    """What was done with every file, by its name."""
    unread = {f.location for f in inspection.findings if f.not_analysed}
    unread |= {name for f in inspection.findings if f.rule_id == "file/ignored" for name in f.evidence["files"]}
    states = {"harmless": "harmless by its name, not read", "code": "program code, not run", "other": "text, not read"}
    return {
        name: "not analysed"
        if name in unread
        else "empty"
        if not entry.size
        else states.get(other_files.kind(name), "analysed")
        for name, entry in inspection.files.items()
    }


def _with_values(inspection: Inspection, path: str, progress: Progress) -> Inspection:
    """The inspection, with what the values of its tensors show."""
    done = 0
    with progress.phase(f"Reading values [MiB] of {path}", total=inspection.bytes_of_tensors >> 20) as task:

        def advance(size: int) -> None:
            nonlocal done
            before, done = done >> 20, done + size
            task.advance((done >> 20) - before)

        found = tuple(value_findings(inspection, advance))
    return replace(inspection, findings=(*inspection.findings, *found))


def _summary(inspection: Inspection, path: str, config: CheckConfig, gate: Gate) -> CheckedCheckpoint:
    findings = gate.settle(path, _without_ignored(inspection.findings, config.ignore))
    inspection = replace(inspection, findings=findings)
    tensors = inspection.tensors.values()
    kinds = inspection.roles.values() if inspection.role == "adapter" else ["weight"] * len(tensors)
    return CheckedCheckpoint(
        path=path,
        role=inspection.role,
        files=len(inspection.files),
        inventory=_inventory(inspection),
        weight_files=inspection.weight_files,
        tensors=len(tensors),
        parameters=sum(t.elements for t in tensors),
        bytes=inspection.bytes_of_tensors,
        dtypes=dict(sorted(Counter(t.dtype for t in tensors).items())),
        tensors_by_kind=dict(sorted(Counter(kinds).items())),
        unreadable=tuple(f.location or f.message for f in inspection.unreadable),
        loadable=not any(f.blocking for f in inspection.findings),
        findings=inspection.findings,
        values_read=config.values,
        sha256=inspection.hashes(of_all=True) if config.hashes else {},
    )
