"""PEFT's adapter types: how each names its tensors, and why rora cannot measure it, if it cannot.

Preflight recognises the tensors of a file by this list, and the readers take their refusals from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from re import Pattern


@dataclass(frozen=True)
class PeftType:
    """One adapter type. A part of the name of each of its tensors begins with ``prefix``, a regular expression.

    ``unmeasured`` says why file and base do not tell the effect as a matrix; it is None for types that
    ``checkpoints.adapters`` reads. At most ``depth`` parts follow the part with the prefix: the adapter's name, the
    number of a layer, weight or bias. ``merges`` is False if no weights can hold the effect.
    """

    prefix: str
    unmeasured: str | None = None
    depth: int = 4
    merges: bool = True
    own: Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pattern = re.compile(rf"(?:^|\.)(?:{self.prefix})[A-Za-z0-9_]*(?:\.[A-Za-z0-9_-]+){{0,{self.depth}}}$")
        object.__setattr__(self, "own", pattern)


_ROTATES = "it rotates or reflects W: the change is multiplicative and has no low-rank factors of its own"
_PROMPT = "a soft prompt changes the input, or attention's keys and values, not a weight"
_UNREAD = "it is published in PEFT, but rora has no reader for it"

#: PEFT's peft_type -> the type. Before PEFT 0.17, MISS was called BONE.
PEFT_TYPES: Mapping[str, PeftType] = {
    "LORA": PeftType("lora_"),
    "ADALORA": PeftType("lora_"),
    "LOHA": PeftType("hada_"),
    "LOKR": PeftType("lokr_"),
    "VERA": PeftType("vera_"),
    "TRAINABLE_TOKENS": PeftType("trainable_tokens_"),
    "ADAMSS": PeftType("adamss_", _UNREAD),
    "ADAPTION_PROMPT": PeftType("adaption_", _PROMPT, merges=False),
    "BEFT": PeftType("beft_", "it trains biases, which are vectors"),
    "BOFT": PeftType("boft_", _ROTATES),
    "BONE": PeftType("bone_", "it adds one block to all blocks of W's rows: rora has no reader for it"),
    "C3A": PeftType("c3a_", "it adds block-circulant matrices, told by a Fourier transform: rora has no reader for it"),
    "CARTRIDGE": PeftType("prompt_embeddings", _PROMPT, merges=False),
    "CPT": PeftType("prompt_embeddings", _PROMPT, merges=False),
    "DEFT": PeftType("deft_", _UNREAD),
    "DELORA": PeftType("delora_", "it normalises its factors by W: rora has no reader for it"),
    "FOURIERFT": PeftType(
        "fourierft_", "it adds a matrix that a few Fourier coefficients tell: rora has no reader for it"
    ),
    "FROD": PeftType("frod_", _UNREAD),
    "GLORA": PeftType("glora_", "it scales W and adds to it and to the bias: rora has no reader for it"),
    "GRALORA": PeftType("gralora_", "it adds a low-rank product to every block of W: rora has no reader for it"),
    "HIRA": PeftType("hira_", "it multiplies W entry by entry with a low-rank matrix: rora has no reader for it"),
    "HRA": PeftType("hra_", _ROTATES),
    "IA3": PeftType("ia3_", "it scales activations by a learned vector: its change of W has no spectrum of its own"),
    "LILY": PeftType(
        "lily_", "it chooses among shared factors by what the input is: its change is no one matrix", merges=False
    ),
    "LN_TUNING": PeftType("ln_tuning_", "it retrains normalisation layers, which are vectors"),
    "MISS": PeftType("miss_", "it adds one block to all blocks of W's rows: rora has no reader for it"),
    "MULTITASK_PROMPT_TUNING": PeftType("prompt_embeddings|prefix_task_", _PROMPT, merges=False),
    "OFT": PeftType("oft_", _ROTATES),
    "OSF": PeftType("osf_", "it retrains the small singular directions of W: rora has no reader for it"),
    "PEANUT": PeftType("peanut_", "it adds what a small network makes of W: rora has no reader for it"),
    "POLY": PeftType(
        "poly_", "it mixes several low-rank updates by the task: its change is no one matrix", merges=False
    ),
    "PREFIX_TUNING": PeftType("prompt_embeddings|prefix_encoder|prompt_encoder", _PROMPT, merges=False),
    "PROMPT_TUNING": PeftType("prompt_embeddings|prompt_encoder", _PROMPT, merges=False),
    "PSOFT": PeftType("psoft_", _ROTATES),
    "PVERA": PeftType("pvera_", "it draws its update at random round a mean: rora has no reader for it"),
    "P_TUNING": PeftType("prompt_embeddings|prompt_encoder", _PROMPT, merges=False),
    "RANDLORA": PeftType("randlora_", "it sums scaled random bases: rora has no reader for it"),
    "ROAD": PeftType("road_", _ROTATES),
    "SHADOW": PeftType(
        "shadow_", "it runs a small network beside the model: its change is no matrix", depth=16, merges=False
    ),
    "SHIRA": PeftType("shira_", "it changes single entries of W, far from low rank: rora has no reader for it"),
    "SUPERTUNING": PeftType(
        "supertuning_", "it changes single entries of W, far from low rank: rora has no reader for it"
    ),
    "TINYLORA": PeftType("tinylora_", _UNREAD),
    "UNILORA": PeftType("unilora_", "it reads all of its factors out of one vector: rora has no reader for it"),
    "VBLORA": PeftType("vblora_", "it puts its factors together out of a bank of vectors: rora has no reader for it"),
    "WAVEFT": PeftType("waveft_", "it adds a matrix that a few wavelet coefficients tell: rora has no reader for it"),
    "XLORA": PeftType(
        "internal_xlora_|xlora_",
        "it mixes several adapters by what the input is: its change is no matrix",
        merges=False,
    ),
}

#: The fields of adapter_config.json of all types, and two fields of older releases.
KNOWN_FIELDS = frozenset({
    "ab_svd_init", "act_fn", "adapter_layers", "adapter_len", "adapters", "alora_invocation_tokens", "alpha",
    "alpha_pattern", "apply_GS", "arrow_config", "asa_importance_beta", "asa_schedule_exponent",
    "asa_target_subspaces", "asa_uncertainty_beta", "auto_mapping", "auxiliary_loss_weight",
    "base_model_name_or_path", "beta1", "beta2", "bias", "block_share", "block_size", "block_size_pattern",
    "boft_block_num", "boft_block_size", "boft_dropout", "boft_n_butterfly_factor", "cayley_neumann_eps", "coft",
    "config_A_B", "config_C", "config_D_E", "corda_config", "cpt_mask", "cpt_token_ids", "cpt_tokens_type_mask",
    "d_initial", "decompose_both", "decompose_factor", "decomposition_method", "deft_dropout", "delora_lambda",
    "deltaT", "depth", "effective_rank", "enable_softmax", "enable_softmax_topk", "encoder_dropout",
    "encoder_hidden_size", "encoder_num_layers", "encoder_reparameterization_type", "ensure_weight_tying", "eps",
    "eva_config", "exclude_modules", "fan_in_fan_out", "feedforward_modules", "final_warmup", "frod_dropout",
    "generator_seed", "global_scaling_weight", "gralora_dropout", "gralora_k", "group_size", "hidden_size",
    "hira_dropout", "hybrid_r", "inference_mode", "init_ia3_weights", "init_logits_std", "init_lora_weights",
    "init_r", "init_scale", "init_theta_d_bound", "init_v_bound", "init_vector_bank_bound", "init_warmup",
    "init_weights", "kasa_config", "lambda_pattern", "layer_replication", "layers_pattern", "layers_to_transform",
    "layerwise_scalings", "loftq_config", "lora_alpha", "lora_bias", "lora_dropout", "lora_ga_config",
    "mask_interval", "mask_type", "megatron_config", "megatron_core", "mini_r", "miss_dropout", "module_dropout",
    "modules_to_save", "monteclora_config", "n_frequency", "n_frequency_pattern", "n_skills", "n_splits", "n_tasks",
    "num_B", "num_attention_heads", "num_cayley_neumann_terms", "num_frozen_tokens", "num_layers", "num_ranks",
    "num_subspaces", "num_tasks", "num_transformer_submodules", "num_vectors", "num_virtual_tokens",
    "oft_block_size", "opt_loss_decay_factor", "opt_projection_epsilon", "opt_projection_format_epsilon",
    "opt_weighted_loss_type", "orth_reg_weight", "para", "peft_type", "peft_version", "poly_type",
    "prefix_projection", "progressbar", "proj_seed", "projection_prng_key", "projection_seed", "prompt_tuning_init",
    "prompt_tuning_init_state_dict_path", "prompt_tuning_init_task", "prompt_tuning_init_text",
    "proportional_parameters", "psoft_alpha", "psoft_dropout", "psoft_mag_a", "psoft_mag_b", "psoft_orth",
    "psoft_svd", "psoft_svd_lowrank_niter", "pvera_dropout", "qalora_group_size", "r", "randlora_alpha",
    "randlora_dropout", "random_loc_seed", "random_seed", "rank_dropout", "rank_dropout_scale", "rank_pattern",
    "regularization_alpha", "revision", "runtime_config", "runtime_offload_base_weight", "sample_at_inference",
    "save_indices", "save_only_topk_weights", "save_precomputed_indices", "save_projection", "scaling",
    "scaling_pass_value", "select_top", "shadow_alpha", "shadow_dropout", "shadow_hidden_size",
    "shadow_intermediate_size", "shadow_model", "shadow_num_attention_heads", "shadow_num_hidden_layers",
    "share_embeddings", "softmax_temperature", "sparse", "sparse_rate", "sparsity", "stride_A", "subspace_rank",
    "svd_threshold", "target_modules", "target_parameters", "target_r", "target_svd_config", "task_type", "tfinal",
    "theta_d_length", "tinit", "tinylora_dropout", "token_dim", "token_indices", "tokenizer_kwargs",
    "tokenizer_name_or_path", "top_k_lora", "topk", "total_step", "trainable_token_indices", "u", "unilora_dropout",
    "update_hidden_size", "use_asa", "use_bdlora", "use_cayley_neumann", "use_dora", "use_dynamic_rank",
    "use_effective_conv2d", "use_idwt", "use_qalora", "use_rank_stabilized", "use_rslora", "use_trainable_adapters",
    "variant", "vblora_dropout", "vector_length", "velora_config", "vera_dropout", "very_sparse", "wavelet_family",
    "weight_tying", "xlora_depth", "xlora_dropout_p", "xlora_size",
})  # fmt: skip


def declared_type(config: Mapping[str, object] | None) -> str | None:
    """The config's peft_type as a key of ``PEFT_TYPES``; None if it is no such key."""
    kind = (config or {}).get("peft_type")
    return kind.upper() if isinstance(kind, str) and kind.upper() in PEFT_TYPES else None
