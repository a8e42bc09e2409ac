"""The command from end to end: from paths to inspections, modules, spectra and findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rora_cli.checkpoints import layouts
from rora_cli.checkpoints.rules import RULES as STRUCTURAL
from rora_cli.commands.diagnose.config import DiagnoseConfig
from rora_cli.commands.gate import Gate
from rora_cli.commands.memory import says_what_fits
from rora_cli.commands.spectral_rules import RULES
from rora_cli.errors import CheckpointError, ExitCode, RoraError
from rora_cli.options import with_units
from rora_cli.progress import SILENT, Progress
from rora_cli.results.diagnose import SCHEMA_VERSION, DiagnoseResult, Diagnosis
from rora_cli.results.provenance import Provenance, library_versions
from rora_cli.results.verdict import decide, failing
from rora_cli.threads import allowed_cores

if TYPE_CHECKING:
    from rora_cli.checkpoints.preflight import Inspection
    from rora_cli.commands.diagnose.calibration import Calibration

_WORTH_A_THREAD = 1 << 22
_One = TypeVar("_One")
_Other = TypeVar("_Other")


@says_what_fits
def run(config: DiagnoseConfig, progress: Progress = SILENT) -> DiagnoseResult:
    """Diagnose every path. Among several, a path that cannot be read is reported and does not stop the others.

    This runs nothing of a checkpoint and builds no model. Raises CheckpointError if the only path or the base cannot be
    read, HubError for the hub, and UsageError for a pattern that matches nothing.
    """
    commits: dict[str, str] = {}
    base, inputs = _base(config, commits)
    calibration = _calibration(config, base, progress)
    targets = list(_expanded(config.paths, models=config.base is not None))
    gate = Gate.of(config, rules={**STRUCTURAL, **RULES})
    alone = len(targets) == 1
    diagnose = partial(
        _diagnose, config=config, base=base, calibration=calibration, alone=alone, commits=commits, gate=gate
    )
    diagnoses: list[Diagnosis] = []
    with progress.phase("diagnose", total=len(targets)) as task:
        for diagnosis, hashes in _mapped(diagnose, targets, config.workers):
            diagnoses.append(diagnosis)
            inputs |= hashes
            task.advance()
    margins = None
    if config.clean is not None and base is not None:
        from rora_cli.commands.diagnose.margins import measure_margins

        margins = measure_margins(config, _inspect(targets[0], config, "adapter", commits), base, progress)
    return DiagnoseResult(
        schema_version=SCHEMA_VERSION,
        provenance=Provenance(
            "diagnose",
            library_versions(),
            with_units(config, {**asdict(config), "commits": commits}),
            config.seed,
            inputs,
        ),
        adapters=tuple(diagnoses),
        base=config.base,
        top_k=config.top_k,
        calibration=str(config.calibrate) if config.calibrate else None,
        conclusion=_conclusion(diagnoses),
        rules=_meanings(diagnoses),
        margins=margins,
    )


def exit_code(result: DiagnoseResult, fail_on: str) -> ExitCode:
    """1 for findings at or above the threshold, else 3 if something could not be analysed, else 0."""
    return decide(failed=bool(failing(result.findings, fail_on)), complete=result.is_complete)


def _mapped(diagnose: partial, targets: list[str], workers: int) -> Iterator[tuple[Diagnosis, dict[str, str]]]:
    if workers == 1 or len(targets) == 1:
        yield from map(diagnose, targets)
        return
    with ThreadPoolExecutor(max_workers=workers) as pool:
        yield from pool.map(diagnose, targets)


def _side_by_side(one: Callable[[], _One], other: Callable[[], _Other], size: int) -> tuple[_One, _Other]:
    """The results of both functions, run at once if there is a second core and ``size`` bytes are worth a thread.

    Hashing releases the interpreter's lock and takes about as long as measuring.
    """
    if size < _WORTH_A_THREAD or allowed_cores() < 2:
        return one(), other()
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = pool.submit(other)
        return one(), pending.result()


def _base(config: DiagnoseConfig, commits: dict[str, str]) -> tuple[Inspection | None, dict[str, str]]:
    if config.base is None:
        return None, {}
    inspection = _inspect(config.base, replace(config, revision=None), "model", commits)
    if any(f.rule_id == "adapter/is-adapter" for f in inspection.findings):
        raise CheckpointError(f"--base {config.base} is an adapter; give the whole model that it was trained on")
    if not inspection.tensors:
        from rora_cli.checkpoints.preflight import require_loadable

        require_loadable(inspection)
    return inspection, {f"base/{name}": digest for name, digest in _config_hashes(inspection).items()}


def _inspect(path: str, config: DiagnoseConfig, role: str, commits: dict[str, str]) -> Inspection:
    """The inspection of a local path or a hub id; ``commits`` gets the commit of the hub id."""
    from rora_cli.checkpoints.hub import fetch_model
    from rora_cli.checkpoints.preflight import inspect

    source = fetch_model(
        path, revision=None if Path(path).exists() else config.revision, allow_download=not config.offline
    )
    if source.commit is not None:
        commits[path] = source.commit
    return inspect(source.path, role=role)  # type: ignore[arg-type]


def _config_hashes(inspection: Inspection) -> dict[str, str]:
    """sha256 of the base's small files; its weights are identified tensor by tensor when they are read."""
    from rora_cli.files import sha256_file

    return {
        n: sha256_file(e.path)
        for n, e in inspection.files.items()
        if n in ("config.json", "model.safetensors.index.json")
    }


