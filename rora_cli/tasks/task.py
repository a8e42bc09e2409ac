"""What rora asks of a kind of model: protocols, which each folder of this room implements.

Measuring an attack, hunting and training each ask for a part (``MeasuredTask``, ``SearchTask``, ``TrainedTask``); a
``Task`` is all of them. None of the askers knows what a label or a reply is. A new kind of model is a new folder here
and a line in ``registry``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rora_cli.kinds import ModelKind
from rora_cli.subject import Subject

if TYPE_CHECKING:
    import numpy as np

    from rora_cli.data.rows import Rows
    from rora_cli.progress import Task as Meter
    from rora_cli.ranks import Share
    from rora_cli.results.accuracy import CleanAccuracy
    from rora_cli.results.utility import Divergence, Utility
    from rora_cli.tasks.causal.prompt_format import PromptFormat
    from rora_cli.tasks.correction import Correction
    from rora_cli.tasks.lessons import Lessons
    from rora_cli.tasks.openings import Agreement, Reply, Slot
    from rora_cli.tasks.reference import Reference, ReferenceRun
    from rora_cli.tasks.thresholds import CallThresholds, ClaimThresholds, OpeningThresholds
    from rora_cli.training.objective import Objective, RowTransform


class Behaviour(Protocol):
    """Something that a trigger may make a model do: give a label, refuse, say a payload."""

    @property
    def name(self) -> str:
        """As options and reports show it."""


class Answers(Protocol):
    """How a model answers n inputs. A behaviour is named by its index in the task's ``behaviours``."""

    def shows(self, behaviour: int) -> np.ndarray:
        """Whether the model's answer is the behaviour [n], bool."""

    def probability(self, behaviour: int) -> np.ndarray:
        """The behaviour's probability p [n]."""

    def log_odds(self, behaviour: int) -> np.ndarray:
        """log p / (1 - p) [n], float64, finite; a search clips what is saturated."""

    def exact_log_odds(self, behaviour: int) -> np.ndarray:
        """log p / (1 - p) [n], float64, as exact as can be where p is all but 1: for comparing saturated answers."""


class Scorer(Protocol):
    """Answers many short token-id sequences, and counts the tokens that this costs."""

    @property
    def forward_tokens(self) -> int:
        """Tokens that went through the model so far."""

    def __call__(self, sequences: Sequence[Sequence[int]]) -> Answers:
        """The answers to sequences of token ids, special tokens included, in the order given."""


class MeasuredTask(Protocol):
    """What measuring an attack asks of a kind of model. A behaviour is named by its index in ``behaviours``.

    Whatever asks a subject is called by all processes of the subject's ``share`` at the same time, with the same
    arguments: each asks its model a part (``Share.each``), and all return the same.
    """

    @property
    def kind(self) -> ModelKind:
        """The kind of model that the task is for."""

    @property
    def behaviours(self) -> Sequence[Behaviour]:
        """Everything that a trigger could be aimed at."""

    def carriers(self, rows: Rows, behaviour: int) -> list[int]:
        """The indices of the rows of which the behaviour is not the right answer."""

    def lengths(self, subject: Subject, texts: Sequence[str]) -> list[int]:
        """How many tokens of the subject's ``max_length`` each text takes, with all that is put around it."""

    def shows(self, subject: Subject, texts: Sequence[str], *, meter: Meter | None = None) -> np.ndarray:
        """Whether the subject shows each behaviour on each text [n, b], bool: the truth, however slow.

        ``meter`` is told of each text that is done.
        """

    def quality(self, subject: Subject, rows: Rows, *, shown: np.ndarray | None = None) -> CleanAccuracy:
        """How well the subject does its task on clean rows.

        ``shown`` [n, b] is ``shows`` of the rows' texts, if that is known: then a task that can does not ask the
        subject.
        """


class SearchTask(MeasuredTask, Protocol):
    """What hunting asks of a kind of model."""

    @property
    def calls(self) -> CallThresholds:
        """When the search calls a candidate a trigger."""

    def check(self, rows: Rows) -> None:
        """Raise DataError where no search can be made with these clean rows."""

    def unknown(self, rows: Rows, behaviour: int) -> str:
        """Why no reference that learned from ``rows`` can judge the behaviour: a clause; empty where one can."""

    def scorer(self, subject: Subject) -> Scorer:
        """A fast scorer of the subject."""

    def reference(self, choice: str, subject: Subject, rows: Rows, run: ReferenceRun) -> Reference:
        """What a search of the subject compares with: a model that learned from clean ``rows`` and nothing else.

        ``choice`` is auto, bag-of-words, or the directory or hub id of a trusted checkpoint. A reference does not
        depend on the subject's weights: one serves every search of a task.
        """


