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

from rora_cli.checkpoints.adapters import Adapter, AdapterModule, merge_into, read_adapter
from rora_cli.checkpoints.preflight import inspect
from rora_cli.checkpoints.reader import TensorReader
from rora_cli.commands.diagnose import DiagnoseConfig, run

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
    needs_base: bool = False


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
    # PEFT turns the names of an older checkpoint into those of the fused weights, and gives each a rank of its own.
    "experts-by-old-names": Case(
        "experts", _mixtral, {"r": 2, "lora_alpha": 6, "target_modules": ["w1", "w2", "w3"]}, 6,
        needs_base=True,
    ),
    "dora": Case("dora", _llama, {"r": 4, "use_dora": True, "target_modules": _QV}, 4),
    "dora-conv1d": Case(
        "dora", _gpt2, {"r": 4, "use_dora": True, "target_modules": ["c_attn"], "fan_in_fan_out": True}, 2
    ),
    "dora-embeddings": Case(
        "dora-embedding", _llama, {"r": 4, "use_dora": True, "target_modules": ["embed_tokens"]}, 1
    ),
    "dora-convolutions": Case(
        "dora", _Convolutions, {"r": 2, "use_dora": True, "target_modules": ["wide", "point", "line"]}, 3
    ),
    "token-rows": Case(
        "embedding-rows", _llama, {"token_indices": [7, 3], "target_modules": ["embed_tokens"]}, 1,
        peft="TrainableTokensConfig",
    ),
    # PEFT takes the top of W out of linear layers only: an embedding starts from a plain LoRA.
    "pissa-embeddings": Case(
        "embedding", _llama, {"r": 4, "init_lora_weights": "pissa", "target_modules": ["embed_tokens"]}, 1
    ),
    "orthogonal": Case("lora", _llama, {"r": 4, "init_lora_weights": "orthogonal", "target_modules": _QV}, 4),
    "mica": Case("lora", _llama, {"r": 4, "init_lora_weights": "mica", "target_modules": _QV}, 4),
    "gaussian": Case("lora", _llama, {"r": 4, "init_lora_weights": "gaussian", "target_modules": _QV}, 4),
    "rslora-patterns": Case(
        "rslora", _llama,
        {
            "r": 4, "use_rslora": True, "target_modules": _QV,
            "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3},
        },
        4,
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
        if any(part in name for part in ("lora_", "hada_", "lokr_", "vera_", "tokens_delta")):
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


@dataclass(frozen=True)
class Compared:
    """An adapter read by rora, beside what PEFT made of it.

    ``delta_error``: the largest difference of W + DeltaW over the largest entry of DeltaW. ``sigma_error``: the largest
    of a singular value that ``rora diagnose --base`` reports against the SVD of merged - base, over sigma_1. ``alone``:
    the same without ``--base``, None where the format needs one.
    """

    adapter: Adapter
    delta_error: float
    sigma_error: float
    alone: float | None


def compare(case: Case, directory: Path) -> Compared:
    """Save a base and an adapter in ``directory``; merge it by PEFT and by rora, and diagnose it."""
    torch.manual_seed(0)
    base, adapter_path = case.model().eval(), directory / "adapter"
    _save_base(base, directory / "base")
    _save_adapter(case, base, adapter_path)
    merged, original = _merged(base, adapter_path), base.state_dict()
    assert any(not torch.equal(merged[k], original[k]) for k in original), "PEFT's merge changed nothing"
    adapter = _read(adapter_path, directory / "base")
    ours = {k: v.clone() for k, v in original.items()}
    merge_into(adapter, ours)
    truth = {k: merged[k].double() - original[k].double() for k in original}
    delta_errors = [
        float((ours[k].double() - original[k].double() - truth[k]).abs().max() / truth[k].abs().max().clamp_min(1e-3))
        for k in original
    ]
    against_base, alone = (_reported(adapter_path, base) for base in (directory / "base", None))
    dense = [_dense(module, adapter, truth) for module in adapter.modules]
    return Compared(
        adapter,
        max(delta_errors),
        _sigma_error(against_base, dense),
        _sigma_error(alone, dense) if len(alone) == len(dense) else None,
    )


def _reported(adapter: Path, base: Path | None) -> list[tuple[float, ...]]:
    config = DiagnoseConfig(paths=(str(adapter),), base=None if base is None else str(base), top_k=4)
    return [m.singular_values for m in run(config).adapters[0].modules]


def _dense(module: AdapterModule, adapter: Adapter, truth: dict[str, Tensor]) -> Tensor:
    """The singular values of what PEFT added to one module's weight."""
    name = adapter.base.find(module.name, module.parameter) if adapter.base else None
    assert name is not None
    part = truth[name] if module.expert is None else truth[name][module.expert]
    return torch.linalg.svdvals(part.flatten(1))


def _sigma_error(reported: list[tuple[float, ...]], dense: list[Tensor]) -> float:
    errors = []
    for values, exact in zip(reported, dense, strict=True):
        padded = torch.zeros_like(exact)
        padded[: len(values)] = torch.tensor(values, dtype=torch.float64)[: len(exact)]
        errors.append(float((padded - exact).abs().max() / exact[0]))
    return max(errors)


@pytest.mark.parametrize("name", CASES)
def test_delta_weight_and_its_spectrum_are_what_peft_merges(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    compared = compare(case, tmp_path)
    adapter = compared.adapter
    assert [m.format for m in adapter.modules] == [case.kind] * case.modules
    assert compared.delta_error <= case.tolerance
    assert compared.sigma_error <= case.tolerance
    if case.needs_base or any(m.needs_base for m in adapter.modules):
        assert compared.alone is None
    else:
        assert compared.alone is not None and compared.alone <= case.tolerance
    in_file = set(load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    measured = {tensor for module in adapter.modules for tensor in module.tensors}
    assert measured | adapter.unmeasured.keys() | adapter.aside.keys() == in_file
    in_aside = {n for n in adapter.aside if not n.endswith("embed_tokens.base_layer.weight")}  # PEFT's copy of the base
    assert all("lora_" not in n or n.endswith(".bias") for n in in_aside)
    assert not adapter.unmeasured and not measured & adapter.aside.keys()
