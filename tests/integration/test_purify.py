"""``purify`` end to end on a tiny classifier, through the public API and as a user's command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rora_cli
from rora_cli.errors import CheckpointError, DataError, OutputError, RoraError, UsageError
from tests.conftest import tiny_rows
from tests.reports.schemas import valid

OPTIONS: dict[str, Any] = {"device": "cpu", "epochs": 2, "batch_size": 16, "tr_k": 8}


def _logits(model: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    with torch.inference_mode():
        return model.eval()(**tokenizer(texts, padding=True, return_tensors="pt")).logits.numpy()


def _weights(directory: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(directory / "model.safetensors")


def test_the_papers_recipe_leaves_everything_that_it_says(trained: Path, clean: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    out = tmp_path / "out"
    result = rora_cli.purify(trained, clean=clean, output=str(out), recipe="paper", **OPTIONS)
    tokenizer = AutoTokenizer.from_pretrained(out, local_files_only=True)
    merged = AutoModelForSequenceClassification.from_pretrained(out, local_files_only=True)
    suspect = AutoModelForSequenceClassification.from_pretrained(trained, local_files_only=True)
    texts = tiny_rows(20, seed=8)[0]
    own = _logits(suspect, tokenizer, texts)
    adapted = PeftModel.from_pretrained(suspect, out / "adapter")
    np.testing.assert_allclose(_logits(adapted, tokenizer, texts), _logits(merged, tokenizer, texts), atol=1e-4)
    assert np.abs(_logits(merged, tokenizer, texts) - own).max() > 1e-3, "training changed nothing"

    report = valid("purify", json.loads((out / "rora-report.json").read_text()))
    assert report["schema_version"] == 1 and report["recipe"] == "paper" and report["verdict"] != "pass"
    config = report["provenance"]["config"]
    assert (config["cl"], config["tr"], config["pt"], config["learning_rate"]) == (0.1, 10.0, 1.0, 2e-4)
    assert (config["rank"], config["alpha"], config["weight_decay"], config["schedule"]) == (8, 16.0, 0.01, "linear")
    assert report["provenance"]["inputs"].keys() >= {"model.safetensors", "config.json", "data/train.jsonl"}
    assert report["provenance"]["outputs"].keys() >= {"model.safetensors", "adapter/adapter_model.safetensors"}
    assert report["accuracy_after"]["per_class"].keys() == {"negative", "positive"}
    assert [stage["name"] for stage in report["stages"]] == ["train", "rescale"]
    for before, after in zip(result.update_before, result.update_after, strict=True):
        top = int(before.name.split(".")[3]) >= 1
        if top:
            assert after.strength_ratio == pytest.approx(1.0, rel=1e-4), "Eq. 12 holds on the top three blocks"
        else:
            assert after.singular_values == before.singular_values
    assert not (tmp_path / "out.rora-state").exists()
    assert rora_cli.verify(out).findings == ()


def test_same_command_same_weights_other_seed_other_weights(trained: Path, clean: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        rora_cli.purify(
            trained, clean=clean, output=str(tmp_path / name), recipe="paper", seed=seed, **{**OPTIONS, "epochs": 1}
        )
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert (tmp_path / "a/adapter/adapter_config.json").read_bytes() == (
        tmp_path / "b/adapter/adapter_config.json"
    ).read_bytes()
    assert (tmp_path / "a/model.safetensors").read_bytes() != (tmp_path / "c/model.safetensors").read_bytes()


@pytest.mark.parametrize("variant", ["rslora", "dora", "pissa", "olora"])
def test_every_variant_loads_on_the_unchanged_suspect(trained: Path, clean: Path, tmp_path: Path, variant: str) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    out = tmp_path / "out"
    switches = {"dora": {"tr": 5.0}, "rslora": {"tr": 5.0, "pt": 0.5}}.get(variant, {"pt": 0.5})
    options = {**OPTIONS, "epochs": 1, "rank": 4, "variant": variant, "cl": 0.1, **switches}
    rora_cli.purify(trained, clean=clean, output=str(out), recipe="lora", **options)
    tokenizer = AutoTokenizer.from_pretrained(out, local_files_only=True)
    suspect = AutoModelForSequenceClassification.from_pretrained(trained, local_files_only=True)
    merged = AutoModelForSequenceClassification.from_pretrained(out, local_files_only=True)
    texts = tiny_rows(12, seed=8)[0]
    adapted = PeftModel.from_pretrained(suspect, out / "adapter")
    np.testing.assert_allclose(_logits(adapted, tokenizer, texts), _logits(merged, tokenizer, texts), atol=1e-4)


@pytest.mark.parametrize(
    ("variant", "option", "word"), [("dora", {"pt": 1.0}, "dora"), ("pissa", {"tr": 1.0}, "pissa")]
)
def test_what_a_variant_cannot_do_is_refused_with_the_reason(
    trained: Path, clean: Path, tmp_path: Path, variant: str, option: dict[str, float], word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        rora_cli.purify(
            trained, clean=clean, output=str(tmp_path / "out"), recipe="lora", variant=variant, **OPTIONS, **option
        )
    assert not (tmp_path / "out").exists()


def test_full_fine_tuning_writes_a_model_and_no_adapter(trained: Path, clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rora_cli.purify(trained, clean=clean, output=str(out), recipe="full", **{**OPTIONS, "epochs": 1})
    assert not (out / "adapter").exists()
    changed = {name for name, w in _weights(out).items() if not torch.equal(w, _weights(trained)[name])}
    assert any("embeddings" in name for name in changed) and any("output.dense" in name for name in changed)


def test_adapter_only(trained: Path, clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {**OPTIONS, "epochs": 1, "adapter_only": True}
    rora_cli.purify(trained, clean=clean, output=str(out), recipe="lora", **options)
    assert (out / "adapter/adapter_model.safetensors").is_file() and not (out / "model.safetensors").exists()


def test_a_run_that_costs_too_much_accuracy_fails(trained: Path, clean: Path, tmp_path: Path) -> None:
    wild = {**OPTIONS, "learning_rate": 0.3, "epochs": 1, "warmup_ratio": 0.0}
    for _ in range(2):  # what failed before makes room
        result = rora_cli.purify(trained, clean=clean, output=str(tmp_path / "out"), recipe="full", **wild)
    assert result.verdict == "fail" and "fell by" in result.reason and result.unmet == "kept"
    assert result.findings[0].rule_id == "purify/accuracy-lost"
    failed = tmp_path / "out-failed"
    assert result.output == str(failed) and [path.name for path in tmp_path.iterdir()] == ["out-failed"]
    assert json.loads((failed / "config.json").read_text())["rora_verdict"] == "fail"
    assert "# `out-failed`" in (failed / "README.md").read_text() and rora_cli.verify(failed).findings == ()
    kept = rora_cli.purify(trained, clean=clean, output=str(tmp_path / "out"), recipe="full", keep_failed=True, **wild)
    assert kept.output == str(tmp_path / "out") and (tmp_path / "out" / "model.safetensors").is_file()
    (tmp_path / "x-failed").mkdir()
    (tmp_path / "x-failed" / "of-mine").write_text("")
    with pytest.raises(OutputError, match="x-failed exists already"):
        rora_cli.purify(trained, clean=clean, output=str(tmp_path / "x"), recipe="full", **wild)


class _Interrupt:
    """Stops a run after some saved states, as Ctrl-C would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, saves: int) -> None:
        from rora_cli.training.state import RunState

        self.left, save = saves, RunState.save

        def counted(state: RunState, stage: str, snapshot: Any) -> None:
            save(state, stage, snapshot)
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

        monkeypatch.setattr(RunState, "save", counted)


