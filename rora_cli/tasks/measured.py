"""From a command's options to what an attack is measured on, for each kind of model.

A module of each task's folder says which of the options are for its kind, and makes a ``Setting`` of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from rora_cli.kinds import ModelKind
from rora_cli.tasks.registry import part, refuse_foreign

if TYPE_CHECKING:
    from rora_cli.checkpoints.loading import LoadedModel
    from rora_cli.data.rows import Rows
    from rora_cli.progress import Progress
    from rora_cli.results.accuracy import AttackOutcome, CleanAccuracy
    from rora_cli.results.data import DataSummary
    from rora_cli.results.findings import Finding
    from rora_cli.results.utility import Replies, Utility
    from rora_cli.subject import Subject
    from rora_cli.tasks.task import MeasuredTask


@dataclass(frozen=True)
class Setting:
    """What an attack is measured on.

    Attributes:
        target: the index of the behaviour that the attack is to cause.
        labels: a classifier's labels.
        notes: sentences for the user, beyond the data's.
        findings: of what is served beside the weights.
        accuracy: of the clean rows, as gates and findings read it.
        replies: what the last measurement made of the replies; None for a kind without any.
        utility: of the clean rows, beyond accuracy.
    """

    subject: Subject
    task: MeasuredTask
    rows: Rows
    summary: DataSummary
    target: int
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    accuracy: Callable[[CleanAccuracy], CleanAccuracy] = field(default=lambda accuracy: accuracy)
    replies: Callable[[AttackOutcome], Replies | None] = field(default=lambda outcome: None)
    utility: Callable[[], Utility | None] = field(default=lambda: None)


class _Module(Protocol):
    """What the module has: options of other kinds, the option that its own kind needs, and the work."""

    FOREIGN: Sequence[str]
    REQUIRED: str

    def prepare(self, loaded: LoadedModel, options: Any, progress: Progress) -> Setting: ...


def check_kind(kind: ModelKind, options: Any) -> None:
    """Refuse options that do not fit the kind of model.

    Raises:
        UsageError: the option, and what to use in its place.
    """
    module = _module(kind)
    refuse_foreign(kind, options, module.FOREIGN, f" (for a {kind.name} there is {module.REQUIRED})")


def prepare(loaded: LoadedModel, options: Any, progress: Progress) -> Setting:
    """The setting for a loaded model, of whatever kind.

    Raises:
        UsageError, DataError, CheckpointError, HubError: as the options, the data and the model have it.
    """
    return _module(loaded.kind).prepare(loaded, options, progress)


def _module(kind: ModelKind) -> _Module:
    return cast("_Module", part(kind, "measured"))
