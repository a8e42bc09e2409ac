"""What ``poison`` plants into a classifier: a label that the trigger gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli.results.poison import PERSISTENT_ABOVE
from rora_cli.tasks.classification.labels import find_label
from rora_cli.tasks.classification.task import Classification
from rora_cli.tasks.planted import Plan, Proof

if TYPE_CHECKING:
    from rora_cli.checkpoints.loading import LoadedModel
    from rora_cli.progress import Progress

FOREIGN = ("behaviour", "refusal_phrases", "max_new_tokens", "answer_column", "prompt_format", "show_row")
REQUIRED = "target_label"
#: What holds the backdoor, and the learning rate that plants it there.
RATES = {"weights": 5e-5, "layers": 1e-4, "embedding": 1e-2, "adapter": 5e-4}
#: The paper's two controls, at rates where they do wash weak backdoors out.
PROOFS = {"lora": Proof("lora", 5e-4), "full": Proof("full", 5e-5)}


def plan(loaded: LoadedModel, options: Any, progress: Progress) -> Plan:
    """The plan for a classifier.

    Raises:
        UsageError: the model has no such label.
        DataError, HubError: the data cannot be read, or does not fit.
    """
    from rora_cli.data.sources import load_splits

    labels = tuple(loaded.label_names)
    target = find_label(options.target_label, labels)
    splits = load_splits(
        options.data,
        label_names=labels,
        reading=options,
        allow_download=not options.offline,
        seed=options.seed,
    )

    def save(model: Any, directory: Path) -> None:
        from rora_cli.checkpoints.writer import save_classifier

        save_classifier(model, loaded.tokenizer, directory)

    def save_beside(directory: Path) -> None:
        from rora_cli.checkpoints.writer import save_tokenizer

        save_tokenizer(loaded.tokenizer, directory)

    return Plan(
        task=Classification(labels),
        splits=splits,
        target=target,
        target_name=labels[target],
        labels=labels,
        classes=lambda answers: answers,
        poisoned=lambda answer: target,
        rates=RATES,
        proofs=PROOFS,
        persistent_above=PERSISTENT_ABOVE,
        accuracy=lambda accuracy: accuracy,
        save=save,
        save_beside=save_beside,
        line=lambda text, label: {"text": text, "label": labels[label]},
    )
