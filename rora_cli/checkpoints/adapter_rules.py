"""What an adapter may be: its config's fields within bounds, and every one of its tensors accounted for by name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rora_cli.checkpoints import tokenizer_rules
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.rules import finding
from rora_cli.layout import EMBEDDINGS, IMPLICIT_HEADS, TASK_HEADS, is_head
from rora_cli.results.findings import Finding

MAX_RANK = 16_384
MAX_ALPHA = 1e6
MAX_SAVED_MODULES = 256
#: In a pattern for module names: published ones for multimodal models have four (``.*?`` between words).
_MAX_OPEN_REPETITIONS = 5
#: Scaling (alpha / r) outside of this is not what training uses; merged, it drowns the base or does nothing.
USUAL_SCALING = (1 / 64, 64.0)

_PREFIXES = ("base_model.model.", "base_model.")
#: Tensors that belong to an adapter's own arithmetic: PEFT's families, kohya and diffusers, MLX.
_ADAPTER_TENSOR = re.compile(
    r"(?:^|\.)(?:"
    r"lora_(?:A|B|embedding_A|embedding_B|magnitude_vector|E|ranknum)(?:\.[A-Za-z0-9_-]+)?(?:\.weight|\.bias)?"
    r"|(?:hada|lokr)_(?:w1|w2|t1|t2)(?:_a|_b)?(?:\.[A-Za-z0-9_-]+)?"
    r"|vera_(?:A|B|lambda_b|lambda_d)(?:\.[A-Za-z0-9_-]+)?"
    r"|ia3_l(?:\.[A-Za-z0-9_-]+)?|(?:oft|boft)_(?:r|R|s|blocks)(?:\.[A-Za-z0-9_-]+)?(?:\.weight)?"
    r"|lora[._](?:down|up|mid)\.weight|(?:lora_)?alpha|dora_scale|lora_(?:a|b)"
    r"|prompt_embeddings|prompt_encoder\.[A-Za-z0-9_.-]+"
    r")$"
)

_KNOWN_TYPES = frozenset({
    "LORA", "ADALORA", "LOHA", "LOKR", "VERA", "IA3", "OFT", "BOFT", "PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING",
})  # fmt: skip
_MUTATING_INITS = ("pissa", "olora", "loftq", "corda", "lora_ga")
_KNOWN_FIELDS = frozenset({
    "alora_invocation_tokens", "alpha", "alpha_pattern", "arrow_config", "auto_mapping", "base_model_name_or_path",
    "beta1", "beta2", "bias", "block_share", "boft_block_num", "boft_block_size", "boft_dropout",
    "boft_n_butterfly_factor", "coft", "corda_config", "d_initial", "decompose_both", "decompose_factor", "deltaT",
    "encoder_dropout", "encoder_hidden_size", "encoder_num_layers", "encoder_reparameterization_type",
    "ensure_weight_tying", "eps", "eva_config", "exclude_modules", "fan_in_fan_out", "feedforward_modules",
    "inference_mode", "init_ia3_weights", "init_lora_weights", "init_r", "init_weights", "kasa_config",
    "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha", "lora_bias",
    "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core", "module_dropout", "modules_to_save",
    "monteclora_config", "num_attention_heads", "num_layers", "num_transformer_submodules", "num_virtual_tokens",
    "oft_block_size", "orth_reg_weight", "peft_type", "peft_version", "prefix_projection", "projection_prng_key",
    "prompt_tuning_init", "prompt_tuning_init_text", "qalora_group_size", "r", "rank_dropout", "rank_dropout_scale",
    "rank_pattern", "revision", "runtime_config", "save_projection", "target_modules", "target_parameters", "target_r",
    "task_type", "tfinal", "tinit", "token_dim", "tokenizer_kwargs", "tokenizer_name_or_path", "total_step",
    "trainable_token_indices", "use_bdlora", "use_dora", "use_effective_conv2d", "use_qalora", "use_rslora",
    "use_cayley_neumann", "num_cayley_neumann_terms", "use_rank_stabilized", "vera_dropout", "velora_config",
})  # fmt: skip


def module_name(tensor: str) -> str:
    """A tensor's name without PEFT's prefix."""
    for prefix in _PREFIXES:
        if tensor.startswith(prefix):
            return tensor[len(prefix) :]
    return tensor


def tensor_role(name: str, config: Mapping[str, Any] | None) -> str:
    """What a tensor of an adapter file is.

    One of ``adapter``, ``head``, ``module``, ``bias``, ``original``, ``undeclared-head`` and ``base``. ``head`` and
    ``module`` are declared by ``modules_to_save`` (a head or embedding, or any other module); ``original`` is the bias
    of a head that is replaced, and without effect; ``base`` is a weight of the base model that nothing declares: on
    load PEFT overwrites the base's own with it.
    """
    config = config or {}
    bare = module_name(name)
    if _ADAPTER_TENSOR.search(bare):
        return "adapter"
    is_declared_bias = bare.endswith(".bias") and config.get("bias") in ("all", "lora_only")
    if ".original_module." in bare:  # a head that modules_to_save replaces; bias="all" makes PEFT save its bias as well
        return "original" if is_declared_bias else "base"
    path = re.sub(r"\.modules_to_save(\.default)?\.", ".", bare).rpartition(".")[0] + "."
    declared = set(_saved_modules(config) or ())
    if config.get("task_type") in ("SEQ_CLS", "TOKEN_CLS"):
        declared |= set(IMPLICIT_HEADS)
    # PEFT saves, and loads, whatever module's path ends in a declared name: "classifier" takes "pre_classifier" along.
    owners = [m for m in declared if f"{m}." in path]
    if owners:
        named = any(m.split(".")[-1] in TASK_HEADS | EMBEDDINGS for m in owners)
        return "head" if named or (is_head(path) and path.partition(".")[0] in owners) else "module"
    if is_declared_bias:
        return "bias"
    return "undeclared-head" if path.partition(".")[0] in TASK_HEADS else "base"


def check_tensors(names: Iterable[str], config: Mapping[str, Any] | None, file: str) -> Iterator[Finding]:
    """Findings for what is not an adapter's own tensor; at most one a module, so that a flood stays readable."""
    rules = {
        "base": ("adapter/hidden-base-tensor", "would silently overwrite that weight of the base model"),
        "module": ("adapter/replaces-module", "replaces a whole module of the base model (modules_to_save)"),
        "undeclared-head": ("adapter/undeclared-head", "is a head that modules_to_save does not declare"),
        "bias": ("adapter/trains-bias", "replaces a bias of the base model"),
    }
    groups: dict[tuple[str, str], list[str]] = {}
    adapter = 0
    for name in names:
        role = tensor_role(name, config)
        adapter += role == "adapter"
        if role in rules:
            groups.setdefault((role, name.rpartition(".")[0] if role != "bias" else ""), []).append(name)
    if not adapter:
        yield finding("adapter/no-update", f"{file} holds no adapter tensor", file)
    for (role, _), members in groups.items():
        rule, meaning = rules[role]
        more = f" and {len(members) - 1} more" if len(members) > 1 else ""
        yield finding(rule, f"{quoted(members[0])}{more} in {file} {meaning}", members[0], tensors=members[:20])


