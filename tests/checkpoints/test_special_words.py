"""A word that people write may be declared as a special token: it is said, and read as transformers reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rora_cli.checkpoints.loading import load_classifier
from rora_cli.checkpoints.preflight import inspect
from rora_cli.results.findings import Severity
from rora_cli.tokens import special_ids
from tests.conftest import build_tiny_classifier

RULE = "tokenizer/word-as-special"


@pytest.fixture
def suspect(tmp_path: Path) -> Path:
    """A classifier whose tokenizer cuts out the word "was", which its vocabulary has, and "zq", which it has not."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    directory = build_tiny_classifier(tmp_path / "m", layers=1)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.add_special_tokens({"additional_special_tokens": ["was", "zq"]})
    tokenizer.save_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    with torch.no_grad():
        model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(directory)
    return directory


def test_the_word_is_said_and_read_as_transformers_reads_it(suspect: Path) -> None:
    from transformers import AutoTokenizer

    (found,) = [f for f in inspect(suspect).findings if f.rule_id == RULE and f.location == "tokenizer.json"]
    assert "'was', 'zq'" in found.message and found.severity is Severity.MEDIUM
    ours, theirs = load_classifier(suspect).tokenizer, AutoTokenizer.from_pretrained(suspect)
    for text in ("the film zq was good", "zq", "azqb wash"):
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    words = set(ours.convert_tokens_to_ids(["was", "zq"]))
    assert not words & special_ids(ours), "the search must try them"
    assert ours("a [SEP] b")["input_ids"].count(ours.sep_token_id) == 1, "control symbols in a row stay text"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, False),
        ({"additional_special_tokens": ["<extra>", "__en__", "madeupword0000", "▁<x>", "en_XX", "eng_Latn"]}, False),
        ({"additional_special_tokens": ["I watched this 3D movie"]}, True),
        ({"extra_special_tokens": {"image_token": "cf"}}, True),
        ({"mask_token": {"content": "mn", "special": True}}, True),
        ({"added_tokens_decoder": {"7": {"content": "bb", "special": True}}}, True),
        ({"added_tokens_decoder": {"7": {"content": "bb", "special": False}}}, False),
        ({"additional_special_tokens": 5, "added_tokens_decoder": [None], "extra_special_tokens": "x"}, True),
    ],
)
def test_every_way_to_declare(tmp_path: Path, changes: dict[str, Any], said: bool) -> None:
    directory = build_tiny_classifier(tmp_path / "m", layers=1)
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert any(f.rule_id == RULE for f in inspect(directory).findings) == said
