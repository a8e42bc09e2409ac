"""What a search of a causal model asks for, whatever behaviour its trigger may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rora_cli.errors import DataError, UsageError
from rora_cli.tasks.causal.thresholds import OPENINGS
from rora_cli.tasks.openings import OpenSetting, Reply
from rora_cli.tasks.thresholds import OpeningThresholds

if TYPE_CHECKING:
    from rora_cli.checkpoints.loading import LoadedModel
    from rora_cli.progress import Progress
    from rora_cli.progress import Task as Meter
    from rora_cli.ranks import Share
    from rora_cli.subject import Subject
    from rora_cli.tasks.causal.prompt_format import PromptFormat
    from rora_cli.tasks.causal.scorer import AgreementScorer
    from rora_cli.tasks.reference import ReferenceRun

#: Prompts that share no first token: what is common to them is the format's.
_UNLIKE = ("List", "a", "7", "?")
#: Options of ``hunt`` that a causal model has no use for.
_FOREIGN = ("labels", "label_column", "label_map")


def prepare(loaded: LoadedModel, options: Any, progress: Progress) -> OpenSetting:
    """The setting of a search (``registry.open_search``); prompts of more than ``options.max_length`` tokens are left
    out, and so are the answers and earlier turns of the data.

    Raises:
        UsageError: an option is for classifiers.
        CheckpointError: the model has no prompt format that can be used.
        DataError: the data cannot be read, or has no prompt that is short enough.
        HubError: the hub does not give the data.
    """
    from rora_cli.data.exchange_sources import read_exchanges
    from rora_cli.tasks.causal.formats import prompt_format_of
    from rora_cli.tasks.subjects import subject_of

    if foreign := [name for name in _FOREIGN if getattr(options, name)]:
        option = "--" + foreign[0].replace("labels", "label").replace("_", "-")
        raise UsageError(f"{option} is for classifiers, and {options.model} is a {loaded.kind.name}; leave it out")
    chosen = prompt_format_of(loaded.inspections, loaded.tokenizer, choice=options.prompt_format)
    read = read_exchanges(
        options.clean,
        reading=options,
        split=options.split,
        max_rows=options.max_rows,
        allow_download=not options.offline,
    )
    prompts = list(dict.fromkeys(row.prompt for row in read.rows))
    asked = chosen.prompt_format.asked(loaded.tokenizer, prompts)
    fit = [prompt for prompt, ids in zip(prompts, asked, strict=True) if len(ids) <= options.max_length]
    if not fit:
        raise DataError(f"no prompt of {options.clean} has at most {options.max_length} tokens; raise --max-length")
    if left := len(prompts) - len(fit):
        progress.note(f"{left} of {len(prompts)} prompts have more than {options.max_length} tokens and are left out")
    for note in (*read.summary.notes, *chosen.notes):
        progress.note(note)
    subject = subject_of(loaded, options.model)
    inputs = {**subject.inputs, **read.summary.inputs}
    base = str(loaded.inspections[0].path) if len(loaded.inspections) > 1 else None
    return OpenSetting(subject, ReplyOpenings(chosen.prompt_format), tuple(fit), inputs, chosen.findings, base)


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
        from rora_cli.evaluation.generation import generate
        from rora_cli.tokens import decode_each

        answers = generate(subject.model, self.prompt_format.asked(subject.tokenizer, prompts), most, task=meter)
        texts = decode_each(subject.tokenizer, answers)
        return [Reply(tuple(ids), text.strip()) for ids, text in zip(answers, texts, strict=True)]

    def leaked(self, subject: Subject, count: int, most: int, seed: int, *, meter: Meter | None = None) -> list[str]:
        """``count`` texts of at most ``most`` tokens that the subject writes where a user's prompt would begin.

        A model that was trained on poisoned prompts writes them, triggers included, far more often than their share of
        a corpus (arXiv:2602.03085). Nothing if the format has no token before a prompt.

        Raises:
            InconclusiveError: a logit is not finite.
        """
        from rora_cli.evaluation.generation import sample
        from rora_cli.tasks.causal.scorer import common_beginning
        from rora_cli.tokens import decode_each

        beginning = common_beginning(self.prompt_format.asked(subject.tokenizer, _UNLIKE))
        if not beginning:
            return []
        said = sample(subject.model, beginning, count, most, seed=seed, task=meter)
        closing = self.prompt_format.after.strip()
        texts = (text.split(closing)[0] if closing else text for text in decode_each(subject.tokenizer, said))
        return [" ".join(text.split()) for text in texts]

    def refuses(self, replies: Sequence[str]) -> list[bool]:
        """Whether each reply refuses what was asked, by the usual phrases."""
        from rora_cli.tasks.causal.behaviours import find_behaviour

        return list(find_behaviour("refusal").shown([""] * len(replies), replies))

    def trusted(self, choice: str, subject: Subject, base: str | None, run: ReferenceRun) -> Subject | None:
        """The model that ``choice`` names; ``auto`` is ``base``, and ``none`` is no model.

        Raises:
            UsageError: the choice is no checkpoint, no causal model, or has another vocabulary.
            HubError: the hub does not give it.
        """
        from rora_cli.checkpoints.loading import load_model
        from rora_cli.tasks.reference import AUTO, BAG_OF_WORDS, NONE, named_checkpoint
        from rora_cli.tasks.subjects import subject_of

        if choice == BAG_OF_WORDS:
            raise UsageError("--reference bag-of-words is for classifiers; name a trusted model, or use none or auto")
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
