"""Makes copies of a suspect's config and tokenizer that hold what the arithmetic needs, and nothing else.

transformers never sees the suspect's directory. rora gives it a config object with allow-listed fields only, and a
temporary directory of tokenizer files, written anew from what preflight parsed.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli.checkpoints import kinds, special_words
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.plain_text import read_rows_as_text
from rora_cli.checkpoints.preflight import TOKENIZER_FILES, Inspection, dumps
from rora_cli.checkpoints.walk import read_unchanged
from rora_cli.errors import CheckpointError, first_line
from rora_cli.kinds import CAUSAL_LM, SEQUENCE_CLASSIFIER, ModelKind

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

#: Fields of every config class that must not come from a suspect, because they choose files, code or precision.
_NEVER = frozenset({
    "transformers_version", "transformers_weights", "architectures", "dtype", "torch_dtype", "output_hidden_states",
    "output_attentions", "return_dict", "auto_map", "quantization_config", "compression_config", "distributed_config",
    "fusion_config", "layer_overrides", "name_or_path", "_name_or_path", "gradient_checkpointing", "use_kernels",
    "tokenizer_class", "attn_implementation", "experts_implementation", "trust_remote_code", "adapter_kwargs",
    "task_specific_params", "pruned_heads", "chunk_size_feed_forward",
})  # fmt: skip
#: Older names of fields, which transformers still reads and translates.
_LEGACY = frozenset({
    "rope_theta", "rope_scaling", "position_embedding_type", "num_labels", "summary_type", "summary_use_proj",
    "summary_activation", "summary_proj_to_labels", "summary_first_dropout",
})  # fmt: skip
#: Name of a kind of model -> transformers' table of its classes, by model type.
_CLASSES = {
    SEQUENCE_CLASSIFIER.name: "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    CAUSAL_LM.name: "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
}
_TOKENIZER_FIELDS = frozenset({
    "add_bos_token", "add_eos_token", "add_prefix_space", "added_tokens_decoder", "additional_special_tokens",
    "backend", "bos_token", "clean_up_tokenization_spaces", "cls_token", "do_basic_tokenize", "do_lower_case",
    "do_subword_tokenize", "eos_token", "errors", "extra_special_tokens", "is_local", "keep_accents", "legacy",
    "mask_token", "model_input_names", "model_max_length", "never_split", "pad_token", "pad_token_id", "padding_side",
    "remove_space", "sep_token", "split_special_tokens", "strip_accents", "tokenize_chinese_chars", "tokenizer_class",
    "trim_offsets", "truncation_side", "unk_token", "use_default_system_prompt", "word_tokenizer_type",
})  # fmt: skip
_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
_SENTENCEPIECE_LIBRARIES = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}
MAX_VOCABULARY_BYTES = 64 << 20
_SECRET_VARIABLES = (
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "GITHUB_TOKEN",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy",
)  # fmt: skip


def model_config(
    inspection: Inspection, labels: tuple[str, ...] | int | None = None, kind: ModelKind = SEQUENCE_CLASSIFIER
) -> tuple[PreTrainedConfig, type]:
    """The config object and the class of that ``kind`` of model for it, from transformers' own code.

    A field is kept if the config class declares it. It is also kept if transformers' code for this family names it and
    its value is a number, a word or a list of these (DeBERTa does not declare its ``position_buckets``).

    ``labels`` are the names of a new head, which replace the suspect's; or the number of labels of an adapter's head,
    which replaces the suspect's labels if their number differs.

    Raises:
        CheckpointError: an architecture that transformers has no such class for, or values it refuses.
    """
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto

    classes = getattr(modeling_auto, _CLASSES[kind.name])
    document = inspection.config or {}
    if document.get("quantization_config") is not None:
        raise CheckpointError(
            f"{inspection.path} is quantised, so it cannot be run or merged exactly; use the original"
        )
    family = document.get("model_type")
    if family not in classes or family not in CONFIG_MAPPING:
        raise CheckpointError(
            f"{kinds.described(inspection.path, document, inspection.files)}: transformers has no {kind.name} "
            f"of the type {quoted(str(family), 60)}, which is what rora runs; {kinds.STILL_WORKS}"
        )
    config_class = CONFIG_MAPPING[family]
    model_class = _class_from_transformers(classes[family])
    declared = {f.name for f in dataclasses.fields(config_class)} | set(config_class.attribute_map) | _LEGACY
    read = _words_of(config_class, model_class)
    kept = {
        key: value
        for key, value in document.items()
        if key not in _NEVER and (key in declared or (key in read and _is_plain(value)))
    }
    if isinstance(labels, int) and labels != kinds.label_count(kept):
        labels = tuple(f"LABEL_{i}" for i in range(labels))
    if labels is None and isinstance(names := kept.get("id2label"), dict):
        labels = tuple(str(names[str(i)]) for i in range(len(names)))
    if isinstance(labels, tuple):
        kept.pop("num_labels", None)
        if kept.get("problem_type") != "single_label_classification":  # it belongs to the replaced head
            kept.pop("problem_type", None)
        kept["id2label"] = {str(i): name for i, name in enumerate(labels)}
        kept["label2id"] = {name: i for i, name in enumerate(labels)}
    try:
        config = config_class.from_dict(kept)
    except Exception as error:  # transformers' own validation, or any constructor on absurd values
        raise CheckpointError(f"config.json is refused by transformers: {first_line(error)}") from error
    return config, model_class


def label_names(config: PreTrainedConfig) -> tuple[str, ...]:
    """The label names in the order of the logits."""
    return tuple(str(config.id2label[i]) for i in range(config.num_labels))


def generation_config(inspection: Inspection, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Settings that say where an answer ends, and nothing else: the end tokens of generation_config.json.

    Without such a file they are those of config.json, and else the tokenizer's end token, as transformers has it.
    """
    from transformers import GenerationConfig

    stated = (inspection.documents.get(name) for name in ("generation_config.json", "config.json"))
    ends = next((d["eos_token_id"] for d in stated if isinstance(d, dict) and d.get("eos_token_id") is not None), None)
    ids = [end for end in (ends if isinstance(ends, list) else [ends]) if type(end) is int]
    return GenerationConfig(eos_token_id=ids or tokenizer.eos_token_id)


