"""What a run leaves behind so that it can go on after an interruption: safetensors and JSON only, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rora_cli.errors import TrainingError
from rora_cli.files import publish_directory, publish_file, sha256_file

_SCHEMA = 1
_JOURNAL = "journal.json"


@dataclass(frozen=True)
class Snapshot:
    """A training stage at one step: named tensors (weights, optimizer moments, random states) and plain numbers."""

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]


class RunState:
    """A directory with a journal of finished steps and one snapshot for each training stage.

    ``fingerprint`` is everything that decides the result (config, hashes of model and data, library versions). A
    directory whose fingerprint differs belongs to another run and is refused, as is one whose files do not have the
    hashes that the journal gives for them.
    """

    def __init__(self, directory: Path, fingerprint: Mapping[str, Any], *, resume: bool) -> None:
        self.directory = directory
        self._journal: dict[str, Any] = {"schema_version": _SCHEMA, "fingerprint": dict(fingerprint), "entries": {}}
        if resume and (directory / _JOURNAL).is_file():
            self._journal = self._read_journal(fingerprint)

    def _read_journal(self, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
        path = self.directory / _JOURNAL
        try:
            journal = json.loads(path.read_text(encoding="utf-8"))
            saved, entries = journal["fingerprint"], journal["entries"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{path} cannot be read as the journal of a run ({type(error).__name__}); delete {self.directory} to "
                "start over"
            ) from error
        wanted = json.loads(json.dumps(dict(fingerprint)))
        if journal.get("schema_version") != _SCHEMA or saved != wanted:
            changed = sorted(k for k in {*saved, *wanted} if saved.get(k) != wanted.get(k)) or ["schema_version"]
            raise TrainingError(
                f"{self.directory} belongs to another run ({', '.join(changed)} differ); start without --resume, or "
                "with the same options, model and data"
            )
        assert isinstance(entries, dict)
        return journal

    @property
    def is_empty(self) -> bool:
        return not self._journal["entries"]

    def recall(self, key: str, compute: Callable[[], Any]) -> Any:
        """The journal's value for ``key``, or ``compute()``, which is then remembered. Values are plain JSON."""
        entries = self._journal["entries"]
        if key not in entries:
            entries[key] = json.loads(json.dumps(compute()))
            self._write_journal()
        return entries[key]

    def load(self, stage: str) -> Snapshot | None:
        """The newest snapshot of a stage, its hashes checked; None where the stage has not begun."""
        entry = self._journal["entries"].get(f"snapshot/{stage}")
        if entry is None:
            return None
        from safetensors.torch import load_file

        path = self.directory / entry["directory"] / "state.safetensors"
        if not path.is_file() or sha256_file(path) != entry["sha256"]:
            raise TrainingError(
                f"{path} is missing or was changed since it was saved; delete {self.directory} to start over"
            )
        return Snapshot(load_file(path), entry["meta"])

    def save(self, stage: str, snapshot: Snapshot) -> None:
        """Replace a stage's snapshot. The journal is switched to the new one only when that is whole on disk."""
        import shutil

        from safetensors.torch import save_file

        old = self._journal["entries"].get(f"snapshot/{stage}")
        name = f"{stage}-{snapshot.meta['step']:08d}"
        self.directory.mkdir(parents=True, exist_ok=True)
        with publish_directory(self.directory / name, force=True) as staging:
            save_file({k: v.contiguous() for k, v in snapshot.tensors.items()}, staging / "state.safetensors")
        self._journal["entries"][f"snapshot/{stage}"] = {
            "directory": name,
            "sha256": sha256_file(self.directory / name / "state.safetensors"),
            "meta": dict(snapshot.meta),
        }
        self._write_journal()
        if old and old["directory"] != name:
            shutil.rmtree(self.directory / old["directory"], ignore_errors=True)

    def _write_journal(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        publish_file(self.directory / _JOURNAL, json.dumps(self._journal, indent=1))

    def discard(self) -> None:
        """Remove the directory: the run is finished and its result is published."""
        import shutil

        shutil.rmtree(self.directory, ignore_errors=True)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def take_snapshot(
    model: nn.Module, optimizer: torch.optim.Optimizer, random_states: Mapping[str, Tensor], meta: Mapping[str, Any]
) -> Snapshot:
    """Copy what training changes: trainable weights, AdamW's moments by parameter name, the random states."""
    tensors: dict[str, Tensor] = {f"random/{name}": state for name, state in random_states.items()}
    for name, parameter in trainable(model).items():
        tensors[f"weight/{name}"] = parameter.detach().cpu().clone()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = torch.as_tensor(value).detach().cpu().clone()
    return Snapshot(tensors, meta)


def restore(snapshot: Snapshot, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    """Put a snapshot back into the model and, where given, the optimizer; random states are the caller's.

    Raises TrainingError where the snapshot has not exactly this model's trainable tensors.
    """
    parameters = trainable(model)
    saved = {k.removeprefix("weight/"): v for k, v in snapshot.tensors.items() if k.startswith("weight/")}
    if saved.keys() != parameters.keys() or any(saved[k].shape != p.shape for k, p in parameters.items()):
        raise TrainingError("the saved state has other trainable tensors than this run; start without --resume")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name].to(parameter.device))
    if optimizer is None:
        return
    for key, value in snapshot.tensors.items():
        if key.startswith("optimizer/"):
            _, field, name = key.split("/", 2)
            parameter = parameters[name]
            device = parameter.device if field != "step" else value.device
            optimizer.state[parameter][field] = value.to(device)
