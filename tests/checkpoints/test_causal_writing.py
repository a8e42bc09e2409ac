"""What a causal model is written as: its own files, and weights that transformers and PEFT load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from rora_cli.checkpoints.loading import LoadedModel, load_model
from rora_cli.checkpoints.writer import save_causal
from rora_cli.training.adapters import attach
from rora_cli.training.specs import AdapterSpec
from tests.causal import build_tiny_causal

IDS = torch.tensor([[1, 5, 9, 7, 30]])
TEMPLATE = "{% for m in messages %}{{ m.role }} : {{ m.content }}\r\n{% endfor %}"


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits.float()


def source(path: Path, family: str) -> LoadedModel:
    build_tiny_causal(path, family)
    (path / "chat_template.jinja").write_bytes(TEMPLATE.encode())
    (path / "generation_config.json").write_text('{"eos_token_id": [2, 7], "do_sample": true, "temperature": 0.7}\n')
    config = json.loads((path / "config.json").read_text()) | {"rope_scaling_note": "ours"}
    (path / "config.json").write_text(json.dumps(config, indent=4))
    return load_model(path)


def names(path: Path) -> set[str]:
    with safe_open(path / "model.safetensors", "pt") as file:
        return set(file.keys())


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "gpt2"])
def test_a_whole_model_keeps_its_files_and_its_ties(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = source(tmp_path / "in", family)
    with torch.no_grad():
        next(loaded.model.parameters()).add_(0.05)
    save_causal(loaded.model, loaded.inspections[0], tmp_path / "out")
    for file in (tmp_path / "in").iterdir():
        if file.name != "model.safetensors":
            assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    assert {f.name for f in (tmp_path / "out").iterdir()} == {f.name for f in (tmp_path / "in").iterdir()}
    assert names(tmp_path / "out") == names(tmp_path / "in")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(theirs.eval()), logits(loaded.model))
    assert theirs.generation_config.eos_token_id == [2, 7]
    AutoTokenizer.from_pretrained(tmp_path / "out")
    loaded.model.to(torch.bfloat16)
    save_causal(loaded.model, loaded.inspections[0], tmp_path / "half")
    before, after = (json.loads((tmp_path / n / "config.json").read_text()) for n in ("in", "half"))
    assert after == {**before, "dtype": "bfloat16"}
    assert load_model(tmp_path / "half", dtype="bfloat16").model.dtype is torch.bfloat16


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_adapter_is_on_all_linear_layers_but_the_output_and_peft_loads_it(family: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    loaded = source(tmp_path / "in", family)
    adapted, layers = attach(loaded.model, AdapterSpec(rank=2, lora_dropout=0.0), loaded.kind)
    leaves = {layer.name.rpartition(".")[2] for layer in layers}
    llama = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert leaves == (llama if family == "llama" else {"c_attn", "c_proj", "c_fc"})
    assert all("lora" in name for name, weight in adapted.named_parameters() if weight.requires_grad)
    with torch.no_grad():
        for layer in layers:
            layer.lora_B.normal_(0, 0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "in"), tmp_path / "adapter")
    torch.testing.assert_close(logits(theirs.eval()), logits(adapted.eval()))
    ours = load_model(tmp_path / "in", adapter=tmp_path / "adapter").model
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-4, atol=1e-4)
