"""The tasks by kind of model: a folder and a line here each, held to one contract by tests/tasks/test_contract.py."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import cast

from rora_cli.kinds import ModelKind
from rora_cli.tasks.task import Task

#: Name of the kind -> "module:class"; the class takes the names of the behaviours.
TASKS = {
    "sequence classifier": "rora_cli.tasks.classification.task:Classification",
}


def make_task(kind: ModelKind, behaviours: Sequence[str]) -> Task:
    """The ``Task`` of that kind of model, with behaviours of these names.

    Raises:
        KeyError: there is no task for the kind.
    """
    module, _, name = TASKS[kind.name].partition(":")
    return cast("Task", getattr(importlib.import_module(module), name)(tuple(behaviours)))
