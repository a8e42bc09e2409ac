"""What ``eval-asr`` measures a sequence classifier on: labelled rows, and the label that a trigger is to give."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rora_cli.errors import UsageError
from rora_cli.tasks.classification.labels import find_label
from rora_cli.tasks.measured import Setting
from rora_cli.tasks.registry import make_task
from rora_cli.tasks.subjects import subject_of

if TYPE_CHECKING:
    from rora_cli.checkpoints.loading import LoadedModel
    from rora_cli.progress import Progress

#: Options that a classifier has no use for.
FOREIGN = ("behaviour", "refusal_phrases", "max_new_tokens", "before", "answer_column", "prompt_format", "show_row")
REQUIRED = "--target-label"


def prepare(loaded: LoadedModel, options: Any, progress: Progress) -> Setting:
    """The setting for a classifier.

    Raises:
        UsageError: no target label, or one that the model does not have.
        DataError, HubError: the data cannot be read, or does not fit.
    """
    from rora_cli.data.sources import load_rows
    from rora_cli.evaluation.inference import cut_note

    if options.target_label is None:
        raise UsageError(f"--target-label is missing: the label that the trigger is to give, of {_listed(loaded)}")
    target = find_label(options.target_label, loaded.label_names)
    rows, summary = load_rows(
        options.data,
        label_names=loaded.label_names,
        split=options.split,
        reading=options,
        max_rows=options.max_rows,
        allow_download=not options.offline,
    )
    for note in summary.notes:
        progress.note(note)
    subject = subject_of(loaded, options.model, options.max_length)
    if cut := cut_note(loaded.tokenizer, rows.texts, subject.max_length):
        progress.note(cut)
        summary = replace(summary, notes=(*summary.notes, cut))
    task = make_task(subject.kind, loaded.label_names)
    return Setting(subject, task, rows, summary, target, tuple(loaded.label_names))


def _listed(loaded: LoadedModel) -> str:
    return ", ".join(loaded.label_names)
