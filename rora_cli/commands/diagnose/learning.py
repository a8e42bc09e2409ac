"""Learns a calibration from adapters that the user trusts, and keeps it in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rora_cli.checkpoints.preflight import Inspection, inspect
from rora_cli.commands.diagnose.calibration import (
    FILE_NAME,
    LEAST_ADAPTERS,
    Calibration,
    Range,
    base_fingerprint,
    from_json,
    statistics,
)
from rora_cli.commands.diagnose.config import DiagnoseConfig
from rora_cli.errors import CheckpointError, OutputError, UsageError
from rora_cli.files import publish_file
from rora_cli.progress import Progress
from rora_cli.spectral.robust import median_and_mad


def load_or_learn(path: Path, config: DiagnoseConfig, base: Inspection | None, progress: Progress) -> Calibration:
    """The calibration in the file ``path``, or the one learned from the adapters in the directory ``path``.

    A learned calibration is stored beside the adapters, and used again until the adapters, the base or k change. Raises
    UsageError for too few adapters or a file for another base, and CheckpointError for a malformed file.
    """
    fingerprint = base_fingerprint(base)
    if path.is_file():
        known = from_json(path)
        if (known.base, known.top_k) != (fingerprint, config.top_k):
            raise UsageError(
                f"--calibrate {path} was made with another --base or --top-k; make it anew from its directory"
            )
        return known
    if not path.is_dir():
        raise UsageError(f"--calibrate {path} is neither a directory of adapters nor a calibration file")
    members = [child for child in sorted(path.iterdir()) if child.is_dir() or child.suffix == ".safetensors"]
    if len(members) < LEAST_ADAPTERS:
        raise UsageError(f"--calibrate {path} holds {len(members)} adapters; at least {LEAST_ADAPTERS} are needed")
    inspections = {child.name: inspect(child, role="adapter") for child in members}
    inputs = {f"{name}/{f}": digest for name, i in inspections.items() for f, digest in i.hashes().items()}
    stored = path / FILE_NAME
    if stored.is_file():
        known = from_json(stored)
        if (known.base, known.top_k, dict(known.inputs)) == (fingerprint, config.top_k, inputs):
            return known
    learned = _learn(inspections, config, base, fingerprint, inputs, progress)
    try:
        publish_file(stored, learned.to_json())
    except OutputError as error:
        progress.warn(f"the calibration was not stored: {error}")
    return learned


def _learn(
    inspections: Mapping[str, Inspection],
    config: DiagnoseConfig,
    base: Inspection | None,
    fingerprint: str,
    inputs: Mapping[str, str],
    progress: Progress,
) -> Calibration:
    from rora_cli.commands.diagnose.subject import diagnose_subject

    values: dict[str, dict[str, list[float]]] = {}
    plain = replace(config, calibrate=None, intruders=False)
    with progress.phase("calibrate", total=len(inspections)) as task:
        for name, inspection in inspections.items():
            diagnosis = diagnose_subject(name, inspection, base, plain)
            if not diagnosis.is_complete:
                raise CheckpointError(f"{name} of the known-good adapters could not be analysed in full: leave it out.")
            for m in diagnosis.modules:
                for statistic, value in statistics(m).items():
                    values.setdefault(m.kind or "", {}).setdefault(statistic, []).append(value)
            task.advance()
    ranges = {kind: {name: _range(v) for name, v in known.items()} for kind, known in sorted(values.items())}
    return Calibration(fingerprint, config.top_k, len(inspections), inputs, ranges)


def _range(values: Sequence[float]) -> Range:
    return Range(min(values), max(values), *median_and_mad(values))
