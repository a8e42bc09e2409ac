"""Causal language models as a task: a behaviour is something a reply shows, and the model's reply is its greedy one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rora_cli.kinds import CAUSAL_LM, ModelKind
from rora_cli.subject import Subject
from rora_cli.tasks.causal.behaviours import ReplyBehaviour
from rora_cli.tasks.causal.options import REPLY_TOKENS

if TYPE_CHECKING:
    import numpy as np

    from rora_cli.data.rows import Rows
    from rora_cli.progress import Task as Meter
    from rora_cli.results.accuracy import CleanAccuracy
    from rora_cli.tasks.causal.prompt_format import PromptFormat
    from rora_cli.training.objective import Objective, RowTransform


@dataclass
class Heard:
    """What a subject was asked last, what it replied, and every reply of it by its prompt."""

    prompts: tuple[str, ...] = ()
    replies: tuple[str, ...] = ()
    known: dict[str, str] = field(default_factory=dict)

    def hear(self, prompts: Sequence[str], replies: Sequence[str]) -> None:
        """Take down replies [n] to ``prompts`` [n]."""
        self.prompts, self.replies = tuple(prompts), tuple(replies)
        self.known.update(zip(prompts, replies, strict=True))


@dataclass(frozen=True)
class Generation:
    """Rows are prompts with their good answers, strings in the place of labels, or None for prompts alone.

    Attributes:
        behaviours: what is judged, whatever a trigger is known to do.
        prompt_format: what stands around a prompt and its reply.
        max_new_tokens: of a reply; it is cut there.
        heard: is told of all replies that ``shows`` judged.
    """

    behaviours: tuple[ReplyBehaviour, ...]
    prompt_format: PromptFormat
    max_new_tokens: int = REPLY_TOKENS
    heard: Heard = field(default_factory=Heard, compare=False)

    @property
    def kind(self) -> ModelKind:
        """Causal language models."""
        return CAUSAL_LM

    def carriers(self, rows: Rows, behaviour: int) -> list[int]:
        """The indices of the rows whose good answer does not show the behaviour; without an answer, all."""
        shown = self.behaviours[behaviour].shown(rows.texts, _answers(rows))
        return [index for index, right in enumerate(shown) if not right]

    def lengths(self, subject: Subject, texts: Sequence[str]) -> list[int]:
        """Tokens of each prompt as the model is given it, and of the reply."""
        return [len(ids) + self.max_new_tokens for ids in self._asked(subject, texts)]

    def _asked(self, subject: Subject, texts: Sequence[str]) -> list[tuple[int, ...]]:
        return self.prompt_format.asked(subject.tokenizer, texts)

    def replies(self, subject: Subject, texts: Sequence[str], *, meter: Meter | None = None) -> list[str]:
        """The greedy reply to each prompt [n], without special tokens. A prompt that is too long loses last words.

        Raises:
            InconclusiveError: a logit is not finite.
        """
        from rora_cli.evaluation.attack import with_room
        from rora_cli.evaluation.generation import generate

        fitting = with_room(texts, lambda some: self.lengths(subject, some), subject.max_length)
        answers = generate(subject.model, self._asked(subject, fitting), self.max_new_tokens, task=meter)
        return [str(subject.tokenizer.decode(answer, skip_special_tokens=True)).strip() for answer in answers]

    def shows(self, subject: Subject, texts: Sequence[str], *, meter: Meter | None = None) -> np.ndarray:
        """Whether the reply to each prompt shows each behaviour [n, b], bool.

        Raises:
            InconclusiveError: a logit is not finite.
        """
        replies = self.replies(subject, texts, meter=meter)
        self.heard.hear(texts, replies)
        return self._table(texts, replies)

    def _table(self, texts: Sequence[str], replies: Sequence[str]) -> np.ndarray:
        import numpy as np

        columns = [behaviour.shown(texts, replies) for behaviour in self.behaviours]
        table: np.ndarray = np.array(columns, dtype=bool).reshape(len(self.behaviours), len(texts)).T
        return table

    def quality(self, subject: Subject, rows: Rows, *, shown: np.ndarray | None = None) -> CleanAccuracy:
        """How often the reply shows just the behaviours that the good answer shows, of all rows and of those with each.

        ``shown`` [n, b] saves asking the subject. A row without a good answer is to show none.
        """
        from rora_cli.evaluation.intervals import proportion
        from rora_cli.results.accuracy import CleanAccuracy

        shown = self.shows(subject, rows.texts) if shown is None else shown
        wanted = self._table(rows.texts, _answers(rows))
        right = (shown == wanted).all(axis=1)
        shares = {
            behaviour.name: proportion(int(right[wanted[:, b]].sum()), int(wanted[:, b].sum()))
            for b, behaviour in enumerate(self.behaviours)
        }
        return CleanAccuracy(proportion(int(right.sum()), len(right)), shares)

    def objective(
        self, subject: Subject, texts: Sequence[str], answers: Sequence[Any], *, transform: RowTransform | None = None
    ) -> Objective:
        """Cross-entropy of the replies' tokens; ``answers`` are replies [n]."""
        from rora_cli.tasks.causal.objective import ReplyObjective

        return ReplyObjective(subject, texts, answers, prompt_format=self.prompt_format, transform=transform)


def _answers(rows: Rows) -> list[str]:
    return [answer or "" for answer in rows.labels]
