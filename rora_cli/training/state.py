"""The saved state with which an interrupted run goes on: safetensors and JSON only, never a pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rora_cli.errors import TrainingError
from rora_cli.files import JOURNAL_NAME, clear, publish_directory, publish_file, sha256_file
from rora_cli.sharded import assign, whole
from rora_cli.tensor_files import Pending, write_tensors

_SCHEMA = 1
_MAX_JOURNAL_BYTES = 256 << 20
#: The fields that AdamW keeps for each parameter; all but the first have the parameter's shape.
_OPTIMIZER_FIELDS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Snapshot:
    """A training stage at one step.

    Attributes:
        tensors: by name: ``weight/...``, ``optimizer/<field>/...`` and ``random/<rank>/<kind>``.
        meta: plain numbers: the step, the seconds so far, the losses of each epoch.
    """

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]


class RunState:
    """A directory with a journal of finished steps and one snapshot for each training stage.

    The hashes are not keyed: who may write here can make a state that passes, but nothing in it is ever more than
    numbers.

    Args:
        directory: made when something is first saved.
        fingerprint: everything that decides the result: config, hashes of model and data, library versions.
        resume: whether to read what is there.

    Raises:
        TrainingError: the directory is a symbolic link, belongs to a run with another fingerprint, or its journal
            cannot be read or does not have its own hash.
    """

    def __init__(self, directory: Path, fingerprint: Mapping[str, Any], *, resume: bool) -> None:
        self.directory = directory
        self._journal: dict[str, Any] = {"schema_version": _SCHEMA, "fingerprint": _plain(fingerprint), "entries": {}}
        if directory.is_symlink():
            raise TrainingError(f"{directory} is a symbolic link, which rora never makes; remove it")
        if resume and (directory / JOURNAL_NAME).exists():
            self._journal = self._read_journal()

    def _read_journal(self) -> dict[str, Any]:
        path = self.directory / JOURNAL_NAME
        try:
            if not path.is_file() or path.stat().st_size > _MAX_JOURNAL_BYTES:
                raise ValueError
            journal = json.loads(path.read_text(encoding="utf-8"))
            digest, saved = journal.pop("sha256"), journal["fingerprint"]
            whole = {"schema_version", "fingerprint", "entries"} == journal.keys() and isinstance(saved, dict)
            if not whole or not isinstance(journal["entries"], dict):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TrainingError(
                f"{path} cannot be read as the journal of a run; delete {self.directory} to start over"
            ) from error
        wanted = self._journal["fingerprint"]
        if journal["schema_version"] != _SCHEMA or saved != wanted:
            changed = sorted(k for k in {*saved, *wanted} if saved.get(k) != wanted.get(k)) or ["schema_version"]
            raise TrainingError(
                f"{self.directory} belongs to another run ({', '.join(changed)[:300]} differ); start without --resume, "
                "or with the same options, model and data"
            )
        if digest != _digest(journal):
            raise TrainingError(f"{path} was changed since it was saved; delete {self.directory} to start over")
        return journal

    @property
    def is_empty(self) -> bool:
        """Whether nothing is finished yet."""
        return not self._journal["entries"]

    def known(self, key: str) -> Any | None:
        """What ``recall`` kept under ``key``; None if nothing."""
        return self._journal["entries"].get(key)

    def recall(self, key: str, compute: Callable[[], Any]) -> Any:
        """The journal's value for ``key``, or ``compute()``, which is then remembered. Values are plain JSON."""
        entries = self._journal["entries"]
        if key not in entries:
            entries[key] = _plain(compute())
            self._write_journal()
        return entries[key]

    def load(self, stage: str) -> Snapshot | None:
        """The newest snapshot of a stage; None if the stage has not begun.

        Raises:
            TrainingError: it is malformed, missing, or does not have the hash that the journal gives for it.
        """
        entry = self._journal["entries"].get(f"snapshot/{stage}")
        if entry is None:
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        advice = f"delete {self.directory} to start over"
        try:
            meta, name = entry["meta"], _snapshot_name(stage, entry["meta"]["step"])
            if entry["directory"] != name or not isinstance(meta["history"], list):
                raise ValueError
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"the journal in {self.directory} has a malformed snapshot of {stage}; {advice}"
            ) from error
        path = self.directory / name / "state.safetensors"
        try:
            if not path.is_file() or sha256_file(path) != entry["sha256"]:
                raise TrainingError(f"{path} is missing or was changed since it was saved; {advice}")
            return Snapshot(load_file(path), meta)
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"{path} cannot be read as safetensors; {advice}") from error

    def save(self, stage: str, snapshot: Snapshot) -> None:
        """Replace a stage's snapshot. The journal is switched to the new one only when that is whole on disk."""
        old = self._journal["entries"].get(f"snapshot/{stage}")
        name = _snapshot_name(stage, snapshot.meta["step"])
        if not (self.directory / JOURNAL_NAME).exists():
            self._write_journal()  # first of all: it marks the directory as one that may be removed
        with publish_directory(self.directory / name, force=True) as staging:
            pending = [Pending(k, v.dtype, tuple(v.shape), v.detach) for k, v in snapshot.tensors.items()]
            write_tensors(staging / "state.safetensors", pending)
        self._journal["entries"][f"snapshot/{stage}"] = {
            "directory": name,
            "sha256": sha256_file(self.directory / name / "state.safetensors"),
            "meta": _plain(snapshot.meta),
        }
        self._write_journal()
        if old and old["meta"]["step"] != snapshot.meta["step"]:
            shutil.rmtree(self.directory / _snapshot_name(stage, old["meta"]["step"]), ignore_errors=True)

    def _write_journal(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"sha256": _digest(self._journal), **self._journal}, indent=1)
        publish_file(self.directory / JOURNAL_NAME, text)

    def discard(self) -> None:
        """Remove the directory: the run is finished and its result is published, or nobody will go on with it.

        Raises:
            TrainingError: rora did not make the directory, and it holds something.
        """
        if not self.directory.exists():
            return
        keep = (JOURNAL_NAME, f".{JOURNAL_NAME}.rora-tmp")
        ours = (self.directory / JOURNAL_NAME).exists()
        if not ours and any(p.name not in keep for p in self.directory.iterdir()):
            raise TrainingError(
                f"{self.directory} is where this run would save its state, and it holds something else; move it"
            )
        with suppress(OSError):
            clear(self.directory, keep=keep)  # the journal last: it says whose the rest is, should this be killed
        shutil.rmtree(self.directory, ignore_errors=True)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(dict(value) if isinstance(value, Mapping) else value))


