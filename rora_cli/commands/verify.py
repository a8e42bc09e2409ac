"""``rora verify``: whether a directory that rora wrote still is what rora wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from rora_cli.checkpoints import strict_json
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.walk import FileEntry, walk
from rora_cli.errors import CheckpointError, ExitCode
from rora_cli.files import MANIFEST_NAME, MANIFEST_SCHEMA_VERSION, sha256_file
from rora_cli.options import Option, Options
from rora_cli.progress import SILENT, Progress
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.provenance import Provenance, library_versions
from rora_cli.results.verify import SCHEMA_VERSION, VerifyResult

_MAX_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(Options):
    """What to verify."""

    path: Annotated[str, Option("A directory that rora wrote.", metavar="DIR", argument=True)]


def run(config: VerifyConfig, progress: Progress = SILENT) -> VerifyResult:
    """Compare every file of ``path`` with the manifest in it.

    The manifest is not signed: it shows damage and careless change. Against somebody who may rewrite it, compare
    ``manifest_sha256`` with a copy from elsewhere (the model card does not change it, since it is inside).

    Raises:
        CheckpointError: no directory, no manifest, or a malformed one.
    """
    root = Path(config.path)
    if not root.is_dir():
        raise CheckpointError(f"{root} is not a directory; name one that rora wrote")
    root = root.resolve()
    recorded = _manifest(root)
    files, findings = walk(root)
    matching = 0
    with progress.phase("Verifying", total=len(recorded)) as task:
        for name, entry in recorded.items():
            problem = _compare(name, entry, files.get(name))
            matching += problem is None
            findings += [problem] if problem else []
            task.advance()
    findings += [
        _finding("verify/extra", Severity.MEDIUM, f"{quoted(name)} is not in the manifest: it was added later", name)
        for name in sorted(set(files) - set(recorded) - {MANIFEST_NAME})
    ]
    provenance = Provenance(command="verify", versions=library_versions(), config={"path": config.path})
    manifest_sha256 = sha256_file(root / MANIFEST_NAME)
    return VerifyResult(SCHEMA_VERSION, provenance, config.path, manifest_sha256, matching, tuple(findings))


def exit_code(result: VerifyResult) -> ExitCode:
    """0 if the directory is intact, else 1."""
    return ExitCode.OK if result.is_intact else ExitCode.FINDINGS


def _manifest(root: Path) -> Mapping[str, Mapping[str, Any]]:
    path = root / MANIFEST_NAME
    if path.is_symlink() or not path.is_file():
        raise CheckpointError(f"{root} has no {MANIFEST_NAME}: rora did not write it, or not to the end")
    if path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise CheckpointError(f"{path} is larger than any manifest that rora writes")
    try:
        document = strict_json.loads(path.read_bytes(), max_values=1_000_000)
        files = dict(_entries(document))
    except (strict_json.JsonError, OSError) as error:
        raise CheckpointError(f"{path} {error}; it cannot be verified") from None
    return files


def _entries(document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(document, dict) or not isinstance(document.get("files"), dict):
        raise strict_json.JsonError("is not a manifest")
    if document.get("schema_version") != MANIFEST_SCHEMA_VERSION:
        raise strict_json.JsonError("is of a version that this rora does not know")
    for name, entry in document["files"].items():
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts:
            raise strict_json.JsonError(f"names {quoted(name)}, which is no file inside the directory")
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("sha256"), str)
            or type(entry.get("size")) is not int
        ):
            raise strict_json.JsonError(f"has a malformed entry for {quoted(name)}")
        yield name, entry


def _compare(name: str, recorded: Mapping[str, Any], found: FileEntry | None) -> Finding | None:
    shown = quoted(name)
    if found is None:
        return _finding("verify/missing", Severity.HIGH, f"{shown} is missing", name)
    try:
        same = found.size == recorded["size"] and sha256_file(found.path) == recorded["sha256"]
    except OSError as error:
        return _finding("verify/unreadable", Severity.HIGH, f"{shown} cannot be read ({error.strerror})", name)
    if same:
        return None
    return _finding("verify/changed", Severity.HIGH, f"{shown} was changed since rora wrote it", name)


def _finding(rule_id: str, severity: Severity, message: str, location: str) -> Finding:
    return Finding(rule_id, severity, message, location, {}, "write the output again, or do not use this copy", True)