def tokenizer(inspection: Inspection, config: PreTrainedConfig, scratch: Path) -> PreTrainedTokenizerBase:
    """The tokenizer, loaded from a sanitised copy in the directory ``scratch``.

    Raises:
        CheckpointError: no tokenizer files, a class that is not transformers' own, or files it cannot read.
    """
    from transformers import AutoTokenizer

    present = [name for name in TOKENIZER_FILES if name in inspection.files]
    if not {"tokenizer.json", "vocab.txt", "vocab.json", *_SENTENCEPIECE}.intersection(present):
        raise CheckpointError(f"{inspection.path} has no tokenizer (tokenizer.json or a vocabulary file); add it")
    _require_readable(inspection, present)
    settings = inspection.documents.get("tokenizer_config.json") or {}
    kept = {key: value for key, value in settings.items() if key in _TOKENIZER_FIELDS}
    _require_known_class(kept.get("tokenizer_class"))
    documents = special_words.as_ordinary({**inspection.documents, "tokenizer_config.json": kept})
    for name in present:
        if name in documents:
            (scratch / name).write_text(dumps(documents[name]))
        elif inspection.files[name].size > MAX_VOCABULARY_BYTES:
            raise CheckpointError(f"{name} of {inspection.path} is larger than any vocabulary; use a copy without it")
        else:
            (scratch / name).write_bytes(read_unchanged(inspection.files[name]))
    try:
        loaded = AutoTokenizer.from_pretrained(
            str(scratch), config=config, trust_remote_code=False, local_files_only=True
        )
        read_rows_as_text(loaded)
        return loaded
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # tokenizers raises a bare Exception, and another BaseException if it panics
        raise CheckpointError(f"the tokenizer of {inspection.path} cannot be read: {first_line(error)}") from error


@contextmanager
def isolated() -> Iterator[None]:
    """Inside, libraries can neither ask questions (stdin is empty) nor see tokens or proxies, and stay offline."""
    saved = {name: os.environ.pop(name) for name in _SECRET_VARIABLES if name in os.environ}
    offline = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    stdin = sys.stdin
    with Path(os.devnull).open() as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = stdin
            os.environ.update(saved)
            os.environ.pop("HF_HUB_OFFLINE")
            if offline is not None:
                os.environ["HF_HUB_OFFLINE"] = offline


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, transformers shows no progress bars and load reports; rora tells what they would."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _words_of(*classes: type) -> set[str]:
    """The public identifiers in the source of the modules that define ``classes``."""
    sources = (inspect.getsource(sys.modules[cls.__module__]) for cls in classes)
    return {word for source in sources for word in re.findall(r"\b[a-z][a-z0-9_]{2,}\b", source)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 4096 and all(item is None or isinstance(item, bool | int | float | str) for item in value)
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and value.isidentifier())


def _require_readable(inspection: Inspection, present: list[str]) -> None:
    """Refuse a lone SentencePiece model if the two libraries that read it are missing; most users do not need them."""
    only = next((name for name in present if name in _SENTENCEPIECE), None)
    if only is None or {"tokenizer.json", "vocab.txt", "vocab.json"}.intersection(present):
        return
    lacking = [name for name, module in _SENTENCEPIECE_LIBRARIES.items() if not _is_installed(module)]
    if lacking:
        raise CheckpointError(
            f"{inspection.path} has its tokenizer as {only} alone, without a tokenizer.json, and reading that takes "
            f"{' and '.join(lacking)}: pip install 'rora-cli[sentencepiece]'"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around the module is missing
        return False


def _require_known_class(name: Any) -> None:
    import transformers

    known = getattr(transformers, name, None) if isinstance(name, str) else None
    if name is not None and not (isinstance(known, type) and issubclass(known, transformers.PreTrainedTokenizerBase)):
        raise CheckpointError(
            f"tokenizer_config.json names the class {quoted(str(name), 60)}, which transformers has not"
        )


def _class_from_transformers(name: str) -> type:
    import transformers

    return getattr(transformers, name)