def _digest(journal: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(journal, sort_keys=True).encode()).hexdigest()


def _snapshot_name(stage: str, step: int) -> str:
    if "/" in stage or not 0 <= step < 10**8:
        raise ValueError(stage)
    return f"{stage}-{step:08d}"


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def take_snapshot(
    model: nn.Module, optimizer: torch.optim.Optimizer, random_states: Mapping[str, Tensor], meta: Mapping[str, Any]
) -> Snapshot:
    """A copy of all that training changes: trainable weights, AdamW's moments by parameter name, the random states.

    ``random_states`` [bytes] are torch's, by rank and kind of device. All processes call this for a sharded model, and
    each gets the whole.
    """
    tensors: dict[str, Tensor] = {f"random/{name}": state for name, state in random_states.items()}
    for name, parameter in trainable(model).items():
        tensors[f"weight/{name}"] = whole(parameter.detach()).cpu().clone()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = whole(torch.as_tensor(value).detach()).cpu().clone()
    return Snapshot(tensors, meta)


def restore(snapshot: Snapshot, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    """Put a snapshot's weights into the model and its moments into the optimizer, if there is one.

    The caller restores the random states.

    Raises:
        TrainingError: the snapshot does not have exactly this model's trainable tensors.
    """
    parameters = trainable(model)
    saved = {k.removeprefix("weight/"): v for k, v in snapshot.tensors.items() if k.startswith("weight/")}
    moments = [(k.split("/", 2)[1:], v) for k, v in snapshot.tensors.items() if k.startswith("optimizer/")]
    fits = saved.keys() == parameters.keys() and all(saved[k].shape == p.shape for k, p in parameters.items())
    if not fits or not all(_is_moment(place, value, parameters) for place, value in moments):
        raise TrainingError("the saved state has other trainable tensors than this run; start without --resume")
    for name, parameter in parameters.items():
        assign(parameter, saved[name])
    if optimizer is None:
        return
    for (field, name), value in moments:
        parameter = parameters[name]
        if field != "step":
            moment = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
            assign(moment, value)
            value = moment
        optimizer.state[parameter][field] = value


def _is_moment(place: list[str], value: Tensor, parameters: Mapping[str, nn.Parameter]) -> bool:
    if len(place) != 2 or place[0] not in _OPTIMIZER_FIELDS or place[1] not in parameters:
        return False
    return value.numel() == 1 if place[0] == "step" else value.shape == parameters[place[1]].shape
