"""Loads a suspect model: sanitised, from safetensors only, with no weight missing and with a head of the right size."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli.checkpoints import four_bits, kinds, merging, sanitise
from rora_cli.checkpoints.beside_base import with_base
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.padding import agree_on_padding
from rora_cli.checkpoints.preflight import Inspection, inspect, require_loadable
from rora_cli.checkpoints.reader import TensorReader
from rora_cli.errors import CheckpointError, UsageError, first_line, is_out_of_memory
from rora_cli.kinds import SEQUENCE_CLASSIFIER, ModelKind
from rora_cli.layout import is_head
from rora_cli.option_groups import DTYPES, OWN_DTYPE

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

#: Largest difference between the sizes of a checkpoint and of the model in its config [elements]: room for an unused or
#: a new head, or a new vocabulary.
_SPARE_ELEMENTS = 1 << 26


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, its tokenizer, and a classifier's labels in the order of its logits.

    ``inspections`` holds the model's inspection and, if an adapter was merged, the adapter's. ``new_head`` names the
    head parameters that the checkpoint lacks, so that they hold random values. ``replaced`` names the parameters that
    the adapter carries whole, in place of the model's own, and ``merged`` all that it changed. ``unused`` names the
    tensors of the checkpoint that the model does not have.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: ModelKind
    label_names: tuple[str, ...]
    inspections: tuple[Inspection, ...]
    new_head: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def load_model(
    path: str | Path,
    *,
    adapter: str | Path | None = None,
    dtype: str | None = "float32",
    device: str = "cpu",
    new_head: Sequence[str] | None = None,
    check: Callable[[ModelKind], None] = lambda kind: None,
    in_4bit: bool = False,
) -> LoadedModel:
    """Load the model at ``path``, of the kind that its files tell (``kinds.loaded_as``); else as ``load_classifier``.

    With ``new_head``, it is a classifier. ``check`` is called with the kind before weights are read.

    Raises:
        UsageError, CheckpointError: as ``load_classifier``; a causal language model needs no head, but its own weights.
    """
    kind = None if new_head is None else SEQUENCE_CLASSIFIER
    return _load(path, adapter, dtype, device, new_head, kind=kind, check=check, in_4bit=in_4bit)


def load_classifier(
    path: str | Path,
    *,
    adapter: str | Path | None = None,
    dtype: str | None = "float32",
    device: str = "cpu",
    new_head: Sequence[str] | None = None,
    in_4bit: bool = False,
) -> LoadedModel:
    """Load the sequence classifier at ``path``; merge ``adapter`` into it in float32, if one is given.

    ``TensorReader`` reads the weights (safetensors only, finite); the config and the tokenizer come from allow-listed
    copies. Remote code, pickles and the hub are out of reach. rora merges by its own arithmetic, without PEFT.

    Args:
        dtype: type of the returned model: ``float32``, ``bfloat16``, ``float16``, or ``auto``, its checkpoint's own;
            None is float32 on a CPU, else auto.
        device: where the weights go, one after the other.
        new_head: label names for a checkpoint that is about to be trained and may lack a classification head. A head of
            this size is kept under these names; otherwise a random one is made (seed torch before). Without
            ``new_head``, a missing head is an error, because transformers would silently make a random one.
        in_4bit: hold the linear layers of the body in 4 bits; ``dtype`` is that of the others and of what is computed.

    Raises:
        UsageError: ``dtype`` is unknown; 4 bits cannot be had (``four_bits.require``).
        CheckpointError: a blocking finding; an unknown architecture; a model that does not give a text one of several
            labels (``kinds.why_not_judged``); no classification head, or one with another number of labels than the
            config names; missing, NaN or infinite weights; an adapter for another base.
    """
    return _load(path, adapter, dtype, device, new_head, kind=SEQUENCE_CLASSIFIER, in_4bit=in_4bit)


def _load(
    path: str | Path,
    adapter: str | Path | None,
    dtype: str | None,
    device: str,
    new_head: Sequence[str] | None,
    *,
    kind: ModelKind | None,
    check: Callable[[ModelKind], None] = lambda kind: None,
    in_4bit: bool = False,
) -> LoadedModel:
    import torch

    if in_4bit:
        four_bits.require(adapter)
    dtype = _known(dtype, device)
    model_inspection = inspect(path, role="model")
    require_loadable(model_inspection)
    adapter_inspection = inspect(adapter, role="adapter") if adapter is not None else None
    if adapter_inspection is not None:
        adapter_inspection = with_base(adapter_inspection, model_inspection)
        require_loadable(adapter_inspection)
    labels = _new_labels(adapter_inspection, new_head)
    kind = kind or _kind(model_inspection, adapter_inspection)
    check(kind)
    if kind is SEQUENCE_CLASSIFIER:
        _require_judged(model_inspection, labels, new_head)
    own = stored_dtype(model_inspection)
    held = getattr(torch, own if dtype == OWN_DTYPE else dtype)
    # An update is added in float32, and rounded once.
    load_type = held if adapter_inspection is None or held is getattr(torch, own) else torch.float32
    with sanitise.isolated(), tempfile.TemporaryDirectory(prefix="rora-") as scratch:
        config, model_class = sanitise.model_config(model_inspection, labels, kind)
        tokenizer = sanitise.tokenizer(model_inspection, config, Path(scratch))
        _require_fitting_vocabulary(tokenizer, model_inspection)
        model, missing, unused = _build(model_inspection, config, model_class, load_type, device, in_4bit)
    replaced, changed = set[str](), set[str]()
    if adapter_inspection is not None:
        replaced, changed = merging.merge_adapter(model, adapter_inspection, model_inspection)
    missing -= replaced
    head = set(filter(is_head, missing)) if new_head is not None else set()
    _require_complete(missing - head, model_inspection, config)
    if kind is SEQUENCE_CLASSIFIER:
        agree_on_padding(model, tokenizer)
    else:
        model.generation_config = sanitise.generation_config(model_inspection, tokenizer)
    model = model.eval() if in_4bit else model.to(device=device, dtype=held).eval()
    inspections = (model_inspection,) if adapter_inspection is None else (model_inspection, adapter_inspection)
    names = sanitise.label_names(model.config) if kind is SEQUENCE_CLASSIFIER else ()
    return LoadedModel(
        model,
        tokenizer,
        kind,
        names,
        inspections,
        tuple(sorted(head)),
        tuple(sorted(replaced)),
        tuple(sorted(changed)),
        unused,
    )


def _known(dtype: str | None, device: str) -> str:
    """The type that is asked for, or the device's default. Raises UsageError for an unknown one."""
    import torch

    dtype = dtype or ("float32" if torch.device(device).type == "cpu" else OWN_DTYPE)
    if dtype not in (*DTYPES, OWN_DTYPE):
        raise UsageError(f"dtype is {dtype!r}; use one of {', '.join(DTYPES)} or {OWN_DTYPE}")
    return dtype


