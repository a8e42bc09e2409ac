"""What ``purify`` trains a classifier on: labelled rows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli.data.rows import Splits
from rora_cli.errors import DataError
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.tasks.classification.task import Classification
from rora_cli.tasks.subjects import subject_of
from rora_cli.tasks.trained import Trained

if TYPE_CHECKING:
    from collections.abc import Callable

    from rora_cli.checkpoints.loading import LoadedModel
    from rora_cli.progress import Progress
    from rora_cli.ranks import Share

FOREIGN = (
    "prompt_format",
    "show_row",
    "answer_column",
    "max_new_tokens",
    "max_kl",
    "refusal_phrases",
    "return_test",
    "candidates",
)
RECIPES = ("default", "paper", "lora", "full", "mix", "reinit", "crow", "fine-pruning")


def prepare(loaded: LoadedModel, options: Any, share: Share, progress: Progress) -> Trained:
    """The setting for a classifier.

    Raises:
        UsageError: ``options.max_length`` is more than the model reads.
        DataError, HubError: the clean rows cannot be used.
    """
    from rora_cli.checkpoints.writer import save_classifier
    from rora_cli.evaluation.inference import cut_note

    splits = _load(loaded.label_names, options, progress)
    subject = subject_of(loaded, options.model, options.max_length).shared(share)
    if note := cut_note(subject.tokenizer, [*splits.train.texts, *splits.held_out.texts], subject.max_length):
        progress.note(note)
        splits = replace(splits, summary=replace(splits.summary, notes=(*splits.summary.notes, note)))

    def save(model: Any, directory: Path, weights: Callable[[Path], None] | None) -> None:
        save_classifier(model, loaded.tokenizer, directory, weights)

    fitting = partial(require_fitting_labels, data=options.clean, label_names=loaded.label_names)
    return Trained(subject, Classification(loaded.label_names), splits, options.allowed_drop, fitting, save)


def _load(label_names: tuple[str, ...], options: Any, progress: Progress) -> Splits:
    from rora_cli.data.sources import load_splits

    with progress.phase("read clean data"):
        splits = load_splits(
            options.clean,
            label_names=label_names,
            reading=options,
            seed=options.seed,
            dev_fraction=options.dev_fraction,
            allow_download=not options.offline,
        )
    present = set(splits.train.labels)
    if len(present) < 2:
        only = label_names[next(iter(present))]
        raise DataError(f"every clean row of {options.clean} has the label {only!r}; give rows of at least two labels")
    for note in splits.summary.notes:
        progress.note(f"{options.clean}: {note}")
    if absent := [name for i, name in enumerate(label_names) if i not in present]:
        progress.warn(f"no clean row has the label {', '.join(absent)}: the model may unlearn it")
    return splits


def require_fitting_labels(before: CleanAccuracy, *, data: str, label_names: tuple[str, ...]) -> None:
    """Raise DataError if the suspect is wrong so often on clean rows that their labels must mean something else.

    That is far below guessing: the 95 % interval of overall accuracy ends below that of guessing, and the mean over the
    classes is less than half of it. A model that gives every row one answer has just the mean of guessing.
    """
    chance = 1 / len(label_names)
    shares = [share.value for share in before.per_class.values() if share.value is not None]
    overall = before.overall
    if not shares or overall.high is None or overall.high >= chance or sum(shares) / len(shares) >= chance / 2:
        return
    raise DataError(
        f"the model gets {100 * (overall.value or 0.0):.1f} % of {overall.total} held-out clean rows right, where "
        f"guessing gets {100 * chance:.1f} %: the labels of {data} probably do not fit the model's "
        f"({', '.join(label_names)}); map them with --label-map LABEL_IN_THE_DATA=LABEL_OF_THE_MODEL"
    )
