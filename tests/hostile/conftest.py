"""A sound base model, clean rows, and libraries that are imported before the sandbox forks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hostile import corpus


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base") / "model"
    corpus.valid_model(directory)
    return directory


@pytest.fixture(scope="session")
def clean_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    words, things = ("good", "great", "bad", "awful"), ("movie", "film")
    rows = [(f"the {thing} was {word}", int(word in words[:2])) for thing in things for word in words]
    lines = [{"text": text, "label": label} for text, label in rows * 3]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session", autouse=True)
def _warm(base_model: Path, clean_rows: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Do everything once outside the sandbox: what is watched is the reading, not the libraries' start."""
    import gc

    import torch

    from rora_cli.checkpoints.loading import load_classifier
    from tests.hostile.commands import REPORTS, arguments, run_cli_quietly

    torch.set_num_threads(1)
    adapter = tmp_path_factory.mktemp("warm") / "adapter"
    corpus.valid_adapter(adapter)
    load_classifier(base_model, adapter=adapter)
    for command in ("diagnose", "eval-asr", "rescale"):
        run_cli_quietly(*arguments(command, "adapter", adapter, base_model, clean_rows, adapter.parent))
    reports = [a for name in REPORTS for a in ("--format", f"{name}={adapter.parent / name}")]
    run_cli_quietly("check", str(base_model), "--format", "text", *reports)
    run_cli_quietly("hunt", str(adapter), "--clean", str(clean_rows))
    run_cli_quietly("purify", str(adapter), "--clean", str(clean_rows))
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page that it shares with this process