def _kind(model: Inspection, adapter: Inspection | None) -> ModelKind:
    has_head = adapter is not None and merging.head_labels(adapter) is not None
    return kinds.loaded_as(model.config or {}, adapter.adapter_config if adapter else None, has_head)


def _new_labels(adapter: Inspection | None, new_head: Sequence[str] | None) -> tuple[str, ...] | int | None:
    if new_head is not None:
        return tuple(new_head)
    return merging.head_labels(adapter) if adapter is not None else None


def _require_judged(inspection: Inspection, labels: tuple[str, ...] | int | None, new_head: object) -> None:
    """Refuse a model that does not give a text one of several labels. A head that will be replaced does not matter."""
    config = inspection.config or {}
    own = kinds.head_outputs(config, inspection.tensors)
    outputs = len(labels) if isinstance(labels, tuple) else labels
    has_head = any(map(is_head, inspection.tensors))
    if new_head is not None and (outputs != own or not has_head):
        return
    if reason := kinds.why_not_judged(config, inspection.tensors, outputs):
        raise CheckpointError(f"{inspection.path} {reason}; {kinds.STILL_WORKS}")


def _build(
    inspection: Inspection,
    config: PreTrainedConfig,
    model_class: Any,
    dtype: torch.dtype,
    device: str,
    in_4bit: bool,
) -> tuple[PreTrainedModel, set[str], tuple[str, ...]]:
    """Build the model with the checkpoint's weights.

    Returns it with the names of the weights that the checkpoint lacks, and of the tensors that the model does not have.

    A head for another number of labels counts as lacking: a new head, or the adapter's, takes its place.
    """
    _require_fitting_size(inspection, config, model_class)
    attention = "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"
    how: dict[str, Any] = {} if device == "cpu" else {"device_map": {"": device}}
    if in_4bit:  # what is quantised on the device comes there tensor by tensor
        how = {"device_map": {"": device}, "quantization_config": four_bits.config(model_class, config, dtype)}
    state = _read_state(inspection, dtype, "cpu" if in_4bit else device)
    try:
        with sanitise.quiet():
            model, info = model_class.from_pretrained(
                None, config=config, state_dict=state, dtype=dtype, attn_implementation=attention,
                output_loading_info=True, ignore_mismatched_sizes=True, local_files_only=True, trust_remote_code=False,
                **how,
            )  # fmt: skip
    except Exception as error:  # absurd values in a config can make a constructor raise anything
        if is_out_of_memory(error):
            raise  # that says nothing about the checkpoint
        raise CheckpointError(f"{inspection.path} does not fit its own config.json: {first_line(error)}") from error
    finally:
        del state
        gc.collect()
    missing = set(info["missing_keys"])
    for name, found, wanted in sorted(info.get("mismatched_keys") or ()):
        if not is_head(name):
            raise CheckpointError(
                f"{quoted(name)} in {inspection.path} has the shape {list(found)}, where config.json asks for "
                f"{list(wanted)}"
            )
        missing.add(name)
    return model, missing, tuple(sorted(inspection.tensors.keys() & set(info.get("unexpected_keys") or ())))


