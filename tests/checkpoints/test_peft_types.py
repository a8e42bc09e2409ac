"""PEFT's own list of types against ours, and what each type saves against the roles of its tensors."""

from __future__ import annotations

import dataclasses
import inspect as signatures
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rora_cli.checkpoints.adapter_rules import check_config
from rora_cli.checkpoints.adapters import lora, read_adapter
from rora_cli.checkpoints.adapters.registry import FORMATS
from rora_cli.checkpoints.peft_types import KNOWN_FIELDS, PEFT_TYPES
from rora_cli.checkpoints.preflight import inspect
from rora_cli.results.findings import Severity
from tests.adapters import edit_tensors
from tests.versions import is_older

peft = pytest.importorskip("peft")
WEIGHTS = "adapter_model.safetensors"

#: What a type's config must be told before it can be built on the model below.
_OPTIONS: dict[str, dict[str, Any]] = {
    "ADALORA": {"total_step": 10},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 4},
    "CARTRIDGE": {"num_virtual_tokens": 3},
    "CPT": {"cpt_token_ids": [1, 2, 3], "cpt_mask": [1, 1, 1], "cpt_tokens_type_mask": [1, 2, 3]},
    "FOURIERFT": {"n_frequency": 10},
    "IA3": {"target_modules": ["q_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "MISS": {"r": 4},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 3, "num_tasks": 2},
    "OFT": {"oft_block_size": 4},
    "PREFIX_TUNING": {"num_virtual_tokens": 3},
    "PROMPT_TUNING": {"num_virtual_tokens": 3},
    "PSOFT": {"r": 4},
    "P_TUNING": {"num_virtual_tokens": 3},
    "ROAD": {"group_size": 4},
    "SHIRA": {"r": 2},
    "TRAINABLE_TOKENS": {"token_indices": [3, 4], "target_modules": ["embed_tokens"]},
    "VBLORA": {"vector_length": 4, "num_vectors": 8},
    "WAVEFT": {"n_frequency": 8},
}
#: Types that need a library beside PEFT, adapters on disk or a particular model.
_NOT_BUILT = {"ADAMSS", "ADAPTION_PROMPT", "XLORA"}
BUILT = sorted({t.value for t in peft.PeftType} - _NOT_BUILT)


def test_every_type_of_peft_is_listed_once() -> None:
    here = {t.value for t in peft.PeftType}
    assert here <= PEFT_TYPES.keys()
    # An older PEFT, which pyproject.toml allows, has fewer.
    assert is_older("peft") or here == PEFT_TYPES.keys() - {"BONE"}
    assert {name for name, known in PEFT_TYPES.items() if known.unmeasured is None} == FORMATS.keys() - {"KOHYA", "MLX"}


def test_every_field_of_peft_is_known() -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as configs

    fields = {f.name for config in configs.values() for f in dataclasses.fields(config) if f.name[0] != "_"}
    assert fields <= KNOWN_FIELDS


def test_every_variant_of_lora_is_measured_or_refused() -> None:
    variants = {f.name for f in dataclasses.fields(peft.LoraConfig) if f.metadata.get("is_lora_variant")}
    measured = {"use_dora", "alora_invocation_tokens"}
    assert variants - measured <= lora._OTHER_FORMS.keys()


def _save(kind: str, directory: Path) -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as configs
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=12, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=32, pad_token_id=0,
        )
    )  # fmt: skip
    options = {"task_type": "CAUSAL_LM", **_OPTIONS.get(kind, {})}
    if "target_modules" in signatures.signature(configs[kind]).parameters:
        options.setdefault("target_modules", ["q_proj"])
    peft.get_peft_model(model, configs[kind](**options)).save_pretrained(directory)


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "PREFIX_TUNING", "XLORA", "HRA", "MISS"])
def test_the_advice_to_merge_is_given_where_peft_can_merge(kind: str) -> None:
    (found,) = [f for f in check_config({"peft_type": kind}) if f.rule_id == "adapter/not-measured"]
    assert ("merge it with PEFT" in str(found.advice)) == (kind in ("HRA", "MISS"))


@pytest.mark.parametrize("kind", BUILT)
def test_no_type_is_accused_of_its_own_tensors(kind: str, tmp_path: Path) -> None:
    _save(kind, tmp_path)
    inspection = inspect(tmp_path)
    assert set(inspection.roles.values()) == {"adapter"}
    assert not [f for f in inspection.findings if f.severity > Severity.LOW and f.rule_id != "adapter/token-rows"]
    rules = {f.rule_id for f in inspection.findings}
    assert ("adapter/not-measured" in rules) == (PEFT_TYPES[kind].unmeasured is not None)
    assert "adapter/unknown-field" not in rules
    if PEFT_TYPES[kind].unmeasured is not None:
        read = read_adapter(inspection)
        assert not read.modules and read.unmeasured.keys() == load_file(tmp_path / WEIGHTS).keys()
        assert all(kind in why for why in read.unmeasured.values())


@pytest.mark.parametrize("kind", ["HRA", "LN_TUNING", "OFT", "PROMPT_TUNING"])
@pytest.mark.parametrize(
    "parameter", ["mlp.up_proj.weight", "input_layernorm.weight", "self_attn.q_proj.base_layer.weight"]
)
def test_a_base_weight_beside_a_type_that_is_not_measured_is_still_named(
    kind: str, parameter: str, tmp_path: Path
) -> None:
    _save(kind, tmp_path)
    name = f"base_model.model.model.layers.0.{parameter}"
    edit_tensors(tmp_path, **{name: torch.ones(16)})
    found = [f for f in inspect(tmp_path).findings if f.rule_id == "adapter/hidden-base-tensor"]
    assert [f.location for f in found] == [name] and found[0].severity is Severity.HIGH
