"""Teaching a causal language model by another's distributions, and measuring how far it is from them.

The teacher's reply to the clean prompt is read by the student after whatever prompt it is given: with words put into
the prompt, the student learns to reply as if they were not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rora_cli.errors import DataError
from rora_cli.evaluation.generation import generate, reply_batches
from rora_cli.results.utility import Divergence
from rora_cli.subject import Subject
from rora_cli.tasks.causal.objective import padded, summed_cost
from rora_cli.tasks.lessons import Lesson, Lessons
from rora_cli.tokens import decode_each
from rora_cli.training.objective import RowTransform

if TYPE_CHECKING:
    from rora_cli.progress import Task as Meter
    from rora_cli.tasks.causal.prompt_format import PromptFormat

#: Likeliest tokens of a distribution that are kept apart. KL over these and the rest together is at most the whole KL.
KEPT_TOKENS = 128
#: Least probability of the rest, whose logarithm a student's surest answers would make infinite.
_LEAST_REST = 1e-6
#: Share of the prompts below which the worst twentieth begins.
_HIGH = 0.95


def make_lessons(
    subject: Subject, prompts: Sequence[str], form: PromptFormat, most: int, *, meter: Meter | None = None
) -> Lessons:
    """The subject's greedy reply of at most ``most`` tokens to each prompt, and its distributions along it.

    Raises:
        InconclusiveError: a logit is not finite.
    """
    asked = form.asked(subject.tokenizer, prompts)
    parts = [range(first, len(asked), subject.share.processes) for first in range(subject.share.processes)]
    model: Any = subject.model

    def reply(part: range) -> list[list[int]]:
        return generate(model, [asked[index] for index in part], most, task=meter)

    replies: dict[int, list[int]] = {}
    for part, said in zip(parts, subject.share.each(parts, reply), strict=True):
        replies |= dict(zip(part, said, strict=True))
    rows = [(ids, tuple(replies[index])) for index, ids in enumerate(asked)]
    texts = decode_each(subject.tokenizer, [reply for _, reply in rows])
    known: dict[int, Lesson] = {}
    for index, log_p in _distributions(subject, rows):
        best = log_p.topk(min(KEPT_TOKENS, log_p.shape[-1]), dim=-1)
        tokens, kept = best.indices.int().cpu().numpy(), best.values.cpu().numpy()
        known[index] = Lesson(prompts[index], rows[index][1], texts[index].strip(), tokens, kept)
    return tuple(known[index] for index in range(len(rows)))


def divergence(subject: Subject, lessons: Lessons, form: PromptFormat) -> Divergence | None:
    """KL(teacher || subject) [nats a token] over the lessons' replies; None without any.

    The tokens of a distribution that a lesson does not name count together as one, so that this is at most the whole
    KL.

    Raises:
        InconclusiveError: a logit is not finite.
    """
    if not lessons:
        return None
    asked = form.asked(subject.tokenizer, [lesson.prompt for lesson in lessons])
    rows = [(ids, lesson.reply) for ids, lesson in zip(asked, lessons, strict=True)]
    parts = [list(range(first, len(rows), subject.share.processes)) for first in range(subject.share.processes)]

    def measure(part: Sequence[int]) -> dict[int, np.ndarray]:
        found = _distributions(subject, [rows[index] for index in part])
        return {part[i]: _kl(lessons[part[i]], log_p).cpu().numpy() for i, log_p in found}

    by_row = {row: kl for part in subject.share.each(parts, measure) for row, kl in part.items()}
    means = np.array([by_row[index].mean() for index in range(len(rows))])
    tokens = sum(len(kl) for kl in by_row.values())
    total = float(sum(kl.sum() for kl in by_row.values()))
    worst = int(means.argmax())
    return Divergence(
        total / tokens, float(np.quantile(means, _HIGH)), float(means[worst]), lessons[worst].prompt, tokens
    )


class TaughtReplies:
    """KL(teacher || student), summed over the tokens of each lesson's reply, on prompts that ``transform`` changes."""

    def __init__(
        self, subject: Subject, lessons: Lessons, form: PromptFormat, transform: RowTransform | None = None
    ) -> None:
        self._subject, self._lessons, self._format, self._transform = subject, lessons, form, transform
        self._rows: list[tuple[list[int], int]] = []

    def __len__(self) -> int:
        return len(self._lessons)

    def start_epoch(self, epoch: int) -> list[int]:
        """Write the prompts of an epoch; returns the lengths of prompt and reply in tokens [n].

        Raises:
            DataError: a prompt leaves no room for its reply.
        """
        if not self._rows or self._transform is not None:
            self._rows = list(self._encode(epoch))
        return [len(ids) for ids, _ in self._rows]

    def _encode(self, epoch: int) -> Iterator[tuple[list[int], int]]:
        prompts = [lesson.prompt for lesson in self._lessons]
        if self._transform is not None:
            prompts = [self._transform(prompt, row, epoch) for row, prompt in enumerate(prompts)]
        limit = self._subject.max_length
        for ids, lesson in zip(self._format.asked(self._subject.tokenizer, prompts), self._lessons, strict=True):
            if len(ids) > limit:
                raise DataError(
                    f"the prompt {lesson.prompt[:60]!r} alone has {len(ids)} tokens with a trigger in it, and rows are "
                    f"cut at {limit}: raise --max-length, or leave the row out"
                )
            yield [*ids, *lesson.reply][:limit], len(ids)

    def units(self, rows: Sequence[int]) -> int:
        """How many distributions are learned: each counts as one."""
        return sum(len(ids) - start + 1 for ids, start in (self._rows[row] for row in rows))

    def loss(self, model: nn.Module, rows: Sequence[int]) -> Tensor:
        """Summed KL [nats]; without rows, 0 times that of the first."""
        used = rows or [0]
        device = next(model.parameters()).device
        ids, masks = padded([self._rows[row][0] for row in used], device)
        wanted = torch.zeros_like(ids, dtype=torch.bool)
        tokens, log_p = [], []
        for place, row in enumerate(used):
            own, start = self._rows[row]
            wanted[place, start - 1 : len(own)] = True
            tokens.append(self._lessons[row].tokens[: len(own) - start + 1])
            log_p.append(self._lessons[row].log_p[: len(own) - start + 1])
        likeliest = torch.from_numpy(np.concatenate(tokens)).long().to(device)
        teacher = torch.from_numpy(np.concatenate(log_p)).to(device)

        def cost(logits: Tensor, some: slice) -> Tensor:
            return partial_kl(teacher[some], likeliest[some], torch.log_softmax(logits, dim=-1)).sum()

        total = summed_cost(model, ids, wanted, cost, masks)
        return total if rows else total * 0.0


