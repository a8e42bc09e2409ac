"""Tiny adapters as PEFT saves them, with random weights, for the tests of several rooms."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def save_lora(base: nn.Module, directory: Path, *, seed: int = 1, size: float = 0.3, **options: Any) -> Path:
    """Save a LoRA on ``base`` whose factors are Gaussian of standard deviation ``size``."""
    import peft

    options = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"], "task_type": "SEQ_CLS", **options}
    model = peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(**options))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * size
    model.save_pretrained(directory)
    return directory


def edit_config(adapter: Path, **fields: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def edit_tensors(adapter: Path, **changes: torch.Tensor) -> None:
    """Replace or add tensors; names with dots are given by ``edit_tensors(path, **{"a.b": tensor})``."""
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: t.clone() for name, t in {**tensors, **changes}.items()}, path, metadata={"format": "pt"})


def tiny_gpt2(directory: Path) -> nn.Module:
    """A GPT-2 classifier (Conv1D layers) of two blocks, saved in ``directory``."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    torch.manual_seed(0)
    model = GPT2ForSequenceClassification(
        GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=32, vocab_size=60, num_labels=3, pad_token_id=0)
    )
    model.save_pretrained(directory)
    return model.eval()


def tiny_distilbert(directory: Path) -> nn.Module:
    """A DistilBERT classifier of four blocks, saved in ``directory``."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(0)
    config = DistilBertConfig(dim=32, hidden_dim=64, n_layers=4, n_heads=4, vocab_size=60, max_position_embeddings=32)
    model = DistilBertForSequenceClassification(config)
    model.save_pretrained(directory)
    return model.eval()
