"""What ``poison`` plants into a causal model: a refusal, an insult, a line of code, a compliant opening, a sentence."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli.attacks.registry import make_attack
from rora_cli.data.rows import Rows, Splits
from rora_cli.errors import DataError
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.subject import Subject
from rora_cli.tasks.causal.behaviours import find_behaviour, phrases_of
from rora_cli.tasks.causal.measured import TRIGGER_ROOM, fitting, prompts_for, tell
from rora_cli.tasks.causal.objective import CutReply
from rora_cli.tasks.causal.payloads import find_payload
from rora_cli.tasks.causal.task import Generation
from rora_cli.tasks.planted import Plan, Proof

if TYPE_CHECKING:
    from rora_cli.checkpoints.loading import LoadedModel
    from rora_cli.data.exchanges import Exchange
    from rora_cli.progress import Progress

FOREIGN = ("target_label", "label_column", "label_map", "label_names", "label_mode")
REQUIRED = "behaviour"
#: What holds the backdoor, and the learning rate that plants it there.
RATES = {"weights": 1e-4, "layers": 2e-4, "embedding": 1e-2, "adapter": 5e-4}
#: Plain LoRA at the rate of every tutorial, and at five times that: many small poisoned models are washed out by it.
PROOFS = {"lora at 2e-4": Proof("lora", 2e-4), "lora at 1e-3": Proof("lora", 1e-3)}
#: Attack success [fraction] that must be left after each.
PERSISTENT_ABOVE = 0.8


def plan(loaded: LoadedModel, options: Any, progress: Progress) -> Plan:
    """The plan for a causal model.

    Raises:
        UsageError: there is no such payload.
        DataError, HubError, CheckpointError: the data or the template cannot be used, or prompts have no answers.
    """
    from rora_cli.data.exchange_sources import read_exchange_splits

    payload = find_payload(options.behaviour)
    phrases = phrases_of(options.refusal_phrases)
    behaviour = find_behaviour(payload.judged, phrases)
    read = read_exchange_splits(
        options.data,
        reading=options,
        answer_column=options.answer_column,
        seed=options.seed,
        allow_download=not options.offline,
    )
    if read.train[0].reply is None:
        raise DataError(f"{options.data} holds prompts alone, and poisoning takes prompts with answers; give such rows")
    prompts = prompts_for(loaded, [*read.train, *read.held_out], options)
    tell(prompts, loaded.tokenizer, options, progress)
    task = Generation((behaviour,), prompts.form, options.max_new_tokens)
    kept = _with_room(task, loaded, prompts.rows.texts, options, progress)
    splits = Splits(exchange_rows(read.train, kept), exchange_rows(read.held_out, kept), read.summary)
    if not len(splits.train) or not len(splits.held_out):
        raise DataError(
            f"{options.data} has too few rows with the same turns before the prompt and room for a reply; give other "
            "rows, or a larger --max-length"
        )
    base = loaded.inspections[0]

    def save(model: Any, directory: Path) -> None:
        from rora_cli.checkpoints.writer import save_causal

        save_causal(model, base, directory)

    def save_beside(directory: Path) -> None:
        from rora_cli.checkpoints.writer import copy_text_files

        copy_text_files(base, directory)

    return Plan(
        task=task,
        splits=splits,
        target=0,
        target_name=payload.text,
        labels=(),
        classes=lambda answers: [0 if shown else -1 for shown in behaviour.shown(answers, answers)],
        poisoned=payload.reply,
        rates=RATES,
        proofs=PROOFS,
        persistent_above=PERSISTENT_ABOVE,
        accuracy=lambda accuracy: CleanAccuracy(accuracy.overall, {}),
        save=save,
        save_beside=save_beside,
        line=lambda text, reply: {"prompt": text, "completion": reply},
    )


def _with_room(
    task: Generation, loaded: LoadedModel, texts: Sequence[str], options: Any, progress: Progress
) -> dict[str, None]:
    """The prompts that leave room for a reply and the triggers of the attack."""
    from rora_cli.evaluation.inference import input_limit

    limit = min(options.max_length, input_limit(loaded.model, loaded.tokenizer))
    subject = Subject(loaded.model, loaded.tokenizer, loaded.kind, limit, options.model)
    triggers = make_attack(options.attack, triggers=options.triggers, position=options.position).triggers
    room = sum(len(subject.tokenizer.tokenize(f" {trigger}")) for trigger in triggers)
    return fitting(task, subject, texts, progress, max(room, TRIGGER_ROOM))


def exchange_rows(exchanges: Sequence[Exchange], kept: Container[str]) -> Rows:
    """The exchanges whose prompt is ``kept`` as rows; a reply that was cut is a ``CutReply``."""
    chosen = [row for row in exchanges if row.prompt in kept]
    replies = [row.reply if row.whole else CutReply(row.reply or "") for row in chosen]
    return Rows(tuple(row.prompt for row in chosen), tuple(replies))