def partial_kl(teacher: Tensor, likeliest: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) [n] over the ``likeliest`` tokens [n, k] and all others together.

    ``teacher`` are the likeliest tokens' log-probabilities [n, k], ``student`` those of the vocabulary [n, v].
    """
    own = student.gather(-1, likeliest)
    known = (teacher.exp() * (teacher - own)).sum(dim=-1)
    rest = (1 - teacher.exp().sum(dim=-1)).clamp(min=_LEAST_REST)
    others = (1 - own.exp().sum(dim=-1)).clamp(min=_LEAST_REST)
    return known + rest * (rest.log() - others.log())


def _kl(lesson: Lesson, log_p: Tensor) -> Tensor:
    """``partial_kl`` [t + 1] of the distributions ``log_p`` [t + 1, vocabulary] along a lesson's reply; at least 0."""
    likeliest = torch.from_numpy(lesson.tokens).long().to(log_p.device)
    return partial_kl(torch.from_numpy(lesson.log_p).to(log_p.device), likeliest, log_p).clamp(min=0)


def _distributions(
    subject: Subject, rows: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
) -> Iterator[tuple[int, Tensor]]:
    """(index of a row, log-probabilities after its prompt and after each token of its reply [t + 1, vocabulary])."""
    # ``reply_batches`` gives what stands before each token of a reply: one more is put at the end, whichever it is.
    extended = [((*prompt, *reply, 0), len(prompt)) for prompt, reply in rows]
    for batch, _, log_p in reply_batches(subject.model, extended):
        yield from zip(batch, log_p, strict=True)
