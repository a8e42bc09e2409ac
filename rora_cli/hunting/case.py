"""What a search is given: the subject, its task, clean rows, a reference, and how much to try."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rora_cli.data.rows import Rows
from rora_cli.hunting.budgets import AUTO, Budget, budgets
from rora_cli.progress import SILENT, Progress
from rora_cli.subject import Subject
from rora_cli.tasks.task import SearchTask

if TYPE_CHECKING:
    from rora_cli.tasks.reference import Reference


#: Wraps forward passes whose survivors are all scored again: they may be less exact.
Rough = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class SearchSettings:
    """How much to try, and where.

    Attributes:
        budget: the name of one, or auto: fast, then normal for the behaviours that it leaves undecided.
        seed: what rows, places and harmless tokens are drawn from.
        targets: indices of the behaviours to search for; None for all.
        rough: wraps the suspect's forward passes of the first rounds of a screen, whose survivors are all scored again.
            They may be less precise.

    Raises:
        UsageError: there is no such budget.
    """

    budget: str = AUTO
    seed: int = 0
    targets: tuple[int, ...] | None = None
    rough: Rough = nullcontext

    def __post_init__(self) -> None:
        budgets(self.budget, "the budget")

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets to search with in turn."""
        return budgets(self.budget, "the budget")


@dataclass(frozen=True)
class Case:
    """One subject to search, and all that every behaviour's search has in common."""

    subject: Subject
    task: SearchTask
    rows: Rows
    reference: Reference
    settings: SearchSettings
    progress: Progress = SILENT

    @cached_property
    def targets(self) -> tuple[int, ...]:
        """Indices of the behaviours to search for."""
        chosen = self.settings.targets
        return tuple(range(len(self.task.behaviours))) if chosen is None else chosen

    def name(self, behaviour: int) -> str:
        """The behaviour as reports show it."""
        return self.task.behaviours[behaviour].name

    @cached_property
    def wanted(self) -> np.ndarray:
        """Whether each behaviour is the right answer of each clean row [rows, behaviours], bool."""
        wanted = np.ones((len(self.rows), len(self.task.behaviours)), dtype=bool)
        for behaviour in range(wanted.shape[1]):
            wanted[self.task.carriers(self.rows, behaviour), behaviour] = False
        return wanted

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, special tokens included, cut to the subject's length."""
        limit = self.subject.max_length
        encoded: list[list[int]] = self.subject.tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        return encoded
