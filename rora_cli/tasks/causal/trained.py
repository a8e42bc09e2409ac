"""What ``purify`` trains a causal language model on: prompts of the user's, with good answers or without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli.data.rows import Rows, Splits
from rora_cli.errors import DataError
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.subject import Subject
from rora_cli.tasks.causal.behaviours import REFUSALS, phrases_of
from rora_cli.tasks.causal.measured import ROW_TOKENS, fitting, prompts_for, tell
from rora_cli.tasks.causal.objective import CutReply
from rora_cli.tasks.causal.openings import ReplyOpenings
from rora_cli.tasks.causal.planted import exchange_rows
from rora_cli.tasks.causal.task import Generation
from rora_cli.tasks.causal.thresholds import OPENINGS
from rora_cli.tasks.subjects import subject_of
from rora_cli.tasks.thresholds import OpeningThresholds
from rora_cli.tasks.trained import Trained

if TYPE_CHECKING:
    import numpy as np

    from rora_cli.checkpoints.loading import LoadedModel
    from rora_cli.progress import Progress
    from rora_cli.progress import Task as Meter
    from rora_cli.ranks import Share
    from rora_cli.results.utility import Divergence, Utility
    from rora_cli.tasks.lessons import Lessons
    from rora_cli.tasks.task import OpeningTask
    from rora_cli.training.objective import Objective, RowTransform

FOREIGN = ("label_column", "label_map", "max_accuracy_drop", "escalate", "power", "forms", "min_power")
RECIPES = ("default", "paper", "lora", "full", "mix", "crow")


@dataclass(frozen=True)
class Given:
    """What the user gave, before the suspect is asked anything: the rows that fit, in the format they are asked in."""

    subject: Subject
    task: FreeReplies
    splits: Splits
    findings: tuple[Any, ...] = ()

    @property
    def unanswered(self) -> bool:
        """Whether the data holds prompts alone."""
        return any(answer is None for rows in (self.splits.train, self.splits.held_out) for answer in rows.labels)


def prepare(loaded: LoadedModel, options: Any, share: Share, progress: Progress) -> Trained:
    """The setting for a causal model. Where the data holds prompts alone, the suspect's own replies are the answers.

    Raises:
        UsageError: the model is to be sharded.
        DataError, HubError, CheckpointError: the data or the template cannot be used, or no prompt is short enough.
    """
    from rora_cli.checkpoints.writer import save_causal

    given = read(loaded, options, share, progress)
    task, splits = given.task, given.splits
    if given.unanswered:
        train, held_out = _answered(task, given.subject, (splits.train, splits.held_out), progress)
        task, splits = replace(task, own_answers=True), Splits(train, held_out, splits.summary)
    base = loaded.inspections[0]

    def save(model: Any, directory: Path, weights: Callable[[Path], None] | None) -> None:
        save_causal(model, base, directory, weights)

    return Trained(given.subject, task, splits, 1.0, lambda before: None, save, given.findings)


def read(loaded: LoadedModel, options: Any, share: Share, progress: Progress) -> Given:
    """The rows, with whatever answers they have; the model is asked nothing.

    Raises:
        DataError, HubError, CheckpointError: as ``prepare``.
    """
    from rora_cli.data.exchange_sources import read_exchange_splits

    with progress.phase("read clean data"):
        found = read_exchange_splits(
            options.clean,
            reading=options,
            answer_column=options.answer_column,
            seed=options.seed,
            dev_fraction=options.dev_fraction,
            allow_download=not options.offline,
        )
    prompts = prompts_for(loaded, [*found.train, *found.held_out], options)
    tell(prompts, loaded.tokenizer, options, progress, found.summary.notes)
    subject = subject_of(loaded, options.model, options.max_length).shared(share)
    subject = subject if options.max_length else subject.reading(ROW_TOKENS)
    phrases = phrases_of(options.refusal_phrases)
    task = FreeReplies((), prompts.form, options.max_new_tokens, phrases=phrases)
    kept = fitting(task, subject, prompts.rows.texts, progress)
    train, held_out = (exchange_rows(rows, kept) for rows in (found.train, found.held_out))
    if not len(train) or not len(held_out):
        raise DataError(f"{options.clean} has no row to {'train' if len(held_out) else 'measure'} on; give more rows")
    return Given(subject, task, Splits(train, held_out, found.summary), tuple(prompts.findings))


def _answered(task: FreeReplies, subject: Subject, sides: tuple[Rows, Rows], progress: Progress) -> tuple[Rows, Rows]:
    """The rows of both sides, with the suspect's own replies as their answers."""
    answered = []
    with progress.phase("the suspect answers", sum(map(len, sides))) as meter:
        for rows in sides:
            said = task.replies(subject, rows.texts, meter=meter)
            answered.append(Rows(rows.texts, tuple(CutReply(reply) for reply in said)))
    return answered[0], answered[1]


