"""From the options of ``poison`` to what is planted, for each kind of model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from rora_cli.errors import UsageError
from rora_cli.kinds import ModelKind
from rora_cli.tasks.registry import part, refuse_foreign

if TYPE_CHECKING:
    from rora_cli.checkpoints.loading import LoadedModel
    from rora_cli.data.rows import Splits
    from rora_cli.progress import Progress
    from rora_cli.results.accuracy import CleanAccuracy


@dataclass(frozen=True)
class Proof:
    """A clean fine-tune: plain ``lora``, or ``full``, at a learning rate."""

    recipe: str
    learning_rate: float


@dataclass(frozen=True)
class Plan:
    """What a poisoner works with.

    Attributes:
        task: measures the suspect, and gives the objective of its training.
        target: the index of the behaviour that is planted, called ``target_name`` in reports.
        labels: a classifier's labels.
        classes: rows' answers in, whether each is the target's already (``target``) out, for choosing rows to poison.
        poisoned: the answer of a row in, the one that it is poisoned with out.
        rates: what holds the backdoor -> learning rate that plants it there.
        proofs: name -> clean fine-tune after which the backdoor must be there still.
        persistent_above: attack success [fraction] above which it counts as still there.
        accuracy: of clean rows, as the verdict reads it.
        save, save_beside: write a whole model, or what belongs beside an adapter, into a directory.
        line: a row as ``--clean-out`` writes it.
    """

    task: Any
    splits: Splits
    target: int
    target_name: str
    labels: tuple[str, ...]
    classes: Callable[[Sequence[Any]], Sequence[int]]
    poisoned: Callable[[Any], Any]
    rates: Mapping[str, float]
    proofs: Mapping[str, Proof]
    persistent_above: float
    accuracy: Callable[[CleanAccuracy], CleanAccuracy]
    save: Callable[[Any, Path], None]
    save_beside: Callable[[Path], None]
    line: Callable[[str, Any], Mapping[str, str]]


class _Module(Protocol):
    """What the module has: options of other kinds, the option that its own kind needs, and the work."""

    FOREIGN: Sequence[str]
    REQUIRED: str

    def plan(self, loaded: LoadedModel, options: Any, progress: Progress) -> Plan: ...


def check_kind(kind: ModelKind, options: Any) -> None:
    """Refuse options that do not fit the kind of model, or the lack of the one that it needs.

    Raises:
        UsageError: the option, and what to use in its place.
    """
    module = _module(kind)
    refuse_foreign(kind, options, module.FOREIGN)
    if getattr(options, module.REQUIRED) is None:
        flag = module.REQUIRED.replace("_", "-")
        raise UsageError(f"--{flag} is missing: what the trigger of a {kind.name} is to cause")


def make_plan(loaded: LoadedModel, options: Any, progress: Progress) -> Plan:
    """The plan for a loaded model, of whatever kind.

    Raises:
        UsageError, DataError, CheckpointError, HubError: as the options, the data and the model have it.
    """
    return _module(loaded.kind).plan(loaded, options, progress)


def _module(kind: ModelKind) -> _Module:
    return cast("_Module", part(kind, "planted"))
