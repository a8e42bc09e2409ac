"""Writes a classifier in files that transformers loads without rora; to be used in a ``publish_directory`` block."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rora_cli.checkpoints.plain_text import as_stored
from rora_cli.checkpoints.preflight import TOKENIZER_FILES, inspect, require_loadable
from rora_cli.checkpoints.sanitise import isolated, quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_classifier(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: str | Path) -> None:
    """Write config.json, safetensors (shards of at most 5 GB) and the tokenizer into ``directory``.

    ``AutoModelForSequenceClassification`` and ``AutoTokenizer`` load the result. This function checks that it passes
    rora's own preflight.

    Raises:
        CheckpointError: the result does not pass preflight (a fault of rora, or a failing disk).
        OSError, SafetensorError: the disk fails; ``publish_directory`` turns these into an OutputError.
    """
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    with isolated(), quiet():
        model.save_pretrained(target, max_shard_size="5GB")
        save_tokenizer(tokenizer, target)
    require_loadable(inspect(target, role="model"))


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write the tokenizer's files, without paths of this machine in its settings."""
    with tempfile.TemporaryDirectory(prefix="rora-") as scratch:
        with as_stored(tokenizer):
            tokenizer.save_pretrained(scratch)
        for source in sorted(Path(scratch).iterdir()):
            if source.name in TOKENIZER_FILES:
                (directory / source.name).write_bytes(source.read_bytes())
    settings = directory / "tokenizer_config.json"
    if settings.is_file():
        fields = json.loads(settings.read_text(encoding="utf-8"))
        for key in ("name_or_path", "tokenizer_file", "vocab_file", "merges_file", "is_local", "auto_map"):
            fields.pop(key, None)
        settings.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
