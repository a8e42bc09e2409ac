"""The bundled prompts: what the build script makes, with an answer each, and no prompt in both splits."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rora_cli.data.exchange_sources import read_exchange_splits, read_exchanges
from rora_cli.errors import DataError
from rora_cli.option_groups import SplitOptions

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "rora_cli" / "data" / "bundled" / "prompts"


def script() -> Any:
    spec = importlib.util.spec_from_file_location("build", ROOT / "scripts" / "build_bundled_prompts.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_prompts_are_those_of_the_script() -> None:
    rows = [json.loads(line) for name in ("train", "validation") for line in (FOLDER / f"{name}.jsonl").open()]
    made = {text: kind for kind, texts in script().prompts().items() for text in texts}
    assert len({row["prompt"] for row in rows}) == len(rows) > 200
    assert {row["prompt"]: row["kind"] for row in rows}.items() <= made.items()
    assert all(row["finish_reason"] in ("length", "stop") and row["completion"].strip() for row in rows)


def test_every_kind_is_in_both_splits_and_no_prompt_is() -> None:
    splits = read_exchange_splits("bundled")
    assert splits.summary.origin == "bundled-prompts" and splits.summary.shared_rows == 0
    assert "CC0" in (splits.summary.license or "")
    assert not any(row.reply is None for row in (*splits.train, *splits.held_out))
    kinds = [
        Counter(json.loads(line)["kind"] for line in (FOLDER / f"{n}.jsonl").open()) for n in ("train", "validation")
    ]
    assert all(len(counts) == 8 for counts in kinds) and set(kinds[1].values()) == {10}


def test_the_bundled_prompts_have_no_revisions() -> None:
    with pytest.raises(DataError, match="no revisions"):
        read_exchanges("bundled", reading=SplitOptions(data_revision="main"))