def _calibration(config: DiagnoseConfig, base: Inspection | None, progress: Progress) -> Calibration | None:
    if config.calibrate is None:
        return None
    from rora_cli.commands.diagnose.learning import load_or_learn

    return load_or_learn(config.calibrate, config, base, progress)


def _expanded(paths: Iterable[str], *, models: bool) -> Iterator[str]:
    """The paths, and the matches of patterns among them, each once and in order.

    A folder of several checkpoints stands for all of them; for whole models only if ``models`` says that there is a
    base to compare them with.
    """
    found = (name for path in layouts.matched(paths) for name in layouts.checkpoints_named(path, models=models))
    yield from dict.fromkeys(found)


def _diagnose(
    path: str,
    *,
    config: DiagnoseConfig,
    base: Inspection | None,
    calibration: Calibration | None,
    alone: bool,
    commits: dict[str, str],
    gate: Gate,
) -> tuple[Diagnosis, dict[str, str]]:
    from rora_cli.commands.diagnose.subject import diagnose_subject

    try:
        inspection = _inspect(path, config, "auto", commits)
        measure = partial(diagnose_subject, path, inspection, base, config, calibration)
        diagnosis, hashes = _side_by_side(measure, inspection.hashes, inspection.bytes_of_tensors)
        diagnosis = replace(diagnosis, findings=gate.settle(path, diagnosis.findings))
        prefix = "" if alone else f"{path}/"
        return diagnosis, {f"{prefix}{name}": digest for name, digest in hashes.items()}
    except RoraError as error:
        if alone:
            raise
        return Diagnosis(path, error=str(error)), {}


def _conclusion(diagnoses: list[Diagnosis]) -> str:
    """The conclusion in words; spectra alone show neither a backdoor nor its absence."""
    unread = sum(not d.is_complete for d in diagnoses)
    found = max((f.severity for d in diagnoses for f in d.findings if not f.not_analysed), default=None)
    counted = f"{unread} of {len(diagnoses)} could not be analysed in full"
    if found is not None and found.label in ("medium", "high"):
        start = f"anomalous: there are findings of {found.label} severity" + (f", and {counted}" if unread else "")
    elif unread:
        start = f"inconclusive: {counted}"
    else:
        start = "nothing anomalous was found"
    return (
        f"{start}. Spectra alone show neither a backdoor nor its absence; what would settle it is measuring the "
        "model's behaviour: `rora eval-asr` with a suspected trigger, `rora hunt` to search for one."
    )


def _meanings(diagnoses: list[Diagnosis]) -> dict[str, str]:
    used = sorted({finding.rule_id for d in diagnoses for finding in d.findings})
    return {rule: RULES.get(rule) or (STRUCTURAL[rule].meaning if rule in STRUCTURAL else rule) for rule in used}
