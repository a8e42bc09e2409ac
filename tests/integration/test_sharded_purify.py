"""``purify --shard``: two processes hold a model in parts, and what they write is what one process writes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import rora_cli
from rora_cli.errors import UsageError
from tests.families import build_family

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="starts processes with gloo")

EXACT: dict[str, Any] = {"device": "cpu", "epochs": 1, "batch_size": 10, "lora_dropout": 0.0, "cl": 0.0}


def _without_dropout(directory: Path) -> Path:
    import json

    config = json.loads((directory / "config.json").read_text())
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "attention_dropout")
    (directory / "config.json").write_text(json.dumps({**config, **dict.fromkeys(names, 0.0)}))
    return directory


def _compare(one: Path, two: Path) -> None:
    from safetensors.torch import load_file

    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        alone, sharded = load_file(one / name), load_file(two / name)
        assert alone.keys() == sharded.keys()
        for key, value in alone.items():
            torch.testing.assert_close(sharded[key], value, rtol=1e-4, atol=2e-5, msg=lambda m, key=key: f"{key}: {m}")


@linux
def test_a_sharded_decoder_is_written_as_one_process_writes_it(clean: Path, tmp_path: Path) -> None:
    suspect = _without_dropout(build_family("llama", tmp_path / "suspect"))
    options = {
        **EXACT,
        "recipe": "paper",
        "tr_k": 8,
        "target_modules": ("all-linear",),
        "clean": clean,
        "keep_failed": True,
    }
    rora_cli.purify(suspect, output=str(tmp_path / "one"), **options)
    result = rora_cli.purify(suspect, output=str(tmp_path / "two"), num_processes=2, shard=True, **options)
    _compare(tmp_path / "one", tmp_path / "two")
    assert result.logit_difference["merged"] < 1e-4 and rora_cli.verify(tmp_path / "two").findings == ()


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {
            "recipe": "default",
            "escalate": "none",
            "learning_rate": 5e-4,
            "max_rounds": 1,
            "search_budget": "fast",
            "reference": "bag-of-words",
        },
        {"recipe": "full"},
        {"recipe": "lora", "precision": "bf16", "gradient_checkpointing": True},
    ],
    ids=lambda options: options["recipe"],
)
def test_recipes_on_a_sharded_encoder(trained: Path, clean: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    from shutil import copytree

    suspect = _without_dropout(Path(copytree(trained, tmp_path / "suspect")))
    options = {**EXACT, "clean": clean, "seed": 1, **options}
    one = rora_cli.purify(suspect, output=str(tmp_path / "one"), **options)
    two = rora_cli.purify(suspect, output=str(tmp_path / "two"), num_processes=2, shard=True, **options)
    stages = [stage.name for stage in one.stages if stage.name != "power"]  # which is not measured of a sharded model
    assert (one.verdict, stages) == (two.verdict, [stage.name for stage in two.stages])
    if options["recipe"] == "default":
        _compare(tmp_path / "one", tmp_path / "two")
    assert two.accuracy_after.overall.value == pytest.approx(one.accuracy_after.overall.value, abs=0.05)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "this is one; add --num-processes 2 or more"),
        ({"num_processes": 2, "recipe": "default"}, "add --escalate none"),
        ({"num_processes": 2, "recipe": "crow"}, "default, full, lora, paper, and crow changes"),
        ({"num_processes": 2, "variant": "pissa"}, "lora, rslora, and pissa needs"),
        ({"num_processes": 2, "precision": "fp16"}, "use --precision bf16"),
    ],
)
def test_what_a_sharded_model_cannot_do_is_refused_before_it_is_read(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        rora_cli.purify("nowhere", clean="nothing", **{"recipe": "lora", "shard": True, **options})


def test_a_launcher_that_asks_for_fsdp_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(UsageError, match="add --num-processes 2"):
        rora_cli.purify("nowhere", clean="nothing", recipe="lora")
    with pytest.raises(UsageError, match="only `rora purify` divides"):
        rora_cli.hunt("nowhere", clean="nothing")
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(UsageError, match="FSDP in version 1"):
        rora_cli.purify("nowhere", clean="nothing", recipe="lora")
