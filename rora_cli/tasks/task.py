"""What rora asks of a kind of model: one protocol, which each folder of this room implements.

Hunting asks for ``behaviours``, ``carriers``, ``scorer``, ``shows``, ``reference`` and ``calls``; defences ask for
``quality``, ``objective`` and ``corrections``. Neither knows what a label or a reply is. A new kind of model is a new
folder here and a line in ``registry``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rora_cli.kinds import ModelKind
from rora_cli.subject import Subject

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from rora_cli.data.rows import Rows
    from rora_cli.results.accuracy import CleanAccuracy

#: (text of a row, its index, epoch) -> the text to train on: how hardening puts triggers into clean rows.
RowTransform = Callable[[str, int, int], str]


class Behaviour(Protocol):
    """Something that a trigger may make a model do: give a label, refuse, say a payload."""

    @property
    def name(self) -> str:
        """As options and reports show it."""


@dataclass(frozen=True)
class Answers:
    """How a model answers n inputs, for each of b behaviours.

    Attributes:
        log_odds: [n, b] float: log p / (1 - p) of each behaviour.
        shows: [n, b] bool: whether the model's answer is that behaviour.
    """

    log_odds: np.ndarray
    shows: np.ndarray


class Scorer(Protocol):
    """Answers many short token-id sequences, and counts the tokens that this costs."""

    @property
    def forward_tokens(self) -> int:
        """Tokens that went through the model so far."""

    def __call__(self, sequences: Sequence[Sequence[int]]) -> Answers:
        """The answers to sequences of token ids, special tokens included, in the order given."""


class Objective(Protocol):
    """What a training run minimises: the loop knows rows, and nothing of texts or labels."""

    def __len__(self) -> int:
        """Rows of an epoch."""

    def start_epoch(self, epoch: int) -> Sequence[int]:
        """Draw the texts of an epoch; returns their lengths in tokens [rows]."""

    def units(self, rows: Sequence[int]) -> int:
        """What the mean of a global batch runs over: rows, or response tokens of them."""

    def loss(self, model: nn.Module, rows: Sequence[int]) -> Tensor:
        """The summed loss of some rows, a scalar with a gradient; 0 for no rows."""


class Task(Protocol):
    """A kind of model, and what it is asked to do."""

    kind: ModelKind

    @property
    def behaviours(self) -> Sequence[Behaviour]:
        """Everything that a trigger could be aimed at."""

    def quality(self, subject: Subject, rows: Rows) -> CleanAccuracy:
        """How well the subject does its task on clean rows."""

    def objective(self, subject: Subject, rows: Rows, *, transform: RowTransform | None = None) -> Objective:
        """Training on ``rows``, whose texts ``transform`` changes anew each epoch."""

    def carriers(self, rows: Rows, behaviour: int) -> list[int]:
        """The indices of the rows of which the behaviour is not the right answer."""

    def scorer(self, subject: Subject, **options: Any) -> Scorer:
        """A fast scorer of the subject."""

    def shows(self, subject: Subject, texts: Sequence[str], behaviour: int) -> np.ndarray:
        """Whether the subject shows the behaviour on each text [n], bool."""
