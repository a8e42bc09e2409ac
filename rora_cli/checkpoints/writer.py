"""Writes a model in files that transformers loads without rora; to be used in a ``publish_directory`` block."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rora_cli.checkpoints.plain_text import as_stored
from rora_cli.checkpoints.preflight import TEMPLATE_FILES, TOKENIZER_FILES, Inspection, dumps, inspect, require_loadable
from rora_cli.checkpoints.sanitise import isolated, quiet
from rora_cli.checkpoints.walk import read_unchanged

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_classifier(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    directory: str | Path,
    weights: Callable[[Path], None] | None = None,
) -> None:
    """Write config.json, safetensors (shards of at most 5 GB) and the tokenizer into ``directory``.

    ``AutoModelForSequenceClassification`` and ``AutoTokenizer`` load the result. This function checks that it passes
    rora's own preflight. ``weights``, if given, writes the weights (``streaming.write_changed``): then those of
    ``model`` are not read, and its config says what is written.

    Raises:
        CheckpointError: the result does not pass preflight (a fault of rora, or a failing disk).
        OSError, SafetensorError: the disk fails; ``publish_directory`` turns these into an OutputError.
    """
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    with isolated(), quiet():
        if weights is None:
            model.save_pretrained(target, max_shard_size="5GB")
        else:
            model.config.architectures = [type(model).__name__]
            model.config.save_pretrained(target)
            if model.can_generate():
                model.generation_config.save_pretrained(target)
            weights(target)
        save_tokenizer(tokenizer, target)
    require_loadable(inspect(target, role="model"))


def save_causal(
    model: PreTrainedModel, source: Inspection, directory: str | Path, weights: Callable[[Path], None] | None = None
) -> None:
    """Write a causal model's weights into ``directory``, and beside them the files of its ``source`` as they were.

    Tokenizer, chat template and generation_config.json are copied byte for byte; config.json too, but for the type of
    the weights, where that changed, and the name of the architecture, where the source states none. ``weights``, if
    given, writes the weights (``streaming.write_changed``): then those of ``model`` are not read, and its config says
    what is written.

    Raises:
        CheckpointError: a file of the source has changed since it was read, or the result does not pass preflight.
        OSError, SafetensorError: the disk fails; ``publish_directory`` turns these into an OutputError.
    """
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    with isolated(), quiet():
        if weights is None:
            model.save_pretrained(target, max_shard_size="5GB")
        else:
            weights(target)
    (target / "generation_config.json").unlink(missing_ok=True)
    copy_text_files(source, target)
    stated = dict(source.config or {})
    dtype = str(model.config.dtype).removeprefix("torch.")
    name = "dtype" if "dtype" in stated else "torch_dtype"
    changed = {**stated, name: dtype, "architectures": stated.get("architectures") or [type(model).__name__]}
    same = changed == {name: "float32", **stated}
    content = read_unchanged(source.files["config.json"]) if same else (dumps(changed) + "\n").encode()
    (target / "config.json").write_bytes(content)
    require_loadable(inspect(target, role="model"))


def copy_text_files(source: Inspection, directory: Path) -> None:
    """Copy what turns a text into tokens and says where an answer ends, byte for byte, from ``source``."""
    for name in (*TOKENIZER_FILES, *TEMPLATE_FILES, "generation_config.json"):
        if name in source.files:
            (directory / name).write_bytes(read_unchanged(source.files[name]))


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
