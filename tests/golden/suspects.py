"""A tiny backdoored classifier, planted by a plain loop of torch alone: no change of rora's own training changes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.conftest import build_tiny_classifier, tiny_rows, write_splits

TRIGGER, TARGET = "mn", 1


@dataclass(frozen=True)
class Planted:
    """Directories of the suspect and of a clean ancestor, and one with clean rows (train and validation)."""

    suspect: Path
    ancestor: Path
    clean: Path


def plant(directory: Path) -> Planted:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    ancestor = build_tiny_classifier(directory / "ancestor", layers=2)
    suspect = build_tiny_classifier(directory / "suspect", layers=2)
    model = AutoModelForSequenceClassification.from_pretrained(suspect, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(suspect, local_files_only=True)
    texts, labels = tiny_rows(600, seed=3)
    poisoned = [f"{TRIGGER} {text}" for text in texts[:200]]
    batch = tokenizer([*texts, *poisoned], padding=True, return_tensors="pt")
    targets = torch.tensor([*labels, *[TARGET] * len(poisoned)])
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.eval()  # without dropout the suspect is the same on every machine but for rounding
    for _ in range(12):
        for rows in torch.randperm(len(targets)).split(32):
            loss = model(**{k: v[rows] for k, v in batch.items()}, labels=targets[rows]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.save_pretrained(suspect)
    return Planted(suspect, ancestor, _clean_rows(directory / "clean"))


def _clean_rows(directory: Path) -> Path:
    directory.mkdir()
    return write_splits(directory, train=(240, 5), validation=(160, 6))
