"""From the options of ``purify`` to what a defence trains on, for each kind of model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from rora_cli.errors import UsageError
from rora_cli.kinds import ModelKind
from rora_cli.tasks.registry import part, refuse_foreign

if TYPE_CHECKING:
    from torch import nn

    from rora_cli.checkpoints.loading import LoadedModel
    from rora_cli.data.rows import Splits
    from rora_cli.progress import Progress
    from rora_cli.ranks import Share
    from rora_cli.results.accuracy import CleanAccuracy
    from rora_cli.results.findings import Finding
    from rora_cli.subject import Subject


@dataclass(frozen=True)
class Trained:
    """What a defence works on.

    Attributes:
        task: a ``TrainedTask``; of a kind whose behaviours are not known beforehand a ``RepliedTask``.
        limit: clean accuracy that may be lost, as a fraction; 1 where something else limits what a change costs.
        findings: of what is served beside the weights.
        require_fitting: raises DataError where the suspect's accuracy says that the rows are of another task.
        save: writes a whole model into a directory; a third argument, if not None, writes the weights in its place.
    """

    subject: Subject
    task: Any
    splits: Splits
    limit: float
    require_fitting: Callable[[CleanAccuracy], None]
    save: Callable[[nn.Module, Path, Callable[[Path], None] | None], None]
    findings: tuple[Finding, ...] = ()


class _Module(Protocol):
    """What the module has: options and recipes of other kinds, and the work."""

    FOREIGN: tuple[str, ...]
    RECIPES: tuple[str, ...]

    def prepare(self, loaded: LoadedModel, options: Any, share: Share, progress: Progress) -> Trained: ...


def check_kind(kind: ModelKind, options: Any) -> None:
    """Refuse options and recipes that do not fit the kind of model, which nobody knows before its files are read.

    Raises:
        UsageError: the option, and what to use in its place.
    """
    module = _module(kind)
    refuse_foreign(kind, options, module.FOREIGN)
    if "escalate" not in module.FOREIGN:
        options.check_escalation()
    if options.recipe not in module.RECIPES:
        raise UsageError(
            f"{options.model} is a {kind.name}, which the recipe {options.recipe} does not cleanse; use "
            f"{', '.join(module.RECIPES)}"
        )


def prepare(loaded: LoadedModel, options: Any, share: Share, progress: Progress) -> Trained:
    """The setting for a loaded model, of whatever kind; all processes of ``share`` call this together.

    Raises:
        UsageError, DataError, CheckpointError, HubError: as the options, the data and the model have it.
    """
    return _module(loaded.kind).prepare(loaded, options, share, progress)


def _module(kind: ModelKind) -> _Module:
    return cast("_Module", part(kind, "trained"))
