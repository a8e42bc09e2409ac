"""Checks of an adapter: its config's fields must be within bounds, and the role of every tensor known by its name."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rora_cli.checkpoints import tokenizer_rules
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.peft_types import KNOWN_FIELDS, PEFT_TYPES, declared_type
from rora_cli.checkpoints.rules import finding
from rora_cli.layout import EMBEDDINGS, IMPLICIT_HEADS, TRAINED_HEADS, is_head
from rora_cli.results.findings import Finding

MAX_RANK = 16_384
MAX_ALPHA = 1e6
MAX_SAVED_MODULES = 256
#: Open repetitions (``.*?``) in a pattern for module names; published patterns for multimodal models have four.
_MAX_OPEN_REPETITIONS = 5
#: Range of scalings (alpha / r) in training. Merged, a larger one drowns the base, and a smaller one does nothing.
USUAL_SCALING = (1 / 64, 64.0)

_CANNOT_BE_MERGED = "no weights can hold its effect, so rora cannot judge it: do without it unless you trust its maker"

_PREFIXES = ("base_model.model.", "base_model.")
#: Names of tensors in layouts other than PEFT's: kohya, LyCORIS, diffusers, MLX.
_OTHER_LAYOUTS = re.compile(
    r"(?:^|\.)(?:lora[._](?:down|up|mid)\.weight|(?:lora_)?alpha|dora_scale|lora_(?:a|b)"
    r"|(?:hada|lokr)_(?:w1|w2|t1|t2)(?:_a|_b)?)$"
)
_TOKEN_ROWS = re.compile(r"(?:^|\.)token_adapter\.trainable_tokens_[a-z]+(?:\.[A-Za-z0-9_-]+)?$")
#: Ends of the names of parameters. PEFT loads a tensor with such a name over the base's parameter of the same name.
_PARAMETER = re.compile(
    r"\.(?:weight|bias|gamma|beta|weight_[gvhi]\w*|bias_[hi]\w*|(?:gate_up|gate|up|down|in|out|qkv)_proj(?:_bias)?"
    r"|sinks|A_log|D|dt_bias|\w+_(?:token|embeddings?|scale|table))$"
)
#: Parts of a name that PEFT's wrappers insert between a module's path and its parameter.
_WRAPPERS = re.compile(r"\.(?:modules_to_save(?:\.default)?|original_module|base_layer|token_adapter)(?=\.)")
#: Last parts of the names of embeddings: input, output, positions and segments.
_EMBEDDINGS = EMBEDDINGS | {
    "lm_head", "tok_embeddings", "position_embeddings", "token_type_embeddings", "wpe", "embeddings", "embed_positions",
}  # fmt: skip

_MUTATING_INITS = ("pissa", "olora", "loftq", "corda", "lora_ga")


def module_name(tensor: str) -> str:
    """The tensor's name without PEFT's prefix."""
    for prefix in _PREFIXES:
        if tensor.startswith(prefix):
            return tensor[len(prefix) :]
    return tensor


def target_name(tensor: str) -> str:
    """The model's own name for a tensor that an adapter file carries to replace it."""
    return _WRAPPERS.sub("", module_name(tensor))