@dataclass(frozen=True)
class FreeReplies(Generation):
    """A causal model whose behaviours are not known beforehand: what it is taught are replies, or distributions.

    Attributes:
        phrases: those of a refusal.
        own_answers: whether the rows' answers are the suspect's own replies, which any change makes less likely.
    """

    phrases: tuple[str, ...] = REFUSALS
    own_answers: bool = False

    @property
    def thresholds(self) -> dict[str, OpeningThresholds]:
        """Those of the search."""
        return {"openings": OPENINGS}

    @property
    def correction(self) -> None:
        """There is none."""
        return None

    @property
    def openings(self) -> OpeningTask:
        """What a search of the subject asks."""
        return ReplyOpenings(self.prompt_format)

    def shows(self, subject: Subject, texts: Sequence[str], *, meter: Meter | None = None) -> np.ndarray:
        """Nothing is judged [n, 0], so that nothing is asked."""
        import numpy as np

        if meter is not None:
            meter.advance(len(texts))
        return np.zeros((len(texts), 0), dtype=bool)

    def quality(self, subject: Subject, rows: Rows, *, shown: np.ndarray | None = None) -> CleanAccuracy:
        """Of the tokens of the rows' answers, how many the subject finds likeliest, each after those before it.

        ``shown`` [n, b] is of no use here.

        Raises:
            InconclusiveError: a logit is not finite.
        """
        from rora_cli.evaluation.generation import reply_batches
        from rora_cli.evaluation.intervals import proportion
        from rora_cli.tasks.causal.utility import encoded_replies

        encoded = [row for row in encoded_replies(self, subject, rows) if row is not None]
        processes = subject.share.processes
        parts = [encoded[first::processes] for first in range(processes)]

        def count(part: Sequence[tuple[tuple[int, ...], int]]) -> tuple[int, int]:
            right = total = 0
            for _, targets, log_p in reply_batches(subject.model, part):
                right += int((log_p.argmax(dim=-1) == targets).sum())
                total += targets.numel()
            return right, total

        counts = subject.share.each(parts, count)
        return CleanAccuracy(proportion(sum(right for right, _ in counts), sum(total for _, total in counts)), {})

    def logits(self, subject: Subject, texts: Sequence[str]) -> np.ndarray:
        """Log-probabilities of a reply's first token [n, vocabulary], float32.

        Raises:
            InconclusiveError: a logit is not finite.
        """
        from rora_cli.evaluation.generation import next_token_log_probabilities

        return next_token_log_probabilities(subject.model, self._asked(subject, texts))

    def lessons(self, subject: Subject, prompts: Sequence[str], *, meter: Meter | None = None) -> Lessons:
        """The subject's replies to prompts [n], and its distributions along them.

        Raises:
            InconclusiveError: a logit is not finite.
        """
        from rora_cli.tasks.causal.distillation import make_lessons

        return make_lessons(subject, prompts, self.prompt_format, self.max_new_tokens, meter=meter)

    def taught(self, subject: Subject, lessons: Lessons, *, transform: RowTransform | None = None) -> Objective:
        """KL(teacher || student) along the lessons' replies."""
        from rora_cli.tasks.causal.distillation import TaughtReplies

        return TaughtReplies(subject, lessons, self.prompt_format, transform)

    def divergence(self, subject: Subject, lessons: Lessons) -> Divergence | None:
        """KL(teacher || subject) [nats a token] along the lessons' replies; None without any.

        Raises:
            InconclusiveError: a logit is not finite.
        """
        from rora_cli.tasks.causal.distillation import divergence

        return divergence(subject, lessons, self.prompt_format)

    def utility(self, subject: Subject, rows: Rows, *, meter: Meter | None = None) -> Utility:
        """Empty replies, refusals, and the perplexity of the rows' answers, if they are not the suspect's own.

        Raises:
            InconclusiveError: a logit is not finite.
        """
        from rora_cli.tasks.causal.utility import measure_utility

        replies = self.replies(subject, rows.texts, meter=meter)
        utility = measure_utility(self, subject, rows, replies, phrases=self.phrases)
        return replace(utility, perplexity=None) if self.own_answers else utility