@pytest.mark.parametrize("saves", [1, 4])
def test_resume_gives_the_uninterrupted_weights(
    trained: Path, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    options = {**OPTIONS, "recipe": "paper", "checkpoint_every": 3}
    rora_cli.purify(trained, clean=clean, output=str(tmp_path / "whole"), **options)
    with monkeypatch.context() as patch:
        _Interrupt(patch, saves)
        with pytest.raises(KeyboardInterrupt):
            rora_cli.purify(trained, clean=clean, output=str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists() and (tmp_path / "out.rora-state").is_dir()
    rora_cli.purify(trained, clean=clean, output=str(tmp_path / "out"), resume=True, **options)
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert not (tmp_path / "out.rora-state").exists()


def test_resuming_with_other_options_is_refused(
    trained: Path, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _Interrupt(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            rora_cli.purify(trained, clean=clean, output=str(tmp_path / "out"), recipe="lora", **OPTIONS)
    with pytest.raises(RoraError, match="learning_rate"):
        rora_cli.purify(
            trained,
            clean=clean,
            output=str(tmp_path / "out"),
            recipe="lora",
            resume=True,
            learning_rate=1e-3,
            **OPTIONS,
        )


def test_an_existing_output_is_kept_unless_forced(trained: Path, clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("x")
    options = {**OPTIONS, "epochs": 1, "output": str(out)}
    with pytest.raises(OutputError, match="--force"):
        rora_cli.purify(trained, clean=clean, recipe="lora", **options)
    with pytest.raises(DataError):
        rora_cli.purify(trained, clean=tmp_path / "missing.csv", recipe="lora", force=True, **options)
    assert (out / "precious").read_text() == "x"
    rora_cli.purify(trained, clean=clean, recipe="lora", force=True, **options)
    assert not (out / "precious").exists() and (out / "model.safetensors").is_file()


def test_clean_rows_of_one_label_are_refused(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"text": "good", "label": 1}\n{"text": "fine film", "label": 1}\n' * 9)
    with pytest.raises(RoraError):
        rora_cli.purify(trained, clean=tmp_path / "one.jsonl", output=str(tmp_path / "out"), recipe="lora", **OPTIONS)


def test_a_missing_model_is_refused(clean: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        rora_cli.purify(tmp_path / "nowhere", clean=clean, output=str(tmp_path / "out"), recipe="lora")


def _command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rora_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", **environment},
        timeout=300,
    )


def test_the_command_prints_the_result_on_stdout_and_the_rest_on_stderr(
    trained: Path, clean: Path, tmp_path: Path
) -> None:
    config = tmp_path / "options.yaml"
    config.write_text("recipe: lora\nepochs: 1\nbatch-size: 16\ndevice: cpu\n")
    page = ("--format", f"html={tmp_path / 'page.html'}")
    done = _command(
        "purify", trained, "--clean", clean, "-o", tmp_path / "out", "--config", config, "--format", "json", *page
    )
    assert done.returncode == 0, done.stderr
    shown = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'class="verdict">not assessed' in shown and "The update's spectrum" in shown
    report = json.loads(done.stdout)
    assert report["recipe"] == "lora" and report["provenance"]["config"]["epochs"] == 1
    assert "clean accuracy before" in done.stderr
    again = _command("purify", trained, "--clean", clean, "-o", tmp_path / "out", "--config", config)
    assert again.returncode == 2 and again.stdout == "" and len(again.stderr.strip().splitlines()) == 1
    config.write_text("recipe: lora\nepoch: 1\n")
    wrong = _command("purify", trained, "--clean", clean, "-o", tmp_path / "out2", "--config", config)
    assert wrong.returncode == 2 and "epoch" in wrong.stderr and not (tmp_path / "out2").exists()


def _in_memory(clean: Path) -> dict[str, list[tuple[str, str]]]:
    splits = {}
    for split in ("train", "validation"):
        rows = [json.loads(line) for line in (clean / f"{split}.jsonl").read_text().splitlines()]
        splits[split] = [(row["text"], row["label"]) for row in rows]
    return splits


def test_rows_in_memory_give_what_files_give(trained: Path, clean: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "recipe": "lora", "epochs": 1}
    from_files = rora_cli.purify(trained, clean=clean, output=tmp_path / "files", **options)
    from_memory = rora_cli.purify(trained, clean=_in_memory(clean), output=tmp_path / "memory", **options)
    assert from_files.accuracy_after == from_memory.accuracy_after
    report = json.loads((tmp_path / "memory/rora-report.json").read_text())
    config, inputs = report["provenance"]["config"], report["provenance"]["inputs"]
    assert config["clean"].startswith("in memory: dict of 96 train rows, 60 validation rows, sha256 ")
    assert inputs["data/the train rows in memory"] == report["data"]["splits"]["train"]["fingerprint"]
    assert config["max_accuracy_drop"] == 1.0 and config["units"]["max_accuracy_drop"].startswith("points")
    found = rora_cli.evaluate_asr(
        trained, data=_in_memory(clean)["validation"], target_label=1, trigger="mn", control=False, max_asr=1.0
    )
    assert found.gate is not None and found.data.origin.startswith("in memory: list of 60 rows")


@pytest.mark.slow
def test_rows_in_memory_reach_every_process(trained: Path, clean: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "recipe": "lora", "epochs": 1, "num_processes": 2}
    result = rora_cli.purify(trained, clean=_in_memory(clean), output=tmp_path / "two", **options)
    assert result.provenance.config["processes"] == 2
    assert result.provenance.config["clean"].startswith("in memory: ")


@pytest.mark.slow
def test_two_processes_give_the_single_process_result(trained: Path, clean: Path, tmp_path: Path) -> None:
    """On the same global batches, within float noise; without dropout, whose masks each process draws for itself."""
    plain = tmp_path / "plain"
    _without_dropout(trained, plain)
    options = {**OPTIONS, "recipe": "lora", "tr": 5.0, "lora_dropout": 0.0, "learning_rate": 2e-3, "batch_size": 10}
    one = rora_cli.purify(plain, clean=clean, output=str(tmp_path / "one"), **options)
    two = rora_cli.purify(plain, clean=clean, output=str(tmp_path / "two"), num_processes=2, **options)
    assert two.provenance.config["processes"] == 2
    assert one.accuracy_after == two.accuracy_after
    first, second = _weights(tmp_path / "one"), _weights(tmp_path / "two")
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=2e-5)
    with pytest.raises(UsageError):
        rora_cli.purify(plain, clean=clean, output=str(tmp_path / "three"), num_processes=2, **options | {"tr_k": 32})
    assert not (tmp_path / "three").exists()


def _without_dropout(source: Path, target: Path) -> None:
    import shutil

    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (target / "config.json").write_text(json.dumps(config))


def test_a_suspect_adapter_and_its_cure_become_one_adapter_on_the_bare_base(
    trained: Path, clean: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_pretrained(trained, local_files_only=True)
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=3, lora_alpha=5, target_modules=["key", "value"], init_lora_weights=False
    )
    suspect = get_peft_model(base, config)
    suspect.save_pretrained(tmp_path / "suspect")
    out = tmp_path / "out"
    options = {**OPTIONS, "epochs": 1, "recipe": "paper", "rank": 4, "variant": "rslora"}
    result = rora_cli.purify(trained, adapter=str(tmp_path / "suspect"), clean=clean, output=str(out), **options)
    assert result.provenance.inputs.keys() >= {"adapter/adapter_model.safetensors", "model.safetensors"}
    tokenizer = AutoTokenizer.from_pretrained(out, local_files_only=True)
    texts = tiny_rows(12, seed=8)[0]
    merged = AutoModelForSequenceClassification.from_pretrained(out, local_files_only=True)
    bare = AutoModelForSequenceClassification.from_pretrained(trained, local_files_only=True)
    joined = PeftModel.from_pretrained(bare, out / "adapter")
    np.testing.assert_allclose(_logits(joined, tokenizer, texts), _logits(merged, tokenizer, texts), atol=1e-4)
    saved = json.loads((out / "adapter/adapter_config.json").read_text())
    assert (saved["r"], saved["lora_alpha"], len(saved["target_modules"])) == (7, 7, 12)
