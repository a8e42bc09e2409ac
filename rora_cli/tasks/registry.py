"""The tasks by kind of model: a folder and a line here each, held to one contract by tests/tasks/test_contract.py."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from rora_cli.errors import UsageError
from rora_cli.kinds import ModelKind
from rora_cli.options import given
from rora_cli.tasks.task import Task

if TYPE_CHECKING:
    from rora_cli.checkpoints.loading import LoadedModel
    from rora_cli.progress import Progress
    from rora_cli.tasks.openings import OpenSetting

#: Name of the kind -> the folder of its task.
FOLDERS = {
    "sequence classifier": "rora_cli.tasks.classification",
    "causal language model": "rora_cli.tasks.causal",
}
#: Name of the kind -> "module:class"; the class takes the names of the behaviours.
TASKS = {
    "sequence classifier": "rora_cli.tasks.classification.task:Classification",
}


def part(kind: ModelKind, name: str) -> Any:
    """The module of that name in the folder of the kind's task.

    Raises:
        KeyError: there is no task for the kind.
    """
    return importlib.import_module(f"{FOLDERS[kind.name]}.{name}")


def refuse_foreign(kind: ModelKind, options: Any, foreign: Iterable[str], way_on: str = "") -> None:
    """Raise UsageError where one of the ``foreign`` options, which are for other kinds, is given."""
    if flags := given(options, foreign):
        raise UsageError(f"{options.model} is a {kind.name}, which {flags[0]} is not for; leave it out{way_on}")


def open_search(loaded: LoadedModel, options: Any, progress: Progress) -> OpenSetting | None:
    """What a search of a loaded model is given whose behaviours are not known; None for a kind whose behaviours are.

    Raises:
        UsageError: an option is not for the kind.
        DataError, HubError, CheckpointError: the data or the prompt format cannot be used.
    """
    if not loaded.kind.replies:
        return None
    return cast("OpenSetting", part(loaded.kind, "openings").prepare(loaded, options, progress))


def make_task(kind: ModelKind, behaviours: Sequence[str]) -> Task:
    """The ``Task`` of that kind of model, with behaviours of these names.

    Raises:
        KeyError: there is no task for the kind.
    """
    module, _, name = TASKS[kind.name].partition(":")
    return cast("Task", getattr(importlib.import_module(module), name)(tuple(behaviours)))