def tensor_role(name: str, config: Mapping[str, Any] | None) -> str:
    """The role of a tensor in an adapter file, judged by its name.

    - ``adapter``: part of the adapter's own update.
    - ``head``, ``embedding``, ``module`` (any other): ``modules_to_save`` declares it.
    - ``bias``: the config's ``bias`` declares it.
    - ``original``: the bias of a head that another tensor replaces; it has no effect.
    - ``undeclared-head``: a head that nothing declares.
    - ``embedding-copy``: nothing declares it, but PEFT saves it itself beside an update of an embedding.
    - ``base``: nothing declares it, and it has the name of a base weight; PEFT would load it over that weight.
    - ``unknown``: none of these.

    With the base at hand, ``beside_base.with_base`` decides the last three by the tensors of the base.
    """
    config = config or {}
    bare = module_name(name)
    if _is_own(bare, config):
        return "adapter"
    is_declared_bias = bare.endswith(".bias") and config.get("bias") in ("all", "lora_only")
    if ".original_module." in bare and is_declared_bias:  # bias="all" saves the bias of a replaced head
        return "original"
    path = target_name(name).rpartition(".")[0] + "."
    wrapped = ".original_module." in bare or ".base_layer." in bare
    declared = set(_saved_modules(config) or ())
    if config.get("task_type") in ("SEQ_CLS", "TOKEN_CLS"):
        declared |= set(IMPLICIT_HEADS)
    # PEFT saves and loads every module whose path ends in a declared name: "classifier" also means "pre_classifier".
    owners = [] if wrapped else [m.split(".")[-1] for m in declared if f"{m}." in path]
    if owners:
        if any(owner in _EMBEDDINGS for owner in owners):
            return "embedding"
        named = any(owner in TRAINED_HEADS for owner in owners)
        return "head" if named or (is_head(path) and path.partition(".")[0] in owners) else "module"
    if is_declared_bias:
        return "bias"
    if wrapped:
        return "embedding-copy" if _copies_embedding(bare, config) else "base"
    if path.partition(".")[0] in TRAINED_HEADS:
        return "undeclared-head"
    return "base" if _PARAMETER.search(bare) else "unknown"


def _is_own(bare: str, config: Mapping[str, Any]) -> bool:
    kind = declared_type(config)
    types = PEFT_TYPES.values() if kind is None else (PEFT_TYPES[kind],)
    if any(known.own.search(bare) for known in types) or _OTHER_LAYOUTS.search(bare):
        return True
    return config.get("trainable_token_indices") is not None and bool(_TOKEN_ROWS.search(bare))


def _copies_embedding(bare: str, config: Mapping[str, Any]) -> bool:
    """Whether this is the weight of a targeted embedding, which PEFT saves by itself (``save_embedding_layers``)."""
    module, _, parameter = _WRAPPERS.sub("", bare).rpartition(".")
    targets, last = config.get("target_modules"), module.rpartition(".")[2]
    if not is_embedding(module) or parameter not in ("weight", "bias"):
        return False
    if isinstance(targets, list):
        return any(isinstance(target, str) and target.rpartition(".")[2] == last for target in targets)
    return isinstance(targets, str) and last in targets


def is_embedding(module: str) -> bool:
    """Whether a module's path names an input or output embedding, in any family's naming."""
    return module.rpartition(".")[2] in _EMBEDDINGS


#: A tensor's name with the adapter's name left in it: ".lora_A.default.weight".
NAMED = re.compile(
    r"\.(?:lora|hada|lokr|vera|trainable_tokens)_\w+\.(?!weight$|bias$)([A-Za-z0-9_-]+)(?:\.weight|\.bias)?$"
)
#: Role -> (rule, the rest of the sentence "TENSOR ..."), for the roles that give a finding.
_REMARKS: Mapping[str, tuple[str, str]] = {
    "base": ("adapter/hidden-base-tensor", "would silently overwrite that weight of the base model"),
    "embedding-copy": (
        "adapter/embedding-copy",
        "is a copy of an embedding, which PEFT saves beside an adapter on it and loads over the base's; with the base "
        "named, the two are compared",
    ),
    "copy": ("adapter/equal-copy", "equals the base's own weight, so it changes nothing"),
    "unknown": ("adapter/unknown-tensor", "names no weight, and no tensor of this type of adapter"),
    "embedding": ("adapter/replaces-embedding", "replaces a whole embedding of the base model (modules_to_save)"),
    "module": ("adapter/replaces-module", "replaces a whole module of the base model (modules_to_save)"),
    "undeclared-head": ("adapter/undeclared-head", "is a head that modules_to_save does not declare"),
    "bias": ("adapter/trains-bias", "replaces a bias of the base model"),
}
#: Roles whose tensors share one finding, because a finding for each would say nothing more.
_TOLD_TOGETHER = ("bias", "unknown")
TENSOR_RULES = frozenset(
    {rule for rule, _ in _REMARKS.values()}
    | {"adapter/no-update", "adapter/token-rows-missing", "adapter/name-in-tensors"}
)


