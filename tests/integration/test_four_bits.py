"""Bases in 4 bits: what cannot be had is refused in a sentence, and an update is merged into the original weights."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import rora_cli
from rora_cli.checkpoints import four_bits
from rora_cli.defences.config import PurifyConfig
from rora_cli.errors import CheckpointError, UsageError
from tests.conftest import build_tiny_classifier, tiny_rows

needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recipe": "full"}, "the recipe full changes every weight"),
        ({"ancestor": "clean", "recipe": "mix"}, "--ancestor changes every weight"),
        ({"recipe": "lora", "variant": "dora"}, "variants lora and rslora, not with dora"),
        ({"recipe": "lora", "num_processes": 2}, "works in one process"),
    ],
)
def test_what_does_not_go_with_4_bits_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        PurifyConfig(model="m", clean="c", load_in_4bit=True, **options)


def test_a_missing_library_several_processes_and_an_adapter_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(four_bits, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'rora-cli\[4bit\]'"):
        four_bits.require()
    monkeypatch.setattr(four_bits, "find_spec", lambda name: name)
    with pytest.raises(UsageError, match="merge it first"):
        four_bits.require("adapter")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="in one process"):
        four_bits.require()


def test_a_checkpoint_that_is_stored_in_4_bits_is_refused(tmp_path: Path) -> None:
    from rora_cli.checkpoints.loading import load_classifier

    model = build_tiny_classifier(tmp_path / "m")
    config = json.loads((model / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="is quantised, so it cannot be run or merged exactly; use the original"):
        load_classifier(model)


@needs_bitsandbytes
def test_an_update_trained_beside_4_bits_is_merged_into_the_original(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    suspect, out = build_tiny_classifier(tmp_path / "m", width=64), tmp_path / "out"
    texts, labels = tiny_rows(64)
    rora_cli.purify(
        suspect, clean=list(zip(texts, labels, strict=True)), output=str(out), recipe="lora", epochs=2, device="cpu",
        load_in_4bit=True, rank=4,
    )  # fmt: skip
    written = AutoModelForSequenceClassification.from_pretrained(out, local_files_only=True)
    base = AutoModelForSequenceClassification.from_pretrained(suspect, local_files_only=True)
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    adapter = PeftModel.from_pretrained(base, str(out / "adapter"))
    expected = adapter.merge_and_unload().state_dict()
    changed = set()
    for name, weight in written.state_dict().items():
        torch.testing.assert_close(weight, expected[name], atol=1e-6, rtol=1e-5, msg=name)
        changed |= set() if torch.equal(weight, before[name]) else {name.split(".")[-2]}
    assert changed == {"query", "value", "classifier"}
