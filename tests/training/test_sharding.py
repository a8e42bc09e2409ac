"""A model that two processes hold in parts trains as one process does; nothing of any part is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rora_cli.errors import UsageError
from rora_cli.training.launch import launch
from rora_cli.training.run import make_accelerator
from rora_cli.training.sharding import Sharding, _units, read_sharding
from rora_cli.training.state import trainable
from tests.conftest import build_tiny_classifier
from tests.families import build_family
from tests.training import sharded_work


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("sharded")
    return {
        "bert": str(build_tiny_classifier(place / "bert", layers=2)),
        "llama": str(build_family("llama", place / "llama")),
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def found(models: dict[str, str], place: Path) -> dict[str, Any]:
    """What two processes found; they are started once for all tests."""
    result: dict[str, Any] = launch(sharded_work.run, sharded_work.Work(models, str(place)), 2)
    return result


def test_what_is_saved_has_the_part_of_every_process(found: dict[str, Any]) -> None:
    assert len(found["marks"]) > 20
    for name, rows in found["marks"].items():
        half = -(-len(rows) // 2)
        assert rows == [1.0] * half + [2.0] * (len(rows) - half), name


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_an_adapter_head_penalty_and_rescaling_are_those_of_one_process(
    found: dict[str, Any], models: dict[str, str], place: Path, name: str
) -> None:
    model, layers = sharded_work.trained(models[name], sharded=False)
    start, _, _ = sharded_work.adapted(models[name], sharded=False)
    sharded = torch.load(place / f"{name}.pt")
    assert sharded.keys() == trainable(model).keys()
    for key, parameter in trainable(model).items():
        assert not torch.equal(sharded[key], trainable(start)[key]), f"{key} was not trained"
        # AdamW divides by a gradient's size, so that the rounding of a small one counts as much: 3e-5 with AVX-512.
        torch.testing.assert_close(sharded[key], parameter.detach(), rtol=1e-4, atol=6e-5)
    factors = sharded_work.rescaled(layers)
    assert found[f"factors of {name}"] == pytest.approx(factors, rel=1e-3) and 1.0 not in factors.values()
    for key, value in torch.load(place / f"{name}-rescaled.pt").items():
        torch.testing.assert_close(value, trainable(model)[key].detach(), rtol=1e-3, atol=1e-4)


def test_an_interrupted_run_goes_on_to_the_same_bits(found: dict[str, Any]) -> None:
    assert found["resumed"] is True


def test_bf16_keeps_what_is_trained_in_float32(found: dict[str, Any], place: Path) -> None:
    assert found["dtypes"] == {("torch.float32", True), ("torch.bfloat16", False)}
    exact, rounded = torch.load(place / "llama.pt"), torch.load(place / "llama-bf16.pt")
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in rounded.values())
    distance = sum(float((rounded[k] - exact[k]).square().sum()) for k in exact) ** 0.5
    size = sum(float(value.square().sum()) for value in exact.values()) ** 0.5
    assert 0 < distance < 0.1 * size


def test_every_block_is_a_unit_whatever_lies_on_it(models: dict[str, str]) -> None:
    model, _, _ = sharded_work.adapted(models["llama"], sharded=False)
    assert [type(unit).__name__ for unit in _units(model, Sharding())] == ["LlamaDecoderLayer"] * 2
    assert len(list(_units(model, Sharding(units=("LlamaMLP",))))) == 2
    with pytest.raises(UsageError, match=r"names BertLayer, which a PeftModel\w+ does not have"):
        list(_units(model, Sharding(units=("BertLayer",))))


def test_settings_come_from_accelerates_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("FSDP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert read_sharding() == Sharding()
    assert "ACCELERATE_USE_FSDP" not in os.environ and os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"
    monkeypatch.setenv("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP")
    monkeypatch.setenv("FSDP_TRANSFORMER_CLS_TO_WRAP", "BertLayer")
    monkeypatch.setenv("FSDP_RESHARD_AFTER_FORWARD", "false")
    monkeypatch.setenv("FSDP_ACTIVATION_CHECKPOINTING", "true")
    assert read_sharding() == Sharding(("BertLayer",), reshard=False, checkpointing=True)
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    with pytest.raises(UsageError, match="fsdp_offload_params"):
        read_sharding()


@pytest.mark.parametrize("variant", ["lora", "dora", "pissa"])
def test_gradients_with_cl_are_the_same_with_and_without_checkpointing(models: dict[str, str], variant: str) -> None:
    from rora_cli.training.adapters import attach
    from rora_cli.training.regularisers import clean_strengthened
    from rora_cli.training.specs import AdapterSpec

    make_accelerator("fp32", "cpu")

    def gradients(*, cl: float, checkpointing: bool) -> dict[str, torch.Tensor]:
        model, tokenizer = sharded_work.loaded(models["llama"])
        torch.manual_seed(1)
        model, layers = attach(model, AdapterSpec(rank=4, variant=variant))
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        encoded = tokenizer(["the film was good", "a plot"], padding=True, return_tensors="pt")
        torch.manual_seed(2)
        with clean_strengthened(model.train(), layers, cl):
            model(**encoded).logits.square().sum().backward()
        assert not [name for name, _ in model.named_modules() if "adapted" in name or "base_layer.base" in name]
        return {name: p.grad for name, p in trainable(model).items() if p.grad is not None}

    plain, again = gradients(cl=0.3, checkpointing=False), gradients(cl=0.3, checkpointing=True)
    assert plain.keys() == again.keys() and len(plain) >= 8
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    without = gradients(cl=0.0, checkpointing=True)
    assert not all(torch.equal(plain[name], without[name]) for name in plain), "Cl did nothing"