def check_tensors(
    names: Collection[str],
    config: Mapping[str, Any] | None,
    file: str,
    roles: Mapping[str, str] | None = None,
    empty: Collection[str] = (),
) -> Iterator[Finding]:
    """Findings for tensors that are not part of the update; at most one for each module, so that many stay readable.

    ``roles`` override the roles that the names tell, and ``empty`` names the tensors without elements.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    adapter = 0
    for name in names:
        role = tensor_role(name, config) if roles is None else roles[name]
        adapter += role == "adapter" and name not in empty
        if role == "undeclared-head" and config is None:
            continue  # without the config, nobody knows what it declares
        if role in _REMARKS:
            groups.setdefault((role, "" if role in _TOLD_TOGETHER else name.rpartition(".")[0]), []).append(name)
    if not adapter:
        kind = declared_type(config)
        of_type = f" of the type {kind}" if kind is not None else ""
        message = f"{file} holds no adapter tensor{of_type}{_that_has_elements(empty)}"
        yield finding("adapter/no-update", message, file)
    if named := sorted(name for name in names if NAMED.search(name)):
        more = f" and {len(named) - 1} more" if len(named) > 1 else ""
        message = f"{quoted(named[0])}{more} in {file} still has the adapter's name: PEFT loads no such tensor"
        yield finding("adapter/name-in-tensors", message, file, tensors=named[:20])
    if (config or {}).get("trainable_token_indices") and not any(_TOKEN_ROWS.search(n) for n in names):
        yield finding(
            "adapter/token-rows-missing", f"the config has trainable_token_indices, but {file} no rows for them", file
        )
    for (role, _), members in groups.items():
        rule, meaning = _REMARKS[role]
        more = f" and {len(members) - 1} more" if len(members) > 1 else ""
        yield finding(rule, f"{quoted(members[0])}{more} in {file} {meaning}", members[0], tensors=members[:20])


def _that_has_elements(empty: Collection[str]) -> str:
    if not empty:
        return ""
    return " with elements: it was saved from shards (DeepSpeed ZeRO-3, FSDP) that were not gathered"


def check_config(config: Mapping[str, Any], file: str = "adapter_config.json") -> Iterator[Finding]:
    """Findings for adapter_config.json: wrong types or bounds, and fields that make PEFT import or hide something."""
    kind = config.get("peft_type")
    known = declared_type(config)
    if known is None:
        yield finding("adapter/type", f"{file} names the adapter type {quoted(str(kind), 60)}", file)
    elif PEFT_TYPES[known].unmeasured is not None:
        message = f"{file} names PEFT's type {known}: {PEFT_TYPES[known].unmeasured}"
        alone = None if PEFT_TYPES[known].merges else _CANNOT_BE_MERGED
        yield finding("adapter/not-measured", message, file, advice=alone, type=known)
    yield from _numbers(config, file)
    yield from _imports(config, file)
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower().startswith(_MUTATING_INITS):
        yield finding("adapter/mutates-base", f"{file} has init_lora_weights {quoted(init, 40)}", file, init=init[:40])
    if config.get("alora_invocation_tokens") is not None:
        tokens = config["alora_invocation_tokens"]
        yield finding("adapter/token-trigger", f"{file} has alora_invocation_tokens", file, tokens=str(tokens)[:200])
    indices = config.get("trainable_token_indices", config.get("token_indices"))
    if indices is not None:
        yield finding("adapter/token-rows", f"{file} replaces single embedding rows ({_rows(indices)})", file)
    if config.get("layer_replication") is not None:
        yield finding("adapter/replicates-layers", f"{file} has layer_replication", file)
    for field in ("target_modules", "exclude_modules", "layers_pattern"):
        value = config.get(field)
        if isinstance(value, str) and not re.fullmatch(r"[A-Za-z0-9_.\-]{1,200}", value):
            yield finding("adapter/regex-target", f"{field} in {file} is {quoted(value, 80)}", file, field=field)
            if tokenizer_rules.may_hang(value, _MAX_OPEN_REPETITIONS):
                message = f"{field} in {file} is a pattern that can run for ever: {quoted(value, 80)}"
                yield finding("adapter/regex-hangs", message, file, field=field)
    unknown = sorted(set(config) - KNOWN_FIELDS)
    if unknown:
        shown = ", ".join(quoted(k, 40) for k in unknown[:8])
        yield finding("adapter/unknown-field", f"{file} has the unknown {shown}", file, fields=unknown[:50])


def _rows(indices: Any) -> str:
    """The rows of an embedding, in words that fit a sentence."""
    lists = indices.items() if isinstance(indices, dict) else [("", indices)]
    ids = [f"{quoted(str(module), 40)} " * bool(module) + quoted(str(rows), 80) for module, rows in lists]
    return f"trainable_token_indices {', '.join(ids[:4])}"


def scaling(config: Mapping[str, Any], rank: float, alpha: float) -> float:
    """PEFT's scaling: alpha / r, or alpha / sqrt(r) under rsLoRA."""
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _numbers(config: Mapping[str, Any], file: str) -> Iterator[Finding]:
    rank, alpha = config.get("r"), config.get("lora_alpha", config.get("alpha"))
    kind = declared_type(config)
    if rank == 0 and kind is not None and PEFT_TYPES[kind].unmeasured is not None:
        rank = None  # OFT's r is 0 where its blocks are given by their size
    pairs = [("r", rank, _is_rank), ("lora_alpha", alpha, _is_alpha)]
    for field, check in (("rank_pattern", _is_rank), ("alpha_pattern", _is_alpha)):
        pattern = config.get(field) or {}
        if not isinstance(pattern, dict) or len(pattern) > 100_000 or any(len(key) > 512 for key in pattern):
            yield finding("adapter/invalid", f"{file} has a malformed {field}", file, field=field)
        else:
            pairs += [(f"{field}[{quoted(key, 60)}]", value, check) for key, value in pattern.items()]
    valid = True
    for field, value, check in pairs:
        if value is not None and not check(value):
            valid = False
            yield finding("adapter/invalid", f"{file} gives {field} the value {quoted(str(value), 40)}", file)
    for field in ("use_rslora", "use_dora", "fan_in_fan_out", "lora_bias", "use_qalora"):
        if config.get(field) not in (None, True, False):
            yield finding("adapter/invalid", f"{file} has {field}, which is neither true nor false", file, field=field)
    if valid and rank is not None and alpha is not None:
        factor = scaling(config, rank, alpha)
        if not USUAL_SCALING[0] <= factor <= USUAL_SCALING[1]:
            yield finding("adapter/abnormal-scaling", f"{file} scales the update by {factor:.4g}", file, scaling=factor)
    if _saved_modules(config) is None:
        message = f"{file} has a modules_to_save that is not a list of at most {MAX_SAVED_MODULES} names"
        yield finding("adapter/invalid", message, file)


def _saved_modules(config: Mapping[str, Any]) -> list[str] | None:
    """``modules_to_save``; empty if the config has none, None if it is malformed."""
    names = config.get("modules_to_save") or []
    whole = isinstance(names, list) and len(names) <= MAX_SAVED_MODULES and all(isinstance(n, str) and n for n in names)
    return names if whole else None


def _imports(config: Mapping[str, Any], file: str) -> Iterator[Finding]:
    """PEFT imports ``auto_mapping.parent_library`` and, with a megatron_config, ``megatron_core``."""
    mapping = config.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, dict) else mapping
    if library is not None and not (isinstance(library, str) and library.split(".")[0] in ("transformers", "peft")):
        yield finding("adapter/imports-code", f"{file} names a module to import (auto_mapping)", file)
    if config.get("megatron_config") is not None or config.get("megatron_core") not in (None, "megatron.core"):
        yield finding("adapter/imports-code", f"{file} names a module to import (megatron_core)", file)


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_RANK


def _is_alpha(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 < value <= MAX_ALPHA
