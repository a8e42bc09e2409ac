from __future__ import annotations

from typing import Any

import pytest
import torch

from rora_cli.errors import UsageError
from rora_cli.training.adapters import attach, select_layers, to_plain_lora
from rora_cli.training.dropout import drop_out
from rora_cli.training.regularisers import SubspacePenalty, clean_strengthened
from rora_cli.training.specs import VARIANTS, AdapterSpec, RegulariserSpec


def _adapted(tiny_model: Any, variant: str, **options: Any) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    model, tokenizer = tiny_model
    batch = tokenizer(["the film was good", "a dull plot"], padding=True, return_tensors="pt")
    adapted, layers = attach(model, AdapterSpec(variant=variant, rank=4, lora_dropout=0.0, **options))
    _disturb(layers)
    return adapted.eval(), layers, dict(batch)


def _disturb(layers: Any) -> None:
    """Move every factor, so that the update is not zero (or, for PiSSA and OLoRA, not the initial one)."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in layers:
            for factor in (layer.lora_A, layer.lora_B):
                factor += 0.05 * torch.randn(factor.shape, generator=generator)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cl_acts_in_training_only_and_on_the_frozen_branch_only(tiny_model: Any, variant: str) -> None:
    model, layers, _ = _adapted(tiny_model, variant)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    layer = layers[0]
    x = torch.randn(5, layer.base_weight().shape[1])
    plain = layer.module(x)
    bias = layer.module.get_base_layer().bias
    path = next(name for name, module in model.named_modules() if module is layer.module)
    with clean_strengthened(model, layers, 0.4):
        module = model.get_submodule(path)
        assert torch.equal(module(x), plain), "eval mode must not drop"
        module.train()
        torch.manual_seed(0)
        dropped = module(x)
        torch.manual_seed(0)
        mask = drop_out(torch.ones_like(dropped), 0.4)
        frozen = x @ layer.base_weight().T
        if variant == "dora":
            frozen = frozen * layer._dora_scale()
        frozen = frozen + bias
        torch.testing.assert_close(dropped, plain - frozen + mask * frozen, rtol=1e-4, atol=1e-5)
    layer.module.train()
    torch.testing.assert_close(layer.module(x), plain)


def test_penalty_is_equations_10_and_11(tiny_model: Any) -> None:
    _, layers, _ = _adapted(tiny_model, "lora", target_modules=("query", "dense"))
    spec = RegulariserSpec(tr=5.0, tr_k=6)
    expected = 0.0
    for layer in layers:
        u, _, vt = torch.linalg.svd(layer.base_weight().double())
        expected += float((u[:, :6].T @ layer.lora_B.detach().double()).square().sum())
        expected += float((layer.lora_A.detach().double() @ vt[:6].T).square().sum())
    mean = SubspacePenalty(layers, spec)()
    assert mean.item() == pytest.approx(5.0 * expected / len(layers), rel=1e-4)
    total = SubspacePenalty(layers, RegulariserSpec(tr=5.0, tr_k=6, tr_reduction="sum"))()
    assert total.item() == pytest.approx(5.0 * expected, rel=1e-4)
    mean.backward()
    assert all(layer.lora_A.grad is not None and layer.lora_B.grad is not None for layer in layers)


def test_penalty_refuses_an_untruncated_subspace_and_splitting_variants(tiny_model: Any) -> None:
    _, layers, _ = _adapted(tiny_model, "lora")
    with pytest.raises(UsageError, match="not below 32"):
        SubspacePenalty(layers, RegulariserSpec(tr=1.0, tr_k=32))


@pytest.mark.parametrize("variant", ["pissa", "olora"])
def test_penalty_refuses_factors_that_start_inside_the_subspace(tiny_model: Any, variant: str) -> None:
    _, layers, _ = _adapted(tiny_model, variant)
    with pytest.raises(UsageError, match=variant):
        SubspacePenalty(layers, RegulariserSpec(tr=1.0, tr_k=4))


@pytest.mark.parametrize("variant", ["pissa", "olora"])
def test_splitting_variants_become_plain_lora_on_the_suspects_own_weight(tiny_model: Any, variant: str) -> None:
    own = {name: p.detach().clone() for name, p in tiny_model[0].named_parameters()}
    model, layers, batch = _adapted(tiny_model, variant)
    before = model(**batch).logits
    to_plain_lora(model, layers)
    torch.testing.assert_close(model(**batch).logits, before, rtol=1e-4, atol=1e-5)
    for layer in layers:
        assert torch.equal(layer.base_weight(), own[f"{layer.name}.weight"])
        assert layer.lora_A.shape[0] == 8
    config = model.peft_config["default"]
    assert (config.r, config.init_lora_weights) == (8, True)


def test_the_wrong_frozen_branch_would_be_noticed(tiny_model: Any) -> None:
    """PiSSA's residual weight is not the suspect's: the two frozen branches differ."""
    _, layers, _ = _adapted(tiny_model, "pissa")
    layer = layers[0]
    x = torch.randn(3, 32)
    residual = layer.module.get_base_layer()(x)
    assert not torch.allclose(layer.frozen_output(residual, x), residual, atol=1e-3)


def test_layer_selection(tiny_model: Any) -> None:
    _, layers, _ = _adapted(tiny_model, "lora")
    assert {layer.name.split(".")[3] for layer in select_layers(layers, "top3")} == {"1", "2", "3"}
    assert len(select_layers(layers, "all")) == len(layers) == 8
    assert {layer.name.split(".")[3] for layer in select_layers(layers, "0,2-3")} == {"0", "2", "3"}
    for wrong in ("7", "last", "1-"):
        with pytest.raises(UsageError):
            select_layers(layers, wrong)


@pytest.mark.parametrize(
    "options", [{"cl": 1.0}, {"cl": -0.1}, {"tr": float("nan")}, {"tr_k": 0}, {"tr_reduction": "max"}]
)
def test_bad_strengths_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RegulariserSpec(**options)
