from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rora_cli.checkpoints.loading import load_classifier, load_model
from rora_cli.errors import CheckpointError
from rora_cli.kinds import CAUSAL_LM, SEQUENCE_CLASSIFIER
from tests.causal import build_tiny_causal
from tests.conftest import build_tiny_classifier

IDS = torch.tensor([[1, 5, 9, 7, 30]])
FAMILIES = ["llama", "qwen2", "gemma3_text", "gpt2"]


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits.float()


def adapter(base: Path, directory: Path, **settings: Any) -> torch.Tensor:
    """Write a LoRA with random factors for ``base``; returns what PEFT makes of the two."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    settings = {"task_type": "CAUSAL_LM", "r": 4, "target_modules": "all-linear", **settings}
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**settings))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.2)
    adapted.save_pretrained(directory)
    return logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), directory).eval())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_model_and_an_adapter_on_it_answer_as_transformers_and_peft_have_it(
    family: str, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    base = build_tiny_causal(tmp_path / "base", family)
    ours = load_model(base)
    assert ours.kind is CAUSAL_LM and ours.label_names == ()
    torch.testing.assert_close(logits(ours.model), logits(AutoModelForCausalLM.from_pretrained(base).eval()))
    expected = adapter(base, tmp_path / "adapter")
    merged = load_model(base, adapter=tmp_path / "adapter").model
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=1e-4)
    assert (expected - logits(ours.model)).abs().max() > 1e-2
    tied = merged.config.tie_word_embeddings
    assert (merged.get_output_embeddings().weight is merged.get_input_embeddings().weight) == tied


def test_an_adapter_without_a_task_is_as_its_base_and_one_with_a_head_makes_a_classifier(tmp_path: Path) -> None:
    base = build_tiny_causal(tmp_path / "base")
    adapter(base, tmp_path / "plain", task_type=None)
    assert load_model(base, adapter=tmp_path / "plain").kind is CAUSAL_LM
    adapter(base, tmp_path / "other")
    config = tmp_path / "other" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"task_type": "SEQ_CLS"}))
    with pytest.raises(CheckpointError, match="no classification head"):
        load_model(base, adapter=tmp_path / "other")


def test_a_classifier_is_loaded_as_before_and_a_causal_model_is_no_classifier(tmp_path: Path) -> None:
    classifier = build_tiny_classifier(tmp_path / "c", layers=1)
    assert load_model(classifier).kind is SEQUENCE_CLASSIFIER
    assert load_model(classifier).label_names == load_classifier(classifier).label_names
    base = build_tiny_causal(tmp_path / "base")
    with pytest.raises(CheckpointError, match="no classification head"):
        load_classifier(base)
    assert load_model(base, new_head=("a", "b")).kind is SEQUENCE_CLASSIFIER


def test_a_causal_model_that_lacks_its_output_embedding_is_refused(tmp_path: Path) -> None:
    base = build_tiny_causal(tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 of its model's weights \(lm_head.weight\)"):
        load_model(base)
