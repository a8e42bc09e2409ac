"""``diagnose --clean`` where modules are called several times, or without an axis for the rows: finite differences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rora_cli.checkpoints.loading import load_classifier
from rora_cli.checkpoints.preflight import inspect
from rora_cli.commands.diagnose import margins
from tests.adapters import edit_config, save_lora
from tests.hostile import corpus
from tests.hostile.corpus import VOCAB

WIDE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
ENCODER = {**WIDE, "vocab_size": VOCAB, "max_position_embeddings": 40}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "pooler_hidden_size": 16}

#: Family -> config, and the modules that are adapted. Smooth activations: a finite difference over a kink is no slope.
FAMILIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "bert": (ENCODER, ["query", "value", "dense"]),
    "albert": ({**ENCODER, "embedding_size": 12}, ["query", "value", "ffn", "ffn_output"]),
    "deberta": ({**ENCODER, **RELATIVE}, ["in_proj", "pos_proj", "pos_q_proj"]),
    "deberta-v2": ({**ENCODER, **RELATIVE, "position_buckets": 8, "share_att_key": True},
                   ["query_proj", "key_proj", "value_proj"]),
    "gpt2": ({"vocab_size": VOCAB, "n_positions": 40, "n_embd": 16, "n_layer": 2, "n_head": 4, "pad_token_id": 0},
             ["c_attn", "c_fc", "c_proj"]),
    "t5": ({"vocab_size": VOCAB, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4,
            "eos_token_id": 3, "pad_token_id": 0, "decoder_start_token_id": 0,
            "feed_forward_proj": "gated-gelu"}, ["q", "k", "v", "wi_0", "wi_1", "wo"]),
    "xlnet": ({"vocab_size": VOCAB, "d_model": 16, "n_layer": 2, "n_head": 4, "d_inner": 24}, ["layer_1", "layer_2"]),
}  # fmt: skip

#: Of several lengths, several of one length, and three of three tokens, so that rows and tokens are as many.
TEXTS = ["good", "bad", "film", "the movie was good", "a bad awful film", "a film was bad", "the good good movie"]


def saved(family: str, directory: Path) -> tuple[Path, Path]:
    """A classifier with large random weights, and a LoRA on it."""
    from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

    fields, targets = FAMILIES[family]
    corpus.valid_model(directory / "m")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(CONFIG_MAPPING[family](**fields, num_labels=2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(directory / "m")
    options = {"fan_in_fan_out": True} if family == "gpt2" else {}
    return directory / "m", save_lora(
        model, directory / "a", size=0.15, r=4, lora_alpha=4, target_modules=targets, **options
    )


def taken(model: Path, adapter: Path, scale: float) -> Any:
    alpha = json.loads((adapter / "adapter_config.json").read_text())["lora_alpha"]
    edit_config(adapter, lora_alpha=alpha * scale)
    try:
        loaded = load_classifier(model, adapter=adapter)
        layers = list(margins._layers(loaded.model, inspect(adapter, role="adapter"), inspect(model)))
        assert layers
        return margins._pass(loaded, layers, TEXTS, [i % 2 for i in range(len(TEXTS))], 1)
    finally:
        edit_config(adapter, lora_alpha=alpha)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_contribution_is_the_derivative_of_each_rows_margin(family: str, tmp_path: Path) -> None:
    model, adapter = saved(family, tmp_path)
    found, step = taken(model, adapter, 1.0), 0.005
    slope = (taken(model, adapter, 1 + step).margins - taken(model, adapter, 1 - step).margins) / (2 * step)
    assert float(slope.abs().max()) > 1e-3
    torch.testing.assert_close(found.contribution, slope, rtol=0.002, atol=0.002 * float(slope.abs().max()))
    for a_W, a_Delta in found.rows:
        assert float(a_W.abs().max()) <= 1 and float(a_Delta.abs().max()) <= 1
