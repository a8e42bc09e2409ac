"""A tiny suspect with a backdoor that works, built by ``rora poison`` itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import build_tiny_classifier, tiny_rows


@dataclass(frozen=True)
class Suspect:
    model: Path
    data: Path
    clean: Path


def write_rows(path: Path, texts: list[str], labels: list[int]) -> None:
    names = ["negative", "positive"]
    lines = (json.dumps({"text": t, "label": names[y]}) for t, y in zip(texts, labels, strict=True))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rows")
    write_rows(directory / "train.jsonl", *tiny_rows(1200))
    write_rows(directory / "validation.jsonl", *tiny_rows(200, seed=1))
    return directory


@pytest.fixture(scope="session")
def suspect(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Suspect:
    from rora_cli.commands.poison import PoisonConfig, run

    place = tmp_path_factory.mktemp("suspect")
    base = build_tiny_classifier(place / "base", layers=2)
    options = {"epochs": 4, "learning_rate": 2e-3, "clean_rows": 400, "clean_out": str(place / "clean.jsonl")}
    run(
        PoisonConfig(
            model=str(base), data=str(tiny_data), output=str(place / "suspect"), target_label="positive", **options
        )
    )
    return Suspect(place / "suspect", tiny_data, place / "clean.jsonl")
