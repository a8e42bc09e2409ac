from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rora_cli.results.accuracy import CleanAccuracy, Proportion
from rora_cli.training.adapters import attach, trained_heads
from rora_cli.training.rescaling import rescale_trained
from rora_cli.training.specs import AdapterSpec, RescalingSpec
from tests.conftest import build_tiny_classifier


def accuracy(right: int) -> CleanAccuracy:
    return CleanAccuracy(Proportion(right, 1000, 0.0, 1.0), {})


@pytest.mark.parametrize(("suspect", "strength"), [(None, 1.0), (915, 0.5), (960, 0.0)])
def test_what_training_and_pt_cost_does_not_add_up_beyond_the_limit(
    tmp_path: Path, suspect: int | None, strength: float
) -> None:
    """The trained model has 910 of 1,000, Eq. 12 in full 902, half of it 906; the limit is a point."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(build_tiny_classifier(tmp_path / "model"))
    _, layers = attach(model, AdapterSpec(rank=2))
    torch.manual_seed(0)
    for layer in layers:
        torch.nn.init.normal_(layer.lora_B, std=1e-4)
    measured = iter([910, 902, 906, *[908] * 9])
    outcome = rescale_trained(
        layers,
        RescalingSpec(pt=1.0, pt_cap=None),
        lambda: accuracy(next(measured)),
        accuracy(suspect) if suspect else None,
    )
    assert outcome.strength == strength


@pytest.mark.parametrize("guard", [True, False])
def test_a_guarded_pt_never_weakens_an_update(tmp_path: Path, guard: bool) -> None:
    """Updates far stronger than the weights: Eq. 12 as published shrinks them."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(build_tiny_classifier(tmp_path / "model"))
    _, layers = attach(model, AdapterSpec(rank=2))
    torch.manual_seed(0)
    for layer in layers:
        torch.nn.init.normal_(layer.lora_B, std=10.0)
    spec = RescalingSpec(pt=0.5, pt_cap=None, pt_guard=guard)
    outcome = rescale_trained(layers, spec, lambda: accuracy(900))
    assert all(factor == 1.0 if guard else factor < 0.5 for factor in outcome.factors.values())


def test_the_head_is_known_with_its_value_before_training(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(build_tiny_classifier(tmp_path / "model"))
    before = model.classifier.weight.detach().clone()
    adapted, _ = attach(model, AdapterSpec(rank=2))
    (weight, start), (_, _) = trained_heads(adapted)
    with torch.no_grad():
        weight += 1.0
    torch.testing.assert_close(start, before)
    assert weight.requires_grad and adapted.base_model.model.classifier.weight is weight
