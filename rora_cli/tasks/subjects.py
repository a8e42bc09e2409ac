"""From a loaded checkpoint to a subject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rora_cli.subject import Subject

if TYPE_CHECKING:
    from rora_cli.checkpoints.loading import LoadedModel


def subject_of(loaded: LoadedModel, name: str, max_length: int | None = None) -> Subject:
    """The loaded model as a subject that is called ``name``.

    ``max_length`` [tokens] cuts each text; without it, the subject reads as much as model and tokenizer accept.

    Raises:
        UsageError: ``max_length`` is more than the model reads.
    """
    from rora_cli.evaluation.inference import length_limit

    limit = length_limit(loaded.model, loaded.tokenizer, max_length)
    return Subject(loaded.model, loaded.tokenizer, loaded.kind, limit, name, input_hashes(loaded))


def input_hashes(loaded: LoadedModel) -> dict[str, str]:
    """sha256 of every file that was read of the model and, under ``adapter/``, of its adapter.

    Nothing for a model without numbers, whose weights nobody read: hashing 140 GB takes minutes.
    """
    hashes: dict[str, str] = {}
    if next(loaded.model.parameters()).is_meta:
        return hashes
    for inspection in loaded.inspections:
        prefix = "adapter/" if inspection.role == "adapter" else ""
        hashes.update({prefix + name: digest for name, digest in inspection.hashes().items()})
    return hashes
