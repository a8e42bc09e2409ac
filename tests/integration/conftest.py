"""A tiny classifier that has learned its task, and clean rows of that task on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import build_tiny_classifier, objective_of, tiny_rows, write_splits


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suspect: read it, never write to it."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from rora_cli.training.loop import finetune
    from rora_cli.training.run import make_accelerator
    from rora_cli.training.specs import TrainSpec

    directory = build_tiny_classifier(tmp_path_factory.mktemp("trained") / "suspect")
    model = AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    texts, labels = tiny_rows(256, seed=3)
    config = TrainSpec(epochs=6, batch_size=16, learning_rate=3e-3)
    finetune(model, objective_of(model, tokenizer, texts, labels), config, accelerator=make_accelerator(device="cpu"))
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_splits(tmp_path_factory.mktemp("clean"), train=(96, 5), validation=(60, 6))
