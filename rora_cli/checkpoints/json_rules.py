"""Checks of a model's JSON files: remote code, impossible values, malformed labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rora_cli.checkpoints import strict_json
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.rules import finding
from rora_cli.results.findings import Finding

#: Keys that make a loader import code, in any file and at any depth, unless their value is empty.
_CODE_KEYS = frozenset({"auto_map", "custom_pipelines", "trust_remote_code", "custom_generate"})
_KERNEL_KEYS = re.compile(r"^_?(attn|experts)_implementation(_internal)?$|^_?use_kernels$|^kernel_config$")
#: Field -> largest value. A model builds as many layers as this field says before anything compares it with a weight.
_COUNT_LIMITS = {"num_hidden_layers": 4096, "n_layer": 4096, "num_layers": 4096, "n_layers": 4096}
_POSITION_KEYS = frozenset({"max_position_embeddings", "n_positions", "n_ctx", "seq_length"})
#: Families whose constructors build a mask of positions x positions.
_SQUARE_MASK_TYPES = ("gpt2", "gptj", "gpt_neo", "gpt_bigcode", "codegen", "openai-gpt", "ctrl", "xlnet")
_MAX_WHOLE_NUMBER = 1 << 26
_MAX_POSITIONS, _MAX_SQUARE_POSITIONS = 1 << 24, 1 << 14
_MAX_LABELS = 10_000
_BIASES = (
    "forced_bos_token_id", "forced_eos_token_id", "forced_decoder_ids", "sequence_bias", "suppress_tokens",
    "begin_suppress_tokens", "bad_words_ids", "force_words_ids", "constraints", "prefix_allowed_tokens_fn",
)  # fmt: skip


def remote_code(file: str, document: Any) -> Iterator[Finding]:
    """Findings for keys, at any depth, that make transformers, diffusers or PEFT import code or fetch kernels."""
    for path, value in strict_json.walk(document):
        key, where = (path[-1] if path else ""), quoted(".".join(path))
        if key in _CODE_KEYS and value not in (None, False, {}, [], ""):
            yield finding("json/remote-code", f"{file} asks for code to be imported and run ({where})", file, key=key)
        elif _KERNEL_KEYS.match(key) and isinstance(value, str | dict) and _names_repository(value):
            yield finding("config/remote-kernel", f"{file} asks for code from a repository ({where})", file, key=key)


def modules(document: Any, file: str = "modules.json") -> Iterator[Finding]:
    """Findings for modules that sentence-transformers would import by their dotted names."""
    for entry in document if isinstance(document, list) else ():
        kind = entry.get("type") if isinstance(entry, dict) else None
        if isinstance(kind, str) and not kind.startswith("sentence_transformers."):
            yield finding("json/remote-code", f"{file} asks for {quoted(kind, 60)} to be imported", file)


def model_config(document: Any, file: str = "config.json") -> Iterator[Finding]:
    """Findings for the fields of config.json that decide what a loader builds, how large, and from which file."""
    if not isinstance(document, dict):
        yield finding("config/invalid", f"{file} is not a JSON object", file)
        return
    model_type = document.get("model_type")
    if not isinstance(model_type, str) or not re.fullmatch(r"[A-Za-z0-9_.\-]{1,64}", model_type):
        yield finding("config/invalid", f"{file} names no model_type, or a malformed one", file)
    if document.get("transformers_weights") is not None:
        yield finding("config/weights-path", f"{file} names the file to read weights from (transformers_weights)", file)
    if document.get("quantization_config") is not None:
        yield finding("config/quantised", f"{file} says that the weights are quantised", file)
    for path, value in strict_json.walk(document):
        if path and type(value) in (int, float) and (reason := _out_of_bounds(path[-1], value, model_type)):
            yield finding("config/invalid", f"{file} gives {quoted('.'.join(path))} {reason}", file, value=value)
    yield from _labels(document, file)


def generation_config(document: Any, file: str = "generation_config.json") -> Iterator[Finding]:
    """A finding for settings that force or forbid certain tokens in generated text."""
    if isinstance(document, dict):
        biases = [key for key in _BIASES if document.get(key)]
        if biases:
            yield finding("generation/biased", f"{file} sets {', '.join(biases)}", file)


def _names_repository(value: Any) -> bool:
    return any("/" in text or ":" in text for _, text in strict_json.walk(value) if isinstance(text, str))


def _out_of_bounds(key: str, value: float, model_type: Any) -> str | None:
    if isinstance(value, float):
        return None if abs(value) <= 1e9 else f"the value {value:g}, which is out of range"
    if key in _POSITION_KEYS:
        limit = _MAX_SQUARE_POSITIONS if model_type in _SQUARE_MASK_TYPES else _MAX_POSITIONS
        return None if 0 <= value <= limit else f"the value {value}; rora builds at most {limit:,} positions"
    if key in _COUNT_LIMITS and not 0 < value <= _COUNT_LIMITS[key]:
        return f"the value {value}; rora builds 1 to {_COUNT_LIMITS[key]:,}"
    return None if abs(value) <= _MAX_WHOLE_NUMBER or key.endswith("max_length") else f"the value {value}, out of range"


def _labels(document: Mapping[str, Any], file: str) -> Iterator[Finding]:
    names, ids = document.get("id2label"), document.get("label2id")
    if names is not None:
        whole = isinstance(names, dict) and len(names) <= _MAX_LABELS
        if not whole or sorted(names) != sorted(str(i) for i in range(len(names))):
            yield finding("config/labels", f"{file} has an id2label that does not number its labels from 0", file)
            return
        # transformers takes labels that are numbers for the names "0" and "1".
        if not all(isinstance(n, str | int | float) and _is_label(str(n)) for n in names.values()):
            yield finding(
                "config/labels", f"{file} has a label that is not printable text of 1 to 200 characters", file
            )
        elif len(set(map(str, names.values()))) != len(names):
            yield finding("config/labels", f"{file} has two labels of one name", file)
    count = document.get("num_labels")
    if count is not None and not (type(count) is int and 0 < count <= _MAX_LABELS):
        yield finding("config/labels", f"{file} has an impossible num_labels", file)
    if ids is not None and not (isinstance(ids, dict) and all(map(_is_whole, ids.values()))):
        message = f"{file} has a label2id that does not map names to whole numbers"
        yield finding("config/labels", message, file, advice="correct label2id in config.json, or remove it")


def _is_label(name: str) -> bool:
    return 0 < len(name) <= 200 and name.isprintable()


def _is_whole(value: Any) -> bool:
    """Whether ``value`` is a whole number, or one in quotes, as some exporters write it."""
    return type(value) is int or (isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII) is not None)