def check_config(config: Mapping[str, Any], file: str = "adapter_config.json") -> Iterator[Finding]:
    """The fields of adapter_config.json: type, bounds, and what makes PEFT import, rebuild or hide something."""
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind.upper() not in _KNOWN_TYPES:
        yield finding("adapter/type", f"{file} names the adapter type {quoted(str(kind), 60)}", file)
    yield from _numbers(config, file)
    yield from _imports(config, file)
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower().startswith(_MUTATING_INITS):
        yield finding("adapter/mutates-base", f"{file} has init_lora_weights {quoted(init, 40)}", file, init=init[:40])
    if config.get("alora_invocation_tokens") is not None:
        tokens = config["alora_invocation_tokens"]
        yield finding("adapter/token-trigger", f"{file} has alora_invocation_tokens", file, tokens=str(tokens)[:200])
    if config.get("trainable_token_indices") is not None:
        yield finding("adapter/token-rows", f"{file} has trainable_token_indices", file)
    if config.get("layer_replication") is not None:
        yield finding("adapter/replicates-layers", f"{file} has layer_replication", file)
    for field in ("target_modules", "exclude_modules", "layers_pattern"):
        value = config.get(field)
        if isinstance(value, str) and not re.fullmatch(r"[A-Za-z0-9_.\-]{1,200}", value):
            yield finding("adapter/regex-target", f"{field} in {file} is {quoted(value, 80)}", file, field=field)
            if tokenizer_rules._may_hang(value, _MAX_OPEN_REPETITIONS):
                message = f"{field} in {file} is a pattern that can run for ever: {quoted(value, 80)}"
                yield finding("adapter/regex-hangs", message, file, field=field)
    unknown = sorted(set(config) - _KNOWN_FIELDS)
    if unknown:
        shown = ", ".join(quoted(k, 40) for k in unknown[:8])
        yield finding("adapter/unknown-field", f"{file} has the unknown {shown}", file, fields=unknown[:50])


def scaling(config: Mapping[str, Any], rank: float, alpha: float) -> float:
    """PEFT's scaling: alpha / r, or alpha / sqrt(r) under rsLoRA."""
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _numbers(config: Mapping[str, Any], file: str) -> Iterator[Finding]:
    rank, alpha = config.get("r"), config.get("lora_alpha", config.get("alpha"))
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
    for field in ("use_rslora", "use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "use_bdlora"):
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
    """modules_to_save, empty where there is none; None where it is malformed."""
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