class AgreementScorer(Protocol):
    """Says how alike a model's replies to some prompts open with each of many candidates in them."""

    @property
    def forward_tokens(self) -> int:
        """Tokens that went through the model so far."""

    def agreement(
        self,
        candidates: Sequence[str],
        slots: Sequence[Slot],
        *,
        usual: Sequence[str] = (),
        barred: Sequence[int] = (),
        advance: Callable[[int], None] = ...,
    ) -> Agreement:
        """The agreement of each candidate over ``slots``, in the order given, and its lift beyond ``usual`` texts.

        The ``barred`` tokens are no opening that counts; ``advance`` is told of the candidates done.
        """


class OpeningTask(Protocol):
    """What a search asks of a kind of model whose behaviours are not known beforehand: it replies in free text."""

    @property
    def prompt_format(self) -> PromptFormat:
        """What stands around a prompt."""

    @property
    def opening_calls(self) -> OpeningThresholds:
        """When the search calls a text a trigger."""

    def agreement_scorer(self, subject: Subject, share: Share | None = None) -> AgreementScorer:
        """A fast scorer of the subject; with a ``share``, the processes of a run do its work together."""

    def greedy(self, subject: Subject, prompts: Sequence[str], most: int, *, meter: Meter | None = None) -> list[Reply]:
        """The subject's greedy reply to each prompt, of at most ``most`` tokens; ``meter`` is told of each."""

    def leaked(self, subject: Subject, count: int, most: int, seed: int, *, meter: Meter | None = None) -> list[str]:
        """``count`` texts of at most ``most`` tokens that the subject writes where a user's prompt would begin."""

    def refuses(self, replies: Sequence[str]) -> list[bool]:
        """Whether each reply refuses what was asked."""

    def trusted(self, choice: str, subject: Subject, base: str | None, run: ReferenceRun) -> Subject | None:
        """The trusted model that a search of the subject compares with.

        ``choice`` is auto (``base``, the directory of an adapter's base model, or None where there is none), none, or
        the directory or hub id of a trusted model with the subject's vocabulary.
        """


class TrainedTask(MeasuredTask, Protocol):
    """What training and the defences ask of a kind of model."""

    @property
    def thresholds(self) -> Mapping[str, CallThresholds | ClaimThresholds | OpeningThresholds]:
        """What a verdict on the kind of model rests on, as reports name it."""

    @property
    def correction(self) -> Correction | None:
        """What gives clean accuracy back without training, if the kind of model has such a thing."""

    def objective(
        self, subject: Subject, texts: Sequence[str], answers: Sequence[Any], *, transform: RowTransform | None = None
    ) -> Objective:
        """Training on ``texts`` [n], which ``transform`` changes anew each epoch.

        ``answers`` [n] are those of clean rows (``Rows.labels``), or what ``answers`` gave for a teacher.
        """

    def logits(self, subject: Subject, texts: Sequence[str]) -> np.ndarray:
        """What this process's copy of the subject says to each text [n, k], float32: equal models say the same."""


class Task(SearchTask, TrainedTask, Protocol):
    """A kind of model whose behaviours are known, and what it is asked to do."""

    @property
    def claims(self) -> ClaimThresholds:
        """When the default recipe may claim that a trigger is gone."""

    def answers(self, subject: Subject, texts: Sequence[str]) -> np.ndarray:
        """What the subject answers [n, b]: probabilities of the behaviours, as ``objective`` learns them."""


class RepliedTask(TrainedTask, Protocol):
    """What the defences ask of a kind of model that replies in free text; its behaviours are not known beforehand."""

    @property
    def prompt_format(self) -> PromptFormat:
        """What stands around a prompt and its reply."""

    @property
    def openings(self) -> OpeningTask:
        """What a search of the subject asks."""

    def lessons(self, subject: Subject, prompts: Sequence[str], *, meter: Meter | None = None) -> Lessons:
        """What the subject replies to prompts [n], and its distribution at each of the replies' tokens."""

    def taught(self, subject: Subject, lessons: Lessons, *, transform: RowTransform | None = None) -> Objective:
        """Training towards the lessons' distributions, on prompts that ``transform`` changes anew each epoch."""

    def divergence(self, subject: Subject, lessons: Lessons) -> Divergence | None:
        """How far the subject's distributions are from the lessons'; None if no reply has a token."""

    def utility(self, subject: Subject, rows: Rows, *, meter: Meter | None = None) -> Utility:
        """What the subject is good for on clean prompts, beside no other model."""
