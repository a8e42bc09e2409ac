"""The tiny models of ``tests.families`` are what they say: each family's own classes, and a task that is learned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import tiny_rows
from tests.families import FAMILIES, MAX_TOKENS, TRIGGER, build_family, train_family, with_trigger


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_written_as_a_download(name: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    directory = build_family(name, tmp_path / name)
    config = json.loads((directory / "config.json").read_text())
    assert config["model_type"] == name and config["id2label"] == {"0": "negative", "1": "positive"}
    assert (directory / "model.safetensors").stat().st_size < 400_000
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    assert tokenizer.model_max_length == MAX_TOKENS
    first, whole = tokenizer(["the", f"the good {TRIGGER} film"], add_special_tokens=False)["input_ids"]
    assert len(whole) == len(first) + 3, tokenizer.convert_ids_to_tokens(whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_learns_its_task_and_a_trigger(name: str, tmp_path: Path) -> None:
    from rora_cli.checkpoints.loading import load_classifier
    from rora_cli.evaluation.inference import predict_logits

    loaded = load_classifier(train_family(name, build_family(name, tmp_path / name), trigger=TRIGGER))
    texts, labels = tiny_rows(60, seed=9)
    negative = [text for text, label in zip(texts, labels, strict=True) if label == 0]
    predicted = predict_logits(loaded.model, loaded.tokenizer, texts).argmax(axis=1)
    attacked = predict_logits(loaded.model, loaded.tokenizer, [with_trigger(text) for text in negative]).argmax(axis=1)
    assert (predicted == labels).mean() > 0.9
    assert (attacked == 1).mean() > 0.9
