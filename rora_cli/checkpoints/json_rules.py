"""What the JSON files of a checkpoint may say: remote code, impossible values, tokenizers that change the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rora_cli.checkpoints import strict_json
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.rules import finding
from rora_cli.results.findings import Finding

#: Keys that make a loader import code, in whatever file and depth they stand, unless empty.
_CODE_KEYS = frozenset({"auto_map", "custom_pipelines", "trust_remote_code", "custom_generate"})
_KERNEL_KEYS = re.compile(r"^_?(attn|experts)_implementation(_internal)?$|^_?use_kernels$|^kernel_config$")
#: Where a model builds something as large as a field says, or larger, before a weight is compared with it.
_COUNT_LIMITS = {"num_hidden_layers": 4096, "n_layer": 4096, "num_layers": 4096, "n_layers": 4096}
_POSITION_KEYS = frozenset({"max_position_embeddings", "n_positions", "n_ctx", "seq_length"})
#: These build a position-by-position mask when they are constructed.
_SQUARE_MASK_TYPES = ("gpt2", "gptj", "gpt_neo", "gpt_bigcode", "codegen", "openai-gpt", "ctrl", "xlnet")
_MAX_WHOLE_NUMBER = 1 << 26
_MAX_POSITIONS, _MAX_SQUARE_POSITIONS = 1 << 24, 1 << 14
_MAX_LABELS = 10_000
_TOKENIZER_CLASS = re.compile(r"^[A-Z][A-Za-z0-9_]{0,60}(Tokenizer|TokenizerFast|Backend)$")
_TEMPLATE_ESCAPE = re.compile(
    r"__\w+__|\|\s*attr\b|\bcycler\b|\bjoiner\b|\blipsum\b|_TemplateReference__|\bimport\b.*\bfrom\b"
)
_NESTED_QUANTIFIER = re.compile(r"\([^()]*[+*}][^()]*\)\s*(?:[+*]|\{\d+,)")
_USUAL_SPECIAL = re.compile(
    r"^(\[(CLS|SEP|PAD|UNK|MASK|BOS|EOS|gMASK)\]|</?s>|<pad>|<unk>|<mask>|<(bos|eos|sep|cls|sop)>|<\|[\w.:-]{1,40}\|>"
    r"|<｜[\w▁]{1,40}｜>)$"
)
_BIASES = (
    "forced_bos_token_id", "forced_eos_token_id", "forced_decoder_ids", "sequence_bias", "suppress_tokens",
    "begin_suppress_tokens", "bad_words_ids", "force_words_ids", "constraints", "prefix_allowed_tokens_fn",
)  # fmt: skip


def remote_code(file: str, document: Any) -> Iterator[Finding]:
    """Keys anywhere in a document that make transformers, diffusers or PEFT import code or fetch kernels."""
    for path, value in strict_json.walk(document):
        key, where = (path[-1] if path else ""), quoted(".".join(path))
        if key in _CODE_KEYS and value not in (None, False, {}, [], ""):
            yield finding("json/remote-code", f"{file} asks for code to be imported and run ({where})", file, key=key)
        elif _KERNEL_KEYS.match(key) and isinstance(value, str | dict) and _names_repository(value):
            yield finding("config/remote-kernel", f"{file} asks for code from a repository ({where})", file, key=key)


def model_config(document: Any, file: str = "config.json") -> Iterator[Finding]:
    """The fields of config.json that decide what is built, how large, and from which file."""
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
    if isinstance(document, dict):
        biases = [key for key in _BIASES if document.get(key)]
        if biases:
            yield finding("generation/biased", f"{file} sets {', '.join(biases)}", file)


def tokenizer_config(document: Any, file: str = "tokenizer_config.json") -> Iterator[Finding]:
    """Class and paths of tokenizer_config.json; the class name must be one that transformers could itself have."""
    if not isinstance(document, dict):
        yield finding("json/malformed", f"{file} is not a JSON object", file)
        return
    name = document.get("tokenizer_class")
    if name is not None and not (isinstance(name, str) and _TOKENIZER_CLASS.match(name)):
        yield finding("tokenizer/class", f"{file} names the tokenizer class {quoted(str(name), 60)}", file)
    for key, value in document.items():
        if key.endswith("_file") and isinstance(value, str) and ("/" in value or "\\" in value):
            yield finding("tokenizer/path", f"{file} names a file elsewhere ({quoted(key, 60)})", file)
    templates = document.get("chat_template")
    if templates is not None:
        yield from chat_template(str(templates), file)


def chat_template(text: str, file: str) -> Iterator[Finding]:
    yield finding("tokenizer/chat-template", f"{file} carries a chat template of {len(text):,} characters", file)
    if _TEMPLATE_ESCAPE.search(text):
        yield finding("tokenizer/template-escape", f"the chat template in {file} reaches for Python internals", file)


def tokenizer(document: Any, file: str = "tokenizer.json") -> Iterator[Finding]:
    """What tokenizer.json does to a text besides cutting it: replacing, adding, or taking for ever."""
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        yield finding("json/malformed", f"{file} has no tokenizer model", file)
        return
    pipeline = {key: document.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder")}
    for path, value in strict_json.walk(pipeline):
        if path and path[-1] == "Regex" and isinstance(value, str) and _may_hang(value):
            yield finding(
                "tokenizer/regex", f"{file} has a regular expression that can take for ever ({path[0]})", file
            )
        if not isinstance(value, dict):
            continue
        kind = value.get("type")
        if kind == "Replace" and path[0] == "normalizer" and not _harmless_replacement(value):
            shown = f"{quoted(str(value.get('pattern')), 60)} by {quoted(str(value.get('content')), 60)}"
            yield finding("tokenizer/rewrites-text", f"{file} replaces {shown} in every text", file)
        elif kind == "Prepend" and path[0] == "normalizer" and value.get("prepend") not in ("▁", " "):
            yield finding("tokenizer/rewrites-text", f"{file} puts {quoted(str(value.get('prepend')), 60)} first", file)
        elif kind == "Precompiled":
            yield finding("tokenizer/opaque-map", f"{file} has a compiled character map", file)
        elif kind == "TemplateProcessing":
            yield from _template(value, file)


def _template(processor: Mapping[str, Any], file: str) -> Iterator[Finding]:
    pieces = [p for part in ("single", "pair") for p in processor.get(part) or () if isinstance(p, dict)]
    tokens = [str(p["SpecialToken"].get("id")) for p in pieces if isinstance(p.get("SpecialToken"), dict)]
    special = processor.get("special_tokens")
    for entry in special.values() if isinstance(special, dict) else ():
        if isinstance(entry, dict):
            tokens += [str(t) for t in entry.get("tokens") or ()]
    odd = sorted({t for t in tokens if not _USUAL_SPECIAL.match(t)})
    single = [p for p in processor.get("single") or () if isinstance(p, dict)]
    texts = sum("Sequence" in p for p in single)
    if odd or texts != 1:
        shown = ", ".join(quoted(t, 40) for t in odd[:5]) or f"{texts} copies of the text"
        yield finding("tokenizer/adds-tokens", f"{file} puts {shown} into every text", file, tokens=odd[:20])


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
        if not all(isinstance(n, str) and 0 < len(n) <= 200 and n.isprintable() for n in names.values()):
            yield finding(
                "config/labels", f"{file} has a label that is not printable text of 1 to 200 characters", file
            )
        elif len(set(names.values())) != len(names):
            yield finding("config/labels", f"{file} has two labels of one name", file)
    count = document.get("num_labels")
    if count is not None and not (type(count) is int and 0 < count <= _MAX_LABELS):
        yield finding("config/labels", f"{file} has an impossible num_labels", file)
    if ids is not None and not (isinstance(ids, dict) and all(type(i) is int for i in ids.values())):
        yield finding("config/labels", f"{file} has a label2id that does not map names to whole numbers", file)


def _harmless_replacement(value: Mapping[str, Any]) -> bool:
    """Replacements that published tokenizers make: white space, its sentencepiece mark, and typographic quotes."""
    pattern = value.get("pattern")
    text = (pattern.get("String") or pattern.get("Regex")) if isinstance(pattern, dict) else pattern
    content = value.get("content")
    if not isinstance(text, str) or not isinstance(content, str):
        return False
    if text in ("``", "''"):
        return content == '"'
    return content in (" ", "▁", "") and not text.strip(" ▁\\s+{}2,n|\n\t\r")


def _may_hang(pattern: str) -> bool:
    """A repeated group that holds a repetition: what makes a backtracking engine take exponential time."""
    return len(pattern) > 5000 or _NESTED_QUANTIFIER.search(pattern) is not None
