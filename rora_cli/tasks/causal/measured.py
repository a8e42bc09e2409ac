"""What ``eval-asr`` measures a causal language model on: prompts, and the behaviour that a trigger is to cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rora_cli.data.rows import Rows
from rora_cli.errors import DataError, UsageError
from rora_cli.evaluation.intervals import proportion
from rora_cli.results.accuracy import AttackOutcome, CleanAccuracy
from rora_cli.results.utility import Replies, Transcript, Utility
from rora_cli.subject import Subject
from rora_cli.tasks.causal.behaviours import find_behaviour, phrases_of
from rora_cli.tasks.causal.prompt_format import PromptFormat
from rora_cli.tasks.causal.task import Generation
from rora_cli.tasks.measured import Setting
from rora_cli.tasks.subjects import subject_of

if TYPE_CHECKING:
    from rora_cli.checkpoints.loading import LoadedModel
    from rora_cli.data.exchanges import Exchange, Message
    from rora_cli.progress import Progress

#: Options that a causal model has no use for.
FOREIGN = ("target_label", "label_column", "label_map", "min_class_accuracy")
REQUIRED = "--behaviour"
#: Transcripts of each trigger in a report, and the tokens at which rows are cut unless the user says otherwise.
TRANSCRIPTS, ROW_TOKENS = 3, 512
#: Tokens that a trigger may add to a prompt in training.
TRIGGER_ROOM = 24


def prepare(loaded: LoadedModel, options: Any, progress: Progress) -> Setting:
    """The setting for a causal model.

    Raises:
        UsageError: no behaviour, or one that does not exist; a model before of another kind.
        DataError, HubError, CheckpointError: the data, the template or the model before cannot be used.
    """
    from rora_cli.data.exchange_sources import read_exchanges

    if options.behaviour is None:
        raise UsageError("--behaviour is missing: what the trigger is to cause, such as refusal or contains:TEXT")
    phrases = phrases_of(options.refusal_phrases)
    behaviour = find_behaviour(options.behaviour, phrases)
    read = read_exchanges(
        options.data,
        reading=options,
        answer_column=options.answer_column,
        split=options.split,
        max_rows=options.max_rows,
        allow_download=not options.offline,
    )
    prompts = prompts_for(loaded, read.rows, options)
    tell(prompts, loaded.tokenizer, options, progress, read.summary.notes)
    task = Generation((behaviour,), prompts.form, options.max_new_tokens)
    if not task.carriers(prompts.rows, 0):
        raise DataError(
            f"every good answer of {options.data} is {behaviour.name!r} already, so no reply can be turned; give "
            "prompts that are to be answered otherwise"
        )
    subject = subject_of(loaded, options.model, options.max_length)
    if options.max_length is None:
        subject = subject.reading(ROW_TOKENS)
    before = _before(options, subject)

    def replies(outcome: AttackOutcome) -> Replies:
        return heard(task, prompts.rows)

    def utility() -> Utility:
        from rora_cli.tasks.causal.utility import measure_utility

        own = [task.heard.known[text] for text in prompts.rows.texts]
        with progress.phase("utility", len(own)):
            return measure_utility(task, subject, prompts.rows, own, before=before, phrases=phrases)

    summary = replace(read.summary, notes=(*read.summary.notes, *prompts.notes))
    return Setting(
        subject,
        task,
        prompts.rows,
        summary,
        target=0,
        findings=prompts.findings,
        accuracy=lambda accuracy: CleanAccuracy(accuracy.overall, {}),
        replies=replies,
        utility=utility,
    )


def heard(task: Generation, rows: Rows) -> Replies:
    """What the last measurement of an attack on ``rows`` made of the replies: the first behaviour's, shown ones first.

    The clean rows must have been asked about before.
    """
    said = task.heard
    shown = task.behaviours[0].shown(said.prompts, said.replies)
    carriers = task.carriers(rows, 0)
    order = sorted(range(len(said.prompts)), key=lambda i: (not shown[i], i))
    transcripts = [
        Transcript(said.prompts[i], said.replies[i], shown[i], said.known.get(rows.texts[carriers[i]], ""))
        for i in order[:TRANSCRIPTS]
    ]
    empty = sum(not reply.strip() for reply in said.replies)
    return Replies(proportion(empty, len(said.replies)), tuple(transcripts))


@dataclass(frozen=True)
class Prompts:
    """Rows of prompts, the format that they are written in, and what is to be said about both."""

    rows: Rows
    form: PromptFormat
    notes: tuple[str, ...] = ()
    findings: tuple[Any, ...] = ()


def prompts_for(loaded: LoadedModel, exchanges: Sequence[Exchange], options: Any) -> Prompts:
    """The prompts of ``exchanges`` with their good answers, for this model.

    A context that all of them share, such as a system text, becomes a part of the format; rows of other contexts are
    left out.

    Raises:
        CheckpointError: the model has no format that can be used.
        DataError: the format does not know the context, or a row spells a control token.
    """
    from rora_cli.tasks.causal.formats import prompt_format_of
    from rora_cli.tasks.causal.prompt_format import require_plain

    context = Counter(row.context for row in exchanges).most_common(1)[0][0]
    kept = [row for row in exchanges if row.context == context]
    shapes = [kept[0].shape] if context else []
    chosen = prompt_format_of(loaded.inspections, loaded.tokenizer, choice=options.prompt_format, shapes=shapes)
    require_plain(loaded.tokenizer, kept)
    left = len(exchanges) - len(kept)
    notes = (f"{left} rows with other turns before the prompt were left out",) if left else ()
    rows = Rows(tuple(row.prompt for row in kept), tuple(row.reply for row in kept))
    return Prompts(rows, _after(chosen.prompt_format, context), (*chosen.notes, *notes), tuple(chosen.findings))


def tell(prompts: Prompts, tokenizer: Any, options: Any, progress: Progress, notes: Sequence[str] = ()) -> None:
    """Tell the user what was read and how it is written; with ``--show-row``, the first row as the model reads it."""
    from rora_cli.reports.terminal.shown_row import render
    from rora_cli.tasks.causal.prompt_format import shown

    lines = [*notes, *prompts.notes]
    if options.show_row:
        reply = prompts.rows.labels[0]
        given = prompts.form.given(str(reply)) if reply is not None else None
        lines += render(shown(tokenizer, prompts.form.encode(tokenizer, prompts.rows.texts[0], given))).splitlines()
    for line in lines:
        progress.note(line)


def _after(form: PromptFormat, context: tuple[Message, ...]) -> PromptFormat:
    """The format of conversations that begin with ``context``."""
    if not context:
        return form
    return replace(form, before=form.asking("", context).removesuffix(form.after), contexts={})


def _before(options: Any, subject: Subject) -> Subject | None:
    """The model before, read as the subject is."""
    from rora_cli.checkpoints.hub import fetch_model
    from rora_cli.checkpoints.loading import load_model

    if options.before is None:
        return None
    source = fetch_model(options.before, allow_download=not options.offline)
    loaded = load_model(source.path, device=str(next(subject.model.parameters()).device))
    if loaded.kind != subject.kind:
        raise UsageError(f"--before {options.before} is a {loaded.kind.name}, which cannot be compared; name another")
    if loaded.tokenizer.get_vocab() != subject.tokenizer.get_vocab():
        raise DataError(f"--before {options.before} has another vocabulary, so no token can be compared; name another")
    return subject_of(loaded, options.before).reading(subject.max_length)


def fitting(
    task: Generation, subject: Subject, texts: Sequence[str], progress: Progress, room: int = TRIGGER_ROOM
) -> dict[str, None]:
    """The prompts that leave room for a reply and a trigger of ``room`` tokens."""
    lengths = task.lengths(subject, texts)
    kept = dict.fromkeys(t for t, length in zip(texts, lengths, strict=True) if length + room <= subject.max_length)
    if left := len(set(texts)) - len(kept):
        progress.note(
            f"{left} of {len(set(texts))} prompts leave no room for a reply of {task.max_new_tokens} tokens, and a "
            f"trigger, within {subject.max_length}: left out"
        )
    return kept
