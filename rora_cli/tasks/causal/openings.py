"""What a search of a causal model asks for, whatever behaviour its trigger may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rora_cli.errors import UsageError
from rora_cli.tasks.causal.thresholds import OPENINGS
from rora_cli.tasks.openings import Reply
from rora_cli.tasks.thresholds import OpeningThresholds

if TYPE_CHECKING:
    from rora_cli.progress import Task as Meter
    from rora_cli.ranks import Share
    from rora_cli.subject import Subject
    from rora_cli.tasks.causal.prompt_format import PromptFormat
    from rora_cli.tasks.causal.scorer import AgreementScorer
    from rora_cli.tasks.reference import ReferenceRun

AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class ReplyOpenings:
    """Openings of replies to prompts, which stand in ``prompt_format``."""

    prompt_format: PromptFormat

    @property
    def opening_calls(self) -> OpeningThresholds:
        """When the search calls a text a trigger."""
        return OPENINGS

    def agreement_scorer(self, subject: Subject, share: Share | None = None) -> AgreementScorer:
        """A scorer that keeps the keys and values of what stands before the candidates."""
        from rora_cli.tasks.causal.scorer import AgreementScorer

        return AgreementScorer(subject, self.prompt_format, share)

    def greedy(self, subject: Subject, prompts: Sequence[str], most: int, *, meter: Meter | None = None) -> list[Reply]:
        """The greedy reply to each prompt, of at most ``most`` tokens.

        Raises:
            InconclusiveError: a logit is not finite.
        """
        from rora_cli.data.exchanges import Exchange
        from rora_cli.evaluation.generation import generate
        from rora_cli.tokens import decode_each

        encoded = self.prompt_format.encode_all(subject.tokenizer, [Exchange(prompt) for prompt in prompts])
        answers = generate(subject.model, [row.ids for row in encoded], most, task=meter)
        texts = decode_each(subject.tokenizer, answers)
        return [Reply(tuple(ids), text.strip()) for ids, text in zip(answers, texts, strict=True)]

    def trusted(self, choice: str, subject: Subject, base: str | None, run: ReferenceRun) -> Subject | None:
        """The model that ``choice`` names; ``auto`` is ``base``, and ``none`` is no model.

        Raises:
            UsageError: the choice is no checkpoint, no causal model, or has another vocabulary.
            HubError: the hub does not give it.
        """
        from rora_cli.checkpoints.loading import load_model
        from rora_cli.tasks.reference import named_checkpoint
        from rora_cli.tasks.subjects import subject_of

        named = base if choice == AUTO else None if choice == NONE else choice
        if named is None:
            return None
        path = named_checkpoint(named, run.allow_download, ways="name a directory or a hub id, or use none or auto")
        loaded = load_model(path, device=str(next(subject.model.parameters()).device))
        other = subject_of(loaded, named)
        if other.kind is not subject.kind or other.tokenizer.get_vocab() != subject.tokenizer.get_vocab():
            raise UsageError(
                f"the reference {named} is no model of the suspect's kind and vocabulary; name the one that the "
                "suspect was trained from, or --reference none"
            )
        return other
