"""In which type and where a model is held, and that what is trained is float32 whatever that is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rora_cli.checkpoints.loading import load_classifier
from rora_cli.training.adapters import attach, head_weights
from rora_cli.training.loop import finetune
from rora_cli.training.specs import VARIANTS, AdapterSpec, TrainSpec
from tests.conftest import objective_of, tiny_rows


@pytest.fixture(scope="module")
def half(tiny_classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny classifier, stored in bfloat16."""
    directory = tmp_path_factory.mktemp("half")
    loaded = load_classifier(tiny_classifier)
    loaded.model.bfloat16().save_pretrained(directory)
    loaded.tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize(
    ("asked", "device", "held"),
    [
        ("auto", "cpu", torch.bfloat16),
        (None, "cpu", torch.float32),
        (None, "meta", torch.bfloat16),
        ("float16", "meta", torch.float16),
    ],
)
def test_a_model_is_held_as_asked_else_as_stored_unless_on_a_cpu(
    half: Path, asked: str | None, device: str, held: torch.dtype
) -> None:
    model = load_classifier(half, dtype=asked, device=device).model
    assert {weight.dtype for weight in model.parameters()} == {held}
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {device}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_update_of_a_model_in_sixteen_bits_is_float32(half: Path, variant: str) -> None:
    loaded = load_classifier(half, dtype="auto")
    model, layers = attach(loaded.model, AdapterSpec(rank=2, variant=variant))
    before = {name: weight.detach().clone() for name, weight in head_weights(model).items()}
    texts, labels = tiny_rows(16)
    finetune(model, objective_of(model, loaded.tokenizer, texts, labels), TrainSpec(epochs=1, batch_size=8))
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    assert all(layer.module.get_base_layer().weight.dtype == torch.bfloat16 for layer in layers)
    assert all(layer.lora_A.dtype == layer.lora_B.dtype == torch.float32 for layer in layers)
    assert all(not torch.equal(weight, before[name]) for name, weight in head_weights(model).items())
