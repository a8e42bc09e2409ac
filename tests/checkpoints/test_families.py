"""The allow-listed config loses nothing that a model needs: every family as transformers itself loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rora_cli.checkpoints.loading import load_classifier
from tests.hostile import corpus
from tests.hostile.corpus import VOCAB

WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
ENCODER = {**WIDE, "vocab_size": VOCAB, "max_position_embeddings": 40}
DECODER = {**ENCODER, "num_key_value_heads": 2, "pad_token_id": 0}

#: Family -> config fields, with values that differ from the defaults wherever a lost field would show.
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {**ENCODER, "hidden_act": "relu", "layer_norm_eps": 1e-3},
    "roberta": {**ENCODER, "pad_token_id": 1},
    "xlm-roberta": {**ENCODER, "pad_token_id": 1},
    "electra": {**ENCODER, "embedding_size": 12},
    "albert": {**ENCODER, "embedding_size": 12, "num_hidden_groups": 1},
    "distilbert": {"vocab_size": VOCAB, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24,
                   "max_position_embeddings": 40, "activation": "relu"},
    "mpnet": {**ENCODER, "pad_token_id": 1},
    "deberta-v2": {**ENCODER, "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"],
                   "norm_rel_ebd": "layer_norm", "share_att_key": True, "pooler_hidden_size": 16},
    "modernbert": {**ENCODER, "global_attn_every_n_layers": 2, "local_attention": 8, "pad_token_id": 0},
    "gpt2": {"vocab_size": VOCAB, "n_positions": 40, "n_embd": 16, "n_layer": 2, "n_head": 4, "pad_token_id": 0,
             "activation_function": "relu"},
    "llama": {**DECODER, "rope_theta": 500.0, "rms_norm_eps": 1e-3, "attention_bias": True},
    "qwen2": {**DECODER, "rope_theta": 500.0},
    "gemma": {**DECODER, "head_dim": 8},
    "mistral": {**DECODER, "sliding_window": 8},
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_family_loads_as_transformers_loads_it(family: str, tmp_path: Path) -> None:
    from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

    corpus.valid_model(tmp_path / "m")
    torch.manual_seed(0)
    labels = {0: "bad", 1: "fair", 2: "good"}
    config = CONFIG_MAPPING[family](**FAMILIES[family], id2label=labels, label2id={n: i for i, n in labels.items()})
    made = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    made.save_pretrained(tmp_path / "m")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "m", local_files_only=True).eval()

    ours = load_classifier(tmp_path / "m")
    assert ours.label_names == ("bad", "fair", "good")
    inputs = ours.tokenizer(["the movie was good", "a bad awful awful film"], padding=True, return_tensors="pt")
    inputs = {name: value for name, value in inputs.items() if name != "token_type_ids"}
    with torch.no_grad():
        expected, found = theirs(**inputs).logits, ours.model(**inputs).logits
    assert expected.std() > 1e-4
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    ignored = {"_name_or_path", "name_or_path", "transformers_version", "architectures", "dtype"}
    mine, other = ours.model.config.to_dict(), theirs.config.to_dict()
    assert {k: v for k, v in mine.items() if k not in ignored} == {k: v for k, v in other.items() if k not in ignored}
