"""``purify --shard``: two processes hold a model in parts, and what they write is what one process writes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import rora_cli
from rora_cli.defences.config import PurifyConfig
from rora_cli.defences.replies.loop import check
from rora_cli.errors import UsageError
from rora_cli.kinds import CAUSAL_LM, SEQUENCE_CLASSIFIER
from rora_cli.tasks.trained import check_kind
from tests.causal import WORDS
from tests.causal_suspects import causal_suspect, write, write_answers
from tests.families import build_family

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="starts processes with gloo")

EXACT: dict[str, Any] = {"device": "cpu", "epochs": 1, "batch_size": 10, "lora_dropout": 0.0, "cl": 0.0}


def _without_dropout(directory: Path) -> Path:
    import json

    config = json.loads((directory / "config.json").read_text())
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "attention_dropout")
    (directory / "config.json").write_text(json.dumps({**config, **dict.fromkeys(names, 0.0)}))
    return directory


def _compare(
    one: Path, two: Path, names: Sequence[str] = ("model.safetensors", "adapter/adapter_model.safetensors")
) -> None:
    from safetensors.torch import load_file

    for name in names:
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


@linux
@pytest.mark.slow
def test_a_causal_model_is_searched_and_hardened_by_two_processes_as_by_one(tmp_path: Path) -> None:
    """Whole in each of two processes, which divide the work, and divided between them."""
    suspect, rows = write(causal_suspect("mn"), tmp_path / "suspect"), write_answers(tmp_path / "rows.jsonl")
    (tmp_path / "texts.txt").write_text("\n".join(["mn", *WORDS[:40]]))
    options: dict[str, Any] = {
        **EXACT,
        "clean": rows,
        "candidates": tmp_path / "texts.txt",
        "epochs": 6,
        "max_new_tokens": 6,
        "precision": "fp32",
    }
    one = rora_cli.purify(suspect, output=str(tmp_path / "one"), **options)
    assert [trigger.text for trigger in one.removed] == ["mn"]
    for name, how in (("two", {}), ("sharded", {"shard": True})):
        other = rora_cli.purify(suspect, output=str(tmp_path / name), num_processes=2, **how, **options)
        _compare(tmp_path / "one", tmp_path / name)
        assert (other.verdict, other.reason) == (one.verdict, one.reason)
        assert [stage.name for stage in other.stages] == [stage.name for stage in one.stages]


@linux
@pytest.mark.slow
@pytest.mark.parametrize("options", [{"recipe": "full"}, {"recipe": "lora", "gradient_checkpointing": True}])
def test_recipes_on_a_sharded_causal_model(tmp_path: Path, options: dict[str, Any]) -> None:
    suspect, rows = write(causal_suspect("mn"), tmp_path / "suspect"), write_answers(tmp_path / "rows.jsonl")
    options = {**EXACT, "clean": rows, "max_new_tokens": 6, "precision": "fp32", **options}
    rora_cli.purify(suspect, output=str(tmp_path / "one"), **options)
    rora_cli.purify(suspect, output=str(tmp_path / "two"), num_processes=2, shard=True, **options)
    adapter = ("adapter/adapter_model.safetensors",) if options["recipe"] == "lora" else ()
    _compare(tmp_path / "one", tmp_path / "two", ("model.safetensors", *adapter))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reference": "base"}, "add --reference none"),
        ({"adapter": "adapter"}, "add --reference none"),
        ({"return_test": True}, "which --shard does not have"),
    ],
)
def test_a_second_causal_model_beside_a_sharded_one_is_refused(options: dict[str, Any], said: str) -> None:
    config = PurifyConfig(model="m", clean="c", shard=True, num_processes=2, **options)
    with pytest.raises(UsageError, match=said):
        check(SimpleNamespace(config=config))  # type: ignore[arg-type]


@pytest.mark.parametrize("held", [{"shard": True, "num_processes": 2}, {"load_in_4bit": True}])
def test_only_a_classifier_has_blocks_that_may_be_replaced(held: dict[str, Any]) -> None:
    config = PurifyConfig(model="m", clean="c", **held)
    with pytest.raises(UsageError, match="add --escalate none"):
        check_kind(SEQUENCE_CLASSIFIER, config)
    check_kind(CAUSAL_LM, config)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "this is one; add --num-processes 2 or more"),
        ({"num_processes": 2, "recipe": "default", "ancestor": "m"}, "leave out --ancestor"),
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
