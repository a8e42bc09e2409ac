"""Every adapter format against PEFT itself: our DeltaW is merged - base, on tiny models with random weights.

The source of truth is ``PeftModel.from_pretrained(base, adapter).merge_and_unload()`` on a fresh copy of the original
base, not ``get_delta_weight``: for DoRA, PiSSA and OLoRA those differ.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rora_cli.checkpoints.adapters import Adapter, merge_into, read_adapter
from rora_cli.checkpoints.preflight import inspect
from rora_cli.checkpoints.reader import TensorReader

pytest.importorskip("peft")


def _llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=50, max_position_embeddings=32, tie_word_embeddings=False,
        )
    )  # fmt: skip


def _gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2ForSequenceClassification

    return GPT2ForSequenceClassification(
        GPT2Config(n_embd=24, n_layer=2, n_head=4, n_positions=32, vocab_size=50, num_labels=3, pad_token_id=0)
    )


def _mixtral() -> nn.Module:
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(
        MixtralConfig(
            hidden_size=24, intermediate_size=20, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=50, num_local_experts=3, max_position_embeddings=32,
        )
    )  # fmt: skip


class _Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(6, 10, 3)
        self.point = nn.Conv2d(10, 8, 1)
        self.line = nn.Conv1d(4, 6, 5)
        self.config = {"model_type": "custom"}


@dataclass(frozen=True)
class Case:
    """``modules`` is how many the adapter must have; ``tolerance`` is relative to the largest entry of DeltaW."""

    kind: str
    model: Callable[[], nn.Module]
    options: dict[str, Any]
    modules: int
    peft: str = "LoraConfig"
    tolerance: float = 1e-5
    randomise: dict[str, float] = field(default_factory=dict)


_QV = ["q_proj", "v_proj"]
CASES = {
    "lora": Case("lora", _llama, {"r": 4, "lora_alpha": 12, "target_modules": _QV}, 4),
    "lora-all-linear": Case("lora", _llama, {"r": 4, "target_modules": "all-linear"}, 14),
    "rslora": Case("rslora", _llama, {"r": 4, "lora_alpha": 12, "use_rslora": True, "target_modules": _QV}, 4),
    "patterns": Case(
        "lora", _llama,
        {
            "r": 4, "lora_alpha": 12, "target_modules": _QV,
            # The first match decides, in the file's order: the dot matches any character, as in PEFT.
            "rank_pattern": {r"layers\.1\..*": 2, "q_proj": 6},
            "alpha_pattern": {"self.attn.q_proj": 5, "q_proj": 7, "model.layers.0.self_attn.v_proj": 3},
        },
        4,
    ),
    "conv1d": Case(
        "lora", _gpt2,
        {"r": 4, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, "task_type": "SEQ_CLS"}, 6,
    ),
    "conv1d-undeclared": Case("lora", _gpt2, {"r": 4, "target_modules": ["c_attn", "attn.c_proj"]}, 4),
    "convolutions": Case("lora", _Convolutions, {"r": 2, "target_modules": ["wide", "point", "line"]}, 3),
    "embeddings": Case("embedding", _llama, {"r": 4, "target_modules": ["embed_tokens"]}, 1),
    "lora-bias": Case(
        "lora", _gpt2, {"r": 4, "target_modules": ["c_attn"], "lora_bias": True, "fan_in_fan_out": True}, 2
    ),
    "experts": Case(
        "experts", _mixtral,
        {"r": 2, "target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}, 6,
    ),
    "dora": Case("dora", _llama, {"r": 4, "use_dora": True, "target_modules": _QV}, 4),
    "dora-conv1d": Case(
        "dora", _gpt2, {"r": 4, "use_dora": True, "target_modules": ["c_attn"], "fan_in_fan_out": True}, 2
    ),
    "pissa": Case("pissa", _llama, {"r": 4, "init_lora_weights": "pissa", "target_modules": _QV}, 4, tolerance=1e-4),
    "pissa-conv1d": Case(
        "pissa", _gpt2,
        {"r": 4, "init_lora_weights": "pissa", "target_modules": ["c_attn"], "fan_in_fan_out": True}, 2, tolerance=1e-4,
    ),
    "olora": Case("olora", _llama, {"r": 4, "init_lora_weights": "olora", "target_modules": _QV}, 4, tolerance=1e-4),
    "adalora": Case(
        "adalora", _llama, {"init_r": 6, "lora_alpha": 9, "total_step": 10, "target_modules": _QV}, 4,
        peft="AdaLoraConfig",
    ),
    "loha": Case("loha", _llama, {"r": 3, "alpha": 5, "target_modules": _QV}, 4, peft="LoHaConfig"),
    "loha-dense": Case("loha", _llama, {"r": 6, "target_modules": _QV}, 4, peft="LoHaConfig"),
    "loha-conv": Case("loha", _Convolutions, {"r": 2, "target_modules": ["wide", "point"]}, 2, peft="LoHaConfig"),
    "lokr": Case("lokr", _llama, {"r": 2, "alpha": 5, "target_modules": _QV}, 4, peft="LoKrConfig"),
    "lokr-both": Case(
        "lokr", _llama, {"r": 1, "decompose_both": True, "decompose_factor": 4, "target_modules": _QV}, 4,
        peft="LoKrConfig",
    ),
    "vera": Case("vera", _llama, {"r": 5, "target_modules": _QV}, 4, peft="VeraConfig"),
}  # fmt: skip


def _save_adapter(case: Case, base: nn.Module, directory: Path) -> None:
    import peft

    model = peft.get_peft_model(copy.deepcopy(base), getattr(peft, case.peft)(**case.options))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if any(part in name for part in ("lora_", "hada_", "lokr_", "vera_")):
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            keep = parameter.data if "magnitude" in name else 0
            parameter.data = keep + noise.abs() if "magnitude" in name else noise
    model.save_pretrained(directory)


def _merged(base: nn.Module, directory: Path) -> dict[str, Tensor]:
    import peft

    return peft.PeftModel.from_pretrained(copy.deepcopy(base), str(directory)).merge_and_unload().state_dict()


def _save_base(base: nn.Module, directory: Path) -> None:
    directory.mkdir()
    save_file({k: v.contiguous().clone() for k, v in base.state_dict().items()}, directory / "model.safetensors")
    config = base.config if isinstance(base.config, dict) else base.config.to_dict()  # type: ignore[union-attr]
    (directory / "config.json").write_text(json.dumps({"model_type": config["model_type"]}))


def _read(adapter: Path, base: Path) -> Adapter:
    return read_adapter(inspect(adapter, role="adapter"), TensorReader(inspect(base, role="model")))


@pytest.mark.parametrize("name", CASES)
def test_delta_weight_is_what_peft_merges(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    base = case.model().eval()
    _save_base(base, tmp_path / "base")
    _save_adapter(case, base, tmp_path / "adapter")
    merged, original = _merged(base, tmp_path / "adapter"), base.state_dict()

    adapter = _read(tmp_path / "adapter", tmp_path / "base")
    ours = {k: v.clone() for k, v in original.items()}
    merge_into(adapter, ours)

    assert [m.format for m in adapter.modules] == [case.kind] * case.modules
    changed = {k for k in original if not torch.equal(merged[k], original[k])}
    assert changed, "PEFT's merge changed nothing: the case tests nothing"
    for key in original:
        truth = merged[key] - original[key]
        error = (ours[key] - original[key] - truth).abs().max()
        assert error <= case.tolerance * max(truth.abs().max(), 1e-3), (key, float(error))

    in_file = set(load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    measured = {tensor for module in adapter.modules for tensor in module.tensors}
    assert measured | adapter.unmeasured.keys() | adapter.aside.keys() == in_file
    assert not adapter.unmeasured and not measured & adapter.aside.keys()


@pytest.mark.parametrize("name", CASES)
def test_singular_values_from_factors_are_those_of_the_dense_update(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    base = case.model().eval()
    _save_base(base, tmp_path / "base")
    _save_adapter(case, base, tmp_path / "adapter")
    adapter = _read(tmp_path / "adapter", tmp_path / "base")
    assert adapter.base is not None
    for module in adapter.modules:
        key = adapter.base.find(module.name, module.parameter)
        assert key is not None
        W = adapter.base.weight(key, module.shape, fan_in_fan_out=module.fan_in_fan_out, expert=module.expert)
        update = module.update(W)
        dense = torch.linalg.svdvals(update.delta_weight(torch.float64))
        values = update.singular_values()
        assert len(values) >= min(module.rank, *module.shape)
        torch.testing.assert_close(values, dense[: len(values)], rtol=1e-6, atol=1e-6 * float(dense[0]))
        assert dense[len(values) :].sum() <= 1e-6 * dense[0]