def _require_fitting_size(inspection: Inspection, config: PreTrainedConfig, model_class: Any) -> None:
    """Refuse absurd sizes before allocation: a number in config.json, or a sparse file, can fill the memory."""
    import torch

    layers, held = getattr(config, "num_hidden_layers", 0), sum(t.elements for t in inspection.tensors.values())
    if not isinstance(layers, int) or layers > len(inspection.tensors):
        raise CheckpointError(f"{inspection.path} lacks most of the {layers} layers that its config.json names")
    try:
        with torch.device("meta"), sanitise.quiet():
            asked = sum(p.numel() for p in model_class(config).parameters())
    except Exception as error:
        pad, size = getattr(config, "pad_token_id", None), getattr(config, "vocab_size", None)
        outside = type(pad) is int and type(size) is int and pad >= size
        reason = f"pad_token_id {pad} is outside of its vocabulary of {size}" if outside else first_line(error)
        raise CheckpointError(f"{inspection.path} does not fit its own config.json: {reason}") from error
    if asked > 2 * held + _SPARE_ELEMENTS or held > 3 * asked + _SPARE_ELEMENTS:
        raise CheckpointError(
            f"{inspection.path} holds {held:,} numbers, where its config.json asks for {asked:,}; get a complete copy"
        )


def stored_dtype(inspection: Inspection) -> str:
    """The one of ``DTYPES`` that most of the stored bytes have; other types count as float32."""
    known = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    sizes: dict[str, int] = {}
    for tensor in inspection.tensors.values():
        name = known.get(tensor.dtype, "float32")
        sizes[name] = sizes.get(name, 0) + tensor.end - tensor.start
    return max(sizes, key=sizes.__getitem__, default="float32")


def _read_state(inspection: Inspection, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Every tensor, on ``device`` before the next one is read."""
    state = {}
    with TensorReader(inspection) as reader:
        for name in reader.names():
            tensor = reader.read(name, require_finite=True)
            state[name] = tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
    return state


def _require_complete(missing: set[str], inspection: Inspection, config: PreTrainedConfig) -> None:
    if not missing:
        return
    heads = sorted(filter(is_head, missing))
    if heads and heads[0] in inspection.tensors:
        raise CheckpointError(
            f"config.json of {inspection.path} names {config.num_labels} labels, but {quoted(heads[0])} has the shape "
            f"{list(inspection.tensors[heads[0]].shape)}; correct id2label"
        )
    if prefix := _prefix(missing, inspection):
        raise CheckpointError(
            f"the weights of {inspection.path} are named under {quoted(prefix)}, where transformers looks for none of "
            "them; save the bare model again with save_pretrained"
        )
    if heads:
        raise CheckpointError(
            f"{_described(inspection)} and has no classification head ({heads[0]} is missing), so its answers would be "
            f"random; {_way_on(inspection)}"
        )
    shown = ", ".join(sorted(missing)[:3])
    raise CheckpointError(
        f"{inspection.path} lacks {len(missing)} of its model's weights ({shown}); get a complete copy"
    )


def _described(inspection: Inspection) -> str:
    return kinds.described(inspection.path, inspection.config or {}, inspection.files)


def _way_on(inspection: Inspection) -> str:
    config = inspection.config or {}
    if kinds.says_classifier(config) and (other := kinds.head_elsewhere(config, inspection.tensors)):
        return (
            f"{quoted(other)} {list(inspection.tensors[other].shape)} may be a head under a name that transformers "
            "does not know: rename it, or save the model with transformers' own class"
        )
    if kinds.says_classifier(config):
        return "name a fine-tuned classifier, or add the adapter that brings the head with --adapter"
    return (
        "hunt, purify and eval-asr need a fine-tuned sequence classifier: name one, or add the adapter that brings the "
        f"head with --adapter; {kinds.STILL_WORKS}"
    )


def _prefix(missing: set[str], inspection: Inspection) -> str | None:
    """The prefix that the checkpoint puts before the names of all weights that the model lacks, or None."""
    first = min(missing)
    found = [name.removesuffix(first) for name in inspection.tensors if name.endswith(f".{first}")]
    return next((p for p in found if all(p + name in inspection.tensors for name in missing)), None)


def _require_fitting_vocabulary(tokenizer: PreTrainedTokenizerBase, inspection: Inspection) -> None:
    """Refuse a vocabulary larger than the embedding: its last ids would raise an IndexError, or worse on a GPU."""
    largest = max(tokenizer.get_vocab().values(), default=0)
    rows = [t.shape[0] for name, t in inspection.tensors.items() if _is_word_embedding(name) and len(t.shape) == 2]
    if rows and largest >= max(rows):
        raise CheckpointError(
            f"the vocabulary of {inspection.path} has the id {largest}, but its embedding has {max(rows)} rows; "
            "the tokenizer belongs to another model"
        )


def _is_word_embedding(name: str) -> bool:
    return name.endswith(
        ("word_embeddings.weight", "embed_tokens.weight", "wte.weight", "shared.weight", "tok_embeddings.weight")
    )
